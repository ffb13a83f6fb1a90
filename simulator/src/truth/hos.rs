//! Hours of service.

use serde_json::Value;

use super::{Days, Row, distinct, id_and_name, ids, key_of, row, text, time};
use crate::time::{day_start, days_touching};
use crate::world::{DURATIONS, DailyLog, RuleSet, Vehicle, World};

pub(super) fn clocks(world: &World, _: Days) -> Vec<Row> {
    let double = |number: Option<i64>| Value::from(number.map(|number| number as f64));
    let rows = world.drivers.iter().map(|driver| {
        let clock = world.hos_clock(driver);
        let (vehicle_id, vehicle_name) = id_and_name(clock.vehicle.map(Vehicle::named).as_ref());
        let vehicle_ids = clock
            .vehicle
            .and_then(|vehicle| vehicle.external_ids.as_ref());
        row([
            ("driver_id", driver.driver.id.as_str().into()),
            ("driver_name", driver.driver.name.as_str().into()),
            ("currentDutyStatus_hosStatusType", text(clock.status)),
            ("currentVehicle_id", vehicle_id),
            ("currentVehicle_name", vehicle_name),
            (
                "currentVehicle_ExternalIds_samsara_serial",
                key_of(vehicle_ids, "samsara.serial"),
            ),
            (
                "currentVehicle_ExternalIds_samsara_vin",
                key_of(vehicle_ids, "samsara.vin"),
            ),
            ("currentVehicle_ExternalIds", ids(vehicle_ids)),
            (
                "clocks_break_timeUntilBreakDurationMs",
                double(clock.until_break),
            ),
            (
                "clocks_cycle_cycleRemainingDurationMs",
                double(clock.cycle_remaining),
            ),
            (
                "clocks_cycle_cycleStartedAtTime",
                clock.cycle_started.map_or(Value::Null, time),
            ),
            (
                "clocks_cycle_cycleTomorrowDurationMs",
                double(clock.cycle_tomorrow),
            ),
            (
                "clocks_drive_driveRemainingDurationMs",
                double(clock.drive_remaining),
            ),
            (
                "clocks_shift_shiftRemainingDurationMs",
                double(clock.shift_remaining),
            ),
            (
                "violations_cycleViolationDurationMs",
                double(clock.violations.map(|[cycle, _]| cycle)),
            ),
            (
                "violations_shiftDrivingViolationDurationMs",
                double(clock.violations.map(|[_, shift]| shift)),
            ),
        ])
    });
    distinct(rows)
}

/// A log belongs to its date in the organisation's zone, by which it is requested, and not to the UTC day of its start.
pub(super) fn daily_logs(world: &World, days: Days) -> Vec<Row> {
    let logs = days_touching(days.from, days.to).flat_map(|date| {
        world
            .drivers
            .iter()
            .filter_map(move |driver| Some(daily_log(&world.daily_log(driver, date)?, date)))
    });
    distinct(logs)
}

fn daily_log(log: &DailyLog<'_>, date: i64) -> Row {
    let driver = log.driver;
    let rule_sets: Option<Value> = driver
        .rule_sets
        .as_ref()
        .map(|rule_sets| rule_sets.iter().map(RuleSet::json).collect());
    let carrier = driver.carrier.as_ref();
    let distance =
        |index: usize| Value::from(log.distances.map(|distances| distances[index] as f64));
    let [adverse, big_day, short_haul] = log.flags;
    let mut columns = row([
        ("date", time(day_start(date))),
        ("driver_id", driver.driver.id.as_str().into()),
        ("driver_name", driver.driver.name.as_str().into()),
        ("driver_timezone", driver.time_zone.into()),
        ("driver_eldSettings_rulesets", rule_sets.into()),
        ("driver_externalIds", ids(driver.external_ids.as_ref())),
        ("startTime", time(log.start)),
        ("endTime", time(log.end)),
        ("distanceTraveled_driveDistanceMeters", distance(0)),
        (
            "distanceTraveled_personalConveyanceDistanceMeters",
            distance(1),
        ),
        ("distanceTraveled_yardMoveDistanceMeters", distance(2)),
        ("logMetaData_adverseDrivingClaimed", adverse.into()),
        ("logMetaData_bigDayClaimed", big_day.into()),
        (
            "logMetaData_carrierFormattedAddress",
            carrier.map(|carrier| carrier.main_office).into(),
        ),
        (
            "logMetaData_carrierName",
            carrier.map(|carrier| carrier.name).into(),
        ),
        (
            "logMetaData_carrierUsDotNumber",
            carrier.and_then(|carrier| carrier.dot_number).into(),
        ),
        (
            "logMetaData_certifiedAtTime",
            log.certified.map_or(Value::Null, time),
        ),
        (
            "logMetaData_homeTerminalFormattedAddress",
            carrier.map(|carrier| carrier.home_terminal_address).into(),
        ),
        (
            "logMetaData_homeTerminalName",
            carrier.map(|carrier| carrier.home_terminal).into(),
        ),
        ("logMetaData_isCertified", log.certified.is_some().into()),
        ("logMetaData_isUsShortHaulActive", short_haul.into()),
        ("logMetaData_shippingDocs", text(log.shipping)),
        ("logMetaData_trailerNames", log.trailers.clone().into()),
        ("logMetaData_vehicles", log.vehicles_json(true).into()),
    ]);
    for (index, name) in DURATIONS.iter().enumerate() {
        columns.insert(
            format!("dutyStatusDurations_{name}"),
            log.durations[index].into(),
        );
        let pending: Option<i64> = log.pending.map(|pending| pending[index]);
        columns.insert(format!("pendingDutyStatusDurations_{name}"), pending.into());
    }
    columns
}

pub(super) fn violations(world: &World, days: Days) -> Vec<Row> {
    let violations = world
        .drivers
        .iter()
        .flat_map(|driver| world.violations(driver, days.from, days.to));
    distinct(violations.map(|violation| {
        let driver = violation.driver;
        row([
            ("driver_id", driver.driver.id.as_str().into()),
            ("driver_name", driver.driver.name.as_str().into()),
            ("driver_externalIds", ids(driver.external_ids.as_ref())),
            ("type", violation.kind.into()),
            ("description", violation.description.into()),
            ("violationStartTime", time(violation.start)),
            ("durationMs", violation.duration.into()),
            ("day_startTime", time(violation.day.0)),
            ("day_endTime", time(violation.day.1)),
        ])
    }))
}
