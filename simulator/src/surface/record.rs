//! Renders records: the fields of an entity as JSON, as the API would send them.

use serde_json::{Map, Value, json};

use super::entities::{Entity, Owner, hash};
use super::{Anchor, Chooses, Field, Instant, Kind, Object, Part, Surface};
use crate::time::{Millis, day_of, day_start, wire_time};
use crate::world::draw::Draw;
use crate::world::{Attribute, ExternalIds, Tag, TagRef, World, number};

const GIVEN: &[&str] = &[
    "Anaïs",
    "Bjørn",
    "Chloé",
    "Dmitri",
    "Élodie",
    "François",
    "Grete",
    "Håkon",
    "İpek",
    "Jörg",
];
const THINGS: &[&str] = &[
    "Contrôle",
    "Prüfung",
    "Check-list \"A\"",
    "Entretien",
    "Tour du matin",
    "Ölwechsel",
    "Rampe n° 3",
];
const WORDS: &[&str] = &[
    "à vérifier",
    "ok",
    "",
    "siehe Anhang",
    "line one\nline two",
    "100 % ✔",
    "a, b; c",
    "\"quoted\"",
];

/// Where fields of a record are written.
struct Writer<'a> {
    surface: &'a Surface,
    world: &'a World,
    entity: &'a Entity,
    /// The window in which nested events are told.
    window: (Millis, Millis),
    /// The lists of events that are told; empty for all.
    members: &'a [&'a str],
    /// What finds those events.
    by: Anchor,
}

impl Surface {
    /// The record of an entity. `window` is the requested one.
    pub(super) fn record(&self, world: &World, entity: &Entity, window: (Millis, Millis)) -> Value {
        Writer {
            surface: self,
            world,
            entity,
            window,
            members: &[],
            by: self.found.by,
        }
        .record()
    }

    /// The same with only what begins in the window: what belongs to a day.
    pub(super) fn record_of_start(
        &self,
        world: &World,
        entity: &Entity,
        window: (Millis, Millis),
    ) -> Value {
        Writer {
            surface: self,
            world,
            entity,
            window,
            members: &[],
            by: Anchor::Start,
        }
        .record()
    }

    /// The same with some lists of events only.
    pub(super) fn record_with(
        &self,
        world: &World,
        entity: &Entity,
        window: (Millis, Millis),
        members: &[&str],
    ) -> Value {
        Writer {
            surface: self,
            world,
            entity,
            window,
            members,
            by: self.found.by,
        }
        .record()
    }

    /// Whether a parameter names the objects that are told.
    pub(super) fn tells_objects(&self) -> bool {
        let mut parameters = self.asks.iter();
        parameters.any(|parameter| parameter.chooses == Chooses::Objects)
    }

    /// The names of the objects of a record.
    pub(super) fn objects(&self) -> Vec<&str> {
        let is_object = |field: &&Field| matches!(field.kind, Kind::Object(_));
        self.record
            .fields
            .iter()
            .filter(is_object)
            .map(|field| field.name.as_str())
            .collect()
    }

    /// The names of the lists of events, if records are things with such lists.
    pub(super) fn series(&self) -> Vec<&str> {
        let is_series = |field: &&Field| matches!(field.kind, Kind::During(_));
        self.record
            .fields
            .iter()
            .filter(is_series)
            .map(|field| field.name.as_str())
            .collect()
    }
}

