//! The container's cgroups and resctrl groups: made, filled with values, and removed again.
//!
//! Safe for a hostile planner because: directories are made below what is verified to be a cgroup filesystem, one
//! component at a time and through no link; a cgroup with a process in it or below it is refused, so that no value
//! reaches another container's; the structural check knows which files hold settings; device rules begin with none,
//! whatever the plan says; and of a resctrl group that was there nothing changes but who is in it.
use alloc::{ffi::CString, format, string::String, string::ToString, vec::Vec};

use rspawn_proto::ids::{HostPath, Id, Text};
use rspawn_proto::plan::{CgroupSetting, DeviceAccess, HostOp, NewResctrl, NodeKind, Plan, access};
use rspawn_proto::record::{CgroupDir, RESCTRL};
use rspawn_sys::file::Resolve::Beneath;
use rspawn_sys::process::{self, Side};
use rspawn_sys::{Errno, Failure, Fd, Named, Outcome, bpf, cgroup, channel, fd, file, signal};

use crate::device_program;
use crate::slots::Slots;

/// A directory that is removed at the end.
pub struct Made {
    above: Fd,
    name: CString,
    /// It is the container's own, and not one on the way to it, which others may use by now.
    own: bool,
    /// systemd made it, and removes it too.
    is_scope: bool,
    /// It outlives the container, once that is made.
    stays: bool,
}

/// The directories that were made for one container.
#[derive(Default)]
pub struct Cgroups(pub Vec<Made>);

impl Cgroups {
    /// Removes them, and kills the processes in them. An error names the first that could not be removed.
    pub fn remove(&mut self) -> Outcome<()> {
        // A process that is frozen in one hierarchy, by the payload perhaps, cannot die, and keeps its cgroups in all
        // others.
        let thaw = |made: &Made| match cgroup::open(&made.above, &made.name).and_then(|cgroup| cgroup::thaw(&cgroup)) {
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(()),
            thawed => thawed.named("thaw").map_err(|failure| failure.with(made.name.to_string_lossy())),
        };
        let thawed = self.0.iter().map(thaw).fold(Ok(()), Outcome::and);
        let mut done = Ok(());
        while let Some(Made { above, name, own, is_scope, .. }) = self.0.pop() {
            let removed = match own {
                // After one has failed, the others do not wait again.
                true => cgroup::remove(&above, &name, is_scope, done.is_ok()),
                false => match file::remove_directory(&above, &name) {
                    // On the way to it: others are in it by now, or have removed it.
                    Err(Errno::EBUSY | Errno::ENOTEMPTY | Errno::ENOENT) => Ok(()),
                    removed => removed,
                },
            };
            done = done.and(removed.named("rmdir").map_err(|failure| failure.with(name.to_string_lossy())));
        }
        done.or_else(|failure| thawed.and(Err(failure)))
    }

    /// Forgets what outlives the container: from now on others may use it.
    pub fn share(&mut self) {
        self.0.retain(|made| !made.stays);
    }

    /// Makes a cgroup, or takes over an empty one, as a killed container leaves it; or that of a scope, in which there
    /// is a holder and nobody else.
    pub fn open(&mut self, op: &HostOp, holder: Option<&CgroupReaper>) -> Outcome<Fd> {
        // Another container's end may remove a directory on the way that it had made.
        for _ in 0..10 {
            match self.try_open(op, holder) {
                Err(failure) if failure.errno == Errno::ENOENT.0 => {}
                other => return other,
            }
        }
        self.try_open(op, holder).map_err(|failure| match holder {
            Some(holder) => holder.explain(failure),
            None => failure,
        })
    }

    fn try_open(&mut self, op: &HostOp, holder: Option<&CgroupReaper>) -> Outcome<Fd> {
        let HostOp::OpenCgroup { hierarchy, mount, path, controllers, owner, .. } = op else {
            return Err(Failure::check("the operation opens no cgroup"));
        };
        let mut here = open_mount(mount)?;
        if cgroup::is_v2(&here).named("fstatfs")? != hierarchy.as_str().is_empty() {
            return Err(Failure::check("the plan and the mounted hierarchy are of different versions of cgroups"));
        }
        let is_cpuset = hierarchy.as_str().split(',').any(|controller| controller == "cpuset");
        let mut names = path.as_str().split('/').peekable();
        while let Some(name) = names.next() {
            let own = names.peek().is_none();
            enable(&here, controllers.iter().map(|name| name.as_str()));
            // systemd has made the whole path of a scope.
            let fresh = holder.is_none()
                && match file::make_directory(&here, name, 0o755) {
                    Err(Errno::EEXIST) => false,
                    made => made.named("mkdirat").map(|()| true)?,
                };
            let name = CString::new(name).map_err(|_| Failure::check("the name has a NUL byte"))?;
            let opened = cgroup::open(&here, &name).named("openat2").and_then(|below| {
                if own {
                    is_free(&below, holder, fresh)?;
                }
                Ok(below)
            });
            if fresh && opened.is_err() {
                file::remove_directory(&here, &name).named("unlinkat")?;
            }
            let below = opened?;
            if is_cpuset {
                inherit_cpuset(&here, &below);
            }
            let above = core::mem::replace(&mut here, below);
            if own || fresh {
                self.0.push(Made { above, name, own, is_scope: holder.is_some(), stays: false });
            }
        }
        if let Some(owner) = owner {
            hand_over(&here, *owner)?;
        }
        Ok(here)
    }

