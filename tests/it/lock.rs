//! Two runs on one pair of buckets: the second is refused, waits, or takes over; a run without its lock commits nothing.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use samsara_etl::catalog::Catalog;
use samsara_etl::config::{Config, Environment, LockConfig, Overrides};
use samsara_etl::error::Error;
use samsara_etl::events::{Event, Observer};
use samsara_etl::pipeline::Pipeline;
use samsara_etl::plan::{Dates, RunRequest, Selection, Stage};
use samsara_etl::state::{Fence, LockError, SourceState};
use tokio_util::sync::CancellationToken;

use crate::program::{Program, simulator};

const RUN: &[&str] = &[
    "run",
    "--start_date",
    "01/01/2024",
    "--end_date",
    "04/01/2024",
    "--table",
    "fleet_vehicle_stats_engineRpm",
];
const LOCK: &str = "samsara-data/raw/lock.json";
const WAREHOUSE: &str = "samsara-data/warehouse";

/// The lock of a run on another machine, good until `expires`.
pub fn foreign(expires: &str) -> String {
    format!(
        r#"{{"version":1,"run":"20240101T000000Z-0badcafe","host":"elsewhere","pid":1,"machine":"another boot",
            "started":"2024-01-01T00:00:00Z","heartbeat":"2024-01-01T00:00:00Z","expires":"{expires}"}}"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_names_the_holder() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    program.write(LOCK, foreign("2124-01-01T00:00:00Z"));
    let ran = program.run(RUN).await;
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    for part in [
        "0badcafe",
        "process 1 on elsewhere",
        "since 2024-01-01 00:00:00Z",
        "--wait",
    ] {
        assert!(ran.stderr.contains(part), "{} lacks {part}", ran.stderr);
    }
    assert_eq!(simulator.requests().len(), 0);
    // What only looks needs no lock.
    program.succeed(&["plan"]).await;
    program.succeed(&["run", "--dry-run"]).await;
    program.succeed(&["query", "SELECT 1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_lock_is_taken_over() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    program.write(LOCK, foreign("2024-01-01T00:02:00Z"));
    let ran = program.succeed(RUN).await;
    assert!(
        ran.stderr.contains("took over the lock") && ran.stderr.contains("elsewhere"),
        "{}",
        ran.stderr
    );
    let lock = std::fs::read_to_string(program.folder().join(LOCK)).unwrap();
    assert!(
        lock.contains(r#""released":true"#) && !lock.contains("elsewhere"),
        "{lock}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_can_be_stopped() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    program.write(LOCK, foreign("2124-01-01T00:00:00Z"));
    let mut child = program.start(&[RUN, &["--wait"]].concat(), Stdio::piped());
    let mut stderr = tokio::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    tokio::io::AsyncBufReadExt::read_line(&mut stderr, &mut line)
        .await
        .unwrap();
    assert!(line.contains("waiting for another run"), "{line}");
    crate::program::signal(&child, "TERM").await;
    assert_eq!(child.wait().await.unwrap().code(), Some(143));
    assert_eq!(simulator.requests().len(), 0);
}

/// A file with its size and the time it was written.
type Found = (String, u64, std::time::SystemTime);

/// Replaces our lock by another run's at the first committed partition, and waits until our run notices.
struct Usurper {
    program: Program,
    fence: Fence,
    /// The warehouse as the other run has made it.
    left: Mutex<Option<Vec<Found>>>,
}

impl Observer for Usurper {
    fn observe(&self, event: &Event) {
        let mut left = self.left.lock().unwrap();
        if !matches!(event, Event::PartitionExtracted { .. }) || left.is_some() {
            return;
        }
        let lock = self.program.folder().join(LOCK);
        let aside = lock.with_extension("aside");
        tokio::task::block_in_place(|| {
            let begun = Instant::now();
            while self.fence.check().is_ok() {
                // Put there whole, and again where a renewal under way replaced it.
                if !std::fs::read_to_string(&lock).is_ok_and(|text| text.contains("elsewhere")) {
                    std::fs::write(&aside, foreign("2124-01-01T00:00:00Z")).unwrap();
                    std::fs::rename(&aside, &lock).unwrap();
                }
                assert!(
                    begun.elapsed() < Duration::from_secs(30),
                    "the lock still counts as held"
                );
                std::thread::yield_now();
            }
        });
        *left = Some(self.program.files(WAREHOUSE));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_lock_commits_nothing() {
    let simulator = simulator(|config| config.latency = Some(Duration::from_millis(40))).await;
    let program = Program::with_simulator(&simulator);
    // There are tables already, those of what runs did among them.
    program
        .succeed(&[
            "run",
            "--start_date",
            "2023-12-31",
            "--end_date",
            "2024-01-01",
            RUN[5],
            RUN[6],
        ])
        .await;
    let url = simulator.url();
    let pairs = [
        ("SAMSARA_API_URL", url.as_str()),
        ("SAMSARA_API_TOKEN", simulator.token()),
    ];
    let environment = Environment::from_pairs(pairs);
    let mut config = Config::resolve(
        &environment,
        &Overrides::default(),
        program.folder(),
        "samsara-data",
    )
    .unwrap();
    config.max_workers = 1;
    config.lock = LockConfig {
        wait: false,
        expiry: Duration::from_secs(12),
    };
    let catalog = Catalog::open(None).unwrap();
    let run_request = RunRequest {
        selection: Selection::of_names(&catalog, &["fleet_vehicle_stats_engineRpm".into()])
            .unwrap(),
        dates: Dates::parse(Some("2024-01-01"), Some("2024-03-01")).unwrap(),
        stages: [Stage::Extract, Stage::Transform, Stage::Load].into(),
        historical: false,
    };
    let pipeline = Pipeline::new(config, catalog).unwrap();
    let plan = pipeline.plan(run_request).await.unwrap();
    let fence = pipeline.states().fence().clone();
    let usurper = Arc::new(Usurper {
        program,
        fence,
        left: Mutex::default(),
    });
    let stop = CancellationToken::new();
    let error = pipeline
        .run(plan, vec![usurper.clone()], stop.clone())
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Lock(LockError::Lost { .. })),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("taken over by run 20240101T000000Z-0badcafe"),
        "{error}"
    );
    assert!(!stop.is_cancelled(), "the caller's token is the caller's");
    let program = &usurper.program;
    let state = std::fs::read(
        program
            .folder()
            .join("samsara-data/raw/state/fleet_vehicle_stats_engineRpm.json"),
    );
    let state = SourceState::from_json(&state.unwrap(), "").unwrap();
    assert!(
        (1..60).contains(&state.complete().count()),
        "{} of 60 days",
        state.complete().count()
    );
    // The other's lock was left alone, and so was what it may have loaded.
    assert_eq!(
        usurper.left.lock().unwrap().as_ref(),
        Some(&program.files(WAREHOUSE))
    );
    assert!(
        std::fs::read_to_string(program.folder().join(LOCK))
            .unwrap()
            .contains("elsewhere")
    );
}
