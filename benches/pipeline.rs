//! What the stages cost on this machine, side by side in one run: `cargo bench`. See `benches/README.md`.
//!
//! Groups `decode` (pages to record batches) and `pipeline` (pages over HTTP to committed objects and a loaded table)
//! tell MB/s of JSON as the API sends it, `parquet` and `transform` readings/s, `state` and `plan` partitions/s. No network
//! but the machine's own, and no disk: pages come from memory, objects go to a folder, which lies in the page cache.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "a test or bench that cannot go on should stop"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;

use arrow::array::RecordBatch;
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use samsara_etl::catalog::{Catalog, Source};
use samsara_etl::config::{
    BucketLocation, CHECKPOINT_PAGES, Config, DELTA_BATCH, GoogleAccess, HttpConfig, LoadOptions,
    LockConfig, RetryConfig, SamsaraConfig, Secret, StorageConfig, TableFormat, WarehouseConfig,
};
use samsara_etl::extract::{day_window, decode_page};
use samsara_etl::pipeline::Pipeline;
use samsara_etl::plan::{Dates, RunRequest, Selection, Stage};
use samsara_etl::state::{StateStore, read_state};
use samsara_etl::store::layout::{Partition, RunId, raw_object};
use samsara_etl::store::{Bucket, ObjectRef, TableWriter};
use samsara_etl::transform::{Inputs, Transformer, bind};
use samsara_simulator::{Simulator, SimulatorConfig};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

const VEHICLES: usize = 200;
const READINGS: usize = 500;

/// How a page differs from the declared schema.
#[derive(Clone, Copy, PartialEq)]
enum Drift {
    None,
    /// A field that the schema does not know, in every reading.
    UnknownField,
    /// A value that does not fit its type, in every reading.
    WrongType,
}

