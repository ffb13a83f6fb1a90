//! Readings of vehicle statistics.

use serde_json::{Value, json};

use super::{Days, Row, distinct, id_and_name, row, text, time};
use crate::world::{Point, Reading, Shape, StatType, Vehicle, World};

/// Every reading of one statistic in some days, with its vehicle.
pub(super) fn each_reading<'a>(
    world: &'a World,
    stat: &str,
    days: Days,
) -> impl Iterator<Item = (&'a Vehicle, Reading)> {
    let stat = StatType::named(stat);
    world.vehicles.iter().flat_map(move |vehicle| {
        let readings = stat
            .map(|stat| world.readings(vehicle, stat, days.from, days.to))
            .unwrap_or_default();
        readings.into_iter().map(move |reading| (vehicle, reading))
    })
}

/// The readings of a statistic that has one value. Measured numbers may have fractions in the table; counters and
/// codes have none.
pub(super) fn plain(world: &World, stat: &str, days: Days) -> Vec<Row> {
    let measured = StatType::named(stat).is_some_and(|stat| matches!(stat.shape, Shape::Whole(..)));
    let code = stat == "evChargingStatus";
    distinct(
        each_reading(world, stat, days).filter_map(|(vehicle, reading)| {
            let value = match reading.point {
                Point::Whole(value) if measured && !code => (value as f64).into(),
                Point::Whole(value) => value.into(),
                Point::Decimal(value) => value.into(),
                Point::Word(word) => word.into(),
                _ => return None,
            };
            let mut columns = common(vehicle, &reading);
            columns.insert(stat.to_owned(), value);
            Some(columns)
        }),
    )
}

/// What every row of a statistic begins with.
pub(super) fn common(vehicle: &Vehicle, reading: &Reading) -> Row {
    row([
        ("vehicle_id", vehicle.id.to_string().into()),
        ("parc_id", vehicle.name.as_str().into()),
        ("time", time(reading.time)),
    ])
}

pub(super) fn engine_immobilizer(world: &World, days: Days) -> Vec<Row> {
    distinct(
        each_reading(world, "engineImmobilizer", days).filter_map(|(vehicle, reading)| {
            let Point::Immobilizer { connected, state } = reading.point else {
                return None;
            };
            let mut columns = common(vehicle, &reading);
            columns.append(&mut row([
                ("engine_immobilizer_connected", connected.into()),
                ("engine_immobilizer_state", state.into()),
            ]));
            Some(columns)
        }),
    )
}

pub(super) fn card_scans(world: &World, days: Days) -> Vec<Row> {
    distinct(
        each_reading(world, "nfcCardScans", days).filter_map(|(vehicle, reading)| {
            let Point::Card(id) = &reading.point else {
                return None;
            };
            let mut columns = common(vehicle, &reading);
            columns.insert("card_id".to_owned(), id.as_str().into());
            Some(columns)
        }),
    )
}

/// The API documents no fields of these: all are one column.
pub(super) fn lights(world: &World, days: Days) -> Vec<Row> {
    distinct(
        each_reading(world, "tellTales", days).filter_map(|(vehicle, reading)| {
            let Point::TellTales(lights) = &reading.point else {
                return None;
            };
            let mut columns = common(vehicle, &reading);
            let value = match lights.len() {
                0 => Value::Null,
                count => json!({ "count": count }),
            };
            columns.append(&mut row([
                ("tellTales", value),
                ("tellTales_fields", json!({ "lights": lights })),
            ]));
            Some(columns)
        }),
    )
}

pub(super) fn auxiliary_inputs(world: &World, days: Days) -> Vec<Row> {
    let of_input = |input: u64| {
        each_reading(world, &format!("auxInput{input}"), days)
            .filter_map(move |(vehicle, reading)| {
                let Point::Auxiliary { name, on } = reading.point else {
                    return None;
                };
                let mut columns = common(vehicle, &reading);
                columns.append(&mut row([
                    ("input", input.into()),
                    ("name", name.into()),
                    ("value", on.into()),
                ]));
                Some(columns)
            })
            .collect::<Vec<_>>()
    };
    distinct((1..=13).flat_map(of_input))
}

pub(super) fn gps(world: &World, days: Days) -> Vec<Row> {
    distinct(
        each_reading(world, "gps", days).filter_map(|(vehicle, reading)| {
            let Point::Gps(fix) = reading.point else {
                return None;
            };
            let (address_id, address_name) = id_and_name(fix.address.as_ref());
            Some(row([
                ("vehicle_id", vehicle.id.to_string().into()),
                ("parc_id", vehicle.name.as_str().into()),
                ("time", time(reading.time)),
                ("latitude", fix.latitude.into()),
                ("longitude", fix.longitude.into()),
                ("headingDegrees", fix.heading.into()),
                ("speedMilesPerHour", fix.speed.into()),
                ("isEcuSpeed", fix.ecu_speed.into()),
                (
                    "reverseGeo_formattedLocation",
                    text(fix.location.as_deref()),
                ),
                ("address_id", address_id),
                ("address_name", address_name),
            ]))
        }),
    )
}
