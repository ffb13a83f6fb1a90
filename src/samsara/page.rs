//! One page of the API: where its records are, what stands beside them, how it goes on.

use std::ops::Range;

use bytes::Bytes;

use crate::catalog::{Pagination, Source};
use crate::json::{JsonError, Kind, Scanner, unescape};

/// A page as it came, cut into its parts without being parsed.
#[derive(Debug, Clone)]
pub struct Page {
    /// Position in its walk, from 1.
    pub number: u64,
    /// Members that stand beside the list and are no pagination: path from the root, and text.
    pub beside: Vec<(String, Bytes)>,
    /// The text of the list of records; `[]` where the API sent `null` or nothing.
    pub records: Bytes,
    /// Whether there are no records.
    pub is_empty: bool,
    /// The cursor, also on the last page of a feed.
    pub cursor: Option<String>,
    /// Whether the API promises another page.
    pub has_next: bool,
}

/// Cuts a body as the pages of `source` are cut.
pub fn cut_page(body: &Bytes, source: &Source) -> Result<Page, String> {
    cut(body, &source.records, &source.page_echoes, source.pagination, 1).map_err(|error| error.to_string())
}

/// Cuts a body into its parts.
pub(super) fn cut(
    body: &Bytes,
    path: &[String],
    echoes: &[String],
    pagination: Pagination,
    number: u64,
) -> Result<Page, JsonError> {
    if let Err(error) = std::str::from_utf8(body) {
        return Err(JsonError { offset: error.valid_up_to(), reason: "not UTF-8" });
    }
    let mut cutter =
        Cutter { body, path, echoes, beside: Vec::new(), records: None, cursor: None, has_next: false, pagination };
    let mut scanner = Scanner::new(body, 0);
    if path.is_empty() {
        let value = scanner.value()?;
        cutter.records = Some(value);
    } else {
        cutter.object(&mut scanner, 0, &mut String::new())?;
    }
    scanner.end()?;
    let Cutter { beside, records, cursor, has_next, .. } = cutter;
    let records = match records {
        None if path.len() <= 1 => return Err(JsonError { offset: 0, reason: "the list of records is missing" }),
        None => Bytes::from_static(b"[]"),
        Some(range) => list(body.slice(range))?,
    };
    let is_empty = Scanner::new(&records, 1).peek() == Some(b']');
    Ok(Page { number, beside, records, is_empty, cursor: cursor.filter(|cursor| !cursor.is_empty()), has_next })
}

/// `null` is an empty list (seen on several endpoints); one object is a list of one.
fn list(value: Bytes) -> Result<Bytes, JsonError> {
    match Scanner::new(&value, 0).kind()? {
        Kind::Array => Ok(value),
        Kind::Null => Ok(Bytes::from_static(b"[]")),
        Kind::Object => Ok(Bytes::from([b"[", &value[..], b"]"].concat())),
        _ => Err(JsonError { offset: 0, reason: "the list of records is neither a list nor null" }),
    }
}

struct Cutter<'a> {
    body: &'a Bytes,
    path: &'a [String],
    echoes: &'a [String],
    beside: Vec<(String, Bytes)>,
    records: Option<Range<usize>>,
    cursor: Option<String>,
    has_next: bool,
    pagination: Pagination,
}

