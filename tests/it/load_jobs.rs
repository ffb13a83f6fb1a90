//! The protocol of load jobs, against a double that fails, delays and loses responses on request.

use std::time::Duration;

use samsara_etl::config::{BucketLocation, GoogleAccess};
use samsara_etl::load::{
    Batch, BigQuery, FlatObjects, LoadError, Loaded, Timings, Warehouse, load,
};
use samsara_etl::state::Started;
use samsara_etl::store::layout::Partition;
use samsara_etl::store::{Bucket, ObjectRef};
use samsara_etl::transform::{Column, ColumnType, Contract};
use tokio::runtime::Handle;

use crate::support::bigquery_double::{BigQueryDouble, JobScript, bad_gateway, error};
use crate::support::faults::{Action, Fault};
use crate::support::until;

/// Waits that are too short to notice.
fn quick() -> Timings {
    Timings {
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(4),
        retry_for: Duration::from_secs(5),
        job_for: Duration::from_secs(5),
        look_for: Duration::from_millis(20),
        attempts: 3,
    }
}

async fn connect(double: &BigQueryDouble, dataset: &str) -> BigQuery {
    connect_with(double, dataset, quick()).await
}

async fn connect_with(double: &BigQueryDouble, dataset: &str, timings: Timings) -> BigQuery {
    let access = GoogleAccess {
        bigquery_emulator: Some(double.url().into()),
        ..GoogleAccess::default()
    };
    BigQuery::connect_with(double.project(), dataset, None, &access, timings)
        .await
        .unwrap()
}

pub fn contract(table: &str) -> Contract {
    let column = |name: &str, column_type| Column {
        name: name.into(),
        column_type,
        description: Some(format!("the {name} of a reading")),
    };
    Contract {
        table: table.into(),
        description: "Readings.".into(),
        columns: vec![
            column("time", ColumnType::Timestamp),
            column("id", ColumnType::String),
        ],
        partition_by: Some("time".into()),
        cluster_by: vec!["id".into()],
        hashed: Vec::new(),
        partition_expiration_days: None,
        labels: Default::default(),
    }
}

/// A batch of these days, each with one object of this many rows. Nothing reads the objects.
fn batch(days: &[(&str, u64)], attempt: u32) -> Batch {
    // No object is requested from the double.
    let access = GoogleAccess {
        storage_emulator: Some("http://127.0.0.1:9".into()),
        ..GoogleAccess::default()
    };
    let bucket = Bucket::open(
        &BucketLocation::Google("flat".into()),
        &access,
        &Handle::current(),
    )
    .unwrap();
    let flat = |(day, rows): &(&str, u64)| FlatObjects {
        partition: Partition::parse(day).unwrap(),
        objects: vec![ObjectRef {
            path: format!("t/{day}.parquet"),
            rows: *rows,
            bytes: 1,
        }],
        fingerprint: format!("of {day}"),
    };
    Batch {
        bucket,
        partitions: days.iter().map(flat).collect(),
        whole: days.len() > 1,
        reshape: false,
        attempt,
    }
}

const DAY: &[(&str, u64)] = &[("2024-01-01", 7)];

fn seven(double: &BigQueryDouble) {
    double.count_rows(|uris| 7 * uris.len() as u64);
}

/// Loads one day of seven rows.
async fn load_day(warehouse: &BigQuery) -> Result<Loaded, LoadError> {
    load(warehouse, &contract("t"), &batch(DAY, 1)).await
}

#[tokio::test]
async fn a_job_is_waited_for_through_all_its_states() {
    let double = BigQueryDouble::start(&["d"]);
    seven(&double);
    double.direct_jobs(|_| JobScript {
        pending_polls: 3,
        running_polls: 2,
        ..JobScript::default()
    });
    let warehouse = connect(&double, "d").await;
    let loaded = load_day(&warehouse).await.unwrap();
    let jobs = double.jobs();
    assert_eq!((jobs.len(), jobs[0].polls, loaded.rows), (1, 5, 7));
    assert_eq!(loaded.job.as_ref(), Some(&jobs[0].id));
    assert_eq!(jobs[0].table, "d.t$20240101");
    assert_eq!(jobs[0].uris, ["gs://flat/t/2024-01-01.parquet"]);
    let sent = &jobs[0].configuration["load"];
    assert_eq!(sent["writeDisposition"], "WRITE_TRUNCATE");
    assert_eq!(sent["createDisposition"], "CREATE_NEVER");
    assert_eq!(sent["sourceFormat"], "PARQUET");
    assert_eq!(sent["schema"]["fields"][0]["type"], "TIMESTAMP");
    assert_eq!(
        sent["schema"]["fields"][1]["description"],
        "the id of a reading"
    );
}

