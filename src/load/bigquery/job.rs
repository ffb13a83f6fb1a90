//! Load jobs: ids that make a lost response harmless, and one loop that sends, waits and reads the outcome.

use std::time::Duration;

use backon::Retryable;
use gcp_bigquery_client::error::BQError;
use gcp_bigquery_client::model::job::Job;
use gcp_bigquery_client::model::job_configuration::JobConfiguration;
use gcp_bigquery_client::model::job_configuration_load::JobConfigurationLoad;
use gcp_bigquery_client::model::job_reference::JobReference;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::load::bigquery::call_error::{CallError, JobFailure};
use crate::load::bigquery::client::BigQuery;
use crate::load::error::LoadError;
use crate::load::warehouse::Loaded;
use crate::state::Started;

/// A load job to be run.
pub(super) struct LoadJob<'a> {
    /// The table, without partition decorator.
    pub(super) table: &'a str,
    /// Whether the table is partitioned, which determines how often it may be updated.
    pub(super) is_partitioned: bool,
    /// The partitions, for messages.
    pub(super) label: String,
    /// The id without its attempt.
    pub(super) stem: String,
    /// Number of the first id to use.
    pub(super) first_attempt: u32,
    /// What to load.
    pub(super) load: JobConfigurationLoad,
    /// `enableListInference`: BigQuery reads nested lists and maps from Parquet only with it.
    pub(super) infers_lists: bool,
}

/// How a job has ended. `DONE` alone does not mean success.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// It wrote this many rows, if it says so.
    Success(Option<u64>),
    Failure(JobFailure),
}

/// What follows from a job that has failed.
#[derive(Debug, PartialEq)]
enum AfterFailure {
    /// The job of an earlier run: its id is used up, but that does not affect this load.
    NextId,
    /// A failure within BigQuery: after a pause, the next id may succeed.
    PauseThenNextId,
    Quota,
    Refused,
}

/// `tries` counts the failed jobs of this run, including this one.
fn after_failure(failure: &JobFailure, is_earlier: bool, tries: u32, most: u32) -> AfterFailure {
    if is_earlier {
        AfterFailure::NextId
    } else if failure.is_quota() {
        AfterFailure::Quota
    } else if failure.is_transient() && tries < most {
        AfterFailure::PauseThenNextId
    } else {
        AfterFailure::Refused
    }
}

/// Digest of a load for its job id: the dataset, because job ids are unique in the project, then everything that
/// distinguishes two loads.
pub(super) struct ContentId(Sha256);

impl ContentId {
    pub(super) fn of(target: &str) -> Self {
        Self(Sha256::new_with_prefix(target))
    }

    pub(super) fn add(&mut self, part: impl AsRef<[u8]>) {
        self.0.update(part);
    }

    /// Adds the addresses of the objects and returns the text.
    pub(super) fn finish(mut self, uris: impl Iterator<Item = String>) -> String {
        for uri in uris {
            self.0.update([0]);
            self.0.update(uri);
        }
        const_hex::encode(&self.0.finalize()[..8])
    }
}

impl BigQuery {
    /// Runs a load job to its end. The load runs under the first id that is not used up: a job that exists already is
    /// waited for, and counts as this load if it succeeded.
    pub(super) async fn run_load_job(&self, job: &LoadJob<'_>) -> Result<Loaded, LoadError> {
        let table = self.full_name(job.table);
        let mut pauses = self.timings.pauses();
        let mut tries = 0;
        let mut attempt = job.first_attempt;
        loop {
            let id = format!("{}-{attempt}", job.stem);
            self.limits.wait(job.table, job.is_partitioned).await;
            let (ended, is_earlier) = match self.insert_and_await(&id, job).await {
                Ok(ended) => ended,
                Err(error) => return Err(job_call(table, job, id, error)),
            };
            let failure = match outcome(&ended) {
                Outcome::Success(Some(rows)) => {
                    return Ok(Loaded {
                        rows,
                        job: Some(id),
                        attempt,
                    });
                }
                Outcome::Success(None) => {
                    return Err(LoadError::RowsUnknown {
                        table,
                        partition: job.label.clone(),
                        job: id,
                        used: attempt,
                    });
                }
                Outcome::Failure(failure) => failure,
            };
            tries += u32::from(!is_earlier);
            match after_failure(&failure, is_earlier, tries, self.timings.attempts) {
                AfterFailure::NextId => {
                    tracing::info!(job = id, %failure, "the job of an earlier run failed, trying again");
                }
                AfterFailure::PauseThenNextId => {
                    tracing::warn!(job = id, %failure, "load job failed, trying again");
                    tokio::time::sleep(pauses.next().unwrap_or_default()).await;
                }
                AfterFailure::Quota => {
                    return Err(LoadError::Quota {
                        table,
                        used: Some(attempt),
                        message: failure.to_string(),
                    });
                }
                AfterFailure::Refused => {
                    return Err(LoadError::Refused {
                        table,
                        partition: job.label.clone(),
                        job: id,
                        used: attempt,
                        error: failure,
                    });
                }
            }
            attempt += 1;
        }
    }

    /// Starts the job, or finds the one that an earlier attempt has started, and waits for its end. Returns whether it
    /// existed already.
    async fn insert_and_await(
        &self,
        id: &str,
        job: &LoadJob<'_>,
    ) -> Result<(Job, bool), CallError> {
        let document = self.document(id, job)?;
        let (job, is_earlier) = match self.call(|| self.insert_job(&document)).await {
            // It is ours: a response was lost, or the program died between insert and poll.
            Err(CallError::AlreadyExists) => {
                (self.find_job(id, self.timings.retry_for).await?, true)
            }
            inserted => (inserted?, false),
        };
        tracing::info!(job = id, is_earlier, "waiting for the load job");
        Ok((self.await_end(id, job).await?, is_earlier))
    }

