//! Tasks that go on where an earlier run has left them, and leave checkpoints themselves.

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

/// Where the checkpoint of a task stands in the state.
#[derive(Clone)]
enum Place {
    /// With the first partition of its first source.
    Partition(Partition),
    /// With the source: the days that a window of updates brings are not known before.
    Window(UpdatesWindow),
}

impl Place {
    fn stored(&self, state: &SourceState) -> Option<Checkpoint> {
        match self {
            Self::Partition(partition) => state.partition(*partition)?.checkpoint.clone(),
            Self::Window(window) => {
                let unfinished = state.unfinished.as_deref();
                let unfinished = unfinished.filter(|it| window.is_left_of(it))?;
                Some(unfinished.checkpoint.clone())
            }
        }
    }

    fn store(&self, state: &mut SourceState, checkpoint: Option<Checkpoint>) {
        match self {
            Self::Partition(partition) => state.partition_mut(*partition).checkpoint = checkpoint,
            Self::Window(window) => {
                state.unfinished = checkpoint.map(|it| Box::new(window.unfinished(it)));
            }
        }
    }
}

/// A window of updates that goes on where an earlier run left it.
pub(super) async fn read_window(
    run: &Run,
    extractor: &Extractor,
    task: &Arc<ExtractTask>,
    window: &UpdatesWindow,
) -> Result<TaskOutcome, Error> {
    read_at(run, extractor, task, Place::Window(window.clone())).await
}

/// A task that goes on where an earlier run left it, and leaves checkpoints itself.
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
        // The cursor goes, and the pages before it with it: the task begins again, once.
        Err(Error::Extract(error)) if error.is_dead_cursor() => {
            tracing::warn!(source = task.tables(), %error, "cursor dropped, partition begins again");
            let dropped = at.clone();
            handle
                .commit(move |state| dropped.store(state, None))
                .await?;
            read_with_checkpoints(extractor, task, None, place, true).await
        }
        // Not one of the answers that mean a dead cursor, so its checkpoint stays. Should it be one all the same, the
        // task can do without; if not, that costs a request or two.
        Err(Error::Extract(error)) if is_resumed && error.is_refused() => {
            tracing::warn!(source = task.tables(), %error, "read from the beginning, the cursor is kept until that is done");
            read_with_checkpoints(extractor, task, None, place, false).await
        }
        other => other,
    }
}

/// The checkpoint of a task, if it may go on from there and its objects are still there.
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

/// The last time that the task's days may have changed: they were found to, were read whole, or the change feed was not
/// followed before.
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
/// to be stored.
async fn read_with_checkpoints(
    extractor: &Extractor,
    task: &Arc<ExtractTask>,
    resume: Option<Checkpoint>,
    (handle, at): (&SourceHandle, &Place),
    stores: bool,
) -> Result<TaskOutcome, Error> {
    let (checkpoints, mut left) = mpsc::channel::<Checkpoint>(1);
    // The receiver is this future's own: once it is over, the task must not wait for anyone to receive.
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
            // A state that cannot be written ends the task: nothing of what it reads could be committed.
            stored?;
            read.await?
        }
        outcome = &mut read => match outcome {
            // What is going to be committed says more than a checkpoint. One that was sent already is written before it.
            Ok(outcome) => outcome,
            Err(error) => {
                // The checkpoint of what is safe so far is stored.
                store.await?;
                return Err(error.into());
            }
        },
    })
}
