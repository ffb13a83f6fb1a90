//! How the program ends.

use std::process::ExitCode;

/// Exit codes. They are part of the interface: schedulers act on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything requested is done.
    Success = 0,
    /// The command failed, with no or no useful result.
    Failure = 1,
    /// The arguments or the configuration are invalid; nothing was started.
    Usage = 2,
    /// Some tables failed; the others are complete.
    Partial = 3,
    /// Another run holds the lock of the buckets; nothing was started.
    Locked = 4,
    /// More memory was needed than available or allowed; the next run continues.
    Memory = 5,
    /// Stopped by SIGINT; the next run continues.
    Interrupted = 130,
    /// Stopped by SIGTERM; the next run continues.
    Terminated = 143,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
