//! `.env`, read as python-dotenv reads it, for which our users' files are written.
//!
//! The grammar is that of `dotenv/parser.py` and `dotenv/variables.py` (python-dotenv 1.2), whose regular expressions
//! are quoted below; values are resolved as `load_dotenv()` does, with precedence for the process environment.

use std::collections::HashMap;

/// A name with its value, as written in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binding {
    /// Name of the variable.
    pub(super) name: String,
    /// The value before its variables are resolved; none for a name without `=`.
    pub(super) value: Option<String>,
    /// The line on which it begins, from 1.
    pub(super) line: usize,
}

/// What a file holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parsed {
    /// Its names, in their order.
    pub(super) bindings: Vec<Binding>,
    /// Invalid lines, which are skipped.
    pub(super) foreign: Vec<usize>,
}

/// Reads the text of a file.
pub(super) fn parse(text: &str) -> Parsed {
    // As Python opens text files.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut reader = Reader {
        rest: &text,
        line: 1,
    };
    let mut parsed = Parsed::default();
    loop {
        reader.take_while(is_space);
        if reader.rest.is_empty() {
            return parsed;
        }
        let line = reader.line;
        match reader.binding() {
            Some((Some(name), value)) => parsed.bindings.push(Binding { name, value, line }),
            Some((None, _)) => {}
            None => {
                parsed.foreign.push(line);
                reader.take_while(|c| c != '\n');
            }
        }
    }
}

impl Parsed {
    /// The values of the names, with their variables resolved: from the environment, then from earlier lines of the
    /// file. A name without `=` has no value.
    pub(super) fn resolve(
        &self,
        environment: &HashMap<String, String>,
    ) -> HashMap<String, Option<String>> {
        let mut values: HashMap<String, Option<String>> = HashMap::new();
        for Binding { name, value, .. } in &self.bindings {
            let look_up = |name: &str| {
                let above = || {
                    values
                        .get(name)
                        .map(|value| value.clone().unwrap_or_default())
                };
                environment.get(name).cloned().or_else(above)
            };
            let value = value.as_ref().map(|value| interpolate(value, look_up));
            values.insert(name.clone(), value);
        }
        values
    }
}

/// Resolves `${NAME}` and `${NAME:-default}`; any other `$` is kept. The default is for missing names, not for empty
/// ones.
fn interpolate(value: &str, look_up: impl Fn(&str) -> Option<String>) -> String {
    let (mut result, mut rest) = (String::with_capacity(value.len()), value);
    while let Some(start) = rest.find("${") {
        let (before, inside) = (&rest[..start], &rest[start + 2..]);
        // \$\{(?P<name>[^\}:]*)(?::-(?P<default>[^\}]*))?\}
        let name = &inside[..inside.find(['}', ':']).unwrap_or(inside.len())];
        let after = &inside[name.len()..];
        let found = match after.strip_prefix(":-") {
            None => after.strip_prefix('}').map(|after| ("", after)),
            Some(after) => after.split_once('}'),
        };
        result.push_str(before);
        match found {
            Some((default, after)) => {
                result.push_str(&look_up(name).unwrap_or_else(|| default.to_string()));
                rest = after;
            }
            None => {
                result.push_str("${");
                rest = inside;
            }
        }
    }
    result + rest
}

