//! The policy's look at every host path once it is open, and at the programs that are to be hooks.
use alloc::{format, string::String, vec::Vec};

use rspawn_proto::check::needs_own;
use rspawn_proto::ids::{RelPath, Slot};
use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::*;
use rspawn_proto::policy::{Enforcement, Opened, PathRule, Policy, Violation, is_below, judge_maps, judge_opened};
use rspawn_sys::file::{self, Status};
use rspawn_sys::hook_program::Program;
use rspawn_sys::{Errno, Failure, Fd, Named, Outcome};

use crate::idmap;
use crate::mount_table::{DevicePath, MountTable};

pub struct PolicyRecheck<'a> {
    pub policy: &'a Policy,
    pub plan: &'a Plan,
    /// What `bind.deny` speaks of, where it is there. Read when it is first needed.
    denied: Option<(MountTable, Vec<Denied<'a>>)>,
    /// What the policy does not grant.
    pub found: Vec<Violation>,
    /// Where the container's root is.
    root: Option<String>,
}

/// A rule of `bind.deny` and the files that it stands for, by whatever name.
struct Denied<'a> {
    rule: &'a PathRule,
    place: String,
    status: Status,
    device_paths: Vec<DevicePath>,
}

impl<'a> PolicyRecheck<'a> {
    pub fn new(policy: &'a Policy, plan: &'a Plan) -> Self {
        Self { policy, plan, denied: None, found: Vec::new(), root: None }
    }

    /// Whether the container is refused by what has been found.
    pub fn refuses(&self) -> bool {
        self.policy.mode == Enforcement::Enforce && !self.found.is_empty()
    }

    /// Has the policy judge what a path has led to.
    pub fn path(&mut self, step: &Step<HostOp>, opened: &Fd) -> Outcome<()> {
        let place = file::fd_path(opened).named("readlinkat")?;
        match &step.op {
            // By its slot: the origin is the planner's word.
            HostOp::CloneTree { out, .. } | HostOp::OpenPath { out, .. } if self.is_root(*out) => {
                self.root = Some(place.clone());
            }
            HostOp::CloneTree { out, .. } => self.refuse_covered(*out, &place)?,
            _ => {}
        }
        self.judge(step, opened, &place)
    }

    /// Whether a slot becomes the container's root, or is the place that it is attached over. One step says it, which is
    /// among the first, and the search ends there: each of a thousand mounts asks.
    fn is_root(&self, slot: Slot) -> bool {
        let said = self.plan.rootfs.iter().find_map(|step| match &step.op {
            RootfsOp::AttachRoot { mount, over, .. } => Some(*mount == slot || *over == Some(slot)),
            _ => None,
        });
        said == Some(true)
    }

