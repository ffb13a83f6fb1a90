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
use crate::state::LockError;

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
    dry_run: bool,
    /// Wait for another run on the same buckets to end, instead of giving up
    #[arg(long)]
    wait: bool,
}

impl Run {
    pub(super) async fn execute(self, context: &Context) -> Result<Exit, Error> {
        let catalog = context.catalog()?;
        let wish = self.wish.wish(&catalog, &context.directory)?;
        let mut config = self.work.config(context)?;
        config.lock.wait = self.wait;
        if self.dry_run {
            let pipeline = Pipeline::new(config, catalog)?;
            super::output::print(format_args!("{}\n", pipeline.plan(wish).await?))?;
            return Ok(Exit::Success);
        }
        let (report, exit) = run_once(config, catalog, wish).await?;
        eprint!("{report}");
        Ok(exit)
    }
}

/// One run from plan to report.
pub(super) async fn run_once(config: Config, catalog: Catalog, wish: Wish) -> Result<(RunReport, Exit), Error> {
    let signals = Signals::listen();
    let pipeline = Pipeline::new(config, catalog)?;
    let plan = pipeline.plan(wish).await?;
    let result = pipeline.run(plan, vec![Arc::new(LogEvents)], signals.shutdown.clone()).await;
    let report = match (result, signals.exit()) {
        // Told to stop while it waited for the lock: nothing was begun.
        (Err(Error::Lock(LockError::Stopped { .. })), Some(signal)) => return Ok((RunReport::default(), signal)),
        (result, _) => result?,
    };
    let exit = match (signals.exit(), report.failures.is_empty(), report.did_something()) {
        (Some(signal), _, _) => signal,
        (None, true, _) => Exit::Success,
        (None, false, true) => Exit::Partial,
        (None, false, false) => Exit::Failure,
    };
    Ok((report, exit))
}
