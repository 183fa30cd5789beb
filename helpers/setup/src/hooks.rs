//! The hands that run hooks: rspawn-hooks, a program of its own, which gets them by message. This program executes
//! nothing that config.json names.
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use rspawn_proto::msg::FromStage;
use rspawn_proto::record::{Hook, HookJob};
use rspawn_proto::report::{Place, SpawnStep};
use rspawn_sys::failure::{Failure, Named, Outcome};
use rspawn_sys::process::{self, Side, StringArray};
use rspawn_sys::{Fd, channel, cred};

use crate::inside::Inside;
use crate::parent::{End, Parent};
use crate::spawn::{self, Container};

/// A running rspawn-hooks. Killed when dropped.
pub struct Runner {
    pid: i32,
    process: Fd,
    socket: Fd,
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _ = process::signal(&self.process, 9);
        let _ = process::wait(self.pid, true);
    }
}

impl Runner {
    /// Starts it in this process's namespaces, or inside a container's. There it still has the host's files in sight:
    /// it enters before the container's root is attached.
    pub fn start(inside: Option<(&Inside, &Container)>) -> Outcome<Self> {
        let image = spawn::open_beside("rspawn-hooks")?;
        let (mine, theirs) = channel::pair().named("socketpair")?;
        let number = format!("{}", theirs.raw());
        let argv = StringArray::new(["rspawn-hooks", &number].into_iter()).named("execveat")?;
        let env = StringArray::new(core::iter::empty()).named("execveat")?;
        let forked = match inside {
            None => process::fork(0).named("clone3")?,
            Some((inside, container)) => inside.fork(container)?,
        };
        match forked {
            Side::Parent { pid, child } => Ok(Self { pid, process: child, socket: mine }),
            Side::Child => {
                drop(mine);
                let entered = inside.map_or(Ok(()), |(inside, container)| inside.enter(container));
                let ready = entered.and_then(|()| cred::set_parent_death_signal(9).named("prctl"));
                if ready.and_then(|()| theirs.keep_on_exec().named("fcntl")).is_ok() {
                    process::execute_file(&image, &argv, &env);
                }
                process::exit(127)
            }
        }
    }

    /// Runs hooks in their order, up to the first that fails, or to the end of the parent, if there is one to hear.
    pub fn run(&self, parent: Option<&Parent>, hooks: &[Hook], state: String) -> Result<(), End> {
        let place = Place::Spawn(SpawnStep::Hooks);
        if hooks.is_empty() {
            return Ok(());
        }
        let job = HookJob { hooks: Vec::from(hooks), state };
        let asked = channel::send_value(&self.socket, &job, &[]).named("sendmsg");
        asked.map_err(|failure| failure.at(place))?;
        let answer = match parent {
            Some(parent) => parent.hear(&self.socket)?,
            None => channel::receive_value(&self.socket).ok().flatten(),
        };
        match answer {
            Some((FromStage::Done, _)) => Ok(()),
            Some((FromStage::Failed(error), _)) => Err(error.into()),
            _ => Err(Failure::check("rspawn-hooks died").at(place).into()),
        }
    }
}
