//! How far a run is: the events so far, added up, and as lines of a given width.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::words::{counted, duration, grouped, size};
use crate::events::{Event, Moment, Observer, Outcome, Totals, span_of};

/// Rates are those of this last part of the run.
const RECENT: Duration = Duration::from_secs(15);
/// Columns that lines have where the width is not known.
pub const NARROW: usize = 80;

/// Adds events up while a run goes on.
#[derive(Debug, Default)]
pub struct ProgressObserver(Mutex<Progress>);

/// How far a run is.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    totals: Totals,
    is_started: bool,
    /// Requests of tasks that have ended.
    requests: u64,
    /// Tasks under way: their requests, and how many of those have come.
    tasks: BTreeMap<(String, String), (u64, u64)>,
    pages: u64,
    bytes: u64,
    delayed: u64,
    waited: Duration,
    /// When pages have come lately: how many there were before, and their bytes.
    recent: VecDeque<(Duration, u64, u64)>,
    /// Partitions of tables that are done with, and how many of those were derived again.
    partitions: u64,
    derived: u64,
    /// Tables that are derived now, and how many partitions of each.
    deriving: BTreeMap<String, u64>,
    loads: u64,
    /// Tables that are loaded now: how many loads of each, and the days of the last.
    loading: BTreeMap<String, (u64, String)>,
    failures: u64,
    stopping: bool,
}

/// The parts of a run that have a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Requests.
    Extract,
    /// Partitions of tables.
    Transform,
    /// Load jobs.
    Load,
}

impl ProgressObserver {
    /// How far it is now.
    pub fn progress(&self) -> Progress {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The run was told to stop.
    pub fn stop(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .stopping = true;
    }
}

impl Observer for ProgressObserver {
    fn observe(&self, _event: &Event) {}

    fn observe_at(&self, event: &Event, moment: Moment) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(event, moment);
    }
}

impl Progress {
    fn add(&mut self, event: &Event, moment: Moment) {
        match event {
            Event::RunStarted { totals, .. } => {
                self.totals = totals.clone();
                self.is_started = true;
            }
            Event::WorkFound {
                requests,
                tasks,
                partitions,
            } => {
                self.totals.requests += requests;
                self.totals.tasks += tasks;
                if self.totals.partitions > 0 {
                    self.totals.partitions += partitions;
                }
            }
            Event::TaskStarted { .. }
            | Event::RequestFinished { .. }
            | Event::TaskFinished { .. }
            | Event::PageFetched { .. } => self.add_extract(event, moment),
            Event::RequestDelayed { .. } => self.delayed += 1,
            Event::RequestWaited { wait, .. } => self.waited += *wait,
            Event::TransformStarted { model, .. } => {
                *self.deriving.entry(model.clone()).or_default() += 1;
            }
            Event::TransformFinished { model, outcome, .. } => {
                if let Some(count) = self.deriving.get_mut(model) {
                    *count -= 1;
                    if *count == 0 {
                        self.deriving.remove(model);
                    }
                }
                self.partitions += u64::from(*outcome != Outcome::Stopped);
                self.derived += u64::from(*outcome == Outcome::Done);
            }
            Event::TransformsSkipped { partitions, .. } => {
                self.partitions += partitions.len() as u64;
            }
            Event::LoadStarted {
                table, partitions, ..
            } => {
                let (count, days) = self.loading.entry(table.clone()).or_default();
                *count += 1;
                *days = span_of(partitions);
            }
            Event::LoadFinished { table, .. } => {
                if let Some((count, _)) = self.loading.get_mut(table) {
                    *count -= 1;
                    if *count == 0 {
                        self.loading.remove(table);
                    }
                }
                self.loads += 1;
            }
            Event::Failed { .. } => self.failures += 1,
            _ => {}
        }
    }

