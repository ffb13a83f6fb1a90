//! Decides which loads a table needs, from its contract and its state. `plan` counts the jobs of a [`LoadPlan`], and
//! the load stage sends them.
//!
//! Days of a table that has rows are loaded one by one. For a table that is loaded for the first time, or again as a
//! whole, one job for each day would use up the project's load jobs ("100,000 per day",
//! <https://cloud.google.com/bigquery/quotas#load_jobs>) on a long backfill. So a first load goes in slices: each time
//! enough days have been derived, one job loads all days so far, and the last one all days. A full refresh waits until
//! all days are derived: until then, the table keeps its rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::catalog::Source;
use crate::config::{JobLimits, LoadOptions};
use crate::load::error::LoadError;
use crate::load::warehouse::Prepared;
use crate::plan::LoadJobs;
use crate::state::{ModelState, RawState, Sha256Digest, SourceHandle, SourceState};
use crate::store::ObjectRef;
use crate::store::layout::Partition;
use crate::transform::Contract;

/// From this number of days on, a trial load of the first day comes first: a refusal then costs seconds instead of
/// hours.
const TRIAL_LOAD_DAYS: usize = 8;
/// A slice of a first load has at least this many new days,
const SLICE_DAYS: u64 = 10;
/// and at least this part of the days that are loaded already: as they are loaded again with each slice, a long
/// backfill takes some twelve jobs, and loads three times its rows.
const SLICE_PART: u64 = 2;

/// A partition of a table as the state knows it.
pub type Part = (Partition, Arc<ModelState>);

/// The loads of one run.
#[derive(Debug)]
pub struct LoadPlan {
    /// The warehouse, by its name in the state.
    pub target: String,
    /// How to load, if not in the usual way.
    pub options: LoadOptions,
    /// The tables, by name.
    pub tables: BTreeMap<String, TableLoad>,
}

/// How one table is loaded.
#[derive(Debug)]
pub struct TableLoad {
    /// Its contract.
    pub contract: Contract,
    /// The document of its driving source, which has its partitions.
    pub state: SourceHandle,
    /// The method according to the state, without a look at the table.
    pub method: Method,
    /// Whether a full load begins with a trial load.
    pub has_trial: bool,
}

/// How a table's partitions come into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Each by a load of its own, as it comes.
    Partitions,
    /// All together.
    Full(FullLoad),
}

/// Why a table is loaded as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FullLoad {
    /// Nothing of it is loaded.
    First,
    /// Everything of it is loaded again.
    Refresh(TableChange),
}

/// What a full refresh does to the table itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableChange {
    /// Nothing: its shape is right.
    None,
    /// It gets the contract's columns and types, in one step with the rows.
    Reshape,
    /// It is dropped and created again, because no load can change its shape that far.
    Rebuild,
}

/// What to do with a partition that is loaded on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing: it is loaded.
    None,
    /// It has no rows, and none of it are loaded: that is committed without a load.
    MarkEmpty,
    /// It is a list that the row-count guard refuses.
    Refuse {
        /// Rows in it.
        rows: u64,
        /// Rows that are loaded.
        loaded: u64,
    },
    /// It is loaded.
    Load,
}

/// A table's partitions as they are expected when they are loaded.
#[derive(Debug, Default)]
pub struct Expected {
    /// Those in the state; one that is [`underived`] is read or derived first.
    pub parts: BTreeMap<Partition, Arc<ModelState>>,
    /// Whether a feed may bring partitions that are not known yet.
    pub has_feed: bool,
    /// Whether the run may find that past days have changed.
    pub finds_changes: bool,
}

/// A partition that is read or derived before it is loaded, assumed to have one object with rows.
pub fn underived() -> Arc<ModelState> {
    Arc::new(ModelState {
        fingerprint: Sha256Digest::NONE,
        objects: vec![ObjectRef {
            path: String::new(),
            rows: 1,
            bytes: 0,
        }],
        load: None,
        started: None,
        attempts: 0,
    })
}

fn is_underived(state: &ModelState) -> bool {
    state.fingerprint == Sha256Digest::NONE
}

