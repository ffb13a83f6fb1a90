//! What a warehouse can do, and what a load hands to it.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::load::error::LoadError;
use crate::state::Started;
use crate::store::layout::Partition;
use crate::store::{Bucket, ObjectRef};
use crate::transform::Contract;

/// A place where tables are kept.
#[async_trait]
pub trait Warehouse: Send + Sync {
    /// Its name, kept with each load: to another target, everything is loaded again.
    fn target(&self) -> &str;

    /// Sees to it that the table exists as the contract says: creates it, adds new columns, refuses changed ones.
    ///
    /// # Errors
    ///
    /// [`LoadError::Shape`] if the table was seen to have another shape; any other error says nothing about it.
    async fn prepare(&self, contract: &Contract) -> Result<Prepared, LoadError>;

    /// Replaces one partition, or all rows of the table, as one step.
    async fn replace(&self, contract: &Contract, batch: &Batch) -> Result<Loaded, LoadError>;

    /// The name of the job that [`Warehouse::replace`] would run, without its attempt; none where there are no jobs.
    fn job(&self, contract: &Contract, batch: &Batch) -> Option<String>;

    /// Waits until a job that an earlier run has started is over: else it might end after its successor, and put
    /// old rows in the place of new ones.
    async fn await_job(&self, started: &Started) -> Result<(), LoadError>;

    /// Rows that the table holds, by partition; without days, all are of [`Partition::Snapshot`].
    async fn counts(&self, contract: &Contract) -> Result<BTreeMap<Partition, u64>, LoadError>;

    /// Removes a table that [`Warehouse::prepare`] has created for a trial load, or that no load can bring to its shape.
    async fn drop_table(&self, contract: &Contract) -> Result<(), LoadError>;

    /// Removes the tables of earlier trial loads with this mark (see [`trial_table`]), and gives their names: a run
    /// that was killed in its trial load has left one.
    async fn drop_trial_tables(&self, mark: &str) -> Result<Vec<String>, LoadError>;
}

/// How the names of tables begin that are created for a trial load and dropped after it. A warehouse removes them by
/// itself after a while, should no run come back to drop them.
pub(super) const TRIAL_PREFIX: &str = "_rehearsal_";

/// The name of a table for a trial load. The mark is that of the buckets, so that the next run on them knows which ones
/// earlier runs have left: other programs may load into the same dataset. Neither mark nor run may hold a `_`.
pub fn trial_table(table: &str, mark: &str, run: &str) -> String {
    format!("{TRIAL_PREFIX}{table}_{mark}_{run}")
}

/// Whether a table was created for a trial load with this mark.
pub(super) fn is_trial_table(name: &str, mark: &str) -> bool {
    name.starts_with(TRIAL_PREFIX) && name.rsplit('_').nth(1) == Some(mark)
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
            .flat_map(|flat| flat.uris(&self.bucket))
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

    /// Addresses of the objects in their bucket.
    pub(super) fn uris(&self, bucket: &Bucket) -> impl Iterator<Item = String> {
        self.objects.iter().map(|object| bucket.uri(&object.path))
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

/// Loads a batch and checks the ledger.
///
/// # Errors
///
/// Those of [`Warehouse::replace`], and [`LoadError::Ledger`] if the warehouse reports other rows than the Parquet has.
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
    Err(LoadError::Ledger {
        table: contract.table.clone(),
        partition,
        loaded: rows,
        flattened,
        used: Some(loaded.attempt),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trial_tables_are_known_by_their_mark() {
        for (name, mark, is_ours) in [
            (trial_table("rpm", "aa", "1"), "aa", true),
            (trial_table("a_b", "aa", "1"), "aa", true),
            (trial_table("rpm", "bb", "1"), "aa", false),
            ("rpm_aa_1".into(), "aa", false),
            ("_rehearsal_aa".into(), "aa", false),
        ] {
            assert_eq!(is_trial_table(&name, mark), is_ours, "{name}");
        }
    }
}
