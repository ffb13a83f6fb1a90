//! Drives partitions through the stages.
//!
//! Extract tasks, queries and loads run concurrently, with bounded queues between them; SQL and decoding have threads
//! of their own, so that a network-bound stage never waits for a CPU-bound one. A stage reads only what the previous
//! one has committed.
//!
//! Files use only those before them, in the order that `tests/it/architecture.rs` gives: `run` at the bottom, this file
//! on top.

mod change_feed;
mod changes;
mod commit_raw;
pub mod coverage;
mod delta_stage;
mod ended_rows;
mod extract_stage;
mod extract_task;
mod feed_tail;
mod load_context;
mod load_plan;
mod load_raw_stage;
mod load_stage;
mod raw_rows;
mod resumable;
mod run;
mod table_loader;
pub mod threads;
mod transform_stage;
mod updates;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::NaiveDate;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use self::coverage::Missing;
use self::delta_stage::DeltaStage;
use self::load_context::{LOADS, LoadContext};
use self::load_plan::JobCounter;
use self::run::{ReadyOfSource, Run, ends_run, shrunken};
use crate::audit::{self, AuditedRun};
use crate::catalog::{Catalog, Model, Problems};
use crate::clean::{Cleaned, Places};
use crate::clock;
use crate::config::{BucketLocation, Config, ConfigError, GoogleAccess, REGIONS, TableFormat, env};
use crate::error::Error;
use crate::events::{Event, Observer, Observers, Outcome};
use crate::load::plan::LoadPlan;
use crate::load::{self, Warehouse};
use crate::plan::{self, Dates, Plan, RunRequest, Stage};
use crate::report::{Idle, ReportBuilder, RunReport};
use crate::samsara::SamsaraError;
use crate::sql_tests::{self, Differ, Preview, Previewed, Scratch};
use crate::state::{RunLock, StateStore};
use crate::store::layout::RunId;
use crate::store::{Bucket, StoreError};
#[cfg(feature = "ballista")]
use crate::transform::Cluster;
use crate::transform::{
    BoundCatalog, BoundModel, Contract, TransformError, Transformer, bind_models,
};

/// Stack size of threads that plan queries. DataFusion visits expressions recursively, and the longest that the catalog
/// accepts (`a + a + …`) takes some 30 MB in a debug build. Unused stack costs no memory.
pub const THREAD_STACK_BYTES: usize = 64 << 20;
/// How long a run that is stopping may still write its audit tables.
const AUDIT_GRACE_PERIOD: Duration = Duration::from_secs(5);
/// Partitions that wait between two stages.
const QUEUE: usize = 64;

/// The whole flow over one pair of buckets.
pub struct Pipeline {
    config: Config,
    catalog: Arc<Catalog>,
    states: StateStore,
    raw: Bucket,
    flattened: Bucket,
    /// Hosts among which the token's region is found if none is configured.
    regions: Vec<String>,
    /// Models bound so far, by name, so that a run and its plan bind each once.
    bound: tokio::sync::Mutex<BTreeMap<String, Arc<BoundModel>>>,
    /// Threads for decoding and SQL; none only while being dropped.
    cpu: Option<Runtime>,
}

impl Pipeline {
    /// Opens the buckets; folders are created if needed. Must be called on a tokio runtime, which does the I/O.
    pub fn new(config: Config, catalog: Catalog) -> Result<Self, Error> {
        Self::over(config, catalog, Bucket::open)
    }

    /// Opens the buckets for reading: nothing is created, and missing folders are empty.
    pub fn looking(config: Config, catalog: Catalog) -> Result<Self, Error> {
        Self::over(config, catalog, Bucket::look)
    }

    fn over(
        config: Config,
        catalog: Catalog,
        open: fn(&BucketLocation, &GoogleAccess, &Handle) -> Result<Bucket, StoreError>,
    ) -> Result<Self, Error> {
        let io = Handle::current();
        let raw = open(&config.storage.raw, &config.storage.google, &io)?;
        let flattened = open(&config.storage.flattened, &config.storage.google, &io)?;
        let cpu = threads::start("cpu")?;
        Ok(Self {
            config,
            catalog: Arc::new(catalog),
            states: StateStore::new(raw.clone()),
            raw,
            flattened,
            regions: REGIONS.iter().map(|(_, url)| (*url).to_string()).collect(),
            bound: tokio::sync::Mutex::default(),
            cpu: Some(cpu),
        })
    }

