//! Raw Parquet to flattened Parquet: DataFusion runs the models of `sql/`.
//!
//! A model is bound once, against the declared schemas and without data; this gives its output contract, to which every
//! batch of its result is cast. A row outside the partition's day is refused here, before the warehouse would refuse
//! the whole load.

mod bigquery_names;
mod bound;
mod bounded;
#[cfg(feature = "ballista")]
mod cluster;
mod contract;
mod data_tests;
mod date_trunc;
mod describe;
mod distinct;
mod failing;
mod fields;
mod functions;
mod geofence;
mod grain;
mod h3;
mod history;
mod input;
mod json_text;
mod known_columns;
mod lineage;
mod local_time;
mod newest;
mod partition_day;
mod prepared;
mod query;
mod session;
mod time_zone;
mod unfit;
mod unique;
mod units;
mod view;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Date32Type, Field, Schema, SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use chrono::NaiveDate;
use datafusion::common::{DataFusionError, SchemaError, TableReference};
use datafusion::datasource::ViewTable;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Distinct, LogicalPlan};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::{DataFrame, SQLOptions, SessionContext};
use futures::StreamExt;
use object_store::ObjectMeta;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::task::JoinError;

use crate::bounds::BATCH_ROWS;
use crate::catalog::{
    Catalog, Model, Place, Problem, Problems, Source, SourceKind, VERSIONS, Window, did_you_mean,
    place_of_field, place_of_word,
};
use crate::config::Secret;
use crate::extract::{DecodeError, day_window, raw_schema};
use crate::redact::foreign;
use crate::state::Sha256Digest;
use crate::store::layout::{Partition, RunId, flattened_object};
use crate::store::{Bucket, ObjectRef, StoreError, TableWriter};

use fields::UnknownField;
use prepared::{Placeholder, Prepared};
use unfit::{Unfit, Watched};
use unique::{KeyCheck, Keys};

pub use bound::{BoundCatalog, BoundModel, bind_catalog, bind_models};
#[cfg(feature = "ballista")]
pub use cluster::{Cluster, ClusterError, TaskCodec, Worker};
pub use contract::{Column, ColumnType, Contract};
pub use data_tests::{FailedTest, described};
pub use describe::{Function, QueryColumn, columns_of_query, functions};
pub use history::{Snapshots, history_fingerprint};
pub use input::{Input, Inputs, UpstreamTable};
pub use lineage::{Lineage, Origin, Origins, lineage};
pub use query::{Queried, QueryTable, query, stored_schema};
pub use unfit::{UNFIT_TEXTS, UnfitTimes, add_text};
pub use unique::Duplicates;
pub use view::{InputView, ModelView, WindowGap};

/// Raw rows of a large partition are read in batches of about this many bytes of their objects,
const BATCH_BYTES: u64 = 64 << 10;
/// but not fewer rows than this.
const LEAST_BATCH_ROWS: u64 = 16;
/// The address of the raw bucket inside queries,
const RAW_STORE: &str = "raw-bucket://raw";
/// and of the flattened one.
const FLATTENED_STORE: &str = "flattened-bucket://flattened";
/// A flattened object is completed at this size and another one is begun.
const OBJECT_BYTES: u64 = 256 << 20;

/// A model that cannot be bound or run.
#[derive(Debug, thiserror::Error)]
pub enum TransformError {
    /// The SQL is wrong; found without data.
    #[error("{0}")]
    Model(Problems),
    /// The query failed on a partition's data.
    #[error("{model} {partition}: {error}")]
    Data {
        /// Name of the model.
        model: String,
        /// The partition that was derived.
        partition: Partition,
        /// What failed.
        #[source]
        error: DataError,
    },
    /// The query failed on a value.
    #[error("{model} {partition}: {}{error}", of_columns(columns))]
    Value {
        /// Name of the model.
        model: String,
        /// The partition that was derived.
        partition: Partition,
        /// The columns that fail on their own; none if that is not known.
        columns: Vec<String>,
        /// What failed.
        #[source]
        error: DataError,
    },
    /// Rows are not unique by the model's `unique_key`, so none of them are kept.
    #[error(
        "{model} {partition}: {duplicates}. The partition was not replaced; read it again (--historical), correct the model, or load it as it is with --accept-duplicates {model}"
    )]
    Duplicates {
        /// Name of the model.
        model: String,
        /// The partition that was derived.
        partition: Partition,
        /// The duplicate keys: how many, and an example.
        duplicates: Duplicates,
    },
    /// Rows fail the model's tests, so none of them are kept.
    #[error(
        "{model} {partition}: {}. The partition was not replaced; correct the model or its test, or give the test `severity = \"warn\"`",
        .failed.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    Tests {
        /// Name of the model.
        model: String,
        /// The partition that was derived.
        partition: Partition,
        /// The tests, with the rows that they forbid.
        failed: Vec<FailedTest>,
    },
    /// The raw or flattened bucket could not be read or written.
    #[error("{model} {partition}: {error}")]
    Store {
        /// Name of the model.
        model: String,
        /// The partition that was derived.
        partition: Partition,
        /// The bucket's error.
        #[source]
        error: StoreError,
    },
    /// An object of a table that a query reads is missing or was changed.
    #[error(transparent)]
    Object(#[from] StoreError),
    /// A table that no model of this run fills.
    #[error(
        "table {table} is not among those of this run: no selected model of the catalog fills it"
    )]
    Unbound {
        /// The table.
        table: String,
    },
    /// The engine cannot start, or cannot run an ad-hoc query.
    #[error("{}", one_line(.0))]
    Engine(#[from] Box<DataFusionError>),
    /// The SQL of an ad-hoc query is wrong.
    #[error("{}{hint}", one_line(error))]
    Query {
        /// The engine's error.
        #[source]
        error: Box<DataFusionError>,
        /// The nearest name, if a table is unknown.
        hint: String,
    },
    /// An ad-hoc query that is not permitted.
    #[error("line {line}: {reason}")]
    Refused {
        /// Line number in the query, counted from 1.
        line: usize,
        /// Why it is refused.
        reason: String,
    },
    /// Raw rows cannot be worked on.
    #[error(transparent)]
    Rows(#[from] DataError),
    /// There is no cluster to work on.
    #[cfg(feature = "ballista")]
    #[error(transparent)]
    NoCluster(#[from] ClusterError),
    /// The cluster did not derive a partition.
    #[cfg(feature = "ballista")]
    #[error("{model} {partition}: {error}")]
    Cluster {
        /// Name of the model.
        model: String,
        /// The partition that was to be derived.
        partition: Partition,
        /// What the cluster said.
        #[source]
        error: ClusterError,
    },
    /// A task ended without a result: it panicked, or was cancelled.
    #[error("{what} stopped: {error}")]
    Task {
        /// What it did.
        what: String,
        /// How it ended.
        #[source]
        error: JoinError,
    },
}

/// A query that failed on its data.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The engine failed.
    #[error("{}", one_line(.0))]
    Engine(#[source] Box<DataFusionError>),
    /// Rows cannot be selected or written.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    /// A value does not fit the type of its column.
    #[error("column `{column}`: {error}")]
    Column {
        /// The column.
        column: String,
        /// The first value that does not fit.
        #[source]
        error: ArrowError,
    },
    /// Raw rows cannot be compared.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A row cannot be read as JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The rows violate the model or its contract, as described here.
    #[error("{0}")]
    Rows(String),
}

impl From<DataFusionError> for DataError {
    fn from(error: DataFusionError) -> Self {
        Self::Engine(Box::new(error))
    }
}

impl From<String> for DataError {
    fn from(description: String) -> Self {
        Self::Rows(description)
    }
}

/// "column `x`: ", or nothing.
fn of_columns(columns: &[String]) -> String {
    match columns {
        [] => String::new(),
        [one] => format!("column `{one}`: "),
        many => format!("columns `{}`: ", many.join("`, `")),
    }
}

/// Derives partitions: runs the SQL of models over raw Parquet and writes flattened Parquet.
#[derive(Clone)]
pub struct Transformer {
    runtime: Arc<RuntimeEnv>,
    raw: Bucket,
    flattened: Bucket,
    salt: Option<Secret>,
    /// Planned models that no partition uses at the moment, by name.
    prepared: Arc<Mutex<HashMap<String, Vec<Prepared>>>>,
    /// In which planned models run.
    tasks: Arc<TaskContext>,
    /// Models of which a partition had duplicate keys.
    with_duplicates: Arc<Mutex<HashSet<String>>>,
    /// Columns of models that failed on a value.
    failing: Arc<Mutex<HashMap<String, Vec<String>>>>,
    /// Partitions whose raw objects have more bytes than this are large.
    large: u64,
    /// What runs plans; none if they run here.
    #[cfg(feature = "ballista")]
    cluster: Option<Cluster>,
}

/// The result of a model for a partition; its objects are complete but not yet committed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Flattened {
    /// The objects. At least one, so that a partition that lost its rows replaces what was loaded before.
    pub objects: Vec<ObjectRef>,
    /// Number of rows in the objects.
    pub rows: u64,
    /// Values that became NULL because they are not valid times, by column.
    pub unfit: Vec<UnfitTimes>,
    /// Duplicate keys, if the rows violate the model's `unique_key`.
    pub duplicates: Option<Duplicates>,
    /// The model's tests that the rows fail. They are looked at where the partition is committed.
    #[serde(skip)]
    pub failed_tests: Vec<FailedTest>,
}

/// What to check while rows are written.
struct Checks<'a> {
    /// The columns that identify a row; empty if there is no key to check.
    unique_key: &'a [String],
    /// Counters inside the query.
    watched: Option<&'a Watched>,
    /// Whether the model keeps values out of its table: then a report shows those of plain columns only.
    hides: bool,
    /// The number of the first object.
    first_object: u64,
    /// Whether to write nothing if two rows may have the same key.
    only_without_duplicates: bool,
}

