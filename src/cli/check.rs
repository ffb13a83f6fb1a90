//! `check`: checks everything that a run needs, and changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use chrono::{Days, NaiveDate, NaiveTime, TimeDelta};
use clap::Args;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use object_store::ObjectStoreExt;
use tokio::time::Instant;
use tokio::time::error::Elapsed;

use super::json::{self, OutputFormat};
use super::options::{TableOptions, TargetOptions};
use super::{Context, Exit};
use crate::catalog::{self, Catalog, Source, SourceKind};
use crate::clock;
use crate::config::{BucketLocation, Config, StorageConfig, WarehouseConfig, env};
use crate::error::Error;
use crate::events::Observers;
use crate::load::{self, Finding, LoadError, RepeatedKeys, Warehouse};
use crate::pipeline::Pipeline;
use crate::plan::Selection;
use crate::redact;
use crate::samsara::{AttemptError, Client, ParentRow, Request, SamsaraError, Window};
use crate::state::SourceState;
use crate::store::layout::{Partition, RunId, state_object};
use crate::store::{Bucket, StoreError};
use crate::transform::{Contract, bind_all};

/// Check token, scopes, buckets and warehouse, say how to fix what fails, and change nothing.
///
/// Sends one small request to each selected endpoint. With --warehouse it compares instead, per table and day, the
/// loaded rows of the state with the rows that the warehouse holds.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samsara-etl check
  samsara-etl check --table fleet_trips --format json
  samsara-etl check --warehouse")]
pub(super) struct Check {
    #[command(flatten)]
    tables: TableOptions,
    #[command(flatten)]
    target: TargetOptions,
    /// Compare row counts of the state and the warehouse, per table and day
    #[arg(long)]
    warehouse: bool,
    /// How long to wait for all answers; with --warehouse, for the row counts of each table
    #[arg(long, value_name = "SECONDS", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// How to print what is found: line by line, or as one JSON object (docs/json.md)
    #[arg(long, value_enum, default_value = "text")]
    format: OutputFormat,
}

impl Check {
    pub(super) async fn execute(self, context: &Context) -> Result<Exit, Error> {
        let catalog = context.catalog()?;
        let selection = self.tables.selection(&catalog, &context.directory)?;
        let mut config = self.target.config(context)?;
        // The user wants an answer now, and a second attempt distinguishes a transient fault from a lasting one.
        config.samsara.retry.attempts = 2;
        let limit = Limit::new(Duration::from_secs(self.timeout));
        let mut findings = Findings {
            format: self.format,
            found: Vec::new(),
            bad: 0,
        };
        findings.say(emulators(&config))?;
        if self.warehouse {
            compare(config, catalog, &selection.models, limit, &mut findings).await?;
        } else {
            everything(&config, &catalog, &selection, limit, &mut findings).await?;
        }
        if self.format == OutputFormat::Json {
            json::print(&json::CheckDocument::of(&findings.found))?;
        }
        Ok(if findings.bad == 0 {
            Exit::Success
        } else {
            Exit::Failure
        })
    }
}

/// Runs all checks concurrently, and prints them in a fixed order.
async fn everything(
    config: &Config,
    catalog: &Catalog,
    selection: &Selection,
    limit: Limit,
    findings: &mut Findings,
) -> Result<(), Error> {
    let sources: Vec<&Source> = selection
        .sources
        .iter()
        .filter_map(|name| catalog.source(name))
        .collect();
    let storage = &config.storage;
    let mut parts: Vec<BoxFuture<'_, Vec<Finding>>> = vec![
        models(config, catalog, selection).boxed(),
        api(config, catalog, &sources, selection, limit).boxed(),
        limit
            .within("raw bucket", bucket("raw", &storage.raw, config, &sources))
            .boxed(),
        limit
            .within(
                "flattened bucket",
                bucket("flattened", &storage.flattened, config, &[]),
            )
            .boxed(),
        limit
            .within(
                "warehouse",
                warehouse(&config.warehouse, &storage.flattened, config),
            )
            .boxed(),
    ];
    if let Some(staging) = &config.staging {
        parts.push(
            limit
                .within("raw tables", warehouse(staging, &storage.raw, config))
                .boxed(),
        );
    }
    let all = parts.len();
    let mut parts = stream::iter(parts).buffered(all);
    while let Some(part) = parts.next().await {
        findings.say(part)?;
    }
    Ok(())
}

/// Prints findings as they come, or collects them, and counts the bad ones.
struct Findings {
    format: OutputFormat,
    found: Vec<Finding>,
    bad: u64,
}

