//! The network half of a walk: which requests it takes, and the pages of each.

use std::collections::VecDeque;
use std::sync::Arc;

use chrono::TimeDelta;
use futures::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};

use super::walk::{Extractor, Position, Scope, Walk};
use crate::catalog::{Source, SourceKind, TimeFormat};
use crate::samsara::{Page, Request, SamsaraError, Watch, Window};
use crate::state::{Resume, Unfinished, UnfinishedWindow};

/// Requests that one fan-out has under way; the endpoint's rate holds for all of them.
const REQUESTS_AT_A_TIME: usize = 4;
/// A fan-out's requests are small: it is noted after this many times as many of them as other walks' pages.
const FAN_OUT_NOTES: u64 = 4;
/// A window that the server cannot manage is split no smaller than this.
const SMALLEST_WINDOW: TimeDelta = TimeDelta::minutes(45);

/// What the network half of a walk tells the CPU half, in order.
pub(super) enum Arrival {
    /// A page and what its request knew.
    Page(Box<Arrived>),
    /// A later run may go on from here.
    Note(Progress),
    /// The requests so far are whole.
    Seal,
    /// The requests under way cannot be had like this: what came of them does not count.
    Drop,
}

/// A page, and what its request knew.
pub(super) struct Arrived {
    pub(super) page: Page,
    pub(super) request: Arc<Request>,
    pub(super) parent: Option<String>,
    /// The part of the window that was asked for, where it had to be split.
    pub(super) asked: Option<Window>,
    /// Told whether the days of a feed that were asked for end on it, or before.
    pub(super) is_past: Option<oneshot::Sender<bool>>,
}

/// How far a walk has come; the fields are those of [`Unfinished`].
#[derive(Clone)]
pub(super) struct Progress {
    pub(super) asked: String,
    pub(super) requests: u64,
    pub(super) rest: Vec<UnfinishedWindow>,
    pub(super) resume: Option<Resume>,
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
struct Stretch {
    /// Number of the request in the walk.
    request: usize,
    window: Option<Window>,
}

/// All that a walk has to ask for, in its order.
pub(super) struct Itinerary<'a> {
    walk: &'a Walk,
    sources: Vec<&'a Source>,
    /// The swept value and the parents of each request.
    requests: Vec<(Option<&'a str>, &'a [String])>,
    window: Option<Window>,
    /// Parts of requests that were begun.
    rest: VecDeque<Stretch>,
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

impl<'a> Itinerary<'a> {
    /// All of a walk.
    pub(super) fn begin(walk: &'a Walk) -> Self {
        let sources: Vec<&Source> = walk.sources.iter().collect();
        let first = sources.first();
        let sweep: Vec<Option<&str>> = match first.and_then(|source| source.sweep.as_ref()) {
            Some(sweep) => sweep.values.iter().map(|value| Some(value.as_str())).collect(),
            None => vec![None],
        };
        let batches: Vec<&[String]> = match first.and_then(|source| source.parent.as_ref()) {
            Some(parent) => walk.parents.chunks(parent.batch).collect(),
            None => vec![&[]],
        };
        let mut asked = Sha256::new();
        for source in &sources {
            asked.update(format!("{}{:?}{:?}", source.name, source.fields, source.time_field));
        }
        let start = match &walk.scope {
            // A cursor is bound to the query it came from, byte for byte.
            Scope::Feed { resume: Some((query, cursor)), .. } => {
                let cursor = Some(cursor.clone()).filter(|cursor| !cursor.is_empty());
                Some(Start { query: query.clone(), cursor, pages: 0 })
            }
            _ => None,
        };
        let requests =
            sweep.iter().flat_map(|value| batches.iter().map(move |batch| (*value, *batch))).collect::<Vec<_>>();
        Self { walk, sources, requests, window: walk.window(), rest: VecDeque::new(), next: 0, asked, start }
    }

    /// What an earlier run has left of it; none if that run asked for something else.
    pub(super) fn resume(walk: &'a Walk, before: &Unfinished) -> Option<Self> {
        let mut itinerary = Self::begin(walk);
        let begun = usize::try_from(before.requests).ok().filter(|begun| *begun <= itinerary.requests.len())?;
        while itinerary.next < begun {
            itinerary.begin_next();
        }
        for UnfinishedWindow { request, start, end } in &before.rest {
            let request = usize::try_from(*request).ok().filter(|request| *request < begun)?;
            itinerary.rest.push_back(Stretch { request, window: Some(Window { start: *start, end: *end }) });
        }
        if itinerary.progress().asked != before.asked {
            return None;
        }
        if let Some(Resume { query, cursor, pages }) = &before.resume {
            let request = itinerary.render(itinerary.first()?)?;
            if request.identity() != *query || walk.is_fan_out() {
                return None;
            }
            itinerary.start = Some(Start { query: request.query, cursor: Some(cursor.clone()), pages: *pages });
        }
        Some(itinerary)
    }

