//! Runs in this process, and runs that are stopped halfway, with a checkpoint in their state.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use samsara_etl::catalog::Catalog;
use samsara_etl::config::Config;
use samsara_etl::events::{Event, Observer};
use samsara_etl::pipeline::Pipeline;
use samsara_etl::plan::{Dates, RunRequest, Selection, Stage};
use samsara_etl::report::RunReport;
use samsara_etl::state::SourceState;
use samsara_etl::store::layout::Partition;
use samsara_simulator::{LateData, Simulator};
use tokio_util::sync::CancellationToken;

use super::gate::{self, Turn};
use crate::program::{Program, impatient, simulator};
use crate::support::until;
use crate::truth::{compare, day};

/// The source that most of these tests read.
pub(crate) const TABLE: &str = "fleet_vehicle_stats_engineRpm";
/// Its endpoint.
pub(crate) const HISTORY: &str = "/fleet/vehicles/stats/history";

/// Checkpoints after every other page, and short waits.
pub(crate) fn config(program: &Program, url: &str, token: &str) -> Config {
    Config {
        checkpoint_pages: 2,
        ..impatient(program, url, token)
    }
}

/// One run in this process, over one day.
pub(crate) async fn run(
    config: Config,
    tables: &[&str],
    observers: Vec<Arc<dyn Observer>>,
    stop: &CancellationToken,
) -> RunReport {
    let end = "2024-01-02";
    run_until(end, config, tables, observers, stop).await
}

/// One run in this process, over one day of these tables, to its end.
pub(crate) async fn run_all(
    program: &Program,
    simulator: &Simulator,
    tables: &[&str],
) -> RunReport {
    let config = config(program, &simulator.url(), simulator.token());
    run(config, tables, vec![], &CancellationToken::new()).await
}

/// One run in this process, over the days from the first of the year to `end`.
pub(crate) async fn run_until(
    end: &str,
    config: Config,
    tables: &[&str],
    observers: Vec<Arc<dyn Observer>>,
    stop: &CancellationToken,
) -> RunReport {
    let catalog = Catalog::open(None).unwrap();
    let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
    let run_request = RunRequest {
        selection: Selection::of_names(&catalog, &names).unwrap(),
        dates: Dates::parse(Some("2024-01-01"), Some(end)).unwrap(),
        stages: [Stage::Extract, Stage::Transform, Stage::Load].into(),
        historical: false,
    };
    let pipeline = Pipeline::new(config, catalog).unwrap();
    let plan = pipeline.plan(run_request).await.unwrap();
    pipeline.run(plan, observers, stop.clone()).await.unwrap()
}

/// The state document of a source, if there is one.
pub(crate) fn state(program: &Program, source: &str) -> Option<SourceState> {
    let path = program
        .folder()
        .join(format!("samsara-data/raw/state/{source}.json"));
    std::fs::read(path)
        .ok()
        .map(|bytes| SourceState::from_json(&bytes, "state").unwrap())
}

/// Replaces the state document of a source.
pub(crate) fn put_state(program: &Program, source: &str, state: &SourceState) {
    program.write(
        &format!("samsara-data/raw/state/{source}.json"),
        state.to_json().unwrap(),
    );
}

/// The day that is read.
pub(crate) fn the_day() -> Partition {
    Partition::parse("2024-01-01").unwrap()
}

/// Stops the run as soon as the state holds what is looked for.
struct StopAt {
    endpoint: &'static str,
    state: Arc<Mark>,
    stop: CancellationToken,
}

/// A text that a state document is going to hold.
struct Mark {
    document: std::path::PathBuf,
    text: &'static str,
}

impl Mark {
    fn is_there(&self) -> bool {
        std::fs::read_to_string(&self.document).is_ok_and(|text| text.contains(self.text))
    }
}

impl Observer for StopAt {
    fn observe(&self, event: &Event) {
        let is_page = matches!(event, Event::PageFetched { endpoint, .. } if endpoint.starts_with(self.endpoint));
        if is_page && self.state.is_there() {
            self.stop.cancel();
        }
    }
}