/// A page of `VEHICLES * READINGS` engine speed readings.
fn rpm_page(drift: Drift) -> Bytes {
    let mut text = String::from("[");
    for vehicle in 0..VEHICLES {
        let comma = if vehicle == 0 { "" } else { "," };
        let id = 281_474_982_859_091_u64 + vehicle as u64;
        let _ = write!(
            text,
            r#"{comma}{{"id":"{id}","name":"Tractor {vehicle}","externalIds":{{"samsara.vin":"VIN{vehicle}"}},"engineRpm":["#
        );
        for reading in 0..READINGS {
            let comma = if reading == 0 { "" } else { "," };
            let (minute, second) = (reading / 60 % 60, reading % 60);
            let value = 600 + (reading * 37 + vehicle * 11) % 1800;
            let rest = match drift {
                Drift::None => format!(r#""value":{value}"#),
                Drift::UnknownField => format!(r#""value":{value},"quality":{}"#, reading % 9),
                Drift::WrongType => format!(r#""value":"{value} rpm""#),
            };
            let _ = write!(
                text,
                r#"{comma}{{"time":"2024-01-01T{:02}:{minute:02}:{second:02}.981Z",{rest}}}"#,
                reading / 3600
            );
        }
        text.push_str("]}");
    }
    text.push(']');
    Bytes::from(text)
}

/// A page of GPS fixes: many columns, fractions, an object in each reading.
fn gps_page() -> Bytes {
    let mut text = String::from("[");
    for vehicle in 0..VEHICLES {
        let comma = if vehicle == 0 { "" } else { "," };
        let _ = write!(
            text,
            r#"{comma}{{"id":"{}","name":"Tractor {vehicle}","gps":["#,
            281_474_982_859_091_u64 + vehicle as u64
        );
        for reading in 0..READINGS / 2 {
            let comma = if reading == 0 { "" } else { "," };
            let drift = reading as f64 / 10_000.0;
            let _ = write!(
                text,
                r#"{comma}{{"time":"2024-01-01T00:{:02}:{:02}Z","latitude":{:.5},"longitude":{:.5},"headingDegrees":{},"speedMilesPerHour":{:.1},"isEcuSpeed":true,"reverseGeo":{{"formattedLocation":"I-290, Chicago, IL, 60607"}}}}"#,
                reading / 60 % 60,
                reading % 60,
                41.88 + drift,
                -87.62 - drift,
                reading % 360,
                reading as f64 % 70.0
            );
        }
        text.push_str("]}");
    }
    text.push(']');
    Bytes::from(text)
}

/// Leaves a page for `benches/tape`, which is a program of its own.
fn keep(name: &str, page: &Bytes) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench-pages");
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(format!("{folder}/{name}.json"), page).unwrap();
}

fn source(name: &str) -> Source {
    Catalog::open(None).unwrap().source(name).unwrap().clone()
}

fn day() -> chrono::NaiveDate {
    chrono::NaiveDate::from_ymd_opt(2024, 1, 1).unwrap()
}

fn decode(
    source: &Source,
    page: &Bytes,
) -> (RecordBatch, BTreeMap<samsara_etl::extract::DriftKey, u64>) {
    decode_page(source, page.clone(), Some(day_window(day())), None).unwrap()
}

/// Pages to record batches. `serde_json` is measured too, as the price of visiting each value.
fn page_decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    let rpm = source("fleet_vehicle_stats_engineRpm");
    for (name, drift) in [
        ("engineRpm", Drift::None),
        ("engineRpm_unknown_field", Drift::UnknownField),
        ("engineRpm_wrong_type", Drift::WrongType),
    ] {
        let page = rpm_page(drift);
        keep(name, &page);
        let (batch, found) = decode(&rpm, &page);
        assert_eq!(batch.num_rows(), VEHICLES);
        assert_eq!(
            found.values().sum::<u64>() as usize,
            if drift == Drift::None {
                0
            } else {
                VEHICLES * READINGS
            }
        );
        group.throughput(Throughput::Bytes(page.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(decode(&rpm, &page)))
        });
    }
    let (gps, page) = (source("fleet_vehicle_stats_gps"), gps_page());
    keep("gps", &page);
    group.throughput(Throughput::Bytes(page.len() as u64));
    group.bench_function("gps", |bencher| {
        bencher.iter(|| black_box(decode(&gps, &page)))
    });
    let page = rpm_page(Drift::None);
    group.throughput(Throughput::Bytes(page.len() as u64));
    group.bench_function("engineRpm_serde_json_value", |bencher| {
        bencher.iter(|| black_box(serde_json::from_slice::<serde_json::Value>(&page).unwrap()));
    });
    group.finish();
}

struct Rig {
    runtime: Runtime,
    _folder: TempDir,
    bucket: Bucket,
}

fn rig() -> Rig {
    let runtime = Runtime::new().unwrap();
    let folder = TempDir::new().unwrap();
    let location = BucketLocation::Folder(folder.path().to_path_buf());
    let bucket = Bucket::open(&location, &GoogleAccess::default(), runtime.handle()).unwrap();
    Rig {
        runtime,
        _folder: folder,
        bucket,
    }
}

impl Rig {
    fn write(&self, source: &str, batch: &RecordBatch) -> ObjectRef {
        let run = RunId::new(samsara_etl::clock::now());
        let key = raw_object(source, Partition::Day(day()), &run, 0);
        self.runtime.block_on(async {
            let mut writer = TableWriter::begin(&self.bucket, key, batch.schema()).unwrap();
            writer.write(batch).await.unwrap();
            writer.finish().await.unwrap()
        })
    }
}

/// Raw Parquet.
fn parquet_write(criterion: &mut Criterion) {
    let rig = rig();
    let mut group = criterion.benchmark_group("parquet");
    let name = "fleet_vehicle_stats_engineRpm";
    let (batch, _) = decode(&source(name), &rpm_page(Drift::None));
    group.throughput(Throughput::Elements((VEHICLES * READINGS) as u64));
    group.bench_function("engineRpm", |bencher| {
        bencher.iter(|| black_box(rig.write(name, &batch)))
    });
    group.finish();
}

