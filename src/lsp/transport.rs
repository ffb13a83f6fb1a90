//! Messages over stdin and stdout. A message that cannot be read is told and passed over; it ends nothing.

use std::io::{self, BufRead, Read, Write};

use lsp_server::{ErrorCode, Message};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// A message may have this many bytes.
const MOST_BYTES: u64 = 64 << 20;

/// What was read.
#[derive(Debug)]
pub(super) enum Incoming {
    Message(Message),
    /// Not a message, and why.
    Bad(String),
}

/// The next message; none at the end of the input.
///
/// # Errors
/// If the input cannot be read.
pub(super) fn read(input: &mut impl BufRead) -> io::Result<Option<Incoming>> {
    let mut length = None;
    let mut is_begun = false;
    loop {
        let mut line = Vec::new();
        if input
            .by_ref()
            .take(MOST_BYTES)
            .read_until(b'\n', &mut line)?
            == 0
        {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.trim();
        if line.is_empty() {
            match is_begun {
                true => break,
                false => continue,
            }
        }
        let Some((name, value)) = line.split_once(':') else {
            let shown: String = line.chars().take(60).collect();
            return Ok(Some(Incoming::Bad(format!("not a header: {shown:?}"))));
        };
        is_begun = true;
        if name.eq_ignore_ascii_case("Content-Length") {
            length = value.trim().parse::<u64>().ok();
        }
    }
    let Some(length) = length else {
        return Ok(Some(Incoming::Bad(
            "a message without Content-Length".into(),
        )));
    };
    let mut body = input.take(length);
    if length > MOST_BYTES {
        io::copy(&mut body, &mut io::sink())?;
        let reason = format!("a message of {length} bytes; {MOST_BYTES} are the most");
        return Ok(Some(Incoming::Bad(reason)));
    }
    let mut text = Vec::new();
    body.read_to_end(&mut text)?;
    if (text.len() as u64) < length {
        return Ok(None);
    }
    Ok(Some(match serde_json::from_slice(&text) {
        Ok(message) => Incoming::Message(message),
        Err(error) => Incoming::Bad(format!("not a message of JSON-RPC: {error}")),
    }))
}

/// Writes messages, each whole.
pub(super) struct Outgoing {
    output: Mutex<Box<dyn Write + Send>>,
}

impl Outgoing {
    pub(super) fn new(output: impl Write + Send + 'static) -> Self {
        Self {
            output: Mutex::new(Box::new(output)),
        }
    }

    /// Sends a message. If the editor is gone, its input ends too, and with it the server.
    pub(super) fn send(&self, message: impl Into<Message>) {
        let result = message.into().write(&mut *self.output.lock());
        if let Err(error) = result {
            tracing::debug!("the editor does not read: {error}");
        }
    }

    /// Answers what is not a message: nobody knows its id.
    pub(super) fn refuse(&self, reason: &str) {
        let error = json!({ "code": ErrorCode::ParseError as i32, "message": reason });
        let text = json!({ "jsonrpc": "2.0", "id": Value::Null, "error": error }).to_string();
        let mut output = self.output.lock();
        let written = write!(output, "Content-Length: {}\r\n\r\n{text}", text.len());
        if let Err(error) = written.and_then(|()| output.flush()) {
            tracing::debug!("the editor does not read: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_messages_are_passed_over() {
        let good = r#"{"jsonrpc":"2.0","method":"exit"}"#;
        let whole = |body: &str| format!("content-length: {}\r\n\r\n{body}", body.len());
        let odd = [
            "garbage\r\n".to_string(),
            whole("{"),
            whole("[]"),
            whole("\u{0}"),
            "Content-Length: x\r\n\r\n".into(),
            "Content-Type: y\r\n\r\n".into(),
            // It names more than there is a place for, and is passed over; here the input ends with it.
        ];
        let mut bytes: Vec<u8> = Vec::new();
        for odd in &odd {
            bytes.extend(odd.as_bytes());
            bytes.extend(whole(good).as_bytes());
        }
        bytes.extend(b"\xff\xfe\r\nContent-Length: 99999999999999999999\r\n\r\n");
        bytes.extend(whole(good).as_bytes());
        bytes.extend(b"Content-Length: 9000000000000\r\n\r\n{}");
        let mut input = bytes.as_slice();
        let mut found = String::new();
        while let Some(read) = read(&mut input).unwrap() {
            found.push(match read {
                Incoming::Message(Message::Notification(it)) if it.method == "exit" => 'm',
                Incoming::Message(_) => '?',
                Incoming::Bad(_) => 'b',
            });
        }
        assert_eq!(found, "bmbmbmbmbmbmbbmb");
    }
}
