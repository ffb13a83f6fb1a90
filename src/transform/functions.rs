//! SQL functions that models may use in addition to DataFusion's.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, StringBuilder, TimestampMicrosecondBuilder, make_array,
};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use arrow::error::ArrowError;
use arrow_json::writer::{EncoderFactory, EncoderOptions, NullableEncoder, make_encoder};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::session::TIME_ZONE;
use super::unfit::Occurrence;
use crate::extract::{InstantReader, instant_of_millis, timestamp_type};

/// Functions whose meaning has changed since a release, the program's own and the engine's, each with the number of its
/// present meaning: 2 after the first change. A model that calls one is derived again; others are as they were.
pub(super) const FUNCTION_VERSIONS: &[(&str, u32)] = &[];

/// Of `versions`, those of functions that a query calls, in alphabetical order.
pub(super) fn versions_in(sql: &str, versions: &[(&str, u32)]) -> Vec<(String, u32)> {
    if versions.is_empty() {
        return Vec::new();
    }
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize();
    // A model is parsed before, so its text has tokens.
    let mut tokens = tokens.unwrap_or_default();
    tokens.retain(|token| !matches!(token, Token::Whitespace(_)));
    let mut found = Vec::new();
    for pair in tokens.windows(2) {
        let [Token::Word(word), Token::LParen] = pair else {
            continue;
        };
        let called = versions
            .iter()
            .find(|(name, _)| word.value.eq_ignore_ascii_case(name));
        found.extend(called.map(|(name, version)| ((*name).to_string(), *version)));
    }
    found.sort();
    found.dedup();
    found
}

/// `to_json(x)`: any value as JSON text, NULL for NULL. A flattened table cannot have lists and maps; it can have their
/// text, and BigQuery reads it with `PARSE_JSON`.
pub(super) fn to_json() -> ScalarUDF {
    ScalarUDF::from(ToJson {
        signature: Signature::any(1, Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ToJson {
    signature: Signature,
}

impl ScalarUDFImpl for ToJson {
    fn name(&self) -> &str {
        "to_json"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = &args.args[..] else {
            return exec_err!("to_json takes one value");
        };
        let array = value.to_array(args.number_rows)?;
        Ok(ColumnarValue::Array(encode(&array)?))
    }
}

fn encode(array: &ArrayRef) -> Result<ArrayRef> {
    let field = Arc::new(Field::new("value", array.data_type().clone(), true));
    let options = EncoderOptions::default().with_encoder_factory(Arc::new(WholeMaps));
    let mut encoder = make_encoder(&field, array.as_ref(), &options)?;
    let mut texts = StringBuilder::new();
    let mut text = Vec::new();
    for row in 0..array.len() {
        if encoder.is_null(row) {
            texts.append_null();
            continue;
        }
        text.clear();
        encoder.encode(row, &mut text);
        match std::str::from_utf8(&text) {
            Ok(text) => texts.append_value(text),
            Err(error) => return exec_err!("to_json: {error}"),
        }
    }
    Ok(Arc::new(texts.finish()))
}

/// Keeps the nulls of a map: a key without a value is a key. A null field of an object was perhaps never sent, and is
/// left out.
#[derive(Debug)]
struct WholeMaps;

static WITH_NULLS: LazyLock<EncoderOptions> =
    LazyLock::new(|| EncoderOptions::default().with_explicit_nulls(true));

impl EncoderFactory for WholeMaps {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        _: &'a EncoderOptions,
    ) -> std::result::Result<Option<NullableEncoder<'a>>, ArrowError> {
        match array.data_type() {
            DataType::Map(_, _) => make_encoder(field, array, &WITH_NULLS).map(Some),
            _ => Ok(None),
        }
    }
}

/// What a time is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum TimeForm {
    /// RFC 3339 text.
    Text,
    /// Milliseconds since 1970.
    Millis,
}

/// `samsara_time(text)` and `samsara_time_ms(bigint)`: the instant, in microseconds and UTC. A value that is not an
/// instant of the years 1 to 9999 becomes NULL, as does an empty text, so that one odd time never stops a table; when a
/// model runs, such values are counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SamsaraTime {
    name: &'static str,
    form: TimeForm,
    signature: Signature,
    occurrence: Option<Occurrence>,
}

