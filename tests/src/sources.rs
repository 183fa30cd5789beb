//! The sources of the programs: which have what rights, and how much code they are.
use std::fs;
use std::path::{Path, PathBuf};

/// What has rights that no payload has. Its size is held by tests/budget.rs.
pub const PRIVILEGED: [&str; 5] = ["proto", "helpers/sys", "helpers/nolibc", "helpers/setup", "init"];

/// With the invoker's rights too, but only where there is something to do, and with nothing but that job: programs of
/// config.json to execute, a question to systemd.
pub const BESIDE: [&str; 2] = ["helpers/hooks", "helpers/systemd"];

/// What has no rights at all while it handles a bundle.
pub const CONFINED: [&str; 4] = ["parent/planner", "parent/report", "parent/host", "parent"];

pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_path_buf()
}

/// Every Rust source of these packages.
pub fn sources_of<'a>(packages: impl IntoIterator<Item = &'a str>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    packages.into_iter().for_each(|name| collect(&workspace().join(name).join("src"), &mut found));
    found
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a source directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Lines that are neither blank nor comment, without the unit tests that end a file.
pub fn code_lines(path: &Path) -> usize {
    let text = fs::read_to_string(path).expect("a source file");
    let code = text.rsplit_once("#[cfg(test)]\nmod tests {").map_or(text.as_str(), |(code, _)| code);
    code.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

/// The same of a whole package.
pub fn lines_of(package: &str) -> usize {
    sources_of([package]).iter().map(|path| code_lines(path)).sum()
}
