//! `SELECT DISTINCT` that keeps values unchanged: of two equal rows, one is dropped, and the other stays as it is.
//!
//! DataFusion treats `-0.0` as `0.0` when it groups rows, and replaces it. Here doubles are grouped by their bits,
//! which costs nothing: the same memory is read as integers.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result, exec_err};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{
    ColumnarValue, Distinct, Expr, LogicalPlan, LogicalPlanBuilder, ReturnFieldArgs,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::prelude::SessionContext;

/// Lets the queries of a session keep the sign of zeros.
pub(super) fn keep_zeros(context: &SessionContext) {
    context.add_analyzer_rule(Arc::new(DistinctByBits));
}

#[derive(Debug)]
struct DistinctByBits;

impl AnalyzerRule for DistinctByBits {
    fn name(&self) -> &'static str {
        "distinct_by_bits"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Distinct(Distinct::All(input)) if has_doubles(&input) => {
                by_bits(input).map(Transformed::yes)
            }
            other => Ok(Transformed::no(other)),
        })
        .map(|transformed| transformed.data)
    }
}

fn has_doubles(plan: &LogicalPlan) -> bool {
    plan.schema()
        .fields()
        .iter()
        .any(|field| field.data_type() == &DataType::Float64)
}

fn by_bits(input: Arc<LogicalPlan>) -> Result<LogicalPlan> {
    let columns: Vec<Expr> = input
        .schema()
        .iter()
        .map(|field| Expr::Column(Column::from(field)))
        .collect();
    let doubles: Vec<bool> = input
        .schema()
        .fields()
        .iter()
        .map(|f| f.data_type() == &DataType::Float64)
        .collect();
    let through = |function: &Arc<ScalarUDF>| -> Vec<Expr> {
        let of = |(column, is_double): (&Expr, &bool)| match column {
            Expr::Column(Column { relation, name, .. }) if *is_double => function
                .call(vec![column.clone()])
                .alias_qualified(relation.clone(), name),
            other => other.clone(),
        };
        columns.iter().zip(&doubles).map(of).collect()
    };
    let (bits, double) = (Arc::new(bits_of_double()), Arc::new(double_of_bits()));
    LogicalPlanBuilder::from(input)
        .project(through(&bits))?
        .distinct()?
        .project(through(&double))?
        .build()
}

/// Whether a function is one of the two of this module.
#[cfg(feature = "ballista")]
pub(super) fn is_reinterpreting(function: &ScalarUDF) -> bool {
    function.inner().is::<Reinterpret>()
}

/// The one of that name.
#[cfg(feature = "ballista")]
pub(super) fn reinterpreting(name: &str) -> Result<ScalarUDF> {
    match [bits_of_double(), double_of_bits()]
        .into_iter()
        .find(|it| it.name() == name)
    {
        Some(function) => Ok(function),
        None => exec_err!("{name} reinterprets nothing"),
    }
}

fn bits_of_double() -> ScalarUDF {
    let (from, to) = (DataType::Float64, DataType::Int64);
    ScalarUDF::from(Reinterpret::new("_bits_of_double", from, to))
}

fn double_of_bits() -> ScalarUDF {
    let (from, to) = (DataType::Int64, DataType::Float64);
    ScalarUDF::from(Reinterpret::new("_double_of_bits", from, to))
}

/// Reinterprets the memory of doubles as integers, or the reverse.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Reinterpret {
    name: &'static str,
    to: DataType,
    signature: Signature,
}

impl Reinterpret {
    fn new(name: &'static str, from: DataType, to: DataType) -> Self {
        Self {
            name,
            to,
            signature: Signature::exact(vec![from], Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Reinterpret {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let is_nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(
            self.name,
            self.to.clone(),
            is_nullable,
        )))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = &args.args[..] else {
            return exec_err!("{} takes one value", self.name);
        };
        let array = value.to_array(args.number_rows)?;
        let nulls = array.nulls().cloned();
        let read: ArrayRef = match array.data_type() {
            DataType::Float64 => {
                let values = array.as_primitive::<Float64Type>().values().inner().clone();
                Arc::new(Int64Array::new(ScalarBuffer::from(values), nulls))
            }
            DataType::Int64 => {
                let values = array.as_primitive::<Int64Type>().values().inner().clone();
                Arc::new(Float64Array::new(ScalarBuffer::from(values), nulls))
            }
            other => return exec_err!("{} cannot take {other}", self.name),
        };
        Ok(ColumnarValue::Array(read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::session;

    #[tokio::test]
    async fn zeros_keep_their_signs_and_equal_rows_are_one() {
        let context = session::session(session::runtime(64 << 20).unwrap()).unwrap();
        keep_zeros(&context);
        let rows = "(VALUES (1, -0.0), (1, -0.0), (2, 0.0), (2, CAST(NULL AS DOUBLE)), (2, NULL), (3, 1.5), (3, 1.5)) AS t(id, x)";
        for sql in [
            format!("SELECT DISTINCT id, x FROM {rows} ORDER BY id, x"),
            format!("SELECT DISTINCT t.id, t.x FROM {rows} ORDER BY t.id, t.x"),
            format!(
                "SELECT id, x FROM (SELECT DISTINCT id, x, x + 1 AS y FROM {rows}) ORDER BY id, x"
            ),
            format!(
                "WITH d AS (SELECT DISTINCT id, x FROM {rows}) SELECT d.id, d.x FROM d WHERE id IN (SELECT DISTINCT id FROM d) ORDER BY d.id, d.x"
            ),
            format!("SELECT id, x FROM {rows} UNION SELECT id, x FROM {rows} ORDER BY id, x"),
        ] {
            let batches = context.sql(&sql).await.unwrap().collect().await.unwrap();
            let rows: Vec<Option<u64>> = batches
                .iter()
                .flat_map(|batch| batch.column(1).as_primitive::<Float64Type>().iter())
                .map(|x| x.map(f64::to_bits))
                .collect();
            let some = |x: f64| Some(x.to_bits());
            assert_eq!(rows, [some(-0.0), some(0.0), None, some(1.5)], "{sql}");
        }
    }
}
