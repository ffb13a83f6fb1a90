//! The organisation's addresses, each with a fence around it.

use serde_json::{Value, json};

use super::contacts::Contact;
use super::draw::Draw;
use super::parts::{ExternalIds, Named, TagRef, number};
use super::place;
use super::tags::Tag;
use super::vocabulary::PLACES;
use crate::time::{DAY, Millis};

const KINDS: &[&str] = &[
    "yard",
    "shortHaul",
    "workforceSite",
    "riskZone",
    "industrialSite",
    "avoidanceZone",
];

/// The boundary of an address.
#[derive(Debug, Clone)]
pub(crate) enum Fence {
    /// Around the address itself unless a centre is given; metres.
    Circle {
        centre: Option<(f64, f64)>,
        radius: i64,
    },
    /// The corners, as the API lists them.
    Polygon(Value),
}

#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) place: Named,
    pub(crate) text: &'static str,
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
    pub(crate) fence: Fence,
    pub(crate) show_addresses: Option<bool>,
    /// What it is for, as a list.
    pub(crate) kinds: Option<Value>,
    /// Whom to call there, as a list.
    pub(crate) contacts: Option<Value>,
    pub(crate) notes: Option<&'static str>,
    pub(crate) tags: Vec<TagRef>,
    pub(crate) external_ids: Option<ExternalIds>,
    pub(crate) created: Millis,
}

impl Address {
    /// All addresses there are.
    pub(crate) fn all(seed: u64, tags: &[Tag], contacts: &[Contact], before: Millis) -> Vec<Self> {
        (0..PLACES.len() as u64)
            .map(|index| Self::build(seed, index, tags, contacts, before))
            .collect()
    }

    fn build(seed: u64, index: u64, tags: &[Tag], contacts: &[Contact], before: Millis) -> Self {
        let mut draw = Draw::new(seed, "address", &[index]);
        let (_, text, latitude, longitude) =
            PLACES.get(index as usize).copied().unwrap_or_default();
        let known: Vec<Value> = (0..draw.below(3))
            .filter_map(|_| draw.pick(contacts).map(Contact::mini))
            .collect();
        let kinds: Vec<&str> = KINDS.iter().copied().filter(|_| draw.chance(0.3)).collect();
        Self {
            place: place(index),
            text,
            latitude,
            longitude,
            fence: if index.is_multiple_of(4) {
                let centre = (latitude + 0.000_4, longitude - 0.000_4);
                Fence::Circle {
                    centre: index.is_multiple_of(8).then_some(centre),
                    radius: draw.between(25, 900),
                }
            } else {
                Fence::Polygon(corners(latitude, longitude, &mut draw))
            },
            show_addresses: (index % 3 != 2).then(|| draw.chance(0.5)),
            kinds: (index % 5 != 4).then(|| kinds.into()),
            contacts: (!known.is_empty() || draw.chance(0.5)).then(|| known.into()),
            notes: draw
                .chance(0.7)
                .then(|| draw.word(&["", "Portail B, sonner \"2x\"", "Nur bis 22 Uhr"])),
            tags: Tag::some_of(tags, &mut Draw::new(seed, "place", &[index])),
            external_ids: draw
                .chance(0.6)
                .then(|| ExternalIds::from([("site.code".to_owned(), format!("S{index}"))])),
            created: before - draw.between(1, 2_000) * DAY + draw.between(0, DAY - 1),
        }
    }
}

fn corners(latitude: f64, longitude: f64, draw: &mut Draw) -> Value {
    let count = draw.between(3, 7);
    (0..count)
        .map(|corner| {
            let angle = std::f64::consts::TAU * corner as f64 / count as f64;
            // Rounded well above the last digits, in which machines may differ.
            let at = |middle: f64, shift: f64| number(super::draw::round(middle + shift * 0.003, 6));
            json!({ "latitude": at(latitude, angle.sin()), "longitude": at(longitude, angle.cos()) })
        })
        .collect()
}
