//! Data tests: what the front matter declares about a model's rows, checked on every partition that is derived.
//!
//! Each test is a query for the rows that it forbids, over the rows as they were written.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use datafusion::common::DataFusionError;
use datafusion::datasource::empty::EmptyTable;
use datafusion::prelude::SessionContext;

use super::unique::value;
use super::{
    Column, ColumnType, Contract, Input, Inputs, Transformer, UpstreamTable, quote, select,
    session, told,
};
use crate::catalog::{DataTest, Literal, Model, Place, TestKind, TestSeverity, did_you_mean};
use crate::clock;
use crate::extract::day_window;
use crate::store::ObjectRef;
use crate::store::layout::Partition;

/// How many of the forbidden rows a message shows.
const SHOWN: usize = 3;
/// How many of a row's columns it shows.
const SHOWN_COLUMNS: usize = 6;

/// Rows that a data test forbids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedTest {
    /// The test: `not_null (driver_id)`.
    pub test: String,
    /// What follows from it.
    pub severity: TestSeverity,
    /// How many rows are wrong.
    pub rows: u64,
    /// Examples of them: `vehicle_id = 42, driver_id = NULL`.
    pub examples: Vec<String>,
}

impl fmt::Display for FailedTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = match self.rows {
            1 => "1 row".to_string(),
            rows => format!("{rows} rows"),
        };
        let examples = self.examples.join("; ");
        write!(f, "test {}: {rows}, such as {examples}", self.test)
    }
}

/// The columns that a test names, with the key of the front matter.
fn columns(test: &DataTest) -> Vec<(&'static str, &String)> {
    match &test.kind {
        TestKind::NotNull(columns) => columns.iter().map(|it| ("not_null", it)).collect(),
        TestKind::Unique(columns) => columns.iter().map(|it| ("unique", it)).collect(),
        TestKind::AcceptedValues { column, .. } => vec![("accepted_values", column)],
        TestKind::Range { column, .. } => vec![("range", column)],
        TestKind::Relationships { column, .. } => vec![("relationships", column)],
        TestKind::Freshness { column, .. } => vec![("freshness", column)],
        TestKind::Sql(_) => Vec::new(),
    }
}

/// A test in short: `not_null (driver_id)`.
pub fn described(test: &DataTest) -> String {
    let listed: Vec<&str> = columns(test).iter().map(|(_, it)| it.as_str()).collect();
    match &test.kind {
        TestKind::Sql(sql) => {
            let words: Vec<&str> = sql.split_whitespace().collect();
            let text: String = words.join(" ").chars().take(80).collect();
            format!("sql ({text})")
        }
        TestKind::NotNull(_) => format!("not_null ({})", listed.join(", ")),
        TestKind::Unique(_) => format!("unique ({})", listed.join(", ")),
        TestKind::AcceptedValues { .. } => format!("accepted_values ({})", listed.join(", ")),
        TestKind::Range { .. } => format!("range ({})", listed.join(", ")),
        TestKind::Relationships { column, to, field } => {
            format!("relationships ({column}, {to}.{field})")
        }
        TestKind::Freshness {
            column,
            max_age_hours,
        } => format!("freshness ({column}, {max_age_hours} hours)"),
    }
}

/// The end of a partition, or now if it is not over, for the age of its newest row.
fn end(model: &Model, partition: Partition, now: DateTime<Utc>) -> DateTime<Utc> {
    let Some(day) = partition.day() else {
        return now;
    };
    let window = model.front_matter.window.map(|window| window.days(day));
    let last = window.and_then(|days| days.last().copied()).unwrap_or(day);
    day_window(last).end.min(now)
}

