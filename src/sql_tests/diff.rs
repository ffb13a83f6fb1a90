//! What an edited model changes in committed rows, before anything is written.

use std::collections::BTreeMap;
use std::fmt;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use serde::Serialize;

use super::preview::Preview;
use super::scratch::Scratch;
use super::upstream::Upstream;
use crate::catalog::{Model, TestSeverity};
use crate::clock;
use crate::error::{DiffError, Error};
use crate::plan::Dates;
use crate::state::SourceHandle;
use crate::store::Bucket;
use crate::store::layout::{Partition, RunId};
use crate::transform::{
    BoundModel, ColumnType, QueryTable, TransformError, Transformer, query, stored_schema,
};

/// Number of columns of each side that are compared to detect renamed ones.
const MOST_RENAMED: usize = 8;

/// What changes about a partition of a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diff {
    /// The table.
    pub table: String,
    /// The day, or `snapshot`.
    pub partition: String,
    /// Columns that only the new rows have.
    pub columns_added: Vec<String>,
    /// Columns that only the committed rows have.
    pub columns_removed: Vec<String>,
    /// Those among them with the same values under another name, in all rows that are on both sides.
    pub columns_renamed: Vec<Change>,
    /// Columns of another type, by the types' names in BigQuery.
    pub columns_retyped: Vec<RetypedColumn>,
    /// The columns by which rows are matched; none if whole rows are compared.
    pub key: Vec<String>,
    /// Number of committed rows.
    pub rows_before: u64,
    /// Number of new rows.
    pub rows_after: u64,
    /// Rows whose key is new.
    pub rows_added: u64,
    /// Rows whose key is gone.
    pub rows_removed: u64,
    /// Rows of the same key with other values in columns that both have.
    pub rows_changed: u64,
    /// Number of rows with another value, by column.
    pub values_changed: BTreeMap<String, u64>,
    /// Some of the rows.
    pub samples: Vec<Sample>,
    /// What would prevent the new rows from being loaded: duplicate keys and failed tests.
    pub refused: Vec<String>,
}

/// Something before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// As it is committed.
    pub before: String,
    /// As it is now.
    pub after: String,
}

/// A column whose type is another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RetypedColumn {
    /// The column.
    pub column: String,
    /// Its types.
    #[serde(flatten)]
    pub types: Change,
}

/// A row that is added, removed or changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// `added`, `removed` or `changed`.
    pub change: &'static str,
    /// The values of the key, or of all columns without one, as text.
    pub row: BTreeMap<String, Option<String>>,
    /// For a changed row: the columns with another value, and their values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, ChangedValue>,
}

/// A value before and after, as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChangedValue {
    /// As it is committed.
    pub before: Option<String>,
    /// As it is now.
    pub after: Option<String>,
}

/// A partition that a model cannot derive, so that nothing is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Underived {
    /// The table.
    pub table: String,
    /// The day, or `snapshot`.
    pub partition: String,
    /// What failed.
    pub error: String,
}

impl Underived {
    /// Of this table and partition.
    pub fn of(table: &str, partition: Partition, error: &TransformError) -> Self {
        Self {
            table: table.into(),
            partition: partition.to_string(),
            error: error.to_string(),
        }
    }
}

