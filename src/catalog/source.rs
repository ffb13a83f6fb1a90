//! Sources: the API endpoints that `sources.toml` declares.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::str::FromStr;

use arrow::datatypes::{DataType, Fields};
use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveTime, TimeDelta, Utc};
use serde::Deserialize;

use super::field_path::FieldPath;
use super::omit_path::OmitPath;
use super::time_field::TimeField;
use crate::redact::printable;

/// The raw column with values of request parameters.
pub const ASKED: &str = "_asked";

/// An API endpoint, or a part of one, whose records are one raw table.
#[derive(Debug, Clone)]
pub struct Source {
    /// Name of the source and of its raw table.
    pub name: String,
    /// The folder of `sql/` that declares it.
    pub family: String,
    /// Description of its records.
    pub description: String,
    /// The group that `--category` selects it by, if any.
    pub category: Option<Category>,
    /// How it is requested.
    pub kind: SourceKind,
    /// Path below the host; `{name}` stands for the parent's id.
    pub endpoint: String,
    /// How pages follow each other.
    pub pagination: Pagination,
    /// Path of the list of records in a page; empty if the body itself is the record or the list.
    pub records: Vec<String>,
    /// The `limit` sent, if the endpoint takes one.
    pub page_limit: Option<u32>,
    /// Envelope fields that only repeat the request: neither data nor drift.
    pub page_echoes: Vec<String>,
    /// What the endpoint allows per organisation.
    pub rate_limit: RateLimit,
    /// The token scope that it needs, in Samsara's words.
    pub scope: Option<String>,
    /// Constant parameters.
    pub params: BTreeMap<String, String>,
    /// A parameter that is requested with each of its values in turn.
    pub sweep: Option<Sweep>,
    /// Names and format of the time parameters.
    pub window: Option<WindowParameters>,
    /// How far back the list goes, if it is not returned as a whole.
    pub since: Option<Since>,
    /// The field that determines the day of a row.
    pub time_field: Option<TimeField>,
    /// Which field holds the end of a row. A day is not final while one of its rows has none (see [`crate::plan`]).
    pub end_field: Option<TimeField>,
    /// The fields that distinguish rows of the same parent and start.
    pub row_key: Vec<TimeField>,
    /// How many days one request may span; its rows are sorted into days by [`Source::time_field`].
    pub days_per_request: u32,
    /// For how many days after its end a day may still change.
    pub lookback_days: u32,
    /// How many hours after its end a day or a month can be requested.
    pub closes_after_hours: u32,
    /// The feed that reports which past days have changed.
    pub changes: Option<ChangeFeed>,
    /// The fields that together identify a record. Of several versions of one record in a partition, models see only
    /// the newest. None: every record is different.
    pub key: Vec<FieldPath>,
    /// The field with the time of a record's last change. Without it, and for equal times, the version that was read
    /// last is the newest.
    pub newest_by: Option<FieldPath>,
    /// Fields that differ at each read, such as links that expire: a record in which only they differ has not changed.
    pub expiring: Vec<FieldPath>,
    /// Values that must never be stored: they are cut out of each page before it is decoded.
    pub omit: Vec<OmitPath>,
    /// Whether the endpoint may be removed, or be missing for an organisation: beta, separate licence, other region.
    pub optional: bool,
    /// Why it is read only if it is selected by name; none: it is part of `ALL`.
    pub on_request: Option<String>,
    /// The source whose rows give the ids for this one's requests, one by one or in batches.
    pub parent: Option<Parent>,
    /// Query parameters whose values are kept with each row, in [`ASKED`], because the row itself does not have them.
    pub asked: Vec<String>,
    /// The parameter whose values may be combined in one request.
    pub share: Option<Share>,
    /// The declared columns of a raw record.
    pub fields: Fields,
}

impl Source {
    /// Whether its partitions are UTC days (else: one snapshot).
    pub fn is_daily(&self) -> bool {
        match self.kind {
            SourceKind::Snapshot => false,
            SourceKind::Updates => self.time_field.is_some(),
            SourceKind::Window | SourceKind::Report | SourceKind::Feed => true,
        }
    }

