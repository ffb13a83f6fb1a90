//! What loads of a run share.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::run::report_failure;
use crate::error::Error;
use crate::events::Observer;
use crate::load::Warehouse;
use crate::load::plan::{LoadPlan, TableLoad};
use crate::state::Fence;
use crate::store::Bucket;
use crate::store::layout::{Partition, RunId};

/// Load jobs at a time, of all tables together.
pub(super) const LOADS: usize = 8;
/// Partitions under way at a time: those without a running job wait for the write of their state document, which
/// commits all waiting partitions of a source together.
pub(super) const UNDER_WAY: usize = 256;

/// What loads need.
pub(super) struct LoadContext {
    pub(super) plan: LoadPlan,
    /// [`LOADS`], held by those that load.
    pub(super) jobs: Semaphore,
    pub(super) warehouse: Arc<dyn Warehouse>,
    pub(super) raw: Bucket,
    pub(super) flattened: Bucket,
    pub(super) fence: Fence,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) shutdown: CancellationToken,
    pub(super) run: RunId,
    /// Sources that were selected by name: their tables are created in any case.
    pub(super) named: BTreeSet<String>,
    /// Sources that are not requested because they were not available before.
    pub(super) not_asked: BTreeSet<String>,
    /// Sources that this run has found to be unavailable.
    pub(super) ended: Arc<Mutex<BTreeSet<String>>>,
}

impl LoadContext {
    pub(super) fn failed(&self, table: &str, partition: Option<Partition>, error: &Error) {
        report_failure(self.observer.as_ref(), table, partition, error);
    }

    /// Whether it is known before reading that a table may get rows: its source was read before, or selected by name.
    pub(super) fn is_certain(&self, table: &TableLoad) -> bool {
        table
            .state
            .look(|state| state.was_read() || self.named.contains(&state.source))
    }

    /// Whether a table may get rows, after what was read so far.
    pub(super) fn is_available(&self, table: &TableLoad) -> bool {
        let source = table.state.look(|state| state.source.clone());
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_certain(table) || !(self.not_asked.contains(&source) || ended.contains(&source))
    }

    /// A part of the names of the trial tables of all runs on these buckets.
    pub(super) fn trial_mark(&self) -> String {
        const_hex::encode(&Sha256::digest(self.raw.url().as_str())[..4])
    }

    /// Drops the trial tables that earlier runs have left: no other run works on these buckets now.
    pub(super) async fn drop_trial_tables(&self) {
        match self.warehouse.drop_trial_tables(&self.trial_mark()).await {
            Ok(dropped) if dropped.is_empty() => {}
            Ok(dropped) => tracing::info!(
                tables = dropped.join(", "),
                "tables of earlier trial loads dropped"
            ),
            // They expire a day after they were created.
            Err(error) => tracing::warn!(%error, "tables of earlier trial loads may be left"),
        }
    }
}
