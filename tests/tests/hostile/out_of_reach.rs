//! Nothing that a container or its neighbour does reaches the host: each process of rspawn's looked at, at each of its
//! system calls; directories of the root filesystem renamed at each of them; the host's devices before and after.
#[path = "out_of_reach/stops.rs"]
mod stops;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::Pid;
use rspawn_proto::plan::{MountAttrs, attr};
use rspawn_sys::{Fd, cred, mount};
use rspawn_tests::bundle::in_user_namespace;
use rspawn_tests::life::Life;
use rspawn_tests::{Bundle, Output, cannot_make_containers, program, skip_unless, status_field, wait_for};
use serde_json::{Value, json};
use stops::at_each_stop;

/// docker's default capabilities, and the one that makes other processes an open book.
fn with_ptrace(config: &mut Value) {
    const DOCKER: [&str; 15] = [
        "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
        "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
        "CAP_AUDIT_WRITE", "CAP_SYS_PTRACE",
    ];
    for set in ["bounding", "effective", "permitted"] {
        config["process"]["capabilities"][set] = json!(DOCKER);
    }
}

/// What a neighbour would find at a process that is in a container's pid namespace.
struct Census {
    /// The pid namespace of the test.
    own: String,
    host_root: (u64, u64),
    rootfs: std::path::PathBuf,
    seen: usize,
    programs: BTreeSet<String>,
    faults: BTreeSet<String>,
    /// Others are in the namespace already.
    among_others: bool,
}

impl Census {
    fn new(rootfs: &Path, among_others: bool) -> Self {
        let root = fs::metadata("/").expect("the root");
        let own = fs::read_link("/proc/self/ns/pid").expect("a pid namespace").to_string_lossy().into_owned();
        let (host_root, rootfs) = ((root.dev(), root.ino()), rootfs.to_path_buf());
        let (programs, faults) = (BTreeSet::new(), BTreeSet::new());
        Self { own, host_root, rootfs, seen: 0, programs, faults, among_others }
    }

    fn look(&mut self, pid: Pid) {
        let proc = Path::new("/proc").join(pid.to_string());
        let link = |name: &str| fs::read_link(proc.join(name)).map(|path| path.to_string_lossy().into_owned());
        // One that is gone by now has nothing to show.
        let (Ok(namespace), Ok(exe)) = (link("ns/pid"), link("exe")) else { return };
        // The payload's own program lies in the root filesystem.
        let is_payload = fs::metadata(proc.join("exe"))
            .is_ok_and(|exe| fs::metadata(self.rootfs.join("bin/busybox")).is_ok_and(|own| own.ino() == exe.ino()));
        if namespace == self.own || is_payload {
            return;
        }
        self.seen += 1;
        self.programs.insert(exe.clone());
        let mut fault = |what: String| {
            self.faults.insert(what);
        };
        if let Err(reason) = cannot_be_written(&proc.join("exe")) {
            fault(format!("exe is {exe}: {reason}"));
        }
        if !self.among_others {
            return;
        }
        // What a root's `..` is shows whether it is one, or a directory of the host's.
        let of = |name: &str| fs::metadata(proc.join(name)).map(|found| (found.dev(), found.ino())).ok();
        if of("root") != of("root/..") {
            fault(format!("root has the host's directories above it, of {exe}"));
        }
        for name in ["root", "cwd"] {
            if fs::metadata(proc.join(name)).is_ok_and(|found| (found.dev(), found.ino()) == self.host_root) {
                fault(format!("{name} is the host's, of {exe}"));
            }
        }
        for entry in fs::read_dir(proc.join("fd")).into_iter().flatten().flatten() {
            let leads = fs::read_link(entry.path()).unwrap_or_default().to_string_lossy().into_owned();
            let same = |one: fs::Metadata, other: fs::Metadata| (one.dev(), one.ino()) == (other.dev(), other.ino());
            let (found, named) = (fs::metadata(entry.path()), fs::metadata(&leads));
            // Standard streams are the caller's own.
            let is_stream = ["0", "1", "2"].iter().any(|number| entry.file_name() == *number);
            // In a user namespace the null device is a read-only clone of the host's.
            let is_read_only = statvfs(&entry.path()).is_ok_and(|found| found.flags().contains(FsFlags::ST_RDONLY));
            let is_null = leads == "/dev/null" || leads.starts_with("/dev/pts/");
            if (!is_stream || is_null)
                && !is_read_only
                && found.is_ok_and(|found| named.is_ok_and(|named| same(found, named)))
            {
                fault(format!("descriptor of the host's {leads}, of {exe}"));
            }
        }
    }