/// The steps of a full load.
#[derive(Debug, Default, PartialEq)]
pub struct FullLoadSteps {
    /// What one job loads, instead of all rows of the table.
    pub together: Vec<Part>,
    /// Partitions that do not fit into that job; each is loaded on its own, after it.
    pub singly: Vec<Part>,
    /// Partitions without rows, which need no load.
    pub empty: Vec<Part>,
}

impl LoadPlan {
    /// How a partition of a table is loaded on its own; `force` loads it even if it is loaded already.
    pub fn action(
        &self,
        table: &str,
        partition: Partition,
        state: &ModelState,
        force: bool,
    ) -> Action {
        if !force && is_loaded(state, &self.target) {
            return Action::None;
        }
        let (rows, loaded) = (rows_of(state), rows_loaded(state, &self.target));
        if partition == Partition::Snapshot {
            return match self.options.refuses_shrunken(table, rows, loaded) {
                true => Action::Refuse { rows, loaded },
                false => Action::Load,
            };
        }
        // A day without rows replaces nothing, unless rows of it were loaded before, or may have been: the state no
        // longer knows what this dataset holds once another one was loaded.
        let is_elsewhere = state
            .load
            .as_ref()
            .is_some_and(|load| *load.target != *self.target);
        let holds_nothing = loaded == 0 && state.started.is_none() && !is_elsewhere;
        match rows == 0 && holds_nothing && !force {
            true => Action::MarkEmpty,
            false => Action::Load,
        }
    }

    /// The steps of a full load of these partitions; none if there is nothing to load.
    pub fn full_load(&self, kind: FullLoad, parts: Vec<Part>) -> Option<FullLoadSteps> {
        // Days without rows were committed before, and there is nothing else.
        let is_done = kind == FullLoad::First
            && parts
                .iter()
                .all(|(_, state)| is_loaded(state, &self.target));
        if parts.is_empty() || is_done {
            return None;
        }
        let (mut filled, mut empty): (Vec<Part>, Vec<Part>) =
            parts.into_iter().partition(|(_, state)| rows_of(state) > 0);
        if filled.is_empty() && kind != FullLoad::First {
            // One Parquet without rows empties the table.
            filled.extend(empty.pop());
        }
        let singly = filled.split_off(fitting(self.options.limits, &filled));
        empty.retain(|(_, state)| {
            !is_loaded(state, &self.target) || rows_loaded(state, &self.target) > 0
        });
        Some(FullLoadSteps {
            together: filled,
            singly,
            empty,
        })
    }

    /// The days that the next slice of a first load takes, if there are enough derived ones.
    pub fn slice(&self, mut parts: Vec<Part>, loaded: u64) -> Slice {
        parts.retain(|(_, state)| rows_of(state) > 0);
        let derived = parts.len() as u64;
        if !is_slice(derived, loaded) {
            Slice::NotYet
        } else if fitting(self.options.limits, &parts) < parts.len() {
            Slice::TooLarge
        } else {
            Slice::Days(derived)
        }
    }

    /// The number of jobs of a table's loads, given its partitions.
    pub fn jobs(&self, table: &TableLoad, expected: &Expected) -> TableJobs {
        let mut jobs = TableJobs::default();
        jobs.load.is_bound = expected.parts.values().any(|state| is_underived(state));
        let parts = || expected.parts.iter();
        let Method::Full(kind) = table.method else {
            let name = &table.contract.table;
            let actions: Vec<Action> = parts()
                .map(|(partition, state)| self.action(name, *partition, state, false))
                .collect();
            let loads = actions.iter().filter(|action| **action == Action::Load);
            jobs.load.most = loads.count() as u64;
            jobs.load.has_feeds = expected.finds_changes;
            jobs.changes = actions.iter().any(|action| *action != Action::None);
            return jobs;
        };
        let parts = parts().map(|(partition, state)| (*partition, state.clone()));
        let steps = match self.full_load(kind, parts.collect()) {
            None if !expected.has_feed => return jobs,
            steps => steps.unwrap_or_default(),
        };
        let filled = steps.together.iter().chain(&steps.singly);
        let filled = filled.filter(|(_, state)| rows_of(state) > 0).count() as u64;
        // What a feed brings first is a job too.
        let together = !steps.together.is_empty() || expected.has_feed;
        let trial = table.has_trial && (filled > 0 || expected.has_feed);
        // Days of a first load become visible in slices, as long as one job takes them all.
        let slices = match kind {
            FullLoad::First => slices(filled),
            FullLoad::Refresh(_) => 0,
        };
        jobs.load.is_bound |= slices > 0;
        jobs.load.most =
            steps.singly.len() as u64 + u64::from(together) + u64::from(trial) + slices;
        jobs.changes = true;
        jobs
    }
}

