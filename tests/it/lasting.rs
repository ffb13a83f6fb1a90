//! Rows that last: they get their end, however late it comes, and days without changes are not read again.

use std::collections::BTreeSet;

use chrono::{Days, NaiveDate, Utc};
use samsara_etl::catalog::Catalog;
use samsara_etl::pipeline::Pipeline;
use samsara_etl::plan::{Dates, RunRequest, Selection, Stage};
use samsara_etl::report::RunReport;
use samsara_simulator::{Simulator, SimulatorConfig};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::program::{Program, impatient, replay};
use crate::rerun::family_files;

const ASSIGNMENTS: &str = "driver_vehicle_assignments";
const TRIPS: &str = "fleet_trips";

/// Days ago and time of day.
type Moment<'a> = (u64, &'a str);
/// Start and end of a row.
type Interval<'a> = (Moment<'a>, Option<Moment<'a>>);

/// An API with recorded pages, and a program that asks it.
struct Api {
    program: Program,
    simulator: Simulator,
    today: NaiveDate,
}

impl Api {
    async fn new() -> Self {
        let program = Program::new();
        let page = json!({"data": [{"id": "42", "name": "Truck"}], "pagination": {"endCursor": "", "hasNextPage": false}});
        program.write("pages/fleet/vehicles/0001.json", page.to_string());
        let pages_dir = Some(program.folder().join("pages"));
        let simulator = Simulator::start(SimulatorConfig {
            pages_dir,
            ..SimulatorConfig::default()
        })
        .await
        .unwrap();
        Self {
            program,
            simulator,
            today: Utc::now().date_naive(),
        }
    }

    fn day(&self, ago: u64) -> NaiveDate {
        self.today - Days::new(ago)
    }

    /// `08:00:00` of this many days ago.
    fn at(&self, ago: u64, time: &str) -> String {
        format!("{}T{time}Z", self.day(ago))
    }

    fn assignment(&self, driver: u64, (ago, time): Moment<'_>, end: Option<Moment<'_>>) -> Value {
        let mut row = json!({
            "driver": {"id": driver.to_string(), "name": "D"},
            "vehicle": {"id": "42", "name": "Truck"},
            "assignmentType": "static",
            "isPassenger": false,
            "startTime": self.at(ago, time),
        });
        if let Some((ago, time)) = end {
            row["endTime"] = self.at(ago, time).into();
        }
        row
    }

    fn trip(&self, (ago, time): Moment<'_>, end: Option<Moment<'_>>) -> Value {
        let millis = |ago, time| {
            self.at(ago, time)
                .parse::<chrono::DateTime<Utc>>()
                .unwrap()
                .timestamp_millis()
        };
        json!({"startMs": millis(ago, time), "endMs": end.map_or(i64::MAX, |(ago, time)| millis(ago, time))})
    }

    /// What is answered from now on, whatever is asked.
    fn answer(&self, table: &str, rows: &[Value]) {
        let (path, page) = match table {
            TRIPS => ("v1/fleet/trips", json!({ "trips": rows })),
            _ => (
                "fleet/driver-vehicle-assignments",
                json!({"data": rows, "pagination": {"endCursor": "", "hasNextPage": false}}),
            ),
        };
        self.program
            .write(&format!("pages/{path}/0001.json"), page.to_string());
    }

    /// One run in this process over the days from this many days ago on.
    async fn report(&self, table: &str, from: u64, checkpoint_pages: u64) -> RunReport {
        self.simulator.clear_requests();
        let mut config = impatient(&self.program, &self.simulator.url(), self.simulator.token());
        config.checkpoint_pages = checkpoint_pages;
        // At the documented rate, the sweeps would take most of the test's time.
        let quick = |(path, text): (String, String)| (path, text.replace("\"5/s\"", "\"150/s\""));
        let files = family_files(&[
            "assets",
            "driver_vehicle_assignments",
            "drivers",
            "trips",
            "vehicles",
        ]);
        let files: Vec<(String, String)> = files.into_iter().map(quick).collect();
        let catalog = Catalog::from_files("test", &files).unwrap();
        let run_request = RunRequest {
            selection: Selection::of_names(&catalog, &[table.to_string()]).unwrap(),
            dates: Dates {
                start: Some(self.day(from)),
                end: Some(self.today),
            },
            stages: [Stage::Extract, Stage::Transform, Stage::Load].into(),
            historical: false,
        };
        let pipeline = Pipeline::new(config, catalog).unwrap();
        let plan = pipeline.plan(run_request).await.unwrap();
        pipeline
            .run(plan, Vec::new(), CancellationToken::new())
            .await
            .unwrap()
    }

