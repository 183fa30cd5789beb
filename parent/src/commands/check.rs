//! `rspawn check`: everything wrong with a bundle in one go, before anything starts.
use std::path::Path;

use rspawn_host::inputs::policy_file;
use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::{HostOp, Plan, Step};
use rspawn_proto::policy::{Enforcement, Policy};
use serde_json::json;

use super::override_sources::{About, Intent, OverrideSources};
use super::source::Source;
use crate::cli::{Check, Format, InitOption};
use crate::session::helper_process;
use rspawn_host::deputies::path_prober::PathProber;
use rspawn_host::inputs::bundle::Bundle;
use rspawn_host::{facts, sandbox, streams};
use rspawn_planner::facts::Facts;
use rspawn_planner::oci::Spec;
use rspawn_planner::problem::Problem;
use rspawn_planner::start_facts::StartFacts;
use rspawn_planner::{Options, Planned, policy};
use rspawn_report::check::document::Document;
use rspawn_report::check::start::{self, Start};
use rspawn_report::check::{Finding, Severity, is_warning};
use rspawn_report::describe;
use rspawn_report::show::{self, Colours, Tone};

/// Exit status 0: it would start; 1: it would not.
pub fn check(systemd: bool, init: InitOption, arguments: Check) -> Result<i32, String> {
    if arguments.format == Format::Bin {
        return Err("check --format=bin: findings have no binary form: use text or json".into());
    }
    let (source, name) = source(&arguments)?;
    let path = source.directory();
    let mut prepared =
        OverrideSources::read(&arguments.overrides, &arguments.command, &source.settings_location(None), Intent::Look)?;
    let mut policy = policy_file::load(arguments.policy.as_deref(), source.shown())?;
    let prober =
        PathProber::start().map_err(|error| format!("cannot start a second process to look at files: {error}"))?;
    let facts = facts::gather()?;
    let start = facts::start::gather(&facts)?;
    policy::adapt(&mut policy, &facts.ids);
    prepared.obey(&policy);
    let forbidden = if facts.ids.rootless { helper_process::no_user_namespaces() } else { None };
    let machine = Machine { facts, start, prober, policy, forbidden };
    let colours = Colours::when(streams::takes_colours());
    let mut options = Options::dry_run(&name, path, arguments.init.or(init))?;
    options.detached = arguments.detach;
    options.systemd = systemd;
    sandbox::confine().map_err(|error| format!("cannot confine itself: {error}"))?;
    let subject = if matches!(source, Source::Bundle(_) | Source::Oci(..)) { "the bundle" } else { "the container" };
    let written = source.read(&machine.facts)?;
    let document = Document::read(&written);
    let mut findings = machine.judge(&document, &written, &prepared, options)?;
    findings.sort_by_key(Finding::rank);
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    streams::print(match arguments.format {
        Format::Json => format!("{:#}\n", json!({"startable": errors == 0, "findings": findings})),
        Format::Text | Format::Bin => text(subject, &findings, errors, colours),
    })?;
    Ok(i32::from(errors != 0))
}

/// What is looked at, and its container's name.
fn source(arguments: &Check) -> Result<(Source, String), String> {
    if let Some(directory) = &arguments.oci_bundle {
        let id = arguments.word.as_deref();
        let id = id.map(|id| id.to_str().ok_or("the name of the container is not UTF-8")).transpose()?;
        return Source::open_oci(directory, None, id, !arguments.detach, None);
    }
    let source = if arguments.host {
        Source::Host { args: Vec::new(), terminal: false, term: None }
    } else if let Some(directory) = &arguments.directory {
        Source::open_directory(directory, None, false)?
    } else {
        let named = arguments.word.as_deref().or(arguments.bundle.as_deref());
        Source::Bundle(Bundle::open(named.unwrap_or(Path::new(".")))?)
    };
    Ok((source, "check".into()))
}

/// What a bundle is held against.
struct Machine {
    facts: Facts,
    start: StartFacts,
    prober: PathProber,
    policy: Policy,
    /// What keeps this user from having a user namespace, if it needs one.
    forbidden: Option<String>,
}

impl Machine {
    fn judge(
        &self,
        document: &Document,
        text: &[u8],
        prepared: &OverrideSources,
        mut options: Options,
    ) -> Result<Vec<Finding>, String> {
        let find = |severity, problem| Finding::new(severity, problem, document.value.as_ref());
        let mut findings: Vec<Finding> =
            self.lacks().into_iter().map(|(severity, problem)| find(severity, problem)).collect();
        findings.extend(document.errors.iter().cloned().map(|error| find(Severity::Error, error)));
        findings.extend(document.unknown.iter().cloned().map(|note| find(Severity::Note, note)));
        let Some(mut spec) = document.spec.clone() else { return Ok(findings) };
        findings.extend(self.missing_namespaces(&spec).into_iter().map(|problem| find(Severity::Error, problem)));
        options.cpus = prepared.cpu_mask();
        let about = About { text, bundle: &options.bundle, arch: self.facts.arch() };
        let applied = prepared.apply(&mut spec, &about)?;
        let outcome = applied.plan_anyway(&spec, &self.facts, &options);
        let own = outcome.problems.into_iter().filter(|problem| !document.is_consequence(&problem.pointer));
        findings.extend(own.map(|problem| find(Severity::Error, problem)));
        let mut notes = outcome.notes;
        if let Some(planned) = outcome.planned {
            notes.extend(planned.notes.iter().cloned());
            notes.push(Problem::new("rule: PID 1", show::text::first_process(&planned.plan.finish)));
            let doubtful = self.doubtful_filesystems(&planned);
            findings.extend(doubtful.into_iter().map(|problem| find(Severity::Warning, problem)));
            findings.extend(self.obstacles(&planned)?.into_iter().map(|problem| find(Severity::Error, problem)));
            findings.extend(self.refusals(&planned.plan));
        }
        findings.extend(notes.into_iter().filter(|note| !document.is_consequence(&note.pointer)).map(|note| {
            let severity = if is_warning(&note.pointer) { Severity::Warning } else { Severity::Note };
            find(severity, note)
        }));
        Ok(findings)
    }

