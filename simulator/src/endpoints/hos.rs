//! Hours of service: clocks, daily logs, violations.

use serde_json::Value;

use super::{filters, groups};
use crate::paging::{Call, Empty, Paging};
use crate::query::Refusal;
use crate::world::{Driver, VIOLATIONS};

/// Records on a page.
const CLOCKS_PAGE: usize = 512;
const LOGS_PAGE: usize = 25;
const VIOLATIONS_PAGE: usize = 5;

/// Of all drivers, whether active or not.
pub(super) fn clocks(call: &Call<'_>) -> Result<Value, Refusal> {
    let size = call.page_size(CLOCKS_PAGE, true)?;
    let drivers = filters::drivers(call);
    let page = call.list_page(Paging::AFTER, &drivers, size, |driver| {
        call.wire.hos_clock(&call.world.hos_clock(driver))
    })?;
    Ok(call.envelope(page, Empty::List))
}

pub(super) fn daily_logs(call: &Call<'_>) -> Result<Value, Refusal> {
    let (first, last) = (call.query.date("startDate")?, call.query.date("endDate")?);
    if last < first {
        return Err(Refusal::bad("endDate is before startDate."));
    }
    if last > call.world.today() {
        return Err(Refusal::bad("endDate cannot be in the future."));
    }
    let status = filters::activation_status(call)?;
    let expanded = call.query.list("expand").contains(&"vehicle");
    let mut drivers = filters::drivers(call);
    drivers.retain(|driver| driver.activation_status() == status);
    let size = call.page_size(LOGS_PAGE, false)?;
    let page = groups::page(call, &drivers, size, |driver| {
        let logs = (first..=last).filter_map(|date| call.world.daily_log(driver, date));
        logs.map(|log| call.wire.daily_log(&log, expanded))
            .collect()
    })?;
    Ok(call.envelope(page, Empty::List))
}

/// One record per driver, with all violations of that driver in it.
pub(super) fn violations(call: &Call<'_>) -> Result<Value, Refusal> {
    let (from, to) = filters::window_or_now(call)?;
    let kinds = call.query.list("types");
    if let Some(kind) = kinds.iter().find(|kind| !known(kind)) {
        return Err(Refusal::bad(format!("Invalid violation type: {kind}.")));
    }
    let drivers: Vec<&Driver> = filters::drivers(call);
    let size = call.page_size(VIOLATIONS_PAGE, false)?;
    let page = groups::page(call, &drivers, size, |driver| {
        let mut violations = call.world.violations(driver, from, to);
        violations.retain(|violation| kinds.is_empty() || kinds.contains(&violation.kind));
        if violations.is_empty() {
            Vec::new()
        } else {
            vec![call.wire.violations(&violations)]
        }
    })?;
    Ok(call.envelope(page, Empty::List))
}

fn known(kind: &str) -> bool {
    const OTHERS: &[&str] = &[
        "NONE",
        "californiaMealbreakMissed",
        "cycleOffHoursAfterOnDutyHours",
        "dailyDrivingHours",
        "dailyOffDutyTotalHours",
        "dailyOnDutyHours",
        "mandatory24HoursOffDuty",
        "shiftOnDutyHours",
    ];
    OTHERS.contains(&kind) || VIOLATIONS.iter().any(|(violation, _)| *violation == kind)
}
