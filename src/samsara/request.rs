//! Requests to the API, rendered once.
//!
//! A cursor is bound to the exact query it came from, so the query is rendered once and sent byte for byte with
//! every page.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, DurationRound, SecondsFormat, TimeDelta, Utc};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::form_urlencoded;

use crate::catalog::{OmitPath, Pagination, Since, Source, TimeFormat, WindowParameters};

/// All characters that must be escaped for an id to stay one segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The half-open window `[start, end)` of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Start, inclusive.
    pub start: DateTime<Utc>,
    /// The instant after the last.
    pub end: DateTime<Utc>,
}

impl Window {
    /// The window of a list that looks back. It begins at a whole hour, so that an interrupted task can be resumed with
    /// the same query.
    pub fn looking_back(since: &Since, now: DateTime<Utc>) -> Self {
        let start = now - TimeDelta::hours(i64::from(since.hours));
        let start = start.duration_trunc(TimeDelta::hours(1)).unwrap_or(start);
        Self { start, end: now }
    }

    /// Its two halves, cut at a whole minute; none if they would be shorter than `floor`.
    pub fn bisect(self, floor: TimeDelta) -> Option<[Self; 2]> {
        let minutes = (self.end - self.start).num_minutes() / 2;
        let middle = self.start + TimeDelta::minutes(minutes);
        let halves = [
            Self {
                start: self.start,
                end: middle,
            },
            Self {
                start: middle,
                end: self.end,
            },
        ];
        halves
            .iter()
            .all(|half| half.end - half.start >= floor)
            .then_some(halves)
    }
}

/// What a request takes from a row of the parent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ParentRow {
    /// The values of the further parameters, in the order of [`crate::catalog::Parent::with`]; an empty one means a
    /// request without the parameter. Rows with equal values are sorted together, and may share a request.
    pub with: Vec<String>,
    /// Its id.
    pub id: String,
}

impl ParentRow {
    /// Groups of rows that share a request: with equal values of the further parameters, and at most `size` rows.
    pub fn batches(rows: &[Self], size: usize) -> impl Iterator<Item = &[Self]> {
        rows.chunk_by(|row, next| row.with == next.with)
            .flat_map(move |alike| alike.chunks(size.max(1)))
    }
}

impl From<&str> for ParentRow {
    fn from(id: &str) -> Self {
        Self {
            with: Vec::new(),
            id: id.into(),
        }
    }
}

/// One task over pages.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Path below the host, with the parent's id.
    pub path: String,
    /// The endpoint as the catalog names it: requests of one endpoint share its rate.
    pub endpoint: String,
    /// The query without cursor, percent-encoded.
    pub query: String,
    /// How pages follow each other.
    pub pagination: Pagination,
    /// Path of the list of records.
    pub records: Vec<String>,
    /// Envelope fields that only repeat the request.
    pub page_echoes: Vec<String>,
    /// Values that are cut out of each page.
    pub omit: Vec<OmitPath>,
    /// Requests per second that the endpoint allows.
    pub rate: f64,
    /// The token scope that the endpoint needs, in Samsara's words.
    pub scope: Option<String>,
    /// An endless stream: it is read until a page comes back empty.
    pub endless: bool,
}

