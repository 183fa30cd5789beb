//! The command line.
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod global;
mod lifecycle;

pub use global::Global;
pub use lifecycle::*;

use crate::plan::InitChoice;

/// Starts OCI bundles; what parses has no privileges, and what has privileges parses nothing.
#[derive(Debug, Parser)]
#[command(name = "rspawn", disable_help_subcommand = true, disable_version_flag = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a container whose payload waits for `start`.
    Create(Create),
    /// Start the payload of a created container.
    Start(Start),
    /// Run a container in the foreground and end with its payload's status; or start it and leave it running.
    Run(Run),
    /// Print the state of a container as JSON.
    State(State),
    /// Send a signal to a container's first process.
    Kill(Kill),
    /// Remove what is left of a stopped container.
    Delete(Delete),
    /// Run another process in a running container.
    Exec(Exec),
    /// List containers.
    List(List),
    /// Print what this runtime can do, as the specification's features document.
    Features,
    /// Show what running a bundle would do, step by step. Nothing is done.
    Plan(Plan),
    /// Report what is invalid in a bundle, what is ignored, and what this machine lacks.
    Check(Check),
    /// Write a default config.json.
    Spec(Spec),
    /// Translate a policy file into the form that rspawn-setup --check takes.
    Policy(PolicyCommand),
    /// Not supported: rspawn neither saves nor restores the memory of processes.
    #[command(disable_help_flag = true)]
    Checkpoint(Unsupported),
    /// Not supported: rspawn neither saves nor restores the memory of processes.
    #[command(disable_help_flag = true)]
    Restore(Unsupported),
}

/// Whatever follows: none of it is read.
#[derive(Debug, Args)]
pub struct Unsupported {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub words: Vec<String>,
}

/// Which container, for `run` and `plan` alike.
#[derive(Debug, Args)]
pub struct Container {
    /// Directory of the bundle.
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// No bundle: the host's own root, read-only, in new namespaces.
    #[arg(long)]
    pub host: bool,
    /// Whether PID 1 is rspawn-init or the payload.
    #[arg(long, value_name = "MODE", default_value = "auto")]
    pub init: InitOption,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum InitOption {
    Auto,
    Supervise,
    Exec,
}

impl From<InitOption> for InitChoice {
    fn from(option: InitOption) -> Self {
        match option {
            InitOption::Auto => InitChoice::Auto,
            InitOption::Supervise => InitChoice::Supervise,
            InitOption::Exec => InitChoice::Exec,
        }
    }
}

#[derive(Debug, Args)]
pub struct Plan {
    /// The bundle; with --diff, two of them.
    #[arg(value_name = "BUNDLE")]
    pub bundles: Vec<PathBuf>,
    /// Plan `run --host -- CMD` instead.
    #[arg(long)]
    pub host: bool,
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
    /// Say what the second bundle may do that the first may not, and the other way round.
    #[arg(long)]
    pub diff: bool,
    #[arg(long, value_name = "MODE", default_value = "auto")]
    pub init: InitOption,
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
    Bin,
}

#[derive(Debug, Args)]
pub struct Check {
    #[arg(value_name = "BUNDLE", default_value = ".")]
    pub bundle: PathBuf,
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct Spec {
    /// Directory to write config.json into.
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Write a configuration whose payload has no terminal.
    #[arg(long)]
    pub no_terminal: bool,
    /// Write one with a user namespace that has the ids which this user may map.
    #[arg(long)]
    pub rootless: bool,
}

#[derive(Debug, Args)]
pub struct PolicyCommand {
    /// The policy file.
    #[arg(value_name = "FILE", default_value = crate::policy_file::DEFAULT_PATH)]
    pub file: PathBuf,
}
