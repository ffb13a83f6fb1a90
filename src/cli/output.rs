//! Output: data to stdout, everything else to stderr, all of it through [`crate::redact`].

use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use indicatif::MultiProgress;

use super::color::Color;
use crate::error::Error;
use crate::redact;
use crate::report::words::wrapped;

/// Prints text for people. It is not an error if the reader closes the pipe early (`| head`).
pub(super) fn print(text: impl Display) -> Result<(), Error> {
    print_exact(redact::screen(&text.to_string()))
}

/// Prints text as it is: what is meant to be copied.
pub(super) fn print_exact(text: impl Display) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    tolerate(write!(out, "{text}").and_then(|()| out.flush()))
}

/// Prints a line on stderr. If that fails, the command continues; its exit code tells how it ended.
pub(super) fn say(text: impl Display) {
    say_part(format_args!("{text}\n"));
}

/// The same without a line break.
pub(super) fn say_part(text: impl Display) {
    let _ = Stderr.write_all(redact::screen(&text.to_string()).as_bytes());
}

/// The bars that are on the terminal now.
static BARS: Mutex<Option<MultiProgress>> = Mutex::new(None);

/// From now on, messages are printed above these progress bars.
pub(super) fn draw_above(bars: Option<MultiProgress>) {
    *BARS.lock().unwrap_or_else(PoisonError::into_inner) = bars;
}

/// Ends the program at once, and removes the progress bars from the terminal.
pub(super) fn exit_at_once(code: i32) -> ! {
    let bars = BARS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    #[expect(clippy::exit, reason = "whoever stops a run twice wants no more of it")]
    let end = |has_bars: bool| {
        if has_bars {
            let _ = console::Term::stderr().show_cursor();
        }
        std::process::exit(code)
    };
    match bars {
        // Until the end of this function, nothing draws them again.
        Some(bars) => bars.suspend(|| end(true)),
        None => end(false),
    }
}

/// Standard error. While there are progress bars, each write removes them and draws them again below: it must be of
/// whole lines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let bars = BARS.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match bars {
            Some(bars) => bars.suspend(|| std::io::stderr().lock().write_all(bytes)),
            None => std::io::stderr().lock().write_all(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// Width of the terminal on stderr; none if it is not a terminal.
pub(super) fn width() -> Option<usize> {
    let (width, _) = terminal_size::terminal_size_of(std::io::stderr())?;
    Some(usize::from(width.0).max(20))
}

/// Width of the terminal on stdout; none if it is not a terminal.
pub(super) fn data_width() -> Option<usize> {
    let (width, _) = terminal_size::terminal_size_of(std::io::stdout())?;
    Some(usize::from(width.0).max(20))
}

/// A line wrapped at the terminal's width. Elsewhere it stays one line, so that programs can find all of it.
pub(super) fn folded(line: &str) -> String {
    match width() {
        Some(width) => wrapped(line, width, 2),
        None => line.to_string(),
    }
}

/// Prints clap's message about the arguments, with its colours if they are enabled.
pub(super) fn say_usage(error: &clap::Error, color: Color) {
    let text = error.render();
    let text = if color.is_wanted() {
        text.ansi().to_string()
    } else {
        text.to_string()
    };
    let text = redact::mask(&text);
    let _ = match error.use_stderr() {
        true => std::io::stderr().write_all(text.as_bytes()),
        false => std::io::stdout().write_all(text.as_bytes()),
    };
}

/// Where data goes: stdout. On a terminal control characters are escaped, since it would obey them.
pub(super) fn data() -> impl Write {
    let out = std::io::stdout().lock();
    Data {
        escapes: out.is_terminal(),
        begun: Vec::new(),
        out,
    }
}

struct Data<W> {
    escapes: bool,
    /// The first bytes of a character that continues in the next write.
    begun: Vec<u8>,
    out: W,
}

impl<W: Write> Write for Data<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if !self.escapes {
            return self.out.write(bytes);
        }
        self.begun.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.begun) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.begun.len(),
        };
        let rest = self.begun.split_off(whole);
        let text = std::mem::replace(&mut self.begun, rest);
        self.out
            .write_all(redact::printable_lines(&String::from_utf8_lossy(&text)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// A closed pipe is the reader's choice; anything else is an error.
pub(super) fn tolerate(result: std::io::Result<()>) -> Result<(), Error> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(source) => Err(Error::System {
            what: "cannot write the result".into(),
            source,
        }),
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_on_terminals() {
        let text = "Zoë \u{1b}[31m\u{9b}x\n".as_bytes();
        for (escapes, expected) in [
            (true, "Zoë \\u{1b}[31m\\u{9b}x\n".as_bytes()),
            (false, text),
        ] {
            let mut data = Data {
                escapes,
                begun: Vec::new(),
                out: Vec::new(),
            };
            // However the bytes come.
            text.iter()
                .for_each(|byte| data.write_all(&[*byte]).unwrap());
            assert_eq!(data.out, expected);
        }
    }
}