/// The query for the rows that a test forbids; `end` is that of the partition.
fn query(model: &Model, contract: &Contract, test: &DataTest, end: DateTime<Utc>) -> String {
    let table = quote(&model.name);
    let named: Vec<String> = columns(test).iter().map(|(_, it)| quote(it)).collect();
    let forbidden = match &test.kind {
        TestKind::Sql(sql) => return sql.clone(),
        TestKind::Unique(_) => {
            let listed = named.join(", ");
            let present = named.join(" IS NOT NULL AND ");
            return format!(
                "SELECT {listed}, count(*) AS \"rows\" FROM {table} WHERE {present} IS NOT NULL \
                 GROUP BY {listed} HAVING count(*) > 1 ORDER BY {listed}"
            );
        }
        TestKind::Freshness {
            column,
            max_age_hours,
        } => {
            let oldest = end - TimeDelta::hours((*max_age_hours).into());
            let is_date = |it: &&Column| it.name == *column && it.column_type == ColumnType::Date;
            let oldest = match contract.columns.iter().find(is_date) {
                Some(_) => format!("CAST('{}' AS DATE)", oldest.date_naive()),
                None => format!("samsara_time('{}')", oldest.to_rfc3339()),
            };
            let column = quote(column);
            return format!(
                "SELECT max({column}) AS {column} FROM {table} HAVING max({column}) IS NULL OR max({column}) < {oldest}"
            );
        }
        TestKind::Relationships { to, field, .. } => {
            let (to, field, column) = (quote(to), quote(field), named.join(""));
            format!(
                "{column} IS NOT NULL AND {column} NOT IN (SELECT {field} FROM {to} WHERE {field} IS NOT NULL)"
            )
        }
        TestKind::NotNull(_) => format!("{} IS NULL", named.join(" IS NULL OR ")),
        TestKind::AcceptedValues { values, .. } => {
            let values: Vec<String> = values.iter().map(Literal::sql).collect();
            format!("{} NOT IN ({})", named.join(""), values.join(", "))
        }
        TestKind::Range { min, max, .. } => {
            let column = named.join("");
            let bounds = [("<", min), (">", max)];
            let beyond = bounds.iter().filter_map(|(sign, bound)| {
                let bound = bound.as_ref()?.sql();
                Some(format!("{column} {sign} {bound}"))
            });
            beyond.collect::<Vec<_>>().join(" OR ")
        }
    };
    let mut shown: Vec<String> = model
        .front_matter
        .unique_key
        .iter()
        .map(|it| quote(it))
        .collect();
    shown.extend(named);
    let mut seen = BTreeSet::new();
    shown.retain(|column| seen.insert(column.clone()));
    let shown = shown.join(", ");
    format!("SELECT {shown} FROM {table} WHERE {forbidden} ORDER BY {shown}")
}

/// Problems of a model's tests that are found without data.
pub(super) async fn check(
    model: &Model,
    contract: &Contract,
    inputs: &[Input],
) -> Result<(), Vec<(Place, String)>> {
    let mut problems = Vec::new();
    for (number, test) in model.front_matter.tests.iter().enumerate() {
        let mut unknown = unknown_columns(model, contract, number, test);
        unknown.extend(unfit(model, contract, inputs, number, test));
        if !unknown.is_empty() {
            problems.extend(unknown);
            continue;
        }
        if let Err(error) = plan(model, contract, inputs, test).await {
            let key = columns(test).first().map_or("sql", |(key, _)| key);
            let (reason, word) = told(&error);
            problems.push((
                model.place_in_test(number, key, word.as_deref()),
                format!("test {}: {reason}", described(test)),
            ));
        }
    }
    match problems.is_empty() {
        true => Ok(()),
        false => Err(problems),
    }
}

fn unknown_columns(
    model: &Model,
    contract: &Contract,
    number: usize,
    test: &DataTest,
) -> Vec<(Place, String)> {
    let mut unknown = Vec::new();
    for (key, name) in columns(test) {
        let names = || contract.columns.iter().map(|column| column.name.as_str());
        if !names().any(|known| known == name) {
            let hint = did_you_mean(name, names());
            unknown.push((
                model.place_in_test(number, key, Some(name)),
                format!("{key}: unknown column `{name}`{hint}"),
            ));
        }
    }
    unknown
}

