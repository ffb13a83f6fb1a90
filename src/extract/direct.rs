//! Decodes records into Arrow arrays in one pass over their text, which checks it and cuts out what does not fit.
//!
//! Records of one endpoint have their fields in one order, which is guessed from the previous object; a correct guess
//! costs one comparison. Names that the schema does not have are remembered as well, since schema drift repeats in
//! every record.
//!
//! [`super::validate`] with arrow-json is the reference, and this gives the same result. What it cannot decode (text
//! that is not JSON, a record beyond the bounds) it refuses without a reason, and the reference reads the slice again.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::builder::NullBufferBuilder;
use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, ListArray, MapArray, StringArray, StructArray,
};
use arrow::buffer::{BooleanBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef, Fields};

use super::drift::Drift;
use super::misfits::{
    MISFIT, Misfits, Object, REPEATED, Step, TooMany, UNKNOWN, key_text, unescapes,
};
use super::number::{Integer, integer, is_double, whole};
use super::raw_type::{Key, RawType, StructShape};
use super::rescue::Rescued;
use super::validate::{Stage, is_number};
use crate::json::{JsonError, Kind, Scanner, unescape};

/// Number of unknown names that are remembered for each type of object.
const MOST_LEARNED: usize = 16;
/// After a wrong guess, this many further ones are tried: fields may be absent.
const GUESSES: usize = 4;
/// No guess.
const NONE: u32 = u32::MAX;
/// Powers of ten that doubles hold.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// The text is left to the slow way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused;

impl From<JsonError> for Refused {
    fn from(_: JsonError) -> Self {
        Self
    }
}

impl From<TooMany> for Refused {
    fn from(_: TooMany) -> Self {
        Self
    }
}

/// Numbers of values and bytes in the columns of a slice, to size those of the next one.
pub(super) type Sizes = Vec<usize>;

/// One pass over the text of a page's list of records.
pub(super) struct Direct<'a> {
    reader: Reader<'a>,
    root: StructColumn<'a>,
    stage: Stage,
    /// Where the slice began that is read.
    start: usize,
    drift: Drift,
}

struct Reader<'a> {
    text: &'a [u8],
    scanner: Scanner<'a>,
    misfits: Misfits<'a>,
}

impl<'a> Direct<'a> {
    /// Starts with `records`, the text of a JSON array.
    pub(super) fn new(
        records: &'a [u8],
        fields: &'a Fields,
        shape: &'a StructShape,
        sizes: &[usize],
    ) -> Self {
        let mut root = StructColumn::new(fields, shape);
        let mut sizes = sizes.iter().map(|size| *size.min(&records.len()));
        root.reserve(&mut sizes);
        let mut misfits = Misfits::new();
        misfits.rescued.values.reserve(sizes.next().unwrap_or(0));
        misfits.rescued.paths.reserve(sizes.next().unwrap_or(0));
        Self {
            reader: Reader {
                text: records,
                scanner: Scanner::new(records, 0),
                misfits,
            },
            root,
            stage: Stage::Before,
            start: 0,
            drift: Drift::default(),
        }
    }

    /// Where the slice begins that was refused.
    pub(super) fn left_at(&self) -> (Stage, usize) {
        (self.stage, self.start)
    }

    /// What did not fit, in all slices so far.
    pub(super) fn into_drift(self) -> Drift {
        self.drift
    }

    /// The next records and the values cut out of them; none after the last.
    pub(super) fn next(
        &mut self,
        sizes: &mut Sizes,
    ) -> Result<Option<(StructArray, Rescued<'a>)>, Refused> {
        self.start = self.reader.scanner.position();
        match self.stage {
            Stage::Done => return Ok(None),
            Stage::Inside => {}
            Stage::Before => {
                self.reader
                    .scanner
                    .expect(b'[', "expected a list of records")?;
                if self.reader.scanner.take(b']') {
                    self.reader.scanner.end()?;
                    self.stage = Stage::Done;
                    return Ok(None);
                }
            }
        }
        let reader = &mut self.reader;
        let bounds = reader.misfits.bounds;
        reader.scanner.peek();
        let start = reader.scanner.position();
        reader.misfits.record = 0;
        let stage = loop {
            reader.record(&mut self.root)?;
            reader.misfits.record += 1;
            let end = reader.scanner.position();
            if !reader.scanner.take(b',') {
                reader.scanner.expect(b']', "expected `,` or `]`")?;
                reader.scanner.end()?;
                break Stage::Done;
            }
            if reader.misfits.record >= bounds.slice_records || end - start >= bounds.slice_bytes {
                break Stage::Inside;
            }
        };
        sizes.clear();
        self.root.sizes(sizes);
        let records = self.root.finish()?;
        self.stage = stage;
        let (rescued, drift) = self.reader.misfits.end_slice();
        sizes.extend([rescued.values.len(), rescued.paths.len()]);
        self.drift.merge(drift);
        Ok(Some((records, rescued)))
    }
}

