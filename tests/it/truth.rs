//! Compares tables with what the simulated world says they should have, row for row.

use chrono::{DateTime, Utc};
use samsara_etl::catalog::{Catalog, SourceKind};
use samsara_etl::load::{LocalTable, LocalWarehouse};
use samsara_etl::transform::{QueryTable, query};
use samsara_simulator::World;
use serde_json::{Map, Value};

use crate::program::Program;

/// Instants at the start of a day.
pub fn day(text: &str) -> DateTime<Utc> {
    format!("{text}T00:00:00Z").parse().unwrap()
}

/// Compares one table of the local warehouse; returns its number of rows, or the differences.
pub async fn compare(
    program: &Program,
    world: &World,
    table: &str,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<usize, String> {
    let found = local_tables(&program.folder().join("samsara-data/warehouse")).await;
    differences(table, world, local_rows(&found, table).await, from, to)
}

/// Compares rows that were read somehow with the truth.
pub fn differences(
    table: &str,
    world: &World,
    actual: Vec<Map<String, Value>>,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<usize, String> {
    let truth = world
        .truth(table, from, to)
        .ok_or_else(|| format!("{table}: the world knows no such table"))?;
    let json_columns: Vec<&String> = match truth.first() {
        Some(row) => row
            .keys()
            .filter(|name| truth.iter().any(|row| is_json(&row[*name])))
            .collect(),
        None => Vec::new(),
    };
    let mut expected: Vec<String> = truth.iter().map(|row| canonical(row, &[])).collect();
    let mut found: Vec<String> = actual
        .iter()
        .map(|row| canonical(row, &json_columns))
        .collect();
    expected.sort();
    found.sort();
    if expected == found {
        return Ok(expected.len());
    }
    let only = |one: &[String], other: &[String]| {
        one.iter()
            .filter(|row| other.binary_search(row).is_err())
            .take(3)
            .map(|row| format!("\n    {row}"))
            .collect::<String>()
    };
    Err(format!(
        "{table}: {} rows, {} expected\n  missing:{}\n  surplus:{}",
        found.len(),
        expected.len(),
        only(&expected, &found),
        only(&found, &expected)
    ))
}

fn is_json(value: &Value) -> bool {
    value.is_array() || value.is_object()
}

/// A canonical form of a row, whatever wrote it: nulls left out, instants and numbers in one form.
fn canonical(row: &Map<String, Value>, json_columns: &[&String]) -> String {
    let mut cells: Vec<String> = row
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| {
            let value = match value {
                Value::String(text) if json_columns.contains(&name) => numbers(
                    &serde_json::from_str(text)
                        .unwrap_or_else(|error| panic!("{name}: {error}: {text}")),
                ),
                Value::String(text) => match instant(text) {
                    Some(at) => Value::from(at.timestamp_micros().to_string()),
                    None => value.clone(),
                },
                other => numbers(other),
            };
            format!("{name}={value}")
        })
        .collect();
    cells.sort();
    cells.join(" ")
}

/// An instant as we write it, or as the BigQuery emulator does.
fn instant(text: &str) -> Option<DateTime<chrono::FixedOffset>> {
    let ours = DateTime::parse_from_rfc3339(text);
    ours.or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z"))
        .ok()
}

/// `1310` and `1310.0` are one number.
fn numbers(value: &Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() != 0.0 => value.clone(),
            Some(float) if float.abs() < 9e15 => Value::from(float as i64),
            _ => value.clone(),
        },
        Value::Array(items) => items.iter().map(numbers).collect(),
        Value::Object(members) => Value::Object(
            members
                .iter()
                .map(|(name, value)| (name.clone(), numbers(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

/// The tables of a local warehouse, to be read in this process.
pub async fn local_tables(warehouse: &std::path::Path) -> Vec<QueryTable> {
    let local = LocalWarehouse::open(warehouse, &tokio::runtime::Handle::current()).unwrap();
    let table = |found: LocalTable| QueryTable {
        raw: false,
        name: found.contract.table.clone(),
        schema: found.schema(),
        bucket: local.bucket().clone(),
        objects: found.objects,
    };
    local
        .tables()
        .await
        .unwrap()
        .into_iter()
        .map(table)
        .collect()
}

/// The rows of one of them.
pub async fn local_rows(tables: &[QueryTable], table: &str) -> Vec<Map<String, Value>> {
    let Some(found) = tables.iter().find(|found| found.name == table) else {
        return Vec::new();
    };
    let sql = format!("SELECT * FROM \"{table}\"");
    let mut result = query(&sql, std::slice::from_ref(found), 1 << 30)
        .await
        .unwrap();
    let mut writer = arrow_json::LineDelimitedWriter::new(Vec::new());
    while let Some(batch) = result.next().await.unwrap() {
        writer.write(&batch).unwrap();
    }
    writer.finish().unwrap();
    let text = String::from_utf8(writer.into_inner()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Whether the sources of a table reach back to the requested days. A feed with a short retention has no rows for the
/// days of most tests; see cold_feeds.rs.
pub fn has_history(catalog: &Catalog, table: &str) -> bool {
    catalog.model(table).is_none_or(|model| {
        let mut sources = model.sources.iter().filter_map(|name| catalog.source(name));
        sources.all(|source| {
            source.kind != SourceKind::Feed
                || source.feed_reaches_back_to(chrono::Utc::now()).is_none()
        })
    })
}
