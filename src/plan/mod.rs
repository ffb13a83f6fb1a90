//! What a run is going to do, as a value: what is printed is what is executed.

mod dates;
mod selection;
mod table_list;
mod workbook;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};

use crate::catalog::{Catalog, ChangeFeed, Source, SourceKind};
use crate::state::{Feed, PartitionState, SourceState, StateError, StateStore};
use crate::store::layout::Partition;

pub use dates::{DEFAULT_START, Dates, days, parse_date};
pub use selection::{Selection, SelectionError};
pub use table_list::names_in_file;

/// Feed cursors live 30 days; one that is nearly that old is not trusted.
pub(crate) const CURSOR_DAYS: i64 = 29;
/// How many days after a day readings of it are expected, where no feed tells. Vehicles out of coverage come back.
const LATE_DAYS: u64 = 30;
/// A day is read again for so many days at most because one of its rows still lasts.
const OPEN_DAYS: u64 = 30;
/// A list of parents older than this is read again before a fan-out.
const PARENT_MAX_AGE_HOURS: i64 = 24;

/// The parts of a run. Each reads what the one before has committed, so any of them can run alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// API to raw Parquet.
    Extract,
    /// Raw Parquet to flattened Parquet.
    Transform,
    /// Flattened Parquet into the warehouse.
    Load,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Extract => "extract",
            Self::Transform => "transform",
            Self::Load => "load",
        })
    }
}

impl FromStr for Stage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "extract" | "download" => Ok(Self::Extract),
            "transform" => Ok(Self::Transform),
            "load" => Ok(Self::Load),
            other => Err(format!(
                "`{other}` is no stage; known are extract (or download), transform, load"
            )),
        }
    }
}

/// What a run is asked for.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// Which tables.
    pub selection: Selection,
    /// Which days.
    pub dates: Dates,
    /// Which stages.
    pub stages: BTreeSet<Stage>,
    /// Read every asked day again, complete or not. Positions of feeds are neither used nor moved; but a feed of
    /// changed days that has none is given one first, for what comes behind the days that are read.
    pub historical: bool,
}

/// What a run is going to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What was asked for.
    pub run_request: RunRequest,
    /// Lists to read, parents of fan-outs among them. They come first.
    pub snapshots: Vec<PlannedTask>,
    /// Sources whose feed is asked which of their days have changed, before any day is read.
    pub feeds: Vec<String>,
    /// Days and feeds to read.
    pub windows: Vec<PlannedTask>,
    /// Sources whose answers may tell that rows of earlier days have ended since those were read. Such days are read
    /// again after all others.
    pub lasting: Vec<String>,
    /// Complete partitions whose models may be stale, with the source that drives them.
    pub committed: Vec<(String, Partition)>,
    /// Days that are complete and are not asked for again.
    pub complete_days: u64,
    /// Sources that were never read, and are read from [`DEFAULT_START`] on, since nobody has said from when.
    pub from_default_start: u64,
    /// The UTC day on which the plan was made.
    pub today: NaiveDate,
    /// What it costs at least.
    pub estimate: Estimate,
}

impl Plan {
    /// What to know before a first run without dates: how far back it goes, and how to choose.
    pub fn first_run_notice(&self) -> Option<String> {
        let sources = match self.from_default_start {
            0 => return None,
            1 => "1 source that was never read is".to_string(),
            many => format!("{many} sources that were never read are"),
        };
        let day = DEFAULT_START.format("%d/%m/%Y");
        Some(format!(
            "{sources} read from {day} on, the default; --start-date 01/01/2024 or --lookback-days 30 begin later"
        ))
    }

    /// What is read of a source.
    pub fn tasks_of<'a>(&'a self, source: &'a str) -> impl Iterator<Item = &'a PlannedTask> {
        let tasks = self.snapshots.iter().chain(&self.windows);
        tasks.filter(move |task| task.sources.iter().any(|name| name == source))
    }

    /// The days of a source that are read.
    pub fn days_of(&self, source: &str) -> BTreeSet<NaiveDate> {
        let days = self.tasks_of(source).flat_map(|task| match &task.scope {
            PlannedScope::Days(days) => days.as_slice(),
            _ => &[],
        });
        days.copied().collect()
    }

    /// How many partitions of a source the run is about: those that are read, and those that are complete. A feed
    /// counts for one.
    pub fn partitions_of(&self, source: &str) -> usize {
        let read: usize = self
            .tasks_of(source)
            .map(|task| task.scope.partitions().len().max(1))
            .sum();
        read + self
            .committed
            .iter()
            .filter(|(name, _)| name == source)
            .count()
    }

    /// How many of the given days have not begun yet, and the first of them.
    fn not_begun(&self) -> Option<(i64, NaiveDate)> {
        let tomorrow = self.today.checked_add_days(Days::new(1))?;
        let first = self
            .run_request
            .dates
            .start
            .map_or(tomorrow, |start| start.max(tomorrow));
        let days = (self.run_request.dates.end? - first).num_days();
        (days > 0).then_some((days, first))
    }

