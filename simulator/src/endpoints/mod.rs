//! The endpoints, with their rate limits and responses.

mod alerts;
mod assets;
mod assignments;
mod audit_logs;
mod devices;
mod documents;
mod efficiency;
mod filters;
mod fuel_energy;
mod groups;
mod hos;
mod idling;
mod lists;
mod places;
mod reefers;
mod safety;
mod stats;
mod stream;
mod trips;

#[cfg(test)]
pub(crate) use assignments::KINDS;
use serde_json::Value;

use super::paging::Call;
use super::query::Refusal;
use super::surface::Surface;

/// An endpoint of the API.
pub(crate) struct Endpoint {
    /// May hold one name in braces, which stands for an id.
    pub(crate) path: &'static str,
    /// The documented rate limit, requests a second.
    pub(crate) per_second: f64,
    answer: fn(&Call<'_>) -> Result<Value, Refusal>,
}

/// What answers at a path: written by hand, or as text.
#[derive(Clone, Copy)]
pub(crate) enum Served {
    Endpoint(&'static Endpoint),
    Surface(&'static Surface),
}

impl Served {
    /// What answers at a path, and the id that the path holds.
    pub(crate) fn at(path: &str) -> Option<(Self, &str)> {
        let by_hand = Endpoint::at(path).map(|(endpoint, id)| (Self::Endpoint(endpoint), id));
        by_hand.or_else(|| Surface::at(path).map(|(surface, id)| (Self::Surface(surface), id)))
    }

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Endpoint(endpoint) => endpoint.path,
            Self::Surface(surface) => &surface.path,
        }
    }

    /// The documented rate limit, requests a second.
    pub(crate) fn per_second(self) -> f64 {
        match self {
            Self::Endpoint(endpoint) => endpoint.per_second,
            Self::Surface(surface) => surface.per_second,
        }
    }

    pub(crate) fn answer(self, call: &Call<'_>) -> Result<Value, Refusal> {
        match self {
            Self::Endpoint(endpoint) => (endpoint.answer)(call),
            Self::Surface(surface) => surface.answer(call),
        }
    }
}

/// The path that says whose token it is.
pub(crate) const ME: &str = "/me";

const fn endpoint(
    path: &'static str,
    per_second: f64,
    answer: fn(&Call<'_>) -> Result<Value, Refusal>,
) -> Endpoint {
    Endpoint {
        path,
        per_second,
        answer,
    }
}

static ENDPOINTS: &[Endpoint] = &[
    endpoint(ME, 5.0, lists::me),
    endpoint("/fleet/vehicles", 25.0, lists::vehicles),
    endpoint("/fleet/drivers", 5.0, lists::drivers),
    endpoint("/tags", 5.0, lists::tags),
    endpoint("/fleet/vehicles/stats/history", 5.0, stats::history),
    endpoint("/fleet/vehicles/stats/feed", 5.0, stats::feed),
    endpoint("/v1/fleet/assets/reefers", 5.0, reefers::reefers),
    endpoint(
        "/fleet/reports/vehicles/fuel-energy",
        25.0,
        fuel_energy::report,
    ),
    endpoint("/v1/fleet/trips", 5.0, trips::trips),
    endpoint("/alerts/configurations", 5.0, alerts::configurations),
    endpoint("/alerts/incidents/stream", 10.0, alerts::incidents),
    endpoint(
        "/fleet/safety-events/audit-logs/feed",
        5.0,
        audit_logs::feed,
    ),
    endpoint("/addresses", 5.0, places::addresses),
    endpoint("/contacts", 5.0, places::contacts),
    endpoint("/fleet/equipment", 5.0, assets::equipment),
    endpoint("/fleet/trailers", 5.0, assets::trailers),
    endpoint("/v1/fleet/assets", 5.0, assets::assets),
    endpoint("/devices", 5.0, devices::devices),
    endpoint("/fleet/document-types", 5.0, documents::types),
    endpoint("/fleet/documents", 5.0, documents::documents),
    endpoint(
        "/fleet/driver-vehicle-assignments",
        5.0,
        assignments::assignments,
    ),
    endpoint("/fleet/hos/clocks", 5.0, hos::clocks),
    endpoint("/fleet/hos/daily-logs", 5.0, hos::daily_logs),
    endpoint("/fleet/hos/violations", 5.0, hos::violations),
    endpoint("/fleet/safety-events", 5.0, safety::events),
    endpoint(
        "/v1/fleet/vehicles/{vehicleId}/safety/score",
        5.0,
        safety::score,
    ),
    endpoint("/fleet/reports/vehicle/idling", 25.0, idling::idling),
    endpoint(
        "/fleet/reports/drivers/fuel-energy",
        5.0,
        fuel_energy::driver_report,
    ),
    endpoint(
        "/beta/fleet/drivers/efficiency",
        50.0,
        efficiency::summaries,
    ),
];

impl Endpoint {
    /// The endpoint of a path, and the id in the path.
    fn at(path: &str) -> Option<(&'static Endpoint, &str)> {
        ENDPOINTS
            .iter()
            .find_map(|endpoint| endpoint.id_in(path).map(|id| (endpoint, id)))
    }

    /// The id in a path of this endpoint; empty if the endpoint has none.
    fn id_in<'a>(&self, path: &'a str) -> Option<&'a str> {
        id_in(self.path, path)
    }
}

/// The id in `path` at the place of the name in braces in `pattern`; empty for a pattern without one, none if the two
/// do not match.
pub(crate) fn id_in<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    match pattern.split_once('{') {
        None => (pattern == path).then_some(""),
        Some((before, rest)) => {
            let (_, after) = rest.split_once('}')?;
            let id = path.strip_prefix(before)?.strip_suffix(after)?;
            (!id.is_empty() && !id.contains('/')).then_some(id)
        }
    }
}

/// The rate, in requests a second, of a path without a documented rate.
pub(crate) const DEFAULT_RATE: f64 = 5.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_in_its_path() {
        let found = |path| Endpoint::at(path).map(|(endpoint, id)| (endpoint.path, id));
        let score = "/v1/fleet/vehicles/{vehicleId}/safety/score";
        assert_eq!(
            found("/v1/fleet/vehicles/12/safety/score"),
            Some((score, "12"))
        );
        assert_eq!(found("/fleet/vehicles"), Some(("/fleet/vehicles", "")));
        for path in [
            "/v1/fleet/vehicles//safety/score",
            "/v1/fleet/vehicles/1/2/safety/score",
            "/fleet/vehicles/1",
        ] {
            assert_eq!(found(path), None, "{path}");
        }
    }
}