    /// The same, without failures; returns the requested days, as numbers of days ago.
    async fn run(&self, table: &str, from: u64) -> BTreeSet<u64> {
        let report = self.report(table, from, 50).await;
        assert!(report.failures.is_empty(), "{:?}", report.failures);
        self.asked()
    }

    fn asked(&self) -> BTreeSet<u64> {
        let mut asked = BTreeSet::new();
        for request in self.simulator.requests() {
            let query: Vec<(String, String)> =
                url::form_urlencoded::parse(request.query.as_bytes())
                    .into_owned()
                    .collect();
            let instant = |names: [&str; 2]| {
                let (_, value) = query
                    .iter()
                    .find(|(name, _)| names.contains(&name.as_str()))?;
                let millis = value
                    .parse()
                    .ok()
                    .and_then(chrono::DateTime::from_timestamp_millis);
                millis.or_else(|| value.parse::<chrono::DateTime<Utc>>().ok())
            };
            let (Some(start), Some(end)) = (
                instant(["startTime", "startMs"]),
                instant(["endTime", "endMs"]),
            ) else {
                continue;
            };
            let days = start
                .date_naive()
                .iter_days()
                .take_while(|day| day.and_time(chrono::NaiveTime::MIN).and_utc() < end);
            asked.extend(days.map(|day| (self.today - day).num_days() as u64));
        }
        asked
    }

    /// The ends in a table, by start.
    async fn ends(&self, table: &str) -> Vec<(String, Option<String>)> {
        let rows = self
            .program
            .rows(&format!("SELECT startTime, endTime FROM {table}"))
            .await;
        let text = |value: &Value| value.as_str().map(|text| text[..19].to_string());
        let ends = rows.iter().map(|row| {
            (
                text(&row["startTime"]).unwrap(),
                row.get("endTime").and_then(text),
            )
        });
        let mut ends: Vec<_> = ends.collect();
        ends.sort();
        ends
    }

