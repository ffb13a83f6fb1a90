//! The load plan of a run, and the number of its load jobs.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};

use crate::audit;
use crate::catalog::{Catalog, Source, SourceKind};
use crate::config::LoadOptions;
use crate::error::Error;
use crate::load::LoadError;
use crate::load::plan::{Expected, LoadPlan, RawTableLoad, TableLoad, underived};
use crate::plan::{LoadJobs, Plan, Selection, Stage};
use crate::state::{ModelState, PartitionState, SourceState, StateStore};
use crate::store::layout::Partition;
use crate::transform::{
    BoundCatalog, BoundModel, Contract, Fingerprint, Input, history_fingerprint,
};

/// State documents that are looked up at a time.
const READS: usize = 16;

/// What the load plan is made from.
pub(super) struct Planner<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) states: &'a StateStore,
    pub(super) plan: &'a Plan,
    pub(super) bound: &'a BoundCatalog,
    pub(super) contracts: &'a BTreeMap<String, Contract>,
}

impl<'a> Planner<'a> {
    /// How each table is loaded into this target.
    ///
    /// # Errors
    ///
    /// A table without a driving source, and a state document that cannot be read.
    pub(super) async fn load_plan(
        &self,
        target: &str,
        options: &LoadOptions,
    ) -> Result<LoadPlan, Error> {
        let mut plan = LoadPlan {
            target: target.into(),
            options: options.clone(),
            tables: BTreeMap::new(),
        };
        let counts = self.plan.partitions_by_source();
        for contract in self.contracts.values() {
            let driving = self.driving_source(&contract.table)?;
            let state = self.states.source(&driving.name).await?;
            let partitions = counts.get(driving.name.as_str()).copied().unwrap_or(0);
            let load = TableLoad::new(contract.clone(), state, &plan, partitions);
            plan.tables.insert(contract.table.clone(), load);
        }
        Ok(plan)
    }

    /// The jobs of tables, of raw tables (if they are loaded, into `staging`), and of the audit tables.
    pub(super) async fn count_jobs(
        &self,
        load_plan: &LoadPlan,
        staging: Option<&str>,
    ) -> Result<LoadJobs, Error> {
        let mut jobs = LoadJobs::default();
        let mut changes = false;
        for (name, table) in &load_plan.tables {
            let driving = self.driving_source(name)?;
            let expected = self.expected(table, driving).await?;
            let found = load_plan.jobs(table, &expected);
            jobs.most += found.load.most;
            jobs.is_bound |= found.load.is_bound;
            jobs.has_feeds |= found.load.has_feeds;
            changes |= found.changes;
        }
        if let Some(target) = staging {
            let selection = &self.plan.run_request.selection;
            for table in raw_loads(self.catalog, self.states, selection).await? {
                jobs.most += table.jobs(target, &self.partitions_read(&table.source));
            }
        }
        jobs.is_bound |= !self.plan.snapshots.is_empty() || !self.plan.windows.is_empty();
        if changes || jobs.most > 0 || jobs.is_bound {
            jobs.most += audit::TABLES;
        }
        Ok(jobs)
    }

