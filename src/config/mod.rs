//! Configuration: flags over environment over `.env` over defaults, resolved once into one value.

pub mod bounds;
mod bucket;
mod credentials;
mod dotenv;
pub mod env;
mod http;
mod other_credentials;
mod secret;
mod telemetry;
pub mod text;
mod waits;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use self::text::FileError;
use crate::redact;

pub use credentials::{Credentials, CredentialsError, CredentialsFault, project_of};
pub use env::Environment;
pub use http::HttpConfig;
pub use other_credentials::way_out;
pub use secret::Secret;
pub use telemetry::TelemetryConfig;
pub use waits::WaitScale;

/// Folder of the embedded default: local buckets and a local warehouse.
pub const LOCAL_FOLDER: &str = "samsara-data";
/// Folder that `demo` writes into.
pub const DEMO_FOLDER: &str = "samsara-demo";

/// The resolved configuration of a run: flags over environment over `.env` over defaults.
#[derive(Debug, Clone)]
pub struct Config {
    /// Connection to the Samsara API.
    pub samsara: SamsaraConfig,
    /// Raw and flattened bucket.
    pub storage: StorageConfig,
    /// Warehouse that flattened tables are loaded into.
    pub warehouse: WarehouseConfig,
    /// BigQuery dataset for raw tables, with `--load-raw`.
    pub staging: Option<WarehouseConfig>,
    /// Number of extract tasks that run at the same time.
    pub max_workers: usize,
    /// Memory that SQL may use before it spills to disk, in bytes.
    pub sql_memory: usize,
    /// Salt for columns that models hash.
    pub hash_salt: Option<Secret>,
    /// Exceptions to the usual way of loading.
    pub load: LoadOptions,
    /// The run lock: how to keep other runs off the same buckets.
    pub lock: LockConfig,
    /// An unfinished extract task saves a checkpoint each time this many pages are in the raw bucket.
    pub checkpoint_pages: u64,
    /// Format of the flattened tables in their bucket.
    pub table_format: TableFormat,
    /// A table's Delta log gets a commit each time this many of its partitions are derived, and at the end.
    pub delta_batch: usize,
    /// The scheduler of the Ballista cluster that derives tables, as `host:port`; none if this process does.
    #[cfg(feature = "ballista")]
    pub scheduler: Option<String>,
}

/// Format of the flattened tables in their bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum TableFormat {
    /// Parquet objects alone
    #[default]
    Parquet,
    /// Each table is a Delta Lake table, too
    Delta,
}

/// Exceptions to the usual way of loading, given on the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Tables to load again as a whole (`--full-refresh`).
    pub full_refresh: BTreeSet<String>,
    /// Tables that the row-count guard does not apply to (`--accept-shrunken`); `ALL` for every table.
    pub accept_shrunken: BTreeSet<String>,
    /// Tables that may have duplicate keys (`--accept-duplicates`); `ALL` for every table.
    pub accept_duplicates: BTreeSet<String>,
    /// Limits of one load job.
    pub limits: JobLimits,
}

/// Limits of one load job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobLimits {
    /// Partitions that one job may write.
    pub partitions: usize,
    /// Objects that one job may read.
    pub objects: usize,
}

impl Default for JobLimits {
    /// BigQuery's own limits.
    fn default() -> Self {
        Self {
            partitions: 4_000,
            objects: 10_000,
        }
    }
}

/// The row-count guard refuses a list that lost more than half of its rows, and at least this many.
const SHRUNKEN_BY: u64 = 10;

impl LoadOptions {
    /// The row-count guard: whether a list of `rows` rows after one of `before` must be refused. It must if it lost
    /// more than half of its rows, and at least 10, and `table` is not in `accept_shrunken`.
    pub fn refuses_shrunken(&self, table: &str, rows: u64, before: u64) -> bool {
        let shrunken = rows.saturating_mul(2) < before && before - rows >= SHRUNKEN_BY;
        shrunken && !self.accept_shrunken.contains(table) && !self.accept_shrunken.contains("ALL")
    }

    /// Whether `table` is loaded although it has duplicate keys.
    pub fn accepts_duplicates(&self, table: &str) -> bool {
        self.accept_duplicates.contains(table) || self.accept_duplicates.contains("ALL")
    }
}

/// The run lock: how to keep other runs off the same buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockConfig {
    /// Whether to wait for another run to end.
    pub wait: bool,
    /// The lease expires after this time unless it is renewed.
    pub expiry: Duration,
}

impl Default for LockConfig {
    fn default() -> Self {
        Self {
            wait: false,
            expiry: Duration::from_secs(120),
        }
    }
}

