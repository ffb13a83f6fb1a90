//! Trailers, equipment and assets.

use serde_json::{Value, json};

use super::{Record, Wire, external_ids, tags};
use crate::world::{Asset, Equipment, Gateway, Trailer};

impl Wire {
    pub(crate) fn trailer(self, trailer: &Trailer) -> Value {
        let record = Record::new()
            .put("id", trailer.id.to_string())
            .put("name", trailer.name.as_str())
            .put("tags", tags(Some(&trailer.tags)).unwrap_or_default())
            .put_some("installedGateway", self.installed(trailer.gateway.as_ref()))
            .put_some("trailerSerialNumber", trailer.serial.as_deref())
            .put_some("licensePlate", trailer.license_plate.as_deref())
            .put_some("notes", trailer.notes)
            .put_some("enabledForMobile", trailer.mobile)
            .put_some("externalIds", external_ids(trailer.external_ids.as_ref()));
        self.strange_record(record).done()
    }

    pub(crate) fn equipment(self, equipment: &Equipment) -> Value {
        let record = Record::new()
            .put("id", equipment.id.to_string())
            .put("name", equipment.name.as_str())
            .put_some("assetSerial", equipment.serial.as_deref())
            .put_some("notes", equipment.notes)
            .put_some(
                "installedGateway",
                self.installed(equipment.gateway.as_ref()),
            )
            .put_some("tags", tags(equipment.tags.as_deref()))
            .put_some("externalIds", external_ids(equipment.external_ids.as_ref()));
        self.strange_record(record).done()
    }

    fn installed(self, gateway: Option<&Gateway>) -> Option<Value> {
        gateway.map(|gateway| {
            let record = Record::new()
                .put("serial", gateway.dashed_serial())
                .put("model", gateway.model);
            self.strange_part(record).done()
        })
    }

    /// An asset of the v1 list: ids are numbers.
    pub(crate) fn asset(self, asset: &Asset<'_>) -> Value {
        let record = Record::new()
            .put("id", asset.id)
            .put("name", asset.name)
            .put_some("assetSerialNumber", asset.serial)
            .put_some(
                "cable",
                asset.cable.map(|kind| json!({ "assetType": kind })),
            )
            .put_some("engineHours", asset.engine_hours)
            .put_some("vehicleId", asset.vehicle);
        self.strange_record(record).done()
    }
}
