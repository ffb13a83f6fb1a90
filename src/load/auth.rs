//! Tokens for BigQuery: the same resolution as for Cloud Storage.
//!
//! The file that the configuration has found (a key in `credentials/`, what `GOOGLE_APPLICATION_CREDENTIALS` names, the
//! login of `gcloud`); without one the metadata server, which is also how workload identity comes. yup-oauth2 keeps a
//! token until shortly before it expires and then gets another, so long runs go on.

use std::path::Path;

use async_trait::async_trait;
use gcp_bigquery_client::auth::Authenticator;
use gcp_bigquery_client::error::BQError;
use gcp_bigquery_client::yup_oauth2::authenticator::{ApplicationDefaultCredentialsTypes, DefaultAuthenticator};
use gcp_bigquery_client::yup_oauth2::{
    ApplicationDefaultCredentialsAuthenticator, ApplicationDefaultCredentialsFlowOpts, AuthorizedUserAuthenticator,
    ServiceAccountAuthenticator, read_authorized_user_secret, read_service_account_key,
};
use serde::Deserialize;

use crate::config::{GoogleAccess, way_out};

const SCOPES: &[&str] = &["https://www.googleapis.com/auth/bigquery"];

/// Where tokens come from.
#[derive(Clone)]
pub(super) enum Tokens {
    /// The emulator wants no token, and none must go there.
    Nobody,
    /// Google's token endpoint.
    Google(DefaultAuthenticator),
}

