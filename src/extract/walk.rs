//! One walk: all pages that a source (or several that share calls) has for some days.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::conform::{Drift, DriftKey};
use super::decode::{Decoded, Decoder, Stamp};
use super::ownership::{Owned, by_day, day_window, owned_by};
use crate::catalog::{Pagination, Source, SourceKind, TimeFormat};
use crate::events::{Event, Observer};
use crate::samsara::{Client, Page, Request, SamsaraError, Window};
use crate::state::{Unfinished, UnfinishedPart};
use crate::store::layout::{Partition, RunId, raw_object};
use crate::store::{Bucket, ObjectRef, StoreError, TableWriter};

/// Pages that wait between network and decoder.
const PAGES_IN_FLIGHT: usize = 4;
/// Requests that one fan-out has under way; the endpoint's rate holds for all of them.
const REQUESTS_AT_A_TIME: usize = 4;
/// A window that the server cannot manage is split no smaller than this.
const SMALLEST_WINDOW: TimeDelta = TimeDelta::minutes(45);
/// A raw object is completed at this size and another begun.
const OBJECT_BYTES: u64 = 256 << 20;

/// What is read in one go.
#[derive(Debug, Clone)]
pub struct Walk {
    /// One source, or several that share calls.
    pub sources: Vec<Source>,
    /// Which part of them.
    pub scope: Scope,
    /// Ids of the parent, for sources that fan out.
    pub parents: Vec<String>,
}

/// The part of a source that a walk reads.
#[derive(Debug, Clone, PartialEq)]
pub enum Scope {
    /// The whole list.
    Snapshot,
    /// Consecutive UTC days.
    Days(Vec<NaiveDate>),
    /// Everything since a cursor, or since an instant if there is none yet.
    Feed {
        /// The stored query and cursor.
        resume: Option<(String, String)>,
        /// Where a feed without cursor begins.
        since: DateTime<Utc>,
    },
}

/// A partition that was read whole, its objects written but not yet committed.
#[derive(Debug, Clone)]
pub struct Extracted {
    /// The source.
    pub source: String,
    /// The partition.
    pub partition: Partition,
    /// The raw objects.
    pub objects: Vec<ObjectRef>,
    /// Rows and readings left to other days.
    pub not_owned: u64,
}

/// What a walk brought.
#[derive(Debug, Clone)]
pub struct WalkOutcome {
    /// One for each source and day that was asked for; for a feed, for each day that rows came for.
    pub partitions: Vec<Extracted>,
    /// Records in the pages.
    pub records: u64,
    /// Values that went to `_rescued_data`.
    pub rescued: u64,
    /// Digest of the records as sent.
    pub content: String,
    /// When the walk began.
    pub extracted_at: DateTime<Utc>,
    /// Where a feed goes on: its query and cursor.
    pub feed: Option<(String, String)>,
}

/// A walk that failed. Nothing of it is committed.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The API.
    #[error("{tables} {scope}: {error}")]
    Api {
        /// The sources.
        tables: String,
        /// Days, or the snapshot.
        scope: String,
        /// The API's fault.
        #[source]
        error: SamsaraError,
    },
    /// A page cannot be decoded.
    #[error("{tables} {scope}: page {page} of {request}: {reason}")]
    Page {
        /// The sources.
        tables: String,
        /// Days, or the snapshot.
        scope: String,
        /// Position in the walk, from 1.
        page: u64,
        /// Path and query.
        request: String,
        /// What is wrong.
        reason: String,
    },
    /// The raw bucket.
    #[error("{tables} {scope}: {error}")]
    Store {
        /// The sources.
        tables: String,
        /// Days, or the snapshot.
        scope: String,
        /// The bucket's fault.
        #[source]
        error: StoreError,
    },
    /// A worker died.
    #[error("{tables} {scope}: the decoder stopped: {reason}")]
    Worker {
        /// The sources.
        tables: String,
        /// Days, or the snapshot.
        scope: String,
        /// Why.
        reason: String,
    },
}

