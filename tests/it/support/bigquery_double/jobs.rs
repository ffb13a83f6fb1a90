//! Load jobs, which take their time and end as their scripts say.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use chrono::Utc;
use serde_json::{Value, json};

use super::Refusal;

const MOST_URIS: usize = 10_000;
const LONGEST_ID: usize = 1024;

/// How one load job goes.
#[derive(Clone, Debug)]
pub struct JobScript {
    /// The job is PENDING when inserted and until it was requested this many times.
    pub pending_polls: u32,
    /// Then it is RUNNING for this many times.
    pub running_polls: u32,
    /// It is not DONE before this time has passed, however often it is requested.
    pub lasts: Duration,
    /// It is not found this many times before it shows up; its id is taken from the start.
    pub hidden_polls: u32,
    /// Ends in this error, as (reason, message), and changes nothing.
    pub error: Option<(&'static str, &'static str)>,
    /// The rows it reports, instead of what the double counts.
    pub output_rows: Option<u64>,
}

impl Default for JobScript {
    fn default() -> Self {
        Self {
            pending_polls: 1,
            running_polls: 1,
            lasts: Duration::ZERO,
            hidden_polls: 0,
            error: None,
            output_rows: None,
        }
    }
}

/// A load job that was taken on.
#[derive(Clone, Debug)]
pub struct LoadJob {
    pub id: String,
    pub location: String,
    /// `dataset.table`, with the partition decorator if there is one.
    pub table: String,
    pub uris: Vec<String>,
    /// The whole `configuration` as it was sent.
    pub configuration: Value,
    /// How often it was requested, apart from the times it was hidden.
    pub polls: u32,
    script: JobScript,
    pub(super) rows: u64,
    /// The same by day.
    pub(super) days: BTreeMap<String, u64>,
    is_settled: bool,
    hidden_polls_left: u32,
    inserted: Instant,
    created_ms: i64,
}

impl LoadJob {
    /// The job a request to insert describes, or why it is refused.
    pub(super) fn new(request: &Value, default_location: &str) -> Result<Self, Refusal> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let invalid = |message: &str| Refusal::new(StatusCode::BAD_REQUEST, message);
        let reference = &request["jobReference"];
        let id = text(&reference["jobId"]);
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || "_-".contains(letter);
        if id.is_empty() || id.len() > LONGEST_ID || !id.chars().all(allowed) {
            return Err(invalid("Invalid job ID"));
        }
        let load = &request["configuration"]["load"];
        let uris = load["sourceUris"]
            .as_array()
            .map(|uris| uris.iter().map(text).collect());
        let uris: Vec<String> = uris.unwrap_or_default();
        if uris.is_empty()
            || uris.len() > MOST_URIS
            || !uris.iter().all(|uri| uri.starts_with("gs://"))
        {
            return Err(invalid("A load job needs 1 to 10,000 gs:// URIs"));
        }
        let table = &load["destinationTable"];
        Ok(Self {
            id,
            location: reference["location"]
                .as_str()
                .unwrap_or(default_location)
                .to_owned(),
            table: format!("{}.{}", text(&table["datasetId"]), text(&table["tableId"])),
            uris,
            configuration: request["configuration"].clone(),
            polls: 0,
            script: JobScript::default(),
            rows: 0,
            days: BTreeMap::new(),
            is_settled: false,
            hidden_polls_left: 0,
            inserted: Instant::now(),
            created_ms: Utc::now().timestamp_millis(),
        })
    }

    pub fn dataset(&self) -> &str {
        self.table
            .split_once('.')
            .map_or("", |(dataset, _)| dataset)
    }

    pub fn state(&self) -> &'static str {
        let running_until = self.script.pending_polls + self.script.running_polls;
        if self.polls < self.script.pending_polls {
            "PENDING"
        } else if self.polls < running_until || self.inserted.elapsed() < self.script.lasts {
            "RUNNING"
        } else {
            "DONE"
        }
    }

    pub fn succeeded(&self) -> bool {
        self.state() == "DONE" && self.script.error.is_none()
    }

    fn resource(&self, project: &str) -> Value {
        let state = self.state();
        let mut status = json!({ "state": state });
        let mut statistics = json!({ "creationTime": self.created_ms.to_string() });
        if state != "PENDING" {
            statistics["startTime"] = self.created_ms.to_string().into();
        }
        if state == "DONE" {
            statistics["endTime"] = Utc::now().timestamp_millis().to_string().into();
            if let Some((reason, message)) = self.script.error {
                let error = json!({ "reason": reason, "message": message });
                status["errorResult"] = error.clone();
                status["errors"] = json!([error]);
            } else {
                statistics["load"] = json!({
                    "inputFiles": self.uris.len().to_string(),
                    "outputRows": self.rows.to_string(),
                    "badRecords": "0",
                });
            }
        }
        json!({
            "kind": "bigquery#job",
            "id": format!("{project}:{}.{}", self.location, self.id),
            "jobReference": { "projectId": project, "jobId": self.id, "location": self.location },
            "configuration": self.configuration,
            "status": status,
            "statistics": statistics,
        })
    }
}

