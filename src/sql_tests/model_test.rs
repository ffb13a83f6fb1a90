//! Tests of single models: recorded pages in, rows out, without network or buckets of anyone's.
//!
//! `sql/<family>/tests/<model>.pages.json` holds pages as the API sends them, `<model>.expected.csv` the rows that
//! they must give, both written by hand. They pass the real decoder, the real SQL and the real output contract.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use chrono::{DateTime, NaiveDate, SecondsFormat};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::scratch::Scratch;
use crate::catalog::{Catalog, Model, Source};
use crate::config::Secret;
use crate::config::bounds::FIXTURE_BYTES;
use crate::config::text::read_text;
use crate::error::Error;
use crate::extract::{decode_asked, partition_window};
use crate::samsara::split_page;
use crate::store::layout::{Partition, RunId, raw_object};
use crate::store::{Bucket, TableWriter};
use crate::transform::{QueryTable, RawInputs, Transformer, bind, query};

/// How an empty string is written in `expected.csv`; an empty cell is NULL.
const EMPTY: &str = "<empty>";

/// The pages of one test.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pages {
    /// The UTC day that is asked for; snapshots have none.
    day: Option<NaiveDate>,
    /// By source, in the order of their task.
    sources: BTreeMap<String, Vec<Recorded>>,
}

/// A recorded page.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    /// The parent's id, for sources that fan out one by one.
    parent: Option<String>,
    /// The values of the parameters that are kept with the rows.
    #[serde(default)]
    asked: BTreeMap<String, String>,
    /// The body, byte for byte.
    body: Box<RawValue>,
}

/// Runs the test of `model` that lies in `folder` (`<sql>/<family>/tests`). The error says what differs.
pub async fn test_model(catalog: &Catalog, model: &Model, folder: &Path) -> Result<(), String> {
    let read = |suffix: &str| {
        let path: PathBuf = folder.join(format!("{}.{suffix}", model.name));
        read_text(&path, FIXTURE_BYTES).map_err(|error| format!("{}: {error}", path.display()))
    };
    let pages: Pages = serde_json::from_str(&read("pages.json")?)
        .map_err(|error| format!("{}.pages.json: {error}", model.name))?;
    let expected = read("expected.csv")?;
    let (columns, actual) = derive(catalog, model, &pages).await?;
    compare(&columns, actual, &expected)
}

async fn derive(
    catalog: &Catalog,
    model: &Model,
    pages: &Pages,
) -> Result<(Vec<String>, Vec<Vec<String>>), String> {
    let line = |error: &dyn std::fmt::Display| error.to_string();
    let scratch = Scratch::new().map_err(|error| line(&error))?;
    derive_in(catalog, model, pages, scratch.bucket())
        .await
        .map_err(|error| line(&error))
}

async fn derive_in(
    catalog: &Catalog,
    model: &Model,
    pages: &Pages,
    bucket: &Bucket,
) -> Result<(Vec<String>, Vec<Vec<String>>), Error> {
    let run = RunId::new(DateTime::UNIX_EPOCH);
    let partition = pages.day.map_or(Partition::Snapshot, Partition::Day);
    let mut inputs = RawInputs::new();
    for (name, recorded) in &pages.sources {
        let source = catalog
            .source(name)
            .ok_or_else(|| Error::Usage(format!("there is no source {name}")))?;
        let mut writer: Option<TableWriter> = None;
        for (index, page) in recorded.iter().enumerate() {
            let batch = decode(source, pages.day, page)
                .map_err(|e| Error::Usage(format!("{name} page {}: {e}", index + 1)))?;
            if writer.is_none() {
                let key = raw_object(name, partition, &run, 0);
                writer = Some(TableWriter::begin(bucket, key, batch.schema())?);
            }
            if let Some(writer) = &mut writer {
                writer.write(&batch).await?;
            }
        }
        inputs.push((
            name.clone(),
            match writer {
                Some(writer) => vec![writer.finish().await?],
                None => Vec::new(),
            },
        ));
    }
    for name in &model.sources {
        if !pages.sources.contains_key(name) {
            return Err(Error::Usage(format!("pages.json has no pages of {name}")));
        }
    }
    let contract = bind(catalog, model).await?;
    let transformer = Transformer::new(
        Arc::new(catalog.clone()),
        256 << 20,
        bucket.clone(),
        bucket.clone(),
    )?
    .with_salt(Some(Secret::new("test")));
    // As in a run, where partitions without rows come before and after.
    let nothing: RawInputs = inputs
        .iter()
        .map(|(name, _)| (name.clone(), Vec::new()))
        .collect();
    for inputs in [&inputs, &nothing] {
        let before = RunId::new(DateTime::UNIX_EPOCH);
        transformer
            .derive(model, &contract, partition, inputs, &before)
            .await?;
    }
    let flattened = transformer
        .derive(model, &contract, partition, &inputs, &run)
        .await?;
    if let Some(duplicates) = flattened.duplicates {
        return Err(Error::Usage(format!(
            "the rows that these pages give are not unique: {duplicates}"
        )));
    }
    let table = QueryTable {
        raw: false,
        name: "result".into(),
        schema: contract.schema(),
        bucket: bucket.clone(),
        objects: flattened.objects,
    };
    let mut result = query("SELECT * FROM result", &[table], 256 << 20).await?;
    let columns = contract
        .columns
        .iter()
        .map(|column| column.name.clone())
        .collect();
    let mut rows = Vec::new();
    while let Some(batch) = result.next().await? {
        rows.extend(texts(&batch).map_err(Error::Usage)?);
    }
    Ok((columns, rows))
}

