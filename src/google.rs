//! Google Cloud credentials: resolved once, for Cloud Storage and BigQuery alike.
//!
//! They come from the file that the configuration has found (a key in `credentials/`, the file in
//! `GOOGLE_APPLICATION_CREDENTIALS`, the login of `gcloud`), or without one from the metadata server, which also
//! provides workload identity. The tokens are `object_store`'s, with the scope `cloud-platform`: it signs those of a
//! service account itself, which BigQuery accepts too (<https://cloud.google.com/bigquery/docs/json-web-tokens>), so
//! that no further host must be reachable.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::gcp::{GcpCredential, GcpCredentialProvider, GoogleCloudStorageBuilder};
use object_store::{BackoffConfig, CredentialProvider, RetryConfig};
use serde_json::json;
use tokio::runtime::Handle;

use crate::config::{Credentials, CredentialsError, CredentialsFault, GoogleAccess};
use crate::http::Connector;
use crate::redact;

/// Access tokens for storage and BigQuery, masked in all text.
///
/// Sends no request: an invalid key is found here, a key that Google rejects at the first call.
pub fn provider(
    access: &GoogleAccess,
    io: &Handle,
) -> Result<GcpCredentialProvider, CredentialsError> {
    // The builder requires a bucket; only its credentials are used.
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name("credentials")
        .with_retry(retry_policy())
        .with_http_connector(Connector::new(&access.http, io));
    let mut what = "what `gcloud` has left in the home folder is not a login";
    if let Some(path) = &access.credentials {
        builder = match Credentials::read(path)? {
            Credentials::ServiceAccount {
                client_email,
                private_key_id,
                private_key,
            } => {
                what = "not a service-account key: its `private_key` is not a complete RSA key; download the key again";
                let key = json!({
                    "client_email": client_email,
                    "private_key_id": private_key_id,
                    "private_key": private_key.expose(),
                });
                builder.with_service_account_key(key.to_string())
            }
            Credentials::AuthorizedUser => {
                what = "not the login of a user; run `gcloud auth application-default login`";
                builder.with_application_credentials(path.to_string_lossy())
            }
        };
    }
    let store = builder.build().map_err(|error| CredentialsError {
        path: access
            .credentials
            .clone()
            .unwrap_or_else(|| "of Google".into()),
        // The library's error may quote the key.
        fault: if is_of_http(&error) {
            CredentialsFault::Client(error.into())
        } else {
            CredentialsFault::Content(what.into())
        },
    })?;
    Ok(Arc::new(Registered(store.credentials().clone())))
}

/// Whether an error comes from our own [`Connector`].
fn is_of_http(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::Generic { store: "HTTP", .. })
}

/// Requests to a token server are retried; a missing metadata server is detected quickly.
fn retry_policy() -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(200),
        max_backoff: Duration::from_secs(2),
        base: 2.0,
    };
    RetryConfig {
        backoff,
        max_retries: 5,
        retry_timeout: Duration::from_secs(10),
    }
}

/// Registers each token that it hands on.
struct Registered(GcpCredentialProvider);

impl std::fmt::Debug for Registered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The provider's own `Debug` would show its token.
        f.write_str("GcpCredentialProvider")
    }
}

