//! Tests of single models: recorded pages in, rows out, without network or configured buckets.
//!
//! `sql/<family>/tests/<model>.pages.json` holds pages as the API sends them, `<model>.expected.csv` the rows that they
//! must give, both written by hand. They pass the real decoder, the real SQL and the real output contract.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use chrono::{DateTime, NaiveDate, SecondsFormat};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::scratch::Scratch;
use super::upstream::{RawObjects, Upstream};
use crate::catalog::{Catalog, Literal, Model, Source, TestSeverity};
use crate::config::Secret;
use crate::config::bounds::FIXTURE_BYTES;
use crate::config::text::{FileError, read_text};
use crate::error::Error;
use crate::extract::{DecodeError, decode_asked, partition_window};
use crate::samsara::{PageError, split_page};
use crate::store::layout::{Partition, RunId, raw_object};
use crate::store::{Bucket, ObjectRef, StoreError, TableWriter};
use crate::transform::{
    BoundModel, Contract, DataError, Duplicates, Flattened, Inputs, QueryTable, TransformError,
    Transformer, query,
};

/// How an empty string is written in `expected.csv`; an empty cell is NULL.
const EMPTY: &str = "<empty>";

/// Memory for the SQL of one test.
const MEMORY: usize = 256 << 20;

/// The pages of one test.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pages {
    /// The requested UTC day; snapshots have none.
    day: Option<NaiveDate>,
    /// Settings of the model, in place of those of the catalog.
    #[serde(default)]
    settings: BTreeMap<String, Literal>,
    /// By source, in the order of their task.
    sources: BTreeMap<String, Vec<Recorded>>,
}

/// A recorded page.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    /// The day of the page, for a model whose window has more days than the requested one.
    day: Option<NaiveDate>,
    /// The parent's id, for sources that fan out one by one.
    parent: Option<String>,
    /// The values of the parameters that are stored with the rows.
    #[serde(default)]
    asked: BTreeMap<String, String>,
    /// The body, byte for byte.
    body: Box<RawValue>,
}

/// Runs the test of `model` in `folder` (`<sql>/<family>/tests`).
///
/// # Errors
/// [`ModelTestError`], which says what differs, or why the test cannot be run.
pub async fn test_model(
    catalog: &Catalog,
    model: &Model,
    folder: &Path,
) -> Result<(), ModelTestError> {
    test_or_update(catalog, model, folder, false)
        .await
        .map(|_| ())
}

/// The same; with `writes`, a missing file of expected rows is written from the actual rows. Returns its path if it was
/// written.
///
/// # Errors
/// As [`test_model`].
pub async fn test_or_update(
    catalog: &Catalog,
    model: &Model,
    folder: &Path,
    writes: bool,
) -> Result<Option<PathBuf>, ModelTestError> {
    let read = |suffix: &str| {
        let path: PathBuf = folder.join(format!("{}.{suffix}", model.name));
        read_text(&path, FIXTURE_BYTES).map_err(|error| ModelTestError::Unreadable { path, error })
    };
    let pages: Pages =
        serde_json::from_str(&read("pages.json")?).map_err(|error| ModelTestError::Malformed {
            model: model.name.clone(),
            error,
        })?;
    let path = folder.join(format!("{}.expected.csv", model.name));
    let is_missing = !path.exists();
    if is_missing && !writes {
        let model = model.name.clone();
        return Err(ModelTestError::NoExpectedRows { path, model });
    }
    let expected = match is_missing {
        true => String::new(),
        false => read("expected.csv")?,
    };
    let (columns, mut actual) = derive(catalog, model, &pages).await?;
    if !is_missing {
        return compare(&columns, actual, &expected).map(|()| None);
    }
    actual.sort();
    let mut writer = csv::Writer::from_writer(Vec::new());
    let rows = [columns].into_iter().chain(actual);
    rows.into_iter()
        .try_for_each(|row| writer.write_record(row))?;
    let text = writer
        .into_inner()
        .map_err(|error| csv::Error::from(error.into_error()))?;
    match std::fs::write(&path, text) {
        Ok(()) => Ok(Some(path)),
        Err(error) => Err(ModelTestError::Unwritable { path, error }),
    }
}

