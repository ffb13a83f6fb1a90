//! Safety, idling and statistics, as served and as the tables should have them.

use super::*;

const DAYS: (&str, &str) = ("2024-01-01T00:00:00Z", "2024-01-04T00:00:00Z");
const WINDOW: [(&str, &str); 2] = [("startTime", DAYS.0), ("endTime", DAYS.1)];
const DAY: i64 = 86_400_000;

async fn world() -> Simulator {
    start(SimulatorConfig {
        vehicles: 14,
        ..Default::default()
    })
    .await
}

#[tokio::test]
async fn safety_events_have_a_row_for_each_label() {
    let simulator = world().await;
    let events = Client::new(&simulator)
        .records(
            "/fleet/safety-events",
            &[("limit", "9"), WINDOW[0], WINDOW[1]],
        )
        .await;
    assert!(
        events
            .iter()
            .any(|event| event.get("behaviorLabels").is_none())
    );
    assert!(events.iter().any(|event| {
        event["behaviorLabels"]
            .as_array()
            .is_some_and(Vec::is_empty)
    }));
    let mut labels = Vec::new();
    for event in &events {
        let of_event = event["behaviorLabels"]
            .as_array()
            .filter(|labels| !labels.is_empty());
        for label in of_event.unwrap_or(&vec![Value::Null]) {
            let mut record = event.clone();
            record["behavior"] = label.clone();
            labels.push(record);
        }
    }
    assert_served(&simulator, "fleet_safety_events", DAYS, &labels, |event| {
        row([("event_id", event["id"].clone())])
    });
}

#[tokio::test]
async fn every_vehicle_has_a_score_for_each_day() {
    let simulator = world().await;
    let client = Client::new(&simulator);
    let first = at(DAYS.0).timestamp_millis();
    let mut scores = Vec::new();
    let mut harsh = 0;
    for vehicle in simulator
        .world()
        .vehicles
        .iter()
        .map(|vehicle| vehicle.id.to_string())
    {
        let path = format!("/v1/fleet/vehicles/{vehicle}/safety/score");
        for day in [first, first + DAY, first + 2 * DAY] {
            let query = [
                ("startMs", day.to_string()),
                ("endMs", (day + DAY - 1).to_string()),
            ];
            let query = query
                .each_ref()
                .map(|(name, value)| (*name, value.as_str()));
            let mut score = client.get(&path, &query).await.json();
            assert_eq!(score["vehicleId"].to_string(), vehicle);
            let events = score["harshEvents"].as_array().expect("a list");
            assert_eq!(score["totalHarshEventCount"], events.len());
            assert!(events.iter().all(|event| {
                event["timestampMs"]
                    .as_i64()
                    .is_some_and(|at| at / DAY == day / DAY)
            }));
            harsh += events.len();
            score["date"] = table_millis(&day.into());
            scores.push(score);
        }
    }
    assert!(harsh > 0);
    assert_served(
        &simulator,
        "fleet_vehicle_safety_score",
        DAYS,
        &scores,
        |score| row([("vehicleId", id_text(&score["vehicleId"]))]),
    );
}

#[tokio::test]
async fn idling_belongs_to_the_time_it_starts() {
    let simulator = world().await;
    let client = Client::new(&simulator);
    let path = "/fleet/reports/vehicle/idling";
    let pages = client
        .pages(path, &[("limit", "5"), WINDOW[0], WINDOW[1]], "after")
        .await;
    assert!(pages.len() > 5);
    assert!(
        pages
            .iter()
            .all(|page| page.json()["requestEndTime"] == DAYS.1)
    );
    let stretches = client.records(path, &WINDOW).await;
    assert!(
        stretches
            .iter()
            .any(|stretch| stretch["address"]["formatted"] == "")
    );
    assert!(
        stretches
            .iter()
            .any(|stretch| stretch.get("address").is_none())
    );
    assert_served(
        &simulator,
        "fleet_vehicle_idling",
        DAYS,
        &stretches,
        |stretch| row([("parc_id", stretch["vehicle"]["name"].clone())]),
    );
    let long = client
        .records(
            path,
            &[("minIdlingDurationMinutes", "60"), WINDOW[0], WINDOW[1]],
        )
        .await;
    assert!(!long.is_empty() && long.len() < stretches.len());
    assert!(
        long.iter()
            .all(|stretch| stretch["durationMs"].as_i64() >= Some(3_600_000))
    );
}

#[tokio::test]
async fn readings_of_every_table_of_statistics_are_all_served() {
    let simulator = world().await;
    let client = Client::new(&simulator);
    let prefix = "fleet_vehicle_stats_";
    let stats: Vec<&str> = simulator
        .world()
        .tables()
        .into_iter()
        .filter_map(|table| table.strip_prefix(prefix))
        .collect();
    let is_plain = |stat: &&str| {
        !["auxInputs", "gps", "latest"].contains(stat) && !stat.starts_with("faultCodes")
    };
    let stats: Vec<&str> = stats.into_iter().filter(is_plain).collect();
    assert!(stats.len() > 20);
    for types in stats.chunks(3) {
        let joined = types.join(",");
        let query = [("types", joined.as_str()), WINDOW[0], WINDOW[1]];
        let vehicles = client
            .records("/fleet/vehicles/stats/history", &query)
            .await;
        for stat in types {
            let mut readings = Vec::new();
            for vehicle in &vehicles {
                for reading in vehicle[*stat].as_array().into_iter().flatten() {
                    let mut record = reading.clone();
                    record["vehicle_id"] = vehicle["id"].clone();
                    record["parc_id"] = vehicle["name"].clone();
                    readings.push(record);
                }
            }
            assert_served(
                &simulator,
                &format!("{prefix}{stat}"),
                DAYS,
                &readings,
                |reading| {
                    row([
                        (*stat, reading["value"].clone()),
                        ("engine_immobilizer_connected", reading["connected"].clone()),
                        ("engine_immobilizer_state", reading["state"].clone()),
                        (
                            "tellTales_fields",
                            serde_json::json!({ "lights": reading["lights"] }),
                        ),
                    ])
                },
            );
        }
    }
}
