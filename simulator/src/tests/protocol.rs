//! Tokens, scopes, refusals, rate limits and faults.

use std::time::{Duration, Instant};

use super::super::{Faults, Region};
use super::*;

const WINDOW: [(&str, &str); 2] = [
    ("startTime", "2024-01-01T00:00:00Z"),
    ("endTime", "2024-01-04T00:00:00Z"),
];

#[tokio::test]
async fn only_the_token_opens_the_door() {
    let simulator = start(SimulatorConfig {
        region: Region::Eu,
        ..Default::default()
    })
    .await;
    let client = Client::new(&simulator);
    let refused = client
        .send("/fleet/vehicles", &[], "another token")
        .await
        .expect("an answer");
    assert_eq!(
        (refused.status, refused.message().as_str()),
        (401, "invalid token")
    );
    assert_eq!(
        refused.json()["requestId"].as_str(),
        refused.request_id.as_deref()
    );
    let me = client.get("/me", &[]).await;
    assert_eq!((me.status, me.kind.as_str()), (200, "application/json"));
    assert_eq!(me.json()["data"]["region"], "eu");
    assert_ne!(me.request_id, refused.request_id);
}

#[tokio::test]
async fn unknown_paths_and_missing_scopes() {
    let missing_scopes = vec!["/fleet/drivers".to_owned()];
    let simulator = start(SimulatorConfig {
        missing_scopes,
        ..Default::default()
    })
    .await;
    let client = Client::new(&simulator);
    let unknown = client.get("/fleet/nothing", &[]).await;
    assert_eq!(
        (unknown.status, unknown.body.as_str()),
        (404, "404 page not found")
    );
    assert!(unknown.kind.starts_with("text/plain"));
    let forbidden = client.get("/fleet/drivers", &[]).await;
    assert_eq!(forbidden.status, 403);
    assert!(!forbidden.message().is_empty());
    assert_eq!(client.get("/fleet/vehicles", &[]).await.status, 200);
    let seen: Vec<(String, u16)> = simulator
        .requests()
        .into_iter()
        .map(|request| (request.path, request.status))
        .collect();
    assert_eq!(seen[1], ("/fleet/drivers".to_owned(), 403));
    simulator.clear_requests();
    assert!(simulator.requests().is_empty());
}

