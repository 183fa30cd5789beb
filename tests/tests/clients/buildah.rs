//! buildah drives the runtime directly: `create`, `start`, `state` again and again, `kill`, `delete`.
use std::fs;
use std::process::Command;

use rspawn_tests::clients::{assert_no_traces, cannot_use, client, default_state_root, make_image_archive, runtime};
use rspawn_tests::{Output, Scratch, finish};

/// What the places where commands run need on these machines, for every command that takes it.
const LIMITS: [&str; 4] = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"];

struct Buildah {
    scratch: Scratch,
    name: String,
}

impl Buildah {
    /// With the image's root in `context/image.tar`. `None`, with the reason printed, where it cannot run.
    fn new() -> Option<Self> {
        if cannot_use(&["buildah"]) {
            return None;
        }
        let scratch = Scratch::new();
        let name = scratch.path.file_name()?.to_string_lossy().into_owned();
        let archive = make_image_archive(&scratch.path);
        fs::create_dir(scratch.path.join("context")).unwrap();
        fs::rename(archive, scratch.path.join("context/image.tar")).unwrap();
        Some(Self { scratch, name })
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(client("buildah"));
        for (option, place) in [("--root", "root"), ("--runroot", "runroot")] {
            command.arg(option).arg(self.scratch.path.join(place));
        }
        command.args(["--storage-driver", "vfs"]).args(arguments).current_dir(self.scratch.path.join("context"));
        // Where it puts the bundles.
        command.env("TMPDIR", &self.scratch.path).env_remove("XDG_RUNTIME_DIR");
        finish(command, b"")
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        self.run(arguments).ok().trim_end().to_string()
    }

    /// `buildah VERB` of the runtime under test.
    fn with_runtime(&self, verb: &str, options: &[&str], rest: &[&str]) -> Output {
        let runtime = runtime().to_string_lossy().into_owned();
        let own = [verb, "--isolation", "oci", "--runtime", &runtime, "--network", "none"];
        self.run(&[&own[..], options, rest].concat())
    }

    #[track_caller]
    fn assert_nothing_left(self) {
        self.ok(&["rm", "--all"]);
        // Its containers' ids begin with this.
        let states = fs::read_dir(default_state_root()).into_iter().flatten().flatten();
        let states: Vec<String> = states.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        let own: Vec<String> = states.into_iter().filter(|id| id.starts_with("buildah-buildah")).collect();
        assert_no_traces(&self.name, &default_state_root(), &own);
    }
}

#[test]
fn from_scratch_copy_run() {
    let Some(buildah) = Buildah::new() else { return };
    let parent = format!("/{}", buildah.name);
    let from = [&["from", "--cgroup-parent", &parent, "--name", "work"], &LIMITS[..], &["scratch"]].concat();
    buildah.ok(&from);
    buildah.ok(&["add", "work", "image.tar", "/"]);
    fs::write(buildah.scratch.path.join("context/note"), "a note\n").unwrap();
    buildah.ok(&["copy", "--chown", "1000:1000", "work", "note", "/srv/note"]);

    let script = "cat /srv/note; id -u; stat -c %u /srv/note; pwd; echo $COLOR; echo made >/srv/made; \
        readlink /proc/self/ns/pid; [ -w /proc/sys ] || echo masked; exit 7";
    let options = ["--env", "COLOR=blue", "--workingdir", "/srv", "--user", "root"];
    let output = buildah.with_runtime("run", &options, &["work", "--", "sh", "-c", script]);
    assert_eq!(output.status, 7, "the status is the command's: {output:?}");
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines[..5], ["a note", "0", "1000", "/srv", "blue"], "{output:?}");
    let own = fs::read_link("/proc/self/ns/pid").unwrap();
    assert_ne!(lines[5], own.to_string_lossy(), "it has a pid namespace of its own");

    // The next one sees what this one wrote.
    let next = buildah.with_runtime("run", &["--user", "alice"], &["work", "--", "sh", "-c", "cat /srv/made; id -un"]);
    assert_eq!(next.ok(), "made\nalice\n");
    let piped = buildah.with_runtime("run", &[], &["work", "--", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((piped.stdout.as_str(), piped.stderr.as_str()), ("out\n", "err\n"), "the streams are apart");
    let missing = buildah.with_runtime("run", &[], &["work", "--", "no-such-program"]);
    assert!(missing.status != 0 && missing.stderr.contains("no-such-program"), "{missing:?}");

    buildah.ok(&["commit", "--quiet", "work", "made"]);
    assert!(buildah.ok(&["images"]).contains("localhost/made"));
    buildah.assert_nothing_left();
}

#[test]
fn a_containerfile() {
    let Some(buildah) = Buildah::new() else { return };
    let text = "FROM scratch\n\
        ADD image.tar /\n\
        ENV COLOR=blue\n\
        RUN mkdir -p /srv/deep && echo one >/srv/deep/lines\n\
        RUN [\"/bin/sh\", \"-c\", \"echo $COLOR >>/srv/deep/lines\"]\n\
        WORKDIR /srv/deep\n\
        RUN chown 1000:1000 . && pwd >>lines\n\
        USER alice\n\
        RUN id -un >mine && cat lines mine\n\
        CMD [\"cat\", \"/srv/deep/lines\"]\n";
    fs::write(buildah.scratch.path.join("context/Containerfile"), text).unwrap();
    let parent = format!("/{}", buildah.name);
    let options = [&["--tag", "built", "--cgroup-parent", &parent], &LIMITS[..]].concat();
    let output = buildah.with_runtime("bud", &options, &["."]);
    assert_eq!(output.status, 0, "{output:?}");
    assert!(output.stdout.contains("\none\nblue\n/srv/deep\nalice\n"), "each RUN sees the ones before it: {output:?}");
    assert!(buildah.ok(&["images"]).contains("localhost/built"));

    fs::write(buildah.scratch.path.join("context/Containerfile"), "FROM built\nRUN exit 5\n").unwrap();
    let options = [&["--pull-never", "--cgroup-parent", &parent], &LIMITS[..]].concat();
    let failing = buildah.with_runtime("bud", &options, &["."]);
    assert_eq!(failing.status, 5, "a RUN that fails ends the build with its status: {failing:?}");
    buildah.assert_nothing_left();
}
