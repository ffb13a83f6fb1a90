//! What can go wrong between us and the API.

use std::time::Duration;

use reqwest::StatusCode;

/// Why a try was in vain, in kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Nothing came, or not all of it.
    Connection,
    /// The server was busy (408, 425, 429).
    Busy,
    /// The server itself failed (5xx), so that a smaller window may help.
    Server,
    /// The body was not one JSON document.
    Body,
    /// The body was larger than what is taken.
    Size,
}

impl Cause {
    pub(super) fn of(status: StatusCode) -> Self {
        if status.is_server_error() {
            Self::Server
        } else {
            Self::Busy
        }
    }
}

/// A request that failed for good.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SamsaraError {
    /// There is no token.
    #[error("SAMSARA_API_TOKEN is not set")]
    NoToken,
    /// No host accepts the token: the run ends.
    #[error("the API token is refused by {hosts} (401{})", request_id.as_deref().map(|id| format!(", request {id}")).unwrap_or_default())]
    TokenRefused {
        /// The hosts that were asked.
        hosts: String,
        /// Samsara's id of the refused request.
        request_id: Option<String>,
    },
    /// Some regions gave no answer, and no other accepts the token: an outage, which says nothing about the token.
    #[error("cannot find the region of the API token: {}", regions(.unreachable, .refused))]
    RegionUnknown {
        /// Hosts that could not be asked, and why.
        unreachable: Vec<(String, String)>,
        /// Hosts that refuse the token (401).
        refused: Vec<String>,
    },
    /// The token lacks a scope, or the organisation a licence: this source ends, others go on.
    #[error("{endpoint} is not permitted ({status}{}): {}", id(.request_id), scope_remedy(.scope))]
    NotPermitted {
        /// Path below the host.
        endpoint: String,
        /// 401 or 403.
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
    /// A stored cursor is dead: expired, or bound to another query.
    #[error("the cursor of {endpoint} is no longer accepted (400{}): {message}", id(.request_id))]
    CursorRefused {
        /// Path below the host.
        endpoint: String,
        /// What the API said.
        message: String,
        /// Samsara's id of the request.
        request_id: Option<String>,
    },
    /// The API refuses the request, and would again.
    #[error("{endpoint} refuses the request ({status}{}): {message}", id(.request_id))]
    Refused {
        /// Path below the host.
        endpoint: String,
        /// The status.
        status: u16,
        /// What the API said.
        message: String,
        /// Samsara's id of the request.
        request_id: Option<String>,
    },
    /// The path cannot be asked for: an id in it (`..`, or an empty one) would lead to another endpoint.
    #[error("{endpoint} is not asked for: with such an id the path would lead to another endpoint")]
    Unaddressable {
        /// Path below the host.
        endpoint: String,
    },
    /// The API sends the request elsewhere, where the token must not go.
    #[error("{endpoint} answers with a redirect ({status}) to {location}, which is not followed")]
    Redirected {
        /// Path below the host.
        endpoint: String,
        /// The status.
        status: u16,
        /// Where it leads.
        location: String,
    },
    /// Tries are used up.
    #[error("{endpoint} failed {attempts} times in {}, last with: {reason}", human(.elapsed))]
    Unavailable {
        /// Path below the host.
        endpoint: String,
        /// How often it was tried.
        attempts: u32,
        /// From the first try to the last.
        elapsed: Duration,
        /// Status or fault of the last try.
        reason: String,
        /// What kind of fault the last one was.
        cause: Cause,
    },
    /// The endpoint's circuit is open: it is not asked for a while.
    #[error(
        "{endpoint} is not asked for the time being: too many requests in a row failed for good, the last with: {reason}"
    )]
    Resting {
        /// Path below the host.
        endpoint: String,
        /// Status or fault of the last try.
        reason: String,
    },
    /// A page contradicts the protocol.
    #[error("page {page} of {endpoint}?{query}: {reason}")]
    BadPage {
        /// Path below the host.
        endpoint: String,
        /// The query without cursor.
        query: String,
        /// Position in the task, from 1.
        page: u64,
        /// What is wrong.
        reason: String,
    },
    /// The HTTP client cannot be made.
    #[error("cannot set up HTTP: {0}")]
    Setup(String),
}

impl SamsaraError {
    /// Whether nothing else will work either.
    pub fn ends_run(&self) -> bool {
        matches!(
            self,
            Self::NoToken | Self::TokenRefused { .. } | Self::Setup(_)
        )
    }

    /// Whether the request was too much for the server, or its answer for us, so that a smaller one may do.
    pub fn asks_for_less(&self) -> bool {
        matches!(
            self,
            Self::Unavailable {
                cause: Cause::Server | Cause::Size,
                ..
            } | Self::Refused { status: 413, .. }
        )
    }

    /// Whether it says that the token or the organisation does not have the endpoint: no scope, no licence, not there.
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
                Some("put it into .env or the environment; Samsara: Settings > API Tokens")
            }
            Self::TokenRefused { .. } => Some(
                "check the token, and SAMSARA_REGION (us, eu, ca): a token works in its own region only",
            ),
            Self::Redirected { .. } => Some(
                "if that is Samsara's host, set SAMSARA_API_URL to it; else something on the way is in between",
            ),
            Self::RegionUnknown { .. } => {
                Some("run again later, or name the region with SAMSARA_REGION (us, eu, ca)")
            }
            Self::Unavailable { .. } | Self::Resting { .. } => {
                Some("run again: what is complete is kept")
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
        .map(|host| format!("{host} refuses it (401)"));
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
