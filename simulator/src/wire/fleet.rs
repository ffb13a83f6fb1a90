//! Vehicles, their fuel reports, and tags.

use serde_json::Value;

use super::{Record, Wire, external_ids, named, tags};
use crate::time::wire_time;
use crate::world::{Attribute, FuelReport, Named, Tag, Vehicle, number};

impl Wire {
    pub(crate) fn vehicle(self, vehicle: &Vehicle) -> Value {
        let gateway = vehicle.gateway.as_ref().map(|gateway| {
            let record = Record::new()
                .put("serial", gateway.dashed_serial())
                .put("model", gateway.model);
            self.strange_part(record).done()
        });
        let mut record = Record::new()
            .put("id", vehicle.id.to_string())
            .put("name", vehicle.name.as_str())
            .put("notes", vehicle.notes)
            .put("harshAccelerationSettingType", vehicle.harsh_setting)
            .put("createdAtTime", wire_time(vehicle.created))
            .put("updatedAtTime", wire_time(vehicle.updated))
            .put_some("gateway", gateway)
            .put_some(
                "serial",
                vehicle
                    .gateway
                    .as_ref()
                    .map(|gateway| gateway.serial.as_str()),
            )
            .put_some("vin", vehicle.vin.as_deref())
            .put_some("make", vehicle.make)
            .put_some("model", vehicle.model)
            .put_some("vehicleType", vehicle.kind)
            .put_some("year", vehicle.year.map(|year| year.to_string()))
            .put_some("licensePlate", vehicle.license_plate.as_deref())
            .put_some("esn", vehicle.esn.as_deref())
            .put_some("cameraSerial", vehicle.camera_serial.as_deref())
            .put_some("vehicleRegulationMode", vehicle.regulation_mode)
            .put_some("isRemotePrivacyButtonEnabled", vehicle.privacy_button)
            .put_some("vehicleWeight", vehicle.weight_kg)
            .put_some("vehicleWeightInKilograms", vehicle.weight_kg)
            .put_some("vehicleWeightInPounds", vehicle.weight_lb())
            .put_some("staticAssignedDriver", named(vehicle.driver.as_ref()))
            .put_some("sensorConfiguration", vehicle.sensor_configuration())
            .put_some("tags", tags(vehicle.tags.as_deref()))
            .put_some("attributes", attributes(vehicle.attributes.as_deref()))
            .put_some("externalIds", external_ids(vehicle.external_ids.as_ref()));
        for (input, used_for) in &vehicle.auxiliary_inputs {
            record = record.put(&format!("auxInputType{input}"), *used_for);
        }
        self.strange_record(record).done()
    }

    pub(crate) fn fuel_report(self, vehicle: &Vehicle, report: &FuelReport) -> Value {
        let about = Record::new()
            .put("id", vehicle.id.to_string())
            .put("name", vehicle.name.as_str())
            .put("energyType", vehicle.energy.name())
            .put_some("externalIds", external_ids(vehicle.external_ids.as_ref()));
        let record = self.fuel_fields(
            Record::new().put("vehicle", self.strange_part(about).done()),
            report,
        );
        self.strange_record(record).done()
    }

    /// What the reports of vehicles and of drivers have in common.
    pub(super) fn fuel_fields(self, record: Record, report: &FuelReport) -> Record {
        let cost = Record::new()
            .put("amount", number(report.cost))
            .put("currencyCode", report.currency);
        record
            .put("distanceTraveledMeters", number(report.distance))
            .put("efficiencyMpge", number(report.efficiency))
            .put("engineIdleTimeDurationMs", report.idle)
            .put("engineRunTimeDurationMs", report.running)
            .put("estCarbonEmissionsKg", number(report.carbon))
            .put("estFuelEnergyCost", cost.done())
            .put("fuelConsumedMl", number(report.fuel))
            .put_some("energyUsedKwh", report.energy.map(number))
    }

    pub(crate) fn tag(self, tag: &Tag) -> Value {
        let members = |list: &Option<Vec<Named>>| -> Option<Value> {
            list.as_ref()
                .map(|list| list.iter().map(Named::json).collect())
        };
        let record = Record::new()
            .put("id", tag.tag.id.as_str())
            .put("name", tag.tag.name.as_str())
            .put_some(
                "parentTagId",
                tag.parent.as_ref().map(|parent| parent.id.as_str()),
            )
            .put_some("parentTag", named(tag.parent.as_ref()))
            .put_some("externalIds", external_ids(tag.external_ids.as_ref()))
            .put_some("addresses", members(&tag.addresses))
            .put_some("assets", members(&tag.assets))
            .put_some("drivers", members(&tag.drivers))
            .put_some("machines", members(&tag.machines))
            .put_some("sensors", members(&tag.sensors))
            .put_some("vehicles", members(&tag.vehicles));
        self.strange_record(record).done()
    }
}

pub(super) fn attributes(attributes: Option<&[Attribute]>) -> Option<Value> {
    attributes.map(|attributes| attributes.iter().map(Attribute::json).collect())
}
