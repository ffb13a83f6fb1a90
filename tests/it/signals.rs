//! SIGINT and SIGTERM in the middle of a run.

use std::process::Stdio;
use std::time::Duration;

use crate::program::{Program, signal, simulator};
use crate::support::faults::{Action, Fault};
use crate::support::gcs::GcsDouble;
use crate::truth::{compare, day};
use tokio::io::{AsyncBufReadExt, BufReader};

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
async fn a_signal_stops_a_run() {
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let simulator = simulator(|config| config.latency = Some(Duration::from_millis(20))).await;
        let program = Program::with_simulator(&simulator);
        let mut child = program.start(RUN, Stdio::null());
        let enough = async {
            while simulator.requests().len() < 10 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), enough)
            .await
            .unwrap();
        signal(&child, name).await;
        let ended = tokio::time::timeout(Duration::from_secs(30), child.wait())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(ended.code(), Some(code), "SIG{name}");
        let complete = simulator.requests().len();
        assert!(
            complete < 100,
            "it was stopped in the middle, after {complete} requests"
        );
        program.succeed(RUN).await;
        for table in ["fleet_vehicle_stats_gps", "fleet_trips"] {
            compare(
                &program,
                simulator.world(),
                table,
                day("2024-01-01"),
                day("2024-01-10"),
            )
            .await
            .unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once() {
    let simulator = simulator(|_| ()).await;
    let double = GcsDouble::start(&["raw", "flat"]);
    // A commit without a response: the first signal waits for its end, so that it cannot be applied after the lock is
    // released.
    double.fault(Fault::on(
        "PUT",
        "state/",
        Action::Delay(Duration::from_secs(3600)),
    ));
    let program = Program::with_simulator(&simulator)
        .set("STORAGE_EMULATOR_HOST", double.url())
        .set("GCS_BUCKET_NAME", "raw")
        .set("GCS_BUCKET_FLATTENED_NAME", "flat");
    let mut child = program.start(RUN, Stdio::piped());
    let begun = async {
        while !double.has_begun("PUT", "state/") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), begun)
        .await
        .unwrap();
    signal(&child, "INT").await;
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
    while !told
        .next_line()
        .await
        .unwrap()
        .expect("it ended at the first signal")
        .contains("stopping")
    {}
    assert!(child.try_wait().unwrap().is_none());
    signal(&child, "INT").await;
    let ended = tokio::time::timeout(Duration::from_secs(10), child.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ended.code(), Some(130));
    double.clear_faults();
    program.succeed(RUN).await;
    for table in ["fleet_vehicle_stats_gps", "fleet_trips"] {
        compare(
            &program,
            simulator.world(),
            table,
            day("2024-01-01"),
            day("2024-01-10"),
        )
        .await
        .unwrap();
    }
}