    /// Looks for the token's region among these hosts instead of Samsara's, if none is configured.
    pub fn with_regions(mut self, regions: Vec<String>) -> Self {
        self.regions = regions;
        self
    }

    /// The catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The state documents.
    pub fn states(&self) -> &StateStore {
        &self.states
    }

    /// The raw bucket.
    pub fn raw(&self) -> &Bucket {
        &self.raw
    }

    /// The flattened bucket.
    pub fn flattened(&self) -> &Bucket {
        &self.flattened
    }

    /// What a run would do.
    pub async fn plan(&self, run_request: RunRequest) -> Result<Plan, Error> {
        let mut plan = plan::make(&self.catalog, &self.states, run_request, clock::now()).await?;
        if plan.run_request.stages.contains(&Stage::Load)
            && let Some(target) = load::target(&self.config.warehouse)
        {
            let bound = self.bound(&plan.run_request).await?;
            let contracts = bound.contracts(&plan.run_request.selection.models);
            let load_plan = self.load_plan(&plan, &contracts, &target).await?;
            let staging = self.config.staging.as_ref().and_then(load::target);
            let (catalog, states) = (self.catalog.clone(), self.states.clone());
            let shared = Arc::new(plan);
            let counter = JobCounter::new(catalog, states, shared.clone(), bound, load_plan);
            let counted = Arc::new(counter)
                .count(staging.as_deref(), self.cpu()?)
                .await;
            plan = Arc::unwrap_or_clone(shared);
            plan.estimate.load_jobs = Some(counted?);
        }
        Ok(plan)
    }

    /// Adds to a plan what edited models change: tables that are derived again, and why, and what stays behind in the
    /// warehouse. Not needed to run the plan.
    pub async fn explain(&self, plan: &mut Plan) -> Result<(), Error> {
        let bound = self.bound(&plan.run_request).await?;
        let changes = changes::Changes {
            catalog: &self.catalog,
            states: &self.states,
            flattened: &self.flattened,
            bound: &bound,
            warehouse: &self.config.warehouse,
            target: &load::target_name(&self.config.warehouse),
        };
        if plan.run_request.stages.contains(&Stage::Transform) {
            plan.derived_again = changes.derived_again(plan).await?;
        }
        plan.left_behind = changes.left_behind(plan, &plan.derived_again).await?;
        Ok(())
    }

    async fn load_plan(
        &self,
        plan: &Plan,
        contracts: &BTreeMap<String, Contract>,
        target: &str,
    ) -> Result<LoadPlan, Error> {
        let (catalog, states, options) = (&self.catalog, &self.states, &self.config.load);
        load_plan::load_plan(catalog, states, plan, contracts, target, options).await
    }

    /// The threads for decoding and SQL.
    fn cpu(&self) -> Result<&Handle, Error> {
        let cpu = self.cpu.as_ref().ok_or(Error::ShutDown)?;
        Ok(cpu.handle())
    }

    /// The selected models and all upstream models, bound. Each is bound once, however often this is called.
    async fn bound(&self, run_request: &RunRequest) -> Result<BoundCatalog, Error> {
        let cpu = self.cpu()?;
        let mut wanted: BTreeMap<&str, &Model> = BTreeMap::new();
        for name in &run_request.selection.models {
            let model = self.catalog.known_model(name)?;
            let all = self.catalog.upstream_of(model).into_iter().chain([model]);
            wanted.extend(all.map(|model| (model.name.as_str(), model)));
        }
        let mut known = self.bound.lock().await;
        let mut rest: Vec<&Model> = wanted.values().copied().collect();
        rest.retain(|model| !known.contains_key(&model.name));
        let problems = bind_models(&self.catalog, rest, &mut known, cpu).await?;
        if let Some(problems) = Problems::new(problems) {
            return Err(TransformError::Model(problems).into());
        }
        let wanted = wanted.into_keys();
        let wanted = wanted.filter_map(|name| known.get(name).cloned());
        Ok(BoundCatalog::new(wanted))
    }

    /// Removes unused objects that were written more than `days` ago (see [`Places::clean`]).
    pub async fn clean(&self, days: u32, dry: bool) -> Result<Cleaned, Error> {
        let places = Places {
            raw: &self.raw,
            flattened: &self.flattened,
            warehouse: &self.config.warehouse,
            lock: &self.config.lock,
        };
        places.clean(days, dry).await
    }

    /// Runs a model over committed raw rows (see [`sql_tests::preview`]).
    pub async fn preview(
        &self,
        model: &Model,
        day: Option<NaiveDate>,
        scratch: &Scratch,
    ) -> Result<Previewed, Error> {
        sql_tests::preview(self.committed(), model, day, scratch).await
    }

