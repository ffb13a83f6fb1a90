//! BigQuery: tables from contracts, and load jobs on `gs://` URIs.
//!
//! `gcp-bigquery-client` speaks the REST API; what it leaves to its user is here: retries (it has none, and an HTML
//! error page reaches us as a decode error without a status), job ids that make a lost response harmless, and the
//! reading of `errorResult`, since a job that is `DONE` may have failed.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{TimeDelta, Utc};
use gcp_bigquery_client::Client;
use gcp_bigquery_client::client_builder::ClientBuilder;
use gcp_bigquery_client::error::BQError;
use gcp_bigquery_client::model::clustering::Clustering;
use gcp_bigquery_client::model::dataset::Dataset;
use gcp_bigquery_client::model::error_proto::ErrorProto;
use gcp_bigquery_client::model::field_type::FieldType;
use gcp_bigquery_client::model::job::Job;
use gcp_bigquery_client::model::job_configuration::JobConfiguration;
use gcp_bigquery_client::model::job_configuration_load::JobConfigurationLoad;
use gcp_bigquery_client::model::job_reference::JobReference;
use gcp_bigquery_client::model::query_request::QueryRequest;
use gcp_bigquery_client::model::table::Table;
use gcp_bigquery_client::model::table_field_schema::TableFieldSchema;
use gcp_bigquery_client::model::table_reference::TableReference;
use gcp_bigquery_client::model::table_schema::TableSchema;
use gcp_bigquery_client::model::time_partitioning::TimePartitioning;
use gcp_bigquery_client::table::ListOptions;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::auth::Tokens;
use super::limit::UpdateLimits;
use super::{
    Batch, Finding, LoadError, Loaded, Prepared, REHEARSAL, Warehouse, is_rehearsal,
    missing_columns,
};
use crate::config::{CredentialsError, GoogleAccess, HttpConfig, WaitScale};
use crate::redact::foreign;
use crate::state::{Fence, Started};
use crate::store::layout::Partition;
use crate::transform::{Column, ColumnType, Contract};

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// The first pause between two tries or polls; each further one is twice as long.
    pub first_wait: Duration,
    /// The longest such pause.
    pub longest_wait: Duration,
    /// How long a call is tried again.
    pub retry_for: Duration,
    /// How long a job may take.
    pub job_for: Duration,
    /// How long a job of an earlier run is looked for before it counts as never started.
    pub look_for: Duration,
    /// A job that failed through the service's own fault is tried under this many ids.
    pub attempts: u32,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_secs(5),
            // The default of Google's own clients.
            retry_for: Duration::from_secs(600),
            // BigQuery itself ends a load job after six hours.
            job_for: Duration::from_secs(6 * 3600),
            look_for: Duration::from_secs(3),
            attempts: 5,
        }
    }
}

impl Timings {
    /// The same with shorter pauses. What the service is given the time for stays.
    fn scaled(self, scale: WaitScale) -> Self {
        let Self {
            first_wait,
            longest_wait,
            look_for,
            ..
        } = self;
        Self {
            first_wait: scale.of(first_wait),
            longest_wait: scale.of(longest_wait),
            look_for: scale.of(look_for),
            ..self
        }
    }

    /// With jitter, so that loads that failed together do not come back together.
    async fn pause(&self, attempt: u32) {
        let doubled = self
            .first_wait
            .saturating_mul(1 << attempt.saturating_sub(1).min(16));
        tokio::time::sleep(
            doubled
                .min(self.longest_wait)
                .mul_f64(0.5 + 0.5 * rand::random::<f64>()),
        )
        .await;
    }
}

/// A BigQuery dataset.
pub struct BigQuery {
    client: Client,
    tokens: Tokens,
    /// Whether a call was ever answered: credentials that never worked are not worth retrying.
    was_answered: AtomicBool,
    http: reqwest::Client,
    base: String,
    project: String,
    dataset: String,
    location: Option<String>,
    target: String,
    timings: Timings,
    limits: UpdateLimits,
    fence: Fence,
}

/// The name of a dataset in the state.
pub(super) fn target(project: &str, dataset: &str) -> String {
    format!("bigquery:{project}.{dataset}")
}

/// How a call failed.
pub(super) enum Fault {
    NotFound,
    Exists,
    Quota(String),
    Other(String),
}

impl BigQuery {
    /// Connects, and makes the dataset if it does not exist.
    pub async fn connect(
        project: &str,
        dataset: &str,
        location: Option<&str>,
        access: &GoogleAccess,
    ) -> Result<Self, LoadError> {
        Self::connect_with(
            project,
            dataset,
            location,
            access,
            Timings::default().scaled(access.wait_scale),
        )
        .await
    }

    /// Asks nothing of BigQuery any more once the fence is closed: a job that is sent then could undo what the run that
    /// took the lock over has loaded.
    pub fn fenced(self, fence: &Fence) -> Self {
        Self {
            fence: fence.clone(),
            ..self
        }
    }

