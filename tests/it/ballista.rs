//! Tables derived on a Ballista cluster: its scheduler and executors are processes of the program, and the buckets are
//! the Cloud Storage double.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::Stdio;

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::ChunkReader;
use serde_json::Value;
use tokio::process::Child;
use tokio::sync::watch;

use crate::program::{Program, Ran, simulator};
use crate::rerun::copy_families;
use crate::support::faults::{Action, Fault};
use crate::support::gcs::GcsDouble;
use crate::support::until;

/// Models of what a task may hold: each is in no way like the others. The last four fail, or are refused.
const ODD: &[(&str, &str, &str)] = &[
    (
        "odd_times",
        "unique_key = [\"id\"]",
        "SELECT DISTINCT id, samsara_time(name) AS no_time, samsara_time('2024-01-01T00:00:00Z') AS time FROM raw.fleet_vehicles",
    ),
    (
        "odd_window",
        "window = \"2 days\"\npartition_by = \"day\"\nunique_key = [\"day\"]",
        "SELECT partition_day() AS day, count(*) AS readings, -0.0 AS zero FROM raw.fleet_vehicle_stats_gps",
    ),
    (
        "odd_text",
        "unique_key = [\"id\"]",
        "SELECT DISTINCT id, repeat(name, 2) || '/' || to_json(tags) AS text, 0.0 - 0.0 AS zero FROM raw.fleet_vehicles",
    ),
    (
        "odd_hash",
        "hash = [\"name\"]\nunique_key = [\"id\"]",
        "SELECT id, name FROM raw.fleet_vehicles",
    ),
    (
        "odd_join",
        "partition_by = \"day\"\nunique_key = [\"day\", \"vehicle_id\"]",
        "SELECT CAST(g.time AS DATE) AS day, g.vehicle_id, max(t.text) AS text, count(*) AS n,\n\
         sum(CASE WHEN g.time > (SELECT min(time) FROM fleet_vehicle_stats_gps) THEN 1 ELSE 0 END) AS later\n\
         FROM fleet_vehicle_stats_gps AS g LEFT JOIN odd_text AS t ON t.id = g.vehicle_id GROUP BY 1, 2",
    ),
    (
        "wrong_value",
        "",
        "SELECT id, CAST(name AS BIGINT) AS number FROM raw.fleet_vehicles",
    ),
    (
        "wrong_key",
        "unique_key = [\"one\"]",
        "SELECT 1 AS one, id FROM raw.fleet_vehicles",
    ),
    (
        "wrong_rows",
        "tests = [{ accepted_values = { column = \"id\", values = [\"none\"] } }]",
        "SELECT id FROM raw.fleet_vehicles",
    ),
    (
        "too_much",
        "",
        "SELECT id, repeat(name, 1000000000) AS text FROM raw.fleet_vehicles",
    ),
];

/// A query of forty windows, each over the one before.
fn deep() -> String {
    let number = "CAST(row_number() OVER (PARTITION BY n ORDER BY id) AS BIGINT) + n AS n";
    let windows = (1..40).map(|i| format!(", c{i} AS (SELECT id, {number} FROM c{})", i - 1));
    format!(
        "WITH c0 AS (SELECT id, 1 AS n FROM raw.fleet_vehicles){} SELECT id, n FROM c39",
        windows.collect::<String>()
    )
}

/// A port that nothing listens on.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Buckets, and a program that works on them with two tasks at a time.
struct Site {
    double: GcsDouble,
    program: Program,
}

impl Site {
    fn new(program: Program) -> Self {
        let double = GcsDouble::start(&["raw", "flat"]);
        let program = on(&double, program);
        Self { double, program }
    }

    /// Another one with the same raw bucket.
    fn copy(&self) -> Self {
        let other = Self::new(Program::new());
        for object in self.double.objects("raw") {
            let bytes = self.double.get("raw", &object.key).unwrap();
            other.double.put("raw", &object.key, bytes);
        }
        other
    }