impl Writer<'_> {
    fn record(&self) -> Value {
        self.object(&self.surface.record, "").unwrap_or_default()
    }

    fn draw(&self, path: &str, changes: bool) -> Draw {
        let owner = self
            .entity
            .owner
            .as_ref()
            .map_or(u64::MAX, |owner| owner.index);
        let version = if changes {
            self.entity.version() as u64
        } else {
            0
        };
        let window = self.entity.window.unwrap_or_default();
        let mut key = vec![
            hash(&self.surface.identity),
            owner,
            self.entity.day as u64,
            self.entity.ordinal,
            version,
            window.1 as u64,
        ];
        key.extend(self.entity.asked.as_deref().map(hash));
        let each = self.entity.each.as_deref();
        key.extend(each.map(|each| hash(&self.surface.series_of(Some(each)))));
        Draw::new(self.world.seed, path, &key)
    }

    fn object(&self, object: &Object, path: &str) -> Option<Value> {
        let mut members = Map::new();
        let is_top = path.is_empty();
        for field in &object.fields {
            let path = format!("{path}.{}", field.name);
            let is_told = self.members.is_empty() || self.members.contains(&field.name.as_str());
            let is_chosen = match field.kind {
                Kind::During(_) => true,
                Kind::Object(_) => self.surface.tells_objects() && is_top,
                _ => false,
            };
            if is_chosen && !is_told {
                continue;
            }
            let mut draw = self.draw(&format!("{path}?"), false);
            if draw.chance(field.absent) {
                continue;
            }
            let value = if draw.chance(field.null) {
                Some(Value::Null)
            } else {
                self.value(&field.kind, &path)
            };
            if let Some(value) = value {
                members.insert(field.name.clone(), value);
            }
        }
        Some(Value::Object(members))
    }

    /// The value of a field; none if there is no value yet.
    fn value(&self, kind: &Kind, path: &str) -> Option<Value> {
        let mut stays = self.draw(path, false);
        let mut changes = self.draw(path, true);
        Some(match kind {
            Kind::Key => self.key(path).into(),
            Kind::Uuid => stays.uuid().into(),
            Kind::Name => format!("{} {}", stays.word(THINGS), stays.between(1, 99)).into(),
            Kind::Text => changes.word(WORDS).into(),
            Kind::Url => format!("https://cloud.example.com/o/61/{:x}", stays.number()).into(),
            Kind::Vin => stays.code("ABCDEFGHJKLMNPRSTUVWXYZ0123456789", 17).into(),
            Kind::Email => format!("u{}@example.com", stays.below(1_000_000)).into(),
            Kind::Phone => format!("+3247{}", stays.code("0123456789", 7)).into(),
            Kind::Int(low, high) => changes.between(*low, *high).into(),
            Kind::Number(low, high) => number(changes.decimal(*low, *high, 2)),
            Kind::Money(low, high) => format!("{:.2}", changes.decimal(*low, *high, 2)).into(),
            Kind::Bool(share) => changes.chance(*share).into(),
            Kind::One(words) => changes.pick(words).map(String::as_str).into(),
            Kind::Turn(words) => words
                .get(self.entity.ordinal as usize % words.len().max(1))
                .map(String::as_str)
                .into(),
            Kind::Any => match changes.below(5) {
                0 => number(changes.decimal(-50.0, 50.0, 3)),
                1 => changes.word(WORDS).into(),
                2 => changes.chance(0.5).into(),
                3 => json!([{ "code": changes.between(1, 99), "note": changes.word(WORDS) }]),
                _ => json!({ "n°": number(changes.decimal(0.0, 9.0, 1)), "at": null }),
            },
            Kind::Each(field) => self.entity.each.as_ref()?.get(field)?.clone(),
            Kind::Stage(words) => words
                .get(self.entity.version().min(words.len().saturating_sub(1)))
                .map(String::as_str)
                .into(),
            Kind::Time { of, plus, millis } => {
                let at = self.instant(*of)? + plus;
                let at = match of {
                    Instant::Today => at.min(day_start(day_of(self.entity.born) + 1) - 1),
                    _ => at,
                };
                if *millis {
                    at.into()
                } else {
                    wire_time(at).into()
                }
            }
            Kind::Owner(part) => part.of(self.entity.owner.as_ref()?),
            Kind::Other(thing, part) => {
                let owners = self.world.owners(*thing);
                // Parts of one object speak of the same other one.
                let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
                part.of(self.draw(&format!("{parent} other"), false).pick(&owners)?)
            }
            Kind::OfSurface(name, field) => {
                let other = Surface::named(name)?;
                let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
                let listed = other.listed(self.world);
                let entity = self
                    .draw(&format!("{parent} other"), false)
                    .pick(&listed)?
                    .clone();
                other
                    .record(self.world, &entity, self.window)
                    .get(field)?
                    .clone()
            }
            Kind::Tags => Tag::some_of(&self.world.tags, &mut stays)
                .iter()
                .map(TagRef::json)
                .collect(),
            Kind::Ids => external_ids(&mut stays),
            Kind::Attributes => Attribute::draw(&mut stays)
                .iter()
                .map(Attribute::json)
                .collect(),
            Kind::Constant(text) => text.as_str().into(),
            Kind::Object(object) => self.object(object, path)?,
            Kind::List(least, most, item) => {
                let count = self
                    .draw(&format!("{path}#"), true)
                    .between(*least as i64, *most as i64);
                (0..count)
                    .filter_map(|index| self.value(item, &format!("{path}[{index}]")))
                    .collect()
            }
            Kind::During(object) => self.during(object, path),
        })
    }

    fn during(&self, object: &Object, path: &str) -> Value {
        let Some(owner) = &self.entity.owner else {
            return Value::Array(Vec::new());
        };
        let (from, to) = self.window;
        let series = if self.surface.series().len() > 1 {
            path
        } else {
            ""
        };
        let entities = self
            .surface
            .found_of(self.world, owner, self.by, (from, to), series);
        let write = |entity: &Entity| Writer { entity, ..*self }.object(object, path);
        entities.iter().filter_map(write).collect()
    }

    fn instant(&self, of: Instant) -> Option<Millis> {
        match of {
            Instant::Born | Instant::Today => Some(self.entity.born),
            Instant::Updated => Some(self.entity.updated()),
            Instant::End => self.entity.end,
            Instant::Deleted => self.entity.deleted,
            Instant::Reached(version) => self.entity.versions.get(version).copied(),
        }
    }

    /// An id that no other record of the surface has, nor another field of this one.
    fn key(&self, path: &str) -> String {
        let owner = self
            .entity
            .owner
            .as_ref()
            .map_or(0, |owner| owner.index + 1);
        let kind = 100 + hash(&format!("{}{path}", self.surface.identity)) % 900;
        let day = day_of(self.entity.born.max(0)).rem_euclid(100_000);
        format!("{kind}{owner:05}{day:05}{:04}", self.entity.ordinal)
    }
}

impl Part {
    fn of(self, owner: &Owner) -> Value {
        match self {
            Self::Id => owner.named.id.as_str().into(),
            Self::Name => owner.named.name.as_str().into(),
        }
    }
}

fn external_ids(draw: &mut Draw) -> Value {
    let mut ids = ExternalIds::new();
    if draw.chance(0.6) {
        ids.insert("erp".to_owned(), format!("E-{}", draw.between(100, 999)));
    }
    if draw.chance(0.3) {
        ids.insert("n°.parc".to_owned(), draw.word(GIVEN).to_owned());
    }
    ids.iter()
        .map(|(key, id)| (key.clone(), Value::from(id.as_str())))
        .collect()
}
