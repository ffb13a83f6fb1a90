//! What is complete: one document per source in the raw bucket, changed by compare-and-swap only.
//!
//! Objects are written first; then the state lists them. An object that no state lists does not count. Days that have
//! not changed for a long time are in archives, which the document lists, see `archive.rs`.
//!
//! Each document is written by its own task, which receives changes over a channel. Changes that arrive during a write
//! are written together in the next one.

mod archive;
mod check;
mod digest;
mod document;
mod interned;
pub mod lock;
mod models;
mod position;
mod strict;

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use futures::future::join_all;
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::{OnceCell, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::store::layout::state_object;
use crate::store::{Bucket, StoreError, Version};

pub use digest::Sha256Digest;
pub use document::{
    Checkpoint, CheckpointCursor, CheckpointPartition, CheckpointResult, CheckpointWindow,
    EndedRow, Failure, Feed, Gap, Load, ModelState, NotAvailable, Overlap, PartitionState,
    Partitions, RawState, SourceState, Started, UnfinishedWindow, Updates, VERSION,
};
pub use lock::{Fence, Holder, LockError, LockLoss, RunLock};
pub use models::ModelStates;
pub use position::Position;
pub use strict::{DocumentError, read_document, read_unique, unique_names, unique_names_with};

/// Documents that are read at a time.
const READS_AT_A_TIME: usize = 16;
/// How often a document is read again because an archive was replaced meanwhile.
const READ_TRIES: usize = 8;
/// Messages that are received at a time; one write may contain any number of them.
const MESSAGES: usize = 1024;

/// A state document that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The bucket failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The document was not written by this program.
    #[error("{uri} is not a state document of this program: {error}")]
    Malformed {
        /// The document.
        uri: String,
        /// What is wrong with it.
        #[source]
        error: DocumentError,
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
    /// An archive that a document lists is missing.
    #[error(
        "{uri} is gone, though the document of its source names it: put it back, or remove the document and read the \
         source again"
    )]
    Gone {
        /// The archive.
        uri: String,
    },
    /// The run lost its lock, so nothing may be written.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A write that carried the changes of several callers failed; each of them gets this error.
    #[error(transparent)]
    Write(Arc<StateError>),
    /// An earlier write of the same document failed, so nothing further may be written.
    #[error("{uri} could not be written: {error}")]
    Failed {
        /// The document.
        uri: String,
        /// The error of the earlier write.
        #[source]
        error: Arc<StateError>,
    },
    /// The task that writes the document ended before the write did.
    #[error("{uri} could not be written: the write was interrupted")]
    Interrupted {
        /// The document.
        uri: String,
    },
}

/// The state documents of one raw bucket.
#[derive(Debug, Clone)]
pub struct StateStore {
    bucket: Bucket,
    fence: Fence,
    open: Arc<Mutex<HashMap<String, Arc<OnceCell<SourceHandle>>>>>,
}

impl StateStore {
    /// The documents in `bucket`.
    pub fn new(bucket: Bucket) -> Self {
        Self {
            bucket,
            fence: Fence::default(),
            open: Arc::default(),
        }
    }

    /// The document of a source; an empty one if there is none yet. Must be called on a tokio runtime.
    pub async fn source(&self, name: &str) -> Result<SourceHandle, StateError> {
        let known = self.open.lock().get(name).cloned();
        let cell = known.unwrap_or_else(|| {
            let mut open = self.open.lock();
            open.entry(name.to_string()).or_default().clone()
        });
        cell.get_or_try_init(|| self.open(name)).await.cloned()
    }

