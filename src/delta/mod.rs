//! Flattened tables as Delta Lake tables, in place (`--table-format delta`).
//!
//! The state stays authoritative: a commit makes the files of a table those that the state lists. So if a log is
//! behind, because a run was killed or the format was just enabled, the next run updates it. A log that someone else
//! has written to is refused.
//!
//! The log is written without a library, as defined by the
//! [protocol](https://github.com/delta-io/delta/blob/master/PROTOCOL.md): the available libraries would build arrow,
//! object_store and DataFusion with other features, and add a second HTTP client.

mod action;
mod checkpoint;
mod log;
mod stats;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use parquet::arrow::parquet_to_arrow_schema;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;

use self::action::{APP, Action, Add, MetaData, Protocol, Remove, Txn};
use self::log::Snapshot;
use crate::clock;
use crate::redact;
use crate::state::{Fence, LockError};
use crate::store::layout::{Partition, RunId, parse_flattened_object, table_root};
use crate::store::{Bucket, LOOKS_AT_A_TIME, ObjectRef, StoreError};
use crate::transform::Contract;

pub use self::log::{FILE_RETENTION, LOG_RETENTION};

/// A Delta table that cannot be updated.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    /// The bucket failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The run lost its lock, so nothing may be committed.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Someone else has written to the log.
    #[error(
        "{log}: version {version} was not written by samsara-etl{}, so nothing is committed to this Delta table: remove \
         the folder, and the next run writes the log again from the state",
        by_whom(by)
    )]
    Foreign {
        /// The log.
        log: String,
        /// The first version of someone else.
        version: u64,
        /// The operation and the program, if the commit names them.
        by: String,
    },
    /// A file of the log cannot be read.
    #[error(
        "{uri} {}: remove the folder of this Delta log, and the next run writes it again from the state",
        redact::foreign(fault)
    )]
    Malformed {
        /// The file.
        uri: String,
        /// What is wrong with it.
        #[source]
        fault: LogFault,
    },
    /// Files of the table have a column with another type than its contract has now.
    #[error(
        "{uri} holds `{column}` as {found}, not {wanted}, so the Delta table stays as it is until all days are derived \
         again: run --stages transform"
    )]
    Types {
        /// The first such file.
        uri: String,
        /// The column.
        column: String,
        /// Its type in the file.
        found: String,
        /// Its type by the contract.
        wanted: String,
    },
}

/// What is wrong with a file of a Delta log.
#[derive(Debug, thiserror::Error)]
pub enum LogFault {
    /// It does not exist.
    #[error("is gone")]
    Gone,
    /// It is not lines of JSON with the members of a Delta log.
    #[error("{0}")]
    Json(#[source] serde_json::Error),
    /// It is not a checkpoint in Parquet.
    #[error("{0}")]
    Checkpoint(#[source] ParquetError),
}

fn by_whom(by: &str) -> String {
    match redact::foreign(by) {
        by if by.is_empty() => String::new(),
        by => format!(" ({by})"),
    }
}

/// What a commit has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The version of the table that it made.
    pub version: u64,
    /// Files that were added.
    pub added: usize,
    /// Files that were removed.
    pub removed: usize,
}

/// A table's objects in the state.
pub type Objects = Vec<(Partition, ObjectRef)>;

/// The Delta table of a contract, over its flattened objects.
#[derive(Debug)]
pub struct DeltaTable {
    bucket: Bucket,
    contract: Contract,
    /// Partitions derived since the last commit: a run that derives one twice writes the same keys, so their statistics
    /// are read again.
    derived: BTreeSet<Partition>,
}

/// Whether more partitions of a table will be derived in this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The columns stay for now: readers see the new columns once all partitions are derived.
    Meanwhile,
    /// All is derived.
    AtTheEnd,
}

impl DeltaTable {
    /// The table in the flattened bucket. Reads nothing yet.
    pub fn new(bucket: &Bucket, contract: &Contract) -> Self {
        Self {
            bucket: bucket.clone(),
            contract: contract.clone(),
            derived: BTreeSet::new(),
        }
    }

    /// Takes note that partitions were derived.
    pub fn take(&mut self, derived: BTreeSet<Partition>) {
        self.derived.extend(derived);
    }

