//! Models bound to what they read and fill, once for a run, so that nothing has to be looked up by name later.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::contract::Contract;
use super::{RawInputs, TransformError, bind};
use crate::catalog::{Catalog, CatalogError, Model, Problem, Source};
use crate::state::{StateError, StateStore};
use crate::store::layout::Partition;

/// A model with its sources and the contracts of its tables.
#[derive(Debug, Clone)]
pub struct BoundModel {
    /// The model.
    pub model: Model,
    /// The source whose partitions are the model's.
    pub driving: Source,
    /// All sources that it reads, in the order in which it names them; the driving one is among them.
    pub sources: Vec<Source>,
    /// What its table looks like.
    pub contract: Contract,
    /// What the table of its rows' versions looks like, if it has one.
    pub history: Option<Contract>,
}

impl BoundModel {
    /// Binds a model: plans its SQL against the declared schemas.
    ///
    /// # Errors
    /// [`TransformError::Model`] if the SQL does not fit the schemas, or names a source that the catalog does not have.
    pub async fn bind(catalog: &Catalog, model: &Model) -> Result<Self, TransformError> {
        let unknown = |error: CatalogError| {
            let place = model.place_of_query();
            let problem = Problem::new(&model.file, place, &error.to_string());
            TransformError::Model(problem.into())
        };
        let known = |name: &String| catalog.known_source(name).cloned();
        let sources: Result<Vec<Source>, CatalogError> = model.sources.iter().map(known).collect();
        let sources = sources.map_err(unknown)?;
        let driving = catalog
            .known_driving_source(model)
            .map_err(unknown)?
            .clone();
        let contract = bind(catalog, model).await?;
        let history = model.history_table().map(|table| contract.history(table));
        Ok(Self {
            model: model.clone(),
            driving,
            sources,
            contract,
            history,
        })
    }

    /// The contracts of all tables that the model fills: its own, and that of its versions.
    pub fn contracts(&self) -> impl Iterator<Item = &Contract> {
        [&self.contract].into_iter().chain(&self.history)
    }

    /// The partition of a source that is read for a partition of the model: a list is always read as it is now.
    pub fn partition_of(source: &Source, partition: Partition) -> Partition {
        match source.is_daily() {
            true => partition,
            false => Partition::Snapshot,
        }
    }

    /// The committed raw objects that the model reads for a partition, by source.
    pub async fn inputs(
        &self,
        states: &StateStore,
        partition: Partition,
    ) -> Result<RawInputs, StateError> {
        let mut inputs = RawInputs::new();
        for source in &self.sources {
            let of = Self::partition_of(source, partition);
            let handle = states.source(&source.name).await?;
            let objects = handle.look(|state| {
                let raw = state.partition(of)?.raw.as_ref()?;
                Some(raw.objects.clone())
            });
            inputs.push((source.name.clone(), objects.unwrap_or_default()));
        }
        Ok(inputs)
    }
}

/// The models of a run, bound.
#[derive(Debug, Clone, Default)]
pub struct BoundCatalog {
    /// By the model's name.
    models: BTreeMap<String, Arc<BoundModel>>,
    /// The model of each table.
    tables: BTreeMap<String, Arc<BoundModel>>,
}

impl BoundCatalog {
    /// Of these models.
    pub fn new(models: impl IntoIterator<Item = Arc<BoundModel>>) -> Self {
        let mut bound = Self::default();
        for model in models {
            for contract in model.contracts() {
                bound.tables.insert(contract.table.clone(), model.clone());
            }
            bound.models.insert(model.model.name.clone(), model);
        }
        bound
    }

    /// All models, by name.
    pub fn models(&self) -> impl Iterator<Item = &Arc<BoundModel>> {
        self.models.values()
    }

    /// The models whose partitions are those of this source.
    pub fn driven_by<'a>(&'a self, source: &'a str) -> impl Iterator<Item = &'a Arc<BoundModel>> {
        self.models()
            .filter(move |bound| bound.driving.name == source)
    }

    /// A model by its name.
    ///
    /// # Errors
    /// [`TransformError::Unbound`] if the run does not have it.
    pub fn model(&self, name: &str) -> Result<&Arc<BoundModel>, TransformError> {
        self.models.get(name).ok_or_else(|| unbound(name))
    }

    /// The model that fills a table, and the table's contract.
    ///
    /// # Errors
    /// [`TransformError::Unbound`] if no model of the run fills it.
    pub fn table(&self, table: &str) -> Result<(&Arc<BoundModel>, &Contract), TransformError> {
        let bound = self.tables.get(table);
        bound
            .and_then(|bound| {
                let contract = bound.contracts().find(|it| it.table == table)?;
                Some((bound, contract))
            })
            .ok_or_else(|| unbound(table))
    }

    /// The contracts of all tables, by name.
    pub fn contracts(&self) -> BTreeMap<String, Contract> {
        let contracts = self.models().flat_map(|bound| bound.contracts());
        contracts
            .map(|contract| (contract.table.clone(), contract.clone()))
            .collect()
    }
}

fn unbound(table: &str) -> TransformError {
    TransformError::Unbound {
        table: table.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_table_has_its_model_and_others_are_named() {
        let catalog = Catalog::open(None).unwrap();
        let mut bound = Vec::new();
        for name in ["fleet_trips", "fleet_vehicles"] {
            let model = catalog.model(name).unwrap();
            bound.push(Arc::new(BoundModel::bind(&catalog, model).await.unwrap()));
        }
        let histories = bound.iter().filter(|it| it.history.is_some()).count();
        let bound = BoundCatalog::new(bound);
        let contracts = bound.contracts();
        assert_eq!(contracts.len(), 2 + histories);
        for (table, contract) in &contracts {
            let (model, found) = bound.table(table).unwrap();
            assert_eq!(found.table, contract.table);
            assert!(catalog.producer(table).unwrap().name == model.model.name);
        }
        let driven: Vec<_> = bound.driven_by("fleet_trips").collect();
        assert_eq!(driven.len(), 1);
        assert_eq!(driven[0].driving.name, "fleet_trips");
        for error in [
            bound.table("fleet_tags").map(|_| ()).unwrap_err(),
            bound.model("fleet_tags").map(|_| ()).unwrap_err(),
        ] {
            assert!(error.to_string().contains("fleet_tags"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_model_of_an_unknown_source_is_refused() {
        let catalog = Catalog::open(None).unwrap();
        let mut model = catalog.model("fleet_trips").unwrap().clone();
        model.sources.push("fleet_nothing".into());
        for error in [
            BoundModel::bind(&catalog, &model).await.unwrap_err(),
            bind(&catalog, &model).await.unwrap_err(),
        ] {
            let error = error.to_string();
            assert!(
                error.contains("fleet_trips.sql:") && error.contains("fleet_nothing"),
                "{error}"
            );
        }
    }
}
