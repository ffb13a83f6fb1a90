//! Assignments, documents, and driver efficiency.

use serde_json::Value;

use super::vehicles::fuel_columns;
use super::{Days, Row, distinct, id_and_name, ids, key_of, row, text, time};
use crate::time::{day_start, days_touching, parse_time};
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
    distinct(documents_of(world, days).map(document))
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

/// The documents made on the days.
fn documents_of(world: &World, days: Days) -> impl Iterator<Item = Document<'_>> {
    let (from, to) = world.within_data(days.from, days.to);
    days_touching(from, to)
        .flat_map(|day| world.documents(day))
        .filter(move |document| (from..to).contains(&document.created))
}

/// One row per document and field that is filled in.
pub(super) fn document_fields(world: &World, days: Days) -> Vec<Row> {
    let rows = documents_of(world, days).flat_map(|document| {
        let (vehicle, _) = id_and_name(document.vehicle.map(Vehicle::named).as_ref());
        let fields = document.fields.as_array().cloned().unwrap_or_default();
        let rows: Vec<Row> = (0i64..)
            .zip(fields)
            .map(|(position, field)| {
                let value = &field["value"];
                let signature = &value["signatureValue"];
                row([
                    ("document_id", document.id.as_str().into()),
                    ("createdAtTime", time(document.created)),
                    ("driver_id", document.driver.driver.id.as_str().into()),
                    ("vehicle_id", vehicle.clone()),
                    ("position", position.into()),
                    ("label", field["label"].clone()),
                    ("type", field["type"].clone()),
                    ("stringValue", value["stringValue"].clone()),
                    ("numberValue", value["numberValue"].clone()),
                    ("dateTimeValue", moment(&value["dateTimeValue"]["dateTime"])),
                    ("multipleChoiceValue", value["multipleChoiceValue"].clone()),
                    ("barcodeValue", value["barcodeValue"].clone()),
                    ("photoValue", value["photoValue"].clone()),
                    (
                        "scannedDocumentValue",
                        value["scannedDocumentValue"].clone(),
                    ),
                    ("signatureValue_id", signature["id"].clone()),
                    ("signatureValue_name", signature["name"].clone()),
                    (
                        "signatureValue_signedAtTime",
                        moment(&signature["signedAtTime"]),
                    ),
                    ("signatureValue_url", signature["url"].clone()),
                ])
            })
            .collect();
        rows
    });
    distinct(rows)
}

/// One row per document and section of fields that an answer opens.
pub(super) fn document_sections(world: &World, days: Days) -> Vec<Row> {
    let rows = documents_of(world, days).flat_map(|document| {
        let sections = document.sections.as_ref().and_then(Value::as_array);
        let rows: Vec<Row> = (0i64..)
            .zip(sections.cloned().unwrap_or_default())
            .map(|(position, section)| {
                let mut columns = row([
                    ("document_id", document.id.as_str().into()),
                    ("createdAtTime", time(document.created)),
                    ("position", position.into()),
                ]);
                columns.extend(section.as_object().cloned().unwrap_or_default());
                columns
            })
            .collect();
        rows
    });
    distinct(rows)
}

/// An instant as a record writes it.
fn moment(value: &Value) -> Value {
    let at = value.as_str().and_then(parse_time);
    at.map_or(Value::Null, time)
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

/// One row per driver and UTC day. Counts are integers; all other values may have fractions.
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
