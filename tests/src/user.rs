//! Ordinary users: made of a number and, where the kernel's setuid helpers look, of files that only they see.
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::lanes::user as lane;
use crate::{Scratch, cannot_make_containers, program, skip_unless};

/// First id of the range of every test user, and how many there are.
pub const RANGE: (u32, u32) = (100_000, 65_536);

/// Runs in a mount namespace of its own: $1 is the directory with the user's files, $2 that of rspawn's programs, or
/// nothing; then the user's number, and the command.
const ENTER: &str = r#"
set -e
etc=$1 programs=$2 number=$3
shift 3
mount --make-rshared /
for file in passwd group subuid subgid; do
  if [ -e "$etc/$file" ]; then [ -e "/etc/$file" ] || : > "/etc/$file"; mount --bind "$etc/$file" "/etc/$file"; fi
done
if [ -e "$etc/tun" ]; then mount --bind "$etc/tun" /dev/net/tun; fi
if [ -n "$programs" ]; then mount --bind "$programs" /mnt; fi
# The pipes of a user's own shell are the user's.
for pipe in 0 1 2; do
  if [ -p "/proc/self/fd/$pipe" ]; then chown "$number" "/proc/self/fd/$pipe"; fi
done
exec setpriv --reuid "$number" --regid "$number" --clear-groups --inh-caps=-all -- "$@"
"#;

pub struct User {
    pub number: u32,
    /// What it has of /etc, and as its runtime directory.
    pub files: Scratch,
}

impl User {
    /// A user that no file of the machine knows: it has its own id and no other.
    pub fn by_number() -> Option<Self> {
        if cannot_make_containers() {
            return None;
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = 20_000 + (std::process::id() % 1000) * 40 + NEXT.fetch_add(1, Ordering::Relaxed);
        let files = Scratch::make();
        let user = Self { number, files };
        fs::create_dir(user.runtime_directory()).expect("a runtime directory");
        fs::set_permissions(user.runtime_directory(), fs::Permissions::from_mode(0o700)).expect("its mode");
        user.give(&user.files.path);
        Some(user)
    }

    /// A user with a name and a range of subordinate ids. `None`, with the reason printed, where nobody can have one.
    pub fn with_range() -> Option<Self> {
        let user = Self::by_number()?;
        if cannot_have_ranges() {
            return None;
        }
        let (name, number, (first, count)) = (user.name(), user.number, RANGE);
        let write =
            |file: &str, text: String| fs::write(user.files.path.join(file), text).expect("a file of the user's");
        let machine = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let home = user.files.path.display();
        write("passwd", format!("{}{name}:x:{number}:{number}::{home}:/bin/sh\n", machine("/etc/passwd")));
        write("group", format!("{}{name}:x:{number}:\n", machine("/etc/group")));
        write("subuid", format!("{name}:{first}:{count}\n"));
        write("subgid", format!("{name}:{first}:{count}\n"));
        Some(user)
    }

    pub fn name(&self) -> String {
        format!("rspawn{}", self.number)
    }

    pub fn runtime_directory(&self) -> PathBuf {
        self.files.path.join("run")
    }

    /// Makes the user the owner of a file, or of a directory and all that is in it.
    pub fn give(&self, path: &Path) {
        own(path, self.number);
    }

    /// Lets the user open network tunnels, as it may on other machines.
    pub fn with_tunnels(self) -> Self {
        let tun = self.files.path.join("tun");
        let mut node = Command::new("mknod");
        node.arg("--mode=666").arg(&tun).args(["c", "10", "200"]);
        crate::finish(node, b"").ok();
        self
    }

    /// The runtime under test where the user can reach it, with the programs beside it.
    pub fn runtime(&self) -> PathBuf {
        let runtime = crate::clients::runtime();
        let directory = self.files.path.join("bin");
        if !directory.exists() {
            fs::create_dir(&directory).expect("a directory for programs");
            let beside = ["rspawn-setup", "rspawn-init", "rspawn-hooks", "rspawn-scope"].map(program);
            for path in beside.iter().chain([&runtime]) {
                let name = path.file_name().unwrap_or_default();
                fs::copy(path, directory.join(name)).expect("a copy of a program");
            }
        }
        directory.join(runtime.file_name().unwrap_or_default())
    }

    /// The same command, run by the user. Its process is the command's: signals reach it.
    pub fn run(&self, command: Command) -> Command {
        lane::note_test();
        lane::scratches().iter().for_each(|path| self.give(path));
        let mut wrapped = Command::new("unshare");
        wrapped.args(["--mount", "--propagation", "slave", "--", "sh", "-c", ENTER, "sh"]);
        wrapped.arg(&self.files.path);
        let (programs, path) = reachable(Path::new(command.get_program()));
        wrapped.arg(programs).arg(self.number.to_string()).arg(path).args(command.get_args());
        wrapped.env("XDG_RUNTIME_DIR", self.runtime_directory()).env("HOME", &self.files.path).env("USER", self.name());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(name, value),
                None => wrapped.env_remove(name),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            wrapped.current_dir(directory);
        }
        wrapped
    }

    /// rspawn with these arguments, run by the user.
    pub fn rspawn<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(program("rspawn"));
        command.args(arguments);
        self.run(command)
    }
}

/// True, with the reason printed, if no user has a range of ids here.
pub fn cannot_have_ranges() -> bool {
    let helpers = ["/usr/bin/newuidmap", "/usr/bin/newgidmap"].map(|path| Path::new(path).exists());
    skip_unless(helpers == [true; 2], "newuidmap is not here: install Debian's uidmap")
}

fn own(path: &Path, number: u32) {
    let Ok(found) = fs::symlink_metadata(path) else { return };
    if found.is_dir() {
        fs::read_dir(path).into_iter().flatten().flatten().for_each(|entry| own(&entry.path(), number));
    }
    // What is the user's already may be another id of its own; and a change of owner takes away setuid bits.
    if found.uid() == 0 {
        match lchown(path, Some(number), Some(number)) {
            // Where commands race, one removes what another has made.
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            owned => owned.expect("a new owner"),
        }
        if !found.is_symlink() && found.mode() & 0o6000 != 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(found.mode() & 0o7777)).expect("the mode again");
        }
    }
}

/// A program's path as everybody can reach it: where its own is in somebody's home, its directory is mounted.
fn reachable(path: &Path) -> (PathBuf, PathBuf) {
    let open = |directory: &Path| fs::metadata(directory).is_ok_and(|found| found.mode() & 0o001 != 0);
    let directory = path.parent().unwrap_or(path);
    if !path.is_absolute() || directory.ancestors().all(open) {
        return (PathBuf::new(), path.to_path_buf());
    }
    (directory.to_path_buf(), Path::new("/mnt").join(path.file_name().unwrap_or_default()))
}
