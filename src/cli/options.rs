//! Options that several subcommands share, with the spellings of the replaced program.

use std::collections::BTreeSet;
use std::path::Path;

use clap::Args;

use super::Context;
use crate::catalog::{Catalog, Category};
use crate::clock;
use crate::config::{Config, DEMO_FOLDER, Environment, LOCAL_FOLDER, Overrides, TableFormat, env};
use crate::error::Error;
use crate::plan::{Dates, RunRequest, Selection, Stage, names_in_file};

/// Which tables, days and stages.
#[derive(Debug, Args)]
pub(super) struct RunRequestOptions {
    #[command(flatten)]
    period: PeriodOptions,
    /// Stages to run: extract (or download), transform, load [default: all]
    #[arg(long, value_delimiter = ',', num_args = 1.., value_name = "STAGE")]
    stages: Vec<String>,
    /// Read exactly the given period again, complete or not; feeds keep the position that they have
    #[arg(long, requires = "start_date", requires = "end_date")]
    historical: bool,
}

/// Which tables and days.
#[derive(Debug, Args)]
pub(super) struct PeriodOptions {
    /// First day, 31/01/2024 or 2024-01-31 [default: where each table left off]
    #[arg(long, alias = "start_date", value_name = "DATE")]
    start_date: Option<String>,
    /// Day after the last day (exclusive), in the same format [default: today]
    #[arg(long, alias = "end_date", value_name = "DATE")]
    end_date: Option<String>,
    /// Begin this many days before the end date, instead of --start-date
    #[arg(long, value_name = "N", conflicts_with = "start_date", value_parser = clap::value_parser!(u32).range(1..))]
    lookback_days: Option<u32>,
    #[command(flatten)]
    tables: TableOptions,
}

/// Which tables.
#[derive(Debug, Args)]
pub(super) struct TableOptions {
    /// ALL, or a file (.xlsx, .csv, .txt) whose first column names tables
    #[arg(
        long,
        alias = "table_file_path",
        visible_alias = "table-file-path",
        value_name = "ALL|FILE"
    )]
    tables: Option<String>,
    /// Table to include; may be repeated
    #[arg(long, value_name = "NAME")]
    table: Vec<String>,
    /// Group of tables to include; may be repeated
    #[arg(long, alias = "table_cat", value_enum)]
    category: Vec<Category>,
    /// Include tables that are read on request only, and are not part of ALL or a category
    #[arg(long, value_enum, value_name = "WHAT")]
    include: Vec<Include>,
}

impl RunRequestOptions {
    /// Checks the arguments against the catalog.
    pub(super) fn run_request(
        &self,
        catalog: &Catalog,
        directory: &Path,
    ) -> Result<RunRequest, Error> {
        let mut stages = BTreeSet::new();
        for stage in &self.stages {
            stages.insert(stage.parse().map_err(Error::Usage)?);
        }
        if stages.is_empty() {
            stages = [Stage::Extract, Stage::Transform, Stage::Load].into();
        }
        Ok(RunRequest {
            stages,
            historical: self.historical,
            ..self.period.run_request(catalog, directory)?
        })
    }
}

impl PeriodOptions {
    /// A request for these tables and days, with all stages.
    pub(super) fn run_request(
        &self,
        catalog: &Catalog,
        directory: &Path,
    ) -> Result<RunRequest, Error> {
        let mut dates = Dates::parse(self.start_date.as_deref(), self.end_date.as_deref())
            .map_err(Error::Usage)?;
        if let Some(days) = self.lookback_days {
            let end = dates.end.unwrap_or_else(|| clock::now().date_naive());
            let start = end.checked_sub_days(chrono::Days::new(u64::from(days)));
            dates.start =
                Some(start.ok_or_else(|| {
                    Error::Usage(format!("--lookback-days {days} is out of range"))
                })?);
        }
        Ok(RunRequest {
            selection: self.tables.selection(catalog, directory)?,
            dates,
            stages: [Stage::Extract, Stage::Transform, Stage::Load].into(),
            historical: false,
        })
    }
}

impl TableOptions {
    /// The tables.
    pub(super) fn selection(
        &self,
        catalog: &Catalog,
        directory: &Path,
    ) -> Result<Selection, Error> {
        let mut names = self.table.clone();
        let on_request = self.include.contains(&Include::OnRequest);
        match self.tables.as_deref() {
            Some(all) if all.eq_ignore_ascii_case("all") => {
                return Ok(Selection::all(catalog, on_request));
            }
            Some(file) => names.extend(names_in_file(&directory.join(file), catalog)?),
            None if names.is_empty() && self.category.is_empty() => {
                return Ok(Selection::all(catalog, on_request));
            }
            None => {}
        }
        Ok(
            Selection::of_names(catalog, &names)?.join(Selection::of_categories(
                catalog,
                &self.category,
                on_request,
            )),
        )
    }
}

/// What `ALL` and categories leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Include {
    /// Sources with `on_request`.
    OnRequest,
}

/// How to work.
#[derive(Debug, Args)]
pub(super) struct WorkOptions {
    /// Number of extract tasks that run at the same time
    #[arg(long, alias = "max_workers", value_name = "N", default_value_t = 5, value_parser = workers)]
    max_workers: usize,
    /// Share of Samsara's rate limits to use, such as 50% or 0.5, to leave room for other integrations
    #[arg(long, value_name = "SHARE", value_parser = share, default_value = "100%")]
    rate_share: f64,
    /// Format of the flattened tables in their bucket [default: SAMSARA_ETL_TABLE_FORMAT, or parquet]
    #[arg(long, value_enum, value_name = "FORMAT")]
    table_format: Option<TableFormat>,
    #[cfg(feature = "ballista")]
    #[command(flatten)]
    engine: EngineOptions,
    #[command(flatten)]
    target: TargetOptions,
}

