//! Metrics, computed from the events of a run.
//!
//! Names, units and attributes are listed in [`ALL`]; docs/observability.md, the dashboard and the alert rules use no
//! others, which a test of this module checks.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, NaiveTime, Utc};
use parking_lot::Mutex;

use super::otlp::{
    CUMULATIVE, Data, Gauge, Histogram, HistogramDataPoint, KeyValue, Metric, Number,
    NumberDataPoint, Sum,
};
use super::spans::now;
use crate::events::{Event, LoadPurpose, Moment, Observer, Outcome};
use crate::redact;
use crate::report::html::endpoint_template;
use crate::store::layout::Partition;

/// How values of a metric are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A sum since the start of the program.
    Counter,
    /// The last value.
    Gauge,
    /// A count of values by size.
    Histogram,
}

/// A metric.
#[derive(Debug)]
pub struct Instrument {
    /// Its name.
    pub name: &'static str,
    /// How its values are put together.
    pub kind: Kind,
    /// Its unit, by UCUM: `s`, `By`, or what is counted in braces.
    pub unit: &'static str,
    /// Names of the attributes that each of its values has.
    pub attributes: &'static [&'static str],
    /// What it means.
    pub description: &'static str,
}

macro_rules! instruments {
    ($($constant:ident = $name:literal, $kind:ident, $unit:literal, [$($attribute:literal),*], $description:literal;)+) => {
        $(
            #[doc = $description]
            pub const $constant: Instrument = Instrument {
                name: $name,
                kind: Kind::$kind,
                unit: $unit,
                attributes: &[$($attribute),*],
                description: $description,
            };
        )+
        /// All metrics, in the order of the documentation.
        pub const ALL: &[Instrument] = &[$($constant),+];
    };
}

instruments! {
    REQUESTS = "samsara_etl.requests", Counter, "{request}", ["endpoint", "status"],
        "API requests, including retries; status is that of HTTP, or none without a complete response";
    REQUEST_DURATION = "samsara_etl.request.duration", Histogram, "s", ["endpoint"],
        "From sending a request to the last byte of its answer";
    RETRIES = "samsara_etl.retries", Counter, "{request}", ["endpoint"],
        "Requests that failed and were sent again";
    RATE_LIMIT_WAIT = "samsara_etl.rate_limit.wait", Counter, "s", ["endpoint"],
        "How long requests waited for their turn at the documented rates, or because the endpoint was paused";
    RECEIVED = "samsara_etl.received", Counter, "By", ["endpoint"],
        "Size of the API's pages after decompression";
    RECORDS = "samsara_etl.records", Counter, "{record}", ["table"],
        "Records in the API's pages, by source, when their partition is committed; those of a response that is read for several sources or days count for the first";
    ROWS = "samsara_etl.rows", Counter, "{row}", ["stage", "table"],
        "Rows that a stage has committed: extract (raw rows, by source), transform, load, load_raw";
    WRITTEN = "samsara_etl.written", Counter, "By", ["stage", "table"],
        "Size of the Parquet objects that transform has written and load has loaded";
    PARTITIONS = "samsara_etl.partitions", Counter, "{partition}", ["stage", "table"],
        "Partitions that a stage has committed";
    STEP_DURATION = "samsara_etl.step.duration", Histogram, "s", ["stage", "table", "outcome"],
        "How long an extract task, the transformation of a partition or a load took";
    FAILURES = "samsara_etl.failures", Counter, "{failure}", ["table", "kind"],
        "Failures, by table or source";
    DRIFT = "samsara_etl.drift", Counter, "{value}", ["table"],
        "Values that do not fit the declared schema";
    TABLE_NEWEST = "samsara_etl.table.newest", Gauge, "s", ["table"],
        "Unix time up to which the table is in the warehouse: the end of its newest day, or when its list was read";
    TABLE_LAG = "samsara_etl.table.lag", Gauge, "s", ["table"],
        "Age of that time at the end of the run";
    TABLE_MISSING = "samsara_etl.table.missing", Gauge, "{partition}", ["table"],
        "Requested partitions that are not in the warehouse";
    RUN_DURATION = "samsara_etl.run.duration", Gauge, "s", ["outcome"],
        "How long the run took";
    RUN_FINISHED = "samsara_etl.run.finished", Gauge, "s", ["outcome"],
        "Unix time at which the run ended";
}

