//! What is complete: one document per source in the raw bucket, changed by compare-and-swap only.
//!
//! Objects are written first, the state points at them after: what no state names does not exist.

mod check;
mod document;
pub mod lock;
mod position;
mod strict;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::store::layout::state_object;
use crate::store::{Bucket, StoreError, Version};

pub use document::{
    Checkpoint, CheckpointCursor, CheckpointPartition, CheckpointResult, CheckpointWindow,
    EndedRow, Failure, Feed, Load, ModelState, NotAvailable, Overlap, PartitionState, RawState,
    SourceState, Started, Updates, VERSION,
};
pub use lock::{Fence, Holder, LockError, RunLock};
pub use position::Position;
pub use strict::read_document;

/// Documents that are read at a time.
const READS_AT_A_TIME: usize = 16;

/// A state document that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The bucket failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The document is not one of ours.
    #[error("{uri} is not a state document of this program: {reason}")]
    Malformed {
        /// The document.
        uri: String,
        /// The parser's word.
        reason: String,
    },
    /// A newer program wrote it.
    #[error(
        "{uri} has version {found}, but this program knows up to {VERSION}: update samsara-etl"
    )]
    Newer {
        /// The document.
        uri: String,
        /// Its version.
        found: u32,
    },
    /// The run lost its lock, so nothing may be written.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// An earlier write of the same document failed, so nothing further may be written.
    #[error("{uri} could not be written: {reason}")]
    Failed {
        /// The document.
        uri: String,
        /// Why.
        reason: String,
    },
}

/// The state documents of one raw bucket.
#[derive(Debug, Clone)]
pub struct StateStore {
    bucket: Bucket,
    fence: Fence,
    /// Writes under way.
    writes: TaskTracker,
    open: Arc<tokio::sync::Mutex<HashMap<String, SourceHandle>>>,
}

impl StateStore {
    /// The documents in `bucket`.
    pub fn new(bucket: Bucket) -> Self {
        Self {
            bucket,
            fence: Fence::default(),
            writes: TaskTracker::new(),
            open: Arc::default(),
        }
    }

    /// The document of a source; an empty one if there is none yet.
    pub async fn source(&self, name: &str) -> Result<SourceHandle, StateError> {
        let mut open = self.open.lock().await;
        if let Some(handle) = open.get(name) {
            return Ok(handle.clone());
        }
        let handle = self.read(name).await?;
        open.insert(name.to_string(), handle.clone());
        Ok(handle)
    }

    async fn read(&self, name: &str) -> Result<SourceHandle, StateError> {
        SourceHandle::read(
            self.bucket.clone(),
            self.fence.clone(),
            self.writes.clone(),
            name,
        )
        .await
    }

    /// Waits for the end of writes whose callers were stopped meanwhile: they must not go out after the run lock is
    /// given back.
    pub async fn settle(&self) {
        self.writes.close();
        self.writes.wait().await;
        self.writes.reopen();
    }

    /// What every commit has to pass.
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Looks again at every document that was read before, and tells whether any has changed meanwhile: what was
    /// read without the run lock may be out of date once the lock is had.
    pub async fn refresh(&self) -> Result<bool, StateError> {
        let mut open = self.open.lock().await;
        let names: Vec<String> = open.keys().cloned().collect();
        let fresh: Vec<(String, SourceHandle)> = stream::iter(names)
            .map(|name| async move {
                let handle = self.read(&name).await?;
                Ok::<_, StateError>((name, handle))
            })
            .buffer_unordered(READS_AT_A_TIME)
            .try_collect()
            .await?;
        let mut changed = false;
        for (name, handle) in fresh {
            let before = open.get(&name).map(|before| before.look(Clone::clone));
            if before.is_none_or(|before| handle.look(|state| *state != before)) {
                changed = true;
            }
            open.insert(name, handle);
        }
        Ok(changed)
    }
}

type Change = Box<dyn FnOnce(&mut SourceState) + Send>;
type Done = oneshot::Sender<Result<(), String>>;

/// The state document of one source.
#[derive(Clone)]
pub struct SourceHandle {
    shared: Arc<Shared>,
}

struct Shared {
    bucket: Bucket,
    fence: Fence,
    writes: TaskTracker,
    key: String,
    current: Mutex<SourceState>,
    waiting: Mutex<Vec<(Change, Done)>>,
    writer: tokio::sync::Mutex<Writer>,
}

struct Writer {
    version: Option<Version>,
    written: Option<Instant>,
    failed: Option<String>,
}

impl std::fmt::Debug for SourceHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceHandle")
            .field("key", &self.shared.key)
            .finish_non_exhaustive()
    }
}

impl SourceHandle {
    async fn read(
        bucket: Bucket,
        fence: Fence,
        writes: TaskTracker,
        name: &str,
    ) -> Result<Self, StateError> {
        let key = state_object(name);
        let uri = bucket.uri(&key);
        let (state, version) = match bucket.read(&key).await? {
            None => (SourceState::new(name), None),
            Some((bytes, version)) => (SourceState::of(name, &bytes, &uri)?, Some(version)),
        };
        Ok(Self {
            shared: Arc::new(Shared {
                bucket,
                fence,
                writes,
                key,
                current: Mutex::new(state),
                waiting: Mutex::default(),
                writer: tokio::sync::Mutex::new(Writer {
                    version,
                    written: None,
                    failed: None,
                }),
            }),
        })
    }

