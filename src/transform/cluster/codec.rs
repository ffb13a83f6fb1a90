//! How Ballista's processes tell each other of tasks.

use std::fmt;
use std::sync::Arc;

use ballista_core::serde::BallistaPhysicalExtensionCodec;
use bytes::Bytes;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use prost::Message;

use super::node::FlattenExec;
use super::worker::Worker;

/// With what the bytes of a task begin; those of Ballista's own operators do not.
const MARK: &[u8] = b"samsara-etl task 1\n";

/// Writes and reads our operator, and leaves all others to Ballista.
#[derive(Default)]
pub struct TaskCodec {
    ballista: BallistaPhysicalExtensionCodec,
    worker: Option<Worker>,
}

impl TaskCodec {
    /// For executors: what is read is run by `worker`.
    pub fn of_executor(worker: Worker) -> Self {
        Self {
            worker: Some(worker),
            ..Self::default()
        }
    }
}

impl fmt::Debug for TaskCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskCodec")
    }
}

/// An operator as bytes.
#[derive(Message)]
struct Node {
    /// The task, as JSON.
    #[prost(bytes = "bytes", tag = "1")]
    task: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    plan: Bytes,
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

impl PhysicalExtensionCodec for TaskCodec {
    fn try_decode(
        &self,
        bytes: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(bytes) = bytes.strip_prefix(MARK) else {
            return self.ballista.try_decode(bytes, inputs, context, converter);
        };
        let node = Node::decode(bytes).map_err(external)?;
        let task = serde_json::from_slice(&node.task).map_err(external)?;
        Ok(Arc::new(FlattenExec::new(
            task,
            node.plan,
            self.worker.clone(),
        )))
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        bytes: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let Some(flatten) = node.downcast_ref::<FlattenExec>() else {
            return self.ballista.try_encode(node, bytes, converter);
        };
        bytes.extend_from_slice(MARK);
        let task = serde_json::to_vec(flatten.task()).map_err(external)?;
        let node = Node {
            task: task.into(),
            plan: flatten.plan().clone(),
        };
        node.encode(bytes).map_err(external)
    }
}
