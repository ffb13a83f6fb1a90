//! Invalid bodies: each ends in a rescued value or in a clear error that names table and day, never in a panic or a
//! lost value.

use samsara_etl::report::RunReport;
use samsara_simulator::{Simulator, SimulatorConfig};

use crate::program::{Program, impatient, run_here};

const TABLE: &str = "fleet_vehicle_stats_engineRpm";
const DAY: &str = "2024-01-01";

/// One run over one recorded body.
async fn read(body: &[u8]) -> (Program, RunReport) {
    let program = Program::new();
    program.write("pages/fleet/vehicles/stats/history/0001.json", body);
    let pages_dir = Some(program.folder().join("pages"));
    let simulator = Simulator::start(SimulatorConfig {
        pages_dir,
        ..SimulatorConfig::default()
    })
    .await
    .unwrap();
    let config = impatient(&program, &simulator.url(), simulator.token());
    let report = run_here(config, &[TABLE], [DAY, "2024-01-02"]).await;
    (program, report)
}

/// A page with one vehicle, whose readings are this text.
fn page(readings: &str) -> Vec<u8> {
    record(&format!(
        r#"{{"id":"1","name":"A","engineRpm":[{readings}]}}"#
    ))
}

fn record(record: &str) -> Vec<u8> {
    format!(r#"{{"data":[{record}],"pagination":{{"endCursor":"","hasNextPage":false}}}}"#)
        .into_bytes()
}

const GOOD: &str = r#"{"time":"2024-01-01T00:00:01Z","value":1}"#;

#[tokio::test(flavor = "multi_thread")]
async fn misfits_are_rescued_exactly() {
    let at = |rest: &str| {
        page(&format!(
            r#"{GOOD},{{"time":"2024-01-01T00:00:02Z",{rest}}}"#
        ))
    };
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let cases = [
        (
            at(r#""value":"abc""#),
            r#""engineRpm[1].value":"abc""#.to_string(),
        ),
        (at(r#""value":true"#), r#""engineRpm[1].value":true"#.into()),
        (
            at(r#""value":{"a":[1.50]}"#),
            r#""engineRpm[1].value":{"a":[1.50]}"#.into(),
        ),
        (
            at(r#""value":1e999"#),
            r#""engineRpm[1].value":1e999"#.into(),
        ),
        (
            at(r#""value":9007199254740993"#),
            r#""engineRpm[1].value":9007199254740993"#.into(),
        ),
        (
            at(r#""value":1,"value":2"#),
            r#""engineRpm[1].value":2"#.into(),
        ),
        (
            at(&format!(r#""value":1,"deep":{deep}"#)),
            format!(r#""engineRpm[1].deep":{deep}"#),
        ),
        (
            record(&format!(
                r#"{{"id":"1","name":"\ud800","engineRpm":[{GOOD}]}}"#
            )),
            r#""name":"\ud800""#.into(),
        ),
        (
            record(&format!(r#"{{"id":{{"x":1}},"engineRpm":[{GOOD}]}}"#)),
            r#""id":{"x":1}"#.into(),
        ),
        (
            record(&format!(r#"null,{{"id":"1","engineRpm":[{GOOD}]}}"#)),
            r#""$":null"#.into(),
        ),
    ];
    for (body, rescued) in cases {
        let (program, report) = read(&body).await;
        assert!(
            report.failures.is_empty(),
            "{rescued}: {:?}",
            report.failures
        );
        let sql =
            format!("SELECT _rescued_data AS r FROM raw.{TABLE} WHERE _rescued_data IS NOT NULL");
        let rows = program.rows(&sql).await;
        assert_eq!(rows.len(), 1, "{rescued}");
        assert_eq!(rows[0]["r"].as_str().unwrap(), format!("{{{rescued}}}"));
        assert_eq!(report.drift.values().sum::<u64>(), 1, "{:?}", report.drift);
        // Fields next to it are stored.
        let good = program
            .rows(&format!(
                "SELECT engineRpm FROM {TABLE} WHERE engineRpm = 1"
            ))
            .await;
        assert!(!good.is_empty(), "{rescued}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_pages_commit_nothing() {
    let cut = page(GOOD);
    let cases: [(Vec<u8>, &str); 12] = [
        (
            page(r#"{"time":"2024-01-01T00:00:01Z","value":NaN}"#),
            "at byte",
        ),
        (cut[..cut.len() - 20].to_vec(), "at byte"),
        ([page(GOOD), page(GOOD)].concat(), "after the end"),
        (record(&"[".repeat(100_000)), "nested too deeply"),
        (
            [&b"{\"data\":[{\"id\":\"\xff\"}]"[..], b"}"].concat(),
            "not UTF-8",
        ),
        (b"<html>".to_vec(), "JSON"),
        (b"".to_vec(), "JSON"),
        (b"{}".to_vec(), "the list of records is missing"),
        (br#"{"data":5}"#.to_vec(), "neither a list nor null"),
        (br#"{"data":[],"data":[]}"#.to_vec(), "appears twice"),
        (page(r#"{"value":1}"#), "no time in `engineRpm[].time`"),
        (
            page(r#"{"time":"soon","value":1}"#),
            "no readable time in `engineRpm[].time`",
        ),
    ];
    for (body, reason) in cases {
        let (program, report) = read(&body).await;
        assert_eq!(report.failures.len(), 1, "{reason}: {:?}", report.failures);
        let error = &report.failures[0].error;
        assert!(
            error.contains(reason) && error.contains(TABLE) && error.contains(DAY),
            "{reason}: {error}"
        );
        let page = "page 1 of /fleet/vehicles/stats/history?endTime=2024-01-02T00%3A00%3A00Z";
        assert!(
            error.contains(page) && error.contains("startTime=2024-01-01T00%3A00%3A00Z"),
            "{reason}: {error}"
        );
        assert!(!error.contains('\n') && error.len() < 500, "{error}");
        let rows = program
            .rows(&format!("SELECT count(*) AS n FROM raw.{TABLE}"))
            .await;
        assert_eq!(rows[0]["n"], 0, "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_hundred_megabytes_is_one_page() {
    let name = "x".repeat(100 << 20);
    let (program, report) = read(&record(&format!(
        r#"{{"id":"1","name":"{name}","engineRpm":[{GOOD}]}}"#
    )))
    .await;
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    let rows = program
        .rows(&format!(
            "SELECT character_length(parc_id) AS n FROM {TABLE}"
        ))
        .await;
    assert_eq!(rows[0]["n"], 100 << 20);
}
