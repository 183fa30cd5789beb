//! The suite's second lane: its containers are an ordinary user's, who has a range of subordinate ids. A test program of
//! the lane starts itself again, with a variable set. What cannot be a user's is named in [`super::exceptions`].
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::exceptions::{EXCEPTIONS, WITHOUT_COMMANDS};
use crate::user::{User, cannot_have_ranges};
use crate::{Scratch, cannot_make_containers};

/// The test that [`also_as_an_ordinary_user!`](crate::also_as_an_ordinary_user) makes.
pub const AGAIN: &str = "as_an_ordinary_user";

/// Set in the lane, to a file for the names of tests of which the user has run a command, or which have said why they
/// are skipped. By hand: `RSPAWN_TEST_AS_USER=/dev/null cargo test --test exec`.
const VARIABLE: &str = "RSPAWN_TEST_AS_USER";

thread_local! {
    /// Scratch directories of the running test.
    static SCRATCHES: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
}

/// The tests of a program once more, in containers of an ordinary user's.
#[macro_export]
macro_rules! also_as_an_ordinary_user {
    () => {
        #[test]
        fn as_an_ordinary_user() {
            $crate::lanes::user::run_again();
        }
    };
}

fn ran() -> Option<OsString> {
    std::env::var_os(VARIABLE)
}

/// Whether this process is of that lane.
pub fn is_here() -> bool {
    ran().is_some()
}

/// The user whose a bundle is on this lane.
pub fn user() -> Option<User> {
    if is_here() { User::with_range() } else { None }
}

/// Called for every scratch directory.
pub fn note_scratch(path: &Path) {
    if is_here() {
        SCRATCHES.with_borrow_mut(|all| all.push(path.to_path_buf()));
    }
}

/// On this lane, the scratch directories of the running test: what it puts there is meant for its user.
pub fn scratches() -> Vec<PathBuf> {
    SCRATCHES.with_borrow(Clone::clone)
}

/// The name of this test program.
fn program() -> String {
    let me = std::env::current_exe().expect("this program's path");
    // cargo adds `-HASH`, which no program of the tests has in its name.
    let name = me.file_name().expect("a name").to_string_lossy().into_owned();
    name.split('-').next().expect("the part before it").to_string()
}

/// The running test as PROGRAM::TEST, by the name that its thread has; none where no test runs.
fn test() -> Option<String> {
    let thread = std::thread::current();
    let name = thread.name().filter(|name| *name != "main")?;
    Some(format!("{}::{name}", program()))
}

/// The same, and the lane where it is this one.
pub fn full_name() -> Option<String> {
    test().map(|name| if is_here() { format!("as_user::{name}") } else { name })
}

/// True, with the reason printed, if the running test is none for an ordinary user.
pub fn is_exception() -> bool {
    if !is_here() {
        return false;
    }
    let name = test().expect("with --test-threads=1 tests have no names: leave it out on this lane");
    let exception = EXCEPTIONS.iter().find(|(exception, _)| *exception == name);
    if let Some((name, reason)) = exception {
        println!("EXCEPTION: {name}: {reason}");
    }
    exception.is_some()
}

/// Called for every command that is a user's, and where a test is skipped.
pub fn note_test() {
    let (Some(file), Some(test)) = (ran(), test()) else { return };
    let mut file = OpenOptions::new().append(true).open(file).expect("the list of what ran");
    // In one piece: other tests write to the same file.
    file.write_all(format!("{test}\n").as_bytes()).expect("the list of what ran");
}

/// What cargo's harness shows, with the lane in the tests' names.
fn show(program: &str, text: &str) {
    let mut shown = String::new();
    for line in text.lines() {
        match line.strip_prefix("test ").filter(|rest| !rest.starts_with("result:")) {
            Some(rest) => shown.push_str(&format!("test as_user::{program}::{rest}\n")),
            None => shown.push_str(&format!("{line}\n")),
        }
    }
    // Not by `print!`, which the harness keeps for itself.
    std::io::stdout().lock().write_all(shown.as_bytes()).expect("standard output");
}

/// Every test of this program, as PROGRAM::TEST.
fn tests() -> BTreeSet<String> {
    let me = std::env::current_exe().expect("this program's path");
    let list = crate::finish(command(&me, &["--list", "--skip", AGAIN]), b"").ok();
    let program = program();
    list.lines().filter_map(|line| line.strip_suffix(": test")).map(|name| format!("{program}::{name}")).collect()
}

fn command(path: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(path);
    command.args(arguments);
    command
}

/// Runs this test program again, on the lane. Of each test that is on no list the user must have run a command: else
/// it said nothing about a user's containers.
pub fn run_again() {
    if is_here() || cannot_make_containers() || cannot_have_ranges() {
        return;
    }
    let (program, tests) = (program(), tests());
    let listed = EXCEPTIONS.iter().chain(&WITHOUT_COMMANDS).map(|(name, _)| *name);
    let listed: BTreeSet<&str> = listed.filter(|name| name.split("::").next() == Some(&program)).collect();
    let unknown: Vec<_> = listed.iter().filter(|name| !tests.contains(**name)).collect();
    assert!(unknown.is_empty(), "on a list, and no tests: {unknown:#?}");

    let scratch = Scratch::make();
    let ran = scratch.path.join("ran");
    fs::write(&ran, "").expect("a list");
    let mut again = command(&std::env::current_exe().expect("this program's path"), &["--skip", AGAIN]);
    let output = again.env(VARIABLE, &ran).output().expect("this program again");
    show(&program, &String::from_utf8_lossy(&output.stdout));
    std::io::stderr().lock().write_all(&output.stderr).expect("standard error");
    assert!(output.status.success(), "{program} as an ordinary user: {}", output.status);

    let text = fs::read_to_string(&ran).expect("the list");
    let ran: BTreeSet<&str> = text.lines().collect();
    let missing = tests.iter().map(String::as_str).filter(|name| !ran.contains(name) && !listed.contains(name));
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&str>::new(), "by whom did their containers run?");
}
