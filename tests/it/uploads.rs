//! Objects too large for one request: their parts fail in every way, and what is read back is what was written.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, BinaryArray, RecordBatch};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use samsara_etl::config::{BucketLocation, GoogleAccess, WaitScale};
use samsara_etl::store::{Bucket, ObjectRef, StoreError, TableWriter};

use crate::program::WAIT_SCALE;
use crate::support::faults::{Action, Fault};
use crate::support::gcs::GcsDouble;

const KEY: &str = "raw/a/partition_day=2024-01-01/20261126T160246Z-1447db45-00000.parquet";
const MEGABYTES: u64 = 32;

fn bucket(double: &GcsDouble) -> Bucket {
    let wait_scale = WaitScale::new(WAIT_SCALE).unwrap();
    let access = GoogleAccess {
        storage_emulator: Some(double.url().into()),
        wait_scale,
        ..GoogleAccess::default()
    };
    Bucket::open(
        &BucketLocation::Google("raw".into()),
        &access,
        &tokio::runtime::Handle::current(),
    )
    .unwrap()
}

/// A megabyte that cannot be compressed, in rows of a kilobyte. Each is built once.
fn megabyte(seed: u64) -> RecordBatch {
    static MADE: Mutex<BTreeMap<u64, RecordBatch>> = Mutex::new(BTreeMap::new());
    MADE.lock()
        .unwrap()
        .entry(seed)
        .or_insert_with(|| made(seed))
        .clone()
}

fn made(seed: u64) -> RecordBatch {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut number = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let rows: Vec<Vec<u8>> = (0..1024)
        .map(|_| (0..128).flat_map(|_| number().to_le_bytes()).collect())
        .collect();
    let column: ArrayRef = Arc::new(BinaryArray::from_iter_values(rows));
    RecordBatch::try_from_iter([("bytes", column)]).unwrap()
}

async fn begun(double: &GcsDouble) -> Result<TableWriter, StoreError> {
    let mut writer = TableWriter::begin(&bucket(double), KEY.into(), megabyte(0).schema())?;
    for seed in 0..MEGABYTES {
        writer.write(&megabyte(seed)).await?;
    }
    Ok(writer)
}

async fn written(double: &GcsDouble) -> Result<ObjectRef, StoreError> {
    begun(double).await?.finish().await
}

/// How many requests of this method went to the upload, however they ended.
fn sent(double: &GcsDouble, method: &str) -> usize {
    let of_upload = |query: &str| query.contains("uploadId=");
    double
        .requests()
        .iter()
        .filter(|request| request.method == method && of_upload(&request.query))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_in_parts_survive_faults() {
    let parts = |action: Action, n| Fault::on("PUT", "raw/", action).nth(n);
    let lost_end = |action: Action| Fault::on("POST", "raw/", action).nth(2);
    let cases: Vec<(&str, Vec<Fault>)> = vec![
        ("nothing", vec![]),
        (
            "parts refused",
            vec![parts(Action::Status(503), 1), parts(Action::Status(429), 3)],
        ),
        (
            "connections lost",
            vec![parts(Action::DropBefore, 2), parts(Action::DropAfter, 3)],
        ),
        (
            "all parts applied twice",
            vec![Fault::on("PUT", "raw/", Action::DropAfter).first(4)],
        ),
        (
            "beginning refused",
            vec![Fault::on("POST", "raw/", Action::Status(503)).first(1)],
        ),
        // Two are begun then, and one is finished.
        (
            "answer to the beginning lost",
            vec![Fault::on("POST", "raw/", Action::DropAfter).first(1)],
        ),
        ("end refused", vec![lost_end(Action::Status(503))]),
        ("end lost on its way", vec![lost_end(Action::DropBefore)]),
        ("answer to the end lost", vec![lost_end(Action::DropAfter)]),
    ];
    for (case, faults) in cases {
        let double = GcsDouble::start(&["raw"]);
        let clean = faults.is_empty();
        faults.into_iter().for_each(|fault| double.fault(fault));
        let object = written(&double)
            .await
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(
            (object.path.as_str(), object.rows),
            (KEY, MEGABYTES * 1024),
            "{case}"
        );
        let bytes = double.get("raw", KEY).unwrap();
        assert_eq!(bytes.len() as u64, object.bytes, "{case}");
        let read = ParquetRecordBatchReaderBuilder::try_new(bytes)
            .unwrap()
            .with_batch_size(1024)
            .build()
            .unwrap();
        let read: Vec<RecordBatch> = read.map(Result::unwrap).collect();
        let same = read
            .iter()
            .enumerate()
            .all(|(seed, batch)| batch.column(0) == megabyte(seed as u64).column(0));
        assert!(
            read.len() as u64 == MEGABYTES && same,
            "{case}: other rows came back"
        );
        // 32 MB go in parts of 10, and what went wrong was sent again.
        assert!(
            sent(&double, "PUT") >= 4 && sent(&double, "POST") >= 1,
            "{case}: expected an upload in parts"
        );
        let failed = double
            .requests()
            .iter()
            .filter(|request| request.status != Some(200))
            .count();
        assert_eq!(failed == 0, clean, "{case}: {failed} requests failed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_upload_leaves_nothing() {
    for (method, n, what) in [
        ("PUT", 1, "a part"),
        ("PUT", 4, "the last part"),
        ("POST", 2, "the end"),
    ] {
        let double = GcsDouble::start(&["raw"]);
        double.fault(Fault::on(method, "raw/", Action::Status(403)).nth(n));
        let error = written(&double).await.unwrap_err().to_string();
        assert!(
            error.contains(&format!("cannot write gs://raw/{KEY}")) && error.contains("403"),
            "{what}: {error}"
        );
        assert!(double.objects("raw").is_empty(), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_upload_leaves_nothing() {
    let double = GcsDouble::start(&["raw"]);
    let writer = begun(&double).await.unwrap();
    let enough = async {
        while sent(&double, "PUT") < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), enough)
        .await
        .unwrap();
    drop(writer);
    assert!(double.objects("raw").is_empty());
    // Another run writes the same day meanwhile; its own upload is not disturbed.
    written(&double).await.unwrap();
    assert_eq!(double.objects("raw").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_folder_upload_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let location = BucketLocation::Folder(folder.path().to_path_buf());
    let bucket = Bucket::open(
        &location,
        &GoogleAccess::default(),
        &tokio::runtime::Handle::current(),
    )
    .unwrap();
    let mut writer = TableWriter::begin(&bucket, KEY.into(), megabyte(0).schema()).unwrap();
    for seed in 0..MEGABYTES + 2 {
        writer.write(&megabyte(seed)).await.unwrap();
    }
    // Batches are encoded by a task of their own.
    let begun = async {
        loop {
            let left = bucket.leftovers().await.unwrap();
            let left: Vec<String> = left.into_iter().map(|file| file.key).collect();
            if left == [format!("{KEY}#1")] {
                return;
            }
            assert!(left.is_empty(), "{left:?}");
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), begun)
        .await
        .unwrap();
    assert!(
        bucket.list("").await.unwrap().is_empty(),
        "the object must not exist before it is complete"
    );
    drop(writer);
    let gone = async {
        while !bucket.leftovers().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone)
        .await
        .unwrap();
}
