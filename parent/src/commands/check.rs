//! `rspawn check`: everything wrong with a bundle in one go.
use serde_json::json;

use crate::bundle::Bundle;
use crate::cli::{Check, Format};
use crate::facts::Facts;
use crate::plan::{InitChoice, Options};
use crate::problem::Problem;
use crate::{plan, sandbox};

/// Exit status 0: it would start; 1: it would not.
pub fn check(arguments: Check) -> Result<i32, String> {
    let bundle = Bundle::open(&arguments.bundle)?;
    let facts = Facts::gather();
    let options = Options::for_a_look("check", bundle.path.clone(), InitChoice::Auto)?;
    sandbox::confine().map_err(|error| format!("cannot confine itself: {error}"))?;
    let (errors, notes) = match crate::oci::parse(&bundle.read()?) {
        Err(problem) => (vec![problem], Vec::new()),
        Ok(spec) => match plan::plan(&spec, &facts, &options) {
            Ok(planned) => (Vec::new(), planned.notes),
            Err(problems) => (problems, Vec::new()),
        },
    };
    match arguments.format {
        Format::Json => println!("{:#}", json!({"errors": errors, "notes": notes})),
        Format::Text | Format::Bin => print_text(&errors, &notes),
    }
    Ok(i32::from(!errors.is_empty()))
}

fn print_text(errors: &[Problem], notes: &[Problem]) {
    let line = |kind: &str, problem: &Problem| {
        let pointer = if problem.pointer.is_empty() { "config.json" } else { &problem.pointer };
        println!("{kind} {pointer}: {}", problem.message);
    };
    errors.iter().for_each(|problem| line("error:", problem));
    notes.iter().for_each(|problem| line("note: ", problem));
    match errors.len() {
        0 => println!("the bundle can be started here"),
        1 => println!("the bundle cannot be started here: 1 error"),
        count => println!("the bundle cannot be started here: {count} errors"),
    }
}
