//! What loads of a run share.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::run::report_failure;
use crate::error::Error;
use crate::events::Observer;
use crate::load::Warehouse;
use crate::load::plan::LoadPlan;
use crate::state::Fence;
use crate::store::Bucket;
use crate::store::layout::{Partition, RunId};

/// Load jobs at a time, of all tables together.
pub(super) const LOADS: usize = 8;

/// What loads need.
pub(super) struct LoadContext {
    pub(super) plan: LoadPlan,
    pub(super) warehouse: Arc<dyn Warehouse>,
    pub(super) raw: Bucket,
    pub(super) flattened: Bucket,
    pub(super) fence: Fence,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) shutdown: CancellationToken,
    pub(super) run: RunId,
}

impl LoadContext {
    pub(super) fn failed(&self, table: &str, partition: Option<Partition>, error: &Error) {
        report_failure(self.observer.as_ref(), table, partition, error);
    }

    /// What the trial tables of all runs on these buckets have in their names.
    pub(super) fn trial_mark(&self) -> String {
        const_hex::encode(&Sha256::digest(self.raw.url().as_str())[..4])
    }

    /// Drops what trial loads of earlier runs have left: no other run is at work on these buckets.
    pub(super) async fn drop_trial_tables(&self) {
        match self.warehouse.drop_trial_tables(&self.trial_mark()).await {
            Ok(dropped) if dropped.is_empty() => {}
            Ok(dropped) => tracing::info!(
                tables = dropped.join(", "),
                "tables of earlier trial loads dropped"
            ),
            // They expire by themselves, a day after they were created.
            Err(error) => tracing::warn!(%error, "tables of earlier trial loads may be left"),
        }
    }
}
