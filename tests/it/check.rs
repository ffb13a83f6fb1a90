//! `check`: each thing a line with its remedy, and nothing changed.

use axum::Router;
use tokio::net::TcpListener;

use crate::program::{Program, simulator};
use crate::support::bigquery_double::{BigQueryDouble, error};
use crate::support::bigquery_emulator::shared;
use crate::support::faults::{Action, Fault};
use crate::support::gcs::GcsDouble;
use crate::support::wire::Server;

const TABLES: &[&str] = &[
    "--table",
    "fleet_vehicles",
    "--table",
    "fleet_tags",
    "--table",
    "fleet_trips",
];

#[tokio::test(flavor = "multi_thread")]
async fn check_changes_nothing() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    let before = program.files("");
    let ran = program.succeed(&[&["check"], TABLES].concat()).await;
    for part in [
        "ok    /fleet/vehicles: answers",
        "ok    /tags: answers",
        "note  raw bucket: folder",
        "warehouse: folder",
    ] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    assert!(!ran.stdout.contains("FAIL"), "{}", ran.stdout);
    assert_eq!(before, program.files(""));
    assert!(!program.folder().join("samsara-data").exists());
    // As little as possible is requested.
    let asked = simulator.requests();
    assert!(asked.len() <= 8, "{asked:?}");
    assert!(
        asked
            .iter()
            .filter(|it| it.query.contains("limit="))
            .all(|it| it.query.contains("limit=1")),
        "{asked:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named_with_its_remedy() {
    let simulator = simulator(|config| config.missing_scopes = vec!["/tags".into()]).await;
    let program = Program::with_simulator(&simulator);
    let ran = program.run(&[&["check"], TABLES].concat()).await;
    assert_eq!(ran.code, 1);
    let bad: Vec<_> = ran
        .stdout
        .lines()
        .filter(|line| line.starts_with("FAIL"))
        .collect();
    assert_eq!(bad.len(), 1, "{}", ran.stdout);
    assert!(
        bad[0].starts_with("FAIL  /tags: ") && bad[0].contains("\"Read Tags\""),
        "{}",
        bad[0]
    );

    let ran = program
        .set("SAMSARA_API_TOKEN", "samsara_api_wrong")
        .run(&[&["check"], TABLES].concat())
        .await;
    assert_eq!(ran.code, 1);
    assert!(
        ran.stdout.contains("FAIL  token: ") && ran.stdout.contains("SAMSARA_REGION"),
        "{}",
        ran.stdout
    );
    assert!(!format!("{}{}", ran.stdout, ran.stderr).contains("samsara_api_wrong"));
    let ran = Program::new().run(&["check"]).await;
    assert!(
        ran.code == 1
            && ran
                .stdout
                .contains("FAIL  token: SAMSARA_API_TOKEN is not set"),
        "{}",
        ran.stdout
    );
}

