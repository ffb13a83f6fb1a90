//! `scheduler`: the scheduler of a Ballista cluster that derives tables.

use std::net::SocketAddr;
use std::sync::Arc;

use ballista_core::config::TaskSchedulingPolicy;
use ballista_core::error::BallistaError;
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::scheduler_process::{create_scheduler, start_grpc_service_with_listener};
use clap::Args;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use tokio::net::TcpListener;

use super::Exit;
use super::signals::Signals;
use crate::error::Error;
use crate::transform::TaskCodec;

/// A finished task's answer is fetched at once; what the scheduler and the executors keep of it is forgotten after this
/// many seconds.
const KEPT_SECONDS: u64 = 60;
/// Executors that work on long tasks ask for more work at least this often, which says that they are alive.
const POLL_SECONDS: u64 = 5;

/// Serve as the scheduler of an Apache Ballista cluster that derives tables, until stopped (docs/ballista.md).
///
/// Nothing asks for a password: serve in a private network only.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samsara-etl scheduler
  samsara-etl scheduler --listen 10.0.0.5:50050")]
pub(super) struct Scheduler {
    /// Address to listen on; port 0 picks a free port
    #[arg(long, default_value = "127.0.0.1:50050")]
    listen: SocketAddr,
    /// Give what an executor was doing to another one when nothing was heard of it for this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(2 * POLL_SECONDS..=3600))]
    executor_timeout: u64,
}

impl Scheduler {
    pub(super) async fn execute(self) -> Result<Exit, Error> {
        let signals = Signals::listen(|| "stopping (again to end at once)".into());
        let cannot_listen = |source| Error::System {
            what: format!("cannot listen on {}", self.listen),
            source,
        };
        let listener = TcpListener::bind(self.listen)
            .await
            .map_err(cannot_listen)?;
        let address = listener.local_addr().map_err(cannot_listen)?;
        let config = Arc::new(SchedulerConfig {
            external_host: address.ip().to_string(),
            bind_host: address.ip().to_string(),
            bind_port: address.port(),
            // Executors ask for work: they need not be reached, but for what they answer.
            scheduling_policy: TaskSchedulingPolicy::PullStaged,
            // And that the scheduler fetches for its clients, which so need its address only.
            enable_embedded_flight_proxy: true,
            finished_job_data_clean_up_interval_seconds: KEPT_SECONDS,
            finished_job_state_clean_up_interval_seconds: KEPT_SECONDS,
            executor_timeout_seconds: self.executor_timeout,
            expire_dead_executor_interval_seconds: POLL_SECONDS,
            no_executors_grace_period_seconds: self.executor_timeout,
            override_physical_codec: Some(Arc::new(TaskCodec::default())),
            ..SchedulerConfig::default()
        });
        let failed = |error: BallistaError| Error::System {
            what: "the scheduler stopped".into(),
            source: std::io::Error::other(error.to_string()),
        };
        let cluster = BallistaCluster::new_from_config(&config)
            .await
            .map_err(failed)?;
        let scheduler = create_scheduler::<LogicalPlanNode, PhysicalPlanNode>(cluster, config);
        let scheduler = scheduler.await.map_err(failed)?;
        eprintln!("Ballista scheduler on {address} until stopped (Ctrl-C)");
        tokio::select! {
            served = start_grpc_service_with_listener(listener, scheduler) => {
                served.map_err(failed)?;
            }
            () = signals.shutdown.cancelled() => {}
        }
        Ok(Exit::Success)
    }
}
