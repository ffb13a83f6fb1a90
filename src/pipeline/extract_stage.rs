//! Walks of the plan, some at a time, each committed when it is whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use arrow::array::AsArray;
use chrono::NaiveDate;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStoreExt;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, mpsc};

use super::{Ready, Run, ends_run};
use crate::catalog::{Source, SourceKind};
use crate::config::SamsaraConfig;
use crate::error::Error;
use crate::events::Event;
use crate::extract::{
    Changes, EndedRows, ExtractError, ExtractTask, Extracted, Extractor, Scope, TaskOutcome,
    day_window, raw_schema,
};
use crate::plan::{CURSOR_DAYS, PlannedScope, PlannedTask, Stage};
use crate::redact;
use crate::samsara::{Client, SamsaraError, Watch};
use crate::state::{
    Checkpoint, CheckpointResult, EndedRow, Failure, Feed, Overlap, PartitionState, RawState,
    SourceHandle, SourceState,
};
use crate::store::layout::Partition;
use crate::store::{ObjectRef, StoreError};
use crate::transform::{QueryTable, query};

/// A list that was half read is gone on with for this long.
const SNAPSHOT_CHECKPOINT_MAX_AGE: chrono::TimeDelta = chrono::TimeDelta::hours(1);
/// Tasks whose rows are committed while others read: the state of a source takes one write a second in Cloud Storage.
const COMMITTING: usize = 64;
/// Memory for reading a list of ids.
const PARENT_IDS_MEMORY: usize = 256 << 20;

/// How the API is reached.
pub(super) struct Api {
    pub(super) config: SamsaraConfig,
    /// Hosts among which the token's region is found, where none is configured.
    pub(super) regions: Vec<String>,
}

/// Runs the extract stage, if it is asked for, and hands on what was complete before.
///
/// An API that cannot be reached costs what was to be read, and nothing that is there already.
pub(super) async fn extract_stage(
    run: Arc<Run>,
    api: Option<Api>,
    workers: usize,
    ready: mpsc::Sender<Ready>,
) -> Result<(), Error> {
    // What was complete before is looked at meanwhile: the models may have changed. What a feed may add to, or a feed or
    // another day have read again, waits: of two loads of one day at a time, the older one could be the last.
    let may_change = |(source, _): &&Ready| {
        let is_feed = |source: &Source| source.kind == SourceKind::Feed;
        let is_named = run.plan.feeds.contains(source) || run.plan.lasting.contains(source);
        is_named || run.catalog.source(source).is_some_and(is_feed)
    };
    let (later, now): (Vec<&Ready>, Vec<&Ready>) = run.plan.committed.iter().partition(may_change);
    let earlier = hand_on(&run, &ready, now.into_iter().cloned());
    let read = async {
        let result = match &api {
            Some(api) => extract(&run, api, workers, &ready).await,
            None => Ok(()),
        };
        // At once, not after the backlog: nothing else can work either.
        if result.is_err() {
            run.shutdown.cancel();
        }
        result
    };
    let ((), result) = tokio::join!(earlier, read);
    let extracted =
        std::mem::take(&mut *run.extracted.lock().unwrap_or_else(PoisonError::into_inner));
    hand_on(
        &run,
        &ready,
        later
            .into_iter()
            .filter(|partition| !extracted.contains(partition))
            .cloned(),
    )
    .await;
    result
}

/// Gives partitions to the transform stage, as long as the run goes on.
async fn hand_on(
    run: &Run,
    ready: &mpsc::Sender<Ready>,
    partitions: impl IntoIterator<Item = Ready>,
) {
    for partition in partitions {
        let sent = tokio::select! {
            biased;
            () = run.shutdown.cancelled() => return,
            sent = ready.send(partition) => sent,
        };
        // The stage behind is gone only when the run is being stopped.
        if sent.is_err() {
            return;
        }
    }
}

