//! Signals as messages.
use rspawn_report::describe;
use rspawn_sys::{Errno, Fd, signal};

/// Size of struct signalfd_siginfo.
const SIGINFO: usize = 128;

/// All signals, as a descriptor to read them from. Set up before privileges go.
pub struct Signals(pub Fd);

impl Signals {
    /// Blocks every signal: from here on they are messages. Not by the C library, which spares the two real-time ones
    /// that it uses among threads; there is one thread here, and a payload may know them by other names.
    pub fn take() -> Result<Self, String> {
        let taken = signal::set_blocked(u64::MAX).and_then(|_| signal::descriptor(u64::MAX));
        taken.map(Self).map_err(|errno| format!("cannot take signals: {}", describe::errno(errno.0)))
    }

    /// Does what may wait for somebody else, such as to read a pipe or a file system of a user's: signals end this
    /// process meanwhile, as they do those that take none.
    pub fn aside<T>(signals: Option<&Self>, action: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        let block = |set: u64| {
            let set = signals.map_or(Ok(0), |_| signal::set_blocked(set));
            set.map(drop).map_err(|errno| format!("cannot take signals: {}", describe::errno(errno.0)))
        };
        block(FILE_SIZE)?;
        let done = action();
        block(u64::MAX)?;
        done
    }

    /// The number of the next one that has come.
    pub fn next(&self) -> Result<Option<u8>, String> {
        let mut info = [0u8; SIGINFO];
        let length = self.0.read(&mut info).map_err(|errno| describe::errno(errno.0))?;
        Ok((length == SIGINFO).then_some(info[0]))
    }
}

/// SIGINT and SIGTERM in a set of signals.
pub const ASK_TO_END: u64 = 1 << (libc::SIGINT - 1) | 1 << (libc::SIGTERM - 1);

/// SIGXFSZ in a set of signals.
const FILE_SIZE: u64 = 1 << (libc::SIGXFSZ - 1);

/// Has a write beyond the limit of file sizes fail (EFBIG) instead of ending this process without a word.
pub fn block_file_size_signal() -> Result<(), Errno> {
    signal::set_blocked(FILE_SIZE).map(drop)
}
