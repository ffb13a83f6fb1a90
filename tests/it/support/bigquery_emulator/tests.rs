//! Loads through the client library the program uses, from the storage double.

use std::{sync::Arc, time::Duration};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, TimeUnit},
};
use chrono::{DateTime, Utc};
use futures::future::join_all;
use gcp_bigquery_client::{
    Client,
    error::BQError,
    model::{
        clustering::Clustering, dataset::Dataset, job::Job, job_configuration::JobConfiguration,
        job_configuration_load::JobConfigurationLoad, job_reference::JobReference,
        table_field_schema::TableFieldSchema, table_reference::TableReference,
        table_schema::TableSchema, time_partitioning::TimePartitioning,
    },
};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use serde_json::json;
use tokio::{net::TcpStream, time::MissedTickBehavior};

use super::{Emulators, require_or_skip, shared};
use crate::support::{bigquery_client, gcs::GcsDouble};

/// A dataset, a bucket of the same name, and a client.
struct Warehouse {
    emulators: &'static Emulators,
    client: Client,
    name: &'static str,
}

impl Warehouse {
    async fn new(name: &'static str) -> Option<Self> {
        let emulators = shared().await?;
        emulators.gcs.add_bucket(name);
        let client = bigquery_client::connect(emulators.bigquery.url()).await;
        let project = emulators.bigquery.project();
        client
            .dataset()
            .create(Dataset::new(project, name))
            .await
            .unwrap();
        Some(Self {
            emulators,
            client,
            name,
        })
    }

    /// Writes rows of (time, id) into an object, and gives its URI.
    fn parquet(&self, key: &str, rows: &[(&str, i64)]) -> String {
        let micros = |time: &str| time.parse::<DateTime<Utc>>().unwrap().timestamp_micros();
        let times =
            TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| micros(row.0)));
        let times: ArrayRef = Arc::new(times.with_timezone("UTC"));
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1)));
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let fields = vec![
            Field::new("at", time, false),
            Field::new("id", DataType::Int64, false),
        ];
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![times, ids]).unwrap();
        let compression = Compression::ZSTD(ZstdLevel::default());
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .build();
        let mut writer =
            ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        self.emulators
            .gcs
            .put(self.name, key, writer.into_inner().unwrap());
        format!("gs://{}/{key}", self.name)
    }

    fn load(&self, table: &str, disposition: &str, uris: &[&str]) -> JobConfigurationLoad {
        let fields = vec![
            TableFieldSchema::timestamp("at"),
            TableFieldSchema::integer("id"),
        ];
        JobConfigurationLoad {
            source_uris: Some(uris.iter().map(|uri| (*uri).to_owned()).collect()),
            source_format: Some("PARQUET".to_owned()),
            write_disposition: Some(disposition.to_owned()),
            create_disposition: Some("CREATE_IF_NEEDED".to_owned()),
            destination_table: Some(TableReference::new(
                self.emulators.bigquery.project(),
                self.name,
                table,
            )),
            schema: Some(TableSchema::new(fields)),
            time_partitioning: Some(TimePartitioning {
                r#type: "DAY".to_owned(),
                field: Some("at".to_owned()),
                ..TimePartitioning::default()
            }),
            clustering: Some(Clustering {
                fields: Some(vec!["id".to_owned()]),
            }),
            ..JobConfigurationLoad::default()
        }
    }

    async fn run(&self, id: &str, load: JobConfigurationLoad) -> Result<Job, BQError> {
        let job = Job {
            job_reference: Some(JobReference {
                project_id: Some(self.emulators.bigquery.project().to_owned()),
                job_id: Some(format!("{}-{id}", self.name)),
                location: None,
            }),
            configuration: Some(JobConfiguration {
                load: Some(load),
                ..JobConfiguration::default()
            }),
            ..Job::default()
        };
        self.client
            .job()
            .insert(self.emulators.bigquery.project(), job)
            .await
    }

    /// The rows that a load job reports once it is done, or its error.
    async fn rows_loaded(&self, id: &str, load: JobConfigurationLoad) -> Result<String, String> {
        // A guard against a job that never ends: the emulator is slow on a busy machine.
        let done = tokio::time::timeout(Duration::from_secs(300), self.run_to_end(id, load));
        let job = done.await.expect("a job that ends");
        let status = job.status.unwrap();
        match status.error_result {
            Some(error) => Err(format!(
                "{}: {}",
                error.reason.unwrap(),
                error.message.unwrap()
            )),
            None => Ok(job.statistics.unwrap().load.unwrap().output_rows.unwrap()),
        }
    }

    async fn run_to_end(&self, id: &str, load: JobConfigurationLoad) -> Job {
        let mut job = self.run(id, load).await.unwrap();
        let project = self.emulators.bigquery.project();
        // An answer takes longer to make than most jobs: what was not asked in time is not asked later.
        let mut interval = tokio::time::interval(Duration::from_millis(500));
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while job.status.as_ref().unwrap().state.as_deref() != Some("DONE") {
            interval.tick().await;
            let id = job.job_reference.unwrap().job_id.unwrap();
            job = self.client.job().get_job(project, &id, None).await.unwrap();
        }
        job
    }

    /// Day and rows, in order, as `2024-01-01 2`.
    async fn rows_by_day(&self, table: &str) -> Vec<String> {
        let sql = format!(
            "SELECT CONCAT(CAST(DATE(at) AS STRING), ' ', CAST(COUNT(*) AS STRING)) AS day \
             FROM `{}.{table}` GROUP BY DATE(at) ORDER BY 1",
            self.name
        );
        let rows = self.emulators.bigquery.query(&sql).await;
        rows.into_iter()
            .map(|row| row[0].as_str().unwrap().to_owned())
            .collect()
    }
}