#[async_trait]
impl CredentialProvider for Registered {
    type Credential = GcpCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<GcpCredential>> {
        let credential = self.0.get_credential().await?;
        redact::register(&credential.bearer);
        Ok(credential)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use base64::Engine;

    use super::*;
    use crate::config::project_of;

    /// A fresh RSA key, as PEM.
    pub(crate) fn rsa_key() -> String {
        let made = Command::new("openssl")
            .args([
                "genpkey",
                "-algorithm",
                "RSA",
                "-pkeyopt",
                "rsa_keygen_bits:2048",
            ])
            .output()
            .expect("openssl, which makes the key of this test");
        String::from_utf8(made.stdout).unwrap()
    }

    /// A service-account file with this key.
    pub(crate) fn key_file(folder: &Path, private_key: &str) -> PathBuf {
        let key = json!({
            "type": "service_account",
            "project_id": "p",
            "private_key_id": "1",
            "private_key": private_key,
            "client_email": "loader@p.iam.gserviceaccount.com",
            "client_id": "2",
            "token_uri": "https://oauth2.googleapis.com/token",
        });
        let path = folder.join("key.json");
        std::fs::write(&path, key.to_string()).unwrap();
        path
    }

    pub(crate) fn access(credentials: PathBuf) -> GoogleAccess {
        GoogleAccess {
            credentials: Some(credentials),
            ..GoogleAccess::default()
        }
    }

    #[tokio::test]
    async fn a_key_is_understood_whatever_has_become_of_its_line_breaks() {
        let folder = tempfile::tempdir().unwrap();
        let key = rsa_key();
        let windows = key.replace('\n', "\r\n");
        let unwrapped = key
            .lines()
            .filter(|line| !line.starts_with('-'))
            .collect::<String>();
        for written in [
            key.clone(),
            key.replace('\n', "\\n"),
            key.replace('\n', "\\\\n"),
            key.replace('\n', "\\r\\n"),
            key.replace('\n', " "),
            windows,
            format!("\"{key}\""),
            format!("-----BEGIN PRIVATE KEY-----{unwrapped}-----END PRIVATE KEY-----"),
        ] {
            let path = key_file(folder.path(), &written);
            let tokens = provider(&access(path.clone()), &Handle::current()).unwrap();
            let token = tokens.get_credential().await.unwrap();
            // Signed by the key: header, claims and 256 bytes of signature, in base64. The claims name the scope.
            let parts: Vec<&str> = token.bearer.split('.').collect();
            assert_eq!((parts.len(), parts[2].len()), (3, 342));
            let claims = base64::prelude::BASE64_URL_SAFE_NO_PAD
                .decode(parts[1])
                .unwrap();
            assert!(
                String::from_utf8(claims)
                    .unwrap()
                    .contains("https://www.googleapis.com/auth/cloud-platform")
            );
            // Token and key are masked from now on, the key line by line.
            let quoted = format!("{} {}", token.bearer, key.lines().nth(3).unwrap());
            assert_eq!(redact::mask(&quoted), "*** ***");
            assert_eq!(format!("{tokens:?}"), "GcpCredentialProvider");
        }
        // A byte-order mark before the document is skipped.
        let path = key_file(folder.path(), &key);
        std::fs::write(
            &path,
            [b"\xef\xbb\xbf", &std::fs::read(&path).unwrap()[..]].concat(),
        )
        .unwrap();
        assert_eq!(project_of(&path).as_deref(), Some("p"));
    }

    #[tokio::test]
    async fn unusable_credentials_are_named_without_content() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |path: &Path| {
            provider(&access(path.into()), &Handle::current())
                .unwrap_err()
                .to_string()
        };
        let path = folder.path().join("key.json");
        for (text, part) in [
            ("", "it holds no JSON object"),
            ("no json, canary", "it holds no JSON object"),
            (r#"["canary"]"#, "it holds no JSON object"),
            (r#"{"x":"canary"}"#, "it has no `type`"),
            (
                r#"{"installed":{"client_secret":"canary-installed"}}"#,
                "it is an OAuth client",
            ),
            (
                r#"{"type":"external_account","x":"canary"}"#,
                "`external_account` is not supported",
            ),
            (
                r#"{"type":"service_account","private_key":"canary"}"#,
                "not a service-account key: its `private_key` is",
            ),
            (
                r#"{"type":"service_account","private_key":["canary"]}"#,
                "`private_key` is missing",
            ),
            (
                r#"{"type":"service_account","private_key":" "}"#,
                "`private_key` is missing",
            ),
            (
                r#"{"type":"authorized_user","client_id":"canary"}"#,
                "not the login of a user: `client_secret` is missing",
            ),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = refused(&path);
            assert!(
                error.contains("key.json: ") && error.contains(part) && !error.contains("canary"),
                "{error}"
            );
        }
        let pem = |label: &str, body: &str| {
            format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
        };
        for (written, part) in [
            (
                pem("PRIVATE KEY", "Y2FuYXJ5Y2FuYXJ5"),
                "not a complete RSA key",
            ),
            (
                pem("RSA PRIVATE KEY", "Y2FuYXJ5Y2FuYXJ5"),
                "not a complete RSA key",
            ),
            (
                pem("PRIVATE KEY", "Y2FuYXJ5 !!! Y2FuYXJ5"),
                "is not a PEM key",
            ),
            (pem("PRIVATE KEY", ""), "is not a PEM key"),
            (pem("PRIVATE KEY", "Y2Fu\\xYXJ5"), "is not a PEM key"),
            (
                "-----BEGIN PRIVATE KEY-----\\nY2FuYXJ5".into(),
                "is not a PEM key",
            ),
            (pem("EC PRIVATE KEY", "Y2FuYXJ5"), "of another kind"),
            (pem("ENCRYPTED PRIVATE KEY", "Y2FuYXJ5"), "is encrypted"),
        ] {
            let error = refused(&key_file(folder.path(), &written));
            assert!(
                error.contains("key.json: not a service-account key: ") && error.contains(part),
                "{error}"
            );
            assert!(
                !["canary", "Y2Fu", "BEGIN", "[45"]
                    .iter()
                    .any(|part| error.contains(part)),
                "{error}"
            );
        }
        assert!(refused(folder.path()).contains("not a regular file"));
        assert!(refused(Path::new("/not/there.json")).contains("/not/there.json: No such file"));
    }
}
