//! One page of the API: its records, its envelope fields, and whether another page follows.

use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;

use super::error::AttemptError;
use crate::catalog::{Pagination, Source};
use crate::json::path::{push_name, shorten};
use crate::json::{JsonError, Kind, Scanner, Spans, spans, unescape};

/// Maximum number of envelope fields of a page.
const MOST_ENVELOPE_FIELDS: usize = 10_000;
/// Number of members of a body that an error lists.
const MEMBERS_TOLD: usize = 5;
/// Number of bytes of a body's message that an error quotes.
const LONGEST_TOLD: usize = 200;

/// The text of a response that is one JSON document.
pub(super) struct Body {
    pub(super) text: Bytes,
    /// Positions of its large parts.
    spans: Spans,
}

impl Body {
    /// Scans the whole text, once.
    pub(super) fn read(text: Bytes) -> Result<Self, JsonError> {
        std::str::from_utf8(&text).map_err(|error| JsonError {
            offset: error.valid_up_to(),
            reason: "not UTF-8",
        })?;
        let spans = spans(&text)?;
        Ok(Self { text, spans })
    }
}

/// A page, split into its parts without being parsed.
#[derive(Debug, Clone)]
pub struct Page {
    /// Position in its task, from 1.
    pub number: u64,
    /// Envelope fields other than the pagination: path as in [`crate::json::path`] (`$.warning`),
    /// and text.
    pub envelope: Vec<(String, Bytes)>,
    /// The text of the list of records; `[]` where the API sent `null`.
    pub records: Bytes,
    /// Whether the page has no records.
    pub is_empty: bool,
    /// The cursor, also on the last page of a feed.
    pub cursor: Option<String>,
    /// Whether the API promises another page.
    pub has_next: bool,
}

/// A body that is not a page, or a page that breaks the protocol of pagination.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PageError {
    /// It is not JSON, or a part of it has the wrong type.
    #[error(transparent)]
    Malformed(#[from] JsonError),
    /// It does not have the list of records. A page without records has an empty list, or `null`.
    #[error("the list of records is missing: no `{path}` in {found}")]
    NoRecords {
        /// Where the list should be.
        path: String,
        /// What was found instead.
        found: String,
    },
    /// It is an error message of the API, sent with a success status.
    #[error("expected a record, found {found}")]
    ErrorBody {
        /// What the body is instead, with the names of its members.
        found: String,
    },
    /// Each attempt answered with a success whose body is not JSON.
    #[error("requested {attempts} times, last response: {error}")]
    NotJson {
        /// Number of attempts.
        attempts: u32,
        /// How the last attempt failed.
        #[source]
        error: AttemptError,
    },
    /// The cursor has more bytes than fit into an address.
    #[error("its cursor has {0} bytes")]
    CursorTooLong(usize),
    /// The cursor contains a secret of the configuration, so it must not be stored.
    #[error("its cursor repeats a secret of the configuration, and is not kept")]
    CursorHoldsSecret,
    /// There should be another page, but the cursor for it is missing.
    #[error("hasNextPage is true, but endCursor is missing")]
    NoCursor,
    /// The cursor is one of those that led to an earlier page.
    #[error("pagination loop: its cursor was seen before")]
    CursorRepeated,
    /// Too many pages in a row had no new records.
    #[error("pagination loop: the {0}th page in a row without new records promises another")]
    Stale(u32),
    /// A feed of changes did not give the cursor from which the next run continues.
    #[error("the feed gave no cursor to continue from")]
    NoFeedCursor,
}

/// Splits a body like the pages of `source`.
///
/// # Errors
/// [`PageError`], if the body is not a page of the source.
pub fn split_page(body: &Bytes, source: &Source) -> Result<Page, PageError> {
    let (path, echoes) = (&source.records, &source.page_echoes);
    Body::read(body.clone())
        .map_err(PageError::from)
        .and_then(|body| cut(&body, path, echoes, source.pagination, 1))
        .and_then(|page| Ok(page.without(&source.omit)?))
}

