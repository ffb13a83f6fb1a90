//! Records that change, asked for by the time of the last change: each stands in the table once, as it is now, in the
//! day on which it was born, whatever happened between two reads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing::get};
use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::program::Program;
use crate::support::wire::Server;

const CATALOG: &str = r#"
[defaults]
description = "d"
kind = "updates"
endpoint = "/cases"
rate_limit = "1000/s"
window = { start = "startTime", end = "endTime", format = "rfc3339" }
key = ["id"]
newest_by = "updatedAtTime"
lookback_days = 1
days_per_request = 4
expiring = ["photo"]
schema = "id VARCHAR, createdAtTime VARCHAR, updatedAtTime VARCHAR, status VARCHAR, photo VARCHAR, parts ARRAY<VARCHAR>"

[cases]
time_field = "createdAtTime"

[loose]
"#;

/// One record as it is now.
#[derive(Debug, Clone)]
struct Case {
    born: DateTime<Utc>,
    updated: DateTime<Utc>,
    status: String,
}

type Happens = Box<dyn FnOnce(&mut BTreeMap<String, Case>) + Send>;

/// What the API knows, and what happens meanwhile.
#[derive(Default)]
struct World {
    cases: BTreeMap<String, Case>,
    /// Before the answer to this request, counted from 1, this happens.
    happens: Vec<(usize, Happens)>,
    /// Windows that begin at or after this instant are refused.
    broken_from: Option<DateTime<Utc>>,
    /// Longer windows are too much for the server.
    longest: Option<TimeDelta>,
    /// From this request on, all are refused.
    refused_from: Option<usize>,
    requests: usize,
    /// Start and cursor of each request that was answered.
    answered: Vec<(String, Option<String>)>,
}

#[derive(Clone, Default)]
struct Api(Arc<Mutex<World>>);

const PAGE: usize = 2;

async fn cases(State(api): State<Api>, Query(query): Query<BTreeMap<String, String>>) -> Response {
    let mut world = api.0.lock().unwrap();
    world.requests += 1;
    let now = world.requests;
    let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut world.happens)
        .into_iter()
        .partition(|(at, _)| *at <= now);
    world.happens = later;
    for (_, happens) in due {
        happens(&mut world.cases);
    }
    let at = |name: &str| query[name].parse::<DateTime<Utc>>().unwrap();
    let (start, end) = (at("startTime"), at("endTime"));
    if world.broken_from.is_some_and(|from| start >= from) {
        return (StatusCode::BAD_REQUEST, "no").into_response();
    }
    if world.refused_from.is_some_and(|from| now >= from) {
        return (StatusCode::UNPROCESSABLE_ENTITY, "no").into_response();
    }
    let cursor = query.get("after").cloned();
    world.answered.push((query["startTime"].clone(), cursor));
    if world.longest.is_some_and(|longest| end - start > longest) {
        return (StatusCode::PAYLOAD_TOO_LARGE, "too much").into_response();
    }
    // The cursor is a position in the order of changes, as real ones are.
    let after = query.get("after").cloned().unwrap_or_default();
    let mut found: Vec<(String, &String, &Case)> = world
        .cases
        .iter()
        .filter(|(_, case)| (start..end).contains(&case.updated))
        .map(|(id, case)| (format!("{} {id}", case.updated.to_rfc3339()), id, case))
        .filter(|(position, ..)| *position > after)
        .collect();
    found.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    let page: Vec<Value> = found
        .iter()
        .take(PAGE)
        .map(|(_, id, case)| {
            json!({
                "id": id, "createdAtTime": case.born, "updatedAtTime": case.updated, "status": case.status,
                "photo": format!("https://x/{id}?sig={now}"), "parts": [id, case.status],
            })
        })
        .collect();
    let cursor = found
        .iter()
        .take(PAGE)
        .next_back()
        .map(|(position, ..)| position.clone());
    let pagination =
        json!({"endCursor": cursor.unwrap_or_default(), "hasNextPage": found.len() > PAGE});
    Json(json!({"data": page, "pagination": pagination})).into_response()
}

/// The API and a program that asks it.
struct Setting {
    api: Api,
    program: Program,
    _server: Server,
}

