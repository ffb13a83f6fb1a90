//! Paths of values inside a JSON document, as `_rescued_data` and the report write them.
//!
//! `engineRpm[3].quality` is the field `quality` of the fourth item of the list `engineRpm`. A name with a character
//! that has a meaning in a path, or an empty name, is written in brackets as a JSON string: `["gateway.fw"]` is one
//! field, `gateway.fw` the field `fw` of the object `gateway`. `engineRpm[]` is an item of the list without a position:
//! one that is not in the row's own list, or, in the report, any. `$` is the record itself, `$.warning` a member of the
//! page outside the list of records. `id#2` is the second value that one object has under the same name.

use std::borrow::Cow;

use super::{unescape, write_string};

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Into the field of this name.
    Name(String),
    /// Into an item of a list.
    Item(Option<usize>),
}

/// A path taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Path {
    /// Whether it starts with `$`: the record itself, or an envelope field.
    pub is_root: bool,
    /// The steps, outermost first.
    pub steps: Vec<Step>,
    /// Which of several values of the same name it is, from 2.
    pub turn: Option<u32>,
}

/// Appends the field `name` to the path that begins at `start` of `path`.
#[inline]
pub fn push_name(path: &mut String, start: usize, name: &str) {
    if is_plain_name(name) {
        if path.len() > start {
            path.push('.');
        }
        path.push_str(name);
        return;
    }
    let mut quoted = Vec::with_capacity(name.len() + 2);
    write_string(name.as_bytes(), &mut quoted);
    path.push('[');
    path.push_str(&String::from_utf8_lossy(&quoted));
    path.push(']');
}

/// Appends `[index]`, without formatting machinery, which would take a third of the time of a page with schema drift.
pub fn push_index(path: &mut String, mut index: usize) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (index % 10) as u8;
        index /= 10;
        if index == 0 {
            break;
        }
    }
    path.push('[');
    path.extend(digits[first..].iter().map(|digit| char::from(*digit)));
    path.push(']');
}

/// Whether a name is written in a path without quotes.
#[inline]
fn is_plain_name(name: &str) -> bool {
    let has_meaning =
        |byte: u8| matches!(byte, b'.' | b'[' | b']' | b'"' | b'#' | b'\\') || byte < 0x20;
    !name.is_empty() && !name.starts_with('$') && !name.bytes().any(has_meaning)
}

impl Path {
    /// Parses a path. What is not a path of today's format is read as a name: older rows have names with dots and
    /// brackets unquoted.
    pub fn parse(text: &str) -> Self {
        let mut path = Self::default();
        let mut rest = text;
        if let Some(behind) = rest
            .strip_prefix('$')
            .filter(|it| it.is_empty() || it.starts_with(['.', '[', '#']))
        {
            (path.is_root, rest) = (true, behind);
        }
        if let Some((before, turn)) = rest.rsplit_once('#')
            && turn.bytes().all(|byte| byte.is_ascii_digit())
            && let Ok(turn) = turn.parse()
        {
            (path.turn, rest) = (Some(turn), before);
        }
        while !rest.is_empty() {
            let (step, behind) = bracket(rest).unwrap_or_else(|| name(rest));
            path.steps.push(step);
            rest = behind;
        }
        path
    }

    /// The path without the positions in lists: equal for all values of the same kind.
    pub fn general(&self) -> String {
        let mut text = String::new();
        if self.is_root {
            text.push('$');
        }
        for step in &self.steps {
            match step {
                Step::Name(name) => push_name(&mut text, 0, name),
                Step::Item(_) => text.push_str("[]"),
            }
        }
        if self.turn.is_some() {
            text.push('#');
        }
        text
    }
}

/// `[3]`, `[]` or `["name"]` at the beginning of `text`, and the rest.
fn bracket(text: &str) -> Option<(Step, &str)> {
    let inside = text.strip_prefix('[')?;
    if let Some(quoted) = inside.strip_prefix('"') {
        let mut escaped = false;
        let end = quoted.bytes().position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        })?;
        let behind = quoted[end + 1..].strip_prefix(']')?;
        return Some((Step::Name(unescape(&quoted.as_bytes()[..end])?), behind));
    }
    let (index, behind) = inside.split_once(']')?;
    match index {
        "" => Some((Step::Item(None), behind)),
        _ if index.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some((Step::Item(Some(index.parse().ok()?)), behind))
        }
        _ => None,
    }
}

