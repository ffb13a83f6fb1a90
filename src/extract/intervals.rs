//! Rows that last: from a start, which decides on their day, to an end that may be still to come.
//!
//! A day with a row without an end is read again until the row has one. A response may also contain rows of earlier
//! days, because they last into the requested ones; such a row shows that its own day has changed, if the row was
//! missing or open when that day was read.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Int64Type};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use sha2::{Digest, Sha256};

use super::assign_day::{follow, instant, readable, times};
use super::decode_error::DecodeError;
use crate::catalog::{Source, TimeField, TimeStep};
use crate::state::{EndedRow, Overlap};

/// Ends that differ by less than this are the same.
const SAME_END: TimeDelta = TimeDelta::minutes(1);

/// The rows of a batch, or the items of their lists, that can have an end.
struct Intervals<'a> {
    source: &'a Source,
    records: ArrayRef,
    /// The same as `records`, unless each record has a list of them.
    items: ArrayRef,
    /// To which record each item belongs.
    record_of: Vec<usize>,
    /// None for rows that carry no time: reports.
    starts: Option<ArrayRef>,
    ends: ArrayRef,
    /// When they were read.
    read: DateTime<Utc>,
}

impl<'a> Intervals<'a> {
    /// None if the source does not declare an end field.
    fn of(
        batch: &RecordBatch,
        source: &'a Source,
        read: DateTime<Utc>,
    ) -> Result<Option<Self>, DecodeError> {
        let Some(end) = &source.end_field else {
            return Ok(None);
        };
        let records: ArrayRef = Arc::new(StructArray::from(batch.clone()));
        let (items, record_of) = match end.list().split_last() {
            None => (records.clone(), (0..records.len()).collect()),
            Some((_, steps)) => {
                let lists = follow(&records, steps)?;
                let lists = lists
                    .as_list_opt::<i32>()
                    .ok_or("`[]` must follow a list")?;
                let offsets = lists.value_offsets();
                let (first, last) = (offsets[0] as usize, offsets[offsets.len() - 1] as usize);
                let record_of = offsets
                    .windows(2)
                    .enumerate()
                    .flat_map(|(record, offsets)| {
                        std::iter::repeat_n(record, (offsets[1] - offsets[0]) as usize)
                    });
                (
                    lists.values().slice(first, last - first),
                    record_of.collect(),
                )
            }
        };
        let starts = source
            .time_field
            .as_ref()
            .map(|start| {
                if start.is_of_record() {
                    times(&items, start)
                } else {
                    follow(&items, within(start))
                }
            })
            .transpose()?;
        let ends = follow(&items, within(end))?;
        Ok(Some(Self {
            source,
            records,
            items,
            record_of,
            starts,
            ends,
            read,
        }))
    }

    /// The items that exist.
    fn rows(&self) -> impl Iterator<Item = usize> {
        (0..self.items.len()).filter(|row| self.items.is_valid(*row))
    }

    fn start(&self, row: usize) -> Result<Option<DateTime<Utc>>, DecodeError> {
        let (Some(starts), Some(field)) = (&self.starts, &self.source.time_field) else {
            return Ok(None);
        };
        instant(starts, row, field).map(Some)
    }

    /// The end of a row; none if it was in the future when the row was read. A value that is not a time, or that is
    /// before the start, does not count (v1 writes 0 for "none", and the largest integer for "in progress").
    fn end(&self, row: usize) -> Result<Option<DateTime<Utc>>, DecodeError> {
        let start = self.start(row)?;
        Ok(readable(&self.ends, row)
            .filter(|end| *end <= self.read && start.is_none_or(|start| start <= *end)))
    }

    /// The row, if it has ended.
    fn ended(&self, row: usize) -> Result<Option<EndedRow>, DecodeError> {
        self.end(row)?
            .map(|end| {
                Ok(EndedRow {
                    row: self.identity(row)?,
                    end,
                })
            })
            .transpose()
    }

