//! Makes the records of a page fit the declared schema without losing a value.
//!
//! arrow-json decodes a page many times faster than record-by-record parsing, but in strict mode one unknown
//! field refuses the whole page, and some losses are silent: a fraction into an integer column, a large integer
//! into a double, a repeated key. So each page first passes one scan over its bytes. Where all fits, which is
//! nearly always, nothing is copied and arrow-json gets the page as it came. Where something does not fit, only
//! that value is cut out: its exact text goes with its path into `_rescued_data` of the same record, and what is
//! left decodes as before. The result never depends on the order in which pages arrive.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

use super::shape::{FieldShape, Shape, other_spelling};
use crate::json::{JsonError, Kind, Scanner, is_plain, unescape, write_escaped, write_string};

/// Prefix of the columns that carry rescued values, one per source that shares the walk.
pub(super) const RESCUED_SLOT: &str = "_rescued_data_";

/// Schema drift that a page showed: path (list positions left out) → how often.
pub type Drift = BTreeMap<DriftKey, u64>;

/// What did not fit, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DriftKey {
    /// Path of the field, list positions left out: `engineRpm[].quality`.
    pub path: String,
    /// Why it did not fit.
    pub reason: &'static str,
}

/// Records that fit the schema.
#[derive(Debug)]
pub(super) struct Conformed<'a> {
    /// A JSON array of records; borrowed where nothing had to change.
    pub(super) records: Cow<'a, [u8]>,
    /// How many they are.
    pub(super) count: u64,
    pub(super) drift: Drift,
}

/// Checks `records` (the text of a JSON array) against `shape`, whose rescued values go into `slots` columns.
/// `beside` are members of the page that stand beside the list; the first record carries them.
pub(super) fn conform<'a>(
    records: &'a [u8],
    shape: &Shape,
    slots: usize,
    beside: &[(String, &'a [u8])],
) -> Result<Conformed<'a>, JsonError> {
    let Shape::Struct(fields) = shape else {
        return Err(JsonError { offset: 0, reason: "a record's shape is an object" });
    };
    let mut pass = Pass {
        text: records,
        scanner: Scanner::new(records, 0),
        out: Vec::new(),
        copied: 0,
        path: Vec::new(),
        rescued: Vec::new(),
        paths: String::new(),
        general: String::new(),
        owner: None,
        slots,
        drift: Vec::new(),
    };
    for (path, text) in beside {
        let start = pass.paths.len();
        pass.paths.push('$');
        pass.paths.push_str(path);
        pass.rescued.push(Rescued { owner: None, path: start..pass.paths.len(), text });
        pass.general = format!("${path}");
        pass.count(UNKNOWN);
    }
    let count = pass.records(fields)?;
    let records = if pass.copied == 0 && pass.out.is_empty() {
        Cow::Borrowed(records)
    } else {
        pass.flush_to(records.len());
        Cow::Owned(pass.out)
    };
    let drift = pass.drift.into_iter().map(|(path, reason, count)| (DriftKey { path, reason }, count)).collect();
    Ok(Conformed { records, count, drift })
}

struct Rescued<'a> {
    owner: Option<usize>,
    /// Where its path stands in `Pass::paths`.
    path: Range<usize>,
    text: &'a [u8],
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Name(&'a str),
    Item(usize),
}

