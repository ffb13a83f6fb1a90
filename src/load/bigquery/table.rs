//! Tables: created from contracts, compared with them, patched if BigQuery can do that, dropped.

use chrono::{NaiveDate, TimeDelta};
use gcp_bigquery_client::model::clustering::Clustering;
use gcp_bigquery_client::model::table::Table;
use gcp_bigquery_client::model::table_schema::TableSchema;
use gcp_bigquery_client::model::time_partitioning::TimePartitioning;
use gcp_bigquery_client::table::ListOptions;

use crate::clock;
use crate::load::bigquery::call_error::CallError;
use crate::load::bigquery::client::BigQuery;
use crate::load::bigquery::schema::{contract_field, table_schema, type_name};
use crate::load::error::LoadError;
use crate::load::shape::{ShapeMismatch, missing_columns};
use crate::load::warehouse::{Prepared, TRIAL_PREFIX, is_trial_table};
use crate::transform::{Column, ColumnType, Contract};

/// What calls about tables do, for messages.
pub(super) const READ: &str = "look at";
pub(super) const CREATE: &str = "make";
const CHANGE: &str = "change";
const DROP: &str = "drop";

/// The label of tables that the program has created.
pub(super) const MANAGED_BY: [&str; 2] = ["managed_by", "samsara-etl"];

/// How long the table of a trial load stays if no run drops it: longer than the six hours that BigQuery lets a load job
/// run.
const TRIAL_TABLE_LIFETIME: TimeDelta = TimeDelta::hours(24);

/// A table's name with the decorator of the partition that is written.
pub(super) fn decorated(table: &str, day: Option<NaiveDate>) -> String {
    match day {
        Some(day) => format!("{table}${}", day.format("%Y%m%d")),
        None => table.into(),
    }
}

impl BigQuery {
    /// Creates the table, or changes it to match its contract.
    pub(super) async fn prepare_table(&self, contract: &Contract) -> Result<Prepared, LoadError> {
        let Some(existing) = self.create_or_get(contract).await? else {
            return Ok(Prepared { is_empty: true });
        };
        let missing = compare(contract, &existing).map_err(|mismatch| LoadError::Shape {
            table: self.full_name(&contract.table),
            replaceable: is_replaceable(&mismatch, contract, &existing),
            mismatch,
        })?;
        if let Some(patch) = self.patch(contract, &existing, &missing) {
            self.await_update(contract).await;
            let tables = self.client.table();
            self.call(|| {
                tables.patch(&self.project, &self.dataset, &contract.table, patch.clone())
            })
            .await
            .map_err(|error| self.table_call(&contract.table, CHANGE, error))?;
        }
        Ok(Prepared {
            is_empty: existing.num_rows.as_deref() == Some("0"),
        })
    }

    /// The existing table, if there was one.
    async fn create_or_get(&self, contract: &Contract) -> Result<Option<Table>, LoadError> {
        let failed = |action| move |error| self.table_call(&contract.table, action, error);
        let tables = self.client.table();
        let get = || tables.get(&self.project, &self.dataset, &contract.table, None);
        match self.call(get).await {
            Err(CallError::NotFound) => {}
            found => return found.map(Some).map_err(failed(READ)),
        }
        let fresh = self.fresh_table(contract);
        self.await_update(contract).await;
        match self.call(|| tables.create(fresh.clone())).await {
            Ok(_) => Ok(None),
            Err(CallError::AlreadyExists) => self.call(get).await.map(Some).map_err(failed(READ)),
            Err(error) => Err(failed(CREATE)(error)),
        }
    }

    /// The table as it is.
    pub(super) async fn get_table(&self, contract: &Contract) -> Result<Table, LoadError> {
        let tables = self.client.table();
        self.call(|| tables.get(&self.project, &self.dataset, &contract.table, None))
            .await
            .map_err(|error| self.table_call(&contract.table, READ, error))
    }

    /// Waits until the table may be updated again.
    async fn await_update(&self, contract: &Contract) {
        self.limits
            .wait(&contract.table, contract.partition_by.is_some())
            .await;
    }

