//! A scanner over JSON text: finds where values begin and end without building them.
//!
//! It validates as it goes (RFC 8259), never recurses and never allocates per value, so a hostile body costs
//! neither the stack nor the heap. Pages are cut into records with it, and deviations from a declared schema
//! are copied out as the exact text that the API sent.

use std::ops::Range;

pub mod path;

/// Containers may nest this deep; a deeper body is refused.
pub const MAX_DEPTH: usize = 256;

/// Text that is not JSON, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {offset}")]
pub struct JsonError {
    /// Byte offset into the scanned text.
    pub offset: usize,
    /// What was found or missing.
    pub reason: &'static str,
}

/// What a value is, told by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `"…"`
    String,
    /// `-1.5e3`
    Number,
    /// `true` or `false`
    Boolean,
    /// `null`
    Null,
}

/// A position in JSON text.
#[derive(Debug, Clone)]
pub struct Scanner<'a> {
    text: &'a [u8],
    position: usize,
}

impl<'a> Scanner<'a> {
    /// Starts at `position` of `text`.
    pub fn new(text: &'a [u8], position: usize) -> Self {
        Self { text, position }
    }

    /// The current byte offset.
    #[inline]
    pub fn position(&self) -> usize {
        self.position
    }

    /// An error at the current offset.
    pub fn error(&self, reason: &'static str) -> JsonError {
        JsonError {
            offset: self.position,
            reason,
        }
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.text.get(self.position).copied()
    }

    /// Skips white space and shows the next byte.
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        loop {
            match self.byte() {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.position += 1,
                other => return other,
            }
        }
    }

    /// Takes `wanted` if it is the next byte after white space.
    #[inline]
    pub fn take(&mut self, wanted: u8) -> bool {
        if self.peek() == Some(wanted) {
            self.position += 1;
            true
        } else {
            false
        }
    }

    /// Takes `wanted` or fails with `reason`.
    #[inline]
    pub fn expect(&mut self, wanted: u8, reason: &'static str) -> Result<(), JsonError> {
        if self.take(wanted) {
            Ok(())
        } else {
            Err(self.error(reason))
        }
    }

    /// The kind of the next value.
    #[inline]
    pub fn kind(&mut self) -> Result<Kind, JsonError> {
        match self.peek() {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Boolean),
            Some(b'n') => Ok(Kind::Null),
            Some(_) => Err(self.error("not a JSON value")),
            None => Err(self.error("the text ends where a value should stand")),
        }
    }

    /// Skips a string; gives the range between its quotes and whether it holds escapes.
    #[inline]
    pub fn string(&mut self) -> Result<(Range<usize>, bool), JsonError> {
        self.expect(b'"', "expected a string")?;
        let start = self.position;
        let mut escaped = false;
        loop {
            match self.byte() {
                Some(b'"') => {
                    let range = start..self.position;
                    self.position += 1;
                    return Ok((range, escaped));
                }
                Some(b'\\') => {
                    escaped = true;
                    self.position += 1;
                    match self.byte() {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                            self.position += 1
                        }
                        Some(b'u') => {
                            let digits = self.text.get(self.position + 1..self.position + 5);
                            if !digits.is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit)) {
                                return Err(
                                    self.error("a \\u escape needs four hexadecimal digits")
                                );
                            }
                            self.position += 5;
                        }
                        _ => return Err(self.error("unknown escape in a string")),
                    }
                }
                Some(0..=0x1f) => return Err(self.error("control character in a string")),
                Some(_) => self.position += 1,
                None => return Err(self.error("the text ends inside a string")),
            }
        }
    }

    /// Skips a number; gives its range.
    #[inline]
    pub fn number(&mut self) -> Result<Range<usize>, JsonError> {
        self.peek();
        let start = self.position;
        if self.byte() == Some(b'-') {
            self.position += 1;
        }
        match self.byte() {
            Some(b'0') => self.position += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.error("malformed number")),
        }
        if self.byte() == Some(b'.') {
            self.position += 1;
            self.some_digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.position += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.position += 1;
            }
            self.some_digits()?;
        }
        Ok(start..self.position)
    }

    #[inline]
    fn digits(&mut self) {
        while let Some(b'0'..=b'9') = self.byte() {
            self.position += 1;
        }
    }

    #[inline]
    fn some_digits(&mut self) -> Result<(), JsonError> {
        let start = self.position;
        self.digits();
        if self.position == start {
            Err(self.error("malformed number"))
        } else {
            Ok(())
        }
    }

    /// Skips `true`, `false` or `null`.
    #[inline]
    pub fn literal(&mut self) -> Result<Range<usize>, JsonError> {
        self.peek();
        let start = self.position;
        for word in [&b"true"[..], b"false", b"null"] {
            if self.text[start..].starts_with(word) {
                self.position += word.len();
                return Ok(start..self.position);
            }
        }
        Err(self.error("not a JSON value"))
    }

    /// Skips one whole value of any kind; gives its range.
    pub fn value(&mut self) -> Result<Range<usize>, JsonError> {
        self.peek();
        let start = self.position;
        // One bit of memory per open container: true for an object.
        let mut open: Vec<bool> = Vec::new();
        loop {
            match self.kind()? {
                Kind::Object => {
                    self.position += 1;
                    if !self.take(b'}') {
                        self.push(&mut open, true)?;
                        self.key()?;
                        continue;
                    }
                }
                Kind::Array => {
                    self.position += 1;
                    if !self.take(b']') {
                        self.push(&mut open, false)?;
                        continue;
                    }
                }
                Kind::String => {
                    self.string()?;
                }
                Kind::Number => {
                    self.number()?;
                }
                Kind::Boolean | Kind::Null => {
                    self.literal()?;
                }
            }
            // A value has ended: close what ends with it, or go to the next member.
            loop {
                match open.last() {
                    None => return Ok(start..self.position),
                    Some(true) if self.take(b',') => {
                        self.key()?;
                        break;
                    }
                    Some(true) => self.expect(b'}', "expected `,` or `}`")?,
                    Some(false) if self.take(b',') => break,
                    Some(false) => self.expect(b']', "expected `,` or `]`")?,
                }
                open.pop();
            }
        }
    }

    fn push(&self, open: &mut Vec<bool>, object: bool) -> Result<(), JsonError> {
        if open.len() >= MAX_DEPTH {
            return Err(self.error("nested too deeply"));
        }
        open.push(object);
        Ok(())
    }

    /// Skips a member's name and its colon; gives the range between the quotes.
    #[inline]
    pub fn key(&mut self) -> Result<Range<usize>, JsonError> {
        let (range, _) = self.string()?;
        self.expect(b':', "expected `:` after a name")?;
        Ok(range)
    }

    /// Fails unless only white space is left.
    pub fn end(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.error("more text after the end of the document")),
        }
    }
}