    fn whole(&self, request: usize) -> Stretch {
        Stretch { request, window: self.window }
    }

    fn first(&self) -> Option<Stretch> {
        self.rest.front().copied().or_else(|| (self.next < self.requests.len()).then(|| self.whole(self.next)))
    }

    fn begin_next(&mut self) -> Stretch {
        let stretch = self.whole(self.next);
        let identity = self.render(stretch).map(|request| request.identity());
        self.asked.update(format!("{identity:?}\n"));
        self.next += 1;
        stretch
    }

    /// The next `count` stretches.
    fn take(&mut self, count: usize) -> Vec<Stretch> {
        let mut taken: Vec<Stretch> = Vec::new();
        while taken.len() < count {
            match self.rest.pop_front() {
                Some(stretch) => taken.push(stretch),
                None if self.next < self.requests.len() => taken.push(self.begin_next()),
                None => break,
            }
        }
        taken
    }

    /// Puts back what has to be asked for again, or in smaller parts.
    fn put_back(&mut self, stretches: Vec<Stretch>) {
        for stretch in stretches.into_iter().rev() {
            self.rest.push_front(stretch);
        }
    }

    /// What is done, as a note tells it.
    fn progress(&self) -> Progress {
        let digest = self.asked.clone().finalize();
        let rest = self.rest.iter().filter_map(|stretch| {
            let Window { start, end } = stretch.window?;
            Some(UnfinishedWindow { request: stretch.request as u64, start, end })
        });
        Progress {
            asked: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            requests: self.next as u64,
            rest: rest.collect(),
            resume: None,
        }
    }

    fn render(&self, stretch: Stretch) -> Option<Request> {
        let (sweep, batch) = self.requests[stretch.request];
        Request::render(&self.sources, stretch.window, sweep, batch)
    }

    fn job(&self, stretch: Stretch) -> Option<Job> {
        let (_, batch) = self.requests[stretch.request];
        Some(Job {
            request: Arc::new(self.render(stretch)?),
            parent: batch.first().filter(|_| self.walk.is_fan_out()).cloned(),
            asked: stretch.window.filter(|_| stretch.window != self.window),
        })
    }

