//! Containers as clients drive them: `create`, `start`, `kill`, `exec`, `delete`, below a state root of the test's own.
use std::fs::{self, File};
use std::io::{IoSliceMut, Read};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::cmsg_space;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, bind, listen, recvmsg, socket,
};
use rspawn_proto::codec;
use rspawn_proto::record::Record;
use rspawn_sys::Fd;
use rspawn_sys::channel::wait_readable;
use serde_json::Value;

use crate::{Bundle, Output, PATIENCE, collect, leftovers, program, wait_for};

/// One container and its state root. Whatever is left of it goes at the end of the test.
pub struct Life {
    pub bundle: Bundle,
    pub root: PathBuf,
}

static COUNTER: AtomicU32 = AtomicU32::new(0);

impl Life {
    pub fn new(bundle: Bundle) -> Self {
        bundle.write_config();
        let root = bundle.state_root();
        Self { bundle, root }
    }

    /// A container whose payload is a shell script.
    pub fn script(script: &str) -> Self {
        Self::new(Bundle::script(script))
    }

    /// One whose payload does nothing until it is killed.
    pub fn idle() -> Self {
        Self::new(Bundle::new().with_args(&["sleep", "1000"]))
    }

    pub fn id(&self) -> &str {
        &self.bundle.id
    }

    pub fn state_directory(&self) -> PathBuf {
        self.root.join(self.id())
    }

    /// `rspawn` with the state root and these words.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program("rspawn"));
        command.arg("--root").arg(&self.root).args(words);
        match &self.bundle.user {
            Some(user) => self.bundle.command_of(user, command),
            None => command,
        }
    }

    /// A verb with options on this container.
    pub fn on_it(&self, verb: &str, options: &[&str]) -> Command {
        let mut command = self.command(&[verb]);
        command.args(options).arg(self.id());
        command
    }

    /// `create` or `run` of the bundle with options.
    pub fn making(&self, verb: &str, options: &[&str]) -> Command {
        let mut command = self.command(&[verb, "--bundle"]);
        command.arg(self.bundle.path()).args(options).arg(self.id());
        command
    }

    /// Starts a command whose streams go to files, since what it leaves behind would keep a pipe open.
    #[track_caller]
    pub fn spawn(&self, command: &mut Command) -> (Child, [PathBuf; 2]) {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let paths = ["stdout", "stderr"].map(|name| self.bundle.path().join(format!("{name}.{number}")));
        let [stdout, stderr] = paths.each_ref().map(|path| File::create(path).expect("a file for a stream"));
        let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn();
        (child.unwrap_or_else(|error| panic!("{command:?}: {error}")), paths)
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn run(&self, mut command: Command) -> Output {
        let (child, paths) = self.spawn(&mut command);
        self.outcome(child, &paths)
    }

    /// What became of a command that [`Life::spawn`] has started.
    #[track_caller]
    pub fn outcome(&self, child: Child, [stdout, stderr]: &[PathBuf; 2]) -> Output {
        let status = collect(child).status;
        let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        Output { status, stdout: read(stdout), stderr: read(stderr) }
    }

    #[track_caller]
    pub fn create(&self, options: &[&str]) -> Output {
        self.run(self.making("create", options))
    }

    #[track_caller]
    pub fn start(&self) -> Output {
        self.run(self.on_it("start", &[]))
    }

    #[track_caller]
    pub fn created(&self, options: &[&str]) -> &Self {
        assert_eq!(self.create(options).ok(), "");
        self
    }

    #[track_caller]
    pub fn started(&self) -> &Self {
        assert_eq!(self.start().ok(), "");
        self
    }

    #[track_caller]
    pub fn kill(&self, signal: &str) -> Output {
        let mut command = self.on_it("kill", &[]);
        command.arg(signal);
        self.run(command)
    }

    #[track_caller]
    pub fn delete(&self, options: &[&str]) -> Output {
        self.run(self.on_it("delete", options))
    }

    /// The state as `rspawn state` prints it; nothing if there is none.
    #[track_caller]
    pub fn state(&self) -> Option<Value> {
        let Output { status, stdout, stderr } = self.run(self.on_it("state", &[]));
        match status {
            0 => {
                assert_eq!(stderr, "");
                Some(serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}")))
            }
            _ => {
                assert_eq!((stdout.as_str(), stderr.as_str()), ("", "rspawn: container does not exist\n"));
                None
            }
        }
    }

    #[track_caller]
    pub fn status(&self) -> String {
        self.state().map_or("none".into(), |state| state["status"].as_str().expect("a status").to_string())
    }

    /// The pid of the first process; 0 if it has ended.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        self.state().expect("a container")["pid"].as_i64().expect("a pid") as i32
    }

    #[track_caller]
    pub fn wait_for_status(&self, status: &str) {
        wait_for(&format!("the container is {status}"), || self.status() == status);
    }

    /// Kills the container and waits until it has stopped.
    #[track_caller]
    pub fn stop(&self) {
        self.kill("KILL").ok();
        self.wait_for_status("stopped");
    }

    /// `rspawn exec` with options, and a command.
    pub fn exec_command(&self, options: &[&str], words: &[&str]) -> Command {
        let mut command = self.on_it("exec", options);
        command.args(words);
        command
    }

    #[track_caller]
    pub fn exec(&self, options: &[&str], words: &[&str]) -> Output {
        self.run(self.exec_command(options, words))
    }

    /// What the container's record says.
    pub fn record(&self) -> Record {
        let bytes = fs::read(self.state_directory().join("record")).expect("a record");
        codec::decode_plan(&bytes).expect("a whole record")
    }

    /// Makes the container's record say something else.
    pub fn change_record(&self, change: impl FnOnce(&mut Record)) {
        let mut record = self.record();
        change(&mut record);
        fs::write(self.state_directory().join("record"), codec::encode(&record).expect("bytes")).expect("the record");
    }

    /// A file of the container's root.
    pub fn file(&self, name: &str) -> String {
        fs::read_to_string(self.bundle.rootfs().join(name)).unwrap_or_default()
    }

    /// Neither state nor process nor mount is left.
    #[track_caller]
    pub fn assert_gone(&self) {
        assert!(!self.state_directory().exists(), "the state directory is left");
        let left = leftovers(self.id());
        assert!(left.is_empty(), "left behind: {left:#?}");
    }
}

