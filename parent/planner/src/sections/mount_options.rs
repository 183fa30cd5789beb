//! The options of a mount (config.md, "Linux mount options"), sorted into what each of them becomes.
use crate::prelude::*;
use rspawn_proto::plan::{Propagation, attr};

use super::propagation;
use crate::planner::Planner;
use crate::problem::suggestion;

/// Options sorted out.
#[derive(Debug, Default, PartialEq)]
pub struct MountOptions {
    /// MOUNT_ATTR_* of this mount alone.
    pub set: u64,
    pub clear: u64,
    /// MOUNT_ATTR_* of this mount and those below it.
    pub set_recursive: u64,
    pub clear_recursive: u64,
    /// `bind` is Some(false), `rbind` is Some(true).
    pub bind: Option<bool>,
    /// Each propagation asked for, and whether recursively, in order.
    pub propagation: Vec<(Propagation, bool)>,
    /// `idmap` is Some(false), `ridmap` is Some(true).
    pub idmap: Option<bool>,
    pub copy_up: bool,
    /// Flags of a superblock, which a filesystem takes as parameters: sync, dirsync, lazytime, mand.
    pub superblock: Vec<String>,
    /// What is the filesystem's own business: keys, with or without a value.
    pub data: Vec<(String, Option<String>)>,
    /// The attributes of an earlier mount are changed; there is no new one.
    pub remount: bool,
    /// Options of mount(8) that mean nothing here.
    pub ignored: Vec<String>,
    /// What engines say to themselves, and some pass on.
    pub engine: Vec<String>,
    /// The value of crun's `idmap=`.
    pub own_idmap: Option<String>,
    /// One of crun's options about links, which the next three hold.
    pub link: Option<String>,
    /// A source that is a link is made anew.
    pub copy_link: bool,
    /// Or is what is mounted.
    pub source_link: bool,
    /// A link in the place of the mount point is what is mounted on.
    pub destination_link: bool,
}

/// What an attribute option does.
enum Effect {
    Set(u64),
    Clear(u64),
}

use Effect::{Clear, Set};

/// Options of the mount itself; each also exists with a leading r, for the mounts below as well.
const ATTRIBUTES: [(&str, Effect); 18] = [
    ("ro", Set(attr::RDONLY)),
    ("rw", Clear(attr::RDONLY)),
    ("nosuid", Set(attr::NOSUID)),
    ("suid", Clear(attr::NOSUID)),
    ("nodev", Set(attr::NODEV)),
    ("dev", Clear(attr::NODEV)),
    ("noexec", Set(attr::NOEXEC)),
    ("exec", Clear(attr::NOEXEC)),
    ("nodiratime", Set(attr::NODIRATIME)),
    ("diratime", Clear(attr::NODIRATIME)),
    ("nosymfollow", Set(attr::NOSYMFOLLOW)),
    ("symfollow", Clear(attr::NOSYMFOLLOW)),
    ("noatime", Set(attr::NOATIME)),
    ("atime", Clear(attr::NOATIME)),
    ("relatime", Set(attr::RELATIME)),
    ("norelatime", Clear(attr::RELATIME)),
    ("strictatime", Set(attr::STRICTATIME)),
    ("nostrictatime", Clear(attr::STRICTATIME)),
];

const ACCESS_TIME: [&str; 6] = ["noatime", "atime", "relatime", "norelatime", "strictatime", "nostrictatime"];
const SUPERBLOCK: [&str; 4] = ["sync", "dirsync", "lazytime", "mand"];
/// Options that take back one of [`SUPERBLOCK`].
const NOT_SUPERBLOCK: [(&str, &str); 3] = [("async", "sync"), ("nolazytime", "lazytime"), ("nomand", "mand")];
/// Of fstab(5): comments, and words for programs that read it.
const IGNORED: [&str; 9] =
    ["defaults", "loud", "silent", "auto", "noauto", "nofail", "_netdev", "iversion", "noiversion"];
/// Labels, owners and what a new volume begins with are the engine's to set (buildah passes on what it has done); the others
/// are Docker Desktop's.
const ENGINES: [&str; 9] = ["z", "Z", "U", "copy", "nocopy", "nocreate", "cached", "delegated", "consistent"];

/// crun's, and the name that podman has for the first of them, which buildah passes on.
const LINKS: [&str; 4] = ["copy-symlink", "no-dereference", "src-nofollow", "dest-nofollow"];

