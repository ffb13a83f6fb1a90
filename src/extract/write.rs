//! The CPU half of a task: decodes pages, sorts rows into days, writes raw objects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use chrono::{DateTime, Utc};
use futures::future::try_join_all;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::assign_day::{DayRows, Instants, day_window, rows_by_day, rows_of_one_day};
use super::decode::{Decoded, Decoder, Envelope, Stamp};
use super::drift::{Drift, DriftKey};
use super::expiring::lasting;
use super::extractor::{ExtractError, ExtractTask, Extracted, Extractor, Scope};
use super::fetch::{FetchedPage, Message, Progress};
use super::intervals::{open_rows, overlaps};
use super::misfits::UNKNOWN;
use super::outside::Outside;
use crate::catalog::{FieldPath, Source};
use crate::events::{Event, Observer};
use crate::json::path::shorten;
use crate::samsara::Page;
use crate::state::{Checkpoint, CheckpointPartition, CheckpointResult, Overlap};
use crate::store::layout::{Partition, RunId, raw_object};
use crate::store::{Bucket, ObjectRef, TableWriter};

/// A raw object is completed at this size and another begun.
const OBJECT_BYTES: u64 = 256 << 20;
/// So many rows of earlier days are looked at; a fleet that has more of them learns of most.
const MOST_OVERLAPS: usize = 100_000;
/// So many envelope fields of pages without rows are told with their text, for each task.
const MOST_ENVELOPE_FIELDS: u64 = 100;
/// Their text is told as far as this, in bytes.
const LONGEST_ENVELOPE_FIELD: usize = 16 << 10;

/// What a whole task brought.
pub(super) struct WriterOutput {
    pub(super) partitions: Vec<Extracted>,
    pub(super) records: u64,
    pub(super) content: String,
    pub(super) overlaps: BTreeSet<Overlap>,
    /// What did not fit, the sources that it concerns, and how often.
    pub(super) drift: Vec<(Vec<String>, DriftKey, u64)>,
    /// What lies far outside the asked days, by source.
    pub(super) outside: Vec<(String, Outside)>,
    /// What was taken of the page on which the asked days of a feed end.
    pub(super) tail: Option<CheckpointResult>,
}

/// Takes the pages of a task.
pub(super) struct RawWriter {
    task: Arc<ExtractTask>,
    bucket: Bucket,
    run: RunId,
    /// Objects begun in this run.
    begun: Arc<AtomicU64>,
    decoder: Arc<Decoder>,
    /// Fields that are other at each read, of all sources of the task.
    expiring: Vec<FieldPath>,
    extracted_at: DateTime<Utc>,
    checkpoints: Option<mpsc::Sender<Checkpoint>>,
    observer: Arc<dyn Observer>,
    /// Envelope fields that no row could carry, so far.
    envelope_fields: u64,
    /// What cannot be taken back any more.
    whole: PartialResult,
    /// What the requests under way brought.
    part: PartialResult,
    tail: Option<CheckpointResult>,
}

/// What pages brought, in objects of its own.
#[derive(Default)]
struct PartialResult {
    /// By source of the task and partition.
    outputs: BTreeMap<(usize, Partition), Output>,
    records: u64,
    /// Values rescued by an earlier run: what they were is in its report.
    rescued: u64,
    drift: Drift,
    /// By source of the task.
    outside: BTreeMap<usize, Outside>,
    content: Content,
    /// What the pages showed of earlier days.
    overlaps: BTreeSet<Overlap>,
}

impl PartialResult {
    /// What an earlier run noted.
    fn of(before: &CheckpointResult, task: &ExtractTask) -> Option<Self> {
        let mut partial = Self {
            records: before.records,
            rescued: before.rescued,
            content: Content::parse(&before.content)?,
            overlaps: before.overlaps.clone(),
            ..Self::default()
        };
        for part in &before.parts {
            let slot = task
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
                .insert((slot, Partition::parse(&part.partition)?), output);
        }
        Some(partial)
    }

