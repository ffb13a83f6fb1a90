//! Environment variables: each is named and documented once, here.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::Path;

use super::text::read_text;
use super::{ConfigError, bounds, dotenv};

/// A variable that the program reads, from the environment or from `.env`.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Name of the environment variable.
    pub name: &'static str,
    /// Other accepted names: those of the replaced program, and those that other tools read.
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
    /// Format of the flattened tables in their bucket: `parquet`, or `delta` to make each a Delta Lake table too.
    SAMSARA_ETL_TABLE_FORMAT = "SAMSARA_ETL_TABLE_FORMAT";
    /// Pages between two checkpoints of a task, or two commits of a feed; 50 by default.
    SAMSARA_ETL_CHECKPOINT_PAGES = "SAMSARA_ETL_CHECKPOINT_PAGES";
    /// For simulators and emulators only: factor for the waits that real services need (rate limits, retries, one write
    /// a second), such as 0.01.
    SAMSARA_ETL_WAIT_SCALE = "SAMSARA_ETL_WAIT_SCALE";
    /// Address of a Cloud Storage emulator: no credentials are read then.
    STORAGE_EMULATOR_HOST = "STORAGE_EMULATOR_HOST";
    /// Address of a BigQuery emulator: no credentials are read then.
    BIGQUERY_EMULATOR_HOST = "BIGQUERY_EMULATOR_HOST";
    /// Proxy for https, as `http://user:password@host:port`.
    HTTPS_PROXY = "HTTPS_PROXY" | "https_proxy";
    /// Proxy for http; never used for this machine and the metadata server.
    HTTP_PROXY = "HTTP_PROXY" | "http_proxy";
    /// Proxy for both, unless a specific one is set.
    ALL_PROXY = "ALL_PROXY" | "all_proxy";
    /// Hosts, domains (`.example.com`) and networks (`10.0.0.0/8`) that are reached without a proxy.
    NO_PROXY = "NO_PROXY" | "no_proxy";
    /// PEM file of certificates to trust, of a proxy that opens TLS, say.
    SSL_CERT_FILE = "SSL_CERT_FILE";
    /// Collector of OpenTelemetry that a run sends traces and metrics to, by OTLP over HTTP: `http://host:4318`. Unset,
    /// nothing is sent (docs/observability.md).
    OTEL_EXPORTER_OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT";
    /// Headers for the collector, as `name=value,name=value`.
    OTEL_EXPORTER_OTLP_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS";
    /// Name of the service in traces and metrics; `samsara-etl` by default.
    OTEL_SERVICE_NAME = "OTEL_SERVICE_NAME";
    /// More attributes of traces and metrics, as `name=value,name=value`.
    OTEL_RESOURCE_ATTRIBUTES = "OTEL_RESOURCE_ATTRIBUTES";
    /// Host of the metadata server, if it is not the usual one. Read from the environment only.
    GCE_METADATA_HOST = "GCE_METADATA_HOST" | "GCE_METADATA_ROOT";
}

/// Address of the metadata server if its name cannot be resolved. Only tests set it, so it is not documented.
pub const GCE_METADATA_IP: Variable = Variable {
    name: "GCE_METADATA_IP",
    aliases: &[],
    meaning: "",
};

/// The user's home folder, where `gcloud` keeps its login. It is the system's variable, so it is not documented.
pub const HOME: Variable = Variable {
    name: "HOME",
    aliases: &[],
    meaning: "",
};

/// The process environment over the `.env` file of the working directory.
///
/// It has no `Debug` or `Display`: it holds secrets.
#[derive(Default)]
pub struct Environment {
    process: HashMap<String, String>,
    file: HashMap<String, String>,
}

impl Environment {
    /// Reads the process environment and `.env` in `directory`, if there is one. Likely mistakes are logged as warnings,
    /// without any value.
    ///
    /// # Errors
    /// [`ConfigError::DotEnv`] if `.env` cannot be read, [`ConfigError::Value`] if a variable of ours is not text.
    pub fn read(directory: &Path) -> Result<Self, ConfigError> {
        Self::read_with(&directory.join(".env"), false)
    }

