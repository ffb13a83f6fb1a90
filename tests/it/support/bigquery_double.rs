//! A double of BigQuery's REST protocol for load jobs, which needs no Python and fails on request.
//!
//! It reads no data: jobs take as long and end as a script says. It knows the number of rows of each day of a table,
//! where URIs name their day as `partition_day=2024-01-01`, and answers any query with that. For SQL there is the
//! emulator.

mod jobs;
mod schema;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::{ConnectInfo, Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use self::jobs::Jobs;
pub use self::jobs::{JobScript, LoadJob};
use super::{
    faults::{Action, Fault, Faults},
    wire::{Connection, Server},
};

const PROJECT: &str = "test-project";

/// A request that reached the double.
#[derive(Clone, Debug, PartialEq)]
pub struct BigQueryRequest {
    pub method: String,
    /// The path within the project, as `datasets/d/tables/t`; a job that is inserted has the target by which it is then
    /// requested, `jobs/ID`.
    pub target: String,
    pub query: String,
    /// Null if there was none.
    pub body: Value,
    /// None where the connection was cut instead.
    pub status: Option<u16>,
}

/// The running double; dropping it stops it.
///
/// Its fault rules match a request's target: see [`BigQueryRequest`].
pub struct BigQueryDouble {
    shared: Arc<Shared>,
    server: Server,
}

#[derive(Default)]
struct Shared {
    warehouse: Mutex<Warehouse>,
    requests: Mutex<Vec<BigQueryRequest>>,
    faults: Faults,
}

impl BigQueryDouble {
    /// A project with these datasets, in the location US.
    pub fn start(datasets: &[&str]) -> Self {
        let shared = Arc::<Shared>::default();
        for dataset in datasets {
            let resource =
                json!({ "datasetReference": { "datasetId": dataset }, "location": "US" });
            let inserted = shared.warehouse.lock().unwrap().insert_dataset(&resource);
            assert!(inserted.is_ok(), "dataset {dataset} is given twice");
        }
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shared));
        let server = Server::start(router);
        Self { shared, server }
    }

    /// The value for `BIGQUERY_EMULATOR_HOST`.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    pub fn project(&self) -> &str {
        PROJECT
    }

    pub fn fault(&self, fault: Fault) {
        self.shared.faults.add(fault);
    }

    pub fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    /// From now on `director` decides how a new job goes.
    pub fn direct_jobs(&self, director: impl FnMut(&LoadJob) -> JobScript + Send + 'static) {
        self.shared.warehouse.lock().unwrap().jobs.director = Box::new(director);
    }

    /// From now on a new job reports as many rows as `counter` says for its URIs, instead of none.
    pub fn count_rows(&self, counter: impl FnMut(&[String]) -> u64 + Send + 'static) {
        self.shared.warehouse.lock().unwrap().jobs.row_counter = Box::new(counter);
    }

    /// The jobs that were taken on, in order.
    pub fn jobs(&self) -> Vec<LoadJob> {
        self.shared.warehouse.lock().unwrap().jobs.all()
    }

    /// How often a job was sent, refused and repeated ones included.
    pub fn inserts(&self) -> usize {
        let requests = self.shared.requests.lock().unwrap();
        let is_insert = |request: &&BigQueryRequest| {
            request.method == "POST" && request.target.starts_with("jobs")
        };
        requests.iter().filter(is_insert).count()
    }

    /// Every request so far, in the order in which they were answered.
    pub fn requests(&self) -> Vec<BigQueryRequest> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The resource of a table, given as `dataset.table`.
    pub fn table(&self, name: &str) -> Option<Value> {
        self.shared
            .warehouse
            .lock()
            .unwrap()
            .tables
            .get(name)
            .cloned()
    }
}

/// For a fault rule: an error in BigQuery's form, as 403 with `rateLimitExceeded`.
pub fn error(status: u16, reason: &str, message: &str) -> Action {
    Action::Reply {
        status,
        content_type: "application/json",
        body: error_body(status, reason, message).to_string(),
    }
}

/// For a fault rule: what a gateway in front of BigQuery says when it fails.
pub fn bad_gateway() -> Action {
    let body = "<!DOCTYPE html><html><title>502 Bad Gateway</title><p>Try again.</html>".to_owned();
    Action::Reply {
        status: 502,
        content_type: "text/html; charset=UTF-8",
        body,
    }
}

fn error_body(status: u16, reason: &str, message: &str) -> Value {
    let item = json!({ "domain": "global", "reason": reason, "message": message });
    json!({ "error": { "code": status, "message": message, "errors": [item] } })
}

