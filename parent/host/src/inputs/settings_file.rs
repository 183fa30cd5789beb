//! Which settings file is used, and whose word it is; see [`rspawn_planner::settings`].
use std::fs::{self, File, OpenOptions};
use std::io;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rspawn_planner::overrides::values;
use rspawn_planner::settings::{self, Settings};

/// Where the administrator keeps files that count as trusted.
const TRUSTED_DIRECTORIES: [&str; 2] = ["/etc/systemd/nspawn", "/run/systemd/nspawn"];

const MAX_SIZE: u64 = 256 << 10;

/// `--settings=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    No,
    /// The file named after the container, where systemd-nspawn looks for it.
    Search,
    File(PathBuf),
}

impl Choice {
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "override" | "trusted" => Err(format!("{text:?} is not supported: name the file, which is trusted then")),
            "" => Err("a file is named, or yes, or no".into()),
            text => Ok(match values::boolean(text) {
                Ok(true) => Choice::Search,
                Ok(false) => Choice::No,
                Err(_) => Choice::File(text.into()),
            }),
        }
    }
}

/// An opened settings file. Nothing of it has been read.
pub struct SettingsFile {
    file: File,
    /// Its name, as origins and messages show it.
    name: String,
    pub trusted: bool,
}

/// Opens the file to use, if there is one. `name` is the container's, `beside` are the directories where an untrusted
/// file may lie.
pub fn open(choice: &Choice, name: &str, beside: &[PathBuf]) -> Result<Option<SettingsFile>, String> {
    let file_name = format!("{name}.nspawn");
    match choice {
        Choice::No => Ok(None),
        Choice::File(path) => open_one(path, true).map(Some),
        Choice::Search => {
            // One that could not be looked for is not one that is not there: it may take something away.
            let say = |path: &Path, error| format!("cannot look for the settings file {}: {error}", path.display());
            let is_there = |path: &Path| fs::exists(path).map_err(|error| say(path, error));
            for path in TRUSTED_DIRECTORIES.iter().map(|directory| Path::new(directory).join(&file_name)) {
                if is_there(&path)? {
                    let trusted = belongs_to_the_administrator(&path).map_err(|error| say(&path, error))?;
                    return open_one(&path, trusted).map(Some);
                }
            }
            for path in beside.iter().map(|directory| directory.join(&file_name)) {
                if is_there(&path)? {
                    return open_one(&path, false).map(Some);
                }
            }
            Ok(None)
        }
    }
}

/// What others can write is not the administrator's word, wherever it lies.
fn belongs_to_the_administrator(path: &Path) -> io::Result<bool> {
    fs::metadata(path).map(|found| found.uid() == 0 && found.mode() & 0o022 == 0)
}

fn open_one(path: &Path, trusted: bool) -> Result<SettingsFile, String> {
    let say = |error: &dyn core::fmt::Display| format!("cannot open the settings file {}: {error}", path.display());
    // A FIFO must not keep us waiting; a link beside an image may lead to any file of the host's.
    let links = if trusted { 0 } else { libc::O_NOFOLLOW };
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | links).open(path);
    let file = opened.map_err(|error| say(&error))?;
    if !file.metadata().map_err(|error| say(&error))?.is_file() {
        return Err(say(&"it is not a regular file"));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(SettingsFile { file, name, trusted })
}

impl SettingsFile {
    /// Reads and parses it: an untrusted one only after privileges have gone.
    pub fn read(&self) -> Result<Settings, String> {
        let say = |error: &dyn core::fmt::Display| format!("{}: {error}", self.name);
        let mut text = String::new();
        (&self.file).take(MAX_SIZE + 1).read_to_string(&mut text).map_err(|error| say(&error))?;
        if text.len() as u64 > MAX_SIZE {
            return Err(say(&"it is larger than 256 KiB"));
        }
        settings::parse(&text, &self.name, self.trusted).map_err(|error| say(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice() {
        assert_eq!(Choice::parse("yes"), Ok(Choice::Search));
        assert_eq!(Choice::parse("no"), Ok(Choice::No));
        assert_eq!(Choice::parse("./a.nspawn"), Ok(Choice::File("./a.nspawn".into())));
        assert!(Choice::parse("override").is_err());
    }
}
