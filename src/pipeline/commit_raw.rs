//! Commits the raw objects of extract tasks to the state.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::feed_tail::{drop_tail, store_tail};
use super::run::{Run, are_there, is_shrunken};
use crate::error::Error;
use crate::events::Event;
use crate::extract::{Extracted, TaskOutcome, day_window};
use crate::state::{Feed, PartitionState, Position, RawState, SourceHandle};
use crate::store::layout::Partition;
use crate::store::{Bucket, ObjectRef};

/// What reading a partition changes in its state, whether or not its rows have changed.
#[derive(Clone, Copy)]
struct Reading {
    extracted_at: DateTime<Utc>,
    shrunken_from: Option<u64>,
    open_rows: u64,
}

impl Reading {
    fn apply(self, found: &mut PartitionState) {
        found.read_again(self.extracted_at);
        found.shrunken_from = self.shrunken_from;
        found.open_rows = self.open_rows;
    }
}

/// Commits what a task wrote for one partition. The first partition also gets the counts of the whole task. Returns the
/// objects to discard because the partition was unchanged.
pub(super) async fn commit_partition(
    run: &Run,
    outcome: &TaskOutcome,
    extracted: &Extracted,
    first: bool,
) -> Result<Vec<ObjectRef>, Error> {
    let handle = run.states.source(&extracted.source).await?;
    let partition = extracted.partition;
    let raw = raw_state(outcome, extracted, first);
    let (before, accepted_rows) = handle.look(|state| {
        let found = state.partition(partition);
        let raw = found.and_then(|found| found.raw.clone());
        let rows = found.and_then(|found| found.shrunken_from);
        (
            raw.clone(),
            rows.or_else(|| raw.as_ref().map(RawState::rows)),
        )
    });
    let is_list = partition == Partition::Snapshot;
    let reading = Reading {
        extracted_at: raw.extracted_at,
        shrunken_from: accepted_rows
            .filter(|before| is_list && is_shrunken(run, &extracted.source, raw.rows(), *before)),
        open_rows: extracted.open_rows,
    };
    let same = match before.filter(|before| before.content == raw.content) {
        // Objects that were removed are replaced by those of this reading.
        Some(before) => are_there(&run.raw, &before.objects)
            .await?
            .then_some(before),
        None => None,
    };
    let mut unreferenced = Vec::new();
    if let Some(before) = &same {
        confirm(&handle, partition, reading).await?;
        // A task resumed from a checkpoint may return objects that the state lists already.
        let brought = extracted.objects.iter();
        unreferenced.extend(brought.filter(|it| !before.objects.contains(it)).cloned());
    } else {
        let raw = raw.clone();
        handle
            .commit(move |state| {
                state.not_available = None;
                let found = state.partition_mut(partition);
                reading.apply(found);
                found.raw = Some(raw);
            })
            .await?;
    }
    observe(run, extracted, &raw, same.is_some());
    Ok(unreferenced)
}

/// Records that a partition was read and unchanged.
///
/// A list is never final, so nothing is recorded unless the state has an earlier failed attempt; a day is final once it
/// was read late enough.
async fn confirm(
    handle: &SourceHandle,
    partition: Partition,
    reading: Reading,
) -> Result<(), Error> {
    let has_earlier_try = |found: &PartitionState| {
        found.failure.is_some()
            || found.checkpoint.is_some()
            || found.shrunken_from != reading.shrunken_from
    };
    let is_due = partition != Partition::Snapshot
        || handle.look(|state| {
            state.not_available.is_some() || state.partition(partition).is_some_and(has_earlier_try)
        });
    if is_due {
        handle
            .commit(move |state| {
                state.not_available = None;
                let found = state.partition_mut(partition);
                reading.apply(found);
                if let Some(raw) = &mut found.raw {
                    raw.extracted_at = reading.extracted_at;
                }
            })
            .await?;
    }
    Ok(())
}

/// What was requested of a feed.
pub(super) struct FeedAsked<'a> {
    pub(super) source: &'a str,
    /// Where it went on.
    pub(super) resume: Option<Position>,
    /// Where it begins without a position.
    pub(super) since: DateTime<Utc>,
    /// The first day that was not requested.
    pub(super) until: Option<NaiveDate>,
}