/// What became of the rows of a query.
enum Written {
    Whole(Flattened),
    /// Two rows may have the same key. The objects are removed; the next object may have this number.
    Duplicates {
        next_object: u64,
    },
}

/// How many raw rows of a large partition are read at a time. A row with hundreds of readings becomes hundreds of rows:
/// with some thousand at a time they stay in the processor's cache, while a full batch of such rows would take a
/// hundred megabytes.
fn batch_rows(rows: u64, bytes: u64) -> usize {
    let batch_rows = (BATCH_BYTES * rows / bytes.max(1)).max(LEAST_BATCH_ROWS);
    usize::try_from(batch_rows).map_or(BATCH_ROWS, |it| it.min(BATCH_ROWS))
}

impl Transformer {
    /// `memory` limits the memory of all queries together, in bytes; beyond it, sorts, joins and groups spill to disk.
    ///
    /// # Errors
    /// [`TransformError::Engine`] if the engine cannot be set up.
    pub fn new(memory: usize, raw: Bucket, flattened: Bucket) -> Result<Self, TransformError> {
        let engine = |error| TransformError::Engine(Box::new(error));
        let runtime = session::runtime(memory).map_err(engine)?;
        for (address, bucket) in [(RAW_STORE, &raw), (FLATTENED_STORE, &flattened)] {
            let address = ObjectStoreUrl::parse(address).map_err(engine)?;
            runtime.register_object_store(address.as_ref(), bucket.store());
        }
        let context = session::prepared_session(runtime.clone()).map_err(engine)?;
        Ok(Self {
            runtime,
            raw,
            flattened,
            salt: None,
            prepared: Arc::default(),
            tasks: context.task_ctx(),
            with_duplicates: Arc::default(),
            failing: Arc::default(),
            large: prepared::MAX_BYTES,
            #[cfg(feature = "ballista")]
            cluster: None,
        })
    }

    /// Has plans run on a cluster.
    #[cfg(feature = "ballista")]
    pub fn on_cluster(self, cluster: Option<Cluster>) -> Self {
        Self { cluster, ..self }
    }

    /// How many partitions are worth being worked on at a time.
    pub fn at_once(&self) -> usize {
        #[cfg(feature = "ballista")]
        if self.cluster.is_some() {
            return cluster::AT_ONCE;
        }
        std::thread::available_parallelism().map_or(2, usize::from)
    }

    /// Sets the salt for hashed columns.
    pub fn with_salt(self, salt: Option<Secret>) -> Self {
        Self { salt, ..self }
    }

    /// Runs a model over the raw rows of one partition and writes the result to the flattened bucket. The caller commits
    /// the objects, or removes them with [`Transformer::discard`].
    ///
    /// # Errors
    /// [`TransformError::Value`] if the query fails on a value, [`TransformError::Data`] if it fails otherwise on the
    /// data, [`TransformError::Store`] if a bucket fails or a raw object is not as it was written.
    ///
    /// # Cancel safety
    /// If the future is dropped, objects may remain that no state lists; `clean` removes them.
    pub async fn derive(
        &self,
        model: &Model,
        contract: &Contract,
        partition: Partition,
        inputs: &Inputs,
        run: &RunId,
    ) -> Result<Flattened, TransformError> {
        let derived = self
            .derive_rows(model, contract, partition, inputs, run)
            .await;
        let mut flattened = match derived {
            Err(TransformError::Value {
                model: name,
                partition,
                error,
                ..
            }) => {
                return Err(TransformError::Value {
                    model: name,
                    partition,
                    columns: self.failing_columns(model, partition, inputs).await,
                    error,
                });
            }
            derived => derived?,
        };
        let tested = self.failed_tests(model, contract, partition, inputs, &flattened.objects);
        match tested.await {
            Ok(failed) => flattened.failed_tests = failed,
            Err(error) => {
                self.discard(&flattened.objects).await;
                return Err(TransformError::Data {
                    model: model.name.clone(),
                    partition,
                    error: error.into(),
                });
            }
        }
        Ok(flattened)
    }

    /// The columns of a model that fail on these rows; none if that is not known.
    async fn failing_columns(
        &self,
        model: &Model,
        partition: Partition,
        inputs: &Inputs,
    ) -> Vec<String> {
        let Ok(context) = session::ordered_session(self.runtime.clone()) else {
            return Vec::new();
        };
        let registered = self.register_all(&context, model, partition, inputs);
        if registered.await.is_err() {
            return Vec::new();
        }
        let suspected = self.failing.lock().get(&model.name).cloned();
        let suspected = suspected.unwrap_or_default();
        let columns = failing::failing_columns(&context, &model.sql, &suspected).await;
        if !columns.is_empty() {
            let mut failing = self.failing.lock();
            failing.insert(model.name.clone(), columns.clone());
        }
        columns
    }

