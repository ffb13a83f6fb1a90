//! Versions of the rows of lists (slowly changing dimension, type 2), derived from successive lists.
//!
//! A version is opened when a row is first seen, or has changed, and closed when the next one is opened. A row that is
//! gone from the list is closed too, and its last values are opened again as deleted: so the rows without `valid_to`
//! are everything ever known, in its current state, including what Samsara has removed.

use std::collections::BTreeSet;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use chrono::{DateTime, Utc};
use datafusion::common::DataFusionError;
use datafusion::prelude::SessionContext;
use sha2::{Digest, Sha256};

use super::contract::{IS_DELETED, VALID_FROM, VALID_TO};
use super::{
    Checks, Contract, DataError, Fingerprint, Flattened, TransformError, Transformer, Written,
    quote, select, session,
};
use crate::catalog::Model;
use crate::state::Sha256Digest;
use crate::store::ObjectRef;
use crate::store::layout::{Partition, RunId};

/// The inputs of a history table.
#[derive(Debug, Clone)]
pub struct Snapshots {
    /// The flattened objects of the current list.
    pub current: Vec<ObjectRef>,
    /// The objects with all versions so far; none at first.
    pub versions: Vec<ObjectRef>,
    /// When the list was read.
    pub at: DateTime<Utc>,
}

/// Fingerprint of everything that a history table depends on: its contract, and the list that was compared last.
pub fn history_fingerprint(history: &Contract, current: &Fingerprint) -> Fingerprint {
    let begun = |contract: Vec<u8>| Sha256::new().chain_update(contract);
    let earlier = begun(history.digested_with_descriptions());
    let digest = begun(history.digested()).chain_update(current.current.to_hex());
    Fingerprint {
        current: Sha256Digest::of(digest),
        earlier: (earlier, current.earlier().to_hex().into_bytes()),
    }
}

impl Transformer {
    /// All versions of a list's rows, including those that its current rows open and close.
    ///
    /// `is_shrunken(rows, before)` is the row-count guard: whether a list of `rows` rows after one of `before` must be
    /// refused, since a token that is suddenly limited to some tags has deleted nothing.
    pub async fn versions(
        &self,
        model: &Model,
        history: &Contract,
        snapshots: &Snapshots,
        run: &RunId,
        is_shrunken: impl Fn(u64, u64) -> bool,
    ) -> Result<Flattened, TransformError> {
        let partition = Partition::Snapshot;
        let failed = |error: DataError| TransformError::Data {
            model: history.table.clone(),
            partition,
            error,
        };
        let engine = |error: DataFusionError| failed(error.into());
        let context = session::session(self.runtime.clone()).map_err(engine)?;
        let before = self.register_snapshots(&context, model, history, snapshots);
        let before = before.await?;
        let keys = &model.front_matter.unique_key;
        if let Some(key) = keys.iter().find(|key| before.field_with_name(key).is_err()) {
            let reason = "is in unique_key now, but the stored versions have no such column";
            return Err(failed(
                format!("`{key}` {reason}: give the model a new name").into(),
            ));
        }
        let rows = snapshots.current.iter().map(|object| object.rows).sum();
        check_current(&context, model, rows, is_shrunken)
            .await
            .map_err(failed)?;
        let sql = versions_sql(history, keys, &before, snapshots.at);
        let frame = select(&context, &sql).await.map_err(engine)?;
        let rows = session::execute(&context, frame).await.map_err(engine)?;
        // The list was already checked by the guard when it was derived.
        let checks = Checks {
            unique_key: &[],
            watched: None,
            hides: false,
            first_object: 0,
            only_without_duplicates: false,
        };
        match self.write(rows, history, partition, run, checks).await? {
            Written::Whole(flattened) => Ok(flattened),
            Written::Duplicates { .. } => {
                Err(failed("its versions were not written".to_string().into()))
            }
        }
    }

    /// Registers `raw.versions` and `raw.current`; returns the columns of the stored versions.
    async fn register_snapshots(
        &self,
        context: &SessionContext,
        model: &Model,
        history: &Contract,
        snapshots: &Snapshots,
    ) -> Result<SchemaRef, TransformError> {
        let partition = Partition::Snapshot;
        let failed = |error: DataError| TransformError::Data {
            model: history.table.clone(),
            partition,
            error,
        };
        let columns = async |object: &ObjectRef| {
            let columns = session::columns_of(context, &self.flattened, &object.path);
            columns.await.map_err(|error| failed(error.into()))
        };
        let before = match snapshots.versions.first() {
            Some(object) => columns(object).await?,
            None => history.schema(),
        };
        let Some(object) = snapshots.current.first() else {
            return Err(failed(
                format!("{} has not been derived yet", model.name).into(),
            ));
        };
        let now = columns(object).await?;
        for (name, schema, objects) in [
            ("versions", &before, &snapshots.versions),
            ("current", &now, &snapshots.current),
        ] {
            session::expect(&self.runtime, &self.flattened, objects)
                .await
                .map_err(|error| TransformError::Store {
                    model: history.table.clone(),
                    partition,
                    error,
                })?;
            let schema = schema.clone();
            let bucket = &self.flattened;
            session::register(context, session::RAW, name, schema, bucket, objects)
                .await
                .map_err(|error| failed(error.into()))?;
        }
        Ok(before)
    }
}

