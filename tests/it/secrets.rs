//! Canaries: every configurable secret contains one, every error that can be provoked is provoked, and nothing that the
//! program leaves behind contains any.

use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use samsara_etl::config::Secret;

use crate::program::{Program, Ran, impatient, run_here};
use crate::proxy::key_file;
use crate::support::wire::Server;

const TOKEN: &str = "CanaryTokenOfTheApi";
const SALT: &str = "canary, salt \"quoted\"";
/// Base64, as the body of a key is: `canary` over and over.
const KEY: &str = "Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5";
const TABLE: &[&str] = &["--table", "fleet_vehicles"];

/// What must be nowhere, in lower case: the canaries, also in base64 and as bytes.
const TRACES: [&str; 4] = [
    "canary",
    "y2fuyxj5",
    "99, 97, 110, 97, 114, 121",
    "89, 50, 70, 117",
];

#[track_caller]
fn assert_clean(what: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).to_lowercase();
    for trace in TRACES {
        if let Some(at) = text.find(trace) {
            let around: String = text[..at]
                .chars()
                .rev()
                .take(120)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .collect();
            panic!(
                "{what} holds a canary: …{around}{}",
                text[at..].chars().take(60).collect::<String>()
            );
        }
    }
}

#[track_caller]
fn assert_said_clean(what: &str, ran: &Ran) {
    assert_clean(what, ran.stdout.as_bytes());
    assert_clean(what, ran.stderr.as_bytes());
    assert!(!ran.stderr.contains("panicked"), "{what}: {}", ran.stderr);
}

/// Every file that the program has left in its folder: logs, state, raw and flattened objects, tables.
fn assert_left_clean(what: &str, folder: &Path) -> usize {
    let (mut folders, mut files) = (vec![folder.join("logs"), folder.join("samsara-data")], 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .map(Result::unwrap)
        {
            if entry.metadata().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                files += 1;
                let name = entry.path().display().to_string();
                assert_clean(
                    &format!("{what}: {name}"),
                    &std::fs::read(entry.path()).unwrap(),
                );
            }
        }
    }
    files
}