    /// The earliest instant at which its feed can start; none if there is no limit.
    pub fn feed_reaches_back_to(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.window {
            None => Some(now),
            Some(window) if window.max_age_days == 0 => None,
            Some(window) => {
                // The request is sent a little later than it was planned.
                let age = TimeDelta::days(i64::from(window.max_age_days)) - TimeDelta::hours(1);
                now.checked_sub_signed(age)
            }
        }
    }

    /// Whether its partitions are months, each named by its first day.
    pub fn is_monthly(&self) -> bool {
        self.window
            .as_ref()
            .is_some_and(|window| window.format == TimeFormat::MonthName)
    }

    /// The day that identifies the partition of a day: the day itself, or the first of its month.
    pub fn period_of(&self, day: NaiveDate) -> NaiveDate {
        if self.is_monthly() {
            day.with_day(1).unwrap_or(day)
        } else {
            day
        }
    }

    /// The day after a partition, given its first day.
    pub fn period_end(&self, first: NaiveDate) -> NaiveDate {
        let end = if self.is_monthly() {
            first.checked_add_months(Months::new(1))
        } else {
            first.succ_opt()
        };
        end.unwrap_or(NaiveDate::MAX)
    }

    /// Whether a partition can be requested: any day that has begun, unless the source requires that it has been over
    /// for some time.
    pub fn is_due(&self, first: NaiveDate, now: DateTime<Utc>) -> bool {
        let start = |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc();
        if !self.is_monthly() && self.closes_after_hours == 0 {
            return start(first) <= now;
        }
        let wait = TimeDelta::hours(i64::from(self.closes_after_hours));
        now.checked_sub_signed(wait)
            .is_some_and(|closed| start(self.period_end(first)) <= closed)
    }

    /// What two sources must have in common to share a request; `None` if the source shares none.
    pub fn share_key(&self) -> Option<String> {
        let share = self.share.as_ref()?;
        let params: Vec<_> = self
            .params
            .iter()
            .filter(|(name, _)| **name != share.parameter)
            .collect();
        // One record is decoded for all of them, so common columns have one type.
        let columns: Vec<_> = self
            .fields
            .iter()
            .filter(|field| *field.name() != share.field)
            .collect();
        let page = (
            &self.records,
            self.pagination,
            self.page_limit,
            &self.page_echoes,
            &self.omit,
        );
        let asked = (
            &self.sweep,
            &self.parent,
            &self.window,
            &self.since,
            self.days_per_request,
        );
        let mut digest = DefaultHasher::new();
        format!("{params:?} {asked:?} {page:?} {columns:?}").hash(&mut digest);
        Some(format!("{} {:016x}", self.endpoint, digest.finish()))
    }
}

/// A feed that reports which days of a source have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeFeed {
    /// An endpoint with the source's records in order of arrival.
    Endpoint(String),
    /// Another source, a feed, whose records report what has changed in this one.
    Source {
        /// Name of the feed source.
        source: String,
        /// The field of its records with the time of the row that has changed.
        time_field: TimeField,
    },
}

/// [`ChangeFeed`] as `sources.toml` writes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(
    untagged,
    expecting = "a path, or { source = \"…\", time_field = \"…\" }"
)]
enum ChangesEntry {
    Endpoint(String),
    Source(ChangesSource),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangesSource {
    source: String,
    time_field: String,
}

/// How a source is requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// The whole list, each run.
    Snapshot,
    /// Rows with a time, requested by `[start, end)`.
    Window,
    /// Aggregates over exactly the requested window; rows have no time, and days cannot be summed.
    Report,
    /// Everything new since a cursor, which is stored.
    Feed,
    /// Records as they are now, requested by the time of their last change. Each version is stored, in the partition of
    /// the day on which the record was created; without a time of creation, all are in one partition.
    Updates,
}

/// The groups of the program this one replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Electric vehicle readings.
    Ev,
    /// Tables by time.
    Time,
    /// Vehicle statistics.
    Stats,
    /// Core objects: vehicles, tags, trailers …
    Core,
}

