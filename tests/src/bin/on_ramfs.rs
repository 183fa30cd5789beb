//! `on_ramfs NAME CMD ARGS`: runs a command with the machine's initial ramfs as its root, as everything runs on a
//! machine that never left it. pivot_root(2) refuses that root. The machine's tree is at /NAME there.
//!
//! Ends with 77 where the machine has no such root below its own.
#![forbid(unsafe_code)]
use std::ffi::CString;
use std::path::Path;

use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::{MountAttrs, Propagation};
use rspawn_sys::process::{self, Side, StringArray};
use rspawn_sys::{Errno, Fd, file, mount};

const NO_RAMFS: i32 = 77;

/// Magics of ramfs and tmpfs, either of which the kernel takes for its first root.
const FIRST_ROOTS: [i64; 2] = [0x8584_58f6, 0x0102_1994];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (name, command) = words.split_first().expect("usage: on_ramfs NAME CMD ARGS");
    std::process::exit(run(name, command).unwrap_or_else(|errno| panic!("errno {}", errno.0)));
}

fn run(name: &str, command: &[String]) -> Result<i32, Errno> {
    process::unshare(Namespace::Mount.clone_flag())?;
    let own = file::open_following("/proc/self/ns/mnt")?;
    let slash = file::open_host("/", file::O_PATH)?;
    let private = MountAttrs { propagation: Some(Propagation::Private), recursive: true, ..MountAttrs::default() };
    mount::set_attributes(&slash, &private, None)?;
    let tree = mount::clone_tree(&slash, true)?;
    let proc = mount::clone_tree(&file::open_host("/proc", file::O_PATH)?, false)?;
    // What is masked is masked with its null device.
    let dev = mount::clone_tree(&file::open_host("/dev", file::O_PATH)?, false)?;
    file::change_directory(&slash)?;
    // The machine's root goes, and with it the last thing that lies on the first one.
    if mount::drop_old_root().is_err() {
        return Ok(NO_RAMFS);
    }
    process::join(&own, Namespace::Mount.clone_flag())?;
    let root = file::open_host("/", file::O_PATH)?;
    if !FIRST_ROOTS.contains(&file::filesystem_magic(&root)?) {
        return Ok(NO_RAMFS);
    }
    let attach = |tree: &Fd, name: &str| -> Result<bool, Errno> {
        let made = match file::make_directory(&root, name, 0o755) {
            Err(Errno::EEXIST) => false,
            other => other.map(|()| true)?,
        };
        mount::attach(tree, &file::open_host(&format!("/{name}"), file::O_PATH)?)?;
        Ok(made)
    };
    let made = [(name, attach(&tree, name)?), ("proc", attach(&proc, "proc")?), ("dev", attach(&dev, "dev")?)];
    let status = execute(command)?;
    // The directories are the machine's own, for as long as it runs.
    for (name, made) in made {
        file::change_directory_to(&format!("/{name}"))?;
        mount::drop_old_root()?;
        file::change_directory_to("/")?;
        if made {
            file::remove_directory(&root, &CString::new(name).expect("a name"))?;
        }
    }
    Ok(status)
}

fn execute(command: &[String]) -> Result<i32, Errno> {
    let argv = StringArray::new(command.iter().map(String::as_str))?;
    let env = StringArray::new(["PATH=/bin"].into_iter())?;
    match process::fork(0)? {
        Side::Parent { pid, .. } => Ok(process::wait(pid, true)?.map_or(1, |(_, status)| process::exit_status(status))),
        Side::Child => {
            let errno = process::execute(command.first().map_or("", String::as_str), &argv, &env);
            let exists = Path::new(&command[0]).exists();
            eprintln!("on_ramfs: {}: errno {}, exists: {exists}", command[0], errno.0);
            process::exit(126)
        }
    }
}
