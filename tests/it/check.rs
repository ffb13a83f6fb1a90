//! `check`: each thing a line with its remedy, and nothing changed.

use crate::program::{Program, simulator};
use crate::support::bigquery_emulator::shared;

const TABLES: &[&str] = &["--table", "fleet_vehicles", "--table", "fleet_tags", "--table", "fleet_trips"];

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_looked_at_and_nothing_is_changed() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    let before = program.files("");
    let ran = program.succeed(&[&["check"], TABLES].concat()).await;
    for part in
        ["ok    /fleet/vehicles: answers", "ok    /tags: answers", "note  raw bucket: folder", "warehouse: folder"]
    {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    assert!(!ran.stdout.contains("FAIL"), "{}", ran.stdout);
    assert_eq!(before, program.files(""));
    assert!(!program.folder().join("samsara-data").exists());
    // As little as possible is asked for.
    let asked = simulator.requests();
    assert!(asked.len() <= 8, "{asked:?}");
    assert!(asked.iter().filter(|it| it.query.contains("limit=")).all(|it| it.query.contains("limit=1")), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named_with_its_remedy() {
    let simulator = simulator(|config| config.missing_scopes = vec!["/tags".into()]).await;
    let program = Program::with_simulator(&simulator);
    let ran = program.run(&[&["check"], TABLES].concat()).await;
    assert_eq!(ran.code, 1);
    let bad: Vec<_> = ran.stdout.lines().filter(|line| line.starts_with("FAIL")).collect();
    assert_eq!(bad.len(), 1, "{}", ran.stdout);
    assert!(bad[0].starts_with("FAIL  /tags: ") && bad[0].contains("\"Read Tags\""), "{}", bad[0]);

    let ran = program.set("SAMSARA_API_TOKEN", "samsara_api_wrong").run(&[&["check"], TABLES].concat()).await;
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.contains("FAIL  token: ") && ran.stdout.contains("SAMSARA_REGION"), "{}", ran.stdout);
    assert!(!format!("{}{}", ran.stdout, ran.stderr).contains("samsara_api_wrong"));
    let ran = Program::new().run(&["check"]).await;
    assert!(ran.code == 1 && ran.stdout.contains("FAIL  token: SAMSARA_API_TOKEN is not set"), "{}", ran.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_uses_the_credentials_that_the_environment_names() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator)
        // These buckets are real ones.
        .set("SAMSARA_ETL_WAIT_SCALE", "1")
        .set("GCS_BUCKET_NAME", "some-bucket")
        .set("GCS_BUCKET_FLATTENED_NAME", "other-bucket")
        .set("DWH_ID", "d")
        .set("GOOGLE_CLOUD_PROJECT", "p")
        .set("GOOGLE_APPLICATION_CREDENTIALS", "adc.json");
    for (content, reason) in
        [(None, "adc.json"), (Some("{\"type\": \"external_account\", \"x\": \"hush\"}"), "external_account")]
    {
        if let Some(content) = content {
            program.write("adc.json", content);
        }
        let ran = program.run(&[&["check"], TABLES].concat()).await;
        let bad: Vec<_> = ran.stdout.lines().filter(|line| line.starts_with("FAIL")).collect();
        let named = |what: &str| bad.iter().any(|line| line.contains(what) && line.contains(reason));
        assert!(named("raw bucket") && named("flattened bucket") && named("BigQuery credentials"), "{}", ran.stdout);
        assert!(!ran.stdout.contains("hush") && !ran.stderr.contains("hush"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_and_dataset_are_tried_and_the_warehouse_compared() {
    let Some(emulators) = shared().await else { return };
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
        "an emulator of Cloud Storage is used",
        "ok    raw bucket: gs://check-raw/ can be read, written",
        "FAIL  flattened bucket: ",
        "storage.objectAdmin",
        "note  dataset test-project.check_dwh: does not exist",
        "ok    jobs in test-project",
    ] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    assert!(emulators.gcs.objects("check-raw").is_empty());
    let datasets = emulators.bigquery.query("SELECT schema_name FROM INFORMATION_SCHEMA.SCHEMATA").await;
    assert!(!format!("{datasets:?}").contains("check_dwh"), "{datasets:?}");

    emulators.gcs.add_bucket("check-flat");
    let run = ["run", "--start_date", "01/01/2024", "--end_date", "04/01/2024"];
    program.succeed(&[&run, TABLES].concat()).await;
    let compare = [&["check", "--warehouse"], TABLES].concat();
    let ran = program.succeed(&compare).await;
    assert!(ran.stdout.contains("ok    fleet_trips: 3 partitions"), "{}", ran.stdout);
    assert!(ran.stdout.contains("ok    fleet_vehicles: 1 partitions, 8 rows"), "{}", ran.stdout);
    // Someone meddles with the tables.
    emulators.bigquery.query("DELETE FROM `check_dwh`.fleet_trips WHERE DATE(startTime) = '2024-01-02'").await;
    let ran = program.run(&compare).await;
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    let bad: Vec<_> = ran.stdout.lines().filter(|line| line.starts_with("FAIL")).collect();
    assert_eq!(bad.len(), 1, "{}", ran.stdout);
    assert!(bad[0].contains("fleet_trips 2024-01-02: the warehouse holds 0 rows") && bad[0].contains("--full-refresh"));
    program.succeed(&[&run[..], TABLES, &["--full-refresh", "fleet_trips"]].concat()).await;
    program.succeed(&compare).await;
}
