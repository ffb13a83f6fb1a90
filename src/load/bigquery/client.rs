//! One dataset, and how its API is called: tokens, retries, and the run's lock before each try.
//!
//! `gcp-bigquery-client` speaks the REST API, and leaves retries to its user: it has none, and an HTML error page
//! reaches us as a decode error without a status.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backon::Retryable;
use gcp_bigquery_client::Client;
use gcp_bigquery_client::client_builder::ClientBuilder;
use gcp_bigquery_client::error::BQError;
use gcp_bigquery_client::model::dataset::Dataset;
use gcp_bigquery_client::model::job::Job;
use gcp_bigquery_client::model::table_reference::TableReference;
use serde_json::Value;
use tokio::time::Instant;

use crate::config::{GoogleAccess, HttpConfig, WaitScale};
use crate::load::bigquery::auth::Tokens;
use crate::load::bigquery::call_error::{CallError, is_transient, is_unauthorized};
use crate::load::bigquery::limit::UpdateLimits;
use crate::load::bigquery::timings::Timings;
use crate::load::error::LoadError;
use crate::redact::foreign;
use crate::state::Fence;

/// Timeout of a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one call may take: every call that is made answers within a minute ([`Timings`] are for jobs).
const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// A BigQuery dataset.
pub struct BigQuery {
    pub(super) client: Client,
    pub(super) tokens: Tokens,
    /// Whether a call was ever answered: credentials that never worked are not worth retrying.
    was_answered: AtomicBool,
    http: reqwest::Client,
    base: String,
    pub(super) project: String,
    pub(super) dataset: String,
    pub(super) location: Option<String>,
    pub(super) target: String,
    pub(super) timings: Timings,
    pub(super) limits: UpdateLimits,
    fence: Fence,
}

/// The name of a dataset in the state.
pub(in crate::load) fn target(project: &str, dataset: &str) -> String {
    format!("bigquery:{project}.{dataset}")
}

/// One try of a call that failed.
struct FailedTry {
    error: CallError,
    /// Whether to try again.
    retry: bool,
}

impl FailedTry {
    fn last(error: impl Into<CallError>) -> Self {
        Self {
            error: error.into(),
            retry: false,
        }
    }
}

impl BigQuery {
    /// Connects, and creates the dataset if it does not exist.
    pub async fn connect(
        project: &str,
        dataset: &str,
        location: Option<&str>,
        access: &GoogleAccess,
    ) -> Result<Self, LoadError> {
        let timings = Timings::default().scaled(access.wait_scale);
        Self::connect_with(project, dataset, location, access, timings).await
    }

    /// Connects as [`BigQuery::connect`] does, with other timings.
    pub async fn connect_with(
        project: &str,
        dataset: &str,
        location: Option<&str>,
        access: &GoogleAccess,
        timings: Timings,
    ) -> Result<Self, LoadError> {
        let mut warehouse = Self::with_access(project, dataset, access, timings).await?;
        if !warehouse.find_dataset(location).await? {
            let mut fresh = Dataset::new(project, dataset);
            fresh.location = location.map(str::to_string);
            match warehouse
                .call(|| warehouse.client.dataset().create(fresh.clone()))
                .await
            {
                Ok(_) | Err(CallError::AlreadyExists) => {}
                Err(error) => return Err(warehouse.unreachable(error)),
            }
            warehouse.find_dataset(location).await?;
        }
        warehouse.location = warehouse.location.or_else(|| location.map(str::to_string));
        Ok(warehouse)
    }

    /// Connects for reading; none if the dataset does not exist.
    pub(in crate::load) async fn look(
        project: &str,
        dataset: &str,
        location: Option<&str>,
        access: &GoogleAccess,
    ) -> Result<Option<Self>, LoadError> {
        let mut warehouse = Self::with_access(project, dataset, access, Timings::default()).await?;
        Ok(warehouse.find_dataset(location).await?.then_some(warehouse))
    }

    /// Sends no request once the fence is closed: a job that is sent then could undo what the run that took over the
    /// lock has loaded.
    pub fn fenced(self, fence: &Fence) -> Self {
        Self {
            fence: fence.clone(),
            ..self
        }
    }

