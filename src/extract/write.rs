//! The CPU half of a task: writes the rows of decoded pages to the raw objects of their days.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::FutureExt;
use futures::future::try_join;
use tokio::sync::mpsc;

use super::checkpoint::Progress;
use super::decode_ahead::{PAGES_AHEAD, PageDecoder, PageEnd, PageRows, Work};
use super::drift::DriftKey;
use super::error::ExtractError;
use super::fetch::Message;
use super::misfits::UNKNOWN;
use super::outcome::Extracted;
use super::outside::Outside;
use super::partial_result::{Output, PartialResult};
use super::request::{ExtractTask, Scope};
use super::sort::Sorted;
use crate::events::{Event, Observer};
use crate::json::path::shorten;
use crate::state::{Checkpoint, CheckpointResult, Overlap};
use crate::store::layout::{Partition, RunId, raw_object};
use crate::store::{Bucket, TableWriter};

/// A raw object is completed at this size and another one is begun.
const OBJECT_BYTES: u64 = 256 << 20;
/// Number of rows of earlier days that are looked at; a fleet with more of them finds most changes.
const MOST_OVERLAPS: usize = 100_000;
/// Number of envelope fields of pages without rows that are reported with their text, for each task.
const MOST_ENVELOPE_FIELDS: u64 = 100;
/// Their text is cut after this many bytes.
const LONGEST_ENVELOPE_FIELD: usize = 16 << 10;

/// What a whole task brought.
pub(super) struct WriterOutput {
    pub(super) partitions: Vec<Extracted>,
    pub(super) records: u64,
    pub(super) content: String,
    pub(super) overlaps: BTreeSet<Overlap>,
    /// What did not fit, the sources that it concerns, and how often.
    pub(super) drift: Vec<(Vec<String>, DriftKey, u64)>,
    /// Rows far outside the requested days, by source.
    pub(super) outside: Vec<(String, Outside)>,
    /// What was taken of the page on which the requested days of a feed end.
    pub(super) tail: Option<CheckpointResult>,
}

/// Where a run writes its raw objects.
pub(super) struct WriteTarget {
    pub(super) bucket: Bucket,
    /// The run that names the objects.
    pub(super) run: RunId,
    /// Objects begun in this run.
    pub(super) begun: Arc<AtomicU64>,
    pub(super) observer: Arc<dyn Observer>,
}

/// Takes the pages of a task.
pub(super) struct RawWriter {
    task: Arc<ExtractTask>,
    target: WriteTarget,
    decoder: Arc<PageDecoder>,
    extracted_at: DateTime<Utc>,
    checkpoints: Option<mpsc::Sender<Checkpoint>>,
    /// Envelope fields so far that no row could store.
    envelope_fields: u64,
    /// What finished requests brought.
    whole: PartialResult,
    /// What the requests under way brought.
    part: PartialResult,
    tail: Option<CheckpointResult>,
}

impl RawWriter {
    /// For a task that begins.
    pub(super) fn begin(
        target: WriteTarget,
        task: Arc<ExtractTask>,
        extracted_at: DateTime<Utc>,
        checkpoints: Option<mpsc::Sender<Checkpoint>>,
    ) -> Self {
        let mut writer = Self::empty(target, task, extracted_at, checkpoints);
        for source in &writer.task.sources {
            writer.whole.content.add_columns(source);
        }
        writer
    }

    /// Continues a task from the results of an earlier run.
    pub(super) fn resume(
        target: WriteTarget,
        task: Arc<ExtractTask>,
        extracted_at: DateTime<Utc>,
        checkpoints: Option<mpsc::Sender<Checkpoint>>,
        (whole, part): (PartialResult, PartialResult),
    ) -> Self {
        let mut writer = Self::empty(target, task, extracted_at, checkpoints);
        writer.whole.add(whole);
        writer.part = part;
        writer
    }

