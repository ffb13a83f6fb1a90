//! The simulator, requested over HTTP.

mod consistency;
mod inventory;
mod oddities;
mod pages;
mod protocol;
mod safety;
mod time_travel;
mod work;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::{Row, Simulator, SimulatorConfig};

type Parameters<'a> = &'a [(&'a str, &'a str)];

/// A client that sends one request, without retries.
struct Client<'a> {
    simulator: &'a Simulator,
    http: reqwest::Client,
}

struct Reply {
    status: u16,
    kind: String,
    retry_after: Option<String>,
    request_id: Option<String>,
    body: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    fn message(&self) -> String {
        self.json()["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    fn cursor(&self) -> String {
        self.json()["pagination"]["endCursor"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    fn has_next(&self) -> bool {
        self.json()["pagination"]["hasNextPage"] == true
    }
}

impl<'a> Client<'a> {
    fn new(simulator: &'a Simulator) -> Self {
        Self {
            simulator,
            http: reqwest::Client::builder()
                .no_proxy()
                .build()
                .expect("a client"),
        }
    }

    async fn send(
        &self,
        path: &str,
        query: &[(&str, &str)],
        token: &str,
    ) -> reqwest::Result<Reply> {
        let request = self
            .http
            .get(format!("{}{path}", self.simulator.url()))
            .query(query)
            .bearer_auth(token);
        let response = request.send().await?;
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        Ok(Reply {
            status: response.status().as_u16(),
            kind: header("content-type").unwrap_or_default(),
            retry_after: header("retry-after"),
            request_id: header("request-id"),
            body: response.text().await?,
        })
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Reply {
        self.send(path, query, self.simulator.token())
            .await
            .expect("an answer")
    }

    /// All pages of a read; follows the flag and nothing else.
    async fn pages(&self, path: &str, query: &[(&str, &str)], cursor: &str) -> Vec<Reply> {
        let mut pages: Vec<Reply> = Vec::new();
        loop {
            let after = pages.last().map(Reply::cursor);
            let mut query = query.to_vec();
            query.extend(after.as_deref().map(|after| (cursor, after)));
            let page = self.get(path, &query).await;
            assert_eq!(page.status, 200, "{}", page.body);
            let more = page.has_next();
            assert!(
                !more || !page.cursor().is_empty(),
                "more is promised without a cursor"
            );
            pages.push(page);
            if !more {
                return pages;
            }
            assert!(pages.len() < 10_000, "the pages never end");
        }
    }

    /// The records of all pages.
    async fn records(&self, path: &str, query: &[(&str, &str)]) -> Vec<Value> {
        let cursor = if path.starts_with("/v1/") {
            "startingAfter"
        } else {
            "after"
        };
        let pages = self.pages(path, query, cursor).await;
        pages
            .iter()
            .flat_map(|page| page.json()["data"].as_array().cloned().unwrap_or_default())
            .collect()
    }
}

async fn start(config: SimulatorConfig) -> Simulator {
    Simulator::start(config).await.expect("a simulator")
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

/// Rows as a set, for comparison. Fails on repeated ones.
fn set(rows: impl IntoIterator<Item = Row>) -> BTreeSet<String> {
    let rows: Vec<String> = rows
        .into_iter()
        .map(|row| Value::Object(row).to_string())
        .collect();
    let set: BTreeSet<String> = rows.iter().cloned().collect();
    assert_eq!(set.len(), rows.len(), "rows are repeated");
    set
}

/// Rows as a set that takes repeated ones together.
fn distinct_set(rows: impl IntoIterator<Item = Row>) -> BTreeSet<String> {
    rows.into_iter()
        .map(|row| Value::Object(row).to_string())
        .collect()
}

/// A row from its columns.
fn row<const COLUMNS: usize>(columns: [(&str, Value); COLUMNS]) -> Row {
    columns
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect::<Map<_, _>>()
}

/// A served v2 time in the form of the tables.
fn table_time(time: &Value) -> Value {
    match time.as_str().filter(|text| !text.is_empty()) {
        Some(text) => {
            let time = DateTime::parse_from_rfc3339(text).expect("a time").to_utc();
            time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string().into()
        }
        None => Value::Null,
    }
}

/// A served v1 time in the form of the tables.
fn table_millis(time: &Value) -> Value {
    match time.as_i64() {
        None | Some(i64::MAX) => Value::Null,
        Some(millis) => {
            let time = DateTime::from_timestamp_millis(millis).expect("a time");
            time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string().into()
        }
    }
}

/// The columns of a table found in a record by their names: `a_b` is the field `b` of the field `a`. Exceptions are
/// given.
fn flat(record: &Value, columns: &Row, given: Row) -> Row {
    let column = |name: &String| {
        let value = given.get(name).cloned().unwrap_or_else(|| {
            let value = field(record, name).cloned().unwrap_or_default();
            if name.ends_with("Time") || name == "time" {
                table_time(&value)
            } else {
                value
            }
        });
        (name.clone(), value)
    };
    columns.keys().map(column).collect()
}

fn field<'a>(record: &'a Value, name: &str) -> Option<&'a Value> {
    let record = record.as_object()?;
    // Keys of external ids have dots, for which columns have underscores.
    let other = |name: &str| match name {
        "externalIds" => record.get("ExternalIds"),
        "ExternalIds" => record.get("externalIds"),
        _ => None,
    };
    let member = |name: &str| record.get(name).or_else(|| other(name));
    let own = member(name).or_else(|| record.get(&name.replace('_', ".")));
    own.or_else(|| {
        name.match_indices('_')
            .find_map(|(at, _)| field(member(&name[..at])?, &name[at + 1..]))
    })
}

/// The same with all numbers as doubles: the API mixes them.
fn doubles(value: Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().into(),
        Value::Array(values) => values.into_iter().map(doubles).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, doubles(value)))
            .collect(),
        other => other,
    }
}

/// Whether rows made from what was served are those of the table. `given` are values that the column names do not lead
/// to.
fn assert_served<'a>(
    simulator: &Simulator,
    table: &str,
    (from, to): (&str, &str),
    records: impl IntoIterator<Item = &'a Value>,
    given: impl Fn(&Value) -> Row,
) {
    let truth = simulator
        .world()
        .truth(table, at(from), at(to))
        .expect("a known table");
    let columns = truth
        .first()
        .unwrap_or_else(|| panic!("{table} is empty"))
        .clone();
    let served = records
        .into_iter()
        .map(|record| Value::Object(flat(record, &columns, given(record))));
    let served: BTreeSet<String> = served.map(|row| doubles(row).to_string()).collect();
    let expected: Vec<String> = truth
        .into_iter()
        .map(|row| doubles(Value::Object(row)).to_string())
        .collect();
    assert_eq!(
        expected.iter().collect::<BTreeSet<_>>().len(),
        expected.len(),
        "{table} repeats rows"
    );
    let expected: BTreeSet<String> = expected.into_iter().collect();
    assert_eq!(
        served.difference(&expected).next(),
        None,
        "{table}: served, but not true"
    );
    assert_eq!(
        expected.difference(&served).next(),
        None,
        "{table}: true, but not served"
    );
}

/// The text of an id that may be a number.
fn id_text(id: &Value) -> Value {
    id.as_u64().map(|id| id.to_string()).into()
}
