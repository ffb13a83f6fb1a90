//! Data to stdout, everything else to stderr.

use std::io::{ErrorKind, Write};

use crate::error::Error;

/// Prints text. A reader that has seen enough (`| head`) is no error.
pub(super) fn print(text: impl std::fmt::Display) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    tolerate(write!(out, "{text}").and_then(|()| out.flush()))
}

/// Tells a person something, in a line of its own on stderr. That stderr is full, or that nobody reads it any more,
/// is no reason to stop: the work goes on, and the exit code says how it ended.
pub(super) fn say(text: impl std::fmt::Display) {
    let _ = std::io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}

/// A closed pipe is the reader's wish; anything else is an error.
pub(super) fn tolerate(result: std::io::Result<()>) -> Result<(), Error> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(source) => Err(Error::System { what: "cannot write the result".into(), source }),
        Ok(()) => Ok(()),
    }
}
