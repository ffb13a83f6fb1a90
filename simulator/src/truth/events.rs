//! Trips, alerts and audit logs.

use serde_json::{Value, json};

use super::{Days, Row, distinct, ids, row, text, time};
use crate::time::{DAY, days_touching};
use crate::world::{Incident, Stop, World};

pub(super) fn trips(world: &World, days: Days) -> Vec<Row> {
    let mut rows = Vec::new();
    for vehicle in &world.vehicles {
        for trip in world.trips_starting(vehicle, days.from, days.to) {
            let mut columns = row([
                ("vehicle_id", vehicle.id.to_string().into()),
                ("driver_id", trip.driver.map(|id| id.to_string()).into()),
                ("startTime", time(trip.start)),
                ("endTime", trip.end.map_or(Value::Null, time)),
                // 0 stands for an odometer that could not be read.
                (
                    "startOdometer",
                    Some(trip.start_odometer)
                        .filter(|metres| *metres != 0)
                        .into(),
                ),
                (
                    "endOdometer",
                    Some(trip.end_odometer).filter(|metres| *metres != 0).into(),
                ),
                ("distanceMeters", trip.distance.into()),
                ("fuelConsumedMl", trip.fuel.into()),
                ("tollMeters", trip.toll_distance.into()),
                ("codriverIds", trip.codrivers.as_slice().into()),
                ("assetIds", trip.trailers.as_slice().into()),
            ]);
            stop(&mut columns, "start", &trip.from);
            stop(&mut columns, "end", &trip.to);
            rows.push(columns);
        }
    }
    distinct(rows)
}

/// One row per trip and attached asset.
pub(super) fn trip_assets(world: &World, days: Days) -> Vec<Row> {
    let mut rows = Vec::new();
    for vehicle in &world.vehicles {
        for trip in world.trips_starting(vehicle, days.from, days.to) {
            rows.extend(trip.trailers.iter().map(|trailer| {
                row([
                    ("vehicle_id", vehicle.id.to_string().into()),
                    ("startTime", time(trip.start)),
                    ("asset_id", trailer.to_string().into()),
                ])
            }));
        }
    }
    distinct(rows)
}

/// One row per trip and co-driver.
pub(super) fn trip_codrivers(world: &World, days: Days) -> Vec<Row> {
    let mut rows = Vec::new();
    for vehicle in &world.vehicles {
        for trip in world.trips_starting(vehicle, days.from, days.to) {
            rows.extend(trip.codrivers.iter().map(|codriver| {
                row([
                    ("vehicle_id", vehicle.id.to_string().into()),
                    ("startTime", time(trip.start)),
                    ("driver_id", trip.driver.map(|id| id.to_string()).into()),
                    ("codriver_id", codriver.to_string().into()),
                ])
            }));
        }
    }
    distinct(rows)
}

fn stop(columns: &mut Row, which: &str, stop: &Stop) {
    let address = stop.address.as_ref();
    columns.insert(format!("{which}Location"), stop.location.as_str().into());
    columns.insert(
        format!("{which}Address_id"),
        address.map(|address| address.id.to_string()).into(),
    );
    columns.insert(
        format!("{which}Address_name"),
        address.map(|address| address.name).into(),
    );
    columns.insert(
        format!("{which}Address_address"),
        address.map(|address| address.text).into(),
    );
    columns.insert(format!("{which}Coordinates_latitude"), stop.latitude.into());
    columns.insert(
        format!("{which}Coordinates_longitude"),
        stop.longitude.into(),
    );
}

