//! Sources requested by time of last change: the records of each window are added to the days on which they were
//! created, in the same commit that moves the position.
//!
//! Windows overlap, so most records are known already. Such rows are dropped before the commit; a committed version is
//! never removed. So the rows of a day are a set of versions, however often and in whatever order its windows are read,
//! and so are the tables made of them.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Fields};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::commit_raw::{discard, observe, raw_state};
use super::raw_rows::{fold_raw_rows, raw_table};
use super::resumable::read_window;
use super::run::{Ready, Run};
use crate::catalog::{FieldPath, JSON_TYPE, PathStep, Source};
use crate::error::Error;
use crate::extract::{ExtractTask, Extracted, Extractor, Scope, TaskOutcome, raw_schema};
use crate::plan::UpdatesWindow;
use crate::samsara::ParentRow;
use crate::samsara::Window;
use crate::state::{PartitionState, RawState, SourceHandle, Updates};
use crate::store::layout::raw_object;
use crate::store::{ObjectRef, TableWriter};
use crate::transform::{DataError, query};

/// Memory for reading the rows of a day.
const MEMORY: usize = 256 << 20;
/// The rows of a day are compacted into one object when they are in more objects than this.
const MOST_OBJECTS: usize = 32;
/// Columns that differ at each read of the same version.
const STAMPS: [&str; 3] = ["_window_start", "_window_end", "_extracted_at"];
/// A position that moved by less is not written by itself: it is cheaper to read that much again.
const WORTH_A_WRITE: TimeDelta = TimeDelta::hours(6);

/// Reads windows one after another, each committed before the next. Partitions with new rows go into `touched`, which
/// keeps them if a later window fails.
pub(super) async fn read_updates(
    run: &Run,
    extractor: &Extractor,
    source: &Source,
    parents: &[ParentRow],
    windows: &[UpdatesWindow],
    touched: &mut BTreeSet<Ready>,
) -> Result<(), Error> {
    for window in windows {
        if run.shutdown.is_cancelled() {
            break;
        }
        let scope = Scope::Updates {
            window: Window {
                start: window.start,
                end: window.end,
            },
            born_before: window.born_before,
        };
        let task = Arc::new(ExtractTask {
            sources: vec![source.clone()],
            scope,
            parents: parents.to_vec(),
        });
        let outcome = read_window(run, extractor, &task, window).await?;
        touched.extend(commit(run, extractor, source, &outcome, window.position.clone()).await?);
    }
    Ok(())
}

/// What a window brings to one partition.
struct Added {
    raw: RawState,
    /// All objects of the partition from now on.
    objects: Vec<ObjectRef>,
    extracted: Extracted,
}

/// The rows of a window, merged with those known before.
#[derive(Default)]
struct MergedWindow {
    /// Partitions that change.
    added: Vec<Added>,
    /// Objects that the state no longer lists after the commit.
    unreferenced: Vec<ObjectRef>,
}

/// Adds the new rows to their partitions, and moves the position, in one commit.
async fn commit(
    run: &Run,
    extractor: &Extractor,
    source: &Source,
    outcome: &TaskOutcome,
    position: Option<Updates>,
) -> Result<Vec<Ready>, Error> {
    let handle = run.states.source(&source.name).await?;
    let merged = merge_partitions(run, extractor, source, outcome, &handle).await?;
    let (known, is_due) = handle.look(|state| {
        let has_more = state.not_available.is_some() || state.unfinished.is_some();
        (state.updates.clone(), has_more)
    });
    let moves = position
        .as_ref()
        .is_some_and(|position| is_moved(known.as_ref(), position));
    if moves || is_due || !merged.added.is_empty() {
        let changes: Vec<_> = merged
            .added
            .iter()
            .map(|it| (it.extracted.partition, it.raw.clone(), it.objects.clone()))
            .collect();
        handle
            .commit(move |state| {
                (state.not_available, state.unfinished) = (None, None);
                for (partition, raw, objects) in changes {
                    add_raw(state.partition_mut(partition), raw, objects);
                }
                if position.is_some() {
                    state.updates = position;
                }
            })
            .await?;
    }
    // Only now does the state list other objects instead.
    discard(&run.raw, &merged.unreferenced).await;
    for it in &merged.added {
        observe(run, &it.extracted, &it.raw, false);
    }
    let ready = merged
        .added
        .into_iter()
        .map(|it| (it.extracted.source, it.extracted.partition));
    Ok(ready.collect())
}

/// Merges the rows of a window with those of their partitions. Partitions without new rows are reported at once.
async fn merge_partitions(
    run: &Run,
    extractor: &Extractor,
    source: &Source,
    outcome: &TaskOutcome,
    handle: &SourceHandle,
) -> Result<MergedWindow, Error> {
    let mut all = MergedWindow::default();
    for (index, extracted) in outcome.partitions.iter().enumerate() {
        let before = handle.look(|state| {
            let found = state.partition(extracted.partition)?;
            Some(found.raw.as_ref()?.objects.clone())
        });
        let raw = raw_state(outcome, extracted, index == 0);
        let known = before.clone().unwrap_or_default();
        let merged = merge(run, extractor, source, extracted, known).await?;
        all.unreferenced.extend(merged.unreferenced);
        let told = Extracted {
            objects: merged.new,
            ..extracted.clone()
        };
        if Some(&merged.objects) == before.as_ref() {
            observe(run, &told, &raw, true);
            continue;
        }
        all.added.push(Added {
            raw,
            objects: merged.objects,
            extracted: told,
        });
    }
    Ok(all)
}