impl<'a> Reader<'a> {
    fn record(&mut self, root: &mut StructColumn<'a>) -> Result<(), Refused> {
        self.misfits.begin_record();
        if self.scanner.peek() == Some(b'{') {
            return self.object(root, true);
        }
        let value = self.scanner.value()?;
        self.misfits.rescue_record(&self.text[value])?;
        root.end_row(true);
        Ok(())
    }

    /// Reads an object, which becomes the next row of its columns.
    fn object(&mut self, column: &mut StructColumn<'a>, top: bool) -> Result<(), Refused> {
        self.scanner.advance(1);
        let row = column.rows;
        if self.scanner.take(b'}') {
            column.end_row(true);
            return Ok(());
        }
        let object = self.misfits.begin_object();
        let mut last = 0;
        loop {
            self.scanner.peek();
            let (name, sent) = match column.guess(last, self.scanner.rest()) {
                Some((name, length)) => {
                    self.scanner.advance(length);
                    (Some(name), None)
                }
                None => {
                    let key = &self.text[self.scanner.key()?];
                    (column.look_up(key, last), Some(key))
                }
            };
            if let Some(name) = name {
                last = name + 1;
            }
            match name.and_then(|name| Some((name, column.columns.get_mut(name)?))) {
                Some((name, field)) => {
                    if top {
                        self.misfits.column = Some(name);
                    }
                    if field.rows == row + 1 {
                        self.repeated(object, sent.unwrap_or(field.name.as_bytes()))?;
                    } else {
                        field.fill(row);
                        self.field(object, field)?;
                        field.rows = row + 1;
                    }
                }
                None => {
                    let known = || Some(column.learned.get(last - 1 - column.columns.len())?.name);
                    let key = sent.or_else(known).ok_or(Refused)?;
                    self.unknown(object, key, top)?;
                }
            }
            if !self.has_more(b'}')? {
                break;
            }
        }
        self.misfits.end_object(object);
        if top {
            self.misfits.column = None;
        }
        column.end_row(true);
        Ok(())
    }

    fn unknown(&mut self, object: Object, key: &'a [u8], top: bool) -> Result<(), Refused> {
        if top {
            self.misfits.column = None;
        }
        let value = self.scanner.value()?;
        Ok(self
            .misfits
            .cut(object, key_text(key), &self.text[value], UNKNOWN)?)
    }

    #[cold]
    fn repeated(&mut self, object: Object, key: &'a [u8]) -> Result<(), Refused> {
        let value = self.scanner.value()?;
        let name = key_text(key);
        Ok(self
            .misfits
            .cut(object, name, &self.text[value], REPEATED)?)
    }

    /// Reads the value of a known field.
    #[inline]
    fn field(&mut self, object: Object, field: &mut FieldColumn<'a>) -> Result<(), Refused> {
        if !field.column.is_simple() {
            self.misfits.path.push(Step::Name(field.name));
            let misfit = self.value(&mut field.column)?;
            self.misfits.path.pop();
            if let Some(value) = misfit {
                self.misfit_of_field(object, field.name, value)?;
            }
            return Ok(());
        }
        match self.value(&mut field.column)? {
            None => Ok(()),
            Some(value) => self.misfit_of_field(object, field.name, value),
        }
    }

    #[cold]
    fn misfit_of_field(
        &mut self,
        object: Object,
        name: &'a str,
        value: Range<usize>,
    ) -> Result<(), Refused> {
        self.misfits
            .rescue(Some(name), 1, &self.text[value], MISFIT)?;
        *self.misfits.names.entry(object, Cow::Borrowed(name)).0 += 1;
        Ok(())
    }

