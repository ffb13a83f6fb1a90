//! What it costs to watch a run: `cargo bench --bench events`.
//!
//! Group `events`: all events of one page through each observer, and a drawing of the bars, which happens five times a
//! second. A page of the API takes milliseconds to decode alone (`cargo bench --bench pipeline -- decode`), so `page/all`
//! divided by that is the share of watching. Group `watching`: the same small run with and without observers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test or bench that cannot go on should stop"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use samsara_etl::audit::Recorder;
use samsara_etl::catalog::Catalog;
use samsara_etl::config::{Config, Environment, Overrides};
use samsara_etl::events::{Event, LogEvents, Observer, Observers, Outcome, Totals};
use samsara_etl::pipeline::Pipeline;
use samsara_etl::plan::{Dates, RunRequest, Selection, Stage};
use samsara_etl::report::ReportBuilder;
use samsara_etl::report::progress::{Part, ProgressObserver};
use samsara_etl::store::layout::Partition;
use samsara_etl::telemetry::metrics::Meter;
use samsara_simulator::{Simulator, SimulatorConfig};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

const TABLE: &str = "fleet_vehicle_stats_engineRpm";

/// What happens while a page is fetched that is a whole request, a task, a partition and a load: the most that a page
/// brings with it.
fn events_of_a_page() -> Vec<Event> {
    let endpoint = || "/fleet/vehicles/stats/history".to_string();
    let (sources, scope) = (vec![TABLE.to_string()], "2024-01-01".to_string());
    let partition = Partition::parse("2024-01-01").unwrap();
    let (outcome, elapsed) = (Outcome::Done, Duration::from_millis(120));
    vec![
        Event::TaskStarted {
            sources: sources.clone(),
            scope: scope.clone(),
            requests: 1,
        },
        Event::RequestWaited {
            endpoint: endpoint(),
            wait: Duration::from_millis(20),
        },
        Event::AttemptFinished {
            endpoint: endpoint(),
            status: Some(200),
            elapsed,
        },
        Event::PageFetched {
            endpoint: endpoint(),
            bytes: 4_000_000,
        },
        Event::RequestFinished {
            sources: sources.clone(),
            scope: scope.clone(),
        },
        Event::PartitionExtracted {
            source: TABLE.into(),
            partition,
            records: 200,
            rows: 200,
            out_of_window: 0,
            rescued: 0,
            unchanged: false,
        },
        Event::TaskFinished {
            sources,
            scope,
            requests: 1,
            missing: 0,
            outcome,
        },
        Event::TransformStarted {
            model: TABLE.into(),
            partition,
        },
        Event::PartitionTransformed {
            model: TABLE.into(),
            partition,
            rows: 100_000,
            bytes: 1_000_000,
            elapsed,
        },
        Event::TransformFinished {
            model: TABLE.into(),
            partition,
            outcome,
        },
        Event::PartitionLoaded {
            model: TABLE.into(),
            partition,
            rows: 100_000,
            bytes: 1_000_000,
            job: None,
            elapsed,
        },
    ]
}

/// An observer of each kind, by name.
fn observers() -> Vec<(&'static str, Arc<dyn Observer>)> {
    vec![
        ("log", Arc::new(LogEvents)),
        ("progress", Arc::new(ProgressObserver::default())),
        ("report", Arc::new(ReportBuilder::default())),
        ("audit", Arc::new(Recorder::default())),
        ("otel", Arc::new(Meter::default())),
    ]
}

fn page(criterion: &mut Criterion) {
    let events = events_of_a_page();
    let mut group = criterion.benchmark_group("events");
    let each = observers().into_iter().map(|(name, it)| (name, vec![it]));
    let all = observers().into_iter().map(|(_, it)| it).collect();
    for (name, watching) in each.chain([("all", all)]) {
        group.bench_function(format!("page/{name}"), |bencher| {
            // The audit tables' rows are kept until the end of a run: each batch is one of its own.
            bencher.iter_batched_ref(
                || Observers::new(watching.clone()),
                |observers| {
                    events
                        .iter()
                        .for_each(|it| observers.observe(black_box(it)))
                },
                BatchSize::SmallInput,
            );
        });
    }
    let progress = Arc::new(ProgressObserver::default());
    let observers = Observers::new(vec![progress.clone()]);
    observers.observe(&Event::RunStarted {
        run: "20240101T000000Z-00000000".into(),
        totals: Totals {
            requests: 10_000,
            request_seconds: 600.0,
            tasks: 3_000,
            partitions: 5_000,
            jobs: 200,
        },
    });
    for _ in 0..1000 {
        events.iter().for_each(|it| observers.observe(it));
    }
    group.bench_function("draw", |bencher| {
        bencher.iter(|| {
            let (progress, elapsed) = (progress.progress(), Duration::from_secs(60));
            for part in [Part::Extract, Part::Transform, Part::Load] {
                black_box(progress.bar(part, elapsed, 120));
            }
            black_box(progress.working_on(120))
        });
    });
    group.finish();
}

/// One day of some tables of a simulated fleet.
fn run(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let simulator = SimulatorConfig {
        vehicles: 20,
        ..SimulatorConfig::default()
    };
    let simulator = runtime.block_on(Simulator::start(simulator)).unwrap();
    let once = |folder: TempDir, watching: Vec<Arc<dyn Observer>>| {
        let url = simulator.url();
        let environment = Environment::from_pairs([
            ("SAMSARA_API_URL", url.as_str()),
            ("SAMSARA_API_TOKEN", simulator.token()),
            ("SAMSARA_ETL_WAIT_SCALE", "0.001"),
        ]);
        let overrides = Overrides::default();
        let config = Config::resolve(&environment, &overrides, folder.path(), "data").unwrap();
        runtime.block_on(async {
            let catalog = Catalog::open(None).unwrap();
            let names = [TABLE, "fleet_vehicle_stats_gps", "fleet_trips"].map(String::from);
            let run_request = RunRequest {
                selection: Selection::of_names(&catalog, &names).unwrap(),
                dates: Dates::parse(Some("2024-01-01"), Some("2024-01-02")).unwrap(),
                stages: [Stage::Extract, Stage::Transform, Stage::Load].into(),
                historical: false,
            };
            let pipeline = Pipeline::new(config, catalog).unwrap();
            let plan = pipeline.plan(run_request).await.unwrap();
            let stop = CancellationToken::new();
            let report = pipeline.run(plan, watching, stop).await.unwrap();
            assert!(report.failures.is_empty(), "{report}");
        });
        folder
    };
    let mut group = criterion.benchmark_group("watching");
    group.sample_size(20);
    let nobody: fn() -> Vec<Arc<dyn Observer>> = Vec::new;
    let everybody: fn() -> Vec<Arc<dyn Observer>> =
        || observers().into_iter().map(|(_, it)| it).collect();
    for (name, watching) in [("nobody", nobody), ("everybody", everybody)] {
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || (TempDir::new().unwrap(), watching()),
                |(folder, watching)| once(folder, watching),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
    runtime.block_on(simulator.shutdown());
}

/// As a run logs: each step, to nowhere.
fn logged(criterion: &mut Criterion) {
    tracing_subscriber::fmt()
        .json()
        .with_writer(std::io::sink)
        .with_env_filter(EnvFilter::new("samsara_etl=info"))
        .init();
    page(criterion);
    run(criterion);
}

criterion_group!(events, logged);
criterion_main!(events);
