//! Vehicles and their daily fuel reports.

use serde_json::Value;

use super::{Days, Row, id_and_name, ids, row, tag_list, text, time};
use crate::time::{day_start, days_touching};
use crate::world::{Attribute, FuelReport, Vehicle, World};

pub(super) fn vehicles(world: &World, _: Days) -> Vec<Row> {
    world.vehicles.iter().map(vehicle).collect()
}

fn vehicle(vehicle: &Vehicle) -> Row {
    let gateway = vehicle.gateway.as_ref();
    let (driver_id, driver_name) = id_and_name(vehicle.driver.as_ref());
    let external = |key: &str| {
        vehicle
            .external_ids
            .as_ref()
            .and_then(|ids| ids.get(key))
            .map(String::as_str)
    };
    let mut columns = row([
        ("vehicle_id", vehicle.id.to_string().into()),
        ("parc_id", vehicle.name.as_str().into()),
        ("vin", text(vehicle.vin.as_deref())),
        (
            "serial",
            gateway.map(|gateway| gateway.serial.as_str()).into(),
        ),
        ("make", text(vehicle.make)),
        ("model", text(vehicle.model)),
        ("year", vehicle.year.map(|year| year.to_string()).into()),
        ("licensePlate", text(vehicle.license_plate.as_deref())),
        ("notes", vehicle.notes.into()),
        ("esn", text(vehicle.esn.as_deref())),
        ("cameraSerial", text(vehicle.camera_serial.as_deref())),
        ("vehicleType", text(vehicle.kind)),
        ("vehicleRegulationMode", text(vehicle.regulation_mode)),
        ("harshAccelerationSettingType", vehicle.harsh_setting.into()),
        (
            "isRemotePrivacyButtonEnabled",
            vehicle.privacy_button.into(),
        ),
        ("vehicleWeight", vehicle.weight_kg.into()),
        ("vehicleWeightInKilograms", vehicle.weight_kg.into()),
        ("vehicleWeightInPounds", vehicle.weight_lb().into()),
        (
            "gateway_serial",
            gateway.map(|gateway| gateway.dashed_serial()).into(),
        ),
        ("gateway_model", gateway.map(|gateway| gateway.model).into()),
        ("staticAssignedDriver_id", driver_id),
        ("staticAssignedDriver_name", driver_name),
        (
            "externalIds_samsara_serial",
            text(external("samsara.serial")),
        ),
        ("externalIds_samsara_vin", text(external("samsara.vin"))),
        ("externalIds", ids(vehicle.external_ids.as_ref())),
        ("tags", tag_list(vehicle.tags.as_deref())),
        ("attributes", attribute_list(vehicle.attributes.as_deref())),
        (
            "sensorConfiguration",
            vehicle.sensor_configuration().unwrap_or_default(),
        ),
        ("createdAtTime", time(vehicle.created)),
        ("updatedAtTime", time(vehicle.updated)),
    ]);
    for input in 1..=13 {
        let used_for = vehicle
            .auxiliary_inputs
            .iter()
            .find(|(wired, _)| *wired == input)
            .map(|(_, used_for)| *used_for);
        columns.insert(format!("auxInputType{input}"), used_for.into());
    }
    columns
}

pub(super) fn attribute_list(attributes: Option<&[Attribute]>) -> Value {
    attributes.map_or(Value::Null, |attributes| {
        attributes.iter().map(Attribute::json).collect()
    })
}

pub(super) fn fuel_energy(world: &World, days: Days) -> Vec<Row> {
    let reports = days_touching(days.from, days.to).flat_map(|day| {
        let (from, to) = (day_start(day), day_start(day + 1));
        world.vehicles.iter().filter_map(move |vehicle| {
            let mut columns = fuel_columns(&world.fuel_report(vehicle, from, to)?);
            columns.append(&mut row([
                ("date", time(from)),
                ("vehicle_id", vehicle.id.to_string().into()),
                ("parc_id", vehicle.name.as_str().into()),
                ("vehicle_energyType", vehicle.energy.name().into()),
                ("vehicle_externalIds", ids(vehicle.external_ids.as_ref())),
            ]));
            Some(columns)
        })
    });
    reports.collect()
}

/// What the reports of vehicles and of drivers have in common.
pub(super) fn fuel_columns(report: &FuelReport) -> Row {
    row([
        ("distanceTraveledMeters", report.distance.into()),
        ("efficiencyMpge", report.efficiency.into()),
        ("energyUsedKwh", report.energy.into()),
        ("engineIdleTimeDurationMs", report.idle.into()),
        ("engineRunTimeDurationMs", report.running.into()),
        ("estCarbonEmissionsKg", report.carbon.into()),
        ("estFuelEnergyCost_amount", report.cost.into()),
        ("estFuelEnergyCost_currencyCode", report.currency.into()),
        ("fuelConsumedMl", report.fuel.into()),
    ])
}