    fn add(&mut self, other: Self) {
        self.records += other.records;
        self.rescued += other.rescued;
        self.content.merge(&other.content);
        self.overlaps.extend(other.overlaps);
        self.drift.merge(other.drift);
        for (slot, outside) in other.outside {
            self.add_outside(slot, outside);
        }
        for (key, output) in other.outputs {
            let mine = self.outputs.entry(key).or_default();
            mine.objects.extend(output.objects);
            mine.rescued += output.rescued;
            mine.kept += output.kept;
            mine.total += output.total;
            mine.open += output.open;
            mine.rows += output.rows;
        }
    }

    fn add_outside(&mut self, slot: usize, outside: Outside) {
        match self.outside.get_mut(&slot) {
            Some(known) => known.merge(outside),
            None => _ = self.outside.insert(slot, outside),
        }
    }

    /// Completes the objects that are being written.
    async fn close(&mut self, task: &ExtractTask) -> Result<(), ExtractError> {
        try_join_all(self.outputs.values_mut().map(|output| output.close(task)))
            .await
            .map(|_| ())
    }

    fn rescued(&self) -> u64 {
        self.rescued
            + self
                .outputs
                .values()
                .map(|output| output.rescued)
                .sum::<u64>()
    }

    /// For the state; the objects must be closed.
    fn checkpoint(&self, task: &ExtractTask) -> CheckpointResult {
        let parts = self
            .outputs
            .iter()
            .filter(|(_, output)| output.total > 0 || !output.objects.is_empty());
        let parts = parts.map(|((slot, partition), output)| CheckpointPartition {
            source: task.sources[*slot].name.clone(),
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

/// A digest of pages in whatever order they arrive: fan-outs ask for several at a time.
#[derive(Default)]
struct Content([u64; 4]);

impl Content {
    /// Adds the columns of a source: equal pages read with other columns are other rows.
    fn add_columns(&mut self, source: &Source) {
        self.add(&[format!("{:?}{:?}", source.fields, source.time_field).as_bytes()]);
    }

    /// Adds what a page gave to rows: whose it is, its records, and what stands beside them. Without any of that it
    /// adds nothing, so that a parent that has nothing changes nothing.
    fn add_page(&mut self, parent: Option<&str>, records: &[u8], page: &Page) {
        if page.is_empty && page.beside.is_empty() {
            return;
        }
        let mut parts = vec![parent.unwrap_or_default().as_bytes(), records];
        for (path, text) in &page.beside {
            parts.extend([path.as_bytes(), &text[..]]);
        }
        self.add(&parts);
    }

    fn add(&mut self, parts: &[&[u8]]) {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let digest = hasher.finalize();
        for (sum, word) in self.0.iter_mut().zip(digest.chunks_exact(8)) {
            let word = word
                .iter()
                .fold(0, |word, byte| word << 8 | u64::from(*byte));
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
    rescued: u64,
    open: u64,
}

#[derive(Default)]
struct Output {
    writer: Option<TableWriter>,
    objects: Vec<ObjectRef>,
    /// Rows, or readings inside rows, that the partition owns.
    kept: u64,
    /// The same before.
    total: u64,
    /// Values in `_rescued_data`.
    rescued: u64,
    /// Rows and readings of its own that have no end yet.
    open: u64,
    /// Rows that were given to writers: what the objects must hold in the end.
    rows: u64,
}

impl Output {
    async fn close(&mut self, task: &ExtractTask) -> Result<(), ExtractError> {
        if let Some(writer) = self.writer.take() {
            self.objects
                .push(writer.finish().await.map_err(|error| task.store(error))?);
        }
        Ok(())
    }
}

/// What an earlier run had brought of the same task.
pub(super) struct Restored {
    whole: PartialResult,
    part: PartialResult,
}

impl Restored {
    /// None if the checkpoint is not of this task.
    pub(super) fn of(checkpoint: &Checkpoint, task: &ExtractTask) -> Option<Self> {
        let part = match checkpoint.resume {
            Some(_) => PartialResult::of(&checkpoint.part, task)?,
            None => PartialResult::default(),
        };
        Some(Self {
            whole: PartialResult::of(&checkpoint.whole, task)?,
            part,
        })
    }
}

impl RawWriter {
    pub(super) fn new(
        extractor: &Extractor,
        task: Arc<ExtractTask>,
        extracted_at: DateTime<Utc>,
        before: Option<Restored>,
        checkpoints: Option<mpsc::Sender<Checkpoint>>,
    ) -> Self {
        let sources: Vec<&Source> = task.sources.iter().collect();
        let decoder = Arc::new(Decoder::new(&sources));
        let expiring = sources
            .iter()
            .flat_map(|source| source.expiring.iter().cloned())
            .collect();
        let mut whole = PartialResult::default();
        for slot in 0..task.sources.len() {
            match &task.scope {
                Scope::Snapshot => {
                    whole
                        .outputs
                        .insert((slot, Partition::Snapshot), Output::default());
                }
                Scope::Days(days) => {
                    whole.outputs.extend(
                        days.iter()
                            .map(|day| ((slot, Partition::Day(*day)), Output::default())),
                    );
                }
                Scope::Feed { .. } => {}
            }
        }
        let part = match before {
            Some(Restored {
                whole: before,
                part,
            }) => {
                whole.add(before);
                part
            }
            None => {
                sources
                    .iter()
                    .for_each(|source| whole.content.add_columns(source));
                PartialResult::default()
            }
        };
        Self {
            bucket: extractor.bucket.clone(),
            run: extractor.run.clone(),
            begun: extractor.objects.clone(),
            task,
            decoder,
            expiring,
            extracted_at,
            checkpoints,
            observer: extractor.observer.clone(),
            envelope_fields: 0,
            whole,
            part,
            tail: None,
        }
    }

    /// Takes all that arrives, to its end.
    pub(super) async fn drain(
        mut self,
        mut arrivals: mpsc::Receiver<Message>,
    ) -> Result<WriterOutput, ExtractError> {
        while let Some(arrival) = arrivals.recv().await {
            match arrival {
                Message::Page(arrived) => self.page(*arrived).await?,
                Message::Checkpoint(progress) => self.checkpoint(progress).await?,
                Message::Commit => self.commit().await?,
                // What was written of it stays behind without a name, and is swept later.
                Message::Abort => self.part = PartialResult::default(),
            }
        }
        self.finish().await
    }

    async fn commit(&mut self) -> Result<(), ExtractError> {
        self.part.close(&self.task).await?;
        self.whole.add(std::mem::take(&mut self.part));
        Ok(())
    }

    /// Makes safe what has come so far, and tells.
    async fn checkpoint(&mut self, progress: Progress) -> Result<(), ExtractError> {
        let Some(checkpoints) = &self.checkpoints else {
            return Ok(());
        };
        self.part.close(&self.task).await?;
        let checkpoint = Checkpoint {
            asked: progress.asked,
            requests: progress.requests,
            rest: progress.rest,
            resume: progress.resume,
            extracted_at: self.extracted_at,
            whole: self.whole.checkpoint(&self.task),
            part: self.part.checkpoint(&self.task),
        };
        // Nobody listens any more: then the task has its end elsewhere.
        let _ = checkpoints.send(checkpoint).await;
        Ok(())
    }

    async fn page(&mut self, mut arrival: FetchedPage) -> Result<(), ExtractError> {
        let told = arrival.is_past.take();
        let arrival = &arrival;
        let page = &arrival.page;
        let task = self.task.clone();
        let wrong = |reason: String| ExtractError::Page {
            tables: task.tables(),
            scope: task.scope.to_string(),
            page: page.number,
            request: arrival.request.identity(),
            reason,
        };
        let decoder = self.decoder.clone();
        let mut outsides = self.outsides();
        // Each source gives what stands beside the list to the first row that it has of the page.
        let mut envelopes = vec![page.beside.clone(); task.sources.len()];
        let mut decoding = decoder.begin(page).map_err(wrong)?;
        // Where the asked days of a feed end, nothing of the page is written before that is known.
        let waits = matches!(&task.scope, Scope::Feed { until: Some(_), .. });
        let (mut records, mut is_past, mut waiting) = (0, false, Vec::new());
        while let Some(decoded) = decoding.next().map_err(wrong)? {
            records += decoded.count();
            let overlaps = self.overlaps(arrival, &decoded).map_err(wrong)?;
            self.part.overlaps.extend(overlaps);
            let mut sorted = self
                .sort(arrival, &decoded, &mut envelopes, &mut outsides)
                .map_err(wrong)?;
            is_past |= self.leave_out(&mut sorted);
            if waits {
                waiting.extend(sorted);
                continue;
            }
            for sorted in sorted {
                self.write(sorted).await?;
            }
        }
        if let Some(told) = told {
            // Whoever has stopped asking wants no answer.
            let _ = told.send(is_past);
        }
        if is_past {
            // The page comes again as a whole when its other days are asked for: what is taken of it now is kept apart.
            self.commit().await?;
            records = waiting
                .iter()
                .map(|rows| rows.batch.num_rows() as u64)
                .sum();
        }
        self.part.records += records;
        let lasting =
            lasting(&page.records, &self.expiring).map_err(|error| wrong(error.to_string()))?;
        self.part
            .content
            .add_page(arrival.parent.as_deref(), &lasting, page);
        for sorted in waiting {
            self.write(sorted).await?;
        }
        self.part.drift.merge(decoding.into_drift());
        for (path, _) in &page.beside {
            self.part.drift.add(None, path, UNKNOWN, 1);
        }
        for (slot, outside) in outsides.into_iter().enumerate() {
            if let Some(outside) = outside.filter(|outside| outside.count > 0) {
                self.part.add_outside(slot, outside);
            }
        }
        if !page.beside.is_empty() && envelopes.iter().all(|envelope| !envelope.is_empty()) {
            self.tell_envelope(page);
        }
        if is_past {
            self.part.close(&self.task).await?;
            self.tail =
                Some(self.part.checkpoint(&self.task)).filter(|tail| !tail.parts.is_empty());
        }
        Ok(())
    }

    /// What records show of days before those that were asked for.
    fn overlaps(
        &self,
        arrival: &FetchedPage,
        decoded: &Decoded<'_>,
    ) -> Result<BTreeSet<Overlap>, String> {
        let mut found = BTreeSet::new();
        let Scope::Days(days) = &self.task.scope else {
            return Ok(found);
        };
        for (slot, source) in self
            .task
            .sources
            .iter()
            .enumerate()
            .filter(|(_, source)| source.end_field.is_some())
        {
            let Some(first) = days.first() else { continue };
            let rows = self
                .decoder
                .rows_with_parent(decoded, slot, arrival.parent.as_deref())?;
            found.extend(overlaps(&rows, source, *first, self.extracted_at)?);
        }
        let room =
            MOST_OVERLAPS.saturating_sub(self.whole.overlaps.len() + self.part.overlaps.len());
        if room > 0 && found.len() > room {
            let (source, days) = (self.task.tables(), self.task.scope.to_string());
            tracing::warn!(
                source,
                days,
                "more than {MOST_OVERLAPS} rows last into these days, the rest is not compared"
            );
        }
        Ok(found.into_iter().take(room).collect())
    }

    /// For each source what is far outside the asked days; nothing is for a list, or for a feed.
    fn outsides(&self) -> Vec<Option<Outside>> {
        let asked = match &self.task.scope {
            Scope::Days(_) => self.task.window(),
            _ => None,
        };
        let outside = |source: &Source| Some(Outside::of(source, asked?));
        self.task.sources.iter().map(outside).collect()
    }

    /// Tells the envelope fields of a page of which no row is written: only there are they to be found.
    fn tell_envelope(&mut self, page: &Page) {
        let partition = match &self.task.scope {
            Scope::Snapshot => Some(Partition::Snapshot),
            Scope::Days(days) => days.first().map(|day| Partition::Day(*day)),
            Scope::Feed { .. } => None,
        };
        for (path, text) in &page.beside {
            self.envelope_fields += 1;
            if self.envelope_fields <= MOST_ENVELOPE_FIELDS {
                self.observer.observe(&Event::EnvelopeFieldKept {
                    sources: self
                        .task
                        .sources
                        .iter()
                        .map(|source| source.name.clone())
                        .collect(),
                    partition,
                    path: shorten(path, LONGEST_ENVELOPE_FIELD).into_owned(),
                    text: shorten(&String::from_utf8_lossy(text), LONGEST_ENVELOPE_FIELD)
                        .into_owned(),
                });
            }
        }
    }

    /// Leaves out the rows behind the days of a feed that were asked for, and tells whether there were any.
    fn leave_out(&self, sorted: &mut Vec<Sorted>) -> bool {
        let Scope::Feed {
            until: Some(until), ..
        } = &self.task.scope
        else {
            return false;
        };
        let before = sorted.len();
        sorted.retain(|rows| rows.partition.day().is_none_or(|day| day < *until));
        sorted.len() < before
    }

    /// Gives each row of a page to the source and partition that own it, and to no second one.
    fn sort(
        &self,
        arrival: &FetchedPage,
        decoded: &Decoded<'_>,
        envelopes: &mut [Envelope],
        outsides: &mut [Option<Outside>],
    ) -> Result<Vec<Sorted>, String> {
        let mut sorted = Vec::new();
        for (slot, source) in self.task.sources.iter().enumerate() {
            let rows = self.decoder.rows(decoded, slot)?;
            let envelope = &mut envelopes[slot];
            let mut add = |partition: Partition, owned: &DayRows, counts: (u64, u64)| {
                let window = partition.day().map(day_window);
                let stamp = Stamp {
                    window,
                    parent: arrival.parent.as_deref(),
                    extracted_at: self.extracted_at,
                };
                let (batch, rescued) = self
                    .decoder
                    .stamp(decoded, slot, &rows, owned, stamp, envelope)?;
                let (kept, total) = counts;
                let open = open_rows(&batch, source, self.extracted_at)?;
                sorted.push(Sorted {
                    slot,
                    partition,
                    batch,
                    kept,
                    total,
                    rescued,
                    open,
                });
                Ok::<_, String>(())
            };
            // What the days own, and what there is to own: rows, or readings inside rows.
            let (mut owned, mut of) = (0, 0);
            match (&self.task.scope, &source.time_field) {
                (Scope::Snapshot, _) => add(
                    Partition::Snapshot,
                    &DayRows::all(rows.batch.clone()),
                    (0, 0),
                )?,
                (Scope::Days(days), field) => {
                    // Once is enough: what is far from one asked day is far from all of them.
                    let mut outside = outsides[slot].as_mut();
                    let mut instants = Instants::default();
                    for day in days {
                        let found = match field {
                            Some(field) => rows_of_one_day(
                                &rows.batch,
                                field,
                                *day,
                                arrival.asked,
                                outside.take(),
                                &mut instants,
                            )?,
                            // Without a time, all rows are the asked day's.
                            None => DayRows::all(rows.batch.clone()),
                        };
                        (owned, of) = (owned + found.kept, found.total);
                        add(Partition::Day(*day), &found, (found.kept, found.total))?;
                    }
                }
                (Scope::Feed { .. }, field) => {
                    let field = field.as_ref().ok_or("a feed needs a time_field")?;
                    of = rows.batch.num_rows() as u64;
                    for (day, its_rows) in rows_by_day(&rows.batch, field)? {
                        // The day is the row's window, as for sources that are asked by day.
                        let found = DayRows::these(&rows.batch, its_rows)?;
                        owned += found.kept;
                        add(Partition::Day(day), &found, (0, 0))?;
                    }
                    if owned < of {
                        return Err(format!("of {of} rows only {owned} are owned by a day"));
                    }
                }
            }
            if owned > of {
                return Err(format!(
                    "of {of} rows or readings {owned} are owned: some by more than one day"
                ));
            }
        }
        Ok(sorted)
    }

    async fn write(&mut self, sorted: Sorted) -> Result<(), ExtractError> {
        let Sorted {
            slot,
            partition,
            batch,
            kept,
            total,
            rescued,
            open,
        } = sorted;
        let output = self.part.outputs.entry((slot, partition)).or_default();
        output.kept += kept;
        output.total += total;
        output.rescued += rescued;
        output.open += open;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        output.rows += batch.num_rows() as u64;
        let task = &self.task;
        let writer = match &mut output.writer {
            Some(writer) => writer,
            empty => {
                let number = self.begun.fetch_add(1, Ordering::Relaxed);
                let key = raw_object(&task.sources[slot].name, partition, &self.run, number);
                let writer = TableWriter::begin(&self.bucket, key, batch.schema())
                    .map_err(|e| task.store(e))?;
                empty.insert(writer)
            }
        };
        writer
            .write(&batch)
            .await
            .map_err(|error| task.store(error))?;
        if writer.bytes() >= OBJECT_BYTES {
            output.close(task).await?;
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<WriterOutput, ExtractError> {
        self.commit().await?;
        let (task, whole, tail) = (self.task, self.whole, self.tail);
        // Rows that no asked day owns are left out once, however many days were asked for together.
        let mut kept_of: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
        for ((slot, _), output) in &whole.outputs {
            let sums = kept_of.entry(*slot).or_default();
            sums.0 += output.kept;
            sums.1 = sums.1.max(output.total);
        }
        let mut counted: BTreeSet<usize> = BTreeSet::new();
        let content = whole.content.hex();
        let overlaps = whole.overlaps;
        let name = |slot: usize| task.sources[slot].name.clone();
        let drift = whole.drift.into_found().map(|(column, key, count)| {
            let sources = self.decoder.sources_with(column).map(name).collect();
            (sources, key, count)
        });
        let drift = drift.collect();
        let outside = whole
            .outside
            .into_iter()
            .map(|(slot, outside)| (name(slot), outside))
            .collect();
        // What an earlier run had rescued is counted with the first partition.
        let mut rescued_before = whole.rescued;
        let mut partitions = Vec::with_capacity(whole.outputs.len());
        for ((slot, partition), output) in whole.outputs {
            let source = task.sources[slot].name.clone();
            let written = output.objects.iter().map(|object| object.rows).sum();
            if written != output.rows {
                return Err(ExtractError::Ledger {
                    table: source,
                    partition,
                    owned: output.rows,
                    written,
                });
            }
            let (kept, total) = kept_of.get(&slot).copied().unwrap_or_default();
            let out_of_window = if counted.insert(slot) {
                total.saturating_sub(kept)
            } else {
                0
            };
            let rescued = output.rescued + std::mem::take(&mut rescued_before);
            let (objects, open_rows) = (output.objects, output.open);
            partitions.push(Extracted {
                source,
                partition,
                objects,
                out_of_window,
                rescued,
                open_rows,
            });
        }
        Ok(WriterOutput {
            partitions,
            records: whole.records,
            content,
            overlaps,
            drift,
            outside,
            tail,
        })
    }
}
