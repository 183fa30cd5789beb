//! Starting rspawn-setup, before anything untrusted is read.
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::Pid;
use rspawn_proto::msg::FromSetup;
use rspawn_proto::namespaces::{Namespace, NamespaceSet};
use rspawn_proto::report::Place;
use rspawn_sys::failure::{Failure, Named};
use rspawn_sys::process::{self, Side, StringArray};
use rspawn_sys::{Errno, Fd, channel, file, image, signal};

use rspawn_host::facts;
use rspawn_host::inputs::cli_inputs::fd;
use rspawn_planner::facts::Ids;
use rspawn_report::describe;

/// The running helper, from the parent's side.
pub struct Setup {
    pub control: Fd,
    /// The step that the helper is at, in memory that outlives it.
    pub progress: std::fs::File,
    pub pid: i32,
    process: Fd,
    /// Where it and the others are.
    directory: PathBuf,
}

/// How long it may take to clear away what it has made, once it is told to: rspawn_sys::cgroup waits ten seconds for
/// processes to die.
pub const PATIENCE: u32 = 15_000;

impl Setup {
    /// What else is to be said where it is of another build.
    pub fn whose(&self) -> String {
        format!("rspawn started that in {}: the programs there must be of its own build", self.directory.display())
    }

    /// Binds it, and so all that it starts from here on, to CPUs, and this process as well (sched_setaffinity(2)).
    pub fn run_on(&self, cpus: &[usize]) -> Result<(), String> {
        let mut set = CpuSet::new();
        for cpu in cpus {
            set.set(*cpu).map_err(|_| format!("there is no CPU {cpu}"))?;
        }
        let bind = |pid: i32| sched_setaffinity(Pid::from_raw(pid), &set);
        bind(0).and_then(|()| bind(self.pid)).map_err(|error| format!("cannot run on these CPUs: {error}"))
    }

    /// Waits for its end, but not for ever: somebody may have stopped it, or a file system may not answer it. Its wait
    /// status.
    pub fn wait(&self) -> Result<i32, String> {
        let say = |errno: Errno| format!("cannot wait for rspawn-setup: {}", describe::errno(errno.0));
        if !channel::wait_readable(&self.process, Some(PATIENCE)).map_err(say)? {
            let (seconds, pid) = (PATIENCE / 1000, self.pid);
            return Err(format!("rspawn-setup, process {pid}, does not end within {seconds} s: what it made stays"));
        }
        match process::wait(self.pid, true).map_err(say)? {
            Some((_, status)) => Ok(status),
            None => Err("rspawn-setup did not report its end".into()),
        }
    }
}

/// Exit status of a process that could not execute rspawn-setup.
pub const NOT_EXECUTED: i32 = 126;

/// Starts the helper. It runs on beside this process, and waits for the first message. Where the caller cannot mount,
/// it is root of a new user namespace, and of a mount namespace that belongs to it: there its rights end. Which ids
/// it has, `ids` says afterwards.
pub fn start(preserve_fds: u32, ids: Option<&mut Ids>) -> io::Result<Setup> {
    let directory = programs()?;
    // Above the descriptors that the payload is to inherit, so that a hole among them is not filled by ours.
    let lowest = 3 + preserve_fds as i32;
    let (control, theirs) = channel::pair().map_err(errno)?;
    let theirs = theirs.duplicate(lowest).map_err(errno)?;
    let progress = progress_page()?;
    let page = fd(progress.try_clone()?).duplicate(lowest).map_err(errno)?;
    let programs = open_directory(&directory)?.duplicate(lowest).map_err(errno)?;
    let program = file::open_program(&programs, SETUP).map_err(errno)?;
    let numbers = [&theirs, &page, &programs].map(|fd| fd.raw().to_string());
    let words = [SETUP].into_iter().chain(numbers.iter().map(String::as_str));
    let argv = StringArray::new(words).map_err(errno)?;
    let env = StringArray::new(std::iter::empty()).map_err(errno)?;
    let ids = ids.filter(|ids| ids.rootless);
    let kinds: &[Namespace] = if ids.is_some() { &[Namespace::User, Namespace::Mount] } else { &[] };
    let kinds: NamespaceSet = kinds.iter().copied().collect();
    let (go, wait) = channel::pair().map_err(errno)?;
    // A plain fork, which does not wait for the exec as posix_spawn(3) does: this process goes on at once.
    match process::fork(kinds.clone_flags()) {
        Err(number) if ids.is_some() => Err(no_namespace(number.0)),
        Err(number) => Err(errno(number)),
        Ok(Side::Parent { pid, child }) => {
            let Some(ids) = ids else {
                // The child begins on this processor, and only its exec takes it to another one. Else it would wait
                // here until this process waits for it.
                std::thread::yield_now();
                return Ok(Setup { control, progress, pid, process: child, directory });
            };
            let begun = facts::ids::write_maps(ids, pid).and_then(|()| channel::send(&go, &[], &[]).map_err(errno));
            match begun {
                Ok(()) => Ok(Setup { control, progress, pid, process: child, directory }),
                Err(error) => {
                    // It ends with the other end of its socket, too.
                    drop(go);
                    process::wait(pid, true).map_err(errno)?;
                    Err(error)
                }
            }
        }
        Ok(Side::Child) => {
            drop(go);
            // Before its ids are mapped it is nobody, whose exec would cost it its rights. If they never are, the end
            // of the parent ends the wait.
            let mapped = ids.is_none() || channel::receive(&wait, 0).is_ok_and(|word| word.is_some());
            // The terminal's signals are the parent's to pass on; the helper would die of them.
            let ready = process::new_process_group(0).and_then(|()| signal::set_blocked(0)).named("setpgid");
            if mapped {
                let failure = match ready {
                    Ok(_) => execute(&program, [&theirs, &page, &programs], &argv, &env),
                    Err(failure) => failure,
                };
                // If the parent does not hear it, there is nobody to tell.
                let _ = channel::send_value(&theirs, &FromSetup::Failed(failure.at(Place::Receive)), &[]);
            }
            process::exit(NOT_EXECUTED)
        }
    }
}

