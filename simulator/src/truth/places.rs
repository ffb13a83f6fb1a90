//! Addresses and contacts.

use serde_json::Value;

use super::{Days, Row, ids, row, tag_list, text, time};
use crate::world::{Fence, World};

pub(super) fn addresses(world: &World, _: Days) -> Vec<Row> {
    let rows = world.addresses.iter().map(|address| {
        let (centre, radius, corners) = match &address.fence {
            Fence::Circle { centre, radius } => (*centre, Some(*radius as f64), None),
            Fence::Polygon(corners) => (None, None, Some(corners.clone())),
        };
        row([
            ("id", address.place.id.as_str().into()),
            ("name", address.place.name.as_str().into()),
            ("formattedAddress", address.text.into()),
            ("latitude", address.latitude.into()),
            ("longitude", address.longitude.into()),
            (
                "geofence_circle_latitude",
                centre.map(|(latitude, _)| latitude).into(),
            ),
            (
                "geofence_circle_longitude",
                centre.map(|(_, longitude)| longitude).into(),
            ),
            ("geofence_circle_radiusMeters", radius.into()),
            ("geofence_polygon_vertices", corners.into()),
            (
                "geofence_settings_showAddresses",
                address.show_addresses.into(),
            ),
            ("addressTypes", address.kinds.clone().into()),
            ("contacts", address.contacts.clone().into()),
            ("notes", text(address.notes)),
            ("tags", tag_list(Some(&address.tags))),
            ("externalIds", ids(address.external_ids.as_ref())),
            ("createdAtTime", time(address.created)),
        ])
    });
    rows.collect()
}

pub(super) fn contacts(world: &World, _: Days) -> Vec<Row> {
    let rows = world.contacts.iter().map(|contact| {
        row([
            ("id", contact.id.as_str().into()),
            ("firstName", contact.first_name.into()),
            ("lastName", contact.last_name.into()),
            ("email", contact.email.as_str().into()),
            ("phone", Value::from(contact.phone.as_str())),
        ])
    });
    rows.collect()
}
