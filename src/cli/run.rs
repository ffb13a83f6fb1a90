//! `run`: brings tables up to date.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::json::{self, OutputFormat};
use super::options::{RunRequestOptions, WorkOptions};
use super::output::{self, say};
use super::progress::{Display, Mode};
use super::signals::Signals;
use super::{Context, Exit};
use crate::catalog::{Catalog, did_you_mean};
use crate::config::{Config, LoadOptions};
use crate::error::Error;
use crate::events::{Event, FAILURES, LogEvents, Observer};
use crate::load;
use crate::pipeline::Pipeline;
use crate::plan::{RunRequest, Selection};
use crate::report::html::Page;
use crate::report::progress::ProgressObserver;
use crate::report::summary::{Detail, Summary};
use crate::report::{Idle, RunReport};
use crate::state::LockError;
use crate::store::Bucket;
use crate::telemetry::Telemetry;

/// Bring tables up to date: API → raw Parquet → SQL → flattened Parquet → warehouse.
///
/// Only what is missing, may still change, or was derived from other SQL is done; running twice does nothing twice.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samsara-etl run --lookback-days 7
  samsara-etl run --table fleet_trips --start-date 2024-01-01 --end-date 2024-02-01
  samsara-etl run --category fleet --stages transform,load
  samsara-etl run --progress plain --format json > summary.json")]
pub(super) struct Run {
    #[command(flatten)]
    run_request: RunRequestOptions,
    #[command(flatten)]
    work: WorkOptions,
    /// Show what would be done, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Keep logs for this many days, in ./logs and in the raw bucket
    #[arg(long, value_name = "N", default_value_t = 30)]
    log_retention_days: u32,
    /// Load this table again as a whole, from flattened Parquet; may be repeated
    #[arg(long, value_name = "TABLE")]
    full_refresh: Vec<String>,
    /// Load this list although its row count fell sharply; may be repeated
    #[arg(long, value_name = "TABLE|ALL")]
    accept_shrunken: Vec<String>,
    /// Derive and load this table although it has duplicate keys (unique_key); may be repeated
    #[arg(long, value_name = "TABLE|ALL")]
    accept_duplicates: Vec<String>,
    /// Wait until another run on the same buckets has ended, instead of giving up
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    show: ShowOptions,
}

/// What is shown of a run.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct ShowOptions {
    /// How to show progress, on stderr
    #[arg(long, value_enum, default_value = "auto", value_name = "HOW")]
    progress: Mode,
    /// How much to say at the end
    #[arg(long, value_enum, default_value = "short", value_name = "HOW")]
    summary: SummaryDetail,
    /// How to print the summary: in words on stderr, or as one JSON object on stdout (docs/json.md)
    #[arg(long, value_enum, default_value = "text")]
    format: OutputFormat,
}

/// How much to say at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SummaryDetail {
    /// What matters
    Short,
    /// All sources, tables and messages
    Full,
}

