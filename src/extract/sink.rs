//! The CPU half of a walk: decodes pages, sorts rows into days, writes raw objects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use chrono::{DateTime, Utc};
use futures::future::try_join_all;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::conform::Drift;
use super::decode::{Decoded, Decoder, Stamp};
use super::fetch::{Arrival, Arrived, Progress};
use super::intervals::{open_rows, overlaps};
use super::ownership::{Owned, by_day, day_window, owned_by};
use super::walk::{ExtractError, Extracted, Extractor, Scope, Walk};
use crate::catalog::Source;
use crate::state::{Gathered, Overlap, Unfinished, UnfinishedPart};
use crate::store::layout::{Partition, RunId, raw_object};
use crate::store::{Bucket, ObjectRef, TableWriter};

/// A raw object is completed at this size and another begun.
const OBJECT_BYTES: u64 = 256 << 20;
/// So many rows of earlier days are looked at; a fleet that has more of them learns of most.
const MOST_OVERLAPS: usize = 100_000;

/// What a whole walk brought.
pub(super) struct Sunk {
    pub(super) partitions: Vec<Extracted>,
    pub(super) records: u64,
    pub(super) rescued: u64,
    pub(super) content: String,
    pub(super) overlaps: BTreeSet<Overlap>,
    pub(super) drift: Drift,
}

/// Takes the pages of a walk.
pub(super) struct Sink {
    walk: Arc<Walk>,
    bucket: Bucket,
    run: RunId,
    /// Objects begun in this run.
    begun: Arc<AtomicU64>,
    decoder: Decoder,
    extracted_at: DateTime<Utc>,
    notes: Option<mpsc::Sender<Unfinished>>,
    /// What cannot be taken back any more.
    whole: Haul,
    /// What the requests under way brought.
    part: Haul,
}

/// What pages brought, in objects of its own.
#[derive(Default)]
struct Haul {
    /// By source of the walk and partition.
    outputs: BTreeMap<(usize, Partition), Output>,
    records: u64,
    /// Values rescued by an earlier run: what they were is in its report.
    rescued: u64,
    drift: Drift,
    content: Content,
    /// What the pages showed of earlier days.
    overlaps: BTreeSet<Overlap>,
}

impl Haul {
    /// What an earlier run noted.
    fn of(before: &Gathered, walk: &Walk) -> Option<Self> {
        let mut haul = Self {
            records: before.records,
            rescued: before.rescued,
            content: Content::parse(&before.content)?,
            overlaps: before.overlaps.clone(),
            ..Self::default()
        };
        for part in &before.parts {
            let slot = walk.sources.iter().position(|source| source.name == part.source)?;
            let output = Output {
                writer: None,
                objects: part.objects.clone(),
                kept: part.kept,
                total: part.total,
                open: part.open_rows,
                rows: part.objects.iter().map(|object| object.rows).sum(),
            };
            haul.outputs.insert((slot, Partition::parse(&part.partition)?), output);
        }
        Some(haul)
    }

    fn add(&mut self, other: Self) {
        self.records += other.records;
        self.rescued += other.rescued;
        self.content.merge(&other.content);
        self.overlaps.extend(other.overlaps);
        for (key, count) in other.drift {
            *self.drift.entry(key).or_default() += count;
        }
        for (key, output) in other.outputs {
            let mine = self.outputs.entry(key).or_default();
            mine.objects.extend(output.objects);
            mine.kept += output.kept;
            mine.total += output.total;
            mine.open += output.open;
            mine.rows += output.rows;
        }
    }

    /// Completes the objects that are being written.
    async fn close(&mut self, walk: &Walk) -> Result<(), ExtractError> {
        try_join_all(self.outputs.values_mut().map(|output| output.close(walk))).await.map(|_| ())
    }

    fn rescued(&self) -> u64 {
        self.rescued + self.drift.values().sum::<u64>()
    }