impl Findings {
    fn say(&mut self, findings: impl IntoIterator<Item = Finding>) -> Result<(), Error> {
        for finding in findings {
            let Finding { what, text, good } = &finding;
            let word = match good {
                Some(true) => "ok  ",
                Some(false) => "FAIL",
                None => "note",
            };
            self.bad += u64::from(*good == Some(false));
            let line = redact::one_line(format_args!("{what}: {text}"));
            match self.format {
                OutputFormat::Text => super::output::print(format_args!("{word}  {line}\n"))?,
                OutputFormat::Json => self.found.push(finding),
            }
        }
        Ok(())
    }
}

/// Until when answers are waited for.
#[derive(Debug, Clone, Copy)]
struct Limit {
    end: Instant,
    whole: Duration,
}

impl Limit {
    fn new(whole: Duration) -> Self {
        Self {
            end: Instant::now() + whole,
            whole,
        }
    }

    /// The finding, or that there was none in time.
    async fn within(self, what: &str, find: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
        let late = |_| {
            vec![Finding::bad(
                what,
                format!("no answer within {} s; {REACH}", self.whole.as_secs()),
            )]
        };
        tokio::time::timeout_at(self.end, find)
            .await
            .unwrap_or_else(late)
    }
}

const REACH: &str = "check that the host can be reached (proxy, firewall, DNS)";

fn emulators(config: &Config) -> Vec<Finding> {
    let google = &config.storage.google;
    let named = [
        ("Cloud Storage", &google.storage_emulator),
        ("BigQuery", &google.bigquery_emulator),
    ];
    named
        .into_iter()
        .filter_map(|(service, host)| {
            let text = format!("using an emulator of {service}; no credentials are read");
            host.as_ref().map(|host| Finding::note(host, text))
        })
        .collect()
}

/// Whether the selected models can be derived.
async fn models(config: &Config, catalog: &Catalog, selection: &Selection) -> Vec<Finding> {
    let (mut findings, mut hashed) = (Vec::new(), BTreeSet::new());
    for model in selection
        .models
        .iter()
        .filter_map(|name| catalog.model(name))
    {
        match bind_all(catalog, model).await {
            Err(error) => findings.push(Finding::bad(&model.name, error.to_string())),
            Ok(contracts) if contracts.iter().any(|contract| !contract.hashed.is_empty()) => {
                hashed.insert(model.name.as_str());
            }
            Ok(_) => {}
        }
    }
    if !hashed.is_empty() && config.hash_salt.is_none() {
        let models = hashed.into_iter().collect::<Vec<_>>().join(", ");
        findings.push(Finding::bad(
            env::SAMSARA_ETL_HASH_SALT.name,
            format!("not set, but {models} hash columns"),
        ));
    }
    findings
}

/// Tables whose rows are counted at a time.
const COUNTED_AT_A_TIME: usize = 8;
/// Endpoints that are requested at a time.
const ASKED_AT_A_TIME: usize = 16;

/// Token, region, and one request to each endpoint.
async fn api(
    config: &Config,
    catalog: &Catalog,
    sources: &[&Source],
    selection: &Selection,
    limit: Limit,
) -> Vec<Finding> {
    let connect = async {
        match Client::connect(&config.samsara, std::sync::Arc::new(Observers::default())).await {
            Ok(client) => Ok(client),
            Err(error) => Err(vec![refusal("token", &error)]),
        }
    };
    let client = match tokio::time::timeout_at(limit.end, connect).await {
        Ok(Ok(client)) => client,
        Ok(Err(findings)) => return findings,
        Err(_) => return limit.within("region", std::future::pending()).await,
    };
    let mut findings = vec![Finding::note("region", client.base().to_string())];
    let rows = first_rows(&client, catalog, sources, limit).await;
    // An endpoint counts as selected by name if one of its sources is.
    let named = sources.iter();
    let named = named.filter(|source| selection.named.contains(&source.name));
    let named: BTreeSet<&str> = named.map(|source| source.endpoint.as_str()).collect();
    // Statistics share an endpoint and its scope.
    let mut asked = BTreeSet::new();
    let sources: Vec<&Source> = sources
        .iter()
        .copied()
        .filter(|it| asked.insert((it.endpoint.clone(), it.scope.clone())))
        .collect();
    let answers = sources.iter().map(|source| {
        let parent = match source.parent.as_ref().map(|it| rows.get(&list_key(it))) {
            None => Parent::None,
            Some(Some(Some(Some(row)))) => Parent::Row(row.clone()),
            Some(Some(Some(None))) => Parent::Empty,
            Some(_) => Parent::Unreadable,
        };
        let client = &client;
        async move { tokio::time::timeout_at(limit.end, ask(client, source, parent)).await }
    });
    let answers: Vec<_> = answers.collect();
    let answers = stream::iter(answers).buffered(ASKED_AT_A_TIME);
    let answers: Vec<_> = answers.collect().await;
    let (mut absent, mut is_there) = (0, false);
    for (source, answer) in sources.iter().zip(answers) {
        match &answer {
            Ok(Err(SamsaraError::NotFound { .. })) => absent += 1,
            Ok(Ok(Finding { good: None, .. })) => {}
            // The same is true of all others.
            Ok(Err(error)) if error.ends_run() => {
                return vec![findings.remove(0), refusal("token", error)];
            }
            _ => is_there = true,
        }
        let is_named = named.contains(source.endpoint.as_str());
        findings.push(endpoint_finding(source, is_named, answer.ok(), limit));
    }
    for name in &selection.on_request {
        let source = catalog.source(name);
        let reason = source.and_then(|source| source.on_request.as_deref());
        let reason = reason.unwrap_or_default();
        let text = format!("on request, not read by ALL: {reason}");
        findings.push(Finding::note(name, text));
    }
    if absent > 1 && !is_there {
        let text = "every endpoint answers 404; check that SAMSARA_API_URL names Samsara's API";
        findings.push(Finding::bad(client.base().to_string(), text));
    }
    findings
}

