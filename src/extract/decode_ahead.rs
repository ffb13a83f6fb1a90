//! Decodes pages into sorted rows, several pages at a time on different threads, in the order in which they came.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, NaiveDate, Utc};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::Instrument;

use super::checkpoint::Progress;
use super::content::Content;
use super::decode::{Decoded, Decoder};
use super::decode_error::DecodeError;
use super::drift::Drift;
use super::error::ExtractError;
use super::expiring::lasting;
use super::fetch::{FetchedPage, Message};
use super::intervals::overlaps;
use super::outside::Outside;
use super::request::{ExtractTask, Scope};
use super::sort::{Sorted, Sorter, leave_out_after};
use crate::catalog::{FieldPath, Source};
use crate::state::Overlap;

/// Pages that are decoded while an earlier one is being written, and one that waits for its turn.
pub(super) const PAGES_AHEAD: usize = 1;
/// Parts of a page that wait to be written.
const PARTS_AHEAD: usize = 1;

/// The messages of the network half, with pages as rows.
pub(super) enum Work {
    Page(PageRows),
    Checkpoint(Progress),
    Commit,
    Abort,
}

/// The rows of a page as they are decoded.
pub(super) struct PageRows {
    parts: mpsc::Receiver<PagePart>,
    decoding: JoinHandle<Result<PageEnd, ExtractError>>,
}

/// Some records of a page.
pub(super) struct PagePart {
    pub(super) records: u64,
    pub(super) sorted: Vec<Sorted>,
    /// What the records show of days before those that were requested.
    pub(super) overlaps: BTreeSet<Overlap>,
    /// Whether some of them belong to days of a feed that were not requested; these are not in `sorted`.
    pub(super) is_past: bool,
}

/// What a page had besides its rows.
pub(super) struct PageEnd {
    pub(super) content: Content,
    pub(super) drift: Drift,
    /// Envelope fields.
    pub(super) envelope: Vec<(String, Bytes)>,
    /// Whether no source had a row to store them with.
    pub(super) has_envelope_left: bool,
    /// Rows far outside the requested days, by source of the task.
    pub(super) outsides: Vec<(usize, Outside)>,
    /// Receives whether the requested days of a feed end on this page.
    pub(super) question: Option<oneshot::Sender<bool>>,
}

impl PageRows {
    /// The next rows; none after the last, or after an error, which [`PageRows::end`] has.
    pub(super) async fn next(&mut self) -> Option<PagePart> {
        self.parts.recv().await
    }

    /// What the page had besides its rows, after the last of them.
    pub(super) async fn end(self, task: &ExtractTask) -> Result<PageEnd, ExtractError> {
        let Self { parts, decoding } = self;
        drop(parts);
        decoding.await.map_err(|error| ExtractError::Worker {
            tables: task.tables(),
            scope: task.scope.to_string(),
            error,
        })?
    }
}

/// Decodes the pages of a task.
pub(super) struct PageDecoder {
    task: Arc<ExtractTask>,
    decoder: Decoder,
    /// Fields that differ at each read, of all sources of the task.
    expiring: Vec<FieldPath>,
    extracted_at: DateTime<Utc>,
}

impl PageDecoder {
    pub(super) fn new(task: Arc<ExtractTask>, extracted_at: DateTime<Utc>) -> Self {
        let sources: Vec<&Source> = task.sources.iter().collect();
        let expiring = sources.iter().flat_map(|source| &source.expiring);
        Self {
            decoder: Decoder::new(&sources),
            expiring: expiring.cloned().collect(),
            extracted_at,
            task,
        }
    }

    /// The names of the sources that have a column; of all, if its source is not known.
    pub(super) fn sources_with(&self, column: Option<usize>) -> Vec<String> {
        let name = |source_index: usize| self.task.sources[source_index].name.clone();
        self.decoder.sources_with(column).map(name).collect()
    }

    /// The first day of a feed that is not requested.
    pub(super) fn until(&self) -> Option<NaiveDate> {
        match &self.task.scope {
            Scope::Feed { until, .. } => *until,
            _ => None,
        }
    }

    /// Passes messages on in their order; each page is decoded by a task of its own.
    pub(super) async fn decode(
        self: Arc<Self>,
        mut messages: mpsc::Receiver<Message>,
        work: mpsc::Sender<Work>,
    ) {
        while let Some(message) = messages.recv().await {
            let next = match message {
                Message::Page(fetched) => Work::Page(self.clone().begin(*fetched)),
                Message::Checkpoint(progress) => Work::Checkpoint(progress),
                Message::Commit => Work::Commit,
                Message::Abort => Work::Abort,
            };
            // If the channel is closed, the writer has failed.
            if work.send(next).await.is_err() {
                return;
            }
        }
    }

    fn begin(self: Arc<Self>, fetched: FetchedPage) -> PageRows {
        let (send, parts) = mpsc::channel(PARTS_AHEAD);
        #[expect(
            clippy::disallowed_methods,
            reason = "it ends when nobody receives its rows, and `PageRows::end` waits for it"
        )]
        let decoding =
            tokio::spawn(async move { self.page(fetched, send).await }.in_current_span());
        PageRows { parts, decoding }
    }

    async fn page(
        &self,
        mut fetched: FetchedPage,
        parts: mpsc::Sender<PagePart>,
    ) -> Result<PageEnd, ExtractError> {
        let question = fetched.is_past.take();
        let (fetched, page, task) = (&fetched, &fetched.page, &self.task);
        let wrong = |error: DecodeError| task.page_error(page.number, &fetched.request, error);
        let until = self.until();
        let mut sorter = Sorter::new(&self.decoder, task, self.extracted_at, fetched);
        let mut decoding = self.decoder.begin(page).map_err(wrong)?;
        while let Some(decoded) = decoding.next().map_err(wrong)? {
            let overlaps = self.overlaps(fetched, &decoded).map_err(wrong)?;
            let mut sorted = sorter.sort(&decoded).map_err(wrong)?;
            let part = PagePart {
                records: decoded.count(),
                is_past: leave_out_after(until, &mut sorted),
                sorted,
                overlaps,
            };
            drop(decoded);
            // If the channel is closed, the writer has failed, and reports why.
            if parts.send(part).await.is_err() {
                break;
            }
        }
        let lasting =
            lasting(&page.records, &self.expiring).map_err(|error| wrong(error.into()))?;
        let mut content = Content::default();
        content.add_page(fetched.parent.as_deref(), &lasting, page);
        Ok(PageEnd {
            content,
            drift: decoding.into_drift(),
            envelope: page.envelope.clone(),
            has_envelope_left: sorter.has_envelope_left(),
            outsides: sorter.into_outsides().collect(),
            question,
        })
    }

    /// What records show of days before those that were requested.
    fn overlaps(
        &self,
        fetched: &FetchedPage,
        decoded: &Decoded<'_>,
    ) -> Result<BTreeSet<Overlap>, DecodeError> {
        let mut found = BTreeSet::new();
        let Scope::Days(days) = &self.task.scope else {
            return Ok(found);
        };
        let Some(first) = days.first() else {
            return Ok(found);
        };
        for (source_index, source) in self.task.sources.iter().enumerate() {
            if source.end_field.is_some() {
                let parent = fetched.parent.as_deref();
                let rows = self
                    .decoder
                    .rows_with_parent(decoded, source_index, parent)?;
                found.extend(overlaps(&rows, source, *first, self.extracted_at)?);
            }
        }
        Ok(found)
    }
}
