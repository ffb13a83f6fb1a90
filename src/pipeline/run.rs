//! What the stages of one run share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::catalog::Catalog;
use crate::config::LoadOptions;
use crate::error::Error;
use crate::events::{Event, Observer, Totals};
use crate::plan::{Plan, PlannedTask, Stage};
use crate::redact;
use crate::samsara::SamsaraError;
use crate::state::{PartitionState, StateStore};
use crate::store::layout::{Partition, RunId};
use crate::store::{Bucket, ObjectRef, StoreError};
use crate::transform::{BoundCatalog, Contract};

/// What all stages of one run share.
pub(super) struct Run {
    pub(super) catalog: Arc<Catalog>,
    pub(super) states: StateStore,
    pub(super) raw: Bucket,
    pub(super) id: RunId,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) shutdown: CancellationToken,
    /// The selected models and their upstream models, with what they read and the tables that they fill.
    pub(super) bound: BoundCatalog,
    /// The contracts of the tables of selected models, by table: these are loaded.
    pub(super) contracts: BTreeMap<String, Contract>,
    /// The warehouse's name in the state.
    pub(super) target: String,
    pub(super) load: LoadOptions,
    pub(super) cpu: Handle,
    /// After how many pages an unfinished task leaves a checkpoint.
    pub(super) checkpoint_every: u64,
    pub(super) plan: Plan,
    /// Sources that the token or the organisation does not have: requests for other days would fail too.
    pub(super) ended: Arc<Mutex<BTreeSet<String>>>,
    /// Sources that were refused (400) when requested alone: they are no longer requested together with others.
    pub(super) apart: Mutex<BTreeSet<String>>,
    /// Partitions that tasks of this run have passed on, by source.
    pub(super) extracted: Mutex<BTreeMap<String, BTreeSet<Partition>>>,
}

/// A source's partition whose raw rows are committed, to be derived.
pub(super) type Ready = (String, Partition);

/// Such partitions of one source.
pub(super) type ReadyOfSource = (String, Vec<Partition>);

impl Run {
    /// Reports a failure that affects one table or partition, not the run.
    pub(super) fn failed(&self, name: &str, partition: Option<Partition>, error: &Error) {
        report_failure(self.observer.as_ref(), name, partition, error);
    }

    /// How many models are derived from a partition of this source.
    pub(super) fn tables_of(&self, source: &str) -> u64 {
        self.bound.driven_by(source).count() as u64
    }

    /// How many partitions of models a task causes to be derived. The days of a feed are not known in advance.
    pub(super) fn tables_of_task(&self, task: &PlannedTask) -> u64 {
        let tables = task.sources.iter().map(|source| self.tables_of(source));
        tables.sum::<u64>() * task.scope.partitions().len() as u64
    }

    /// The totals of the plan, at this part of the documented rates.
    pub(super) fn totals(&self, rate_share: f64) -> Totals {
        let tasks = || self.plan.snapshots.iter().chain(&self.plan.windows);
        let estimate = self.plan.estimate;
        let derived: u64 = tasks().map(|task| self.tables_of_task(task)).sum();
        let checked = self.plan.committed.iter();
        let checked = checked.map(|(source, of)| self.tables_of(source) * of.len() as u64);
        let checked: u64 = checked.sum();
        let is_transform = self.plan.run_request.stages.contains(&Stage::Transform);
        Totals {
            requests: tasks().map(|task| task.requests).sum(),
            request_seconds: estimate.seconds / rate_share,
            tasks: tasks().count() as u64,
            partitions: if is_transform { derived + checked } else { 0 },
            jobs: estimate.load_jobs.map_or(0, |jobs| jobs.most),
        }
    }

    /// Whether the organisation or the token does not have the source.
    pub(super) fn has_ended(&self, source: &str) -> bool {
        locked(&self.ended).contains(source)
    }

    /// Stops requesting a source. Returns whether it was requested until now.
    pub(super) fn end_source(&self, source: &str) -> bool {
        locked(&self.ended).insert(source.to_string())
    }

    /// Whether the source was selected by name: then it is a failure if it is not available.
    pub(super) fn is_named(&self, source: &str) -> bool {
        self.plan.run_request.selection.named.contains(source)
    }

    /// Whether a response says that a source is not available, and the run reports that as a note instead of a failure:
    /// the source was not selected by name, and it was never read or is optional.
    pub(super) fn takes_leave(&self, source: &str, was_read: bool, error: &SamsaraError) -> bool {
        let is_optional = self
            .catalog
            .source(source)
            .is_some_and(|source| source.optional);
        // A beta endpoint may refuse organisations that are not in the beta.
        let is_first_refusal =
            is_optional && !was_read && matches!(error, SamsaraError::Refused { status: 400, .. });
        !self.is_named(source)
            && (error.is_unavailable() || is_first_refusal)
            && (is_optional || !was_read)
    }

    /// Records that a source was refused when it was requested alone.
    pub(super) fn set_apart(&self, sources: &[String]) {
        locked(&self.apart).extend(sources.iter().cloned());
    }

    /// Whether a source must be requested alone because it was refused.
    pub(super) fn is_apart(&self, source: &str) -> bool {
        locked(&self.apart).contains(source)
    }

    /// Whether a task of this run has passed on the partition.
    pub(super) fn has_extracted(&self, source: &str, partition: Partition) -> bool {
        let extracted = locked(&self.extracted);
        extracted
            .get(source)
            .is_some_and(|of_source| of_source.contains(&partition))
    }

    /// Keeps which partitions a task hands on.
    pub(super) fn add_extracted(&self, partitions: &[Ready]) {
        let mut extracted = locked(&self.extracted);
        for (source, partition) in partitions {
            let of_source = extracted.entry(source.clone()).or_default();
            of_source.insert(*partition);
        }
    }
}

/// Reports that a table or partition has failed; the others continue.
pub(super) fn report_failure(
    observer: &dyn Observer,
    name: &str,
    partition: Option<Partition>,
    error: &Error,
) {
    observer.observe(&Event::Failed {
        name: name.to_string(),
        partition: partition.map(|partition| partition.to_string()),
        error: redact::one_line(error),
        kind: error.kind(),
        remedy: error.hint().map(str::to_string),
    });
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a list has lost so many rows that the row-count guard refuses it. A source stands for all tables made of it.
pub(super) fn is_shrunken(run: &Run, source: &str, rows: u64, before: u64) -> bool {
    let models = run
        .catalog
        .models_of(source)
        .map(|model| model.name.as_str());
    models
        .chain([source])
        .all(|name| run.load.refuses_shrunken(name, rows, before))
}

/// The previous row count of a list that the row-count guard refuses.
pub(super) fn shrunken(run: &Run, source: &str, found: &PartitionState) -> Option<u64> {
    let rows = found.raw.as_ref()?.rows();
    found
        .shrunken_from
        .filter(|before| is_shrunken(run, source, rows, *before))
}

/// Whether all objects are in the bucket as they were written.
pub(super) async fn are_there(bucket: &Bucket, objects: &[ObjectRef]) -> Result<bool, StoreError> {
    match bucket.expect(objects).await {
        Ok(()) => Ok(true),
        Err(StoreError::Lost { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether an error affects everything instead of one table.
pub(super) fn ends_run(error: &Error) -> bool {
    match error {
        Error::Extract(error) => error.api().is_some_and(SamsaraError::ends_run),
        Error::Samsara(error) => error.ends_run(),
        Error::State(_) => true,
        _ => false,
    }
}
