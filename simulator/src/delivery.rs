//! Turns a response into bytes on the wire, complete or damaged.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use axum::http::{HeaderName, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use serde_json::{Value, json};

use super::faults::Fault;
use super::query::Refusal;

/// Pieces in which a slow body is sent.
const SLOW_PIECES: usize = 5;

const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// An answer before it is sent.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    json: bool,
    body: Bytes,
    retry_after: Option<String>,
}

impl Answer {
    pub(crate) fn page(body: Bytes) -> Self {
        Self {
            status: StatusCode::OK,
            json: true,
            body,
            retry_after: None,
        }
    }

    pub(crate) fn value(value: &Value) -> Self {
        Self::page(value.to_string().into())
    }

    pub(crate) fn refusal(refusal: Refusal, request_id: &str) -> Self {
        let body = if refusal.json {
            json!({ "message": refusal.message, "requestId": request_id }).to_string()
        } else {
            refusal.message
        };
        Self {
            status: refusal.status,
            json: refusal.json,
            body: body.into(),
            retry_after: None,
        }
    }

    pub(crate) fn text(status: StatusCode, body: &'static str) -> Self {
        Self {
            status,
            json: false,
            body: Bytes::from_static(body.as_bytes()),
            retry_after: None,
        }
    }

    /// Status 429. `retry_after` is in seconds and has a fraction, unless it is missing.
    pub(crate) fn too_many(request_id: &str, retry_after: Option<String>) -> Self {
        let refusal = Refusal::json(StatusCode::TOO_MANY_REQUESTS, "Exceeded rate limit.");
        Self {
            retry_after,
            ..Self::refusal(refusal, request_id)
        }
    }

    /// Sends it, spoilt by a fault if there is one.
    pub(crate) fn send(
        self,
        request_id: &str,
        fault: Option<Fault>,
        slow_pause: Duration,
    ) -> Response {
        let length = self.body.len();
        let body = match fault {
            Some(Fault::Reset | Fault::Truncate) => cut_off(self.body),
            Some(Fault::Slow) => trickle(self.body, slow_pause),
            Some(Fault::Status(_) | Fault::DuplicatePage) | None => Body::from(self.body),
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let kind = if self.json {
            "application/json"
        } else {
            "text/plain; charset=utf-8"
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert(REQUEST_ID, id);
        }
        if let Some(seconds) = self
            .retry_after
            .and_then(|seconds| HeaderValue::from_str(&seconds).ok())
        {
            headers.insert(RETRY_AFTER, seconds);
        }
        if fault == Some(Fault::Truncate) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        response
    }
}

/// The first half of a body, and then the end of the connection.
fn cut_off(body: Bytes) -> Body {
    let half = body.slice(..body.len() / 2);
    let pieces = stream::unfold(Some(half), |piece| async {
        match piece {
            Some(half) if !half.is_empty() => Some((Ok(half), Some(Bytes::new()))),
            Some(_) => {
                // Flushes the first half from the server's buffer before the connection is dropped.
                tokio::time::sleep(Duration::from_millis(1)).await;
                Some((Err(io::Error::from(io::ErrorKind::ConnectionReset)), None))
            }
            None => None,
        }
    });
    Body::from_stream(pieces)
}

/// A whole body, piece by piece.
fn trickle(body: Bytes, pause: Duration) -> Body {
    let piece = body.len().div_ceil(SLOW_PIECES).max(1);
    let pieces = stream::unfold(body, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(pause).await;
        let sent = rest.split_to(piece.min(rest.len()));
        Some((Ok::<_, Infallible>(sent), rest))
    });
    Body::from_stream(pieces)
}