    /// Reads a value into its column. A value that does not fit is returned, and its column gets a null.
    #[inline]
    fn value(&mut self, column: &mut Column<'a>) -> Result<Option<Range<usize>>, Refused> {
        let first = self.scanner.peek();
        match (column, first) {
            (Column::Text(texts), Some(b'"')) => {
                let start = self.scanner.position();
                let (inside, escaped) = self.scanner.string()?;
                if !escaped {
                    texts.push(&self.text[inside]);
                    return Ok(None);
                }
                let text = unescape(&self.text[inside]);
                match &text {
                    Some(text) => texts.push(text.as_bytes()),
                    None => texts.push_null(),
                }
                Ok(text.is_none().then(|| start..self.scanner.position()))
            }
            (Column::Integer(numbers), Some(b'-' | b'0'..=b'9')) => {
                let number = self.number()?;
                let value = match number.small_integer() {
                    Some(value) => Some(value),
                    None => whole(&self.text[number.range.clone()]),
                };
                numbers.push(value);
                Ok(value.is_none().then_some(number.range))
            }
            (Column::Float(numbers), Some(b'-' | b'0'..=b'9')) => {
                let number = self.number()?;
                let value = match number.small_double() {
                    Some(value) => Some(value),
                    None => double(&self.text[number.range.clone()]),
                };
                numbers.push(value);
                Ok(value.is_none().then_some(number.range))
            }
            (Column::List(list), Some(b'[')) => self.list(list).map(|()| None),
            (Column::Struct(inside), Some(b'{')) => self.object(inside, false).map(|()| None),
            (Column::Boolean(booleans), Some(b't' | b'f')) => {
                let value = self.scanner.literal()?;
                booleans.push(Some(self.text[value.start] == b't'));
                Ok(None)
            }
            (Column::Map(map), Some(b'{')) => self.map(map).map(|()| None),
            (column, _) => self.other(column),
        }
    }

    /// Nulls, values that are kept as text, and values of another type.
    fn other(&mut self, column: &mut Column<'a>) -> Result<Option<Range<usize>>, Refused> {
        let kind = self.scanner.kind()?;
        if kind == Kind::Null {
            self.scanner.literal()?;
            column.push_nulls(1);
            return Ok(None);
        }
        let value = self.scanner.value()?;
        let text = &self.text[value.clone()];
        let inside = || &text[1..text.len() - 1];
        match (column, kind) {
            (Column::Json(texts), _) | (Column::Text(texts), Kind::Number | Kind::Boolean) => {
                texts.push(text);
                Ok(None)
            }
            (Column::Integer(numbers), Kind::String) => {
                let number = Some(inside()).filter(|text| is_number(text));
                let number = number.filter(|text| {
                    !text.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E'))
                        && integer(text) == Integer::AsSent
                });
                let number = number.and_then(whole);
                numbers.push(number);
                Ok(number.is_none().then_some(value))
            }
            (Column::Float(numbers), Kind::String) => {
                let number = Some(inside())
                    .filter(|text| is_number(text))
                    .and_then(double);
                numbers.push(number);
                Ok(number.is_none().then_some(value))
            }
            (column, _) => {
                column.push_nulls(1);
                Ok(Some(value))
            }
        }
    }

    fn list(&mut self, list: &mut ListColumn<'a>) -> Result<(), Refused> {
        self.scanner.advance(1);
        if self.scanner.take(b']') {
            return list.end_row();
        }
        let step = self.misfits.path.len();
        let mut index = 0;
        self.misfits.path.push(Step::Item {
            list: list.id,
            index,
        });
        loop {
            if let Some(value) = self.value(&mut list.item)? {
                self.misfits.rescue(None, 1, &self.text[value], MISFIT)?;
            }
            self.misfits.count_item()?;
            index += 1;
            if !self.has_more(b']')? {
                break;
            }
            self.misfits.path[step] = Step::Item {
                list: list.id,
                index,
            };
        }
        self.misfits.path.truncate(step);
        list.items += index;
        list.end_row()
    }