impl ExtractError {
    /// The API's fault, if it was the API's.
    pub fn api(&self) -> Option<&SamsaraError> {
        match self {
            Self::Api { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// Reads walks into the raw bucket.
#[derive(Clone)]
pub struct Extractor {
    /// The API.
    pub client: Client,
    /// The raw bucket.
    pub bucket: Bucket,
    /// The run that names the objects.
    pub run: RunId,
    /// Where decoding runs: never on the threads that wait for the network.
    pub cpu: Handle,
    /// Who wants to know.
    pub observer: Arc<dyn Observer>,
    /// After how many pages an unfinished walk is noted.
    pub note_every: u64,
}

/// What the network half of a walk tells the CPU half, in order.
enum Arrival {
    /// A page and what its request knew.
    Page(Box<Arrived>),
    /// All pages so far are whole up to this cursor of this query: a later run may go on from here.
    Note {
        /// Path and query.
        query: String,
        /// The cursor behind the last page.
        cursor: String,
        /// Pages so far.
        pages: u64,
    },
    /// The part of the window that was asked for is whole.
    Seal,
    /// The part of the window cannot be had in one go: what came of it does not count.
    Drop,
}

struct Arrived {
    page: Page,
    request: Arc<Request>,
    parent: Option<String>,
    /// The part of the window that was asked for, where it had to be split.
    asked: Option<Window>,
}

impl Extractor {
    /// Reads one walk. Its objects are complete when this returns, and count only once the state names them.
    ///
    /// `resume` is what an earlier run noted of the same walk; another walk's is not used. `notes` is told now and
    /// then what is safe so far, where the walk is one that can be resumed ([`Walk::can_resume`]).
    pub async fn read(
        &self,
        walk: Arc<Walk>,
        resume: Option<Unfinished>,
        notes: Option<mpsc::Sender<Unfinished>>,
    ) -> Result<WalkOutcome, ExtractError> {
        let resume = resume.filter(|before| walk.can_resume() && walk.identity().as_ref() == Some(&before.query));
        let extracted_at = resume.as_ref().map_or_else(Utc::now, |before| before.extracted_at);
        let (pages, arrivals) = mpsc::channel(PAGES_IN_FLIGHT);
        let sink = Sink::new(self, walk.clone(), extracted_at, resume.as_ref(), notes);
        let decoder = self.cpu.spawn(sink.drain(arrivals));
        let fetched = self.fetch(&walk, resume, pages).await;
        // The decoder's own error comes first: it is why the channel closed.
        let decoded = decoder.await.map_err(|error| ExtractError::Worker {
            tables: walk.tables(),
            scope: walk.scope.to_string(),
            reason: error.to_string(),
        })?;
        let mut outcome = decoded?;
        outcome.feed = fetched.map_err(|error| walk.api(error))?;
        for (key, count) in std::mem::take(&mut outcome.drift) {
            let sources = walk.sources.iter().map(|source| source.name.clone()).collect();
            self.observer.observe(&Event::DriftFound { sources, path: key.path, reason: key.reason, count });
        }
        Ok(WalkOutcome {
            partitions: outcome.partitions,
            records: outcome.records,
            rescued: outcome.rescued,
            content: outcome.content,
            extracted_at,
            feed: outcome.feed,
        })
    }

    /// Sends all pages to the decoder; gives the position of a feed.
    async fn fetch(
        &self,
        walk: &Walk,
        resume: Option<Unfinished>,
        pages: mpsc::Sender<Arrival>,
    ) -> Result<Option<Position>, SamsaraError> {
        let sources: Vec<&Source> = walk.sources.iter().collect();
        let Some(source) = sources.first() else { return Ok(None) };
        let sweep: Vec<Option<&str>> = match &source.sweep {
            Some(sweep) => sweep.values.iter().map(|value| Some(value.as_str())).collect(),
            None => vec![None],
        };
        let batches: Vec<&[String]> = match &source.parent {
            Some(parent) => walk.parents.chunks(parent.batch).collect(),
            None => vec![&[]],
        };
        let window = walk.window();
        let start = match (&walk.scope, resume) {
            (Scope::Feed { resume: Some((query, cursor)), .. }, _) => Some(Start {
                // A cursor is bound to the query it came from, byte for byte.
                query: Some(query.clone()),
                cursor: cursor.clone(),
                pages: 0,
            }),
            (_, Some(before)) => Some(Start { query: None, cursor: before.cursor, pages: before.pages }),
            _ => None,
        };
        let jobs = sweep.iter().flat_map(|value| batches.iter().map(move |batch| (*value, *batch)));
        let results: Vec<_> = stream::iter(jobs)
            .map(|(value, batch)| self.fetch_parts(walk, window, value, batch, start.clone(), &pages))
            .buffer_unordered(REQUESTS_AT_A_TIME)
            .try_collect()
            .await?;
        Ok(results.into_iter().flatten().next().filter(|_| source.kind == SourceKind::Feed))
    }

    /// All pages of one request; or of smaller ones, where the server cannot manage the window in one go.
    ///
    /// The parts count once all are there: the partition is still committed as a whole.
    async fn fetch_parts(
        &self,
        walk: &Walk,
        window: Option<Window>,
        sweep: Option<&str>,
        batch: &[String],
        mut start: Option<Start>,
        pages: &mpsc::Sender<Arrival>,
    ) -> Result<Option<Position>, SamsaraError> {
        let sources: Vec<&Source> = walk.sources.iter().collect();
        let Some(source) = sources.first() else { return Ok(None) };
        let alone = walk.is_one_request();
        let can_split = matches!(walk.scope, Scope::Days(_))
            && source.kind == SourceKind::Window
            && source.window.as_ref().is_some_and(|names| names.format != TimeFormat::Date && names.end.is_some());
        let mut parts = vec![window];
        let mut split = false;
        let mut position = None;
        while let Some(part) = parts.pop() {
            let Some(request) = Request::render(&sources, part, sweep, batch) else { return Ok(None) };
            let job = Job {
                request: Arc::new(request),
                parent: source.parent.as_ref().filter(|parent| parent.batch == 1).and_then(|_| batch.first()).cloned(),
                asked: part.filter(|_| split),
                // A walk in parts is not noted: its cursors would be of one part only.
                noted: walk.can_resume() && !split,
            };
            let mut sent = 0;
            let result = self.fetch_all(&job, start.take(), pages, &mut sent).await;
            match (result, part) {
                (Ok(found), _) => {
                    position = found;
                    if alone && pages.send(Arrival::Seal).await.is_err() {
                        return Ok(None);
                    }
                }
                // Requests that share a decoder cannot take back what they sent.
                (Err(error), Some(window)) if can_split && error.asks_for_less() && (alone || sent == 0) => {
                    let Some([first, second]) = window.halves(SMALLEST_WINDOW) else { return Err(error) };
                    tracing::warn!(source = walk.tables(), start = %window.start, end = %window.end, %error, "window split");
                    if alone && pages.send(Arrival::Drop).await.is_err() {
                        return Ok(None);
                    }
                    split = true;
                    parts.extend([Some(second), Some(first)]);
                }
                (Err(error), _) => return Err(error),
            }
        }
        Ok(position)
    }

    /// All pages of one request; gives its query and last cursor.
    async fn fetch_all(
        &self,
        job: &Job,
        start: Option<Start>,
        pages: &mpsc::Sender<Arrival>,
        sent: &mut u64,
    ) -> Result<Option<Position>, SamsaraError> {
        let mut request = job.request.clone();
        let (mut cursor, mut number) = (None, 0);
        if let Some(start) = start {
            if let Some(query) = start.query {
                request = Arc::new(Request { query, ..(*request).clone() });
            }
            (cursor, number) = (Some(start.cursor), start.pages);
        }
        let mut pager = self.client.pages((*request).clone(), cursor.clone()).after(number);
        loop {
            let page = match pager.next().await {
                Ok(Some(page)) => page,
                Ok(None) => break,
                // A parent that is gone since its list was read has no rows.
                Err(SamsaraError::NotFound { .. }) if job.parent.is_some() => break,
                Err(error) => return Err(error),
            };
            if page.cursor.is_some() {
                cursor.clone_from(&page.cursor);
            }
            let more = page.has_next;
            let arrived = Arrived { page, request: request.clone(), parent: job.parent.clone(), asked: job.asked };
            if pages.send(Arrival::Page(Box::new(arrived))).await.is_err() {
                // The decoder has failed and says why.
                return Ok(None);
            }
            (*sent, number) = (*sent + 1, number + 1);
            if let Some(cursor) = cursor.clone().filter(|_| job.noted && more && sent.is_multiple_of(self.note_every)) {
                let note = Arrival::Note { query: request.identity(), cursor, pages: number };
                if pages.send(note).await.is_err() {
                    return Ok(None);
                }
            }
        }
        Ok(cursor.map(|cursor| (request.query.clone(), cursor)))
    }
}

/// One request of a walk.
struct Job {
    request: Arc<Request>,
    parent: Option<String>,
    /// The part of the window that is asked for, where it had to be split.
    asked: Option<Window>,
    /// Whether it is noted how far it has come.
    noted: bool,
}

/// Where a request goes on.
#[derive(Clone)]
struct Start {
    /// The stored query, if it is not the one that would be rendered now.
    query: Option<String>,
    cursor: String,
    /// Pages before.
    pages: u64,
}

/// Query and cursor of a feed.
type Position = (String, String);

impl Walk {
    /// Whether all of it is one request: no sweep and no fan-out.
    fn is_one_request(&self) -> bool {
        self.sources.first().is_some_and(|source| source.sweep.is_none() && source.parent.is_none())
    }

    /// Whether a later run can go on where this walk was left: days that are one request with cursors.
    pub fn can_resume(&self) -> bool {
        matches!(self.scope, Scope::Days(_))
            && self.is_one_request()
            && self.sources.first().is_some_and(|source| source.pagination != Pagination::None)
    }

    /// Path and query of the walk's only request.
    fn identity(&self) -> Option<String> {
        let sources: Vec<&Source> = self.sources.iter().collect();
        Some(Request::render(&sources, self.window(), None, &[])?.identity())
    }

    fn window(&self) -> Option<Window> {
        match &self.scope {
            Scope::Snapshot => None,
            Scope::Days(days) => span(days),
            Scope::Feed { since, .. } => Some(Window { start: *since, end: *since }),
        }
    }

    /// The sources, for messages.
    pub fn tables(&self) -> String {
        self.sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn api(&self, error: SamsaraError) -> ExtractError {
        ExtractError::Api { tables: self.tables(), scope: self.scope.to_string(), error }
    }

    fn store(&self, error: StoreError) -> ExtractError {
        ExtractError::Store { tables: self.tables(), scope: self.scope.to_string(), error }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Snapshot => f.write_str("(snapshot)"),
            Self::Feed { .. } => f.write_str("(feed)"),
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
    Some(Window { start: day_window(*days.first()?).start, end: day_window(*days.last()?).end })
}

struct Sunk {
    partitions: Vec<Extracted>,
    records: u64,
    rescued: u64,
    content: String,
    drift: Drift,
    feed: Option<(String, String)>,
}

/// The CPU half of a walk: decodes, sorts into days, writes.
struct Sink {
    walk: Arc<Walk>,
    bucket: Bucket,
    run: RunId,
    decoder: Decoder,
    extracted_at: DateTime<Utc>,
    notes: Option<mpsc::Sender<Unfinished>>,
    /// What cannot be taken back any more.
    whole: Gathered,
    /// The part of the window that is being read.
    part: Gathered,
    /// Objects begun, so that none has the key of another.
    begun: u64,
}

/// What pages brought.
#[derive(Default)]
struct Gathered {
    /// By source of the walk and partition.
    outputs: BTreeMap<(usize, Partition), Output>,
    records: u64,
    /// Values rescued by an earlier run: what they were is in its report.
    rescued: u64,
    drift: Drift,
    content: Content,
}

impl Gathered {
    /// What an earlier run noted of the same walk.
    fn of(before: &Unfinished, walk: &Walk) -> Option<Self> {
        let mut gathered = Self {
            records: before.records,
            rescued: before.rescued,
            content: Content::parse(&before.content)?,
            ..Self::default()
        };
        for part in &before.parts {
            let slot = walk.sources.iter().position(|source| source.name == part.source)?;
            let output = Output { writer: None, objects: part.objects.clone(), kept: part.kept, total: part.total };
            gathered.outputs.insert((slot, Partition::parse(&part.partition)?), output);
        }
        Some(gathered)
    }

    fn add(&mut self, other: Self) {
        self.records += other.records;
        self.rescued += other.rescued;
        self.content.merge(&other.content);
        for (key, count) in other.drift {
            *self.drift.entry(key).or_default() += count;
        }
        for (key, output) in other.outputs {
            let mine = self.outputs.entry(key).or_default();
            mine.objects.extend(output.objects);
            mine.kept += output.kept;
            mine.total += output.total;
        }
    }

    /// Completes the objects that are being written.
    async fn close(&mut self, walk: &Walk) -> Result<(), ExtractError> {
        for output in self.outputs.values_mut() {
            if let Some(writer) = output.writer.take() {
                output.objects.push(writer.finish().await.map_err(|error| walk.store(error))?);
            }
        }
        Ok(())
    }
}

/// A digest of pages in whatever order they arrive: fan-outs ask for several at a time.
#[derive(Default)]
struct Content([u64; 4]);

impl Content {
    fn add(&mut self, page: &[u8]) {
        let digest = Sha256::digest(page);
        for (sum, word) in self.0.iter_mut().zip(digest.chunks_exact(8)) {
            let word = word.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
            *sum = sum.wrapping_add(word);
        }
    }

    fn merge(&mut self, other: &Self) {
        for (sum, word) in self.0.iter_mut().zip(other.0) {
            *sum = sum.wrapping_add(word);
        }
    }

    /// Reads what `hex` writes.
    fn parse(text: &str) -> Option<Self> {
        let mut words = [0; 4];
        for (index, word) in words.iter_mut().enumerate() {
            *word = u64::from_str_radix(text.get(index * 16..(index + 1) * 16)?, 16).ok()?;
        }
        (text.len() == 64).then_some(Self(words))
    }

    fn hex(&self) -> String {
        self.0.iter().map(|word| format!("{word:016x}")).collect()
    }
}

/// Rows with their owner.
struct Sorted {
    slot: usize,
    partition: Partition,
    batch: RecordBatch,
    kept: u64,
    total: u64,
}

#[derive(Default)]
struct Output {
    writer: Option<TableWriter>,
    objects: Vec<ObjectRef>,
    kept: u64,
    total: u64,
}

impl Sink {
    fn new(
        extractor: &Extractor,
        walk: Arc<Walk>,
        extracted_at: DateTime<Utc>,
        resume: Option<&Unfinished>,
        notes: Option<mpsc::Sender<Unfinished>>,
    ) -> Self {
        let sources: Vec<&Source> = walk.sources.iter().collect();
        let decoder = Decoder::new(&sources);
        let mut outputs = BTreeMap::new();
        for slot in 0..walk.sources.len() {
            match &walk.scope {
                Scope::Snapshot => {
                    outputs.insert((slot, Partition::Snapshot), Output::default());
                }
                Scope::Days(days) => {
                    outputs.extend(days.iter().map(|day| ((slot, Partition::Day(*day)), Output::default())));
                }
                Scope::Feed { .. } => {}
            }
        }
        // Equal pages read with another schema are other rows.
        let mut content = Content::default();
        for source in &sources {
            content.add(format!("{:?}", source.fields).as_bytes());
        }
        let part = resume.and_then(|before| Gathered::of(before, &walk)).unwrap_or_default();
        Self {
            bucket: extractor.bucket.clone(),
            run: extractor.run.clone(),
            walk,
            decoder,
            extracted_at,
            notes,
            whole: Gathered { outputs, content, ..Gathered::default() },
            part,
            begun: 0,
        }
    }

    async fn drain(mut self, mut arrivals: mpsc::Receiver<Arrival>) -> Result<Sunk, ExtractError> {
        while let Some(arrival) = arrivals.recv().await {
            match arrival {
                Arrival::Page(arrived) => self.page(&arrived).await?,
                Arrival::Note { query, cursor, pages } => self.note(query, cursor, pages).await?,
                Arrival::Seal => self.seal().await?,
                // What was written of it stays behind without a name, and is swept later.
                Arrival::Drop => self.part = Gathered::default(),
            }
        }
        self.finish().await
    }

    async fn seal(&mut self) -> Result<(), ExtractError> {
        self.part.close(&self.walk).await?;
        self.whole.add(std::mem::take(&mut self.part));
        Ok(())
    }

    /// Makes safe what has come so far, and tells.
    async fn note(&mut self, query: String, cursor: String, pages: u64) -> Result<(), ExtractError> {
        let Some(notes) = &self.notes else { return Ok(()) };
        self.part.close(&self.walk).await?;
        let parts = self.part.outputs.iter().map(|((slot, partition), output)| UnfinishedPart {
            source: self.walk.sources[*slot].name.clone(),
            partition: partition.to_string(),
            objects: output.objects.clone(),
            kept: output.kept,
            total: output.total,
        });
        let note = Unfinished {
            query,
            cursor,
            pages,
            records: self.part.records,
            rescued: self.part.rescued + self.part.drift.values().sum::<u64>(),
            content: self.part.content.hex(),
            extracted_at: self.extracted_at,
            parts: parts.collect(),
        };
        // Nobody listens any more: then the walk has its end elsewhere.
        let _ = notes.send(note).await;
        Ok(())
    }

    async fn page(&mut self, arrival: &Arrived) -> Result<(), ExtractError> {
        let wrong = |walk: &Walk, reason: String| ExtractError::Page {
            tables: walk.tables(),
            scope: walk.scope.to_string(),
            page: arrival.page.number,
            request: format!("{}?{}", arrival.request.path, arrival.request.query),
            reason,
        };
        self.part.content.add(&arrival.page.records);
        let decoded = self.decoder.decode(&arrival.page).map_err(|reason| wrong(&self.walk, reason))?;
        self.part.records += decoded.count;
        for (key, count) in &decoded.drift {
            *self.part.drift.entry(key.clone()).or_default() += count;
        }
        for sorted in self.sort(arrival, &decoded).map_err(|reason| wrong(&self.walk, reason))? {
            self.write(sorted).await?;
        }
        Ok(())
    }

    /// Gives each row of a page to the source and partition that own it.
    fn sort(&self, arrival: &Arrived, decoded: &Decoded) -> Result<Vec<Sorted>, String> {
        let mut sorted = Vec::new();
        for (slot, source) in self.walk.sources.iter().enumerate() {
            let rows = |window| {
                let stamp = Stamp { window, parent: arrival.parent.as_deref(), extracted_at: self.extracted_at };
                self.decoder.rows(decoded, slot, stamp)
            };
            match (&self.walk.scope, &source.time_field) {
                (Scope::Snapshot, _) => {
                    sorted.push(Sorted { slot, partition: Partition::Snapshot, batch: rows(None)?, kept: 0, total: 0 });
                }
                (Scope::Days(days), field) => {
                    for day in days {
                        let batch = rows(Some(day_window(*day)))?;
                        let owned = match field {
                            Some(field) => owned_by(&batch, field, *day, arrival.asked)?,
                            None => Owned { batch, kept: 0, total: 0 },
                        };
                        let Owned { batch, kept, total } = owned;
                        sorted.push(Sorted { slot, partition: Partition::Day(*day), batch, kept, total });
                    }
                }
                (Scope::Feed { .. }, field) => {
                    let field = field.as_ref().ok_or("a feed needs a time_field")?;
                    for day in by_day(&rows(None)?, field)?.into_keys() {
                        // The day is the row's window, as for sources that are asked by day.
                        let Some(batch) = by_day(&rows(Some(day_window(day)))?, field)?.remove(&day) else { continue };
                        sorted.push(Sorted { slot, partition: Partition::Day(day), batch, kept: 0, total: 0 });
                    }
                }
            }
        }
        Ok(sorted)
    }

    async fn write(&mut self, sorted: Sorted) -> Result<(), ExtractError> {
        let Sorted { slot, partition, batch, kept, total } = sorted;
        let output = self.part.outputs.entry((slot, partition)).or_default();
        output.kept += kept;
        output.total += total;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let walk = &self.walk;
        let writer = match &mut output.writer {
            Some(writer) => writer,
            empty => {
                let key = raw_object(&walk.sources[slot].name, partition, &self.run, self.begun);
                self.begun += 1;
                let writer = TableWriter::begin(&self.bucket, key, batch.schema()).map_err(|e| walk.store(e))?;
                empty.insert(writer)
            }
        };
        writer.write(&batch).await.map_err(|error| walk.store(error))?;
        if writer.bytes() >= OBJECT_BYTES
            && let Some(writer) = output.writer.take()
        {
            output.objects.push(writer.finish().await.map_err(|error| walk.store(error))?);
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<Sunk, ExtractError> {
        self.seal().await?;
        let (walk, whole) = (self.walk, self.whole);
        // Rows that no asked day owns are left out once, however many days were asked for together.
        let mut kept_of: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
        for ((slot, _), output) in &whole.outputs {
            let sums = kept_of.entry(*slot).or_default();
            sums.0 += output.kept;
            sums.1 = sums.1.max(output.total);
        }
        let mut counted: BTreeSet<usize> = BTreeSet::new();
        let mut partitions = Vec::with_capacity(whole.outputs.len());
        for ((slot, partition), output) in whole.outputs {
            let (kept, total) = kept_of.get(&slot).copied().unwrap_or_default();
            let not_owned = if counted.insert(slot) { total.saturating_sub(kept) } else { 0 };
            let source = walk.sources[slot].name.clone();
            partitions.push(Extracted { source, partition, objects: output.objects, not_owned });
        }
        let content = whole.content.hex();
        let rescued = whole.rescued + whole.drift.values().sum::<u64>();
        Ok(Sunk { partitions, records: whole.records, rescued, content, drift: whole.drift, feed: None })
    }
}

/// Decodes the text of one page's list of records as `source` declares them: for benches and fuzzing.
pub fn decode_page(
    source: &Source,
    records: Bytes,
    window: Option<Window>,
    parent: Option<&str>,
) -> Result<(RecordBatch, BTreeMap<DriftKey, u64>), String> {
    let decoder = Decoder::new(&[source]);
    let page = Page { number: 1, beside: Vec::new(), is_empty: false, records, cursor: None, has_next: false };
    let decoded = decoder.decode(&page)?;
    let stamp = Stamp { window, parent, extracted_at: DateTime::UNIX_EPOCH };
    let batch = decoder.rows(&decoded, 0, stamp)?;
    Ok((batch, decoded.drift))
}

/// The raw rows that a page gives to `day` (to the snapshot, if there is none): what a walk writes.
pub fn decode_owned(
    source: &Source,
    page: &Page,
    window: Option<Window>,
    day: Option<NaiveDate>,
    parent: Option<&str>,
) -> Result<RecordBatch, String> {
    let decoder = Decoder::new(&[source]);
    let decoded = decoder.decode(page)?;
    let batch = decoder.rows(&decoded, 0, Stamp { window, parent, extracted_at: DateTime::UNIX_EPOCH })?;
    match (&source.time_field, day) {
        (Some(field), Some(day)) => Ok(owned_by(&batch, field, day, None)?.batch),
        _ => Ok(batch),
    }
}
