//! Models bound to their inputs and tables, once per run, so that nothing is looked up by name later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::runtime::Handle;

use super::contract::Contract;
use super::input::{Input, Inputs, UpstreamTable};
use super::{Fingerprint, ModelDigest, TransformError, bind_contract};
use crate::catalog::{Catalog, CatalogError, Model, Place, Problem, Source, SourceKind, Window};
use crate::store::layout::Partition;

/// A model with its inputs and the contracts of its tables.
#[derive(Debug, Clone)]
pub struct BoundModel {
    /// The model.
    pub model: Model,
    /// The source whose partitions are the model's.
    pub driving: Source,
    /// Everything that it reads: sources, then tables of other models, each in alphabetical order.
    pub inputs: Vec<Input>,
    /// What its table looks like.
    pub contract: Contract,
    /// The contract of its history table, if it has one.
    pub history: Option<Contract>,
    /// The number of models between it and raw rows, on the longest path.
    pub level: usize,
    /// The weeks or months of its partitions; none if they are days, or it is a list.
    pub period: Option<Window>,
    /// The part of fingerprints that all its partitions share.
    pub(super) digest: ModelDigest,
}

impl BoundModel {
    /// Binds a model and its upstream models: plans its SQL against the declared schemas and their contracts.
    ///
    /// # Errors
    /// [`TransformError::Model`] if the SQL does not fit the schemas, or names a source or table that the catalog does
    /// not have.
    pub async fn bind(catalog: &Catalog, model: &Model) -> Result<Self, TransformError> {
        let mut known = BTreeMap::new();
        for upstream in catalog.upstream_of(model) {
            let bound = Self::bind_after(catalog, upstream, &known).await?;
            known.insert(upstream.name.clone(), Arc::new(bound));
        }
        Self::bind_after(catalog, model, &known).await
    }

    /// Binds a model whose upstream models are bound already: they are in `known`, by name.
    ///
    /// # Errors
    /// As [`BoundModel::bind`].
    pub async fn bind_after(
        catalog: &Catalog,
        model: &Model,
        known: &BTreeMap<String, Arc<Self>>,
    ) -> Result<Self, TransformError> {
        let unknown = |error: CatalogError| {
            let place = model.place_of_query();
            let problem = Problem::new(&model.file, place, &error.to_string());
            TransformError::Model(problem.into())
        };
        let mut inputs = Vec::new();
        for name in &model.sources {
            let source = catalog.known_source(name).map_err(unknown)?;
            inputs.push(source.clone().into());
        }
        for table in &model.upstream {
            let found = catalog.producer(table).and_then(|it| known.get(&it.name));
            let found = found.and_then(|bound| {
                let contract = bound.contracts().find(|it| it.table == *table)?.clone();
                let bound = bound.clone();
                Some(UpstreamTable { bound, contract })
            });
            let upstream = found.ok_or_else(|| unbound(table))?;
            inputs.push(Input::Table(Arc::new(upstream)));
        }
        let driving = catalog
            .known_driving_source(model)
            .map_err(unknown)?
            .clone();
        let period = period(model, &driving, &inputs).map_err(|(place, reason)| {
            TransformError::Model(Problem::new(&model.file, place, &reason).into())
        })?;
        let contract = bind_contract(model, &driving, &inputs, period).await?;
        let history = model.history_table().map(|table| contract.history(table));
        let levels = inputs.iter().map(|input| match input {
            Input::Source(_) => 0,
            Input::Table(table) => table.bound.level + 1,
        });
        Ok(Self {
            model: model.clone(),
            driving,
            level: levels.max().unwrap_or_default(),
            digest: ModelDigest::new(model, &contract),
            inputs,
            contract,
            history,
            period,
        })
    }

    /// The contracts of all tables that the model fills: its own, and its history table.
    pub fn contracts(&self) -> impl Iterator<Item = &Contract> {
        [&self.contract].into_iter().chain(&self.history)
    }

    /// The tables of other models that it reads.
    pub fn upstream(&self) -> impl Iterator<Item = &Arc<UpstreamTable>> {
        self.inputs.iter().filter_map(|input| match input {
            Input::Source(_) => None,
            Input::Table(table) => Some(table),
        })
    }

    /// The model's partition that contains the rows of this partition of its driving source.
    pub fn home(&self, partition: Partition) -> Partition {
        match (self.period, partition) {
            (Some(period), Partition::Day(day)) => Partition::Day(period.home(day)),
            _ => partition,
        }
    }

