//! Tags, and one table per kind of member.

use super::{Days, Row, distinct, id_and_name, ids, row};
use crate::world::{Named, Tag, World};

/// One row per tag, whether anything carries it or not.
pub(super) fn tags(world: &World, _: Days) -> Vec<Row> {
    let rows = world.tags.iter().map(|tag| {
        let mut columns = columns(tag);
        columns.insert("externalIds".to_owned(), ids(tag.external_ids.as_ref()));
        columns
    });
    rows.collect()
}

pub(super) fn addresses(world: &World, _: Days) -> Vec<Row> {
    members(world, "address", |tag| &tag.addresses)
}

pub(super) fn assets(world: &World, _: Days) -> Vec<Row> {
    members(world, "asset", |tag| &tag.assets)
}

pub(super) fn drivers(world: &World, _: Days) -> Vec<Row> {
    members(world, "driver", |tag| &tag.drivers)
}

pub(super) fn machines(world: &World, _: Days) -> Vec<Row> {
    members(world, "machine", |tag| &tag.machines)
}

pub(super) fn sensors(world: &World, _: Days) -> Vec<Row> {
    members(world, "sensor", |tag| &tag.sensors)
}

pub(super) fn vehicles(world: &World, _: Days) -> Vec<Row> {
    members(world, "vehicle", |tag| &tag.vehicles)
}

fn columns(tag: &Tag) -> Row {
    let (parent_id, parent_name) = id_and_name(tag.parent.as_ref());
    let external_name = tag
        .external_ids
        .as_ref()
        .and_then(|ids| ids.get("samsara.name"));
    row([
        ("tag_id", tag.tag.id.as_str().into()),
        ("tag_name", tag.tag.name.as_str().into()),
        (
            "externalIds_samsara_name",
            external_name.map(String::as_str).into(),
        ),
        ("parentTagId", parent_id.clone()),
        ("parentTag_id", parent_id),
        ("parentTag_name", parent_name),
    ])
}

fn members(world: &World, kind: &str, list: impl Fn(&Tag) -> &Option<Vec<Named>>) -> Vec<Row> {
    let mut rows = Vec::new();
    for tag in &world.tags {
        for member in list(tag).iter().flatten() {
            let mut columns = columns(tag);
            columns.insert(format!("{kind}_id"), member.id.as_str().into());
            columns.insert(format!("{kind}_name"), member.name.as_str().into());
            rows.push(columns);
        }
    }
    distinct(rows)
}
