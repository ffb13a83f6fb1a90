//! Sources requested by time of last change: which windows of that time are read.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};

use super::{CURSOR_DAYS, DEFAULT_START, RunRequest};
use crate::catalog::Source;
use crate::state::{Checkpoint, SourceState, UnfinishedWindow, Updates};

/// Changes of this moment may not be visible yet.
const SETTLING: TimeDelta = TimeDelta::minutes(2);

/// A window of time of last change, and the position after its rows are committed.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdatesWindow {
    /// First instant.
    pub start: DateTime<Utc>,
    /// The instant after the last.
    pub end: DateTime<Utc>,
    /// The first day whose rows are left out, because it was not requested.
    pub born_before: Option<NaiveDate>,
    /// The position after the window; none: it stays as it is.
    pub position: Option<Updates>,
}

impl UpdatesWindow {
    /// The window with its checkpoint, as stored in the state.
    pub(crate) fn unfinished(&self, checkpoint: Checkpoint) -> UnfinishedWindow {
        UnfinishedWindow {
            start: self.start,
            end: self.end,
            born_before: self.born_before,
            position: self.position.clone(),
            checkpoint,
        }
    }

    /// Whether it is the one that was begun.
    pub(crate) fn is_left_of(&self, begun: &UnfinishedWindow) -> bool {
        let is_moving = self.position.is_some() == begun.position.is_some();
        is_moving
            && (self.start, self.end, self.born_before)
                == (begun.start, begun.end, begun.born_before)
    }
}

/// The windows that a run reads, in order. A window that an earlier run has begun comes first and unchanged, if it is
/// still requested: a cursor is bound to its ends.
///
/// Changes are read oldest first, from a little before the position on, to find what became visible late. An earlier
/// first day adds windows before the known ones, the latest first: the known time stays one span. If the requested days
/// end before now, the position ends with them; but rows of these days may have changed since, so later changes are
/// read too, and of them the rows that were created before that end.
pub(super) fn windows(
    source: &Source,
    state: &SourceState,
    run_request: &RunRequest,
    now: DateTime<Utc>,
) -> Vec<UpdatesWindow> {
    let dates = &run_request.dates;
    let days = source.days_per_request;
    let latest = now - SETTLING;
    let end = dates
        .end
        .filter(|end| midnight(*end) < latest)
        .map(|end| (end, midnight(end)));
    let goal = end.map_or(latest, |(_, end)| end);
    let start = dates.start.map(midnight);
    let from = start.unwrap_or_else(|| midnight(DEFAULT_START));
    if run_request.historical {
        let all = slices(from, goal, days);
        return all.map(|ends| window(ends, None, None)).collect();
    }
    let at = match &state.updates {
        Some(known) => known.clone(),
        None if from >= goal => return Vec::new(),
        None => Updates {
            from,
            until: from,
            checked: None,
        },
    };
    // Rows without a creation time belong to no day: all that has changed by then is requested.
    let day = end.filter(|_| source.is_daily());
    let asked = Asked {
        start,
        goal,
        day: day.map(|(day, _)| day),
        latest,
    };
    let mut planned = Planned {
        windows: Vec::new(),
        at,
        days,
        lookback: TimeDelta::days(i64::from(source.lookback_days)),
    };
    if let Some(begun) = state.unfinished.as_deref()
        && let Some(position) = asked.wants(begun, state.updates.as_ref(), from, now)
    {
        planned.resume(begun, position);
    }
    if let Some(start) = start {
        planned.go_back_to(start);
    }
    planned.go_on_to(goal);
    if let Some((day, end)) = day {
        planned.check_again(day, end, latest);
    }
    planned.windows
}

fn window(
    (start, end): (DateTime<Utc>, DateTime<Utc>),
    born_before: Option<NaiveDate>,
    position: Option<Updates>,
) -> UpdatesWindow {
    UpdatesWindow {
        start,
        end,
        born_before,
        position,
    }
}

/// Windows, and the position after the last of them.
struct Planned {
    windows: Vec<UpdatesWindow>,
    at: Updates,
    /// Days of a window.
    days: u32,
    lookback: TimeDelta,
}

impl Planned {
    fn push(&mut self, ends: (DateTime<Utc>, DateTime<Utc>), born_before: Option<NaiveDate>) {
        let position = Some(self.at.clone());
        self.windows.push(window(ends, born_before, position));
    }

    /// A window that an earlier run has begun.
    fn resume(&mut self, begun: &UnfinishedWindow, position: &Updates) {
        self.at = position.clone();
        self.push((begun.start, begun.end), begun.born_before);
    }

