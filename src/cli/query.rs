//! `query`: SQL over the local warehouse and the raw tables.

use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;

use arrow::array::RecordBatch;
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
use crate::state::SourceState;
use crate::transform::{Queried, QueryTable, bind_all, query};

/// Memory for an ad-hoc query.
pub(super) const MEMORY: usize = 2 << 30;
/// A table for people shows this many rows; csv and json show all.
const SHOWN_ROWS: usize = 1000;

/// Answer a SELECT over the flattened tables, and over raw.<source>.
///
/// Without configured buckets it reads the folder of the last local run or demo.
#[derive(Debug, Args)]
pub(super) struct Query {
    /// The query, in DataFusion's SQL
    sql: String,
    /// How to print the result
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Aligned, the first thousand rows
    Table,
    /// Comma-separated, with a heading
    Csv,
    /// One JSON object a line
    Json,
}

impl Query {
    pub(super) async fn execute(self, context: &Context) -> Result<Exit, Error> {
        let config = super::options::reading_config(context)?;
        answer(config, context, &self.sql, self.format).await?;
        Ok(Exit::Success)
    }
}

/// Runs the query and prints its result.
pub(super) async fn answer(config: Config, context: &Context, sql: &str, format: Format) -> Result<(), Error> {
    let warehouse = config.warehouse.clone();
    let pipeline = Pipeline::new(config, context.catalog()?)?;
    let mut tables = raw_tables(&pipeline).await?;
    match &warehouse {
        WarehouseConfig::Local(folder) => {
            let local = LocalWarehouse::open(folder, &tokio::runtime::Handle::current())?;
            for table in local.tables().await? {
                let (schema, keys) = (table.schema(), table.keys);
                tables.push(QueryTable {
                    raw: false,
                    name: table.contract.table,
                    schema,
                    bucket: local.bucket().clone(),
                    keys,
                });
            }
        }
        WarehouseConfig::BigQuery { .. } => tables.extend(flattened_tables(&pipeline).await?),
    }
    let answered = match query(sql, &tables, MEMORY).await {
        Ok(result) => print(result, format).await,
        Err(error) => Err(error.into()),
    };
    let is_local = matches!(warehouse, WarehouseConfig::Local(_));
    for (table, Waiting { partitions, rows }) in pipeline.waiting().await? {
        if names(sql, &table) {
            let where_to =
                if is_local { "not loaded, so not in this table" } else { "in this answer, but not loaded yet" };
            say(format_args!(
                "note: {table}: {partitions} partitions with {rows} rows are derived and {where_to}: \
                 `samsara-etl run --stages load` loads them"
            ));
        }
    }
    answered
}

/// Whether a query names a table of the warehouse. Names do not begin or end in the middle of a word, and those behind
/// `raw.` are other tables'.
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
    let mut tables = Vec::new();
    for source in pipeline.catalog().sources() {
        tables.push(raw_table(pipeline, source).await?);
    }
    Ok(tables)
}

/// The committed raw rows of a source.
pub(super) async fn raw_table(pipeline: &Pipeline, source: &Source) -> Result<QueryTable, Error> {
    let state = pipeline.states().source(&source.name).await?;
    let keys = state.look(|state: &SourceState| {
        state.complete().flat_map(|(_, raw)| raw.objects.iter().map(|object| object.path.clone())).collect()
    });
    let (name, schema, bucket) = (source.name.clone(), raw_schema(source), pipeline.raw().clone());
    Ok(QueryTable { raw: true, name, schema, bucket, keys })
}

/// The flattened bucket as the state knows it, where the warehouse itself is not here.
async fn flattened_tables(pipeline: &Pipeline) -> Result<Vec<QueryTable>, Error> {
    let mut tables = Vec::new();
    for model in pipeline.catalog().models() {
        let Some(driver) = pipeline.catalog().driver(model) else { continue };
        let state = pipeline.states().source(&driver.name).await?;
        for contract in bind_all(pipeline.catalog(), model).await? {
            let keys = state.look(|state: &SourceState| {
                let models = state.partitions.values().filter_map(|partition| partition.models.get(&contract.table));
                models.flat_map(|found| found.objects.iter().map(|object| object.path.clone())).collect()
            });
            let (schema, bucket) = (contract.schema(), pipeline.flattened().clone());
            tables.push(QueryTable { raw: false, name: contract.table, schema, bucket, keys });
        }
    }
    Ok(tables)
}

/// An output that keeps the fault that it met.
struct Watched<W> {
    out: W,
    failed: Rc<RefCell<Option<std::io::Error>>>,
}

impl<W> Watched<W> {
    fn watch<T>(&self, result: std::io::Result<T>) -> std::io::Result<T> {
        result.inspect_err(|error| {
            let same = error.raw_os_error().map_or_else(|| error.kind().into(), std::io::Error::from_raw_os_error);
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
    let mut out = Watched { out: std::io::stdout().lock(), failed: failed.clone() };
    // The writers hide a fault of their output in text.
    let written = |error: arrow::error::ArrowError| match failed.take() {
        Some(source) => tolerate(Err(source)),
        None => Err(Error::Usage(format!("cannot print the result: {error}"))),
    };
    match format {
        Format::Csv => {
            let mut writer = arrow::csv::Writer::new(&mut out);
            if let Err(error) = writer.write(&RecordBatch::new_empty(result.schema.clone())) {
                return written(error);
            }
            while let Some(batch) = result.next().await? {
                if let Err(error) = writer.write(&batch) {
                    return written(error);
                }
            }
        }
        Format::Json => {
            let mut writer = arrow_json::LineDelimitedWriter::new(&mut out);
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
            let (mut batches, mut shown, mut all) = (vec![RecordBatch::new_empty(result.schema.clone())], 0, 0);
            while let Some(batch) = result.next().await? {
                all += batch.num_rows();
                let room = SHOWN_ROWS - shown;
                if room > 0 {
                    batches.push(batch.slice(0, batch.num_rows().min(room)));
                    shown += batch.num_rows().min(room);
                }
            }
            match pretty_format_batches(&batches) {
                Ok(text) => tolerate(writeln!(out, "{text}"))?,
                Err(error) => return written(error),
            }
            if all > shown {
                say(format_args!("{shown} of {all} rows are shown; --format csv prints all"));
            }
        }
    }
    tolerate(out.flush())
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn a_query_names_a_table_by_whole_words_and_not_by_the_raw_one() {
        for (sql, is_named) in [
            ("SELECT * FROM fleet_trips", true),
            ("select count(*) from \"Fleet_Trips\";", true),
            ("SELECT * FROM public.fleet_trips t", true),
            ("SELECT * FROM fleet_trips_history JOIN old_fleet_trips USING (id)", false),
            ("SELECT * FROM raw.fleet_trips, raw.\"fleet_trips\"", false),
            ("SELECT * FROM raw.fleet_trips JOIN fleet_trips USING (id)", true),
            ("SELECT 1", false),
        ] {
            assert_eq!(names(sql, "fleet_trips"), is_named, "{sql}");
        }
    }
}
