//! Functions of JSON text: columns that `sources.toml` declares as `JSON` have it exactly as it was sent.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, ListBuilder, StringBuilder,
};
use arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::extract::whole;
use crate::json::{Kind, Scanner, unescape, write_string};

/// Functions of JSON text and a path of members, such as `json_as_text(json, 'a', 'b')`.
pub(super) fn json_functions() -> impl Iterator<Item = ScalarUDF> {
    [
        Part::Value,
        Part::Items,
        Part::Str,
        Part::Int,
        Part::Float,
        Part::Bool,
    ]
    .into_iter()
    .map(|part| ScalarUDF::from(JsonText::new(part)))
}

/// `rescued_fields(_rescued_data, 'readings[3]')`: the rescued values of the object at this path, as the text of an
/// object with the exact values; NULL if there are none. For records whose fields the API does not document.
pub(super) fn rescued_fields() -> ScalarUDF {
    ScalarUDF::from(RescuedFields {
        signature: Signature::exact(vec![DataType::Utf8, DataType::Utf8], Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct RescuedFields {
    signature: Signature,
}

impl ScalarUDFImpl for RescuedFields {
    fn name(&self) -> &'static str {
        "rescued_fields"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [rescued, places] = args.args.as_slice() else {
            return exec_err!("{} takes `_rescued_data` and a place", self.name());
        };
        let rescued = rescued.to_array(args.number_rows)?;
        let places = places.to_array(args.number_rows)?;
        let rows = rescued
            .as_string::<i32>()
            .iter()
            .zip(places.as_string::<i32>().iter());
        let mut values = StringBuilder::new();
        for (rescued, place) in rows {
            let fields = rescued.zip(place);
            values.append_option(fields.and_then(|(rescued, place)| fields_at(rescued, place)));
        }
        Ok(ColumnarValue::Array(Arc::new(values.finish())))
    }
}

/// The members of rescued data whose paths continue from a path, by the rest of their paths.
fn fields_at(rescued: &str, place: &str) -> Option<String> {
    let mut found = Vec::new();
    for_each_member(rescued, |key, value| {
        let path = unescape(key.as_bytes());
        let rest = path.as_deref().and_then(|path| path.strip_prefix(place));
        let Some(name) = rest.and_then(first_name) else {
            return true;
        };
        found.push(if found.is_empty() { b'{' } else { b',' });
        write_string(name.as_bytes(), &mut found);
        found.push(b':');
        found.extend_from_slice(value.as_bytes());
        true
    });
    if found.is_empty() {
        return None;
    }
    found.push(b'}');
    String::from_utf8(found).ok()
}

/// The rest of a path as a name: `.a` is `a`, `["a.b"]` is `a.b`; a deeper path stays a path.
fn first_name(rest: &str) -> Option<Cow<'_, str>> {
    if let Some(name) = rest.strip_prefix('.') {
        return Some(name.into());
    }
    let quoted = rest
        .strip_prefix("[\"")
        .and_then(|rest| rest.strip_suffix("\"]"));
    match quoted.and_then(|quoted| unescape(quoted.as_bytes())) {
        Some(name) => Some(name.into()),
        None => rest.starts_with('[').then(|| rest.into()),
    }
}

/// What a function takes out of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    /// The value. A string becomes its text, anything else stays JSON text, exactly as it is written; `null` and a
    /// missing value are NULL.
    Value,
    /// The items of a list, each as its exact JSON text; NULL if it is not a list.
    Items,
    /// A string's text; NULL for anything else.
    Str,
    /// A 64-bit integer, in any notation; NULL for anything else.
    Int,
    /// The double that is nearest to a number; NULL for anything else.
    Float,
    /// A truth value; NULL for anything else.
    Bool,
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
            Part::Str => "json_get_str",
            Part::Int => "json_get_int",
            Part::Float => "json_get_float",
            Part::Bool => "json_get_bool",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match (self.part, arguments) {
            (_, []) => plan_err!("{} takes JSON text and the names of members", self.name()),
            (Part::Value | Part::Str, _) => Ok(DataType::Utf8),
            (Part::Int, _) => Ok(DataType::Int64),
            (Part::Float, _) => Ok(DataType::Float64),
            (Part::Bool, _) => Ok(DataType::Boolean),
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
            Part::Str => {
                let mut values = StringBuilder::new();
                found.for_each(|text| values.append_option(text.and_then(string)));
                Arc::new(values.finish())
            }
            Part::Int => {
                let values = found.map(|text| whole(number(text?)?.as_bytes()));
                Arc::new(values.collect::<Int64Array>())
            }
            Part::Float => {
                let values = found.map(|text| {
                    number(text?)?
                        .parse()
                        .ok()
                        .filter(|it: &f64| it.is_finite())
                });
                Arc::new(values.collect::<Float64Array>())
            }
            Part::Bool => {
                let values = found.map(|text| match text?.trim() {
                    "true" => Some(true),
                    "false" => Some(false),
                    _ => None,
                });
                Arc::new(values.collect::<BooleanArray>())
            }
        };
        Ok(ColumnarValue::Array(array))
    }
}

/// The text of an object's first member of this name.
fn member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut found = None;
    for_each_member(text, |key, value| {
        let is_it =
            key == name || key.contains('\\') && unescape(key.as_bytes()).as_deref() == Some(name);
        found = is_it.then_some(value);
        !is_it
    });
    found
}

/// Visits an object's members, key and value as written, as long as it wants more and the text is valid.
fn for_each_member<'a>(text: &'a str, mut wants_more: impl FnMut(&'a str, &'a str) -> bool) {
    let mut scanner = Scanner::new(text.as_bytes(), 0);
    if !scanner.take(b'{') || scanner.take(b'}') {
        return;
    }
    loop {
        let key = scanner.key().ok().and_then(|key| text.get(key));
        let member = key.and_then(|key| Some((key, text.get(scanner.value().ok()?)?)));
        let goes_on = member.is_some_and(|(key, value)| wants_more(key, value));
        if !goes_on || !scanner.take(b',') {
            return;
        }
    }
}

/// A string without its quotes and escapes; any other value unchanged.
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

/// The text of a string.
fn string(text: &str) -> Option<String> {
    let kind = Scanner::new(text.as_bytes(), 0).kind().ok()?;
    (kind == Kind::String).then(|| plain(text)).flatten()
}

/// The text of a number.
fn number(text: &str) -> Option<&str> {
    let mut scanner = Scanner::new(text.as_bytes(), 0);
    match scanner.kind().ok()? {
        Kind::Number => text.get(scanner.number().ok()?),
        _ => None,
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
    fn rescued_fields_are_those_of_a_place() {
        let rescued = r#"{"a[1].x":1.50,"a[10].x":2,"a[1][\"y.z\"]":"\u00e9","a[1].o.p":[ 1],"b":3,"a[1]":4,"$.w":5}"#;
        for (place, expected) in [
            ("a[1]", Some(r#"{"x":1.50,"y.z":"\u00e9","o.p":[ 1]}"#)),
            ("a[10]", Some(r#"{"x":2}"#)),
            ("a[1].o", Some(r#"{"p":[ 1]}"#)),
            ("a[2]", None),
            ("a[1].x", None),
        ] {
            assert_eq!(fields_at(rescued, place).as_deref(), expected, "{place}");
        }
        for broken in ["", "{", r#"{"a[1].x":"#, "[]"] {
            assert_eq!(fields_at(broken, "a[1]"), None, "{broken}");
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
