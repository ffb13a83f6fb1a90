//! Which column of a query fails on the data.

use arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, Query, SelectItem, SetExpr, Statement as SqlStatement,
};
use futures::StreamExt;

use super::{select, session};

/// Whether a value caused the error: one that cannot be cast, is divided by zero or is too large.
pub(super) fn is_of_value(error: &DataFusionError) -> bool {
    match error.find_root() {
        DataFusionError::ArrowError(error, _) => matches!(
            **error,
            ArrowError::CastError(_)
                | ArrowError::ComputeError(_)
                | ArrowError::DivideByZero
                | ArrowError::ArithmeticOverflow(_)
                | ArrowError::InvalidArgumentError(_)
                | ArrowError::ParseError(_)
        ),
        DataFusionError::Execution(_) => true,
        _ => false,
    }
}

/// The columns of the outermost SELECT that fail on their own; none if all do, since the cause is elsewhere then.
/// Columns in `suspected` are tried first, and if one of them fails, no others.
///
/// The query runs once more for each column, which is worth it only for a partition that has failed.
pub(super) async fn failing_columns(
    context: &SessionContext,
    sql: &str,
    suspected: &[String],
) -> Vec<String> {
    let Some(query) = parse(sql) else {
        return Vec::new();
    };
    let SetExpr::Select(whole) = &*query.body else {
        return Vec::new();
    };
    let (mut first, mut others) = (Vec::new(), Vec::new());
    for item in &whole.projection {
        let name = match item {
            SelectItem::ExprWithAlias { alias, .. } => alias.value.clone(),
            SelectItem::UnnamedExpr(Expr::Identifier(name)) => name.value.clone(),
            SelectItem::UnnamedExpr(expr) => expr.to_string(),
            // It computes nothing.
            _ => continue,
        };
        match suspected.contains(&name) {
            true => first.push((name, item)),
            false => others.push((name, item)),
        }
    }
    let count = first.len() + others.len();
    let mut failing = Vec::new();
    for items in [first, others] {
        for (name, item) in items {
            let mut one = (**whole).clone();
            one.projection = vec![item.clone()];
            one.distinct = None;
            let query = Query {
                body: Box::new(SetExpr::Select(Box::new(one))),
                order_by: None,
                ..query.clone()
            };
            if fails(context, &query.to_string()).await {
                failing.push(name);
            }
        }
        if !failing.is_empty() && failing.len() < count {
            return failing;
        }
    }
    Vec::new()
}

fn parse(sql: &str) -> Option<Query> {
    let statement = DFParser::parse_sql(sql).ok()?.pop_front()?;
    let Statement::Statement(statement) = statement else {
        return None;
    };
    match *statement {
        SqlStatement::Query(query) => Some(*query),
        _ => None,
    }
}

/// Whether a query fails on the data. A query that cannot be planned without its other columns does not count.
async fn fails(context: &SessionContext, sql: &str) -> bool {
    let Ok(frame) = select(context, sql).await else {
        return false;
    };
    let Ok(mut rows) = session::execute(context, frame).await else {
        return false;
    };
    while let Some(batch) = rows.next().await {
        if let Err(error) = batch {
            return is_of_value(&error);
        }
    }
    false
}