#[tokio::test]
async fn many_days_go_in_one_job() {
    let double = BigQueryDouble::start(&["d"]);
    seven(&double);
    let warehouse = connect(&double, "d").await;
    let days = [("2024-01-01", 7), ("2024-01-02", 7), ("2024-01-05", 7)];
    let loaded = load(&warehouse, &contract("t"), &batch(&days, 1))
        .await
        .unwrap();
    let jobs = double.jobs();
    assert_eq!((jobs.len(), jobs[0].uris.len(), loaded.rows), (1, 3, 21));
    assert_eq!(jobs[0].table, "d.t");
    assert_eq!(
        jobs[0].configuration["load"]["writeDisposition"],
        "WRITE_TRUNCATE_DATA"
    );
}

#[tokio::test]
async fn a_failed_job_uses_up_its_id() {
    let double = BigQueryDouble::start(&["d"]);
    double.direct_jobs(|_| JobScript {
        error: Some(("invalid", "Some rows belong\nelsewhere")),
        ..JobScript::default()
    });
    let warehouse = connect(&double, "d").await;
    let error = load_day(&warehouse).await.unwrap_err();
    assert_eq!(error.used(), Some(1));
    let text = error.to_string();
    assert!(
        text.contains("d.t 2024-01-01") && text.contains("invalid: Some rows belong elsewhere"),
        "{text}"
    );
    assert_eq!(double.inserts(), 1);
    // The next run has another id to its name.
    double.direct_jobs(|_| JobScript::default());
    seven(&double);
    let again = load(&warehouse, &contract("t"), &batch(DAY, 2))
        .await
        .unwrap();
    assert!(again.job.unwrap().ends_with("-2"));
}

#[tokio::test]
async fn transient_faults_keep_the_job_id() {
    let faults = [
        Action::Status(429),
        Action::Status(500),
        Action::Status(502),
        Action::Status(503),
        bad_gateway(),
        error(403, "rateLimitExceeded", "Exceeded rate limits"),
        error(400, "backendError", "Try again"),
        error(500, "internalError", "Try again"),
        Action::DropBefore,
        Action::DropAfter,
    ];
    for fault in faults {
        let double = BigQueryDouble::start(&["d"]);
        seven(&double);
        let warehouse = connect(&double, "d").await;
        double.fault(Fault::on("POST", "jobs/", fault.clone()).first(2));
        double.fault(Fault::on("GET", "jobs/", fault.clone()).first(2));
        let loaded = load_day(&warehouse)
            .await
            .unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!(
            (loaded.rows, loaded.attempt, double.jobs().len()),
            (7, 1, 1),
            "{fault:?}"
        );
        assert!(double.inserts() >= 2, "{fault:?}");
    }
}

#[tokio::test]
async fn a_permanent_fault_is_quoted() {
    let double = BigQueryDouble::start(&["d"]);
    let warehouse = connect_with(
        &double,
        "d",
        Timings {
            retry_for: Duration::from_secs(2),
            ..quick()
        },
    )
    .await;
    double.fault(Fault::on(
        "POST",
        "jobs/",
        error(503, "backendError", "Not today"),
    ));
    let error = load_day(&warehouse).await.unwrap_err();
    assert!(error.to_string().contains("503: Not today"), "{error}");
    assert_eq!(error.used(), None);
    assert!(double.inserts() > 2);
}