/// Parameters of tmpfs (tmpfs(5)).
const TMPFS: [&str; 18] = [
    "size", "nr_blocks", "nr_inodes", "mode", "uid", "gid", "huge", "mpol", "inode32", "inode64", "noswap", "quota",
    "usrquota", "grpquota", "casefold", "strict_encoding", "acl", "noacl",
];
/// Parameters of overlay (the kernel's Documentation/filesystems/overlayfs.rst).
const OVERLAY: [&str; 17] = [
    "lowerdir", "upperdir", "workdir", "default_permissions", "redirect_dir", "index", "uuid", "nfs_export",
    "userxattr", "xino", "metacopy", "verity", "volatile", "fsync", "lowerdir+", "datadir+", "override_creds",
];
const PROC: [&str; 3] = ["hidepid", "gid", "subset"];
const DEVPTS: [&str; 6] = ["newinstance", "ptmxmode", "mode", "uid", "gid", "max"];
/// What a security module takes of any filesystem (mount(8)).
const LABELS: [&str; 4] = ["context", "fscontext", "defcontext", "rootcontext"];

/// Refuses a word that looks like another one. Whether a filesystem knows the rest, the kernel says.
pub fn are_likely(planner: &mut Planner, origin: &str, kind: &str, options: &MountOptions) -> bool {
    let own: &[&str] = match kind {
        "tmpfs" => &TMPFS,
        "overlay" => &OVERLAY,
        "proc" => &PROC,
        "devpts" => &DEVPTS,
        "sysfs" | "mqueue" => &[],
        _ => return true,
    };
    let words: Vec<String> = own.iter().chain(&LABELS).map(|word| word.to_string()).chain(known()).collect();
    let before = planner.problems.len();
    // Of very many, the first ones say it.
    for (key, _) in options.data.iter().filter(|(key, _)| !words.contains(key)).take(20) {
        if let Some(meant) = suggestion(key, &words) {
            let message = format!("option {key:?} is unknown to {kind} (did you mean {meant}?)");
            planner.problem(format!("{origin}/options"), message);
        }
    }
    planner.problems.len() == before
}

/// The names of all options that have an effect, as `rspawn features` lists them.
pub fn known() -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (name, _) in ATTRIBUTES {
        names.extend([name.to_string(), format!("r{name}")]);
    }
    names.extend(propagation::PROPAGATIONS.iter().flat_map(|(name, _)| [name.to_string(), format!("r{name}")]));
    let negatives = NOT_SUPERBLOCK.map(|(negative, _)| negative);
    let others = ["bind", "rbind", "idmap", "ridmap", "tmpcopyup", "remount", "defaults"].into_iter().chain(LINKS);
    names.extend(SUPERBLOCK.iter().chain(&negatives).copied().chain(others).map(str::to_string));
    names.sort();
    names
}

/// Sorts the options of one mount. Later options override earlier ones, as with mount(8).
pub fn sort(options: &[String]) -> MountOptions {
    let mut sorted = MountOptions::default();
    // Some clients put several options into one string.
    for option in options.iter().flat_map(|option| split_option(option)) {
        sort_one(&mut sorted, option);
    }
    sorted
}

/// One string may hold several options, as in fstab(5), but where a value may have commas of its own: labels, lists of
/// memory nodes, and paths of layers.
fn split_option(option: &str) -> Vec<&str> {
    // Those of the labels end with the first.
    const WHOLE: [&str; 2] = ["context=", "mpol="];
    if LAYERS.iter().any(|key| option.contains(key)) {
        return split_layers(option);
    }
    let is_whole = option.contains(['"', '\\']) || WHOLE.iter().any(|key| option.contains(key));
    if is_whole { vec![option] } else { option.split(',').filter(|part| !part.is_empty()).collect() }
}

const LAYERS: [&str; 3] = ["lowerdir=", "upperdir=", "workdir="];

/// Cuts at the commas that another option follows: what follows any other one is a path's.
fn split_layers(option: &str) -> Vec<&str> {
    let names = known();
    let begins_option = |rest: &str| {
        let word = rest.split([',', '=']).next().unwrap_or_default();
        OVERLAY.contains(&word) || names.iter().any(|name| name == word)
    };
    let mut parts = Vec::new();
    let mut start = 0;
    for (comma, _) in option.match_indices(',').filter(|(comma, _)| begins_option(&option[comma + 1..])) {
        parts.push(&option[start..comma]);
        start = comma + 1;
    }
    parts.push(&option[start..]);
    parts.retain(|part| !part.is_empty());
    parts
}

