//! Flattened tables are Delta tables too (`--table-format delta`): other programs read them, whole commits only.

use std::process::Stdio;
use std::time::{Duration, SystemTime};

use samsara_etl::config::TableFormat;
use serde_json::Value;

use crate::program::{Program, impatient, run_here, simulator};
use crate::read_back::GPS;
use crate::support::bigquery_emulator::{Python, python_or_skip};
use crate::support::faults::{Action, Fault};
use crate::support::gcs::GcsDouble;

const TABLES: [&str; 2] = ["gps", "fleet_tags_drivers"];

/// Reads a table with deltalake, DuckDB and Polars, which must agree with the files of the local warehouse.
const READ: &str = r#"
import json, os, sys
import deltalake, duckdb, polars
root, warehouse, version = sys.argv[1], sys.argv[2], sys.argv[3]
version = int(version) if version else None
table = deltalake.DeltaTable(root, version=version)
con = duckdb.connect()
con.sql("SET TimeZone='UTC'")
con.sql("LOAD delta")
con.register("by_deltalake", table.to_pyarrow_table())
con.register("by_polars", polars.scan_delta(root, version=version).collect().to_arrow())
relations = ["by_deltalake", "by_polars"]
if version is None:
    relations.append(f"delta_scan('{root}')")
if warehouse:
    manifest = json.load(open(warehouse + "/_table.json"))
    files = [f["path"] for p in manifest["partitions"].values() for f in p if f["rows"]]
    files = [warehouse.rsplit("/", 1)[0] + "/" + f for f in files]
    con.sql(f"CREATE VIEW local AS SELECT * FROM read_parquet({files!r}, union_by_name = true, hive_partitioning = false)")
    relations.insert(0, "local")
names = [c[0] for c in con.sql(f"DESCRIBE FROM {relations[0]}").fetchall()]
for other in relations[1:]:
    assert [c[0] for c in con.sql(f"DESCRIBE FROM {other}").fetchall()] == names, other
    for one, two in ((relations[0], other), (other, relations[0])):
        only = con.sql(f"SELECT * FROM {one} EXCEPT ALL SELECT * FROM {two}").fetchall()
        assert not only, (one, two, len(only), only[:3])
fields = {f["name"]: [f["type"], f["metadata"].get("comment")] for f in json.loads(table.schema().to_json())["fields"]}
print(json.dumps({
    "version": table.version(),
    "rows": con.sql(f"SELECT count(*) FROM {relations[0]}").fetchone()[0],
    "columns": names,
    "fields": fields,
    "description": table.metadata().description,
    "files": len(table.file_uris()),
}), flush=True)
# Threads of these libraries may still be at work, and are not waited for.
os._exit(0)
"#;

/// How many files of a table may hold rows of its last day, by its statistics.
const PRUNE: &str = r#"
import datetime, os, sys
import deltalake, duckdb
import pyarrow.compute as pc
root = sys.argv[1]
since = datetime.datetime(2024, 1, 3, 0, 0, 1, tzinfo=datetime.timezone.utc)
dataset = deltalake.DeltaTable(root).to_pyarrow_dataset()
fragments = len(list(dataset.get_fragments(filter=pc.field("time") >= since)))
con = duckdb.connect()
con.sql("LOAD delta")
# It has no eye for times in statistics.
plan = con.sql(f"EXPLAIN ANALYZE SELECT max(speed) FROM delta_scan('{root}') WHERE day >= DATE '2024-01-03'").fetchall()[0][1]
read = [line.strip(" │").strip() for line in plan.splitlines() if "iles" in line]
print(fragments, read, flush=True)
os._exit(0)
"#;

struct Lake {
    program: Program,
    python: Python,
}

impl Lake {
    fn path(&self, below: &str) -> String {
        let path = self.program.folder().join("samsara-data").join(below);
        path.to_str().unwrap().to_string()
    }

    fn root(&self, table: &str) -> String {
        self.path(&format!("flattened/flattened/{table}"))
    }

    /// Reads a table as it is now, and compares it with the local warehouse.
    async fn read(&self, table: &str) -> Value {
        let warehouse = self.path(&format!("warehouse/{table}"));
        self.read_with(table, &warehouse, "").await
    }

    async fn read_with(&self, table: &str, warehouse: &str, version: &str) -> Value {
        let arguments = [&self.root(table), warehouse, version];
        let text = self.python.run(READ, &arguments).await;
        serde_json::from_str(&text).unwrap()
    }

    fn commits(&self, table: &str) -> usize {
        let log = std::fs::read_dir(format!("{}/_delta_log", self.root(table)));
        log.map_or(0, |files| {
            let files = files.map(|file| file.unwrap().path());
            files
                .filter(|it| it.extension().is_some_and(|it| it == "json"))
                .count()
        })
    }
}

fn copy_models(program: &Program, gps: &str) {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
    for file in [
        "vehicle_stats/sources.toml",
        "tags/sources.toml",
        "tags/fleet_tags_drivers.sql",
    ] {
        let text = std::fs::read(root.join(file)).unwrap();
        program.write(&format!("sql/{file}"), text);
    }
    program.write("sql/vehicle_stats/gps.sql", gps);
}