/// Reads all that the plan says, and the days that feeds name.
async fn extract(
    run: &Run,
    api: &Api,
    workers: usize,
    ready: &mpsc::Sender<Ready>,
) -> Result<(), Error> {
    let hosts: Vec<&str> = api.regions.iter().map(String::as_str).collect();
    let connected = tokio::select! {
        () = run.shutdown.cancelled() => return Ok(()),
        connected = Client::connect_among(&api.config, run.observer.clone(), &hosts) => connected,
    };
    let client = match connected {
        Ok(client) => client,
        Err(error) if error.ends_run() => return Err(error.into()),
        Err(error) => {
            let hint = error
                .hint()
                .map(|hint| format!("; {hint}"))
                .unwrap_or_default();
            run.observer.observe(&Event::Failed {
                name: Stage::Extract.to_string(),
                partition: None,
                error: format!("{error}{hint}"),
            });
            for planned in run.plan.snapshots.iter().chain(&run.plan.windows) {
                hand_on(run, ready, kept(run, planned).await?).await;
            }
            return Ok(());
        }
    };
    let extractor = Extractor {
        client,
        bucket: run.raw.clone(),
        run: run.id.clone(),
        objects: Arc::default(),
        cpu: run.cpu.clone(),
        observer: run.observer.clone(),
        checkpoint_every: run.checkpoint_every,
    };
    let slots = Semaphore::new(workers);
    let each = async |tasks: &[PlannedTask]| {
        let tasks = stream::iter(tasks).map(Ok);
        tasks
            .try_for_each_concurrent(workers + COMMITTING, |task| {
                extract_task(run, &extractor, &slots, task, ready)
            })
            .await
    };
    // Lists first: fan-outs ask for their rows. Then the feeds, which tell what else is to be read.
    each(&run.plan.snapshots).await?;
    stream::iter(&run.plan.feeds)
        .map(Ok)
        .try_for_each_concurrent(workers + COMMITTING, |name| {
            changed_days(run, &extractor, &slots, name)
        })
        .await?;
    let changed = async |sources: &[String]| {
        crate::plan::changed(&run.catalog, &run.states, &run.plan, sources).await
    };
    let named = changed(&run.plan.feeds).await?;
    note_asked(run).await?;
    each(&run.plan.windows).await?;
    each(&named).await?;
    // Last, the days of which others have told meanwhile.
    each(&changed(&run.plan.lasting).await?).await
}

/// The partitions of a task that came to nothing, as far as an earlier run has read them whole: that they could not be
/// read again is no reason to leave out what is there.
async fn kept(run: &Run, planned: &PlannedTask) -> Result<Vec<Ready>, Error> {
    let mut kept = Vec::new();
    for source in &planned.sources {
        let handle = run.states.source(source).await?;
        let is_complete = |partition: &Partition| {
            handle.look(|state| {
                state
                    .partition(*partition)
                    .is_some_and(|found| found.raw.is_some())
            })
        };
        let partitions = planned.scope.partitions().into_iter().filter(is_complete);
        kept.extend(partitions.map(|partition| (source.clone(), partition)));
    }
    Ok(kept)
}

/// Keeps in the state from which day on each source is asked for, before the first of its days is read: should the run
/// not come to all of them, the next one knows.
async fn note_asked(run: &Run) -> Result<(), Error> {
    let mut asked: BTreeMap<&str, NaiveDate> = BTreeMap::new();
    for task in &run.plan.windows {
        let PlannedScope::Days(days) = &task.scope else {
            continue;
        };
        for (source, day) in task
            .sources
            .iter()
            .flat_map(|source| days.iter().map(move |day| (source, *day)))
        {
            asked
                .entry(source)
                .and_modify(|first| *first = day.min(*first))
                .or_insert(day);
        }
    }
    let notes = asked.into_iter().map(|(source, day)| async move {
        let handle = run.states.source(source).await?;
        if handle.look(|state| state.asked_from.is_none_or(|from| day < from)) {
            handle
                .commit(move |state| state.asked_from = Some(day))
                .await?;
        }
        Ok(())
    });
    futures::future::try_join_all(notes).await.map(|_| ())
}

/// One task. Its failure is reported, and an error only if nothing else can work either.
async fn extract_task(
    run: &Run,
    extractor: &Extractor,
    slots: &Semaphore,
    planned: &PlannedTask,
    ready: &mpsc::Sender<Ready>,
) -> Result<(), Error> {
    let slot = slots.acquire().await;
    let has_ended = || {
        let ended = run.ended.lock().unwrap_or_else(PoisonError::into_inner);
        planned.sources.iter().all(|source| ended.contains(source))
    };
    if run.shutdown.is_cancelled() {
        return Ok(());
    }
    if has_ended() {
        hand_on(run, ready, kept(run, planned).await?).await;
        return Ok(());
    }
    let result = tokio::select! {
        () = run.shutdown.cancelled() => return Ok(()),
        result = read_task(run, extractor, planned, slot) => result,
    };
    let partitions = match result {
        Ok(partitions) => partitions,
        Err(error) if ends_run(&error) => return Err(error),
        Err(error) => {
            give_up(run, planned, &error).await?;
            kept(run, planned).await?
        }
    };
    run.extracted
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .extend(partitions.iter().cloned());
    hand_on(run, ready, partitions).await;
    Ok(())
}

/// Tells of a task that failed, and keeps that in the state.
async fn give_up(run: &Run, planned: &PlannedTask, error: &Error) -> Result<(), Error> {
    let ended = || run.ended.lock().unwrap_or_else(PoisonError::into_inner);
    let refused = match error {
        Error::Extract(error) => error.api(),
        _ => None,
    };
    let is_absent = matches!(refused, Some(SamsaraError::NotFound { .. }));
    let mut failed = Vec::new();
    for source in &planned.sources {
        // An endpoint that had data and is not found any more is no endpoint that the organisation does not have.
        let had_data = run
            .states
            .source(source)
            .await?
            .look(|state| state.complete().next().is_some());
        if is_absent && !had_data {
            ended().insert(source.clone());
            run.observer.observe(&Event::Skipped {
                name: source.clone(),
                reason: error.to_string(),
            });
            continue;
        }
        // One line for a source that cannot be had at all, however many days were asked for.
        let is_final = is_absent || matches!(refused, Some(SamsaraError::NotPermitted { .. }));
        if !is_final || ended().insert(source.clone()) {
            run.failed(source, None, error);
        }
        failed.push(source);
    }
    note_failure(run, planned, &failed, error).await
}