fn sort_one(sorted: &mut MountOptions, option: &str) {
    if let Some(effect) = attribute(option) {
        apply(&mut sorted.set, &mut sorted.clear, effect, is_access_time(option));
    } else if let Some(effect) = option.strip_prefix('r').and_then(attribute) {
        let access_time = is_access_time(&option[1..]);
        apply(&mut sorted.set_recursive, &mut sorted.clear_recursive, effect, access_time);
    } else if let Some(propagation) = propagation::propagation(option) {
        sorted.propagation.push(propagation);
    } else if SUPERBLOCK.contains(&option) {
        sorted.superblock.push(option.to_string());
    } else if let Some((_, positive)) = NOT_SUPERBLOCK.iter().find(|(negative, _)| *negative == option) {
        sorted.superblock.retain(|flag| flag != positive);
    } else if IGNORED.contains(&option) || ["x-", "X-", "comment="].iter().any(|start| option.starts_with(start)) {
        sorted.ignored.push(option.to_string());
    } else if ENGINES.contains(&option) {
        sorted.engine.push(option.to_string());
    } else if LINKS.contains(&option) {
        sorted.link = Some(option.to_string());
        sorted.copy_link |= ["copy-symlink", "no-dereference"].contains(&option);
        sorted.source_link |= option != "dest-nofollow";
        sorted.destination_link |= option == "dest-nofollow";
    } else if let Some(maps) = option.strip_prefix("idmap=") {
        sorted.own_idmap = Some(maps.to_string());
    } else {
        match option {
            "bind" => sorted.bind = sorted.bind.or(Some(false)),
            "rbind" => sorted.bind = Some(true),
            "idmap" => sorted.idmap = sorted.idmap.or(Some(false)),
            "ridmap" => sorted.idmap = Some(true),
            "tmpcopyup" => sorted.copy_up = true,
            "remount" => sorted.remount = true,
            _ => {
                let (key, value) = match option.split_once('=') {
                    Some((key, value)) => (key, Some(value.to_string())),
                    None => (option, None),
                };
                sorted.data.push((key.to_string(), value));
            }
        }
    }
}

fn attribute(option: &str) -> Option<&'static Effect> {
    ATTRIBUTES.iter().find(|(name, _)| *name == option).map(|(_, effect)| effect)
}

fn is_access_time(option: &str) -> bool {
    ACCESS_TIME.contains(&option)
}

/// The access-time modes share one field: to choose one, the whole field is cleared (mount_setattr(2)).
fn apply(set: &mut u64, clear: &mut u64, effect: &Effect, access_time: bool) {
    if access_time {
        *set &= !attr::ATIME;
        *clear |= attr::ATIME;
    }
    match effect {
        Set(bits) => {
            *set |= bits;
            if !access_time {
                *clear &= !bits;
            }
        }
        Clear(bits) => {
            *set &= !bits;
            *clear |= bits;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(options: &[&str]) -> MountOptions {
        sort(&options.iter().map(|option| option.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn the_last_word_counts() {
        let options = sorted(&["ro", "nosuid", "rw"]);
        assert_eq!((options.set, options.clear), (attr::NOSUID, attr::RDONLY));
        let options = sorted(&["noatime", "strictatime"]);
        assert_eq!((options.set, options.clear), (attr::STRICTATIME, attr::ATIME));
        let options = sorted(&["noatime", "relatime"]);
        assert_eq!((options.set, options.clear), (attr::RELATIME, attr::ATIME));
    }

    #[test]
    fn recursive_forms_are_kept_apart() {
        let options = sorted(&["rbind", "ro", "rnosuid", "rprivate"]);
        assert_eq!((options.set, options.set_recursive), (attr::RDONLY, attr::NOSUID));
        assert_eq!(options.bind, Some(true));
        assert_eq!(options.propagation, [(Propagation::Private, true)]);
    }

    #[test]
    fn words_that_begin_with_r_are_not_recursive_forms() {
        assert_eq!(sorted(&["relatime"]).set_recursive, 0);
        assert_eq!(sorted(&["rrelatime"]).clear_recursive, attr::ATIME);
        assert_eq!(sorted(&["ro"]).set, attr::RDONLY);
        assert_eq!(sorted(&["rro"]).set_recursive, attr::RDONLY);
    }

    #[test]
    fn data_keeps_its_commas() {
        let one_string = sorted(&["ro,lowerdir=/a:/b,c,upperdir=/d,workdir=/e,index=off,nodev"]);
        let layers = [("lowerdir", "/a:/b,c"), ("upperdir", "/d"), ("workdir", "/e"), ("index", "off")];
        assert_eq!(one_string.data, layers.map(|(key, value)| (key.to_string(), Some(value.to_string()))));
        assert_eq!(one_string.set, attr::RDONLY | attr::NODEV);
        let options = sorted(&["mode=755,size=64k", "context=a,b", "noswap", "lowerdir=/a,b", "mpol=bind:0,2"]);
        let data = [
            ("mode", Some("755")),
            ("size", Some("64k")),
            ("context", Some("a,b")),
            ("noswap", None),
            ("lowerdir", Some("/a,b")),
            ("mpol", Some("bind:0,2")),
        ];
        assert_eq!(options.data, data.map(|(key, value)| (key.to_string(), value.map(str::to_string))));
    }
}
