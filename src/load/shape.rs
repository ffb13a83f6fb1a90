//! Whether an existing table has the shape of its contract.

use crate::transform::{Column, Contract};

/// How a table differs from its contract so that no load can go into it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeMismatch {
    /// A column has another type.
    #[error(
        "column `{column}` is {found}, the model gives {wanted}: CAST it to {found} in the model, or give it a new \
         name; or run with --full-refresh {table}"
    )]
    ColumnType {
        /// The model's table, without dataset.
        table: String,
        /// The column.
        column: String,
        /// The table's type.
        found: String,
        /// The contract's type.
        wanted: &'static str,
    },
    /// The table is partitioned by another column, or not by day.
    #[error(
        "it is partitioned by {}, the model by day of {}: the warehouse cannot change that, so give the model a new \
         name; or run with --full-refresh {table}, which replaces the table",
        found.as_deref().unwrap_or("nothing"), wanted.as_deref().unwrap_or("nothing")
    )]
    Partitioning {
        /// The model's table, without dataset.
        table: String,
        /// The table's column.
        found: Option<String>,
        /// The contract's column.
        wanted: Option<String>,
    },
    /// It is to be replaced, and there are no rows to replace it with.
    #[error("it has another shape, and nothing is derived that could take its place")]
    NothingDerived,
}

/// Columns of the contract that the table (`name`, `type` in upper case) does not have. Columns that the contract no
/// longer has stay, with NULL in new rows.
///
/// # Errors
/// A column with another type in the table.
pub(super) fn missing_columns<'a>(
    contract: &'a Contract,
    existing: &[(String, String)],
) -> Result<Vec<&'a Column>, ShapeMismatch> {
    let mut missing = Vec::new();
    for column in &contract.columns {
        let wanted = column.column_type.bigquery();
        match existing
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(&column.name))
        {
            None => missing.push(column),
            Some((_, found)) if found == wanted => {}
            Some((_, found)) => {
                return Err(ShapeMismatch::ColumnType {
                    table: contract.table.clone(),
                    column: column.name.clone(),
                    found: found.clone(),
                    wanted,
                });
            }
        }
    }
    Ok(missing)
}