    /// The dataset's location, if BigQuery reports it.
    pub fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }

    /// A client with the configured credentials; sends no request yet.
    pub(super) async fn with_access(
        project: &str,
        dataset: &str,
        access: &GoogleAccess,
        timings: Timings,
    ) -> Result<Self, LoadError> {
        let host = access
            .bigquery_emulator
            .as_deref()
            .unwrap_or("https://bigquery.googleapis.com");
        let tokens = Tokens::of(access).map_err(|error| LoadError::Unreachable {
            target: target(project, dataset),
            error: error.into(),
        })?;
        let warehouse =
            Self::with_tokens(host, project, dataset, &access.http, tokens, timings).await?;
        Ok(Self {
            limits: UpdateLimits::new(access.wait_scale),
            ..warehouse
        })
    }

    /// The same at another address, with other tokens.
    pub(super) async fn with_tokens(
        host: &str,
        project: &str,
        dataset: &str,
        http: &HttpConfig,
        tokens: Tokens,
        timings: Timings,
    ) -> Result<Self, LoadError> {
        let target = target(project, dataset);
        let unreachable = |error: CallError| LoadError::Unreachable {
            target: target.clone(),
            error,
        };
        let http = crate::http::builder_for(http, host)
            .map(|builder| {
                builder
                    .connect_timeout(CONNECT_TIMEOUT)
                    .timeout(CALL_TIMEOUT)
            })
            .and_then(crate::http::build)
            .map_err(|error| unreachable(error.into()))?;
        let base = format!("{host}/bigquery/v2");
        let mut builder = ClientBuilder::new();
        builder
            .with_client(http.clone())
            .with_v2_base_url(base.clone());
        let client = builder
            .build_from_authenticator(Arc::new(tokens.clone()))
            .await
            .map_err(|error| unreachable(error.into()))?;
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

    /// Whether the dataset exists; if so, jobs run where it is, which must be where it was requested.
    pub(super) async fn find_dataset(&mut self, wanted: Option<&str>) -> Result<bool, LoadError> {
        let found = match self
            .call(|| self.client.dataset().get(&self.project, &self.dataset))
            .await
        {
            Ok(found) => found,
            Err(CallError::NotFound) => return Ok(false),
            Err(error) => return Err(self.unreachable(error)),
        };
        if let (Some(wanted), Some(actual)) = (wanted, &found.location)
            && !wanted.eq_ignore_ascii_case(actual)
        {
            return Err(LoadError::DatasetElsewhere {
                target: self.target.clone(),
                actual: actual.clone(),
                wanted: wanted.into(),
            });
        }
        self.location = found.location;
        Ok(true)
    }

    /// Repeats a call until it has an outcome that another attempt would not change, or [`Timings::retry_for`] is over.
    pub(super) async fn call<T, F>(&self, call: impl Fn() -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, BQError>>,
    {
        let started = Instant::now();
        let may_renew = AtomicBool::new(true);
        let tried = || async {
            let retry = started.elapsed() <= self.timings.retry_for;
            self.try_call(&call, retry, &may_renew).await
        };
        let mut attempt: u32 = 0;
        tried
            .retry(self.timings.pauses())
            .when(|failed: &FailedTry| failed.retry)
            .notify(|failed, _| {
                attempt += 1;
                let error = &failed.error;
                tracing::warn!(target = %self.target, attempt, %error, "BigQuery call delayed");
            })
            .await
            .map_err(|failed| failed.error)
    }

    /// One attempt, with a second token if the first is refused. `retry` says whether there is time for another
    /// attempt.
    async fn try_call<T, F>(
        &self,
        call: &impl Fn() -> F,
        retry: bool,
        may_renew: &AtomicBool,
    ) -> Result<T, FailedTry>
    where
        F: Future<Output = Result<T, BQError>>,
    {
        loop {
            self.fence.check().map_err(FailedTry::last)?;
            if let Err(error) = self.tokens.refresh().await {
                let retry =
                    retry && error.is_transient() && self.was_answered.load(Ordering::Relaxed);
                let error = error.into();
                return Err(FailedTry { error, retry });
            }
            let error = match call().await {
                Ok(answer) => {
                    self.was_answered.store(true, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            // A token that was revoked, or has expired early, is replaced once.
            if is_unauthorized(&error) && may_renew.swap(false, Ordering::Relaxed) {
                tracing::warn!(target = %self.target, error = foreign(&error), "BigQuery token renewed");
                self.tokens.renew().await.map_err(FailedTry::last)?;
                continue;
            }
            let retry = retry && is_transient(&error);
            let error = error.into();
            return Err(FailedTry { error, retry });
        }
    }

    /// `jobs.insert` of a document that the client library cannot express.
    pub(super) async fn insert_job(&self, job: &Value) -> Result<Job, BQError> {
        let request = self
            .http
            .post(format!("{}/projects/{}/jobs", self.base, self.project))
            .bearer_auth(self.tokens.bearer())
            .json(job);
        let response = request.send().await?;
        if response.status().is_success() {
            return Ok(response.json().await?);
        }
        // As the library does: a body that is not JSON comes from a gateway, and the error is transient.
        Err(BQError::ResponseError {
            error: response.json().await?,
        })
    }

    pub(super) fn unreachable(&self, error: CallError) -> LoadError {
        LoadError::Unreachable {
            target: self.target.clone(),
            error,
        }
    }

    /// A failed call about a table. That never says anything about the table's shape.
    pub(super) fn table_call(
        &self,
        table: &str,
        action: &'static str,
        error: CallError,
    ) -> LoadError {
        let table = self.full_name(table);
        match error {
            CallError::Quota { message } => LoadError::Quota {
                table,
                used: None,
                message,
            },
            error => LoadError::Call {
                table,
                action,
                error,
            },
        }
    }

    /// The table's name with project and dataset.
    pub(super) fn full_name(&self, table: &str) -> String {
        format!("{}.{}.{table}", self.project, self.dataset)
    }

    pub(super) fn reference(&self, table: &str) -> TableReference {
        TableReference::new(&self.project, &self.dataset, table)
    }
}