    /// Reads the documents of these sources concurrently, unless they are open already.
    pub async fn read_ahead<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), StateError> {
        let reads = names.into_iter().map(|name| {
            let (states, name) = (self.clone(), name.to_string());
            async move { on_any_core(async move { states.source(&name).await.map(|_| ()) }).await }
        });
        let reads: Vec<_> = reads.collect();
        stream::iter(reads)
            .buffer_unordered(READS_AT_A_TIME)
            .try_collect()
            .await
    }

    async fn open(&self, name: &str) -> Result<SourceHandle, StateError> {
        let committed = read(&self.bucket, name).await?;
        Ok(Document::open(
            self.bucket.clone(),
            self.fence.clone(),
            name,
            committed,
        ))
    }

    /// Waits for pending writes, including those whose callers were stopped: none may be sent after the run lock is
    /// released.
    pub async fn flush(&self) {
        let handles = self.handles();
        join_all(handles.iter().map(|(_, handle)| handle.flush())).await;
    }

    /// The check that every commit has to pass.
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Reads every open document again, and returns whether any has changed: documents that were read without the run
    /// lock may be out of date once the lock is held.
    pub async fn refresh(&self) -> Result<bool, StateError> {
        let looks = self.handles().into_iter().map(|(name, handle)| {
            let states = self.clone();
            on_any_core(async move { states.refresh_source(&name, &handle).await })
        });
        let changed: Vec<bool> = stream::iter(looks)
            .buffer_unordered(READS_AT_A_TIME)
            .try_collect()
            .await?;
        Ok(changed.contains(&true))
    }

    /// Opens a document again if the bucket has another version of it.
    async fn refresh_source(&self, name: &str, handle: &SourceHandle) -> Result<bool, StateError> {
        let found = self.bucket.read(&state_object(name)).await?;
        let version = found.map(|(_, version)| version);
        if version == handle.current.borrow().version {
            return Ok(false);
        }
        let fresh = self.open(name).await?;
        let cell = Arc::new(OnceCell::new_with(Some(fresh)));
        self.open.lock().insert(name.to_string(), cell);
        Ok(true)
    }

    /// The documents that are open.
    fn handles(&self) -> Vec<(String, SourceHandle)> {
        let open = self.open.lock();
        open.iter()
            .filter_map(|(name, cell)| Some((name.clone(), cell.get()?.clone())))
            .collect()
    }
}

/// Parsing needs CPU, and the futures of a `buffer_unordered` share one thread.
async fn on_any_core<T: Send + 'static>(
    work: impl Future<Output = Result<T, StateError>> + Send + 'static,
) -> Result<T, StateError> {
    #[expect(
        clippy::disallowed_methods,
        reason = "it is waited for here, and only reads"
    )]
    let task = tokio::spawn(work);
    match task.await {
        Ok(result) => result,
        Err(stopped) => match stopped.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is being shut down, so nothing waits for this any more.
            Err(_) => std::future::pending().await,
        },
    }
}

/// A state, and the version of its document; none if there is no document yet.
#[derive(Debug)]
struct Committed {
    state: SourceState,
    version: Option<Version>,
}

/// A state as it was committed. It stays the same while later changes are committed.
#[derive(Debug, Clone)]
pub struct CommittedState(Arc<Committed>);

impl Deref for CommittedState {
    type Target = SourceState;

    fn deref(&self) -> &SourceState {
        &self.0.state
    }
}