/// Retries, timeouts and size limit of API requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryConfig {
    /// Number of attempts of a request, including the first.
    pub attempts: u32,
    /// Longest wait before the first retry; it doubles with each further retry.
    pub base: Duration,
    /// Upper limit of the wait before a retry.
    pub cap: Duration,
    /// After this many failed requests in a row (retries included) an endpoint is paused for a while.
    pub give_up_after: u32,
    /// How long an endpoint is paused; then one request probes it.
    pub cool_down: Duration,
    /// Connection timeout.
    pub connect: Duration,
    /// Read timeout: the longest time without a byte, including the first.
    pub silence: Duration,
    /// Timeout of a whole response.
    pub whole: Duration,
    /// Largest response in bytes, decompressed: it is held in memory.
    pub largest: usize,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            attempts: 8,
            base: Duration::from_millis(500),
            cap: Duration::from_secs(30),
            // A large window is bisected five times before its minimum, and each half may fail first: one such window
            // must not open the circuit breaker.
            give_up_after: 6,
            cool_down: Duration::from_secs(30),
            connect: Duration::from_secs(10),
            // Some reports take many seconds to their first byte; a whole page never takes minutes.
            silence: Duration::from_secs(90),
            whole: Duration::from_secs(300),
            // Pages have some megabytes; a window whose page is larger is bisected.
            largest: 512 << 20,
        }
    }
}

impl RetryConfig {
    /// The same with shorter waits; timeouts stay.
    pub fn scaled(self, scale: WaitScale) -> Self {
        let Self {
            base,
            cap,
            cool_down,
            ..
        } = self;
        Self {
            base: scale.of(base),
            cap: scale.of(cap),
            cool_down: scale.of(cool_down),
            ..self
        }
    }
}

/// Default number of pages between two checkpoints of an extract task.
pub const CHECKPOINT_PAGES: u64 = 50;

/// Default number of partitions in a commit of a Delta log: a backfill of five years is 29 commits for a table, and no
/// reader waits for the end of a run to see its first days.
pub const DELTA_BATCH: usize = 64;

/// How to reach Samsara.
#[derive(Debug, Clone)]
pub struct SamsaraConfig {
    /// API token, if there is one: stages other than extract need none.
    pub token: Option<Secret>,
    /// The API's URL; if none, the region whose host accepts the token.
    pub url: Option<Url>,
    /// Share of the documented rates to use, above 0; more than 1 only for simulators.
    pub rate_share: f64,
    /// Retries and timeouts.
    pub retry: RetryConfig,
    /// Proxies and TLS certificates for HTTP clients.
    pub http: HttpConfig,
}

/// The buckets for Parquet objects and state, and the access to Google that both need.
#[derive(Debug, Clone)]
pub struct StorageConfig {
    /// Raw Parquet and state.
    pub raw: BucketLocation,
    /// Bucket or folder of the flattened Parquet.
    pub flattened: BucketLocation,
    /// Access to Google Cloud, where a bucket is there.
    pub google: GoogleAccess,
}

/// How to authenticate with Google Cloud.
#[derive(Debug, Clone, Default)]
pub struct GoogleAccess {
    /// A service-account key or a user's login, for storage and BigQuery alike; none: the metadata server.
    pub credentials: Option<PathBuf>,
    /// Address of a Cloud Storage emulator.
    pub storage_emulator: Option<String>,
    /// Address of a BigQuery emulator.
    pub bigquery_emulator: Option<String>,
    /// Proxies and TLS certificates for HTTP clients.
    pub http: HttpConfig,
    /// Factor for the waits of Cloud Storage and BigQuery; 1 except with emulators.
    pub wait_scale: WaitScale,
}

/// A bucket, or a folder in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketLocation {
    /// A bucket of Google Cloud Storage, by its name without `gs://`.
    Google(String),
    /// A folder on this machine.
    Folder(PathBuf),
}

/// Warehouse that flattened tables are loaded into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WarehouseConfig {
    /// A folder that keeps the same contract.
    Local(PathBuf),
    /// A BigQuery dataset, addressed by project and dataset id.
    BigQuery {
        /// Project that runs the jobs and holds the dataset.
        project: String,
        /// Dataset id (letters, digits and `_`).
        dataset: String,
        /// Location of the dataset, if configured.
        location: Option<String>,
    },
}

/// Configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// `.env` cannot be read.
    #[error("{}: {error}", path.display())]
    DotEnv {
        /// Path of the unreadable file.
        path: PathBuf,
        /// Why it cannot be read.
        #[source]
        error: FileError,
    },
    /// A value is wrong.
    #[error("{name}: {reason}")]
    Value {
        /// Name of the variable or flag with the wrong value.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// What the command line says; it wins over the environment.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--max-workers`: extract tasks at a time.
    pub max_workers: Option<usize>,
    /// `--rate-share`, as a fraction.
    pub rate_share: Option<f64>,
    /// `--project`: overrides `GOOGLE_CLOUD_PROJECT`.
    pub project: Option<String>,
    /// `--location`: overrides `BIGQUERY_LOCATION`.
    pub location: Option<String>,
    /// `--load-raw`: also load raw tables, into `DATABASE_ID`.
    pub load_raw: bool,
    /// `--table-format`: overrides `SAMSARA_ETL_TABLE_FORMAT`.
    pub table_format: Option<TableFormat>,
    /// `--scheduler`: `host:port` of a Ballista scheduler.
    #[cfg(feature = "ballista")]
    pub scheduler: Option<String>,
}