/// A test that fails, or that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ModelTestError {
    /// A file of the test cannot be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: FileError,
    },
    /// The file of recorded pages is not of the expected form.
    #[error("{model}.pages.json: {error}")]
    Malformed {
        /// The model.
        model: String,
        /// What is wrong with it, with line and column.
        #[source]
        error: serde_json::Error,
    },
    /// There is no file of expected rows.
    #[error(
        "{}: the file does not exist: `samsara-etl sql test {model} --update` writes the rows that the pages give, for you to check",
        path.display()
    )]
    NoExpectedRows {
        /// The file.
        path: PathBuf,
        /// The model.
        model: String,
    },
    /// The file of expected rows cannot be written.
    #[error("{}: {error}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// The expected rows are not CSV.
    #[error("expected.csv: {0}")]
    Csv(#[from] csv::Error),
    /// The expected rows have other columns than the table.
    #[error("expected.csv has columns {expected}\n  the table has {actual}")]
    Columns {
        /// Those of the expected rows.
        expected: String,
        /// Those of the table.
        actual: String,
    },
    /// The rows are not the expected ones; the text lists the differences.
    #[error("{0}")]
    Rows(String),
    /// The pages are of a source that the catalog does not have.
    #[error("unknown source `{0}`")]
    UnknownSource(String),
    /// A recorded body is not a page of its source.
    #[error("{source_name} page {number}: {error}")]
    Page {
        /// The source.
        source_name: String,
        /// Number of the page, from 1.
        number: usize,
        /// What is wrong with it.
        #[source]
        error: PageError,
    },
    /// The records of a page cannot be decoded.
    #[error("{source_name} page {number}: {error}")]
    Records {
        /// The source.
        source_name: String,
        /// Number of the page, from 1.
        number: usize,
        /// What is wrong with them.
        #[source]
        error: DecodeError,
    },
    /// The settings of the test do not fit the model.
    #[error("in the `settings` of pages.json: {0}")]
    Settings(String),
    /// There are no pages of a source that the model reads.
    #[error("pages.json has no pages of {0}")]
    NoPages(String),
    /// There are pages of a source that the model does not read.
    #[error("pages.json has pages of {source_name}, which {model} does not read")]
    Unread {
        /// The source.
        source_name: String,
        /// The model.
        model: String,
    },
    /// The rows violate the model's `unique_key`.
    #[error("the rows that these pages give are not unique: {0}")]
    NotUnique(Duplicates),
    /// The rows fail tests of the model's front matter.
    #[error("the rows that these pages give fail: {0}")]
    Tests(String),
    /// The temporary bucket failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The model cannot be bound or derived.
    #[error(transparent)]
    Transform(#[from] TransformError),
    /// The derived rows cannot be read back.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A value cannot be written as text.
    #[error(transparent)]
    Cell(#[from] ArrowError),
    /// Upstream models cannot be derived, or there is no temporary folder.
    #[error(transparent)]
    Setup(Box<Error>),
}

/// The names of the columns, and the rows as text.
type Rows = (Vec<String>, Vec<Vec<String>>);

async fn derive(catalog: &Catalog, model: &Model, pages: &Pages) -> Result<Rows, ModelTestError> {
    let scratch = Scratch::new().map_err(|error| ModelTestError::Setup(error.into()))?;
    derive_in(catalog, model, pages, scratch.bucket()).await
}

async fn derive_in(
    catalog: &Catalog,
    model: &Model,
    pages: &Pages,
    bucket: &Bucket,
) -> Result<Rows, ModelTestError> {
    let run = RunId::new(DateTime::UNIX_EPOCH);
    let partition = pages.day.map_or(Partition::Snapshot, Partition::Day);
    let raw = write_raw(catalog, pages, &run, bucket).await?;
    let sources = catalog.sources_of(model);
    let mut names = pages.sources.keys();
    if let Some(name) = names.find(|name| !sources.contains(name.as_str())) {
        return Err(ModelTestError::Unread {
            source_name: name.clone(),
            model: model.name.clone(),
        });
    }
    // Sources that a model reads only through other models may have no pages.
    if let Some(name) = model
        .sources
        .iter()
        .find(|name| !pages.sources.contains_key(*name))
    {
        return Err(ModelTestError::NoPages(name.clone()));
    }
    let model = &match pages.settings.is_empty() {
        true => model.clone(),
        false => model
            .with_settings(&pages.settings)
            .map_err(ModelTestError::Settings)?,
    };
    let bound = BoundModel::bind(catalog, model).await?;
    let contract = &bound.contract;
    let transformer = Transformer::new(MEMORY, bucket.clone(), bucket.clone())?
        .with_salt(Some(Secret::new("test")));
    let mut upstream = Upstream {
        transformer: &transformer,
        raw,
        run: RunId::new(DateTime::UNIX_EPOCH),
        made: BTreeMap::new(),
    };
    let inputs = upstream.inputs(&bound, partition).await;
    let inputs = inputs.map_err(|error| ModelTestError::Setup(error.into()))?;
    // As in a run, in which partitions without rows come before and after.
    let nothing: Inputs = inputs
        .iter()
        .map(|(input, _)| (input.clone(), Vec::new()))
        .collect();
    for inputs in [&inputs, &nothing] {
        let before = RunId::new(DateTime::UNIX_EPOCH);
        transformer
            .derive(model, contract, partition, inputs, &before)
            .await?;
    }
    let flattened = transformer
        .derive(model, contract, partition, &inputs, &run)
        .await?;
    rows_of(contract, flattened, bucket).await
}

/// Writes the pages of all sources as raw objects, by source and partition.
async fn write_raw(
    catalog: &Catalog,
    pages: &Pages,
    run: &RunId,
    bucket: &Bucket,
) -> Result<RawObjects, ModelTestError> {
    let mut raw = BTreeMap::new();
    for (name, recorded) in &pages.sources {
        let source = catalog.source(name);
        let source = source.ok_or_else(|| ModelTestError::UnknownSource(name.clone()))?;
        let own = pages.day.filter(|_| source.is_daily());
        let mut by_day: BTreeMap<Option<NaiveDate>, Vec<&Recorded>> = BTreeMap::new();
        // Without pages, the requested day has no rows.
        by_day.entry(own).or_default();
        for page in recorded {
            by_day
                .entry(own.and(page.day).or(own))
                .or_default()
                .push(page);
        }
        for (day, recorded) in by_day {
            let of = day.map_or(Partition::Snapshot, Partition::Day);
            let key = raw_object(name, of, run, 0);
            let object = write_pages(source, day, &recorded, bucket, key).await?;
            raw.insert((name.clone(), of), object.into_iter().collect());
        }
    }
    Ok(raw)
}

/// Decodes recorded pages into a raw object; there is none without pages.
async fn write_pages(
    source: &Source,
    day: Option<NaiveDate>,
    recorded: &[&Recorded],
    bucket: &Bucket,
    key: String,
) -> Result<Option<ObjectRef>, ModelTestError> {
    let mut writer: Option<TableWriter> = None;
    for (index, page) in recorded.iter().enumerate() {
        let batch = decode(source, day, page, index + 1)?;
        let writer = match &mut writer {
            Some(writer) => writer,
            None => writer.insert(TableWriter::begin(bucket, key.clone(), batch.schema())?),
        };
        writer.write(&batch).await?;
    }
    Ok(match writer {
        Some(writer) => Some(writer.finish().await?),
        None => None,
    })
}

/// The rows of a table as text, if they pass the model's own checks.
async fn rows_of(
    contract: &Contract,
    flattened: Flattened,
    bucket: &Bucket,
) -> Result<Rows, ModelTestError> {
    if let Some(duplicates) = flattened.duplicates {
        return Err(ModelTestError::NotUnique(duplicates));
    }
    let failed = flattened.failed_tests.iter();
    let failed = failed.filter(|it| it.severity == TestSeverity::Error);
    let failed: Vec<String> = failed.map(ToString::to_string).collect();
    if !failed.is_empty() {
        return Err(ModelTestError::Tests(failed.join("; ")));
    }
    let table = QueryTable {
        raw: false,
        name: "result".into(),
        schema: contract.schema(),
        bucket: bucket.clone(),
        objects: flattened.objects,
    };
    let mut result = query("SELECT * FROM result", &[table], MEMORY).await?;
    let columns = contract.columns.iter();
    let columns = columns.map(|column| column.name.clone()).collect();
    let mut rows = Vec::new();
    while let Some(batch) = result.next().await? {
        rows.extend(texts(&batch)?);
    }
    Ok((columns, rows))
}

fn decode(
    source: &Source,
    day: Option<NaiveDate>,
    page: &Recorded,
    number: usize,
) -> Result<RecordBatch, ModelTestError> {
    let body = Bytes::copy_from_slice(page.body.get().as_bytes());
    let page_parts = split_page(&body, source).map_err(|error| ModelTestError::Page {
        source_name: source.name.clone(),
        number,
        error,
    })?;
    let asked: Vec<(String, String)> = page.asked.clone().into_iter().collect();
    decode_asked(
        source,
        &page_parts,
        day.map(|day| partition_window(source, day)),
        day,
        page.parent.as_deref(),
        &asked,
    )
    .map_err(|error| ModelTestError::Records {
        source_name: source.name.clone(),
        number,
        error,
    })
}

/// Cells as `expected.csv` writes them.
fn texts(batch: &RecordBatch) -> Result<Vec<Vec<String>>, ArrowError> {
    let mut rows = vec![Vec::with_capacity(batch.num_columns()); batch.num_rows()];
    for column in batch.columns() {
        let options = FormatOptions::default();
        let formatter = ArrayFormatter::try_new(column, &options)?;
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

/// Compares without regard to the order of rows and columns.
fn compare(
    columns: &[String],
    mut actual: Vec<Vec<String>>,
    expected: &str,
) -> Result<(), ModelTestError> {
    let mut reader = csv::Reader::from_reader(expected.as_bytes());
    let header: Vec<String> = reader.headers()?.iter().map(str::to_string).collect();
    let order: Option<Vec<usize>> = columns
        .iter()
        .map(|column| header.iter().position(|name| name == column))
        .collect();
    let Some(order) = order.filter(|order| order.len() == header.len()) else {
        return Err(ModelTestError::Columns {
            expected: header.join(","),
            actual: columns.join(","),
        });
    };
    let mut wanted = Vec::new();
    for record in reader.records() {
        let record = record?;
        let cells = order
            .iter()
            .map(|at| record.get(*at).unwrap_or_default().to_string());
        wanted.push(cells.collect::<Vec<_>>());
    }
    actual.sort();
    wanted.sort();
    match actual == wanted {
        true => Ok(()),
        false => Err(ModelTestError::Rows(differences(columns, actual, wanted))),
    }
}

/// How rows differ from the expected ones. A missing row is compared with the most similar one.
fn differences(
    columns: &[String],
    mut actual: Vec<Vec<String>>,
    wanted: Vec<Vec<String>>,
) -> String {
    let (rows, rows_wanted) = (actual.len(), wanted.len());
    // A row that occurs as often as it is expected is right.
    let mut missing = Vec::new();
    for row in wanted {
        match actual.iter().position(|other| *other == row) {
            Some(at) => _ = actual.remove(at),
            None => missing.push(row),
        }
    }
    let mut text = format!("{rows} rows, {rows_wanted} expected");
    let mut absent = Vec::new();
    for row in missing {
        let alike = |other: &Vec<String>| row.iter().zip(other).filter(|(a, b)| a == b).count();
        let nearest = (0..actual.len()).max_by_key(|at| alike(&actual[*at]));
        match nearest.filter(|at| 2 * alike(&actual[*at]) >= row.len().max(1)) {
            Some(at) => {
                text.push_str(&format!("\n  in the row {}", row.join(",")));
                let cells = row.iter().zip(actual.remove(at)).zip(columns);
                for ((cell, found), column) in cells.filter(|((cell, found), _)| *cell != found) {
                    text.push_str(&format!(
                        "\n    {column}: `{cell}` expected, `{found}` found"
                    ));
                }
            }
            None => absent.push(row),
        }
    }
    for (what, rows) in [("missing", absent), ("surplus", actual)] {
        if !rows.is_empty() {
            text.push_str(&format!("\n  {what}:"));
        }
        for row in rows {
            text.push_str(&format!("\n    {}", row.join(",")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::compare;

    #[test]
    fn differences_are_told_by_cell() {
        let columns = ["id", "name", "n"].map(str::to_string);
        let rows = |text: &str| -> Vec<Vec<String>> {
            let lines = text.lines();
            lines
                .map(|line| line.split('|').map(str::to_string).collect())
                .collect()
        };
        let actual = rows("1|a, b|5\n2|<empty>|\n2|<empty>|");
        let told = |expected: &str| {
            compare(&columns, actual.clone(), expected).map_err(|error| error.to_string())
        };
        // In any order of rows and columns, quoted as CSV is.
        let right = "n,id,name\r\n,2,<empty>\r\n5,1,\"a, b\"\r\n,2,<empty>\r\n";
        assert_eq!(told(right), Ok(()));
        for (expected, parts) in [
            (
                "id,name,n\n1,\"a, b\",6\n2,<empty>,\n2,<empty>,\n",
                &["in the row 1,a, b,6\n    n: `6` expected, `5` found"][..],
            ),
            (
                "id,name,n\n1,\"a, b\",5\n2,<empty>,\n",
                &["3 rows, 2 expected", "surplus:\n    2,<empty>,"],
            ),
            (
                "id,name,n\n1,\"a, b\",5\n2,<empty>,\n2,<empty>,\n7,x,8\n",
                &["3 rows, 4 expected", "missing:\n    7,x,8"],
            ),
            ("id,n\n", &["expected.csv has columns id,n"]),
            ("id,name,n,m\n", &["the table has id,name,n"]),
            ("id,name,n\n1,2\n", &["expected.csv: CSV error"]),
        ] {
            let error = told(expected).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{error}\nexpected {part}");
            }
        }
    }
}