/// `samsara_time(text)`.
pub(super) fn samsara_time() -> ScalarUDF {
    SamsaraTime::udf("samsara_time", TimeForm::Text)
}

/// `samsara_time_ms(bigint)`.
pub(super) fn samsara_time_ms() -> ScalarUDF {
    SamsaraTime::udf("samsara_time_ms", TimeForm::Millis)
}

/// The name of [`version_time`].
pub(super) const VERSION_TIME: &str = "_version_time";

/// `samsara_time` for the program's own queries: invalid values are not counted.
pub(super) fn version_time() -> ScalarUDF {
    SamsaraTime::udf(VERSION_TIME, TimeForm::Text)
}

/// Where a time function stands in its query; none for other functions, and where that is not known.
#[cfg(feature = "ballista")]
pub(super) fn occurrence_of(function: &ScalarUDF) -> Option<&Occurrence> {
    function.inner().downcast_ref::<SamsaraTime>()?.occurrence()
}

/// A time function that stands there.
#[cfg(feature = "ballista")]
pub(super) fn at(function: &ScalarUDF, occurrence: Occurrence) -> Result<ScalarUDF> {
    match function.inner().downcast_ref::<SamsaraTime>() {
        Some(time) => Ok(time.at(occurrence)),
        None => exec_err!("{} is not a time function", function.name()),
    }
}

impl SamsaraTime {
    fn udf(name: &'static str, form: TimeForm) -> ScalarUDF {
        ScalarUDF::from(Self {
            name,
            form,
            signature: Signature::user_defined(Volatility::Immutable),
            occurrence: None,
        })
    }

    /// Whether a model calls it.
    pub(super) fn is_of_models(&self) -> bool {
        self.name != VERSION_TIME
    }

    /// Its position in the query, once that is known.
    pub(super) fn occurrence(&self) -> Option<&Occurrence> {
        self.occurrence.as_ref()
    }

    /// The same function, which reports values that it cannot read to `occurrence`.
    pub(super) fn at(&self, occurrence: Occurrence) -> ScalarUDF {
        ScalarUDF::from(Self {
            occurrence: Some(occurrence),
            ..self.clone()
        })
    }

    fn unfit(&self, value: &dyn std::fmt::Display) {
        if let Some(occurrence) = &self.occurrence {
            occurrence.count(value);
        }
    }
}

