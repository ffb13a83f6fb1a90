//! Proposes schemas for rescued values: what an analyst would write into `sources.toml`.

use std::collections::BTreeMap;
use std::fmt;

use arrow::datatypes::{DataType, Field, Fields};
use serde_json::Value;
use serde_json::value::RawValue;

use super::ddl::{JSON_TYPE, map_type, parse};
use crate::json::path::{Path, Step, printable};

/// An object with more names than this is treated as a map whose names are data.
const MOST_NAMES: usize = 128;
/// Number of paths of a source that are counted separately.
const MOST_PATHS: usize = 5000;
/// Paths are shown up to this many bytes.
const LONGEST_PATH: usize = 200;
/// At most this many new names may be columns; more are data.
const MOST_NEW: usize = 500;

/// What a value, or a column, is.
#[derive(Debug, Clone, PartialEq)]
enum Type {
    /// Nothing but nulls so far.
    Unknown,
    Boolean,
    Integer,
    Double,
    Text,
    /// Text to text.
    Map,
    /// Anything, as its exact text.
    Json,
    List(Box<Type>),
    Object(Vec<(String, Type)>),
}

impl Type {
    fn of_value(text: &str) -> Self {
        match serde_json::from_str::<Value>(text) {
            Ok(value) => Self::of(&value),
            // Half of a surrogate pair does not change the type.
            Err(_) if text.starts_with('"') => Self::Text,
            // Numbers that no double can store, and the like, can be stored as text only.
            Err(_) => Self::Json,
        }
    }

    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Unknown,
            Value::Bool(_) => Self::Boolean,
            Value::Number(number) if number.is_i64() => Self::Integer,
            Value::Number(number) if number.is_f64() => Self::Double,
            Value::Number(_) => Self::Json,
            Value::String(_) => Self::Text,
            Value::Array(items) => Self::List(Box::new(
                items
                    .iter()
                    .map(Self::of)
                    .fold(Self::Unknown, |all, item| all.with(item)),
            )),
            Value::Object(members) if members.len() > MOST_NAMES => Self::Json,
            Value::Object(members) => Self::Object(
                members
                    .iter()
                    .map(|(name, value)| (name.clone(), Self::of(value)))
                    .collect(),
            ),
        }
    }

    fn of_field(field: &Field) -> Self {
        match field.data_type() {
            _ if field.metadata().contains_key(JSON_TYPE) => Self::Json,
            DataType::Boolean => Self::Boolean,
            DataType::Int64 => Self::Integer,
            DataType::Float64 => Self::Double,
            DataType::List(item) => Self::List(Box::new(Self::of_field(item))),
            DataType::Struct(fields) => Self::of_fields(fields),
            other if *other == map_type() => Self::Map,
            _ => Self::Text,
        }
    }

    fn of_fields(fields: &Fields) -> Self {
        Self::Object(
            fields
                .iter()
                .map(|field| (field.name().clone(), Self::of_field(field)))
                .collect(),
        )
    }

    /// The narrowest type that both fit into.
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unknown, other) | (other, Self::Unknown) => other,
            (Self::Integer, Self::Double) | (Self::Double, Self::Integer) => Self::Double,
            (Self::List(one), Self::List(other)) => Self::List(Box::new(one.with(*other))),
            (Self::Object(mut members), Self::Object(others)) => {
                for (name, found) in others {
                    match members.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, known)) => {
                            *known = std::mem::replace(known, Self::Unknown).with(found)
                        }
                        None => members.push((name, found)),
                    }
                }
                // Names that are data, such as ids, would grow without end, and no schema could hold them.
                if members.len() > MOST_NAMES {
                    Self::Json
                } else {
                    Self::Object(members)
                }
            }
            (one, other) if one == other => one,
            _ => Self::Json,
        }
    }

    /// Whether a schema can express it. An empty object, a list of anything, or an object whose names are data can only
    /// be stored as text.
    fn is_sayable(&self) -> bool {
        match self {
            Self::Unknown | Self::Json => false,
            Self::List(item) => item.is_sayable(),
            Self::Object(members) => {
                let mut names: Vec<String> = members
                    .iter()
                    .map(|(name, _)| name.to_ascii_lowercase())
                    .collect();
                names.sort();
                let is_twice = names.windows(2).any(|two| two[0] == two[1]);
                !is_twice && !members.is_empty() && names.iter().all(|it| is_declarable(it))
            }
            _ => true,
        }
    }

    /// The member at a path; or the position at which the path leaves the known schema, and the name there.
    fn at(&mut self, path: &[Step]) -> Place<'_> {
        match self {
            Self::List(_) | Self::Object(_) if path.is_empty() => Place::Known(self),
            Self::List(item) => match path.split_first() {
                Some((Step::Item(_), rest)) => item.at(rest),
                _ => Place::Nowhere,
            },
            Self::Object(members) => {
                // In rows of older versions a name with dots is not quoted.
                let known = (1..=path.len()).find_map(|length| {
                    let name = joined(&path[..length])?;
                    Some((
                        members.iter().position(|(known, _)| *known == name)?,
                        length,
                    ))
                });
                match known {
                    Some((index, length)) => members[index].1.at(&path[length..]),
                    None => match joined(path) {
                        Some(name) => Place::New(members, name),
                        None => Place::Nowhere,
                    },
                }
            }
            known => Place::Known(known),
        }
    }
}