impl Instrument {
    /// The names that Prometheus gives it.
    ///
    /// <https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/>
    pub fn prometheus_names(&self) -> Vec<String> {
        let name = self.name.replace('.', "_");
        let name = match self.unit {
            "s" => name + "_seconds",
            "By" => name + "_bytes",
            _ => name,
        };
        match self.kind {
            Kind::Counter => vec![name + "_total"],
            Kind::Gauge => vec![name],
            Kind::Histogram => ["_bucket", "_sum", "_count"]
                .map(|end| format!("{name}{end}"))
                .into(),
        }
    }
}

/// Upper bounds of the buckets of durations, in seconds.
const BOUNDS: [f64; 14] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 150.0, 300.0, 900.0, 3600.0,
];
/// Maximum number of attribute sets of a metric; the values of further ones are counted under `other`.
const MOST_SERIES: usize = 2000;

#[derive(Debug, Default)]
struct Point {
    /// The sum, or the last value.
    value: f64,
    count: u64,
    buckets: [u64; BOUNDS.len() + 1],
}

#[derive(Debug, Default)]
struct Points {
    /// By place in [`ALL`] and attributes.
    series: BTreeMap<&'static str, BTreeMap<Vec<String>, Point>>,
    /// When running operations began, since the start of the run.
    begun: BTreeMap<(&'static str, String, String), Duration>,
}

/// Adds up the events of a run as metrics.
#[derive(Debug)]
pub struct Meter {
    points: Mutex<Points>,
    started: u64,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            points: Mutex::default(),
            started: now(),
        }
    }
}

impl Points {
    fn add(&mut self, instrument: &'static Instrument, attributes: &[&str], value: f64) {
        let known = self.series.entry(instrument.name).or_default();
        let mut key: Vec<String> = attributes.iter().map(ToString::to_string).collect();
        if known.len() >= MOST_SERIES && !known.contains_key(&key) {
            key.iter_mut().for_each(|value| *value = "other".into());
        }
        let point = known.entry(key).or_default();
        match instrument.kind {
            Kind::Counter => point.value += value,
            Kind::Gauge => point.value = value,
            Kind::Histogram => {
                point.value += value;
                point.count += 1;
                let bucket = BOUNDS.iter().position(|bound| value <= *bound);
                point.buckets[bucket.unwrap_or(BOUNDS.len())] += 1;
            }
        }
    }

    fn begin(&mut self, stage: &'static str, table: String, what: String, at: Duration) {
        self.begun.insert((stage, table, what), at);
    }

    fn end(
        &mut self,
        stage: &'static str,
        table: String,
        what: String,
        outcome: Outcome,
        at: Duration,
    ) {
        let key = (stage, table, what);
        if let Some(begun) = self.begun.remove(&key) {
            let took = at.saturating_sub(begun).as_secs_f64();
            self.add(&STEP_DURATION, &[stage, &key.1, outcome.as_str()], took);
        }
    }

    /// Requests to the API, by endpoint.
    fn add_request(&mut self, event: &Event) {
        match event {
            Event::AttemptFinished {
                endpoint,
                status,
                elapsed,
            } => {
                let endpoint = endpoint_template(endpoint);
                let status = status.map_or_else(|| "none".into(), |status| status.to_string());
                self.add(&REQUESTS, &[&endpoint, &status], 1.0);
                self.add(&REQUEST_DURATION, &[&endpoint], elapsed.as_secs_f64());
            }
            Event::RequestDelayed { endpoint, .. } => {
                self.add(&RETRIES, &[&endpoint_template(endpoint)], 1.0);
            }
            Event::RequestWaited { endpoint, wait } => {
                let endpoint = endpoint_template(endpoint);
                self.add(&RATE_LIMIT_WAIT, &[&endpoint], wait.as_secs_f64());
            }
            Event::PageFetched { endpoint, bytes } => {
                self.add(&RECEIVED, &[&endpoint_template(endpoint)], *bytes as f64);
            }
            _ => {}
        }
    }

    /// Up to which time a table is complete, in seconds since 1970.
    fn add_table_status(
        &mut self,
        table: &str,
        newest: Option<DateTime<Utc>>,
        missing: u64,
        at: f64,
    ) {
        if let Some(newest) = newest {
            let newest = newest.timestamp_millis() as f64 / 1e3;
            self.add(&TABLE_NEWEST, &[table], newest);
            self.add(&TABLE_LAG, &[table], (at - newest).max(0.0));
        }
        self.add(&TABLE_MISSING, &[table], missing as f64);
    }