pub(super) fn configurations(world: &World, _: Days) -> Vec<Row> {
    let rows = world.configurations.iter().map(|configuration| {
        let operational = configuration.operational.clone().unwrap_or_default();
        row([
            ("id", configuration.id.as_str().into()),
            ("name", configuration.name.as_str().into()),
            ("isEnabled", configuration.enabled.into()),
            ("createdAtTime", time(configuration.created)),
            ("lastModifiedAtTime", time(configuration.modified)),
            ("externalIds", ids(configuration.external_ids.as_ref())),
            ("scope", configuration.scope.clone()),
            ("scope_all", configuration.scope["all"].clone()),
            ("scope_assets", configuration.scope["assets"].clone()),
            ("scope_drivers", configuration.scope["drivers"].clone()),
            ("scope_tags", configuration.scope["tags"].clone()),
            ("scope_widgets", configuration.scope["widgets"].clone()),
            ("triggers", configuration.triggers.clone()),
            ("actions", configuration.actions.clone()),
            ("operationalSettings", operational.clone()),
            (
                "operationalSettings_timeRangeType",
                operational["timeRangeType"].clone(),
            ),
            (
                "operationalSettings_timeRanges",
                operational["timeRanges"].clone(),
            ),
        ])
    });
    rows.collect()
}

/// Incidents that happened before the end of the days and have changed since their beginning.
fn changed_incidents(world: &World, days: Days) -> Vec<Incident> {
    let (from, to) = world.within_data(days.from.saturating_sub(2 * DAY), days.to);
    let incidents = days_touching(from, to).flat_map(|day| {
        world
            .configurations
            .iter()
            .flat_map(move |watched| world.incidents(watched, day))
    });
    incidents
        .filter(|incident| incident.happened < days.to && incident.updated >= days.from)
        .collect()
}

/// Incident conditions that were met, by their position among the conditions.
pub(super) fn incident_conditions(world: &World, days: Days) -> Vec<Row> {
    let mut rows = Vec::new();
    for incident in changed_incidents(world, days) {
        let conditions = incident.conditions.as_array().cloned().unwrap_or_default();
        for (position, condition) in (1..).zip(&conditions) {
            let of = |name: &str| condition.get(name).cloned().unwrap_or(Value::Null);
            rows.push(row([
                ("configurationId", incident.configuration.as_str().into()),
                ("happenedAtTime", time(incident.happened)),
                ("incidentUrl", incident.url.as_str().into()),
                ("position", Value::from(position)),
                ("triggerId", of("triggerId")),
                ("description", of("description")),
                ("details", of("details")),
            ]));
        }
    }
    distinct(rows)
}

pub(super) fn incidents(world: &World, days: Days) -> Vec<Row> {
    let incidents = changed_incidents(world, days).into_iter();
    distinct(incidents.map(|incident| {
        row([
            ("configurationId", incident.configuration.as_str().into()),
            ("happenedAtTime", time(incident.happened)),
            ("updatedAtTime", time(incident.updated)),
            (
                "resolvedAtTime",
                incident.resolved.map_or(Value::Null, time),
            ),
            ("isResolved", incident.resolved.is_some().into()),
            ("incidentUrl", incident.url.as_str().into()),
            ("conditions", incident.conditions),
        ])
    }))
}

/// What was logged on the days, up to the world's present time.
pub(super) fn audit_logs(world: &World, days: Days) -> Vec<Row> {
    let (from, to) = world.within_data(days.from, days.to.min(world.clock.now().saturating_add(1)));
    let logs = days_touching(from, to)
        .flat_map(|day| world.audit_logs(day))
        .filter(|log| (from..to).contains(&log.time));
    distinct(logs.map(|log| {
        let labels = log.behaviours.as_ref().map(|labels| -> Value {
            labels
                .iter()
                .map(|(kind, name)| json!({ "type": kind, "name": name }))
                .collect()
        });
        row([
            ("id", log.id.as_str().into()),
            ("time", time(log.time)),
            ("type", log.kind.into()),
            ("safetyEvent_id", log.event_id.as_str().into()),
            ("safetyEvent_uuid", text(log.event_uuid.as_deref())),
            ("safetyEvent_time", time(log.event_time)),
            (
                "safetyEvent_driver_id",
                log.driver.map(|id| id.to_string()).into(),
            ),
            ("safetyEvent_vehicle_id", log.vehicle.to_string().into()),
            ("safetyEvent_behaviorLabels", labels.into()),
        ])
    }))
}
