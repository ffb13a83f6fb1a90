//! `plan`: says what a run would do.

use clap::Args;

use super::json::{self, OutputFormat};
use super::options::{RunRequestOptions, WorkOptions};
use super::{Context, Exit};
use crate::error::Error;
use crate::pipeline::Pipeline;
use crate::plan::Plan;

/// Show what a run with the same options would do, and change nothing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samsara-etl plan --lookback-days 7
  samsara-etl plan --table fleet_trips --format json")]
pub(super) struct PlanCommand {
    #[command(flatten)]
    run_request: RunRequestOptions,
    #[command(flatten)]
    work: WorkOptions,
    /// How to print it: in words, or as one JSON object (docs/json.md)
    #[arg(long, value_enum, default_value = "text")]
    format: OutputFormat,
}

impl PlanCommand {
    pub(super) async fn execute(self, context: &Context) -> Result<Exit, Error> {
        let catalog = context.catalog()?;
        let run_request = self.run_request.run_request(&catalog, &context.directory)?;
        let pipeline = Pipeline::looking(self.work.config(context)?, catalog)?;
        let mut plan = pipeline.plan(run_request).await?;
        pipeline.explain(&mut plan).await?;
        print(&plan, self.format)?;
        pipeline.abandon();
        Ok(Exit::Success)
    }
}

/// Prints a plan.
pub(super) fn print(plan: &Plan, format: OutputFormat) -> Result<(), Error> {
    match format {
        OutputFormat::Text => super::output::print(format_args!("{plan}\n")),
        OutputFormat::Json => json::print(&json::PlanDocument::of(plan)),
    }
}
