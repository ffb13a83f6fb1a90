//! Models that read several sources: whatever comes late, or not at first, is in the tables in the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing::get};
use serde_json::{Map, Value, json};

use crate::program::{Program, Ran};
use crate::support::sources::{daily, list};
use crate::support::wire::Server;

fn sources() -> String {
    [
        list("people", "id VARCHAR, team VARCHAR"),
        list("teams", "id VARCHAR, name VARCHAR"),
        daily("shifts", "team VARCHAR, name VARCHAR"),
        daily("stops", "team VARCHAR, name VARCHAR"),
    ]
    .concat()
}

const DAY: &str = "to_timestamp_micros(s.at) AS at";

/// The responses of the endpoints: at 0, teams and stops fail; from 2 on, both have other rows.
struct Rig {
    program: Program,
    turn: Arc<AtomicU64>,
    _server: Server,
}

fn page(data: &Value) -> Response {
    Json(json!({"data": data, "pagination": {"endCursor": "", "hasNextPage": false}}))
        .into_response()
}

impl Rig {
    fn new(model: &str, sql: &str) -> Self {
        let turn = Arc::new(AtomicU64::new(0));
        let fixed = |data: Value| get(move || async move { page(&data) });
        let changing = |name: &'static str| {
            let turn = turn.clone();
            get(move || async move {
                match turn.load(Ordering::SeqCst) {
                    0 => (StatusCode::BAD_REQUEST, "not today").into_response(),
                    turn => page(
                        &json!([{"id": "t", "at": "2024-01-01T09:00:00Z", "team": "t", "name": format!("{name} {turn}")}]),
                    ),
                }
            })
        };
        let router = Router::new()
            .route("/people", fixed(json!([{"id": "p", "team": "t"}])))
            .route(
                "/shifts",
                fixed(
                    json!([{"at": "2024-01-01T08:00:00Z", "team": "t"}, {"at": "2024-01-02T08:00:00Z", "team": "t"}]),
                ),
            )
            .route("/teams", changing("team"))
            .route("/stops", changing("stop"));
        let server = Server::start(router);
        let program = Program::new()
            .set("SAMSARA_API_URL", server.url())
            .set("SAMSARA_API_TOKEN", "t");
        program.write("sql/f/sources.toml", sources());
        let rig = Self {
            program,
            turn,
            _server: server,
        };
        rig.write(model, sql);
        rig
    }

    fn write(&self, model: &str, sql: &str) {
        let front = if sql.contains(DAY) {
            "partition_by = \"at\"\n"
        } else {
            ""
        };
        let text = format!("/*---\ndescription = \"d\"\n{front}---*/\n{sql}");
        self.program.write(&format!("sql/f/{model}.sql"), text);
    }

    async fn run(&self, turn: u64, table: &str, end: &str, flags: &[&str]) -> Ran {
        self.turn.store(turn, Ordering::SeqCst);
        let run = [
            "run",
            "--start-date",
            "2024-01-01",
            "--end-date",
            end,
            "--table",
            table,
        ];
        self.program.run(&[&run[..], flags].concat()).await
    }

    async fn names(&self, table: &str) -> Vec<String> {
        let rows = self
            .program
            .rows(&format!("SELECT name FROM {table}"))
            .await;
        let name = |row: &Map<String, Value>| {
            row.get("name")
                .and_then(Value::as_str)
                .unwrap_or("none")
                .to_string()
        };
        let mut names: Vec<String> = rows.iter().map(name).collect();
        names.sort();
        names
    }
}

const WORKED: &str = "raw.shifts AS s LEFT JOIN raw.teams AS t ON s.team = t.id";

#[tokio::test(flavor = "multi_thread")]
async fn days_wait_for_a_failed_list() {
    let rig = Rig::new("worked", &format!("SELECT {DAY}, t.name FROM {WORKED}"));
    let failed = rig.run(0, "worked", "2024-01-02", &[]).await;
    assert_eq!(failed.code, 3, "{}", failed.stderr);
    assert!(
        failed.stderr.contains("upstream teams could not be read"),
        "{}",
        failed.stderr
    );
    assert_eq!(rig.run(1, "worked", "2024-01-02", &[]).await.code, 0);
    assert_eq!(rig.names("worked").await, ["team 1"]);
    // A new day is not derived with yesterday's list; the old one stays as it was derived, even if the list fails.
    assert_eq!(rig.run(0, "worked", "2024-01-03", &[]).await.code, 3);
    assert_eq!(rig.names("worked").await, ["team 1"]);
    assert_eq!(rig.run(2, "worked", "2024-01-03", &[]).await.code, 0);
    assert_eq!(rig.names("worked").await, ["team 1", "team 2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn days_wait_for_a_list_that_was_never_read() {
    let rig = Rig::new("worked", &format!("SELECT {DAY} FROM raw.shifts AS s"));
    assert_eq!(rig.run(1, "worked", "2024-01-02", &[]).await.code, 0);
    rig.write("worked", &format!("SELECT {DAY}, t.name FROM {WORKED}"));
    let unread = rig
        .run(1, "worked", "2024-01-02", &["--stages", "transform,load"])
        .await;
    assert_eq!(unread.code, 1, "{}", unread.stderr);
    assert!(
        unread.stderr.contains("upstream teams was not read yet"),
        "{}",
        unread.stderr
    );
    assert_eq!(rig.run(1, "worked", "2024-01-02", &[]).await.code, 0);
    assert_eq!(rig.names("worked").await, ["team 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_made_of_two_follows_both() {
    let rig = Rig::new(
        "members",
        "SELECT p.id, t.name FROM raw.people AS p LEFT JOIN raw.teams AS t ON p.team = t.id",
    );
    for turn in [1, 2, 3] {
        assert_eq!(rig.run(turn, "members", "2024-01-02", &[]).await.code, 0);
        assert_eq!(rig.names("members").await, [format!("team {turn}")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_made_of_two_follows_both() {
    let sql = format!(
        "SELECT {DAY}, p.name FROM raw.shifts AS s LEFT JOIN raw.stops AS p ON s.team = p.team"
    );
    let rig = Rig::new("days", &sql);
    let failed = rig.run(0, "days", "2024-01-02", &[]).await;
    assert_eq!(failed.code, 3, "{}", failed.stderr);
    assert_eq!(rig.run(1, "days", "2024-01-02", &[]).await.code, 0);
    assert_eq!(rig.names("days").await, ["stop 1"]);
    assert_eq!(
        rig.run(2, "days", "2024-01-02", &["--historical"])
            .await
            .code,
        0
    );
    assert_eq!(rig.names("days").await, ["stop 2"]);
}
