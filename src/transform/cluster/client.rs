//! Has tasks done by a cluster.

use std::sync::Arc;
use std::time::Duration;

use ballista_core::config::BallistaConfig;
use ballista_core::execution_plans::execute_physical_plan;
use ballista_core::extension::SessionConfigExt;
use bytes::Bytes;
use datafusion::common::DataFusionError;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use datafusion_proto::protobuf::PhysicalPlanNode;
use futures::TryStreamExt;

use super::codec::TaskCodec;
use super::node::{self, FlattenExec};
use super::plan;
use super::task::{Outcome, Task};
use crate::http::ConnectionError;
use crate::redact;

/// How often a task is handed to the scheduler that the cluster does not finish. Ballista itself has another executor
/// do the task of one that is lost; this is for what it gives up, and for a scheduler that is started again.
const ATTEMPTS: u32 = 5;
/// How long is waited before the second time; twice as long before each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// How long the scheduler may take to say whether it is ready.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// Partitions that are with the cluster at a time.
pub(in crate::transform) const AT_ONCE: usize = 128;

/// The cluster cannot be used, or did not do a task.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Nothing answers at the scheduler's address.
    #[error(
        "no Ballista scheduler answers at {address}: {error} (start one with `samsara-etl scheduler`, or leave out --engine)"
    )]
    Unreachable {
        /// `host:port`.
        address: String,
        /// Why not.
        #[source]
        error: ConnectionError,
    },
    /// Something else answers there, or the scheduler is in trouble.
    #[error("what answers at {address} is not a Ballista scheduler that is ready: HTTP {status}")]
    Foreign {
        /// `host:port`.
        address: String,
        /// The status of its answer.
        status: u16,
    },
    /// There is nobody to do tasks.
    #[error(
        "the Ballista scheduler at {address} has no executors: start some with `samsara-etl executor --scheduler {address}`"
    )]
    NoExecutors {
        /// `host:port`.
        address: String,
    },
    /// A task was not finished.
    #[error("the Ballista cluster at {address} did not finish the task: {reason}")]
    Failed {
        /// `host:port`.
        address: String,
        /// What it said.
        reason: String,
    },
    /// The executor is not set up as this program is.
    #[error("an executor of the Ballista cluster at {address} refused the task: {reason}")]
    Refused {
        /// `host:port`.
        address: String,
        /// Why.
        reason: String,
    },
    /// A bucket failed on an executor.
    #[error("{reason} (on an executor of the Ballista cluster at {address})")]
    Store {
        /// `host:port`.
        address: String,
        /// The bucket's error.
        reason: String,
    },
}

/// A Ballista cluster, by its scheduler.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// `host:port`.
    address: String,
    /// The scheduler keeps settings by session: those of one run are the same.
    session: String,
}

impl Cluster {
    /// The cluster whose scheduler listens at `address` (`host:port`).
    pub fn new(address: &str) -> Self {
        Self {
            address: address.into(),
            session: format!("samsara-etl-{:032x}", rand::random::<u128>()),
        }
    }

    /// `host:port` of the scheduler.
    pub(in crate::transform) fn address(&self) -> &str {
        &self.address
    }

    /// Sees to it that there is a scheduler, and that it has executors.
    ///
    /// # Errors
    /// [`ClusterError::Unreachable`], [`ClusterError::Foreign`] or [`ClusterError::NoExecutors`].
    pub async fn check(&self) -> Result<(), ClusterError> {
        let address = || self.address.clone();
        let unreachable = |error: reqwest::Error| ClusterError::Unreachable {
            address: address(),
            error: error.into(),
        };
        // It is in the same network, like the cluster's own connections: no proxy.
        let client = reqwest::Client::builder().no_proxy().timeout(READY_TIMEOUT);
        let client = client.build().map_err(unreachable)?;
        let url = format!("http://{}/readyz", self.address);
        let answer = client.get(url).send().await.map_err(unreachable)?;
        match answer.status().as_u16() {
            200 => Ok(()),
            503 => Err(ClusterError::NoExecutors { address: address() }),
            status => Err(ClusterError::Foreign {
                address: address(),
                status,
            }),
        }
    }

    /// Has an executor run a plan and write its rows.
    ///
    /// # Errors
    /// [`ClusterError::Failed`] if the cluster does not finish it.
    ///
    /// # Cancel safety
    /// If the future is dropped, the cluster may go on; what it writes is in no state, and `clean` removes it.
    pub(in crate::transform) async fn flatten(
        &self,
        task: Task,
        plan: Arc<dyn ExecutionPlan>,
    ) -> Result<Outcome, ClusterError> {
        let plan: Bytes = match plan::encode(plan) {
            Ok(plan) => plan.into(),
            Err(error) => return Ok(Outcome::Unsendable(error.to_string())),
        };
        let title = task.title();
        let node: Arc<dyn ExecutionPlan> = Arc::new(FlattenExec::new(task, plan, None));
        let mut wait = FIRST_WAIT;
        let mut attempt = 1;
        loop {
            let error = match self.submit(node.clone()).await {
                Ok(outcome) => return Ok(outcome),
                Err(error) => redact::one_line(error),
            };
            if attempt == ATTEMPTS {
                return Err(ClusterError::Failed {
                    address: self.address.clone(),
                    reason: error,
                });
            }
            tracing::warn!(
                task = title,
                error,
                "the cluster did not finish a task, which is handed to it again"
            );
            tokio::time::sleep(wait).await;
            wait *= 2;
            attempt += 1;
        }
    }

    async fn submit(&self, node: Arc<dyn ExecutionPlan>) -> Result<Outcome, DataFusionError> {
        let (config, codec) = (BallistaConfig::default(), TaskCodec::default());
        let rows = execute_physical_plan::<PhysicalPlanNode>(
            format!("http://{}", self.address),
            &config,
            node,
            &codec,
            self.session.clone(),
            SessionConfig::new_with_ballista(),
        );
        let batches: Vec<_> = rows.await?.try_collect().await?;
        node::read(&batches)
    }
}
