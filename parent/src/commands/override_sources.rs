//! Overrides on their way: read with the invoker's rights, applied without any.
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rspawn_host::inputs::settings_file;
use rspawn_proto::policy::Policy;

use crate::cli::overrides::OverrideOptions;
use rspawn_host::deputies::ephemeral_dir::{self, EphemeralDir};
use rspawn_host::deputies::path_answers::Kind;
use rspawn_host::deputies::path_prober::PathProber;
use rspawn_host::deputies::tidier::{Leavings, Tidier};
use rspawn_host::inputs::settings_file::{Choice, SettingsFile};
use rspawn_planner::default_spec::default_process;
use rspawn_planner::nspawn::{Document, Login, NspawnDefaults};
use rspawn_planner::oci::Spec;
use rspawn_planner::overrides::apply::{Applied, RootfsFacts, apply};
use rspawn_planner::overrides::mounts::ExtraMount;
use rspawn_planner::overrides::network::RESOLVER;
use rspawn_planner::overrides::{Overrides, Sourced, Volatile};
use rspawn_planner::problem::Problem;
use rspawn_planner::seccomp::Arch;
use rspawn_planner::start_facts::Look;

/// What is to be done with the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// A container is started, and this process stays until it ends.
    Foreground,
    /// A container is made that outlives this process.
    Detached,
    /// It is only looked at: nothing is made.
    Look,
}

/// Where a container's root is, as far as it is known before config.json is read.
pub struct SettingsLocation<'a> {
    /// The container's name, after which a settings file is called.
    pub name: &'a str,
    /// Directories in which an untrusted settings file may lie.
    pub beside: Vec<PathBuf>,
    /// Whether a settings file is looked for where nothing is said.
    pub search: bool,
    /// The root itself, where no bundle names it.
    pub root: Option<&'a Path>,
    /// What a bundle gets where it is silent (`--oci-bundle=`).
    pub nspawn_defaults: Option<&'a NspawnDefaults>,
}

/// Overrides from every source, and what has to be asked before they can be applied.
pub struct OverrideSources {
    command_line: Overrides,
    trusted: Option<Overrides>,
    /// Not read yet.
    untrusted: Option<SettingsFile>,
    prober: Option<PathProber>,
    scratch: Option<EphemeralDir>,
    tidier: Option<Tidier>,
    nspawn_defaults: Option<NspawnDefaults>,
    cpus: Option<Sourced<Vec<usize>>>,
    notes: Vec<Problem>,
}

impl OverrideSources {
    /// Reads what is trusted, opens what is not: before privileges go.
    pub fn read(
        options: &OverrideOptions,
        command: &[String],
        place: &SettingsLocation,
        intent: Intent,
    ) -> Result<Self, String> {
        let mut command_line = options.overrides(command)?;
        let fallback = if place.search { Choice::Search } else { Choice::No };
        let file = settings_file::open(&options.settings()?.unwrap_or(fallback), place.name, &place.beside)?;
        let mut notes = Vec::new();
        let (trusted, untrusted) = match file {
            Some(file) if file.trusted => {
                let settings = file.read()?;
                notes.extend(settings.notes);
                (Some(settings.overrides), None)
            }
            other => (None, other),
        };
        let mut trusted = trusted;
        for overrides in trusted.iter_mut().chain([&mut command_line]) {
            notes.extend(overrides.drop_missing(|path| Path::new(path).exists()));
        }
        let tidier = match intent {
            Intent::Look => None,
            _ => make_directories(trusted.iter().chain([&command_line]), place.root.and_then(Path::to_str), intent)?,
        };
        let sources = || trusted.iter().chain([&command_line]);
        // Without a command it may be a user's shell that is run.
        let may_log_in = place.nspawn_defaults.is_some() && command.is_empty();
        let must_look = untrusted.is_some() || may_log_in || sources().any(Overrides::asks_of_the_root);
        let prober = must_look.then(PathProber::start).transpose();
        let prober = prober.map_err(|error| format!("cannot start a second process to look at files: {error}"))?;
        let overlay = |said: &Sourced<Volatile>| said.value == Volatile::Overlay;
        let wants_scratch =
            sources().filter_map(|overrides| overrides.volatile.as_ref()).next_back().filter(|said| overlay(said));
        let scratch = match (intent, wants_scratch) {
            (Intent::Detached, Some(said)) => {
                let reason = "what it writes would outlive this process, which removes it: only for the foreground";
                return Err(format!("{}: {reason}", said.origin));
            }
            (Intent::Foreground, Some(said)) => {
                Some(EphemeralDir::make().map_err(|reason| format!("{}: {reason}", said.origin))?)
            }
            _ => None,
        };
        let cpus = sources().filter_map(|overrides| overrides.cpu_affinity.as_ref()).next_back().cloned();
        let nspawn_defaults = place.nspawn_defaults.cloned();
        Ok(Self { command_line, trusted, untrusted, prober, scratch, tidier, nspawn_defaults, cpus, notes })
    }

