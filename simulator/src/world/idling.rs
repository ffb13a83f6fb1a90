//! Engines that run while their vehicle stands.

use super::World;
use super::draw::Draw;
use super::vehicles::{Energy, Vehicle};
use super::vocabulary::{PLACES, ROADS};
use crate::time::{DAY, HOUR, MINUTE, Millis, SECOND, day_start, days_touching};

/// A period of idling that has ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Idling {
    pub(crate) start: Millis,
    pub(crate) end: Millis,
    /// Whether a machine was driven by the engine.
    pub(crate) power_take_off: bool,
    /// Millilitres.
    pub(crate) fuel: f64,
    pub(crate) address: Option<IdlingAddress>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct IdlingAddress {
    /// Empty where the place is not known by an address.
    pub(crate) text: Option<String>,
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
}

impl World {
    /// The idling of a vehicle that starts in a half-open window and is over by now, oldest first.
    pub(crate) fn idling(&self, vehicle: &Vehicle, from: Millis, to: Millis) -> Vec<Idling> {
        let (from, to) = self.within_data(from, to);
        let now = self.clock.now();
        let mut stretches = Vec::new();
        if vehicle.energy == Energy::Electric {
            return stretches;
        }
        for day in days_touching(from, to).filter(|day| self.is_active(vehicle, *day)) {
            let mut draw = Draw::new(self.seed, "idling", &[vehicle.index, day as u64]);
            // At most one in each quarter of the day; the last may reach into the next day, whose first one begins late
            // enough.
            for quarter in 0..4 {
                if !draw.chance(0.4) {
                    continue;
                }
                let start =
                    day_start(day) + quarter * 6 * HOUR + 2 * HOUR + draw.between(0, 4 * HOUR - 1);
                let start = if draw.chance(0.5) {
                    start / SECOND * SECOND
                } else {
                    start
                };
                let end = start + draw.between(2 * MINUTE, 110 * MINUTE);
                let stretch = Idling {
                    start,
                    end,
                    ..Idling::draw(&mut draw)
                };
                if (from..to).contains(&start) && end <= now {
                    stretches.push(stretch);
                }
            }
        }
        debug_assert!(
            stretches
                .iter()
                .all(|stretch| stretch.end - stretch.start < DAY)
        );
        stretches
    }
}

impl Idling {
    fn draw(draw: &mut Draw) -> Self {
        let (name, _, latitude, longitude) = draw.pick(PLACES).copied().unwrap_or_default();
        // Whole millilitres for most, fractions for others.
        let decimals = if draw.chance(0.7) { 0 } else { 2 };
        let text = match draw.below(10) {
            0 => None,
            1 => Some(String::new()),
            _ => Some(format!(
                "{} {}, {}",
                draw.between(1, 200),
                draw.word(ROADS),
                name
            )),
        };
        let address = IdlingAddress {
            text,
            latitude: draw.decimal(latitude - 0.1, latitude + 0.1, 6),
            longitude: draw.decimal(longitude - 0.1, longitude + 0.1, 6),
        };
        Self {
            start: 0,
            end: 0,
            power_take_off: draw.chance(0.2),
            fuel: draw.decimal(10.0, 6_000.0, decimals),
            address: draw.chance(0.95).then_some(address),
        }
    }
}
