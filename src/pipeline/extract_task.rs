//! One extract task of the plan: resumed, read and committed, or failed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Days, SecondsFormat, Utc};
use futures::future::try_join_all;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tracing::Instrument;

use super::commit_raw::{FeedAsked, commit_feed, commit_partition, discard};
use super::ended_rows::mark_changed_days;
use super::raw_rows::parent_rows;
use super::resumable::read_resumable;
use super::run::{Ready, ReadyOfSource, Run, ends_run};
use super::updates::read_updates;
use crate::catalog::Source;
use crate::clock;
use crate::error::{Error, UpstreamError};
use crate::events::{Event, Outcome};
use crate::extract::{ExtractTask, Extractor, Scope, TaskOutcome};
use crate::plan::{PlannedScope, PlannedTask};
use crate::redact;
use crate::samsara::{ParentRow, SamsaraError, Watch};
use crate::state::{Failure, NotAvailable, SourceState};
use crate::store::layout::Partition;

/// Passes partitions to the transform stage until the run is stopped.
pub(super) async fn hand_on(
    run: &Run,
    ready: &mpsc::Sender<ReadyOfSource>,
    partitions: impl IntoIterator<Item = ReadyOfSource>,
) {
    for of_source in partitions {
        let sent = tokio::select! {
            biased;
            () = run.shutdown.cancelled() => return,
            sent = ready.send(of_source) => sent,
        };
        // The next stage ends early only when the run is being stopped.
        if sent.is_err() {
            return;
        }
    }
}

/// Partitions in groups, one for each source.
pub(super) fn by_source(partitions: Vec<Ready>) -> BTreeMap<String, Vec<Partition>> {
    let mut groups: BTreeMap<String, Vec<Partition>> = BTreeMap::new();
    for (source, partition) in partitions {
        groups.entry(source).or_default().push(partition);
    }
    groups
}

/// The permit of a task among those that read.
type Slot<'a> = Option<SemaphorePermit<'a>>;

/// Reads one task and passes its partitions on. Its failure is reported; an error is returned only if no other task
/// could succeed either.
pub(super) async fn extract_task(
    run: &Run,
    extractor: &Extractor,
    slots: &Semaphore,
    planned: &PlannedTask,
    ready: &mpsc::Sender<ReadyOfSource>,
) -> Result<(), Error> {
    // The semaphore is never closed.
    let slot = slots.acquire().await.ok();
    extract_in(run, extractor, slot, planned, ready).await
}

/// As [`extract_task`], with a permit that was acquired before.
pub(super) async fn extract_in(
    run: &Run,
    extractor: &Extractor,
    mut slot: Slot<'_>,
    planned: &PlannedTask,
    ready: &mpsc::Sender<ReadyOfSource>,
) -> Result<(), Error> {
    let apart = apart(run, planned);
    if apart.len() > 1 {
        return extract_apart(run, extractor, &apart, ready).await;
    }
    let scope = planned.scope.to_string();
    let span = tracing::error_span!(
        "extract",
        table = planned.sources.join(", "),
        partition = scope,
        outcome = tracing::field::Empty,
    );
    run.observer.observe(&Event::TaskStarted {
        sources: planned.sources.clone(),
        scope: scope.clone(),
        requests: planned.requests,
    });
    let read = read_planned(run, extractor, planned, &mut slot)
        .instrument(span.clone())
        .await?;
    let is_refused_together = read.is_none();
    let (outcome, partitions) = read.unwrap_or((Outcome::Absent, Vec::new()));
    span.record("outcome", outcome.as_str());
    drop(span);
    let come = partitions.iter().map(|(source, _)| run.tables_of(source));
    run.observer.observe(&Event::TaskFinished {
        sources: planned.sources.clone(),
        scope,
        requests: planned.requests,
        missing: match is_refused_together {
            true => 0,
            false => run.tables_of_task(planned).saturating_sub(come.sum()),
        },
        outcome,
    });
    if is_refused_together {
        return extract_apart(run, extractor, &one_by_one(planned), ready).await;
    }
    hand_on(run, ready, by_source(partitions)).await;
    Ok(())
}