struct Pass<'a, 's> {
    text: &'a [u8],
    scanner: Scanner<'a>,
    /// What was written so far; empty while the page may still pass through untouched.
    out: Vec<u8>,
    /// How much of `text` is accounted for in `out`.
    copied: usize,
    path: Vec<Step<'s>>,
    /// The rescued values of the current record, and their paths one behind the other.
    rescued: Vec<Rescued<'a>>,
    paths: String,
    /// The last rescued path, list positions left out.
    general: String,
    owner: Option<usize>,
    slots: usize,
    /// Few distinct paths, each met often: a list is faster than a map here.
    drift: Vec<(String, &'static str, u64)>,
}

const UNKNOWN: &str = "not in the schema";
const MISFIT: &str = "does not fit its type";
const REPEATED: &str = "the same name twice in one object";

impl<'a, 's> Pass<'a, 's> {
    /// Checks all records, and counts them.
    fn records(&mut self, fields: &'s [FieldShape]) -> Result<u64, JsonError> {
        let mut count = 0;
        self.scanner.expect(b'[', "expected a list of records")?;
        if self.scanner.take(b']') {
            return self.scanner.end().map(|()| count);
        }
        loop {
            self.record(fields)?;
            count += 1;
            if !self.scanner.take(b',') {
                break;
            }
        }
        self.scanner.expect(b']', "expected `,` or `]`")?;
        self.scanner.end().map(|()| count)
    }

    fn record(&mut self, fields: &'s [FieldShape]) -> Result<(), JsonError> {
        if self.scanner.kind()? != Kind::Object {
            let value = self.scanner.value()?;
            let start = self.paths.len();
            self.paths.push('$');
            self.rescued.push(Rescued { owner: None, path: start..start + 1, text: &self.text[value.clone()] });
            self.general.replace_range(.., "$");
            self.count(MISFIT);
            self.flush_to(value.start);
            self.out.push(b'{');
            self.write_rescued(false);
            self.out.push(b'}');
            self.copied = value.end;
            return Ok(());
        }
        let kept = self.object(fields, true)?;
        if !self.rescued.is_empty() {
            // Stand before the closing brace: the rescued values become the record's last columns.
            let brace = self.scanner.position() - 1;
            self.flush_to(brace);
            self.write_rescued(kept);
            self.copied = brace;
        }
        Ok(())
    }

    /// Checks one object; tells whether any of its fields was kept.
    fn object(&mut self, fields: &'s [FieldShape], top: bool) -> Result<bool, JsonError> {
        self.scanner.expect(b'{', "expected an object")?;
        let mut kept_any = false;
        if self.scanner.take(b'}') {
            return Ok(kept_any);
        }
        let mut seen: u128 = 0;
        let since = self.rescued.len();
        // Records mostly name their fields in one order: guess the next before searching.
        let mut guess = 0;
        let mut separator = self.scanner.position();
        loop {
            self.scanner.peek();
            let start = self.scanner.position();
            let key = self.scanner.key()?;
            let found = self.find(fields, &key, &mut guess);
            let reason = match found {
                Some(index) if seen & (1 << index) == 0 => {
                    seen |= 1 << index;
                    None
                }
                Some(_) => Some(REPEATED),
                None => Some(UNKNOWN),
            };
            match (found, reason) {
                (Some(index), None) => {
                    let field = &fields[index];
                    if top {
                        self.owner = field.owner;
                    }
                    if other_spelling(&self.text[key.clone()]) == Some(field.name.as_str()) {
                        self.flush_to(key.start);
                        self.out.extend_from_slice(field.name.as_bytes());
                        self.copied = key.end;
                    }
                    self.path.push(Step::Name(&field.name));
                    self.value(&field.shape)?;
                    self.path.pop();
                    kept_any = true;
                }
                (_, reason) => {
                    if top {
                        self.owner = found.and_then(|index| fields[index].owner);
                    }
                    let value = self.scanner.value()?;
                    let name = key_text(&self.text[key]);
                    self.rescue(Some(&name), value.clone(), reason.unwrap_or(UNKNOWN), since);
                    self.flush_to(if kept_any { separator } else { start });
                    self.copied = value.end;
                }
            }
            separator = {
                self.scanner.peek();
                self.scanner.position()
            };
            if !self.scanner.take(b',') {
                break;
            }
            if !kept_any {
                // All before this comma was cut out, and so must it be.
                self.copied = self.scanner.position();
            }
        }
        self.scanner.expect(b'}', "expected `,` or `}`")?;
        if top {
            self.owner = None;
        }
        Ok(kept_any)
    }

