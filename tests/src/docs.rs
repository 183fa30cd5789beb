//! Commands as the documents have them: what is between ```sh and ``` is run as it stands.
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::sources::workspace;
use crate::{Output, Scratch, finish, program};

/// The blocks of a page in parent/docs, in their order.
pub fn blocks(page: &str) -> Vec<String> {
    let text = fs::read_to_string(workspace().join("parent/docs").join(page)).expect("the page");
    let mut parts = text.split("\n```sh\n");
    parts.next();
    let blocks: Vec<String> =
        parts.map(|part| part.split_once("\n```").expect("the end of a block").0.to_string()).collect();
    assert!(!blocks.is_empty(), "{page} has no block of commands");
    blocks
}

/// Runs commands in a directory, by a shell that ends with the first that fails. `rspawn` is the one under test, and
/// `sudo` nothing: the test is root already.
pub fn run(directory: &Path, commands: &str) -> Output {
    let tools = Scratch::new();
    symlink(program("rspawn"), tools.path.join("rspawn")).expect("rspawn by its name");
    let sudo = tools.path.join("sudo");
    fs::write(&sudo, "#!/bin/sh\nexec \"$@\"\n").expect("a file");
    fs::set_permissions(&sudo, fs::Permissions::from_mode(0o755)).expect("a program");
    let mut path = vec![tools.path.clone()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect::<Vec<PathBuf>>());
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", commands]).current_dir(directory);
    shell.env("PATH", std::env::join_paths(path).expect("directories"));
    finish(shell, b"")
}
