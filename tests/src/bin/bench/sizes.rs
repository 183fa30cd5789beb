//! Sizes of the programs on disk.
use std::fs;
use std::path::Path;

use rspawn_tests::program;

use crate::contestants::find_program;
use crate::{headline, skipped};

const OURS: [&str; 3] = ["rspawn", "rspawn-setup", "rspawn-init"];
const OTHERS: [&str; 6] = ["tini", "tini-static", "catatonit", "runc", "crun", "bwrap"];

pub fn sizes_section() {
    headline("binary sizes, kB (libraries that are loaded are not counted)");
    for name in OURS {
        print_size(name, &program(name));
    }
    for name in OTHERS {
        match find_program(name) {
            Some(path) => print_size(name, &path),
            None => skipped(name, "not installed"),
        }
    }
}

fn print_size(name: &str, path: &Path) {
    let bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
    println!("  {name:<20} {:>8.1}", bytes as f64 / 1024.0);
}