/// Adds the counts of a window to a partition, which has these objects from now on.
fn add_raw(found: &mut PartitionState, raw: RawState, objects: Vec<ObjectRef>) {
    found.failure = None;
    let before = found.raw.take();
    let (records, rescued) = before.map_or((0, 0), |before| (before.records, before.rescued));
    found.raw = Some(RawState {
        objects,
        records: records + raw.records,
        rescued: rescued + raw.rescued,
        ..raw
    });
}

/// Whether a position has to be written.
fn is_moved(before: Option<&Updates>, position: &Updates) -> bool {
    let far = |from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>| match (from, to) {
        (Some(from), Some(to)) => to - from > WORTH_A_WRITE,
        (from, to) => from != to,
    };
    before.is_none_or(|before| {
        before.from != position.from
            || far(Some(before.until), Some(position.until))
            || far(before.checked, position.checked)
    })
}

/// The result of merging a window into one partition.
struct Merged {
    /// All objects of the partition.
    objects: Vec<ObjectRef>,
    /// Those of them with rows of this window.
    new: Vec<ObjectRef>,
    /// Objects to discard.
    unreferenced: Vec<ObjectRef>,
}

/// Adds the rows of a window to a partition, except those that it has already.
async fn merge(
    run: &Run,
    extractor: &Extractor,
    source: &Source,
    extracted: &Extracted,
    before: Vec<ObjectRef>,
) -> Result<Merged, Error> {
    let came = &extracted.objects;
    if before.is_empty() {
        return Ok(Merged {
            objects: came.clone(),
            new: came.clone(),
            unreferenced: Vec::new(),
        });
    }
    run.raw.expect(&before).await?;
    let known = digests(run, source, &before).await?;
    let found = digests(run, source, came).await?;
    let rows: u64 = came.iter().map(|object| object.rows).sum();
    let new = found.difference(&known).count() as u64;
    if new == 0 {
        return Ok(Merged {
            objects: before,
            new: Vec::new(),
            unreferenced: came.clone(),
        });
    }
    let is_scattered = before.len() + came.len() > MOST_OBJECTS;
    if new == rows && !is_scattered {
        return Ok(Merged {
            objects: [&before[..], came].concat(),
            new: came.clone(),
            unreferenced: Vec::new(),
        });
    }
    let number = extractor
        .objects
        .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let key = raw_object(&source.name, extracted.partition, &run.id, number);
    let mut writer = TableWriter::begin_raw(&run.raw, key, raw_schema(source))?;
    if is_scattered {
        copy(run, source, &before, &mut writer, HashSet::new()).await?;
    }
    copy(run, source, came, &mut writer, known).await?;
    let written = writer.finish().await?;
    let (objects, unreferenced) = if is_scattered {
        (vec![written.clone()], [&before[..], came].concat())
    } else {
        (
            [&before[..], std::slice::from_ref(&written)].concat(),
            came.clone(),
        )
    };
    Ok(Merged {
        objects,
        new: vec![written],
        unreferenced,
    })
}

/// Copies the rows that are not among `seen`, each version once.
async fn copy(
    run: &Run,
    source: &Source,
    objects: &[ObjectRef],
    writer: &mut TableWriter,
    mut seen: HashSet<u128>,
) -> Result<(), Error> {
    let table = raw_table(run, source, objects);
    let mut rows = query(&all_rows(source), &[table], MEMORY).await?;
    let shape = Shape::of(source);
    while let Some(batch) = rows.next().await? {
        let digests = shape.digests(&batch)?;
        let kept: BooleanArray = digests
            .into_iter()
            .map(|digest| Some(seen.insert(digest)))
            .collect();
        let batch = filter_record_batch(&batch, &kept).map_err(DataError::from)?;
        let batch = batch
            .with_schema(raw_schema(source))
            .map_err(DataError::from)?;
        writer.write(&batch).await?;
    }
    Ok(())
}

/// The digests of all versions in some objects.
async fn digests(
    run: &Run,
    source: &Source,
    objects: &[ObjectRef],
) -> Result<HashSet<u128>, Error> {
    let shape = Shape::of(source);
    let add = move |found: &mut HashSet<u128>, batch: &RecordBatch| {
        found.extend(shape.digests(batch)?);
        Ok(())
    };
    let sql = all_rows(source);
    Ok(fold_raw_rows(run, source, objects, sql, add).await?)
}

fn all_rows(source: &Source) -> String {
    format!("SELECT * FROM raw.\"{}\"", source.name)
}

/// The columns that distinguish versions of a row.
struct Shape {
    fields: Fields,
    expiring: Vec<FieldPath>,
}

impl Shape {
    fn of(source: &Source) -> Self {
        Self {
            fields: source.fields.clone(),
            expiring: source.expiring.clone(),
        }
    }

