//! `rspawn spec`: a config.json to start from.
use std::fs::OpenOptions;
use std::io::Write;

use crate::cli::Spec;
use rspawn_host::facts;
use rspawn_planner::default_spec::{default_spec, in_user_namespace};

pub fn spec(arguments: Spec) -> Result<i32, String> {
    let path = arguments.bundle.join("config.json");
    let say = |error: &dyn std::fmt::Display| format!("cannot write {}: {error}", path.display());
    let mut spec = default_spec(!arguments.no_terminal);
    if arguments.rootless {
        in_user_namespace(&mut spec, &facts::ids::of_caller()?);
    }
    let text = serde_json::to_string_pretty(&spec).map_err(|error| say(&error))?;
    // An existing configuration is somebody's work.
    let file = OpenOptions::new().write(true).create_new(true).open(&path);
    file.and_then(|mut file| writeln!(file, "{text}")).map_err(|error| say(&error))?;
    Ok(0)
}
