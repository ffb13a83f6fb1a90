//! Decodes pages into record batches, one per source of the task.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, MapBuilder, MapFieldNames, RecordBatch, StringArray,
    StringBuilder, StructArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use arrow_json::ReaderBuilder;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use super::assign_day::{DayRows, Places};
use super::decode_error::DecodeError;
use super::direct::{Direct, Sizes};
use super::drift::Drift;
use super::raw_type::StructShape;
use super::rescue::{Place, Rescued, RescuedText, RescuedValue};
use super::validate::{Pass, Stage};
use crate::catalog::{ASKED, Source, map_type};
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
    if !source.asked.is_empty() {
        fields.push(Arc::new(Field::new(ASKED, map_type(), true)));
    }
    Arc::new(Schema::new(fields))
}

/// Values that the pipeline adds to the rows of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp<'a> {
    pub(super) window: Option<Window>,
    pub(super) parent: Option<&'a str>,
    /// The values of the parameters that are stored with the rows.
    pub(super) asked: &'a [(String, String)],
    pub(super) extracted_at: DateTime<Utc>,
}

/// Decodes the pages of one task.
pub(super) struct Decoder {
    /// The columns of all sources.
    fields: Fields,
    shape: StructShape,
    members: Vec<Member>,
    /// Of the last page.
    sizes: Mutex<Sizes>,
}

struct Member {
    schema: SchemaRef,
    /// The declared columns alone.
    declared: SchemaRef,
    /// Their positions among those of the task.
    columns: Vec<usize>,
    /// The column that only this source has; records without it are not rows of this source.
    own: Option<usize>,
    /// The lists whose items are assigned to days.
    timed: Vec<usize>,
}

/// A page that is being decoded, some records at a time.
pub(super) struct Decoding<'a> {
    decoder: &'a Decoder,
    records: &'a [u8],
    way: Way<'a>,
    /// What did not fit before the decoder switched.
    drift: Drift,
}

/// How records are read.
enum Way<'a> {
    Direct(Box<Direct<'a>>),
    Checked(Box<Checked<'a>>),
}

/// Records are checked first, and then decoded by arrow-json.
struct Checked<'a> {
    pass: Pass<'a>,
    reader: arrow_json::reader::Decoder,
}

/// Some records of a page.
pub(super) struct Decoded<'a> {
    records: StructArray,
    rescued: Rescued<'a>,
}

/// The rows of one source in some records.
pub(super) struct Rows {
    /// The declared columns.
    pub(super) batch: RecordBatch,
    /// The record of each row, if some records do not become rows.
    records: Option<Vec<usize>>,
}

/// Envelope fields of a page (path and text) that are not stored with a row yet.
pub(super) type Envelope = Vec<(String, Bytes)>;

impl Decoder {
    /// A decoder for the sources of one task; usually one source.
    pub(super) fn new(sources: &[&Source]) -> Self {
        let mut fields: Vec<Arc<Field>> = Vec::new();
        let mut index: HashMap<&str, usize> = HashMap::new();
        for field in sources.iter().flat_map(|source| source.fields.iter()) {
            index.entry(field.name()).or_insert_with(|| {
                fields.push(field.clone());
                fields.len() - 1
            });
        }
        let fields = Fields::from(fields);
        let shape = StructShape::of_record(&fields);
        let members = sources
            .iter()
            .map(|source| Member {
                schema: raw_schema(source),
                declared: Arc::new(Schema::new(source.fields.clone())),
                columns: source
                    .fields
                    .iter()
                    .map(|field| index[field.name().as_str()])
                    .collect(),
                own: source
                    .share
                    .as_ref()
                    .and_then(|share| index.get(share.field.as_str()).copied()),
                timed: source
                    .time_field
                    .as_ref()
                    .map(|field| shape.timed_lists(field))
                    .unwrap_or_default(),
            })
            .collect();
        Self {
            fields,
            shape,
            members,
            sizes: Mutex::default(),
        }
    }

    /// Begins to decode the records of a page.
    pub(super) fn begin<'a>(&'a self, page: &'a Page) -> Result<Decoding<'a>, DecodeError> {
        let (records, sizes) = (&page.records, self.sizes.lock().clone());
        let direct = Direct::new(records, &self.fields, &self.shape, &sizes);
        Ok(Decoding {
            decoder: self,
            records,
            way: Way::Direct(Box::new(direct)),
            drift: Drift::default(),
        })
    }

