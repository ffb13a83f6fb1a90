//! A table's Delta log: the state after its commits, and new commits.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use parquet::errors::ParquetError;
use serde_json::Value;

use super::action::{APP, Action, Add, MetaData, Protocol, Remove, Txn};
use super::checkpoint;
use super::{DeltaError, LogFault};
use crate::store::layout::{
    DeltaFile, delta_checkpoint, delta_commit, delta_hint, delta_log, parse_delta_file,
};
use crate::store::{Bucket, LOOKS_AT_A_TIME, StoreError};

/// How long files that a commit has removed are kept for readers of earlier versions; Delta Lake's own default.
pub const FILE_RETENTION: TimeDelta = TimeDelta::days(7);
/// How long commits are kept after a checkpoint has made them superfluous; Delta Lake's own default.
pub const LOG_RETENTION: TimeDelta = TimeDelta::days(30);
/// A checkpoint is written after this many commits; Delta Lake's own default.
const CHECKPOINT_EVERY: u64 = 10;

/// The state of a log.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot {
    /// The last version; none if there is no log.
    pub(super) version: Option<u64>,
    /// The version of the last checkpoint.
    checkpoint: Option<u64>,
    pub(super) protocol: Option<Protocol>,
    pub(super) meta_data: Option<MetaData>,
    /// The last commit of this program.
    own: Option<Txn>,
    /// The table's files, by path.
    pub(super) files: BTreeMap<String, Add>,
    /// Files that were removed, by path.
    pub(super) removed: BTreeMap<String, Remove>,
}

impl Snapshot {
    /// Reads the log of a table.
    pub(super) async fn read(bucket: &Bucket, table: &str) -> Result<Self, DeltaError> {
        #[derive(serde::Deserialize)]
        struct Hint {
            version: u64,
        }
        let (hint_key, prefix) = (delta_hint(table), delta_log(table));
        let malformed = |key: &str, fault: LogFault| DeltaError::Malformed {
            uri: bucket.uri(key),
            fault,
        };
        let mut snapshot = Self::default();
        let mut offset = prefix.clone();
        if let Some((bytes, _)) = bucket.read(&hint_key).await? {
            let hint: Hint = serde_json::from_slice(&bytes)
                .map_err(|error| malformed(&hint_key, LogFault::Json(error)))?;
            let key = delta_checkpoint(table, hint.version);
            let Some((bytes, _)) = bucket.read(&key).await? else {
                return Err(malformed(&key, LogFault::Gone));
            };
            let actions = checkpoint::read(bytes)
                .map_err(|error| malformed(&key, LogFault::Checkpoint(error)))?;
            actions.into_iter().for_each(|it| snapshot.apply(it));
            snapshot.version = Some(hint.version);
            snapshot.checkpoint = Some(hint.version);
            offset = delta_commit(table, hint.version);
        }
        let mut versions: Vec<u64> = bucket
            .list_after(&prefix, &offset)
            .await?
            .iter()
            .filter_map(|key| match parse_delta_file(key) {
                Some((_, DeltaFile::Commit(version))) => Some(version),
                _ => None,
            })
            .collect();
        versions.sort_unstable();
        let commits = versions.into_iter().map(|version| async move {
            let key = delta_commit(table, version);
            let found = bucket.read(&key).await?;
            Ok::<_, StoreError>((version, key, found))
        });
        let mut commits = stream::iter(commits.collect::<Vec<_>>()).buffered(LOOKS_AT_A_TIME);
        while let Some((version, key, found)) = commits.try_next().await? {
            if snapshot.next() != version {
                let missing = delta_commit(table, snapshot.next());
                return Err(malformed(&missing, LogFault::Gone));
            }
            let Some((bytes, _)) = found else {
                return Err(malformed(&key, LogFault::Gone));
            };
            for action in serde_json::Deserializer::from_slice(&bytes).into_iter() {
                snapshot.apply(action.map_err(|error| malformed(&key, LogFault::Json(error)))?);
            }
            snapshot.version = Some(version);
        }
        Ok(snapshot)
    }

    /// The version that comes next.
    pub(super) fn next(&self) -> u64 {
        self.version.map_or(0, |version| version + 1)
    }