    /// Transforms here, or on a cluster.
    async fn transform(&self, tables: &[&str], cluster: Option<&Cluster>) -> Ran {
        let mut arguments = vec!["run", "--stages", "transform", "--format", "json"];
        arguments.extend(["--start_date", "2024-01-01", "--end_date", "2024-01-03"]);
        arguments.extend(tables.iter().flat_map(|table| ["--table", *table]));
        if let Some(cluster) = cluster {
            let address = cluster.address.as_str();
            arguments.extend(["--engine", "ballista", "--scheduler", address]);
        }
        self.program.run(&arguments).await
    }

    /// Table and key of each flattened object that the state has.
    fn committed(&self) -> Vec<(String, String)> {
        let mut committed = Vec::new();
        let keys = self.double.objects("raw").into_iter().map(|it| it.key);
        for key in keys.filter(|key| key.starts_with("state/") && key.ends_with(".json")) {
            let bytes = self.double.get("raw", &key).unwrap();
            let state: Value = serde_json::from_slice(&bytes).unwrap();
            let partitions = state["partitions"].as_object().into_iter().flatten();
            for (table, made) in partitions
                .filter_map(|(_, partition)| partition["models"].as_object())
                .flatten()
            {
                for object in made["objects"].as_array().unwrap() {
                    committed.push((table.clone(), object["path"].as_str().unwrap().into()));
                }
            }
        }
        committed
    }

    /// The rows of each flattened table that the state has, in a form that does not depend on their order.
    fn rows(&self) -> BTreeMap<String, Vec<String>> {
        let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (table, key) in self.committed() {
            let bytes = self.double.get("flat", &key).unwrap();
            tables.entry(table).or_default().extend(rows_of(bytes));
        }
        tables.values_mut().for_each(|rows| rows.sort());
        tables
    }
}

/// The program with buckets of the double.
fn on(double: &GcsDouble, program: Program) -> Program {
    program
        .set("STORAGE_EMULATOR_HOST", double.url())
        .set("GCS_BUCKET_NAME", "raw")
        .set("GCS_BUCKET_FLATTENED_NAME", "flat")
        .set("SAMSARA_ETL_HASH_SALT", "salt")
}

/// Each row of a Parquet file as JSON.
fn rows_of(file: impl ChunkReader + 'static) -> Vec<String> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let mut lines = Vec::new();
    let mut writer = arrow_json::LineDelimitedWriter::new(&mut lines);
    for batch in reader.build().unwrap() {
        writer.write(&batch.unwrap()).unwrap();
    }
    writer.finish().unwrap();
    let text = String::from_utf8(lines).unwrap();
    text.lines().map(str::to_string).collect()
}

/// A scheduler and its executors.
struct Cluster {
    address: String,
    _scheduler: Child,
}

impl Cluster {
    /// One without executors.
    async fn start(site: &Site) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let listen = [
            "scheduler",
            "--listen",
            &address,
            "--executor-timeout",
            "10",
        ];
        let scheduler = site.program.start(&listen, Stdio::inherit());
        let cluster = Self {
            address,
            _scheduler: scheduler,
        };
        cluster.answers("healthz").await;
        cluster
    }

    /// Waits until the scheduler is alive, or has an executor.
    async fn answers(&self, path: &str) {
        let url = format!("http://{}/{path}", self.address);
        let is_well = async || {
            let answer = reqwest::get(&url).await;
            answer.is_ok_and(|answer| answer.status().is_success())
        };
        while !is_well().await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Starts an executor that works on `site`.
    async fn executor(&self, program: &Program) -> Child {
        let port = free_port().to_string();
        let arguments = [
            "executor",
            "--scheduler",
            &self.address,
            "--port",
            &port,
            "--tasks",
            "2",
        ];
        let child = program.start(&arguments, Stdio::inherit());
        let is_up = || std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_ok();
        until(is_up).await;
        self.answers("readyz").await;
        child
    }
}

