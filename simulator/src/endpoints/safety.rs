//! Safety events of the older endpoint, and scores of a v1 endpoint.

use axum::http::StatusCode;
use serde_json::Value;

use super::{filters, stream};
use crate::paging::{Call, Empty, Paging};
use crate::query::Refusal;
use crate::time::HOUR;
use crate::world::SafetyEvent;

/// Records on a page, and the largest `limit`.
const PAGE: usize = 200;

pub(super) fn events(call: &Call<'_>) -> Result<Value, Refusal> {
    let (from, to) = filters::window(call)?;
    let vehicles = filters::vehicles(call);
    let size = call.limited_page_size(PAGE, PAGE as i64)?;
    let page = stream::page(call, Paging::AFTER, Some(from), Some(to), size, |day| {
        let (from, to) = stream::day(day);
        let mut events: Vec<SafetyEvent<'_>> = vehicles
            .iter()
            .flat_map(|vehicle| call.world.safety_events(vehicle, from, to))
            .collect();
        events.sort_by_key(|event| event.time);
        events
            .into_iter()
            .map(|event| (event.time, call.wire.safety_event(&event)))
            .collect()
    })?;
    Ok(call.envelope(page, Empty::List))
}

/// One object, which names neither window nor, except for its id, the vehicle. Both ends of the window are inclusive.
pub(super) fn score(call: &Call<'_>) -> Result<Value, Refusal> {
    let id: i64 = call
        .id
        .parse()
        .map_err(|_| Refusal::rpc(format!("vehicleId {:?} is not an int64", call.id)))?;
    let (from, to) = (
        call.query.v1_number("startMs")?,
        call.query.v1_number("endMs")?,
    );
    if to.saturating_sub(from) < HOUR {
        return Err(Refusal::rpc("window shorter than an hour"));
    }
    let vehicle = call
        .world
        .vehicles
        .iter()
        .find(|vehicle| i64::try_from(vehicle.id) == Ok(id))
        .ok_or_else(|| {
            Refusal::text(
                StatusCode::NOT_FOUND,
                format!("rpc error: code = NotFound desc = no vehicle {id}"),
            )
        })?;
    Ok(call
        .wire
        .safety_score(&call.world.safety_score(vehicle, from, to)))
}
