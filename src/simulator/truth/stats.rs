//! Readings of vehicle statistics.

use super::{Days, Row, distinct, id_and_name, row, text, time};
use crate::simulator::world::{Point, Reading, StatType, Vehicle, World};

/// Every reading of one statistic in some days, with its vehicle.
pub(super) fn each_reading<'a>(
    world: &'a World,
    stat: &str,
    days: Days,
) -> impl Iterator<Item = (&'a Vehicle, Reading)> {
    let stat = StatType::named(stat);
    world.vehicles.iter().flat_map(move |vehicle| {
        let readings = stat.map(|stat| world.readings(vehicle, stat, days.from, days.to)).unwrap_or_default();
        readings.into_iter().map(move |reading| (vehicle, reading))
    })
}

pub(super) fn engine_rpm(world: &World, days: Days) -> Vec<Row> {
    distinct(each_reading(world, "engineRpm", days).filter_map(|(vehicle, reading)| {
        let Point::Whole(speed) = reading.point else {
            return None;
        };
        Some(row([
            ("vehicle_id", vehicle.id.to_string().into()),
            ("parc_id", vehicle.name.as_str().into()),
            ("time", time(reading.time)),
            ("engineRpm", (speed as f64).into()),
        ]))
    }))
}

pub(super) fn gps(world: &World, days: Days) -> Vec<Row> {
    distinct(each_reading(world, "gps", days).filter_map(|(vehicle, reading)| {
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
            ("reverseGeo_formattedLocation", text(fix.location.as_deref())),
            ("address_id", address_id),
            ("address_name", address_name),
        ]))
    }))
}
