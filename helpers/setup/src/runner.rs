//! The programs that do what rspawn-setup does not do itself, and get their jobs by message: rspawn-hooks runs hooks,
//! so that rspawn-setup executes nothing that config.json names; rspawn-scope speaks to systemd.
use alloc::{format, string::String, vec::Vec};

use rspawn_proto::codec::Message;
use rspawn_proto::hook::{Hook, HookJob};
use rspawn_proto::msg::FromStage;
use rspawn_proto::policy::PathRule;
use rspawn_proto::report::{Place, SpawnStep, StepError};
use rspawn_proto::unit::ScopeJob;
use rspawn_sys::process::{self, StringArray};
use rspawn_sys::{Failure, Fd, Named, Outcome, channel, cred};

use crate::container::ContainerNamespaces;
use crate::helper_process::HelperProcess;
use crate::invoker::Invoker;
use crate::parent::{End, Parent};
use crate::programs;

/// Has systemd make a scope with a process in it, or change the properties of a scope.
pub fn ask_for_scope(Invoker { parent, bus, .. }: &Invoker, place: Place, job: &ScopeJob) -> Result<(), End> {
    let bus = bus.as_ref().ok_or_else(|| Failure::check("the invoker asks for no scope of systemd").at(place))?;
    parent.step(place, || Runner::start(&parent.programs, "rspawn-scope", None))?.ask(Some(parent), place, job, &[bus])
}

/// One of these programs, while it runs.
pub struct Runner {
    name: &'static str,
    process: HelperProcess,
}

impl Runner {
    /// Starts it in this process's namespaces, or inside a container's, with the bundle as working directory. There it
    /// enters before the container's root is attached, so that it still has the host's files in sight.
    pub fn start(directory: &Fd, name: &'static str, inside: Option<(&ContainerNamespaces, &str)>) -> Outcome<Self> {
        // In a container's namespaces others could reach its program: it is executed from a sealed copy.
        let image = match inside {
            Some(_) => programs::seal(directory, name)?,
            None => programs::open(directory, name)?,
        };
        let env = StringArray::new(core::iter::empty()).named("execveat")?;
        let fork = || match inside {
            None => process::fork(0).named("clone3"),
            Some((namespaces, _)) => namespaces.fork(),
        };
        let become_it = |socket: &Fd| -> Outcome<()> {
            inside.map_or(Ok(()), |(namespaces, _)| namespaces.enter())?;
            cred::set_parent_death_signal(9).named("prctl")?;
            inside.map_or(Ok(()), |_| channel::send(socket, &[], &[])).named("sendmsg")?;
            socket.keep_on_exec().named("fcntl")?;
            let number = format!("{}", socket.raw());
            let words = [name, &number].into_iter().chain(inside.map(|(_, bundle)| bundle));
            let argv = StringArray::new(words).named("execveat")?;
            Err(process::execute_file(&image, &argv, &env)).named("execveat")
        };
        let process = HelperProcess::start(fork, |socket| become_it(&socket).map_or(127, |()| 0))?;
        // It must have entered before the worker mounts: whoever enters later may find another root.
        if inside.is_some() && channel::receive(&process.socket, 0).named("recvmsg")?.is_none() {
            return Err(Failure::check(&format!("{name} died")));
        }
        Ok(Self { name, process })
    }

    /// Runs hooks in their order, up to the first that fails.
    pub fn run(
        &self,
        parent: Option<&Parent>,
        hooks: &[Hook],
        state: String,
        allowed: Option<Vec<PathRule>>,
    ) -> Result<(), End> {
        if hooks.is_empty() {
            return Ok(());
        }
        self.ask(parent, Place::Spawn(SpawnStep::Hooks), &HookJob { hooks: Vec::from(hooks), state, allowed }, &[])
    }

    /// Has it do a job. If there is a parent to listen to, its end is the end of the wait.
    fn ask<T: Message>(&self, parent: Option<&Parent>, place: Place, job: &T, fds: &[&Fd]) -> Result<(), End> {
        let asked = channel::send_value(&self.process.socket, job, fds).named("sendmsg");
        asked.map_err(|failure| failure.at(place))?;
        let answer = match parent {
            Some(parent) => parent.recv(&self.process.socket)?,
            None => {
                let heard = channel::receive_value(&self.process.socket).named("recvmsg");
                heard.map_err(|failure| failure.at(place))?
            }
        };
        match answer {
            Some((FromStage::Done, _)) => Ok(()),
            Some((FromStage::Failed(error), _)) => Err(StepError { place, ..error }.into()),
            _ => Err(Failure::check(&format!("{} died", self.name)).at(place).into()),
        }
    }
}
