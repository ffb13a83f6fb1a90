//! The output contract: columns and layout of a model's table, the same in Parquet and in the warehouse.
//!
//! It depends on the model's plan only, never on data, so columns cannot come and go with a day's content.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use arrow::util::display::FormatOptions;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::DataError;
use super::unfit::Unfit;
use crate::catalog::{FrontMatter, Model, Place, Source, did_you_mean};
use crate::config::Secret;
use crate::extract::{INSTANTS, timestamp_type};
use crate::state::unique_names;
use crate::store::layout::DAY_FOLDER;

/// The days that a DATE of BigQuery holds, since 1970: 0001-01-01 to 9999-12-31.
const DAYS: RangeInclusive<i32> = -719_162..=2_932_896;

/// Columns that a history table adds.
pub(super) const VALID_FROM: &str = "valid_from";
pub(super) const VALID_TO: &str = "valid_to";
pub(super) const IS_DELETED: &str = "is_deleted";

/// What a model's table looks like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contract {
    /// Name of the table.
    pub table: String,
    /// What one row is.
    pub description: String,
    /// The columns in their order.
    pub columns: Vec<Column>,
    /// The column whose UTC day partitions the table; none for tables that are replaced as a whole.
    pub partition_by: Option<String>,
    /// Columns to cluster by.
    pub cluster_by: Vec<String>,
    /// Columns with a salted digest instead of the query's value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hashed: Vec<String>,
    /// BigQuery removes a partition when it is this old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_expiration_days: Option<u32>,
    /// Labels of the table in BigQuery.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "unique_names"
    )]
    pub labels: BTreeMap<String, String>,
}

/// A column of a [`Contract`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Name of the column, as in BigQuery.
    pub name: String,
    /// Type of the column.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
    /// What it means: the trailing comment in the model.
    pub description: Option<String>,
}

/// The types that both Parquet and BigQuery hold without loss or surprise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ColumnType {
    /// BigQuery STRING.
    String,
    /// BigQuery INT64.
    Int64,
    /// BigQuery FLOAT64.
    Float64,
    /// BigQuery BOOL.
    Bool,
    /// BigQuery TIMESTAMP: microseconds since 1970 in UTC.
    Timestamp,
    /// BigQuery DATE.
    Date,
    /// Decimal with 38 digits, 9 of them after the point.
    Numeric,
    /// BigQuery BYTES.
    Bytes,
}