impl Diff {
    /// Whether anything changes.
    pub fn is_empty(&self) -> bool {
        self.columns_added.is_empty()
            && self.columns_removed.is_empty()
            && self.columns_retyped.is_empty()
            && self.rows_added + self.rows_removed + self.rows_changed == 0
    }
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (table, partition) = (&self.table, &self.partition);
        if self.is_empty() {
            write!(
                f,
                "{table} {partition}: no difference, {} rows",
                self.rows_after
            )?;
        } else {
            write!(
                f,
                "{table} {partition}: {} rows before, {} after: {} added, {} removed, {} changed",
                self.rows_before,
                self.rows_after,
                self.rows_added,
                self.rows_removed,
                self.rows_changed
            )?;
        }
        for (what, columns) in [
            ("columns added", &self.columns_added),
            ("columns removed", &self.columns_removed),
        ] {
            if !columns.is_empty() {
                write!(f, "\n  {what}: {}", columns.join(", "))?;
            }
        }
        for Change { before, after } in &self.columns_renamed {
            write!(f, "\n  same values under another name: {before} -> {after}")?;
        }
        for RetypedColumn {
            column,
            types: Change { before, after },
        } in &self.columns_retyped
        {
            write!(f, "\n  type changed: {column}: {before} -> {after}")?;
        }
        for (column, rows) in &self.values_changed {
            write!(f, "\n  {column}: other values in {rows} rows")?;
        }
        let shown = |value: &Option<String>| match value {
            Some(text) => one_line(text),
            None => "NULL".into(),
        };
        for Sample {
            change,
            row,
            values,
        } in &self.samples
        {
            let row = row
                .iter()
                .map(|(name, value)| format!("{name} = {}", shown(value)));
            write!(f, "\n  {change}: {}", row.collect::<Vec<_>>().join(", "))?;
            for (column, ChangedValue { before, after }) in values {
                write!(f, "\n    {column}: {} -> {}", shown(before), shown(after))?;
            }
        }
        for reason in &self.refused {
            write!(f, "\n  error: {reason}")?;
        }
        Ok(())
    }
}

/// A value on one line, truncated if it is long.
fn one_line(text: &str) -> String {
    const SHOWN: usize = 80;
    let mut line: String = text.chars().take(SHOWN).collect();
    if line.len() < text.len() {
        line.push('…');
    }
    line.replace(char::is_control, " ")
}

/// Compares what a model makes of committed raw rows with its committed rows. Neither state nor buckets change.
pub struct Differ<'a> {
    of: Preview<'a>,
    flattened: &'a Bucket,
    bound: BoundModel,
    state: SourceHandle,
    transformer: Transformer,
    /// Of the new rows, one partition after the other.
    scratch: Scratch,
}

impl<'a> Differ<'a> {
    /// Of this model.
    ///
    /// # Errors
    /// The model's own errors, and those of the state.
    pub async fn new(of: Preview<'a>, flattened: &'a Bucket, model: &Model) -> Result<Self, Error> {
        let bound = BoundModel::bind(of.catalog, model).await?;
        let state = of.states.source(&bound.driving.name).await?;
        let scratch = Scratch::new()?;
        let transformer = Transformer::new(of.memory, of.raw.clone(), scratch.bucket().clone())?
            .with_salt(of.salt.clone());
        Ok(Self {
            of,
            flattened,
            bound,
            state,
            transformer,
            scratch,
        })
    }

    /// The complete partitions in these dates that are derived; without dates, the last one. A list has one.
    pub fn partitions(&self, dates: &Dates) -> Vec<Partition> {
        let table = &self.bound.model.name;
        let mut found: Vec<Partition> = self.state.look(|state| {
            let partitions = state.partitions.iter();
            let derived = partitions.filter(|(_, found)| {
                let made = found.models.get(table);
                found.raw.is_some() && made.is_some_and(|made| !made.objects.is_empty())
            });
            derived.map(|(partition, _)| *partition).collect()
        });
        found.retain(|partition| partition.day().is_none_or(|day| dates.contains(day)));
        found.sort();
        if dates.start.is_none() && dates.end.is_none() {
            found.drain(..found.len().saturating_sub(1));
        }
        found
    }

    /// Whether a run would derive the partition again.
    ///
    /// # Errors
    /// Those of the state.
    pub async fn is_stale(&self, partition: Partition) -> Result<bool, Error> {
        let (states, model) = (self.of.states, &self.bound.model);
        let view = self.bound.view(states).await?;
        let known = view.made(&model.name, partition);
        let is_current = known.is_some_and(|known| {
            view.is_upstream_current(partition)
                && view.is_current(&self.bound.contract, partition, known)
        });
        Ok(!is_current)
    }