impl Run {
    pub(super) async fn execute(self, context: &Context) -> Result<Exit, Error> {
        let catalog = context.catalog()?;
        let run_request = self.run_request.run_request(&catalog, &context.directory)?;
        let mut config = self.work.config(context)?;
        config.load = LoadOptions {
            full_refresh: selected(
                &catalog,
                &run_request,
                "--full-refresh",
                &self.full_refresh,
                false,
            )?,
            accept_shrunken: match self.accept_shrunken.iter().any(|name| name == "ALL") {
                true => ["ALL".to_string()].into(),
                false => selected(
                    &catalog,
                    &run_request,
                    "--accept-shrunken",
                    &self.accept_shrunken,
                    true,
                )?,
            },
            accept_duplicates: match self.accept_duplicates.iter().any(|name| name == "ALL") {
                true => ["ALL".to_string()].into(),
                false => selected(
                    &catalog,
                    &run_request,
                    "--accept-duplicates",
                    &self.accept_duplicates,
                    false,
                )?,
            },
            ..LoadOptions::default()
        };
        config.lock.wait = self.wait;
        if self.dry_run {
            let pipeline = Pipeline::looking(config, catalog)?;
            let mut plan = pipeline.plan(run_request).await?;
            pipeline.explain(&mut plan).await?;
            super::plan::print(&plan, self.show.format)?;
            return Ok(Exit::Success);
        }
        let result = run_once(config.clone(), catalog, run_request, self.show, context).await;
        match &result {
            Ok(Ended { report, .. }) => {
                let run = report.run.as_str();
                let report = serde_json::to_string(report).unwrap_or_default();
                tracing::info!(run, report, "run finished");
            }
            Err(error) => tracing::error!(target: FAILURES, %error, "run failed"),
        }
        let page = result.as_ref().ok().and_then(|ended| ended.page.as_ref());
        self.ship_log(context, &config, page).await;
        let Ended { report, exit, .. } = result?;
        self.show.print(&report, context)?;
        Ok(exit)
    }

    /// Uploads the log to the raw bucket, whether the run succeeded or not, and writes the HTML report next to it.
    /// Failures of this are only warnings.
    async fn ship_log(&self, context: &Context, config: &Config, page: Option<&Page>) {
        let Some(log) = &context.log else { return };
        if let Some(reason) = log.lost() {
            say(format_args!(
                "warning: {} is incomplete: {reason}",
                log.path().display()
            ));
        }
        log.prune(self.log_retention_days);
        let io = tokio::runtime::Handle::current();
        let bucket = Bucket::open(&config.storage.raw, &config.storage.google, &io);
        let shipped = match &bucket {
            Ok(bucket) => log
                .ship(bucket, self.log_retention_days)
                .await
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = shipped {
            say(format_args!(
                "warning: the log was not uploaded and stays in {}: {error}",
                log.path().display()
            ));
        } else if let (Ok(bucket), Some(page)) = (&bucket, page)
            && let Err(error) = super::report::add_to_log(log, bucket, page).await
        {
            say(format_args!("warning: no HTML report of this run: {error}"));
        }
    }
}

/// The tables that an option names. Each must be in this run, or, with `or_parents`, be a parent list of it.
fn selected(
    catalog: &Catalog,
    run_request: &RunRequest,
    option: &str,
    names: &[String],
    or_parents: bool,
) -> Result<BTreeSet<String>, Error> {
    let parents = run_request
        .selection
        .sources
        .iter()
        .filter_map(|name| Some(&catalog.source(name)?.parent.as_ref()?.source));
    let parents: BTreeSet<&String> = parents.filter(|_| or_parents).collect();
    for name in names {
        let Some(model) = catalog.producer(name) else {
            let hint = did_you_mean(name, catalog.models().map(|model| model.name.as_str()));
            return Err(Error::Usage(format!(
                "{option}: unknown table `{name}`{hint}"
            )));
        };
        let is_parent = model.sources.iter().any(|source| parents.contains(source));
        if !is_parent && !run_request.selection.models.contains(&model.name) {
            return Err(Error::Usage(format!(
                "{option}: `{name}` is not one of the tables of this run"
            )));
        }
    }
    Ok(names.iter().cloned().collect())
}

impl ShowOptions {
    /// The default output.
    #[cfg(feature = "simulator")]
    pub(super) const DEFAULT: Self = Self {
        progress: Mode::Auto,
        summary: SummaryDetail::Short,
        format: OutputFormat::Text,
    };

