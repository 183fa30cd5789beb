//! The cgroup hierarchies of the host, as the caller is in them.
use std::fs;
use std::io;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use super::mountinfo::unescape;
use rspawn_planner::facts::{CgroupFacts, Delegation, Hierarchy, Manager};

/// Where distributions mount cgroups, and where the containers look for them.
const MOUNT_POINT: &str = "/sys/fs/cgroup";

/// One line of mountinfo (proc_pid_mountinfo(5)).
struct Mount {
    root: String,
    point: String,
    v2: bool,
    options: String,
}

/// Asks the machine.
/// An error where it does not answer: no cgroups, and so no device rules, is what a kernel has that knows of none,
/// and a machine where none are mounted.
pub(super) fn gather(systemd: Option<Manager>, filesystems: &[String]) -> Result<CgroupFacts, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"));
    if !filesystems.iter().any(|known| known == "cgroup" || known == "cgroup2") {
        return Ok(CgroupFacts::default());
    }
    let mounts = read("/proc/self/mountinfo")?;
    let mut facts = parse(&read("/proc/self/cgroup")?, &mounts)?;
    facts.units = match systemd {
        Some(Manager::System) => parse(&read("/proc/1/cgroup")?, &mounts)?.v2().map(units_of_first),
        Some(Manager::User) => facts.v2().and_then(units_of_session),
        None => None,
    };
    if let Some(mount) = facts.v2().and_then(|hierarchy| hierarchy.mount.as_deref()) {
        let controllers = read(&format!("{mount}/cgroup.controllers"))?;
        facts.controllers = controllers.split_whitespace().map(str::to_string).collect();
    }
    Ok(facts)
}

fn parse(cgroups: &str, mountinfo: &str) -> Result<CgroupFacts, String> {
    let mounts: Vec<Mount> = mountinfo.lines().filter_map(Mount::parse).collect();
    // The last mount at a place is the one that is seen.
    let unified = mounts.iter().rev().find(|mount| mount.point == MOUNT_POINT).is_some_and(|mount| mount.v2);
    let hierarchy = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let mut fitting = mounts.iter().filter(|mount| mount.is_of(controllers));
        let first = fitting.next();
        let usual = |mount: &&Mount| mount.point.starts_with(MOUNT_POINT);
        let mount = first.filter(usual).or_else(|| fitting.find(usual)).or(first);
        Some(Hierarchy {
            controllers: controllers.to_string(),
            mount: mount.map(|mount| mount.point.clone()),
            own: mount.map_or_else(String::new, |mount| mount.below(path)),
            reach: Delegation::Everywhere,
        })
    };
    let hierarchies: Option<Vec<Hierarchy>> = cgroups.lines().map(hierarchy).collect();
    let mut hierarchies = hierarchies.ok_or_else(|| format!("cannot understand the cgroups {cgroups:?}"))?;
    if hierarchies.is_empty() {
        // A kernel that has them says so of every process.
        return Err("the kernel names no cgroup of this process".into());
    }
    if unified {
        hierarchies.retain(|hierarchy| hierarchy.controllers.is_empty());
    }
    Ok(CgroupFacts { unified, hierarchies, controllers: Vec::new(), units: None })
}

/// Looks for what was delegated to a caller who is not the machine's root.
pub(super) fn find_reach(facts: &mut CgroupFacts) -> Result<(), String> {
    for hierarchy in &mut facts.hierarchies {
        // Where it is not mounted, there is nothing to reach.
        let Some(mount) = hierarchy.mount.clone() else {
            hierarchy.reach = Delegation::Nowhere;
            continue;
        };
        let writable = |cgroup: &str| {
            let directory = format!("{mount}/{cgroup}");
            may_write(&directory).and_then(|may| Ok(may && may_write(&format!("{directory}/cgroup.procs"))?))
        };
        // A process may go from one cgroup to another if its user may write to the next one above both.
        let mut above: Vec<&str> = hierarchy.own.match_indices('/').map(|(end, _)| &hierarchy.own[..end]).collect();
        above.push(&hierarchy.own);
        hierarchy.reach = Delegation::Nowhere;
        for cgroup in above.into_iter().rev() {
            if !writable(cgroup)? {
                break;
            }
            hierarchy.reach = Delegation::Below(cgroup.to_string());
        }
    }
    Ok(())
}

/// Whether the caller may write to a file. What is not there, or is mounted read-only, it may not.
fn may_write(path: &str) -> Result<bool, String> {
    match access(path, AccessFlags::W_OK) {
        Ok(()) => Ok(true),
        Err(Errno::EACCES | Errno::EPERM | Errno::ENOENT | Errno::ENOTDIR | Errno::EROFS) => Ok(false),
        Err(errno) => Err(format!("cannot find out who may write to {path}: {}", io::Error::from(errno))),
    }
}

