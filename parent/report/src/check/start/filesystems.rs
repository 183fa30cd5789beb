//! New filesystems: types that the kernel lacks, and values that it does not take for the parameters of those that every
//! container has. Which parameters other filesystems take, they alone know.
use rspawn_planner::problem::{Problem, did_you_mean};
use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::*;
use rspawn_proto::virtual_fs::VirtualFs;

use super::subject::Start;

pub fn judge(start: &Start, problems: &mut Vec<Problem>) {
    for step in &start.plan.host {
        if let HostOp::NewFilesystem { fs, params, .. } = &step.op {
            let wrong = missing(start, fs.as_str()).or_else(|| wrong_parameter(start, fs.as_str(), params, false));
            problems.extend(wrong.map(|message| Problem::new(step.origin.clone(), message)));
        }
    }
    for step in &start.plan.rootfs {
        if let RootfsOp::NewFilesystem { fs, params, .. } = &step.op {
            let wrong = missing(start, fs.name()).or_else(|| wrong_parameter(start, fs.name(), params, true));
            problems.extend(wrong.map(|message| Problem::new(step.origin.clone(), message)));
        }
    }
}

/// A type that is not there, and that no module brings.
fn missing(start: &Start, fs: &str) -> Option<String> {
    // `fuse.NAME` is of the type fuse.
    let kind = fs.split('.').next().unwrap_or(fs);
    let loadable = start.start.loadable_filesystems.as_ref()?;
    if start.facts.has_filesystem(kind) || loadable.iter().any(|known| known == kind) {
        return None;
    }
    let hint = did_you_mean(fs, &start.facts.filesystems);
    Some(format!("this kernel does not know the filesystem {fs:?}, and no module brings it{hint}"))
}

/// A value that a parameter does not take.
fn wrong_parameter(start: &Start, fs: &str, params: &[FsParam], inside: bool) -> Option<String> {
    params.iter().find_map(|param| {
        let key = param.key.as_str();
        let value = match &param.value {
            FsValue::Flag => None,
            FsValue::Text(text) => Some(text.as_str()),
            FsValue::Paths(_) => return None,
        };
        let expected = expected(fs, key)?;
        let taken = match (expected, value) {
            (Form::None, _) => return Some(format!("{fs} has no parameter {key:?}")),
            (_, None) => return None,
            (form, Some(value)) => form.takes(value),
        };
        let mapped = || inside && !is_mapped(start, key, value.unwrap_or_default());
        if taken && !mapped() {
            return None;
        }
        let why = if taken { "the container has no such id" } else { expected.words() };
        Some(format!("{fs} does not take {key}={}: {why}", value.unwrap_or_default()))
    })
}

/// Whether the container has the id that a parameter names.
fn is_mapped(start: &Start, key: &str, value: &str) -> bool {
    let spawn = &start.plan.spawn;
    let map = match key {
        "uid" => &spawn.uid_map,
        "gid" => &spawn.gid_map,
        _ => return true,
    };
    let Ok(id) = value.parse::<u32>() else { return true };
    !spawn.new.contains(Namespace::User)
        || map.iter().any(|range| id >= range.inside && id - range.inside < range.count)
}

/// What a value looks like.
#[derive(Clone, Copy)]
enum Form {
    /// There is no such parameter.
    None,
    /// Bytes, with a unit; with `true`, also a part of the memory in percent.
    Size(bool),
    Octal,
    Id,
    Number,
    Words(&'static [&'static str]),
    /// A memory policy, with flags and nodes (tmpfs(5)).
    Policy,
}

/// Of tmpfs(5).
const POLICIES: [&str; 7] =
    ["default", "prefer", "bind", "interleave", "local", "prefer (many)", "weighted interleave"];

/// Labels and flags that any filesystem takes, or a security module.
const COMMON: [&str; 10] =
    ["source", "sync", "dirsync", "lazytime", "mand", "context", "fscontext", "defcontext", "rootcontext", "seclabel"];

