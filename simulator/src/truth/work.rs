//! Assignments, documents, and how efficiently drivers drive.

use serde_json::Value;

use super::vehicles::fuel_columns;
use super::{Days, Row, distinct, id_and_name, ids, key_of, row, text, time};
use crate::time::{day_start, days_touching};
use crate::world::{Document, ExternalIds, MEASURES, Named, Vehicle, World};

pub(super) fn assignments(world: &World, days: Days) -> Vec<Row> {
    let mut rows = Vec::new();
    for vehicle in &world.vehicles {
        for assignment in world.assignments_starting(vehicle, days.from, days.to) {
            let driver = assignment.driver;
            let mut columns = row([
                ("driver_id", driver.driver.id.as_str().into()),
                ("driver_name", driver.driver.name.as_str().into()),
                ("driver_externalIds", ids(driver.external_ids.as_ref())),
                ("startTime", time(assignment.start)),
                ("endTime", assignment.end.map_or(Value::Null, time)),
                (
                    "assignedAtTime",
                    assignment.assigned.map_or(Value::Null, time),
                ),
                ("assignmentType", assignment.kind.into()),
                ("isPassenger", assignment.passenger.into()),
                ("metadata_sourceName", text(assignment.source)),
            ]);
            columns.append(&mut vehicle_columns(Some(vehicle)));
            rows.push(columns);
        }
    }
    distinct(rows)
}

fn vehicle_columns(vehicle: Option<&Vehicle>) -> Row {
    let (id, name) = id_and_name(vehicle.map(Vehicle::named).as_ref());
    let external_ids = vehicle.and_then(|vehicle| vehicle.external_ids.as_ref());
    row([
        ("vehicle_id", id),
        ("vehicle_name", name),
        (
            "vehicle_externalIds_samsara_serial",
            key_of(external_ids, "samsara.serial"),
        ),
        (
            "vehicle_externalIds_samsara_vin",
            key_of(external_ids, "samsara.vin"),
        ),
        ("vehicle_externalIds", ids(external_ids)),
    ])
}

pub(super) fn document_types(world: &World, _: Days) -> Vec<Row> {
    let rows = world.document_types.iter().map(|form| {
        row([
            ("id", form.id.as_str().into()),
            ("name", form.name.into()),
            ("orgId", form.organisation.to_string().into()),
            ("fieldTypes", form.fields.clone().into()),
            ("conditionalFieldSections", form.sections.clone().into()),
        ])
    });
    rows.collect()
}

pub(super) fn documents(world: &World, days: Days) -> Vec<Row> {
    let (from, to) = world.within_data(days.from, days.to);
    let documents = days_touching(from, to).flat_map(|day| world.documents(day));
    distinct(
        documents
            .filter(|document| (from..to).contains(&document.created))
            .map(document),
    )
}

fn document(document: Document<'_>) -> Row {
    let driver = document.driver;
    let mut columns = row([
        ("id", document.id.as_str().into()),
        ("name", text(document.name.as_deref())),
        ("state", document.state.into()),
        ("notes", text(document.notes)),
        ("createdAtTime", time(document.created)),
        ("updatedAtTime", document.updated.map_or(Value::Null, time)),
        ("documentType_id", document.form.id.as_str().into()),
        ("documentType_name", document.form.name.into()),
        ("driver_id", driver.driver.id.as_str().into()),
        ("driver_name", driver.driver.name.as_str().into()),
        ("driver_externalIds", ids(driver.external_ids.as_ref())),
        ("fields", document.fields),
        ("conditionalFieldSections", document.sections.into()),
    ]);
    columns.append(&mut vehicle_columns(document.vehicle));
    columns.append(&mut place_columns("route", document.route.as_ref()));
    columns.append(&mut place_columns("routeStop", document.stop.as_ref()));
    columns
}

fn place_columns(kind: &str, place: Option<&(Named, Option<ExternalIds>)>) -> Row {
    let (id, name) = id_and_name(place.map(|(named, _)| named));
    let external_ids = ids(place.and_then(|(_, external_ids)| external_ids.as_ref()));
    let columns = [("id", id), ("name", name), ("externalIds", external_ids)];
    columns
        .into_iter()
        .map(|(name, value)| (format!("{kind}_{name}"), value))
        .collect()
}

/// One row per driver and UTC day.
pub(super) fn fuel_energy(world: &World, days: Days) -> Vec<Row> {
    let reports = days_touching(days.from, days.to).flat_map(|day| {
        let (from, to) = (day_start(day), day_start(day + 1));
        world.drivers.iter().filter_map(move |driver| {
            let mut columns = fuel_columns(&world.driver_fuel_report(driver, from, to)?);
            columns.append(&mut row([
                ("date", time(from)),
                ("driver_id", driver.driver.id.as_str().into()),
                ("driver_name", driver.driver.name.as_str().into()),
                ("driver_externalIds", ids(driver.external_ids.as_ref())),
            ]));
            Some(columns)
        })
    });
    distinct(reports)
}

/// One row per driver and UTC day. Events are counted; all else may have fractions.
pub(super) fn efficiency(world: &World, days: Days) -> Vec<Row> {
    let summaries = days_touching(days.from, days.to).flat_map(|day| {
        let (from, to) = (day_start(day), day_start(day + 1));
        world.drivers.iter().filter_map(move |driver| {
            let efficiency = world.efficiency(driver, from, to)?;
            let mut columns = row([
                ("date", time(from)),
                ("driver_id", driver.driver.id.as_str().into()),
                ("driver_name", driver.driver.name.as_str().into()),
                ("driver_username", driver.username.as_str().into()),
                ("driver_externalIds", ids(driver.external_ids.as_ref())),
                ("vehicleSummaries", efficiency.vehicles_json()),
            ]);
            for ((name, ..), total) in MEASURES.iter().zip(efficiency.totals()) {
                let counted = name.ends_with("Count");
                columns.insert(
                    (*name).to_owned(),
                    if counted {
                        total.into()
                    } else {
                        (total as f64).into()
                    },
                );
            }
            Some(columns)
        })
    });
    distinct(summaries)
}