/// A model, from raw Parquet to flattened Parquet.
fn model_transform(criterion: &mut Criterion) {
    let rig = rig();
    let catalog = Catalog::open(None).unwrap();
    let transformer = Transformer::new(1 << 30, rig.bucket.clone(), rig.bucket.clone()).unwrap();
    let mut group = criterion.benchmark_group("transform");
    group.sample_size(20);
    for (name, page) in [
        ("fleet_vehicle_stats_engineRpm", rpm_page(Drift::None)),
        ("fleet_vehicle_stats_gps", gps_page()),
    ] {
        let model = catalog.model(name).unwrap();
        let contract = rig.runtime.block_on(bind(&catalog, model)).unwrap();
        let (batch, _) = decode(&source(name), &page);
        let inputs: Inputs = vec![(source(name).into(), vec![rig.write(name, &batch)])];
        let derive = |run: RunId| {
            let derived =
                transformer.derive(model, &contract, Partition::Day(day()), &inputs, &run);
            rig.runtime.block_on(derived).unwrap().rows
        };
        group.throughput(Throughput::Elements(derive(RunId::new(
            samsara_etl::clock::now(),
        ))));
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || RunId::new(samsara_etl::clock::now()),
                |run| black_box(derive(run)),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// Pages that a simulator serves over HTTP, to committed raw and flattened objects and a loaded table.
fn whole_run(criterion: &mut Criterion) {
    const PAGES: usize = 8;
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("pipeline");
    group.sample_size(10);
    for (name, types, records) in [
        (
            "fleet_vehicle_stats_engineRpm",
            "engineRpm",
            rpm_page(Drift::None),
        ),
        ("fleet_vehicle_stats_gps", "gps", gps_page()),
    ] {
        let pages = TempDir::new().unwrap();
        let chain = pages
            .path()
            .join("fleet/vehicles/stats/history")
            .join(format!("types={types}"));
        std::fs::create_dir_all(&chain).unwrap();
        let mut bytes = 0;
        for page in 0..PAGES {
            // Each page has vehicles of its own.
            let records = String::from_utf8_lossy(&records)
                .replace("\"id\":\"281474", &format!("\"id\":\"{}", 381_474 + page));
            let has_next = page + 1 < PAGES;
            let body = format!(
                r#"{{"data":{records},"pagination":{{"endCursor":"c{page}","hasNextPage":{has_next}}}}}"#
            );
            bytes += body.len() as u64;
            std::fs::write(chain.join(format!("{page:04}.json")), body).unwrap();
        }
        let simulator = SimulatorConfig {
            pages_dir: Some(pages.path().to_path_buf()),
            ..SimulatorConfig::default()
        };
        let simulator = runtime.block_on(Simulator::start(simulator)).unwrap();
        let run = |folder: TempDir| {
            let config = config(&simulator, &folder);
            runtime.block_on(run_pipeline(config, &[name], "2024-01-02"));
            folder
        };
        // The simulator reads all pages before it answers the first request.
        drop(run(TempDir::new().unwrap()));
        group.throughput(Throughput::Bytes(bytes));
        group.bench_function(name, |bencher| {
            bencher.iter_batched(|| TempDir::new().unwrap(), run, BatchSize::PerIteration);
        });
        runtime.block_on(simulator.shutdown());
    }
    group.finish();
}

/// What a run does before and after its partitions, with a year of state: reads documents, commits, plans.
fn year_of_state(criterion: &mut Criterion) {
    const TABLES: [&str; 2] = ["fleet_vehicle_stats_engineRpm", "fleet_vehicle_stats_gps"];
    const END: &str = "2025-01-01";
    const DAYS: u64 = 366;
    let runtime = Runtime::new().unwrap();
    let simulator = SimulatorConfig {
        vehicles: 1,
        ..SimulatorConfig::default()
    };
    let simulator = runtime.block_on(Simulator::start(simulator)).unwrap();
    let folder = TempDir::new().unwrap();
    runtime.block_on(run_pipeline(config(&simulator, &folder), &TABLES, END));
    let bucket = {
        let config = config(&simulator, &folder).storage;
        Bucket::open(&config.raw, &config.google, runtime.handle()).unwrap()
    };

    let mut group = criterion.benchmark_group("state");
    let open = || {
        let state = runtime.block_on(read_state(&bucket, TABLES[0])).unwrap();
        state.unwrap().partitions.len() as u64
    };
    assert_eq!(open(), DAYS);
    group.throughput(Throughput::Elements(DAYS));
    group.bench_function("read_year", |bencher| bencher.iter(|| black_box(open())));
    let document = runtime
        .block_on(StateStore::new(bucket.clone()).source(TABLES[1]))
        .unwrap();
    group.throughput(Throughput::Elements(1));
    group.bench_function("commit_day", |bencher| {
        bencher.iter(|| {
            let changed = Some(samsara_etl::clock::now());
            let change = document.commit(move |state| {
                state.partition_mut(Partition::Day(day())).changed = changed;
            });
            runtime.block_on(change).unwrap();
        });
    });
    // The day is settled again before planning is measured.
    let settle = document.commit(|state| state.partition_mut(Partition::Day(day())).changed = None);
    runtime.block_on(settle).unwrap();
    group.finish();

    let mut group = criterion.benchmark_group("plan");
    group.sample_size(20);
    group.throughput(Throughput::Elements(DAYS * TABLES.len() as u64));
    let empty = TempDir::new().unwrap();
    for (name, folder) in [("first_year", &empty), ("settled_year", &folder)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let config = config(&simulator, folder);
                runtime.block_on(async {
                    let (pipeline, request) = pipeline(config, &TABLES, END);
                    black_box(pipeline.plan(request).await.unwrap());
                });
            });
        });
    }
    group.finish();
    runtime.block_on(simulator.shutdown());
}

