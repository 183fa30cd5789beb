//! What came of a container that was started.

/// What became of a process.
pub enum RunOutcome {
    /// It ended, with this status as a shell gives it.
    Exited(i32),
    /// It is there, and on its own.
    Detached,
}
