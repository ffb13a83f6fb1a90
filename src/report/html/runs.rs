//! What the log of a run tells, line by line.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use crate::redact;

/// Number of failures of a run that are shown.
const MOST_FAILURES: usize = 500;
/// Number of kinds of drift of a run that are shown.
const MOST_DRIFT: usize = 500;
/// Number of examples of one kind of drift.
const MOST_EXAMPLES: usize = 5;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// Everything that was requested was done.
    Done,
    /// Some tables failed, the others are complete.
    Partial,
    /// It did nothing but fail.
    Failed,
    /// It was stopped early; the next run continues.
    Stopped,
    /// The log has no end: the run was killed, or is still running.
    #[default]
    Unfinished,
}

/// A run as its log tells it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LoggedRun {
    /// Id of the run; empty if none was begun.
    pub run: String,
    /// Name of the log file.
    pub log: String,
    /// Time of the first line.
    pub started_at: Option<DateTime<Utc>>,
    /// Time of the last line.
    pub ended_at: Option<DateTime<Utc>>,
    /// How it ended.
    pub outcome: RunOutcome,
    /// Why it ended, or had nothing to do, where the log says so.
    pub reason: Option<String>,
    /// Pages that came.
    pub pages: u64,
    /// Their size in bytes, decompressed.
    pub page_bytes: u64,
    /// Requests that had to be sent again.
    pub retries: u64,
    /// Requests by endpoint.
    pub endpoints: BTreeMap<String, EndpointUse>,
    /// Surprises in the data.
    pub drift: Vec<Drift>,
    /// Kinds of drift that are left out, since there are very many.
    pub drift_left_out: u64,
    /// What failed, in order.
    pub failures: Vec<LoggedFailure>,
    /// Failures that are left out, since there are very many.
    pub failures_left_out: u64,
    /// Sources that the organisation does not have, and why that is known.
    pub skipped: BTreeMap<String, String>,
    /// What was done, by source and table.
    pub work: BTreeMap<String, Work>,
}

/// Requests to one endpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct EndpointUse {
    /// Pages that came.
    pub pages: u64,
    /// Their size in bytes, decompressed.
    pub bytes: u64,
    /// Requests that had to be sent again.
    pub retries: u64,
    /// How long they waited before, in seconds.
    pub waited: f64,
    /// Why the last of them had to be sent again.
    pub reason: Option<String>,
}

/// Something in the data that the declared schema does not expect.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Drift {
    /// The source or table.
    pub name: String,
    /// What it is: the field and why it does not fit.
    pub what: String,
    /// Number of occurrences.
    pub count: u64,
    /// Some of them.
    pub examples: Vec<String>,
}

/// A failure that cost one table or partition.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoggedFailure {
    /// The source or table.
    pub name: String,
    /// The partition, if it was one.
    pub partition: Option<String>,
    /// The error in one line.
    pub error: String,
    /// What to do, where the error does not say it.
    pub remedy: Option<String>,
}

/// What was done for one source or table.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Work {
    /// From the first to the last event of its extraction, in seconds since the run began.
    pub extract: Option<(f64, f64)>,
    /// The same of its transformation.
    pub transform: Option<(f64, f64)>,
    /// The same of its load.
    pub load: Option<(f64, f64)>,
    /// Partitions extracted.
    pub extracted: u64,
    /// Partitions that were found unchanged.
    pub unchanged: u64,
    /// Raw rows.
    pub raw_rows: u64,
    /// Rows derived.
    pub model_rows: u64,
    /// Rows loaded.
    pub loaded_rows: u64,
    /// Size of the loaded objects in bytes.
    pub loaded_bytes: u64,
    /// Number of load jobs.
    pub jobs: u64,
    #[serde(skip)]
    pub(super) job_ids: BTreeSet<String>,
}

/// A line of the log.
struct Line<'a>(&'a Value);

