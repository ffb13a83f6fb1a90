//! A model that is planned once and run over many small partitions.
//!
//! Planning a query costs milliseconds, whatever its rows, and a long backfill of a small fleet has tens of thousands
//! of partitions with a few rows each. So the plan is made over a placeholder for the objects of each source, and each
//! partition runs a copy of it over its own. Such a plan does not know its data: no statistics, no order, one thread.
//! Large partitions are planned individually, see [`MAX_BYTES`].

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::TableType;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, LogicalPlan, TableProviderFilterPushDown, Volatility};
use datafusion::physical_plan::ExecutionPlan;
use object_store::ObjectMeta;

use super::unfit::Watched;

/// Partitions whose raw objects have at most this many bytes in total run a prepared plan. Beyond it, planning is a
/// small part of the work, and all threads of one query help. Readings that hardly differ take a byte each, so that this
/// may be half a million rows, for which a `DISTINCT` would need a hash table of a hundred megabytes.
pub(super) const MAX_BYTES: u64 = 512 << 10;

/// A planned model. Only one partition uses it at a time, as the counters of its time functions are part of it.
pub(super) struct Prepared {
    /// The SQL that was planned.
    sql: String,
    plan: Arc<dyn ExecutionPlan>,
    watched: Watched,
}

impl Prepared {
    /// Keeps the physical plan of `sql`, whose tables are [`Placeholder`]s.
    pub(super) fn new(sql: &str, plan: Arc<dyn ExecutionPlan>, watched: Watched) -> Self {
        Self {
            sql: sql.into(),
            plan,
            watched,
        }
    }

    /// Whether this is the plan of that SQL.
    pub(super) fn is_of(&self, sql: &str) -> bool {
        self.sql == sql
    }

    /// The plan over the objects of each input, by its key.
    ///
    /// # Errors
    /// The plan reads an input that is not among `inputs`.
    pub(super) fn over(
        &self,
        inputs: &[(String, Vec<ObjectMeta>)],
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.plan
            .clone()
            .transform_up(|node| match scan_of(&node) {
                Some(scan) => over(scan, inputs).map(Transformed::yes),
                // The state of operators belongs to one run.
                None => node.reset_state().map(Transformed::yes),
            })
            .data()
    }

    /// The counters of values that its time functions cannot read.
    pub(super) fn watched(&self) -> &Watched {
        &self.watched
    }
}

/// The scan of a placeholder.
fn scan_of(node: &Arc<dyn ExecutionPlan>) -> Option<&FileScanConfig> {
    node.downcast_ref::<DataSourceExec>()?
        .data_source()
        .downcast_ref::<FileScanConfig>()
}

/// The same scan over the objects of its source, in the order of their names: that is the order in which their rows
/// were written.
fn over(
    scan: &FileScanConfig,
    inputs: &[(String, Vec<ObjectMeta>)],
) -> Result<Arc<dyn ExecutionPlan>> {
    let placeholder = scan.file_groups.iter().flat_map(FileGroup::iter).next();
    let source = placeholder.map(|file| file.object_meta.location.as_ref());
    let Some((_, objects)) = inputs
        .iter()
        .find(|(name, _)| Some(name.as_str()) == source)
    else {
        return Err(DataFusionError::Internal(format!(
            "there are no objects for {source:?}"
        )));
    };
    let mut objects = objects.clone();
    objects.sort_by(|one, other| one.location.cmp(&other.location));
    let files = objects.into_iter().map(PartitionedFile::from).collect();
    let scan = FileScanConfigBuilder::from(scan.clone())
        .with_source(with_own_metrics(scan.file_source())?)
        .with_file_groups(vec![files])
        .build();
    Ok(DataSourceExec::from_data_source(scan))
}

/// The same source with metrics of its own. Copies of a source share theirs, and each object that is read adds some ten
/// kilobytes: over the tens of thousands of partitions that a plan may run, most of the program's memory.
fn with_own_metrics(source: &Arc<dyn FileSource>) -> Result<Arc<dyn FileSource>> {
    let Some(parquet) = source.downcast_ref::<ParquetSource>() else {
        return Ok(source.clone());
    };
    let mut fresh = ParquetSource::new(parquet.table_schema().clone())
        .with_table_parquet_options(parquet.table_parquet_options().clone());
    if let Some(readers) = parquet.parquet_file_reader_factory() {
        fresh = fresh.with_parquet_file_reader_factory(readers.clone());
    }
    if let Some(predicate) = parquet.filter() {
        fresh = fresh.with_predicate(predicate);
    }
    let projected = match parquet.projection() {
        Some(projection) => fresh.try_pushdown_projection(projection)?,
        None => None,
    };
    Ok(projected.unwrap_or_else(|| Arc::new(fresh)))
}

/// Whether running the plan again gives the same rows for the same data: functions such as `now` and `random` are
/// evaluated by the planner, or differ each time.
pub(super) fn is_repeatable(plan: &LogicalPlan) -> Result<bool> {
    let mut is_repeatable = true;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::ScalarFunction(call) = expr {
                    is_repeatable &= call.func.signature().volatility == Volatility::Immutable;
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(is_repeatable)
}

/// A table of which only the columns are known: each partition runs the plan over its own objects.
#[derive(Debug)]
pub(super) struct Placeholder {
    /// Key of the input.
    pub(super) input: String,
    /// Columns of its objects.
    pub(super) schema: SchemaRef,
    /// Where its objects will be.
    pub(super) store: ObjectStoreUrl,
}

#[async_trait]
impl TableProvider for Placeholder {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let format = ParquetFormat::default();
        let columns = format.file_source(self.schema.clone().into());
        let file = PartitionedFile::new(self.input.as_str(), 1);
        let scan = FileScanConfigBuilder::new(self.store.clone(), columns)
            .with_file_groups(vec![FileGroup::new(vec![file])])
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        format.create_physical_plan(state, scan).await
    }
}
