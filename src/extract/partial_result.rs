//! The result of a task so far: counts, digests, and objects that are written or being written.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;

use super::content::Content;
use super::drift::Drift;
use super::error::ExtractError;
use super::outside::Outside;
use super::request::ExtractTask;
use crate::state::Overlap;
use crate::store::layout::Partition;
use crate::store::{ObjectRef, TableWriter};

/// The result of some pages, in objects of its own.
#[derive(Default)]
pub(super) struct PartialResult {
    /// By source of the task and partition.
    pub(super) outputs: BTreeMap<(usize, Partition), Output>,
    pub(super) records: u64,
    /// Values rescued by an earlier run, whose report lists them.
    pub(super) rescued: u64,
    pub(super) drift: Drift,
    /// By source of the task.
    pub(super) outside: BTreeMap<usize, Outside>,
    pub(super) content: Content,
    /// What the pages showed of earlier days.
    pub(super) overlaps: BTreeSet<Overlap>,
}

impl PartialResult {
    pub(super) fn add(&mut self, other: Self) {
        self.records += other.records;
        self.rescued += other.rescued;
        self.content.merge(&other.content);
        self.overlaps.extend(other.overlaps);
        self.drift.merge(other.drift);
        for (source_index, outside) in other.outside {
            self.add_outside(source_index, outside);
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

    pub(super) fn add_outside(&mut self, source_index: usize, outside: Outside) {
        match self.outside.get_mut(&source_index) {
            Some(known) => known.merge(outside),
            None => _ = self.outside.insert(source_index, outside),
        }
    }

    /// Completes the objects that are being written.
    pub(super) async fn close(&mut self, task: &ExtractTask) -> Result<(), ExtractError> {
        try_join_all(self.outputs.values_mut().map(|output| output.close(task)))
            .await
            .map(|_| ())
    }

    pub(super) fn rescued(&self) -> u64 {
        self.rescued
            + self
                .outputs
                .values()
                .map(|output| output.rescued)
                .sum::<u64>()
    }
}

/// The rows of one source and partition.
#[derive(Default)]
pub(super) struct Output {
    pub(super) writer: Option<TableWriter>,
    pub(super) objects: Vec<ObjectRef>,
    /// Rows, or readings inside rows, that the partition owns.
    pub(super) kept: u64,
    /// The same before.
    pub(super) total: u64,
    /// Values in `_rescued_data`.
    pub(super) rescued: u64,
    /// Rows and readings of its own that have no end yet.
    pub(super) open: u64,
    /// Rows passed to writers: the objects must hold as many in the end.
    pub(super) rows: u64,
}

impl Output {
    pub(super) async fn close(&mut self, task: &ExtractTask) -> Result<(), ExtractError> {
        if let Some(writer) = self.writer.take() {
            self.objects
                .push(writer.finish().await.map_err(|error| task.store(error))?);
        }
        Ok(())
    }
}
