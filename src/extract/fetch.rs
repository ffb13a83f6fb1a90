//! The network half of a task: which requests it takes, and the pages of each.

use std::collections::VecDeque;
use std::sync::Arc;

use chrono::TimeDelta;
use futures::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};

use super::extractor::{ExtractTask, Extractor, Position, Scope};
use crate::catalog::{Source, SourceKind, TimeFormat};
use crate::samsara::{Page, Request, SamsaraError, Watch, Window};
use crate::state::{Checkpoint, CheckpointCursor, CheckpointWindow};

/// Requests that one fan-out has under way; the endpoint's rate holds for all of them.
const REQUESTS_AT_A_TIME: usize = 4;
/// A fan-out's requests are small: it is noted after this many times as many of them as other tasks' pages.
const FAN_OUT_CHECKPOINT_REQUESTS: u64 = 4;
/// A window that the server cannot manage is split no smaller than this.
const SMALLEST_WINDOW: TimeDelta = TimeDelta::minutes(45);

/// What the network half of a task tells the CPU half, in order.
pub(super) enum Message {
    /// A page and what its request knew.
    Page(Box<FetchedPage>),
    /// A later run may go on from here.
    Checkpoint(Progress),
    /// The requests so far are whole.
    Commit,
    /// The requests under way cannot be had like this: what came of them does not count.
    Abort,
}

/// A page, and what its request knew.
pub(super) struct FetchedPage {
    pub(super) page: Page,
    pub(super) request: Arc<Request>,
    pub(super) parent: Option<String>,
    /// The part of the window that was asked for, where it had to be split.
    pub(super) asked: Option<Window>,
    /// Told whether the days of a feed that were asked for end on it, or before.
    pub(super) is_past: Option<oneshot::Sender<bool>>,
}

/// How far a task has come; the fields are those of [`Checkpoint`].
#[derive(Clone)]
pub(super) struct Progress {
    pub(super) asked: String,
    pub(super) requests: u64,
    pub(super) rest: Vec<CheckpointWindow>,
    pub(super) resume: Option<CheckpointCursor>,
}

/// Where the pages ended.
#[derive(Default)]
pub(super) struct End {
    /// Query and last cursor.
    pub(super) position: Option<Position>,
    /// Whether there is more behind it.
    pub(super) more: bool,
    /// Whether a feed was left there because what follows was not asked for.
    pub(super) is_past: bool,
    /// Why there is nothing, where the parent that was asked for is not known.
    gone: Option<SamsaraError>,
}

/// One request, or a part of its window.
#[derive(Debug, Clone, Copy, PartialEq)]
struct RequestSlice {
    /// Number of the request in the task.
    request: usize,
    window: Option<Window>,
}

/// All that a task has to ask for, in its order.
pub(super) struct RequestQueue<'a> {
    task: &'a ExtractTask,
    sources: Vec<&'a Source>,
    /// The swept value and the parents of each request.
    requests: Vec<(Option<&'a str>, &'a [String])>,
    window: Option<Window>,
    /// Parts of requests that were begun.
    rest: VecDeque<RequestSlice>,
    /// The first request that was not begun.
    next: usize,
    /// Digest of the declared columns and of the requests before `next`.
    asked: Sha256,
    /// Where the first request goes on.
    start: Option<Start>,
}

/// Where a request goes on.
struct Start {
    query: String,
    /// None before the first page.
    cursor: Option<String>,
    /// Pages before.
    pages: u64,
}

impl<'a> RequestQueue<'a> {
    /// All of a task.
    pub(super) fn begin(task: &'a ExtractTask) -> Self {
        let sources: Vec<&Source> = task.sources.iter().collect();
        let first = sources.first();
        let sweep: Vec<Option<&str>> = match first.and_then(|source| source.sweep.as_ref()) {
            Some(sweep) => sweep
                .values
                .iter()
                .map(|value| Some(value.as_str()))
                .collect(),
            None => vec![None],
        };
        let batches: Vec<&[String]> = match first.and_then(|source| source.parent.as_ref()) {
            Some(parent) => task.parents.chunks(parent.batch).collect(),
            None => vec![&[]],
        };
        let mut asked = Sha256::new();
        for source in &sources {
            asked.update(format!(
                "{}{:?}{:?}",
                source.name, source.fields, source.time_field
            ));
        }
        let start = match &task.scope {
            // A cursor is bound to the query it came from, byte for byte.
            Scope::Feed {
                resume: Some((query, cursor)),
                ..
            } => {
                let cursor = Some(cursor.clone()).filter(|cursor| !cursor.is_empty());
                Some(Start {
                    query: query.clone(),
                    cursor,
                    pages: 0,
                })
            }
            _ => None,
        };
        let requests = sweep
            .iter()
            .flat_map(|value| batches.iter().map(move |batch| (*value, *batch)))
            .collect::<Vec<_>>();
        Self {
            task,
            sources,
            requests,
            window: task.window(),
            rest: VecDeque::new(),
            next: 0,
            asked,
            start,
        }
    }