    /// The two halves of a stretch, if it can be had in halves.
    fn halves(&self, stretch: Stretch) -> Option<[Stretch; 2]> {
        let source = self.sources.first()?;
        let can_split = matches!(self.walk.scope, Scope::Days(_))
            && source.kind == SourceKind::Window
            && source.window.as_ref().is_some_and(|names| {
                // Where it is asked for the time of the last change, a half has not all of its rows.
                names.format != TimeFormat::Date && names.end.is_some() && names.days_beyond == 0
            });
        let halves = stretch.window.filter(|_| can_split)?.halves(SMALLEST_WINDOW)?;
        Some(halves.map(|window| Stretch { window: Some(window), ..stretch }))
    }
}

/// One request on its way.
struct Job {
    request: Arc<Request>,
    parent: Option<String>,
    /// The part of the window that is asked for, where it had to be split.
    asked: Option<Window>,
}

/// What became of a stretch.
enum Fetched {
    Whole {
        end: End,
        pages: u64,
    },
    /// The server cannot manage it in one go. Some of its pages may have come even so.
    TooMuch {
        halves: [Stretch; 2],
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
    /// Sends all pages to the decoder, and notes how far it has come.
    ///
    /// A fan-out has some requests under way at a time, and counts them some hundred together; any other walk goes
    /// request by request. A window that the server cannot manage is asked for in halves; those that came whole stay,
    /// also for a later run.
    pub(super) async fn fetch(
        &self,
        mut itinerary: Itinerary<'_>,
        pages: mpsc::Sender<Arrival>,
    ) -> Result<End, SamsaraError> {
        let walk = itinerary.walk;
        let together = if walk.is_fan_out() { self.note_every.saturating_mul(FAN_OUT_NOTES) } else { 1 };
        let (mut end, mut unnoted) = (End::default(), 0);
        // An endpoint that knows no parent at all is not there; one that lacks some has lost those.
        let (mut knows_any, mut gone) = (itinerary.next > 0, None);
        loop {
            // A request that is alone can be noted in its middle: what it needs is what is left now.
            let before = (!walk.is_fan_out() && !walk.is_feed()).then(|| itinerary.progress());
            let start = itinerary.start.take();
            let stretches = itinerary.take(usize::try_from(together).unwrap_or(usize::MAX));
            if stretches.is_empty() {
                return gone.filter(|_| !knows_any).map_or(Ok(end), Err);
            }
            let (mut starts, plan, noted) = (start.into_iter(), &itinerary, before.as_ref());
            let jobs = stretches.iter().map(|stretch| (*stretch, starts.next()));
            let results: Vec<(Stretch, Fetched)> = stream::iter(jobs.collect::<Vec<_>>())
                .map(|(stretch, start)| self.fetch_stretch(plan, stretch, start, noted, &pages))
                .buffered(REQUESTS_AT_A_TIME)
                .try_collect()
                .await?;
            unnoted += results.iter().map(|(_, fetched)| fetched.pages().max(1)).sum::<u64>();
            // What requests under way have sent lies in the same objects: it goes, or stays, together.
            let spoiled = results.iter().any(|(_, it)| matches!(it, Fetched::TooMuch { pages, .. } if *pages > 0));
            let mut again = Vec::new();
            for (stretch, fetched) in results {
                match fetched {
                    Fetched::TooMuch { halves, .. } => again.extend(halves),
                    Fetched::Whole { .. } if spoiled => again.push(stretch),
                    Fetched::Whole { end: found, .. } => {
                        knows_any |= found.gone.is_none();
                        gone = found.gone.clone().or(gone);
                        end = found;
                    }
                }
            }
            itinerary.put_back(again);
            let told = if spoiled { Arrival::Drop } else { Arrival::Seal };
            if pages.send(told).await.is_err() {
                // The decoder has failed and says why.
                return Ok(End::default());
            }
            let worth_it = unnoted >= self.note_every || !itinerary.rest.is_empty();
            if worth_it && !walk.is_feed() && itinerary.first().is_some() && (knows_any || gone.is_none()) {
                unnoted = 0;
                if pages.send(Arrival::Note(itinerary.progress())).await.is_err() {
                    return Ok(End::default());
                }
            }
        }
    }

    async fn fetch_stretch(
        &self,
        itinerary: &Itinerary<'_>,
        stretch: Stretch,
        start: Option<Start>,
        noted: Option<&Progress>,
        pages: &mpsc::Sender<Arrival>,
    ) -> Result<(Stretch, Fetched), SamsaraError> {
        let mut sent = 0;
        let Some(job) = itinerary.job(stretch) else {
            return Ok((stretch, Fetched::Whole { end: End::default(), pages: 0 }));
        };
        let feed = match &itinerary.walk.scope {
            Scope::Feed { watch, until, .. } => Some((watch, until.is_some())),
            _ => None,
        };
        let fetched = match self.fetch_pages(job, start, feed, noted, pages, &mut sent).await {
            Ok(end) => Fetched::Whole { end, pages: sent },
            Err(error) if error.asks_for_less() => {
                let (Some(halves), Some(window)) = (itinerary.halves(stretch), stretch.window) else {
                    return Err(error);
                };
                let source = itinerary.walk.tables();
                tracing::warn!(source, start = %window.start, end = %window.end, %error, "window split");
                Fetched::TooMuch { halves, pages: sent }
            }
            Err(error) => return Err(error),
        };
        Ok((stretch, fetched))
    }

    /// The pages of one request, some of them if it is a feed's; counts in `sent` those that have come, also earlier.
    async fn fetch_pages(
        &self,
        job: Job,
        start: Option<Start>,
        feed: Option<(&Watch, bool)>,
        noted: Option<&Progress>,
        pages: &mpsc::Sender<Arrival>,
        sent: &mut u64,
    ) -> Result<End, SamsaraError> {
        let Job { mut request, parent, asked } = job;
        let mut cursor = None;
        if let Some(start) = start {
            request = Arc::new(Request { query: start.query, ..(*request).clone() });
            (cursor, *sent) = (start.cursor, start.pages);
        }
        let mut pager = self.client.pages((*request).clone(), cursor.clone()).after(*sent);
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
            let arrived = Arrived { page, request: request.clone(), parent: parent.clone(), asked, is_past: told };
            if pages.send(Arrival::Page(Box::new(arrived))).await.is_err() {
                return Ok(End::default());
            }
            if let Some(past) = past {
                // Without an answer the decoder has failed, and says why.
                let Ok(answer) = past.await else { return Ok(End::default()) };
                is_past = answer;
            }
            if is_past {
                break;
            }
            cursor = next;
            *sent += 1;
            if feed.is_some() && *sent >= self.note_every {
                break;
            }
            if let (Some(progress), Some(cursor)) = (noted, &cursor)
                && pager.has_more()
                && sent.is_multiple_of(self.note_every)
            {
                let resume = Resume { query: request.identity(), cursor: cursor.clone(), pages: *sent };
                let note = Progress { resume: Some(resume), ..progress.clone() };
                if pages.send(Arrival::Note(note)).await.is_err() {
                    return Ok(End::default());
                }
            }
        }
        // What is left before its first page is come back to there.
        let cursor = if is_past { Some(cursor.unwrap_or_default()) } else { cursor };
        let position = cursor.map(|cursor| (request.query.clone(), cursor));
        Ok(End { position, more: pager.has_more(), is_past, gone })
    }
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;

