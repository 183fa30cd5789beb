//! A bundle as the invoker names it: opened before privileges go, read after.
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rspawn_planner::oci::MAX_CONFIG;

/// An opened bundle. Nothing of it has been read.
pub struct Bundle {
    /// Absolute path, links resolved: relative paths in the configuration start here.
    pub path: String,
    config: File,
}

impl Bundle {
    pub fn open(directory: &Path) -> Result<Self, String> {
        Self::open_with(directory, None)
    }

    /// With another file in the place of config.json; as with crun, its path starts where the invoker is.
    pub fn open_with(directory: &Path, config: Option<&Path>) -> Result<Self, String> {
        let say = |error: io::Error| format!("cannot open the bundle {}: {error}", directory.display());
        let path = directory.canonicalize().map_err(say)?;
        let file = config.map_or_else(|| path.join("config.json"), Path::to_path_buf);
        let config = open_regular(&file).map_err(|error| {
            let missing = error.kind() == io::ErrorKind::NotFound && config.is_none();
            let hint = if missing { no_bundle(directory) } else { String::new() };
            format!("cannot open {}: {error}{hint}", file.display())
        })?;
        let path = path.into_os_string().into_string().map_err(|path| format!("the path {path:?} is not UTF-8"))?;
        Ok(Self { path, config })
    }

    /// The bytes of config.json.
    pub fn read(&self) -> Result<Vec<u8>, String> {
        read_config(&self.config, "config.json")
    }
}

/// What to do in a directory that is no bundle.
fn no_bundle(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "; `rspawn spec --bundle {directory}` writes a default one, and `rspawn run --directory DIR` runs a root filesystem \
         without one"
    )
}

/// Opens a file that is to be a file: who opens a FIFO, or reads from it, waits for ever if nobody is at its other end.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

/// The bytes of a file in JSON, all of them: one that is cut short would be another file.
pub fn read_config(file: impl Read, what: &str) -> Result<Vec<u8>, String> {
    let bytes = read_at_most(file, MAX_CONFIG as u64).map_err(|error| format!("cannot read {what}: {error}"))?;
    bytes.ok_or_else(|| format!("{what} is larger than {} MiB", MAX_CONFIG >> 20))
}

/// The bytes of a file; none if there are more than `most`.
pub fn read_at_most(file: impl Read, most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= most).then_some(bytes))
}
