//! Translates between the progress and partial result of a task and the checkpoint stored in the state.
//!
//! The network half of a task knows which requests are done ([`Progress`]), the CPU half what they returned
//! ([`PartialResult`]); a [`Checkpoint`] is both. No other file knows both forms.

use chrono::{DateTime, TimeDelta, Utc};
use sha2::Digest;

use super::content::Content;
use super::partial_result::{Output, PartialResult};
use super::queue::{RequestQueue, RequestSlice};
use super::request::{ExtractTask, Scope};
use crate::plan::CURSOR_DAYS;
use crate::samsara::Window;
use crate::state::{
    Checkpoint, CheckpointCursor, CheckpointPartition, CheckpointResult, CheckpointWindow, Position,
};
use crate::store::layout::Partition;

/// A partly read list may be resumed for this long.
const SNAPSHOT_MAX_AGE: TimeDelta = TimeDelta::hours(1);

/// How far a task has come; the fields are those of [`Checkpoint`].
#[derive(Clone)]
pub(super) struct Progress {
    pub(super) asked: String,
    pub(super) requests: u64,
    pub(super) rest: Vec<CheckpointWindow>,
    pub(super) resume: Option<CheckpointCursor>,
}

impl Progress {
    /// The checkpoint of a task that started at `extracted_at`. The objects of both results must be complete.
    pub(super) fn checkpoint(
        self,
        task: &ExtractTask,
        extracted_at: DateTime<Utc>,
        whole: &PartialResult,
        part: &PartialResult,
    ) -> Checkpoint {
        Checkpoint {
            asked: self.asked,
            requests: self.requests,
            rest: self.rest,
            resume: self.resume,
            extracted_at,
            whole: whole.checkpoint_result(task),
            part: part.checkpoint_result(task),
        }
    }
}

/// A task as an earlier run has left it.
pub(super) struct Restored<'a> {
    /// The requests that are left.
    pub(super) queue: RequestQueue<'a>,
    /// When the task began.
    pub(super) extracted_at: DateTime<Utc>,
    /// What finished requests brought.
    pub(super) whole: PartialResult,
    /// The result of the pages before the cursor.
    pub(super) part: PartialResult,
}

impl<'a> Restored<'a> {
    /// None if the checkpoint is not of this task.
    pub(super) fn from_checkpoint(checkpoint: &Checkpoint, task: &'a ExtractTask) -> Option<Self> {
        let part = match checkpoint.resume {
            Some(_) => PartialResult::from_checkpoint(&checkpoint.part, task)?,
            None => PartialResult::default(),
        };
        Some(Self {
            queue: RequestQueue::resume(task, checkpoint)?,
            extracted_at: checkpoint.extracted_at,
            whole: PartialResult::from_checkpoint(&checkpoint.whole, task)?,
            part,
        })
    }
}

