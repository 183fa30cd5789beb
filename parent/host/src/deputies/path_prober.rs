//! Questions about files that can only be asked with the invoker's rights, after this process has given them up.
//!
//! Who the users of a container are stands in its root, and which directory that is stands in config.json, which is
//! read without a right to open anything. So, only where it is needed (`--user=NAME`, `--volatile=yes`, a settings file
//! that is not trusted, `rspawn check`), a second process is started beforehand that keeps the invoker's rights and
//! answers questions over a socket. It says nothing but what a path is ([`super::path_answers`]), and hands out two
//! files alone: `etc/passwd` and `etc/group` below a directory that the asker names, resolved in that directory as the
//! root and never through a magic link. That is all that a planner which was taken over gains by it.
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use bincode::{Decode, Encode};
use rspawn_sys::confine::{self, Allowed, Argument, allow_only};
use rspawn_sys::file::{self, Resolve};
use rspawn_sys::{Errno, Fd, channel};

use super::path_answers::{self, Entry, Kind, NamespaceAnswer, ProgramAnswer, SysctlAnswer};
use super::path_answers::{namespace_of, program_of, sysctl_of};
use crate::errors;
use crate::errors::io_error;
use rspawn_planner::overrides::user::Database;
use rspawn_planner::start_facts::{self, Look, NamespaceSeen, Program, Seen, Sysctl};

/// The hidden verb that the second process is started with.
pub const VERB: &str = "answer-questions";

#[derive(Debug, Clone, Encode, Decode)]
enum Question {
    /// What a path of the host leads to.
    LeadsTo { path: String },
    /// What a path below a root is; the last component is not followed.
    Entry { root: String, path: String },
    /// What execve(2) would read of a file below a root.
    Program { root: String, path: String },
    /// Which namespace a path of the host leads to.
    Namespace { path: String },
    /// Whether processes are in a cgroup.
    IsPopulated { cgroup: String },
    /// What a file of /proc/sys is.
    Sysctl { path: String },
    /// The container's user database.
    Users { root: String },
}

#[derive(Debug, Clone, Encode, Decode)]
enum Answer {
    Entry(Entry),
    Program(ProgramAnswer),
    Namespace(Option<NamespaceAnswer>),
    Sysctl(SysctlAnswer),
    IsPopulated(bool),
    /// errno
    No(i32),
    /// Which of /etc/passwd and /etc/group ride on the message.
    Users {
        passwd: bool,
        group: bool,
    },
}

/// What is said where an answer does not fit the question.
const OTHER_ANSWER: &str = "the answer is to another request";

/// The second process, from the first one's side. It ends when this is dropped.
pub struct PathProber {
    socket: Option<Fd>,
    child: Child,
}

impl PathProber {
    /// Starts it: before privileges go.
    pub fn start() -> io::Result<Self> {
        let (mine, theirs) = channel::pair().map_err(io_error)?;
        theirs.keep_on_exec().map_err(io_error)?;
        let me = std::env::current_exe()?;
        let child = Command::new(me)
            .args([VERB, &theirs.raw().to_string()])
            .env_clear()
            // The terminal's signals are not for it.
            .process_group(0)
            .spawn()?;
        Ok(Self { socket: Some(mine), child })
    }

    fn ask(&self, question: &Question) -> Result<(Answer, Vec<Fd>), String> {
        let asked = self.socket.as_ref().ok_or(Errno::EIO).and_then(|socket| {
            channel::send_value(socket, question, &[])?;
            channel::receive_value(socket)?.ok_or(Errno::EIO)
        });
        asked.map_err(|errno| format!("cannot ask about the host's files: {}", errors::describe(errno.0)))
    }

    /// What a path in a container's root is, links not followed.
    pub fn what_below(&self, root: &str, path: &str) -> Result<Result<Kind, i32>, String> {
        match self.ask(&Question::Entry { root: root.into(), path: path.into() })?.0 {
            Answer::Entry(entry) => Ok(Ok(entry.kind)),
            Answer::No(number) => Ok(Err(number)),
            _ => Err(OTHER_ANSWER.into()),
        }
    }

    /// An answer of one kind, or the errno.
    fn answer<T>(&self, question: &Question, take: impl FnOnce(Answer) -> Option<T>) -> Result<Seen<T>, String> {
        match self.ask(question)?.0 {
            Answer::No(number) => Ok(Err(number)),
            answer => take(answer).map(Ok).ok_or_else(|| OTHER_ANSWER.into()),
        }
    }

