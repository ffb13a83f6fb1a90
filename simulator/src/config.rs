//! The settings of a simulator.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::SimulatorError;
use super::faults::Faults;

/// The token that a simulator accepts by default.
pub const DEFAULT_TOKEN: &str = "samsara_api_simulator";

/// The largest fleet of a simulator; a guard against typing errors.
const MAX_VEHICLES: u32 = 200_000;

/// The cloud of the simulated organisation. It affects the currency and the response of `/me`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Region {
    /// `api.samsara.com`
    #[default]
    Us,
    /// `api.eu.samsara.com`
    Eu,
    /// `api.ca.samsara.com`
    Ca,
}

impl Region {
    /// The region's short name: `us`, `eu` or `ca`.
    pub fn name(self) -> &'static str {
        match self {
            Region::Us => "us",
            Region::Eu => "eu",
            Region::Ca => "ca",
        }
    }

    pub(crate) fn currency(self) -> &'static str {
        match self {
            Region::Us => "usd",
            Region::Eu => "eur",
            Region::Ca => "cad",
        }
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Region {
    type Err = SimulatorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Region::Us, Region::Eu, Region::Ca]
            .into_iter()
            .find(|region| region.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| {
                SimulatorError::Config(format!("unknown region {text:?}: expected us, eu or ca"))
            })
    }
}

/// Readings and documents that are not on the server yet, however late it is, until
/// [`Simulator::release_late`](super::Simulator::release_late) is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LateData {
    /// End of the withheld period, exclusive.
    pub before: DateTime<Utc>,
    /// Length of the period; it starts this long before `before`.
    pub withhold: Duration,
}

/// How the fuel and energy report reads `startDate` and `endDate`. Documentation and experience differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FuelWindow {
    /// Exactly the requested instants, with an exclusive end that is rounded up to a whole minute.
    #[default]
    Exact,
    /// As documented: only the dates count and the day of `endDate` is part of the window.
    WholeDays,
}

/// Everything that shapes a simulator. `SimulatorConfig::default()` is a small healthy fleet on a free port.
#[derive(Debug, Clone)]
pub struct SimulatorConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Number of vehicles; drivers, trailers, tags and alert configurations follow from it.
    pub vehicles: u32,
    /// The same seed and fleet size give the same world, on any machine and at any time.
    pub seed: u64,
    /// The only bearer token that is accepted.
    pub token: String,
    /// The region that `/me` names.
    pub region: Region,
    /// Waited before each answer.
    pub latency: Option<Duration>,
    /// Whether the documented rate limits are enforced with status 429.
    pub enforce_rate_limits: bool,
    /// Multiplies the documented rates: 2.0 is twice as generous.
    pub rate_limit_scale: f64,
    /// How often which fault happens.
    pub faults: Faults,
    /// The pause between the pieces of a body that a fault slows down.
    pub slow_body_pause: Duration,
    /// Adds fields that no schema knows: on records, inside nested readings and next to `data`. Values that stay JSON
    /// in the tables (tags, conditions …) are left alone.
    pub unknown_fields: bool,
    /// Makes `/history` add the last reading before `startTime`, as one page of the documentation shows.
    pub point_before_window: bool,
    /// How the fuel and energy report reads its dates.
    pub fuel_window: FuelWindow,
    /// A folder of recorded pages; when set, nothing but these (and `/me`) is served.
    pub pages_dir: Option<PathBuf>,
    /// Endpoint paths the token may not read: they answer 403. A path with an id in it may be given as it is requested,
    /// or with the id's name in braces.
    pub missing_scopes: Vec<String>,
    /// Records on a page, in place of each endpoint's own number. A smaller `limit` still counts.
    pub page_size: Option<usize>,
    /// The instant from which the world has events.
    pub data_from: DateTime<Utc>,
    /// The instant at which events end.
    pub data_to: DateTime<Utc>,
    /// The world's clock at the start; the end of the data when not given.
    pub now: Option<DateTime<Utc>>,
    /// Readings withheld until released.
    pub late: Option<LateData>,
}

impl Default for SimulatorConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            vehicles: 10,
            seed: 7,
            token: DEFAULT_TOKEN.to_owned(),
            region: Region::Us,
            latency: None,
            enforce_rate_limits: false,
            rate_limit_scale: 1.0,
            faults: Faults::default(),
            slow_body_pause: Duration::from_millis(20),
            unknown_fields: false,
            point_before_window: false,
            fuel_window: FuelWindow::Exact,
            pages_dir: None,
            missing_scopes: Vec::new(),
            page_size: None,
            // 2023-01-01 and 2030-01-01, midnight UTC.
            data_from: DateTime::from_timestamp(1_672_531_200, 0).unwrap_or_default(),
            data_to: DateTime::from_timestamp(1_893_456_000, 0).unwrap_or_default(),
            now: None,
            late: None,
        }
    }
}

impl SimulatorConfig {
    /// Refuses what no world can be made of.
    pub(crate) fn check(&self) -> Result<(), SimulatorError> {
        let refuse = |why: String| Err(SimulatorError::Config(why));
        if self.vehicles > MAX_VEHICLES {
            return refuse(format!(
                "{} vehicles are more than the {MAX_VEHICLES} it can build",
                self.vehicles
            ));
        }
        if self.token.is_empty() {
            return refuse("the token is empty".to_owned());
        }
        if !(self.rate_limit_scale.is_finite() && self.rate_limit_scale > 0.0) {
            return refuse(format!(
                "rate limit scale {} is not a positive number",
                self.rate_limit_scale
            ));
        }
        if self.data_from >= self.data_to {
            return refuse(format!(
                "the data ends ({}) before it starts ({})",
                self.data_to, self.data_from
            ));
        }
        if self.page_size == Some(0) {
            return refuse("a page of 0 records would never end".to_owned());
        }
        if let Some(dir) = self.pages_dir.as_ref().filter(|dir| !dir.is_dir()) {
            return refuse(format!(
                "{} is not a folder of recorded pages",
                dir.display()
            ));
        }
        self.faults.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_read_as_they_are_written() {
        assert_eq!("EU".parse::<Region>().expect("a region").to_string(), "eu");
        assert!("mars".parse::<Region>().is_err());
    }

    #[test]
    fn impossible_worlds_are_refused() {
        assert!(SimulatorConfig::default().check().is_ok());
        assert!(
            SimulatorConfig {
                page_size: Some(0),
                ..Default::default()
            }
            .check()
            .is_err()
        );
        assert!(
            SimulatorConfig {
                rate_limit_scale: 0.0,
                ..Default::default()
            }
            .check()
            .is_err()
        );
        let backwards = SimulatorConfig {
            data_to: DateTime::UNIX_EPOCH,
            ..Default::default()
        };
        assert!(backwards.check().is_err());
    }
}