/// The name at the beginning of `text`, and the rest.
fn name(text: &str) -> (Step, &str) {
    let text = text.strip_prefix('.').unwrap_or(text);
    let is_end = |at: usize| match text.as_bytes()[at] {
        b'.' => true,
        b'[' => bracket(&text[at..]).is_some(),
        _ => false,
    };
    // A bracket that opens nothing belongs to the name before it.
    let end = (1..text.len()).find(|at| is_end(*at)).unwrap_or(text.len());
    (Step::Name(text[..end].to_string()), &text[end..])
}

/// A path for people: no longer than `bytes`, so that hostile names fill neither report nor log.
pub fn shorten(path: &str, bytes: usize) -> Cow<'_, str> {
    if path.len() <= bytes {
        return Cow::Borrowed(path);
    }
    let end = (0..=bytes)
        .rev()
        .find(|end| path.is_char_boundary(*end))
        .unwrap_or(0);
    Cow::Owned(format!("{}…", &path[..end]))
}

/// A path for a terminal: shortened, and without invisible characters.
pub fn printable(path: &str, bytes: usize) -> String {
    let mut text = String::new();
    for c in shorten(path, bytes).chars() {
        match c {
            '"' | '\\' | '\'' => text.push(c),
            _ => text.extend(c.escape_debug()),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(steps: &[Step]) -> String {
        let mut text = String::new();
        for step in steps {
            match step {
                Step::Name(name) => push_name(&mut text, 0, name),
                Step::Item(Some(index)) => push_index(&mut text, *index),
                Step::Item(None) => text.push_str("[]"),
            }
        }
        text
    }

    #[test]
    fn every_name_has_one_spelling_and_is_read_back() {
        let names = [
            "a",
            "gateway.fw",
            "",
            ".",
            "a[0]",
            "[0]",
            "[]",
            "id#2",
            "#",
            "$",
            "$.a",
            "a$",
            "\"",
            "\\",
            "\\\"",
            "\"]",
            "a\nb",
            "é🚚",
            "]",
            "a b",
            "-",
            "\u{0}",
        ];
        let mut texts = std::collections::HashSet::new();
        for one in names {
            for other in names {
                for index in [None, Some(0), Some(12345)] {
                    let steps = vec![
                        Step::Name(one.into()),
                        Step::Item(index),
                        Step::Name(other.into()),
                        Step::Name("c".into()),
                    ];
                    let text = written(&steps);
                    assert_eq!(
                        Path::parse(&text),
                        Path {
                            steps: steps.clone(),
                            ..Path::default()
                        },
                        "{text}"
                    );
                    let again = Path {
                        is_root: true,
                        steps: steps.clone(),
                        turn: Some(3),
                    };
                    let dot = if text.starts_with('[') { "" } else { "." };
                    assert_eq!(Path::parse(&format!("${dot}{text}#3")), again, "{text}");
                    assert!(texts.insert(text));
                }
            }
        }
        assert_eq!(
            written(&[Step::Name("gateway.fw".into())]),
            "[\"gateway.fw\"]"
        );
        assert_eq!(
            written(&[Step::Name("gateway".into()), Step::Name("fw".into())]),
            "gateway.fw"
        );
        assert_eq!(
            written(&[Step::Name("a".into()), Step::Item(Some(usize::MAX))]),
            format!("a[{}]", usize::MAX)
        );
    }

    #[test]
    fn what_is_no_path_is_a_name_and_nothing_is_lost() {
        let name = |text: &str| Path {
            steps: vec![Step::Name(text.into())],
            ..Path::default()
        };
        for text in [
            "a[x]",
            "[x]",
            "[",
            "[\"",
            "a[\"b",
            "a]",
            "[99999999999999999999999]",
            "a#",
            "#x",
            "$a",
        ] {
            assert_eq!(
                Path::parse(text).steps,
                name(text.trim_end_matches("#2")).steps,
                "{text}"
            );
        }
        assert_eq!(
            Path::parse("$"),
            Path {
                is_root: true,
                ..Path::default()
            }
        );
        assert_eq!(Path::parse(""), Path::default());
        let general = |text: &str| Path::parse(text).general();
        assert_eq!(general("a[3].b#2"), "a[].b#");
        assert_eq!(general("$.data[\"x.y\"]"), "$.data[\"x.y\"]");
        assert_eq!(general("a[\"[7]\"][0][]"), "a[\"[7]\"][][]");
    }

    #[test]
    fn a_long_path_is_cut_between_characters() {
        assert_eq!(shorten("abc", 3), "abc");
        assert_eq!(shorten("aéc", 2), "a…");
        assert_eq!(
            printable("[\"a\\n\"].\u{7f}\u{202e}é'", 99),
            "[\"a\\n\"].\\u{7f}\\u{202e}é'"
        );
    }
}
