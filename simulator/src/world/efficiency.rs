//! How efficiently drivers drive.

use serde_json::{Value, json};

use super::World;
use super::draw::Draw;
use super::drivers::Driver;
use super::vehicles::Vehicle;
use crate::time::{DAY, Millis, day_start, days_touching};

/// A measure: its name for a driver, its name for one of the driver's vehicles, and its daily maximum.
pub(crate) const MEASURES: [(&str, &str, i64); 12] = [
    (
        "anticipationBrakeEventCount",
        "anticipationBrakeEventCount",
        40,
    ),
    ("coastingDurationMs", "coastingDurationMs", 4_000_000),
    (
        "cruiseControlDurationMs",
        "cruiseControlDurationMs",
        12_000_000,
    ),
    (
        "greenBandDrivingDurationMs",
        "greenBandDrivingDurationMs",
        20_000_000,
    ),
    ("highTorqueMs", "highTorqueMs", 3_000_000),
    ("overSpeedMs", "overSpeedMs", 900_000),
    ("totalBrakeEventCount", "totalBrakeEventCount", 700),
    ("totalDistanceDrivenMeters", "distanceDrivenMeters", 640_000),
    (
        "totalDriveTimeDurationMs",
        "driveTimeDurationMs",
        36_000_000,
    ),
    ("totalFuelConsumedMl", "fuelConsumedMl", 190_000),
    ("totalIdleTimeDurationMs", "idleTimeDurationMs", 5_000_000),
    (
        "totalPowerTakeOffDurationMs",
        "powerTakeOffDurationMs",
        1_000_000,
    ),
];

/// A driver's measures in a window, in the order of [`MEASURES`].
#[derive(Debug, Clone)]
pub(crate) struct Efficiency<'a> {
    pub(crate) driver: &'a Driver,
    pub(crate) vehicles: Vec<(&'a Vehicle, [i64; MEASURES.len()])>,
}

impl Efficiency<'_> {
    /// The sums over the vehicles.
    pub(crate) fn totals(&self) -> [i64; MEASURES.len()] {
        std::array::from_fn(|index| {
            self.vehicles
                .iter()
                .map(|(_, measures)| measures[index])
                .sum()
        })
    }

    /// The measures of each vehicle.
    pub(crate) fn vehicles_json(&self) -> Value {
        let summaries = self.vehicles.iter().map(|(vehicle, measures)| {
            let mut about = vehicle.named().json();
            if let Some(ids) = &vehicle.external_ids {
                about["ExternalIds"] = json!(ids);
            }
            let mut summary = json!({ "vehicle": about });
            for ((_, name, _), measure) in MEASURES.iter().zip(measures) {
                summary[*name] = (*measure).into();
            }
            summary
        });
        summaries.collect()
    }
}

impl World {
    /// The efficiency of a driver over a half-open window; `None` for one who did not drive.
    pub(crate) fn efficiency<'a>(
        &'a self,
        driver: &'a Driver,
        from: Millis,
        to: Millis,
    ) -> Option<Efficiency<'a>> {
        let (start, end) = self.within_data(from, to.min(self.clock.now()));
        let mut vehicles: Vec<(&Vehicle, [i64; MEASURES.len()])> = Vec::new();
        for day in days_touching(start, end) {
            // A window that cuts a day gets its share of it.
            let covered = end.min(day_start(day + 1)) - start.max(day_start(day));
            for vehicle in self.workday(driver, day) {
                let key = [driver.index, vehicle.index, day as u64];
                let mut draw = Draw::new(self.seed, "efficiency", &key);
                let measures = MEASURES.map(|(.., most)| draw.between(0, most) * covered / DAY);
                match vehicles
                    .iter_mut()
                    .find(|(known, _)| known.index == vehicle.index)
                {
                    Some((_, sums)) => sums
                        .iter_mut()
                        .zip(measures)
                        .for_each(|(sum, measure)| *sum += measure),
                    None => vehicles.push((vehicle, measures)),
                }
            }
        }
        (!vehicles.is_empty()).then_some(Efficiency { driver, vehicles })
    }
}