/// Asks a source's feed which of its days have changed, and keeps that in the state together with the position.
async fn changed_days(
    run: &Run,
    extractor: &Extractor,
    slots: &Semaphore,
    name: &str,
) -> Result<(), Error> {
    let Some(feed) = run
        .catalog
        .source(name)
        .and_then(|source| run.catalog.change_feed(source))
    else {
        return Ok(());
    };
    let handle = run.states.source(name).await?;
    let mut watch = Watch::default();
    let mut is_dead = false;
    loop {
        if run.shutdown.is_cancelled() {
            return Ok(());
        }
        let began = chrono::Utc::now();
        let resume = handle
            .look(|state| state.feed.clone())
            .filter(|before| crate::plan::is_alive(before, began));
        let resume = resume
            .filter(|_| !is_dead)
            .map(|before| (before.query, before.cursor));
        let is_cold = resume.is_none();
        let slot = slots.acquire().await;
        let result = tokio::select! {
            () = run.shutdown.cancelled() => return Ok(()),
            result = extractor.changes(&feed, resume, &watch) => result,
        };
        drop(slot);
        let changes = match result {
            Ok(changes) => changes,
            Err(error) if is_dead_cursor(&error) && !is_cold => {
                tracing::warn!(source = name, %error, "cursor dropped, the feed of changed days begins anew");
                // The position stays until there is another: it tells since when nothing is known.
                (is_dead, watch) = (true, Watch::default());
                continue;
            }
            Err(error) => {
                let error = Error::Extract(error);
                if ends_run(&error) {
                    return Err(error);
                }
                match &error {
                    // An organisation without the feed has its days read `lookback_days` long, as without `changes`.
                    Error::Extract(error)
                        if matches!(error.api(), Some(SamsaraError::NotFound { .. }))
                            && handle.look(|state| state.feed.is_none()) =>
                    {
                        tracing::info!(source = name, %error, "no feed tells of late data");
                    }
                    _ => run.failed(name, None, &error),
                }
                return Ok(());
            }
        };
        commit_changes(&handle, &changes, began, is_cold).await?;
        if !changes.more {
            return Ok(());
        }
    }
}

/// Marks the days that have changed, and moves the feed's position, in one commit.
///
/// Where the feed began without a position, the days are marked that late data may have reached since the one before.
async fn commit_changes(
    handle: &SourceHandle,
    changes: &Changes,
    began: chrono::DateTime<chrono::Utc>,
    is_cold: bool,
) -> Result<(), Error> {
    let (query, cursor) = changes.position.clone();
    let before = handle.look(|state| state.feed.clone()).filter(|_| !is_cold);
    let position = Feed {
        query,
        cursor,
        at: began,
        since: before
            .as_ref()
            .filter(|_| changes.more)
            .map(|before| before.since.unwrap_or(before.at)),
        contiguous_since: before.map_or(Some(began), |before| before.contiguous_since),
    };
    // A day that was never asked for is of no interest; one that was read half must not go on from its note.
    let mut days: Vec<Partition> = changes.days.iter().copied().map(Partition::Day).collect();
    if is_cold {
        days.extend(
            handle
                .look(crate::plan::unverified_days)
                .into_iter()
                .map(Partition::Day),
        );
        if let (Some(first), Some(last)) = (days.iter().min(), days.iter().max()) {
            let (source, days) = (handle.look(|state| state.source.clone()), days.len());
            tracing::warn!(source, days, %first, %last, "no feed has told of late data meanwhile: days are read again");
        }
    }
    let moved = handle.look(|state| is_moved(state.feed.as_ref(), &position));
    if moved || !days.is_empty() {
        let at = chrono::Utc::now();
        handle
            .commit(move |state| {
                for day in days {
                    if day.day().is_some_and(|day| state.is_asked(day)) {
                        state.partition_mut(day).changed = Some(at);
                    }
                }
                state.feed = Some(position);
            })
            .await?;
    }
    Ok(())
}

/// Whether a position has to be written. The same cursor is written again only to keep its age honest.
fn is_moved(before: Option<&Feed>, position: &Feed) -> bool {
    before.is_none_or(|before| {
        before.cursor != position.cursor
            || before.query != position.query
            || before.contiguous_since != position.contiguous_since
            || (before.since.is_some() && position.since.is_none())
            || position.at - before.at > chrono::TimeDelta::days(1)
    })
}