    fn fresh_table(&self, contract: &Contract) -> Table {
        let name = &contract.table;
        let mut table = Table::new(&self.project, &self.dataset, name, table_schema(contract));
        table.description = Some(contract.description.clone());
        if name.starts_with(TRIAL_PREFIX) {
            let expires = clock::now() + TRIAL_TABLE_LIFETIME;
            table.expiration_time = Some(expires.timestamp_millis().to_string());
        }
        let managed_by = MANAGED_BY.map(String::from).into();
        let labels = contract.labels.clone().into_iter();
        table.labels = Some(labels.chain([managed_by]).collect());
        table.time_partitioning = contract
            .partition_by
            .as_deref()
            .map(|column| TimePartitioning {
                expiration_ms: contract
                    .partition_expiration_days
                    .map(|days| (u64::from(days) * 86_400_000).to_string()),
                ..TimePartitioning::per_day().field(column)
            });
        if !contract.cluster_by.is_empty() {
            table.clustering = Some(Clustering {
                fields: Some(contract.cluster_by.clone()),
            });
        }
        table
    }

    /// What is to be changed in the table's resource, if anything: new columns, descriptions, labels, expiration.
    fn patch(&self, contract: &Contract, existing: &Table, missing: &[&Column]) -> Option<Table> {
        let mut patch = self.fresh_table(contract);
        let mut fields = existing.schema.fields.clone().unwrap_or_default();
        let mut changed = !missing.is_empty();
        for found in &mut fields {
            let column = find_column(contract, &found.name);
            // A column without a description keeps what someone may have written in BigQuery.
            let Some(described) = column
                .map(contract_field)
                .and_then(|field| field.description)
            else {
                continue;
            };
            if found.description.as_ref() != Some(&described) {
                found.description = Some(described);
                changed = true;
            }
        }
        fields.extend(missing.iter().map(|column| contract_field(column)));
        changed |= existing.description != patch.description;
        let labels = existing.labels.clone().unwrap_or_default();
        changed |= patch
            .labels
            .iter()
            .flatten()
            .any(|(key, value)| labels.get(key) != Some(value));
        // An expiration that was set in BigQuery stays as long as the model has none.
        let expires = expiration(&patch).is_some() && expiration(&patch) != expiration(existing);
        patch.schema = TableSchema::new(fields);
        patch.clustering = None;
        if !expires {
            patch.time_partitioning = None;
        }
        (changed || expires).then_some(patch)
    }

    /// Drops a table; one that does not exist is dropped already.
    pub(super) async fn delete_table(&self, name: &str) -> Result<(), LoadError> {
        let tables = self.client.table();
        match self
            .call(|| tables.delete(&self.project, &self.dataset, name))
            .await
        {
            Ok(()) | Err(CallError::NotFound) => Ok(()),
            Err(error) => Err(self.table_call(name, DROP, error)),
        }
    }

    /// Drops the tables of trial loads with this mark, and returns their names.
    pub(super) async fn delete_trial_tables(&self, mark: &str) -> Result<Vec<String>, LoadError> {
        let tables = self.client.table();
        let (mut page, mut names) = (None::<String>, Vec::new());
        loop {
            let options = || match page.clone() {
                Some(token) => ListOptions::default().page_token(token),
                None => ListOptions::default(),
            };
            let listed = self
                .call(|| tables.list(&self.project, &self.dataset, options()))
                .await
                .map_err(|error| self.unreachable(error))?;
            let [key, value] = MANAGED_BY;
            for table in listed.tables.unwrap_or_default() {
                let labels = table.labels.unwrap_or_default();
                let is_managed = labels.get(key).is_some_and(|by| by == value);
                let name = table.table_reference.table_id;
                if is_managed && is_trial_table(&name, mark) {
                    names.push(name);
                }
            }
            page = listed.next_page_token;
            if page.is_none() {
                break;
            }
        }
        for name in &names {
            self.delete_table(name).await?;
        }
        Ok(names)
    }
}

fn expiration(table: &Table) -> Option<&String> {
    table.time_partitioning.as_ref()?.expiration_ms.as_ref()
}

fn find_column<'a>(contract: &'a Contract, name: &str) -> Option<&'a Column> {
    let mut columns = contract.columns.iter();
    columns.find(|column| column.name.eq_ignore_ascii_case(name))
}

