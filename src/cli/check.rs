//! `check`: looks at everything that a run needs, and changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chrono::{Days, NaiveTime, TimeDelta, Utc};
use clap::Args;
use object_store::ObjectStoreExt;

use super::options::{WishOptions, WorkOptions};
use super::{Context, Exit};
use crate::catalog::{Catalog, Source, SourceKind};
use crate::config::{BucketLocation, Config};
use crate::error::Error;
use crate::events::Observers;
use crate::load::{self, Finding};
use crate::pipeline::Pipeline;
use crate::redact;
use crate::samsara::{Client, Request, SamsaraError, Window};
use crate::state::Fence;
use crate::store::layout::{Partition, RunId};
use crate::store::{Bucket, StoreError};
use crate::transform::bind_all;

/// Check token, scopes, buckets and warehouse, each with its remedy, and change nothing.
///
/// Asks every selected endpoint once for as little as it gives. With --warehouse it compares instead, per table and
/// day, what the state says is loaded with the rows that the warehouse holds.
#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    wish: WishOptions,
    #[command(flatten)]
    work: WorkOptions,
    /// Compare the state with the warehouse, per table and day
    #[arg(long)]
    warehouse: bool,
}

impl Check {
    pub(super) async fn execute(self, context: &Context) -> Result<Exit, Error> {
        let catalog = context.catalog()?;
        let selection = self.wish.wish(&catalog, &context.directory)?.selection;
        let config = self.work.config(context)?;
        let mut findings = Findings::default();
        findings.say(emulators(&config))?;
        if self.warehouse {
            findings.say(load::examine(&config.warehouse, &config.storage).await)?;
            if findings.bad == 0 {
                compare(config, catalog, &selection.models, &mut findings).await?;
            }
        } else {
            let sources: Vec<&Source> = selection.sources.iter().filter_map(|name| catalog.source(name)).collect();
            api(&config, &catalog, &sources, &mut findings).await?;
            for (name, location) in [("raw", &config.storage.raw), ("flattened", &config.storage.flattened)] {
                findings.say([bucket(name, location, &config).await])?;
            }
            findings.say(load::examine(&config.warehouse, &config.storage).await)?;
        }
        Ok(if findings.bad == 0 { Exit::Success } else { Exit::Failure })
    }
}

/// Prints findings as they come, and counts the bad ones.
#[derive(Default)]
struct Findings {
    bad: u64,
}

impl Findings {
    fn say(&mut self, findings: impl IntoIterator<Item = Finding>) -> Result<(), Error> {
        for Finding { what, text, good } in findings {
            let word = match good {
                Some(true) => "ok  ",
                Some(false) => "FAIL",
                None => "note",
            };
            self.bad += u64::from(good == Some(false));
            super::output::print(format_args!("{word}  {}\n", redact::one_line(format_args!("{what}: {text}"))))?;
        }
        Ok(())
    }
}

fn emulators(config: &Config) -> Vec<Finding> {
    let google = &config.storage.google;
    let named = [("Cloud Storage", &google.storage_emulator), ("BigQuery", &google.bigquery_emulator)];
    named
        .into_iter()
        .filter_map(|(service, host)| {
            let text = format!("an emulator of {service} is used, no credentials are read");
            host.as_ref().map(|host| Finding::note(host, text))
        })
        .collect()
}

/// Token, region, and one request to each endpoint.
async fn api(config: &Config, catalog: &Catalog, sources: &[&Source], findings: &mut Findings) -> Result<(), Error> {
    let client = match Client::connect(&config.samsara, std::sync::Arc::new(Observers::default())).await {
        Ok(client) => client,
        Err(error) => return findings.say([refusal("token", &error)]),
    };
    findings.say([Finding::note("region", client.base().to_string())])?;
    let mut asked = BTreeSet::new();
    let mut parents = BTreeMap::new();
    for source in sources {
        // Statistics share an endpoint and its scope.
        if !asked.insert((source.endpoint.clone(), source.scope.clone())) {
            continue;
        }
        let finding = match ask(&client, catalog, source, &mut parents).await {
            Ok(text) => Finding::good(&source.endpoint, text),
            Err(SamsaraError::NotFound { endpoint, .. }) => {
                Finding::note(endpoint, "this organisation does not have it; its tables stay empty")
            }
            Err(error) if error.ends_run() => return findings.say([refusal("token", &error)]),
            Err(error) => refusal(&source.endpoint, &error),
        };
        findings.say([finding])?;
    }
    Ok(())
}