/// Keeps in the state that these partitions were tried in vain, so that `status` can tell them from unasked ones.
async fn note_failure(
    run: &Run,
    planned: &PlannedTask,
    sources: &[&String],
    error: &Error,
) -> Result<(), Error> {
    // A feed's days are known only from what it brings.
    let partitions = planned.scope.partitions();
    if partitions.is_empty() {
        return Ok(());
    }
    for source in sources {
        let failure = Failure {
            at: chrono::Utc::now(),
            error: redact::one_line(error),
        };
        let partitions = partitions.clone();
        let handle = run.states.source(source).await?;
        handle
            .commit(move |state| {
                for partition in partitions {
                    state.partition_mut(partition).failure = Some(failure.clone());
                }
            })
            .await?;
    }
    Ok(())
}

/// Reads a task, and commits what it brought after its slot was given back.
async fn read_task<S>(
    run: &Run,
    extractor: &Extractor,
    planned: &PlannedTask,
    slot: S,
) -> Result<Vec<Ready>, Error> {
    let sources: Vec<Source> = planned
        .sources
        .iter()
        .filter_map(|name| run.catalog.source(name))
        .cloned()
        .collect();
    let parents = match sources.first().and_then(|source| source.parent.as_ref()) {
        Some(parent) => parent_ids(run, &parent.source, &parent.field).await?,
        None => Vec::new(),
    };
    let scope = match &planned.scope {
        PlannedScope::Snapshot => Scope::Snapshot,
        PlannedScope::Days(days) => Scope::Days(days.clone()),
        PlannedScope::Feed {
            resume,
            since,
            until,
        } => Scope::Feed {
            resume: resume.clone(),
            since: *since,
            until: *until,
            watch: Watch::default(),
        },
    };
    let task = Arc::new(ExtractTask {
        sources,
        scope,
        parents,
    });
    if let Scope::Feed { .. } = &task.scope {
        return read_feed(run, extractor, task).await;
    }
    let outcome = resume_task(run, extractor, &task).await?;
    drop(slot);
    // Before the days themselves: if nothing else comes of this run, that much is known.
    mark_ended(run, &outcome).await?;
    // The first last: it holds the note of the unfinished task, which speaks for all. The others go into the state
    // together.
    let mut unreferenced = Vec::new();
    if let Some((first, others)) = outcome.partitions.split_first() {
        let others = others
            .iter()
            .map(|extracted| commit_partition(run, &outcome, extracted, false));
        let others = futures::future::try_join_all(others).await?;
        unreferenced.extend(others.into_iter().flatten());
        unreferenced.extend(commit_partition(run, &outcome, first, true).await?);
    }
    // Only now does no note of an unfinished task name them any more.
    discard(run, &unreferenced).await;
    Ok(ready(outcome))
}

fn ready(outcome: TaskOutcome) -> Vec<Ready> {
    outcome
        .partitions
        .into_iter()
        .map(|extracted| (extracted.source, extracted.partition))
        .collect()
}

/// A task that goes on where an earlier run left it, and notes how far it comes.
async fn resume_task(
    run: &Run,
    extractor: &Extractor,
    task: &Arc<ExtractTask>,
) -> Result<TaskOutcome, Error> {
    let partition = match &task.scope {
        Scope::Days(days) => days.first().map(|day| Partition::Day(*day)),
        _ => Some(Partition::Snapshot),
    };
    let (Some(first), Some(partition)) = (task.sources.first(), partition) else {
        return Ok(extractor.read(task.clone(), None, None).await?);
    };
    let handle = run.states.source(&first.name).await?;
    let now = chrono::Utc::now();
    // Since when a reading of the task's days is up to date: they may have changed, or may have been read whole, or the
    // feed that tells of changes may not have been heard.
    let mut current_since = None;
    if let Scope::Days(days) = &task.scope {
        for source in &task.sources {
            let handle = run.states.source(&source.name).await?;
            let of = |state: &SourceState| {
                let found = days
                    .iter()
                    .filter_map(|day| state.partition(Partition::Day(*day)));
                let of_day = |found: &PartitionState| {
                    found
                        .changed
                        .max(found.raw.as_ref().map(|raw| raw.extracted_at))
                };
                let heard = state.feed.as_ref().and_then(|feed| feed.contiguous_since);
                found.map(of_day).max().flatten().max(heard)
            };
            current_since = current_since.max(handle.look(of));
        }
    }
    let before = handle.look(|state| {
        let found = state.partition(partition)?;
        let is_current = |note: &Checkpoint| match partition {
            // A list of two times is a list of none.
            Partition::Snapshot => now - note.extracted_at < SNAPSHOT_CHECKPOINT_MAX_AGE,
            // A day that has changed since is not half read any more, and cursors live 30 days.
            Partition::Day(_) => {
                current_since.is_none_or(|since| since <= note.extracted_at)
                    && now - note.extracted_at < chrono::TimeDelta::days(CURSOR_DAYS)
            }
        };
        found.checkpoint.clone().filter(is_current)
    });
    let before = match before {
        Some(note) => {
            let objects: Vec<ObjectRef> = note.objects().cloned().collect();
            match run.raw.expect(&objects).await {
                Ok(()) => Some(note),
                Err(StoreError::Lost { .. }) => None,
                Err(error) => return Err(error.into()),
            }
        }
        None => None,
    };
    let goes_on = before.is_some();
    let read = async |resume: Option<Checkpoint>, keeps_notes: bool| {
        let (notes, mut noted) = mpsc::channel::<Checkpoint>(1);
        let handle = &handle;
        // The receiver is this future's own: once nobody listens any more, the task must not wait for anyone who does.
        let keep = async move {
            while let Some(note) = noted.recv().await {
                if !keeps_notes {
                    continue;
                }
                handle
                    .commit(move |state| state.partition_mut(partition).checkpoint = Some(note))
                    .await?;
            }
            Ok::<_, Error>(())
        };
        let read = extractor.read(task.clone(), resume, Some(notes));
        tokio::pin!(read, keep);
        Ok::<_, Error>(tokio::select! {
            kept = &mut keep => {
                // A state that cannot be written ends the task: nothing of what it reads could be committed.
                kept?;
                read.await?
            }
            outcome = &mut read => match outcome {
                // What is going to be committed says more than a note. One that was sent already is written before it.
                Ok(outcome) => outcome,
                Err(error) => {
                    // What is safe so far is noted.
                    keep.await?;
                    return Err(error.into());
                }
            },
        })
    };
    match read(before, true).await {
        // The cursor goes, and the pages before it with it: the task begins again, once.
        Err(Error::Extract(error)) if is_dead_cursor(&error) => {
            tracing::warn!(source = task.tables(), %error, "cursor dropped, partition begins again");
            handle
                .commit(move |state| state.partition_mut(partition).checkpoint = None)
                .await?;
            read(None, true).await
        }
        // Not one of the answers that mean a dead cursor, so its note stays. Should it be one all the same, the task
        // can do without; if not, that costs a request or two.
        Err(Error::Extract(error)) if goes_on && is_refused(&error) => {
            tracing::warn!(source = task.tables(), %error, "read from the beginning, the cursor is kept until that is done");
            read(None, false).await
        }
        other => other,
    }
}

