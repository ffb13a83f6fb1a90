//! Flattened partitions into the warehouse, wherever what is loaded is not what was derived.
//!
//! Days of a table that holds something are loaded as they come, each by itself. For a table that is loaded for the
//! first time, or anew, one job for each day would spend the project's 100,000 load jobs a day on a long backfill. So
//! a first load goes in slices: each time enough days have been derived, one job loads all that there are so far, and
//! the last one all. A load anew waits until all days are derived: until then, the rows of before stand. What waits are
//! names only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};
use tokio::sync::{OnceCell, Semaphore, mpsc};

use super::Run;
use super::transform_stage::Flat;
use crate::config::{JobLimits, LoadOptions};
use crate::error::Error;
use crate::events::Event;
use crate::load::{Batch, FlatObjects, LoadError, Loaded, Warehouse, load, rehearsal};
use crate::state::{Load, ModelState, SourceHandle, Started};
use crate::store::Bucket;
use crate::store::layout::Partition;
use crate::transform::Contract;

/// Load jobs at a time, of all tables together.
const LOADS: usize = 8;
/// Partitions that are under way at a time: those that are not in a job wait for the write of the state that tells of
/// their job, which takes as many of one source as there are.
const UNDER_WAY: usize = 256;
/// From this many days on, the first one is loaded for trial: a refusal then costs seconds and not hours.
pub(super) const TRIAL_LOAD_DAYS: usize = 8;

/// A first load is under way in slices of this many new days at least,
const SLICE_DAYS: u64 = 10;
/// and of this part of the days that are loaded already: as they are loaded again with each slice, a long backfill
/// comes to some twelve jobs, and to three times its rows.
const SLICE_PART: u64 = 2;

/// Whether so many derived days, of which so many are loaded, are worth a slice.
fn is_slice(derived: u64, loaded: u64) -> bool {
    let new = derived.saturating_sub(loaded);
    new >= SLICE_DAYS && new >= loaded / SLICE_PART
}

/// How many slices a first load of so many days has at most, before its last job.
pub(super) fn slices(days: u64) -> u64 {
    let ends = std::iter::successors(Some(0), |loaded| {
        (loaded + 1..days).find(|derived| is_slice(*derived, *loaded))
    });
    ends.count() as u64 - 1
}

/// A partition of a model as the state knows it.
type Part = (Partition, ModelState);

/// What is to be done with a partition that is loaded by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// It is loaded.
    Nothing,
    /// It has no rows, and none of it are loaded: that is noted.
    MarkEmpty,
    /// A list that is not believed.
    Shrunken {
        /// Rows in it.
        rows: u64,
        /// Rows that are loaded.
        loaded: u64,
    },
    /// A job.
    Load,
}

/// Decides for a partition; `again` loads also what is loaded.
pub(super) fn due(
    options: &LoadOptions,
    model: &str,
    partition: Partition,
    state: &ModelState,
    target: &str,
    force: bool,
) -> Due {
    if !force && is_loaded(state, target) {
        return Due::Nothing;
    }
    let (rows, loaded) = (rows_of(state), rows_loaded(state, target));
    if partition == Partition::Snapshot {
        let refused = options.refuses_shrunken(model, rows, loaded);
        return if refused {
            Due::Shrunken { rows, loaded }
        } else {
            Due::Load
        };
    }
    // A day without rows has nothing to replace, unless rows of it were loaded before, or may have been: what this
    // dataset holds is not known any more once another one was loaded.
    let elsewhere = state
        .load
        .as_ref()
        .is_some_and(|load| load.target != target);
    let nothing_there = loaded == 0 && state.started.is_none() && !elsewhere;
    if rows == 0 && nothing_there && !force {
        Due::MarkEmpty
    } else {
        Due::Load
    }
}

