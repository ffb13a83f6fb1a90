//! What can go wrong in requests to the API.

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;

use super::page::PageError;
use crate::http::{ConnectionError, HttpError};
use crate::json::JsonError;

/// A request attempt after which another may succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AttemptError {
    /// The connection failed, or the response was incomplete.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The server was busy (408, 425, 429).
    #[error("{}{}", status.as_u16(), id(request_id))]
    Busy {
        /// HTTP status.
        status: StatusCode,
        /// Samsara's id of the request.
        request_id: Option<String>,
    },
    /// The server itself failed (5xx), so that a smaller window may help.
    #[error("{}{}", status.as_u16(), id(request_id))]
    Server {
        /// HTTP status.
        status: StatusCode,
        /// Samsara's id of the request.
        request_id: Option<String>,
    },
    /// The body was not one JSON document: a gateway's page for people, or a part of the API's.
    #[error("{}{} with a body that is not one JSON document: {error}", status.as_u16(), id(request_id))]
    Body {
        /// HTTP status.
        status: StatusCode,
        /// Samsara's id of the request.
        request_id: Option<String>,
        /// What is wrong with the body.
        #[source]
        error: BodyError,
    },
    /// The body was larger than the limit.
    #[error("{} with a body of more than {limit} bytes", status.as_u16())]
    Size {
        /// HTTP status.
        status: StatusCode,
        /// The limit, in bytes.
        limit: usize,
    },
}

impl AttemptError {
    /// Whether the API says that it was requested too often (429).
    pub(super) fn is_too_often(&self) -> bool {
        matches!(self, Self::Busy { status, .. } if *status == StatusCode::TOO_MANY_REQUESTS)
    }

    /// A status that says that the request may succeed later.
    pub(super) fn from_status(status: StatusCode, request_id: Option<String>) -> Self {
        if status.is_server_error() {
            Self::Server { status, request_id }
        } else {
            Self::Busy { status, request_id }
        }
    }
}

