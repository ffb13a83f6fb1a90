//! What edits of `sql/` change in tables that exist, shown before the run.

use std::fmt;

use serde::Serialize;

/// A table whose days are derived again from committed raw rows: nothing is requested for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DerivedAgain {
    /// The table.
    pub table: String,
    /// The period of a partition: `day`, `week` or `month`.
    #[serde(skip_serializing_if = "is_day")]
    pub period: &'static str,
    /// Partitions that are derived again.
    pub partitions: u64,
    /// Rows that they have now.
    pub rows: u64,
    /// The first of them: a day, or `snapshot`.
    pub first: String,
    /// The last of them.
    pub last: String,
    /// Partitions among them whose raw rows were read again since.
    pub raw_changed: u64,
    /// Partitions among them whose upstream tables were or will be derived again; if that gives the same rows, they
    /// stay as they are.
    #[serde(skip_serializing_if = "is_none")]
    pub upstream_changed: u64,
    /// Partitions among them that were derived by another query, or with other columns.
    pub model_changed: u64,
    /// Columns that the model has now.
    pub columns_added: Vec<String>,
    /// Columns that it has no longer.
    pub columns_removed: Vec<String>,
    /// Columns of another type: `fuel: FLOAT64 -> INT64`.
    pub columns_retyped: Vec<String>,
}

/// What no model fills any more but stays in the warehouse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftBehind {
    /// The table.
    pub table: String,
    /// The column; none: the table itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Rows of the table in the warehouse.
    pub rows: u64,
    /// A new table of the same source, which may be this one under another name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renamed_to: Option<String>,
    /// The command that removes it.
    pub remove: String,
}

/// Tables that no other table reads do not report these.
fn is_none(count: &u64) -> bool {
    *count == 0
}

/// Most tables are by day, or are lists.
fn is_day(period: &&str) -> bool {
    *period == "day"
}

impl fmt::Display for DerivedAgain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            table,
            period,
            partitions,
            rows,
            first,
            last,
            ..
        } = self;
        match (*partitions, first == "snapshot") {
            (_, true) => write!(f, "{table}: the list ({rows} rows)")?,
            (1, _) => write!(f, "{table}: 1 {period}, {first} ({rows} rows)")?,
            (days, _) => write!(
                f,
                "{table}: {days} {period}s, {first} to {last} ({rows} rows)"
            )?,
        }
        f.write_str(" derived again, without requests to the API: ")?;
        let of_all = |count: u64| match count == *partitions || *partitions == 1 {
            true => String::new(),
            false => format!(" of {count} {period}s"),
        };
        let mut reasons = Vec::new();
        if self.model_changed > 0 {
            let what = match self.changes_columns() {
                true => "the model has other columns",
                false => "its query, key or partitioning is another",
            };
            reasons.push(format!("{what}{}", of_all(self.model_changed)));
        }
        if self.raw_changed > 0 {
            let days = of_all(self.raw_changed);
            reasons.push(format!("the raw rows{days} were read again since"));
        }
        if self.upstream_changed > 0 {
            let days = of_all(self.upstream_changed);
            reasons.push(format!(
                "tables that it reads{days} are derived again, if that changes their rows"
            ));
        }
        for (what, columns) in [
            ("added", &self.columns_added),
            ("removed", &self.columns_removed),
            ("another type", &self.columns_retyped),
        ] {
            if !columns.is_empty() {
                reasons.push(format!("{what}: {}", columns.join(", ")));
            }
        }
        f.write_str(&reasons.join("; "))?;
        if !self.columns_retyped.is_empty() {
            write!(
                f,
                "; a table that has the column refuses another type: run with --full-refresh {table}"
            )?;
        }
        if self.model_changed > 0 {
            write!(f, "; `samsara-etl sql diff {table}` shows what changes")?;
        }
        Ok(())
    }
}

impl DerivedAgain {
    fn changes_columns(&self) -> bool {
        let columns = [
            &self.columns_added,
            &self.columns_removed,
            &self.columns_retyped,
        ];
        columns.iter().any(|columns| !columns.is_empty())
    }
}

impl fmt::Display for LeftBehind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            table,
            rows,
            remove,
            ..
        } = self;
        match &self.column {
            Some(column) => write!(
                f,
                "{table}.{column}: no longer in the model; the column stays in the warehouse, NULL in all rows that are \
                 loaded from now on"
            )?,
            None => write!(
                f,
                "{table}: no model fills it any more; the table stays in the warehouse as it is ({rows} rows)"
            )?,
        }
        if let Some(name) = &self.renamed_to {
            write!(
                f,
                "; if it was renamed to {name}, that table is filled from scratch"
            )?;
        }
        write!(f, ". To remove it: {remove}")
    }
}
