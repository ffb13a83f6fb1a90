//! The plan of a run, as a value: what `plan` prints is what `run` executes.

mod changes;
mod dates;
mod lists;
mod planner;
mod selection;
mod table_list;
mod updates;
mod workbook;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};

use crate::catalog::{Source, SourceKind};
use crate::redact;
use crate::state::{Feed, Gap, NotAvailable, PartitionState, Position, SourceState};
use crate::store::layout::Partition;

pub use changes::{DerivedAgain, LeftBehind};
pub use dates::{DEFAULT_START, Dates, days, parse_date};
pub use lists::Lists;
pub(crate) use planner::unavailable;
pub use planner::{PlanError, changed, make, shared_feeds};
pub use selection::{Selection, SelectionError, TableListError};
pub use table_list::names_in_file;
pub use updates::UpdatesWindow;

/// Feed cursors are valid for 30 days; one older than this is not used any more.
pub(crate) const CURSOR_DAYS: i64 = 29;
/// Number of days after a day for which late readings are expected, if no change feed reports them: vehicles without
/// coverage upload later.
const LATE_DAYS: u64 = 30;
/// Maximum number of days for which a day is read again because one of its rows has no end yet.
const OPEN_DAYS: u64 = 30;
/// A source that was not available is requested again after this number of days.
const UNAVAILABLE_DAYS: i64 = 7;
/// Maximum length of a chain of parents.
const MOST_PARENTS: usize = 8;
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
                "unknown stage `{other}`; expected one of extract (or download), transform, load"
            )),
        }
    }
}

/// The run request: what a run is asked to do.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The selected sources and models.
    pub selection: Selection,
    /// The requested dates; the end is exclusive.
    pub dates: Dates,
    /// The stages to run.
    pub stages: BTreeSet<Stage>,
    /// Read every requested day again, complete or not. Cursors of feeds are neither used nor moved; but a change feed
    /// without a cursor gets one first, so that it reports what changes after the read.
    pub historical: bool,
}

/// What a run will do, as a value: `plan` prints it and `run` executes it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The run request that the plan was made for.
    pub run_request: RunRequest,
    /// Lists to read, including the parents of fan-outs. They are read first, each before its children.
    pub snapshots: Vec<PlannedTask>,
    /// Sources whose change feed is read first, to find the days that have changed.
    pub feeds: Vec<String>,
    /// Days and feeds to read.
    pub windows: Vec<PlannedTask>,
    /// Sources whose responses may show that rows of earlier days have ended. Those days are read again, after all
    /// others.
    pub lasting: Vec<String>,
    /// Complete partitions whose models may be stale, by their driving source.
    pub committed: BTreeMap<String, Vec<Partition>>,
    /// Tables that are derived because selected models read them. They are not loaded.
    pub upstream: Vec<String>,
    /// Number of days that are complete and are not requested again.
    pub complete_days: u64,
    /// Number of sources that were never read, and start at [`DEFAULT_START`] because no start date was given.
    pub from_default_start: u64,
    /// The UTC day on which the plan was made.
    pub today: NaiveDate,
    /// Lower bound of the cost.
    pub estimate: Estimate,
    /// Sources that are not requested, because they were not available at their last request.
    pub not_available: BTreeMap<String, NotAvailable>,
    /// Sources that are left out because they are read on request only, and why.
    pub on_request: BTreeMap<String, String>,
    /// Time ranges in which feeds may have lost rows, by source: those known, and those that the run finds.
    pub gaps: BTreeMap<String, Vec<Gap>>,
    /// Tables that are derived again, of partitions that are not read. The pipeline finds them on request.
    pub derived_again: Vec<DerivedAgain>,
    /// What no model fills any more but stays in the warehouse. The pipeline finds it on request.
    pub left_behind: Vec<LeftBehind>,
}

impl Plan {
    /// Notice for a first run without dates: how far back it goes, and how to choose.
    pub fn first_run_notice(&self) -> Option<String> {
        let sources = match self.from_default_start {
            0 => return None,
            1 => "1 source that was never read starts".to_string(),
            many => format!("{many} sources that were never read start"),
        };
        let day = DEFAULT_START.format("%d/%m/%Y");
        Some(format!(
            "{sources} at the default, {day}; use --start-date 01/01/2024 or --lookback-days 30 to start later"
        ))
    }

    /// The tasks that read `source`.
    pub fn tasks_of<'a>(&'a self, source: &'a str) -> impl Iterator<Item = &'a PlannedTask> {
        let tasks = self.snapshots.iter().chain(&self.windows);
        tasks.filter(move |task| task.sources.iter().any(|name| name == source))
    }