/// How pages follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Pagination {
    /// v2: `after=<endCursor>`.
    #[default]
    After,
    /// v1: `startingAfter=<endCursor>`.
    StartingAfter,
    /// One page holds everything.
    None,
}

impl Pagination {
    /// The query parameter that carries the cursor.
    pub fn parameter(self) -> Option<&'static str> {
        match self {
            Self::After => Some("after"),
            Self::StartingAfter => Some("startingAfter"),
            Self::None => None,
        }
    }
}

/// Requests allowed in a period, `5/s` or `100/min`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    /// Requests per second, above 0.
    pub per_second: f64,
}

impl FromStr for RateLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a rate; write `5/s` or `100/min`");
        let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
        let count: f64 = count.trim().parse().map_err(|_| wrong())?;
        let seconds = match unit.trim() {
            "s" => 1.0,
            "min" => 60.0,
            _ => return Err(wrong()),
        };
        if count.is_finite() && count > 0.0 {
            Ok(Self {
                per_second: count / seconds,
            })
        } else {
            Err(wrong())
        }
    }
}

/// A parameter that is requested with each of its values in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep {
    /// Name of the query parameter.
    pub parameter: String,
    /// Its values; an empty one means the request without the parameter.
    pub values: Vec<String>,
}

/// Names and format of the time parameters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowParameters {
    /// Parameter of the start (always inclusive).
    pub start: String,
    /// Parameter of the end; feeds have none.
    pub end: Option<String>,
    /// How instants are written.
    pub format: TimeFormat,
    /// Whether the endpoint includes the end instant (v1 does): then one millisecond less is sent.
    #[serde(default)]
    pub end_inclusive: bool,
    /// Days to add to the end of a window, for endpoints that filter by the time of the last change: a row that changed
    /// the day after still belongs to its own day.
    #[serde(default)]
    pub days_beyond: u32,
    /// How many days in the past a feed can start; 0 for no limit.
    #[serde(default)]
    pub max_age_days: u32,
}

/// How an instant is written in a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeFormat {
    /// `2024-01-01T00:00:00Z`
    Rfc3339,
    /// Milliseconds since 1970.
    EpochMs,
    /// `2024-01-01`
    Date,
    /// `start` takes the year, `end` the English name of the month: one request asks for one month, and a partition is
    /// a month, named by its first day.
    MonthName,
}

/// The source whose rows give the ids for a fan-out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parent {
    /// Name of the snapshot source whose rows give the ids.
    pub source: String,
    /// Its field that holds the id.
    pub field: String,
    /// The query parameter, or the `{name}` of the endpoint, that takes the id.
    pub param: String,
    /// How many ids go into one request.
    #[serde(default = "one")]
    pub batch: usize,
    /// Whether several ids repeat the parameter rather than being joined by commas.
    #[serde(default)]
    pub repeat: bool,
    /// Further query parameters, and the fields of the same row that they take. Rows of one batch have the same values.
    #[serde(default)]
    pub with: BTreeMap<String, String>,
    /// Only rows with one of these values in a field.
    #[serde(default, rename = "where")]
    pub only: BTreeMap<String, Vec<String>>,
    /// Only rows with none of these values in a field.
    #[serde(default, rename = "where_not")]
    pub except: BTreeMap<String, Vec<String>>,
}

impl Parent {
    /// Whether a row is requested, by the text of its fields; a field without a value has none.
    pub fn wants(&self, text: impl Fn(&str) -> Option<String>) -> bool {
        let is_one =
            |field: &str, values: &[String]| text(field).is_some_and(|text| values.contains(&text));
        let mut only = self.only.iter();
        let mut except = self.except.iter();
        only.all(|(field, values)| is_one(field, values))
            && !except.any(|(field, values)| is_one(field, values))
    }

    /// Whether only some of the rows are requested.
    pub fn is_selective(&self) -> bool {
        !self.only.is_empty() || !self.except.is_empty()
    }

    /// All fields of a row that requests depend on.
    pub fn fields(&self) -> impl Iterator<Item = &String> {
        [&self.field]
            .into_iter()
            .chain(self.with.values())
            .chain(self.only.keys())
            .chain(self.except.keys())
    }
}

