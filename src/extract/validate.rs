//! Makes the records of a page fit the declared schema without losing a value.
//!
//! arrow-json in strict mode refuses a whole page for one unknown field, and some of its losses are silent: a fraction
//! into an integer column, a large integer into a double, a repeated key. So each page first passes one scan over its
//! bytes. If everything fits, nothing is copied and arrow-json gets the page as it is. If a value does not fit, only
//! that value is removed: its path and exact text go into `_rescued_data` of the same record, and the rest is decoded.
//! The result never depends on the order in which pages arrive.
//!
//! This is the slow path, and the reference: [`super::direct`] decodes valid pages in one pass, is tested against this,
//! and falls back to it for everything else.
//!
//! The scan stops after some thousand records, so that memory stays small for pages of any size.

use std::borrow::Cow;
use std::ops::Range;

use super::drift::Drift;
use super::misfits::{
    MISFIT, Misfits, Object, REPEATED, Step, TooMany, UNKNOWN, key_text, unescapes,
};
use super::number::{Integer, integer, is_double};
use super::raw_type::{ListShape, RawType, StructShape, other_spelling};
use super::rescue::Rescued;
use crate::json::{JsonError, Kind, Scanner, unescape, write_string};

/// Some records that fit the schema.
#[derive(Debug)]
pub(super) struct Slice<'a> {
    /// Their text, with commas between them; borrowed where nothing had to change.
    pub(super) records: Cow<'a, [u8]>,
    /// Number of records.
    pub(super) count: usize,
    /// The values that were cut out of them.
    pub(super) rescued: Rescued<'a>,
}

/// One pass over the text of a page's list of records.
pub(super) struct Pass<'a> {
    text: &'a [u8],
    shape: &'a StructShape,
    scanner: Scanner<'a>,
    stage: Stage,
    /// The text of the slice so far; empty as long as nothing had to change.
    out: Vec<u8>,
    /// How much of `text` is copied to `out` or cut out.
    copied: usize,
    /// For each field of the type, the last object that had it.
    seen: Vec<u64>,
    misfits: Misfits<'a>,
    /// Findings in the slices so far.
    drift: Drift,
}

/// The position of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Before the list.
    Before,
    /// Before a record.
    Inside,
    /// After the list.
    Done,
}

/// The members of an object while it is read.
struct Members {
    object: Object,
    /// Whether any member was kept.
    kept: bool,
    /// Position of the comma before the current member.
    separator: usize,
}

impl<'a> Pass<'a> {
    /// Starts at `position` of `records`, the text of a JSON array.
    pub(super) fn new(
        records: &'a [u8],
        shape: &'a StructShape,
        stage: Stage,
        position: usize,
    ) -> Self {
        Self {
            text: records,
            shape,
            scanner: Scanner::new(records, position),
            stage,
            out: Vec::new(),
            copied: 0,
            seen: vec![0; shape.count()],
            misfits: Misfits::new(),
            drift: Drift::default(),
        }
    }

    /// What did not fit, in all slices so far.
    pub(super) fn into_drift(self) -> Drift {
        self.drift
    }