/// What a list shares with the requests that depend on its rows.
fn list_key(parent: &catalog::Parent) -> String {
    let fields = (&parent.source, &parent.field, &parent.with);
    format!("{:?}", (fields, &parent.only, &parent.except))
}

/// The first row of each parent list; none if it could not be read.
async fn first_rows(
    client: &Client,
    catalog: &Catalog,
    sources: &[&Source],
    limit: Limit,
) -> BTreeMap<String, Option<Option<ParentRow>>> {
    let lists: BTreeMap<String, &catalog::Parent> = sources
        .iter()
        .filter_map(|it| it.parent.as_ref())
        .map(|parent| (list_key(parent), parent))
        .collect();
    let rows = lists.into_iter().map(|(key, parent)| async move {
        let row = match catalog.source(&parent.source) {
            Some(source) => {
                tokio::time::timeout_at(limit.end, first_row(client, source, parent)).await
            }
            None => Ok(Ok(None)),
        };
        (key, row.ok().and_then(Result::ok))
    });
    let rows: Vec<_> = rows.collect();
    stream::iter(rows)
        .buffer_unordered(ASKED_AT_A_TIME)
        .collect()
        .await
}

/// The response of an endpoint, if it came in time.
fn endpoint_finding(
    source: &Source,
    is_named: bool,
    answer: Option<Result<Finding, SamsaraError>>,
    limit: Limit,
) -> Finding {
    let is_refused =
        |error: &SamsaraError| matches!(error, SamsaraError::Refused { status: 400, .. });
    let is_absent =
        |error: &SamsaraError| error.is_unavailable() || (source.optional && is_refused(error));
    match answer {
        Some(Ok(finding)) => finding,
        // A run continues without it, unless it was selected by name.
        Some(Err(error)) if !is_named && is_absent(&error) => {
            Finding::note(&source.endpoint, format!("not available: {error}"))
        }
        Some(Err(error)) => refusal(&source.endpoint, &error),
        None => Finding::bad(
            &source.endpoint,
            format!("no answer within {} s; {REACH}", limit.whole.as_secs()),
        ),
    }
}

fn refusal(what: &str, error: &SamsaraError) -> Finding {
    let hint = match error {
        SamsaraError::Unavailable {
            error: AttemptError::Connection(_),
            ..
        } => format!("; {REACH}"),
        // Partitions that were complete before are ignored here.
        SamsaraError::Unavailable { .. } | SamsaraError::Resting { .. } => String::new(),
        error => error
            .hint()
            .map(|hint| format!("; {hint}"))
            .unwrap_or_default(),
    };
    Finding::bad(what, format!("{error}{hint}"))
}

/// The parent list of an endpoint.
enum Parent {
    /// There is none.
    None,
    /// Its first row.
    Row(ParentRow),
    /// None of its rows are requested.
    Empty,
    /// It cannot be read.
    Unreadable,
}

/// Requests as little as the endpoint can return.
async fn ask(client: &Client, source: &Source, parent: Parent) -> Result<Finding, SamsaraError> {
    let not_asked = |why: &str| {
        Ok(Finding::note(
            &source.endpoint,
            format!("not checked: its parent list {why}"),
        ))
    };
    let rows = match parent {
        Parent::None => Vec::new(),
        Parent::Row(row) => vec![row],
        Parent::Empty => return not_asked("has no row to ask for"),
        Parent::Unreadable => return not_asked("cannot be read"),
    };
    page(client, source, None, &rows)
        .await
        .map(|_| Finding::good(&source.endpoint, "answers"))
}