    /// The body of `jobs.insert`.
    fn document(&self, id: &str, job: &LoadJob<'_>) -> Result<Value, CallError> {
        let document = Job {
            configuration: Some(JobConfiguration {
                load: Some(job.load.clone()),
                ..JobConfiguration::default()
            }),
            job_reference: Some(JobReference {
                job_id: Some(id.into()),
                location: self.location.clone(),
                project_id: Some(self.project.clone()),
            }),
            ..Job::default()
        };
        let mut document = serde_json::to_value(document).map_err(BQError::from)?;
        if job.infers_lists {
            // `gcp-bigquery-client` 0.28 has no field for it.
            document["configuration"]["load"]["parquetOptions"] =
                json!({ "enableListInference": true });
        }
        Ok(document)
    }

    /// Polls until the job is `DONE`.
    async fn await_end(&self, id: &str, mut job: Job) -> Result<Job, CallError> {
        let started = Instant::now();
        let mut pauses = self.timings.pauses();
        while !is_done(&job) {
            if started.elapsed() > self.timings.job_for {
                return Err(CallError::EndlessJob);
            }
            tokio::time::sleep(pauses.next().unwrap_or_default()).await;
            job = self.find_job(id, self.timings.retry_for).await?;
        }
        Ok(job)
    }

    /// `jobs.get`, which may answer 404 for a while after `jobs.insert` answered 409.
    async fn find_job(&self, id: &str, limit: Duration) -> Result<Job, CallError> {
        let started = Instant::now();
        let location = self.location.as_deref();
        let jobs = self.client.job();
        let find = || self.call(|| jobs.get_job(&self.project, id, location));
        find.retry(self.timings.pauses())
            .when(|error| matches!(error, CallError::NotFound) && started.elapsed() < limit)
            .await
    }

    /// Waits for the jobs of a load that an earlier run has started: it may have started further attempts when one
    /// failed.
    pub(super) async fn await_attempts(&self, started: &Started) -> Result<(), LoadError> {
        for attempt in started.attempt.. {
            let id = format!("{}-{attempt}", started.job);
            let ended = match self.find_job(&id, self.timings.look_for).await {
                Ok(job) => self.await_end(&id, job).await,
                Err(CallError::NotFound) => return Ok(()),
                Err(error) => Err(error),
            };
            let ended = ended.map_err(|error| self.unreachable(error))?;
            if matches!(outcome(&ended), Outcome::Success(_)) {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// A failed call about a job: the job may still be running.
fn job_call(table: String, job: &LoadJob<'_>, id: String, error: CallError) -> LoadError {
    match error {
        CallError::Quota { message } => LoadError::Quota {
            table,
            used: None,
            message,
        },
        error => LoadError::JobCall {
            table,
            partition: job.label.clone(),
            job: id,
            error,
        },
    }
}

fn is_done(job: &Job) -> bool {
    let state = job
        .status
        .as_ref()
        .and_then(|status| status.state.as_deref());
    state == Some("DONE")
}

fn outcome(job: &Job) -> Outcome {
    let status = job.status.as_ref();
    if let Some(error) = status.and_then(|status| status.error_result.as_ref()) {
        return Outcome::Failure(error.into());
    }
    let load = job.statistics.as_ref().and_then(|all| all.load.as_ref());
    let rows = load.and_then(|load| load.output_rows.as_ref()?.parse().ok());
    Outcome::Success(rows)
}

#[cfg(test)]
mod tests {
    use gcp_bigquery_client::model::error_proto::ErrorProto;

    use super::*;

    #[test]
    fn failed_jobs_have_successors() {
        let cases = [
            ("invalid", false, 1, AfterFailure::Refused),
            ("invalid", true, 0, AfterFailure::NextId),
            ("quotaExceeded", false, 1, AfterFailure::Quota),
            ("quotaExceeded", true, 0, AfterFailure::NextId),
            ("backendError", false, 4, AfterFailure::PauseThenNextId),
            ("backendError", false, 5, AfterFailure::Refused),
        ];
        for (reason, is_earlier, tries, next) in cases {
            let failure = JobFailure::from(&ErrorProto {
                reason: Some(reason.into()),
                ..ErrorProto::default()
            });
            assert_eq!(
                after_failure(&failure, is_earlier, tries, 5),
                next,
                "{reason} {is_earlier} {tries}"
            );
        }
    }

    #[test]
    fn done_may_be_a_failure() {
        let job = |json: Value| serde_json::from_value::<Job>(json).unwrap();
        let done = job(
            json!({ "status": { "state": "DONE" }, "statistics": { "load": { "outputRows": "7" } } }),
        );
        assert!(is_done(&done));
        assert_eq!(outcome(&done), Outcome::Success(Some(7)));
        let silent = job(json!({ "status": { "state": "DONE" } }));
        assert_eq!(outcome(&silent), Outcome::Success(None));
        let failed =
            job(json!({ "status": { "state": "DONE", "errorResult": { "reason": "invalid" } } }));
        assert!(matches!(outcome(&failed), Outcome::Failure(_)));
        assert!(!is_done(&job(json!({ "status": { "state": "RUNNING" } }))));
    }
}
