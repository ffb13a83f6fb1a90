//! Refrigeration units, as v1 endpoints: epoch milliseconds, errors in plain text, `startingAfter`.

use serde_json::Value;

use crate::paging::{Call, Paging};
use crate::query::Refusal;
use crate::world::{Series, Trailer};

/// Trailers on a page.
const PAGE: usize = 3;

pub(super) fn reefers(call: &Call<'_>) -> Result<Value, Refusal> {
    let (from, to) = (
        call.query.v1_number("startMs")?,
        call.query.v1_number("endMs")?,
    );
    if to < from {
        return Err(Refusal::rpc("endMs before startMs"));
    }
    let size = call
        .page_size(PAGE, true)
        .map_err(|refusal| Refusal::rpc(refusal.message.trim_end_matches('.')))?;
    let trailers: Vec<&Trailer> = call
        .world
        .trailers
        .iter()
        .filter(|trailer| trailer.reefer.is_some())
        .collect();
    // The end is part of the window.
    let write = |trailer: &&Trailer| {
        let changes = |series| {
            (
                series,
                call.world
                    .reefer_changes(trailer, series, from, to.saturating_add(1)),
            )
        };
        call.wire.reefer(trailer, &Series::ALL.map(changes))
    };
    let page = call.list_page(Paging::STARTING_AFTER, &trailers, size, write)?;
    let given = call.query.first(Paging::STARTING_AFTER.cursor);
    Ok(call.wrap(
        Value::Array(page.records),
        [
            ("startCursor", given.unwrap_or_default().into()),
            ("endCursor", page.end_cursor.into()),
            ("hasNextPage", page.has_next.into()),
            ("hasPrevPage", given.is_some().into()),
        ],
    ))
}
