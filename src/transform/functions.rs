//! Functions that models may use beside DataFusion's own.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, StringBuilder};
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::error::ArrowError;
use arrow_json::writer::{EncoderFactory, EncoderOptions, NullableEncoder, make_encoder};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// `to_json(x)`: any value as JSON text, NULL for NULL. Lists and maps cannot stand in a flattened table; their
/// text can, and BigQuery reads it with `PARSE_JSON`.
pub(super) fn to_json() -> ScalarUDF {
    ScalarUDF::from(ToJson { signature: Signature::any(1, Volatility::Immutable) })
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
        let [value] = &args.args[..] else { return exec_err!("to_json takes one value") };
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

/// Writes the nulls of a map: a key without a value is a key. A field of an object that is null was perhaps never sent,
/// and stays out.
#[derive(Debug)]
struct WholeMaps;

static WITH_NULLS: LazyLock<EncoderOptions> = LazyLock::new(|| EncoderOptions::default().with_explicit_nulls(true));

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
            let texts = texts.as_any().downcast_ref::<arrow::array::StringArray>().unwrap().clone();
            texts.iter().map(|text| text.map(str::to_string)).collect::<Vec<_>>()
        };
        let some = |text: &str| Some(text.to_string());
        assert_eq!(texts(&maps), [some(r#"{"a":null,"b\"":"1"}"#), some("{}"), some(r#"{"c":null}"#), None]);
        // Also inside an object, whose own fields stay out where they are null.
        let fields =
            Fields::from(vec![Field::new("n", DataType::Int64, true), Field::new("m", maps.data_type().clone(), true)]);
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(1), None, None]));
        let objects: ArrayRef = Arc::new(StructArray::new(fields, vec![numbers, maps], None));
        let expected = [r#"{"m":{"a":null,"b\"":"1"}}"#, r#"{"n":1,"m":{}}"#, r#"{"m":{"c":null}}"#, "{}"];
        assert_eq!(texts(&objects), expected.map(some));
    }
}