/// How many of the partitions go in one job, given how many objects each has.
pub(super) fn together(limits: JobLimits, objects: impl Iterator<Item = usize>) -> usize {
    let mut sum: usize = 0;
    let fits = |objects: &usize| {
        sum = sum.saturating_add(*objects);
        sum <= limits.objects
    };
    objects.take(limits.partitions).take_while(fits).count()
}

struct Loader<'a> {
    run: &'a Run,
    warehouse: &'a dyn Warehouse,
    flattened: Bucket,
    /// Held by those that load.
    jobs: Semaphore,
    /// Tables of which nothing more is loaded in this run.
    closed: Mutex<BTreeSet<String>>,
    /// Tables that are loaded as a whole, when all their days are derived.
    whole: BTreeMap<String, FullLoad>,
    /// Tables of which no job of an earlier run is under way any more.
    settled: BTreeMap<String, OnceCell<()>>,
    trial_loaded: Mutex<BTreeSet<String>>,
    /// How far the first loads of this run have come.
    first: BTreeMap<String, FirstLoad>,
}

/// Why a table is loaded as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FullLoad {
    /// Nothing of it is loaded.
    First,
    /// Everything of it is loaded again.
    Refresh(Change),
}

/// What a refresh does with the table itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Nothing: its shape is right.
    None,
    /// It takes the contract's columns and types, in one step with the rows.
    Reshape,
    /// It is dropped and made anew, because no load can bring it to its shape.
    Rebuild,
}

/// How far the first load of a table has come.
#[derive(Debug, Default)]
struct FirstLoad {
    /// Days that have arrived since it was last looked at.
    arrived: AtomicU64,
    /// Held by the slice that is at work.
    slices: tokio::sync::Mutex<Slices>,
}

#[derive(Debug, Default)]
struct Slices {
    /// Days with rows that the last one has loaded.
    loaded: u64,
    /// Whether further ones are of no use: one has failed, or not all days go in one job.
    are_over: bool,
}

/// Runs the load stage, or drains its queue if it is not asked for.
///
/// A run that has to stop does not wait for jobs, which may take hours: the state knows of them, and the next run finds
/// them.
pub(super) async fn load_stage(
    run: Arc<Run>,
    warehouse: Option<Arc<dyn Warehouse>>,
    flattened: Bucket,
    mut loadable: mpsc::Receiver<Flat>,
) -> Result<(), Error> {
    let Some(warehouse) = warehouse else {
        while loadable.recv().await.is_some() {}
        return Ok(());
    };
    tokio::select! {
        () = run.shutdown.cancelled() => {}
        () = load_all(&run, warehouse.as_ref(), flattened, loadable) => {}
    }
    Ok(())
}

async fn load_all(
    run: &Run,
    warehouse: &dyn Warehouse,
    flattened: Bucket,
    loadable: mpsc::Receiver<Flat>,
) {
    let mut loader = Loader {
        run,
        warehouse,
        flattened,
        jobs: Semaphore::new(LOADS),
        closed: Mutex::default(),
        whole: BTreeMap::new(),
        settled: run
            .contracts
            .keys()
            .map(|table| (table.clone(), OnceCell::new()))
            .collect(),
        trial_loaded: Mutex::default(),
        first: BTreeMap::new(),
    };
    loader.drop_rehearsals().await;
    loader.whole = loader.prepare().await;
    let first = loader
        .whole
        .iter()
        .filter(|(_, whole)| **whole == FullLoad::First);
    loader.first = first
        .map(|(table, _)| (table.clone(), FirstLoad::default()))
        .collect();
    let loader = &loader;
    let arrivals = stream::unfold(loadable, |mut queue| async move {
        queue.recv().await.map(|item| (item, queue))
    });
    arrivals
        .for_each_concurrent(UNDER_WAY, |(model, partition)| async move {
            if loader.is_closed(&model) {
                return;
            }
            let result = match loader.whole.get(&model) {
                None => loader.load_partition(&model, partition, false).await,
                Some(_) => loader.collect(&model, partition).await,
            };
            if let Err(error) = result {
                loader.failed(&model, Some(partition), &error);
            }
        })
        .await;
    stream::iter(&loader.whole)
        .for_each_concurrent(LOADS, |(model, whole)| async move {
            if !loader.is_closed(model)
                && let Err(error) = loader.load_full(model, *whole).await
            {
                loader.failed(model, None, &error);
            }
        })
        .await;
}

