//! `query`: SQL over the local warehouse and the raw tables.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches;
use clap::{Args, ValueEnum};

use super::output::{say, tolerate};
use super::{Context, Exit};
use crate::catalog::Source;
use crate::config::{Config, WarehouseConfig};
use crate::error::Error;
use crate::extract::raw_schema;
use crate::load::LocalWarehouse;
use crate::pipeline::Pipeline;
use crate::pipeline::coverage::Waiting;
use crate::redact::printable;
use crate::state::SourceState;
use crate::transform::{Queried, QueryTable, bind_all, query};

/// Memory for an ad-hoc query.
pub(super) const MEMORY: usize = 2 << 30;
/// A table for people shows this many rows; csv and json show all.
const SHOWN_ROWS: usize = 1000;

/// Run a SELECT over the flattened tables, and over raw.<source>.
///
/// Without configured buckets it reads the folder of the last local run or demo.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samsara-etl query \"SELECT count(*) FROM fleet_trips\"
  samsara-etl query \"SELECT * FROM raw.fleet_vehicles\" --format json")]
pub(super) struct Query {
    /// The query, in DataFusion's SQL
    sql: String,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// CSV that is safe for spreadsheets: text that looks like a formula gets a leading ', control characters are escaped
    #[arg(long)]
    csv_safe: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Aligned columns, the first 1000 rows
    Table,
    /// Comma-separated values with a header; values are exact
    Csv,
    /// The same for spreadsheets.
    #[value(skip)]
    CsvSafe,
    /// One JSON object per line
    Json,
}

impl Query {
    pub(super) async fn execute(self, context: &Context) -> Result<Exit, Error> {
        let format = match (self.csv_safe, self.format) {
            (false, format) => format,
            (true, Format::Json) => {
                return Err(Error::Usage(
                    "--csv-safe cannot be used with --format json".into(),
                ));
            }
            (true, _) => Format::CsvSafe,
        };
        let config = super::options::reading_config(context)?;
        answer(config, context, &self.sql, format).await?;
        Ok(Exit::Success)
    }
}

/// Runs the query and prints its result.
pub(super) async fn answer(
    config: Config,
    context: &Context,
    sql: &str,
    format: Format,
) -> Result<(), Error> {
    let warehouse = config.warehouse.clone();
    let pipeline = Pipeline::looking(config, context.catalog()?)?;
    let mut tables = raw_tables(&pipeline).await?;
    tables.extend(warehouse_tables(&pipeline, &warehouse, sql).await?);
    let answered = match query(sql, &tables, MEMORY).await {
        Ok(result) => print(result, format).await,
        Err(error) => Err(error.into()),
    };
    note_waiting(&pipeline, &warehouse, sql).await?;
    answered
}

/// The tables of a local warehouse, or those of the flattened bucket that `sql` names.
pub(super) async fn warehouse_tables(
    pipeline: &Pipeline,
    warehouse: &WarehouseConfig,
    sql: &str,
) -> Result<Vec<QueryTable>, Error> {
    let WarehouseConfig::Local(folder) = warehouse else {
        return flattened_tables(pipeline, sql).await;
    };
    let local = LocalWarehouse::look(folder, &tokio::runtime::Handle::current())?;
    let tables = local.tables().await?.into_iter().map(|table| QueryTable {
        raw: false,
        schema: table.schema(),
        name: table.contract.table,
        bucket: local.bucket().clone(),
        objects: table.objects,
    });
    Ok(tables.collect())
}

/// Says which of the tables that `sql` names have rows that are not loaded.
pub(super) async fn note_waiting(
    pipeline: &Pipeline,
    warehouse: &WarehouseConfig,
    sql: &str,
) -> Result<(), Error> {
    let where_to = match warehouse {
        WarehouseConfig::Local(_) => "not loaded, so not in this answer",
        WarehouseConfig::BigQuery { .. } => "not loaded yet (they are in this answer)",
    };
    for (table, Waiting { partitions, rows }) in pipeline.waiting().await? {
        if names(sql, &table) {
            say(format_args!(
                "note: {table}: {partitions} partitions with {rows} rows are derived but {where_to}: \
                 `samsara-etl run --stages load` loads them"
            ));
        }
    }
    Ok(())
}

/// Whether a query names a table of the warehouse. A name must be a whole word, and not follow `raw.`.
fn names(sql: &str, table: &str) -> bool {
    let (sql, table) = (sql.to_ascii_lowercase(), table.to_ascii_lowercase());
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    sql.match_indices(&table).any(|(at, _)| {
        let (before, after) = (&sql[..at], &sql[at + table.len()..]);
        let before = before.trim_end_matches('"');
        !before.ends_with(is_word) && !after.starts_with(is_word) && !before.ends_with("raw.")
    })
}

async fn raw_tables(pipeline: &Pipeline) -> Result<Vec<QueryTable>, Error> {
    let sources = pipeline.catalog().sources();
    let names = sources.map(|source| source.name.as_str());
    pipeline.states().read_ahead(names).await?;
    let mut tables = Vec::new();
    for source in pipeline.catalog().sources() {
        tables.push(raw_table(pipeline, source).await?);
    }
    Ok(tables)
}