/// Why a request is not carried out.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    fn not_found(what: &str, name: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            format!("Not found: {what} {PROJECT}:{name}"),
        )
    }

    fn exists(what: &str, name: &str) -> Self {
        Self::new(
            StatusCode::CONFLICT,
            format!("Already Exists: {what} {PROJECT}:{name}"),
        )
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let reason = match self.status.as_u16() {
            401 => "authError",
            403 => "accessDenied",
            404 => "notFound",
            409 => "duplicate",
            429 => "rateLimitExceeded",
            502 => "badGateway",
            400..500 => "invalid",
            _ => "backendError",
        };
        let body = error_body(self.status.as_u16(), reason, &self.message);
        (self.status, Json(body)).into_response()
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
        // The client went away in the middle of its body.
        connection.cut();
        return StatusCode::BAD_REQUEST.into_response();
    };
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let target = target(parts.uri.path(), &body);
    let request = (parts.method.as_str(), target.as_str());
    let refuse =
        |status| Refusal::new(status, "A fault rule of the double said so").into_response();
    let apply = || {
        let applied = shared
            .warehouse
            .lock()
            .unwrap()
            .apply(&parts.method, &target, &query, &body);
        applied.map_or_else(IntoResponse::into_response, |resource| {
            Json(resource).into_response()
        })
    };
    let (response, status) = shared
        .faults
        .answer(request, &connection, refuse, apply)
        .await;
    let method = parts.method.to_string();
    let request = BigQueryRequest {
        method,
        target,
        query,
        body,
        status,
    };
    shared.requests.lock().unwrap().push(request);
    response
}

/// See [`BigQueryRequest::target`]; the whole path if it is not one of the project's.
fn target(path: &str, body: &Value) -> String {
    let prefix = format!("/bigquery/v2/projects/{PROJECT}/");
    let target = path.strip_prefix(&prefix).unwrap_or(path);
    match body["jobReference"]["jobId"].as_str() {
        Some(id) if target == "jobs" => format!("jobs/{id}"),
        _ => target.to_owned(),
    }
}

#[derive(Default)]
struct Warehouse {
    datasets: BTreeMap<String, Value>,
    /// By `dataset.table`.
    tables: BTreeMap<String, Value>,
    /// Rows by table and day; `snapshot` where no day is named.
    rows: BTreeMap<String, BTreeMap<String, u64>>,
    jobs: Jobs,
}

impl Warehouse {
    fn apply(
        &mut self,
        method: &Method,
        target: &str,
        query: &str,
        body: &Value,
    ) -> Result<Value, Refusal> {
        let parts: Vec<&str> = target.split('/').collect();
        match (method.as_str(), parts.as_slice()) {
            ("POST", ["datasets"]) => self.insert_dataset(body),
            ("GET", ["datasets", dataset]) => self.dataset(dataset).cloned(),
            ("POST", ["datasets", dataset, "tables"]) => self.insert_table(dataset, body),
            ("GET", ["datasets", dataset, "tables"]) => self.list_tables(dataset, query),
            ("GET", ["datasets", dataset, "tables", table]) => {
                self.existing_table(&format!("{dataset}.{table}")).cloned()
            }
            ("PATCH", ["datasets", dataset, "tables", table]) => {
                let resource = self.existing_table(&format!("{dataset}.{table}"))?;
                merge(resource, body);
                Ok(resource.clone())
            }
            ("DELETE", ["datasets", dataset, "tables", table]) => {
                let name = format!("{dataset}.{table}");
                self.rows.remove(&name);
                self.tables
                    .remove(&name)
                    .ok_or_else(|| Refusal::not_found("Table", &name))
                    .map(|_| json!({}))
            }
            ("POST", ["jobs"] | ["jobs", _]) => self.insert_job(body),
            ("GET", ["jobs", id]) => {
                let query: HashMap<_, _> = url::form_urlencoded::parse(query.as_bytes())
                    .into_owned()
                    .collect();
                let location = query.get("location").map(String::as_str);
                let (job, resource) = self.jobs.poll(id, location, PROJECT)?;
                self.complete(&job);
                Ok(resource)
            }
            // It reads no SQL, so any statement passes.
            ("POST", ["queries"]) if body["dryRun"] == true => Ok(json!({ "jobComplete": true })),
            // It holds no rows, so that no key stands twice.
            ("POST", ["queries"])
                if body["query"]
                    .as_str()
                    .is_some_and(|sql| sql.contains(" HAVING ")) =>
            {
                Ok(json!({ "jobComplete": true }))
            }
            ("POST", ["queries"]) => self.count(body["query"].as_str().unwrap_or_default()),
            _ => Err(Refusal::new(
                StatusCode::NOT_IMPLEMENTED,
                format!("The double has no {method} {target}"),
            )),
        }
    }

    fn dataset(&self, name: &str) -> Result<&Value, Refusal> {
        self.datasets
            .get(name)
            .ok_or_else(|| Refusal::not_found("Dataset", name))
    }

    fn insert_dataset(&mut self, body: &Value) -> Result<Value, Refusal> {
        let name = body["datasetReference"]["datasetId"]
            .as_str()
            .unwrap_or_default();
        if self.datasets.contains_key(name) {
            return Err(Refusal::exists("Dataset", name));
        }
        let mut resource = json!({
            "kind": "bigquery#dataset",
            "id": format!("{PROJECT}:{name}"),
            "location": "US",
        });
        merge(&mut resource, body);
        resource["datasetReference"]["projectId"] = PROJECT.into();
        self.datasets.insert(name.to_owned(), resource.clone());
        Ok(resource)
    }