impl Loader<'_> {
    fn is_closed(&self, model: &str) -> bool {
        self.run.shutdown.is_cancelled()
            || self
                .closed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(model)
    }

    fn close(&self, model: &str) {
        self.closed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(model.to_string());
    }

    fn failed(&self, model: &str, partition: Option<Partition>, error: &Error) {
        // A used-up quota is not better for the table's next partition.
        if matches!(error, Error::Load(LoadError::Quota { .. })) {
            self.close(model);
        }
        self.run.failed(model, partition, error);
    }

    /// Sees to it that tables exist, also those that no row came for, and tells which are loaded as a whole. A table
    /// of another shape is not loaded at all.
    async fn prepare(&self) -> BTreeMap<String, FullLoad> {
        let decide = |contract| async move {
            match self.decide(contract).await {
                Ok(whole) => whole.map(|whole| (contract.table.clone(), whole)),
                Err(error) => {
                    self.run.failed(&contract.table, None, &error);
                    self.close(&contract.table);
                    None
                }
            }
        };
        stream::iter(self.run.contracts.values())
            .map(decide)
            .buffer_unordered(LOADS)
            .filter_map(|whole| async { whole })
            .collect()
            .await
    }

    async fn decide(&self, contract: &Contract) -> Result<Option<FullLoad>, Error> {
        let asked = self.run.load.full_refresh.contains(&contract.table);
        let prepared = match self.warehouse.prepare(contract).await {
            Ok(prepared) => prepared,
            // Seen, and not guessed from a call that failed: that could be an outage.
            Err(LoadError::Shape { replaceable, .. }) if asked => {
                return Ok(Some(FullLoad::Refresh(if replaceable {
                    Change::Reshape
                } else {
                    Change::Rebuild
                })));
            }
            Err(error) => return Err(error.into()),
        };
        if asked {
            return Ok(Some(FullLoad::Refresh(Change::None)));
        }
        let Some((_, parts)) = self.parts(&contract.table).await? else {
            return Ok(None);
        };
        let target = self.warehouse.target();
        if parts
            .iter()
            .any(|(_, state)| rows_loaded(state, target) > 0)
        {
            // Rows were loaded and are gone; where partitions expire that is as it should be.
            if prepared.is_empty && contract.partition_expiration_days.is_none() {
                tracing::warn!(
                    table = contract.table,
                    "the table was emptied by someone else, all is loaded again"
                );
                return Ok(Some(FullLoad::Refresh(Change::None)));
            }
            return Ok(None);
        }
        // Rows that the state does not know are not ours to replace, unless a job of ours has brought them.
        let ours = |state: &ModelState| {
            state
                .started
                .as_ref()
                .is_some_and(|started| started.target == target)
        };
        let is_ours = prepared.is_empty || parts.iter().any(|(_, state)| ours(state));
        Ok((contract.partition_by.is_some() && is_ours).then_some(FullLoad::First))
    }

    /// Waits, once, for the jobs that an earlier run has left under way: one that ends after its successor would put
    /// old rows in the place of new ones, and one with many days may wipe days that it does not know of.
    async fn settled(&self, model: &str) -> Result<(), Error> {
        let Some(settled) = self.settled.get(model) else {
            return Ok(());
        };
        settled
            .get_or_try_init(|| self.settle(model))
            .await
            .copied()
    }

    async fn settle(&self, model: &str) -> Result<(), Error> {
        let Some((handle, mut parts)) = self.parts(model).await? else {
            return Ok(());
        };
        let target = self.warehouse.target();
        let left = |state: &ModelState| {
            state
                .started
                .clone()
                .filter(|started| started.target == target)
        };
        parts.retain(|(_, state)| left(state).is_some());
        let mut jobs: Vec<Started> = parts.iter().filter_map(|(_, state)| left(state)).collect();
        jobs.dedup();
        stream::iter(jobs)
            .map(Ok)
            .try_for_each_concurrent(LOADS, |started| async move {
                self.warehouse.settle(&started).await
            })
            .await?;
        // What is not loaded yet finds its job by the same name, or has another one.
        parts.retain(|(_, state)| is_loaded(state, target));
        if parts.is_empty() {
            return Ok(());
        }
        let over = |state: &mut ModelState, _: &ModelState| {
            let used = state.started.take().map_or(0, |started| started.attempt);
            state.attempts = state.attempts.max(used);
        };
        change(&handle, model, &parts, over).await
    }

    /// All derived partitions of a model, with the state document that they stand in.
    async fn parts(&self, model: &str) -> Result<Option<(SourceHandle, Vec<Part>)>, Error> {
        let Some(driver) = self.run.catalog.driving_source_of(model) else {
            return Ok(None);
        };
        let handle = self.run.states.source(&driver.name).await?;
        let parts = handle.look(|state| {
            let parts = state.partitions.iter();
            parts
                .filter_map(|(partition, it)| Some((*partition, it.models.get(model)?.clone())))
                .collect()
        });
        Ok(Some((handle, parts)))
    }

    /// Loads one partition, if it is not the one that is loaded.
    async fn load_partition(
        &self,
        model: &str,
        partition: Partition,
        force: bool,
    ) -> Result<(), Error> {
        let Some(contract) = self.run.contracts.get(model) else {
            return Ok(());
        };
        let Some((handle, state)) = self.part(model, partition).await? else {
            return Ok(());
        };
        let due = due(
            &self.run.load,
            model,
            partition,
            &state,
            self.warehouse.target(),
            force,
        );
        let part = vec![(partition, state)];
        match due {
            Due::Nothing => Ok(()),
            Due::Shrunken { rows, loaded } => Err(LoadError::Shrunken {
                table: model.into(),
                rows,
                loaded,
            }
            .into()),
            Due::MarkEmpty => {
                let nothing = Loaded {
                    rows: 0,
                    job: None,
                    attempt: 0,
                };
                self.note(&handle, model, part, nothing, Instant::now())
                    .await
            }
            Due::Load => {
                self.submit(
                    &handle,
                    contract,
                    part,
                    partition == Partition::Snapshot,
                    false,
                )
                .await
            }
        }
    }

    async fn part(
        &self,
        model: &str,
        partition: Partition,
    ) -> Result<Option<(SourceHandle, ModelState)>, Error> {
        let Some(driver) = self.run.catalog.driving_source_of(model) else {
            return Ok(None);
        };
        let handle = self.run.states.source(&driver.name).await?;
        let state = handle.look(|state| {
            state
                .partition(partition)
                .and_then(|it| it.models.get(model).cloned())
        });
        Ok(state.map(|state| (handle, state)))
    }

    /// Loads all partitions of a model: as many as a job takes in one, the others by themselves.
    async fn load_full(&self, model: &str, whole: FullLoad) -> Result<(), Error> {
        let Some(contract) = self.run.contracts.get(model) else {
            return Ok(());
        };
        self.settled(model).await?;
        let Some((handle, parts)) = self.parts(model).await? else {
            return Ok(());
        };
        let target = self.warehouse.target();
        // Days without rows were noted before, and there is nothing else.
        let nothing_new =
            whole == FullLoad::First && parts.iter().all(|(_, state)| is_loaded(state, target));
        let change = match whole {
            FullLoad::First => Change::None,
            FullLoad::Refresh(change) => change,
        };
        if parts.is_empty() && change != Change::None {
            let reason =
                "it has another shape, and nothing is derived that could take its place".into();
            return Err(LoadError::Shape {
                table: model.into(),
                reason,
                replaceable: false,
            }
            .into());
        }
        if parts.is_empty() || nothing_new {
            return Ok(());
        }
        let (mut filled, mut empty): (Vec<Part>, Vec<Part>) =
            parts.into_iter().partition(|(_, state)| rows_of(state) > 0);
        if filled.is_empty() && whole != FullLoad::First {
            // One Parquet without rows empties the table.
            filled.extend(empty.pop());
        }
        let together = together(
            self.run.load.limits,
            filled.iter().map(|(_, state)| state.objects.len()),
        );
        let rest = filled.split_off(together);
        if change == Change::Rebuild {
            // All that the new table is to hold is loaded for trial before the old one goes.
            self.trial(contract, &filled).await?;
            let dropped = [&filled[..], &rest, &empty].concat();
            invalidate(&handle, model, &dropped).await?;
            self.warehouse.drop_table(contract).await?;
            self.warehouse.prepare(contract).await?;
        }
        // The job will wipe them: if this run comes no further, the next one must know.
        invalidate(&handle, model, &rest).await?;
        if !filled.is_empty() {
            self.submit(&handle, contract, filled, true, change == Change::Reshape)
                .await?;
        }
        if change == Change::Reshape {
            // What a load does not bring: labels, comments, expiration.
            self.warehouse.prepare(contract).await?;
        }
        empty.retain(|(_, state)| !is_loaded(state, target) || rows_loaded(state, target) > 0);
        if !empty.is_empty() {
            let nothing = Loaded {
                rows: 0,
                job: None,
                attempt: 0,
            };
            self.note(&handle, model, empty, nothing, Instant::now())
                .await?;
        }
        stream::iter(rest)
            .for_each_concurrent(UNDER_WAY, |(partition, _)| async move {
                if !self.is_closed(model)
                    && let Err(error) = self.load_partition(model, partition, true).await
                {
                    self.failed(model, Some(partition), &error);
                }
            })
            .await;
        Ok(())
    }

    /// Starts the load, sees it through, and keeps in the state what became of it.
    async fn submit(
        &self,
        handle: &SourceHandle,
        contract: &Contract,
        parts: Vec<Part>,
        whole: bool,
        reshape: bool,
    ) -> Result<(), Error> {
        let begun = Instant::now();
        self.settled(&contract.table).await?;
        let batch = Batch {
            bucket: self.flattened.clone(),
            partitions: parts.iter().map(flat_objects).collect(),
            whole,
            reshape,
            attempt: parts
                .iter()
                .map(|(_, state)| state.attempts)
                .max()
                .unwrap_or_default()
                + 1,
        };
        // An object that is not the one that was derived would replace rows before the ledger finds out.
        let objects: Vec<_> = batch
            .partitions
            .iter()
            .flat_map(|flat| &flat.objects)
            .cloned()
            .collect();
        self.flattened.expect(&objects).await?;
        let target = self.warehouse.target();
        let model = contract.table.as_str();
        // Also where there are no jobs: whoever comes after a crash must know that there may be rows.
        let job = self.warehouse.job(contract, &batch).unwrap_or_default();
        let started = Started {
            target: target.into(),
            job,
            attempt: batch.attempt,
        };
        change(handle, model, &parts, move |state, _| {
            state.started = Some(started.clone())
        })
        .await?;
        let job = self.jobs.acquire().await;
        // A partition replaced by a run that lost its lock could undo what its successor has loaded.
        self.run.states.fence().check()?;
        let loaded = load(self.warehouse, contract, &batch).await;
        drop(job);
        match loaded {
            Ok(loaded) => self.note(handle, model, parts, loaded, begun).await,
            Err(error) => {
                if let Some(used) = error.used() {
                    let over = move |state: &mut ModelState, _: &ModelState| {
                        state.attempts = used;
                        state.started = None;
                    };
                    change(handle, model, &parts, over).await?;
                }
                Err(error.into())
            }
        }
    }

    /// Commits that the partitions are loaded, each with the rows of its own Parquet.
    async fn note(
        &self,
        handle: &SourceHandle,
        model: &str,
        parts: Vec<Part>,
        loaded: Loaded,
        begun: Instant,
    ) -> Result<(), Error> {
        let Loaded { job, attempt, .. } = loaded;
        let target = self.warehouse.target().to_string();
        let of_job = job.clone();
        let done = move |state: &mut ModelState, part: &ModelState| {
            let fingerprint = part.fingerprint.clone();
            state.load = Some(Load {
                target: target.clone(),
                fingerprint,
                job: of_job.clone(),
                rows: rows_of(part),
            });
            state.started = None;
            if of_job.is_some() {
                state.attempts = attempt;
            }
        };
        change(handle, model, &parts, done).await?;
        for (partition, state) in parts {
            self.run.observer.observe(&Event::PartitionLoaded {
                model: model.into(),
                partition,
                rows: rows_of(&state),
                bytes: state.objects.iter().map(|object| object.bytes).sum(),
                job: job.clone(),
                elapsed: begun.elapsed(),
            });
        }
        Ok(())
    }

    /// Takes a derived partition of a table that is loaded as a whole.
    async fn collect(&self, model: &str, partition: Partition) -> Result<(), Error> {
        self.trial_load(model, partition).await?;
        let Some(first) = self.first.get(model) else {
            return Ok(());
        };
        let arrived = first.arrived.fetch_add(1, Ordering::Relaxed) + 1;
        // One slice at a time; who comes meanwhile does not wait for it, and is in the next one.
        let Ok(mut slices) = first.slices.try_lock() else {
            return Ok(());
        };
        if arrived < SLICE_DAYS || slices.are_over || self.is_closed(model) {
            return Ok(());
        }
        first.arrived.store(0, Ordering::Relaxed);
        let Some((_, mut parts)) = self.parts(model).await? else {
            return Ok(());
        };
        parts.retain(|(_, state)| rows_of(state) > 0);
        let derived = parts.len() as u64;
        if !is_slice(derived, slices.loaded) {
            return Ok(());
        }
        if together(
            self.run.load.limits,
            parts.iter().map(|(_, state)| state.objects.len()),
        ) < parts.len()
        {
            // What one job does not take is loaded by itself, once it is certain that no job will wipe it again.
            slices.are_over = true;
            return Ok(());
        }
        match self.load_full(model, FullLoad::First).await {
            Ok(()) => slices.loaded = derived,
            // The last job tries it again, with all days, and says how that ended.
            Err(error) => {
                tracing::warn!(table = model, %error, "first load: the days so far cannot be loaded yet");
                slices.are_over = true;
            }
        }
        Ok(())
    }

    /// Loads the first partition with rows of a long load for trial: if that is refused, so would be the job with all
    /// days, hours later.
    async fn trial_load(&self, model: &str, partition: Partition) -> Result<(), Error> {
        let Some(contract) = self.run.contracts.get(model) else {
            return Ok(());
        };
        let Some((_, state)) = self.part(model, partition).await? else {
            return Ok(());
        };
        if rows_of(&state) == 0 || self.planned(model) < TRIAL_LOAD_DAYS {
            return Ok(());
        }
        if !self
            .trial_loaded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(model.into())
        {
            return Ok(());
        }
        let result = self.trial(contract, &[(partition, state)]).await;
        if result.is_err() {
            self.close(model);
        }
        Ok(result?)
    }

    /// Loads partitions into a table that is thrown away.
    async fn trial(&self, contract: &Contract, parts: &[Part]) -> Result<(), LoadError> {
        let run = self.run.id.as_str().rsplit('-').next().unwrap_or_default();
        let table = rehearsal(&contract.table, &self.mark(), run);
        let trial = Contract {
            table,
            ..contract.clone()
        };
        let batch = Batch {
            bucket: self.flattened.clone(),
            partitions: parts.iter().map(flat_objects).collect(),
            whole: parts.len() > 1,
            reshape: false,
            attempt: 1,
        };
        if self.warehouse.job(&trial, &batch).is_none() {
            return Ok(());
        }
        let result = match self.warehouse.prepare(&trial).await {
            Ok(_) => load(self.warehouse, &trial, &batch).await.map(|_| ()),
            Err(error) => Err(error),
        };
        let dropped = self.warehouse.drop_table(&trial).await;
        result.and(dropped)
    }

    /// What the tables for trial of all runs on these buckets have in their names.
    fn mark(&self) -> String {
        let digest = Sha256::digest(self.run.raw.url().as_str());
        digest
            .iter()
            .take(4)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// Drops what rehearsals of earlier runs have left: no other run is at work on these buckets.
    async fn drop_rehearsals(&self) {
        match self.warehouse.drop_rehearsals(&self.mark()).await {
            Ok(dropped) if dropped.is_empty() => {}
            Ok(dropped) => tracing::info!(
                tables = dropped.join(", "),
                "tables of earlier rehearsals dropped"
            ),
            // They go by themselves, a day after they were made.
            Err(error) => tracing::warn!(%error, "tables of earlier rehearsals may be left"),
        }
    }

    /// Partitions of the model that this run is about.
    fn planned(&self, model: &str) -> usize {
        self.run
            .catalog
            .driving_source_of(model)
            .map_or(0, |driver| self.run.plan.partitions_of(&driver.name))
    }
}

