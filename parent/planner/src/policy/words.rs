//! The values of a policy file. A pattern that nothing can ever match is an error: it was meant to match something.
use crate::prelude::*;
use rspawn_proto::namespaces::{Namespace, NamespaceSet};
use rspawn_proto::plan::NodeKind;
use rspawn_proto::policy::{DeniedCall, DeviceRule, PathRule};
use rspawn_proto::sysctl::sysctl_owner;

use crate::problem::did_you_mean;
use crate::seccomp::{Arch, known_calls};
use crate::tables::CAPABILITIES;

/// `any`: no rule. `none`: nothing. Else what the words say.
pub fn any_or<T>(
    words: &[&str],
    read: impl FnOnce(&[&str]) -> Result<Vec<T>, String>,
) -> Result<Option<Vec<T>>, String> {
    match words {
        [] => Err("there is no value: `any`, `none`, or a list".into()),
        ["any"] => Ok(None),
        ["none"] => Ok(Some(Vec::new())),
        words if words.iter().any(|word| ["any", "none"].contains(word)) => Err("`any` and `none` stand alone".into()),
        words => read(words).map(Some),
    }
}

/// Every path there is.
pub fn everywhere() -> Vec<PathRule> {
    vec![PathRule { path: String::new(), below: true, read_only: false }]
}

/// `/path`, `/path/**` for what lies below too.
pub fn paths(words: &[&str]) -> Result<Option<Vec<PathRule>>, String> {
    any_or(words, |words| words.iter().map(|word| path(word, false)).collect())
}

/// The same, either with `:ro`.
pub fn paths_with_rights(words: &[&str]) -> Result<Option<Vec<PathRule>>, String> {
    any_or(words, |words| words.iter().map(|word| path(word, true)).collect())
}

fn path(word: &str, rights: bool) -> Result<PathRule, String> {
    let (path, read_only) = word.strip_suffix(":ro").map_or((word, false), |path| (path, true));
    if read_only && !rights {
        return Err(format!("{word:?}: `:ro` is for bind.allow"));
    }
    if let Some((_, end @ ("rw" | "rx" | "rwx" | "r" | "w" | "RO" | "Ro" | "r0"))) = path.rsplit_once(':') {
        return Err(format!(
            "{word:?} ends with `:{end}`: a path of bind.allow may end with `:ro`, and is writable without it"
        ));
    }
    let (path, below) = path.strip_suffix("/**").map_or((path, false), |path| (path, true));
    if !(path.starts_with('/') || below && path.is_empty()) {
        return Err(format!("{word:?} is not an absolute path"));
    }
    if path.contains('*') {
        return Err(format!("{word:?} can match nothing: `/**` at the end is the only pattern"));
    }
    let inner = path.trim_start_matches('/').trim_end_matches('/');
    if !inner.is_empty() && inner.split('/').any(|part| ["", ".", ".."].contains(&part)) {
        return Err(format!("{word:?} can match nothing: paths are compared without `.`, `..` and doubled slashes"));
    }
    Ok(PathRule { path: path.to_string(), below, read_only })
}

pub fn required(words: &[&str]) -> Result<bool, String> {
    match words {
        ["required"] => Ok(true),
        ["allowed"] => Ok(false),
        _ => Err("the value is required or allowed".into()),
    }
}

pub fn protected(words: &[&str]) -> Result<bool, String> {
    match words {
        ["protected"] => Ok(true),
        ["writable"] => Ok(false),
        _ => Err("the value is protected or writable".into()),
    }
}

pub fn id(words: &[&str]) -> Result<u32, String> {
    let id = if let [word] = words { below(word, u32::MAX) } else { None };
    id.ok_or_else(|| "the value is not one id".into())
}

/// A number below a limit.
fn below(word: &str, limit: u32) -> Option<u32> {
    word.parse().ok().filter(|number| *number < limit)
}

