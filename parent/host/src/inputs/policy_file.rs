//! The administrator's policy file: trusted input, opened and read before privileges go.
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rspawn_planner::policy;
use rspawn_proto::policy::{PathRule, Policy};

use super::bundle::{open_regular, read_at_most};
use super::policy_links;

/// Read if it exists and no other file is named.
pub const DEFAULT_PATH: &str = "/etc/rspawn/policy.conf";

const MAX_SIZE: u64 = 64 << 10;

/// Loads the policy named, or the default one; without either there is no policy, and everything is allowed. Where it does
/// not say what may be bound, it is `shown` and what is below.
pub fn load(path: Option<&Path>, shown: Option<&str>) -> Result<Policy, String> {
    let (path, required) = path.map_or((Path::new(DEFAULT_PATH), false), |path| (path, true));
    let Some(text) = read(path, required)? else { return Ok(Policy::default()) };
    let mut lines = policy::parse(&text).map_err(|error| format!("policy {}: {error}", path.display()))?;
    if lines.bundle_alone {
        lines.policy.bind_allow.extend(shown.map(|path| PathRule { path: path.into(), below: true, read_only: false }));
    }
    let say = |error| format!("policy {}: {error}", path.display());
    let Policy { bind_allow, join_allow, hooks, .. } = &mut lines.policy;
    for rules in [bind_allow, join_allow].into_iter().chain(hooks) {
        policy_links::follow(rules).map_err(say)?;
    }
    Ok(lines.policy)
}

/// The text of a policy file; none where there is no default one.
pub fn read(path: &Path, required: bool) -> Result<Option<String>, String> {
    let say = |error: &dyn core::fmt::Display| format!("policy {}: {error}", path.display());
    let file = match open_regular(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !required => return Ok(None),
        opened => opened.map_err(|error| say(&error))?,
    };
    let found = file.metadata().map_err(|error| say(&error))?;
    // What anyone but the administrator can write is not the administrator's word.
    // In a user namespace root of the machine, which has no id there, is who owns `/`.
    let root = fs::metadata("/").map_err(|error| say(&error))?.uid();
    let owners = [0, root, nix::unistd::geteuid().as_raw()];
    if !owners.contains(&found.uid()) || found.mode() & 0o022 != 0 {
        return Err(say(&"it must belong to root, and only root may write to it"));
    }
    let bytes = read_at_most(file, MAX_SIZE).map_err(|error| say(&error))?;
    let bytes = bytes.ok_or_else(|| say(&"it is larger than 64 KiB"))?;
    String::from_utf8(bytes).map(Some).map_err(|_| say(&"it is not UTF-8"))
}