    /// How long steps take.
    fn time_step(&mut self, event: &Event, elapsed: Duration) {
        match event {
            Event::TaskStarted { sources, scope, .. } => {
                self.begin("extract", sources.join(", "), scope.clone(), elapsed);
            }
            Event::TaskFinished {
                sources,
                scope,
                outcome,
                ..
            } => {
                let table = sources.join(", ");
                self.end("extract", table, scope.clone(), *outcome, elapsed);
            }
            Event::TransformStarted { model, partition } => {
                self.begin("transform", model.clone(), partition.to_string(), elapsed);
            }
            Event::TransformFinished {
                model,
                partition,
                outcome,
            } => {
                let (table, partition) = (model.clone(), partition.to_string());
                self.end("transform", table, partition, *outcome, elapsed);
            }
            Event::TransformsSkipped { model, partitions } => {
                for _ in partitions {
                    let unchanged = Outcome::Unchanged.as_str();
                    self.add(&STEP_DURATION, &["transform", model, unchanged], 0.0);
                }
            }
            _ => {}
        }
    }

    /// Rows and partitions, by stage and table.
    fn add_rows(&mut self, event: &Event) {
        match event {
            Event::PartitionExtracted {
                source,
                records,
                rows,
                ..
            } => {
                self.add(&RECORDS, &[source], *records as f64);
                self.add(&ROWS, &["extract", source], *rows as f64);
                self.add(&PARTITIONS, &["extract", source], 1.0);
            }
            Event::PartitionTransformed {
                model, rows, bytes, ..
            } => {
                self.add(&ROWS, &["transform", model], *rows as f64);
                self.add(&WRITTEN, &["transform", model], *bytes as f64);
                self.add(&PARTITIONS, &["transform", model], 1.0);
            }
            Event::PartitionLoaded {
                model, rows, bytes, ..
            } => {
                self.add(&ROWS, &["load", model], *rows as f64);
                self.add(&WRITTEN, &["load", model], *bytes as f64);
                self.add(&PARTITIONS, &["load", model], 1.0);
            }
            Event::RawLoaded { source, rows, .. } => {
                self.add(&ROWS, &["load_raw", source], *rows as f64);
                self.add(&PARTITIONS, &["load_raw", source], 1.0);
            }
            _ => {}
        }
    }
}

/// The instant up to which a table is complete: the end of a day, or the time at which a list was read.
fn end_of(newest: Partition, read: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    match newest {
        Partition::Day(day) => Some(day.succ_opt()?.and_time(NaiveTime::MIN).and_utc()),
        Partition::Snapshot => read,
    }
}

/// The stage that a load belongs to.
fn stage_of(purpose: LoadPurpose) -> &'static str {
    match purpose {
        LoadPurpose::Table => "load",
        LoadPurpose::Raw => "load_raw",
        LoadPurpose::Trial => "load_trial",
        LoadPurpose::Audit => "load_audit",
    }
}

impl Observer for Meter {
    fn observe(&self, _event: &Event) {}

    fn wants_table_status(&self) -> bool {
        true
    }

