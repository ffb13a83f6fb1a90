//! Raw tables in a staging dataset (`DATABASE_ID`), to query what the API sent.
//!
//! Everything except the schema (retries, job ids, polling) is as for flattened tables.

use arrow::datatypes::Schema;
use gcp_bigquery_client::model::job_configuration_load::JobConfigurationLoad;
use gcp_bigquery_client::model::table::Table;
use gcp_bigquery_client::model::time_partitioning::TimePartitioning;

use crate::load::bigquery::call_error::CallError;
use crate::load::bigquery::client::BigQuery;
use crate::load::bigquery::job::{ContentId, LoadJob};
use crate::load::bigquery::schema::raw_schema;
use crate::load::bigquery::table::{CREATE, MANAGED_BY, READ, decorated};
use crate::load::error::LoadError;
use crate::load::warehouse::{FlatObjects, Loaded};
use crate::store::Bucket;
use crate::store::layout::Partition;

/// The column that partitions raw tables by day.
const DAY: &str = "_window_start";

impl BigQuery {
    /// Ensures that the raw table `name` exists; `daily` ones are partitioned by the day for which rows were requested.
    /// New columns come with the loads' schema, which may add them.
    pub async fn prepare_raw(
        &self,
        name: &str,
        schema: &Schema,
        daily: bool,
    ) -> Result<(), LoadError> {
        let tables = self.client.table();
        let fields = || Some(vec!["tableReference", "schema"]);
        match self
            .call(|| tables.get(&self.project, &self.dataset, name, fields()))
            .await
        {
            Ok(_) => return Ok(()),
            Err(CallError::NotFound) => {}
            Err(error) => return Err(self.table_call(name, READ, error)),
        }
        let mut table = Table::new(&self.project, &self.dataset, name, raw_schema(schema));
        table.description = Some("Raw records as the API sent them.".into());
        table.labels = Some([MANAGED_BY.map(String::from).into()].into());
        table.time_partitioning = daily.then(|| TimePartitioning::per_day().field(DAY));
        match self.call(|| tables.create(table.clone())).await {
            Ok(_) | Err(CallError::AlreadyExists) => Ok(()),
            Err(error) => Err(self.table_call(name, CREATE, error)),
        }
    }

    /// Replaces one partition of the raw table `name` by these objects, and checks the ledger. The state does not
    /// record attempts: failed ones of earlier runs are found by their ids, and skipped.
    pub async fn replace_raw(
        &self,
        name: &str,
        schema: &Schema,
        bucket: &Bucket,
        flat: &FlatObjects,
    ) -> Result<Loaded, LoadError> {
        let day = flat.partition.day();
        let disposition = match day {
            Some(_) => "WRITE_TRUNCATE",
            None => "WRITE_TRUNCATE_DATA",
        };
        let load = JobConfigurationLoad {
            source_uris: Some(flat.uris(bucket).collect()),
            source_format: Some("PARQUET".into()),
            destination_table: Some(self.reference(&decorated(name, day))),
            create_disposition: Some("CREATE_NEVER".into()),
            write_disposition: Some(disposition.into()),
            schema: Some(raw_schema(schema)),
            // A column that the schema has gained is added to the table, with the partition or the list.
            schema_update_options: Some(vec!["ALLOW_FIELD_ADDITION".into()]),
            ..JobConfigurationLoad::default()
        };
        let job = LoadJob {
            table: name,
            is_partitioned: day.is_some(),
            label: flat.partition.to_string(),
            stem: self.raw_job(name, bucket, flat),
            first_attempt: 1,
            load,
            infers_lists: true,
        };
        let loaded = self.run_load_job(&job).await?;
        let flattened = flat.rows();
        if loaded.rows != flattened {
            return Err(LoadError::Ledger {
                table: name.into(),
                partition: flat.partition.to_string(),
                loaded: loaded.rows,
                flattened,
                used: None,
            });
        }
        Ok(loaded)
    }

    /// The id, without its attempt, of the job that loads these raw objects: of dataset, table, partition and content, so
    /// that the same load has the same id in every run.
    pub fn raw_job(&self, name: &str, bucket: &Bucket, flat: &FlatObjects) -> String {
        let partition: Partition = flat.partition;
        let content = ContentId::of(&self.target).finish(flat.uris(bucket));
        format!("samsara-etl-raw-{name}-{partition}-{content}")
    }
}