/// A pipeline over the embedded catalog, and the request for these tables from 2024 on.
fn pipeline(config: Config, tables: &[&str], end: &str) -> (Pipeline, RunRequest) {
    let catalog = Catalog::open(None).unwrap();
    let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
    let request = RunRequest {
        selection: Selection::of_names(&catalog, &names).unwrap(),
        dates: Dates::parse(Some("2024-01-01"), Some(end)).unwrap(),
        stages: [Stage::Extract, Stage::Transform, Stage::Load].into(),
        historical: false,
    };
    (Pipeline::new(config, catalog).unwrap(), request)
}

/// Runs all stages of these tables, from 2024 on.
async fn run_pipeline(config: Config, tables: &[&str], end: &str) {
    let (pipeline, request) = pipeline(config, tables, end);
    let plan = pipeline.plan(request).await.unwrap();
    let run = pipeline.run(plan, vec![], CancellationToken::new());
    let report = run.await.unwrap();
    assert!(report.failures.is_empty(), "{report}");
}

fn config(simulator: &Simulator, folder: &TempDir) -> Config {
    let folder = folder.path();
    Config {
        samsara: SamsaraConfig {
            token: Some(Secret::new(simulator.token())),
            url: Some(simulator.url().parse().unwrap()),
            // The simulator has no limits of its own.
            rate_share: 1000.0,
            retry: RetryConfig::default(),
            http: HttpConfig::default(),
        },
        storage: StorageConfig {
            raw: BucketLocation::Folder(folder.join("raw")),
            flattened: BucketLocation::Folder(folder.join("flattened")),
            google: GoogleAccess::default(),
        },
        warehouse: WarehouseConfig::Local(folder.join("warehouse")),
        staging: None,
        max_workers: 5,
        sql_memory: 1 << 30,
        hash_salt: None,
        load: LoadOptions::default(),
        lock: LockConfig::default(),
        checkpoint_pages: CHECKPOINT_PAGES,
        table_format: TableFormat::default(),
        delta_batch: DELTA_BATCH,
        #[cfg(feature = "ballista")]
        scheduler: None,
    }
}

criterion_group!(
    stages,
    page_decode,
    parquet_write,
    model_transform,
    whole_run,
    year_of_state
);
criterion_main!(stages);
