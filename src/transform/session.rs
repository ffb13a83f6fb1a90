//! DataFusion sessions in which sources are the tables `raw.<source>`.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{MemorySchemaProvider, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{
    ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl,
};
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::cache::cache_manager::CacheManagerConfig;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{FunctionRegistry, SendableRecordBatchStream, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectMeta;

use super::bounded::{Bounding, Refused};
use super::{
    date_trunc, fields, functions, geofence, h3, json_text, local_time, partition_day, units,
};
use crate::bounds::BATCH_ROWS;
use crate::memory;
use crate::store::{Bucket, Difference, FOOTER_BYTES, LOOKS_AT_A_TIME, ObjectRef, StoreError};

/// The catalog of all tables.
const CATALOG: &str = "datafusion";
/// Memory for footers: a raw object is read by a few models, one soon after the other. DataFusion keeps 50 MB, which a
/// run over many days would fill with footers that nobody reads again.
const FOOTERS: usize = 16 << 20;
/// And for statistics of objects, each of which is planned once.
const STATISTICS: usize = 1 << 20;
/// The schema of raw tables.
pub(super) const RAW: &str = "raw";
/// The schema of raw tables that models read through a view. No model can name it.
pub(super) const STORED: &str = "_stored";
/// The time zone of all function results: so `AT TIME ZONE` and casts know which instant is meant.
pub(super) const TIME_ZONE: &str = "UTC";
/// And that of the others.
pub(super) const PUBLIC: &str = "public";

/// The memory that all sessions share: SQL that needs more spills to disk.
pub(super) fn runtime(memory: usize) -> Result<Arc<RuntimeEnv>> {
    let pool = FairSpillPool::new(memory::for_sql(memory));
    let caches = CacheManagerConfig::default()
        .with_metadata_cache_limit(FOOTERS)
        .with_file_statistics_cache_limit(STATISTICS);
    RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(pool))
        .with_cache_manager(caches)
        .build_arc()
}

/// A session with an empty `raw` schema.
pub(super) fn session(runtime: Arc<RuntimeEnv>) -> Result<SessionContext> {
    with(runtime, config().with_target_partitions(num_cpus()))
}

/// A session whose plans are run many times, each over other objects. They read rows in the order in which they were
/// written.
pub(super) fn prepared_session(runtime: Arc<RuntimeEnv>) -> Result<SessionContext> {
    let mut config = ordered_config();
    // A dynamic filter of one run would be applied in the next.
    config.options_mut().set(
        "datafusion.optimizer.enable_dynamic_filter_pushdown",
        "false",
    )?;
    with(runtime, config)
}

/// A session whose queries read rows in the order in which they were written.
pub(super) fn ordered_session(runtime: Arc<RuntimeEnv>) -> Result<SessionContext> {
    with(runtime, ordered_config())
}

/// A session whose plans can be sent elsewhere. They are of one partition if they are to read rows in the order in which
/// these were written.
#[cfg(feature = "ballista")]
pub(super) fn sendable_session(
    runtime: Arc<RuntimeEnv>,
    is_ordered: bool,
) -> Result<SessionContext> {
    let mut config = match is_ordered {
        true => ordered_config(),
        false => config().with_target_partitions(num_cpus()),
    };
    // A filter that a join learns while it runs is shared by two operators of one process.
    config.options_mut().set(
        "datafusion.optimizer.enable_dynamic_filter_pushdown",
        "false",
    )?;
    with(runtime, config)
}

fn ordered_config() -> SessionConfig {
    let mut config = config().with_target_partitions(1);
    // In DataFusion 55, a DISTINCT with a LIMIT fails over rows that are already sorted.
    config
        .options_mut()
        .optimizer
        .enable_distinct_aggregation_soft_limit = false;
    config
}

fn with(runtime: Arc<RuntimeEnv>, config: SessionConfig) -> Result<SessionContext> {
    let refused = Arc::new(Refused::default());
    let mut config = config
        .with_batch_size(BATCH_ROWS)
        .with_extension(refused.clone());
    config.options_mut().execution.time_zone = Some(TIME_ZONE.into());
    // API fields are camelCase: identifiers keep their case, so nothing needs quoting.
    config.options_mut().sql_parser.enable_ident_normalization = false;
    // So that errors tell the line.
    config.options_mut().sql_parser.collect_spans = true;
    // The contract writes plain strings.
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    config
        .options_mut()
        .execution
        .parquet
        .schema_force_view_types = false;
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features();
    let planners = state.expr_planners().get_or_insert_default();
    planners.insert(0, fields::known_fields());
    let mut context = SessionContext::new_with_state(state.build());
    context.register_udf(functions::to_json());
    context.register_udf(functions::samsara_time());
    context.register_udf(functions::samsara_time_ms());
    context.register_udf(functions::version_time());
    functions::utc_times()
        .into_iter()
        .for_each(|function| context.register_udf(function));
    context.register_udf(date_trunc::date_trunc());
    json_text::json_functions().for_each(|function| context.register_udf(function));
    units::functions().for_each(|function| context.register_udf(function));
    context.register_udf(geofence::in_polygon());
    context.register_udf(h3::h3_cell());
    context.register_udf(local_time::local_time());
    context.register_udf(partition_day::partition_day(None));
    context.register_udf(json_text::rescued_fields());
    context.register_function_rewrite(Arc::new(Bounding(refused)))?;
    if let Some(catalog) = context.catalog(CATALOG) {
        for schema in [RAW, STORED] {
            catalog.register_schema(schema, Arc::new(MemorySchemaProvider::new()))?;
        }
    }
    Ok(context)
}

