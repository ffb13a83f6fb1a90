//! Lists: the organisation, vehicles, drivers, tags.

use serde_json::{Value, json};

use super::filters;
use crate::paging::{Call, Empty, Paging};
use crate::query::Refusal;
use crate::time::Millis;
use crate::world::{Driver, TagRef, Vehicle};

/// Records on a page of these lists.
const PAGE: usize = 512;

pub(super) fn me(call: &Call<'_>) -> Result<Value, Refusal> {
    Ok(json!({
        "data": {
            "id": "61",
            "name": "Transports Fictifs S.A.",
            "carrierSettings": {
                "carrierName": "Transports Fictifs S.A.",
                "dotNumber": 98_231,
                "mainOfficeAddress": "12 Rue du Port, Lyon",
            },
            "region": call.world.region.name(),
        },
    }))
}

pub(super) fn vehicles(call: &Call<'_>) -> Result<Value, Refusal> {
    let size = call.page_size(PAGE, true)?;
    let filter = Filter::of(call)?;
    let vehicles: Vec<&Vehicle> = call
        .world
        .vehicles
        .iter()
        .filter(|vehicle| {
            filter.lets(
                vehicle.tags.as_deref(),
                vehicle.created,
                Some(vehicle.updated),
            )
        })
        .collect();
    let page = call.list_page(Paging::AFTER, &vehicles, size, |vehicle| {
        call.wire.vehicle(vehicle)
    })?;
    Ok(call.envelope(page, Empty::List))
}

pub(super) fn drivers(call: &Call<'_>) -> Result<Value, Refusal> {
    let size = call.page_size(PAGE, true)?;
    let filter = Filter::of(call)?;
    let status = filters::activation_status(call)?;
    let drivers: Vec<&Driver> = call
        .world
        .drivers
        .iter()
        .filter(|driver| driver.activation_status() == status)
        .filter(|driver| filter.lets(driver.tags.as_deref(), driver.created, driver.updated))
        .collect();
    let page = call.list_page(Paging::AFTER, &drivers, size, |driver| {
        call.wire.driver(driver)
    })?;
    Ok(call.envelope(page, Empty::List))
}

pub(super) fn tags(call: &Call<'_>) -> Result<Value, Refusal> {
    let size = call.page_size(PAGE, true)?;
    let page = call.list_page(Paging::AFTER, &call.world.tags, size, |tag| {
        call.wire.tag(tag)
    })?;
    Ok(call.envelope(page, Empty::Null))
}

/// The filters that vehicles and drivers share.
struct Filter<'a> {
    tags: Vec<&'a str>,
    created_after: Option<Millis>,
    updated_after: Option<Millis>,
}

impl<'a> Filter<'a> {
    fn of(call: &Call<'a>) -> Result<Self, Refusal> {
        Ok(Self {
            tags: call.query.list("tagIds"),
            created_after: call.query.optional_time("createdAfterTime")?,
            updated_after: call.query.optional_time("updatedAfterTime")?,
        })
    }

    fn lets(&self, tags: Option<&[TagRef]>, created: Millis, updated: Option<Millis>) -> bool {
        let tagged = || {
            tags.unwrap_or_default()
                .iter()
                .any(|tag| self.tags.contains(&tag.tag.id.as_str()))
        };
        (self.tags.is_empty() || tagged())
            && self.created_after.is_none_or(|after| created > after)
            && self
                .updated_after
                .is_none_or(|after| updated.unwrap_or(created) > after)
    }
}
