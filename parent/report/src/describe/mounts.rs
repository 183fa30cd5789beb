//! Words for mounts: their parameters, attributes and propagation.
use rspawn_proto::plan::*;

pub fn fs_params(params: &[FsParam]) -> String {
    params
        .iter()
        .map(|param| match &param.value {
            FsValue::Flag => format!(" {}", param.key),
            FsValue::Text(value) => format!(" {}={value}", param.key),
            FsValue::Paths(slots) => {
                let slots: Vec<String> = slots.iter().map(ToString::to_string).collect();
                format!(" {}={}", param.key, slots.join(":"))
            }
        })
        .collect()
}

const ATTRIBUTES: [(u64, &str, &str); 6] = [
    (attr::RDONLY, "ro", "rw"),
    (attr::NOSUID, "nosuid", "suid"),
    (attr::NODEV, "nodev", "dev"),
    (attr::NOEXEC, "noexec", "exec"),
    (attr::NODIRATIME, "nodiratime", "diratime"),
    (attr::NOSYMFOLLOW, "nosymfollow", "symfollow"),
];

/// `, ro nosuid`; `prefix` is the r of recursive forms.
pub fn attribute_list(bits: u64, prefix: &str, cleared: bool) -> String {
    let mut words: Vec<String> = ATTRIBUTES
        .iter()
        .filter(|(bit, ..)| bits & bit != 0)
        .map(|(_, set, clear)| format!("{prefix}{}", if cleared { clear } else { set }))
        .collect();
    match bits & attr::ATIME {
        attr::NOATIME if !cleared => words.push(format!("{prefix}noatime")),
        attr::STRICTATIME if !cleared => words.push(format!("{prefix}strictatime")),
        _ => {}
    }
    if words.is_empty() { String::new() } else { format!(", {}", words.join(" ")) }
}

pub fn mount_attrs(attrs: &MountAttrs) -> String {
    let prefix = if attrs.recursive { "r" } else { "" };
    let mut text = attribute_list(attrs.set, prefix, false);
    text.push_str(&attribute_list(attrs.clear & !attrs.set, prefix, true));
    if let Some(propagation) = attrs.propagation {
        text.push_str(&format!(", {}", propagation_name(propagation, attrs.recursive)));
    }
    if attrs.idmap.is_some() {
        text.push_str(&format!(", {prefix}idmap"));
    }
    text
}

pub fn propagation_name(propagation: Propagation, recursive: bool) -> String {
    let name = match propagation {
        Propagation::Private => "private",
        Propagation::Shared => "shared",
        Propagation::Slave => "slave",
        Propagation::Unbindable => "unbindable",
    };
    format!("{}{name}", if recursive { "r" } else { "" })
}