fn run<'a>(end: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let dates = ["run", "--start_date", "2024-01-01", "--end_date", end];
    let tables = TABLES.iter().flat_map(|table| ["--table", table]);
    dates
        .into_iter()
        .chain(tables)
        .chain(more.iter().copied())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn other_programs_read_delta_tables() {
    let Some(python) = python_or_skip().await else {
        return;
    };
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    copy_models(&program, GPS);
    let lake = Lake { program, python };
    let program = &lake.program;
    let delta = ["--table-format", "delta"];

    // Switched on when there are days already, and the log is there at once.
    program.succeed(&run("2024-01-03", &[])).await;
    assert_eq!(lake.commits("gps"), 0);
    program.succeed(&run("2024-01-03", &delta)).await;
    let first = lake.read("gps").await;
    assert_eq!((&first["version"], &first["files"]), (&0.into(), &2.into()));
    assert_eq!(first["description"], "Where vehicles were.");
    for (name, expected) in [
        ("vehicle_id", ["string", "the vehicle"]),
        ("time", ["timestamp", "when"]),
        ("latitude", ["double", "degrees north"]),
        ("exactly", ["decimal(38,9)", "the same, exactly"]),
        ("is_north", ["boolean", "of the equator"]),
        ("day", ["date", "of the fix"]),
        ("speed", ["long", "miles per hour"]),
    ] {
        assert_eq!(first["fields"][name], serde_json::json!(expected), "{name}");
    }
    assert!(lake.read("fleet_tags_drivers").await["rows"].as_u64() > Some(1));
    // Another day is another commit; nothing new is none.
    program.succeed(&run("2024-01-04", &delta)).await;
    program.succeed(&run("2024-01-04", &delta)).await;
    let second = lake.read("gps").await;
    assert_eq!(
        (&second["version"], &second["files"]),
        (&1.into(), &3.into())
    );

    // Files of other days are not read.
    let read = lake.python.run(PRUNE, &[&lake.root("gps")]).await;
    assert_eq!(
        read.trim(),
        "1 ['Scanning Files: 1/3', 'Total Files Read: 1']"
    );

    // An edited model: one column renamed, one of another type, one more.
    let edited = GPS
        .replace("AS latitude, --", "AS lat, --")
        .replace("AS BIGINT) AS speed", "AS DOUBLE) AS speed, 'x' AS more");
    copy_models(program, &edited);
    let again = ["--stages", "transform,load", "--full-refresh", "gps"];
    let again = [&again[..], &delta].concat();
    program.succeed(&run("2024-01-04", &again)).await;
    let third = lake.read("gps").await;
    assert_eq!((&third["version"], &third["files"]), (&2.into(), &3.into()));
    let columns = [
        "vehicle_id",
        "time",
        "lat",
        "exactly",
        "is_north",
        "day",
        "speed",
        "more",
    ];
    assert_eq!(third["columns"], serde_json::json!(columns));
    assert_eq!(third["rows"], second["rows"]);

    // Earlier versions are read for a week, whatever is cleaned.
    let cleaned = program.succeed(&["clean", "--older-than", "0"]).await;
    assert!(
        !cleaned.stdout.contains("not of this program"),
        "{}",
        cleaned.stdout
    );
    assert!(
        !cleaned.stdout.contains("/flattened/gps/"),
        "{}",
        cleaned.stdout
    );
    for (version, expected) in [("0", &first), ("1", &second)] {
        let found = lake.read_with("gps", "", version).await;
        assert_eq!(&found, expected, "{version}");
    }

    // What someone else commits is refused, until the log is written again.
    let compact =
        "import sys, deltalake; print(deltalake.DeltaTable(sys.argv[1]).optimize.compact())";
    lake.python.run(compact, &[&lake.root("gps")]).await;
    let ran = program.run(&run("2024-01-04", &delta)).await;
    assert!(
        ran.code != 0
            && ran.stderr.contains(
                "/flattened/gps/_delta_log: version 3 was not written by samsara-etl (OPTIMIZE"
            ),
        "{}",
        ran.stderr
    );
    std::fs::remove_dir_all(format!("{}/_delta_log", lake.root("gps"))).unwrap();
    program.succeed(&run("2024-01-04", &delta)).await;
    assert_eq!(lake.read("gps").await["version"], 0);
    let rows = program.rows("SELECT count(*) AS n FROM gps").await;
    assert_eq!(rows[0]["n"], third["rows"]);
}

/// Reads a table repeatedly until it is stopped; prints what each version has of each day.
const WATCH: &str = r#"
import json, os, sys, time
import deltalake
root, stop = sys.argv[1:]
seen = {}
print("begun", flush=True)
while True:
    is_last = os.path.exists(stop)
    try:
        table = deltalake.DeltaTable(root)
    except Exception:
        assert not is_last
        continue
    rows = table.to_pyarrow_table(columns=["time"]).column("time").to_pylist()
    days = {}
    for time in rows:
        days[str(time.date())] = days.get(str(time.date()), 0) + 1
    assert seen.setdefault(table.version(), days) == days
    if is_last:
        break