/// What is known of a table's loads in advance.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct TableJobs {
    /// The jobs.
    pub load: LoadJobs,
    /// Whether anything about the table changes, with or without a job.
    pub changes: bool,
}

/// Whether a first load continues with a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slice {
    /// Too few days are new.
    NotYet,
    /// One job does not take all days: the rest is loaded one by one, once no job can overwrite it again.
    TooLarge,
    /// A job with this many days.
    Days(u64),
}

impl Slice {
    /// Whether a slice may be worth its job once this many days were derived.
    pub fn is_considered(arrived: u64) -> bool {
        arrived >= SLICE_DAYS
    }
}

impl TableLoad {
    /// How a table is loaded, given how many of its partitions are in the run.
    pub fn new(
        contract: Contract,
        state: SourceHandle,
        plan: &LoadPlan,
        partitions: usize,
    ) -> Self {
        let mut load = Self {
            contract,
            state,
            method: Method::Partitions,
            has_trial: partitions >= TRIAL_LOAD_DAYS,
        };
        let table = &load.contract.table;
        if plan.options.full_refresh.contains(table) {
            load.method = Method::Full(FullLoad::Refresh(TableChange::None));
        } else if load.contract.partition_by.is_some() && !load.holds_rows(&plan.target) {
            load.method = Method::Full(FullLoad::First);
        }
        load
    }

    /// All derived partitions.
    pub fn parts(&self) -> Vec<Part> {
        self.state.look(|state| {
            let partitions = state.partitions.iter();
            partitions
                .filter_map(|(partition, it)| {
                    let state = it.models.get(&self.contract.table)?;
                    Some((*partition, state.clone()))
                })
                .collect()
        })
    }

    /// A derived partition; none if nothing is derived of it.
    pub fn part(&self, partition: Partition) -> Option<Part> {
        self.state.look(|state| {
            let found = state.partition(partition)?;
            let state = found.models.get(&self.contract.table)?;
            Some((partition, state.clone()))
        })
    }

    /// Whether the target holds rows of the table, according to the state.
    fn holds_rows(&self, target: &str) -> bool {
        self.state.look(|state| {
            let mut partitions = state.partitions.values();
            partitions.any(|it| {
                let state = it.models.get(&self.contract.table);
                state.is_some_and(|state| rows_loaded(state, target) > 0)
            })
        })
    }

    /// The method after a look at the table.
    ///
    /// # Errors
    /// That of the look, if the table cannot be loaded as it is.
    pub fn confirm(
        &self,
        target: &str,
        prepared: Result<Prepared, LoadError>,
    ) -> Result<Method, LoadError> {
        let prepared = match (self.method, prepared) {
            // The table was seen to be missing; a failed call alone could be an outage.
            (Method::Full(FullLoad::Refresh(_)), Err(LoadError::Shape { replaceable, .. })) => {
                let change = match replaceable {
                    true => TableChange::Reshape,
                    false => TableChange::Rebuild,
                };
                return Ok(Method::Full(FullLoad::Refresh(change)));
            }
            (_, prepared) => prepared?,
        };
        Ok(match self.method {
            Method::Full(FullLoad::First) if !self.is_ours(target, prepared) => Method::Partitions,
            Method::Partitions if self.was_emptied(target, prepared) => {
                tracing::warn!(
                    table = self.contract.table,
                    "the table was emptied by someone else, all rows are loaded again"
                );
                Method::Full(FullLoad::Refresh(TableChange::None))
            }
            method => method,
        })
    }

