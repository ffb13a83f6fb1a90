//! Checkpoints of a Delta log: Parquet with one action in each row.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow_json::{LineDelimitedWriter, ReaderBuilder};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::action::Action;

/// Actions that are converted at a time.
const BATCH: usize = 1024;

fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

fn object(name: &str, members: Vec<Field>) -> Field {
    field(name, DataType::Struct(Fields::from(members)))
}

/// Texts by name.
fn texts(name: &str) -> Field {
    let entries = vec![
        Field::new("key", DataType::Utf8, false),
        field("value", DataType::Utf8),
    ];
    let entries = Field::new("key_value", DataType::Struct(Fields::from(entries)), false);
    field(name, DataType::Map(Arc::new(entries), false))
}

/// The columns of a checkpoint.
fn schema() -> SchemaRef {
    let text = |name| field(name, DataType::Utf8);
    let number = |name| field(name, DataType::Int64);
    let small = |name| field(name, DataType::Int32);
    let flag = |name| field(name, DataType::Boolean);
    Arc::new(Schema::new(vec![
        object(
            "protocol",
            vec![small("minReaderVersion"), small("minWriterVersion")],
        ),
        object(
            "metaData",
            vec![
                text("id"),
                text("name"),
                text("description"),
                object("format", vec![text("provider"), texts("options")]),
                text("schemaString"),
                field(
                    "partitionColumns",
                    DataType::List(Arc::new(field("element", DataType::Utf8))),
                ),
                texts("configuration"),
                number("createdTime"),
            ],
        ),
        object(
            "txn",
            vec![text("appId"), number("version"), number("lastUpdated")],
        ),
        object(
            "add",
            vec![
                text("path"),
                texts("partitionValues"),
                number("size"),
                number("modificationTime"),
                flag("dataChange"),
                text("stats"),
            ],
        ),
        object(
            "remove",
            vec![
                text("path"),
                number("deletionTimestamp"),
                flag("dataChange"),
                flag("extendedFileMetadata"),
                texts("partitionValues"),
                number("size"),
            ],
        ),
    ]))
}

/// A checkpoint with these actions.
pub(super) fn write(actions: &[Action]) -> Result<Bytes, ParquetError> {
    let schema = schema();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties))?;
    for actions in actions.chunks(BATCH) {
        let mut decoder = ReaderBuilder::new(schema.clone())
            .with_batch_size(BATCH)
            .build_decoder()?;
        decoder.serialize(actions)?;
        if let Some(batch) = decoder.flush()? {
            writer.write(&batch)?;
        }
    }
    Ok(writer.into_inner()?.into())
}

/// The actions of a checkpoint.
pub(super) fn read(bytes: Bytes) -> Result<Vec<Action>, ParquetError> {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    for batch in ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()? {
        writer.write(&batch?)?;
    }
    writer.finish()?;
    let text = writer.into_inner();
    serde_json::Deserializer::from_slice(&text)
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(|error| ArrowError::ExternalError(error.into()).into())
}
