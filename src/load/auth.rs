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