print(json.dumps([seen[version] for version in sorted(seen)]), flush=True)
# Threads of deltalake may still be at work, and are not waited for.
os._exit(0)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_whole_commits_of_delta() {
    const TABLE: &str = "fleet_vehicle_stats_engineRpm";
    let Some(python) = python_or_skip().await else {
        return;
    };
    let simulator = simulator(|config| config.now = Some(crate::truth::day("2024-01-16"))).await;
    let program = Program::with_simulator(&simulator);
    let lake = Lake { program, python };
    let stop = lake.program.folder().join("stop");
    let mut watching = lake
        .python
        .command(WATCH, &[&lake.root(TABLE), stop.to_str().unwrap()]);
    let watching = watching
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Several days in one run, in the smallest possible commits, then day by day.
    for end in 6..=16 {
        let mut config = impatient(&lake.program, &simulator.url(), simulator.token());
        (config.table_format, config.delta_batch) = (TableFormat::Delta, 1);
        let end = format!("2024-01-{end:02}");
        let report = run_here(config, &[TABLE], ["2024-01-01", &end]).await;
        assert!(report.failures.is_empty(), "{report}");
    }
    std::fs::write(stop, "").unwrap();
    let output = watching.wait_with_output().await.unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let text = String::from_utf8(output.stdout).unwrap();
    let seen: Vec<serde_json::Map<String, Value>> =
        serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let last = seen.last().unwrap();
    assert_eq!(last.len(), 15);
    for days in &seen {
        for (day, rows) in days {
            assert_eq!(rows, &last[day], "{day} of {days:?}");
        }
    }
    let checkpoint = format!(
        "{}/_delta_log/{:020}.checkpoint.parquet",
        lake.root(TABLE),
        10
    );
    assert!(std::path::Path::new(&checkpoint).exists() && lake.commits(TABLE) >= 11);
    // DuckDB and Polars read the checkpoint too.
    let whole = lake.read(TABLE).await;
    // A month later, nobody needs what is before it.
    let commits = lake.commits(TABLE);
    let month_ago = SystemTime::now() - Duration::from_secs(31 * 86_400);
    for file in std::fs::read_dir(format!("{}/_delta_log", lake.root(TABLE))).unwrap() {
        let file = std::fs::File::options()
            .write(true)
            .open(file.unwrap().path());
        file.unwrap().set_modified(month_ago).unwrap();
    }
    let cleaned = lake.program.succeed(&["clean"]).await;
    assert!(
        cleaned.stdout.starts_with("10 objects") || cleaned.stdout.contains("\n10 objects"),
        "{}",
        cleaned.stdout
    );
    assert_eq!(lake.commits(TABLE), commits - 10);
    assert_eq!(lake.read(TABLE).await, whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_log_that_is_behind_catches_up() {
    let simulator = simulator(|_| ()).await;
    let double = GcsDouble::start(&["raw", "flat"]);
    let program = Program::with_simulator(&simulator)
        .set("STORAGE_EMULATOR_HOST", double.url())
        .set("GCS_BUCKET_NAME", "raw")
        .set("GCS_BUCKET_FLATTENED_NAME", "flat")
        .set("SAMSARA_ETL_TABLE_FORMAT", "delta");
    copy_models(&program, GPS);
    let log = |version: u64| format!("flattened/gps/_delta_log/{version:020}.json");
    let files = |version: u64| -> Option<Vec<String>> {
        let bytes = double.get("flat", &log(version))?;
        let lines = serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>();
        let paths =
            lines.filter_map(|line| Some(line.unwrap()["add"]["path"].as_str()?.to_string()));
        Some(paths.collect())
    };
    // The state has the day, but the log cannot be written.
    double.fault(Fault::on("PUT", &log(0), Action::Status(403)));
    let ran = program.run(&run("2024-01-02", &[])).await;
    assert!(
        ran.code == 3 && ran.stderr.contains("gs://flat/flattened/gps/_delta_log/"),
        "{} {}",
        ran.code,
        ran.stderr
    );
    assert_eq!(files(0), None);
    // It is whole all the same if the answer to the write is lost.
    double.clear_faults();
    double.fault(Fault::on("PUT", &log(0), Action::DropAfter).first(1));
    program.succeed(&run("2024-01-03", &[])).await;
    let days = files(0).unwrap();
    assert!(
        days.len() == 2
            && days[0].starts_with("partition_day=2024-01-01/")
            && days[1].starts_with("partition_day=2024-01-02/"),
        "{days:?}"
    );
    for path in &days {
        assert!(
            double
                .get("flat", &format!("flattened/gps/{path}"))
                .is_some()
        );
    }
    assert_eq!(files(1), None);
    let ran = program
        .set("SAMSARA_ETL_TABLE_FORMAT", "iceberg")
        .run(&run("2024-01-03", &[]))
        .await;
    assert!(
        ran.code == 2
            && ran
                .stderr
                .contains("SAMSARA_ETL_TABLE_FORMAT: expected `parquet` or `delta`"),
        "{}",
        ran.stderr
    );
}