fn is_dead_cursor(error: &ExtractError) -> bool {
    matches!(error.api(), Some(SamsaraError::CursorRefused { .. }))
}

fn is_refused(error: &ExtractError) -> bool {
    matches!(error.api(), Some(SamsaraError::Refused { status: 400, .. }))
}

/// A feed, some pages at a time, each committed with the position behind them.
///
/// A cursor that was forgotten is dropped together with its query, and the feed begins again at `since`, once.
async fn read_feed(
    run: &Run,
    extractor: &Extractor,
    mut task: Arc<ExtractTask>,
) -> Result<Vec<Ready>, Error> {
    // Most days come with more than one of its parts, and are to be made into tables once.
    let mut partitions = BTreeSet::new();
    let mut restarted = false;
    while let Scope::Feed {
        resume,
        since,
        until,
        watch,
    } = &task.scope
    {
        let (since, until, watch) = (*since, *until, watch.clone());
        let scope = match extractor.read(task.clone(), None, None).await {
            Ok(outcome) => {
                commit_feed(run, &task, &outcome, since, until).await?;
                let position = outcome
                    .feed
                    .clone()
                    .filter(|_| outcome.more && !outcome.is_past);
                partitions.extend(ready(outcome));
                let Some(position) = position else { break };
                Scope::Feed {
                    resume: Some(position),
                    since,
                    until,
                    watch,
                }
            }
            Err(error) if is_dead_cursor(&error) && resume.is_some() && !restarted => {
                tracing::warn!(source = task.tables(), %error, "cursor dropped, feed begins again");
                restarted = true;
                Scope::Feed {
                    resume: None,
                    since,
                    until,
                    watch: Watch::default(),
                }
            }
            Err(error) => return Err(error.into()),
        };
        task = Arc::new(ExtractTask {
            scope,
            ..(*task).clone()
        });
    }
    Ok(partitions.into_iter().collect())
}