    /// Where the dataset is, if BigQuery says so.
    pub fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }

    /// Connects as [`BigQuery::connect`] does, and waits otherwise.
    pub async fn connect_with(
        project: &str,
        dataset: &str,
        location: Option<&str>,
        access: &GoogleAccess,
        timings: Timings,
    ) -> Result<Self, LoadError> {
        let mut warehouse = Self::reach(project, dataset, access, timings).await?;
        if !warehouse.find_dataset(location).await? {
            let mut fresh = Dataset::new(project, dataset);
            fresh.location = location.map(str::to_string);
            match warehouse
                .call(|| warehouse.client.dataset().create(fresh.clone()))
                .await
            {
                Ok(_) | Err(Fault::Exists) => {}
                Err(fault) => return Err(warehouse.unreachable(&fault)),
            }
            warehouse.find_dataset(location).await?;
        }
        warehouse.location = warehouse.location.or_else(|| location.map(str::to_string));
        Ok(warehouse)
    }

    /// Connects to read what is there; none if the dataset does not exist.
    pub(super) async fn look(
        project: &str,
        dataset: &str,
        location: Option<&str>,
        access: &GoogleAccess,
    ) -> Result<Option<Self>, LoadError> {
        let mut warehouse = Self::reach(project, dataset, access, Timings::default()).await?;
        Ok(warehouse.find_dataset(location).await?.then_some(warehouse))
    }

    /// A client with credentials; nothing is asked yet.
    async fn reach(
        project: &str,
        dataset: &str,
        access: &GoogleAccess,
        timings: Timings,
    ) -> Result<Self, LoadError> {
        let host = access
            .bigquery_emulator
            .as_deref()
            .unwrap_or("https://bigquery.googleapis.com");
        let unreachable = |error: CredentialsError| LoadError::Unreachable {
            target: target(project, dataset),
            reason: error.to_string(),
        };
        let tokens = Tokens::of(access).map_err(unreachable)?;
        let warehouse =
            Self::reach_at(host, project, dataset, &access.http, tokens, timings).await?;
        Ok(Self {
            limits: UpdateLimits::new(access.wait_scale),
            ..warehouse
        })
    }

    /// The same at another address, with other tokens.
    pub(super) async fn reach_at(
        host: &str,
        project: &str,
        dataset: &str,
        http: &HttpConfig,
        tokens: Tokens,
        timings: Timings,
    ) -> Result<Self, LoadError> {
        let target = target(project, dataset);
        let unreachable = |reason: String| LoadError::Unreachable {
            target: target.clone(),
            reason,
        };
        let http = crate::http::builder(http)
            .map(|builder| {
                builder
                    .connect_timeout(Duration::from_secs(10))
                    .timeout(Duration::from_secs(120))
            })
            .and_then(crate::http::build)
            .map_err(|error| unreachable(error.to_string()))?;
        let base = format!("{host}/bigquery/v2");
        let mut builder = ClientBuilder::new();
        builder
            .with_client(http.clone())
            .with_v2_base_url(base.clone());
        let client = builder
            .build_from_authenticator(Arc::new(tokens.clone()))
            .await
            .map_err(|error| unreachable(foreign(error)))?;
        Ok(Self {
            client,
            tokens,
            was_answered: AtomicBool::new(false),
            http,
            base,
            project: project.into(),
            dataset: dataset.into(),
            location: None,
            target,
            timings,
            limits: UpdateLimits::new(WaitScale::default()),
            fence: Fence::default(),
        })
    }

    /// Whether the dataset exists; if so, jobs run where it is, which must be where it was asked for.
    pub(super) async fn find_dataset(&mut self, wanted: Option<&str>) -> Result<bool, LoadError> {
        let found = match self
            .call(|| self.client.dataset().get(&self.project, &self.dataset))
            .await
        {
            Ok(found) => found,
            Err(Fault::NotFound) => return Ok(false),
            Err(fault) => return Err(self.unreachable(&fault)),
        };
        if let (Some(wanted), Some(actual)) = (wanted, &found.location)
            && !wanted.eq_ignore_ascii_case(actual)
        {
            let reason = format!(
                "the dataset is in {actual}, --location or BIGQUERY_LOCATION says {wanted}"
            );
            return Err(LoadError::Unreachable {
                target: self.target.clone(),
                reason,
            });
        }
        self.location = found.location;
        Ok(true)
    }

    fn unreachable(&self, fault: &Fault) -> LoadError {
        LoadError::Unreachable {
            target: self.target.clone(),
            reason: fault.to_string(),
        }
    }

    /// Looks at dataset and permissions without making anything.
    pub(super) async fn examine(
        project: &str,
        dataset: &str,
        location: Option<&str>,
        bucket: Option<&str>,
        access: &GoogleAccess,
    ) -> Vec<Finding> {
        // Who asks wants an answer now.
        let timings = Timings {
            retry_for: Duration::from_secs(10),
            ..Timings::default().scaled(access.wait_scale)
        };
        let name = format!("dataset {project}.{dataset}");
        let mut warehouse = match Self::reach(project, dataset, access, timings).await {
            Ok(warehouse) => warehouse,
            Err(error) => return vec![Finding::bad("BigQuery credentials", error.to_string())],
        };
        if let Err(error) = warehouse.tokens.refresh().await {
            return vec![Finding::bad("BigQuery credentials", error.to_string())];
        }
        let mut findings = Vec::new();
        let exists = match warehouse.find_dataset(location).await {
            Ok(true) => {
                findings.push(Finding::good(
                    &name,
                    format!("exists, in {}", warehouse.location().unwrap_or("?")),
                ));
                Some(true)
            }
            Ok(false) => {
                findings.push(Finding::note(
                    &name,
                    "does not exist: the first load makes it, which needs bigquery.datasets.create (role bigquery.user)",
                ));
                Some(false)
            }
            Err(error) => {
                findings.push(Finding::bad(&name, error.to_string()));
                None
            }
        };
        let place = warehouse.location().or(location);
        if let Some(bucket) = bucket
            && let Err(error) =
                super::location::check(&warehouse.target, place, bucket, access).await
        {
            findings.push(Finding::bad("location", error.to_string()));
        }
        let what = format!("jobs in {project}");
        if let Err(fault) = warehouse.try_out("SELECT 1").await {
            findings.push(Finding::bad(what, fault.to_string()));
            return findings;
        }
        findings.push(Finding::good(what, "may be started (tried with a dry run)"));
        // A dry run checks permissions too: https://github.com/mozilla/bigquery-etl/pull/1805
        let (what, statement) = match exists {
            Some(true) => (
                format!("tables in {project}.{dataset}"),
                format!("CREATE TABLE `{project}.{dataset}.samsara_etl_check` (x INT64)"),
            ),
            Some(false) => (name, format!("CREATE SCHEMA `{project}.{dataset}`")),
            None => return findings,
        };
        findings.push(match warehouse.try_out(&statement).await {
            Ok(()) => Finding::good(what, "may be made (tried with a dry run)"),
            Err(fault) => Finding::bad(what, format!("may not be made: {fault}")),
        });
        findings
    }

    /// Has BigQuery check a statement without running it.
    async fn try_out(&self, sql: &str) -> Result<(), Fault> {
        let mut request = QueryRequest::new(sql.to_string());
        request.location = self.location.clone();
        request.dry_run = Some(true);
        self.call(|| self.client.job().query(&self.project, request.clone()))
            .await
            .map(|_| ())
    }

    /// Calls until there is an answer that will not change.
    async fn call<T, F>(&self, call: impl Fn() -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, BQError>>,
    {
        let started = Instant::now();
        let mut attempt: u32 = 0;
        let mut renewed = false;
        loop {
            self.fence
                .check()
                .map_err(|error| Fault::Other(error.to_string()))?;
            let patient = started.elapsed() <= self.timings.retry_for;
            if let Err(error) = self.tokens.refresh().await {
                if !(patient && error.may_pass && self.was_answered.load(Ordering::Relaxed)) {
                    return Err(Fault::Other(error.to_string()));
                }
                attempt += 1;
                tracing::warn!(target = %self.target, attempt, %error, "BigQuery call delayed");
                self.timings.pause(attempt).await;
                continue;
            }
            let error = match call().await {
                Ok(answer) => {
                    self.was_answered.store(true, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            // A token that was revoked, or has run out earlier than it said: another one, once.
            if is_unauthorized(&error) && !std::mem::replace(&mut renewed, true) {
                tracing::warn!(target = %self.target, error = foreign(&error), "BigQuery token renewed");
                self.tokens
                    .renew()
                    .await
                    .map_err(|error| Fault::Other(error.to_string()))?;
                continue;
            }
            if !is_transient(&error) || !patient {
                return Err(Fault::from(&error));
            }
            attempt += 1;
            tracing::warn!(target = %self.target, attempt, error = foreign(&error), "BigQuery call delayed");
            self.timings.pause(attempt).await;
        }
    }

    fn name(&self, contract: &Contract) -> String {
        format!("{}.{}.{}", self.project, self.dataset, contract.table)
    }

    /// Starts the job, or finds the one that an earlier try has started, and waits for its end. Tells whether it was
    /// there already.
    async fn run(&self, id: &str, load: JobConfigurationLoad) -> Result<(Job, bool), Fault> {
        let job = Job {
            configuration: Some(JobConfiguration {
                load: Some(load),
                ..JobConfiguration::default()
            }),
            job_reference: Some(JobReference {
                job_id: Some(id.into()),
                location: self.location.clone(),
                project_id: Some(self.project.clone()),
            }),
            ..Job::default()
        };
        let (job, is_earlier) = match self
            .call(|| self.client.job().insert(&self.project, job.clone()))
            .await
        {
            // Our own: a response was lost, or the program died between insert and poll.
            Err(Fault::Exists) => (self.find(id, self.timings.retry_for).await?, true),
            other => (other?, false),
        };
        tracing::info!(job = id, is_earlier, "waiting for the load job");
        Ok((self.until_done(id, job).await?, is_earlier))
    }

    async fn until_done(&self, id: &str, mut job: Job) -> Result<Job, Fault> {
        let started = Instant::now();
        let mut polls = 0;
        while job
            .status
            .as_ref()
            .and_then(|status| status.state.as_deref())
            != Some("DONE")
        {
            if started.elapsed() > self.timings.job_for {
                return Err(Fault::Other("the job does not end".into()));
            }
            polls += 1;
            self.timings.pause(polls).await;
            job = self.find(id, self.timings.retry_for).await?;
        }
        Ok(job)
    }

    /// `jobs.get`, which may answer 404 for a while after `jobs.insert` answered 409.
    async fn find(&self, id: &str, limit: Duration) -> Result<Job, Fault> {
        let started = Instant::now();
        let mut attempt = 0;
        loop {
            let location = self.location.as_deref();
            match self
                .call(|| self.client.job().get_job(&self.project, id, location))
                .await
            {
                Err(Fault::NotFound) if started.elapsed() < limit => {
                    attempt += 1;
                    self.timings.pause(attempt).await;
                }
                other => return other,
            }
        }
    }

    /// The dataset.
    pub(super) fn dataset(&self) -> &str {
        &self.dataset
    }

    /// The project.
    pub(super) fn project(&self) -> &str {
        &self.project
    }

    /// Makes a raw table if it does not exist. New columns come with the loads' schema, which may add them.
    pub(super) async fn make_raw_table(
        &self,
        name: &str,
        fields: &[Value],
        partitioning: Option<Value>,
    ) -> Result<(), (&'static str, Fault)> {
        let tables = self.client.table();
        match self
            .call(|| {
                tables.get(
                    &self.project,
                    &self.dataset,
                    name,
                    Some(vec!["tableReference", "schema"]),
                )
            })
            .await
        {
            Ok(_) => return Ok(()),
            Err(Fault::NotFound) => {}
            Err(fault) => return Err((LOOK, fault)),
        }
        let mut table = json!({
            "tableReference": {"projectId": self.project, "datasetId": self.dataset, "tableId": name},
            "schema": {"fields": fields},
            "description": "Raw records as the API sent them.",
            "labels": {"managed_by": "samsara-etl"},
        });
        if let Some(partitioning) = partitioning {
            table["timePartitioning"] = partitioning;
        }
        let path = format!("projects/{}/datasets/{}/tables", self.project, self.dataset);
        match self.call(|| self.post(&path, &table)).await {
            Ok(()) | Err(Fault::Exists) => Ok(()),
            Err(fault) => Err((MAKE, fault)),
        }
    }

    /// A call about a table that failed. That is never a statement about the table's shape.
    pub(super) fn called(&self, table: &str, verb: &'static str, fault: Fault) -> LoadError {
        let table = format!("{}.{}.{table}", self.project, self.dataset);
        match fault {
            Fault::Quota(reason) => LoadError::Quota {
                table,
                used: None,
                reason,
            },
            fault => LoadError::Call {
                table,
                verb,
                reason: fault.to_string(),
            },
        }
    }

    /// Runs a load job whose configuration the client library cannot express; gives the rows it wrote and the number
    /// of its id. No state keeps the attempts: those of earlier runs that failed are found by their ids, and passed.
    pub(super) async fn run_raw(
        &self,
        table: &str,
        daily: bool,
        stem: &str,
        load: Value,
    ) -> Result<(u64, u32), Fault> {
        let path = format!("projects/{}/jobs", self.project);
        let mut tries = 0;
        for attempt in 1.. {
            let id = format!("{stem}-{attempt}");
            let mut reference = json!({"projectId": self.project, "jobId": id});
            if let Some(location) = &self.location {
                reference["location"] = json!(location);
            }
            let job = json!({"jobReference": reference, "configuration": {"load": load}});
            self.limits.wait(table, daily).await;
            let is_earlier = match self.call(|| self.post(&path, &job)).await {
                Ok(()) => false,
                Err(Fault::Exists) => true,
                Err(fault) => return Err(fault),
            };
            let job = self
                .until_done(&id, self.find(&id, self.timings.retry_for).await?)
                .await?;
            let Some(failure) = job
                .status
                .as_ref()
                .and_then(|status| status.error_result.as_ref())
            else {
                let rows = job
                    .statistics
                    .and_then(|all| all.load)
                    .and_then(|load| load.output_rows);
                let rows = rows.and_then(|rows| rows.parse().ok());
                let rows = rows.ok_or_else(|| {
                    Fault::Other("the job does not say how many rows it wrote".into())
                })?;
                return Ok((rows, attempt));
            };
            tries += u32::from(!is_earlier);
            let may_pass = failed_by_service(&job) && tries < self.timings.attempts;
            if !is_earlier && !may_pass {
                let is_quota = failure.reason.as_deref() == Some("quotaExceeded");
                return Err(if is_quota {
                    Fault::Quota(text(failure))
                } else {
                    Fault::Other(text(failure))
                });
            }
            if !is_earlier {
                self.timings.pause(tries).await;
            }
        }
        Err(Fault::Other("no job id is left".into()))
    }

    /// Posts a document that the client library cannot express.
    async fn post(&self, path: &str, body: &Value) -> Result<(), BQError> {
        let request = self
            .http
            .post(format!("{}/{path}", self.base))
            .bearer_auth(self.tokens.bearer())
            .json(body);
        let response = request.send().await?;
        if response.status().is_success() {
            response.bytes().await?;
            return Ok(());
        }
        // As the library does: what is no JSON is a gateway's page, and a fault that passes.
        Err(BQError::ResponseError {
            error: response.json().await?,
        })
    }

    /// `layout` is the table whose partitioning and clustering a batch that reshapes it must repeat: a load can change
    /// columns and types in one step with the rows, but not these.
    fn load_configuration(
        &self,
        contract: &Contract,
        batch: &Batch,
        layout: Option<&Table>,
    ) -> JobConfigurationLoad {
        let day = batch
            .partitions
            .first()
            .and_then(|flat| flat.partition.day());
        let (table, disposition) = match day {
            Some(day) if !batch.whole => (
                format!("{}${}", contract.table, day.format("%Y%m%d")),
                "WRITE_TRUNCATE",
            ),
            _ if batch.reshape => (contract.table.clone(), "WRITE_TRUNCATE"),
            // Keeps the table's schema, descriptions and constraints.
            _ => (contract.table.clone(), "WRITE_TRUNCATE_DATA"),
        };
        JobConfigurationLoad {
            time_partitioning: layout.and_then(|table| table.time_partitioning.clone()),
            clustering: layout.and_then(|table| table.clustering.clone()),
            source_uris: Some(batch.uris().collect()),
            source_format: Some("PARQUET".into()),
            destination_table: Some(TableReference::new(&self.project, &self.dataset, &table)),
            create_disposition: Some("CREATE_NEVER".into()),
            write_disposition: Some(disposition.into()),
            schema: Some(TableSchema::new(
                contract.columns.iter().map(field).collect(),
            )),
            ..JobConfigurationLoad::default()
        }
    }

    /// The rows of a query.
    async fn query(&self, sql: String) -> Result<Vec<Vec<Option<String>>>, Fault> {
        let mut request = QueryRequest::new(sql);
        request.location = self.location.clone();
        request.timeout_ms = Some(60_000);
        let answer = self
            .call(|| self.client.job().query(&self.project, request.clone()))
            .await?;
        if answer.job_complete != Some(true) || answer.page_token.is_some() {
            return Err(Fault::Other("the query took too long".into()));
        }
        let text = |value: Option<serde_json::Value>| match value {
            Some(serde_json::Value::String(text)) => Some(text),
            Some(serde_json::Value::Null) | None => None,
            Some(other) => Some(other.to_string()),
        };
        let rows = answer.rows.unwrap_or_default().into_iter();
        Ok(rows
            .map(|row| {
                row.columns
                    .unwrap_or_default()
                    .into_iter()
                    .map(|cell| text(cell.value))
                    .collect()
            })
            .collect())
    }

    /// What is to be changed in the table's resource, if anything: new columns, other comments, labels, expiration.
    fn patch(&self, contract: &Contract, existing: &Table, missing: &[&Column]) -> Option<Table> {
        let wanted = self.fresh_table(contract);
        let mut fields = existing.schema.fields.clone().unwrap_or_default();
        let mut changed = !missing.is_empty();
        for found in &mut fields {
            let column = contract
                .columns
                .iter()
                .find(|column| column.name.eq_ignore_ascii_case(&found.name));
            // A column without a comment keeps what someone may have written in BigQuery.
            let Some(described) = column.map(field).and_then(|field| field.description) else {
                continue;
            };
            if found.description.as_ref() != Some(&described) {
                found.description = Some(described);
                changed = true;
            }
        }
        fields.extend(missing.iter().map(|column| field(column)));
        changed |= existing.description != wanted.description;
        let labels = existing.labels.clone().unwrap_or_default();
        changed |= wanted
            .labels
            .iter()
            .flatten()
            .any(|(key, value)| labels.get(key) != Some(value));
        let expiration = |table: &Table| {
            table
                .time_partitioning
                .as_ref()
                .and_then(|it| it.expiration_ms.clone())
        };
        // An expiration that was set in BigQuery stays as long as the model says nothing.
        let expires = expiration(&wanted).is_some() && expiration(&wanted) != expiration(existing);
        let mut patch = wanted;
        patch.schema = TableSchema::new(fields);
        patch.clustering = None;
        if !expires {
            patch.time_partitioning = None;
        }
        (changed || expires).then_some(patch)
    }
}

#[async_trait]
impl Warehouse for BigQuery {
    fn target(&self) -> &str {
        &self.target
    }

    async fn prepare(&self, contract: &Contract) -> Result<Prepared, LoadError> {
        let name = self.name(contract);
        let failed = |verb| move |fault| self.called(&contract.table, verb, fault);
        let tables = self.client.table();
        let get = || tables.get(&self.project, &self.dataset, &contract.table, None);
        let existing = match self.call(get).await {
            Err(Fault::NotFound) => {
                let fresh = self.fresh_table(contract);
                self.limits
                    .wait(&contract.table, contract.partition_by.is_some())
                    .await;
                match self.call(|| tables.create(fresh.clone())).await {
                    Ok(_) => return Ok(Prepared { is_empty: true }),
                    Err(Fault::Exists) => self.call(get).await.map_err(failed(LOOK))?,
                    Err(fault) => return Err(failed(MAKE)(fault)),
                }
            }
            other => other.map_err(failed(LOOK))?,
        };
        let partitioned = existing.time_partitioning.as_ref();
        let field_of = partitioned.and_then(|partitioning| partitioning.field.as_deref());
        let daily = partitioned.is_none_or(|partitioning| partitioning.r#type == "DAY");
        if field_of != contract.partition_by.as_deref() || !daily {
            return Err(LoadError::Shape {
                table: name,
                reason: format!(
                    "it is partitioned by {}, the model by day of {}: BigQuery cannot change that, so give the model a \
                     new name; or run with --full-refresh {}, which drops the table and makes it anew",
                    field_of.unwrap_or("nothing"),
                    contract.partition_by.as_deref().unwrap_or("nothing"),
                    contract.table
                ),
                replaceable: false,
            });
        }
        let fields = existing.schema.fields.clone().unwrap_or_default();
        let columns: Vec<_> = fields
            .iter()
            .map(|field| (field.name.clone(), type_name(&field.r#type).to_string()))
            .collect();
        let missing = missing_columns(&name, contract, &columns).map_err(|error| match error {
            LoadError::Shape { table, reason, .. } => LoadError::Shape {
                table,
                reason,
                replaceable: keeps_layout(contract, &existing),
            },
            error => error,
        })?;
        let prepared = Prepared {
            is_empty: existing.num_rows.as_deref() == Some("0"),
        };
        let Some(patch) = self.patch(contract, &existing, &missing) else {
            return Ok(prepared);
        };
        self.limits
            .wait(&contract.table, contract.partition_by.is_some())
            .await;
        self.call(|| tables.patch(&self.project, &self.dataset, &contract.table, patch.clone()))
            .await
            .map(|_| prepared)
            .map_err(failed("change"))
    }

    async fn replace(&self, contract: &Contract, batch: &Batch) -> Result<Loaded, LoadError> {
        let table = self.name(contract);
        let layout = match batch.reshape {
            true => {
                let get = || async {
                    self.client
                        .table()
                        .get(&self.project, &self.dataset, &contract.table, None)
                        .await
                };
                Some(
                    self.call(get)
                        .await
                        .map_err(|fault| self.called(&contract.table, LOOK, fault))?,
                )
            }
            false => None,
        };
        let load = self.load_configuration(contract, batch, layout.as_ref());
        let stem = self.stem(contract, batch);
        let mut tries = 0;
        let mut attempt = batch.attempt.max(1);
        loop {
            let id = format!("{stem}-{attempt}");
            let refused = |used: Option<u32>, reason: String| LoadError::Refused {
                table: table.clone(),
                partition: batch.label(),
                job: Some(id.clone()),
                used,
                reason,
            };
            self.limits
                .wait(&contract.table, contract.partition_by.is_some())
                .await;
            let (job, is_earlier) = match self.run(&id, load.clone()).await {
                Ok(job) => job,
                Err(Fault::Quota(reason)) => {
                    return Err(LoadError::Quota {
                        table,
                        used: None,
                        reason,
                    });
                }
                // The job may still be at work: its id is not used up.
                Err(fault) => return Err(refused(None, fault.to_string())),
            };
            // DONE is not success.
            let failure = job
                .status
                .as_ref()
                .and_then(|status| status.error_result.as_ref());
            let Some(failure) = failure else {
                let reported = job
                    .statistics
                    .as_ref()
                    .and_then(|all| all.load.as_ref()?.output_rows.as_ref());
                let rows = reported.and_then(|rows| rows.parse().ok());
                let silent = || {
                    refused(
                        Some(attempt),
                        "the job does not say how many rows it wrote".into(),
                    )
                };
                let rows = rows.ok_or_else(silent)?;
                return Ok(Loaded {
                    rows,
                    job: Some(id),
                    attempt,
                });
            };
            tries += u32::from(!is_earlier);
            match failure.reason.as_deref() {
                // What became of an earlier run's job says nothing against this one: its id is used up, no more.
                _ if is_earlier => {
                    tracing::info!(
                        job = id,
                        reason = text(failure),
                        "the job of an earlier run failed, trying again"
                    );
                    attempt += 1;
                }
                Some("quotaExceeded") => {
                    return Err(LoadError::Quota {
                        table,
                        used: Some(attempt),
                        reason: text(failure),
                    });
                }
                // The service's own fault: the id is used up, the next one may pass.
                _ if failed_by_service(&job) && tries < self.timings.attempts => {
                    tracing::warn!(
                        job = id,
                        reason = text(failure),
                        "load job failed, trying again"
                    );
                    self.timings.pause(tries).await;
                    attempt += 1;
                }
                _ => return Err(refused(Some(attempt), text(failure))),
            }
        }
    }

    fn job(&self, contract: &Contract, batch: &Batch) -> Option<String> {
        Some(self.stem(contract, batch))
    }

    async fn settle(&self, started: &Started) -> Result<(), LoadError> {
        let failed = |fault: Fault| LoadError::Unreachable {
            target: self.target.clone(),
            reason: fault.to_string(),
        };
        // The earlier run may have gone on to further attempts: each time that one failed.
        for attempt in started.attempt.. {
            let id = format!("{}-{attempt}", started.job);
            let job = match self.find(&id, self.timings.look_for).await {
                Ok(job) => self.until_done(&id, job).await.map_err(failed)?,
                Err(Fault::NotFound) => return Ok(()),
                Err(fault) => return Err(failed(fault)),
            };
            if job
                .status
                .is_none_or(|status| status.error_result.is_none())
            {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn counts(&self, contract: &Contract) -> Result<BTreeMap<Partition, u64>, LoadError> {
        let day = match &contract.partition_by {
            Some(name) => format!("FORMAT_DATE('%Y-%m-%d', DATE(`{name}`))"),
            None => "'snapshot'".into(),
        };
        let sql = format!(
            "SELECT {day} AS day, COUNT(*) AS n FROM `{}`.`{}`.`{}` GROUP BY 1",
            self.project, self.dataset, contract.table
        );
        let failed = |reason: String| LoadError::Unreachable {
            target: self.name(contract),
            reason,
        };
        let rows = match self.query(sql).await {
            // A table that is not there holds nothing.
            Err(Fault::NotFound) => Vec::new(),
            other => other.map_err(|fault| failed(fault.to_string()))?,
        };
        let mut counts = BTreeMap::new();
        for row in rows {
            let mut cells = row.into_iter().map(Option::unwrap_or_default);
            let (day, count) = (
                cells.next().unwrap_or_default(),
                cells.next().unwrap_or_default(),
            );
            let partition =
                Partition::parse(&day).ok_or_else(|| failed(format!("rows of the day `{day}`")))?;
            counts.insert(
                partition,
                count
                    .parse()
                    .map_err(|_| failed(format!("`{count}` rows")))?,
            );
        }
        Ok(counts)
    }

    async fn drop_table(&self, contract: &Contract) -> Result<(), LoadError> {
        let table = self.client.table();
        match self
            .call(|| table.delete(&self.project, &self.dataset, &contract.table))
            .await
        {
            Ok(()) | Err(Fault::NotFound) => Ok(()),
            Err(fault) => Err(self.called(&contract.table, "drop", fault)),
        }
    }

    async fn drop_rehearsals(&self, mark: &str) -> Result<Vec<String>, LoadError> {
        let tables = self.client.table();
        let (mut page, mut left) = (None, Vec::new());
        loop {
            let options = || {
                page.clone().map_or_else(ListOptions::default, |at| {
                    ListOptions::default().page_token(at)
                })
            };
            let listed = self
                .call(|| tables.list(&self.project, &self.dataset, options()))
                .await;
            let listed = listed.map_err(|fault| self.unreachable(&fault))?;
            left.extend(listed.tables.unwrap_or_default());
            page = listed.next_page_token;
            if page.is_none() {
                break;
            }
        }
        let mut dropped = Vec::new();
        for table in left {
            let name = table.table_reference.table_id;
            let is_managed = table
                .labels
                .is_some_and(|labels| labels.get(OWN.0).is_some_and(|by| by == OWN.1));
            if !is_managed || !is_rehearsal(&name, mark) {
                continue;
            }
            match self
                .call(|| tables.delete(&self.project, &self.dataset, &name))
                .await
            {
                Ok(()) | Err(Fault::NotFound) => dropped.push(name),
                Err(fault) => return Err(self.called(&name, "drop", fault)),
            }
        }
        Ok(dropped)
    }
}

/// What calls about tables do, for messages.
const LOOK: &str = "look at";
const MAKE: &str = "make";
/// The label of tables that the program has made.
const OWN: (&str, &str) = ("managed_by", "samsara-etl");
/// How long a rehearsal's table stays that nobody drops: longer than BigQuery lets a load job run.
const REHEARSAL_LIVES: TimeDelta = TimeDelta::hours(24);

/// Whether a load can give the table the contract's columns: those that it is partitioned and clustered by must be
/// among them, and of types that BigQuery takes for that.
fn keeps_layout(contract: &Contract, existing: &Table) -> bool {
    let column = |name: &str| {
        contract
            .columns
            .iter()
            .find(|column| column.name.eq_ignore_ascii_case(name))
    };
    let clustered = existing
        .clustering
        .as_ref()
        .and_then(|clustering| clustering.fields.as_ref());
    let can_cluster = |name: &String| {
        column(name)
            .is_some_and(|it| !matches!(it.column_type, ColumnType::Float64 | ColumnType::Bytes))
    };
    let field_of = existing
        .time_partitioning
        .as_ref()
        .and_then(|partitioning| partitioning.field.as_deref());
    let is_same = |name: &str| {
        let found = existing
            .schema
            .fields
            .iter()
            .flatten()
            .find(|field| field.name.eq_ignore_ascii_case(name));
        let wanted = column(name).map(|column| column.column_type.bigquery());
        wanted.is_some() && found.map(|field| type_name(&field.r#type)) == wanted
    };
    clustered.into_iter().flatten().all(can_cluster) && field_of.is_none_or(is_same)
}

/// Reasons of a failed job that say nothing against the load itself.
const FAULTS_OF_THE_SERVICE: &[&str] = &[
    "jobBackendError",
    "jobInternalError",
    "jobRateLimitExceeded",
    "backendError",
    "internalError",
    "rateLimitExceeded",
];

/// Whether the job has failed for such a reason.
fn failed_by_service(job: &Job) -> bool {
    let reason = job
        .status
        .as_ref()
        .and_then(|status| status.error_result.as_ref()?.reason.as_deref());
    reason.is_some_and(|reason| FAULTS_OF_THE_SERVICE.contains(&reason))
}

impl BigQuery {
    fn fresh_table(&self, contract: &Contract) -> Table {
        let schema = TableSchema::new(contract.columns.iter().map(field).collect());
        let mut table = Table::new(&self.project, &self.dataset, &contract.table, schema);
        table.description = Some(contract.description.clone());
        let own = (OWN.0.to_string(), OWN.1.to_string());
        if contract.table.starts_with(REHEARSAL) {
            table.expiration_time = Some(
                (Utc::now() + REHEARSAL_LIVES)
                    .timestamp_millis()
                    .to_string(),
            );
        }
        table.labels = Some(contract.labels.clone().into_iter().chain([own]).collect());
        table.time_partitioning = contract
            .partition_by
            .as_deref()
            .map(|name| TimePartitioning {
                expiration_ms: contract
                    .partition_expiration_days
                    .map(|days| (u64::from(days) * 86_400_000).to_string()),
                ..TimePartitioning::per_day().field(name)
            });
        if !contract.cluster_by.is_empty() {
            table.clustering = Some(Clustering {
                fields: Some(contract.cluster_by.clone()),
            });
        }
        table
    }

    /// Table, partitions and content: the same load has the same id, whoever asks for it. The dataset is part of it,
    /// because job ids are the project's.
    fn stem(&self, contract: &Contract, batch: &Batch) -> String {
        let mut digest = Sha256::new();
        digest.update(&self.target);
        digest.update([u8::from(batch.whole)]);
        if batch.reshape {
            digest.update("reshape");
        }
        for flat in &batch.partitions {
            digest.update(&flat.fingerprint);
        }
        for uri in batch.uris() {
            digest.update([0]);
            digest.update(uri);
        }
        let content: String = digest
            .finalize()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("samsara-etl-{}-{}-{content}", contract.table, batch.label())
    }
}

fn field(column: &Column) -> TableFieldSchema {
    let field_type = match column.column_type {
        ColumnType::String => FieldType::String,
        ColumnType::Int64 => FieldType::Int64,
        ColumnType::Float64 => FieldType::Float64,
        ColumnType::Bool => FieldType::Bool,
        ColumnType::Timestamp => FieldType::Timestamp,
        ColumnType::Date => FieldType::Date,
        ColumnType::Numeric => FieldType::Numeric,
        ColumnType::Bytes => FieldType::Bytes,
    };
    let mut field = TableFieldSchema::new(&column.name, field_type);
    field.mode = Some("NULLABLE".into());
    field.description = column
        .description
        .as_ref()
        .map(|text| text.chars().take(1024).collect());
    field
}

fn type_name(field_type: &FieldType) -> &'static str {
    match field_type {
        FieldType::String => "STRING",
        FieldType::Bytes => "BYTES",
        FieldType::Integer | FieldType::Int64 => "INT64",
        FieldType::Float | FieldType::Float64 => "FLOAT64",
        FieldType::Numeric => "NUMERIC",
        FieldType::Boolean | FieldType::Bool => "BOOL",
        FieldType::Timestamp => "TIMESTAMP",
        FieldType::Date => "DATE",
        FieldType::Bignumeric => "BIGNUMERIC",
        FieldType::Time => "TIME",
        FieldType::Datetime => "DATETIME",
        FieldType::Record | FieldType::Struct => "STRUCT",
        FieldType::Geography => "GEOGRAPHY",
        FieldType::Json => "JSON",
        FieldType::Interval => "INTERVAL",
    }
}

fn text(error: &ErrorProto) -> String {
    let part = |text: &Option<String>| foreign(text.as_deref().unwrap_or_default());
    format!("{}: {}", part(&error.reason), part(&error.message))
}

fn reasons(error: &BQError) -> Vec<&str> {
    match error {
        BQError::ResponseError { error } => error
            .error
            .errors
            .iter()
            .filter_map(|one| one.get("reason").map(String::as_str))
            .collect(),
        _ => Vec::new(),
    }
}

fn is_unauthorized(error: &BQError) -> bool {
    matches!(error, BQError::ResponseError { error: response } if response.error.code == 401)
}

fn is_transient(error: &BQError) -> bool {
    match error {
        // Connections, time-outs, and error pages that are not JSON.
        BQError::RequestError(_) => true,
        BQError::ResponseError { error: response } => {
            let reasons = reasons(error);
            if reasons.contains(&"quotaExceeded") {
                return false;
            }
            matches!(response.error.code, 429 | 500 | 502 | 503 | 504)
                || reasons.iter().any(|reason| {
                    matches!(
                        *reason,
                        "rateLimitExceeded" | "backendError" | "internalError" | "badGateway"
                    )
                })
        }
        _ => false,
    }
}

impl From<&BQError> for Fault {
    fn from(error: &BQError) -> Self {
        let BQError::ResponseError { error: response } = error else {
            return Self::Other(foreign(error));
        };
        let message = foreign(&response.error.message);
        match response.error.code {
            404 => Self::NotFound,
            409 => Self::Exists,
            _ if reasons(error).contains(&"quotaExceeded") => Self::Quota(message),
            401 => Self::Other(format!(
                "{message} (401: BigQuery does not accept the credentials)"
            )),
            403 => Self::Other(format!(
                "{message} (needs roles bigquery.dataEditor and bigquery.jobUser)"
            )),
            code => Self::Other(format!("{code}: {message}")),
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotFound => f.write_str("it does not exist (404)"),
            Self::Exists => f.write_str("it exists already (409)"),
            Self::Quota(reason) => write!(f, "quota: {reason}"),
            Self::Other(reason) => f.write_str(reason),
        }
    }
}
