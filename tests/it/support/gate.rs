//! Stands before another API and lets requests through, or turns them away.

use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::wire::{Connection, Server};

/// What becomes of a request.
pub enum Turn {
    /// It goes through.
    Through,
    /// It goes through once this has happened.
    After(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// It is answered with this instead.
    Away(Response),
    /// The connection is closed without an answer.
    Cut,
}

/// Serves the API at `url`, except for what `decide` turns away.
pub fn before(url: String, decide: impl Fn(&Request) -> Turn + Send + Sync + 'static) -> Server {
    let (decide, http) = (Arc::new(decide), reqwest::Client::new());
    let answer = move |ConnectInfo(connection): ConnectInfo<Connection>, request: Request| {
        let (turn, http) = (decide(&request), http.clone());
        let target = format!("{url}{}", request.uri());
        async move {
            match turn {
                Turn::Away(answer) => return answer,
                Turn::Cut => {
                    connection.cut();
                    return ().into_response();
                }
                Turn::After(happened) => happened.await,
                Turn::Through => {}
            }
            let token = request.headers()[header::AUTHORIZATION].clone();
            let answer = http
                .get(target)
                .header(header::AUTHORIZATION, token)
                .send()
                .await
                .unwrap();
            (answer.status(), Body::from(answer.bytes().await.unwrap())).into_response()
        }
    };
    Server::start(Router::new().fallback(answer))
}