    /// Opens a resctrl group, or makes one that was not there.
    pub fn open_resctrl(&mut self, mount: &HostPath, group: &str, new: Option<&NewResctrl>) -> Outcome<Fd> {
        let root = open_mount(mount)?;
        if !cgroup::is_resctrl(&root).named("fstatfs")? {
            return Err(Failure::check("it is not a resctrl filesystem"));
        }
        // The kernel says there why it has refused.
        let explain = |failure: Failure| {
            if failure.errno == Errno::EEXIST.0 {
                return failure.with("the group exists by now, made by someone else");
            }
            match cgroup::read(&root, "info/last_cmd_status") {
                Ok(words) => failure.with(String::from_utf8_lossy(words.trim_ascii())),
                Err(_) => failure,
            }
        };
        let below = |above: &Fd, name: &str| file::open_at(above, name, file::O_RDONLY | file::O_DIRECTORY, 0, Beneath);
        let Some(NewResctrl { schemata, stays }) = new else { return below(&root, group).named("openat2") };
        let (above, name) = group.rsplit_once('/').unwrap_or(("", group));
        let above = below(&root, above).named("openat2")?;
        file::make_directory(&above, name, 0o755).named("mkdirat").map_err(explain)?;
        let made = below(&above, name).named("openat2")?;
        let name = CString::new(name).map_err(|_| Failure::check("the name has a NUL byte"))?;
        self.0.push(Made { above, name, own: false, is_scope: false, stays: *stays });
        if !schemata.as_str().is_empty() {
            cgroup::write(&made, "schemata", schemata.as_str()).named("write").map_err(explain)?;
        }
        Ok(made)
    }

    /// Hands the directories to a process that removes them when this one ends, even if it is killed: while the
    /// payload runs, this one gives up the rights that the removal takes. The process receives nothing, so nobody can
    /// subvert it.
    pub fn spawn_reaper(&mut self) -> Outcome<CgroupReaper> {
        let (mine, theirs) = channel::pair().named("socketpair")?;
        match process::fork(0).named("clone3")? {
            Side::Child => {
                // Else it would hold the invoker's streams open, and its own end of the socket.
                let directories = self.0.iter().map(|made| made.above.raw());
                let mut kept: Vec<i32> = directories.chain([theirs.raw()]).collect();
                let confined = fd::close_all_but(&mut kept).and_then(|()| signal::set_blocked(u64::MAX));
                // Removed in any case: a process that cannot wait would otherwise leave them in silence.
                let told = match confined.and_then(|_| channel::send(&theirs, &[], &[])) {
                    Ok(()) => channel::receive(&theirs, 0).named("recvmsg").map(drop),
                    // Whoever started it has ended already.
                    Err(Errno::EPIPE) => Ok(()),
                    Err(Errno(errno)) => process::exit(errno),
                };
                let removed = self.remove();
                process::exit(told.and(removed).map_or_else(|failure| failure.errno, |()| 0))
            }
            Side::Parent { pid, child: _ } => Ok(CgroupReaper { pid, line: Some(mine) }),
        }
    }
}

/// The process that removes the cgroups. They are gone when this is dropped.
pub struct CgroupReaper {
    pub pid: i32,
    line: Option<Fd>,
}

impl CgroupReaper {
    /// If a scope's cgroup is not where it was expected, says where it is.
    fn explain(&self, failure: Failure) -> Failure {
        let mut text = [0; 1024];
        let mut read = || file::open_plainly(&format!("/proc/{}/cgroup", self.pid))?.read(&mut text);
        if failure.errno != Errno::ENOENT.0 || read().is_err() {
            return failure;
        }
        let place = String::from_utf8_lossy(&text);
        let place = place.trim_end_matches(['\n', '\0']);
        Failure::check(&format!("systemd has made the scope elsewhere: its process is in {place}"))
    }