/// The text of a string's inside (between its quotes), escapes resolved. `None` for a lone surrogate.
pub fn unescape(inside: &[u8]) -> Option<String> {
    let mut quoted = Vec::with_capacity(inside.len() + 2);
    quoted.push(b'"');
    quoted.extend_from_slice(inside);
    quoted.push(b'"');
    serde_json::from_slice(&quoted).ok()
}

/// Whether the text stands in a JSON string as it is.
#[inline]
pub fn is_plain(text: &[u8]) -> bool {
    text.iter()
        .all(|&byte| byte >= 0x20 && byte != b'"' && byte != b'\\')
}

/// Appends `text` to `out` as a quoted JSON string.
pub fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    write_escaped(text, out);
    out.push(b'"');
}

/// Appends `text` to `out` as the inside of a JSON string.
pub fn write_escaped(text: &[u8], out: &mut Vec<u8>) {
    let mut copied = 0;
    for (at, &byte) in text.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&text[copied..at]);
        copied = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => out.extend_from_slice(format!("\\u{control:04x}").as_bytes()),
        }
    }
    out.extend_from_slice(&text[copied..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Result<usize, JsonError> {
        let mut scanner = Scanner::new(text.as_bytes(), 0);
        scanner.value()?;
        scanner.end()?;
        Ok(scanner.position())
    }

    #[test]
    fn agrees_with_serde_json() {
        let texts = [
            "null",
            " true ",
            "-0",
            "-0.5e+3",
            "1.",
            "01",
            "+1",
            ".5",
            "1e",
            "NaN",
            "nul",
            "\"a\\u00e9\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"a",
            "[]",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{}",
            "{\"a\":1,}",
            "{\"a\" 1}",
            "{a:1}",
            "{\"a\":[{}]}",
            "[[[]],{\"b\":{\"c\":[true,null]}}]",
            "{\"a\":1}}",
            "[1]]",
            "",
            " ",
            "{\"a\":1}{\"a\":2}",
            "\"\n\"",
        ];
        for text in texts {
            let expected = serde_json::from_str::<serde_json::Value>(text).is_ok();
            assert_eq!(whole(text).is_ok(), expected, "{text}");
        }
    }

    #[test]
    fn refuses_deep_nesting() {
        let deep = "[".repeat(1_000_000);
        assert_eq!(whole(&deep).unwrap_err().reason, "nested too deeply");
        let allowed = format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        assert!(whole(&allowed).is_ok());
    }

    #[test]
    fn a_written_string_reads_back() {
        let text = "a\"b\\c\n\t\u{1}é🚚";
        let mut out = Vec::new();
        write_string(text.as_bytes(), &mut out);
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        assert_eq!(unescape(&out[1..out.len() - 1]).unwrap(), text);
        assert_eq!(unescape(b"\\ud800"), None);
    }
}
