//! How many load jobs a plan comes to, by the rules by which `load_stage` sends them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::audit;
use super::load_raw_stage;
use super::load_stage::{
    Due, TRIAL_LOAD_DAYS, due, is_loaded, rows_loaded, rows_of, slices, together,
};
use crate::catalog::{Catalog, Source, SourceKind};
use crate::config::LoadOptions;
use crate::error::Error;
use crate::plan::{LoadJobs, Plan, Stage};
use crate::state::{ModelState, PartitionState, StateStore};
use crate::store::layout::Partition;
use crate::transform::{Contract, fingerprint, history_fingerprint};

/// What is counted, and by which options.
pub(super) struct Count<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) states: &'a StateStore,
    pub(super) plan: &'a Plan,
    pub(super) contracts: &'a BTreeMap<String, Contract>,
    pub(super) options: &'a LoadOptions,
    /// The dataset of the tables.
    pub(super) target: &'a str,
    /// The dataset of raw tables, if they are loaded.
    pub(super) staging: Option<&'a str>,
}

/// A partition of a table, as it will be when it is loaded.
enum Part {
    /// As the state says.
    Known(ModelState),
    /// It is read or derived before.
    Open,
}

impl Count<'_> {
    /// The jobs of tables, of raw tables, and of the program's own.
    pub(super) async fn jobs(&self) -> Result<LoadJobs, Error> {
        let mut jobs = LoadJobs::default();
        let mut changes = false;
        for contract in self.contracts.values() {
            changes |= self.table(contract, &mut jobs).await?;
        }
        if let Some(target) = self.staging {
            for source in self
                .plan
                .run_request
                .selection
                .sources
                .iter()
                .filter_map(|name| self.catalog.source(name))
            {
                jobs.most += self.raw(source, target).await?;
            }
        }
        jobs.is_bound |= !self.plan.snapshots.is_empty() || !self.plan.windows.is_empty();
        if changes || jobs.most > 0 || jobs.is_bound {
            jobs.most += audit::TABLES;
        }
        Ok(jobs)
    }

    /// Adds a table's jobs; tells whether anything is noted for it.
    async fn table(&self, contract: &Contract, jobs: &mut LoadJobs) -> Result<bool, Error> {
        let table = contract.table.as_str();
        let Some(driver) = self.catalog.driving_source_of(table) else {
            return Ok(false);
        };
        let (has_feed, parts) = self.parts(contract, driver).await?;
        let refresh = self.options.full_refresh.contains(table);
        jobs.is_bound |= parts.values().any(|part| matches!(part, Part::Open));
        if !refresh && (contract.partition_by.is_none() || self.holds_rows(table, driver).await?) {
            jobs.has_feeds |= has_feed || self.plan.lasting.contains(&driver.name);
            let due = |(partition, part): (&Partition, &Part)| match part {
                Part::Known(state) => {
                    due(self.options, table, *partition, state, self.target, false)
                }
                Part::Open => Due::Load,
            };
            let due: Vec<Due> = parts.iter().map(due).collect();
            jobs.most += due.iter().filter(|due| **due == Due::Load).count() as u64;
            return Ok(due.iter().any(|due| *due != Due::Nothing));
        }
        let is_loaded =
            |part: &Part| matches!(part, Part::Known(state) if is_loaded(state, self.target));
        if parts.is_empty() && !has_feed || !refresh && !has_feed && parts.values().all(is_loaded) {
            return Ok(false);
        }
        let objects = parts.values().filter_map(|part| match part {
            Part::Known(state) => (rows_of(state) > 0).then_some(state.objects.len()),
            Part::Open => Some(1),
        });
        let objects: Vec<usize> = objects.collect();
        let single = objects.len() - together(self.options.limits, objects.iter().copied());
        // A refresh without any row empties the table, which is a job too; what a feed brings first is one.
        let whole = !objects.is_empty() || refresh || has_feed;
        let rehearsal = (has_feed || !objects.is_empty())
            && self.plan.partitions_of(&driver.name) >= TRIAL_LOAD_DAYS;
        // Days of a first load show up as they come, some at a time, as long as one job takes them all.
        let slices = if refresh {
            0
        } else {
            slices(objects.len() as u64)
        };
        jobs.is_bound |= slices > 0;
        jobs.most += single as u64 + u64::from(whole) + u64::from(rehearsal) + slices;
        Ok(true)
    }

    /// The partitions that the table has or is going to have, and whether a feed may bring more.
    async fn parts(
        &self,
        contract: &Contract,
        driver: &Source,
    ) -> Result<(bool, BTreeMap<Partition, Part>), Error> {
        let is_read = self.plan.tasks_of(&driver.name).next().is_some();
        let has_feed =
            is_read && driver.kind == SourceKind::Feed || self.plan.feeds.contains(&driver.name);
        let handle = self.states.source(&driver.name).await?;
        let mut parts: BTreeMap<Partition, Part> = handle.look(|state| {
            let part = |(partition, it): (&Partition, &Arc<PartitionState>)| {
                let known = it.models.get(&contract.table);
                let part = match self.wanted(contract, driver, it) {
                    Some(wanted) if known.is_none_or(|known| known.fingerprint != wanted) => {
                        Part::Open
                    }
                    _ => Part::Known(known?.clone()),
                };
                Some((*partition, part))
            };
            state.partitions.iter().filter_map(part).collect()
        });
        if self.plan.run_request.stages.contains(&Stage::Transform) {
            parts.extend(
                self.read(driver)
                    .into_iter()
                    .map(|partition| (partition, Part::Open)),
            );
        }
        Ok((has_feed, parts))
    }

    /// The partitions that the plan reads.
    fn read(&self, source: &Source) -> BTreeSet<Partition> {
        self.plan
            .tasks_of(&source.name)
            .flat_map(|task| task.scope.partitions())
            .collect()
    }

    /// Whether the target holds rows of the table.
    async fn holds_rows(&self, table: &str, driver: &Source) -> Result<bool, Error> {
        let handle = self.states.source(&driver.name).await?;
        Ok(handle.look(|state| {
            let mut models = state
                .partitions
                .values()
                .filter_map(|it| it.models.get(table));
            models.any(|state| rows_loaded(state, self.target) > 0)
        }))
    }

    /// The fingerprint that the table's partition has once it is derived, if it is.
    fn wanted(
        &self,
        contract: &Contract,
        driver: &Source,
        partition: &PartitionState,
    ) -> Option<String> {
        if !self.plan.run_request.stages.contains(&Stage::Transform) {
            return None;
        }
        let model = self.catalog.producer(&contract.table)?;
        if self.catalog.invalidating_sources(model).count() > 1 {
            // What the others hold is not looked up: it may be another one.
            return Some(String::new());
        }
        let inputs = vec![(driver.name.clone(), partition.raw.as_ref()?.objects.clone())];
        let current = fingerprint(
            self.catalog,
            model,
            self.contracts.get(&model.name)?,
            &inputs,
        );
        Some(if model.name == contract.table {
            current
        } else {
            history_fingerprint(contract, &current)
        })
    }

    /// Jobs of a raw table.
    async fn raw(&self, source: &Source, target: &str) -> Result<u64, Error> {
        let handle = self.states.source(&source.name).await?;
        let read = self.read(source);
        let stale = handle.look(|state| {
            let kept = state
                .complete()
                .filter(|(partition, _)| !read.contains(partition));
            kept.filter(|(partition, raw)| load_raw_stage::is_stale(state, *partition, raw, target))
                .count()
        });
        Ok((stale + read.len()) as u64)
    }
}
