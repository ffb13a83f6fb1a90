//! Files of Google credentials, read and checked here so that no library gets an invalid one: libraries quote the
//! content in their errors.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};

use super::{Secret, way_out};
use crate::redact;

/// A file of credentials is some kilobytes long.
const LARGEST_FILE: u64 = 1 << 20;

/// Unusable credentials: one line that names the file and nothing of its content.
#[derive(Debug, thiserror::Error)]
#[error("credentials {}: {fault}", path.display())]
pub struct CredentialsError {
    /// Path of the credentials file.
    pub path: PathBuf,
    /// What is wrong, and what to do.
    #[source]
    pub fault: CredentialsFault,
}

/// What is wrong with credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsFault {
    /// The file cannot be read.
    #[error("{}", redact::foreign(.0))]
    Read(#[from] std::io::Error),
    /// The HTTP client for the token server could not be created.
    #[error("{}", redact::foreign(.0))]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The content, described without quoting it: a parser's error could quote a key.
    #[error("{0}")]
    Content(String),
}

impl From<String> for CredentialsFault {
    fn from(description: String) -> Self {
        Self::Content(description)
    }
}

/// What a file of credentials holds.
#[derive(Debug)]
pub enum Credentials {
    /// A key of a service account.
    ServiceAccount {
        /// E-mail address of the service account.
        client_email: String,
        /// Which of its keys.
        private_key_id: String,
        /// The key, as PEM with its line breaks.
        private_key: Secret,
    },
    /// The login of a user, as `gcloud auth application-default login` leaves it.
    AuthorizedUser,
}

impl Credentials {
    /// Reads a file. Its secrets are masked everywhere from now on.
    pub fn read(path: &Path) -> Result<Self, CredentialsError> {
        let unusable = |fault: CredentialsFault| CredentialsError {
            path: path.into(),
            fault,
        };
        let wrong = |reason: String| unusable(reason.into());
        let (document, has_mark) = read_document(path).map_err(unusable)?;
        let text_of = |name: &str| {
            document
                .get(name)
                .and_then(Value::as_str)
                .filter(|text| !text.trim().is_empty())
        };
        match text_of("type") {
            Some("service_account") => {
                let wrong = |reason: &str| wrong(format!("not a service-account key: {reason}"));
                let field =
                    |name| text_of(name).ok_or_else(|| wrong(&format!("`{name}` is missing")));
                let pem = normalised_pem(field("private_key")?).map_err(wrong)?;
                Ok(Self::ServiceAccount {
                    client_email: field("client_email")?.trim().into(),
                    private_key_id: field("private_key_id")?.trim().into(),
                    private_key: Secret::new(pem),
                })
            }
            Some("authorized_user") => {
                match ["client_id", "client_secret", "refresh_token"]
                    .into_iter()
                    .find(|name| text_of(name).is_none())
                {
                    Some(name) => Err(wrong(format!(
                        "not the login of a user: `{name}` is missing"
                    ))),
                    None if has_mark => Err(wrong(
                        "it begins with a byte-order mark: save it as UTF-8 without one".into(),
                    )),
                    None => Ok(Self::AuthorizedUser),
                }
            }
            Some(other) => {
                let other: String = redact::foreign(other).chars().take(60).collect();
                Err(wrong(format!(
                    "`{other}` is not supported; {}",
                    way_out(&other)
                )))
            }
            None if document.contains_key("installed") || document.contains_key("web") => {
                Err(wrong(format!(
                    "{OTHER}it is an OAuth client; use a service-account key, or `gcloud auth application-default login`"
                )))
            }
            None => Err(wrong(format!("{OTHER}it has no `type`"))),
        }
    }
}

const OTHER: &str = "not a file of Google credentials: ";

/// The JSON object in a file, and whether it begins with a byte-order mark. Its secrets are registered.
fn read_document(path: &Path) -> Result<(Map<String, Value>, bool), CredentialsFault> {
    let meta = std::fs::metadata(path)?;
    if !meta.is_file() {
        return Err(format!("{OTHER}it is not a regular file").into());
    }
    if meta.len() > LARGEST_FILE {
        return Err(format!("{OTHER}it has {} bytes", meta.len()).into());
    }
    let bytes = std::fs::read(path)?;
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let document =
        serde_json::from_slice(text).map_err(|_| format!("{OTHER}it holds no JSON object"))?;
    redact::register_document(&document);
    Ok((document, text.len() != bytes.len()))
}

/// The project in a file of credentials, if it has one.
pub fn project_of(path: &Path) -> Option<String> {
    read_document(path)
        .ok()?
        .0
        .get("project_id")?
        .as_str()
        .map(str::to_string)
}

/// A PEM key with its line breaks restored: they may be doubly escaped (`\\n`), blanks, or missing.
///
/// The error describes the fault, without quoting the key.
fn normalised_pem(text: &str) -> Result<String, &'static str> {
    const BROKEN: &str = "its `private_key` is not a PEM key: download the key again, or copy the file and not its text";
    let (_, rest) = text.split_once("-----BEGIN ").ok_or(BROKEN)?;
    let (label, rest) = rest.split_once("-----").ok_or(BROKEN)?;
    let (body, _) = rest.split_once("-----END ").ok_or(BROKEN)?;
    match label {
        "PRIVATE KEY" | "RSA PRIVATE KEY" => {}
        "ENCRYPTED PRIVATE KEY" => {
            return Err("its `private_key` is encrypted: use the key as Google gave it");
        }
        _ => return Err("its `private_key` is of another kind: Google's keys are RSA keys"),
    }
    let mut base64 = String::with_capacity(body.len());
    let mut characters = body
        .chars()
        .filter(|character| !character.is_whitespace())
        .peekable();
    while let Some(character) = characters.next() {
        if character != '\\' {
            base64.push(character);
            continue;
        }
        // `\n` or `\r`, escaped any number of times.
        while characters.next_if_eq(&'\\').is_some() {}
        characters
            .next_if(|character| matches!(character, 'n' | 'r'))
            .ok_or(BROKEN)?;
    }
    let key = BASE64_STANDARD.decode(&base64).map_err(|_| BROKEN)?;
    if key.is_empty() {
        return Err(BROKEN);
    }
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in base64.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    Ok(pem + &format!("-----END {label}-----\n"))
}
