//! Change feeds: which past days of a source have changed.

use chrono::{DateTime, Utc};
use tokio::sync::Semaphore;

use super::commit_raw::is_moved;
use super::run::{Run, ends_run};
use crate::clock;
use crate::error::Error;
use crate::extract::{Changes, Extractor};
use crate::samsara::{SamsaraError, Watch};
use crate::state::{Feed, Position, SourceHandle};
use crate::store::layout::Partition;

/// Reads a source's change feed to its end, and commits the days that have changed together with the feed's position.
pub(super) async fn read_change_feed(
    run: &Run,
    extractor: &Extractor,
    slots: &Semaphore,
    name: &str,
) -> Result<(), Error> {
    // The plan names only sources that have one.
    let Some(feed) = run.catalog.change_feed(run.catalog.known_source(name)?) else {
        return Ok(());
    };
    let handle = run.states.source(name).await?;
    let mut watch = Watch::default();
    let mut is_dead = false;
    while !run.shutdown.is_cancelled() {
        let began = clock::now();
        let resume = handle
            .look(|state| state.feed.clone())
            .filter(|before| !is_dead && crate::plan::is_alive(before, began))
            .map(|before| before.position());
        let is_cold = resume.is_none();
        let slot = slots.acquire().await;
        let result = tokio::select! {
            () = run.shutdown.cancelled() => return Ok(()),
            result = extractor.changes(&feed, resume, &watch) => result,
        };
        drop(slot);
        match result {
            Ok(changes) => {
                commit_changes(&handle, &changes, began, is_cold).await?;
                if !changes.more {
                    return Ok(());
                }
            }
            Err(error) if error.is_dead_cursor() && !is_cold => {
                tracing::warn!(source = name, %error, "cursor dropped, the change feed starts over");
                // The position stays until a new one is known: it is the time since which changes are unknown.
                (is_dead, watch) = (true, Watch::default());
            }
            Err(error) => return report_failure(run, &handle, name, Error::Extract(error)),
        }
    }
    Ok(())
}

/// If a change feed cannot be read, only its days are not found; the run ends only if nothing else could succeed
/// either.
fn report_failure(run: &Run, handle: &SourceHandle, name: &str, error: Error) -> Result<(), Error> {
    if ends_run(&error) {
        return Err(error);
    }
    match &error {
        // If the organisation does not have the feed, days are read again for `lookback_days`, as without `changes`.
        Error::Extract(error)
            if error.api().is_some_and(|error| {
                matches!(error, SamsaraError::NotFound { .. })
                    || (error.is_unavailable() && !run.is_named(name))
            }) && handle.look(|state| state.feed.is_none()) =>
        {
            tracing::info!(source = name, %error, "no change feed: late data are found by lookback");
        }
        _ => run.failed(name, None, &error),
    }
    Ok(())
}

/// Marks changed days and moves the feed's position, in one commit.
///
/// If the feed started without a position, all days are marked that late data may have reached since the previous
/// position.
async fn commit_changes(
    handle: &SourceHandle,
    changes: &Changes,
    began: DateTime<Utc>,
    is_cold: bool,
) -> Result<(), Error> {
    let Position { query, cursor } = changes.position.clone();
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
        // If its position is lost, days are read again.
        gaps: Vec::new(),
    };
    // Days that were never requested do not matter. A day that was partly read must not resume from its checkpoint.
    let mut days: Vec<Partition> = changes.days.iter().copied().map(Partition::Day).collect();
    if is_cold {
        let unverified = handle.look(crate::plan::unverified_days);
        days.extend(unverified.into_iter().map(Partition::Day));
        if let (Some(first), Some(last)) = (days.iter().min(), days.iter().max()) {
            let (source, days) = (handle.look(|state| state.source.clone()), days.len());
            tracing::warn!(source, days, %first, %last, "no change feed was read meanwhile: days are read again");
        }
    }
    let moved = handle.look(|state| is_moved(state.feed.as_ref(), &position));
    if moved || !days.is_empty() {
        let at = clock::now();
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