/// How far back a list goes that is requested from an instant on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct SinceEntry {
    param: String,
    back: String,
}

/// The list's parameter for that instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Since {
    /// Name of the query parameter.
    pub parameter: String,
    /// How many hours that instant is before the request.
    pub hours: u32,
}

fn one() -> usize {
    1
}

/// A parameter whose values may be combined in one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Query parameter, a list joined by commas.
    pub parameter: String,
    /// How many values one request may carry.
    pub limit: usize,
    /// The top-level field of the record that belongs to this source alone.
    pub field: String,
}

/// The keys of a source in `sources.toml`.
pub const SOURCE_KEYS: &[&str] = &[
    "description",
    "category",
    "kind",
    "endpoint",
    "pagination",
    "records",
    "page_echoes",
    "page_limit",
    "rate_limit",
    "scope",
    "params",
    "sweep",
    "window",
    "since",
    "time_field",
    "end_field",
    "row_key",
    "days_per_request",
    "lookback_days",
    "closes_after",
    "changes",
    "key",
    "newest_by",
    "expiring",
    "omit",
    "optional",
    "on_request",
    "parent",
    "asked",
    "share",
    "share_limit",
    "schema",
];

/// The keys of which only certain values are known, with these; `format` is one of `window`.
pub const SOURCE_VALUES: &[(&str, &[&str])] = &[
    ("category", &["ev", "time", "stats", "core"]),
    ("kind", &["snapshot", "window", "report", "feed", "updates"]),
    ("pagination", &["after", "starting_after", "none"]),
    ("format", &["rfc3339", "epoch_ms", "date", "month_name"]),
];

/// A source as `sources.toml` writes it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceEntry {
    description: Option<String>,
    category: Option<Category>,
    kind: Option<SourceKind>,
    endpoint: Option<String>,
    pagination: Option<Pagination>,
    records: Option<String>,
    page_echoes: Option<Vec<String>>,
    page_limit: Option<u32>,
    rate_limit: Option<String>,
    scope: Option<String>,
    params: Option<BTreeMap<String, String>>,
    sweep: Option<BTreeMap<String, Vec<String>>>,
    window: Option<WindowParameters>,
    since: Option<SinceEntry>,
    time_field: Option<String>,
    end_field: Option<String>,
    row_key: Option<Vec<String>>,
    days_per_request: Option<u32>,
    lookback_days: Option<u32>,
    closes_after: Option<String>,
    changes: Option<ChangesEntry>,
    key: Option<Vec<String>>,
    newest_by: Option<String>,
    expiring: Option<Vec<String>>,
    omit: Option<Vec<String>>,
    optional: Option<bool>,
    on_request: Option<String>,
    parent: Option<Parent>,
    asked: Option<Vec<String>>,
    share: Option<String>,
    share_limit: Option<usize>,
    schema: Option<String>,
}

impl SourceEntry {
    /// Missing keys are taken from the family's `[defaults]`.
    fn or(self, defaults: &Self) -> Self {
        let defaults = defaults.clone();
        Self {
            description: self.description.or(defaults.description),
            category: self.category.or(defaults.category),
            kind: self.kind.or(defaults.kind),
            endpoint: self.endpoint.or(defaults.endpoint),
            pagination: self.pagination.or(defaults.pagination),
            records: self.records.or(defaults.records),
            page_echoes: self.page_echoes.or(defaults.page_echoes),
            page_limit: self.page_limit.or(defaults.page_limit),
            rate_limit: self.rate_limit.or(defaults.rate_limit),
            scope: self.scope.or(defaults.scope),
            params: self.params.or(defaults.params),
            sweep: self.sweep.or(defaults.sweep),
            window: self.window.or(defaults.window),
            since: self.since.or(defaults.since),
            time_field: self.time_field.or(defaults.time_field),
            end_field: self.end_field.or(defaults.end_field),
            row_key: self.row_key.or(defaults.row_key),
            days_per_request: self.days_per_request.or(defaults.days_per_request),
            lookback_days: self.lookback_days.or(defaults.lookback_days),
            closes_after: self.closes_after.or(defaults.closes_after),
            changes: self.changes.or(defaults.changes),
            key: self.key.or(defaults.key),
            newest_by: self.newest_by.or(defaults.newest_by),
            expiring: self.expiring.or(defaults.expiring),
            omit: self.omit.or(defaults.omit),
            optional: self.optional.or(defaults.optional),
            on_request: self.on_request.or(defaults.on_request),
            parent: self.parent.or(defaults.parent),
            asked: self.asked.or(defaults.asked),
            share: self.share.or(defaults.share),
            share_limit: self.share_limit.or(defaults.share_limit),
            schema: self.schema.or(defaults.schema),
        }
    }

