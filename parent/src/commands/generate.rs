//! `rspawn generate`: shell completions and man pages, from the command line's own definition.
use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory};

use crate::cli::{Cli, Generate};
use rspawn_host::streams;

pub fn generate(what: Generate) -> Result<i32, String> {
    match what {
        Generate::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command(), "rspawn", &mut text);
            streams::print(text)?;
        }
        Generate::Man { directory } => {
            let say = |error: std::io::Error| format!("cannot write man pages to {}: {error}", directory.display());
            fs::create_dir_all(&directory).map_err(say)?;
            pages(&directory).map_err(say)?;
        }
    }
    Ok(0)
}

/// The command line, with every verb's options spelled out.
fn command() -> Command {
    let mut command = Cli::command();
    command.build();
    command
}

/// `rspawn.1` and a page for every verb, named as git names its own.
fn pages(directory: &Path) -> std::io::Result<()> {
    let whole = command();
    page(directory, "rspawn", &whole)?;
    for verb in whole.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        page(directory, &format!("rspawn-{}", verb.get_name()), verb)?;
    }
    Ok(())
}

fn page(directory: &Path, name: &str, command: &Command) -> std::io::Result<()> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).title(name.to_string()).render(&mut text)?;
    fs::write(directory.join(format!("{name}.1")), text)
}
