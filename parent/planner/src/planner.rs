//! The plan in the making: what each section of config.json adds its steps to.
use crate::prelude::*;
use rspawn_proto::WIRE_VERSION;
use rspawn_proto::ids::{HostPath, Id, RelPath, Slot, Text, normalized};
use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::*;
use rspawn_proto::report::Place;

use crate::facts::{Facts, MINIMUM_KERNEL};
use crate::oci::Spec;
use crate::options::Options;
use crate::origin::origin;
use crate::origins::Origins;
use crate::planned::Planned;
use crate::problem::Problem;

/// The pointer that a volatile root's steps have until they are named after the option that asked for it: a property
/// that no config.json has.
pub const VOLATILE: &str = "/root/volatile";

/// A plan in the making.
pub struct Planner<'a> {
    pub spec: &'a Spec,
    pub facts: &'a Facts,
    pub options: &'a Options,
    pub kind: Kind,
    pub host: Vec<Step<HostOp>>,
    pub spawn: Spawn,
    pub attach: Vec<Step<AttachOp>>,
    pub rootfs: Vec<Step<RootfsOp>>,
    pub problems: Vec<Problem>,
    pub notes: Vec<Problem>,
    pub slots: u16,
    /// The container's root.
    pub root: Slot,
    /// There is a devpts of its own at /dev/pts.
    pub devpts: bool,
    /// The mount of covers for masks, where there are any.
    pub covers: Option<Slot>,
    /// Attributes that are set only once everything below the mount exists.
    pub late: Vec<Step<RootfsOp>>,
    /// What is mounted where, in order.
    pub mounted: Vec<(RelPath, Slot)>,
    /// Id maps that have a slot already.
    pub id_maps: Vec<(Vec<IdMap>, Vec<IdMap>, Slot)>,
}

impl<'a> Planner<'a> {
    pub fn new(spec: &'a Spec, facts: &'a Facts, options: &'a Options, kind: Kind) -> Self {
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

    pub fn problem(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::new(pointer, message));
    }

    pub fn note(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.notes.push(Problem::new(pointer, message));
    }

    pub fn slot(&mut self) -> Slot {
        let slot = Slot(self.slots);
        self.slots = self.slots.saturating_add(1);
        slot
    }

    pub fn host(&mut self, origin: impl Into<String>, op: HostOp) {
        self.host.push(Step::new(origin, op));
    }

    pub fn rootfs(&mut self, origin: impl Into<String>, op: RootfsOp) {
        self.rootfs.push(Step::new(origin, op));
    }

    pub fn linux(&self) -> Option<&'a crate::oci::Linux> {
        self.spec.linux.as_ref()
    }

    /// Whether the container has a namespace of its own: new, or joined by path.
    pub fn owns(&self, kind: Namespace) -> bool {
        rspawn_proto::check::owned_namespaces(&self.spawn).contains(kind)
    }

    /// Text of config.json that a system call will take; a NUL byte is a problem.
    pub fn text(&mut self, pointer: &str, text: &str) -> Option<Text> {
        Text::new(text).map_err(|reason| self.problem(pointer, reason)).ok()
    }

    pub fn id(&mut self, pointer: &str, id: u32) -> Option<Id> {
        Id::new(id).map_err(|reason| self.problem(pointer, reason)).ok()
    }

    /// A path inside the container, made relative to its root: `..` is resolved as if the root were `/`.
    pub fn inside(&mut self, pointer: &str, path: &str) -> Option<RelPath> {
        RelPath::new(normalized(path)).map_err(|reason| self.problem(pointer, reason)).ok()
    }

    /// A path of the host; a relative one starts at the bundle.
    pub fn outside(&mut self, pointer: &str, path: &str) -> Option<HostPath> {
        let joined = if path.starts_with('/') { path.to_string() } else { format!("{}/{path}", self.options.bundle) };
        HostPath::new(joined).map_err(|reason| self.problem(pointer, reason)).ok()
    }

    /// A path as one beneath the mount that it will lead to: the last one that was attached at it or above it.
    pub fn target(&self, path: RelPath) -> Target {
        let (mount, above) = match self.mounted.iter().rev().find(|(above, _)| above.leads_to(&path)) {
            Some((above, mount)) => (*mount, above.as_str().len() as u16),
            None => (self.root, 0),
        };
        Target { path, mount, above }
    }

    /// A path as one in the directory that it is in: for what is made there, whatever is mounted on it.
    pub fn entry(&self, path: RelPath) -> Target {
        let Target { mount, above, .. } = self.target(path.parent());
        Target { path, mount, above }
    }

    /// The step that puts a finished mount in its place.
    pub fn attach(&mut self, origin: &str, mount: Slot, at: RelPath, no_symlinks: bool) {
        let at = self.covered_by(mount, at);
        self.rootfs(origin, RootfsOp::Attach { mount, at, no_symlinks });
    }

    /// The place of a mount, which is what later paths over it lead to.
    pub fn covered_by(&mut self, mount: Slot, at: RelPath) -> Target {
        let target = self.target(at.clone());
        self.mounted.push((at, mount));
        target
    }

    pub fn check_versions(&mut self) {
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

    pub fn into_plan(
        self,
        finish: Option<Finish>,
        hooks: Hooks,
        left: &mut Vec<Problem>,
    ) -> Result<Planned, Vec<Problem>> {
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
                    place => origin(&plan, place),
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

/// A text of our own, so known to be fine: the name of a parameter, or its value.
pub fn literal(name: &str) -> Text {
    Text::new(name).expect("a literal without NUL")
}
