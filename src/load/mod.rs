//! Flattened Parquet into the warehouse.
//!
//! Loads replace and never append: a day's load job overwrites exactly that day, a snapshot's overwrites the
//! table's rows. So a load may be repeated at will. What the warehouse reports must equal what the Parquet holds,
//! or the partition does not count as loaded.

mod auth;
mod bigquery;
mod limit;
mod local;
mod location;
mod staging;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use crate::config::{BucketLocation, StorageConfig, WarehouseConfig};
use crate::state::{Fence, LockError, Started};
use crate::store::layout::Partition;
use crate::store::{Bucket, ObjectRef, StoreError};
use crate::transform::Contract;

pub use bigquery::{BigQuery, Timings};
pub use local::{LocalTable, LocalWarehouse};

/// A place where tables are kept.
#[async_trait]
pub trait Warehouse: Send + Sync {
    /// Its name, kept with each load: another target means that everything is loaded there anew.
    fn target(&self) -> &str;

    /// Sees to it that the table exists as the contract says: makes it, adds new columns, refuses changed ones.
    async fn prepare(&self, contract: &Contract) -> Result<Prepared, LoadError>;

    /// Replaces one partition, or all rows of the table, as one step.
    async fn replace(&self, contract: &Contract, batch: &Batch) -> Result<Loaded, LoadError>;

    /// The name of the job that [`Warehouse::replace`] would run, without its attempt; none where there are no jobs.
    fn job(&self, contract: &Contract, batch: &Batch) -> Option<String>;

    /// Waits until a job that an earlier run has started is over: else it might end after its successor, and put
    /// old rows in the place of new ones.
    async fn settle(&self, started: &Started) -> Result<(), LoadError>;

    /// Rows that the table holds, by partition; without days, all are of [`Partition::Snapshot`].
    async fn counts(&self, contract: &Contract) -> Result<BTreeMap<Partition, u64>, LoadError>;

    /// Removes a table that [`Warehouse::prepare`] has made for a rehearsal, or that no load can bring to its shape.
    async fn drop_table(&self, contract: &Contract) -> Result<(), LoadError>;

    /// Removes the tables of earlier rehearsals that bear this mark (see [`rehearsal`]), and gives their names: a run
    /// that was killed in its rehearsal has left one.
    async fn drop_rehearsals(&self, mark: &str) -> Result<Vec<String>, LoadError>;
}

/// How the names of tables begin that are made for a rehearsal and dropped after it. A warehouse forgets them by itself
/// after a while, should nobody come back to drop them.
const REHEARSAL: &str = "_rehearsal_";

/// The name of a table for a rehearsal. The mark is that of the buckets, so that the next run on them knows which ones
/// earlier runs have left: other programs may load into the same dataset. Neither mark nor run may hold a `_`.
pub fn rehearsal(table: &str, mark: &str, run: &str) -> String {
    format!("{REHEARSAL}{table}_{mark}_{run}")
}

/// Whether a table was made for a rehearsal that bears this mark.
fn is_rehearsal(name: &str, mark: &str) -> bool {
    name.starts_with(REHEARSAL) && name.rsplit('_').nth(1) == Some(mark)
}

/// What a table is like before anything is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prepared {
    /// Whether it is known to hold no row.
    pub is_empty: bool,
}

/// What one load replaces.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The flattened bucket.
    pub bucket: Bucket,
    /// The partitions, in their order. More than one only if `whole`.
    pub partitions: Vec<FlatObjects>,
    /// Whether they are all that the table shall hold.
    pub whole: bool,
    /// Whether the table takes the contract's columns and types too, instead of keeping its own; only with `whole`.
    pub reshape: bool,
    /// Number of the first job id to use, from 1: those before it are used up.
    pub attempt: u32,
}

impl Batch {
    /// Rows in the Parquet.
    pub fn rows(&self) -> u64 {
        self.partitions.iter().map(FlatObjects::rows).sum()
    }

    /// Addresses of the objects.
    pub fn uris(&self) -> impl Iterator<Item = String> {
        self.partitions
            .iter()
            .flat_map(|flat| &flat.objects)
            .map(|object| self.bucket.uri(&object.path))
    }

    /// The days for people, and for job ids.
    pub fn label(&self) -> String {
        match self.partitions.as_slice() {
            [] => "nothing".into(),
            [one] => one.partition.to_string(),
            [first, .., last] => format!("{}_to_{}", first.partition, last.partition),
        }
    }
}

/// The flattened objects of one partition, and what names their content.
#[derive(Debug, Clone)]
pub struct FlatObjects {
    /// The partition.
    pub partition: Partition,
    /// The objects.
    pub objects: Vec<ObjectRef>,
    /// Digest of what they were made of.
    pub fingerprint: String,
}

