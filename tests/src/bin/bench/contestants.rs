//! Who is compared, and the commands that start each on the same bundle.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rspawn_tests::{Bundle, program};
use serde_json::json;

/// The bundle that all run.
pub struct Ground {
    pub bundle: Bundle,
}

impl Ground {
    pub fn prepare() -> Self {
        let bundle = Bundle::new().with_args(&["/bin/true"]).with(|config| {
            config["root"]["readonly"] = json!(true);
            // The newest that Debian's crun takes.
            config["ociVersion"] = json!("1.0.2");
        });
        bundle.write_config();
        // Places of bwrap's mounts that a bundle's runtime would make.
        let _ = fs::create_dir_all(bundle.rootfs().join("dev"));
        Self { bundle }
    }

    pub fn rspawn(&self) -> Command {
        let mut command = Command::new(program("rspawn"));
        command.arg("run").arg("--bundle").arg(self.bundle.path()).arg(&self.bundle.id);
        quiet(command)
    }

    /// In the caller's cgroups, as all that bwrap makes is.
    fn rspawn_without_cgroups(&self) -> Command {
        let mut command = Command::new(program("rspawn"));
        command.args(["--cgroup-manager=disabled", "run", "--bundle"]).arg(self.bundle.path()).arg(&self.bundle.id);
        quiet(command)
    }

    /// A program that takes runc's arguments.
    fn oci_runtime(&self, path: &Path) -> Command {
        let mut command = Command::new(path);
        command.arg("run").arg("--bundle").arg(self.bundle.path()).arg(&self.bundle.id);
        quiet(command)
    }

    fn floor(&self) -> Command {
        let mut command = Command::new(program("floor"));
        command.arg(self.bundle.rootfs()).args(floor_hierarchies());
        quiet(command)
    }

    fn bwrap(&self, path: &Path, mounts: bool) -> Command {
        const NAMESPACES: [&str; 5] =
            ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup"];
        let mut command = Command::new(path);
        command.args(NAMESPACES).args(["--hostname", "rspawn", "--die-with-parent", "--new-session"]);
        command.args(["--cap-drop", "ALL", "--cap-add", "CAP_KILL", "--cap-add", "CAP_NET_BIND_SERVICE"]);
        command.args(["--cap-add", "CAP_AUDIT_WRITE", "--clearenv", "--setenv", "PATH", "/usr/bin:/bin"]);
        command.arg("--ro-bind").arg(self.bundle.rootfs()).arg("/");
        if mounts {
            command.args(comparable_mounts());
        }
        command.arg("/bin/true");
        quiet(command)
    }

    /// The payload by itself: what any of them pays for a process.
    fn payload(&self) -> Command {
        quiet(Command::new(self.bundle.rootfs().join("bin/true")))
    }
}

/// Arguments of the floor program: directory, mount options and this process's cgroup of each hierarchy.
fn floor_hierarchies() -> Vec<String> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounted_at = |kind: &str, option: &str| {
        let found = mounts.lines().find(|line| {
            let Some((_, rest)) = line.split_once(" - ") else { return false };
            let mut words = rest.split(' ');
            words.next() == Some(kind)
                && words.next_back().is_some_and(|o| option.is_empty() || o.split(',').any(|o| o == option))
        });
        found.and_then(|line| line.split(' ').nth(4)).map(str::to_string)
    };
    let mut arguments = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(names), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (shown, options) = match names.strip_prefix("name=") {
            Some(bare) => (bare, format!("none,name={bare}")),
            None => (names, names.to_string()),
        };
        let kind = if names.is_empty() { "cgroup2" } else { "cgroup" };
        if let Some(mount) = mounted_at(kind, names.split(',').next().unwrap_or_default()) {
            arguments.extend([shown.to_string(), options, format!("{mount}{path}")]);
        }
    }
    arguments
}

/// bwrap's options for what the default bundle mounts and covers. It cannot make a sysfs or a cgroup mount, so it
/// binds the host's; its own --proc already covers four of the read-only paths.
fn comparable_mounts() -> Vec<String> {
    let mut options: Vec<String> =
        ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/dev/shm", "--mqueue", "/dev/mqueue"]
            .into_iter()
            .chain(["--ro-bind", "/sys", "/sys", "--ro-bind", "/proc/fs", "/proc/fs"])
            .map(str::to_string)
            .collect();
    let config = rspawn_planner::default_spec::default_spec(false);
    let masked = config.linux.map(|linux| linux.masked_paths).unwrap_or_default();
    for path in masked.iter().filter(|path| Path::new(path).exists()) {
        let cover: &[&str] = if Path::new(path).is_dir() {
            &["--tmpfs", path, "--remount-ro", path]
        } else {
            &["--ro-bind", "/dev/null", path]
        };
        options.extend(cover.iter().map(|word| word.to_string()));
    }
    options
}

/// Standard streams null, as in every measured run.
pub fn quiet(mut command: Command) -> Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// One that is measured.
pub struct Contestant {
    pub name: &'static str,
    pub command: Command,
}

pub const RSPAWN: &str = "rspawn";
pub const FLOOR: &str = "floor";
pub const RUNC: &str = "runc";
pub const BWRAP: &str = "bwrap, same namespaces and mounts";

/// Everyone who is here and can run the bundle, and why the others are not.
pub fn all(ground: &Ground) -> (Vec<Contestant>, Vec<(String, String)>) {
    let installed = |name: &str| find_program(name).ok_or_else(|| "not installed".to_string());
    let candidates: Vec<(&'static str, Result<Command, String>)> = vec![
        (RSPAWN, Ok(ground.rspawn())),
        ("rspawn, without cgroups", Ok(ground.rspawn_without_cgroups())),
        (FLOOR, Ok(ground.floor())),
        (BWRAP, installed("bwrap").map(|path| ground.bwrap(&path, true))),
        ("bwrap, same namespaces", installed("bwrap").map(|path| ground.bwrap(&path, false))),
        ("crun", installed("crun").map(|path| ground.oci_runtime(&path))),
        (RUNC, installed("runc").map(|path| ground.oci_runtime(&path))),
        ("/bin/true alone", Ok(ground.payload())),
    ];
    let (mut here, mut missing) = (Vec::new(), Vec::new());
    for (name, command) in candidates {
        match command.and_then(works) {
            Ok(command) => here.push(Contestant { name, command }),
            Err(reason) => missing.push((name.to_string(), reason)),
        }
    }
    (here, missing)
}

/// Runs a command once; what it says when it fails is the reason to leave it out.
pub fn works(mut command: Command) -> Result<Command, String> {
    let output = command.stderr(Stdio::piped()).output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}", output.status, words.lines().next().unwrap_or("it says nothing")));
    }
    command.stderr(Stdio::null());
    Ok(command)
}

/// A program in PATH.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&path).chain(["/usr/sbin".into()]).map(|directory| directory.join(name));
    candidates.find(|candidate| candidate.is_file())
}