    /// What changes in a partition, with at most `samples` rows of each kind of change.
    ///
    /// # Errors
    /// [`Error::Diff`] if nothing is committed for the partition, or no column is; the model's own errors.
    pub async fn diff(&self, partition: Partition, samples: usize) -> Result<Diff, Error> {
        let model = &self.bound.model;
        let committed = self.state.look(|state| {
            let models = &state.partition(partition)?.models;
            Some(models.get(&model.name)?.objects.clone())
        });
        let objects = committed.filter(|it| !it.is_empty());
        let objects = objects.ok_or_else(|| DiffError::NotCommitted {
            model: model.name.clone(),
            partition,
        })?;
        let old = QueryTable {
            raw: false,
            name: "before".into(),
            schema: stored_schema(self.flattened, &objects).await?,
            bucket: self.flattened.clone(),
            objects,
        };
        let id = RunId::new(clock::now());
        let (transformer, states) = (&self.transformer, self.of.states);
        let mut upstream =
            Upstream::of_committed(transformer, states, &self.bound, partition, id.clone()).await?;
        let inputs = upstream.inputs(&self.bound, partition).await?;
        let made = self
            .transformer
            .derive(model, &self.bound.contract, partition, &inputs, &id)
            .await?;
        let new = QueryTable {
            raw: false,
            name: "after".into(),
            schema: self.bound.contract.schema(),
            bucket: self.scratch.bucket().clone(),
            objects: made.objects.clone(),
        };
        let mut diff = compare(model, partition, [old, new], samples, self.of.memory).await;
        self.transformer.discard(&made.objects).await;
        for objects in upstream.made.values() {
            self.transformer.discard(objects).await;
        }
        if let Ok(diff) = &mut diff {
            let failed = made.failed_tests.iter();
            let failed = failed.filter(|test| test.severity == TestSeverity::Error);
            let duplicates = made.duplicates.iter().map(ToString::to_string);
            diff.refused = duplicates.chain(failed.map(ToString::to_string)).collect();
        }
        diff
    }
}

/// Columns of two tables, as they are compared.
struct Columns {
    /// Columns that both have: those by which rows are matched, and others.
    matched: Vec<String>,
    others: Vec<String>,
    added: Vec<String>,
    removed: Vec<String>,
    retyped: Vec<(String, ColumnType, ColumnType)>,
    /// Those that hold bytes.
    bytes: Vec<String>,
}

impl Columns {
    fn of(unique_key: &[String], old: &SchemaRef, new: &SchemaRef) -> Result<Self, String> {
        let only = |one: &SchemaRef, other: &SchemaRef| -> Vec<String> {
            let names = one.fields().iter().map(|field| field.name());
            names
                .filter(|name| other.field_with_name(name).is_err())
                .cloned()
                .collect()
        };
        let mut retyped = Vec::new();
        let mut common = Vec::new();
        for field in new.fields() {
            if let Ok(before) = old.field_with_name(field.name()) {
                let (before, after) = (
                    ColumnType::of(before.data_type())?,
                    ColumnType::of(field.data_type())?,
                );
                common.push(field.name().clone());
                if before != after {
                    retyped.push((field.name().clone(), before, after));
                }
            }
        }
        let is_keyed = !unique_key.is_empty() && unique_key.iter().all(|it| common.contains(it));
        let (matched, others) = match is_keyed {
            true => common.into_iter().partition(|it| unique_key.contains(it)),
            false => (common, Vec::new()),
        };
        let bytes = old.fields().iter().chain(new.fields());
        let bytes = bytes.filter(|field| field.data_type().is_binary());
        Ok(Self {
            matched,
            others,
            bytes: bytes.map(|field| field.name().clone()).collect(),
            added: only(new, old),
            removed: only(old, new),
            retyped,
        })
    }

