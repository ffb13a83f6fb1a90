//! Assigns rows to days: a row belongs to the day in which it starts, so that no row is in two partitions or in none.
//!
//! Several endpoints return everything that overlaps the requested window, and histories may include the reading before
//! it. Those rows belong to another day, and are stored when that day is requested.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, ListArray, RecordBatch, StringArray, StructArray,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{filter, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use super::decode_error::DecodeError;
use super::instant::{INSTANTS, InstantReader, instant_of_text};
use super::outside::Outside;
use super::rescue::Place;
use crate::catalog::{Source, TimeField, TimeStep};
use crate::samsara::Window;

/// The window that is the UTC day.
pub fn day_window(day: NaiveDate) -> Window {
    let start = day.and_time(chrono::NaiveTime::MIN).and_utc();
    Window {
        start,
        end: start + TimeDelta::days(1),
    }
}

/// The window of a source's partition, which is named by its first day: the day, or the month.
pub fn partition_window(source: &Source, first: NaiveDate) -> Window {
    Window {
        end: day_window(source.period_end(first)).start,
        ..day_window(first)
    }
}

/// The part of a batch that belongs to one day.
pub(super) struct DayRows {
    pub(super) batch: RecordBatch,
    /// Number of rows, or of readings inside rows, that belong to the day.
    pub(super) kept: u64,
    /// The same before filtering.
    pub(super) total: u64,
    /// Original positions of the remaining values.
    pub(super) places: Places,
}

/// Original positions of the rows of a day, and of the readings inside them.
pub(super) enum Places {
    /// All rows, or these.
    Rows(Option<Vec<usize>>),
    /// All rows, with some items of each of these lists.
    Items(Vec<Items>),
}

/// The remaining items of a list column.
pub(super) struct Items {
    /// Offsets of the rows among the items.
    offsets: OffsetBuffer<i32>,
    kept: BooleanArray,
    /// Which items exist at all.
    present: Option<NullBuffer>,
    /// For each item the number of items kept before it; computed on demand.
    ranks: OnceCell<Vec<usize>>,
}

impl DayRows {
    /// All rows.
    pub(super) fn all(batch: RecordBatch) -> Self {
        let rows = batch.num_rows() as u64;
        Self {
            batch,
            kept: rows,
            total: rows,
            places: Places::Rows(None),
        }
    }

    /// These rows.
    pub(super) fn these(batch: &RecordBatch, rows: Vec<usize>) -> Result<Self, DecodeError> {
        let total = batch.num_rows() as u64;
        if rows.len() == batch.num_rows() {
            return Ok(Self::all(batch.clone()));
        }
        let mut mask = vec![false; batch.num_rows()];
        rows.iter().for_each(|row| mask[*row] = true);
        let batch = filter_record_batch(batch, &BooleanArray::from(mask))?;
        Ok(Self {
            batch,
            kept: rows.len() as u64,
            total,
            places: Places::Rows(Some(rows)),
        })
    }
}

impl Places {
    /// Original position of the `row`-th row.
    pub(super) fn row(&self, row: usize) -> usize {
        match self {
            Self::Rows(Some(rows)) => rows[row],
            _ => row,
        }
    }
}

impl Items {
    /// New position of the item `index` in a row's list; none if it belongs to another day.
    pub(super) fn place(&self, row: usize, index: usize) -> Option<Place> {
        let first = (self.offsets[row] - self.offsets[0]) as usize;
        let at = first + index;
        if self
            .present
            .as_ref()
            .is_some_and(|present| present.is_null(at))
        {
            return Some(Place::Nowhere);
        }
        if !self.kept.value(at) {
            return None;
        }
        let ranks = self.ranks.get_or_init(|| {
            let mut left = 0;
            let rank = |kept| {
                left += usize::from(kept);
                left - usize::from(kept)
            };
            self.kept.values().iter().map(rank).collect()
        });
        Some(match ranks[at] - ranks[first] {
            same if same == index => Place::AsSent,
            moved => Place::Moved(moved),
        })
    }
}