/// What a parameter of a filesystem takes; `None` where that is not known.
fn expected(fs: &str, key: &str) -> Option<Form> {
    const HUGE: &[&str] = &["never", "always", "within_size", "advise", "deny", "force"];
    // As a number or as a name (the kernel's Documentation/filesystems/proc.rst).
    const HIDDEN: &[&str] = &["0", "1", "2", "4", "off", "noaccess", "invisible", "ptraceable"];
    Some(match (VirtualFs::from_name(fs)?, key) {
        (_, key) if COMMON.contains(&key) => return None,
        (VirtualFs::Tmpfs, "size") => Form::Size(true),
        (VirtualFs::Tmpfs, "nr_blocks" | "nr_inodes") => Form::Size(false),
        (VirtualFs::Tmpfs | VirtualFs::Devpts, "mode") | (VirtualFs::Devpts, "ptmxmode") => Form::Octal,
        (VirtualFs::Tmpfs | VirtualFs::Devpts | VirtualFs::Proc, "gid") => Form::Id,
        (VirtualFs::Tmpfs | VirtualFs::Devpts, "uid") => Form::Id,
        (VirtualFs::Tmpfs, "huge") => Form::Words(HUGE),
        (VirtualFs::Tmpfs, "mpol") => Form::Policy,
        (VirtualFs::Tmpfs, "newinstance" | "ptmxmode" | "hidepid" | "subset") => Form::None,
        (VirtualFs::Tmpfs, _) => return None,
        (VirtualFs::Devpts, "max") => Form::Number,
        (VirtualFs::Proc, "hidepid") => Form::Words(HIDDEN),
        (VirtualFs::Mqueue | VirtualFs::Sysfs, "size" | "mode" | "uid" | "gid" | "newinstance" | "nr_inodes") => {
            Form::None
        }
        _ => return None,
    })
}

impl Form {
    fn takes(self, value: &str) -> bool {
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        match self {
            Form::None => false,
            Form::Size(percent) => {
                let units = if percent { "kKmMgGtTpPeE%" } else { "kKmMgGtTpPeE" };
                let digits = value.strip_suffix(|unit| units.contains(unit)).unwrap_or(value);
                // memparse() of the kernel takes numbers of other bases as well.
                is_number(digits) || digits.starts_with("0x")
            }
            // The kernel cuts off what is above 07777, where it can read the number.
            Form::Octal => u32::from_str_radix(value, 8).is_ok(),
            Form::Id | Form::Number => is_number(value) || value.starts_with("0x"),
            Form::Words(words) => words.contains(&value),
            Form::Policy => value.split(['=', ':']).next().is_some_and(|name| POLICIES.contains(&name)),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Form::None => "there is no such parameter",
            Form::Size(true) => "a size is a number of bytes such as 64k or 10m, or a part of the memory such as 10%",
            Form::Size(false) => "it is a number, such as 1000 or 1k",
            Form::Octal => "a mode is an octal number such as 1777",
            Form::Id => "an id is a number",
            Form::Number => "it is a number",
            Form::Words(_) => "there is no such word",
            Form::Policy => "there is no such memory policy",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_the_kernel_reads_them() {
        let takes = |fs, key, value: &str| expected(fs, key).is_none_or(|form| form.takes(value));
        for (fs, key, good, bad) in [
            ("tmpfs", "size", "64k", "big"),
            ("tmpfs", "size", "10%", "%"),
            ("tmpfs", "nr_inodes", "1k", "10%"),
            ("tmpfs", "mode", "1777", "99999"),
            ("tmpfs", "huge", "never", "nevr"),
            ("devpts", "gid", "5", "tty"),
            ("proc", "hidepid", "invisible", "9"),
        ] {
            assert!(takes(fs, key, good) && !takes(fs, key, bad), "{fs} {key}");
        }
        assert!(takes("tmpfs", "mpol", "bind:0") && !takes("tmpfs", "mpol", "nosuch") && takes("ext4", "size", "x"));
        assert!(!takes("mqueue", "size", "64k"));
    }
}
