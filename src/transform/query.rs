//! Ad-hoc SQL over loaded and extracted rows.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;

use super::{TransformError, one_line, select, session, watched_plan};
use crate::catalog::{check_query, did_you_mean};
use crate::store::{Bucket, ObjectRef};

/// A table that a query may read.
#[derive(Debug, Clone)]
pub struct QueryTable {
    /// `raw` for raw tables; none for those of the warehouse.
    pub raw: bool,
    /// Name of the table in the query.
    pub name: String,
    /// Columns of the table.
    pub schema: SchemaRef,
    /// The bucket of its objects.
    pub bucket: Bucket,
    /// The Parquet objects with the table's rows.
    pub objects: Vec<ObjectRef>,
}

/// A query that is running; [`Queried::next`] gives its result batch by batch.
pub struct Queried {
    /// Columns of the result.
    pub schema: SchemaRef,
    stream: SendableRecordBatchStream,
}

impl Queried {
    /// The next rows, or `None` after the last.
    ///
    /// # Errors
    /// [`TransformError::Engine`] if the query fails on the data or needs too much memory.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, TransformError> {
        let batch = self.stream.next().await.transpose();
        batch.map_err(|error| TransformError::Engine(Box::new(error)))
    }
}

/// Runs one SELECT over `tables`, within `memory` bytes. The objects of the tables that it reads are checked first: the
/// engine would not notice missing rows.
///
/// # Errors
/// [`TransformError::Refused`] or [`TransformError::Query`] if the SQL is wrong or too large, or names an unknown table; the bucket's error if an object
/// is not as it was written.
pub async fn query(
    sql: &str,
    tables: &[QueryTable],
    memory: usize,
) -> Result<Queried, TransformError> {
    let wrong = |error| TransformError::Engine(Box::new(error));
    check_query(sql).map_err(|(line, reason)| TransformError::Refused { line, reason })?;
    let context = session::session(session::runtime(memory).map_err(wrong)?).map_err(wrong)?;
    for table in tables {
        let schema = if table.raw {
            session::RAW
        } else {
            session::PUBLIC
        };
        session::register(
            &context,
            schema,
            &table.name,
            table.schema.clone(),
            &table.bucket,
            &table.objects,
        )
        .await
        .map_err(wrong)?;
    }
    let frame = select(&context, sql).await.map_err(|error| {
        // The engine's error has no field for the table that it did not find: only its message names it.
        let message = one_line(&error);
        let unknown = message.split("table 'datafusion.").nth(1);
        let unknown = unknown.and_then(|rest| rest.split('\'').next()?.split('.').next_back());
        let known = tables.iter().map(|table| table.name.as_str());
        let hint = unknown.map(|name| did_you_mean(name, known));
        TransformError::Query {
            error: Box::new(error),
            hint: hint.unwrap_or_default(),
        }
    })?;
    let read = session::tables_of(frame.logical_plan()).map_err(wrong)?;
    for table in tables {
        let schema = if table.raw {
            session::RAW
        } else {
            session::PUBLIC
        };
        if read.contains(&(schema.to_string(), table.name.clone())) {
            session::expect(&context.runtime_env(), &table.bucket, &table.objects).await?;
        }
    }
    // A distant time is NULL for functions that need nanoseconds; here nobody counts them.
    let (plan, _) = watched_plan(&context, frame).await.map_err(wrong)?;
    let stream = execute_stream(plan, context.task_ctx()).map_err(wrong)?;
    Ok(Queried {
        schema: stream.schema(),
        stream,
    })
}

/// The columns of the stored rows of a partition.
///
/// # Errors
/// The bucket's error if an object is not as it was written; [`TransformError::Engine`] if it is not Parquet.
pub async fn stored_schema(
    bucket: &Bucket,
    objects: &[ObjectRef],
) -> Result<SchemaRef, TransformError> {
    let wrong = |error| TransformError::Engine(Box::new(error));
    let context = session::session(session::runtime(64 << 20).map_err(wrong)?).map_err(wrong)?;
    session::expect(&context.runtime_env(), bucket, objects).await?;
    match objects.first() {
        Some(object) => session::columns_of(&context, bucket, &object.path)
            .await
            .map_err(wrong),
        None => Ok(SchemaRef::new(arrow::datatypes::Schema::empty())),
    }
}
