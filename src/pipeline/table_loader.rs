//! Loads one table: partition by partition, or all together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::OnceCell;

use super::load_context::{LOADS, LoadContext, UNDER_WAY};
use crate::error::Error;
use crate::events::{Event, LoadPurpose};
use crate::load::plan::{
    Action, FullLoad, FullLoadSteps, Method, Part, Slice, TableChange, TableLoad, is_loaded,
    rows_of,
};
use crate::load::{
    Batch, FlatObjects, LoadError, Loaded, ObservedLoad, ShapeMismatch, load, trial_table,
};
use crate::state::{Load, ModelState, Started};
use crate::store::layout::Partition;
use crate::transform::Contract;

/// One table in the course of a run.
pub(super) struct TableLoader<'a> {
    context: &'a LoadContext,
    table: &'a TableLoad,
    /// How it is loaded, once it exists; none if it cannot be loaded.
    method: OnceCell<Option<Method>>,
    /// Whether nothing more of it is loaded in this run.
    is_closed: AtomicBool,
    /// Set once no job of an earlier run is running any more.
    is_alone: OnceCell<()>,
    trial_begun: AtomicBool,
    /// Days that were derived since the last slice was considered.
    arrived: AtomicU64,
    /// Held by the slice that is at work.
    slices: tokio::sync::Mutex<Slices>,
}

/// How far a first load has come.
#[derive(Debug, Default)]
struct Slices {
    /// Days with rows that the last slice has loaded.
    loaded: u64,
    /// Whether there are no further slices: one has failed, or not all days fit into one job.
    are_over: bool,
}

/// How a load changes the table.
#[derive(Debug, Clone, Copy, Default)]
struct Replace {
    /// Whether it replaces all rows of the table, not only those of its partition.
    whole: bool,
    /// It gives the table the contract's shape.
    reshape: bool,
}

impl<'a> TableLoader<'a> {
    pub(super) fn new(context: &'a LoadContext, table: &'a TableLoad) -> Self {
        Self {
            context,
            table,
            method: OnceCell::new(),
            is_closed: AtomicBool::new(false),
            is_alone: OnceCell::new(),
            trial_begun: AtomicBool::new(false),
            arrived: AtomicU64::new(0),
            slices: tokio::sync::Mutex::default(),
        }
    }

    /// Whether it is known before reading that the table may get rows.
    pub(super) fn is_certain(&self) -> bool {
        self.context.is_certain(self.table)
    }

    /// Whether the table may get rows, after what was read so far.
    pub(super) fn is_available(&self) -> bool {
        self.context.is_available(self.table)
    }

    fn name(&self) -> &str {
        &self.table.contract.table
    }

    fn target(&self) -> &str {
        &self.context.plan.target
    }