/// Refuses a list of `rows` rows that cannot be the whole list, or has duplicate keys.
async fn check_current(
    context: &SessionContext,
    model: &Model,
    rows: u64,
    is_shrunken: impl Fn(u64, u64) -> bool,
) -> Result<(), DataError> {
    let name = &model.name;
    let keys = model.front_matter.unique_key.iter();
    let keys: Vec<String> = keys.map(|key| quote(key)).collect();
    let keys = keys.join(", ");
    let duplicates = format!(
        "SELECT count(*) FROM (SELECT 1 FROM raw.current GROUP BY {keys} HAVING count(*) > 1)"
    );
    let duplicates = count(context, &duplicates).await?;
    if duplicates > 0 {
        return Err(format!(
            "{duplicates} duplicate keys ({keys}) in {name}; unique_key must be unique"
        )
        .into());
    }
    let open =
        format!("SELECT count(*) FROM raw.versions WHERE {VALID_TO} IS NULL AND NOT {IS_DELETED}");
    let open = count(context, &open).await?;
    match is_shrunken(rows, open) {
        false => Ok(()),
        true => Err(format!(
            "row count fell from {open} to {rows}; check whether the token is limited to some tags. If the list is right, rerun with --accept-shrunken {name}"
        )
        .into()),
    }
}

async fn count(context: &SessionContext, sql: &str) -> Result<u64, DataFusionError> {
    let batches = select(context, sql).await?.collect().await?;
    let counts = batches.iter().flat_map(|batch| {
        batch
            .column(0)
            .as_primitive::<Int64Type>()
            .values()
            .to_vec()
    });
    Ok(counts.sum::<i64>().unsigned_abs())
}

/// The query over `raw.versions` (with the columns of `before`) and `raw.current` that gives all versions.
///
/// Rows are compared by the columns that both have: a new column of the model makes no new version.
fn versions_sql(
    history: &Contract,
    keys: &[String],
    before: &SchemaRef,
    at: DateTime<Utc>,
) -> String {
    let own = [VALID_FROM, VALID_TO, IS_DELETED];
    let schema = history.schema();
    let fields: Vec<_> = schema
        .fields()
        .iter()
        .filter(|field| !own.contains(&field.name().as_str()))
        .collect();
    let is_key: BTreeSet<&String> = keys.iter().collect();
    // A version's value in the column's current type; none if the column did not exist.
    let old = |name: &str, data_type: &DataType| match before.field_with_name(name) {
        Ok(field) if field.data_type() == data_type => quote(name),
        Ok(_) => format!("arrow_cast({}, '{data_type}')", quote(name)),
        Err(_) => format!("arrow_cast(NULL, '{data_type}')"),
    };
    let (mut opened, mut present, mut b_row, mut c_row, mut same, mut on) =
        (vec![], vec![], vec![], vec![], vec![], vec![]);
    for (n, field) in fields.iter().enumerate() {
        let name = quote(field.name());
        opened.push(format!("{} AS b{n}", old(field.name(), field.data_type())));
        present.push(format!("{name} AS c{n}"));
        b_row.push(format!("b{n} AS {name}"));
        c_row.push(format!("c{n} AS {name}"));
        // In parentheses: the parser takes what follows an IS NOT DISTINCT FROM as its right side.
        let equal = format!("(b{n} IS NOT DISTINCT FROM c{n})");
        match is_key.contains(field.name()) {
            true => on.push(equal),
            false if before.field_with_name(field.name()).is_ok() => same.push(equal),
            false => {}
        }
    }
    let closed: Vec<String> = fields
        .iter()
        .map(|field| {
            format!(
                "{} AS {}",
                old(field.name(), field.data_type()),
                quote(field.name())
            )
        })
        .collect();
    let same = if same.is_empty() {
        "true".into()
    } else {
        same.join(" AND ")
    };
    let instant = "'Timestamp(Microsecond, Some(\"UTC\"))'";
    let at = format!("arrow_cast({}, {instant})", at.timestamp_micros());
    let none = format!("arrow_cast(NULL, {instant})");
    let pairs = format!(
        "(SELECT *, b_here AND c_here AND NOT b_deleted AND {same} AS same,
                 b_here AND c_here IS NULL AND b_deleted AS still_gone
            FROM (SELECT {opened}, {VALID_FROM} AS b_from, {IS_DELETED} AS b_deleted, true AS b_here
                    FROM raw.versions WHERE {VALID_TO} IS NULL)
            FULL JOIN (SELECT {present}, true AS c_here FROM raw.current) ON {on})",
        opened = opened.join(", "),
        present = present.join(", "),
        on = on.join(" AND "),
    );
    let tail = |from: &str, to: &str, deleted: &str| {
        format!("{from} AS {VALID_FROM}, {to} AS {VALID_TO}, {deleted} AS {IS_DELETED}")
    };
    let (b_row, c_row, closed) = (b_row.join(", "), c_row.join(", "), closed.join(", "));
    [
        // What is over stays as it is.
        format!("SELECT {closed}, {} FROM raw.versions WHERE {VALID_TO} IS NOT NULL", own.join(", ")),
        // Versions that continue. They get the current values, which include columns that the version did not have.
        format!("SELECT {c_row}, {} FROM {pairs} WHERE same", tail("b_from", &none, "false")),
        format!("SELECT {b_row}, {} FROM {pairs} WHERE still_gone", tail("b_from", &none, "true")),
        // What is over now.
        format!(
            "SELECT {b_row}, {} FROM {pairs} WHERE b_here AND same IS NOT TRUE AND still_gone IS NOT TRUE",
            tail("b_from", &at, "b_deleted")
        ),
        // New versions: new, changed or returned rows; and rows that are gone.
        format!("SELECT {c_row}, {} FROM {pairs} WHERE c_here AND same IS NOT TRUE", tail(&at, &none, "false")),
        format!(
            "SELECT {b_row}, {} FROM {pairs} WHERE b_here AND c_here IS NULL AND NOT b_deleted",
            tail(&at, &none, "true")
        ),
    ]
    .join("\nUNION ALL\n")
}
