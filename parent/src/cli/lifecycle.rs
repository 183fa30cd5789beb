//! The commands of the life cycle, with runc's options.
use std::path::PathBuf;

use clap::Args;

use super::init_option::InitOption;
use super::overrides::OverrideOptions;
use crate::session::console::ConsoleMode;

/// Which container, for `create` and `run` alike.
#[derive(Debug, Args)]
pub struct Container {
    /// Directory of the bundle.
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// This file instead of the bundle's config.json.
    #[arg(short = 'f', long, value_name = "FILE", conflicts_with_all = ["host", "directory"])]
    pub config: Option<PathBuf>,
    /// No bundle: the host's own root, read-only, in new namespaces.
    #[arg(long, conflicts_with = "directory")]
    pub host: bool,
    /// No bundle: the root filesystem in this directory.
    #[arg(short = 'D', long, value_name = "DIR", conflicts_with = "bundle")]
    pub directory: Option<PathBuf>,
    /// This bundle as systemd-nspawn starts it: where it is silent, with nspawn's namespaces, file systems and
    /// environment, and named after the directory.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["bundle", "host", "directory"])]
    pub oci_bundle: Option<PathBuf>,
    /// Not supported: rspawn opens no disk images. Mount it, and name the mount point with --directory.
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// Whether PID 1 is rspawn-init (supervise) or the payload (exec). auto: rspawn-init where a person starts it, by
    /// `run` in the foreground; the payload after `create` and `run --detach`.
    #[arg(long, value_name = "MODE", default_value = "auto")]
    pub init: InitOption,
}

/// Options of `create` and `run`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    #[command(flatten)]
    pub container: Container,
    /// Socket to send the console's master to.
    #[arg(long, value_name = "PATH")]
    pub console_socket: Option<PathBuf>,
    /// File to write the pid of the container's first process to.
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Socket to send a pidfd of the container's first process to.
    #[arg(long, value_name = "PATH")]
    pub pidfd_socket: Option<PathBuf>,
    /// Descriptors from 3 on that the payload inherits.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// Do not start a new session keyring.
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Do not use pivot_root(2), for roots on a ramfs.
    #[arg(long)]
    pub no_pivot: bool,
    /// Without effect: rspawn never becomes a subreaper.
    #[arg(long, hide = true)]
    pub no_subreaper: bool,
    /// Write a line of JSON for every step that is taken.
    #[arg(long, value_name = "FILE")]
    pub audit: Option<PathBuf>,
    /// Policy to apply instead of /etc/rspawn/policy.conf.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    pub create: CreateArgs,
    /// Name of the container.
    pub id: String,
}

#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub create: CreateArgs,
    /// Leave the container running. Its streams are rspawn's own: what it prints goes to this terminal, unless `>FILE
    /// 2>&1 </dev/null` keeps it in a file, or `systemd-run --unit=NAME rspawn run …`, without --detach, in the journal.
    #[arg(short, long)]
    pub detach: bool,
    /// Keep the state of the container when it has ended.
    #[arg(long)]
    pub keep: bool,
    /// Connect the container's console: as systemd-nspawn's option of this name.
    #[arg(long, value_name = "MODE")]
    pub console: Option<ConsoleMode>,
    /// Name of the container; made up if absent.
    pub id: Option<String>,
    /// The command to run instead of the bundle's.
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
    #[command(flatten)]
    pub overrides: OverrideOptions,
}

#[derive(Debug, Args)]
pub struct Start {
    /// Name of the container.
    pub id: String,
}

#[derive(Debug, Args)]
pub struct State {
    /// json, or people: in words. people on a terminal, else json.
    #[arg(short, long)]
    pub format: Option<String>,
    /// Name of the container.
    pub id: String,
}

#[derive(Debug, Args)]
pub struct Kill {
    /// Send it to every process of the container.
    #[arg(short, long)]
    pub all: bool,
    /// Name of the container.
    pub id: String,
    /// Name or number of the signal.
    #[arg(default_value = "SIGTERM", allow_hyphen_values = true)]
    pub signal: String,
}