#[tokio::test]
async fn wrong_parameters_are_refused_in_the_way_of_their_endpoint() {
    let simulator = start(SimulatorConfig::default()).await;
    let client = Client::new(&simulator);
    let many: Vec<(&str, &str)> = std::iter::repeat_n(("configurationIds", "x"), 51)
        .chain([("startTime", "2024-01-01T00:00:00Z")])
        .collect();
    let stats = |types| [("types", types), WINDOW[0], WINDOW[1]];
    let cases: &[(&str, Parameters<'_>, &str)] = &[
        ("/fleet/vehicles", &[("limit", "513")], "limit"),
        (
            "/fleet/drivers",
            &[("driverActivationStatus", "Active")],
            "driverActivationStatus",
        ),
        (
            "/fleet/drivers",
            &[("driverActivationStatus", "active,deactivated")],
            "driverActivationStatus",
        ),
        (
            "/fleet/vehicles/stats/history",
            &stats("gps,engineHours,a,b,c"),
            "Invalid stat type",
        ),
        (
            "/fleet/vehicles/stats/history",
            &stats("gps,engineRpm,faultCodes,engineStates,fuelPercents"),
            "restricted to 4 types",
        ),
        ("/fleet/vehicles/stats/history", &WINDOW, "types"),
        (
            "/fleet/vehicles/stats/history",
            &[("types", "gps"), WINDOW[0]],
            "endTime",
        ),
        (
            "/fleet/vehicles/stats/feed",
            &[("types", "nothing")],
            "Invalid stat type",
        ),
        ("/alerts/incidents/stream", &WINDOW, "configurationIds"),
        (
            "/alerts/incidents/stream",
            &[("configurationIds", "a,b"), WINDOW[0]],
            "Invalid configuration id",
        ),
        (
            "/alerts/incidents/stream",
            &[("configurationIds", "a")],
            "startTime",
        ),
        ("/alerts/incidents/stream", &many, "50"),
        (
            "/fleet/reports/vehicles/fuel-energy",
            &[("startDate", "yesterday"), ("endDate", "today")],
            "Date",
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
    let day = 86_400_000i64;
    let long = (91 * day).to_string();
    let v1: &[(&str, Parameters<'_>)] = &[
        ("/v1/fleet/assets/reefers", &[]),
        (
            "/v1/fleet/assets/reefers",
            &[("startMs", "0"), ("endMs", "noon")],
        ),
        ("/v1/fleet/trips", &[("startMs", "0"), ("endMs", "1")]),
        (
            "/v1/fleet/trips",
            &[("vehicleId", "1,2"), ("startMs", "0"), ("endMs", "1")],
        ),
        (
            "/v1/fleet/trips",
            &[("vehicleId", "1"), ("startMs", "0"), ("endMs", &long)],
        ),
    ];
    for (path, query) in v1 {
        let reply = client.get(path, query).await;
        assert_eq!(reply.status, 400, "{path} {query:?}: {}", reply.body);
        assert!(
            reply.kind.starts_with("text/plain") && reply.body.starts_with("rpc error: "),
            "{}",
            reply.body
        );
    }
}

#[tokio::test]
async fn four_types_pass_and_wrong_names_are_ignored() {
    let simulator = start(SimulatorConfig::default()).await;
    let client = Client::new(&simulator);
    for types in [
        "gps,engineRpm,faultCodes,engineStates",
        "gps,engineRpm,faultCodes,auxInput3,auxInput9",
    ] {
        let reply = client
            .get(
                "/fleet/vehicles/stats/history",
                &[("types", types), WINDOW[0], WINDOW[1], ("startMs", "x")],
            )
            .await;
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
}

#[tokio::test]
async fn rate_limits_are_enforced_only_when_asked_for() {
    let free = start(SimulatorConfig::default()).await;
    let client = Client::new(&free);
    for _ in 0..20 {
        assert_eq!(client.get("/tags", &[]).await.status, 200);
    }
    // So slow that no token comes back within the test.
    let limited = start(SimulatorConfig {
        enforce_rate_limits: true,
        rate_limit_scale: 0.001,
        ..Default::default()
    })
    .await;
    let client = Client::new(&limited);
    assert_eq!(client.get("/tags", &[]).await.status, 200);
    let refused = client.get("/tags", &[]).await;
    assert_eq!(refused.status, 429);
    let wait: f64 = refused
        .retry_after
        .as_deref()
        .expect("a time to wait")
        .parse()
        .expect("seconds");
    assert!((150.0..=200.0).contains(&wait), "{wait}");
    assert_eq!(
        client.get("/fleet/vehicles", &[]).await.status,
        200,
        "another endpoint has its own limit"
    );
}

#[tokio::test]
async fn faults_spoil_answers_in_their_own_way() {
    let fault = |text: &str| SimulatorConfig {
        faults: text.parse().expect("faults"),
        ..Default::default()
    };
    for status in [500, 503, 504] {
        let simulator = start(fault(&format!("{status}=1"))).await;
        let reply = Client::new(&simulator).get("/fleet/vehicles", &[]).await;
        assert_eq!(reply.status, status);
        assert!(reply.kind.starts_with("text/plain"));
    }
    for kind in ["reset=1", "truncate=1"] {
        let simulator = start(fault(kind)).await;
        let token = simulator.token().to_owned();
        let client = Client::new(&simulator);
        let head = client
            .http
            .get(format!("{}/fleet/vehicles", simulator.url()))
            .bearer_auth(&token)
            .send()
            .await;
        let head = head.expect("the head arrives whole");
        assert_eq!(head.status(), 200);
        assert_eq!(
            head.headers().contains_key("content-length"),
            kind == "truncate=1"
        );
        assert!(
            head.bytes().await.is_err(),
            "{kind}: the body must break off"
        );
    }
    let slow = SimulatorConfig {
        slow_body_pause: Duration::from_millis(4),
        ..fault("slow=1")
    };
    let simulator = start(slow).await;
    let begun = Instant::now();
    assert_eq!(
        Client::new(&simulator)
            .get("/fleet/vehicles", &[])
            .await
            .status,
        200
    );
    assert!(begun.elapsed() >= Duration::from_millis(20));
}

#[tokio::test]
async fn the_same_requests_meet_the_same_faults() {
    let faults: Faults = "429=0.3,500=0.2".parse().expect("faults");
    let mut runs = Vec::new();
    for _ in 0..2 {
        let simulator = start(SimulatorConfig {
            faults,
            ..Default::default()
        })
        .await;
        let client = Client::new(&simulator);
        let mut statuses = Vec::new();
        for _ in 0..40 {
            statuses.push(client.get("/me", &[]).await.status);
        }
        runs.push(statuses);
    }
    assert_eq!(runs[0], runs[1]);
    assert!(
        [200, 429, 500]
            .iter()
            .all(|status| runs[0].contains(status)),
        "{:?}",
        runs[0]
    );
}

#[tokio::test]
async fn a_simulator_stops_when_told_or_dropped() {
    let connect =
        async |url: &str| tokio::net::TcpStream::connect(url.trim_start_matches("http://")).await;
    let simulator = start(SimulatorConfig::default()).await;
    let url = simulator.url();
    assert!(connect(&url).await.is_ok());
    simulator.shutdown().await;
    assert!(connect(&url).await.is_err());

    let simulator = start(SimulatorConfig::default()).await;
    let url = simulator.url();
    drop(simulator);
    // The server notices at its next turn.
    let mut turns = 0;
    while connect(&url).await.is_ok() {
        turns += 1;
        assert!(turns < 10_000, "it still listens");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_impossible_is_not_started() {
    let pages_dir = Some("no such folder".into());
    let error = Simulator::start(SimulatorConfig {
        pages_dir,
        ..Default::default()
    })
    .await
    .expect_err("must fail");
    assert!(error.to_string().contains("no such folder"), "{error}");
    let first = start(SimulatorConfig::default()).await;
    let listen = first
        .url()
        .trim_start_matches("http://")
        .parse()
        .expect("an address");
    let error = Simulator::start(SimulatorConfig {
        listen,
        ..Default::default()
    })
    .await
    .expect_err("must fail");
    assert!(
        error.to_string().contains("cannot listen on 127.0.0.1"),
        "{error}"
    );
}
