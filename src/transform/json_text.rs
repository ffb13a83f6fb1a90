//! Functions that take JSON text apart: columns that `sources.toml` declares as `JSON` hold it exactly as it was sent.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, ListBuilder, StringBuilder};
use arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::json::{Kind, Scanner, unescape};

/// `json_as_text(json, 'a', 'b')`: the value at this path of members. A string becomes its text, anything else stays
/// JSON text, exactly as it stands there; `null`, and what is not there, is NULL.
pub(super) fn json_as_text() -> ScalarUDF {
    ScalarUDF::from(JsonText::new(Part::Value))
}

/// `json_get_array(json, 'a', 'b')`: the items of the list at this path, each as its exact JSON text; NULL where there is
/// no list.
pub(super) fn json_get_array() -> ScalarUDF {
    ScalarUDF::from(JsonText::new(Part::Items))
}

/// What a function takes out of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Value,
    Items,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct JsonText {
    part: Part,
    signature: Signature,
}

impl JsonText {
    fn new(part: Part) -> Self {
        Self {
            part,
            signature: Signature::variadic(vec![DataType::Utf8], Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for JsonText {
    fn name(&self) -> &str {
        match self.part {
            Part::Value => "json_as_text",
            Part::Items => "json_get_array",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match (self.part, arguments) {
            (_, []) => plan_err!("{} takes JSON text and the names of members", self.name()),
            (Part::Value, _) => Ok(DataType::Utf8),
            (Part::Items, _) => Ok(DataType::List(Arc::new(Field::new_list_field(
                DataType::Utf8,
                true,
            )))),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some((json, names)) = args.args.split_first() else {
            return exec_err!("{} takes JSON text and the names of members", self.name());
        };
        let mut path = Vec::with_capacity(names.len());
        for name in names {
            match name {
                ColumnarValue::Scalar(ScalarValue::Utf8(Some(name))) => path.push(name.as_str()),
                _ => return exec_err!("{}: the names of members are literals", self.name()),
            }
        }
        let json = json.to_array(args.number_rows)?;
        let texts = json.as_string::<i32>().iter();
        let found = texts.map(|text| path.iter().try_fold(text?, |text, name| member(text, name)));
        let array: ArrayRef = match self.part {
            Part::Value => {
                let mut values = StringBuilder::new();
                found.for_each(|text| values.append_option(text.and_then(plain)));
                Arc::new(values.finish())
            }
            Part::Items => {
                let mut lists = ListBuilder::new(StringBuilder::new());
                found.for_each(|text| {
                    lists.append_option(
                        text.and_then(items)
                            .map(|items| items.into_iter().map(Some)),
                    )
                });
                Arc::new(lists.finish())
            }
        };
        Ok(ColumnarValue::Array(array))
    }
}

/// The text of an object's first member of this name.
fn member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut scanner = Scanner::new(text.as_bytes(), 0);
    if !scanner.take(b'{') || scanner.take(b'}') {
        return None;
    }
    loop {
        let key = text.get(scanner.key().ok()?)?;
        let value = scanner.value().ok()?;
        if key == name || key.contains('\\') && unescape(key.as_bytes()).as_deref() == Some(name) {
            return text.get(value);
        }
        if !scanner.take(b',') {
            return None;
        }
    }
}

/// A string without its quotes and escapes; any other value as it is.
fn plain(text: &str) -> Option<String> {
    let mut scanner = Scanner::new(text.as_bytes(), 0);
    match scanner.kind().ok()? {
        Kind::Null => None,
        // A lone surrogate is not text; it stays as it was written.
        Kind::String => {
            let inside = scanner.string().ok()?.0;
            Some(unescape(&text.as_bytes()[inside]).unwrap_or_else(|| text.to_string()))
        }
        _ => text.get(scanner.value().ok()?).map(str::to_string),
    }
}

/// The texts of a list's items.
fn items(text: &str) -> Option<Vec<&str>> {
    let mut scanner = Scanner::new(text.as_bytes(), 0);
    let mut items = Vec::new();
    if !scanner.take(b'[') {
        return None;
    }
    if scanner.take(b']') {
        return Some(items);
    }
    loop {
        items.push(text.get(scanner.value().ok()?)?);
        if !scanner.take(b',') {
            return scanner.take(b']').then_some(items);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_json_text_are_found_as_they_stand() {
        let json = r#" {"a":{"b\"":"x\u00e9","n":1.50,"t":true, "o":{"k":[ ]}, "z":null, "n":2}, "s":"\ud800"} "#;
        let value = |path: &[&str]| {
            path.iter()
                .try_fold(json, |text, name| member(text, name))
                .and_then(plain)
        };
        for (path, expected) in [
            (&["a", "b\""][..], Some("xé")),
            (&["a", "n"], Some("1.50")),
            (&["a", "t"], Some("true")),
            (&["a", "o"], Some(r#"{"k":[ ]}"#)),
            (&["s"], Some(r#""\ud800""#)),
            (&["a", "z"], None),
            (&["a", "b"], None),
            (&["a", "n", "x"], None),
            (&["A"], None),
        ] {
            assert_eq!(value(path).as_deref(), expected, "{path:?}");
        }
        assert_eq!(plain(" [1, 2] ").as_deref(), Some("[1, 2]"));
        for broken in ["", "{", r#"{"a":"#, r#"{"a":1 "b":2}"#, "nul", "\"a"] {
            assert_eq!(
                (member(broken, "b"), plain(broken)),
                (None, None),
                "{broken}"
            );
        }
    }

    #[test]
    fn items_are_found_as_they_stand() {
        assert_eq!(
            items(r#" [ {"a": [1]} ,null, "x,]"] "#),
            Some(vec![r#"{"a": [1]}"#, "null", r#""x,]""#])
        );
        assert_eq!(items(" [ ] "), Some(vec![]));
        for broken in ["", "null", "{}", "[", "[1", "[1,]", "[1 2]"] {
            assert_eq!(items(broken), None, "{broken}");
        }
    }
}
