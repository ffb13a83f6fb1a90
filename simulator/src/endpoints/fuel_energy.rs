//! Fuel and energy of vehicles and of drivers over exactly the requested window. The rows have no time.

use serde_json::{Value, json};

use super::{filters, groups};
use crate::config::FuelWindow;
use crate::paging::{Call, Page, Paging};
use crate::query::Refusal;
use crate::time::{DAY, MINUTE, Millis, parse_date};

/// Vehicles on a page, whatever `limit` says.
const PAGE: usize = 100;

pub(super) fn report(call: &Call<'_>) -> Result<Value, Refusal> {
    let (from, to) = window(call)?;
    let energy = match call.query.first("energyType") {
        None => None,
        Some(energy @ ("fuel" | "hybrid" | "electric")) => Some(energy),
        Some(_) => return Err(Refusal::bad("energyType must be fuel, hybrid or electric.")),
    };
    let ids = call.query.list("vehicleIds");
    let reports: Vec<_> = call
        .world
        .vehicles
        .iter()
        .filter(|vehicle| energy.is_none_or(|energy| vehicle.energy.name() == energy))
        .filter(|vehicle| ids.is_empty() || ids.contains(&vehicle.id.to_string().as_str()))
        .filter_map(|vehicle| {
            call.world
                .fuel_report(vehicle, from, to)
                .map(|report| (vehicle, report))
        })
        .collect();
    let size = call.page_size(PAGE, false)?;
    let page = call.list_page(Paging::AFTER, &reports, size, |(vehicle, report)| {
        call.wire.fuel_report(vehicle, report)
    })?;
    Ok(answer(call, "vehicleReports", page))
}

pub(super) fn driver_report(call: &Call<'_>) -> Result<Value, Refusal> {
    let (from, to) = window(call)?;
    let drivers = filters::drivers(call);
    let size = call.page_size(PAGE, false)?;
    let page = groups::page(call, &drivers, size, |driver| {
        let report = call.world.driver_fuel_report(driver, from, to);
        report
            .iter()
            .map(|report| call.wire.driver_fuel_report(driver, report))
            .collect()
    })?;
    Ok(answer(call, "driverReports", page))
}

/// The list of reports is one field of `data`, which is null when there are none.
fn answer(call: &Call<'_>, list: &str, page: Page) -> Value {
    let data = if page.records.is_empty() {
        Value::Null
    } else {
        json!({ list: page.records })
    };
    call.wrap(
        data,
        [
            ("endCursor", page.end_cursor.into()),
            ("hasNextPage", page.has_next.into()),
        ],
    )
}

fn window(call: &Call<'_>) -> Result<(Millis, Millis), Refusal> {
    let (from, to) = match call.fuel_window {
        FuelWindow::Exact => {
            let to = call.query.time("endDate")?;
            // The last millisecond or second of a day means the whole day.
            (
                call.query.time("startDate")?,
                (to + MINUTE - 1).div_euclid(MINUTE) * MINUTE,
            )
        }
        FuelWindow::WholeDays => {
            let date = |name| {
                call.query.time(name)?;
                call.query
                    .first(name)
                    .and_then(parse_date)
                    .ok_or_else(|| Refusal::bad(format!("{name} is not a date.")))
            };
            (date("startDate")?, date("endDate")? + DAY)
        }
    };
    if to < from {
        return Err(Refusal::bad("endDate is before startDate."));
    }
    Ok((from, to))
}
