//! Drives partitions through the stations.
//!
//! Walks, models and loads go on at the same time, with bounded queues between them; SQL and decoding have threads
//! of their own, so that a network-bound stage never waits for a CPU-bound one. A stage reads only what the one
//! before has committed.

mod audit;
pub mod clean;
pub mod coverage;
mod extract_stage;
pub mod fixtures;
mod jobs;
mod load_raw_stage;
mod load_stage;
mod preview;
pub mod threads;
mod transform_stage;

pub use preview::Scratch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::Utc;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::coverage::Missing;
use crate::catalog::Catalog;
use crate::config::{BucketLocation, Config, ConfigError, GoogleAccess, LoadOptions, REGIONS, env};
use crate::error::Error;
use crate::events::{Observer, Observers};
use crate::load::{self, Warehouse};
use crate::plan::{self, Plan, RunRequest, Stage};
use crate::redact;
use crate::report::{Idle, ReportBuilder, RunReport};
use crate::samsara::SamsaraError;
use crate::state::{PartitionState, RunLock, StateStore};
use crate::store::layout::{Partition, RunId};
use crate::store::{Bucket, StoreError};
use crate::transform::{Contract, Transformer, bind_all};

/// Stack of threads that plan queries. DataFusion walks expressions recursively, and the longest that the catalog
/// accepts (`a + a + …`) takes some 30 MB in a debug build; what is not used costs nothing.
pub const THREAD_STACK_BYTES: usize = 64 << 20;
/// For how long a run that has to stop tells of itself in the warehouse.
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
    /// Hosts among which the token's region is found, where none is configured.
    regions: Vec<String>,
    /// Threads for decoding and SQL; none only while being dropped.
    cpu: Option<Runtime>,
}

/// What all stages of one run share.
struct Run {
    catalog: Arc<Catalog>,
    states: StateStore,
    raw: Bucket,
    id: RunId,
    observer: Arc<dyn Observer>,
    shutdown: CancellationToken,
    contracts: BTreeMap<String, Contract>,
    load: LoadOptions,
    cpu: Handle,
    /// After how many pages an unfinished task is noted.
    checkpoint_every: u64,
    plan: Plan,
    /// Sources that the token or the organisation does not have: asking again for another day is of no use.
    ended: Mutex<BTreeSet<String>>,
    /// Partitions that tasks of this run have handed on.
    extracted: Mutex<BTreeSet<Ready>>,
}

/// A partition whose raw rows are committed, on its way to the models.
type Ready = (String, Partition);

impl Pipeline {
    /// Opens the buckets; folders are made if need be. Must be called on a tokio runtime, which does the waiting.
    pub fn new(config: Config, catalog: Catalog) -> Result<Self, Error> {
        Self::over(config, catalog, Bucket::open)
    }

