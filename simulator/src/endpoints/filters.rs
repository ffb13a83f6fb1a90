//! Filters that several endpoints share.

use crate::paging::Call;
use crate::query::Refusal;
use crate::time::Millis;
use crate::world::{Driver, TagRef, Vehicle};

/// The requested tags: themselves, or as parents of others.
#[derive(Debug)]
pub(super) struct TagFilter<'a> {
    tags: Vec<&'a str>,
    parents: Vec<&'a str>,
}

impl<'a> TagFilter<'a> {
    pub(super) fn of(call: &Call<'a>) -> Self {
        Self::named(call, "tagIds", "parentTagIds")
    }

    pub(super) fn named(call: &Call<'a>, tags: &str, parents: &str) -> Self {
        Self {
            tags: call.query.list(tags),
            parents: call.query.list(parents),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tags.is_empty() && self.parents.is_empty()
    }

    pub(super) fn lets(&self, carried: &[TagRef]) -> bool {
        self.is_empty()
            || carried.iter().any(|carried| {
                let id = carried.tag.id.as_str();
                let below =
                    |parent: &str| id == parent || carried.parent.as_deref() == Some(parent);
                self.tags.contains(&id) || self.parents.iter().any(|parent| below(parent))
            })
    }
}

/// The drivers requested by id and tag.
pub(super) fn drivers<'a>(call: &Call<'a>) -> Vec<&'a Driver> {
    let ids = call.query.list("driverIds");
    let tags = TagFilter::of(call);
    let asked = |driver: &&Driver| {
        (ids.is_empty() || ids.contains(&driver.driver.id.as_str()))
            && tags.lets(driver.tags.as_deref().unwrap_or_default())
    };
    call.world.drivers.iter().filter(asked).collect()
}

/// The vehicles requested by id and tag.
pub(super) fn vehicles<'a>(call: &Call<'a>) -> Vec<&'a Vehicle> {
    let ids = call.query.list("vehicleIds");
    let tags = TagFilter::of(call);
    let asked = |vehicle: &&Vehicle| {
        (ids.is_empty() || ids.contains(&vehicle.id.to_string().as_str()))
            && tags.lets(vehicle.tags.as_deref().unwrap_or_default())
    };
    call.world.vehicles.iter().filter(asked).collect()
}

/// The requested activation status, exactly one: active by default.
pub(super) fn activation_status<'a>(call: &Call<'a>) -> Result<&'a str, Refusal> {
    let mut asked = call.query.all("driverActivationStatus");
    match (asked.next(), asked.next()) {
        (None, _) => Ok("active"),
        (Some(status @ ("active" | "deactivated")), None) => Ok(status),
        _ => Err(Refusal::bad(
            "driverActivationStatus must be active or deactivated.",
        )),
    }
}

/// A window of which both ends are required.
pub(super) fn window(call: &Call<'_>) -> Result<(Millis, Millis), Refusal> {
    ordered(call.query.time("startTime")?, call.query.time("endTime")?)
}

/// A window whose missing ends are the present.
pub(super) fn window_or_now(call: &Call<'_>) -> Result<(Millis, Millis), Refusal> {
    let now = call.world.clock.now();
    let end = |name| Ok::<_, Refusal>(call.query.optional_time(name)?.unwrap_or(now));
    ordered(end("startTime")?, end("endTime")?)
}

fn ordered(from: Millis, to: Millis) -> Result<(Millis, Millis), Refusal> {
    if to < from {
        Err(Refusal::bad("endTime is before startTime."))
    } else {
        Ok((from, to))
    }
}
