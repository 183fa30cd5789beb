//! The user namespace that rspawn is in.
use std::fs;

/// Whether ids mean here what they mean to the machine.
pub fn is_initial() -> Result<bool, String> {
    const FILE: &str = "/proc/self/uid_map";
    let map = fs::read_to_string(FILE).map_err(|error| format!("cannot read {FILE}: {error}"))?;
    Ok(map.split_whitespace().eq(["0", "0", "4294967295"]))
}