/// Around the cgroup that the machine's systemd is in itself.
fn units_of_first(first: &Hierarchy) -> String {
    first.own.strip_suffix("init.scope").unwrap_or(&first.own).trim_end_matches('/').to_string()
}

/// The service that a session's systemd is, and whose cgroup it divides: the innermost around the caller.
fn units_of_session(own: &Hierarchy) -> Option<String> {
    let is_manager = |name: &str| name.starts_with("user@") && name.ends_with(".service");
    let names: Vec<&str> = own.own.split('/').collect();
    let last = names.iter().rposition(|name| is_manager(name))?;
    Some(names[..=last].join("/"))
}

impl Mount {
    /// A line of a cgroup mount; of any other, and of the tmpfs that is above them, `None`.
    fn parse(line: &str) -> Option<Self> {
        let (place, filesystem) = line.split_once(" - ")?;
        let mut filesystem = filesystem.split(' ');
        let v2 = match filesystem.next()? {
            "cgroup2" => true,
            "cgroup" => false,
            _ => return None,
        };
        let mut place = place.split(' ').skip(3);
        let (root, point) = (unescape(place.next()?), unescape(place.next()?));
        Some(Self { root, point, v2, options: filesystem.nth(1)?.to_string() })
    }

    fn is_of(&self, controllers: &str) -> bool {
        let first = controllers.split(',').next().unwrap_or_default();
        if first.is_empty() { self.v2 } else { !self.v2 && self.options.split(',').any(|option| option == first) }
    }

    /// A cgroup as seen from the mount point. One that the mount does not show counts as its top.
    fn below(&self, path: &str) -> String {
        let below = path.strip_prefix(self.root.trim_end_matches('/')).filter(|rest| rest.starts_with('/'));
        below.unwrap_or_default().trim_matches('/').to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TMPFS: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n";

    #[test]
    fn a_hybrid_layout() {
        let cgroups = "3:cpu,cpuacct:/a/b\n2:memory:/x\n1:name=systemd:/\n0::/u\n";
        let mounts = format!(
            "{TMPFS}32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:4 - cgroup cgroup rw,cpu,cpuacct\n\
             33 31 0:30 /a /mnt/elsewhere rw - cgroup cgroup rw,cpu,cpuacct\n\
             34 31 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
             35 31 0:32 / /sys/fs/cgroup/uni\\040fied rw - cgroup2 cgroup2 rw\n"
        );
        let facts = parse(cgroups, &mounts).unwrap();
        let hierarchy = |controllers: &str, mount: Option<&str>, own: &str| Hierarchy {
            controllers: controllers.into(),
            mount: mount.map(str::to_string),
            own: own.into(),
            reach: Delegation::Everywhere,
        };
        let expected = vec![
            hierarchy("cpu,cpuacct", Some("/sys/fs/cgroup/cpu,cpuacct"), "a/b"),
            hierarchy("memory", None, ""),
            hierarchy("name=systemd", Some("/sys/fs/cgroup/systemd"), ""),
            hierarchy("", Some("/sys/fs/cgroup/uni fied"), "u"),
        ];
        assert_eq!((facts.unified, facts.hierarchies), (false, expected));
    }

    /// As in a container without a cgroup namespace, which sees a part of the hierarchy.
    #[test]
    fn a_mount_may_show_a_part() {
        let mounts = "32 31 0:29 /docker/abc /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
        let own = |path: &str| parse(&format!("1:pids:{path}\n"), mounts).unwrap().hierarchies.remove(0).own;
        assert_eq!([own("/docker/abc"), own("/docker/abc/d"), own("/docker/abcd"), own("/")], ["", "d", "", ""]);
    }

    #[test]
    fn where_systemd_has_its_units() {
        let at = |own: &str| Hierarchy { own: own.into(), ..Hierarchy::default() };
        assert_eq!(["init.scope", "a/init.scope", ""].map(|own| units_of_first(&at(own))), ["", "a", ""]);
        let session = |own: &str| units_of_session(&at(own));
        let manager = "user.slice/user-1000.slice/user@1000.service";
        assert_eq!(session(&format!("{manager}/app.slice/run-1.scope")).as_deref(), Some(manager));
        assert_eq!(session(manager).as_deref(), Some(manager));
        assert_eq!(session("user.slice/user-1000.slice/session-3.scope"), None);
    }

    /// No answer is not the answer that there are none.
    #[test]
    fn nothing_is_no_layout() {
        assert!(parse("", TMPFS).is_err() && parse("nonsense", TMPFS).is_err());
    }

    #[test]
    fn v2_over_everything_hides_v1() {
        let v1 = "32 31 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
        let v2 = "36 23 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let facts = parse("1:pids:/\n0::/user.slice\n", &format!("{TMPFS}{v1}{v2}")).unwrap();
        assert!(facts.unified && facts.v1().next().is_none());
        assert_eq!(facts.v2().unwrap().own, "user.slice");
    }
}
