//! What people write who come from docker, systemd-nspawn or bubblewrap, or who guess: each is an error that ends with
//! a command line, and that line, copied into a shell, does what was meant.
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use rspawn_tests::life::error;
use rspawn_tests::{Bundle, Output, Scratch, cannot_make_containers, finish, make_busybox_root, program};

/// A directory to stand in: `deb` is a root filesystem, and the shell's `rspawn` has a state root of the test's own.
struct Place {
    scratch: Scratch,
    bundle: Bundle,
}

impl Place {
    fn new() -> Self {
        let place = Self { scratch: Scratch::new(), bundle: Bundle::script("echo of the bundle") };
        place.bundle.write_config();
        make_busybox_root(&place.path("deb"));
        place.write("deb/sbin/init", "#!/bin/sh\necho I am $$\n");
        place.write("data/file", "from the host");
        let (program, root) = (program("rspawn"), place.path("state"));
        let script = format!("#!/bin/sh\nexec '{}' --root '{}' \"$@\"\n", program.display(), root.display());
        place.write("bin/rspawn", &script);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path.join(name)
    }

    /// A program, or a file.
    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// A line as it is typed. Nobody answers a shell that it starts.
    #[track_caller]
    fn shell(&self, line: &str) -> Output {
        let mut command = Command::new("sh");
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        command.arg("-c").arg(line).current_dir(&self.scratch.path).env("PATH", path);
        finish(command, b"")
    }

    /// The line's error, and what it says at its end that is to be copied.
    #[track_caller]
    fn advice(&self, line: &str) -> (String, String) {
        let said = error(self.shell(line));
        let (_, copied) = said.rsplit_once(": ").unwrap_or_else(|| panic!("nothing to copy in {said:?}"));
        assert!(copied.starts_with("rspawn "), "nothing to copy in {said:?}");
        assert!(!said.contains("-- -"), "no option becomes the command: {said:?}");
        (said.clone(), copied.into())
    }

    /// Does what is advised, and gives what it prints.
    #[track_caller]
    fn meant(&self, line: &str) -> String {
        let (said, copied) = self.advice(line);
        let Output { status, stdout, stderr } = self.shell(&copied);
        assert_eq!((status, stderr.as_str()), (0, ""), "{line}: {said}");
        stdout
    }
}

/// A name that no container of another test has.
fn name() -> String {
    format!("rspawn-guess-{}", std::process::id())
}

#[test]
fn a_command_stands_behind_the_dashes() {
    if cannot_make_containers() {
        return;
    }
    let place = Place::new();
    for (line, prints) in [
        ("rspawn run -D deb echo hi", "hi\n"),
        ("rspawn run -D deb sh -c 'echo \"a  b\"'", "a  b\n"),
        ("rspawn run --host echo hi", "hi\n"),
    ] {
        assert_eq!(place.meant(line), prints, "{line}");
    }
    // One word could be the name: there is a line for either.
    for (line, prints) in
        [("rspawn run -D deb hostname --hostname=h", "h\n"), ("rspawn run --directory=deb pwd", "/\n")]
    {
        let (said, _) = place.advice(line);
        let (command, _) = said.split_once("; a container of that name: ").expect("two lines to choose from");
        let (_, copied) = command.rsplit_once(": ").expect("a line to copy");
        assert_eq!(place.shell(copied).ok(), prints, "{said}");
    }
    // The other line is a shell, which ends at once.
    let (said, copied) = place.advice(&format!("rspawn run -D deb {}", name()));
    assert!(said.contains("a name or a command?") && copied.ends_with(&format!(" {} -- sh", name())), "{said}");
    assert_eq!(place.meant(&format!("rspawn run -D deb {}", name())), "");
    let bundle = place.bundle.path().display();
    let line = format!("rspawn run --bundle {bundle} {} echo of the command line", name());
    assert_eq!(place.meant(&line), "of the command line\n");
    // This one is what it is with runc.
    assert_eq!(place.shell(&format!("rspawn run --bundle {bundle} {}", name())).ok(), "of the bundle\n");
}

#[test]
fn a_path_is_a_bundle_or_a_root_filesystem() {
    if cannot_make_containers() {
        return;
    }
    let place = Place::new();
    let (root, bundle) = (place.path("deb"), place.bundle.path().display());
    assert_eq!(place.meant(&format!("rspawn run {} -- echo hi", root.display())), "hi\n");
    assert_eq!(place.meant(&format!("rspawn run {} echo hi", root.display())), "hi\n");
    assert_eq!(place.meant("rspawn run ./deb -- echo hi"), "hi\n");
    assert_eq!(place.meant("rspawn run deb -- echo hi"), "hi\n");
    assert_eq!(place.meant(&format!("rspawn run {bundle}")), "of the bundle\n");
    assert_eq!(place.meant("rspawn -D deb -- echo hi"), "hi\n");
    assert_eq!(place.meant("rspawn -D deb echo hi"), "hi\n");
    // What is no directory is a name.
    let missing = error(place.shell("rspawn run no-such"));
    assert!(missing.starts_with("cannot open "), "{missing}");
}

