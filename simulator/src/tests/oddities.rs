//! Refusals and behaviour of single endpoints, and changes while the world's clock advances.

use serde_json::json;

use super::*;

const DAY: [(&str, &str); 2] = [
    ("startTime", "2024-01-02T00:00:00Z"),
    ("endTime", "2024-01-03T00:00:00Z"),
];
const ASSIGNMENTS: &str = "/fleet/driver-vehicle-assignments";
const LOGS: &str = "/fleet/hos/daily-logs";

#[tokio::test]
async fn what_these_endpoints_do_not_take_is_refused() {
    let now = Some(at("2024-02-01T05:00:00Z"));
    let simulator = start(SimulatorConfig {
        now,
        ..Default::default()
    })
    .await;
    let client = Client::new(&simulator);
    let efficiency = "/beta/fleet/drivers/efficiency";
    let cases: &[(&str, Parameters<'_>, &str)] = &[
        ("/addresses", &[("limit", "513")], "512"),
        (
            "/addresses",
            &[("createdAfterTime", "yesterday")],
            "createdAfterTime",
        ),
        ("/devices", &[("limit", "101")], "100"),
        ("/devices", &[("includeHealth", "yes")], "includeHealth"),
        ("/devices", &[("healthStatuses", "healthy,ill")], "ill"),
        (
            "/fleet/safety-events",
            &[("limit", "201"), DAY[0], DAY[1]],
            "200",
        ),
        ("/fleet/safety-events", &[DAY[0]], "endTime"),
        ("/fleet/documents", &[DAY[1]], "startTime"),
        (
            "/fleet/documents",
            &[("queryBy", "Created"), DAY[0], DAY[1]],
            "queryBy",
        ),
        (
            "/fleet/documents",
            &[("startTime", DAY[1].1), ("endTime", DAY[0].1)],
            "before",
        ),
        (
            "/fleet/reports/vehicle/idling",
            &[("limit", "513"), DAY[0], DAY[1]],
            "512",
        ),
        (
            "/fleet/reports/drivers/fuel-energy",
            &[("startDate", "2024-01-02")],
            "Date",
        ),
        (ASSIGNMENTS, &DAY, "filterBy is required"),
        (
            ASSIGNMENTS,
            &[("filterBy", "driver"), DAY[0], DAY[1]],
            "filterBy",
        ),
        (
            ASSIGNMENTS,
            &[
                ("filterBy", "drivers"),
                ("assignmentType", "hos"),
                DAY[0],
                DAY[1],
            ],
            "assignmentType",
        ),
        (LOGS, &[], "startDate"),
        (
            LOGS,
            &[
                ("startDate", "2024-01-02T00:00:00Z"),
                ("endDate", "2024-01-02"),
            ],
            "startDate",
        ),
        (
            LOGS,
            &[("startDate", "2024-01-03"), ("endDate", "2024-01-02")],
            "before",
        ),
        // It is the first of February in UTC, but not in the organisation's zone.
        (
            LOGS,
            &[("startDate", "2024-02-01"), ("endDate", "2024-02-01")],
            "future",
        ),
        (
            "/fleet/hos/violations",
            &[("types", "unheardOf"), DAY[0], DAY[1]],
            "unheardOf",
        ),
        (
            efficiency,
            &[
                ("startTime", "2024-01-01T00:00:00Z"),
                ("endTime", "2024-02-01T06:00:00Z"),
            ],
            "future",
        ),
        (
            efficiency,
            &[("startTime", "2023-12-01T00:00:00Z"), DAY[1]],
            "31 days",
        ),
        (
            efficiency,
            &[("driverIds", "1"), ("driverActivationStatus", "active")],
            "combined",
        ),
    ];
    for (path, query, part) in cases {
        let reply = client.get(path, query).await;
        assert_eq!(reply.status, 400, "{path} {query:?}: {}", reply.body);
        assert!(
            reply.message().contains(part),
            "{path} {query:?}: {}",
            reply.body
        );
    }
    let logs = client
        .get(
            LOGS,
            &[("startDate", "2024-01-31"), ("endDate", "2024-01-31")],
        )
        .await;
    assert_eq!(logs.status, 200, "{}", logs.body);
}

#[tokio::test]
async fn a_score_is_refused_in_plain_text() {
    let missing_scopes = vec!["/v1/fleet/vehicles/{vehicleId}/safety/score".to_owned()];
    let simulator = start(SimulatorConfig::default()).await;
    let client = Client::new(&simulator);
    let path = |id: &str| format!("/v1/fleet/vehicles/{id}/safety/score");
    let vehicle = simulator.world().vehicles[0].id.to_string();
    let hour = [("startMs", "1704153600000"), ("endMs", "1704157200000")];
    let short = [hour[0], ("endMs", "1704157199999")];
    assert_eq!(client.get(&path(&vehicle), &hour).await.status, 200);
    for (id, query, status) in [
        (vehicle.as_str(), short, 400),
        ("truck", hour, 400),
        ("1", hour, 404),
    ] {
        let reply = client.get(&path(id), &query).await;
        assert_eq!(reply.status, status, "{id} {query:?}: {}", reply.body);
        assert!(
            reply.kind.starts_with("text/plain") && reply.body.starts_with("rpc error: "),
            "{}",
            reply.body
        );
    }
    let simulator = start(SimulatorConfig {
        missing_scopes,
        ..Default::default()
    })
    .await;
    assert_eq!(
        Client::new(&simulator)
            .get(&path(&vehicle), &hour)
            .await
            .status,
        403
    );
}

#[tokio::test]
async fn nothing_is_written_as_null_by_some() {
    let simulator = start(SimulatorConfig {
        vehicles: 0,
        ..Default::default()
    })
    .await;
    let client = Client::new(&simulator);
    let assignments = client
        .get(ASSIGNMENTS, &[("filterBy", "drivers"), DAY[0], DAY[1]])
        .await
        .json();
    assert_eq!(assignments["data"], Value::Null);
    assert_eq!(assignments["pagination"]["hasNextPage"], false);
    let old = [
        ("startTime", "2020-01-02T00:00:00Z"),
        ("endTime", "2020-01-03T00:00:00Z"),
    ];
    assert_eq!(
        client.get("/fleet/documents", &old).await.json()["data"],
        Value::Null
    );
    assert_eq!(
        client.get("/fleet/safety-events", &old).await.json()["data"],
        json!([])
    );
}

#[tokio::test]
async fn a_wrong_name_of_a_parameter_finds_nothing() {
    let simulator = start(SimulatorConfig::default()).await;
    let client = Client::new(&simulator);
    let wrong = [("startMs", "1704067200000"), ("endMs", "1704672000000")];
    let reply = client.get("/fleet/hos/violations", &wrong).await;
    assert_eq!((reply.status, &reply.json()["data"]), (200, &json!([])));
    assert!(
        !client
            .records("/fleet/hos/violations", &DAY)
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn assignments_and_logs_grow_while_they_last() {
    let simulator = start(SimulatorConfig {
        vehicles: 30,
        ..Default::default()
    })
    .await;
    let client = Client::new(&simulator);
    let query = [("filterBy", "drivers"), DAY[0], DAY[1]];
    let whole = client.records(ASSIGNMENTS, &query).await;
    let end = |one: &Value| at(one["endTime"].as_str().expect("all have ended"));
    let last = whole.iter().map(end).max().expect("some assignments");
    simulator.set_now(last - chrono::Duration::milliseconds(1));
    let open: Vec<Value> = client.records(ASSIGNMENTS, &query).await;
    assert_eq!(open.len(), whole.len());
    assert!(open.iter().any(|one| one.get("endTime").is_none()));
    // Without a window the present is requested.
    let present = client
        .records(ASSIGNMENTS, &[("filterBy", "vehicles")])
        .await;
    assert!(
        present.iter().any(|one| one.get("endTime").is_none()),
        "{present:?}"
    );

    let date = [
        ("startDate", "2024-01-02"),
        ("endDate", "2024-01-02"),
        ("expand", "vehicle"),
    ];
    simulator.set_now(at("2024-01-02T22:00:00Z"));
    let early = client.records(LOGS, &date).await;
    simulator.set_now(at("2024-01-08T00:00:00Z"));
    let late = client.records(LOGS, &date).await;
    assert!(!early.is_empty() && early.len() == late.len());
    let sum = |logs: &[Value]| -> i64 {
        let of = |log: &Value| {
            log["dutyStatusDurations"]["offDutyDurationMs"]
                .as_i64()
                .unwrap_or_default()
        };
        logs.iter().map(of).sum()
    };
    assert!(sum(&early) < sum(&late));
    let certified = |logs: &[Value]| {
        logs.iter()
            .filter(|log| log["logMetaData"]["isCertified"] == true)
            .count()
    };
    assert!(certified(&early) == 0 && certified(&late) > 0);
    assert!(
        late.iter()
            .all(|log| log["logMetaData"]["vehicles"][0]["assetType"].as_str() != Some(""))
    );
}

#[tokio::test]
async fn documents_arrive_late_and_events_are_reviewed() {
    let simulator = start(SimulatorConfig {
        vehicles: 60,
        ..Default::default()
    })
    .await;
    let client = Client::new(&simulator);
    let window = [
        ("startTime", "2024-01-01T00:00:00Z"),
        ("endTime", "2024-01-20T00:00:00Z"),
    ];
    let mut punctual = 0;
    for day in 1..20 {
        let (from, to) = (
            format!("2024-01-{day:02}T00:00:00Z"),
            format!("2024-01-{:02}T00:00:00Z", day + 1),
        );
        simulator.set_now(at(&to));
        punctual += client
            .records(
                "/fleet/documents",
                &[("startTime", &from), ("endTime", &to)],
            )
            .await
            .len();
    }
    let reviewed = |events: &[Value]| {
        events
            .iter()
            .filter(|event| event["coachingState"] == "coached")
            .count()
    };
    let fresh = client.records("/fleet/safety-events", &window).await;
    simulator.set_now(at("2024-02-01T00:00:00Z"));
    let documents = client.records("/fleet/documents", &window).await;
    assert!(
        punctual < documents.len(),
        "{punctual} of {}",
        documents.len()
    );
    let settled = client.records("/fleet/safety-events", &window).await;
    assert_eq!(fresh.len(), settled.len());
    assert!(reviewed(&fresh) < reviewed(&settled));
}

#[tokio::test]
async fn lists_are_filtered_by_tag_and_id() {
    let simulator = start(SimulatorConfig {
        vehicles: 60,
        ..Default::default()
    })
    .await;
    let client = Client::new(&simulator);
    let trailers = client.records("/fleet/trailers", &[]).await;
    let tag = trailers
        .iter()
        .find_map(|trailer| trailer["tags"][0]["id"].as_str())
        .expect("a tag");
    let some = client.records("/fleet/trailers", &[("tagIds", tag)]).await;
    assert!(!some.is_empty() && some.len() < trailers.len());
    let parent = trailers
        .iter()
        .find_map(|trailer| trailer["tags"][0]["parentTagId"].as_str())
        .expect("a parent");
    let below = client
        .records("/fleet/trailers", &[("parentTagIds", parent)])
        .await;
    assert!(
        below.len()
            >= client
                .records("/fleet/trailers", &[("tagIds", parent)])
                .await
                .len()
    );
    let driver = simulator.world().drivers[3].driver.id.as_str();
    let clocks = client
        .records("/fleet/hos/clocks", &[("driverIds", driver)])
        .await;
    assert_eq!(clocks.len(), 1);
    assert_eq!(clocks[0]["driver"]["id"], driver);
}
