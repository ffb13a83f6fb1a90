//! Removes from pages what must never be stored, such as secrets and links that anyone may open.

use std::borrow::Cow;

use bytes::Bytes;

use super::page::Page;
use crate::catalog::OmitPath;
use crate::json::{JsonError, Kind, Scanner, unescape};

impl Page {
    /// The page without the values at `paths`, in its records and in its envelope.
    pub(super) fn without(mut self, paths: &[OmitPath]) -> Result<Self, JsonError> {
        if paths.is_empty() {
            return Ok(self);
        }
        let names: Vec<&[String]> = paths.iter().map(OmitPath::names).collect();
        let anywhere: Vec<&str> = paths
            .iter()
            .filter(|path| path.is_any_depth())
            .filter_map(|path| Some(path.names().first()?.as_str()))
            .collect();
        self.records = cut_out(&self.records, &names, &anywhere)?;
        // Paths begin at the record, so outside the list a name is removed at any depth.
        let last: Vec<&str> = paths
            .iter()
            .filter_map(|path| Some(path.names().last()?.as_str()))
            .collect();
        let is_meant = |path: &str| {
            let name = path.rsplit_once('#').map_or(path, |(path, _)| path);
            let name = name.trim_end_matches(['"', ']']);
            let start = name.rfind(['.', '"']).map_or(0, |at| at + 1);
            last.iter()
                .any(|last| last.eq_ignore_ascii_case(&name[start..]))
        };
        self.envelope.retain(|(path, _)| !is_meant(path));
        for (_, text) in &mut self.envelope {
            *text = cut_out(text, &[], &last)?;
        }
        Ok(self)
    }
}

/// The text without the members at `paths`, and without the members named in `anywhere` at any depth.
fn cut_out(text: &Bytes, paths: &[&[String]], anywhere: &[&str]) -> Result<Bytes, JsonError> {
    let mut copier = Copier {
        text,
        scanner: Scanner::new(text, 0),
        kept: Vec::with_capacity(text.len()),
        anywhere,
    };
    copier.value(paths)?;
    Ok(Bytes::from(copier.kept))
}

struct Copier<'a> {
    text: &'a [u8],
    scanner: Scanner<'a>,
    kept: Vec<u8>,
    anywhere: &'a [&'a str],
}