/// Python's `\s`, which includes the four separator characters.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn is_blank(c: char) -> bool {
    c != '\n' && is_space(c)
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Reader<'a> {
    /// `[export] NAME [= value] [# comment]`, to the end of its line: its name, if it has one, and its value. None
    /// if it is something else.
    fn binding(&mut self) -> Option<(Option<String>, Option<String>)> {
        // (?:export[^\S\r\n]+)?
        if let Some(after) = self.rest.strip_prefix("export")
            && after.starts_with(is_blank)
        {
            self.advance("export".len());
            self.take_while(is_blank);
        }
        let name = match self.rest.chars().next() {
            Some('#') => None,
            // '([^']+)'
            Some('\'') => {
                let length = self.rest[1..].find('\'').filter(|length| *length > 0)?;
                Some(self.advance(length + 2)[1..=length].to_string())
            }
            // ([^=\#\s]+)
            _ => match self.take_while(|c| !is_space(c) && c != '=' && c != '#') {
                "" => return None,
                name => Some(name.to_string()),
            },
        };
        self.take_while(is_blank);
        let mut value = None;
        if self.rest.starts_with('=') {
            self.advance(1);
            self.take_while(is_blank);
            value = Some(self.value()?);
        }
        // (?:[^\S\r\n]*#[^\r\n]*)?[^\S\r\n]*(?:\r\n|\n|\r|$)
        self.take_while(is_blank);
        if self.rest.starts_with('#') {
            self.take_while(|c| c != '\n');
        }
        (self.rest.is_empty() || self.rest.starts_with('\n')).then_some((name, value))
    }

    fn value(&mut self) -> Option<String> {
        match self.rest.chars().next() {
            Some('\'') => self.quoted('\'').map(|inside| unescape(inside, "\\'")),
            Some('"') => self
                .quoted('"')
                .map(|inside| unescape(inside, "\\'\"abfnrtv")),
            _ => {
                let line = self.take_while(|c| c != '\n');
                // re.sub(r"\s+#.*", "", line).rstrip()
                let comment = line
                    .match_indices('#')
                    .find(|(at, _)| line[..*at].ends_with(is_space));
                let value = comment.map_or(line, |(at, _)| &line[..at]);
                Some(value.trim_end_matches(is_space).to_string())
            }
        }
    }

    /// `'((?:\\'|[^'])*)'`, and the same with `"`: a quote after a backslash is part of the value, unless no other
    /// quote follows it.
    fn quoted(&mut self, quote: char) -> Option<&'a str> {
        let inside = &self.rest[1..];
        let mut last_escaped = None;
        let mut after_backslash = false;
        for (at, c) in inside.char_indices() {
            if c == quote && !after_backslash {
                return Some(&self.advance(at + 2)[1..=at]);
            }
            if c == quote {
                last_escaped = Some(at);
            }
            after_backslash = c == '\\';
        }
        last_escaped.map(|at| &self.advance(at + 2)[1..=at])
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        self.advance(self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len()))
    }

    fn advance(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }
}

