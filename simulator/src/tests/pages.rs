//! Cursors, page sizes, repeated and recorded pages.

use super::*;

const HISTORY: &str = "/fleet/vehicles/stats/history";
const RPM: [(&str, &str); 3] = [
    ("types", "engineRpm"),
    ("startTime", "2024-01-01T00:00:00Z"),
    ("endTime", "2024-01-02T00:00:00Z"),
];

#[tokio::test]
async fn a_cursor_is_bound_to_its_query() {
    let simulator = start(SimulatorConfig {
        vehicles: 30,
        ..Default::default()
    })
    .await;
    let client = Client::new(&simulator);
    let first = client.get(HISTORY, &RPM).await;
    assert!(first.has_next());
    let cursor = first.cursor();
    let mut query: Vec<(&str, &str)> = RPM.to_vec();
    query.push(("after", &cursor));
    assert_eq!(client.get(HISTORY, &query).await.status, 200);
    // The same instant, written otherwise.
    query[1].1 = "2024-01-01T00:00:00.000Z";
    let differs = client.get(HISTORY, &query).await;
    assert_eq!(
        (differs.status, differs.message().as_str()),
        (400, "Parameters differ from previous paginated request.")
    );
    let mut garbled = RPM.to_vec();
    garbled.push(("after", "bm90IGEgY3Vyc29y"));
    let unknown = client.get(HISTORY, &garbled).await;
    assert_eq!(
        (unknown.status, unknown.message().as_str()),
        (400, "invalid or expired pagination cursor")
    );
    // A cursor of one endpoint means nothing to another.
    assert_eq!(client.get("/tags", &[("after", &cursor)]).await.status, 400);
    simulator.expire_cursors();
    query[1].1 = RPM[1].1;
    assert!(
        client
            .get(HISTORY, &query)
            .await
            .message()
            .contains("invalid or expired")
    );
}

#[tokio::test]
async fn a_walk_over_pages_of_any_size_sees_the_same_records() {
    let mut reads = Vec::new();
    for page_size in [None, Some(1), Some(3)] {
        let simulator = start(SimulatorConfig {
            vehicles: 40,
            page_size,
            ..Default::default()
        })
        .await;
        let client = Client::new(&simulator);
        let vehicles = client.records("/fleet/vehicles", &[]).await;
        assert_eq!(vehicles.len(), 40);
        let tags = client.records("/tags", &[]).await;
        reads.push((vehicles, tags, client.records(HISTORY, &RPM).await));
    }
    assert_eq!(reads[0], reads[1]);
    assert_eq!(reads[0], reads[2]);
}

#[tokio::test]
async fn empty_pages_occur_in_the_middle_of_a_walk() {
    let simulator = start(SimulatorConfig {
        vehicles: 60,
        page_size: Some(1),
        ..Default::default()
    })
    .await;
    let pages = Client::new(&simulator)
        .pages("/fleet/vehicles", &[], "after")
        .await;
    let empty = pages
        .iter()
        .filter(|page| page.json()["data"] == serde_json::json!([]) && page.has_next())
        .count();
    assert!((1..30).contains(&empty), "{empty} empty pages");
    assert_eq!(pages.last().map(Reply::cursor).as_deref(), Some(""));
}

#[tokio::test]
async fn a_limit_makes_smaller_pages() {
    let simulator = start(SimulatorConfig {
        vehicles: 12,
        ..Default::default()
    })
    .await;
    let client = Client::new(&simulator);
    let pages = client
        .pages("/fleet/vehicles", &[("limit", "5")], "after")
        .await;
    assert!(pages.len() >= 3);
    assert!(pages.iter().all(|page| {
        page.json()["data"]
            .as_array()
            .is_some_and(|data| data.len() <= 5)
    }));
}

#[tokio::test]
async fn a_repeated_page_comes_once_more_under_a_new_cursor() {
    let faults = "duplicate=1".parse().expect("faults");
    let simulator = start(SimulatorConfig {
        vehicles: 9,
        page_size: Some(3),
        faults,
        ..Default::default()
    })
    .await;
    let client = Client::new(&simulator);
    let pages = client.pages("/fleet/vehicles", &[], "after").await;
    let cursors: std::collections::HashSet<String> = pages.iter().map(Reply::cursor).collect();
    assert_eq!(cursors.len(), pages.len(), "no cursor comes twice");
    let records = client.records("/fleet/vehicles", &[]).await;
    assert_eq!(records.len(), 18);
    let ids: BTreeSet<String> = records
        .iter()
        .map(|record| record["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 9);
}

#[tokio::test]
async fn v1_pages_have_their_own_parameter_and_end() {
    let simulator = start(SimulatorConfig {
        vehicles: 20,
        ..Default::default()
    })
    .await;
    let client = Client::new(&simulator);
    let window = [("startMs", "1704067200000"), ("endMs", "1704153599999")];
    let pages = client
        .pages("/v1/fleet/assets/reefers", &window, "startingAfter")
        .await;
    assert!(pages.len() > 2);
    assert!(
        pages
            .iter()
            .all(|page| page.json()["pagination"]["hasPrevPage"].is_boolean())
    );
    let first = pages[0].json();
    assert_ne!(
        first["data"][0]["id"].as_u64(),
        None,
        "ids are numbers in v1"
    );
}

#[tokio::test]
async fn recorded_pages_are_all_there_is() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("fleet/vehicles/stats/history/types=gps");
    std::fs::create_dir_all(&folder).expect("can create");
    let first = "{ \"data\": [ {\"id\":\"1\"} ],\n \"pagination\": {\"endCursor\":\"c1\",\"hasNextPage\":true} }";
    std::fs::write(folder.join("0001.json"), first).expect("can write");
    let second = r#"{"data":[],"pagination":{"endCursor":"","hasNextPage":false}}"#;
    std::fs::write(folder.join("0002.json"), second).expect("can write");
    let pages_dir = Some(dir.path().to_owned());
    let simulator = start(SimulatorConfig {
        pages_dir,
        ..Default::default()
    })
    .await;
    let client = Client::new(&simulator);
    assert_eq!(
        client
            .get(HISTORY, &[("types", "gps"), ("anything", "goes")])
            .await
            .body,
        first
    );
    assert_eq!(
        client
            .get(HISTORY, &[("types", "gps"), ("after", "c1")])
            .await
            .body,
        second
    );
    for (path, query) in [
        (HISTORY, ("types", "engineRpm")),
        ("/fleet/vehicles", ("a", "b")),
        ("/..%2f", ("a", "b")),
    ] {
        assert_eq!(client.get(path, &[query]).await.status, 404, "{path}");
    }
    assert_eq!(client.get("/me", &[]).await.status, 200);
    assert_eq!(
        client
            .send(HISTORY, &[("types", "gps")], "wrong")
            .await
            .expect("an answer")
            .status,
        401
    );
}