    use super::*;
    use crate::catalog::Catalog;

    fn walk(source: &str, days: u64, parents: &[&str]) -> Walk {
        let source = Catalog::open(None).unwrap().source(source).unwrap().clone();
        let first = NaiveDate::from_ymd_opt(2024, 1, 1).unwrap();
        let days = first.iter_days().take(usize::try_from(days).unwrap()).collect();
        let parents = parents.iter().map(ToString::to_string).collect();
        Walk { sources: vec![source], scope: Scope::Days(days), parents }
    }

    fn note(itinerary: &Itinerary<'_>, resume: Option<Resume>) -> Unfinished {
        let Progress { asked, requests, rest, .. } = itinerary.progress();
        let nothing = crate::state::Gathered::default;
        let extracted_at = chrono::DateTime::UNIX_EPOCH;
        Unfinished { asked, requests, rest, resume, extracted_at, whole: nothing(), part: nothing() }
    }

    #[test]
    fn a_fan_out_goes_on_behind_its_finished_requests_if_those_are_the_same() {
        let before = walk("fleet_trips", 3, &["1", "2", "3"]);
        let mut itinerary = Itinerary::begin(&before);
        assert_eq!(itinerary.take(2).len(), 2);
        let note = note(&itinerary, None);
        let left = |walk: &Walk| Itinerary::resume(walk, &note).map(|mut left| left.take(9).len());
        assert_eq!(left(&before), Some(1));
        // A vehicle that comes behind those that are done changes nothing for them.
        assert_eq!(left(&walk("fleet_trips", 3, &["1", "2", "3", "4"])), Some(2));
        for parents in [&["0", "1", "2", "3"][..], &["1", "3"], &["1"], &[]] {
            assert_eq!(left(&walk("fleet_trips", 3, parents)), None, "{parents:?}");
        }
        // Another window, another source, other columns.
        assert_eq!(left(&walk("fleet_trips", 2, &["1", "2", "3"])), None);
        assert_eq!(left(&walk("fleet_vehicle_safety_score", 3, &["1", "2", "3"])), None);
        let mut wider = before.clone();
        wider.sources[0].fields = wider.sources[0].fields.iter().skip(1).cloned().collect();
        assert_eq!(left(&wider), None);
        // Another idea of which day a row belongs to.
        let mut otherwise = before.clone();
        otherwise.sources[0].time_field = None;
        assert_eq!(left(&otherwise), None);
    }

    #[test]
    fn what_is_left_of_a_split_window_is_noted_and_gone_on_with() {
        let walk = walk("fleet_vehicle_stats_engineRpm", 1, &[]);
        let mut itinerary = Itinerary::begin(&walk);
        let whole = itinerary.take(9);
        let halves = itinerary.halves(whole[0]).unwrap();
        itinerary.put_back(halves.to_vec());
        assert_eq!(itinerary.take(1), halves[..1]);
        let mut left = Itinerary::resume(&walk, &note(&itinerary, None)).unwrap();
        assert_eq!(left.take(9), halves[1..]);
        assert!(left.job(halves[1]).unwrap().asked.is_some() && left.job(whole[0]).unwrap().asked.is_none());
    }

    #[test]
    fn a_window_is_not_halved_where_a_half_has_not_all_of_its_rows() {
        // By the time of the last change, a day's incidents are asked for until days behind it.
        let walk = walk("alerts_incidents", 1, &["1"]);
        let itinerary = Itinerary::begin(&walk);
        assert!(itinerary.halves(itinerary.first().unwrap()).is_none());
    }

    #[test]
    fn a_cursor_goes_only_with_the_query_it_came_from() {
        let walk = walk("fleet_vehicle_stats_engineRpm", 1, &[]);
        let itinerary = Itinerary::begin(&walk);
        let query = itinerary.render(itinerary.first().unwrap()).unwrap().identity();
        let resume = |query: &str| Some(Resume { query: query.into(), cursor: "c".into(), pages: 2 });
        let left = Itinerary::resume(&walk, &note(&itinerary, resume(&query))).unwrap();
        assert_eq!(left.start.map(|start| (start.cursor, start.pages)), Some((Some("c".into()), 2)));
        assert!(Itinerary::resume(&walk, &note(&itinerary, resume(&format!("{query}&limit=1")))).is_none());
        // Numbers that no such walk has.
        for requests in [2, u64::MAX] {
            assert!(Itinerary::resume(&walk, &Unfinished { requests, ..note(&itinerary, None) }).is_none());
        }
    }
}
