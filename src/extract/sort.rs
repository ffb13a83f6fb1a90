//! Sorts the rows of a page by source and partition.

use arrow::array::RecordBatch;
use chrono::{DateTime, NaiveDate, Utc};

use super::assign_day::{DayRows, Instants, partition_window, rows_by_day, rows_of_one_day};
use super::decode::{Decoded, Decoder, Envelope, Rows, Stamp};
use super::decode_error::DecodeError;
use super::fetch::FetchedPage;
use super::intervals::open_rows;
use super::outside::Outside;
use super::request::{ExtractTask, Scope};
use crate::samsara::{Request, Window};
use crate::store::layout::Partition;

/// Rows with their owner.
pub(super) struct Sorted {
    /// The source of the task.
    pub(super) source_index: usize,
    pub(super) partition: Partition,
    /// The raw rows as they are written.
    pub(super) batch: RecordBatch,
    /// Rows, or readings inside rows, that the partition owns.
    pub(super) kept: u64,
    /// The same, including those of other days.
    pub(super) total: u64,
    /// Values in `_rescued_data`.
    pub(super) rescued: u64,
    /// Rows and readings that have no end yet.
    pub(super) open: u64,
}

/// Rows of a partition, and how many of all rows or readings they are.
type Owned = (Partition, DayRows, (u64, u64));

/// Sorts the rows of one page.
pub(super) struct Sorter<'a> {
    decoder: &'a Decoder,
    task: &'a ExtractTask,
    extracted_at: DateTime<Utc>,
    parent: Option<&'a str>,
    asked: Option<Window>,
    request: &'a Request,
    /// Each source stores the envelope fields with its first row of the page.
    envelopes: Vec<Envelope>,
    /// For each source the rows far outside the requested days; none for a list, or for a feed.
    outsides: Vec<Option<Outside>>,
}

impl<'a> Sorter<'a> {
    pub(super) fn new(
        decoder: &'a Decoder,
        task: &'a ExtractTask,
        extracted_at: DateTime<Utc>,
        fetched: &'a FetchedPage,
    ) -> Self {
        let window = match &task.scope {
            Scope::Days(_) => task.window(),
            _ => None,
        };
        let outsides = task.sources.iter();
        Self {
            decoder,
            task,
            extracted_at,
            parent: fetched.parent.as_deref(),
            asked: fetched.asked,
            request: &fetched.request,
            envelopes: vec![fetched.page.envelope.clone(); task.sources.len()],
            outsides: outsides
                .map(|source| Some(Outside::of(source, window?)))
                .collect(),
        }
    }

    /// Assigns each row to the one source and partition that it belongs to.
    pub(super) fn sort(&mut self, decoded: &Decoded<'_>) -> Result<Vec<Sorted>, DecodeError> {
        let mut sorted = Vec::new();
        for source_index in 0..self.task.sources.len() {
            let rows = self.decoder.rows(decoded, source_index)?;
            for owned in self.owned(source_index, &rows)? {
                sorted.push(self.stamp(decoded, source_index, &rows, owned)?);
            }
        }
        Ok(sorted)
    }

    /// Whether no source had a row to store the page's envelope fields with.
    pub(super) fn has_envelope_left(&self) -> bool {
        self.envelopes.iter().all(|envelope| !envelope.is_empty())
    }

    /// Rows far outside the requested days, by source of the task.
    pub(super) fn into_outsides(self) -> impl Iterator<Item = (usize, Outside)> {
        let found = self.outsides.into_iter().enumerate();
        found.filter_map(|(source_index, outside)| {
            Some((source_index, outside.filter(|it| it.count > 0)?))
        })
    }

    /// The rows of each partition of a source.
    fn owned(&mut self, source_index: usize, rows: &Rows) -> Result<Vec<Owned>, DecodeError> {
        let (source, batch) = (&self.task.sources[source_index], &rows.batch);
        // How many rows, or readings inside rows, belong to the days, and how many there are.
        let (mut owned, mut of) = (0, 0);
        let mut found = Vec::new();
        match (&self.task.scope, &source.time_field) {
            (Scope::Updates { .. }, None) if batch.num_rows() == 0 => {}
            (Scope::Snapshot, _) | (Scope::Updates { .. }, None) => {
                let all = DayRows::all(batch.clone());
                found.push((Partition::Snapshot, all, (0, 0)));
            }
            (Scope::Days(days), field) => {
                // Once is enough: what is far from one requested day is far from all of them.
                let mut outside = self.outsides[source_index].as_mut();
                let mut instants = Instants::default();
                for day in days {
                    let rows = match field {
                        Some(field) => rows_of_one_day(
                            batch,
                            field,
                            *day,
                            self.asked,
                            outside.take(),
                            &mut instants,
                        )?,
                        // Without a time, all rows belong to the requested day.
                        None => DayRows::all(batch.clone()),
                    };
                    let (kept, total) = (rows.kept, rows.total);
                    (owned, of) = (owned + kept, total);
                    found.push((Partition::Day(*day), rows, (kept, total)));
                }
            }
            (Scope::Updates { born_before, .. }, Some(field)) => {
                for (day, its_rows) in rows_by_day(batch, field)? {
                    // Records created later are read when their day is requested.
                    if born_before.is_none_or(|end| day < end) {
                        let rows = DayRows::these(batch, its_rows)?;
                        found.push((Partition::Day(day), rows, (0, 0)));
                    }
                }
            }
            (Scope::Feed { .. }, field) => {
                let field = field.as_ref().ok_or("a feed needs a time_field")?;
                of = batch.num_rows() as u64;
                for (day, its_rows) in rows_by_day(batch, field)? {
                    // The window of the row's day, as for sources that are requested by day.
                    let rows = DayRows::these(batch, its_rows)?;
                    owned += rows.kept;
                    found.push((Partition::Day(day), rows, (0, 0)));
                }
                if owned < of {
                    return Err(format!("of {of} rows only {owned} are owned by a day").into());
                }
            }
        }
        if owned > of {
            return Err(format!(
                "of {of} rows or readings {owned} are owned: some by more than one day"
            )
            .into());
        }
        Ok(found)
    }

    fn stamp(
        &mut self,
        decoded: &Decoded<'_>,
        source_index: usize,
        rows: &Rows,
        (partition, owned, (kept, total)): Owned,
    ) -> Result<Sorted, DecodeError> {
        let source = &self.task.sources[source_index];
        let asked = self.request.asked(source);
        let stamp = Stamp {
            window: partition.day().map(|day| partition_window(source, day)),
            parent: self.parent,
            asked: &asked,
            extracted_at: self.extracted_at,
        };
        let envelope = &mut self.envelopes[source_index];
        let (batch, rescued) =
            self.decoder
                .stamp(decoded, source_index, rows, &owned, stamp, envelope)?;
        let open = open_rows(&batch, source, self.extracted_at)?;
        Ok(Sorted {
            source_index,
            partition,
            batch,
            kept,
            total,
            rescued,
            open,
        })
    }
}

/// Leaves out rows of `until` and later days, and returns whether there were any.
pub(super) fn leave_out_after(until: Option<NaiveDate>, sorted: &mut Vec<Sorted>) -> bool {
    let Some(until) = until else {
        return false;
    };
    let before = sorted.len();
    sorted.retain(|rows| rows.partition.day().is_none_or(|day| day < until));
    sorted.len() < before
}