    #[inline]
    fn find(&self, fields: &[FieldShape], key: &Range<usize>, guess: &mut usize) -> Option<usize> {
        let key = &self.text[key.clone()];
        if let Some(field) = fields.get(*guess)
            && field.name.as_bytes() == key
        {
            *guess += 1;
            return Some(*guess - 1);
        }
        let named = |name: &[u8]| fields.iter().position(|field| field.name.as_bytes() == name);
        let index = named(key).or_else(|| {
            // A name may be written with escapes, or in another way.
            let name = if key.contains(&b'\\') { Cow::Owned(unescape(key)?) } else { other_spelling(key)?.into() };
            named(name.as_bytes())
        })?;
        *guess = index + 1;
        Some(index)
    }

    fn value(&mut self, shape: &'s Shape) -> Result<(), JsonError> {
        let kind = self.scanner.kind()?;
        if kind == Kind::Null {
            self.scanner.literal()?;
            return Ok(());
        }
        let fits = match (shape, kind) {
            (Shape::Struct(fields), Kind::Object) => {
                self.object(fields, false)?;
                return Ok(());
            }
            (Shape::List(item), Kind::Array) => return self.list(item),
            (Shape::Map, Kind::Object) => return self.map(),
            (Shape::Json, _) => {
                let value = self.scanner.value()?;
                self.flush_to(value.start);
                write_string(&self.text[value.clone()], &mut self.out);
                self.copied = value.end;
                return Ok(());
            }
            (Shape::Text, Kind::String) => {
                let (start, (inside, escaped)) = (self.start(), self.scanner.string()?);
                self.keep_if(!escaped || unescape(&self.text[inside]).is_some(), start);
                return Ok(());
            }
            (Shape::Text, Kind::Number) => {
                self.scanner.number()?;
                return Ok(());
            }
            (Shape::Text | Shape::Boolean, Kind::Boolean) => {
                self.scanner.literal()?;
                return Ok(());
            }
            (Shape::Integer, Kind::Number) => {
                let value = self.scanner.number()?;
                self.keep_if(is_integer(&self.text[value.clone()]), value.start);
                return Ok(());
            }
            (Shape::Float, Kind::Number) => {
                let value = self.scanner.number()?;
                self.keep_if(is_exact_float(&self.text[value.clone()]), value.start);
                return Ok(());
            }
            (Shape::Integer | Shape::Float, Kind::String) => {
                let start = self.start();
                let (inside, escaped) = self.scanner.string()?;
                let inside = &self.text[inside];
                let number = !escaped && is_number(inside);
                let fits = match shape {
                    Shape::Integer => number && is_plain_integer(inside),
                    _ => number && is_exact_float(inside),
                };
                self.keep_if(fits, start);
                return Ok(());
            }
            _ => false,
        };
        let start = self.start();
        self.scanner.value()?;
        self.keep_if(fits, start);
        Ok(())
    }

    fn start(&mut self) -> usize {
        self.scanner.peek();
        self.scanner.position()
    }

    /// Keeps the value that has just been scanned, or cuts it out and leaves a null.
    #[inline]
    fn keep_if(&mut self, fits: bool, start: usize) {
        if fits {
            return;
        }
        let value = start..self.scanner.position();
        let since = self.rescued.len();
        self.rescue(None, value.clone(), MISFIT, since);
        self.flush_to(value.start);
        self.out.extend_from_slice(b"null");
        self.copied = value.end;
    }

    fn list(&mut self, item: &'s Shape) -> Result<(), JsonError> {
        self.scanner.expect(b'[', "expected a list")?;
        if self.scanner.take(b']') {
            return Ok(());
        }
        let mut index = 0;
        loop {
            self.path.push(Step::Item(index));
            self.value(item)?;
            self.path.pop();
            index += 1;
            if !self.scanner.take(b',') {
                return self.scanner.expect(b']', "expected `,` or `]`");
            }
        }
    }

