//! `linux.sysctl`: keys that this kernel does not have, and values that are no numbers where it wants some. Which numbers
//! and words it takes, only the kernel knows.
use rspawn_planner::problem::Problem;
use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::{AttachOp, RootfsOp};
use rspawn_proto::sysctl::{sysctl_owner, sysctl_path};

use super::subject::Start;
use crate::describe;

pub fn judge(start: &Start, problems: &mut Vec<Problem>) -> Result<(), String> {
    for step in &start.plan.rootfs {
        let RootfsOp::Sysctl { key, value } = &step.op else { continue };
        let wrong = match device(key.as_str()) {
            Some(device) => missing_device(start, device),
            None if sysctl_owner(key.as_str()) == Some(Namespace::Uts) && start.owns(Namespace::User) => {
                Some("its file is the machine's root's, whoever owns the name: use /hostname or /domainname".into())
            }
            None => wrong_value(start, key.as_str(), value.as_str())?,
        };
        problems.extend(wrong.map(|message| Problem::new(step.origin.clone(), format!("sysctl {key}: {message}"))));
    }
    Ok(())
}

/// The network device that a key is about.
fn device(key: &str) -> Option<String> {
    let path = sysctl_path(key);
    let mut names = path.split('/');
    if names.next() != Some("net") || !matches!(names.next(), Some("ipv4" | "ipv6")) {
        return None;
    }
    if !matches!(names.next(), Some("conf" | "neigh")) {
        return None;
    }
    names.next().filter(|name| !matches!(*name, "all" | "default")).map(str::to_string)
}

/// A new network namespace has its loopback device, what the plan moves there, and what hooks make.
fn missing_device(start: &Start, device: String) -> Option<String> {
    let plan = start.plan;
    let is_moved = plan.attach.iter().any(|step| {
        let AttachOp::MoveNetDevice { new_name, .. } = &step.op;
        new_name.as_str() == device
    });
    let may_come = !plan.hooks.runtime.is_empty() || !plan.hooks.container.is_empty();
    let known = device == "lo" || is_moved || may_come || !start.makes(Namespace::Network);
    (!known).then(|| format!("the container has no network device {device}"))
}

fn wrong_value(start: &Start, key: &str, value: &str) -> Result<Option<String>, String> {
    Ok(match start.look.sysctl(&sysctl_path(key))? {
        Err(number @ (libc::ENOENT | libc::ENOTDIR)) => {
            Some(format!("this kernel has no such key: {}", describe::errno(number)))
        }
        Err(_) => None,
        Ok(found) if found.is_directory => Some("it is a directory of keys, and no key".into()),
        Ok(found) if !found.writable => Some("nobody may write to it".into()),
        Ok(found) if found.numeric && !is_numeric(value) => {
            Some(format!("{value:?} is not a number, and the kernel has numbers there"))
        }
        Ok(_) => None,
    })
}

/// Whether the kernel can read numbers: decimal, or of the bases of strtoul(3).
fn is_numeric(value: &str) -> bool {
    let is_number = |word: &str| {
        let digits = word.strip_prefix('-').unwrap_or(word);
        let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
        match hexadecimal {
            Some(digits) => !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
            None => !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()),
        }
    };
    value.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty()).all(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_read() {
        assert_eq!(device("net.ipv4.conf.eth0.forwarding").as_deref(), Some("eth0"));
        assert_eq!((device("net.ipv4.conf.all.forwarding"), device("net.ipv4.ip_forward")), (None, None));
        assert!(is_numeric("0 1000") && is_numeric("-5") && is_numeric("0x10") && is_numeric(""));
        assert!(!is_numeric("much") && !is_numeric("0 x"));
    }
}
