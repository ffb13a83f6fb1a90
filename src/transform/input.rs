//! The inputs of a model: raw rows of sources, and tables of other models.

use std::sync::Arc;

use super::bound::BoundModel;
use super::contract::Contract;
use crate::catalog::{Source, Window};
use crate::state::SourceState;
use crate::store::ObjectRef;
use crate::store::layout::Partition;

/// Something that a model reads.
#[derive(Debug, Clone)]
pub enum Input {
    /// The raw rows of a source: `raw.<source>`.
    Source(Arc<Source>),
    /// The rows of another model's table: `<table>`.
    Table(Arc<UpstreamTable>),
}

/// A table that other models read.
#[derive(Debug)]
pub struct UpstreamTable {
    /// The model that fills it.
    pub bound: Arc<BoundModel>,
    /// What it looks like: one of the model's contracts.
    pub contract: Contract,
}

/// The inputs of a model for one partition, each with its committed objects.
pub type Inputs = Vec<(Input, Vec<ObjectRef>)>;

impl Input {
    /// Its name in the query, without `raw.`.
    pub fn name(&self) -> &str {
        match self {
            Self::Source(source) => &source.name,
            Self::Table(table) => &table.contract.table,
        }
    }

    /// The source that determines its partitions, and whose state document has them.
    pub fn driving(&self) -> &Source {
        match self {
            Self::Source(source) => source,
            Self::Table(table) => &table.bound.driving,
        }
    }

    /// The weeks or months of its partitions; none if they are days, or it is a list.
    pub fn period(&self) -> Option<Window> {
        match self {
            Self::Source(source) => source.is_monthly().then_some(Window::Month),
            Self::Table(table) => table.bound.period,
        }
    }

    /// Its partitions among these days, which a partition of the model reads: of a list, always the current snapshot.
    pub(super) fn partitions_of(&self, mut days: Vec<Partition>) -> Vec<Partition> {
        if !self.driving().is_daily() {
            return vec![Partition::Snapshot];
        }
        if let Some(period) = self.period().filter(|_| days.len() > 1) {
            days.retain(|day| day.day().is_none_or(|day| period.home(day) == day));
        }
        days
    }

    /// Distinguishes the inputs of one model.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Source(source) => source.name.clone(),
            Self::Table(table) => format!("tables/{}", table.contract.table),
        }
    }

    /// The objects of its partition in the state of its driving source; none if there are none.
    pub(super) fn objects_in<'a>(
        &self,
        state: &'a SourceState,
        partition: Partition,
    ) -> &'a [ObjectRef] {
        let found = state.partition(partition);
        let objects = found.and_then(|found| match self {
            Self::Source(_) => Some(&found.raw.as_ref()?.objects),
            Self::Table(table) => Some(&found.models.get(&table.contract.table)?.objects),
        });
        objects.map_or(&[], Vec::as_slice)
    }
}

impl From<Source> for Input {
    fn from(source: Source) -> Self {
        Self::Source(Arc::new(source))
    }
}
