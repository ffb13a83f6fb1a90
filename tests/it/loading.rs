//! What the whole program does with load jobs: which ones it starts, and what the next run makes of those that failed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ::parquet::file::reader::{FileReader, SerializedFileReader};
use samsara_simulator::{LateData, Simulator, SimulatorConfig};
use serde_json::Value;

use crate::program::{Program, Ran, signal, simulator};
use crate::support::bigquery_double::{BigQueryDouble, JobScript, LoadJob, error};
use crate::support::faults::{Action, Fault};
use crate::support::gcs::GcsDouble;
use crate::support::sources::list;
use crate::support::until;

/// Doubles of both services, and a program that is pointed at them.
pub struct Rig {
    pub gcs: Arc<GcsDouble>,
    pub bigquery: BigQueryDouble,
    pub program: Program,
}

const RUN: &[&str] = &[
    "run",
    "--start_date",
    "01/01/2024",
    "--end_date",
    "04/01/2024",
];
const RPM: &[&str] = &["--table", "rpm"];

impl Rig {
    pub fn new(simulator: &Simulator) -> Self {
        let gcs = Arc::new(GcsDouble::start(&["raw-b", "flat-b"]));
        let bigquery = BigQueryDouble::start(&["dwh"]);
        let storage = gcs.clone();
        bigquery.count_rows(move |uris| uris.iter().map(|uri| rows(&storage, uri)).sum());
        let program = Program::with_simulator(simulator)
            .set("STORAGE_EMULATOR_HOST", gcs.url())
            .set("BIGQUERY_EMULATOR_HOST", bigquery.url())
            .set("GOOGLE_CLOUD_PROJECT", bigquery.project())
            .set("GCS_BUCKET_NAME", "raw-b")
            .set("GCS_BUCKET_FLATTENED_NAME", "flat-b")
            .set("DWH_ID", "dwh");
        program.write("sql/f/sources.toml", sources());
        program.write("sql/f/rpm.sql", RPM_SQL);
        program.write("sql/f/speed.sql", RPM_SQL.replace("AS rpm", "AS speed"));
        program.write("sql/f/vehicles.sql", VEHICLES_SQL);
        Self {
            gcs,
            bigquery,
            program,
        }
    }

    /// From now on each job runs for this long.
    fn jobs_last(&self, lasts: Duration) {
        self.bigquery.direct_jobs(move |_| JobScript {
            lasts,
            ..JobScript::default()
        });
    }

    /// Whether the state of each day of `rpm` is like this: see [`Rig::state`].
    fn all_days(&self, is_so: impl Fn(&(Option<u64>, u64, bool)) -> bool) -> bool {
        self.state("engine", "rpm").values().all(is_so)
    }

    /// The jobs of models, not those of the program's own tables.
    pub fn jobs(&self) -> Vec<LoadJob> {
        self.bigquery
            .jobs()
            .into_iter()
            .filter(|job| !job.table.contains("._"))
            .collect()
    }

    /// What is announced of loading, and how many jobs a run then sends, those of the program's own tables among them.
    async fn announced(&self, arguments: &[&str]) -> (String, usize) {
        let plan = self
            .program
            .succeed(&[arguments, &["--dry-run"]].concat())
            .await
            .stdout;
        let line = plan
            .lines()
            .find_map(|line| line.strip_prefix("load       "))
            .unwrap()
            .to_string();
        let before = self.bigquery.jobs().len();
        self.program.succeed(arguments).await;
        (line, self.bigquery.jobs().len() - before)
    }

    /// The state of a model by day: rows loaded, used attempts, and whether a load is under way.
    pub fn state(&self, source: &str, model: &str) -> BTreeMap<String, (Option<u64>, u64, bool)> {
        let bytes = self
            .gcs
            .get("raw-b", &format!("state/{source}.json"))
            .unwrap();
        let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let partitions = document["partitions"].as_object().unwrap();
        let model = |state: &serde_json::Value| {
            let model = &state["models"][model];
            (
                model["load"]["rows"].as_u64(),
                model["attempts"].as_u64().unwrap_or(0),
                model["started"].is_object(),
            )
        };
        partitions
            .iter()
            .map(|(day, state)| (day.clone(), model(state)))
            .collect()
    }
}