    /// Leaves them to it, once it is there. Of one that is not nobody expects anything any more.
    pub fn take_over(&mut self, cgroups: &mut Cgroups) -> Outcome<()> {
        if let Some(line) = self.line.take() {
            let ready = channel::receive(&line, 0).named("recvmsg")?;
            ready.ok_or(Failure::check("the process that removes the container's cgroups did not start"))?;
            cgroups.0.clear();
            self.line = Some(line);
        }
        Ok(())
    }

    /// Has it remove them.
    pub fn end(&mut self) -> Outcome<()> {
        let Some(line) = self.line.take() else { return Ok(()) };
        drop(line);
        match process::wait(self.pid, true).named("wait4")? {
            None | Some((_, 0)) => Ok(()),
            Some((_, status)) => Err(Failure::of("rmdir", Errno(process::exit_status(status)))
                .with("the process that was to remove the container's cgroups could not, or was killed")),
        }
    }
}

impl Drop for CgroupReaper {
    fn drop(&mut self) {
        // Whoever wants to know has asked before.
        let _ = self.end();
    }
}

/// Opens the cgroups of a container, as its record has them. A resctrl group may be gone: who removes one leaves its
/// processes in the first.
pub fn open_recorded(cgroups: &[CgroupDir]) -> Outcome<Vec<Option<Fd>>> {
    let open = |cgroup: &CgroupDir| {
        let path = cgroup.path.as_str();
        match file::open_host(path, file::O_PATH | file::O_DIRECTORY) {
            Err(Errno::ENOENT) if cgroup.hierarchy.as_str() == RESCTRL => Ok(None),
            opened => opened.map(Some).named("openat2").map_err(|failure| failure.with(path)),
        }
    };
    cgroups.iter().map(open).collect()
}

/// Opens the root of a mounted hierarchy, from which the policy's paths of cgroups start.
fn open_mount(mount: &HostPath) -> Outcome<Fd> {
    let opened = file::open_host(mount.as_str(), file::O_RDONLY | file::O_DIRECTORY).named("openat2")?;
    match file::open_above(&opened) {
        // The directory above is on another mount: this one is the root.
        Err(Errno::EXDEV) => Ok(opened),
        Err(errno) => Err(Failure::of("openat2", errno)),
        Ok(_) => Err(Failure::check("it is a directory in a hierarchy, and not its root")),
    }
}

/// Checks that a cgroup may be a new container's: no process is in it, and it is not frozen.
fn is_free(cgroup: &Fd, holder: Option<&CgroupReaper>, fresh: bool) -> Outcome<()> {
    let taken = match holder {
        Some(CgroupReaper { pid, .. }) => !cgroup::holds_only(cgroup, *pid).named("read")?,
        None => !fresh && cgroup::is_populated(cgroup).named("read")?,
    };
    if taken {
        return Err(Failure::check("processes are in it: another container's, or of one that is not deleted"));
    }
    match cgroup::is_frozen(cgroup).named("read")? {
        true => Err(Failure::check("it is frozen, or one above it is: nothing that is put into it would run")),
        false => Ok(()),
    }
}

/// Enables controllers of cgroup v2 below a cgroup, as far as it has them. If a value needs a controller that is
/// missing, the write of the value fails and says so.
fn enable<'a>(cgroup: &Fd, controllers: impl Iterator<Item = &'a str>) {
    const FILE: &str = "cgroup.subtree_control";
    let words: Vec<String> = controllers.map(|name| format!("+{name}")).collect();
    if !words.is_empty() && cgroup::write(cgroup, FILE, &words.join(" ")).is_err() {
        for word in words {
            let _ = cgroup::write(cgroup, FILE, &word);
        }
    }
}

/// Copies CPUs and memory nodes to a cpuset of v1, which begins without any and takes no process then. The kernel
/// refuses the copy where a neighbour has some exclusively: the plan sets values of its own later.
fn inherit_cpuset(above: &Fd, below: &Fd) {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        if cgroup::read(below, name).is_ok_and(|now| now.trim_ascii().is_empty())
            && let Ok(value) = cgroup::read(above, name)
        {
            let _ = cgroup::open_file(below, name).and_then(|file| file.write(&value));
        }
    }
}

/// Lets the payload's user divide its cgroup further (cgroups(7), "Cgroups v2 delegation").
fn hand_over(cgroup: &Fd, owner: Id) -> Outcome<()> {
    const GROUP_STAYS: u32 = u32::MAX;
    for name in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
        let file = file::open_at(cgroup, name, file::O_PATH, 0, file::Resolve::Beneath).named("openat2")?;
        file::change_owner(&file, owner.raw(), GROUP_STAYS).named("fchownat")?;
    }
    Ok(())
}