/// Reads a document with its archives. A concurrent run may replace an archive in between; then the document has
/// changed, too.
async fn read(bucket: &Bucket, name: &str) -> Result<Committed, StateError> {
    let key = state_object(name);
    let uri = bucket.uri(&key);
    let mut tries = 0;
    let mut before = None;
    loop {
        let Some((bytes, version)) = bucket.read(&key).await? else {
            return Ok(Committed {
                state: SourceState::new(name),
                version: None,
            });
        };
        let mut state = SourceState::of(name, &bytes, &uri)?;
        match state.read_archives(bucket).await {
            Ok(()) => {
                let version = Some(version);
                return Ok(Committed { state, version });
            }
            Err(StateError::Gone { .. })
                if before.as_ref() != Some(&version) && tries < READ_TRIES =>
            {
                (before, tries) = (Some(version), tries + 1);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Reads the state of a source, archives included; none if there is no document.
///
/// # Errors
/// [`StateError`] if the document or one of its archives cannot be read, or is not one of this program's.
pub async fn read_state(bucket: &Bucket, source: &str) -> Result<Option<SourceState>, StateError> {
    let Committed { state, version } = read(bucket, source).await?;
    Ok(version.map(|_| state))
}

type Change = Box<dyn FnOnce(&mut SourceState) + Send>;

/// A message to the task of a document.
enum Message {
    /// A change to commit, and the sender for its result.
    Commit(Change, oneshot::Sender<Result<(), StateError>>),
    /// A request to be told when all earlier messages are written.
    Flush(oneshot::Sender<()>),
}

/// The state document of one source.
#[derive(Clone)]
pub struct SourceHandle {
    uri: Arc<str>,
    current: watch::Receiver<Arc<Committed>>,
    messages: mpsc::UnboundedSender<Message>,
}

impl std::fmt::Debug for SourceHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceHandle")
            .field("uri", &self.uri)
            .finish_non_exhaustive()
    }
}

impl SourceHandle {
    /// The state as it is committed now, without a copy of it.
    pub fn state(&self) -> CommittedState {
        CommittedState(self.current.borrow().clone())
    }

    /// Looks at the committed state.
    pub fn look<T>(&self, look: impl FnOnce(&SourceState) -> T) -> T {
        look(&self.state())
    }

    /// Commits a change. When this returns `Ok`, the change is durable.
    ///
    /// Changes that arrive while a write is under way, or while the bucket wants a pause, go out together in the next
    /// one, so commits never queue up behind the limit of one write a second. Changes are applied in the order in which
    /// they were sent. A change that was sent is written even if the caller is cancelled.
    pub async fn commit(
        &self,
        change: impl FnOnce(&mut SourceState) + Send + 'static,
    ) -> Result<(), StateError> {
        let (done, committed) = oneshot::channel();
        // If the task has ended, the message is dropped, and with it the sender, so the wait below ends.
        let _ = self.messages.send(Message::Commit(Box::new(change), done));
        let interrupted = |_| StateError::Interrupted {
            uri: self.uri.to_string(),
        };
        committed.await.map_err(interrupted)?
    }

    /// Waits until all that was sent so far has been written, or has failed.
    async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        let _ = self.messages.send(Message::Flush(done));
        // A task that has ended writes nothing more.
        let _ = flushed.await;
    }
}

/// The writer of a document.
struct Document {
    bucket: Bucket,
    fence: Fence,
    key: String,
    current: watch::Sender<Arc<Committed>>,
    /// When it was written last.
    written: Option<Instant>,
    /// The error of a failed write: nothing more is written, since the document's version is not known.
    failed: Option<Arc<StateError>>,
}

impl Document {
    /// Starts the task of a document. It ends when the last handle is dropped.
    fn open(bucket: Bucket, fence: Fence, name: &str, committed: Committed) -> SourceHandle {
        let key = state_object(name);
        let uri = bucket.uri(&key).into();
        let (sender, current) = watch::channel(Arc::new(committed));
        let (messages, received) = mpsc::unbounded_channel();
        let document = Self {
            bucket,
            fence,
            key,
            current: sender,
            written: None,
            failed: None,
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "it ends with the last handle, and `StateStore::flush` waits for its writes"
        )]
        tokio::spawn(document.serve(received));
        SourceHandle {
            uri,
            current,
            messages,
        }
    }

    async fn serve(mut self, mut messages: mpsc::UnboundedReceiver<Message>) {
        let mut batch = Vec::new();
        while messages.recv_many(&mut batch, MESSAGES).await > 0 {
            let is_commit = |message: &Message| matches!(message, Message::Commit(..));
            if let Some(written) = self.written.filter(|_| batch.iter().any(is_commit)) {
                tokio::time::sleep_until(written + self.bucket.write_interval()).await;
                // Also take the messages that arrived during the pause.
                batch.extend(std::iter::from_fn(|| messages.try_recv().ok()));
            }
            let (mut changes, mut waiting, mut flushing) = (vec![], vec![], vec![]);
            for message in batch.drain(..) {
                match message {
                    Message::Commit(change, done) => {
                        changes.push(change);
                        waiting.push(done);
                    }
                    Message::Flush(done) => flushing.push(done),
                }
            }
            if !changes.is_empty() {
                let result = self.write_unless_failed(changes).await;
                self.answer(waiting, &result);
            }
            // A caller that was dropped needs no answer.
            flushing.into_iter().for_each(|done| _ = done.send(()));
        }
    }

    /// Sends the result of a write to each caller that waits for it.
    fn answer(
        &self,
        waiting: Vec<oneshot::Sender<Result<(), StateError>>>,
        result: &Result<(), Arc<StateError>>,
    ) {
        for done in waiting {
            // A caller that was dropped needs no answer.
            let _ = done.send(result.clone().map_err(StateError::Write));
        }
    }

    async fn write_unless_failed(&mut self, changes: Vec<Change>) -> Result<(), Arc<StateError>> {
        if let Some(error) = &self.failed {
            return Err(Arc::new(StateError::Failed {
                uri: self.bucket.uri(&self.key),
                error: error.clone(),
            }));
        }
        let result = self.write(changes).await.map_err(Arc::new);
        self.failed = result.as_ref().err().cloned();
        result
    }

    async fn write(&mut self, changes: Vec<Change>) -> Result<(), StateError> {
        let before = self.current.borrow().clone();
        let mut state = before.state.clone();
        for change in changes {
            change(&mut state);
        }
        self.fence.check()?;
        let superseded = state.archive(&self.bucket).await?;
        let bytes = self.bucket.document(&self.key, state.to_json())?;
        self.fence.check()?;
        let version = self
            .bucket
            .swap(&self.key, before.version.as_ref(), bytes)
            .await?;
        self.written = Some(Instant::now());
        let version = Some(version);
        self.current
            .send_replace(Arc::new(Committed { state, version }));
        for key in superseded {
            // Archives that cannot be removed are harmless; `clean` removes them.
            if let Err(error) = self.bucket.delete(&key).await {
                tracing::debug!(object = key, %error, "superseded archive left behind");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::layout::Partition;

    #[tokio::test]
    async fn concurrent_commits_are_all_kept() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = Bucket::of_folder(folder.path());
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
        let bucket = Bucket::of_folder(folder.path());
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

    fn day(text: &str) -> Partition {
        Partition::parse(text).unwrap()
    }

    /// What stands below `state/`.
    fn files(folder: &std::path::Path) -> std::collections::BTreeMap<String, Vec<u8>> {
        let mut found = std::collections::BTreeMap::new();
        let mut folders = vec![folder.join("state")];
        while let Some(next) = folders.pop() {
            for entry in std::fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let key = path.strip_prefix(folder).unwrap().display().to_string();
                    found.insert(key, std::fs::read(path).unwrap());
                }
            }
        }
        found
    }

    /// The state of `a` in a bucket with these files.
    async fn state_in<'a>(
        files: impl IntoIterator<Item = (&'a String, &'a Vec<u8>)>,
    ) -> Result<SourceState, StateError> {
        let folder = tempfile::tempdir().unwrap();
        for (key, bytes) in files {
            let path = folder.path().join(key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        let state = read_state(&Bucket::of_folder(folder.path()), "a").await?;
        Ok(state.unwrap())
    }

    /// Changes by the time of the last change reach days of any year, and move the position: all of it or nothing.
    #[tokio::test]
    async fn updates_over_years_are_one_step() {
        let folder = tempfile::tempdir().unwrap();
        let handle = StateStore::new(Bucket::of_folder(folder.path()))
            .source("a")
            .await
            .unwrap();
        let key = "state/a.json".to_string();
        let mut before = None;
        for seconds in 1..4 {
            let at = chrono::DateTime::UNIX_EPOCH + chrono::TimeDelta::seconds(seconds);
            let change = move |state: &mut SourceState| {
                for (year, number) in
                    (2021..=2024).flat_map(|year| (1..=20).map(move |n| (year, n)))
                {
                    let day = day(&format!("{year}-01-{number:02}"));
                    state.partition_mut(day).changed = Some(at);
                }
                state.updates = Some(Updates {
                    from: chrono::DateTime::UNIX_EPOCH,
                    until: at,
                    checked: None,
                });
            };
            handle.commit(change).await.unwrap();
            let known = |state: &SourceState| (state.updates.clone(), state.partitions.clone());
            let (found, state) = (files(folder.path()), handle.look(known));
            assert_eq!(found.len(), 5, "the document, and an archive a year");
            assert_eq!(known(&state_in(&found).await.unwrap()), state);
            if let Some((old, known_before)) = before {
                // Killed once all archives were written, but not the document.
                let old: &std::collections::BTreeMap<String, Vec<u8>> = &old;
                let archives = old.iter().chain(&found).filter(|(name, _)| **name != key);
                let killed = state_in(archives.chain([(&key, &old[&key])])).await;
                assert_eq!(known(&killed.unwrap()), known_before);
            }
            before = Some((found, state));
        }
    }

    #[tokio::test]
    async fn many_days_are_in_archives_whenever_it_dies() {
        let folder = tempfile::tempdir().unwrap();
        let handle = StateStore::new(Bucket::of_folder(folder.path()))
            .source("a")
            .await
            .unwrap();
        let at = chrono::DateTime::UNIX_EPOCH;
        let change = async |days: Vec<Partition>, seconds: i64| {
            let at = at + chrono::TimeDelta::seconds(seconds);
            let mark = move |state: &mut SourceState| {
                for day in days {
                    state.partition_mut(day).changed = Some(at);
                }
            };
            handle.commit(mark).await.unwrap();
            (
                files(folder.path()),
                handle.look(|state| state.partitions.clone()),
            )
        };
        let key = "state/a.json".to_string();
        let days_of = |year: i32| {
            let days = (1..=12).flat_map(|month| (1..=28).map(move |day| (month, day)));
            days.map(move |(m, d)| day(&format!("{year}-{m:02}-{d:02}")))
        };
        let mut before = change(vec![Partition::Snapshot, day("2015-01-01")], 0).await;
        assert_eq!(before.0.len(), 1, "few days need no archive");
        for (n, year) in (2015..=2024).enumerate() {
            let after = change(days_of(year).collect(), 1).await;
            assert_eq!(after.0.len(), n + 2, "the document, and an archive a year");
            assert!(after.0[&key].len() < 500 + 150 * (n + 1));
            // Killed before the document was written, and before the archive was removed that it no longer names.
            let (old, new) = (&before.0, &after.0);
            let archives = || old.iter().chain(new).filter(|(name, _)| **name != key);
            let killed_before = archives().chain([(&key, &old[&key])]);
            let killed_after = archives().chain([(&key, &new[&key])]);
            assert_eq!(state_in(killed_before).await.unwrap().partitions, before.1);
            assert_eq!(state_in(killed_after).await.unwrap().partitions, after.1);
            before = after;
        }
        // A commit of some days costs the same, however many years there are, and touches no archive.
        let few: Vec<Partition> = days_of(2024).take(32).collect();
        let (found, partitions) = change(few, 2).await;
        assert!(found[&key].len() < 4000, "{}", found[&key].len());
        let others = |files: &std::collections::BTreeMap<String, Vec<u8>>| {
            let mut files = files.clone();
            files.remove(&key);
            files
        };
        assert_eq!(others(&found), others(&before.0));
        assert_eq!(state_in(&found).await.unwrap().partitions, partitions);
        // One more, and it is another archive of that year alone.
        let (found, partitions) = change(vec![day("2024-12-28")], 3).await;
        assert_eq!((found.len(), partitions.len()), (11, 10 * 12 * 28 + 1));
        let (archive, _) = found
            .iter()
            .find(|(name, _)| name.starts_with("state/a/2024-"))
            .unwrap();
        assert!(!before.0.contains_key(archive));

        let missing = found.iter().filter(|(name, _)| *name != archive);
        let error = state_in(missing).await.unwrap_err();
        assert!(matches!(&error, StateError::Gone { uri } if uri.ends_with(archive)));
        for (old, new) in [("2024-12-28", "2024-12-29"), ("2024", "2023")] {
            let mut changed = found.clone();
            let text = String::from_utf8(changed[archive].clone()).unwrap();
            changed.insert(archive.clone(), text.replace(old, new).into());
            let error = state_in(&changed).await.unwrap_err().to_string();
            assert!(
                error.contains(archive) && error.contains("it has been changed"),
                "{error}"
            );
        }
    }
}