impl Setting {
    fn new() -> Self {
        let api = Api::default();
        let router = Router::new()
            .route("/cases", get(cases))
            .with_state(api.clone());
        let server = Server::start(router);
        let program = Program::new()
            .set("SAMSARA_API_URL", server.url())
            .set("SAMSARA_API_TOKEN", "t");
        program.write("sql/f/sources.toml", CATALOG);
        let model = |from: &str, daily: bool| {
            let (partition, column) = match daily {
                true => (
                    "partition_by = \"born\"\n",
                    "samsara_time(createdAtTime) AS born, ",
                ),
                false => ("", ""),
            };
            let columns = "status, samsara_time(updatedAtTime) AS updated";
            format!(
                "/*---\ndescription = \"d\"\n{partition}---*/\nSELECT id, {column}{columns} FROM raw.{from}\n"
            )
        };
        for (table, from, daily) in [
            ("now_t", "cases", true),
            ("versions_t", "cases__versions", true),
            ("loose_t", "loose", false),
            ("loose_versions_t", "loose__versions", false),
        ] {
            program.write(&format!("sql/f/{table}.sql"), model(from, daily));
        }
        program.write(
            "sql/f/parts_t.sql",
            "/*---\ndescription = \"d\"\npartition_by = \"born\"\nunique_key = [\"id\", \"part\"]\n---*/\n\
             SELECT id, samsara_time(createdAtTime) AS born, part\n\
             FROM (SELECT id, createdAtTime, unnest(parts) AS part FROM raw.cases)\n",
        );
        Self {
            api,
            program,
            _server: server,
        }
    }

    /// A record that is born and changed so many days and hours ago.
    fn put(&self, id: &str, born: (u64, u32), updated: (u64, u32), status: &str) {
        let case = Case {
            born: at(born),
            updated: at(updated),
            status: status.into(),
        };
        self.api.0.lock().unwrap().cases.insert(id.into(), case);
    }

    fn happens(
        &self,
        request: usize,
        what: impl FnOnce(&mut BTreeMap<String, Case>) + Send + 'static,
    ) {
        let mut world = self.api.0.lock().unwrap();
        let request = world.requests + request;
        world.happens.push((request, Box::new(what)));
    }

    async fn run(&self, dates: &[&str]) {
        self.program.succeed(&[&["run"], dates].concat()).await;
    }

    /// Rows of a table as `id status`.
    async fn rows(&self, table: &str) -> Vec<String> {
        let sql = format!("SELECT id, status FROM {table} ORDER BY id, updated, status");
        let rows = self.program.rows(&sql).await;
        rows.iter()
            .map(|row| {
                format!(
                    "{} {}",
                    row["id"].as_str().unwrap(),
                    row["status"].as_str().unwrap()
                )
            })
            .collect()
    }

    /// That tables and API agree, dated or not, children too.
    async fn agree(&self) {
        let expected: Vec<String> = {
            let world = self.api.0.lock().unwrap();
            let cases = world.cases.iter();
            cases
                .map(|(id, case)| format!("{id} {}", case.status))
                .collect()
        };
        assert_eq!(self.rows("now_t").await, expected);
        assert_eq!(self.rows("loose_t").await, expected);
        let mut parts = self.program.rows("SELECT id, part FROM parts_t").await;
        parts.retain(|row| row["id"] != row["part"]);
        assert_eq!(parts.len(), expected.len());
    }

    fn state(&self, source: &str) -> Value {
        let path = format!("samsara-data/raw/state/{source}.json");
        serde_json::from_slice(&std::fs::read(self.program.folder().join(path)).unwrap()).unwrap()
    }

    /// How many raw objects a source has.
    fn objects(&self, source: &str) -> usize {
        let state = self.state(source);
        let partitions = state["partitions"].as_object().unwrap().values();
        partitions
            .map(|partition| partition["raw"]["objects"].as_array().unwrap().len())
            .sum()
    }
}

fn day(ago: u64) -> NaiveDate {
    Utc::now().date_naive() - Days::new(ago)
}