    /// Looks at the committed state.
    pub fn look<T>(&self, look: impl FnOnce(&SourceState) -> T) -> T {
        look(&lock(&self.shared.current))
    }

    /// Commits a change. When this returns `Ok`, the change is durable.
    ///
    /// Changes that arrive while a write is under way, or while the bucket wants a pause, go out together in the
    /// next one, so commits never queue up behind the limit of one write a second.
    pub async fn commit(
        &self,
        change: impl FnOnce(&mut SourceState) + Send + 'static,
    ) -> Result<(), StateError> {
        let (done, committed) = oneshot::channel();
        lock(&self.shared.waiting).push((Box::new(change), done));
        let handle = self.clone();
        // In a task of its own: a write that is begun is seen to its end, also when the caller is stopped meanwhile.
        // Otherwise nobody would know which version is ours, and the next commit would take us for another run.
        let task = self
            .shared
            .writes
            .spawn(async move { handle.write_waiting(committed).await });
        task.await.unwrap_or_else(|_| Err(self.interrupted()))
    }

    fn interrupted(&self) -> StateError {
        let uri = self.shared.bucket.uri(&self.shared.key);
        StateError::Failed {
            uri,
            reason: "the write was interrupted".into(),
        }
    }

    /// Writes all changes that wait, unless somebody has taken ours along.
    async fn write_waiting(
        &self,
        mut committed: oneshot::Receiver<Result<(), String>>,
    ) -> Result<(), StateError> {
        let shared = &self.shared;
        let uri = || shared.bucket.uri(&shared.key);
        let mut writer = shared.writer.lock().await;
        match committed.try_recv() {
            Ok(result) => {
                return result.map_err(|reason| StateError::Failed { uri: uri(), reason });
            }
            Err(oneshot::error::TryRecvError::Empty) => {}
            // Whoever took the change along was stopped before it could say how that ended.
            Err(oneshot::error::TryRecvError::Closed) => return Err(self.interrupted()),
        }
        if let Some(written) = writer.written {
            tokio::time::sleep_until(written + shared.bucket.write_interval()).await;
        }
        let (changes, waiters): (Vec<Change>, Vec<Done>) = lock(&shared.waiting).drain(..).unzip();
        let result = match writer.failed.clone() {
            Some(reason) => Err(StateError::Failed { uri: uri(), reason }),
            None => self.write(&mut writer, changes).await,
        };
        if let Err(error) = &result {
            writer.failed = Some(error.to_string());
        }
        for waiter in waiters {
            // A waiter that is gone wants no answer; our own is among them.
            let _ = waiter.send(result.as_ref().map(|_| ()).map_err(ToString::to_string));
        }
        result
    }

    async fn write(&self, writer: &mut Writer, changes: Vec<Change>) -> Result<(), StateError> {
        let shared = &self.shared;
        let mut next = lock(&shared.current).clone();
        for change in changes {
            change(&mut next);
        }
        let bytes = shared.bucket.document(&shared.key, next.to_json())?;
        shared.fence.check()?;
        let version = shared
            .bucket
            .swap(&shared.key, writer.version.as_ref(), bytes)
            .await?;
        writer.version = Some(version);
        writer.written = Some(Instant::now());
        *lock(&shared.current) = next;
        Ok(())
    }
}

/// A thread that panicked while it held the lock left whole values behind: nothing is changed in place.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Partitions by key, as the document holds them.
pub type Partitions = BTreeMap<String, PartitionState>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BucketLocation, GoogleAccess};
    use crate::store::layout::Partition;

    fn bucket(folder: &std::path::Path) -> Bucket {
        let location = BucketLocation::Folder(folder.to_path_buf());
        Bucket::open(
            &location,
            &GoogleAccess::default(),
            &tokio::runtime::Handle::current(),
        )
        .unwrap()
    }

    #[tokio::test]
    async fn concurrent_commits_are_all_kept() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = bucket(folder.path());
        let handle = StateStore::new(bucket.clone()).source("a").await.unwrap();
        let days: Vec<_> = (1..=28)
            .map(|d| chrono::NaiveDate::from_ymd_opt(2024, 1, d).unwrap())
            .collect();
        let commits = days.iter().map(|day| {
            let (handle, day) = (handle.clone(), *day);
            async move {
                handle
                    .commit(move |state| _ = state.partition_mut(Partition::Day(day)))
                    .await
                    .unwrap()
            }
        });
        futures::future::join_all(commits).await;
        let again = StateStore::new(bucket).source("a").await.unwrap();
        assert_eq!(again.look(|state| state.partitions.len()), 28);
    }

    #[tokio::test]
    async fn a_second_writer_is_refused_and_stays_so() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = bucket(folder.path());
        let (one, two) = (StateStore::new(bucket.clone()), StateStore::new(bucket));
        let (one, two) = (
            one.source("a").await.unwrap(),
            two.source("a").await.unwrap(),
        );
        one.commit(|state| _ = state.partition_mut(Partition::Snapshot))
            .await
            .unwrap();
        let error = two.commit(|_| ()).await.unwrap_err().to_string();
        assert!(error.contains("changed concurrently"), "{error}");
        assert!(two.commit(|_| ()).await.is_err());
    }
}