    /// The partitions of an input that the model reads for a partition whose window was read whole.
    pub fn reads_of_whole(&self, input: &Input, partition: Partition) -> Vec<Partition> {
        input.partitions_of(self.days(partition))
    }

    /// The days of a partition's window; the partition itself without one.
    pub(super) fn days(&self, partition: Partition) -> Vec<Partition> {
        match (self.model.front_matter.window, partition) {
            (Some(window), Partition::Day(day)) => {
                window.days(day).into_iter().map(Partition::Day).collect()
            }
            _ => vec![partition],
        }
    }

    /// Whether it, or an upstream model that makes its weeks or months, reads several days.
    pub fn is_windowed(&self) -> bool {
        self.model.front_matter.window.is_some()
            || self.upstream().any(|table| table.bound.is_windowed())
    }

    /// Whether a change in the rows of an input makes a partition stale. Lists that a daily model joins do not: they
    /// change in every run, and the model's days stay as they were derived.
    pub fn is_decided_by(&self, input: &Input) -> bool {
        input.driving().is_daily() || !self.driving.is_daily()
    }

    /// The fingerprint of the model's rows for these objects.
    pub fn fingerprint(&self, inputs: &Inputs) -> Fingerprint {
        let decides = |input: &Input| self.is_decided_by(input);
        self.digest.fingerprint(inputs, decides)
    }

    /// What the query and its columns depend on, including all upstream models.
    pub(super) fn definition(&self) -> String {
        let upstream = self.upstream().map(|table| table.bound.definition());
        self.digest.definition(upstream)
    }
}

/// Binds models on the threads of `runtime` and adds them to `known`: each after those whose tables it reads, which are
/// among the models or known already. Returns the problems of models that cannot be bound; models that read the tables
/// of these are left out.
///
/// # Errors
/// [`TransformError`] other than [`TransformError::Model`] if the engine cannot start or a task ends without a result.
pub async fn bind_models(
    catalog: &Arc<Catalog>,
    models: Vec<&Model>,
    known: &mut BTreeMap<String, Arc<BoundModel>>,
    runtime: &Handle,
) -> Result<Vec<Problem>, TransformError> {
    let (mut rest, mut problems) = (models, Vec::new());
    loop {
        let is_bound = |table: &String| {
            let upstream = catalog.producer(table);
            upstream.is_none_or(|upstream| known.contains_key(&upstream.name))
        };
        let is_ready = |model: &&Model| model.upstream.iter().all(is_bound);
        let (ready, later): (Vec<&Model>, Vec<&Model>) = rest.into_iter().partition(is_ready);
        if ready.is_empty() {
            return Ok(problems);
        }
        let upstream = Arc::new(known.clone());
        let bind = |model: &Model| {
            let (catalog, model) = (catalog.clone(), model.clone());
            let upstream = upstream.clone();
            let bind = async move { BoundModel::bind_after(&catalog, &model, &upstream).await };
            runtime.spawn(bind)
        };
        let binding: Vec<_> = ready.into_iter().map(bind).collect();
        for bound in binding {
            let bound = bound.await.unwrap_or_else(|error| {
                let what = "binding a model".into();
                Err(TransformError::Task { what, error })
            });
            match bound {
                Ok(bound) => drop(known.insert(bound.model.name.clone(), Arc::new(bound))),
                Err(TransformError::Model(found)) => problems.extend(found),
                Err(error) => return Err(error),
            }
        }
        rest = later;
    }
}

/// Binds all models of a catalog that have what they read, and returns the problems of those that cannot be bound (see
/// [`bind_models`]). Must be called on a runtime whose threads have the stack that planning takes.
///
/// # Errors
/// As [`bind_models`].
pub async fn bind_catalog(
    catalog: &Arc<Catalog>,
) -> Result<(BTreeMap<String, Arc<BoundModel>>, Vec<Problem>), TransformError> {
    let models = catalog.models();
    let models = models.filter(|model| catalog.is_complete(model)).collect();
    let mut known = BTreeMap::new();
    let problems = bind_models(catalog, models, &mut known, &Handle::current()).await?;
    Ok((known, problems))
}

/// The models of a run, bound.
#[derive(Debug, Clone, Default)]
pub struct BoundCatalog {
    /// By the model's name.
    models: BTreeMap<String, Arc<BoundModel>>,
    /// The model of each table.
    tables: BTreeMap<String, Arc<BoundModel>>,
    /// By the source whose partitions are theirs.
    driven: BTreeMap<String, Vec<Arc<BoundModel>>>,
}

