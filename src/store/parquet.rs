//! The one Parquet writer.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use parquet::arrow::AsyncArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::{Bucket, ObjectRef, StoreError};

/// A row group is closed at this size: what BigQuery loads well (16 MiB and more), and what bounds memory.
const ROW_GROUP_BYTES: usize = 32 << 20;
/// And at this many rows, so that DataFusion can skip within a large object.
const ROW_GROUP_ROWS: usize = 512 * 1024;

/// Streams record batches into one Parquet object, which exists only after [`TableWriter::finish`].
pub struct TableWriter {
    writer: AsyncArrowWriter<BufWriter>,
    key: String,
    uri: String,
    rows: u64,
}

impl TableWriter {
    /// Begins the object `key` of `bucket`.
    pub fn begin(bucket: &Bucket, key: String, schema: SchemaRef) -> Result<Self, StoreError> {
        let uri = bucket.uri(&key);
        let object = BufWriter::new(bucket.store(), Path::from(key.as_str()));
        let writer = AsyncArrowWriter::try_new(object, schema, Some(properties()))
            .map_err(|source| StoreError::Parquet { uri: uri.clone(), source })?;
        Ok(Self { writer, key, uri, rows: 0 })
    }

    /// Adds a batch.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<(), StoreError> {
        self.rows += batch.num_rows() as u64;
        let failed = |source| StoreError::Parquet { uri: self.uri.clone(), source };
        self.writer.write(batch).await.map_err(failed)?;
        if self.writer.in_progress_size() >= ROW_GROUP_BYTES {
            self.writer.flush().await.map_err(failed)?;
        }
        Ok(())
    }

    /// Rows written so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes written and buffered so far.
    pub fn bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Completes the object.
    pub async fn finish(mut self) -> Result<ObjectRef, StoreError> {
        let failed = |source| StoreError::Parquet { uri: self.uri.clone(), source };
        let written = self.writer.finish().await.map_err(failed)?.file_metadata().num_rows();
        // The ledger leans on this number.
        if u64::try_from(written).ok() != Some(self.rows) {
            let reason = format!("{} rows were written, the file says {written}", self.rows);
            return Err(failed(ParquetError::General(reason)));
        }
        Ok(ObjectRef { path: self.key, rows: self.rows, bytes: self.writer.bytes_written() as u64 })
    }
}

fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        // Standard names inside lists (`list`, `element`), as other readers expect them.
        .set_coerce_types(true)
        .build()
}
