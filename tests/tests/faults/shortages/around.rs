//! What the caller's cgroups and the file system of the state directory lack.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use rspawn_tests::life::Life;
use rspawn_tests::{Bundle, Output, Scratch, cannot_make_containers, leftovers, skip_unless, wait_for};

use super::{is_fine, short};

/// Every verb under a shortage, which `lacks` begins and ends: an error with its reason, or success; no lies, and
/// nothing that is left.
fn try_every_verb(life: &Life, what: &str, limit: &str, lacks: &dyn Fn(bool)) {
    let within = |command: &Command| {
        lacks(true);
        let output = short(life, limit, command);
        lacks(false);
        // The payload's own.
        if output.status == 7 {
            return output;
        }
        is_fine(&format!("{what}: {:?}", command.get_args().nth(2)), &output);
        output
    };
    for (verb, options) in [("create", &[][..]), ("run", &["--detach"]), ("run", &[])] {
        let is_foreground = verb == "run" && options.is_empty();
        let mut other = Life::script("exit 7");
        other.root = life.root.clone();
        let output = within(&if is_foreground { other.making(verb, &[]) } else { life.making(verb, options) });
        if is_foreground {
            assert!(output.status != 0, "{what}: run: {output:?}");
            assert!(!other.state_directory().exists() || output.status != 7, "{what}: run: its state is left");
            other.delete(&["--force"]).ok();
            other.assert_gone();
        }
        life.delete(&["--force"]).ok();
        life.assert_gone();
    }
    life.created(&[]);
    let output = within(&life.on_it("start", &[]));
    let now = life.status();
    let is_true = if output.status == 0 { now == "running" } else { now != "running" };
    assert!(is_true, "{what}: start, and it is {now}: {output:?}");
    life.delete(&["--force"]).ok();
    life.created(&[]).started();
    let pid = life.pid();
    for verb in ["state", "list", "exec", "delete"] {
        let output = within(&match verb {
            "list" => life.command(&["list", "--format=json"]),
            "exec" => life.exec_command(&[], &["true"]),
            verb => life.on_it(verb, &[]),
        });
        let tells = output.stdout.contains("running") && output.stdout.contains(&pid.to_string());
        let is_true = match verb {
            "state" | "list" => output.status != 0 || tells,
            "delete" => output.status != 0,
            _ => true,
        };
        assert!(is_true, "{what}: {verb}: {output:?}");
        assert_eq!((life.status().as_str(), life.pid()), ("running", pid), "{what}: after {verb}");
    }
    let mut kill = life.on_it("kill", &[]);
    kill.arg("KILL");
    match within(&kill).status {
        0 => life.wait_for_status("stopped"),
        _ => assert_eq!(life.status(), "running", "{what}: after kill"),
    }
    let output = within(&life.on_it("delete", &["--force"]));
    assert!(output.status != 0 || life.state().is_none(), "{what}: delete --force: {output:?}");
    life.delete(&["--force"]).ok();
    life.assert_gone();
}

/// A cgroup around the caller, below this process's own.
struct Around(PathBuf);

impl Around {
    fn new(controller: &str) -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").expect("own cgroups");
        let of = |line: &str| {
            let (_, rest) = line.split_once(':')?;
            rest.split_once(':').filter(|(names, _)| *names == controller).map(|(_, path)| path.to_string())
        };
        let place = match own.lines().find_map(of) {
            Some(path) => PathBuf::from(format!("/sys/fs/cgroup/{controller}{path}")),
            None => {
                let enabled = fs::read_to_string("/sys/fs/cgroup/cgroup.subtree_control").unwrap_or_default();
                enabled.split_whitespace().find(|name| *name == controller)?;
                PathBuf::from("/sys/fs/cgroup")
            }
        };
        let path = place.join(format!("rspawn-short-{}-{controller}", std::process::id()));
        fs::create_dir(&path).expect("a cgroup");
        Some(Self(path))
    }

    fn set(&self, files: [&str; 2], value: u64) {
        let file = files.into_iter().map(|name| self.0.join(name)).find(|file| file.exists()).expect("its file");
        fs::write(&file, value.to_string()).unwrap_or_else(|error| panic!("{value} to {}: {error}", file.display()));
    }

    /// For a shell that is to be in it.
    fn entering(&self) -> String {
        format!("echo 0 > {}/cgroup.procs || exit 9", self.0.display())
    }
}

impl Drop for Around {
    fn drop(&mut self) {
        wait_for("the cgroup is removed", || fs::remove_dir(&self.0).is_ok());
    }
}

#[test]
fn few_processes_in_the_callers_cgroup() {
    if cannot_make_containers() {
        return;
    }
    let around = Around::new("pids");
    if skip_unless(around.is_some(), "there is no controller of processes") {
        return;
    }
    let around = around.expect("a cgroup");
    let life = Life::idle();
    for most in (1..=10).chain([20]) {
        around.set(["pids.max"; 2], most);
        try_every_verb(&life, &format!("{most} processes"), &around.entering(), &|_| {});
    }
}