/// The instants of a batch's rows, or of the readings inside them, parsed once for all days.
#[derive(Default)]
pub(super) struct Instants {
    /// Microseconds since 1970; of the rows, or of each list in its order.
    known: Vec<Vec<i64>>,
    /// Which are wanted next.
    next: usize,
}

/// The instant of absent items, which belong to no day.
const ABSENT: i64 = i64::MIN;

impl Instants {
    /// The instants of `times`. `present` tells which items exist: a null item belongs to no day.
    fn of(
        &mut self,
        times: &ArrayRef,
        present: Option<&dyn Array>,
        field: &TimeField,
    ) -> Result<&[i64], DecodeError> {
        if self.next == self.known.len() {
            let present = present.and_then(|items| items.logical_nulls());
            let is_absent = |row| present.as_ref().is_some_and(|present| present.is_null(row));
            let mut reader = InstantReader::default();
            let texts = times.as_string_opt::<i32>();
            let mut read = |row| {
                if is_absent(row) {
                    return Ok(ABSENT);
                }
                let micros = match texts {
                    Some(texts) if texts.is_valid(row) => reader.read(texts.value(row)),
                    _ => None,
                };
                match micros {
                    Some(micros) => Ok(micros),
                    None => instant(times, row, field).map(|at| at.timestamp_micros()),
                }
            };
            self.known.push(
                (0..times.len())
                    .map(&mut read)
                    .collect::<Result<_, DecodeError>>()?,
            );
        }
        self.next += 1;
        Ok(&self.known[self.next - 1])
    }
}

/// Keeps the rows of `day`. If only a part of the day was requested, keeps those that start inside `asked`: a trip
/// across two windows is returned with both, and counts in the one in which it starts.
///
/// `outside` counts rows that are far from all requested days.
pub(super) fn rows_of_day(
    batch: &RecordBatch,
    field: &TimeField,
    day: NaiveDate,
    asked: Option<Window>,
    outside: Option<&mut Outside>,
) -> Result<DayRows, DecodeError> {
    rows_of_one_day(batch, field, day, asked, outside, &mut Instants::default())
}

/// The same for one of several days of a batch; the instants are kept for the next day.
pub(super) fn rows_of_one_day(
    batch: &RecordBatch,
    field: &TimeField,
    day: NaiveDate,
    asked: Option<Window>,
    outside: Option<&mut Outside>,
    instants: &mut Instants,
) -> Result<DayRows, DecodeError> {
    instants.next = 0;
    let bounds = Bounds::of(day, asked);
    if field.is_of_record() {
        let times = times(&(Arc::new(StructArray::from(batch.clone())) as _), field)?;
        let mut far = Vec::new();
        let instants = instants.of(&times, None, field)?;
        let mask = bounds.mask(instants, outside.as_deref(), &mut far);
        if let Some(outside) = outside {
            for (row, at) in far {
                outside.add(at, || Outside::row(batch, row));
            }
        }
        return DayRows::these(
            batch,
            (0..mask.len()).filter(|row| mask.value(*row)).collect(),
        );
    }
    let rows: ArrayRef = Arc::new(StructArray::from(batch.clone()));
    let mut sorter = Sorter {
        batch,
        bounds,
        field,
        outside,
        instants,
        kept: 0,
        total: 0,
        lists: Vec::new(),
        names: Vec::new(),
    };
    let rows = sorter.filter_readings(&rows, field.steps())?;
    let columns = rows.as_struct().columns().to_vec();
    let Sorter {
        kept, total, lists, ..
    } = sorter;
    let batch = RecordBatch::try_new(batch.schema(), columns)?;
    Ok(DayRows {
        batch,
        kept,
        total,
        places: Places::Items(lists),
    })
}

/// Which rows of a feed belong to which day.
pub(super) fn rows_by_day(
    batch: &RecordBatch,
    field: &TimeField,
) -> Result<BTreeMap<NaiveDate, Vec<usize>>, DecodeError> {
    let times = times(&(Arc::new(StructArray::from(batch.clone())) as _), field)?;
    let mut days: BTreeMap<NaiveDate, Vec<usize>> = BTreeMap::new();
    for row in 0..times.len() {
        let at = instant(&times, row, field)?;
        if !INSTANTS.contains(&at.timestamp_micros()) {
            return Err(format!(
                "item {row} is not in the years 1 to 9999 by `{field}`, so it belongs to no day"
            )
            .into());
        }
        days.entry(at.date_naive()).or_default().push(row);
    }
    Ok(days)
}

