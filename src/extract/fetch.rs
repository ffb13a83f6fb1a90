//! The network half of a task: the pages of each request, in order, to the writer.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::{mpsc, oneshot};

use super::checkpoint::Progress;
use super::queue::{Job, RequestQueue, RequestSlice};
use super::request::{ExtractTask, Scope};
use crate::events::{Event, Observer};
use crate::samsara::{Client, Page, Pager, Request, SamsaraError, Watch, Window};
use crate::state::{CheckpointCursor, Position};

/// Maximum number of concurrent requests of one fan-out; the endpoint's rate holds for all of them.
const REQUESTS_AT_A_TIME: usize = 4;
/// A fan-out's requests are small: it saves a checkpoint after this many times as many requests as other tasks after
/// pages.
const FAN_OUT_CHECKPOINT_REQUESTS: u64 = 4;

/// What the network half of a task sends to the CPU half, in order.
pub(super) enum Message {
    /// A page and what its request knew.
    Page(Box<FetchedPage>),
    /// A later run may resume from here.
    Checkpoint(Progress),
    /// The requests so far are finished.
    Commit,
    /// The pending requests are refused in this form: their pages do not count.
    Abort,
}

/// A page, and what its request knew.
pub(super) struct FetchedPage {
    pub(super) page: Page,
    pub(super) request: Arc<Request>,
    pub(super) parent: Option<String>,
    /// The requested part of the window, if it was bisected.
    pub(super) asked: Option<Window>,
    /// Receives whether the requested days of a feed end on this page, or before.
    pub(super) is_past: Option<oneshot::Sender<bool>>,
}

/// Where the pages ended.
#[derive(Default)]
pub(super) struct End {
    /// Query and last cursor.
    pub(super) position: Option<Position>,
    /// Whether there is more after it.
    pub(super) more: bool,
    /// Whether a feed was left there because what follows was not requested.
    pub(super) is_past: bool,
    /// The reason for an empty result, if the API does not know the requested parent.
    gone: Option<SamsaraError>,
}

/// What became of a slice.
enum Fetched {
    Finished {
        end: End,
        pages: u64,
    },
    /// The window is too large for the server. Some of its pages may have arrived nevertheless.
    TooMuch {
        halves: [RequestSlice; 2],
        pages: u64,
    },
}

impl Fetched {
    fn pages(&self) -> u64 {
        match self {
            Self::Finished { pages, .. } | Self::TooMuch { pages, .. } => *pages,
        }
    }

    fn is_partial(&self) -> bool {
        matches!(self, Self::TooMuch { pages, .. } if *pages > 0)
    }
}

/// Why fetching stopped before its end.
enum Stop {
    Api(SamsaraError),
    /// The writer has failed, and says why.
    WriterGone,
}

impl From<SamsaraError> for Stop {
    fn from(error: SamsaraError) -> Self {
        Self::Api(error)
    }
}

/// How far a feed is read in one go.
struct FeedPages<'a> {
    watch: &'a Watch,
    /// Whether reading stopped at the end of the requested days.
    has_end: bool,
}

/// The next page of a request.
enum Next {
    Page(Page),
    End,
    /// The requested parent is not known.
    Gone(SamsaraError),
}

/// Fetches the pages of one task.
pub(super) struct Fetcher<'a> {
    pub(super) client: &'a Client,
    pub(super) task: &'a ExtractTask,
    /// Told of each request that is finished.
    pub(super) observer: &'a dyn Observer,
    /// Pages between two checkpoints; of a feed, at most this many pages are read.
    pub(super) checkpoint_every: u64,
    pub(super) messages: mpsc::Sender<Message>,
}

