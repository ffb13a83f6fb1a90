//! BigQuery: tables from contracts, and load jobs on `gs://` URIs.
//!
//! `gcp-bigquery-client` speaks the REST API; what it leaves to its user is here: retries (it has none, and an HTML
//! error page reaches us as a decode error without a status), job ids that make a lost response harmless, and the
//! reading of `errorResult`, since a job that is `DONE` may have failed.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gcp_bigquery_client::Client;
use gcp_bigquery_client::auth::Authenticator;
use gcp_bigquery_client::client_builder::ClientBuilder;
use gcp_bigquery_client::error::{BQError, ResponseError};
use gcp_bigquery_client::model::clustering::Clustering;
use gcp_bigquery_client::model::dataset::Dataset;
use gcp_bigquery_client::model::error_proto::ErrorProto;
use gcp_bigquery_client::model::field_type::FieldType;
use gcp_bigquery_client::model::job::Job;
use gcp_bigquery_client::model::job_configuration::JobConfiguration;
use gcp_bigquery_client::model::job_configuration_load::JobConfigurationLoad;
use gcp_bigquery_client::model::job_reference::JobReference;
use gcp_bigquery_client::model::table::Table;
use gcp_bigquery_client::model::table_field_schema::TableFieldSchema;
use gcp_bigquery_client::model::table_reference::TableReference;
use gcp_bigquery_client::model::table_schema::TableSchema;
use gcp_bigquery_client::model::time_partitioning::TimePartitioning;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{FlatObjects, LoadError, Loaded, Warehouse, missing_columns};
use crate::config::GoogleAccess;
use crate::store::layout::Partition;
use crate::transform::{Column, ColumnType, Contract};

/// How long a call is tried again: the default of Google's own clients.
const RETRY_FOR: Duration = Duration::from_secs(600);
/// How long a job may take. BigQuery itself ends a load job after six hours.
const JOB_FOR: Duration = Duration::from_secs(6 * 3600);
/// A job that failed through the service's own fault is tried under this many ids.
const MAX_ATTEMPTS: u32 = 5;

/// A BigQuery dataset.
pub struct BigQuery {
    client: Client,
    tokens: Arc<dyn Authenticator>,
    http: reqwest::Client,
    base: String,
    project: String,
    dataset: String,
    location: Option<String>,
    target: String,
}

