//! Sources that a token or an organisation does not have, sources that are read on request only, and values that are
//! never stored.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use axum::response::IntoResponse;
use samsara_simulator::Simulator;
use serde_json::json;

use crate::program::{Program, replay, simulator};
use crate::support::gate::{Turn, before};
use crate::truth::{compare, day};

/// Sources of each sort, and a table of each.
const CATALOG: &str = r#"
[defaults]
description = "d"
rate_limit = "100/s"
schema = "id VARCHAR, time VARCHAR, name VARCHAR"

[vehicles]
kind = "snapshot"
endpoint = "/fleet/vehicles"

[licensed]
kind = "snapshot"
endpoint = "/tags"
scope = "Read Tags"

[daily]
kind = "window"
endpoint = "/fleet/drivers"
window = { start = "startTime", end = "endTime", format = "rfc3339" }
time_field = "time"

[members]
kind = "window"
endpoint = "/assets/location-and-speed/stream"
window = { start = "startTime", end = "endTime", format = "rfc3339" }
time_field = "happenedAtTime"
schema = "id VARCHAR, time VARCHAR, happenedAtTime VARCHAR"
parent = { source = "licensed", field = "id", param = "ids", batch = 50 }

[beta]
kind = "snapshot"
endpoint = "/gateways"
optional = true

[private]
kind = "snapshot"
endpoint = "/contacts"
on_request = "personal data"
"#;

const TABLES: [&str; 6] = [
    "vehicles", "licensed", "daily", "members", "beta", "private",
];

/// A program with that catalog.
fn program() -> Program {
    let program = Program::new();
    program.write("sql/f/sources.toml", CATALOG);
    for table in TABLES {
        let is_daily = table == "daily" || table == "members";
        let (day, column) = match is_daily {
            true => ("partition_by = \"time\"\n", ", samsara_time(time) AS time"),
            false => ("", ""),
        };
        program.write(
            &format!("sql/f/{table}_t.sql"),
            format!("/*---\ndescription = \"d\"\n{day}---*/\nSELECT id{column} FROM raw.{table}\n"),
        );
    }
    program
}

