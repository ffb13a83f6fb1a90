//! `simulate`: a Samsara API on this machine.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Exit;
use super::signals::Signals;
use crate::error::Error;
use samsara_simulator::{Faults, Simulator, SimulatorConfig};

/// Serve a Samsara API on this machine, with a simulated fleet or recorded pages, until stopped.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samsara-etl simulate
  samsara-etl simulate --listen 127.0.0.1:0 --faults 429=0.1,reset=0.02")]
pub(super) struct Simulate {
    /// Address to listen on; port 0 picks a free port
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Number of vehicles in the fleet
    #[arg(long, default_value_t = 50)]
    vehicles: u32,
    /// Records on a page, as far as the request's `limit` allows [default: the number that suits each endpoint's tests]
    #[arg(long, value_name = "N")]
    page_size: Option<usize>,
    /// Seed: the same seed gives the same fleet and data
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Wait this many milliseconds before each answer
    #[arg(long, value_name = "MS")]
    latency: Option<u64>,
    /// Enforce the documented rates, scaled by this factor (2 is twice as generous)
    #[arg(long, value_name = "FACTOR")]
    rate_tier: Option<f64>,
    /// Faults and their rates, such as 429=0.1,500=0.05,reset=0.02
    #[arg(long, value_name = "LIST")]
    faults: Option<Faults>,
    /// Serve recorded bodies: DIR/<endpoint path>/0001.json, 0002.json …
    #[arg(long, value_name = "DIR")]
    pages: Option<PathBuf>,
    /// Send fields that no schema declares
    #[arg(long)]
    unknown_fields: bool,
}

impl Simulate {
    pub(super) async fn execute(self) -> Result<Exit, Error> {
        let signals = Signals::listen(|| "stopping (again to end at once)".into());
        let config = SimulatorConfig {
            listen: self.listen,
            vehicles: self.vehicles,
            page_size: self.page_size,
            seed: self.seed,
            latency: self.latency.map(Duration::from_millis),
            enforce_rate_limits: self.rate_tier.is_some(),
            rate_limit_scale: self.rate_tier.unwrap_or(1.0),
            faults: self.faults.unwrap_or_default(),
            pages_dir: self.pages,
            unknown_fields: self.unknown_fields,
            ..SimulatorConfig::default()
        };
        let simulator = Simulator::start(config)
            .await
            .map_err(|error| Error::Usage(error.to_string()))?;
        let (url, token) = (simulator.url(), simulator.token());
        // The token of the simulator is not a secret, even if it is configured as the API token.
        super::output::print_exact(format_args!(
            "SAMSARA_API_URL={url}\nSAMSARA_API_TOKEN={token}\n"
        ))?;
        eprintln!("serving until stopped (Ctrl-C)");
        signals.shutdown.cancelled().await;
        simulator.shutdown().await;
        Ok(Exit::Success)
    }
}
