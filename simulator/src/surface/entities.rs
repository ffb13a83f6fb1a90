//! The records of a surface: drawn from (seed, surface, thing, day) when requested, never stored.

use std::sync::Arc;

use serde_json::Value;

use super::{Anchor, Chooses, Parameter, Population, Surface, Thing};
use crate::time::{DAY, HOUR, Millis, SECOND, day_of, day_start, days_touching};
use crate::world::draw::Draw;
use crate::world::{Named, World};

/// A vehicle, a driver … that records are counted by.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Owner {
    pub(super) index: u64,
    pub(super) named: Named,
}

/// One record before its fields are written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entity {
    pub(super) owner: Option<Owner>,
    /// With the owner and the surface, what distinguishes it from all others.
    pub(super) day: i64,
    pub(super) ordinal: u64,
    pub(super) born: Millis,
    pub(super) end: Option<Millis>,
    /// When each version was made that exists by now; the first is the creation.
    pub(super) versions: Vec<Millis>,
    pub(super) deleted: Option<Millis>,
    /// Of a report: the asked window.
    pub(super) window: Option<(Millis, Millis)>,
    /// Of a report: which of several was asked for.
    pub(super) asked: Option<String>,
    /// The record of another list for which it is.
    pub(super) each: Option<Arc<Value>>,
}

impl Entity {
    fn new(owner: Option<Owner>, day: i64, ordinal: u64, born: Millis) -> Self {
        Self {
            owner,
            day,
            ordinal,
            born,
            end: None,
            versions: vec![born],
            deleted: None,
            window: None,
            asked: None,
            each: None,
        }
    }

    /// When it last changed.
    pub(super) fn updated(&self) -> Millis {
        let last = self.versions.last().copied().unwrap_or(self.born);
        self.deleted.map_or(last, |deleted| deleted.max(last))
    }

    /// The number of the version that is seen now, from 0.
    pub(super) fn version(&self) -> usize {
        self.versions.len().saturating_sub(1)
    }
}

impl World {
    /// Everything of a kind.
    pub(super) fn owners(&self, thing: Thing) -> Vec<Owner> {
        let named: Vec<Named> = match thing {
            Thing::Vehicle => self
                .vehicles
                .iter()
                .map(|vehicle| vehicle.named())
                .collect(),
            Thing::Driver => self
                .drivers
                .iter()
                .map(|driver| driver.driver.clone())
                .collect(),
            Thing::Trailer => self
                .trailers
                .iter()
                .map(|trailer| trailer.named())
                .collect(),
            Thing::Equipment => self
                .equipment
                .iter()
                .map(|equipment| equipment.named())
                .collect(),
            Thing::Tag => self.tags.iter().map(|tag| tag.tag.clone()).collect(),
            Thing::Address => self
                .addresses
                .iter()
                .map(|address| address.place.clone())
                .collect(),
            Thing::Asset => self.listed_names("assets"),
            Thing::Organisation => vec![Named::new(61, "Transports Fictifs S.A.")],
        };
        (0..)
            .zip(named)
            .map(|(index, named)| Owner { index, named })
            .collect()
    }
}

impl World {
    /// The records of a list by id and name.
    fn listed_names(&self, surface: &str) -> Vec<Named> {
        let Some(surface) = Surface::named(surface) else {
            return Vec::new();
        };
        let text =
            |record: &Value, field: &str| record[field].as_str().unwrap_or_default().to_owned();
        let named = |entity: &Entity| {
            let record = surface.record(self, entity, (Millis::MIN, Millis::MAX));
            Named {
                id: text(&record, "id"),
                name: text(&record, "name"),
            }
        };
        surface.listed(self).iter().map(named).collect()
    }
}

impl Surface {
    /// The parameter that selects one of several reports, and its values.
    pub(super) fn reports(&self) -> Option<(&Parameter, &[String])> {
        self.asks
            .iter()
            .find_map(|parameter| match &parameter.chooses {
                Chooses::Asked(values) => Some((parameter, values.as_slice())),
                _ => None,
            })
    }

    /// What the population is counted by, if by things.
    pub(super) fn counted_by(&self) -> Option<Thing> {
        match &self.population {
            Population::List { per, .. } => {
                per.filter(|(_, share)| *share == 1).map(|(thing, _)| thing)
            }
            Population::Events { per, .. }
            | Population::Intervals { per, .. }
            | Population::Versions { per, .. }
            | Population::Report { per } => Some(*per),
        }
    }

    /// The records of a list, as they are now.
    pub(super) fn listed(&self, world: &World) -> Vec<Entity> {
        let Population::List { base, per } = &self.population else {
            return Vec::new();
        };
        let entity = |owner: Option<Owner>, ordinal: u64| {
            let mut draw = Draw::new(world.seed, "listed", &[hash(&self.identity), ordinal]);
            let born = match self.found.by {
                // Not about a day ago, so that the minute of the request does not matter.
                Anchor::Lately if draw.chance(0.6) => {
                    world.span.end - draw.below(22 * HOUR as u64) as Millis
                }
                Anchor::Lately => world.span.end - draw.between(27 * HOUR, 72 * HOUR),
                // It was there before anything happened.
                _ => {
                    world.span.start - draw.between(1, 400) * DAY + draw.between(0, 86_399) * SECOND
                }
            };
            Entity::new(owner, 0, ordinal, born)
        };
        match per {
            Some((thing, 1)) if *base == 0 => world
                .owners(*thing)
                .into_iter()
                .map(|owner| (owner.index, owner))
                .map(|(index, owner)| entity(Some(owner), index))
                .collect(),
            per => {
                let counted =
                    per.map_or(0, |(thing, share)| world.owners(thing).len() as u64 / share);
                (0..base + counted)
                    .map(|ordinal| entity(None, ordinal))
                    .collect()
            }
        }
    }