impl Config {
    /// Resolves the configuration for a command run in `directory`; relative paths start there. Buckets and a
    /// warehouse that are not configured are folders in `local_folder`.
    ///
    /// # Errors
    /// [`ConfigError`], naming the variable or flag, if a value is invalid or a required one is missing. A missing API
    /// token is not an error here: only runs that extract need one.
    pub fn resolve(
        environment: &Environment,
        overrides: &Overrides,
        directory: &Path,
        local_folder: &str,
    ) -> Result<Self, ConfigError> {
        register_secrets(environment);
        let local = directory.join(local_folder);
        let bucket = |variable: env::Variable, default: &str| match environment.get(variable) {
            Some(text) => {
                BucketLocation::parse(text, directory).map_err(|reason| ConfigError::Value {
                    name: variable.name,
                    reason,
                })
            }
            None => Ok(BucketLocation::Folder(local.join(default))),
        };
        let google = google_access(environment, directory)?;
        let warehouse = match environment.get(env::DWH_ID) {
            None => WarehouseConfig::Local(local.join("warehouse")),
            Some(id) => dataset(env::DWH_ID, id, environment, overrides, &google)?,
        };
        let staging = staging(environment, overrides, &google)?;
        let storage = StorageConfig {
            raw: bucket(env::GCS_BUCKET_NAME, "raw")?,
            flattened: bucket(env::GCS_BUCKET_FLATTENED_NAME, "flattened")?,
            google,
        };
        bucket::check_apart(&storage, &warehouse)?;
        warn_of_open_key(&storage, [Some(&warehouse), staging.as_ref()]);
        check_loadable(&storage, &warehouse, staging.as_ref())?;
        let samsara = SamsaraConfig {
            token: api_token(environment)?,
            url: api_url(environment)?,
            rate_share: storage
                .google
                .wait_scale
                .rate(overrides.rate_share.unwrap_or(1.0)),
            retry: RetryConfig::default().scaled(storage.google.wait_scale),
            http: HttpConfig::resolve(environment, directory),
        };
        check_wait_scale(&samsara, &storage, [&warehouse].into_iter().chain(&staging))?;
        Ok(Self {
            samsara,
            storage,
            warehouse,
            staging,
            max_workers: overrides.max_workers.unwrap_or(5).max(1),
            sql_memory: 2 << 30,
            hash_salt: environment.get(env::SAMSARA_ETL_HASH_SALT).map(Secret::new),
            load: LoadOptions::default(),
            lock: LockConfig::default(),
            checkpoint_pages: checkpoint_pages(environment)?,
            table_format: match overrides.table_format {
                Some(format) => format,
                None => table_format(environment)?,
            },
            delta_batch: DELTA_BATCH,
            #[cfg(feature = "ballista")]
            scheduler: overrides.scheduler.clone(),
        })
    }
}

/// The dataset that a variable names.
fn dataset(
    variable: env::Variable,
    id: &str,
    environment: &Environment,
    overrides: &Overrides,
    google: &GoogleAccess,
) -> Result<WarehouseConfig, ConfigError> {
    check_dataset(variable, id)?;
    let location = overrides.location.as_deref();
    let location = location.or_else(|| environment.get(env::BIGQUERY_LOCATION));
    Ok(WarehouseConfig::BigQuery {
        project: project(environment, overrides, google)?,
        dataset: id.into(),
        location: location.map(str::to_string),
    })
}

/// The dataset of the raw tables, if they are to be loaded.
fn staging(
    environment: &Environment,
    overrides: &Overrides,
    google: &GoogleAccess,
) -> Result<Option<WarehouseConfig>, ConfigError> {
    if !overrides.load_raw {
        return Ok(None);
    }
    let Some(id) = environment.get(env::DATABASE_ID) else {
        return Err(ConfigError::Value {
            name: env::DATABASE_ID.name,
            reason: "not set: --load-raw needs the BigQuery dataset of the raw tables".into(),
        });
    };
    dataset(env::DATABASE_ID, id, environment, overrides, google).map(Some)
}

/// Refuses folders if BigQuery would have to load from them.
fn check_loadable(
    storage: &StorageConfig,
    warehouse: &WarehouseConfig,
    staging: Option<&WarehouseConfig>,
) -> Result<(), ConfigError> {
    let is_folder = |location: &BucketLocation| matches!(location, BucketLocation::Folder(_));
    let is_bigquery = matches!(warehouse, WarehouseConfig::BigQuery { .. });
    if is_bigquery && is_folder(&storage.flattened) {
        return Err(ConfigError::Value {
            name: env::GCS_BUCKET_FLATTENED_NAME.name,
            reason: "BigQuery loads from gs:// only: name a bucket, or unset DWH_ID for a local warehouse".into(),
        });
    }
    if staging.is_some() && is_folder(&storage.raw) {
        return Err(ConfigError::Value {
            name: env::GCS_BUCKET_NAME.name,
            reason: "BigQuery loads from gs:// only: name a bucket for --load-raw".into(),
        });
    }
    Ok(())
}

