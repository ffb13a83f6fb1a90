//! Decodes one page into raw rows, without a task: for fixtures, benches and fuzzing.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use bytes::Bytes;
use chrono::{DateTime, NaiveDate};

use super::assign_day::{DayRows, rows_of_day};
use super::decode::{Decoder, Stamp};
use super::decode_error::DecodeError;
use super::drift::DriftKey;
use crate::catalog::Source;
use crate::samsara::{Page, Window};

/// Decodes the text of one page's list of records as `source` declares them.
pub fn decode_page(
    source: &Source,
    records: Bytes,
    window: Option<Window>,
    parent: Option<&str>,
) -> Result<(RecordBatch, BTreeMap<DriftKey, u64>), DecodeError> {
    let page = Page {
        number: 1,
        envelope: Vec::new(),
        is_empty: false,
        records,
        cursor: None,
        has_next: false,
    };
    let stamp = Stamp {
        window,
        parent,
        asked: &[],
        extracted_at: DateTime::UNIX_EPOCH,
    };
    let (batch, drift) =
        Decoder::new(&[source]).whole(&page, 0, stamp, |rows| Ok(DayRows::all(rows)))?;
    Ok((batch, drift.into_counts()))
}

/// The raw rows of a page for `day` (for the snapshot, if there is none): what a task writes.
pub fn decode_for_day(
    source: &Source,
    page: &Page,
    window: Option<Window>,
    day: Option<NaiveDate>,
    parent: Option<&str>,
) -> Result<RecordBatch, DecodeError> {
    decode_asked(source, page, window, day, parent, &[])
}

/// The same, with the values of the parameters that are stored with the rows.
pub fn decode_asked(
    source: &Source,
    page: &Page,
    window: Option<Window>,
    day: Option<NaiveDate>,
    parent: Option<&str>,
    asked: &[(String, String)],
) -> Result<RecordBatch, DecodeError> {
    let stamp = Stamp {
        window,
        parent,
        asked,
        extracted_at: DateTime::UNIX_EPOCH,
    };
    let owned = |rows: RecordBatch| match (&source.time_field, day) {
        (Some(field), Some(day)) => rows_of_day(&rows, field, day, None, None),
        _ => Ok(DayRows::all(rows)),
    };
    Ok(Decoder::new(&[source]).whole(page, 0, stamp, owned)?.0)
}
