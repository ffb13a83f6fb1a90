//! Who drove what: whatever overlaps the window, fifty to a page.

use serde_json::Value;

use super::filters::{self, TagFilter};
use super::groups;
use crate::paging::{Call, Empty};
use crate::query::Refusal;
use crate::world::Vehicle;

/// Records on a page, whatever `limit` says.
const PAGE: usize = 50;

/// The types that may be requested; the answer may have newer ones.
pub(crate) const KINDS: &[&str] = &[
    "HOS",
    "idCard",
    "static",
    "faceId",
    "tachograph",
    "safetyManual",
    "RFID",
    "trailer",
    "external",
    "qrCode",
    "driverApp",
    "voiceSignIn",
    "smartAssign",
];

pub(super) fn assignments(call: &Call<'_>) -> Result<Value, Refusal> {
    // Either value leads to the same rows.
    match call.query.first("filterBy") {
        Some("drivers" | "vehicles") => {}
        Some(_) => return Err(Refusal::bad("filterBy must be drivers or vehicles.")),
        None => return Err(Refusal::bad("filterBy is required.")),
    }
    let kind = call.query.first("assignmentType");
    if let Some(unknown) = kind.filter(|kind| !KINDS.contains(kind)) {
        return Err(Refusal::bad(format!("Invalid assignmentType: {unknown}.")));
    }
    let (from, to) = filters::window_or_now(call)?;
    let (driver_ids, vehicle_ids) = (call.query.list("driverIds"), call.query.list("vehicleIds"));
    let driver_tags = TagFilter::named(call, "driverTagIds", "");
    let vehicle_tags = TagFilter::named(call, "vehicleTagIds", "");
    let asked = |vehicle: &&Vehicle| {
        (vehicle_ids.is_empty() || vehicle_ids.contains(&vehicle.id.to_string().as_str()))
            && vehicle_tags.lets(vehicle.tags.as_deref().unwrap_or_default())
    };
    let vehicles: Vec<&Vehicle> = call.world.vehicles.iter().filter(asked).collect();
    let size = call.page_size(PAGE, false)?;
    let page = groups::page(call, &vehicles, size, |vehicle| {
        // The end is exclusive, unless nothing else is in the window.
        let assignments = call
            .world
            .assignments_overlapping(vehicle, from, (to - 1).max(from));
        assignments
            .iter()
            // Without a type, only assignments during the vehicle's trips are returned.
            .filter(|one| kind.map_or(one.of_trip, |kind| one.kind == kind))
            .filter(|one| {
                driver_ids.is_empty() || driver_ids.contains(&one.driver.driver.id.as_str())
            })
            .filter(|one| driver_tags.lets(one.driver.tags.as_deref().unwrap_or_default()))
            .map(|one| call.wire.assignment(one))
            .collect()
    })?;
    Ok(call.envelope(page, Empty::Null))
}