/// Names joined by dots; none if there is a list in between.
fn joined(path: &[Step]) -> Option<String> {
    let name = |step: &Step| match step {
        Step::Name(name) => Some(name.clone()),
        Step::Item(_) => None,
    };
    Some(path.iter().map(name).collect::<Option<Vec<_>>>()?.join("."))
}

/// Where a path leads.
enum Place<'a> {
    Known(&'a mut Type),
    New(&'a mut Vec<(String, Type)>, String),
    Nowhere,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("BOOLEAN"),
            Self::Integer => f.write_str("BIGINT"),
            Self::Double => f.write_str("DOUBLE"),
            Self::Text => f.write_str("VARCHAR"),
            Self::Map => f.write_str("MAP(VARCHAR, VARCHAR)"),
            sayable if !sayable.is_sayable() => f.write_str("JSON"),
            Self::List(item) => write!(f, "ARRAY<{item}>"),
            Self::Object(members) => {
                f.write_str("STRUCT<")?;
                write_members(members, ", ", f)?;
                f.write_str(">")
            }
            Self::Unknown | Self::Json => f.write_str("JSON"),
        }
    }
}

/// Whether a field with this name can be declared: quotes, for example, would have to be escaped twice.
fn is_declarable(name: &str) -> bool {
    let is_plain = |c: char| !c.is_control() && c != '"' && c != '\\';
    !name.is_empty() && !name.starts_with('_') && name.chars().all(is_plain)
}

fn write_members(
    members: &[(String, Type)],
    between: &str,
    f: &mut impl fmt::Write,
) -> fmt::Result {
    for (index, (name, member)) in members.iter().enumerate() {
        let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !name.starts_with(|c: char| c.is_ascii_digit());
        let (before, quote) = (
            if index > 0 { between } else { "" },
            if is_plain { "" } else { "\"" },
        );
        write!(f, "{before}{quote}{name}{quote} {member}")?;
    }
    Ok(())
}

/// The rescued values of a source.
#[derive(Debug, Clone, Default)]
pub struct Drifted {
    /// By path, list positions left out: what the values are, and how many.
    paths: BTreeMap<String, (Type, u64)>,
    /// Rows that have such values.
    pub rows: u64,
    /// Number of values at further paths.
    further: u64,
}

/// What to change in a source's schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// For people: one line for each path.
    pub notes: Vec<String>,
    /// The new schema, as `sources.toml` has it; none if a schema cannot help.
    pub schema: Option<String>,
}

