//! What the hostile tests share: canaries on the host, a seeded source of numbers, and a parent that lies.
use std::fs;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use rspawn_planner::{InitChoice, Options};
use rspawn_proto::ids::{ContainerId, HostPath, Text};
use rspawn_proto::msg::{FromSetup, InvokerRequest, Mode, Purpose, ToSetup};
use rspawn_proto::plan::Plan;
use rspawn_proto::policy::{Policy, Violation};
use rspawn_proto::report::StepError;
use rspawn_proto::{WIRE_VERSION, codec};
use rspawn_sys::{Fd, channel};
use serde_json::Value;

/// Files of the host that nothing may touch, as they were.
pub struct Canaries {
    files: Vec<(PathBuf, State)>,
}

#[derive(Debug, PartialEq)]
struct State {
    content: Option<Vec<u8>>,
    entries: Vec<String>,
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
}

impl State {
    fn of(path: &Path) -> Self {
        let found = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("the canary {}: {error}", path.display()));
        let mut entries: Vec<String> = fs::read_dir(path)
            .map(|list| list.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
            .unwrap_or_default();
        entries.sort();
        Self {
            content: found.is_file().then(|| fs::read(path).expect("a readable canary")),
            entries,
            mode: found.mode(),
            owner: (found.uid(), found.gid()),
            modified: (found.mtime(), found.mtime_nsec()),
        }
    }
}

impl Canaries {
    /// Lays out a directory with files that attacks are pointed at: `secret`, `empty` and the directory `dir`.
    pub fn lay_out(outside: &Path) -> Self {
        fs::create_dir_all(outside.join("dir")).expect("a directory for canaries");
        fs::write(outside.join("secret"), "the host's secret\n").expect("a canary");
        fs::write(outside.join("empty"), "").expect("a canary");
        fs::write(outside.join("dir/file"), "below\n").expect("a canary");
        fs::set_permissions(outside.join("secret"), fs::Permissions::from_mode(0o640)).expect("a mode");
        let files = ["", "dir", "dir/file", "secret", "empty"].map(|name| outside.join(name));
        Self { files: files.into_iter().map(|path| (path.clone(), State::of(&path))).collect() }
    }

    #[track_caller]
    pub fn assert_untouched(&self) {
        for (path, before) in &self.files {
            assert_eq!(*before, State::of(path), "the host's {} was touched", path.display());
        }
    }
}

/// splitmix64: the seed is all there is to print.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.number() % limit.max(1) as u64) as usize
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Options of a plan for a bundle.
pub fn options(id: &str, bundle: &Path) -> Options {
    Options::dry_run(id, bundle.to_string_lossy().into_owned(), InitChoice::Auto).expect("an id")
}

/// The plan of a configuration that must be good.
#[track_caller]
pub fn plan_of(config: &Value, id: &str, bundle: &Path) -> Plan {
    let spec = rspawn_planner::oci::parse(config.to_string().as_bytes()).expect("a configuration");
    rspawn_planner::plan(&spec, &rspawn_host::facts::gather().expect("facts"), &options(id, bundle))
        .expect("a plan")
        .plan
}

/// The message with a plan, no streams beside it.
pub fn plan_message(plan: Plan) -> ToSetup {
    ToSetup::Plan { plan, streams: Vec::new() }
}

pub fn trusted(id: &str, policy: Policy) -> InvokerRequest {
    let id = ContainerId::new(id).expect("an id");
    let text = |text: &str| Text::new(text).expect("a text");
    let bundle = HostPath::new("/").expect("a path");
    let purpose = Purpose::Container { bundle, created: 0, owner: 0, boot: text("none") };
    InvokerRequest {
        version: WIRE_VERSION,
        id,
        policy,
        mode: Mode::Foreground,
        keep: false,
        purpose,
        pid_file: None,
        audit: false,
        preserve_fds: 0,
        no_pivot: false,
        kernel_mounts: Vec::new(),
        bus: false,
    }
}

/// What an invoker says who wants a process in a running container.
pub fn trusted_exec(id: &str, policy: Policy) -> InvokerRequest {
    use rspawn_proto::namespaces::Namespace;
    // What a container of root's has of its own: the kernel lets nobody join the user namespace they are in.
    let namespaces = Namespace::ALL.into_iter().filter(|kind| *kind != Namespace::User).collect();
    InvokerRequest { purpose: Purpose::Exec { namespaces, cgroups: Vec::new() }, ..trusted(id, policy) }
}

/// A parent that says what it likes to a real rspawn-setup.
pub struct EvilParent {
    control: Option<Fd>,
    setup: Child,
    /// A state directory and the one around it, which ride on the invoker's message.
    state: [Fd; 2],
    _scratch: crate::Scratch,
}

/// How rspawn-setup ended.
#[derive(Debug)]
pub enum Verdict {
    Failed(StepError),
    Refused(Vec<Violation>),
    /// The container ran; its wait status.
    Ran(i32),
    /// It hung up without a word.
    Silence,
}