    /// The same with another file, which must exist if `must` is set.
    ///
    /// # Errors
    /// Those of [`Self::read`].
    pub fn read_with(file: &Path, must: bool) -> Result<Self, ConfigError> {
        let mut environment = Self::of_process();
        #[expect(
            clippy::disallowed_methods,
            reason = "this module is the one that reads the environment"
        )]
        let is_text =
            |name: &&str| std::env::var_os(name).is_none_or(|value| value.to_str().is_some());
        if let Some(name) = names().find(|name| !is_text(name)) {
            return Err(ConfigError::Value {
                name,
                reason: "its value is not UTF-8 text".into(),
            });
        }
        let mut lines = environment.add_file(file, must)?;
        lines.extend(environment.near_misses(environment.process.keys(), "the environment"));
        for line in lines {
            tracing::warn!("{line}");
        }
        Ok(environment)
    }

    /// The process environment alone.
    #[expect(
        clippy::disallowed_methods,
        reason = "this module is the one that reads the environment"
    )]
    pub fn of_process() -> Self {
        // Variables of other programs need not be text.
        let text = |(name, value): (OsString, OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self {
            process: std::env::vars_os().filter_map(text).collect(),
            file: HashMap::new(),
        }
    }

    /// Fixed values, for tests and library users.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let process = pairs
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        Self {
            process,
            file: HashMap::new(),
        }
    }

    /// The value of a variable; an empty one counts as unset. The environment wins over `.env` under each of its
    /// names.
    pub fn get(&self, variable: Variable) -> Option<&str> {
        value_in(&self.process, variable).or_else(|| value_in(&self.file, variable))
    }

    /// Whether the value of a variable comes from `.env`; none if it is unset.
    pub fn is_of_file(&self, variable: Variable) -> Option<bool> {
        self.get(variable)
            .map(|_| value_in(&self.process, variable).is_none())
    }

    /// Adds what `.env` says; gives warnings.
    fn add_file(&mut self, path: &Path, must: bool) -> Result<Vec<String>, ConfigError> {
        match std::fs::symlink_metadata(path) {
            _ if must => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            // A Python virtual environment may have this name.
            Ok(_) if path.is_dir() => return Ok(Vec::new()),
            _ => {}
        }
        let text =
            read_text(path, bounds::ENV_FILE_BYTES).map_err(|error| ConfigError::DotEnv {
                path: path.to_path_buf(),
                error,
            })?;
        let parsed = dotenv::parse(&text);
        let mut warnings: Vec<String> = parsed
            .foreign
            .iter()
            .map(|line| {
                format!(
                    "{}:{line}: ignored: neither NAME=value nor a comment",
                    path.display()
                )
            })
            .collect();
        let values = parsed.resolve(&self.process).into_iter();
        self.file = values
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        for dotenv::Binding { name, line, .. } in &parsed.bindings {
            warnings.extend(self.near_misses([name], &format!("{}:{line}", path.display())));
        }
        let holds_secret = [
            SAMSARA_API_TOKEN,
            SAMSARA_ETL_HASH_SALT,
            OTEL_EXPORTER_OTLP_HEADERS,
        ]
        .iter()
        .any(|it| self.file.contains_key(it.name));
        warnings.extend(open_to_others(path, holds_secret));
        Ok(warnings)
    }

    /// A warning for each unset variable with a name similar to one of ours.
    fn near_misses<'a>(
        &self,
        found: impl IntoIterator<Item = &'a String>,
        place: &str,
    ) -> Vec<String> {
        let unset = |near: &&str| {
            ALL.iter()
                .any(|it| is_name_of(it, near) && self.get(*it).is_none())
        };
        let warning = |name: &String| Some((name.clone(), near_miss(name).filter(unset)?));
        let mut found: Vec<_> = found.into_iter().filter_map(warning).collect();
        found.sort();
        let tell = |(name, near)| {
            format!(
                "{place}: `{name}` is not a known setting and is ignored; did you mean `{near}`?"
            )
        };
        found.into_iter().map(tell).collect()
    }
}

fn value_in(values: &HashMap<String, String>, variable: Variable) -> Option<&str> {
    let mut names = std::iter::once(variable.name).chain(variable.aliases.iter().copied());
    names.find_map(|name| {
        values
            .get(name)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    })
}

fn is_name_of(variable: &Variable, name: &str) -> bool {
    variable.name == name || variable.aliases.contains(&name)
}

/// All names that are read, older ones among them.
fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter()
        .flat_map(|it| std::iter::once(it.name).chain(it.aliases.iter().copied()))
}