/// The partitions of a task that are complete, from this run or earlier ones; none if the API refused its sources
/// together, so that each must be requested alone.
async fn read_planned(
    run: &Run,
    extractor: &Extractor,
    planned: &PlannedTask,
    slot: &mut Slot<'_>,
) -> Result<Option<(Outcome, Vec<Ready>)>, Error> {
    if run.shutdown.is_cancelled() {
        return Ok(Some((Outcome::Stopped, Vec::new())));
    }
    let has_ended = planned.sources.iter().all(|source| run.has_ended(source));
    if has_ended || without_parent(run, planned).await? {
        let complete = complete_partitions(run, planned).await?;
        return Ok(Some((Outcome::Absent, complete)));
    }
    let mut touched = BTreeSet::new();
    let result = tokio::select! {
        () = run.shutdown.cancelled() => return Ok(Some((Outcome::Stopped, Vec::new()))),
        result = read_task(run, extractor, planned, slot, &mut touched) => result,
    };
    let (outcome, mut partitions) = match result {
        Ok(partitions) => (Outcome::Done, partitions),
        Err(error) if ends_run(&error) => return Err(error),
        // A single reading type that is retired or not licensed makes the API refuse the whole request.
        Err(Error::Extract(error)) if error.is_refused() && planned.sources.len() > 1 => {
            let table = planned.sources.join(", ");
            tracing::warn!(table, %error, "refused together: each is requested by itself");
            return Ok(None);
        }
        Err(error) => {
            if matches!(&error, Error::Extract(error) if error.is_refused()) {
                run.set_apart(&planned.sources);
            }
            let outcome = match give_up(run, planned, &error).await? {
                true => Outcome::Failed,
                false => Outcome::Absent,
            };
            (outcome, complete_partitions(run, planned).await?)
        }
    };
    partitions.extend(touched);
    run.add_extracted(&partitions);
    Ok(Some((outcome, partitions)))
}

/// The partitions of a failed task that an earlier run has read completely: their existing rows are still transformed
/// and loaded.
pub(super) async fn complete_partitions(
    run: &Run,
    planned: &PlannedTask,
) -> Result<Vec<Ready>, Error> {
    let mut complete = Vec::new();
    for source in &planned.sources {
        let handle = run.states.source(source).await?;
        let is_complete = |partition: &Partition| {
            handle.look(|state| {
                let found = state.partition(*partition);
                found.is_some_and(|found| found.raw.is_some())
            })
        };
        let partitions = planned.scope.partitions().into_iter().filter(is_complete);
        complete.extend(partitions.map(|partition| (source.clone(), partition)));
    }
    Ok(complete)
}

/// Tasks split from one, one after another with its permit.
async fn extract_apart(
    run: &Run,
    extractor: &Extractor,
    tasks: &[PlannedTask],
    ready: &mpsc::Sender<ReadyOfSource>,
) -> Result<(), Error> {
    for task in tasks {
        Box::pin(extract_in(run, extractor, None, task, ready)).await?;
    }
    Ok(())
}

/// A task of its own for each source.
fn one_by_one(planned: &PlannedTask) -> Vec<PlannedTask> {
    let alone = |source: &String| PlannedTask {
        sources: vec![source.clone()],
        scope: planned.scope.clone(),
        // The plan counts them once, for the task that they were split from.
        requests: 0,
    };
    planned.sources.iter().map(alone).collect()
}

/// The task without the sources that were refused earlier in this run, and a task of its own for each of these.
fn apart(run: &Run, planned: &PlannedTask) -> Vec<PlannedTask> {
    let (alone, together): (Vec<String>, Vec<String>) = planned
        .sources
        .iter()
        .cloned()
        .partition(|source| run.is_apart(source));
    let of = |sources: Vec<String>| PlannedTask {
        sources,
        scope: planned.scope.clone(),
        requests: planned.requests,
    };
    let mut tasks = one_by_one(&of(alone));
    if !together.is_empty() {
        tasks.insert(0, of(together));
    }
    tasks
}

/// Reports a failed task and records it in the state. Returns whether it is a failure of any of its sources: a source
/// that is not available is not.
async fn give_up(run: &Run, planned: &PlannedTask, error: &Error) -> Result<bool, Error> {
    let refused = match error {
        Error::Extract(error) => error.api(),
        _ => None,
    };
    let is_final = refused.is_some_and(SamsaraError::is_unavailable);
    let mut failed = Vec::new();
    for source in &planned.sources {
        let handle = run.states.source(source).await?;
        let was_read = handle.look(SourceState::was_read);
        if let Some(refused) = refused.filter(|error| run.takes_leave(source, was_read, error)) {
            if run.end_source(source) {
                not_available(run, source, refused).await?;
            }
            continue;
        }
        // The API refuses a month that is still being processed; it is read later.
        if is_refused_status(refused, 400) && is_not_ready(run, source, planned) {
            run.observer.observe(&Event::Noted {
                name: source.clone(),
                reason: format!("not ready yet, the next run requests it again: {error}"),
            });
            continue;
        }
        // One message for a source that is not available, however many days were requested.
        if !is_final || run.end_source(source) {
            run.failed(source, None, error);
        }
        failed.push(source);
    }
    store_failure(run, planned, &failed, error).await?;
    Ok(!failed.is_empty())
}