/// Runs until the state of `tables[0]` holds `mark`, which it does after so many `pages` of `endpoint`, and another
/// page has come.
pub(crate) async fn stopped_at(
    program: &Program,
    simulator: &Simulator,
    tables: &[&str],
    (endpoint, pages): (&'static str, u64),
    text: &'static str,
) -> SourceState {
    let stop = CancellationToken::new();
    let document = program
        .folder()
        .join(format!("samsara-data/raw/state/{}.json", tables[0]));
    let mark = Arc::new(Mark { document, text });
    let observer = Arc::new(StopAt {
        endpoint,
        state: mark.clone(),
        stop: stop.clone(),
    });
    // Once one more page is requested after the checkpoint was stored, the run is stopped; other pages wait, so that
    // the run cannot finish before it is stopped.
    let asked = AtomicU64::new(0);
    let server = gate::before(simulator.url(), move |request| {
        if !request.uri().path().starts_with(endpoint) {
            return Turn::Through;
        }
        let mark = mark.clone();
        match asked.fetch_add(1, Ordering::SeqCst).cmp(&pages) {
            std::cmp::Ordering::Less => Turn::Through,
            std::cmp::Ordering::Equal => {
                Turn::After(Box::pin(async move { until(|| mark.is_there()).await }))
            }
            std::cmp::Ordering::Greater => Turn::After(Box::pin(std::future::pending())),
        }
    });
    let config = config(program, server.url(), simulator.token());
    // Feeds end with the requested days; all else is about the first of them.
    let end = if text == "\"feed\"" {
        "2024-02-01"
    } else {
        "2024-01-02"
    };
    let report = run_until(end, config, tables, vec![observer], &stop).await;
    assert!(report.cancelled, "{report}");
    simulator.clear_requests();
    state(program, tables[0]).unwrap()
}

/// A simulator with this many records on a page.
pub(crate) async fn in_pages_of(page_size: usize) -> Simulator {
    simulator(|config| config.page_size = Some(page_size)).await
}

/// One vehicle per page, and most readings of the day are not on the server yet.
pub(crate) async fn late() -> Simulator {
    simulator(|config| {
        config.page_size = Some(1);
        let withhold = Duration::from_secs(18 * 3600);
        config.late = Some(LateData {
            before: day("2024-01-02"),
            withhold,
        });
    })
    .await
}

/// A day of which some pages are stored and the rest was never requested.
pub(crate) async fn half_read(tables: &[&str]) -> (Simulator, Program, SourceState) {
    let simulator = in_pages_of(1).await;
    let program = Program::with_simulator(&simulator);
    let found = stopped_at(&program, &simulator, tables, (HISTORY, 2), "\"unfinished\"").await;
    let partition = found.partition(the_day()).unwrap();
    // Pages go by vehicle: the partial result is whole days of some vehicles, and no day is complete.
    let note = partition.checkpoint.as_ref().unwrap();
    assert!(
        partition.raw.is_none() && note.resume.as_ref().unwrap().pages >= 2,
        "{found:?}"
    );
    assert_eq!(found.complete().count(), 0);
    (simulator, program, found)
}

/// Checks that the tables have the day completely and once, and that no checkpoint is left.
pub(crate) async fn is_whole(program: &Program, simulator: &Simulator, tables: &[&str]) {
    for table in tables {
        compare(
            program,
            simulator.world(),
            table,
            day("2024-01-01"),
            day("2024-01-02"),
        )
        .await
        .unwrap();
    }
    let left = state(program, TABLE).unwrap();
    assert!(
        left.partition(the_day()).unwrap().checkpoint.is_none(),
        "{left:?}"
    );
    // Not even raw rows, which no SELECT DISTINCT has filtered, are duplicated.
    let rows = program
        .rows(&format!(
            "SELECT count(*) AS n, count(DISTINCT id) AS d FROM raw.{TABLE}"
        ))
        .await;
    assert!(
        rows[0]["n"] == rows[0]["d"] && rows[0]["n"].as_u64() > Some(0),
        "{rows:?}"
    );
}

/// Query and status of each request to [`HISTORY`].
pub(crate) fn pages(simulator: &Simulator) -> Vec<(String, u16)> {
    pages_of(simulator, HISTORY)
}

/// Checks that the history was requested from its beginning, without a stored cursor.
pub(crate) fn starts_over(simulator: &Simulator) {
    let asked = pages(simulator);
    assert!(
        !asked[0].0.contains("after=") && asked.iter().all(|(_, status)| *status == 200),
        "{asked:?}"
    );
}

/// Query and status of each request to an endpoint.
pub(crate) fn pages_of(simulator: &Simulator, endpoint: &str) -> Vec<(String, u16)> {
    let asked = simulator
        .requests()
        .into_iter()
        .filter(|request| request.path == endpoint);
    asked
        .map(|request| (request.query, request.status))
        .collect()
}
