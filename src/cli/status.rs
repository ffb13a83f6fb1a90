//! `status`: what is there, per table and day.

use std::fmt::Write as _;

use chrono::Datelike;
use clap::Args;

use super::options::RunRequestOptions;
use super::{Context, Exit};
use crate::error::Error;
use crate::pipeline::Pipeline;
use crate::pipeline::coverage::{Missing, Reached, SourceCoverage};
use crate::store::layout::Partition;

/// Show what is loaded or missing, per source and day: one letter per day, one line per month.
///
/// A day (or a list) is missing until everything made from it is in the warehouse. A source that was
/// never requested is missing too.
#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    run_request: RunRequestOptions,
    /// List only what is missing, and why
    #[arg(long)]
    missing: bool,
    /// Exit with code 3 if anything requested is missing
    #[arg(long)]
    fail_on_missing: bool,
    /// Google Cloud project of the warehouse [default: GOOGLE_CLOUD_PROJECT, or the project of the key file]
    #[arg(long)]
    project: Option<String>,
}

/// What the letters mean, those that are missing last.
const LETTERS: &str = "# loaded   . loaded, nothing there   + loaded, late data has come since\n\
    missing: d derived, not loaded   e extracted, not derived   ~ unfinished   ! failed   ? not requested\n";

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
        let pipeline = Pipeline::looking(config, context.catalog()?)?;
        let run_request = self
            .run_request
            .run_request(pipeline.catalog(), &context.directory)?;
        let covered = pipeline.coverage(&run_request).await?;
        let mut text = String::new();
        if !self.missing {
            text.push_str(LETTERS);
        }
        for source in &covered {
            match self.missing {
                true => list_missing(&mut text, source),
                false => calendar(&mut text, source),
            }
        }
        super::output::print(text)?;
        let missing = Missing::of(&covered).all();
        Ok(if self.fail_on_missing && missing > 0 {
            Exit::Partial
        } else {
            Exit::Success
        })
    }
}

/// A line a month, of a list or a feed one line.
fn calendar(text: &mut String, source: &SourceCoverage) {
    // Writing into a String cannot fail.
    let _ = write!(text, "{} ({} raw rows)", source.source, source.rows);
    if source.never_asked {
        text.push_str(" ? never requested");
    }
    let mut month = None;
    for (partition, reached) in &source.partitions {
        let Partition::Day(day) = partition else {
            let _ = write!(text, " {}", letter(reached));
            match &source.failure {
                // It may be there all the same, from an earlier try.
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
            continue;
        };
        if month.replace((day.year(), day.month())) != Some((day.year(), day.month())) {
            let _ = write!(text, "\n  {} ", day.format("%Y-%m"));
        }
        // Days that were not asked for leave a gap.
        let line = text.len() - text.rfind('\n').map_or(0, |at| at + 1);
        let column = "  2024-01 ".len() + day.day0() as usize;
        text.extend(std::iter::repeat_n(' ', column.saturating_sub(line)));
        text.push(letter(reached));
    }
    text.push('\n');
}

/// A line for all that is missing.
fn list_missing(text: &mut String, source: &SourceCoverage) {
    if source.never_asked {
        let _ = writeln!(text, "{} never requested", source.source);
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
            failure: None,
            is_known: true,
            rows: 7,
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
    }
}
