//! The one Parquet writer.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Float64Type, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use chrono::{DateTime, Utc};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStoreExt};
use parquet::DecodeResult;
use parquet::arrow::{ArrowSchemaConverter, AsyncArrowWriter};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataPushDecoder};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Bucket, Difference, ObjectRef, StoreError};

/// A row group is closed at this size: what BigQuery loads well (16 MiB and more), and what bounds memory.
const ROW_GROUP_BYTES: usize = 32 << 20;
/// Raw objects of a task are written at the same time, one for each source and day, and several tasks run at a time.
const RAW_ROW_GROUP_BYTES: usize = 8 << 20;
/// And at this many rows, so that DataFusion can skip within a large object.
const ROW_GROUP_ROWS: usize = 512 * 1024;

/// A page is closed at this size. Until then, a column with a dictionary holds eight bytes of each value, of which one or
/// two are written: at the default of a megabyte, up to eight megabytes a column.
const PAGE_BYTES: usize = 128 << 10;

/// Number of batches that may wait to be encoded.
const BATCHES_IN_FLIGHT: usize = 2;
/// This many first values of a column decide whether a dictionary is worth it;
const SAMPLE: usize = 4096;
/// with fewer than this, there is none.
const LEAST_SAMPLE: usize = 128;
/// An object with less than this is written plainly: without compression, dictionaries and an index of its pages. These
/// save it a few kilobytes, and take some hundred kilobytes and most of the time that it takes to write it.
const SMALL_BYTES: usize = 32 << 10;
/// And with fewer batches than this: slices of a page keep all of it in memory.
const HELD_BATCHES: usize = 16;

/// Streams record batches into one Parquet object, which exists only after [`TableWriter::finish`].
///
/// Batches are encoded by a task of their own, so that the next batch can be produced meanwhile.
pub struct TableWriter {
    schema: SchemaRef,
    /// Batches that are held back until it is known whether they are all of a small object,
    held: Vec<RecordBatch>,
    /// and the bytes of their values.
    held_bytes: usize,
    /// Created once the object is not small; the first batch decides how its columns are written.
    encoder: Option<Encoder>,
    /// When a row group is closed.
    row_group_bytes: usize,
    bucket: Bucket,
    key: String,
    uri: String,
    rows: u64,
}

/// The task that encodes batches.
struct Encoder {
    batches: mpsc::Sender<RecordBatch>,
    /// Ends when no more batches come, or with the first error.
    task: JoinHandle<Result<AsyncArrowWriter<BufWriter>, ParquetError>>,
    /// Bytes written and buffered so far.
    bytes: Arc<AtomicUsize>,
}

impl Encoder {
    fn begin(mut writer: AsyncArrowWriter<BufWriter>, row_group_bytes: usize) -> Self {
        let (batches, mut arrivals) = mpsc::channel::<RecordBatch>(BATCHES_IN_FLIGHT);
        let bytes = Arc::new(AtomicUsize::new(0));
        let told = bytes.clone();
        #[expect(
            clippy::disallowed_methods,
            reason = "it ends when the writer is dropped, and `end` waits for it"
        )]
        let task = tokio::spawn(async move {
            while let Some(batch) = arrivals.recv().await {
                writer.write(&batch).await?;
                if writer.in_progress_size() >= row_group_bytes {
                    writer.flush().await?;
                }
                let bytes = writer.bytes_written() + writer.in_progress_size();
                told.store(bytes, Ordering::Relaxed);
            }
            Ok(writer)
        });
        Self {
            batches,
            task,
            bytes,
        }
    }

    /// What all batches were written to.
    async fn end(self) -> Result<AsyncArrowWriter<BufWriter>, ParquetError> {
        drop(self.batches);
        self.task
            .await
            .unwrap_or_else(|error| Err(ParquetError::External(Box::new(error))))
    }
}

impl TableWriter {
    /// Begins the raw object `key` of `bucket`, as [`TableWriter::begin`] does, with smaller row groups.
    pub fn begin_raw(bucket: &Bucket, key: String, schema: SchemaRef) -> Result<Self, StoreError> {
        let writer = Self::begin(bucket, key, schema)?;
        Ok(Self {
            row_group_bytes: RAW_ROW_GROUP_BYTES,
            ..writer
        })
    }

    /// Begins the object `key` of `bucket`.
    pub fn begin(bucket: &Bucket, key: String, schema: SchemaRef) -> Result<Self, StoreError> {
        let uri = bucket.uri(&key);
        // A key that cannot be written is refused before there is anything to write.
        bucket.writer(&key)?;
        Ok(Self {
            schema,
            held: Vec::new(),
            held_bytes: 0,
            encoder: None,
            row_group_bytes: ROW_GROUP_BYTES,
            bucket: bucket.clone(),
            key,
            uri,
            rows: 0,
        })
    }