    /// Compares what a model makes of committed raw rows with its committed rows.
    pub async fn differ(&self, model: &Model) -> Result<Differ<'_>, Error> {
        Differ::new(self.committed(), &self.flattened, model).await
    }

    fn committed(&self) -> Preview<'_> {
        Preview {
            catalog: &self.catalog,
            states: &self.states,
            raw: &self.raw,
            memory: self.config.sql_memory,
            salt: self.config.hash_salt.clone(),
        }
    }

    /// Executes a plan. Failures of single tables are in the report; an error ends the run.
    ///
    /// The run holds the run lock of the buckets. If another run has changed the state since the plan was made, the
    /// plan is made again: its days may be complete by now.
    pub async fn run(
        &self,
        plan: Plan,
        observers: Vec<Arc<dyn Observer>>,
        shutdown: CancellationToken,
    ) -> Result<RunReport, Error> {
        if plan.run_request.stages.contains(&Stage::Extract) && self.config.samsara.token.is_none()
        {
            return Err(SamsaraError::NoToken.into());
        }
        #[cfg(feature = "ballista")]
        if plan.run_request.stages.contains(&Stage::Transform)
            && let Some(scheduler) = &self.config.scheduler
        {
            // Before anything is begun.
            let checked = Cluster::new(scheduler).check().await;
            checked.map_err(TransformError::from)?;
        }
        let id = RunId::new(clock::now());
        // A child token: the run can stop itself without cancelling the caller's.
        let stop = shutdown.child_token();
        let lock = RunLock::acquire(&self.raw, &id, &self.config.lock, &stop).await?;
        self.states.fence().guard(&lock);
        let span = tracing::error_span!("run", run = %id, outcome = tracing::field::Empty);
        let held = self.under_lock(id, plan, observers, stop).instrument(span);
        let result = match held.await {
            Ok(mut report) => {
                report.cancelled = shutdown.is_cancelled();
                lock.check().map(|()| report).map_err(Error::from)
            }
            Err(error) => Err(lock.check().map_or_else(Error::from, |()| error)),
        };
        self.states.flush().await;
        self.states.fence().lift();
        lock.release().await;
        result
    }

    async fn under_lock(
        &self,
        id: RunId,
        plan: Plan,
        observers: Vec<Arc<dyn Observer>>,
        shutdown: CancellationToken,
    ) -> Result<RunReport, Error> {
        let plan = match self.states.refresh().await? {
            true => self.plan(plan.run_request).await?,
            false => plan,
        };
        let report_builder = Arc::new(ReportBuilder::default());
        let recorder = Arc::new(audit::Recorder::default());
        let mut all = observers;
        all.push(report_builder.clone());
        all.push(recorder.clone());
        let observer: Arc<dyn Observer> = Arc::new(Observers::new(all));

        let bound = self.bound(&plan.run_request).await?;
        self.check_salt(&bound)?;
        let warehouse = match plan.run_request.stages.contains(&Stage::Load) {
            // Opening may take minutes, and nothing has started yet.
            true => tokio::select! {
                () = shutdown.cancelled() => return Ok(RunReport { run: id.to_string(), ..report_builder.report() }),
                opened = self.open_warehouse() => Some(opened?),
            },
            false => None,
        };
        let run = Arc::new(self.context(id, plan, bound, observer, shutdown)?);
        run.observer.observe(&Event::RunStarted {
            run: run.id.to_string(),
            totals: run.totals(self.config.samsara.rate_share),
        });
        let mut ended = self.run_stages(&run, warehouse.clone()).await;
        if ended.is_ok() {
            ended = self.load_raw(&run).await;
        }
        // A run that changed nothing writes no audit rows.
        if let Some(warehouse) = warehouse.filter(|_| report_builder.report().changed_something()) {
            let report = report_builder.report();
            self.write_audit(&run, &recorder, &report, warehouse.as_ref())
                .await;
        }
        let mut report = report_builder.report();
        report.run = run.id.to_string();
        if ended.is_ok() && !run.shutdown.is_cancelled() && run.observer.wants_table_status() {
            self.tell_table_status(&run).await;
        }
        let outcome = match &ended {
            Err(_) => Outcome::Failed,
            Ok(()) if run.shutdown.is_cancelled() => Outcome::Stopped,
            Ok(()) if !report.failures.is_empty() => Outcome::Failed,
            Ok(()) if !report.changed_something() => Outcome::Unchanged,
            Ok(()) => Outcome::Done,
        };
        tracing::Span::current().record("outcome", outcome.as_str());
        run.observer.observe(&Event::RunFinished { outcome });
        ended?;
        if !report.did_something() && report.failures.is_empty() && !run.shutdown.is_cancelled() {
            report.idle = Some(self.why_idle(&run, &report).await?);
        }
        Ok(report)
    }

    /// Refuses a run whose models hash columns if no salt is configured.
    fn check_salt(&self, bound: &BoundCatalog) -> Result<(), Error> {
        let hashes = |bound: &&Arc<BoundModel>| !bound.contract.hashed.is_empty();
        match bound.models().find(hashes) {
            Some(hashing) if self.config.hash_salt.is_none() => Err(ConfigError::Value {
                name: env::SAMSARA_ETL_HASH_SALT.name,
                reason: format!("not set, and {} hashes columns", hashing.model.file),
            }
            .into()),
            _ => Ok(()),
        }
    }

    /// What the stages share.
    fn context(
        &self,
        id: RunId,
        plan: Plan,
        bound: BoundCatalog,
        observer: Arc<dyn Observer>,
        shutdown: CancellationToken,
    ) -> Result<Run, Error> {
        let cpu = self.cpu()?.clone();
        Ok(Run {
            catalog: self.catalog.clone(),
            states: self.states.clone(),
            raw: self.raw.clone(),
            id,
            observer,
            shutdown,
            contracts: bound.contracts(&plan.run_request.selection.models),
            bound,
            target: load::target_name(&self.config.warehouse),
            load: self.config.load.clone(),
            cpu,
            checkpoint_every: self.config.checkpoint_pages.max(1),
            plan,
            ended: Arc::default(),
            apart: Mutex::default(),
            extracted: Mutex::default(),
        })
    }

    /// The three stages, joined by queues. Each ends when the previous one has closed its queue.
    async fn run_stages(
        &self,
        run: &Arc<Run>,
        warehouse: Option<Arc<dyn Warehouse>>,
    ) -> Result<(), Error> {
        let stages = &run.plan.run_request.stages;
        let api = stages
            .contains(&Stage::Extract)
            .then(|| extract_stage::Api {
                config: self.config.samsara.clone(),
                regions: self.regions.clone(),
            });
        let transformer = match stages.contains(&Stage::Transform) {
            true => Some(self.transformer()?),
            false => None,
        };
        let (ready, committed) = mpsc::channel::<ReadyOfSource>(QUEUE);
        let (flat, loadable) = mpsc::channel(QUEUE);
        let workers = self.config.max_workers;
        let context = self.load_context(run, warehouse).await?;
        let delta = match (self.config.table_format, &transformer) {
            (TableFormat::Delta, Some(_)) => {
                let batch = self.config.delta_batch;
                Some(DeltaStage::new(run, &self.flattened, batch).await?)
            }
            _ => None,
        };
        let (extracted, transformed, ()) = tokio::join!(
            extract_stage::extract_stage(run.clone(), api, workers, ready),
            transform_stage::transform_stage(run.clone(), transformer, delta, committed, flat),
            load_stage::load_stage(context, loadable),
        );
        extracted.and(transformed)
    }

    /// What derives partitions, here or on a cluster.
    fn transformer(&self) -> Result<Transformer, Error> {
        let memory = self.config.sql_memory;
        let transformer = Transformer::new(memory, self.raw.clone(), self.flattened.clone())?;
        let transformer = transformer.with_salt(self.config.hash_salt.clone());
        #[cfg(feature = "ballista")]
        let transformer =
            transformer.on_cluster(self.config.scheduler.as_deref().map(Cluster::new));
        Ok(transformer)
    }

    /// The context of the load stage with the load plan; none without a warehouse.
    async fn load_context(
        &self,
        run: &Run,
        warehouse: Option<Arc<dyn Warehouse>>,
    ) -> Result<Option<LoadContext>, Error> {
        let Some(warehouse) = warehouse else {
            return Ok(None);
        };
        let target = warehouse.target();
        let plan = self.load_plan(&run.plan, &run.contracts, target).await?;
        Ok(Some(LoadContext {
            plan,
            jobs: Semaphore::new(LOADS),
            warehouse,
            raw: self.raw.clone(),
            flattened: self.flattened.clone(),
            fence: self.states.fence().clone(),
            observer: run.observer.clone(),
            shutdown: run.shutdown.clone(),
            run: run.id.clone(),
            named: run.plan.run_request.selection.named.clone(),
            not_asked: run.plan.not_available.keys().cloned().collect(),
            ended: run.ended.clone(),
        }))
    }

    /// Loads raw tables if requested. Their failures affect only themselves.
    async fn load_raw(&self, run: &Arc<Run>) -> Result<(), Error> {
        let is_load = run.plan.run_request.stages.contains(&Stage::Load);
        let Some(staging) = self.config.staging.as_ref().filter(|_| is_load) else {
            return Ok(());
        };
        let access = &self.config.storage.google;
        let loaded = tokio::select! {
            () = run.shutdown.cancelled() => Ok(()),
            loaded = load_raw_stage::load_raw_stage(run.clone(), staging, access) => loaded,
        };
        match loaded {
            Err(error) if ends_run(&error) => Err(error),
            Err(error) => {
                run.failed("load-raw", None, &error);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Writes the audit tables; a run that is stopping does so for its grace period only.
    async fn write_audit(
        &self,
        run: &Run,
        recorder: &audit::Recorder,
        report: &RunReport,
        warehouse: &dyn Warehouse,
    ) {
        let audited = AuditedRun {
            id: &run.id,
            catalog: &run.catalog,
            states: &run.states,
            is_cancelled: run.shutdown.is_cancelled(),
            observer: run.observer.as_ref(),
        };
        let grace_period = async {
            run.shutdown.cancelled().await;
            tokio::time::sleep(AUDIT_GRACE_PERIOD).await;
        };
        let written = tokio::select! {
            written = audit::write(&audited, recorder, report, warehouse, &self.flattened) => written,
            () = grace_period => {
                tracing::warn!("the run stops before {} is written", audit::RUNS);
                Ok(())
            }
        };
        if let Err(error) = written {
            run.failed(audit::RUNS, None, &error);
        }
    }

    /// Tells observers what the warehouse has of the selected tables. The run does not fail if this is unknown.
    async fn tell_table_status(&self, run: &Run) {
        let selection = run.plan.run_request.selection.clone();
        let covered = async {
            let lookup = self.lookup(run.bound.clone(), selection, Dates::default())?;
            lookup.coverage().await
        };
        let covered = tokio::select! {
            () = run.shutdown.cancelled() => return,
            covered = covered => covered,
        };
        let covered = match covered {
            Ok(covered) => covered,
            Err(error) => {
                tracing::warn!(%error, "the state of the tables cannot be reported");
                return;
            }
        };
        let asked = covered
            .iter()
            .filter(|source| !source.never_asked && source.not_available.is_none());
        for source in asked {
            for table in &source.tables {
                run.observer.observe(&Event::TableStatus {
                    table: table.table.clone(),
                    newest: table.newest,
                    read: source.last_read,
                    missing: table.missing,
                });
            }
        }
    }

    /// Why a run has done nothing.
    async fn why_idle(&self, run: &Run, report: &RunReport) -> Result<Idle, Error> {
        let run_request = &run.plan.run_request;
        if let Some(start) = run_request
            .dates
            .start
            .filter(|start| *start > clock::now().date_naive())
        {
            return Ok(Idle::NotBegun(start));
        }
        let (selection, dates) = (run_request.selection.clone(), run_request.dates);
        let lookup = self.lookup(run.bound.clone(), selection, dates)?;
        let covered = lookup.coverage().await?;
        if !report.not_available.is_empty() && !covered.iter().any(|source| source.is_known) {
            return Ok(Idle::NotAvailable);
        }
        let Missing {
            unread,
            not_derived,
            not_loaded,
        } = Missing::of(&covered);
        Ok(match unread + not_derived + not_loaded {
            0 => Idle::Complete,
            _ => Idle::Missing {
                unread,
                not_derived,
                not_loaded,
            },
        })
    }

    /// Gives the pipeline up without taking apart what it has in memory, for a program that ends: with the state of years
    /// that takes longer than to exit.
    pub fn abandon(mut self) {
        if let Some(cpu) = self.cpu.take() {
            threads::end(cpu);
        }
        std::mem::forget(self);
    }

    async fn open_warehouse(&self) -> Result<Arc<dyn Warehouse>, Error> {
        let io = Handle::current();
        Ok(load::open(
            &self.config.warehouse,
            &self.config.storage,
            &io,
            self.states.fence(),
        )
        .await?)
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        if let Some(cpu) = self.cpu.take() {
            threads::end(cpu);
        }
    }
}
