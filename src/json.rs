//! A scanner over JSON text: finds where values begin and end without building them.
//!
//! It validates as it goes (RFC 8259), never recurses and never allocates per value, so a hostile body exhausts neither
//! the stack nor the heap. Pages are split into records with it, and deviations from a declared schema are copied as
//! the exact text that the API sent.

use std::ops::Range;

pub mod path;

/// Maximum nesting depth of containers; a deeper body is refused.
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

/// The kind of a value, by its first byte.
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
    /// Values that are known to be well formed.
    known: &'a [Range<usize>],
}

/// The positions of the large lists and objects of a document.
pub type Spans = Vec<Range<usize>>;

/// Lists and objects of at least this many bytes are recorded in [`Spans`],
const LARGE: usize = 4 << 10;
/// if they are nested no deeper than this.
const SPANS_DEPTH: usize = 4;

/// Whether the text is one JSON value from its first byte to its last, and where its large parts are, so that a
/// splitter can skip them.
pub fn spans(text: &[u8]) -> Result<Spans, JsonError> {
    let mut scanner = Scanner::new(text, 0);
    let mut spans = Spans::new();
    scanner.skip(|span| spans.push(span))?;
    scanner.end()?;
    spans.sort_unstable_by_key(|span| span.start);
    Ok(spans)
}

impl<'a> Scanner<'a> {
    /// Starts at `position` of `text`.
    pub fn new(text: &'a [u8], position: usize) -> Self {
        Self {
            text,
            position,
            known: &[],
        }
    }

    /// A scanner that skips values without looking into them: `spans` are those of the same text.
    pub fn knowing(self, known: &'a [Range<usize>]) -> Self {
        Self { known, ..self }
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

    /// Skips white space and returns the next byte.
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        loop {
            match self.byte() {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.position += 1,
                other => return other,
            }
        }
    }