    fn empty(
        target: WriteTarget,
        task: Arc<ExtractTask>,
        extracted_at: DateTime<Utc>,
        checkpoints: Option<mpsc::Sender<Checkpoint>>,
    ) -> Self {
        // A requested partition without rows is a result too.
        let asked = task.scope.partitions().into_iter().flat_map(|partition| {
            (0..task.sources.len())
                .map(move |source_index| ((source_index, partition), Output::default()))
        });
        Self {
            whole: PartialResult {
                outputs: asked.collect(),
                ..PartialResult::default()
            },
            decoder: Arc::new(PageDecoder::new(task.clone(), extracted_at)),
            part: PartialResult::default(),
            target,
            task,
            extracted_at,
            checkpoints,
            envelope_fields: 0,
            tail: None,
        }
    }

    /// Takes all messages, to the last.
    pub(super) async fn drain(
        self,
        messages: mpsc::Receiver<Message>,
    ) -> Result<WriterOutput, ExtractError> {
        let (send, work) = mpsc::channel(PAGES_AHEAD);
        let decoding = self.decoder.clone().decode(messages, send);
        // An error of the writer ends both.
        let (written, ()) = try_join(self.write_all(work), decoding.map(Ok)).await?;
        Ok(written)
    }

    async fn write_all(
        mut self,
        mut work: mpsc::Receiver<Work>,
    ) -> Result<WriterOutput, ExtractError> {
        while let Some(work) = work.recv().await {
            match work {
                Work::Page(page) => self.page(page).await?,
                Work::Checkpoint(progress) => self.checkpoint(progress).await?,
                Work::Commit => self.commit().await?,
                // What was written of it is a leftover that no state lists, which `clean` removes.
                Work::Abort => self.part = PartialResult::default(),
            }
        }
        self.finish().await
    }

    async fn commit(&mut self) -> Result<(), ExtractError> {
        self.part.close(&self.task).await?;
        self.whole.add(std::mem::take(&mut self.part));
        Ok(())
    }

    /// Completes the current objects, and sends the checkpoint that lists them.
    async fn checkpoint(&mut self, progress: Progress) -> Result<(), ExtractError> {
        let Some(checkpoints) = &self.checkpoints else {
            return Ok(());
        };
        self.part.close(&self.task).await?;
        let checkpoint =
            progress.checkpoint(&self.task, self.extracted_at, &self.whole, &self.part);
        // If the channel is closed, the task has ended for another reason.
        let _ = checkpoints.send(checkpoint).await;
        Ok(())
    }

    async fn page(&mut self, mut page: PageRows) -> Result<(), ExtractError> {
        // If the requested days of a feed may end here, nothing of the page is written until that is known.
        let is_held_back = self.decoder.until().is_some();
        let (mut records, mut is_past, mut waiting) = (0, false, Vec::new());
        while let Some(part) = page.next().await {
            records += part.records;
            is_past |= part.is_past;
            self.add_overlaps(part.overlaps);
            if is_held_back {
                waiting.extend(part.sorted);
                continue;
            }
            for sorted in part.sorted {
                self.write(sorted).await?;
            }
        }
        let mut end = page.end(&self.task).await?;
        if let Some(question) = end.question.take() {
            // If nobody receives the answer, fetching has ended.
            let _ = question.send(is_past);
        }
        if is_past {
            // The page is returned again as a whole when its other days are requested, so its rows are kept apart.
            self.commit().await?;
            let taken = waiting.iter().map(|rows| rows.batch.num_rows() as u64);
            records = taken.sum();
        }
        self.part.records += records;
        self.part.content.merge(&end.content);
        for sorted in waiting {
            self.write(sorted).await?;
        }
        self.add_findings(end);
        if is_past {
            self.part.close(&self.task).await?;
            let tail = self.part.checkpoint_result(&self.task);
            self.tail = Some(tail).filter(|tail| !tail.parts.is_empty());
        }
        Ok(())
    }

    /// Keeps what a page had besides its rows: schema drift, envelope fields, rows far outside the requested days.
    fn add_findings(&mut self, end: PageEnd) {
        self.part.drift.merge(end.drift);
        for (path, _) in &end.envelope {
            self.part.drift.add(None, path, UNKNOWN, 1);
        }
        for (source_index, outside) in end.outsides {
            self.part.add_outside(source_index, outside);
        }
        if end.has_envelope_left {
            self.report_envelope(&end.envelope);
        }
    }