    /// What an earlier run has left of it; none if that run asked for something else.
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
            queue.start = Some(Start {
                query: request.query,
                cursor: Some(cursor.clone()),
                pages: *pages,
            });
        }
        Some(queue)
    }

    fn whole(&self, request: usize) -> RequestSlice {
        RequestSlice {
            request,
            window: self.window,
        }
    }

    fn first(&self) -> Option<RequestSlice> {
        self.rest
            .front()
            .copied()
            .or_else(|| (self.next < self.requests.len()).then(|| self.whole(self.next)))
    }

    fn begin_next(&mut self) -> RequestSlice {
        let slice = self.whole(self.next);
        let identity = self.render(slice).map(|request| request.identity());
        self.asked.update(format!("{identity:?}\n"));
        self.next += 1;
        slice
    }

    /// The next `count` slices.
    fn take(&mut self, count: usize) -> Vec<RequestSlice> {
        let mut taken: Vec<RequestSlice> = Vec::new();
        while taken.len() < count {
            match self.rest.pop_front() {
                Some(slice) => taken.push(slice),
                None if self.next < self.requests.len() => taken.push(self.begin_next()),
                None => break,
            }
        }
        taken
    }

    /// Puts back what has to be asked for again, or in smaller parts.
    fn put_back(&mut self, slices: Vec<RequestSlice>) {
        for slice in slices.into_iter().rev() {
            self.rest.push_front(slice);
        }
    }

    /// What is done, as a checkpoint tells it.
    fn progress(&self) -> Progress {
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

    fn render(&self, slice: RequestSlice) -> Option<Request> {
        let (sweep, batch) = self.requests[slice.request];
        Request::render(&self.sources, slice.window, sweep, batch)
    }

    fn job(&self, slice: RequestSlice) -> Option<Job> {
        let (_, batch) = self.requests[slice.request];
        Some(Job {
            request: Arc::new(self.render(slice)?),
            parent: batch.first().filter(|_| self.task.is_fan_out()).cloned(),
            asked: slice.window.filter(|_| slice.window != self.window),
        })
    }

    /// The two halves of a slice, if it can be had in halves.
    fn bisect(&self, slice: RequestSlice) -> Option<[RequestSlice; 2]> {
        let source = self.sources.first()?;
        let can_split = matches!(self.task.scope, Scope::Days(_) | Scope::Updates { .. })
            && matches!(source.kind, SourceKind::Window | SourceKind::Updates)
            && source.window.as_ref().is_some_and(|names| {
                // Where it is asked for the time of the last change, a half has not all of its rows.
                names.format != TimeFormat::Date && names.end.is_some() && names.days_beyond == 0
            });
        let halves = slice
            .window
            .filter(|_| can_split)?
            .bisect(SMALLEST_WINDOW)?;
        Some(halves.map(|window| RequestSlice {
            window: Some(window),
            ..slice
        }))
    }
}

/// One request on its way.
struct Job {
    request: Arc<Request>,
    parent: Option<String>,
    /// The part of the window that is asked for, where it had to be split.
    asked: Option<Window>,
}

/// What became of a slice.
enum Fetched {
    Whole {
        end: End,
        pages: u64,
    },
    /// The server cannot manage it in one go. Some of its pages may have come even so.
    TooMuch {
        halves: [RequestSlice; 2],
        pages: u64,
    },
}

impl Fetched {
    fn pages(&self) -> u64 {
        match self {
            Self::Whole { pages, .. } | Self::TooMuch { pages, .. } => *pages,
        }
    }
}