/// What a run told, without times, its id and the order of what happened.
fn told(ran: &Ran) -> Value {
    let mut told: Value = serde_json::from_str(&ran.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", ran.stdout, ran.stderr));
    for name in ["run", "seconds", "waited_seconds", "delayed_requests"] {
        told[name] = Value::Null;
    }
    // Partitions end in whatever order.
    if let Some(failures) = told["failures"].as_array_mut() {
        failures.sort_by_key(ToString::to_string);
    }
    told
}

fn is_same(one: &Site, other: &Site) {
    let (one, other) = (one.rows(), other.rows());
    let names = |tables: &BTreeMap<String, Vec<String>>| -> Vec<String> {
        tables.keys().cloned().collect()
    };
    assert_eq!(names(&one), names(&other));
    for (table, rows) in &one {
        let found = &other[table];
        let differing = rows.iter().zip(found).find(|(one, other)| one != other);
        assert!(
            rows == found,
            "{table}: {} and {} rows: {differing:?}",
            rows.len(),
            found.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_is_as_the_local_engine_makes_it() {
    let simulator = simulator(|_| ()).await;
    let local = Site::new(Program::with_simulator(&simulator));
    let mut extract = vec!["run", "--stages", "extract"];
    extract.extend(["--start_date", "2024-01-01", "--end_date", "2024-01-03"]);
    local.program.succeed(&extract).await;
    let remote = local.copy();
    let cluster = Cluster::start(&remote).await;
    let mut executors = Vec::new();
    for _ in 0..2 {
        executors.push(cluster.executor(&remote.program).await);
    }
    let (one, other) = tokio::join!(
        local.transform(&[], None),
        remote.transform(&[], Some(&cluster))
    );
    assert_eq!((one.code, other.code), (0, 0), "{}", other.stderr);
    assert_eq!(told(&one), told(&other));
    is_same(&local, &remote);
    let rows = remote.rows();
    let filled = rows.values().filter(|rows| !rows.is_empty());
    assert!(filled.count() > 200, "{:?}", rows.keys());
    // What is derived is not derived again.
    let again = remote.transform(&[], Some(&cluster)).await;
    let idle = &told(&again)["idle"]["missing"];
    assert_eq!(idle["not_derived"], 0, "{} {}", again.stdout, again.stderr);

    // Models of one's own, in a catalog of their own: the others need not be bound again.
    for site in [&local, &remote] {
        copy_families(&site.program, &["vehicles", "vehicle_stats"]);
        for (name, front, sql) in ODD {
            let text = format!("/*---\ndescription = \"d\"\n{front}\n---*/\n{sql}\n");
            site.program
                .write(&format!("sql/vehicles/{name}.sql"), text);
        }
    }
    // A plan deeper than its serialized form may be is run by the run itself.
    for site in [&local, &remote] {
        let text = format!("/*---\ndescription = \"d\"\n---*/\n{}\n", deep());
        site.program.write("sql/vehicles/odd_depth.sql", text);
    }
    let names = ODD.iter().map(|(name, _, _)| *name);
    let names: Vec<&str> = names.chain(["odd_depth"]).collect();
    let (one, other) = tokio::join!(
        local.transform(&names, None),
        remote.transform(&names, Some(&cluster))
    );
    assert_eq!((one.code, other.code), (3, 3), "{}", other.stderr);
    let unsent = other.stderr.matches("cannot be sent to the cluster");
    assert_eq!(unsent.count(), 1, "{}", other.stderr);
    let report = told(&other);
    assert_eq!(told(&one), report);
    assert_eq!(
        report["failures"].as_array().unwrap().len(),
        4,
        "{report:#}"
    );
    let unfit = report["unfit_times"].as_object().unwrap();
    assert_eq!(unfit.len(), 1, "{report:#}");
    is_same(&local, &remote);

    // Executors that are set up for something else do nothing.
    drop(executors);
    let stranger = || on(&remote.double, Program::new());
    for (stranger, reason) in [
        (
            stranger().set("SAMSARA_ETL_HASH_SALT", "pepper"),
            "SAMSARA_ETL_HASH_SALT of the executor is not that of the run",
        ),
        (
            stranger().set("GCS_BUCKET_NAME", "other"),
            "the raw bucket of the executor is gs://other/ and that of the run gs://raw/",
        ),
    ] {
        let _executor = cluster.executor(&stranger).await;
        let text = "/*---\ndescription = \"d\"\nhash = [\"id\"]\n---*/\nSELECT id FROM raw.fleet_vehicles\n";
        remote.program.write("sql/vehicles/odd_hash.sql", text);
        let ran = remote.transform(&["odd_hash"], Some(&cluster)).await;
        let failure = &told(&ran)["failures"][0]["error"];
        let failure = failure.as_str().unwrap();
        assert!(ran.code != 0 && failure.contains(reason), "{failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_executor_costs_a_retry() {
    const TABLES: [&str; 2] = ["fleet_vehicle_stats_gps", "fleet_vehicle_stats_engineRpm"];
    let simulator = simulator(|_| ()).await;
    let local = Site::new(Program::with_simulator(&simulator));
    copy_families(&local.program, &["vehicle_stats"]);
    let mut extract = vec!["run", "--stages", "extract", "--start_date", "2024-01-01"];
    extract.extend(["--end_date", "2024-01-03"]);
    extract.extend(TABLES.iter().flat_map(|table| ["--table", *table]));
    local.program.succeed(&extract).await;
    let remote = local.copy();
    copy_families(&remote.program, &["vehicle_stats"]);
    let one = local.transform(&TABLES, None).await;
    assert_eq!(one.code, 0, "{}", one.stderr);

    let cluster = Cluster::start(&remote).await;
    let mut lost = cluster.executor(&remote.program).await;
    // Nothing that it writes arrives before it is killed.
    let (open, opened) = watch::channel(false);
    remote
        .double
        .fault(Fault::on("PUT", "flattened/", Action::Hold(opened)).first(2));
    let killed = async {
        until(|| remote.double.has_begun("PUT", "flattened/")).await;
        lost.kill().await.unwrap();
        let second = cluster.executor(&remote.program).await;
        open.send(true).unwrap();
        second
    };
    let (other, _second) = tokio::join!(remote.transform(&TABLES, Some(&cluster)), killed);
    assert_eq!(other.code, 0, "{}", other.stderr);
    assert_eq!(told(&one), told(&other));
    // What the first one wrote after all is in no state, and not read.
    let committed = remote.committed();
    assert_eq!(committed.len(), 4);
    is_same(&local, &remote);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cluster_nothing_is_begun() {
    let site = Site::new(Program::new());
    copy_families(&site.program, &["vehicles"]);
    let cluster = Cluster {
        address: format!("127.0.0.1:{}", free_port()),
        _scheduler: site.program.start(&["--version"], Stdio::null()),
    };
    let lines = |ran: &Ran| ran.stderr.lines().map(str::to_string).collect::<Vec<_>>();
    let ran = site.transform(&["fleet_vehicles"], Some(&cluster)).await;
    let said = lines(&ran);
    assert!(
        ran.code == 1
            && said.len() == 1
            && said[0].starts_with(&format!(
                "error: no Ballista scheduler answers at {}: ",
                cluster.address
            )),
        "{} {said:?}",
        ran.code
    );
    let cluster = Cluster::start(&site).await;
    let ran = site.transform(&["fleet_vehicles"], Some(&cluster)).await;
    let said = lines(&ran);
    assert!(
        ran.code == 1 && said.len() == 1 && said[0].contains(" has no executors: start some"),
        "{} {said:?}",
        ran.code
    );
    let written = site.double.objects("raw").into_iter().map(|it| it.key);
    let written: Vec<_> = written.filter(|key| !key.starts_with("logs/")).collect();
    assert!(written.is_empty(), "{written:?}");
    for (arguments, expected) in [
        (&["--engine", "ballista"][..], "--scheduler"),
        (&["--scheduler", "a:1"], "--engine ballista"),
        (&["--engine", "ballista", "--scheduler", "a"], "HOST:PORT"),
    ] {
        let ran = site.program.run(&[&["run"], arguments].concat()).await;
        assert!(
            ran.code == 2 && ran.stderr.contains(expected),
            "{arguments:?} {} {}",
            ran.code,
            ran.stderr
        );
    }
}