pub(super) fn rows_of(state: &ModelState) -> u64 {
    state.objects.iter().map(|object| object.rows).sum()
}

/// Whether the target holds the partition as it was derived.
pub(super) fn is_loaded(state: &ModelState, target: &str) -> bool {
    let load = state.load.as_ref().filter(|load| load.target == target);
    load.is_some_and(|load| load.fingerprint == state.fingerprint)
}

/// Rows of the partition that the target holds.
pub(super) fn rows_loaded(state: &ModelState, target: &str) -> u64 {
    state
        .load
        .as_ref()
        .filter(|load| load.target == target)
        .map_or(0, |load| load.rows)
}

fn flat_objects((partition, state): &Part) -> FlatObjects {
    FlatObjects {
        partition: *partition,
        objects: state.objects.clone(),
        fingerprint: state.fingerprint.clone(),
    }
}

/// Commits that the partitions are not loaded, before something makes that true.
async fn invalidate(handle: &SourceHandle, model: &str, parts: &[Part]) -> Result<(), Error> {
    let held = |(_, state): &&Part| state.load.as_ref().is_some_and(|load| load.rows > 0);
    let held: Vec<Part> = parts.iter().filter(held).cloned().collect();
    if held.is_empty() {
        return Ok(());
    }
    change(handle, model, &held, |state, _| state.load = None).await
}

/// Commits a change of a model's partitions in one go.
async fn change(
    handle: &SourceHandle,
    model: &str,
    parts: &[Part],
    change: impl Fn(&mut ModelState, &ModelState) + Send + 'static,
) -> Result<(), Error> {
    let (model, parts) = (model.to_string(), parts.to_vec());
    handle
        .commit(move |document| {
            for (partition, part) in &parts {
                if let Some(state) = document.partition_mut(*partition).models.get_mut(&model) {
                    change(state, part);
                }
            }
        })
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{is_slice, slices};

    #[test]
    fn slices_of_a_first_load_are_few_and_each_is_worth_its_job() {
        assert!(!is_slice(9, 0) && is_slice(10, 0));
        assert!(!is_slice(29, 20) && is_slice(30, 20));
        assert!(!is_slice(1499, 1000) && is_slice(1500, 1000));
        assert!(!is_slice(5, 9), "days may have lost their rows");
        for (days, most) in [
            (0, 0),
            (1, 0),
            (10, 0),
            (11, 1),
            (21, 2),
            (1675, 12),
            (4000, 15),
        ] {
            assert_eq!(slices(days), most, "{days}");
        }
    }
}
