//! What `--oci-bundle=` has to know of the invoker and of the machine: gathered before privileges go.
use std::fs;
use std::path::Path;

use rspawn_planner::nspawn::NspawnDefaults;
use sha2::{Digest, Sha256};

/// Asks the environment and the machine. `directory` is the bundle's, links resolved.
pub fn nspawn_defaults(name: String, directory: &str, attended: bool, console: Option<bool>) -> NspawnDefaults {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let entry = |name: &&str| variable(name).map(|value| format!("{name}={value}"));
    let of_terminals = OF_TERMINALS.iter().filter_map(entry).collect();
    let os_release = ["/etc/os-release", "/usr/lib/os-release"].into_iter().find_map(|path| {
        let place = fs::canonicalize(path).ok().filter(|place| place.is_file())?;
        place.into_os_string().into_string().ok()
    });
    let term = variable("TERM").unwrap_or_else(|| "xterm".into());
    NspawnDefaults { uuid: uuid(&name, directory), name, attended, console, term, of_terminals, os_release }
}

/// A container's name where none is given: the bundle's directory's, as far as an id takes it.
pub fn name_of(directory: &Path) -> Result<String, String> {
    let say = |error: &dyn core::fmt::Display| format!("cannot open the bundle {}: {error}", directory.display());
    let path = directory.canonicalize().map_err(|error| say(&error))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let fits = |c: char| if c.is_ascii_alphanumeric() || "_+-.".contains(c) { c } else { '-' };
    let usable: String = name.chars().take(200).map(fits).collect();
    Ok(if usable.trim_matches(['-', '.']).is_empty() { "bundle".into() } else { usable })
}

/// An id for the machine that the container is to its programs, the same each time: of the container's name, its bundle
/// and this machine's id, which it does not give away (machine-id(5)).
fn uuid(name: &str, directory: &str) -> String {
    let machine = fs::read("/etc/machine-id").unwrap_or_default();
    let mut hash = Sha256::new();
    for part in [b"rspawn container_uuid", machine.as_slice(), directory.as_bytes(), name.as_bytes()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let mut bytes: [u8; 16] = core::array::from_fn(|_| 0);
    bytes.iter_mut().zip(hash.finalize()).for_each(|(byte, hashed)| *byte = hashed);
    // RFC 9562: version 8 is for ids of one's own making.
    (bytes[6], bytes[8]) = (bytes[6] & 0x0f | 0x80, bytes[8] & 0x3f | 0x80);
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

/// Variables of the invoker's that concern the terminal.
const OF_TERMINALS: [&str; 2] = ["COLORTERM", "NO_COLOR"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_directories_are_ids() {
        assert_eq!(name_of(Path::new("/usr/../usr")), Ok("usr".into()));
        assert_eq!(name_of(Path::new("/")), Ok("bundle".into()));
        assert!(name_of(Path::new("/no/such")).unwrap_err().contains("/no/such"));
    }

    #[test]
    fn an_id_is_of_its_container() {
        let (one, other) = (uuid("a", "/b"), uuid("b", "/b"));
        assert_eq!(one, uuid("a", "/b"));
        assert_ne!(one, other);
        assert!(one.len() == 36 && &one[14..15] == "8" && one.split('-').count() == 5, "{one}");
    }
}
