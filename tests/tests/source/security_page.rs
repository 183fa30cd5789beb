//! SECURITY.md: each promise names the tests that hold it, and they are there.
use std::fs;
use std::path::PathBuf;

use rspawn_tests::sources::workspace;

/// The source of a test program, in whichever folder.
fn program(name: &str) -> PathBuf {
    let folders = fs::read_dir(workspace().join("tests/tests")).expect("the folders");
    let paths = folders.map(|folder| folder.expect("a folder").path().join(format!("{name}.rs")));
    paths.into_iter().find(|path| path.exists()).unwrap_or_else(|| panic!("there is no test program {name}"))
}

#[test]
fn every_promise_names_tests_that_are_there() {
    let page = fs::read_to_string(workspace().join("SECURITY.md")).expect("the page");
    let (promised, _) = page.split_once("## Not promised").expect("two sections");
    let (_, promised) = promised.split_once("## Promised").expect("promises");
    let mut named = 0;
    for promise in promised.split("\n- ").skip(1) {
        let tests: Vec<(&str, &str)> = promise.split('`').filter_map(|word| word.split_once("::")).collect();
        // What a person's command line brings along is described, and tested where it is documented.
        assert!(!tests.is_empty() || promise.starts_with("Where the invoker names a user"), "no test: {promise}");
        for (file, test) in tests {
            let path = program(file);
            let mut text = fs::read_to_string(&path).expect("a source file");
            // Its parts, if it has some.
            for part in fs::read_dir(path.with_extension("")).into_iter().flatten() {
                text += &fs::read_to_string(part.expect("an entry").path()).expect("a source file");
            }
            assert!(text.contains(&format!("fn {test}()")), "{file}::{test} is named and does not exist");
            named += 1;
        }
    }
    assert!(named >= 40, "{named}");
}
