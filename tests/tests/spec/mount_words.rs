//! The options of mounts that engines put into config.json: every word of the table in runc-flags.md.
use std::fs;
use std::os::unix::fs::symlink;

use rspawn_tests::mountinfo::{in_private_mounts, mount_at};
use rspawn_tests::{Bundle, cannot_make_containers, finish};
use serde_json::{Value, json};

const PAGE: &str = include_str!("../../../parent/docs/runc-flags.md");

/// Engines, a type of mount, and its words.
type Row = (String, String, Vec<String>);

/// The rows of the table, one for each type.
fn rows() -> Vec<Row> {
    let kernel = rspawn_host::facts::gather().unwrap().kernel;
    let table = PAGE.split_once("\n|engine|type|options|\n").expect("the table").1;
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_string).collect::<Vec<_>>();
    let lines = table.lines().take_while(|line| line.starts_with('|')).skip(1);
    let cells = lines.map(|line| line.trim_matches('|').split('|').collect::<Vec<_>>());
    let of_types = |cells: Vec<&str>| {
        let is_known = |word: &String| !word.starts_with("fsync=") && (word != "noswap" || kernel >= (6, 4));
        let words = quoted(cells[2]).into_iter().filter(is_known);
        let words: Vec<String> = words.collect();
        let types = quoted(cells[1]).into_iter();
        types.map(|kind| (cells[0].to_string(), kind, words.clone())).collect::<Vec<Row>>()
    };
    cells.flat_map(of_types).collect()
}

/// The mount that one word is tried on.
fn mount(kind: &str, word: &str, at: &str) -> Value {
    let (source, mut options) = match kind {
        "bind" => ("source", vec!["rbind"]),
        // What says that it is a bind is the word itself.
        "none" => ("source", vec![]),
        "overlay" => ("overlay", vec!["lowerdir=source:other,upperdir=over/up,workdir=over/work"]),
        other => (other, vec![]),
    };
    options.push(word);
    json!({"destination": at, "type": kind, "source": source, "options": options})
}

/// Mounts each word by itself, and gives what the payload sees of mounts.
fn mounted(kind: &str, words: &[String]) -> String {
    let bundle = Bundle::script("cat /proc/self/mountinfo").with(|config| {
        let mounts = words.iter().enumerate().map(|(index, word)| mount(kind, word, &at(index)));
        config["mounts"].as_array_mut().unwrap().extend(mounts);
    });
    ["source", "other", "over"].iter().for_each(|name| fs::create_dir(bundle.path().join(name)).unwrap());
    let over = bundle.path().join("over").display().to_string();
    let prepare = format!("mount -t tmpfs t {over}; mkdir {over}/up {over}/work; exec \"$@\"");
    let output = finish(in_private_mounts(&prepare, &bundle.command(&[])), b"");
    assert_eq!(output.status, 0, "{kind} {words:?}: {output:?}");
    output.stdout
}

fn at(index: usize) -> String {
    format!("/m{index}")
}

#[test]
fn every_word_that_an_engine_passes_on_works() {
    if cannot_make_containers() {
        return;
    }
    let rows = rows();
    for engine in ["docker", "containerd", "CRI", "nerdctl", "buildkit", "CRI-O", "podman", "buildah", "Nix"] {
        assert!(rows.iter().any(|(engines, ..)| engines.contains(engine)), "no row of {engine}");
    }
    for (engines, kind, words) in rows {
        // Two overlays cannot have one upper directory.
        let together = if kind == "overlay" { 1 } else { words.len() };
        for words in words.chunks(together) {
            let shown = mounted(&kind, words);
            for (index, word) in words.iter().enumerate() {
                let found = mount_at(&shown, &at(index));
                let attribute = if word == "rro" { "ro" } else { word };
                let is_attribute = ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime"].contains(&attribute);
                assert!(!is_attribute || found.has(attribute), "{engines} {kind} {word}: {found:?}");
            }
        }
    }
}

/// nixpkgs' ociTools writes them so.
#[test]
fn options_that_are_null_are_none() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("cat /proc/1/comm").with(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.iter_mut().find(|mount| mount["type"] == "proc").unwrap()["options"] = Value::Null;
    });
    assert_eq!(bundle.run().ok(), "rspawn-init\n");
}

/// What a link of the bundle's is, after each of two names for the same word.
#[test]
fn no_dereference_is_copy_symlink() {
    if cannot_make_containers() {
        return;
    }
    // The link is made anew, and nothing is mounted.
    let bundle = Bundle::script("readlink /one; readlink /two; grep -cE ' /(one|two) ' /proc/self/mountinfo; exit 0");
    symlink("target", bundle.path().join("link")).unwrap();
    let bundle = bundle.with_mount("/one", "bind", "link", &["bind", "copy-symlink"]).with_mount(
        "/two",
        "bind",
        "link",
        &["bind", "no-dereference"],
    );
    assert_eq!(bundle.run().ok(), "target\ntarget\n0\n");
}
