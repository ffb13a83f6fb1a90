//! Statistics of a file, from the footer of its Parquet: readers skip files by them.

use chrono::{DateTime, NaiveDate, SecondsFormat, TimeDelta, Timelike};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;
use serde_json::{Map, Value};

use crate::transform::{Column, ColumnType, Contract};

/// Number of columns with statistics, Delta Lake's default: a log holds them for every file.
const COLUMNS: usize = 32;

/// The statistics of a file, as JSON.
///
/// Columns of text, integers, times and days have minimum and maximum. DOUBLE has none: Parquet leaves out NaN, which
/// readers take to be greater than all numbers. Nor has NUMERIC, which readers of JSON round.
pub(super) fn stats(contract: &Contract, footer: &ParquetMetaData) -> String {
    let (mut least, mut greatest, mut nulls) = (Map::new(), Map::new(), Map::new());
    for column in with_stats(contract) {
        let Some(found) = of_column(column, footer) else {
            continue;
        };
        let name = &column.name;
        nulls.insert(name.clone(), found.nulls.into());
        if let Some((low, high)) = found.bounds {
            least.insert(name.clone(), low);
            greatest.insert(name.clone(), high);
        }
    }
    serde_json::json!({
        "numRecords": footer.file_metadata().num_rows(),
        "minValues": least,
        "maxValues": greatest,
        "nullCount": nulls,
    })
    .to_string()
}

/// The columns with statistics: first those that queries filter by most.
fn with_stats(contract: &Contract) -> impl Iterator<Item = &Column> {
    let is_key = |column: &&Column| {
        let name = &column.name;
        contract.partition_by.as_ref() == Some(name) || contract.cluster_by.contains(name)
    };
    let others = contract.columns.iter().filter(move |it| !is_key(it));
    let keys = contract.columns.iter().filter(is_key);
    keys.chain(others).take(COLUMNS)
}

struct Found {
    nulls: u64,
    bounds: Option<(Value, Value)>,
}

/// The statistics of a column over all row groups; none if one of them has none.
fn of_column(column: &Column, footer: &ParquetMetaData) -> Option<Found> {
    let leaves = footer.file_metadata().schema_descr();
    let index = (0..leaves.num_columns())
        .find(|index| leaves.column(*index).path().parts() == [column.name.as_str()])?;
    let (mut nulls, mut bounds, mut has_bounds) = (0, None, true);
    for group in footer.row_groups() {
        let statistics = group.column(index).statistics()?;
        let of_group = statistics.null_count_opt()?;
        nulls += of_group;
        if of_group == group.num_rows().unsigned_abs() {
            continue;
        }
        match Bounds::of(statistics) {
            Some(found) => bounds = Some(Bounds::join(bounds, found)),
            None => has_bounds = false,
        }
    }
    let bounds = bounds.filter(|_| has_bounds);
    Some(Found {
        nulls,
        bounds: bounds.and_then(|bounds| bounds.json(column.column_type)),
    })
}

/// Minimum and maximum; texts may be truncated, so that they are bounds instead of values.
enum Bounds {
    Number(i64, i64),
    Text(String, String),
}

impl Bounds {
    fn of(statistics: &Statistics) -> Option<Self> {
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_string);
        Some(match statistics {
            Statistics::Int64(found) => Self::Number(*found.min_opt()?, *found.max_opt()?),
            Statistics::Int32(found) => {
                Self::Number(i64::from(*found.min_opt()?), i64::from(*found.max_opt()?))
            }
            Statistics::ByteArray(found) => Self::Text(
                text(found.min_opt()?.data())?,
                text(found.max_opt()?.data())?,
            ),
            _ => return None,
        })
    }

    fn join(before: Option<Self>, found: Self) -> Self {
        match (before, found) {
            (Some(Self::Number(low, high)), Self::Number(lower, higher)) => {
                Self::Number(low.min(lower), high.max(higher))
            }
            (Some(Self::Text(low, high)), Self::Text(lower, higher)) => {
                Self::Text(low.min(lower), high.max(higher))
            }
            (_, found) => found,
        }
    }

    fn json(self, column_type: ColumnType) -> Option<(Value, Value)> {
        Some(match (column_type, self) {
            (ColumnType::Int64, Self::Number(low, high)) => (low.into(), high.into()),
            (ColumnType::String, Self::Text(low, high)) => (low.into(), high.into()),
            (ColumnType::Date, Self::Number(low, high)) => (day(low)?.into(), day(high)?.into()),
            // Some readers know milliseconds only: so the minimum is rounded down and the maximum up.
            (ColumnType::Timestamp, Self::Number(low, high)) => {
                let up = high.checked_add(999)?;
                (millisecond(low)?.into(), millisecond(up)?.into())
            }
            _ => return None,
        })
    }
}

/// A day as text, from days since 1970.
fn day(number: i64) -> Option<String> {
    let days = TimeDelta::try_days(number)?;
    let day = NaiveDate::default().checked_add_signed(days)?;
    Some(day.format("%Y-%m-%d").to_string())
}

/// A time as text, from microseconds since 1970, rounded down.
fn millisecond(micros: i64) -> Option<String> {
    let at = DateTime::from_timestamp_micros(micros)?;
    let at = at.with_nanosecond(at.nanosecond() / 1_000_000 * 1_000_000)?;
    let text = at.to_rfc3339_opts(SecondsFormat::Millis, true);
    // Years have four digits.
    (text.len() == "2024-01-31T10:00:00.000Z".len()).then_some(text)
}
