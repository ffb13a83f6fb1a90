//! Environment variables: each is named and documented once, here.

use std::collections::HashMap;
use std::path::Path;

use super::ConfigError;

/// A variable that the program reads, from the environment or from `.env`.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Older names of the replaced program that still work.
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
}

/// The user's folder, where `gcloud` keeps its login. It is the system's, so it stands in no list.
pub const HOME: Variable = Variable { name: "HOME", aliases: &[], meaning: "" };

/// The process environment over the `.env` file of the working directory.
#[derive(Default)]
pub struct Environment {
    values: HashMap<String, String>,
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
        // Other programs may keep what is no text in their variables: that is no business of ours.
        values.extend(
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        );
        Ok(Self { values })
    }

    /// Fixed values, for tests and library users.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self { values: pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect() }
    }

    /// The value of a variable; an empty one counts as unset.
    pub fn get(&self, variable: Variable) -> Option<&str> {
        std::iter::once(variable.name)
            .chain(variable.aliases.iter().copied())
            .filter_map(|name| self.values.get(name))
            .map(|value| value.trim())
            .find(|value| !value.is_empty())
    }
}