    /// What this user on this kernel lacks for containers of any kind.
    fn lacks(&self) -> Vec<(Severity, Problem)> {
        let ids = &self.facts.ids;
        let mut lacks = Vec::new();
        if let Some(switch) = &self.forbidden {
            let message = format!("without root a container needs a user namespace, and it can have none: {switch}");
            lacks.push((Severity::Error, Problem::new("machine", message)));
        }
        if let Some(why) = ids.alone_because.as_ref().filter(|_| ids.rootless) {
            let message = format!("the container can have only your own ids: {why}");
            lacks.push((Severity::Note, Problem::new("machine", message)));
        }
        lacks
    }

    /// Namespaces that this kernel was built without.
    fn missing_namespaces(&self, spec: &Spec) -> Vec<Problem> {
        let mut problems = Vec::new();
        let namespaces = spec.linux.iter().flat_map(|linux| linux.namespaces.iter().enumerate());
        for (index, entry) in namespaces {
            let known = Namespace::from_name(&entry.kind).is_some();
            if known && !self.facts.has_namespace(&entry.kind) {
                let message = format!("this kernel has no {} namespaces", entry.kind);
                problems.push(Problem::new(format!("/linux/namespaces/{index}/type"), message));
            }
        }
        problems
    }

    /// Filesystems that this kernel does not have yet, where nobody knows what modules there are.
    fn doubtful_filesystems(&self, planned: &Planned) -> Vec<Problem> {
        if self.start.loadable_filesystems.is_some() {
            return Vec::new();
        }
        let doubt = |step: &Step<HostOp>| match &step.op {
            HostOp::NewFilesystem { fs, .. } if !self.facts.has_filesystem(fs.as_str()) => {
                let message = format!("this kernel does not know the filesystem {fs}, unless a module brings it");
                Some(Problem::new(step.origin.clone(), message))
            }
            _ => None,
        };
        planned.plan.host.iter().filter_map(doubt).collect()
    }

    /// What a start would stop at.
    fn obstacles(&self, planned: &Planned) -> Result<Vec<Problem>, String> {
        let Self { facts, start, prober, .. } = self;
        start::problems(&Start { plan: &planned.plan, origins: &planned.origins, facts, start, look: prober })
    }

    /// What the administrator's policy says.
    fn refusals(&self, plan: &Plan) -> Vec<Finding> {
        let severity = match self.policy.mode {
            Enforcement::Off => return Vec::new(),
            Enforcement::Warn => Severity::Warning,
            Enforcement::Enforce => Severity::Error,
        };
        let finding = |violation: rspawn_proto::policy::Violation| {
            let what = describe::violation(&violation);
            let message = format!("the policy ({}) does not grant that the container {what}", violation.rule);
            Finding::new(severity, Problem::new(violation.origin, message), None)
        };
        policy::violations(&self.policy, plan).into_iter().map(finding).collect()
    }
}

/// Findings in words, and whether what is looked at can be started.
fn text(subject: &str, findings: &[Finding], errors: usize, colours: Colours) -> String {
    let mut out = String::new();
    for finding in findings {
        let (word, tone) = match finding.severity {
            Severity::Error => ("error:", Tone::Alarming),
            Severity::Warning => ("warning:", Tone::Notable),
            Severity::Note => ("note:", Tone::Faint),
        };
        let pointer = if finding.pointer.is_empty() { "config.json" } else { &finding.pointer };
        out.push_str(&format!("{} ", colours.paint(tone, word)));
        out.push_str(&format!(
            "{}: {}\n",
            colours.paint(Tone::Heading, pointer),
            colours.paint(Tone::Plain, &finding.message)
        ));
        // Where nothing is wrong, only the suggestion says more than the message.
        let is_error = finding.severity == Severity::Error;
        let (expected, found) = (finding.expected.as_ref(), finding.found.as_ref());
        let details = [
            ("expected", expected.filter(|_| is_error)),
            ("found", found.filter(|_| is_error)),
            ("try", finding.suggestion.as_ref()),
        ];
        for (label, detail) in details.into_iter().filter_map(|(label, detail)| Some((label, detail?))) {
            out.push_str(&format!(
                "    {} {}\n",
                colours.paint(Tone::Faint, &format!("{label:<9}")),
                colours.paint(Tone::Plain, detail)
            ));
        }
    }
    let warnings = findings.iter().filter(|finding| finding.severity == Severity::Warning).count();
    let with = match warnings {
        0 => String::new(),
        1 => ", with 1 warning".into(),
        count => format!(", with {count} warnings"),
    };
    out.push_str(&match errors {
        0 => colours.paint(Tone::Reassuring, &format!("{subject} can be started here{with}")),
        1 => colours.paint(Tone::Alarming, &format!("{subject} cannot be started here: 1 error")),
        count => colours.paint(Tone::Alarming, &format!("{subject} cannot be started here: {count} errors")),
    });
    out.push('\n');
    out
}