/// A body that is not one JSON object or list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is in UTF-16.
    #[error("it is UTF-16, not UTF-8")]
    Utf16,
    /// It is in another encoding than UTF-8.
    #[error("byte {} is not UTF-8", .0.valid_up_to())]
    NotUtf8(#[from] std::str::Utf8Error),
    /// It is text of another kind.
    #[error("it starts with neither `{{` nor `[`")]
    NotContainer,
    /// It is not JSON.
    #[error(transparent)]
    Malformed(#[from] JsonError),
}

/// A request that failed for good.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SamsaraError {
    /// No API token is configured.
    #[error("SAMSARA_API_TOKEN is not set")]
    NoToken,
    /// No host accepts the token. Ends the run.
    #[error("the API token was rejected by {hosts} (401{})", request_id.as_deref().map(|id| format!(", request {id}")).unwrap_or_default())]
    TokenRefused {
        /// The hosts that rejected it.
        hosts: String,
        /// Samsara's id of the refused request.
        request_id: Option<String>,
    },
    /// Some regions gave no answer, and no other accepts the token: an outage, which says nothing about the token.
    #[error("cannot find the region of the API token: {}", regions(.unreachable, .refused))]
    RegionUnknown {
        /// Hosts that could not be reached, and why.
        unreachable: Vec<(String, String)>,
        /// Hosts that rejected the token (401).
        refused: Vec<String>,
    },
    /// The token lacks a scope, or the organisation a licence. Fails this source; others continue.
    #[error("{endpoint} is not permitted ({status}{}): {}", id(.request_id), scope_remedy(.scope))]
    NotPermitted {
        /// Path below the host.
        endpoint: String,
        /// HTTP status, 401 or 403.
        status: u16,
        /// The scope it needs.
        scope: Option<String>,
        /// Samsara's id of the request.
        request_id: Option<String>,
    },
    /// The endpoint or the object does not exist for this organisation.
    #[error("{endpoint} does not exist for this organisation (404{}): {message}", id(.request_id))]
    NotFound {
        /// Path below the host.
        endpoint: String,
        /// What the API said.
        message: String,
        /// Samsara's id of the request.
        request_id: Option<String>,
    },
    /// A stored cursor is not valid any more: it has expired, or belongs to another query.
    #[error("the cursor of {endpoint} is no longer accepted (400{}): {message}", id(.request_id))]
    CursorRefused {
        /// Path below the host.
        endpoint: String,
        /// What the API said.
        message: String,
        /// Samsara's id of the request.
        request_id: Option<String>,
    },
    /// The API refuses the request; a retry would not help.
    #[error("{endpoint} refuses the request ({status}{}): {message}", id(.request_id))]
    Refused {
        /// Path below the host.
        endpoint: String,
        /// HTTP status.
        status: u16,
        /// What the API said.
        message: String,
        /// Samsara's id of the request.
        request_id: Option<String>,
    },
    /// The path is not safe to request: with its id (`..`, or empty) it would lead to another endpoint.
    #[error("{endpoint} was not requested: with this id the path would lead to another endpoint")]
    Unaddressable {
        /// Path below the host.
        endpoint: String,
    },
    /// The API redirects the request. Not followed, since the token must not be sent elsewhere.
    #[error("{endpoint} answers with a redirect ({status}) to {location}, which is not followed")]
    Redirected {
        /// Path below the host.
        endpoint: String,
        /// HTTP status.
        status: u16,
        /// Target of the redirect, as the server gave it.
        location: String,
    },
    /// All retries have failed.
    #[error("{endpoint} failed {attempts} times in {}, last with: {error}", human(.elapsed))]
    Unavailable {
        /// Path below the host.
        endpoint: String,
        /// Number of attempts.
        attempts: u32,
        /// Time from the first attempt to the last.
        elapsed: Duration,
        /// How the last attempt failed.
        #[source]
        error: AttemptError,
    },
    /// The endpoint's circuit is open: it is not requested for a while.
    #[error("{endpoint} is paused: too many requests in a row failed, the last with: {error}")]
    Resting {
        /// Path below the host.
        endpoint: String,
        /// How the last attempt failed.
        #[source]
        error: AttemptError,
    },
    /// A page violates the protocol, so that it cannot be read.
    #[error("page {page} of {endpoint}?{query}: {error}")]
    BadPage {
        /// Path below the host.
        endpoint: String,
        /// Query of the request, without the cursor.
        query: String,
        /// Number of the page in the task, counted from 1.
        page: u64,
        /// How the page violates the protocol.
        #[source]
        error: PageError,
    },
    /// The token cannot be sent in a header.
    #[error("the API token holds characters that are not allowed in a token")]
    TokenMalformed,
    /// The HTTP client cannot be created.
    #[error("cannot set up HTTP: {0}")]
    Setup(#[source] Arc<HttpError>),
}

impl SamsaraError {
    /// Whether nothing else will work either.
    pub fn ends_run(&self) -> bool {
        matches!(
            self,
            Self::NoToken | Self::TokenMalformed | Self::TokenRefused { .. } | Self::Setup(_)
        )
    }

    /// Whether the request was too large for the server, or its response for us, so that a smaller one may succeed.
    pub fn asks_for_less(&self) -> bool {
        matches!(
            self,
            Self::Unavailable {
                error: AttemptError::Server { .. } | AttemptError::Size { .. },
                ..
            } | Self::Refused { status: 413, .. }
        )
    }

    /// Whether it says that the token or the organisation does not have the endpoint: no scope, no licence, not found.
    pub fn is_unavailable(&self) -> bool {
        matches!(
            self,
            Self::NotPermitted { .. } | Self::NotFound { .. } | Self::Refused { status: 501, .. }
        )
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoToken => {
                Some("set it in .env or the environment (in Samsara: Settings > API Tokens)")
            }
            Self::TokenRefused { .. } => Some(
                "check the token and SAMSARA_REGION (us, eu, ca): a token works only in its own region",
            ),
            Self::Redirected { .. } => Some(
                "if the redirect leads to a Samsara host, set SAMSARA_API_URL to it; otherwise look for a proxy or gateway on the way",
            ),
            Self::RegionUnknown { .. } => {
                Some("run again later, or name the region with SAMSARA_REGION (us, eu, ca)")
            }
            Self::Unavailable { .. } | Self::Resting { .. } => {
                Some("run again; completed work is kept")
            }
            _ => None,
        }
    }
}

fn regions(unreachable: &[(String, String)], refused: &[String]) -> String {
    let unreachable = unreachable
        .iter()
        .map(|(host, reason)| format!("{host}: {reason}"));
    let refused = refused
        .iter()
        .map(|host| format!("{host} rejects it (401)"));
    unreachable.chain(refused).collect::<Vec<_>>().join("; ")
}

fn id(request_id: &Option<String>) -> String {
    request_id
        .as_deref()
        .map(|id| format!(", request {id}"))
        .unwrap_or_default()
}

fn scope_remedy(scope: &Option<String>) -> String {
    match scope {
        Some(scope) => format!("give the token the scope \"{scope}\", or leave the table out"),
        None => "give the token the scope it needs, or leave the table out".into(),
    }
}

fn human(elapsed: &Duration) -> String {
    format!("{:.1} s", elapsed.as_secs_f64())
}
