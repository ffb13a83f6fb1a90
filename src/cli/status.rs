//! `status`: what is in the warehouse, per table and day.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{Datelike, NaiveDate};
use clap::Args;

use super::json::{self, OutputFormat};
use super::options::PeriodOptions;
use super::{Context, Exit};
use crate::config::{BucketLocation, DEMO_FOLDER};
use crate::error::Error;
use crate::pipeline::Pipeline;
use crate::pipeline::coverage::{Missing, Reached, SourceCoverage, TableState};
use crate::plan::Selection;
use crate::report::words::{aligned, counted, grouped, wrapped};
use crate::state::NotAvailable;
use crate::store::layout::Partition;

/// Show what each table holds: a line a table. With names of tables, their days: a letter a day, a line a month.
///
/// A day (or a list) is missing until everything made from it is in the warehouse. A source that was
/// never requested is missing too.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samsara-etl status
  samsara-etl status fleet_trips --lookback-days 90
  samsara-etl status --missing --fail-on-missing")]
pub(super) struct Status {
    /// Show the days of these tables
    #[arg(value_name = "TABLE")]
    days_of: Vec<String>,
    #[command(flatten)]
    run_request: PeriodOptions,
    /// Show the days of all selected tables
    #[arg(long)]
    calendar: bool,
    /// List what is missing instead, and why
    #[arg(long, conflicts_with_all = ["calendar", "format"])]
    missing: bool,
    /// Exit with code 3 if anything requested is missing
    #[arg(long)]
    fail_on_missing: bool,
    /// Google Cloud project of the warehouse [default: GOOGLE_CLOUD_PROJECT, or the project of the key file]
    #[arg(long)]
    project: Option<String>,
    /// How to print it: for people, or as one JSON object (docs/json.md)
    #[arg(long, value_enum, default_value = "text")]
    format: OutputFormat,
}

/// The meaning of the letters, those for missing days last.
const LETTERS: &str = "# loaded   . loaded, nothing there   + loaded, late data has come since\n\
    missing: d derived, not loaded   e extracted, not derived   ~ unfinished   ! failed   ? not requested\n\
    neither: - not available: no scope, no licence, or no such endpoint\n";

pub(super) fn letter(reached: &Reached) -> char {
    match reached {
        Reached::Loaded => '#',
        Reached::Empty => '.',
        Reached::Changed => '+',
        Reached::NotLoaded(_) => 'd',
        Reached::NotDerived(_) => 'e',
        Reached::Unfinished => '~',
        Reached::Failed(_) => '!',
        Reached::Unasked => '?',
    }
}

/// Why a partition is missing; none if it is not.
pub(super) fn why(reached: &Reached) -> Option<String> {
    Some(match reached {
        Reached::Loaded | Reached::Empty | Reached::Changed => return None,
        Reached::NotLoaded(tables) => format!("derived, not loaded: {}", tables.join(", ")),
        Reached::NotDerived(tables) => format!(
            "extracted, not derived or not loaded: {}",
            tables.join(", ")
        ),
        Reached::Unfinished => "unfinished: the next run continues it".into(),
        Reached::Failed(error) => format!("failed: {error}"),
        Reached::Unasked => "not requested".into(),
    })
}

impl Status {
    pub(super) async fn execute(self, context: &Context) -> Result<Exit, Error> {
        let config = super::options::reading_config_of(context, self.project.clone())?;
        let demo = context.directory.join(DEMO_FOLDER);
        let is_demo = config.storage.raw == BucketLocation::Folder(demo.join("raw"));
        let pipeline = Pipeline::looking(config, context.catalog()?)?;
        let mut run_request = self
            .run_request
            .run_request(pipeline.catalog(), &context.directory)?;
        let with_days = self.calendar || !self.days_of.is_empty();
        if !self.days_of.is_empty() {
            run_request.selection = Selection::of_names(pipeline.catalog(), &self.days_of)?;
        }
        let covered = pipeline.coverage(&run_request).await?;
        if self.format == OutputFormat::Json {
            json::print(&json::StatusDocument::of(&covered, with_days))?;
            pipeline.abandon();
            return Ok(self.exit(&covered));
        }
        let mut text = String::new();
        match (self.missing, with_days) {
            (true, _) => covered.iter().for_each(|source| {
                list_missing(&mut text, source);
                list_gaps(&mut text, source);
            }),
            (false, true) => {
                text.push_str(LETTERS);
                covered.iter().for_each(|source| {
                    calendar(&mut text, source);
                    list_gaps(&mut text, source);
                });
            }
            (false, false) => {
                let width = super::output::data_width();
                overview(&mut text, &covered, width);
                if is_demo && run_request.dates.end.is_none() {
                    text.extend(demo_hint(&covered, width));
                }
            }
        }
        if !self.missing {
            let selection = &run_request.selection;
            for source in selection
                .on_request
                .iter()
                .filter_map(|name| pipeline.catalog().source(name))
            {
                let reason = source.on_request.as_deref().unwrap_or_default();
                let reason = crate::redact::one_line(reason);
                let _ = writeln!(text, "{} on request, not read: {reason}", source.name);
            }
        }
        super::output::print(text)?;
        pipeline.abandon();
        Ok(self.exit(&covered))
    }