impl ScalarUDFImpl for SamsaraTime {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [given] = types else {
            return plan_err!("{} takes one value", self.name);
        };
        let given = if let DataType::Dictionary(_, value) = given {
            value
        } else {
            given
        };
        match (self.form, given) {
            (
                TimeForm::Text,
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null,
            ) => Ok(vec![DataType::Utf8]),
            (TimeForm::Millis, DataType::Null) => Ok(vec![DataType::Int64]),
            (TimeForm::Millis, given) if given.is_integer() => Ok(vec![DataType::Int64]),
            (TimeForm::Text, given) => {
                plan_err!(
                    "samsara_time takes text (VARCHAR), not {given}; use samsara_time_ms for milliseconds"
                )
            }
            (TimeForm::Millis, given) => {
                plan_err!(
                    "samsara_time_ms takes milliseconds (BIGINT), not {given}; use samsara_time for text"
                )
            }
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(timestamp_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = &args.args[..] else {
            return exec_err!("{} takes one value", self.name);
        };
        let values = value.to_array(args.number_rows)?;
        let mut instants = TimestampMicrosecondBuilder::with_capacity(values.len())
            .with_data_type(timestamp_type());
        match (
            self.form,
            values.as_string_opt::<i32>(),
            values.as_primitive_opt::<Int64Type>(),
        ) {
            (TimeForm::Text, Some(texts), _) => {
                let mut reader = InstantReader::default();
                for text in texts {
                    let instant = text.and_then(|text| reader.read(text));
                    if let Some(text) = text.filter(|text| instant.is_none() && !text.is_empty()) {
                        self.unfit(&format_args!("{text:?}"));
                    }
                    instants.append_option(instant);
                }
            }
            (TimeForm::Millis, _, Some(all)) => {
                for millis in all {
                    let instant = millis.and_then(instant_of_millis);
                    if let Some(millis) = millis.filter(|_| instant.is_none()) {
                        self.unfit(&millis);
                    }
                    instants.append_option(instant);
                }
            }
            _ => return exec_err!("{} cannot read {}", self.name, values.data_type()),
        }
        Ok(ColumnarValue::Array(Arc::new(instants.finish())))
    }
}

/// DataFusion's own functions that return times, with results in UTC: otherwise `AT TIME ZONE` would take them for
/// local times. (Functions that get a zone by the configuration fail on text, in DataFusion 55.)
pub(super) fn utc_times() -> [ScalarUDF; 5] {
    use datafusion::functions::datetime as of;
    let config = ConfigOptions::default();
    [
        of::to_timestamp(&config),
        of::to_timestamp_seconds(&config),
        of::to_timestamp_millis(&config),
        of::to_timestamp_micros(&config),
        of::to_timestamp_nanos(&config),
    ]
    .map(|inner| ScalarUDF::from(UtcTime { inner }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct UtcTime {
    inner: Arc<ScalarUDF>,
}

fn in_utc(data_type: DataType) -> DataType {
    match data_type {
        DataType::Timestamp(unit, None) => DataType::Timestamp(unit, Some(TIME_ZONE.into())),
        other => other,
    }
}

/// The same numbers in UTC. A cast would check each of them, and refuse those beyond the calendar.
fn labelled(times: &ArrayRef) -> Result<ArrayRef> {
    let wanted = in_utc(times.data_type().clone());
    Ok(make_array(
        times.to_data().into_builder().data_type(wanted).build()?,
    ))
}

impl ScalarUDFImpl for UtcTime {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types).map(in_utc)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(match self.inner.inner().invoke_with_args(args)? {
            ColumnarValue::Array(made) => ColumnarValue::Array(labelled(&made)?),
            ColumnarValue::Scalar(made) => ColumnarValue::Scalar(ScalarValue::try_from_array(
                &labelled(&made.to_array()?)?,
                0,
            )?),
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, MapBuilder, StructArray};
    use arrow::datatypes::Fields;

    #[test]
    fn the_text_of_a_map_has_all_of_its_keys() {
        let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        for entries in [&[("a", None), ("b\"", Some("1"))][..], &[], &[("c", None)]] {
            for (key, value) in entries {
                maps.keys().append_value(key);
                maps.values().append_option(*value);
            }
            maps.append(true).unwrap();
        }
        maps.append(false).unwrap();
        let maps: ArrayRef = Arc::new(maps.finish());
        let texts = |array: &ArrayRef| {
            let texts = encode(array).unwrap();
            let texts = texts
                .as_any()
                .downcast_ref::<arrow::array::StringArray>()
                .unwrap()
                .clone();
            texts
                .iter()
                .map(|text| text.map(str::to_string))
                .collect::<Vec<_>>()
        };
        let some = |text: &str| Some(text.to_string());
        assert_eq!(
            texts(&maps),
            [
                some(r#"{"a":null,"b\"":"1"}"#),
                some("{}"),
                some(r#"{"c":null}"#),
                None
            ]
        );
        // Also inside an object, whose own null fields are left out.
        let fields = Fields::from(vec![
            Field::new("n", DataType::Int64, true),
            Field::new("m", maps.data_type().clone(), true),
        ]);
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(1), None, None]));
        let objects: ArrayRef = Arc::new(StructArray::new(fields, vec![numbers, maps], None));
        let expected = [
            r#"{"m":{"a":null,"b\"":"1"}}"#,
            r#"{"n":1,"m":{}}"#,
            r#"{"m":{"c":null}}"#,
            "{}",
        ];
        assert_eq!(texts(&objects), expected.map(some));
    }
}