/// The one line of a command that failed, without the program's name. It has said nothing else.
#[track_caller]
pub fn error(output: Output) -> String {
    let Output { status, stdout, stderr } = output;
    // Those of `exec` are a shell's.
    assert!(matches!(status, 1 | 126 | 127 | 255), "status {status}\nstdout: {stdout}\nstderr: {stderr}");
    assert_eq!(stdout, "", "nothing but the error");
    assert!(stderr.lines().count() == 1 && !stderr.contains("panicked") && !stderr.contains("a bug"), "{stderr}");
    stderr.trim_end().strip_prefix("rspawn: ").unwrap_or_else(|| panic!("{stderr}")).to_string()
}

impl Drop for Life {
    fn drop(&mut self) {
        let mut command = self.on_it("delete", &["--force"]);
        let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// Who waits for a console: a socket, and what came over it.
pub struct ConsoleSocket {
    pub path: PathBuf,
    listener: UnixListener,
}

/// What a runtime sent: exactly one message with exactly one descriptor, which is the master of a terminal.
pub struct Console {
    pub message: Vec<u8>,
    pub master: Fd,
}

impl Console {
    /// Reads until the text has shown.
    #[track_caller]
    pub fn expect(&self, text: &str) -> String {
        let mut seen = String::new();
        while !seen.contains(text) {
            let waited = wait_readable(&self.master, Some(PATIENCE.as_millis() as u32));
            assert_eq!(waited, Ok(true), "{text:?} never showed; this did: {seen:?}");
            let mut bytes = [0u8; 4096];
            // EIO: the last slave was closed.
            match self.master.read(&mut bytes) {
                Ok(length @ 1..) => seen.push_str(&String::from_utf8_lossy(&bytes[..length])),
                _ => panic!("{text:?} never showed; this did: {seen:?}"),
            }
        }
        seen
    }
}

impl ConsoleSocket {
    pub fn new(path: PathBuf) -> Self {
        // A path of any length: a socket address has room for 107 bytes.
        let directory = File::open(path.parent().expect("a directory")).expect("a directory");
        let name = path.file_name().expect("a name");
        let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
        let listener = UnixListener::bind(short).expect("a socket");
        // Where containers are users', each has its own.
        fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).expect("the socket's mode");
        Self { path, listener }
    }

    /// The next connection, whose reads end as this wait does: with an error, if nothing ever comes.
    #[track_caller]
    pub fn accept(&self) -> UnixStream {
        let listener = Fd::from_raw(self.listener.try_clone().expect("a descriptor").into_raw_fd());
        let waited = wait_readable(&listener, Some(PATIENCE.as_millis() as u32));
        assert_eq!(waited, Ok(true), "nobody ever connected to {}", self.path.display());
        let stream = self.listener.accept().expect("a connection").0;
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        stream
    }

    /// Receives until the runtime hangs up.
    #[track_caller]
    pub fn receive(&self) -> Console {
        let mut stream = self.accept();
        let mut bytes = [0u8; 4096];
        let mut pieces = [IoSliceMut::new(&mut bytes)];
        let mut space = cmsg_space!([i32; 8]);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let received = recvmsg::<()>(stream.as_raw_fd(), &mut pieces, Some(&mut space), flags).expect("a message");
        let length = received.bytes;
        let mut fds = Vec::new();
        for message in received.cmsgs().expect("control messages") {
            if let ControlMessageOwned::ScmRights(sent) = message {
                fds.extend(sent);
            }
        }
        assert_eq!(fds.len(), 1, "descriptors that were sent");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("the end of the stream");
        assert!(rest.is_empty(), "a second message: {rest:?}");
        Console { message: bytes[..length].to_vec(), master: Fd::from_raw(fds[0]) }
    }
}

/// A socket on which nobody is heard: one waits already, and it takes no more.
pub struct FullQueue {
    _listener: OwnedFd,
    _first: UnixStream,
}

impl FullQueue {
    #[track_caller]
    pub fn new(path: &Path) -> Self {
        let made = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
        let listener = made.expect("a socket");
        bind(listener.as_raw_fd(), &UnixAddr::new(path).expect("an address")).expect("a place for the socket");
        listen(&listener, Backlog::new(0).expect("no backlog")).expect("a listener");
        Self { _first: UnixStream::connect(path).expect("a place in the queue"), _listener: listener }
    }
}