    /// What a feed will bring, as far as can be told before: it gives rows by their arrival, not by day.
    fn feed(&self, goes_on: bool, since: DateTime<Utc>, until: Option<NaiveDate>) -> String {
        let first = since.date_naive();
        let last = until.map_or(self.today, |until| until.pred_opt().unwrap_or(until));
        let begins = if goes_on {
            "goes on from its position"
        } else {
            "begins"
        };
        let days = ((last - first).num_days() + 1).max(1);
        format!("feed, {begins}: rows of {first} to {last}, up to {days} day partitions")
    }
}

/// What a plan costs at least: one page for each request is counted, more may follow.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Estimate {
    /// API requests.
    pub calls: u64,
    /// How long they take at the documented rates, endpoint beside endpoint, in seconds.
    pub seconds: f64,
    /// Load jobs, where there are such. The pipeline counts them: it knows contracts and warehouse.
    pub load_jobs: Option<LoadJobs>,
}

/// How many load jobs a plan comes to, under the assumption that tables hold what the state says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadJobs {
    /// So many, those of the program's own tables among them.
    pub most: u64,
    /// Fewer may do: what is read or derived may turn out to be unchanged or empty.
    pub is_bound: bool,
    /// One more for each past day of which a feed, or a later day, brings something.
    pub has_feeds: bool,
}

impl fmt::Display for LoadJobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = if self.is_bound { "at most " } else { "" };
        let plural = if self.most == 1 { "job" } else { "jobs" };
        write!(f, "{bound}{} {plural}", self.most)?;
        if self.has_feeds {
            f.write_str(", and one for each past day that is found to have changed")?;
        }
        Ok(())
    }
}

/// One task that a run is going to make.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedTask {
    /// One source, or several that share calls.
    pub sources: Vec<String>,
    /// What of them.
    pub scope: PlannedScope,
}

/// What a task reads.
#[derive(Debug, Clone, PartialEq)]
pub enum PlannedScope {
    /// The whole list.
    Snapshot,
    /// Consecutive days.
    Days(Vec<NaiveDate>),
    /// Everything new.
    Feed {
        /// The stored query and cursor.
        resume: Option<(String, String)>,
        /// Where to begin without them.
        since: DateTime<Utc>,
        /// The first day that is not asked for, where that is not behind today: the feed is left once its rows lie
        /// behind it.
        until: Option<NaiveDate>,
    },
}

impl PlannedScope {
    /// The partitions that are read; none of a feed, whose days are not known before.
    pub fn partitions(&self) -> Vec<Partition> {
        match self {
            Self::Snapshot => vec![Partition::Snapshot],
            Self::Days(days) => days.iter().copied().map(Partition::Day).collect(),
            Self::Feed { .. } => Vec::new(),
        }
    }
}

/// Makes the plan from the catalog, the state and the clock.
pub async fn make(
    catalog: &Catalog,
    states: &StateStore,
    run_request: RunRequest,
    now: DateTime<Utc>,
) -> Result<Plan, StateError> {
    let mut plan = Plan {
        run_request: run_request.clone(),
        snapshots: Vec::new(),
        feeds: Vec::new(),
        windows: Vec::new(),
        lasting: Vec::new(),
        committed: Vec::new(),
        complete_days: 0,
        from_default_start: 0,
        today: now.date_naive(),
        estimate: Estimate::default(),
    };
    let selected: Vec<&Source> = run_request
        .selection
        .sources
        .iter()
        .filter_map(|name| catalog.source(name))
        .collect();
    let extract = run_request.stages.contains(&Stage::Extract);
    let parents = selected.iter().filter_map(|source| source.parent.as_ref());
    let parents = parents.map(|parent| parent.source.as_str());
    let names = selected.iter().map(|source| source.name.as_str());
    states.read_ahead(names.chain(parents)).await?;
    let mut wanted: BTreeMap<&str, Vec<NaiveDate>> = BTreeMap::new();
    let mut snapshots: BTreeSet<&str> = BTreeSet::new();
    let mut gaps: BTreeSet<(String, NaiveDate)> = BTreeSet::new();
    for source in &selected {
        let handle = states.source(&source.name).await?;
        let state = handle.look(Clone::clone);
        if extract {
            plan.from_default_start +=
                u64::from(is_from_default_start(source, &state, &run_request));
            match source.kind {
                SourceKind::Snapshot => {
                    snapshots.insert(&source.name);
                }
                // A feed goes on from its position and cannot be asked for a period.
                SourceKind::Feed if run_request.historical => {}
                SourceKind::Feed => {
                    plan.windows
                        .extend(feed(source, &state, &run_request.dates, now))
                }
                SourceKind::Window | SourceKind::Report => {
                    let (days, complete) = days_to_read(source, &state, &run_request, now);
                    plan.complete_days += complete;
                    let unread = days.iter().filter(|day| {
                        state
                            .partition(Partition::Day(**day))
                            .is_none_or(|partition| partition.raw.is_none())
                    });
                    gaps.extend(unread.map(|day| (source.name.clone(), *day)));
                    if tells_of_earlier_days(source, &state, &days) {
                        plan.lasting.push(source.name.clone());
                    }
                    if !days.is_empty() {
                        wanted.insert(&source.name, days);
                    }
                    let has_position = state.feed.as_ref().is_some_and(|feed| is_alive(feed, now));
                    if source.changes.is_some() && !(run_request.historical && has_position) {
                        plan.feeds.push(source.name.clone());
                    }
                }
            }
        }
        let reading = wanted.get(source.name.as_str());
        let is_read = |partition: Partition| match partition {
            Partition::Snapshot => snapshots.contains(source.name.as_str()),
            Partition::Day(day) => reading.is_some_and(|days| days.contains(&day)),
        };
        plan.committed.extend(
            state
                .complete()
                .filter(|(partition, _)| !is_read(*partition))
                .map(|(partition, _)| (source.name.clone(), partition)),
        );
    }
    for name in wanted.keys() {
        let Some(parent) = catalog
            .source(name)
            .and_then(|source| source.parent.as_ref())
        else {
            continue;
        };
        let handle = states.source(&parent.source).await?;
        let fresh = handle.look(|state| {
            let raw = state
                .partition(Partition::Snapshot)
                .and_then(|partition| partition.raw.as_ref());
            let is_doubtful =
                |found: &PartitionState| found.failure.is_some() || found.shrunken_from.is_some();
            let is_doubtful = state
                .partition(Partition::Snapshot)
                .is_some_and(is_doubtful);
            !is_doubtful
                && raw.is_some_and(|raw| {
                    raw.extracted_at + TimeDelta::hours(PARENT_MAX_AGE_HOURS) > now
                })
        });
        if !fresh && let Some(parent) = catalog.source(&parent.source) {
            snapshots.insert(&parent.name);
        }
    }
    plan.snapshots = snapshots
        .into_iter()
        .map(|name| PlannedTask {
            sources: vec![name.into()],
            scope: PlannedScope::Snapshot,
        })
        .collect();
    plan.windows.extend(group(catalog, wanted));
    // What was never read comes before what is read again, and old days before new ones, whatever the table: then
    // what is complete is a span of time.
    plan.windows.sort_by_key(|task| match &task.scope {
        PlannedScope::Days(days) => {
            let is_gap =
                |name: &String| days.iter().any(|day| gaps.contains(&(name.clone(), *day)));
            (!task.sources.iter().any(is_gap), days.first().copied())
        }
        _ => (false, None),
    });
    plan.estimate = estimate(catalog, states, &plan).await?;
    Ok(plan)
}

