//! Surfaces asked over HTTP, as a client would.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::{Row, Simulator, SimulatorConfig};

use crate::world::World;

const EXAMPLES: &str = include_str!("examples.txt");

/// A surface of the examples, which are not served.
fn example(name: &str) -> Surface {
    let surfaces = parse::surfaces(EXAMPLES).unwrap_or_else(|error| panic!("examples.txt:{error}"));
    surfaces
        .into_iter()
        .find(|surface| surface.name == name)
        .unwrap_or_else(|| panic!("{name}"))
}

fn world(now: &str) -> World {
    World::new(&SimulatorConfig {
        now: Some(now.parse().expect("a time")),
        ..SimulatorConfig::default()
    })
}

fn at(text: &str) -> Millis {
    text.parse::<chrono::DateTime<chrono::Utc>>()
        .expect("a time")
        .timestamp_millis()
}

const DAYS: [&str; 5] = [
    "2024-03-01T00:00:00Z",
    "2024-03-02T00:00:00Z",
    "2024-03-03T00:00:00Z",
    "2024-03-04T00:00:00Z",
    "2024-03-05T00:00:00Z",
];

#[test]
fn rows_of_days_add_up_to_rows_of_the_whole() {
    let world = world("2025-01-01T00:00:00Z");
    let examples = parse::surfaces(EXAMPLES).unwrap_or_else(|error| panic!("examples.txt:{error}"));
    let is_daily = |surface: &&Surface| {
        let is_monthly = matches!(surface.found.window, Some((.., Form::Month)));
        !is_monthly
            && !matches!(
                surface.population,
                Population::List { .. } | Population::Versions { .. }
            )
    };
    let mut count = 0;
    for surface in examples.iter().chain(SURFACES.iter()).filter(is_daily) {
        for table in &surface.tables {
            let rows = |from, to| surface.table_rows(&world, table, at(from), at(to));
            let sorted = |rows: &[Row]| {
                let mut rows: Vec<String> = rows
                    .iter()
                    .map(|row| Value::Object(row.clone()).to_string())
                    .collect();
                rows.sort();
                rows
            };
            let whole = rows(DAYS[0], DAYS[4]);
            let parts: Vec<Row> = DAYS
                .windows(2)
                .flat_map(|day| rows(day[0], day[1]))
                .collect();
            assert!(!whole.is_empty(), "{} is empty", table.name);
            assert_eq!(sorted(&whole), sorted(&parts), "{}", table.name);
            count += whole.len();
        }
    }
    assert!(count > 100, "{count}");
}

#[test]
fn a_version_replaces_the_one_before_and_keeps_its_birth() {
    let surface = example("cases");
    let table = &surface.tables[0];
    let rows = |now: &str| surface.table_rows(&world(now), table, at(DAYS[0]), at(DAYS[4]));
    let early = rows("2024-03-04T00:00:00Z");
    let late = rows("2024-06-01T00:00:00Z");
    assert!(late.len() >= early.len() && !early.is_empty());
    let mut changed = 0;
    for row in &early {
        let later = late
            .iter()
            .find(|later| later["id"] == row["id"])
            .expect("no case is lost");
        assert_eq!(
            later["createdAtTime"], row["createdAtTime"],
            "a birth never changes"
        );
        assert!(later["updatedAtTime"].as_str() >= row["updatedAtTime"].as_str());
        changed += usize::from(later["status"] != row["status"]);
    }
    assert!(changed > 0, "some cases go on");
    assert!(
        late.iter().any(|row| !row["deletedAtTime"].is_null()),
        "some are deleted"
    );
}

#[test]
fn an_interval_has_no_end_until_it_is_over() {
    let surface = example("logs");
    let rows =
        |now: &str| surface.table_rows(&world(now), &surface.tables[0], at(DAYS[0]), at(DAYS[2]));
    let open = |rows: &[Row]| rows.iter().filter(|row| row["endTime"].is_null()).count();
    let (during, after) = (rows("2024-03-02T23:59:59Z"), rows("2024-04-01T00:00:00Z"));
    assert_eq!(during.len(), after.len());
    assert!(
        open(&during) > open(&after),
        "{} {}",
        open(&during),
        open(&after)
    );
}

#[test]
fn a_report_of_two_days_is_not_the_sum_of_its_days() {
    let (world, surface) = (world("2025-01-01T00:00:00Z"), example("sums"));
    let rows = surface.table_rows(&world, &surface.tables[0], at(DAYS[0]), at(DAYS[2]));
    let days: BTreeSet<&str> = rows.iter().filter_map(|row| row["date"].as_str()).collect();
    assert_eq!(days, BTreeSet::from(["2024-03-01", "2024-03-02"]));
}

