//! Events in the order of their time, over all days from a first one: bounded, or endless.

use serde_json::Value;

use crate::cursor::Position;
use crate::paging::{Call, Found, Next, Page, Paging};
use crate::query::Refusal;
use crate::time::{Millis, day_of, day_start, days_touching};

/// The instants between which a UTC day lies.
pub(super) fn day(day: i64) -> (Millis, Millis) {
    (day_start(day), day_start(day + 1))
}

/// One page of a stream. `of_day` returns the events of a UTC day that have happened by now, oldest first.
///
/// A position is the day, the number of its events that were served, and the start of the window: new events of a day
/// only come at its end, so the position stays valid while the world's clock advances.
pub(super) fn page(
    call: &Call<'_>,
    paging: Paging,
    from: Option<Millis>,
    to: Option<Millis>,
    size: usize,
    of_day: impl Fn(i64) -> Vec<(Millis, Value)>,
) -> Result<Page, Refusal> {
    let now = call.world.clock.now();
    let start = || {
        // Without a start there is nothing but what is to come.
        let from = from.unwrap_or(now);
        let (from_in_data, _) = call.world.within_data(from, from);
        Ok(Position {
            since: day_of(from_in_data),
            until: from,
            ..Position::default()
        })
    };
    call.page(paging, start, |position| {
        let begin = position.until;
        if from.is_some_and(|from| from != begin) {
            return Err(Refusal::bad(
                "Parameters differ from previous paginated request.",
            ));
        }
        let end = to.unwrap_or(i64::MAX).min(now.saturating_add(1));
        let (_, last) = call.world.within_data(begin, end);
        let mut here = Position {
            paused: false,
            repeated: false,
            ..position
        };
        let mut records = Vec::new();
        for day in days_touching(day_start(position.since), last) {
            let events: Vec<Value> = of_day(day)
                .into_iter()
                .filter(|(time, _)| (begin..end).contains(time))
                .map(|(_, event)| event)
                .collect();
            let behind = if day == position.since {
                usize::try_from(position.offset).unwrap_or(0)
            } else {
                0
            };
            let rest = events.len().saturating_sub(behind);
            let taken = rest.min(size - records.len());
            records.extend(events.into_iter().skip(behind).take(taken));
            here = Position {
                since: day,
                offset: (behind + taken) as i64,
                ..here
            };
            if taken < rest {
                return Ok(Found {
                    records,
                    next: Next::More(here),
                });
            }
        }
        let next = match to {
            Some(_) => Next::End,
            // Nothing new: the cursor stays what it is.
            None if records.is_empty() => Next::Later(position),
            None => Next::Later(here),
        };
        Ok(Found { records, next })
    })
}
