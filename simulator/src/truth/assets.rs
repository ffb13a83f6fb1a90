//! Trailers, equipment and assets.

use super::{Days, Row, distinct, ids, key_of, row, tag_list, text};
use crate::world::{ExternalIds, Gateway, Named, TagRef, World};

pub(super) fn trailers(world: &World, _: Days) -> Vec<Row> {
    let rows = world.trailers.iter().map(|trailer| {
        let mut columns = row([
            ("vehicle_id", trailer.id.to_string().into()),
            ("trailer_id", trailer.id.to_string().into()),
            ("parc_id", trailer.name.as_str().into()),
            ("trailerSerialNumber", text(trailer.serial.as_deref())),
            ("licensePlate", text(trailer.license_plate.as_deref())),
            ("notes", text(trailer.notes)),
            ("enabledForMobile", trailer.mobile.into()),
            ("tags", tag_list(Some(&trailer.tags))),
        ]);
        columns.append(&mut equipped(
            trailer.gateway.as_ref(),
            trailer.external_ids.as_ref(),
        ));
        columns
    });
    rows.collect()
}

pub(super) fn equipment(world: &World, _: Days) -> Vec<Row> {
    let rows = world.equipment.iter().map(|equipment| {
        let mut columns = row([
            ("id", equipment.id.to_string().into()),
            ("name", equipment.name.as_str().into()),
            ("assetSerial", text(equipment.serial.as_deref())),
            ("notes", text(equipment.notes)),
            ("tags", tag_list(equipment.tags.as_deref())),
        ]);
        columns.append(&mut equipped(
            equipment.gateway.as_ref(),
            equipment.external_ids.as_ref(),
        ));
        columns
    });
    rows.collect()
}

fn equipped(gateway: Option<&Gateway>, external_ids: Option<&ExternalIds>) -> Row {
    row([
        (
            "installedGateway_serial",
            gateway.map(Gateway::dashed_serial).into(),
        ),
        (
            "installedGateway_model",
            gateway.map(|gateway| gateway.model).into(),
        ),
        (
            "externalIds_samsara_serial",
            key_of(external_ids, "samsara.serial"),
        ),
        (
            "externalIds_samsara_vin",
            key_of(external_ids, "samsara.vin"),
        ),
        ("externalIds", ids(external_ids)),
    ])
}

pub(super) fn assets(world: &World, _: Days) -> Vec<Row> {
    distinct(world.assets().map(|asset| {
        row([
            ("asset_id", asset.id.to_string().into()),
            ("asset_name", asset.name.into()),
            ("assetSerialNumber", text(asset.serial)),
            ("cable_assetType", text(asset.cable)),
            ("engineHours", asset.engine_hours.into()),
            ("vehicleId", asset.vehicle.map(|id| id.to_string()).into()),
        ])
    }))
}

pub(super) fn tags_of_trailers(world: &World, _: Days) -> Vec<Row> {
    let trailers = world.trailers.iter();
    distinct(trailers.flat_map(|trailer| tagged("trailer", &trailer.named(), Some(&trailer.tags))))
}

pub(super) fn tags_of_equipment(world: &World, _: Days) -> Vec<Row> {
    let equipment = world.equipment.iter();
    distinct(equipment.flat_map(|one| tagged("equipment", &one.named(), one.tags.as_deref())))
}

/// One row per tag that a member carries.
fn tagged(kind: &str, member: &Named, tags: Option<&[TagRef]>) -> Vec<Row> {
    let tags = tags.unwrap_or_default().iter();
    tags.map(|tag| {
        let mut columns = row([
            ("tag_id", tag.tag.id.as_str().into()),
            ("tag_name", tag.tag.name.as_str().into()),
            ("parentTagId", text(tag.parent.as_deref())),
        ]);
        columns.insert(format!("{kind}_id"), member.id.as_str().into());
        columns.insert(format!("{kind}_name"), member.name.as_str().into());
        columns
    })
    .collect()
}