/// The variable of ours that is probably meant by an unknown name.
///
/// An environment is full of other programs' names, so only a difference of a few letters, another order of words, or
/// another case counts; and names with our prefix that are somewhat similar.
fn near_miss(name: &str) -> Option<&'static str> {
    if names().any(|known| known == name) {
        return None;
    }
    let upper = name.to_uppercase().replace(['-', '.', ' '], "_");
    let words = |name: &str| {
        let mut words: Vec<_> = name.split('_').map(str::to_string).collect();
        words.sort();
        words
    };
    let distance = |known: &str| strsim::osa_distance(&upper, known);
    let length = upper.chars().count();
    let is_near = |known: &&str| {
        let most = (known.len() / 6).min(3);
        // The length is compared first: every command looks at all names of the environment.
        let longer = known.len().abs_diff(length);
        (longer <= most && distance(known) <= most)
            || (longer == 0 && words(known) == words(&upper))
    };
    if let Some(known) = names().filter(is_near).min_by_key(|known| distance(known)) {
        return Some(known);
    }
    match upper.strip_prefix("SAMSARA_") {
        Some(rest) if rest.contains("TOKEN") || rest.contains("KEY") => {
            Some(SAMSARA_API_TOKEN.name)
        }
        None if !upper.starts_with("GCS_") => None,
        _ => {
            let likeness = |known: &str| strsim::jaro_winkler(&upper, known);
            let nearest = names().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
            nearest.filter(|known| likeness(known) >= 0.85)
        }
    }
}

/// A warning if other users of this machine may write the file, or read a secret in it.
#[cfg(unix)]
pub(super) fn open_to_others(path: &Path, holds_secret: bool) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let mode = std::fs::metadata(path).ok()?.mode();
    let what = match (mode & 0o022 != 0, holds_secret && mode & 0o044 != 0) {
        (true, true) => "read and write",
        (true, false) => "write",
        (false, true) => "read",
        (false, false) => return None,
    };
    let path = path.display();
    Some(format!(
        "{path}: other users of this machine can {what} it (mode {:03o}); chmod 600 {path}",
        mode & 0o777
    ))
}

