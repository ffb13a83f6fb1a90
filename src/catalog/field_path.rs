//! Paths to the fields of a raw record, as `sources.toml` writes them: `driver.id`, `fields[].value.url`.

use std::fmt;

use arrow::datatypes::{DataType, Fields};

use super::ddl::JSON_TYPE;
use super::did_you_mean;

/// The pipeline's column with the requested parent id: part of the key of records that do not name their parent.
pub const PARENT_ID: &str = "_parent_id";

/// A path to a field of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath(Vec<PathStep>);

/// One step of a [`FieldPath`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathStep {
    /// Into the field of this name.
    Field(String),
    /// Into every item of the list.
    Items,
}

impl FieldPath {
    /// Parses the notation of `sources.toml`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut steps = Vec::new();
        for part in text.split('.') {
            let name = part.trim_end_matches("[]");
            if name.is_empty() {
                return Err(format!("`{text}` has an empty step"));
            }
            steps.push(PathStep::Field(name.into()));
            steps.extend((0..(part.len() - name.len()) / 2).map(|_| PathStep::Items));
        }
        Ok(Self(steps))
    }

    /// The steps, outermost first.
    pub fn steps(&self) -> &[PathStep] {
        &self.0
    }

    /// The type of the value, if the path leads to one value of the record: text, a number or a boolean.
    pub fn value_type(&self, fields: &Fields) -> Result<DataType, String> {
        if self.0 == [PathStep::Field(PARENT_ID.into())] {
            return Ok(DataType::Utf8);
        }
        let mut of = DataType::Struct(fields.clone());
        for step in &self.0 {
            let PathStep::Field(name) = step else {
                return Err(format!(
                    "`{self}` goes through a list: a record may have many values"
                ));
            };
            let DataType::Struct(fields) = &of else {
                return Err(format!("`{self}`: {of} has no fields"));
            };
            let Some((_, field)) = fields.find(name) else {
                let hint = did_you_mean(name, fields.iter().map(|field| field.name().as_str()));
                return Err(format!("`{self}`: unknown field `{name}`{hint}"));
            };
            of = field.data_type().clone();
        }
        match of {
            DataType::Utf8 | DataType::Int64 | DataType::Float64 | DataType::Boolean => Ok(of),
            other => Err(format!("`{self}` is not a single value but {other}")),
        }
    }

    /// Fails unless the schema can have such a field. Fields inside JSON are not checked.
    pub(super) fn check(&self, fields: &Fields) -> Result<(), String> {
        let mut of = DataType::Struct(fields.clone());
        for step in &self.0 {
            of = match (step, &of) {
                (PathStep::Field(name), DataType::Struct(fields)) => {
                    let Some((_, field)) = fields.find(name) else {
                        let hint =
                            did_you_mean(name, fields.iter().map(|field| field.name().as_str()));
                        return Err(format!("`{self}`: unknown field `{name}`{hint}"));
                    };
                    if field.metadata().contains_key(JSON_TYPE) {
                        return Ok(());
                    }
                    field.data_type().clone()
                }
                (PathStep::Items, DataType::List(item)) => item.data_type().clone(),
                (PathStep::Field(_), DataType::Map(_, _)) => return Ok(()),
                (PathStep::Items, other) => {
                    return Err(format!("`{self}`: `[]` must follow a list, not {other}"));
                }
                (PathStep::Field(_), other) => {
                    return Err(format!("`{self}`: {other} has no fields"));
                }
            };
        }
        Ok(())
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                PathStep::Field(name) if index == 0 => f.write_str(name)?,
                PathStep::Field(name) => write!(f, ".{name}")?,
                PathStep::Items => f.write_str("[]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_checks_the_schema() {
        let fields = super::super::ddl::parse(
            "id VARCHAR, n BIGINT, driver STRUCT<id VARCHAR, name VARCHAR>, l ARRAY<STRUCT<url VARCHAR>>, m MAP(VARCHAR, VARCHAR), \
             j JSON",
        )
        .unwrap();
        let read = |text: &str| {
            let path = FieldPath::parse(text).unwrap();
            assert_eq!(path.to_string(), text);
            (path.value_type(&fields), path.check(&fields))
        };
        for (text, is_value, is_there) in [
            ("id", true, true),
            ("n", true, true),
            ("driver.id", true, true),
            ("_parent_id", true, false),
            ("driver", false, true),
            ("l[].url", false, true),
            ("l.url", false, false),
            ("id[]", false, false),
            ("j[].value.photoValue[].url", false, true),
            ("m.key", false, true),
            ("driver.di", false, false),
        ] {
            let (value, there) = read(text);
            assert_eq!(
                (value.is_ok(), there.is_ok()),
                (is_value, is_there),
                "{text}: {value:?} {there:?}"
            );
        }
        assert!(FieldPath::parse("a..b").is_err() && FieldPath::parse("[]").is_err());
        assert!(
            read("driver.nmae")
                .1
                .unwrap_err()
                .contains("did you mean `name`")
        );
    }
}