    fn driving_source(&self, table: &str) -> Result<&'a Source, Error> {
        let found = self.catalog.driving_source_of(table);
        let found = found.ok_or_else(|| LoadError::NoSource {
            table: table.into(),
        });
        Ok(found?)
    }

    /// The partitions that the table has now, or will have after the plan is executed.
    async fn expected(&self, table: &TableLoad, driving: &Source) -> Result<Expected, Error> {
        let is_read = self.plan.tasks_of(&driving.name).next().is_some();
        let has_feed = is_read && matches!(driving.kind, SourceKind::Feed | SourceKind::Updates)
            || self.plan.feeds.contains(&driving.name);
        let is_derived = self.plan.run_request.stages.contains(&Stage::Transform);
        let wanted = match is_derived {
            true => self.wanted(table).await?,
            false => BTreeMap::new(),
        };
        let part = |partition: &Partition, document: &PartitionState| {
            let known = document.models.get(&table.contract.table);
            let is_known =
                |wanted: &Fingerprint| known.is_some_and(|known| wanted.is(&known.fingerprint));
            match wanted.get(partition).map(is_known) {
                Some(false) => Some(underived()),
                Some(true) | None => known.map(|it| ModelState::clone(it)),
            }
        };
        let mut parts: BTreeMap<Partition, ModelState> = table.state.look(|state| {
            let all = state.partitions.iter();
            let known =
                all.filter_map(|(partition, found)| Some((*partition, part(partition, found)?)));
            known.collect()
        });
        if is_derived {
            let (bound, _) = self.bound.table(&table.contract.table)?;
            let read = self.partitions_read(driving).into_iter();
            parts.extend(read.map(|partition| (bound.home(partition), underived())));
        }
        Ok(Expected {
            parts,
            has_feed,
            finds_changes: has_feed || self.plan.lasting.contains(&driving.name),
        })
    }

    /// The partitions that the plan reads.
    fn partitions_read(&self, source: &Source) -> BTreeSet<Partition> {
        self.plan
            .tasks_of(&source.name)
            .flat_map(|task| task.scope.partitions())
            .collect()
    }

    /// The fingerprints that the table's partitions have once they are derived, for those that have raw rows.
    /// Partitions that the plan reads may get another one.
    async fn wanted(&self, table: &TableLoad) -> Result<BTreeMap<Partition, Fingerprint>, Error> {
        let (bound, contract) = self.bound.table(&table.contract.table)?;
        let complete = |state: &SourceState| state.complete().map(|(it, _)| it).collect::<Vec<_>>();
        let mut wanted = BTreeMap::new();
        let complete = table.state.look(complete).into_iter();
        let partitions: BTreeSet<Partition> = complete.map(|it| bound.home(it)).collect();
        for partition in partitions {
            let gap = bound.gap(self.states, partition, self.plan.today);
            if gap.await?.is_some() {
                continue;
            }
            let current = match self.is_settled(bound, partition).await? {
                true => bound.wanted(self.states, partition).await?,
                false => Fingerprint::unknown(),
            };
            let is_own = contract.table == bound.contract.table;
            let current = match is_own {
                true => current,
                false => history_fingerprint(contract, &current),
            };
            wanted.insert(partition, current);
        }
        Ok(wanted)
    }

    /// Whether all inputs that decide about a model's partition stay the same in this run, except the partition of its
    /// driving source.
    async fn is_settled(&self, bound: &BoundModel, partition: Partition) -> Result<bool, Error> {
        for input in bound.inputs.iter().filter(|it| bound.is_decided_by(it)) {
            for of in bound.reads(self.states, input, partition).await? {
                let is_settled = match input {
                    Input::Source(source) => {
                        let is_own = source.name == bound.driving.name && of == partition;
                        is_own || !self.partitions_read(source).contains(&of)
                    }
                    Input::Table(table) => {
                        !self.partitions_read(&table.bound.driving).contains(&of)
                            && table.current(self.states, of).await?.is_some()
                            && Box::pin(self.is_settled(&table.bound, of)).await?
                    }
                };
                if !is_settled {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// The raw tables of the selected sources.
pub(super) async fn raw_loads(
    catalog: &Catalog,
    states: &StateStore,
    selection: &Selection,
) -> Result<Vec<RawTableLoad>, Error> {
    let load = |name: &String| {
        let name = name.clone();
        async move {
            let source = catalog.source(&name).cloned();
            let source = source.ok_or(LoadError::NoSource { table: name })?;
            let state = states.source(&source.name).await?;
            Ok(RawTableLoad { source, state })
        }
    };
    let loads = stream::iter(selection.sources.iter().map(load));
    loads.buffered(READS).try_collect().await
}
