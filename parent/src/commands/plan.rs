//! `rspawn plan`: the first stage alone.
use std::io::IsTerminal;
use std::path::Path;

use rspawn_host::inputs::policy_file;
use rspawn_proto::codec;
use rspawn_proto::plan::Plan as ProtoPlan;

use super::notes::explain;
use super::override_sources::{About, Intent, OverrideSources};
use super::source::Source;
use crate::cli::{Format, InitOption, Plan};
use rspawn_host::inputs::bundle::Bundle;
use rspawn_host::{facts, sandbox, streams};
use rspawn_planner::facts::Facts;
use rspawn_planner::oci::Spec;
use rspawn_planner::{InitChoice, Options, Planned, policy};
use rspawn_report::show::verdict::Verdict;
use rspawn_report::show::{self, Colours};

pub fn plan(systemd: bool, init: InitOption, arguments: Plan) -> Result<i32, String> {
    if arguments.diff && arguments.format == Format::Bin {
        return Err("plan --diff --format=bin: a difference has no binary form: use text or json".into());
    }
    if arguments.format == Format::Bin && std::io::stdout().is_terminal() {
        return Err("plan --format=bin: binary output is for a file or a pipe".into());
    }
    let (sources, id) = sources(&arguments)?;
    match (sources.len(), arguments.diff) {
        (1, _) | (2, true) => {}
        (_, true) => return Err("plan --diff takes two bundles, or one and what is changed about it".into()),
        (_, false) => return Err("plan takes one bundle; with --diff, two".into()),
    }
    let policy = match &arguments.policy {
        Some(path) => {
            let mut policy = policy_file::load(Some(path), sources.first().and_then(Source::shown))?;
            policy::adapt(&mut policy, &facts::ids::of_caller()?);
            Some(policy)
        }
        None => None,
    };
    let mut looks: Vec<(Source, OverrideSources)> =
        sources.into_iter().map(|source| prepare(source, &arguments)).collect::<Result<_, _>>()?;
    for (policy, (_, prepared)) in policy.iter().zip(&mut looks) {
        prepared.obey(policy);
    }
    let facts = facts::gather()?;
    let colours = Colours::when(streams::takes_colours());
    sandbox::confine().map_err(|error| format!("cannot confine itself: {error}"))?;
    let mut plans = Vec::new();
    let alone = looks.len() == 1;
    for (source, prepared) in looks {
        let name = id.as_deref().unwrap_or("plan");
        let mut options = Options::dry_run(name, source.directory(), arguments.init.or(init))?;
        options.detached = arguments.detach;
        options.systemd = systemd;
        let bundle = source.directory();
        let (mut spec, text) = source.parse(&facts)?;
        let about = About { text: &text, bundle: &bundle, arch: facts.arch() };
        if arguments.diff && alone {
            let mut before = spec.clone();
            let left = prepared.leave(&mut before, &about)?;
            plans.push(left.plan(&before, &facts, &options).map_err(|problems| explain(&problems))?);
        }
        plans.push(change_and_plan(&mut spec, prepared, &facts, options, &about)?);
    }
    if arguments.diff && alone && same(&plans) {
        return Err("plan --diff takes two bundles, or one and options that change something about it".into());
    }
    let verdict = |one: &Planned| policy.as_ref().map(|policy| Verdict::of(policy, &one.plan));
    let output = match (plans.as_slice(), arguments.format) {
        ([before, after], Format::Json) => format!("{:#}\n", show::diff::json(&before.plan, &after.plan)).into_bytes(),
        ([before, after], _) => show::diff::diff(&before.plan, &after.plan, colours).into_bytes(),
        ([one], Format::Text) => show::text::text(one, verdict(one).as_ref(), colours).into_bytes(),
        ([one], Format::Json) => format!("{:#}\n", show::json::json(one, verdict(one).as_ref())).into_bytes(),
        ([one], Format::Bin) => encode(&one.plan)?,
        _ => return Err("one plan or two are needed".into()),
    };
    streams::print(output).map(|()| 0)
}

/// What is looked at, and the name of its container, where that has a say.
fn sources(arguments: &Plan) -> Result<(Vec<Source>, Option<String>), String> {
    let bundles = &arguments.bundles;
    if let Some(directory) = &arguments.oci_bundle {
        let id = match bundles.as_slice() {
            [] => None,
            [id] => Some(id.to_str().ok_or("the name of the container is not UTF-8")?),
            _ => return Err("plan --oci-bundle takes one word, the name of the container".into()),
        };
        let (source, name) = Source::open_oci(directory, None, id, !arguments.detach, None)?;
        return Ok((vec![source], Some(name)));
    }
    let sources = if arguments.host {
        vec![Source::Host { args: Vec::new(), terminal: false, term: None }]
    } else if let Some(directory) = &arguments.directory {
        vec![Source::open_directory(directory, None, false)?]
    } else if bundles.is_empty() {
        vec![Source::Bundle(Bundle::open(arguments.bundle.as_deref().unwrap_or(Path::new(".")))?)]
    } else {
        bundles.iter().map(|path| Bundle::open(path).map(Source::Bundle)).collect::<Result<_, _>>()?
    };
    Ok((sources, None))
}

fn prepare(source: Source, arguments: &Plan) -> Result<(Source, OverrideSources), String> {
    let prepared =
        OverrideSources::read(&arguments.overrides, &arguments.command, &source.settings_location(None), Intent::Look)?;
    Ok((source, prepared))
}

fn change_and_plan(
    spec: &mut Spec,
    prepared: OverrideSources,
    facts: &Facts,
    mut options: Options,
    about: &About,
) -> Result<Planned, String> {
    options.cpus = prepared.cpu_mask();
    let applied = prepared.apply(spec, about)?;
    if options.init == InitChoice::Auto {
        options.init = applied.init.unwrap_or_default();
    }
    applied.plan(spec, facts, &options).map_err(|problems| explain(&problems))
}

/// Whether two plans do the same, whoever asked for it.
fn same(plans: &[Planned]) -> bool {
    matches!(plans, [before, after] if show::diff::sentences(&before.plan, &after.plan).is_empty())
}

fn encode(plan: &ProtoPlan) -> Result<Vec<u8>, String> {
    codec::encode(plan).ok_or_else(|| "the plan cannot be encoded".into())
}