/// An API that answers with the given statuses, and counts its requests.
#[derive(Clone, Default)]
struct Answers {
    statuses: Arc<Mutex<BTreeMap<&'static str, u16>>>,
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Answers {
    fn set(&self, statuses: &[(&'static str, u16)]) {
        *self.statuses.lock().unwrap() = statuses.iter().copied().collect();
    }

    /// How often each path was asked since the last look.
    fn asked(&self) -> BTreeMap<String, usize> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn serve(&self, simulator: &Simulator) -> crate::support::wire::Server {
        let answers = self.clone();
        before(simulator.url(), move |request| {
            let path = request.uri().path().to_string();
            let status = answers.statuses.lock().unwrap().get(path.as_str()).copied();
            *answers.asked.lock().unwrap().entry(path).or_default() += 1;
            match status {
                Some(status) => {
                    let body = axum::Json(json!({"message": "not for you", "requestId": "r1"}));
                    let status = StatusCode::from_u16(status).unwrap();
                    Turn::Away((status, body).into_response())
                }
                None => Turn::Through,
            }
        })
    }
}

const ALL: &[&str] = &[
    "run",
    "--start_date",
    "01/01/2024",
    "--end_date",
    "21/01/2024",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_available_is_no_failure() {
    let simulator = simulator(|_| ()).await;
    let answers = Answers::default();
    let server = answers.serve(&simulator);
    let program = program()
        .set("SAMSARA_API_URL", server.url())
        .set("SAMSARA_API_TOKEN", simulator.token());
    let refused = [("/tags", 403), ("/fleet/drivers", 404), ("/gateways", 400)];
    answers.set(&refused);
    let ran = program.succeed(ALL).await;
    let told: Vec<&str> = ran
        .stderr
        .lines()
        .filter(|line| line.starts_with("not available: "))
        .collect();
    assert_eq!(told.len(), 4, "{}", ran.stderr);
    assert!(
        told.iter().any(
            |line| line.contains("licensed: /tags is not permitted (403, request r1)")
                && line.contains("\"Read Tags\"")
        ),
        "{told:?}"
    );
    assert!(
        told.iter()
            .any(|line| line.contains("members: licensed, whose rows it needs")),
        "{told:?}"
    );
    // One request for each, however many days; none for the children, and none for sources that are on request.
    let asked = answers.asked();
    for (path, _) in refused {
        assert_eq!(asked.get(path), Some(&1), "{asked:?}");
    }
    assert!(
        !asked.contains_key("/assets/location-and-speed/stream")
            && !asked.contains_key("/contacts"),
        "{asked:?}"
    );
    // Only what is there has a table.
    let tables = |program: &Program| {
        let folder = std::fs::read_dir(program.folder().join("samsara-data/warehouse")).unwrap();
        let mut names: Vec<String> = folder
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with("_t"))
            .collect();
        names.sort();
        names
    };
    assert_eq!(tables(&program), ["vehicles_t"]);

    // Within the week it is not requested, and shown apart from what was never requested.
    program.succeed(ALL).await;
    let asked = answers.asked();
    assert!(
        refused.iter().all(|(path, _)| !asked.contains_key(*path)),
        "{asked:?}"
    );
    let plan = program.succeed(&["plan"]).await.stdout;
    let status = program
        .succeed(&["status", "--calendar", "--fail-on-missing"])
        .await
        .stdout;
    for source in ["licensed", "daily", "members", "beta"] {
        assert!(
            plan.contains(&format!("{source}: not available, asked again from ")),
            "{source}: {plan}"
        );
        assert!(
            status.contains(&format!("{source} (0 raw rows) - not available on ")),
            "{source}: {status}"
        );
    }
    assert!(
        plan.contains("private: on request, not read: personal data"),
        "{plan}"
    );
    assert!(
        status.contains("private on request, not read: personal data"),
        "{status}"
    );
    assert!(status.contains("vehicles (8 raw rows) #"), "{status}");
    let listed = program.succeed(&["tables"]).await.stdout;
    assert!(
        listed.contains("beta (snapshot, optional): d")
            && listed.contains("private (snapshot): d On request: personal data."),
        "{listed}"
    );
    let check = program.succeed(&["check"]).await.stdout;
    for part in [
        "note  /tags: not available: /tags is not permitted (403",
        "note  /gateways: not available: /gateways refuses the request (400",
        "note  private: on request, not read by ALL: personal data",
        "ok    /fleet/vehicles: answers",
    ] {
        assert!(check.contains(part), "{part}: {check}");
    }
    answers.asked();

    // Selected by name it is requested at once, and its unavailability is a failure; also if its children are selected.
    for (table, code) in [("licensed", 1), ("beta_t", 1), ("members", 1)] {
        let ran = program.run(&[ALL, &["--table", table]].concat()).await;
        assert_eq!(ran.code, code, "{table}: {}", ran.stderr);
        assert!(ran.stderr.contains("failed: "), "{table}: {}", ran.stderr);
    }
    let missing = program
        .run(&["status", "--table", "licensed", "--fail-on-missing"])
        .await;
    assert_eq!(missing.code, 3, "{}", missing.stdout);

    // After a week it is requested again, once; what exists by then is read, with its table.
    let document = program
        .folder()
        .join("samsara-data/raw/state/licensed.json");
    let age = |document: &std::path::Path| {
        let mut state: serde_json::Value =
            serde_json::from_slice(&std::fs::read(document).unwrap()).unwrap();
        let at = chrono::Utc::now() - chrono::TimeDelta::days(8);
        state["not_available"]["at"] = at.to_rfc3339().into();
        std::fs::write(document, state.to_string()).unwrap();
    };
    age(&document);
    answers.asked();
    program.succeed(ALL).await;
    assert_eq!(answers.asked().get("/tags"), Some(&1));
    answers.set(&refused[1..]);
    age(&document);
    program.succeed(ALL).await;
    assert!(tables(&program).contains(&"licensed_t".to_string()));
    let state = std::fs::read_to_string(&document).unwrap();
    assert!(!state.contains("not_available"), "{state}");
    // It was read: that it is refused now is a failure.
    answers.set(&refused);
    let ran = program.run(ALL).await;
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains("failed: licensed (snapshot): /tags is not permitted"),
        "{}",
        ran.stderr
    );
    // What is optional may end.
    answers.set(&[]);
    program.succeed(&["run", "--table", "beta"]).await;
    answers.set(&[("/gateways", 404)]);
    let ran = program.succeed(ALL).await;
    assert!(
        ran.stderr.contains("not available: beta: "),
        "{}",
        ran.stderr
    );
    // On request: by name, or included.
    answers.asked();
    program
        .succeed(&[ALL, &["--include", "on-request"]].concat())
        .await;
    assert_eq!(answers.asked().get("/contacts"), Some(&1));
    assert!(tables(&program).contains(&"private_t".to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_type_takes_no_others_with_it() {
    let simulator = simulator(|_| ()).await;
    let asked = Arc::new(Mutex::new(0));
    let count = asked.clone();
    let server = before(simulator.url(), move |request| {
        let is_refused = request.uri().path() == "/fleet/vehicles/stats/history"
            && request
                .uri()
                .query()
                .unwrap_or_default()
                .contains("engineRpm");
        *count.lock().unwrap() += usize::from(is_refused);
        if !is_refused {
            return Turn::Through;
        }
        let body = axum::Json(json!({"message": "invalid stat type engineRpm"}));
        Turn::Away((StatusCode::BAD_REQUEST, body).into_response())
    });
    let program = Program::with_simulator(&simulator).set("SAMSARA_API_URL", server.url());
    let types = ["engineRpm", "engineStates", "gps"];
    let mut arguments = vec![
        "run".to_string(),
        "--start_date".into(),
        "01/01/2024".into(),
        "--end_date".into(),
        "04/01/2024".into(),
        "--max_workers".into(),
        "1".into(),
    ];
    for name in types {
        arguments.extend(["--table".into(), format!("fleet_vehicle_stats_{name}")]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ran = program.run(&arguments).await;
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    let failed: Vec<&str> = ran
        .stderr
        .lines()
        .filter(|line| line.starts_with("failed: "))
        .collect();
    assert!(
        failed.len() == 1
            && failed[0].contains("fleet_vehicle_stats_engineRpm 2024-01-0")
            && failed[0].contains("and 2 failures of this table"),
        "{failed:?}"
    );
    // Together once, then by itself.
    assert_eq!(*asked.lock().unwrap(), 1 + 3);
    let (from, to) = (day("2024-01-01"), day("2024-01-04"));
    for table in [
        "fleet_vehicle_stats_gps",
        "fleet_vehicle_stats_engineStates",
    ] {
        let rows = compare(&program, simulator.world(), table, from, to).await;
        assert!(rows.as_ref().is_ok_and(|rows| *rows > 0), "{rows:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_omitted_is_stored_nowhere() {
    let program = Program::new();
    let page = json!({
        "data": [
            {"id": "1", "secretKey": "canary-1", "url": "u", "headers": [{"key": "k", "value": "canary-2"}],
             "new": {"deep": [{"LIVESHARINGURL": "canary-3", "kept": 7}]}},
            {"id": "2", "secretKey": {"of": "canary-4"}, "headers": {"value": "canary-5"}}
        ],
        "secretKey": "canary-6",
        "pagination": {"endCursor": "", "hasNextPage": false}
    });
    program.write("pages/webhooks/0001.json", page.to_string());
    program.write(
        "sql/f/sources.toml",
        "[hooks]\ndescription = 'd'\nkind = 'snapshot'\nendpoint = '/webhooks'\nrate_limit = '5/s'\n\
         omit = ['secretKey', 'headers[].value', '**.liveSharingUrl']\n\
         schema = 'id VARCHAR, url VARCHAR, headers JSON'\n",
    );
    program.write(
        "sql/f/hooks_t.sql",
        "/*---\ndescription = 'd'\n---*/\nSELECT * FROM raw.hooks\n",
    );
    let simulator = replay(&program.folder().join("pages")).await;
    let (url, token) = (simulator.url(), simulator.token().to_string());
    let program = program
        .set("SAMSARA_API_URL", &url)
        .set("SAMSARA_API_TOKEN", &token);
    let ran = program.succeed(&["run", "-vv"]).await;
    let raw = program.rows("SELECT * FROM raw.hooks ORDER BY id").await;
    let loaded = program.rows("SELECT * FROM hooks_t ORDER BY id").await;
    let drift = program.succeed(&["sources", "drift"]).await.stdout;
    let logs: String = std::fs::read_dir(program.folder().join("logs"))
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    for text in [
        format!("{raw:?}"),
        format!("{loaded:?}"),
        ran.stdout,
        ran.stderr,
        drift,
        logs,
    ] {
        assert!(!text.contains("canary"), "{text}");
    }
    // All else is there, rescued or not.
    assert_eq!(raw[0]["headers"], json!(r#"[{"key":"k"}]"#));
    assert!(
        raw[0]["_rescued_data"].to_string().contains("kept"),
        "{raw:?}"
    );
    assert_eq!(raw[1]["headers"], json!("{}"));
}
