//! One configuration under several policies.
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rspawn_tests::hostile::only;
use rspawn_tests::mountinfo::in_private_mounts;
use rspawn_tests::{Bundle, Output, Scratch, finish};

#[derive(Default)]
pub struct Counts {
    pub granted: usize,
    pub refused: usize,
}

/// A part of the host that bundles show, with what must not change unless it is granted.
pub struct Ground {
    pub scratch: Scratch,
}

impl Ground {
    /// `data`, `data/sub`, `other`, `secret`, `secret/sub`, each with a `file`; links to them; a second name of a secret.
    pub fn lay_out() -> Self {
        let scratch = Scratch::new();
        let at = |name: &str| scratch.path.join(name);
        for directory in ["data/sub", "datax", "other", "secret/sub", "outer/in", "alias", "links"] {
            fs::create_dir_all(at(directory)).unwrap();
        }
        for directory in ["data", "data/sub", "datax", "other", "secret", "secret/sub"] {
            fs::write(at(directory).join("file"), format!("{directory}\n")).unwrap();
        }
        for (name, target) in [("link", "data"), ("links/secret", "../secret"), ("links/data", "../data")] {
            std::os::unix::fs::symlink(target, at(name)).unwrap();
        }
        fs::hard_link(at("secret/file"), at("other/hard")).unwrap();
        Self { scratch }
    }

    pub fn path(&self, name: &str) -> String {
        self.scratch.path.join(name).display().to_string()
    }

    fn file(&self) -> PathBuf {
        self.scratch.path.join("policy.conf")
    }

    /// What of it a refused container may not have changed.
    fn state(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        collect(&self.scratch.path, &mut found);
        found.retain(|(path, _)| *path != self.file());
        found
    }
}

fn collect(directory: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_symlink() {
            found.push((path.clone(), fs::read_link(&path).unwrap().to_string_lossy().as_bytes().into()));
        } else if path.is_dir() {
            found.push((path.clone(), Vec::new()));
            collect(&path, found);
        } else {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
}

/// A configuration. In policies `@` stands for its bundle, `S` followed by a slash for the ground.
pub struct Trial<'a> {
    pub ground: &'a Ground,
    pub name: &'a str,
    pub bundle: Bundle,
    /// Mounts that the host has meanwhile, as a shell script; `$S` is the ground.
    pub mounts: &'a str,
}

impl<'a> Trial<'a> {
    pub fn new(ground: &'a Ground, name: &'a str, bundle: Bundle) -> Self {
        Self { ground, name, bundle, mounts: "" }
    }

    pub fn under(mut self, mounts: &'a str) -> Self {
        self.mounts = mounts;
        self
    }

    fn run(&self, policy: &str) -> Output {
        let text = policy.replace('@', &self.bundle.path().display().to_string());
        let text = text.replace(" S/", &format!(" {}/", self.ground.scratch.path.display()));
        let file = self.ground.file();
        fs::write(&file, only(&text)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        self.bundle.write_config();
        let command = self.bundle.command(&[&format!("--policy={}", file.display())]);
        let command = if self.mounts.is_empty() {
            command
        } else {
            let script = format!("S={}; {}; exec \"$@\"", self.ground.scratch.path.display(), self.mounts);
            in_private_mounts(&script, &command)
        };
        finish(self.bundle.by_its_user(command), b"")
    }

    /// Policies that grant it: it does what it does.
    #[track_caller]
    pub fn granted(self, counts: &mut Counts, policies: &[&str]) -> Self {
        for policy in policies {
            let output = self.run(policy);
            assert_eq!(output.status, 0, "{}: {policy}: {output:?}", self.name);
            assert!(output.stdout.contains("ran"), "{}: {policy}: {output:?}", self.name);
            counts.granted += 1;
        }
        self
    }

    /// Policies that refuse it, each by a key: nothing has happened.
    #[track_caller]
    pub fn refused(self, counts: &mut Counts, policies: &[(&str, &str)]) -> Self {
        for (policy, key) in policies {
            let before = self.ground.state();
            let output = self.run(policy);
            let said = format!("{}: {policy}: {output:?}", self.name);
            assert_eq!((output.status, output.stdout.as_str()), (1, ""), "{said}");
            assert!(output.stderr.contains("the policy refuses this container"), "{said}");
            // A key, or a word of what it says.
            assert!(output.stderr.contains(key), "{said}");
            assert!(self.ground.state() == before, "{said}: the host has changed");
            self.bundle.assert_nothing_left();
            counts.refused += 1;
        }
        self
    }
}