impl Extractor {
    /// Sends all pages to the decoder, and checkpoints how far it has come.
    ///
    /// A fan-out has some requests under way at a time, and counts them some hundred together; any other task goes
    /// request by request. A window that the server cannot manage is asked for in halves; those that came whole stay,
    /// also for a later run.
    pub(super) async fn fetch(
        &self,
        mut queue: RequestQueue<'_>,
        pages: mpsc::Sender<Message>,
    ) -> Result<End, SamsaraError> {
        let task = queue.task;
        let together = if task.is_fan_out() {
            self.checkpoint_every
                .saturating_mul(FAN_OUT_CHECKPOINT_REQUESTS)
        } else {
            1
        };
        let (mut end, mut unnoted) = (End::default(), 0);
        // An endpoint that knows no parent at all is not there; one that lacks some has lost those.
        let (mut knows_any, mut gone) = (queue.next > 0, None);
        loop {
            // A request that is alone can be noted in its middle: what it needs is what is left now.
            let before = (!task.is_fan_out() && !task.is_feed()).then(|| queue.progress());
            let start = queue.start.take();
            let slices = queue.take(usize::try_from(together).unwrap_or(usize::MAX));
            if slices.is_empty() {
                return gone.filter(|_| !knows_any).map_or(Ok(end), Err);
            }
            let (mut starts, plan, noted) = (start.into_iter(), &queue, before.as_ref());
            let jobs = slices.iter().map(|slice| (*slice, starts.next()));
            let results: Vec<(RequestSlice, Fetched)> = stream::iter(jobs.collect::<Vec<_>>())
                .map(|(slice, start)| self.fetch_slice(plan, slice, start, noted, &pages))
                .buffered(REQUESTS_AT_A_TIME)
                .try_collect()
                .await?;
            unnoted += results
                .iter()
                .map(|(_, fetched)| fetched.pages().max(1))
                .sum::<u64>();
            // What requests under way have sent lies in the same objects: it goes, or stays, together.
            let spoiled = results
                .iter()
                .any(|(_, it)| matches!(it, Fetched::TooMuch { pages, .. } if *pages > 0));
            let mut again = Vec::new();
            for (slice, fetched) in results {
                match fetched {
                    Fetched::TooMuch { halves, .. } => again.extend(halves),
                    Fetched::Whole { .. } if spoiled => again.push(slice),
                    Fetched::Whole { end: found, .. } => {
                        knows_any |= found.gone.is_none();
                        gone = found.gone.clone().or(gone);
                        end = found;
                    }
                }
            }
            queue.put_back(again);
            let told = if spoiled {
                Message::Abort
            } else {
                Message::Commit
            };
            if pages.send(told).await.is_err() {
                // The decoder has failed and says why.
                return Ok(End::default());
            }
            let worth_it = unnoted >= self.checkpoint_every || !queue.rest.is_empty();
            if worth_it
                && !task.is_feed()
                && queue.first().is_some()
                && (knows_any || gone.is_none())
            {
                unnoted = 0;
                if pages
                    .send(Message::Checkpoint(queue.progress()))
                    .await
                    .is_err()
                {
                    return Ok(End::default());
                }
            }
        }
    }

    async fn fetch_slice(
        &self,
        queue: &RequestQueue<'_>,
        slice: RequestSlice,
        start: Option<Start>,
        noted: Option<&Progress>,
        pages: &mpsc::Sender<Message>,
    ) -> Result<(RequestSlice, Fetched), SamsaraError> {
        let mut sent = 0;
        let Some(job) = queue.job(slice) else {
            return Ok((
                slice,
                Fetched::Whole {
                    end: End::default(),
                    pages: 0,
                },
            ));
        };
        let feed = match &queue.task.scope {
            Scope::Feed { watch, until, .. } => Some((watch, until.is_some())),
            _ => None,
        };
        let fetched = match self
            .fetch_pages(job, start, feed, noted, pages, &mut sent)
            .await
        {
            Ok(end) => Fetched::Whole { end, pages: sent },
            Err(error) if error.asks_for_less() => {
                let (Some(halves), Some(window)) = (queue.bisect(slice), slice.window) else {
                    return Err(error);
                };
                let source = queue.task.tables();
                tracing::warn!(source, start = %window.start, end = %window.end, %error, "window split");
                Fetched::TooMuch {
                    halves,
                    pages: sent,
                }
            }
            Err(error) => return Err(error),
        };
        Ok((slice, fetched))
    }