    async fn derive_rows(
        &self,
        model: &Model,
        contract: &Contract,
        partition: Partition,
        inputs: &Inputs,
        run: &RunId,
    ) -> Result<Flattened, TransformError> {
        let failed = |error: DataError| TransformError::Data {
            model: model.name.clone(),
            partition,
            error,
        };
        let engine = |error: DataFusionError| failed(error.into());
        // What is kept out of a table is kept out of the report; a name inside the query may stand for such a column.
        let hides = !contract.hashed.is_empty() || !model.front_matter.drop.is_empty();
        let checks = |first_object, only_without_duplicates| Checks {
            unique_key: &model.front_matter.unique_key,
            watched: None,
            hides,
            first_object,
            only_without_duplicates,
        };
        let whole = |written| match written {
            Written::Whole(flattened) => Ok(flattened),
            Written::Duplicates { .. } => {
                Err(failed("its rows were not written".to_string().into()))
            }
        };
        let found = self.expect_all(model, partition, inputs).await?;
        let bytes = inputs.iter().flat_map(|(_, objects)| objects);
        let bytes: u64 = bytes.map(|object| object.bytes).sum();
        let is_large = bytes > self.large;
        // Such plans are of one partition.
        let is_of_one = model.front_matter.window.is_some() || partition_day::is_used(model);
        if !is_large
            && !is_of_one
            && let Some(prepared) = self.prepared(model, inputs).await.map_err(engine)?
        {
            let plan = prepared.over(&found).map_err(engine)?;
            let planned = (plan, self.tasks.clone());
            let checks = Checks {
                watched: Some(prepared.watched()),
                ..checks(0, false)
            };
            let written = self
                .flatten(planned, contract, partition, run, checks)
                .await?;
            // A failed plan is not used again: its counters are those of half a partition.
            self.prepared
                .lock()
                .entry(model.name.clone())
                .or_default()
                .push(prepared);
            return whole(written);
        }
        let planned = self.plan_for(model, partition, inputs).await;
        let (context, frame) = planned.map_err(engine)?;
        let mut first_object = 0;
        let rows = inputs.iter().flat_map(|(_, objects)| objects);
        let rows: u64 = rows.map(|object| object.rows).sum();
        let batch_rows = batch_rows(rows, bytes);
        if let Some(frame) = self
            .without_distinct(model, &frame, batch_rows)
            .filter(|_| is_large)
        {
            let (plan, watched) = watched_plan(&context, frame).await.map_err(engine)?;
            let planned = (plan, context.task_ctx());
            let checks = Checks {
                watched: Some(&watched),
                ..checks(first_object, true)
            };
            match self
                .flatten(planned, contract, partition, run, checks)
                .await?
            {
                Written::Whole(flattened) => return Ok(flattened),
                Written::Duplicates { next_object } => first_object = next_object,
            }
            self.with_duplicates.lock().insert(model.name.clone());
        }
        let (plan, watched) = watched_plan(&context, frame).await.map_err(engine)?;
        let planned = (plan, context.task_ctx());
        let checks = Checks {
            watched: Some(&watched),
            ..checks(first_object, false)
        };
        whole(
            self.flatten(planned, contract, partition, run, checks)
                .await?,
        )
    }

    /// A session to plan a partition with these inputs by itself.
    fn session_for(&self, inputs: &Inputs) -> Result<SessionContext, DataFusionError> {
        // The order of the rows decides which version is the newest.
        let has_key = |input: &Input| match input {
            Input::Source(source) => !source.key.is_empty(),
            Input::Table(_) => false,
        };
        let is_ordered = inputs.iter().any(|(input, _)| has_key(input));
        let runtime = self.runtime.clone();
        #[cfg(feature = "ballista")]
        if self.cluster.is_some() {
            return session::sendable_session(runtime, is_ordered);
        }
        match is_ordered {
            true => session::ordered_session(runtime),
            false => session::session(runtime),
        }
    }

    /// Runs a plan and writes its rows as the contract wants them: here, or on the cluster.
    async fn flatten(
        &self,
        (plan, tasks): (Arc<dyn ExecutionPlan>, Arc<TaskContext>),
        contract: &Contract,
        partition: Partition,
        run: &RunId,
        checks: Checks<'_>,
    ) -> Result<Written, TransformError> {
        #[cfg(feature = "ballista")]
        if let Some(cluster) = &self.cluster
            && let Some(written) = self
                .flatten_on(cluster, plan.clone(), contract, partition, run, &checks)
                .await?
        {
            return Ok(written);
        }
        let rows = execute_stream(plan, tasks).map_err(|error| TransformError::Data {
            model: contract.table.clone(),
            partition,
            error: error.into(),
        })?;
        self.write(rows, contract, partition, run, checks).await
    }

    /// Looks up the objects of all inputs, which must be as they were written.
    async fn expect_all(
        &self,
        model: &Model,
        partition: Partition,
        inputs: &Inputs,
    ) -> Result<Vec<(String, Vec<ObjectMeta>)>, TransformError> {
        let mut found = Vec::with_capacity(inputs.len());
        for (input, objects) in inputs {
            let objects = session::expect(&self.runtime, self.bucket_of(input), objects)
                .await
                .map_err(|error| TransformError::Store {
                    model: model.name.clone(),
                    partition,
                    error,
                })?;
            found.push((input.key(), objects));
        }
        Ok(found)
    }

    /// Plans a model for one partition.
    async fn plan_for(
        &self,
        model: &Model,
        partition: Partition,
        inputs: &Inputs,
    ) -> Result<(SessionContext, DataFrame), DataFusionError> {
        let context = self.session_for(inputs)?;
        distinct::keep_zeros(&context);
        self.register_all(&context, model, partition, inputs)
            .await?;
        let frame = select(&context, &model.sql).await?;
        Ok((context, frame))
    }

    /// The query of a model without its outermost `DISTINCT`, if it is worth a try.
    ///
    /// Rows with different keys are different. So if the key check finds no duplicate, `DISTINCT` has nothing to do, and
    /// its hash table of all rows is saved. If there are duplicates, the query runs as it is written, and other
    /// partitions of the model are not tried any more. Nor are small ones, for which the model is planned once.
    fn without_distinct(
        &self,
        model: &Model,
        frame: &DataFrame,
        batch_rows: usize,
    ) -> Option<DataFrame> {
        let is_tried = !model.front_matter.unique_key.is_empty()
            && !self.with_duplicates.lock().contains(&model.name);
        let LogicalPlan::Distinct(Distinct::All(input)) = frame.logical_plan() else {
            return None;
        };
        let (mut state, _) = frame.clone().into_parts();
        let config = state.config_mut();
        *config = config.clone().with_batch_size(batch_rows);
        is_tried.then(|| DataFrame::new(state, input.as_ref().clone()))
    }

    /// The bucket of an input.
    fn bucket_of(&self, input: &Input) -> &Bucket {
        match input {
            Input::Source(_) => &self.raw,
            Input::Table(_) => &self.flattened,
        }
    }

    /// The model planned for any objects of its inputs; none if it must be planned for each partition.
    async fn prepared(
        &self,
        model: &Model,
        inputs: &Inputs,
    ) -> Result<Option<Prepared>, DataFusionError> {
        let free = self
            .prepared
            .lock()
            .get_mut(&model.name)
            .and_then(Vec::pop)
            .filter(|prepared| prepared.is_of(&model.sql));
        if free.is_some() {
            return Ok(free);
        }
        let context = session::prepared_session(self.runtime.clone())?;
        distinct::keep_zeros(&context);
        for (input, _) in inputs {
            let (schema, store) = match input {
                Input::Source(source) => (raw_schema(source), RAW_STORE),
                Input::Table(table) => (table.contract.schema(), FLATTENED_STORE),
            };
            let table = Arc::new(Placeholder {
                input: input.key(),
                schema,
                store: ObjectStoreUrl::parse(store)?,
            });
            let Input::Source(source) = input else {
                session::register_table(&context, session::PUBLIC, input.name(), table)?;
                continue;
            };
            let schema = stored_in(source);
            session::register_table(&context, schema, &source.name, table.clone())?;
            if let Some(all) = all_versions(source) {
                session::register_table(&context, session::RAW, &all, table)?;
            }
            register_newest(&context, source, false).await?;
        }
        let frame = select(&context, &model.sql).await?;
        if !prepared::is_repeatable(frame.logical_plan())? {
            return Ok(None);
        }
        let (plan, watched) = watched_plan(&context, frame).await?;
        Ok(Some(Prepared::new(&model.sql, plan, watched)))
    }

    /// Registers all inputs of a model for a partition.
    async fn register_all(
        &self,
        context: &SessionContext,
        model: &Model,
        partition: Partition,
        inputs: &Inputs,
    ) -> Result<(), DataFusionError> {
        context.register_udf(partition_day::partition_day(partition.day()));
        let has_window = model.front_matter.window.is_some();
        for (input, objects) in inputs {
            self.register(context, input, objects, has_window).await?;
        }
        Ok(())
    }

    /// Registers a table over these objects, or `raw.<source>`: all of their rows, or the newest of each key. With a
    /// window, they are of several days.
    async fn register(
        &self,
        context: &SessionContext,
        input: &Input,
        objects: &[ObjectRef],
        has_window: bool,
    ) -> Result<(), DataFusionError> {
        let source = match input {
            Input::Source(source) => source,
            Input::Table(table) => {
                let (columns, name) = (table.contract.schema(), &table.contract.table);
                let bucket = &self.flattened;
                return session::register(context, session::PUBLIC, name, columns, bucket, objects)
                    .await;
            }
        };
        let (schema, columns) = (stored_in(source), raw_schema(source));
        session::register(context, schema, &source.name, columns, &self.raw, objects).await?;
        if let Some(all) = all_versions(source) {
            let columns = raw_schema(source);
            session::register(context, session::RAW, &all, columns, &self.raw, objects).await?;
        }
        register_newest(context, source, has_window).await
    }

