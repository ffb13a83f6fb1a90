//! Values that differ at each read, such as links that expire, reduced to what is stable for the content digest.

use std::borrow::Cow;

use crate::catalog::{FieldPath, PathStep};
use crate::json::{JsonError, Kind, Scanner, unescape};

/// The text of a list of records, with the values at `paths` replaced by their kind. A link that appears or disappears
/// is a change; a new signature is not.
pub(super) fn lasting<'a>(
    records: &'a [u8],
    paths: &[FieldPath],
) -> Result<Cow<'a, [u8]>, JsonError> {
    if paths.is_empty() {
        return Ok(Cow::Borrowed(records));
    }
    let mut shortener = Shortener {
        text: records,
        scanner: Scanner::new(records, 0),
        kept: Vec::new(),
        copied: 0,
    };
    let paths: Vec<Vec<&PathStep>> = paths
        .iter()
        .map(|path| [&PathStep::Items].into_iter().chain(path.steps()).collect())
        .collect();
    let paths: Vec<&[&PathStep]> = paths.iter().map(Vec::as_slice).collect();
    shortener.value(&paths)?;
    shortener
        .kept
        .extend_from_slice(&records[shortener.copied..]);
    Ok(Cow::Owned(shortener.kept))
}

struct Shortener<'a> {
    text: &'a [u8],
    scanner: Scanner<'a>,
    kept: Vec<u8>,
    /// Up to where the text is in `kept`.
    copied: usize,
}

impl Shortener<'_> {
    /// Visits a value that `paths` lead into; the number of their steps bounds the depth.
    fn value(&mut self, paths: &[&[&PathStep]]) -> Result<(), JsonError> {
        if paths.iter().any(|steps| steps.is_empty()) {
            let range = self.scanner.value()?;
            self.kept
                .extend_from_slice(&self.text[self.copied..range.start]);
            self.kept.push(self.text[range.start]);
            self.copied = range.end;
            return Ok(());
        }
        match self.scanner.kind()? {
            Kind::Array => {
                let inside = after(paths, |step| *step == PathStep::Items);
                self.scanner.expect(b'[', "expected a list")?;
                if self.scanner.take(b']') {
                    return Ok(());
                }
                loop {
                    self.member(&inside)?;
                    if !self.scanner.take(b',') {
                        return self.scanner.expect(b']', "expected `,` or `]`");
                    }
                }
            }
            Kind::Object => {
                self.scanner.expect(b'{', "expected an object")?;
                if self.scanner.take(b'}') {
                    return Ok(());
                }
                loop {
                    let name = &self.text[self.scanner.key()?];
                    let name = if name.contains(&b'\\') {
                        Cow::Owned(unescape(name).unwrap_or_default().into_bytes())
                    } else {
                        Cow::Borrowed(name)
                    };
                    let is_it = |step: &PathStep| matches!(step, PathStep::Field(field) if field.as_bytes() == &*name);
                    let inside = after(paths, is_it);
                    self.member(&inside)?;
                    if !self.scanner.take(b',') {
                        return self.scanner.expect(b'}', "expected `,` or `}`");
                    }
                }
            }
            _ => self.scanner.value().map(|_| ()),
        }
    }

    fn member(&mut self, paths: &[&[&PathStep]]) -> Result<(), JsonError> {
        if paths.is_empty() {
            self.scanner.value().map(|_| ())
        } else {
            self.value(paths)
        }
    }
}

/// The rest of the paths whose first step is this one.
fn after<'a, 'b>(
    paths: &[&'a [&'b PathStep]],
    is_step: impl Fn(&PathStep) -> bool,
) -> Vec<&'a [&'b PathStep]> {
    let rest = |steps: &&'a [&'b PathStep]| {
        steps
            .split_first()
            .filter(|(step, _)| is_step(step))
            .map(|(_, rest)| rest)
    };
    paths.iter().filter_map(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    #[test]
    fn only_signatures_of_links_make_no_difference() {
        let catalog = Catalog::open(None).unwrap();
        let paths = |source: &str| catalog.source(source).unwrap().expiring.clone();
        let events = paths("fleet_safety_events");
        let text = |records: &str, paths: &[FieldPath]| {
            String::from_utf8(lasting(records.as_bytes(), paths).unwrap().into_owned()).unwrap()
        };
        let first = r#"[{"id":"1","downloadForwardVideoUrl":"https://a/1?sig=x\",\"id","coachingState":"coached"},{"id":"2"}]"#;
        let kept =
            r#"[{"id":"1","downloadForwardVideoUrl":","coachingState":"coached"},{"id":"2"}]"#;
        assert_eq!(text(first, &events), kept);
        assert_eq!(text(&first.replace("sig=x", "sig=yyy"), &events), kept);
        // The same name, written otherwise.
        assert_eq!(
            text(&first.replace("loadForward", "load\\u0046orward"), &events)
                .matches("sig")
                .count(),
            0
        );
        for other in [
            first.replace("coached", "dismissed"),
            first.replace(r#""https://a/1?sig=x\",\"id""#, "null"),
            first.replace(
                r#""downloadForwardVideoUrl":"https://a/1?sig=x\",\"id","#,
                "",
            ),
            first.replace("downloadForwardVideoUrl", "forwardVideoUrl"),
        ] {
            assert_ne!(text(&other, &events), kept);
        }
        // Inside lists, and inside JSON.
        let documents = paths("fleet_documents");
        let photos = r#"[{"id":"d","fields":[{"label":"P","value":{"photoValue":[{"id":"1","url":"u1"},{"url":"u2"}]}},{"value":null},7]},{"fields":[]},null]"#;
        assert_eq!(
            text(photos, &documents),
            photos.replace(r#""u1""#, "\"").replace(r#""u2""#, "\"")
        );
        let signed =
            r#"[{"fields":[{"value":{"signatureValue":{"url":"s","signedAtTime":"2024"}}}]}]"#;
        assert_eq!(text(signed, &documents), signed.replace(r#""s","#, "\","));
        // Without such fields, byte for byte.
        assert_eq!(text(first, &paths("fleet_vehicles")), first);
        for empty in ["[]", "[{}]", "[ { } ]"] {
            assert_eq!(text(empty, &events), empty);
        }
    }
}