#[tokio::test]
async fn service_messages_are_one_line() {
    let double = BigQueryDouble::start(&["d"]);
    let long: &'static str = "Bad\nthings\t happened; ".repeat(5_000).leak();
    let warehouse = connect(&double, "d").await;
    double.fault(Fault::on("POST", "jobs/", error(400, "invalid", long)).first(1));
    double.direct_jobs(move |_| JobScript {
        error: Some(("invalid", long)),
        ..JobScript::default()
    });
    for _ in 0..2 {
        let error = load_day(&warehouse).await.unwrap_err().to_string();
        assert!(
            error.contains("Bad things happened; Bad")
                && !error.contains('\n')
                && error.len() < 1_000,
            "{error}"
        );
    }
    assert_eq!((double.inserts(), double.jobs().len()), (2, 1));
}

#[tokio::test]
async fn a_permanent_refusal_is_not_tried_again() {
    let double = BigQueryDouble::start(&["d"]);
    let warehouse = connect(&double, "d").await;
    double.fault(Fault::on(
        "POST",
        "jobs/",
        error(403, "accessDenied", "No bigquery.jobs.create"),
    ));
    let error = load_day(&warehouse).await.unwrap_err().to_string();
    assert!(
        error.contains("No bigquery.jobs.create") && error.contains("bigquery.jobUser"),
        "{error}"
    );
    assert_eq!(double.inserts(), 1);
}

#[tokio::test]
async fn service_faults_get_a_new_job_id() {
    for reason in [
        "jobBackendError",
        "jobInternalError",
        "jobRateLimitExceeded",
        "backendError",
        "rateLimitExceeded",
    ] {
        let double = BigQueryDouble::start(&["d"]);
        seven(&double);
        double.direct_jobs(move |job| JobScript {
            error: (!job.id.ends_with("-3")).then_some((reason, "The service stumbled")),
            ..JobScript::default()
        });
        let warehouse = connect(&double, "d").await;
        let loaded = load_day(&warehouse).await.unwrap();
        let ids: Vec<String> = double.jobs().into_iter().map(|job| job.id).collect();
        assert_eq!((ids.len(), loaded.attempt), (3, 3), "{reason}");
        assert!(
            ids.iter()
                .zip(1..)
                .all(|(id, attempt)| id.ends_with(&format!("-{attempt}"))),
            "{ids:?}"
        );
        assert_eq!(loaded.job.as_ref(), ids.last());
    }
}

#[tokio::test]
async fn attempts_end_after_their_number() {
    let double = BigQueryDouble::start(&["d"]);
    double.direct_jobs(|_| JobScript {
        error: Some(("jobBackendError", "Always")),
        ..JobScript::default()
    });
    let warehouse = connect(&double, "d").await;
    let error = load_day(&warehouse).await.unwrap_err();
    assert_eq!((error.used(), double.jobs().len()), (Some(3), 3));
}

#[tokio::test]
async fn a_lost_answer_finds_its_job() {
    let double = BigQueryDouble::start(&["d"]);
    seven(&double);
    double.direct_jobs(|_| JobScript {
        hidden_polls: 4,
        ..JobScript::default()
    });
    let warehouse = connect(&double, "d").await;
    double.fault(Fault::on("POST", "jobs/", Action::DropAfter).nth(1));
    let loaded = load_day(&warehouse).await.unwrap();
    assert_eq!(
        (loaded.rows, double.jobs().len(), double.inserts()),
        (7, 1, 2)
    );
    let answers: Vec<_> = double
        .requests()
        .iter()
        .filter(|it| it.target.starts_with("jobs/"))
        .map(|it| it.status)
        .collect();
    assert_eq!(answers[..3], [None, Some(409), Some(404)]);
    assert_eq!(
        answers
            .iter()
            .filter(|status| **status == Some(404))
            .count(),
        4
    );
}

#[tokio::test]
async fn the_same_load_finds_its_job() {
    let double = BigQueryDouble::start(&["d", "e"]);
    seven(&double);
    let (one, two) = (connect(&double, "d").await, connect(&double, "d").await);
    assert_eq!(load_day(&one).await.unwrap(), load_day(&two).await.unwrap());
    assert_eq!(double.jobs().len(), 1);
    // Job ids are unique in the project: another dataset must not take this job for its own.
    load_day(&connect(&double, "e").await).await.unwrap();
    let tables: Vec<String> = double.jobs().into_iter().map(|job| job.table).collect();
    assert_eq!(tables, ["d.t$20240101", "e.t$20240101"]);
}

