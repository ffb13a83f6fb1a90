//! Detects queries that group by a longer period than their partition: a day is only a part of a week or a month.

use datafusion::common::Result;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};

/// Periods longer than a day, as `date_trunc` and `date_part` name them.
const LONGER: &[&str] = &[
    "week", "month", "quarter", "year", "isoyear", "decade", "century",
];
/// The functions that give it.
const FUNCTIONS: &[&str] = &["date_trunc", "date_part"];

/// The period by which a query groups, if it is neither `own`, that of the model's partitions, nor within it, and no day is
/// among the groups.
pub(super) fn longer_than_a_day(plan: &LogicalPlan, own: &str) -> Result<Option<String>> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Aggregate(aggregate) = node {
            let (mut period, mut has_day) = (None, false);
            for group in &aggregate.group_expr {
                match period_of(group)? {
                    Some(longer) => period = Some(longer),
                    None => {
                        let data_type = group.get_type(aggregate.input.schema())?;
                        has_day |= data_type.is_temporal();
                    }
                }
            }
            if !has_day && period.as_deref().is_some_and(|period| period != own) {
                found = period;
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// The period that an expression gives, if it is longer than a day.
fn period_of(expr: &Expr) -> Result<Option<String>> {
    let mut period = None;
    expr.apply(|expr| {
        if let Expr::ScalarFunction(call) = expr
            && FUNCTIONS.contains(&call.name())
            && let Some(Expr::Literal(value, _)) = call.args.first()
            && let ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) = value
        {
            let text = text.to_lowercase();
            if LONGER.contains(&text.as_str()) {
                period = Some(text);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(period)
}
