//! Which drivers work on which days, and with what.

use super::World;
use super::draw::Draw;
use super::drivers::Driver;
use super::vehicles::Vehicle;

impl World {
    /// The vehicles a driver uses on a day, one or two; none on a day off. Deactivated drivers hardly ever work.
    pub(crate) fn workday(&self, driver: &Driver, day: i64) -> Vec<&Vehicle> {
        let mut draw = Draw::new(self.seed, "workday", &[driver.index, day as u64]);
        if !draw.chance(if driver.active { 0.7 } else { 0.05 }) {
            return Vec::new();
        }
        let fleet = self.vehicles.len();
        let first = draw.below(fleet as u64) as usize;
        let count = if draw.chance(0.2) { 2 } else { 1 };
        (0..count.min(fleet))
            .map(|place| &self.vehicles[(first + place) % fleet])
            .collect()
    }
}