/// Memory in which the helper notes the step that it is at.
fn progress_page() -> io::Result<std::fs::File> {
    let page = std::fs::File::from(memfd_create(c"rspawn-progress", MFdFlags::MFD_CLOEXEC)?);
    page.set_len(4096)?;
    Ok(page)
}

fn open_directory(path: &std::path::Path) -> io::Result<Fd> {
    let opened = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(path);
    opened.map(fd).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
}

/// Executes rspawn-setup, with descriptors for it, from a copy that nobody can write to: its child will be seen in the
/// container's pid namespace before it executes anything else. Returns only on failure.
fn execute(program: &Fd, kept: [&Fd; 3], argv: &StringArray, env: &StringArray) -> Failure {
    let ready = image::unwritable(program, SETUP)
        .and_then(|image| kept.iter().try_for_each(|fd| fd.keep_on_exec()).named("fcntl").map(|()| image));
    match ready {
        Ok(image) => Failure::of("execveat", process::execute_file(&image, argv, env)).with(SETUP),
        Err(failure) => failure,
    }
}

/// Why there is no user namespace for a user: the kernel's own switches, and those of distributions.
fn no_namespace(number: i32) -> io::Error {
    let because = no_user_namespaces().map_or(String::new(), |switch| format!("; {switch}"));
    let reason = rspawn_report::describe::errno(number);
    io::Error::other(format!("without root it needs a user namespace of its own: {reason}{because}"))
}

/// The switch of this kernel, or of a distribution, that keeps users from having user namespaces.
pub fn no_user_namespaces() -> Option<String> {
    const SWITCHES: [(&str, &str); 3] = [
        ("user/max_user_namespaces", "0"),
        ("kernel/unprivileged_userns_clone", "0"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1"),
    ];
    let is_set = |(file, value): &(&str, &str)| {
        std::fs::read_to_string(format!("/proc/sys/{file}")).is_ok_and(|text| text.trim() == *value)
    };
    SWITCHES.into_iter().find(is_set).map(|(file, value)| format!("/proc/sys/{file} is {value}"))
}

const SETUP: &str = "rspawn-setup";

/// Where packages put them: for an rspawn that was copied elsewhere by itself.
const INSTALLED: &str = "/usr/libexec/rspawn";

/// The directory of rspawn's other programs: that of this one, or where packages put helpers. Never from an environment
/// variable. Whether they are of this build, their first answer says.
fn programs() -> io::Result<PathBuf> {
    let me = std::env::current_exe()?;
    let directory = me.parent().unwrap_or(&me);
    for place in [directory.to_path_buf(), directory.join("../libexec/rspawn"), INSTALLED.into()] {
        if place.join(SETUP).try_exists()? {
            return Ok(place);
        }
    }
    let here = directory.display();
    let message = format!("{SETUP} is neither in {here} nor in ../libexec/rspawn beside it, nor in {INSTALLED}");
    Err(io::Error::new(io::ErrorKind::NotFound, message))
}

/// One of rspawn's other programs.
pub fn find(name: &str) -> io::Result<PathBuf> {
    programs().map(|directory| directory.join(name))
}

/// An errno of the sys crate as the standard library's error.
pub fn errno(errno: rspawn_sys::Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.0)
}
