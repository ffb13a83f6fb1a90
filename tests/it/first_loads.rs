//! First loads and refreshes that are too long for one job: no day is lost and none is loaded twice, wherever the
//! program stops.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::Query;
use axum::routing::get;
use axum::{Json, Router};
use samsara_etl::catalog::Catalog;
use samsara_etl::config::{Config, Environment, JobLimits, Overrides};
use samsara_etl::pipeline::Pipeline;
use samsara_etl::plan::{Dates, RunRequest, Selection, Stage};
use samsara_etl::report::RunReport;
use samsara_simulator::Simulator;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::loading::Rig;
use crate::program::{WAIT_SCALE, simulator};
use crate::support::bigquery_double::{JobScript, LoadJob};
use crate::support::until;
use crate::support::wire::Server;

const DAYS: [&str; 5] = [
    "2024-01-01",
    "2024-01-02",
    "2024-01-03",
    "2024-01-04",
    "2024-01-05",
];
/// Two of the five days go together.
const TWO_DAYS: JobLimits = JobLimits {
    partitions: 2,
    objects: 10_000,
};

/// A run over the five days, or more, in this very process.
struct Run<'a> {
    rig: &'a Rig,
    simulator: &'a Simulator,
    limits: JobLimits,
    refresh: bool,
    end: &'a str,
}

impl<'a> Run<'a> {
    fn new(rig: &'a Rig, simulator: &'a Simulator, limits: JobLimits) -> Self {
        Self {
            rig,
            simulator,
            limits,
            refresh: false,
            end: "2024-01-06",
        }
    }

    fn refresh(self) -> Self {
        Self {
            refresh: true,
            ..self
        }
    }

    async fn pipeline(&self) -> (Pipeline, RunRequest) {
        let (url, bigquery) = (self.simulator.url(), &self.rig.bigquery);
        let scale = WAIT_SCALE.to_string();
        let environment = Environment::from_pairs([
            ("SAMSARA_API_URL", url.as_str()),
            ("SAMSARA_API_TOKEN", self.simulator.token()),
            ("STORAGE_EMULATOR_HOST", self.rig.gcs.url()),
            ("BIGQUERY_EMULATOR_HOST", bigquery.url()),
            ("GOOGLE_CLOUD_PROJECT", bigquery.project()),
            ("GCS_BUCKET_NAME", "raw-b"),
            ("GCS_BUCKET_FLATTENED_NAME", "flat-b"),
            ("DWH_ID", "dwh"),
            ("SAMSARA_ETL_WAIT_SCALE", &scale),
        ]);
        let folder = self.rig.program.folder();
        let mut config =
            Config::resolve(&environment, &Overrides::default(), folder, "samsara-data").unwrap();
        config.load.limits = self.limits;
        if self.refresh {
            config.load.full_refresh.insert("rpm".into());
        }
        let catalog = Catalog::open(Some(&folder.join("sql"))).unwrap();
        let run_request = RunRequest {
            selection: Selection::of_names(&catalog, &["rpm".to_string()]).unwrap(),
            dates: Dates::parse(Some("2024-01-01"), Some(self.end)).unwrap(),
            stages: [Stage::Extract, Stage::Transform, Stage::Load].into(),
            historical: false,
        };
        (Pipeline::new(config, catalog).unwrap(), run_request)
    }

    /// To its end. Gives the number of announced jobs too.
    async fn go(&self) -> (u64, RunReport) {
        let (pipeline, run_request) = self.pipeline().await;
        let plan = pipeline.plan(run_request).await.unwrap();
        let announced = plan.estimate.load_jobs.unwrap().most;
        (
            announced,
            pipeline
                .run(plan, Vec::new(), CancellationToken::new())
                .await
                .unwrap(),
        )
    }

    async fn succeed(&self) {
        let (_, report) = self.go().await;
        assert!(report.failures.is_empty(), "{:?}", report.failures);
    }

    /// Dies as soon as the double has a job like this.
    async fn die_at(&self, is_it: impl Fn(&LoadJob) -> bool) {
        tokio::select! {
            (_, report) = self.go() => panic!("{report}"),
            () = until(|| self.rig.jobs().iter().any(&is_it)) => {}
        }
        // A killed run releases nothing, and a test does not wait for the expiry of its lease.
        assert!(self.rig.gcs.delete("raw-b", "lock.json"));
    }
}

