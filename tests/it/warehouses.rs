//! What every warehouse must keep to: the folder, and BigQuery as its emulator and as our double.

use std::sync::Arc;
use std::time::Duration;

use ::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use chrono::Utc;
use samsara_etl::config::{BucketLocation, GoogleAccess, LockConfig, WaitScale};
use samsara_etl::load::{
    Batch, BigQuery, FlatObjects, LoadError, LocalWarehouse, Warehouse, load, trial_table,
};
use samsara_etl::state::{Fence, RunLock};
use samsara_etl::store::layout::{Partition, RunId};
use samsara_etl::store::{Bucket, ObjectRef, TableWriter};
use samsara_etl::transform::{Column, ColumnType, Contract};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::load_jobs::contract;
use crate::loading::rows;
use crate::program::WAIT_SCALE;
use crate::support::bigquery_double::BigQueryDouble;
use crate::support::bigquery_emulator::shared;
use crate::support::gcs::GcsDouble;

/// A warehouse and the bucket that it loads from.
struct Rig {
    warehouse: Box<dyn Warehouse>,
    bucket: Bucket,
    number: usize,
    attempt: u32,
    is_bigquery: bool,
}

impl Rig {
    /// A batch of days, each with these ids, written again.
    async fn batch(&mut self, contract: &Contract, days: &[(&str, &[&str])], whole: bool) -> Batch {
        let mut partitions = Vec::new();
        for (day, ids) in days {
            self.number += 1;
            let partition = Partition::parse(day).unwrap();
            let folder = partition.day().map_or("snapshot=1".to_string(), |day| {
                format!("partition_day={day}")
            });
            let path = format!("{}/{folder}/{}.parquet", contract.table, self.number);
            let object = self.object(contract, path, partition, ids).await;
            partitions.push(FlatObjects {
                partition,
                objects: vec![object],
                fingerprint: format!("{:064}", self.number),
            });
        }
        self.attempt += 1;
        Batch {
            bucket: self.bucket.clone(),
            partitions,
            whole,
            reshape: false,
            attempt: self.attempt,
        }
    }

    async fn object(
        &self,
        contract: &Contract,
        path: String,
        partition: Partition,
        ids: &[&str],
    ) -> ObjectRef {
        let day = partition
            .day()
            .unwrap_or_default()
            .and_hms_opt(12, 0, 0)
            .unwrap()
            .and_utc();
        let mut columns: Vec<ArrayRef> = Vec::new();
        for column in &contract.columns {
            columns.push(match column.column_type {
                ColumnType::Timestamp => Arc::new(
                    TimestampMicrosecondArray::from_iter_values(
                        ids.iter().map(|_| day.timestamp_micros()),
                    )
                    .with_timezone("UTC"),
                ),
                ColumnType::Int64 => Arc::new(Int64Array::from_iter(
                    ids.iter().map(|id| id.parse::<i64>().ok()),
                )),
                _ => Arc::new(StringArray::from_iter_values(ids.iter())),
            });
        }
        let batch = RecordBatch::try_new(contract.schema(), columns).unwrap();
        let mut writer = TableWriter::begin(&self.bucket, path, contract.schema()).unwrap();
        writer.write(&batch).await.unwrap();
        writer.finish().await.unwrap()
    }

    /// Rows by partition, as the warehouse counts them.
    async fn counts(&self, contract: &Contract) -> Vec<(String, u64)> {
        let counts = self.warehouse.counts(contract).await.unwrap();
        counts
            .into_iter()
            .filter(|(_, rows)| *rows > 0)
            .map(|(day, rows)| (day.to_string(), rows))
            .collect()
    }
}

fn pairs(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected
        .iter()
        .map(|(day, rows)| ((*day).to_string(), *rows))
        .collect()
}