impl Request {
    /// Renders the request for `sources`, which share one endpoint (see [`Source::share_key`]).
    ///
    /// `sweep` is the value of the swept parameter, `parents` are the rows of a fan-out.
    pub fn render(
        sources: &[&Source],
        window: Option<Window>,
        sweep: Option<&str>,
        parents: &[ParentRow],
    ) -> Option<Self> {
        let source = *sources.first()?;
        let constant = source.params.iter();
        let constant = constant.map(|(name, value)| (name.as_str(), vec![value.clone()]));
        let mut params: BTreeMap<&str, Vec<String>> = constant.collect();
        if let Some(share) = &source.share {
            params.insert(&share.parameter, vec![shared_fields(sources)]);
        }
        // An empty value means a request without the parameter.
        if let (Some(sweep), Some(value)) = (&source.sweep, sweep.filter(|value| !value.is_empty()))
        {
            params.insert(&sweep.parameter, vec![value.into()]);
        }
        if let Some(limit) = source.page_limit {
            params.insert("limit", vec![limit.to_string()]);
        }
        if let (Some(names), Some(window)) = (&source.window, window) {
            let (start, end) = time_parameters(names, window);
            params.insert(&names.start, vec![start]);
            if let Some(name) = &names.end {
                params.insert(name, vec![end]);
            }
        }
        let mut path = source.endpoint.clone();
        if let Some(parent) = &source.parent {
            let placeholder = format!("{{{}}}", parent.param);
            if path.contains(&placeholder) {
                path = path.replace(&placeholder, &segment(&parents.first()?.id));
            } else {
                // The order of ids is part of the query that a cursor is bound to.
                let mut ids: Vec<String> = parents.iter().map(|row| row.id.clone()).collect();
                ids.sort_unstable();
                let values = match parent.repeat {
                    true => ids,
                    false => vec![ids.join(",")],
                };
                params.insert(&parent.param, values);
            }
        }
        if let (Some(since), Some(window)) = (&source.since, window) {
            let start = instant(window.start, TimeFormat::Rfc3339);
            params.insert(&since.parameter, vec![start]);
        }
        if let (Some(parent), Some(row)) = (&source.parent, parents.first()) {
            let also = parent.with.keys().zip(&row.with);
            for (name, value) in also.filter(|(_, value)| !value.is_empty()) {
                params.insert(name, vec![value.clone()]);
            }
        }
        let omit = sources.iter().flat_map(|source| source.omit.iter());
        Some(Self {
            path,
            endpoint: source.endpoint.clone(),
            query: rendered(params),
            pagination: source.pagination,
            records: source.records.clone(),
            page_echoes: source.page_echoes.clone(),
            omit: omit.cloned().collect(),
            rate: source.rate_limit.per_second,
            scope: source.scope.clone(),
            endless: source.kind == crate::catalog::SourceKind::Feed,
        })
    }

    /// Path and query without cursor: what a cursor is bound to.
    pub fn identity(&self) -> String {
        self.target(None)
    }

    /// The values of query parameters, as [`Source::asked`] names them.
    pub fn asked(&self, source: &Source) -> Vec<(String, String)> {
        if source.asked.is_empty() {
            return Vec::new();
        }
        form_urlencoded::parse(self.query.as_bytes())
            .filter(|(name, _)| source.asked.iter().any(|asked| asked == name))
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect()
    }

    /// Path and query of the page at `cursor`.
    fn target(&self, cursor: Option<&str>) -> String {
        let query = self.query_at(cursor);
        if query.is_empty() {
            self.path.clone()
        } else {
            format!("{}?{query}", self.path)
        }
    }

    /// The query of the page at `cursor`.
    pub(super) fn query_at(&self, cursor: Option<&str>) -> String {
        let mut query = self.query.clone();
        if let (Some(cursor), Some(parameter)) = (cursor, self.pagination.parameter()) {
            if !query.is_empty() {
                query.push('&');
            }
            query.push_str(parameter);
            query.push('=');
            query.push_str(&encoded(cursor));
        }
        query
    }
}

/// The fields of sources that share a request.
fn shared_fields(sources: &[&Source]) -> String {
    let shares = sources.iter().filter_map(|source| source.share.as_ref());
    let mut fields: Vec<&str> = shares.map(|share| share.field.as_str()).collect();
    fields.sort_unstable();
    fields.join(",")
}

/// The values of the parameters for start and end of a window.
fn time_parameters(names: &WindowParameters, window: Window) -> (String, String) {
    let Window { start, end } = window;
    if names.format == TimeFormat::MonthName {
        return (start.year().to_string(), start.format("%B").to_string());
    }
    let end = end + TimeDelta::days(i64::from(names.days_beyond));
    let last = match names.end_inclusive {
        true => end - TimeDelta::milliseconds(1),
        false => end,
    };
    (instant(start, names.format), instant(last, names.format))
}

fn rendered(params: BTreeMap<&str, Vec<String>>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, values) in params {
        for value in values {
            query.append_pair(name, &value);
        }
    }
    query.finish()
}