    /// Opens the buckets to read them: nothing is made. What is not there is empty.
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
            cpu: Some(cpu),
        })
    }

    /// Looks for the token's region among these hosts instead of Samsara's own, where none is configured.
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
        let mut plan = plan::make(&self.catalog, &self.states, run_request, Utc::now()).await?;
        if plan.run_request.stages.contains(&Stage::Load)
            && let Some(target) = load::target(&self.config.warehouse)
        {
            let contracts = self.contracts(&plan.run_request).await?;
            let staging = self.config.staging.as_ref().and_then(load::target);
            let count = jobs::Count {
                catalog: &self.catalog,
                states: &self.states,
                plan: &plan,
                contracts: &contracts,
                options: &self.config.load,
                target: &target,
                staging: staging.as_deref(),
            };
            plan.estimate.load_jobs = Some(count.jobs().await?);
        }
        Ok(plan)
    }

    /// The contracts of the wished tables, by name.
    async fn contracts(
        &self,
        run_request: &RunRequest,
    ) -> Result<BTreeMap<String, Contract>, Error> {
        let Some(cpu) = &self.cpu else {
            return Err(Error::Usage("the pipeline is shut down".into()));
        };
        let names = run_request.selection.models.iter();
        let models = names.filter_map(|name| self.catalog.model(name));
        // Planning is work for all cores.
        let binding: Vec<_> = models
            .map(|model| {
                let (catalog, model) = (self.catalog.clone(), model.clone());
                cpu.spawn(async move { bind_all(&catalog, &model).await })
            })
            .collect();
        let mut contracts = BTreeMap::new();
        for bound in binding {
            let stopped = |error| Error::Usage(format!("binding a model stopped: {error}"));
            for contract in bound.await.map_err(stopped)?? {
                contracts.insert(contract.table.clone(), contract);
            }
        }
        Ok(contracts)
    }

    /// Does what the plan says. Failures of single tables are in the report; an error ends the run.
    ///
    /// The run lock of the buckets is held meanwhile. If another run has changed the state since the plan was made,
    /// the plan is made anew: it would speak of days that are complete by now.
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
        let id = RunId::new(Utc::now());
        // Our own token: the caller's is not ours to cancel when a run has to stop by itself.
        let stop = shutdown.child_token();
        let lock = RunLock::acquire(&self.raw, &id, &self.config.lock, &stop).await?;
        self.states.fence().guard(&lock);
        let result = match self.under_lock(id, plan, observers, stop).await {
            Ok(mut report) => {
                report.cancelled = shutdown.is_cancelled();
                lock.check().map(|()| report).map_err(Error::from)
            }
            Err(error) => Err(lock.check().map_or_else(Error::from, |()| error)),
        };
        self.states.settle().await;
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

        let contracts = self.contracts(&plan.run_request).await?;
        if let Some(hashed) = contracts
            .values()
            .find(|contract| !contract.hashed.is_empty())
            && self.config.hash_salt.is_none()
        {
            let file = self
                .catalog
                .producer(&hashed.table)
                .map_or(hashed.table.as_str(), |model| &model.file);
            let reason = format!("not set, and {file} hashes columns");
            return Err(ConfigError::Value {
                name: env::SAMSARA_ETL_HASH_SALT.name,
                reason,
            }
            .into());
        }
        let stages = plan.run_request.stages.clone();
        let warehouse = match stages.contains(&Stage::Load) {
            // It may be looked for for minutes, and nothing is begun yet.
            true => tokio::select! {
                () = shutdown.cancelled() => return Ok(RunReport { run: id.to_string(), ..report_builder.report() }),
                opened = self.open_warehouse() => Some(opened?),
            },
            false => None,
        };
        let api = stages
            .contains(&Stage::Extract)
            .then(|| extract_stage::Api {
                config: self.config.samsara.clone(),
                regions: self.regions.clone(),
            });
        let Some(cpu) = self.cpu.as_ref().map(|runtime| runtime.handle().clone()) else {
            return Err(Error::Usage("the pipeline is shut down".into()));
        };
        let run = Arc::new(Run {
            catalog: self.catalog.clone(),
            states: self.states.clone(),
            raw: self.raw.clone(),
            id,
            observer,
            shutdown,
            contracts,
            load: self.config.load.clone(),
            cpu,
            checkpoint_every: self.config.checkpoint_pages.max(1),
            plan,
            ended: Mutex::default(),
            extracted: Mutex::default(),
        });
        let (ready, committed) = mpsc::channel::<Ready>(QUEUE);
        let (flat, loadable) = mpsc::channel(QUEUE);
        let transformer = match stages.contains(&Stage::Transform) {
            true => Some(
                Transformer::new(
                    self.catalog.clone(),
                    self.config.sql_memory,
                    self.raw.clone(),
                    self.flattened.clone(),
                )?
                .with_salt(self.config.hash_salt.clone()),
            ),
            false => None,
        };
        let extract =
            extract_stage::extract_stage(run.clone(), api, self.config.max_workers, ready);
        let transform = transform_stage::transform_stage(run.clone(), transformer, committed, flat);
        let load = load_stage::load_stage(
            run.clone(),
            warehouse.clone(),
            self.flattened.clone(),
            loadable,
        );
        // Each stage ends when the one before has closed its queue.
        let (extracted, transformed, loaded) = tokio::join!(extract, transform, load);
        let mut ended = extracted.and(transformed).and(loaded);
        if let (Some(staging), true, true) = (
            &self.config.staging,
            stages.contains(&Stage::Load),
            ended.is_ok(),
        ) {
            let staged = tokio::select! {
                () = run.shutdown.cancelled() => Ok(()),
                staged = load_raw_stage::load_raw_stage(run.clone(), staging, &self.config.storage.google) => staged,
            };
            match staged {
                Err(error) if ends_run(&error) => ended = Err(error),
                // The tables are none the worse for it.
                Err(error) => run.failed("load-raw", None, &error),
                Ok(()) => {}
            }
        }
        // A run that changed nothing leaves nothing behind.
        if let Some(warehouse) = warehouse.filter(|_| report_builder.report().changed_something()) {
            let report = report_builder.report();
            let told = tokio::select! {
                told = audit::write(&run, &recorder, &report, warehouse.as_ref(), &self.flattened) => told,
                () = async { run.shutdown.cancelled().await; tokio::time::sleep(AUDIT_GRACE_PERIOD).await } => {
                    tracing::warn!("the run stops, and {} does not tell of it", audit::RUNS);
                    Ok(())
                }
            };
            if let Err(error) = told {
                run.failed(audit::RUNS, None, &error);
            }
        }
        let mut report = report_builder.report();
        report.run = run.id.to_string();
        ended?;
        if !report.did_something() && report.failures.is_empty() && !run.shutdown.is_cancelled() {
            report.idle = Some(self.why_idle(&run, &report).await?);
        }
        Ok(report)
    }

    /// Why a run has done nothing.
    async fn why_idle(&self, run: &Run, report: &RunReport) -> Result<Idle, Error> {
        let run_request = &run.plan.run_request;
        if let Some(start) = run_request
            .dates
            .start
            .filter(|start| *start > Utc::now().date_naive())
        {
            return Ok(Idle::NotBegun(start));
        }
        let target = load::target_name(&self.config.warehouse);
        let (catalog, states, contracts) = (&run.catalog, &run.states, &run.contracts);
        let lookup = coverage::Lookup {
            catalog,
            states,
            contracts,
            target: &target,
        };
        let covered = lookup
            .coverage(&run_request.selection, &run_request.dates)
            .await?;
        if !report.skipped.is_empty() && !covered.iter().any(|source| source.is_known) {
            return Ok(Idle::NotFound);
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
        // Dropping a runtime inside another one blocks, which tokio forbids.
        if let Some(cpu) = self.cpu.take() {
            cpu.shutdown_background();
        }
    }
}

impl Run {
    fn failed(&self, name: &str, partition: Option<Partition>, error: &Error) {
        self.observer.observe(&crate::events::Event::Failed {
            name: name.to_string(),
            partition: partition.map(|partition| partition.to_string()),
            error: redact::one_line(error),
        });
    }
}

/// Whether a list has lost so many rows that it is not believed. A source stands for all tables made of it.
fn is_shrunken(run: &Run, source: &str, rows: u64, before: u64) -> bool {
    let models = run
        .catalog
        .models_of(source)
        .map(|model| model.name.as_str());
    models
        .chain([source])
        .all(|name| run.load.refuses_shrunken(name, rows, before))
}

/// How many rows a list had that is not believed now.
fn shrunken(run: &Run, source: &str, found: &PartitionState) -> Option<u64> {
    let rows = found.raw.as_ref()?.rows();
    found
        .shrunken_from
        .filter(|before| is_shrunken(run, source, rows, *before))
}

/// Whether an error is about everything and not about one table.
fn ends_run(error: &Error) -> bool {
    match error {
        Error::Extract(error) => error.api().is_some_and(SamsaraError::ends_run),
        Error::Samsara(error) => error.ends_run(),
        Error::State(_) => true,
        _ => false,
    }
}
