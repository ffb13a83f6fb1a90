//! Queries over committed raw rows during a run.

use std::collections::BTreeSet;

use arrow::array::{Array, AsArray, RecordBatch};

use super::run::{Run, shrunken};
use crate::catalog::{Catalog, Parent, Source};
use crate::error::{Error, UpstreamError};
use crate::extract::raw_schema;
use crate::samsara::ParentRow;
use crate::state::RawState;
use crate::store::ObjectRef;
use crate::store::layout::Partition;
use crate::transform::{DataError, QueryTable, TransformError, query};

/// Memory for such a query.
const QUERY_MEMORY: usize = 256 << 20;

/// Runs a query over raw objects of a source on the CPU threads, and folds its batches.
pub(super) async fn fold_raw_rows<T: Default + Send + 'static>(
    run: &Run,
    source: &Source,
    objects: &[ObjectRef],
    sql: String,
    add: impl Fn(&mut T, &RecordBatch) -> Result<(), DataError> + Send + 'static,
) -> Result<T, TransformError> {
    let table = raw_table(run, source, objects);
    let folding = run.cpu.spawn(async move {
        let mut result = query(&sql, &[table], QUERY_MEMORY).await?;
        let mut sum = T::default();
        while let Some(batch) = result.next().await? {
            add(&mut sum, &batch)?;
        }
        Ok(sum)
    });
    folding.await.unwrap_or_else(|error| {
        Err(TransformError::Task {
            what: format!("{}: reading its raw rows", source.name),
            error,
        })
    })
}

/// Raw objects of a source as a table.
pub(super) fn raw_table(run: &Run, source: &Source, objects: &[ObjectRef]) -> QueryTable {
    QueryTable {
        raw: true,
        name: source.name.clone(),
        schema: raw_schema(source),
        bucket: run.raw.clone(),
        objects: objects.to_vec(),
    }
}

/// The requested rows of a parent's committed list, sorted by the values that go into requests.
pub(super) async fn parent_rows(run: &Run, parent: &Parent) -> Result<Vec<ParentRow>, Error> {
    let (name, field) = (parent.source.as_str(), parent.field.as_str());
    let source = run.catalog.known_source(name)?;
    let raw = usable_list(run, source).await?;
    run.raw.expect(&raw.objects).await?;
    let columns: Vec<String> = [&parent.field]
        .into_iter()
        .chain(parent.with.values())
        .map(|name| format!("CAST(\"{name}\" AS VARCHAR)"))
        .collect();
    // An expression can get an alias only if it occurs once.
    let columns: Vec<String> = (0..)
        .zip(columns)
        .map(|(number, column)| format!("{column} AS field{number}"))
        .collect();
    let sql = format!(
        "SELECT DISTINCT {} FROM raw.\"{name}\" WHERE \"{field}\" IS NOT NULL{}",
        columns.join(", "),
        conditions(parent)
    );
    let add = |rows: &mut BTreeSet<ParentRow>, batch: &RecordBatch| {
        let text = |column: usize, row: usize| {
            let texts = batch.column(column).as_string_opt::<i32>();
            let texts = texts.filter(|texts| texts.is_valid(row));
            texts.map_or("", |texts| texts.value(row)).to_string()
        };
        let with = |row| {
            (1..batch.num_columns())
                .map(|column| text(column, row))
                .collect()
        };
        rows.extend((0..batch.num_rows()).map(|row| ParentRow {
            with: with(row),
            id: text(0, row),
        }));
        Ok(())
    };
    let rows: BTreeSet<ParentRow> = fold_raw_rows(run, source, &raw.objects, sql, add).await?;
    // An empty id identifies nothing: a request without it would ask for everything, or for another path.
    let (rows, blank): (Vec<ParentRow>, Vec<ParentRow>) =
        rows.into_iter().partition(|row| !row.id.trim().is_empty());
    if !blank.is_empty() {
        tracing::warn!(
            source = name,
            field,
            "rows without an id: nothing is requested for them"
        );
    }
    Ok(rows)
}

/// The table that `--accept-shrunken` must name for a list: its own model, or else one that reads it.
pub(super) fn guarded_table<'a>(catalog: &'a Catalog, source: &'a str) -> &'a str {
    let own = catalog.model(source);
    let model = own.or_else(|| catalog.models_of(source).next());
    model.map_or(source, |model| model.name.as_str())
}

/// Which rows of a parent are requested, as a part of a query's condition.
fn conditions(parent: &Parent) -> String {
    let quoted = |value: &String| format!("'{}'", value.replace('\'', "''"));
    let is_one = |(name, values): (&String, &Vec<String>)| {
        let values: Vec<String> = values.iter().map(quoted).collect();
        let values = values.join(", ");
        format!("coalesce(CAST(\"{name}\" AS VARCHAR) IN ({values}), FALSE)")
    };
    let only = parent.only.iter().map(is_one);
    let except = parent.except.iter().map(|it| format!("NOT {}", is_one(it)));
    only.chain(except)
        .map(|condition| format!(" AND {condition}"))
        .collect()
}

/// The committed list of a parent whose rows may be requested: its last attempt succeeded, and the row-count guard
/// accepts it.
async fn usable_list(run: &Run, source: &Source) -> Result<RawState, Error> {
    let name = source.name.as_str();
    let handle = run.states.source(name).await?;
    let found = handle
        .look(|state| state.partition(Partition::Snapshot).cloned())
        .unwrap_or_default();
    let before = shrunken(run, name, &found);
    // Ids of an older list would miss new vehicles or drivers, and the days would count as complete.
    let Some(raw) = found.raw.filter(|_| found.failure.is_none()) else {
        let source_name = name.to_string();
        return Err(UpstreamError::ParentFailed { source_name }.into());
    };
    // The same holds for the few ids of a list that the guard refuses.
    let Some(before) = before else {
        return Ok(raw);
    };
    Err(UpstreamError::ParentShrunken {
        source_name: name.into(),
        table: guarded_table(&run.catalog, name).into(),
        rows: raw.rows(),
        before,
    }
    .into())
}
