//! Tokens for BigQuery: the same resolution as for Cloud Storage.
//!
//! A key file of the configuration; else Application Default Credentials: the file that
//! `GOOGLE_APPLICATION_CREDENTIALS` names, the well-known file of `gcloud`, the metadata server. yup-oauth2 keeps a
//! token until shortly before it expires and then gets another, so long runs go on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use gcp_bigquery_client::auth::Authenticator;
use gcp_bigquery_client::error::BQError;
use gcp_bigquery_client::yup_oauth2::authenticator::{ApplicationDefaultCredentialsTypes, DefaultAuthenticator};
use gcp_bigquery_client::yup_oauth2::{
    ApplicationDefaultCredentialsAuthenticator, ApplicationDefaultCredentialsFlowOpts, AuthorizedUserAuthenticator,
    ServiceAccountAuthenticator, read_authorized_user_secret, read_service_account_key,
};
use serde::Deserialize;

use crate::config::GoogleAccess;

const SCOPES: &[&str] = &["https://www.googleapis.com/auth/bigquery"];

/// Where tokens come from.
#[derive(Clone)]
enum Tokens {
    /// The emulator wants no token, and none must go there.
    Nobody,
    /// Google's token endpoint.
    Google(DefaultAuthenticator),
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
pub(super) async fn authenticator(access: &GoogleAccess) -> Result<Arc<dyn Authenticator>, String> {
    if access.bigquery_emulator.is_some() {
        return Ok(Arc::new(Tokens::Nobody));
    }
    if let Some(path) = &access.key_file {
        return from_file(path).await;
    }
    match std::env::var_os("GOOGLE_APPLICATION_CREDENTIALS").map(PathBuf::from).or_else(well_known_file) {
        Some(path) => from_file(&path).await,
        None => from_metadata_server().await,
    }
}

/// The file that `gcloud auth application-default login` writes.
fn well_known_file() -> Option<PathBuf> {
    let home = PathBuf::from(std::env::var_os("HOME")?);
    Some(home.join(".config/gcloud/application_default_credentials.json")).filter(|path| path.is_file())
}

async fn from_file(path: &Path) -> Result<Arc<dyn Authenticator>, String> {
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
            return Err(wrong(&format!("`{other}` is not supported: use a service-account key or a user's login")));
        }
    };
    let authenticator = authenticator.map_err(|error| wrong(&error.to_string()))?;
    Ok(Arc::new(Tokens::Google(authenticator)))
}

async fn from_metadata_server() -> Result<Arc<dyn Authenticator>, String> {
    let options = ApplicationDefaultCredentialsFlowOpts::default();
    let wrong = |error: std::io::Error| format!("no Google credentials: {error}");
    let authenticator = match ApplicationDefaultCredentialsAuthenticator::builder(options).await {
        ApplicationDefaultCredentialsTypes::InstanceMetadata(builder) => builder.build().await.map_err(wrong)?,
        ApplicationDefaultCredentialsTypes::ServiceAccount(builder) => builder.build().await.map_err(wrong)?,
    };
    Ok(Arc::new(Tokens::Google(authenticator)))
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::Mutex;

    use axum::{Json, Router, extract::State, routing::post};

    use super::*;

    type Asked = Arc<Mutex<Vec<String>>>;

    async fn token(State(asked): State<Asked>, body: String) -> Json<serde_json::Value> {
        asked.lock().unwrap().push(body);
        Json(serde_json::json!({ "access_token": "from the endpoint", "expires_in": 3600, "token_type": "Bearer" }))
    }

    fn key_file(folder: &Path, token_uri: &str) -> PathBuf {
        let made = Command::new("openssl")
            .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
            .output()
            .expect("openssl, which makes the key of this test");
        let key = serde_json::json!({
            "type": "service_account",
            "project_id": "p",
            "private_key_id": "1",
            "private_key": String::from_utf8(made.stdout).unwrap(),
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

    #[tokio::test]
    async fn a_key_file_is_exchanged_for_a_token_once() {
        let asked = Asked::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let router = Router::new().route("/token", post(token)).with_state(asked.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let folder = tempfile::tempdir().unwrap();
        let access = GoogleAccess { key_file: Some(key_file(folder.path(), &url)), ..GoogleAccess::default() };
        let tokens = authenticator(&access).await.unwrap();
        for _ in 0..3 {
            assert_eq!(tokens.access_token().await.unwrap(), "from the endpoint");
        }
        let bodies = asked.lock().unwrap().clone();
        assert_eq!(bodies.len(), 1, "a token is kept as long as it lives");
        let fields: std::collections::HashMap<String, String> =
            url::form_urlencoded::parse(bodies[0].as_bytes()).into_owned().collect();
        assert_eq!(fields["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
        // Signed by the key: header, claims and 256 bytes of signature, in base64.
        let parts: Vec<&str> = fields["assertion"].split('.').collect();
        assert_eq!((parts.len(), parts[2].trim_end_matches('=').len()), (3, 342));
        assert!(!bodies[0].contains("PRIVATE"));
        server.abort();
    }

    #[tokio::test]
    async fn credentials_that_cannot_be_used_are_named_without_their_content() {
        let folder = tempfile::tempdir().unwrap();
        for (text, part) in [
            ("no json, secret", "not a JSON file of Google credentials"),
            (r#"{"type":"external_account","x":"secret"}"#, "`external_account` is not supported"),
            (r#"{"type":"service_account","private_key":"secret"}"#, "not a whole service-account key"),
        ] {
            let path = folder.path().join("key.json");
            std::fs::write(&path, text).unwrap();
            let access = GoogleAccess { key_file: Some(path), ..GoogleAccess::default() };
            let Err(error) = authenticator(&access).await else { panic!("{text} is accepted") };
            assert!(error.contains("key.json") && error.contains(part) && !error.contains("secret"), "{error}");
        }
    }
}
