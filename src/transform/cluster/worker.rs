//! Does tasks, on an executor.

use std::fmt;

use bytes::Bytes;
use datafusion::common::{DataFusionError, Result};
use datafusion::physical_plan::execute_stream;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::plan;
use super::task::{Outcome, Site, Task};
use crate::transform::{Checks, DataError, TransformError, Transformer, Written};

/// Does tasks with a transformer of its own.
#[derive(Clone)]
pub struct Worker {
    transformer: Transformer,
    /// Threads whose stack is large enough for any plan.
    cpu: Handle,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Worker")
    }
}

impl Worker {
    /// A worker whose plans run on `cpu`.
    pub fn new(transformer: Transformer, cpu: Handle) -> Self {
        transformer.register_buckets();
        Self { transformer, cpu }
    }

    /// Does a task.
    ///
    /// # Errors
    /// It panicked, or the executor is ending: then Ballista has another executor do it.
    pub(super) async fn run(&self, task: Task, plan: Bytes) -> Result<Outcome> {
        let transformer = self.transformer.clone();
        let running = self
            .cpu
            .spawn(async move { flatten(&transformer, &task, &plan).await });
        let joined = AbortOnDropHandle::new(running).await;
        joined.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))
    }
}

async fn flatten(transformer: &Transformer, task: &Task, plan: &[u8]) -> Outcome {
    let site = Site {
        raw: &transformer.raw,
        flattened: &transformer.flattened,
        salt: transformer.salt.as_ref(),
    };
    if let Some(reason) = task.misfit(&site) {
        return Outcome::Refused(reason);
    }
    let (plan, watched) = match plan::decode(plan, &transformer.tasks) {
        Ok(decoded) => decoded,
        Err(error) => return Outcome::Unsendable(error.to_string()),
    };
    let rows = match execute_stream(plan, transformer.tasks.clone()) {
        Ok(rows) => rows,
        Err(error) => return Outcome::Data(DataError::from(error).to_string()),
    };
    let checks = Checks {
        unique_key: &task.unique_key,
        watched: Some(&watched),
        hides: task.hides,
        first_object: 0,
        only_without_duplicates: task.only_without_duplicates,
    };
    let (contract, partition) = (&task.contract, task.partition);
    let run = task.attempt();
    let written = transformer.write(rows, contract, partition, &run, checks);
    match written.await {
        Ok(Written::Whole(flattened)) => Outcome::Whole(flattened),
        Ok(Written::Duplicates { .. }) => Outcome::Duplicates,
        Err(TransformError::Value { error, .. }) => Outcome::Value(error.to_string()),
        Err(TransformError::Data { error, .. }) => Outcome::Data(error.to_string()),
        Err(TransformError::Store { error, .. }) => Outcome::Store(error.to_string()),
        Err(error) => Outcome::Data(error.to_string()),
    }
}
