//! The house stays in order: no circle between the files of a crate, no function over 60 lines, no file over 400. Lines
//! are those that are neither blank nor comment, without unit tests.
#[path = "house/functions.rs"]
mod functions;
#[path = "house/graph.rs"]
mod graph;
#[path = "house/tokens.rs"]
mod tokens;

use std::fs;
use std::path::{Path, PathBuf};

use functions::lengths;
use graph::Crate;
use rspawn_tests::sources::{code_lines, sources_of, workspace};

/// Crates whose files still use each other in circles.
const CIRCULAR: [&str; 1] = ["parent"];

const MOST_LINES_OF_A_FUNCTION: usize = 60;
const MOST_LINES_OF_A_FILE: usize = 400;

/// Functions below parent/ that are still longer, by their names, and how long they are at most.
const LONG: [(&str, usize); 8] = [
    ("run", 103),
    ("finish", 67),
    ("one", 91),
    ("finish_lines", 67),
    ("inside", 67),
    ("audited", 159),
    ("audited", 105),
    ("audited", 68),
];

/// Files below parent/ that are still longer, by their names, and how long they are at most.
const LARGE: [(&str, usize); 0] = [];

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
        if CIRCULAR.contains(&package.as_str()) {
            assert!(!circles.is_empty(), "{package} has no circle any more: take it off the list");
        } else {
            assert!(circles.is_empty(), "circles in {package}:\n{}", circles.join("\n"));
        }
    }
}

/// What is too long, and not on a list, or no longer too long. An entry of the list stands for one thing of its name
/// below parent/ that is no longer than it says. The longest come first, so that each finds the entry that is left.
fn compare(found: Vec<(String, usize, PathBuf)>, list: &[(&str, usize)]) -> Result<(), String> {
    let (mut found, mut left) = (found, list.to_vec());
    found.sort_by_key(|(_, lines, _)| std::cmp::Reverse(*lines));
    for (name, lines, path) in found {
        let listed = left.iter().enumerate().filter(|(_, entry)| entry.0 == name && entry.1 >= lines);
        let closest = listed.min_by_key(|(_, entry)| entry.1).map(|(at, _)| at);
        let closest = closest.filter(|_| path.starts_with(workspace().join("parent")));
        left.remove(closest.ok_or_else(|| format!("{}: {name} has {lines} lines", path.display()))?);
    }
    if left.is_empty() { Ok(()) } else { Err(format!("no longer that long, take them off the list: {left:?}")) }
}

#[test]
fn functions_are_short() {
    let mut found = Vec::new();
    for path in sources_of(crates().iter().map(String::as_str)).into_iter().filter(|path| !is_table(path)) {
        let long = lengths(&read(&path)).into_iter().filter(|(_, lines)| *lines > MOST_LINES_OF_A_FUNCTION);
        found.extend(long.map(|(name, lines)| (name, lines, path.clone())));
    }
    compare(found, &LONG).unwrap_or_else(|reason| panic!("{reason}"));
}

#[test]
fn files_are_short() {
    let files = sources_of(crates().iter().map(String::as_str)).into_iter().filter(|path| !is_table(path));
    let found = files.map(|path| (code_lines(&path), path)).filter(|(lines, _)| *lines > MOST_LINES_OF_A_FILE);
    let name = |path: &PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
    let found = found.map(|(lines, path)| (name(&path), lines, path)).collect();
    compare(found, &LARGE).unwrap_or_else(|reason| panic!("{reason}"));
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

#[test]
fn what_is_long_is_found() {
    let path = workspace().join("parent/src/a.rs");
    let long = |name: &str, lines| (name.to_string(), lines, path.clone());
    assert_eq!(compare(vec![long("a", 70), long("a", 80)], &[("a", 70), ("a", 80)]), Ok(()));
    for (found, list) in [
        (vec![long("a", 81)], [("a", 80)]),
        (vec![long("b", 80)], [("a", 80)]),
        (vec![long("a", 70), long("a", 70)], [("a", 80)]),
        (vec![("a".into(), 70, workspace().join("init/src/a.rs"))], [("a", 80)]),
        (Vec::new(), [("a", 80)]),
    ] {
        assert!(compare(found.clone(), &list).is_err(), "{found:?} {list:?}");
    }
}