    /// Prints what the run did.
    pub(super) fn print(self, report: &RunReport, context: &Context) -> Result<(), Error> {
        if self.format == OutputFormat::Json {
            return json::print(&json::Summary::of(report));
        }
        let detail = match self.summary {
            _ if context.quiet => Detail::Failures,
            SummaryDetail::Short => Detail::Short,
            SummaryDetail::Full => Detail::Full,
        };
        let width = output::width();
        let text = Summary {
            report,
            detail,
            width,
        }
        .to_string();
        if !text.is_empty() {
            say(text.trim_end());
        }
        Ok(())
    }
}

/// Prints the host before the first request.
struct NameHost;

impl Observer for NameHost {
    fn observe(&self, event: &Event) {
        if let Event::Connected { base } = event {
            eprintln!("reading from {base}");
        }
    }
}

/// How long a finished run may take to collect the data of its HTML report.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// A run that has ended.
pub(super) struct Ended {
    /// What it did.
    pub(super) report: RunReport,
    /// How the program ends.
    pub(super) exit: Exit,
    /// The state of its tables; none if the run was stopped, or keeps no log.
    page: Option<Page>,
}

/// One run from plan to report.
pub(super) async fn run_once(
    config: Config,
    catalog: Catalog,
    run_request: RunRequest,
    show: ShowOptions,
    context: &Context,
) -> Result<Ended, Error> {
    let observer = Arc::new(ProgressObserver::default());
    let seen = observer.clone();
    let signals = Signals::listen(move || Display::stopping(&seen));
    let stopped = |exit| Ended {
        report: RunReport {
            cancelled: true,
            ..RunReport::default()
        },
        exit,
        page: None,
    };
    let target = load::target_name(&config.warehouse);
    let selection = run_request.selection.clone();
    let pipeline = Pipeline::new(config, catalog)?;
    let plan = tokio::select! {
        // Nothing was begun yet.
        () = signals.shutdown.cancelled() => return Ok(stopped(signals.exit().unwrap_or(Exit::Interrupted))),
        plan = pipeline.plan(run_request) => plan?,
    };
    if let Some(notice) = plan.first_run_notice().filter(|_| !context.quiet) {
        say(output::folded(&format!("note: {notice}")));
    }
    let mode = if context.quiet {
        Mode::None
    } else {
        show.progress
    };
    let display = Display::start(mode, observer.clone());
    let mut observers: Vec<Arc<dyn Observer>> = vec![Arc::new(LogEvents), observer];
    if !context.quiet {
        observers.push(Arc::new(NameHost));
    }
    observers.extend(display.failures());
    observers.extend(context.telemetry.as_ref().map(Telemetry::observer));
    let result = pipeline
        .run(plan, observers, signals.shutdown.clone())
        .await;
    drop(display);
    let report = match (result, signals.exit()) {
        // Stopped while it waited for the lock: nothing was started.
        (Err(Error::Lock(LockError::Stopped { .. })), Some(signal)) => {
            return Ok(stopped(signal));
        }
        (result, _) => result?,
    };
    let exit = match (
        signals.exit(),
        report.failures.is_empty(),
        report.did_something(),
    ) {
        (Some(signal), _, _) => signal,
        (None, true, _) if report.idle == Some(Idle::NotAvailable) => Exit::Failure,
        (None, true, _) => Exit::Success,
        (None, false, true) => Exit::Partial,
        (None, false, false) => Exit::Failure,
    };
    // Who stops a run wants it to end.
    let page = match context.log.is_some() && signals.exit().is_none() {
        true => page_of_run(&pipeline, selection, &target).await,
        false => None,
    };
    pipeline.abandon();
    Ok(Ended { report, exit, page })
}

/// The coverage after a run, for its HTML report. An error here does not fail the run.
async fn page_of_run(pipeline: &Pipeline, selection: Selection, target: &str) -> Option<Page> {
    let page = super::report::page_of(pipeline, selection, target, None);
    match tokio::time::timeout(PAGE_TIMEOUT, page).await {
        Ok(Ok(page)) => Some(page),
        Ok(Err(error)) => {
            tracing::warn!(%error, "no HTML report of this run");
            None
        }
        Err(_) => {
            tracing::warn!("no HTML report of this run: the state could not be read in time");
            None
        }
    }
}