    /// Appends a batch; row groups are flushed to the bucket as they fill. An error may be that of an earlier batch.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<(), StoreError> {
        self.rows += batch.num_rows() as u64;
        if self.encoder.is_some() {
            return self.encode(batch.clone()).await;
        }
        self.held_bytes += bytes_of(batch);
        self.held.push(batch.clone());
        if self.held_bytes >= SMALL_BYTES || self.held.len() >= HELD_BATCHES {
            for batch in std::mem::take(&mut self.held) {
                self.encode(batch).await?;
            }
        }
        Ok(())
    }

    async fn encode(&mut self, batch: RecordBatch) -> Result<(), StoreError> {
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            empty => {
                let properties = properties(&self.schema, &batch);
                let writer = open(&self.bucket, &self.key, &self.schema, properties)?;
                empty.insert(Encoder::begin(writer, self.row_group_bytes))
            }
        };
        if encoder.batches.send(batch).await.is_ok() {
            return Ok(());
        }
        // It has ended early, and knows why.
        let ended = match self.encoder.take() {
            Some(encoder) => encoder.end().await.map(|_| ()),
            None => Ok(()),
        };
        let stopped = || ParquetError::General("the encoder has stopped".into());
        Err(StoreError::Parquet {
            uri: self.uri.clone(),
            source: ended.err().unwrap_or_else(stopped),
        })
    }

    /// Writes everything, up to the footer.
    async fn written(&mut self) -> Result<AsyncArrowWriter<BufWriter>, StoreError> {
        let failed = |source| StoreError::Parquet {
            uri: self.uri.clone(),
            source,
        };
        if let Some(encoder) = self.encoder.take() {
            return encoder.end().await.map_err(failed);
        }
        let mut writer = open(&self.bucket, &self.key, &self.schema, Ok(plain()))?;
        for batch in std::mem::take(&mut self.held) {
            writer.write(&batch).await.map_err(failed)?;
        }
        Ok(writer)
    }

    /// Rows written so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes written and buffered so far, except the last batches.
    pub fn bytes(&self) -> u64 {
        let bytes = |encoder: &Encoder| encoder.bytes.load(Ordering::Relaxed);
        self.encoder.as_ref().map_or(0, bytes) as u64
    }

    /// Completes the object.
    ///
    /// A failed upload leaves no object. Its parts, if any, are left to the bucket's lifecycle rule, as those of a
    /// killed run are: a bucket that refuses parts would refuse an abort as well.
    pub async fn finish(mut self) -> Result<ObjectRef, StoreError> {
        let mut writer = self.written().await?;
        let finished = writer.finish().await;
        let object = ObjectRef {
            path: self.key,
            rows: self.rows,
            bytes: writer.bytes_written() as u64,
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
            // The last request may have been applied and only its response lost, so that a second one finds no upload.
            // Nobody else writes this key, and an object exists completely or not at all.
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

/// This much of an object's end is read at once: it usually contains the footer.
pub(crate) const FOOTER_BYTES: usize = 64 << 10;

impl Bucket {
    /// Reads the footer of an object, and when the object was written.
    ///
    /// # Errors
    /// [`StoreError::Lost`] if it is not there as it was written, or the bucket's error.
    pub async fn footer(
        &self,
        object: &ObjectRef,
    ) -> Result<(ParquetMetaData, DateTime<Utc>), StoreError> {
        let (store, path) = (self.store(), Path::from(object.path.as_str()));
        let failed = |error| match error {
            object_store::Error::NotFound { .. } => self.lost(object, Difference::Gone),
            error => self.failed("read", &object.path, error),
        };
        let end = object.bytes.saturating_sub(FOOTER_BYTES as u64)..object.bytes;
        let options = GetOptions {
            range: Some(end.clone().into()),
            ..GetOptions::default()
        };
        let result = store.get_opts(&path, options).await.map_err(failed)?;
        let (found, modified) = (result.meta.size, result.meta.last_modified);
        if found != object.bytes {
            let written = object.bytes;
            return Err(self.lost(object, Difference::Size { found, written }));
        }
        let data = result.bytes().await.map_err(failed)?;
        let unreadable = |error| self.unreadable(object, error);
        let mut footer = ParquetMetaDataPushDecoder::try_new(object.bytes).map_err(unreadable)?;
        footer
            .push_ranges(vec![end], vec![data])
            .map_err(unreadable)?;
        loop {
            match footer.try_decode().map_err(unreadable)? {
                DecodeResult::Data(footer) => {
                    self.check_rows(object, &footer)?;
                    return Ok((footer, modified));
                }
                DecodeResult::NeedsData(ranges) => {
                    let data = store.get_ranges(&path, &ranges).await.map_err(failed)?;
                    footer.push_ranges(ranges, data).map_err(unreadable)?;
                }
                DecodeResult::Finished => {
                    return Err(self.lost(object, Difference::Footer("its footer has no end")));
                }
            }
        }
    }

    /// Compares the number of rows in an object's footer with those that were written.
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

    /// Why an object cannot be read: it was replaced since, or the bucket has failed.
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

/// Begins an object.
fn open(
    bucket: &Bucket,
    key: &str,
    schema: &SchemaRef,
    properties: Result<WriterProperties, ParquetError>,
) -> Result<AsyncArrowWriter<BufWriter>, StoreError> {
    let object = bucket.writer(key)?;
    properties
        .and_then(|properties| AsyncArrowWriter::try_new(object, schema.clone(), Some(properties)))
        .map_err(|source| StoreError::Parquet {
            uri: bucket.uri(key),
            source,
        })
}

/// The bytes of a batch's values. An array whose size is not known counts as large.
fn bytes_of(batch: &RecordBatch) -> usize {
    let bytes_of = |column: &ArrayRef| column.to_data().get_slice_memory_size();
    let columns = batch.columns().iter();
    columns
        .map(|column| bytes_of(column).unwrap_or(SMALL_BYTES))
        .sum()
}

/// How a small object is written.
fn plain() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::UNCOMPRESSED)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_coerce_types(true)
        .build()
}

/// How an object with these first rows is written.
///
/// A dictionary of values that hardly ever repeat (times, positions) is useless: the writer gives it up after a
/// megabyte in each row group, and what it wrote until then is larger than the values themselves.
fn properties(schema: &SchemaRef, first: &RecordBatch) -> Result<WriterProperties, ParquetError> {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_size_limit(PAGE_BYTES)
        // Standard names inside lists (`list`, `element`), as other readers expect them.
        .set_coerce_types(true);
    let mut leaves = Vec::new();
    first
        .columns()
        .iter()
        .for_each(|column| push_leaves(column, &mut leaves));
    let described = ArrowSchemaConverter::new()
        .with_coerce_types(true)
        .convert(schema)?;
    if described.num_columns() == leaves.len() {
        for (column, leaf) in described.columns().iter().zip(&leaves) {
            if has_many_values(leaf) {
                properties = properties.set_column_dictionary_enabled(column.path().clone(), false);
            }
        }
    }
    Ok(properties.build())
}

/// The arrays that become columns of Parquet, in their order.
fn push_leaves(array: &ArrayRef, leaves: &mut Vec<ArrayRef>) {
    match array.data_type() {
        DataType::Struct(_) => {
            let columns = array.as_struct().columns();
            columns
                .iter()
                .for_each(|column| push_leaves(column, leaves));
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            push_leaves(&within(list.values(), list.value_offsets()), leaves);
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            push_leaves(&within(map.keys(), map.value_offsets()), leaves);
            push_leaves(&within(map.values(), map.value_offsets()), leaves);
        }
        _ => leaves.push(array.clone()),
    }
}

/// The items between the first offset and the last.
fn within(items: &ArrayRef, offsets: &[i32]) -> ArrayRef {
    match offsets {
        [first, .., last] => items.slice(*first as usize, (last - first) as usize),
        _ => items.slice(0, 0),
    }
}

/// Whether most of an array's first values occur once.
fn has_many_values(array: &ArrayRef) -> bool {
    let present = (0..array.len())
        .filter(|row| array.is_valid(*row))
        .take(SAMPLE);
    let (mut count, mut different) = (0, HashSet::new());
    let mut add = |value: &[u8]| {
        count += 1;
        let mut hasher = DefaultHasher::new();
        hasher.write(value);
        different.insert(hasher.finish());
    };
    match array.data_type() {
        DataType::Utf8 => {
            let texts = array.as_string::<i32>();
            present.for_each(|row| add(texts.value(row).as_bytes()));
        }
        DataType::Float64 => {
            let numbers = array.as_primitive::<Float64Type>();
            present.for_each(|row| add(&numbers.value(row).to_bits().to_le_bytes()));
        }
        DataType::Int64 => {
            let numbers = array.as_primitive::<Int64Type>();
            present.for_each(|row| add(&numbers.value(row).to_le_bytes()));
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let times = array.as_primitive::<TimestampMicrosecondType>();
            present.for_each(|row| add(&times.value(row).to_le_bytes()));
        }
        _ => return false,
    }
    count >= LEAST_SAMPLE && different.len() * 2 > count
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int64Array, StringArray};
    use arrow::datatypes::{Field, Schema};
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;
    use crate::catalog::Catalog;

    #[tokio::test]
    async fn the_first_values_decide_how_columns_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = Bucket::of_folder(folder.path());
        let dictionaries = async |key: &str, batches: &[RecordBatch], schema: SchemaRef| {
            let mut writer = TableWriter::begin(&bucket, key.into(), schema).unwrap();
            for batch in batches {
                writer.write(batch).await.unwrap();
            }
            let object = writer.finish().await.unwrap();
            let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
            assert_eq!(object.rows, rows as u64);
            bucket.footer(&object).await.unwrap();
            let file = std::fs::File::open(folder.path().join(key)).unwrap();
            let reader = SerializedFileReader::new(file).unwrap();
            let found: Vec<String> = reader
                .metadata()
                .row_groups()
                .iter()
                .flat_map(|group| group.columns())
                .filter(|column| column.dictionary_page_offset().is_some())
                .map(|column| column.column_path().string())
                .collect();
            found
        };
        let schema = Arc::new(Schema::new(vec![
            Field::new("vehicle", DataType::Utf8, true),
            Field::new("place", DataType::Utf8, true),
            Field::new("count", DataType::Int64, true),
            Field::new("value", DataType::Float64, true),
        ]));
        let batch = |rows: i64| {
            let text = |prefix: &str, of: i64| -> ArrayRef {
                let texts = (0..rows).map(|row| format!("{prefix}{}", row % of));
                Arc::new(StringArray::from_iter_values(texts))
            };
            let columns: Vec<ArrayRef> = vec![
                text("v", 7),
                text("p", i64::MAX),
                Arc::new(Int64Array::from_iter(
                    (0..rows).map(|row| (row % 9 > 0).then_some(row % 9)),
                )),
                Arc::new(Float64Array::from_iter_values(
                    (0..rows).map(|row| row as f64 / 3.0),
                )),
            ];
            RecordBatch::try_new(schema.clone(), columns).unwrap()
        };
        let many = dictionaries("many.parquet", &[batch(5000), batch(20)], schema.clone()).await;
        assert_eq!(many, ["vehicle", "count"]);
        // Of few values, nothing can be said.
        let few = dictionaries("few.parquet", &[batch(20), batch(5000)], schema.clone()).await;
        assert_eq!(few, ["vehicle", "place", "count", "value"]);
        // A small object is written plainly, also if it comes in pieces.
        let small = dictionaries("small.parquet", &[batch(20), batch(30)], schema.clone()).await;
        assert!(small.is_empty(), "{small:?}");
        let codec = |key: &str| {
            let file = std::fs::File::open(folder.path().join(key)).unwrap();
            let metadata = SerializedFileReader::new(file).unwrap().metadata().clone();
            metadata.row_group(0).column(0).compression()
        };
        assert_eq!(codec("small.parquet"), Compression::UNCOMPRESSED);
        assert!(matches!(codec("few.parquet"), Compression::ZSTD(_)));
        assert!(dictionaries("none.parquet", &[], schema).await.is_empty());
        // Inside lists, objects and maps.
        let catalog = Catalog::open(None).unwrap();
        let source = catalog.source("fleet_vehicle_stats_gps").unwrap();
        let fix = |n: u32| {
            let (minute, second) = (n / 60, n % 60);
            format!(
                r#"{{"time":"2024-01-01T00:{minute:02}:{second:02}Z","latitude":{n}.5,"headingDegrees":90,"address":{{"id":"1"}}}}"#
            )
        };
        let fixes = (0..900).map(fix).collect::<Vec<_>>().join(",");
        let records = format!(r#"[{{"id":"1","externalIds":{{"a":"b"}},"gps":[{fixes}]}}]"#);
        let page = crate::samsara::split_page(
            &format!(r#"{{"data":{records},"pagination":{{"endCursor":"","hasNextPage":false}}}}"#)
                .into(),
            source,
        )
        .unwrap();
        let batch = crate::extract::decode_for_day(source, &page, None, None, None).unwrap();
        let raw = dictionaries("raw.parquet", std::slice::from_ref(&batch), batch.schema()).await;
        for (path, expected) in [
            ("gps.list.element.time", false),
            ("gps.list.element.latitude", false),
            ("gps.list.element.headingDegrees", true),
            ("gps.list.element.address.id", true),
            ("externalIds.key_value.value", true),
        ] {
            assert_eq!(
                raw.iter().any(|it| it == path),
                expected,
                "{path} of {raw:?}"
            );
        }
    }
}
