//! Feeds, late data and trips in progress: what depends on the world's clock.

use std::time::Duration;

use super::super::LateData;
use super::*;

const FEED: &str = "/fleet/vehicles/stats/feed";
const AUDIT: &str = "/fleet/safety-events/audit-logs/feed";

fn points(records: &[Value]) -> usize {
    records
        .iter()
        .map(|record| record["gps"].as_array().map_or(0, Vec::len))
        .sum()
}

#[tokio::test]
async fn a_feed_starts_with_the_last_known_values() {
    let (day, next) = (at("2024-03-05T00:00:00Z"), at("2024-03-06T00:00:00Z"));
    let simulator = start(SimulatorConfig {
        vehicles: 20,
        now: Some(day),
        ..Default::default()
    })
    .await;
    let client = Client::new(&simulator);
    let cold = client.pages(FEED, &[("types", "gps")], "after").await;
    for page in &cold {
        for record in page.json()["data"].as_array().into_iter().flatten() {
            assert_eq!(record["gps"].as_array().map(Vec::len), Some(1));
        }
    }
    let cursor = cold.last().map(Reply::cursor).expect("a page");
    assert!(!cursor.is_empty());
    let quiet = client
        .get(FEED, &[("types", "gps"), ("after", &cursor)])
        .await;
    assert_eq!(
        (quiet.cursor(), quiet.has_next(), points(&[quiet.json()])),
        (cursor.clone(), false, 0)
    );

    simulator.set_now(next);
    let mut arrived = 0;
    let mut after = cursor;
    loop {
        let page = client
            .get(FEED, &[("types", "gps"), ("after", &after)])
            .await;
        arrived += points(page.json()["data"].as_array().expect("a list"));
        after = page.cursor();
        if !page.has_next() {
            break;
        }
    }
    let expected = simulator.world().vehicles.iter().map(|vehicle| {
        let gps = super::super::world::StatType::named("gps").expect("a statistic");
        simulator
            .world()
            .arrivals(
                vehicle,
                gps,
                day.timestamp_millis(),
                next.timestamp_millis(),
            )
            .len()
    });
    let expected: usize = expected.sum();
    assert!(expected > 0);
    assert_eq!(arrived, expected);
    assert_eq!(
        client
            .get(FEED, &[("types", "gps"), ("after", &after)])
            .await
            .cursor(),
        after
    );
}

#[tokio::test]
async fn the_audit_log_never_ends_and_repeats_its_last_cursor() {
    let now = at("2023-06-01T00:00:00Z");
    let simulator = start(SimulatorConfig {
        now: Some(now),
        page_size: Some(7),
        ..Default::default()
    })
    .await;
    let client = Client::new(&simulator);
    let from = ("startTime", "2023-05-01T00:00:00Z");
    let pages = client.pages(AUDIT, &[from], "after").await;
    assert!(pages.len() > 2);
    let cursor = pages.last().map(Reply::cursor).expect("a page");
    assert!(!cursor.is_empty());
    // With or without the parameter that opened the feed, but not with another one.
    for query in [
        vec![("after", cursor.as_str())],
        vec![from, ("after", cursor.as_str())],
    ] {
        let quiet = client.get(AUDIT, &query).await;
        assert_eq!((quiet.cursor(), quiet.has_next()), (cursor.clone(), false));
        assert_eq!(quiet.json()["data"], serde_json::json!([]));
    }
    let other = client
        .get(
            AUDIT,
            &[("startTime", "2023-05-02T00:00:00Z"), ("after", &cursor)],
        )
        .await;
    assert_eq!(other.status, 400);

    simulator.set_now(at("2023-06-20T00:00:00Z"));
    let mut ids = BTreeSet::new();
    let mut count = 0;
    let mut after = cursor;
    loop {
        let page = client.get(AUDIT, &[("after", &after)]).await;
        for log in page.json()["data"].as_array().into_iter().flatten() {
            count += 1;
            ids.insert(log["id"].to_string());
            assert!(
                log["time"]
                    .as_str()
                    .is_some_and(|time| time >= "2023-06-01"),
                "{log}"
            );
        }
        after = page.cursor();
        if !page.has_next() {
            break;
        }
    }
    let truth = simulator
        .world()
        .truth(
            "fleet_safety_events_audit_logs",
            now,
            at("2030-01-01T00:00:00Z"),
        )
        .expect("a table");
    assert_eq!((count, ids.len()), (truth.len(), truth.len()));
    assert!(count > 0);
}

