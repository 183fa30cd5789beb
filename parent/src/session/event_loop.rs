//! Carrying a plan through: send it, relay the helper's reports, the console and signals, until the payload ends.
use std::os::unix::fs::FileExt;

use nix::sys::signal::Signal;
use rspawn_proto::OUT_OF_MEMORY;
use rspawn_proto::codec;
use rspawn_proto::msg::{FromSetup, InvokerRequest, ToSetup};
use rspawn_proto::plan::Plan;
use rspawn_proto::report::{Place, StepError};
use rspawn_sys::channel::{self, Interest, Ready};
use rspawn_sys::{Errno, Fd, signal};

use super::audit::Audit;
use super::console::{Console, ConsoleMode};
use super::helper_process::{self, PATIENCE, Setup};
use super::notify::Relay;
use super::run_outcome::RunOutcome;
use super::signals::{ASK_TO_END, Signals};
use super::stream_pipes::{StreamCopy, StreamPipes};
use rspawn_host::streams;
use rspawn_planner::facts::Ids;
use rspawn_planner::origins::Origins;
use rspawn_planner::overrides::Sourced;
use rspawn_report::describe;

/// A container that is being made, or runs. When it is dropped, rspawn-setup has ended, and has cleared away what it
/// was to.
pub struct Session {
    setup: Setup,
    pub audit: Audit,
    /// What the container gets where this process gets SIGTERM.
    pub kill_signal: Option<u8>,
    /// Where parts of the configuration come from that are not the bundle's, for reports.
    pub origins: Origins,
    plan: Option<Plan>,
    /// Streams of the caller's that the payload has pipes for.
    copies: Vec<StreamCopy>,
    /// Nothing is left to wait for.
    ended: bool,
    /// The payload runs, and every signal is its own. Before that, the second one that asks for the end gets it.
    begun: bool,
    asked_to_end: bool,
    /// Where the payload may say that it is ready.
    pub relay: Option<Relay>,
    /// Whether stderr is the payload's as well, and somebody keeps a log: what the policy warns of is for that alone.
    pub quiet: bool,
    /// What the policy has warned of, for the log.
    pub warnings: Vec<String>,
}

/// Where the master of the container's console goes.
pub enum ConsoleSink {
    /// To the caller's own terminal.
    Shown(ConsoleMode),
    /// To whoever listens on a socket.
    Socket(Fd),
}

impl ConsoleSink {
    fn mode(&self) -> ConsoleMode {
        match self {
            ConsoleSink::Shown(mode) => *mode,
            ConsoleSink::Socket(_) => ConsoleMode::Passive,
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.ended {
            // The end of the stream is what tells it.
            self.setup.control = Fd::from_raw(-1);
            if let Err(reason) = self.setup.wait() {
                streams::warn(reason);
            }
        }
    }
}

impl Session {
    pub fn new(setup: Setup, audit: Audit) -> Self {
        let origins = Origins::default();
        let (kill_signal, plan, relay, copies) = (None, None, None, Vec::new());
        let (ended, begun, asked_to_end, quiet, warnings) = (false, false, false, false, Vec::new());
        Self { setup, audit, kill_signal, origins, plan, copies, ended, begun, asked_to_end, relay, quiet, warnings }
    }

    /// Binds everything to CPUs: before there is a container.
    pub fn run_on(&self, cpus: &Sourced<Vec<usize>>) -> Result<(), String> {
        self.setup.run_on(&cpus.value).map_err(|reason| format!("{}: {reason}", cpus.origin))
    }

    /// The first message, before anything untrusted is read.
    pub fn send_request(&self, request: InvokerRequest, fds: &[&Fd]) -> Result<(), String> {
        self.send_with(&ToSetup::Request(request), fds)
    }

