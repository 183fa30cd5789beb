//! The `linux.seccomp` object (runtime-spec, config-linux.md, "Seccomp").
//!
//! Names stay strings here: the compiler judges them, so that a message can
//! name the JSON pointer and offer the right spelling. Unknown members are
//! ignored as config.md requires, and an explicit `null` counts as absent
//! because Go encoders write it for empty slices and pointers.

use crate::prelude::*;
use serde::{Deserialize, Deserializer, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Seccomp {
    /// `SCMP_ACT_*` for every call no rule matches.
    #[serde(deserialize_with = "nullable")]
    pub default_action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// `SCMP_ARCH_*`; the native one is always meant as well.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<String>,
    /// `SECCOMP_FILTER_FLAG_*`. Absent and empty differ: absent asks for the
    /// runtime's default, which is SPEC_ALLOW in runc.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<String>>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub listener_path: String,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub listener_metadata: String,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub syscalls: Vec<SyscallRule>,
}

impl Seccomp {
    /// runc takes an object without default action and rules as "no seccomp".
    pub fn is_disabled(&self) -> bool {
        self.default_action.is_empty() && self.syscalls.is_empty()
    }
}

/// One action for several calls, optionally only for certain arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SyscallRule {
    #[serde(deserialize_with = "nullable")]
    pub names: Vec<String>,
    /// What docker wrote before there was a list.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(deserialize_with = "nullable")]
    pub action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<ArgRule>,
}

/// One comparison; those of a rule must all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ArgRule {
    #[serde(deserialize_with = "nullable")]
    pub index: u32,
    /// The operand; for `SCMP_CMP_MASKED_EQ` the mask.
    #[serde(deserialize_with = "nullable")]
    pub value: u64,
    /// Only for `SCMP_CMP_MASKED_EQ`: what the masked argument must equal.
    #[serde(deserialize_with = "nullable")]
    pub value_two: u64,
    #[serde(deserialize_with = "nullable")]
    pub op: String,
}

fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_absent_and_unknown_members_are_ignored() {
        let text = r#"{"defaultAction":null,"defaultErrnoRet":null,"architectures":null,
            "flags":null,"listenerPath":null,"listenerMetadata":null,"x":1,
            "syscalls":[{"names":null,"action":null,"errnoRet":null,"args":null},
              {"names":["read"],"action":"SCMP_ACT_ALLOW","comment":"",
               "args":[{"index":null,"value":18446744073709551615,"valueTwo":null,"op":null}]}]}"#;
        let parsed: Seccomp = serde_json::from_str(text).expect("valid");
        assert_eq!(parsed.flags, None);
        assert_eq!(parsed.syscalls.len(), 2);
        assert_eq!(parsed.syscalls[1].args[0].value, u64::MAX);
        let empty: Seccomp = serde_json::from_str(r#"{"flags":[]}"#).expect("valid");
        assert_eq!(empty.flags, Some(vec![]));
        assert!(empty.is_disabled());
    }

    #[test]
    fn serialising_skips_what_is_absent() {
        let seccomp = Seccomp { default_action: "SCMP_ACT_ALLOW".into(), ..Seccomp::default() };
        assert_eq!(serde_json::to_string(&seccomp).expect("plain data"), r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#);
    }
}
