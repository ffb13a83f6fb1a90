//! Fuel and energy over a window. The report is about exactly that window: two days requested together are
//! not always the sum of the two.

use super::World;
use super::draw::{Draw, round};
use super::drivers::Driver;
use super::vehicles::{Energy, Vehicle};
use crate::time::{DAY, Millis, day_start, days_touching};

/// A vehicle's or a driver's consumption in one window.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FuelReport {
    /// Metres.
    pub(crate) distance: f64,
    /// Miles per gallon, or its equivalent.
    pub(crate) efficiency: f64,
    /// Kilowatt-hours; not reported for some.
    pub(crate) energy: Option<f64>,
    /// Milliseconds.
    pub(crate) idle: i64,
    pub(crate) running: i64,
    /// Kilograms.
    pub(crate) carbon: f64,
    pub(crate) cost: f64,
    pub(crate) currency: &'static str,
    /// Millilitres.
    pub(crate) fuel: f64,
}

/// The subject of a report, and the key for which its numbers are drawn.
#[derive(Debug, Clone, Copy)]
struct Subject {
    /// Of the days and of the window.
    purposes: [&'static str; 2],
    index: u64,
    energy: Energy,
}

impl World {
    /// The report of a vehicle over a half-open window; `None` when it was not used in it.
    pub(crate) fn fuel_report(
        &self,
        vehicle: &Vehicle,
        from: Millis,
        to: Millis,
    ) -> Option<FuelReport> {
        let subject = Subject {
            purposes: ["fuel day", "fuel window"],
            index: vehicle.index,
            energy: vehicle.energy,
        };
        self.report(subject, from, to, |day| self.is_active(vehicle, day))
    }

    /// The report of a driver over a half-open window; `None` when the driver did not work in it.
    pub(crate) fn driver_fuel_report(
        &self,
        driver: &Driver,
        from: Millis,
        to: Millis,
    ) -> Option<FuelReport> {
        let energy = if driver.index % 5 == 4 {
            Energy::Hybrid
        } else {
            Energy::Fuel
        };
        let subject = Subject {
            purposes: ["driver fuel day", "driver fuel window"],
            index: driver.index,
            energy,
        };
        self.report(subject, from, to, |day| {
            !self.workday(driver, day).is_empty()
        })
    }

    fn report(
        &self,
        subject: Subject,
        from: Millis,
        to: Millis,
        active: impl Fn(i64) -> bool,
    ) -> Option<FuelReport> {
        let Subject {
            purposes: [of_day, of_window],
            index,
            energy,
        } = subject;
        let (start, end) = self.within_data(from, to.min(self.clock.now()));
        let (mut distance, mut idle, mut running, mut days) = (0.0, 0.0, 0.0, 0);
        for day in days_touching(start, end).filter(|day| active(*day)) {
            let mut draw = Draw::new(self.seed, of_day, &[index, day as u64]);
            // A window that cuts a day gets its share of it.
            let covered =
                (end.min(day_start(day + 1)) - start.max(day_start(day))) as f64 / DAY as f64;
            distance += draw.decimal(0.0, 640_000.0, 0) * covered;
            running += draw.decimal(600_000.0, 36_000_000.0, 0) * covered;
            idle += draw.decimal(0.0, 5_000_000.0, 0) * covered;
            days += 1;
        }
        if days == 0 {
            return None;
        }
        let mut draw = Draw::new(self.seed, of_window, &[index, from as u64, to as u64]);
        // A third of the reports is computed for the window instead of added up.
        let drift = if draw.chance(1.0 / 3.0) {
            draw.decimal(1.001, 1.03, 4)
        } else {
            1.0
        };
        let distance = round(distance * drift, if draw.chance(0.5) { 0 } else { 1 });
        let electric = energy == Energy::Electric;
        let fuel = if electric {
            0.0
        } else {
            round(distance * draw.decimal(0.2, 0.45, 3), 2)
        };
        let energy = match energy {
            Energy::Fuel => draw.chance(0.5).then_some(0.0),
            Energy::Hybrid | Energy::Electric => {
                Some(round(distance / 1_000.0 * draw.decimal(0.1, 1.4, 2), 3))
            }
        };
        let decimals = if draw.chance(0.3) { 0 } else { 1 };
        let efficiency = draw.decimal(4.0, 70.0, decimals);
        Some(FuelReport {
            efficiency,
            idle: (idle * drift) as i64,
            running: (running * drift) as i64,
            carbon: round(fuel * 0.002_64, 1),
            cost: round(fuel * 0.001_3 + energy.unwrap_or_default() * 0.18, 2),
            currency: self.region.currency(),
            distance,
            energy,
            fuel,
        })
    }
}
