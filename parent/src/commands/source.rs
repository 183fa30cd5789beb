//! What a container is made from.
use std::path::{Path, PathBuf};

use rspawn_host::inputs;
use rspawn_host::inputs::bundle::Bundle;
use rspawn_planner::facts::Facts;
use rspawn_planner::nspawn::NspawnDefaults;
use rspawn_planner::oci::Spec;

use super::override_sources::SettingsLocation;

/// What a container is made from.
pub enum Source {
    Bundle(Bundle),
    /// A bundle, and what nspawn does where it is silent.
    Oci(Bundle, NspawnDefaults),
    Host {
        args: Vec<String>,
        terminal: bool,
        term: Option<String>,
    },
    /// A root filesystem without a configuration.
    Directory {
        path: PathBuf,
        name: String,
        terminal: bool,
        term: Option<String>,
    },
}

impl Source {
    /// The directory that the command line names: what a policy without `bind.allow` lets a container show.
    pub fn shown(&self) -> Option<&str> {
        match self {
            Source::Bundle(bundle) | Source::Oci(bundle, _) => Some(&bundle.path),
            Source::Directory { path, .. } => path.to_str(),
            Source::Host { .. } => None,
        }
    }

    pub fn directory(&self) -> String {
        match self {
            Source::Bundle(bundle) | Source::Oci(bundle, _) => bundle.path.clone(),
            Source::Host { .. } | Source::Directory { .. } => "/".into(),
        }
    }

    /// The directory that `--directory=` names. `name` is the container's, if it has been given one.
    pub fn open_directory(directory: &Path, name: Option<&str>, terminal: bool) -> Result<Self, String> {
        let say = |error: &dyn std::fmt::Display| format!("cannot use the directory {}: {error}", directory.display());
        let path = directory.canonicalize().map_err(|error| say(&error))?;
        if !path.is_dir() {
            return Err(say(&"it is not a directory"));
        }
        if path.to_str().is_none() {
            return Err(say(&"its path is not UTF-8"));
        }
        let own_name = || path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = name.map_or_else(own_name, str::to_string);
        Ok(Source::Directory { path, name, terminal, term: std::env::var("TERM").ok() })
    }

    /// The bundle that `--oci-bundle=` names, and its container's name: the one given, or else the directory's.
    /// `attended` says whether a console leads to somebody, `console` whether one is asked for.
    pub fn open_oci(
        directory: &Path,
        config: Option<&Path>,
        id: Option<&str>,
        attended: bool,
        console: Option<bool>,
    ) -> Result<(Self, String), String> {
        let bundle = Bundle::open_with(directory, config)?;
        let name = id.map_or_else(|| inputs::nspawn::name_of(directory), |id| Ok(id.to_string()))?;
        let nspawn_defaults = inputs::nspawn::nspawn_defaults(name.clone(), &bundle.path, attended, console);
        Ok((Source::Oci(bundle, nspawn_defaults), name))
    }

    /// Where settings for it are looked for.
    pub fn settings_location<'a>(&'a self, id: Option<&'a str>) -> SettingsLocation<'a> {
        match self {
            Source::Bundle(bundle) | Source::Oci(bundle, _) => {
                let path = Path::new(&bundle.path);
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let beside = [Some(path), path.parent()].into_iter().flatten().map(Path::to_path_buf).collect();
                let nspawn_defaults =
                    if let Source::Oci(_, nspawn_defaults) = self { Some(nspawn_defaults) } else { None };
                SettingsLocation { name: id.unwrap_or(name), beside, search: false, root: None, nspawn_defaults }
            }
            Source::Host { .. } => SettingsLocation {
                name: id.unwrap_or("host"),
                beside: Vec::new(),
                search: false,
                root: None,
                nspawn_defaults: None,
            },
            Source::Directory { path, name, .. } => {
                let beside = path.parent().map(Path::to_path_buf).into_iter().collect();
                SettingsLocation { name, beside, search: true, root: Some(path), nspawn_defaults: None }
            }
        }
    }

    /// Reads and parses: only after privileges are gone. Gives the text too.
    pub fn parse(self, facts: &Facts) -> Result<(Spec, Vec<u8>), String> {
        match self {
            Source::Bundle(_) | Source::Oci(..) => {
                let bytes = self.read(facts)?;
                Ok((rspawn_planner::oci::parse(&bytes).map_err(|problem| problem.to_string())?, bytes))
            }
            Source::Host { args, terminal, term } => {
                own(rspawn_planner::default_spec::host_spec(args, terminal, term, facts.arch()), facts)
            }
            Source::Directory { path, name, terminal, term } => {
                let path = path.to_string_lossy();
                own(rspawn_planner::default_spec::directory_spec(&path, &name, terminal, term, facts.arch()), facts)
            }
        }
    }

    /// The text of the configuration, whatever is wrong with it: only after privileges are gone.
    pub fn read(self, facts: &Facts) -> Result<Vec<u8>, String> {
        match self {
            Source::Bundle(bundle) | Source::Oci(bundle, _) => bundle.read(),
            other => other.parse(facts).map(|(_, text)| text),
        }
    }
}

/// A configuration of rspawn's own, with its text.
fn own(mut spec: Spec, facts: &Facts) -> Result<(Spec, Vec<u8>), String> {
    if let Some(linux) = spec.linux.as_mut() {
        // All the ids there are: for the machine's root, those that it has already.
        (linux.uid_mappings, linux.gid_mappings) = facts.ids.everything();
    }
    let bytes = serde_json::to_vec(&spec).map_err(|error| error.to_string())?;
    Ok((spec, bytes))
}
