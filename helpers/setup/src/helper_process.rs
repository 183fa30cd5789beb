//! A process of rspawn-setup's own that does something for it.
use rspawn_sys::process::{self, Side};
use rspawn_sys::{Fd, Named, Outcome, channel};

/// Such a process, and the socket to it. Killed when dropped.
pub struct HelperProcess {
    pub pid: i32,
    process: Fd,
    pub socket: Fd,
}

impl Drop for HelperProcess {
    fn drop(&mut self) {
        let _ = process::signal(&self.process, 9);
        let _ = process::wait(self.pid, true);
    }
}

impl HelperProcess {
    /// Starts one by `fork`; it does `work` with its end of the socket, and ends with the status that this gives.
    pub fn start(fork: impl FnOnce() -> Outcome<Side>, work: impl FnOnce(Fd) -> i32) -> Outcome<Self> {
        let (socket, theirs) = channel::pair().named("socketpair")?;
        match fork()? {
            Side::Parent { pid, child } => Ok(Self { pid, process: child, socket }),
            Side::Child => {
                drop(socket);
                process::exit(work(theirs))
            }
        }
    }
}