impl Fetcher<'_> {
    /// Sends all pages to the writer, with checkpoints in between.
    ///
    /// A fan-out has several requests in flight, and counts them in groups of some hundred; any other task sends one
    /// request at a time. A window that is too large for the server is requested in halves; finished halves are kept,
    /// also for a later run.
    pub(super) async fn fetch(self, mut queue: RequestQueue<'_>) -> Result<End, SamsaraError> {
        match self.fetch_all(&mut queue).await {
            Ok(end) => Ok(end),
            Err(Stop::WriterGone) => Ok(End::default()),
            Err(Stop::Api(error)) => Err(error),
        }
    }

    async fn fetch_all(&self, queue: &mut RequestQueue<'_>) -> Result<End, Stop> {
        let (is_fan_out, is_feed) = (self.task.is_fan_out(), self.task.is_feed());
        let together = if is_fan_out {
            self.checkpoint_every
                .saturating_mul(FAN_OUT_CHECKPOINT_REQUESTS)
        } else {
            1
        };
        let (mut end, mut pages_since) = (End::default(), 0);
        // An endpoint that knows none of the parents does not exist; one that lacks some has lost those.
        let (mut knows_any, mut gone) = (queue.next > 0, None);
        loop {
            // A single request can have a checkpoint in its middle, which lists the requests that are left now.
            let before = (!is_fan_out && !is_feed).then(|| queue.progress());
            let start = queue.start.take();
            let slices = queue.take(usize::try_from(together).unwrap_or(usize::MAX));
            if slices.is_empty() {
                return gone
                    .filter(|_| !knows_any)
                    .map_or(Ok(end), |error| Err(Stop::Api(error)));
            }
            let results = self
                .fetch_slices(queue, slices, start, before.as_ref())
                .await?;
            let pages = results.iter().map(|(_, fetched)| fetched.pages().max(1));
            pages_since += pages.sum::<u64>();
            // Requests in flight write to the same objects, so these are kept or discarded together.
            let spoiled = results.iter().any(|(_, fetched)| fetched.is_partial());
            let mut again = Vec::new();
            for (slice, fetched) in results {
                match fetched {
                    Fetched::TooMuch { halves, .. } => again.extend(halves),
                    Fetched::Finished { .. } if spoiled => again.push(slice),
                    Fetched::Finished { end: found, .. } => {
                        knows_any |= found.gone.is_none();
                        gone = found.gone.clone().or(gone);
                        end = found;
                    }
                }
            }
            queue.put_back(again);
            self.send(match spoiled {
                true => Message::Abort,
                false => Message::Commit,
            })
            .await?;
            let is_due = pages_since >= self.checkpoint_every || !queue.rest.is_empty();
            let may_go_on = queue.first().is_some() && (knows_any || gone.is_none());
            if is_due && may_go_on && !is_feed {
                pages_since = 0;
                self.send(Message::Checkpoint(queue.progress())).await?;
            }
        }
    }

    async fn send(&self, message: Message) -> Result<(), Stop> {
        self.messages
            .send(message)
            .await
            .map_err(|_| Stop::WriterGone)
    }

    async fn fetch_slices(
        &self,
        queue: &RequestQueue<'_>,
        slices: Vec<RequestSlice>,
        start: Option<(Position, u64)>,
        before: Option<&Progress>,
    ) -> Result<Vec<(RequestSlice, Fetched)>, Stop> {
        let mut starts = start.into_iter();
        let jobs: Vec<_> = slices
            .into_iter()
            .map(|slice| (slice, starts.next()))
            .collect();
        stream::iter(jobs)
            .map(|(slice, start)| self.fetch_slice(queue, slice, start, before))
            .buffered(REQUESTS_AT_A_TIME)
            .try_collect()
            .await
    }

    async fn fetch_slice(
        &self,
        queue: &RequestQueue<'_>,
        slice: RequestSlice,
        start: Option<(Position, u64)>,
        before: Option<&Progress>,
    ) -> Result<(RequestSlice, Fetched), Stop> {
        let Some(job) = queue.job(slice) else {
            let (end, pages) = (End::default(), 0);
            return Ok((slice, Fetched::Finished { end, pages }));
        };
        let mut pages = 0;
        let fetched = match self.fetch_pages(job, start, before, &mut pages).await {
            Ok(end) => {
                self.observer.observe(&Event::RequestFinished {
                    sources: self.task.names(),
                    scope: self.task.scope.to_string(),
                });
                Fetched::Finished { end, pages }
            }
            Err(Stop::Api(error)) if error.asks_for_less() => {
                let (Some(halves), Some(window)) = (queue.bisect(slice), slice.window) else {
                    return Err(error.into());
                };
                let source = self.task.tables();
                tracing::warn!(source, start = %window.start, end = %window.end, %error, "window bisected");
                Fetched::TooMuch { halves, pages }
            }
            Err(stop) => return Err(stop),
        };
        Ok((slice, fetched))
    }

    /// The pages of one request, or some of them for a feed; counts in `sent` all that were received, also earlier.
    async fn fetch_pages(
        &self,
        job: Job,
        start: Option<(Position, u64)>,
        before: Option<&Progress>,
        sent: &mut u64,
    ) -> Result<End, Stop> {
        let Job {
            request,
            parent,
            asked,
        } = job;
        let (request, mut cursor) = resume(request, start, sent);
        let feed = self.feed_pages();
        let pages = self.client.pages((*request).clone(), cursor.clone());
        let mut pager = match &feed {
            Some(feed) => pages.after(*sent).watched(feed.watch),
            None => pages.after(*sent),
        };
        let (mut gone, mut is_past) = (None, false);
        loop {
            let page = match next_page(&mut pager, parent.is_some()).await? {
                Next::Page(page) => page,
                Next::End => break,
                Next::Gone(error) => {
                    gone = Some(error);
                    break;
                }
            };
            let next = page.cursor.clone().or_else(|| cursor.clone());
            let fetched = FetchedPage {
                page,
                request: request.clone(),
                parent: parent.clone(),
                asked,
                is_past: None,
            };
            is_past = self.send_page(fetched, feed.as_ref()).await?;
            if is_past {
                break;
            }
            cursor = next;
            *sent += 1;
            if feed.is_some() && *sent >= self.checkpoint_every {
                break;
            }
            if let (Some(progress), Some(cursor), true) = (before, &cursor, pager.has_more()) {
                self.checkpoint_within(progress, &request, cursor, *sent)
                    .await?;
            }
        }
        // A feed that is left before its first page resumes there: with the query, and without a cursor.
        let cursor = cursor.or_else(|| is_past.then(String::new));
        Ok(End {
            position: cursor.map(|cursor| position(&request, cursor)),
            more: pager.has_more(),
            is_past,
            gone,
        })
    }

    fn feed_pages(&self) -> Option<FeedPages<'_>> {
        match &self.task.scope {
            Scope::Feed { watch, until, .. } => Some(FeedPages {
                watch,
                has_end: until.is_some(),
            }),
            _ => None,
        }
    }

    /// Sends a page. Returns whether the requested days of a feed end on it: only the writer knows the days of its
    /// rows, and fetching waits for its answer.
    async fn send_page(
        &self,
        mut page: FetchedPage,
        feed: Option<&FeedPages<'_>>,
    ) -> Result<bool, Stop> {
        let (question, answer) = match feed {
            Some(FeedPages { has_end: true, .. }) => Some(oneshot::channel()).unzip(),
            _ => (None, None),
        };
        page.is_past = question;
        self.send(Message::Page(Box::new(page))).await?;
        match answer {
            Some(answer) => answer.await.map_err(|_| Stop::WriterGone),
            None => Ok(false),
        }
    }

    /// A checkpoint in the middle of a request, after each this many pages.
    async fn checkpoint_within(
        &self,
        progress: &Progress,
        request: &Request,
        cursor: &str,
        pages: u64,
    ) -> Result<(), Stop> {
        if !pages.is_multiple_of(self.checkpoint_every) {
            return Ok(());
        }
        let resume = CheckpointCursor {
            query: request.identity(),
            cursor: cursor.to_string(),
            pages,
        };
        self.send(Message::Checkpoint(Progress {
            resume: Some(resume),
            ..progress.clone()
        }))
        .await
    }
}