    /// Checks the next records; none after the last.
    pub(super) fn next(&mut self) -> Result<Option<Slice<'a>>, JsonError> {
        match self.stage {
            Stage::Done => return Ok(None),
            Stage::Inside => {}
            Stage::Before => {
                self.scanner.expect(b'[', "expected a list of records")?;
                self.stage = Stage::Inside;
                if self.scanner.take(b']') {
                    self.stage = Stage::Done;
                    return self.scanner.end().map(|()| None);
                }
            }
        }
        let bounds = self.misfits.bounds;
        let start = self.start();
        self.copied = start;
        self.misfits.record = 0;
        let end = loop {
            self.one()?;
            self.misfits.record += 1;
            let end = self.scanner.position();
            if !self.scanner.take(b',') {
                self.scanner.expect(b']', "expected `,` or `]`")?;
                self.scanner.end()?;
                self.stage = Stage::Done;
                break end;
            }
            if self.misfits.record >= bounds.slice_records || end - start >= bounds.slice_bytes {
                break end;
            }
        };
        let records = if self.copied == start && self.out.is_empty() {
            Cow::Borrowed(&self.text[start..end])
        } else {
            self.flush_to(end);
            Cow::Owned(std::mem::take(&mut self.out))
        };
        let (rescued, drift) = self.misfits.end_slice();
        self.drift.merge(drift);
        Ok(Some(Slice {
            records,
            count: self.misfits.record,
            rescued,
        }))
    }

    fn one(&mut self) -> Result<(), JsonError> {
        self.misfits.begin_record();
        if self.scanner.kind()? == Kind::Object {
            let shape = self.shape;
            return self.object(shape, true);
        }
        let value = self.scanner.value()?;
        let text = self.text;
        let noted = self.misfits.rescue_record(&text[value.clone()]);
        self.bounded(noted)?;
        self.flush_to(value.start);
        self.out.extend_from_slice(b"{}");
        self.copied = value.end;
        Ok(())
    }

    /// An error at the position of the scanner.
    fn bounded<T>(&self, noted: Result<T, TooMany>) -> Result<T, JsonError> {
        noted.map_err(|TooMany(reason)| self.scanner.error(reason))
    }

    fn object(&mut self, shape: &'a StructShape, top: bool) -> Result<(), JsonError> {
        self.scanner.expect(b'{', "expected an object")?;
        if self.scanner.take(b'}') {
            return Ok(());
        }
        let mut members = self.members();
        // Records usually have their fields in the same order: try the next one before searching.
        let mut guess = 0;
        loop {
            let start = self.start();
            let key = self.scanner.key()?;
            let found = self.find(shape, &key, &mut guess);
            if top {
                self.misfits.column = found;
            }
            let is_first = found.is_some_and(|index| {
                let last = &mut self.seen[shape.first + index];
                std::mem::replace(last, members.object.number) != members.object.number
            });
            if let (Some(index), true) = (found, is_first) {
                let field = &shape.fields[index];
                if other_spelling(&key_text(&self.text[key.clone()])) == Some(field.name.as_str()) {
                    // The decoder knows the declared spelling only. Neither spelling needs escapes.
                    self.flush_to(key.start);
                    self.out.extend_from_slice(field.name.as_bytes());
                    self.copied = key.end;
                }
                self.misfits.path.push(Step::Name(&field.name));
                let is_whole = self.value(&field.shape)?;
                self.misfits.path.pop();
                if !is_whole {
                    let name = Cow::Borrowed(field.name.as_str());
                    *self.misfits.names.entry(members.object, name).0 += 1;
                }
                members.kept = true;
            } else {
                let value = self.scanner.value()?;
                let name = key_text(&self.text[key]);
                let reason = if found.is_some() { REPEATED } else { UNKNOWN };
                self.cut(&mut members, start, name, value, reason)?;
            }
            if !self.another(&mut members)? {
                break;
            }
        }
        self.misfits.end_object(members.object);
        if top {
            self.misfits.column = None;
        }
        Ok(())
    }

    fn members(&mut self) -> Members {
        Members {
            object: self.misfits.begin_object(),
            kept: false,
            separator: self.scanner.position(),
        }
    }

    /// Cuts a member out of its object.
    fn cut(
        &mut self,
        members: &mut Members,
        start: usize,
        name: Cow<'a, str>,
        value: Range<usize>,
        reason: &'static str,
    ) -> Result<(), JsonError> {
        let (text, end) = (self.text, value.end);
        let noted = self.misfits.cut(members.object, name, &text[value], reason);
        self.bounded(noted)?;
        self.flush_to(if members.kept {
            members.separator
        } else {
            start
        });
        self.copied = end;
        Ok(())
    }

    /// Whether another member follows; otherwise consumes the end of the object.
    fn another(&mut self, members: &mut Members) -> Result<bool, JsonError> {
        members.separator = self.start();
        if !self.scanner.take(b',') {
            return self
                .scanner
                .expect(b'}', "expected `,` or `}`")
                .map(|()| false);
        }
        if !members.kept {
            // Everything before this comma was cut out, so the comma must be too.
            self.copied = self.scanner.position();
        }
        Ok(true)
    }

    #[inline]
    fn find(&self, shape: &StructShape, key: &Range<usize>, guess: &mut usize) -> Option<usize> {
        let key = &self.text[key.clone()];
        if let Some(field) = shape.fields.get(*guess)
            && field.name.as_bytes() == key
        {
            *guess += 1;
            return Some(*guess - 1);
        }
        // A name may be written with escapes.
        let index = shape.find(&key_text(key))?;
        *guess = index + 1;
        Some(index)
    }

    /// Checks one value. Returns whether it was kept, at least in part.
    fn value(&mut self, shape: &'a RawType) -> Result<bool, JsonError> {
        let kind = self.scanner.kind()?;
        if kind == Kind::Null {
            self.scanner.literal()?;
            return Ok(true);
        }
        let (fits, start) = match (shape, kind) {
            (RawType::Struct(shape), Kind::Object) => {
                return self.object(shape, false).map(|()| true);
            }
            (RawType::List(list), Kind::Array) => return self.list(list).map(|()| true),
            (RawType::Map, Kind::Object) => return self.map().map(|()| true),
            (RawType::Json, _) => {
                let value = self.scanner.value()?;
                self.flush_to(value.start);
                write_string(&self.text[value.clone()], &mut self.out);
                self.copied = value.end;
                return Ok(true);
            }
            (RawType::Text | RawType::Integer | RawType::Float, Kind::String) => {
                self.string(shape)?
            }
            (RawType::Text, Kind::Number) => {
                self.scanner.number()?;
                return Ok(true);
            }
            (RawType::Text | RawType::Boolean, Kind::Boolean) => {
                self.scanner.literal()?;
                return Ok(true);
            }
            (RawType::Integer, Kind::Number) => {
                let value = self.scanner.number()?;
                match integer(&self.text[value.clone()]) {
                    Integer::AsSent => return Ok(true),
                    Integer::Whole(number) => {
                        self.flush_to(value.start);
                        self.out.extend_from_slice(number.to_string().as_bytes());
                        self.copied = value.end;
                        return Ok(true);
                    }
                    Integer::No => (false, value.start),
                }
            }
            (RawType::Float, Kind::Number) => {
                let value = self.scanner.number()?;
                (is_double(&self.text[value.clone()]), value.start)
            }
            _ => {
                let start = self.start();
                self.scanner.value()?;
                (false, start)
            }
        };
        if !fits {
            self.replace(start..self.scanner.position())?;
        }
        Ok(fits)
    }

    /// Checks a string for a column of text or numbers: whether it fits, and where it begins.
    fn string(&mut self, shape: &RawType) -> Result<(bool, usize), JsonError> {
        let start = self.start();
        let (inside, escaped) = self.scanner.string()?;
        let inside = &self.text[inside];
        let is_plain = || !inside.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E'));
        let fits = match shape {
            RawType::Text => !escaped || unescape(inside).is_some(),
            _ if escaped || !is_number(inside) => false,
            RawType::Integer => is_plain() && integer(inside) == Integer::AsSent,
            _ => is_double(inside),
        };
        Ok((fits, start))
    }

    /// Cuts out a value that does not fit, and leaves a null.
    fn replace(&mut self, value: Range<usize>) -> Result<(), JsonError> {
        self.rescue(None, value.clone())?;
        self.flush_to(value.start);
        self.out.extend_from_slice(b"null");
        self.copied = value.end;
        Ok(())
    }

    fn start(&mut self) -> usize {
        self.scanner.peek();
        self.scanner.position()
    }

    fn list(&mut self, list: &'a ListShape) -> Result<(), JsonError> {
        self.scanner.expect(b'[', "expected a list")?;
        if self.scanner.take(b']') {
            return Ok(());
        }
        let mut index = 0;
        loop {
            self.misfits.path.push(Step::Item {
                list: list.id,
                index,
            });
            self.value(&list.item)?;
            self.misfits.path.pop();
            let counted = self.misfits.count_item();
            self.bounded(counted)?;
            index += 1;
            if !self.scanner.take(b',') {
                return self.scanner.expect(b']', "expected `,` or `]`");
            }
        }
    }

    /// Any key is allowed, and values are text. As in any object, the first value of a key counts.
    fn map(&mut self) -> Result<(), JsonError> {
        self.scanner.expect(b'{', "expected an object")?;
        if self.scanner.take(b'}') {
            return Ok(());
        }
        let mut members = self.members();
        loop {
            let start = self.start();
            let key = self.scanner.key()?;
            let key = &self.text[key];
            let name = key_text(key);
            let value_start = self.start();
            let fits = match self.scanner.kind()? {
                Kind::Object | Kind::Array => false,
                Kind::String => {
                    let inside = self.scanner.clone().string()?.0;
                    unescapes(&self.text[inside])
                }
                _ => true,
            };
            self.scanner.value()?;
            let value = value_start..self.scanner.position();
            let counted = self.misfits.count_item();
            self.bounded(counted)?;
            let (count, is_first) = self.misfits.names.entry(members.object, name.clone());
            if !is_first {
                self.cut(&mut members, start, name, value, REPEATED)?;
            } else if !unescapes(key) {
                self.cut(&mut members, start, name, value, MISFIT)?;
            } else {
                members.kept = true;
                if !fits {
                    *count += 1;
                    self.rescue(Some(&name), value.clone())?;
                    self.flush_to(value.start);
                    self.out.extend_from_slice(b"null");
                    self.copied = value.end;
                }
            }
            if !self.another(&mut members)? {
                break;
            }
        }
        self.misfits.end_object(members.object);
        Ok(())
    }

    fn rescue(&mut self, name: Option<&str>, value: Range<usize>) -> Result<(), JsonError> {
        let text = self.text;
        let noted = self.misfits.rescue(name, 1, &text[value], MISFIT);
        self.bounded(noted)
    }

    fn flush_to(&mut self, end: usize) {
        if self.copied < end {
            self.out.extend_from_slice(&self.text[self.copied..end]);
            self.copied = end;
        }
    }
}