    /// The pages of one request, some of them if it is a feed's; counts in `sent` those that have come, also earlier.
    async fn fetch_pages(
        &self,
        job: Job,
        start: Option<Start>,
        feed: Option<(&Watch, bool)>,
        noted: Option<&Progress>,
        pages: &mpsc::Sender<Message>,
        sent: &mut u64,
    ) -> Result<End, SamsaraError> {
        let Job {
            mut request,
            parent,
            asked,
        } = job;
        let mut cursor = None;
        if let Some(start) = start {
            request = Arc::new(Request {
                query: start.query,
                ..(*request).clone()
            });
            (cursor, *sent) = (start.cursor, start.pages);
        }
        let mut pager = self
            .client
            .pages((*request).clone(), cursor.clone())
            .after(*sent);
        if let Some((watch, _)) = feed {
            pager = pager.watched(watch);
        }
        let (mut gone, mut is_past) = (None, false);
        loop {
            let page = match pager.next().await {
                Ok(Some(page)) => page,
                Ok(None) => break,
                // A parent that is gone since its list was read has no rows.
                Err(error @ SamsaraError::NotFound { .. }) if parent.is_some() => {
                    gone = Some(error);
                    break;
                }
                // Nor has one whose id leads elsewhere. The others are not to be without theirs because of it.
                Err(error @ SamsaraError::Unaddressable { .. }) if parent.is_some() => {
                    tracing::warn!(%error, "parent passed over");
                    gone = Some(error);
                    break;
                }
                Err(error) => return Err(error),
            };
            let next = page.cursor.clone().or_else(|| cursor.clone());
            // Only whoever decodes the page knows its rows' days, and only then it is known whether to go on.
            let (told, past) = match feed {
                Some((_, true)) => Some(oneshot::channel()).unzip(),
                _ => (None, None),
            };
            let arrived = FetchedPage {
                page,
                request: request.clone(),
                parent: parent.clone(),
                asked,
                is_past: told,
            };
            if pages.send(Message::Page(Box::new(arrived))).await.is_err() {
                return Ok(End::default());
            }
            if let Some(past) = past {
                // Without an answer the decoder has failed, and says why.
                let Ok(answer) = past.await else {
                    return Ok(End::default());
                };
                is_past = answer;
            }
            if is_past {
                break;
            }
            cursor = next;
            *sent += 1;
            if feed.is_some() && *sent >= self.checkpoint_every {
                break;
            }
            if let (Some(progress), Some(cursor)) = (noted, &cursor)
                && pager.has_more()
                && sent.is_multiple_of(self.checkpoint_every)
            {
                let resume = CheckpointCursor {
                    query: request.identity(),
                    cursor: cursor.clone(),
                    pages: *sent,
                };
                let checkpoint = Progress {
                    resume: Some(resume),
                    ..progress.clone()
                };
                if pages.send(Message::Checkpoint(checkpoint)).await.is_err() {
                    return Ok(End::default());
                }
            }
        }
        // What is left before its first page is come back to there.
        let cursor = if is_past {
            Some(cursor.unwrap_or_default())
        } else {
            cursor
        };
        let position = cursor.map(|cursor| (request.query.clone(), cursor));
        Ok(End {
            position,
            more: pager.has_more(),
            is_past,
            gone,
        })
    }
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;

    use super::*;
    use crate::catalog::Catalog;

    fn task(source: &str, days: u64, parents: &[&str]) -> ExtractTask {
        let source = Catalog::open(None).unwrap().source(source).unwrap().clone();
        let first = NaiveDate::from_ymd_opt(2024, 1, 1).unwrap();
        let days = first
            .iter_days()
            .take(usize::try_from(days).unwrap())
            .collect();
        let parents = parents.iter().map(ToString::to_string).collect();
        ExtractTask {
            sources: vec![source],
            scope: Scope::Days(days),
            parents,
        }
    }

    fn checkpoint(queue: &RequestQueue<'_>, resume: Option<CheckpointCursor>) -> Checkpoint {
        let Progress {
            asked,
            requests,
            rest,
            ..
        } = queue.progress();
        let nothing = crate::state::CheckpointResult::default;
        let extracted_at = chrono::DateTime::UNIX_EPOCH;
        Checkpoint {
            asked,
            requests,
            rest,
            resume,
            extracted_at,
            whole: nothing(),
            part: nothing(),
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
        // A vehicle that comes behind those that are done changes nothing for them.
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
        // Another idea of which day a row belongs to.
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
        // Asked by the time of the last change, a day's rows come until days behind it.
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
            left.start.map(|start| (start.cursor, start.pages)),
            Some((Some("c".into()), 2))
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
}
