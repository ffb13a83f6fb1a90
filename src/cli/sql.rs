//! `sql`: work on models without running anything.

use std::collections::BTreeSet;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use chrono::NaiveDate;
use clap::Subcommand;

use super::json::{self, OutputFormat};
use super::output::{print, say};
use super::query::{Format, MEMORY};
use super::{Context, Exit};
use crate::catalog::{Catalog, CheckedCatalog, Model, Problem, TestSeverity};
use crate::error::Error;
use crate::pipeline::Pipeline;
use crate::plan::{Dates, parse_date};
use crate::sql_tests::{Scratch, Underived, test_or_update};
use crate::transform::{TransformError, UnfitTimes, bind_catalog, query, remarks};

/// Check, test and preview models without a run.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  samsara-etl sql check
  samsara-etl sql test fleet_trips
  samsara-etl sql preview fleet_trips --day 2024-01-31
  samsara-etl sql diff fleet_trips --start-date 2024-01-01 --end-date 2024-02-01")]
pub(super) enum Sql {
    /// Bind every model against the declared schemas: typos, missing columns, types that BigQuery cannot hold
    #[command(after_help = "Example:\n  samsara-etl sql check")]
    Check,
    /// Run the tests of models: sql/<family>/tests/<model>.pages.json and <model>.expected.csv
    #[command(after_help = "Examples:\n  samsara-etl sql test\n  samsara-etl sql test fleet_trips")]
    Test {
        /// Models to test [default: all]
        models: Vec<String>,
        /// Write the expected rows of models that have pages but no expected.csv, for you to check
        #[arg(long)]
        update: bool,
    },
    /// Compare the rows that models make of committed raw data with the rows that are committed; nothing is written
    #[command(after_help = "Examples:
  samsara-etl sql diff fleet_trips
  samsara-etl sql diff --start-date 2024-01-01 --end-date 2024-02-01 --format json")]
    Diff {
        /// Model to compare [default: all that a run would derive again]
        model: Option<String>,
        /// Day, as 31/01/2024 or 2024-01-31 [default: the last that is committed]
        #[arg(long, value_parser = parse_date, conflicts_with_all = ["start_date", "end_date"])]
        day: Option<NaiveDate>,
        /// First day [default: the first that is committed, if there is an end date]
        #[arg(long, aliases = ["start_date", "start"], value_name = "DATE", value_parser = parse_date)]
        start_date: Option<NaiveDate>,
        /// Day after the last day (exclusive) [default: the day after the last that is committed, if there is a start date]
        #[arg(long, aliases = ["end_date", "end"], value_name = "DATE", value_parser = parse_date)]
        end_date: Option<NaiveDate>,
        /// Number of rows to show of each kind of change
        #[arg(long, default_value_t = 3, value_name = "N")]
        samples: usize,
        /// How to print it: in words, or as one JSON object (docs/json.md)
        #[arg(long, value_enum, default_value = "text")]
        format: OutputFormat,
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
    /// Whether it reads rows of the raw bucket.
    pub(super) fn reads_data(&self) -> bool {
        matches!(self, Self::Preview { .. } | Self::Diff { .. })
    }

    pub(super) async fn execute(self, context: &Context) -> Result<Exit, Error> {
        match self {
            Self::Check => check(context).await,
            Self::Preview {
                model,
                day,
                rows,
                format,
            } => preview(context, context.catalog()?, &model, day, rows, format).await,
            Self::Diff {
                model,
                day,
                start_date,
                end_date,
                samples,
                format,
            } => {
                let dates = match day {
                    Some(day) => Dates {
                        start: Some(day),
                        end: day.succ_opt(),
                    },
                    None => Dates {
                        start: start_date,
                        end: end_date,
                    },
                };
                if let (Some(start), Some(end)) = (dates.start, dates.end)
                    && start >= end
                {
                    return Err(Error::Usage(format!(
                        "the start {start} is not before the end {end} (the end date is exclusive)"
                    )));
                }
                let model = model.as_deref();
                diff(context, context.catalog()?, model, &dates, samples, format).await
            }
            Self::Test { models, update } => test(context, &models, update).await,
        }
    }
}

/// Runs the tests of these models, or of all if none is named.
async fn test(context: &Context, models: &[String], update: bool) -> Result<Exit, Error> {
    let catalog = context.catalog()?;
    let folder = context.sql_folder().ok_or_else(|| {
        Error::Usage(
            "no sql/ folder here: tests are read from disk; run in a folder with sql/, or give --sql-dir"
                .into(),
        )
    })?;
    models
        .iter()
        .try_for_each(|name| find(&catalog, name).map(|_| ()))?;
    let (mut good, mut bad) = (0, 0);
    for model in catalog
        .models()
        .filter(|model| models.is_empty() || models.contains(&model.name))
    {
        let tests = folder.join(&model.family).join("tests");
        let result = test_or_update(&catalog, model, &tests, update).await;
        if let Ok(Some(path)) = &result {
            say(format_args!("{}: written, to be checked", path.display()));
        }
        let result = result.map(|_| ());
        tell(
            &mut good,
            &mut bad,
            result.map_err(|error| format!("{}: {error}", model.name)),
        );
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

/// Compares models on these dates. Without a name, the models that a run would derive again.
async fn diff(
    context: &Context,
    catalog: Catalog,
    name: Option<&str>,
    dates: &Dates,
    samples: usize,
    format: OutputFormat,
) -> Result<Exit, Error> {
    let pipeline = Pipeline::looking(super::options::reading_config(context)?, catalog)?;
    let models: Vec<&Model> = match name {
        Some(name) => vec![find(pipeline.catalog(), name)?],
        None => pipeline.catalog().models().collect(),
    };
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for model in models {
        let differ = pipeline.differ(model).await?;
        let partitions = differ.partitions(dates);
        if partitions.is_empty() && name.is_some() {
            return Err(Error::Usage(format!(
                "no rows of {} are committed for these days: `samsara-etl run` reads and derives it",
                model.name
            )));
        }
        for partition in partitions {
            if name.is_none() && !differ.is_stale(partition).await? {
                continue;
            }
            match differ.diff(partition, samples).await {
                Ok(diff) => {
                    if format == OutputFormat::Text {
                        print(format_args!("{diff}\n"))?;
                    }
                    found.push(diff);
                }
                // The other models and days are compared nevertheless.
                Err(Error::Transform(
                    error @ (TransformError::Value { .. } | TransformError::Data { .. }),
                )) => {
                    say(format_args!("error: {error}"));
                    failed.push(Underived::of(&model.name, partition, &error));
                }
                Err(error) => return Err(error),
            }
        }
    }
    if format == OutputFormat::Json {
        json::print(&json::DiffDocument::of(&found, &failed))?;
    }
    let differ = found.iter().filter(|it| !it.is_empty()).count();
    let others = match failed.len() {
        0 => String::new(),
        failed => format!(", {failed} cannot be derived"),
    };
    say(format_args!(
        "{} partitions compared, {differ} differ{others}; nothing was written",
        found.len()
    ));
    let would_load = failed.is_empty() && found.iter().all(|it| it.refused.is_empty());
    Ok(match would_load {
        true => Exit::Success,
        false => Exit::Failure,
    })
}

/// Prints the problems of all files.
async fn check(context: &Context) -> Result<Exit, Error> {
    let CheckedCatalog {
        catalog,
        mut problems,
        files,
    } = context.checked_catalog()?;
    let is_unusable = problems.iter().any(Problem::is_error);
    let catalog = Arc::new(catalog);
    let (known, wrong) = bind_catalog(&catalog).await?;
    problems.extend(wrong);
    let known = known.values();
    problems.extend(known.flat_map(|bound| remarks(&bound.model, &bound.contract)));
    problems.sort_by(|a, b| (&a.file, a.place).cmp(&(&b.file, b.place)));
    problems.dedup();
    for problem in &problems {
        let text = files.get(&problem.file).map_or("", String::as_str);
        say(render(problem, text));
    }
    let wrong: BTreeSet<&str> = problems
        .iter()
        .filter(|problem| problem.is_error() && problem.file.ends_with(".sql"))
        .map(|problem| problem.file.as_str())
        .collect();
    let all = files.keys().filter(|path| path.ends_with(".sql")).count();
    let bad = wrong.len();
    say(format_args!(
        "{} models passed, {bad} failed ({})",
        all - bad,
        catalog.origin
    ));
    Ok(match problems.iter().any(Problem::is_error) {
        false => Exit::Success,
        true if is_unusable => Exit::Usage,
        true => Exit::Failure,
    })
}

/// A problem with its line, underlined.
fn render(problem: &Problem, text: &str) -> String {
    let level = match problem.is_error() {
        true => Level::ERROR,
        false => Level::WARNING,
    };
    let group = level.primary_title(problem.reason.as_str()).element(
        Snippet::source(text)
            .path(problem.file.as_str())
            .annotation(AnnotationKind::Primary.span(problem.place.bytes(text))),
    );
    Renderer::plain().render(&[group])
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
    let mut is_refused = false;
    for test in &found.failed_tests {
        let is_error = test.severity == TestSeverity::Error;
        is_refused |= is_error;
        let severity = if is_error { "error" } else { "warning" };
        say(format_args!("{severity}: {name} {partition}: {test}"));
    }
    match found.duplicates {
        None if is_refused => Ok(Exit::Failure),
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
