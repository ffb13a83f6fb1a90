//! Raw schemas: SQL column definitions to Arrow fields.
//!
//! DataFusion's own parser reads them; its planner has no Arrow type for `MAP`, and none for `JSON` (text kept
//! exactly as sent), so the mapping is here and says yes to the few types that a JSON page can hold.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};
use datafusion::sql::sqlparser::ast::{ArrayElemTypeDef, DataType as SqlType};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

/// Field metadata key of a column declared `JSON`.
pub const JSON_TYPE: &str = "samsara:json";

/// An object may name this many fields; decoding keeps one bit for each.
const MAX_FIELDS: usize = 128;

/// The Arrow type of `MAP(VARCHAR, VARCHAR)`.
pub fn map_type() -> DataType {
    let entries =
        Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

/// Parses `id VARCHAR, readings ARRAY<STRUCT<…>>` into fields. Every field may be absent, hence nullable.
pub(super) fn parse(ddl: &str) -> Result<Fields, String> {
    let dialect = GenericDialect {};
    let wrapped = format!("({ddl})");
    let mut parser = Parser::new(&dialect).try_with_sql(&wrapped).map_err(|error| error.to_string())?;
    let (columns, constraints) = parser.parse_columns().map_err(|error| error.to_string())?;
    if !constraints.is_empty() || columns.iter().any(|column| !column.options.is_empty()) {
        return Err("a raw schema has names and types only, no constraints".into());
    }
    fields(columns.into_iter().map(|column| (column.name.value, column.data_type)))
}

fn fields(columns: impl Iterator<Item = (String, SqlType)>) -> Result<Fields, String> {
    let mut fields: Vec<Field> = Vec::new();
    for (name, sql_type) in columns {
        // Names that differ in case only are one name to BigQuery.
        if fields.iter().any(|field| field.name().eq_ignore_ascii_case(&name)) {
            return Err(format!("`{name}` is declared twice"));
        }
        if name.starts_with('_') {
            return Err(format!("`{name}`: names that start with `_` are the pipeline's own"));
        }
        let json = matches!(sql_type, SqlType::JSON);
        let mut field = Field::new(&name, arrow_type(&sql_type).map_err(|error| format!("`{name}`: {error}"))?, true);
        if json {
            field = field.with_metadata([(JSON_TYPE.to_string(), "true".to_string())].into());
        }
        fields.push(field);
    }
    if fields.is_empty() {
        return Err("a schema needs at least one column".into());
    }
    if fields.len() > MAX_FIELDS {
        return Err(format!("{} fields in one object, at most {MAX_FIELDS} are possible", fields.len()));
    }
    Ok(Fields::from(fields))
}

fn arrow_type(sql_type: &SqlType) -> Result<DataType, String> {
    Ok(match sql_type {
        SqlType::Varchar(None) | SqlType::Text | SqlType::String(None) | SqlType::JSON => DataType::Utf8,
        SqlType::BigInt(None) => DataType::Int64,
        SqlType::Double(_) | SqlType::Float64 => DataType::Float64,
        SqlType::Boolean | SqlType::Bool => DataType::Boolean,
        SqlType::Array(ArrayElemTypeDef::AngleBracket(item)) => {
            if matches!(**item, SqlType::JSON) {
                return Err("a list of JSON is JSON: declare the whole list so".into());
            }
            DataType::List(Arc::new(Field::new("item", arrow_type(item)?, true)))
        }
        SqlType::Struct(members, _) => DataType::Struct(fields(
            members
                .iter()
                .map(|member| match &member.field_name {
                    Some(name) => Ok((name.value.clone(), member.field_type.clone())),
                    None => Err("a STRUCT's fields need names".to_string()),
                })
                .collect::<Result<Vec<_>, _>>()?
                .into_iter(),
        )?),
        SqlType::Map(key, value) if matches!((&**key, &**value), (SqlType::Varchar(None), SqlType::Varchar(None))) => {
            map_type()
        }
        other => {
            return Err(format!(
                "type {other} is not one a page can hold; use VARCHAR, BIGINT, DOUBLE, BOOLEAN, JSON, ARRAY<…>, \
                 STRUCT<…> or MAP(VARCHAR, VARCHAR)"
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_types_keep_their_names_and_order() {
        let fields = parse(
            "id VARCHAR, engineRpm ARRAY<STRUCT<time VARCHAR, value DOUBLE>>, ext MAP(VARCHAR, VARCHAR), tags JSON",
        )
        .unwrap();
        assert_eq!(fields.iter().map(|f| f.name().as_str()).collect::<Vec<_>>(), ["id", "engineRpm", "ext", "tags"]);
        let DataType::List(item) = fields[1].data_type() else { panic!("a list") };
        let DataType::Struct(members) = item.data_type() else { panic!("of structs") };
        assert_eq!(members[1].data_type(), &DataType::Float64);
        assert_eq!(fields[2].data_type(), &map_type());
        assert!(fields[3].metadata().contains_key(JSON_TYPE));
    }

    #[test]
    fn refuses_with_the_column_named() {
        for (ddl, part) in [
            ("id UUID", "`id`: type UUID"),
            ("a VARCHAR, a BIGINT", "`a` is declared twice"),
            ("_window_start VARCHAR", "pipeline's own"),
            ("s STRUCT<x TIME>", "`s`: `x`: type TIME"),
            ("id VARCHAR NOT NULL", "no constraints"),
            ("", "at least one column"),
            ("id", "Expected"),
        ] {
            let error = parse(ddl).unwrap_err();
            assert!(error.contains(part), "{ddl}: {error}");
        }
    }
}