    /// Any key is allowed, and values are text. As in any object, the first value of a key counts.
    fn map(&mut self, map: &mut MapColumn) -> Result<(), Refused> {
        self.scanner.advance(1);
        if self.scanner.take(b'}') {
            return map.end_row();
        }
        let object = self.misfits.begin_object();
        loop {
            let key = self.scanner.key()?;
            let key = &self.text[key];
            let name = key_text(key);
            let kind = self.scanner.kind()?;
            let value = self.scanner.value()?;
            let text = &self.text[value];
            self.misfits.count_item()?;
            let (_, is_first) = self.misfits.names.entry(object, name.clone());
            if !is_first {
                self.misfits.cut(object, name, text, REPEATED)?;
            } else if !unescapes(key) {
                self.misfits.cut(object, name, text, MISFIT)?;
            } else {
                map.keys.push(name.as_bytes());
                let kept = match kind {
                    Kind::Null => Some(None),
                    Kind::Number | Kind::Boolean => Some(Some(Cow::Borrowed(text))),
                    Kind::String => {
                        let inside = &text[1..text.len() - 1];
                        if inside.contains(&b'\\') {
                            unescape(inside).map(|text| Some(Cow::Owned(text.into_bytes())))
                        } else {
                            Some(Some(Cow::Borrowed(inside)))
                        }
                    }
                    Kind::Object | Kind::Array => None,
                };
                match &kept {
                    Some(Some(text)) => map.values.push(text),
                    _ => map.values.push_null(),
                }
                if kept.is_none() {
                    *self.misfits.names.entry(object, name.clone()).0 += 1;
                    self.misfits.rescue(Some(&name), 1, text, MISFIT)?;
                }
            }
            if !self.has_more(b'}')? {
                break;
            }
        }
        self.misfits.end_object(object);
        map.end_row()
    }

    /// Whether another member or item follows; otherwise consumes the closing bracket.
    #[inline(always)]
    fn has_more(&mut self, closing: u8) -> Result<bool, Refused> {
        let more = match self.scanner.peek() {
            Some(b',') => true,
            Some(byte) if byte == closing => false,
            _ => return Err(Refused),
        };
        self.scanner.advance(1);
        Ok(more)
    }

    /// Reads a number with its digits.
    #[inline]
    fn number(&mut self) -> Result<Number, Refused> {
        let start = self.scanner.position();
        let rest = self.scanner.rest();
        let is_negative = rest.first() == Some(&b'-');
        let (mut at, mut digits, mut mantissa) = (usize::from(is_negative), 0, 0_u64);
        let whole = at;
        while let Some(digit) = rest.get(at).map(|byte| byte.wrapping_sub(b'0'))
            && digit < 10
        {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
            at += 1;
        }
        digits += at - whole;
        let mut fraction = 0;
        if rest.get(at) == Some(&b'.') {
            at += 1;
            let first = at;
            while let Some(digit) = rest.get(at).map(|byte| byte.wrapping_sub(b'0'))
                && digit < 10
            {
                mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
                at += 1;
            }
            fraction = at - first;
            if fraction == 0 {
                return Err(Refused);
            }
        }
        // A zero before other digits is refused, as is a number without digits.
        let is_odd = digits == 0 || (digits > 1 && rest.get(whole) == Some(&b'0'));
        if is_odd || matches!(rest.get(at), Some(b'e' | b'E')) {
            let range = self.scanner.number()?;
            return Ok(Number {
                range,
                is_negative,
                digits: usize::MAX,
                fraction: 0,
                mantissa: 0,
            });
        }
        self.scanner.advance(at);
        Ok(Number {
            range: start..start + at,
            is_negative,
            digits: digits + fraction,
            fraction,
            mantissa,
        })
    }
}

/// A number of JSON.
struct Number {
    range: Range<usize>,
    is_negative: bool,
    /// Number of digits, including zeros; the maximum if it is not known.
    digits: usize,
    /// How many of them are after the point.
    fraction: usize,
    /// All digits as one number, if they are few.
    mantissa: u64,
}

impl Number {
    /// The number, if it is an integer with few digits, as nearly all are.
    #[inline]
    fn small_integer(&self) -> Option<i64> {
        let value = self.mantissa as i64;
        (self.fraction == 0 && self.digits <= 18).then_some(if self.is_negative {
            -value
        } else {
            value
        })
    }

    /// The nearest double, if one division of two exact doubles gives it.
    #[inline]
    fn small_double(&self) -> Option<f64> {
        if self.digits > 15 {
            return None;
        }
        let value = self.mantissa as f64 / POWERS[self.fraction];
        Some(if self.is_negative { -value } else { value })
    }
}

/// The number that a double column stores for this text, if it can.
fn double(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text)
        .ok()
        .filter(|text| is_double(text.as_bytes()))?;
    text.parse().ok()
}

