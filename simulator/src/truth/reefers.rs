//! Refrigeration units, one table per series.

use serde_json::Value;

use super::{Days, Row, distinct, row, text, time};
use crate::world::{Alarm, Change, Series, World};

pub(super) fn ambient_air_temperature(world: &World, days: Days) -> Vec<Row> {
    changes(
        world,
        days,
        Series::AmbientAirTemperature,
        "ambientAirTemperatureMilliCelsius",
    )
}

pub(super) fn discharge_air_temperature(world: &World, days: Days) -> Vec<Row> {
    changes(
        world,
        days,
        Series::DischargeAirTemperature,
        "dischargeAirTemperatureMilliCelsius",
    )
}

pub(super) fn return_air_temperature(world: &World, days: Days) -> Vec<Row> {
    changes(
        world,
        days,
        Series::ReturnAirTemperature,
        "returnAirTemperatureMilliCelsius",
    )
}

pub(super) fn set_point(world: &World, days: Days) -> Vec<Row> {
    changes(world, days, Series::SetPoint, "setPointMilliCelsius")
}

pub(super) fn engine_hours(world: &World, days: Days) -> Vec<Row> {
    changes(world, days, Series::EngineHours, "engineHours")
}

pub(super) fn fuel_percentage(world: &World, days: Days) -> Vec<Row> {
    changes(world, days, Series::FuelPercentage, "fuelPercentage")
}

pub(super) fn power_status(world: &World, days: Days) -> Vec<Row> {
    changes(world, days, Series::PowerStatus, "powerStatus")
}

/// One row per change and alarm; a change to no alarms has one row, which says that all were cleared.
pub(super) fn alarms(world: &World, days: Days) -> Vec<Row> {
    each_change(world, days, Series::ReeferAlarms, |columns, change| {
        let Change::Alarms(alarms) = change else {
            return Vec::new();
        };
        let mut alarms: Vec<Option<&Alarm>> = alarms.iter().map(Some).collect();
        if alarms.is_empty() {
            alarms.push(None);
        }
        let rows = alarms.into_iter().map(|alarm| {
            let mut columns = columns.clone();
            columns.append(&mut row([
                ("alarm_alarmCode", alarm.and_then(|alarm| alarm.code).into()),
                (
                    "alarm_description",
                    alarm.map(|alarm| alarm.description).into(),
                ),
                (
                    "alarm_operatorAction",
                    text(alarm.and_then(|alarm| alarm.action)),
                ),
                ("alarm_severity", alarm.map(|alarm| alarm.severity).into()),
            ]));
            columns
        });
        rows.collect()
    })
}

/// One row per change, with its value in one column.
fn changes(world: &World, days: Days, series: Series, column: &str) -> Vec<Row> {
    each_change(world, days, series, |mut columns, change| {
        let value: Value = match change {
            Change::Temperature(milli) => (*milli).into(),
            Change::Hours(value) | Change::Percent(value) => (*value).into(),
            Change::Power(status) => (*status).into(),
            Change::Alarms(_) => return Vec::new(),
        };
        columns.insert(column.to_owned(), value);
        vec![columns]
    })
}

fn each_change(
    world: &World,
    days: Days,
    series: Series,
    rows: impl Fn(Row, &Change) -> Vec<Row>,
) -> Vec<Row> {
    let mut all = Vec::new();
    for trailer in &world.trailers {
        for change in world.reefer_changes(trailer, series, days.from, days.to) {
            let mut columns = row([
                ("asset_id", trailer.id.to_string().into()),
                ("asset_name", trailer.name.as_str().into()),
                ("assetType", text(trailer.reefer)),
            ]);
            columns.insert(format!("{}ChangedAt", series.name()), time(change.time));
            all.extend(rows(columns, &change.change));
        }
    }
    distinct(all)
}