    #[track_caller]
    fn assert_clean(&self, least: usize) {
        assert!(self.faults.is_empty(), "{:#?}", self.faults);
        assert!(self.seen >= least, "only {} stops in the container, of {:?}", self.seen, self.programs);
    }
}

/// Whatever `exe` leads to takes no write: not by seals, and not because it is being executed now.
fn cannot_be_written(exe: &Path) -> Result<(), String> {
    let Ok(opened) = fs::File::open(exe) else { return Ok(()) };
    // What undoes a read-only clone of a mount.
    let held = fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(exe).map_err(|e| e.to_string())?;
    let held = Fd::from_raw(held.into_raw_fd());
    let writable = MountAttrs { clear: attr::RDONLY, ..MountAttrs::default() };
    if mount::set_attributes(&held, &writable, None).is_ok() {
        return Err("its mount can be made writable".into());
    }
    match fcntl(&opened, FcntlArg::F_GET_SEALS) {
        Ok(seals) if seals & libc::F_SEAL_WRITE != 0 && seals & libc::F_SEAL_SEAL != 0 => return Ok(()),
        _ => {}
    }
    // ETXTBSY is no protection: it ends with the process.
    match fs::OpenOptions::new().append(true).open(exe) {
        Err(error) if error.raw_os_error() == Some(libc::EROFS) => Ok(()),
        Err(error) => Err(format!("it is written to once nobody runs it ({error})")),
        Ok(_) => Err("it can be written to".into()),
    }
}

#[test]
fn nobody_finds_the_hosts_programs_or_tree_at_an_exec() {
    if cannot_make_containers() {
        return;
    }
    for change in [with_ptrace as fn(&mut Value), |config| (with_ptrace(config), in_user_namespace(config)).0] {
        let life = Life::new(Bundle::new().with_args(&["sleep", "1000"]).with(change));
        life.created(&[]).started();
        for options in [&[][..], &["--tty"], &["--user", "1000"]] {
            let mut census = Census::new(&life.bundle.rootfs(), true);
            let words =
                ["exec", options.first().copied().unwrap_or("--cwd=/"), options.get(1).copied().unwrap_or("--cwd=/")];
            let command = life.command(&[&words[..], &[life.id(), "true"]].concat());
            let output = at_each_stop(&command, |pid| census.look(pid));
            assert_eq!(output.status, 0, "{options:?}: {}", output.stderr);
            census.assert_clean(40);
        }
    }
}

/// Whether somebody with this process's ids and rights, but for CAP_SYS_PTRACE, may look at another: it is dumpable
/// (ptrace(2), "Ptrace access mode checking").
fn is_open_to_equals(pid: Pid) -> bool {
    const CAP_SYS_PTRACE: u64 = 1 << 19;
    // Rights are a thread's own.
    let equal = std::thread::spawn(move || {
        cred::drop_effective(CAP_SYS_PTRACE).expect("capset");
        fs::read_link(format!("/proc/{pid}/exe")).is_ok()
    });
    equal.join().expect("a thread")
}

/// Until it is the payload, rspawn-init has rights that a neighbour does not have, and may have descriptors of the host's.
/// Nobody may read its image, and so nobody may look at its process (CVE-2016-9962).
#[test]
fn no_equal_may_look_at_a_process_before_it_is_the_payload() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::script("true");
    let (mut closed, mut payload) = (0, 0);
    let mut look = |pid: Pid| {
        let Ok(exe) = fs::read_link(format!("/proc/{pid}/exe")) else { return };
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let is_inside = status_field(&status, "NSpid").is_some_and(|ids| ids.split_whitespace().count() > 1);
        match exe.to_string_lossy().contains("memfd:rspawn-") {
            true if is_inside => {
                assert!(!is_open_to_equals(pid), "{exe:?} at stop {closed}: {status}");
                closed += 1;
            }
            true => {}
            false if is_inside => payload += usize::from(is_open_to_equals(pid)),
            false => {}
        }
    };
    let output = at_each_stop(&life.making("run", &["--init=exec"]), &mut look);
    assert_eq!(output.status, 0, "{}", output.stderr);
    let life = Life::idle();
    life.created(&[]).started();
    let output = at_each_stop(&life.command(&["exec", life.id(), "true"]), &mut look);
    assert_eq!(output.status, 0, "{}", output.stderr);
    // That the payload may be looked at shows that there is something to see.
    assert!(closed > 80 && payload > 0, "{closed} stops before the payload, {payload} of it");
    life.delete(&["--force"]).ok();
    life.assert_gone();
}