    /// The days of `source` that are going to be read.
    pub fn days_of(&self, source: &str) -> BTreeSet<NaiveDate> {
        let days = self.tasks_of(source).flat_map(|task| match &task.scope {
            PlannedScope::Days(days) => days.as_slice(),
            _ => &[],
        });
        days.copied().collect()
    }

    /// Number of partitions of each source in this run: those that are read, and those that are complete. A feed counts
    /// as one.
    pub fn partitions_by_source(&self) -> HashMap<&str, usize> {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for task in self.snapshots.iter().chain(&self.windows) {
            for source in &task.sources {
                *counts.entry(source).or_default() += task.scope.len();
            }
        }
        for (source, partitions) in &self.committed {
            *counts.entry(source).or_default() += partitions.len();
        }
        counts
    }

    /// Number of complete partitions whose models may be stale.
    pub fn committed_partitions(&self) -> u64 {
        self.committed.values().map(|all| all.len() as u64).sum()
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

    /// What a feed is expected to bring: it returns rows in order of arrival, not by day.
    fn feed(&self, goes_on: bool, since: DateTime<Utc>, until: Option<NaiveDate>) -> String {
        let first = since.date_naive();
        let last = until.map_or(self.today, |until| until.pred_opt().unwrap_or(until));
        let begins = if goes_on {
            "continues from its cursor"
        } else {
            "begins"
        };
        let days = ((last - first).num_days() + 1).max(1);
        format!("feed, {begins}: rows from {first} to {last}, up to {days} daily partitions")
    }
}

/// The minimum cost of a plan: one page is counted for each request, more may follow.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Estimate {
    /// Number of API requests, one page each.
    pub calls: u64,
    /// How long they take at the documented rates, in seconds; endpoints are requested concurrently.
    pub seconds: f64,
    /// Load jobs, if the warehouse has jobs. The pipeline counts them, since it knows contracts and warehouse.
    pub load_jobs: Option<LoadJobs>,
}

/// Number of load jobs of a plan, assuming that the tables are as the state says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadJobs {
    /// Number of jobs, including those of the audit tables.
    pub most: u64,
    /// Whether `most` is only an upper bound: partitions may turn out to be unchanged or empty.
    pub is_bound: bool,
    /// Whether change feeds or later days may add one job for each past day that they change.
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

/// An extract task of the plan.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedTask {
    /// One source, or several that share requests.
    pub sources: Vec<String>,
    /// What to read of these sources.
    pub scope: PlannedScope,
    /// API requests that it takes, each with one page at least.
    pub requests: u64,
}

/// What an extract task reads.
#[derive(Debug, Clone, PartialEq)]
pub enum PlannedScope {
    /// The whole list, as it is now.
    Snapshot,
    /// Consecutive UTC days, read in one or more windows.
    Days(Vec<NaiveDate>),
    /// Everything that a feed returns after its cursor.
    Feed {
        /// The stored query and cursor.
        resume: Option<Position>,
        /// Where to begin without them.
        since: DateTime<Utc>,
        /// The first day that is not requested, if that is not after today: reading stops once the feed's rows
        /// are after it.
        until: Option<NaiveDate>,
    },
    /// Windows of time of last change, in this order.
    Updates(Vec<UpdatesWindow>),
}

impl fmt::Display for PlannedScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshot => f.write_str("snapshot"),
            Self::Feed { .. } => f.write_str("feed"),
            Self::Updates(_) => f.write_str("changes"),
            Self::Days(days) => match (days.first(), days.last()) {
                (Some(first), Some(last)) if first != last => write!(f, "{first} to {last}"),
                (Some(day), _) => write!(f, "{day}"),
                _ => f.write_str("no day"),
            },
        }
    }
}

impl PlannedScope {
    /// Number of partitions that are read; a feed or updates count as one.
    fn len(&self) -> usize {
        match self {
            Self::Days(days) => days.len().max(1),
            Self::Snapshot | Self::Feed { .. } | Self::Updates(_) => 1,
        }
    }

    /// The partitions that are read; none for a feed or updates, whose days are not known in advance.
    pub fn partitions(&self) -> Vec<Partition> {
        match self {
            Self::Snapshot => vec![Partition::Snapshot],
            Self::Days(days) => days.iter().copied().map(Partition::Day).collect(),
            Self::Feed { .. } | Self::Updates(_) => Vec::new(),
        }
    }
}

