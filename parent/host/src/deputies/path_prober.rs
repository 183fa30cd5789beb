//! Questions about files that can only be asked with the invoker's rights, after this process has given them up.
//!
//! Who the users of a container are stands in its root, and which directory that is stands in config.json, which is
//! read without a right to open anything. So, only where it is needed (`--user=NAME`, `--volatile=yes`, a settings file
//! that is not trusted, `rspawn check`), a second process is started beforehand that keeps the invoker's rights and
//! answers two questions over a socket. It parses nothing, and says nothing but what a path is, and hands out two
//! files alone: `etc/passwd` and `etc/group` below a directory that the asker names, resolved in that directory as the
//! root and never through a magic link. That is all that a planner which was taken over gains by it.
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use bincode::{Decode, Encode};
use rspawn_sys::confine::{self, allow_only};
use rspawn_sys::file::{self, Resolve};
use rspawn_sys::{Errno, Fd, channel};

use crate::errors;
use crate::errors::io_error;
use rspawn_planner::overrides::user::Database;

/// The hidden verb that the second process is started with.
pub const VERB: &str = "answer-questions";

#[derive(Debug, Clone, Encode, Decode)]
enum Question {
    /// What a path of the host is.
    What { path: String },
    /// What a path below a root is; the last component is not followed.
    WhatBelow { root: String, path: String },
    /// The container's user database.
    Users { root: String },
}

#[derive(Debug, Clone, Encode, Decode)]
enum Answer {
    Is(Kind),
    /// errno
    No(i32),
    /// Which of /etc/passwd and /etc/group ride on the message.
    Users {
        passwd: bool,
        group: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Kind {
    Directory,
    File,
    Link,
    CharacterDevice,
    Other,
}

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

    /// What a path of the host is, or the errno of opening it.
    pub fn what(&self, path: &str) -> Result<Result<Kind, i32>, String> {
        self.kind(&Question::What { path: path.into() })
    }

    /// What a path in a container's root is, links not followed.
    pub fn what_below(&self, root: &str, path: &str) -> Result<Result<Kind, i32>, String> {
        self.kind(&Question::WhatBelow { root: root.into(), path: path.into() })
    }

    fn kind(&self, question: &Question) -> Result<Result<Kind, i32>, String> {
        match self.ask(question)?.0 {
            Answer::Is(kind) => Ok(Ok(kind)),
            Answer::No(number) => Ok(Err(number)),
            Answer::Users { .. } => Err("the answer is to another request".into()),
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
            _ => Err("the answer is to another request".into()),
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
        SYS_recvmsg, SYS_sendmsg, SYS_openat2, SYS_openat, SYS_statx, SYS_close, SYS_brk, SYS_mmap, SYS_munmap,
        SYS_mremap, SYS_madvise, SYS_futex, SYS_sigaltstack, SYS_rt_sigprocmask, SYS_exit_group, SYS_restart_syscall,
    ];
    allow_only(confine::calls(&calls))
}

fn answer_to(question: &Question) -> (Answer, Vec<Fd>) {
    let kind = |opened: rspawn_sys::Result<Fd>| match opened.and_then(|fd| file::status(&fd)) {
        Ok(found) => Answer::Is(kind_of(&found)),
        Err(errno) => Answer::No(errno.0),
    };
    match question {
        Question::What { path } => (kind(file::open_host(path, file::O_PATH)), Vec::new()),
        Question::WhatBelow { root, path } => {
            let opened = open_root(root)
                .and_then(|root| file::open_at(&root, path, file::O_PATH | file::O_NOFOLLOW, 0, Resolve::InRoot));
            (kind(opened), Vec::new())
        }
        Question::Users { root } => match open_root(root) {
            Ok(root) => match UserFiles::open(&root) {
                Ok(UserFiles { passwd, group }) => {
                    let answer = Answer::Users { passwd: passwd.is_some(), group: group.is_some() };
                    (answer, passwd.into_iter().chain(group).collect())
                }
                Err(errno) => (Answer::No(errno.0), Vec::new()),
            },
            Err(errno) => (Answer::No(errno.0), Vec::new()),
        },
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

fn kind_of(found: &file::Status) -> Kind {
    match found.mode & libc::S_IFMT {
        libc::S_IFDIR => Kind::Directory,
        libc::S_IFREG => Kind::File,
        libc::S_IFLNK => Kind::Link,
        libc::S_IFCHR => Kind::CharacterDevice,
        _ => Kind::Other,
    }
}
