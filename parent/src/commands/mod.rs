//! One file a verb.
mod check;
mod plan;
mod policy;
mod run;
mod spec;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::facts::Facts;
use crate::oci::Spec;
use crate::problem::Problem;

/// Exit status of a failure of rspawn's own.
pub const FAILURE: i32 = 1;

pub fn main() -> i32 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            // Asking for help is no failure; clap's 2 is the payload's to use.
            return if error.use_stderr() { FAILURE } else { 0 };
        }
    };
    let done = match cli.command {
        Command::Run(arguments) => run::run(arguments),
        Command::Plan(arguments) => plan::plan(arguments),
        Command::Check(arguments) => check::check(arguments),
        Command::Spec(arguments) => spec::spec(arguments),
        Command::Policy(arguments) => policy::policy(arguments),
    };
    done.unwrap_or_else(|message| {
        eprintln!("rspawn: {message}");
        FAILURE
    })
}

/// Problems as the text of one error: the first in full, the others after it.
fn explain(problems: &[Problem]) -> String {
    const SHOWN: usize = 20;
    let mut lines: Vec<String> = problems.iter().take(SHOWN).map(Problem::to_string).collect();
    if problems.len() > SHOWN {
        lines.push(format!("and {} more problems", problems.len() - SHOWN));
    }
    lines.join("\nrspawn: ")
}

/// What a container is made from.
enum Source {
    Bundle(crate::bundle::Bundle),
    Host { args: Vec<String>, terminal: bool, term: Option<String> },
}

impl Source {
    fn directory(&self) -> String {
        match self {
            Source::Bundle(bundle) => bundle.path.clone(),
            Source::Host { .. } => "/".into(),
        }
    }

    /// Reads and parses: only after privileges are gone.
    fn parse(self, facts: &Facts) -> Result<Spec, String> {
        match self {
            Source::Bundle(bundle) => crate::oci::parse(&bundle.read()?).map_err(|problem| problem.to_string()),
            Source::Host { args, terminal, term } => {
                Ok(crate::default_spec::host_spec(args, terminal, term, facts.arch()))
            }
        }
    }
}