fn is_single(job: &LoadJob) -> bool {
    job.table.contains('$')
}

/// The days that the table has after these jobs, and the job that loaded each; days that a job with many days overwrote
/// are gone.
fn held(jobs: &[LoadJob]) -> BTreeMap<String, String> {
    let mut held = BTreeMap::new();
    for job in jobs.iter().filter(|job| job.succeeded()) {
        if !is_single(job) {
            held.clear();
        }
        let days = job
            .uris
            .iter()
            .map(|uri| uri.split("partition_day=").nth(1).unwrap()[..10].to_string());
        held.extend(days.map(|day| (day, job.id.clone())));
    }
    held
}

/// All five days are in the table, and the state says so.
fn assert_whole(rig: &Rig) {
    assert_eq!(held(&rig.jobs()).into_keys().collect::<Vec<_>>(), DAYS);
    let state = rig.state("engine", "rpm");
    assert_eq!(state.len(), DAYS.len());
    assert!(
        state
            .values()
            .all(|(rows, _, started)| *rows > Some(0) && !started),
        "{state:?}"
    );
}

fn tables(jobs: &[LoadJob]) -> Vec<String> {
    let mut tables: Vec<String> = jobs.iter().map(|job| job.table.clone()).collect();
    tables.sort();
    tables
}

const FIRST_TWO_AND_SINGLES: [&str; 4] = [
    "dwh.rpm",
    "dwh.rpm$20240103",
    "dwh.rpm$20240104",
    "dwh.rpm$20240105",
];

/// Answers for one reading a day, and for days from the 21st on as `gate` says.
fn one_reading_a_day(is_shut: Arc<AtomicBool>) -> Server {
    let history = move |Query(query): Query<HashMap<String, String>>| {
        let (day, is_shut) = (
            query["startTime"][..10].to_string(),
            is_shut.load(Ordering::SeqCst),
        );
        async move {
            if is_shut && day.as_str() >= "2024-01-21" {
                std::future::pending::<()>().await;
            }
            let readings = json!([{ "time": format!("{day}T08:00:00Z"), "value": 700 }]);
            let data = json!([{ "id": "1", "name": "v", "engineRpm": readings }]);
            Json(json!({ "data": data, "pagination": { "endCursor": "", "hasNextPage": false } }))
        }
    };
    Server::start(Router::new().route("/fleet/vehicles/stats/history", get(history)))
}

