//! The endpoints: which there are, how often they may be asked, and what they answer.

mod alerts;
mod audit_logs;
mod fuel_energy;
mod lists;
mod reefers;
mod stats;
mod stream;
mod trips;

use serde_json::Value;

use super::paging::Call;
use super::query::Refusal;

/// An endpoint of the API.
pub(crate) struct Endpoint {
    pub(crate) path: &'static str,
    /// The documented rate limit, requests a second.
    pub(crate) per_second: f64,
    pub(crate) answer: fn(&Call<'_>) -> Result<Value, Refusal>,
}

/// The path that says whose token it is.
pub(crate) const ME: &str = "/me";

const fn endpoint(path: &'static str, per_second: f64, answer: fn(&Call<'_>) -> Result<Value, Refusal>) -> Endpoint {
    Endpoint { path, per_second, answer }
}

static ENDPOINTS: &[Endpoint] = &[
    endpoint(ME, 5.0, lists::me),
    endpoint("/fleet/vehicles", 25.0, lists::vehicles),
    endpoint("/fleet/drivers", 5.0, lists::drivers),
    endpoint("/tags", 5.0, lists::tags),
    endpoint("/fleet/vehicles/stats/history", 5.0, stats::history),
    endpoint("/fleet/vehicles/stats/feed", 5.0, stats::feed),
    endpoint("/v1/fleet/assets/reefers", 5.0, reefers::reefers),
    endpoint("/fleet/reports/vehicles/fuel-energy", 25.0, fuel_energy::report),
    endpoint("/v1/fleet/trips", 5.0, trips::trips),
    endpoint("/alerts/configurations", 5.0, alerts::configurations),
    endpoint("/alerts/incidents/stream", 10.0, alerts::incidents),
    endpoint("/fleet/safety-events/audit-logs/feed", 5.0, audit_logs::feed),
];

impl Endpoint {
    pub(crate) fn at(path: &str) -> Option<&'static Endpoint> {
        ENDPOINTS.iter().find(|endpoint| endpoint.path == path)
    }
}

/// The rate, in requests a second, of a path that is not known to have one of its own.
pub(crate) const DEFAULT_RATE: f64 = 5.0;