#[test]
fn a_directory_without_a_bundle_says_what_makes_one() {
    if cannot_make_containers() {
        return;
    }
    let place = Place::new();
    for verb in ["run", "run x", "create x", "plan", "check"] {
        let said = error(place.shell(&format!("rspawn {verb}")));
        assert!(said.contains("config.json: No such file or directory"), "{verb}: {said}");
        assert!(said.contains("`rspawn spec --bundle .` writes a default one"), "{verb}: {said}");
        assert!(said.contains("`rspawn run --directory DIR`"), "{verb}: {said}");
    }
    assert_eq!(place.shell("rspawn spec --bundle .").ok(), "");
    assert!(place.path("config.json").exists());
    assert_eq!(place.shell("rspawn run --directory deb -- echo hi").ok(), "hi\n");
}

#[test]
fn options_stand_where_they_belong_and_are_spelt_right() {
    if cannot_make_containers() {
        return;
    }
    let place = Place::new();
    let other = place.path("other");
    let line = format!("rspawn run --root {} -D deb {} --keep -- true", other.display(), name());
    assert_eq!(place.meant(&line), "");
    assert!(other.join(name()).exists(), "the container's state is below that root");
    assert_eq!(place.meant(&format!("rspawn delete --root={} --force {}", other.display(), name())), "");
    assert!(!other.join(name()).exists());
    assert_eq!(place.meant("rspawn run -D deb --bnd=data:/data -- cat /data/file"), "from the host");
    assert_eq!(place.meant("rspawn lst"), "ID   PID   STATUS   BUNDLE   CREATED   OWNER\n");
    // Where nothing is like it, nothing is guessed.
    let said = error(place.shell("rspawn run --nonsense x"));
    assert_eq!(said, "unexpected argument '--nonsense' found; `rspawn run --help` has what there is");
}

#[test]
fn habits_of_other_tools_are_put_into_words_of_rspawn() {
    if cannot_make_containers() {
        return;
    }
    let place = Place::new();
    let name = name();
    for (line, prints) in [
        ("rspawn run --rm -D deb echo hi", "hi\n"),
        ("rspawn run --rm -it -D deb -- echo hi", "hi\n"),
        ("rspawn run -ti -D deb echo hi", "hi\n"),
        ("rspawn run -v ./data:/data -D deb cat /data/file", "from the host"),
        ("rspawn run -v ./data:/data:ro -D deb sh -c 'touch /data/x 2>/dev/null || echo no'", "no\n"),
        ("rspawn run --volume=data:/data -D deb -- cat /data/file", "from the host"),
        ("rspawn run --ro-bind data /data -D deb -- cat /data/file", "from the host"),
        ("rspawn run --name NAME -D deb hostname", "NAME\n"),
        ("rspawn run -D deb --machine=NAME -- hostname", "NAME\n"),
        ("rspawn run -M NAME -D deb -- hostname", "NAME\n"),
        ("rspawn run -x -D deb -- sh -c 'touch /new && ls /new'", "/new\n"),
        ("rspawn run -e A=b -w /tmp -D deb -- sh -c 'echo $A; pwd'", "b\n/tmp\n"),
        // As nspawn's, which is PID 1 too.
        ("rspawn run -D deb --boot", "I am 1\n"),
    ] {
        let prints = prints.replace("NAME", &name);
        assert_eq!(place.meant(&line.replace("NAME", &name)), prints, "{line}");
    }
    assert!(!place.path("deb/new").exists(), "--volatile=overlay keeps nothing");
}

#[test]
fn exec_as_docker_has_it() {
    if cannot_make_containers() {
        return;
    }
    let place = Place::new();
    let name = name() + "-exec";
    assert_eq!(place.shell(&format!("rspawn run -d -D deb {name} -- sleep 1000 >log 2>&1 </dev/null")).ok(), "");
    assert_eq!(place.meant(&format!("rspawn exec -i {name} echo hi")), "hi\n");
    // How a terminal's lines end into a file is another matter.
    assert_eq!(place.meant(&format!("rspawn exec -it {name} tty")).trim_end(), "/dev/pts/0");
    // This one needs no advice.
    assert_eq!(place.shell(&format!("rspawn exec {name} echo -n hi")).ok(), "hi");
    assert_eq!(place.meant(&format!("rspawn rm --force {name}")), "");
}

#[test]
fn without_a_word_there_is_help() {
    let bare = finish(Command::new(program("rspawn")), b"");
    assert_eq!(bare.status, 0, "{bare:?}");
    assert!(bare.stdout.contains("Usage: rspawn") && bare.stdout.contains("  run "), "{bare:?}");
}