    fn existing_table(&mut self, name: &str) -> Result<&mut Value, Refusal> {
        self.tables
            .get_mut(name)
            .ok_or_else(|| Refusal::not_found("Table", name))
    }

    fn insert_table(&mut self, dataset: &str, body: &Value) -> Result<Value, Refusal> {
        self.dataset(dataset)?;
        let table = body["tableReference"]["tableId"]
            .as_str()
            .unwrap_or_default();
        let name = format!("{dataset}.{table}");
        if self.tables.contains_key(&name) {
            return Err(Refusal::exists("Table", &name));
        }
        let mut resource = json!({
            "kind": "bigquery#table",
            "id": format!("{PROJECT}:{name}"),
            "type": "TABLE",
            "numRows": "0",
        });
        merge(&mut resource, body);
        resource["tableReference"] =
            json!({ "projectId": PROJECT, "datasetId": dataset, "tableId": table });
        self.tables.insert(name, resource.clone());
        Ok(resource)
    }

    /// A page of the tables of a dataset, two at a time.
    fn list_tables(&self, dataset: &str, query: &str) -> Result<Value, Refusal> {
        self.dataset(dataset)?;
        let mut token =
            url::form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "pageToken");
        let from: usize = token
            .next()
            .map_or(0, |(_, token)| token.parse().expect("a token of ours"));
        let prefix = format!("{dataset}.");
        let all: Vec<&Value> = self
            .tables
            .iter()
            .filter(|(name, _)| name.starts_with(&prefix))
            .map(|(_, table)| table)
            .collect();
        let page = all.iter().skip(from).take(2).map(
            |table| json!({ "tableReference": table["tableReference"], "labels": table["labels"], "type": "TABLE" }),
        );
        let mut listed =
            json!({ "kind": "bigquery#tableList", "tables": page.collect::<Vec<_>>() });
        if from + 2 < all.len() {
            listed["nextPageToken"] = (from + 2).to_string().into();
        }
        Ok(listed)
    }

    fn insert_job(&mut self, body: &Value) -> Result<Value, Refusal> {
        let dataset = &body["configuration"]["load"]["destinationTable"]["datasetId"];
        let dataset = self.dataset(dataset.as_str().unwrap_or_default())?;
        let location = dataset["location"].as_str().unwrap_or("US");
        let job = LoadJob::new(body, location)?;
        if !job.location.eq_ignore_ascii_case(location) {
            return Err(Refusal::not_found("Dataset", job.dataset()));
        }
        let table = job.table.split('$').next().unwrap_or_default();
        let refused = self
            .tables
            .get(table)
            .and_then(|table| schema::refuse(table, &job));
        let (job, resource) = self.jobs.insert(job, refused, PROJECT)?;
        self.complete(&job);
        Ok(resource)
    }

    /// Rows by day of the table that the query names as `` `project`.`dataset`.`table` ``.
    fn count(&mut self, sql: &str) -> Result<Value, Refusal> {
        let names: Vec<&str> = sql
            .split_once("FROM ")
            .map_or("", |(_, from)| from)
            .split('`')
            .collect();
        let [_, _, _, dataset, _, table, ..] = names[..] else {
            return Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "The query names no table",
            ));
        };
        let name = format!("{dataset}.{table}");
        self.existing_table(&name)?;
        let counted = self
            .rows
            .get(&name)
            .into_iter()
            .flatten()
            .filter(|(_, rows)| **rows > 0);
        let rows: Vec<Value> = counted
            .map(|(day, rows)| json!({ "f": [{ "v": day }, { "v": rows.to_string() }] }))
            .collect();
        Ok(json!({ "jobComplete": true, "rows": rows }))
    }

    /// Counts the rows of a successful job, and makes the table that it found missing.
    fn complete(&mut self, job: &LoadJob) {
        let table = job.table.split('$').next().unwrap_or_default();
        let Some((dataset, name)) = table.split_once('.') else {
            return;
        };
        if !job.succeeded() {
            return;
        }
        if !self.jobs.complete(&job.id) {
            return;
        }
        let held = self.rows.entry(table.to_owned()).or_default();
        if !job.table.contains('$') {
            held.clear();
        }
        held.extend(job.days.clone());
        let total: u64 = held.values().sum();
        if let Some(resource) = self.tables.get_mut(table) {
            resource["numRows"] = total.to_string().into();
            schema::apply(resource, job);
            return;
        }
        let mut resource = json!({ "tableReference": { "tableId": name } });
        for key in ["schema", "timePartitioning", "clustering"] {
            resource[key] = job.configuration["load"][key].clone();
        }
        let inserted = self.insert_table(dataset, &resource);
        inserted.expect("a dataset that was there when the job was inserted");
    }
}

/// Puts the fields of `patch` into `target`, object by object; null removes a field.
fn merge(target: &mut Value, patch: &Value) {
    let (Some(fields), Some(patch)) = (target.as_object_mut(), patch.as_object()) else {
        *target = patch.clone();
        return;
    };
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name.as_str()).or_insert(Value::Null), value);
        }
    }
}