    /// Pairs of a removed and an added column that may be the same.
    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let few = |columns: &[String]| columns.len().min(MOST_RENAMED);
        let (removed, added) = (few(&self.removed), few(&self.added));
        (0..removed).flat_map(move |r| (0..added).map(move |a| (r, a)))
    }

    fn is_bytes(&self, name: &str) -> bool {
        self.bytes.iter().any(|found| found == name)
    }

    /// The value of a column that both have, as text that is equal for equal values of either type.
    fn text(&self, name: &str, is_before: bool) -> String {
        let column = quote(name);
        let plain = match self.is_bytes(name) {
            // Bytes need not be text.
            true => format!("md5({column})"),
            false => format!("CAST({column} AS VARCHAR)"),
        };
        let types = self.retyped.iter().find(|(found, _, _)| found == name);
        let Some((_, before, after)) = types.filter(|_| is_before) else {
            return plain;
        };
        let (Some(from), Some(to)) = (sql_type(*before), sql_type(*after)) else {
            return plain;
        };
        let cast = format!("TRY_CAST({column} AS {to})");
        format!(
            "CASE WHEN TRY_CAST({cast} AS {from}) = {column} THEN CAST({cast} AS VARCHAR) ELSE {plain} END"
        )
    }

    /// The query for one row of each key: `m0 …`, its values before and after as `b0, a0 …`, those of removed columns
    /// as `r0 …` and of added ones as `s0 …`, and whether it `was` and `is`. Rows with the same key are numbered.
    fn pairs_sql(&self) -> String {
        let side = |is_before: bool| {
            let (table, own, own_columns) = match is_before {
                true => ("before", "r", &self.removed),
                false => ("after", "s", &self.added),
            };
            let aliased = |letter: &str, names: &[String], most: usize| -> Vec<String> {
                let names = names.iter().take(most).enumerate();
                let texts = names.map(|(n, name)| match letter == own {
                    true if self.is_bytes(name) => format!("md5({}) AS {letter}{n}", quote(name)),
                    true => format!("CAST({} AS VARCHAR) AS {letter}{n}", quote(name)),
                    false => format!("{} AS {letter}{n}", self.text(name, is_before)),
                });
                texts.collect()
            };
            let mut cells = aliased("m", &self.matched, usize::MAX);
            cells.extend(aliased("o", &self.others, usize::MAX));
            cells.extend(aliased(own, own_columns, MOST_RENAMED));
            let numbered = |letter: &str, count: usize| -> Vec<String> {
                (0..count).map(|n| format!("{letter}{n}")).collect()
            };
            let matched = numbered("m", self.matched.len());
            let order = [matched.clone(), numbered("o", self.others.len())].concat();
            let value = |is_there: bool, from: String, to: String| match is_there {
                true => format!("{from} AS {to}"),
                false => format!("CAST(NULL AS VARCHAR) AS {to}"),
            };
            let mut columns = matched.clone();
            columns.push(format!(
                "row_number() OVER (PARTITION BY {} ORDER BY {}) AS number",
                matched.join(", "),
                order.join(", ")
            ));
            for n in 0..self.others.len() {
                columns.push(value(is_before, format!("o{n}"), format!("b{n}")));
                columns.push(value(!is_before, format!("o{n}"), format!("a{n}")));
            }
            for n in 0..self.removed.len().min(MOST_RENAMED) {
                columns.push(value(is_before, format!("r{n}"), format!("r{n}")));
            }
            for n in 0..self.added.len().min(MOST_RENAMED) {
                columns.push(value(!is_before, format!("s{n}"), format!("s{n}")));
            }
            columns.push(format!("{} AS was", u8::from(is_before)));
            columns.push(format!("{} AS is_now", u8::from(!is_before)));
            format!(
                "SELECT {} FROM (SELECT {} FROM \"{table}\")",
                columns.join(", "),
                cells.join(", ")
            )
        };
        let mut keys: Vec<String> = (0..self.matched.len()).map(|n| format!("m{n}")).collect();
        let mut columns = keys.clone();
        let mut largest = |name: String| columns.push(format!("max({name}) AS {name}"));
        for n in 0..self.others.len() {
            largest(format!("b{n}"));
            largest(format!("a{n}"));
        }
        (0..self.removed.len().min(MOST_RENAMED)).for_each(|n| largest(format!("r{n}")));
        (0..self.added.len().min(MOST_RENAMED)).for_each(|n| largest(format!("s{n}")));
        largest("was".into());
        largest("is_now".into());
        keys.push("number".into());
        format!(
            "SELECT {} FROM ({} UNION ALL {}) GROUP BY {}",
            columns.join(", "),
            side(true),
            side(false),
            keys.join(", ")
        )
    }
}