    /// Whether flattened objects exist as they were written.
    ///
    /// # Errors
    /// The bucket's error, if they cannot be checked.
    pub async fn has(&self, objects: &[ObjectRef]) -> Result<bool, StoreError> {
        match self.flattened.expect(objects).await {
            Ok(()) => Ok(true),
            Err(StoreError::Lost { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether two sets of flattened objects have the same rows, in any order. False if they have another contract, or
    /// are gone.
    ///
    /// # Errors
    /// [`TransformError`] if they cannot be read.
    pub async fn has_same_rows(
        &self,
        contract: &Contract,
        before: &[ObjectRef],
        after: &[ObjectRef],
    ) -> Result<bool, TransformError> {
        let count = |objects: &[ObjectRef]| objects.iter().map(|it| it.rows).sum::<u64>();
        if count(before) != count(after) || !self.has(before).await? {
            return Ok(false);
        }
        let digests = async {
            for object in before {
                let columns = self.columns_of(object).await?;
                if columns != contract.schema() {
                    return Ok(None);
                }
            }
            let digest = async |objects| self.digest_rows(contract, objects).await;
            let (before, after) = (digest(before).await?, digest(after).await?);
            Ok(Some((before, after)))
        };
        let digests: Option<_> = digests
            .await
            .map_err(|error: DataFusionError| TransformError::Engine(Box::new(error)))?;
        Ok(digests.is_some_and(|(before, after)| before == after))
    }

    /// The columns that a flattened object has.
    async fn columns_of(&self, object: &ObjectRef) -> Result<SchemaRef, DataFusionError> {
        let context = session::session(self.runtime.clone())?;
        let columns = session::columns_of(&context, &self.flattened, &object.path).await?;
        // The contract has no other metadata of the file.
        let plain = columns.fields().iter().map(|field| {
            let field = Field::new(field.name(), field.data_type().clone(), true);
            Arc::new(field)
        });
        Ok(Arc::new(Schema::new(plain.collect::<Vec<_>>())))
    }

    /// A digest of the rows of flattened objects, independent of their order: the sum of the rows' digests.
    async fn digest_rows(
        &self,
        contract: &Contract,
        objects: &[ObjectRef],
    ) -> Result<[u128; 2], DataFusionError> {
        let context = session::session(self.runtime.clone())?;
        let (schema, bucket) = (contract.schema(), &self.flattened);
        let columns = schema.fields().iter();
        let columns = columns.map(|field| SortField::new(field.data_type().clone()));
        let converter = RowConverter::new(columns.collect())?;
        session::register(&context, session::RAW, "made", schema, bucket, objects).await?;
        let mut rows = select(&context, "SELECT * FROM raw.made")
            .await?
            .execute_stream()
            .await?;
        let mut sums = [0_u128; 2];
        while let Some(batch) = rows.next().await.transpose()? {
            for row in &converter.convert_columns(batch.columns())? {
                let digest = Sha256::digest(row.as_ref());
                for (sum, half) in sums.iter_mut().zip(digest.chunks_exact(16)) {
                    let half = half
                        .iter()
                        .fold(0, |half, byte| half << 8 | u128::from(*byte));
                    *sum = sum.wrapping_add(half);
                }
            }
        }
        Ok(sums)
    }

    /// Writes the rows of a query in the columns and types of the contract.
    async fn write(
        &self,
        mut rows: SendableRecordBatchStream,
        contract: &Contract,
        partition: Partition,
        run: &RunId,
        Checks {
            unique_key,
            watched,
            hides,
            first_object,
            only_without_duplicates,
        }: Checks<'_>,
    ) -> Result<Written, TransformError> {
        let table = &contract.table;
        let failed = |error: DataError| TransformError::Data {
            model: table.clone(),
            partition,
            error,
        };
        let store = |error| TransformError::Store {
            model: table.clone(),
            partition,
            error,
        };
        let schema = contract.schema();
        let mut unfit = Unfit::default();
        let mut keys = KeyCheck::new(unique_key, &schema, &self.runtime.memory_pool);
        let mut objects = Vec::new();
        let mut number = first_object;
        let mut begin = || {
            number += 1;
            let key = flattened_object(table, partition, run, number - 1);
            TableWriter::begin(&self.flattened, key, schema.clone())
        };
        let mut writer = begin().map_err(store)?;
        while let Some(batch) = rows.next().await {
            let batch = batch.map_err(|error| match failing::is_of_value(&error) {
                true => TransformError::Value {
                    model: table.clone(),
                    partition,
                    columns: Vec::new(),
                    error: error.into(),
                },
                false => failed(error.into()),
            })?;
            let batch = contract
                .normalise(&batch, &schema, self.salt.as_ref(), &mut unfit)
                .map_err(failed)?;
            check_day(contract, partition, &batch).map_err(|reason| failed(reason.into()))?;
            if let Some(keys) = &mut keys {
                keys.add(&batch).map_err(|error| failed(error.into()))?;
            }
            writer.write(&batch).await.map_err(store)?;
            if writer.bytes() >= OBJECT_BYTES {
                objects.push(
                    std::mem::replace(&mut writer, begin().map_err(store)?)
                        .finish()
                        .await
                        .map_err(store)?,
                );
            }
        }
        // Keys are checked while the last rows are written.
        #[expect(
            clippy::disallowed_methods,
            reason = "it computes for some milliseconds and is waited for"
        )]
        let keys = keys.map(|keys| tokio::spawn(async move { keys.finish() }));
        if writer.rows() > 0 || objects.is_empty() {
            objects.push(writer.finish().await.map_err(store)?);
        }
        let keys = match keys {
            Some(keys) => {
                let joined = keys
                    .await
                    .map_err(|error| DataFusionError::ExecutionJoin(error.into()));
                Some(joined.map_err(|error| failed(error.into()))?)
            }
            None => None,
        };
        if only_without_duplicates && keys.is_none_or(|keys| keys != Keys::Different) {
            self.discard(&objects).await;
            return Ok(Written::Duplicates {
                next_object: number,
            });
        }
        let duplicates = match keys == Some(Keys::Duplicate) {
            true => self
                .duplicates(&objects, contract, unique_key)
                .await
                .map_err(|error| failed(error.into()))?,
            false => None,
        };
        if let Some(watched) = watched {
            watched.tell(&mut unfit);
        }
        let rows = objects.iter().map(|object| object.rows).sum();
        let is_plain = |column: &str| {
            contract.columns.iter().any(|known| known.name == column)
                && !contract.hashed.iter().any(|it| it == column)
        };
        let shows = |column: &str| !hides || is_plain(column);
        Ok(Written::Whole(Flattened {
            objects,
            rows,
            unfit: unfit.into_columns(shows),
            duplicates,
            failed_tests: Vec::new(),
        }))
    }

    /// Keys that occur on more than one of the written rows.
    async fn duplicates(
        &self,
        objects: &[ObjectRef],
        contract: &Contract,
        unique_key: &[String],
    ) -> Result<Option<Duplicates>, DataFusionError> {
        let context = session::session(self.runtime.clone())?;
        session::register(
            &context,
            session::RAW,
            "written",
            contract.schema(),
            &self.flattened,
            objects,
        )
        .await?;
        unique::duplicates(&context, "raw.written", unique_key).await
    }

    /// Removes objects that will not be committed. If that fails, the next `clean` removes them.
    pub async fn discard(&self, objects: &[ObjectRef]) {
        for object in objects {
            if let Err(error) = self.flattened.delete(&object.path).await {
                tracing::debug!(object = object.path, %error, "could not remove an uncommitted object");
            }
        }
    }
}

/// The schema for the rows of a source: if it has a key, models see the newest row of each through a view.
fn stored_in(source: &Source) -> &'static str {
    match source.key.is_empty() {
        true => session::RAW,
        false => session::STORED,
    }
}

/// The name of the table with all versions of the rows of a source that is requested by time of last change.
fn all_versions(source: &Source) -> Option<String> {
    (source.kind == SourceKind::Updates).then(|| format!("{}{VERSIONS}", source.name))
}

/// Registers the view through which models see the newest rows, if the source has a key.
async fn register_newest(
    context: &SessionContext,
    source: &Source,
    has_window: bool,
) -> Result<(), DataFusionError> {
    if source.key.is_empty() {
        return Ok(());
    }
    let sql = newest::newest_sql(source, has_window);
    let plan = context.state().create_logical_plan(&sql).await?;
    let view = Arc::new(ViewTable::new(plan, Some(sql)));
    session::register_table(context, session::RAW, &source.name, view)
}

/// A model's physical plan, with counters of values that its time functions cannot read.
async fn watched_plan(
    context: &SessionContext,
    frame: DataFrame,
) -> Result<(Arc<dyn ExecutionPlan>, Watched), DataFusionError> {
    let (state, plan) = frame.into_parts();
    let plan = state.optimize(&unfit::name_columns(plan)?)?;
    let (plan, watched) = unfit::watch(plan)?;
    // The state's own method for a physical plan would optimise once more.
    let plan = state
        .query_planner()
        .create_physical_plan(&plan, &state)
        .await?;
    session::check_constants(context)?;
    Ok((plan, watched))
}

/// Binds a model against the declared schemas, and returns its contract.
///
/// # Errors
/// [`TransformError::Model`], with file, line and reason, if the SQL or the front matter is wrong, or the catalog does
/// not have a source that the model reads.
pub async fn bind(catalog: &Catalog, model: &Model) -> Result<Contract, TransformError> {
    BoundModel::bind(catalog, model)
        .await
        .map(|bound| bound.contract)
}

/// The contract of a model that reads these inputs, and whose partitions are those of `driving`. Models whose columns
/// are known are not planned.
async fn bind_contract(
    model: &Model,
    driving: &Source,
    inputs: &[Input],
    period: Option<Window>,
) -> Result<Contract, TransformError> {
    let wrong = |found| refused(model, found);
    let digest = known_columns::digest(model, driving, inputs, period);
    if let Some(schema) = known_columns::known(&digest) {
        return Contract::of(model, driving, &schema).map_err(wrong);
    }
    let schema = planned_schema(model, driving, inputs, period).await?;
    let contract = Contract::of(model, driving, &schema).map_err(wrong)?;
    data_tests::check(model, &contract, inputs)
        .await
        .map_err(wrong)?;
    Ok(contract)
}

/// The error for problems that were found in a model.
fn refused(model: &Model, found: Vec<(Place, String)>) -> TransformError {
    let of = |(place, reason): (Place, String)| Problem::new(&model.file, place, &reason);
    let unknown = || of((model.place_of_query(), "the query cannot be planned".into()));
    let problems = Problems::new(found.into_iter().map(of));
    TransformError::Model(problems.unwrap_or_else(|| unknown().into()))
}

/// The columns of a model's query, which is planned.
async fn planned_schema(
    model: &Model,
    driving: &Source,
    inputs: &[Input],
    period: Option<Window>,
) -> Result<Schema, TransformError> {
    let from_plan = |error: DataFusionError| refused(model, explain(model, &error));
    let context = reading_session(inputs).map_err(from_plan)?;
    let frame = select(&context, &model.sql).await.map_err(from_plan)?;
    let schema = frame.schema().as_arrow().clone();
    let is_by_day = driving.is_daily() && !driving.is_monthly();
    let own = period.map_or("day", Window::period);
    if is_by_day
        && let Some(period) =
            grain::longer_than_a_day(frame.logical_plan(), own).map_err(from_plan)?
    {
        let place = place_of_word(&model.sql, &period);
        let reason = match own {
            "day" => format!(
                "groups by {period}, but the model is derived day by day, and of a {period} each day would be another row: \
                 group by the day as well, and add up days where they are read{}",
                match period.as_str() {
                    "week" | "month" => format!("; or give the model `window = \"{period}\"`"),
                    _ => String::new(),
                }
            ),
            own => format!(
                "groups by {period}, but the model is derived {own} by {own}, which is a part of a {period} or is divided by it: \
                 group by the {own} as well"
            ),
        };
        let place = place.unwrap_or_else(|| model.place_of_query());
        return Err(refused(model, vec![(place, reason)]));
    }
    // Some constructs are refused only by physical planning.
    session::plan(&context, frame).await.map_err(from_plan)?;
    Ok(schema)
}

/// A session in which these inputs are empty tables.
fn reading_session(inputs: &[Input]) -> Result<SessionContext, DataFusionError> {
    let context = session::session(session::runtime(64 << 20)?)?;
    for input in inputs {
        let (schema, columns) = match input {
            Input::Source(source) => (session::RAW, raw_schema(source)),
            Input::Table(table) => (session::PUBLIC, table.contract.schema()),
        };
        let table = Arc::new(datafusion::datasource::empty::EmptyTable::new(columns));
        let mut names = vec![input.name().to_string()];
        if let Input::Source(source) = input {
            names.extend(all_versions(source));
        }
        for name in names {
            let reference = TableReference::partial(schema, name);
            context.register_table(reference, table.clone())?;
        }
    }
    Ok(context)
}

/// Warnings that do not prevent derivation: columns without a description.
pub fn remarks(model: &Model, contract: &Contract) -> Vec<Problem> {
    let undescribed = contract
        .columns
        .iter()
        .filter(|column| column.description.is_none());
    let mut by_place: BTreeMap<Place, Vec<&str>> = BTreeMap::new();
    for column in undescribed {
        let place = model.place_of_column(&column.name);
        by_place.entry(place).or_default().push(&column.name);
    }
    by_place
        .into_iter()
        .map(|(place, names)| {
            let (columns, have) = match names.len() {
                1 => ("column", "has"),
                _ => ("columns", "have"),
            };
            let reason = format!(
                "{columns} `{}` {have} no description: write a comment at the end of the column's line, -- what it is, and its unit",
                names.join("`, `")
            );
            Problem::new(&model.file, place, &reason).warning()
        })
        .collect()
}

/// The contracts of all tables that a model fills: its own, and its history table.
///
/// # Errors
/// As [`bind`].
pub async fn bind_all(catalog: &Catalog, model: &Model) -> Result<Vec<Contract>, TransformError> {
    let bound = BoundModel::bind(catalog, model).await?;
    Ok(bound.contracts().cloned().collect())
}

/// What a partition of a table depends on, as hexadecimal SHA-256.
#[derive(Debug, Clone)]
pub struct Fingerprint {
    /// As it is written into the state.
    pub current: Sha256Digest,
    /// Parts of the fingerprint of an earlier version of the program, which is seldom needed.
    earlier: (Sha256, Vec<u8>),
}

impl Fingerprint {
    /// As earlier versions of the program computed it: with comments, white space and descriptions. A partition with
    /// this fingerprint is current.
    pub fn earlier(&self) -> Sha256Digest {
        let (begun, inputs) = &self.earlier;
        Sha256Digest::of(begun.clone().chain_update(inputs))
    }