    /// The user database of a container: of its /etc/passwd and /etc/group what there is.
    pub fn users(&self, root: &str) -> Result<Database, String> {
        match self.ask(&Question::Users { root: root.into() })? {
            (Answer::Users { passwd, group }, fds) => {
                let mut files = fds.into_iter();
                let mut next = |sent: bool| if sent { files.next() } else { None };
                UserFiles { passwd: next(passwd), group: next(group) }.read()
            }
            (Answer::No(number), _) => Err(format!("cannot open {root}: {}", errors::describe(number))),
            _ => Err(OTHER_ANSWER.into()),
        }
    }

    /// The links to /usr in a root that keeps everything else there; the error says why it is no such root.
    pub fn usr_links(&self, root: &str) -> Result<Vec<&'static str>, String> {
        /// Directories that a merged /usr has taken in (file-hierarchy(7)).
        const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
        if self.what_below(root, "usr")? != Ok(Kind::Directory) {
            return Err(format!("{root} has no directory /usr"));
        }
        let mut links = Vec::new();
        for name in MERGED {
            match self.what_below(root, name)? {
                Ok(Kind::Link) => links.push(name),
                Err(libc::ENOENT) => {}
                _ => {
                    return Err(format!(
                        "/{name} of {root} is not a link to /usr/{name}, so its files would be missing"
                    ));
                }
            }
        }
        Ok(links)
    }
}

/// A container's user database, opened.
pub struct UserFiles {
    passwd: Option<Fd>,
    group: Option<Fd>,
}

impl UserFiles {
    /// Those below a root that is held.
    pub fn open(root: &Fd) -> rspawn_sys::Result<Self> {
        Ok(Self { passwd: open_if_there(root, "etc/passwd")?, group: open_if_there(root, "etc/group")? })
    }

    /// Of the two files what there is.
    pub fn read(&self) -> Result<Database, String> {
        let [passwd, group] = [&self.passwd, &self.group].map(|file| file.as_ref().map(read).transpose());
        let passwd = passwd?.ok_or("the container has no file /etc/passwd")?;
        Ok(Database { passwd, group: group?.unwrap_or_default() })
    }
}

fn entry_in(answer: Answer) -> Option<start_facts::Entry> {
    if let Answer::Entry(entry) = answer { Some(entry.into()) } else { None }
}

impl Look for PathProber {
    fn entry(&self, root: &str, path: &str) -> Result<Seen<start_facts::Entry>, String> {
        self.answer(&Question::Entry { root: root.into(), path: path.into() }, entry_in)
    }

    fn leads_to(&self, path: &str) -> Result<Seen<start_facts::Entry>, String> {
        self.answer(&Question::LeadsTo { path: path.into() }, entry_in)
    }

    fn program(&self, root: &str, path: &str) -> Result<Seen<Program>, String> {
        self.answer(&Question::Program { root: root.into(), path: path.into() }, |answer| match answer {
            Answer::Program(program) => Some(program_of(program)),
            _ => None,
        })
    }

    fn namespace(&self, path: &str) -> Result<Seen<Option<NamespaceSeen>>, String> {
        self.answer(&Question::Namespace { path: path.into() }, |answer| match answer {
            Answer::Namespace(found) => Some(found.map(namespace_of)),
            _ => None,
        })
    }

    fn is_populated(&self, cgroup: &str) -> Result<Seen<bool>, String> {
        self.answer(&Question::IsPopulated { cgroup: cgroup.into() }, |answer| match answer {
            Answer::IsPopulated(is) => Some(is),
            _ => None,
        })
    }

    fn sysctl(&self, path: &str) -> Result<Seen<Sysctl>, String> {
        self.answer(&Question::Sysctl { path: path.into() }, |answer| match answer {
            Answer::Sysctl(sysctl) => Some(sysctl_of(sysctl)),
            _ => None,
        })
    }
}

/// Bytes of a passwd or group file that are read.
const MOST: usize = 4 << 20;

fn read(file: &Fd) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut buffer = [0u8; 16 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(_) if bytes.len() > MOST => return Err("the container's user database is larger than 4 MiB".into()),
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            Err(error) => {
                return Err(format!("cannot read the container's user database: {}", errors::describe(error.0)));
            }
        }
    }
}

impl Drop for PathProber {
    fn drop(&mut self) {
        // It reads the end of the stream, and ends.
        self.socket = None;
        let _ = self.child.wait();
    }
}