/// Whether a feed's cursor is young enough to be trusted.
pub fn is_alive(feed: &Feed, now: DateTime<Utc>) -> bool {
    now - feed.at < TimeDelta::days(CURSOR_DAYS)
}

/// The complete days that may lack late readings that no change feed has reported: readings that arrived after the day
/// was read, after the last position of the source's feed (if it has one), and at most 30 days after the day.
pub fn unverified_days(state: &SourceState) -> Vec<NaiveDate> {
    let told = state
        .feed
        .as_ref()
        .map(|feed| feed.since.unwrap_or(feed.at));
    let complete = state
        .complete()
        .filter_map(|(partition, raw)| Some((partition.day()?, raw.extracted_at)));
    let is_unverified = |(day, read): &(NaiveDate, DateTime<Utc>)| {
        let late = *day + Days::new(1 + LATE_DAYS);
        told.max(Some(*read)) < Some(late.and_time(chrono::NaiveTime::MIN).and_utc())
    };
    complete.filter(is_unverified).map(|(day, _)| day).collect()
}

/// A feed from its cursor on; none if everything requested is stored.
fn feed(
    source: &Source,
    state: &SourceState,
    dates: &Dates,
    now: DateTime<Utc>,
) -> Option<PlannedTask> {
    let midnight = |day: NaiveDate| day.and_time(chrono::NaiveTime::MIN).and_utc();
    let resume = state.feed.as_ref().filter(|feed| is_alive(feed, now));
    let resume = resume.map(Feed::position);
    let since = match &state.feed {
        Some(feed) => feed.since.unwrap_or(feed.at - TimeDelta::days(1)),
        None => midnight(dates.start.unwrap_or(DEFAULT_START)),
    };
    let since = source
        .feed_reaches_back_to(now)
        .map_or(since, |reach| since.max(reach));
    // A feed takes no end parameter; today's rows are still arriving.
    let until = dates.end.filter(|end| *end <= now.date_naive());
    // Reading stopped at the end of these days, or later.
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
        requests: 1,
    })
}

/// The first day that was ever requested.
fn asked_from(state: &SourceState) -> Option<NaiveDate> {
    let known = state
        .partitions
        .keys()
        .filter_map(|partition| partition.day())
        .min();
    known.into_iter().chain(state.asked_from).min()
}

/// Whether a source is read from [`DEFAULT_START`] on, because neither the user nor an earlier run has given a start.
fn is_from_default_start(source: &Source, state: &SourceState, run_request: &RunRequest) -> bool {
    let has_begun = match source.kind {
        SourceKind::Snapshot => true,
        SourceKind::Feed => state.feed.is_some() || run_request.historical,
        SourceKind::Updates => state.updates.is_some() || run_request.historical,
        SourceKind::Window | SourceKind::Report => asked_from(state).is_some(),
    };
    run_request.dates.start.is_none()
        && run_request.dates.end.is_none_or(|end| end > DEFAULT_START)
        && !has_begun
}

/// The days to request, and the number of requested days that are complete.
fn days_to_read(
    source: &Source,
    state: &SourceState,
    run_request: &RunRequest,
    now: DateTime<Utc>,
) -> (Vec<NaiveDate>, u64) {
    let (today, dates) = (now.date_naive(), &run_request.dates);
    // Without a start date, from the first day that was ever requested: final days are skipped anyway, and the others
    // failed, were not reached, or could still change when an earlier run read them.
    let start = dates
        .start
        .or_else(|| asked_from(state))
        .unwrap_or(DEFAULT_START);
    let end = dates.end.unwrap_or(today).min(today + Days::new(1));
    let mut complete = 0;
    let due = due_partitions(source, start, end, now);
    let unsettled = due.into_iter().filter(|day| {
        let partition = state
            .partition(Partition::Day(*day))
            .filter(|partition| partition.changed.is_none());
        let settled = !run_request.historical
            && partition.is_some_and(|partition| is_settled(source, *day, partition));
        complete += u64::from(settled);
        !settled
    });
    // Days that a feed has reported, however long ago they were.
    let changed = state.changed_days().filter(|day| dates.contains(*day));
    let wanted: BTreeSet<NaiveDate> = unsettled.chain(changed).collect();
    (wanted.into_iter().collect(), complete)
}

/// The partitions of a source between two days that can be requested: days that have begun, or days and months that
/// have been over for as long as the source requires.
pub fn due_partitions(
    source: &Source,
    start: NaiveDate,
    end: NaiveDate,
    now: DateTime<Utc>,
) -> BTreeSet<NaiveDate> {
    days(start, end)
        .map(|day| source.period_of(day))
        .filter(|first| source.is_due(*first, now))
        .collect()
}

