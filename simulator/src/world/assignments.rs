//! Driver assignments: one for the driver of each trip, and one for each passenger; and some outside trips, which may
//! last for days.

use super::World;
use super::draw::Draw;
use super::drivers::{self, Driver};
use super::trips::Trip;
use super::vehicles::Vehicle;
use crate::time::{DAY, HOUR, MINUTE, Millis, SECOND, day_start, days_touching};

/// What made an assignment.
const KINDS: &[&str] = &[
    "HOS",
    "HOS",
    "HOS",
    "idCard",
    "driverApp",
    "tachograph",
    "external",
];
/// What made one outside trips.
const KINDS_OUTSIDE: &[&str] = &["static", "static", "qrCode", "driverApp", "HOS"];
/// No assignment is longer than this.
const LONGEST: Millis = 12 * DAY;

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
    /// Whether it is in the time of a trip: others are returned only to requests for their type.
    pub(crate) of_trip: bool,
}

impl World {
    fn assignments<'a>(
        &'a self,
        vehicle: &'a Vehicle,
        trip: &Trip,
    ) -> impl Iterator<Item = Assignment<'a>> + use<'a> {
        let (start, end) = (trip.start, trip.end);
        let aboard = trip.driver.map(|id| (id, false)).into_iter();
        let aboard: Vec<(u64, bool)> = aboard
            .chain(trip.codrivers.iter().map(|id| (*id, true)))
            .collect();
        aboard.into_iter().filter_map(move |(id, passenger)| {
            let mut draw = Draw::new(
                self.seed,
                "assignment",
                &[vehicle.index, start as u64, u64::from(passenger)],
            );
            let kind = draw.word(KINDS);
            Some(Assignment {
                driver: self.driver(id)?,
                vehicle,
                start,
                end,
                assigned: draw
                    .chance(0.05)
                    .then(|| start - draw.between(0, 30 * MINUTE)),
                kind,
                passenger,
                source: (kind == "external").then_some("Répartition"),
                of_trip: true,
            })
        })
    }

    /// The assignment outside trips that starts on a day and has started by now. One day in four has one, and every
    /// fifth of them lasts for days.
    fn assignment_outside<'a>(&'a self, vehicle: &'a Vehicle, day: i64) -> Option<Assignment<'a>> {
        let mut draw = Draw::new(
            self.seed,
            "assignment outside trips",
            &[vehicle.index, day as u64],
        );
        if !draw.chance(0.25) {
            return None;
        }
        let start = day_start(day) + draw.between(0, DAY - 1);
        let start = if draw.chance(0.5) {
            start / SECOND * SECOND
        } else {
            start
        };
        let length = if draw.chance(0.2) {
            draw.between(2 * DAY, LONGEST)
        } else {
            draw.between(5 * MINUTE, 10 * HOUR)
        };
        let (active, _) = drivers::counts(self.vehicles.len() as u32);
        let now = self.clock.now();
        Some(Assignment {
            driver: self.driver(drivers::id(draw.below(active)))?,
            vehicle,
            start,
            end: Some(start + length).filter(|end| *end <= now),
            assigned: draw
                .chance(0.1)
                .then(|| start + draw.between(0, 30 * MINUTE)),
            kind: draw.word(KINDS_OUTSIDE),
            passenger: false,
            source: None,
            of_trip: false,
        })
        .filter(|one| self.span.contains(&one.start) && one.start <= now)
    }

    /// The assignments of a vehicle that start in a half-open window, oldest first.
    pub(crate) fn assignments_starting<'a>(
        &'a self,
        vehicle: &'a Vehicle,
        from: Millis,
        to: Millis,
    ) -> Vec<Assignment<'a>> {
        let trips = self.trips_starting(vehicle, from, to);
        let of_trips = trips
            .iter()
            .flat_map(|trip| self.assignments(vehicle, trip));
        let outside =
            days_touching(from, to).filter_map(|day| self.assignment_outside(vehicle, day));
        let outside = outside.filter(|one| (from..to).contains(&one.start));
        sorted(of_trips.chain(outside).collect())
    }

    /// The assignments any part of which lies in a window, oldest first.
    pub(crate) fn assignments_overlapping<'a>(
        &'a self,
        vehicle: &'a Vehicle,
        from: Millis,
        to: Millis,
    ) -> Vec<Assignment<'a>> {
        // Unlike trips, assignments that still last do not end in the future.
        let now = self.clock.now();
        let trips = self.trips_overlapping(vehicle, from, to);
        let of_trips = trips
            .iter()
            .flat_map(|trip| self.assignments(vehicle, trip));
        let (first, last) = self.within_data(from.saturating_sub(LONGEST), to.saturating_add(1));
        let outside =
            days_touching(first, last).filter_map(|day| self.assignment_outside(vehicle, day));
        let mut all = sorted(of_trips.chain(outside).collect());
        all.retain(|one| one.start <= to && one.end.unwrap_or(now) >= from);
        all
    }
}

fn sorted(mut assignments: Vec<Assignment<'_>>) -> Vec<Assignment<'_>> {
    assignments.sort_by_key(|one| one.start);
    assignments
}
