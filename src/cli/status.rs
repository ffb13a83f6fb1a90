//! `status`: what is there, per table and day.

use std::fmt::Write as _;

use chrono::{Datelike, NaiveDate, Utc};
use clap::Args;

use super::options::WishOptions;
use super::{Context, Exit};
use crate::catalog::Source;
use crate::error::Error;
use crate::pipeline::Pipeline;
use crate::plan::{Dates, days};
use crate::redact;
use crate::state::{PartitionState, SourceState};
use crate::store::layout::Partition;

/// Show what is there, per table and day: a letter a day, a line a month.
#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    wish: WishOptions,
    /// List the days that are missing instead
    #[arg(long)]
    missing: bool,
    /// End with exit code 3 if any asked day is missing
    #[arg(long)]
    fail_on_missing: bool,
}

/// What is known of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// Read whole, with rows.
    Rows,
    /// Asked for, and there was nothing.
    Empty,
    /// Read whole, but a feed has told of late data since: the next run reads it again.
    Changed,
    /// Begun: the next run goes on from its cursor.
    Unfinished,
    /// Tried, and failed.
    Failed,
    /// Never asked for.
    Unasked,
}

impl Known {
    fn of(partition: Option<&PartitionState>) -> Self {
        let Some(partition) = partition else { return Self::Unasked };
        match (&partition.raw, &partition.failure, &partition.unfinished) {
            (Some(_), _, _) if partition.changed.is_some() => Self::Changed,
            (Some(raw), _, _) if raw.objects.is_empty() => Self::Empty,
            (Some(_), _, _) => Self::Rows,
            (None, Some(_), _) => Self::Failed,
            (None, None, Some(_)) => Self::Unfinished,
            (None, None, None) => Self::Unasked,
        }
    }

    fn letter(self) -> char {
        match self {
            Self::Rows => '#',
            Self::Empty => '.',
            Self::Changed => '+',
            Self::Unfinished => '~',
            Self::Failed => '!',
            Self::Unasked => '?',
        }
    }

    fn is_missing(self) -> bool {
        matches!(self, Self::Unfinished | Self::Failed | Self::Unasked)
    }
}

impl Status {
    pub(super) async fn execute(self, context: &Context) -> Result<Exit, Error> {
        let pipeline = Pipeline::looking(super::options::reading_config(context)?, context.catalog()?)?;
        let wish = self.wish.wish(pipeline.catalog(), &context.directory)?;
        let (mut text, mut missing) = (String::new(), 0);
        if !self.missing {
            text.push_str(
                "# rows   . asked, nothing there   + late data has come   ~ unfinished   ! failed   ? not asked\n",
            );
        }
        for source in wish.selection.sources.iter().filter_map(|name| pipeline.catalog().source(name)) {
            let state = pipeline.states().source(&source.name).await?.look(Clone::clone);
            missing += if self.missing {
                list_missing(&mut text, source, &state, &wish.dates)
            } else {
                calendar(&mut text, source, &state, &wish.dates)
            };
        }
        super::output::print(text)?;
        Ok(if self.fail_on_missing && missing > 0 { Exit::Partial } else { Exit::Success })
    }
}

/// The asked days, or those from the first known one to yesterday. Feeds and lists have no days to miss.
fn asked(source: &Source, state: &SourceState, dates: &Dates) -> Vec<NaiveDate> {
    use crate::catalog::SourceKind::{Report, Window};
    if !matches!(source.kind, Window | Report) {
        return Vec::new();
    }
    let first = state.partitions.keys().filter_map(|key| Partition::parse(key)?.day()).min();
    let today = Utc::now().date_naive();
    match dates.start.or(first) {
        Some(start) => days(start, dates.end.unwrap_or(today).min(today)).collect(),
        None => Vec::new(),
    }
}

fn known(state: &SourceState, day: NaiveDate) -> Known {
    Known::of(state.partition(Partition::Day(day)))
}

/// A line a month; gives how many days are missing.
fn calendar(text: &mut String, source: &Source, state: &SourceState, dates: &Dates) -> u64 {
    let days = asked(source, state, dates);
    let rows: u64 = state.complete().flat_map(|(_, raw)| &raw.objects).map(|object| object.rows).sum();
    let (mut missing, mut month) = (0, None);
    // Writing into a String cannot fail.
    let _ = write!(text, "{} ({rows} raw rows)", source.name);
    if let Some(failure) = state.partition(Partition::Snapshot).and_then(|partition| partition.failure.as_ref()) {
        let _ =
            write!(text, " failed at {}: {}", failure.at.format("%Y-%m-%d %H:%M"), redact::one_line(&failure.error));
    }
    for day in days {
        if month.replace((day.year(), day.month())) != Some((day.year(), day.month())) {
            let _ = write!(text, "\n  {} {}", day.format("%Y-%m"), " ".repeat(day.day0() as usize));
        }
        let known = known(state, day);
        missing += u64::from(known.is_missing());
        text.push(known.letter());
    }
    text.push('\n');
    missing
}

/// A line a missing day; gives how many there are.
fn list_missing(text: &mut String, source: &Source, state: &SourceState, dates: &Dates) -> u64 {
    let mut missing = 0;
    for day in asked(source, state, dates) {
        let why = match known(state, day) {
            Known::Unasked => "not asked".to_string(),
            Known::Unfinished => "unfinished: the next run goes on".to_string(),
            Known::Failed => match state.partition(Partition::Day(day)).and_then(|it| it.failure.as_ref()) {
                Some(failure) => format!("failed: {}", redact::one_line(&failure.error)),
                None => continue,
            },
            Known::Rows | Known::Empty | Known::Changed => continue,
        };
        missing += 1;
        let _ = writeln!(text, "{} {day} {why}", source.name);
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_what_its_state_says() {
        let read = |json: &str| serde_json::from_str::<PartitionState>(json).unwrap();
        let failure = r#""failure":{"at":"2024-01-02T00:00:00Z","error":"x"}"#;
        let raw = |objects: &str| {
            format!(
                r#""raw":{{"objects":[{objects}],"records":1,"not_owned":0,"rescued":0,"content":"","extracted_at":"2024-01-02T00:00:00Z"}}"#
            )
        };
        let rows = raw(r#"{"path":"a","rows":1,"bytes":1}"#);
        let unfinished = r#"{"unfinished":{"asked":"","requests":1,"extracted_at":"2024-01-02T00:00:00Z",
            "whole":{"records":1,"rescued":0,"content":"","parts":[]}}}"#;
        let cases = [
            ("{}".to_string(), '?', true),
            (unfinished.to_string(), '~', true),
            (format!("{{{failure}}}"), '!', true),
            (format!("{{{}}}", raw("")), '.', false),
            (format!("{{{rows}}}"), '#', false),
            (format!("{{{rows},\"changed\":\"2024-01-03T00:00:00Z\"}}"), '+', false),
            // What was read whole stays so, whatever became of a later try.
            (format!("{{{rows},{failure}}}"), '#', false),
        ];
        for (json, letter, missing) in cases {
            let known = Known::of(Some(&read(&json)));
            assert_eq!((known.letter(), known.is_missing()), (letter, missing), "{json}");
        }
        assert_eq!(Known::of(None).letter(), '?');
    }
}