/// What derives tables.
#[cfg(feature = "ballista")]
#[derive(Debug, Args)]
struct EngineOptions {
    /// What derives tables: this process, or an Apache Ballista cluster (docs/ballista.md)
    #[arg(long, value_enum, default_value = "local", value_name = "ENGINE")]
    engine: Engine,
    /// Scheduler of the Ballista cluster
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port, required_if_eq("engine", "ballista"))]
    scheduler: Option<String>,
}

#[cfg(feature = "ballista")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Engine {
    /// This process
    Local,
    /// A Ballista cluster
    Ballista,
}

#[cfg(feature = "ballista")]
impl EngineOptions {
    fn scheduler(&self) -> Result<Option<String>, Error> {
        match (self.engine, &self.scheduler) {
            (Engine::Local, Some(_)) => Err(Error::Usage(
                "--scheduler goes with --engine ballista".into(),
            )),
            (_, scheduler) => Ok(scheduler.clone()),
        }
    }
}

/// Reads `host:port`.
#[cfg(feature = "ballista")]
pub(super) fn host_and_port(text: &str) -> Result<String, String> {
    let url = url::Url::parse(&format!("http://{text}"));
    let is_plain = |url: &url::Url| {
        url.host().is_some()
            && url.path() == "/"
            && url.username().is_empty()
            && !text.ends_with('/')
    };
    let port = text
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse::<u16>().ok());
    match url.is_ok_and(|url| is_plain(&url)) && port.is_some_and(|port| port > 0) {
        true => Ok(text.into()),
        false => Err("expected HOST:PORT, such as 10.0.0.5:50050".into()),
    }
}

/// Where to.
#[derive(Debug, Default, Args)]
pub(super) struct TargetOptions {
    /// Load raw tables too, into the BigQuery dataset that DATABASE_ID names
    #[arg(long)]
    load_raw: bool,
    /// Google Cloud project [default: GOOGLE_CLOUD_PROJECT, or the project of the key file]
    #[arg(long)]
    project: Option<String>,
    /// Location of the dataset, which is created there if it does not exist [default: BIGQUERY_LOCATION, or BigQuery's]
    #[arg(long)]
    location: Option<String>,
}

impl WorkOptions {
    pub(super) fn config(&self, context: &Context) -> Result<Config, Error> {
        let overrides = Overrides {
            max_workers: Some(self.max_workers),
            rate_share: Some(self.rate_share),
            table_format: self.table_format,
            #[cfg(feature = "ballista")]
            scheduler: self.engine.scheduler()?,
            ..self.target.overrides()
        };
        resolve(context, &overrides)
    }
}

impl TargetOptions {
    fn overrides(&self) -> Overrides {
        Overrides {
            project: self.project.clone(),
            location: self.location.clone(),
            load_raw: self.load_raw,
            ..Overrides::default()
        }
    }

    pub(super) fn config(&self, context: &Context) -> Result<Config, Error> {
        resolve(context, &self.overrides())
    }
}

fn resolve(context: &Context, overrides: &Overrides) -> Result<Config, Error> {
    let environment = context.environment()?;
    let config = Config::resolve(&environment, overrides, &context.directory, LOCAL_FOLDER)?;
    warn_of_redirection(&environment, &config, &context.env_file());
    Ok(config)
}

/// Warns if `.env` decides where the token is sent and the token comes from elsewhere: the `.env` may be someone
/// else's.
fn warn_of_redirection(environment: &Environment, config: &Config, file: &Path) {
    if environment.is_of_file(env::SAMSARA_API_TOKEN) != Some(false) {
        return;
    }
    for variable in [
        env::SAMSARA_API_URL,
        env::HTTPS_PROXY,
        env::ALL_PROXY,
        env::SSL_CERT_FILE,
    ] {
        if environment.is_of_file(variable) == Some(true) {
            let host = config
                .samsara
                .url
                .as_ref()
                .filter(|_| variable.name == env::SAMSARA_API_URL.name);
            let host = host
                .map(|url| format!(" ({})", url.origin().ascii_serialization()))
                .unwrap_or_default();
            eprintln!(
                "warning: the API token comes from the environment, but {} sets {}{host}, which decides where it is sent; check that this is intended",
                file.display(),
                variable.name,
            );
        }
    }
}

/// The configuration for reading: without configured buckets, the folder of the last run or demo.
pub(super) fn reading_config(context: &Context) -> Result<Config, Error> {
    reading_config_of(context, None)
}

/// The same, for tables loaded into this project.
pub(super) fn reading_config_of(
    context: &Context,
    project: Option<String>,
) -> Result<Config, Error> {
    let environment = context.environment()?;
    let local = match context.directory.join(LOCAL_FOLDER).is_dir() {
        false if context.directory.join(DEMO_FOLDER).is_dir() => DEMO_FOLDER,
        _ => LOCAL_FOLDER,
    };
    let overrides = Overrides {
        project,
        ..Overrides::default()
    };
    Ok(Config::resolve(
        &environment,
        &overrides,
        &context.directory,
        local,
    )?)
}

/// More tasks than this wait for each other at Samsara's rate limits anyway.
const MOST_WORKERS: usize = 256;

fn workers(text: &str) -> Result<usize, String> {
    let number = text
        .trim()
        .parse()
        .ok()
        .filter(|number| (1..=MOST_WORKERS).contains(number));
    number.ok_or_else(|| format!("expected a number from 1 to {MOST_WORKERS}"))
}

fn share(text: &str) -> Result<f64, String> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (text, 1.0),
    };
    match number.trim().parse::<f64>().map(|number| number / scale) {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("expected a share above 0%, at most 100%, such as 50% or 0.5".into()),
    }
}
