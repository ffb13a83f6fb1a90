//! Runs the extract tasks of the plan, several at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::NaiveDate;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use tokio::sync::{Semaphore, mpsc};
use tracing::Instrument;

use super::change_feed::ChangeFeeds;
use super::extract_task::{by_source, complete_partitions, extract_in, extract_task, hand_on};
use super::run::{ReadyOfSource, Run};
use crate::catalog::SourceKind;
use crate::config::SamsaraConfig;
use crate::error::Error;
use crate::events::Event;
use crate::extract::Extractor;
use crate::plan::{Lists, PlannedScope, PlannedTask, Stage};
use crate::samsara::{Client, SamsaraError};
use crate::state::SourceState;

/// Tasks that commit while others read: Cloud Storage accepts one write of a source's state document per second.
const COMMITTING: usize = 64;

/// How the API is reached.
pub(super) struct Api {
    pub(super) config: SamsaraConfig,
    /// Hosts among which the token's region is found if none is configured.
    pub(super) regions: Vec<String>,
}

/// Runs the extract stage, if it is requested, and passes on the partitions that were complete before.
///
/// If the API cannot be reached, nothing is read, but complete partitions are still derived and loaded.
pub(super) async fn extract_stage(
    run: Arc<Run>,
    api: Option<Api>,
    workers: usize,
    ready: mpsc::Sender<ReadyOfSource>,
) -> Result<(), Error> {
    // Partitions that were complete before are passed on meanwhile: the models may have changed. Those that a feed, a
    // change feed or another day may still change wait: if a day were loaded twice at the same time, the older load
    // could come last. Those of a source whose change feed reports nothing wait until that is known.
    let (mut now, mut later) = (Vec::new(), BTreeMap::new());
    for (name, partitions) in &run.plan.committed {
        let source = run.catalog.known_source(name)?;
        let is_named =
            run.plan.feeds.contains(&source.name) || run.plan.lasting.contains(&source.name);
        let may_change = is_named || matches!(source.kind, SourceKind::Feed | SourceKind::Updates);
        match may_change {
            true => _ = later.insert(name.clone(), partitions.clone()),
            false => now.push((name.clone(), partitions.clone())),
        }
    }
    let (unchanged, mut settled) = mpsc::unbounded_channel::<String>();
    let earlier = async {
        hand_on(&run, &ready, now).await;
        while let Some(source) = settled.recv().await {
            hand_on(&run, &ready, later.remove_entry(&source)).await;
        }
        later
    };
    let read = async {
        let result = match &api {
            Some(api) => extract_all(&run, api, workers, &ready, unchanged).await,
            None => {
                drop(unchanged);
                Ok(())
            }
        };
        // At once instead of after the backlog: nothing else can succeed either.
        if result.is_err() {
            run.shutdown.cancel();
        }
        result
    };
    let (later, result) = tokio::join!(earlier, read);
    let later = later.into_iter().map(|(source, mut partitions)| {
        partitions.retain(|partition| !run.has_extracted(&source, *partition));
        (source, partitions)
    });
    hand_on(&run, &ready, later).await;
    result
}

/// Reads everything in the plan, and the days that change feeds report. The names of sources whose change feed reports
/// nothing go to `unchanged`, as soon as that is known.
async fn extract_all(
    run: &Run,
    api: &Api,
    workers: usize,
    ready: &mpsc::Sender<ReadyOfSource>,
    unchanged: mpsc::UnboundedSender<String>,
) -> Result<(), Error> {
    let hosts: Vec<&str> = api.regions.iter().map(String::as_str).collect();
    let connected = tokio::select! {
        () = run.shutdown.cancelled() => return Ok(()),
        connected = Client::connect_among(&api.config, run.observer.clone(), &hosts) => connected,
    };
    let client = match connected {
        Ok(client) => client,
        Err(error) if error.ends_run() => return Err(error.into()),
        Err(error) => return hand_on_without_api(run, error, ready).await,
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
    let each = async |tasks: &[&PlannedTask]| {
        let tasks = stream::iter(tasks.iter().copied()).map(Ok);
        tasks
            .try_for_each_concurrent(workers + COMMITTING, |task| {
                extract_task(run, &extractor, &slots, task, ready)
            })
            .await
    };
    // Lists first: fan-outs need their rows. Change feeds, which tell which other days to read, are read at the same
    // time: both consist of many small requests, limited by the token's rate.
    let lists = extract_lists(run, &extractor, &slots, ready);
    let feeds = async {
        let feeds = ChangeFeeds {
            run,
            extractor: &extractor,
            slots: &slots,
        };
        let groups = feeds.groups().await?;
        stream::iter(&groups)
            .map(Ok)
            .try_for_each_concurrent(workers + COMMITTING, |names| {
                let span = tracing::error_span!("changes", table = names.join(", "));
                let unchanged = &unchanged;
                async move {
                    feeds.read(names).instrument(span).await?;
                    for name in names {
                        if is_unchanged(run, name).await? {
                            // Whoever hands them on ends only after this.
                            let _ = unchanged.send(name.clone());
                        }
                    }
                    Ok::<(), Error>(())
                }
            })
            .await
    };
    tokio::try_join!(lists, feeds)?;
    drop(unchanged);
    let named = changed_tasks(run, &run.plan.feeds).await?;
    store_asked_from(run).await?;
    let (probes, rest) = probes(run).await?;
    each(&probes).await?;
    each(&rest).await?;
    each(&named.iter().collect::<Vec<_>>()).await?;
    // Last, the days that other responses have shown to have changed.
    let lasting = changed_tasks(run, &run.plan.lasting).await?;
    each(&lasting.iter().collect::<Vec<_>>()).await
}

/// Reads the lists of the plan, several at a time.
async fn extract_lists(
    run: &Run,
    extractor: &Extractor,
    slots: &Semaphore,
    ready: &mpsc::Sender<ReadyOfSource>,
) -> Result<(), Error> {
    let mut lists = Lists::new(&run.catalog, &run.plan);
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            slot = slots.acquire(), if lists.has_next() => {
                if let Some(task) = lists.begin_next() {
                    // The semaphore is never closed.
                    let extract = extract_in(run, extractor, slot.ok(), task, ready);
                    under_way.push(extract.map(move |result| (task, result)));
                }
            }
            Some((task, result)) = under_way.next() => {
                result?;
                lists.end(task);
            }
            else => return Ok(()),
        }
    }
}