#[test]
fn nobody_finds_the_hosts_programs_at_a_start() {
    if cannot_make_containers() {
        return;
    }
    let hook = json!([{"path": "/bin/busybox", "args": ["busybox", "true"]}]);
    for init in ["--init=supervise", "--init=exec"] {
        let bundle = Bundle::script("exit 0").with(with_ptrace);
        let bundle = bundle.with(|config| config["hooks"] = json!({"startContainer": hook}));
        let life = Life::new(bundle);
        let mut census = Census::new(&life.bundle.rootfs(), false);
        let output = at_each_stop(&life.making("run", &[init]), |pid| census.look(pid));
        assert_eq!(output.status, 0, "{init}: {}", output.stderr);
        census.assert_clean(300);
        life.assert_gone();
    }
}

/// A pod: another container's pid namespace is joined, and somebody in it may look at everything.
#[test]
fn nobody_finds_the_hosts_tree_at_a_start_among_others() {
    if cannot_make_containers() {
        return;
    }
    let neighbour = Life::idle();
    neighbour.created(&[]).started();
    let namespace = format!("/proc/{}/ns/pid", neighbour.pid());
    for (terminal, hooked) in [(false, false), (true, false), (false, true)] {
        let life =
            Life::new(Bundle::script("cat /proc/self/status /proc/sys/net/ipv4/ip_forward; ls /").with(|config| {
                with_ptrace(config);
                config["process"]["terminal"] = terminal.into();
                config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
                if hooked {
                    let hook = json!([{"path": "/bin/true"}]);
                    config["hooks"] = json!({"createRuntime": hook, "createContainer": hook});
                }
                let namespaces = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
                namespaces.iter_mut().find(|one| one["type"] == "pid").expect("a pid namespace")["path"] =
                    json!(namespace);
            }));
        let mut census = Census::new(&life.bundle.rootfs(), true);
        let output = at_each_stop(&life.making("run", &[]), |pid| census.look(pid));
        assert_eq!(output.status, 0, "{}{}", output.stdout, output.stderr);
        census.assert_clean(40);
        // procfs shows the namespace that was joined.
        assert!(output.stdout.contains("NSpid:") && output.stdout.contains("Pid:"), "{}", output.stdout);
        assert!(!output.stdout.contains("\nboot"), "{}", output.stdout);
        life.assert_gone();
    }
}

/// Where memory cannot be executed, an overlay is as good.
#[test]
fn programs_are_executed_where_memory_is_not() {
    const SWITCH: &str = "/proc/sys/vm/memfd_noexec";
    if cannot_make_containers() || skip_unless(Path::new(SWITCH).exists(), "this kernel always executes memory") {
        return;
    }
    // The switch is the pid namespace's, and only ever goes up.
    let life = Life::new(Bundle::script("cat /proc/self/status; readlink /proc/1/exe").with(with_ptrace));
    let script = format!("mount -t proc proc /proc && echo 2 > {SWITCH} && exec \"$0\" \"$@\"");
    let inner = life.making("run", &["--init=supervise"]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "sh", "-c", &script]).arg(inner.get_program()).args(inner.get_args());
    let output = life.run(command);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(output.stdout.ends_with("/rspawn-init\n"), "{}", output.stdout);
}

/// What a payload says of the kernel files that must be out of its reach.
const LOOK: &str = "stat -f -c %t /proc /sys; head -c 1 /proc/kcore | wc -c; head -c 1 /proc/keys | wc -c; ls /sys/firmware | wc -l; \
    ls /proc/acpi 2>/dev/null | wc -l; (echo 1 > /proc/sys/vm/drop_caches) 2>/dev/null && echo written; \
    (echo x > /proc/sysrq-trigger) 2>/dev/null && echo written; (mkdir /sys/fs/x) 2>/dev/null && echo written; \
    echo x > /dev/null && echo null; cat /data/inner/file; touch /data/new 2>/dev/null && echo writable; \
    grep -c -e ' /proc/' -e ' /sys/' /proc/self/mountinfo; true";

