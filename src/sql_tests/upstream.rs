//! The inputs of a model without committed upstream rows: upstream models are run too, into the scratch bucket.

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::error::{Error, PreviewError};
use crate::state::StateStore;
use crate::store::ObjectRef;
use crate::store::layout::{Partition, RunId};
use crate::transform::{BoundModel, Input, Inputs, ModelView, Transformer};

/// Raw objects of partitions, by the name of their source.
pub(super) type RawObjects = BTreeMap<(String, Partition), Vec<ObjectRef>>;

/// Runs upstream models, each once per partition, over the given raw rows.
pub(super) struct Upstream<'a> {
    pub(super) transformer: &'a Transformer,
    /// The existing raw objects. Days of a window without any are left out.
    pub(super) raw: RawObjects,
    pub(super) run: RunId,
    /// The objects of tables that were derived, by table and partition.
    pub(super) made: BTreeMap<(String, Partition), Vec<ObjectRef>>,
}

impl<'t> Upstream<'t> {
    /// Over the committed raw rows of all sources upstream of a model.
    ///
    /// # Errors
    /// [`PreviewError::Versions`] if it reads a history table; the error of a state document.
    pub(super) async fn of_committed(
        transformer: &'t Transformer,
        states: &StateStore,
        bound: &BoundModel,
        partition: Partition,
        run: RunId,
    ) -> Result<Self, Error> {
        let mut raw = BTreeMap::new();
        add_raw(&bound.view(states).await?, partition, &mut raw)?;
        Ok(Self {
            transformer,
            raw,
            run,
            made: BTreeMap::new(),
        })
    }

    /// What a model reads for a partition.
    pub(super) fn inputs<'a>(
        &'a mut self,
        bound: &'a BoundModel,
        partition: Partition,
    ) -> BoxFuture<'a, Result<Inputs, Error>> {
        let inputs = async move {
            let mut inputs = Inputs::new();
            for input in &bound.inputs {
                let mut partitions = bound.reads_of_whole(input, partition);
                if partitions.len() > 1 {
                    let is_there = |of: &Partition| self.raw.keys().any(|(_, known)| known == of);
                    partitions.retain(is_there);
                }
                let mut objects = Vec::new();
                for of in partitions {
                    match input {
                        Input::Table(table)
                            if table.contract.table == table.bound.contract.table =>
                        {
                            objects.extend(self.derived(&table.bound, of).await?);
                        }
                        _ => {
                            let key = (input.name().to_string(), of);
                            objects.extend(self.raw.get(&key).cloned().unwrap_or_default());
                        }
                    }
                }
                inputs.push((input.clone(), objects));
            }
            Ok(inputs)
        };
        inputs.boxed()
    }

    async fn derived(
        &mut self,
        bound: &BoundModel,
        partition: Partition,
    ) -> Result<Vec<ObjectRef>, Error> {
        let key = (bound.model.name.clone(), partition);
        if let Some(made) = self.made.get(&key) {
            return Ok(made.clone());
        }
        let inputs = self.inputs(bound, partition).await?;
        let (model, contract) = (&bound.model, &bound.contract);
        let derived = self
            .transformer
            .derive(model, contract, partition, &inputs, &self.run)
            .await?;
        self.made.insert(key, derived.objects.clone());
        Ok(derived.objects)
    }
}

/// Adds the committed raw objects of all sources upstream of a model.
fn add_raw(view: &ModelView<'_>, partition: Partition, raw: &mut RawObjects) -> Result<(), Error> {
    for it in &view.inputs {
        match &it.upstream {
            None => {
                for of in view.reads(it.input, partition) {
                    let name = it.input.name().to_string();
                    raw.insert((name, of), it.objects(of).to_vec());
                }
            }
            Some(upstream) if upstream.bound.contract.table != it.input.name() => {
                let table = it.input.name().to_string();
                return Err(PreviewError::Versions { table }.into());
            }
            Some(upstream) => {
                for of in view.reads(it.input, partition) {
                    add_raw(upstream, of, raw)?;
                }
            }
        }
    }
    Ok(())
}
