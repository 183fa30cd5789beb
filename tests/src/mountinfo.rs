//! /proc/PID/mountinfo (proc_pid_mountinfo(5)) for tests, and runs in a mount namespace of the test's own.
use std::process::Command;

/// One line: one mount.
#[derive(Debug, Clone, Default)]
pub struct Mount {
    /// Path within its filesystem.
    pub root: String,
    pub at: String,
    /// Attributes of the mount itself.
    pub options: Vec<String>,
    /// Propagation: `shared:N`, `master:N`, `unbindable`; empty for a private mount.
    pub propagation: Vec<String>,
    pub fs: String,
    pub source: String,
    /// Options of the filesystem.
    pub superblock: Vec<String>,
}

impl Mount {
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|found| found == option)
    }

    pub fn filesystem_has(&self, option: &str) -> bool {
        self.superblock.iter().any(|found| found == option)
    }

    pub fn is_peer(&self) -> bool {
        self.propagation.iter().any(|field| field.starts_with("shared:"))
    }

    pub fn is_slave(&self) -> bool {
        self.propagation.iter().any(|field| field.starts_with("master:"))
    }
}

/// Every mount in a mountinfo text.
pub fn mounts(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse).collect()
}

fn parse(line: &str) -> Option<Mount> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let list = |words: &str| words.split(',').map(str::to_string).collect();
    let mut mount = mount.split(' ').skip(3);
    let (root, at, options) = (mount.next()?, mount.next()?, mount.next()?);
    let mut filesystem = filesystem.split(' ');
    Some(Mount {
        root: root.into(),
        at: at.into(),
        options: list(options),
        propagation: mount.map(str::to_string).collect(),
        fs: filesystem.next()?.into(),
        source: filesystem.next()?.into(),
        superblock: list(filesystem.next()?),
    })
}

/// The topmost mount at a path.
#[track_caller]
pub fn mount_at(text: &str, path: &str) -> Mount {
    let found = mounts(text).into_iter().rfind(|mount| mount.at == path);
    found.unwrap_or_else(|| panic!("nothing is mounted at {path}:\n{text}"))
}

/// A command that runs another from a shell script (as `"$@"`), in a mount namespace that ends with it: what the
/// script mounts, no other test sees and nobody has to unmount.
pub fn in_private_mounts(script: &str, command: &Command) -> Command {
    let mut outer = Command::new("unshare");
    outer.args(["--mount", "--propagation", "private", "sh", "-euc", script, "sh"]);
    outer.arg(command.get_program()).args(command.get_args());
    outer
}