/// Whether no complete day of a source, whose change feed was read, is going to be read again in this run.
async fn is_unchanged(run: &Run, name: &str) -> Result<bool, Error> {
    if run.plan.lasting.iter().any(|lasting| lasting == name) {
        return Ok(false);
    }
    let handle = run.states.source(name).await?;
    Ok(handle.look(|state| state.changed_days().next().is_none()))
}

/// Tasks for the days of these sources that were found to have changed, which are reported as additional work.
async fn changed_tasks(run: &Run, sources: &[String]) -> Result<Vec<PlannedTask>, Error> {
    let tasks = crate::plan::changed(&run.catalog, &run.states, &run.plan, sources).await?;
    if !tasks.is_empty() {
        run.observer.observe(&Event::WorkFound {
            requests: tasks.iter().map(|task| task.requests).sum(),
            tasks: tasks.len() as u64,
            partitions: tasks.iter().map(|task| run.tables_of_task(task)).sum(),
        });
    }
    Ok(tasks)
}

/// The first task of each source that may not be available, and all other tasks: one request is enough to find out.
async fn probes(run: &Run) -> Result<(Vec<&PlannedTask>, Vec<&PlannedTask>), Error> {
    let mut tasks_of: BTreeMap<&str, usize> = BTreeMap::new();
    for task in &run.plan.windows {
        for source in &task.sources {
            *tasks_of.entry(source).or_default() += 1;
        }
    }
    let mut unread = BTreeSet::new();
    for (source, tasks) in tasks_of {
        let handle = run.states.source(source).await?;
        let was_read = handle.look(SourceState::was_read);
        if tasks > 1 && !was_read && !run.is_named(source) {
            unread.insert(source);
        }
    }
    Ok(run.plan.windows.iter().partition(|task| {
        let first = task
            .sources
            .iter()
            .filter(|source| unread.remove(source.as_str()));
        first.count() > 0
    }))
}

/// Reports an API that cannot be reached, and passes on the complete partitions among those to be read.
async fn hand_on_without_api(
    run: &Run,
    error: SamsaraError,
    ready: &mpsc::Sender<ReadyOfSource>,
) -> Result<(), Error> {
    run.failed(&Stage::Extract.to_string(), None, &error.into());
    for planned in run.plan.snapshots.iter().chain(&run.plan.windows) {
        let complete = by_source(complete_partitions(run, planned).await?);
        hand_on(run, ready, complete).await;
    }
    Ok(())
}

/// Records from which day on each source is requested, before its first day is read: if the run does not reach all
/// days, the next run knows which are missing.
async fn store_asked_from(run: &Run) -> Result<(), Error> {
    let mut asked: BTreeMap<&str, NaiveDate> = BTreeMap::new();
    for task in &run.plan.windows {
        let PlannedScope::Days(days) = &task.scope else {
            continue;
        };
        let of = |source| days.iter().map(move |day| (source, *day));
        for (source, day) in task.sources.iter().flat_map(of) {
            let first = asked.entry(source).or_insert(day);
            *first = day.min(*first);
        }
    }
    let stored = asked.into_iter().map(|(source, day)| async move {
        let handle = run.states.source(source).await?;
        if handle.look(|state| state.asked_from.is_none_or(|from| day < from)) {
            handle
                .commit(move |state| state.asked_from = Some(day))
                .await?;
        }
        Ok(())
    });
    futures::future::try_join_all(stored).await.map(|_| ())
}
