//! What /proc/PID/mountinfo says (proc_pid_mountinfo(5)).

/// mountinfo writes white space and backslashes in octal.
pub fn unescape(text: &str) -> String {
    let plain = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    plain.iter().fold(text.to_string(), |text, (escaped, plain)| text.replace(escaped, plain))
}

/// Where filesystems of some kinds are mounted, in the order of proc_pid_mountinfo(5).
pub fn mount_points<'a>(mounts: &'a str, kinds: &'a [&str]) -> impl Iterator<Item = String> + 'a {
    mounts.lines().filter_map(|line| {
        let (fields, filesystem) = line.split_once(" - ")?;
        let kind = filesystem.split(' ').next()?;
        kinds.contains(&kind).then(|| unescape(fields.split(' ').nth(4).unwrap_or_default()))
    })
}

/// mount_too_revealing() of the kernel: whether every whole mount of a filesystem has another on something of it that
/// is more than an empty directory for mounts (proc_pid_mountinfo(5)).
pub fn is_covered(mounts: &str, kind: &str) -> bool {
    /// Directories that the kernel made for mounts alone.
    const EMPTY: [&str; 11] = [
        "proc/sys/fs/binfmt_misc", "sys/fs/cgroup", "sys/fs/bpf", "sys/fs/pstore", "sys/fs/selinux",
        "sys/fs/fuse/connections", "sys/firmware/efi/efivars", "sys/kernel/config", "sys/kernel/debug",
        "sys/kernel/tracing", "sys/kernel/security",
    ];
    let lines: Vec<Vec<&str>> = mounts.lines().map(|line| line.split(' ').collect()).collect();
    let field = |line: &[&str], index: usize| line.get(index).map_or(String::new(), |field| field.to_string());
    let is_whole = |line: &&Vec<&str>| {
        let kind_at = line.iter().position(|field| *field == "-").map_or(0, |dash| dash + 1);
        line.get(kind_at) == Some(&kind) && line.get(3) == Some(&"/")
    };
    let covers = |line: &Vec<&str>, id: &str| {
        line.get(1) == Some(&id) && !EMPTY.contains(&field(line, 4).trim_start_matches('/'))
    };
    let whole: Vec<String> = lines.iter().filter(is_whole).map(|line| field(line, 0)).collect();
    whole.iter().all(|id| lines.iter().any(|line| covers(line, id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_covers_procfs_is_found() {
        let proc = "22 1 0:5 / /proc rw - proc proc rw\n";
        assert!(!is_covered(proc, "proc"));
        assert!(!is_covered(&format!("{proc}23 22 0:9 / /proc/sys/fs/binfmt_misc rw - binfmt_misc none rw\n"), "proc"));
        assert!(is_covered(&format!("{proc}23 22 0:9 / /proc/acpi rw - tmpfs none rw\n"), "proc"));
        assert!(is_covered("22 1 0:5 /sys /proc/sys rw - proc proc rw\n", "proc"));
    }
}