/// The default configuration. DataFusion asks for the number of cores to make it, which reads several files, and there
/// is a session for each model.
fn config() -> SessionConfig {
    static DEFAULT: LazyLock<SessionConfig> = LazyLock::new(SessionConfig::new);
    DEFAULT.clone()
}

fn num_cpus() -> usize {
    static FOUND: LazyLock<usize> =
        LazyLock::new(|| std::thread::available_parallelism().map_or(2, usize::from));
    *FOUND
}

/// Plans a query down to its operators.
pub(super) async fn plan(
    context: &SessionContext,
    frame: DataFrame,
) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = frame.create_physical_plan().await?;
    check_constants(context)?;
    Ok(plan)
}

/// DataFusion leaves constants that it cannot evaluate to the execution; these are known to be too large.
pub(super) fn check_constants(context: &SessionContext) -> Result<()> {
    match context
        .state()
        .config()
        .get_extension::<Refused>()
        .and_then(|refused| refused.reason())
    {
        Some(reason) => Err(DataFusionError::ResourcesExhausted(reason)),
        None => Ok(()),
    }
}

/// Begins to answer a query.
pub(super) async fn execute(
    context: &SessionContext,
    frame: DataFrame,
) -> Result<SendableRecordBatchStream> {
    let tasks = Arc::new(frame.task_ctx());
    execute_stream(plan(context, frame).await?, tasks)
}

/// The tables that a plan reads, with their schema.
pub(super) fn tables_of(plan: &LogicalPlan) -> Result<Vec<(String, String)>> {
    let mut tables = Vec::new();
    plan.apply_with_subqueries(|plan| {
        if let LogicalPlan::TableScan(scan) = plan {
            let name = scan.table_name.clone().resolve(CATALOG, PUBLIC);
            tables.push((name.schema.to_string(), name.table.to_string()));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(tables)
}

/// Checks that Parquet objects exist as they were written, including the row counts in their footers. A missing object
/// would otherwise mean no rows, and no error.
///
/// Footers are cached for the query that follows.
///
/// Returns the objects as the store lists them, in the order of `objects`.
pub(super) async fn expect(
    runtime: &RuntimeEnv,
    bucket: &Bucket,
    objects: &[ObjectRef],
) -> Result<Vec<ObjectMeta>, StoreError> {
    let (store, cache) = (
        bucket.store(),
        runtime.cache_manager.get_file_metadata_cache(),
    );
    let look = |object: &ObjectRef| {
        let (store, cache, object) = (store.clone(), cache.clone(), object.clone());
        async move {
            let meta = bucket.head(&object).await?;
            let footer = DFParquetMetadata::new(store.as_ref(), &meta)
                .with_metadata_size_hint(Some(FOOTER_BYTES))
                .with_file_metadata_cache(Some(cache));
            match footer.fetch_metadata().await {
                Ok(footer) => bucket.check_rows(&object, &footer).map(|()| meta),
                Err(DataFusionError::ParquetError(error)) => {
                    Err(bucket.unreadable(&object, *error))
                }
                Err(DataFusionError::ObjectStore(error)) => match *error {
                    object_store::Error::NotFound { .. } => {
                        Err(bucket.lost(&object, Difference::Gone))
                    }
                    error => Err(bucket.failed("read", &object.path, error)),
                },
                Err(error) => Err(bucket.lost(&object, Difference::Unreadable(Arc::new(error)))),
            }
        }
    };
    let looks: Vec<_> = objects.iter().map(look).collect();
    stream::iter(looks)
        .buffered(LOOKS_AT_A_TIME)
        .try_collect()
        .await
}

/// The columns that a Parquet object has.
pub(super) async fn columns_of(
    context: &SessionContext,
    bucket: &Bucket,
    key: &str,
) -> Result<SchemaRef> {
    if bucket.is_google() {
        context.register_object_store(bucket.url(), bucket.store());
    }
    let options = ListingOptions::new(Arc::new(
        ParquetFormat::default().with_force_view_types(false),
    ));
    options
        .infer_schema(&context.state(), &ListingTableUrl::parse(bucket.uri(key))?)
        .await
}

/// Registers a table under `schema_name`.
pub(super) fn register_table(
    context: &SessionContext,
    schema_name: &str,
    name: &str,
    table: Arc<dyn TableProvider>,
) -> Result<()> {
    let provider = context
        .catalog(CATALOG)
        .and_then(|catalog| catalog.schema(schema_name));
    if let Some(provider) = provider {
        provider.register_table(name.to_string(), table)?;
    }
    Ok(())
}

/// Registers `schema.name` over exactly these Parquet objects; without objects, it is an empty table.
pub(super) async fn register(
    context: &SessionContext,
    schema_name: &str,
    name: &str,
    schema: SchemaRef,
    bucket: &Bucket,
    objects: &[ObjectRef],
) -> Result<()> {
    let table: Arc<dyn TableProvider> = if objects.is_empty() {
        Arc::new(EmptyTable::new(schema))
    } else {
        if bucket.is_google() {
            context.register_object_store(bucket.url(), bucket.store());
        }
        let urls = objects
            .iter()
            .map(|object| ListingTableUrl::parse(bucket.uri(&object.path)));
        let urls = urls.collect::<Result<Vec<_>>>()?;
        let options = ListingOptions::new(Arc::new(ParquetFormat::default()));
        let config = ListingTableConfig::new_with_multi_paths(urls)
            .with_listing_options(options)
            .with_schema(schema);
        Arc::new(ListingTable::try_new(config)?)
    };
    register_table(context, schema_name, name, table)
}