fn refusal(what: &str, error: &SamsaraError) -> Finding {
    let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
    Finding::bad(what, format!("{error}{hint}"))
}

/// Asks for as little as the endpoint gives.
async fn ask(
    client: &Client,
    catalog: &Catalog,
    source: &Source,
    parents: &mut BTreeMap<String, Option<String>>,
) -> Result<&'static str, SamsaraError> {
    let mut ids = Vec::new();
    if let Some(parent) = &source.parent {
        if !parents.contains_key(&parent.source) {
            let id = match catalog.source(&parent.source) {
                Some(list) => first_id(client, list, &parent.field).await?,
                None => None,
            };
            parents.insert(parent.source.clone(), id);
        }
        match parents.get(&parent.source) {
            Some(Some(id)) => ids.push(id.clone()),
            _ => return Ok("not asked: its parent list is empty"),
        }
    }
    page(client, source, &ids).await.map(|_| "answers")
}

async fn first_id(client: &Client, source: &Source, field: &str) -> Result<Option<String>, SamsaraError> {
    let Some(records) = page(client, source, &[]).await? else { return Ok(None) };
    let records: Vec<serde_json::Value> = serde_json::from_slice(&records).unwrap_or_default();
    Ok(records.first().and_then(|record| match record.get(field)? {
        serde_json::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }))
}

/// The records of one small page.
async fn page(client: &Client, source: &Source, parents: &[String]) -> Result<Option<Bytes>, SamsaraError> {
    let mut small = source.clone();
    small.page_limit = small.page_limit.map(|_| 1);
    let today = Utc::now().date_naive();
    let start = today.checked_sub_days(Days::new(1)).unwrap_or(today).and_time(NaiveTime::MIN).and_utc();
    // A report is about whole days.
    let long = if source.kind == SourceKind::Window { TimeDelta::hours(1) } else { TimeDelta::days(1) };
    let window = source.window.as_ref().map(|_| Window { start, end: start + long });
    let sweep = source.sweep.as_ref().and_then(|sweep| sweep.values.first()).map(String::as_str);
    let Some(request) = Request::render(&[&small], window, sweep, parents) else { return Ok(None) };
    Ok(client.pages(request, None).next().await?.map(|page| page.records))
}

/// Reads, writes, writes under a condition, and cleans up after itself.
async fn bucket(name: &str, location: &BucketLocation, config: &Config) -> Finding {
    let what = format!("{name} bucket");
    if let BucketLocation::Folder(folder) = location
        && !folder.is_dir()
    {
        return Finding::note(what, format!("folder {} is made by the first run", folder.display()));
    }
    match probe(location, config).await {
        Ok(url) => Finding::good(what, format!("{url} can be read, written, and written under a condition")),
        Err(error) => Finding::bad(
            what,
            format!("{error}; does it exist, and has the account the role storage.objectAdmin on it?"),
        ),
    }
}

async fn probe(location: &BucketLocation, config: &Config) -> Result<String, StoreError> {
    let bucket = Bucket::open(location, &config.storage.google, &tokio::runtime::Handle::current())?;
    let key = format!("check/{}", RunId::new(Utc::now()));
    let result = conditions(&bucket, &key).await;
    let path = object_store::path::Path::from(key.as_str());
    let removed = bucket.store().delete(&path).await;
    result?;
    removed.map_err(|source| StoreError::Object { verb: "delete", uri: bucket.uri(&key), source: Box::new(source) })?;
    Ok(bucket.url().to_string())
}

