//! The marts, compared with what follows from the simulated world's truth about their sources.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use samsara_etl::transform::QueryTable;
use samsara_simulator::World;
use serde_json::{Map, Value};

use crate::truth::local_rows;

type Row = Map<String, Value>;
/// By day (or nothing) and id, the measures that are not empty.
type Measures = BTreeMap<(String, String), BTreeMap<&'static str, f64>>;

/// Half of the last digit to which a mart is rounded, and of the values that it sums up.
const TOLERANCE: f64 = 0.011;

/// The truth about the sources of the marts.
struct Truth<'a> {
    world: &'a World,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
}

impl Truth<'_> {
    fn rows(&self, table: &str) -> Vec<Row> {
        self.world.truth(table, self.from, self.to).unwrap()
    }
}

fn text(row: &Row, column: &str) -> String {
    match row.get(column) {
        Some(Value::String(text)) => text.clone(),
        _ => String::new(),
    }
}

fn day_of(row: &Row, column: &str) -> String {
    text(row, column).chars().take(10).collect()
}

fn number(row: &Row, column: &str) -> Option<f64> {
    row.get(column)?.as_f64()
}

fn seconds(row: &Row, column: &str) -> Option<f64> {
    let at: DateTime<Utc> = text(row, column).parse().ok()?;
    Some(at.timestamp_micros() as f64 / 1e6)
}

fn add(into: &mut BTreeMap<&'static str, f64>, measure: &'static str, value: Option<f64>) {
    if let Some(value) = value {
        *into.entry(measure).or_default() += value;
    }
}

