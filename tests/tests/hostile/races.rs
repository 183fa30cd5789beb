//! A neighbour that shares the rootfs flips names in it while the container is made: directories against links to
//! the host. Whatever it hits, the host's files and mounts stay as they are.
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use rspawn_sys::channel;
use rspawn_tests::hostile::{Canaries, Numbers};
use rspawn_tests::{Bundle, Scratch, cannot_make_containers};
use serde_json::json;

/// A stage that fails before it has read what it was told says why, and is heard.
#[test]
fn the_last_words_of_a_peer_are_heard() {
    let (mine, theirs) = channel::pair().unwrap();
    channel::send(&mine, b"never read", &[]).unwrap();
    channel::send(&theirs, b"why", &[]).unwrap();
    drop(theirs);
    assert_eq!(channel::receive(&mine, 100).unwrap().map(|(words, _)| words), Some(b"why".to_vec()));
    assert!(channel::receive(&mine, 100).unwrap().is_none());
}

const RUNS: u32 = 200;
/// As many as there are, however slow the machine is.
const LEAST: u32 = 20;
const TIME: Duration = Duration::from_secs(20);

/// Exchanges each pair of names, over and over.
fn flip(pairs: &[(std::path::PathBuf, std::path::PathBuf)], stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        for (a, b) in pairs {
            let _ = renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE);
        }
    }
}

/// Mounts of the host; those of other tests' containers are among them.
fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

#[test]
fn a_neighbour_that_flips_names_never_reaches_the_host() {
    if cannot_make_containers() {
        return;
    }
    let scratch = Scratch::new();
    let outside = scratch.path.join("host");
    let canaries = Canaries::lay_out(&outside);
    let up = format!("{}{}", "../".repeat(30), outside.to_str().unwrap().trim_start_matches('/'));
    let bundle = Bundle::script("exit 0")
        .with_mount("/work/a/b", "tmpfs", "tmpfs", &[])
        .with_mount("/work/new/mount/point", "tmpfs", "tmpfs", &[])
        .with_mount("/work/file", "none", "/etc/hostname", &["bind", "ro"])
        .with_mount("/copied", "tmpfs", "tmpfs", &["tmpcopyup"])
        .with(|config| {
            // The image's own /dev, so that the devices land where the neighbour can reach.
            config["mounts"]
                .as_array_mut()
                .unwrap()
                .retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
            config["linux"]["maskedPaths"] = json!(["/work/secret", "/work/dir", "/proc/kcore"]);
            config["linux"]["readonlyPaths"] = json!(["/work/ro", "/work/dir2"]);
            config["linux"]["devices"] =
                json!([{"path": "/work/null", "type": "c", "major": 1, "minor": 3, "uid": 1, "gid": 1}]);
            config["process"]["cwd"] = json!("/work/cwd/new");
        });
    let root = bundle.rootfs();
    let mut pairs = Vec::new();
    let mut pair = |name: &str, target: &str| {
        let (name, other) = (root.join(name), root.join(format!("{name}.flip")));
        symlink(target, &other).unwrap();
        pairs.push((name, other));
    };
    for directory in ["work/a", "work/dir", "work/dir2", "work/cwd", "work/new", "copied/sub"] {
        fs::create_dir_all(root.join(directory)).unwrap();
        fs::write(root.join(directory).join("inside"), "x").unwrap();
        pair(directory, &up);
    }
    for file in ["work/secret", "work/file", "work/ro", "copied/file"] {
        fs::write(root.join(file), "y").unwrap();
        pair(file, &format!("{up}/secret"));
    }
    pair_links(&root, &mut pairs, &outside);
    let before = mounts();
    let carries = |line: &str| line.contains(outside.to_str().unwrap()) || line.contains(root.to_str().unwrap());
    assert!(!before.lines().any(carries));
    let (stop, began) = (AtomicBool::new(false), Instant::now());
    let (mut ran, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| flip(&pairs, &stop));
        scope.spawn(|| {
            // While the container is made, nothing of it shows on the host.
            while !stop.load(Ordering::Relaxed) {
                let shown: Vec<String> = mounts().lines().filter(|line| carries(line)).map(str::to_string).collect();
                assert!(shown.is_empty(), "a mount shows on the host: {shown:?}");
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let mut numbers = Numbers(1);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            while ran + refused < RUNS && (ran + refused < LEAST || began.elapsed() < TIME) {
                // Starting at another moment of the neighbour's loop.
                std::thread::sleep(Duration::from_micros(numbers.below(500) as u64));
                let output = rspawn_tests::finish(bundle.command(&[]), b"");
                match output.status {
                    0 => ran += 1,
                    1 if output.stderr.starts_with("rspawn: ") && !output.stderr.contains("a bug") => refused += 1,
                    _ => panic!("{output:?}"),
                }
                let made = ["work", "dev", "copied"].iter().flat_map(|directory| fs::read_dir(root.join(directory)));
                for entry in made.flatten().flatten().filter(|entry| entry.file_name() == "null") {
                    let _ = fs::remove_file(entry.path());
                }
            }
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
    canaries.assert_untouched();
    bundle.assert_nothing_left();
    println!("{ran} ran, {refused} were refused");
}

/// `dev`, where the default devices and links are made, against a link to the host's directory.
fn pair_links(root: &Path, pairs: &mut Vec<(std::path::PathBuf, std::path::PathBuf)>, outside: &Path) {
    let other = root.join("dev.flip");
    symlink(outside, &other).unwrap();
    pairs.push((root.join("dev"), other));
}