    /// Adds an event of an extract task.
    fn add_extract(&mut self, event: &Event, moment: Moment) {
        match event {
            Event::TaskStarted {
                sources,
                scope,
                requests,
            } => {
                self.tasks
                    .insert((sources.join(", "), scope.clone()), (*requests, 0));
            }
            Event::RequestFinished { sources, scope } => {
                // Tasks name their days as the extract stage does; a task of a table is alone in its days.
                let scope = scope.trim_matches(['(', ')']);
                if let Some((requests, done)) =
                    self.tasks.get_mut(&(sources.join(", "), scope.to_string()))
                {
                    *done = (*done + 1).min(*requests);
                }
            }
            Event::TaskFinished {
                sources,
                scope,
                requests,
                missing,
                outcome,
            } => {
                self.tasks.remove(&(sources.join(", "), scope.clone()));
                if *outcome != Outcome::Stopped {
                    self.requests += requests;
                    self.totals.partitions = self.totals.partitions.saturating_sub(*missing);
                }
            }
            Event::PageFetched { bytes, .. } => {
                self.recent
                    .push_back((moment.elapsed, self.pages, self.bytes));
                while let Some((at, ..)) = self.recent.front()
                    && moment.elapsed.saturating_sub(*at) > RECENT
                {
                    self.recent.pop_front();
                }
                self.pages += 1;
                self.bytes += bytes;
            }
            _ => {}
        }
    }

    /// What is done of a part, and of how much. What turns up beyond the plan counts as planned.
    pub fn done(&self, part: Part) -> (u64, u64) {
        let (done, under_way, planned) = match part {
            Part::Extract => {
                let come: u64 = self.tasks.values().map(|(_, come)| come).sum();
                (self.requests + come, 0, self.totals.requests)
            }
            Part::Transform => {
                let under_way: u64 = self.deriving.values().sum();
                (self.partitions, under_way, self.totals.partitions)
            }
            Part::Load => {
                let under_way: u64 = self.loading.values().map(|(count, _)| count).sum();
                (self.loads, under_way, self.totals.jobs)
            }
        };
        (done, planned.max(done + under_way))
    }

    /// Pages and bytes a second, lately.
    fn rates(&self, elapsed: Duration) -> (f64, f64) {
        let Some((at, pages, bytes)) = self
            .recent
            .iter()
            .find(|(at, ..)| elapsed.saturating_sub(*at) <= RECENT)
        else {
            return (0.0, 0.0);
        };
        let seconds = elapsed.saturating_sub(*at).as_secs_f64().max(1.0);
        (
            (self.pages - pages) as f64 / seconds,
            (self.bytes - bytes) as f64 / seconds,
        )
    }