impl Drifted {
    /// Takes note of a row's `_rescued_data`.
    pub fn add(&mut self, rescued: &str) -> Result<(), serde_json::Error> {
        let values: BTreeMap<String, Box<RawValue>> = serde_json::from_str(rescued)?;
        self.rows += 1;
        for (path, value) in values {
            let path = Path::parse(&path).general();
            if self.paths.len() >= MOST_PATHS && !self.paths.contains_key(&path) {
                self.further += 1;
                continue;
            }
            let (known, count) = self.paths.entry(path).or_insert((Type::Unknown, 0));
            *known = std::mem::replace(known, Type::Unknown).with(Type::of_value(value.get()));
            *count += 1;
        }
        Ok(())
    }

    /// The schema that holds these values too.
    pub fn propose(&self, fields: &Fields) -> Proposal {
        let mut record = Type::of_fields(fields);
        let (mut notes, mut is_changed, mut new) = (Vec::new(), false, 0);
        for (path, (found, count)) in &self.paths {
            let told = match self.place(&mut record, path, found, &mut new) {
                Ok(told) => {
                    is_changed = true;
                    told
                }
                Err(why) => format!("unchanged: {why}"),
            };
            let plural = if *count == 1 { "value" } else { "values" };
            notes.push(format!(
                "{}: {told} ({count} {plural})",
                printable(path, LONGEST_PATH)
            ));
        }
        if self.further > 0 {
            notes.push(format!(
                "{} more values have other names, which are not listed",
                self.further
            ));
        }
        let mut schema = String::new();
        if let Type::Object(members) = &record {
            // Writing into a String cannot fail.
            let _ = write_members(members, ",\n", &mut schema);
        }
        // What still cannot be declared (too many fields, too deep) gives the reason.
        let schema = match parse(&schema) {
            Ok(_) => Some(schema).filter(|_| is_changed),
            Err(error) => {
                notes.push(format!("no schema holds all of these: {error}"));
                None
            }
        };
        Proposal { notes, schema }
    }