/// Real services are never called more often than they allow.
fn check_wait_scale<'a>(
    samsara: &SamsaraConfig,
    storage: &StorageConfig,
    mut warehouses: impl Iterator<Item = &'a WarehouseConfig>,
) -> Result<(), ConfigError> {
    let StorageConfig {
        raw,
        flattened,
        google,
    } = storage;
    let is_real =
        |bucket| matches!(bucket, &BucketLocation::Google(_)) && google.storage_emulator.is_none();
    let reason = if !google.wait_scale.is_shortened() {
        return Ok(());
    } else if samsara
        .url
        .as_ref()
        .is_none_or(|url| url.scheme() != "http")
    {
        "SAMSARA_API_URL is not a simulator on this machine"
    } else if is_real(raw) || is_real(flattened) {
        "a bucket is in Cloud Storage: STORAGE_EMULATOR_HOST is not set"
    } else if google.bigquery_emulator.is_none()
        && warehouses.any(|warehouse| matches!(warehouse, WarehouseConfig::BigQuery { .. }))
    {
        "a dataset is in BigQuery: BIGQUERY_EMULATOR_HOST is not set"
    } else {
        return Ok(());
    };
    Err(ConfigError::Value {
        name: env::SAMSARA_ETL_WAIT_SCALE.name,
        reason: format!("allowed with simulators and emulators only, but {reason}"),
    })
}

fn checkpoint_pages(environment: &Environment) -> Result<u64, ConfigError> {
    let variable = env::SAMSARA_ETL_CHECKPOINT_PAGES;
    let Some(text) = environment.get(variable) else {
        return Ok(CHECKPOINT_PAGES);
    };
    let reason =
        || format!("`{text}` is not a number of pages; expected a whole number of at least 1");
    let pages = text.parse().ok().filter(|pages| *pages > 0);
    pages.ok_or_else(|| ConfigError::Value {
        name: variable.name,
        reason: reason(),
    })
}

fn table_format(environment: &Environment) -> Result<TableFormat, ConfigError> {
    let variable = env::SAMSARA_ETL_TABLE_FORMAT;
    match environment.get(variable) {
        None | Some("parquet") => Ok(TableFormat::Parquet),
        Some("delta") => Ok(TableFormat::Delta),
        Some(text) => Err(ConfigError::Value {
            name: variable.name,
            reason: format!("expected `parquet` or `delta`, found `{text}`"),
        }),
    }
}

/// Registers the secrets in all variables for masking, before any message is written.
pub fn register_secrets(environment: &Environment) {
    environment
        .get(env::SAMSARA_ETL_HASH_SALT)
        .into_iter()
        .for_each(redact::register);
    // As it is sent; or in pieces, if it is invalid: words next to a token are not secret.
    match api_token(environment) {
        Ok(token) => drop(token),
        Err(_) => {
            let pieces = environment
                .get(env::SAMSARA_API_TOKEN)
                .unwrap_or_default()
                .split_whitespace();
            pieces
                .filter(|piece| piece.len() >= 8 && !piece.ends_with(':'))
                .for_each(redact::register);
        }
    }
    let addresses = [
        env::SAMSARA_API_URL,
        env::STORAGE_EMULATOR_HOST,
        env::BIGQUERY_EMULATOR_HOST,
        env::HTTPS_PROXY,
        env::HTTP_PROXY,
        env::ALL_PROXY,
        env::OTEL_EXPORTER_OTLP_ENDPOINT,
    ];
    telemetry::header_values(environment).for_each(|value| redact::register(&value));
    for variable in addresses {
        environment
            .get(variable)
            .into_iter()
            .for_each(redact::register_userinfo);
    }
    for variable in [
        env::GOOGLE_APPLICATION_CREDENTIALS,
        env::GCP_CREDENTIALS_FILE_NAME,
    ] {
        if let Some(value) = environment
            .get(variable)
            .filter(|value| !names_a_file(value))
        {
            redact::register(value);
            if let Ok(document) = serde_json::from_str(value) {
                redact::register_document(&document);
            }
        }
    }
}

/// Whether a value may be a file name, and may therefore be shown: not JSON, base64 of JSON, or a key.
fn names_a_file(value: &str) -> bool {
    let value = value.trim_start_matches(['"', '\'', '\u{feff}', ' ']);
    let is_document =
        value.starts_with(['{', '[']) || value.contains("-----BEGIN") || value.contains('"');
    // `{"`, `{ `, `{` and a line break, or a byte-order mark before it, in base64.
    let is_encoded = value.len() > 200
        && !value.contains('.')
        && ["ey", "ew", "W3", "77u/"]
            .iter()
            .any(|start| value.starts_with(start));
    let fits = value.len() < 4096 && value.split('/').all(|name| name.len() < 256);
    fits && !is_document && !is_encoded && !value.contains(char::is_control)
}