    /// Whether a fingerprint of the state is this one.
    pub fn is(&self, known: Sha256Digest) -> bool {
        known == self.current || known == self.earlier()
    }
}

/// The part of fingerprints that all partitions of a model share, computed once. A fingerprint covers everything that a
/// model's output depends on: its query as the parser prints it, the versions of the functions that it calls, the names
/// and types of its columns, its unique key, the objects that it reads, and which raw rows it sees. Comments, white space
/// and descriptions are not included.
#[derive(Debug, Clone)]
pub(super) struct ModelDigest {
    current: Sha256,
    earlier: Sha256,
}

impl ModelDigest {
    /// Of a model's SQL, its contract, and the key by which its rows are checked.
    fn new(model: &Model, contract: &Contract) -> Self {
        Self::with_versions(model, contract, functions::FUNCTION_VERSIONS)
    }

    /// The same, if functions have these versions.
    fn with_versions(model: &Model, contract: &Contract, versions: &[(&str, u32)]) -> Self {
        let versions = functions::versions_in(&model.sql, versions);
        let digest = |sql: &str, contract: Vec<u8>| {
            let mut digest = Sha256::new().chain_update(sql).chain_update(contract);
            for column in &model.front_matter.unique_key {
                digest.update([2]);
                digest.update(column);
            }
            if let Some(window) = model.front_matter.window {
                digest.update([6]);
                digest.update(window.to_string());
            }
            for (function, version) in &versions {
                digest.update([7]);
                digest.update(function);
                digest.update(version.to_le_bytes());
            }
            digest
        };
        let described = contract.digested_with_descriptions();
        Self {
            current: digest(model.canonical_sql(), contract.digested()),
            earlier: digest(model.sql.trim(), described),
        }
    }