    /// For the state; the objects must be closed.
    fn noted(&self, walk: &Walk) -> Gathered {
        let parts = self.outputs.iter().filter(|(_, output)| output.total > 0 || !output.objects.is_empty());
        let parts = parts.map(|((slot, partition), output)| UnfinishedPart {
            source: walk.sources[*slot].name.clone(),
            partition: partition.to_string(),
            objects: output.objects.clone(),
            kept: output.kept,
            total: output.total,
            open_rows: output.open,
        });
        Gathered {
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
    /// Rows and readings of its own that have no end yet.
    open: u64,
    /// Rows that were given to writers: what the objects must hold in the end.
    rows: u64,
}

impl Output {
    async fn close(&mut self, walk: &Walk) -> Result<(), ExtractError> {
        if let Some(writer) = self.writer.take() {
            self.objects.push(writer.finish().await.map_err(|error| walk.store(error))?);
        }
        Ok(())
    }
}

/// What an earlier run had brought of the same walk.
pub(super) struct Before {
    whole: Haul,
    part: Haul,
}

impl Before {
    /// None if the note is not of this walk.
    pub(super) fn of(note: &Unfinished, walk: &Walk) -> Option<Self> {
        let part = match note.resume {
            Some(_) => Haul::of(&note.part, walk)?,
            None => Haul::default(),
        };
        Some(Self { whole: Haul::of(&note.whole, walk)?, part })
    }
}

impl Sink {
    pub(super) fn new(
        extractor: &Extractor,
        walk: Arc<Walk>,
        extracted_at: DateTime<Utc>,
        before: Option<Before>,
        notes: Option<mpsc::Sender<Unfinished>>,
    ) -> Self {
        let sources: Vec<&Source> = walk.sources.iter().collect();
        let decoder = Decoder::new(&sources);
        let mut whole = Haul::default();
        for slot in 0..walk.sources.len() {
            match &walk.scope {
                Scope::Snapshot => {
                    whole.outputs.insert((slot, Partition::Snapshot), Output::default());
                }
                Scope::Days(days) => {
                    whole.outputs.extend(days.iter().map(|day| ((slot, Partition::Day(*day)), Output::default())));
                }
                Scope::Feed { .. } => {}
            }
        }
        let part = match before {
            Some(Before { whole: before, part }) => {
                whole.add(before);
                part
            }
            None => {
                // Equal pages read with another schema, or another idea of their day, are other rows.
                for source in &sources {
                    whole.content.add(format!("{:?}{:?}", source.fields, source.time_field).as_bytes());
                }
                Haul::default()
            }
        };
        Self {
            bucket: extractor.bucket.clone(),
            run: extractor.run.clone(),
            begun: extractor.objects.clone(),
            walk,
            decoder,
            extracted_at,
            notes,
            whole,
            part,
        }
    }

    /// Takes all that arrives, to its end.
    pub(super) async fn drain(mut self, mut arrivals: mpsc::Receiver<Arrival>) -> Result<Sunk, ExtractError> {
        while let Some(arrival) = arrivals.recv().await {
            match arrival {
                Arrival::Page(arrived) => self.page(&arrived).await?,
                Arrival::Note(progress) => self.note(progress).await?,
                Arrival::Seal => self.seal().await?,
                // What was written of it stays behind without a name, and is swept later.
                Arrival::Drop => self.part = Haul::default(),
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
    async fn note(&mut self, progress: Progress) -> Result<(), ExtractError> {
        let Some(notes) = &self.notes else { return Ok(()) };
        self.part.close(&self.walk).await?;
        let note = Unfinished {
            asked: progress.asked,
            requests: progress.requests,
            rest: progress.rest,
            resume: progress.resume,
            extracted_at: self.extracted_at,
            whole: self.whole.noted(&self.walk),
            part: self.part.noted(&self.walk),
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
            request: arrival.request.identity(),
            reason,
        };
        self.part.content.add(&arrival.page.records);
        let decoded = self.decoder.decode(&arrival.page).map_err(|reason| wrong(&self.walk, reason))?;
        self.part.records += decoded.count;
        for (key, count) in &decoded.drift {
            *self.part.drift.entry(key.clone()).or_default() += count;
        }
        let overlaps = self.overlaps(arrival, &decoded).map_err(|reason| wrong(&self.walk, reason))?;
        self.part.overlaps.extend(overlaps);
        for sorted in self.sort(arrival, &decoded).map_err(|reason| wrong(&self.walk, reason))? {
            self.write(sorted).await?;
        }
        Ok(())
    }

    /// What a page shows of days before those that were asked for.
    fn overlaps(&self, arrival: &Arrived, decoded: &Decoded) -> Result<BTreeSet<Overlap>, String> {
        let mut found = BTreeSet::new();
        let Scope::Days(days) = &self.walk.scope else { return Ok(found) };
        for (slot, source) in self.walk.sources.iter().enumerate().filter(|(_, source)| source.end_field.is_some()) {
            let Some(first) = days.first() else { continue };
            let stamp = Stamp { window: None, parent: arrival.parent.as_deref(), extracted_at: self.extracted_at };
            let rows = self.decoder.rows(decoded, slot, stamp)?;
            found.extend(overlaps(&rows, source, *first, self.extracted_at)?);
        }
        let room = MOST_OVERLAPS.saturating_sub(self.whole.overlaps.len() + self.part.overlaps.len());
        if room > 0 && found.len() > room {
            let (source, days) = (self.walk.tables(), self.walk.scope.to_string());
            tracing::warn!(
                source,
                days,
                "more than {MOST_OVERLAPS} rows last into these days, the rest is not compared"
            );
        }
        Ok(found.into_iter().take(room).collect())
    }

    /// Gives each row of a page to the source and partition that own it, and to no second one.
    fn sort(&self, arrival: &Arrived, decoded: &Decoded) -> Result<Vec<Sorted>, String> {
        let mut sorted = Vec::new();
        for (slot, source) in self.walk.sources.iter().enumerate() {
            let rows = |window| {
                let stamp = Stamp { window, parent: arrival.parent.as_deref(), extracted_at: self.extracted_at };
                self.decoder.rows(decoded, slot, stamp)
            };
            // What the days own, and what there is to own: rows, or readings inside rows.
            let (mut owned, mut of) = (0, 0);
            match (&self.walk.scope, &source.time_field) {
                (Scope::Snapshot, _) => {
                    let batch = rows(None)?;
                    sorted.push(Sorted { slot, partition: Partition::Snapshot, batch, kept: 0, total: 0, open: 0 });
                }
                (Scope::Days(days), field) => {
                    for day in days {
                        let batch = rows(Some(day_window(*day)))?;
                        let Owned { batch, kept, total } = match field {
                            Some(field) => owned_by(&batch, field, *day, arrival.asked)?,
                            // Without a time, all rows are the asked day's.
                            None => Owned { kept: batch.num_rows() as u64, total: batch.num_rows() as u64, batch },
                        };
                        (owned, of) = (owned + kept, total);
                        let open = open_rows(&batch, source, self.extracted_at)?;
                        sorted.push(Sorted { slot, partition: Partition::Day(*day), batch, kept, total, open });
                    }
                }
                (Scope::Feed { .. }, field) => {
                    let field = field.as_ref().ok_or("a feed needs a time_field")?;
                    let all = rows(None)?;
                    for day in by_day(&all, field)?.into_keys() {
                        // The day is the row's window, as for sources that are asked by day.
                        let Some(batch) = by_day(&rows(Some(day_window(day)))?, field)?.remove(&day) else { continue };
                        owned += batch.num_rows() as u64;
                        sorted.push(Sorted { slot, partition: Partition::Day(day), batch, kept: 0, total: 0, open: 0 });
                    }
                    of = all.num_rows() as u64;
                    if owned < of {
                        return Err(format!("of {of} rows only {owned} are owned by a day"));
                    }
                }
            }
            if owned > of {
                return Err(format!("of {of} rows or readings {owned} are owned: some by more than one day"));
            }
        }
        Ok(sorted)
    }

    async fn write(&mut self, sorted: Sorted) -> Result<(), ExtractError> {
        let Sorted { slot, partition, batch, kept, total, open } = sorted;
        let output = self.part.outputs.entry((slot, partition)).or_default();
        output.kept += kept;
        output.total += total;
        output.open += open;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        output.rows += batch.num_rows() as u64;
        let walk = &self.walk;
        let writer = match &mut output.writer {
            Some(writer) => writer,
            empty => {
                let number = self.begun.fetch_add(1, Ordering::Relaxed);
                let key = raw_object(&walk.sources[slot].name, partition, &self.run, number);
                let writer = TableWriter::begin(&self.bucket, key, batch.schema()).map_err(|e| walk.store(e))?;
                empty.insert(writer)
            }
        };
        writer.write(&batch).await.map_err(|error| walk.store(error))?;
        if writer.bytes() >= OBJECT_BYTES {
            output.close(walk).await?;
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
        let rescued = whole.rescued();
        let content = whole.content.hex();
        let overlaps = whole.overlaps;
        let mut partitions = Vec::with_capacity(whole.outputs.len());
        for ((slot, partition), output) in whole.outputs {
            let source = walk.sources[slot].name.clone();
            let written = output.objects.iter().map(|object| object.rows).sum();
            if written != output.rows {
                return Err(ExtractError::Ledger { table: source, partition, owned: output.rows, written });
            }
            let (kept, total) = kept_of.get(&slot).copied().unwrap_or_default();
            let not_owned = if counted.insert(slot) { total.saturating_sub(kept) } else { 0 };
            let (objects, open_rows) = (output.objects, output.open);
            partitions.push(Extracted { source, partition, objects, not_owned, open_rows });
        }
        Ok(Sunk { partitions, records: whole.records, rescued, content, overlaps, drift: whole.drift })
    }
}
