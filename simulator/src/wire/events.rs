//! What happens outside vehicle statistics: trips, refrigeration, alerts, audit logs.

use serde_json::{Value, json};

use super::{Record, Wire, external_ids};
use crate::time::{Millis, SECOND, wire_time, wire_time_with_offset};
use crate::world::number;
use crate::world::{
    AuditLog, Change, Configuration, Incident, Series, Stop, TimedChange, Trailer, Trip,
};

/// The end of a trip that has none yet.
const STILL_UNDER_WAY: Millis = Millis::MAX;

impl Wire {
    /// A trip of the v1 endpoint; it does not say whose.
    pub(crate) fn trip(self, trip: &Trip) -> Value {
        let record = Record::new()
            .put("startMs", trip.start)
            .put("endMs", trip.end.unwrap_or(STILL_UNDER_WAY))
            .put("startLocation", trip.from.location.as_str())
            .put("endLocation", trip.to.location.as_str())
            .put("startCoordinates", self.coordinates(&trip.from))
            .put("endCoordinates", self.coordinates(&trip.to))
            .put("startOdometer", trip.start_odometer)
            .put("endOdometer", trip.end_odometer)
            .put("distanceMeters", number(trip.distance))
            .put("tollMeters", number(trip.toll_distance))
            .put("fuelConsumedMl", number(trip.fuel))
            // Zero stands for nobody.
            .put("driverId", trip.driver.unwrap_or(0))
            .put("codriverIds", trip.codrivers.as_slice())
            .put("assetIds", trip.trailers.as_slice())
            .put_some("startAddress", stop_address(&trip.from))
            .put_some("endAddress", stop_address(&trip.to));
        self.strange_record(record).done()
    }

    fn coordinates(self, stop: &Stop) -> Value {
        let record = Record::new()
            .put("latitude", number(stop.latitude))
            .put("longitude", number(stop.longitude));
        self.strange_part(record).done()
    }

    /// A trailer with its refrigeration unit's changes, in the v1 form.
    pub(crate) fn reefer(self, trailer: &Trailer, series: &[(Series, Vec<TimedChange>)]) -> Value {
        let mut stats = Record::new();
        for (series, changes) in series.iter().filter(|(_, changes)| !changes.is_empty()) {
            let changes: Vec<Value> = changes
                .iter()
                .map(|change| self.change(*series, change))
                .collect();
            stats = stats.put(series.name(), changes);
        }
        let record = Record::new()
            .put("id", trailer.id)
            .put("name", trailer.name.as_str())
            .put_some("assetType", trailer.reefer)
            .put("reeferStats", stats.done());
        self.strange_record(record).done()
    }

    fn change(self, series: Series, change: &TimedChange) -> Value {
        let record = Record::new().put("changedAtMs", change.time);
        let record = match &change.change {
            Change::Temperature(milli) => record.put_some("tempInMilliC", *milli),
            Change::Hours(value) | Change::Percent(value) => record.put(series.name(), *value),
            Change::Power(status) => record.put("status", *status),
            Change::Alarms(alarms) => {
                let alarms: Vec<Value> = alarms
                    .iter()
                    .map(|alarm| {
                        let record = Record::new()
                            .put_some("alarmCode", alarm.code)
                            .put("description", alarm.description)
                            .put("severity", alarm.severity)
                            .put_some("operatorAction", alarm.action);
                        self.strange_part(record).done()
                    })
                    .collect();
                record.put("alarms", alarms)
            }
        };
        self.strange_part(record).done()
    }

    pub(crate) fn configuration(
        self,
        configuration: &Configuration,
        with_external_ids: bool,
    ) -> Value {
        let ids = external_ids(configuration.external_ids.as_ref()).filter(|_| with_external_ids);
        let record = Record::new()
            .put("id", configuration.id.as_str())
            .put("name", configuration.name.as_str())
            .put("isEnabled", configuration.enabled)
            .put("createdAtTime", wire_time(configuration.created))
            .put("lastModifiedAtTime", wire_time(configuration.modified))
            .put("scope", configuration.scope.clone())
            .put("triggers", configuration.triggers.clone())
            .put("actions", configuration.actions.clone())
            .put_some("operationalSettings", configuration.operational.clone())
            .put_some("externalIds", ids);
        self.strange_record(record).done()
    }

    pub(crate) fn incident(self, incident: &Incident) -> Value {
        // The two ways of writing UTC occur concurrently.
        let numeric = incident.happened / SECOND % 2 == 0;
        let updated = if numeric {
            wire_time_with_offset(incident.updated)
        } else {
            wire_time(incident.updated)
        };
        // Anyone with such a link can see the vehicle, so it must not be in a table.
        let mut conditions = incident.conditions.clone();
        let details = conditions
            .pointer_mut("/0/details")
            .and_then(Value::as_object_mut);
        for trigger in details.into_iter().flat_map(|details| details.values_mut()) {
            trigger["liveSharingUrl"] = "https://cloud.example.com/o/61/fleet/viewer/share".into();
        }
        let record = Record::new()
            .put("configurationId", incident.configuration.as_str())
            .put("happenedAtTime", wire_time(incident.happened))
            .put("updatedAtTime", updated)
            .put("isResolved", incident.resolved.is_some())
            .put("incidentUrl", incident.url.as_str())
            .put("conditions", conditions)
            .put_some("resolvedAtTime", incident.resolved.map(wire_time));
        self.strange_record(record).done()
    }

    pub(crate) fn audit_log(self, log: &AuditLog) -> Value {
        let labels = log.behaviours.as_ref().map(|labels| -> Value {
            labels
                .iter()
                .map(|(kind, name)| json!({ "type": kind, "name": name }))
                .collect()
        });
        let event = Record::new()
            .put("id", log.event_id.as_str())
            .put("time", wire_time(log.event_time))
            .put("vehicle", json!({ "id": log.vehicle.to_string() }))
            .put_some("uuid", log.event_uuid.as_deref())
            .put_some(
                "driver",
                log.driver.map(|id| json!({ "id": id.to_string() })),
            )
            .put_some("behaviorLabels", labels);
        let record = Record::new()
            .put("id", log.id.as_str())
            .put("time", wire_time(log.time))
            .put("type", log.kind)
            .put("safetyEvent", self.strange_part(event).done());
        self.strange_record(record).done()
    }
}

fn stop_address(stop: &Stop) -> Option<Value> {
    let address = stop.address.as_ref()?;
    Some(json!({ "id": address.id, "name": address.name, "address": address.text }))
}
