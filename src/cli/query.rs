//! `query`: SQL over the local warehouse and the raw tables.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use clap::{Args, ValueEnum};

use super::output::tolerate;
use super::{Context, Exit};
use crate::catalog::Source;
use crate::config::{Config, WarehouseConfig};
use crate::error::Error;
use crate::extract::raw_schema;
use crate::load::LocalWarehouse;
use crate::pipeline::Pipeline;
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
                let (schema, objects) = (table.schema(), table.objects);
                tables.push(QueryTable {
                    raw: false,
                    name: table.contract.table,
                    schema,
                    bucket: local.bucket().clone(),
                    objects,
                });
            }
        }
        WarehouseConfig::BigQuery { .. } => tables.extend(flattened_tables(&pipeline).await?),
    }
    let result = query(sql, &tables, MEMORY).await?;
    print(result, format).await
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
    let objects =
        state.look(|state: &SourceState| state.complete().flat_map(|(_, raw)| raw.objects.iter().cloned()).collect());
    let (name, schema, bucket) = (source.name.clone(), raw_schema(source), pipeline.raw().clone());
    Ok(QueryTable { raw: true, name, schema, bucket, objects })
}

/// The flattened bucket as the state knows it, where the warehouse itself is not here.
async fn flattened_tables(pipeline: &Pipeline) -> Result<Vec<QueryTable>, Error> {
    let mut tables = Vec::new();
    for model in pipeline.catalog().models() {
        let Some(driver) = pipeline.catalog().driver(model) else { continue };
        let state = pipeline.states().source(&driver.name).await?;
        for contract in bind_all(pipeline.catalog(), model).await? {
            let objects = state.look(|state: &SourceState| {
                let models = state.partitions.values().filter_map(|partition| partition.models.get(&contract.table));
                models.flat_map(|found| found.objects.iter().cloned()).collect()
            });
            let (schema, bucket) = (contract.schema(), pipeline.flattened().clone());
            tables.push(QueryTable { raw: false, name: contract.table, schema, bucket, objects });
        }
    }
    Ok(tables)
}

pub(super) async fn print(mut result: Queried, format: Format) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    let written = |error: arrow::error::ArrowError| match error {
        arrow::error::ArrowError::IoError(_, source) => tolerate(Err(source)),
        // The CSV writer hides the fault of its output in text.
        arrow::error::ArrowError::CsvError(text) if text.contains("Broken pipe") => Ok(()),
        other => Err(Error::Usage(format!("cannot print the result: {other}"))),
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
                eprintln!("{shown} of {all} rows are shown; --format csv prints all");
            }
        }
    }
    tolerate(out.flush())
}
