//! What drivers do: assignments, documents, and driver efficiency.

use serde_json::Value;

use super::{Record, Wire, external_ids};
use crate::time::wire_time;
use crate::world::{
    Assignment, Document, DocumentType, Driver, Efficiency, FuelReport, MEASURES, Vehicle, number,
};

impl Wire {
    pub(crate) fn assignment(self, assignment: &Assignment<'_>) -> Value {
        let metadata = assignment
            .source
            .map(|source| Record::new().put("sourceName", source).done());
        let record = Record::new()
            .put("driver", self.driver_reference(assignment.driver))
            .put(
                "vehicle",
                self.vehicle_reference(assignment.vehicle, "externalIds"),
            )
            .put("startTime", wire_time(assignment.start))
            .put(
                "assignedAtTime",
                assignment.assigned.map(wire_time).unwrap_or_default(),
            )
            .put("assignmentType", assignment.kind)
            .put("isPassenger", assignment.passenger)
            .put_some("endTime", assignment.end.map(wire_time))
            .put_some("metadata", metadata);
        self.strange_record(record).done()
    }

    /// A driver as other records name it.
    pub(super) fn driver_reference(self, driver: &Driver) -> Value {
        self.reference(&driver.driver, driver.external_ids.as_ref(), "externalIds")
    }

    /// A reference to a vehicle in another record; the spelling of the key of its external ids differs.
    pub(super) fn vehicle_reference(self, vehicle: &Vehicle, ids_key: &str) -> Value {
        self.reference(&vehicle.named(), vehicle.external_ids.as_ref(), ids_key)
    }

    pub(crate) fn document_type(self, form: &DocumentType) -> Value {
        let record = Record::new()
            .put("id", form.id.as_str())
            .put("name", form.name)
            .put("orgId", form.organisation)
            .put_some("fieldTypes", form.fields.clone())
            .put_some("conditionalFieldSections", form.sections.clone());
        self.strange_record(record).done()
    }

    pub(crate) fn document(self, document: &Document<'_>) -> Value {
        let form = Record::new()
            .put("id", document.form.id.as_str())
            .put("name", document.form.name);
        let place = |place: Option<&(_, _)>| {
            place.map(|(named, ids)| self.reference(named, Option::as_ref(ids), "externalIds"))
        };
        let record = Record::new()
            .put("id", document.id.as_str())
            .put("state", document.state)
            .put("createdAtTime", wire_time(document.created))
            .put("documentType", self.strange_part(form).done())
            .put("driver", self.driver_reference(document.driver))
            .put("fields", document.fields.clone())
            .put_some("name", document.name.as_deref())
            .put_some("notes", document.notes)
            .put_some("updatedAtTime", document.updated.map(wire_time))
            .put_some(
                "vehicle",
                document
                    .vehicle
                    .map(|vehicle| self.vehicle_reference(vehicle, "externalIds")),
            )
            .put_some("route", place(document.route.as_ref()))
            .put_some("routeStop", place(document.stop.as_ref()))
            .put_some("conditionalFieldSections", document.sections.clone());
        self.strange_record(record).done()
    }

    /// A driver's fuel report. Unlike a vehicle's it has no kind of energy.
    pub(crate) fn driver_fuel_report(self, driver: &Driver, report: &FuelReport) -> Value {
        let record = self.fuel_fields(
            Record::new().put("driver", self.driver_reference(driver)),
            report,
        );
        self.strange_record(record).done()
    }

    pub(crate) fn efficiency(self, efficiency: &Efficiency<'_>) -> Value {
        let driver = efficiency.driver;
        let about = Record::new()
            .put("id", driver.driver.id.as_str())
            .put("name", driver.driver.name.as_str())
            .put("username", driver.username.as_str())
            .put_some("externalIds", external_ids(driver.external_ids.as_ref()));
        let mut record = Record::new().put("driver", self.strange_part(about).done());
        for ((name, ..), total) in MEASURES.iter().zip(efficiency.totals()) {
            record = record.put(name, number(total as f64));
        }
        let record = record.put("vehicleSummaries", efficiency.vehicles_json());
        self.strange_record(record).done()
    }
}
