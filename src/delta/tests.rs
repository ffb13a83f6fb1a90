use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
    RecordBatch, StringArray, TimestampMicrosecondArray,
};
use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::clock;
use crate::store::TableWriter;
use crate::store::layout::{delta_checkpoint, delta_commit, delta_log, flattened_object};
use crate::transform::{Column, ColumnType};

const TYPES: [ColumnType; 8] = [
    ColumnType::String,
    ColumnType::Int64,
    ColumnType::Float64,
    ColumnType::Bool,
    ColumnType::Timestamp,
    ColumnType::Date,
    ColumnType::Numeric,
    ColumnType::Bytes,
];

fn contract(types: &[ColumnType]) -> Contract {
    let column = |column_type: &ColumnType| Column {
        name: column_type.bigquery().to_lowercase(),
        column_type: *column_type,
        description: Some(format!("a {}", column_type.bigquery())),
    };
    Contract {
        table: "t".into(),
        description: "A table".into(),
        columns: types.iter().map(column).collect(),
        partition_by: Some("timestamp".into()),
        cluster_by: Vec::new(),
        hashed: Vec::new(),
        partition_expiration_days: None,
        labels: BTreeMap::new(),
    }
}

struct Setting {
    folder: tempfile::TempDir,
    bucket: Bucket,
    contract: Contract,
    run: RunId,
}

impl Setting {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bucket = Bucket::of_folder(folder.path());
        Self {
            folder,
            bucket,
            contract: contract(&TYPES),
            run: RunId::new(clock::now()),
        }
    }

    /// Writes an object with the columns of the contract: as many rows as numbers, and one of NULLs.
    async fn object(&self, day: u32, number: u64, values: &[i64]) -> (Partition, ObjectRef) {
        let partition = Partition::parse(&format!("2024-01-{day:02}")).unwrap();
        let key = flattened_object("t", partition, &self.run, number);
        let all = || values.iter().copied().map(Some).chain([None]);
        let column = |column: &Column| -> ArrayRef {
            match column.column_type {
                ColumnType::String => Arc::new(StringArray::from_iter(
                    all().map(|it| it.map(|it| format!("{it}ä").repeat(40))),
                )),
                ColumnType::Int64 => Arc::new(Int64Array::from_iter(all())),
                ColumnType::Float64 => Arc::new(Float64Array::from_iter(
                    all().map(|it| it.map(|it| it as f64)),
                )),
                ColumnType::Bool => {
                    Arc::new(BooleanArray::from_iter(all().map(|it| it.map(|it| it > 0))))
                }
                ColumnType::Timestamp => Arc::new(
                    TimestampMicrosecondArray::from_iter(all())
                        .with_data_type(ColumnType::Timestamp.arrow()),
                ),
                ColumnType::Date => Arc::new(Date32Array::from_iter(
                    all().map(|it| it.map(|it| (it % 20_000) as i32)),
                )),
                ColumnType::Numeric => Arc::new(
                    Decimal128Array::from_iter(all().map(|it| it.map(i128::from)))
                        .with_data_type(ColumnType::Numeric.arrow()),
                ),
                ColumnType::Bytes => Arc::new(BinaryArray::from_iter(
                    all().map(|it| it.map(i64::to_le_bytes)),
                )),
            }
        };
        let schema = self.contract.schema();
        let mut writer = TableWriter::begin(&self.bucket, key, schema.clone()).unwrap();
        if !values.is_empty() {
            let columns = self.contract.columns.iter().map(column).collect();
            let batch = RecordBatch::try_new(schema, columns).unwrap();
            writer.write(&batch).await.unwrap();
        }
        (partition, writer.finish().await.unwrap())
    }

    fn table(&self) -> DeltaTable {
        DeltaTable::new(&self.bucket, &self.contract)
    }

    async fn commit(
        &self,
        table: &mut DeltaTable,
        objects: &Objects,
        derived: &[Partition],
    ) -> Result<Option<(u64, usize, usize)>, String> {
        table.take(derived.iter().copied().collect());
        let (run, fence) = (&self.run, Fence::default());
        let done = table.commit(objects, When::AtTheEnd, run, &fence).await;
        done.map(|it| it.map(|it| (it.version, it.added, it.removed)))
            .map_err(|error| error.to_string())
    }

    async fn lines(&self, version: u64) -> Vec<Value> {
        let key = delta_commit("t", version);
        let (bytes, _) = self.bucket.read(&key).await.unwrap().unwrap();
        let lines = serde_json::Deserializer::from_slice(&bytes).into_iter();
        lines.map(Result::unwrap).collect()
    }
}