/// The lines of a kind: `ok  `, `note` or `FAIL`.
fn lines<'a>(stdout: &'a str, kind: &str) -> Vec<&'a str> {
    stdout
        .lines()
        .filter_map(|line| line.strip_prefix(kind)?.strip_prefix("  "))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_answer_is_told_when_the_time_is_up() {
    // Connections are made, and nobody ever says anything.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", mute.local_addr().unwrap());
    let program = Program::new()
        .set("SAMSARA_API_URL", &address)
        .set("SAMSARA_API_TOKEN", "t")
        .set("STORAGE_EMULATOR_HOST", &address)
        .set("BIGQUERY_EMULATOR_HOST", &address)
        .set("GCS_BUCKET_NAME", "raw-bucket")
        .set("GCS_BUCKET_FLATTENED_NAME", "flat-bucket")
        .set("DWH_ID", "d")
        .set("GOOGLE_CLOUD_PROJECT", "p");
    let ran = program
        .run(&[&["check", "--timeout", "1"], TABLES].concat())
        .await;
    let late = "no answer within 1 s; check that the host can be reached";
    let bad: Vec<_> = lines(&ran.stdout, "FAIL")
        .into_iter()
        .filter(|line| line.contains(late))
        .collect();
    let whats: Vec<_> = bad
        .iter()
        .filter_map(|line| line.split(": ").next())
        .collect();
    // Trips are requested by vehicle, and the list of those does not come.
    let expected = [
        "/tags",
        "/fleet/vehicles",
        "raw bucket",
        "flattened bucket",
        "warehouse",
    ];
    assert_eq!(
        (ran.code, whats.len()),
        (1, expected.len()),
        "{}",
        ran.stdout
    );
    assert!(
        expected.iter().all(|what| whats.contains(what)),
        "{}",
        ran.stdout
    );
    assert!(lines(&ran.stdout, "ok  ").is_empty(), "{}", ran.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_green_that_will_not_work() {
    // A server that is not Samsara's, buckets that cannot be folders, and a state document that is none.
    let elsewhere = Server::start(Router::new());
    let program = Program::new()
        .set("SAMSARA_API_URL", elsewhere.url())
        .set("SAMSARA_API_TOKEN", "t")
        .set("GCS_BUCKET_NAME", "./raw")
        .set("GCS_BUCKET_FLATTENED_NAME", "./file/flat");
    program.write("file", "");
    program.write("raw/state/fleet_tags.json", "{}");
    let ran = program.run(&[&["check"], TABLES].concat()).await;
    assert_eq!(ran.code, 1);
    let bad = lines(&ran.stdout, "FAIL").join("\n");
    for part in [
        "every endpoint answers 404",
        "raw/state/fleet_tags.json",
        "flattened bucket: ",
        "not a directory",
    ] {
        assert!(bad.contains(part), "{part}: {}", ran.stdout);
    }
    // Where there is nothing yet, no more is promised than that it can be made.
    assert!(
        lines(&ran.stdout, "note")
            .iter()
            .any(|line| line.starts_with("warehouse: ")),
        "{}",
        ran.stdout
    );

    // A model that hashes needs its salt.
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    let root =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/vehicle_stats/sources.toml");
    program.write(
        "sql/vehicle_stats/sources.toml",
        std::fs::read(root).unwrap(),
    );
    let front = "/*---\ndescription = \"d\"\npartition_by = \"at\"\nunique_key = [\"at\"]\nhash = [\"id\"]\n---*/";
    let sql = format!("{front}\nSELECT _extracted_at AS at, id FROM raw.fleet_vehicle_stats_gps\n");
    program.write("sql/vehicle_stats/hashed.sql", sql);
    let check = ["check", "--table", "hashed"];
    let ran = program.run(&check).await;
    let salt = "FAIL  SAMSARA_ETL_HASH_SALT: not set, but hashed hash columns";
    assert!(
        ran.code == 1 && ran.stdout.contains(salt),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
    program
        .set("SAMSARA_ETL_HASH_SALT", "salt")
        .succeed(&check)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_google_refuses_is_told_with_the_role_that_allows_it() {
    let simulator = simulator(|_| ()).await;
    let (gcs, bigquery) = (
        GcsDouble::start(&["raw-bucket", "flat-bucket"]),
        BigQueryDouble::start(&["d"]),
    );
    let program = Program::with_simulator(&simulator)
        .set("STORAGE_EMULATOR_HOST", gcs.url())
        .set("BIGQUERY_EMULATOR_HOST", bigquery.url())
        .set("GOOGLE_CLOUD_PROJECT", bigquery.project())
        .set("GCS_BUCKET_NAME", "raw-bucket")
        .set("GCS_BUCKET_FLATTENED_NAME", "flat-bucket")
        .set("DWH_ID", "d");
    let check = ["check", "--table", "fleet_tags"];
    let ran = program.succeed(&check).await;
    assert!(
        ran.stdout
            .contains("ok    tables in test-project.d: may be made (tried with a dry run)"),
        "{}",
        ran.stdout
    );
    let is_dry = |body: &serde_json::Value| body["dryRun"] == true;
    let asked = bigquery.requests();
    assert!(
        asked
            .iter()
            .filter(|it| it.target == "queries")
            .all(|it| is_dry(&it.body)),
        "{asked:?}"
    );
    // A run lists objects too.
    for bucket in ["raw-bucket", "flat-bucket"] {
        assert!(
            gcs.requests()
                .iter()
                .any(|it| it.method == "GET" && it.bucket == bucket && it.key.is_empty())
        );
    }

    // The dataset may be read and jobs be started, but no table be made.
    let denied = "Access Denied: Dataset d: Permission bigquery.tables.create denied on dataset d";
    bigquery.fault(Fault::on("POST", "queries", error(403, "accessDenied", denied)).nth(2));
    gcs.fault(Fault::on("PUT", "check/", Action::Status(403)));
    let ran = program.run(&check).await;
    let bad = lines(&ran.stdout, "FAIL");
    for (what, remedy) in [
        (
            "tables in test-project.d: cannot be created: ",
            "roles/bigquery.dataEditor",
        ),
        (
            "flattened bucket: ",
            "roles/storage.objectAdmin on gs://flat-bucket",
        ),
        (
            "raw bucket: ",
            "roles/storage.objectAdmin on gs://raw-bucket",
        ),
    ] {
        let is_told = bad
            .iter()
            .any(|line| line.starts_with(what) && line.contains(remedy));
        assert!(is_told, "{what}: {}", ran.stdout);
    }
    assert_eq!((ran.code, bad.len()), (1, 3), "{}", ran.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn comparing_makes_no_dataset() {
    let bigquery = BigQueryDouble::start(&[]);
    let program = Program::new()
        .set("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
        .set("BIGQUERY_EMULATOR_HOST", bigquery.url())
        .set("GOOGLE_CLOUD_PROJECT", bigquery.project())
        .set("GCS_BUCKET_NAME", "./raw")
        .set("GCS_BUCKET_FLATTENED_NAME", "flat-bucket")
        .set("DWH_ID", "d");
    let ran = program
        .succeed(&["check", "--warehouse", "--table", "fleet_tags"])
        .await;
    assert!(
        ran.stdout
            .contains("note  dataset test-project.d: does not exist"),
        "{}",
        ran.stdout
    );
    let changes = bigquery
        .requests()
        .into_iter()
        .filter(|it| it.method != "GET" && it.target != "queries");
    assert_eq!(changes.collect::<Vec<_>>(), []);
    assert!(!program.folder().join("raw").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_uses_the_named_credentials() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator)
        // These buckets are real ones.
        .set("SAMSARA_ETL_WAIT_SCALE", "1")
        .set("GCS_BUCKET_NAME", "some-bucket")
        .set("GCS_BUCKET_FLATTENED_NAME", "other-bucket")
        .set("DWH_ID", "d")
        .set("GOOGLE_CLOUD_PROJECT", "p")
        .set("GOOGLE_APPLICATION_CREDENTIALS", "adc.json");
    for (content, reason) in [
        (None, "adc.json"),
        (
            Some("{\"type\": \"external_account\", \"x\": \"hush\"}"),
            "external_account",
        ),
    ] {
        if let Some(content) = content {
            program.write("adc.json", content);
        }
        let ran = program.run(&[&["check"], TABLES].concat()).await;
        let bad: Vec<_> = ran
            .stdout
            .lines()
            .filter(|line| line.starts_with("FAIL"))
            .collect();
        let named = |what: &str| {
            bad.iter()
                .any(|line| line.contains(what) && line.contains(reason))
        };
        assert!(
            named("raw bucket") && named("flattened bucket") && named("BigQuery credentials"),
            "{}",
            ran.stdout
        );
        assert!(!ran.stdout.contains("hush") && !ran.stderr.contains("hush"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_dataset_and_warehouse_are_checked() {
    let Some(emulators) = shared().await else {
        return;
    };
    let simulator = simulator(|_| ()).await;
    emulators.gcs.add_bucket("check-raw");
    let program = Program::with_simulator(&simulator)
        .set("STORAGE_EMULATOR_HOST", emulators.gcs.url())
        .set("BIGQUERY_EMULATOR_HOST", emulators.bigquery.url())
        .set("GOOGLE_CLOUD_PROJECT", emulators.bigquery.project())
        .set("GCS_BUCKET_NAME", "check-raw")
        .set("GCS_BUCKET_FLATTENED_NAME", "check-flat")
        .set("DWH_ID", "check_dwh");
    let ran = program.run(&[&["check"], TABLES].concat()).await;
    assert_eq!(ran.code, 1, "{}{}", ran.stdout, ran.stderr);
    for part in [
        "using an emulator of Cloud Storage",
        "ok    raw bucket: gs://check-raw/ is readable and writable",
        "FAIL  flattened bucket: ",
        "storage.objectAdmin",
        "note  dataset test-project.check_dwh: does not exist",
        "ok    jobs in test-project",
    ] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    assert!(emulators.gcs.objects("check-raw").is_empty());
    let datasets = emulators
        .bigquery
        .query("SELECT schema_name FROM INFORMATION_SCHEMA.SCHEMATA")
        .await;
    assert!(
        !format!("{datasets:?}").contains("check_dwh"),
        "{datasets:?}"
    );

    emulators.gcs.add_bucket("check-flat");
    let run = [
        "run",
        "--start_date",
        "01/01/2024",
        "--end_date",
        "04/01/2024",
    ];
    program.succeed(&[&run, TABLES].concat()).await;
    let compare = [&["check", "--warehouse"], TABLES].concat();
    let ran = program.succeed(&compare).await;
    assert!(
        ran.stdout.contains("ok    fleet_trips: 3 partitions"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout
            .contains("ok    fleet_vehicles: 1 partitions, 8 rows"),
        "{}",
        ran.stdout
    );
    // Someone meddles with the tables.
    emulators
        .bigquery
        .query("DELETE FROM `check_dwh`.fleet_trips WHERE DATE(startTime) = '2024-01-02'")
        .await;
    let ran = program.run(&compare).await;
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    let bad: Vec<_> = ran
        .stdout
        .lines()
        .filter(|line| line.starts_with("FAIL"))
        .collect();
    assert_eq!(bad.len(), 1, "{}", ran.stdout);
    assert!(
        bad[0].contains("fleet_trips 2024-01-02: the warehouse has 0 rows")
            && bad[0].contains("--full-refresh")
    );
    program
        .succeed(&[&run[..], TABLES, &["--full-refresh", "fleet_trips"]].concat())
        .await;
    program.succeed(&compare).await;
}
