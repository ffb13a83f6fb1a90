//! What an extract task asks for.

use chrono::{DateTime, NaiveDate, Utc};

use super::assign_day::day_window;
use crate::catalog::{Source, SourceKind};
use crate::samsara::{ParentRow, Watch, Window};
use crate::state::Position;
use crate::store::layout::Partition;

/// What is read in one go.
#[derive(Debug, Clone)]
pub struct ExtractTask {
    /// One source, or several that share calls.
    pub sources: Vec<Source>,
    /// Which part of them.
    pub scope: Scope,
    /// Rows of the parent, for sources that fan out.
    pub parents: Vec<ParentRow>,
}

/// The part of a source that a task reads.
#[derive(Debug, Clone)]
pub enum Scope {
    /// The whole list.
    Snapshot,
    /// Consecutive UTC days.
    Days(Vec<NaiveDate>),
    /// What comes after a cursor, or since an instant if there is none yet: at most `checkpoint_every` pages of it.
    Feed {
        /// The stored query and cursor.
        resume: Option<Position>,
        /// Where a feed without cursor begins.
        since: DateTime<Utc>,
        /// The first day that is not requested: reading stops before the first page with rows of it or of later days.
        until: Option<NaiveDate>,
        /// What its pages have shown so far.
        watch: Watch,
    },
    /// What has changed in a window of time of last change.
    Updates {
        /// The window.
        window: Window,
        /// The first day whose rows are left out, because it was not requested.
        born_before: Option<NaiveDate>,
    },
}

impl ExtractTask {
    /// Whether it has one request per row of the parent: many small requests, several at a time.
    pub(super) fn is_fan_out(&self) -> bool {
        self.sources
            .first()
            .and_then(|source| source.parent.as_ref())
            .is_some_and(|parent| parent.batch == 1)
    }

    /// Whether it reads a feed.
    pub(super) fn is_feed(&self) -> bool {
        self.sources
            .first()
            .is_some_and(|source| source.kind == SourceKind::Feed)
    }

    /// The time range of its requests, if they have one.
    pub(super) fn window(&self) -> Option<Window> {
        match &self.scope {
            Scope::Snapshot => None,
            Scope::Days(days) => span(days),
            Scope::Updates { window, .. } => Some(*window),
            Scope::Feed { since, .. } => Some(Window {
                start: *since,
                end: *since,
            }),
        }
    }

    /// The names of its sources.
    pub(super) fn names(&self) -> Vec<String> {
        self.sources
            .iter()
            .map(|source| source.name.clone())
            .collect()
    }

    /// The sources, for messages.
    pub fn tables(&self) -> String {
        self.sources
            .iter()
            .map(|source| source.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    }
}

impl Scope {
    /// The requested partitions, in order; none for a feed or updates, whose days are not known in advance.
    pub fn partitions(&self) -> Vec<Partition> {
        match self {
            Self::Snapshot => vec![Partition::Snapshot],
            Self::Days(days) => days.iter().copied().map(Partition::Day).collect(),
            Self::Feed { .. } | Self::Updates { .. } => Vec::new(),
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Snapshot => f.write_str("(snapshot)"),
            Self::Feed { .. } => f.write_str("(feed)"),
            Self::Updates { window, .. } => write!(
                f,
                "(changes of {} to {})",
                window.start.format("%Y-%m-%dT%H:%MZ"),
                window.end.format("%Y-%m-%dT%H:%MZ")
            ),
            Self::Days(days) => match (days.first(), days.last()) {
                (Some(first), Some(last)) if first != last => write!(f, "{first} to {last}"),
                (Some(day), _) => write!(f, "{day}"),
                _ => f.write_str("(no day)"),
            },
        }
    }
}

/// The window from the first day's start to the last day's end.
fn span(days: &[NaiveDate]) -> Option<Window> {
    Some(Window {
        start: day_window(*days.first()?).start,
        end: day_window(*days.last()?).end,
    })
}
