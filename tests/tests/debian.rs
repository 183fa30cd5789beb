//! Roots and configurations that rspawn did not make: Debian's, and `runc spec`'s.
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use nix::fcntl::{Flock, FlockArg};
use rspawn_tests::terminal::{Terminal, wait_for_foreground};
use rspawn_tests::{Bundle, cannot_make_containers, skip_unless};
use serde_json::{Value, json};

/// A minimal Debian, made once a machine by debootstrap; `None` where it cannot be.
fn debian_root() -> Option<&'static Path> {
    static ROOT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let root = ROOT.get_or_init(|| match std::env::var_os("RSPAWN_DEBIAN_ROOT") {
        Some(given) => Ok(given.into()),
        None => make_debian_root(Path::new("/var/cache/rspawn-tests")),
    });
    if let Err(reason) = root {
        skip_unless(false, reason);
    }
    root.as_deref().ok()
}

fn make_debian_root(cache: &Path) -> Result<PathBuf, String> {
    let (root, partial) = (cache.join("debian"), cache.join("debian.partial"));
    fs::create_dir_all(cache).map_err(|error| format!("{}: {error}", cache.display()))?;
    let lock = File::create(cache.join("lock")).map_err(|error| error.to_string())?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno.to_string())?;
    if root.join("bin/bash").exists() {
        return Ok(root);
    }
    let _ = fs::remove_dir_all(&partial);
    let mut debootstrap = Command::new("timeout");
    debootstrap.args(["600", "debootstrap", "--variant=minbase", "bookworm"]).arg(&partial);
    let made = debootstrap.stdin(Stdio::null()).output().map_err(|error| format!("timeout: {error}"))?;
    if !made.status.success() {
        let text = String::from_utf8_lossy(&made.stderr).into_owned() + &String::from_utf8_lossy(&made.stdout);
        return Err(format!("debootstrap is missing or cannot fetch: {}", text.lines().last().unwrap_or_default()));
    }
    fs::rename(&partial, &root).map_err(|error| error.to_string())?;
    Ok(root)
}

/// The configuration that `runc spec` writes.
fn runc_spec() -> Option<Value> {
    let scratch = rspawn_tests::Scratch::new();
    let written = Command::new("runc").arg("spec").arg("--bundle").arg(&scratch.path).output();
    if skip_unless(written.is_ok_and(|output| output.status.success()), "Debian's runc is missing") {
        return None;
    }
    serde_json::from_slice(&fs::read(scratch.path.join("config.json")).ok()?).ok()
}

/// A bundle over Debian's root with runc's configuration: as it is, but for the payload and the terminal.
fn debian(script: &str) -> Option<Bundle> {
    if cannot_make_containers() {
        return None;
    }
    let (root, spec) = (debian_root()?, runc_spec()?);
    let mut bundle = Bundle::script("");
    fs::remove_dir_all(bundle.rootfs()).unwrap();
    symlink(root, bundle.rootfs()).unwrap();
    bundle.config = spec;
    bundle.config["process"]["args"] = json!(["bash", "-c", script]);
    bundle.config["process"]["terminal"] = json!(false);
    Some(bundle)
}

#[test]
fn debians_programs_run() {
    let Some(bundle) = debian(
        "set -e; apt-get --version; dpkg -l; perl -e 'print \"perl $$\\n\"'; ldd /bin/bash; \
        cat /etc/debian_version; hostname; id",
    ) else {
        return;
    };
    let output = bundle.run().ok();
    for text in ["apt 2.6", "ii  bash", "perl ", "libc.so.6", "12.", "\nrunc\n", "uid=0(root) gid=0(root)"] {
        assert!(output.contains(text), "{text}: {output}");
    }
}

#[test]
fn the_root_is_read_only_and_home_is_known() {
    let Some(bundle) = debian(
        "touch /etc/x 2>/dev/null || echo read-only; echo ~ $HOME; touch /dev/shm/x && echo shm; \
        stty size 2>&1; exec 3<>/dev/null; echo ${#BASH_VERSION} >&3; ulimit -n; cat /proc/self/status",
    ) else {
        return;
    };
    let output = bundle.run().ok();
    assert!(output.starts_with("read-only\n/root /root\nshm\n"), "{output}");
    assert!(output.contains("\n1024\n") && output.contains("NoNewPrivs:\t1"), "{output}");
    // CAP_AUDIT_WRITE, CAP_KILL and CAP_NET_BIND_SERVICE.
    assert!(output.contains("CapBnd:\t0000000020000420"), "{output}");
}

#[test]
fn signals_reach_a_bash_that_traps_them() {
    let Some(bundle) =
        debian("trap 'echo term; exit 21' TERM; (sleep 0.3; kill -TERM 1) & while :; do sleep 0.05; done")
    else {
        return;
    };
    for mode in ["--init=supervise", "--init=exec"] {
        let output = bundle.run_with(&[mode], b"");
        assert_eq!((output.status, output.stdout.as_str()), (21, "term\n"), "{mode}: {}", output.stderr);
    }
}

#[test]
fn an_interactive_bash_on_a_terminal() {
    let Some(bundle) = debian("") else { return };
    let bundle = bundle.with(|config| {
        config["process"]["terminal"] = json!(true);
        config["process"]["args"] = json!(["bash", "--norc"]);
        config["process"]["env"].as_array_mut().unwrap().push(json!("PS1=prompt> "));
    });
    let terminal = Terminal::new(24, 80);
    let child = terminal.start(&bundle.command(&[]));
    terminal.expect("prompt>");
    terminal.type_in(b"stty size; tty; sleep 100 & jobs; kill %1; wait; echo $((6*7))\r");
    terminal.expect("\n42\r");
    terminal.type_in(b"sleep 99\r");
    wait_for_foreground(&bundle, "sleep 99");
    terminal.type_in(b"\x1a");
    terminal.expect("Stopped");
    terminal.type_in(b"kill %1; fg; exit 3\r");
    let output = terminal.finish(child);
    assert_eq!(output.status, 3, "{}", output.stdout);
    let text = &output.stdout;
    assert!(text.contains("24 80") && text.contains("/dev/pts/0") && !text.contains("no job control"), "{text}");
    bundle.assert_nothing_left();
}

#[test]
fn busybox_with_runcs_configuration() {
    if cannot_make_containers() {
        return;
    }
    let Some(spec) = runc_spec() else { return };
    let mut bundle = Bundle::new();
    bundle.config = spec.clone();
    // Unmodified it is a shell on a terminal.
    let terminal = Terminal::new(24, 80);
    let child = terminal.start(&bundle.command(&[]));
    terminal.expect("#");
    terminal.type_in(b"echo $((6*7)) $(hostname); exit 8\r");
    let output = terminal.finish(child);
    assert!(output.status == 8 && output.stdout.contains("42 runc"), "{output:?}");
    bundle.assert_nothing_left();
    bundle.config["process"]["terminal"] = json!(false);
    let output = bundle.run_with(&[], b"echo from stdin; mount; exit 9\n");
    assert_eq!(output.status, 9, "{output:?}");
    assert!(output.stdout.starts_with("from stdin\n") && output.stdout.contains("/dev/mqueue"), "{output:?}");
    assert_eq!(output.stderr, "");
}