fn is_refused_status(error: Option<&SamsaraError>, expected: u16) -> bool {
    matches!(error, Some(SamsaraError::Refused { status, .. }) if *status == expected)
}

/// Whether the requested months ended so recently that they still change.
fn is_not_ready(run: &Run, source: &str, planned: &PlannedTask) -> bool {
    let found = run.catalog.source(source);
    let Some(source) = found.filter(|source| source.is_monthly()) else {
        return false;
    };
    let today = clock::now().date_naive();
    let lookback = Days::new(u64::from(source.lookback_days));
    let partitions = planned.scope.partitions();
    let mut days = partitions.iter().filter_map(|partition| partition.day());
    days.all(|day| {
        let settled = source.period_end(day).checked_add_days(lookback);
        settled.is_none_or(|settled| today < settled)
    })
}

/// Reports that a source is not available, and records it in the state: it is requested again after a week.
async fn not_available(run: &Run, source: &str, refused: &SamsaraError) -> Result<(), Error> {
    let known = NotAvailable {
        at: clock::now(),
        reason: redact::one_line(refused),
    };
    run.observer.observe(&Event::NotAvailable {
        source: source.into(),
        reason: known.reason.clone(),
    });
    let handle = run.states.source(source).await?;
    handle
        .commit(move |state| state.not_available = Some(known))
        .await?;
    Ok(())
}

/// Skips a task whose parent is not available: there are no ids to request.
async fn without_parent(run: &Run, planned: &PlannedTask) -> Result<bool, Error> {
    let parent = planned.sources.first().and_then(|source| {
        let parent = run.catalog.source(source)?.parent.as_ref()?;
        run.catalog.source(&parent.source)
    });
    let Some(parent) = parent else {
        return Ok(false);
    };
    let handle = run.states.source(&parent.name).await?;
    let was_read = handle.look(SourceState::was_read);
    let known = crate::plan::unavailable(&run.catalog, &run.states, parent).await?;
    let Some(known) = known.filter(|_| !was_read) else {
        return Ok(false);
    };
    let unavailable = UpstreamError::ParentUnavailable {
        source_name: parent.name.clone(),
        reason: known.reason,
    };
    for source in &planned.sources {
        if !run.end_source(source) {
            continue;
        }
        if run.is_named(source) {
            run.failed(source, None, &unavailable.clone().into());
        } else {
            run.observer.observe(&Event::NotAvailable {
                source: source.clone(),
                reason: unavailable.to_string(),
            });
        }
    }
    Ok(true)
}

/// Records a failed attempt of these partitions: `status` tells them apart from those never requested.
async fn store_failure(
    run: &Run,
    planned: &PlannedTask,
    sources: &[&String],
    error: &Error,
) -> Result<(), Error> {
    // The days of a feed are known only from its rows.
    let partitions = planned.scope.partitions();
    if partitions.is_empty() {
        return Ok(());
    }
    for source in sources {
        let failure = Failure {
            at: clock::now(),
            error: redact::one_line(error),
        };
        let partitions = partitions.clone();
        let handle = run.states.source(source).await?;
        handle
            .commit(move |state| {
                for partition in partitions {
                    state.partition_mut(partition).failure = Some(Box::new(failure.clone()));
                }
            })
            .await?;
    }
    Ok(())
}