impl FlatObjects {
    /// Rows in the objects.
    pub fn rows(&self) -> u64 {
        self.objects.iter().map(|object| object.rows).sum()
    }
}

/// What the warehouse says of a finished load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Rows it reports.
    pub rows: u64,
    /// Its job, where there are jobs.
    pub job: Option<String>,
    /// Number of the job id that was used.
    pub attempt: u32,
}

/// A table or partition that could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The table has another shape than the contract, as both were seen, and loads cannot go into it.
    #[error("table {table}: {reason}")]
    Shape {
        /// The table, with its dataset.
        table: String,
        /// Both sides, and what to do.
        reason: String,
        /// Whether a load of all rows can give the table the contract's shape in the same step ([`Batch::reshape`]).
        replaceable: bool,
    },
    /// A call about the table failed. It says nothing about the table.
    #[error("table {table}: cannot {verb} it: {reason}")]
    Call {
        /// The table, with its dataset.
        table: String,
        /// look at, make, change or drop.
        verb: &'static str,
        /// The warehouse's word.
        reason: String,
    },
    /// The warehouse refused the load.
    #[error("{table} {partition}: {}{reason}", job.as_deref().map(|job| format!("job {job}: ")).unwrap_or_default())]
    Refused {
        /// The table, with its dataset.
        table: String,
        /// The partition or partitions.
        partition: String,
        /// The job.
        job: Option<String>,
        /// The last attempt whose job has ended; its id can never run again.
        used: Option<u32>,
        /// The warehouse's word.
        reason: String,
    },
    /// The project's quota is used up: this table waits for the next run.
    #[error(
        "{table}: BigQuery's quota is used up ({reason}); what is left is loaded by the next run"
    )]
    Quota {
        /// The table, with its dataset.
        table: String,
        /// The last attempt whose job has ended; its id can never run again.
        used: Option<u32>,
        /// BigQuery's word.
        reason: String,
    },
    /// The ledger does not balance.
    #[error(
        "{table} {partition}: the warehouse reports {loaded} rows, the Parquet holds {flattened}"
    )]
    Ledger {
        /// The table.
        table: String,
        /// The partition or partitions.
        partition: String,
        /// Rows that the warehouse reports.
        loaded: u64,
        /// Rows in the objects.
        flattened: u64,
        /// The attempt whose job said so.
        used: Option<u32>,
    },
    /// A list has become much shorter than the one that is loaded.
    #[error(
        "{table}: the list has {rows} rows now, {loaded} are loaded: is the token limited to some tags? \
         If the list is right, run again with --accept-shrunken {table}"
    )]
    Shrunken {
        /// The table.
        table: String,
        /// Rows in the new list.
        rows: u64,
        /// Rows that are loaded.
        loaded: u64,
    },
    /// BigQuery cannot read a bucket of this location.
    #[error(
        "{target} is in {dataset}, bucket {bucket} in {found}: BigQuery loads only where they share a location; \
         make the bucket in {dataset}, or name a dataset in {found}"
    )]
    Location {
        /// The warehouse.
        target: String,
        /// Location of the dataset.
        dataset: String,
        /// The bucket.
        bucket: String,
        /// Its location.
        found: String,
    },
    /// The warehouse cannot be reached or does not answer.
    #[error("{target}: {reason}")]
    Unreachable {
        /// The warehouse.
        target: String,
        /// Why.
        reason: String,
    },
    /// The run has lost its lock.
    #[error("{table}: nothing more is loaded: {error}")]
    Lock {
        /// The table.
        table: String,
        /// What became of the lock.
        #[source]
        error: LockError,
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

impl LoadError {
    /// The attempt whose job id is used up by this failure.
    pub fn used(&self) -> Option<u32> {
        match self {
            Self::Refused { used, .. } | Self::Quota { used, .. } | Self::Ledger { used, .. } => {
                *used
            }
            _ => None,
        }
    }
}

/// The name under which loads of a warehouse with load jobs are kept in the state; none for a folder.
pub fn target(config: &WarehouseConfig) -> Option<String> {
    match config {
        WarehouseConfig::Local(_) => None,
        WarehouseConfig::BigQuery {
            project, dataset, ..
        } => Some(bigquery::target(project, dataset)),
    }
}

/// The name under which loads of the configured warehouse are kept in the state, whatever kind of warehouse it is.
pub fn target_name(config: &WarehouseConfig) -> String {
    match config {
        WarehouseConfig::Local(folder) => local::target(folder),
        WarehouseConfig::BigQuery {
            project, dataset, ..
        } => bigquery::target(project, dataset),
    }
}

/// Opens the configured warehouse, for loads from the flattened bucket by whoever may pass the fence.
pub async fn open(
    config: &WarehouseConfig,
    storage: &StorageConfig,
    io: &tokio::runtime::Handle,
    fence: &Fence,
) -> Result<Arc<dyn Warehouse>, LoadError> {
    Ok(match config {
        WarehouseConfig::Local(folder) => Arc::new(LocalWarehouse::open(folder, io)?.fenced(fence)),
        WarehouseConfig::BigQuery {
            project,
            dataset,
            location,
        } => {
            let warehouse =
                BigQuery::connect(project, dataset, location.as_deref(), &storage.google).await?;
            if let BucketLocation::Google(bucket) = &storage.flattened {
                location::check(
                    warehouse.target(),
                    warehouse.location(),
                    bucket,
                    &storage.google,
                )
                .await?;
            }
            Arc::new(warehouse.fenced(fence))
        }
    })
}

/// Opens the configured warehouse to read it, and makes nothing; none if it is a dataset that does not exist.
pub async fn look(
    config: &WarehouseConfig,
    storage: &StorageConfig,
    io: &tokio::runtime::Handle,
) -> Result<Option<Arc<dyn Warehouse>>, LoadError> {
    Ok(match config {
        WarehouseConfig::Local(folder) => Some(Arc::new(LocalWarehouse::look(folder, io)?)),
        WarehouseConfig::BigQuery {
            project,
            dataset,
            location,
        } => {
            let found =
                BigQuery::look(project, dataset, location.as_deref(), &storage.google).await?;
            found.map(|warehouse| Arc::new(warehouse) as Arc<dyn Warehouse>)
        }
    })
}

/// What a look at the configured warehouse found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// How it is, or what to do.
    pub text: String,
    /// Good, bad, or neither.
    pub good: Option<bool>,
}