impl ColumnType {
    /// The type's name in BigQuery.
    pub fn bigquery(self) -> &'static str {
        match self {
            Self::String => "STRING",
            Self::Int64 => "INT64",
            Self::Float64 => "FLOAT64",
            Self::Bool => "BOOL",
            Self::Timestamp => "TIMESTAMP",
            Self::Date => "DATE",
            Self::Numeric => "NUMERIC",
            Self::Bytes => "BYTES",
        }
    }

    /// The type of this name in BigQuery.
    pub(super) fn named(name: &str) -> Option<Self> {
        let all = [
            Self::String,
            Self::Int64,
            Self::Float64,
            Self::Bool,
            Self::Timestamp,
            Self::Date,
            Self::Numeric,
            Self::Bytes,
        ];
        all.into_iter().find(|it| it.bigquery() == name)
    }

    /// The type in Arrow and Parquet.
    pub fn arrow(self) -> DataType {
        match self {
            Self::String => DataType::Utf8,
            Self::Int64 => DataType::Int64,
            Self::Float64 => DataType::Float64,
            Self::Bool => DataType::Boolean,
            Self::Timestamp => timestamp_type(),
            Self::Date => DataType::Date32,
            Self::Numeric => DataType::Decimal128(38, 9),
            Self::Bytes => DataType::Binary,
        }
    }

    /// The contract's type for a type of the query.
    ///
    /// # Errors
    /// Why there is none, and what the analyst can write instead.
    pub fn of(data_type: &DataType) -> Result<Self, String> {
        Ok(match data_type {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::String,
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Self::Int64,
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => Self::Int64,
            DataType::Float16 | DataType::Float32 | DataType::Float64 => Self::Float64,
            DataType::Boolean => Self::Bool,
            DataType::Timestamp(_, _) => Self::Timestamp,
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Decimal128(precision, scale)
                if (0..=9).contains(scale) && precision - *scale as u8 <= 29 =>
            {
                Self::Numeric
            }
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Self::Bytes,
            DataType::Dictionary(_, value) => return Self::of(value),
            DataType::List(_)
            | DataType::LargeList(_)
            | DataType::FixedSizeList(_, _)
            | DataType::ListView(_) => {
                return Err(
                    "is a list: unnest it into a table of its own, or write to_json(…)".into(),
                );
            }
            DataType::Struct(_) => {
                return Err("is an object: select its fields, or write to_json(…)".into());
            }
            DataType::Map(_, _) => {
                return Err("is a map: select keys with ['key'], or write to_json(…)".into());
            }
            DataType::Null => return Err("has no type: CAST it to one".into()),
            DataType::Decimal128(_, _) | DataType::Decimal256(_, _) => {
                return Err(format!(
                    "is {data_type}, but NUMERIC holds 29 digits before the point and 9 after it: CAST it"
                ));
            }
            DataType::Time32(_) | DataType::Time64(_) => {
                return Err(
                    "is a time of day, which cannot be loaded from Parquet: CAST it to VARCHAR"
                        .into(),
                );
            }
            other => {
                return Err(format!(
                    "has type {other}, which BigQuery cannot hold: CAST it"
                ));
            }
        })
    }
}

impl Contract {
    /// The contract of a model whose query yields `schema`, and whose partitions are those of `driving`. The error
    /// lists places in the file with a reason each.
    pub(super) fn of(
        model: &Model,
        driving: &Source,
        schema: &Schema,
    ) -> Result<Self, Vec<(Place, String)>> {
        let mut problems = Vec::new();
        let mut columns: Vec<Column> = Vec::new();
        let FrontMatter { drop, hash, .. } = &model.front_matter;
        for (key, names) in [("drop", drop), ("hash", hash)] {
            let unknown = names
                .iter()
                .filter(|name| schema.field_with_name(name).is_err());
            for name in unknown {
                let hint = did_you_mean(
                    name,
                    schema.fields().iter().map(|field| field.name().as_str()),
                );
                problems.push((
                    model.place_of_key(key, Some(name)),
                    format!("{key}: unknown column `{name}`{hint}"),
                ));
            }
        }
        for name in hash.iter().filter(|name| drop.contains(name)) {
            problems.push((
                model.place_of_key("hash", Some(name)),
                format!("`{name}` is in both drop and hash"),
            ));
        }
        let mut has_all = true;
        for field in schema.fields() {
            let name = field.name();
            if drop.contains(name) {
                continue;
            }
            let twin = columns
                .iter()
                .find(|column| column.name.eq_ignore_ascii_case(name));
            let column_type = match twin {
                Some(twin) => Err(format!("and `{}` are the same name to BigQuery", twin.name)),
                None => check_name(name).and_then(|()| ColumnType::of(field.data_type())),
            };
            match column_type {
                Ok(as_queried) => columns.push(Column {
                    name: name.clone(),
                    column_type: match hash.contains(name) {
                        true => ColumnType::String,
                        false => as_queried,
                    },
                    description: model.column_descriptions().get(name).cloned(),
                }),
                Err(reason) => {
                    has_all = false;
                    problems.push((
                        model.place_of_column(name),
                        format!("column `{name}` {reason}"),
                    ));
                }
            }
        }
        let contract = Self {
            table: model.name.clone(),
            description: model.front_matter.description.clone(),
            columns,
            partition_by: model.front_matter.partition_by.clone(),
            cluster_by: model.front_matter.cluster_by.clone(),
            hashed: hash.clone(),
            partition_expiration_days: model.front_matter.partition_expiration_days,
            labels: model.front_matter.labels.clone(),
        };
        // Keys are checked only if no column is missing because of a problem of its own.
        if has_all {
            contract.check_keys(driving.is_daily(), model, &mut problems);
        }
        match problems.is_empty() {
            true => Ok(contract),
            false => Err(problems),
        }
    }

