//! What a load job may do to the columns of a table that exists already.

use serde_json::{Value, json};

use super::jobs::LoadJob;

/// Whether the job replaces the table with its schema; else it has to fit in.
fn replaces(job: &LoadJob) -> bool {
    !job.table.contains('$') && job.configuration["load"]["writeDisposition"] == "WRITE_TRUNCATE"
}

/// Why BigQuery would fail the job, in its words; none if it would not.
pub fn refuse(table: &Value, job: &LoadJob) -> Option<String> {
    let load = &job.configuration["load"];
    if replaces(job) {
        let layout = |of: &Value| {
            (
                of["timePartitioning"]["field"].clone(),
                of["clustering"]["fields"].clone(),
            )
        };
        let (expected, given) = (layout(table), layout(load));
        return (expected != given).then(|| {
            format!("Incompatible table partitioning specification. Expects {expected:?}, but input is {given:?}")
        });
    }
    let may_add = load["schemaUpdateOptions"]
        .as_array()
        .is_some_and(|all| all.contains(&json!("ALLOW_FIELD_ADDITION")));
    let reason = misfit(
        &fields(&table["schema"]),
        &fields(&load["schema"]),
        may_add,
        "",
    )?;
    Some(format!(
        "Provided Schema does not match Table {}. {reason}",
        job.table
    ))
}

/// Brings the columns of a successful job to the table.
pub fn apply(table: &mut Value, job: &LoadJob) {
    let given = fields(&job.configuration["load"]["schema"]);
    if given.is_empty() {
        return;
    }
    let fields = if replaces(job) {
        given
    } else {
        joined(&fields(&table["schema"]), &given)
    };
    table["schema"] = json!({ "fields": fields });
}

fn fields(schema: &Value) -> Vec<Value> {
    schema["fields"].as_array().cloned().unwrap_or_default()
}

fn named<'a>(fields: &'a [Value], name: &Value) -> Option<&'a Value> {
    fields.iter().find(|field| field["name"] == *name)
}

/// BigQuery has two names for some types.
fn kind(field: &Value) -> &str {
    match field["type"].as_str().unwrap_or_default() {
        "INTEGER" => "INT64",
        "FLOAT" => "FLOAT64",
        "BOOLEAN" => "BOOL",
        "RECORD" => "STRUCT",
        other => other,
    }
}

fn misfit(table: &[Value], job: &[Value], may_add: bool, path: &str) -> Option<String> {
    job.iter().find_map(|field| {
        let name = format!("{path}{}", field["name"].as_str().unwrap_or_default());
        match named(table, &field["name"]) {
            None if may_add => None,
            None => Some(format!("Cannot add fields (field: {name})")),
            Some(found) if kind(found) != kind(field) => Some(format!(
                "Field {name} has changed type from {} to {}",
                kind(found),
                kind(field)
            )),
            Some(found) => misfit(&fields(found), &fields(field), may_add, &format!("{name}.")),
        }
    })
}

fn joined(table: &[Value], job: &[Value]) -> Vec<Value> {
    let known = table.iter().map(|field| {
        let mut field = field.clone();
        if let Some(given) = named(job, &field["name"]).filter(|given| given["fields"].is_array()) {
            field["fields"] = joined(&fields(&field), &fields(given)).into();
        }
        field
    });
    let added = job
        .iter()
        .filter(|field| named(table, &field["name"]).is_none())
        .cloned();
    known.chain(added).collect()
}