    /// Makes the table's files those of these objects, and its columns those of the contract, by one commit if they
    /// differ. Objects without rows are left out.
    ///
    /// # Errors
    /// [`DeltaError`]: then the log is unchanged.
    pub async fn commit(
        &mut self,
        objects: &Objects,
        when: When,
        run: &RunId,
        fence: &Fence,
    ) -> Result<Option<Committed>, DeltaError> {
        let (table, now) = (self.contract.table.clone(), clock::now());
        // It is not cached: the statistics of all files of all tables would take gigabytes.
        let mut snapshot = Snapshot::read(&self.bucket, &table).await?;
        snapshot.check_own(&self.bucket, &table).await?;
        let root = format!("{}/", table_root(&table));
        let with_rows = objects.iter().filter(|(_, object)| object.rows > 0);
        let wanted: BTreeMap<&str, &(Partition, ObjectRef)> = with_rows
            .map(|it| (it.1.path.strip_prefix(&root).unwrap_or(&it.1.path), it))
            .collect();
        let before = snapshot.meta_data.as_ref();
        let meta_data = MetaData::of(&self.contract, before, now);
        let is_reshaped = before.is_none_or(|it| it.columns() != meta_data.columns());
        if is_reshaped && before.is_some() && when == When::Meanwhile {
            return Ok(None);
        }
        let is_looked_at = |path: &str, (partition, object): &(Partition, ObjectRef)| {
            let known = snapshot.files.get(path);
            is_reshaped
                || self.derived.contains(partition)
                || known.is_none_or(|known| known.size != object.bytes)
        };
        let looks = wanted.iter().filter(|(path, it)| is_looked_at(path, it));
        let looks = looks.map(|(path, it)| as_file(&self.bucket, &self.contract, path, &it.1));
        let files = stream::iter(looks.collect::<Vec<_>>()).buffered(LOOKS_AT_A_TIME);
        let mut adds = match files.try_collect::<Vec<Add>>().await {
            // Days that are not derived yet have the other type.
            Err(DeltaError::Types { .. }) if when == When::Meanwhile => return Ok(None),
            files => files?,
        };
        adds.retain(|add| {
            let known = snapshot.files.get(&add.path);
            known.is_none_or(|known| known.size != add.size || known.stats != add.stats)
        });
        let gone = |file: &&Add| !wanted.contains_key(file.path.as_str());
        let removes = snapshot.files.values().filter(gone);
        let changes = Changes {
            is_new: snapshot.version.is_none(),
            meta_data: Some(meta_data).filter(|it| before != Some(it)),
            removes: removes.map(|file| file.removed(now)).collect(),
            adds,
        };
        let done = Committed {
            version: snapshot.next(),
            added: changes.adds.len(),
            removed: changes.removes.len(),
        };
        if !changes.are_none() {
            fence.check()?;
            let actions = changes.actions(done.version, run, now);
            snapshot.commit(&self.bucket, &table, actions, now).await?;
        }
        self.derived.clear();
        Ok((done.version != snapshot.next()).then_some(done))
    }
}

/// What a commit is going to change.
struct Changes {
    is_new: bool,
    meta_data: Option<MetaData>,
    removes: Vec<Remove>,
    adds: Vec<Add>,
}

impl Changes {
    fn are_none(&self) -> bool {
        self.meta_data.is_none() && self.removes.is_empty() && self.adds.is_empty()
    }

    /// The lines of the commit.
    fn actions(self, version: u64, run: &RunId, now: DateTime<Utc>) -> Vec<Action> {
        let at = now.timestamp_millis();
        let info = serde_json::json!({
            "timestamp": at,
            "operation": "WRITE",
            "operationParameters": { "mode": "Overwrite", "run": run.as_str() },
            "engineInfo": concat!("samsara-etl/", env!("CARGO_PKG_VERSION")),
        });
        let txn = Txn {
            app_id: APP.into(),
            version: i64::try_from(version).unwrap_or(i64::MAX),
            last_updated: Some(at),
        };
        let mut actions = vec![Action {
            commit_info: Some(info),
            ..Action::default()
        }];
        actions.extend(self.is_new.then(|| Action {
            protocol: Some(Protocol::OURS),
            ..Action::default()
        }));
        actions.extend(self.meta_data.map(|meta_data| Action {
            meta_data: Some(meta_data),
            ..Action::default()
        }));
        actions.push(Action {
            txn: Some(txn),
            ..Action::default()
        });
        actions.extend(self.removes.into_iter().map(|remove| Action {
            remove: Some(remove),
            ..Action::default()
        }));
        actions.extend(self.adds.into_iter().map(|add| Action {
            add: Some(add),
            ..Action::default()
        }));
        actions
    }
}

/// An object as a file of the table, whose columns have the contract's types.
async fn as_file(
    bucket: &Bucket,
    contract: &Contract,
    path: &str,
    object: &ObjectRef,
) -> Result<Add, DeltaError> {
    let (footer, modified) = bucket.footer(object).await?;
    check_types(bucket, contract, object, &footer)?;
    Ok(Add {
        path: path.to_string(),
        partition_values: BTreeMap::new(),
        size: object.bytes,
        modification_time: modified.timestamp_millis(),
        data_change: true,
        stats: Some(stats::stats(contract, &footer)),
    })
}

/// Refuses a file that has a column with another type. A column that the file does not have is NULL.
fn check_types(
    bucket: &Bucket,
    contract: &Contract,
    object: &ObjectRef,
    footer: &ParquetMetaData,
) -> Result<(), DeltaError> {
    let file = footer.file_metadata();
    let schema = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata())
        .map_err(|error| bucket.unreadable(object, error))?;
    for column in &contract.columns {
        let Ok(field) = schema.field_with_name(&column.name) else {
            continue;
        };
        let wanted = column.column_type.arrow();
        if *field.data_type() != wanted {
            return Err(DeltaError::Types {
                uri: bucket.uri(&object.path),
                column: column.name.clone(),
                found: field.data_type().to_string(),
                wanted: wanted.to_string(),
            });
        }
    }
    Ok(())
}

/// Keys of the objects that readers of a table's Delta log may need: its files, and those that it had until a week ago.
///
/// # Errors
/// [`DeltaError`] if the log cannot be read: then it is unknown which objects are needed.
pub async fn readable_objects(
    bucket: &Bucket,
    table: &str,
    now: DateTime<Utc>,
) -> Result<Vec<String>, DeltaError> {
    let snapshot = Snapshot::read(bucket, table).await?;
    let earliest = (now - FILE_RETENTION).timestamp_millis();
    let removed = snapshot.removed.values();
    let removed = removed
        .filter(|it| it.deletion_timestamp.is_none_or(|at| at >= earliest))
        .map(|it| &it.path);
    let root = table_root(table);
    let keys = snapshot.files.keys().chain(removed);
    let keys = keys.map(|path| format!("{root}/{path}"));
    Ok(keys
        .filter(|key| parse_flattened_object(key).is_some())
        .collect())
}
