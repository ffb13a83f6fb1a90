//! Waits that real services require, and that are shortened with an emulator.

use std::time::Duration;

/// The part of each wait that is really waited.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WaitScale(f64);

impl Default for WaitScale {
    /// Factor 1: all waits in full.
    fn default() -> Self {
        Self(1.0)
    }
}

impl WaitScale {
    /// A part above 0, at most 1; none for other numbers.
    pub fn new(part: f64) -> Option<Self> {
        (part > 0.0 && part <= 1.0).then_some(Self(part))
    }

    /// What is left of a wait.
    pub fn of(self, wait: Duration) -> Duration {
        wait.mul_f64(self.0)
    }

    /// How often something may happen, given how often the real service allows it.
    pub fn rate(self, rate: f64) -> f64 {
        rate / self.0
    }

    /// Whether anything is left out.
    pub fn is_shortened(self) -> bool {
        self.0 < 1.0
    }
}
