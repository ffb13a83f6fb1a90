//! SIGINT and SIGTERM in the middle of a run.

use std::process::Stdio;
use std::time::Duration;

use crate::program::{Program, signal, simulator};
use crate::truth::{compare, day};

const RUN: &[&str] = &[
    "run",
    "--start_date",
    "01/01/2024",
    "--end_date",
    "10/01/2024",
    "--table",
    "fleet_vehicle_stats_gps",
    "--table",
    "fleet_trips",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_stops_a_run_with_its_own_code_and_the_next_one_makes_all_whole() {
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let simulator = simulator(|config| config.latency = Some(Duration::from_millis(20))).await;
        let program = Program::with_simulator(&simulator);
        let mut child = program.start(RUN, Stdio::null());
        let enough = async {
            while simulator.requests().len() < 10 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), enough).await.unwrap();
        signal(&child, name).await;
        let ended = tokio::time::timeout(Duration::from_secs(30), child.wait()).await.unwrap().unwrap();
        assert_eq!(ended.code(), Some(code), "SIG{name}");
        let complete = simulator.requests().len();
        assert!(complete < 100, "it was stopped in the middle, after {complete} requests");
        program.succeed(RUN).await;
        for table in ["fleet_vehicle_stats_gps", "fleet_trips"] {
            compare(&program, simulator.world(), table, day("2024-01-01"), day("2024-01-10")).await.unwrap();
        }
    }
}