/// The committed raw rows of a source.
pub(super) async fn raw_table(pipeline: &Pipeline, source: &Source) -> Result<QueryTable, Error> {
    let state = pipeline.states().source(&source.name).await?;
    let objects = state.look(|state: &SourceState| {
        state
            .complete()
            .flat_map(|(_, raw)| raw.objects.iter().cloned())
            .collect()
    });
    let (name, schema, bucket) = (
        source.name.clone(),
        raw_schema(source),
        pipeline.raw().clone(),
    );
    Ok(QueryTable {
        raw: true,
        name,
        schema,
        bucket,
        objects,
    })
}

/// The tables of the flattened bucket according to the state, if the warehouse itself is not on this machine. Only
/// models that the query names are bound; of other tables only the name is known, for hints.
async fn flattened_tables(pipeline: &Pipeline, sql: &str) -> Result<Vec<QueryTable>, Error> {
    let catalog = pipeline.catalog();
    let mut tables = Vec::new();
    for model in catalog.models() {
        let filled = [Some(model.name.clone()), model.history_table()];
        let filled: Vec<String> = filled.into_iter().flatten().collect();
        let table = |name, schema, objects| QueryTable {
            raw: false,
            name,
            schema,
            bucket: pipeline.flattened().clone(),
            objects,
        };
        if !filled.iter().any(|name| names(sql, name)) {
            let unread = |name| table(name, Arc::new(Schema::empty()), Vec::new());
            tables.extend(filled.into_iter().map(unread));
            continue;
        }
        let driving = catalog.known_driving_source(model)?;
        let state = pipeline.states().source(&driving.name).await?;
        for contract in bind_all(catalog, model).await? {
            let objects = state.look(|state: &SourceState| {
                let models = state
                    .partitions
                    .values()
                    .filter_map(|partition| partition.models.get(&contract.table));
                models
                    .flat_map(|found| found.objects.iter().cloned())
                    .collect()
            });
            let schema = contract.schema();
            tables.push(table(contract.table, schema, objects));
        }
    }
    Ok(tables)
}

/// An output that keeps its error.
struct Watched<W> {
    out: W,
    failed: Rc<RefCell<Option<std::io::Error>>>,
}

impl<W> Watched<W> {
    fn watch<T>(&self, result: std::io::Result<T>) -> std::io::Result<T> {
        result.inspect_err(|error| {
            let same = error
                .raw_os_error()
                .map_or_else(|| error.kind().into(), std::io::Error::from_raw_os_error);
            self.failed.replace(Some(same));
        })
    }
}

impl<W: Write> Write for Watched<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let result = self.out.write(bytes);
        self.watch(result)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let result = self.out.flush();
        self.watch(result)
    }
}

pub(super) async fn print(mut result: Queried, format: Format) -> Result<(), Error> {
    let failed = Rc::<RefCell<Option<std::io::Error>>>::default();
    let mut out = Watched {
        out: super::output::data(),
        failed: failed.clone(),
    };
    // The writers convert errors of their output to text.
    let written = |error: arrow::error::ArrowError| match failed.take() {
        Some(source) => tolerate(Err(source)),
        None => Err(Error::Usage(format!("cannot print the result: {error}"))),
    };
    match format {
        Format::Csv | Format::CsvSafe => {
            let row = |batch: &RecordBatch| match format {
                Format::CsvSafe => for_spreadsheets(batch),
                _ => Ok(batch.clone()),
            };
            let mut writer = arrow::csv::Writer::new(&mut out);
            if let Err(error) =
                row(&RecordBatch::new_empty(result.schema.clone())).and_then(|it| writer.write(&it))
            {
                return written(error);
            }
            while let Some(batch) = result.next().await? {
                if let Err(error) = row(&batch).and_then(|batch| writer.write(&batch)) {
                    return written(error);
                }
            }
        }
        Format::Json => {
            let mut writer = arrow_json::WriterBuilder::new()
                // Every line has every column, so that readers need not know the columns in advance.
                .with_explicit_nulls(true)
                .build::<_, arrow_json::writer::LineDelimited>(&mut out);
            while let Some(batch) = result.next().await? {
                if let Err(error) = writer.write(&batch) {
                    return written(error);
                }
            }
            if let Err(error) = writer.finish() {
                return written(error);
            }
        }
        Format::Table => {
            let (batches, shown, all) = first_rows(&mut result).await?;
            let batches: Result<Vec<_>, _> = batches.iter().map(for_people).collect();
            match batches.and_then(|batches| pretty_format_batches(&batches)) {
                Ok(text) => tolerate(writeln!(out, "{text}"))?,
                Err(error) => return written(error),
            }
            if all > shown {
                say(format_args!(
                    "{shown} of {all} rows are shown; --format csv prints all"
                ));
            }
        }
    }
    tolerate(out.flush())
}

