//! Rules whose own path leads through links, as `/var/run` does: they mean where root has them lead.
use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rspawn_proto::policy::PathRule;

/// As many as the kernel follows (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// Adds to rules what their links lead to. A link that somebody else could change leads nowhere.
pub fn follow(rules: &mut Vec<PathRule>) -> Result<(), String> {
    let mut plain = BTreeSet::new();
    let mut led = Vec::new();
    for rule in rules.iter() {
        let path = place(Path::new(&rule.path), &mut plain)?;
        if let Some(path) = path.to_str().filter(|path| *path != rule.path.trim_end_matches('/')) {
            led.push(PathRule { path: path.to_string(), ..rule.clone() });
        }
    }
    rules.extend(led);
    Ok(())
}

/// Where a path leads, as far as it exists. `plain` has directories that are known to be none of links.
fn place(path: &Path, plain: &mut BTreeSet<PathBuf>) -> Result<PathBuf, String> {
    let mut way: Vec<PathBuf> = parts(path);
    let mut here = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = way.pop() {
        if part.as_os_str() == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&part);
        if plain.contains(&next) {
            here = next;
            continue;
        }
        let found = match fs::symlink_metadata(&next) {
            Ok(found) => found,
            // What is not there, or where this user may not look, is what is written.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::NotADirectory
                ) =>
            {
                way.push(part);
                way.reverse();
                return Ok(way.iter().fold(here, |here, part| here.join(part)));
            }
            Err(error) => return Err(format!("{}: {error}", next.display())),
        };
        if !found.is_symlink() {
            plain.insert(next.clone());
            here = next;
            continue;
        }
        links += 1;
        if links > MOST_LINKS || !is_roots(&here, &found)? {
            return Ok(path.to_path_buf());
        }
        let target = fs::read_link(&next).map_err(|error| format!("{}: {error}", next.display()))?;
        if target.is_absolute() {
            here = PathBuf::from("/");
        }
        way.extend(parts(&target));
    }
    Ok(here)
}

/// The parts of a path, the last first.
fn parts(path: &Path) -> Vec<PathBuf> {
    let named = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    let mut parts: Vec<PathBuf> = named.map(|part| PathBuf::from(part.as_os_str())).collect();
    parts.reverse();
    parts
}

/// Whether root alone can put another link in a link's place; or the user whose policy it is.
fn is_roots(directory: &Path, link: &Metadata) -> Result<bool, String> {
    const STICKY: u32 = 0o1000;
    let owner = |path: &Path| fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()));
    let owners = [0, owner(Path::new("/"))?.uid(), nix::unistd::geteuid().as_raw()];
    let above: Vec<Metadata> = directory.ancestors().map(owner).collect::<Result<_, _>>()?;
    let is_held =
        |found: &Metadata| owners.contains(&found.uid()) && (found.mode() & 0o022 == 0 || found.mode() & STICKY != 0);
    Ok(owners.contains(&link.uid()) && above.iter().all(is_held))
}
