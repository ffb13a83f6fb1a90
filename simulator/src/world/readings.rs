//! Readings of vehicle statistics, generated on demand: each day of a vehicle and statistic has its own numbers, so a
//! reading is the same in every requested window, and nothing is kept in memory.

use super::draw::{Draw, round};
use super::fault_codes::FaultReading;
use super::parts::Named;
use super::schedule::{self, Gap};
use super::stat_types::{Shape, StatType};
use super::vehicles::Vehicle;
use super::vocabulary::{AUXILIARY_INPUTS, PLACES, ROADS};
use super::{World, place};
use crate::time::{HOUR, Millis, day_of, days_touching};

/// How far back the last known value is looked for.
const LOOK_BACK_DAYS: i64 = 45;
/// Counters start from here: 2020-01-01.
const COUNTING_SINCE: Millis = 1_577_836_800_000;

/// One reading of one statistic of one vehicle.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reading {
    pub(crate) time: Millis,
    pub(crate) point: Point,
    /// When it is on the server, by nature.
    arrival: Millis,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Point {
    Gps(Fix),
    Fault(FaultReading),
    Whole(i64),
    Decimal(f64),
    Word(&'static str),
    Auxiliary {
        name: &'static str,
        on: bool,
    },
    Immobilizer {
        connected: bool,
        state: &'static str,
    },
    Card(String),
    TellTales(Vec<&'static str>),
}

/// A position. Degrees, miles per hour.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fix {
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
    pub(crate) heading: f64,
    pub(crate) speed: f64,
    pub(crate) ecu_speed: bool,
    pub(crate) location: Option<String>,
    pub(crate) address: Option<Named>,
}

impl Fix {
    fn draw(draw: &mut Draw) -> Self {
        let index = draw.below(PLACES.len() as u64);
        let (name, _, latitude, longitude) =
            PLACES.get(index as usize).copied().unwrap_or_default();
        let moving = draw.chance(0.7);
        // Integers and fractions are mixed on purpose: the API sends them so.
        let decimals = if draw.chance(0.5) { 0 } else { 1 };
        Self {
            latitude: draw.decimal(latitude - 0.4, latitude + 0.4, 7),
            longitude: draw.decimal(longitude - 0.4, longitude + 0.4, 7),
            heading: if moving {
                draw.decimal(0.0, 359.0, decimals)
            } else {
                0.0
            },
            speed: if moving {
                draw.decimal(2.0, 75.0, decimals * 3)
            } else {
                0.0
            },
            ecu_speed: draw.chance(0.5),
            location: draw
                .chance(0.95)
                .then(|| format!("{} {}, {}", draw.between(1, 300), draw.word(ROADS), name)),
            address: draw.chance(0.16).then(|| place(index)),
        }
    }
}

fn point(stat: &StatType, vehicle: &Vehicle, time: Millis, draw: &mut Draw) -> Point {
    match stat.shape {
        Shape::Gps => Point::Gps(Fix::draw(draw)),
        Shape::FaultCodes => Point::Fault(FaultReading::draw(vehicle, draw)),
        // An engine that stands still reads zero.
        Shape::Whole(..) if stat.name == "engineRpm" && draw.chance(0.1) => Point::Whole(0),
        Shape::Whole(low, high) => Point::Whole(draw.between(low, high)),
        Shape::Counter(an_hour) => {
            // Wide, since micro-watt-hours over years would overflow.
            let grown = i128::from(time - COUNTING_SINCE) * i128::from(an_hour) / i128::from(HOUR);
            Point::Whole(i64::try_from(grown).unwrap_or(i64::MAX) + vehicle.index as i64 * 1_000)
        }
        Shape::Decimal(low, high) => Point::Decimal(draw.decimal(low, high, 2)),
        Shape::DecimalCounter(an_hour) => Point::Decimal(round(
            (time - COUNTING_SINCE) as f64 / HOUR as f64 * an_hour,
            1,
        )),
        Shape::Word(words) => Point::Word(draw.word(words)),
        Shape::Auxiliary => Point::Auxiliary {
            name: draw.word(AUXILIARY_INPUTS),
            on: draw.chance(0.5),
        },
        Shape::Immobilizer => Point::Immobilizer {
            connected: draw.chance(0.8),
            state: draw.word(&["ignition_enabled", "ignition_disabled"]),
        },
        Shape::Card => Point::Card(draw.code("0123456789", 8)),
        Shape::TellTales => Point::TellTales(
            ["brake", "coolant", "tyrePressure"]
                .into_iter()
                .filter(|_| draw.chance(0.4))
                .collect(),
        ),
    }
}

impl World {
    /// Whether a vehicle is used on a day. On the other days it reports nothing and drives nowhere.
    pub(crate) fn is_active(&self, vehicle: &Vehicle, day: i64) -> bool {
        let mut draw = Draw::new(self.seed, "vehicle day", &[vehicle.index, day as u64]);
        // 1970-01-01 was a Thursday, so days 2 and 3 of each week of the count are weekend.
        let weekend = matches!(day.rem_euclid(7), 2 | 3);
        vehicle.gateway.is_some() && !draw.chance(if weekend { 0.5 } else { 0.12 })
    }

    /// All readings of a day, whether or not they have arrived.
    fn day_readings(&self, vehicle: &Vehicle, stat: &StatType, day: i64) -> Vec<Reading> {
        if !stat.carried_by(vehicle) || !self.is_active(vehicle, day) {
            return Vec::new();
        }
        let gap = Gap::draw(
            &mut Draw::new(self.seed, "network", &[vehicle.index, day as u64]),
            day,
        );
        let mut draw = Draw::new(self.seed, stat.name, &[vehicle.index, day as u64]);
        let times = schedule::times(&mut draw, day, stat.per_day.0, stat.per_day.1);
        let mut readings = Vec::with_capacity(times.len() + 1);
        for time in times {
            let reading = Reading {
                time,
                point: point(stat, vehicle, time, &mut draw),
                arrival: gap.arrival(time),
            };
            // Now and then a device sends the same reading twice.
            let copies = if draw.chance(0.02) { 2 } else { 1 };
            readings.extend(std::iter::repeat_n(reading, copies));
        }
        readings.retain(|reading| self.span.contains(&reading.time));
        readings
    }

    fn arrival(&self, reading: &Reading) -> Option<Millis> {
        self.clock.arrival(reading.time, reading.arrival)
    }

    /// The readings of a half-open window that have arrived by now, oldest first.
    pub(crate) fn readings(
        &self,
        vehicle: &Vehicle,
        stat: &StatType,
        from: Millis,
        to: Millis,
    ) -> Vec<Reading> {
        let now = self.clock.now();
        let (from, to) = self.within_data(from, to);
        days_touching(from, to)
            .flat_map(|day| self.day_readings(vehicle, stat, day))
            .filter(|reading| (from..to).contains(&reading.time))
            .filter(|reading| self.arrival(reading).is_some_and(|arrival| arrival <= now))
            .collect()
    }

    /// The readings that reached the server after one instant and by another one, oldest first.
    pub(crate) fn arrivals(
        &self,
        vehicle: &Vehicle,
        stat: &StatType,
        after: Millis,
        until: Millis,
    ) -> Vec<Reading> {
        // Nothing arrives before it is read, so `until` bounds the times too.
        let (from, to) = self.within_data(
            self.clock.earliest_arriving_after(after),
            until.saturating_add(1),
        );
        days_touching(from, to)
            .flat_map(|day| self.day_readings(vehicle, stat, day))
            .filter(|reading| {
                self.arrival(reading)
                    .is_some_and(|arrival| arrival > after && arrival <= until)
            })
            .collect()
    }

    /// The newest reading before `before` that had reached the server at `as_of`.
    pub(crate) fn last_known(
        &self,
        vehicle: &Vehicle,
        stat: &StatType,
        before: Millis,
        as_of: Millis,
    ) -> Option<Reading> {
        let (_, end) = self.within_data(self.span.start, before);
        let last = day_of(end);
        let days = (last - LOOK_BACK_DAYS).max(day_of(self.span.start))..=last;
        days.rev().find_map(|day| {
            let readings = self.day_readings(vehicle, stat, day);
            readings.into_iter().rev().find(|reading| {
                reading.time < before
                    && self
                        .arrival(reading)
                        .is_some_and(|arrival| arrival <= as_of)
            })
        })
    }
}