    /// Keys are open, values are text.
    fn map(&mut self) -> Result<(), JsonError> {
        self.scanner.expect(b'{', "expected an object")?;
        if self.scanner.take(b'}') {
            return Ok(());
        }
        let since = self.rescued.len();
        loop {
            let key = self.scanner.key()?;
            let fits = match self.scanner.kind()? {
                Kind::Object | Kind::Array => false,
                Kind::String => {
                    let inside = self.scanner.clone().string()?.0;
                    unescapes(&self.text[inside])
                }
                _ => true,
            };
            let start = self.start();
            self.scanner.value()?;
            if !fits {
                let name = key_text(&self.text[key]);
                let value = start..self.scanner.position();
                self.rescue(Some(&name), value.clone(), MISFIT, since);
                self.flush_to(value.start);
                self.out.extend_from_slice(b"null");
                self.copied = value.end;
            }
            if !self.scanner.take(b',') {
                return self.scanner.expect(b'}', "expected `,` or `}`");
            }
        }
    }

    /// Notes a value that is cut out. `since` is where the rescued values of the same object begin: only among them
    /// can the same name stand twice.
    fn rescue(&mut self, name: Option<&str>, value: Range<usize>, reason: &'static str, since: usize) {
        let start = self.paths.len();
        self.general.clear();
        for step in &self.path {
            match step {
                Step::Name(name) => {
                    append_name(&mut self.paths, start, name);
                    append_name(&mut self.general, 0, name);
                }
                Step::Item(index) => {
                    append_index(&mut self.paths, *index);
                    self.general.push_str("[]");
                }
            }
        }
        if let Some(name) = name {
            append_name(&mut self.paths, start, name);
            append_name(&mut self.general, 0, name);
        }
        // A name may come three times: every text has a key of its own.
        let end = self.paths.len();
        let mut turn = 1;
        while self.rescued[since..].iter().any(|one| self.paths[one.path.clone()] == self.paths[start..]) {
            turn += 1;
            self.paths.truncate(end);
            let _ = write!(self.paths, "#{turn}");
        }
        let text = self.text;
        self.rescued.push(Rescued { owner: self.owner, path: start..self.paths.len(), text: &text[value] });
        self.count(reason);
    }

    fn count(&mut self, reason: &'static str) {
        let general = &self.general;
        match self.drift.iter_mut().find(|(path, why, _)| *why == reason && path == general) {
            Some((_, _, count)) => *count += 1,
            None => self.drift.push((general.clone(), reason, 1)),
        }
    }

    fn flush_to(&mut self, end: usize) {
        if self.copied < end {
            self.out.extend_from_slice(&self.text[self.copied..end]);
            self.copied = end;
        }
    }