/// Whether a task may be resumed from its checkpoint. `changed` is the last time that its days may have changed.
///
/// A list whose halves were read at different times matches neither time, so it is resumed for an hour only. A day that
/// has changed since is read from its beginning, and a cursor is valid for 30 days.
pub fn checkpoint_is_current(
    checkpoint: &Checkpoint,
    scope: &Scope,
    changed: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> bool {
    let age = now - checkpoint.extracted_at;
    match scope {
        Scope::Snapshot => age < SNAPSHOT_MAX_AGE,
        // What changes after it was read is found in a later window.
        Scope::Updates { .. } => age < TimeDelta::days(CURSOR_DAYS),
        Scope::Days(_) | Scope::Feed { .. } => {
            changed.is_none_or(|changed| changed <= checkpoint.extracted_at)
                && age < TimeDelta::days(CURSOR_DAYS)
        }
    }
}

impl<'a> RequestQueue<'a> {
    /// The checkpoint of an earlier run; none if that run had other requests.
    pub(super) fn resume(task: &'a ExtractTask, before: &Checkpoint) -> Option<Self> {
        let mut queue = Self::begin(task);
        let begun = usize::try_from(before.requests)
            .ok()
            .filter(|begun| *begun <= queue.requests.len())?;
        while queue.next < begun {
            queue.begin_next();
        }
        for CheckpointWindow {
            request,
            start,
            end,
        } in &before.rest
        {
            let request = usize::try_from(*request)
                .ok()
                .filter(|request| *request < begun)?;
            queue.rest.push_back(RequestSlice {
                request,
                window: Some(Window {
                    start: *start,
                    end: *end,
                }),
            });
        }
        if queue.progress().asked != before.asked {
            return None;
        }
        if let Some(CheckpointCursor {
            query,
            cursor,
            pages,
        }) = &before.resume
        {
            let request = queue.render(queue.first()?)?;
            if request.identity() != *query || task.is_fan_out() {
                return None;
            }
            let position = Position {
                query: request.query,
                cursor: cursor.clone(),
            };
            queue.start = Some((position, *pages));
        }
        Some(queue)
    }

    /// What is done, as a checkpoint stores it.
    pub(super) fn progress(&self) -> Progress {
        let digest = self.asked.clone().finalize();
        let rest = self.rest.iter().filter_map(|slice| {
            let Window { start, end } = slice.window?;
            Some(CheckpointWindow {
                request: slice.request as u64,
                start,
                end,
            })
        });
        Progress {
            asked: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            requests: self.next as u64,
            rest: rest.collect(),
            resume: None,
        }
    }
}

impl PartialResult {
    /// The partial result of an earlier run; none if it is not of this task.
    fn from_checkpoint(before: &CheckpointResult, task: &ExtractTask) -> Option<Self> {
        let mut partial = Self {
            records: before.records,
            rescued: before.rescued,
            content: Content::parse(&before.content)?,
            overlaps: before.overlaps.clone(),
            ..Self::default()
        };
        for part in &before.parts {
            let source_index = task
                .sources
                .iter()
                .position(|source| source.name == part.source)?;
            let output = Output {
                writer: None,
                objects: part.objects.clone(),
                kept: part.kept,
                total: part.total,
                rescued: 0,
                open: part.open_rows,
                rows: part.objects.iter().map(|object| object.rows).sum(),
            };
            partial
                .outputs
                .insert((source_index, Partition::parse(&part.partition)?), output);
        }
        Some(partial)
    }

    /// The stored form; the objects must be complete.
    pub(super) fn checkpoint_result(&self, task: &ExtractTask) -> CheckpointResult {
        let parts = self
            .outputs
            .iter()
            .filter(|(_, output)| output.total > 0 || !output.objects.is_empty());
        let parts = parts.map(|((source_index, partition), output)| CheckpointPartition {
            source: task.sources[*source_index].name.clone(),
            partition: partition.to_string(),
            objects: output.objects.clone(),
            kept: output.kept,
            total: output.total,
            open_rows: output.open,
        });
        CheckpointResult {
            records: self.records,
            rescued: self.rescued(),
            content: self.content.hex(),
            parts: parts.collect(),
            overlaps: self.overlaps.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;

    use super::*;
    use crate::catalog::Catalog;
    use crate::samsara::ParentRow;

    fn task(source: &str, days: u64, parents: &[&str]) -> ExtractTask {
        let source = Catalog::open(None).unwrap().source(source).unwrap().clone();
        let first = NaiveDate::from_ymd_opt(2024, 1, 1).unwrap();
        let days = first
            .iter_days()
            .take(usize::try_from(days).unwrap())
            .collect();
        let parents = parents.iter().copied().map(ParentRow::from).collect();
        ExtractTask {
            sources: vec![source],
            scope: Scope::Days(days),
            parents,
        }
    }

    fn checkpoint(queue: &RequestQueue<'_>, resume: Option<CheckpointCursor>) -> Checkpoint {
        let nothing = PartialResult::default();
        let checkpoint =
            queue
                .progress()
                .checkpoint(queue.task, DateTime::UNIX_EPOCH, &nothing, &nothing);
        Checkpoint {
            resume,
            ..checkpoint
        }
    }

    #[test]
    fn fan_out_resumes_after_finished_requests() {
        let before = task("fleet_trips", 3, &["1", "2", "3"]);
        let mut queue = RequestQueue::begin(&before);
        assert_eq!(queue.take(2).len(), 2);
        let checkpoint = checkpoint(&queue, None);
        let left = |task: &ExtractTask| {
            RequestQueue::resume(task, &checkpoint).map(|mut left| left.take(9).len())
        };
        assert_eq!(left(&before), Some(1));
        // A new vehicle after those that are done does not affect them.
        assert_eq!(
            left(&task("fleet_trips", 3, &["1", "2", "3", "4"])),
            Some(2)
        );
        for parents in [&["0", "1", "2", "3"][..], &["1", "3"], &["1"], &[]] {
            assert_eq!(left(&task("fleet_trips", 3, parents)), None, "{parents:?}");
        }
        // Another window, another source, other columns.
        assert_eq!(left(&task("fleet_trips", 2, &["1", "2", "3"])), None);
        assert_eq!(
            left(&task("fleet_vehicle_safety_score", 3, &["1", "2", "3"])),
            None
        );
        let mut wider = before.clone();
        wider.sources[0].fields = wider.sources[0].fields.iter().skip(1).cloned().collect();
        assert_eq!(left(&wider), None);
        // Another rule for assigning rows to days.
        let mut otherwise = before.clone();
        otherwise.sources[0].time_field = None;
        assert_eq!(left(&otherwise), None);
    }

    #[test]
    fn a_bisected_window_resumes() {
        let task = task("fleet_vehicle_stats_engineRpm", 1, &[]);
        let mut queue = RequestQueue::begin(&task);
        let whole = queue.take(9);
        let halves = queue.bisect(whole[0]).unwrap();
        queue.put_back(halves.to_vec());
        assert_eq!(queue.take(1), halves[..1]);
        let mut left = RequestQueue::resume(&task, &checkpoint(&queue, None)).unwrap();
        assert_eq!(left.take(9), halves[1..]);
        assert!(
            left.job(halves[1]).unwrap().asked.is_some()
                && left.job(whole[0]).unwrap().asked.is_none()
        );
    }

    #[test]
    fn incomplete_halves_are_never_split() {
        // For sources requested by time of last change, the rows of a day come until days later.
        let mut task = task("fleet_vehicle_stats_engineRpm", 1, &[]);
        if let Some(window) = &mut task.sources[0].window {
            window.days_beyond = 3;
        }
        let queue = RequestQueue::begin(&task);
        assert!(queue.bisect(queue.first().unwrap()).is_none());
    }

    #[test]
    fn a_cursor_is_bound_to_its_query() {
        let task = task("fleet_vehicle_stats_engineRpm", 1, &[]);
        let queue = RequestQueue::begin(&task);
        let query = queue.render(queue.first().unwrap()).unwrap().identity();
        let resume = |query: &str| {
            Some(CheckpointCursor {
                query: query.into(),
                cursor: "c".into(),
                pages: 2,
            })
        };
        let left = RequestQueue::resume(&task, &checkpoint(&queue, resume(&query))).unwrap();
        assert_eq!(
            left.start.map(|(at, pages)| (at.cursor, pages)),
            Some(("c".into(), 2))
        );
        assert!(
            RequestQueue::resume(
                &task,
                &checkpoint(&queue, resume(&format!("{query}&limit=1")))
            )
            .is_none()
        );
        // Numbers that no such task has.
        for requests in [2, u64::MAX] {
            assert!(
                RequestQueue::resume(
                    &task,
                    &Checkpoint {
                        requests,
                        ..checkpoint(&queue, None)
                    }
                )
                .is_none()
            );
        }
    }

    #[test]
    fn old_and_overtaken_checkpoints_are_not_used() {
        let task = task("fleet_vehicle_stats_engineRpm", 1, &[]);
        let began: DateTime<Utc> = "2024-01-10T00:00:00Z".parse().unwrap();
        let checkpoint = Checkpoint {
            extracted_at: began,
            ..checkpoint(&RequestQueue::begin(&task), None)
        };
        let day = Scope::Days(vec![NaiveDate::from_ymd_opt(2024, 1, 1).unwrap()]);
        let changes = Scope::Updates {
            window: Window {
                start: began,
                end: began,
            },
            born_before: None,
        };
        let (minutes, days) = (TimeDelta::minutes, TimeDelta::days);
        for (scope, changed, age, current) in [
            (&Scope::Snapshot, None, minutes(59), true),
            (&Scope::Snapshot, None, minutes(60), false),
            (&day, None, days(CURSOR_DAYS) - minutes(1), true),
            (&day, None, days(CURSOR_DAYS), false),
            (&day, Some(began), minutes(1), true),
            (&day, Some(began + minutes(1)), minutes(2), false),
            (&changes, None, days(CURSOR_DAYS) - minutes(1), true),
            (&changes, None, days(CURSOR_DAYS), false),
        ] {
            assert_eq!(
                checkpoint_is_current(&checkpoint, scope, changed, began + age),
                current,
                "{scope} {changed:?} {age}"
            );
        }
    }
}