#[tokio::test]
async fn a_log_follows_the_state() {
    let setting = Setting::new();
    let mut table = setting.table();
    let mut objects = vec![
        setting.object(1, 0, &[-1_500_001, 7, 1_234_567]).await,
        setting.object(2, 0, &[5]).await,
        setting.object(3, 0, &[]).await,
    ];
    let commit = async |table: &mut DeltaTable, objects: &Objects| {
        setting.commit(table, objects, &[]).await.unwrap()
    };
    assert_eq!(commit(&mut table, &objects).await, Some((0, 2, 0)));
    assert_eq!(commit(&mut table, &objects).await, None);
    assert_eq!(commit(&mut setting.table(), &objects).await, None);
    let lines = setting.lines(0).await;
    let names: Vec<&str> = lines
        .iter()
        .map(|line| line.as_object().unwrap().keys().next().unwrap().as_str())
        .collect();
    assert_eq!(
        names,
        ["commitInfo", "protocol", "metaData", "txn", "add", "add"]
    );
    let schema: Value =
        serde_json::from_str(lines[2]["metaData"]["schemaString"].as_str().unwrap()).unwrap();
    assert_eq!(
        schema["fields"][6],
        json!({"name": "numeric", "type": "decimal(38,9)", "nullable": true, "metadata": {"comment": "a NUMERIC"}})
    );
    let add = &lines[4]["add"];
    let stats: Value = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
    assert_eq!(stats["numRecords"], 4);
    for name in TYPES.map(|it| it.bigquery().to_lowercase()) {
        assert_eq!(stats["nullCount"][&name], 1, "{name}");
        let has_bounds = ["int64", "string", "timestamp", "date"].contains(&name.as_str());
        assert_eq!(
            stats["minValues"].get(&name).is_some(),
            has_bounds,
            "{name}"
        );
    }
    let (low, high) = (&stats["minValues"], &stats["maxValues"]);
    assert_eq!(
        (&low["int64"], &high["int64"]),
        (&json!(-1_500_001), &json!(1_234_567))
    );
    // Rounded outwards.
    assert_eq!(low["timestamp"], "1969-12-31T23:59:58.499Z");
    assert_eq!(high["timestamp"], "1970-01-01T00:00:01.235Z");
    let text = |value: &Value| value.as_str().unwrap().to_string();
    assert!(text(&low["string"]) <= "-1500001ä".repeat(40));
    assert!(text(&high["string"]) >= "7ä".repeat(40) && text(&high["string"]).len() <= 64);

    // Another day is derived again, one is gone, and one is written again under its key in the same run.
    objects[0] = setting.object(1, 1, &[1, 2]).await;
    let gone = objects.remove(1);
    assert_eq!(commit(&mut table, &objects).await, Some((1, 1, 2)));
    objects[0] = setting.object(1, 1, &[3, 4]).await;
    let derived = [objects[0].0];
    let again = setting
        .commit(&mut table, &objects, &derived)
        .await
        .unwrap();
    assert_eq!(again, Some((2, 1, 0)));
    objects.push(gone);
    assert_eq!(commit(&mut table, &objects).await, Some((3, 1, 0)));

    // With checkpoints, and read again each time, it stays the same.
    for number in 2..20 {
        objects[0] = setting.object(1, number, &[number as i64]).await;
        let done = commit(&mut setting.table(), &objects).await;
        assert_eq!(done, Some((number + 2, 1, 1)));
    }
    for version in [10, 20] {
        let key = delta_checkpoint("t", version);
        assert!(setting.bucket.read(&key).await.unwrap().is_some(), "{key}");
    }
    let whole = Snapshot::read(&setting.bucket, "t").await.unwrap();
    let mut replayed = std::fs::read_dir(setting.folder.path().join(delta_log("t"))).unwrap();
    assert!(replayed.any(|it| it.unwrap().file_name() == "_last_checkpoint"));
    std::fs::remove_file(
        setting
            .folder
            .path()
            .join(delta_log("t"))
            .join("_last_checkpoint"),
    )
    .unwrap();
    let replayed = Snapshot::read(&setting.bucket, "t").await.unwrap();
    let paths = |snapshot: &Snapshot| -> Vec<(String, Option<String>)> {
        let files = snapshot.files.values();
        files
            .map(|it| (it.path.clone(), it.stats.clone()))
            .collect()
    };
    assert_eq!(paths(&whole), paths(&replayed));
    assert_eq!(whole.meta_data, replayed.meta_data);
    assert_eq!(whole.removed.len(), replayed.removed.len());
    let needed = readable_objects(&setting.bucket, "t", clock::now())
        .await
        .unwrap();
    assert_eq!(needed.len(), 2 + whole.removed.len());
    let later = clock::now() + FILE_RETENTION + chrono::TimeDelta::hours(1);
    let needed = readable_objects(&setting.bucket, "t", later).await.unwrap();
    assert_eq!(needed.len(), 2);
}