/// The second process: answers until nobody asks any more.
pub fn answer(socket: &Fd) -> i32 {
    if confine().is_err() {
        return 1;
    }
    loop {
        match channel::receive_value::<Question>(socket) {
            Ok(Some((question, _))) => {
                let (answer, files) = answer_to(&question);
                let fds: Vec<&Fd> = files.iter().collect();
                if channel::send_value(socket, &answer, &fds).is_err() {
                    return 1;
                }
            }
            Ok(None) => return 0,
            Err(_) => return 1,
        }
    }
}

/// The calls that the answers take, and what Rust's heap and end take.
fn confine() -> rspawn_sys::Result<()> {
    use libc::*;
    rspawn_sys::cred::no_new_privileges()?;
    let calls = [
        SYS_recvmsg, SYS_sendmsg, SYS_openat2, SYS_openat, SYS_statx, SYS_readlinkat, SYS_read, SYS_fstatfs,
        SYS_getdents64, SYS_lseek, SYS_close, SYS_brk, SYS_mmap, SYS_munmap, SYS_mremap, SYS_madvise, SYS_futex,
        SYS_sigaltstack, SYS_rt_sigprocmask, SYS_exit_group, SYS_restart_syscall,
    ];
    /// ioctl_ns(2): which kind a namespace is of.
    const NS_GET_NSTYPE: u32 = 0xb703;
    let kind = Allowed::with(SYS_ioctl, [Argument::int(1, NS_GET_NSTYPE)]);
    allow_only(confine::calls(&calls).chain([kind]))
}

fn answer_to(question: &Question) -> (Answer, Vec<Fd>) {
    let answered = match question {
        Question::Users { root } => return users(root),
        Question::LeadsTo { path } => {
            file::open_host(path, file::O_PATH).and_then(|held| path_answers::led_to(&held)).map(Answer::Entry)
        }
        Question::Entry { root, path } => {
            hold(root, path, file::O_NOFOLLOW).and_then(|held| path_answers::entry(&held)).map(Answer::Entry)
        }
        Question::Program { root, path } => {
            hold(root, path, 0).and_then(|held| path_answers::program(&held)).map(Answer::Program)
        }
        Question::Namespace { path } => path_answers::namespace(path).map(Answer::Namespace),
        Question::IsPopulated { cgroup } => path_answers::is_populated(cgroup).map(Answer::IsPopulated),
        Question::Sysctl { path } => path_answers::sysctl(path).map(Answer::Sysctl),
    };
    (answered.unwrap_or_else(|errno| Answer::No(errno.0)), Vec::new())
}

/// Holds what is below a root, which is a directory, or the file itself where nothing is named below.
fn hold(root: &str, path: &str, flags: i32) -> rspawn_sys::Result<Fd> {
    if path.is_empty() {
        return file::open_host(root, file::O_PATH);
    }
    file::open_at(&open_root(root)?, path, file::O_PATH | flags, 0, Resolve::InRoot)
}

fn users(root: &str) -> (Answer, Vec<Fd>) {
    let root = match open_root(root) {
        Ok(root) => root,
        Err(errno) => return (Answer::No(errno.0), Vec::new()),
    };
    match UserFiles::open(&root) {
        Ok(UserFiles { passwd, group }) => {
            let answer = Answer::Users { passwd: passwd.is_some(), group: group.is_some() };
            (answer, passwd.into_iter().chain(group).collect())
        }
        Err(errno) => (Answer::No(errno.0), Vec::new()),
    }
}

/// Opens a file of an image that need not be there. What is something else than a file counts as none.
fn open_if_there(root: &Fd, path: &str) -> rspawn_sys::Result<Option<Fd>> {
    match open_regular(root, path) {
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EINVAL) => Ok(None),
        opened => opened.map(Some),
    }
}

fn open_root(path: &str) -> rspawn_sys::Result<Fd> {
    file::open_host(path, file::O_PATH | file::O_DIRECTORY)
}

/// Opens a file of an image for reading. What it is is known before it is opened for use: a device, or a FIFO that
/// nobody writes to, may answer an open(2) with an effect or never.
fn open_regular(root: &Fd, path: &str) -> rspawn_sys::Result<Fd> {
    let held = file::open_at(root, path, file::O_PATH, 0, Resolve::InRoot)?;
    if !file::status(&held)?.is(libc::S_IFREG) {
        return Err(Errno::EINVAL);
    }
    file::open_plainly(&file::proc_path(&held))
}