/// Resolves a backslash before one of `escapes`; any other is kept.
fn unescape(text: &str, escapes: &str) -> String {
    let (mut result, mut chars) = (String::with_capacity(text.len()), text.chars().peekable());
    while let Some(c) = chars.next() {
        match chars.peek() {
            Some(&escaped) if c == '\\' && escapes.contains(escaped) => {
                chars.next();
                result.push(match escaped {
                    'a' => '\u{7}',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'v' => '\u{b}',
                    other => other,
                });
            }
            _ => result.push(c),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text, the values that python-dotenv 1.2 reads from it, and the number of lines that it warns of.
    type Case<'a> = (&'a str, &'a [(&'a str, Option<&'a str>)], usize);

    #[test]
    fn values_are_those_that_python_dotenv_reads() {
        let cases: &[Case<'_>] = &[
            ("A=b", &[("A", Some("b"))], 0),
            (" export  A = b ", &[("A", Some("b"))], 0),
            ("A=", &[("A", Some(""))], 0),
            ("A", &[("A", None)], 0),
            ("export A", &[("A", None)], 0),
            ("export=1", &[("export", Some("1"))], 0),
            ("A=b # note", &[("A", Some("b"))], 0),
            ("A=b#no", &[("A", Some("b#no"))], 0),
            ("A= # b", &[("A", Some("# b"))], 0),
            ("# A=b", &[], 0),
            ("", &[], 0),
            ("\n\n", &[], 0),
            ("A=p$ss", &[("A", Some("p$ss"))], 0),
            ("A='p$ss'", &[("A", Some("p$ss"))], 0),
            ("A=\"p$ss\"", &[("A", Some("p$ss"))], 0),
            ("A=a b\\n c ", &[("A", Some("a b\\n c"))], 0),
            ("A='a\\n\\'b'", &[("A", Some("a\\n'b"))], 0),
            ("A=\"a\\n\\\"b\\x\"", &[("A", Some("a\n\"b\\x"))], 0),
            ("A='a\\'", &[("A", Some("a\\"))], 0),
            (
                "A=\"one\r\ntwo\" # c\nB=c",
                &[("A", Some("one\ntwo")), ("B", Some("c"))],
                0,
            ),
            ("A='b'c\nB=d", &[("B", Some("d"))], 1),
            ("A=\"b\nB=d", &[("B", Some("d"))], 1),
            ("this is not ours\nB=d", &[("B", Some("d"))], 1),
            ("=b\nB=d", &[("B", Some("d"))], 1),
            ("'A b'=c", &[("A b", Some("c"))], 0),
            ("A.b-c=d", &[("A.b-c", Some("d"))], 0),
            ("A==b", &[("A", Some("=b"))], 0),
            ("A=b=c", &[("A", Some("b=c"))], 0),
            ("A=b\rB=c", &[("A", Some("b")), ("B", Some("c"))], 0),
            ("A:b", &[("A:b", None)], 0),
            ("A = 'b' ", &[("A", Some("b"))], 0),
            ("\u{feff}A=b", &[("\u{feff}A", Some("b"))], 0),
            ("A=\u{a0}b\u{a0}", &[("A", Some("b"))], 0),
            ("A=1\nA=2", &[("A", Some("2"))], 0),
            ("A=1\nA", &[("A", None)], 0),
            (
                "if true; then\n  B=c\nfi",
                &[("B", Some("c")), ("fi", None)],
                1,
            ),
            ("A=${ENV}", &[("A", Some("of env"))], 0),
            ("A=${NONE}x", &[("A", Some("x"))], 0),
            ("A=${NONE:-y}", &[("A", Some("y"))], 0),
            ("A=${EMPTY:-y}", &[("A", Some(""))], 0),
            ("B=1\nA=${B}2", &[("A", Some("12")), ("B", Some("1"))], 0),
            ("A='${ENV}'", &[("A", Some("of env"))], 0),
            ("A=${ENV", &[("A", Some("${ENV"))], 0),
            ("A=${ENV:y}", &[("A", Some("${ENV:y}"))], 0),
            ("A=$ENV ${ENV}$", &[("A", Some("$ENV of env$"))], 0),
            (
                "ENV=mine\nA=${ENV}",
                &[("A", Some("of env")), ("ENV", Some("mine"))],
                0,
            ),
            ("A=${B}\nB=c", &[("A", Some("")), ("B", Some("c"))], 0),
            ("A=${}", &[("A", Some(""))], 0),
            ("A=${a${ENV}}", &[("A", Some("}"))], 0),
        ];
        let pairs = [("ENV", "of env"), ("EMPTY", "")];
        let environment = pairs
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .into();
        for (text, expected, foreign) in cases {
            let parsed = parse(text);
            let mut values: Vec<_> = parsed.resolve(&environment).into_iter().collect();
            values.sort();
            let values: Vec<_> = values
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_deref()))
                .collect();
            assert_eq!(
                (&values[..], parsed.foreign.len()),
                (*expected, *foreign),
                "{text:?}"
            );
        }
    }

    #[test]
    fn lines_are_counted_from_one_across_values_of_several_lines() {
        let parsed = parse("\n# note\nA='one\ntwo'\nnot ours\r\nB=1\n\n  = x\n");
        let lines: Vec<_> = parsed
            .bindings
            .iter()
            .map(|it| (it.name.as_str(), it.line))
            .collect();
        assert_eq!(
            (&lines[..], &parsed.foreign[..]),
            (&[("A", 3), ("B", 6)][..], &[5, 8][..])
        );
    }
}
