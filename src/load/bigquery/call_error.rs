//! How a call of BigQuery's API can fail, and which failures pass by themselves.

use gcp_bigquery_client::error::{BQError, ResponseError};
use gcp_bigquery_client::model::error_proto::ErrorProto;

use crate::config::CredentialsError;
use crate::http::HttpError;
use crate::load::bigquery::auth::TokenError;
use crate::redact::foreign;
use crate::state::LockError;

/// A call that failed, or was not made. It says nothing about the table that it was about.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// 404.
    #[error("it does not exist (404)")]
    NotFound,
    /// 409.
    #[error("it exists already (409)")]
    AlreadyExists,
    /// The project's quota is used up.
    #[error("quota: {message}")]
    Quota {
        /// BigQuery's message.
        message: String,
    },
    /// BigQuery refused the call.
    #[error("{}", explain(*code, message))]
    Refused {
        /// HTTP status.
        code: i64,
        /// BigQuery's message.
        message: String,
    },
    /// No answer, or one that cannot be read.
    #[error("{}", foreign(.0))]
    Transport(#[source] Box<BQError>),
    /// An answer that does not mean what was requested.
    #[error("{0}")]
    Unexpected(String),
    /// A job that takes longer than BigQuery lets one run.
    #[error("the job does not end")]
    EndlessJob,
    /// There is no token for the call.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// The configured credentials cannot be used.
    #[error("{0}")]
    Credentials(#[from] CredentialsError),
    /// There is no HTTP client with this configuration.
    #[error("{0}")]
    Http(#[from] HttpError),
    /// The run has lost its lock.
    #[error("{0}")]
    Lock(#[from] LockError),
}

/// A refusal with what to do about it.
fn explain(code: i64, message: &str) -> String {
    match code {
        401 => format!("{message} (401: BigQuery does not accept the credentials)"),
        403 => format!("{message} (needs roles bigquery.dataEditor and bigquery.jobUser)"),
        code => format!("{code}: {message}"),
    }
}

impl From<BQError> for CallError {
    fn from(error: BQError) -> Self {
        let BQError::ResponseError { error: response } = &error else {
            return Self::Transport(Box::new(error));
        };
        let message = foreign(&response.error.message);
        match response.error.code {
            404 => Self::NotFound,
            409 => Self::AlreadyExists,
            _ if has_reason(response, &[QUOTA_EXCEEDED]) => Self::Quota { message },
            code => Self::Refused { code, message },
        }
    }
}

/// The reason of an error that says that a quota is used up: repeating the call does not help.
/// <https://cloud.google.com/bigquery/docs/error-messages>
const QUOTA_EXCEEDED: &str = "quotaExceeded";

/// HTTP status codes of calls that may be repeated.
const TRANSIENT_CODES: &[i64] = &[429, 500, 502, 503, 504];

/// Reasons of calls that may be repeated, whatever their status: BigQuery answers `rateLimitExceeded` with 403.
const TRANSIENT_REASONS: &[&str] = &[
    "rateLimitExceeded",
    "backendError",
    "internalError",
    "badGateway",
];

fn has_reason(response: &ResponseError, wanted: &[&str]) -> bool {
    let mut reasons = response
        .error
        .errors
        .iter()
        .filter_map(|it| it.get("reason"));
    reasons.any(|reason| wanted.contains(&reason.as_str()))
}

/// Whether the credentials were refused.
pub(super) fn is_unauthorized(error: &BQError) -> bool {
    matches!(error, BQError::ResponseError { error: response } if response.error.code == 401)
}

/// Whether the same call may succeed later.
pub(super) fn is_transient(error: &BQError) -> bool {
    match error {
        // Connections, time-outs, and error pages that are not JSON.
        BQError::RequestError(_) => true,
        BQError::ResponseError { error: response } => {
            !has_reason(response, &[QUOTA_EXCEEDED])
                && (TRANSIENT_CODES.contains(&response.error.code)
                    || has_reason(response, TRANSIENT_REASONS))
        }
        _ => false,
    }
}

/// A job that has ended without success: `status.errorResult`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct JobFailure {
    reason: String,
    message: String,
}

/// Reasons of a failed job that are within BigQuery and not in the data.
/// <https://cloud.google.com/bigquery/docs/error-messages>
const TRANSIENT_JOB_REASONS: &[&str] = &[
    "jobBackendError",
    "jobInternalError",
    "jobRateLimitExceeded",
    "backendError",
    "internalError",
    "rateLimitExceeded",
];

impl JobFailure {
    pub(super) fn is_quota(&self) -> bool {
        self.reason == QUOTA_EXCEEDED
    }

    /// Whether the same load may succeed under another job id.
    pub(super) fn is_transient(&self) -> bool {
        TRANSIENT_JOB_REASONS.contains(&self.reason.as_str())
    }
}

impl From<&ErrorProto> for JobFailure {
    fn from(error: &ErrorProto) -> Self {
        let text = |part: &Option<String>| foreign(part.as_deref().unwrap_or_default());
        Self {
            reason: text(&error.reason),
            message: text(&error.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: i64, reason: &str) -> BQError {
        let error = serde_json::json!({ "error": {
            "code": code, "message": "Not\nnow", "errors": [{ "reason": reason }],
        }});
        BQError::ResponseError {
            error: serde_json::from_value(error).unwrap(),
        }
    }

    #[test]
    fn answers_are_classified() {
        let cases = [
            (404, "notFound", false, "it does not exist (404)"),
            (409, "duplicate", false, "it exists already (409)"),
            (403, "quotaExceeded", false, "quota: Not now"),
            (429, "quotaExceeded", false, "quota: Not now"),
            (
                401,
                "authError",
                false,
                "Not now (401: BigQuery does not accept the credentials)",
            ),
            (
                403,
                "accessDenied",
                false,
                "Not now (needs roles bigquery.dataEditor and bigquery.jobUser)",
            ),
            (403, "rateLimitExceeded", true, "Not now (needs roles"),
            (400, "invalid", false, "400: Not now"),
            (400, "backendError", true, "400: Not now"),
            (503, "", true, "503: Not now"),
            (501, "", false, "501: Not now"),
        ];
        for (code, reason, transient, text) in cases {
            let error = answer(code, reason);
            assert_eq!(is_transient(&error), transient, "{code} {reason}");
            assert_eq!(is_unauthorized(&error), code == 401, "{code} {reason}");
            let shown = CallError::from(error).to_string();
            assert!(shown.starts_with(text), "{code} {reason}: {shown}");
        }
        assert!(!is_transient(&BQError::NoToken));
        let error = CallError::from(BQError::NoToken);
        assert!(std::error::Error::source(&error).is_some(), "{error}");
    }

    #[test]
    fn job_failures_are_classified() {
        for (reason, quota, transient) in [
            ("quotaExceeded", true, false),
            ("invalid", false, false),
            ("stopped", false, false),
            ("jobBackendError", false, true),
            ("jobRateLimitExceeded", false, true),
        ] {
            let failure = JobFailure::from(&ErrorProto {
                reason: Some(reason.into()),
                message: Some("Some\nrows".into()),
                ..ErrorProto::default()
            });
            assert_eq!(
                (failure.is_quota(), failure.is_transient()),
                (quota, transient),
                "{reason}"
            );
            assert_eq!(failure.to_string(), format!("{reason}: Some rows"));
        }
    }
}