    /// Checks the entry and returns the source that it declares.
    pub(super) fn resolve(
        self,
        name: &str,
        family: &str,
        defaults: &Self,
    ) -> Result<Source, String> {
        let entry = self.or(defaults);
        let missing = |key: &str| format!("`{key}` is missing");
        let kind = entry.kind.ok_or_else(|| missing("kind"))?;
        let endpoint = entry.endpoint.ok_or_else(|| missing("endpoint"))?;
        check_path("endpoint", &endpoint)?;
        check_placeholder(&endpoint, entry.parent.as_ref())?;
        let fields = super::ddl::parse(&entry.schema.ok_or_else(|| missing("schema"))?)
            .map_err(|error| format!("schema: {error}"))?;
        let time_field = time_field(entry.time_field, &fields)?;
        let (end_field, row_key) = row_end(entry.end_field, entry.row_key)?;
        let (start, end) = (time_field.as_ref(), end_field.as_ref());
        check_end(kind, start, end, &row_key, &fields)?;
        let days_per_request = entry.days_per_request.unwrap_or(1);
        check_kind(kind, entry.window.as_ref(), start, days_per_request)?;
        let key = key(entry.key, &fields)?;
        let newest_by = newest_by(entry.newest_by, &key, &fields)?;
        if kind == SourceKind::Updates {
            check_updates(&key, newest_by.as_ref(), entry.share.as_ref())?;
        }
        let params = entry.params.unwrap_or_default();
        let sweep = sweep(entry.sweep)?;
        let asked = entry.asked.unwrap_or_default();
        check_asked(&asked, sweep.as_ref(), entry.parent.as_ref())?;
        let rate_limit = entry.rate_limit.ok_or_else(|| missing("rate_limit"))?;
        Ok(Source {
            name: name.into(),
            family: family.into(),
            description: entry.description.ok_or_else(|| missing("description"))?,
            category: entry.category,
            kind,
            endpoint,
            pagination: entry.pagination.unwrap_or_default(),
            records: records_path(entry.records.as_deref().unwrap_or("data")),
            page_echoes: entry.page_echoes.unwrap_or_default(),
            page_limit: entry.page_limit,
            rate_limit: rate_limit.parse()?,
            scope: entry.scope,
            sweep,
            window: entry.window,
            since: since(kind, entry.since)?,
            time_field,
            end_field,
            row_key,
            days_per_request,
            lookback_days: entry.lookback_days.unwrap_or(0),
            closes_after_hours: closes_after(kind, entry.closes_after.as_deref())?,
            changes: changes(entry.changes, kind, entry.parent.as_ref())?,
            key,
            newest_by,
            expiring: expiring(entry.expiring, &fields)?,
            omit: omitted(entry.omit, &fields)?,
            optional: entry.optional.unwrap_or(false),
            on_request: on_request(entry.on_request)?,
            parent: entry.parent,
            asked,
            share: share(entry.share, entry.share_limit, &params, &fields)?,
            params,
            fields,
        })
    }
}

fn time_field(text: Option<String>, fields: &Fields) -> Result<Option<TimeField>, String> {
    let field = text.as_deref().map(TimeField::parse).transpose()?;
    if let Some(field) = &field {
        let checked = field.check(fields);
        checked.map_err(|error| format!("time_field {error}"))?;
    }
    Ok(field)
}