    fn place(
        &self,
        record: &mut Type,
        path: &str,
        found: &Type,
        new: &mut usize,
    ) -> Result<String, &'static str> {
        let has_turn = path.ends_with('#');
        let path = Path::parse(path.strip_suffix('#').unwrap_or(path));
        if path.is_root {
            return Err(
                "it is outside the list of records, or the record is not an object (list what only echoes the request in `page_echoes`)",
            );
        }
        if has_turn {
            return Err("the API sends the name twice in one object");
        }
        match record.at(&path.steps) {
            Place::New(_, name) if !is_declarable(&name) => Err(
                "its name cannot be declared: it starts with `_` or holds a quote or control character",
            ),
            Place::New(members, name)
                if members
                    .iter()
                    .any(|(known, _)| known.eq_ignore_ascii_case(&name)) =>
            {
                Err(
                    "it differs from a declared name only in upper and lower case, which BigQuery does not tell apart",
                )
            }
            Place::New(_, _) if *new >= MOST_NEW => {
                Err("too many new names: they are data, not columns")
            }
            Place::New(members, name) => {
                *new += 1;
                members.push((name, found.clone()));
                Ok(format!("new, {found}"))
            }
            Place::Known(known) => {
                let before = known.to_string();
                let wider = known.clone().with(found.clone());
                if wider == *known {
                    return Err("the type is right, but the value is out of its range");
                }
                *known = wider;
                Ok(format!("{before} becomes {known}"))
            }
            Place::Nowhere => Err("no such place in the schema"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn propose(schema: &str, rescued: &[&str]) -> Proposal {
        let mut drifted = Drifted::default();
        for row in rescued {
            drifted.add(row).unwrap();
        }
        drifted.propose(&parse(schema).unwrap())
    }

    #[test]
    fn new_fields_get_the_widest_type_seen() {
        let schema =
            "id VARCHAR, rpm ARRAY<STRUCT<time VARCHAR, value DOUBLE>>, ext MAP(VARCHAR, VARCHAR)";
        let cases = [
            (r#"{"note":"x"}"#, r#"{"note":null}"#, ",\nnote VARCHAR"),
            (r#"{"n":1}"#, r#"{"n":2}"#, ",\nn BIGINT"),
            (r#"{"n":1}"#, r#"{"n":2.5}"#, ",\nn DOUBLE"),
            (r#"{"n":1}"#, r#"{"n":"2"}"#, ",\nn JSON"),
            (r#"{"n":null}"#, r#"{"n":[]}"#, ",\nn JSON"),
            (r#"{"n":{}}"#, r#"{"n":{}}"#, ",\nn JSON"),
            (
                r#"{"n":18446744073709551615}"#,
                r#"{"n":1e999}"#,
                ",\nn JSON",
            ),
            (
                r#"{"o":{"a":1,"b":[{"c":true}]}}"#,
                r#"{"o":{"d":"x"}}"#,
                ",\no STRUCT<a BIGINT, b ARRAY<STRUCT<c BOOLEAN>>, d VARCHAR>",
            ),
            (r#"{"l":[1,2]}"#, r#"{"l":["x"]}"#, ",\nl JSON"),
            (r#"{"o":{"a":1}}"#, r#"{"o":{"A":1}}"#, ",\no JSON"),
            (r#"{"o":{"\"":1}}"#, r#"{"o":{"_":1}}"#, ",\no JSON"),
            (r#"{"a-b.c":1}"#, r#"{"a-b.c":1}"#, ",\n\"a-b.c\" BIGINT"),
        ];
        for (one, other, added) in cases {
            let proposal = propose(schema, &[one, other]);
            let wanted = format!(
                "{}{added}",
                schema.replace(", rpm", ",\nrpm").replace(", ext", ",\next")
            );
            assert_eq!(
                proposal.schema.as_deref(),
                Some(wanted.as_str()),
                "{one} {other} {:?}",
                proposal.notes
            );
        }
        // Names that are data.
        let rows: Vec<String> = (0..200)
            .map(|id| format!(r#"{{"o":{{"{id}":1}}}}"#))
            .collect();
        let many = propose(
            "id VARCHAR",
            &rows.iter().map(String::as_str).collect::<Vec<_>>(),
        );
        assert_eq!(many.schema.as_deref(), Some("id VARCHAR,\no JSON"));
        let inside = propose(schema, &[r#"{"rpm[0].q":true,"rpm[12].q":false}"#]);
        assert!(
            inside
                .schema
                .unwrap()
                .contains("rpm ARRAY<STRUCT<time VARCHAR, value DOUBLE, q BOOLEAN>>")
        );
        assert_eq!(inside.notes, ["rpm[].q: new, BOOLEAN (2 values)"]);
    }

    #[test]
    fn names_that_look_like_paths_are_told_from_paths() {
        let schema = "gateway STRUCT<fw VARCHAR>, list ARRAY<STRUCT<n BIGINT>>";
        let quoted = propose(
            schema,
            &[r#"{"[\"gateway.fw\"]":1,"gateway.x":2,"gateway[\"fw.y\"]":3,"list[0][\"n.m\"]":4}"#],
        );
        assert_eq!(
            quoted.schema.as_deref(),
            Some(
                "gateway STRUCT<fw VARCHAR, x BIGINT, \"fw.y\" BIGINT>,\n\
                 list ARRAY<STRUCT<n BIGINT, \"n.m\" BIGINT>>,\n\"gateway.fw\" BIGINT"
            )
        );
        assert!(
            quoted
                .notes
                .contains(&"[\"gateway.fw\"]: new, BIGINT (1 value)".to_string()),
            "{:?}",
            quoted.notes
        );
        // Rows of older versions have unquoted names: the known one is meant, or else a new one.
        let older = propose(
            "\"a.b\" BIGINT, m STRUCT<x BIGINT>",
            &[r#"{"a.b":1.5,"m.y.z":1,"c.d":2,"m[].x":3}"#],
        );
        assert_eq!(
            older.schema.as_deref(),
            Some("\"a.b\" DOUBLE,\nm STRUCT<x BIGINT, \"y.z\" BIGINT>,\n\"c.d\" BIGINT")
        );
        let both = "gateway STRUCT<fw VARCHAR>, \"gateway.fw\" BIGINT";
        let proposal = propose(both, &[r#"{"gateway.fw":[],"[\"gateway.fw\"]":1.5}"#]);
        assert_eq!(
            proposal.schema.as_deref(),
            Some("gateway STRUCT<fw JSON>,\n\"gateway.fw\" DOUBLE")
        );
        // An item without a position in the row's list counts like any other.
        assert_eq!(
            propose("l ARRAY<BIGINT>", &[r#"{"l[]":0.5,"l[]#2":1.5}"#])
                .schema
                .as_deref(),
            Some("l ARRAY<DOUBLE>")
        );
    }

    #[test]
    fn very_many_names_are_bounded() {
        let row = |from: usize| {
            let values: Vec<String> = (from..from + 100_000)
                .map(|name| format!("\"n{name}\":1"))
                .collect();
            format!("{{{}}}", values.join(","))
        };
        let proposal = propose(
            "id VARCHAR",
            &[&row(0), &row(50_000), &format!("{{\"o\":{}}}", row(0))],
        );
        assert!(
            proposal.notes.len() <= MOST_PATHS + 1,
            "{}",
            proposal.notes.len()
        );
        assert!(
            proposal
                .notes
                .iter()
                .any(|note| note.contains("not listed"))
        );
        assert_eq!(
            parse(&proposal.schema.unwrap()).unwrap().len(),
            1 + MOST_NEW
        );
    }

    #[test]
    fn known_fields_become_wider_if_that_helps() {
        let cases = [
            ("n BIGINT", r#"{"n":1.5}"#, "n DOUBLE"),
            ("n DOUBLE", r#"{"n":"much"}"#, "n JSON"),
            ("l ARRAY<BIGINT>", r#"{"l[3]":0.5}"#, "l ARRAY<DOUBLE>"),
            ("l ARRAY<BIGINT>", r#"{"l":"none"}"#, "l JSON"),
            ("m MAP(VARCHAR, VARCHAR)", r#"{"m.deep":{"a":1}}"#, "m JSON"),
            ("o STRUCT<a BIGINT>", r#"{"o":7}"#, "o JSON"),
        ];
        for (schema, rescued, wanted) in cases {
            let proposal = propose(schema, &[rescued]);
            assert_eq!(
                proposal.schema.as_deref(),
                Some(wanted),
                "{rescued} {:?}",
                proposal.notes
            );
        }
    }

    #[test]
    fn unfixable_drift_is_reported() {
        let cases = [
            ("n DOUBLE", r#"{"n":0.1}"#, "the type is right"),
            ("n VARCHAR", r#"{"n":"\ud800"}"#, "the type is right"),
            (
                "id VARCHAR",
                r#"{"id#2":"x"}"#,
                "id#: unchanged: the API sends the name twice",
            ),
            ("id VARCHAR", r#"{"$":7}"#, "is not an object"),
            ("id VARCHAR", r#"{"$.note":"x"}"#, "page_echoes"),
            (
                "id VARCHAR",
                r#"{"ID":"x"}"#,
                "only in upper and lower case",
            ),
            ("id VARCHAR", r#"{"_own":"x"}"#, "it starts with `_`"),
            (
                "id VARCHAR",
                "{\"a\\nb\\\"\":1}",
                "[\"a\\nb\\\"\"]: unchanged: its name",
            ),
        ];
        for (schema, rescued, told) in cases {
            let proposal = propose(schema, &[rescued]);
            assert_eq!(proposal.schema, None, "{rescued}");
            assert!(
                proposal.notes.concat().contains(told),
                "{rescued}: {:?}",
                proposal.notes
            );
        }
        assert!(Drifted::default().add("{").is_err());
    }
}
