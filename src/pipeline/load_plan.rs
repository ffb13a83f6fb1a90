//! The load plan of a run, and how many load jobs it comes to.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};

use crate::audit;
use crate::catalog::{Catalog, Source, SourceKind};
use crate::config::LoadOptions;
use crate::error::Error;
use crate::load::LoadError;
use crate::load::plan::{Expected, LoadPlan, RawTableLoad, TableLoad, underived};
use crate::plan::{LoadJobs, Plan, Selection, Stage};
use crate::state::{ModelState, PartitionState, StateStore};
use crate::store::layout::Partition;
use crate::transform::{Contract, Fingerprint, ModelDigest, history_fingerprint};

/// State documents that are looked up at a time.
const READS: usize = 16;

/// What the load plan is made from.
pub(super) struct Planner<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) states: &'a StateStore,
    pub(super) plan: &'a Plan,
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
            let driver = self.driving_source(&contract.table)?;
            let state = self.states.source(&driver.name).await?;
            let partitions = counts.get(driver.name.as_str()).copied().unwrap_or(0);
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
            let driver = self.driving_source(name)?;
            let expected = self.expected(table, driver)?;
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

    /// The partitions that the table has, or is going to have when the plan is done.
    fn expected(&self, table: &TableLoad, driver: &Source) -> Result<Expected, Error> {
        let is_read = self.plan.tasks_of(&driver.name).next().is_some();
        let has_feed = is_read && matches!(driver.kind, SourceKind::Feed | SourceKind::Updates)
            || self.plan.feeds.contains(&driver.name);
        let is_derived = self.plan.run_request.stages.contains(&Stage::Transform);
        let digests = is_derived.then(|| self.digests(&table.contract, driver));
        let digests = digests.transpose()?;
        let part = |document: &PartitionState| {
            let known = document.models.get(&table.contract.table);
            let wanted = digests
                .as_ref()
                .and_then(|digests| digests.wanted(document));
            let is_known =
                |wanted: Fingerprint| known.is_some_and(|known| wanted.is(&known.fingerprint));
            match wanted.map(is_known) {
                Some(false) => Some(underived()),
                Some(true) | None => known.cloned(),
            }
        };
        let mut parts: BTreeMap<Partition, ModelState> = table.state.look(|state| {
            let parts = state.partitions.iter();
            parts
                .filter_map(|(partition, document)| Some((*partition, part(document)?)))
                .collect()
        });
        if is_derived {
            let read = self.partitions_read(driver).into_iter();
            parts.extend(read.map(|partition| (partition, underived())));
        }
        Ok(Expected {
            parts,
            has_feed,
            finds_changes: has_feed || self.plan.lasting.contains(&driver.name),
        })
    }

    /// The partitions that the plan reads.
    fn partitions_read(&self, source: &Source) -> BTreeSet<Partition> {
        self.plan
            .tasks_of(&source.name)
            .flat_map(|task| task.scope.partitions())
            .collect()
    }

    /// What the fingerprints of a table's partitions have in common.
    fn digests<'b>(
        &'b self,
        contract: &'b Contract,
        driver: &'b Source,
    ) -> Result<Digests<'b>, Error> {
        let table = &contract.table;
        let (model, model_contract) = self
            .catalog
            .producer(table)
            .and_then(|model| Some((model, self.contracts.get(&model.name)?)))
            .ok_or_else(|| LoadError::NoSource {
                table: table.clone(),
            })?;
        Ok(Digests {
            catalog: self.catalog,
            driver,
            model: ModelDigest::new(model, model_contract),
            has_others: self.catalog.invalidating_sources(model).count() > 1,
            history: (model.name != *table).then_some(contract),
        })
    }
}

/// What the fingerprints of a table's partitions have in common, made once.
struct Digests<'a> {
    catalog: &'a Catalog,
    driver: &'a Source,
    model: ModelDigest,
    /// Whether a partition depends on other sources too.
    has_others: bool,
    /// The contract of the history table, if it is one.
    history: Option<&'a Contract>,
}

impl Digests<'_> {
    /// The fingerprint that a partition has once it is derived, if there are raw rows to derive it from.
    fn wanted(&self, partition: &PartitionState) -> Option<Fingerprint> {
        if self.has_others {
            // What the others hold is not looked up: it may be another one.
            return Some(Fingerprint::unknown());
        }
        let raw = partition.raw.as_ref()?;
        let inputs = vec![(self.driver.name.clone(), raw.objects.clone())];
        let current = self.model.fingerprint(self.catalog, &inputs);
        Some(match self.history {
            None => current,
            Some(contract) => history_fingerprint(contract, &current),
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
