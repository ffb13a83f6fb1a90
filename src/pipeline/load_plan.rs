//! The load plan of a run, and the number of its load jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use tokio::runtime::Handle;

use crate::audit;
use crate::catalog::{Catalog, Source, SourceKind};
use crate::config::LoadOptions;
use crate::error::Error;
use crate::load::LoadError;
use crate::load::plan::{Expected, LoadPlan, RawTableLoad, TableJobs, TableLoad, underived};
use crate::plan::{LoadJobs, Plan, Selection, Stage};
use crate::state::{ModelState, PartitionState, SourceState, StateStore};
use crate::store::layout::Partition;
use crate::transform::{BoundCatalog, Contract, ModelView};

/// State documents that are looked up at a time.
const READS: usize = 16;

/// How each table with one of these contracts is loaded into this target.
///
/// # Errors
///
/// A table without a driving source, and a state document that cannot be read.
pub(super) async fn load_plan(
    catalog: &Catalog,
    states: &StateStore,
    plan: &Plan,
    contracts: &BTreeMap<String, Contract>,
    target: &str,
    options: &LoadOptions,
) -> Result<LoadPlan, Error> {
    let mut load_plan = LoadPlan {
        target: target.into(),
        options: options.clone(),
        tables: BTreeMap::new(),
    };
    let counts = plan.partitions_by_source();
    for contract in contracts.values() {
        let driving = driving_source(catalog, &contract.table)?;
        let state = states.source(&driving.name).await?;
        let partitions = counts.get(driving.name.as_str()).copied().unwrap_or(0);
        let load = TableLoad::new(contract.clone(), state, &load_plan, partitions);
        load_plan.tables.insert(contract.table.clone(), load);
    }
    Ok(load_plan)
}

fn driving_source<'a>(catalog: &'a Catalog, table: &str) -> Result<&'a Source, LoadError> {
    let found = catalog.driving_source_of(table);
    found.ok_or_else(|| LoadError::NoSource {
        table: table.into(),
    })
}

/// Counts the load jobs of a plan in advance.
pub(super) struct JobCounter {
    catalog: Arc<Catalog>,
    states: StateStore,
    plan: Arc<Plan>,
    bound: BoundCatalog,
    load_plan: LoadPlan,
    /// The partitions that the plan reads, by source.
    read: BTreeMap<String, BTreeSet<Partition>>,
}

impl JobCounter {
    pub(super) fn new(
        catalog: Arc<Catalog>,
        states: StateStore,
        plan: Arc<Plan>,
        bound: BoundCatalog,
        load_plan: LoadPlan,
    ) -> Self {
        let mut read: BTreeMap<String, BTreeSet<Partition>> = BTreeMap::new();
        for task in plan.snapshots.iter().chain(&plan.windows) {
            for source in &task.sources {
                let partitions = task.scope.partitions();
                read.entry(source.clone()).or_default().extend(partitions);
            }
        }
        Self {
            catalog,
            states,
            plan,
            bound,
            load_plan,
            read,
        }
    }

    /// The jobs of tables, of raw tables (if they are loaded, into `staging`), and of the audit tables. Tables are
    /// looked at on all threads of `cpu`.
    pub(super) async fn count(
        self: Arc<Self>,
        staging: Option<&str>,
        cpu: &Handle,
    ) -> Result<LoadJobs, Error> {
        let of_tables: Vec<_> = self
            .load_plan
            .tables
            .keys()
            .map(|name| {
                let (counter, name) = (self.clone(), name.clone());
                cpu.spawn(async move { counter.of_table(&name).await })
            })
            .collect();
        let mut jobs = LoadJobs::default();
        let mut changes = false;
        for (name, of_table) in self.load_plan.tables.keys().zip(of_tables) {
            let found = of_table.await.map_err(|source| Error::Task {
                what: format!("{name}: its load jobs"),
                source,
            })??;
            jobs.most += found.load.most;
            jobs.is_bound |= found.load.is_bound;
            jobs.has_feeds |= found.load.has_feeds;
            changes |= found.changes;
        }
        if let Some(target) = staging {
            let selection = &self.plan.run_request.selection;
            for table in raw_loads(&self.catalog, &self.states, selection).await? {
                jobs.most += table.jobs(target, self.read_of(&table.source));
            }
        }
        jobs.is_bound |= !self.plan.snapshots.is_empty() || !self.plan.windows.is_empty();
        if changes || jobs.most > 0 || jobs.is_bound {
            jobs.most += audit::TABLES;
        }
        Ok(jobs)
    }

