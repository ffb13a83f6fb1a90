//! Tokens for BigQuery: those of Cloud Storage, passed to `gcp-bigquery-client` through its authenticator.
//!
//! The client's own authenticators fetch tokens themselves, without the configured proxy and certificates. Here
//! [`google::provider`] does it, which keeps a token until shortly before it expires and then fetches another, so that
//! long runs continue.

use std::sync::Arc;

use async_trait::async_trait;
use gcp_bigquery_client::auth::Authenticator;
use gcp_bigquery_client::error::BQError;
use object_store::gcp::GcpCredentialProvider;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::config::{CredentialsError, GoogleAccess};
use crate::{google, redact};

type Make = Box<dyn Fn() -> Result<GcpCredentialProvider, CredentialsError> + Send + Sync>;

/// The tokens of one warehouse. Clones share them.
#[derive(Clone)]
pub(super) struct Tokens(Arc<Shared>);

struct Shared {
    /// Creates another source of tokens, without a stored token.
    make: Option<Make>,
    /// None for an emulator: it needs no token, and must not get one.
    provider: Mutex<Option<GcpCredentialProvider>>,
    /// What the next call brings.
    bearer: Mutex<String>,
}

/// Why there is no access token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The token server refused, or was not reached.
    #[error("no access token: {}", redact::foreign(.0))]
    Provider(#[source] object_store::Error),
    /// The credentials cannot be used.
    #[error("no access token: {0}")]
    Credentials(#[source] CredentialsError),
}

impl TokenError {
    /// Whether a later attempt may get a token: the credentials were not refused.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            // The type of the error is private to `object_store`, which has retried what is worth it. A 4xx means that
            // the credentials themselves are refused.
            Self::Provider(_) => !self.to_string().contains("status code: 4"),
            Self::Credentials(_) => false,
        }
    }
}

impl Tokens {
    /// The tokens to use; unusable credentials are refused here.
    pub(super) fn of(access: &GoogleAccess) -> Result<Self, CredentialsError> {
        if access.bigquery_emulator.is_some() {
            let (provider, bearer) = (Mutex::new(None), Mutex::new("emulator".into()));
            return Ok(Self(Arc::new(Shared {
                make: None,
                provider,
                bearer,
            })));
        }
        let (access, io) = (access.clone(), Handle::current());
        Self::made_by(Box::new(move || google::provider(&access, &io)))
    }

    fn made_by(make: Make) -> Result<Self, CredentialsError> {
        let provider = Mutex::new(Some(make()?));
        Ok(Self(Arc::new(Shared {
            make: Some(make),
            provider,
            bearer: Mutex::default(),
        })))
    }

    /// Ensures that the token of the next call is valid: must be called before each.
    pub(super) async fn refresh(&self) -> Result<(), TokenError> {
        let provider = self.0.provider.lock().clone();
        let Some(provider) = provider else {
            return Ok(());
        };
        let credential = provider
            .get_credential()
            .await
            .map_err(TokenError::Provider)?;
        self.0.bearer.lock().clone_from(&credential.bearer);
        Ok(())
    }

    /// Replaces the current token, which was refused before its expiry.
    pub(super) async fn renew(&self) -> Result<(), TokenError> {
        if let Some(make) = &self.0.make {
            *self.0.provider.lock() = Some(make().map_err(TokenError::Credentials)?);
        }
        self.refresh().await
    }

    /// The token of the next call.
    pub(super) fn bearer(&self) -> String {
        self.0.bearer.lock().clone()
    }
}

#[async_trait]
impl Authenticator for Tokens {
    async fn access_token(&self) -> Result<String, BQError> {
        Ok(self.bearer())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use axum::extract::State;
    use axum::http::{HeaderMap, StatusCode};
    use axum::response::{IntoResponse, Response};
    use axum::routing::get;
    use axum::{Json, Router};
    use object_store::CredentialProvider;
    use object_store::gcp::GcpCredential;
    use serde_json::json;

    use super::*;
    use crate::load::bigquery::client::BigQuery;
    use crate::load::bigquery::timings::Timings;

    /// A token server: its requests, and how it responds.
    #[derive(Default)]
    struct Google {
        /// Requests for a token. The n-th token is `token-n`.
        asked: usize,
        /// Whether a token is good for one call only.
        forgets: bool,
        /// Tokens that calls used, in order.
        brought: Vec<String>,
        /// Tokens that are no longer accepted.
        refused: BTreeSet<String>,
        /// This many requests for a token are answered with this status.
        stumbles: (usize, u16),
    }

    type World = Arc<Mutex<Google>>;

    /// A source of tokens that keeps its first one, as object_store's does while it is good.
    #[derive(Default)]
    struct Source(World, Mutex<Option<String>>);

    impl std::fmt::Debug for Source {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Source")
        }
    }