    fn exit(&self, covered: &[SourceCoverage]) -> Exit {
        if self.fail_on_missing && Missing::of(covered).all() > 0 {
            Exit::Partial
        } else {
            Exit::Success
        }
    }
}

/// A line a table, and what fails.
fn overview(text: &mut String, covered: &[SourceCoverage], width: Option<usize>) {
    let mut states: BTreeMap<TableState, u64> = BTreeMap::new();
    let mut rows = Vec::new();
    for (source, table) in covered
        .iter()
        .flat_map(|source| source.tables.iter().map(move |table| (source, table)))
    {
        let state = source.state_of(table);
        *states.entry(state).or_default() += 1;
        let newest = match table.newest {
            Some(Partition::Day(day)) => day.to_string(),
            Some(Partition::Snapshot) => "list".into(),
            None => "-".into(),
        };
        let read = source.last_read.map_or_else(
            || "-".into(),
            |read| read.format("%Y-%m-%d %H:%M").to_string(),
        );
        rows.push(vec![
            table.table.clone(),
            newest,
            grouped(table.missing),
            grouped(table.rows),
            read,
            state.as_str().to_string(),
        ]);
    }
    let header = ["table", "newest", "missing", "rows", "last read", "state"];
    *text += &aligned(&header, rows, &[2, 3], width);
    let counts = states
        .iter()
        .map(|(state, count)| format!("{} {}", grouped(*count), state.as_str()));
    let counts: Vec<String> = counts.collect();
    let tables = counted(states.values().sum(), "table");
    // Writing into a String cannot fail.
    let _ = writeln!(text, "\n{tables}: {}", counts.join(", "));
    for source in covered {
        if let Some(error) = source.failing() {
            let at = source
                .failure
                .as_ref()
                .map(|failure| format!(" failed at {}", failure.at.format("%Y-%m-%d %H:%M")));
            let line = format!(
                "failing: {}{}: {}",
                source.source,
                at.unwrap_or_default(),
                crate::redact::one_line(error)
            );
            let line = width.map_or(line.clone(), |width| wrapped(&line, width, 4));
            let _ = writeln!(text, "{line}");
        }
    }
    for source in covered {
        list_gaps(text, source);
    }
    if !rows_are_whole(&states) {
        *text += "`samsara-etl status TABLE` shows its days, `status --missing` what is missing and why\n";
    }
}

/// What a feed has lost, a line a span.
fn list_gaps(text: &mut String, source: &SourceCoverage) {
    for gap in &source.gaps {
        let _ = writeln!(
            text,
            "{} {gap}: may be lost, its feed reached no further back",
            source.source
        );
    }
}

/// The end of a demo's days, if later days count as missing.
fn demo_hint(covered: &[SourceCoverage], width: Option<usize>) -> Option<String> {
    let tables = || covered.iter().flat_map(|source| &source.tables);
    let days = tables().filter_map(|table| match table.newest {
        Some(Partition::Day(day)) => Some(day),
        _ => None,
    });
    let last = days.max()?;
    let end = last.succ_opt()?;
    tables().any(|table| table.missing > 0).then(|| {
        let line = format!(
            "these are the tables of `samsara-etl demo`: its simulated days end with {last}, and later ones count as \
             missing; `samsara-etl status --end-date {end}` leaves them out"
        );
        width.map_or(line.clone(), |width| wrapped(&line, width, 4)) + "\n"
    })
}

fn rows_are_whole(states: &BTreeMap<TableState, u64>) -> bool {
    states.keys().all(|state| *state == TableState::Whole)
}

/// This many successive months that are loaded completely are shown as one line.
const FOLDED_MONTHS: usize = 3;

