//! A process of the container's, as rspawn-setup holds it: the first one, or one that enters.
use rspawn_sys::{Errno, Failure, Fd, Named, Outcome, channel, process};

/// The new process, and the socket to it. Killed when dropped: whatever fails, nothing is left running.
pub struct ContainerProcess {
    pub pid: i32,
    pub process: Fd,
    pub stage: Fd,
    ended: bool,
}

impl ContainerProcess {
    pub fn new(pid: i32, process: Fd, stage: Fd) -> Self {
        Self { pid, process, stage, ended: false }
    }

    /// Lets the process live on without this program.
    pub fn release(mut self) {
        self.ended = true;
    }

    /// Blocks until the process has ended and gives its wait status.
    pub fn wait(&mut self) -> Outcome<i32> {
        let status = process::wait(self.pid, true).named("wait4")?;
        self.ended = true;
        status.map(|(_, status)| status).ok_or_else(|| Failure::check("it has not ended"))
    }

    /// Kills it. Its wait status, if it ends: what is frozen does so only when its cgroups are removed.
    pub fn kill(&mut self) -> Outcome<Option<i32>> {
        match process::signal(&self.process, 9) {
            Err(Errno::ESRCH) => {}
            sent => sent.named("pidfd_send_signal")?,
        }
        let dies = channel::wait_readable(&self.process, Some(MILLISECONDS_TO_DIE)).named("ppoll")?;
        if dies { self.wait().map(Some) } else { Ok(None) }
    }
}

const MILLISECONDS_TO_DIE: u32 = 1000;

impl Drop for ContainerProcess {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.kill();
        }
    }
}