/// The days that rows, or the readings inside them, belong to.
pub(super) fn days_of(
    batch: &RecordBatch,
    field: &TimeField,
) -> Result<BTreeSet<NaiveDate>, DecodeError> {
    let mut days = BTreeSet::new();
    let rows: ArrayRef = Arc::new(StructArray::from(batch.clone()));
    if field.is_of_record() {
        collect_days(&times(&rows, field)?, &[], field, &mut days)?;
    } else {
        collect_days(&rows, field.steps(), field, &mut days)?;
    }
    Ok(days)
}

fn collect_days(
    array: &ArrayRef,
    steps: &[TimeStep],
    field: &TimeField,
    days: &mut BTreeSet<NaiveDate>,
) -> Result<(), DecodeError> {
    match steps.split_first() {
        Some((TimeStep::Items, rest)) => {
            let list = array
                .as_list_opt::<i32>()
                .ok_or("`[]` must follow a list")?;
            let offsets = list.value_offsets();
            let (first, last) = (offsets[0] as usize, offsets[offsets.len() - 1] as usize);
            collect_days(&list.values().slice(first, last - first), rest, field, days)
        }
        Some((step, rest)) => {
            let fields = array
                .as_struct_opt()
                .ok_or("a field must be in an object")?;
            for (declared, column) in fields.fields().iter().zip(fields.columns()) {
                if !matches!(step, TimeStep::Field(name) if declared.name() != name) {
                    collect_days(column, rest, field, days)?;
                }
            }
            Ok(())
        }
        None => {
            for row in (0..array.len()).filter(|row| array.is_valid(*row)) {
                match instant(array, row, field) {
                    Ok(at) => _ = days.insert(at.date_naive()),
                    // It belongs to no day, and must not prevent the other rows from being read.
                    Err(error) => {
                        tracing::warn!(%error, "a record of a feed of changed days names no day")
                    }
                }
            }
            Ok(())
        }
    }
}

/// The time of each record: of several fields, the first that has a value.
pub(super) fn times(records: &ArrayRef, field: &TimeField) -> Result<ArrayRef, DecodeError> {
    let mut times = follow(records, field.steps())?;
    for path in field.paths().skip(1) {
        let is_missing = |row| {
            let is_empty = |texts: &StringArray| texts.value(row).is_empty();
            times.is_null(row) || times.as_string_opt::<i32>().is_some_and(is_empty)
        };
        let missing: BooleanArray = (0..times.len()).map(|row| Some(is_missing(row))).collect();
        if missing.has_true() {
            let other = follow(records, path)?;
            times = zip(&missing, &other, &times)?;
        }
    }
    Ok(times)
}

pub(super) fn follow(array: &ArrayRef, steps: &[TimeStep]) -> Result<ArrayRef, DecodeError> {
    let mut array = array.clone();
    for step in steps {
        let TimeStep::Field(name) = step else {
            return Err("a time is a plain field of its record".into());
        };
        array = array
            .as_struct_opt()
            .and_then(|fields| fields.column_by_name(name).cloned())
            .ok_or_else(|| format!("there is no field `{name}`"))?;
    }
    Ok(array)
}

/// Microseconds since 1970, from the first instant inside to the first one after.
struct Bounds {
    start: i64,
    end: i64,
}

impl Bounds {
    fn of(day: NaiveDate, asked: Option<Window>) -> Self {
        let whole = day_window(day);
        let asked = asked.unwrap_or(whole);
        // Times are truncated to microseconds: the first instant that is not before a bound.
        let micros = |at: DateTime<Utc>| {
            at.timestamp_micros() + i64::from(!at.timestamp_subsec_nanos().is_multiple_of(1000))
        };
        Self {
            start: micros(whole.start.max(asked.start)),
            end: micros(whole.end.min(asked.end)),
        }
    }