/// The type's name in SQL, if values of it can be compared with those of another such type.
fn sql_type(column_type: ColumnType) -> Option<&'static str> {
    match column_type {
        ColumnType::String => Some("VARCHAR"),
        ColumnType::Int64 => Some("BIGINT"),
        ColumnType::Float64 => Some("DOUBLE"),
        ColumnType::Bool => Some("BOOLEAN"),
        ColumnType::Date => Some("DATE"),
        ColumnType::Numeric => Some("DECIMAL(38, 9)"),
        ColumnType::Timestamp | ColumnType::Bytes => None,
    }
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

async fn compare(
    model: &Model,
    partition: Partition,
    tables: [QueryTable; 2],
    samples: usize,
    memory: usize,
) -> Result<Diff, Error> {
    let columns = Columns::of(
        &model.front_matter.unique_key,
        &tables[0].schema,
        &tables[1].schema,
    )
    .map_err(|reason| DiffError::Column {
        model: model.name.clone(),
        partition,
        reason,
    })?;
    if columns.matched.is_empty() {
        let model = model.name.clone();
        return Err(DiffError::NoCommonColumn { model, partition }.into());
    }
    let pairs = columns.pairs_sql();
    let others = 0..columns.others.len();
    let any: Vec<String> = others.map(differs).collect();
    let changed = match any.is_empty() {
        true => "false".to_string(),
        false => format!("was = 1 AND is_now = 1 AND ({})", any.join(" OR ")),
    };
    let (added, removed) = ("was = 0".to_string(), "is_now = 0".to_string());
    let counts = columns.counted([&added, &removed, &changed]);
    let counts: Vec<String> = counts
        .iter()
        .enumerate()
        .map(|(n, condition)| format!("count(*) FILTER (WHERE {condition}) AS n{n}"))
        .collect();
    let sql = format!("SELECT {} FROM ({pairs})", counts.join(", "));
    let mut numbers = numbers_of(&sql, &tables, memory).await?.into_iter();
    let mut number = || numbers.next().unwrap_or_default();
    let mut diff = Diff {
        table: model.name.clone(),
        partition: partition.to_string(),
        rows_before: number(),
        rows_after: number(),
        rows_added: number(),
        rows_removed: number(),
        rows_changed: number(),
        values_changed: BTreeMap::new(),
        columns_added: columns.added.clone(),
        columns_removed: columns.removed.clone(),
        columns_renamed: Vec::new(),
        columns_retyped: Vec::new(),
        key: match columns.others.is_empty() && model.front_matter.unique_key.is_empty() {
            true => Vec::new(),
            false => columns.matched.clone(),
        },
        samples: Vec::new(),
        refused: Vec::new(),
    };
    for name in &columns.others {
        let rows = number();
        if rows > 0 {
            diff.values_changed.insert(name.clone(), rows);
        }
    }
    for (r, a) in columns.pairs() {
        let (different, present) = (number(), number());
        if different == 0 && present > 0 {
            diff.columns_renamed.push(Change {
                before: columns.removed[r].clone(),
                after: columns.added[a].clone(),
            });
        }
    }
    for (column, before, after) in &columns.retyped {
        diff.columns_retyped.push(RetypedColumn {
            column: column.clone(),
            types: Change {
                before: before.bigquery().into(),
                after: after.bigquery().into(),
            },
        });
    }
    for (change, condition, rows) in [
        ("removed", removed, diff.rows_removed),
        ("added", added, diff.rows_added),
        ("changed", changed, diff.rows_changed),
    ] {
        if rows > 0 && samples > 0 {
            let sql = columns.samples_sql(&pairs, &condition, samples);
            let found = samples_of(&sql, change, &tables, &columns, memory).await?;
            diff.samples.extend(found);
        }
    }
    Ok(diff)
}

