//! Safety events, scores and idling.

use serde_json::Value;

use super::{Days, Row, distinct, id_and_name, ids, key_of, row, text, time};
use crate::time::{day_start, days_touching};
use crate::world::{BehaviourLabel, World};

/// One row per label; an event without labels has one too.
pub(super) fn events(world: &World, days: Days) -> Vec<Row> {
    let mut rows = Vec::new();
    for vehicle in &world.vehicles {
        for event in world.safety_events(vehicle, days.from, days.to) {
            let (driver_id, driver_name) = id_and_name(event.driver.map(|driver| &driver.driver));
            let columns = row([
                ("event_id", event.id().into()),
                ("time", time(event.time)),
                ("vehicle_id", vehicle.id.to_string().into()),
                ("vehicle_name", vehicle.name.as_str().into()),
                (
                    "vehicle_ExternalIds_samsara_serial",
                    key_of(vehicle.external_ids.as_ref(), "samsara.serial"),
                ),
                (
                    "vehicle_ExternalIds_samsara_vin",
                    key_of(vehicle.external_ids.as_ref(), "samsara.vin"),
                ),
                ("vehicle_ExternalIds", ids(vehicle.external_ids.as_ref())),
                ("driver_id", driver_id),
                ("driver_name", driver_name),
                ("coachingState", text(event.coaching)),
                ("maxAccelerationGForce", event.acceleration.into()),
                ("location_latitude", event.latitude.into()),
                ("location_longitude", event.longitude.into()),
                ("downloadForwardVideoUrl", event.video(0).into()),
                ("downloadInwardVideoUrl", event.video(1).into()),
                ("downloadTrackedInwardVideoUrl", event.video(2).into()),
            ]);
            let mut labels: Vec<Option<&BehaviourLabel>> =
                event.labels.iter().flatten().map(Some).collect();
            if labels.is_empty() {
                labels.push(None);
            }
            for label in labels {
                let mut columns = columns.clone();
                columns.append(&mut row([
                    ("behavior_label", label.map(|label| label.label).into()),
                    ("behavior_name", text(label.and_then(|label| label.name))),
                    ("behavior_source", label.map(|label| label.source).into()),
                ]));
                rows.push(columns);
            }
        }
    }
    distinct(rows)
}

/// One row per event and label.
pub(super) fn behaviors(world: &World, days: Days) -> Vec<Row> {
    let mut rows = Vec::new();
    for vehicle in &world.vehicles {
        for event in world.safety_events(vehicle, days.from, days.to) {
            let (driver_id, _) = id_and_name(event.driver.map(|driver| &driver.driver));
            rows.extend(event.labels.iter().flatten().map(|label| {
                row([
                    ("event_id", event.id().into()),
                    ("time", time(event.time)),
                    ("vehicle_id", vehicle.id.to_string().into()),
                    ("driver_id", driver_id.clone()),
                    ("label", label.label.into()),
                    ("name", text(label.name)),
                    ("source", label.source.into()),
                ])
            }));
        }
    }
    distinct(rows)
}

/// One row per vehicle and UTC day that has begun, whether the vehicle was used or not.
pub(super) fn scores(world: &World, days: Days) -> Vec<Row> {
    let scores = days_touching(days.from, days.to.min(world.clock.now())).flat_map(|day| {
        let (from, to) = (day_start(day), day_start(day + 1) - 1);
        world.vehicles.iter().map(move |vehicle| {
            let score = world.safety_score(vehicle, from, to);
            row([
                ("date", time(from)),
                ("vehicleId", vehicle.id.to_string().into()),
                ("safetyScore", (score.score as f64).into()),
                ("safetyScoreRank", score.rank.as_str().into()),
                ("crashCount", score.crashes.into()),
                ("harshAccelCount", score.accelerations.into()),
                ("harshBrakingCount", score.brakings.into()),
                ("harshTurningCount", score.turns.into()),
                ("totalHarshEventCount", score.harsh.len().into()),
                ("timeOverSpeedLimitMs", score.over_speed.into()),
                ("totalDistanceDrivenMeters", (score.distance as f64).into()),
                ("totalTimeDrivenMs", score.driven.into()),
                ("harshEvents", score.harsh_json()),
            ])
        })
    });
    scores.collect()
}

pub(super) fn idling(world: &World, days: Days) -> Vec<Row> {
    let mut rows = Vec::new();
    for vehicle in &world.vehicles {
        for idling in world.idling(vehicle, days.from, days.to) {
            let address = idling.address.as_ref();
            rows.push(row([
                ("vehicle_id", vehicle.id.to_string().into()),
                ("parc_id", vehicle.name.as_str().into()),
                ("vehicle_externalIds", ids(vehicle.external_ids.as_ref())),
                ("startTime", time(idling.start)),
                ("endTime", time(idling.end)),
                ("durationMs", (idling.end - idling.start).into()),
                ("fuelConsumptionMl", idling.fuel.into()),
                ("isPtoActive", idling.power_take_off.into()),
                (
                    "address_formatted",
                    address.map_or(Value::Null, |address| text(address.text.as_deref())),
                ),
                (
                    "address_latitude",
                    address.map(|address| address.latitude).into(),
                ),
                (
                    "address_longitude",
                    address.map(|address| address.longitude).into(),
                ),
            ]));
        }
    }
    distinct(rows)
}