/// Counts requests by endpoint. Endpoints are asked at the same time, so the slowest tells the duration.
async fn estimate(
    catalog: &Catalog,
    states: &StateStore,
    plan: &Plan,
) -> Result<Estimate, StateError> {
    let mut estimate = Estimate::default();
    let mut seconds: BTreeMap<&str, f64> = BTreeMap::new();
    for task in plan.snapshots.iter().chain(&plan.windows) {
        let Some(source) = task.sources.first().and_then(|name| catalog.source(name)) else {
            continue;
        };
        let mut calls = source
            .sweep
            .as_ref()
            .map_or(1, |sweep| sweep.values.len() as u64);
        if let Some(parent) = &source.parent {
            let handle = states.source(&parent.source).await?;
            let parents: u64 = handle.look(|state| {
                let raw = state
                    .partition(Partition::Snapshot)
                    .and_then(|partition| partition.raw.as_ref());
                raw.map_or(1, |raw| raw.objects.iter().map(|object| object.rows).sum())
            });
            calls *= parents.div_ceil(parent.batch as u64);
        }
        estimate.calls += calls;
        *seconds.entry(source.endpoint.as_str()).or_default() +=
            calls as f64 / source.rate_limit.per_second;
    }
    for source in plan.feeds.iter().filter_map(|name| catalog.source(name)) {
        estimate.calls += 1;
        let feed = match &source.changes {
            Some(ChangeFeed::Endpoint(endpoint)) => Some((endpoint, source)),
            Some(ChangeFeed::Source { source, .. }) => {
                catalog.source(source).map(|feed| (&feed.endpoint, feed))
            }
            None => None,
        };
        if let Some((endpoint, feed)) = feed {
            *seconds.entry(endpoint).or_default() += 1.0 / feed.rate_limit.per_second;
        }
    }
    estimate.seconds = seconds.into_values().fold(0.0, f64::max);
    Ok(estimate)
}

/// Whether a feed's cursor is young enough to be trusted.
pub fn is_alive(feed: &Feed, now: DateTime<Utc>) -> bool {
    now - feed.at < TimeDelta::days(CURSOR_DAYS)
}

/// The complete days that may lack readings of which no feed has told: such as came when they had been read already,
/// after the last position of the source's feed (if it ever had one), and at most 30 days behind the day.
pub fn unverified_days(state: &SourceState) -> Vec<NaiveDate> {
    let told = state
        .feed
        .as_ref()
        .map(|feed| feed.since.unwrap_or(feed.at));
    let complete = state
        .complete()
        .filter_map(|(partition, raw)| Some((partition.day()?, raw.extracted_at)));
    let is_untold = |(day, read): &(NaiveDate, DateTime<Utc>)| {
        let late = *day + Days::new(1 + LATE_DAYS);
        told.max(Some(*read)) < Some(late.and_time(chrono::NaiveTime::MIN).and_utc())
    };
    complete.filter(is_untold).map(|(day, _)| day).collect()
}