/// Whether a column that both have differs.
fn differs(n: usize) -> String {
    format!("(b{n} IS DISTINCT FROM a{n})")
}

impl Columns {
    /// The query for rows that satisfy `condition`, at most `samples` of them, in the order of their keys.
    fn samples_sql(&self, pairs: &str, condition: &str, samples: usize) -> String {
        let keys: Vec<String> = (0..self.matched.len()).map(|n| format!("m{n}")).collect();
        let keys = keys.join(", ");
        let values: String = (0..self.others.len())
            .map(|n| format!(", b{n}, a{n}"))
            .collect();
        format!(
            "SELECT {keys}{values} FROM ({pairs}) WHERE {condition} ORDER BY {keys} LIMIT {samples}"
        )
    }

    /// The conditions by which rows are counted: before, after, added, removed and changed; changed in each column; and of
    /// each pair of a removed and an added column, different and present.
    fn counted(&self, changes: [&str; 3]) -> Vec<String> {
        const BOTH: &str = "was = 1 AND is_now = 1";
        let mut counted = vec!["was = 1".to_string(), "is_now = 1".to_string()];
        counted.extend(changes.map(str::to_string));
        let others = 0..self.others.len();
        counted.extend(others.map(|n| format!("{BOTH} AND {}", differs(n))));
        for (r, a) in self.pairs() {
            counted.push(format!("{BOTH} AND (r{r} IS DISTINCT FROM s{a})"));
            counted.push(format!("{BOTH} AND r{r} IS NOT NULL"));
        }
        counted
    }
}

/// The columns of a query's one row, which are counts.
async fn numbers_of(
    sql: &str,
    tables: &[QueryTable],
    memory: usize,
) -> Result<Vec<u64>, TransformError> {
    let mut numbers = Vec::new();
    let mut result = query(sql, tables, memory).await?;
    while let Some(batch) = result.next().await? {
        if batch.num_rows() > 0 {
            let counted = batch.columns().iter();
            let counted = counted.map(|it| it.as_primitive::<Int64Type>().value(0));
            numbers = counted.map(i64::unsigned_abs).collect();
        }
    }
    Ok(numbers)
}

/// Rows that differ in this way.
async fn samples_of(
    sql: &str,
    change: &'static str,
    tables: &[QueryTable],
    columns: &Columns,
    memory: usize,
) -> Result<Vec<Sample>, TransformError> {
    let mut samples = Vec::new();
    let mut result = query(sql, tables, memory).await?;
    while let Some(batch) = result.next().await? {
        samples.extend((0..batch.num_rows()).map(|row| sample(change, &batch, row, columns)));
    }
    Ok(samples)
}

/// A row of keys, and of values before and after.
fn sample(change: &'static str, batch: &RecordBatch, row: usize, columns: &Columns) -> Sample {
    let cell = |at: usize| -> Option<String> {
        let column = batch.columns().get(at)?.as_string_opt::<i32>()?;
        column.is_valid(row).then(|| column.value(row).to_string())
    };
    let keys = columns.matched.iter().enumerate();
    let first = columns.matched.len();
    let mut values = BTreeMap::new();
    for (n, name) in columns.others.iter().enumerate() {
        let (before, after) = (cell(first + 2 * n), cell(first + 2 * n + 1));
        if change == "changed" && before != after {
            values.insert(name.clone(), ChangedValue { before, after });
        }
    }
    Sample {
        change,
        row: keys.map(|(n, name)| (name.clone(), cell(n))).collect(),
        values,
    }
}
