//! Trips, as a v1 endpoint: one vehicle per request, no pages, everything that overlaps the window.

use axum::http::StatusCode;
use serde_json::{Map, Value};

use crate::paging::Call;
use crate::query::Refusal;
use crate::time::DAY;

/// The longest window.
const LONGEST: i64 = 90 * DAY;

pub(super) fn trips(call: &Call<'_>) -> Result<Value, Refusal> {
    let id = call.query.v1_number("vehicleId")?;
    let (from, to) = (
        call.query.v1_number("startMs")?,
        call.query.v1_number("endMs")?,
    );
    if to < from {
        return Err(Refusal::rpc("endMs before startMs"));
    }
    if to.saturating_sub(from) > LONGEST {
        return Err(Refusal::rpc("window longer than 90 days"));
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
    let trips = call.world.trips_overlapping(vehicle, from, to);
    let mut envelope = Map::new();
    envelope.insert(
        "trips".to_owned(),
        trips.iter().map(|trip| call.wire.trip(trip)).collect(),
    );
    call.wire.strange_envelope(&mut envelope);
    Ok(envelope.into())
}