#[tokio::test(flavor = "multi_thread")]
async fn days_of_a_long_first_load_show_up_as_they_come() {
    let simulator = simulator(|_| ()).await;
    let mut rig = Rig::new(&simulator);
    let is_shut = Arc::new(AtomicBool::new(true));
    let server = one_reading_a_day(is_shut.clone());
    rig.program = rig.program.set("SAMSARA_API_URL", server.url());
    let run = [
        "run",
        "--table",
        "rpm",
        "--start_date",
        "2024-01-01",
        "--end_date",
        "2024-01-25",
    ];
    let plan = rig
        .program
        .succeed(&[&run[..], &["--dry-run"]].concat())
        .await
        .stdout;
    // A trial load, steps after 10 and 20 days, the last job, and two of the program's own.
    assert!(plan.contains("load       at most 6 jobs"), "{plan}");
    let mut child = rig.program.start(&run, std::process::Stdio::null());
    // The run is far from its end, and the first days are in the table.
    let is_noted = || {
        rig.gcs.get("raw-b", "state/engine.json").is_some() && {
            let state = rig.state("engine", "rpm");
            state.values().filter(|(rows, _, _)| rows.is_some()).count() >= 10
        }
    };
    until(is_noted).await;
    child.kill().await.unwrap();
    assert!(rig.gcs.delete("raw-b", "lock.json"));
    is_shut.store(false, Ordering::SeqCst);
    let sent = rig.jobs().len();
    assert!(rig.jobs().iter().all(|job| !is_single(job)));
    rig.program.succeed(&run).await;
    // What was there stays there, and the rest comes by itself.
    let jobs = rig.jobs();
    assert!(
        jobs.len() > sent && jobs[sent..].iter().all(is_single),
        "{:?}",
        tables(&jobs[sent..])
    );
    assert_eq!(held(&jobs).len(), 24);
    let state = rig.state("engine", "rpm");
    assert!(
        state.len() == 24
            && state
                .values()
                .all(|(rows, _, started)| *rows == Some(1) && !started),
        "{state:?}"
    );

    // Undisturbed, a first load needs no more jobs than planned, and loads no day on its own.
    rig.program = rig.program.set("DWH_ID", "other");
    let before = rig.bigquery.jobs().len();
    rig.program.succeed(&run).await;
    let jobs = rig.bigquery.jobs()[before..].to_vec();
    assert!(
        jobs.len() <= 6 && jobs.iter().filter(|job| job.table == "other.rpm").count() >= 1,
        "{:?}",
        tables(&jobs)
    );
    assert!(
        !jobs.iter().any(|job| job.table.starts_with("other.rpm$")),
        "{:?}",
        tables(&jobs)
    );
    assert_eq!(
        jobs.iter()
            .rfind(|job| job.table == "other.rpm")
            .unwrap()
            .uris
            .len(),
        24
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_that_are_refused_leave_it_to_the_last_job() {
    let simulator =
        simulator(|config| config.now = Some("2024-02-01T00:00:00Z".parse().unwrap())).await;
    let rig = Rig::new(&simulator);
    // Whatever has not all days is refused.
    rig.bigquery.direct_jobs(|job| JobScript {
        error: (job.table == "dwh.rpm" && job.uris.len() < 20).then_some(("invalid", "Not yet")),
        ..JobScript::default()
    });
    let (announced, report) = Run {
        end: "2024-01-21",
        ..Run::new(&rig, &simulator, JobLimits::default())
    }
    .go()
    .await;
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert!(rig.bigquery.jobs().len() as u64 <= announced, "{announced}");
    let jobs = rig.jobs();
    assert!(
        jobs.last().unwrap().succeeded() && jobs.last().unwrap().uris.len() == 20,
        "{:?}",
        tables(&jobs)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn leftover_trial_tables_are_dropped() {
    let simulator = simulator(|_| ()).await;
    let rig = Rig::new(&simulator);
    let lasts = |seconds| {
        move |job: &LoadJob| JobScript {
            lasts: Duration::from_secs(if job.table.contains("_rehearsal_") {
                seconds
            } else {
                0
            }),
            ..JobScript::default()
        }
    };
    rig.bigquery.direct_jobs(lasts(3600));
    let run = || Run {
        end: "2024-01-10",
        ..Run::new(&rig, &simulator, JobLimits::default())
    };
    let left = || -> Vec<String> {
        let jobs = rig
            .bigquery
            .jobs()
            .into_iter()
            .map(|job| job.table.split('$').next().unwrap().to_string());
        jobs.filter(|table| table.contains("_rehearsal_") && rig.bigquery.table(table).is_some())
            .collect()
    };
    let killed = run();
    tokio::select! {
        (_, report) = killed.go() => panic!("{report}"),
        () = until(|| left().len() == 1) => {}
    }
    assert!(rig.gcs.delete("raw-b", "lock.json"));
    // BigQuery forgets it by itself, a day after it was made.
    let name = left().remove(0);
    let expires: i64 = rig.bigquery.table(&name).unwrap()["expirationTime"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let hours = (expires - chrono::Utc::now().timestamp_millis()) / 3_600_000;
    assert!((6..=24).contains(&hours), "{hours}");
    assert!(rig.bigquery.table("dwh.rpm").unwrap()["expirationTime"].is_null());
    // And the next run drops it.
    rig.bigquery.direct_jobs(lasts(0));
    run().succeed().await;
    assert_eq!(left(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn days_beyond_one_job_load_singly() {
    let simulator = simulator(|_| ()).await;
    // Each day is one object.
    for limits in [
        TWO_DAYS,
        JobLimits {
            partitions: 4_000,
            objects: 2,
        },
    ] {
        let rig = Rig::new(&simulator);
        let (announced, report) = Run::new(&rig, &simulator, limits).go().await;
        assert!(report.failures.is_empty(), "{:?}", report.failures);
        assert_eq!(tables(&rig.jobs()), FIRST_TWO_AND_SINGLES, "{limits:?}");
        assert_eq!(rig.jobs()[0].table, "dwh.rpm");
        assert_whole(&rig);
        // The objects of all runs' records are loaded too.
        assert_eq!(announced as usize, rig.bigquery.jobs().len());
        Run::new(&rig, &simulator, limits).succeed().await;
        assert_eq!(rig.jobs().len(), 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_failed_days_load_again() {
    let simulator = simulator(|_| ()).await;
    let rig = Rig::new(&simulator);
    let refuse = |job: &LoadJob| JobScript {
        error: job
            .table
            .starts_with("dwh.rpm$")
            .then_some(("invalid", "Not this one")),
        ..JobScript::default()
    };
    rig.bigquery.direct_jobs(refuse);
    let (_, report) = Run::new(&rig, &simulator, TWO_DAYS).go().await;
    assert_eq!(report.failures.len(), 3, "{:?}", report.failures);
    rig.bigquery.direct_jobs(|_| JobScript::default());
    Run::new(&rig, &simulator, TWO_DAYS).succeed().await;
    assert_eq!(tables(&rig.jobs()[4..]), FIRST_TWO_AND_SINGLES[1..]);
    assert_whole(&rig);

    // A refresh deletes them first; the next run must know that they are missing.
    rig.bigquery.direct_jobs(refuse);
    let (_, report) = Run::new(&rig, &simulator, TWO_DAYS).refresh().go().await;
    assert_eq!(report.failures.len(), 3, "{:?}", report.failures);
    assert_eq!(held(&rig.jobs()).len(), 2);
    rig.bigquery.direct_jobs(|_| JobScript::default());
    Run::new(&rig, &simulator, TWO_DAYS).succeed().await;
    assert_whole(&rig);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_first_load_resumes() {
    let simulator = simulator(|_| ()).await;
    let rig = Rig::new(&simulator);
    let lasts = Duration::from_secs(1);
    rig.bigquery.direct_jobs(move |job| JobScript {
        lasts: if is_single(job) {
            lasts
        } else {
            Duration::ZERO
        },
        ..JobScript::default()
    });
    Run::new(&rig, &simulator, TWO_DAYS).die_at(is_single).await;
    Run::new(&rig, &simulator, TWO_DAYS).succeed().await;
    assert_eq!(tables(&rig.jobs()), FIRST_TWO_AND_SINGLES);
    assert_whole(&rig);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outliving_full_load_wipes_nothing() {
    let simulator = simulator(|_| ()).await;
    let rig = Rig::new(&simulator);
    Run::new(&rig, &simulator, TWO_DAYS).succeed().await;
    let before = rig.jobs().len();
    rig.bigquery.direct_jobs(|job| JobScript {
        lasts: Duration::from_secs(if is_single(job) { 0 } else { 3 }),
        ..JobScript::default()
    });
    Run::new(&rig, &simulator, TWO_DAYS)
        .refresh()
        .die_at(|job| !is_single(job) && !job.succeeded())
        .await;
    // The next one is not told to refresh, and has a new day.
    Run {
        end: "2024-01-07",
        ..Run::new(&rig, &simulator, TWO_DAYS)
    }
    .succeed()
    .await;
    let jobs = rig.jobs()[before..].to_vec();
    let singles = [
        "dwh.rpm$20240103",
        "dwh.rpm$20240104",
        "dwh.rpm$20240105",
        "dwh.rpm$20240106",
    ];
    assert_eq!(
        (tables(&jobs[..1]), tables(&jobs[1..])),
        (vec!["dwh.rpm".into()], singles.map(String::from).to_vec())
    );
    let asked: Vec<String> = rig
        .bigquery
        .requests()
        .into_iter()
        .map(|request| format!("{} {}", request.method, request.target))
        .collect();
    let last_look = asked
        .iter()
        .rposition(|request| *request == format!("GET jobs/{}", jobs[0].id))
        .unwrap();
    for single in &jobs[1..] {
        let sent = asked
            .iter()
            .position(|request| *request == format!("POST jobs/{}", single.id))
            .unwrap();
        assert!(
            last_look < sent,
            "{} is sent while {} is at work",
            single.table,
            jobs[0].id
        );
    }
    assert_eq!(held(&rig.jobs()).len(), 6);
    // Another refresh is another job.
    Run {
        end: "2024-01-07",
        ..Run::new(&rig, &simulator, TWO_DAYS)
    }
    .refresh()
    .succeed()
    .await;
    assert_eq!(held(&rig.jobs()).len(), 6);
    assert_eq!(rig.jobs().iter().filter(|job| !is_single(job)).count(), 3);
}