    /// The contract of the table's history table. Its columns come from flattened rows, where hashed columns are hashed
    /// already.
    pub fn history(&self, table: String) -> Self {
        let column = |name: &str, column_type, description: &str| Column {
            name: name.into(),
            column_type,
            description: Some(description.into()),
        };
        let mut columns = self.columns.clone();
        columns.extend([
            column(
                VALID_FROM,
                ColumnType::Timestamp,
                "when this version was first seen",
            ),
            column(
                VALID_TO,
                ColumnType::Timestamp,
                "when it was first seen to be over; none for what holds now",
            ),
            column(
                IS_DELETED,
                ColumnType::Bool,
                "whether the row was gone from Samsara in that time",
            ),
        ]);
        Self {
            table,
            description: format!("Each version of {}: {}", self.table, self.description),
            columns,
            hashed: Vec::new(),
            ..self.clone()
        }
    }

    fn check_keys(&self, is_daily: bool, model: &Model, problems: &mut Vec<(Place, String)>) {
        let names = || self.columns.iter().map(|column| column.name.as_str());
        let find = |name: &str| self.columns.iter().find(|column| column.name == name);
        let mut wrong = |key: &str, value: Option<&str>, reason: &str| {
            let place = model.place_of_key(key, value);
            problems.push((place, format!("{key}: {reason}")));
        };
        let keys = [
            ("unique_key", &model.front_matter.unique_key),
            ("cluster_by", &self.cluster_by),
        ];
        let partition_by: Vec<String> = self.partition_by.iter().cloned().collect();
        for (key, columns) in keys.into_iter().chain([("partition_by", &partition_by)]) {
            for name in columns.iter().filter(|name| find(name).is_none()) {
                let hint = did_you_mean(name, names());
                wrong(key, Some(name), &format!("unknown column `{name}`{hint}"));
            }
        }
        if model.front_matter.history
            && let Some(name) = names().find(|name| {
                [VALID_FROM, VALID_TO, IS_DELETED]
                    .iter()
                    .any(|own| own.eq_ignore_ascii_case(name))
            })
        {
            let reason = format!("the history table adds a column `{name}`: rename this one");
            wrong("history", None, &reason);
        }
        if self.cluster_by.len() > 4 {
            wrong("cluster_by", None, "BigQuery allows four columns at most");
        }
        for name in &self.cluster_by {
            if find(name).is_some_and(|column| {
                matches!(column.column_type, ColumnType::Float64 | ColumnType::Bytes)
            }) {
                let reason = format!("BigQuery cannot cluster by `{name}`");
                wrong("cluster_by", Some(name), &reason);
            }
        }
        for (key, value) in &self.labels {
            if !is_label(key, value) {
                let reason = format!(
                    "`{key} = {value}`: lower-case letters, digits, `-` and `_`, 63 at most, a letter first"
                );
                wrong("labels", None, &reason);
            }
        }
        match self.partition_expiration_days {
            Some(0) => wrong("partition_expiration_days", None, "must be at least 1"),
            Some(_) if self.partition_by.is_none() => wrong(
                "partition_expiration_days",
                None,
                "the table has no partitions",
            ),
            _ => {}
        }
        match (&self.partition_by, is_daily) {
            (None, true) => problems.push((
                Place::line(1),
                "partition_by is missing: name the column that holds the time of a row".into(),
            )),
            (Some(_), false) => wrong(
                "partition_by",
                None,
                "a snapshot table is replaced as a whole and has no partitions",
            ),
            (Some(name), true) => {
                let found = find(name).map(|column| column.column_type);
                if let Some(other) = found
                    && !matches!(other, ColumnType::Timestamp | ColumnType::Date)
                {
                    let reason = format!("`{name}` is {}, not TIMESTAMP or DATE", other.bigquery());
                    wrong("partition_by", Some(name), &reason);
                }
            }
            (None, false) => {}
        }
    }

