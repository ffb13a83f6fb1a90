//! Trips: never overlapping for one vehicle, some across midnight UTC.

use super::World;
use super::draw::Draw;
use super::drivers;
use super::vehicles::Vehicle;
use super::vocabulary::{PLACES, ROADS};
use crate::time::{DAY, HOUR, MINUTE, Millis, SECOND, day_start, days_touching};

/// No trip is longer than this.
const LONGEST: Millis = 3 * HOUR;
/// Odometers count from here: 2020-01-01.
const COUNTING_SINCE: Millis = 1_577_836_800_000;

/// A trip as it looks at the world's present time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trip {
    pub(crate) start: Millis,
    /// `None` while it is under way.
    pub(crate) end: Option<Millis>,
    pub(crate) driver: Option<u64>,
    pub(crate) codrivers: Vec<u64>,
    /// Attached trailers.
    pub(crate) trailers: Vec<u64>,
    pub(crate) from: Stop,
    pub(crate) to: Stop,
    /// Metres.
    pub(crate) start_odometer: i64,
    pub(crate) end_odometer: i64,
    pub(crate) distance: f64,
    pub(crate) toll_distance: f64,
    /// Millilitres.
    pub(crate) fuel: f64,
}

/// Where a trip starts or ends.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stop {
    pub(crate) location: String,
    pub(crate) address: Option<StopAddress>,
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
}

/// An address of the organisation, with its number.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StopAddress {
    pub(crate) id: u64,
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
}

impl Stop {
    fn draw(draw: &mut Draw) -> Self {
        let index = draw.below(PLACES.len() as u64);
        let (name, text, latitude, longitude) =
            PLACES.get(index as usize).copied().unwrap_or_default();
        let address = StopAddress {
            id: super::place_id(index),
            name,
            text,
        };
        Self {
            location: format!("{} {}", draw.word(ROADS), name),
            address: draw.chance(0.25).then_some(address),
            latitude: draw.decimal(latitude - 0.2, latitude + 0.2, 6),
            longitude: draw.decimal(longitude - 0.2, longitude + 0.2, 6),
        }
    }
}

impl Trip {
    /// The known part of a trip in progress: where and when it started.
    fn under_way(self) -> Self {
        let to = Stop {
            location: String::new(),
            address: None,
            ..self.from.clone()
        };
        Self {
            end: None,
            to,
            end_odometer: 0,
            distance: 0.0,
            toll_distance: 0.0,
            fuel: 0.0,
            ..self
        }
    }
}

impl World {
    /// The trips of a vehicle that start on a day and have started by now, oldest first.
    fn day_trips(&self, vehicle: &Vehicle, day: i64) -> Vec<Trip> {
        if !self.is_active(vehicle, day) {
            return Vec::new();
        }
        let now = self.clock.now();
        let mut draw = Draw::new(self.seed, "trips", &[vehicle.index, day as u64]);
        let mut trips = Vec::new();
        // One trip at most in each slot of three hours, the last of which reaches into the next day. The first
        // slot starts late enough for that.
        for slot in 0..8 {
            let share = if slot == 7 { 0.2 } else { 0.45 };
            if !draw.chance(share) {
                continue;
            }
            let opens = day_start(day) + 2 * HOUR + slot * LONGEST;
            let (start, end) = if slot == 7 {
                (
                    day_start(day) + DAY - draw.between(1, 40 * MINUTE),
                    day_start(day + 1) + draw.between(1, 100 * MINUTE),
                )
            } else {
                let start = opens + draw.between(0, HOUR);
                (start, start + draw.between(5 * MINUTE, 115 * MINUTE))
            };
            let end = if draw.chance(0.3) {
                end / SECOND * SECOND
            } else {
                end
            };
            let trip = self.trip(vehicle, start, end, &mut draw);
            if self.span.contains(&start) && start <= now {
                trips.push(if end > now { trip.under_way() } else { trip });
            }
        }
        trips
    }

    fn trip(&self, vehicle: &Vehicle, start: Millis, end: Millis, draw: &mut Draw) -> Trip {
        let (active, _) = drivers::counts(self.vehicles.len() as u32);
        let (first, second) = (
            drivers::id(draw.below(active)),
            drivers::id(draw.below(active)),
        );
        // Whole metres for some, fractions for others.
        let decimals = if draw.chance(0.7) { 0 } else { 2 };
        let distance = super::draw::round(
            (end - start) as f64 / HOUR as f64 * draw.decimal(20.0, 80_000.0, 0),
            decimals,
        );
        let start_odometer =
            (start - COUNTING_SINCE) / HOUR * 21_000 + vehicle.index as i64 * 77_000;
        let trailer = draw.pick(&self.trailers).map(|trailer| trailer.id);
        let fuel_decimals = if draw.chance(0.8) { 0 } else { 1 };
        Trip {
            start,
            end: Some(end),
            driver: draw.chance(0.85).then_some(first),
            codrivers: if draw.chance(0.1) {
                vec![second]
            } else {
                Vec::new()
            },
            trailers: trailer.filter(|_| draw.chance(0.25)).into_iter().collect(),
            from: Stop::draw(draw),
            to: Stop::draw(draw),
            start_odometer,
            end_odometer: start_odometer + distance as i64,
            distance,
            toll_distance: if draw.chance(0.7) {
                0.0
            } else {
                (distance / 3.0).floor()
            },
            fuel: draw.decimal(0.0, 40_000.0, fuel_decimals),
        }
    }

    /// The trips that start in a half-open window.
    pub(crate) fn trips_starting(&self, vehicle: &Vehicle, from: Millis, to: Millis) -> Vec<Trip> {
        let (from, to) = self.within_data(from, to);
        let mut trips: Vec<Trip> = days_touching(from, to)
            .flat_map(|day| self.day_trips(vehicle, day))
            .collect();
        trips.retain(|trip| (from..to).contains(&trip.start));
        trips
    }

    /// The trips any part of which is between two instants, both inclusive. A trip in progress has no end.
    pub(crate) fn trips_overlapping(
        &self,
        vehicle: &Vehicle,
        from: Millis,
        to: Millis,
    ) -> Vec<Trip> {
        let now = self.clock.now();
        let asked = self.within_data(from.saturating_sub(LONGEST), to.saturating_add(1));
        // A trip in progress started a short while ago, however late the window is.
        let present = self.within_data(now.saturating_sub(LONGEST), now.saturating_add(1));
        let mut days: Vec<i64> = [asked, present]
            .into_iter()
            .flat_map(|(from, to)| days_touching(from, to))
            .collect();
        days.sort_unstable();
        days.dedup();
        days.into_iter()
            .flat_map(|day| self.day_trips(vehicle, day))
            .filter(|trip| trip.start <= to && trip.end.is_none_or(|end| end >= from))
            .collect()
    }
}
