//! The state directories: one below the state root for each container, made before anything untrusted is read.
//!
//! | file | written by | what |
//! |---|---|---|
//! | `record` | rspawn-setup | [`Record`]: pid, cgroups, hooks to come. Not JSON: commands with privileges read it |
//! | `cgroups` | rspawn-setup | the cgroups alone, for as long as there is no record, and where it is damaged |
//! | `config.json` | the parent | the bundle's configuration, which may change or go; read by confined parents alone |
//! | `gate`, `report` | the parent | named pipes to a container that waits for its start |
//! | `notify` | the parent | where the payload says that it is ready, if the invoker's manager wants to know |
//!
//! A directory is locked (flock(2)) while a command changes the container, so two of them never meet.
mod container;
mod ending;
mod head;
mod new;
mod root;
mod view;

pub use container::{Container, Status, boot_id, clear_cgroups, end_unread, is_fault, lock, remove_directory};
pub use ending::Ending;
pub use new::{Gate, NewContainer};
pub use root::{StateRoot, in_initial_user_namespace};
pub use view::View;

/// Why there is no container to be had. What is damaged `delete --force` removes unread; a fault says nothing about
/// the container, which may live.
pub enum Unreadable {
    Absent,
    Damaged(String),
    Fault(String),
}

impl From<Unreadable> for String {
    fn from(why: Unreadable) -> Self {
        match why {
            Unreadable::Absent => DOES_NOT_EXIST.into(),
            Unreadable::Damaged(reason) | Unreadable::Fault(reason) => reason,
        }
    }
}

/// What runc says, and clients match on.
pub const DOES_NOT_EXIST: &str = "container does not exist";
pub const EXISTS: &str = "container with given ID already exists";
