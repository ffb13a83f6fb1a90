//! `executor`: an executor of a Ballista cluster that derives tables.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ballista_core::config::TaskSchedulingPolicy;
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use clap::Args;
use tokio::runtime::Handle;

use super::options::{TargetOptions, host_and_port};
use super::{Context, Exit};
use crate::config::BucketLocation;
use crate::error::Error;
use crate::pipeline::threads;
use crate::store::Bucket;
use crate::transform::{TaskCodec, Transformer, Worker};

/// How long the scheduler is waited for: both may be started at the same time.
const CONNECT_SECONDS: u16 = 60;

/// Serve as an executor of an Apache Ballista cluster that derives tables, until stopped (docs/ballista.md).
///
/// It reads and writes the buckets itself, so it is configured as `run` is: by .env or the environment, with the same
/// buckets, the same salt, and credentials of its own. Nothing asks for a password: serve in a private network only.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samsara-etl executor --scheduler 127.0.0.1:50050
  samsara-etl executor --scheduler 10.0.0.5:50050 --bind 10.0.0.6 --tasks 8")]
pub(super) struct Executor {
    /// The scheduler
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    scheduler: String,
    /// Address to listen on, for the scheduler to fetch answers from
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    bind: IpAddr,
    /// Port to listen on
    #[arg(long, default_value_t = 50051)]
    port: u16,
    /// Name or address under which the scheduler reaches this executor [default: the address that it connects from]
    #[arg(long, value_name = "HOST")]
    external_host: Option<String>,
    /// Number of partitions that are worked on at the same time [default: the number of processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    tasks: Option<u16>,
    /// Folder for answers until they are fetched, a few hundred bytes each [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
}

impl Executor {
    pub(super) async fn execute(self, context: &Context) -> Result<Exit, Error> {
        let config = TargetOptions::default().config(context)?;
        let io = Handle::current();
        let open = |location: &BucketLocation| Bucket::open(location, &config.storage.google, &io);
        let (raw, flattened) = (open(&config.storage.raw)?, open(&config.storage.flattened)?);
        let buckets = format!("{} and {}", raw.url(), flattened.url());
        let transformer = Transformer::new(config.sql_memory, raw, flattened)?;
        let transformer = transformer.with_salt(config.hash_salt.clone());
        let cpu = threads::start("cpu")?;
        let worker = Worker::new(transformer, cpu.handle().clone());
        let system = |source| Error::System {
            what: "cannot make a temporary folder".into(),
            source,
        };
        let folder = tempfile::tempdir().map_err(system)?;
        let work_dir = self.work_dir.as_deref().unwrap_or(folder.path());
        let unknown = || Error::Usage("--scheduler: expected HOST:PORT".into());
        let (host, port) = self.scheduler.rsplit_once(':').ok_or_else(unknown)?;
        let tasks = match self.tasks {
            Some(tasks) => tasks.into(),
            None => std::thread::available_parallelism().map_or(2, usize::from),
        };
        let process = ExecutorProcessConfig {
            bind_host: self.bind.to_string(),
            external_host: self.external_host.clone(),
            port: self.port,
            scheduler_host: host.into(),
            scheduler_port: port.parse().map_err(|_| unknown())?,
            scheduler_connect_timeout_seconds: CONNECT_SECONDS,
            vcores: tasks,
            task_scheduling_policy: TaskSchedulingPolicy::PullStaged,
            work_dir: Some(work_dir.display().to_string()),
            // Plans run in the worker's own memory.
            memory_pool_size: Some(0),
            override_physical_codec: Some(Arc::new(TaskCodec::of_executor(worker))),
            ..ExecutorProcessConfig::default()
        };
        eprintln!(
            "Ballista executor of {} for {buckets} until stopped (Ctrl-C)",
            self.scheduler
        );
        let ended = start_executor_process(Arc::new(process)).await;
        threads::end(cpu);
        match ended {
            Ok(()) => Ok(Exit::Success),
            Err(error) => Err(Error::System {
                what: format!("the executor of {} stopped", self.scheduler),
                source: std::io::Error::other(error.to_string()),
            }),
        }
    }
}
