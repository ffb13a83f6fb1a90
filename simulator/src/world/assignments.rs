//! Who drove what: one assignment for the driver of each trip, and one for each passenger.

use super::World;
use super::draw::Draw;
use super::drivers::Driver;
use super::trips::Trip;
use super::vehicles::Vehicle;
use crate::time::{MINUTE, Millis};

/// What made an assignment.
const KINDS: &[&str] = &["HOS", "HOS", "HOS", "idCard", "driverApp", "tachograph", "external"];

/// An assignment as it looks at the world's present time.
#[derive(Debug, Clone)]
pub(crate) struct Assignment<'a> {
    pub(crate) driver: &'a Driver,
    pub(crate) vehicle: &'a Vehicle,
    pub(crate) start: Millis,
    /// `None` while it lasts.
    pub(crate) end: Option<Millis>,
    /// Mostly unknown: the API then sends an empty text.
    pub(crate) assigned: Option<Millis>,
    pub(crate) kind: &'static str,
    pub(crate) passenger: bool,
    /// The external system that made it.
    pub(crate) source: Option<&'static str>,
}

impl World {
    fn assignments<'a>(&'a self, vehicle: &'a Vehicle, trip: &Trip) -> impl Iterator<Item = Assignment<'a>> + use<'a> {
        let (start, end) = (trip.start, trip.end);
        let aboard = trip.driver.map(|id| (id, false)).into_iter();
        let aboard: Vec<(u64, bool)> = aboard.chain(trip.codrivers.iter().map(|id| (*id, true))).collect();
        aboard.into_iter().filter_map(move |(id, passenger)| {
            let mut draw = Draw::new(self.seed, "assignment", &[vehicle.index, start as u64, u64::from(passenger)]);
            let kind = draw.word(KINDS);
            Some(Assignment {
                driver: self.driver(id)?,
                vehicle,
                start,
                end,
                assigned: draw.chance(0.05).then(|| start - draw.between(0, 30 * MINUTE)),
                kind,
                passenger,
                source: (kind == "external").then_some("Répartition"),
            })
        })
    }

    /// The assignments of a vehicle that start in a half-open window, oldest first.
    pub(crate) fn assignments_starting<'a>(
        &'a self,
        vehicle: &'a Vehicle,
        from: Millis,
        to: Millis,
    ) -> Vec<Assignment<'a>> {
        self.trips_starting(vehicle, from, to).iter().flat_map(|trip| self.assignments(vehicle, trip)).collect()
    }

    /// The assignments any part of which lies in a window, oldest first.
    pub(crate) fn assignments_overlapping<'a>(
        &'a self,
        vehicle: &'a Vehicle,
        from: Millis,
        to: Millis,
    ) -> Vec<Assignment<'a>> {
        // Unlike trips, what still lasts is not in the future yet.
        let now = self.clock.now();
        self.trips_overlapping(vehicle, from, to)
            .iter()
            .filter(|trip| trip.end.unwrap_or(now) >= from)
            .flat_map(|trip| self.assignments(vehicle, trip))
            .collect()
    }
}