/// Whether this is a JSON number, and nothing else.
pub(super) fn is_number(text: &[u8]) -> bool {
    let mut scanner = Scanner::new(text, 0);
    !text.first().is_some_and(u8::is_ascii_whitespace)
        && scanner.number().is_ok_and(|range| range.end == text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::misfits::{BOUNDS, Bounds};
    use crate::extract::rescue::{Place, RescuedText};
    use arrow::datatypes::{DataType, Field, Fields};
    use std::sync::Arc;

    fn fields() -> Fields {
        let item = Fields::from(vec![
            Field::new("time", DataType::Utf8, true),
            Field::new("value", DataType::Float64, true),
        ]);
        let list = DataType::List(Arc::new(Field::new("item", DataType::Struct(item), true)));
        let json = Field::new("tags", DataType::Utf8, true)
            .with_metadata([(crate::catalog::JSON_TYPE.to_string(), "true".to_string())].into());
        let map = crate::catalog::map_type();
        let inner = Fields::from(vec![
            Field::new("fw", DataType::Utf8, true),
            Field::new("ext", map.clone(), true),
        ]);
        Fields::from(vec![
            Field::new("id", DataType::Utf8, true),
            Field::new("count", DataType::Int64, true),
            Field::new("on", DataType::Boolean, true),
            Field::new("rpm", list, true),
            json,
            Field::new("ext", map, true),
            Field::new("gateway", DataType::Struct(inner), true),
        ])
    }

    /// The records that are left, and the rescued text of each that has one.
    #[expect(clippy::type_complexity)]
    fn validate(
        text: &str,
        fields: &Fields,
    ) -> Result<(String, Vec<(usize, String)>, Drift), JsonError> {
        let shape = StructShape::of_record(fields);
        let mut pass = Pass::new(text.as_bytes(), &shape, Stage::Before, 0);
        let (mut left, mut rescued, mut count) = (String::new(), Vec::new(), 0);
        while let Some(slice) = pass.next()? {
            for record in 0..slice.count {
                let mut text = RescuedText::default();
                for value in slice.rescued.of_record(record) {
                    text.add(&slice.rescued, value, Place::AsSent);
                }
                text.row(|text| {
                    rescued.extend(text.map(|text| (count + record, text.to_string())))
                })
                .unwrap();
            }
            count += slice.count;
            left += if left.is_empty() { "" } else { "," };
            left += std::str::from_utf8(&slice.records).unwrap();
        }
        Ok((left, rescued, pass.into_drift()))
    }

    fn run(text: &str) -> (String, String) {
        let (left, rescued, _) = validate(text, &fields()).unwrap();
        let records: Vec<serde_json::Value> =
            serde_json::from_str(&format!("[{left}]")).expect(&left);
        assert_eq!(
            records.len(),
            serde_json::from_str::<Vec<serde::de::IgnoredAny>>(text)
                .unwrap()
                .len(),
            "{text}"
        );
        for (_, text) in &rescued {
            serde_json::from_str::<
                std::collections::BTreeMap<String, Box<serde_json::value::RawValue>>,
            >(text)
            .expect(text);
        }
        (
            left,
            rescued
                .into_iter()
                .map(|(_, text)| text)
                .collect::<Vec<_>>()
                .join(" "),
        )
    }

    #[test]
    fn a_page_that_fits_is_not_copied() {
        let text = r#" [ {"id":"1","count":9223372036854775807,"on":true,"rpm":[{"time":"t","value":1.5}],"ext":{"a.b":"x"}} , {"on":null} ] "#;
        let shape = StructShape::of_record(&fields());
        let mut pass = Pass::new(text.as_bytes(), &shape, Stage::Before, 0);
        let slice = pass.next().unwrap().unwrap();
        assert!(matches!(slice.records, Cow::Borrowed(_)));
        assert_eq!(slice.count, 2);
        assert!(pass.next().unwrap().is_none() && pass.into_drift().total() == 0);
    }

    #[test]
    fn unknown_fields_are_rescued_at_any_depth() {
        for (records, left, rescued) in [
            (r#"[{"x":1.10,"id":"1"}]"#, r#"{"id":"1"}"#, r#"{"x":1.10}"#),
            (
                r#"[{"id":"1","x":[1,{"y":2}]}]"#,
                r#"{"id":"1"}"#,
                r#"{"x":[1,{"y":2}]}"#,
            ),
            (r#"[{"x":1,"y":2}]"#, "{}", r#"{"x":1,"y":2}"#),
            (
                r#"[{"x":1,"id":"1","y":2,"count":3,"z":4}]"#,
                r#"{"id":"1","count":3}"#,
                r#"{"x":1,"y":2,"z":4}"#,
            ),
            (
                r#"[{"rpm":[{"time":"a"},{"q":true,"value":2}]}]"#,
                r#"{"rpm":[{"time":"a"},{"value":2}]}"#,
                r#"{"rpm[1].q":true}"#,
            ),
            // One path is one place.
            (
                r#"[{"gateway.fw":1,"gateway":{"fw":{},"x":2,"":3},"[0]":4,"$":5,"a#2":6,"a":7,"a":8}]"#,
                r#"{"gateway":{"fw":null}}"#,
                r#"{"[\"gateway.fw\"]":1,"gateway.fw":{},"gateway.x":2,"gateway[\"\"]":3,"[\"[0]\"]":4,"[\"$\"]":5,"[\"a#2\"]":6,"a":7,"a#2":8}"#,
            ),
        ] {
            assert_eq!(run(records), (left.to_string(), rescued.to_string()));
        }
    }

    #[test]
    fn values_that_would_change_are_rescued() {
        let cases = [
            (r#"{"count":1.5}"#, r#"{"count":1.5}"#),
            (
                r#"{"count":1.00000000000000000001}"#,
                r#"{"count":1.00000000000000000001}"#,
            ),
            (
                r#"{"count":4503599627370497.25}"#,
                r#"{"count":4503599627370497.25}"#,
            ),
            (r#"{"count":1e-400}"#, r#"{"count":1e-400}"#),
            (
                r#"{"count":9223372036854775808}"#,
                r#"{"count":9223372036854775808}"#,
            ),
            (r#"{"count":"abc"}"#, r#"{"count":"abc"}"#),
            (r#"{"count":""}"#, r#"{"count":""}"#),
            (r#"{"count":"1.5"}"#, r#"{"count":"1.5"}"#),
            (r#"{"count":true}"#, r#"{"count":true}"#),
            (r#"{"on":1}"#, r#"{"on":1}"#),
            (r#"{"on":"true"}"#, r#"{"on":"true"}"#),
            (r#"{"id":{"a":1}}"#, r#"{"id":{"a":1}}"#),
            (r#"{"id":"\ud800"}"#, r#"{"id":"\ud800"}"#),
            (r#"{"rpm":{"a":1}}"#, r#"{"rpm":{"a":1}}"#),
            (r#"{"rpm":["oops"]}"#, r#"{"rpm[0]":"oops"}"#),
            (
                r#"{"rpm":[{"value":9007199254740993}]}"#,
                r#"{"rpm[0].value":9007199254740993}"#,
            ),
            (
                r#"{"rpm":[{"value":9007199254740993.0}]}"#,
                r#"{"rpm[0].value":9007199254740993.0}"#,
            ),
            (r#"{"rpm":[{"value":1e999}]}"#, r#"{"rpm[0].value":1e999}"#),
            (
                r#"{"rpm":[{"value":1e-400}]}"#,
                r#"{"rpm[0].value":1e-400}"#,
            ),
            (
                r#"{"rpm":[{"value":"9.007199254740993e15"}]}"#,
                r#"{"rpm[0].value":"9.007199254740993e15"}"#,
            ),
            (r#"{"ext":{"k":{"x":1}}}"#, r#"{"ext.k":{"x":1}}"#),
            (r#"{"ext":{"k":"\ud800"}}"#, r#"{"ext.k":"\ud800"}"#),
        ];
        for (record, rescued) in cases {
            let (left, found) = run(&format!("[{record}]"));
            assert_eq!(found, rescued, "{record}");
            assert!(left.contains("null"), "{record} gave {left}");
        }
        for exact in [
            r#"{"count":1.0}"#,
            r#"{"count":1e3}"#,
            r#"{"count":-0}"#,
            r#"{"count":-0.0}"#,
            r#"{"count":"12"}"#,
            r#"{"rpm":[{"value":"1.25"}]}"#,
            r#"{"rpm":[{"value":-0.0}]}"#,
            r#"{"ext":{"a":null,"b":1.50,"c":true}}"#,
        ] {
            assert_eq!(
                run(&format!("[{exact}]")),
                (exact.to_string(), String::new())
            );
        }
        // An integer counts as one however it is written; the reader would convert it to a double.
        for (sent, read) in [
            ("9007199254740993.0", "9007199254740993"),
            ("9.223372036854775807e18", "9223372036854775807"),
        ] {
            let (left, rescued) = run(&format!(r#"[{{"count":{sent},"id":"1"}}]"#));
            assert_eq!(
                (left, rescued),
                (format!(r#"{{"count":{read},"id":"1"}}"#), String::new())
            );
        }
    }

    #[test]
    fn a_repeated_name_keeps_the_first_value() {
        for (records, left, rescued) in [
            (
                r#"[{"id":"1","id":"2","id":"3"}]"#,
                r#"{"id":"1"}"#,
                r#"{"id":"2","id#2":"3"}"#,
            ),
            (
                r#"[{"count":"x","count":2,"count":3}]"#,
                r#"{"count":null}"#,
                r#"{"count":"x","count#2":2,"count#3":3}"#,
            ),
            (
                r#"[{"id":"1","i\u0064":"2"},{"id":"3"}]"#,
                r#"{"id":"1"},{"id":"3"}"#,
                r#"{"id":"2"}"#,
            ),
            // Each object has its own names, also nested ones.
            (
                r#"[{"x":1,"gateway":{"x":2,"x":3,"fw":"a","fw":"b"},"x":4,"rpm":[{"x":5},{"x":6}]}]"#,
                r#"{"gateway":{"fw":"a"},"rpm":[{},{}]}"#,
                r#"{"x":1,"gateway.x":2,"gateway.x#2":3,"gateway.fw":"b","x#2":4,"rpm[0].x":5,"rpm[1].x":6}"#,
            ),
            // A map is an object like any other.
            (
                r#"[{"ext":{"a":"1","b":null,"a":"2","\u0061":"3","b":4},"gateway":{"ext":{"a":"5"}}}]"#,
                r#"{"ext":{"a":"1","b":null},"gateway":{"ext":{"a":"5"}}}"#,
                r#"{"ext.a":"2","ext.a#2":"3","ext.b":4}"#,
            ),
            (
                r#"[{"ext":{"a.b":{},"a.b":"1"}}]"#,
                r#"{"ext":{"a.b":null}}"#,
                r#"{"ext[\"a.b\"]":{},"ext[\"a.b\"]#2":"1"}"#,
            ),
            (
                r#"[{"ext":{"\ud800":"1","a":"2"}}]"#,
                r#"{"ext":{"a":"2"}}"#,
                r#"{"ext[\"\\\\ud800\"]":"1"}"#,
            ),
        ] {
            assert_eq!(
                run(records),
                (left.to_string(), rescued.to_string()),
                "{records}"
            );
        }
        // However many names there are.
        let names: Vec<String> = (0..40).map(|name| format!("n{name}")).collect();
        for (open, close) in [("", ""), ("\"ext\":{", "}")] {
            let members: Vec<String> = names
                .iter()
                .chain(&names)
                .chain(&names)
                .map(|name| format!("\"{name}\":\"v\""))
                .collect();
            let (_, rescued) = run(&format!("[{{{open}{}{close}}}]", members.join(",")));
            let rescued: std::collections::BTreeMap<String, String> =
                serde_json::from_str(&rescued).unwrap();
            assert_eq!(rescued.len(), if open.is_empty() { 120 } else { 80 });
        }
    }

    #[test]
    fn json_columns_keep_their_exact_text() {
        assert_eq!(
            run(r#"[{"tags":[{"id": "1"}]}]"#).0,
            r#"{"tags":"[{\"id\": \"1\"}]"}"#
        );
        assert_eq!(run(r#"[{"tags":null}]"#).0, r#"{"tags":null}"#);
    }

    #[test]
    fn a_record_that_is_no_object_is_kept_too() {
        assert_eq!(
            run("[null, 7]"),
            ("{}, {}".into(), r#"{"$":null} {"$":7}"#.into())
        );
    }

    #[test]
    fn drift_is_counted_by_path_and_column() {
        let text = r#"[{"x":1,"rpm":[{"q":1},{"q":2},{"value":"v"}],"ext":{"a.b":[]}},{"x":1},5]"#;
        let found: Vec<_> = validate(text, &fields()).unwrap().2.into_found().collect();
        let told: Vec<_> = found
            .iter()
            .map(|(column, key, n)| (*column, key.path.as_str(), key.reason, *n))
            .collect();
        assert_eq!(
            told,
            [
                (None, "x", UNKNOWN, 2),
                (Some(3), "rpm[].q", UNKNOWN, 2),
                (Some(3), "rpm[].value", MISFIT, 1),
                (Some(5), "ext[\"a.b\"]", MISFIT, 1),
                (None, "$", MISFIT, 1),
            ]
        );
    }

    #[test]
    fn a_page_comes_in_slices_that_are_the_same_records() {
        let slice = 100;
        for (record, count) in [
            ("{}", 3 * slice + 1),
            ("{\"x\":1}", slice + 1),
            ("5", slice),
        ] {
            let text = format!("[{}]", vec![record; count].join(" , "));
            let shape = StructShape::of_record(&fields());
            let mut pass = Pass::new(text.as_bytes(), &shape, Stage::Before, 0);
            pass.misfits.bounds.slice_records = slice;
            let (mut counts, mut rescued) = (Vec::new(), 0);
            while let Some(slice) = pass.next().unwrap() {
                let text = [b"[", &slice.records[..], b"]"].concat();
                let records: Vec<serde_json::Map<String, serde_json::Value>> =
                    serde_json::from_slice(&text).unwrap();
                assert!(
                    records.len() == slice.count && records.iter().all(serde_json::Map::is_empty)
                );
                assert_eq!(
                    slice
                        .rescued
                        .values
                        .last()
                        .map_or(slice.count - 1, |last| last.record),
                    slice.count - 1
                );
                rescued += slice.rescued.values.len();
                counts.push(slice.count);
            }
            assert_eq!(counts.iter().sum::<usize>(), count);
            assert_eq!(rescued, if record == "{}" { 0 } else { count });
            assert!(counts.iter().all(|count| *count <= slice), "{counts:?}");
        }
        let large = format!("{{\"id\":\"{}\"}}", "x".repeat(500));
        let text = format!("[{}]", vec![large; 5].join(","));
        let shape = StructShape::of_record(&fields());
        let mut pass = Pass::new(text.as_bytes(), &shape, Stage::Before, 0);
        pass.misfits.bounds.slice_bytes = 1000;
        let counts: Vec<_> = std::iter::from_fn(|| pass.next().unwrap())
            .map(|slice| slice.count)
            .collect();
        assert_eq!(counts, [2, 2, 1]);
    }

    #[test]
    fn the_cost_of_a_record_is_linear_in_its_length() {
        // If each name were compared with all before it, this would take minutes.
        let members: Vec<String> = (0..100_000)
            .map(|name| format!("\"name {name}\":1"))
            .collect();
        let members = members.join(",");
        for text in [
            format!("[{{{members}}}]"),
            format!("[{{\"ext\":{{{members},{members}}}}}]"),
        ] {
            let (_, rescued, drift) = validate(&text, &fields()).unwrap();
            assert_eq!(drift.total(), 100_000);
            assert!(rescued.len() == 1 && drift.into_counts().len() < 2000);
        }
        let again = format!("[{{{}}}]", vec!["\"id\":1"; 100_000].join(","));
        assert_eq!(validate(&again, &fields()).unwrap().2.total(), 99_999);
    }

    #[test]
    fn a_record_of_more_than_can_be_held_is_refused() {
        let bounds = Bounds {
            items: 50,
            rescued: 20,
            ..BOUNDS
        };
        let pairs = |count: usize| {
            (0..count)
                .map(|n| format!("\"{n}\":1"))
                .collect::<Vec<_>>()
                .join(",")
        };
        for (record, fits) in [
            (format!("{{\"rpm\":[{}null]}}", "null,".repeat(49)), true),
            (format!("{{\"rpm\":[{}null]}}", "null,".repeat(50)), false),
            (
                format!("{{\"ext\":{{{}}},\"rpm\":[null]}}", pairs(50)),
                false,
            ),
            (format!("{{\"rpm\":[{}1]}}", "1,".repeat(19)), true),
            (format!("{{\"rpm\":[{}1]}}", "1,".repeat(20)), false),
            (format!("{{{}}}", pairs(21)), false),
        ] {
            let shape = StructShape::of_record(&fields());
            // Each record has the bounds to itself.
            let text = format!("[{}]", vec![record; 2].join(","));
            let mut pass = Pass::new(text.as_bytes(), &shape, Stage::Before, 0);
            pass.misfits.bounds = bounds;
            let slice = pass.next();
            assert_eq!(
                slice.is_ok_and(|slice| slice.is_some_and(|slice| slice.count == 2)),
                fits,
                "{text}"
            );
        }
    }

    #[test]
    fn hundreds_of_columns_are_no_bound() {
        let fields: Fields = (0..700)
            .map(|name| Field::new(format!("f{name}"), DataType::Int64, true))
            .collect();
        let members = |value: &str| {
            (0..700)
                .rev()
                .map(|name| format!("\"f{name}\":{value}"))
                .collect::<Vec<_>>()
        };
        let (left, rescued, _) =
            validate(&format!("[{{{}}}]", members("1").join(",")), &fields).unwrap();
        assert!(rescued.is_empty() && left.matches(":1").count() == 700);
        let twice = [members("1"), members("2")].concat().join(",");
        let (left, rescued, drift) = validate(&format!("[{{{twice}}}]"), &fields).unwrap();
        assert_eq!((left.matches(":1").count(), drift.total()), (700, 700));
        assert_eq!(rescued[0].1.matches(":2").count(), 700);
    }

    #[test]
    fn malformed_records_are_refused() {
        for text in [
            "[{]",
            "[{\"id\":}]",
            "[1,]",
            "{}",
            "[{}] x",
            "[{\"id\":\"a}]",
            "[{\"id\":NaN}]",
        ] {
            assert!(validate(text, &fields()).is_err(), "{text}");
        }
    }
}
