//! Speed of each stage on this machine, in one run: `cargo bench`.
//!
//! Rates of page decoding are MB/s of JSON as the API sends it; those of SQL and Parquet are rows/s. No network,
//! no disk: pages come from memory and objects go to memory's file system folder.

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
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use samsara_etl::catalog::{Catalog, Source};
use samsara_etl::config::{BucketLocation, GoogleAccess};
use samsara_etl::extract::{day_window, decode_page};
use samsara_etl::store::layout::{Partition, RunId, raw_object};
use samsara_etl::store::{Bucket, ObjectRef, TableWriter};
use samsara_etl::transform::{RawInputs, Transformer, bind};
use tempfile::TempDir;
use tokio::runtime::Runtime;

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

/// Page decode, MB/s of JSON. `serde_json` stands beside it as the price of looking at each value.
fn page_decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("page_decode");
    let rpm = source("fleet_vehicle_stats_engineRpm");
    for (name, drift) in [
        ("engineRpm", Drift::None),
        ("engineRpm_unknown_field", Drift::UnknownField),
        ("engineRpm_wrong_type", Drift::WrongType),
    ] {
        let page = rpm_page(drift);
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

/// Parquet writing, readings/s.
fn parquet_write(criterion: &mut Criterion) {
    let rig = rig();
    let mut group = criterion.benchmark_group("parquet_write");
    let name = "fleet_vehicle_stats_engineRpm";
    let (batch, _) = decode(&source(name), &rpm_page(Drift::None));
    group.throughput(Throughput::Elements((VEHICLES * READINGS) as u64));
    group.bench_function("engineRpm", |bencher| {
        bencher.iter(|| black_box(rig.write(name, &batch)))
    });
    group.finish();
}

/// A model from raw Parquet to flattened Parquet, output rows/s.
fn model_transform(criterion: &mut Criterion) {
    let rig = rig();
    let catalog = Arc::new(Catalog::open(None).unwrap());
    let transformer = Transformer::new(
        catalog.clone(),
        1 << 30,
        rig.bucket.clone(),
        rig.bucket.clone(),
    )
    .unwrap();
    let mut group = criterion.benchmark_group("model_transform");
    group.sample_size(20);
    for (name, page) in [
        ("fleet_vehicle_stats_engineRpm", rpm_page(Drift::None)),
        ("fleet_vehicle_stats_gps", gps_page()),
    ] {
        let model = catalog.model(name).unwrap();
        let contract = rig.runtime.block_on(bind(&catalog, model)).unwrap();
        let (batch, _) = decode(&source(name), &page);
        let inputs: RawInputs = vec![(name.to_string(), vec![rig.write(name, &batch)])];
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

criterion_group!(pipeline, page_decode, parquet_write, model_transform);
criterion_main!(pipeline);