    /// Writes the rescued values as members of the current record: for each slot the text of a JSON object, itself
    /// as a JSON string.
    fn write_rescued(&mut self, mut comma: bool) {
        for slot in 0..self.slots {
            let mut first = true;
            for one in self.rescued.iter().filter(|one| one.owner.is_none_or(|owner| owner == slot)) {
                if first {
                    if comma {
                        self.out.push(b',');
                    }
                    self.out.extend_from_slice(format!("\"{RESCUED_SLOT}{slot}\":\"{{").as_bytes());
                }
                self.out.extend_from_slice(if first { b"\\\"" } else { b",\\\"" });
                first = false;
                let path = &self.paths.as_bytes()[one.path.clone()];
                if is_plain(path) {
                    self.out.extend_from_slice(path);
                } else {
                    let mut key = Vec::new();
                    write_escaped(path, &mut key);
                    write_escaped(&key, &mut self.out);
                }
                self.out.extend_from_slice(b"\\\":");
                write_escaped(one.text, &mut self.out);
            }
            if !first {
                self.out.extend_from_slice(b"}\"");
                comma = true;
            }
        }
        self.rescued.clear();
        self.paths.clear();
    }
}

/// Appends a step to the path that begins at `start`.
fn append_name(path: &mut String, start: usize, name: &str) {
    if path.len() > start {
        path.push('.');
    }
    path.push_str(name);
}

/// Appends `[index]`. By hand: the formatting machinery would take a third of the time of a drifted page.
fn append_index(path: &mut String, mut index: usize) {
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

/// A member's name. The body is UTF-8; a lone surrogate stays as it was written.
fn key_text(inside: &[u8]) -> Cow<'_, str> {
    if has_escapes(inside)
        && let Some(text) = unescape(inside)
    {
        return Cow::Owned(text);
    }
    String::from_utf8_lossy(inside)
}

fn has_escapes(inside: &[u8]) -> bool {
    inside.contains(&b'\\')
}

fn unescapes(inside: &[u8]) -> bool {
    !has_escapes(inside) || unescape(inside).is_some()
}

fn is_number(text: &[u8]) -> bool {
    let mut scanner = Scanner::new(text, 0);
    !text.first().is_some_and(u8::is_ascii_whitespace) && scanner.number().is_ok_and(|range| range.end == text.len())
}

/// A number without fraction or exponent that fits 64 bits.
fn is_plain_integer(text: &[u8]) -> bool {
    if text.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        return false;
    }
    text.len() <= 18 || std::str::from_utf8(text).is_ok_and(|text| text.parse::<i64>().is_ok())
}

/// Decodes into a 64-bit integer without loss. `1.0` and `1e3` are whole numbers too.
fn is_integer(text: &[u8]) -> bool {
    if !text.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        return is_plain_integer(text);
    }
    let value = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok());
    value.is_some_and(|value| value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0)
}

