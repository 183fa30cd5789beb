//! The house stays in order: no circle between the files of a crate, no function over 60 lines, no file over 400, and
//! nothing in the planner that could ask for a file, the time or a variable. Lines are those that are neither blank nor
//! comment, without unit tests.
#[path = "house/functions.rs"]
mod functions;
#[path = "house/graph.rs"]
mod graph;
#[path = "house/tokens.rs"]
mod tokens;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use functions::lengths;
use graph::Crate;
use rspawn_tests::sources::{code_lines, sources_of, workspace};

const MOST_LINES_OF_A_FUNCTION: usize = 60;
const MOST_LINES_OF_A_FILE: usize = 400;

/// Tables: what they are read for is one line of them.
fn is_table(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("syscalls_"))
}

/// Every crate of the programs. Those of the parent may become more.
fn crates() -> Vec<String> {
    let mut found = Vec::new();
    ["parent", "helpers", "init", "proto"].iter().for_each(|name| collect(&workspace().join(name), &mut found));
    for known in
        ["parent", "helpers/setup", "helpers/sys", "helpers/hooks", "helpers/systemd", "helpers/nolibc", "init"]
    {
        assert!(found.iter().any(|name| name == known), "{known} is not among {found:?}");
    }
    found
}

fn collect(directory: &Path, found: &mut Vec<String>) {
    if directory.join("Cargo.toml").is_file() {
        found.push(directory.strip_prefix(workspace()).expect("in the workspace").to_string_lossy().into_owned());
    }
    for entry in fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry")) {
        if entry.path().is_dir() && entry.file_name() != "src" && entry.file_name() != "target" {
            collect(&entry.path(), found);
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn load(package: &str) -> Crate {
    let top = workspace().join(package).join("src");
    let name = |path: &PathBuf| path.strip_prefix(&top).expect("below src").to_string_lossy().into_owned();
    let sources: Vec<(String, String)> = sources_of([package]).iter().map(|path| (name(path), read(path))).collect();
    Crate::read(&sources)
}

#[test]
fn no_file_uses_one_that_uses_it() {
    for package in crates() {
        let circles = load(&package).circles();
        assert!(circles.is_empty(), "circles in {package}:\n{}", circles.join("\n"));
    }
}

/// Every file of the programs that is no table.
fn files() -> impl Iterator<Item = PathBuf> {
    sources_of(crates().iter().map(String::as_str)).into_iter().filter(|path| !is_table(path))
}

#[test]
fn functions_are_short() {
    let long = |path: PathBuf| {
        let all = lengths(&read(&path)).into_iter();
        let long = all.filter(|(_, lines)| *lines > MOST_LINES_OF_A_FUNCTION);
        long.map(|(name, lines)| format!("{}: {name} has {lines} lines", path.display())).collect::<Vec<_>>()
    };
    assert_eq!(files().flat_map(long).collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn files_are_short() {
    let long = files().map(|path| (code_lines(&path), path)).filter(|(lines, _)| *lines > MOST_LINES_OF_A_FILE);
    assert_eq!(long.collect::<Vec<_>>(), Vec::new());
}

/// What cargo prints, and that it succeeds.
fn cargo(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    command.arg(arguments[0]).arg("--offline").args(&arguments[1..]);
    let output = command.current_dir(workspace()).output().expect("cargo");
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn the_planner_has_no_standard_library() {
    let sources = sources_of(["parent/planner"]);
    let root = read(&workspace().join("parent/planner/src/lib.rs"));
    assert!(root.contains("\n#![no_std]\n") && root.contains("\n#![forbid(unsafe_code)]\n"));
    for path in &sources {
        assert!(!read(path).contains("extern crate std"), "{}", path.display());
    }
    // What it is made of, and none of it with the standard library: another crate's wishes are not in this.
    let arguments = ["--package", "rspawn-planner", "--edges", "normal,no-proc-macro", "--prefix", "none"];
    let tree = cargo(&[&["tree"], &arguments[..], &["--format", "{p} {f}"]].concat());
    let mut made_of = BTreeSet::new();
    for line in tree.lines() {
        let features = line.rsplit(' ').next().expect("a word").split(',');
        assert!(!features.into_iter().any(|feature| feature == "std"), "{line}");
        made_of.insert(line.split(' ').next().expect("a name"));
    }
    let known = [
        "bincode", "itoa", "libm", "memchr", "rspawn-planner", "rspawn-proto", "serde", "serde_core", "serde_json",
        "serde_path_to_error", "unty", "zmij",
    ];
    assert_eq!(made_of.into_iter().collect::<Vec<_>>(), known);
    // It compiles with these features alone, in a directory where nothing else was compiled.
    let alone = concat!(env!("CARGO_TARGET_TMPDIR"), "/planner-alone");
    cargo(&["check", "--quiet", "--package", "rspawn-planner", "--target-dir", alone]);
}

/// The circles of a crate that is written here.
fn circles_of(sources: &[(&str, &str)]) -> Vec<String> {
    let sources: Vec<(String, String)> =
        sources.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
    let first_line = |circle: String| circle.lines().next().expect("the files").to_string();
    Crate::read(&sources).circles().into_iter().map(first_line).collect()
}

#[test]
fn circles_are_found() {
    let root = ("lib.rs", "mod a; mod b; mod c;");
    let circle = ["a.rs, b.rs"];
    for (a, b) in [
        ("use crate::b::f;", "use crate::a::g;"),
        ("use super::b::f;", "use super::a::{self, g}; fn h() { a::i() }"),
        ("fn g() { crate::b::f() }", "fn f() { crate::a::g() }"),
        ("use crate::b;\nfn g() { b::f() }", "use crate::{a as other};\nfn f() { other::g() }"),
        ("use crate::{b::{self, f}, c};", "fn f() { println!(\"{}\", crate::a::g()) }"),
        ("pub struct A(crate::b::B);", "impl crate::a::A {}"),
        ("use crate::b::*;", "mod inner { use super::super::a::g; }"),
        // What another file passes on is that file's neither.
        ("use crate::c::f;", "use crate::a::g;\npub fn f() {}"),
    ] {
        let c = ("c.rs", "pub use crate::b::f;");
        assert_eq!(circles_of(&[root, ("a.rs", a), ("b.rs", b), c]), circle, "{a} | {b}");
    }
    let three = [root, ("a.rs", "use crate::b::f;"), ("b.rs", "use crate::c::g;"), ("c.rs", "use crate::a::h;")];
    assert_eq!(circles_of(&three), ["a.rs, b.rs, c.rs"]);
    let with_root = [("main.rs", "mod a;\nfn say() {}\nfn main() { a::run() }"), ("a.rs", "use crate::say;")];
    assert_eq!(circles_of(&with_root), ["a.rs, main.rs"]);
    let with_child = [("lib.rs", "mod a;"), ("a/mod.rs", "mod b;\nfn f() { b::g() }"), ("a/b.rs", "use super::f;")];
    assert_eq!(circles_of(&with_child), ["a/b.rs, a/mod.rs"]);
}

#[test]
fn what_is_no_circle_is_not_found() {
    let root = ("lib.rs", "mod a; mod b;");
    for (a, b) in [
        ("use crate::b::f;", "use other::a::g;"),
        (
            "use crate::b::f;",
            "// use crate::a::g;\n/* crate::a::g() /* */ */ fn f() -> &'static str { \"crate::a::g\" }",
        ),
        ("use crate::b::f;", "fn f() { r#\"use crate::a::g;\"#; '\"'; \"crate::a::g\" }"),
        ("use crate::b::f;", "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::a::g;\n}"),
        ("use crate::b::f;", "fn f() {}\n#[cfg(test)]\nuse crate::a::g;\nfn h() {}"),
        // A name that is imported from elsewhere.
        ("use crate::b::f;", "use other::a;\nfn f() { a::g() }"),
        ("use crate::b::f;", "use crate::a;\nfn f() {}"),
    ] {
        assert!(circles_of(&[root, ("a.rs", a), ("b.rs", b)]).is_empty(), "{a} | {b}");
    }
    // A module that passes on what its children have, and a child that uses what is defined there or passed on.
    let parent = ("a/mod.rs", "mod b;\nmod c;\npub use b::f;\npub struct T;");
    let family = [("lib.rs", "mod a;"), parent, ("a/b.rs", "use super::T;"), ("a/c.rs", "use super::{T, f};")];
    assert!(circles_of(&family).is_empty());
    // Unit tests in a file of their own; and a program beside its library.
    let tests =
        [("lib.rs", "mod a;\n#[cfg(test)]\nmod tests;"), ("a.rs", "fn f() {}"), ("tests.rs", "use crate::a::f;")];
    assert!(circles_of(&tests).is_empty());
    assert!(circles_of(&[("lib.rs", "pub fn f() {}"), ("main.rs", "crate::f!();")]).is_empty());
}

#[test]
fn functions_are_measured() {
    let text = "fn a() {\n    // a comment\n\n    b('{', \"}\n{\");\n}\ntrait T {\n    fn c();\n    fn d(&self) -> [u8; 2] {\n        \
                [0; 2]\n    }\n}\n#[cfg(test)]\nmod tests {\n    fn e() {}\n}\ntype F = fn(u8);\n";
    assert_eq!(lengths(text), [("a".to_string(), 4), ("d".to_string(), 3)]);
}