async fn conditions(bucket: &Bucket, key: &str) -> Result<(), StoreError> {
    let conflict = || StoreError::Conflict { uri: bucket.uri(key) };
    let first = bucket.swap(key, None, Bytes::from_static(b"one")).await?;
    // A second writer must be refused, or runs would overwrite each other's state.
    match bucket.swap(key, None, Bytes::from_static(b"two")).await {
        Err(StoreError::Conflict { .. }) => {}
        Ok(_) => return Err(conflict()),
        Err(error) => return Err(error),
    }
    // Cloud Storage takes one write a second per object; the client waits for its 429 to pass.
    bucket.swap(key, Some(&first), Bytes::from_static(b"three")).await?;
    match bucket.read(key).await? {
        Some((bytes, _)) if bytes == Bytes::from_static(b"three") => Ok(()),
        _ => Err(conflict()),
    }
}

/// The state against the rows in the warehouse.
async fn compare(
    config: Config,
    catalog: Catalog,
    models: &BTreeSet<String>,
    findings: &mut Findings,
) -> Result<(), Error> {
    let warehouse =
        load::open(&config.warehouse, &config.storage, &tokio::runtime::Handle::current(), &Fence::default()).await?;
    let pipeline = Pipeline::new(config, catalog)?;
    let mut contracts = Vec::new();
    for model in models.iter().filter_map(|name| pipeline.catalog().model(name)) {
        contracts.extend(bind_all(pipeline.catalog(), model).await?);
    }
    for contract in contracts {
        let table = &contract.table;
        let Some(driver) = pipeline.catalog().driver_of(table) else { continue };
        let handle = pipeline.states().source(&driver.name).await?;
        let (mut waiting, mut expected) = (0, BTreeMap::new());
        handle.look(|state| {
            for (key, partition) in &state.partitions {
                let (Some(day), Some(found)) = (Partition::parse(key), partition.models.get(table)) else {
                    continue;
                };
                match found.load.as_ref().filter(|load| load.target == warehouse.target()) {
                    Some(load) => {
                        waiting += u64::from(load.fingerprint != found.fingerprint);
                        expected.insert(day, load.rows);
                    }
                    None => waiting += 1,
                }
            }
        });
        if let Some(days) = contract.partition_expiration_days {
            // What has expired is gone on purpose, and the day on which it goes is BigQuery's.
            let oldest = Utc::now().date_naive() - TimeDelta::days(i64::from(days) - 1);
            expected.retain(|partition, _| partition.day().is_none_or(|day| day >= oldest));
        }
        let counts = match warehouse.counts(&contract).await {
            Ok(counts) => counts,
            Err(error) => {
                findings.say([Finding::bad(table, error.to_string())])?;
                continue;
            }
        };
        let days: BTreeSet<Partition> = expected.keys().chain(counts.keys()).copied().collect();
        let mut differing = 0;
        for day in days {
            let (said, held) = (expected.get(&day).copied(), counts.get(&day).copied().unwrap_or_default());
            if said.unwrap_or_default() != held {
                differing += 1;
                let said = said.map_or("does not know of any".to_string(), |rows| format!("says {rows}"));
                let remedy = format!("run with --full-refresh {}", table);
                let text = format!("the warehouse holds {held} rows, the state {said}; {remedy}");
                findings.say([Finding::bad(format!("{} {day}", table), text)])?;
            }
        }
        if differing == 0 && !expected.is_empty() {
            let rows: u64 = expected.values().sum();
            let text = format!("{} partitions, {rows} rows, as the state says", expected.len());
            findings.say([Finding::good(table, text)])?;
        }
        if waiting > 0 {
            findings.say([Finding::note(table, format!("{waiting} partitions wait to be loaded"))])?;
        }
    }
    Ok(())
}