    /// The same, as it should be.
    fn expected(&self, rows: &[Interval<'_>]) -> Vec<(String, Option<String>)> {
        let text = |(ago, time): Moment<'_>| self.at(ago, time)[..19].to_string();
        let mut rows: Vec<_> = rows
            .iter()
            .map(|(start, end)| (text(*start), end.map(text)))
            .collect();
        rows.sort();
        rows
    }

    /// Whether midnight has passed meanwhile: then the days are not the intended ones.
    fn is_over(&self) -> bool {
        Utc::now().date_naive() != self.today
    }
}

/// The days of a week are read in each run.
fn week_and(more: &[u64]) -> BTreeSet<u64> {
    (1..=7).chain(more.iter().copied()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn assignments_get_their_end_by_daily_runs() {
    let api = Api::new().await;
    let (short, ten, forty) = ((10, "09:00:00"), (10, "08:00:00"), (40, "08:00:00"));
    let first = [
        api.assignment(1, short, Some((10, "10:00:00"))),
        api.assignment(2, ten, None),
        // At the same time as another one that has ended.
        api.assignment(3, forty, Some((40, "12:00:00"))),
        api.assignment(4, forty, None),
    ];
    api.answer(ASSIGNMENTS, &first);
    api.run(ASSIGNMENTS, 45).await;
    let before = [
        (short, Some((10, "10:00:00"))),
        (ten, None),
        (forty, Some((40, "12:00:00"))),
        (forty, None),
    ];
    assert_eq!(api.ends(ASSIGNMENTS).await, api.expected(&before));

    // A day is read again while one of its rows lasts, for thirty days; the older row keeps none open.
    for _ in 0..2 {
        assert!(api.run(ASSIGNMENTS, 45).await == week_and(&[10]) || api.is_over());
    }
    assert_eq!(api.ends(ASSIGNMENTS).await, api.expected(&before));

    // Both end, and a row appears that was not known, though its day had long been final.
    let late = (20, "08:00:00");
    let second = [
        first[0].clone(),
        api.assignment(2, ten, Some((1, "11:00:00"))),
        first[2].clone(),
        api.assignment(4, forty, Some((1, "12:00:00"))),
        api.assignment(5, late, Some((2, "06:00:00"))),
    ];
    api.answer(ASSIGNMENTS, &second);
    assert!(api.run(ASSIGNMENTS, 45).await == week_and(&[10, 20, 40]) || api.is_over());
    let mut after = [
        before[0],
        (ten, Some((1, "11:00:00"))),
        before[2],
        (forty, Some((1, "12:00:00"))),
        (late, Some((2, "06:00:00"))),
    ];
    assert_eq!(api.ends(ASSIGNMENTS).await, api.expected(&after));

    // One more read was enough, also if an end differs a little each time. A different end is a change.
    let moved = |end| [&second[..4], &[api.assignment(5, late, Some(end))]].concat();
    let (drifted, other) = (moved((2, "06:00:00.007")), moved((1, "06:00:00")));
    for (rows, more) in [
        (&second[..], &[][..]),
        (&drifted, &[]),
        (&other, &[20]),
        (&other, &[]),
    ] {
        api.answer(ASSIGNMENTS, rows);
        assert!(api.run(ASSIGNMENTS, 45).await == week_and(more) || api.is_over());
    }
    after[4].1 = Some((1, "06:00:00"));
    assert_eq!(api.ends(ASSIGNMENTS).await, api.expected(&after));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trip_gets_its_end() {
    let api = Api::new().await;
    let (ten, forty) = ((10, "23:00:00"), (40, "23:00:00"));
    api.answer(TRIPS, &[api.trip(ten, None), api.trip(forty, None)]);
    api.run(TRIPS, 45).await;
    assert_eq!(
        api.ends(TRIPS).await,
        api.expected(&[(ten, None), (forty, None)])
    );
    assert!(api.run(TRIPS, 45).await == week_and(&[10]) || api.is_over());

    api.answer(
        TRIPS,
        &[
            api.trip(ten, Some((1, "01:00:00"))),
            api.trip(forty, Some((1, "02:00:00"))),
        ],
    );
    assert!(api.run(TRIPS, 7).await == week_and(&[]) || api.is_over());
    assert_eq!(
        api.ends(TRIPS).await,
        api.expected(&[(ten, None), (forty, None)])
    );
    assert!(api.run(TRIPS, 45).await == week_and(&[10, 40]) || api.is_over());
    let after = api.expected(&[(ten, Some((1, "01:00:00"))), (forty, Some((1, "02:00:00")))]);
    assert_eq!(api.ends(TRIPS).await, after);
    assert!(api.run(TRIPS, 45).await == week_and(&[]) || api.is_over());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_task_knows_the_open_rows_seen() {
    let api = Api::new().await;
    let forty = (40, "08:00:00");
    api.answer(ASSIGNMENTS, &[api.assignment(4, forty, None)]);
    api.run(ASSIGNMENTS, 45).await;

    // Only the first of two pages has the end, and only in the plain request.
    let pages = "pages/fleet/driver-vehicle-assignments";
    let page = |rows: &[Value], cursor: &str| {
        json!({"data": rows, "pagination": {"endCursor": cursor, "hasNextPage": !cursor.is_empty()}}).to_string()
    };
    let catalog = Catalog::open(None).unwrap();
    let sweep = catalog.source(ASSIGNMENTS).unwrap().sweep.clone().unwrap();
    for value in sweep.values.iter().filter(|value| !value.is_empty()) {
        api.program.write(
            &format!("{pages}/assignmentType={value}/0001.json"),
            page(&[], ""),
        );
    }
    let api = Api {
        simulator: replay(&api.program.folder().join("pages")).await,
        ..api
    };
    api.program.write(
        &format!("{pages}/0001.json"),
        page(&[api.assignment(4, forty, Some((1, "12:00:00")))], "c"),
    );
    api.program.write(&format!("{pages}/0002.json"), "<html>");
    assert_eq!(api.report(ASSIGNMENTS, 3, 1).await.failures.len(), 1);
    api.program
        .write(&format!("{pages}/0002.json"), page(&[], ""));
    assert!(api.report(ASSIGNMENTS, 3, 1).await.failures.is_empty());
    let plain = |query: &str| !query.contains("assignmentType") && query.contains("startTime");
    let plain: Vec<String> = api
        .simulator
        .requests()
        .into_iter()
        .map(|it| it.query)
        .filter(|it| plain(it))
        .collect();
    assert!(
        plain.len() == 1 && plain[0].contains("after=c"),
        "{plain:?}"
    );
    let asked = api.run(ASSIGNMENTS, 45).await;
    assert!(asked.contains(&40) || api.is_over(), "{asked:?}");
    assert_eq!(
        api.ends(ASSIGNMENTS).await,
        api.expected(&[(forty, Some((1, "12:00:00")))])
    );
}