    #[async_trait]
    impl CredentialProvider for Source {
        type Credential = GcpCredential;

        async fn get_credential(&self) -> object_store::Result<Arc<GcpCredential>> {
            let (mut google, mut kept) = (self.0.lock(), self.1.lock());
            if google.stumbles.0 > 0 {
                google.stumbles.0 -= 1;
                let text = format!(
                    "Server returned non-2xx status code: {}: try later",
                    google.stumbles.1
                );
                return Err(object_store::Error::Generic {
                    store: "GCS",
                    source: text.into(),
                });
            }
            if kept.is_none() || google.forgets {
                google.asked += 1;
                *kept = Some(format!("token-{}", google.asked));
            }
            Ok(Arc::new(GcpCredential {
                bearer: kept.clone().unwrap(),
            }))
        }
    }

    async fn dataset(State(google): State<World>, headers: HeaderMap) -> Response {
        let mut google = google.lock();
        let bearer = headers["Authorization"]
            .to_str()
            .unwrap()
            .trim_start_matches("Bearer ")
            .to_string();
        google.brought.push(bearer.clone());
        if google.refused.contains(&bearer) {
            let error = json!({ "reason": "authError", "message": "Invalid Credentials" });
            let body = json!({ "error": { "code": 401, "message": "Invalid Credentials", "errors": [error] } });
            return (StatusCode::UNAUTHORIZED, Json(body)).into_response();
        }
        let reference = json!({ "projectId": "p", "datasetId": "d" });
        Json(json!({ "datasetReference": reference, "location": "EU" })).into_response()
    }

    /// A dataset that requires such tokens.
    async fn connect() -> (World, BigQuery) {
        let google = World::default();
        let router = Router::new()
            .route("/bigquery/v2/projects/p/datasets/d", get(dataset))
            .with_state(google.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let world = google.clone();
        let make =
            move || Ok(Arc::new(Source(world.clone(), Mutex::default())) as GcpCredentialProvider);
        let tokens = Tokens::made_by(Box::new(make)).unwrap();
        let quick = Duration::from_millis(1);
        let timings = Timings {
            first_wait: quick,
            longest_wait: quick,
            ..Timings::default()
        };
        let http = crate::config::HttpConfig::default();
        (
            google,
            BigQuery::with_tokens(&host, "p", "d", &http, tokens, timings)
                .await
                .unwrap(),
        )
    }

    #[tokio::test]
    async fn a_token_is_cached_until_it_expires() {
        let (google, mut warehouse) = connect().await;
        for forgets in [false, false, true] {
            google.lock().forgets = forgets;
            assert!(warehouse.find_dataset(None).await.unwrap());
        }
        assert_eq!(google.lock().brought, ["token-1", "token-1", "token-2"]);
    }

    #[tokio::test]
    async fn a_refused_token_is_renewed_once() {
        let (google, mut warehouse) = connect().await;
        assert!(warehouse.find_dataset(None).await.unwrap());
        google.lock().refused.insert("token-1".into());
        assert!(warehouse.find_dataset(None).await.unwrap());
        assert!(warehouse.find_dataset(None).await.unwrap());
        assert_eq!(
            google.lock().brought,
            ["token-1", "token-1", "token-2", "token-2"]
        );
        // Removed credentials are a permanent error.
        google
            .lock()
            .refused
            .extend(["token-2".into(), "token-3".into()]);
        let error = warehouse.find_dataset(None).await.unwrap_err().to_string();
        assert!(
            error.contains("Invalid Credentials (401: BigQuery does not accept the credentials)"),
            "{error}"
        );
        assert!(!error.contains("token-"), "{error}");
        assert_eq!(google.lock().brought[4..], ["token-2", "token-3"]);
    }

    #[tokio::test]
    async fn a_token_server_that_stumbles_is_asked_again_in_mid_run() {
        let (google, mut warehouse) = connect().await;
        // Credentials that never worked are not worth retrying.
        google.lock().stumbles = (1, 503);
        let error = warehouse.find_dataset(None).await.unwrap_err().to_string();
        assert!(
            error.contains("no access token: ") && error.contains("503"),
            "{error}"
        );
        assert!(warehouse.find_dataset(None).await.unwrap());
        google.lock().stumbles = (3, 503);
        assert!(warehouse.find_dataset(None).await.unwrap());
        google.lock().stumbles = (1, 400);
        assert!(warehouse.find_dataset(None).await.is_err());
        assert_eq!(google.lock().brought, ["token-1", "token-1"]);
    }
}