#[tokio::test]
async fn a_partition_is_replaced_and_never_doubled() {
    let Some(warehouse) = Warehouse::new("replaced").await else {
        return;
    };
    let whole = warehouse.parquet(
        "whole.parquet",
        &[
            ("2024-01-01T00:00:00Z", 1),
            ("2024-01-01T23:59:59.999999Z", 2),
            ("2024-01-02T00:00:00Z", 3),
        ],
    );
    let load = warehouse.load("t", "WRITE_TRUNCATE", &[&whole]);
    assert_eq!(warehouse.rows_loaded("whole", load).await.unwrap(), "3");
    assert_eq!(
        warehouse.rows_by_day("t").await,
        ["2024-01-01 2", "2024-01-02 1"]
    );

    let day = warehouse.parquet("day.parquet", &[("2024-01-01T12:00:00Z", 4)]);
    for id in ["first", "again"] {
        let load = warehouse.load("t$20240101", "WRITE_TRUNCATE", &[&day]);
        assert_eq!(warehouse.rows_loaded(id, load).await.unwrap(), "1");
        assert_eq!(
            warehouse.rows_by_day("t").await,
            ["2024-01-01 1", "2024-01-02 1"]
        );
    }

    let empty = warehouse.parquet("empty.parquet", &[]);
    let load = warehouse.load("t$20240102", "WRITE_TRUNCATE", &[&empty]);
    assert_eq!(warehouse.rows_loaded("empty", load).await.unwrap(), "0");
    assert_eq!(warehouse.rows_by_day("t").await, ["2024-01-01 1"]);

    let load = warehouse.load("t$20240101", "WRITE_TRUNCATE_DATA", &[&day]);
    assert_eq!(warehouse.rows_loaded("data", load).await.unwrap(), "1");
    let load = warehouse.load("t$20240101", "WRITE_APPEND", &[&day]);
    assert_eq!(warehouse.rows_loaded("append", load).await.unwrap(), "1");
    assert_eq!(warehouse.rows_by_day("t").await, ["2024-01-01 2"]);

    let load = warehouse.load("t", "WRITE_TRUNCATE_DATA", &[&whole]);
    assert_eq!(warehouse.rows_loaded("snapshot", load).await.unwrap(), "3");
    assert_eq!(
        warehouse.rows_by_day("t").await,
        ["2024-01-01 2", "2024-01-02 1"]
    );
}

#[tokio::test]
async fn a_refused_load_changes_nothing() {
    let Some(warehouse) = Warehouse::new("refused").await else {
        return;
    };
    let day = warehouse.parquet("day.parquet", &[("2024-01-01T12:00:00Z", 1)]);
    let load = |table: &str, uri: &str| warehouse.load(table, "WRITE_TRUNCATE", &[uri]);
    // The first load into a partition makes the table.
    assert_eq!(
        warehouse
            .rows_loaded("first", load("t$20240101", &day))
            .await
            .unwrap(),
        "1"
    );

    let stray = warehouse.parquet(
        "stray.parquet",
        &[("2024-01-01T12:00:00Z", 2), ("2024-01-02T00:00:00Z", 3)],
    );
    let error = warehouse
        .rows_loaded("stray", load("t$20240101", &stray))
        .await
        .unwrap_err();
    assert!(
        error.starts_with("invalid: Some rows belong to different partitions"),
        "{error}"
    );
    let error = warehouse
        .rows_loaded("month", load("t$202401", &day))
        .await
        .unwrap_err();
    assert!(
        error.starts_with("invalid: Invalid partition decorator"),
        "{error}"
    );
    let mut other_layout = load("t$20240101", &day);
    other_layout.clustering = None;
    let error = warehouse
        .rows_loaded("layout", other_layout)
        .await
        .unwrap_err();
    assert!(
        error.starts_with("invalid: Incompatible table partitioning"),
        "{error}"
    );
    let mut other_type = load("t$20240101", &day);
    other_type.schema.as_mut().unwrap().fields.as_mut().unwrap()[1] = TableFieldSchema::float("id");
    let error = warehouse.rows_loaded("type", other_type).await.unwrap_err();
    assert!(
        error.ends_with("Field id has changed type from INT64 to FLOAT64"),
        "{error}"
    );
    let error = warehouse
        .rows_loaded("absent", load("t$20240101", "gs://refused/absent"))
        .await
        .unwrap_err();
    assert!(error.starts_with("invalid: "), "{error}");

    assert_eq!(warehouse.rows_by_day("t").await, ["2024-01-01 1"]);
    let tables = "SELECT table_name FROM refused.INFORMATION_SCHEMA.TABLES";
    assert_eq!(
        warehouse.emulators.bigquery.query(tables).await,
        [[json!("t")]]
    );
}

