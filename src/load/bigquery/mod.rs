//! BigQuery: tables from contracts, and load jobs on `gs://` URIs.
//!
//! In the order in which they use each other: [`timings`], [`limit`], [`auth`] and [`call_error`] are what a call
//! needs; [`client`] makes calls; [`schema`] and [`table`] are about tables, [`job`] about load jobs, [`query`] about
//! rows; [`raw`] loads raw tables, and [`examine`] checks the dataset without changing anything.

pub(super) mod auth;
pub(super) mod call_error;
pub(super) mod client;
mod examine;
mod job;
mod limit;
mod query;
mod raw;
mod schema;
mod table;
pub(super) mod timings;

use std::collections::BTreeMap;

use async_trait::async_trait;
use gcp_bigquery_client::model::job_configuration_load::JobConfigurationLoad;
use gcp_bigquery_client::model::table::Table;

use crate::load::bigquery::client::BigQuery;
use crate::load::bigquery::job::{ContentId, LoadJob};
use crate::load::bigquery::schema::table_schema;
use crate::load::bigquery::table::decorated;
use crate::load::error::LoadError;
use crate::load::warehouse::{Batch, Loaded, Prepared, RepeatedKeys, Warehouse};
use crate::state::Started;
use crate::store::layout::Partition;
use crate::transform::Contract;

#[async_trait]
impl Warehouse for BigQuery {
    fn target(&self) -> &str {
        &self.target
    }

    async fn prepare(&self, contract: &Contract) -> Result<Prepared, LoadError> {
        self.prepare_table(contract).await
    }

    async fn replace(&self, contract: &Contract, batch: &Batch) -> Result<Loaded, LoadError> {
        let layout = match batch.reshape {
            true => Some(self.get_table(contract).await?),
            false => None,
        };
        let job = LoadJob {
            table: &contract.table,
            is_partitioned: contract.partition_by.is_some(),
            label: batch.label(),
            stem: self.stem(contract, batch),
            first_attempt: batch.attempt.max(1),
            load: self.load_configuration(contract, batch, layout.as_ref()),
            infers_lists: false,
        };
        self.run_load_job(&job).await
    }

    fn job(&self, contract: &Contract, batch: &Batch) -> Option<String> {
        Some(self.stem(contract, batch))
    }

    async fn await_job(&self, started: &Started) -> Result<(), LoadError> {
        self.await_attempts(started).await
    }

    async fn counts(&self, contract: &Contract) -> Result<BTreeMap<Partition, u64>, LoadError> {
        self.count_rows(contract).await
    }

    async fn repeated_keys(
        &self,
        contract: &Contract,
        key: &[String],
    ) -> Result<RepeatedKeys, LoadError> {
        self.find_repeated_keys(contract, key).await
    }

    async fn drop_table(&self, contract: &Contract) -> Result<(), LoadError> {
        self.delete_table(&contract.table).await
    }

    async fn drop_trial_tables(&self, mark: &str) -> Result<Vec<String>, LoadError> {
        self.delete_trial_tables(mark).await
    }
}

impl BigQuery {
    /// `layout` is the table whose partitioning and clustering a reshaping load must repeat: a load can change columns
    /// and types in one step with the rows, but not these.
    fn load_configuration(
        &self,
        contract: &Contract,
        batch: &Batch,
        layout: Option<&Table>,
    ) -> JobConfigurationLoad {
        let first = batch.partitions.first();
        let day = first
            .and_then(|flat| flat.partition.day())
            .filter(|_| !batch.whole);
        let disposition = match day {
            Some(_) => "WRITE_TRUNCATE",
            None if batch.reshape => "WRITE_TRUNCATE",
            // Keeps the table's schema, descriptions and constraints.
            None => "WRITE_TRUNCATE_DATA",
        };
        JobConfigurationLoad {
            time_partitioning: layout.and_then(|table| table.time_partitioning.clone()),
            clustering: layout.and_then(|table| table.clustering.clone()),
            source_uris: Some(batch.uris().collect()),
            source_format: Some("PARQUET".into()),
            destination_table: Some(self.reference(&decorated(&contract.table, day))),
            create_disposition: Some("CREATE_NEVER".into()),
            write_disposition: Some(disposition.into()),
            schema: Some(table_schema(contract)),
            ..JobConfigurationLoad::default()
        }
    }

    /// Table, partitions and content: the same load has the same id in every run.
    fn stem(&self, contract: &Contract, batch: &Batch) -> String {
        let mut content = ContentId::of(&self.target);
        content.add([u8::from(batch.whole)]);
        if batch.reshape {
            content.add("reshape");
        }
        for flat in &batch.partitions {
            content.add(&flat.fingerprint);
        }
        let content = content.finish(batch.uris());
        format!("samsara-etl-{}-{}-{content}", contract.table, batch.label())
    }
}
