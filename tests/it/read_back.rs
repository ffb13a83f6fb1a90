//! Google's own client reads loaded tables back, and finds what the models define.

use serde_json::Value;

use crate::program::{Program, simulator};
use crate::support::bigquery_emulator::shared;

const SCRIPT: &str = r#"
import json
def shown(name):
    table = client.get_table("read_back." + name)
    parts = table.time_partitioning
    return {
        "fields": {f.name: [f.field_type, f.mode, f.description] for f in table.schema},
        "partitioning": parts and [parts.type_, parts.field],
        "clustering": table.clustering_fields,
        "description": table.description,
        "labels": table.labels,
    }
rows = client.query("SELECT MIN(time) AS first, COUNT(*) AS n, COUNT(DISTINCT vehicle_id) AS v FROM read_back.gps").result()
row = list(rows)[0]
assert row.first.tzinfo is not None
print(json.dumps({"gps": shown("gps"), "tags": shown("fleet_tags_drivers"), "first": row.first.isoformat(), "n": row.n, "v": row.v}))
"#;

pub(crate) const GPS: &str = r#"/*---
description = "Where vehicles were."
partition_by = "time"
cluster_by = ["vehicle_id"]
labels = { team = "fleet" }
---*/
SELECT id AS vehicle_id, -- the vehicle
  to_timestamp_micros(fix['time']) AS time, -- when
  fix['latitude'] AS latitude, -- degrees north
  CAST(fix['latitude'] AS DECIMAL(38, 9)) AS exactly, -- the same, exactly
  fix['latitude'] > 0 AS is_north, -- of the equator
  CAST(to_timestamp_micros(fix['time']) AS DATE) AS day, -- of the fix
  CAST(fix['speedMilesPerHour'] AS BIGINT) AS speed -- miles per hour
FROM (SELECT id, unnest(gps) AS fix FROM raw.fleet_vehicle_stats_gps)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn google_s_client_reads_the_tables() {
    let Some(emulators) = shared().await else {
        return;
    };
    let simulator = simulator(|_| ()).await;
    for bucket in ["read-back-raw", "read-back-flat"] {
        emulators.gcs.add_bucket(bucket);
    }
    let program = Program::with_simulator(&simulator)
        .set("STORAGE_EMULATOR_HOST", emulators.gcs.url())
        .set("BIGQUERY_EMULATOR_HOST", emulators.bigquery.url())
        .set("GOOGLE_CLOUD_PROJECT", emulators.bigquery.project())
        .set("GCS_BUCKET_NAME", "read-back-raw")
        .set("GCS_BUCKET_FLATTENED_NAME", "read-back-flat")
        .set("DWH_ID", "read_back");
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
    for file in [
        "vehicle_stats/sources.toml",
        "tags/sources.toml",
        "tags/fleet_tags_drivers.sql",
    ] {
        program.write(
            &format!("sql/{file}"),
            std::fs::read(root.join(file)).unwrap(),
        );
    }
    program.write("sql/vehicle_stats/gps.sql", GPS);
    let ran = program
        .succeed(&[
            "run",
            "--start_date",
            "2024-01-01",
            "--end_date",
            "2024-01-03",
            "--table",
            "gps",
            "--table",
            "fleet_tags_drivers",
        ])
        .await;
    let found: Value = serde_json::from_str(&emulators.bigquery.python(SCRIPT).await).unwrap();
    let gps = &found["gps"];
    let expected = [
        ("vehicle_id", "STRING", "the vehicle"),
        ("time", "TIMESTAMP", "when"),
        ("latitude", "FLOAT", "degrees north"),
        ("exactly", "NUMERIC", "the same, exactly"),
        ("is_north", "BOOLEAN", "of the equator"),
        ("day", "DATE", "of the fix"),
        ("speed", "INTEGER", "miles per hour"),
    ];
    assert_eq!(gps["fields"].as_object().unwrap().len(), expected.len());
    for (name, kind, description) in expected {
        assert_eq!(
            gps["fields"][name],
            serde_json::json!([kind, "NULLABLE", description]),
            "{name}"
        );
    }
    assert_eq!(gps["partitioning"], serde_json::json!(["DAY", "time"]));
    assert_eq!(gps["clustering"], serde_json::json!(["vehicle_id"]));
    assert_eq!(gps["description"], "Where vehicles were.");
    assert_eq!(gps["labels"]["team"], "fleet");
    assert!(
        found["tags"]["partitioning"].is_null()
            && found["tags"]["fields"].as_object().unwrap().len() > 1
    );
    assert!(
        found["first"]
            .as_str()
            .unwrap()
            .starts_with("2024-01-01T00:"),
        "{found} {}",
        ran.stderr
    );
    // The same rows that the program itself finds in the flattened bucket.
    let own = program
        .rows("SELECT count(*) AS n, count(DISTINCT vehicle_id) AS v FROM gps")
        .await;
    assert!(own[0]["n"].as_u64() > Some(100));
    assert_eq!((&found["n"], &found["v"]), (&own[0]["n"], &own[0]["v"]));
}