/// The tasks over days of these sources that were found to have changed since the plan was made, and that it does not
/// have.
pub async fn changed(
    catalog: &Catalog,
    states: &StateStore,
    plan: &Plan,
    sources: &[String],
) -> Result<Vec<PlannedTask>, StateError> {
    let mut wanted = BTreeMap::new();
    for source in sources.iter().filter_map(|name| catalog.source(name)) {
        let planned = plan.days_of(&source.name);
        let handle = states.source(&source.name).await?;
        let days: Vec<NaiveDate> = handle.look(|state| {
            state
                .changed_days()
                .filter(|day| plan.run_request.dates.contains(*day) && !planned.contains(day))
                .collect()
        });
        if !days.is_empty() {
            wanted.insert(source.name.as_str(), days);
        }
    }
    Ok(group(catalog, wanted))
}

/// A feed from its position on; none if all that was asked for is here.
fn feed(
    source: &Source,
    state: &SourceState,
    dates: &Dates,
    now: DateTime<Utc>,
) -> Option<PlannedTask> {
    let midnight = |day: NaiveDate| day.and_time(chrono::NaiveTime::MIN).and_utc();
    let resume = state.feed.as_ref().filter(|feed| is_alive(feed, now));
    let resume = resume.map(|feed| (feed.query.clone(), feed.cursor.clone()));
    let since = match &state.feed {
        Some(feed) => feed.since.unwrap_or(feed.at - TimeDelta::days(1)),
        None => midnight(dates.start.unwrap_or(DEFAULT_START)),
    };
    // A feed cannot be asked for an end; today's rows are still coming.
    let until = dates.end.filter(|end| *end <= now.date_naive());
    // It was left where these days end, or later ones.
    let is_here = |feed: &Feed| {
        until.is_some_and(|until| {
            feed.contiguous_since
                .is_some_and(|end| midnight(until) <= end)
        })
    };
    if state.feed.as_ref().is_some_and(is_here) {
        return None;
    }
    Some(PlannedTask {
        sources: vec![source.name.clone()],
        scope: PlannedScope::Feed {
            resume,
            since,
            until,
        },
    })
}

/// The first day that was ever asked for.
fn asked_from(state: &SourceState) -> Option<NaiveDate> {
    let known = state
        .partitions
        .keys()
        .filter_map(|partition| partition.day())
        .min();
    known.into_iter().chain(state.asked_from).min()
}

/// Whether a source is read from [`DEFAULT_START`] on, since neither the user nor an earlier run has said from when.
fn is_from_default_start(source: &Source, state: &SourceState, run_request: &RunRequest) -> bool {
    let has_begun = match source.kind {
        SourceKind::Snapshot => true,
        SourceKind::Feed => state.feed.is_some() || run_request.historical,
        SourceKind::Window | SourceKind::Report => asked_from(state).is_some(),
    };
    run_request.dates.start.is_none()
        && run_request.dates.end.is_none_or(|end| end > DEFAULT_START)
        && !has_begun
}

/// The days that must be asked for, and how many need not.
fn days_to_read(
    source: &Source,
    state: &SourceState,
    run_request: &RunRequest,
    now: DateTime<Utc>,
) -> (Vec<NaiveDate>, u64) {
    let (today, dates) = (now.date_naive(), &run_request.dates);
    // Without a first date, from the first day on that was ever asked for: what is final is left alone anyway, and what
    // is not, an earlier run has asked for in vain, was not left the time for, or read while it could still change.
    let start = dates
        .start
        .or_else(|| asked_from(state))
        .unwrap_or(DEFAULT_START);
    // A day that has not begun has nothing to ask for.
    let end = dates.end.unwrap_or(today).min(today + Days::new(1));
    let mut complete = 0;
    let unsettled = days(start, end).filter(|day| {
        let partition = state
            .partition(Partition::Day(*day))
            .filter(|partition| partition.changed.is_none());
        let settled = !run_request.historical
            && partition.is_some_and(|partition| is_settled(source, *day, partition));
        complete += u64::from(settled);
        !settled
    });
    // Days that a feed has named, however long ago they were.
    let changed = state.changed_days().filter(|day| dates.contains(*day));
    let wanted: BTreeSet<NaiveDate> = unsettled.chain(changed).collect();
    (wanted.into_iter().collect(), complete)
}

/// Whether the day was read when it was final: the day and its late data were over, and each of its rows had ended, or
/// lasted longer than anybody waits for.
pub fn is_settled(source: &Source, day: NaiveDate, partition: &PartitionState) -> bool {
    let has_open_rows = source.end_field.is_some() && partition.open_rows > 0;
    let lookback = u64::from(source.lookback_days);
    let final_after = if has_open_rows {
        lookback.max(OPEN_DAYS)
    } else {
        lookback
    };
    // A model of the catalog may say any number.
    let over = day
        .checked_add_days(Days::new(final_after.saturating_add(1)))
        .unwrap_or(NaiveDate::MAX);
    let is_final = over.and_time(chrono::NaiveTime::MIN).and_utc();
    partition
        .raw
        .as_ref()
        .is_some_and(|raw| raw.extracted_at >= is_final)
}

