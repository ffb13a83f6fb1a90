//! Adds derived partitions to the Delta logs of their tables, after they are committed to the state.
//!
//! A commit takes all partitions that were derived since the last one, so that a backfill of years makes dozens of
//! commits instead of thousands: each costs a request, and readers replay all commits since the last checkpoint. The
//! last commit of a run also takes what earlier runs have left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::run::Run;
use crate::delta::{DeltaTable, Objects, When};
use crate::error::Error;
use crate::state::{SourceHandle, SourceState};
use crate::store::Bucket;
use crate::store::layout::Partition;

/// Tables that are committed at a time.
const TABLES: usize = 8;

/// The Delta tables of a run.
pub(super) struct DeltaStage {
    tables: BTreeMap<String, Table>,
    /// A table is committed when this many of its partitions wait.
    batch: usize,
    /// Limits concurrent commits to [`TABLES`]: a commit holds the log's entries of all files in memory.
    turns: Semaphore,
}

struct Table {
    /// The state that has its partitions.
    state: SourceHandle,
    delta: tokio::sync::Mutex<DeltaTable>,
    /// Partitions that were derived since the last commit.
    derived: Mutex<BTreeSet<Partition>>,
    /// Set when a commit has failed: nothing more is committed in this run.
    is_closed: AtomicBool,
}

impl DeltaStage {
    /// Of the selected tables.
    pub(super) async fn new(run: &Run, flattened: &Bucket, batch: usize) -> Result<Self, Error> {
        let mut tables = BTreeMap::new();
        for (name, contract) in &run.contracts {
            let (bound, _) = run.bound.table(name)?;
            let table = Table {
                state: run.states.source(&bound.driving.name).await?,
                delta: DeltaTable::new(flattened, contract).into(),
                derived: Mutex::default(),
                is_closed: AtomicBool::new(false),
            };
            tables.insert(name.clone(), table);
        }
        Ok(Self {
            tables,
            batch: batch.max(1),
            turns: Semaphore::new(TABLES),
        })
    }

    /// Records that a partition has new objects, and commits if enough partitions wait.
    pub(super) async fn take(&self, run: &Run, name: &str, partition: Partition) {
        let Some(table) = self.tables.get(name) else {
            return;
        };
        let waiting = {
            let mut derived = table.derived.lock();
            derived.insert(partition);
            derived.len()
        };
        if waiting >= self.batch {
            table.commit(run, name, When::Meanwhile, &self.turns).await;
        }
    }

    /// Brings all tables up to date with the state.
    pub(super) async fn finish(&self, run: &Run) {
        stream::iter(&self.tables)
            .for_each_concurrent(TABLES, |(name, table)| {
                table.commit(run, name, When::AtTheEnd, &self.turns)
            })
            .await;
    }
}

impl Table {
    /// Brings the table up to date with the state. A failure is reported; the other tables continue.
    async fn commit(&self, run: &Run, name: &str, when: When, turns: &Semaphore) {
        if self.is_closed.load(Ordering::Relaxed) || run.shutdown.is_cancelled() {
            return;
        }
        let mut delta = self.delta.lock().await;
        let _turn = turns.acquire().await;
        delta.take(std::mem::take(&mut *self.derived.lock()));
        let objects = self.state.look(|state| objects_of(state, name));
        if objects.is_empty() {
            return;
        }
        match delta
            .commit(&objects, when, &run.id, run.states.fence())
            .await
        {
            Ok(None) => {}
            Ok(Some(done)) => tracing::info!(
                table = name,
                version = done.version,
                added = done.added,
                removed = done.removed,
                "Delta log written"
            ),
            Err(error) => {
                self.is_closed.store(true, Ordering::Relaxed);
                run.failed(name, None, &error.into());
            }
        }
    }
}

/// The objects that the state lists of a table.
fn objects_of(state: &SourceState, table: &str) -> Objects {
    let partitions = state.partitions.iter();
    partitions
        .filter_map(|(partition, found)| Some((*partition, found.models.get(table)?)))
        .flat_map(|(partition, made)| made.objects.iter().map(move |it| (partition, it.clone())))
        .collect()
}