impl Copier<'_> {
    /// Copies a value. The page was scanned before, so it is not deeper than [`crate::json::MAX_DEPTH`].
    fn value(&mut self, paths: &[&[String]]) -> Result<(), JsonError> {
        if paths.is_empty() && self.anywhere.is_empty() {
            return self.copy();
        }
        match self.scanner.kind()? {
            Kind::Array => {
                self.scanner.expect(b'[', "expected a list")?;
                self.kept.push(b'[');
                if !self.scanner.take(b']') {
                    loop {
                        self.value(paths)?;
                        if !self.scanner.take(b',') {
                            break;
                        }
                        self.kept.push(b',');
                    }
                    self.scanner.expect(b']', "expected `,` or `]`")?;
                }
                self.kept.push(b']');
                Ok(())
            }
            Kind::Object => {
                self.scanner.expect(b'{', "expected an object")?;
                self.kept.push(b'{');
                if !self.scanner.take(b'}') {
                    let mut is_first = true;
                    loop {
                        self.member(paths, &mut is_first)?;
                        if !self.scanner.take(b',') {
                            break;
                        }
                    }
                    self.scanner.expect(b'}', "expected `,` or `}`")?;
                }
                self.kept.push(b'}');
                Ok(())
            }
            _ => self.copy(),
        }
    }

    fn member(&mut self, paths: &[&[String]], is_first: &mut bool) -> Result<(), JsonError> {
        let key = self.scanner.key()?;
        let written = &self.text[key];
        let name = match unescape(written) {
            Some(name) => Cow::Owned(name),
            None => String::from_utf8_lossy(written),
        };
        let inside: Vec<&[String]> = paths
            .iter()
            .filter_map(|path| path.split_first())
            .filter(|(step, _)| step.eq_ignore_ascii_case(&name))
            .map(|(_, rest)| rest)
            .collect();
        let is_meant = inside.iter().any(|rest| rest.is_empty())
            || self
                .anywhere
                .iter()
                .any(|meant| meant.eq_ignore_ascii_case(&name));
        if is_meant {
            return self.scanner.value().map(|_| ());
        }
        if !std::mem::take(is_first) {
            self.kept.push(b',');
        }
        self.kept.push(b'"');
        self.kept.extend_from_slice(written);
        self.kept.extend_from_slice(b"\":");
        self.value(&inside)
    }

    fn copy(&mut self) -> Result<(), JsonError> {
        let range = self.scanner.value()?;
        self.kept.extend_from_slice(&self.text[range]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    /// A source that leaves these paths out.
    fn omitting(paths: &str) -> crate::catalog::Source {
        let toml = format!(
            "[a]\ndescription = 'd'\nkind = 'snapshot'\nendpoint = '/a'\nrate_limit = '5/s'\nschema = 'id VARCHAR'\nomit = {paths}\n"
        );
        let catalog = Catalog::from_files("test", &[("f/sources.toml".into(), toml)]).unwrap();
        catalog.source("a").unwrap().clone()
    }

    fn page(body: &str, paths: &str) -> Page {
        let source = omitting(paths);
        super::super::page::split_page(&Bytes::copy_from_slice(body.as_bytes()), &source).unwrap()
    }

    #[test]
    fn what_is_omitted_is_in_no_part_of_a_page() {
        for (paths, records, kept) in [
            (r#"["k"]"#, r#"[{"k":1,"a":2}]"#, r#"[{"a":2}]"#),
            (r#"["k"]"#, r#"[{"a":2,"k":{"x":[1]}}]"#, r#"[{"a":2}]"#),
            (r#"["k"]"#, r#"[{"k":1}]"#, r#"[{}]"#),
            // Twice, in another case, with escapes.
            (
                r#"["key"]"#,
                r#"[{"key":1,"a":2,"KEY":3,"k\u0065y":4}]"#,
                r#"[{"a":2}]"#,
            ),
            // Elsewhere it is not meant.
            (
                r#"["k"]"#,
                r#"[{"a":{"k":1}}, 7, null]"#,
                r#"[{"a":{"k":1}},7,null]"#,
            ),
            // Lists are traversed, also where the path has none, or one more.
            (
                r#"["l[].u"]"#,
                r#"[{"l":[{"u":1,"i":2},[{"u":3}]]},{"l":{"u":4}},{"l":null},{"l":"u"}]"#,
                r#"[{"l":[{"i":2},[{}]]},{"l":{}},{"l":null},{"l":"u"}]"#,
            ),
            (
                r#"["l[].u", "l[].v.w"]"#,
                r#"[{"l":[{"u":1,"v":{"w":1,"x":2}}]}]"#,
                r#"[{"l":[{"v":{"x":2}}]}]"#,
            ),
            (
                r#"["**.u"]"#,
                r#"[{"a":{"b":[{"u":1,"c":2}]},"U":3}]"#,
                r#"[{"a":{"b":[{"c":2}]}}]"#,
            ),
        ] {
            let body = format!(
                r#"{{"data":{records},"pagination":{{"endCursor":"","hasNextPage":false}}}}"#
            );
            assert_eq!(
                String::from_utf8_lossy(&page(&body, paths).records),
                kept,
                "{paths} {records}"
            );
        }
        let body = r#"{"secretKey":"s","data":[],"other":{"secretKey":"s","x":1},"a.b":{"URL":1}}"#;
        let page = page(body, r#"["secretKey", "stops[].url"]"#);
        let envelope: Vec<(&str, &[u8])> = page
            .envelope
            .iter()
            .map(|(path, text)| (path.as_str(), &text[..]))
            .collect();
        assert_eq!(
            envelope,
            [("$.other", &br#"{"x":1}"#[..]), ("$[\"a.b\"]", b"{}")]
        );
    }
}