/// Marks the days of which an answer has shown a row that they do not hold, or hold without its end: they have changed.
///
/// A day that is not final is read again anyway, and one that this run reads is not compared with its old rows.
async fn mark_ended(run: &Run, outcome: &TaskOutcome) -> Result<(), Error> {
    let mut shown: BTreeMap<(&str, NaiveDate), Vec<Option<EndedRow>>> = BTreeMap::new();
    for Overlap { source, day, ended } in &outcome.overlaps {
        shown.entry((source, *day)).or_default().push(*ended);
    }
    let mut changed: BTreeMap<&str, Vec<NaiveDate>> = BTreeMap::new();
    for ((name, day), rows) in shown {
        let Some(source) = run.catalog.source(name) else {
            continue;
        };
        let handle = run.states.source(name).await?;
        let known = handle.look(|state| {
            let found = state
                .partition(Partition::Day(day))
                .filter(|found| found.changed.is_none())?;
            let is_final = crate::plan::is_settled(source, day, found);
            Some((found.raw.clone()?, found.open_rows)).filter(|_| is_final)
        });
        let is_walked = || {
            let extracted = run.extracted.lock().unwrap_or_else(PoisonError::into_inner);
            extracted.contains(&(name.to_string(), Partition::Day(day)))
        };
        let Some((raw, open_rows)) = known else {
            continue;
        };
        if run.plan.days_of(name).contains(&day) && !is_walked() {
            continue;
        }
        let ended: Vec<EndedRow> = rows.iter().filter_map(|row| *row).collect();
        // Which of its rows still last is not compared: they come with each day until they end.
        let is_new = rows.contains(&None) && open_rows == 0;
        if is_new || !ended.is_empty() && lacks(run, source, &raw, ended).await? {
            changed.entry(name).or_default().push(day);
        }
    }
    for (name, days) in changed {
        tracing::info!(
            source = name,
            ?days,
            "rows of these days have ended since, or are new: the days are read again"
        );
        let at = outcome.extracted_at;
        let mark = move |state: &mut SourceState| {
            for day in days {
                state
                    .partition_mut(Partition::Day(day))
                    .changed
                    .get_or_insert(at);
            }
        };
        run.states.source(name).await?.commit(mark).await?;
    }
    Ok(())
}

/// Whether one of these rows is not among those of the day, or has no end there, or another one.
async fn lacks(
    run: &Run,
    source: &Source,
    raw: &RawState,
    rows: Vec<EndedRow>,
) -> Result<bool, Error> {
    match run.raw.expect(&raw.objects).await {
        Ok(()) => {}
        // Reading the day again puts them back.
        Err(StoreError::Lost { .. }) => return Ok(true),
        Err(error) => return Err(error.into()),
    }
    let columns: Vec<String> = EndedRows::columns(source)
        .iter()
        .map(|name| format!("\"{name}\""))
        .collect();
    let sql = format!("SELECT {} FROM raw.\"{}\"", columns.join(", "), source.name);
    let table = raw_table(run, source, &raw.objects);
    let (source, read) = (source.clone(), raw.extracted_at);
    let compared = run.cpu.spawn(async move {
        let mut result = query(&sql, &[table], PARENT_IDS_MEMORY).await?;
        let mut known = EndedRows::default();
        while let Some(batch) = result.next().await? {
            known
                .add(&batch, &source, read)
                .map_err(crate::transform::TransformError::Engine)?;
        }
        Ok::<_, crate::transform::TransformError>(rows.iter().any(|row| !known.contains(row)))
    });
    match compared
        .await
        .map_err(|error| Error::Usage(format!("comparing the rows of a day stopped: {error}")))?
    {
        Ok(lacks) => Ok(lacks),
        // Written under another schema, say: reading the day again puts that right.
        Err(error) => {
            tracing::warn!(%error, "the rows of a day cannot be compared, so it is read again");
            Ok(true)
        }
    }
}

/// Raw objects of a source as a table.
fn raw_table(run: &Run, source: &Source, objects: &[ObjectRef]) -> QueryTable {
    QueryTable {
        raw: true,
        name: source.name.clone(),
        schema: raw_schema(source),
        bucket: run.raw.clone(),
        objects: objects.to_vec(),
    }
}

/// Points the state at what a task wrote for one partition. What the task counted as a whole stands at its first.
/// Gives the objects that no state names, because the partition was found unchanged.
async fn commit_partition(
    run: &Run,
    outcome: &TaskOutcome,
    extracted: &Extracted,
    first: bool,
) -> Result<Vec<ObjectRef>, Error> {
    let handle = run.states.source(&extracted.source).await?;
    let (partition, open_rows) = (extracted.partition, extracted.open_rows);
    let raw = raw_state(outcome, extracted, first);
    let (before, believed) = handle.look(|state| {
        let found = state.partition(partition);
        let raw = found.and_then(|found| found.raw.clone());
        let believed = found
            .and_then(|found| found.shrunken_from)
            .or_else(|| raw.as_ref().map(RawState::rows));
        (raw, believed)
    });
    let is_list = partition == Partition::Snapshot;
    let shrunken_from = believed.filter(|before| {
        is_list && super::is_shrunken(run, &extracted.source, raw.rows(), *before)
    });
    let mut same = before.filter(|before| before.content == raw.content);
    if let Some(before) = &same {
        match run.raw.expect(&before.objects).await {
            Ok(()) => {}
            // The same once more, then: what someone has removed is put back like this.
            Err(StoreError::Lost { .. }) => same = None,
            Err(error) => return Err(error.into()),
        }
    }
    let unchanged = same.is_some();
    let mut unreferenced = Vec::new();
    if let Some(before) = same {
        // A task that went on from a note may have brought the very objects that stand in the state already.
        unreferenced.extend(
            extracted
                .objects
                .iter()
                .filter(|object| !before.objects.contains(object))
                .cloned(),
        );
        // A list has nothing to settle, unless something is told of a try before this one; a day is final once it was
        // read late enough.
        let is_told = |found: &PartitionState| {
            found.failure.is_some()
                || found.checkpoint.is_some()
                || found.shrunken_from != shrunken_from
        };
        let told = handle.look(|state| state.partition(partition).is_some_and(is_told));
        if partition != Partition::Snapshot || told {
            let at = raw.extracted_at;
            handle
                .commit(move |state| {
                    let found = state.partition_mut(partition);
                    found.read_again(at);
                    found.shrunken_from = shrunken_from;
                    found.open_rows = open_rows;
                    if let Some(raw) = &mut found.raw {
                        raw.extracted_at = at;
                    }
                })
                .await?;
        }
    } else {
        let raw = raw.clone();
        handle
            .commit(move |state| {
                let found = state.partition_mut(partition);
                found.read_again(raw.extracted_at);
                found.shrunken_from = shrunken_from;
                found.open_rows = open_rows;
                found.raw = Some(raw);
            })
            .await?;
    }
    observe(run, extracted, &raw, unchanged);
    Ok(unreferenced)
}

