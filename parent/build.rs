//! Puts the commit into `rspawn --version`: `git describe --always --dirty`, and nothing where there is no git checkout
//! (a tarball) or no git. Runs again when HEAD moves, or when the sources change that rspawn is made of.
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The program's own sources: another state of them may make the tree dirty, or clean again.
    for sources in ["src", "planner", "report", "host", "../proto", "../helpers/sys", "../Cargo.lock"] {
        println!("cargo::rerun-if-changed={sources}");
    }
    // A tarball inside somebody else's checkout is not described by that checkout's commit.
    let Some(prefix) = git(&["rev-parse", "--show-prefix"]) else { return };
    if prefix != "parent/" {
        return;
    }
    for name in places_of_head() {
        if let Some(path) = git(&["rev-parse", "--git-path", &name]).filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    if let Some(commit) = git(&["describe", "--always", "--dirty"]) {
        println!("cargo::rustc-env=RSPAWN_COMMIT={commit}");
    }
}

/// The files below the git directory that say what HEAD is: itself, and the branch that it names, which may be packed.
fn places_of_head() -> Vec<String> {
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    ["HEAD", "logs/HEAD", "packed-refs"].map(String::from).into_iter().chain(branch).collect()
}

/// What git prints, if it is there and succeeds: without it the version has no commit, and the build goes on.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    if !output.status.success() {
        return None;
    }
    Some(String::from_utf8(output.stdout).ok()?.trim_end().to_string())
}
