//! The planner: a pure function from a configuration, facts about the host and options to a plan.
//!
//! No file, no clock, no environment, no randomness: it runs where no file can be opened. One module per section of
//! config.json adds its steps; this one says in which order.
mod annotations;
mod binds;
mod capabilities;
mod cgroup;
mod cgroup_mount;
mod console;
pub mod device_rules;
mod devices;
mod gvariant;
mod hooks;
mod init_mode;
mod intel_rdt;
mod kernel;
mod mount_options;
mod mounts;
mod namespaces;
mod notify;
mod number_list;
mod overlay;
mod paths;
mod process;
pub mod resources;
mod root;
mod rootless;
mod scope;
pub mod seccomp;
#[cfg(test)]
mod tests;
mod update;

use rspawn_proto::WIRE_VERSION;
use rspawn_proto::ids::{ContainerId, HostPath, Id, RelPath, Slot, Text, normalized};
use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::*;
use rspawn_proto::report::Place;

pub use capabilities::{CAPABILITIES, capability_name};
pub use init_mode::InitChoice;
pub use mount_options::known as mount_options;
pub use notify::NotifyMount;
pub use process::{MEMORY_FLAGS, MEMORY_MODES, RLIMITS, policy_name, rlimit_name};
pub use update::{Changes, Living, update};

use crate::facts::{Facts, MINIMUM_KERNEL};
use crate::oci::Spec;
use crate::overrides::Origins;
use crate::problem::Problem;

/// The pointer that a volatile root's steps have until they are named after the option that asked for it: a property
/// that no config.json has.
const VOLATILE: &str = "/root/volatile";

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
    pub fn for_a_look(id: &str, bundle: String, init: InitChoice) -> Result<Self, &'static str> {
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

/// A plan, and what a person should know about it: what was ignored, and why.
#[derive(Debug, Clone)]
pub struct Planned {
    pub plan: Plan,
    pub notes: Vec<Problem>,
    /// Where the parts of the configuration come from that are not the bundle's.
    pub origins: Origins,
}

/// Plans a container. The error lists everything that is wrong, not only the first.
pub fn plan(spec: &Spec, facts: &Facts, options: &Options) -> Result<Planned, Vec<Problem>> {
    plan_noting(spec, facts, options, &mut Vec::new())
}

/// As [`plan`]; what is worth knowing of a configuration that cannot be planned goes to `notes`.
pub fn plan_noting(
    spec: &Spec,
    facts: &Facts,
    options: &Options,
    notes: &mut Vec<Problem>,
) -> Result<Planned, Vec<Problem>> {
    let mut planner = Planner::new(spec, facts, options, Kind::Container);
    planner.check_versions();
    annotations::plan(&mut planner);
    namespaces::plan(&mut planner);
    // Before the mounts: one of them may show the container's own cgroups.
    cgroup::plan(&mut planner);
    intel_rdt::plan(&mut planner);
    root::begin(&mut planner);
    mounts::plan(&mut planner);
    devices::plan(&mut planner);
    notify::plan(&mut planner);
    console::plan(&mut planner);
    let hooks = hooks::plan(&mut planner);
    kernel::plan(&mut planner);
    paths::plan(&mut planner);
    process::working_directory(&mut planner);
    root::finish(&mut planner);
    let start_hooks = hooks::start(&mut planner);
    let finish = process::finish(&mut planner, start_hooks, hooks.deferred.state.clone());
    planner.into_plan(finish, hooks, notes)
}

/// Plans another process for a running container: `spec` is the container's, but for its process. The error lists
/// everything that is wrong.
pub fn exec(spec: &Spec, facts: &Facts, options: &Options) -> Result<Planned, Vec<Problem>> {
    let mut planner = Planner::new(spec, facts, options, Kind::Exec);
    let finish = process::finish(&mut planner, Vec::new(), Default::default());
    planner.into_plan(finish, Hooks::default(), &mut Vec::new())
}

/// A plan in the making.
struct Planner<'a> {
    spec: &'a Spec,
    facts: &'a Facts,
    options: &'a Options,
    kind: Kind,
    host: Vec<Step<HostOp>>,
    spawn: Spawn,
    attach: Vec<Step<AttachOp>>,
    rootfs: Vec<Step<RootfsOp>>,
    problems: Vec<Problem>,
    notes: Vec<Problem>,
    slots: u16,
    /// The container's root.
    root: Slot,
    /// There is a devpts of its own at /dev/pts.
    devpts: bool,
    /// The mount of covers for masks, where there are any.
    covers: Option<Slot>,
    /// Attributes that are set only once everything below the mount exists.
    late: Vec<Step<RootfsOp>>,
    /// What is mounted where, in order.
    mounted: Vec<(RelPath, Slot)>,
    /// Id maps that have a slot already.
    id_maps: Vec<(Vec<IdMap>, Vec<IdMap>, Slot)>,
}

impl<'a> Planner<'a> {
    fn new(spec: &'a Spec, facts: &'a Facts, options: &'a Options, kind: Kind) -> Self {
        Self {
            spec,
            facts,
            options,
            kind,
            host: Vec::new(),
            spawn: Spawn::default(),
            attach: Vec::new(),
            rootfs: Vec::new(),
            problems: Vec::new(),
            notes: Vec::new(),
            slots: 0,
            root: Slot(0),
            devpts: false,
            covers: None,
            late: Vec::new(),
            mounted: Vec::new(),
            id_maps: Vec::new(),
        }
    }