/// Whether reading these days may tell that earlier ones have changed: rows that last come with each day on which they
/// do, but belong to the one on which they start.
fn tells_of_earlier_days(source: &Source, state: &SourceState, days: &[NaiveDate]) -> bool {
    let is_earlier = |partition: Partition| partition.day() < days.last().copied();
    let lasts = source.end_field.is_some() && source.time_field.is_some();
    lasts && !days.is_empty() && state.complete().any(|(partition, _)| is_earlier(partition))
}

/// Sources that share an endpoint share calls; consecutive days share one request where the source allows it.
fn group(catalog: &Catalog, wanted: BTreeMap<&str, Vec<NaiveDate>>) -> Vec<PlannedTask> {
    let mut tasks = Vec::new();
    let mut shared: BTreeMap<(String, NaiveDate), Vec<String>> = BTreeMap::new();
    for (name, days) in wanted {
        let Some(source) = catalog.source(name) else {
            continue;
        };
        if let Some(key) = source.share_key() {
            for day in days {
                shared
                    .entry((key.clone(), day))
                    .or_default()
                    .push(name.to_string());
            }
            continue;
        }
        let mut run: Vec<NaiveDate> = Vec::new();
        for day in days {
            let follows = run.last().is_none_or(|last| *last + Days::new(1) == day);
            if !follows || run.len() >= source.days_per_request as usize {
                tasks.push(PlannedTask {
                    sources: vec![name.into()],
                    scope: PlannedScope::Days(std::mem::take(&mut run)),
                });
            }
            run.push(day);
        }
        tasks.push(PlannedTask {
            sources: vec![name.into()],
            scope: PlannedScope::Days(run),
        });
    }
    for ((_, day), names) in shared {
        let limit = names
            .first()
            .and_then(|name| catalog.source(name)?.share.as_ref())
            .map_or(1, |share| share.limit);
        for sources in together(catalog, names, limit) {
            tasks.push(PlannedTask {
                sources,
                scope: PlannedScope::Days(vec![day]),
            });
        }
    }
    tasks
}

