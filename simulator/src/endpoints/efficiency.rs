//! Driver efficiency, over whole hours of at most 31 days.

use serde_json::{Value, json};

use super::filters::{self, TagFilter};
use super::groups;
use crate::paging::Call;
use crate::query::Refusal;
use crate::time::{DAY, HOUR, Millis, wire_time};
use crate::world::Driver;

/// Drivers on a page.
const PAGE: usize = 20;

const LONGEST: Millis = 31 * DAY;

pub(super) fn summaries(call: &Call<'_>) -> Result<Value, Refusal> {
    let (from, to) = window(call)?;
    let ids = call.query.list("driverIds");
    let tags = TagFilter::named(call, "driverTagIds", "driverParentTagIds");
    let status = filters::activation_status(call)?;
    if !ids.is_empty() && (!tags.is_empty() || call.query.first("driverActivationStatus").is_some())
    {
        return Err(Refusal::bad(
            "driverIds cannot be combined with tags or driverActivationStatus.",
        ));
    }
    let asked = |driver: &&Driver| match ids.is_empty() {
        true => {
            driver.activation_status() == status
                && tags.lets(driver.tags.as_deref().unwrap_or_default())
        }
        false => ids.contains(&driver.driver.id.as_str()),
    };
    let drivers: Vec<&Driver> = call.world.drivers.iter().filter(asked).collect();
    let size = call.page_size(PAGE, false)?;
    let page = groups::page(call, &drivers, size, |driver| {
        let efficiency = call.world.efficiency(driver, from, to);
        efficiency
            .iter()
            .map(|efficiency| call.wire.efficiency(efficiency))
            .collect()
    })?;
    let data = json!({
        "summaryStartTime": wire_time(from),
        "summaryEndTime": wire_time(to),
        "driverSummaries": page.records,
    });
    Ok(call.wrap(
        data,
        [
            ("endCursor", page.end_cursor.into()),
            ("hasNextPage", page.has_next.into()),
        ],
    ))
}

/// Both ends are truncated to the hour; by default the window is the last day.
fn window(call: &Call<'_>) -> Result<(Millis, Millis), Refusal> {
    let now = call.world.clock.now();
    let hour = |time: Millis| time.div_euclid(HOUR) * HOUR;
    let to = hour(call.query.optional_time("endTime")?.unwrap_or(now));
    let from = hour(call.query.optional_time("startTime")?.unwrap_or(to - DAY));
    if from > now || to > now {
        return Err(Refusal::bad(
            "startTime and endTime cannot be in the future.",
        ));
    }
    match to - from {
        ..0 => Err(Refusal::bad("endTime is before startTime.")),
        length if length > LONGEST => Err(Refusal::bad("The window is longer than 31 days.")),
        _ => Ok((from, to)),
    }
}