    /// Keeps what records show of days before those that were requested.
    fn add_overlaps(&mut self, found: BTreeSet<Overlap>) {
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
        self.part.overlaps.extend(found.into_iter().take(room));
    }

    /// Reports the envelope fields of a page without written rows: no row can store them.
    fn report_envelope(&mut self, envelope: &[(String, Bytes)]) {
        let partition = match &self.task.scope {
            Scope::Snapshot => Some(Partition::Snapshot),
            Scope::Days(days) => days.first().map(|day| Partition::Day(*day)),
            Scope::Feed { .. } | Scope::Updates { .. } => None,
        };
        for (path, text) in envelope {
            self.envelope_fields += 1;
            if self.envelope_fields <= MOST_ENVELOPE_FIELDS {
                self.target.observer.observe(&Event::EnvelopeFieldKept {
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

    async fn write(&mut self, sorted: Sorted) -> Result<(), ExtractError> {
        let Sorted {
            source_index,
            partition,
            batch,
            kept,
            total,
            rescued,
            open,
        } = sorted;
        let output = self
            .part
            .outputs
            .entry((source_index, partition))
            .or_default();
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
                let number = self.target.begun.fetch_add(1, Ordering::Relaxed);
                let key = raw_object(
                    &task.sources[source_index].name,
                    partition,
                    &self.target.run,
                    number,
                );
                let writer = TableWriter::begin_raw(&self.target.bucket, key, batch.schema())
                    .map_err(|error| task.store(error))?;
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
        let (task, whole) = (&self.task, self.whole);
        let out_of_window = out_of_window(&whole);
        let content = whole.content.hex();
        let name = |source_index: usize| task.sources[source_index].name.clone();
        let drift = whole.drift.into_found().map(|(column, key, count)| {
            let sources = self.decoder.sources_with(column);
            (sources, key, count)
        });
        let drift = drift.collect();
        let outside = whole.outside.into_iter();
        let outside = outside.map(|(source_index, outside)| (name(source_index), outside));
        // Values rescued by an earlier run count for the first partition.
        let mut rescued_before = whole.rescued;
        let mut partitions = Vec::with_capacity(whole.outputs.len());
        for ((source_index, partition), output) in whole.outputs {
            let is_first_of_source = partitions
                .last()
                .is_none_or(|before: &Extracted| before.source != task.sources[source_index].name);
            let extracted = Extracted {
                source: name(source_index),
                partition,
                out_of_window: match is_first_of_source {
                    true => out_of_window
                        .get(&source_index)
                        .copied()
                        .unwrap_or_default(),
                    false => 0,
                },
                rescued: output.rescued + std::mem::take(&mut rescued_before),
                open_rows: output.open,
                objects: output.objects,
            };
            let written = extracted.objects.iter().map(|object| object.rows).sum();
            if written != output.rows {
                return Err(ExtractError::Ledger {
                    table: extracted.source,
                    partition,
                    owned: output.rows,
                    written,
                });
            }
            partitions.push(extracted);
        }
        Ok(WriterOutput {
            partitions,
            records: whole.records,
            content,
            overlaps: whole.overlaps,
            drift,
            outside: outside.collect(),
            tail: self.tail,
        })
    }
}

/// Rows and readings that belong to none of the requested days, by source of the task: counted once, however many days
/// were requested together.
fn out_of_window(whole: &PartialResult) -> BTreeMap<usize, u64> {
    let mut sums: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    for ((source_index, _), output) in &whole.outputs {
        let (kept, total) = sums.entry(*source_index).or_default();
        *kept += output.kept;
        *total = output.total.max(*total);
    }
    let out = |(source_index, (kept, total)): (usize, (u64, u64))| {
        (source_index, total.saturating_sub(kept))
    };
    sums.into_iter().map(out).collect()
}
