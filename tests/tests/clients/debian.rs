//! Roots and configurations that rspawn did not make: Debian's, and `runc spec`'s.
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use nix::fcntl::{Flock, FlockArg};
use rspawn_tests::terminal::{Terminal, wait_for_foreground};
use rspawn_tests::{Bundle, Output, cannot_make_containers, finish, leftovers, silent, skip_unless, wait_for};
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

/// A tmux of the test's own, with one window of 30 rows and 100 columns.
struct Tmux {
    bundle: Bundle,
}

impl Tmux {
    /// Starts a command in it; what it ended with shows at its end.
    #[track_caller]
    fn start(bundle: Bundle, words: &[&str]) -> Self {
        let command = silent::command(&bundle, words);
        let quote = |word: &std::ffi::OsStr| format!("'{}'", word.to_string_lossy());
        let line: Vec<String> = [command.get_program()].into_iter().chain(command.get_args()).map(quote).collect();
        let line = format!("{}; echo it ended with $?; sleep 1000", line.join(" "));
        fs::write(
            bundle.path().join("tmux.conf"),
            "set -g status off\nset -g default-shell /bin/sh\nset -g default-terminal screen\n",
        )
        .unwrap();
        let tmux = Self { bundle };
        tmux.run(&["new-session", "-d", "-x", "100", "-y", "30", &line]).ok();
        tmux
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut tmux = Command::new("tmux");
        tmux.arg("-S").arg(self.bundle.path().join("tmux")).arg("-f").arg(self.bundle.path().join("tmux.conf"));
        tmux.args(words).env("LC_ALL", "C.UTF-8").env_remove("TMUX");
        finish(tmux, b"")
    }

    fn screen(&self) -> String {
        self.run(&["capture-pane", "-p", "-S", "-"]).stdout
    }

    /// Types keys, and waits until something shows.
    #[track_caller]
    fn types(&self, keys: &[&str], shows: &str) {
        self.run(&[&["send-keys"], keys].concat()).ok();
        self.shows(shows);
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        let mut seen = String::new();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !seen.contains(text) {
            assert!(std::time::Instant::now() < deadline, "{text:?} never showed; this did: {seen}");
            std::thread::sleep(std::time::Duration::from_millis(30));
            seen = self.screen();
        }
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.run(&["kill-server"]);
    }
}

/// As a person uses it: the tree's login shell, in a terminal within a terminal.
#[test]
fn a_bash_session_of_an_oci_bundle_under_tmux() {
    if cannot_make_containers() {
        return;
    }
    let Some(root) = debian_root() else { return };
    if skip_unless(Command::new("tmux").arg("-V").output().is_ok(), "tmux is missing") {
        return;
    }
    let bundle = silent::silent().with(|config| config["mounts"] = json!([]));
    fs::remove_dir_all(bundle.rootfs()).unwrap();
    symlink(root, bundle.rootfs()).unwrap();
    let id = bundle.id.clone();
    // The tree has no ps(1).
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists()).unwrap();
    let tmux = Tmux::start(bundle, &[&format!("--bind-ro={busybox}:/run/tools/ps")]);
    tmux.shows(&format!("root@{id}:~#"));
    tmux.types(&["echo $0 $TERM $(tty) $(stty size) $(pwd)", "Enter"], "/bin/bash screen /dev/pts/0 30 100 /root");
    tmux.types(&["sleep 100 &", "Enter", "jobs", "Enter"], "Running                 sleep 100 &");
    tmux.types(&["kill %1; wait; echo $((6*7)) done", "Enter"], "42 done");
    tmux.types(&["sleep 99", "Enter"], "# sleep 99");
    wait_for_foreground(&tmux.bundle, "sleep 99");
    tmux.types(&["C-z"], "Stopped                 sleep 99");
    tmux.types(&["bg; jobs; fg", "Enter"], "Running                 sleep 99 &");
    wait_for_foreground(&tmux.bundle, "sleep 99");
    tmux.types(&["C-c"], "^C");
    tmux.types(&["clear; echo $((1300+37)) $(jobs | wc -l)", "Enter"], "1337 0");
    tmux.types(&["clear; /run/tools/ps", "Enter"], "rspawn-init");
    tmux.shows("/bin/bash -l");
    tmux.types(
        &["clear; mount | grep -E ' /(proc|dev/pts|run) '; df /tmp /dev/shm", "Enter"],
        "devpts on /dev/pts type devpts",
    );
    tmux.shows("proc on /proc type proc");
    tmux.shows("/dev/shm");
    tmux.run(&["resize-window", "-x", "120", "-y", "40"]).ok();
    wait_for("its terminal has the size of the window", || {
        tmux.run(&["send-keys", "stty size", "Enter"]).ok();
        std::thread::sleep(std::time::Duration::from_millis(50));
        tmux.screen().contains("40 120")
    });
    tmux.types(&["exit 7", "Enter"], "it ended with 7");
    tmux.run(&["kill-server"]).ok();
    wait_for("nothing is left", || leftovers(&id).is_empty());
}