/// The field with a row's end, and those that make its key.
fn row_end(
    end_field: Option<String>,
    row_key: Option<Vec<String>>,
) -> Result<(Option<TimeField>, Vec<TimeField>), String> {
    let row_key = row_key.unwrap_or_default();
    let row_key = row_key.iter().map(|path| TimeField::parse(path));
    Ok((
        end_field.as_deref().map(TimeField::parse).transpose()?,
        row_key.collect::<Result<_, _>>()?,
    ))
}

fn key(texts: Option<Vec<String>>, fields: &Fields) -> Result<Vec<FieldPath>, String> {
    let paths = paths("key", texts)?;
    for path in &paths {
        let found = path.value_type(fields);
        found.map_err(|error| format!("key {error}"))?;
    }
    Ok(paths)
}

fn newest_by(
    text: Option<String>,
    key: &[FieldPath],
    fields: &Fields,
) -> Result<Option<FieldPath>, String> {
    let Some(path) = text.as_deref().map(FieldPath::parse).transpose()? else {
        return Ok(None);
    };
    let found = path.value_type(fields);
    match found.map_err(|error| format!("newest_by {error}"))? {
        _ if key.is_empty() => Err("`newest_by` needs `key`".into()),
        DataType::Utf8 | DataType::Int64 => Ok(Some(path)),
        other => Err(format!(
            "newest_by `{path}`: a time must be VARCHAR or BIGINT, not {other}"
        )),
    }
}

/// What updates need, and cannot have.
fn check_updates(
    key: &[FieldPath],
    newest_by: Option<&FieldPath>,
    share: Option<&String>,
) -> Result<(), String> {
    if key.is_empty() || newest_by.is_none() {
        return Err(
            "updates need a `key` that tells records apart, and `newest_by`, the time of their last change"
                .into(),
        );
    }
    match share {
        Some(_) => Err("updates are requested one source at a time: drop `share`".into()),
        None => Ok(()),
    }
}

fn expiring(texts: Option<Vec<String>>, fields: &Fields) -> Result<Vec<FieldPath>, String> {
    let paths = paths("expiring", texts)?;
    for path in &paths {
        let checked = path.check(fields);
        checked.map_err(|error| format!("expiring {error}"))?;
    }
    Ok(paths)
}

fn omitted(texts: Option<Vec<String>>, fields: &Fields) -> Result<Vec<OmitPath>, String> {
    let parse = |text: &String| {
        let path = OmitPath::parse(text)?;
        path.check(fields).map(|()| path)
    };
    let texts = texts.unwrap_or_default();
    let paths: Result<_, String> = texts.iter().map(parse).collect();
    paths.map_err(|error| format!("omit {error}"))
}

fn on_request(reason: Option<String>) -> Result<Option<String>, String> {
    let reason = reason.map(|reason| reason.trim().to_string());
    if reason.as_deref() == Some("") {
        return Err("`on_request` says why: \"personal data\", for instance".into());
    }
    Ok(reason)
}

fn share(
    parameter: Option<String>,
    limit: Option<usize>,
    params: &BTreeMap<String, String>,
    fields: &Fields,
) -> Result<Option<Share>, String> {
    let Some(parameter) = parameter else {
        return Ok(None);
    };
    let field = params
        .get(&parameter)
        .ok_or_else(|| format!("share = \"{parameter}\" is not among `params`"))?;
    if fields.find(field).is_none() {
        return Err(format!(
            "the shared {parameter} `{field}` is not a column of the schema"
        ));
    }
    let limit = limit.ok_or("`share_limit` is missing")?.max(1);
    Ok(Some(Share {
        field: field.clone(),
        parameter,
        limit,
    }))
}

fn sweep(parameters: Option<BTreeMap<String, Vec<String>>>) -> Result<Option<Sweep>, String> {
    let Some(parameters) = parameters else {
        return Ok(None);
    };
    let mut parameters = parameters.into_iter();
    match (parameters.next(), parameters.next()) {
        (Some((parameter, values)), None) if !values.is_empty() => {
            Ok(Some(Sweep { parameter, values }))
        }
        _ => Err("`sweep` must name one parameter and its values".into()),
    }
}

