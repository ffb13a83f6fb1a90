//! Rescued values to schemas that hold them: what an analyst would write into `sources.toml`.

use std::collections::BTreeMap;
use std::fmt;

use arrow::datatypes::{DataType, Field, Fields};
use serde_json::Value;
use serde_json::value::RawValue;

use super::ddl::{JSON_TYPE, MAX_FIELDS, map_type, parse};

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
            // Half a surrogate pair does not make it anything else.
            Err(_) if text.starts_with('"') => Self::Text,
            // A number that no double holds, and the like: of that the text only can be kept.
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
            Value::Array(items) => {
                Self::List(Box::new(items.iter().map(Self::of).fold(Self::Unknown, |all, item| all.with(item))))
            }
            Value::Object(members) => {
                Self::Object(members.iter().map(|(name, value)| (name.clone(), Self::of(value))).collect())
            }
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
        Self::Object(fields.iter().map(|field| (field.name().clone(), Self::of_field(field))).collect())
    }

    /// The narrowest type that holds what both hold.
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unknown, other) | (other, Self::Unknown) => other,
            (Self::Integer, Self::Double) | (Self::Double, Self::Integer) => Self::Double,
            (Self::List(one), Self::List(other)) => Self::List(Box::new(one.with(*other))),
            (Self::Object(mut members), Self::Object(others)) => {
                for (name, found) in others {
                    match members.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, known)) => *known = std::mem::replace(known, Self::Unknown).with(found),
                        None => members.push((name, found)),
                    }
                }
                // Names that are data, ids say, would grow without end, and no schema could hold them.
                if members.len() > MAX_FIELDS { Self::Json } else { Self::Object(members) }
            }
            (one, other) if one == other => one,
            _ => Self::Json,
        }
    }

    /// Whether a schema can say it. Of an empty object, a list of anything, or an object whose names are data, only
    /// the text can be kept.
    fn is_sayable(&self) -> bool {
        match self {
            Self::Unknown | Self::Json => false,
            Self::List(item) => item.is_sayable(),
            Self::Object(members) => {
                let mut names: Vec<String> = members.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
                names.sort();
                let is_twice = names.windows(2).any(|two| two[0] == two[1]);
                !is_twice && (1..=MAX_FIELDS).contains(&members.len()) && names.iter().all(|it| is_declarable(it))
            }
            _ => true,
        }
    }

    /// The member at a path, its list positions left out; or where the path leaves what is known, and by which name.
    fn at<'a, 'p>(&'a mut self, path: &'p str) -> Place<'a, 'p> {
        match self {
            Self::List(_) | Self::Object(_) if path.is_empty() => Place::Known(self),
            Self::List(item) => match path.strip_prefix("[]") {
                Some(rest) => item.at(rest.strip_prefix('.').unwrap_or(rest)),
                None => Place::Nowhere,
            },
            Self::Object(members) => {
                // A name may hold dots: the longest that is known is meant.
                let known = members.iter().enumerate().filter_map(|(index, (name, _))| {
                    let rest = path.strip_prefix(name.as_str())?;
                    let ends = rest.is_empty() || rest.starts_with('.') || rest.starts_with("[]");
                    ends.then_some((index, rest))
                });
                match known.min_by_key(|(_, rest)| rest.len()) {
                    Some((index, rest)) => members[index].1.at(rest.strip_prefix('.').unwrap_or(rest)),
                    None => Place::New(members, path),
                }
            }
            known => Place::Known(known),
        }
    }
}

/// Where a path leads.
enum Place<'a, 'p> {
    Known(&'a mut Type),
    New(&'a mut Vec<(String, Type)>, &'p str),
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

/// Whether a field of this name can be declared: quotes, say, would have to be escaped twice.
fn is_declarable(name: &str) -> bool {
    let is_plain = |c: char| !c.is_control() && c != '"' && c != '\\';
    !name.is_empty() && !name.starts_with('_') && name.chars().all(is_plain)
}

fn write_members(members: &[(String, Type)], between: &str, f: &mut impl fmt::Write) -> fmt::Result {
    for (index, (name, member)) in members.iter().enumerate() {
        let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !name.starts_with(|c: char| c.is_ascii_digit());
        let (before, quote) = (if index > 0 { between } else { "" }, if is_plain { "" } else { "\"" });
        write!(f, "{before}{quote}{name}{quote} {member}")?;
    }
    Ok(())
}

/// The values of a source that did not fit its schema.
#[derive(Debug, Clone, Default)]
pub struct Drifted {
    /// By path, list positions left out: what the values are, and how many.
    paths: BTreeMap<String, (Type, u64)>,
    /// Rows that have such values.
    pub rows: u64,
}

/// What to change in a source's schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// For people: one line for each path.
    pub notes: Vec<String>,
    /// The new schema, as `sources.toml` has it; none if there is nothing that a schema could do.
    pub schema: Option<String>,
}

impl Drifted {
    /// Takes note of a row's `_rescued_data`.
    pub fn add(&mut self, rescued: &str) -> Result<(), serde_json::Error> {
        let values: BTreeMap<String, Box<RawValue>> = serde_json::from_str(rescued)?;
        self.rows += 1;
        for (path, value) in values {
            let (known, count) = self.paths.entry(general(&path)).or_insert((Type::Unknown, 0));
            *known = std::mem::replace(known, Type::Unknown).with(Type::of_value(value.get()));
            *count += 1;
        }
        Ok(())
    }

