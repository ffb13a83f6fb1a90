//! Tasks that resume where an earlier run has left them, and store checkpoints themselves.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::mpsc;

use super::run::{Run, are_there};
use crate::clock;
use crate::error::Error;
use crate::extract::{ExtractTask, Extractor, Scope, TaskOutcome, checkpoint_is_current};
use crate::plan::UpdatesWindow;
use crate::state::{Checkpoint, PartitionState, SourceHandle, SourceState};
use crate::store::ObjectRef;
use crate::store::layout::Partition;

/// Where the state holds the checkpoint of a task.
#[derive(Clone)]
enum Place {
    /// With the first partition of its first source.
    Partition(Partition),
    /// With the source: the days of a window of updates are not known in advance.
    Window(UpdatesWindow),
}

impl Place {
    fn stored(&self, state: &SourceState) -> Option<Checkpoint> {
        match self {
            Self::Partition(partition) => {
                state.partition(*partition)?.checkpoint.as_deref().cloned()
            }
            Self::Window(window) => {
                let unfinished = state.unfinished.as_deref();
                let unfinished = unfinished.filter(|it| window.is_left_of(it))?;
                Some(unfinished.checkpoint.clone())
            }
        }
    }

    fn store(&self, state: &mut SourceState, checkpoint: Option<Checkpoint>) {
        match self {
            Self::Partition(partition) => {
                state.partition_mut(*partition).checkpoint = checkpoint.map(Box::new)
            }
            Self::Window(window) => {
                state.unfinished = checkpoint.map(|it| Box::new(window.unfinished(it)));
            }
        }
    }
}

/// Resumes a window of updates where an earlier run left it.
pub(super) async fn read_window(
    run: &Run,
    extractor: &Extractor,
    task: &Arc<ExtractTask>,
    window: &UpdatesWindow,
) -> Result<TaskOutcome, Error> {
    read_at(run, extractor, task, Place::Window(window.clone())).await
}

/// Resumes a task where an earlier run left it, and stores its checkpoints.
pub(super) async fn read_resumable(
    run: &Run,
    extractor: &Extractor,
    task: &Arc<ExtractTask>,
) -> Result<TaskOutcome, Error> {
    match task.scope.partitions().first() {
        Some(partition) => read_at(run, extractor, task, Place::Partition(*partition)).await,
        None => Ok(extractor.read(task.clone(), None, None).await?),
    }
}

async fn read_at(
    run: &Run,
    extractor: &Extractor,
    task: &Arc<ExtractTask>,
    at: Place,
) -> Result<TaskOutcome, Error> {
    let Some(first) = task.sources.first() else {
        return Ok(extractor.read(task.clone(), None, None).await?);
    };
    let handle = run.states.source(&first.name).await?;
    let stored = usable_checkpoint(run, task, &handle, &at).await?;
    let is_resumed = stored.is_some();
    let place = (&handle, &at);
    match read_with_checkpoints(extractor, task, stored, place, true).await {
        // The cursor and the pages before it are dropped: the task starts over, once.
        Err(Error::Extract(error)) if error.is_dead_cursor() => {
            tracing::warn!(source = task.tables(), %error, "cursor dropped, the partition starts over");
            let dropped = at.clone();
            handle
                .commit(move |state| dropped.store(state, None))
                .await?;
            read_with_checkpoints(extractor, task, None, place, true).await
        }
        // Not one of the responses that mean a dead cursor, so the checkpoint stays. If the cursor is dead all the
        // same, the task starts over without it; if not, that costs a request or two.
        Err(Error::Extract(error)) if is_resumed && error.is_refused() => {
            tracing::warn!(source = task.tables(), %error, "read from the beginning, the cursor is kept until that is done");
            read_with_checkpoints(extractor, task, None, place, false).await
        }
        other => other,
    }
}

/// The checkpoint of a task, if it may resume from there and its objects still exist.
async fn usable_checkpoint(
    run: &Run,
    task: &ExtractTask,
    handle: &SourceHandle,
    at: &Place,
) -> Result<Option<Checkpoint>, Error> {
    let changed = last_change(run, task).await?;
    let now = clock::now();
    let stored = handle.look(|state| at.stored(state));
    let Some(checkpoint) = stored.filter(|it| checkpoint_is_current(it, &task.scope, changed, now))
    else {
        return Ok(None);
    };
    let objects: Vec<ObjectRef> = checkpoint.objects().cloned().collect();
    Ok(are_there(&run.raw, &objects).await?.then_some(checkpoint))
}

/// The last time at which the task's days may have changed: when they were reported as changed, were read completely,
/// or the change feed was not followed.
async fn last_change(run: &Run, task: &ExtractTask) -> Result<Option<DateTime<Utc>>, Error> {
    let Scope::Days(days) = &task.scope else {
        return Ok(None);
    };
    let mut last = None;
    for source in &task.sources {
        let of_day = |found: &PartitionState| {
            let read = found.raw.as_ref().map(|raw| raw.extracted_at);
            found.changed.max(read)
        };
        let of = |state: &SourceState| {
            let found = days
                .iter()
                .filter_map(|day| state.partition(Partition::Day(*day)));
            let followed_since = state.feed.as_ref().and_then(|feed| feed.contiguous_since);
            found.map(of_day).max().flatten().max(followed_since)
        };
        last = last.max(run.states.source(&source.name).await?.look(of));
    }
    Ok(last)
}

/// Reads a task from its beginning or from a checkpoint. Its own checkpoints go into the state at `place`, if they are
/// stored.
async fn read_with_checkpoints(
    extractor: &Extractor,
    task: &Arc<ExtractTask>,
    resume: Option<Checkpoint>,
    (handle, at): (&SourceHandle, &Place),
    stores: bool,
) -> Result<TaskOutcome, Error> {
    let (checkpoints, mut left) = mpsc::channel::<Checkpoint>(1);
    // This future owns the receiver: after its end, the task must not wait for it.
    let store = async move {
        while let Some(checkpoint) = left.recv().await {
            if !stores {
                continue;
            }
            let at = at.clone();
            handle
                .commit(move |state| at.store(state, Some(checkpoint)))
                .await?;
        }
        Ok::<_, Error>(())
    };
    let read = extractor.read(task.clone(), resume, Some(checkpoints));
    tokio::pin!(read, store);
    Ok(tokio::select! {
        stored = &mut store => {
            // If the state cannot be written, the task ends: none of its rows could be committed.
            stored?;
            read.await?
        }
        outcome = &mut read => match outcome {
            // The final commit makes checkpoints superfluous. One that was sent already is written before it.
            Ok(outcome) => outcome,
            Err(error) => {
                // Stores the checkpoint of what is complete so far.
                store.await?;
                return Err(error.into());
            }
        },
    })
}