/// The rows that a table shows, their number, and the number of all rows.
async fn first_rows(result: &mut Queried) -> Result<(Vec<RecordBatch>, usize, usize), Error> {
    let mut batches = vec![RecordBatch::new_empty(result.schema.clone())];
    let (mut shown, mut all) = (0, 0);
    while let Some(batch) = result.next().await? {
        all += batch.num_rows();
        let room = batch.num_rows().min(SHOWN_ROWS - shown);
        if room > 0 {
            batches.push(batch.slice(0, room));
            shown += room;
        }
    }
    Ok((batches, shown, all))
}

/// Cells and headings as a table shows them, with control characters escaped.
fn for_people(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let options = FormatOptions::default().with_display_error(true);
    texts(batch, printable, |column| {
        let formatter = ArrayFormatter::try_new(column, &options)?;
        let cell = |row| {
            column
                .is_valid(row)
                .then(|| printable(&formatter.value(row).to_string()).into_owned())
        };
        Ok(Arc::new(
            (0..column.len()).map(cell).collect::<StringArray>(),
        ))
    })
}

/// Cells and headings that no spreadsheet interprets as a formula, and that stay on their line.
fn for_spreadsheets(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    texts(batch, harmless, |column| match column.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let texts = cast(column, &DataType::Utf8)?;
            let cells = texts
                .as_string::<i32>()
                .iter()
                .map(|cell| cell.map(harmless));
            Ok(Arc::new(cells.collect::<StringArray>()))
        }
        _ => Ok(column.clone()),
    })
}

/// What spreadsheets interpret as the beginning of a formula; <https://owasp.org/www-community/attacks/CSV_Injection>.
const FORMULA: &[char] = &['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];

fn harmless(text: &str) -> Cow<'_, str> {
    let is_formula = text.starts_with(FORMULA) && text.trim().parse::<f64>().is_err();
    if is_formula {
        format!("'{}", printable(text)).into()
    } else {
        printable(text)
    }
}

/// A batch of other columns, with safe names.
fn texts(
    batch: &RecordBatch,
    name: fn(&str) -> Cow<'_, str>,
    column: impl Fn(&ArrayRef) -> Result<ArrayRef, ArrowError>,
) -> Result<RecordBatch, ArrowError> {
    let columns = batch
        .columns()
        .iter()
        .map(column)
        .collect::<Result<Vec<_>, _>>()?;
    let names = batch.schema();
    let names = names
        .fields()
        .iter()
        .map(|field| name(field.name()).into_owned());
    let fields: Vec<Field> = names
        .zip(&columns)
        .map(|(name, column)| Field::new(name, column.data_type().clone(), true))
        .collect();
    let rows = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_made_harmless_for_people_and_for_spreadsheets() {
        let names = [
            "=cmd|' /C calc'!A0",
            "+1 555",
            "-5",
            "@x",
            "plain",
            "a\u{1b}[31m\nfailed: b",
            "Zoë",
        ];
        let column: ArrayRef = Arc::new(StringArray::from_iter_values(names));
        let numbers: ArrayRef = Arc::new(arrow::array::Int64Array::from_iter_values(-3..4));
        let batch = RecordBatch::try_from_iter([("=name\u{7}", column), ("n", numbers)]).unwrap();
        let cells = |batch: &RecordBatch| {
            batch
                .column(0)
                .as_string::<i32>()
                .iter()
                .map(|cell| cell.unwrap().to_string())
                .collect::<Vec<_>>()
        };
        let safe = for_spreadsheets(&batch).unwrap();
        let expected = [
            "'=cmd|' /C calc'!A0",
            "'+1 555",
            "-5",
            "'@x",
            "plain",
            "a\\u{1b}[31m\\nfailed: b",
            "Zoë",
        ];
        assert_eq!(cells(&safe), expected);
        assert_eq!(
            (safe.schema().field(0).name().as_str(), safe.column(1)),
            ("'=name\\u{7}", batch.column(1))
        );
        let shown = pretty_format_batches(&[for_people(&batch).unwrap()])
            .unwrap()
            .to_string();
        assert!(
            shown.contains("a\\u{1b}[31m\\nfailed: b") && shown.contains("| -3 |"),
            "{shown}"
        );
        assert!(
            !shown.contains(|character: char| character.is_control() && character != '\n'),
            "{shown}"
        );
    }

    #[test]
    fn a_query_names_a_table_by_whole_words_and_not_by_the_raw_one() {
        for (sql, is_named) in [
            ("SELECT * FROM fleet_trips", true),
            ("select count(*) from \"Fleet_Trips\";", true),
            ("SELECT * FROM public.fleet_trips t", true),
            (
                "SELECT * FROM fleet_trips_history JOIN old_fleet_trips USING (id)",
                false,
            ),
            ("SELECT * FROM raw.fleet_trips, raw.\"fleet_trips\"", false),
            (
                "SELECT * FROM raw.fleet_trips JOIN fleet_trips USING (id)",
                true,
            ),
            ("SELECT 1", false),
        ] {
            assert_eq!(names(sql, "fleet_trips"), is_named, "{sql}");
        }
    }
}