/// Splits a body into its parts.
pub(super) fn cut(
    Body { text: body, spans }: &Body,
    path: &[String],
    echoes: &[String],
    pagination: Pagination,
    number: u64,
) -> Result<Page, PageError> {
    let mut splitter = PageSplitter {
        body,
        path,
        echoes,
        envelope: Vec::new(),
        names: HashMap::new(),
        records: None,
        is_null: false,
        is_echo: false,
        cursor: None,
        has_next: None,
        pagination,
    };
    let mut scanner = Scanner::new(body, 0).knowing(spans);
    if path.is_empty() {
        let value = scanner.value()?;
        splitter.records = Some(value);
    } else {
        splitter.object(&mut scanner, 0, &mut String::from("$"))?;
    }
    scanner.end()?;
    if path.is_empty() && is_error_body(body) {
        return Err(PageError::ErrorBody { found: told(body) });
    }
    let PageSplitter {
        envelope,
        records,
        cursor,
        has_next,
        is_null,
        is_echo,
        ..
    } = splitter;
    let records = match records {
        // Without records, some endpoints return `data: null`, and one may omit the list from an object that only
        // repeats the request. The pagination shows that it is a page.
        None if (is_null || is_echo) && has_next.is_some() => Bytes::from_static(b"[]"),
        None => {
            return Err(PageError::NoRecords {
                path: path.join("."),
                found: told(body),
            });
        }
        Some(range) => list(body.slice(range))?,
    };
    let is_empty = Scanner::new(&records, 1).peek() == Some(b']');
    let cursor = cursor.filter(|cursor| !cursor.is_empty());
    Ok(Page {
        number,
        envelope,
        records,
        is_empty,
        cursor,
        has_next: has_next.unwrap_or(false),
    })
}

/// `null` is an empty list (seen on several endpoints); one object is a list of one.
fn list(value: Bytes) -> Result<Bytes, JsonError> {
    match Scanner::new(&value, 0).kind()? {
        Kind::Array => Ok(value),
        Kind::Null => Ok(Bytes::from_static(b"[]")),
        Kind::Object => Ok(Bytes::from([b"[", &value[..], b"]"].concat())),
        _ => Err(JsonError {
            offset: 0,
            reason: "the list of records is neither a list nor null",
        }),
    }
}

/// The members of an object, shortened for messages: names, and the texts of strings.
fn members(body: &[u8]) -> Vec<(String, Option<String>)> {
    let mut scanner = Scanner::new(body, 0);
    let mut members = Vec::new();
    if !scanner.take(b'{') || scanner.peek() == Some(b'}') {
        return members;
    }
    while members.len() <= MEMBERS_TOLD {
        let (Ok(key), Ok(value)) = (scanner.key(), scanner.value()) else {
            break;
        };
        let text = body[value]
            .strip_prefix(b"\"")
            .and_then(|text| unescape(text.strip_suffix(b"\"")?));
        members.push((String::from_utf8_lossy(&body[key]).into_owned(), text));
        if !scanner.take(b',') {
            break;
        }
    }
    members
}

/// Whether a body is only an error message. If the body itself is the record, there is no other way to tell.
fn is_error_body(body: &[u8]) -> bool {
    const NAMES: [&str; 5] = ["message", "requestId", "code", "error", "errors"];
    let members = members(body);
    let says_it = members
        .iter()
        .any(|(name, _)| name == "message" || name == "error" || name == "errors");
    says_it
        && members
            .iter()
            .all(|(name, _)| NAMES.contains(&name.as_str()))
}

/// A body, for messages.
fn told(body: &[u8]) -> String {
    let members = members(body);
    let mut text = match Scanner::new(body, 0).peek() {
        Some(b'{') if members.is_empty() => "an object without members".to_string(),
        Some(b'{') => {
            let names = members
                .iter()
                .take(MEMBERS_TOLD)
                .map(|(name, _)| format!("`{}`", shorten(name, 40)));
            format!("an object with {}", names.collect::<Vec<_>>().join(", "))
        }
        _ => "a body that is not an object".to_string(),
    };
    if members.len() > MEMBERS_TOLD {
        text.push_str(" and more");
    }
    if let Some((_, Some(message))) = members.iter().find(|(name, _)| name == "message") {
        text += &format!(": \"{}\"", shorten(message, LONGEST_TOLD).escape_debug());
    }
    text
}