    /// Consumes `wanted` if it is the next byte after white space.
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
            None => Err(self.error("the text ends where a value is expected")),
        }
    }

    /// What is left of the text.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        &self.text[self.position..]
    }

    /// Goes on by some bytes, which are known.
    #[inline]
    pub fn advance(&mut self, bytes: usize) {
        self.position += bytes;
    }

    /// Skips a string; returns the range between its quotes and whether it has escapes.
    #[inline]
    pub fn string(&mut self) -> Result<(Range<usize>, bool), JsonError> {
        self.expect(b'"', "expected a string")?;
        let start = self.position;
        self.position = plain_end(self.text, start);
        if self.byte() == Some(b'"') {
            let range = start..self.position;
            self.position += 1;
            return Ok((range, false));
        }
        self.odd_string(start)
    }

    /// The rest of a string that is not plain.
    #[cold]
    fn odd_string(&mut self, start: usize) -> Result<(Range<usize>, bool), JsonError> {
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
                Some(_) => self.position = plain_end(self.text, self.position),
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

    /// Skips one value of any kind; returns its range.
    pub fn value(&mut self) -> Result<Range<usize>, JsonError> {
        if !self.known.is_empty() {
            self.peek();
            let start = self.position;
            if let Ok(at) = self.known.binary_search_by_key(&start, |span| span.start) {
                self.position = self.known[at].end;
                return Ok(start..self.position);
            }
        }
        self.skip(|_| {})
    }

    /// Skips one value, and reports the large lists and objects in it when they end.
    #[inline(always)]
    fn skip(&mut self, mut tell: impl FnMut(Range<usize>)) -> Result<Range<usize>, JsonError> {
        self.peek();
        let start = self.position;
        let mut open = Open::default();
        let mut starts = [0; SPANS_DEPTH];
        loop {
            match self.peek() {
                Some(b'"') => _ = self.string()?,
                Some(b'-' | b'0'..=b'9') => _ = self.number()?,
                Some(bracket @ (b'{' | b'[')) => {
                    let (at, is_object) = (self.position, bracket == b'{');
                    self.position += 1;
                    if !self.take(if is_object { b'}' } else { b']' }) {
                        if let Some(start) = starts.get_mut(open.depth) {
                            *start = at;
                        }
                        if !open.push(is_object) {
                            return Err(self.error("nested too deeply"));
                        }
                        if is_object {
                            self.key()?;
                        }
                        continue;
                    }
                }
                Some(b't' | b'f' | b'n') => _ = self.literal()?,
                _ => _ = self.kind()?,
            }
            // A value has ended: close what ends with it, or go to the next member.
            loop {
                if open.depth == 0 {
                    return Ok(start..self.position);
                }
                let is_object = open.is_object;
                match self.peek() {
                    Some(b',') => {
                        self.position += 1;
                        if is_object {
                            self.key()?;
                        }
                        break;
                    }
                    Some(b'}') if is_object => self.position += 1,
                    Some(b']') if !is_object => self.position += 1,
                    _ if is_object => return Err(self.error("expected `,` or `}`")),
                    _ => return Err(self.error("expected `,` or `]`")),
                }
                open.pop();
                if let Some(start) = starts.get(open.depth)
                    && self.position - start >= LARGE
                {
                    tell(*start..self.position);
                }
            }
        }
    }

    /// Skips a member's name and its colon; returns the range between the quotes.
    #[inline]
    pub fn key(&mut self) -> Result<Range<usize>, JsonError> {
        let (range, _) = self.string()?;
        if self.byte() == Some(b':') {
            self.position += 1;
            return Ok(range);
        }
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

/// The open containers, one bit for each: whether it is an object.
#[derive(Default)]
struct Open {
    depth: usize,
    /// Of the innermost.
    is_object: bool,
    bits: [u64; MAX_DEPTH / 64],
}

impl Open {
    /// Whether there was room.
    #[inline]
    fn push(&mut self, is_object: bool) -> bool {
        let Some(word) = self.bits.get_mut(self.depth / 64) else {
            return false;
        };
        let bit = 1 << (self.depth % 64);
        *word = if is_object { *word | bit } else { *word & !bit };
        self.depth += 1;
        self.is_object = is_object;
        true
    }

    #[inline]
    fn pop(&mut self) {
        self.depth -= 1;
        let below = self.depth.wrapping_sub(1);
        self.is_object = self
            .bits
            .get(below / 64)
            .is_some_and(|word| word >> (below % 64) & 1 == 1);
    }
}

/// The position of the first byte at or after `at` that has a meaning in a string: a quote, a backslash or a control
/// character; the end of the text if there is none.
#[inline]
pub(crate) fn plain_end(text: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // Eight bytes at a time. The lowest byte found is right; those above it may be false positives.
    let below = |word: u64, byte: u8| word.wrapping_sub(ONES * u64::from(byte)) & !word & HIGH;
    while let Some(bytes) = text.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*bytes);
        let quote = below(word ^ (ONES * u64::from(b'"')), 1);
        let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
        let found = quote | backslash | below(word, 0x20);
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while let Some(&byte) = text.get(at)
        && byte >= 0x20
        && byte != b'"'
        && byte != b'\\'
    {
        at += 1;
    }
    at.min(text.len())
}

/// The text inside a string (between its quotes), with escapes resolved. `None` for a lone surrogate.
pub fn unescape(inside: &[u8]) -> Option<String> {
    let mut quoted = Vec::with_capacity(inside.len() + 2);
    quoted.push(b'"');
    quoted.extend_from_slice(inside);
    quoted.push(b'"');
    serde_json::from_slice(&quoted).ok()
}

/// Whether the text needs no escapes in a JSON string.
#[inline]
pub fn is_plain(text: &[u8]) -> bool {
    plain_end(text, 0) == text.len()
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
    loop {
        let at = plain_end(text, copied);
        out.extend_from_slice(&text[copied..at]);
        let Some(&byte) = text.get(at) else { return };
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
    fn plain_text_ends_where_a_loop_over_its_bytes_says() {
        let special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
        // Each byte at each place of a word, alone and before another.
        for byte in 0..=255 {
            for place in 0..20 {
                for (fill, behind) in [(b'a', b'"'), (0x7f, 0x1f), (0xff, b'\\'), (b'!', b'!')] {
                    let mut text = vec![fill; 24];
                    text[place] = byte;
                    text[place + 1] = behind;
                    for at in 0..=text.len() {
                        let found = text[at..].iter().position(|byte| special(*byte));
                        let expected = found.map_or(text.len(), |found| at + found);
                        assert_eq!(plain_end(&text, at), expected, "{text:?} from {at}");
                    }
                }
            }
        }
    }

    #[test]
    fn large_parts_are_noted_and_not_read_again() {
        let long = "x".repeat(LARGE);
        let inner = format!(r#"[{{"a":"{long}"}},[[["{long}"]]]]"#);
        let text = format!(r#" {{"small":[1],"data": {inner} ,"end":true}} "#);
        let spans = spans(text.as_bytes()).unwrap();
        let parts: Vec<&str> = spans.iter().map(|span| &text[span.clone()]).collect();
        assert!(
            parts.contains(&inner.as_str()) && parts.len() == 5,
            "{parts:?}"
        );
        for part in &parts {
            assert!(serde_json::from_str::<serde::de::IgnoredAny>(part).is_ok());
        }
        // Known spans are skipped, whatever the text is there by now.
        let broken = text.replace(&long, &"\n".repeat(LARGE));
        let at = text.find("[{").unwrap() - 1;
        let mut scanner = Scanner::new(broken.as_bytes(), at).knowing(&spans);
        assert_eq!(scanner.value().unwrap(), at + 1..at + 1 + inner.len());
        assert!(Scanner::new(broken.as_bytes(), at).value().is_err());
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