/// The values of one column as they are read.
enum Column<'a> {
    Text(Texts),
    Integer(Numbers<i64>),
    Float(Numbers<f64>),
    Boolean(Booleans),
    /// Also for values of other kinds, as text.
    Json(Texts),
    Struct(StructColumn<'a>),
    List(ListColumn<'a>),
    Map(MapColumn),
}

struct Texts {
    bytes: Vec<u8>,
    ends: Vec<i32>,
    nulls: NullBufferBuilder,
}

struct Numbers<T> {
    values: Vec<T>,
    nulls: NullBufferBuilder,
}

struct Booleans {
    values: Vec<bool>,
    nulls: NullBufferBuilder,
}

struct ListColumn<'a> {
    field: FieldRef,
    id: usize,
    item: Box<Column<'a>>,
    items: usize,
    ends: Vec<i32>,
    nulls: NullBufferBuilder,
}

struct MapColumn {
    entries: FieldRef,
    fields: Fields,
    keys: Texts,
    values: Texts,
    ends: Vec<i32>,
    nulls: NullBufferBuilder,
}

struct StructColumn<'a> {
    fields: Fields,
    shape: &'a StructShape,
    columns: Vec<FieldColumn<'a>>,
    /// Names that the schema does not have. They are numbered after those of the columns.
    learned: Vec<Learned<'a>>,
    /// The name that followed each name the last time; the first entry is for the beginning of the object.
    next: Vec<u32>,
    rows: usize,
    nulls: NullBufferBuilder,
}

struct FieldColumn<'a> {
    name: &'a str,
    key: &'a Key,
    column: Column<'a>,
    /// Number of rows for which it has a value. Rows without one are filled in with the next value.
    rows: usize,
}

struct Learned<'a> {
    /// As it was sent.
    name: &'a [u8],
    key: Key,
}

impl<'a> StructColumn<'a> {
    fn new(fields: &'a Fields, shape: &'a StructShape) -> Self {
        let columns: Vec<_> = fields
            .iter()
            .zip(&shape.fields)
            .map(|(field, raw)| FieldColumn {
                name: &raw.name,
                key: &raw.key,
                column: Column::new(field, &raw.shape),
                rows: 0,
            })
            .collect();
        // At first, the order of the schema.
        let next = (0..=columns.len())
            .map(|name| u32::try_from(name).ok().filter(|_| name < columns.len()))
            .map(|name| name.unwrap_or(NONE))
            .collect();
        Self {
            fields: fields.clone(),
            shape,
            columns,
            learned: Vec::new(),
            next,
            rows: 0,
            nulls: nulls(),
        }
    }

    fn key(&self, name: usize) -> Option<&Key> {
        match self.columns.get(name) {
            Some(field) => Some(field.key),
            None => self
                .learned
                .get(name - self.columns.len())
                .map(|learned| &learned.key),
        }
    }

    /// The name with which the text begins, and its length with quotes and colon; `last` is one more than the number of
    /// the previous name, or 0.
    #[inline]
    fn guess(&self, last: usize, rest: &[u8]) -> Option<(usize, usize)> {
        let mut from = last;
        for _ in 0..GUESSES {
            let name = self.next[from] as usize;
            let key = self.key(name)?;
            if key.begins(rest) {
                return Some((name, key.length()));
            }
            from = name + 1;
        }
        None
    }

    /// The name between these quotes, which is expected after `last` the next time.
    fn look_up(&mut self, key: &'a [u8], last: usize) -> Option<usize> {
        let columns = self.columns.len();
        let name = match self.shape.find(&key_text(key)) {
            Some(field) => Some(field),
            None => match self.learned.iter().position(|learned| learned.name == key) {
                Some(learned) => Some(columns + learned),
                None if self.learned.len() < MOST_LEARNED && key.len() <= 64 => {
                    self.learned.push(Learned {
                        name: key,
                        key: Key::new(key),
                    });
                    self.next.push(NONE);
                    Some(columns + self.learned.len() - 1)
                }
                None => None,
            },
        }?;
        let number = u32::try_from(name).unwrap_or(NONE);
        let behind = std::mem::replace(&mut self.next[last], number);
        if self.next[name + 1] == NONE {
            // The name that followed the previous name the last time is likely to follow it again.
            self.next[name + 1] = behind;
        }
        Some(name)
    }

    fn end_row(&mut self, is_valid: bool) {
        self.rows += 1;
        self.nulls.append(is_valid);
    }

    fn sizes(&self, sizes: &mut Sizes) {
        self.columns
            .iter()
            .for_each(|field| field.column.sizes(sizes));
    }

