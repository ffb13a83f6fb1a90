//! Raw tables in a staging dataset (`DATABASE_ID`), for whoever wants to query what the API sent.
//!
//! Raw rows nest lists and maps. BigQuery reads those from Parquet only with `enableListInference`, which
//! `gcp-bigquery-client` 0.28 cannot say: so this one request is ours, with the client's token. All else (retries, job
//! ids, polling) is as for flattened tables.

use arrow::datatypes::{DataType, Field, Schema};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::bigquery::{BigQuery, Fault};
use super::{FlatObjects, LoadError, Loaded, Warehouse};
use crate::store::Bucket;
use crate::store::layout::Partition;

/// The column that partitions raw tables by day.
const DAY: &str = "_window_start";

impl BigQuery {
    /// Sees to it that the raw table `name` exists; `daily` ones are partitioned by the day that rows were asked for.
    pub async fn prepare_raw(
        &self,
        name: &str,
        schema: &Schema,
        daily: bool,
    ) -> Result<(), LoadError> {
        let partitioning = daily.then(|| json!({"type": "DAY", "field": DAY}));
        let made = self
            .make_raw_table(name, &columns(schema), partitioning)
            .await;
        made.map_err(|(verb, fault)| self.called(name, verb, fault))
    }

    /// Replaces one partition of the raw table `name` by these objects.
    pub async fn replace_raw(
        &self,
        name: &str,
        schema: &Schema,
        bucket: &Bucket,
        flat: &FlatObjects,
    ) -> Result<Loaded, LoadError> {
        let daily = matches!(flat.partition, Partition::Day(_));
        let fields = columns(schema);
        let destination = match flat.partition {
            Partition::Day(day) => format!("{name}${}", day.format("%Y%m%d")),
            Partition::Snapshot => name.to_string(),
        };
        let uris = uris(bucket, flat);
        let stem = self.raw_job(name, bucket, flat);
        let load = json!({
            "sourceUris": uris,
            "sourceFormat": "PARQUET",
            "parquetOptions": {"enableListInference": true},
            "destinationTable": {"projectId": self.project(), "datasetId": self.dataset(), "tableId": destination},
            "createDisposition": "CREATE_NEVER",
            "writeDisposition": if daily { "WRITE_TRUNCATE" } else { "WRITE_TRUNCATE_DATA" },
            "schema": {"fields": fields},
            // A schema that has gained a column gives it to the table, with the partition or the list.
            "schemaUpdateOptions": ["ALLOW_FIELD_ADDITION"],
        });
        let table = format!("{}.{name}", self.dataset());
        match self.run_raw(name, daily, &stem, load).await {
            Ok((rows, attempt)) => Ok(Loaded {
                rows,
                job: Some(format!("{stem}-{attempt}")),
                attempt,
            }),
            Err(Fault::Quota(reason)) => Err(LoadError::Quota {
                table,
                used: None,
                reason,
            }),
            Err(fault) => Err(LoadError::Refused {
                table,
                partition: flat.partition.to_string(),
                job: Some(stem),
                used: None,
                reason: fault.to_string(),
            }),
        }
    }
}

fn uris(bucket: &Bucket, flat: &FlatObjects) -> Vec<String> {
    flat.objects
        .iter()
        .map(|object| bucket.uri(&object.path))
        .collect()
}

fn columns(schema: &Schema) -> Vec<Value> {
    schema.fields().iter().map(|field| column(field)).collect()
}

impl BigQuery {
    /// The id, without its attempt, of the job that loads these raw objects: of dataset, table, partition and content, so
    /// that the same load has the same id, whoever asks for it.
    pub fn raw_job(&self, name: &str, bucket: &Bucket, flat: &FlatObjects) -> String {
        let partition = flat.partition;
        let mut digest = Sha256::new();
        digest.update(self.target());
        for uri in uris(bucket, flat) {
            digest.update([0]);
            digest.update(uri);
        }
        let content: String = digest
            .finalize()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("samsara-etl-raw-{name}-{partition}-{content}")
    }
}

/// A raw column in BigQuery's terms.
fn column(field: &Field) -> Value {
    typed(field.name(), field.data_type())
}

fn typed(name: &str, data_type: &DataType) -> Value {
    let plain = |name: &str, kind: &str| json!({"name": name, "type": kind, "mode": "NULLABLE"});
    match data_type {
        DataType::Int64 => plain(name, "INT64"),
        DataType::Float64 => plain(name, "FLOAT64"),
        DataType::Boolean => plain(name, "BOOL"),
        DataType::Timestamp(_, _) => plain(name, "TIMESTAMP"),
        DataType::Struct(fields) => {
            let fields: Vec<Value> = fields.iter().map(|field| column(field)).collect();
            json!({"name": name, "type": "RECORD", "mode": "NULLABLE", "fields": fields})
        }
        DataType::List(item) => {
            let mut repeated = typed(name, item.data_type());
            repeated["mode"] = json!("REPEATED");
            repeated
        }
        // Parquet's map: repeated groups of key and value.
        DataType::Map(_, _) => {
            json!({"name": name, "type": "RECORD", "mode": "NULLABLE", "fields": [{
                "name": "key_value", "type": "RECORD", "mode": "REPEATED",
                "fields": [plain("key", "STRING"), plain("value", "STRING")],
            }]})
        }
        _ => plain(name, "STRING"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::extract::raw_schema;

    #[test]
    fn nested_columns_become_records() {
        let catalog = Catalog::open(None).unwrap();
        let schema = raw_schema(catalog.source("fleet_vehicle_stats_engineRpm").unwrap());
        let columns = columns(&schema);
        let find = |name: &str| {
            columns
                .iter()
                .find(|column| column["name"] == name)
                .unwrap()
        };
        assert_eq!(find("engineRpm")["mode"], "REPEATED");
        assert_eq!(find("engineRpm")["fields"][1]["type"], "FLOAT64");
        assert_eq!(find("externalIds")["fields"][0]["name"], "key_value");
        assert_eq!(find("_window_start")["type"], "TIMESTAMP");
    }
}