/// The records that a client gets from an endpoint.
async fn served(
    simulator: &Simulator,
    surface: &Surface,
    query: &[(String, String)],
) -> Vec<Value> {
    let http = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client");
    let mut records = Vec::new();
    let mut cursor: Option<String> = None;
    for _ in 0..10_000 {
        let mut query = query.to_vec();
        query.extend(
            cursor
                .take()
                .map(|cursor| (surface.pages.cursor.unwrap_or("after").to_owned(), cursor)),
        );
        let url = format!("{}{}", simulator.url(), surface.path);
        let answer = http
            .get(url)
            .query(&query)
            .bearer_auth(simulator.token())
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status().as_u16(), 200, "{}", surface.name);
        let body: Value = answer.json().await.expect("JSON");
        let found = surface
            .rows
            .iter()
            .fold(&body, |at, step| &at[step.as_str()]);
        match found {
            Value::Array(found) => records.extend(found.iter().cloned()),
            found => records.push(found.clone()),
        }
        if body["pagination"]["hasNextPage"] != true {
            return records;
        }
        cursor = body["pagination"]["endCursor"].as_str().map(str::to_owned);
    }
    panic!("{}: pages never end", surface.name);
}

/// What a client must request: the window, all ids of a thing that must be named.
fn query(simulator: &Simulator, surface: &Surface) -> Vec<(String, String)> {
    let mut query = Vec::new();
    if let Some((from, to, form)) = &surface.found.window {
        let write = |text: &str, inclusive: i64| match form {
            Form::Rfc3339 | Form::Month => text.to_owned(),
            Form::Millis => (at(text) - inclusive).to_string(),
            Form::Date => text[..10].to_owned(),
        };
        query.push((from.clone(), write(DAYS[0], 0)));
        let last = if *form == Form::Date {
            DAYS[3]
        } else {
            DAYS[4]
        };
        query.push((to.clone(), write(last, 1)));
    }
    for parameter in surface.asks.iter().filter(|parameter| parameter.required) {
        match &parameter.chooses {
            Chooses::Things(thing) => {
                let owners = simulator.world().owners(*thing);
                let ids: Vec<String> = owners.into_iter().map(|owner| owner.named.id).collect();
                query.push((parameter.name.clone(), ids.join(",")));
            }
            Chooses::Members => {
                let names: Vec<&str> = surface
                    .series()
                    .into_iter()
                    .take(parameter.most.unwrap_or(4))
                    .collect();
                query.push((parameter.name.clone(), names.join(",")));
            }
            Chooses::Objects => {
                let names: Vec<&str> = surface
                    .objects()
                    .into_iter()
                    .take(parameter.most.unwrap_or(4))
                    .collect();
                query.push((parameter.name.clone(), names.join(",")));
            }
            _ if query.iter().any(|(name, _)| *name == parameter.name) => {}
            // Values of a field are swept by the caller.
            _ => {}
        }
    }
    query
}

#[tokio::test]
async fn what_is_served_is_what_the_tables_hold() {
    let now = Some("2025-01-01T00:00:00Z".parse().expect("a time"));
    let config = SimulatorConfig {
        vehicles: 4,
        page_size: Some(3),
        now,
        ..SimulatorConfig::default()
    };
    let simulator = Simulator::start(config).await.expect("a simulator");
    for surface in SURFACES.iter() {
        let is_swept = |parameter: &Parameter| {
            parameter.required && matches!(parameter.chooses, Chooses::Field(_))
        };
        let is_of_one = surface.path.contains('{');
        if is_of_one
            || surface.each.is_some()
            || surface.found.by == Anchor::Arrived
            || surface.asks.iter().any(is_swept)
            || matches!(surface.population, Population::Report { .. })
        {
            continue;
        }
        let records = served(&simulator, surface, &query(&simulator, surface)).await;
        let unique: BTreeSet<String> = records.iter().map(Value::to_string).collect();
        assert_eq!(
            unique.len(),
            records.len(),
            "{}: a record comes twice",
            surface.name
        );
        // What overlaps the window, or changed in it, may have its row on another day.
        let same =
            matches!(surface.found.by, Anchor::All | Anchor::Start) && surface.series().is_empty();
        for table in surface
            .tables
            .iter()
            .filter(|table| same && table.of.is_empty())
        {
            let truth = surface.table_rows(simulator.world(), table, at(DAYS[0]), at(DAYS[4]));
            assert_eq!(records.len(), truth.len(), "{}", table.name);
            assert!(!truth.is_empty(), "{} is empty", table.name);
        }
    }
    assert!(
        simulator
            .world()
            .unknown_parameters(&simulator.requests())
            .is_empty()
    );
}