    fn reserve(&mut self, sizes: &mut dyn Iterator<Item = usize>) {
        self.columns
            .iter_mut()
            .for_each(|field| field.column.reserve(sizes));
    }

    /// Finishes the array, and is empty afterwards.
    fn finish(&mut self) -> Result<StructArray, Refused> {
        let rows = std::mem::take(&mut self.rows);
        let mut columns = Vec::with_capacity(self.columns.len());
        for field in &mut self.columns {
            field.fill(rows);
            field.rows = 0;
            columns.push(field.column.finish()?);
        }
        StructArray::try_new_with_length(self.fields.clone(), columns, self.nulls.finish(), rows)
            .map_err(|_| Refused)
    }
}

impl FieldColumn<'_> {
    /// Nulls for the rows before `row` that have no value yet.
    #[inline]
    fn fill(&mut self, row: usize) {
        if self.rows < row {
            self.column.push_nulls(row - self.rows);
            self.rows = row;
        }
    }
}

impl<'a> Column<'a> {
    fn new(field: &'a FieldRef, shape: &'a RawType) -> Self {
        match (shape, field.data_type()) {
            (RawType::Struct(shape), DataType::Struct(fields)) => {
                Self::Struct(StructColumn::new(fields, shape))
            }
            (RawType::List(shape), DataType::List(item)) => Self::List(ListColumn {
                field: item.clone(),
                id: shape.id,
                item: Box::new(Self::new(item, &shape.item)),
                items: 0,
                ends: vec![0],
                nulls: nulls(),
            }),
            (RawType::Map, DataType::Map(entries, _)) => Self::Map(MapColumn {
                fields: match entries.data_type() {
                    DataType::Struct(fields) => fields.clone(),
                    _ => Fields::empty(),
                },
                entries: entries.clone(),
                keys: Texts::new(),
                values: Texts::new(),
                ends: vec![0],
                nulls: nulls(),
            }),
            (RawType::Integer, _) => Self::Integer(Numbers::new()),
            (RawType::Float, _) => Self::Float(Numbers::new()),
            (RawType::Boolean, _) => Self::Boolean(Booleans {
                values: Vec::new(),
                nulls: nulls(),
            }),
            (RawType::Json, _) => Self::Json(Texts::new()),
            _ => Self::Text(Texts::new()),
        }
    }

    /// Whether its values have nothing inside.
    #[inline]
    fn is_simple(&self) -> bool {
        !matches!(self, Self::Struct(_) | Self::List(_) | Self::Map(_))
    }

    fn push_nulls(&mut self, count: usize) {
        match self {
            Self::Text(texts) | Self::Json(texts) => texts.push_nulls(count),
            Self::Integer(numbers) => numbers.push_nulls(count),
            Self::Float(numbers) => numbers.push_nulls(count),
            Self::Boolean(booleans) => {
                booleans.values.resize(booleans.values.len() + count, false);
                booleans.nulls.append_n_nulls(count);
            }
            Self::Struct(inside) => {
                inside.rows += count;
                inside.nulls.append_n_nulls(count);
            }
            Self::List(list) => repeat_last(&mut list.ends, &mut list.nulls, count),
            Self::Map(map) => repeat_last(&mut map.ends, &mut map.nulls, count),
        }
    }

    fn sizes(&self, sizes: &mut Sizes) {
        match self {
            Self::Text(texts) | Self::Json(texts) => {
                sizes.extend([texts.bytes.len(), texts.ends.len()])
            }
            Self::Integer(numbers) => sizes.push(numbers.values.len()),
            Self::Float(numbers) => sizes.push(numbers.values.len()),
            Self::Struct(inside) => inside.sizes(sizes),
            Self::List(list) => list.item.sizes(sizes),
            Self::Boolean(_) | Self::Map(_) => {}
        }
    }

    fn reserve(&mut self, sizes: &mut dyn Iterator<Item = usize>) {
        // A little larger, so that a few more readings on the next page cause no reallocation.
        let mut size = || sizes.next().map_or(0, |size| size + size / 16);
        match self {
            Self::Text(texts) | Self::Json(texts) => {
                texts.bytes.reserve(size());
                texts.ends.reserve(size());
            }
            Self::Integer(numbers) => numbers.values.reserve(size()),
            Self::Float(numbers) => numbers.values.reserve(size()),
            Self::Struct(inside) => inside.reserve(sizes),
            Self::List(list) => list.item.reserve(sizes),
            Self::Boolean(_) | Self::Map(_) => {}
        }
    }