    /// Windows before the known ones, the latest first.
    fn go_back_to(&mut self, start: DateTime<Utc>) {
        let before: Vec<_> = slices(start, self.at.from, self.days).collect();
        for ends in before.into_iter().rev() {
            self.at.from = ends.0;
            self.push(ends, None);
        }
    }

    /// Windows from the position on.
    fn go_on_to(&mut self, goal: DateTime<Utc>) {
        let at = &self.at;
        if goal <= at.until {
            return;
        }
        let first = (at.until - self.lookback).max(at.from).min(at.until);
        for ends in slices(first, goal, self.days) {
            if ends.1 > self.at.until {
                (self.at.until, self.at.checked) = (ends.1, None);
            }
            self.push(ends, None);
        }
    }

    /// Later changes of the rows that were created before a day, which begins at `end`.
    fn check_again(&mut self, day: NaiveDate, end: DateTime<Utc>, latest: DateTime<Utc>) {
        let Updates { until, checked, .. } = self.at;
        let seen = checked.unwrap_or(until);
        if seen >= latest || seen >= end + self.lookback {
            return;
        }
        let first = checked.map_or(until, |checked| checked - self.lookback);
        for ends in slices(first.max(until), latest, self.days) {
            self.at.checked = self.at.checked.max(Some(ends.1));
            self.push(ends, Some(day));
        }
    }
}

/// Which changes are requested.
struct Asked {
    start: Option<DateTime<Utc>>,
    /// Where the position is to be in the end.
    goal: DateTime<Utc>,
    /// The first day that is not requested, if later changes are read for the sake of the days before it.
    day: Option<NaiveDate>,
    latest: DateTime<Utc>,
}

impl Asked {
    /// The position after a window that was begun, if the window is requested. No other window has been committed
    /// since, so the known position is the one before it.
    fn wants<'a>(
        &self,
        begun: &'a UnfinishedWindow,
        known: Option<&Updates>,
        from: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Option<&'a Updates> {
        let position = begun.position.as_ref()?;
        let is_old = now - begun.checkpoint.extracted_at >= TimeDelta::days(CURSOR_DAYS);
        let is_asked = match (begun.born_before, known) {
            (Some(day), _) => self.day == Some(day) && begun.end <= self.latest,
            // In front of what was read.
            (None, Some(known)) if position.from < known.from => {
                self.start.is_some_and(|start| start <= begun.start)
            }
            (None, Some(_)) => begun.end <= self.goal,
            (None, None) => from <= begun.start && begun.end <= self.goal,
        };
        (is_asked && !is_old).then_some(position)
    }
}

/// What the windows are about, for people.
pub(super) fn told(windows: &[UpdatesWindow]) -> String {
    let first = windows.iter().map(|window| window.start).min();
    let last = windows.iter().map(|window| window.end).max();
    let day =
        |at: Option<DateTime<Utc>>| at.map_or_else(String::new, |at| at.date_naive().to_string());
    format!(
        "changes of {} to {} in {} windows",
        day(first),
        day(last),
        windows.len()
    )
}

/// Splits a time range into windows of this many days.
fn slices(
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    days: u32,
) -> impl Iterator<Item = (DateTime<Utc>, DateTime<Utc>)> {
    let long = TimeDelta::days(i64::from(days));
    std::iter::successors(Some(start), move |at| Some(*at + long))
        .take_while(move |at| *at < end)
        .map(move |at| (at, (at + long).min(end)))
}

