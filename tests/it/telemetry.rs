//! Traces and metrics of a run, as a collector gets them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use samsara_etl::config::{Environment, TelemetryConfig};
use samsara_etl::events::{Event, Observer, Observers, Outcome};
use samsara_etl::telemetry::Telemetry;
use samsara_etl::telemetry::otlp::{CLIENT, ERROR, INTERNAL, Span};
use samsara_simulator::Simulator;
use serde_json::Value;
use tracing_subscriber::layer::SubscriberExt;

use crate::program::{Program, simulator};
use crate::support::collector::{Collector, Manner, texts};
use crate::support::gate::{Turn, before};

const RUN: [&str; 15] = [
    "run",
    // Its change feed is asked too.
    "--table",
    "fleet_vehicle_stats_engineRpm",
    "--table",
    "fleet_tags",
    "--table",
    "fleet_vehicles",
    "--table",
    "fleet_trips",
    "--start-date",
    "2024-01-01",
    "--end-date",
    "2024-01-03",
    "--format",
    "json",
];

/// A fleet whose tags the token may not read.
async fn fleet() -> Simulator {
    simulator(|config| config.missing_scopes = vec!["/tags".into()]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_spans_and_metrics() {
    let (simulator, collector) = (fleet().await, Collector::start(Manner::Takes));
    // The first request for vehicles comes too early.
    let is_first = AtomicBool::new(true);
    let gate = before(simulator.url(), move |request| {
        let is_list = request.uri().path() == "/fleet/vehicles";
        match is_list && is_first.swap(false, Ordering::SeqCst) {
            true => Turn::Away(StatusCode::TOO_MANY_REQUESTS.into_response()),
            false => Turn::Through,
        }
    });
    let program = Program::with_simulator(&simulator)
        .set("SAMSARA_API_URL", gate.url())
        .set("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint())
        .set("OTEL_EXPORTER_OTLP_HEADERS", "x-key=key-of-the-collector")
        .set(
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test",
        );
    let ran = program.run(&RUN).await;
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();

    for headers in collector.headers() {
        assert_eq!(headers["x-key"], "key-of-the-collector");
    }
    for resource in collector.resources() {
        assert_eq!(resource["service.name"], "samsara-etl");
        assert_eq!(resource["deployment.environment.name"], "test");
    }
    let secrets = [simulator.token(), "key-of-the-collector"];
    for text in secrets
        .into_iter()
        .chain(["startMs=", "vehicleId=", "limit="])
    {
        assert!(!collector.has_seen(text), "{text}");
    }
    check_spans(&collector.spans(), &report);
    check_metrics(&collector, &report);
}

/// Each span stands in the one that it belongs to.
fn check_spans(spans: &[Span], report: &Value) {
    let by_id: BTreeMap<&[u8], &Span> = spans.iter().map(|it| (&*it.span_id, it)).collect();
    assert_eq!(by_id.len(), spans.len(), "ids differ");
    let parent = |span: &Span| by_id.get(&*span.parent_span_id).map(|it| it.name.as_str());
    let expected = |name: &str| match name {
        "run" => (vec![None], INTERNAL),
        "extract" | "changes" | "transform" => (vec![Some("run")], INTERNAL),
        "load" => (vec![Some("run")], CLIENT),
        "request" => (vec![Some("extract"), Some("changes")], CLIENT),
        other => panic!("there is no span {other}"),
    };
    for span in spans {
        let (parents, kind) = expected(&span.name);
        assert!(parents.contains(&parent(span)), "{span:?}");
        assert_eq!(span.kind, kind, "{span:?}");
        assert_eq!(span.trace_id, spans[0].trace_id);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
    }
    let of = |name: &str| {
        let found = spans.iter().filter(|span| span.name == name);
        found
            .map(|span| (texts(&span.attributes), span))
            .collect::<Vec<_>>()
    };
    let of_changes = spans.iter().filter(|it| parent(it) == Some("changes"));
    assert!(of_changes.count() > 0);
    let runs = of("run");
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].0["run"], report["run"].as_str().unwrap());
    assert_eq!(runs[0].0["outcome"], "failed");

    // Tasks: what failed is told, what did not has no status.
    let tasks = of("extract");
    for (attributes, span) in &tasks {
        let has_failed = attributes["table"] == "fleet_tags";
        let outcome = if has_failed { "failed" } else { "done" };
        assert_eq!(attributes["outcome"], outcome, "{attributes:?}");
        let code = span.status.as_ref().map(|status| status.code);
        assert_eq!(code, has_failed.then_some(ERROR), "{attributes:?}");
    }
    let failed = tasks.iter().find(|(it, _)| it["table"] == "fleet_tags");
    let status = failed.unwrap().1.status.clone().unwrap();
    assert!(status.message.contains("Read Tags"), "{}", status.message);

    // Requests: one span for each page, with the tries that it took.
    let requests = of("request");
    let pages = report["pages"].as_u64().unwrap() as usize;
    let fine = requests.iter().filter(|(it, _)| it["status"] == "200");
    assert_eq!(fine.count(), pages);
    let attempts = |endpoint: &str| {
        let found = requests.iter().filter(|(it, _)| it["endpoint"] == endpoint);
        found
            .map(|(it, _)| it["attempts"].as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!(attempts("/fleet/vehicles"), ["2"]);
    let delayed = requests.iter().find(|(it, _)| it["attempts"] == "2");
    let mut events = delayed.unwrap().1.events.iter();
    let delayed = events.find(|event| event.name == "request delayed");
    assert_eq!(texts(&delayed.unwrap().attributes)["reason"], "429");

    // Partitions, model by model, and loads.
    let days = |name: &str, table: &str| {
        let found = of(name);
        let found = found.iter().filter(|(it, _)| it["table"] == table);
        let mut days: Vec<String> = found.map(|(it, _)| it["partition"].clone()).collect();
        days.sort();
        days
    };
    assert_eq!(
        days("transform", "fleet_trips"),
        ["2024-01-01", "2024-01-02"]
    );
    // The first load of a table is one.
    assert_eq!(days("load", "fleet_trips"), ["2024-01-01 to 2024-01-02"]);
    assert_eq!(days("load", "fleet_vehicles"), ["snapshot"]);
    assert_eq!(days("load", "_etl_runs").len(), 1);
    // A load follows the transformations that it brings, and none follows another's.
    let mut followed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (attributes, load) in of("load") {
        let (table, span) = (&attributes["table"], &attributes["partition"]);
        let (first, last) = span.split_once(" to ").unwrap_or((span, span));
        for link in &load.links {
            let transform = texts(&by_id[&*link.span_id].attributes);
            assert_eq!(transform["table"], *table);
            assert_eq!(link.trace_id, load.trace_id);
            let day = transform["partition"].clone();
            assert!((first..=last).contains(&day.as_str()), "{day} in {span}");
            followed.entry(table.clone()).or_default().push(day);
        }
    }
    // Days without rows need no load.
    for (table, days_of_loads) in &mut followed {
        days_of_loads.sort();
        let derived = days("transform", table);
        assert!(
            days_of_loads.iter().all(|day| derived.contains(day)),
            "{table}"
        );
        assert!(
            days_of_loads.is_sorted_by(|day, next| day < next),
            "{table}: {days_of_loads:?}"
        );
    }
    assert_eq!(followed["fleet_trips"], ["2024-01-01", "2024-01-02"]);
    assert_eq!(followed["fleet_vehicles"], ["snapshot"]);
    for (attributes, _) in of("transform").iter().chain(&of("load")) {
        assert_eq!(attributes["outcome"], "done", "{attributes:?}");
    }
}

/// Metrics say what the report says.
fn check_metrics(collector: &Collector, report: &Value) {
    let number = |value: &Value| value.as_f64().unwrap();
    let sum = |name: &str, attributes: &[(&str, &str)]| {
        collector.sum(&format!("samsara_etl.{name}"), attributes)
    };
    let pages = number(&report["pages"]);
    assert_eq!(sum("requests", &[("status", "200")]), pages);
    assert_eq!(sum("requests", &[("status", "429")]), 1.0);
    assert_eq!(sum("requests", &[("status", "403")]), 1.0);
    assert_eq!(sum("request.duration", &[]), sum("requests", &[]));
    assert_eq!(sum("retries", &[("endpoint", "/fleet/vehicles")]), 1.0);
    assert_eq!(sum("received", &[]), number(&report["page_bytes"]));
    for (table, source) in report["sources"].as_object().unwrap() {
        let table = ("table", table.as_str());
        assert_eq!(sum("records", &[table]), number(&source["records"]));
        let rows = sum("rows", &[table, ("stage", "extract")]);
        assert_eq!(rows, number(&source["rows"]));
    }
    let models = report["models"].as_object().unwrap();
    assert!(models.len() >= 2, "{models:?}");
    for (table, model) in models {
        let table = ("table", table.as_str());
        for (stage, partitions, rows) in [
            ("transform", "transformed", "rows"),
            ("load", "loaded", "loaded_rows"),
        ] {
            let of = [table, ("stage", stage)];
            assert_eq!(sum("rows", &of), number(&model[rows]), "{of:?}");
            assert_eq!(sum("partitions", &of), number(&model[partitions]));
            assert!(sum("written", &of) > 0.0, "{of:?}");
            let done = [table, ("stage", stage), ("outcome", "done")];
            let steps = match stage {
                "load" => 1.0,
                _ => number(&model[partitions]),
            };
            assert_eq!(sum("step.duration", &done), steps, "{done:?}");
        }
    }
    let audited = [("table", "_etl_runs"), ("stage", "load_audit")];
    assert_eq!(sum("step.duration", &audited), 1.0);
    let failed = [("table", "fleet_tags"), ("kind", "not_permitted")];
    assert_eq!(sum("failures", &failed), 1.0);
    assert_eq!(sum("failures", &[]), 1.0);
    // 2024-01-03T00:00:00Z: two days are whole.
    assert_eq!(
        sum("table.newest", &[("table", "fleet_trips")]),
        1_704_240_000.0
    );
    let now = chrono::Utc::now().timestamp() as f64;
    let lag = sum("table.lag", &[("table", "fleet_trips")]);
    assert!(lag > 0.0 && lag <= now - 1_704_240_000.0 + 1.0, "{lag}");
    let of_list = sum("table.newest", &[("table", "fleet_vehicles")]);
    assert!((now - 86_400.0..=now + 1.0).contains(&of_list), "{of_list}");
    let failed = [("outcome", "failed")];
    assert!((now - 86_400.0..=now + 1.0).contains(&sum("run.finished", &failed)));
    assert!(sum("run.duration", &failed) > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_does_without_its_collector() {
    let simulator = simulator(|_| {}).await;
    let refusing = Collector::start(Manner::Refuses(401));
    let rejecting = Collector::start(Manner::Rejects(1));
    let endpoints = [
        // Nobody listens there.
        (
            "http://127.0.0.1:9".to_string(),
            "did not reach the collector at http://127.0.0.1:9: ",
        ),
        (refusing.endpoint(), "it answers 401"),
        (rejecting.endpoint(), "it rejects some: the disk is full"),
        (
            "127.0.0.1:4318".to_string(),
            "no traces and metrics are sent: OTEL_EXPORTER_OTLP_ENDPOINT",
        ),
    ];
    for (endpoint, complaint) in endpoints {
        let program = Program::with_simulator(&simulator).set(
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=Bearer%20secret-of-mine",
        );
        // The variables may stand in `.env` too.
        program.write(".env", format!("OTEL_EXPORTER_OTLP_ENDPOINT={endpoint}\n"));
        let ran = program.succeed(&["run", "--table", "fleet_vehicles"]).await;
        let warnings = ran.stderr.lines().filter(|line| line.contains("warning: "));
        let warnings: Vec<&str> = warnings.collect();
        assert_eq!(warnings.len(), 1, "{}", ran.stderr);
        assert!(warnings[0].contains(complaint), "{}", warnings[0]);
        assert!(!ran.stderr.contains("secret-of-mine"), "{}", ran.stderr);
        assert_eq!(
            program
                .rows("SELECT vehicle_id FROM fleet_vehicles")
                .await
                .len(),
            8
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_collector_costs_a_moment() {
    let collector = Collector::start(Manner::Silent);
    let endpoint = collector.endpoint();
    let environment = Environment::from_pairs([("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint)]);
    let config = TelemetryConfig::resolve(&environment, std::path::Path::new("/"));
    let io = tokio::runtime::Handle::current();
    let telemetry = Telemetry::start(config.unwrap().unwrap(), &io).unwrap();
    let subscriber = tracing_subscriber::registry().with(telemetry.layer());
    // Far more spans than the queue has room for: none of them waits.
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..10_000 {
            drop(tracing::error_span!("request"));
        }
    });
    let observers = Observers::new(vec![telemetry.observer()]);
    observers.observe(&Event::RunFinished {
        outcome: Outcome::Done,
    });
    let lost = telemetry.finish_within(Duration::from_millis(1)).await;
    let lost = lost.unwrap();
    let host = endpoint.trim_end_matches("/otlp");
    let expected = format!(
        "10000 of 10000 spans and the last metrics did not reach the collector at {host}: "
    );
    assert!(lost.starts_with(&expected), "{lost}");
}