    /// The part of the contract that the rows depend on, for digests: BigQuery's layout options and descriptions change
    /// no row.
    pub(super) fn digested(&self) -> Vec<u8> {
        let mut rows = self.clone();
        rows.description = String::new();
        for column in &mut rows.columns {
            column.description = None;
        }
        rows.digested_with_descriptions()
    }

    /// The same with descriptions, as earlier versions of the program computed it.
    pub(super) fn digested_with_descriptions(&self) -> Vec<u8> {
        let rows = Self {
            labels: BTreeMap::new(),
            partition_expiration_days: None,
            ..self.clone()
        };
        // Contracts that differ must never have equal digests.
        serde_json::to_vec(&rows).unwrap_or_else(|_| format!("{rows:?}").into_bytes())
    }

    /// The schema of the table's Parquet.
    pub fn schema(&self) -> SchemaRef {
        let field = |column: &Column| Field::new(&column.name, column.column_type.arrow(), true);
        Arc::new(Schema::new(
            self.columns.iter().map(field).collect::<Vec<_>>(),
        ))
    }

    /// Converts a batch of the query's result to the contract's columns and types. A value that does not fit is an
    /// error; but a time or a day beyond the years 1 to 9999 becomes NULL, and is counted: BigQuery would refuse the
    /// whole load. Values of dropped or hashed columns do not get past here in the clear.
    pub(super) fn normalise(
        &self,
        batch: &RecordBatch,
        schema: &SchemaRef,
        salt: Option<&Secret>,
        unfit: &mut Unfit,
    ) -> Result<RecordBatch, DataError> {
        let strict = CastOptions {
            safe: false,
            format_options: FormatOptions::default(),
        };
        let mut cast = |field: &Arc<Field>| {
            let name = field.name();
            let misfit = |error| DataError::Column {
                column: name.clone(),
                error,
            };
            let column = batch
                .column_by_name(name)
                .ok_or_else(|| format!("column `{name}` is missing"))?;
            if let Some(fitted) = fit_times(name, column, field.data_type(), unfit) {
                return fitted.map_err(misfit);
            }
            if !self.hashed.contains(name) && column.data_type() == field.data_type() {
                return Ok(column.clone());
            }
            let cast = cast_with_options(column, field.data_type(), &strict).map_err(misfit)?;
            if !self.hashed.contains(name) {
                return Ok(cast);
            }
            let salt = salt.ok_or_else(|| {
                format!("column `{name}` is to be hashed, but SAMSARA_ETL_HASH_SALT is not set")
            })?;
            let values = cast
                .as_string_opt::<i32>()
                .ok_or_else(|| format!("column `{name}` is not text"))?;
            let hashed: StringArray = values
                .iter()
                .map(|value| value.map(|value| digest(salt, value)))
                .collect();
            Ok::<ArrayRef, DataError>(Arc::new(hashed))
        };
        let columns = schema
            .fields()
            .iter()
            .map(&mut cast)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    }
}