    /// The schema that holds these values too.
    pub fn propose(&self, fields: &Fields) -> Proposal {
        let mut record = Type::of_fields(fields);
        let (mut notes, mut is_changed) = (Vec::new(), false);
        for (path, (found, count)) in &self.paths {
            let told = match self.place(&mut record, path, found) {
                Ok(told) => {
                    is_changed = true;
                    told
                }
                Err(why) => format!("left as it is: {why}"),
            };
            let plural = if *count == 1 { "value" } else { "values" };
            notes.push(format!("{}: {told} ({count} {plural})", path.escape_debug()));
        }
        let mut schema = String::new();
        if let Type::Object(members) = &record {
            // Writing into a String cannot fail.
            let _ = write_members(members, ",\n", &mut schema);
        }
        // What cannot be declared even so (too many fields, too deep) says why.
        let schema = match parse(&schema) {
            Ok(_) => Some(schema).filter(|_| is_changed),
            Err(error) => {
                notes.push(format!("no schema can hold all of it: {error}"));
                None
            }
        };
        Proposal { notes, schema }
    }

    fn place(&self, record: &mut Type, path: &str, found: &Type) -> Result<String, &'static str> {
        if path.starts_with('$') {
            return Err("it stands beside the list of records, or is no object (`page_echoes` for what only echoes)");
        }
        if path.ends_with('#') {
            return Err("the API names it twice in one object");
        }
        match record.at(path) {
            Place::New(_, name) if !is_declarable(name) => Err(
                "its name cannot be declared: those that begin with `_` are the pipeline's own, and some characters",
            ),
            Place::New(members, name) if members.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) => {
                Err("a known name differs from it in its case only, which to BigQuery is the same")
            }
            Place::New(members, name) => {
                members.push((name.to_string(), found.clone()));
                Ok(format!("new, {found}"))
            }
            Place::Known(known) => {
                let before = known.to_string();
                let wider = known.clone().with(found.clone());
                if wider == *known {
                    return Err("the type is right, the value is none that it can hold");
                }
                *known = wider;
                Ok(format!("{before} becomes {known}"))
            }
            Place::Nowhere => Err("it leads nowhere in the schema"),
        }
    }
}

/// `a[3].b#2` → `a[].b#`: positions left out, and which repetition it is.
fn general(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(start) = rest.find('[') {
        let (before, behind) = rest.split_at(start + 1);
        out.push_str(before);
        rest = match behind.find(']') {
            Some(end) if behind[..end].bytes().all(|byte| byte.is_ascii_digit()) => &behind[end..],
            _ => behind,
        };
    }
    out.push_str(rest);
    match out.rsplit_once('#') {
        Some((name, turn)) if !turn.is_empty() && turn.bytes().all(|byte| byte.is_ascii_digit()) => format!("{name}#"),
        _ => out,
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
    fn new_fields_stand_where_they_were_found_with_the_type_that_holds_all_their_values() {
        let schema = "id VARCHAR, rpm ARRAY<STRUCT<time VARCHAR, value DOUBLE>>, ext MAP(VARCHAR, VARCHAR)";
        let cases = [
            (r#"{"note":"x"}"#, r#"{"note":null}"#, ",\nnote VARCHAR"),
            (r#"{"n":1}"#, r#"{"n":2}"#, ",\nn BIGINT"),
            (r#"{"n":1}"#, r#"{"n":2.5}"#, ",\nn DOUBLE"),
            (r#"{"n":1}"#, r#"{"n":"2"}"#, ",\nn JSON"),
            (r#"{"n":null}"#, r#"{"n":[]}"#, ",\nn JSON"),
            (r#"{"n":{}}"#, r#"{"n":{}}"#, ",\nn JSON"),
            (r#"{"n":18446744073709551615}"#, r#"{"n":1e999}"#, ",\nn JSON"),
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
            let wanted = format!("{}{added}", schema.replace(", rpm", ",\nrpm").replace(", ext", ",\next"));
            assert_eq!(proposal.schema.as_deref(), Some(wanted.as_str()), "{one} {other} {:?}", proposal.notes);
        }
        // Names that are data.
        let rows: Vec<String> = (0..200).map(|id| format!(r#"{{"o":{{"{id}":1}}}}"#)).collect();
        let many = propose("id VARCHAR", &rows.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(many.schema.as_deref(), Some("id VARCHAR,\no JSON"));
        let inside = propose(schema, &[r#"{"rpm[0].q":true,"rpm[12].q":false}"#]);
        assert!(inside.schema.unwrap().contains("rpm ARRAY<STRUCT<time VARCHAR, value DOUBLE, q BOOLEAN>>"));
        assert_eq!(inside.notes, ["rpm[].q: new, BOOLEAN (2 values)"]);
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
            assert_eq!(proposal.schema.as_deref(), Some(wanted), "{rescued} {:?}", proposal.notes);
        }
    }

    #[test]
    fn what_no_schema_mends_is_told_and_changes_nothing() {
        let cases = [
            ("n DOUBLE", r#"{"n":0.1}"#, "the type is right"),
            ("n VARCHAR", r#"{"n":"\ud800"}"#, "the type is right"),
            ("id VARCHAR", r#"{"id#2":"x"}"#, "id#: left as it is: the API names it twice"),
            ("id VARCHAR", r#"{"$":7}"#, "no object"),
            ("id VARCHAR", r#"{"$.note":"x"}"#, "page_echoes"),
            ("id VARCHAR", r#"{"ID":"x"}"#, "differs from it in its case"),
            ("id VARCHAR", r#"{"_own":"x"}"#, "pipeline's own"),
            ("id VARCHAR", "{\"a\\nb\\\"\":1}", "a\\nb\\\": left as it is: its name"),
        ];
        for (schema, rescued, told) in cases {
            let proposal = propose(schema, &[rescued]);
            assert_eq!(proposal.schema, None, "{rescued}");
            assert!(proposal.notes.concat().contains(told), "{rescued}: {:?}", proposal.notes);
        }
        assert!(Drifted::default().add("{").is_err());
    }
}