    /// Switches to the slow path.
    fn check<'a>(
        &'a self,
        records: &'a [u8],
        stage: Stage,
        position: usize,
    ) -> Result<Checked<'a>, DecodeError> {
        // The page as one row with one list of records.
        let record = Field::new("item", DataType::Struct(self.fields.clone()), true);
        let list = DataType::List(Arc::new(record));
        let page = Schema::new(vec![Field::new("records", list, true)]);
        let reader = ReaderBuilder::new(Arc::new(page))
            .with_coerce_primitive(true)
            .with_strict_mode(true)
            .build_decoder()?;
        Ok(Checked {
            pass: Pass::new(records, &self.shape, stage, position),
            reader,
        })
    }

    /// The rows of the `source_index`-th source.
    ///
    /// Every record is a row, except in a task of several sources: there, only records that have a value for this
    /// source, decoded or not.
    pub(super) fn rows(
        &self,
        decoded: &Decoded<'_>,
        source_index: usize,
    ) -> Result<Rows, DecodeError> {
        let member = &self.members[source_index];
        let records = &decoded.records;
        let columns = member
            .columns
            .iter()
            .map(|index| records.column(*index).clone())
            .collect();
        let batch = RecordBatch::try_new(member.declared.clone(), columns)?;
        let Some(own) = member.own else {
            return Ok(Rows {
                batch,
                records: None,
            });
        };
        let own = records.column(own);
        let mut mine: Vec<bool> = (0..records.len())
            .map(|record| own.is_valid(record))
            .collect();
        for value in decoded
            .rescued
            .values
            .iter()
            .filter(|value| member.concerns(value))
        {
            mine[value.record] = true;
        }
        if mine.iter().all(|mine| *mine) {
            return Ok(Rows {
                batch,
                records: None,
            });
        }
        let records = (0..mine.len()).filter(|record| mine[*record]).collect();
        let batch = filter_record_batch(&batch, &BooleanArray::from(mine))?;
        Ok(Rows {
            batch,
            records: Some(records),
        })
    }

    /// The same with the parent's id as a further column, as in raw rows.
    pub(super) fn rows_with_parent(
        &self,
        decoded: &Decoded<'_>,
        source_index: usize,
        parent: Option<&str>,
    ) -> Result<RecordBatch, DecodeError> {
        let Rows { batch, .. } = self.rows(decoded, source_index)?;
        let schema = &self.members[source_index].schema;
        let index = schema.index_of("_parent_id")?;
        let declared = batch.schema();
        let fields: Fields = declared
            .fields()
            .iter()
            .cloned()
            .chain([schema.fields()[index].clone()])
            .collect();
        let declared = Arc::new(Schema::new(fields));
        let mut columns = batch.columns().to_vec();
        columns.push(Arc::new(StringArray::from(vec![parent; batch.num_rows()])));
        Ok(RecordBatch::try_new(declared, columns)?)
    }

    /// The raw rows of a source and day: its columns, those that the pipeline adds, and the number of rescued values.
    ///
    /// The first row also stores the fields in `envelope`.
    pub(super) fn stamp(
        &self,
        decoded: &Decoded<'_>,
        source_index: usize,
        rows: &Rows,
        owned: &DayRows,
        stamp: Stamp<'_>,
        envelope: &mut Envelope,
    ) -> Result<(RecordBatch, u64), DecodeError> {
        let member = &self.members[source_index];
        let count = owned.batch.num_rows();
        let instant = |at: Option<DateTime<Utc>>| -> ArrayRef {
            let array =
                TimestampMicrosecondArray::from(vec![at.map(|at| at.timestamp_micros()); count]);
            Arc::new(array.with_timezone("UTC"))
        };
        let (rescued, values) = member.rescued(decoded, rows, owned, envelope)?;
        let mut columns = owned.batch.columns().to_vec();
        columns.push(instant(stamp.window.map(|window| window.start)));
        columns.push(instant(stamp.window.map(|window| window.end)));
        columns.push(Arc::new(StringArray::from(vec![stamp.parent; count])));
        columns.push(instant(Some(stamp.extracted_at)));
        columns.push(rescued);
        if member.schema.column_with_name(ASKED).is_some() {
            columns.push(asked(stamp.asked, count));
        }
        let batch = RecordBatch::try_new(member.schema.clone(), columns)?;
        Ok((batch, values))
    }

    /// The sources of the task that have a column; all of them, if its source is not known.
    pub(super) fn sources_with(&self, column: Option<usize>) -> impl Iterator<Item = usize> {
        let has =
            move |member: &Member| column.is_none_or(|column| member.columns.contains(&column));
        (0..self.members.len()).filter(move |source_index| has(&self.members[*source_index]))
    }

    /// All rows of the `source_index`-th source in a page, filtered by `owned`: for single pages.
    pub(super) fn whole(
        &self,
        page: &Page,
        source_index: usize,
        stamp: Stamp<'_>,
        owned: impl Fn(RecordBatch) -> Result<DayRows, DecodeError>,
    ) -> Result<(RecordBatch, Drift), DecodeError> {
        let mut envelope = page.envelope.clone();
        let mut batches = Vec::new();
        let mut decoding = self.begin(page)?;
        while let Some(decoded) = decoding.next()? {
            let rows = self.rows(&decoded, source_index)?;
            let owned = owned(rows.batch.clone())?;
            batches.push(
                self.stamp(&decoded, source_index, &rows, &owned, stamp, &mut envelope)?
                    .0,
            );
        }
        let batch = concat_batches(&self.members[source_index].schema, &batches)?;
        Ok((batch, decoding.into_drift()))
    }
}