    /// Which instants are inside the bounds. `far` collects those that `outside` counts.
    fn mask(
        &self,
        instants: &[i64],
        outside: Option<&Outside>,
        far: &mut Vec<(usize, DateTime<Utc>)>,
    ) -> BooleanArray {
        let holds = |at: i64| self.start <= at && at < self.end;
        if let Some(outside) = outside {
            let others = instants.iter().enumerate();
            for (row, &at) in others.filter(|(_, at)| !holds(**at) && **at != ABSENT) {
                far.extend(
                    DateTime::from_timestamp_micros(at)
                        .filter(|at| outside.is_far(*at))
                        .map(|at| (row, at)),
                );
            }
        }
        let mask = BooleanBuffer::collect_bool(instants.len(), |row| holds(instants[row]));
        BooleanArray::new(mask, None)
    }
}

/// The time of one row. A row without a readable time belongs to no day; the partition fails instead of losing the row.
pub(super) fn instant(
    times: &ArrayRef,
    row: usize,
    field: &TimeField,
) -> Result<DateTime<Utc>, DecodeError> {
    if times.is_null(row) {
        return Err(format!("item {row} has no time in `{field}`, so it belongs to no day").into());
    }
    readable(times, row).ok_or_else(|| {
        format!("item {row} has no readable time in `{field}`, so it belongs to no day").into()
    })
}

/// The time of one row, if there is one and it can be read.
pub(super) fn readable(times: &ArrayRef, row: usize) -> Option<DateTime<Utc>> {
    match times.data_type() {
        _ if times.is_null(row) => None,
        DataType::Int64 => {
            DateTime::from_timestamp_millis(times.as_primitive::<Int64Type>().value(row))
        }
        _ => instant_of_text(times.as_string::<i32>().value(row))
            .and_then(DateTime::from_timestamp_micros),
    }
}

/// Keeps the list items inside the bounds, for each list on the path.
struct Sorter<'a> {
    batch: &'a RecordBatch,
    bounds: Bounds,
    field: &'a TimeField,
    outside: Option<&'a mut Outside>,
    instants: &'a mut Instants,
    kept: u64,
    total: u64,
    /// The lists in the order of their columns.
    lists: Vec<Items>,
    /// The fields on the path so far.
    names: Vec<String>,
}