#[tokio::test]
async fn each_record_of_another_list_has_its_own() {
    let config = SimulatorConfig {
        vehicles: 4,
        ..SimulatorConfig::default()
    };
    let simulator = Simulator::start(config).await.expect("a simulator");
    let world = simulator.world();
    let (history, latest) = (
        Surface::named("readings_history"),
        Surface::named("readings_latest"),
    );
    let (history, latest) = (history.expect("a surface"), latest.expect("a surface"));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let window = [pair("startTime", DAYS[0]), pair("endTime", DAYS[4])];
    let (mut fed, mut listed) = (0, 0);
    for definition in history.each_of(world).into_iter().flatten() {
        let text = |field: &str| definition[field].as_str().expect("a text").to_owned();
        let of = |name: &str| {
            [
                pair(name, &text("readingId")),
                pair("entityType", &text("entityType")),
            ]
        };
        let query = [of("readingId").as_slice(), &window].concat();
        fed += served(&simulator, history, &query).await.len();
        let found = served(&simulator, latest, &of("readingIds")).await;
        assert!(
            found
                .iter()
                .all(|record| record["readingId"] == definition["readingId"])
        );
        listed += found.len();
    }
    let rows = |surface: &Surface| {
        let tables = surface.tables.iter();
        let rows = tables.map(|table| surface.table_rows(world, table, at(DAYS[0]), at(DAYS[4])));
        rows.map(|rows| rows.len()).collect::<Vec<_>>()
    };
    assert!(rows(history).iter().all(|rows| *rows > 0));
    assert_eq!(fed, rows(history).iter().sum::<usize>());
    assert_eq!(listed, rows(latest).iter().sum::<usize>());
}

#[tokio::test]
async fn a_list_tells_what_was_heard_of_lately() {
    let simulator = Simulator::start(SimulatorConfig::default())
        .await
        .expect("a simulator");
    let surface = Surface::named("fleet_tachograph_live_data").expect("a surface");
    let mut counts = Vec::new();
    for hours in [1, 25, 100] {
        let start = chrono::Utc::now() - chrono::TimeDelta::hours(hours);
        let query = [("startTime".to_owned(), start.to_rfc3339())];
        counts.push(served(&simulator, surface, &query).await.len());
    }
    let truth = surface.table_rows(simulator.world(), &surface.tables[0], 0, 0);
    assert_eq!(counts[1], truth.len());
    assert!(counts[0] < counts[1] && counts[1] < counts[2], "{counts:?}");
    let by_default = served(&simulator, surface, &[]).await;
    assert_eq!(by_default.len(), counts[0]);
}

#[tokio::test]
async fn unknown_parameters_are_passed_over_and_told() {
    let simulator = Simulator::start(SimulatorConfig::default())
        .await
        .expect("a simulator");
    let users = Surface::named("fleet_users").expect("a surface");
    served(&simulator, users, &[("limt".to_owned(), "5".to_owned())]).await;
    assert_eq!(
        simulator.world().unknown_parameters(&simulator.requests()),
        ["/users?limt"]
    );
}

#[test]
fn every_text_can_be_read() {
    for (file, text) in TEXTS {
        if let Err(error) = parse::surfaces(text) {
            panic!("{file}:{error}");
        }
    }
}

#[test]
fn names_paths_and_tables_are_unique() {
    let mut seen = BTreeSet::new();
    for surface in SURFACES.iter() {
        assert!(
            seen.insert(format!("name {}", surface.name)),
            "{}",
            surface.name
        );
        assert!(
            seen.insert(format!("path {}", surface.path)),
            "{}",
            surface.path
        );
        let tables: BTreeSet<&str> = surface
            .tables
            .iter()
            .map(|table| table.name.as_str())
            .collect();
        for table in tables {
            assert!(seen.insert(format!("table {table}")), "{table}");
        }
    }
}

#[tokio::test]
async fn a_feed_brings_each_record_once_and_goes_on() {
    let now: chrono::DateTime<chrono::Utc> = "2024-03-01T00:00:00Z".parse().expect("a time");
    let config = SimulatorConfig {
        vehicles: 6,
        page_size: Some(2),
        now: Some(now),
        ..SimulatorConfig::default()
    };
    let simulator = Simulator::start(config).await.expect("a simulator");
    let http = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client");
    let mut query = vec![("types".to_owned(), "engineRpm,fuelPercents".to_owned())];
    let mut fed = Vec::new();
    for hour in 0..6 {
        simulator.set_now(now + chrono::TimeDelta::hours(hour * 8));
        loop {
            let url = format!("{}/fleet/equipment/stats/feed", simulator.url());
            let answer = http
                .get(url)
                .query(&query)
                .bearer_auth(simulator.token())
                .send()
                .await
                .expect("an answer");
            let body: Value = answer.json().await.expect("JSON");
            for record in body["data"].as_array().into_iter().flatten() {
                for reading in record["engineRpm"].as_array().into_iter().flatten() {
                    fed.push(format!("{} {}", record["id"], reading["time"]));
                }
            }
            query.truncate(1);
            query.push((
                "after".to_owned(),
                body["pagination"]["endCursor"]
                    .as_str()
                    .expect("a cursor")
                    .to_owned(),
            ));
            if body["pagination"]["hasNextPage"] == false {
                break;
            }
        }
    }
    let stats = Surface::named("fleet_equipment_stats").expect("a surface");
    let table = stats
        .tables
        .iter()
        .find(|table| table.of == ["engineRpm"])
        .expect("a table");
    let truth = stats.table_rows(
        simulator.world(),
        table,
        at(DAYS[0]),
        at("2024-03-02T16:00:00Z") + 1,
    );
    let unique: BTreeSet<&String> = fed.iter().collect();
    assert_eq!(unique.len(), fed.len(), "a reading comes twice");
    assert_eq!(fed.len(), truth.len());
}
