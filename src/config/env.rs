//! Environment variables: each is named and documented once, here.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::ConfigError;

/// A variable that the program reads, from the environment or from `.env`.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Other names that work: those of the replaced program, and those that other tools read.
    pub aliases: &'static [&'static str],
    /// What it means, for the README and `--help`.
    pub meaning: &'static str,
}

macro_rules! variables {
    ($($(#[doc = $doc:literal])+ $constant:ident = $name:literal $(| $alias:literal)*;)+) => {
        $( $(#[doc = $doc])+ pub const $constant: Variable = Variable {
            name: $name, aliases: &[$($alias),*], meaning: concat!($($doc),+),
        }; )+
        /// All variables, in the order of the documentation.
        pub const ALL: &[Variable] = &[$($constant),+];
    };
}

variables! {
    /// API token of the Samsara organisation.
    SAMSARA_API_TOKEN = "SAMSARA_API_TOKEN";
    /// Another API host; https, or http on this machine only.
    SAMSARA_API_URL = "SAMSARA_API_URL";
    /// Region of the organisation: us, eu or ca. Unset, the host that accepts the token is found out.
    SAMSARA_REGION = "SAMSARA_REGION";
    /// Raw bucket: a name means `gs://name`; `file:///folder` or a path is local.
    GCS_BUCKET_NAME = "GCS_BUCKET_NAME" | "GCS_RAW_BUCKET_NAME";
    /// Flattened bucket, written likewise.
    GCS_BUCKET_FLATTENED_NAME = "GCS_BUCKET_FLATTENED_NAME" | "GCS_FLATTENED_BUCKET_NAME";
    /// Service-account key file in `credentials/`.
    GCP_CREDENTIALS_FILE_NAME = "GCP_CREDENTIALS_FILE_NAME";
    /// Application Default Credentials: a service-account key or a user's login. Unset, the file that
    /// `gcloud auth application-default login` writes; without that, the metadata server.
    GOOGLE_APPLICATION_CREDENTIALS = "GOOGLE_APPLICATION_CREDENTIALS";
    /// Google Cloud project; unset, that of the key file.
    GOOGLE_CLOUD_PROJECT = "GOOGLE_CLOUD_PROJECT";
    /// BigQuery dataset of the flattened tables. Unset, tables go to a local folder.
    DWH_ID = "DWH_ID";
    /// BigQuery dataset of the raw tables, for --load-raw.
    DATABASE_ID = "DATABASE_ID";
    /// Location of the dataset, checked by BigQuery (for instance EU).
    BIGQUERY_LOCATION = "BIGQUERY_LOCATION";
    /// Secret salt for columns that models hash.
    SAMSARA_ETL_HASH_SALT = "SAMSARA_ETL_HASH_SALT";
    /// After how many pages an unfinished walk is noted, and a feed committed; 50 unless told otherwise.
    SAMSARA_ETL_CHECKPOINT_PAGES = "SAMSARA_ETL_CHECKPOINT_PAGES";
    /// For simulators and emulators only: which part of the waits that real services ask for (rates, pauses between
    /// tries, one write a second) is waited, such as 0.01.
    SAMSARA_ETL_WAIT_SCALE = "SAMSARA_ETL_WAIT_SCALE";
    /// Address of a Cloud Storage emulator: no credentials are read then.
    STORAGE_EMULATOR_HOST = "STORAGE_EMULATOR_HOST";
    /// Address of a BigQuery emulator: no credentials are read then.
    BIGQUERY_EMULATOR_HOST = "BIGQUERY_EMULATOR_HOST";
    /// Proxy for https, as `http://user:password@host:port`.
    HTTPS_PROXY = "HTTPS_PROXY" | "https_proxy";
    /// Proxy for http; this machine and the metadata server are never asked through one.
    HTTP_PROXY = "HTTP_PROXY" | "http_proxy";
    /// Proxy for both, where there is none of its own.
    ALL_PROXY = "ALL_PROXY" | "all_proxy";
    /// Hosts, domains (`.example.com`) and networks (`10.0.0.0/8`) that are reached without a proxy.
    NO_PROXY = "NO_PROXY" | "no_proxy";
    /// PEM file of certificates to trust, of a proxy that opens TLS, say.
    SSL_CERT_FILE = "SSL_CERT_FILE";
    /// Host of the metadata server, if it is not the usual one. Read from the environment only.
    GCE_METADATA_HOST = "GCE_METADATA_HOST" | "GCE_METADATA_ROOT";
}

/// Address of the metadata server where its name is not known. Nobody but tests sets it, so it stands in no list.
pub const GCE_METADATA_IP: Variable = Variable { name: "GCE_METADATA_IP", aliases: &[], meaning: "" };

/// The user's folder, where `gcloud` keeps its login. It is the system's, so it stands in no list.
pub const HOME: Variable = Variable { name: "HOME", aliases: &[], meaning: "" };

/// The process environment over the `.env` file of the working directory.
#[derive(Default)]
pub struct Environment {
    values: HashMap<String, String>,
    /// Names whose values come from `.env`.
    of_file: HashSet<String>,
}

impl Environment {
    /// Reads the process environment and `.env` in `directory`, if there is one.
    pub fn read(directory: &Path) -> Result<Self, ConfigError> {
        let mut values = HashMap::new();
        let file = directory.join(".env");
        if file.exists() {
            let unreadable = |error: dotenvy::Error| ConfigError::DotEnv {
                path: file.clone(),
                // dotenvy's message quotes the line, which may hold a token.
                line: match error {
                    dotenvy::Error::LineParse(_, position) => format!("malformed near character {position}"),
                    other => other.to_string(),
                },
            };
            for entry in dotenvy::from_path_iter(&file).map_err(unreadable)? {
                let (name, value) = entry.map_err(unreadable)?;
                values.insert(name, value);
            }
        }
        let mut of_file: HashSet<String> = values.keys().cloned().collect();
        let process = Self::of_process().values;
        of_file.retain(|name| !process.contains_key(name));
        values.extend(process);
        Ok(Self { values, of_file })
    }

    /// The process environment alone.
    pub fn of_process() -> Self {
        // Other programs may keep what is no text in their variables: that is no business of ours.
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self { values: variables.collect(), of_file: HashSet::new() }
    }

    /// Fixed values, for tests and library users.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let values = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { values, of_file: HashSet::new() }
    }

    /// The value of a variable; an empty one counts as unset.
    pub fn get(&self, variable: Variable) -> Option<&str> {
        self.find(variable).map(|(_, value)| value)
    }

    /// Whether the value of a variable comes from `.env`; none if it is unset.
    pub fn is_of_file(&self, variable: Variable) -> Option<bool> {
        self.find(variable).map(|(name, _)| self.of_file.contains(name))
    }

    fn find(&self, variable: Variable) -> Option<(&'static str, &str)> {
        std::iter::once(variable.name)
            .chain(variable.aliases.iter().copied())
            .filter_map(|name| Some((name, self.values.get(name)?.trim())))
            .find(|(_, value)| !value.is_empty())
    }
}
