//! `demo`: the whole pipeline, with nothing but this program.

use std::collections::BTreeSet;

use clap::Args;

use super::output::say;
use super::query::{Format, answer};
use super::run::{Ended, ShowOptions, run_once};
use super::{Context, Exit};
use crate::config::{
    BucketLocation, CHECKPOINT_PAGES, Config, DELTA_BATCH, DEMO_FOLDER, GoogleAccess, HttpConfig,
    LoadOptions, LockConfig, RetryConfig, SamsaraConfig, Secret, StorageConfig, TableFormat,
    WarehouseConfig,
};
use crate::error::Error;
use crate::plan::{Dates, RunRequest, Selection, Stage};
use samsara_simulator::{Simulator, SimulatorConfig};

/// The query whose answer the demo shows.
const EXAMPLE: &str = "SELECT parc_id, count(*) AS readings, round(avg(engineRpm)) AS mean_rpm, max(engineRpm) AS max_rpm \
FROM fleet_vehicle_stats_engineRpm GROUP BY parc_id ORDER BY readings DESC, parc_id LIMIT 5";

/// Run the whole pipeline on a simulated fleet: simulator → local buckets → local warehouse, in ./samsara-demo.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samsara-etl demo
  samsara-etl demo --vehicles 50 --end-date 2024-01-08")]
pub(super) struct Demo {
    /// Number of vehicles in the fleet
    #[arg(long, default_value_t = 10)]
    vehicles: u32,
    /// Seed of the fleet and its data
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// First day
    #[arg(long, default_value = "2024-01-01")]
    start_date: String,
    /// Day after the last day (exclusive)
    #[arg(long, default_value = "2024-01-04")]
    end_date: String,
    /// Send fields that no schema declares
    #[arg(long)]
    unknown_fields: bool,
}

impl Demo {
    pub(super) async fn execute(self, context: &Context) -> Result<Exit, Error> {
        let dates =
            Dates::parse(Some(&self.start_date), Some(&self.end_date)).map_err(Error::Usage)?;
        let simulator = SimulatorConfig {
            vehicles: self.vehicles,
            seed: self.seed,
            unknown_fields: self.unknown_fields,
            now: dates
                .end
                .map(|end| end.and_time(chrono::NaiveTime::MIN).and_utc()),
            ..SimulatorConfig::default()
        };
        let simulator = Simulator::start(simulator)
            .await
            .map_err(|error| Error::Usage(error.to_string()))?;
        say(format_args!(
            "simulating {} vehicles at {}, writing to ./{DEMO_FOLDER}",
            self.vehicles,
            simulator.url()
        ));
        let config = self.config(context, &simulator)?;
        let catalog = context.catalog()?;
        let run_request = RunRequest {
            selection: Selection::all(&catalog, false),
            dates,
            stages: BTreeSet::from([Stage::Extract, Stage::Transform, Stage::Load]),
            historical: false,
        };
        let Ended { report, exit, .. } = run_once(
            config.clone(),
            catalog,
            run_request,
            ShowOptions::DEFAULT,
            context,
        )
        .await?;
        ShowOptions::DEFAULT.print(&report, context)?;
        simulator.shutdown().await;
        if exit == Exit::Success {
            say(format_args!("\nsamsara-etl query \"{EXAMPLE}\""));
            answer(config, context, EXAMPLE, Format::Table).await?;
        }
        Ok(exit)
    }

    /// Nothing from the environment: the demo never touches anything but its folder.
    fn config(&self, context: &Context, simulator: &Simulator) -> Result<Config, Error> {
        let folder = context.directory.join(DEMO_FOLDER);
        let url = simulator
            .url()
            .parse()
            .map_err(|error| Error::Usage(format!("simulator address: {error}")))?;
        Ok(Config {
            samsara: SamsaraConfig {
                token: Some(Secret::new(simulator.token())),
                url: Some(url),
                // The simulator has no limits of its own.
                rate_share: 100.0,
                retry: RetryConfig::default(),
                http: HttpConfig::default(),
            },
            storage: StorageConfig {
                raw: BucketLocation::Folder(folder.join("raw")),
                flattened: BucketLocation::Folder(folder.join("flattened")),
                google: GoogleAccess::default(),
            },
            warehouse: WarehouseConfig::Local(folder.join("warehouse")),
            staging: None,
            max_workers: 5,
            sql_memory: 1 << 30,
            hash_salt: None,
            load: LoadOptions::default(),
            lock: LockConfig::default(),
            checkpoint_pages: CHECKPOINT_PAGES,
            table_format: TableFormat::default(),
            delta_batch: DELTA_BATCH,
            #[cfg(feature = "ballista")]
            scheduler: None,
        })
    }
}