struct PageSplitter<'a> {
    body: &'a Bytes,
    path: &'a [String],
    echoes: &'a [String],
    envelope: Vec<(String, Bytes)>,
    /// Number of occurrences of each path of `envelope`.
    names: HashMap<String, u32>,
    records: Option<Range<usize>>,
    /// Whether an object on the way to the list is null.
    is_null: bool,
    /// Whether the object that should have the list only repeats the request.
    is_echo: bool,
    cursor: Option<String>,
    /// The content of `pagination`, if present.
    has_next: Option<bool>,
    pagination: Pagination,
}

impl PageSplitter<'_> {
    /// Reads the object with step `depth` of the path.
    fn object(
        &mut self,
        scanner: &mut Scanner<'_>,
        depth: usize,
        at: &mut String,
    ) -> Result<(), JsonError> {
        if scanner.kind()? == Kind::Null && depth > 0 {
            scanner.literal()?;
            self.is_null = true;
            return Ok(());
        }
        scanner.expect(
            b'{',
            if depth == 0 {
                "a page must be an object"
            } else {
                "the list of records must be in an object"
            },
        )?;
        if scanner.take(b'}') {
            return Ok(());
        }
        let mut is_echo = depth > 0 && depth + 1 == self.path.len();
        loop {
            let key = scanner.key()?;
            // A lone surrogate stays as it was written.
            let name = unescape(&self.body[key.clone()])
                .unwrap_or_else(|| String::from_utf8_lossy(&self.body[key]).into());
            let wanted = self.path.get(depth) == Some(&name);
            if wanted && depth + 1 == self.path.len() {
                let value = scanner.value()?;
                if self.records.replace(value).is_some() {
                    return Err(scanner.error("the list of records appears twice"));
                }
            } else if wanted {
                let length = at.len();
                push_name(at, 0, &name);
                self.object(scanner, depth + 1, at)?;
                at.truncate(length);
            } else if depth == 0 && name == "pagination" && self.pagination != Pagination::None {
                self.pagination(scanner)?;
            } else {
                let value = scanner.value()?;
                if !self.echoes.contains(&name) {
                    is_echo = false;
                    self.keep(scanner, at, &name, value)?;
                }
            }
            if !scanner.take(b',') {
                self.is_echo |= is_echo;
                return scanner.expect(b'}', "expected `,` or `}`");
            }
        }
    }

    /// Keeps an envelope field.
    fn keep(
        &mut self,
        scanner: &Scanner<'_>,
        at: &str,
        name: &str,
        value: Range<usize>,
    ) -> Result<(), JsonError> {
        if self.envelope.len() >= MOST_ENVELOPE_FIELDS {
            return Err(scanner.error("more than 10,000 members outside the list of records"));
        }
        let mut path = at.to_string();
        push_name(&mut path, 0, name);
        let turn = self.names.entry(path.clone()).or_default();
        *turn += 1;
        if *turn > 1 {
            path += &format!("#{turn}");
        }
        self.envelope.push((path, self.body.slice(value)));
        Ok(())
    }

    fn pagination(&mut self, scanner: &mut Scanner<'_>) -> Result<(), JsonError> {
        if self.has_next.is_some() {
            return Err(scanner.error("`pagination` appears twice"));
        }
        if scanner.kind()? == Kind::Null {
            scanner.literal()?;
            return Ok(());
        }
        // If present, it says whether another page follows. A missing or invalid flag is not an end.
        let silent = |scanner: &Scanner<'_>| scanner.error("`hasNextPage` must be true or false");
        scanner.expect(b'{', "`pagination` must be an object")?;
        if scanner.take(b'}') {
            return Err(silent(scanner));
        }
        let mut has_next = None;
        loop {
            let key = scanner.key()?;
            match &self.body[key] {
                b"endCursor" if scanner.kind()? == Kind::String => {
                    let (inside, _) = scanner.string()?;
                    self.cursor = unescape(&self.body[inside]);
                }
                b"hasNextPage" if scanner.kind()? == Kind::Boolean => {
                    has_next = Some(self.body[scanner.literal()?] == b"true"[..]);
                }
                _ => {
                    scanner.value()?;
                }
            }
            if !scanner.take(b',') {
                scanner.expect(b'}', "expected `,` or `}`")?;
                self.has_next = Some(has_next.ok_or_else(|| silent(scanner))?);
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split_text(text: &str, path: &[&str]) -> Result<Page, PageError> {
        let path: Vec<String> = path.iter().map(ToString::to_string).collect();
        let text = Bytes::copy_from_slice(text.as_bytes());
        let body = Body::read(text)?;
        cut(&body, &path, &["echo".into()], Pagination::After, 1)
    }

    #[test]
    fn finds_records_cursor_and_envelope() {
        let page = split_text(
            r#"{"data":{"reports":[{"a":1}],"note":"x"},"pagination":{"endCursor":"a\"b","hasNextPage":true},"extra":1,"echo":2}"#,
            &["data", "reports"],
        )
        .unwrap();
        assert_eq!(&page.records[..], br#"[{"a":1}]"#);
        assert_eq!(
            (page.cursor.as_deref(), page.has_next, page.is_empty),
            (Some("a\"b"), true, false)
        );
        let envelope: Vec<_> = page
            .envelope
            .iter()
            .map(|(path, text)| (path.as_str(), &text[..]))
            .collect();
        assert_eq!(
            envelope,
            [("$.data.note", &b"\"x\""[..]), ("$.extra", b"1")]
        );
    }

    #[test]
    fn has_next_page_must_be_a_boolean() {
        for pagination in [
            "{}",
            r#"{"endCursor":"a"}"#,
            r#"{"endCursor":"a","hasNextPage":null}"#,
            r#"{"hasNextPage":"true"}"#,
        ] {
            let error = split_text(
                &format!(r#"{{"data":[1],"pagination":{pagination}}}"#),
                &["data"],
            )
            .unwrap_err();
            assert!(
                error.to_string().contains("hasNextPage"),
                "{pagination}: {error}"
            );
        }
        // The specification lets some endpoints leave all of it out.
        for page in [r#"{"data":[1]}"#, r#"{"data":[1],"pagination":null}"#] {
            assert!(!split_text(page, &["data"]).unwrap().has_next, "{page}");
        }
    }

    #[test]
    fn an_empty_list_and_null_are_empty_pages() {
        for (text, path) in [
            (
                r#"{"data":null,"pagination":{"endCursor":"","hasNextPage":false}}"#,
                &["data"][..],
            ),
            (r#"{"data": [ ] }"#, &["data"]),
            (r#"{"data":{"reports":null}}"#, &["data", "reports"]),
            (
                r#"{"data":{"reports":[]},"pagination":null}"#,
                &["data", "reports"],
            ),
            (
                r#"{"data":null,"pagination":{"endCursor":"","hasNextPage":false}}"#,
                &["data", "reports"],
            ),
            (
                r#"{"data":{"echo":1},"pagination":{"endCursor":"","hasNextPage":false}}"#,
                &["data", "reports"],
            ),
            ("[]", &[]),
        ] {
            let page = split_text(text, path).unwrap();
            assert!(
                page.is_empty && !page.has_next && page.cursor.is_none(),
                "{text}"
            );
        }
        assert_eq!(
            &split_text(r#"{"score":1}"#, &[]).unwrap().records[..],
            br#"[{"score":1}]"#
        );
    }

    #[test]
    fn refuses_what_is_not_one_page() {
        for text in [
            "",
            "{",
            "[]",
            r#"{"dat":[]}"#,
            r#"{"data":[]}{"data":[]}"#,
            r#"{"data":[],"data":[]}"#,
            r#"{"data":5}"#,
        ] {
            assert!(split_text(text, &["data"]).is_err(), "{text}");
        }
        let body = Body::read(Bytes::from_static(b"{\"data\":\"\xff\"}"));
        let error = body.err().unwrap();
        assert_eq!(error.to_string(), "not UTF-8 at byte 9");
    }

    #[test]
    fn only_a_list_that_is_there_is_an_answer() {
        let nested = &["data", "reports"][..];
        for (text, path, told) in [
            (
                r#"{"message":"try \n later"}"#,
                nested,
                r#"no `data.reports` in an object with `message`: "try \n later""#,
            ),
            (
                r#"{"message":5,"requestId":"r"}"#,
                nested,
                "no `data.reports` in an object with `message`, `requestId`",
            ),
            (
                "{}",
                nested,
                "no `data.reports` in an object without members",
            ),
            (
                r#"{"data":{}}"#,
                nested,
                "no `data.reports` in an object with `data`",
            ),
            (r#"{"data":{"other":[]}}"#, nested, "no `data.reports`"),
            (r#"{"data":{"echo":1}}"#, nested, "no `data.reports`"),
            (
                r#"{"echo":1,"pagination":{"hasNextPage":false}}"#,
                nested,
                "no `data.reports`",
            ),
            (
                r#"{"data":{"echo":1,"other":[]},"pagination":{"hasNextPage":false}}"#,
                nested,
                "no `data.reports`",
            ),
            (r#"{"data":{"Reports":[]}}"#, nested, "no `data.reports`"),
            (r#"{"data":null}"#, nested, "no `data.reports`"),
            (
                r#"{"data":null,"pagination":null}"#,
                nested,
                "no `data.reports`",
            ),
            (
                r#"{"data":{},"pagination":{"endCursor":"","hasNextPage":false}}"#,
                nested,
                "no `data.reports`",
            ),
            (
                r#"{"pagination":{"endCursor":"","hasNextPage":false}}"#,
                nested,
                "no `data.reports`",
            ),
            (r#"{"reports":[]}"#, nested, "no `data.reports`"),
            (
                r#"{"data":[]}"#,
                nested,
                "the list of records must be in an object",
            ),
            (
                r#"{"data":"x"}"#,
                nested,
                "the list of records must be in an object",
            ),
            (
                r#"{"data":{"reports":"x"}}"#,
                nested,
                "neither a list nor null",
            ),
            (
                r#"{"data":{"reports":false}}"#,
                nested,
                "neither a list nor null",
            ),
            (
                r#"{"data":{"reports":[]},"data":{"reports":[]}}"#,
                nested,
                "appears twice",
            ),
            (
                r#"{"message":"m"}"#,
                &["data"],
                "no `data` in an object with `message`: \"m\"",
            ),
            (r#"{"message":"m"}"#, &["a", "b", "c"], "no `a.b.c`"),
            (r#"{"a":{"b":null}}"#, &["a", "b", "c"], "no `a.b.c`"),
            ("[]", nested, "a page must be an object"),
            (
                r#"{"message":"m","requestId":"r"}"#,
                &[],
                "expected a record, found an object with `message`",
            ),
            (r#"{"error":"e"}"#, &[], "expected a record, found"),
            (
                r#"{"data":[],"pagination":{"hasNextPage":false},"pagination":{"hasNextPage":true}}"#,
                &["data"],
                "`pagination` appears twice",
            ),
        ] {
            let error = split_text(text, path).unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
            assert!(!error.contains('\n') && error.len() < 500, "{error}");
        }
        assert!(
            !split_text(r#"{"message":"m","safetyScore":5}"#, &[])
                .unwrap()
                .is_empty
        );
    }

    #[test]
    fn every_envelope_field_has_a_path_of_its_own() {
        let page = split_text(
            r#"{"a.b":1,"a":{"b":2},"data":{"x":3,"x":4,"reports":[],"":5},"a.b":6,"\ud800":7}"#,
            &["data", "reports"],
        )
        .unwrap();
        let envelope: Vec<_> = page
            .envelope
            .iter()
            .map(|(path, text)| (path.as_str(), &text[..]))
            .collect();
        assert_eq!(
            envelope,
            [
                ("$[\"a.b\"]", &b"1"[..]),
                ("$.a", b"{\"b\":2}"),
                ("$.data.x", b"3"),
                ("$.data.x#2", b"4"),
                ("$.data[\"\"]", b"5"),
                ("$[\"a.b\"]#2", b"6"),
                ("$[\"\\\\ud800\"]", b"7"),
            ]
        );
        let flood = format!(
            r#"{{"data":[],{}"x":1}}"#,
            r#""x":1,"#.repeat(MOST_ENVELOPE_FIELDS)
        );
        assert!(
            split_text(&flood, &["data"])
                .unwrap_err()
                .to_string()
                .contains("outside the list")
        );
    }
}
