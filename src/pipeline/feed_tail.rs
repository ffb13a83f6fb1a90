//! The rows of requested days on the page at which a feed was left: its tail.
//!
//! A feed is left at the page on which the requested days end. When its other days are requested, that page comes again
//! as a whole; until then its rows of requested days are in separate objects, listed by the tail, a checkpoint without
//! requests.

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use crate::state::{Checkpoint, CheckpointResult, Feed, Position, RawState, SourceState};
use crate::store::layout::Partition;

/// Removes what an earlier run took from the page at the feed's position, once that page has been read as a whole.
pub(super) fn drop_tail(
    state: &mut SourceState,
    resumed: Option<&Position>,
    brought: &[(Partition, RawState)],
) {
    let is_read_again = |feed: &Feed| resumed.is_some_and(|position| *position == feed.position());
    let tail = state
        .tail()
        .filter(|_| state.feed.as_ref().is_some_and(is_read_again))
        .cloned();
    // The checkpoint is obsolete: the feed has another position.
    let partitions = state.partitions.iter();
    let with_checkpoint = partitions.filter(|(_, found)| found.checkpoint.is_some());
    let with_checkpoint: Vec<Partition> = with_checkpoint.map(|(key, _)| *key).collect();
    for partition in with_checkpoint {
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
        let again = brought
            .iter()
            .filter(|(day, _)| day.to_string() == part.partition)
            .map(|(_, raw)| raw.rows());
        // A row that does not come again stays; the model drops the duplicates of the others.
        if again.sum::<u64>() >= rows {
            raw.objects.retain(|object| !part.objects.contains(object));
        }
    }
}

/// Stores what was taken from the page at the feed's position.
pub(super) fn store_tail(
    state: &mut SourceState,
    tail: CheckpointResult,
    extracted_at: DateTime<Utc>,
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
    let checkpoint = Checkpoint {
        asked,
        requests: 0,
        rest: Vec::new(),
        resume: None,
        extracted_at,
        whole,
        part: tail,
    };
    if state.partitions.contains_key(&first) {
        state.partition_mut(first).checkpoint = Some(Box::new(checkpoint));
    }
}