/// Shares sources among requests: at most `limit` in one, and none with another of the same field, which the records
/// hold once.
fn together(catalog: &Catalog, names: Vec<String>, limit: usize) -> Vec<Vec<String>> {
    let field = |name: &String| Some(catalog.source(name)?.share.as_ref()?.field.as_str());
    let mut requests: Vec<Vec<String>> = Vec::new();
    for name in names {
        let has_room = |request: &&mut Vec<String>| {
            request.len() < limit && request.iter().all(|other| field(other) != field(&name))
        };
        match requests.iter_mut().find(has_room) {
            Some(request) => request.push(name),
            None => requests.push(vec![name]),
        }
    }
    requests
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables: BTreeSet<&String> =
            self.windows.iter().flat_map(|task| &task.sources).collect();
        let lists = self.snapshots.len();
        writeln!(
            f,
            "extract    {lists} lists, {} tasks over {} daily sources",
            self.windows.len(),
            tables.len()
        )?;
        for name in &tables {
            let (mut tasks, mut days) = (0, 0);
            for task in self
                .windows
                .iter()
                .filter(|task| task.sources.contains(name))
            {
                match &task.scope {
                    PlannedScope::Days(more) => (tasks, days) = (tasks + 1, days + more.len()),
                    PlannedScope::Feed {
                        resume,
                        since,
                        until,
                    } => {
                        writeln!(
                            f,
                            "           {name}: {}",
                            self.feed(resume.is_some(), *since, *until)
                        )?;
                    }
                    PlannedScope::Snapshot => {}
                }
            }
            if tasks > 0 {
                writeln!(f, "           {name}: {days} days in {tasks} tasks")?;
            }
        }
        if !self.feeds.is_empty() {
            let feeds = self.feeds.len();
            writeln!(
                f,
                "           {feeds} feeds are asked which past days have changed; those are read again"
            )?;
        }
        if !self.lasting.is_empty() {
            let what = "read again where their rows have ended since";
            writeln!(
                f,
                "           {}: earlier days are {what}",
                self.lasting.join(", ")
            )?;
        }
        writeln!(
            f,
            "           {} days are complete and are not asked for",
            self.complete_days
        )?;
        if let Some(notice) = self.first_run_notice() {
            writeln!(f, "           {notice}")?;
        }
        if let Some((days, first)) = self.not_begun() {
            writeln!(
                f,
                "           {days} days, from {first} on, have not begun and are not asked for"
            )?;
        }
        let Estimate {
            calls,
            seconds,
            load_jobs,
        } = self.estimate;
        writeln!(
            f,
            "           {calls} calls at least, {:.1} minutes at the documented rates",
            seconds / 60.0
        )?;
        if let Some(load_jobs) = load_jobs {
            writeln!(f, "load       {load_jobs}")?;
        }
        write!(
            f,
            "transform, load: {} committed partitions are checked for stale models",
            self.committed.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::RawState;

    fn now() -> DateTime<Utc> {
        "2026-11-24T12:00:00Z".parse().unwrap()
    }

    fn dates(start: &str, end: &str) -> RunRequest {
        let dates = Dates::parse(Some(start), Some(end)).unwrap();
        RunRequest {
            selection: Selection::default(),
            dates,
            stages: BTreeSet::new(),
            historical: false,
        }
    }

    fn read_at(state: &mut SourceState, day: &str, at: &str) {
        let raw = RawState {
            objects: vec![],
            records: 0,
            out_of_window: 0,
            rescued: 0,
            content: String::new(),
            extracted_at: at.parse().unwrap(),
        };
        state
            .partition_mut(Partition::Day(parse_date(day).unwrap()))
            .raw = Some(raw);
    }

    #[test]
    fn only_unsettled_days_are_read_again() {
        let catalog = Catalog::open(None).unwrap();
        let source = catalog.source("fleet_vehicles_fuel_energy").unwrap();
        let mut state = SourceState::new(&source.name);
        read_at(&mut state, "2026-11-01", "2026-11-05T00:00:00Z");
        read_at(&mut state, "2026-11-02", "2026-11-05T23:59:59Z");
        let (days, complete) =
            days_to_read(source, &state, &dates("2026-11-01", "2026-11-04"), now());
        assert_eq!(
            days.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["2026-11-02", "2026-11-03"]
        );
        assert_eq!(complete, 1);
    }

    #[test]
    fn a_day_is_read_again_while_one_of_its_rows_lasts_and_for_thirty_days_at_most() {
        let catalog = Catalog::open(None).unwrap();
        let trips = catalog.source("fleet_trips").unwrap();
        let mut state = SourceState::new(&trips.name);
        // The day is over at the beginning of the 2nd, its late data on the 9th.
        let day = parse_date("2026-10-01").unwrap();
        for (read, open_rows, settled) in [
            ("2026-10-09T00:00:00Z", 0, true),
            ("2026-10-08T23:59:59Z", 0, false),
            ("2026-10-09T00:00:00Z", 1, false),
            ("2026-10-31T23:59:59Z", 2, false),
            ("2026-11-01T00:00:00Z", 1, true),
        ] {
            read_at(&mut state, "2026-10-01", read);
            state.partition_mut(Partition::Day(day)).open_rows = open_rows;
            let (wanted, complete) =
                days_to_read(trips, &state, &dates("2026-10-01", "2026-10-02"), now());
            assert_eq!(
                (wanted.is_empty(), complete),
                (settled, u64::from(settled)),
                "{read} {open_rows}"
            );
        }
        // Where the source does not say what an end is, there is nothing to wait for.
        state.partition_mut(Partition::Day(day)).open_rows = 1;
        read_at(&mut state, "2026-10-01", "2026-10-09T00:00:00Z");
        let endless = Source {
            end_field: None,
            ..trips.clone()
        };
        assert!(is_settled(
            &endless,
            day,
            state.partition(Partition::Day(day)).unwrap()
        ));
        // Only days before those that are read can be told of.
        let tells = |source: &Source, days: &[&str]| {
            let days: Vec<_> = days.iter().map(|day| parse_date(day).unwrap()).collect();
            tells_of_earlier_days(source, &state, &days)
        };
        assert!(tells(trips, &["2026-10-02"]));
        assert!(
            !tells(trips, &["2026-10-01"])
                && !tells(trips, &[])
                && !tells(&endless, &["2026-10-02"])
        );
    }

    #[test]
    fn gaps_are_filled_without_a_first_date() {
        let catalog = Catalog::open(None).unwrap();
        let source = catalog.source("fleet_vehicle_stats_gps").unwrap();
        let mut state = SourceState::new(&source.name);
        for day in ["2026-09-01", "2026-09-03", "2026-11-23"] {
            read_at(&mut state, day, "2026-11-24T00:00:00Z");
        }
        // Tried in vain: known, and not read.
        state.partition_mut(Partition::Day(parse_date("2026-08-30").unwrap()));
        let run_request = RunRequest {
            dates: Dates::parse(None, Some("2026-11-24")).unwrap(),
            ..dates("2026-01-01", "2026-01-02")
        };
        let (wanted, _) = days_to_read(source, &state, &run_request, now());
        let all = days(
            parse_date("2026-08-30").unwrap(),
            parse_date("2026-11-24").unwrap(),
        );
        let read = ["2026-09-01", "2026-09-03"].map(|day| parse_date(day).unwrap());
        // The last one is read again, because it may still change.
        assert_eq!(
            wanted,
            all.filter(|day| !read.contains(day)).collect::<Vec<_>>()
        );
        // Who names a first day gets that and no more.
        let (wanted, _) = days_to_read(source, &state, &dates("2026-11-22", "2026-11-24"), now());
        assert_eq!(wanted.len(), 2);
    }

    #[test]
    fn days_never_reached_are_read_later() {
        let catalog = Catalog::open(None).unwrap();
        let source = catalog.source("fleet_vehicle_stats_gps").unwrap();
        let mut state = SourceState::new(&source.name);
        let run_request = RunRequest {
            dates: Dates::parse(None, Some("2026-11-24")).unwrap(),
            ..dates("2026-01-01", "2026-01-02")
        };
        let wanted = |state: &SourceState| {
            days_to_read(source, state, &run_request, now())
                .0
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        // A first run has asked from the 18th on, and was killed when only the 20th was read.
        state.asked_from = parse_date("2026-11-18").ok();
        assert_eq!(wanted(&state).len(), 6);
        read_at(&mut state, "2026-11-20", "2026-11-24T00:00:00Z");
        assert_eq!(
            wanted(&state),
            [
                "2026-11-18",
                "2026-11-19",
                "2026-11-21",
                "2026-11-22",
                "2026-11-23"
            ]
        );
        // The 18th was read when it could still change, and all runs since were killed before they came back to it.
        for (day, at) in [
            ("18", "19"),
            ("19", "22"),
            ("21", "24"),
            ("22", "25"),
            ("23", "26"),
        ] {
            read_at(
                &mut state,
                &format!("2026-11-{day}"),
                &format!("2026-11-{at}T00:00:00Z"),
            );
        }
        assert_eq!(wanted(&state), ["2026-11-18"]);
    }

    #[test]
    fn a_first_run_without_dates_says_how_far_back_it_goes() {
        let catalog = Catalog::open(None).unwrap();
        let source = |name: &str| catalog.source(name).unwrap();
        let without = |end: Option<&str>| RunRequest {
            dates: Dates::parse(None, end).unwrap(),
            ..dates("2024-01-01", "2024-01-02")
        };
        let fresh = SourceState::new("s");
        let mut read = SourceState::new("s");
        read_at(&mut read, "2026-11-20", "2026-11-24T00:00:00Z");
        let mut begun = SourceState::new("s");
        begun.asked_from = parse_date("2026-11-18").ok();
        for (name, state, run_request, expected) in [
            ("fleet_trips", &fresh, without(None), true),
            (
                "fleet_safety_events_audit_logs",
                &fresh,
                without(None),
                true,
            ),
            ("fleet_trips", &fresh, without(Some("2024-01-01")), true),
            ("fleet_trips", &fresh, without(Some("2019-01-01")), false),
            (
                "fleet_trips",
                &fresh,
                dates("2024-01-01", "2024-01-02"),
                false,
            ),
            ("fleet_trips", &read, without(None), false),
            ("fleet_trips", &begun, without(None), false),
            ("fleet_vehicles", &fresh, without(None), false),
        ] {
            assert_eq!(
                is_from_default_start(source(name), state, &run_request),
                expected,
                "{name} {run_request:?}"
            );
        }
        // Such a plan also begins there.
        let (days, _) = days_to_read(source("fleet_trips"), &fresh, &without(None), now());
        assert_eq!(days.first(), Some(&DEFAULT_START));
    }

    #[test]
    fn the_future_is_not_asked_for() {
        let catalog = Catalog::open(None).unwrap();
        let source = catalog.source("fleet_trips").unwrap();
        let state = SourceState::new("fleet_trips");
        let (days, _) = days_to_read(source, &state, &dates("2026-11-23", "2027-01-01"), now());
        assert_eq!(days.len(), 2);
    }

    #[test]
    fn statistics_share_calls_three_by_three() {
        let catalog = Catalog::open(None).unwrap();
        let day = parse_date("2024-01-01").unwrap();
        let names =
            ["engineRpm", "faultCodes", "gps"].map(|name| format!("fleet_vehicle_stats_{name}"));
        let wanted = names
            .iter()
            .map(|name| (name.as_str(), vec![day]))
            .collect();
        let tasks = group(&catalog, wanted);
        assert_eq!(tasks.len(), 1);
        assert_eq!(tasks[0].sources, names);
    }

    #[test]
    fn sources_share_a_request_only_if_one_record_can_be_decoded_for_all() {
        let source = |name: &str, types: &str, schema: &str| {
            format!(
                "[{name}]\nparams = {{ types = '{types}' }}\ntime_field = '{types}[].time'\nschema = '{schema}'\n"
            )
        };
        let readings = |name: &str| format!("{name} ARRAY<STRUCT<time VARCHAR>>");
        let toml = [
            "[defaults]\nkind = 'window'\nendpoint = '/s'\nrate_limit = '5/s'\ndescription = 'd'\nshare = 'types'\nshare_limit = 3\n\
             window = { start = 's', end = 'e', format = 'rfc3339' }\n"
                .to_string(),
            source("a", "x", &format!("id VARCHAR, {}", readings("x"))),
            source("b", "x", &format!("id VARCHAR, {}", readings("x"))),
            source("c", "y", &format!("id VARCHAR, {}", readings("y"))),
            source("d", "z", &format!("id BIGINT, {}", readings("z"))),
        ];
        let files = [
            ("f/sources.toml".to_string(), toml.concat()),
            (
                "f/m.sql".to_string(),
                "/*---\ndescription = 'd'\n---*/\nSELECT id FROM raw.a".to_string(),
            ),
        ];
        let catalog = Catalog::from_files("test", &files).unwrap();
        let wanted =
            ["a", "b", "c", "d"].map(|name| (name, vec![parse_date("2024-01-01").unwrap()]));
        let mut shared: Vec<_> = group(&catalog, wanted.into())
            .into_iter()
            .map(|task| task.sources)
            .collect();
        shared.sort();
        assert_eq!(shared, [vec!["a", "c"], vec!["b"], vec!["d"]]);
        // All statistics of vehicles can.
        let catalog = Catalog::open(None).unwrap();
        let keys: BTreeSet<_> = catalog
            .sources()
            .filter(|source| source.endpoint == "/fleet/vehicles/stats/history")
            .map(Source::share_key)
            .collect();
        assert_eq!(keys.len(), 1);
    }

    #[test]
    fn consecutive_days_share_a_request() {
        let catalog = Catalog::open(None).unwrap();
        let all: Vec<_> = days(
            parse_date("2024-01-01").unwrap(),
            parse_date("2024-02-10").unwrap(),
        )
        .collect();
        let with_gap = all
            .iter()
            .copied()
            .filter(|day| day.to_string() != "2024-01-05")
            .collect();
        let lengths: Vec<_> = group(&catalog, [("fleet_trips", with_gap)].into())
            .into_iter()
            .map(|task| match task.scope {
                PlannedScope::Days(days) => days.len(),
                _ => 0,
            })
            .collect();
        assert_eq!(lengths, [4, 30, 5]);
    }

    #[test]
    fn days_behind_a_feed_gap_are_unverified() {
        let mut state = SourceState::new("s");
        read_at(&mut state, "2026-10-01", "2026-10-02T00:00:00Z");
        read_at(&mut state, "2026-10-20", "2026-11-20T00:00:00Z");
        read_at(&mut state, "2026-11-01", "2026-11-20T00:00:00Z");
        let unverified_days = |state: &SourceState| {
            unverified_days(state)
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        // The second was read when a month had passed.
        assert_eq!(unverified_days(&state), ["2026-10-01", "2026-11-01"]);
        let mut heard = |at: &str| {
            let at = at.parse().unwrap();
            state.feed = Some(Feed {
                query: String::new(),
                cursor: String::new(),
                at,
                since: None,
                contiguous_since: None,
            });
            unverified_days(&state)
        };
        assert_eq!(heard("2026-09-01T00:00:00Z"), ["2026-10-01", "2026-11-01"]);
        assert_eq!(heard("2026-10-31T23:59:59Z"), ["2026-10-01", "2026-11-01"]);
        assert_eq!(heard("2026-11-01T00:00:00Z"), ["2026-11-01"]);
        assert_eq!(heard("2026-12-02T00:00:00Z"), Vec::<String>::new());
    }

    #[test]
    fn a_feed_is_asked_for_no_days_up_to_which_it_was_left() {
        let catalog = Catalog::open(None).unwrap();
        let source = catalog.source("fleet_safety_events_audit_logs").unwrap();
        let mut state = SourceState::new(&source.name);
        let until = |state: &SourceState, end: &str| {
            let dates = Dates::parse(Some("2026-01-01"), Some(end)).unwrap();
            match feed(source, state, &dates, now())?.scope {
                PlannedScope::Feed { since, until, .. } => {
                    Some((since.date_naive().to_string(), until))
                }
                _ => None,
            }
        };
        let day = |text| parse_date(text).ok();
        assert_eq!(
            until(&state, "2026-01-04"),
            Some(("2026-01-01".into(), day("2026-01-04")))
        );
        // Today's rows are still coming: there is no end to be seen.
        assert_eq!(
            until(&state, "2026-11-24"),
            Some(("2026-01-01".into(), day("2026-11-24")))
        );
        assert_eq!(
            until(&state, "2026-11-25"),
            Some(("2026-01-01".into(), None))
        );
        let (at, contiguous_since) = (now(), Some("2026-01-04T00:00:00Z".parse().unwrap()));
        state.feed = Some(Feed {
            query: "q".into(),
            cursor: String::new(),
            at,
            since: None,
            contiguous_since,
        });
        assert_eq!(until(&state, "2026-01-03"), None);
        assert_eq!(until(&state, "2026-01-04"), None);
        assert!(until(&state, "2026-01-05").is_some());
    }

    #[test]
    fn a_feed_resumes_unless_its_cursor_is_old() {
        let catalog = Catalog::open(None).unwrap();
        let source = catalog.source("fleet_safety_events_audit_logs").unwrap();
        let mut state = SourceState::new(&source.name);
        let resume = |state: &SourceState| match feed(source, state, &Dates::default(), now())
            .unwrap()
            .scope
        {
            PlannedScope::Feed { resume, .. } => resume,
            _ => None,
        };
        assert_eq!(resume(&state), None);
        for (at, alive) in [
            ("2026-11-20T00:00:00Z", true),
            ("2026-10-20T00:00:00Z", false),
        ] {
            state.feed = Some(crate::state::Feed {
                query: "q".into(),
                cursor: "c".into(),
                at: at.parse().unwrap(),
                since: None,
                contiguous_since: None,
            });
            assert_eq!(resume(&state).is_some(), alive);
        }
    }
}