impl Tokens {
    /// Gets another token in place of the one at hand, which was refused before its time.
    pub(super) async fn renew(&self) -> Result<(), BQError> {
        if let Self::Google(authenticator) = self {
            authenticator.force_refreshed_token(SCOPES).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Authenticator for Tokens {
    async fn access_token(&self) -> Result<String, BQError> {
        match self {
            Self::Nobody => Ok("emulator".into()),
            Self::Google(authenticator) => {
                let token = authenticator.token(SCOPES).await?;
                token.token().map(str::to_string).ok_or(BQError::NoToken)
            }
        }
    }
}

/// What kind of credentials a file holds.
#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

/// The credentials to use, or one line that says what is wrong with them.
pub(super) async fn authenticator(access: &GoogleAccess) -> Result<Tokens, String> {
    if access.bigquery_emulator.is_some() {
        return Ok(Tokens::Nobody);
    }
    match &access.credentials {
        Some(path) => from_file(path).await,
        None => from_metadata_server(metadata_host().as_deref()).await,
    }
}

/// The metadata server's host, if it is not the usual one: as object_store finds it.
fn metadata_host() -> Option<String> {
    ["GCE_METADATA_HOST", "GCE_METADATA_ROOT"].into_iter().find_map(|name| std::env::var(name).ok())
}

async fn from_file(path: &Path) -> Result<Tokens, String> {
    // Messages name the file and never its content.
    let wrong = |reason: &str| format!("credentials {}: {reason}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error.to_string()))?;
    let kind: Kind = serde_json::from_str(&text).map_err(|_| wrong("not a JSON file of Google credentials"))?;
    let authenticator = match kind.kind.as_str() {
        "service_account" => {
            let key = read_service_account_key(path).await.map_err(|_| wrong("not a whole service-account key"))?;
            ServiceAccountAuthenticator::builder(key).build().await
        }
        "authorized_user" => {
            let secret = read_authorized_user_secret(path).await.map_err(|_| wrong("not a whole user credential"))?;
            AuthorizedUserAuthenticator::builder(secret).build().await
        }
        other => {
            return Err(wrong(&format!("`{other}` is not supported; {}", way_out(other))));
        }
    };
    let authenticator = authenticator.map_err(|error| wrong(&error.to_string()))?;
    Ok(Tokens::Google(authenticator))
}

async fn from_metadata_server(host: Option<&str>) -> Result<Tokens, String> {
    let path = "computeMetadata/v1/instance/service-accounts/default/token";
    let metadata_url = host.map(|host| format!("http://{host}/{path}"));
    let options = ApplicationDefaultCredentialsFlowOpts { metadata_url };
    let wrong = |error: std::io::Error| format!("no Google credentials: {error}");
    let authenticator = match ApplicationDefaultCredentialsAuthenticator::builder(options).await {
        ApplicationDefaultCredentialsTypes::InstanceMetadata(builder) => builder.build().await.map_err(wrong)?,
        ApplicationDefaultCredentialsTypes::ServiceAccount(builder) => builder.build().await.map_err(wrong)?,
    };
    Ok(Tokens::Google(authenticator))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};
    use std::path::PathBuf;
    use std::process::Command;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use axum::extract::State;
    use axum::http::{HeaderMap, StatusCode};
    use axum::response::{IntoResponse, Response};
    use axum::routing::{get, post};
    use axum::{Json, Router};
    use serde_json::{Value, json};

    use super::*;
    use crate::load::Timings;
    use crate::load::bigquery::BigQuery;

    /// What Google has been asked for, and how it answers.
    #[derive(Default)]
    struct Google {
        /// Bodies of requests for a token. The n-th token is `token-n`.
        asked: Vec<String>,
        /// Tokens that calls brought, in their order.
        brought: Vec<String>,
        /// Tokens that are no longer accepted.
        refused: BTreeSet<String>,
        expires_in: u64,
        /// So many requests for a token are answered with an error page.
        stumbles: usize,
    }

    type Shared = Arc<Mutex<Google>>;

    /// Token endpoint, metadata server and BigQuery in one.
    async fn serve(expires_in: u64) -> (Shared, String) {
        let google = Shared::default();
        google.lock().unwrap().expires_in = expires_in;
        let router = Router::new()
            .route("/token", post(token))
            .route("/computeMetadata/v1/instance/service-accounts/default/token", get(of_instance))
            .route("/bigquery/v2/projects/p/datasets/d", get(dataset))
            .with_state(google.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (google, host)
    }

    async fn token(State(google): State<Shared>, body: String) -> Response {
        let mut google = google.lock().unwrap();
        google.asked.push(body);
        if google.asked.len() <= google.stumbles {
            return (StatusCode::BAD_GATEWAY, "<html>Try again</html>").into_response();
        }
        let token = format!("token-{}", google.asked.len());
        Json(json!({ "access_token": token, "expires_in": google.expires_in, "token_type": "Bearer" })).into_response()
    }

    async fn of_instance(state: State<Shared>, headers: HeaderMap) -> Response {
        assert_eq!(headers["Metadata-Flavor"], "Google");
        token(state, "of this instance".into()).await
    }

    async fn dataset(State(google): State<Shared>, headers: HeaderMap) -> Response {
        let mut google = google.lock().unwrap();
        let bearer = headers["Authorization"].to_str().unwrap().trim_start_matches("Bearer ").to_string();
        google.brought.push(bearer.clone());
        if google.refused.contains(&bearer) {
            let error = json!({ "reason": "authError", "message": "Invalid Credentials" });
            let body = json!({ "error": { "code": 401, "message": "Invalid Credentials", "errors": [error] } });
            return (StatusCode::UNAUTHORIZED, Json(body)).into_response();
        }
        let reference = json!({ "projectId": "p", "datasetId": "d" });
        Json(json!({ "datasetReference": reference, "location": "EU" })).into_response()
    }

    fn key_file(folder: &Path, token_uri: &str) -> PathBuf {
        let made = Command::new("openssl")
            .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
            .output()
            .expect("openssl, which makes the key of this test");
        write_key(folder, token_uri, &String::from_utf8(made.stdout).unwrap())
    }

    fn write_key(folder: &Path, token_uri: &str, private_key: &str) -> PathBuf {
        let key: Value = json!({
            "type": "service_account",
            "project_id": "p",
            "private_key_id": "1",
            "private_key": private_key,
            "client_email": "loader@p.iam.gserviceaccount.com",
            "client_id": "2",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": token_uri,
            "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
            "client_x509_cert_url": "https://www.googleapis.com/robot/v1/metadata/x509/loader",
        });
        let path = folder.join("key.json");
        std::fs::write(&path, key.to_string()).unwrap();
        path
    }

    fn access(credentials: PathBuf) -> GoogleAccess {
        GoogleAccess { credentials: Some(credentials), ..GoogleAccess::default() }
    }

    /// A dataset behind a key of its own.
    async fn connect(host: &str) -> (BigQuery, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let access = access(key_file(folder.path(), &format!("http://{host}/token")));
        let quick = Duration::from_millis(1);
        let timings = Timings { first_wait: quick, longest_wait: quick, ..Timings::default() };
        (BigQuery::reach_at(&format!("http://{host}"), "p", "d", &access, timings).await.unwrap(), folder)
    }

    #[tokio::test]
    async fn a_key_file_is_exchanged_for_a_token_once() {
        let (google, host) = serve(3600).await;
        let folder = tempfile::tempdir().unwrap();
        let access = access(key_file(folder.path(), &format!("http://{host}/token")));
        let tokens = authenticator(&access).await.unwrap();
        for _ in 0..3 {
            assert_eq!(tokens.access_token().await.unwrap(), "token-1");
        }
        let bodies = google.lock().unwrap().asked.clone();
        assert_eq!(bodies.len(), 1, "a token is kept as long as it lives");
        let fields: HashMap<String, String> = url::form_urlencoded::parse(bodies[0].as_bytes()).into_owned().collect();
        assert_eq!(fields["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
        // Signed by the key: header, claims and 256 bytes of signature, in base64.
        let parts: Vec<&str> = fields["assertion"].split('.').collect();
        assert_eq!((parts.len(), parts[2].trim_end_matches('=').len()), (3, 342));
        assert!(!bodies[0].contains("PRIVATE"));
    }

    #[tokio::test]
    async fn a_token_that_has_run_out_is_replaced_before_the_next_call() {
        let (google, host) = serve(1).await;
        let (mut warehouse, _folder) = connect(&host).await;
        for _ in 0..2 {
            assert!(warehouse.find_dataset(None).await.unwrap());
        }
        let google = google.lock().unwrap();
        assert_eq!((google.asked.len(), &google.brought[..]), (2, &["token-1".into(), "token-2".into()][..]));
    }

    #[tokio::test]
    async fn a_token_that_is_refused_before_its_time_is_replaced_once() {
        let (google, host) = serve(3600).await;
        let (mut warehouse, _folder) = connect(&host).await;
        assert!(warehouse.find_dataset(None).await.unwrap());
        google.lock().unwrap().refused.insert("token-1".into());
        assert!(warehouse.find_dataset(None).await.unwrap());
        assert!(warehouse.find_dataset(None).await.unwrap());
        assert_eq!(google.lock().unwrap().brought, ["token-1", "token-1", "token-2", "token-2"]);
        // Credentials that were taken away are no passing fault.
        google.lock().unwrap().refused.extend(["token-2".into(), "token-3".into()]);
        let error = warehouse.find_dataset(None).await.unwrap_err().to_string();
        assert!(error.contains("Invalid Credentials (401: BigQuery does not accept the credentials)"), "{error}");
        assert!(!error.contains("token-"), "{error}");
        assert_eq!(google.lock().unwrap().brought[4..], ["token-2", "token-3"]);
    }

    #[tokio::test]
    async fn a_token_server_that_stumbles_is_asked_again() {
        let (google, host) = serve(3600).await;
        google.lock().unwrap().stumbles = 2;
        let (mut warehouse, _folder) = connect(&host).await;
        assert!(warehouse.find_dataset(None).await.unwrap());
        assert_eq!(google.lock().unwrap().brought, ["token-3"]);
    }

    #[tokio::test]
    async fn without_a_file_the_metadata_server_gives_the_token() {
        let (google, host) = serve(3600).await;
        let tokens = from_metadata_server(Some(&host)).await.unwrap();
        assert_eq!(tokens.access_token().await.unwrap(), "token-1");
        assert_eq!(google.lock().unwrap().asked, ["of this instance"]);
    }

    #[tokio::test]
    async fn credentials_that_cannot_be_used_are_named_without_their_content() {
        let folder = tempfile::tempdir().unwrap();
        for (text, part) in [
            ("no json, secret", "not a JSON file of Google credentials"),
            (r#"{"type":"external_account","x":"secret"}"#, "`external_account` is not supported; workload identity"),
            (r#"{"type":"service_account","private_key":"secret"}"#, "not a whole service-account key"),
        ] {
            let path = folder.path().join("key.json");
            std::fs::write(&path, text).unwrap();
            let Err(error) = authenticator(&access(path)).await else { panic!("{text} is accepted") };
            assert!(error.contains("key.json") && error.contains(part) && !error.contains("secret"), "{error}");
        }
        for pem in ["secret", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"] {
            let path = write_key(folder.path(), "http://127.0.0.1:9/token", pem);
            let Err(error) = authenticator(&access(path)).await else { panic!("{pem} is accepted") };
            assert!(error.contains("key.json"), "{error}");
            assert!(!["secret", "c2VjcmV0", "BEGIN"].iter().any(|part| error.contains(part)), "{error}");
        }
    }
}