    /// Waits until rspawn-setup has the first message, and with it what was made for it: who made it removes it until
    /// then. There is nothing yet that a signal could be passed on to: those that ask for the end get it, the others are
    /// kept. Without `signals`, this process dies of them.
    pub fn await_receipt(&mut self, signals: Option<&Signals>) -> Result<(), String> {
        let say = |errno: Errno| format!("cannot wait for rspawn-setup: {}", describe::errno(errno.0));
        let asked = signals.map(|_| signal::descriptor(ASK_TO_END)).transpose().map_err(say)?;
        let nothing = Fd::from_raw(-1);
        let readable = |fd| Interest { fd, read: true, write: false };
        let interests = [readable(&self.setup.control), readable(asked.as_ref().unwrap_or(&nothing))];
        let [said, _] = channel::wait(interests, None).map_err(say)?;
        if !said.read {
            return Err("interrupted before rspawn-setup had answered".into());
        }
        match self.receive()? {
            (FromSetup::Taken, _) => Ok(()),
            (FromSetup::Failed(error), _) => Err(self.failed(&error)),
            _ => Err(self.of_another("rspawn-setup cannot be understood")),
        }
    }

    /// What rspawn-setup says of a failure.
    fn failed(&self, error: &StepError) -> String {
        let message = describe::failure(self.plan.as_ref(), error, &self.origins);
        // It understands all that its own rspawn says first, and has the others beside it.
        let names = ["rspawn-setup", "rspawn-init", "rspawn-hooks", "rspawn-scope"];
        let is_other = error.place == Place::Receive && error.errno == 0;
        if is_other || names.contains(&error.detail.as_str()) { self.of_another(&message) } else { message }
    }

    /// An error of a helper that is none of this program's.
    fn of_another(&self, message: &str) -> String {
        format!("{message}; {}", self.setup.whose())
    }

    /// The second message. Packets are all that is copied: the plan is kept, to name the steps in reports.
    pub fn send_plan(&mut self, plan: Plan, pipes: StreamPipes, ids: &Ids) -> Result<(), String> {
        let (streams, ends, copies) = pipes.choose(&plan, ids);
        let message = ToSetup::Plan { plan, streams };
        let sent = self.send_with(&message, &ends.iter().collect::<Vec<&Fd>>());
        let ToSetup::Plan { plan, .. } = message else { unreachable!("it was made two lines above") };
        self.audit.set_plan(&plan);
        self.plan = Some(plan);
        self.copies = copies;
        sent
    }

    fn send(&self, message: &ToSetup) -> Result<(), String> {
        self.send_with(message, &[])
    }

    fn send_with(&self, message: &ToSetup, fds: &[&Fd]) -> Result<(), String> {
        let sent = channel::send_value(&self.setup.control, message, fds);
        // If the helper has ended, its last words say why; they are read next.
        match sent {
            Ok(()) | Err(Errno(libc::EPIPE | libc::ECONNRESET)) => Ok(()),
            Err(errno) => Err(format!("cannot reach rspawn-setup: {}", describe::errno(errno.0))),
        }
    }

    pub fn run(
        &mut self,
        signals: Option<&Signals>,
        sink: &ConsoleSink,
        pidfd_socket: Option<&Fd>,
    ) -> Result<RunOutcome, String> {
        let mut console: Option<Console> = None;
        loop {
            let [control, signal, stdin, master, said, copies @ ..] = self.wait(signals, console.as_ref())?;
            if let Some(console) = &mut console {
                console.go_on(stdin, master);
                if console.asks_to_end() {
                    self.send(&ToSetup::Signal(Signal::SIGKILL as u8))?;
                }
            }
            for (copy, ready) in self.copies.iter_mut().zip(copies) {
                copy.go_on(ready);
            }
            // The manager goes on watching this process, which ends when the payload does.
            if said.read && self.relay.as_ref().is_some_and(Relay::hears_ready) {
                self.relay.iter().for_each(Relay::pass_on);
            }
            if signal.read
                && let Some(signals) = signals
                && let Some(number) = signals.next()?
            {
                self.relay_signal(number, console.as_ref(), sink.mode())?;
            }
            if control.read
                && let Some(outcome) = self.take_report(signals, sink, &mut console, pidfd_socket)?
            {
                return Ok(outcome);
            }
        }
    }

