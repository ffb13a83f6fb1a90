//! Where a record has its time: the path that determines the day of a row. Other fields of a record are named in the
//! same way.

use std::fmt;

use arrow::datatypes::{DataType, Fields};

/// Path to the time of a record (`startMs`) or of the readings inside it (`engineRpm[].time`,
/// `reeferStats.*[].changedAtMs`). A record may have its time in one of several fields, of which the first that exists
/// counts: `scheduledRouteStartTime | actualRouteStartTime`.
#[derive(Clone, PartialEq, Eq)]
pub struct TimeField {
    path: Vec<TimeStep>,
    /// The paths that count if the ones before them lead to nothing.
    otherwise: Vec<Vec<TimeStep>>,
}

/// Stored digests contain this text, so it must not change for a single path.
impl fmt::Debug for TimeField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tuple = f.debug_tuple("TimeField");
        tuple.field(&self.path);
        if !self.otherwise.is_empty() {
            tuple.field(&self.otherwise);
        }
        tuple.finish()
    }
}

/// One step of a [`TimeField`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimeStep {
    /// Into the field of this name.
    Field(String),
    /// Into every field of the object.
    EveryField,
    /// Into every item of the list: from here on each item has a time of its own.
    Items,
}

impl TimeField {
    /// Parses the notation of `sources.toml`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut paths = text.split('|').map(|path| parse(path.trim()));
        let path = paths.next().transpose()?.unwrap_or_default();
        let otherwise = paths.collect::<Result<Vec<_>, _>>()?;
        let field = Self { path, otherwise };
        if !field.otherwise.is_empty() && field.paths().any(|path| path.contains(&TimeStep::Items))
        {
            return Err(format!(
                "`{text}`: `|` separates fields of the record, not of its lists"
            ));
        }
        Ok(field)
    }

    /// The steps, outermost first; of several paths, those of the first.
    pub fn steps(&self) -> &[TimeStep] {
        &self.path
    }

    /// Each of the paths, in order of precedence.
    pub fn paths(&self) -> impl Iterator<Item = &[TimeStep]> {
        [&self.path]
            .into_iter()
            .chain(&self.otherwise)
            .map(Vec::as_slice)
    }

    /// The steps to the list in whose items the path ends; none if it ends in the record itself.
    pub fn list(&self) -> &[TimeStep] {
        let end = self
            .path
            .iter()
            .position(|step| *step == TimeStep::Items)
            .map_or(0, |items| items + 1);
        &self.path[..end]
    }

    /// Whether it leads to many fields at once.
    pub(super) fn has_every_field(&self) -> bool {
        self.path.contains(&TimeStep::EveryField)
    }

    /// Whether a record has one time, rather than each of its readings.
    pub fn is_of_record(&self) -> bool {
        !self.path.contains(&TimeStep::Items)
    }

    /// Fails unless the path ends at a VARCHAR or BIGINT column of the schema.
    pub(super) fn check(&self, fields: &Fields) -> Result<(), String> {
        let record = DataType::Struct(fields.clone());
        let mut types = Vec::new();
        for path in self.paths() {
            types.push(check(path, &record).map_err(|error| format!("`{self}`: {error}"))?);
        }
        if types.windows(2).all(|pair| pair[0] == pair[1]) {
            Ok(())
        } else {
            Err(format!("`{self}`: the fields must be of one type"))
        }
    }

    /// Fails where there are several paths.
    pub(super) fn check_single(&self) -> Result<(), String> {
        if self.otherwise.is_empty() {
            Ok(())
        } else {
            Err(format!("`{self}`: one field is the most"))
        }
    }
}

fn parse(text: &str) -> Result<Vec<TimeStep>, String> {
    let mut steps = Vec::new();
    for part in text.split('.') {
        let (name, items) = match part.strip_suffix("[]") {
            Some(name) => (name, true),
            None => (part, false),
        };
        match name {
            "" => return Err(format!("`{text}` has an empty step")),
            "*" => steps.push(TimeStep::EveryField),
            name => steps.push(TimeStep::Field(name.into())),
        }
        if items {
            steps.push(TimeStep::Items);
        }
    }
    if steps
        .iter()
        .filter(|step| **step == TimeStep::Items)
        .count()
        > 1
    {
        return Err(format!(
            "`{text}` goes through two lists; at most one is allowed"
        ));
    }
    if steps.contains(&TimeStep::EveryField) && !steps.contains(&TimeStep::Items) {
        return Err(format!(
            "`{text}` gives one record many times: `*` is allowed before a list only"
        ));
    }
    Ok(steps)
}

/// The type of the column at the end of the path.
fn check(steps: &[TimeStep], data_type: &DataType) -> Result<DataType, String> {
    match (steps.split_first(), data_type) {
        (None, DataType::Utf8 | DataType::Int64) => Ok(data_type.clone()),
        (None, other) => Err(format!(
            "a time must be VARCHAR or BIGINT (milliseconds), not {other}"
        )),
        (Some((TimeStep::Field(name), rest)), DataType::Struct(fields)) => {
            match fields.find(name) {
                Some((_, field)) => check(rest, field.data_type()),
                None => Err(format!("unknown field `{name}`")),
            }
        }
        (Some((TimeStep::EveryField, rest)), DataType::Struct(fields)) => {
            let mut found = DataType::Utf8;
            for field in fields {
                found = check(rest, field.data_type())?;
            }
            Ok(found)
        }
        (Some((TimeStep::Items, rest)), DataType::List(item)) => check(rest, item.data_type()),
        (Some((TimeStep::Items, _)), other) => Err(format!("`[]` must follow a list, not {other}")),
        (Some(_), other) => Err(format!("{other} has no fields")),
    }
}

impl fmt::Display for TimeField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, path) in self.paths().enumerate() {
            if number > 0 {
                write!(f, " | ")?;
            }
            for (index, step) in path.iter().enumerate() {
                let dot = if index == 0 { "" } else { "." };
                match step {
                    TimeStep::Field(name) => write!(f, "{dot}{name}")?,
                    TimeStep::EveryField => write!(f, "{dot}*")?,
                    TimeStep::Items => write!(f, "[]")?,
                }
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
            "startMs BIGINT, endMs BIGINT, at VARCHAR, on BOOLEAN, rpm ARRAY<STRUCT<time VARCHAR>>, s STRUCT<a ARRAY<STRUCT<at BIGINT>>>",
        )
        .unwrap();
        for good in [
            "startMs",
            "rpm[].time",
            "s.*[].at",
            "s.a[].at",
            "startMs | endMs",
        ] {
            let field = TimeField::parse(good).unwrap();
            assert_eq!(field.to_string(), good);
            field.check(&fields).unwrap();
        }
        for bad in [
            "on",
            "rpm",
            "rpm[].tme",
            "startMs[]",
            "s.*",
            "startMs | at",
            "startMs | rpm[].time",
            "startMs | ",
            "startMs | missing",
        ] {
            let parsed = TimeField::parse(bad).and_then(|field| field.check(&fields));
            assert!(parsed.is_err(), "{bad}");
        }
    }
}