impl Cutter<'_> {
    /// Reads the object in which step `depth` of the path stands.
    fn object(&mut self, scanner: &mut Scanner<'_>, depth: usize, at: &mut String) -> Result<(), JsonError> {
        if scanner.kind()? == Kind::Null && depth > 0 {
            scanner.literal()?;
            return Ok(());
        }
        scanner.expect(b'{', "a page is an object")?;
        if scanner.take(b'}') {
            return Ok(());
        }
        loop {
            let key = scanner.key()?;
            let name = unescape(&self.body[key]).ok_or_else(|| scanner.error("a name with a lone surrogate"))?;
            let wanted = self.path.get(depth) == Some(&name);
            if wanted && depth + 1 == self.path.len() {
                let value = scanner.value()?;
                if self.records.replace(value).is_some() {
                    return Err(scanner.error("the list of records stands twice"));
                }
            } else if wanted {
                let length = at.len();
                at.push('.');
                at.push_str(&name);
                self.object(scanner, depth + 1, at)?;
                at.truncate(length);
            } else if depth == 0 && name == "pagination" && self.pagination != Pagination::None {
                self.pagination(scanner)?;
            } else {
                let value = scanner.value()?;
                if !self.echoes.contains(&name) {
                    self.beside.push((format!("{at}.{name}"), self.body.slice(value)));
                }
            }
            if !scanner.take(b',') {
                return scanner.expect(b'}', "expected `,` or `}`");
            }
        }
    }

    fn pagination(&mut self, scanner: &mut Scanner<'_>) -> Result<(), JsonError> {
        if scanner.kind()? == Kind::Null {
            scanner.literal()?;
            return Ok(());
        }
        // Where it stands, it says whether another page follows. What says neither is no end.
        let silent = |scanner: &Scanner<'_>| scanner.error("`hasNextPage` is neither true nor false");
        scanner.expect(b'{', "`pagination` is an object")?;
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
                self.has_next = has_next.ok_or_else(|| silent(scanner))?;
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut_text(text: &str, path: &[&str]) -> Result<Page, JsonError> {
        let path: Vec<String> = path.iter().map(ToString::to_string).collect();
        cut(&Bytes::copy_from_slice(text.as_bytes()), &path, &["echo".into()], Pagination::After, 1)
    }

    #[test]
    fn finds_records_cursor_and_what_stands_beside() {
        let page = cut_text(
            r#"{"data":{"reports":[{"a":1}],"note":"x"},"pagination":{"endCursor":"a\"b","hasNextPage":true},"extra":1,"echo":2}"#,
            &["data", "reports"],
        )
        .unwrap();
        assert_eq!(&page.records[..], br#"[{"a":1}]"#);
        assert_eq!((page.cursor.as_deref(), page.has_next, page.is_empty), (Some("a\"b"), true, false));
        let beside: Vec<_> = page.beside.iter().map(|(path, text)| (path.as_str(), &text[..])).collect();
        assert_eq!(beside, [(".data.note", &b"\"x\""[..]), (".extra", b"1")]);
    }

    #[test]
    fn a_page_that_does_not_say_whether_another_follows_is_no_last_page() {
        for pagination in
            ["{}", r#"{"endCursor":"a"}"#, r#"{"endCursor":"a","hasNextPage":null}"#, r#"{"hasNextPage":"true"}"#]
        {
            let error = cut_text(&format!(r#"{{"data":[1],"pagination":{pagination}}}"#), &["data"]).unwrap_err();
            assert!(error.reason.contains("hasNextPage"), "{pagination}: {error}");
        }
        // The specification lets some endpoints leave all of it out.
        for page in [r#"{"data":[1]}"#, r#"{"data":[1],"pagination":null}"#] {
            assert!(!cut_text(page, &["data"]).unwrap().has_next, "{page}");
        }
    }

    #[test]
    fn null_and_absent_lists_are_empty() {
        for (text, path) in [
            (r#"{"data":null,"pagination":{"endCursor":"","hasNextPage":false}}"#, &["data"][..]),
            (r#"{"data": [ ] }"#, &["data"]),
            (r#"{"data":{}}"#, &["data", "reports"]),
            (r#"{"data":null}"#, &["data", "reports"]),
            ("[]", &[]),
        ] {
            let page = cut_text(text, path).unwrap();
            assert!(page.is_empty && !page.has_next && page.cursor.is_none(), "{text}");
        }
        assert_eq!(&cut_text(r#"{"score":1}"#, &[]).unwrap().records[..], br#"[{"score":1}]"#);
    }

    #[test]
    fn refuses_what_is_not_one_page() {
        for text in
            ["", "{", "[]", r#"{"dat":[]}"#, r#"{"data":[]}{"data":[]}"#, r#"{"data":[],"data":[]}"#, r#"{"data":5}"#]
        {
            assert!(cut_text(text, &["data"]).is_err(), "{text}");
        }
        assert_eq!(
            cut(&Bytes::from_static(b"{\"data\":\"\xff\"}"), &[], &[], Pagination::None, 1).unwrap_err().reason,
            "not UTF-8"
        );
    }
}