fn decode(source: &Source, day: Option<NaiveDate>, page: &Recorded) -> Result<RecordBatch, String> {
    let body = Bytes::copy_from_slice(page.body.get().as_bytes());
    let page_parts = split_page(&body, source).map_err(|error| error.to_string())?;
    let asked: Vec<(String, String)> = page.asked.clone().into_iter().collect();
    decode_asked(
        source,
        &page_parts,
        day.map(|day| partition_window(source, day)),
        day,
        page.parent.as_deref(),
        &asked,
    )
    .map_err(|error| error.to_string())
}

/// Cells as `expected.csv` writes them.
fn texts(batch: &RecordBatch) -> Result<Vec<Vec<String>>, String> {
    let mut rows = vec![Vec::with_capacity(batch.num_columns()); batch.num_rows()];
    for column in batch.columns() {
        let options = FormatOptions::default();
        let formatter =
            ArrayFormatter::try_new(column, &options).map_err(|error| error.to_string())?;
        for (row, cells) in rows.iter_mut().enumerate() {
            cells.push(if column.is_null(row) {
                String::new()
            } else if let DataType::Timestamp(_, _) = column.data_type() {
                let micros = column.as_primitive::<TimestampMicrosecondType>().value(row);
                DateTime::from_timestamp_micros(micros).map_or_else(
                    || micros.to_string(),
                    |at| at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
                )
            } else {
                match formatter.value(row).to_string() {
                    text if text.is_empty() => EMPTY.to_string(),
                    text => text,
                }
            });
        }
    }
    Ok(rows)
}

/// Compares without regard to the order of rows.
fn compare(columns: &[String], mut actual: Vec<Vec<String>>, expected: &str) -> Result<(), String> {
    let mut reader = csv::Reader::from_reader(expected.as_bytes());
    let header: Vec<String> = reader
        .headers()
        .map_err(|e| e.to_string())?
        .iter()
        .map(str::to_string)
        .collect();
    if header != columns {
        return Err(format!(
            "expected.csv has columns {}\n  the table has {}",
            header.join(","),
            columns.join(",")
        ));
    }
    let mut wanted = Vec::new();
    for record in reader.records() {
        wanted.push(
            record
                .map_err(|error| error.to_string())?
                .iter()
                .map(str::to_string)
                .collect::<Vec<_>>(),
        );
    }
    actual.sort();
    wanted.sort();
    let missing: Vec<_> = wanted
        .iter()
        .filter(|row| !actual.contains(row))
        .map(|row| row.join(","))
        .collect();
    let surplus: Vec<_> = actual
        .iter()
        .filter(|row| !wanted.contains(row))
        .map(|row| row.join(","))
        .collect();
    if actual == wanted {
        return Ok(());
    }
    let list = |rows: &[String]| {
        rows.iter()
            .map(|row| format!("\n    {row}"))
            .collect::<String>()
    };
    Err(format!(
        "{} rows, {} expected\n  missing:{}\n  surplus:{}",
        actual.len(),
        wanted.len(),
        list(&missing),
        list(&surplus)
    ))
}
