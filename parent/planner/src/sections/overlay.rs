//! Layers of an overlay mount: each is opened, and named to the kernel by its descriptor.
//!
//! So a list of layers is as long as it likes (one option line ends at 4096 bytes, one fsconfig(2) value at 255), a
//! comma or colon in a path needs no escaping, and a link that is swapped later changes nothing.
use crate::prelude::*;
use rspawn_proto::ids::Slot;
use rspawn_proto::plan::*;

use super::mount_options::MountOptions;

use crate::planner::{Planner, literal};

/// Options whose values are host paths.
pub const LAYER_KEYS: [&str; 3] = ["lowerdir", "upperdir", "workdir"];

/// First kernel that takes lower layers one by one (`lowerdir+`).
const LAYERS_ONE_BY_ONE: (u32, u32) = (6, 7);

/// Layers that fit into one value of 255 bytes, each as /proc/self/fd/ and up to four digits.
const MOST_AT_ONCE: usize = 13;

/// The parameters for the layers; `None` if something is wrong, which is then reported.
pub fn layers(planner: &mut Planner, origin: &str, options: &MountOptions) -> Option<Vec<FsParam>> {
    let pointer = format!("{origin}/options");
    let value =
        |name: &str| options.data.iter().rev().find(|(key, _)| key == name).and_then(|(_, value)| value.clone());
    let Some(lower) = value("lowerdir").filter(|lower| !lower.is_empty()) else {
        planner.problem(pointer, "an overlay needs a lowerdir option");
        return None;
    };
    let paths = split(&lower);
    let mut params = Vec::new();
    if planner.facts.kernel >= LAYERS_ONE_BY_ONE {
        for path in &paths {
            let layer = open(planner, origin, path)?;
            params.push(FsParam { key: literal("lowerdir+"), value: FsValue::Paths(vec![layer]) });
        }
    } else {
        let layers: Option<Vec<Slot>> = paths.iter().map(|path| open(planner, origin, path)).collect();
        let layers = layers?;
        if layers.len() > MOST_AT_ONCE {
            let (major, minor) = LAYERS_ONE_BY_ONE;
            let message = format!(
                "the overlay has {} lower layers; before Linux {major}.{minor} there can be {MOST_AT_ONCE}",
                layers.len()
            );
            planner.problem(pointer, message);
            return None;
        }
        params.push(FsParam { key: literal("lowerdir"), value: FsValue::Paths(layers) });
    }
    let (upper, work) = (value("upperdir"), value("workdir"));
    if paths.len() == 1 && upper.is_none() {
        planner.problem(pointer, "an overlay without an upperdir needs two layers in its lowerdir");
        return None;
    }
    if upper.is_some() != work.is_some() {
        planner.problem(pointer, "an overlay's upperdir and workdir go together");
        return None;
    }
    for (name, path) in [("upperdir", upper), ("workdir", work)] {
        if let Some(path) = path {
            let layer = open(planner, origin, &path)?;
            params.push(FsParam { key: literal(name), value: FsValue::Paths(vec![layer]) });
        }
    }
    Some(params)
}

fn open(planner: &mut Planner, origin: &str, path: &str) -> Option<Slot> {
    let path = planner.outside(&format!("{origin}/options"), path)?;
    let out = planner.slot();
    planner.host(origin, HostOp::OpenPath { out, path, expect: Expect::Directory });
    Some(out)
}

/// Splits `a:b\:c` at the colons that no backslash escapes (overlayfs.rst).
fn split(list: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = list.chars();
    while let Some(character) = characters.next() {
        match character {
            ':' => parts.push(String::new()),
            '\\' => parts.last_mut().expect("never empty").extend(characters.next()),
            other => parts.last_mut().expect("never empty").push(other),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    #[test]
    fn escaped_colons_stay() {
        assert_eq!(super::split(r"/a:/b\:c:/d"), ["/a", "/b:c", "/d"]);
    }
}
