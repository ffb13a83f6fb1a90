//! The words and signs of a query that is being written. The engine's tokenizer gives up at a quote that is not closed
//! yet; here such a text ends with its line.

use std::ops::Range;

/// What a [`Token`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name or keyword.
    Word,
    /// A name in double quotes or backticks.
    Quoted,
    /// A text in single quotes.
    Text,
    /// Digits.
    Number,
    /// Anything else, one character.
    Sign(char),
    /// A comment; the front matter is one.
    Comment,
}

/// A part of a query, by its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// First byte.
    pub(super) start: usize,
    /// Byte after the last.
    pub(super) end: usize,
    /// The name or text itself, without quotes.
    pub(super) value: String,
    /// Whether its closing quote or mark is there, if it has one.
    pub(super) is_closed: bool,
}

impl Token {
    /// Its bytes.
    pub(super) fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    /// The bytes of the name or text without its quotes.
    pub(super) fn inner(&self) -> Range<usize> {
        match self.kind {
            Kind::Text | Kind::Quoted => {
                let end = self.end - usize::from(self.is_closed);
                (self.start + 1).min(end)..end
            }
            _ => self.range(),
        }
    }

    /// Whether it is this keyword.
    pub(super) fn is(&self, keyword: &str) -> bool {
        self.kind == Kind::Word && self.value.eq_ignore_ascii_case(keyword)
    }

    pub(super) fn is_sign(&self, sign: char) -> bool {
        self.kind == Kind::Sign(sign)
    }

    /// Whether it may name something.
    pub(super) fn is_name(&self) -> bool {
        matches!(self.kind, Kind::Word | Kind::Quoted)
    }
}

/// The tokens of a text, comments among them.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        let (kind, length, is_closed) = token(c, rest);
        let mut token = Token {
            kind,
            start: at,
            end: at + length,
            value: String::new(),
            is_closed,
        };
        let quote = match kind {
            Kind::Text | Kind::Quoted => c.to_string(),
            _ => String::new(),
        };
        token.value = match quote.is_empty() {
            true => text[token.range()].to_string(),
            false => text[token.inner()].replace(&quote.repeat(2), &quote),
        };
        at = token.end;
        tokens.push(token);
    }
    tokens
}

/// The kind and length of the first token of a text that begins with `c`, and whether it is closed.
fn token(c: char, rest: &str) -> (Kind, usize, bool) {
    let line = rest.find('\n').unwrap_or(rest.len());
    let while_it = |is_it: fn(char) -> bool| rest.find(|c| !is_it(c)).unwrap_or(rest.len());
    match c {
        '-' if rest.starts_with("--") => (Kind::Comment, line, true),
        '/' if rest.starts_with("/*") => {
            let close = rest.get(2..).and_then(|rest| rest.find("*/"));
            let length = close.map_or(rest.len(), |at| at + 4);
            (Kind::Comment, length, close.is_some())
        }
        '\'' | '"' | '`' => {
            let kind = if c == '\'' { Kind::Text } else { Kind::Quoted };
            match closing(c, rest) {
                Some(length) => (kind, length, true),
                None => (kind, rest[..line].trim_end().len().max(1), false),
            }
        }
        c if c.is_ascii_digit() => {
            let length = while_it(|c| c.is_ascii_alphanumeric() || c == '.');
            (Kind::Number, length, true)
        }
        c if c.is_alphanumeric() || c == '_' => {
            let length = while_it(|c| c.is_alphanumeric() || c == '_');
            (Kind::Word, length, true)
        }
        c => (Kind::Sign(c), c.len_utf8(), true),
    }
}

/// The length of a text in quotes that is closed on its line; a quote that is doubled is part of it.
fn closing(quote: char, rest: &str) -> Option<usize> {
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\n' {
            return None;
        }
        if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            return Some(at + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_texts_end_with_their_line() {
        let text = "/*--- a = 'x'\n---*/ SELECT \"a b\", x['it''s'] -- 'c\nFROM raw.t1 WHERE y['ü\n AND 1.5 <> z";
        let found = tokens(text);
        let words: Vec<(Kind, &str)> = found
            .iter()
            .map(|token| (token.kind, token.value.as_str()))
            .collect();
        let sign = |c| Kind::Sign(c);
        assert_eq!(
            words[1..],
            [
                (Kind::Word, "SELECT"),
                (Kind::Quoted, "a b"),
                (sign(','), ","),
                (Kind::Word, "x"),
                (sign('['), "["),
                (Kind::Text, "it's"),
                (sign(']'), "]"),
                (Kind::Comment, "-- 'c"),
                (Kind::Word, "FROM"),
                (Kind::Word, "raw"),
                (sign('.'), "."),
                (Kind::Word, "t1"),
                (Kind::Word, "WHERE"),
                (Kind::Word, "y"),
                (sign('['), "["),
                (Kind::Text, "ü"),
                (Kind::Word, "AND"),
                (Kind::Number, "1.5"),
                (sign('<'), "<"),
                (sign('>'), ">"),
                (Kind::Word, "z"),
            ]
        );
        assert!(words[0].0 == Kind::Comment && !words[0].1.contains("SELECT"));
        for odd in ["", "'", "\"", "/*", "/", "'\n'", "x['", "🚚'🚚", "--"] {
            for token in tokens(odd) {
                assert!(odd.get(token.inner()).is_some(), "{odd}: {token:?}");
            }
        }
    }
}