/// The column with the values of request parameters, the same in each row.
fn asked(values: &[(String, String)], count: usize) -> ArrayRef {
    let names = MapFieldNames {
        entry: "entries".into(),
        key: "key".into(),
        value: "value".into(),
    };
    let mut column = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for _ in 0..count {
        for (name, value) in values {
            column.keys().append_value(name);
            column.values().append_value(value);
        }
        // Both builders have the same number of values.
        _ = column.append(true);
    }
    Arc::new(column.finish())
}

impl<'a> Decoding<'a> {
    /// The next records; none after the last.
    pub(super) fn next(&mut self) -> Result<Option<Decoded<'a>>, DecodeError> {
        if let Way::Direct(direct) = &mut self.way {
            let mut sizes = Sizes::new();
            if let Ok(decoded) = direct.next(&mut sizes) {
                return Ok(decoded.map(|(records, rescued)| {
                    *self.decoder.sizes.lock() = sizes;
                    Decoded { records, rescued }
                }));
            }
            // The slow path decodes what the direct path refused, or reports what is wrong with it.
            let (stage, position) = direct.left_at();
            let checked = self.decoder.check(self.records, stage, position)?;
            let before = std::mem::replace(&mut self.way, Way::Checked(Box::new(checked)));
            self.drift.merge(before.into_drift());
        }
        match &mut self.way {
            Way::Checked(checked) => checked.next(),
            Way::Direct(_) => Err("the page is read in no way".into()),
        }
    }

    /// What did not fit.
    pub(super) fn into_drift(self) -> Drift {
        let mut drift = self.drift;
        drift.merge(self.way.into_drift());
        drift
    }
}

impl Way<'_> {
    fn into_drift(self) -> Drift {
        match self {
            Self::Direct(direct) => direct.into_drift(),
            Self::Checked(checked) => checked.pass.into_drift(),
        }
    }
}

impl<'a> Checked<'a> {
    fn next(&mut self) -> Result<Option<Decoded<'a>>, DecodeError> {
        let Some(slice) = self.pass.next()? else {
            return Ok(None);
        };
        // The slice as one row, fed in pieces to avoid copying the records.
        for piece in [&br#"{"records":["#[..], &slice.records, b"]}"] {
            let mut rest = piece;
            while !rest.is_empty() {
                let read = self.reader.decode(rest)?;
                if read == 0 {
                    return Err("more text after the list of records".into());
                }
                rest = &rest[read..];
            }
        }
        let row = self.reader.flush()?.ok_or("the page holds no row")?;
        let records = row.column(0).as_list::<i32>().value(0).as_struct().clone();
        if records.len() != slice.count {
            return Err(format!(
                "the page has {} records, decoded are {}",
                slice.count,
                records.len()
            )
            .into());
        }
        Ok(Some(Decoded {
            records,
            rescued: slice.rescued,
        }))
    }
}

/// Decodes a list of records with both paths, the direct one and that of `validate` with arrow-json: for tests
/// and fuzzing. The error describes the difference; two refusals count as equal.
pub fn compare_ways(source: &Source, records: &[u8]) -> Result<(), String> {
    let decoder = Decoder::new(&[source]);
    let mut direct = Direct::new(records, &decoder.fields, &decoder.shape, &[]);
    let mut checked = decoder
        .check(records, Stage::Before, 0)
        .map_err(|error| error.to_string())?;
    loop {
        let (one, other) = (direct.next(&mut Sizes::new()), checked.next());
        match (one, other) {
            (Ok(None), Ok(None)) => break,
            (Err(_), Err(_)) => return Ok(()),
            (Ok(Some((records, rescued))), Ok(Some(decoded))) => {
                if records != decoded.records {
                    return Err(format!("{records:?}\n is not\n{:?}", decoded.records));
                }
                if rescued != decoded.rescued {
                    return Err(format!("{rescued:?}\n is not\n{:?}", decoded.rescued));
                }
            }
            (one, other) => {
                let told =
                    |result: Result<Option<usize>, DecodeError>| format!("{result:?} records");
                let one = one.map(|it| it.map(|(records, _)| records.len()));
                return Err(format!(
                    "{} are not {}",
                    told(one.map_err(|_| "refused".into())),
                    told(other.map(|it| it.map(|decoded| decoded.records.len())))
                ));
            }
        }
    }
    let found = |drift: Drift| drift.into_found().collect::<Vec<_>>();
    let (one, other) = (found(direct.into_drift()), found(checked.pass.into_drift()));
    if one != other {
        return Err(format!("{one:?} is not {other:?}"));
    }
    Ok(())
}