/// A line per month; one line for a list. Many successive months that are loaded completely are folded.
fn calendar(text: &mut String, source: &SourceCoverage) {
    // Writing into a String cannot fail.
    let _ = write!(
        text,
        "{} ({} raw rows)",
        source.source,
        grouped(source.rows)
    );
    if let Some(not_available) = &source.not_available {
        let _ = write!(text, " - {}", refused(not_available));
    } else if source.never_asked {
        text.push_str(" ? never requested");
    }
    let mut months: BTreeMap<(i32, u32), Vec<(NaiveDate, &Reached)>> = BTreeMap::new();
    for (partition, reached) in &source.partitions {
        match partition {
            Partition::Day(day) => months
                .entry((day.year(), day.month()))
                .or_default()
                .push((*day, reached)),
            Partition::Snapshot => {
                let _ = write!(text, " {}", letter(reached));
                match &source.failure {
                    // It may exist all the same, from an earlier attempt.
                    Some(failure) => {
                        let _ = write!(
                            text,
                            " failed at {}: {}",
                            failure.at.format("%Y-%m-%d %H:%M"),
                            crate::redact::one_line(&failure.error)
                        );
                    }
                    None => text.extend(why(reached).map(|why| format!(" {why}"))),
                }
            }
        }
    }
    text.push('\n');
    let months: Vec<Vec<(NaiveDate, &Reached)>> = months.into_values().collect();
    let is_whole = |days: &Vec<(NaiveDate, &Reached)>| {
        let mut reached = days.iter().map(|(_, reached)| *reached);
        reached.all(|reached| matches!(reached, Reached::Loaded | Reached::Empty))
    };
    for alike in months.chunk_by(|one, other| is_whole(one) && is_whole(other)) {
        let (first, last) = (alike.first(), alike.last());
        if alike.len() >= FOLDED_MONTHS
            && let Some((first, _)) = first.and_then(|days| days.first())
            && let Some((last, _)) = last.and_then(|days| days.last())
        {
            let days = alike.iter().map(Vec::len).sum::<usize>() as u64;
            let (first, last) = (first.format("%Y-%m"), last.format("%Y-%m"));
            let _ = writeln!(
                text,
                "  {first} to {last} # {} loaded",
                counted(days, "day")
            );
            continue;
        }
        for days in alike {
            let _ = writeln!(text, "{}", month_line(days));
        }
    }
}

/// A letter for each day of a month.
fn month_line(days: &[(NaiveDate, &Reached)]) -> String {
    let mut line = String::new();
    for (day, reached) in days {
        if line.is_empty() {
            let _ = write!(line, "  {} ", day.format("%Y-%m"));
        }
        // Days that were not requested leave a gap.
        let column = "  2024-01 ".len() + day.day0() as usize;
        line.extend(std::iter::repeat_n(' ', column.saturating_sub(line.len())));
        line.push(letter(reached));
    }
    line
}

/// That a source is not available, when it was last requested, and why.
fn refused(NotAvailable { at, reason }: &NotAvailable) -> String {
    let (at, reason) = (at.format("%Y-%m-%d"), crate::redact::one_line(reason));
    format!("not available on {at}: {reason}")
}

/// A line for all that is missing.
fn list_missing(text: &mut String, source: &SourceCoverage) {
    if source.never_asked {
        let why = match &source.not_available {
            Some(not_available) => refused(not_available),
            None => "never requested".into(),
        };
        let _ = writeln!(text, "{} {why}", source.source);
    }
    for (partition, reached) in &source.partitions {
        if let Some(why) = why(reached) {
            let _ = writeln!(text, "{} {partition} {why}", source.source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_stands_for_each_day_and_a_line_for_what_is_missing() {
        let day = |text: &str| Partition::parse(text).unwrap();
        let tables = || vec!["a".to_string(), "b".to_string()];
        let mut source = SourceCoverage {
            source: "s".into(),
            partitions: [
                (day("2024-01-30"), Reached::Loaded),
                (day("2024-01-31"), Reached::NotLoaded(tables())),
                (day("2024-02-01"), Reached::NotDerived(tables())),
                (day("2024-02-03"), Reached::Failed("no answer".into())),
                (day("2024-02-04"), Reached::Empty),
            ]
            .into(),
            never_asked: false,
            not_available: None,
            failure: None,
            is_known: true,
            rows: 7,
            tables: Vec::new(),
            last_read: None,
            gaps: Vec::new(),
        };
        let (mut shown, mut missing) = (String::new(), String::new());
        calendar(&mut shown, &source);
        list_missing(&mut missing, &source);
        let gap = " ".repeat(29);
        assert_eq!(
            shown,
            format!("s (7 raw rows)\n  2024-01 {gap}#d\n  2024-02 e !.\n")
        );
        assert_eq!(
            missing,
            "s 2024-01-31 derived, not loaded: a, b\n\
             s 2024-02-01 extracted, not derived or not loaded: a, b\n\
             s 2024-02-03 failed: no answer\n"
        );
        source.partitions = [(Partition::Snapshot, Reached::Unasked)].into();
        shown.clear();
        calendar(&mut shown, &source);
        assert_eq!(shown, "s (7 raw rows) ? not requested\n");
        source.partitions.clear();
        source.never_asked = true;
        (shown, missing) = (String::new(), String::new());
        calendar(&mut shown, &source);
        list_missing(&mut missing, &source);
        assert_eq!(
            (shown.as_str(), missing.as_str()),
            ("s (7 raw rows) ? never requested\n", "s never requested\n")
        );
        // Whether it was selected by name or not, it is missing.
        source.not_available = Some(NotAvailable {
            at: "2024-02-03T10:00:00Z".parse().unwrap(),
            reason: "no scope".into(),
        });
        for (is_named, listed) in [
            (true, "s not available on 2024-02-03: no scope\n"),
            (false, ""),
        ] {
            source.never_asked = is_named;
            (shown, missing) = (String::new(), String::new());
            calendar(&mut shown, &source);
            list_missing(&mut missing, &source);
            assert_eq!(
                shown,
                "s (7 raw rows) - not available on 2024-02-03: no scope\n"
            );
            assert_eq!(missing, listed);
        }
    }
}