/// Writes values to the first file that exists.
pub fn set(cgroup: &Fd, choices: &[CgroupSetting], needed: bool) -> Outcome<()> {
    for CgroupSetting { file, values } in choices {
        let opened = match cgroup::open_file(cgroup, file.as_str()) {
            Err(Errno::ENOENT) => continue,
            opened => opened.named("openat2").map_err(|failure| failure.with(file.as_str()))?,
        };
        for value in values {
            let written = opened.write(value.as_str().as_bytes()).named("write");
            written.map_err(|failure| failure.with(format!("{} to {file}", value.as_str().trim_end())))?;
        }
        return Ok(());
    }
    if needed { Err(Failure::check("the container's cgroup has no such file here")) } else { Ok(()) }
}

/// Denies every device, then applies the rules.
pub fn set_device_rules(cgroup: &Fd, rules: &[DeviceAccess]) -> Outcome<()> {
    if cgroup::is_v2(cgroup).named("fstatfs")? {
        return bpf::set_device_program(cgroup, &device_program::assemble(rules)).named("bpf");
    }
    let open = |name| cgroup::open_file(cgroup, name).named("openat2").map_err(|failure| failure.with(name));
    let (allow, deny) = (open("devices.allow")?, open("devices.deny")?);
    deny.write(b"a").named("write").map_err(|failure| failure.with("devices.deny"))?;
    for rule in rules {
        let text = device_line(rule)?;
        let (file, name) = if rule.allow { (&allow, "devices.allow") } else { (&deny, "devices.deny") };
        let written = file.write(text.as_bytes()).named("write");
        written.map_err(|failure| failure.with(format!("{text} to {name}")))?;
    }
    Ok(())
}

/// A rule as devices.allow and devices.deny of cgroup v1 take it.
fn device_line(rule: &DeviceAccess) -> Outcome<String> {
    let DeviceAccess { kind, major, minor, access: ways, .. } = *rule;
    let kind = match kind {
        Some(NodeKind::Block) => 'b',
        Some(_) => 'c',
        // After `a` the kernel ignores the rest of the line.
        None if (major, minor, ways) == (None, None, access::ALL) => 'a',
        None => return Err(Failure::check("cgroup v1 has no rule for some devices of every kind")),
    };
    let number = |number: Option<u32>| number.map_or("*".to_string(), |number| number.to_string());
    let mut line = format!("{kind} {}:{} ", number(major), number(minor));
    let letters = [(access::READ, 'r'), (access::WRITE, 'w'), (access::MKNOD, 'm')];
    line.extend(letters.iter().filter(|(bit, _)| ways & bit != 0).map(|(_, letter)| letter));
    Ok(line)
}

/// The cgroup of a plan that limits memory.
pub fn of_memory(plan: &Plan, slots: &Slots) -> Outcome<Option<Fd>> {
    let limits = |names: &str| names.is_empty() || names.split(',').any(|name| name == "memory");
    let found = plan.host.iter().find_map(|step| match &step.op {
        HostOp::OpenCgroup { out, hierarchy, .. } if limits(hierarchy.as_str()) => Some(*out),
        _ => None,
    });
    found.map(|slot| slots.get(slot)?.duplicate(0).named("fcntl")).transpose()
}

/// The content of a file of a cgroup, for an error message.
pub fn words_of(directory: &Fd, name: &str) -> Option<String> {
    let text = cgroup::read(directory, name).ok()?;
    Some(String::from_utf8_lossy(text.trim_ascii()).into_owned())
}

/// The directories that a plan makes, for the record of its container.
pub fn directories(plan: &Plan) -> Outcome<Vec<CgroupDir>> {
    let directory = |op: &HostOp| {
        let (hierarchy, mount, path, shared) = match op {
            HostOp::OpenCgroup { hierarchy, mount, path, .. } => (hierarchy.clone(), mount, path, false),
            HostOp::OpenResctrl { mount, group, new, .. } => {
                (Text::new(RESCTRL)?, mount, group, new.as_ref().is_none_or(|new| new.stays))
            }
            _ => return Ok(None),
        };
        let path = HostPath::new(format!("{mount}{}", path.absolute()))?;
        Ok(Some(CgroupDir { hierarchy, path, shared }))
    };
    let all = plan.host.iter().filter_map(|step| directory(&step.op).transpose());
    all.collect::<Result<_, _>>().map_err(Failure::check)
}