/// Whether the day was read when it was final: the period for its late data was over, and each of its rows had ended or
/// lasted longer than 30 days.
pub fn is_settled(source: &Source, day: NaiveDate, partition: &PartitionState) -> bool {
    let has_open_rows = source.end_field.is_some() && partition.open_rows > 0;
    let lookback = u64::from(source.lookback_days);
    let final_after = if has_open_rows {
        lookback.max(OPEN_DAYS)
    } else {
        lookback
    };
    // The catalog does not limit the number.
    let over = source
        .period_end(day)
        .checked_add_days(Days::new(final_after))
        .unwrap_or(NaiveDate::MAX);
    let is_final = over.and_time(chrono::NaiveTime::MIN).and_utc();
    partition
        .raw
        .as_ref()
        .is_some_and(|raw| raw.extracted_at >= is_final)
}

/// Whether reading these days may show that earlier ones have changed: a row that lasts several days is returned for
/// each of them, but belongs to the one on which it starts.
fn tells_of_earlier_days(source: &Source, state: &SourceState, days: &[NaiveDate]) -> bool {
    let is_earlier = |partition: Partition| partition.day() < days.last().copied();
    let lasts = source.end_field.is_some() && source.time_field.is_some();
    lasts && !days.is_empty() && state.complete().any(|(partition, _)| is_earlier(partition))
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_requests(f)?;
        self.fmt_notes(f)?;
        let Estimate {
            calls,
            seconds,
            load_jobs,
        } = self.estimate;
        writeln!(
            f,
            "           at least {calls} requests, {:.1} minutes at the documented rates",
            seconds / 60.0
        )?;
        for (n, again) in self.derived_again.iter().enumerate() {
            let head = if n == 0 { "transform" } else { "" };
            writeln!(f, "{head:10} {again}")?;
        }
        for (n, left) in self.left_behind.iter().enumerate() {
            let head = if n == 0 { "warehouse" } else { "" };
            writeln!(f, "{head:10} {left}")?;
        }
        if let Some(load_jobs) = load_jobs {
            writeln!(f, "load       {load_jobs}")?;
        }
        if !self.upstream.is_empty() {
            let tables = self.upstream.join(", ");
            writeln!(
                f,
                "transform  {tables}: derived because selected tables are made of them, and not loaded"
            )?;
        }
        write!(
            f,
            "transform, load: {} committed partitions are checked for stale tables",
            self.committed_partitions()
        )
    }
}

impl Plan {
    /// What is requested, by source.
    fn fmt_requests(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Tasks and days of each source, and the notes on its feed or updates.
        let mut sources: BTreeMap<&String, (usize, usize, Vec<String>)> = BTreeMap::new();
        for task in &self.windows {
            for name in &task.sources {
                let (tasks, days, notes) = sources.entry(name).or_default();
                match &task.scope {
                    PlannedScope::Days(more) => (*tasks, *days) = (*tasks + 1, *days + more.len()),
                    PlannedScope::Feed {
                        resume,
                        since,
                        until,
                    } => notes.push(self.feed(resume.is_some(), *since, *until)),
                    PlannedScope::Updates(windows) => notes.push(updates::told(windows)),
                    PlannedScope::Snapshot => {}
                }
            }
        }
        let (lists, tasks) = (self.snapshots.len(), self.windows.len());
        writeln!(
            f,
            "extract    {lists} lists, {tasks} tasks over {} daily sources",
            sources.len()
        )?;
        for (name, (tasks, days, notes)) in sources {
            for note in notes {
                writeln!(f, "           {name}: {note}")?;
            }
            if tasks > 0 {
                writeln!(f, "           {name}: {days} days in {tasks} tasks")?;
            }
        }
        if !self.feeds.is_empty() {
            let feeds = self.feeds.len();
            writeln!(
                f,
                "           {feeds} change feeds are read first; past days that they report are read again"
            )?;
        }
        Ok(())
    }