async fn first_row(
    client: &Client,
    source: &Source,
    parent: &catalog::Parent,
) -> Result<Option<ParentRow>, SamsaraError> {
    // The first requested row may come after others.
    let limit = source.page_limit.filter(|_| parent.is_selective());
    let Some(records) = page(client, source, limit, &[]).await? else {
        return Ok(None);
    };
    let records: Vec<serde_json::Value> = serde_json::from_slice(&records).unwrap_or_default();
    let text = |record: &serde_json::Value, field: &str| match record.get(field)? {
        serde_json::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let wanted = |record: &&serde_json::Value| parent.wants(|field| text(record, field));
    Ok(records.iter().find(wanted).and_then(|record| {
        Some(ParentRow {
            id: text(record, &parent.field)?,
            with: parent
                .with
                .values()
                .map(|field| text(record, field).unwrap_or_default())
                .collect(),
        })
    }))
}

/// The records of a page of one record, or of `limit` records if given, for endpoints with a page size.
async fn page(
    client: &Client,
    source: &Source,
    limit: Option<u32>,
    parents: &[ParentRow],
) -> Result<Option<Bytes>, SamsaraError> {
    let mut small = source.clone();
    small.page_limit = small.page_limit.map(|_| limit.unwrap_or(1));
    let today = clock::now().date_naive();
    // Yesterday, or the last day or month that can be requested.
    let start = (1..=400)
        .filter_map(|ago| today.checked_sub_days(Days::new(ago)))
        .map(|day| source.period_of(day))
        .find(|first| source.is_due(*first, clock::now()))
        .unwrap_or(today)
        .and_time(NaiveTime::MIN)
        .and_utc();
    // A report is about whole days.
    let long = if source.kind == SourceKind::Window {
        TimeDelta::hours(1)
    } else {
        TimeDelta::days(1)
    };
    let looks_back = source.since.as_ref();
    let looks_back = looks_back.map(|since| Window::looking_back(since, clock::now()));
    let window = source.window.as_ref().map(|_| Window {
        start,
        end: start + long,
    });
    let window = window.or(looks_back);
    let sweep = source
        .sweep
        .as_ref()
        .and_then(|sweep| sweep.values.first())
        .map(String::as_str);
    let Some(request) = Request::render(&[&small], window, sweep, parents) else {
        return Ok(None);
    };
    Ok(client
        .pages(request, None)
        .next()
        .await?
        .map(|page| page.records))
}

/// Reads, lists, writes, writes conditionally, and removes what it wrote.
async fn bucket(
    name: &str,
    location: &BucketLocation,
    config: &Config,
    sources: &[&Source],
) -> Vec<Finding> {
    let what = format!("{name} bucket");
    let mut findings = vec![match location {
        BucketLocation::Folder(path) => folder(&what, path),
        BucketLocation::Google(bucket) => match probe(location, config).await {
            Ok(url) => Finding::good(
                &what,
                format!("{url} is readable and writable, and supports conditional writes"),
            ),
            Err(error) => Finding::bad(
                &what,
                with_remedy(&error.to_string(), &Service::Storage(bucket), config),
            ),
        },
    }];
    if findings[0].good != Some(false) && !sources.is_empty() {
        findings.extend(states(location, config, sources).await);
    }
    findings
}

/// An existing folder must be writable; a missing one must be possible to create.
fn folder(what: &str, path: &Path) -> Finding {
    let fails =
        |at: &Path, error: std::io::Error| Finding::bad(what, format!("{}: {error}", at.display()));
    let nearest = path
        .ancestors()
        .find(|folder| folder.symlink_metadata().is_ok())
        .unwrap_or(path);
    match folder_is_writable(nearest) {
        Err(error) => fails(nearest, error),
        Ok(()) if nearest == path => {
            Finding::good(what, format!("folder {} is writable", path.display()))
        }
        Ok(()) => Finding::note(
            what,
            format!("folder {} will be created by the first run", path.display()),
        ),
    }
}

/// Writes, locks and removes a file.
fn folder_is_writable(folder: &Path) -> std::io::Result<()> {
    if !folder.is_dir() {
        return Err(std::io::ErrorKind::NotADirectory.into());
    }
    let mut file = tempfile::Builder::new()
        .prefix(".samsara-etl-check-")
        .tempfile_in(folder)?;
    file.write_all(b"one")?;
    file.as_file().lock()?;
    file.close()
}

/// Whether the state documents that a run needs can be read.
async fn states(location: &BucketLocation, config: &Config, sources: &[&Source]) -> Vec<Finding> {
    let bucket = match Bucket::look(
        location,
        &config.storage.google,
        &tokio::runtime::Handle::current(),
    ) {
        Ok(bucket) => bucket,
        Err(error) => return vec![Finding::bad("state", error.to_string())],
    };
    let documents = sources.iter().map(|source| {
        let (bucket, key) = (&bucket, state_object(&source.name));
        async move {
            match bucket.read(&key).await {
                Ok(Some((bytes, _))) => SourceState::from_json(&bytes, &bucket.uri(&key))
                    .err()
                    .map(|it| it.to_string()),
                Ok(None) => None,
                Err(error) => Some(error.to_string()),
            }
        }
    });
    let documents: Vec<_> = documents.collect();
    let wrong: Vec<Option<String>> = stream::iter(documents)
        .buffered(ASKED_AT_A_TIME)
        .collect()
        .await;
    wrong
        .into_iter()
        .flatten()
        .map(|error| Finding::bad("state", error))
        .collect()
}

/// The warehouse, which loads from `bucket`.
async fn warehouse(
    warehouse: &WarehouseConfig,
    bucket: &BucketLocation,
    config: &Config,
) -> Vec<Finding> {
    let WarehouseConfig::BigQuery { project, .. } = warehouse else {
        let WarehouseConfig::Local(path) = warehouse else {
            return Vec::new();
        };
        return vec![folder("warehouse", path)];
    };
    let storage = StorageConfig {
        flattened: bucket.clone(),
        ..config.storage.clone()
    };
    let findings = load::examine(warehouse, &storage).await.into_iter();
    let add_remedy = |finding: Finding| match finding.good {
        Some(false) => Finding {
            text: with_remedy(&finding.text, &Service::BigQuery(project), config),
            ..finding
        },
        _ => finding,
    };
    findings.map(add_remedy).collect()
}

/// Which of Google's services has refused.
enum Service<'a> {
    /// Cloud Storage, and the bucket.
    Storage(&'a str),
    /// BigQuery, and the project.
    BigQuery(&'a str),
}

/// The meaning of parts of messages of Google's, or of a library that calls it.
enum Cause {
    LoginExpired,
    NoCredentials,
    ServiceDisabled,
    Unauthenticated,
    Forbidden,
    NotFound,
    Unreachable,
}

/// Parts of messages in lower case, the most specific first. The libraries return Google's message as text only.
const CAUSES: &[(Cause, &[&str])] = &[
    (
        Cause::LoginExpired,
        &[
            "invalid_grant",
            "invalid_rapt",
            "expired or revoked",
            "reauth",
        ],
    ),
    (Cause::NoCredentials, &["metadata", "no google credentials"]),
    (
        Cause::ServiceDisabled,
        &[
            "has not been used in project",
            "accessnotconfigured",
            "api is disabled",
            "service_disabled",
        ],
    ),
    (
        Cause::Unauthenticated,
        &[
            "401 ",
            "(401)",
            "unauthenticated",
            "invalid authentication",
            "invalid credentials",
        ],
    ),
    (
        Cause::Forbidden,
        &[
            "403 ",
            "(403)",
            "forbidden",
            "accessdenied",
            "access denied",
            "permission",
            "does not have",
        ],
    ),
    (
        Cause::NotFound,
        &[
            "404 ",
            "(404)",
            "not found",
            "nosuchbucket",
            "does not exist",
        ],
    ),
    (
        Cause::Unreachable,
        &[
            "error sending request",
            "dns",
            "connect",
            "timed out",
            "timeout",
        ],
    ),
];

/// The meaning of a message of Google's, or of a library that calls it, and what to do about it.
fn with_remedy(text: &str, service: &Service<'_>, config: &Config) -> String {
    let lower = text.to_lowercase();
    let has_credentials = config.storage.google.credentials.is_some();
    let cause = CAUSES.iter().find(|(cause, parts)| {
        !(has_credentials && matches!(cause, Cause::NoCredentials))
            && parts.iter().any(|part| lower.contains(part))
    });
    match cause {
        Some((cause, _)) => format!("{text}; {}", remedy(cause, service)),
        None => text.into(),
    }
}

fn remedy(cause: &Cause, service: &Service<'_>) -> String {
    let login = "`gcloud auth application-default login`";
    match (cause, service) {
        (Cause::LoginExpired, _) => {
            format!("log in again ({login}); for a service account, create a new key")
        }
        (Cause::NoCredentials, _) => format!(
            "no credentials found: run {login}, or name a service-account key in GCP_CREDENTIALS_FILE_NAME"
        ),
        (Cause::ServiceDisabled, Service::Storage(_)) => {
            "enable it: `gcloud services enable storage.googleapis.com`".into()
        }
        (Cause::ServiceDisabled, Service::BigQuery(_)) => {
            "enable it: `gcloud services enable bigquery.googleapis.com`".into()
        }
        (Cause::Unauthenticated, _) => format!(
            "Google rejected the credentials: run {login}, or use another service-account key"
        ),
        (Cause::Forbidden, Service::Storage(bucket)) => {
            format!("give the account the role roles/storage.objectAdmin on gs://{bucket}")
        }
        (Cause::Forbidden, Service::BigQuery(project)) => format!(
            "give the account the roles roles/bigquery.jobUser on project {project}, and roles/bigquery.dataEditor \
             on the dataset (roles/bigquery.user on the project, to create it)"
        ),
        (Cause::NotFound, Service::Storage(bucket)) => format!(
            "create it (`gcloud storage buckets create gs://{bucket}`), and give the account \
             roles/storage.objectAdmin on it"
        ),
        (Cause::NotFound, Service::BigQuery(_)) => "check GOOGLE_CLOUD_PROJECT".into(),
        (Cause::Unreachable, _) => REACH.into(),
    }
}

async fn probe(location: &BucketLocation, config: &Config) -> Result<String, StoreError> {
    let bucket = Bucket::open(
        location,
        &config.storage.google,
        &tokio::runtime::Handle::current(),
    )?;
    let key = format!("check/{}", RunId::new(clock::now()));
    let result = conditions(&bucket, &key).await;
    let path = object_store::path::Path::from(key.as_str());
    let removed = bucket.store().delete(&path).await;
    result?;
    removed.map_err(|source| StoreError::Object {
        verb: "delete",
        uri: bucket.uri(&key),
        source: Box::new(source),
    })?;
    bucket.list("check").await?;
    Ok(bucket.url().to_string())
}

async fn conditions(bucket: &Bucket, key: &str) -> Result<(), StoreError> {
    let conflict = || StoreError::Conflict {
        uri: bucket.uri(key),
    };
    let first = bucket.swap(key, None, Bytes::from_static(b"one")).await?;
    // A second writer must be refused, or runs would overwrite each other's state.
    match bucket.swap(key, None, Bytes::from_static(b"two")).await {
        Err(StoreError::Conflict { .. }) => {}
        Ok(_) => return Err(conflict()),
        Err(error) => return Err(error),
    }
    // Cloud Storage takes one write a second per object; the client waits for its 429 to pass.
    bucket
        .swap(key, Some(&first), Bytes::from_static(b"three"))
        .await?;
    match bucket.read(key).await? {
        Some((bytes, _)) if bytes == Bytes::from_static(b"three") => Ok(()),
        _ => Err(conflict()),
    }
}

/// The key of a table that must be in one day only: if the time of a record is not part of the key, a record whose time
/// has changed would be in two days. Reports have a row for each day on purpose.
fn key_of_one_day<'a>(
    catalog: &'a Catalog,
    driving: &Source,
    contract: &Contract,
) -> Option<&'a [String]> {
    let partition_by = contract.partition_by.as_ref()?;
    let model = catalog.model(&contract.table)?;
    let key = model.front_matter.unique_key.as_slice();
    let is_own = !key.is_empty() && !key.contains(partition_by);
    (is_own && driving.kind != SourceKind::Report).then_some(key)
}

