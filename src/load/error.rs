//! What can keep a table or partition from being loaded.

use arrow::error::ArrowError;

use crate::load::bigquery::call_error::{CallError, JobFailure};
use crate::load::shape::ShapeMismatch;
use crate::state::{DocumentError, LockError};
use crate::store::StoreError;
use crate::store::layout::Partition;
use crate::transform::TransformError;

/// A table or partition that could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The table has another shape than the contract, so loads cannot go into it.
    #[error("table {table}: {mismatch}")]
    Shape {
        /// The table, with its dataset.
        table: String,
        /// Both sides, and what to do.
        #[source]
        mismatch: ShapeMismatch,
        /// Whether a load of all rows can give the table the contract's shape in the same step
        /// ([`Batch::reshape`](super::Batch::reshape)).
        replaceable: bool,
    },
    /// A call about the table failed. It says nothing about the table's shape.
    #[error("table {table}: cannot {action} it: {error}")]
    Call {
        /// The table, with its dataset.
        table: String,
        /// look at, make, change or drop.
        action: &'static str,
        /// How it failed.
        #[source]
        error: CallError,
    },
    /// A call about a load job failed. The job may be running all the same: its id is not used up.
    #[error("{table} {partition}: job {job}: {error}")]
    JobCall {
        /// The table, with its dataset.
        table: String,
        /// The partition or partitions.
        partition: String,
        /// The job.
        job: String,
        /// How it failed.
        #[source]
        error: CallError,
    },
    /// The warehouse refused the load.
    #[error("{table} {partition}: job {job}: {error}")]
    Refused {
        /// The table, with its dataset.
        table: String,
        /// The partition or partitions.
        partition: String,
        /// The job.
        job: String,
        /// The last attempt whose job has ended; its id can never run again.
        used: u32,
        /// Why the job failed.
        #[source]
        error: JobFailure,
    },
    /// A load job succeeded, but its statistics lack the number of rows.
    #[error("{table} {partition}: job {job}: the job does not say how many rows it wrote")]
    RowsUnknown {
        /// The table, with its dataset.
        table: String,
        /// The partition or partitions.
        partition: String,
        /// The job.
        job: String,
        /// The last attempt whose job has ended; its id can never run again.
        used: u32,
    },
    /// Audit rows cannot be written as the table's contract says.
    #[error("{table} {partition}: {error}")]
    Rows {
        /// The table.
        table: String,
        /// The partition.
        partition: String,
        /// The first value that does not fit.
        #[source]
        error: ArrowError,
    },
    /// The project's quota is used up: this table waits for the next run.
    #[error("{table}: BigQuery's quota is used up ({message}); the next run loads the rest")]
    Quota {
        /// The table, with its dataset.
        table: String,
        /// The last attempt whose job has ended; its id can never run again.
        used: Option<u32>,
        /// BigQuery's message.
        message: String,
    },
    /// A query over the rows of a table failed.
    #[error("{table}: its rows cannot be queried: {error}")]
    Query {
        /// The table.
        table: String,
        /// How the query failed.
        #[source]
        error: TransformError,
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
    /// A list has far fewer rows than the one that is loaded.
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
    /// The dataset is not where the configuration says.
    #[error("{target}: the dataset is in {actual}, --location or BIGQUERY_LOCATION says {wanted}")]
    DatasetElsewhere {
        /// The warehouse.
        target: String,
        /// Location of the dataset.
        actual: String,
        /// The configured location.
        wanted: String,
    },
    /// The warehouse cannot be reached or does not answer.
    #[error("{target}: {error}")]
    Unreachable {
        /// The warehouse or table.
        target: String,
        /// Why.
        #[source]
        error: CallError,
    },
    /// The manifest of a table of the local warehouse cannot be used.
    #[error(
        "{target}: {uri} is not a table manifest: {error}; put back the right one, or remove it and run with \
         --full-refresh {table}"
    )]
    Manifest {
        /// The warehouse.
        target: String,
        /// The file.
        uri: String,
        /// What is wrong with it.
        #[source]
        error: DocumentError,
        /// The table.
        table: String,
    },
    /// No source determines the table's partitions.
    #[error("{table}: the catalog has no source that gives it its partitions")]
    NoSource {
        /// The table.
        table: String,
    },
    /// A partition of a table that is not in the run's load plan.
    #[error("{table} {partition}: the load plan of this run does not have this table")]
    NotPlanned {
        /// The table.
        table: String,
        /// The partition.
        partition: Partition,
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
        /// How it failed.
        #[source]
        error: StoreError,
    },
}

impl LoadError {
    /// The attempt whose job id is used up by this failure.
    pub fn used(&self) -> Option<u32> {
        match self {
            Self::Refused { used, .. } | Self::RowsUnknown { used, .. } => Some(*used),
            Self::Quota { used, .. } | Self::Ledger { used, .. } => *used,
            _ => None,
        }
    }

    /// Whether the quota is used up, so that the table's next partition would be refused too.
    pub fn is_quota(&self) -> bool {
        matches!(self, Self::Quota { .. })
    }
}
