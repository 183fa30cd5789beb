//! A terminal for programs under test: the slave is theirs, the master is read by a thread.
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, IntoRawFd};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{Winsize, openpty};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use crate::{Bundle, Output, PATIENCE, collect, container_processes, wait_for};

pub struct Terminal {
    master: File,
    slave: Option<File>,
    seen: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// A terminal of that many rows and columns; it does not echo what is typed, so that all that is seen is output.
    pub fn new(rows: u16, columns: u16) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).expect("a pseudoterminal");
        // Programs of other tests, which run beside this one, must not hold the terminal open.
        for end in [&pair.master, &pair.slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("close-on-exec");
        }
        let mut settings = tcgetattr(&pair.slave).expect("settings");
        settings.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(&pair.slave, SetArg::TCSANOW, &settings).expect("settings");
        let master = File::from(pair.master);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut from, to) = (master.try_clone().expect("a descriptor"), seen.clone());
        let reader = std::thread::spawn(move || {
            let mut buffer = [0u8; 16 << 10];
            // EIO: the last slave was closed.
            while let Ok(length) = from.read(&mut buffer) {
                if length == 0 {
                    break;
                }
                to.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Self { master, slave: Some(File::from(pair.slave)), seen, reader: Some(reader) }
    }

    /// Starts a command on the terminal, which becomes the controlling one of a new session.
    #[track_caller]
    pub fn start(&self, command: &Command) -> Child {
        let mut setsid = Command::new("setsid");
        setsid.arg("--ctty").arg("--wait").arg(command.get_program()).args(command.get_args());
        command.get_envs().for_each(|(name, value)| {
            match value {
                Some(value) => setsid.env(name, value),
                None => setsid.env_remove(name),
            };
        });
        let stream = || self.slave().try_clone().expect("a descriptor");
        setsid.stdin(stream()).stdout(stream()).stderr(stream());
        setsid.spawn().unwrap_or_else(|error| panic!("{setsid:?}: {error}"))
    }

    pub fn slave(&self) -> &File {
        self.slave.as_ref().expect("the slave is open until `finish`")
    }

    pub fn settings(&self) -> Termios {
        tcgetattr(self.slave()).expect("settings")
    }

    /// Whether the terminal is in the mode in which every key goes through as it is.
    pub fn is_raw(&self) -> bool {
        !self.settings().local_flags.intersects(LocalFlags::ICANON | LocalFlags::ISIG)
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        let master = self.master.as_fd().try_clone_to_owned().expect("a descriptor");
        let master = rspawn_sys::Fd::from_raw(master.into_raw_fd());
        rspawn_sys::pty::set_size(&master, rows, columns).expect("a size");
    }

    pub fn type_in(&self, keys: &[u8]) {
        (&self.master).write_all(keys).expect("the terminal's input");
    }

    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    /// Waits until the text shows on the terminal.
    #[track_caller]
    pub fn expect(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.seen().contains(text) {
            assert!(Instant::now() < deadline, "{text:?} never showed; this did: {:?}", self.seen());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the command to end; all that showed on the terminal is its stdout.
    #[track_caller]
    pub fn finish(mut self, child: Child) -> Output {
        let ended = collect(child);
        self.slave = None;
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        Output { status: ended.status, stdout: self.seen(), stderr: String::new() }
    }
}

/// Waits until a program of the container's has its terminal's foreground, so that keys are signals to it.
#[track_caller]
pub fn wait_for_foreground(bundle: &Bundle, command_line: &str) {
    wait_for(&format!("{command_line:?} is in the foreground"), || {
        container_processes(bundle).into_iter().any(|pid| {
            let of_process = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            // proc_pid_stat(5): after the name the state, the parent, the group, the session, the terminal and the
            // foreground group of that.
            let stat = of_process("stat");
            let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
            let words = of_process("cmdline").trim_end_matches('\0').replace('\0', " ");
            words == command_line && fields.len() > 5 && fields[5] == fields[2]
        })
    });
}
