//! The command line.
pub mod examples;
pub mod overrides;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub mod advice;
mod changing;
pub mod fast_parse;
mod global;
pub mod go_flags;
pub mod help;
mod init_option;
mod lifecycle;

pub use changing::*;
pub use global::Global;
pub use init_option::InitOption;
pub use lifecycle::*;

use overrides::OverrideOptions;

/// Starts OCI bundles; what parses has no privileges, and what has privileges parses nothing.
#[derive(Debug, Parser)]
#[command(name = "rspawn", disable_version_flag = true, args_override_self = true)]
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
    #[command(after_long_help = examples::RUN)]
    Run(Box<Run>),
    /// Print the state of a container: as JSON, or in words on a terminal.
    State(State),
    /// Send a signal to a container's first process.
    Kill(Kill),
    /// Stop every process of a container until `resume`.
    Pause(OneContainer),
    /// Let a paused container go on.
    Resume(OneContainer),
    /// Change the limits of a container that runs, or is created or paused. What is not named stays.
    #[command(after_long_help = examples::UPDATE)]
    Update(Box<Update>),
    /// Print what a container uses, again and again, and that it ran out of memory, as lines of JSON.
    Events(Events),
    /// Show what containers use, again and again, as a table.
    #[command(after_long_help = examples::TOP)]
    Top(Top),
    /// List the processes of a container.
    Ps(Ps),
    /// Remove what is left of a stopped container.
    Delete(Delete),
    /// Run another process in a running container.
    Exec(Exec),
    /// List containers.
    List(List),
    /// Print what this runtime can do, as the specification's features document.
    Features,
    /// Show what running a bundle would do, step by step. Nothing is done.
    #[command(after_long_help = examples::PLAN)]
    Plan(Plan),
    /// Report what is invalid in a bundle, what is ignored, and what this machine lacks.
    #[command(after_long_help = examples::CHECK)]
    Check(Check),
    /// Write a default config.json.
    #[command(after_long_help = examples::SPEC)]
    Spec(Spec),
    /// Show the policy in force.
    #[command(after_long_help = examples::POLICY)]
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Write shell completions or man pages.
    #[command(hide = true, after_long_help = examples::GENERATE)]
    #[command(subcommand)]
    Generate(Generate),
    /// Not supported: rspawn neither saves nor restores the memory of processes.
    #[command(disable_help_flag = true)]
    Checkpoint(Unsupported),
    /// Not supported: rspawn neither saves nor restores the memory of processes.
    #[command(disable_help_flag = true)]
    Restore(Unsupported),
}

#[derive(Debug, Subcommand)]
pub enum Generate {
    /// To standard output.
    Completions {
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Into a directory, which is made if it is missing.
    Man {
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// Whatever follows: none of it is read.
#[derive(Debug, Args)]
pub struct Unsupported {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub words: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Plan {
    /// The bundle; with --diff, two of them. With --oci-bundle, the name of the container.
    #[arg(value_name = "BUNDLE")]
    pub bundles: Vec<PathBuf>,
    /// The bundle, as `run` takes it.
    #[arg(short, long, value_name = "DIR", conflicts_with_all = ["bundles", "host", "directory", "oci_bundle"])]
    pub bundle: Option<PathBuf>,
    /// Plan `run --host -- CMD` instead.
    #[arg(long, conflicts_with_all = ["bundles", "directory"])]
    pub host: bool,
    /// Plan `run --directory DIR` instead.
    #[arg(short = 'D', long, value_name = "DIR", conflicts_with = "bundles")]
    pub directory: Option<PathBuf>,
    /// Plan `run --oci-bundle DIR` instead.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["host", "directory"])]
    pub oci_bundle: Option<PathBuf>,
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
    /// Say what the second bundle may do that the first may not, and the other way round; of one bundle, what the
    /// options change.
    #[arg(long)]
    pub diff: bool,
    #[arg(long, value_name = "MODE", default_value = "auto")]
    pub init: InitOption,
    /// Plan what `create` and `run --detach` do: PID 1 is the payload then, unless something else is asked for.
    #[arg(short, long)]
    pub detach: bool,
    /// Show what this policy says of each step. Host paths count as they are written; a start judges where they lead.
    #[arg(long, value_name = "FILE", conflicts_with = "diff")]
    pub policy: Option<PathBuf>,
    /// The command to run instead of the bundle's.
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
    #[command(flatten)]
    pub overrides: OverrideOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
    Bin,
}

#[derive(Debug, Args)]
pub struct Check {
    /// The bundle; `.` if absent. With --oci-bundle, the name of the container.
    #[arg(value_name = "BUNDLE")]
    pub word: Option<PathBuf>,
    /// The bundle, as `run` takes it.
    #[arg(short, long, value_name = "DIR", conflicts_with_all = ["word", "host", "directory", "oci_bundle"])]
    pub bundle: Option<PathBuf>,
    /// Check `run --host -- CMD` instead.
    #[arg(long, conflicts_with_all = ["word", "directory"])]
    pub host: bool,
    /// Check `run --directory DIR` instead.
    #[arg(short = 'D', long, value_name = "DIR", conflicts_with = "word")]
    pub directory: Option<PathBuf>,
    /// Check `run --oci-bundle DIR` instead.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["host", "directory"])]
    pub oci_bundle: Option<PathBuf>,
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
    #[arg(long, value_name = "MODE", default_value = "auto")]
    pub init: InitOption,
    /// Check for `create` and `run --detach`: PID 1 is the payload then, unless something else is asked for.
    #[arg(short, long)]
    pub detach: bool,
    /// Policy to judge by instead of /etc/rspawn/policy.conf.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// The command to run instead of the bundle's.
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
    #[command(flatten)]
    pub overrides: OverrideOptions,
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

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Print a policy with every default spelt out.
    Show(PolicyShow),
}

#[derive(Debug, Args)]
pub struct PolicyShow {
    /// The policy file instead of /etc/rspawn/policy.conf.
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// `bin` is the form that /usr/libexec/rspawn/rspawn-setup --check takes.
    #[arg(long, value_enum, default_value = "text")]
    pub format: PolicyFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PolicyFormat {
    Text,
    Bin,
}