    fn observe_at(&self, event: &Event, moment: Moment) {
        let mut points = self.points.lock();
        let (at, elapsed) = (moment.at.timestamp_millis() as f64 / 1e3, moment.elapsed);
        match event {
            Event::AttemptFinished { .. }
            | Event::RequestDelayed { .. }
            | Event::RequestWaited { .. }
            | Event::PageFetched { .. } => points.add_request(event),
            Event::TaskStarted { .. }
            | Event::TaskFinished { .. }
            | Event::TransformStarted { .. }
            | Event::TransformFinished { .. }
            | Event::TransformsSkipped { .. } => points.time_step(event, elapsed),
            Event::PartitionExtracted { .. }
            | Event::PartitionTransformed { .. }
            | Event::PartitionLoaded { .. }
            | Event::RawLoaded { .. } => points.add_rows(event),
            Event::TableStatus {
                table,
                newest,
                read,
                missing,
            } => {
                let newest = newest.and_then(|newest| end_of(newest, *read));
                points.add_table_status(table, newest, *missing, at);
            }
            Event::LoadFinished {
                purpose,
                table,
                outcome,
                elapsed,
                ..
            } => {
                let (stage, took) = (stage_of(*purpose), elapsed.as_secs_f64());
                points.add(&STEP_DURATION, &[stage, table, outcome.as_str()], took);
            }
            Event::Failed { name, kind, .. } => {
                points.add(&FAILURES, &[name, kind.as_str()], 1.0);
            }
            Event::DriftFound { sources, count, .. } => {
                points.add(&DRIFT, &[&sources.join(", ")], *count as f64);
            }
            Event::UnfitTimes { model, count, .. } => {
                points.add(&DRIFT, &[model], *count as f64);
            }
            Event::RunFinished { outcome } => {
                let outcome = outcome.as_str();
                points.add(&RUN_DURATION, &[outcome], elapsed.as_secs_f64());
                points.add(&RUN_FINISHED, &[outcome], at);
            }
            Event::RunStarted { .. }
            | Event::WorkFound { .. }
            | Event::RequestFinished { .. }
            | Event::Connected { .. }
            | Event::DuplicatesAccepted { .. }
            | Event::OutsideWindow { .. }
            | Event::EnvelopeFieldKept { .. }
            | Event::LoadStarted { .. }
            | Event::NotAvailable { .. }
            | Event::Noted { .. } => {}
        }
    }
}

impl Meter {
    /// All metrics as they are now; empty before the first event.
    pub fn metrics(&self) -> Vec<Metric> {
        let (points, at) = (self.points.lock(), now());
        let with_points = ALL
            .iter()
            .filter_map(|instrument| Some((instrument, points.series.get(instrument.name)?)));
        let metric = |(instrument, series): (&Instrument, &BTreeMap<Vec<String>, Point>)| Metric {
            name: instrument.name.into(),
            description: instrument.description.into(),
            unit: instrument.unit.into(),
            data: Some(self.data(instrument, series, at)),
        };
        with_points.map(metric).collect()
    }

