//! What remains to do while a container is made and while it runs in the foreground.
pub mod audit;
pub mod console;
mod escape;
mod event_loop;
pub mod helper_process;
pub mod hooks;
pub mod log;
pub mod notify;
mod run_outcome;
mod signals;
pub mod stream_pipes;

pub use event_loop::{ConsoleSink, Session};
pub use run_outcome::RunOutcome;
pub use signals::{Signals, block_file_size_signal};
