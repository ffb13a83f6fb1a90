//! `clean`: removes what no state lists.

use clap::Args;

use super::options::TargetOptions;
use super::{Context, Exit};
use crate::error::Error;
use crate::pipeline::Pipeline;

/// Remove files that no table refers to: leftovers of killed runs, superseded lists and days, old logs.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samsara-etl clean --dry-run
  samsara-etl clean --older-than 30")]
pub(super) struct Clean {
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Keep what was written in the last DAYS days
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    older_than: u32,
    /// Wait until another run on the same buckets has ended, instead of giving up
    #[arg(long)]
    wait: bool,
}

impl Clean {
    pub(super) async fn execute(self, context: &Context) -> Result<Exit, Error> {
        let mut config = TargetOptions::default().config(context)?;
        config.lock.wait = self.wait;
        let open = if self.dry_run {
            Pipeline::looking
        } else {
            Pipeline::new
        };
        let pipeline = open(config, context.catalog()?)?;
        let swept = pipeline.clean(self.older_than, self.dry_run).await?;
        super::output::print(format_args!("{swept}\n"))?;
        Ok(Exit::Success)
    }
}
