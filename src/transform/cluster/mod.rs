//! Partitions that are derived on an Apache Ballista cluster.
//!
//! The model is planned here, as ever. What the cluster gets is one task: the plan, in DataFusion's own serialized form,
//! and what its rows are to become. An executor runs the plan over the objects of the raw bucket, and checks and writes
//! the rows by the code that does it everywhere; what comes back is the list of the objects, which this process commits.
//! So no row passes this process, and Ballista decides where a task runs, and runs it again where an executor is lost.
//!
//! To Ballista, such a task is an operator without inputs ([`node::FlattenExec`]): it divides nothing further, and its
//! scheduler needs none of our functions.

mod client;
mod codec;
mod node;
mod plan;
mod task;
mod worker;

use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;

use super::{Checks, Contract, DataError, TransformError, Transformer, Written};
use crate::store::layout::{Partition, RunId};

pub use client::{Cluster, ClusterError};
pub use codec::TaskCodec;
pub use worker::Worker;

pub(super) use client::AT_ONCE;
use task::{Outcome, Task};

impl Transformer {
    /// Lets plans read the buckets by their own addresses, too.
    fn register_buckets(&self) {
        for bucket in [&self.raw, &self.flattened] {
            if bucket.is_google() {
                let (url, store) = (bucket.url(), bucket.store());
                self.runtime.register_object_store(url, store);
            }
        }
    }

    /// Has the cluster run a plan and write its rows; none if it has a part that cannot be sent.
    pub(super) async fn flatten_on(
        &self,
        cluster: &Cluster,
        plan: Arc<dyn ExecutionPlan>,
        contract: &Contract,
        partition: Partition,
        run: &RunId,
        checks: &Checks<'_>,
    ) -> Result<Option<Written>, TransformError> {
        let model = || contract.table.clone();
        let told = DataError::Rows;
        let failed = |error| TransformError::Cluster {
            model: model(),
            partition,
            error,
        };
        let salt = self.salt.as_ref();
        let (raw, flattened) = (&self.raw, &self.flattened);
        let task = Task::new(raw, flattened, salt, contract, partition, run, checks);
        let address = || cluster.address().to_string();
        match cluster.flatten(task, plan).await.map_err(failed)? {
            Outcome::Whole(flattened) => Ok(Some(Written::Whole(flattened))),
            // Each attempt has names of its own.
            Outcome::Duplicates => Ok(Some(Written::Duplicates { next_object: 0 })),
            Outcome::Value(reason) => Err(TransformError::Value {
                model: model(),
                partition,
                columns: Vec::new(),
                error: told(reason),
            }),
            Outcome::Data(reason) => Err(TransformError::Data {
                model: model(),
                partition,
                error: told(reason),
            }),
            Outcome::Store(reason) => {
                let address = address();
                Err(failed(ClusterError::Store { address, reason }))
            }
            Outcome::Refused(reason) => {
                let address = address();
                Err(failed(ClusterError::Refused { address, reason }))
            }
            Outcome::Unsendable(reason) => {
                let reason: String = reason.chars().take(REASON_CHARACTERS).collect();
                tracing::warn!(table = model(), %partition, reason, "the query cannot be sent to the cluster, and runs here");
                Ok(None)
            }
        }
    }
}

/// So much is said of why a plan cannot be sent: it may name all of the plan's operators.
const REASON_CHARACTERS: usize = 200;
/// Tasks must be understood, and functions be the same: client and executors are of one version.
const VERSION: &str = env!("CARGO_PKG_VERSION");