    fn is_closed(&self) -> bool {
        self.context.shutdown.is_cancelled() || self.is_closed.load(Ordering::Relaxed)
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    fn failed(&self, partition: Option<Partition>, error: &Error) {
        // If the quota is used up, the table's next partition would be refused too.
        if matches!(error, Error::Load(error) if error.is_quota()) {
            self.close();
        }
        self.context.failed(self.name(), partition, error);
    }

    /// Ensures, once, that the table exists, and returns how it is loaded. A table of another shape is not loaded at
    /// all.
    pub(super) async fn method(&self) -> Option<Method> {
        let prepare = || async {
            let prepared = self.context.warehouse.prepare(&self.table.contract).await;
            match self.table.confirm(self.target(), prepared) {
                Ok(method) => Some(method),
                Err(error) => {
                    self.close();
                    self.failed(None, &error.into());
                    None
                }
            }
        };
        *self.method.get_or_init(prepare).await
    }

    /// Whether it is known that a derived partition needs no load: the table is loaded by partitions, and has it.
    pub(super) fn has(&self, partition: Partition) -> bool {
        let is_by_partition = self.method.get() == Some(&Some(Method::Partitions));
        let part = self.table.part(partition).filter(|_| is_by_partition);
        part.is_some_and(|(_, state)| is_loaded(&state, self.target()))
    }

    /// Takes a derived partition: loads it, or keeps it for a full load.
    pub(super) async fn take_partition(&self, partition: Partition) {
        let Some(method) = self.method().await.filter(|_| !self.is_closed()) else {
            return;
        };
        let result = match method {
            Method::Partitions => self.load_partition(partition, false).await,
            Method::Full(kind) => self.collect_partition(partition, kind).await,
        };
        if let Err(error) = result {
            self.failed(Some(partition), &error);
        }
    }

    /// Loads what waits for all partitions to be derived.
    pub(super) async fn finish(&self) {
        if let Some(Method::Full(kind)) = self.method().await
            && !self.is_closed()
            && let Err(error) = self.load_full(kind).await
        {
            self.failed(None, &error);
        }
    }

    /// Loads one partition unless it is loaded already; `force` loads it in any case.
    async fn load_partition(&self, partition: Partition, force: bool) -> Result<(), Error> {
        // The transform stage has reported what could not be derived.
        let Some(part) = self.table.part(partition) else {
            return Ok(());
        };
        match self
            .context
            .plan
            .action(self.name(), partition, &part.1, force)
        {
            Action::None => Ok(()),
            Action::Refuse { rows, loaded } => Err(LoadError::Shrunken {
                table: self.name().into(),
                rows,
                loaded,
            }
            .into()),
            Action::MarkEmpty => self.mark_empty(vec![part]).await,
            Action::Load => {
                let replace = Replace {
                    whole: partition == Partition::Snapshot,
                    reshape: false,
                };
                self.load_parts(vec![part], replace).await
            }
        }
    }

    /// Loads all partitions: as many as fit in one job, the others one by one.
    async fn load_full(&self, kind: FullLoad) -> Result<(), Error> {
        self.await_earlier_jobs().await?;
        let parts = self.table.parts();
        let change = match kind {
            FullLoad::First => TableChange::None,
            FullLoad::Refresh(change) => change,
        };
        if parts.is_empty() && change != TableChange::None {
            return Err(LoadError::Shape {
                table: self.name().into(),
                mismatch: ShapeMismatch::NothingDerived,
                replaceable: false,
            }
            .into());
        }
        let Some(steps) = self.context.plan.full_load(kind, parts) else {
            return Ok(());
        };
        if change == TableChange::Rebuild {
            self.rebuild_table(&steps).await?;
        }
        let FullLoadSteps {
            together,
            singly,
            empty,
        } = steps;
        // The job overwrites them: if this run ends early, the next one must know.
        self.invalidate(&singly).await?;
        if !together.is_empty() {
            let replace = Replace {
                whole: true,
                reshape: change == TableChange::Reshape,
            };
            self.load_parts(together, replace).await?;
        }
        if change == TableChange::Reshape {
            // What a load job does not set: labels, comments, expiration.
            self.context.warehouse.prepare(&self.table.contract).await?;
        }
        self.mark_empty(empty).await?;
        self.load_singly(singly).await;
        Ok(())
    }

    /// Drops the table and creates it again, after a trial load of all that its first job brings.
    async fn rebuild_table(&self, steps: &FullLoadSteps) -> Result<(), Error> {
        let warehouse = &self.context.warehouse;
        self.load_into_trial_table(&steps.together).await?;
        let dropped = [&steps.together[..], &steps.singly, &steps.empty].concat();
        self.invalidate(&dropped).await?;
        warehouse.drop_table(&self.table.contract).await?;
        warehouse.prepare(&self.table.contract).await?;
        Ok(())
    }

    /// Loads partitions one by one, whether or not they are loaded already. Their failures are reported.
    async fn load_singly(&self, parts: Vec<Part>) {
        stream::iter(parts)
            .for_each_concurrent(UNDER_WAY, |(partition, _)| async move {
                if !self.is_closed()
                    && let Err(error) = self.load_partition(partition, true).await
                {
                    self.failed(Some(partition), &error);
                }
            })
            .await;
    }

    /// Takes a derived partition of a table that gets a full load. The first one is loaded for trial; a first load
    /// continues with a slice when enough days are derived.
    async fn collect_partition(&self, partition: Partition, kind: FullLoad) -> Result<(), Error> {
        self.trial_load(partition).await?;
        if kind != FullLoad::First {
            return Ok(());
        }
        let arrived = self.arrived.fetch_add(1, Ordering::Relaxed) + 1;
        // One slice at a time; other tasks do not wait for it, and their days are in the next one.
        let Ok(mut slices) = self.slices.try_lock() else {
            return Ok(());
        };
        if !Slice::is_considered(arrived) || slices.are_over || self.is_closed() {
            return Ok(());
        }
        self.arrived.store(0, Ordering::Relaxed);
        match self.context.plan.slice(self.table.parts(), slices.loaded) {
            Slice::NotYet => {}
            Slice::TooLarge => slices.are_over = true,
            Slice::Days(days) => match self.load_full(kind).await {
                Ok(()) => slices.loaded = days,
                // The last job tries again with all days, and reports how that ended.
                Err(error) => {
                    tracing::warn!(table = self.name(), %error, "first load: the days so far cannot be loaded yet");
                    slices.are_over = true;
                }
            },
        }
        Ok(())
    }

    /// Trial load of the first partition with rows, before a long load: if the warehouse refuses it, it would refuse
    /// the job with all days, hours later.
    async fn trial_load(&self, partition: Partition) -> Result<(), Error> {
        if !self.table.has_trial {
            return Ok(());
        }
        let part = self.table.part(partition);
        let Some(part) = part.filter(|(_, state)| rows_of(state) > 0) else {
            return Ok(());
        };
        if self.trial_begun.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let result = self.load_into_trial_table(&[part]).await;
        if result.is_err() {
            self.close();
        }
        Ok(result?)
    }

    /// Loads partitions into a table that is dropped afterwards.
    async fn load_into_trial_table(&self, parts: &[Part]) -> Result<(), LoadError> {
        let context = self.context;
        let run = context.run.as_str().rsplit('-').next().unwrap_or_default();
        let contract = Contract {
            table: trial_table(self.name(), &context.trial_mark(), run),
            ..self.table.contract.clone()
        };
        let batch = Batch {
            bucket: context.flattened.clone(),
            partitions: parts.iter().map(flat_objects).collect(),
            whole: parts.len() > 1,
            reshape: false,
            attempt: 1,
        };
        let warehouse = context.warehouse.as_ref();
        let job = warehouse.job(&contract, &batch);
        if job.is_none() {
            return Ok(());
        }
        let watched = ObservedLoad {
            purpose: LoadPurpose::Trial,
            table: self.name().into(),
            partitions: batch.partitions.iter().map(|flat| flat.partition).collect(),
            job,
        };
        let _slot = context.jobs.acquire().await;
        let loaded = async {
            warehouse.prepare(&contract).await?;
            load(warehouse, &contract, &batch).await.map(|_| ())
        };
        let result = watched.run(context.observer.as_ref(), loaded).await;
        let dropped = warehouse.drop_table(&contract).await;
        result.and(dropped)
    }

    /// Waits, once, for the jobs that an earlier run has left running: a job that ends after its successor would
    /// replace new rows by old ones, and one with many days may overwrite days that it does not know of.
    async fn await_earlier_jobs(&self) -> Result<(), Error> {
        let awaited = self.is_alone.get_or_try_init(|| async {
            let left = |state: &ModelState| {
                let started = state.started.as_deref();
                started
                    .cloned()
                    .filter(|started| started.target == self.target())
            };
            let mut parts = self.table.parts();
            let mut jobs: Vec<Started> =
                parts.iter().filter_map(|(_, state)| left(state)).collect();
            jobs.dedup();
            stream::iter(jobs)
                .map(Ok)
                .try_for_each_concurrent(LOADS, |started| async move {
                    self.context.warehouse.await_job(&started).await
                })
                .await?;
            // Partitions that are not loaded yet find their job by the same id, or have another one.
            parts.retain(|(_, state)| left(state).is_some() && is_loaded(state, self.target()));
            let ended = |state: &mut ModelState, _: &ModelState| {
                let used = state.started.take().map_or(0, |started| started.attempt);
                state.attempts = state.attempts.max(used);
            };
            self.change_parts(&parts, ended).await
        });
        awaited.await.copied()
    }

    /// Starts the load, waits for its end, and records the result in the state.
    async fn load_parts(&self, parts: Vec<Part>, replace: Replace) -> Result<(), Error> {
        let begun = Instant::now();
        self.await_earlier_jobs().await?;
        let (context, contract) = (self.context, &self.table.contract);
        let used = parts.iter().map(|(_, state)| state.attempts).max();
        let batch = Batch {
            bucket: context.flattened.clone(),
            partitions: parts.iter().map(flat_objects).collect(),
            whole: replace.whole,
            reshape: replace.reshape,
            attempt: used.unwrap_or_default() + 1,
        };
        // If the objects are not those that were derived, the load would replace rows before the ledger is checked.
        let objects = batch.partitions.iter().flat_map(|flat| &flat.objects);
        let objects: Vec<_> = objects.cloned().collect();
        context.flattened.expect(&objects).await?;
        // Also without load jobs: after a crash, the next run must know that there may be rows.
        let started = Started {
            target: self.target().into(),
            job: context.warehouse.job(contract, &batch).unwrap_or_default(),
            attempt: batch.attempt,
        };
        let in_state = started.clone();
        self.change_parts(&parts, move |state, _| {
            state.started = Some(Box::new(in_state.clone()))
        })
        .await?;
        let slot = context.jobs.acquire().await;
        // A load by a run that lost its lock could undo what its successor has loaded.
        context.fence.check()?;
        let watched = ObservedLoad {
            purpose: LoadPurpose::Table,
            table: self.name().into(),
            partitions: batch.partitions.iter().map(|flat| flat.partition).collect(),
            job: Some(started.job).filter(|job| !job.is_empty()),
        };
        let loaded = load(context.warehouse.as_ref(), contract, &batch);
        let loaded = watched.run(context.observer.as_ref(), loaded).await;
        drop(slot);
        match loaded {
            Ok(loaded) => self.commit_loaded(parts, loaded, begun).await,
            Err(error) => {
                if let Some(used) = error.used() {
                    let ended = move |state: &mut ModelState, _: &ModelState| {
                        state.attempts = used;
                        state.started = None;
                    };
                    self.change_parts(&parts, ended).await?;
                }
                Err(error.into())
            }
        }
    }

    /// Commits that partitions without rows need no load.
    async fn mark_empty(&self, parts: Vec<Part>) -> Result<(), Error> {
        if parts.is_empty() {
            return Ok(());
        }
        let nothing = Loaded {
            rows: 0,
            job: None,
            attempt: 0,
        };
        self.commit_loaded(parts, nothing, Instant::now()).await
    }

    /// Commits that the partitions are loaded, each with the row count of its own Parquet.
    async fn commit_loaded(
        &self,
        parts: Vec<Part>,
        loaded: Loaded,
        begun: Instant,
    ) -> Result<(), Error> {
        let Loaded { job, attempt, .. } = loaded;
        let target: Arc<str> = self.target().into();
        let of_job = job.clone();
        let done = move |state: &mut ModelState, part: &ModelState| {
            state.load = Some(Load {
                target: target.clone(),
                fingerprint: part.fingerprint,
                job: of_job.clone(),
                rows: rows_of(part),
            });
            state.started = None;
            if of_job.is_some() {
                state.attempts = attempt;
            }
        };
        self.change_parts(&parts, done).await?;
        for (partition, state) in parts {
            self.context.observer.observe(&Event::PartitionLoaded {
                model: self.name().into(),
                partition,
                rows: rows_of(&state),
                bytes: state.objects.iter().map(|object| object.bytes).sum(),
                job: job.clone(),
                elapsed: begun.elapsed(),
            });
        }
        Ok(())
    }

    /// Commits that the partitions are not loaded, before they are overwritten.
    async fn invalidate(&self, parts: &[Part]) -> Result<(), Error> {
        let held = |(_, state): &&Part| state.load.as_ref().is_some_and(|load| load.rows > 0);
        let held: Vec<Part> = parts.iter().filter(held).cloned().collect();
        self.change_parts(&held, |state, _| state.load = None).await
    }

    /// Commits a change of partitions at once; `change` gets each as it is now and as it was when it was looked up.
    async fn change_parts(
        &self,
        parts: &[Part],
        change: impl Fn(&mut ModelState, &ModelState) + Send + 'static,
    ) -> Result<(), Error> {
        if parts.is_empty() {
            return Ok(());
        }
        let (table, parts) = (self.name().to_string(), parts.to_vec());
        self.table
            .state
            .commit(move |document| {
                for (partition, part) in &parts {
                    let models = &mut document.partition_mut(*partition).models;
                    if let Some(state) = models.get_mut(&table) {
                        change(Arc::make_mut(state), part);
                    }
                }
            })
            .await?;
        Ok(())
    }
}

fn flat_objects((partition, state): &Part) -> FlatObjects {
    FlatObjects {
        partition: *partition,
        objects: state.objects.clone(),
        fingerprint: state.fingerprint.to_hex(),
    }
}