/// Elsewhere, file modes do not say who may read a file.
#[cfg(not(unix))]
pub(super) fn open_to_others(_: &Path, _: bool) -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The environment over a `.env` of these bytes, and the warnings.
    fn read(process: &[(&str, &str)], file: &[u8]) -> (Environment, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".env"), file).unwrap();
        let mut environment = Environment::from_pairs(process.iter().copied());
        let warnings = environment
            .add_file(&folder.path().join(".env"), false)
            .unwrap();
        let place = format!("{}/", folder.path().display());
        (
            environment,
            warnings
                .into_iter()
                .map(|warning| warning.replace(&place, ""))
                .collect(),
        )
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let get = |process: &[(&str, &str)], file: &str| {
            let environment = read(process, file.as_bytes()).0;
            let value = environment.get(GCS_BUCKET_NAME).map(str::to_string);
            (value.clone(), environment.is_of_file(GCS_BUCKET_NAME))
        };
        let (new, old) = ("GCS_BUCKET_NAME", "GCS_RAW_BUCKET_NAME");
        for (process, file, expected) in [
            (
                &[(old, "env")][..],
                "GCS_BUCKET_NAME=file",
                Some(("env", false)),
            ),
            (
                &[(new, "env")],
                "GCS_RAW_BUCKET_NAME=file",
                Some(("env", false)),
            ),
            (
                &[(new, "new"), (old, "old")],
                "GCS_BUCKET_NAME=file",
                Some(("new", false)),
            ),
            (
                &[(new, ""), (old, " ")],
                "GCS_BUCKET_NAME=\nGCS_RAW_BUCKET_NAME=file",
                Some(("file", true)),
            ),
            (&[(new, "")], "GCS_BUCKET_NAME=''", None),
            (
                &[("X", "of-env")],
                "GCS_BUCKET_NAME=raw-${X}",
                Some(("raw-of-env", true)),
            ),
        ] {
            let expected = (
                expected.map(|(value, _)| value.to_string()),
                expected.map(|(_, is_of_file)| is_of_file),
            );
            assert_eq!(get(process, file), expected, "{process:?} {file}");
        }
    }

    #[test]
    fn mistakes_in_env_files_are_located() {
        let utf16: Vec<u8> = "\u{feff}DWH_ID=d\r\n"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        for file in [
            &b"\xef\xbb\xbfDWH_ID=d\n"[..],
            &utf16,
            b"# Schl\xfcssel\nDWH_ID=d",
        ] {
            assert_eq!(read(&[], file).0.get(DWH_ID), Some("d"), "{file:?}");
        }
        let file = "GCS_BUKET_NAME=raw\nnot ours, hush\nFOREIGN=1\nsamsara_api_token=hush\n";
        let (_, warnings) = read(&[("DWH_ID", "d")], file.as_bytes());
        assert_eq!(
            warnings,
            [
                ".env:2: ignored: neither NAME=value nor a comment",
                ".env:1: `GCS_BUKET_NAME` is not a known setting and is ignored; did you mean `GCS_BUCKET_NAME`?",
                ".env:4: `samsara_api_token` is not a known setting and is ignored; did you mean `SAMSARA_API_TOKEN`?",
            ]
        );
        // What is set is not missed.
        assert_eq!(
            read(
                &[("GCS_RAW_BUCKET_NAME", "raw"), ("SAMSARA_API_TOKEN", "t")],
                file.as_bytes()
            )
            .1
            .len(),
            1
        );
    }

    #[test]
    fn a_slip_of_the_pen_is_told_from_another_program_s_name() {
        for (name, expected) in [
            ("GCS_BUKET_NAME", Some("GCS_BUCKET_NAME")),
            ("GCS_BUCKET", Some("GCS_BUCKET_NAME")),
            (
                "GCS_BUCKET_NAME_FLATTENED",
                Some("GCS_BUCKET_FLATTENED_NAME"),
            ),
            ("gcs-bucket-name", Some("GCS_BUCKET_NAME")),
            ("SAMSARA_TOKEN", Some("SAMSARA_API_TOKEN")),
            ("SAMSARA_API_KEY", Some("SAMSARA_API_TOKEN")),
            ("SAMSARA_API_TOKN", Some("SAMSARA_API_TOKEN")),
            ("SAMSARA_REGON", Some("SAMSARA_REGION")),
            ("DWHID", Some("DWH_ID")),
            (
                "GOOGLE_APPLICATION_CREDENTIAL",
                Some("GOOGLE_APPLICATION_CREDENTIALS"),
            ),
            (
                "GCP_CREDENTIAL_FILE_NAME",
                Some("GCP_CREDENTIALS_FILE_NAME"),
            ),
            ("DATABASE_URL", None),
            ("FIRESTORE_EMULATOR_HOST", None),
            ("BIGTABLE_EMULATOR_HOST", None),
            ("PATH", None),
            ("HOME", None),
            ("DWH_ID", None),
            ("GCS_RAW_BUCKET_NAME", None),
        ] {
            assert_eq!(near_miss(name), expected, "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_may_read_or_write_is_told() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        for (text, mode, part) in [
            ("SAMSARA_API_TOKEN=t", 0o600, None),
            (
                "SAMSARA_API_TOKEN=t",
                0o644,
                Some("can read it (mode 644); chmod 600"),
            ),
            ("SAMSARA_API_TOKEN=t", 0o620, Some("can write it")),
            ("SAMSARA_API_TOKEN=t", 0o666, Some("can read and write it")),
            ("DWH_ID=d", 0o644, None),
            ("DWH_ID=d", 0o602, Some("can write it")),
        ] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let warnings = Environment::default()
                .add_file(&folder.path().join(".env"), false)
                .unwrap();
            assert_eq!(
                warnings.len(),
                usize::from(part.is_some()),
                "{mode:o} {warnings:?}"
            );
            assert!(
                part.is_none_or(|part| warnings[0].contains(part)),
                "{warnings:?}"
            );
        }
    }

    #[test]
    fn env_must_be_a_regular_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        let add = || {
            Environment::default()
                .add_file(&folder.path().join(".env"), false)
                .map_err(|error| error.to_string())
        };
        assert_eq!(add(), Ok(vec![]));
        std::fs::create_dir(&path).unwrap();
        assert_eq!(add(), Ok(vec![]));
        std::fs::remove_dir(&path).unwrap();
        crate::config::text::make_pipe(&path);
        assert!(
            add()
                .unwrap_err()
                .ends_with(".env: it is a named pipe, not a file")
        );
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        assert!(add().unwrap_err().contains("No such file"));
    }
}