/// A container whose root filesystem a neighbour shares.
fn watched() -> Life {
    let mut bundle = Bundle::script(LOOK);
    let data = bundle.path().join("data");
    fs::create_dir_all(data.join("inner")).expect("a directory");
    fs::create_dir_all(bundle.path().join("inner")).expect("a directory");
    fs::write(bundle.path().join("inner/file"), "of the mount\n").expect("a file");
    let inner = bundle.path().join("inner").to_string_lossy().into_owned();
    bundle = bundle.with_mount("/data", "none", &data.to_string_lossy(), &["bind", "ro"]).with_mount(
        "/data/inner",
        "none",
        &inner,
        &["bind", "ro"],
    );
    bundle = bundle.with(|config| {
        config["process"]["capabilities"] = json!({});
        config["linux"]["maskedPaths"] =
            json!(["/proc/kcore", "/proc/keys", "/proc/acpi", "/sys/firmware", "/proc/sysrq-trigger", "/data/secret"]);
        config["linux"]["readonlyPaths"] = json!(["/proc/sys", "/proc/bus", "/data"]);
    });
    let life = Life::new(bundle);
    // So that no case differs from the others by what the first one makes.
    for name in ["proc", "sys", "dev", "data"] {
        fs::create_dir_all(life.bundle.rootfs().join(name)).expect("a directory");
    }
    life
}