/// A column of another table that does not exist, a table that the model does not read, and a column without times.
fn unfit(
    model: &Model,
    contract: &Contract,
    inputs: &[Input],
    number: usize,
    test: &DataTest,
) -> Option<(Place, String)> {
    match &test.kind {
        TestKind::Relationships { to, field, .. } => {
            let key = "relationships";
            let Some(table) = table_of(inputs, to) else {
                let tables = inputs.iter().filter(|it| matches!(it, Input::Table(_)));
                let hint = did_you_mean(to, tables.map(Input::name));
                let reason = format!(
                    "{key}: the model does not read the table `{to}`{hint}: what it does not read is not there when it is derived"
                );
                return Some((model.place_in_test(number, key, Some(to)), reason));
            };
            let names = || table.contract.columns.iter().map(|it| it.name.as_str());
            if names().any(|known| known == field) {
                return None;
            }
            let hint = did_you_mean(field, names());
            let reason = format!("{key}: `{to}` has no column `{field}`{hint}");
            Some((model.place_in_test(number, key, Some(field)), reason))
        }
        TestKind::Freshness { column, .. } => {
            let found = contract.columns.iter().find(|it| it.name == *column)?;
            let is_time = matches!(found.column_type, ColumnType::Timestamp | ColumnType::Date);
            let found = found.column_type.bigquery();
            let reason = format!("freshness: `{column}` is {found}, not TIMESTAMP or DATE");
            let place = model.place_in_test(number, "freshness", Some(column));
            (!is_time).then_some((place, reason))
        }
        _ => None,
    }
}

/// A table among what a model reads.
fn table_of<'a>(
    inputs: impl IntoIterator<Item = &'a Input>,
    name: &str,
) -> Option<&'a UpstreamTable> {
    inputs.into_iter().find_map(|input| match input {
        Input::Table(table) if table.contract.table == name => Some(&**table),
        _ => None,
    })
}

async fn plan(
    model: &Model,
    contract: &Contract,
    inputs: &[Input],
    test: &DataTest,
) -> Result<(), DataFusionError> {
    let context = session::session(session::runtime(64 << 20)?)?;
    let mut contracts = vec![contract];
    if let TestKind::Relationships { to, .. } = &test.kind {
        contracts.extend(table_of(inputs, to).map(|table| &table.contract));
    }
    for contract in contracts {
        context.register_table(
            datafusion::common::TableReference::bare(contract.table.as_str()),
            Arc::new(EmptyTable::new(contract.schema())),
        )?;
    }
    let query = query(model, contract, test, DateTime::UNIX_EPOCH);
    let frame = selected(&context, &query).await?;
    session::plan(&context, frame).await.map(|_| ())
}

async fn selected(
    context: &SessionContext,
    sql: &str,
) -> Result<datafusion::prelude::DataFrame, DataFusionError> {
    crate::catalog::check_query(sql)
        .map_err(|(line, reason)| DataFusionError::Plan(format!("line {line}: {reason}")))?;
    select(context, sql).await
}

impl Transformer {
    /// Runs the model's tests on the rows that were written.
    pub(super) async fn failed_tests(
        &self,
        model: &Model,
        contract: &Contract,
        partition: Partition,
        inputs: &Inputs,
        objects: &[ObjectRef],
    ) -> Result<Vec<FailedTest>, DataFusionError> {
        let mut failed = Vec::new();
        if model.front_matter.tests.is_empty() {
            return Ok(failed);
        }
        let context = session::session(self.runtime.clone())?;
        session::register(
            &context,
            session::PUBLIC,
            &model.name,
            contract.schema(),
            &self.flattened,
            objects,
        )
        .await?;
        let end = end(model, partition, clock::now());
        let mut registered = BTreeSet::new();
        for test in &model.front_matter.tests {
            if let TestKind::Relationships { to, .. } = &test.kind
                && registered.insert(to)
                && let Some((input, objects)) = inputs
                    .iter()
                    .find(|(it, _)| matches!(it, Input::Table(_)) && it.name() == to)
            {
                self.register(&context, input, objects, false).await?;
            }
            let query = query(model, contract, test, end);
            let frame = selected(&context, &query).await?;
            let rows = frame.clone().count().await?;
            if rows == 0 {
                continue;
            }
            let mut examples = Vec::new();
            for batch in frame.limit(0, Some(SHOWN))?.collect().await? {
                for row in 0..batch.num_rows() {
                    let one = batch.slice(row, 1);
                    let schema = one.schema();
                    let cells = schema.fields().iter().zip(one.columns());
                    let cells = cells.take(SHOWN_COLUMNS);
                    let cells = cells.map(|(field, column)| value(field.name(), column));
                    examples.push(cells.collect::<Result<Vec<_>, _>>()?.join(", "));
                }
            }
            failed.push(FailedTest {
                test: described(test),
                severity: test.severity,
                rows: rows as u64,
                examples,
            });
        }
        Ok(failed)
    }
}
