//! `sql`: work on models without running anything.

use chrono::NaiveDate;
use clap::Subcommand;

use super::output::say;
use super::query::{Format, MEMORY};
use super::{Context, Exit};
use crate::catalog::{Catalog, Model};
use crate::error::Error;
use crate::pipeline::Pipeline;
use crate::plan::parse_date;
use crate::sql_tests::{Scratch, test_model};
use crate::transform::{UnfitTimes, bind, query};

/// Check, test and preview models without a run.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  samsara-etl sql check
  samsara-etl sql test fleet_trips
  samsara-etl sql preview fleet_trips --day 2024-01-31")]
pub(super) enum Sql {
    /// Bind every model against the declared schemas: typos, missing columns, types that BigQuery cannot hold
    #[command(after_help = "Example:\n  samsara-etl sql check")]
    Check,
    /// Run the tests beside the models: sql/<family>/tests/<model>.pages.json and <model>.expected.csv
    #[command(after_help = "Examples:\n  samsara-etl sql test\n  samsara-etl sql test fleet_trips")]
    Test {
        /// Models to test [default: all]
        models: Vec<String>,
    },
    /// Show the rows that a model makes of committed raw data, as the warehouse would get them; nothing is written
    #[command(
        after_help = "Example:\n  samsara-etl sql preview fleet_trips --day 2024-01-31 --rows 5"
    )]
    Preview {
        /// Model to show
        model: String,
        /// Day, as 31/01/2024 or 2024-01-31 [default: the last complete day]
        #[arg(long, value_parser = parse_date)]
        day: Option<NaiveDate>,
        /// Number of rows
        #[arg(long, default_value_t = 20)]
        rows: usize,
        /// Output format
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
}

impl Sql {
    /// Whether it works on rows that were read from the API.
    pub(super) fn reads_data(&self) -> bool {
        matches!(self, Self::Preview { .. })
    }

    pub(super) async fn execute(self, context: &Context) -> Result<Exit, Error> {
        let catalog = context.catalog()?;
        let (mut good, mut bad) = (0, 0);
        match self {
            Self::Preview {
                model,
                day,
                rows,
                format,
            } => {
                return preview(context, catalog, &model, day, rows, format).await;
            }
            Self::Check => {
                for model in catalog.models() {
                    tell(
                        &mut good,
                        &mut bad,
                        bind(&catalog, model)
                            .await
                            .map(|_| ())
                            .map_err(|e| e.to_string()),
                    );
                }
            }
            Self::Test { models } => {
                let folder = context.sql_folder().ok_or_else(|| {
                    Error::Usage(
                        "no sql/ folder here: tests are read from disk; run in a folder with sql/, or give --sql-dir"
                            .into(),
                    )
                })?;
                models
                    .iter()
                    .try_for_each(|name| find(&catalog, name).map(|_| ()))?;
                for model in catalog
                    .models()
                    .filter(|model| models.is_empty() || models.contains(&model.name))
                {
                    let tests = folder.join(&model.family).join("tests");
                    let result = test_model(&catalog, model, &tests).await;
                    tell(
                        &mut good,
                        &mut bad,
                        result.map_err(|error| format!("{}: {error}", model.name)),
                    );
                }
            }
        }
        say(format_args!(
            "{good} models passed, {bad} failed ({})",
            catalog.origin
        ));
        Ok(if bad == 0 {
            Exit::Success
        } else {
            Exit::Failure
        })
    }
}

async fn preview(
    context: &Context,
    catalog: Catalog,
    name: &str,
    day: Option<NaiveDate>,
    rows: usize,
    format: Format,
) -> Result<Exit, Error> {
    let pipeline = Pipeline::looking(super::options::reading_config(context)?, catalog)?;
    let model = find(pipeline.catalog(), name)?;
    let scratch = Scratch::new()?;
    let (partition, table, found) = pipeline.preview(model, day, &scratch).await?;
    let result = query(
        &format!("SELECT * FROM \"{name}\" LIMIT {rows}"),
        &[table],
        MEMORY,
    )
    .await?;
    super::query::print(result, format).await?;
    eprintln!("{name} {partition}: showing at most {rows} rows; nothing was written");
    for UnfitTimes {
        column,
        count,
        texts,
    } in &found.unfit
    {
        let texts: Vec<&str> = texts.keys().map(String::as_str).collect();
        eprintln!(
            "warning: {column}: {count} values are not valid times and NULL: {}",
            texts.join(", ")
        );
    }
    match found.duplicates {
        None => Ok(Exit::Success),
        Some(duplicates) => {
            eprintln!("error: {name} {partition}: {duplicates}");
            Ok(Exit::Failure)
        }
    }
}

fn tell(good: &mut u64, bad: &mut u64, result: Result<(), String>) {
    match result {
        Ok(()) => *good += 1,
        Err(error) => {
            *bad += 1;
            say(format_args!("error: {error}"));
        }
    }
}

fn find<'a>(catalog: &'a Catalog, name: &str) -> Result<&'a Model, Error> {
    catalog.model(name).ok_or_else(|| {
        let hint =
            crate::catalog::did_you_mean(name, catalog.models().map(|model| model.name.as_str()));
        Error::Usage(format!("unknown model `{name}`{hint}"))
    })
}