/// `72h` as a number.
fn closes_after(kind: SourceKind, text: Option<&str>) -> Result<u32, String> {
    let Some(text) = text else {
        return Ok(0);
    };
    if kind != SourceKind::Report {
        return Err("`closes_after` is of a report: rows of others come one by one".into());
    }
    hours(text)
        .ok_or_else(|| format!("closes_after = \"{text}\" is not a number of hours; write `72h`"))
}

fn since(kind: SourceKind, entry: Option<SinceEntry>) -> Result<Option<Since>, String> {
    let Some(entry) = entry else {
        return Ok(None);
    };
    if kind != SourceKind::Snapshot {
        return Err("`since` is of a snapshot: others have a `window`".into());
    }
    let hours = hours(&entry.back).filter(|hours| *hours > 0);
    let hours = hours.ok_or_else(|| {
        let back = &entry.back;
        format!("since: back = \"{back}\" is not a number of hours; write `24h`")
    })?;
    Ok(Some(Since {
        parameter: entry.param,
        hours,
    }))
}

/// `72h` as a number of at most a year.
fn hours(text: &str) -> Option<u32> {
    text.strip_suffix('h')
        .and_then(|hours| hours.parse::<u32>().ok())
        .filter(|hours| *hours <= 24 * 365)
}

/// `data.vehicleReports` as steps; `.` is the body itself.
fn records_path(text: &str) -> Vec<String> {
    text.split('.')
        .filter(|step| !step.is_empty())
        .map(str::to_string)
        .collect()
}

fn check_kind(
    kind: SourceKind,
    window: Option<&WindowParameters>,
    time_field: Option<&TimeField>,
    days_per_request: u32,
) -> Result<(), String> {
    if days_per_request == 0 {
        return Err("`days_per_request` must be at least 1".into());
    }
    match (kind, window, time_field) {
        (SourceKind::Snapshot, Some(_), _) => Err("a snapshot cannot have a `window`".into()),
        (SourceKind::Snapshot, None, Some(_)) => {
            Err("a snapshot cannot have a `time_field`".into())
        }
        (SourceKind::Snapshot, None, None) => Ok(()),
        // A feed without a start begins now.
        (SourceKind::Feed, None, Some(_)) => Ok(()),
        (_, None, _) => Err("`window` is missing: name the parameters for start and end".into()),
        (SourceKind::Window | SourceKind::Feed, _, None) => {
            Err("`time_field` is missing: name the field that holds the time of a row".into())
        }
        (SourceKind::Report, _, Some(_)) => {
            Err("report rows have no time of their own: remove `time_field`".into())
        }
        (SourceKind::Report, _, None) if days_per_request != 1 => {
            Err("a report is requested one day at a time: `days_per_request` must be 1".into())
        }
        (SourceKind::Window | SourceKind::Feed, Some(window), _)
            if window.format == TimeFormat::MonthName =>
        {
            Err("format = \"month_name\" asks for a month: only a report is made of one".into())
        }
        (SourceKind::Feed, Some(window), _) if window.end.is_some() => {
            Err("a feed has no end: remove `window.end`".into())
        }
        (SourceKind::Window | SourceKind::Report | SourceKind::Updates, Some(window), _)
            if window.end.is_none() =>
        {
            Err("`window.end` is missing".into())
        }
        (SourceKind::Updates, Some(window), _) if window.days_beyond > 0 => {
            Err("updates are read to their end: drop `days_beyond`".into())
        }
        (SourceKind::Updates, _, Some(field)) if !field.list().is_empty() => Err(format!(
            "time_field `{field}`: updates are filed by one time of the record, not by those of a list"
        )),
        _ => Ok(()),
    }
}

/// A path below the host must be only a path: the token goes with the request, and only to that host.
fn check_path(key: &str, path: &str) -> Result<(), String> {
    let shown = printable(path);
    let wrong = |reason: &str| Err(format!("{key} `{shown}` {reason}"));
    if !path.starts_with('/') || path.contains(['?', '#']) {
        return wrong("must be a path that starts with `/`");
    }
    // A URL parser treats `//host` and `/\host` as other hosts, and drops tabs and line breaks.
    let fine = |character: char| {
        character.is_ascii_alphanumeric() || "/-._~:@!$&'()*+,;={}".contains(character)
    };
    if let Some(other) = path.chars().find(|character| !fine(*character)) {
        return wrong(&format!("must not contain `{}`", other.escape_default()));
    }
    if path.contains("//") {
        return wrong("must not have an empty segment");
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return wrong("must not have `.` or `..` for a segment");
    }
    Ok(())
}