impl Decoded<'_> {
    /// How many records.
    pub(super) fn count(&self) -> u64 {
        self.records.len() as u64
    }
}

impl Member {
    /// Whether a rescued value belongs to one of its columns, or to an unknown column.
    fn concerns(&self, value: &RescuedValue<'_>) -> bool {
        value
            .column
            .is_none_or(|column| self.columns.contains(&column))
    }

    /// The column `_rescued_data`, and how many values are in it.
    fn rescued(
        &self,
        decoded: &Decoded<'_>,
        rows: &Rows,
        owned: &DayRows,
        envelope: &mut Envelope,
    ) -> Result<(ArrayRef, u64), DecodeError> {
        let count = owned.batch.num_rows();
        let rescued = &decoded.rescued;
        if count == 0 || (rescued.values.is_empty() && envelope.is_empty()) {
            return Ok((new_null_array(&DataType::Utf8, count), 0));
        }
        let mut column = StringBuilder::new();
        let mut text = RescuedText::default();
        for (path, value) in envelope.drain(..) {
            text.member(path.as_bytes(), &value);
        }
        for row in 0..count {
            let row = owned.places.row(row);
            let record = rows.records.as_ref().map_or(row, |records| records[row]);
            for value in rescued
                .of_record(record)
                .iter()
                .filter(|value| self.concerns(value))
            {
                if let Some(place) = self.place(value, &owned.places, row) {
                    text.add(rescued, value, place);
                }
            }
            text.row(|text| column.append_option(text))?;
        }
        Ok((Arc::new(column.finish()), text.count))
    }

