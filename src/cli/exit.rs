//! How the program ends.

use std::process::ExitCode;

/// Exit codes. They are part of the interface: schedulers act on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything requested is done.
    Success = 0,
    /// Nothing, or nothing useful, could be done.
    Failure = 1,
    /// What was typed or configured cannot be done; nothing was begun.
    Usage = 2,
    /// Some tables failed; the others are complete.
    Partial = 3,
    /// Another run holds the lock of the buckets; nothing was started.
    Locked = 4,
    /// More memory was needed than there is, or than the command may have; the next run goes on.
    Memory = 5,
    /// Stopped by SIGINT; the next run goes on.
    Interrupted = 130,
    /// Stopped by SIGTERM; the next run goes on.
    Terminated = 143,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
