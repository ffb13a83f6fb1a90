//! Idling by start time. Besides the events the response repeats the window.

use serde_json::Value;

use super::{filters, groups};
use crate::paging::{Call, Empty};
use crate::query::Refusal;
use crate::time::{MINUTE, wire_time};

/// Records on a page.
const PAGE: usize = 512;

pub(super) fn idling(call: &Call<'_>) -> Result<Value, Refusal> {
    let (from, to) = filters::window(call)?;
    let power_take_off = call.query.flag("isPtoActive")?;
    let shortest = match call.query.first("minIdlingDurationMinutes") {
        None => 0,
        Some(text) => {
            let minutes = text.parse::<i64>().ok().filter(|minutes| *minutes >= 0);
            minutes
                .ok_or_else(|| Refusal::bad("minIdlingDurationMinutes is not a number."))?
                .saturating_mul(MINUTE)
        }
    };
    let vehicles = filters::vehicles(call);
    let size = call.page_size(PAGE, true)?;
    let page = groups::page(call, &vehicles, size, |vehicle| {
        let mut stretches = call.world.idling(vehicle, from, to);
        stretches.retain(|stretch| {
            stretch.end - stretch.start >= shortest
                && power_take_off.is_none_or(|on| stretch.power_take_off == on)
        });
        stretches
            .iter()
            .map(|stretch| call.wire.idling(vehicle, stretch))
            .collect()
    })?;
    let mut envelope = call.envelope(page, Empty::List);
    envelope["requestStartTime"] = wire_time(from).into();
    envelope["requestEndTime"] = wire_time(to).into();
    Ok(envelope)
}
