//! The 400s that a stored cursor may get: two of them mean that it is dead, and no other may cost what it stands for,
//! nor keep its day from being read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use samsara_simulator::Simulator;
use tokio_util::sync::CancellationToken;

use crate::support::gate::{self, Turn};
use crate::support::runs::{
    HISTORY, TABLE, config, half_read, is_whole, pages, run, run_all, state, the_day,
};
use crate::support::wire::Server;

/// The live API's two ways of saying that a cursor is dead; the second does not have the word in it.
const DEAD: [&str; 2] = [
    "invalid or expired pagination cursor",
    "Parameters differ from previous paginated request.",
];

/// Refuses the first `times` requests that go on from a cursor, with 400 and this message.
fn refusing(simulator: &Simulator, message: &'static str, times: u64) -> (Server, Arc<AtomicU64>) {
    let refused = Arc::new(AtomicU64::new(0));
    let count = refused.clone();
    let goes_on = |request: &Request| {
        request.uri().path() == HISTORY
            && request
                .uri()
                .query()
                .is_some_and(|query| query.contains("after="))
    };
    let server = gate::before(simulator.url(), move |request| {
        if !goes_on(request) || count.load(Ordering::SeqCst) >= times {
            return Turn::Through;
        }
        count.fetch_add(1, Ordering::SeqCst);
        let body = format!(r#"{{"message":"{message}","requestId":"r-400"}}"#);
        Turn::Away((StatusCode::BAD_REQUEST, body).into_response())
    });
    (server, refused)
}

fn beginnings(simulator: &Simulator) -> usize {
    pages(simulator)
        .iter()
        .filter(|(query, _)| !query.contains("after="))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_cursor_refusals_restart_once() {
    for message in DEAD {
        let (simulator, program, _) = half_read(&[TABLE]).await;
        let (server, refused) = refusing(&simulator, message, 1);
        let go_on = config(&program, server.url(), simulator.token());
        let report = run(go_on, &[TABLE], vec![], &CancellationToken::new()).await;
        assert!(report.failures.is_empty(), "{message}: {report}");
        assert_eq!(
            (refused.load(Ordering::SeqCst), beginnings(&simulator)),
            (1, 1),
            "{message}"
        );
        is_whole(&program, &simulator, &[TABLE]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_cursors_end_in_a_failure() {
    for message in DEAD {
        let (simulator, program, _) = half_read(&[TABLE]).await;
        let (server, refused) = refusing(&simulator, message, u64::MAX);
        let go_on = config(&program, server.url(), simulator.token());
        let report = run(go_on, &[TABLE], vec![], &CancellationToken::new()).await;
        assert!(
            report.failures.len() == 1 && report.failures[0].error.contains("r-400"),
            "{message}: {report}"
        );
        assert_eq!(
            (refused.load(Ordering::SeqCst), beginnings(&simulator)),
            (2, 1),
            "{message}"
        );
        let left = state(&program, TABLE).unwrap();
        assert_eq!(left.complete().count(), 0, "{message}");
        // The API comes to its senses.
        run_all(&program, &simulator, &[TABLE]).await;
        is_whole(&program, &simulator, &[TABLE]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_400_costs_a_noted_cursor() {
    for message in [
        "limit must be at most 512",
        "Invalid value for parameter types",
        "",
        "parameters missing",
    ] {
        let (simulator, program, before) = half_read(&[TABLE]).await;
        let noted = before.partition(the_day()).unwrap().checkpoint.clone();
        let (server, refused) = refusing(&simulator, message, u64::MAX);
        let go_on = config(&program, server.url(), simulator.token());
        let report = run(go_on, &[TABLE], vec![], &CancellationToken::new()).await;
        let error = &report.failures[0].error;
        assert!(
            report.failures.len() == 1 && error.contains("(400, request r-400)"),
            "{message}: {report}"
        );
        assert!(
            error.contains(TABLE) && error.contains("2024-01-01") && error.contains(message),
            "{error}"
        );
        // The day was tried from its beginning, too.
        assert_eq!(
            (refused.load(Ordering::SeqCst), beginnings(&simulator)),
            (2, 1),
            "{message}"
        );
        assert_eq!(
            state(&program, TABLE)
                .unwrap()
                .partition(the_day())
                .unwrap()
                .checkpoint,
            noted,
            "{message}"
        );
        // Once the cause is gone it continues from there.
        simulator.clear_requests();
        run_all(&program, &simulator, &[TABLE]).await;
        assert_eq!(beginnings(&simulator), 0, "{message}");
        is_whole(&program, &simulator, &[TABLE]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_refusal_restarts_the_day() {
    for message in ["the token has seen better days", ""] {
        let (simulator, program, _) = half_read(&[TABLE]).await;
        let (server, refused) = refusing(&simulator, message, 1);
        let go_on = config(&program, server.url(), simulator.token());
        let report = run(go_on, &[TABLE], vec![], &CancellationToken::new()).await;
        assert!(report.failures.is_empty(), "{message}: {report}");
        assert_eq!(
            (refused.load(Ordering::SeqCst), beginnings(&simulator)),
            (1, 1),
            "{message}"
        );
        is_whole(&program, &simulator, &[TABLE]).await;
    }
}