type Director = Box<dyn FnMut(&LoadJob) -> JobScript + Send>;
type RowCounter = Box<dyn FnMut(&[String]) -> u64 + Send>;

/// All jobs of the project, and what decides over new ones.
pub struct Jobs {
    by_id: BTreeMap<String, LoadJob>,
    /// In the order in which they were inserted.
    ids: Vec<String>,
    pub director: Director,
    pub row_counter: RowCounter,
}

impl Default for Jobs {
    fn default() -> Self {
        Self {
            by_id: BTreeMap::new(),
            ids: Vec::new(),
            director: Box::new(|_| JobScript::default()),
            row_counter: Box::new(|_| 0),
        }
    }
}

impl Jobs {
    pub fn all(&self) -> Vec<LoadJob> {
        self.ids.iter().map(|id| self.by_id[id].clone()).collect()
    }

    /// Takes a job on, which fails if there is a reason.
    pub fn insert(
        &mut self,
        mut job: LoadJob,
        refused: Option<String>,
        project: &str,
    ) -> Result<(LoadJob, Value), Refusal> {
        if self.by_id.contains_key(&job.id) {
            let message = format!("Already Exists: Job {project}:{}.{}", job.location, job.id);
            return Err(Refusal::new(StatusCode::CONFLICT, message));
        }
        job.script = (self.director)(&job);
        for uri in &job.uris {
            // Objects of earlier versions of the program lie in `date=…`.
            let day = |folder: &'_ str| {
                Some(
                    folder
                        .strip_prefix("partition_day=")
                        .or(folder.strip_prefix("date="))?
                        .to_owned(),
                )
            };
            let day = uri
                .split('/')
                .find_map(day)
                .unwrap_or_else(|| "snapshot".to_owned());
            *job.days.entry(day).or_default() += (self.row_counter)(std::slice::from_ref(uri));
        }
        let decorator = job.table.split_once('$').map(|(_, day)| day);
        let strays = |day: &String| {
            decorator.is_some_and(|own| *day != "snapshot" && day.replace('-', "") != own)
        };
        if job.days.keys().any(strays) {
            job.script.error = Some(("invalid", "Some rows belong to different partitions"));
        }
        if let Some(reason) = refused {
            job.script.error = Some(("invalid", reason.leak()));
        }
        job.rows = job
            .script
            .output_rows
            .unwrap_or_else(|| job.days.values().sum());
        job.hidden_polls_left = job.script.hidden_polls;
        self.ids.push(job.id.clone());
        self.by_id.insert(job.id.clone(), job.clone());
        let resource = job.resource(project);
        Ok((job, resource))
    }

    /// Whether a job is to be applied to its table, which is once.
    pub fn complete(&mut self, id: &str) -> bool {
        self.by_id
            .get_mut(id)
            .is_some_and(|job| !std::mem::replace(&mut job.is_settled, true))
    }

    /// A job as `jobs.get` finds it, one poll further.
    pub fn poll(
        &mut self,
        id: &str,
        location: Option<&str>,
        project: &str,
    ) -> Result<(LoadJob, Value), Refusal> {
        let missing = || {
            Refusal::new(
                StatusCode::NOT_FOUND,
                format!("Not found: Job {project}:{id}"),
            )
        };
        let job = self.by_id.get_mut(id).ok_or_else(missing)?;
        // Only jobs of the two multi-regions are found without their location.
        let found = match location {
            Some(location) => job.location.eq_ignore_ascii_case(location),
            None => ["US", "EU"].contains(&job.location.as_str()),
        };
        if !found {
            return Err(missing());
        }
        if job.hidden_polls_left > 0 {
            job.hidden_polls_left -= 1;
            return Err(missing());
        }
        job.polls += 1;
        Ok((job.clone(), job.resource(project)))
    }
}
