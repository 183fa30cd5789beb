//! What is fetched once for all work trees of this machine, and commands that make it.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Outcome;

const CACHE: &str = "/var/cache/rspawn-vm";

/// A directory of the cache, filled by `make` if it is not there. Whoever else fills it at the same time does no
/// harm: it appears whole.
pub fn directory(name: &str, make: impl FnOnce(&Path) -> Outcome<()>) -> Outcome<PathBuf> {
    let place = Path::new(CACHE).join(name);
    if place.exists() {
        return Ok(place);
    }
    make_room(name);
    let unfinished = Path::new(CACHE).join(format!("{name}.{}", std::process::id()));
    fs::create_dir_all(&unfinished).map_err(|error| format!("{}: {error}", unfinished.display()))?;
    let made = make(&unfinished);
    if made.is_ok() && fs::rename(&unfinished, &place).is_ok() {
        return Ok(place);
    }
    discard(&unfinished);
    made.map(|()| place)
}

/// Removes what a directory of that name is in place of: those that were never finished and whose maker is gone, and
/// earlier versions. They are gigabytes that nobody else would take away.
fn make_room(name: &str) {
    for entry in fs::read_dir(CACHE).into_iter().flatten().flatten() {
        let other = entry.file_name().to_string_lossy().into_owned();
        let is_waste = match other.rsplit_once('.') {
            Some((finished, pid)) => family(finished) == family(name) && !Path::new("/proc").join(pid).exists(),
            None => family(&other) == family(name) && version(&other) < version(name),
        };
        if is_waste {
            discard(&entry.path());
        }
    }
}

/// Removes a directory of the cache, but nothing of what debootstrap may have left mounted in it, such as /proc.
fn discard(directory: &Path) {
    let _ = Command::new("rm").args(["-rf", "--one-file-system"]).arg(directory).stderr(Stdio::null()).status();
}

/// The part of a name that all versions have.
fn family(name: &str) -> &str {
    name.split(|c: char| c.is_ascii_digit()).next().unwrap_or_default()
}

/// The numbers in a name, in their order.
fn version(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

/// The newest directory of the cache whose name begins so.
pub fn newest(prefix: &str) -> Option<String> {
    let entries = fs::read_dir(CACHE).ok()?.flatten();
    let fitting = entries.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.file_name())));
    let names = fitting.map(|(time, name)| (time, name.to_string_lossy().into_owned()));
    // An unfinished one ends with a process's number after the last dot.
    names.filter(|(_, name)| name.starts_with(prefix) && !name.contains('.')).max().map(|(_, name)| name)
}

/// Runs a command; what it printed to stdout. Its stderr is shown if it fails.
pub fn output_of(command: &mut Command) -> Outcome<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
