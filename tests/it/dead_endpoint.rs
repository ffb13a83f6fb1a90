//! A dead endpoint is paused after some failed requests; sources that do not need it are read meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use samsara_etl::config::{Config, RetryConfig};

use crate::program::{Program, impatient, run_here, simulator};
use crate::support::gate::{self, Turn};
use crate::truth::{compare, day};

const DEAD: &str = "/fleet/vehicles/stats/history";
const TABLES: &[&str] = &["fleet_vehicle_stats_gps", "fleet_vehicles", "fleet_trips"];
const DAYS: [&str; 2] = ["2024-01-01", "2024-01-10"];

fn cut() -> Turn {
    Turn::Cut
}

fn unavailable() -> Turn {
    Turn::Away((StatusCode::SERVICE_UNAVAILABLE, "upstream connect error").into_response())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_endpoint_spares_other_tables() {
    for (death, reason) in [
        (cut as fn() -> Turn, "connection closed"),
        (unavailable, "503"),
    ] {
        let simulator = simulator(|_| ()).await;
        let (dead, turned_away) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
        let (is_dead, counted) = (dead.clone(), turned_away.clone());
        let server = gate::before(simulator.url(), move |request| {
            if request.uri().path() != DEAD || !is_dead.load(Ordering::SeqCst) {
                return Turn::Through;
            }
            counted.fetch_add(1, Ordering::SeqCst);
            death()
        });
        let program = Program::new();
        let config = || -> Config {
            let mut config = impatient(&program, server.url(), simulator.token());
            config.max_workers = 2;
            // Longer than any run: it is not probed within this one.
            let cool_down = Duration::from_secs(3600);
            config.samsara.retry = RetryConfig {
                give_up_after: 3,
                cool_down,
                ..config.samsara.retry
            };
            config
        };
        let report = run_here(config(), TABLES, DAYS).await;
        // Some tables failed and others did not: exit code 3.
        assert!(
            report.did_something() && !report.failures.is_empty(),
            "{reason}: {report}"
        );
        let of_dead = |name: &str| name == TABLES[0];
        assert!(
            report.failures.iter().all(|failure| of_dead(&failure.name)),
            "{reason}: {report}"
        );
        assert_eq!(
            report.failures.len(),
            9,
            "each day is told: {reason}: {report}"
        );
        let resting = report
            .failures
            .iter()
            .filter(|failure| failure.error.contains("is paused: too many requests"));
        let resting: Vec<_> = resting.collect();
        assert!(resting.len() >= 5, "{reason}: {report}");
        assert!(
            resting
                .iter()
                .all(|failure| failure.error.contains(DEAD) && failure.error.contains(reason)),
            "{report}"
        );
        // Two attempts of each of three requests, and of one that was in flight at the same time.
        let asked = turned_away.load(Ordering::SeqCst);
        assert!(
            (6..=8).contains(&asked),
            "{reason}: {asked} requests went to a dead endpoint"
        );
        for table in &TABLES[1..] {
            compare(
                &program,
                simulator.world(),
                table,
                day(DAYS[0]),
                day(DAYS[1]),
            )
            .await
            .unwrap();
        }

        dead.store(false, Ordering::SeqCst);
        let report = run_here(config(), TABLES, DAYS).await;
        assert!(report.failures.is_empty(), "{reason}: {report}");
        for table in TABLES {
            compare(
                &program,
                simulator.world(),
                table,
                day(DAYS[0]),
                day(DAYS[1]),
            )
            .await
            .unwrap();
        }
    }
}
