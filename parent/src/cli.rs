//! The command line.
pub mod examples;
pub mod overrides;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::plan::InitChoice;
use crate::terminal::ConsoleMode;
use overrides::OverrideOptions;

/// Starts OCI bundles; what parses has no privileges, and what has privileges parses nothing.
#[derive(Debug, Parser)]
#[command(name = "rspawn", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a container in the foreground and end with its payload's status.
    #[command(after_long_help = examples::RUN)]
    Run(Run),
    /// Show what running a bundle would do, step by step. Nothing is done.
    #[command(after_long_help = examples::PLAN)]
    Plan(Plan),
    /// Report what is invalid in a bundle, what is ignored, and what this machine lacks.
    #[command(after_long_help = examples::CHECK)]
    Check(Check),
    /// Write a default config.json.
    #[command(after_long_help = examples::SPEC)]
    Spec(Spec),
    /// Translate a policy file into the form that rspawn-setup --check takes.
    #[command(after_long_help = examples::POLICY)]
    Policy(PolicyCommand),
    /// Write shell completions or man pages.
    #[command(hide = true, after_long_help = examples::GENERATE)]
    #[command(subcommand)]
    Generate(Generate),
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

#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub container: Container,
    /// Connect the container's console: as systemd-nspawn's option of this name.
    #[arg(long, value_name = "MODE")]
    pub console: Option<ConsoleMode>,
    /// Write a line of JSON for every step that is taken.
    #[arg(long, value_name = "FILE")]
    pub audit: Option<PathBuf>,
    /// Policy to apply instead of /etc/rspawn/policy.conf.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Descriptors from 3 on that the payload inherits.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// Do not start a new session keyring.
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Name of the container; made up if absent.
    pub id: Option<String>,
    /// The command to run instead of the bundle's.
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
    #[command(flatten)]
    pub overrides: OverrideOptions,
}

/// Which container, for `run` and `plan` alike.
#[derive(Debug, Args)]
pub struct Container {
    /// Directory of the bundle.
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// No bundle: the host's own root, read-only, in new namespaces.
    #[arg(long, conflicts_with = "directory")]
    pub host: bool,
    /// No bundle: the root filesystem in this directory.
    #[arg(short = 'D', long, value_name = "DIR", conflicts_with = "bundle")]
    pub directory: Option<PathBuf>,
    /// Not supported: rspawn opens no disk images. Mount it, and name the mount point with --directory.
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
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
    #[arg(long, conflicts_with_all = ["bundles", "directory"])]
    pub host: bool,
    /// Plan `run --directory DIR` instead.
    #[arg(short = 'D', long, value_name = "DIR", conflicts_with = "bundles")]
    pub directory: Option<PathBuf>,
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
    /// Say what the second bundle may do that the first may not, and the other way round; of one bundle, what the
    /// options change.
    #[arg(long)]
    pub diff: bool,
    #[arg(long, value_name = "MODE", default_value = "auto")]
    pub init: InitOption,
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
    #[arg(value_name = "BUNDLE", default_value = ".")]
    pub bundle: PathBuf,
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
    /// Policy to judge by instead of /etc/rspawn/policy.conf.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
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
}

#[derive(Debug, Args)]
pub struct PolicyCommand {
    /// The policy file.
    #[arg(value_name = "FILE", default_value = crate::policy_file::DEFAULT_PATH)]
    pub file: PathBuf,
}