/// Adds what a feed brought to its days, and moves its cursor, in one commit: nothing it sent is sent again.
async fn commit_feed(
    run: &Run,
    task: &ExtractTask,
    outcome: &TaskOutcome,
    since: chrono::DateTime<chrono::Utc>,
    until: Option<NaiveDate>,
) -> Result<(), Error> {
    let Some(source) = task.sources.first() else {
        return Ok(());
    };
    let handle = run.states.source(&source.name).await?;
    let known = handle.look(|state| state.feed.clone());
    let position =
        outcome
            .feed
            .clone()
            .map(|(query, cursor)| match until.filter(|_| outcome.is_past) {
                Some(until) => {
                    let end = day_window(until).start;
                    // A cursor that was come back to is as old as it was.
                    let stands =
                        known.filter(|before| before.cursor == cursor && before.query == query);
                    let (at, since) = stands.map_or((outcome.extracted_at, None), |before| {
                        (before.at, before.since)
                    });
                    let since = since.or(Some(end - chrono::TimeDelta::days(1)));
                    Feed {
                        query,
                        cursor,
                        at,
                        since,
                        contiguous_since: Some(end),
                    }
                }
                None => {
                    // In its middle, a feed is as far as it was when it began.
                    let since = if outcome.more {
                        since
                    } else {
                        outcome.extracted_at - chrono::TimeDelta::days(1)
                    };
                    Feed {
                        query,
                        cursor,
                        at: outcome.extracted_at,
                        since: Some(since),
                        contiguous_since: None,
                    }
                }
            });
    let moved = position
        .as_ref()
        .is_some_and(|position| handle.look(|state| is_moved(state.feed.as_ref(), position)));
    let days: Vec<(Partition, RawState)> = outcome
        .partitions
        .iter()
        .enumerate()
        .map(|(index, extracted)| {
            (
                extracted.partition,
                raw_state(outcome, extracted, index == 0),
            )
        })
        .collect();
    if moved || !days.is_empty() {
        let (added, tail, at) = (days.clone(), outcome.tail.clone(), outcome.extracted_at);
        let began = match &task.scope {
            Scope::Feed { resume, .. } => resume.clone(),
            _ => None,
        };
        handle
            .commit(move |state| {
                drop_tail(state, began.as_ref(), &added);
                for (day, raw) in added {
                    match &mut state.partition_mut(day).raw {
                        Some(before) => {
                            before.objects.extend(raw.objects);
                            before.records += raw.records;
                            before.rescued += raw.rescued;
                            before.content = raw.content;
                            before.extracted_at = raw.extracted_at;
                        }
                        none => *none = Some(raw),
                    }
                }
                if position.is_some() {
                    state.feed = position;
                }
                if let Some(tail) = tail {
                    note_tail(state, tail, at);
                }
            })
            .await?;
    }
    for (extracted, (_, raw)) in outcome.partitions.iter().zip(&days) {
        observe(run, extracted, raw, false);
    }
    Ok(())
}

/// Takes away what an earlier run had taken of the page at the feed's position, once that page has come as a whole.
fn drop_tail(
    state: &mut SourceState,
    began: Option<&(String, String)>,
    came: &[(Partition, RawState)],
) {
    let is_read_again = |feed: &Feed| {
        began.is_some_and(|(query, cursor)| *query == feed.query && *cursor == feed.cursor)
    };
    let tail = state
        .tail()
        .filter(|_| state.feed.as_ref().is_some_and(is_read_again))
        .cloned();
    // Without it, the note is of no use any more: the feed has another position.
    let noted = state.partitions.iter();
    let noted = noted.filter(|(_, found)| found.checkpoint.is_some());
    let noted: Vec<Partition> = noted.map(|(partition, _)| *partition).collect();
    for partition in noted {
        state.partition_mut(partition).checkpoint = None;
    }
    for part in tail.into_iter().flat_map(|tail| tail.parts) {
        let partition = Partition::parse(&part.partition)
            .filter(|partition| state.partitions.contains_key(partition));
        let Some(raw) = partition.and_then(|partition| state.partition_mut(partition).raw.as_mut())
        else {
            continue;
        };
        let rows: u64 = part.objects.iter().map(|object| object.rows).sum();
        let again = came
            .iter()
            .filter(|(day, _)| day.to_string() == part.partition)
            .map(|(_, raw)| raw.rows());
        // A row that does not come again stays; its table drops the repetitions of the others.
        if again.sum::<u64>() >= rows {
            raw.objects.retain(|object| !part.objects.contains(object));
        }
    }
}

