//! What the integration tests share: bundles to run, ways to run them, and a look at what they left behind.
#![forbid(unsafe_code)]

pub mod bundle;
pub mod clients;
pub mod docs;
pub mod hostile;
pub mod lanes;
pub mod leftovers;
pub mod life;
pub mod mountinfo;
pub mod podman;
pub mod podman_profile;
pub mod running;
pub mod silent;
pub mod sources;
pub mod terminal;
pub mod user;
pub mod v2_alone;
pub mod vm;

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use bundle::{Bundle, Scratch, container_processes, make_busybox_root};
pub use leftovers::{cgroups_named, leftovers, leftovers_besides};
pub use running::{Lines, Output, collect, finish};

/// Longer than anything here takes on a loaded machine; a test that hits it has hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// One of rspawn's programs, built before: by the README's commands, in release mode.
pub fn program(name: &str) -> PathBuf {
    let directory = std::env::var_os("RSPAWN_BIN").map_or_else(
        || {
            // target/TRIPLE/PROFILE/deps/this
            let me = std::env::current_exe().expect("the test's own path");
            let target = me
                .ancestors()
                .find(|path| path.ends_with("deps") || path.ends_with("debug") || path.ends_with("release"));
            let profile = target.expect("a target directory");
            let profile = if profile.ends_with("deps") { profile.parent().expect("a profile") } else { profile };
            profile.with_file_name("release")
        },
        PathBuf::from,
    );
    let path = directory.join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --release` first", path.display());
    path
}

/// Whether a test that needs something can run here. Prints a line that CI counts where it cannot, with the test's name
/// as PROGRAM::TEST.
pub fn skip_unless(possible: bool, reason: &str) -> bool {
    if !possible {
        lanes::user::note_test();
        let test = lanes::user::full_name().map(|name| format!("{name}: ")).unwrap_or_default();
        let line = format!("SKIPPED: {test}{reason}\n");
        print!("{line}");
        // In one piece: other threads write to the same place.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
    !possible
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// True, with the reason printed, if this process cannot make containers.
pub fn cannot_make_containers() -> bool {
    lanes::user::is_exception()
        || skip_unless(is_root(), "containers of these tests need root")
        || (lanes::user::is_here() && user::cannot_have_ranges())
}

/// Waits until a condition holds; panics with `what` if it never does.
#[track_caller]
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: never happened");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// This process's nice value: CI may run niced.
pub fn own_nice() -> i32 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("this process");
    // proc_pid_stat(5): the nineteenth field; the second one may have spaces.
    let field = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(16));
    field.and_then(|field| field.parse().ok()).expect("a number")
}

/// The value of a field in a /proc/PID/status text.
pub fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let prefix = format!("{name}:");
    status.lines().find_map(|line| line.strip_prefix(prefix.as_str())).map(str::trim)
}
