//! Data to stdout.

use std::io::{ErrorKind, Write};

use crate::error::Error;

/// Prints text. A reader that has seen enough (`| head`) is no error.
pub(super) fn print(text: impl std::fmt::Display) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    tolerate(write!(out, "{text}").and_then(|()| out.flush()))
}

/// A closed pipe is the reader's wish; anything else is an error.
pub(super) fn tolerate(result: std::io::Result<()>) -> Result<(), Error> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(source) => Err(Error::System { what: "cannot write the result".into(), source }),
        Ok(()) => Ok(()),
    }
}