    /// Until anything is to be done: for rspawn-setup, a signal, stdin, the console, the payload's notifications, and up
    /// to three copied streams.
    fn wait(&self, signals: Option<&Signals>, console: Option<&Console>) -> Result<[Ready; 8], String> {
        let nothing = Fd::from_raw(-1);
        let (stdin, master) = console.map_or((&nothing, &nothing), |console| (console.stdin(), console.master()));
        let wants = |wanted: fn(&Console) -> bool| console.is_some_and(wanted);
        let notify = self.relay.as_ref().map_or(&nothing, Relay::socket);
        let idle = Interest { fd: &nothing, read: false, write: false };
        let copied = |index: usize| self.copies.get(index).map_or(idle, StreamCopy::interest);
        let interests = [
            Interest { fd: &self.setup.control, read: true, write: false },
            Interest { fd: signals.map_or(&nothing, |s| &s.0), read: signals.is_some(), write: false },
            Interest { fd: stdin, read: wants(Console::wants_stdin), write: false },
            Interest { fd: master, read: wants(Console::wants_output), write: wants(Console::has_input) },
            // In the background, nobody listens before there is a process to wait for.
            Interest { fd: notify, read: self.relay.is_some() && signals.is_some(), write: false },
            copied(0),
            copied(1),
            copied(2),
        ];
        channel::wait(interests, None).map_err(|errno| describe::errno(errno.0))
    }

    /// One message of rspawn-setup's; with an outcome, there is nothing left to wait for.
    fn take_report(
        &mut self,
        signals: Option<&Signals>,
        sink: &ConsoleSink,
        console: &mut Option<Console>,
        pidfd_socket: Option<&Fd>,
    ) -> Result<Option<RunOutcome>, String> {
        match self.receive()? {
            (FromSetup::Console, Some(master)) => match sink {
                ConsoleSink::Shown(mode) => *console = Some(Console::new(master, *mode)),
                ConsoleSink::Socket(socket) => pass(socket, "console", b"/dev/console", &master)?,
            },
            (FromSetup::Exited { status }, _) => return self.exited(status, console.take()).map(Some),
            (FromSetup::Created { pid } | FromSetup::Started { pid }, Some(pidfd)) => {
                if let Some(socket) = pidfd_socket {
                    pass(socket, "pidfd", b"init", &pidfd)?;
                }
                self.begun = true;
                if signals.is_none() {
                    self.keep()?;
                    if let Some(relay) = self.relay.take() {
                        relay.wait(&pidfd, pid as i32);
                    }
                    return Ok(Some(RunOutcome::Detached));
                }
            }
            (FromSetup::Failed(error), _) => return Err(self.failed(&error)),
            (FromSetup::Refused(violations), _) => return Err(describe::refusal(&violations)),
            (FromSetup::Warning(violation), _) => {
                self.audit.warning(&violation);
                let finding = describe::finding(&violation);
                if !self.quiet {
                    streams::warn(&finding);
                }
                self.warnings.push(finding);
            }
            (FromSetup::Left(error), _) => {
                streams::warn(describe::failure(self.plan.as_ref(), &error, &self.origins));
            }
            (FromSetup::Audit(record), _) => self.audit.record(self.plan.as_ref(), &record),
            (
                FromSetup::Taken
                | FromSetup::Kept
                | FromSetup::Created { .. }
                | FromSetup::Started { .. }
                | FromSetup::Console,
                _,
            ) => {
                return Err(self.of_another("rspawn-setup cannot be understood"));
            }
        }
        Ok(None)
    }

    /// Lets what runs in the background stay. It does, whatever becomes of rspawn-setup once that has answered.
    fn keep(&mut self) -> Result<(), String> {
        self.send(&ToSetup::Keep)?;
        let answered = channel::wait_readable(&self.setup.control, Some(PATIENCE));
        if !answered.map_err(|errno| describe::errno(errno.0))? {
            let (seconds, pid) = (PATIENCE / 1000, self.setup.pid);
            return Err(format!("rspawn-setup, process {pid}, does not answer within {seconds} s: {LEFT}"));
        }
        match self.receive().map_err(|reason| format!("{reason}; {LEFT}"))? {
            (FromSetup::Kept, _) => Ok(()),
            (FromSetup::Failed(error), _) => Err(self.failed(&error)),
            _ => Err(self.of_another("rspawn-setup cannot be understood")),
        }
    }