    /// Digest of what identifies a row: its parent, its start, and the source's `row_key`.
    fn identity(&self, row: usize) -> Result<u64, DecodeError> {
        let mut digest = Sha256::new();
        let mut add = |value: Option<String>| match value {
            // The length distinguishes "a" + "bc" from "ab" + "c".
            Some(text) => {
                digest.update((text.len() as u64).to_be_bytes());
                digest.update(text.as_bytes());
            }
            None => digest.update(u64::MAX.to_be_bytes()),
        };
        let record = self.record_of[row];
        add(text(
            &follow(&self.records, &[TimeStep::Field("_parent_id".into())])?,
            record,
        ));
        add(self
            .start(row)?
            .map(|start| start.timestamp_micros().to_string()));
        for path in &self.source.row_key {
            add(match path.list() {
                [] => text(&follow(&self.records, path.steps())?, record),
                _ => text(&follow(&self.items, within(path))?, row),
            });
        }
        Ok(digest
            .finalize()
            .iter()
            .take(8)
            .fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}

/// The steps of a path inside the items of its list.
fn within(path: &TimeField) -> &[TimeStep] {
    &path.steps()[path.list().len()..]
}

fn text(values: &ArrayRef, row: usize) -> Option<String> {
    match values.data_type() {
        _ if values.is_null(row) => None,
        DataType::Int64 => Some(values.as_primitive::<Int64Type>().value(row).to_string()),
        _ => values
            .as_string_opt::<i32>()
            .map(|texts| texts.value(row).to_string()),
    }
}

/// How many rows of a batch, or readings inside rows, are open. `read` is when they were read.
pub(super) fn open_rows(
    batch: &RecordBatch,
    source: &Source,
    read: DateTime<Utc>,
) -> Result<u64, DecodeError> {
    let Some(intervals) = Intervals::of(batch, source, read)? else {
        return Ok(0);
    };
    intervals.rows().try_fold(0, |open, row| {
        Ok(open + u64::from(intervals.end(row)?.is_none()))
    })
}

/// The rows of a batch that belong to days before `first`.
pub(super) fn overlaps(
    batch: &RecordBatch,
    source: &Source,
    first: NaiveDate,
    read: DateTime<Utc>,
) -> Result<BTreeSet<Overlap>, DecodeError> {
    let mut found = BTreeSet::new();
    let Some(intervals) = Intervals::of(batch, source, read)? else {
        return Ok(found);
    };
    for row in intervals.rows() {
        let Some(day) = intervals
            .start(row)?
            .map(|start| start.date_naive())
            .filter(|day| *day < first)
        else {
            continue;
        };
        found.insert(Overlap {
            source: source.name.clone(),
            day,
            ended: intervals.ended(row)?,
        });
    }
    Ok(found)
}

/// The rows of a day that had ended when it was read, with their ends.
#[derive(Debug, Default)]
pub struct EndedRows(HashMap<u64, Vec<DateTime<Utc>>>);

impl EndedRows {
    /// Adds raw rows of the day; `read` is when it was read. The batch must have the columns of [`EndedRows::columns`],
    /// in any order.
    pub fn add(
        &mut self,
        batch: &RecordBatch,
        source: &Source,
        read: DateTime<Utc>,
    ) -> Result<(), DecodeError> {
        let Some(intervals) = Intervals::of(batch, source, read)? else {
            return Ok(());
        };
        for row in intervals.rows() {
            if let Some(EndedRow { row, end }) = intervals.ended(row)? {
                self.0.entry(row).or_default().push(end);
            }
        }
        Ok(())
    }

    /// Whether the day had this row, and its end. The API reports the end of the same row with small differences
    /// (milliseconds or seconds) from time to time, which are ignored.
    pub fn contains(&self, row: &EndedRow) -> bool {
        self.0
            .get(&row.row)
            .is_some_and(|ends| ends.iter().any(|end| (*end - row.end).abs() < SAME_END))
    }

    /// The raw columns that identify a source's rows, and that of their ends.
    pub fn columns(source: &Source) -> BTreeSet<&str> {
        let paths = source
            .time_field
            .iter()
            .chain(&source.end_field)
            .chain(&source.row_key);
        let tops = paths
            .flat_map(TimeField::paths)
            .filter_map(|path| match path.first() {
                Some(TimeStep::Field(name)) => Some(name.as_str()),
                _ => None,
            });
        tops.chain(["_parent_id"]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::extract::decode_page;

    const READ: &str = "2024-01-10T12:00:00Z";

    fn rows(source: &Source, records: &str, parent: Option<&str>) -> RecordBatch {
        decode_page(
            source,
            bytes::Bytes::copy_from_slice(records.as_bytes()),
            None,
            parent,
        )
        .unwrap()
        .0
    }

    fn source(name: &str) -> Source {
        Catalog::open(None).unwrap().source(name).unwrap().clone()
    }

    /// Logs of duty status, as an integrator might declare them: intervals inside the record of their driver.
    fn duty_logs() -> Source {
        let toml = r#"
            [logs]
            description = "d"
            kind = "window"
            endpoint = "/logs"
            rate_limit = "5/s"
            window = { start = "startTime", end = "endTime", format = "rfc3339" }
            time_field = "logs[].start"
            end_field = "logs[].end"
            row_key = ["driver.id", "logs[].status"]
            schema = "driver STRUCT<id VARCHAR>, logs ARRAY<STRUCT<start VARCHAR, end VARCHAR, status VARCHAR>>"
        "#;
        let files = [("f/sources.toml".to_string(), toml.to_string())];
        Catalog::from_files("test", &files)
            .unwrap()
            .source("logs")
            .unwrap()
            .clone()
    }

    #[test]
    fn a_row_lasts_until_its_end_is_a_time_that_has_passed() {
        let (trips, assignments, read) = (
            source("fleet_trips"),
            source("driver_vehicle_assignments"),
            READ.parse().unwrap(),
        );
        for (end, open) in [
            ("9223372036854775807", 1),
            ("null", 1),
            // Before the start, and after the read.
            ("0", 1),
            ("1704888000001", 1),
            ("1704888000000", 0),
            ("1704067200000", 0),
        ] {
            let batch = rows(
                &trips,
                &format!(r#"[{{"startMs":1704067200000,"endMs":{end}}}]"#),
                Some("1"),
            );
            assert_eq!(open_rows(&batch, &trips, read).unwrap(), open, "{end}");
        }
        for (end, open) in [
            ("", 1),
            ("N/A", 1),
            ("2024-01-10T12:00:00.001Z", 1),
            ("2024-01-10T13:00:00+01:00", 0),
        ] {
            let batch = rows(
                &assignments,
                &format!(r#"[{{"startTime":"2024-01-01T00:00:00Z","endTime":"{end}"}}]"#),
                None,
            );
            assert_eq!(
                open_rows(&batch, &assignments, read).unwrap(),
                open,
                "{end}"
            );
        }
        let batch = rows(
            &assignments,
            r#"[{"startTime":"2024-01-01T00:00:00Z"},{"startTime":"2024-01-01T00:00:00Z"}]"#,
            None,
        );
        assert_eq!(open_rows(&batch, &assignments, read).unwrap(), 2);
        // A report's rows carry no start.
        let logs = source("fleet_hos_daily_logs");
        let batch = rows(
            &logs,
            r#"[{"endTime":"2024-01-10T13:00:00Z"},{"endTime":"2024-01-10T11:00:00Z"}]"#,
            None,
        );
        assert_eq!(open_rows(&batch, &logs, read).unwrap(), 1);
        // Readings have no end at all.
        let gps = source("fleet_vehicle_stats_gps");
        assert_eq!(
            open_rows(
                &rows(&gps, r#"[{"gps":[{"time":"2024-01-01T00:00:00Z"}]}]"#, None),
                &gps,
                read
            )
            .unwrap(),
            0
        );
    }

    #[test]
    fn rows_of_earlier_days_match_by_owner_and_start() {
        let (trips, read) = (source("fleet_trips"), READ.parse().unwrap());
        let first = NaiveDate::from_ymd_opt(2024, 1, 2).unwrap();
        let of = |parent: &str, records: &str| {
            let found =
                overlaps(&rows(&trips, records, Some(parent)), &trips, first, read).unwrap();
            assert!(
                found
                    .iter()
                    .all(|row| row.source == "fleet_trips" && row.day.to_string() == "2024-01-01")
            );
            found.into_iter().map(|row| row.ended).collect::<Vec<_>>()
        };
        let day = r#"[{"startMs":1704150000000,"endMs":1704160000000},{"startMs":1704140000000}]"#;
        let mut known = EndedRows::default();
        known
            .add(&rows(&trips, day, Some("1")), &trips, read)
            .unwrap();
        for (parent, row, is_known) in [
            (
                "1",
                r#"[{"startMs":1704150000000,"endMs":1704160000000}]"#,
                true,
            ),
            (
                "1",
                r#"[{"startMs":1704150000000,"endMs":1704160000777,"driverId":7}]"#,
                true,
            ),
            (
                "1",
                r#"[{"startMs":1704150000000,"endMs":1704160060000}]"#,
                false,
            ),
            (
                "2",
                r#"[{"startMs":1704150000000,"endMs":1704160000000}]"#,
                false,
            ),
            (
                "1",
                r#"[{"startMs":1704150000001,"endMs":1704160000000}]"#,
                false,
            ),
            (
                "1",
                r#"[{"startMs":1704140000000,"endMs":1704160000000}]"#,
                false,
            ),
        ] {
            let found = of(parent, row);
            assert_eq!(
                (found.len(), known.contains(&found[0].unwrap())),
                (1, is_known),
                "{parent} {row}"
            );
        }
        // Of open rows, only the day matters; rows of the day itself do not.
        let lasting =
            r#"[{"startMs":1704150000000},{"startMs":1704140000000,"endMs":9223372036854775807}]"#;
        assert_eq!(of("1", lasting), [None]);
        assert_eq!(
            of("1", r#"[{"startMs":1704153600000,"endMs":1704160000000}]"#),
            []
        );
    }

    #[test]
    fn intervals_in_lists_match_by_record_and_item() {
        let (logs, read) = (duty_logs(), READ.parse().unwrap());
        let first = NaiveDate::from_ymd_opt(2024, 1, 2).unwrap();
        let item = |start: &str, status: &str| {
            format!(r#"{{"start":"{start}","end":"2024-01-03T00:00:00Z","status":"{status}"}}"#)
        };
        let old = "2024-01-01T08:00:00Z";
        let page = format!(
            r#"[{{"driver":{{"id":"1"}},"logs":[{},{},null]}},{{"driver":{{"id":"2"}},"logs":[]}},{{"driver":{{"id":3}},"logs":[{},{{"start":"{old}"}},{}]}}]"#,
            item(old, "on"),
            item(old, "off"),
            item(old, "on"),
            item("2024-01-02T00:00:00Z", "on"),
        );
        let batch = rows(&logs, &page, None);
        assert_eq!(open_rows(&batch, &logs, read).unwrap(), 1);
        let found = overlaps(&batch, &logs, first, read).unwrap();
        assert_eq!(found.iter().filter(|row| row.ended.is_some()).count(), 3);
        assert_eq!(found.len(), 4);
        // A slice of a batch has the lists of its own records only.
        assert_eq!(
            overlaps(&batch.slice(2, 1), &logs, first, read)
                .unwrap()
                .len(),
            2
        );
        let mut known = EndedRows::default();
        known.add(&batch.slice(0, 1), &logs, read).unwrap();
        assert_eq!(
            found
                .iter()
                .filter(|row| row.ended.is_some_and(|row| known.contains(&row)))
                .count(),
            2
        );
        assert_eq!(
            EndedRows::columns(&logs),
            ["_parent_id", "driver", "logs"].into()
        );
    }
}