fn at((ago, hour): (u64, u32)) -> DateTime<Utc> {
    day(ago).and_hms_opt(hour, 0, 0).unwrap().and_utc()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_there_once_as_it_is_now() {
    let setting = Setting::new();
    let start = day(20).to_string();
    let first = ["--start_date", start.as_str()];
    // One was born before the first day, and one that changed before it is of no interest.
    setting.put("a", (40, 1), (12, 1), "open");
    setting.put("b", (18, 1), (18, 1), "open");
    setting.put("c", (17, 1), (17, 2), "open");
    setting.put("g", (18, 1), (18, 2), "open");
    setting.put("d", (16, 1), (9, 1), "open");
    setting.put("e", (6, 1), (5, 1), "open");
    setting.put("z", (45, 1), (44, 1), "old");
    // Between two pages of one request, and across the edge of a window that is read already.
    setting.happens(2, |cases| {
        let c = cases.get_mut("c").unwrap();
        (c.updated, c.status) = (at((3, 1)), "seen".into());
    });
    setting.happens(3, |cases| {
        let b = cases.get_mut("b").unwrap();
        (b.updated, b.status) = (at((2, 1)), "seen".into());
    });
    setting.run(&first).await;
    setting.api.0.lock().unwrap().cases.remove("z");
    setting.agree().await;
    let born = setting
        .program
        .rows("SELECT CAST(CAST(born AS DATE) AS VARCHAR) AS day FROM now_t WHERE id = 'a'")
        .await;
    assert_eq!(born[0]["day"], day(40).to_string().as_str());

    // Nothing has changed: the overlap adds nothing, although links are signed again.
    let (objects, loose) = (setting.objects("cases"), setting.objects("loose"));
    let recent = Utc::now() - TimeDelta::minutes(30);
    let f = Case {
        born: at((1, 1)),
        updated: recent,
        status: "open".into(),
    };
    setting.api.0.lock().unwrap().cases.insert("f".into(), f);
    setting.run(&[]).await;
    setting.agree().await;
    assert_eq!(setting.objects("cases"), objects + 1);
    assert_eq!(setting.objects("loose"), loose + 1);
    setting.run(&[]).await;
    assert_eq!(setting.objects("cases"), objects + 1);

    // Changed after its day was read, twice between two runs; and the same version with other content.
    {
        let mut world = setting.api.0.lock().unwrap();
        for (minutes, status) in [(6, "never seen"), (5, "done")] {
            let d = world.cases.get_mut("d").unwrap();
            (d.updated, d.status) = (Utc::now() - TimeDelta::minutes(minutes), status.into());
        }
        world.cases.get_mut("f").unwrap().status = "edited".into();
    }
    setting.run(&[]).await;
    setting.agree().await;
    let versions = setting.rows("versions_t").await;
    let of = |id: &str| {
        let versions = versions.iter().filter(|row| row.starts_with(id));
        versions.cloned().collect::<Vec<_>>()
    };
    assert_eq!(of("d"), ["d open", "d done"]);
    assert_eq!(of("f"), ["f edited", "f open"]);
    // Both sources are read at the same time: which of them saw `b` and `c` before they changed is left to chance.
    let settled = |mut rows: Vec<String>| {
        rows.retain(|row| !row.starts_with(['b', 'c']));
        rows
    };
    let loose = setting.rows("loose_versions_t").await;
    assert_eq!(settled(loose), settled(versions.clone()));

    // The position is lost: all is read again, and nothing is there twice.
    for source in ["cases", "loose"] {
        let mut state = setting.state(source);
        state.as_object_mut().unwrap().remove("updates").unwrap();
        setting.program.write(
            &format!("samsara-data/raw/state/{source}.json"),
            state.to_string(),
        );
    }
    setting.run(&first).await;
    setting.agree().await;
    assert_eq!(setting.rows("versions_t").await, versions);
    // A period again adds what is new and leaves the position alone.
    let before = setting.state("cases")["updates"].clone();
    let end = day(2).to_string();
    setting
        .run(&["--historical", "--start_date", &start, "--end_date", &end])
        .await;
    assert_eq!(setting.state("cases")["updates"], before);
    assert_eq!(setting.rows("versions_t").await, versions);
}

#[tokio::test(flavor = "multi_thread")]
async fn days_that_are_over_hold_later_changes() {
    let setting = Setting::new();
    setting.put("a", (19, 1), (3, 1), "done");
    setting.put("b", (18, 1), (18, 1), "open");
    setting.put("c", (14, 1), (14, 1), "open");
    setting.put("d", (13, 1), (2, 1), "done");
    let (start, end) = (day(20).to_string(), day(15).to_string());
    let days = ["--start_date", start.as_str(), "--end_date", end.as_str()];
    setting.run(&days).await;
    // What was born later is not there: neither a row nor a day.
    assert_eq!(setting.rows("now_t").await, ["a done", "b open"]);
    let requests = setting.api.0.lock().unwrap().requests;
    // Read late enough, these days are settled.
    setting.run(&days).await;
    assert_eq!(setting.api.0.lock().unwrap().requests, requests);
    let plan = setting.program.succeed(&["plan"]).await.stdout;
    assert!(plan.contains("cases: changes of "), "{plan}");
    // An earlier day, and then all that was left out.
    setting.put("e", (25, 1), (25, 1), "open");
    let earlier = day(26).to_string();
    setting.run(&["--start_date", &earlier]).await;
    setting.agree().await;
    let from = setting.state("cases")["updates"]["from"].clone();
    assert_eq!(from, format!("{earlier}T00:00:00Z").as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_is_made_of_the_versions() {
    let setting = Setting::new();
    for (table, source, born) in [
        ("case_t", "cases", "samsara_time(createdAtTime) AS born, "),
        ("any_t", "loose", ""),
    ] {
        let partition = if born.is_empty() {
            ""
        } else {
            "partition_by = \"born\"\n"
        };
        let model = format!(
            "/*---\ndescription = \"d\"\n{partition}unique_key = [\"id\"]\nhistory = true\n---*/\n\
             SELECT DISTINCT id, {born}status, samsara_time(updatedAtTime) AS updatedAtTime FROM raw.{source}\n"
        );
        setting.program.write(&format!("sql/f/{table}.sql"), model);
    }
    setting.put("a", (18, 1), (18, 2), "open");
    setting.put("b", (17, 1), (17, 2), "open");
    let start = day(20).to_string();
    setting.run(&["--start_date", &start]).await;
    // The same time with other content, and a later one.
    setting.put("b", (17, 1), (17, 2), "never");
    setting
        .run(&[
            "--historical",
            "--start_date",
            &start,
            "--end_date",
            &day(0).to_string(),
        ])
        .await;
    let recent = Utc::now() - TimeDelta::minutes(5);
    {
        let mut world = setting.api.0.lock().unwrap();
        let a = world.cases.get_mut("a").unwrap();
        (a.updated, a.status) = (recent, "done".into());
    }
    setting.run(&[]).await;
    for table in ["case_t", "any_t"] {
        let sql = format!(
            "SELECT id, status, valid_from = updatedAtTime AS is_own, valid_to IS NULL AS holds, is_deleted \
             FROM {table}_history ORDER BY id, valid_from"
        );
        let rows = setting.program.rows(&sql).await;
        let found: Vec<String> = rows
            .iter()
            .map(|row| {
                assert_eq!(
                    (&row["is_own"], &row["is_deleted"]),
                    (&json!(true), &json!(false))
                );
                let status = row["status"].as_str().unwrap();
                format!("{} {status} {}", row["id"].as_str().unwrap(), row["holds"])
            })
            .collect();
        assert_eq!(
            found,
            ["a open false", "a done true", "b never true"],
            "{table}"
        );
        let sql = format!(
            "SELECT count(*) AS n FROM {table}_history AS one JOIN {table}_history AS next \
             ON one.id = next.id AND one.valid_to = next.valid_from"
        );
        assert_eq!(setting.program.rows(&sql).await[0]["n"], 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_two_days_is_found() {
    let setting = Setting::new();
    setting.put("a", (18, 1), (18, 2), "open");
    setting.put("b", (17, 1), (17, 2), "open");
    let start = day(20).to_string();
    setting.run(&["--start_date", &start]).await;
    let compare = ["check", "--warehouse"];
    setting.program.succeed(&compare).await;
    // A time of birth that changes all the same.
    let later = Case {
        born: at((9, 1)),
        updated: Utc::now() - TimeDelta::minutes(5),
        status: "done".into(),
    };
    setting
        .api
        .0
        .lock()
        .unwrap()
        .cases
        .insert("a".into(), later);
    setting.run(&[]).await;
    let told = setting.program.run(&compare).await;
    let expected = format!(
        "FAIL  parts_t: 1 key is in more than one day (id, part): a, a in {} and {}; the time_field of cases has changed",
        day(18),
        day(9)
    );
    assert_eq!(told.code, 1, "{}", told.stdout);
    assert!(told.stdout.contains(&expected), "{}", told.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_goes_on_where_it_was_left() {
    let (start, end) = (day(35).to_string(), day(0).to_string());
    let from_start = ["--start_date", start.as_str()];
    let again = ["--historical", "--end_date", &end];
    for dates in [from_start.to_vec(), [&from_start[..], &again].concat()] {
        let mut setting = Setting::new();
        setting.program = setting.program.set("SAMSARA_ETL_CHECKPOINT_PAGES", "2");
        // One source, and ten pages in one window.
        let (loose, days) = (CATALOG.find("[loose]").unwrap(), "days_per_request = 4");
        let catalog = CATALOG[..loose].replace(days, "days_per_request = 30");
        setting.program.write("sql/f/sources.toml", catalog);
        for table in ["loose_t", "loose_versions_t"] {
            let file = setting.program.folder().join(format!("sql/f/{table}.sql"));
            std::fs::remove_file(file).unwrap();
        }
        for number in 0..20 {
            let id = format!("{number:02}");
            setting.put(&id, (30 - number, 1), (30 - number, 2), "open");
        }
        setting.api.0.lock().unwrap().refused_from = Some(8);
        let ran = setting.program.run(&[&["run"], &dates[..]].concat()).await;
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        let unfinished = setting.state("cases")["unfinished"].clone();
        assert!(unfinished["checkpoint"].is_object(), "{unfinished}");
        assert!(setting.state("cases").get("updates").is_none());
        // Objects that only the checkpoint names are in use.
        setting
            .program
            .succeed(&["clean", "--older-than", "0"])
            .await;
        // What was read before is changed meanwhile: a later window has it.
        {
            let mut world = setting.api.0.lock().unwrap();
            let changed = world.cases.get_mut("01").unwrap();
            (changed.updated, changed.status) = (Utc::now() - TimeDelta::minutes(9), "done".into());
            (world.refused_from, world.answered) = (None, Vec::new());
        }
        // The next run has another present, and begins with the window as it was.
        setting.run(&dates).await;
        let answered = std::mem::take(&mut setting.api.0.lock().unwrap().answered);
        let (first, cursor) = &answered[0];
        assert!(
            first.starts_with(&start) && cursor.is_some(),
            "{answered:?}"
        );
        let from_its_start =
            |(at, cursor): &&(String, Option<String>)| at == first && cursor.is_none();
        assert_eq!(
            answered.iter().filter(from_its_start).count(),
            0,
            "{answered:?}"
        );
        assert!(setting.state("cases").get("unfinished").is_none());
        if dates.len() > from_start.len() {
            // That moved no position.
            setting.run(&from_start).await;
        }
        let rows = setting.rows("now_t").await;
        assert_eq!((rows.len(), rows[1].as_str()), (20, "01 done"));
        assert_eq!(setting.rows("versions_t").await.len(), 21);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_fails_keeps_those_before() {
    let setting = Setting::new();
    // All of one day, each changed in a window of its own.
    for number in 0..36 {
        setting.put(&format!("{number:02}"), (40, 1), (37 - number, 2), "open");
    }
    setting.api.0.lock().unwrap().broken_from = Some(at((9, 0)));
    setting.program.write(
        "sql/f/sources.toml",
        CATALOG.replace("days_per_request = 4", "days_per_request = 1"),
    );
    let start = day(40).to_string();
    let run = ["run", "--start_date", start.as_str()];
    let ran = setting.program.run(&run).await;
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("failed: cases (changes of "),
        "{}",
        ran.stderr
    );
    let until = setting.state("cases")["updates"]["until"].clone();
    assert_eq!(until, format!("{}T00:00:00Z", day(9)).as_str());
    // What was committed before is in the tables already.
    assert_eq!(setting.rows("now_t").await.len(), 28);
    // It goes on from there, in halves where a window is too much; many objects of one day become one.
    setting.api.0.lock().unwrap().broken_from = None;
    setting.api.0.lock().unwrap().longest = Some(TimeDelta::hours(12));
    setting.run(&[]).await;
    setting.agree().await;
    assert!(
        setting.objects("cases") < 10,
        "{}",
        setting.objects("cases")
    );
    assert_eq!(setting.rows("versions_t").await.len(), 36);
    let status = setting.program.succeed(&["status", "--calendar"]).await;
    let status = status.stdout;
    assert!(status.contains("cases (36 raw rows)"), "{status}");
}
