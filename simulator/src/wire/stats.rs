//! Readings of vehicle statistics.

use serde_json::{Value, json};

use super::{Record, Wire, external_ids};
use crate::time::wire_time;
use crate::world::{Fix, Named, Point, Reading, Vehicle, number};

impl Wire {
    /// A vehicle with one list of readings per statistic.
    pub(crate) fn vehicle_stats(self, vehicle: &Vehicle, series: Vec<(&str, Vec<Value>)>) -> Value {
        let mut record = Record::new()
            .put("id", vehicle.id.to_string())
            .put("name", vehicle.name.as_str())
            .put_some("externalIds", external_ids(vehicle.external_ids.as_ref()));
        for (name, readings) in series {
            record = record.put(name, readings);
        }
        self.strange_record(record).done()
    }

    pub(crate) fn reading(self, reading: &Reading) -> Value {
        let record = Record::new().put("time", wire_time(reading.time));
        let record = match &reading.point {
            Point::Gps(fix) => fix_fields(record, fix),
            Point::Fault(fault) => self.fault_fields(record, fault),
            Point::Whole(value) => record.put("value", *value),
            Point::Decimal(value) => record.put("value", number(*value)),
            Point::Word(word) => record.put("value", *word),
            Point::Auxiliary { name, on } => record.put("name", *name).put("value", *on),
            Point::Immobilizer { connected, state } => {
                record.put("connected", *connected).put("state", *state)
            }
            Point::Card(id) => record.put("card", json!({ "id": id })),
            // None of it is documented, so unknown fields would not be unusual.
            Point::TellTales(lights) => {
                let count = Some(lights.len()).filter(|count| *count > 0);
                let value = count.map(|count| json!({ "count": count }));
                return record
                    .put_some("value", value)
                    .put("lights", lights.as_slice())
                    .done();
            }
        };
        self.strange_part(record).done()
    }
}

fn fix_fields(record: Record, fix: &Fix) -> Record {
    record
        .put("latitude", number(fix.latitude))
        .put("longitude", number(fix.longitude))
        .put("headingDegrees", number(fix.heading))
        .put("speedMilesPerHour", number(fix.speed))
        .put("isEcuSpeed", fix.ecu_speed)
        .put_some(
            "reverseGeo",
            fix.location
                .as_ref()
                .map(|text| json!({ "formattedLocation": text })),
        )
        .put_some("address", fix.address.as_ref().map(Named::json))
}