pub fn rows(gcs: &GcsDouble, uri: &str) -> u64 {
    let (bucket, key) = uri.strip_prefix("gs://").unwrap().split_once('/').unwrap();
    let reader = SerializedFileReader::new(gcs.get(bucket, key).unwrap()).unwrap();
    reader.metadata().file_metadata().num_rows() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_load_is_one_job() {
    let simulator = simulator(|_| ()).await;
    let rig = Rig::new(&simulator);
    rig.program.succeed(&[RUN, RPM].concat()).await;
    let jobs = rig.jobs();
    assert_eq!(
        jobs.iter()
            .map(|job| job.table.as_str())
            .collect::<Vec<_>>(),
        ["dwh.rpm"]
    );
    assert_eq!(
        jobs[0].configuration["load"]["writeDisposition"],
        "WRITE_TRUNCATE_DATA"
    );
    let state = rig.state("engine", "rpm");
    assert_eq!(state.len(), 3);
    let own: u64 = state.values().map(|(rows, _, _)| rows.unwrap()).sum();
    assert_eq!(
        own,
        jobs[0]
            .uris
            .iter()
            .map(|uri| rows(&rig.gcs, uri))
            .sum::<u64>()
    );
    assert!(
        state
            .values()
            .all(|state| (state.1, state.2) == (1, false) && state.0 > Some(0)),
        "{state:?}"
    );

    // Nothing is new, nothing is loaded.
    rig.program.succeed(&[RUN, RPM].concat()).await;
    assert_eq!(rig.jobs().len(), 1);
    // The table holds something now: what is derived again replaces its day.
    rig.program
        .write("sql/f/rpm.sql", RPM_SQL.replace("AS rpm", "+ 1 AS rpm"));
    rig.program.succeed(&[RUN, RPM].concat()).await;
    let mut tables: Vec<String> = rig
        .jobs()
        .into_iter()
        .skip(1)
        .map(|job| job.table)
        .collect();
    tables.sort();
    assert_eq!(
        tables,
        ["dwh.rpm$20240101", "dwh.rpm$20240102", "dwh.rpm$20240103"]
    );

    // And again as a whole, under an id that was not there before.
    let refreshed = [RUN, RPM, &["--full-refresh", "rpm"]].concat();
    for number in 1..=2 {
        rig.program.succeed(&refreshed).await;
        let jobs = rig.jobs();
        assert_eq!(
            (jobs.len(), jobs[jobs.len() - 1].table.as_str()),
            (4 + number, "dwh.rpm")
        );
        assert_eq!(jobs[jobs.len() - 1].uris.len(), 3);
    }
    // Rows that somebody removed are found missing, and loaded again.
    let url = format!(
        "{}/bigquery/v2/projects/test-project/datasets/dwh/tables/rpm",
        rig.bigquery.url()
    );
    let emptied = reqwest::Client::new()
        .patch(url)
        .json(&serde_json::json!({ "numRows": "0" }))
        .send()
        .await
        .unwrap();
    assert!(emptied.status().is_success());
    rig.program.succeed(&[RUN, RPM].concat()).await;
    assert_eq!(
        (rig.jobs().len(), rig.jobs()[6].table.as_str()),
        (7, "dwh.rpm")
    );
    let ran = rig
        .program
        .run(&[RUN, RPM, &["--full-refresh", "rpmm"]].concat())
        .await;
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr
            .contains("unknown table `rpmm`; did you mean `rpm`?"),
        "{}",
        ran.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_announces_the_run_s_jobs() {
    let simulator = simulator(|_| ()).await;
    let rig = Rig::new(&simulator);
    rig.program.write(
        "sql/f/vehicles.sql",
        VEHICLES_SQL.replace("---*/", "unique_key = [\"id\"]\nhistory = true\n---*/"),
    );
    let upto = |day| ["run", "--start_date", "2024-01-01", "--end_date", day];
    let is = |announced: &str, sent: usize| (announced.to_string(), sent);
    let vehicles = ["--table", "vehicles"];
    // First loads: all days in one job, the list, its history; and two for what runs did.
    let first = [&upto("2024-01-04")[..], RPM, &vehicles].concat();
    assert_eq!(rig.announced(&first).await, is("at most 5 jobs", 5));
    // A list that is read again may be unchanged.
    assert_eq!(
        rig.announced(&[&upto("2024-01-04")[..], &vehicles].concat())
            .await,
        is("at most 4 jobs", 0)
    );
    let alone = |stages| [&upto("2024-01-06")[..], RPM, &["--stages", stages]].concat();
    assert_eq!(rig.announced(&alone("load")).await, is("0 jobs", 0));
    // An increment is a job a day.
    assert_eq!(
        rig.announced(&[&upto("2024-01-06")[..], RPM].concat())
            .await,
        is("at most 4 jobs", 4)
    );
    // An edited model is derived and loaded again, day by day; what is derived already is known.
    rig.program
        .write("sql/f/rpm.sql", RPM_SQL.replace("AS rpm", "+ 1 AS rpm"));
    assert_eq!(
        rig.announced(&alone("transform,load")).await,
        is("at most 7 jobs", 7)
    );
    rig.program
        .write("sql/f/rpm.sql", RPM_SQL.replace("AS rpm", "+ 2 AS rpm"));
    rig.program.succeed(&alone("transform")).await;
    assert_eq!(rig.announced(&alone("load")).await, is("7 jobs", 7));
    // All rows again.
    let refresh = [&alone("load")[..], &["--full-refresh", "rpm"]].concat();
    assert_eq!(rig.announced(&refresh).await, is("3 jobs", 3));
    // A long first load has a trial load.
    let speed = ["--table", "speed"];
    assert_eq!(
        rig.announced(&[&upto("2024-01-09")[..], &speed].concat())
            .await,
        is("at most 4 jobs", 4)
    );
    // Into a folder nothing is sent.
    let local = Program::with_simulator(&simulator);
    let plan = local
        .succeed(
            &[
                &upto("2024-01-04")[..],
                &["--table", "fleet_tags", "--dry-run"],
            ]
            .concat(),
        )
        .await;
    assert!(!plan.stdout.contains("jobs"), "{}", plan.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_load_wipes_no_foreign_rows() {
    let simulator = simulator(|_| ()).await;
    let rig = Rig::new(&simulator);
    let table = serde_json::json!({
        "tableReference": { "projectId": "test-project", "datasetId": "dwh", "tableId": "rpm" },
        "schema": { "fields": [{ "name": "time", "type": "TIMESTAMP" }] },
        "timePartitioning": { "type": "DAY", "field": "time" },
        "numRows": "5",
    });
    let url = format!(
        "{}/bigquery/v2/projects/test-project/datasets/dwh/tables",
        rig.bigquery.url()
    );
    assert!(
        reqwest::Client::new()
            .post(url)
            .json(&table)
            .send()
            .await
            .unwrap()
            .status()
            .is_success()
    );
    rig.program.succeed(&[RUN, RPM].concat()).await;
    let tables: Vec<String> = rig.jobs().into_iter().map(|job| job.table).collect();
    assert_eq!(tables.len(), 3);
    assert!(
        tables
            .iter()
            .all(|table| table.starts_with("dwh.rpm$2024010")),
        "{tables:?}"
    );
}

/// What was asked of a table since so many requests: method and target.
fn asked_of(rig: &Rig, table: &str, since: usize) -> Vec<(String, String)> {
    let target = format!("datasets/dwh/tables/{table}");
    let requests = rig.bigquery.requests().into_iter().skip(since);
    let of_table =
        requests.filter(|request| request.target == target || request.target.starts_with("jobs/"));
    of_table
        .filter(|request| request.method != "GET")
        .map(|request| (request.method, request.target))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_fails_is_never_taken_for_another_shape() {
    let simulator = simulator(|_| ()).await;
    let rig = Rig::new(&simulator);
    rig.program.succeed(&[RUN, RPM].concat()).await;
    let refresh = [RUN, RPM, &["--full-refresh", "rpm"]].concat();
    let denied = || error(403, "accessDenied", "Not for you");
    let faults = [
        (
            "look at",
            Fault::on("GET", "datasets/dwh/tables/rpm", denied()),
        ),
        (
            "look at",
            Fault::on(
                "GET",
                "datasets/dwh/tables/rpm",
                error(400, "invalid", "No"),
            ),
        ),
        (
            "change",
            Fault::on("PATCH", "datasets/dwh/tables/rpm", denied()),
        ),
        (
            "quota",
            Fault::on(
                "PATCH",
                "datasets/dwh/tables/rpm",
                error(403, "quotaExceeded", "Too many updates"),
            ),
        ),
    ];
    for (number, (verb, fault)) in faults.into_iter().enumerate() {
        // Something is to be changed about the table.
        rig.program.write(
            "sql/f/rpm.sql",
            RPM_SQL.replace("-- how fast", &format!("-- how fast {number}")),
        );
        rig.bigquery.fault(fault);
        let (table, before) = (rig.bigquery.table("dwh.rpm"), rig.bigquery.requests().len());
        let ran = rig.program.run(&refresh).await;
        rig.bigquery.clear_faults();
        assert!(
            matches!(ran.code, 1 | 3) && ran.stderr.contains(verb),
            "{verb}: {}",
            ran.stderr
        );
        assert_eq!(rig.bigquery.table("dwh.rpm"), table, "{verb}");
        let asked = asked_of(&rig, "rpm", before);
        assert!(
            asked.iter().all(|(method, _)| method != "DELETE"),
            "{verb}: {asked:?}"
        );
    }
    rig.program.succeed(&refresh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_refresh_changes_the_schema() {
    let simulator = simulator(|_| ()).await;
    let rig = Rig::new(&simulator);
    rig.program.succeed(&[RUN, RPM].concat()).await;
    let run = [RUN, RPM, &["--stages", "transform,load"]].concat();
    let refresh = [&run[..], &["--full-refresh", "rpm"]].concat();
    // A changed type: nobody ever meets a missing table.
    let text = RPM_SQL.replace("reading['value']", "CAST(reading['value'] AS VARCHAR)");
    rig.program.write("sql/f/rpm.sql", &text);
    let refused = rig.program.run(&run).await;
    assert!(
        refused
            .stderr
            .contains("`rpm` is FLOAT64, the model gives STRING"),
        "{}",
        refused.stderr
    );
    assert!(
        refused.stderr.contains("--full-refresh rpm"),
        "{}",
        refused.stderr
    );
    let before = rig.bigquery.requests().len();
    rig.program.succeed(&refresh).await;
    let job = rig.jobs().pop().unwrap();
    assert_eq!(
        (
            job.table.as_str(),
            &job.configuration["load"]["writeDisposition"]
        ),
        ("dwh.rpm", &"WRITE_TRUNCATE".into())
    );
    let asked = asked_of(&rig, "rpm", before);
    assert!(
        asked.iter().all(|(method, _)| method != "DELETE"),
        "{asked:?}"
    );
    let kind =
        |rig: &Rig| rig.bigquery.table("dwh.rpm").unwrap()["schema"]["fields"][2]["type"].clone();
    assert_eq!(kind(&rig), "STRING");
    assert_eq!(
        rig.bigquery.table("dwh.rpm").unwrap()["timePartitioning"]["field"],
        "time"
    );
    // From then on days come by themselves again.
    rig.program
        .write("sql/f/rpm.sql", text.replace("AS rpm", "|| '' AS rpm"));
    rig.program.succeed(&run).await;
    assert!(rig.jobs().pop().unwrap().table.starts_with("dwh.rpm$"));

    // Another partitioning cannot be had like that. If the rows do not load, the table stays.
    let other = text.replace("partition_by = \"time\"", "partition_by = \"at\"");
    let other = other.replace(
        "-- when\n",
        "-- when\n  to_timestamp_micros(reading['time']) AS at, -- when, once more\n",
    );
    rig.program.write("sql/f/rpm.sql", other);
    rig.bigquery.direct_jobs(|job| JobScript {
        error: job
            .table
            .contains("_rehearsal_")
            .then_some(("invalid", "Not like this")),
        ..JobScript::default()
    });
    let before = rig.bigquery.requests().len();
    let refused = rig.program.run(&refresh).await;
    assert!(
        refused.code == 3 && refused.stderr.contains("Not like this"),
        "{}",
        refused.stderr
    );
    let asked = asked_of(&rig, "rpm", before);
    assert!(
        asked
            .iter()
            .all(|(_, target)| target != "datasets/dwh/tables/rpm"),
        "{asked:?}"
    );
    rig.bigquery.direct_jobs(|_| JobScript::default());
    let before = rig.bigquery.requests().len();
    rig.program.succeed(&refresh).await;
    let asked = asked_of(&rig, "rpm", before);
    let at = |is_it: &dyn Fn(&(String, String)) -> bool| asked.iter().position(is_it).unwrap();
    let trial = at(&|(_, target)| target.starts_with("jobs/samsara-etl-_rehearsal_rpm_"));
    let dropped = at(&|(method, target)| method == "DELETE" && target == "datasets/dwh/tables/rpm");
    let loaded = at(&|(_, target)| target.starts_with("jobs/samsara-etl-rpm-"));
    assert!(trial < dropped && dropped < loaded, "{asked:?}");
    assert_eq!(
        rig.bigquery.table("dwh.rpm").unwrap()["timePartitioning"]["field"],
        "at"
    );
    assert!(
        rig.state("engine", "rpm")
            .values()
            .all(|state| state.0 > Some(0))
    );

    // Nothing is derived that could take its place: then the table stays.
    rig.program.write("sql/f/rpm.sql", RPM_SQL);
    let elsewhere = [
        "run",
        "--table",
        "rpm",
        "--stages",
        "load",
        "--full-refresh",
        "rpm",
    ];
    for bucket in ["raw-b", "flat-b"] {
        for object in rig.gcs.objects(bucket) {
            rig.gcs.delete(bucket, &object.key);
        }
    }
    let refused = rig.program.run(&elsewhere).await;
    assert!(
        refused.code == 1 && refused.stderr.contains("nothing is derived"),
        "{}",
        refused.stderr
    );
    assert!(rig.bigquery.table("dwh.rpm").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_table_gains_the_columns_that_its_schema_has_gained() {
    let simulator = simulator(|_| ()).await;
    let mut rig = Rig::new(&simulator);
    rig.program = rig.program.set("DATABASE_ID", "staged");
    let run = [RUN, RPM, &["--table", "vehicles", "--load-raw"]].concat();
    rig.program.write(
        "sql/f/sources.toml",
        sources().replace("STRUCT<time VARCHAR, value DOUBLE>", "STRUCT<time VARCHAR>"),
    );
    rig.program.write(
        "sql/f/rpm.sql",
        RPM_SQL.replace("reading['value']", "reading['time']"),
    );
    rig.program.write(
        "sql/f/speed.sql",
        RPM_SQL.replace("reading['value']", "reading['time']"),
    );
    rig.program.succeed(&run).await;
    // What drift has proposed: a field inside readings, and columns of both kinds of tables.
    let wider = sources()
        .replace(
            "id VARCHAR, name VARCHAR, externalIds",
            "id VARCHAR, name VARCHAR, serial VARCHAR, externalIds",
        )
        .replace(
            "schema = \"id VARCHAR, name VARCHAR\"",
            "schema = \"id VARCHAR, name VARCHAR, notes VARCHAR\"",
        );
    rig.program.write("sql/f/sources.toml", wider);
    rig.program
        .succeed(&[&run[..], &["--historical"]].concat())
        .await;
    let names = |table: &str| -> Vec<String> {
        let table = rig.bigquery.table(&format!("staged.{table}")).unwrap();
        let fields = table["schema"]["fields"].as_array().unwrap().clone();
        let nested = fields
            .iter()
            .flat_map(|field| field["fields"].as_array().cloned().unwrap_or_default());
        fields
            .clone()
            .into_iter()
            .chain(nested)
            .map(|field| field["name"].as_str().unwrap().to_string())
            .collect()
    };
    let engine = names("engine");
    assert!(
        ["serial", "value"]
            .iter()
            .all(|name| engine.iter().any(|found| found == name)),
        "{engine:?}"
    );
    assert!(
        names("cars").iter().any(|name| name == "notes"),
        "{:?}",
        names("cars")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_load_gets_a_new_job() {
    let simulator = simulator(|_| ()).await;
    let rig = Rig::new(&simulator);
    rig.bigquery.direct_jobs(|job| JobScript {
        error: job
            .table
            .starts_with("dwh.rpm")
            .then_some(("invalid", "Provided Schema does not match")),
        ..JobScript::default()
    });
    let both = [RUN, RPM, &["--table", "speed"]].concat();
    let ran = rig.program.run(&both).await;
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("failed: rpm: ")
            && ran.stderr.contains("Provided Schema does not match")
    );
    assert!(
        rig.state("engine", "rpm")
            .values()
            .all(|state| *state == (None, 1, false))
    );
    assert!(
        rig.state("engine", "speed")
            .values()
            .all(|state| state.0 > Some(0))
    );
    rig.bigquery.direct_jobs(|_| JobScript::default());
    rig.program.succeed(&both).await;
    let ids: Vec<String> = rig
        .jobs()
        .into_iter()
        .filter(|job| job.table == "dwh.rpm")
        .map(|job| job.id)
        .collect();
    assert_eq!(ids.len(), 2);
    assert!(ids[0].ends_with("-1") && ids[1].ends_with("-2"), "{ids:?}");
    assert!(rig.all_days(|state| state.0 > Some(0) && (state.1, state.2) == (2, false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_stops_its_table_only() {
    let simulator = simulator(|_| ()).await;
    let rig = Rig::new(&simulator);
    let both = [RUN, RPM, &["--table", "speed"]].concat();
    rig.program.succeed(&both).await;
    for (file, column) in [("rpm", "rpm"), ("speed", "speed")] {
        let sql = RPM_SQL.replace("AS rpm", &format!("+ 1 AS {column}"));
        rig.program.write(&format!("sql/f/{file}.sql"), sql);
    }
    let quota = error(
        403,
        "quotaExceeded",
        "Quota exceeded: partition modifications",
    );
    rig.bigquery
        .fault(Fault::on("POST", "jobs/samsara-etl-rpm", quota));
    let ran = rig.program.run(&both).await;
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("quota is used up") && ran.stderr.contains("the next run"),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("failed: speed"), "{}", ran.stderr);
    rig.bigquery.clear_faults();
    rig.program.succeed(&both).await;
    for table in ["rpm", "speed"] {
        let days = rig
            .jobs()
            .into_iter()
            .filter(|job| job.table.starts_with(&format!("dwh.{table}$")))
            .count();
        assert_eq!(days, 3, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unloadable_bucket_is_refused() {
    let simulator = simulator(|_| ()).await;
    let mut rig = Rig::new(&simulator);
    // The dataset is made in the EU, the bucket is in the US.
    rig.program = rig
        .program
        .set("DWH_ID", "dwh_eu")
        .set("BIGQUERY_LOCATION", "asia-east1");
    let run = [RUN, RPM, &["--location", "EU"]].concat();
    let told = "bigquery:test-project.dwh_eu is in EU, bucket flat-b in US";
    let refused = rig.program.run(&run).await;
    assert_eq!(
        (refused.code, rig.bigquery.inserts()),
        (1, 0),
        "{}",
        refused.stderr
    );
    assert!(
        refused.stderr.contains(told) && refused.stderr.contains("make the bucket in EU"),
        "{}",
        refused.stderr
    );
    let checked = rig
        .program
        .run(&["check", "--table", "rpm", "--location", "EU"])
        .await;
    assert!(
        checked.stdout.contains(&format!("FAIL  location: {told}")),
        "{}",
        checked.stdout
    );
    rig.gcs.set_location("flat-b", "EUROPE-WEST1");
    rig.program.succeed(&run).await;
    assert_eq!(rig.jobs().len(), 1);

    // Who may not see where the bucket is learns it from the job.
    rig.gcs.set_location("flat-b", "US");
    rig.gcs
        .fault(Fault::on("GET", "v1/b/flat-b", Action::Status(403)));
    rig.program
        .succeed(&[&run[..], &["--full-refresh", "rpm"]].concat())
        .await;
    assert_eq!(rig.jobs().len(), 2);
    let mut asked = rig
        .gcs
        .requests()
        .into_iter()
        .filter(|request| request.key == "v1/b/flat-b");
    assert_eq!(asked.next_back().unwrap().status, Some(403));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_raw_load_gets_a_new_job() {
    let simulator = simulator(|_| ()).await;
    let mut rig = Rig::new(&simulator);
    rig.program = rig.program.set("DATABASE_ID", "staged");
    let run = [RUN, RPM, &["--load-raw"]].concat();
    let raw = |rig: &Rig| {
        let jobs = rig
            .bigquery
            .jobs()
            .into_iter()
            .filter(|job| job.table.starts_with("staged.engine$"));
        let mut ids: Vec<_> = jobs
            .map(|job| format!("{} {}", job.table, job.id.rsplit('-').next().unwrap()))
            .collect();
        ids.sort();
        ids
    };
    let fail = |reason: &'static str| {
        move |job: &LoadJob| JobScript {
            error: job
                .table
                .starts_with("staged.")
                .then_some((reason, "Not now")),
            ..JobScript::default()
        }
    };
    rig.bigquery.direct_jobs(fail("invalid"));
    let plan = rig
        .program
        .succeed(&[&run[..], &["--dry-run"]].concat())
        .await
        .stdout;
    assert!(plan.contains("load       at most 6 jobs"), "{plan}");
    let refused = rig.program.run(&run).await;
    assert_eq!(
        (refused.code, raw(&rig).len()),
        (3, 3),
        "{}",
        refused.stderr
    );
    rig.bigquery.direct_jobs(fail("quotaExceeded"));
    let refused = rig.program.run(&run).await;
    assert!(
        refused.code == 1 && refused.stderr.contains("BigQuery's quota is used up"),
        "{}",
        refused.stderr
    );
    rig.bigquery.direct_jobs(|_| JobScript::default());
    rig.program.succeed(&run).await;
    let ids = raw(&rig);
    for day in ["20240101", "20240102", "20240103"] {
        assert!(ids.contains(&format!("staged.engine${day} 1")), "{ids:?}");
        assert!(ids.contains(&format!("staged.engine${day} 2")), "{ids:?}");
    }
    let loaded = raw(&rig).len();
    rig.program.succeed(&run).await;
    assert_eq!(raw(&rig).len(), loaded);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_get_lost_on_the_way_fail_the_run() {
    let simulator = simulator(|_| ()).await;
    let rig = Rig::new(&simulator);
    rig.bigquery.direct_jobs(|job| JobScript {
        output_rows: job.table.starts_with("dwh.rpm").then_some(1),
        ..JobScript::default()
    });
    let ran = rig.program.run(&[RUN, RPM].concat()).await;
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains("rpm 2024-01-01_to_2024-01-03: the warehouse reports 1 rows"),
        "{}",
        ran.stderr
    );
    assert!(
        rig.state("engine", "rpm")
            .values()
            .all(|state| state.0.is_none())
    );
    // The day that they are missing in is found.
    rig.bigquery.direct_jobs(|_| JobScript::default());
    let storage = rig.gcs.clone();
    rig.bigquery.count_rows(move |uris| {
        uris.iter()
            .map(|uri| {
                rows(&storage, uri) - u64::from(uri.contains("rpm/partition_day=2024-01-02"))
            })
            .sum()
    });
    let ran = rig.program.run(&[RUN, RPM].concat()).await;
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains("rpm 2024-01-02: the warehouse reports "),
        "{}",
        ran.stderr
    );
    let storage = rig.gcs.clone();
    rig.bigquery
        .count_rows(move |uris| uris.iter().map(|uri| rows(&storage, uri)).sum());
    rig.program.succeed(&[RUN, RPM].concat()).await;
    assert!(
        rig.state("engine", "rpm")
            .values()
            .all(|state| state.0 > Some(0))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_during_a_job_loads_once() {
    let simulator = simulator(|_| ()).await;
    let rig = Rig::new(&simulator);
    rig.jobs_last(Duration::from_secs(3));
    let run = [RUN, RPM].concat();
    tokio::select! {
        ran = rig.program.run(&run) => panic!("{}", ran.stderr),
        () = until(|| !rig.jobs().is_empty()) => {}
    }
    assert!(rig.all_days(|state| *state == (None, 0, true)));
    rig.program.succeed(&run).await;
    assert_eq!(rig.jobs().len(), 1);
    assert!(rig.all_days(|state| state.0 > Some(0) && (state.1, state.2) == (1, false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outliving_job_undoes_nothing() {
    let simulator = simulator(|_| ()).await;
    let rig = Rig::new(&simulator);
    rig.jobs_last(Duration::from_secs(4));
    let run = [RUN, RPM].concat();
    tokio::select! {
        ran = rig.program.run(&run) => panic!("{}", ran.stderr),
        () = until(|| !rig.jobs().is_empty()) => {}
    }
    // Other SQL, so another load of the same days.
    rig.program
        .write("sql/f/rpm.sql", RPM_SQL.replace("AS rpm", "+ 1 AS rpm"));
    rig.bigquery.direct_jobs(|_| JobScript::default());
    rig.program.succeed(&run).await;
    let jobs = rig.jobs();
    assert_eq!(jobs.len(), 2);
    let asked: Vec<String> = rig
        .bigquery
        .requests()
        .into_iter()
        .map(|request| format!("{} {}", request.method, request.target))
        .collect();
    let at = |what: String| asked.iter().rposition(|request| *request == what).unwrap();
    // The first is seen to its end before the second is sent.
    assert!(
        at(format!("GET jobs/{}", jobs[0].id)) < at(format!("POST jobs/{}", jobs[1].id)),
        "{asked:?}"
    );
    assert_eq!(jobs[0].state(), "DONE");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_first_load_is_tried_first() {
    let simulator = simulator(|_| ()).await;
    let rig = Rig::new(&simulator);
    let run = [
        "run",
        "--start_date",
        "2024-01-01",
        "--end_date",
        "2024-01-10",
        "--table",
        "rpm",
    ];
    let run_json = [&run[..], &["--format", "json"]].concat();
    // What the report counts: load jobs, and those of them that failed.
    let counted = |ran: &Ran, purpose: &str| {
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        let loads = &report["loads"][purpose];
        (loads["jobs"].as_u64(), loads["failed"].as_u64())
    };
    let trials = || {
        rig.bigquery
            .jobs()
            .into_iter()
            .filter(|job| job.table.contains("_rehearsal_rpm"))
            .count()
    };
    rig.bigquery.direct_jobs(|job| JobScript {
        error: job
            .table
            .contains("_rehearsal_")
            .then_some(("invalid", "Cannot read")),
        ..JobScript::default()
    });
    let ran = rig.program.run(&run_json).await;
    assert_eq!(
        (ran.code, trials(), rig.jobs().len()),
        (3, 1, 0),
        "{}",
        ran.stderr
    );
    assert!(ran.stdout.contains("Cannot read"), "{}", ran.stdout);
    assert_eq!(counted(&ran, "trial"), (Some(1), Some(1)));
    assert_eq!(counted(&ran, "table"), (None, None));
    assert_eq!(counted(&ran, "audit"), (Some(2), Some(0)));
    rig.bigquery.direct_jobs(|_| JobScript::default());
    let ran = rig.program.succeed(&run_json).await;
    for (purpose, jobs) in [("trial", 1), ("table", 1), ("audit", 2)] {
        assert_eq!(counted(&ran, purpose), (Some(jobs), Some(0)), "{purpose}");
    }
    assert_eq!(
        (trials(), rig.jobs().len(), rig.jobs()[0].uris.len()),
        (2, 1, 9)
    );
    let dropped = || {
        let requests = rig.bigquery.requests().into_iter();
        requests
            .filter(|it| it.method == "DELETE")
            .map(|it| it.target)
            .collect::<Vec<_>>()
    };
    // A table is not dropped for a refresh that BigQuery refuses.
    rig.program.write(
        "sql/f/rpm.sql",
        RPM_SQL.replace("reading['value']", "CAST(reading['value'] AS VARCHAR)"),
    );
    rig.bigquery.direct_jobs(|job| JobScript {
        error: job
            .table
            .contains("_rehearsal_")
            .then_some(("invalid", "Cannot read")),
        ..JobScript::default()
    });
    let refresh = [&run[..], &["--full-refresh", "rpm"]].concat();
    let ran = rig.program.run(&refresh).await;
    assert_eq!(
        (ran.code, trials(), rig.jobs().len()),
        (3, 3, 1),
        "{}",
        ran.stderr
    );
    assert!(
        dropped()
            .iter()
            .all(|target| target.contains("_rehearsal_")),
        "{:?}",
        dropped()
    );
    rig.bigquery.direct_jobs(|_| JobScript::default());
    assert_eq!(rig.announced(&refresh).await, ("4 jobs".into(), 4));
    // Nor for one that it takes: the new type comes with the rows.
    assert!(
        dropped()
            .iter()
            .all(|target| target.contains("_rehearsal_")),
        "{:?}",
        dropped()
    );
    assert_eq!(
        rig.jobs().pop().unwrap().configuration["load"]["writeDisposition"],
        "WRITE_TRUNCATE"
    );
    let deleted: Vec<_> = rig
        .bigquery
        .requests()
        .into_iter()
        .filter(|request| request.method == "DELETE")
        .collect();
    assert_eq!(deleted.len(), 4);
    assert!(deleted.iter().all(|request| request.status == Some(200)));
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_audited() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    let tables = [
        "--table",
        "fleet_vehicle_stats_gps",
        "--table",
        "fleet_tags",
    ];
    program.succeed(&[RUN, &tables].concat()).await;
    // One that finds nothing new leaves no trace, one that does leaves its own.
    program.succeed(&[RUN, &tables].concat()).await;
    let later = [
        "run",
        "--start_date",
        "2024-01-04",
        "--end_date",
        "2024-01-05",
    ];
    program.succeed(&[&later, &tables[..]].concat()).await;
    let runs = program
        .rows("SELECT * FROM _etl_runs ORDER BY started_at")
        .await;
    assert_eq!(runs.len(), 2);
    assert_ne!(runs[0]["run"], runs[1]["run"]);
    assert!(runs[0]["loaded_rows"].as_u64() > Some(0) && runs[0]["requests"].as_u64() > Some(0));
    assert_eq!(
        (&runs[0]["failures"], &runs[0]["cancelled"]),
        (&0.into(), &false.into())
    );
    let steps = program
        .rows(
            "SELECT step, count(*) AS n, sum(rows) AS rows, min(bytes) AS bytes, min(requests) AS requests
             FROM _etl_partitions WHERE name = 'fleet_vehicle_stats_gps' GROUP BY step ORDER BY step",
        )
        .await;
    let table = program
        .rows("SELECT count(*) AS n FROM fleet_vehicle_stats_gps")
        .await[0]["n"]
        .clone();
    let shown: Vec<_> = steps
        .iter()
        .map(|row| (row["step"].as_str().unwrap(), row["n"].as_u64().unwrap()))
        .collect();
    assert_eq!(shown, [("extract", 4), ("load", 4), ("transform", 4)]);
    assert_eq!((&steps[1]["rows"], &steps[2]["rows"]), (&table, &table));
    assert!(
        steps[0]["bytes"].as_u64() > Some(0) && steps[0]["requests"].as_u64() > Some(0),
        "{steps:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shrunken_list_must_be_accepted() {
    let serve = async |folder: &Program, vehicles: usize| {
        let data: Vec<_> = (0..vehicles)
            .map(|id| serde_json::json!({ "id": id.to_string() }))
            .collect();
        let body = serde_json::json!({ "data": data, "pagination": { "endCursor": "", "hasNextPage": false } });
        folder.write("pages/fleet/vehicles/0001.json", body.to_string());
        let pages_dir = Some(folder.folder().join("pages"));
        Simulator::start(SimulatorConfig {
            pages_dir,
            ..SimulatorConfig::default()
        })
        .await
        .unwrap()
    };
    let program = Program::new();
    let run = ["run", "--table", "fleet_vehicles"];
    let count = async |program: &Program| program.rows("SELECT * FROM fleet_vehicles").await.len();
    let many = serve(&program, 40).await;
    let program = program
        .set("SAMSARA_API_URL", &many.url())
        .set("SAMSARA_API_TOKEN", many.token());
    program.succeed(&run).await;
    // Half of them is bad luck, less is a mistake.
    let half = serve(&program, 20).await;
    let program = program.set("SAMSARA_API_URL", &half.url());
    program.succeed(&run).await;
    assert_eq!(count(&program).await, 20);
    let few = serve(&program, 9).await;
    let program = program.set("SAMSARA_API_URL", &few.url());
    let refused = program.run(&run).await;
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    let told = "the list has 9 rows now, 20 are loaded";
    assert!(
        refused.stderr.contains(told)
            && refused.stderr.contains("--accept-shrunken fleet_vehicles")
    );
    assert_eq!(count(&program).await, 20);
    program
        .succeed(&[&run[..], &["--accept-shrunken", "fleet_vehicles"]].concat())
        .await;
    assert_eq!(count(&program).await, 9);
    // Fewer than ten rows less is an ordinary day of a small fleet.
    let fewer = serve(&program, 1).await;
    program
        .set("SAMSARA_API_URL", &fewer.url())
        .succeed(&run)
        .await;
}

pub const ENGINE: &str = r#"
[engine]
description = "Engine speed."
kind = "window"
endpoint = "/fleet/vehicles/stats/history"
params = { types = "engineRpm" }
window = { start = "startTime", end = "endTime", format = "rfc3339" }
time_field = "engineRpm[].time"
rate_limit = "50/s"
schema = "id VARCHAR, name VARCHAR, externalIds MAP(VARCHAR, VARCHAR), engineRpm ARRAY<STRUCT<time VARCHAR, value DOUBLE>>"
"#;

fn sources() -> String {
    let cars = list("cars", "id VARCHAR, name VARCHAR").replace("\"/cars\"", "\"/fleet/vehicles\"");
    format!("{ENGINE}{cars}")
}

pub const RPM_SQL: &str = r#"/*---
description = "Engine speed, one row per reading."
partition_by = "time"
---*/
SELECT DISTINCT
  id, -- vehicle
  to_timestamp_micros(reading['time']) AS time, -- when
  reading['value'] AS rpm -- how fast
FROM (SELECT id, unnest(engineRpm) AS reading FROM raw.engine)
"#;

const VEHICLES_SQL: &str = r#"/*---
description = "Vehicles."
---*/
SELECT id, -- id
  name -- name
FROM raw.cars
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_run_leaves_its_job() {
    let simulator = simulator(|_| ()).await;
    let rig = Rig::new(&simulator);
    rig.jobs_last(Duration::from_secs(6));
    let run = [RUN, RPM].concat();
    let mut child = rig.program.start(&run, std::process::Stdio::null());
    until(|| !rig.jobs().is_empty()).await;
    signal(&child, "TERM").await;
    assert_eq!(child.wait().await.unwrap().code(), Some(143));
    // It did not see the end of its job.
    assert!(rig.all_days(|state| *state == (None, 0, true)));
    rig.program.succeed(&run).await;
    assert_eq!(rig.jobs().len(), 1);
    assert!(rig.all_days(|state| state.0 > Some(0) && (state.1, state.2) == (1, false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outliving_raw_load_undoes_nothing() {
    let simulator = simulator(|config| {
        let withhold = Duration::from_secs(18 * 3600);
        config.late = Some(LateData {
            before: "2024-01-03T00:00:00Z".parse().unwrap(),
            withhold,
        });
    })
    .await;
    let mut rig = Rig::new(&simulator);
    rig.program = rig.program.set("DATABASE_ID", "staged");
    let run = [RUN, RPM, &["--load-raw"]].concat();
    let staged = |rig: &Rig| {
        let jobs = rig.bigquery.jobs().into_iter();
        jobs.filter(|job| job.table == "staged.engine$20240102")
            .map(|job| job.id)
            .collect::<Vec<_>>()
    };
    rig.bigquery.direct_jobs(|job| JobScript {
        lasts: Duration::from_secs(if job.table.starts_with("staged.") {
            4
        } else {
            0
        }),
        ..JobScript::default()
    });
    tokio::select! {
        ran = rig.program.run(&run) => panic!("{}", ran.stderr),
        () = until(|| !staged(&rig).is_empty()) => {}
    }
    let before = rig.bigquery.requests().len();
    // The day has other rows now, so another load.
    simulator.release_late();
    rig.bigquery.direct_jobs(|_| JobScript::default());
    rig.program
        .succeed(&[&run[..], &["--historical"]].concat())
        .await;
    let jobs = staged(&rig);
    assert_eq!(jobs.len(), 2);
    let requests = rig.bigquery.requests().into_iter().skip(before);
    let asked: Vec<String> = requests
        .map(|request| format!("{} {}", request.method, request.target))
        .collect();
    let at = |what: String| asked.iter().position(|request| *request == what);
    let (looked, sent) = (
        at(format!("GET jobs/{}", jobs[0])),
        at(format!("POST jobs/{}", jobs[1])),
    );
    assert!(looked.is_some() && looked < sent, "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_possible_folder_load_is_known() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    program.write("sql/f/sources.toml", sources());
    program.write("sql/f/rpm.sql", RPM_SQL);
    let run = [RUN, RPM].concat();
    program.succeed(&run).await;
    // Another result, whose load comes to nothing: what it did is not known.
    program.write("sql/f/rpm.sql", RPM_SQL.replace("AS rpm", "+ 1 AS rpm"));
    for day in ["2024-01-01", "2024-01-02", "2024-01-03"] {
        let folder = program
            .folder()
            .join("samsara-data/warehouse/rpm")
            .join(day);
        std::fs::rename(&folder, program.folder().join(day)).unwrap();
        std::fs::write(&folder, "").unwrap();
    }
    assert_eq!(program.run(&run).await.code, 3);
    let state = std::fs::read(program.folder().join("samsara-data/raw/state/engine.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    for (day, partition) in state["partitions"].as_object().unwrap() {
        assert!(
            partition["models"]["rpm"]["started"].is_object(),
            "{day}: {partition}"
        );
        std::fs::remove_file(
            program
                .folder()
                .join("samsara-data/warehouse/rpm")
                .join(day),
        )
        .unwrap();
    }
    // And now there are no rows at all: the days are emptied.
    program.write(
        "sql/f/rpm.sql",
        format!("{}\nWHERE false", RPM_SQL.trim_end().trim_end_matches(';')),
    );
    program.succeed(&run).await;
    assert_eq!(program.rows("SELECT * FROM rpm").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_dataset_loses_stale_rows() {
    let simulator = simulator(|_| ()).await;
    let mut rig = Rig::new(&simulator);
    let run = [RUN, RPM].concat();
    rig.program.succeed(&run).await;
    rig.program = rig.program.set("DWH_ID", "other");
    let none = format!("{}\nWHERE false", RPM_SQL.trim_end().trim_end_matches(';'));
    rig.program.write("sql/f/rpm.sql", none);
    rig.program.succeed(&run).await;
    let before = rig.jobs().len();
    rig.program = rig.program.set("DWH_ID", "dwh");
    rig.program.succeed(&run).await;
    let mut tables: Vec<String> = rig.jobs()[before..]
        .iter()
        .map(|job| job.table.clone())
        .collect();
    tables.sort();
    assert_eq!(
        tables,
        ["dwh.rpm$20240101", "dwh.rpm$20240102", "dwh.rpm$20240103"]
    );
}