    /// The fingerprint of the model's rows for these objects. Raw lists that do not decide are left out; for tables
    /// that do not decide, it includes their definition.
    fn fingerprint(&self, inputs: &Inputs, decides: impl Fn(&Input) -> bool) -> Fingerprint {
        let mut rows = Vec::new();
        for (input, objects) in inputs {
            let objects = || std::iter::once(objects.as_slice());
            InputDigest::new(input, decides(input)).append(&mut rows, objects);
        }
        self.of_inputs(rows)
    }

    /// The fingerprint for inputs, as the functions below append them.
    fn of_inputs(&self, inputs: Vec<u8>) -> Fingerprint {
        Fingerprint {
            current: Sha256Digest::of(self.current.clone().chain_update(&inputs)),
            earlier: (self.earlier.clone(), inputs),
        }
    }

    /// Digest of the model alone, without any rows, and of its upstream models.
    fn definition(&self, upstream: impl Iterator<Item = String>) -> String {
        let mut digest = self.current.clone();
        for definition in upstream {
            digest.update([4]);
            digest.update(definition);
        }
        const_hex::encode(digest.finalize())
    }
}

/// Bytes of most models' inputs in a fingerprint.
const TYPICAL_BYTES: usize = 256;

/// The part of a fingerprint that all partitions of an input share.
#[derive(Debug)]
struct InputDigest {
    start: Vec<u8>,
    has_objects: bool,
}

impl InputDigest {
    /// Of an input of which objects are part of the fingerprint if it `decides`.
    fn new(input: &Input, decides: bool) -> Self {
        let mut start = Vec::new();
        match input {
            Input::Source(_) if !decides => {}
            Input::Source(source) => {
                start.extend_from_slice(source.name.as_bytes());
                if let Some(key) = newest::digested(source) {
                    start.push(3);
                    start.extend_from_slice(key.as_bytes());
                }
            }
            Input::Table(table) => {
                start.push(4);
                start.extend_from_slice(table.contract.table.as_bytes());
                if !decides {
                    start.push(5);
                    start.extend_from_slice(table.bound.definition().as_bytes());
                }
            }
        }
        Self {
            start,
            has_objects: decides,
        }
    }