#[tokio::test]
async fn a_log_of_others_is_refused() {
    let setting = Setting::new();
    let objects = vec![setting.object(1, 0, &[1]).await];
    let mut table = setting.table();
    let done = setting.commit(&mut table, &objects, &[]).await.unwrap();
    assert_eq!(done, Some((0, 1, 0)));
    let mut stale = Snapshot::read(&setting.bucket, "t").await.unwrap();
    let theirs = r#"{"commitInfo":{"operation":"OPTIMIZE","engineInfo":"Apache-Spark"}}"#;
    let write = async |version| {
        let bytes = Bytes::from(theirs);
        setting
            .bucket
            .create(&delta_commit("t", version), bytes)
            .await
    };
    write(1).await.unwrap();
    // Whether it exists when the log is read, or is written in between.
    let more = vec![objects[0].clone(), setting.object(2, 0, &[1]).await];
    let log = setting.bucket.uri(&delta_log("t"));
    let commit = stale.commit(&setting.bucket, "t", Vec::new(), clock::now());
    for error in [
        commit.await.unwrap_err().to_string(),
        setting.commit(&mut table, &more, &[]).await.unwrap_err(),
    ] {
        assert!(
            error.contains(&format!(
                "{log}: version 1 was not written by samsara-etl (OPTIMIZE by Apache-Spark)"
            )) && error.contains("remove the folder"),
            "{error}"
        );
    }
    assert!(matches!(write(0).await, Err(StoreError::Conflict { .. })));
    write(1).await.unwrap();
    // Missing commits, and text that is not a commit, are reported.
    let place = setting.folder.path().join(delta_log("t"));
    let file = |version: u64| place.join(format!("{version:020}.json"));
    std::fs::write(file(3), theirs).unwrap();
    for (text, expected) in [(theirs, "02.json is gone"), ("no JSON", "01.json expected")] {
        std::fs::write(file(1), text).unwrap();
        let mut table = setting.table();
        let error = setting.commit(&mut table, &more, &[]).await.unwrap_err();
        assert!(
            error.contains(expected) && error.contains("remove the folder"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_changed_type_waits_for_all_days() {
    let mut setting = Setting::new();
    let mut objects = vec![
        setting.object(1, 0, &[1]).await,
        setting.object(2, 0, &[2]).await,
    ];
    let done = setting.commit(&mut setting.table(), &objects, &[]).await;
    assert_eq!(done.unwrap(), Some((0, 2, 0)));
    // A new column, a removed column and another description do not affect old files.
    let mut types = TYPES.to_vec();
    types.retain(|it| *it != ColumnType::Bool);
    setting.contract = contract(&types);
    setting.contract.columns.push(Column {
        name: "more".into(),
        column_type: ColumnType::Int64,
        description: None,
    });
    objects[1] = setting.object(2, 1, &[2]).await;
    let done = setting.commit(&mut setting.table(), &objects, &[]).await;
    // The first file has statistics of one column less.
    assert_eq!(done.unwrap(), Some((1, 2, 1)));
    assert!(setting.lines(1).await[1]["metaData"].is_object());

    setting.contract.columns[0].column_type = ColumnType::Int64;
    objects[1] = setting.object(2, 2, &[2]).await;
    let error = setting
        .commit(&mut setting.table(), &objects, &[])
        .await
        .unwrap_err();
    assert!(
        error.contains("holds `string` as Utf8, not Int64")
            && error.contains(&objects[0].1.path)
            && error.contains("run --stages transform"),
        "{error}"
    );
    // While days are still being derived, that is not an error, and readers see the earlier columns.
    let (run, fence) = (&setting.run, Fence::default());
    for mut table in [setting.table(), setting.table()] {
        let done = table.commit(&objects, When::Meanwhile, run, &fence).await;
        assert_eq!(done.unwrap(), None);
        let log = setting.folder.path().join(delta_log("t"));
        // Nor if there is no log yet.
        let _ = std::fs::rename(&log, setting.folder.path().join("aside"));
    }
    let log = setting.folder.path().join(delta_log("t"));
    std::fs::rename(setting.folder.path().join("aside"), log).unwrap();
    objects[0] = setting.object(1, 2, &[1]).await;
    let done = setting.commit(&mut setting.table(), &objects, &[]).await;
    assert_eq!(done.unwrap(), Some((2, 2, 2)));
}