impl Sorter<'_> {
    fn filter_readings(
        &mut self,
        array: &ArrayRef,
        steps: &[TimeStep],
    ) -> Result<ArrayRef, DecodeError> {
        match steps.split_first() {
            Some((TimeStep::Items, rest)) => {
                let list = array
                    .as_list_opt::<i32>()
                    .ok_or("`[]` must follow a list")?;
                Ok(Arc::new(self.filter_items(list, rest)?))
            }
            Some((step, rest)) => {
                let fields = array
                    .as_struct_opt()
                    .ok_or("a field must be in an object")?;
                let mut columns = Vec::with_capacity(fields.num_columns());
                for (declared, column) in fields.fields().iter().zip(fields.columns()) {
                    let follow = match step {
                        TimeStep::Field(name) => declared.name() == name,
                        _ => true,
                    };
                    columns.push(if follow {
                        self.names.push(declared.name().clone());
                        let filtered = self.filter_readings(column, rest)?;
                        self.names.pop();
                        filtered
                    } else {
                        column.clone()
                    });
                }
                let (names, nulls) = (fields.fields().clone(), fields.nulls().cloned());
                Ok(Arc::new(StructArray::try_new(names, columns, nulls)?) as ArrayRef)
            }
            None => Err("the path of the time does not lead to a list".into()),
        }
    }

    fn filter_items(
        &mut self,
        list: &ListArray,
        steps: &[TimeStep],
    ) -> Result<ListArray, DecodeError> {
        let offsets = list.value_offsets();
        let (first, last) = (offsets[0] as usize, offsets[offsets.len() - 1] as usize);
        let items = list.values().slice(first, last - first);
        let times = follow(&items, steps)?;
        let mut far = Vec::new();
        let instants = self.instants.of(&times, Some(&items), self.field)?;
        let mask = self
            .bounds
            .mask(instants, self.outside.as_deref(), &mut far);
        if let Some(outside) = &mut self.outside {
            for (item, at) in far {
                let row = offsets.partition_point(|offset| (*offset as usize) - first <= item) - 1;
                outside.add(at, || {
                    Outside::item(self.batch, row, &self.names.join("."), &items, item)
                });
            }
        }
        let kept = mask.true_count();
        self.kept += kept as u64;
        self.total += mask.len() as u64;
        self.lists.push(Items {
            offsets: list.offsets().clone(),
            kept: mask.clone(),
            present: items.logical_nulls(),
            ranks: OnceCell::new(),
        });
        if kept == mask.len() {
            return Ok(list.clone());
        }
        let kept = filter(&items, &mask)?;
        let lengths = (0..list.len()).map(|row| {
            let (start, end) = (
                offsets[row] as usize - first,
                offsets[row + 1] as usize - first,
            );
            mask.slice(start, end - start).true_count()
        });
        let offsets = OffsetBuffer::from_lengths(lengths);
        let item = match list.data_type() {
            DataType::List(item) => item.clone(),
            _ => Arc::new(Field::new("item", kept.data_type().clone(), true)),
        };
        Ok(ListArray::try_new(
            item,
            offsets,
            kept,
            list.nulls().cloned(),
        )?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::extract::decode::Decoder;
    use crate::samsara::Page;

    fn batch(source: &str, records: &str) -> (RecordBatch, Source) {
        let catalog = Catalog::open(None).unwrap();
        let source = catalog.source(source).unwrap().clone();
        let decoder = Decoder::new(&[&source]);
        let page = Page {
            number: 1,
            envelope: vec![],
            records: bytes::Bytes::copy_from_slice(records.as_bytes()),
            is_empty: false,
            cursor: None,
            has_next: false,
        };
        let decoded = decoder.begin(&page).unwrap().next().unwrap().unwrap();
        (decoder.rows(&decoded, 0).unwrap().batch, source)
    }

    fn day() -> NaiveDate {
        NaiveDate::from_ymd_opt(2024, 1, 1).unwrap()
    }

    #[test]
    fn readings_belong_to_their_own_day() {
        let (batch, source) = batch(
            "fleet_vehicle_stats_engineRpm",
            r#"[{"id":"1","engineRpm":[{"time":"2023-12-31T23:59:59.999Z","value":1},{"time":"2024-01-01T00:00:00Z","value":2},
                {"time":"2024-01-01T01:30:00+02:00","value":3},{"time":"2024-01-02T01:00:00+02:00","value":4}]},
                {"id":"2"},{"id":"3","engineRpm":[null]},{"id":"4","engineRpm":[]},
                {"id":"5","engineRpm":[{"time":"2024-01-01T23:59:59.999999Z","value":5},{"time":"2024-01-02T00:00:00Z","value":6}]}]"#,
        );
        let owned = rows_of_day(
            &batch,
            source.time_field.as_ref().unwrap(),
            day(),
            None,
            None,
        )
        .unwrap();
        assert_eq!((owned.kept, owned.total), (3, 7));
        // Records without the statistic are not rows of this source.
        assert_eq!(owned.batch.num_rows(), 4);
        let lists = owned
            .batch
            .column_by_name("engineRpm")
            .unwrap()
            .as_list::<i32>()
            .clone();
        let lengths: Vec<_> = (0..4)
            .map(|row| lists.is_valid(row).then(|| lists.value(row).len()))
            .collect();
        assert_eq!(lengths, [Some(2), Some(0), Some(0), Some(1)]);
        let values = lists
            .values()
            .as_struct()
            .column_by_name("value")
            .unwrap()
            .clone();
        assert_eq!(
            values
                .as_primitive::<arrow::datatypes::Float64Type>()
                .values(),
            &[2.0, 4.0, 5.0]
        );
    }

    #[test]
    fn every_list_of_an_object_is_sorted() {
        let (batch, source) = batch(
            "fleet_assets_reefers",
            r#"[{"id":1,"reeferStats":{"setPoint":[{"changedAtMs":1704067199999,"tempInMilliC":1},{"changedAtMs":1704067200000,"tempInMilliC":2}],
                "engineHours":[{"changedAtMs":1704153600000,"engineHours":3}]}},{"id":2,"reeferStats":{}},{"id":3}]"#,
        );
        let owned = rows_of_day(
            &batch,
            source.time_field.as_ref().unwrap(),
            day(),
            None,
            None,
        )
        .unwrap();
        assert_eq!((owned.kept, owned.total, owned.batch.num_rows()), (1, 3, 3));
    }

    #[test]
    fn a_row_belongs_to_its_start_day_only() {
        let rows = r#"[{"startMs":1704067199999,"endMs":1704070000000},{"startMs":1704067200000},{"startMs":1704153599999,"endMs":9223372036854775807}]"#;
        let (batch, source) = batch("fleet_trips", rows);
        let field = source.time_field.as_ref().unwrap();
        let kept: Vec<u64> = (0..3)
            .map(|n| {
                rows_of_day(&batch, field, day() + TimeDelta::days(n - 1), None, None)
                    .unwrap()
                    .kept
            })
            .collect();
        assert_eq!(kept, [1, 2, 0]);
        let days = rows_by_day(&batch, field).unwrap();
        assert_eq!(
            days.into_values().collect::<Vec<_>>(),
            [vec![0], vec![1, 2]]
        );
    }

    #[test]
    fn the_first_time_that_is_there_counts() {
        let rows = r#"[{"id":"1","scheduledRouteStartTime":"2024-01-01T08:00:00Z","actualRouteStartTime":"2024-01-02T08:00:00Z"},
            {"id":"2","actualRouteStartTime":"2024-01-01T08:00:00Z"},
            {"id":"3","scheduledRouteStartTime":"","actualRouteStartTime":"2024-01-02T00:00:00Z"}]"#;
        let (routes, source) = batch("fleet_routes", rows);
        let field = source.time_field.as_ref().unwrap();
        let days = rows_by_day(&routes, field).unwrap();
        assert_eq!(days.values().collect::<Vec<_>>(), [&vec![0, 1], &vec![2]]);
        assert_eq!(days_of(&routes, field).unwrap(), days.into_keys().collect());
        let owned = rows_of_day(&routes, field, day(), None, None).unwrap();
        assert_eq!((owned.kept, owned.total), (2, 3));
        // An unreadable time does not fall back to another field.
        for rows in [
            r#"[{"id":"1"}]"#,
            r#"[{"id":"1","scheduledRouteStartTime":"soon","actualRouteStartTime":"2024-01-01T08:00:00Z"}]"#,
        ] {
            let (routes, _) = batch("fleet_routes", rows);
            assert!(rows_by_day(&routes, field).is_err(), "{rows}");
        }
    }

    #[test]
    fn a_row_without_a_time_fails() {
        for rows in [
            r#"[{"endMs":1}]"#,
            r#"[{"startMs":"soon"}]"#,
            r#"[{"startMs":9223372036854775807}]"#,
        ] {
            let (batch, source) = batch("fleet_trips", rows);
            assert!(
                rows_of_day(
                    &batch,
                    source.time_field.as_ref().unwrap(),
                    day(),
                    None,
                    None
                )
                .is_err(),
                "{rows}"
            );
        }
        // Also on the day that it seems to name.
        for time in [
            "late in the dayZ",
            "24:00:00Z",
            "00:60:00Z",
            "00:00:61Z",
            "00:00:00.aZ",
        ] {
            let rows =
                format!(r#"[{{"id":"1","engineRpm":[{{"time":"2024-01-01T{time}","value":1}}]}}]"#);
            let (batch, source) = batch("fleet_vehicle_stats_engineRpm", &rows);
            assert!(
                rows_of_day(
                    &batch,
                    source.time_field.as_ref().unwrap(),
                    day(),
                    None,
                    None
                )
                .is_err(),
                "{rows}"
            );
        }
    }
}
