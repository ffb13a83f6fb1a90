//! `run`: brings tables up to date.

use std::sync::Arc;

use clap::Args;

use super::options::{WishOptions, WorkOptions};
use super::signals::Signals;
use super::{Context, Exit};
use crate::catalog::Catalog;
use crate::config::Config;
use crate::error::Error;
use crate::events::LogEvents;
use crate::pipeline::Pipeline;
use crate::plan::Wish;
use crate::report::RunReport;
use crate::store::Bucket;

/// Bring tables up to date: API → raw Parquet → SQL → flattened Parquet → warehouse.
///
/// Only what is missing, may still change, or was derived from other SQL is done; running twice does nothing twice.
#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    wish: WishOptions,
    #[command(flatten)]
    work: WorkOptions,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Keep logs for this many days, in ./logs and in the raw bucket
    #[arg(long, value_name = "N", default_value_t = 30)]
    log_retention_days: u32,
}

impl Run {
    pub(super) async fn execute(self, context: &Context) -> Result<Exit, Error> {
        let catalog = context.catalog()?;
        let wish = self.wish.wish(&catalog, &context.directory)?;
        let config = self.work.config(context)?;
        if self.dry_run {
            let pipeline = Pipeline::new(config, catalog)?;
            super::output::print(format_args!("{}\n", pipeline.plan(wish).await?))?;
            return Ok(Exit::Success);
        }
        let result = run_once(config.clone(), catalog, wish).await;
        match &result {
            Ok((report, _)) => {
                let report = serde_json::to_string(report).unwrap_or_default();
                tracing::info!(report, "run finished");
            }
            Err(error) => tracing::info!(%error, "run failed"),
        }
        self.ship_log(context, &config).await;
        let (report, exit) = result?;
        eprint!("{report}");
        Ok(exit)
    }

    /// The log goes to the raw bucket whatever became of the run; that it cannot is no failure of the run.
    async fn ship_log(&self, context: &Context, config: &Config) {
        let Some(log) = &context.log else { return };
        log.prune(self.log_retention_days);
        let io = tokio::runtime::Handle::current();
        let shipped = match Bucket::open(&config.storage.raw, &config.storage.google, &io) {
            Ok(bucket) => log.ship(&bucket, self.log_retention_days).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = shipped {
            eprintln!("warning: the log stays in {}: {error}", log.path().display());
        }
    }
}

/// One run from plan to report.
pub(super) async fn run_once(config: Config, catalog: Catalog, wish: Wish) -> Result<(RunReport, Exit), Error> {
    let signals = Signals::listen();
    let pipeline = Pipeline::new(config, catalog)?;
    let plan = pipeline.plan(wish).await?;
    let report = pipeline.run(plan, vec![Arc::new(LogEvents)], signals.shutdown.clone()).await?;
    let exit = match (signals.exit(), report.failures.is_empty(), report.did_something()) {
        (Some(signal), _, _) => signal,
        (None, true, _) => Exit::Success,
        (None, false, true) => Exit::Partial,
        (None, false, false) => Exit::Failure,
    };
    Ok((report, exit))
}