impl Line<'_> {
    /// The first of these fields that the line has, of its own or of the spans around it.
    fn text(&self, names: &[&str]) -> Option<&str> {
        let own = |name: &&str| self.0["fields"][*name].as_str();
        let around = |name: &&str| self.0[*name].as_str();
        names
            .iter()
            .find_map(own)
            .or_else(|| names.iter().find_map(around))
    }

    fn number(&self, name: &str) -> u64 {
        self.0["fields"][name].as_u64().unwrap_or_default()
    }

    /// The sources or the table that the line is about.
    fn name(&self) -> String {
        let name = self.text(&["table", "source", "model", "sources", "name"]);
        let names: Vec<&str> = name.unwrap_or_default().split(',').map(str::trim).collect();
        names.join(", ")
    }

    fn partition(&self) -> Option<String> {
        self.text(&["partition"]).map(redact::one_line)
    }
}

impl Work {
    /// Adds a load that ended at this second of the run.
    fn add_load(&mut self, line: &Line<'_>, seconds: f64) {
        extend_back(&mut self.load, line, seconds);
        if let Some(job) = line.text(&["job_id"]) {
            self.job_ids.insert(job.to_string());
            self.jobs = self.job_ids.len() as u64;
        }
    }
}

impl LoggedRun {
    /// Reads a log: a JSON object per line. Lines that are none, as the last one of a run that was killed may be, are
    /// passed over.
    pub fn read<'a>(log: &str, lines: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut run = Self {
            log: log.to_string(),
            ..Self::default()
        };
        for line in lines {
            run.add(line);
        }
        run
    }

    /// Adds what one more line tells.
    pub fn add(&mut self, line: &[u8]) {
        let Ok(value) = serde_json::from_slice::<Value>(line) else {
            return;
        };
        let line = Line(&value);
        let at = line.0["timestamp"]
            .as_str()
            .and_then(|at| at.parse::<DateTime<Utc>>().ok());
        self.started_at = self.started_at.or(at);
        self.ended_at = at.or(self.ended_at);
        if let Some(run) = line.text(&["run"]).filter(|_| self.run.is_empty()) {
            self.run = redact::one_line(run);
        }
        let since = |at: DateTime<Utc>| {
            let started = self.started_at.unwrap_or(at);
            (at - started).num_milliseconds().max(0) as f64 / 1000.0
        };
        let seconds = at.map(since).unwrap_or_default();
        match line.text(&["message"]).unwrap_or_default() {
            "request delayed" => self.add_delay(&line),
            "task started" => {
                for name in line.name().split(", ") {
                    extend(&mut self.work(name).extract, seconds);
                }
            }
            "partition extracted" => {
                let work = self.work(&line.name());
                extend(&mut work.extract, seconds);
                work.extracted += 1;
                work.unchanged += u64::from(line.0["fields"]["unchanged"].as_bool() == Some(true));
                work.raw_rows += line.number("rows");
            }
            "partition transformed" => {
                let work = self.work(&line.name());
                extend_back(&mut work.transform, &line, seconds);
                work.model_rows += line.number("rows");
            }
            "partition loaded" => {
                let work = self.work(&line.name());
                work.add_load(&line, seconds);
                work.loaded_rows += line.number("rows");
                work.loaded_bytes += line.number("bytes");
            }
            // Loads on trial and those of audit tables have no partition of a table.
            "load finished" => self.work(&line.name()).add_load(&line, seconds),
            "skipped" | "not available" => {
                let reason = line.text(&["reason"]).unwrap_or_default();
                self.skipped.insert(line.name(), redact::one_line(reason));
            }
            "failed" => self.add_failure(&line),
            "run failed" => {
                self.outcome = RunOutcome::Failed;
                self.reason = line.text(&["error"]).map(redact::one_line);
            }
            "run finished" => self.end(&line),
            _ => self.add_drift(&line),
        }
    }

    fn work(&mut self, name: &str) -> &mut Work {
        self.work.entry(name.to_string()).or_default()
    }

    fn add_delay(&mut self, line: &Line<'_>) {
        self.retries += 1;
        let endpoint = super::endpoint_template(line.text(&["endpoint"]).unwrap_or_default());
        let used = self.endpoints.entry(endpoint).or_default();
        used.retries += 1;
        used.waited += line.number("wait_ms") as f64 / 1000.0;
        used.reason = line.text(&["reason"]).map(redact::one_line);
    }

    fn add_failure(&mut self, line: &Line<'_>) {
        if self.failures.len() == MOST_FAILURES {
            self.failures_left_out += 1;
            return;
        }
        self.failures.push(LoggedFailure {
            name: line.name(),
            partition: line.partition(),
            error: redact::one_line(line.text(&["error"]).unwrap_or_default()),
            remedy: line.text(&["remedy"]).map(redact::one_line),
        });
    }

    /// Drift and its like are told by their fields: several messages have them.
    fn add_drift(&mut self, line: &Line<'_>) {
        let is_counted = line.0["fields"]["count"].is_u64();
        let text = |name: &str| line.text(&[name]).map(redact::foreign);
        let place = line.partition();
        let count = line.number("count").max(1);
        let (what, example) = if let (Some(column), Some(texts)) = (text("column"), text("texts")) {
            let values = texts
                .trim_matches(|brace| matches!(brace, '{' | '}'))
                .to_string();
            (
                format!("{column} (not a valid time: NULL in the table)"),
                Some(values),
            )
        } else if let (Some(path), Some(reason), true) = (text("path"), text("reason"), is_counted)
        {
            (format!("{path} ({reason})"), None)
        } else if let (Some(path), Some(value)) = (text("path"), text("text")) {
            let what = format!("{path} (beside an empty list of records)");
            (what, Some(value))
        } else if let Some(duplicates) = text("duplicates") {
            ("duplicate keys (accepted)".into(), Some(duplicates))
        } else if let (Some(first), Some(last), true) = (text("first"), text("last"), is_counted) {
            let what = format!("rows far outside the requested days, from {first} to {last}");
            (what, text("examples"))
        } else {
            return;
        };
        let example = example
            .filter(|example| !example.is_empty())
            .map(|example| match place {
                Some(place) => format!("{place}: {example}"),
                None => example,
            });
        let name = line.name();
        let known = self
            .drift
            .iter_mut()
            .find(|drift| drift.name == name && drift.what == what);
        if let Some(known) = known {
            known.count += count;
            if known.examples.len() < MOST_EXAMPLES {
                known.examples.extend(example);
            }
        } else if self.drift.len() < MOST_DRIFT {
            self.drift.push(Drift {
                name,
                what,
                count,
                examples: example.into_iter().collect(),
            });
        } else {
            self.drift_left_out += 1;
        }
    }

    /// What the report at the end of the log says.
    fn end(&mut self, line: &Line<'_>) {
        let found = &line.0["fields"]["report"];
        let parsed;
        let report = match found.as_str() {
            Some(text) => {
                parsed = serde_json::from_str::<Value>(text).unwrap_or_default();
                &parsed
            }
            None => found,
        };
        let number = |name: &str| report[name].as_u64().unwrap_or_default();
        let is_empty = |name: &str| {
            report[name]
                .as_object()
                .is_none_or(serde_json::Map::is_empty)
        };
        if let Some(run) = report["run"].as_str().filter(|run| !run.is_empty()) {
            self.run = redact::one_line(run);
        }
        self.pages = number("pages");
        self.page_bytes = number("page_bytes");
        for (endpoint, used) in report["endpoints"].as_object().into_iter().flatten() {
            let known = self
                .endpoints
                .entry(redact::one_line(endpoint))
                .or_default();
            known.pages += used["pages"].as_u64().unwrap_or_default();
            known.bytes += used["bytes"].as_u64().unwrap_or_default();
        }
        let did_nothing = is_empty("sources") && is_empty("models");
        let has_failed = report["failures"]
            .as_array()
            .is_some_and(|all| !all.is_empty());
        let is_stopped = report["cancelled"].as_bool() == Some(true);
        self.outcome = match (is_stopped, has_failed) {
            (true, _) => RunOutcome::Stopped,
            (false, true) if did_nothing => RunOutcome::Failed,
            (false, true) => RunOutcome::Partial,
            (false, false) if report["idle"] == "not_found" => RunOutcome::Failed,
            (false, false) => RunOutcome::Done,
        };
        let idle = &report["idle"];
        let idle_kind = idle
            .as_str()
            .or_else(|| idle.as_object()?.keys().next().map(String::as_str));
        self.reason = idle_kind.map(|kind| {
            match kind {
                "complete" => "nothing to do: everything requested was complete and loaded",
                "not_begun" => "nothing to do: the first requested day has not begun",
                "not_found" => "nothing was read: every endpoint answered 404",
                _ => "nothing was done, although not everything requested is in the warehouse",
            }
            .to_string()
        });
    }

    /// Keeps only what is about the sources and tables for which `is_shown` holds.
    pub fn retain(&mut self, is_shown: impl Fn(&str) -> bool) {
        let any = |names: &str| names.split(", ").any(&is_shown);
        self.drift.retain(|drift| any(&drift.name));
        self.failures.retain(|failure| any(&failure.name));
        self.skipped.retain(|name, _| any(name));
        self.work.retain(|name, _| any(name));
    }

    /// From the first to the last line, in seconds.
    pub fn seconds(&self) -> f64 {
        match (self.started_at, self.ended_at) {
            (Some(started), Some(ended)) => {
                (ended - started).num_milliseconds().max(0) as f64 / 1000.0
            }
            _ => 0.0,
        }
    }
}

