//! The one Parquet writer.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use object_store::ObjectStoreExt;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use parquet::DecodeResult;
use parquet::arrow::AsyncArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataPushDecoder};
use parquet::file::properties::WriterProperties;

use super::{Bucket, Difference, ObjectRef, StoreError};

/// A row group is closed at this size: what BigQuery loads well (16 MiB and more), and what bounds memory.
const ROW_GROUP_BYTES: usize = 32 << 20;
/// And at this many rows, so that DataFusion can skip within a large object.
const ROW_GROUP_ROWS: usize = 512 * 1024;

/// Streams record batches into one Parquet object, which exists only after [`TableWriter::finish`].
pub struct TableWriter {
    writer: AsyncArrowWriter<BufWriter>,
    bucket: Bucket,
    key: String,
    uri: String,
    rows: u64,
}

impl TableWriter {
    /// Begins the object `key` of `bucket`.
    pub fn begin(bucket: &Bucket, key: String, schema: SchemaRef) -> Result<Self, StoreError> {
        let uri = bucket.uri(&key);
        let object = bucket.writer(&key)?;
        let writer =
            AsyncArrowWriter::try_new(object, schema, Some(properties())).map_err(|source| {
                StoreError::Parquet {
                    uri: uri.clone(),
                    source,
                }
            })?;
        Ok(Self {
            writer,
            bucket: bucket.clone(),
            key,
            uri,
            rows: 0,
        })
    }

    /// Appends a batch; row groups are flushed to the bucket as they fill.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<(), StoreError> {
        self.rows += batch.num_rows() as u64;
        let failed = |source| StoreError::Parquet {
            uri: self.uri.clone(),
            source,
        };
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

    /// Leaves the object: it will not exist. Parts of it that were uploaded go too, as far as the bucket lets them.
    pub async fn abandon(self) {
        if let Err(error) = self.writer.into_inner().abort().await {
            tracing::debug!(object = self.uri, %error, "parts left behind");
        }
    }

    /// Completes the object.
    ///
    /// An upload that fails leaves no object. Its parts, where there are any, are left to the bucket's lifecycle rule,
    /// as those of a killed run are: a bucket that refuses parts would refuse to abort as well.
    pub async fn finish(mut self) -> Result<ObjectRef, StoreError> {
        let finished = self.writer.finish().await;
        let object = ObjectRef {
            path: self.key,
            rows: self.rows,
            bytes: self.writer.bytes_written() as u64,
        };
        match finished {
            Ok(footer) => match footer.file_metadata().num_rows().unsigned_abs() {
                written if written == self.rows => {
                    self.bucket.sync(&object.path).await?;
                    Ok(object)
                }
                written => Err(StoreError::Ledger {
                    uri: self.uri,
                    given: self.rows,
                    written,
                }),
            },
            // The last request may have been applied and only its answer lost, so that a second one finds no upload
            // any more. Nobody else writes this key, and an object is there whole or not at all.
            Err(source) => match self
                .bucket
                .store()
                .head(&Path::from(object.path.as_str()))
                .await
            {
                Ok(found) if found.size == object.bytes => Ok(object),
                _ => Err(StoreError::Parquet {
                    uri: self.uri,
                    source,
                }),
            },
        }
    }
}

impl Bucket {
    /// Sees to it that an object is there as it was written, down to the number of rows that its footer tells.
    pub async fn expect_rows(&self, object: &ObjectRef) -> Result<(), StoreError> {
        let meta = self.head(object).await?;
        let unreadable = |error| self.unreadable(object, error);
        let mut footer = ParquetMetaDataPushDecoder::try_new(meta.size).map_err(unreadable)?;
        loop {
            match footer.try_decode().map_err(unreadable)? {
                DecodeResult::Data(footer) => return self.check_rows(object, &footer),
                DecodeResult::NeedsData(ranges) => {
                    let data = self.store().get_ranges(&meta.location, &ranges).await;
                    let data = data.map_err(|error| self.failed("read", &object.path, error))?;
                    footer.push_ranges(ranges, data).map_err(unreadable)?;
                }
                DecodeResult::Finished => {
                    return Err(self.lost(object, Difference::Footer("its footer has no end")));
                }
            }
        }
    }

    /// Compares the rows that an object's footer tells with those that were written.
    pub fn check_rows(
        &self,
        object: &ObjectRef,
        footer: &ParquetMetaData,
    ) -> Result<(), StoreError> {
        match u64::try_from(footer.file_metadata().num_rows()) {
            Ok(found) if found == object.rows => Ok(()),
            Ok(found) => Err(self.lost(
                object,
                Difference::Rows {
                    found,
                    written: object.rows,
                },
            )),
            Err(_) => Err(self.lost(object, Difference::Footer("a negative number of rows"))),
        }
    }

    /// What it means that an object cannot be read: it is another one by now, or the bucket has failed.
    pub fn unreadable(&self, object: &ObjectRef, error: ParquetError) -> StoreError {
        match error {
            ParquetError::External(source) => match source.downcast::<object_store::Error>() {
                Ok(error) => match *error {
                    object_store::Error::NotFound { .. } => self.lost(object, Difference::Gone),
                    error => self.failed("read", &object.path, error),
                },
                Err(other) => self.lost(object, Difference::Unreadable(other.into())),
            },
            error => self.lost(object, Difference::Unreadable(Arc::new(error))),
        }
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
