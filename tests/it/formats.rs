//! Buckets as each version of the program left them when it was killed, in `tests/it/data/stored`. They were written
//! with the simulator's fleet of six vehicles and seed 11: a whole day, and a second one that was half read.

use std::path::Path;

use samsara_simulator::{Simulator, SimulatorConfig};

use crate::program::Program;
use crate::truth::{compare, day};

const TABLES: [&str; 4] = [
    "fleet_trips",
    "fleet_vehicle_stats_engineRpm",
    "fleet_vehicle_stats_gps",
    "fleet_vehicles",
];
const RUN: &[&str] = &[
    "run",
    "--start_date",
    "01/01/2024",
    "--end_date",
    "03/01/2024",
];

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_earlier_versions_stored_is_gone_on_with() {
    let config = SimulatorConfig {
        vehicles: 6,
        seed: 11,
        ..SimulatorConfig::default()
    };
    let simulator = Simulator::start(config).await.unwrap();
    let tables: Vec<&str> = TABLES.iter().flat_map(|table| ["--table", table]).collect();
    let (first, second, third) = (day("2024-01-01"), day("2024-01-02"), day("2024-01-03"));
    let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data/stored");
    for version in 1..=samsara_etl::state::VERSION {
        let program = Program::with_simulator(&simulator);
        copy(
            &stored.join(format!("v{version}")),
            &program.folder().join("samsara-data"),
        );
        // The whole day comes from what is stored: the API is not asked.
        simulator.clear_requests();
        program
            .succeed(&[RUN, &["--stages", "transform,load"], &tables].concat())
            .await;
        assert_eq!(simulator.requests().len(), 0, "version {version}");
        for table in &TABLES[..3] {
            let rows = compare(&program, simulator.world(), table, first, second).await;
            assert!(rows.unwrap() > 0, "{table} of version {version}");
        }
        // Then the half day is read, and no whole one again.
        program.succeed(&[RUN, &tables].concat()).await;
        let asked = simulator.requests();
        let asked_again = asked
            .iter()
            .find(|asked| asked.query.contains("startTime=2024-01-01"));
        assert!(asked_again.is_none(), "version {version}: {asked_again:?}");
        for table in TABLES {
            let rows = compare(&program, simulator.world(), table, first, third).await;
            assert!(rows.unwrap() > 0, "{table} of version {version}");
        }
    }
}