fn is_worker(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let is_in_a_container = status_field(&status, "NSpid").is_some_and(|ids| ids.split_whitespace().count() > 1);
    is_in_a_container && status_field(&status, "Name") == Some("rspawn-setup")
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Renamed {
    Never,
    Meanwhile,
    ForGood,
}

/// A neighbour takes a directory of the root filesystem away at one stop of the worker, puts another in its place, and
/// puts it back some stops later, or never. Gives what became of the start.
fn renamed(life: &Life, name: &str, at: usize, back: Option<usize>) -> (Output, Renamed) {
    let rootfs = life.bundle.rootfs();
    let (here, aside, other) = (rootfs.join(name), rootfs.join("aside"), rootfs.join("other"));
    let mut stop = 0;
    let (mut away, mut done) = (false, false);
    let output = at_each_stop(&life.making("run", &[]), |pid| {
        if done || !is_worker(pid) {
            return;
        }
        if !away && stop == at {
            away = fs::rename(&here, &aside).is_ok() && fs::create_dir(&here).is_ok();
        } else if away && back == Some(stop - at) {
            let _ = (fs::rename(&here, &other), fs::rename(&aside, &here));
            done = true;
        }
        stop += 1;
    });
    let renamed = match (away, done) {
        (false, _) => Renamed::Never,
        (true, false) => Renamed::ForGood,
        (true, true) => Renamed::Meanwhile,
    };
    if renamed == Renamed::ForGood {
        let _ = (fs::rename(&here, &other), fs::rename(&aside, &here));
    }
    let _ = fs::remove_dir_all(&other);
    (output, renamed)
}

#[test]
fn a_neighbour_that_renames_at_any_call_unmasks_nothing() {
    if cannot_make_containers() {
        return;
    }
    let life = watched();
    let good = life.run(life.making("run", &[])).ok();
    assert!(good.starts_with("9fa0\n62656572\n0\n0\n0\n0\nnull\nof the mount\n"), "{good}");
    // Each stop takes minutes: `RSPAWN_EVERY_STOP=1` does.
    let strides = if std::env::var_os("RSPAWN_EVERY_STOP").is_some() { (1, 1) } else { (17, 41) };
    let mut counts = (0, 0);
    for name in ["proc", "sys", "dev", "data"] {
        // For good, and for the time of one call or of some.
        for back in [None, Some(2), Some(12)] {
            // A stop is the beginning or the end of a call; what the kernel resolves, it resolves between the two.
            let mut at = 0;
            loop {
                let (output, renamed) = renamed(&life, name, at, back);
                if renamed == Renamed::Never {
                    assert_eq!(output.stdout, good, "{name}, at no stop");
                    break;
                }
                let case = format!("{name} renamed at stop {at}, back after {back:?}");
                match output.status {
                    // Whoever renames it for good after the last look has it his way: the container finds an empty
                    // directory there, and what was mounted has moved with all its masks.
                    0 if renamed == Renamed::ForGood => {
                        assert!(is_harmless(&output.stdout, &good), "{case}: {output:?}")
                    }
                    0 => assert_eq!(output.stdout, good, "{case}"),
                    _ => assert_eq!(output.status, 1, "{case}: {output:?}"),
                }
                counts = if output.status == 0 { (counts.0 + 1, counts.1) } else { (counts.0, counts.1 + 1) };
                at += if back.is_none() { strides.0 } else { strides.1 };
            }
        }
    }
    println!("starts that went well with everything in its place: {}; refused: {}", counts.0, counts.1);
    assert!(counts.0 >= 20 && counts.1 >= 20, "{counts:?}");
    life.assert_gone();
}

/// Where there is a procfs or sysfs it shows what it should; else an empty directory of the neighbour's is there.
fn is_harmless(seen: &str, good: &str) -> bool {
    let filesystems = |text: &str| text.lines().take(2).map(str::to_string).collect::<Vec<_>>();
    let shown: Vec<&str> = seen.lines().skip(2).take(4).collect();
    shown.iter().all(|line| *line == "0") && (filesystems(seen) != filesystems(good) || !seen.contains("written"))
}

/// The clock that chmod, chown and touch move, of each device that engines show to containers.
fn devices() -> Vec<(String, u32, (i64, i64))> {
    let names = ["null", "zero", "full", "random", "urandom", "tty"];
    let state = |name: &str| {
        let found = fs::metadata(Path::new("/dev").join(name)).expect("a device");
        (name.to_string(), found.mode() ^ found.uid() << 16, (found.ctime(), found.ctime_nsec()))
    };
    names.map(state).into()
}

/// As a payload that wants to change every device it can name, by path and by descriptor.
const CHANGE: &str = "for file in /proc/keys /proc/timer_list /proc/self/fd/0 /proc/1/fd/0 /dev/null /dev/zero /dev/full \
    /dev/random /dev/urandom /dev/tty; do chmod 600 $file; chown 0:0 $file; chown 5:5 $file; touch $file; done \
    2>/dev/null; echo tried";

#[test]
fn the_hosts_devices_stay_as_they_are() {
    if cannot_make_containers() {
        return;
    }
    let before = devices();
    let bound = json!({"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind", "ro"]});
    type Change<'a> = &'a dyn Fn(&mut Value);
    let changes: [(&str, Change); 4] = [
        ("as it is", &|_| {}),
        ("without capabilities", &|config| config["process"]["capabilities"] = json!({})),
        ("in a user namespace", &|config| in_user_namespace(config)),
        ("with the host's /dev", &|config| {
            let mounts = config["mounts"].as_array_mut().expect("mounts");
            mounts.retain(|mount| !mount["destination"].as_str().is_some_and(|at| at.starts_with("/dev")));
            mounts.push(bound.clone());
        }),
    ];
    for (name, change) in changes {
        for init in ["--init=supervise", "--init=exec"] {
            let life = Life::new(Bundle::script(CHANGE).with(|config| change(config)));
            assert_eq!(life.run(life.making("run", &[init])).ok(), "tried\n", "{name}, {init}");
        }
        let life = Life::new(Bundle::new().with_args(&["sleep", "1000"]).with(|config| change(config)));
        life.created(&[]).started();
        assert_eq!(life.exec(&[], &["sh", "-c", CHANGE]).ok(), "tried\n", "{name}, exec");
        assert_eq!(devices(), before, "{name}");
    }
}

/// Mounts of the container on clones of the host's shared mounts stay the container's.
#[test]
fn mounts_of_the_container_do_not_show_on_the_host() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::new(Bundle::script("exit 0").with_mount("/data/sub", "tmpfs", "tmpfs", &[]));
    let place = life.bundle.path().to_string_lossy().into_owned();
    let script = format!(
        "mount --bind {place} {place} && mount --make-shared {place} && before=$(wc -l < /proc/self/mountinfo) && \
         \"$0\" \"$@\" && test $before = $(wc -l < /proc/self/mountinfo)"
    );
    let inner = life.making("run", &[]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]).arg(inner.get_program()).args(inner.get_args());
    life.run(command).ok();
}

