//! Fan-outs whose parents are not known to the API.

use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::{Router, routing::get};
use tokio_util::sync::CancellationToken;

use crate::cursors::{config, run, state, the_day};
use crate::program::Program;
use crate::support::wire::Server;

const ROSTER: &str = r#"{"data":[{"id":"1"},{"id":"2"}],"pagination":{"endCursor":"","hasNextPage":false}}"#;

/// An API with two vehicles, of which it knows the trips of the first `known`.
fn api(known: usize) -> Server {
    let trips = move |query: axum::extract::RawQuery| async move {
        let query = query.0.unwrap_or_default();
        match (0..known).any(|number| query.contains(&format!("vehicleId={}", number + 1))) {
            true => r#"{"trips":[]}"#.into_response(),
            false => (StatusCode::NOT_FOUND, "404 page not found").into_response(),
        }
    };
    let roster = || async { ROSTER.into_response() };
    Server::start(Router::new().route("/fleet/vehicles", get(roster)).route("/v1/fleet/trips", get(trips)))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_knows_no_parent_makes_no_day_complete_and_one_that_lacks_some_does() {
    for (known, complete) in [(0, false), (1, true)] {
        let server = api(known);
        let program = Program::new();
        run(config(&program, server.url(), "token"), &["fleet_trips"], vec![], &CancellationToken::new()).await;
        let found = state(&program, "fleet_trips");
        let day = found.and_then(|state| state.partition(the_day()).cloned());
        assert_eq!(day.as_ref().is_some_and(|day| day.raw.is_some()), complete, "{known}: {day:?}");
    }
}