    /// How long a part is still going to take; none where nothing tells.
    ///
    /// Requests take as long as they have so far, and never less than the rates allow that the API documents.
    pub fn left(&self, part: Part, elapsed: Duration) -> Option<Duration> {
        let (done, total) = self.done(part);
        let rest = total.saturating_sub(done) as f64;
        if rest <= 0.0 {
            return None;
        }
        let observed = (done > 0).then(|| elapsed.as_secs_f64() / done as f64 * rest);
        let limited = (part == Part::Extract && self.totals.requests > 0)
            .then(|| self.totals.request_seconds / self.totals.requests as f64 * rest);
        let seconds = match (observed, limited) {
            (Some(observed), Some(limited)) => observed.max(limited),
            (observed, limited) => observed.or(limited)?,
        };
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// A bar with what it counts, in at most `width` columns: the more there are, the more is said. Empty where there is
    /// nothing to do.
    pub fn bar(&self, part: Part, elapsed: Duration, width: usize) -> String {
        let (done, total) = self.done(part);
        if total == 0 {
            return String::new();
        }
        let (name, what) = match part {
            Part::Extract => ("extract", "requests"),
            Part::Transform => ("transform", "partitions"),
            Part::Load => ("load", "loads"),
        };
        let columns = if width >= 110 { 30 } else { 12 };
        let full = usize::try_from(done * columns as u64 / total).unwrap_or(columns);
        let mut line = format!(
            "{name:<9} [{}{}] {}/{} {what}",
            "#".repeat(full),
            ".".repeat(columns - full),
            grouped(done),
            grouped(total)
        );
        let mut more = Vec::new();
        if let Some(left) = self.left(part, elapsed).filter(|_| !self.stopping) {
            more.push(format!("ETA {}", duration(left)));
        }
        match part {
            Part::Extract => {
                let (pages, bytes) = self.rates(elapsed);
                more.push(format!("{pages:.1} pages/s"));
                more.push(format!("{:.1} MB/s", bytes / 1e6));
                if self.delayed > 0 {
                    more.push(format!("{} retried", grouped(self.delayed)));
                }
                if self.waited >= Duration::from_secs(1) {
                    more.push(format!("rate limit {}", duration(self.waited)));
                }
                more.push(size(self.bytes));
            }
            Part::Transform => more.push(format!("{} derived", grouped(self.derived))),
            Part::Load => {}
        }
        for part in more {
            if line.chars().count() + 2 + part.chars().count() > width {
                break;
            }
            line += "  ";
            line += &part;
        }
        line.chars().take(width).collect()
    }

    /// What is worked on now.
    fn work(&self) -> Vec<String> {
        let tasks = self.tasks.keys();
        let read = tasks.map(|(tables, scope)| format!("{tables} {scope}"));
        let derived = self.deriving.keys().map(|table| format!("{table} (SQL)"));
        let loaded = self
            .loading
            .iter()
            .map(|(table, (_, days))| format!("{table} {days} (load)"));
        read.chain(derived).chain(loaded).collect()
    }

    /// A line with the tables that are being worked on, as many as there is room for.
    pub fn working_on(&self, width: usize) -> String {
        let work = self.work();
        if work.is_empty() {
            return String::new();
        }
        let mut line = String::from(if self.stopping {
            "leaving   "
        } else {
            "now       "
        });
        for (at, item) in work.iter().enumerate() {
            let rest = work.len() - at;
            let further = if rest > 1 {
                format!(", … {} more", rest - 1)
            } else {
                String::new()
            };
            let separator = if at > 0 { ", " } else { "" };
            let columns = |text: &str| text.chars().count();
            let room =
                width.saturating_sub(columns(&line) + columns(separator) + columns(&further));
            if columns(item) > room {
                // The first is cut; of others it is said how many there are.
                line += &if at == 0 {
                    item.chars().take(room).collect::<String>() + &further
                } else {
                    format!(", … {rest} more")
                };
                break;
            }
            line = line + separator + item;
        }
        line.chars().take(width).collect()
    }

    /// Tables that are being worked on, for a message.
    pub fn under_way(&self) -> String {
        let work = self.work();
        match work.as_slice() {
            [] => String::new(),
            [only] => only.clone(),
            [first, rest @ ..] => format!("{first} and {}", counted(rest.len() as u64, "other")),
        }
    }

    /// Everything in one line, for logs.
    pub fn line(&self, elapsed: Duration) -> String {
        let mut parts = Vec::new();
        for (part, what) in [
            (Part::Extract, "requests"),
            (Part::Transform, "partitions"),
            (Part::Load, "loads"),
        ] {
            let (done, total) = self.done(part);
            if total > 0 {
                parts.push(format!("{}/{} {what}", grouped(done), grouped(total)));
            }
        }
        let (pages, bytes) = self.rates(elapsed);
        if self.pages > 0 {
            parts.push(format!("{pages:.1} pages/s {:.1} MB/s", bytes / 1e6));
        }
        if self.delayed > 0 {
            parts.push(format!("{} retried", grouped(self.delayed)));
        }
        if self.waited >= Duration::from_secs(1) {
            parts.push(format!("{} waited for rate limits", duration(self.waited)));
        }
        if self.failures > 0 {
            parts.push(format!("{} failed", grouped(self.failures)));
        }
        let left = [Part::Extract, Part::Transform, Part::Load]
            .into_iter()
            .filter_map(|part| self.left(part, elapsed))
            .max();
        if let Some(left) = left {
            parts.push(format!("ETA {}", duration(left)));
        }
        if !self.is_started {
            parts.push("waiting for the start".into());
        }
        format!("progress after {}: {}", duration(elapsed), parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::LoadPurpose;
    use crate::store::layout::Partition;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(progress: &mut Progress, seconds: u32, event: &Event) {
        let moment = Moment {
            at: chrono::DateTime::UNIX_EPOCH,
            elapsed: SECOND * seconds,
        };
        progress.add(event, moment);
    }

    fn task(sources: &[&str], scope: &str, requests: u64) -> [Event; 3] {
        let sources: Vec<String> = sources.iter().map(ToString::to_string).collect();
        [
            Event::TaskStarted {
                sources: sources.clone(),
                scope: scope.into(),
                requests,
            },
            Event::RequestFinished {
                sources: sources.clone(),
                scope: scope.into(),
            },
            Event::TaskFinished {
                sources,
                scope: scope.into(),
                requests,
                missing: 0,
                outcome: Outcome::Done,
            },
        ]
    }

    fn begun() -> Progress {
        let mut progress = Progress::default();
        let totals = Totals {
            requests: 1000,
            request_seconds: 200.0,
            tasks: 10,
            partitions: 40,
            jobs: 12,
        };
        at(
            &mut progress,
            0,
            &Event::RunStarted {
                run: "r".into(),
                totals,
            },
        );
        let [started, come, _] = task(&["fleet_trips"], "2024-01-01 to 2024-01-07", 400);
        at(&mut progress, 0, &started);
        for second in 1..=10 {
            at(&mut progress, second, &come);
            let (endpoint, bytes) = ("/e".into(), 500_000);
            at(
                &mut progress,
                second,
                &Event::PageFetched { endpoint, bytes },
            );
        }
        let [started, _, finished] = task(&["fleet_vehicles"], "snapshot", 1);
        at(&mut progress, 10, &started);
        at(&mut progress, 10, &finished);
        progress
    }

    #[test]
    fn the_rest_takes_as_long_as_so_far_and_as_the_rate_limits_say() {
        let mut progress = begun();
        assert_eq!(progress.done(Part::Extract), (11, 1000));
        // 11 requests in 10 s: 989 more take 899 s, and the rates would allow 198 s.
        assert_eq!(
            progress.left(Part::Extract, SECOND * 10).unwrap().as_secs(),
            899
        );
        // Ten times as fast, the rates are what counts.
        assert_eq!(progress.left(Part::Extract, SECOND).unwrap().as_secs(), 197);
        assert_eq!(
            progress.left(Part::Transform, SECOND * 10),
            None,
            "nothing tells yet"
        );
        // A task that fails takes its partitions with it, and days that have changed are more work.
        let [_, _, mut failed] = task(&["fleet_trips"], "2024-01-01 to 2024-01-07", 400);
        if let Event::TaskFinished {
            missing, outcome, ..
        } = &mut failed
        {
            (*missing, *outcome) = (7, Outcome::Failed);
        }
        at(&mut progress, 11, &failed);
        let found = Event::WorkFound {
            requests: 5,
            tasks: 1,
            partitions: 2,
        };
        at(&mut progress, 12, &found);
        assert_eq!(progress.done(Part::Extract), (401, 1005));
        assert_eq!(progress.done(Part::Transform), (0, 35));
    }

    #[test]
    fn what_turns_up_beyond_the_plan_counts_as_planned() {
        let mut progress = Progress::default();
        let day = Partition::parse("2024-01-01").unwrap();
        let (model, partition) = ("t".to_string(), day);
        at(
            &mut progress,
            1,
            &Event::TransformStarted {
                model: model.clone(),
                partition,
            },
        );
        assert_eq!(progress.done(Part::Transform), (0, 1));
        let outcome = Outcome::Done;
        at(
            &mut progress,
            1,
            &Event::TransformFinished {
                model,
                partition,
                outcome,
            },
        );
        assert_eq!(progress.done(Part::Transform), (1, 1));
        let load = Event::LoadStarted {
            purpose: LoadPurpose::Table,
            table: "t".into(),
            partitions: vec![day],
            job: None,
        };
        at(&mut progress, 1, &load);
        assert_eq!(progress.done(Part::Load), (0, 1));
    }

    #[test]
    fn lines_say_more_where_there_is_more_room() {
        let mut progress = begun();
        let wait = Duration::from_secs(75);
        at(
            &mut progress,
            10,
            &Event::RequestWaited {
                endpoint: "/e".into(),
                wait,
            },
        );
        let (endpoint, reason) = ("/e".into(), "503".into());
        at(
            &mut progress,
            10,
            &Event::RequestDelayed {
                endpoint,
                attempt: 1,
                wait,
                reason,
            },
        );
        for (part, table) in [
            (1, "fleet_trips"),
            (2, "fleet_vehicle_stats_gps"),
            (3, "tags"),
        ] {
            let partition = Partition::parse(&format!("2024-01-0{part}")).unwrap();
            at(
                &mut progress,
                10,
                &Event::TransformStarted {
                    model: table.into(),
                    partition,
                },
            );
        }
        let shown = |width| {
            let now = SECOND * 10;
            let lines = [
                progress.bar(Part::Extract, now, width),
                progress.bar(Part::Transform, now, width),
                progress.bar(Part::Load, now, width),
                progress.working_on(width),
            ];
            assert!(
                lines.iter().all(|line| line.chars().count() <= width),
                "{lines:?}"
            );
            lines.join("\n")
        };
        insta::assert_snapshot!("bars_80", shown(80));
        insta::assert_snapshot!("bars_120", shown(120));
        insta::assert_snapshot!("plain", progress.line(SECOND * 10));
        for width in 0..200 {
            shown(width);
        }
    }
}