    fn data(
        &self,
        instrument: &Instrument,
        series: &BTreeMap<Vec<String>, Point>,
        at: u64,
    ) -> Data {
        let attributes = |values: &[String]| {
            let pairs = instrument.attributes.iter().zip(values);
            pairs
                .map(|(key, value)| KeyValue::text(*key, redact::foreign(value)))
                .collect::<Vec<_>>()
        };
        let number = |(values, point): (&Vec<String>, &Point)| NumberDataPoint {
            start_time_unix_nano: self.started,
            time_unix_nano: at,
            value: Some(match instrument.unit {
                "s" => Number::Double(point.value),
                // Sums of whole numbers.
                _ => Number::Int(point.value as i64),
            }),
            attributes: attributes(values),
        };
        match instrument.kind {
            Kind::Counter => Data::Sum(Sum {
                data_points: series.iter().map(number).collect(),
                aggregation_temporality: CUMULATIVE,
                is_monotonic: true,
            }),
            Kind::Gauge => Data::Gauge(Gauge {
                data_points: series.iter().map(number).collect(),
            }),
            Kind::Histogram => {
                let points = series.iter().map(|(values, point)| HistogramDataPoint {
                    start_time_unix_nano: self.started,
                    time_unix_nano: at,
                    count: point.count,
                    sum: Some(point.value),
                    bucket_counts: point.buckets.into(),
                    explicit_bounds: BOUNDS.into(),
                    attributes: attributes(values),
                });
                Data::Histogram(Histogram {
                    data_points: points.collect(),
                    aggregation_temporality: CUMULATIVE,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use regex::Regex;

    use super::*;

    fn path(file: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("docs")
            .join(file)
    }

    #[test]
    fn dashboard_and_alerts_name_only_what_is_sent() {
        let known: BTreeSet<String> = ALL.iter().flat_map(Instrument::prometheus_names).collect();
        let name = Regex::new("samsara_etl_[a-z_]+").unwrap();
        let by = Regex::new(r"by \(([a-z_, ]+)\) \([^(]*\(?(samsara_etl_[a-z_]+)").unwrap();
        for (file, least) in [("grafana/dashboard.json", 15), ("grafana/alerts.yaml", 4)] {
            let text = std::fs::read_to_string(path(file)).unwrap();
            let named: BTreeSet<&str> = name.find_iter(&text).map(|it| it.as_str()).collect();
            assert!(named.len() >= least, "{file}: {named:?}");
            for name in named {
                assert!(known.contains(name), "{file}: there is no metric {name}");
            }
            // Labels in queries must be attributes of the metric, except Prometheus's own.
            let mut labels = 0;
            for found in by.captures_iter(&text) {
                let of = |it: &&Instrument| it.prometheus_names().contains(&found[2].to_string());
                let instrument = ALL.iter().find(of).unwrap();
                for label in found[1].split(", ").filter(|label| *label != "le") {
                    labels += 1;
                    assert!(
                        instrument.attributes.contains(&label),
                        "{file}: {} has no label {label}",
                        &found[2]
                    );
                }
            }
            assert!(labels > 1, "{file}");
        }
    }

    #[test]
    fn the_list_of_metrics_is_up_to_date() {
        let mut list = String::new();
        for instrument in ALL {
            let kind = match instrument.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let attributes: Vec<String> = instrument
                .attributes
                .iter()
                .map(|attribute| format!("`{attribute}`"))
                .collect();
            list += &format!(
                "| `{}` | {kind} | `{}` | {} | {} |\n",
                instrument.name,
                instrument.unit,
                attributes.join(", "),
                instrument.description
            );
        }
        let file = path("observability.md");
        let text = std::fs::read_to_string(&file).unwrap();
        let (head, rest) = text.split_once("<!-- metrics -->\n").unwrap();
        let (known, tail) = rest.split_once("<!-- /metrics -->").unwrap();
        if known != list {
            let text = format!("{head}<!-- metrics -->\n{list}<!-- /metrics -->{tail}");
            std::fs::write(&file, text).unwrap();
            panic!("docs/observability.md was stale and has been updated: commit it");
        }
    }

    #[test]
    fn names_are_those_that_prometheus_gives() {
        assert_eq!(REQUESTS.prometheus_names(), ["samsara_etl_requests_total"]);
        assert_eq!(
            RECEIVED.prometheus_names(),
            ["samsara_etl_received_bytes_total"]
        );
        assert_eq!(
            RUN_FINISHED.prometheus_names(),
            ["samsara_etl_run_finished_seconds"]
        );
        assert_eq!(
            REQUEST_DURATION.prometheus_names()[0],
            "samsara_etl_request_duration_seconds_bucket"
        );
    }

    #[test]
    fn values_fall_into_their_buckets_and_series_are_bounded() {
        let meter = Meter::default();
        let moment = Moment {
            at: chrono::DateTime::UNIX_EPOCH,
            elapsed: Duration::from_secs(1),
        };
        for (millis, id) in [(50, 1), (51, 2), (4_000_000, 3)] {
            let event = Event::AttemptFinished {
                endpoint: format!("/a/{id}"),
                status: Some(200),
                elapsed: Duration::from_millis(millis),
            };
            meter.observe_at(&event, moment);
        }
        for failed in 0..MOST_SERIES + 5 {
            let event = Event::Failed {
                name: format!("t{failed}"),
                partition: None,
                error: String::new(),
                kind: crate::events::FailureKind::Other,
                remedy: None,
            };
            meter.observe_at(&event, moment);
        }
        let metrics = meter.metrics();
        let data = |name: &str| {
            let mut found = metrics.iter().filter(|metric| metric.name == name);
            found.next().unwrap().data.clone().unwrap()
        };
        let Data::Histogram(durations) = data(REQUEST_DURATION.name) else {
            panic!("durations are a histogram");
        };
        // Ids are one endpoint.
        assert_eq!(durations.data_points.len(), 1);
        let point = &durations.data_points[0];
        assert_eq!(point.count, 3);
        let filled = point.bucket_counts.iter().enumerate();
        let filled: Vec<_> = filled.filter(|(_, count)| **count > 0).collect();
        assert_eq!(filled, [(0, &1), (1, &1), (BOUNDS.len(), &1)]);
        let Data::Sum(failures) = data(FAILURES.name) else {
            panic!("failures are a sum");
        };
        assert_eq!(failures.data_points.len(), MOST_SERIES + 1);
        let other = failures
            .data_points
            .iter()
            .find(|point| point.attributes[0] == KeyValue::text("table", "other"));
        assert_eq!(other.unwrap().value, Some(Number::Int(5)));
    }
}