    /// Whether all rows of the table are this program's: rows that the state does not list may be replaced only if an
    /// interrupted job of an earlier run has loaded them.
    fn is_ours(&self, target: &str, prepared: Prepared) -> bool {
        let is_started = |(_, state): &Part| {
            let started = state.started.as_ref();
            started.is_some_and(|started| started.target == target)
        };
        prepared.is_empty || self.parts().iter().any(is_started)
    }

    /// Whether rows were loaded and have disappeared. If partitions expire, that is expected.
    fn was_emptied(&self, target: &str, prepared: Prepared) -> bool {
        prepared.is_empty
            && self.contract.partition_expiration_days.is_none()
            && self.holds_rows(target)
    }
}

/// How a raw table is loaded.
#[derive(Debug)]
pub struct RawTableLoad {
    /// Its source.
    pub source: Source,
    /// The source's document.
    pub state: SourceHandle,
}

impl RawTableLoad {
    /// Committed partitions of which the target holds other rows.
    pub fn stale(&self, target: &str) -> Vec<(Partition, RawState)> {
        self.state.look(|state| {
            state
                .complete()
                .filter(|(partition, raw)| is_stale(state, *partition, raw, target))
                .map(|(partition, raw)| (partition, raw.clone()))
                .collect()
        })
    }

    /// The number of jobs, if these partitions are read before.
    pub fn jobs(&self, target: &str, read: &BTreeSet<Partition>) -> u64 {
        let stale = self.stale(target);
        let kept = stale
            .iter()
            .filter(|(partition, _)| !read.contains(partition));
        (kept.count() + read.len()) as u64
    }
}

/// Whether the partition's raw rows are newer than what the target holds.
fn is_stale(state: &SourceState, partition: Partition, raw: &RawState, target: &str) -> bool {
    let load = state
        .partition(partition)
        .and_then(|found| found.raw_load.as_deref())
        .filter(|load| *load.target == *target);
    // A day that never had rows replaces nothing.
    let is_nothing = raw.objects.is_empty() && load.is_none_or(|load| load.rows == 0);
    !is_nothing && load.is_none_or(|load| load.fingerprint != raw_fingerprint(raw))
}

/// Digest of the raw objects.
pub fn raw_fingerprint(raw: &RawState) -> Sha256Digest {
    let mut digest = Sha256::new();
    for object in &raw.objects {
        digest.update(&object.path);
        digest.update([0]);
    }
    Sha256Digest::of(digest)
}

/// Rows of a partition as it is derived.
pub fn rows_of(state: &ModelState) -> u64 {
    state.objects.iter().map(|object| object.rows).sum()
}

/// Whether the target holds the partition as it is derived.
pub fn is_loaded(state: &ModelState, target: &str) -> bool {
    let load = state.load.as_ref().filter(|load| *load.target == *target);
    load.is_some_and(|load| load.fingerprint == state.fingerprint)
}

/// Rows of the partition that the target holds.
pub fn rows_loaded(state: &ModelState, target: &str) -> u64 {
    let load = state.load.as_ref().filter(|load| *load.target == *target);
    load.map_or(0, |load| load.rows)
}

/// Whether this many derived days, of which some are loaded, are worth a slice.
fn is_slice(derived: u64, loaded: u64) -> bool {
    let new = derived.saturating_sub(loaded);
    new >= SLICE_DAYS && new >= loaded / SLICE_PART
}

/// The maximum number of slices of a first load of this many days, before its last job.
fn slices(days: u64) -> u64 {
    let ends = std::iter::successors(Some(0), |loaded| {
        (loaded + 1..days).find(|derived| is_slice(*derived, *loaded))
    });
    ends.count() as u64 - 1
}

