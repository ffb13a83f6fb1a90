//! Finds days that have changed because a later day's response has an end time, or a row, that they lack.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use chrono::NaiveDate;

use super::raw_rows::fold_raw_rows;
use super::run::{Run, are_there};
use crate::catalog::Source;
use crate::error::Error;
use crate::extract::{EndedRows, TaskOutcome};
use crate::state::{EndedRow, Overlap, RawState, SourceState};
use crate::store::layout::Partition;

/// Marks days as changed if a response had rows that they lack, or ends of rows that are open there.
///
/// Days that are not final are read again anyway, and days that this run reads are not compared with their old rows.
pub(super) async fn mark_changed_days(run: &Run, outcome: &TaskOutcome) -> Result<(), Error> {
    let mut shown: BTreeMap<(&str, NaiveDate), Vec<Option<EndedRow>>> = BTreeMap::new();
    for Overlap { source, day, ended } in &outcome.overlaps {
        shown.entry((source, *day)).or_default().push(*ended);
    }
    let mut changed: BTreeMap<&str, Vec<NaiveDate>> = BTreeMap::new();
    for ((name, day), rows) in shown {
        let source = run.catalog.known_source(name)?;
        if has_changed(run, source, day, &rows).await? {
            changed.entry(name).or_default().push(day);
        }
    }
    for (name, days) in changed {
        tracing::info!(
            source = name,
            ?days,
            "rows of these days have ended since, or are new: the days are read again"
        );
        let at = outcome.extracted_at;
        let mark = move |state: &mut SourceState| {
            for day in days {
                let found = state.partition_mut(Partition::Day(day));
                found.changed.get_or_insert(at);
            }
        };
        run.states.source(name).await?.commit(mark).await?;
    }
    Ok(())
}

/// Whether a final day lacks one of these rows; `None` stands for open rows.
async fn has_changed(
    run: &Run,
    source: &Source,
    day: NaiveDate,
    rows: &[Option<EndedRow>],
) -> Result<bool, Error> {
    let (name, partition) = (source.name.as_str(), Partition::Day(day));
    let handle = run.states.source(name).await?;
    let known = handle.look(|state| {
        let found = state
            .partition(partition)
            .filter(|found| found.changed.is_none())?;
        let is_final = crate::plan::is_settled(source, day, found);
        Some((found.raw.clone()?, found.open_rows)).filter(|_| is_final)
    });
    let Some((raw, open_rows)) = known else {
        return Ok(false);
    };
    let is_to_be_read =
        run.plan.days_of(name).contains(&day) && !run.has_extracted(name, partition);
    if is_to_be_read {
        return Ok(false);
    }
    // Open rows are not compared: each day returns them until they end.
    let is_new = rows.contains(&None) && open_rows == 0;
    let ended: Vec<EndedRow> = rows.iter().filter_map(|row| *row).collect();
    Ok(is_new || !ended.is_empty() && lacks(run, source, &raw, &ended).await?)
}

/// Whether one of these rows is missing in the day, or has no end or another end there.
async fn lacks(
    run: &Run,
    source: &Source,
    raw: &RawState,
    rows: &[EndedRow],
) -> Result<bool, Error> {
    if !are_there(&run.raw, &raw.objects).await? {
        // Reading the day again puts them back.
        return Ok(true);
    }
    let columns: Vec<String> = EndedRows::columns(source)
        .iter()
        .map(|name| format!("\"{name}\""))
        .collect();
    let sql = format!("SELECT {} FROM raw.\"{}\"", columns.join(", "), source.name);
    let (of, read) = (source.clone(), raw.extracted_at);
    let add = move |known: &mut EndedRows, batch: &RecordBatch| Ok(known.add(batch, &of, read)?);
    match fold_raw_rows(run, source, &raw.objects, sql, add).await {
        Ok(known) => Ok(rows.iter().any(|row| !known.contains(row))),
        // For example written with another schema: reading the day again fixes that.
        Err(error) => {
            tracing::warn!(%error, "the rows of a day cannot be compared, so it is read again");
            Ok(true)
        }
    }
}
