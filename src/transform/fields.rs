//! `item['field']`: checks that the field exists, and lists the existing ones if not.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, DataFusionError, Result};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawFieldAccessExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, GetFieldAccess};

use crate::catalog::did_you_mean;

/// Maximum number of fields listed in a message.
const LISTED: usize = 30;

/// A field that a value does not have.
#[derive(Debug)]
pub(super) struct UnknownField {
    /// As the query names it.
    pub(super) name: String,
    /// What has no such field, if it is a column.
    pub(super) of: Option<String>,
    /// What is wrong and what to write instead.
    pub(super) reason: String,
}

impl fmt::Display for UnknownField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for UnknownField {}

/// Refuses fields that do not exist, before DataFusion does.
#[derive(Debug)]
pub(super) struct KnownFields;

impl ExprPlanner for KnownFields {
    fn plan_field_access(
        &self,
        access: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        if let GetFieldAccess::NamedStructField { name } = &access.field_access
            && let Some(Some(name)) = name.try_as_str()
            && let Ok(data_type) = access.expr.get_type(schema)
            && let Some(reason) = refuses(&access.expr, &data_type, name)
        {
            let name = name.to_string();
            let of = match &access.expr {
                Expr::Column(column) => Some(column.name.clone()),
                _ => None,
            };
            let error = UnknownField { name, of, reason };
            return Err(DataFusionError::External(Box::new(error)));
        }
        Ok(PlannerResult::Original(access))
    }
}

/// The planner, for a session.
pub(super) fn known_fields() -> Arc<dyn ExprPlanner> {
    Arc::new(KnownFields)
}

fn refuses(of: &Expr, data_type: &DataType, name: &str) -> Option<String> {
    let of = match of {
        Expr::Column(column) => column.name.clone(),
        other => other.schema_name().to_string(),
    };
    match data_type {
        DataType::Struct(fields) if fields.find(name).is_none() => {
            let names = || fields.iter().map(|field| field.name().as_str());
            let hint = did_you_mean(name, names());
            let its = if hint.is_empty() { "; its" } else { " Its" };
            let listed: Vec<&str> = names().take(LISTED).collect();
            let more = if fields.len() > LISTED { ", …" } else { "" };
            Some(format!(
                "`{of}` has no field `{name}`{hint}{its} fields are {}{more}",
                listed.join(", ")
            ))
        }
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _) => {
            Some(format!(
                "`{of}` is a list and has no field `{name}`: unnest it first, \
                 SELECT item['{name}'] FROM (SELECT unnest({of}) AS item FROM raw.…)"
            ))
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(format!(
            "`{of}` is text and has no field `{name}`: if it is JSON, write json_as_text({of}, '{name}')"
        )),
        _ => None,
    }
}