    /// Leaves out what nobody has asked for and a policy does not grant.
    pub fn obey(&mut self, policy: &Policy) {
        if let Some(nspawn_defaults) = &mut self.nspawn_defaults {
            nspawn_defaults.obey(policy);
        }
    }

    /// What was made for the start is the container's from now on.
    pub fn started(&self) {
        self.tidier.iter().for_each(Tidier::started);
    }

    /// CPUs to run on, and who said so.
    pub fn cpus(&self) -> Option<&Sourced<Vec<usize>>> {
        self.cpus.as_ref()
    }

    /// The same for the planner.
    pub fn cpu_mask(&self) -> Vec<u64> {
        let mut mask = Vec::new();
        for cpu in self.cpus.iter().flat_map(|said| &said.value) {
            mask.resize(mask.len().max(cpu / 64 + 1), 0);
            mask[cpu / 64] |= 1 << (cpu % 64);
        }
        mask
    }

    /// Lays everything over a configuration: after privileges have gone.
    pub fn apply(&self, spec: &mut Spec, about: &About) -> Result<Applied, String> {
        let untrusted = self.untrusted.as_ref().map(SettingsFile::read).transpose()?;
        let mut notes = self.notes.clone();
        notes.extend(untrusted.iter().flat_map(|settings| settings.notes.clone()));
        let mut done = Applied { notes, ..Applied::default() };
        if let Some(said) = &self.cpus {
            done.origins.replace("/process/execCPUAffinity", &said.origin);
        }
        let from_file = untrusted.as_ref().map(|settings| &settings.overrides);
        let sources = [from_file, self.trusted.as_ref(), Some(&self.command_line)];
        self.lay_over(spec, &sources.into_iter().flatten().collect::<Vec<_>>(), about, &mut done)?;
        Ok(done)
    }

    /// The configuration without anybody's changes, but as it is started.
    pub fn leave(&self, spec: &mut Spec, about: &About) -> Result<Applied, String> {
        let mut done = Applied::default();
        self.lay_over(spec, &[], about, &mut done)?;
        Ok(done)
    }

    fn lay_over(
        &self,
        spec: &mut Spec,
        sources: &[&Overrides],
        about: &About,
        done: &mut Applied,
    ) -> Result<(), String> {
        match &self.nspawn_defaults {
            Some(nspawn_defaults) => {
                let document = Document::of(about.text)?;
                nspawn_defaults.begin(spec, &document, done);
                let mut after = spec.clone();
                self.change(&mut after, sources, about, &mut Applied::default());
                let login = || self.login(&after, about);
                nspawn_defaults.complete(spec, &after, &document, about.arch, login, done);
            }
            None => {
                // With a command there is a process to run, whatever the bundle says of it.
                let command = sources.iter().filter_map(|overrides| overrides.args.as_ref()).next_back();
                if let (Some(said), None) = (command, &spec.process) {
                    spec.process = Some(default_process(false));
                    done.origins.replace("/process", &said.origin);
                }
            }
        }
        self.change(spec, sources, about, done);
        Ok(())
    }

    fn change(&self, spec: &mut Spec, sources: &[&Overrides], about: &About, done: &mut Applied) {
        for overrides in sources {
            let known = self.look(spec, overrides, about.bundle);
            apply(spec, overrides, &known, done);
        }
    }

