//! The root of the lane `resources`: busybox, some of this machine's own programs with their libraries, rspawn's, and
//! the tests.
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::cache::output_of;
use crate::image::Temporary;
use crate::suite::Job;
use crate::{Outcome, image};

pub const INIT: &str = "/tests/init";

const SCRIPT: &str = include_str!("guest/tests.sh");

/// Programs that tests start whose busybox namesakes can do less, or that busybox does not have. Tests say themselves
/// what they lack.
const PROGRAMS: [&str; 22] = [
    "bash", "chrt", "date", "env", "ionice", "ip", "losetup", "mkfs.ext4", "mknod", "mkswap", "mount", "newgidmap",
    "newuidmap", "nsenter", "setpriv", "setsid", "sh", "strace", "swapon", "tar", "umount", "unshare",
];

/// rspawn's programs, built for release, and the tests' own.
const OURS: [&str; 6] =
    ["rspawn", "rspawn-setup", "rspawn-init", "rspawn-hooks", "rspawn-scope", "rspawn-test-payload"];

const DIRECTORIES: [&str; 16] = [
    "dev", "etc", "home", "mnt", "proc", "root", "run", "sys", "tmp", "usr/bin", "usr/lib", "usr/lib64", "usr/sbin",
    "var/lib", "var/tmp", "opt",
];

pub fn root(directory: &Path, jobs: &[Job]) -> Outcome<Temporary> {
    let root = Temporary::at(directory.join("root"));
    build(root.path()).map_err(|error| format!("{}: {error}", root.path().display()))?;
    install(root.path(), jobs, SCRIPT)?;
    Ok(root)
}

fn build(root: &Path) -> io::Result<()> {
    for directory in DIRECTORIES {
        fs::create_dir_all(root.join(directory))?;
    }
    for name in ["bin", "lib", "lib64", "sbin"] {
        symlink(Path::new("usr").join(name), root.join(name))?;
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/nonexistent:/bin/false\n",
    )?;
    fs::write(root.join("etc/group"), "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n")?;
    fs::write(root.join("etc/hostname"), "vm\n")?;
    fs::write(root.join("etc/shadow"), "root:*:19000::::::\n")?;
    fs::set_permissions(root.join("etc/shadow"), fs::Permissions::from_mode(0o640))?;
    for name in PROGRAMS {
        let places = ["/usr/bin", "/usr/sbin"].map(|place| Path::new(place).join(name));
        let Some(program) = places.iter().find(|place| place.exists()) else { continue };
        copy_with_libraries(root, program)?;
    }
    let busybox = image::busybox().map_err(io::Error::other)?;
    fs::copy(&busybox, root.join("usr/bin/busybox"))?;
    let applets = Command::new(&busybox).arg("--list").output()?;
    for applet in String::from_utf8_lossy(&applets.stdout).lines() {
        let taken = ["usr/bin", "usr/sbin"].iter().any(|place| root.join(place).join(applet).exists());
        if !taken {
            symlink("busybox", root.join("usr/bin").join(applet))?;
        }
    }
    Ok(())
}

/// Copies a program to its own place in the root, and what it is linked with to where it looks for it.
fn copy_with_libraries(root: &Path, program: &Path) -> io::Result<()> {
    fs::copy(program, root.join(program.strip_prefix("/").unwrap_or(program)))?;
    let linked = Command::new("ldd").arg(program).output()?;
    for line in String::from_utf8_lossy(&linked.stdout).lines() {
        // `libc.so.6 => /lib/…/libc.so.6 (0x…)`, or the loader alone.
        let Some(library) = line.split_whitespace().find(|word| word.starts_with('/')) else { continue };
        let place = root.join(library.trim_start_matches('/'));
        if !place.exists() {
            fs::create_dir_all(place.parent().unwrap_or(root))?;
            fs::copy(library, place)?;
        }
    }
    Ok(())
}

/// rspawn's programs at /rspawn, the tests at /tests with the list of them, and what starts them.
pub fn install(root: &Path, jobs: &[Job], script: &str) -> Outcome<()> {
    let failed = |error: io::Error| format!("{}: {error}", root.display());
    for directory in ["rspawn", "tests"] {
        fs::create_dir_all(root.join(directory)).map_err(failed)?;
    }
    for name in OURS {
        fs::copy(rspawn_tests::program(name), root.join("rspawn").join(name)).map_err(failed)?;
    }
    let mut list = String::new();
    for job in jobs {
        strip(&job.executable, &root.join("tests").join(&job.name))?;
        list.push_str(&format!("{} {}\n", job.name, job.arguments.join(" ")));
        for helper in &job.helpers {
            // Where the tests know it by cargo's word.
            let place = root.join(helper.strip_prefix("/").unwrap_or(helper));
            if !place.exists() {
                fs::create_dir_all(place.parent().unwrap_or(root)).map_err(failed)?;
                strip(helper, &place)?;
            }
        }
    }
    fs::write(root.join("tests/list"), list).map_err(failed)?;
    let init = root.join("tests/init");
    fs::write(&init, script).map_err(failed)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).map_err(failed)
}

/// Without what debuggers need, which is most of it.
fn strip(from: &Path, to: &Path) -> Outcome<()> {
    output_of(Command::new("strip").arg("-o").arg(to).arg(from)).map(drop)
}