#[tokio::test]
async fn quota_and_rate_limit_differ() {
    let double = BigQueryDouble::start(&["d"]);
    let warehouse = connect(&double, "d").await;
    double.fault(Fault::on(
        "POST",
        "jobs/",
        error(403, "quotaExceeded", "Quota exceeded: load jobs"),
    ));
    let refused = load_day(&warehouse).await.unwrap_err();
    assert!(
        matches!(refused, LoadError::Quota { used: None, .. }),
        "{refused}"
    );
    assert_eq!(double.inserts(), 1);
    double.clear_faults();
    double.direct_jobs(|_| JobScript {
        error: Some(("quotaExceeded", "Quota exceeded")),
        ..JobScript::default()
    });
    let failed = load_day(&warehouse).await.unwrap_err();
    assert!(
        matches!(failed, LoadError::Quota { used: Some(1), .. }),
        "{failed}"
    );
    assert_eq!(double.jobs().len(), 1);
}

#[tokio::test]
async fn an_endless_job_is_given_up() {
    let double = BigQueryDouble::start(&["d"]);
    seven(&double);
    double.direct_jobs(|_| JobScript {
        running_polls: 20,
        ..JobScript::default()
    });
    let warehouse = connect(&double, "d").await;
    assert_eq!(load_day(&warehouse).await.unwrap().rows, 7);
    assert!(double.jobs()[0].polls > 5);

    let double = BigQueryDouble::start(&["d"]);
    double.direct_jobs(|_| JobScript {
        lasts: Duration::from_secs(3600),
        ..JobScript::default()
    });
    let warehouse = connect_with(
        &double,
        "d",
        Timings {
            job_for: Duration::from_millis(50),
            ..quick()
        },
    )
    .await;
    let error = load_day(&warehouse).await.unwrap_err();
    assert!(error.to_string().contains("does not end"), "{error}");
    // It may still end: nothing else may run in its place.
    assert_eq!((error.used(), double.jobs().len()), (None, 1));
}

