//! Pages to record batches, one per source of the walk.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray};
use arrow::compute::{filter_record_batch, is_not_null};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use arrow_json::ReaderBuilder;
use chrono::{DateTime, Utc};

use super::conform::{Drift, RESCUED_SLOT, conform};
use super::shape::Shape;
use crate::catalog::Source;
use crate::samsara::{Page, Window};

/// The Arrow type of every timestamp: microseconds, UTC.
pub fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The schema of a source's raw table: the declared columns and those that the pipeline adds.
pub fn raw_schema(source: &Source) -> SchemaRef {
    let mut fields: Vec<Arc<Field>> = source.fields.iter().cloned().collect();
    for (name, data_type) in [
        ("_window_start", timestamp_type()),
        ("_window_end", timestamp_type()),
        ("_parent_id", DataType::Utf8),
        ("_extracted_at", timestamp_type()),
        ("_rescued_data", DataType::Utf8),
    ] {
        fields.push(Arc::new(Field::new(name, data_type, true)));
    }
    Arc::new(Schema::new(fields))
}

/// What the pipeline knows of a batch and stamps on its rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp<'a> {
    pub(super) window: Option<Window>,
    pub(super) parent: Option<&'a str>,
    pub(super) extracted_at: DateTime<Utc>,
}

/// Decodes the pages of one walk.
pub(super) struct Decoder {
    shape: Shape,
    /// The page as one row with one list of records.
    page: SchemaRef,
    members: Vec<Member>,
}

struct Member {
    schema: SchemaRef,
    /// Where its declared columns stand among those of the walk.
    columns: Vec<usize>,
    /// The column that belongs to it alone; records without it are not its rows.
    own: Option<usize>,
    rescued: usize,
}

/// A page decoded.
pub(super) struct Decoded {
    records: StructArray,
    /// Records in the page.
    pub(super) count: u64,
    pub(super) drift: Drift,
}

impl Decoder {
    /// A decoder for sources that share one walk; mostly one source.
    pub(super) fn new(sources: &[&Source]) -> Self {
        let mut fields: Vec<Arc<Field>> = Vec::new();
        let mut index: HashMap<&str, usize> = HashMap::new();
        for field in sources.iter().flat_map(|source| source.fields.iter()) {
            index.entry(field.name()).or_insert_with(|| {
                fields.push(field.clone());
                fields.len() - 1
            });
        }
        let own = |source: &Source| match (&source.share, sources.len()) {
            (Some(share), _) => index.get(share.field.as_str()).copied(),
            (None, _) => None,
        };
        let owners: HashMap<String, usize> = sources
            .iter()
            .enumerate()
            .filter_map(|(slot, source)| Some((source.share.as_ref()?.field.clone(), slot)))
            .collect();
        let shape = Shape::of_record(&Fields::from(fields.clone()), |name| owners.get(name).copied());
        let declared = fields.len();
        for slot in 0..sources.len() {
            fields.push(Arc::new(Field::new(format!("{RESCUED_SLOT}{slot}"), DataType::Utf8, true)));
        }
        let members = sources
            .iter()
            .enumerate()
            .map(|(slot, source)| Member {
                schema: raw_schema(source),
                columns: source.fields.iter().map(|field| index[field.name().as_str()]).collect(),
                own: own(source),
                rescued: declared + slot,
            })
            .collect();
        let record = Field::new("item", DataType::Struct(Fields::from(fields)), true);
        let page = Schema::new(vec![Field::new("records", DataType::List(Arc::new(record)), true)]);
        Self { shape, page: Arc::new(page), members }
    }

    /// Decodes the records of a page.
    pub(super) fn decode(&self, page: &Page) -> Result<Decoded, String> {
        let beside: Vec<(String, &[u8])> = page.beside.iter().map(|(path, text)| (path.clone(), &text[..])).collect();
        let conformed = conform(&page.records, &self.shape, self.members.len(), &beside).map_err(|e| e.to_string())?;
        let mut decoder = ReaderBuilder::new(self.page.clone())
            .with_coerce_primitive(true)
            .with_strict_mode(true)
            .build_decoder()
            .map_err(|error| error.to_string())?;
        // The page as one row, fed in pieces so that the records are not copied.
        for piece in [&br#"{"records":"#[..], &conformed.records, b"}"] {
            let mut rest = piece;
            while !rest.is_empty() {
                let read = decoder.decode(rest).map_err(|error| error.to_string())?;
                if read == 0 {
                    return Err("more text after the list of records".into());
                }
                rest = &rest[read..];
            }
        }
        let row = decoder.flush().map_err(|error| error.to_string())?.ok_or("the page holds no row")?;
        let records = row.column(0).as_list::<i32>().value(0);
        let records = records.as_struct().clone();
        if records.len() as u64 != conformed.count {
            return Err(format!("the page has {} records, decoded are {}", conformed.count, records.len()));
        }
        Ok(Decoded { count: conformed.count, records, drift: conformed.drift })
    }

    /// The rows of the `slot`-th source.
    pub(super) fn rows(&self, decoded: &Decoded, slot: usize, stamp: Stamp<'_>) -> Result<RecordBatch, String> {
        let member = &self.members[slot];
        let records = &decoded.records;
        let count = records.len();
        let mut columns: Vec<ArrayRef> = member.columns.iter().map(|index| records.column(*index).clone()).collect();
        let instant = |at: Option<DateTime<Utc>>| -> ArrayRef {
            let array = TimestampMicrosecondArray::from(vec![at.map(|at| at.timestamp_micros()); count]);
            Arc::new(array.with_timezone("UTC"))
        };
        columns.push(instant(stamp.window.map(|window| window.start)));
        columns.push(instant(stamp.window.map(|window| window.end)));
        columns.push(Arc::new(StringArray::from(vec![stamp.parent; count])));
        columns.push(instant(Some(stamp.extracted_at)));
        columns.push(records.column(member.rescued).clone());
        let batch = RecordBatch::try_new(member.schema.clone(), columns).map_err(|error| error.to_string())?;
        // Every record is a row, but for those of a walk that is shared.
        let Some(own) = member.own else { return Ok(batch) };
        // A walk shared with others also brings records that have nothing for this source. What could not be
        // decoded stays with the first source even so: nothing is lost.
        let mut mine = is_not_null(records.column(own)).map_err(|error| error.to_string())?;
        if slot == 0 {
            let rescued = is_not_null(records.column(member.rescued)).map_err(|error| error.to_string())?;
            mine = arrow::compute::or(&mine, &rescued).map_err(|error| error.to_string())?;
        }
        if mine.true_count() == count {
            return Ok(batch);
        }
        filter_record_batch(&batch, &mine).map_err(|error| error.to_string())
    }
}
