//! The administrator's policy file: `key = value` lines. Trusted input, read before privileges go.
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::NodeKind;
use rspawn_proto::policy::{DeviceRule, Mode, PathRule, Policy};

use crate::bundle::open_regular;
use crate::plan::CAPABILITIES;
use crate::problem::did_you_mean;

/// Read if it exists and no other file is named.
pub const DEFAULT_PATH: &str = "/etc/rspawn/policy.conf";

const MAX_SIZE: u64 = 64 << 10;

const KEYS: [&str; 15] = [
    "mode", "bind.allow", "bind.deny", "caps.max", "no_new_privs", "seccomp", "userns", "userns.min-host-id",
    "namespaces.own", "join.allow", "devices.allow", "sysctl.allow", "filesystems.allow", "hooks.allow",
    "systemd.properties",
];

/// Loads the policy named, or the default one; without either there is no policy, and everything is allowed.
pub fn load(path: Option<&Path>) -> Result<Policy, String> {
    let (path, required) = path.map_or((Path::new(DEFAULT_PATH), false), |path| (path, true));
    let say = |error: &dyn std::fmt::Display| format!("policy {}: {error}", path.display());
    let file = match open_regular(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !required => {
            return Ok(Policy { mode: Mode::Off, ..Policy::default() });
        }
        opened => opened.map_err(|error| say(&error))?,
    };
    let found = file.metadata().map_err(|error| say(&error))?;
    // What anyone but the administrator can write is not the administrator's word.
    let owner = nix::unistd::geteuid().as_raw();
    if (found.uid() != 0 && found.uid() != owner) || found.mode() & 0o022 != 0 {
        return Err(say(&"it must belong to root, and only root may write to it"));
    }
    let mut text = String::new();
    file.take(MAX_SIZE + 1).read_to_string(&mut text).map_err(|error| say(&error))?;
    if text.len() as u64 > MAX_SIZE {
        return Err(say(&"it is larger than 64 KiB"));
    }
    parse(&text).map_err(|error| say(&error))
}

/// Parses a policy. Unknown keys are errors: a misspelt restriction must not be no restriction.
pub fn parse(text: &str) -> Result<Policy, String> {
    let mut policy = Policy::default();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let number = index + 1;
        let (key, value) = line.split_once('=').ok_or_else(|| format!("line {number}: there is no `=`"))?;
        let words: Vec<&str> = value.split_whitespace().collect();
        set(&mut policy, key.trim(), &words).map_err(|error| format!("line {number}: {error}"))?;
    }
    Ok(policy)
}

fn set(policy: &mut Policy, key: &str, words: &[&str]) -> Result<(), String> {
    match key {
        "mode" => policy.mode = mode(words)?,
        "bind.allow" => policy.bind_allow.get_or_insert_default().extend(paths(words)?),
        "bind.deny" => policy.bind_deny.extend(paths(words)?),
        "caps.max" => policy.capabilities = Some(capabilities(words)?),
        "no_new_privs" => policy.no_new_privileges = required(words)?,
        "seccomp" => policy.seccomp = required(words)?,
        "userns" => policy.user_namespace = required(words)?,
        "userns.min-host-id" => {
            let id = words.first().and_then(|word| word.parse().ok());
            policy.min_host_id = Some(id.ok_or("the value is not an id")?);
        }
        "namespaces.own" => {
            policy.own_namespaces = words.iter().map(|word| namespace(word)).collect::<Result<_, _>>()?
        }
        "hooks.allow" => policy.hooks.get_or_insert_default().extend(paths(words)?),
        "systemd.properties" => {
            policy.properties.get_or_insert_default().extend(words.iter().map(|word| word.to_string()));
        }
        "join.allow" => policy.join_allow.get_or_insert_default().extend(paths(words)?),
        "devices.allow" => {
            let rules: Result<Vec<_>, _> = words.chunks(2).map(device).collect();
            policy.devices.get_or_insert_default().extend(rules?);
        }
        "sysctl.allow" => {
            let keys = words.iter().map(|word| word.strip_suffix('*').unwrap_or(word).to_string());
            policy.sysctls.get_or_insert_default().extend(keys);
        }
        "filesystems.allow" => {
            policy.filesystems.get_or_insert_default().extend(words.iter().map(|word| word.to_string()));
        }
        _ => return Err(format!("there is no key {key:?}{}", did_you_mean(key, KEYS))),
    }
    Ok(())
}