/// Names, `all` or `none`.
pub fn capabilities(words: &[&str]) -> Result<u64, String> {
    match words {
        [] => Err("there is no value: `all`, `none`, or capabilities".into()),
        ["all"] => Ok(u64::MAX),
        ["none"] => Ok(0),
        words => words.iter().try_fold(0, |bits, word| {
            let found = CAPABILITIES.iter().position(|name| name == word || name[4..] == **word);
            let message = || format!("there is no capability {word:?}{}", did_you_mean(word, CAPABILITIES));
            found.map(|number| bits | 1 << number).ok_or_else(message)
        }),
    }
}

/// Of names that are known.
pub fn known_capabilities(names: &[&str]) -> u64 {
    let number = |name: &&str| CAPABILITIES.iter().position(|known| known[4..] == **name);
    names.iter().filter_map(number).fold(0, |bits, number| bits | 1 << number)
}

pub fn namespaces(words: &[&str]) -> Result<NamespaceSet, String> {
    let kind = |word: &&str| Namespace::from_name(word).ok_or_else(|| format!("there is no namespace {word:?}"));
    match words {
        [] => Err("there is no value: `none`, or kinds of namespaces".into()),
        ["none"] => Ok(NamespaceSet::default()),
        words => words.iter().map(kind).collect(),
    }
}

/// Calls by name, for every architecture that this machine can make them by.
pub fn denied_calls(words: &[&str]) -> Result<Vec<DeniedCall>, String> {
    let known = |word: &&&str| !known_calls().any(|name| name == **word);
    match words {
        [] => Err("there is no value: `none`, or system calls".into()),
        ["none"] => Ok(Vec::new()),
        words => match words.iter().find(known) {
            Some(word) => Err(format!("there is no system call {word:?}{}", did_you_mean(word, known_calls()))),
            None => Ok(calls(words)),
        },
    }
}

/// Calls that are known.
pub fn calls(names: &[&str]) -> Vec<DeniedCall> {
    // What this program was compiled for is what the machine runs, and beside it what such machines run as well.
    let arches: &[Arch] = if cfg!(target_arch = "x86_64") {
        &[Arch::X86_64, Arch::X86, Arch::X32]
    } else if cfg!(target_arch = "aarch64") {
        &[Arch::Aarch64, Arch::Arm]
    } else {
        &[Arch::Riscv64]
    };
    let of = |name: &&str| {
        let name = name.to_string();
        arches.iter().filter_map(move |arch| {
            Some(DeniedCall { arch: arch.audit(), number: arch.number(&name)?, name: name.clone() })
        })
    };
    names.iter().flat_map(of).collect()
}

/// `c 1:3` or `b 8:*`.
pub fn device(words: &[&str]) -> Result<DeviceRule, String> {
    let rule = match words {
        [kind @ ("c" | "b"), numbers] => numbers.split_once(':').and_then(|(major, minor)| {
            let kind = if *kind == "c" { NodeKind::Char } else { NodeKind::Block };
            let minor = if minor == "*" { None } else { Some(below(minor, 1 << 20)?) };
            Some(DeviceRule { kind, major: below(major, 1 << 12)?, minor })
        }),
        _ => None,
    };
    rule.ok_or_else(|| format!("{:?} is not a device such as `c 1:3` or `b 8:*`", words.join(" ")))
}

/// Keys, or `net.*` for a prefix.
pub fn sysctls(words: &[&str]) -> Result<Vec<String>, String> {
    let key = |word: &&str| {
        let (key, prefix) = word.strip_suffix('*').map_or((*word, false), |key| (key, true));
        if key.contains('*') || prefix && !key.ends_with(['.', '/']) {
            return Err(format!("{word:?} can match nothing: `.*` at the end is the only pattern"));
        }
        if !prefix && sysctl_owner(key).is_none() {
            return Err(format!("{word:?} can match nothing: it is of no namespace, and no container may set it"));
        }
        Ok(key.to_string())
    };
    words.iter().map(key).collect()
}

/// Plain names.
pub fn names(words: &[&str], what: &str) -> Result<Vec<String>, String> {
    let name = |word: &&str| match word.contains(['*', '/', ',', '=']) {
        true => Err(format!("{word:?} can match nothing: it is not the name of {what}")),
        false => Ok(word.to_string()),
    };
    words.iter().map(name).collect()
}
