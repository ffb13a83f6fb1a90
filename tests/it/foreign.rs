//! Foreign text and addresses: text of a server, a bucket or a record is shown on one line, short and without control
//! characters, and no id or response leads the token elsewhere.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use samsara_simulator::{Simulator, SimulatorConfig};

use crate::lock;
use crate::program::{Program, Ran};
use crate::support::wire::Server;

/// A line that clears the text before it and begins another that looks like ours.
const FORGED: &str = "\u{1b}[2K\rno such day\nfailed: fleet_trips: all is lost\u{9b}31m\u{202e}";
const RUN: &[&str] = &[
    "run",
    "--start_date",
    "01/01/2024",
    "--end_date",
    "02/01/2024",
    "--table",
    "fleet_vehicles",
];

#[track_caller]
fn assert_harmless(text: &str) {
    let wrong = text.chars().find(|character| {
        (character.is_control() && *character != '\n') || *character == '\u{202e}'
    });
    assert_eq!(wrong, None, "{text}");
    assert!(
        !text
            .lines()
            .any(|line| line.starts_with("failed: fleet_trips")),
        "{text}"
    );
}

#[track_caller]
fn assert_said_harmless(ran: &Ran) {
    // The colours of log lines are the program's own.
    let colours = regex::Regex::new("\u{1b}\\[[0-9;]*m").unwrap();
    assert_harmless(&colours.replace_all(&ran.stderr, ""));
    assert_harmless(&ran.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_says_is_told_on_one_short_line() {
    let endless = format!("{FORGED}{}", "x".repeat(50 << 20));
    for (body, part) in [
        (
            serde_json::json!({ "message": FORGED, "requestId": FORGED }).to_string(),
            "no such day failed: fleet_trips",
        ),
        (FORGED.to_string(), "no such day failed: fleet_trips"),
        (
            serde_json::json!({ "message": endless }).to_string(),
            "refuses the request (400)",
        ),
        (endless, "no such day"),
    ] {
        let server = Server::start(Router::new().fallback(move |request: Request| {
            let is_me = request.uri().path() == "/me";
            let answer = if is_me {
                "{}".into_response()
            } else {
                (StatusCode::BAD_REQUEST, body.clone()).into_response()
            };
            async move { answer }
        }));
        let program = Program::new()
            .set("SAMSARA_API_URL", server.url())
            .set("SAMSARA_API_TOKEN", "t");
        let ran = program.run(RUN).await;
        assert_said_harmless(&ran);
        let failed: Vec<_> = ran
            .stderr
            .lines()
            .filter(|line| line.starts_with("failed: "))
            .collect();
        assert_eq!((ran.code, failed.len()), (1, 1), "{}", ran.stderr);
        assert!(
            failed[0].contains(part) && failed[0].len() < 2_000,
            "{}",
            failed[0]
        );
        let status = program
            .succeed(&["status", "--calendar", "--table", "fleet_vehicles"])
            .await;
        assert_said_harmless(&status);
        assert!(
            status.stdout.contains("failed at ") && status.stdout.lines().count() == 4,
            "{}",
            status.stdout
        );
        assert_said_harmless(&program.run(&["check", "--table", "fleet_vehicles"]).await);
        for (path, bytes, _) in program.files("samsara-data/raw/state") {
            assert!(bytes < 4_000, "{path} has {bytes} bytes");
        }
        let log = std::fs::read_dir(program.folder().join("logs"))
            .unwrap()
            .map(Result::unwrap)
            .find(|file| file.path().extension().is_some_and(|it| it == "jsonl"))
            .unwrap();
        assert!(
            log.metadata().unwrap().len() < 20_000,
            "the log has {} bytes",
            log.metadata().unwrap().len()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_holds_the_lock_is_named_on_one_line() {
    let program = Program::new()
        .set("SAMSARA_API_URL", "http://127.0.0.1:9")
        .set("SAMSARA_API_TOKEN", "t");
    let host = serde_json::Value::from(FORGED).to_string();
    program.write(
        "samsara-data/raw/lock.json",
        lock::foreign("2124-01-01T00:00:00Z").replace("\"elsewhere\"", &host),
    );
    let ran = program.run(RUN).await;
    assert_said_harmless(&ran);
    assert_eq!(
        (ran.code, ran.stderr.matches("error: another run").count()),
        (4, 1),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr
            .contains("on \\u{1b}[2K no such day failed: fleet_trips"),
        "{}",
        ran.stderr
    );
}

/// Recorded pages, served; and a program that is pointed at them.
async fn recorded(pages: &[(&str, &str)]) -> (Simulator, Program) {
    let program = Program::new();
    for (path, body) in pages {
        program.write(&format!("pages/{path}/0001.json"), body);
    }
    let pages_dir = Some(program.folder().join("pages"));
    let simulator = Simulator::start(SimulatorConfig {
        pages_dir,
        ..SimulatorConfig::default()
    })
    .await
    .unwrap();
    let program = program
        .set("SAMSARA_API_URL", &simulator.url())
        .set("SAMSARA_API_TOKEN", simulator.token());
    (simulator, program)
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_the_fleet_are_shown_harmlessly_and_kept_exactly() {
    let page = serde_json::json!({ "data": [{ "id": "1", "name": FORGED, FORGED: 1 }, { "id": "2", "name": "=1+1" }] });
    let (_simulator, program) = recorded(&[("fleet/vehicles", &page.to_string())]).await;
    let ran = program.succeed(RUN).await;
    assert_said_harmless(&ran);
    assert!(ran.stderr.contains("schema drift"), "{}", ran.stderr);
    assert_said_harmless(&program.succeed(&["sources", "drift"]).await);
    let sql = "SELECT name AS \"na\u{1b}me\" FROM raw.fleet_vehicles ORDER BY id";
    let shown = program.succeed(&["query", sql]).await;
    assert_said_harmless(&shown);
    assert!(
        shown
            .stdout
            .contains("\\u{1b}[2K\\rno such day\\nfailed: fleet_trips"),
        "{}",
        shown.stdout
    );
    // For programs, values are what the API sent.
    let json = program
        .succeed(&["query", sql, "--format", "json"])
        .await
        .stdout;
    assert!(
        json.contains(r#"\u001b[2K\rno such day\nfailed: fleet_trips: all is lost"#),
        "{json}"
    );
    let csv = program
        .succeed(&["query", sql, "--format", "csv"])
        .await
        .stdout;
    assert!(csv.contains(FORGED) && csv.ends_with("\n=1+1\n"), "{csv:?}");
    // For spreadsheets they are harmless.
    let safe = program.succeed(&["query", sql, "--csv-safe"]).await;
    assert_said_harmless(&safe);
    assert_eq!(safe.stdout.lines().count(), 3, "{}", safe.stdout);
    assert!(
        safe.stdout.starts_with("na\\u{1b}me\n") && safe.stdout.ends_with("\n'=1+1\n"),
        "{}",
        safe.stdout
    );
    assert_eq!(
        program
            .run(&["query", sql, "--csv-safe", "--format", "json"])
            .await
            .code,
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unsafe_ids_are_skipped() {
    let ids = ["1", "..", ".", "", "a/../b", "../../me?x=#"];
    let vehicles: Vec<_> = ids
        .iter()
        .map(|id| serde_json::json!({ "id": id, "name": "n" }))
        .collect();
    let vehicles = serde_json::json!({ "data": vehicles }).to_string();
    let score = r#"{"vehicleId":1,"safetyScore":97}"#;
    let (simulator, program) = recorded(&[
        ("fleet/vehicles", &vehicles),
        ("v1/fleet/vehicles/1/safety/score", score),
    ])
    .await;
    let ran = program
        .run(&[
            "run",
            "--start_date",
            "01/01/2024",
            "--end_date",
            "02/01/2024",
            "--table",
            "fleet_vehicle_safety_score",
        ])
        .await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(
        ran.stderr.matches("parent skipped").count(),
        2,
        "{}",
        ran.stderr
    );
    let rows = program
        .rows("SELECT * FROM raw.fleet_vehicle_safety_score")
        .await;
    assert!(
        rows.len() == 1 && rows[0]["safetyScore"] == 97.0,
        "{rows:?}"
    );
    let mut asked: Vec<_> = simulator
        .requests()
        .into_iter()
        .map(|request| request.path)
        .collect();
    asked.retain(|path| path != "/fleet/vehicles");
    asked.sort();
    let score = |id: &str| format!("/v1/fleet/vehicles/{id}/safety/score");
    assert_eq!(
        asked,
        ["..%2F..%2Fme%3Fx%3D%23", "1", "a%2F..%2Fb"].map(score)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_goes_to_the_configured_host_and_to_no_other() {
    let stolen: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = stolen.clone();
    let thief = Server::start(Router::new().fallback(move |request: Request| async move {
        log.lock()
            .unwrap()
            .push(format!("{} {:?}", request.uri(), request.headers()));
        r#"{"data":[{"id":"forged"}],"pagination":{"endCursor":"","hasNextPage":false}}"#
    }));
    // A response that redirects, to another host or to another path of the same.
    let target = thief.url().to_string();
    for location in [
        format!("{target}/steal"),
        format!("//{}/steal", target.trim_start_matches("http://")),
        "/x".into(),
    ] {
        let asked = Arc::new(Mutex::new(0));
        let (count, to) = (asked.clone(), location.clone());
        let server = Server::start(Router::new().fallback(move |request: Request| {
            *count.lock().unwrap() += u32::from(request.uri().path() != "/fleet/vehicles");
            let to = to.clone();
            async move { (StatusCode::TEMPORARY_REDIRECT, [("Location", to)]) }
        }));
        let program = Program::new()
            .set("SAMSARA_API_URL", server.url())
            .set("SAMSARA_API_TOKEN", "canary-token");
        let ran = program.run(RUN).await;
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        let told = format!(
            "/fleet/vehicles answers with a redirect (307) to {location}, which is not followed"
        );
        assert!(ran.stderr.contains(&told), "{}", ran.stderr);
        assert_eq!(*asked.lock().unwrap(), 0);
    }
    // A catalog that lies about.
    for endpoint in [
        format!("//{}/steal", target.trim_start_matches("http://")),
        "/\\\\host/steal".into(),
    ] {
        let program = Program::new()
            .set("SAMSARA_API_URL", thief.url())
            .set("SAMSARA_API_TOKEN", "canary-token");
        let source = "[a]\ndescription = \"d\"\nkind = \"snapshot\"\nrate_limit = \"5/s\"\nschema = \"id VARCHAR\"\n";
        program.write(
            "sql/f/sources.toml",
            format!("{source}endpoint = \"{endpoint}\"\n"),
        );
        let ran = program.run(&["run"]).await;
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(
            ran.stderr
                .contains("sql/f/sources.toml:1: source `a`: endpoint `"),
            "{}",
            ran.stderr
        );
    }
    assert_eq!(*stolen.lock().unwrap(), Vec::<String>::new());
}