    fn problem(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::new(pointer, message));
    }

    fn note(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.notes.push(Problem::new(pointer, message));
    }

    fn slot(&mut self) -> Slot {
        let slot = Slot(self.slots);
        self.slots = self.slots.saturating_add(1);
        slot
    }

    fn host(&mut self, origin: impl Into<String>, op: HostOp) {
        self.host.push(Step::new(origin, op));
    }

    fn rootfs(&mut self, origin: impl Into<String>, op: RootfsOp) {
        self.rootfs.push(Step::new(origin, op));
    }

    fn linux(&self) -> Option<&'a crate::oci::Linux> {
        self.spec.linux.as_ref()
    }

    /// Whether the container has a namespace of its own: new, or joined by path.
    fn owns(&self, kind: Namespace) -> bool {
        rspawn_proto::check::owned_namespaces(&self.spawn).contains(kind)
    }

    /// Text of config.json that a system call will take; a NUL byte is a problem.
    fn text(&mut self, pointer: &str, text: &str) -> Option<Text> {
        Text::new(text).map_err(|reason| self.problem(pointer, reason)).ok()
    }

    fn id(&mut self, pointer: &str, id: u32) -> Option<Id> {
        Id::new(id).map_err(|reason| self.problem(pointer, reason)).ok()
    }

    /// A path inside the container, made relative to its root: `..` is resolved as if the root were `/`.
    fn inside(&mut self, pointer: &str, path: &str) -> Option<RelPath> {
        RelPath::new(normalized(path)).map_err(|reason| self.problem(pointer, reason)).ok()
    }

    /// A path of the host; a relative one starts at the bundle.
    fn outside(&mut self, pointer: &str, path: &str) -> Option<HostPath> {
        let joined = if path.starts_with('/') { path.to_string() } else { format!("{}/{path}", self.options.bundle) };
        HostPath::new(joined).map_err(|reason| self.problem(pointer, reason)).ok()
    }

    /// A path as one beneath the mount that it will lead to: the last one that was attached at it or above it.
    fn target(&self, path: RelPath) -> Target {
        let (mount, above) = match self.mounted.iter().rev().find(|(above, _)| above.leads_to(&path)) {
            Some((above, mount)) => (*mount, above.as_str().len() as u16),
            None => (self.root, 0),
        };
        Target { path, mount, above }
    }

    /// A path as one in the directory that it is in: for what is made there, whatever is mounted on it.
    fn entry(&self, path: RelPath) -> Target {
        let Target { mount, above, .. } = self.target(path.parent());
        Target { path, mount, above }
    }

    /// The step that puts a finished mount in its place.
    fn attach(&mut self, origin: &str, mount: Slot, at: RelPath, no_symlinks: bool) {
        let at = self.covered_by(mount, at);
        self.rootfs(origin, RootfsOp::Attach { mount, at, no_symlinks });
    }

    /// The place of a mount, which is what later paths over it lead to.
    fn covered_by(&mut self, mount: Slot, at: RelPath) -> Target {
        let target = self.target(at.clone());
        self.mounted.push((at, mount));
        target
    }

    fn check_versions(&mut self) {
        let version = self.spec.oci_version.as_str();
        if !is_supported_version(version) {
            let message =
                format!("ociVersion is {version:?}; rspawn knows the specification's 1.x versions, such as \"1.2.0\"");
            self.problem("/ociVersion", message);
        }
        let (major, minor) = self.facts.kernel;
        if (major, minor) < MINIMUM_KERNEL {
            let (least_major, least_minor) = MINIMUM_KERNEL;
            let message =
                format!("this kernel is Linux {major}.{minor}; rspawn needs {least_major}.{least_minor} or later");
            self.problem("", message);
        }
    }

    fn into_plan(self, finish: Option<Finish>, hooks: Hooks, left: &mut Vec<Problem>) -> Result<Planned, Vec<Problem>> {
        let Self { mut problems, notes, kind, host, spawn, attach, rootfs, options, .. } = self;
        let Some(finish) = finish.filter(|_| problems.is_empty()) else {
            left.extend(notes);
            return Err(problems);
        };
        let header = Header { version: WIRE_VERSION, id: options.id.clone(), kind };
        let plan = Plan { header, host, spawn, attach, rootfs, finish, hooks };
        // The helper would refuse it; saying so here costs less and says more.
        match rspawn_proto::check::check(&plan) {
            Ok(()) => Ok(Planned { plan, notes, origins: Origins::default() }),
            Err(fault) => {
                // Of too many operations, the first one too many says what there is too much of.
                let origins = plan.host.iter().map(|step| &step.origin);
                let origins = origins.chain(plan.attach.iter().map(|step| &step.origin));
                let mut origins = origins.chain(plan.rootfs.iter().map(|step| &step.origin));
                let origin = match fault.place {
                    Place::Check => origins.nth(rspawn_proto::MAX_OPS).cloned().unwrap_or_default(),
                    place => crate::describe::origin(&plan, place),
                };
                problems.push(Problem::new(origin, fault.reason));
                Err(problems)
            }
        }
    }
}

/// Semantic versions 1.x.y, with any suffix ("1.0.2-dev", "1.1.0+dev").
fn is_supported_version(version: &str) -> bool {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = core.split('.').collect();
    let is_number = |text: &&str| !text.is_empty() && text.len() < 10 && text.bytes().all(|b| b.is_ascii_digit());
    numbers.len() == 3 && numbers.iter().all(is_number) && numbers[0] == "1"
}