/// Adds the rows of a feed to their days and moves its cursor, in one commit, so that no row is read twice.
pub(super) async fn commit_feed(
    run: &Run,
    asked: FeedAsked<'_>,
    outcome: &TaskOutcome,
) -> Result<(), Error> {
    let handle = run.states.source(asked.source).await?;
    let known = handle.look(|state| state.feed.clone());
    let next = next_feed(known.as_ref(), &asked, outcome);
    let moved = next
        .as_ref()
        .is_some_and(|next| is_moved(known.as_ref(), next));
    let states = outcome.partitions.iter().enumerate();
    let states = states.map(|(index, it)| (it.partition, raw_state(outcome, it, index == 0)));
    let days: Vec<(Partition, RawState)> = states.collect();
    if moved || !days.is_empty() {
        let (added, tail, at) = (days.clone(), outcome.tail.clone(), outcome.extracted_at);
        let resume = asked.resume;
        handle
            .commit(move |state| {
                state.not_available = None;
                drop_tail(state, resume.as_ref(), &added);
                for (day, raw) in added {
                    add_rows(&mut state.partition_mut(day).raw, raw);
                }
                if next.is_some() {
                    state.feed = next;
                }
                if let Some(tail) = tail {
                    store_tail(state, tail, at);
                }
            })
            .await?;
    }
    for (extracted, (_, raw)) in outcome.partitions.iter().zip(&days) {
        observe(run, extracted, raw, false);
    }
    Ok(())
}

/// Adds rows of a feed to those of their day.
fn add_rows(day: &mut Option<RawState>, brought: RawState) {
    match day {
        Some(before) => {
            before.objects.extend(brought.objects);
            before.records += brought.records;
            before.rescued += brought.rescued;
            before.content = brought.content;
            before.extracted_at = brought.extracted_at;
        }
        none => *none = Some(brought),
    }
}

/// The position of a feed after what was read of it.
fn next_feed(known: Option<&Feed>, asked: &FeedAsked<'_>, outcome: &TaskOutcome) -> Option<Feed> {
    let Position { query, cursor } = outcome.feed.clone()?;
    let gaps = match (known, &asked.resume) {
        (Some(known), None) => known.gaps_from(asked.since),
        (Some(known), Some(_)) => known.gaps.clone(),
        (None, _) => Vec::new(),
    };
    let Some(until) = asked.until.filter(|_| outcome.is_past) else {
        // While a feed has more pages, its position in time is the one at which reading began.
        let since = if outcome.more {
            asked.since
        } else {
            outcome.extracted_at - TimeDelta::days(1)
        };
        return Some(Feed {
            query,
            cursor,
            at: outcome.extracted_at,
            since: Some(since),
            contiguous_since: None,
            gaps,
        });
    };
    let end = day_window(until).start;
    // A cursor that is returned again keeps its age.
    let stands = known.filter(|before| before.cursor == cursor && before.query == query);
    let at = stands.map_or(outcome.extracted_at, |before| before.at);
    let since = stands.and_then(|before| before.since);
    Some(Feed {
        query,
        cursor,
        at,
        since: since.or(Some(end - TimeDelta::days(1))),
        contiguous_since: Some(end),
        gaps,
    })
}

/// Whether the position must be written. An unchanged cursor is written again only to keep its age correct.
pub(super) fn is_moved(before: Option<&Feed>, position: &Feed) -> bool {
    before.is_none_or(|before| {
        before.cursor != position.cursor
            || before.query != position.query
            || before.contiguous_since != position.contiguous_since
            || before.gaps != position.gaps
            || (before.since.is_some() && position.since.is_none())
            || position.at - before.at > TimeDelta::days(1)
    })
}

pub(super) fn raw_state(outcome: &TaskOutcome, extracted: &Extracted, first: bool) -> RawState {
    RawState {
        objects: extracted.objects.clone(),
        records: if first { outcome.records } else { 0 },
        out_of_window: extracted.out_of_window,
        rescued: extracted.rescued,
        content: outcome.content.clone(),
        extracted_at: outcome.extracted_at,
    }
}

pub(super) fn observe(run: &Run, extracted: &Extracted, raw: &RawState, unchanged: bool) {
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

/// Removes objects that no state will list. What cannot be removed is a leftover for `clean`.
pub(super) async fn discard(bucket: &Bucket, objects: &[ObjectRef]) {
    for object in objects {
        let path = Path::from(object.path.as_str());
        if let Err(error) = bucket.store().delete(&path).await {
            tracing::debug!(object = object.path, %error, "leftover stays");
        }
    }
}