#[test]
fn leaked_descriptors_are_nobodys() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::new(Bundle::script("touch /started; ls /proc/self/fd | wc -l; read x; exit 0"));
    let secret = life.bundle.path().join("secret");
    fs::write(&secret, "").expect("a file");
    let inner = life.making("run", &[]);
    let mut command = Command::new("sh");
    command
        .args(["-c", "exec 5<$0 7<$0 9<$0; exec \"$@\""])
        .arg(&secret)
        .arg(inner.get_program())
        .args(inner.get_args());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("a shell");
    wait_for("the payload starts", || life.bundle.rootfs().join("started").exists());
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let setup =
        fs::read_to_string(children).expect("children").split_whitespace().next().unwrap_or_default().to_string();
    let is_confined = |pid: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status_field(&status, "Seccomp") == Some("2")
    };
    wait_for("rspawn-setup supervises", || is_confined(&setup));
    for pid in [child.id().to_string(), setup] {
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").flatten() {
            assert_ne!(fs::read_link(entry.path()).unwrap_or_default(), secret, "process {pid} has {:?}", entry.path());
        }
    }
    child.stdin.take().expect("a pipe").write_all(b"\n").expect("a line");
    assert!(child.wait().expect("an end").success());
    life.assert_gone();
}

/// The host's procfs, whole in the mount namespace, would let a payload mount a new one in a namespace of its own.
#[test]
fn without_a_pivot_no_new_procfs_can_be_mounted() {
    if cannot_make_containers() {
        return;
    }
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").expect("a pattern");
    let attack = "busybox unshare -mrpf sh -c 'mount -t proc none /proc && echo mounted; : >> \
                  /proc/sys/kernel/core_pattern && echo written' 2>&1; echo ended";
    for options in [&[][..], &["--no-pivot"]] {
        for user in [false, true] {
            let bundle = Bundle::script(attack).with(with_ptrace);
            let life = Life::new(if user { bundle.with(in_user_namespace) } else { bundle });
            let output = life.run(life.making("run", options));
            assert!(output.stdout.ends_with("ended\n"), "{options:?}: {output:?}");
            assert!(
                !output.stdout.contains("mounted") && !output.stdout.contains("written"),
                "{options:?}: {output:?}"
            );
        }
    }
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").expect("a pattern"), pattern);
}

/// The rights of whoever enters a container fall before anybody there can see it.
#[test]
fn an_exec_enters_with_no_more_rights_than_it_needs() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::new(Bundle::new().with_args(&["sleep", "1000"]).with(with_ptrace));
    life.created(&[]).started();
    let (mut most, mut seen) = (0u64, 0);
    let own = fs::read_link("/proc/self/ns/pid").expect("a namespace");
    let output = at_each_stop(&life.command(&["exec", life.id(), "true"]), |pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        if fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|namespace| namespace != own) {
            let bits = status_field(&status, "CapPrm").and_then(|bits| u64::from_str_radix(bits, 16).ok());
            most |= bits.unwrap_or(u64::MAX);
            seen += 1;
        }
    });
    assert_eq!(output.status, 0, "{}", output.stderr);
    // SYS_MODULE, SYS_RAWIO, DAC_READ_SEARCH, SYS_ADMIN, NET_ADMIN, BPF: none is the payload's, none needed.
    for capability in [16, 17, 2, 21, 12, 39] {
        assert_eq!(most & 1 << capability, 0, "capability {capability} of {most:#x}, at {seen} stops");
    }
    assert!(seen > 40, "{seen}");
}

/// The programs themselves: a check that the suite's own are what they were.
#[test]
fn rspawns_programs_cannot_be_reached_by_name_from_inside() {
    if cannot_make_containers() {
        return;
    }
    let attack = "for n in /proc/[0-9]*; do (: >> $n/exe) 2>/dev/null && [ $n != /proc/self ] && \
                  case $(readlink $n/exe) in */busybox) ;; *) echo $n $(readlink $n/exe);; esac; done; echo ended";
    let length = fs::metadata(program("rspawn-setup")).expect("rspawn-setup").len();
    let life = Life::new(Bundle::new().with_args(&["sleep", "1000"]).with(with_ptrace));
    life.created(&["--init=supervise"]).started();
    assert_eq!(life.exec(&[], &["sh", "-c", attack]).ok(), "ended\n");
    assert_eq!(fs::metadata(program("rspawn-setup")).expect("rspawn-setup").len(), length);
}