#[tokio::test]
async fn withheld_readings_appear_when_released() {
    let (from, to) = (at("2024-01-01T00:00:00Z"), at("2024-01-02T00:00:00Z"));
    let late = Some(LateData {
        before: to,
        withhold: Duration::from_secs(8 * 3600),
    });
    let now = Some(at("2024-01-03T00:00:00Z"));
    let simulator = start(SimulatorConfig {
        late,
        now,
        ..Default::default()
    })
    .await;
    let client = Client::new(&simulator);
    let query = [
        ("types", "gps"),
        ("startTime", "2024-01-01T00:00:00Z"),
        ("endTime", "2024-01-02T00:00:00Z"),
    ];
    let cold = client.pages(FEED, &[("types", "gps")], "after").await;
    let cursor = cold.last().map(Reply::cursor).expect("a page");
    let before = points(
        &client
            .records("/fleet/vehicles/stats/history", &query)
            .await,
    );
    let truth_before = simulator
        .world()
        .truth("fleet_vehicle_stats_gps", from, to)
        .expect("a table")
        .len();
    simulator.release_late();
    let after = points(
        &client
            .records("/fleet/vehicles/stats/history", &query)
            .await,
    );
    let truth_after = simulator
        .world()
        .truth("fleet_vehicle_stats_gps", from, to)
        .expect("a table")
        .len();
    assert!(
        before < after && truth_before < truth_after,
        "{before} {after} {truth_before} {truth_after}"
    );
    let mut fed = 0;
    let mut cursor = cursor;
    loop {
        let page = client
            .get(FEED, &[("types", "gps"), ("after", &cursor)])
            .await;
        fed += points(page.json()["data"].as_array().expect("a list"));
        cursor = page.cursor();
        if !page.has_next() {
            break;
        }
    }
    assert_eq!(fed, after - before, "the feed brings what was withheld");
}

#[tokio::test]
async fn trips_overlap_the_window_and_may_be_under_way() {
    let simulator = start(SimulatorConfig {
        vehicles: 30,
        ..Default::default()
    })
    .await;
    let client = Client::new(&simulator);
    let day = at("2024-02-01T00:00:00Z").timestamp_millis();
    let trips = async |vehicle: &str, from: i64, to: i64| {
        let query = [
            ("vehicleId", vehicle),
            ("startMs", &from.to_string()),
            ("endMs", &to.to_string()),
        ];
        client.get("/v1/fleet/trips", &query).await.json()["trips"]
            .as_array()
            .cloned()
            .expect("a list")
    };
    let mut found = 0;
    for vehicle in simulator
        .world()
        .vehicles
        .iter()
        .map(|vehicle| vehicle.id.to_string())
    {
        let all = trips(&vehicle, day, day + 10 * 86_400_000).await;
        assert!(all.iter().all(|trip| trip.get("vehicleId").is_none()));
        for trip in all {
            let (start, end) = (
                trip["startMs"].as_i64().expect("a time"),
                trip["endMs"].as_i64().expect("a time"),
            );
            let middle = (start + end) / 2;
            assert_eq!(
                trips(&vehicle, middle, middle + 1).await,
                std::slice::from_ref(&trip)
            );
            assert!(
                trips(&vehicle, start - 1_000, start).await.contains(&trip),
                "the end is part of the window"
            );
            assert!(
                !trips(&vehicle, start - 1_000, start - 1)
                    .await
                    .contains(&trip)
            );
            found += 1;
            if found == 1 {
                simulator.set_now(DateTime::from_timestamp_millis(middle).expect("a time"));
                let open = trips(&vehicle, start, start).await;
                assert_eq!(open[0]["endMs"].as_i64(), Some(i64::MAX));
                // A trip in progress reaches into the future; only its start is known.
                assert_eq!(
                    trips(&vehicle, start + 86_400_000_000, start + 86_400_000_001).await,
                    open
                );
                simulator.set_now(DateTime::from_timestamp_millis(start - 1).expect("a time"));
                assert!(trips(&vehicle, start, start).await.is_empty());
                simulator.set_now(at("2030-01-01T00:00:00Z"));
            }
        }
        if found > 40 {
            break;
        }
    }
    assert!(found > 40);
}