#[tokio::test]
async fn the_layout_and_new_columns_reach_the_table() {
    let Some(warehouse) = Warehouse::new("layout").await else {
        return;
    };
    let day = warehouse.parquet("day.parquet", &[("2024-01-01T12:00:00Z", 1)]);
    let project = warehouse.emulators.bigquery.project();
    let narrow = || {
        let mut load = warehouse.load("t$20240101", "WRITE_TRUNCATE", &[&day]);
        load.schema = Some(TableSchema::new(vec![TableFieldSchema::timestamp("at")]));
        load.clustering = None;
        load
    };
    assert_eq!(
        warehouse.rows_loaded("narrow", narrow()).await.unwrap(),
        "1"
    );
    let mut wide = warehouse.load("t$20240101", "WRITE_TRUNCATE", &[&day]);
    wide.clustering = None;
    let error = warehouse
        .rows_loaded("wide", wide.clone())
        .await
        .unwrap_err();
    assert!(error.contains("Cannot add fields (field: id)"), "{error}");
    wide.schema_update_options = Some(vec!["ALLOW_FIELD_ADDITION".to_owned()]);
    assert_eq!(warehouse.rows_loaded("added", wide).await.unwrap(), "1");
    // A column that the job does not name stays, and is NULL.
    assert_eq!(warehouse.rows_loaded("again", narrow()).await.unwrap(), "1");
    let rows = warehouse
        .emulators
        .bigquery
        .query("SELECT id FROM layout.t")
        .await;
    assert_eq!(rows, [[json!(null)]]);

    let clustered = warehouse.load("clustered$20240101", "WRITE_TRUNCATE", &[&day]);
    assert_eq!(
        warehouse.rows_loaded("clustered", clustered).await.unwrap(),
        "1"
    );
    let table = warehouse
        .client
        .table()
        .get(project, "layout", "clustered", None)
        .await
        .unwrap();
    let partitioning = table.time_partitioning.unwrap();
    assert_eq!(
        (partitioning.r#type.as_str(), partitioning.field.as_deref()),
        ("DAY", Some("at"))
    );
    assert_eq!(table.clustering.unwrap().fields.unwrap(), ["id"]);
}

#[tokio::test]
async fn a_job_id_runs_once() {
    let Some(warehouse) = Warehouse::new("once").await else {
        return;
    };
    let day = warehouse.parquet("day.parquet", &[("2024-01-01T12:00:00Z", 1)]);
    let load = || warehouse.load("t$20240101", "WRITE_APPEND", &[&day]);
    warehouse.rows_loaded("job", load()).await.unwrap();
    let Err(BQError::ResponseError { error }) = warehouse.run("job", load()).await else {
        panic!("the second insert was not refused");
    };
    assert_eq!(error.error.code, 409);
    assert_eq!(error.error.errors[0]["reason"], "duplicate");
    let job =
        warehouse
            .client
            .job()
            .get_job(warehouse.emulators.bigquery.project(), "once-job", None);
    assert_eq!(job.await.unwrap().status.unwrap().state.unwrap(), "DONE");
    assert_eq!(warehouse.rows_by_day("t").await, ["2024-01-01 1"]);
}

#[tokio::test]
async fn many_partitions_load_at_once() {
    let Some(warehouse) = Warehouse::new("many").await else {
        return;
    };
    let load = async |round: usize, day: usize| {
        let time = format!("2024-01-{day:02}T06:00:00Z");
        let uri = warehouse.parquet(
            &format!("{round}/{day}.parquet"),
            &vec![(time.as_str(), 1); 10],
        );
        let table = format!("t$202401{day:02}");
        let load = warehouse.load(&table, "WRITE_TRUNCATE", &[&uri]);
        warehouse.rows_loaded(&format!("{round}-{day}"), load).await
    };
    for round in 0..2 {
        // With a cold table, first and last day race to create it.
        let loads = join_all((1..=16).map(|day| load(round, day))).await;
        assert!(
            loads.iter().all(|rows| rows.as_deref() == Ok("10")),
            "{loads:?}"
        );
    }
    let days = warehouse.rows_by_day("t").await;
    assert_eq!(days.len(), 16);
    assert!(days.iter().all(|day| day.ends_with(" 10")), "{days:?}");
}

#[tokio::test]
async fn an_emulator_ends_when_it_is_dropped() {
    let gcs = GcsDouble::start(&[]);
    let Some(emulator) = require_or_skip(gcs.url()).await else {
        return;
    };
    assert_eq!(
        emulator.query("SELECT 1, NULL").await,
        [[json!("1"), json!(null)]]
    );
    let address = emulator.url().trim_start_matches("http://").to_owned();
    assert!(TcpStream::connect(&address).await.is_ok());
    drop(emulator);
    assert!(TcpStream::connect(&address).await.is_err());
}
