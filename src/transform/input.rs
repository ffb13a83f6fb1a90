//! What a model reads: raw rows of sources, and tables of other models.

use std::sync::Arc;

use super::bound::BoundModel;
use super::contract::Contract;
use crate::catalog::{Source, Window};
use crate::state::{SourceState, StateError, StateStore};
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

/// What a model reads for one partition: each input with its committed objects.
pub type Inputs = Vec<(Input, Vec<ObjectRef>)>;

impl Input {
    /// Its name in the query, without `raw.`.
    pub fn name(&self) -> &str {
        match self {
            Self::Source(source) => &source.name,
            Self::Table(table) => &table.contract.table,
        }
    }

    /// The source whose partitions are its own, and whose state document has them.
    pub fn driving(&self) -> &Source {
        match self {
            Self::Source(source) => source,
            Self::Table(table) => &table.bound.driving,
        }
    }

    /// The weeks or months that its partitions are; none if they are days, or it is a list.
    pub fn period(&self) -> Option<Window> {
        match self {
            Self::Source(source) => source.is_monthly().then_some(Window::Month),
            Self::Table(table) => table.bound.period,
        }
    }

    /// Its partitions among those of the days that a partition of the model reads: a list is always read as it is now.
    pub(super) fn partitions_of(&self, days: &[Partition]) -> Vec<Partition> {
        if !self.driving().is_daily() {
            return vec![Partition::Snapshot];
        }
        let Some(period) = self.period().filter(|_| days.len() > 1) else {
            return days.to_vec();
        };
        let is_own = |day: &&Partition| day.day().is_none_or(|day| period.home(day) == day);
        days.iter().filter(is_own).copied().collect()
    }

    /// Tells inputs of one model apart, whatever they are.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Source(source) => source.name.clone(),
            Self::Table(table) => format!("tables/{}", table.contract.table),
        }
    }

    /// The objects of its partition that the state of its driving source has: none, if there are none.
    fn objects_in(&self, state: &SourceState, partition: Partition) -> Vec<ObjectRef> {
        let found = state.partition(partition);
        let objects = found.and_then(|found| match self {
            Self::Source(_) => Some(&found.raw.as_ref()?.objects),
            Self::Table(table) => Some(&found.models.get(&table.contract.table)?.objects),
        });
        objects.cloned().unwrap_or_default()
    }

    /// The committed objects of a partition of it.
    ///
    /// # Errors
    /// [`StateError`] if the state document of its driving source cannot be read.
    pub async fn objects(
        &self,
        states: &StateStore,
        partition: Partition,
    ) -> Result<Vec<ObjectRef>, StateError> {
        let handle = states.source(&self.driving().name).await?;
        Ok(handle.look(|state| self.objects_in(state, partition)))
    }
}

impl From<Source> for Input {
    fn from(source: Source) -> Self {
        Self::Source(Arc::new(source))
    }
}