/// A column of times or days as the table stores it; none for other columns. What BigQuery cannot store is NULL.
fn fit_times(
    name: &str,
    column: &ArrayRef,
    wanted: &DataType,
    unfit: &mut Unfit,
) -> Option<Result<ArrayRef, ArrowError>> {
    let is_time = matches!(
        (column.data_type(), wanted),
        (DataType::Timestamp(_, _), DataType::Timestamp(_, _))
    );
    let is_day = matches!(
        (column.data_type(), wanted),
        (DataType::Date32 | DataType::Date64, DataType::Date32)
    );
    if !is_time && !is_day {
        return None;
    }
    // What overflows on the way is NULL too.
    let lenient = CastOptions {
        safe: true,
        format_options: FormatOptions::default(),
    };
    let mut fitted = match cast_with_options(column, wanted, &lenient) {
        Ok(fitted) => fitted,
        Err(error) => return Some(Err(error)),
    };
    if let Some(times) = fitted.as_primitive_opt::<TimestampMicrosecondType>() {
        if times
            .iter()
            .flatten()
            .any(|micros| !INSTANTS.contains(&micros))
        {
            let kept = times
                .iter()
                .map(|micros| micros.filter(|micros| INSTANTS.contains(micros)));
            fitted =
                Arc::new(TimestampMicrosecondArray::from_iter(kept).with_data_type(wanted.clone()));
        }
    } else if let Some(days) = fitted.as_primitive_opt::<Date32Type>()
        && days.iter().flatten().any(|day| !DAYS.contains(&day))
    {
        let kept = days.iter().map(|day| day.filter(|day| DAYS.contains(day)));
        fitted = Arc::new(Date32Array::from_iter(kept));
    }
    if fitted.null_count() > column.null_count() {
        let plain = column.as_ref();
        for row in (0..plain.len()).filter(|row| plain.is_valid(*row) && fitted.is_null(*row)) {
            unfit.add(name, &number_of(plain, row));
        }
    }
    Some(Ok(fitted))
}

/// The number that represents a time or day.
fn number_of(column: &dyn Array, row: usize) -> i64 {
    let numbers = if column.data_type() == &DataType::Date32 {
        DataType::Int32
    } else {
        DataType::Int64
    };
    let number =
        cast(&column.slice(row, 1), &numbers).and_then(|number| cast(&number, &DataType::Int64));
    number.map_or(0, |number| number.as_primitive::<Int64Type>().value(0))
}

/// SHA-256 of salt and value. Without the salt, the ids and names of a fleet could be found by trying all of them.
pub(super) fn digest(salt: &Secret, value: &str) -> String {
    let mut digest = Sha256::new();
    digest.update(salt.expose());
    digest.update([0]);
    digest.update(value);
    const_hex::encode(digest.finalize())
}

/// BigQuery's rules for labels.
fn is_label(key: &str, value: &str) -> bool {
    let fine = |text: &str| {
        text.len() <= 63
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
    };
    key.starts_with(|first: char| first.is_ascii_lowercase()) && fine(key) && fine(value)
}

/// BigQuery's rules for column names.
fn check_name(name: &str) -> Result<(), String> {
    let fine = name.len() <= 300
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !fine {
        return Err("is not a column name (letters, digits and `_`): give it one with AS".into());
    }
    let reserved = [
        "_TABLE_",
        "_FILE_",
        "_PARTITION",
        "_ROW_TIMESTAMP",
        "__ROOT__",
        "_COLIDENTIFIER",
        "_CHANGE_",
    ];
    if name.eq_ignore_ascii_case(DAY_FOLDER) {
        return Err(
            "has the name of the table's partition folders: give it another one with AS".into(),
        );
    }
    match reserved
        .iter()
        .find(|prefix| name.to_ascii_uppercase().starts_with(**prefix))
    {
        Some(prefix) => Err(format!("starts with `{prefix}`, which BigQuery reserves")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_contract_has_each_label_once() {
        let read = |labels: &str| {
            let text = format!(
                r#"{{"table":"t","description":"","columns":[],"partition_by":null,"cluster_by":[],"labels":{labels}}}"#
            );
            serde_json::from_str::<Contract>(&text).map(|contract| contract.labels)
        };
        assert_eq!(
            read(r#"{"a":"1"}"#).unwrap(),
            [("a".into(), "1".into())].into()
        );
        let error = read(r#"{"a":"1","a":"2"}"#).unwrap_err().to_string();
        assert!(error.contains("`a` appears twice"), "{error}");
    }
}
