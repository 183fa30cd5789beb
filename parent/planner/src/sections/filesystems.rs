//! What mounts of every kind of filesystem have in common.
use rspawn_proto::ids::RelPath;
use rspawn_proto::plan::*;

use super::mount_options::MountOptions;
use crate::oci::Mount;
use crate::planner::{Planner, literal};
use crate::prelude::*;

/// Longest value that fsconfig(2) takes.
pub const MAX_VALUE: usize = 255;

/// The host's own filesystem of a kind in the place of a new one.
pub fn bind_instead(planner: &mut Planner, origin: &str, place: &str, at: RelPath, set: u64) {
    planner.note(origin, format!("the host's {place} is bound: the kernel makes no new one for this container"));
    let Some(path) = planner.outside(origin, place) else { return };
    let out = planner.slot();
    let attrs = MountAttrs { set, propagation: Some(Propagation::Slave), recursive: true, ..MountAttrs::default() };
    planner
        .host(origin, HostOp::CloneTree { out, path, expect: Expect::Directory, recursive: true, attrs, peer: false });
    planner.attach(origin, out, at, true);
}

/// What mountinfo shows as the source of a filesystem that has none.
pub fn source_name(planner: &mut Planner, origin: &str, mount: &Mount) -> Option<FsParam> {
    let source = mount.source.as_deref().filter(|source| !source.is_empty())?;
    let pointer = format!("{origin}/source");
    if source.len() > MAX_VALUE {
        planner.note(pointer, "ignored: the name is longer than the kernel's 255 bytes");
        return None;
    }
    planner.text(&pointer, source).map(|name| FsParam { key: literal("source"), value: FsValue::Text(name) })
}

/// Parameters for fsconfig(2): the data options but those in `except`, and the superblock flags.
pub fn parameters(
    planner: &mut Planner,
    origin: &str,
    options: &MountOptions,
    except: &[&str],
) -> Option<Vec<FsParam>> {
    let pointer = format!("{origin}/options");
    let flags = options.superblock.iter().map(|flag| (flag.as_str(), None));
    let data = options.data.iter().map(|(key, value)| (key.as_str(), value.as_deref()));
    let mut params = Vec::new();
    for (name, value) in flags.chain(data).filter(|(name, _)| !except.contains(name)) {
        if value.is_some_and(|value| value.len() > MAX_VALUE) {
            planner.problem(
                pointer.clone(),
                format!("the value of option {name:?} is longer than the kernel's 255 bytes"),
            );
            return None;
        }
        let key = planner.text(&pointer, name)?;
        let value = match value {
            Some(value) => FsValue::Text(planner.text(&pointer, value)?),
            None => FsValue::Flag,
        };
        params.push(FsParam { key, value });
    }
    Some(params)
}