fn mode(words: &[&str]) -> Result<Mode, String> {
    match words {
        ["off"] => Ok(Mode::Off),
        ["warn"] => Ok(Mode::Warn),
        ["enforce"] => Ok(Mode::Enforce),
        _ => Err("the mode is off, warn or enforce".into()),
    }
}

fn required(words: &[&str]) -> Result<bool, String> {
    match words {
        ["required"] => Ok(true),
        ["allowed"] => Ok(false),
        _ => Err("the value is required or allowed".into()),
    }
}

/// `/path`, `/path/**` for what lies below too, either with `:ro`.
fn paths(words: &[&str]) -> Result<Vec<PathRule>, String> {
    let rule = |word: &&str| {
        let (path, read_only) = word.strip_suffix(":ro").map_or((*word, false), |path| (path, true));
        let (path, below) = path.strip_suffix("/**").map_or((path, false), |path| (path, true));
        if !(path.starts_with('/') || below && path.is_empty()) {
            return Err(format!("{word:?} is not an absolute path"));
        }
        Ok(PathRule { path: path.to_string(), below, read_only })
    };
    words.iter().map(rule).collect()
}

fn capabilities(words: &[&str]) -> Result<u64, String> {
    words.iter().try_fold(0, |bits, word| {
        let found = CAPABILITIES.iter().position(|name| name == word || name[4..] == **word);
        let message = || format!("there is no capability {word:?}{}", did_you_mean(word, CAPABILITIES));
        found.map(|number| bits | 1 << number).ok_or_else(message)
    })
}

fn namespace(word: &str) -> Result<Namespace, String> {
    Namespace::from_name(word).ok_or_else(|| format!("there is no namespace {word:?}"))
}

/// `c 1:3` or `b 8:*`.
fn device(words: &[&str]) -> Result<DeviceRule, String> {
    let rule = match words {
        [kind @ ("c" | "b"), numbers] => numbers.split_once(':').and_then(|(major, minor)| {
            let kind = if *kind == "c" { NodeKind::Char } else { NodeKind::Block };
            let minor = if minor == "*" { Some(None) } else { minor.parse().ok().map(Some) };
            Some(DeviceRule { kind, major: major.parse().ok()?, minor: minor? })
        }),
        _ => None,
    };
    rule.ok_or_else(|| format!("{:?} is no device such as `c 1:3` or `b 8:*`", words.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_reads_as_it_is_written() {
        let policy = parse(
            "# comment\nmode = enforce\nbind.allow = /srv/** /data:ro\ncaps.max = CHOWN CAP_KILL\n\
             devices.allow = c 1:3 c 136:*\nnamespaces.own = pid mount\nseccomp = required\n",
        )
        .unwrap();
        assert_eq!((policy.mode, policy.capabilities, policy.seccomp), (Mode::Enforce, Some(0b10_0001), true));
        let allow = policy.bind_allow.unwrap();
        assert!(allow[0].covers("/srv/a/b") && !allow[0].covers("/srvx") && allow[1].read_only);
        assert_eq!(policy.devices.unwrap()[1].minor, None);
    }

    #[test]
    fn a_misspelt_key_is_an_error() {
        let error = parse("bind.dney = /etc").unwrap_err();
        assert!(error.contains("line 1") && error.contains("bind.deny"), "{error}");
        for bad in ["mode = perhaps", "caps.max = CAP_NOPE", "bind.allow = relative", "devices.allow = c", "x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