/// The contract's columns that the table does not have.
fn compare<'a>(contract: &'a Contract, existing: &Table) -> Result<Vec<&'a Column>, ShapeMismatch> {
    let partitioning = existing.time_partitioning.as_ref();
    let column = partitioning.and_then(|partitioning| partitioning.field.as_deref());
    let is_daily = partitioning.is_none_or(|partitioning| partitioning.r#type == "DAY");
    if column != contract.partition_by.as_deref() || !is_daily {
        return Err(ShapeMismatch::Partitioning {
            table: contract.table.clone(),
            found: column.map(str::to_string),
            wanted: contract.partition_by.clone(),
        });
    }
    let fields = existing.schema.fields.iter().flatten();
    let columns: Vec<_> = fields
        .map(|field| (field.name.clone(), type_name(&field.r#type).to_string()))
        .collect();
    missing_columns(contract, &columns)
}

/// Whether a load can change the table to the contract's shape. A load cannot change partitioning and clustering: their
/// columns must be among the contract's, with types that BigQuery accepts for that.
fn is_replaceable(mismatch: &ShapeMismatch, contract: &Contract, existing: &Table) -> bool {
    if matches!(mismatch, ShapeMismatch::Partitioning { .. }) {
        return false;
    }
    let clustered = existing
        .clustering
        .as_ref()
        .and_then(|clustering| clustering.fields.as_ref());
    // "FLOAT64 and BYTES are not supported": https://cloud.google.com/bigquery/docs/clustered-tables
    let can_cluster = |name: &String| {
        find_column(contract, name)
            .is_some_and(|it| !matches!(it.column_type, ColumnType::Float64 | ColumnType::Bytes))
    };
    let partitioned_by = existing
        .time_partitioning
        .as_ref()
        .and_then(|partitioning| partitioning.field.as_deref());
    let keeps_type = |name: &str| {
        let mut fields = existing.schema.fields.iter().flatten();
        let found = fields.find(|field| field.name.eq_ignore_ascii_case(name));
        let wanted = find_column(contract, name).map(|column| column.column_type.bigquery());
        wanted.is_some() && found.map(|field| type_name(&field.r#type)) == wanted
    };
    clustered.into_iter().flatten().all(can_cluster) && partitioned_by.is_none_or(keeps_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mismatches_are_told_from_replaceable_ones() {
        let column = |name: &str, column_type| Column {
            name: name.into(),
            column_type,
            description: None,
        };
        let contract = |types: [ColumnType; 2], partition_by: Option<&str>| Contract {
            table: "t".into(),
            description: String::new(),
            columns: vec![column("time", types[0]), column("id", types[1])],
            partition_by: partition_by.map(str::to_string),
            cluster_by: vec!["id".into()],
            hashed: Vec::new(),
            partition_expiration_days: None,
            labels: Default::default(),
        };
        let json = |kind: &str| {
            serde_json::json!({
                "tableReference": { "projectId": "p", "datasetId": "d", "tableId": "t" },
                "schema": { "fields": [
                    { "name": "TIME", "type": "TIMESTAMP" }, { "name": "id", "type": "STRING" },
                ]},
                "timePartitioning": { "type": kind, "field": "time" },
                "clustering": { "fields": ["id"] },
            })
        };
        let table = |kind: &str| serde_json::from_value::<Table>(json(kind)).unwrap();
        use ColumnType::{Date, Float64, Int64, String as Text, Timestamp};
        let by_time = Some("time");
        for (types, partition_by, kind, expected) in [
            ([Timestamp, Text], by_time, "DAY", None),
            ([Timestamp, Int64], by_time, "DAY", Some(true)),
            ([Timestamp, Float64], by_time, "DAY", Some(false)),
            ([Date, Text], by_time, "DAY", Some(false)),
            ([Timestamp, Text], None, "DAY", Some(false)),
            ([Timestamp, Text], by_time, "HOUR", Some(false)),
        ] {
            let (contract, table) = (contract(types, partition_by), table(kind));
            let found = compare(&contract, &table)
                .err()
                .map(|mismatch| is_replaceable(&mismatch, &contract, &table));
            assert_eq!(found, expected, "{types:?} {partition_by:?} {kind}");
        }
    }
}
