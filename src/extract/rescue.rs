//! Values that no column takes, to be stored in `_rescued_data`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::Range;

use super::decode_error::DecodeError;
use crate::json::path::push_index;
use crate::json::write_escaped;

/// The values that were cut out of some records, in the order of the records.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Rescued<'a> {
    pub(super) values: Vec<RescuedValue<'a>>,
    /// Their paths, concatenated.
    pub(super) paths: String,
}

/// A value that was cut out.
#[derive(Debug, PartialEq)]
pub(super) struct RescuedValue<'a> {
    /// The record that it stood in.
    pub(super) record: usize,
    /// The column of the record that contained it, if it is known: it decides which sources it concerns.
    pub(super) column: Option<usize>,
    /// Its path in [`Rescued::paths`].
    pub(super) path: Range<usize>,
    /// The outermost list that it stood in.
    pub(super) list: Option<ListPlace>,
    /// Its exact text.
    pub(super) text: &'a [u8],
}

/// A place in a list.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ListPlace {
    /// Which list of the record's shape.
    pub(super) id: usize,
    /// The item.
    pub(super) index: usize,
    /// `[index]` in [`Rescued::paths`].
    pub(super) bracket: Range<usize>,
}

/// The current position of the list item that contained a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Where the API sent it.
    AsSent,
    /// Items before it have gone.
    Moved(usize),
    /// The row's list has no such item: it belongs to another day.
    Nowhere,
}

impl<'a> Rescued<'a> {
    /// The values of one record.
    pub(super) fn of_record(&self, record: usize) -> &[RescuedValue<'a>] {
        let first = self.values.partition_point(|value| value.record < record);
        let count = self.values[first..].partition_point(|value| value.record == record);
        &self.values[first..first + count]
    }
}

/// The `_rescued_data` of one row while it is built: an object of paths and exact texts.
#[derive(Default)]
pub(super) struct RescuedText {
    text: Vec<u8>,
    path: String,
    /// Number of values without a position, for each list.
    nowhere: HashMap<String, u32>,
    /// Values written, in all rows.
    pub(super) count: u64,
}

impl RescuedText {
    /// Adds a value of a record.
    pub(super) fn add(&mut self, rescued: &Rescued<'_>, value: &RescuedValue<'_>, place: Place) {
        let path = &rescued.paths[value.path.clone()];
        let (Some(list), true) = (&value.list, place != Place::AsSent) else {
            self.member(path.as_bytes(), value.text);
            return;
        };
        let mut moved = std::mem::take(&mut self.path);
        moved.clear();
        moved.push_str(&rescued.paths[value.path.start..list.bracket.start]);
        match place {
            Place::Moved(index) => push_index(&mut moved, index),
            _ => moved.push_str("[]"),
        }
        moved.push_str(&rescued.paths[list.bracket.end..value.path.end]);
        if place == Place::Nowhere {
            let turn = self.nowhere.entry(moved.clone()).or_default();
            *turn += 1;
            if *turn > 1 {
                let _ = write!(moved, "#{turn}");
            }
        }
        self.member(moved.as_bytes(), value.text);
        self.path = moved;
    }

    /// Adds a value under a path of its own.
    pub(super) fn member(&mut self, path: &[u8], text: &[u8]) {
        self.text
            .push(if self.text.is_empty() { b'{' } else { b',' });
        self.text.push(b'"');
        write_escaped(path, &mut self.text);
        self.text.extend_from_slice(b"\":");
        self.text.extend_from_slice(text);
        self.count += 1;
    }

    /// The row's text, if there is any; starts the next row.
    pub(super) fn row<T>(
        &mut self,
        take: impl FnOnce(Option<&str>) -> T,
    ) -> Result<T, DecodeError> {
        self.nowhere.clear();
        if self.text.is_empty() {
            return Ok(take(None));
        }
        self.text.push(b'}');
        let text = std::str::from_utf8(&self.text)?;
        let taken = take(Some(text));
        self.text.clear();
        Ok(taken)
    }
}
