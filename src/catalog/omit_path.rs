//! Paths to values that must never be stored: `secretKey`, `stops[].liveSharingUrl`, `**.liveSharingUrl`.

use std::fmt;

use arrow::datatypes::{DataType, Fields};

use super::ddl::JSON_TYPE;

/// A path to values that are removed from each page before anything else reads it.
///
/// It is broader than a [`super::FieldPath`] on purpose, so that a value is not stored because the API sends it in
/// another shape: names are compared without regard to case, and lists are traversed anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OmitPath {
    text: String,
    names: Vec<String>,
    any_depth: bool,
}

impl OmitPath {
    /// Parses the notation of `sources.toml`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (any_depth, path) = match text.strip_prefix("**.") {
            Some(path) => (true, path),
            None => (false, text),
        };
        let names: Vec<String> = path
            .split('.')
            .map(|part| part.trim_end_matches("[]").to_string())
            .collect();
        if names.iter().any(String::is_empty) {
            return Err(format!("`{text}` has an empty step"));
        }
        if names.iter().any(|name| name.contains('*')) {
            return Err(format!(
                "`{text}`: only `**.` at the beginning stands for any depth"
            ));
        }
        if any_depth && names.len() > 1 {
            return Err(format!("`{text}`: one name must follow `**.`"));
        }
        Ok(Self {
            text: text.into(),
            names,
            any_depth,
        })
    }

    /// The names on the path to the value, from the record on.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether the name is meant anywhere.
    pub fn is_any_depth(&self) -> bool {
        self.any_depth
    }

    /// Fails if the schema declares a column for a removed value: it would always be empty.
    pub(super) fn check(&self, fields: &Fields) -> Result<(), String> {
        if declares(fields, &self.names, self.any_depth) {
            return Err(format!(
                "`{self}` is declared in the schema and would always be NULL: drop it there"
            ));
        }
        Ok(())
    }
}

/// Whether the fields include one on this path.
fn declares(fields: &Fields, names: &[String], any_depth: bool) -> bool {
    let Some((name, rest)) = names.split_first() else {
        return false;
    };
    fields.iter().any(|field| {
        let is_it = field.name().eq_ignore_ascii_case(name);
        if is_it && rest.is_empty() {
            return true;
        }
        // What JSON holds is not declared.
        if field.metadata().contains_key(JSON_TYPE) {
            return false;
        }
        let mut inner = field.data_type();
        while let DataType::List(item) = inner {
            inner = item.data_type();
        }
        let DataType::Struct(inner) = inner else {
            return false;
        };
        (is_it && declares(inner, rest, false)) || (any_depth && declares(inner, names, true))
    })
}

impl fmt::Display for OmitPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declared_column_is_not_cut_out() {
        let fields = super::super::ddl::parse(
            "id VARCHAR, stops ARRAY<STRUCT<id VARCHAR, url VARCHAR>>, headers JSON, m MAP(VARCHAR, VARCHAR)",
        )
        .unwrap();
        for (text, is_fine) in [
            ("secretKey", true),
            ("headers[].value", true),
            ("headers.value", true),
            ("stops[].liveSharingUrl", true),
            ("**.liveSharingUrl", true),
            ("m.secret", true),
            ("ID", false),
            ("stops[].url", false),
            ("stops", false),
            ("**.url", false),
            ("headers", false),
        ] {
            let path = OmitPath::parse(text).unwrap();
            assert_eq!(path.check(&fields).is_ok(), is_fine, "{text}");
            assert_eq!(path.to_string(), text);
        }
        for text in ["", "a..b", "[]", "a.*.b", "**.a.b", "**"] {
            assert!(OmitPath::parse(text).is_err(), "{text}");
        }
    }
}