/// The path in a variable.
fn file_name(
    environment: &Environment,
    variable: env::Variable,
) -> Result<Option<&str>, ConfigError> {
    match environment.get(variable) {
        Some(value) if !names_a_file(value) => Err(ConfigError::Value {
            name: variable.name,
            reason: "must be the path of a file, but holds something else (perhaps the key itself): save the key as a file, and set \
                     its path here"
                .into(),
        }),
        value => Ok(value),
    }
}

/// The token as it is sent: without characters that were copied along with it.
fn api_token(environment: &Environment) -> Result<Option<Secret>, ConfigError> {
    let wrong = |reason: String| ConfigError::Value {
        name: env::SAMSARA_API_TOKEN.name,
        reason,
    };
    let Some(text) = environment.get(env::SAMSARA_API_TOKEN) else {
        return Ok(None);
    };
    let mut token = text;
    loop {
        let before = token;
        token = token
            .trim()
            .trim_matches(['"', '\'', '`', '\u{feff}', '“', '”', '‘', '’']);
        for prefix in ["authorization:", "bearer "] {
            if token
                .get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
            {
                token = &token[prefix.len()..];
            }
        }
        if token == before {
            break;
        }
    }
    if token.eq_ignore_ascii_case("bearer") {
        return Err(wrong("no token after `Bearer`".into()));
    }
    if token.contains(['\n', '\r']) {
        return Err(wrong(
            "it holds a line break: a token is one word; copy it again".into(),
        ));
    }
    match token
        .chars()
        .find(|character| !character.is_ascii_graphic())
    {
        Some(' ' | '\t') => Err(wrong(
            "it holds a space: a token is one word; copy it again".into(),
        )),
        Some(other) => Err(wrong(format!(
            "it holds a character that is not allowed in a token ({}); copy it again",
            other.escape_unicode()
        ))),
        None if token.is_empty() => Ok(None),
        None => Ok(Some(Secret::new(token))),
    }
}

/// The address of an emulator or API, which must not carry user and password.
fn without_userinfo(variable: env::Variable, address: &str) -> Result<(), ConfigError> {
    let authority = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = authority
        .split(['/', '?', '#', '\\'])
        .next()
        .unwrap_or_default();
    let reason = "must not carry a user or password: this program sends none";
    if authority.contains('@') {
        return Err(ConfigError::Value {
            name: variable.name,
            reason: reason.into(),
        });
    }
    Ok(())
}

fn wait_scale(environment: &Environment) -> Result<WaitScale, ConfigError> {
    let variable = env::SAMSARA_ETL_WAIT_SCALE;
    let Some(text) = environment.get(variable) else {
        return Ok(WaitScale::default());
    };
    let scale = text.parse().ok().and_then(WaitScale::new);
    let reason = || format!("expected a number above 0 and at most 1, found `{text}`");
    scale.ok_or_else(|| ConfigError::Value {
        name: variable.name,
        reason: reason(),
    })
}

fn api_url(environment: &Environment) -> Result<Option<Url>, ConfigError> {
    if let Some(text) = environment.get(env::SAMSARA_API_URL) {
        let wrong = |reason: &str| ConfigError::Value {
            name: env::SAMSARA_API_URL.name,
            reason: format!(
                "{reason}; write https://host, or http://127.0.0.1:port for a simulator"
            ),
        };
        without_userinfo(env::SAMSARA_API_URL, text)?;
        let url = Url::parse(text).map_err(|_| wrong("not an address"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("must not carry a user or password"));
        }
        if !matches!(url.path(), "/" | "") || url.query().is_some() || url.fragment().is_some() {
            return Err(wrong(
                "must name a host only: paths and queries are those of Samsara's API",
            ));
        }
        let loopback = match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(ip)) => IpAddr::from(ip).is_loopback(),
            Some(url::Host::Ipv6(ip)) => IpAddr::from(ip).is_loopback(),
            None => false,
        };
        // The token goes with every request: never in the clear over a network.
        return match url.scheme() {
            "https" => Ok(Some(url)),
            "http" if loopback => Ok(Some(url)),
            _ => Err(wrong("the token must not be sent unencrypted")),
        };
    }
    match environment.get(env::SAMSARA_REGION) {
        None => Ok(None),
        Some(region) => match REGIONS
            .iter()
            .find(|(name, _)| region.eq_ignore_ascii_case(name))
        {
            Some((_, url)) => Ok(Url::parse(url).ok()),
            None => Err(ConfigError::Value {
                name: env::SAMSARA_REGION.name,
                reason: format!("`{region}` is not a region; expected one of us, eu, ca"),
            }),
        },
    }
}