/// Decodes into a double without losing digits of a whole number.
fn is_exact_float(text: &[u8]) -> bool {
    let whole_digits = text.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'-').count();
    if whole_digits <= 15 && !text.iter().any(|byte| matches!(byte, b'e' | b'E')) {
        return true;
    }
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let Ok(value) = text.parse::<f64>() else { return false };
    match text.parse::<i128>() {
        Ok(whole) => value as i128 == whole,
        Err(_) => value.is_finite() && (whole_digits <= 15 || value.abs() < 9_007_199_254_740_992.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field, Fields};
    use std::sync::Arc;

    fn shape() -> Shape {
        let item =
            Fields::from(vec![Field::new("time", DataType::Utf8, true), Field::new("value", DataType::Float64, true)]);
        let list = DataType::List(Arc::new(Field::new("item", DataType::Struct(item), true)));
        let json = Field::new("tags", DataType::Utf8, true)
            .with_metadata([(crate::catalog::JSON_TYPE.to_string(), "true".to_string())].into());
        let map = crate::catalog::map_type();
        let fields = Fields::from(vec![
            Field::new("id", DataType::Utf8, true),
            Field::new("count", DataType::Int64, true),
            Field::new("on", DataType::Boolean, true),
            Field::new("rpm", list, true),
            json,
            Field::new("ext", map, true),
        ]);
        Shape::of_record(&fields, |_| None)
    }

    fn run(text: &str) -> String {
        let out = conform(text.as_bytes(), &shape(), 1, &[]).unwrap();
        let text = String::from_utf8(out.records.into_owned()).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        text
    }

    #[test]
    fn a_page_that_fits_is_not_copied() {
        let text = r#" [ {"id":"1","count":9223372036854775807,"on":true,"rpm":[{"time":"t","value":1.5}],"ext":{"a.b":"x"}} , {"on":null} ] "#;
        let out = conform(text.as_bytes(), &shape(), 1, &[]).unwrap();
        assert!(matches!(out.records, Cow::Borrowed(_)));
        assert!(out.drift.is_empty());
    }

    #[test]
    fn unknown_fields_are_cut_out_with_path_and_text_wherever_they_stand() {
        assert_eq!(run(r#"[{"x":1.10,"id":"1"}]"#), r#"[{"id":"1","_rescued_data_0":"{\"x\":1.10}"}]"#);
        assert_eq!(run(r#"[{"id":"1","x":[1,{"y":2}]}]"#), r#"[{"id":"1","_rescued_data_0":"{\"x\":[1,{\"y\":2}]}"}]"#);
        assert_eq!(run(r#"[{"x":1,"y":2}]"#), r#"[{"_rescued_data_0":"{\"x\":1,\"y\":2}"}]"#);
        assert_eq!(
            run(r#"[{"x":1,"id":"1","y":2,"count":3,"z":4}]"#),
            r#"[{"id":"1","count":3,"_rescued_data_0":"{\"x\":1,\"y\":2,\"z\":4}"}]"#
        );
        assert_eq!(
            run(r#"[{"rpm":[{"time":"a"},{"q":true,"value":2}]}]"#),
            r#"[{"rpm":[{"time":"a"},{"value":2}],"_rescued_data_0":"{\"rpm[1].q\":true}"}]"#
        );
    }

    #[test]
    fn values_that_would_change_are_rescued() {
        let cases = [
            (r#"{"count":1.5}"#, r#"{\"count\":1.5}"#),
            (r#"{"count":9223372036854775808}"#, r#"{\"count\":9223372036854775808}"#),
            (r#"{"count":"abc"}"#, r#"{\"count\":\"abc\"}"#),
            (r#"{"count":""}"#, r#"{\"count\":\"\"}"#),
            (r#"{"count":true}"#, r#"{\"count\":true}"#),
            (r#"{"on":1}"#, r#"{\"on\":1}"#),
            (r#"{"on":"true"}"#, r#"{\"on\":\"true\"}"#),
            (r#"{"id":{"a":1}}"#, r#"{\"id\":{\"a\":1}}"#),
            (r#"{"id":"\ud800"}"#, r#"{\"id\":\"\\ud800\"}"#),
            (r#"{"rpm":{"a":1}}"#, r#"{\"rpm\":{\"a\":1}}"#),
            (r#"{"rpm":[{"value":9007199254740993}]}"#, r#"{\"rpm[0].value\":9007199254740993}"#),
            (r#"{"rpm":[{"value":1e999}]}"#, r#"{\"rpm[0].value\":1e999}"#),
            (r#"{"ext":{"k":{"x":1}}}"#, r#"{\"ext.k\":{\"x\":1}}"#),
        ];
        for (record, rescued) in cases {
            let text = run(&format!("[{record}]"));
            assert!(text.contains(&format!("\"_rescued_data_0\":\"{rescued}\"")), "{record} gave {text}");
            assert!(text.contains(":null"), "{record} gave {text}");
        }
        for exact in [r#"{"count":1.0}"#, r#"{"count":1e3}"#, r#"{"count":"12"}"#, r#"{"rpm":[{"value":"1.25"}]}"#] {
            assert_eq!(run(&format!("[{exact}]")), format!("[{exact}]"));
        }
    }

    #[test]
    fn a_repeated_name_keeps_the_first_value_and_rescues_the_others() {
        assert_eq!(
            run(r#"[{"id":"1","id":"2","id":"3"}]"#),
            r#"[{"id":"1","_rescued_data_0":"{\"id\":\"2\",\"id#2\":\"3\"}"}]"#
        );
    }

    #[test]
    fn external_ids_are_known_by_both_of_their_spellings() {
        let vehicle = Fields::from(vec![
            Field::new("id", DataType::Utf8, true),
            Field::new("ExternalIds", crate::catalog::map_type(), true),
        ]);
        let fields = Fields::from(vec![
            Field::new("externalIds", crate::catalog::map_type(), true),
            Field::new("vehicle", DataType::Struct(vehicle), true),
        ]);
        let shape = Shape::of_record(&fields, |_| None);
        let cases = [
            (
                r#"[{"ExternalIds":{"a":"b"},"vehicle":{"x":1,"externalIds":{"c":"d"},"id":"1"}}]"#,
                r#"[{"externalIds":{"a":"b"},"vehicle":{"ExternalIds":{"c":"d"},"id":"1"},"_rescued_data_0":"{\"vehicle.x\":1}"}]"#,
            ),
            (
                r#"[{"vehicle":{"id":"1", "externalIds":null}, "externalIds":{}}]"#,
                r#"[{"vehicle":{"id":"1", "ExternalIds":null}, "externalIds":{}}]"#,
            ),
            // Both at once: the first stays, and nothing is lost.
            (
                r#"[{"ExternalIds":{"a":"b"},"externalIds":{"c":"d"}}]"#,
                r#"[{"externalIds":{"a":"b"},"_rescued_data_0":"{\"externalIds\":{\"c\":\"d\"}}"}]"#,
            ),
            (
                r#"[{"ExternalIds":{"a":{"x":1}}}]"#,
                r#"[{"externalIds":{"a":null},"_rescued_data_0":"{\"externalIds.a\":{\"x\":1}}"}]"#,
            ),
        ];
        for (page, expected) in cases {
            let out = conform(page.as_bytes(), &shape, 1, &[]).unwrap();
            assert_eq!(String::from_utf8(out.records.into_owned()).unwrap(), expected, "{page}");
        }
    }

    #[test]
    fn json_columns_keep_their_exact_text() {
        assert_eq!(run(r#"[{"tags":[{"id": "1"}]}]"#), r#"[{"tags":"[{\"id\": \"1\"}]"}]"#);
        assert_eq!(run(r#"[{"tags":null}]"#), r#"[{"tags":null}]"#);
    }

    #[test]
    fn a_record_that_is_no_object_is_kept_too() {
        assert_eq!(run(r#"[null, 7]"#), r#"[{"_rescued_data_0":"{\"$\":null}"}, {"_rescued_data_0":"{\"$\":7}"}]"#);
    }

    #[test]
    fn what_stands_beside_the_list_goes_with_the_first_record() {
        let out = conform(br#"[{"id":"1"},{"id":"2"}]"#, &shape(), 1, &[(".note".into(), b"\"x\"")]).unwrap();
        assert_eq!(
            String::from_utf8(out.records.into_owned()).unwrap(),
            r#"[{"id":"1","_rescued_data_0":"{\"$.note\":\"x\"}"},{"id":"2"}]"#
        );
    }

    #[test]
    fn a_shared_walk_rescues_into_the_source_that_owns_the_field() {
        let fields = Fields::from(vec![Field::new("id", DataType::Utf8, true), Field::new("a", DataType::Int64, true)]);
        let shape = Shape::of_record(&fields, |name| (name == "a").then_some(1));
        let out = conform(br#"[{"id":"1","a":"x"}]"#, &shape, 2, &[]).unwrap();
        let text = String::from_utf8(out.records.into_owned()).unwrap();
        assert!(text.contains("_rescued_data_1") && !text.contains("_rescued_data_0"), "{text}");
        let out = conform(br#"[{"id":"1","b":"x"}]"#, &shape, 2, &[]).unwrap();
        let text = String::from_utf8(out.records.into_owned()).unwrap();
        assert!(text.contains("_rescued_data_1") && text.contains("_rescued_data_0"), "{text}");
    }

    #[test]
    fn malformed_records_are_refused() {
        for text in ["[{]", "[{\"id\":}]", "[1,]", "{}", "[{}] x", "[{\"id\":\"a}]", "[{\"id\":NaN}]"] {
            assert!(conform(text.as_bytes(), &shape(), 1, &[]).is_err(), "{text}");
        }
    }
}
