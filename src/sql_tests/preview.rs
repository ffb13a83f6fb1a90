//! What a model makes of committed raw rows, before anything is written.

use std::sync::Arc;

use chrono::NaiveDate;

use super::scratch::Scratch;
use super::upstream::Upstream;
use crate::catalog::{Catalog, Model};
use crate::clock;
use crate::config::Secret;
use crate::error::{Error, PreviewError};
use crate::state::{SourceHandle, StateStore};
use crate::store::Bucket;
use crate::store::layout::{Partition, RunId};
use crate::transform::{BoundModel, Flattened, QueryTable, Transformer};

/// What a preview reads, and its options.
pub struct Preview<'a> {
    /// The catalog.
    pub catalog: &'a Arc<Catalog>,
    /// The state documents.
    pub states: &'a StateStore,
    /// The raw bucket.
    pub raw: &'a Bucket,
    /// Memory for the query, in bytes.
    pub memory: usize,
    /// What hashed columns are salted with.
    pub salt: Option<Secret>,
}

/// The result of a preview: the partition, its rows as a table in the scratch bucket, and what was found about them.
pub type Previewed = (Partition, QueryTable, Flattened);

/// Runs a model over the raw rows of a day (of the list; of the last complete day, if none is given), and writes the
/// rows as a warehouse would get them to `scratch`. Neither state nor buckets change.
///
/// # Errors
/// [`Error::Preview`] if there are no raw rows of that day, or a day is given for a list; the model's own errors.
pub async fn preview(
    of: Preview<'_>,
    model: &Model,
    day: Option<NaiveDate>,
    scratch: &Scratch,
) -> Result<Previewed, Error> {
    let bound = BoundModel::bind(of.catalog, model).await?;
    let state = of.states.source(&bound.driving.name).await?;
    let partition = complete_partition(&bound, &state, day)?;
    let today = clock::now().date_naive();
    let gap = bound.view(of.states).await?.gap(partition, today);
    if let Some(gap) = gap {
        let model = model.name.clone();
        return Err(PreviewError::Window {
            model,
            partition,
            gap,
        }
        .into());
    }
    let transformer =
        Transformer::new(of.memory, of.raw.clone(), scratch.bucket().clone())?.with_salt(of.salt);
    let id = RunId::new(clock::now());
    let mut upstream =
        Upstream::of_committed(&transformer, of.states, &bound, partition, id.clone()).await?;
    let inputs = upstream.inputs(&bound, partition).await?;
    let flattened = transformer
        .derive(model, &bound.contract, partition, &inputs, &id)
        .await?;
    let table = QueryTable {
        raw: false,
        name: model.name.clone(),
        schema: bound.contract.schema(),
        bucket: scratch.bucket().clone(),
        objects: flattened.objects.clone(),
    };
    Ok((partition, table, flattened))
}

/// The partition to preview: that of the day, or the last complete one.
fn complete_partition(
    bound: &BoundModel,
    state: &SourceHandle,
    day: Option<NaiveDate>,
) -> Result<Partition, Error> {
    let source = &bound.driving;
    let partition = match day {
        Some(_) if !source.is_daily() => {
            let source_name = source.name.clone();
            return Err(PreviewError::NoDays { source_name }.into());
        }
        Some(day) => Some(Partition::Day(day)),
        None => state.look(|state| state.complete().map(|(partition, _)| partition).max()),
    };
    let is_complete = |partition: &Partition| {
        state.look(|state| {
            let found = state.partition(*partition);
            found.is_some_and(|found| found.raw.is_some())
        })
    };
    let partition = partition.map(|partition| bound.home(partition));
    partition.filter(is_complete).ok_or_else(|| {
        let source_name = source.name.clone();
        PreviewError::NotRead { source_name, day }.into()
    })
}
