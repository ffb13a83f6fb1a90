//! Flattened Parquet into the warehouse.
//!
//! Loads replace and never append: a day's load job overwrites exactly that day, a snapshot's overwrites the
//! table's rows. So a load may be repeated at will. What the warehouse reports must equal what the Parquet holds,
//! or the partition does not count as loaded.

mod auth;
mod bigquery;
mod local;
mod staging;

use std::sync::Arc;

use async_trait::async_trait;

use crate::config::{GoogleAccess, WarehouseConfig};
use crate::store::layout::Partition;
use crate::store::{Bucket, ObjectRef, StoreError};
use crate::transform::Contract;

pub use bigquery::BigQuery;
pub use local::{LocalTable, LocalWarehouse};

/// A place where tables are kept.
#[async_trait]
pub trait Warehouse: Send + Sync {
    /// Its name, kept with each load: another target means that everything is loaded there anew.
    fn target(&self) -> &str;

    /// Sees to it that the table exists as the contract says: makes it, adds new columns, refuses changed ones.
    async fn prepare(&self, contract: &Contract) -> Result<(), LoadError>;

    /// Replaces one partition by these objects, as one step.
    async fn replace(&self, contract: &Contract, flat: &FlatObjects) -> Result<Loaded, LoadError>;
}

/// The flattened objects of one partition, and what names their content.
#[derive(Debug, Clone)]
pub struct FlatObjects {
    /// The flattened bucket.
    pub bucket: Bucket,
    /// The partition.
    pub partition: Partition,
    /// The objects.
    pub objects: Vec<ObjectRef>,
    /// Digest of what they were made of.
    pub fingerprint: String,
}

/// What the warehouse says of a finished load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Rows it reports.
    pub rows: u64,
    /// Its job, where there are jobs.
    pub job: Option<String>,
}

/// A table or partition that could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The table has another shape than the contract and cannot be brought to it.
    #[error("table {table}: {reason}")]
    Shape {
        /// The table, with its dataset.
        table: String,
        /// Both sides, and what to do.
        reason: String,
    },
    /// The warehouse refused the load.
    #[error("{table} {partition}: {}{reason}", job.as_deref().map(|job| format!("job {job}: ")).unwrap_or_default())]
    Refused {
        /// The table, with its dataset.
        table: String,
        /// The partition.
        partition: Partition,
        /// The job.
        job: Option<String>,
        /// The warehouse's word.
        reason: String,
    },
    /// The project's quota is used up: this table waits for the next run.
    #[error("{table}: BigQuery's quota is used up ({reason}); what is left is loaded by the next run")]
    Quota {
        /// The table, with its dataset.
        table: String,
        /// BigQuery's word.
        reason: String,
    },
    /// The ledger does not balance.
    #[error("{table} {partition}: the warehouse reports {loaded} rows, the Parquet holds {flattened}")]
    Ledger {
        /// The table.
        table: String,
        /// The partition.
        partition: Partition,
        /// Rows that the warehouse reports.
        loaded: u64,
        /// Rows in the objects.
        flattened: u64,
    },
    /// The warehouse cannot be reached or does not answer.
    #[error("{target}: {reason}")]
    Unreachable {
        /// The warehouse.
        target: String,
        /// Why.
        reason: String,
    },
    /// A folder or bucket failed.
    #[error("{table}: {error}")]
    Store {
        /// The table.
        table: String,
        /// The fault.
        #[source]
        error: StoreError,
    },
}

/// Opens the configured warehouse.
pub async fn open(
    config: &WarehouseConfig,
    access: &GoogleAccess,
    io: &tokio::runtime::Handle,
) -> Result<Arc<dyn Warehouse>, LoadError> {
    Ok(match config {
        WarehouseConfig::Local(folder) => Arc::new(LocalWarehouse::open(folder, io)?),
        WarehouseConfig::BigQuery { project, dataset, location } => {
            Arc::new(BigQuery::connect(project, dataset, location.as_deref(), access).await?)
        }
    })
}

/// Loads one partition and checks the ledger: rows reported = rows in the Parquet.
pub async fn load(warehouse: &dyn Warehouse, contract: &Contract, flat: &FlatObjects) -> Result<Loaded, LoadError> {
    let loaded = warehouse.replace(contract, flat).await?;
    let flattened = flat.objects.iter().map(|object| object.rows).sum();
    if loaded.rows != flattened {
        return Err(LoadError::Ledger {
            table: contract.table.clone(),
            partition: flat.partition,
            loaded: loaded.rows,
            flattened,
        });
    }
    Ok(loaded)
}

/// Columns that a table has (`name`, `type` in upper case) against the contract: what is to be added, or what
/// cannot be reconciled. Columns that the contract no longer has stay, and hold NULL in new rows.
fn missing_columns<'a>(
    table: &str,
    contract: &'a Contract,
    existing: &[(String, String)],
) -> Result<Vec<&'a crate::transform::Column>, LoadError> {
    let mut missing = Vec::new();
    for column in &contract.columns {
        let wanted = column.column_type.bigquery();
        match existing.iter().find(|(name, _)| name.eq_ignore_ascii_case(&column.name)) {
            None => missing.push(column),
            Some((_, found)) if found == wanted => {}
            Some((_, found)) => {
                return Err(LoadError::Shape {
                    table: table.into(),
                    reason: format!(
                        "column `{}` is {found}, the model gives {wanted}: CAST it to {found} in the model, \
                         or give it a new name",
                        column.name
                    ),
                });
            }
        }
    }
    Ok(missing)
}
