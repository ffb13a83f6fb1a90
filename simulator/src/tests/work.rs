//! What drivers do, as served and as the tables should have it.

use serde_json::json;

use super::super::Region;
use super::super::endpoints::KINDS;
use super::*;

const DAYS: (&str, &str) = ("2024-01-01T00:00:00Z", "2024-01-06T00:00:00Z");
const WINDOW: [(&str, &str); 2] = [("startTime", DAYS.0), ("endTime", DAYS.1)];

/// The dates of [`DAYS`], each with the next one.
const DATES: [(&str, &str); 5] = [
    ("2024-01-01", "2024-01-02"),
    ("2024-01-02", "2024-01-03"),
    ("2024-01-03", "2024-01-04"),
    ("2024-01-04", "2024-01-05"),
    ("2024-01-05", "2024-01-06"),
];

async fn world() -> Simulator {
    start(SimulatorConfig {
        vehicles: 14,
        ..Default::default()
    })
    .await
}

fn midnight(date: &str) -> String {
    format!("{date}T00:00:00Z")
}

/// The records of some day, with the day as the tables write it.
fn dated(date: &str, records: Vec<Value>) -> impl Iterator<Item = Value> + use<> {
    let date = table_time(&midnight(date).into());
    records.into_iter().map(move |mut record| {
        record["date"] = date.clone();
        record
    })
}

#[tokio::test]
async fn assignments_belong_to_the_day_of_their_start() {
    let simulator = start(SimulatorConfig {
        vehicles: 60,
        ..Default::default()
    })
    .await;
    let client = Client::new(&simulator);
    let path = "/fleet/driver-vehicle-assignments";
    let query = [("filterBy", "drivers"), WINDOW[0], WINDOW[1]];
    let pages = client.pages(path, &query, "after").await;
    assert!(pages.iter().all(|page| {
        page.json()["data"]
            .as_array()
            .is_none_or(|data| data.len() <= 50)
    }));
    let of_trips = client.records(path, &query).await;
    let other = client
        .records(path, &[("filterBy", "vehicles"), WINDOW[0], WINDOW[1]])
        .await;
    assert_eq!(of_trips, other);
    // Assignments outside trips are returned only to requests for their type.
    let mut records = Vec::new();
    for kind in KINDS {
        let query = [query[0], query[1], query[2], ("assignmentType", kind)];
        records.extend(client.records(path, &query).await);
    }
    assert!(of_trips.iter().all(|one| records.contains(one)) && of_trips.len() < records.len());
    let first = table_time(&DAYS.0.into());
    let starts_within = |one: &&Value| table_time(&one["startTime"]).as_str() >= first.as_str();
    let own: Vec<&Value> = records.iter().filter(starts_within).collect();
    assert!(
        own.len() < records.len(),
        "some overlap the start of the window"
    );
    assert!(own.iter().any(|one| one["assignedAtTime"] == ""));
    assert_served(&simulator, "driver_vehicle_assignments", DAYS, own, |_| {
        Row::new()
    });
}

#[tokio::test]
async fn documents_are_served_by_creation_or_change() {
    let simulator = start(SimulatorConfig {
        vehicles: 30,
        page_size: Some(3),
        ..Default::default()
    })
    .await;
    let client = Client::new(&simulator);
    let created = client.records("/fleet/documents", &WINDOW).await;
    assert_served(&simulator, "fleet_documents", DAYS, &created, |_| {
        Row::new()
    });
    let changed = client
        .records(
            "/fleet/documents",
            &[("queryBy", "updated"), WINDOW[0], WINDOW[1]],
        )
        .await;
    let time = |document: &Value| {
        table_time(
            document
                .get("updatedAtTime")
                .unwrap_or(&document["createdAtTime"]),
        )
    };
    let times: Vec<String> = changed
        .iter()
        .map(|document| time(document).to_string())
        .collect();
    assert!(times.is_sorted() && !times.is_empty(), "{times:?}");
    assert!(changed.iter().any(|document| !created.contains(document)));
}

#[tokio::test]
async fn daily_logs_follow_the_organisations_time_zone() {
    for region in [Region::Us, Region::Eu, Region::Ca] {
        let simulator = start(SimulatorConfig {
            vehicles: 14,
            region,
            ..Default::default()
        })
        .await;
        let client = Client::new(&simulator);
        let mut logs = Vec::new();
        for (date, _) in DATES {
            for status in ["active", "deactivated"] {
                let query = [
                    ("startDate", date),
                    ("endDate", date),
                    ("driverActivationStatus", status),
                    ("expand", "vehicle"),
                ];
                logs.extend(dated(
                    date,
                    client.records("/fleet/hos/daily-logs", &query).await,
                ));
            }
        }
        let early = logs
            .iter()
            .filter(|log| table_time(&log["startTime"]).as_str() < log["date"].as_str())
            .count();
        assert_eq!(
            early > 0,
            region == Region::Eu,
            "east of UTC a day starts on the one before"
        );
        assert_served(&simulator, "fleet_hos_daily_logs", DAYS, &logs, |_| {
            Row::new()
        });
    }
}

#[tokio::test]
async fn violations_and_clocks_are_all_served() {
    let simulator = world().await;
    let client = Client::new(&simulator);
    let bundles = client.records("/fleet/hos/violations", &WINDOW).await;
    assert!(bundles.iter().any(|bundle| {
        bundle["violations"]
            .as_array()
            .is_some_and(|list| list.len() > 1)
    }));
    let violations: Vec<&Value> = bundles
        .iter()
        .flat_map(|bundle| bundle["violations"].as_array().into_iter().flatten())
        .collect();
    assert_served(&simulator, "fleet_hos_violations", DAYS, violations, |_| {
        Row::new()
    });
    let clocks = client.records("/fleet/hos/clocks", &[]).await;
    assert_eq!(
        clocks.len(),
        simulator.world().drivers.len(),
        "active or not"
    );
    assert_served(&simulator, "fleet_hos_clocks", DAYS, &clocks, |_| {
        Row::new()
    });
}

#[tokio::test]
async fn reports_of_drivers_are_about_exactly_the_day() {
    let simulator = world().await;
    let client = Client::new(&simulator);
    let (mut fuel, mut efficiency) = (Vec::new(), Vec::new());
    for (date, next) in DATES {
        let (from, to) = (midnight(date), midnight(next));
        let path = "/fleet/reports/drivers/fuel-energy";
        for page in client
            .pages(path, &[("startDate", &from), ("endDate", &to)], "after")
            .await
        {
            let reports = page.json()["data"]["driverReports"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            fuel.extend(dated(date, reports));
        }
        for status in ["active", "deactivated"] {
            let query = [
                ("startTime", from.as_str()),
                ("endTime", &to),
                ("driverActivationStatus", status),
            ];
            for page in client
                .pages("/beta/fleet/drivers/efficiency", &query, "after")
                .await
            {
                let data = page.json()["data"].clone();
                assert_eq!(data["summaryStartTime"], json!(from));
                assert_eq!(data["summaryEndTime"], json!(to));
                efficiency.extend(dated(
                    date,
                    data["driverSummaries"].as_array().cloned().expect("a list"),
                ));
            }
        }
    }
    assert_served(&simulator, "fleet_drivers_fuel_energy", DAYS, &fuel, |_| {
        Row::new()
    });
    assert_served(
        &simulator,
        "fleet_drivers_efficiency",
        DAYS,
        &efficiency,
        |_| Row::new(),
    );
}