    /// What the policy has warned of, where no log is going to have it: the command has failed.
    pub fn say_warnings(&self) {
        if self.quiet {
            self.warnings.iter().for_each(streams::warn);
        }
    }

    /// The payload has ended: what it wrote last is still to be copied.
    fn exited(&mut self, status: i32, console: Option<Console>) -> Result<RunOutcome, String> {
        if let Some(mut console) = console {
            console.drain();
        }
        self.copies.iter_mut().for_each(StreamCopy::drain);
        self.ended = true;
        match self.copies.iter().find_map(StreamCopy::failure) {
            Some(lost) => Err(lost),
            None => Ok(RunOutcome::Exited(rspawn_sys::process::exit_status(status))),
        }
    }

    fn relay_signal(&mut self, number: u8, console: Option<&Console>, mode: ConsoleMode) -> Result<(), String> {
        let is = |signal: Signal| i32::from(number) == signal as i32;
        if is(Signal::SIGWINCH) && mode.is_shown() && console.is_some() {
            console.into_iter().for_each(Console::resize);
            return Ok(());
        }
        // A child's end shows on the control socket; SIGPIPE is this process's own.
        if is(Signal::SIGCHLD) || is(Signal::SIGPIPE) {
            return Ok(());
        }
        if !self.begun && (is(Signal::SIGINT) || is(Signal::SIGTERM)) && std::mem::replace(&mut self.asked_to_end, true)
        {
            let place =
                self.place().map_or(String::new(), |place| format!(" on its phase {:?}", describe::phase(place)));
            return Err(format!("interrupted by a second signal while rspawn-setup was at work{place}"));
        }
        let asked_to_end = is(Signal::SIGTERM);
        self.send(&ToSetup::Signal(self.kill_signal.filter(|_| asked_to_end).unwrap_or(number)))
    }

    fn receive(&mut self) -> Result<(FromSetup, Option<Fd>), String> {
        match channel::receive_value(&self.setup.control) {
            Ok(Some((message, fds))) => Ok((message, fds.into_iter().next())),
            Ok(None) => Err(self.describe_exit()),
            Err(errno) => {
                let message = format!("rspawn-setup cannot be understood: {}", describe::errno(errno.0));
                Err(self.of_another(&message))
            }
        }
    }

    /// The step that rspawn-setup was at last, if it has noted any.
    fn place(&self) -> Option<Place> {
        let mut word = [0u8; 4];
        let noted = self.setup.progress.read_exact_at(&mut word, 0).is_ok();
        codec::decode_word(u32::from_ne_bytes(word)).ok().filter(|place| noted && *place != Place::Receive)
    }

    /// rspawn-setup died without a word: how, and at which step, which it had noted before.
    fn describe_exit(&mut self) -> String {
        let status = self.setup.wait();
        self.ended = true;
        let how = match status.map(rspawn_sys::process::exit_status) {
            Ok(helper_process::NOT_EXECUTED) => {
                return "rspawn-setup cannot be executed: is it a program for this machine, and may this user execute \
                        it?"
                .into();
            }
            Ok(OUT_OF_MEMORY) => "it was out of memory".into(),
            Ok(status) => describe::status(status),
            Err(reason) => reason,
        };
        let reason = format!("rspawn-setup died: {how}");
        match self.place() {
            Some(place) => {
                let error = StepError { place, call: String::new(), errno: 0, detail: reason };
                // Not the text that clients match on: the payload was never looked up.
                describe::failure(self.plan.as_ref(), &error, &self.origins)
            }
            // Before it has said or done anything.
            None => self.of_another(&reason),
        }
    }
}

/// What to do where rspawn-setup died before it had let go of what it made.
const LEFT: &str = "`rspawn delete --force` ends what it has left";

/// Sends a descriptor to one who listens: one message, some bytes, one descriptor, as runc's clients expect it.
fn pass(socket: &Fd, what: &str, bytes: &[u8], fd: &Fd) -> Result<(), String> {
    channel::send_packet(socket, bytes, &[fd])
        .map_err(|errno| format!("cannot send to the {what} socket: {}", describe::errno(errno.0)))
}