impl Finding {
    /// As it should be.
    pub fn good(what: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            text: text.into(),
            good: Some(true),
        }
    }

    /// Not as it should be; the text tells the remedy.
    pub fn bad(what: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            text: text.into(),
            good: Some(false),
        }
    }

    /// Worth knowing.
    pub fn note(what: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            text: text.into(),
            good: None,
        }
    }
}

/// Looks at the configured warehouse without changing anything.
pub async fn examine(config: &WarehouseConfig, storage: &StorageConfig) -> Vec<Finding> {
    match config {
        WarehouseConfig::Local(folder) if folder.is_dir() => {
            vec![Finding::good(
                "warehouse",
                format!("folder {}", folder.display()),
            )]
        }
        WarehouseConfig::Local(folder) => {
            vec![Finding::note(
                "warehouse",
                format!("folder {} is made by the first load", folder.display()),
            )]
        }
        WarehouseConfig::BigQuery {
            project,
            dataset,
            location,
        } => {
            let bucket = match &storage.flattened {
                BucketLocation::Google(name) => Some(name.as_str()),
                BucketLocation::Folder(_) => None,
            };
            BigQuery::examine(
                project,
                dataset,
                location.as_deref(),
                bucket,
                &storage.google,
            )
            .await
        }
    }
}

/// Loads a batch and checks the ledger: rows reported = rows in the Parquet.
pub async fn load(
    warehouse: &dyn Warehouse,
    contract: &Contract,
    batch: &Batch,
) -> Result<Loaded, LoadError> {
    let loaded = warehouse.replace(contract, batch).await?;
    let flattened = batch.rows();
    if loaded.rows == flattened {
        return Ok(loaded);
    }
    // A job with many days does not say in which of them the rows differ; the table does, if it can be asked.
    let counts = if batch.partitions.len() > 1 {
        warehouse.counts(contract).await.ok()
    } else {
        None
    };
    let differs = counts.and_then(|counts| {
        let pairs = batch.partitions.iter().map(|flat| {
            let held = counts.get(&flat.partition).copied().unwrap_or_default();
            (flat.partition.to_string(), held, flat.rows())
        });
        pairs.into_iter().find(|(_, held, rows)| held != rows)
    });
    let (partition, rows, flattened) =
        differs.unwrap_or_else(|| (batch.label(), loaded.rows, flattened));
    let (table, used) = (contract.table.clone(), Some(loaded.attempt));
    Err(LoadError::Ledger {
        table,
        partition,
        loaded: rows,
        flattened,
        used,
    })
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
        match existing
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(&column.name))
        {
            None => missing.push(column),
            Some((_, found)) if found == wanted => {}
            Some((_, found)) => {
                return Err(LoadError::Shape {
                    table: table.into(),
                    reason: format!(
                        "column `{}` is {found}, the model gives {wanted}: CAST it to {found} in the model, \
                         or give it a new name; or run with --full-refresh {}",
                        column.name, contract.table
                    ),
                    replaceable: true,
                });
            }
        }
    }
    Ok(missing)
}