    /// Position of a row's value among the items that the day keeps; none if it belongs to another day.
    fn place(&self, value: &RescuedValue<'_>, places: &Places, row: usize) -> Option<Place> {
        let (Places::Items(lists), Some(list)) = (places, &value.list) else {
            return Some(Place::AsSent);
        };
        match self.timed.iter().position(|id| *id == list.id) {
            Some(timed) => lists.get(timed)?.place(row, list.index),
            None => Some(Place::AsSent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::extract::assign_day::rows_of_day;

    const STATS: &str = r#"
        [defaults]
        kind = "window"
        endpoint = "/stats"
        share = "types"
        share_limit = 3
        rate_limit = "5/s"
        description = "d"
        window = { start = "startTime", end = "endTime", format = "rfc3339" }
        [speed]
        params = { types = "speed" }
        time_field = "speed[].time"
        schema = "id VARCHAR, name VARCHAR, speed ARRAY<STRUCT<time VARCHAR, value DOUBLE>>"
        [rpm]
        params = { types = "rpm" }
        time_field = "rpm[].time"
        schema = "id VARCHAR, name VARCHAR, rpm ARRAY<STRUCT<time VARCHAR, value DOUBLE, parts ARRAY<BIGINT>>>"
    "#;

    fn catalog(sources: &str) -> Catalog {
        let model = "/*---\ndescription = 'd'\n---*/\nSELECT id FROM raw.speed";
        let files = [
            ("f/sources.toml".to_string(), sources.to_string()),
            ("f/m.sql".to_string(), model.to_string()),
        ];
        Catalog::from_files("test", &files).unwrap()
    }

    fn page(records: &str, envelope: &[(&str, &str)]) -> Page {
        let envelope = envelope
            .iter()
            .map(|(path, text)| (path.to_string(), Bytes::copy_from_slice(text.as_bytes())));
        Page {
            number: 1,
            envelope: envelope.collect(),
            records: Bytes::copy_from_slice(records.as_bytes()),
            is_empty: false,
            cursor: None,
            has_next: false,
        }
    }

    /// For each of `sources`, in their order in one task, the rows of a day: id and rescued text.
    fn rows(
        sources: &[&str],
        page: &Page,
        day: &str,
    ) -> Vec<Vec<(Option<String>, Option<String>)>> {
        let catalog = catalog(STATS);
        let sources: Vec<&Source> = sources
            .iter()
            .map(|name| catalog.source(name).unwrap())
            .collect();
        let decoder = Decoder::new(&sources);
        let day = day.parse().unwrap();
        let stamp = Stamp {
            window: None,
            parent: None,
            asked: &[],
            extracted_at: DateTime::UNIX_EPOCH,
        };
        let one = |source_index: usize| {
            let field = sources[source_index].time_field.as_ref().unwrap();
            let owned = |batch: RecordBatch| rows_of_day(&batch, field, day, None, None);
            let (batch, _) = decoder.whole(page, source_index, stamp, owned).unwrap();
            let texts = |name: &str| {
                let column = batch.column_by_name(name).unwrap().as_string::<i32>();
                column
                    .iter()
                    .map(|text| text.map(str::to_string))
                    .collect::<Vec<_>>()
            };
            texts("id")
                .into_iter()
                .zip(texts("_rescued_data"))
                .collect()
        };
        (0..sources.len()).map(one).collect()
    }

    fn row(id: &str, rescued: &str) -> (Option<String>, Option<String>) {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_string());
        (some(id), some(rescued))
    }

    #[test]
    fn sources_of_a_request_get_their_own_values() {
        let good = r#"[{"time":"2024-01-01T00:00:00Z","value":1}]"#;
        let misfit = r#"[{"time":"2024-01-01T00:00:00Z","value":"v"}]"#;
        let records = format!(
            r#"[{{"id":"1","name":"A","rpm":"oops"}},{{"id":"2","rpm":{good}}},{{"id":"3","rpm":{misfit},"speed":{good}}},
                {{"id":"4"}},{{"id":"5","x":1}},7,{{"id":"6","name":[]}},{{"id":"7","speed":{good},"speed":1}}]"#
        );
        let speed = vec![
            row("3", ""),
            row("5", r#"{"x":1}"#),
            row("", r#"{"$":7}"#),
            row("6", r#"{"name":[]}"#),
            row("7", r#"{"speed":1}"#),
        ];
        let rpm = vec![
            row("1", r#"{"rpm":"oops"}"#),
            row("2", ""),
            row("3", r#"{"rpm[0].value":"v"}"#),
            row("5", r#"{"x":1}"#),
            row("", r#"{"$":7}"#),
            row("6", r#"{"name":[]}"#),
        ];
        let page = page(&records, &[]);
        assert_eq!(
            rows(&["speed", "rpm"], &page, "2024-01-01"),
            [speed.clone(), rpm.clone()]
        );
        assert_eq!(rows(&["rpm", "speed"], &page, "2024-01-01"), [rpm, speed]);
    }

    #[test]
    fn rescued_values_follow_their_day_and_list() {
        let records = r#"[
            {"id":"1","rpm":[{"time":"2023-12-31T23:59:59Z","q":"yesterday"},{"time":"2024-01-01T00:00:01Z"},
                {"time":"2024-01-01T00:00:02Z","q":"today","value":"v","parts":[1,2,"three"]}]},
            {"id":"2","rpm":["none",{"time":"2023-12-31T00:00:00Z","q":1,"q":2},null,5,{"time":"2024-01-01T00:00:00Z","q":3}],
                "x":{"y":[1]}},
            {"id":"3","rpm":[{"time":"2024-01-01T00:00:00Z","q":4}]},
            {"id":"4","rpm":[{"time":"2030-01-01T00:00:00Z","q":5}]}]"#;
        let page = page(records, &[]);
        let of = |day: &str| rows(&["rpm"], &page, day).remove(0);
        assert_eq!(
            of("2023-12-31"),
            [
                row("1", r#"{"rpm[0].q":"yesterday"}"#),
                row(
                    "2",
                    r#"{"rpm[]":"none","rpm[0].q":1,"rpm[0].q#2":2,"rpm[]#2":5,"x":{"y":[1]}}"#
                ),
                row("3", ""),
                row("4", ""),
            ]
        );
        assert_eq!(
            of("2024-01-01"),
            [
                row(
                    "1",
                    r#"{"rpm[1].q":"today","rpm[1].value":"v","rpm[1].parts[2]":"three"}"#
                ),
                row(
                    "2",
                    r#"{"rpm[]":"none","rpm[]#2":5,"rpm[0].q":3,"x":{"y":[1]}}"#
                ),
                row("3", r#"{"rpm[0].q":4}"#),
                row("4", ""),
            ]
        );
        // A list that is kept as a whole keeps the positions that were sent.
        let page = self::page(
            r#"[{"id":"1","rpm":[{"time":"2024-01-01T00:00:00Z"},{"time":"2024-01-01T00:00:01Z","q":1}]}]"#,
            &[],
        );
        assert_eq!(
            rows(&["rpm"], &page, "2024-01-01")[0],
            [row("1", r#"{"rpm[1].q":1}"#)]
        );
    }

    #[test]
    fn envelope_fields_go_with_the_first_row_of_each_source() {
        let good = r#"[{"time":"2024-01-01T00:00:00Z"}]"#;
        let records = format!(
            r#"[{{"id":"1"}},{{"id":"2","rpm":{good},"x":1}},{{"id":"3","speed":{good}}}]"#
        );
        let page = page(
            &records,
            &[("$.warning", "\"partial\""), ("$[\"a.b\"]", "1")],
        );
        let envelope = r#""$.warning":"partial","$[\"a.b\"]":1"#;
        assert_eq!(
            rows(&["speed", "rpm"], &page, "2024-01-01"),
            [
                vec![row("2", &format!(r#"{{{envelope},"x":1}}"#)), row("3", "")],
                vec![row("2", &format!(r#"{{{envelope},"x":1}}"#))],
            ]
        );
    }

    #[test]
    fn more_columns_than_a_machine_word_has_bits_are_shared() {
        let mut sources = String::from(
            "[defaults]\nkind = 'snapshot'\nendpoint = '/s'\nrate_limit = '5/s'\ndescription = 'd'\nshare = 'types'\n\
             share_limit = 3\n",
        );
        for source in ["speed", "b", "c"] {
            let columns: Vec<String> = (0..100)
                .map(|column| format!("{source}{column} BIGINT"))
                .collect();
            sources += &format!(
                "[{source}]\nparams = {{ types = '{source}7' }}\nschema = 'id VARCHAR, {}'\n",
                columns.join(", ")
            );
        }
        let catalog = catalog(&sources);
        let sources: Vec<&Source> = ["speed", "b", "c"]
            .map(|name| catalog.source(name).unwrap())
            .to_vec();
        let decoder = Decoder::new(&sources);
        let members: Vec<String> = ["speed", "b", "c"]
            .iter()
            .flat_map(|name| (0..100).map(move |n| format!("\"{name}{n}\":{n}")))
            .collect();
        let page = page(
            &format!(r#"[{{"id":"1",{},"c99":"again"}}]"#, members.join(",")),
            &[],
        );
        let stamp = Stamp {
            window: None,
            parent: None,
            asked: &[],
            extracted_at: DateTime::UNIX_EPOCH,
        };
        for (source_index, source) in sources.iter().enumerate() {
            let (batch, drift) = decoder
                .whole(&page, source_index, stamp, |batch| Ok(DayRows::all(batch)))
                .unwrap();
            assert_eq!((batch.num_rows(), drift.total()), (1, 1));
            for column in 0..100_i64 {
                let values = batch
                    .column_by_name(&format!("{}{column}", source.name))
                    .unwrap();
                assert_eq!(
                    values
                        .as_primitive::<arrow::datatypes::Int64Type>()
                        .values(),
                    &[column]
                );
            }
            let rescued = batch
                .column_by_name("_rescued_data")
                .unwrap()
                .as_string::<i32>();
            let expected = (source.name == "c").then_some(r#"{"c99":"again"}"#);
            assert_eq!(rescued.iter().collect::<Vec<_>>(), [expected]);
        }
    }

    /// Text that is JSON, or nearly, with declared and undeclared fields of `MIXED`.
    fn text() -> impl proptest::strategy::Strategy<Value = String> {
        use proptest::prelude::*;
        let number = prop_oneof![
            any::<i64>().prop_map(|it| it.to_string()),
            any::<f64>().prop_map(|it| format!("{it:e}")),
            (-400_000..400_000_i32).prop_map(|it| (f64::from(it) / 1000.0).to_string()),
            "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
        ];
        let odd = prop::sample::select(vec![
            "null",
            "true",
            "false",
            "0",
            "-0",
            "-0.0",
            "01",
            "1.",
            "-",
            ".5",
            "1e",
            "nul",
            "1.0",
            "1e2",
            "9007199254740993",
            "9007199254740992",
            "9007199254740993.0",
            "4503599627370497.25",
            "9223372036854775807",
            "9223372036854775808",
            "1e400",
            "1e-400",
            "\"12\"",
            "\"-0\"",
            "\"1.5\"",
            "\" 1\"",
            "\"1e3\"",
            "\"\"",
            "\"a\"",
            "\"\\u00e9\"",
            "\"\\ud800\"",
            "\"\\ud83d\\ude9a\"",
            "\"\\n\\\"\"",
            "\"\\x\"",
            "\"\n\"",
            "\"é🚚\"",
            "\"2024-01-01T00:00:00Z\"",
            "[]",
            "{}",
            "[1]",
            "{\"a\":[{}]}",
        ]);
        let leaf = prop_oneof![odd.prop_map(str::to_string), number];
        let name = prop::sample::select(vec![
            "id",
            "i",
            "d",
            "b",
            "j",
            "m",
            "list",
            "s",
            "time",
            "value",
            "parts",
            "externalIds",
            "ExternalIds",
            "x",
            "quality",
            "a.b",
            "",
            "i\\u0064",
            "\\ud800",
            "ti\\u006de",
            "aVeryLongNameThatTheSchemaKnows",
        ]);
        let space = prop::sample::select(vec!["", "", "", "", "", "", " ", "\n\t "]);
        let members = move |inner: BoxedStrategy<String>| {
            let member = (name.clone(), space.clone(), inner, space.clone()).prop_map(
                |(name, before, value, behind)| {
                    format!("\"{name}\"{before}:{before}{value}{behind}")
                },
            );
            prop::collection::vec(member, 0..8)
                .prop_map(|members| format!("{{{}}}", members.join(",")))
        };
        let value = leaf.prop_recursive(4, 24, 6, {
            let members = members.clone();
            move |inner| {
                prop_oneof![
                    prop::collection::vec(inner.clone(), 0..5)
                        .prop_map(|items| format!("[{}]", items.join(","))),
                    members(inner.boxed()),
                ]
            }
        });
        // Valid records many times over, so that field order is guessed correctly.
        let good = (any::<u32>(), any::<bool>()).prop_map(|(n, odd)| {
            let quality = if odd { ",\"quality\":1" } else { "" };
            format!(
                r#"{{"id":"{n}","list":[{{"time":"t{n}","value":{n}.5{quality}}},{{"time":"u","parts":[1,{n}]}}],"m":{{"k":"v"}},"s":{{"i":{n}}}}}"#
            )
        });
        let record = prop_oneof![4 => members(value.clone().boxed()), 2 => good, 1 => value];
        let records = prop::collection::vec(record, 0..6)
            .prop_map(|records| format!("[{}]", records.join(",")));
        (
            records,
            prop::option::weighted(0.2, (any::<prop::sample::Index>(), 0..6_u8)),
        )
            .prop_map(|(text, change)| {
                let Some((at, what)) = change else {
                    return text;
                };
                let at = at.index(text.len());
                let at = (0..=at)
                    .rev()
                    .find(|at| text.is_char_boundary(*at))
                    .unwrap_or(0);
                let (before, behind) = text.split_at(at);
                let with = ["", "\"", "}", ",", "]", " "][usize::from(what)];
                let skip = behind.chars().next().map_or(0, char::len_utf8);
                match what {
                    0 => before.to_string(),
                    1..3 => format!("{before}{with}{behind}"),
                    _ => format!("{before}{with}{}", &behind[skip..]),
                }
            })
    }

    const MIXED: &str = "[speed]\nkind = 'snapshot'\nendpoint = '/s'\nrate_limit = '5/s'\ndescription = 'd'\n\
        schema = 'id VARCHAR, i BIGINT, d DOUBLE, b BOOLEAN, j JSON, externalIds MAP(VARCHAR, VARCHAR), \
        list ARRAY<STRUCT<time VARCHAR, value DOUBLE, parts ARRAY<BIGINT>, s STRUCT<i BIGINT, d DOUBLE>>>, \
        m MAP(VARCHAR, VARCHAR), s STRUCT<i BIGINT, id VARCHAR, value VARCHAR, list ARRAY<ARRAY<DOUBLE>>>, \
        aVeryLongNameThatTheSchemaKnows DOUBLE'\n";

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

        #[test]
        fn both_ways_of_reading_agree(text in text()) {
            static CATALOG: std::sync::LazyLock<Catalog> = std::sync::LazyLock::new(|| catalog(MIXED));
            if let Err(difference) = compare_ways(CATALOG.source("speed").unwrap(), text.as_bytes()) {
                panic!("{text}\n{difference}");
            }
        }
    }

    #[test]
    fn what_the_direct_way_refuses_is_read_the_other_way() {
        let catalog = catalog(MIXED);
        let decoder = Decoder::new(&[catalog.source("speed").unwrap()]);
        let records = r#"[{"id":"1","x":1},{"id":"2"},{"id":"3","y":[],"i":1.5}]"#;
        let page = page(records, &[]);
        let told = |mut decoding: Decoding<'_>| {
            let (mut found, mut ids) = (Vec::new(), Vec::new());
            while let Some(decoded) = decoding.next().unwrap() {
                ids.extend(
                    decoded
                        .records
                        .column(0)
                        .as_string::<i32>()
                        .iter()
                        .map(|id| id.map(str::to_string)),
                );
                found.extend(
                    decoded
                        .rescued
                        .values
                        .iter()
                        .map(|value| value.text.to_vec()),
                );
            }
            (ids, found, decoding.into_drift().into_counts())
        };
        let expected = told(decoder.begin(&page).unwrap());
        // After the first record, as at the end of a slice.
        let mut decoding = decoder.begin(&page).unwrap();
        let position = records.find(",{").unwrap() + 1;
        let checked = decoder
            .check(&page.records, Stage::Inside, position)
            .unwrap();
        decoding.way = Way::Checked(Box::new(checked));
        decoding.drift.add(None, "x", "not in the schema", 1);
        let (ids, found, drift) = told(decoding);
        assert_eq!((&ids[..], &found[..]), (&expected.0[1..], &expected.1[1..]));
        assert_eq!(drift, expected.2);
        // A text that both paths refuse: the reason comes from the slow path.
        let page = self::page(r#"[{"id":"1"},{"id":"2}]"#, &[]);
        let error = decoder.begin(&page).unwrap().next().err().unwrap();
        let error = error.to_string();
        assert!(
            error.contains("the text ends inside a string at byte 22"),
            "{error}"
        );
    }

    #[test]
    fn numbers_are_read_as_they_were_sent() {
        let catalog = catalog(
            "[speed]\nkind = 'snapshot'\nendpoint = '/s'\nrate_limit = '5/s'\ndescription = 'd'\nschema = 'i BIGINT, d DOUBLE, id VARCHAR, m MAP(VARCHAR, VARCHAR)'\n",
        );
        let decoder = Decoder::new(&[catalog.source("speed").unwrap()]);
        let stamp = Stamp {
            window: None,
            parent: None,
            asked: &[],
            extracted_at: DateTime::UNIX_EPOCH,
        };
        let long = format!("1{}e-{}", "0".repeat(500), 500);
        for (text, integer, double) in [
            ("-0", Some(0), Some(-0.0)),
            ("-0.0", Some(0), Some(-0.0)),
            ("0e999999999999999999999999", Some(0), Some(0.0)),
            ("-0e-99999999999999999999999", Some(0), Some(-0.0)),
            ("1e2", Some(100), Some(100.0)),
            (&long, Some(1), Some(1.0)),
            ("9007199254740993.0", Some(9_007_199_254_740_993), None),
            ("9223372036854775807", Some(i64::MAX), None),
            (
                "-9.223372036854775808e18",
                Some(i64::MIN),
                Some(-9_223_372_036_854_775_808.0),
            ),
            ("1e18", Some(1_000_000_000_000_000_000), Some(1e18)),
            ("1.00000000000000000001", None, Some(1.0)),
            ("4503599627370497.25", None, None),
            ("-87.629797912345678", None, Some(-87.629_797_912_345_68)),
            ("1e-400", None, None),
            ("1E400", None, None),
            ("0.1000000000000000055511151231257827", None, Some(0.1)),
            ("5e-324", None, Some(5e-324)),
        ] {
            let page = page(
                &format!(r#"[{{"i":{text},"d":{text},"id":{text},"m":{{"k":{text}}}}}]"#),
                &[],
            );
            let (batch, _) = decoder
                .whole(&page, 0, stamp, |batch| Ok(DayRows::all(batch)))
                .unwrap();
            let integers = batch
                .column(0)
                .as_primitive::<arrow::datatypes::Int64Type>();
            let doubles = batch
                .column(1)
                .as_primitive::<arrow::datatypes::Float64Type>();
            assert_eq!(integers.iter().next().unwrap(), integer, "{text}");
            assert_eq!(
                doubles.iter().next().unwrap().map(f64::to_bits),
                double.map(f64::to_bits),
                "{text}"
            );
            assert_eq!(batch.column(2).as_string::<i32>().value(0), text);
            assert_eq!(
                batch
                    .column(3)
                    .as_map()
                    .value(0)
                    .column(1)
                    .as_string::<i32>()
                    .value(0),
                text
            );
            let rescued = batch
                .column_by_name("_rescued_data")
                .unwrap()
                .as_string::<i32>()
                .iter()
                .next()
                .unwrap();
            let lost = [integer.is_none(), double.is_none()]
                .iter()
                .filter(|lost| **lost)
                .count();
            assert_eq!(
                rescued.map_or(0, |rescued| rescued.matches(text).count()),
                lost,
                "{text}"
            );
        }
    }
}