/// The suite. Each warehouse gets tables of its own.
async fn conforms(mut rig: Rig) {
    let daily = contract("readings");
    assert!(rig.warehouse.prepare(&daily).await.unwrap().is_empty);
    rig.warehouse.prepare(&daily).await.unwrap();

    // Many days at once, of which one has no rows.
    let first = rig
        .batch(
            &daily,
            &[("2024-01-01", &["a", "b"]), ("2024-01-02", &["c"])],
            true,
        )
        .await;
    assert_eq!(
        load(rig.warehouse.as_ref(), &daily, &first)
            .await
            .unwrap()
            .rows,
        3
    );
    assert_eq!(
        rig.counts(&daily).await,
        pairs(&[("2024-01-01", 2), ("2024-01-02", 1)])
    );
    // The same day three times, then with late data, then after an edit that leaves fewer rows.
    for ids in [
        &["a", "b"][..],
        &["a", "b"],
        &["a", "b"],
        &["a", "b", "late"],
        &["edited"],
    ] {
        let again = rig.batch(&daily, &[("2024-01-01", ids)], false).await;
        assert_eq!(
            load(rig.warehouse.as_ref(), &daily, &again)
                .await
                .unwrap()
                .rows,
            ids.len() as u64
        );
        assert_eq!(
            rig.counts(&daily).await,
            pairs(&[("2024-01-01", ids.len() as u64), ("2024-01-02", 1)])
        );
    }
    // A day that lost its rows.
    let emptied = rig.batch(&daily, &[("2024-01-01", &[])], false).await;
    load(rig.warehouse.as_ref(), &daily, &emptied)
        .await
        .unwrap();
    assert_eq!(rig.counts(&daily).await, pairs(&[("2024-01-02", 1)]));
    // Everything again: what is not in it is gone.
    let refresh = rig
        .batch(
            &daily,
            &[("2024-01-03", &["x", "y"]), ("2024-01-04", &["z"])],
            true,
        )
        .await;
    load(rig.warehouse.as_ref(), &daily, &refresh)
        .await
        .unwrap();
    assert_eq!(
        rig.counts(&daily).await,
        pairs(&[("2024-01-03", 2), ("2024-01-04", 1)])
    );

    // A load that is repeated word for word.
    assert_eq!(
        load(rig.warehouse.as_ref(), &daily, &refresh)
            .await
            .unwrap()
            .rows,
        3
    );
    assert_eq!(
        rig.counts(&daily).await,
        pairs(&[("2024-01-03", 2), ("2024-01-04", 1)])
    );

    // A new column comes, and the rows that were there stay.
    let mut wider = daily.clone();
    wider.columns.push(Column {
        name: "note".into(),
        column_type: ColumnType::String,
        description: None,
    });
    assert!(!rig.warehouse.prepare(&wider).await.unwrap().is_empty);
    let noted = rig.batch(&wider, &[("2024-01-05", &["n"])], false).await;
    load(rig.warehouse.as_ref(), &wider, &noted).await.unwrap();
    assert_eq!(
        rig.counts(&wider).await,
        pairs(&[("2024-01-03", 2), ("2024-01-04", 1), ("2024-01-05", 1)])
    );
    // A changed type and another partitioning are refused, with both sides.
    let mut changed = wider.clone();
    changed.columns[2].column_type = ColumnType::Int64;
    let error = rig
        .warehouse
        .prepare(&changed)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`note` is STRING, the model gives INT64"),
        "{error}"
    );
    let refused = rig.warehouse.prepare(&changed).await;
    assert!(
        matches!(
            refused,
            Err(LoadError::Shape {
                replaceable: true,
                ..
            })
        ),
        "{refused:?}"
    );
    let unpartitioned = Contract {
        partition_by: None,
        ..wider.clone()
    };
    let refused = rig.warehouse.prepare(&unpartitioned).await;
    assert!(
        matches!(refused, Err(LoadError::Shape { .. })),
        "{refused:?}"
    );
    // The changed type comes with the rows, in one step; partitions and days stay as they were.
    let batch = rig
        .batch(
            &changed,
            &[("2024-01-03", &["7", "8"]), ("2024-01-04", &["9"])],
            true,
        )
        .await;
    let reshaped = load(
        rig.warehouse.as_ref(),
        &changed,
        &Batch {
            reshape: true,
            ..batch
        },
    )
    .await
    .unwrap();
    assert_eq!(reshaped.rows, 3);
    assert_eq!(
        rig.counts(&changed).await,
        pairs(&[("2024-01-03", 2), ("2024-01-04", 1)])
    );
    assert!(!rig.warehouse.prepare(&changed).await.unwrap().is_empty);
    let single = rig.batch(&changed, &[("2024-01-05", &["1"])], false).await;
    load(rig.warehouse.as_ref(), &changed, &single)
        .await
        .unwrap();
    assert_eq!(rig.counts(&changed).await.len(), 3);
    // Trial tables of other buckets, and tables of other programs, must not be dropped.
    for (name, mark) in [("readings", "aa"), ("readings", "bb"), ("a_b", "aa")] {
        rig.warehouse
            .prepare(&Contract {
                table: trial_table(name, mark, "1"),
                ..daily.clone()
            })
            .await
            .unwrap();
    }
    let mut dropped = rig.warehouse.drop_trial_tables("aa").await.unwrap();
    dropped.sort();
    if rig.is_bigquery {
        assert_eq!(
            dropped,
            [
                trial_table("a_b", "aa", "1"),
                trial_table("readings", "aa", "1")
            ]
        );
    }
    assert!(
        rig.warehouse
            .drop_trial_tables("aa")
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(rig.counts(&changed).await.len(), 3);

    // A list is replaced as a whole.
    let list = Contract {
        partition_by: None,
        cluster_by: Vec::new(),
        ..contract("list")
    };
    rig.warehouse.prepare(&list).await.unwrap();
    for ids in [&["a", "b", "c"][..], &["a"], &["a", "d"]] {
        let batch = rig.batch(&list, &[("snapshot", ids)], true).await;
        load(rig.warehouse.as_ref(), &list, &batch).await.unwrap();
        assert_eq!(
            rig.counts(&list).await,
            pairs(&[("snapshot", ids.len() as u64)])
        );
    }
    // What is dropped is created again, empty.
    rig.warehouse.drop_table(&list).await.unwrap();
    rig.warehouse.drop_table(&list).await.unwrap();
    assert!(rig.warehouse.prepare(&list).await.unwrap().is_empty);
    assert!(!rig.counts(&daily).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_conforms() {
    let folder = tempfile::tempdir().unwrap();
    conforms(on_folder(folder.path())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bigquery_conforms() {
    let Some(emulators) = shared().await else {
        return;
    };
    emulators.gcs.add_bucket("conforming");
    conforms(
        on_bigquery(
            emulators.gcs.url(),
            emulators.bigquery.url(),
            emulators.bigquery.project(),
        )
        .await,
    )
    .await;
}

/// Without Python, and with slow jobs.
#[tokio::test(flavor = "multi_thread")]
async fn bigquery_conforms_behind_the_double() {
    let gcs = Arc::new(GcsDouble::start(&["conforming"]));
    let bigquery = BigQueryDouble::start(&[]);
    let storage = gcs.clone();
    bigquery.count_rows(move |uris| uris.iter().map(|uri| rows(&storage, uri)).sum());
    conforms(on_bigquery(gcs.url(), bigquery.url(), bigquery.project()).await).await;
}

/// The warehouse of this folder, opened anew.
fn in_folder(folder: &std::path::Path) -> LocalWarehouse {
    LocalWarehouse::open(&folder.join("warehouse"), &Handle::current()).unwrap()
}

fn on_folder(folder: &std::path::Path) -> Rig {
    let location = BucketLocation::Folder(folder.join("flat"));
    Rig {
        warehouse: Box::new(in_folder(folder)),
        bucket: Bucket::open(&location, &GoogleAccess::default(), &Handle::current()).unwrap(),
        number: 0,
        attempt: 0,
        is_bigquery: false,
    }
}

async fn on_bigquery(storage: &str, bigquery: &str, project: &str) -> Rig {
    let access = GoogleAccess {
        credentials: None,
        storage_emulator: Some(storage.into()),
        bigquery_emulator: Some(bigquery.into()),
        wait_scale: WaitScale::new(WAIT_SCALE).unwrap(),
        ..GoogleAccess::default()
    };
    let location = BucketLocation::Google("conforming".into());
    let bucket = Bucket::open(&location, &access, &Handle::current()).unwrap();
    let warehouse = Box::new(
        BigQuery::connect(project, "conforming", None, &access)
            .await
            .unwrap(),
    );
    Rig {
        warehouse,
        bucket,
        number: 0,
        attempt: 0,
        is_bigquery: true,
    }
}

/// A closed fence: the lock behind it has expired, and nobody renews it.
pub async fn closed_fence(folder: &std::path::Path) -> Fence {
    let location = BucketLocation::Folder(folder.to_path_buf());
    let bucket = Bucket::open(&location, &GoogleAccess::default(), &Handle::current()).unwrap();
    let config = LockConfig {
        wait: false,
        expiry: Duration::from_millis(1),
    };
    let lock = RunLock::acquire(
        &bucket,
        &RunId::new(Utc::now()),
        &config,
        &CancellationToken::new(),
    )
    .await
    .unwrap();
    let fence = Fence::default();
    fence.guard(&lock);
    drop(lock);
    while fence.check().is_ok() {
        tokio::task::yield_now().await;
    }
    fence
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_lock_leaves_tables_alone() {
    let folder = tempfile::tempdir().unwrap();
    let warehouse = || in_folder(folder.path());
    let mut rig = on_folder(folder.path());
    let daily = contract("daily");
    rig.warehouse.prepare(&daily).await.unwrap();
    let of_successor = rig
        .batch(&daily, &[("2024-01-01", &["a", "b"])], false)
        .await;
    load(rig.warehouse.as_ref(), &daily, &of_successor)
        .await
        .unwrap();
    let late = rig.batch(&daily, &[("2024-01-01", &["old"])], false).await;
    let frozen = warehouse().fenced(&closed_fence(&folder.path().join("raw")).await);
    let error = load(&frozen, &daily, &late).await.unwrap_err();
    assert!(matches!(error, LoadError::Lock { .. }), "{error}");
    assert_eq!(rig.counts(&daily).await, pairs(&[("2024-01-01", 2)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewritten_file_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = on_folder(folder.path());
    let daily = contract("daily");
    rig.warehouse.prepare(&daily).await.unwrap();
    let mut batch = rig.batch(&daily, &[("2024-01-01", &["a"])], false).await;
    load(rig.warehouse.as_ref(), &daily, &batch).await.unwrap();
    let flat = &mut batch.partitions[0];
    flat.objects[0] = rig
        .object(
            &daily,
            flat.objects[0].path.clone(),
            flat.partition,
            &["a", "much longer"],
        )
        .await;
    load(rig.warehouse.as_ref(), &daily, &batch).await.unwrap();
    let local = in_folder(folder.path());
    let files = local.tables().await.unwrap().remove(0).objects;
    assert!(
        files.len() == 1
            && folder
                .path()
                .join("warehouse")
                .join(&files[0].path)
                .is_file(),
        "{files:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_copied_once_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let warehouse = || in_folder(folder.path());
    let mut rig = on_folder(folder.path());
    let daily = contract("daily");
    rig.warehouse.prepare(&daily).await.unwrap();
    let batch = rig
        .batch(
            &daily,
            &[("2024-01-01", &["a"]), ("2024-01-02", &["b", "c"])],
            true,
        )
        .await;
    load(rig.warehouse.as_ref(), &daily, &batch).await.unwrap();
    let files = || async {
        let objects = warehouse().tables().await.unwrap().remove(0).objects;
        let paths = objects.into_iter().map(|object| object.path);
        paths
            .map(|path| folder.path().join("warehouse").join(path))
            .collect::<Vec<_>>()
    };
    let [first, second] = files().await.try_into().unwrap();
    let whole = std::fs::read(&first).unwrap();
    // Of the same size, so that it shows whether the file was written again.
    let marked = vec![0; whole.len()];
    std::fs::write(&first, &marked).unwrap();
    // The system rounds times down to its clock's ticks.
    std::fs::File::options()
        .write(true)
        .open(&first)
        .unwrap()
        .set_modified(std::time::SystemTime::now())
        .unwrap();
    std::fs::remove_file(&second).unwrap();
    load(rig.warehouse.as_ref(), &daily, &batch).await.unwrap();
    assert_eq!(files().await, [first.clone(), second.clone()]);
    assert_eq!(std::fs::read(&first).unwrap(), marked);
    assert!(second.is_file(), "what is gone is copied again");
    // The next run does not rely on what it has not written.
    load(&warehouse(), &daily, &batch).await.unwrap();
    assert_eq!(std::fs::read(&first).unwrap(), whole);
}
