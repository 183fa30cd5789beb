//! The state directories: one below the state root for each container, made before anything untrusted is read.
//!
//! | file | written by | what |
//! |---|---|---|
//! | `record` | rspawn-setup | [`rspawn_proto::record::Record`]: pid, cgroups, hooks to come. Not JSON: commands with privileges read it |
//! | `cgroups` | rspawn-setup | the cgroups alone, for as long as there is no record, and where it is damaged |
//! | `config.json` | the parent | the bundle's configuration, which may change or go; read by confined parents alone |
//! | `gate`, `report` | the parent | named pipes to a container that waits for its start |
//! | `notify` | the parent | where the payload says that it is ready, if the invoker's manager wants to know |
//!
//! A directory is locked (flock(2)) while a command changes the container, so two of them never meet.
mod container;
mod ending;
mod files;
mod head;
mod new;
mod root;
mod unread;
mod unreadable;

pub use container::{Container, RunHooks, Status, lock, remove_directory};
pub use ending::Ending;
pub use files::is_fault;
pub use head::boot_id;
pub use new::{Gate, NOTIFY_SOCKET, NewContainer};
pub use root::StateRoot;
pub use unread::{clear_cgroups, end_first, end_unread};
pub use unreadable::{DOES_NOT_EXIST, EXISTS, Unreadable};
