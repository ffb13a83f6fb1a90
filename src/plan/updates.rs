//! Sources that are asked by the time of the last change: which windows of that time are read.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};

use super::{DEFAULT_START, RunRequest};
use crate::catalog::Source;
use crate::state::{SourceState, Updates};

/// What has changed this moment may not be told yet.
const SETTLING: TimeDelta = TimeDelta::minutes(2);

/// A window of the time of the last change, and what is known once its rows are committed.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdatesWindow {
    /// First instant.
    pub start: DateTime<Utc>,
    /// The instant after the last.
    pub end: DateTime<Utc>,
    /// The first day whose rows are left out, because it was not asked for: they are read when it is.
    pub born_before: Option<NaiveDate>,
    /// The position behind it; none: it stays as it is.
    pub position: Option<Updates>,
}

/// The windows that a run reads, in its order.
///
/// Changes are read oldest first, from a little before the position on, so that what became visible late is found. An
/// earlier first day adds windows in front, the latest first: what was read stays one span of time. Where the asked days
/// end before now, the position ends with them; but rows of these days may have changed since, so that later changes are
/// read too, and of them the rows that were born before that end.
pub(super) fn windows(
    source: &Source,
    state: &SourceState,
    run_request: &RunRequest,
    now: DateTime<Utc>,
) -> Vec<UpdatesWindow> {
    let dates = &run_request.dates;
    let days = source.days_per_request;
    let lookback = TimeDelta::days(i64::from(source.lookback_days));
    let latest = now - SETTLING;
    let end = dates
        .end
        .filter(|end| midnight(*end) < latest)
        .map(|end| (end, midnight(end)));
    let goal = end.map_or(latest, |(_, end)| end);
    let start = dates.start.map(midnight);
    let mut windows = Vec::new();
    if run_request.historical {
        let whole = start.unwrap_or_else(|| midnight(DEFAULT_START));
        windows.extend(slices(whole, goal, days).map(|(start, end)| UpdatesWindow {
            start,
            end,
            born_before: None,
            position: None,
        }));
        return windows;
    }
    let from = start.unwrap_or_else(|| midnight(DEFAULT_START));
    let mut at = match &state.updates {
        Some(known) => known.clone(),
        None if from >= goal => return windows,
        None => Updates {
            from,
            until: from,
            checked: None,
        },
    };
    let before: Vec<_> = match start {
        Some(start) => slices(start, at.from, days).collect(),
        None => Vec::new(),
    };
    for (start, end) in before.into_iter().rev() {
        at.from = start;
        windows.push(UpdatesWindow {
            start,
            end,
            born_before: None,
            position: Some(at.clone()),
        });
    }
    if goal > at.until {
        let first = (at.until - lookback).max(at.from).min(at.until);
        for (start, end) in slices(first, goal, days) {
            if end > at.until {
                (at.until, at.checked) = (end, None);
            }
            windows.push(UpdatesWindow {
                start,
                end,
                born_before: None,
                position: Some(at.clone()),
            });
        }
    }
    // Rows without a time of birth are of no day: what was asked for is what has changed by then.
    if let Some((day, end)) = end.filter(|_| source.is_daily()) {
        let seen = at.checked.unwrap_or(at.until);
        if seen < latest && seen < end + lookback {
            let first = at.checked.map_or(at.until, |checked| checked - lookback);
            for (start, end) in slices(first.max(at.until), latest, days) {
                at.checked = at.checked.max(Some(end));
                windows.push(UpdatesWindow {
                    start,
                    end,
                    born_before: Some(day),
                    position: Some(at.clone()),
                });
            }
        }
    }
    windows
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

/// Cuts a span of time into windows of so many days.
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

    /// The windows as `start..end`, `<day` for the first day that is left out, and the position behind them.
    fn planned(
        source: &Source,
        updates: Option<(&str, &str, Option<&str>)>,
        dates: (Option<&str>, Option<&str>),
        historical: bool,
    ) -> Vec<String> {
        let at = |text: &str| format!("{text}Z").parse::<DateTime<Utc>>().unwrap();
        let mut state = SourceState::new("a");
        state.updates = updates.map(|(from, until, checked)| Updates {
            from: at(from),
            until: at(until),
            checked: checked.map(at),
        });
        let run_request = RunRequest {
            selection: Selection::default(),
            dates: Dates::parse(dates.0, dates.1).unwrap(),
            stages: BTreeSet::new(),
            historical,
        };
        let shown = |at: DateTime<Utc>| at.format("%m-%dT%H:%M").to_string().replace("T00:00", "");
        windows(source, &state, &run_request, at("2026-03-20T12:02:00"))
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
        // A later first day leaves no gap; an earlier one is read in front.
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
        // Interrupted, it goes on; late enough, it is settled.
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