    /// A link of the host's may lead into the container's root, to what an earlier mount will cover there: what is
    /// meant is on that mount.
    fn refuse_covered(&self, clone: Slot, real: &str) -> Outcome<()> {
        let beneath = self.root.as_deref().and_then(|root| real.strip_prefix(root)?.strip_prefix('/'));
        let Some(Ok(beneath)) = beneath.map(RelPath::new) else { return Ok(()) };
        for step in &self.plan.rootfs {
            match &step.op {
                RootfsOp::Attach { mount, .. } | RootfsOp::AttachLink { mount, .. } if *mount == clone => break,
                RootfsOp::Attach { at, .. } if at.path.leads_to(&beneath) => {
                    return Err(Failure::check(&format!("a link led into the container's root, to /{beneath}")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// As [`PolicyRecheck::path`], of a place that is known.
    pub fn judge(&mut self, step: &Step<HostOp>, opened: &Fd, place: &str) -> Outcome<()> {
        if self.policy.mode == Enforcement::Off {
            return Ok(());
        }
        let (mut denied, mut alone) = (None, false);
        if let HostOp::OpenPath { .. } | HostOp::CloneTree { .. } = step.op {
            (denied, alone) = self.shows(step, opened, place)?;
        }
        let opened = Opened { place, denied, alone };
        judge_opened(self.policy, self.plan, step, &opened, &mut self.found);
        Ok(())
    }

    /// What `bind.deny` speaks of and a file is or shows, by whichever mount; and whether nothing is mounted below it.
    fn shows(&mut self, step: &Step<HostOp>, opened: &Fd, place: &str) -> Outcome<(Option<String>, bool)> {
        // Whether what is read-only at its top is so all the way down.
        let of_the_top = matches!(step.op, HostOp::CloneTree { recursive: true, .. })
            && self.policy.bind_allow.iter().any(|rule| rule.read_only);
        if self.policy.bind_deny.is_empty() && !of_the_top {
            return Ok((None, false));
        }
        if self.denied.is_none() {
            let table = MountTable::read()?;
            let rules = self.policy.bind_deny.iter();
            let denied = rules.filter_map(|rule| Denied::find(rule, &table).transpose()).collect::<Outcome<_>>()?;
            self.denied = Some((table, denied));
        }
        let recursive = matches!(step.op, HostOp::CloneTree { recursive: true, .. });
        let Some((table, denied)) = &self.denied else { return Ok((None, false)) };
        let own = table.device_path(opened, place)?;
        let status = file::status(opened).named("statx")?;
        // Of a file with several names each may be the denied one.
        let has_other_names = !status.is_directory() && status.links > 1;
        let mounted: Vec<&DevicePath> = table.below(place).collect();
        let lexical = self.policy.bind_deny.iter().find(|rule| rule.is_shown_by(place)).map(|rule| rule.path.clone());
        let found = lexical.or_else(|| {
            let shown = || [&own].into_iter().chain(mounted.iter().copied().filter(|_| recursive));
            let is_shown = |denied: &&Denied| {
                let rule = PathRule { path: denied.place.clone(), ..denied.rule.clone() };
                rule.is_shown_by(place)
                    || status.is_same(&denied.status)
                    || denied.rule.below
                        && denied.device_paths.iter().any(|below| has_other_names && own.is_beside(below))
                    || shown().any(|own| denied.device_paths.iter().any(|other| own.shows(other, rule.below)))
            };
            denied.iter().find(is_shown).map(|denied| denied.rule.path.clone())
        });
        Ok((found, mounted.is_empty()))
    }

    /// The caller's own namespace, named by a path, counts for nothing that a namespace of the container's own is for:
    /// names and sysctls would be the host's, and the policy's demand would be met in words alone. And of a user
    /// namespace that is joined, the ids that it stands for are judged.
    pub fn judge_namespace(&mut self, opened: &Fd, origin: &str, kind: Namespace) -> Outcome<()> {
        let on = self.policy.mode != Enforcement::Off;
        if on && kind == Namespace::User && self.policy.min_host_id > 0 {
            let maps = idmap::maps_of(opened)?;
            judge_maps(self.policy, origin, [&maps, &Vec::new()], &mut self.found);
        }
        let needed = needs_own(self.plan, kind);
        if !(needed || on && self.policy.own_namespaces.contains(kind)) {
            return Ok(());
        }
        let own = match kind {
            Namespace::Network => "net",
            Namespace::Mount => "mnt",
            other => other.name(),
        };
        let own = file::open_following(&format!("/proc/self/ns/{own}")).named("openat2")?;
        if !file::is_same(opened, &own).named("statx")? {
            return Ok(());
        }
        if needed {
            return Err(Failure::check("it is the host's own namespace; the container needs one of its own"));
        }
        let what = format!("joins the host's own {} namespace", kind.name());
        self.found.push(Violation::new("namespaces.own", origin, what));
        Ok(())
    }

    /// Looks at the programs that are to be hooks, so that a container is refused before anything is done. What is
    /// executed later, rspawn-hooks judges itself.
    pub fn judge_hooks(&mut self) {
        let Some(allowed) = self.policy.hooks.as_ref().filter(|_| self.policy.mode != Enforcement::Off) else { return };
        // What a bundle mounts is below its root, which must not be where the host's programs and their libraries are:
        // a hook in the container's namespaces would find the bundle's in their place.
        const PROGRAMS: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/opt"];
        let meets =
            |root: &&str| PROGRAMS.iter().any(|place| place == root || is_below(place, root) || is_below(root, place));
        if let (Some(hook), Some(root)) = (self.plan.hooks.container.first(), self.root.as_deref().filter(meets)) {
            let what = format!("runs {} where its root {root} is among the host's programs", hook.path);
            self.found.push(Violation::new("hooks.allow", &hook.origin, what));
        }
        for hook in self.plan.hooks.of_the_host() {
            if let Err(failure) = Program::judge(hook, allowed) {
                let what = format!("runs {}: {}", hook.path, failure.detail);
                self.found.push(Violation::new("hooks.allow", &hook.origin, what));
            }
        }
    }
}

impl<'a> Denied<'a> {
    /// Nothing where the rule's path does not exist, or leads where this user may not go and so can show nothing of.
    fn find(rule: &'a PathRule, table: &MountTable) -> Outcome<Option<Self>> {
        let opened = match file::open_host(if rule.path.is_empty() { "/" } else { &rule.path }, file::O_PATH) {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => return Ok(None),
            opened => opened.named("openat2").map_err(|failure| failure.with(format!("bind.deny: {}", rule.path)))?,
        };
        let place = file::fd_path(&opened).named("readlinkat")?;
        let mut device_paths = Vec::from([table.device_path(&opened, &place)?]);
        if rule.below {
            device_paths.extend(table.below(&place).cloned());
        }
        Ok(Some(Self { rule, status: file::status(&opened).named("statx")?, place, device_paths }))
    }
}