/// The finding about keys that occur in more than one day.
fn repeated(table: &str, driving: &Source, key: &[String], found: &RepeatedKeys) -> Finding {
    let examples = found.examples.iter().map(|it| {
        let key = it.values.join(", ");
        format!("{key} in {} and {}", it.first, it.last)
    });
    let examples: Vec<String> = examples.collect();
    let keys = match found.count {
        1 => "1 key is".to_string(),
        many => format!("{many} keys are"),
    };
    let first = found.examples.iter().map(|it| it.first.as_str()).min();
    let first = first.unwrap_or_default();
    let source = &driving.name;
    let remedy = match driving.kind {
        // Versions that were read are never removed from their days.
        SourceKind::Updates => format!(
            "the time_field of {source} has changed: name a time that never changes in sources.toml, or none"
        ),
        SourceKind::Feed => "the feed has sent them twice: that of the last day is newer".into(),
        _ => {
            format!("their time has changed: run --historical --start-date {first} --table {table}")
        }
    };
    let text = format!(
        "{keys} in more than one day ({}): {}; {remedy}",
        key.join(", "),
        examples.join("; "),
    );
    Finding::bad(table, text)
}

/// Compares the state with the rows in the warehouse.
async fn compare(
    config: Config,
    catalog: Catalog,
    models: &BTreeSet<String>,
    limit: Limit,
    findings: &mut Findings,
) -> Result<(), Error> {
    let found = limit
        .within(
            "warehouse",
            warehouse(&config.warehouse, &config.storage.flattened, &config),
        )
        .await;
    findings.say(found)?;
    if findings.bad > 0 {
        return Ok(());
    }
    let io = tokio::runtime::Handle::current();
    let warehouse = load::look(&config.warehouse, &config.storage, &io).await?;
    let target = match &warehouse {
        Some(warehouse) => warehouse.target().to_string(),
        None => load::target(&config.warehouse).unwrap_or_default(),
    };
    let pipeline = Pipeline::looking(config, catalog)?;
    let mut contracts = Vec::new();
    for name in models {
        let model = pipeline.catalog().known_model(name)?;
        contracts.extend(bind_all(pipeline.catalog(), model).await?);
    }
    let counts = contracts
        .iter()
        .map(|contract| count_rows(warehouse.as_deref(), contract, limit));
    let counts: Vec<_> = counts.collect();
    let mut counts = stream::iter(counts).buffered(COUNTED_AT_A_TIME);
    for contract in &contracts {
        let Some(counts) = counts.next().await else {
            break;
        };
        let table = &contract.table;
        let counts = match answered(table, counts, limit) {
            Ok(counts) => counts,
            Err(finding) => {
                findings.say([finding])?;
                continue;
            }
        };
        let Some(driving) = pipeline.catalog().driving_source_of(table) else {
            let table = table.clone();
            return Err(LoadError::NoSource { table }.into());
        };
        let expected = expected_rows(&pipeline, driving, contract, &target).await?;
        findings.say(differences(table, &expected, &counts))?;
        let key = key_of_one_day(pipeline.catalog(), driving, contract);
        if let (Some(key), Some(warehouse), false) = (key, &warehouse, expected.rows.is_empty()) {
            let asked = warehouse.repeated_keys(contract, key);
            let asked = tokio::time::timeout(limit.whole, asked).await;
            match answered(table, asked, limit) {
                Ok(found) if found.count == 0 => {}
                Ok(found) => findings.say([repeated(table, driving, key, &found)])?,
                Err(finding) => findings.say([finding])?,
            }
        }
        findings.say(expected.waiting_finding(table))?;
    }
    Ok(())
}