    /// Appends the input to the bytes of a fingerprint. The objects are asked for only if they are part of it.
    fn append<'a, O: Iterator<Item = &'a [ObjectRef]>>(
        &self,
        bytes: &mut Vec<u8>,
        objects: impl FnOnce() -> O,
    ) {
        bytes.extend_from_slice(&self.start);
        if !self.has_objects {
            return;
        }
        for object in objects().flatten() {
            bytes.push(0);
            bytes.extend_from_slice(object.path.as_bytes());
        }
        bytes.push(1);
    }
}

/// Plans a query. Other statements are refused, and `AT TIME ZONE` is planned by [`time_zone`].
async fn select(context: &SessionContext, sql: &str) -> Result<DataFrame, DataFusionError> {
    let only_queries = SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false);
    let state = context.state();
    let mut statement = state.sql_to_statement(sql, &state.config_options().sql_parser.dialect)?;
    time_zone::in_microseconds(&mut statement)?;
    let plan = state.statement_to_plan(statement).await?;
    only_queries.verify_plan(&plan)?;
    bounded::check_terms(&plan)?;
    context.execute_logical_plan(plan).await
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quote_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Refuses rows that do not belong to the partition: the warehouse would refuse the whole load.
fn check_day(contract: &Contract, partition: Partition, batch: &RecordBatch) -> Result<(), String> {
    let (Some(name), Some(day)) = (&contract.partition_by, partition.day()) else {
        return Ok(());
    };
    let Some(column) = batch.column_by_name(name) else {
        return Ok(());
    };
    let stray = if column.null_count() > 0 {
        Some("no value".to_string())
    } else if let Some(times) = column.as_primitive_opt::<TimestampMicrosecondType>() {
        let window = day_window(day);
        let inside = window.start.timestamp_micros()..window.end.timestamp_micros();
        times
            .values()
            .iter()
            .find(|at| !inside.contains(at))
            .map(|at| {
                chrono::DateTime::from_timestamp_micros(*at)
                    .map_or_else(|| at.to_string(), |at| at.to_string())
            })
    } else if let Some(days) = column.as_primitive_opt::<Date32Type>() {
        let epoch = NaiveDate::default();
        let wanted = i32::try_from((day - epoch).num_days()).unwrap_or(i32::MAX);
        days.values()
            .iter()
            .find(|other| **other != wanted)
            .map(ToString::to_string)
    } else {
        None
    };
    match stray {
        None => Ok(()),
        Some(value) => Err(format!(
            "a row has {value} in `{name}`, which is outside the day {day}: partition_by must be the time that the source's requests filter by; \
             with a window, rows are those of partition_day(), which is the day itself, or the first of a week or month"
        )),
    }
}

/// Why a query cannot be planned, where, and what to write instead if that is known.
fn explain(model: &Model, error: &DataFusionError) -> Vec<(Place, String)> {
    if let DataFusionError::Collection(errors) = error {
        return errors
            .iter()
            .flat_map(|error| explain(model, error))
            .collect();
    }
    if let DataFusionError::External(external) = error.find_root()
        && let Some(unknown) = external.downcast_ref::<UnknownField>()
    {
        let of = unknown.of.as_deref();
        let place = of.and_then(|of| place_of_field(&model.sql, of, &unknown.name));
        let place = place.or_else(|| place_of_word(&model.sql, &unknown.name));
        let place = place.unwrap_or_else(|| model.place_of_query());
        return vec![(place, unknown.reason.clone())];
    }
    let span = error.diagnostic().and_then(|found| found.span);
    let (reason, word) = told(error);
    let place = span
        .map(|span| {
            Place::between(
                (span.start.line, span.start.column),
                (span.end.line, span.end.column),
            )
        })
        .or_else(|| place_of_word(&model.sql, &word?));
    vec![(place.unwrap_or_else(|| model.place_of_query()), reason)]
}

/// Why a query cannot be planned, and the name in it that caused it, if there is one.
fn told(error: &DataFusionError) -> (String, Option<String>) {
    if let DataFusionError::SchemaError(missing, _) = error.find_root()
        && let SchemaError::FieldNotFound {
            field,
            valid_fields,
        } = &**missing
    {
        let hint = did_you_mean(
            field.name(),
            valid_fields.iter().map(|column| column.name()),
        );
        let name = field.name().to_string();
        return (format!("unknown column `{name}`{hint}"), Some(name));
    }
    let message = one_line(error);
    let mut reason = message.as_str();
    while let Some(rest) = PREFIXES.iter().find_map(|it| reason.strip_prefix(it)) {
        reason = rest;
    }
    let lower = reason.to_lowercase();
    if lower.contains("unnest")
        || lower.contains("outerreferencecolumn")
        || lower.contains("lateral")
    {
        return (
            format!(
                "{reason}; write SELECT id, item['x'] FROM (SELECT id, unnest(list) AS item FROM raw.…), \
                 CROSS JOIN UNNEST is not supported"
            ),
            None,
        );
    }
    if let Some(rest) = reason.strip_prefix("Invalid function '")
        && let Some((name, rest)) = rest.split_once('\'')
    {
        let near = rest.split('\'').nth(1);
        let hint = match (bigquery_names::instead(name), near) {
            (Some(call), _) => format!(", which BigQuery has: write for instance {call}"),
            (None, Some(near)) => format!("; did you mean `{near}`?"),
            (None, None) => String::new(),
        };
        return (
            format!("unknown function `{name}`{hint}"),
            Some(name.to_string()),
        );
    }
    (reason.to_string(), None)
}

/// Prefixes of DataFusion's error messages.
const PREFIXES: &[&str] = &[
    "Error during planning: ",
    "This feature is not implemented: ",
    "type_coercion caused by ",
    "Schema error: ",
];

/// DataFusion's message without backtrace and line breaks. It may quote values of any length.
fn one_line(error: &DataFusionError) -> String {
    foreign(error.strip_backtrace())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::CheckedCatalog;

    #[tokio::test]
    async fn every_model_of_the_catalog_binds() {
        let catalog = Catalog::open(None).unwrap();
        for model in catalog.models() {
            // The columns of the model as it is are known without a plan.
            let mut model = model.clone();
            model.sql.push(' ');
            let model = &model;
            let contract = bind(&catalog, model)
                .await
                .unwrap_or_else(|error| panic!("{error}"));
            // They fail on odd times.
            assert!(
                !model.sql.contains("to_timestamp"),
                "{} reads times otherwise than by samsara_time",
                model.name
            );
            for column in &contract.columns {
                assert!(
                    column.description.is_some(),
                    "{}.{} has no comment",
                    model.name,
                    column.name
                );
            }
        }
    }

    /// The names of objects determine which rows come last, whatever the number and size of the objects.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_newest_of_a_list_in_many_objects_is_what_was_read_last() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = Bucket::of_folder(folder.path());
        let catalog = Catalog::open(None).unwrap();
        let source = catalog.source("contacts").unwrap();
        let mut objects = Vec::new();
        for number in 0..20 {
            // Each has all ids, in an order of its own, and the last object is the least.
            let count = 3000 - 140 * number;
            let records: Vec<String> = (0..count)
                .map(|n| {
                    format!(
                        r#"{{"id":"{}","firstName":"{number}"}}"#,
                        (n * 7 + number * 11) % count
                    )
                })
                .collect();
            let body = format!(
                r#"{{"data":[{}],"pagination":{{"endCursor":"","hasNextPage":false}}}}"#,
                records.join(",")
            );
            let page = crate::samsara::split_page(&body.into(), source).unwrap();
            let batch = crate::extract::decode_for_day(source, &page, None, None, None).unwrap();
            let key = format!("raw/contacts/snapshot=1/run-{number:05}.parquet");
            let mut writer = TableWriter::begin(&bucket, key, batch.schema()).unwrap();
            writer.write(&batch).await.unwrap();
            objects.push(writer.finish().await.unwrap());
        }
        // The state may name them in any order.
        objects.reverse();
        let mut model = catalog.model("contacts").unwrap().clone();
        model.sql = "SELECT DISTINCT id, CAST(firstName AS BIGINT) AS n, samsara_time('2024-01-01T00:00:00Z') AS t \
                     FROM raw.contacts LIMIT 1000000"
            .into();
        let contract = bind(&catalog, &model).await.unwrap();
        let transformer = Transformer::new(64 << 20, bucket.clone(), bucket.clone()).unwrap();
        let inputs = vec![(source.clone().into(), objects)];
        let run = RunId::new(chrono::DateTime::UNIX_EPOCH);
        let flattened = transformer
            .derive(&model, &contract, Partition::Snapshot, &inputs, &run)
            .await
            .unwrap();
        assert_eq!((flattened.rows, flattened.duplicates), (3000, None));
        let objects = flattened.objects.clone();
        let table = QueryTable {
            raw: false,
            name: "t".into(),
            schema: contract.schema(),
            bucket: bucket.clone(),
            objects,
        };
        // An id is in the objects up to the one with fewer records than it.
        let wrong = "SELECT id FROM t WHERE n != least(19, (2999 - CAST(id AS BIGINT)) / 140)";
        let mut wrong = query(wrong, &[table], 64 << 20).await.unwrap();
        while let Some(batch) = wrong.next().await.unwrap() {
            assert_eq!(batch.num_rows(), 0, "{batch:?}");
        }

        // BigQuery takes it for a TIMESTAMP, of UTC, in microseconds.
        let file = std::fs::File::open(folder.path().join(&flattened.objects[0].path)).unwrap();
        let reader = parquet::file::reader::SerializedFileReader::new(file).unwrap();
        let metadata = parquet::file::reader::FileReader::metadata(&reader);
        let column = metadata.file_metadata().schema_descr().column(2);
        let wanted = parquet::basic::LogicalType::timestamp(true, parquet::basic::TimeUnit::MICROS);
        assert_eq!(
            column.self_type().get_basic_info().logical_type_ref(),
            Some(&wanted)
        );
    }

    /// A large partition is derived without `DISTINCT` first: the result is the same, whether or not there are
    /// duplicates, and objects of a failed attempt are removed.
    #[tokio::test(flavor = "multi_thread")]
    async fn rows_that_come_twice_are_one_also_in_large_partitions() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = Bucket::of_folder(folder.path());
        let catalog = Catalog::open(None).unwrap();
        let name = "fleet_vehicle_stats_engineRpm";
        let (source, model) = (catalog.source(name).unwrap(), catalog.model(name).unwrap());
        let contract = bind(&catalog, model).await.unwrap();
        let day = NaiveDate::from_ymd_opt(2024, 1, 1).unwrap();
        let reading = |second: u32, value: &str| {
            let (minute, second) = (second / 60, second % 60);
            format!(r#"{{"time":"2024-01-01T00:{minute:02}:{second:02}Z","value":{value}}}"#)
        };
        let many = |to: u32| -> Vec<String> {
            (0..to)
                .map(|second| reading(second, "600.5"))
                .chain([reading(3599, "-0.0")])
                .collect()
        };
        // Readings of the second page, rows in all, and whether the key is then on two of them.
        let cases = [
            (vec![reading(3000, "1")], 2002, false),
            (vec![reading(3000, "1"), reading(7, "600.5")], 2002, false),
            (
                vec![reading(3599, "-0.0"), reading(3599, "0.0")],
                2002,
                true,
            ),
            // The text of the time differs, the instant is the same.
            (
                vec![reading(8, "600.5").replace("08Z", "08.000Z")],
                2001,
                false,
            ),
            (vec![r#"{"value":1}"#.to_string(); 2], 0, false),
        ];
        for (number, (second, rows, has_duplicates)) in cases.into_iter().enumerate() {
            let mut objects = Vec::new();
            for (page, readings) in [many(2000), second].into_iter().enumerate() {
                let readings = readings.join(",");
                let records = format!(r#"[{{"id":"1","name":"A","engineRpm":[{readings}]}}]"#);
                let window = Some(day_window(day));
                let (batch, _) =
                    crate::extract::decode_page(source, records.into(), window, None).unwrap();
                let key = format!("raw/{name}/day=2024-01-01/{number}-{page:05}.parquet");
                let mut writer = TableWriter::begin(&bucket, key, batch.schema()).unwrap();
                writer.write(&batch).await.unwrap();
                objects.push(writer.finish().await.unwrap());
            }
            let inputs = vec![(source.clone().into(), objects)];
            let mut found = Vec::new();
            for large in [u64::MAX, 0] {
                let (raw, flattened) = (bucket.clone(), bucket.clone());
                let mut transformer = Transformer::new(64 << 20, raw, flattened).unwrap();
                transformer.large = large;
                let run = RunId::new(chrono::Utc::now());
                let partition = Partition::Day(day);
                let derived = transformer
                    .derive(model, &contract, partition, &inputs, &run)
                    .await;
                // A row without a time belongs to no day, with or without a duplicate.
                let Ok(derived) = derived else {
                    assert_eq!(rows, 0, "{number}");
                    continue;
                };
                let table = QueryTable {
                    raw: false,
                    name: "t".into(),
                    schema: contract.schema(),
                    bucket: bucket.clone(),
                    objects: derived.objects.clone(),
                };
                let sql = "SELECT vehicle_id, parc_id, time, CAST(engineRpm AS VARCHAR) FROM t ORDER BY time, 4";
                let mut query = query(sql, &[table], 64 << 20).await.unwrap();
                let mut text = Vec::new();
                while let Some(batch) = query.next().await.unwrap() {
                    text.push(batch);
                }
                let text = arrow::util::pretty::pretty_format_batches(&text).unwrap();
                assert_eq!(
                    (derived.rows, derived.duplicates.is_some()),
                    (rows, has_duplicates)
                );
                found.push(text.to_string());
                // What was written in vain is gone.
                let folder = folder.path().join("flattened").join(name);
                let left = files_in(&folder);
                let mine: Vec<_> = left
                    .iter()
                    .filter(|path| path.contains(&run.to_string()))
                    .collect();
                assert_eq!(mine.len(), derived.objects.len(), "{left:?}");
            }
            assert!(found.iter().all(|text| *text == found[0]), "{number}");
        }
    }

    /// The files below a folder.
    fn files_in(folder: &std::path::Path) -> Vec<String> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => files.extend(files_in(&entry.path())),
                false => files.push(entry.path().display().to_string()),
            }
        }
        files
    }