    /// What is not requested, or only under a condition.
    fn fmt_notes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.lasting.is_empty() {
            let names = self.lasting.join(", ");
            let what = "read again where their rows have ended since";
            writeln!(f, "           {names}: earlier days are {what}")?;
        }
        writeln!(
            f,
            "           {} days are complete and are not requested",
            self.complete_days
        )?;
        for (name, NotAvailable { at, reason }) in &self.not_available {
            let again = (*at + TimeDelta::days(UNAVAILABLE_DAYS)).format("%Y-%m-%d");
            let reason = redact::one_line(reason);
            writeln!(
                f,
                "           {name}: not available, asked again from {again} on: {reason}"
            )?;
        }
        for (name, gaps) in &self.gaps {
            for gap in gaps {
                writeln!(
                    f,
                    "           {name}: {gap} may be lost, its feed reaches no further back"
                )?;
            }
        }
        for (name, reason) in &self.on_request {
            let reason = redact::one_line(reason);
            writeln!(f, "           {name}: on request, not read: {reason}")?;
        }
        if let Some(notice) = self.first_run_notice() {
            writeln!(f, "           {notice}")?;
        }
        if let Some((days, first)) = self.not_begun() {
            writeln!(
                f,
                "           {days} days, from {first} on, have not begun and are not requested"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
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
    fn days_with_open_rows_are_read_for_30_days() {
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
        // Without an end field, there is nothing to wait for.
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
        // A change feed can only report days before those that are read.
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
    fn months_and_days_are_due_when_they_are_closed() {
        let catalog = Catalog::open(None).unwrap();
        let day = |text: &str| parse_date(text).unwrap();
        let due = |source: &str, from: &str, to: &str, now: &str| -> Vec<String> {
            let source = catalog.source(source).unwrap();
            let due = due_partitions(source, day(from), day(to), now.parse().unwrap());
            due.iter().map(ToString::to_string).collect()
        };
        let months = |now| due("fleet_ifta_vehicle", "2026-01-31", "2026-03-02", now);
        assert_eq!(months("2026-03-03T23:59:59Z"), ["2026-01-01"]);
        assert_eq!(months("2026-03-04T00:00:00Z"), ["2026-01-01", "2026-02-01"]);
        let days = |now| due("driver_efficiency_drivers", "2026-01-01", "2026-01-04", now);
        assert_eq!(days("2026-01-03T02:59:59Z"), ["2026-01-01"]);
        assert_eq!(days("2026-01-03T03:00:00Z"), ["2026-01-01", "2026-01-02"]);
        // Any other day is requested from its beginning.
        let days = due(
            "fleet_trips",
            "2026-01-01",
            "2026-01-04",
            "2026-01-02T00:00:00Z",
        );
        assert_eq!(days, ["2026-01-01", "2026-01-02"]);
        // A month is final this long after its end.
        let source = catalog.source("fleet_ifta_vehicle").unwrap();
        let mut state = SourceState::new(&source.name);
        for (read, settled) in [
            ("2026-04-01T23:59:59Z", false),
            ("2026-04-02T00:00:00Z", true),
        ] {
            read_at(&mut state, "2026-01-01", read);
            let found = state.partition(Partition::Day(day("2026-01-01"))).unwrap();
            assert_eq!(is_settled(source, day("2026-01-01"), found), settled);
        }
    }

    #[test]
    fn gaps_are_filled_without_a_first_date() {
        let catalog = Catalog::open(None).unwrap();
        let source = catalog.source("fleet_vehicle_stats_gps").unwrap();
        let mut state = SourceState::new(&source.name);
        for day in ["2026-09-01", "2026-09-03", "2026-11-23"] {
            read_at(&mut state, day, "2026-11-24T00:00:00Z");
        }
        // The attempt failed: known, but not read.
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
        // An explicit first day gives exactly the days from there on.
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
        // A first run requested the days from the 18th on, and was killed when only the 20th was read.
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
        let tasks = planner::group(&catalog, wanted).unwrap();
        assert_eq!(tasks.len(), 1);
        assert_eq!(tasks[0].sources, names);
    }

    #[test]
    fn only_equal_sources_share_requests() {
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
        let mut shared: Vec<_> = planner::group(&catalog, wanted.into())
            .unwrap()
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
        let lengths: Vec<_> = planner::group(&catalog, [("fleet_trips", with_gap)].into())
            .unwrap()
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
        // The second was read after a month.
        assert_eq!(unverified_days(&state), ["2026-10-01", "2026-11-01"]);
        let mut heard = |at: &str| {
            let at = at.parse().unwrap();
            state.feed = Some(Feed {
                query: String::new(),
                cursor: String::new(),
                at,
                since: None,
                contiguous_since: None,
                gaps: Vec::new(),
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
        // Today's rows are still arriving: the feed has no end yet.
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
            gaps: Vec::new(),
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
                gaps: Vec::new(),
            });
            assert_eq!(resume(&state).is_some(), alive);
        }
    }
}
