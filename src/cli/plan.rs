//! `plan`: says what a run would do.

use clap::Args;

use super::options::{RunRequestOptions, WorkOptions};
use super::{Context, Exit};
use crate::error::Error;
use crate::pipeline::Pipeline;

/// Show what a run with the same options would do, and change nothing.
#[derive(Debug, Args)]
pub(super) struct PlanCommand {
    #[command(flatten)]
    run_request: RunRequestOptions,
    #[command(flatten)]
    work: WorkOptions,
}

impl PlanCommand {
    pub(super) async fn execute(self, context: &Context) -> Result<Exit, Error> {
        let catalog = context.catalog()?;
        let run_request = self.run_request.run_request(&catalog, &context.directory)?;
        let pipeline = Pipeline::looking(self.work.config(context)?, catalog)?;
        super::output::print(format_args!("{}\n", pipeline.plan(run_request).await?))?;
        Ok(Exit::Success)
    }
}