/// Notes what was taken of the page at the feed's position.
fn note_tail(
    state: &mut SourceState,
    tail: CheckpointResult,
    extracted_at: chrono::DateTime<chrono::Utc>,
) {
    let first = tail.parts.first();
    let (Some(first), Some(feed)) = (
        first.and_then(|part| Partition::parse(&part.partition)),
        &state.feed,
    ) else {
        return;
    };
    let asked: String = Sha256::digest(&feed.query)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let whole = CheckpointResult {
        content: tail.content.clone(),
        ..CheckpointResult::default()
    };
    let note = Checkpoint {
        asked,
        requests: 0,
        rest: Vec::new(),
        resume: None,
        extracted_at,
        whole,
        part: tail,
    };
    if state.partitions.contains_key(&first) {
        state.partition_mut(first).checkpoint = Some(note);
    }
}

fn raw_state(outcome: &TaskOutcome, extracted: &Extracted, first: bool) -> RawState {
    RawState {
        objects: extracted.objects.clone(),
        records: if first { outcome.records } else { 0 },
        out_of_window: extracted.out_of_window,
        rescued: extracted.rescued,
        content: outcome.content.clone(),
        extracted_at: outcome.extracted_at,
    }
}

fn observe(run: &Run, extracted: &Extracted, raw: &RawState, unchanged: bool) {
    run.observer.observe(&Event::PartitionExtracted {
        source: extracted.source.clone(),
        partition: extracted.partition,
        records: raw.records,
        rows: extracted.objects.iter().map(|object| object.rows).sum(),
        out_of_window: raw.out_of_window,
        rescued: raw.rescued,
        unchanged,
    });
}

/// Removes objects that no state will name. What cannot be removed is an orphan, which counts for nothing.
async fn discard(run: &Run, objects: &[ObjectRef]) {
    for object in objects {
        let path = object_store::path::Path::from(object.path.as_str());
        if let Err(error) = run.raw.store().delete(&path).await {
            tracing::debug!(object = object.path, %error, "orphan left behind");
        }
    }
}

/// The ids of a parent's committed snapshot, sorted.
async fn parent_ids(run: &Run, source: &str, field: &str) -> Result<Vec<String>, Error> {
    let handle = run.states.source(source).await?;
    // Ids of an older list would leave out who has come since, and the days would count as read.
    let found = handle
        .look(|state| state.partition(Partition::Snapshot).cloned())
        .unwrap_or_default();
    let before = super::shrunken(run, source, &found);
    let raw = found.raw.filter(|_| found.failure.is_none());
    let (Some(raw), Some(declared)) = (raw, run.catalog.source(source)) else {
        return Err(Error::Usage(format!(
            "its parent {source} could not be read, so there are no ids to ask for"
        )));
    };
    // Nor would days count as read that were asked for with the few ids of a hiccup.
    if let Some(before) = before {
        let (rows, model) = (
            raw.rows(),
            run.catalog
                .model(source)
                .or(run.catalog.models_of(source).next()),
        );
        let table = model.map_or(source, |model| model.name.as_str());
        return Err(Error::Usage(format!(
            "its parent {source} has {rows} rows now and had {before}, so nothing is asked for: if that is right, run \
             with --accept-shrunken {table}"
        )));
    }
    run.raw.expect(&raw.objects).await?;
    let table = raw_table(run, declared, &raw.objects);
    let sql = format!(
        "SELECT DISTINCT CAST(\"{field}\" AS VARCHAR) AS id FROM raw.\"{source}\" WHERE \"{field}\" IS NOT NULL"
    );
    let cpu = run.cpu.clone();
    let ids: BTreeSet<String> = cpu
        .spawn(async move {
            let mut result = query(&sql, &[table], PARENT_IDS_MEMORY).await?;
            let mut ids = BTreeSet::new();
            while let Some(batch) = result.next().await? {
                let column = batch.column(0).as_string_opt::<i32>();
                ids.extend(column.into_iter().flatten().flatten().map(str::to_string));
            }
            Ok::<_, crate::transform::TransformError>(ids)
        })
        .await
        .map_err(|error| Error::Usage(format!("{source}: reading its ids stopped: {error}")))??;
    // An empty id is no one: a request without it would ask for all, or for another path.
    let (ids, blank): (Vec<String>, Vec<String>) =
        ids.into_iter().partition(|id| !id.trim().is_empty());
    if !blank.is_empty() {
        tracing::warn!(
            source,
            field,
            "rows without an id: nothing is asked for them"
        );
    }
    Ok(ids)
}