/// Samsara's hosts. The specification's list of servers names these three.
pub const REGIONS: &[(&str, &str)] = &[
    ("us", "https://api.samsara.com"),
    ("eu", "https://api.eu.samsara.com"),
    ("ca", "https://api.ca.samsara.com"),
];

fn google_access(environment: &Environment, directory: &Path) -> Result<GoogleAccess, ConfigError> {
    let emulator = |variable| {
        let Some(host) = environment.get(variable) else {
            return Ok(None);
        };
        without_userinfo(variable, host)?;
        let host = host.trim_end_matches('/');
        Ok(Some(if host.contains("://") {
            host.to_string()
        } else {
            format!("http://{host}")
        }))
    };
    // Variables of the environment may be meant for other programs: the file is read only when it is needed.
    let adc = file_name(environment, env::GOOGLE_APPLICATION_CREDENTIALS)?
        .map(|path| directory.join(path));
    let of_gcloud = || {
        let path = Path::new(environment.get(env::HOME)?)
            .join(".config/gcloud/application_default_credentials.json");
        path.is_file().then_some(path)
    };
    let credentials = match file_name(environment, env::GCP_CREDENTIALS_FILE_NAME)? {
        None => adc.or_else(of_gcloud),
        Some(name) => {
            let path = directory.join("credentials").join(name);
            if !path.is_file() {
                return Err(ConfigError::Value {
                    name: env::GCP_CREDENTIALS_FILE_NAME.name,
                    reason: format!("file not found: {}", path.display()),
                });
            }
            Some(path)
        }
    };
    Ok(GoogleAccess {
        credentials,
        storage_emulator: emulator(env::STORAGE_EMULATOR_HOST)?,
        bigquery_emulator: emulator(env::BIGQUERY_EMULATOR_HOST)?,
        http: HttpConfig::resolve(environment, directory),
        wait_scale: wait_scale(environment)?,
    })
}

/// Warns if other users of this machine may read or write the key that will be used.
fn warn_of_open_key(storage: &StorageConfig, warehouses: [Option<&WarehouseConfig>; 2]) {
    let google = &storage.google;
    let is_google = |bucket: &BucketLocation| matches!(bucket, BucketLocation::Google(_));
    let for_storage = google.storage_emulator.is_none()
        && (is_google(&storage.raw) || is_google(&storage.flattened));
    let is_bigquery = |it: &&WarehouseConfig| matches!(it, WarehouseConfig::BigQuery { .. });
    let for_bigquery =
        google.bigquery_emulator.is_none() && warehouses.iter().flatten().any(is_bigquery);
    if let Some(path) = google
        .credentials
        .as_deref()
        .filter(|_| for_storage || for_bigquery)
        && let Some(warning) = env::open_to_others(path, true)
    {
        tracing::warn!("{warning}");
    }
}

/// Projects have letters, digits and `-`; old ones a domain before a `:`.
fn check_project(name: &'static str, project: String) -> Result<String, ConfigError> {
    let fine = !project.is_empty()
        && project
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-.:_".contains(&byte));
    if fine {
        Ok(project)
    } else {
        Err(ConfigError::Value {
            name,
            reason: "not a Google Cloud project id".into(),
        })
    }
}

fn check_dataset(variable: env::Variable, dataset: &str) -> Result<(), ConfigError> {
    let fine = !dataset.is_empty()
        && dataset
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if fine {
        return Ok(());
    }
    Err(ConfigError::Value {
        name: variable.name,
        reason: "a dataset has letters, digits and `_` only".into(),
    })
}

