//! DataFusion sessions in which `raw.<source>` are the tables.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{MemorySchemaProvider, TableProvider};
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::Result;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};

use super::{date_trunc, functions};
use crate::store::Bucket;

/// The schema in which raw tables stand.
pub(super) const RAW: &str = "raw";
/// The schema of raw tables that models read through a view. No model can name it.
pub(super) const STORED: &str = "_stored";
/// The zone of all times that functions make: `AT TIME ZONE` and casts then know what instant is meant.
pub(super) const TIME_ZONE: &str = "UTC";

/// The memory that all sessions share: SQL that needs more spills to disk.
pub(super) fn runtime(memory: usize) -> Result<Arc<RuntimeEnv>> {
    RuntimeEnvBuilder::new().with_memory_pool(Arc::new(FairSpillPool::new(memory))).build_arc()
}

/// A session with an empty `raw` schema.
pub(super) fn session(runtime: Arc<RuntimeEnv>) -> Result<SessionContext> {
    with(runtime, SessionConfig::new().with_target_partitions(num_cpus()))
}

/// A session whose queries read rows in the order in which they were written.
pub(super) fn ordered_session(runtime: Arc<RuntimeEnv>) -> Result<SessionContext> {
    let mut config = SessionConfig::new().with_target_partitions(1);
    // A DISTINCT with a LIMIT, over rows that are sorted as they come, fails in DataFusion 55.
    config.options_mut().optimizer.enable_distinct_aggregation_soft_limit = false;
    with(runtime, config)
}

fn with(runtime: Arc<RuntimeEnv>, mut config: SessionConfig) -> Result<SessionContext> {
    config.options_mut().execution.time_zone = Some(TIME_ZONE.into());
    // API fields are camelCase: identifiers keep their case, so nothing needs quoting.
    config.options_mut().sql_parser.enable_ident_normalization = false;
    // So that errors tell the line.
    config.options_mut().sql_parser.collect_spans = true;
    // The contract writes plain strings.
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    config.options_mut().execution.parquet.schema_force_view_types = false;
    let context = SessionContext::new_with_config_rt(config, runtime);
    context.register_udf(functions::to_json());
    context.register_udf(functions::samsara_time());
    context.register_udf(functions::samsara_time_ms());
    context.register_udf(functions::version_time());
    functions::utc_times().into_iter().for_each(|function| context.register_udf(function));
    context.register_udf(date_trunc::date_trunc());
    if let Some(catalog) = context.catalog("datafusion") {
        for schema in [RAW, STORED] {
            catalog.register_schema(schema, Arc::new(MemorySchemaProvider::new()))?;
        }
    }
    Ok(context)
}

fn num_cpus() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// The columns that a Parquet object has.
pub(super) async fn columns_of(context: &SessionContext, bucket: &Bucket, key: &str) -> Result<SchemaRef> {
    if bucket.is_google() {
        context.register_object_store(bucket.url(), bucket.store());
    }
    let options = ListingOptions::new(Arc::new(ParquetFormat::default().with_force_view_types(false)));
    options.infer_schema(&context.state(), &ListingTableUrl::parse(bucket.uri(key))?).await
}

/// Registers `schema.name` over exactly these Parquet objects; over none, it is an empty table.
pub(super) async fn register(
    context: &SessionContext,
    schema_name: &str,
    name: &str,
    schema: SchemaRef,
    bucket: &Bucket,
    keys: &[String],
) -> Result<()> {
    let table: Arc<dyn TableProvider> = if keys.is_empty() {
        Arc::new(EmptyTable::new(schema))
    } else {
        if bucket.is_google() {
            context.register_object_store(bucket.url(), bucket.store());
        }
        let urls = keys.iter().map(|key| ListingTableUrl::parse(bucket.uri(key))).collect::<Result<Vec<_>>>()?;
        let options = ListingOptions::new(Arc::new(ParquetFormat::default()));
        let config = ListingTableConfig::new_with_multi_paths(urls).with_listing_options(options).with_schema(schema);
        Arc::new(ListingTable::try_new(config)?)
    };
    let provider = context.catalog("datafusion").and_then(|catalog| catalog.schema(schema_name));
    if let Some(provider) = provider {
        provider.register_table(name.to_string(), table)?;
    }
    Ok(())
}
