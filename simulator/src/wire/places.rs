//! Addresses and contacts.

use serde_json::{Value, json};

use super::{Record, Wire, external_ids, tags};
use crate::time::wire_time;
use crate::world::{Address, Contact, Fence, number};

impl Wire {
    pub(crate) fn address(self, address: &Address) -> Value {
        let fence = match &address.fence {
            Fence::Circle { centre, radius } => {
                let circle = Record::new()
                    .put("radiusMeters", *radius)
                    .put_some("latitude", centre.map(|(latitude, _)| number(latitude)))
                    .put_some("longitude", centre.map(|(_, longitude)| number(longitude)));
                Record::new().put("circle", circle.done())
            }
            Fence::Polygon(corners) => Record::new().put("polygon", json!({ "vertices": corners })),
        };
        let fence = fence.put_some(
            "settings",
            address
                .show_addresses
                .map(|shown| json!({ "showAddresses": shown })),
        );
        let record = Record::new()
            .put("id", address.place.id.as_str())
            .put("name", address.place.name.as_str())
            .put("formattedAddress", address.text)
            .put("latitude", number(address.latitude))
            .put("longitude", number(address.longitude))
            .put("geofence", self.strange_part(fence).done())
            .put("createdAtTime", wire_time(address.created))
            .put("tags", tags(Some(&address.tags)).unwrap_or_default())
            .put_some("addressTypes", address.kinds.clone())
            .put_some("contacts", address.contacts.clone())
            .put_some("notes", address.notes)
            .put_some("externalIds", external_ids(address.external_ids.as_ref()));
        self.strange_record(record).done()
    }

    pub(crate) fn contact(self, contact: &Contact) -> Value {
        let record = Record::new()
            .put("id", contact.id.as_str())
            .put("firstName", contact.first_name)
            .put("lastName", contact.last_name)
            .put("email", contact.email.as_str())
            .put("phone", contact.phone.as_str());
        self.strange_record(record).done()
    }
}