/// The rows of each partition of a table. A warehouse that does not exist has none.
async fn count_rows(
    warehouse: Option<&dyn Warehouse>,
    contract: &Contract,
    limit: Limit,
) -> Result<Result<BTreeMap<Partition, u64>, LoadError>, Elapsed> {
    match warehouse {
        Some(warehouse) => tokio::time::timeout(limit.whole, warehouse.counts(contract)).await,
        None => Ok(Ok(BTreeMap::new())),
    }
}

/// The warehouse's answer about a table, or else a finding.
fn answered<T>(
    table: &str,
    answer: Result<Result<T, LoadError>, Elapsed>,
    limit: Limit,
) -> Result<T, Finding> {
    match answer {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Finding::bad(table, error.to_string())),
        Err(_) => {
            let text = format!("no answer within {} s", limit.whole.as_secs());
            Err(Finding::bad(table, text))
        }
    }
}

/// What the state has of a table in the warehouse.
#[derive(Default)]
struct Expected {
    /// Rows of each partition that was loaded and has not expired.
    rows: BTreeMap<Partition, u64>,
    /// Partitions that are still to be loaded.
    waiting: u64,
}

impl Expected {
    fn waiting_finding(&self, table: &str) -> Option<Finding> {
        let waiting = self.waiting;
        let text =
            format!("{waiting} partitions are not loaded yet: samsara-etl run --stages load");
        (waiting > 0).then(|| Finding::note(table, text))
    }
}

