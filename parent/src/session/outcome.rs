//! What came of a container that was started.

/// What became of a process.
pub enum Reached {
    /// It ended, with this status as a shell gives it.
    End(i32),
    /// It is there, and on its own.
    Running,
}