    fn apply(&mut self, action: Action) {
        if let Some(protocol) = action.protocol {
            self.protocol = Some(protocol);
        }
        if let Some(meta_data) = action.meta_data {
            self.meta_data = Some(meta_data);
        }
        if let Some(txn) = action.txn.filter(|txn| txn.app_id == APP) {
            self.own = Some(txn);
        }
        if let Some(add) = action.add {
            self.removed.remove(&add.path);
            self.files.insert(add.path.clone(), add);
        }
        if let Some(remove) = action.remove {
            self.files.remove(&remove.path);
            self.removed.insert(remove.path.clone(), remove);
        }
    }

    /// Refuses a log whose last commit was not made by this program: its changes are not in the state.
    pub(super) async fn check_own(&self, bucket: &Bucket, table: &str) -> Result<(), DeltaError> {
        let own = self.own.as_ref();
        let own = own.and_then(|txn| u64::try_from(txn.version).ok());
        if own == self.version {
            return Ok(());
        }
        let version = own.map_or(0, |own| own + 1);
        let found = bucket.read(&delta_commit(table, version)).await?;
        let info = found.and_then(|(bytes, _)| commit_info(&bytes));
        let text = |name: &str| info.as_ref()?[name].as_str().map(str::to_string);
        Err(DeltaError::Foreign {
            log: bucket.uri(&delta_log(table)),
            version,
            by: [text("operation"), text("engineInfo")]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" by "),
        })
    }

    /// Adds a commit to the log, and a checkpoint from time to time.
    ///
    /// # Errors
    /// [`DeltaError::Foreign`] if someone else has added one meanwhile.
    pub(super) async fn commit(
        &mut self,
        bucket: &Bucket,
        table: &str,
        actions: Vec<Action>,
        now: DateTime<Utc>,
    ) -> Result<u64, DeltaError> {
        let version = self.next();
        let key = delta_commit(table, version);
        let mut lines = Vec::new();
        for action in &actions {
            let line = serde_json::to_vec(action);
            lines.extend_from_slice(&bucket.document(&key, line)?);
            lines.push(b'\n');
        }
        match bucket.create(&key, lines.into()).await {
            Err(StoreError::Conflict { uri }) => {
                let found = Self::read(bucket, table).await?;
                found.check_own(bucket, table).await?;
                return Err(StoreError::Conflict { uri }.into());
            }
            created => created?,
        }
        actions.into_iter().for_each(|action| self.apply(action));
        self.version = Some(version);
        let since = self.checkpoint.map_or(version, |before| version - before);
        if since >= CHECKPOINT_EVERY {
            match self.write_checkpoint(bucket, table, version, now).await {
                Ok(()) => self.checkpoint = Some(version),
                // The commits say the same.
                Err(error) => tracing::warn!(table, %error, "no checkpoint of the Delta log"),
            }
        }
        Ok(version)
    }

    async fn write_checkpoint(
        &mut self,
        bucket: &Bucket,
        table: &str,
        version: u64,
        now: DateTime<Utc>,
    ) -> Result<(), DeltaError> {
        let earliest = (now - FILE_RETENTION).timestamp_millis();
        self.removed
            .retain(|_, it| it.deletion_timestamp.is_none_or(|at| at >= earliest));
        let one = |action| [action].into_iter();
        let actions: Vec<Action> = one(Action {
            protocol: self.protocol.clone(),
            ..Action::default()
        })
        .chain(one(Action {
            meta_data: self.meta_data.clone(),
            ..Action::default()
        }))
        .chain(one(Action {
            txn: self.own.clone(),
            ..Action::default()
        }))
        .chain(self.removed.values().map(|remove| Action {
            remove: Some(Remove {
                data_change: false,
                ..remove.clone()
            }),
            ..Action::default()
        }))
        .chain(self.files.values().map(|add| Action {
            add: Some(Add {
                data_change: false,
                ..add.clone()
            }),
            ..Action::default()
        }))
        .collect();
        let key = delta_checkpoint(table, version);
        let failed = |source: ParquetError| StoreError::Parquet {
            uri: bucket.uri(&key),
            source,
        };
        let bytes = checkpoint::write(&actions).map_err(failed)?;
        let hint = serde_json::json!({ "version": version, "size": actions.len() });
        bucket.write(&key, bytes).await?;
        bucket.sync(&key).await?;
        let hint = Bytes::from(hint.to_string());
        bucket.write(&delta_hint(table), hint).await?;
        Ok(())
    }
}

/// What a commit says of itself.
fn commit_info(bytes: &[u8]) -> Option<Value> {
    let actions = serde_json::Deserializer::from_slice(bytes).into_iter::<Action>();
    actions.flatten().find_map(|action| action.commit_info)
}