#[derive(Debug, Args)]
pub struct Delete {
    /// Kill a container that runs, and be content with one that is not there.
    #[arg(short, long)]
    pub force: bool,
    /// The name is a regular expression: every container that it matches is removed.
    #[arg(short, long)]
    pub regex: bool,
    /// Name of the container.
    pub id: String,
}

#[derive(Debug, Args)]
pub struct List {
    /// table and json as runc has them, or people: ages, and how containers ended. people on a terminal, else table.
    #[arg(short, long)]
    pub format: Option<String>,
    /// Names alone.
    #[arg(short, long)]
    pub quiet: bool,
    /// Show people the ids of engines whole, as other commands take them.
    #[arg(long)]
    pub no_trunc: bool,
}

#[derive(Debug, Args)]
pub struct Exec {
    /// Socket to send the console's master to.
    #[arg(long, value_name = "PATH")]
    pub console_socket: Option<PathBuf>,
    /// Socket to send a pidfd of the process to.
    #[arg(long, value_name = "PATH")]
    pub pidfd_socket: Option<PathBuf>,
    /// Working directory.
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// A variable of the environment, NAME=value; without a value, pass on the invoker's.
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Give the process a terminal.
    #[arg(short, long)]
    pub tty: bool,
    /// UID or UID:GID; or USER or USER:GROUP, names that the container's /etc/passwd and /etc/group have.
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// Supplementary groups.
    #[arg(short = 'g', long, value_name = "GID")]
    pub additional_gids: Vec<u32>,
    /// Take the whole process from a file instead.
    #[arg(short, long, value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Leave the process running.
    #[arg(short, long)]
    pub detach: bool,
    /// File to write the pid of the process to.
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// SELinux label.
    #[arg(long, value_name = "LABEL")]
    pub process_label: Option<String>,
    /// AppArmor profile.
    #[arg(long, value_name = "PROFILE")]
    pub apparmor: Option<String>,
    /// No new privileges by exec.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub no_new_privs: Option<bool>,
    /// A capability in addition.
    #[arg(short, long, value_name = "CAP")]
    pub cap: Vec<String>,
    /// Descriptors from 3 on that the process inherits.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// A cgroup below the container's: PATH or CONTROLLERS:PATH.
    #[arg(long, value_name = "CGROUP")]
    pub cgroup: Vec<String>,
    /// Do not refuse a paused container.
    #[arg(long)]
    pub ignore_paused: bool,
    /// Without effect: rspawn never becomes a subreaper.
    #[arg(long, hide = true)]
    pub no_subreaper: bool,
    /// Policy to apply instead of /etc/rspawn/policy.conf.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Write a line of JSON for every step that is taken.
    #[arg(long, value_name = "FILE")]
    pub audit: Option<PathBuf>,
    /// Name of the container.
    pub id: String,
    /// The command, and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub command: Vec<String>,
}

#[derive(Debug, Args)]
pub struct OneContainer {
    /// Name of the container.
    pub id: String,
}

#[derive(Debug, Args)]
pub struct Ps {
    /// table (of ps(1)) and json as runc has them, or people. people on a terminal, unless options of ps(1) are given;
    /// else table.
    #[arg(short, long)]
    pub format: Option<String>,
    /// Name of the container.
    pub id: String,
    /// Options of ps(1), for the table.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    pub options: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Top {
    /// Time between two tables.
    #[arg(short, long, value_name = "DURATION", default_value = "2s")]
    pub interval: String,
    /// Print one table and end.
    #[arg(long)]
    pub once: bool,
    /// Show the ids of engines whole on a terminal, as other commands take them.
    #[arg(long)]
    pub no_trunc: bool,
    /// Names of containers; all there are if absent, those that are made meanwhile too.
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
}
