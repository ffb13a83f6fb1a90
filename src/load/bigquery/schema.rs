//! Columns in BigQuery's terms: of a contract, and of a raw Arrow schema.

use arrow::datatypes::{DataType, Field, Schema};
use gcp_bigquery_client::model::field_type::FieldType;
use gcp_bigquery_client::model::table_field_schema::TableFieldSchema;
use gcp_bigquery_client::model::table_schema::TableSchema;

use crate::transform::{Column, ColumnType, Contract};

/// "The maximum column description length is 1,024 characters": https://cloud.google.com/bigquery/docs/schemas
const MAX_DESCRIPTION: usize = 1024;

/// The columns of a contract.
pub(super) fn table_schema(contract: &Contract) -> TableSchema {
    TableSchema::new(contract.columns.iter().map(contract_field).collect())
}

pub(super) fn contract_field(column: &Column) -> TableFieldSchema {
    let field_type = match column.column_type {
        ColumnType::String => FieldType::String,
        ColumnType::Int64 => FieldType::Int64,
        ColumnType::Float64 => FieldType::Float64,
        ColumnType::Bool => FieldType::Bool,
        ColumnType::Timestamp => FieldType::Timestamp,
        ColumnType::Date => FieldType::Date,
        ColumnType::Numeric => FieldType::Numeric,
        ColumnType::Bytes => FieldType::Bytes,
    };
    let mut field = nullable(&column.name, field_type);
    field.description = column
        .description
        .as_ref()
        .map(|text| text.chars().take(MAX_DESCRIPTION).collect());
    field
}

/// The type's name in SQL, whichever of its names the API used.
pub(super) fn type_name(field_type: &FieldType) -> &'static str {
    match field_type {
        FieldType::String => "STRING",
        FieldType::Bytes => "BYTES",
        FieldType::Integer | FieldType::Int64 => "INT64",
        FieldType::Float | FieldType::Float64 => "FLOAT64",
        FieldType::Numeric => "NUMERIC",
        FieldType::Boolean | FieldType::Bool => "BOOL",
        FieldType::Timestamp => "TIMESTAMP",
        FieldType::Date => "DATE",
        FieldType::Bignumeric => "BIGNUMERIC",
        FieldType::Time => "TIME",
        FieldType::Datetime => "DATETIME",
        FieldType::Record | FieldType::Struct => "STRUCT",
        FieldType::Geography => "GEOGRAPHY",
        FieldType::Json => "JSON",
        FieldType::Interval => "INTERVAL",
    }
}

/// The columns of raw Parquet, which nests lists and maps.
pub(super) fn raw_schema(schema: &Schema) -> TableSchema {
    TableSchema::new(raw_fields(schema.fields()))
}

fn raw_fields<'a>(
    fields: impl IntoIterator<Item = &'a std::sync::Arc<Field>>,
) -> Vec<TableFieldSchema> {
    let fields = fields.into_iter();
    fields
        .map(|field| raw_field(field.name(), field.data_type()))
        .collect()
}

fn raw_field(name: &str, data_type: &DataType) -> TableFieldSchema {
    match data_type {
        DataType::Int64 => nullable(name, FieldType::Int64),
        DataType::Float64 => nullable(name, FieldType::Float64),
        DataType::Boolean => nullable(name, FieldType::Bool),
        DataType::Timestamp(_, _) => nullable(name, FieldType::Timestamp),
        DataType::Struct(fields) => record(name, raw_fields(fields)),
        DataType::List(item) => repeated(raw_field(name, item.data_type())),
        // Parquet's map: repeated groups of key and value.
        DataType::Map(_, _) => {
            let pair = ["key", "value"].map(|part| nullable(part, FieldType::String));
            record(name, vec![repeated(record("key_value", pair.into()))])
        }
        _ => nullable(name, FieldType::String),
    }
}

fn nullable(name: &str, field_type: FieldType) -> TableFieldSchema {
    let mut field = TableFieldSchema::new(name, field_type);
    field.mode = Some("NULLABLE".into());
    field
}

fn record(name: &str, fields: Vec<TableFieldSchema>) -> TableFieldSchema {
    let mut field = nullable(name, FieldType::Record);
    field.fields = Some(fields);
    field
}

fn repeated(mut field: TableFieldSchema) -> TableFieldSchema {
    field.mode = Some("REPEATED".into());
    field
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::extract::raw_schema as raw_arrow_schema;

    #[test]
    fn nested_columns_become_records() {
        let catalog = Catalog::open(None).unwrap();
        let source = catalog.source("fleet_vehicle_stats_engineRpm").unwrap();
        let schema = raw_schema(&raw_arrow_schema(source));
        let columns = serde_json::to_value(schema.fields).unwrap();
        let columns = columns.as_array().unwrap();
        let find = |name: &str| {
            columns
                .iter()
                .find(|column| column["name"] == name)
                .unwrap()
        };
        assert_eq!(find("engineRpm")["mode"], "REPEATED");
        assert_eq!(find("engineRpm")["type"], "RECORD");
        assert_eq!(find("engineRpm")["fields"][1]["type"], "FLOAT64");
        assert_eq!(find("externalIds")["fields"][0]["name"], "key_value");
        assert_eq!(find("_window_start")["type"], "TIMESTAMP");
    }
}
