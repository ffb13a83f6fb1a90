//! Faults of the object store and of single answers of the API.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};
use bytes::Bytes;
use chrono::Utc;
use samsara_etl::config::{BucketLocation, GoogleAccess, LockConfig, WaitScale};
use samsara_etl::state::{LockError, RunLock, StateStore};
use samsara_etl::store::Bucket;
use samsara_etl::store::layout::{Partition, RunId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::program::{Program, WAIT_SCALE, simulator};
use crate::support::faults::{Action, Fault};
use crate::support::gcs::{GcsDouble, GcsOptions};
use crate::support::wire::Server;
use crate::truth::{day, differences, local_rows, local_tables};

/// A bucket whose writes go wrong in every way, some of them after they were applied.
fn faulty(prefix: &str) -> GcsDouble {
    let write_interval = Duration::from_secs(1).mul_f64(WAIT_SCALE);
    let options = GcsOptions {
        write_interval,
        ..GcsOptions::default()
    };
    let double = GcsDouble::start_with(&["raw", "flat"], options);
    for (action, share, seed) in [
        (Action::DropAfter, 0.15, 1),
        (Action::DropBefore, 0.1, 2),
        (Action::Status(503), 0.1, 3),
        (Action::Status(429), 0.1, 4),
    ] {
        double.fault(Fault::on("PUT", prefix, action).rate(share, seed));
    }
    double
}

/// Buckets in which all of this happens to all objects; uploads in parts and reads fail as well.
pub(crate) fn faulty_buckets() -> GcsDouble {
    let double = faulty("");
    double.fault(Fault::on("POST", "", Action::Status(503)).rate(0.1, 5));
    double.fault(Fault::on("GET", "", Action::Status(503)).rate(0.05, 6));
    double
}

fn bucket(double: &GcsDouble) -> Bucket {
    let wait_scale = WaitScale::new(WAIT_SCALE).unwrap();
    let access = GoogleAccess {
        storage_emulator: Some(double.url().into()),
        wait_scale,
        ..GoogleAccess::default()
    };
    Bucket::open(
        &BucketLocation::Google("raw".into()),
        &access,
        &tokio::runtime::Handle::current(),
    )
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_writer_wins_over_faults() {
    let double = faulty("state/");
    let bucket = bucket(&double);
    let mut expected = None;
    for step in 0..3 {
        let writers = (0..12).map(|writer| {
            let (bucket, expected) = (bucket.clone(), expected.clone());
            let text = Bytes::from(format!("{step} by {writer}"));
            async move {
                bucket
                    .swap("state/a.json", expected.as_ref(), text.clone())
                    .await
                    .map(|version| (text, version))
            }
        });
        let results = futures::future::join_all(writers).await;
        let mut winners: Vec<_> = results.into_iter().filter_map(Result::ok).collect();
        assert_eq!(winners.len(), 1, "step {step}");
        let (text, version) = winners.remove(0);
        assert_eq!(double.get("raw", "state/a.json"), Some(text));
        expected = Some(version);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_our_write_is_recognised() {
    let double = GcsDouble::start(&["raw"]);
    let bucket = bucket(&double);
    double.fault(Fault::on("PUT", "state/", Action::DropAfter).first(1));
    let version = bucket
        .swap("state/a.json", None, Bytes::from_static(b"one"))
        .await
        .unwrap();
    double.fault(Fault::on("PUT", "state/", Action::DropAfter).first(1));
    bucket
        .swap("state/a.json", Some(&version), Bytes::from_static(b"two"))
        .await
        .unwrap();
    let statuses: Vec<_> = double
        .requests()
        .into_iter()
        .filter(|r| r.method == "PUT")
        .map(|r| r.status)
        .collect();
    assert_eq!(statuses, [None, Some(412), None, Some(412)]);
    assert!(
        bucket
            .swap("state/a.json", Some(&version), Bytes::from_static(b"three"))
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_over_faults_are_kept() {
    let double = faulty("state/");
    let bucket = bucket(&double);
    let handle = StateStore::new(bucket.clone()).source("a").await.unwrap();
    let days: BTreeSet<String> = (1..=28).map(|day| format!("2024-01-{day:02}")).collect();
    let commits = days.iter().map(|day| {
        let (handle, day) = (handle.clone(), Partition::parse(day).unwrap());
        async move {
            handle
                .commit(move |state| _ = state.partition_mut(day))
                .await
                .unwrap()
        }
    });
    futures::future::join_all(commits).await;
    let again = StateStore::new(bucket).source("a").await.unwrap();
    assert_eq!(
        again.look(|state| state
            .partitions
            .keys()
            .map(ToString::to_string)
            .collect::<BTreeSet<_>>()),
        days
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_commit_is_finished() {
    let double = GcsDouble::start(&["raw"]);
    let bucket = bucket(&double);
    let handle = StateStore::new(bucket.clone()).source("a").await.unwrap();
    let commit = |day: &str| {
        let day = Partition::parse(day).unwrap();
        handle.commit(move |state| _ = state.partition_mut(day))
    };
    // Applied, the answer lost; and the caller gone before it is asked again.
    double.fault(Fault::on("PUT", "state/", Action::DropAfter).first(1));
    let (open, opened) = watch::channel(false);
    double.fault(Fault::on("*", "state/", Action::Hold(opened)).nth(2));
    let applied = async {
        while double
            .requests()
            .iter()
            .all(|request| request.method != "PUT")
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        result = commit("2024-01-01") => panic!("it was to be stopped: {result:?}"),
        () = applied => {}
    }
    open.send(true).unwrap();
    commit("2024-01-02").await.unwrap();
    let again = StateStore::new(bucket).source("a").await.unwrap();
    assert_eq!(
        again.look(|state| state
            .partitions
            .keys()
            .map(ToString::to_string)
            .collect::<Vec<_>>()),
        ["2024-01-01", "2024-01-02"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_run_holds_the_lock_over_faults() {
    let double = faulty("lock.json");
    let bucket = bucket(&double);
    let config = LockConfig {
        wait: false,
        expiry: Duration::from_secs(60),
    };
    for round in 0..2 {
        let runs = (0..8).map(|_| {
            let bucket = &bucket;
            async move {
                RunLock::acquire(
                    bucket,
                    &RunId::new(Utc::now()),
                    &config,
                    &CancellationToken::new(),
                )
                .await
            }
        });
        let (mut got, refused): (Vec<_>, Vec<_>) = futures::future::join_all(runs)
            .await
            .into_iter()
            .partition(Result::is_ok);
        assert_eq!(
            (got.len(), refused.len()),
            (1, 7),
            "round {round}: {refused:?}"
        );
        assert!(
            refused
                .iter()
                .all(|refused| matches!(refused, Err(LockError::Held { .. }))),
            "{refused:?}"
        );
        got.remove(0).unwrap().release().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_over_faulty_buckets_is_whole() {
    let double = faulty_buckets();
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator)
        .set("STORAGE_EMULATOR_HOST", double.url())
        .set("GCS_BUCKET_NAME", "raw")
        .set("GCS_BUCKET_FLATTENED_NAME", "flat");
    let tables = [
        "fleet_vehicle_stats_engineRpm",
        "fleet_trips",
        "fleet_vehicles",
    ];
    let mut run = vec![
        "run",
        "--start_date",
        "01/01/2024",
        "--end_date",
        "03/01/2024",
    ];
    run.extend(tables.iter().flat_map(|table| ["--table", table]));
    program.succeed(&run).await;
    let found = local_tables(&program.folder().join("samsara-data/warehouse")).await;
    for table in tables {
        let rows = local_rows(&found, table).await;
        let (from, to) = (day("2024-01-01"), day("2024-01-03"));
        assert!(
            differences(table, simulator.world(), rows, from, to).unwrap() > 0,
            "{table}"
        );
    }
    let lost = double
        .requests()
        .iter()
        .filter(|request| request.status.is_none())
        .count();
    assert!(
        lost > 0,
        "no connection was ever dropped: this test shows nothing"
    );
    // Every wait is in the log, those that the store's own library does as well.
    let logs = program.folder().join("logs");
    let logs = std::fs::read_dir(logs)
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    let log: String = logs.collect();
    assert!(
        log.contains("backing off for") && log.contains("object_store::client::retry"),
        "{log}"
    );
}

/// An API whose list of vehicles is answered by `answer`, which is told the number of the request.
fn api(answer: fn(u64) -> Response) -> (Server, Arc<AtomicU64>) {
    let count = Arc::new(AtomicU64::new(0));
    let counted = count.clone();
    let vehicles = move || async move { answer(counted.fetch_add(1, Ordering::SeqCst) + 1) };
    (
        Server::start(Router::new().route("/fleet/vehicles", get(vehicles))),
        count,
    )
}

fn json(text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

const WHOLE: &str =
    r#"{"data":[{"id":"1","name":"A"}],"pagination":{"endCursor":"","hasNextPage":false}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn broken_200_answers_are_retried() {
    let (server, count) = api(|number| match number {
        1 => json(&WHOLE[..40]),
        2 => ([(header::CONTENT_TYPE, "text/html")], "<html>busy</html>").into_response(),
        3 => json(""),
        _ => json(WHOLE),
    });
    let program = Program::new()
        .set("SAMSARA_API_URL", server.url())
        .set("SAMSARA_API_TOKEN", "t");
    let ran = program.succeed(&["run", "--table", "fleet_vehicles"]).await;
    assert_eq!(count.load(Ordering::SeqCst), 4);
    assert!(
        ran.stderr.contains("not one JSON document") && ran.stderr.contains("request delayed"),
        "{}",
        ran.stderr
    );
    assert_eq!(program.rows("SELECT * FROM fleet_vehicles").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_without_records_is_refused() {
    let (server, count) = api(|_| json(r#"{"dta":[]}"#));
    let program = Program::new()
        .set("SAMSARA_API_URL", server.url())
        .set("SAMSARA_API_TOKEN", "t");
    let ran = program.run(&["run", "--table", "fleet_vehicles"]).await;
    assert_eq!(
        (ran.code, count.load(Ordering::SeqCst)),
        (1, 1),
        "{}",
        ran.stderr
    );
    for part in [
        "fleet_vehicles (snapshot)",
        "page 1 of /fleet/vehicles",
        "list of records is missing",
    ] {
        assert!(ran.stderr.contains(part), "{} lacks {part}", ran.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_400_is_not_retried() {
    let (server, count) = api(|_| {
        (
            StatusCode::BAD_REQUEST,
            r#"{"message":"limit too high","requestId":"r-77"}"#,
        )
            .into_response()
    });
    let program = Program::new()
        .set("SAMSARA_API_URL", server.url())
        .set("SAMSARA_API_TOKEN", "t");
    let ran = program.run(&["run", "--table", "fleet_vehicles"]).await;
    assert_eq!(
        (ran.code, count.load(Ordering::SeqCst)),
        (1, 1),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("limit too high") && ran.stderr.contains("request r-77"),
        "{}",
        ran.stderr
    );
}