impl BoundCatalog {
    /// Of these models.
    pub fn new(models: impl IntoIterator<Item = Arc<BoundModel>>) -> Self {
        let mut bound = Self::default();
        for model in models {
            for contract in model.contracts() {
                bound.tables.insert(contract.table.clone(), model.clone());
            }
            let of_source = bound.driven.entry(model.driving.name.clone());
            of_source.or_default().push(model.clone());
            bound.models.insert(model.model.name.clone(), model);
        }
        bound
    }

    /// All models, by name.
    pub fn models(&self) -> impl Iterator<Item = &Arc<BoundModel>> {
        self.models.values()
    }

    /// The models whose partitions are those of this source.
    pub fn driven_by(&self, source: &str) -> impl Iterator<Item = &Arc<BoundModel>> {
        self.driven.get(source).into_iter().flatten()
    }

    /// Whether a model of the run reads a table of this one.
    pub fn is_read(&self, model: &str) -> bool {
        self.models()
            .any(|bound| bound.upstream().any(|it| it.bound.model.name == model))
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

    /// The contracts of all tables of these models, by name.
    pub fn contracts(&self, of: &BTreeSet<String>) -> BTreeMap<String, Contract> {
        let models = self.models().filter(|bound| of.contains(&bound.model.name));
        let contracts = models.flat_map(|bound| bound.contracts());
        contracts
            .map(|contract| (contract.table.clone(), contract.clone()))
            .collect()
    }
}

/// The weeks or months of a model's partitions; none if they are days, or it is a list. A partition never contains a
/// part of what it reads: neither a day a part of a month, nor a month a part of a week.
fn period(
    model: &Model,
    driving: &Source,
    inputs: &[Input],
) -> Result<Option<Window>, (Place, String)> {
    let by_time = || inputs.iter().filter(|it| it.driving().is_daily());
    let named = |period: Option<Window>| period.map_or("day", Window::period);
    let Some(window) = model.front_matter.window else {
        let mut periods = by_time().map(Input::period);
        let first = periods.next().flatten();
        if periods.all(|it| it == first) {
            return Ok(first);
        }
        // Monthly sources are joined to daily ones by their partition on the first of a month.
        let Some(table) =
            by_time().find(|it| matches!(it, Input::Table(_)) && it.period().is_some())
        else {
            return Ok(None);
        };
        let (name, period) = (table.name(), named(table.period()));
        let other = by_time()
            .map(Input::period)
            .find(|it| *it != table.period());
        let reason = format!(
            "`{name}` is by {period}, and the model also reads a table by {}: give the model `window = \"{period}\"`, \
             or read tables of one kind",
            named(other.flatten())
        );
        return Err((model.place_of_table(name), reason));
    };
    let wrong = |reason: String| {
        (
            model.place_of_key("window", None),
            format!("window: {reason}"),
        )
    };
    if !by_time().any(|it| it.period().is_none()) {
        let reason = "the model reads no table by day, so there are no days to choose from";
        return Err(wrong(reason.into()));
    }
    if model.front_matter.history {
        return Err(wrong("a model with `history` cannot have one".into()));
    }
    let comes_by_itself = matches!(driving.kind, SourceKind::Feed | SourceKind::Updates);
    if window.is_calendar() && comes_by_itself {
        return Err(wrong(format!(
            "the days of {} come by themselves, so that nothing tells whether a {} is whole: name first a table whose \
             days are asked for, or use a number of days",
            driving.name,
            window.period()
        )));
    }
    let fits = |it: &&Input| it.period().is_none_or(|period| period == window);
    if let Some(other) = by_time().find(|it| !fits(it)) {
        let (name, period) = (other.name(), named(other.period()));
        return Err(wrong(format!(
            "`{name}` is by {period}, of which a window of \"{window}\" may hold a part"
        )));
    }
    Ok(Some(window).filter(|it| it.is_calendar()))
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
        let all = bound.models().map(|it| it.model.name.clone()).collect();
        let contracts = bound.contracts(&all);
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
            crate::transform::bind(&catalog, &model).await.unwrap_err(),
        ] {
            let error = error.to_string();
            assert!(
                error.contains("fleet_trips.sql:") && error.contains("fleet_nothing"),
                "{error}"
            );
        }
    }
}