fn extend(span: &mut Option<(f64, f64)>, seconds: f64) {
    *span = Some(span.map_or((seconds, seconds), |(first, last)| {
        (first.min(seconds), last.max(seconds))
    }));
}

/// Extends a span by a step that ended at this second, as long as its line says.
fn extend_back(span: &mut Option<(f64, f64)>, line: &Line<'_>, seconds: f64) {
    let began = seconds - line.number("elapsed_ms") as f64 / 1000.0;
    extend(span, began.max(0.0));
    extend(span, seconds);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> LoggedRun {
        LoggedRun::read("x.jsonl", lines.iter().map(|line| line.as_bytes()))
    }

    /// A log line as it is written flat, and with the fields of spans around it.
    const LINES: &[&str] = &[
        r#"{"timestamp":"2024-01-05T02:00:00.000000Z","level":"INFO","fields":{"message":"connected to the API","base":"https://api"},"target":"t"}"#,
        r#"{"timestamp":"2024-01-05T02:00:01Z","level":"WARN","fields":{"message":"request delayed","endpoint":"/fleet/vehicles/281474/trips","attempt":1,"wait_ms":1500,"reason":"503"}}"#,
        r#"{"timestamp":"2024-01-05T02:00:02Z","level":"INFO","fields":{"message":"partition extracted","source":"fleet_trips","partition":"2024-01-04","records":7,"rows":7,"unchanged":true}}"#,
        r#"{"timestamp":"2024-01-05T02:00:03Z","level":"WARN","fields":{"message":"schema drift found","sources":"a,b","path":"x.<script>","reason":"not declared","count":3}}"#,
        r#"{"timestamp":"2024-01-05T02:00:03Z","level":"WARN","fields":{"message":"schema drift found","sources":"a,b","path":"x.<script>","reason":"not declared","count":4}}"#,
        r#"{"timestamp":"2024-01-05T02:00:03Z","level":"WARN","fields":{"message":"schema drift found: values that are not valid times","model":"m","partition":"2024-01-04","column":"at","count":2,"texts":"{\"\\\"never\\\"\": 2}"}}"#,
        r#"{"timestamp":"2024-01-05T02:00:04Z","level":"INFO","table":"m","partition":"2024-01-04","fields":{"message":"partition transformed","table":"m","partition":"2024-01-04","rows":9,"bytes":10,"elapsed_ms":500}}"#,
        r#"{"timestamp":"2024-01-05T02:00:05Z","level":"INFO","table":"m","fields":{"message":"partition loaded","table":"m","partition":"2024-01-04","rows":9,"bytes":10,"job_id":"j","elapsed_ms":250}}"#,
        r#"{"timestamp":"2024-01-05T02:00:05Z","level":"INFO","table":"m","fields":{"message":"load finished","table":"m","purpose":"trial","job_id":"trial","elapsed_ms":500}}"#,
        r#"{"timestamp":"2024-01-05T02:00:06Z","level":"ERROR","run":"20240105T020000Z-0123abcd","table":"n","partition":"2024-01-04","fields":{"message":"failed","table":"n","error":"it broke","remedy":"mend it"}}"#,
        r#"{"timestamp":"2024-01-05T02:00:07Z","fields":{"mess"#,
    ];

    #[test]
    fn a_log_tells_what_a_run_did() {
        let run = read(LINES);
        assert_eq!(run.outcome, RunOutcome::Unfinished);
        assert_eq!((run.seconds(), run.retries), (6.0, 1));
        assert_eq!(run.run, "20240105T020000Z-0123abcd");
        let used = &run.endpoints["/fleet/vehicles/{id}/trips"];
        assert_eq!((used.retries, used.waited), (1, 1.5));
        let trips = &run.work["fleet_trips"];
        assert_eq!((trips.raw_rows, trips.unchanged), (7, 1));
        assert_eq!(trips.extract, Some((2.0, 2.0)));
        let model = &run.work["m"];
        assert_eq!(
            (model.transform, model.load),
            (Some((3.5, 4.0)), Some((4.5, 5.0)))
        );
        assert_eq!((model.model_rows, model.loaded_rows, model.jobs), (9, 9, 2));
        let drift: Vec<_> = run
            .drift
            .iter()
            .map(|drift| (drift.name.as_str(), drift.count))
            .collect();
        assert_eq!(drift, [("a, b", 7), ("m", 2)]);
        assert!(
            run.drift[1].examples[0].contains("never"),
            "{:?}",
            run.drift
        );
        let failure = &run.failures[0];
        assert_eq!(
            (
                failure.name.as_str(),
                failure.partition.as_deref(),
                failure.remedy.as_deref()
            ),
            ("n", Some("2024-01-04"), Some("mend it"))
        );
        let mut only = run.clone();
        only.retain(|name| name == "b");
        assert_eq!(
            (only.drift.len(), only.failures.len(), only.work.len()),
            (1, 0, 0)
        );
    }

    #[test]
    fn the_end_of_a_log_tells_the_outcome() {
        let report = |report: &str| {
            let text = serde_json::to_string(report).unwrap();
            let line = |report: &str| {
                format!(
                    r#"{{"timestamp":"2024-01-05T02:00:00Z","fields":{{"message":"run finished","report":{report}}}}}"#
                )
            };
            let (as_text, nested) = (read(&[&line(&text)]), read(&[&line(report)]));
            assert_eq!(as_text.outcome, nested.outcome, "{report}");
            as_text
        };
        let cases = [
            (r#"{"sources":{"a":{}},"failures":[]}"#, RunOutcome::Done),
            (
                r#"{"sources":{"a":{}},"failures":[{"name":"x"}]}"#,
                RunOutcome::Partial,
            ),
            (
                r#"{"sources":{},"models":{},"failures":[{"name":"x"}]}"#,
                RunOutcome::Failed,
            ),
            (r#"{"failures":[],"cancelled":true}"#, RunOutcome::Stopped),
            (r#"{"failures":[],"idle":"not_found"}"#, RunOutcome::Failed),
            (
                r#"{"failures":[],"idle":{"missing":{"unread":1}}}"#,
                RunOutcome::Done,
            ),
        ];
        for (text, outcome) in cases {
            assert_eq!(report(text).outcome, outcome, "{text}");
        }
        let run = report(
            r#"{"run":"r","pages":3,"page_bytes":9,"endpoints":{"/a":{"pages":3,"bytes":9,"retries":0}},"failures":[],"idle":"complete"}"#,
        );
        assert_eq!(
            (run.run.as_str(), run.pages, run.endpoints["/a"].pages),
            ("r", 3, 3)
        );
        assert!(run.reason.is_some_and(|reason| reason.contains("complete")));
        let failed = read(&[r#"{"fields":{"message":"run failed","error":"no token"}}"#]);
        assert_eq!(
            (failed.outcome, failed.reason.as_deref()),
            (RunOutcome::Failed, Some("no token"))
        );
    }
}
