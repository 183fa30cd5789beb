//! `rspawn policy show`: the policy in force.
use std::io::IsTerminal;
use std::path::Path;

use rspawn_host::inputs::policy_file;
use rspawn_proto::codec;
use rspawn_report::show;

use crate::cli::{PolicyCommand, PolicyFormat};
use rspawn_host::inputs::policy_file::DEFAULT_PATH;
use rspawn_host::streams;
use rspawn_planner::policy;

pub fn policy(command: PolicyCommand) -> Result<i32, String> {
    let PolicyCommand::Show(arguments) = command;
    let path = arguments.file.as_deref().unwrap_or(Path::new(DEFAULT_PATH));
    let Some(text) = policy_file::read(path, arguments.file.is_some())? else {
        return streams::print(format!("mode = off  # there is no {DEFAULT_PATH}: everything is allowed\n"))
            .map(|()| 0);
    };
    let parsed = policy::parse(&text).map_err(|error| format!("policy {}: {error}", path.display()))?;
    match arguments.format {
        PolicyFormat::Text => streams::print(show::policy::text(&parsed))?,
        PolicyFormat::Bin if std::io::stdout().is_terminal() => {
            return Err("policy show --format=bin: binary output is for a file or a pipe".into());
        }
        PolicyFormat::Bin => streams::print(codec::encode(&parsed.policy).ok_or("the policy cannot be encoded")?)?,
    }
    Ok(0)
}
