//! One walk: all pages that a source (or several that share calls) has for some days.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use chrono::{DateTime, NaiveDate, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::conform::{Drift, DriftKey};
use super::decode::{Decoded, Decoder, Stamp};
use super::ownership::{Owned, by_day, day_window, owned_by};
use crate::catalog::{Source, SourceKind};
use crate::events::{Event, Observer};
use crate::samsara::{Client, Page, Request, SamsaraError, Window};
use crate::store::layout::{Partition, RunId, raw_object};
use crate::store::{Bucket, ObjectRef, StoreError, TableWriter};

/// Pages that wait between network and decoder.
const PAGES_IN_FLIGHT: usize = 4;
/// Requests that one fan-out has under way; the endpoint's rate holds for all of them.
const REQUESTS_AT_A_TIME: usize = 4;
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
}

/// A page and what its request knew.
struct Arrival {
    page: Page,
    request: Arc<Request>,
    parent: Option<String>,
}

impl Extractor {
    /// Reads one walk. Its objects are complete when this returns, and count only once the state names them.
    pub async fn read(&self, walk: Arc<Walk>) -> Result<WalkOutcome, ExtractError> {
        let extracted_at = Utc::now();
        let (pages, arrivals) = mpsc::channel(PAGES_IN_FLIGHT);
        let sink = Sink::new(self, walk.clone(), extracted_at);
        let decoder = self.cpu.spawn(sink.drain(arrivals));
        let fetched = self.fetch(&walk, pages).await;
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
    async fn fetch(&self, walk: &Walk, pages: mpsc::Sender<Arrival>) -> Result<Option<(String, String)>, SamsaraError> {
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
        let (window, resume) = match &walk.scope {
            Scope::Snapshot => (None, None),
            Scope::Days(days) => (span(days), None),
            Scope::Feed { resume, since } => (Some(Window { start: *since, end: *since }), resume.as_ref()),
        };
        let jobs = sweep.iter().flat_map(|value| batches.iter().map(move |batch| (*value, *batch)));
        let results: Vec<_> = stream::iter(jobs)
            .map(|(value, batch)| {
                let request = Request::render(&sources, window, value, batch);
                let parent = source.parent.as_ref().filter(|parent| parent.batch == 1).and_then(|_| batch.first());
                self.fetch_all(request, resume, parent, &pages)
            })
            .buffer_unordered(REQUESTS_AT_A_TIME)
            .try_collect()
            .await?;
        Ok(results.into_iter().flatten().next().filter(|_| source.kind == SourceKind::Feed))
    }

    /// All pages of one request; gives its query and last cursor.
    async fn fetch_all(
        &self,
        request: Option<Request>,
        resume: Option<&(String, String)>,
        parent: Option<&String>,
        pages: &mpsc::Sender<Arrival>,
    ) -> Result<Option<(String, String)>, SamsaraError> {
        let Some(mut request) = request else { return Ok(None) };
        let mut cursor = None;
        if let Some((query, stored)) = resume {
            // A cursor is bound to the query it came from, byte for byte.
            request.query.clone_from(query);
            cursor = Some(stored.clone());
        }
        let request = Arc::new(request);
        let mut pager = self.client.pages((*request).clone(), cursor.clone());
        loop {
            let page = match pager.next().await {
                Ok(Some(page)) => page,
                Ok(None) => break,
                // A parent that is gone since its list was read has no rows.
                Err(SamsaraError::NotFound { .. }) if parent.is_some() => break,
                Err(error) => return Err(error),
            };
            if page.cursor.is_some() {
                cursor.clone_from(&page.cursor);
            }
            let arrival = Arrival { page, request: request.clone(), parent: parent.cloned() };
            if pages.send(arrival).await.is_err() {
                // The decoder has failed and says why.
                return Ok(None);
            }
        }
        Ok(cursor.map(|cursor| (request.query.clone(), cursor)))
    }
}

impl Walk {
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
    /// By source of the walk and partition.
    outputs: BTreeMap<(usize, Partition), Output>,
    records: u64,
    drift: Drift,
    content: Content,
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
    number: u64,
}

impl Sink {
    fn new(extractor: &Extractor, walk: Arc<Walk>, extracted_at: DateTime<Utc>) -> Self {
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
        Self {
            bucket: extractor.bucket.clone(),
            run: extractor.run.clone(),
            walk,
            decoder,
            extracted_at,
            outputs,
            records: 0,
            drift: Drift::new(),
            content,
        }
    }

    async fn drain(mut self, mut arrivals: mpsc::Receiver<Arrival>) -> Result<Sunk, ExtractError> {
        while let Some(arrival) = arrivals.recv().await {
            self.page(&arrival).await?;
        }
        self.finish().await
    }

    async fn page(&mut self, arrival: &Arrival) -> Result<(), ExtractError> {
        let wrong = |walk: &Walk, reason: String| ExtractError::Page {
            tables: walk.tables(),
            scope: walk.scope.to_string(),
            page: arrival.page.number,
            request: format!("{}?{}", arrival.request.path, arrival.request.query),
            reason,
        };
        self.content.add(&arrival.page.records);
        let decoded = self.decoder.decode(&arrival.page).map_err(|reason| wrong(&self.walk, reason))?;
        self.records += decoded.count;
        for (key, count) in &decoded.drift {
            *self.drift.entry(key.clone()).or_default() += count;
        }
        for sorted in self.sort(arrival, &decoded).map_err(|reason| wrong(&self.walk, reason))? {
            self.write(sorted).await?;
        }
        Ok(())
    }

    /// Gives each row of a page to the source and partition that own it.
    fn sort(&self, arrival: &Arrival, decoded: &Decoded) -> Result<Vec<Sorted>, String> {
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
                            Some(field) => owned_by(&batch, field, *day)?,
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
        let output = self.outputs.entry((slot, partition)).or_default();
        output.kept += kept;
        output.total += total;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let walk = &self.walk;
        let writer = match &mut output.writer {
            Some(writer) => writer,
            empty => {
                let key = raw_object(&walk.sources[slot].name, partition, &self.run, output.number);
                output.number += 1;
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

    async fn finish(self) -> Result<Sunk, ExtractError> {
        let walk = self.walk;
        // Rows that no asked day owns are left out once, however many days were asked for together.
        let mut kept_of: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
        for ((slot, _), output) in &self.outputs {
            let sums = kept_of.entry(*slot).or_default();
            sums.0 += output.kept;
            sums.1 = sums.1.max(output.total);
        }
        let mut counted: BTreeSet<usize> = BTreeSet::new();
        let mut partitions = Vec::with_capacity(self.outputs.len());
        for ((slot, partition), mut output) in self.outputs {
            if let Some(writer) = output.writer.take() {
                output.objects.push(writer.finish().await.map_err(|error| walk.store(error))?);
            }
            let (kept, total) = kept_of.get(&slot).copied().unwrap_or_default();
            let not_owned = if counted.insert(slot) { total.saturating_sub(kept) } else { 0 };
            let source = walk.sources[slot].name.clone();
            partitions.push(Extracted { source, partition, objects: output.objects, not_owned });
        }
        let content = self.content.hex();
        let rescued = self.drift.values().sum();
        Ok(Sunk { partitions, records: self.records, rescued, content, drift: self.drift, feed: None })
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
        (Some(field), Some(day)) => Ok(owned_by(&batch, field, day)?.batch),
        _ => Ok(batch),
    }
}