    /// Fingerprints in the state of an earlier version stay valid, and a new version of a library must not change them
    /// unnoticed.
    #[tokio::test]
    async fn only_what_changes_rows_is_stale() {
        let text = "/*---\ndescription = \"d\"\nunique_key = [\"id\"]\n---*/\nSELECT id, -- an id\n  name AS n FROM raw.fleet_tags\n";
        let of = async |text: &str| {
            let sources = "[fleet_tags]\ndescription = \"d\"\nkind = \"snapshot\"\nendpoint = \"/t\"\nrate_limit = \"5/s\"\n\
                           schema = \"id VARCHAR, name VARCHAR, n BIGINT\"\n";
            let files = [
                ("f/sources.toml".to_string(), sources.to_string()),
                ("f/t.sql".to_string(), text.to_string()),
            ];
            let catalog = Catalog::from_files("test", &files).unwrap();
            let model = catalog.model("t").unwrap();
            let contract = bind(&catalog, model).await.unwrap();
            ModelDigest::new(model, &contract).fingerprint(&Inputs::new(), |_| true)
        };
        let before = of(text).await;
        insta::assert_snapshot!(before.current, @"3305c615be768519c2941e7888403330bcf0a357cc0ba1f0d005813bea738ad4");
        insta::assert_snapshot!(before.earlier(), @"b678ee3ba34ee071b46f925e85f8c16ee5bd64940bb230a0aea468804c80aeef");
        for (from, to) in [
            ("-- an id", "-- the id of a tag"),
            ("SELECT id,", "-- What is read.\nSELECT  id ,"),
            ("SELECT", "select"),
            ("\"d\"", "\"Tags.\""),
        ] {
            let after = of(&text.replacen(from, to, 1)).await;
            assert_eq!(after.current, before.current, "{to}");
            assert!(
                after.is(before.current) && !after.is(before.earlier()),
                "{to}"
            );
        }
        for (from, to) in [
            ("name AS n", "name AS m"),
            ("name AS n", "n"),
            ("name AS n", "'-- an id' AS n"),
            ("raw.fleet_tags", "raw.fleet_tags WHERE n > 1"),
            ("unique_key = [\"id\"]", "unique_key = [\"n\"]"),
            ("unique_key", "drop = [\"n\"]\nunique_key"),
        ] {
            let after = of(&text.replacen(from, to, 1)).await;
            assert!(
                !after.is(before.current) && !after.is(before.earlier()),
                "{to}"
            );
        }
    }

    #[tokio::test]
    async fn a_function_with_another_meaning_makes_stale() {
        let catalog = Catalog::open(None).unwrap();
        let of = async |name: &str, versions: &[(&str, u32)]| {
            let model = catalog.model(name).unwrap();
            let contract = bind(&catalog, model).await.unwrap();
            ModelDigest::with_versions(model, &contract, versions)
                .fingerprint(&Inputs::new(), |_| true)
        };
        // Of both, only one calls `local_time`; its own column `local_time` would be no call, nor is a comment.
        for (name, is_stale) in [("trips_enriched", true), ("fleet_trips", false)] {
            let before = of(name, &[]).await;
            let second = of(name, &[("in_polygon", 2), ("LOCAL_TIME", 2)]).await;
            assert_eq!(second.current != before.current, is_stale, "{name}");
            // What an earlier version of the program wrote is of the earlier meaning too.
            assert_eq!(second.earlier() != before.earlier(), is_stale, "{name}");
            let third = of(name, &[("LOCAL_TIME", 3)]).await;
            assert_eq!(third.current != second.current, is_stale, "{name}");
        }
        let sql = "SELECT f(1), F (2), g, 'h(', \"k\"(1) -- f(\nFROM f";
        let versions = [("k", 4), ("h", 2), ("g", 3), ("f", 2), ("x", 2)];
        let found = functions::versions_in(sql, &versions);
        assert_eq!(found, [("f".to_string(), 2), ("k".to_string(), 4)]);
    }

    async fn bind_sql(sql: &str) -> Result<Contract, String> {
        let catalog = CheckedCatalog::open(None).unwrap();
        let catalog = catalog.into_catalog().unwrap();
        let mut model = catalog
            .model("fleet_vehicle_stats_engineRpm")
            .unwrap()
            .clone();
        model.sql = sql.to_string();
        model.front_matter.unique_key.clear();
        model.front_matter.cluster_by.clear();
        bind(&catalog, &model)
            .await
            .map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn wrong_sql_is_found_by_line() {
        let from = "FROM raw.fleet_vehicle_stats_engineRpm";
        let cases = [
            (
                format!("\nSELECT id,\n  nmae AS time {from}"),
                "engineRpm.sql:3: ",
                "name",
            ),
            (format!("SELECT ID {from}"), ":1: ", "`id`"),
            (
                format!("SELECT id, engineRpm AS time {from}"),
                "",
                "is a list: unnest it",
            ),
            (format!("SELECT id, externalIds {from}"), "", "is a map"),
            (format!("SELECT id, NULL AS time {from}"), "", "has no type"),
            (
                format!("SELECT id, name AS time {from}"),
                "",
                "is STRING, not TIMESTAMP",
            ),
            (
                format!("SELECT id, id AS ID, _window_start AS time {from}"),
                "",
                "are the same name to BigQuery",
            ),
            (
                format!("SELECT id, _window_start AS \"a.b\" {from}"),
                "",
                "is not a column name",
            ),
            (
                format!("SELECT id, _window_start AS Partition_Day {from}"),
                "",
                "has the name of the table's partition folders",
            ),
            (
                format!("SELECT s.id, r {from} AS s CROSS JOIN UNNEST(s.engineRpm) AS u(r)"),
                "",
                "write SELECT id, item",
            ),
            (
                format!(
                    "SELECT date_trunc('week', _window_start) AS time, count(*) AS n\n{from} GROUP BY 1"
                ),
                ":1: ",
                "groups by week, but the model is derived day by day",
            ),
            (
                format!(
                    "SELECT min(_window_start) AS time, count(*) AS n\n{from} GROUP BY id, extract(MONTH FROM _window_start)"
                ),
                ":1: ",
                "groups by month",
            ),
            (
                format!("SELECT id,\n  TIMESTAMP_TRUNC(_window_start, DAY) AS time {from}"),
                ":2: ",
                "write for instance date_trunc('hour', t)",
            ),
            (
                "SELECT id FROM raw.fleet_vehicles".into(),
                "",
                "fleet_vehicles",
            ),
        ];
        for (sql, place, part) in cases {
            let error = bind_sql(&sql).await.unwrap_err();
            assert!(
                error.contains(place) && error.contains(part),
                "{sql}\ngave {error}"
            );
        }
    }
}
