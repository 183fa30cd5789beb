//! Options before the command: runc's.
use std::path::PathBuf;

use clap::{ArgAction, Args};

#[derive(Debug, Args)]
pub struct Global {
    /// Directory that the containers' states are kept in.
    #[arg(long, value_name = "DIR", overrides_with = "root")]
    pub root: Option<PathBuf>,
    /// File that errors are appended to as well.
    #[arg(long, value_name = "FILE", overrides_with = "log")]
    pub log: Option<PathBuf>,
    /// Form of the log: text or json.
    #[arg(long, value_name = "FORMAT", default_value = "text", overrides_with = "log_format")]
    pub log_format: String,
    /// What is logged; errors always are.
    #[arg(long, value_name = "LEVEL", default_value = "info", overrides_with = "log_level")]
    pub log_level: String,
    /// Say more.
    #[arg(long, overrides_with = "debug")]
    pub debug: bool,
    /// Let systemd make the cgroup: a scope, by linux.cgroupsPath as slice:prefix:name.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        action = ArgAction::Set, default_value = "false", overrides_with = "systemd_cgroup")]
    pub systemd_cgroup: bool,
    /// Who makes the cgroup: cgroupfs, systemd or disabled.
    #[arg(long, value_name = "MANAGER", overrides_with = "cgroup_manager")]
    pub cgroup_manager: Option<String>,
    /// Whether to go on where cgroups cannot be made: true, false or auto.
    #[arg(long, value_name = "WHEN", default_value = "auto", overrides_with = "rootless")]
    pub rootless: String,
    /// Ignored, as runc does.
    #[arg(long, value_name = "PATH", hide = true)]
    pub criu: Option<String>,
    /// Print the version.
    #[arg(short = 'v', short_alias = 'V', long)]
    pub version: bool,
}

impl Global {
    /// Whether systemd is to make the cgroup.
    pub fn systemd(&self) -> Result<bool, String> {
        match self.cgroup_manager.as_deref() {
            Some("systemd") => Ok(true),
            None | Some("cgroupfs" | "disabled") => Ok(self.systemd_cgroup),
            Some(other) => Err(format!("--cgroup-manager: there is no {other:?}: cgroupfs, systemd or disabled")),
        }
    }
}
