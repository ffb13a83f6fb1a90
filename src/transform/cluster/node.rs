//! A task as an operator of a plan that Ballista distributes.

use std::fmt;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, exec_err, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use futures::stream;

use super::task::{Outcome, Task};
use super::worker::Worker;

/// Runs a plan and writes its rows. It gives one row, of one text: the outcome.
#[derive(Debug)]
pub(super) struct FlattenExec {
    task: Task,
    /// The plan, as bytes: only who runs it reads it.
    plan: Bytes,
    /// Who runs it, on an executor.
    worker: Option<Worker>,
    properties: Arc<PlanProperties>,
}

impl FlattenExec {
    pub(super) fn new(task: Task, plan: Bytes, worker: Option<Worker>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self {
            task,
            plan,
            worker,
            properties: Arc::new(properties),
        }
    }

    pub(super) fn task(&self) -> &Task {
        &self.task
    }

    pub(super) fn plan(&self) -> &Bytes {
        &self.plan
    }
}

fn schema() -> SchemaRef {
    let outcome = Field::new("outcome", DataType::Utf8, false);
    Arc::new(Schema::new(vec![outcome]))
}

fn written(outcome: &Outcome) -> Result<RecordBatch> {
    let text = serde_json::to_string(outcome);
    let text = text.map_err(|error| DataFusionError::External(error.into()))?;
    let column = Arc::new(StringArray::from(vec![text]));
    Ok(RecordBatch::try_new(schema(), vec![column])?)
}

/// The outcome, as it was written.
pub(super) fn read(batches: &[RecordBatch]) -> Result<Outcome> {
    let texts = batches
        .iter()
        .filter_map(|batch| batch.column(0).as_string_opt::<i32>());
    let mut texts = texts.flat_map(|column| column.iter().flatten());
    let (Some(text), None) = (texts.next(), texts.next()) else {
        return exec_err!("a task came back without an outcome");
    };
    serde_json::from_str(text).map_err(|error| DataFusionError::External(error.into()))
}

impl DisplayAs for FlattenExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FlattenExec: {}", self.task.title())
    }
}

impl ExecutionPlan for FlattenExec {
    fn name(&self) -> &'static str {
        "FlattenExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(worker) = self.worker.clone() else {
            return internal_err!("a task is run by `samsara-etl executor` only");
        };
        let (task, plan) = (self.task.clone(), self.plan.clone());
        let outcome = stream::once(async move {
            let outcome = worker.run(task, plan).await?;
            written(&outcome)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema(), outcome)))
    }
}