impl EvilParent {
    pub fn start() -> Self {
        let (domain, kind) = (AddressFamily::Unix, SockType::SeqPacket);
        let (control, theirs) = socketpair(domain, kind, None, SockFlag::SOCK_CLOEXEC).expect("a socket pair");
        let control = Fd::from_raw(control.into_raw_fd());
        // A shell puts the descriptors where they survive exec, as a thread of this process cannot do without the
        // others' children inheriting them too.
        let page = nix::sys::memfd::memfd_create(c"progress", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).expect("a memfd");
        let page = fs::File::from(page);
        page.set_len(4096).expect("a page");
        let setup = Command::new("/bin/sh")
            .args(["-c", "exec \"$0\" 8 9 7 7<\"${0%/*}\" 8<&0 9<&1 </dev/null >&2"])
            .arg(crate::program("rspawn-setup"))
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::from(page))
            .stderr(Stdio::piped())
            .spawn()
            .expect("rspawn-setup");
        let scratch = crate::Scratch::new();
        fs::create_dir(scratch.path.join("state")).expect("a state directory");
        let open = |path: &Path| Fd::from_raw(fs::File::open(path).expect("a directory").into_raw_fd());
        let state = [open(&scratch.path.join("state")), open(&scratch.path)];
        Self { control: Some(control), setup, state, _scratch: scratch }
    }

    pub fn pid(&self) -> u32 {
        self.setup.id()
    }

    pub fn control(&self) -> &Fd {
        self.control.as_ref().expect("the socket is open")
    }

    pub fn say(&self, message: &ToSetup) {
        // Beside a plan, descriptors are streams for the payload.
        let fds = if matches!(message, ToSetup::Plan { .. }) { &[][..] } else { &self.state.each_ref()[..] };
        let _ = channel::send_value(self.control(), message, fds);
    }

    /// A message with other descriptors than those of a container.
    pub fn say_with(&self, message: &ToSetup, fds: &[&Fd]) {
        let _ = channel::send_value(self.control(), message, fds);
    }

    /// A whole message of any bytes.
    pub fn say_bytes(&self, message: &[u8]) {
        let _ = channel::send(self.control(), message, &self.state.each_ref());
    }

    /// One packet as it is.
    pub fn say_packet(&self, packet: &[u8]) {
        let _ = self.control().write(packet);
    }

    /// Says that nothing more will come, which a message that is not whole waits for.
    pub fn fall_silent(&self) {
        let _ = nix::sys::socket::shutdown(self.control().raw(), nix::sys::socket::Shutdown::Write);
    }

    /// Hears rspawn-setup out. Also gives what it wrote to stderr.
    #[track_caller]
    pub fn verdict(mut self) -> (Verdict, i32, String) {
        let control = self.control.take().expect("the socket is open");
        let (told, tells) = mpsc::channel();
        std::thread::spawn(move || {
            let mut verdict = Verdict::Silence;
            while let Ok(Some((message, _))) = channel::receive_value::<FromSetup>(&control) {
                match message {
                    FromSetup::Failed(error) => verdict = Verdict::Failed(error),
                    FromSetup::Refused(violations) => verdict = Verdict::Refused(violations),
                    FromSetup::Exited { status } => verdict = Verdict::Ran(status),
                    _ => continue,
                }
                break;
            }
            let _ = told.send(verdict);
        });
        let Ok(verdict) = tells.recv_timeout(Duration::from_secs(30)) else {
            let _ = self.setup.kill();
            panic!("rspawn-setup hung");
        };
        let output = crate::collect(self.setup);
        (verdict, output.status, output.stderr)
    }

    /// Hangs up.
    pub fn hang_up(&mut self) {
        self.control = None;
    }

    /// What rspawn-setup ends with after it was hung up on.
    #[track_caller]
    pub fn end(self) -> crate::Output {
        drop(self.control);
        crate::collect(self.setup)
    }
}

/// Bytes of a message as packets put them on the wire.
pub fn packets(message: &[u8]) -> Vec<Vec<u8>> {
    rspawn_proto::msg::packets(message).collect()
}

/// Sends an invoker's message and a plan; gives how it ended.
#[track_caller]
pub fn submit(trusted: InvokerRequest, plan: Plan) -> (Verdict, i32, String) {
    let parent = EvilParent::start();
    parent.say(&ToSetup::Request(trusted));
    parent.say(&plan_message(plan));
    parent.verdict()
}

/// The text of a policy that refuses nothing but by the keys that are given, and by those that `-KEY` leaves unset.
pub fn only(text: &str) -> String {
    const OPEN: [&str; 11] = [
        "kernel = writable", "bind.allow = any", "caps.max = all", "seccomp = allowed", "namespaces.own = none",
        "join.allow = any", "devices.allow = any", "filesystems.allow = any", "hooks.allow = any",
        "systemd.properties = any", "net-devices.allow = any",
    ];
    let key = |line: &str| line.trim_start_matches('-').split('=').next().unwrap_or_default().trim().to_string();
    let given: Vec<String> = text.lines().map(key).collect();
    let rest = OPEN.iter().filter(|line| !given.contains(&key(line)));
    let mode = if given.iter().any(|key| key == "mode") { "" } else { "mode = enforce\n" };
    let text: String = text.lines().filter(|line| !line.starts_with('-')).map(|line| format!("{line}\n")).collect();
    rest.fold(format!("{mode}{text}"), |all, line| all + line + "\n")
}

/// The policy that a policy file stands for, by `rspawn policy`.
#[track_caller]
pub fn policy(text: &str, scratch: &Path) -> Policy {
    let file = scratch.join("policy.conf");
    fs::write(&file, text).expect("a policy file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("a mode");
    let output = Command::new(crate::program("rspawn"))
        .args(["policy", "show", "--format=bin"])
        .arg(&file)
        .output()
        .expect("rspawn policy show");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    codec::decode_message(&output.stdout).expect("a policy")
}