/// The same of the rows of a mart.
fn found(rows: &[Row], day: &str, id: &str, columns: &[&'static str]) -> Measures {
    let mut measures = Measures::new();
    for row in rows {
        let key = (text(row, day), text(row, id));
        let of_row = columns
            .iter()
            .filter_map(|it| Some((*it, number(row, it)?)));
        assert!(
            measures.insert(key, of_row.collect()).is_none(),
            "{row:?} is there twice"
        );
    }
    measures
}

fn compare(mart: &str, found: &Measures, expected: &Measures) -> Vec<String> {
    let keys: BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    let mut wrong = Vec::new();
    if expected.is_empty() {
        wrong.push(format!("{mart}: the world is too small for this test"));
    }
    for key in keys {
        let (Some(one), Some(other)) = (found.get(key), expected.get(key)) else {
            wrong.push(format!("{mart}: {key:?} is only in one of both"));
            continue;
        };
        let names: BTreeSet<_> = one.keys().chain(other.keys()).collect();
        for name in names {
            let (one, other) = (one.get(name), other.get(name));
            let is_same = match (one, other) {
                (Some(one), Some(other)) => {
                    (one - other).abs() <= TOLERANCE.max(other.abs() * 1e-6)
                }
                _ => false,
            };
            if !is_same {
                wrong.push(format!(
                    "{mart}: {key:?} {name}: {one:?}, {other:?} expected"
                ));
            }
        }
    }
    wrong.truncate(5);
    wrong
}

/// What of the marts is not what the truth comes to.
pub async fn wrong_marts(
    tables: &[QueryTable],
    world: &World,
    [from, to]: [DateTime<Utc>; 2],
) -> Vec<String> {
    let truth = Truth { world, from, to };
    let mut wrong = Vec::new();
    let vehicles = vehicle_days(&truth);
    let columns = [
        "trips",
        "trip_distance_km",
        "trip_hours",
        "distance_km",
        "engine_hours",
        "idle_hours",
        "fuel_l",
        "carbon_kg",
        "safety_events",
    ];
    let rows = local_rows(tables, "vehicle_daily").await;
    let of_rows = found(&rows, "day", "vehicle_id", &columns);
    wrong.extend(compare("vehicle_daily", &of_rows, &vehicles));
    // The whole is the sum of its parts, whichever way they are divided.
    let mut fleet = Measures::new();
    for ((day, _), measures) in &vehicles {
        let of_day = fleet.entry((day.clone(), String::new())).or_default();
        for (name, value) in measures.iter().filter(|(name, _)| **name != "trip_hours") {
            add(of_day, name, Some(*value));
        }
    }
    let columns = columns.map(|it| if it == "trip_hours" { "trips" } else { it });
    let rows = local_rows(tables, "fleet_daily").await;
    wrong.extend(compare(
        "fleet_daily",
        &found(&rows, "day", "", &columns),
        &fleet,
    ));

    let columns = [
        "trips",
        "distance_km",
        "driving_hours",
        "fuel_l",
        "violations",
        "safety_events",
    ];
    let rows = local_rows(tables, "driver_daily").await;
    let of_rows = found(&rows, "day", "driver_id", &columns);
    let mut drivers = driver_days(&truth);
    wrong.extend(compare("driver_daily", &of_rows, &drivers));
    drivers.retain(|(_, id), day| !id.is_empty() && day.get("distance_km") > Some(&0.0));
    for day in drivers.values_mut() {
        day.retain(|measure, _| ["distance_km", "safety_events"].contains(measure));
    }
    let rows = local_rows(tables, "safety_leaderboard").await;
    let of_rows = found(&rows, "day", "driver_id", &["distance_km", "safety_events"]);
    wrong.extend(compare("safety_leaderboard", &of_rows, &drivers));

    let rows = local_rows(tables, "trips_enriched").await;
    let of_rows = found(
        &rows,
        "start_time",
        "vehicle_id",
        &["distance_km", "fuel_l"],
    );
    let mut trips = Measures::new();
    for trip in truth.rows("fleet_trips") {
        let start: DateTime<Utc> = text(&trip, "startTime").parse().unwrap();
        let micros = start.timestamp_subsec_micros();
        let start = match micros {
            0 => start.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
            _ if micros.is_multiple_of(1000) => start.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
            _ => start.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
        };
        let of_trip = trips.entry((start, text(&trip, "vehicle_id"))).or_default();
        let meters = number(&trip, "distanceMeters");
        add(of_trip, "distance_km", meters.map(|it| it / 1e3));
        let fuel = number(&trip, "fuelConsumedMl");
        add(of_trip, "fuel_l", fuel.map(|it| it / 1e3));
    }
    wrong.extend(compare("trips_enriched", &of_rows, &trips));
    let names = names(&truth, "fleet_vehicles", "vehicle_id", "parc_id");
    let is_named =
        |row: &Row| names.get(&text(row, "vehicle_id")) == Some(&text(row, "vehicle_name"));
    if !rows.iter().all(is_named) {
        wrong.push("trips_enriched: vehicles have other names".into());
    }

    for (mart, id, of, of_id, tags) in [
        (
            "dim_vehicles",
            "vehicle_id",
            "fleet_vehicles",
            "vehicle_id",
            "fleet_tags_vehicles",
        ),
        (
            "dim_drivers",
            "driver_id",
            "fleet_drivers",
            "id",
            "fleet_tags_drivers",
        ),
    ] {
        let mut expected = Measures::new();
        for row in truth.rows(of) {
            let key = (String::new(), text(&row, of_id));
            expected.insert(key, BTreeMap::from([("tags", 0.0)]));
        }
        for row in truth.rows(tags) {
            let key = (String::new(), text(&row, id));
            if let Some(tagged) = expected.get_mut(&key) {
                add(tagged, "tags", Some(1.0));
            }
        }
        let rows = local_rows(tables, mart).await;
        wrong.extend(compare(mart, &found(&rows, "", id, &["tags"]), &expected));
    }
    let mut expected = Measures::new();
    for row in truth.rows("fleet_tags") {
        let members = BTreeMap::from([("vehicles", 0.0), ("drivers", 0.0)]);
        expected.insert((String::new(), text(&row, "tag_id")), members);
    }
    for (table, measure) in [
        ("fleet_tags_vehicles", "vehicles"),
        ("fleet_tags_drivers", "drivers"),
    ] {
        for row in truth.rows(table) {
            let key = (String::new(), text(&row, "tag_id"));
            add(expected.entry(key).or_default(), measure, Some(1.0));
        }
    }
    let rows = local_rows(tables, "dim_tags").await;
    let of_rows = found(&rows, "", "tag_id", &["vehicles", "drivers"]);
    wrong.extend(compare("dim_tags", &of_rows, &expected));

    // Each fix at an address is in one visit.
    let mut visits = [Measures::new(), Measures::new()];
    let fixes = truth.rows("fleet_vehicle_stats_gps");
    let rows = local_rows(tables, "geofence_visits").await;
    for (of, rows, at) in [(0, &rows, "arrival_time"), (1, &fixes, "time")] {
        for row in rows
            .iter()
            .filter(|row| !text(row, "address_id").is_empty())
        {
            let id = format!("{} {}", text(row, "vehicle_id"), text(row, "address_id"));
            let fixes = if of == 0 {
                number(row, "fixes")
            } else {
                Some(1.0)
            };
            add(
                visits[of].entry((day_of(row, at), id)).or_default(),
                "fixes",
                fixes,
            );
        }
    }
    wrong.extend(compare("geofence_visits", &visits[0], &visits[1]));

    let mut expected = Measures::new();
    for row in truth.rows("maintenance_preventive_upcoming") {
        let key = (text(&row, "schedule_id"), text(&row, "asset_id"));
        add(
            expected.entry(key).or_default(),
            "due_in_days",
            number(&row, "dueInDays"),
        );
    }
    let rows = local_rows(tables, "maintenance_due").await;
    let of_rows = found(&rows, "schedule_id", "asset_id", &["due_in_days"]);
    wrong.extend(compare("maintenance_due", &of_rows, &expected));

    let mut expected = Measures::new();
    for row in truth.rows("fleet_vehicle_idling") {
        let key = (day_of(&row, "startTime"), text(&row, "vehicle_id"));
        let idling = expected.entry(key).or_default();
        add(idling, "idling_events", Some(1.0));
        add(
            idling,
            "idle_hours",
            number(&row, "durationMs").map(|it| it / 3.6e6),
        );
        let fuel = number(&row, "fuelConsumptionMl");
        add(idling, "fuel_l", fuel.map(|it| it / 1e3));
    }
    let rows = local_rows(tables, "idling_cost").await;
    let columns = ["idling_events", "idle_hours", "fuel_l"];
    wrong.extend(compare(
        "idling_cost",
        &found(&rows, "day", "vehicle_id", &columns),
        &expected,
    ));

    let mut expected = Measures::new();
    for row in truth.rows("fleet_hos_daily_logs") {
        let key = (day_of(&row, "date"), text(&row, "driver_id"));
        let drive = number(&row, "dutyStatusDurations_driveDurationMs");
        add(
            expected.entry(key).or_default(),
            "driving_hours",
            drive.map(|it| it / 3.6e6),
        );
    }
    let rows = local_rows(tables, "hos_compliance").await;
    let of_rows = found(&rows, "day", "driver_id", &["driving_hours"]);
    wrong.extend(compare("hos_compliance", &of_rows, &expected));
    wrong.extend(wrong_quality(tables, &truth).await);
    wrong
}

/// What of the tiles of the dashboards is not what the truth comes to.
pub fn wrong_tiles(
    tiles: &BTreeMap<String, Vec<Row>>,
    world: &World,
    [from, to]: [DateTime<Utc>; 2],
) -> Vec<String> {
    let truth = Truth { world, from, to };
    let mut wrong = Vec::new();
    let mut expect = |tile: &str, measure: &str, found: Option<f64>, expected: f64, step: f64| {
        // Halves of the last digit shown, and of the digits of what it is the sum of.
        let is_same = found.is_some_and(|found| (found - expected).abs() <= step * 0.5 + 0.05);
        if !is_same {
            wrong.push(format!(
                "tile {tile}: {measure} {found:?}, {expected} expected"
            ));
        }
    };
    let (vehicles, drivers) = (vehicle_days(&truth), driver_days(&truth));
    let sum = |days: &Measures, measure: &str| -> f64 {
        let values = days.values().filter_map(|day| day.get(measure));
        values.sum()
    };
    let ids = |days: &Measures, measure: &str| {
        let with = days.iter().filter(|(_, it)| it.get(measure) > Some(&0.0));
        let ids: BTreeSet<&String> = with.map(|((_, id), _)| id).collect();
        ids.iter().filter(|id| !id.is_empty()).count() as f64
    };

    let fleet = &tiles["fleet"][0];
    let (fuel, km) = (sum(&vehicles, "fuel_l"), sum(&vehicles, "distance_km"));
    for (measure, expected, step) in [
        ("active_vehicles", ids(&vehicles, "trips"), 0.0),
        ("trips", sum(&vehicles, "trips"), 0.0),
        ("distance_km", km, 1.0),
        ("engine_hours", sum(&vehicles, "engine_hours"), 1.0),
        ("fuel_l", fuel, 1.0),
        ("fuel_l_per_100_km", 100.0 * fuel / km, 0.1),
        ("carbon_kg", sum(&vehicles, "carbon_kg"), 1.0),
    ] {
        expect("fleet", measure, number(fleet, measure), expected, step);
    }
    let safety = &tiles["safety"][0];
    let (events, km) = (sum(&drivers, "safety_events"), sum(&drivers, "distance_km"));
    for (measure, expected, step) in [
        ("drivers", ids(&drivers, "trips"), 0.0),
        ("safety_events", events, 0.0),
        ("safety_events_per_1000_km", 1000.0 * events / km, 0.01),
        ("distance_km", km, 1.0),
        ("violations", sum(&drivers, "violations"), 0.0),
    ] {
        expect("safety", measure, number(safety, measure), expected, step);
    }
    let logs = truth.rows("fleet_hos_daily_logs");
    let hours = &tiles["hours_of_service"][0];
    let driving = logs
        .iter()
        .filter_map(|log| number(log, "dutyStatusDurations_driveDurationMs"));
    let driving = driving.sum::<f64>() / 3.6e6;
    for (measure, expected, step) in [
        ("daily_logs", logs.len() as f64, 0.0),
        ("driving_hours", driving, 1.0),
    ] {
        let found = number(hours, measure);
        expect("hours_of_service", measure, found, expected, step);
    }
    // By day, by vehicle, by status: the parts are as many as there are, and come to the whole.
    let days = (to - from).num_days() as usize;
    let column = |tile: &str, column: &str| -> f64 {
        tiles[tile]
            .iter()
            .filter_map(|row| number(row, column))
            .sum()
    };
    let tenths = days as f64 * 0.1;
    for (tile, measure, expected, step) in [
        (
            "distance",
            "distance_km",
            sum(&vehicles, "distance_km"),
            tenths,
        ),
        (
            "safety_events",
            "safety_events",
            sum(&vehicles, "safety_events"),
            0.0,
        ),
        ("duty_hours", "driving_hours", driving, tenths),
    ] {
        expect(
            tile,
            "days",
            Some(tiles[tile].len() as f64),
            days as f64,
            0.0,
        );
        expect(tile, measure, Some(column(tile, measure)), expected, step);
    }
    let services = truth.rows("maintenance_preventive_upcoming").len() as f64;
    let found = Some(column("maintenance_status", "services"));
    expect("maintenance_status", "services", found, services, 0.0);
    let ranked: BTreeSet<String> = drivers
        .iter()
        .filter(|((_, id), day)| !id.is_empty() && day.get("distance_km") > Some(&0.0))
        .map(|((_, id), _)| id.clone())
        .collect();
    let found = Some(tiles["leaderboard"].len() as f64);
    expect(
        "leaderboard",
        "drivers",
        found,
        ranked.len().min(50) as f64,
        0.0,
    );
    let mut cost = BTreeMap::<String, f64>::new();
    for row in truth.rows("fleet_vehicle_idling") {
        let fuel = number(&row, "fuelConsumptionMl").unwrap_or_default();
        *cost.entry(text(&row, "vehicle_id")).or_default() += fuel / 1e3 * 1.5;
    }
    let mut cost: Vec<f64> = cost.into_values().collect();
    cost.sort_by(f64::total_cmp);
    let most: f64 = cost.iter().rev().take(15).sum();
    let found = Some(column("idling_cost", "cost"));
    expect(
        "idling_cost",
        "cost",
        found,
        most,
        15.0 * 0.01 * days as f64,
    );
    wrong
}

/// Rows of each table and day, also where there are none.
async fn wrong_quality(tables: &[QueryTable], truth: &Truth<'_>) -> Vec<String> {
    let counted = [
        "fleet_trips",
        "fleet_vehicles_fuel_energy",
        "fleet_safety_events",
    ];
    let mut expected = Measures::new();
    let last = truth.to.date_naive();
    let days = truth.from.date_naive().iter_days();
    for day in days.take_while(|day| *day < last) {
        for table in counted {
            let zero = BTreeMap::from([("row_count", 0.0)]);
            expected.insert((day.to_string(), table.to_string()), zero);
        }
    }
    let mut seen = BTreeSet::new();
    for (table, time) in counted.into_iter().zip(["startTime", "date", "time"]) {
        for row in truth.rows(table) {
            // The table of safety events has a row for each label.
            let event = text(&row, "event_id");
            if !event.is_empty() && !seen.insert(event) {
                continue;
            }
            let key = (day_of(&row, time), table.to_string());
            add(expected.entry(key).or_default(), "row_count", Some(1.0));
        }
    }
    let mut rows = local_rows(tables, "data_quality").await;
    rows.retain(|row| counted.contains(&text(row, "table_name").as_str()));
    let of_rows = found(&rows, "day", "table_name", &["row_count"]);
    compare("data_quality", &of_rows, &expected)
}

/// Differences between the monthly fuel table and the truth about its days.
pub async fn wrong_months(
    tables: &[QueryTable],
    world: &World,
    [from, to]: [DateTime<Utc>; 2],
) -> Vec<String> {
    let truth = Truth { world, from, to };
    let mut expected = Measures::new();
    let mut days = BTreeSet::new();
    for report in truth.rows("fleet_vehicles_fuel_energy") {
        let vehicle = text(&report, "vehicle_id");
        let key = (from.date_naive().to_string(), vehicle.clone());
        let of_month = expected.entry(key).or_default();
        for (measure, column, unit) in [
            ("distance_km", "distanceTraveledMeters", 1e3),
            ("engine_hours", "engineRunTimeDurationMs", 3.6e6),
            ("idle_hours", "engineIdleTimeDurationMs", 3.6e6),
            ("fuel_l", "fuelConsumedMl", 1e3),
            ("carbon_kg", "estCarbonEmissionsKg", 1.0),
        ] {
            add(
                of_month,
                measure,
                number(&report, column).map(|it| it / unit),
            );
        }
        let is_new = days.insert((vehicle, day_of(&report, "date")));
        add(of_month, "days", Some(f64::from(u8::from(is_new))));
    }
    let columns = [
        "distance_km",
        "engine_hours",
        "idle_hours",
        "fuel_l",
        "carbon_kg",
        "days",
    ];
    let rows = local_rows(tables, "fuel_monthly").await;
    compare(
        "fuel_monthly",
        &found(&rows, "month", "vehicle_id", &columns),
        &expected,
    )
}

fn names(truth: &Truth<'_>, table: &str, id: &str, name: &str) -> BTreeMap<String, String> {
    let rows = truth.rows(table);
    rows.iter()
        .map(|row| (text(row, id), text(row, name)))
        .collect()
}

/// Safety events once each, by day and what a column names.
fn add_safety(truth: &Truth<'_>, column: &str, days: &mut Measures) {
    let events: BTreeSet<_> = truth
        .rows("fleet_safety_events")
        .iter()
        .map(|row| {
            (
                text(row, "event_id"),
                day_of(row, "time"),
                text(row, column),
            )
        })
        .collect();
    for (_, day, id) in events {
        add(
            days.entry((day, id)).or_default(),
            "safety_events",
            Some(1.0),
        );
    }
}

/// Counts are 0 where there is nothing.
fn with_zeros(mut days: Measures, counts: &[&'static str]) -> Measures {
    for measures in days.values_mut() {
        counts
            .iter()
            .for_each(|count| add(measures, count, Some(0.0)));
    }
    days
}

fn vehicle_days(truth: &Truth<'_>) -> Measures {
    let mut days = Measures::new();
    for trip in truth.rows("fleet_trips") {
        let key = (day_of(&trip, "startTime"), text(&trip, "vehicle_id"));
        let day = days.entry(key).or_default();
        add(day, "trips", Some(1.0));
        let meters = number(&trip, "distanceMeters");
        add(day, "trip_distance_km", meters.map(|it| it / 1e3));
        let hours = seconds(&trip, "endTime").zip(seconds(&trip, "startTime"));
        add(
            day,
            "trip_hours",
            hours.map(|(end, start)| (end - start) / 3600.0),
        );
    }
    for report in truth.rows("fleet_vehicles_fuel_energy") {
        let key = (day_of(&report, "date"), text(&report, "vehicle_id"));
        let day = days.entry(key).or_default();
        for (measure, column, unit) in [
            ("distance_km", "distanceTraveledMeters", 1e3),
            ("engine_hours", "engineRunTimeDurationMs", 3.6e6),
            ("idle_hours", "engineIdleTimeDurationMs", 3.6e6),
            ("fuel_l", "fuelConsumedMl", 1e3),
            ("carbon_kg", "estCarbonEmissionsKg", 1.0),
        ] {
            add(day, measure, number(&report, column).map(|it| it / unit));
        }
    }
    add_safety(truth, "vehicle_id", &mut days);
    with_zeros(days, &["trips", "safety_events"])
}

fn driver_days(truth: &Truth<'_>) -> Measures {
    let mut days = Measures::new();
    for trip in truth.rows("fleet_trips") {
        let key = (day_of(&trip, "startTime"), text(&trip, "driver_id"));
        let day = days.entry(key).or_default();
        add(day, "trips", Some(1.0));
        let meters = number(&trip, "distanceMeters");
        add(day, "distance_km", meters.map(|it| it / 1e3));
    }
    for (table, column, measure, unit) in [
        ("fleet_drivers_fuel_energy", "fuelConsumedMl", "fuel_l", 1e3),
        (
            "fleet_hos_daily_logs",
            "dutyStatusDurations_driveDurationMs",
            "driving_hours",
            3.6e6,
        ),
    ] {
        for row in truth.rows(table) {
            let key = (day_of(&row, "date"), text(&row, "driver_id"));
            let value = number(&row, column).map(|it| it / unit);
            add(days.entry(key).or_default(), measure, value);
        }
    }
    for row in truth.rows("fleet_hos_violations") {
        let key = (day_of(&row, "violationStartTime"), text(&row, "driver_id"));
        add(days.entry(key).or_default(), "violations", Some(1.0));
    }
    add_safety(truth, "driver_id", &mut days);
    with_zeros(days, &["trips", "violations", "safety_events"])
}