/// How a post ended that brought nothing.
enum Posted {
    /// It may pass the next time.
    Transient(String),
    /// It will not.
    Final(Fault),
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
        let target = format!("bigquery:{project}.{dataset}");
        let unreachable = |reason: String| LoadError::Unreachable { target: target.clone(), reason };
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .timeout(Duration::from_secs(120))
            .build()
            .map_err(|error| unreachable(error.to_string()))?;
        let tokens = super::auth::authenticator(access).await.map_err(&unreachable)?;
        let host = access.bigquery_emulator.as_deref().unwrap_or("https://bigquery.googleapis.com");
        let base = format!("{host}/bigquery/v2");
        let mut builder = ClientBuilder::new();
        builder.with_client(http.clone()).with_v2_base_url(base.clone());
        let client =
            builder.build_from_authenticator(tokens.clone()).await.map_err(|error| unreachable(one_line(&error)))?;
        let mut warehouse = Self {
            client,
            tokens,
            http,
            base,
            project: project.into(),
            dataset: dataset.into(),
            location: location.map(str::to_string),
            target: target.clone(),
        };
        let found = match warehouse.call(|| warehouse.client.dataset().get(project, dataset)).await {
            Err(Fault::NotFound) => {
                let mut fresh = Dataset::new(project, dataset);
                fresh.location = location.map(str::to_string);
                match warehouse.call(|| warehouse.client.dataset().create(fresh.clone())).await {
                    Err(Fault::Exists) => warehouse.call(|| warehouse.client.dataset().get(project, dataset)).await,
                    other => other,
                }
            }
            other => other,
        };
        let found = found.map_err(|fault| unreachable(fault.to_string()))?;
        // Jobs run where the dataset is.
        warehouse.location = found.location.or(warehouse.location);
        Ok(warehouse)
    }

    /// Calls until there is an answer that will not change.
    async fn call<T, F>(&self, call: impl Fn() -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, BQError>>,
    {
        let started = Instant::now();
        let mut attempt: u32 = 0;
        loop {
            let error = match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if !is_transient(&error) || started.elapsed() > RETRY_FOR {
                return Err(Fault::from(&error));
            }
            attempt += 1;
            tracing::warn!(target = %self.target, attempt, error = one_line(&error), "BigQuery call delayed");
            pause(attempt).await;
        }
    }

    fn name(&self, contract: &Contract) -> String {
        format!("{}.{}.{}", self.project, self.dataset, contract.table)
    }

    /// Starts the job, or finds the one that an earlier try has started, and waits for its end.
    async fn run(&self, id: &str, load: JobConfigurationLoad) -> Result<Job, Fault> {
        let job = Job {
            configuration: Some(JobConfiguration { load: Some(load), ..JobConfiguration::default() }),
            job_reference: Some(JobReference {
                job_id: Some(id.into()),
                location: self.location.clone(),
                project_id: Some(self.project.clone()),
            }),
            ..Job::default()
        };
        let job = match self.call(|| self.client.job().insert(&self.project, job.clone())).await {
            // Our own: a response was lost, or the program died between insert and poll.
            Err(Fault::Exists) => self.find(id).await?,
            other => other?,
        };
        self.wait(id, job).await
    }

    /// Waits for the job's end, which is not its success.
    async fn wait(&self, id: &str, mut job: Job) -> Result<Job, Fault> {
        let started = Instant::now();
        let mut polls = 0;
        while job.status.as_ref().and_then(|status| status.state.as_deref()) != Some("DONE") {
            if started.elapsed() > JOB_FOR {
                return Err(Fault::Other("the job does not end".into()));
            }
            polls += 1;
            pause(polls).await;
            job = self.find(id).await?;
        }
        Ok(job)
    }

    /// `jobs.get`, which may answer 404 for a while after `jobs.insert` answered 409.
    async fn find(&self, id: &str) -> Result<Job, Fault> {
        let started = Instant::now();
        let mut attempt = 0;
        loop {
            let location = self.location.as_deref();
            match self.call(|| self.client.job().get_job(&self.project, id, location)).await {
                Err(Fault::NotFound) if started.elapsed() < RETRY_FOR => {
                    attempt += 1;
                    pause(attempt).await;
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

    /// Makes a raw table if it does not exist. New columns are added by the loads' schema.
    pub(super) async fn make_raw_table(
        &self,
        name: &str,
        fields: &[Value],
        partitioning: Option<Value>,
    ) -> Result<(), Fault> {
        let tables = self.client.table();
        match self.call(|| tables.get(&self.project, &self.dataset, name, Some(vec!["tableReference", "schema"]))).await
        {
            Ok(_) => return Ok(()),
            Err(Fault::NotFound) => {}
            Err(fault) => return Err(fault),
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
        match self.post(&path, &table).await {
            Ok(()) | Err(Fault::Exists) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// Runs a load job whose configuration the client library cannot express; gives the rows it wrote.
    pub(super) async fn run_raw(&self, id: &str, load: Value) -> Result<u64, Fault> {
        let mut reference = json!({"projectId": self.project, "jobId": id});
        if let Some(location) = &self.location {
            reference["location"] = json!(location);
        }
        let job = json!({"jobReference": reference, "configuration": {"load": load}});
        match self.post(&format!("projects/{}/jobs", self.project), &job).await {
            Ok(()) | Err(Fault::Exists) => {}
            Err(fault) => return Err(fault),
        }
        let job = self.wait(id, self.find(id).await?).await?;
        if let Some(failure) = job.status.as_ref().and_then(|status| status.error_result.as_ref()) {
            return Err(Fault::Other(text(failure)));
        }
        let rows = job.statistics.and_then(|all| all.load).and_then(|load| load.output_rows);
        rows.and_then(|rows| rows.parse().ok())
            .ok_or_else(|| Fault::Other("the job does not say how many rows it wrote".into()))
    }

    /// Posts a document until there is an answer that will not change.
    async fn post(&self, path: &str, body: &Value) -> Result<(), Fault> {
        let started = Instant::now();
        let mut attempt = 0;
        loop {
            let reason = match self.post_once(path, body).await {
                Ok(()) => return Ok(()),
                Err(Posted::Final(fault)) => return Err(fault),
                Err(Posted::Transient(reason)) => reason,
            };
            if started.elapsed() > RETRY_FOR {
                return Err(Fault::Other(reason));
            }
            attempt += 1;
            tracing::warn!(target = %self.target, attempt, error = reason, "BigQuery call delayed");
            pause(attempt).await;
        }
    }

    async fn post_once(&self, path: &str, body: &Value) -> Result<(), Posted> {
        let transient = |error: reqwest::Error| Posted::Transient(error.without_url().to_string());
        let token = self.tokens.access_token().await.map_err(|error| Posted::Final(Fault::from(&error)))?;
        let request = self.http.post(format!("{}/{path}", self.base)).bearer_auth(token).json(body);
        let response = request.send().await.map_err(transient)?;
        let status = response.status();
        let answer = response.bytes().await.map_err(transient)?;
        if status.is_success() {
            return Ok(());
        }
        match serde_json::from_slice::<ResponseError>(&answer) {
            Ok(error) => {
                let error = BQError::ResponseError { error };
                let fault = Fault::from(&error);
                Err(if is_transient(&error) { Posted::Transient(fault.to_string()) } else { Posted::Final(fault) })
            }
            // An error page for people, or nothing: a gateway's.
            Err(_) if status.is_server_error() || status.as_u16() == 429 => {
                Err(Posted::Transient(format!("{} without a JSON body", status.as_u16())))
            }
            Err(_) => Err(Posted::Final(Fault::Other(format!("{} without a JSON body", status.as_u16())))),
        }
    }

    fn load_configuration(&self, contract: &Contract, flat: &FlatObjects) -> JobConfigurationLoad {
        let (table, disposition) = match flat.partition {
            Partition::Day(day) => (format!("{}${}", contract.table, day.format("%Y%m%d")), "WRITE_TRUNCATE"),
            // Keeps the table's schema, descriptions and constraints.
            Partition::Snapshot => (contract.table.clone(), "WRITE_TRUNCATE_DATA"),
        };
        JobConfigurationLoad {
            source_uris: Some(flat.objects.iter().map(|object| flat.bucket.uri(&object.path)).collect()),
            source_format: Some("PARQUET".into()),
            destination_table: Some(TableReference::new(&self.project, &self.dataset, &table)),
            create_disposition: Some("CREATE_NEVER".into()),
            write_disposition: Some(disposition.into()),
            schema: Some(TableSchema::new(contract.columns.iter().map(field).collect())),
            ..JobConfigurationLoad::default()
        }
    }
}

#[async_trait]
impl Warehouse for BigQuery {
    fn target(&self) -> &str {
        &self.target
    }

    async fn prepare(&self, contract: &Contract) -> Result<(), LoadError> {
        let name = self.name(contract);
        let refused = |fault: Fault| LoadError::Shape { table: name.clone(), reason: fault.to_string() };
        let tables = self.client.table();
        let get = || tables.get(&self.project, &self.dataset, &contract.table, None);
        let existing = match self.call(get).await {
            Err(Fault::NotFound) => {
                let fresh = self.fresh_table(contract);
                match self.call(|| tables.create(fresh.clone())).await {
                    Ok(_) => return Ok(()),
                    Err(Fault::Exists) => self.call(get).await.map_err(refused)?,
                    Err(fault) => return Err(refused(fault)),
                }
            }
            other => other.map_err(refused)?,
        };
        let partitioned = existing.time_partitioning.as_ref();
        let field_of = partitioned.and_then(|partitioning| partitioning.field.as_deref());
        let daily = partitioned.is_none_or(|partitioning| partitioning.r#type == "DAY");
        if field_of != contract.partition_by.as_deref() || !daily {
            return Err(LoadError::Shape {
                table: name,
                reason: format!(
                    "it is partitioned by {}, the model by day of {}: partitioning cannot be changed, \
                     so copy the table away, drop it and run again",
                    field_of.unwrap_or("nothing"),
                    contract.partition_by.as_deref().unwrap_or("nothing")
                ),
            });
        }
        let fields = existing.schema.fields.clone().unwrap_or_default();
        let columns: Vec<_> =
            fields.iter().map(|field| (field.name.clone(), type_name(&field.r#type).to_string())).collect();
        let missing = missing_columns(&name, contract, &columns)?;
        if missing.is_empty() {
            return Ok(());
        }
        let mut patch = self.fresh_table(contract);
        patch.time_partitioning = None;
        patch.clustering = None;
        patch.schema = TableSchema::new(fields.into_iter().chain(missing.into_iter().map(field)).collect());
        self.call(|| tables.patch(&self.project, &self.dataset, &contract.table, patch.clone()))
            .await
            .map(|_| ())
            .map_err(refused)
    }

    async fn replace(&self, contract: &Contract, flat: &FlatObjects) -> Result<Loaded, LoadError> {
        let table = self.name(contract);
        let load = self.load_configuration(contract, flat);
        for attempt in 1..=MAX_ATTEMPTS {
            let id = job_id(&contract.table, flat, attempt);
            let refused = |reason: String| LoadError::Refused {
                table: table.clone(),
                partition: flat.partition,
                job: Some(id.clone()),
                reason,
            };
            let job = match self.run(&id, load.clone()).await {
                Ok(job) => job,
                Err(Fault::Quota(reason)) => return Err(LoadError::Quota { table, reason }),
                Err(fault) => return Err(refused(fault.to_string())),
            };
            // DONE is not success.
            let failure = job.status.as_ref().and_then(|status| status.error_result.as_ref());
            let Some(failure) = failure else {
                let reported = job.statistics.and_then(|all| all.load).and_then(|load| load.output_rows);
                let rows = reported.and_then(|rows| rows.parse().ok());
                let rows = rows.ok_or_else(|| refused("the job does not say how many rows it wrote".into()))?;
                return Ok(Loaded { rows, job: Some(id) });
            };
            match failure.reason.as_deref() {
                Some("quotaExceeded") => return Err(LoadError::Quota { table, reason: text(failure) }),
                // The service's own fault: the id is used up, the next one may pass.
                Some(
                    "jobBackendError" | "jobInternalError" | "jobRateLimitExceeded" | "backendError" | "internalError",
                ) if attempt < MAX_ATTEMPTS => {
                    tracing::warn!(job = id, reason = text(failure), "load job failed, trying again");
                    pause(attempt).await;
                }
                _ => return Err(refused(text(failure))),
            }
        }
        Err(LoadError::Unreachable { target: self.target.clone(), reason: "no attempt is left".into() })
    }
}

impl BigQuery {
    fn fresh_table(&self, contract: &Contract) -> Table {
        let schema = TableSchema::new(contract.columns.iter().map(field).collect());
        let mut table = Table::new(&self.project, &self.dataset, &contract.table, schema);
        table.description = Some(contract.description.clone());
        table.labels = Some([("managed_by".to_string(), "samsara-etl".to_string())].into());
        table.time_partitioning = contract.partition_by.as_deref().map(|name| TimePartitioning::per_day().field(name));
        if !contract.cluster_by.is_empty() {
            table.clustering = Some(Clustering { fields: Some(contract.cluster_by.clone()) });
        }
        table
    }
}

/// Table, partition, content and attempt: the same load has the same id, whoever asks for it.
pub(super) fn job_id(table: &str, flat: &FlatObjects, attempt: u32) -> String {
    let mut digest = Sha256::new();
    digest.update(&flat.fingerprint);
    for object in &flat.objects {
        digest.update([0]);
        digest.update(flat.bucket.uri(&object.path));
    }
    let content: String = digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("samsara-etl-{table}-{}-{content}-{attempt}", flat.partition)
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
    field.description = column.description.as_ref().map(|text| text.chars().take(1024).collect());
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
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}: {}", part(&error.reason), part(&error.message).replace('\n', " "))
}

fn reasons(error: &BQError) -> Vec<&str> {
    match error {
        BQError::ResponseError { error } => {
            error.error.errors.iter().filter_map(|one| one.get("reason").map(String::as_str)).collect()
        }
        _ => Vec::new(),
    }
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
                    matches!(*reason, "rateLimitExceeded" | "backendError" | "internalError" | "badGateway")
                })
        }
        _ => false,
    }
}

impl From<&BQError> for Fault {
    fn from(error: &BQError) -> Self {
        let BQError::ResponseError { error: response } = error else { return Self::Other(one_line(error)) };
        let message = response.error.message.replace('\n', " ");
        match response.error.code {
            404 => Self::NotFound,
            409 => Self::Exists,
            _ if reasons(error).contains(&"quotaExceeded") => Self::Quota(message),
            403 => Self::Other(format!("{message} (needs roles bigquery.dataEditor and bigquery.jobUser)")),
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

fn one_line(error: &BQError) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// 0.1 s, doubling up to 5 s, with jitter.
async fn pause(attempt: u32) {
    let ceiling = Duration::from_millis(100).saturating_mul(1 << attempt.min(6)).min(Duration::from_secs(5));
    tokio::time::sleep(ceiling.mul_f64(0.5 + 0.5 * rand::random::<f64>())).await;
}
