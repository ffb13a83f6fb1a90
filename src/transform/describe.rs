//! Facts about queries and functions that need no execution, for people who write models.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use datafusion::common::DataFusionError;
use datafusion::logical_expr::Documentation;

use super::input::Input;
use super::lineage::{Origins, origins};
use super::{TransformError, reading_session, select, session};

/// A column of a query's result.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryColumn {
    /// Its name.
    pub name: String,
    /// Its type in the engine.
    pub data_type: DataType,
    /// What it comes from.
    pub origins: Origins,
}

/// The columns of a query that reads some of these inputs.
///
/// # Errors
/// [`TransformError::Query`] if it cannot be planned.
pub async fn columns_of_query(
    inputs: &[Input],
    sql: &str,
) -> Result<Vec<QueryColumn>, TransformError> {
    let wrong = |error: DataFusionError| TransformError::Query {
        error: Box::new(error),
        hint: String::new(),
    };
    let context = reading_session(inputs).map_err(wrong)?;
    let frame = select(&context, sql).await.map_err(wrong)?;
    let plan = frame.logical_plan();
    let origins = origins(plan).map_err(wrong)?;
    let fields = plan.schema().fields().iter();
    let columns = fields.zip(origins).map(|(field, origins)| QueryColumn {
        name: field.name().clone(),
        data_type: field.data_type().clone(),
        origins,
    });
    Ok(columns.collect())
}

/// A function that models may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// How it is called: `date_bin(interval, expression)`.
    pub signature: String,
    /// Its result; empty if it is not documented.
    pub description: String,
    /// An example, in SQL.
    pub example: Option<String>,
}

/// All functions that models may call, by name, with their documentation: DataFusion's, or that of the section
/// "Functions" in `readme`, the catalog's own description.
///
/// # Errors
/// [`TransformError::Engine`] if the engine cannot start.
pub fn functions(readme: &str) -> Result<BTreeMap<String, Function>, TransformError> {
    let engine = |error| TransformError::Engine(Box::new(error));
    let context = session::session(session::runtime(64 << 20).map_err(engine)?).map_err(engine)?;
    let state = context.state();
    let scalar = state.scalar_functions().iter();
    let scalar = scalar.map(|(name, it)| (name, it.documentation()));
    let aggregate = state.aggregate_functions().iter();
    let aggregate = aggregate.map(|(name, it)| (name, it.documentation()));
    let window = state.window_functions().iter();
    let window = window.map(|(name, it)| (name, it.documentation()));
    let all = scalar.chain(aggregate).chain(window);
    let mut found: BTreeMap<String, Function> = all
        .filter(|(name, _)| !name.starts_with('_'))
        .map(|(name, documentation)| (name.clone(), described(name, documentation)))
        .collect();
    for (example, result, text) in rows(readme) {
        let is_called = |name: &&String| {
            let calls = example.match_indices(&format!("{name}(")).next();
            calls.is_some_and(|(at, _)| {
                let before = example[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
            })
        };
        // The outermost call of an example may only round.
        let named: Vec<String> = found.keys().filter(is_called).cloned().collect();
        for name in named {
            let Some(function) = found.get_mut(&name).filter(|it| it.description.is_empty()) else {
                continue;
            };
            function.description = text.clone();
            function.example = Some(format!("{example} → {result}"));
        }
    }
    Ok(found)
}

fn described(name: &str, documentation: Option<&Documentation>) -> Function {
    Function {
        name: name.to_string(),
        signature: match documentation {
            Some(it) if !it.syntax_example.is_empty() => it.syntax_example.clone(),
            _ => format!("{name}(…)"),
        },
        description: documentation.map_or(String::new(), |it| it.description.trim().to_string()),
        example: documentation.and_then(|it| it.sql_example.clone()),
    }
}

/// The rows of the table of functions: example, result, meaning.
fn rows(readme: &str) -> impl Iterator<Item = (String, String, String)> {
    let section = readme.split("\n## Functions\n").nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    section.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.splitn(3, " | ");
        let code = |cell: &str| cell.trim_matches('`').to_string();
        let (example, result) = (cells.next()?, cells.next()?);
        let text = cells.next()?.trim_end_matches(" |");
        Some((code(example), code(result), text.to_string()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_functions_are_described() {
        let readme = include_str!("../../sql/README.md");
        let functions = functions(readme).unwrap();
        let own = super::super::units::functions().chain(super::super::json_text::json_functions());
        let own: Vec<String> = own.map(|it| it.name().to_string()).collect();
        let others = [
            "samsara_time",
            "local_time",
            "in_polygon",
            "h3_cell",
            "to_json",
            "sum",
            "coalesce",
        ];
        let names = own.iter().map(String::as_str).chain(others);
        for name in names.filter(|name| !name.starts_with('_')) {
            assert!(!functions[name].description.is_empty(), "{name}");
        }
        let miles = &functions["m_to_mi"];
        assert_eq!(miles.description, "metres to miles");
        assert_eq!(
            miles.example.as_deref(),
            Some("round(m_to_mi(5000), 4) → 3.1069")
        );
        assert!(functions["round"].description != miles.description);
        assert!(functions["row_number"].signature.starts_with("row_number("));
        assert!(!functions.keys().any(|name| name.starts_with('_')));
    }
}