async fn expected_rows(
    pipeline: &Pipeline,
    driving: &Source,
    contract: &Contract,
    target: &str,
) -> Result<Expected, Error> {
    let handle = pipeline.states().source(&driving.name).await?;
    let mut expected = Expected::default();
    handle.look(|state| {
        for (day, partition) in &state.partitions {
            let Some(found) = partition.models.get(&contract.table) else {
                continue;
            };
            match found.load.as_ref().filter(|load| *load.target == *target) {
                Some(load) => {
                    expected.waiting += u64::from(load.fingerprint != found.fingerprint);
                    expected.rows.insert(*day, load.rows);
                }
                None => expected.waiting += 1,
            }
        }
    });
    if let Some(days) = contract.partition_expiration_days {
        // Expired partitions are missing on purpose, and BigQuery chooses the day on which they go.
        let oldest = clock::now()
            .date_naive()
            .checked_sub_days(Days::new(u64::from(days).saturating_sub(1)))
            .unwrap_or(NaiveDate::MIN);
        let is_kept = |partition: &Partition| partition.day().is_none_or(|day| day >= oldest);
        expected.rows.retain(|partition, _| is_kept(partition));
    }
    Ok(expected)
}

/// The partitions of a table whose rows in the warehouse differ from the state's; or that all are equal.
fn differences(
    table: &str,
    expected: &Expected,
    counts: &BTreeMap<Partition, u64>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let days: BTreeSet<&Partition> = expected.rows.keys().chain(counts.keys()).collect();
    for day in days {
        let said = expected.rows.get(day).copied();
        let held = counts.get(day).copied().unwrap_or_default();
        if said.unwrap_or_default() != held {
            let said = said.map_or("lists none".to_string(), |rows| format!("says {rows}"));
            let text = format!(
                "the warehouse has {held} rows, but the state {said}; run with --full-refresh {table}"
            );
            findings.push(Finding::bad(format!("{table} {day}"), text));
        }
    }
    if findings.is_empty() && !expected.rows.is_empty() {
        let (partitions, rows) = (expected.rows.len(), expected.rows.values().sum::<u64>());
        let text = format!("{partitions} partitions, {rows} rows, equal to the state");
        findings.push(Finding::good(table, text));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, LOCAL_FOLDER, Overrides};

    #[test]
    fn what_google_says_is_told_with_the_right_remedy() {
        let environment = Environment::default();
        let mut config = Config::resolve(
            &environment,
            &Overrides::default(),
            Path::new("/data"),
            LOCAL_FOLDER,
        )
        .unwrap();
        let (storage, bigquery) = (Service::Storage("raw"), Service::BigQuery("p"));
        let login = "gcloud auth application-default login";
        let metadata = "error sending request for url (http://metadata.google.internal/computeMetadata/v1/token)";
        for (text, service, part) in [
            (metadata, &storage, login),
            (
                "no Google credentials: error trying to connect",
                &bigquery,
                "GCP_CREDENTIALS_FILE_NAME",
            ),
            (
                "Error performing token request: 400 {\"error\":\"invalid_grant\"}",
                &storage,
                "log in again",
            ),
            (
                "Server returned 401 Unauthorized",
                &storage,
                "rejected the credentials",
            ),
            (
                "403 Forbidden: x does not have storage.objects.create",
                &storage,
                "roles/storage.objectAdmin on gs://raw",
            ),
            (
                "Access Denied: Project p: User does not have bigquery.jobs.create",
                &bigquery,
                "roles/bigquery.jobUser",
            ),
            (
                "BigQuery API has not been used in project 1 before or it is disabled",
                &bigquery,
                "services enable bigquery",
            ),
            (
                "404 Not Found: The specified bucket does not exist",
                &storage,
                "buckets create gs://raw",
            ),
            ("it does not exist (404)", &bigquery, "GOOGLE_CLOUD_PROJECT"),
            ("error sending request: dns error", &storage, REACH),
        ] {
            let told = with_remedy(text, service, &config);
            assert!(told.starts_with(text) && told.contains(part), "{told}");
        }
        // Unknown errors get no advice; and with a key, no other login is proposed.
        assert_eq!(
            with_remedy("the disk is full", &storage, &config),
            "the disk is full"
        );
        config.storage.google.credentials = Some("key.json".into());
        assert!(with_remedy(metadata, &storage, &config).contains(REACH));
    }

    #[test]
    fn folders_are_checked_for_writing() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", place.path().join("link")).unwrap();
        let good = |name: &str| folder("raw bucket", &place.path().join(name)).good;
        for (name, expected) in [
            ("", Some(true)),
            ("not/there", None),
            ("file", Some(false)),
            ("file/below", Some(false)),
            ("link", Some(false)),
        ] {
            assert_eq!(good(name), expected, "{name}");
        }
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2);
        assert_eq!(
            folder("raw bucket", Path::new("/proc/self/samsara")).good,
            Some(false)
        );
    }

    #[tokio::test]
    async fn nobody_is_waited_for_beyond_the_limit() {
        let limit = Limit::new(Duration::from_millis(1));
        let found = limit.within("x", std::future::pending()).await;
        assert_eq!((found.len(), found[0].good), (1, Some(false)));
        let found = limit
            .within("x", async { vec![Finding::good("x", "y")] })
            .await;
        assert_eq!(found, [Finding::good("x", "y")]);
    }
}