/// An id as exactly one segment of a path. An id that cannot be one (empty, `.`, `..`) becomes a path that the client
/// refuses.
fn segment(id: &str) -> String {
    if id.is_empty() {
        ".".into()
    } else {
        utf8_percent_encode(id, SEGMENT).to_string()
    }
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn instant(at: DateTime<Utc>, format: TimeFormat) -> String {
    match format {
        TimeFormat::Rfc3339 => at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        TimeFormat::EpochMs => at.timestamp_millis().to_string(),
        // A month is rendered above, in two parameters.
        TimeFormat::Date | TimeFormat::MonthName => at.format("%Y-%m-%d").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    fn day() -> Window {
        let start = "2024-01-01T00:00:00Z".parse().unwrap();
        Window {
            start,
            end: start + TimeDelta::days(1),
        }
    }

    fn request(names: &[&str], sweep: Option<&str>, parents: &[&str]) -> Request {
        let catalog = Catalog::open(None).unwrap();
        let sources: Vec<_> = names
            .iter()
            .map(|name| catalog.source(name).unwrap())
            .collect();
        let window = sources[0].is_daily().then(day);
        let parents: Vec<_> = parents.iter().copied().map(ParentRow::from).collect();
        Request::render(&sources, window, sweep, &parents).unwrap()
    }

    #[test]
    fn batches_have_their_further_values_in_common() {
        let row = |with: &str, id: &str| ParentRow {
            with: vec![with.into()],
            id: id.into(),
        };
        let rows = std::collections::BTreeSet::from([
            row("b", "1"),
            row("a", "3"),
            row("a", "1"),
            row("a", "2"),
        ]);
        let rows: Vec<ParentRow> = rows.into_iter().collect();
        let sizes =
            |most| -> Vec<usize> { ParentRow::batches(&rows, most).map(<[_]>::len).collect() };
        assert_eq!(sizes(2), [2, 1, 1]);
        assert_eq!(sizes(5), [3, 1]);
        assert_eq!(sizes(1), [1, 1, 1, 1]);
        assert!(ParentRow::batches(&[], 5).next().is_none());
    }

    #[test]
    fn a_list_looks_back_from_a_whole_hour() {
        let since = Since {
            parameter: "startTime".into(),
            hours: 24,
        };
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let window = |now| Window::looking_back(&since, at(now)).start;
        assert_eq!(window("2024-01-02T10:59:59Z"), at("2024-01-01T10:00:00Z"));
        assert_eq!(window("2024-01-02T11:00:00Z"), at("2024-01-01T11:00:00Z"));
    }

    #[test]
    fn sources_share_a_request() {
        let together = request(
            &["fleet_vehicle_stats_gps", "fleet_vehicle_stats_engineRpm"],
            None,
            &[],
        );
        assert_eq!(
            together.query,
            "endTime=2024-01-02T00%3A00%3A00Z&limit=512&startTime=2024-01-01T00%3A00%3A00Z&types=engineRpm%2Cgps"
        );
    }

    #[test]
    fn v1_windows_are_inclusive_milliseconds() {
        let trips = request(&["fleet_trips"], None, &["42"]);
        assert_eq!(
            trips.query,
            "endMs=1704153599999&startMs=1704067200000&vehicleId=42"
        );
    }

    #[test]
    fn a_month_is_asked_for_by_year_and_name() {
        let report = request(&["fleet_ifta_jurisdiction"], None, &[]);
        assert_eq!(report.query, "month=January&year=2024");
    }

    #[test]
    fn an_id_in_the_path_stays_one_segment() {
        for (id, segment) in [
            ("a/b", "a%2Fb"),
            ("a b+c", "a%20b%2Bc"),
            ("ä?#%", "%C3%A4%3F%23%25"),
            ("1-2_3.4~", "1-2_3.4~"),
        ] {
            let score = request(&["fleet_vehicle_safety_score"], None, &[id]);
            assert_eq!(
                score.path,
                format!("/v1/fleet/vehicles/{segment}/safety/score")
            );
        }
        // See `client::address`, which refuses these.
        for (id, segment) in [("", "."), (".", "."), ("..", "..")] {
            let score = request(&["fleet_vehicle_safety_score"], None, &[id]);
            assert_eq!(
                score.path,
                format!("/v1/fleet/vehicles/{segment}/safety/score")
            );
        }
    }

    #[test]
    fn batches_repeat_the_parameter_in_order() {
        let incidents = request(&["alerts_incidents"], None, &["b", "a"]);
        assert!(
            incidents
                .query
                .starts_with("configurationIds=a&configurationIds=b&"),
            "{}",
            incidents.query
        );
    }

    #[test]
    fn sweeps_and_cursors_stand_in_the_query() {
        let drivers = request(&["fleet_drivers"], Some("deactivated"), &[]);
        assert_eq!(
            drivers.target(None),
            "/fleet/drivers?driverActivationStatus=deactivated&limit=512"
        );
        assert_eq!(
            drivers.target(Some("a+/=")),
            "/fleet/drivers?driverActivationStatus=deactivated&limit=512&after=a%2B%2F%3D"
        );
        let plain = request(&["driver_vehicle_assignments"], Some(""), &[]).query;
        assert_eq!(
            plain,
            "endTime=2024-01-02T00%3A00%3A00Z&filterBy=drivers&startTime=2024-01-01T00%3A00%3A00Z"
        );
        let typed = request(&["driver_vehicle_assignments"], Some("static"), &[]).query;
        assert_eq!(typed, format!("assignmentType=static&{plain}"));
    }
}