#[tokio::test]
async fn a_row_mismatch_is_not_loaded() {
    let double = BigQueryDouble::start(&["d"]);
    double.direct_jobs(|_| JobScript {
        output_rows: Some(6),
        ..JobScript::default()
    });
    let error = load_day(&connect(&double, "d").await).await.unwrap_err();
    assert!(
        matches!(
            error,
            LoadError::Ledger {
                loaded: 6,
                flattened: 7,
                used: Some(1),
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(
        error.to_string(),
        "t 2024-01-01: the warehouse reports 6 rows, the Parquet holds 7"
    );
}

#[tokio::test]
async fn an_earlier_job_ends_first() {
    let double = BigQueryDouble::start(&["d"]);
    seven(&double);
    double.direct_jobs(|_| JobScript {
        running_polls: 60,
        ..JobScript::default()
    });
    let warehouse = connect(&double, "d").await;
    let started = Started {
        target: warehouse.target().into(),
        job: warehouse.job(&contract("t"), &batch(DAY, 1)).unwrap(),
        attempt: 1,
    };
    // Nothing of that name was ever started.
    warehouse.await_job(&started).await.unwrap();
    // A run that dies while its job is at work.
    tokio::select! {
        _ = load_day(&warehouse) => panic!("the job lasts longer"),
        () = until(|| !double.jobs().is_empty()) => {}
    }
    assert_ne!(double.jobs()[0].state(), "DONE");
    warehouse.await_job(&started).await.unwrap();
    assert_eq!(double.jobs()[0].state(), "DONE");
}

#[tokio::test]
async fn table_metadata_is_kept_up() {
    let double = BigQueryDouble::start(&["d"]);
    let warehouse = connect(&double, "d").await;
    let mut contract = contract("t");
    contract.labels = [("team".to_string(), "fleet".to_string())].into();
    contract.partition_expiration_days = Some(400);
    assert!(warehouse.prepare(&contract).await.unwrap().is_empty);
    let table = double.table("d.t").unwrap();
    assert_eq!(table["timePartitioning"]["field"], "time");
    assert_eq!(table["timePartitioning"]["expirationMs"], "34560000000");
    assert_eq!(table["clustering"]["fields"][0], "id");
    assert_eq!(
        (&table["labels"]["team"], &table["labels"]["managed_by"]),
        (&"fleet".into(), &"samsara-etl".into())
    );

    // As it is, it is left alone.
    let asked = || {
        double
            .requests()
            .iter()
            .filter(|request| request.method == "PATCH")
            .count()
    };
    warehouse.prepare(&contract).await.unwrap();
    assert_eq!(asked(), 0);
    contract.columns[1].description = Some("which vehicle".into());
    contract.columns.push(Column {
        name: "rpm".into(),
        column_type: ColumnType::Float64,
        description: None,
    });
    contract.partition_expiration_days = Some(10);
    contract.labels.insert("team".into(), "data".into());
    warehouse.prepare(&contract).await.unwrap();
    let table = double.table("d.t").unwrap();
    let fields = &table["schema"]["fields"];
    assert_eq!(
        (&fields[1]["description"], &fields[2]["name"]),
        (&"which vehicle".into(), &"rpm".into())
    );
    assert_eq!(fields[2]["mode"], "NULLABLE");
    assert_eq!(table["timePartitioning"]["expirationMs"], "864000000");
    assert_eq!((&table["labels"]["team"], asked()), (&"data".into(), 1));

    contract.columns[2].column_type = ColumnType::String;
    let error = warehouse.prepare(&contract).await.unwrap_err().to_string();
    assert!(
        error.contains("`rpm` is FLOAT64, the model gives STRING")
            && error.contains("--full-refresh"),
        "{error}"
    );
}

#[tokio::test]
async fn another_location_is_refused() {
    let double = BigQueryDouble::start(&["d"]);
    let access = GoogleAccess {
        bigquery_emulator: Some(double.url().into()),
        ..GoogleAccess::default()
    };
    let connect =
        |location| BigQuery::connect_with(double.project(), "d", Some(location), &access, quick());
    assert!(connect("us").await.is_ok());
    let Err(error) = connect("EU").await else {
        panic!("the dataset is in US")
    };
    assert!(
        error
            .to_string()
            .contains("the dataset is in US, --location or BIGQUERY_LOCATION says EU"),
        "{error}"
    );
}

#[tokio::test]
async fn a_lost_lock_sends_nothing() {
    let double = BigQueryDouble::start(&["d"]);
    seven(&double);
    let folder = tempfile::tempdir().unwrap();
    let warehouse = connect(&double, "d")
        .await
        .fenced(&crate::warehouses::closed_fence(folder.path()).await);
    let before = double.requests().len();
    let error = load_day(&warehouse).await.unwrap_err().to_string();
    assert!(error.contains("lock.json"), "{error}");
    assert_eq!((double.jobs().len(), double.requests().len()), (0, before));
}

#[tokio::test]
async fn an_earlier_failed_job_uses_up_its_id() {
    for reason in ["quotaExceeded", "invalid", "backendError"] {
        let double = BigQueryDouble::start(&["d"]);
        seven(&double);
        // More of them than a run would try by itself.
        double.direct_jobs(move |job| JobScript {
            running_polls: 40,
            error: ["-1", "-2", "-3", "-4"]
                .iter()
                .any(|end| job.id.ends_with(end))
                .then_some((reason, "Not now")),
            ..JobScript::default()
        });
        let warehouse = connect(&double, "d").await;
        for died in 1..=4 {
            tokio::select! {
                _ = load_day(&warehouse) => panic!("the job lasts longer"),
                () = until(|| double.jobs().len() == died) => {}
            }
        }
        let started = Started {
            target: warehouse.target().into(),
            job: warehouse.job(&contract("t"), &batch(DAY, 1)).unwrap(),
            attempt: 1,
        };
        warehouse.await_job(&started).await.unwrap();
        assert!(
            double.jobs().iter().all(|job| job.state() == "DONE"),
            "{reason}"
        );
        let loaded = load_day(&warehouse)
            .await
            .unwrap_or_else(|error| panic!("{reason}: {error}"));
        assert_eq!(
            (loaded.rows, loaded.attempt, double.jobs().len()),
            (7, 5, 5),
            "{reason}"
        );
    }
}