/// How many of the partitions, from the first on, fit into one job.
fn fitting(limits: JobLimits, parts: &[Part]) -> usize {
    let mut sum: usize = 0;
    let fits = |(_, state): &&Part| {
        sum = sum.saturating_add(state.objects.len());
        sum <= limits.objects
    };
    let parts = parts.iter().take(limits.partitions);
    parts.take_while(fits).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Load, Started};

    #[test]
    fn slices_of_a_first_load_are_few() {
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

    fn plan(partitions: usize, objects: usize) -> LoadPlan {
        LoadPlan {
            target: "t".into(),
            options: LoadOptions {
                limits: JobLimits {
                    partitions,
                    objects,
                },
                ..LoadOptions::default()
            },
            tables: BTreeMap::new(),
        }
    }

    fn digest_of(text: &str) -> Sha256Digest {
        Sha256Digest::of(Sha256::new().chain_update(text))
    }

    /// A derived partition of this many rows, with its load.
    fn state(rows: u64, load: Option<(&str, &str, u64)>) -> ModelState {
        let load = load.map(|(target, fingerprint, rows)| Load {
            target: target.into(),
            fingerprint: digest_of(fingerprint),
            job: None,
            rows,
        });
        let mut state = ModelState {
            fingerprint: digest_of("f"),
            load,
            ..ModelState::clone(&underived())
        };
        state.objects[0].rows = rows;
        state
    }

    fn day(number: u32) -> Partition {
        Partition::parse(&format!("2024-01-{number:02}")).unwrap()
    }

    #[test]
    fn partitions_are_loaded_where_they_differ() {
        let plan = plan(10, 10);
        let cases = [
            (state(5, None), Action::Load),
            (state(5, Some(("t", "f", 5))), Action::None),
            (state(5, Some(("t", "old", 5))), Action::Load),
            (state(5, Some(("other", "f", 5))), Action::Load),
            (state(0, None), Action::MarkEmpty),
            (state(0, Some(("t", "old", 5))), Action::Load),
            (state(0, Some(("other", "f", 0))), Action::Load),
            (
                ModelState {
                    started: Some(Box::new(Started {
                        target: "t".into(),
                        job: "j".into(),
                        attempt: 1,
                    })),
                    ..state(0, None)
                },
                Action::Load,
            ),
            (ModelState::clone(&underived()), Action::Load),
        ];
        for (state, action) in cases {
            assert_eq!(plan.action("m", day(1), &state, false), action, "{state:?}");
            assert_eq!(plan.action("m", day(1), &state, true), Action::Load);
        }
        let list = state(5, Some(("t", "old", 100)));
        let refused = Action::Refuse {
            rows: 5,
            loaded: 100,
        };
        assert_eq!(plan.action("m", Partition::Snapshot, &list, false), refused);
        assert_eq!(
            plan.action("m", Partition::Snapshot, &underived(), false),
            Action::Load
        );
    }

    #[test]
    fn full_loads_are_split_by_what_a_job_takes() {
        let days = |rows: &[u64]| -> Vec<Part> {
            let parts = (1..).zip(rows);
            parts
                .map(|(number, rows)| (day(number), Arc::new(state(*rows, None))))
                .collect()
        };
        let refresh = FullLoad::Refresh(TableChange::None);
        for (kind, rows, limits, expected) in [
            (FullLoad::First, &[1, 2, 0, 3][..], (10, 10), (3, 0, 1)),
            (FullLoad::First, &[1, 2, 0, 3], (2, 10), (2, 1, 1)),
            (FullLoad::First, &[1, 2, 0, 3], (10, 1), (1, 2, 1)),
            (FullLoad::First, &[0, 0], (10, 10), (0, 0, 2)),
            (refresh, &[0, 0], (10, 10), (1, 0, 1)),
        ] {
            let steps = plan(limits.0, limits.1)
                .full_load(kind, days(rows))
                .unwrap();
            let found = (steps.together.len(), steps.singly.len(), steps.empty.len());
            assert_eq!(found, expected, "{kind:?} {rows:?} {limits:?}");
        }
        let plan = plan(10, 10);
        assert_eq!(plan.full_load(refresh, Vec::new()), None);
        let loaded = vec![(day(1), Arc::new(state(0, Some(("t", "f", 0)))))];
        assert_eq!(plan.full_load(FullLoad::First, loaded.clone()), None);
        assert!(plan.full_load(refresh, loaded).is_some());
    }
}