#[test]
fn little_memory_in_the_callers_cgroup() {
    if cannot_make_containers() {
        return;
    }
    let around = Around::new("memory");
    if skip_unless(around.is_some(), "there is no controller of memory") {
        return;
    }
    let around = around.expect("a cgroup");
    let life = Life::idle();
    for kib in [256, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192] {
        around.set(["memory.limit_in_bytes", "memory.max"], kib << 10);
        try_every_verb(&life, &format!("{kib} KiB"), &around.entering(), &|_| {});
    }
}

/// Root is not counted; what another id executes is.
#[test]
fn few_processes_of_the_payloads_user() {
    if cannot_make_containers() {
        return;
    }
    let user = serde_json::json!({"uid": 54321, "gid": 54321});
    for most in 0..4 {
        let life = Life::new(Bundle::script("exit 7").with(|config| config["process"]["user"] = user.clone()));
        // dash has it as -p, others as -u.
        let limit = format!("ulimit -p {most} 2>/dev/null || ulimit -u {most}");
        let output = short(&life, &limit, &life.making("run", &[]));
        let is_said = output.status == 1 && output.stderr.contains("EAGAIN");
        assert!(output.status == 7 || is_said, "{most} processes: {output:?}");
        assert!(!life.state_directory().exists() && leftovers(life.id()).is_empty(), "{most}: {output:?}");
    }
}

/// A file system for a state directory alone, in this thread's mount namespace.
struct Disk(Scratch);

impl Disk {
    fn new(options: &str) -> Self {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        let place = Scratch::new();
        let mount = |kind: Option<&str>, path: &Path, flags, options: Option<&str>| {
            mount(kind, path, kind, flags, options).unwrap_or_else(|errno| panic!("mount {path:?}: {errno}"));
        };
        mount(None, Path::new("/"), MsFlags::MS_REC | MsFlags::MS_PRIVATE, None);
        mount(Some("tmpfs"), &place.path, MsFlags::empty(), Some(options));
        Self(place)
    }

    /// Fills it but for so many pages, or so many files.
    fn fill(&self, room: usize, by_files: bool) {
        const PAGE: usize = 4096;
        if by_files {
            let mut made = (0..).map(|number| self.0.path.join(format!(".{number}")));
            let is_full = |path: &PathBuf| fs::write(path, "").is_err();
            let last = made.position(|path| is_full(&path)).expect("the end");
            (last.saturating_sub(room)..last).for_each(|number| {
                fs::remove_file(self.0.path.join(format!(".{number}"))).expect("removed");
            });
            return;
        }
        let file = fs::File::create(self.0.path.join(".filler")).expect("a file");
        let mut length = 0;
        loop {
            match nix::sys::uio::pwrite(&file, &[0; PAGE], length as i64) {
                Ok(written) => length += written,
                Err(Errno::ENOSPC) => break,
                Err(errno) => panic!("{errno}"),
            }
        }
        file.set_len(length.saturating_sub(room * PAGE) as u64).expect("room");
    }

    fn empty(&self) {
        let names = fs::read_dir(&self.0.path).expect("its files").flatten().map(|entry| entry.path());
        let own = names.filter(|path| path.is_file());
        own.for_each(|path| fs::remove_file(path).expect("removed"));
    }

    /// By another mount on it, since a container that is only created has a file of it open for writing.
    fn set_read_only(&self, yes: bool) {
        let (path, nothing) = (&self.0.path, None::<&str>);
        if !yes {
            return umount2(path, MntFlags::empty()).expect("unmounted");
        }
        mount(Some(path), path, nothing, MsFlags::MS_BIND, nothing).expect("mounted");
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        mount(nothing, path, nothing, flags, nothing).expect("read-only");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        umount2(&self.0.path, MntFlags::MNT_DETACH).expect("unmounted");
    }
}

fn on_disk(disk: &Disk) -> Life {
    let mut life = Life::idle();
    life.root = disk.0.path.clone();
    life
}

#[test]
fn a_full_state_file_system() {
    if cannot_make_containers() {
        return;
    }
    let disk = Disk::new("size=256k,nr_inodes=100,mode=700");
    let life = on_disk(&disk);
    for (by_files, most) in [(false, 8), (true, 14)] {
        for room in 0..=most {
            let what = format!("room for {room} {}", if by_files { "files" } else { "pages" });
            let lacks = |yes| if yes { disk.fill(room, by_files) } else { disk.empty() };
            try_every_verb(&life, &what, "true", &lacks);
        }
    }
}

#[test]
fn a_read_only_state_file_system() {
    if cannot_make_containers() {
        return;
    }
    let disk = Disk::new("size=256k,mode=700");
    let life = on_disk(&disk);
    try_every_verb(&life, "read-only", "true", &|yes| disk.set_read_only(yes));
    // What cannot be removed is said, and still there.
    life.created(&[]).started();
    disk.set_read_only(true);
    let Output { status, stderr, .. } = life.delete(&["--force"]);
    assert!(status == 1 && stderr.contains("Read-only file system"), "{stderr}");
    assert_eq!(life.status(), "stopped");
    disk.set_read_only(false);
    life.delete(&[]).ok();
    life.assert_gone();
}