/// Reads a task, releases its permit, commits its result, and returns the committed partitions. Those of `updates` go
/// into `touched` instead, which keeps them if a later window fails.
async fn read_task(
    run: &Run,
    extractor: &Extractor,
    planned: &PlannedTask,
    slot: &mut Slot<'_>,
    touched: &mut BTreeSet<Ready>,
) -> Result<Vec<Ready>, Error> {
    let (sources, parents) = asked_of(run, planned).await?;
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
        PlannedScope::Updates(windows) => {
            if let Some(source) = sources.first() {
                read_updates(run, extractor, source, &parents, windows, touched).await?;
            }
            return Ok(Vec::new());
        }
    };
    let task = Arc::new(ExtractTask {
        sources,
        scope,
        parents,
    });
    if let Scope::Feed { .. } = &task.scope {
        return read_feed(run, extractor, task).await;
    }
    let outcome = read_resumable(run, extractor, &task).await?;
    drop(slot.take());
    // Before the days themselves: this much is known even if the rest of the run fails.
    mark_changed_days(run, &outcome).await?;
    // The first partition last: it holds the checkpoint of the whole task. The others are committed together.
    let mut unreferenced = Vec::new();
    if let Some((first, others)) = outcome.partitions.split_first() {
        let others = others
            .iter()
            .map(|extracted| commit_partition(run, &outcome, extracted, false));
        unreferenced.extend(try_join_all(others).await?.into_iter().flatten());
        unreferenced.extend(commit_partition(run, &outcome, first, true).await?);
    }
    // From now on no checkpoint lists them.
    discard(&run.raw, &unreferenced).await;
    Ok(ready(outcome))
}

/// The sources of a planned task, and the rows of their parent.
async fn asked_of(
    run: &Run,
    planned: &PlannedTask,
) -> Result<(Vec<Source>, Vec<ParentRow>), Error> {
    let known = |name: &String| run.catalog.known_source(name).cloned();
    let sources: Vec<Source> = planned
        .sources
        .iter()
        .map(known)
        .collect::<Result<_, _>>()?;
    let parents = match sources.first().and_then(|source| source.parent.as_ref()) {
        Some(parent) => parent_rows(run, parent).await?,
        None => Vec::new(),
    };
    Ok((sources, parents))
}

fn ready(outcome: TaskOutcome) -> Vec<Ready> {
    let partitions = outcome.partitions.into_iter();
    partitions
        .map(|extracted| (extracted.source, extracted.partition))
        .collect()
}

/// Reads a feed, some pages at a time, each committed with the position after them.
///
/// If the API no longer knows the cursor, or its query has changed, the feed is started again from `since`, once.
async fn read_feed(
    run: &Run,
    extractor: &Extractor,
    mut task: Arc<ExtractTask>,
) -> Result<Vec<Ready>, Error> {
    // Most days are in more than one of its parts, and should be derived once.
    let mut partitions = BTreeSet::new();
    let mut restarted = false;
    if let Scope::Feed {
        resume: None,
        since,
        ..
    } = &task.scope
    {
        report_gap(run, &task, *since).await?;
    }
    while let (
        Some(source),
        Scope::Feed {
            resume,
            since,
            until,
            watch,
        },
    ) = (task.sources.first(), &task.scope)
    {
        let (next, watch) = match extractor.read(task.clone(), None, None).await {
            Ok(outcome) => {
                let asked = FeedAsked {
                    source: &source.name,
                    resume: resume.clone(),
                    since: *since,
                    until: *until,
                };
                commit_feed(run, asked, &outcome).await?;
                let goes_on = outcome.more && !outcome.is_past;
                let next = outcome.feed.clone().filter(|_| goes_on);
                partitions.extend(ready(outcome));
                if next.is_none() {
                    break;
                }
                (next, watch.clone())
            }
            Err(error) if error.is_dead_cursor() && resume.is_some() && !restarted => {
                tracing::warn!(source = task.tables(), %error, "cursor dropped, the feed starts over");
                restarted = true;
                report_gap(run, &task, *since).await?;
                (None, Watch::default())
            }
            Err(error) => return Err(error.into()),
        };
        let scope = Scope::Feed {
            resume: next,
            since: *since,
            until: *until,
            watch,
        };
        task = Arc::new(ExtractTask {
            scope,
            ..(*task).clone()
        });
    }
    Ok(partitions.into_iter().collect())
}

/// Reports what is lost if a feed restarts after its last position because its retention is shorter.
async fn report_gap(run: &Run, task: &ExtractTask, since: DateTime<Utc>) -> Result<(), Error> {
    for source in &task.sources {
        let handle = run.states.source(&source.name).await?;
        let known = handle.look(|state| Some(state.feed.as_ref()?.read_until()));
        let Some(known) = known.filter(|known| *known < since) else {
            continue;
        };
        let whole = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
        run.observer.observe(&Event::Noted {
            name: source.name.clone(),
            reason: format!(
                "rows between {} and {} are lost: the feed's position is gone, and it reaches no further back",
                whole(known),
                whole(since)
            ),
        });
    }
    Ok(())
}