fn midnight(day: NaiveDate) -> DateTime<Utc> {
    // The state and the catalog may hold any day.
    day.min(NaiveDate::MAX - Days::new(1))
        .and_time(NaiveTime::MIN)
        .and_utc()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::catalog::Catalog;
    use crate::plan::{Dates, Selection};

    fn source(time_field: &str) -> Source {
        let toml = format!(
            "[a]\ndescription = 'd'\nkind = 'updates'\nendpoint = '/a'\nrate_limit = '5/s'\nkey = ['id']\n\
             newest_by = 'changed'\nlookback_days = 1\ndays_per_request = 10\n{time_field}\n\
             window = {{ start = 's', end = 'e', format = 'rfc3339' }}\nschema = 'id VARCHAR, born VARCHAR, changed VARCHAR'\n"
        );
        let catalog = Catalog::from_files("test", &[("f/sources.toml".into(), toml)]).unwrap();
        catalog.source("a").unwrap().clone()
    }

    fn at(text: &str) -> DateTime<Utc> {
        format!("{text}Z").parse().unwrap()
    }

    /// The windows as `start..end`, `<day` for the first day that is left out, and the position after them.
    fn planned(
        source: &Source,
        updates: Option<(&str, &str, Option<&str>)>,
        dates: (Option<&str>, Option<&str>),
        historical: bool,
    ) -> Vec<String> {
        let mut state = SourceState::new("a");
        state.updates = updates.map(|(from, until, checked)| Updates {
            from: at(from),
            until: at(until),
            checked: checked.map(at),
        });
        planned_from(source, &state, dates, historical)
    }

    fn planned_from(
        source: &Source,
        state: &SourceState,
        dates: (Option<&str>, Option<&str>),
        historical: bool,
    ) -> Vec<String> {
        let run_request = RunRequest {
            selection: Selection::default(),
            dates: Dates::parse(dates.0, dates.1).unwrap(),
            stages: BTreeSet::new(),
            historical,
        };
        let shown = |at: DateTime<Utc>| at.format("%m-%dT%H:%M").to_string().replace("T00:00", "");
        windows(source, state, &run_request, at("2026-03-20T12:02:00"))
            .into_iter()
            .map(|window| {
                let born = window
                    .born_before
                    .map_or_else(String::new, |day| format!(" <{}", day.format("%m-%d")));
                let position = window.position.map_or_else(String::new, |it| {
                    let checked = it
                        .checked
                        .map_or_else(String::new, |at| format!("+{}", shown(at)));
                    format!(" [{} {}{checked}]", shown(it.from), shown(it.until))
                });
                format!(
                    "{}..{}{born}{position}",
                    shown(window.start),
                    shown(window.end)
                )
            })
            .collect()
    }

    #[test]
    fn a_window_that_was_begun_comes_first() {
        let dated = source("time_field = 'born'");
        let updates = |from, until, checked: Option<&str>| Updates {
            from: at(from),
            until: at(until),
            checked: checked.map(at),
        };
        let (first, last) = ("2026-03-01T00:00:00", "2026-03-19T06:00:00");
        // The window, the position after it, and when it was begun.
        let begun = |start, end, position: &Updates, read| UnfinishedWindow {
            start: at(start),
            end: at(end),
            born_before: position.checked.map(|_| "2026-03-05".parse().unwrap()),
            position: Some(position.clone()),
            checkpoint: Checkpoint {
                asked: String::new(),
                requests: 0,
                rest: Vec::new(),
                resume: None,
                extracted_at: at(read),
                whole: Default::default(),
                part: Default::default(),
            },
        };
        let run = |known: Option<Updates>, window: &UnfinishedWindow, dates| {
            let mut state = SourceState::new("a");
            (state.updates, state.unfinished) = (known, Some(Box::new(window.clone())));
            planned_from(&dated, &state, dates, false)
        };
        let known = Some(updates(first, last, None));
        // It ended at that run's present; later changes are read from a day before that, as after any run.
        let behind = updates(first, "2026-03-19T18:00:00", None);
        let window = begun(
            "2026-03-18T06:00:00",
            "2026-03-19T18:00:00",
            &behind,
            "2026-03-19T18:02:00",
        );
        let whole = [
            "03-18T06:00..03-19T18:00 [03-01 03-19T18:00]",
            "03-18T18:00..03-20T12:00 [03-01 03-20T12:00]",
        ];
        assert_eq!(run(known.clone(), &window, (None, None)), whole);
        assert_eq!(
            run(known.clone(), &window, (Some("2026-03-20"), None)),
            whole
        );
        // It is not requested, or its cursor is too old.
        assert!(run(known.clone(), &window, (None, Some("2026-02-01"))).is_empty());
        let old = begun(
            "2026-03-18T06:00:00",
            "2026-03-19T18:00:00",
            &behind,
            "2026-02-10T00:00:00",
        );
        let restarted = ["03-18T06:00..03-20T12:00 [03-01 03-20T12:00]"];
        assert_eq!(run(known.clone(), &old, (None, None)), restarted);
        // The very first one.
        let behind = updates(first, "2026-03-11T00:00:00", None);
        let window = begun(first, "2026-03-11T00:00:00", &behind, "2026-03-20T00:00:00");
        assert_eq!(
            run(None, &window, (Some("2026-03-01"), None)),
            [
                "03-01..03-11 [03-01 03-11]",
                "03-10..03-20 [03-01 03-20]",
                "03-20..03-20T12:00 [03-01 03-20T12:00]"
            ]
        );
        assert_eq!(
            run(None, &window, (Some("2026-03-10"), None)),
            [
                "03-10..03-20 [03-10 03-20]",
                "03-20..03-20T12:00 [03-10 03-20T12:00]"
            ]
        );
        // Before the known time: only if that is requested.
        let behind = updates("2026-02-19T00:00:00", last, None);
        let window = begun("2026-02-19T00:00:00", first, &behind, "2026-03-20T00:00:00");
        assert_eq!(
            run(known.clone(), &window, (Some("2026-02-15"), None)),
            [
                "02-19..03-01 [02-19 03-19T06:00]",
                "02-15..02-19 [02-15 03-19T06:00]",
                "03-18T06:00..03-20T12:00 [02-15 03-20T12:00]"
            ]
        );
        assert_eq!(run(known, &window, (None, None)), restarted);
        // Later changes of days that are over.
        let known = Some(updates(first, "2026-03-05T00:00:00", None));
        let behind = updates(first, "2026-03-05T00:00:00", Some("2026-03-15T00:00:00"));
        let window = begun(
            "2026-03-05T00:00:00",
            "2026-03-15T00:00:00",
            &behind,
            "2026-03-20T00:00:00",
        );
        assert_eq!(
            run(
                known.clone(),
                &window,
                (Some("2026-03-01"), Some("2026-03-05"))
            ),
            ["03-05..03-15 <03-05 [03-01 03-05+03-15]"]
        );
        assert_eq!(
            run(known, &window, (None, None)),
            [
                "03-04..03-14 [03-01 03-14]",
                "03-14..03-20T12:00 [03-01 03-20T12:00]"
            ]
        );
    }

    #[test]
    fn changes_are_read_to_now_and_stay_one_span() {
        let dated = source("time_field = 'born'");
        let run = |updates, start, end| planned(&dated, updates, (start, end), false);
        let known = Some(("2026-03-01T00:00:00", "2026-03-19T06:00:00", None));
        assert_eq!(
            run(None, Some("2026-03-01"), None),
            [
                "03-01..03-11 [03-01 03-11]",
                "03-11..03-20T12:00 [03-01 03-20T12:00]"
            ]
        );
        assert_eq!(
            run(known, None, None),
            ["03-18T06:00..03-20T12:00 [03-01 03-20T12:00]"]
        );
        // A later first day leaves no gap; an earlier one is read before the known time.
        assert_eq!(run(known, Some("2026-03-20"), None), run(known, None, None));
        assert_eq!(
            run(known, Some("2026-02-15"), None),
            [
                "02-25..03-01 [02-25 03-19T06:00]",
                "02-15..02-25 [02-15 03-19T06:00]",
                "03-18T06:00..03-20T12:00 [02-15 03-20T12:00]"
            ]
        );
        // Nothing has begun.
        assert!(run(None, Some("2026-03-21"), None).is_empty());
        assert!(run(known, None, Some("2026-02-01")).is_empty());
        // A period again leaves the position alone.
        assert_eq!(
            planned(
                &dated,
                known,
                (Some("2026-03-01"), Some("2026-03-03")),
                true
            ),
            ["03-01..03-03"]
        );
    }

    #[test]
    fn days_that_are_over_are_read_as_they_are_now() {
        let dated = source("time_field = 'born'");
        let run = |updates| {
            planned(
                &dated,
                updates,
                (Some("2026-03-01"), Some("2026-03-05")),
                false,
            )
        };
        let later = "03-05..03-15 <03-05 [03-01 03-05+03-15]";
        let last = "03-15..03-20T12:00 <03-05 [03-01 03-05+03-20T12:00]";
        assert_eq!(run(None), ["03-01..03-05 [03-01 03-05]", later, last]);
        let (from, until) = ("2026-03-01T00:00:00", "2026-03-05T00:00:00");
        // Interrupted, it resumes; read late enough, it is final.
        assert_eq!(run(Some((from, until, None))), [later, last]);
        assert_eq!(
            run(Some((from, until, Some("2026-03-05T12:00:00")))),
            [
                "03-05..03-15 <03-05 [03-01 03-05+03-15]",
                "03-15..03-20T12:00 <03-05 [03-01 03-05+03-20T12:00]"
            ]
        );
        assert!(run(Some((from, until, Some("2026-03-06T00:00:00")))).is_empty());
        assert!(run(Some((from, "2026-03-19T00:00:00", None))).is_empty());
        // The next run without an end reads all that was left out.
        assert_eq!(
            planned(
                &dated,
                Some((from, until, Some("2026-03-20T00:00:00"))),
                (None, None),
                false
            ),
            [
                "03-04..03-14 [03-01 03-14]",
                "03-14..03-20T12:00 [03-01 03-20T12:00]"
            ]
        );
        // Without a time of birth, the end is that of the changes.
        assert_eq!(
            planned(
                &source(""),
                None,
                (Some("2026-03-01"), Some("2026-03-05")),
                false
            ),
            ["03-01..03-05 [03-01 03-05]"]
        );
    }
}