/// The end of a row must be in the same object as its start, and its key there or in the record around it.
fn check_end(
    kind: SourceKind,
    start: Option<&TimeField>,
    end: Option<&TimeField>,
    key: &[TimeField],
    fields: &Fields,
) -> Result<(), String> {
    let Some(end) = end else {
        return if key.is_empty() {
            Ok(())
        } else {
            Err("`row_key` needs `end_field`".into())
        };
    };
    if !matches!(kind, SourceKind::Window | SourceKind::Report) {
        return Err("`end_field` is for the kinds `window` and `report` only".into());
    }
    end.check_single()
        .and_then(|()| end.check(fields))
        .map_err(|error| format!("end_field {error}"))?;
    if end.has_every_field() || end.list() != start.map_or(&[][..], TimeField::list) {
        return Err(format!(
            "end_field `{end}` must be in the same object as `time_field`"
        ));
    }
    for path in key {
        path.check_single()
            .and_then(|()| path.check(fields))
            .map_err(|error| format!("row_key {error}"))?;
        if path.has_every_field() || !(path.list().is_empty() || path.list() == end.list()) {
            return Err(format!(
                "row_key `{path}` must be in the same list as `time_field`, or outside any list"
            ));
        }
    }
    Ok(())
}

fn paths(key: &str, texts: Option<Vec<String>>) -> Result<Vec<FieldPath>, String> {
    let texts = texts.unwrap_or_default();
    let paths: Result<_, String> = texts.iter().map(|text| FieldPath::parse(text)).collect();
    paths.map_err(|error| format!("{key} {error}"))
}

fn changes(
    feed: Option<ChangesEntry>,
    kind: SourceKind,
    parent: Option<&Parent>,
) -> Result<Option<ChangeFeed>, String> {
    let Some(feed) = feed else {
        return Ok(None);
    };
    if kind != SourceKind::Window {
        return Err("`changes` is for the kind `window` only".into());
    }
    let feed =
        match feed {
            ChangesEntry::Endpoint(_) if parent.is_some() => return Err(
                "a source with a `parent` cannot have a `changes` path: name a feed source instead"
                    .into(),
            ),
            ChangesEntry::Endpoint(feed) if feed.contains(['{', '}']) => {
                return Err("`changes` must be a path without a placeholder".into());
            }
            ChangesEntry::Endpoint(feed) => {
                check_path("changes", &feed)?;
                ChangeFeed::Endpoint(feed)
            }
            ChangesEntry::Source(ChangesSource { source, time_field }) => ChangeFeed::Source {
                source,
                time_field: TimeField::parse(&time_field)?,
            },
        };
    Ok(Some(feed))
}

/// Values kept with a row must differ from request to request, and be scalar.
fn check_asked(
    asked: &[String],
    sweep: Option<&Sweep>,
    parent: Option<&Parent>,
) -> Result<(), String> {
    for name in asked {
        let is_swept = sweep.is_some_and(|sweep| sweep.parameter == *name);
        let is_of_parent = parent.is_some_and(|parent| parent.with.contains_key(name));
        if !is_swept && !is_of_parent {
            return Err(format!(
                "asked: `{name}` is not a parameter of `sweep` or of `parent.with`"
            ));
        }
    }
    Ok(())
}

fn check_placeholder(endpoint: &str, parent: Option<&Parent>) -> Result<(), String> {
    let Some(open) = endpoint.find('{') else {
        return Ok(());
    };
    let name = endpoint[open + 1..].split('}').next().unwrap_or_default();
    match parent {
        Some(parent) if parent.param == name && parent.batch == 1 => Ok(()),
        Some(parent) if parent.param == name => {
            Err("with an id in the path, `batch` must be 1".into())
        }
        _ => Err(format!(
            "endpoint `{endpoint}` needs a `parent` with param = \"{name}\""
        )),
    }
}