    /// The records of another list for each of which there are some; a single empty one if there is no such list.
    pub(super) fn each_of(&self, world: &World) -> Vec<Option<Arc<Value>>> {
        let Some(each) = &self.each else {
            return vec![None];
        };
        let Some(other) = Surface::named(&each.surface) else {
            return Vec::new();
        };
        let all = (Millis::MIN, Millis::MAX);
        let listed = other.listed(world);
        let records = listed.iter().map(|entity| other.record(world, entity, all));
        records.map(|record| Some(Arc::new(record))).collect()
    }

    /// The name of the series of events that belongs to a record of another list.
    pub(super) fn series_of(&self, each: Option<&Value>) -> String {
        let by = self.each.iter().flat_map(|each| &each.by);
        let values = by.filter_map(|(_, field)| each?[field].as_str());
        values.collect::<Vec<_>>().join(" ")
    }

    /// The records of one thing in a window, by now, oldest first. `series` distinguishes several lists of events of
    /// one thing; empty if there is one.
    pub(super) fn found_of(
        &self,
        world: &World,
        owner: &Owner,
        by: Anchor,
        (from, to): (Millis, Millis),
        series: &str,
    ) -> Vec<Entity> {
        let now = world.clock.now();
        // How long before the window a record in it may have been created.
        let reach = match (&self.population, by) {
            (Population::Intervals { .. }, Anchor::Overlap) => world.span.end - world.span.start,
            (Population::Versions { within, .. }, Anchor::Updated) => *within,
            _ => 0,
        };
        let (first, last) = world.within_data(from.saturating_sub(reach), to);
        let last = last.min(now.saturating_add(1));
        let finds = |entity: &Entity| {
            entity.born <= now
                && match by {
                    Anchor::All | Anchor::Lately => true,
                    Anchor::Start | Anchor::Arrived => (from..to).contains(&entity.born),
                    Anchor::Overlap => entity.born < to && entity.end.is_none_or(|end| end > from),
                    Anchor::Updated => (from..to).contains(&entity.updated()),
                }
        };
        days_touching(first, last)
            .flat_map(|day| self.born_on(world, owner, day, now, series))
            .filter(finds)
            .collect()
    }

    /// The records of a thing that are created on a UTC day, as they are at an instant.
    fn born_on(
        &self,
        world: &World,
        owner: &Owner,
        day: i64,
        now: Millis,
        series: &str,
    ) -> Vec<Entity> {
        let rate = match &self.population {
            Population::Events { rate, .. }
            | Population::Intervals { rate, .. }
            | Population::Versions { rate, .. } => *rate,
            Population::List { .. } | Population::Report { .. } => return Vec::new(),
        };
        let surface = hash(&format!("{}{series}", self.identity));
        let mut draw = Draw::new(world.seed, "born", &[surface, owner.index, day as u64]);
        let count = rate.floor() as u64 + u64::from(draw.chance(rate.fract()));
        // Each has a part of the day to itself, so that no two are created at once and intervals of one thing do not
        // overlap.
        let part = DAY / count.max(1) as Millis;
        let born = |ordinal: u64, draw: &mut Draw| {
            let start = day_start(day) + ordinal as Millis * part;
            start + draw.below(part.max(1) as u64 / 2) as Millis
        };
        (0..count)
            .map(|ordinal| {
                let mut draw = Draw::new(
                    world.seed,
                    "life",
                    &[surface, owner.index, day as u64, ordinal],
                );
                let mut entity =
                    Entity::new(Some(owner.clone()), day, ordinal, born(ordinal, &mut draw));
                match &self.population {
                    Population::Intervals {
                        shortest,
                        longest,
                        open,
                        ..
                    } => {
                        let end = entity.born + draw.between(*shortest, *longest);
                        entity.end = (!draw.chance(*open) && end <= now).then_some(end);
                    }
                    Population::Versions {
                        within,
                        most,
                        deleted,
                        ..
                    } => {
                        let changes = draw.below(*most);
                        let mut changed: Vec<Millis> = (0..changes)
                            .map(|_| entity.born + draw.between(SECOND, *within))
                            .collect();
                        changed.sort_unstable();
                        changed.dedup();
                        entity
                            .versions
                            .extend(changed.into_iter().filter(|at| *at <= now));
                        let gone = entity.born + draw.between(SECOND, *within);
                        entity.deleted = (draw.chance(*deleted) && gone <= now).then_some(gone);
                    }
                    _ => {}
                }
                entity
            })
            .collect()
    }

    /// The record of a thing in a report on a window; none if there was nothing to report.
    pub(super) fn reported_of(
        &self,
        world: &World,
        owner: &Owner,
        from: Millis,
        to: Millis,
    ) -> Option<Entity> {
        let mut draw = Draw::new(
            world.seed,
            "reported",
            &[hash(&self.identity), owner.index, from as u64, to as u64],
        );
        // Of the organisation there is always something to report.
        let is_told = draw.chance(0.8) || self.counted_by() == Some(Thing::Organisation);
        if !is_told || from >= world.clock.now() {
            return None;
        }
        let mut entity = Entity::new(Some(owner.clone()), day_of(from), 0, from);
        entity.window = Some((from, to));
        Some(entity)
    }
}

/// A number for a name, the same on any machine.
pub(super) fn hash(name: &str) -> u64 {
    Draw::new(0, name, &[]).number()
}

impl Entity {
    /// A record that is a thing itself, with its events in a list.
    pub(super) fn thing(owner: Owner) -> Self {
        let index = owner.index;
        Self::new(Some(owner), 0, index, 0)
    }
}
