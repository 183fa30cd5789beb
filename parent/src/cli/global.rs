//! Options before the command: runc's.
use std::path::PathBuf;

use clap::{ArgAction, Args};

use super::init_option::InitOption;

#[derive(Debug, Args)]
pub struct Global {
    /// Directory that the containers' states are kept in.
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// File that errors are appended to as well: PATH or file:PATH.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Form of the log: text or json.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: String,
    /// Accepted, no effect: error, warning, info or debug. Errors are always logged, and always say everything.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
    /// Accepted, no effect, as --log-level=debug.
    #[arg(long)]
    pub debug: bool,
    /// Let systemd make the cgroup: a scope, by linux.cgroupsPath as slice:prefix:name.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        action = ArgAction::Set, default_value = "false", overrides_with = "cgroup_manager")]
    pub systemd_cgroup: bool,
    /// Who makes the cgroup: cgroupfs, systemd, or nobody (disabled). Of this and --systemd-cgroup the last one counts.
    #[arg(long, value_name = "MANAGER", overrides_with = "systemd_cgroup")]
    pub cgroup_manager: Option<String>,
    /// Accepted, no effect: true, false or auto. Cgroups that cannot be made are an error for root, and left out for
    /// others.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub rootless: String,
    /// Ignored, as runc does.
    #[arg(long, value_name = "PATH", hide = true)]
    pub criu: Option<String>,
    /// As --init of `create` and `run`, whose own counts before it; without effect before other commands.
    #[arg(long, value_name = "MODE", default_value = "auto")]
    pub init: InitOption,
    /// Print the version.
    #[arg(short = 'v', short_alias = 'V', long)]
    pub version: bool,
}

impl Global {
    /// Whether systemd is to make the cgroup.
    pub fn systemd(&self) -> Result<bool, String> {
        match self.cgroup_manager.as_deref() {
            Some("systemd") => Ok(true),
            Some("cgroupfs" | "disabled") => Ok(false),
            // The last one that was given: clap takes the other for not given.
            None => Ok(self.systemd_cgroup),
            Some(other) => {
                Err(format!("--cgroup-manager: unknown manager {other:?}: use cgroupfs, systemd or disabled"))
            }
        }
    }

    /// Whether nobody is to make a cgroup, as podman's `--cgroups=disabled` asks.
    pub fn no_cgroups(&self) -> bool {
        self.cgroup_manager.as_deref() == Some("disabled")
    }

    /// Refuses values of options without effect that are none: a misspelt one is a mistake all the same.
    pub fn check(&self) -> Result<(), String> {
        // Empty is auto to runc.
        let rootless = self.rootless.to_ascii_lowercase();
        if !matches!(rootless.as_str(), "" | "auto") && super::go_flags::boolean(&self.rootless).is_none() {
            return Err(format!("--rootless: unknown value {:?}: use true, false or auto", self.rootless));
        }
        match self.log_level.as_str() {
            "error" | "warning" | "info" | "debug" => Ok(()),
            other => Err(format!("--log-level: unknown level {other:?}: use error, warning, info or debug")),
        }
    }
}
