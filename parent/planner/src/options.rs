//! What the invoker asks for beside the bundle.
use crate::prelude::*;
use rspawn_proto::ids::ContainerId;

/// What the invoker asked for beside the bundle.
#[derive(Debug, Clone)]
pub struct Options {
    pub id: ContainerId,
    /// Absolute path of the bundle's directory; relative paths of the configuration start there.
    pub bundle: String,
    pub init: InitChoice,
    /// The container outlives the command that starts it: `create`, and `run --detach`.
    pub detached: bool,
    /// CPUs that the payload is bound to (`--cpu-affinity`), as a mask of 64 a word; else all that its cgroups have.
    pub cpus: Vec<u64>,
    /// Overrides `process.terminal`.
    pub terminal: Option<bool>,
    /// First size of the console where config.json gives none: rows, columns.
    pub console_size: Option<(u16, u16)>,
    pub preserve_fds: u32,
    /// Some of those are sockets for the payload, which finds them only if its pid is what LISTEN_PID says: 1.
    pub listening: bool,
    pub notify: Option<NotifyMount>,
    pub new_keyring: bool,
    /// The root is moved to where it is entered, and not attached there at once.
    pub no_pivot: bool,
    /// The first process of a container that runs already, as its creator calls it.
    pub first: Option<i32>,
    /// systemd makes the container's cgroup.
    pub systemd: bool,
    /// Nobody makes one: the container stays in the caller's.
    pub no_cgroups: bool,
}

impl Options {
    /// What a bundle is planned with when it is only looked at.
    pub fn dry_run(id: &str, bundle: String, init: InitChoice) -> Result<Self, &'static str> {
        let id = ContainerId::new(id)?;
        Ok(Self {
            id,
            bundle,
            init,
            detached: false,
            cpus: Vec::new(),
            terminal: None,
            console_size: None,
            preserve_fds: 0,
            listening: false,
            notify: None,
            new_keyring: true,
            no_pivot: false,
            first: None,
            systemd: false,
            no_cgroups: false,
        })
    }
}

/// The invoker's choice (`--init`, before the verb or behind it).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum InitChoice {
    #[default]
    Auto,
    Supervise,
    Exec,
}

/// A place of the host's that is shown to the container.
#[derive(Debug, Clone)]
pub struct NotifyMount {
    pub source: String,
    /// Path in the container.
    pub at: &'static str,
}