    async fn of_table(&self, name: &str) -> Result<TableJobs, Error> {
        let table = self.load_plan.tables.get(name);
        let table = table.ok_or_else(|| LoadError::NoSource { table: name.into() })?;
        let driving = driving_source(&self.catalog, name)?;
        let expected = self.expected(table, driving).await?;
        Ok(self.load_plan.jobs(table, &expected))
    }

    /// The partitions of a source that the plan reads.
    fn read_of(&self, source: &Source) -> &BTreeSet<Partition> {
        static NONE: BTreeSet<Partition> = BTreeSet::new();
        self.read.get(&source.name).unwrap_or(&NONE)
    }

    /// The partitions that the table has now, or will have after the plan is executed.
    async fn expected(&self, table: &TableLoad, driving: &Source) -> Result<Expected, Error> {
        let is_read = self.plan.tasks_of(&driving.name).next().is_some();
        let has_feed = is_read && matches!(driving.kind, SourceKind::Feed | SourceKind::Updates)
            || self.plan.feeds.contains(&driving.name);
        let is_derived = self.plan.run_request.stages.contains(&Stage::Transform);
        let is_current = match is_derived {
            true => self.are_current(table).await?,
            false => BTreeMap::new(),
        };
        let part = |partition: &Partition, document: &PartitionState| {
            let known = document.models.get(&table.contract.table);
            match is_current.get(partition) {
                Some(false) => Some(underived()),
                Some(true) | None => known.cloned(),
            }
        };
        let mut parts: BTreeMap<Partition, Arc<ModelState>> = table.state.look(|state| {
            let all = state.partitions.iter();
            let known =
                all.filter_map(|(partition, found)| Some((*partition, part(partition, found)?)));
            known.collect()
        });
        if is_derived {
            let (bound, _) = self.bound.table(&table.contract.table)?;
            let read = self.read_of(driving).iter();
            parts.extend(read.map(|partition| (bound.home(*partition), underived())));
        }
        Ok(Expected {
            parts,
            has_feed,
            finds_changes: has_feed || self.plan.lasting.contains(&driving.name),
        })
    }

    /// Whether the table's partitions stay as they are, for those that have raw rows. The others are derived again, or
    /// may be, as the plan reads what they are derived from.
    async fn are_current(&self, table: &TableLoad) -> Result<BTreeMap<Partition, bool>, Error> {
        let (bound, contract) = self.bound.table(&table.contract.table)?;
        let complete = |state: &SourceState| state.complete().map(|(it, _)| it).collect::<Vec<_>>();
        let complete = table.state.look(complete).into_iter();
        let partitions: BTreeSet<Partition> = complete.map(|it| bound.home(it)).collect();
        let view = bound.view(&self.states).await?;
        let is_current = |partition: Partition| {
            let made = view.made(&contract.table, partition);
            self.is_settled(&view, partition)
                && made.is_some_and(|made| view.is_current(contract, partition, made))
        };
        let is_whole = |it: &Partition| view.gap(*it, self.plan.today).is_none();
        let partitions = partitions.into_iter().filter(is_whole);
        Ok(partitions.map(|it| (it, is_current(it))).collect())
    }

    /// Whether all inputs that decide about a model's partition stay the same in this run, except the partition of its
    /// driving source.
    fn is_settled(&self, view: &ModelView<'_>, partition: Partition) -> bool {
        let bound = view.bound;
        let mut decides = view
            .inputs
            .iter()
            .filter(|it| bound.is_decided_by(it.input));
        decides.all(|it| {
            let driving = it.input.driving();
            let read = view.reads(it.input, partition);
            read.into_iter().all(|of| {
                let is_read = self.read_of(driving).contains(&of);
                match &it.upstream {
                    None => !is_read || (driving.name == bound.driving.name && of == partition),
                    Some(upstream) => {
                        !is_read && it.current(of).is_some() && self.is_settled(upstream, of)
                    }
                }
            })
        })
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
