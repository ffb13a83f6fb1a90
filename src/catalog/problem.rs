//! Problems in the files of a catalog, with their places.

use std::fmt;

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan, Tokenizer, Whitespace};

/// Whether a problem makes a catalog unusable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The catalog is refused.
    Error,
    /// It is only reported.
    Warning,
}

/// A place in a text: lines and columns count from 1, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The first column; 0 stands for the whole line.
    pub column: usize,
    /// How many characters of the line are meant; 0 stands for the rest of it.
    pub length: usize,
}

impl Place {
    /// A whole line.
    pub fn line(line: usize) -> Self {
        Self {
            line,
            column: 0,
            length: 0,
        }
    }

    /// The part of a SQL parser's span that is on its first line.
    pub fn of_span(span: Span) -> Self {
        let (start, end) = (span.start, span.end);
        Self::between((start.line, start.column), (end.line, end.column))
    }

    /// The text between two places, as (line, column), on the first one's line.
    pub fn between(start: (u64, u64), end: (u64, u64)) -> Self {
        let number = |number: u64| usize::try_from(number).unwrap_or(0);
        let length = match start.0 == end.0 {
            true => end.1.saturating_sub(start.1),
            false => 0,
        };
        Self {
            line: number(start.0).max(1),
            column: number(start.1),
            length: number(length),
        }
    }

    /// The part of a byte range that is on its first line.
    pub(super) fn of_bytes(text: &str, start: usize, end: usize) -> Self {
        let mut start = start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &text[..start];
        let begin = before.rfind('\n').map_or(0, |at| at + 1);
        let covered = text.get(start..end.clamp(start, text.len())).unwrap_or("");
        Self {
            line: before.matches('\n').count() + 1,
            column: before[begin..].chars().count() + 1,
            length: covered.lines().next().unwrap_or("").chars().count().max(1),
        }
    }

    /// The bytes of `text` that are meant.
    pub fn bytes(&self, text: &str) -> std::ops::Range<usize> {
        let mut begin = 0;
        let mut line = "";
        for (number, found) in text.split_inclusive('\n').enumerate() {
            if number + 1 == self.line {
                line = found.trim_end();
                break;
            }
            begin += found.len();
        }
        let indent = line.len() - line.trim_start().len();
        let offset = |count: usize| {
            line.char_indices()
                .nth(count)
                .map_or(line.len(), |(at, _)| at)
        };
        let first = match self.column {
            0 => indent,
            column => offset(column - 1),
        };
        let last = match (self.column, self.length) {
            (0, _) | (_, 0) => line.len(),
            (column, length) => offset(column - 1 + length),
        };
        begin + first..begin + last.max(first)
    }
}

/// Something that is wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Path of the file.
    pub file: String,
    /// Where in the file.
    pub place: Place,
    /// What is wrong and, if there is one, the nearest name; one line.
    pub reason: String,
}

impl Problem {
    /// An error.
    pub fn new(file: &str, place: Place, reason: &str) -> Self {
        Self {
            severity: Severity::Error,
            file: file.into(),
            place,
            // A quoted name may contain line breaks; a message is one line.
            reason: reason.replace(char::is_control, " "),
        }
    }

    /// The same as a warning.
    pub fn warning(self) -> Self {
        Self {
            severity: Severity::Warning,
            ..self
        }
    }

    /// Whether it makes the catalog unusable.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            place,
            reason,
            ..
        } = self;
        write!(f, "{file}:{}: {reason}", place.line)
    }
}

/// One or more problems; as one line, the first and how many more there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// The first.
    pub first: Box<Problem>,
    /// The others.
    pub others: Vec<Problem>,
}

impl Problems {
    /// None if there is no problem.
    pub fn new(problems: impl IntoIterator<Item = Problem>) -> Option<Self> {
        let mut problems = problems.into_iter();
        Some(Self {
            first: Box::new(problems.next()?),
            others: problems.collect(),
        })
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self {
            first: Box::new(problem),
            others: Vec::new(),
        }
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::iter::Chain<std::iter::Once<Problem>, std::vec::IntoIter<Problem>>;

    fn into_iter(self) -> Self::IntoIter {
        std::iter::once(*self.first).chain(self.others)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        match self.others.len() {
            0 => Ok(()),
            more => write!(f, " (and {more} more: `samsara-etl sql check` shows all)"),
        }
    }
}

/// The tokens of a query except white space and comments. A text that cannot be tokenized has none.
pub(super) fn code(sql: &str) -> Vec<TokenWithSpan> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location();
    let mut tokens = tokens.unwrap_or_default();
    tokens.retain(|token| !matches!(token.token, Token::Whitespace(_)));
    tokens
}

/// The trailing comments of a query, by line. A comment on a line of its own explains the code to the reader, not the
/// column.
pub(super) fn trailing_comments(
    tokens: &[TokenWithSpan],
) -> std::collections::BTreeMap<u64, String> {
    let mut comments = std::collections::BTreeMap::new();
    let mut code_on_line = 0;
    for token in tokens {
        match &token.token {
            Token::Whitespace(Whitespace::SingleLineComment { comment, .. }) => {
                if code_on_line == token.span.start.line {
                    comments.insert(token.span.start.line, comment.trim().to_string());
                }
            }
            Token::Whitespace(_) => {}
            _ => code_on_line = token.span.end.line,
        }
    }
    comments
}

/// Where a query begins.
pub(super) fn place_of_query(sql: &str) -> Place {
    let first = code(sql).into_iter().next();
    first.map_or(Place::line(1), |token| Place::of_span(token.span))
}

/// The first occurrence of this name or text in a query.
pub fn place_of_word(sql: &str, wanted: &str) -> Option<Place> {
    let is_it = |token: &TokenWithSpan| match &token.token {
        Token::Word(word) => word.value == wanted,
        Token::SingleQuotedString(text) => text == wanted,
        _ => false,
    };
    code(sql)
        .into_iter()
        .find(is_it)
        .map(|token| Place::of_span(token.span))
}

/// The first occurrence of `of['name']` in a query: the place of the name.
pub fn place_of_field(sql: &str, of: &str, name: &str) -> Option<Place> {
    let tokens = code(sql);
    let field = tokens.windows(3).find(|tokens| {
        matches!(
            (&tokens[0].token, &tokens[1].token, &tokens[2].token),
            (Token::Word(word), Token::LBracket, Token::SingleQuotedString(text))
                if word.value == of && text == name
        )
    })?;
    Some(Place::of_span(field[2].span))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_cover_what_they_name() {
        let text = "SELECT a,\n  bär AS ü, -- 'ü'\n  item['x'] FROM raw.t\n";
        for (word, covered, line, column) in [
            ("bär", "bär", 2, 3),
            ("ü", "ü", 2, 10),
            ("x", "'x'", 3, 8),
            ("t", "t", 3, 22),
        ] {
            let place = place_of_word(text, word).unwrap();
            assert_eq!((place.line, place.column), (line, column), "{word}");
            assert_eq!(&text[place.bytes(text)], covered);
        }
        assert_eq!(place_of_word(text, "none"), None);
        assert_eq!(&text[Place::line(2).bytes(text)], "bär AS ü, -- 'ü'");
        assert_eq!(Place::line(9).bytes(text).len(), 0);
        let start = text.find("bär").unwrap();
        let place = Place::of_bytes(text, start, start + 4);
        assert_eq!(&text[place.bytes(text)], "bär");
    }
}
