//! Rows and readings far outside the requested days.
//!
//! A row of the previous or next day is normal: that day gets it when it is requested. A reading of 1970 or of 2036
//! comes from a wrong clock, and its day will never be requested; so it is reported with an example.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use arrow_json::LineDelimitedWriter;
use chrono::{DateTime, TimeDelta, Utc};

use crate::catalog::{Source, TimeField};
use crate::json::path::shorten;
use crate::samsara::Window;

/// Readings may be this far from the requested days.
const READINGS_MARGIN: TimeDelta = TimeDelta::days(1);
/// Records may have started this long before: some endpoints return everything that overlaps the window.
const RECORDS_MARGIN: TimeDelta = TimeDelta::days(31);
/// Records with an end of their own, such as the assignment of a trailer, may last for years, and are returned for each
/// of their days.
const LASTING_MARGIN: TimeDelta = TimeDelta::days(3653);
/// So many examples of a source are kept.
const MOST_EXAMPLES: usize = 5;
/// An example is cut after this many bytes.
const LONGEST_EXAMPLE: usize = 500;

/// Rows and readings of one source that are far outside the requested days.
#[derive(Debug, Clone)]
pub(super) struct Outside {
    /// What is near.
    near: Window,
    /// How many were found.
    pub(super) count: u64,
    /// The earliest and the latest of their times.
    pub(super) span: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// Some of them as JSON.
    pub(super) examples: Vec<String>,
}

impl Outside {
    /// For a source whose days `asked` were requested.
    pub(super) fn of(source: &Source, asked: Window) -> Self {
        let is_of_record = source
            .time_field
            .as_ref()
            .is_some_and(TimeField::is_of_record);
        let before = match source.end_field {
            Some(_) => LASTING_MARGIN,
            None if is_of_record => RECORDS_MARGIN,
            None => READINGS_MARGIN,
        };
        let beyond = source
            .window
            .as_ref()
            .map_or(0, |window| window.days_beyond);
        let end = asked.end + READINGS_MARGIN + TimeDelta::days(i64::from(beyond));
        Self {
            near: Window {
                start: asked.start - before,
                end,
            },
            count: 0,
            span: None,
            examples: Vec::new(),
        }
    }

    pub(super) fn is_far(&self, at: DateTime<Utc>) -> bool {
        at < self.near.start || at >= self.near.end
    }

    pub(super) fn add(&mut self, at: DateTime<Utc>, example: impl FnOnce() -> Option<String>) {
        self.count += 1;
        let (first, last) = self.span.unwrap_or((at, at));
        self.span = Some((first.min(at), last.max(at)));
        if self.examples.len() < MOST_EXAMPLES {
            self.examples.extend(example());
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.count += other.count;
        if let Some((first, last)) = other.span {
            let (before, after) = self.span.unwrap_or((first, last));
            self.span = Some((first.min(before), last.max(after)));
        }
        let room = MOST_EXAMPLES.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.into_iter().take(room));
    }

    /// A row as JSON.
    pub(super) fn row(batch: &RecordBatch, row: usize) -> Option<String> {
        json(&batch.slice(row, 1))
    }

    /// An item of a list as JSON, with the scalar values of its row.
    pub(super) fn item(
        batch: &RecordBatch,
        row: usize,
        path: &str,
        items: &ArrayRef,
        item: usize,
    ) -> Option<String> {
        let schema = batch.schema();
        let plain = schema
            .fields()
            .iter()
            .zip(batch.columns())
            .filter(|(field, _)| {
                matches!(
                    field.data_type(),
                    DataType::Utf8 | DataType::Int64 | DataType::Float64 | DataType::Boolean
                )
            });
        let (mut fields, mut columns): (Vec<Arc<Field>>, Vec<ArrayRef>) = plain
            .map(|(field, column)| (field.clone(), column.slice(row, 1)))
            .unzip();
        fields.push(Arc::new(Field::new(path, items.data_type().clone(), true)));
        columns.push(items.slice(item, 1));
        json(&RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).ok()?)
    }
}

fn json(row: &RecordBatch) -> Option<String> {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write(row).ok()?;
    writer.finish().ok()?;
    let text = String::from_utf8(writer.into_inner()).ok()?;
    Some(shorten(text.trim_end(), LONGEST_EXAMPLE).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    #[test]
    fn what_lasts_may_have_begun_long_before_the_asked_days() {
        let catalog = Catalog::open(None).unwrap();
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let asked = Window {
            start: at("2024-01-01T00:00:00Z"),
            end: at("2024-01-02T00:00:00Z"),
        };
        for (source, near, far) in [
            (
                "fleet_hos_logs",
                "2023-01-01T16:14:35Z",
                "1970-01-01T00:00:00Z",
            ),
            (
                "fleet_trailers_assignments",
                "2020-01-01T00:00:00Z",
                "2036-01-01T00:00:00Z",
            ),
            (
                "fleet_vehicle_stats_engineRpm",
                "2023-12-31T00:00:00Z",
                "2023-12-30T23:59:59Z",
            ),
        ] {
            let outside = Outside::of(catalog.source(source).unwrap(), asked);
            assert!(
                !outside.is_far(at(near)) && outside.is_far(at(far)),
                "{source}"
            );
        }
    }
}
