//! Servers whose pages never end, or end after detours: no task runs for ever, none loses a row.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::Query;
use axum::{Json, Router, routing::get};
use samsara_etl::report::RunReport;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::program::Program;
use crate::support::runs::{HISTORY, TABLE, config, run, state};
use crate::support::wire::Server;
use crate::truth::{local_rows, local_tables};

/// Content of a page by its number: vehicles, the number of the page that its cursor leads to, and whether it promises
/// one.
type Book = fn(u64) -> (Vec<u64>, u64, bool);

/// The statistics' feed, which tells what has changed.
const CHANGES: &str = "/fleet/vehicles/stats/feed";
const FEED: &str = "/fleet/safety-events/audit-logs/feed";
const LOGS: &str = "fleet_safety_events_audit_logs";

fn serve(endpoint: &'static str, record: fn(u64) -> Value, book: Book) -> Server {
    let answer = move |Query(query): Query<HashMap<String, String>>| async move {
        let number = query
            .get("after")
            .map_or(0, |cursor| cursor.parse().unwrap());
        let (ids, next, more) = book(number);
        let data: Vec<Value> = ids.into_iter().map(record).collect();
        Json(
            json!({"data": data, "pagination": {"endCursor": next.to_string(), "hasNextPage": more}}),
        )
    };
    Server::start(Router::new().route(endpoint, get(answer)))
}

fn vehicle(id: u64) -> Value {
    json!({"id": id.to_string(), "name": "v", "engineRpm": [{"time": "2024-01-01T08:00:00Z", "value": 700}]})
}

fn log(id: u64) -> Value {
    json!({"id": id.to_string(), "time": "2024-01-01T08:00:00Z", "type": "t"})
}

async fn task(server: &Server, program: &Program, table: &str) -> RunReport {
    let mut config = config(program, server.url(), "token");
    // A thousand pages are not worth minutes of waiting.
    config.samsara.rate_share = 1000.0;
    run(config, &[table], vec![], &CancellationToken::new()).await
}

fn first_error(report: &RunReport) -> String {
    let first = report.failures.first();
    first.map_or_else(String::new, |failure| failure.error.clone())
}

async fn rows(program: &Program, table: &str) -> usize {
    local_rows(
        &local_tables(&program.folder().join("samsara-data/warehouse")).await,
        table,
    )
    .await
    .len()
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_pages_commit_nothing() {
    let circle = "pagination loop: its cursor was seen before";
    let stale = "pagination loop: the 1000th page in a row without new records";
    let books: [(Book, &str); 4] = [
        (|number| (vec![number], number, true), circle),
        (|number| (vec![number], (number + 1) % 7, true), circle),
        (|number| (vec![], number + 1, true), stale),
        (|number| (vec![1], number + 1, true), stale),
    ];
    for (number, (book, told)) in books.into_iter().enumerate() {
        let server = serve(HISTORY, vehicle, book);
        let program = Program::new();
        let report = task(&server, &program, TABLE).await;
        let error = first_error(&report);
        assert!(
            error.contains(told) && error.contains(TABLE) && error.contains("2024-01-01"),
            "{number}: {report}"
        );
        assert_eq!(
            state(&program, TABLE).map_or(0, |state| state.complete().count()),
            0,
            "{number}"
        );
        assert_eq!(rows(&program, TABLE).await, 0, "{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_and_repeated_pages_are_harmless() {
    let books: [Book; 3] = [
        // A hundred empty pages before, between and after those with records.
        |number| {
            (
                if number % 100 == 99 && number < 300 {
                    vec![number]
                } else {
                    vec![]
                },
                number + 1,
                number < 400,
            )
        },
        // Each page twice.
        |number| (vec![number / 2], number + 1, number < 5),
        // Rows of one page again among those of the next.
        |number| (vec![number, number + 1], number + 1, number < 1),
    ];
    for (number, book) in books.into_iter().enumerate() {
        let server = serve(HISTORY, vehicle, book);
        let program = Program::new();
        let report = task(&server, &program, TABLE).await;
        assert!(report.failures.is_empty(), "{number}: {report}");
        assert_eq!(rows(&program, TABLE).await, 3, "{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_looping_feed_is_stopped() {
    // The circle is longer than what is committed at a time.
    let server = serve(FEED, log, |number| (vec![number], (number + 1) % 7, true));
    let program = Program::new();
    let report = task(&server, &program, LOGS).await;
    let error = first_error(&report);
    assert!(
        error.contains("pagination loop: its cursor was seen before") && error.contains(LOGS),
        "{report}"
    );
    // The pages before are committed: the next run makes tables of them, each row once.
    let report = task(&server, &program, LOGS).await;
    assert_eq!(
        (report.failures.len(), rows(&program, LOGS).await),
        (1, 7),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_feed_is_stopped_across_commits() {
    let server = serve(FEED, log, |number| (vec![1], number + 1, true));
    let program = Program::new();
    let mut config = config(&program, server.url(), "token");
    // A thousand pages are more than are committed at a time.
    (config.samsara.rate_share, config.checkpoint_pages) = (1000.0, 300);
    let report = run(config, &[LOGS], vec![], &CancellationToken::new()).await;
    let error = first_error(&report);
    assert!(
        error.contains("pagination loop: the 1000th page in a row without new records")
            && error.contains(LOGS),
        "{report}"
    );
}

/// The pages of a feed of changed days for later reads: vehicles, the next page, and whether it promises one.
async fn come_back(book: Book) -> (RunReport, u64) {
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    let history = || async {
        Json(json!({"data": [], "pagination": {"endCursor": "", "hasNextPage": false}}))
    };
    let feed = move |Query(query): Query<HashMap<String, String>>| async move {
        let (ids, next, more) = match query.get("after") {
            None => (vec![1], 1, false),
            Some(cursor) => {
                count.fetch_add(1, Ordering::SeqCst);
                book(cursor.parse().unwrap())
            }
        };
        let data: Vec<Value> = ids.into_iter().map(vehicle).collect();
        Json(
            json!({"data": data, "pagination": {"endCursor": next.to_string(), "hasNextPage": more}}),
        )
    };
    let server = Server::start(
        Router::new()
            .route(HISTORY, get(history))
            .route(CHANGES, get(feed)),
    );
    let program = Program::new();
    assert!(task(&server, &program, TABLE).await.failures.is_empty());
    (
        task(&server, &program, TABLE).await,
        asked.load(Ordering::SeqCst),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_change_feed_is_stopped() {
    let books: [(Book, &str); 3] = [
        (
            |number| (vec![number], (number + 1) % 7, true),
            "pagination loop: its cursor was seen before",
        ),
        (
            |number| (vec![1], number + 1, true),
            "pagination loop: the 1000th page in a row without new records",
        ),
        (
            |number| (vec![number % 7], number, true),
            "pagination loop: its cursor was seen before",
        ),
    ];
    for (number, (book, told)) in books.into_iter().enumerate() {
        let (report, _) = come_back(book).await;
        let error = first_error(&report);
        assert!(
            error.contains(told) && error.contains("(changed days)"),
            "{number}: {report}"
        );
    }
    // An empty page that leads nowhere else is the end of an endless stream.
    let (report, asked) = come_back(|number| (vec![], number, true)).await;
    assert_eq!((report.failures.len(), asked), (0, 1), "{report}");
    // One that leads on is not yet, a second one is.
    let (report, asked) = come_back(|number| (vec![], number + 1, true)).await;
    assert_eq!((report.failures.len(), asked), (0, 2), "{report}");
}