/// A program whose secrets all hold a canary.
fn program() -> Program {
    Program::new()
        .set("SAMSARA_API_TOKEN", TOKEN)
        .set("SAMSARA_ETL_HASH_SALT", SALT)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_configured_wrongly_is_named_and_never_quoted() {
    let pem =
        |body: &str| format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
    // More kinds of keys: `google::tests`.
    let keys = [
        key_file(&pem(KEY)),
        key_file(&pem(KEY).replace('\n', "\\n")),
        key_file(&format!("-----BEGIN PRIVATE KEY-----\\\\n{KEY}")),
        key_file(&pem(KEY)).replace("service_account", "authorized_user"),
        key_file(&pem(KEY))[..80].to_string(),
    ];
    for (number, key) in keys.iter().enumerate() {
        let program = program()
            .set("SAMSARA_API_URL", "http://127.0.0.1:9")
            .set("GCS_BUCKET_NAME", "some-bucket")
            .set("GCS_BUCKET_FLATTENED_NAME", "other-bucket")
            .set("GCP_CREDENTIALS_FILE_NAME", "key.json")
            .set("GOOGLE_CLOUD_PROJECT", "p")
            .set("DWH_ID", "d")
            // Real buckets are not asked more often than they allow.
            .set("SAMSARA_ETL_WAIT_SCALE", "1")
            .set("RUST_LOG", "trace");
        program.write("credentials/key.json", key);
        for command in ["run", "plan"] {
            let ran = program.run(&[&[command], TABLE].concat()).await;
            assert_said_clean(&format!("{command} with key {number}"), &ran);
            let errors: Vec<_> = ran
                .stderr
                .lines()
                .filter(|line| line.starts_with("error: "))
                .collect();
            assert_eq!((ran.code, errors.len()), (2, 1), "{}", ran.stderr);
            assert!(
                errors[0].contains("credentials/key.json: "),
                "{}",
                errors[0]
            );
        }
        assert_left_clean(&format!("key {number}"), program.folder());
    }
    // `check` asks more than the bucket.
    let program = program()
        .set("GCS_BUCKET_NAME", "some-bucket")
        .set("GCS_BUCKET_FLATTENED_NAME", "other-bucket")
        .set("GCP_CREDENTIALS_FILE_NAME", "key.json")
        .set("SAMSARA_API_URL", "http://127.0.0.1:9")
        .set("SAMSARA_API_TOKEN", "Bearer");
    program.write("credentials/key.json", &keys[1]);
    assert_said_clean("a token that is none", &program.run(&["check"]).await);

    let document = key_file(&pem(KEY));
    let url = "https://canary-user:canary-password@127.0.0.1:9";
    let socks = "socks5://canary-user:canary-password@127.0.0.1:9";
    for (name, value, part) in [
        (
            "GOOGLE_APPLICATION_CREDENTIALS",
            document.as_str(),
            "must be the path of a file",
        ),
        (
            "GCP_CREDENTIALS_FILE_NAME",
            &document,
            "must be the path of a file",
        ),
        ("SAMSARA_API_URL", url, "must not carry a user or password"),
        (
            "STORAGE_EMULATOR_HOST",
            url,
            "must not carry a user or password",
        ),
        (
            "BIGQUERY_EMULATOR_HOST",
            url,
            "must not carry a user or password",
        ),
        (
            "SAMSARA_API_URL",
            "https://host/canary",
            "must name a host only",
        ),
        (
            "SAMSARA_API_TOKEN",
            "canary-token\nof-two-lines",
            "holds a line break",
        ),
        ("HTTPS_PROXY", socks, "SOCKS proxies are not supported"),
        (
            "GCS_BUCKET_NAME",
            &format!("gs://{}", pem(KEY)),
            "GCS_BUCKET_NAME: ",
        ),
        ("DWH_ID", TOKEN, "GOOGLE_CLOUD_PROJECT: "),
        ("SAMSARA_REGION", TOKEN, "SAMSARA_REGION: "),
    ] {
        // As a variable, and as a line of `.env`.
        let of_file = Program::new();
        let quote = if value.contains('"') { '\'' } else { '"' };
        let lines = format!(
            "{name}={quote}{}{quote}\nSAMSARA_ETL_HASH_SALT='{SALT}'\n",
            value.replace('\n', "\\n")
        );
        let token = if name == "SAMSARA_API_TOKEN" {
            String::new()
        } else {
            format!("SAMSARA_API_TOKEN={TOKEN}\n")
        };
        of_file.write(".env", lines + &token);
        for (program, commands) in [
            (self::program().set(name, value), &["run", "check"][..]),
            (of_file, &["run"]),
        ] {
            for command in commands {
                let ran = program.run(&[&[*command], TABLE].concat()).await;
                assert_said_clean(&format!("{command} with {name}"), &ran);
                let said = ran.stdout + &ran.stderr;
                assert!(
                    ran.code != 0 && said.contains(part),
                    "{command} with {name}: {said}"
                );
                if part.starts_with("must") || part.starts_with("has") {
                    assert_eq!(ran.code, 2, "{said}");
                }
            }
            assert_left_clean(name, program.folder());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_typed_or_read_by_mistake_is_not_repeated() {
    let program = program();
    program.write("tables.csv", format!("table\n{TOKEN}\n"));
    program.write("broken/f/sources.toml", format!("[a]\nscope = {TOKEN}\n"));
    program.write("other/f/sources.toml", format!("[a]\nkind = \"{TOKEN}\"\n"));
    let cases: [&[&str]; 8] = [
        &["run", "--rate-share", TOKEN],
        &["run", "--start_date", TOKEN],
        &["run", "--table", TOKEN],
        &["plan", "--tables", "tables.csv"],
        &["--sql-dir", "broken", "tables"],
        &["--sql-dir", "other", "sql", "check"],
        &["query", "SELECT 'CanaryTokenOfTheApi' FROM nowhere"],
        &[TOKEN],
    ];
    for arguments in cases {
        let ran = program.run(arguments).await;
        assert_ne!(ran.code, 0, "{arguments:?}: {}", ran.stderr);
        assert_said_clean(&format!("{arguments:?}"), &ran);
    }
    program.write(
        ".env",
        format!("SAMSARA_API_TOKEN={TOKEN}\nHASH {SALT}\n'unfinished {TOKEN}\n"),
    );
    // With nothing of it in the environment, it is `.env` alone that names the secrets.
    let program = program
        .set("SAMSARA_API_TOKEN", "")
        .set("SAMSARA_ETL_HASH_SALT", "");
    assert_said_clean(".env", &program.run(&["run"]).await);
}

/// What a server does with what it was sent.
#[derive(Clone, Copy, Debug)]
enum Echo {
    /// An error of this status, with a message in JSON.
    Json(u16),
    /// An error of this status, as plain text.
    Text(u16),
    /// An error whose request id, in its header, is the token.
    Id(u16),
    /// A redirect.
    Redirect,
    /// 200 with a page for people.
    Html,
    /// 200 with JSON that is not a page.
    NoPage,
    /// 200 with a record whose fields no schema knows.
    Fields,
    /// 200 with a page whose cursor is the token.
    Cursor,
}

fn echo(echo: Echo, request: &Request) -> Response {
    let sent = request.headers()["authorization"]
        .to_str()
        .unwrap()
        .to_string();
    let text = format!("you sent {sent}; {sent}\u{1b}[31m\nfailed: {sent}");
    let status = |status| StatusCode::from_u16(status).unwrap();
    match echo {
        Echo::Json(code) => {
            let body = serde_json::json!({ "message": text, "requestId": sent });
            (status(code), [("Retry-After", "0")], body.to_string()).into_response()
        }
        Echo::Text(code) => (status(code), [("Retry-After", "0")], text).into_response(),
        Echo::Id(code) => (
            status(code),
            [("Retry-After", "0"), ("Request-Id", &sent)],
            "{}",
        )
            .into_response(),
        Echo::Redirect => {
            let to = format!(
                "https://elsewhere.example/?token={}",
                sent.trim_start_matches("Bearer ")
            );
            (StatusCode::FOUND, [("Location", to)]).into_response()
        }
        Echo::Html => format!("<html>{text}").into_response(),
        Echo::NoPage => serde_json::json!({ "message": text })
            .to_string()
            .into_response(),
        Echo::Fields => {
            let record = serde_json::json!({ "id": "1", sent.as_str(): "x", "time": sent, "happenedAtTime": sent });
            serde_json::json!({ "data": [record] })
                .to_string()
                .into_response()
        }
        Echo::Cursor => {
            let pagination = serde_json::json!({ "endCursor": sent, "hasNextPage": true });
            serde_json::json!({ "data": [{ "id": "1" }], "pagination": pagination })
                .to_string()
                .into_response()
        }
    }
}

/// A server that repeats what it was sent.
fn echoing(what: Arc<Mutex<Echo>>) -> Server {
    Server::start(Router::new().fallback(move |request: Request| {
        let answer = if request.uri().path() == "/me" {
            "{}".into_response()
        } else {
            echo(*what.lock().unwrap(), &request)
        };
        async move { answer }
    }))
}

const RUN: &[&str] = &[
    "run",
    "-vv",
    "--start_date",
    "01/01/2024",
    "--end_date",
    "02/01/2024",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_repeats_the_token_puts_it_nowhere() {
    let what = Arc::new(Mutex::new(Echo::Html));
    let server = echoing(what.clone());
    // All that the libraries on the wire have to say.
    let level = "trace,datafusion=warn,sqlparser=warn";
    let program = program()
        .set("SAMSARA_API_URL", server.url())
        .set("RUST_LOG", level);
    let tables = [
        "--table",
        "fleet_vehicles",
        "--table",
        "fleet_safety_events",
    ];
    for answer in [
        Echo::Json(400),
        Echo::Id(400),
        Echo::Json(401),
        Echo::Text(404),
        Echo::Redirect,
        Echo::NoPage,
        Echo::Cursor,
        Echo::Fields,
    ] {
        *what.lock().unwrap() = answer;
        let ran = program.run(&[RUN, &tables].concat()).await;
        assert!(
            ran.stderr.len() > 2_000,
            "{answer:?}: RUST_LOG=trace says nothing: {}",
            ran.stderr
        );
        assert_said_clean(&format!("run: {answer:?}"), &ran);
        assert!(
            !ran.stderr
                .lines()
                .any(|line| line.starts_with("failed: you") || line.starts_with("failed: Bearer"))
        );
        let after: &[&[&str]] = match answer {
            Echo::Json(400) | Echo::Redirect => &[
                &["check", "--table", "fleet_vehicles"],
                &["status", "--missing"],
            ],
            Echo::Fields => &[&["sources", "drift"], &["status"]],
            _ => &[],
        };
        for command in after {
            assert_said_clean(
                &format!("{command:?}: {answer:?}"),
                &program.run(command).await,
            );
        }
        // The content of a record is data, and stays exact; everything else is text about it.
        if !matches!(answer, Echo::Fields) {
            assert!(assert_left_clean(&format!("{answer:?}"), program.folder()) > 3);
        }
    }
    // Parquet is compressed: the audit tables are read.
    let told = program
        .rows("SELECT * FROM _etl_partitions WHERE step = 'failed'")
        .await;
    assert!(told.len() > 5, "{told:?}");
    assert_clean("_etl_partitions", format!("{told:?}").as_bytes());
    assert_clean(
        "_etl_runs",
        format!("{:?}", program.rows("SELECT * FROM _etl_runs").await).as_bytes(),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_tried_again_tell_of_no_token_either() {
    let what = Arc::new(Mutex::new(Echo::Html));
    let server = echoing(what.clone());
    for answer in [Echo::Html, Echo::Json(429), Echo::Id(503), Echo::Text(500)] {
        *what.lock().unwrap() = answer;
        let program = Program::new();
        let mut config = impatient(&program, server.url(), "t");
        config.samsara.token = Some(Secret::new(TOKEN));
        let report = run_here(config, &["fleet_vehicles"], ["2024-01-01", "2024-01-02"]).await;
        assert_eq!(report.failures.len(), 1, "{answer:?}");
        assert_clean(
            &format!("{answer:?}"),
            serde_json::to_string(&report).unwrap().as_bytes(),
        );
        assert_clean(&format!("{answer:?}"), report.to_string().as_bytes());
        assert!(assert_left_clean(&format!("{answer:?}"), program.folder()) > 0);
    }
}