    fn login(&self, spec: &Spec, about: &About) -> Login {
        match (&self.prober, root_of(spec, about.bundle)) {
            (Some(prober), Some(root)) => login(spec, &root, prober),
            _ => Login { shell: "/bin/sh".into(), home: "/".into() },
        }
    }

    fn look(&self, spec: &Spec, overrides: &Overrides, bundle: &str) -> RootfsFacts {
        let scratch = self.scratch.as_ref().map_or_else(ephemeral_dir::would_be, |scratch| scratch.path.clone());
        let mut known = RootfsFacts { scratch, ..RootfsFacts::default() };
        let (Some(prober), Some(root)) = (&self.prober, root_of(spec, bundle)) else { return known };
        known.database = overrides.names_a_user().then(|| prober.users(&root));
        known.lacks_cwd = overrides.cwd.as_ref().is_some_and(|said| lacks(prober, &root, &said.value));
        known.usr_links = overrides.has_volatile_root().then(|| prober.usr_links(&root));
        known.resolver = overrides.shares_the_network() && has_resolver(prober, &root);
        known
    }
}

/// What is to be known of a configuration beside it.
pub struct About<'a> {
    /// As it is written.
    pub text: &'a [u8],
    /// Where its relative paths start.
    pub bundle: &'a str,
    pub arch: Option<Arch>,
}

/// The container's root, as a path of the host.
fn root_of(spec: &Spec, bundle: &str) -> Option<String> {
    let path = &spec.root.as_ref()?.path;
    Some(if path.starts_with('/') { path.clone() } else { format!("{bundle}/{path}") })
}

/// What cannot be looked at is not bound: the container starts without.
fn has_resolver(prober: &PathProber, root: &str) -> bool {
    let is_host = root.bytes().all(|byte| byte == b'/');
    let of_root = || prober.what_below(root, RESOLVER.trim_start_matches('/'));
    !is_host && matches!(prober.leads_to(RESOLVER), Ok(Ok(_))) && matches!(of_root(), Ok(Ok(_)))
}

/// Makes the work directories of writable overlays, each beside its upper layer; and sees to it that they go with a run
/// in the foreground, and with a start that fails. One that is there already may be another container's.
fn make_directories<'a>(
    sources: impl Iterator<Item = &'a Overrides>,
    root: Option<&str>,
    intent: Intent,
) -> Result<Option<Tidier>, String> {
    let mut leavings = Leavings::default();
    let wanted = |said: &'a Sourced<ExtraMount>| Some((said.value.work_directory.as_deref()?, &said.origin));
    let wanted: Vec<_> = sources.flat_map(|overrides| &overrides.mounts).filter_map(wanted).collect();
    let mut noted = root.map_or(Ok(()), |root| leavings.add_root(root));
    for (path, _) in &wanted {
        noted = noted.and_then(|()| leavings.add_work_directory(path, intent == Intent::Detached));
    }
    let tidier = noted.and_then(|()| Tidier::start(leavings));
    let tidier = tidier.map_err(|error| format!("cannot start a second process to remove directories: {error}"))?;
    for (path, origin) in wanted {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(format!("{origin}: cannot make its work directory {path}: {error}"));
            }
            _ => {}
        }
    }
    Ok(tidier)
}

/// Whether a root has no directory of a name. What cannot be asked is the start's to find out.
fn lacks(prober: &PathProber, root: &str, path: &str) -> bool {
    let below = |path: &str| prober.what_below(root, path);
    let missing = matches!(below(path.trim_start_matches('/')), Ok(Err(libc::ENOENT | libc::ENOTDIR)));
    missing && matches!(below(""), Ok(Ok(Kind::Directory)))
}

/// What who logs in gets, by the user database and the files of the container's root.
fn login(spec: &Spec, root: &str, prober: &PathProber) -> Login {
    let below = |path: &str| prober.what_below(root, path.trim_start_matches('/'));
    // Without a database, root's shell and home as everywhere.
    let database = prober.users(root).unwrap_or_default();
    let is_there = |path: &str| below(path).is_ok_and(|found| found.is_ok());
    Login::of(spec, &database, is_there, |path| matches!(below(path), Ok(Ok(Kind::Directory))))
}