    fn finish(&mut self) -> Result<ArrayRef, Refused> {
        Ok(match self {
            Self::Text(texts) | Self::Json(texts) => Arc::new(texts.finish()?),
            Self::Integer(numbers) => Arc::new(Int64Array::new(
                std::mem::take(&mut numbers.values).into(),
                numbers.nulls.finish(),
            )),
            Self::Float(numbers) => Arc::new(Float64Array::new(
                std::mem::take(&mut numbers.values).into(),
                numbers.nulls.finish(),
            )),
            Self::Boolean(booleans) => Arc::new(BooleanArray::new(
                BooleanBuffer::from(std::mem::take(&mut booleans.values)),
                booleans.nulls.finish(),
            )),
            Self::Struct(inside) => Arc::new(inside.finish()?),
            Self::List(list) => {
                list.items = 0;
                let (items, ends) = (list.item.finish()?, offsets(&mut list.ends));
                let array =
                    ListArray::try_new(list.field.clone(), ends, items, list.nulls.finish());
                Arc::new(array.map_err(|_| Refused)?)
            }
            Self::Map(map) => {
                let columns: Vec<ArrayRef> =
                    vec![Arc::new(map.keys.finish()?), Arc::new(map.values.finish()?)];
                let entries = StructArray::try_new(map.fields.clone(), columns, None);
                let entries = entries.map_err(|_| Refused)?;
                let (ends, nulls) = (offsets(&mut map.ends), map.nulls.finish());
                let array = MapArray::try_new(map.entries.clone(), ends, entries, nulls, false);
                Arc::new(array.map_err(|_| Refused)?)
            }
        })
    }
}

impl Texts {
    fn new() -> Self {
        Self {
            bytes: Vec::new(),
            ends: vec![0],
            nulls: nulls(),
        }
    }

    #[inline]
    fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        // What runs over is refused in the end.
        self.ends.push(self.bytes.len() as i32);
        self.nulls.append_non_null();
    }

    fn push_null(&mut self) {
        self.push_nulls(1);
    }

    fn push_nulls(&mut self, count: usize) {
        repeat_last(&mut self.ends, &mut self.nulls, count);
    }

    fn finish(&mut self) -> Result<StringArray, Refused> {
        let bytes = std::mem::take(&mut self.bytes);
        i32::try_from(bytes.len()).map_err(|_| Refused)?;
        StringArray::try_new(offsets(&mut self.ends), bytes.into(), self.nulls.finish())
            .map_err(|_| Refused)
    }
}

impl<T: Default + Clone> Numbers<T> {
    fn new() -> Self {
        Self {
            values: Vec::new(),
            nulls: nulls(),
        }
    }

    #[inline]
    fn push(&mut self, value: Option<T>) {
        match value {
            Some(value) => {
                self.values.push(value);
                self.nulls.append_non_null();
            }
            None => self.push_nulls(1),
        }
    }

    fn push_nulls(&mut self, count: usize) {
        self.values.resize(self.values.len() + count, T::default());
        self.nulls.append_n_nulls(count);
    }
}

impl Booleans {
    #[inline]
    fn push(&mut self, value: Option<bool>) {
        self.values.push(value.unwrap_or_default());
        self.nulls.append(value.is_some());
    }
}

impl ListColumn<'_> {
    fn end_row(&mut self) -> Result<(), Refused> {
        self.ends
            .push(i32::try_from(self.items).map_err(|_| Refused)?);
        self.nulls.append_non_null();
        Ok(())
    }
}

impl MapColumn {
    fn end_row(&mut self) -> Result<(), Refused> {
        let entries = self.keys.ends.len() - 1;
        self.ends.push(i32::try_from(entries).map_err(|_| Refused)?);
        self.nulls.append_non_null();
        Ok(())
    }
}

/// Rows without a value, in a column whose rows end where others begin.
fn repeat_last(ends: &mut Vec<i32>, nulls: &mut NullBufferBuilder, count: usize) {
    let last = ends.last().copied().unwrap_or_default();
    ends.resize(ends.len() + count, last);
    nulls.append_n_nulls(count);
}

fn nulls() -> NullBufferBuilder {
    NullBufferBuilder::new(0)
}

/// The ends of rows without the leading zero.
fn offsets(ends: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let ends = std::mem::replace(ends, vec![0]);
    OffsetBuffer::new(ScalarBuffer::from(ends))
}
