//! Equipment: neither vehicles nor trailers; and the older list of assets, which has both of the latter.

use super::World;
use super::draw::Draw;
use super::parts::{self, ExternalIds, Named, TagRef};
use super::tags::Tag;
use super::trailers::Trailer;
use super::vehicles::{Gateway, LETTERS};
use super::vocabulary::ASSET_GATEWAYS;

const FIRST_EQUIPMENT: u64 = 281_474_995_000_000;
const KINDS: &[&str] = &[
    "Grue",
    "Bagger",
    "Generator",
    "Chariot élévateur",
    "Kompressor",
];

#[derive(Debug, Clone)]
pub(crate) struct Equipment {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) serial: Option<String>,
    pub(crate) notes: Option<&'static str>,
    pub(crate) gateway: Option<Gateway>,
    pub(crate) external_ids: Option<ExternalIds>,
    /// Only in the equipment's own record: the tags' lists do not have it.
    pub(crate) tags: Option<Vec<TagRef>>,
    pub(crate) engine_hours: Option<i64>,
}

impl Equipment {
    pub(crate) fn build(seed: u64, index: u64, tags: &[Tag]) -> Self {
        let mut draw = Draw::new(seed, "equipment", &[index]);
        let gateway = draw
            .chance(0.7)
            .then(|| Gateway::draw(&mut draw, ASSET_GATEWAYS));
        let serial = draw.chance(0.7).then(|| draw.code(LETTERS, 17));
        Self {
            id: FIRST_EQUIPMENT + index * 41 + draw.below(30),
            name: format!("{} {}", draw.word(KINDS), index + 1),
            notes: draw
                .chance(0.7)
                .then(|| draw.word(&["", "Révision en mai", "Schlüssel \"rot\""])),
            external_ids: parts::asset_ids(gateway.as_ref(), serial.as_ref(), &mut draw),
            tags: draw.chance(0.8).then(|| Tag::some_of(tags, &mut draw)),
            engine_hours: draw.chance(0.6).then(|| draw.between(0, 30_000)),
            gateway,
            serial,
        }
    }

    pub(crate) fn named(&self) -> Named {
        Named::new(self.id, &self.name)
    }
}

/// An entry of the older list of assets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asset<'a> {
    pub(crate) id: u64,
    pub(crate) name: &'a str,
    pub(crate) serial: Option<&'a str>,
    /// What its cable is connected to.
    pub(crate) cable: Option<&'static str>,
    pub(crate) engine_hours: Option<i64>,
    pub(crate) vehicle: Option<u64>,
}

impl<'a> From<&'a Trailer> for Asset<'a> {
    fn from(trailer: &'a Trailer) -> Self {
        Self {
            id: trailer.id,
            name: &trailer.name,
            serial: trailer.serial.as_deref(),
            cable: trailer.reefer,
            engine_hours: trailer.engine_hours,
            vehicle: trailer.vehicle,
        }
    }
}

impl<'a> From<&'a Equipment> for Asset<'a> {
    fn from(equipment: &'a Equipment) -> Self {
        Self {
            id: equipment.id,
            name: &equipment.name,
            serial: equipment.serial.as_deref(),
            cable: None,
            engine_hours: equipment.engine_hours,
            vehicle: None,
        }
    }
}

impl World {
    /// Trailers and equipment, but no vehicles.
    pub(crate) fn assets(&self) -> impl Iterator<Item = Asset<'_>> {
        self.trailers
            .iter()
            .map(Asset::from)
            .chain(self.equipment.iter().map(Asset::from))
    }
}
