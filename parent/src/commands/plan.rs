//! `rspawn plan`: the first stage alone.
use std::io::Write;
use std::path::Path;

use rspawn_proto::codec;
use rspawn_proto::plan::Plan as ProtoPlan;

use super::{Source, explain};
use crate::bundle::Bundle;
use crate::cli::{Format, Plan};
use crate::facts::Facts;
use crate::plan::{InitChoice, Options, Planned};
use crate::{plan as planner, sandbox, show};

pub fn plan(arguments: Plan) -> Result<i32, String> {
    let here = Path::new(".").to_path_buf();
    let bundles = if arguments.bundles.is_empty() { vec![here] } else { arguments.bundles };
    let wanted = if arguments.diff { 2 } else { 1 };
    if bundles.len() != wanted {
        return Err(format!(
            "plan takes {wanted} bundle{}",
            if wanted == 1 { "" } else { "s, one before and one after" }
        ));
    }
    let sources: Vec<Source> = if arguments.host {
        vec![Source::Host { args: arguments.command, terminal: false, term: None }]
    } else {
        bundles.iter().map(|path| Bundle::open(path).map(Source::Bundle)).collect::<Result<_, _>>()?
    };
    let facts = Facts::gather();
    sandbox::confine().map_err(|error| format!("cannot confine itself: {error}"))?;
    let init = arguments.init.into();
    let plans: Vec<Planned> = sources.into_iter().map(|source| make(source, &facts, init)).collect::<Result<_, _>>()?;
    let output = match (plans.as_slice(), arguments.format) {
        ([before, after], _) => show::diff::diff(&before.plan, &after.plan).into_bytes(),
        ([one], Format::Text) => show::text::text(one).into_bytes(),
        ([one], Format::Json) => format!("{:#}\n", show::json::json(one)).into_bytes(),
        ([one], Format::Bin) => encode(&one.plan)?,
        _ => unreachable!("one or two plans were asked for"),
    };
    let written = std::io::stdout().write_all(&output);
    written.map(|()| 0).map_err(|error| format!("cannot write the plan: {error}"))
}

fn make(source: Source, facts: &Facts, init: InitChoice) -> Result<Planned, String> {
    let options = Options::for_a_look("plan", source.directory(), init)?;
    let (spec, _) = source.parse(facts)?;
    planner::plan(&spec, facts, &options).map_err(|problems| explain(&problems))
}

fn encode(plan: &ProtoPlan) -> Result<Vec<u8>, String> {
    codec::encode(plan).ok_or_else(|| "the plan cannot be encoded".into())
}