fn position(request: &Request, cursor: String) -> Position {
    let query = request.query.clone();
    Position { query, cursor }
}

/// The request as it continues from `start`, and the cursor there; adds the pages before it to `sent`.
fn resume(
    request: Arc<Request>,
    start: Option<(Position, u64)>,
    sent: &mut u64,
) -> (Arc<Request>, Option<String>) {
    let Some((Position { query, cursor }, pages)) = start else {
        return (request, None);
    };
    *sent = pages;
    let request = Request {
        query,
        ..(*request).clone()
    };
    // An empty cursor means the first page.
    (
        Arc::new(request),
        Some(cursor).filter(|cursor| !cursor.is_empty()),
    )
}

/// The next page of a request. A parent that is gone since its list was read has no rows; nor has one whose id would
/// lead elsewhere: the other parents must be read all the same.
async fn next_page(pager: &mut Pager, has_parent: bool) -> Result<Next, SamsaraError> {
    match pager.next().await {
        Ok(Some(page)) => Ok(Next::Page(page)),
        Ok(None) => Ok(Next::End),
        Err(error @ SamsaraError::NotFound { .. }) if has_parent => Ok(Next::Gone(error)),
        Err(error @ SamsaraError::Unaddressable { .. }) if has_parent => {
            tracing::warn!(%error, "parent skipped");
            Ok(Next::Gone(error))
        }
        Err(error) => Err(error),
    }
}