    /// A digest of each row without the columns and values that differ at each read.
    fn digests(&self, batch: &RecordBatch) -> Result<Vec<u128>, DataError> {
        let kept: Vec<usize> = (0..batch.num_columns())
            .filter(|index| !STAMPS.contains(&batch.schema().field(*index).name().as_str()))
            .collect();
        let batch = batch.project(&kept)?;
        let mut writer = arrow_json::LineDelimitedWriter::new(Vec::new());
        writer.write(&batch)?;
        writer.finish()?;
        let text = writer.into_inner();
        let rows: Vec<u128> = serde_json::Deserializer::from_slice(&text)
            .into_iter::<Value>()
            .map(|row| {
                let mut row = row?;
                parse_json(&mut row, &self.fields);
                for path in &self.expiring {
                    blank(&mut row, path.steps());
                }
                Ok(digest(&row))
            })
            .collect::<Result<_, DataError>>()?;
        if rows.len() == batch.num_rows() {
            Ok(rows)
        } else {
            let (given, digests) = (batch.num_rows(), rows.len());
            Err(format!("{given} rows gave {digests} digests").into())
        }
    }
}

/// Parses the text of columns of type JSON.
fn parse_json(value: &mut Value, fields: &Fields) {
    let Value::Object(members) = value else {
        return;
    };
    for field in fields {
        if let Some(member) = members.get_mut(field.name()) {
            parse_field(member, field);
        }
    }
}

fn parse_field(value: &mut Value, field: &Field) {
    if field.metadata().contains_key(JSON_TYPE) {
        let parsed = value
            .as_str()
            .and_then(|text| serde_json::from_str(text).ok());
        if let Some(parsed) = parsed {
            *value = parsed;
        }
        return;
    }
    match (field.data_type(), &mut *value) {
        (DataType::Struct(inner), value) => parse_json(value, inner),
        (DataType::List(item), Value::Array(items)) => {
            items.iter_mut().for_each(|value| parse_field(value, item));
        }
        _ => {}
    }
}

/// Replaces the value at a path by its kind, so that a link that appears or disappears still counts as a change.
fn blank(value: &mut Value, steps: &[PathStep]) {
    match (steps.split_first(), value) {
        (None, value) => {
            *value = match value {
                Value::String(_) => Value::from("text"),
                Value::Number(_) => Value::from(0),
                _ => return,
            }
        }
        (Some((PathStep::Field(name), rest)), Value::Object(members)) => {
            if let Some(member) = members.get_mut(name) {
                blank(member, rest);
            }
        }
        (Some((PathStep::Items, rest)), Value::Array(items)) => {
            items.iter_mut().for_each(|item| blank(item, rest));
        }
        _ => {}
    }
}

fn digest(row: &Value) -> u128 {
    let digest = Sha256::digest(row.to_string());
    digest
        .iter()
        .take(16)
        .fold(0, |sum, byte| (sum << 8) | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::extract::decode_page;

    #[test]
    fn a_version_is_known_again_and_another_is_not() {
        let catalog = Catalog::open(None).unwrap();
        let source = catalog.source("issues").unwrap();
        let digest = |record: &str| {
            let records = bytes::Bytes::from(format!("[{record}]"));
            let (batch, _) = decode_page(source, records, None, None).unwrap();
            Shape::of(source).digests(&batch).unwrap()[0]
        };
        let first = r#"{"id":"1","title":"t","updatedAtTime":"2024-01-01T00:00:00Z","mediaList":[{"id":"m","url":"u?sig=1","urlExpiresAt":"x"}],"new":1}"#;
        assert_eq!(digest(first), digest(&first.replace("sig=1", "sig=2")));
        assert_eq!(digest(first), digest(&first.replace(r#""x""#, r#""y""#)));
        for other in [
            first.replace(r#""t""#, r#""other""#),
            first.replace("00:00:00Z", "00:00:01Z"),
            first.replace(r#""m""#, r#""n""#),
            first.replace(r#","url":"u?sig=1""#, ""),
            first.replace(r#""new":1"#, r#""new":2"#),
            first.replace(r#""title":"t","#, ""),
        ] {
            assert_ne!(digest(first), digest(&other), "{other}");
        }
    }

    #[test]
    fn a_position_is_written_when_it_has_moved_far() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let updates = |until: &str, checked: Option<&str>| Updates {
            from: at("2024-01-01T00:00:00Z"),
            until: at(until),
            checked: checked.map(at),
        };
        let before = updates("2024-02-01T00:00:00Z", None);
        for (position, moves) in [
            (updates("2024-02-01T05:00:00Z", None), false),
            (updates("2024-02-01T07:00:00Z", None), true),
            (
                updates("2024-02-01T00:00:00Z", Some("2024-02-01T01:00:00Z")),
                true,
            ),
            (
                Updates {
                    from: at("2023-12-31T00:00:00Z"),
                    ..before.clone()
                },
                true,
            ),
        ] {
            assert_eq!(is_moved(Some(&before), &position), moves, "{position:?}");
        }
        assert!(is_moved(None, &before));
    }
}