/// The project: a flag, the variable, or the key file's own.
fn project(
    environment: &Environment,
    overrides: &Overrides,
    google: &GoogleAccess,
) -> Result<String, ConfigError> {
    if let Some(project) = overrides
        .project
        .as_deref()
        .or_else(|| environment.get(env::GOOGLE_CLOUD_PROJECT))
    {
        return check_project(env::GOOGLE_CLOUD_PROJECT.name, project.to_string());
    }
    let of_key = google.credentials.as_deref().and_then(project_of);
    let of_key = of_key.ok_or(ConfigError::Value {
        name: env::GOOGLE_CLOUD_PROJECT.name,
        reason: "not set, and no key file names a project".into(),
    })?;
    check_project("project_id of the key file", of_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let environment = Environment::from_pairs(pairs.iter().copied());
        Config::resolve(
            &environment,
            &Overrides::default(),
            Path::new("/data"),
            LOCAL_FOLDER,
        )
    }

    #[test]
    fn unset_everything_is_local() {
        let config = resolve(&[]).unwrap();
        assert_eq!(
            config.storage.raw,
            BucketLocation::Folder("/data/samsara-data/raw".into())
        );
        assert_eq!(
            config.warehouse,
            WarehouseConfig::Local("/data/samsara-data/warehouse".into())
        );
    }

    #[test]
    fn the_names_of_the_replaced_program_work() {
        let config = resolve(&[
            ("GCS_RAW_BUCKET_NAME", "my-raw"),
            ("GCS_BUCKET_FLATTENED_NAME", "file:///flat"),
        ])
        .unwrap();
        assert_eq!(config.storage.raw, BucketLocation::Google("my-raw".into()));
        assert_eq!(
            config.storage.flattened,
            BucketLocation::Folder("/flat".into())
        );
    }

    #[test]
    fn a_token_never_travels_in_the_clear() {
        for bad in [
            "http://api.samsara.com",
            "http://10.0.0.1",
            "ftp://localhost",
            "api.samsara.com",
        ] {
            assert!(resolve(&[("SAMSARA_API_URL", bad)]).is_err(), "{bad}");
        }
        for good in [
            "https://proxy.example",
            "http://127.0.0.1:8080",
            "http://localhost:1",
            "http://[::1]:2",
        ] {
            assert!(resolve(&[("SAMSARA_API_URL", good)]).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_token_is_sent_without_what_was_copied_along_with_it() {
        for written in [
            "canary-token",
            "  canary-token\n",
            "Bearer canary-token",
            "bearer  canary-token",
            "\"canary-token\"",
            "'Bearer canary-token'",
            "Bearer \"canary-token\"",
            "Authorization: Bearer canary-token",
            "“canary-token”",
            "\u{feff}canary-token",
        ] {
            let config = resolve(&[("SAMSARA_API_TOKEN", written)]).unwrap();
            assert_eq!(
                config.samsara.token.unwrap().expose(),
                "canary-token",
                "{written}"
            );
        }
        for nothing in ["\"\"", "Bearer \"\"", " "] {
            assert!(
                resolve(&[("SAMSARA_API_TOKEN", nothing)])
                    .unwrap()
                    .samsara
                    .token
                    .is_none(),
                "{nothing}"
            );
        }
        for (written, part) in [
            ("canary-one\ncanary-two", "it holds a line break"),
            ("canary-one\r\ncanary-two", "it holds a line break"),
            ("canary-one canary-two", "it holds a space"),
            ("canary-one\u{200b}canary-two", "(\\u{200b})"),
            ("canary-one\u{0}", "(\\u{0})"),
            ("Bearer", "no token after"),
        ] {
            let error = resolve(&[("SAMSARA_API_TOKEN", written)])
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with("SAMSARA_API_TOKEN: ") && error.contains(part),
                "{error}"
            );
            assert!(!error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn an_address_carries_no_password_and_no_path() {
        for (name, value, part) in [
            (
                "SAMSARA_API_URL",
                "https://canary-user:canary-pw@host",
                "must not carry a user or password",
            ),
            (
                "SAMSARA_API_URL",
                "https:\\\\canary-user:canary-pw@host",
                "must not carry a user or password",
            ),
            (
                "SAMSARA_API_URL",
                "https://canary-user:canary-pw@ho st",
                "must not carry a user or password",
            ),
            (
                "STORAGE_EMULATOR_HOST",
                "canary-user:canary-pw@host:1",
                "must not carry a user or password",
            ),
            (
                "BIGQUERY_EMULATOR_HOST",
                "http://canary-user@host",
                "must not carry a user or password",
            ),
            (
                "SAMSARA_API_URL",
                "https://host/canary",
                "must name a host only",
            ),
            (
                "SAMSARA_API_URL",
                "https://host?key=canary",
                "must name a host only",
            ),
            (
                "SAMSARA_API_URL",
                "https://host/#canary",
                "must name a host only",
            ),
        ] {
            let error = resolve(&[(name, value)]).unwrap_err().to_string();
            assert!(
                error.starts_with(name) && error.contains(part) && !error.contains("canary"),
                "{error}"
            );
        }
        assert!(resolve(&[("SAMSARA_API_URL", "https://host/")]).is_ok());
    }

    #[test]
    fn a_key_in_the_place_of_its_file_is_refused_and_not_shown() {
        let key =
            r#"{"type":"service_account","private_key":"-----BEGIN PRIVATE KEY-----\nY2FuYXJ5\n"}"#;
        let long = format!("{{\"private_key\":\"{}\"}}", "canary".repeat(100));
        let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &long);
        for value in [
            key,
            &format!("'{key}'"),
            &format!("\n {key}"),
            &long,
            &encoded,
            &"canary".repeat(100),
        ] {
            for name in [
                "GOOGLE_APPLICATION_CREDENTIALS",
                "GCP_CREDENTIALS_FILE_NAME",
            ] {
                let error = resolve(&[(name, value)]).unwrap_err().to_string();
                assert!(
                    error.starts_with(&format!("{name}: must be the path of a file")),
                    "{error}"
                );
                assert!(
                    !["canary", "Y2Fu", &encoded[..40]]
                        .iter()
                        .any(|part| error.contains(part)),
                    "{error}"
                );
            }
        }
        assert!(
            resolve(&[(
                "GOOGLE_APPLICATION_CREDENTIALS",
                "/home/me/my keys/key [1].json"
            )])
            .is_ok()
        );
    }

    #[test]
    fn wrong_values_are_named() {
        for (pairs, part) in [
            (
                &[("GCS_BUCKET_NAME", "Not A Bucket")][..],
                "GCS_BUCKET_NAME",
            ),
            (&[("SAMSARA_REGION", "asia")], "expected one of us, eu, ca"),
            (
                &[("SAMSARA_ETL_CHECKPOINT_PAGES", "0")],
                "SAMSARA_ETL_CHECKPOINT_PAGES: `0` is not a number of pages",
            ),
            (
                &[("GCP_CREDENTIALS_FILE_NAME", "none.json")],
                "/data/credentials/none.json",
            ),
            (
                &[("DWH_ID", "dwh"), ("GOOGLE_CLOUD_PROJECT", "p")],
                "BigQuery loads from gs:// only",
            ),
            (&[("DWH_ID", "d-w")], "letters, digits"),
            (
                &[("SAMSARA_ETL_WAIT_SCALE", "0")],
                "SAMSARA_ETL_WAIT_SCALE: expected a number above 0",
            ),
        ] {
            let error = resolve(pairs).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn waits_are_shortened_for_simulators_and_emulators_only() {
        let scale = ("SAMSARA_ETL_WAIT_SCALE", "0.01");
        let simulator = ("SAMSARA_API_URL", "http://127.0.0.1:8080");
        let storage = ("STORAGE_EMULATOR_HOST", "http://127.0.0.1:4443");
        let bucket = ("GCS_BUCKET_FLATTENED_NAME", "flat");
        let dataset = [("DWH_ID", "d"), ("GOOGLE_CLOUD_PROJECT", "p")];
        let bigquery = ("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:9050");
        for (pairs, reason) in [
            (&[scale][..], "SAMSARA_API_URL"),
            (
                &[scale, ("SAMSARA_API_URL", "https://127.0.0.1")],
                "SAMSARA_API_URL",
            ),
            (&[scale, simulator, bucket], "a bucket is in Cloud Storage"),
            (
                &[&[scale, simulator, bucket, storage], &dataset[..]].concat(),
                "a dataset is in BigQuery",
            ),
        ] {
            let error = resolve(pairs).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        for pairs in [
            &[scale, simulator][..],
            &[&[scale, simulator, bucket, storage, bigquery], &dataset[..]].concat(),
            &[("SAMSARA_ETL_WAIT_SCALE", "1"), bucket],
        ] {
            resolve(pairs).unwrap();
        }
        let config = resolve(&[scale, simulator]).unwrap();
        assert_eq!(config.samsara.rate_share, 100.0);
        assert_eq!(config.samsara.retry.base, RetryConfig::default().base / 100);
        assert_eq!(config.samsara.retry.silence, RetryConfig::default().silence);
    }

    #[test]
    fn storage_and_bigquery_share_credentials() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path
        };
        let resolve = |pairs: &[(&str, &str)]| {
            let environment = Environment::from_pairs(pairs.iter().copied());
            Config::resolve(
                &environment,
                &Overrides::default(),
                folder.path(),
                LOCAL_FOLDER,
            )
        };
        let home = folder.path().to_str().unwrap();
        let found = |pairs: &[(&str, &str)]| resolve(pairs).unwrap().storage.google.credentials;
        assert_eq!(found(&[("HOME", home)]), None);
        let of_gcloud = write(".config/gcloud/application_default_credentials.json", "{}");
        assert_eq!(found(&[("HOME", home)]), Some(of_gcloud));
        let adc = write("adc.json", r#"{"project_id": "of-key"}"#);
        let named = ("GOOGLE_APPLICATION_CREDENTIALS", adc.to_str().unwrap());
        assert_eq!(found(&[("HOME", home), named]), Some(adc.clone()));
        let own = write("credentials/own.json", "{}");
        assert_eq!(
            found(&[
                ("HOME", home),
                named,
                ("GCP_CREDENTIALS_FILE_NAME", "own.json")
            ]),
            Some(own)
        );
        // An outdated name in the environment does not stop a run that needs no credentials.
        assert!(resolve(&[("GOOGLE_APPLICATION_CREDENTIALS", "/not/there.json")]).is_ok());

        // The project is that of the key; an invalid one is never used in a query or address.
        let bigquery = [("DWH_ID", "d"), ("GCS_BUCKET_FLATTENED_NAME", "flat")];
        let project = |pairs: &[(&str, &str)]| {
            resolve(&[pairs, &bigquery].concat()).map(|config| config.warehouse)
        };
        let WarehouseConfig::BigQuery {
            project: of_key, ..
        } = project(&[named]).unwrap()
        else {
            panic!()
        };
        assert_eq!(of_key, "of-key");
        for wrong in ["a/b", "a`b", "a b"] {
            let error = project(&[("GOOGLE_CLOUD_PROJECT", wrong)])
                .unwrap_err()
                .to_string();
            assert_eq!(error, "GOOGLE_CLOUD_PROJECT: not a Google Cloud project id");
        }
    }
}
