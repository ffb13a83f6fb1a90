//! Bounds on the size of the results of SQL expressions.
//!
//! DataFusion's memory pool knows what its operators hold. It does not know how large the result of an expression will
//! be: `replace(repeat('a', 1000000), 'a', repeat('b', 1000000))` has 60 characters and needs a terabyte. So the
//! analyser wraps functions whose results may be larger than their arguments: the wrapper computes a bound from the
//! arguments first, and fails the query if it is too large.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, new_empty_array};
use arrow::compute::kernels::concat_elements::concat_elements_dyn;
use arrow::compute::{cast, concat};
use arrow::datatypes::{
    DataType, FieldRef, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{
    Column, DFSchema, DataFusionError, Result, ScalarValue, exec_err, plan_err,
};
use datafusion::logical_expr::binary::BinaryTypeCoercer;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Documentation, Expr, ExprSchemable, LogicalPlan, Operator,
    ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use parking_lot::Mutex;

use crate::bounds::{
    MAX_CONSTANT_BYTES, MAX_CONSTANT_LIST_BYTES, MAX_GENERATED_BYTES, MAX_LARGE_RESULT_BYTES,
    MAX_RESULT_BYTES, MAX_TERMS,
};
use crate::memory;

/// What was refused while a query was planned. DataFusion leaves a constant expression that cannot be evaluated to the
/// execution; this remembers that it was refused during planning.
#[derive(Debug, Default)]
pub(super) struct Refused(Mutex<Option<String>>);

impl Refused {
    fn note(&self, reason: &str) {
        self.0.lock().get_or_insert_with(|| reason.to_string());
    }

    /// The first refusal, if there was one.
    pub(super) fn reason(&self) -> Option<String> {
        self.0.lock().clone()
    }
}

/// How a function's result is bounded.
#[derive(Debug, Clone, Copy)]
struct Bound {
    /// Upper bound of the bytes of the result in one row, quick to compute from the arguments.
    most: fn(&[Argument], usize) -> u64,
    /// Exact bytes, computed from the whole arguments. Without it, a result that may be too large is produced piece by
    /// piece and measured.
    exact: Option<fn(&[Argument], usize) -> u64>,
    /// Whether a list is generated from numbers, so that a few digits determine its length.
    generates: bool,
}

/// The functions whose results may be larger than their arguments, by DataFusion's name.
fn bound_of(name: &str) -> Option<Bound> {
    let exact = |bytes| {
        Some(Bound {
            most: bytes,
            exact: Some(bytes),
            generates: false,
        })
    };
    let rough = |most| {
        Some(Bound {
            most,
            exact: None,
            generates: false,
        })
    };
    let list = |bytes| {
        Some(Bound {
            most: bytes,
            exact: Some(bytes),
            generates: true,
        })
    };
    match name {
        "repeat" => exact(|of, row| of[0].bytes(row).saturating_mul(of[1].count(row))),
        "lpad" | "rpad" => Some(Bound {
            most: |of, row| of[0].bytes(row).max(of[1].count(row).saturating_mul(4)),
            exact: Some(padded),
            generates: false,
        }),
        "replace" => Some(Bound {
            most: |of, row| {
                let [text, from, to] = [0, 1, 2].map(|index| of[index].bytes(row));
                let times = text.checked_div(from).unwrap_or(text + 1);
                text.saturating_add(times.saturating_mul(to))
            },
            exact: Some(replaced),
            generates: false,
        }),
        "regexp_replace" => rough(regexp_replaced),
        "regexp_match" => rough(|of, row| {
            let groups = |pattern: &str| pattern.matches('(').count() as u64 + 1;
            let groups = of[1].text(row).map_or(1, groups);
            of[0].bytes(row).saturating_mul(groups)
        }),
        "concat" | "overlay" | "make_array" | "array_append" | "array_prepend" | "array_concat"
        | "array_union" | "arrays_zip" | "map" | CONCATENATION => exact(all),
        "concat_ws" => exact(|of, row| {
            all(&of[1..], row).saturating_add(of[0].bytes(row).saturating_mul(of.len() as u64))
        }),
        "to_char" => rough(|of, row| of[1].bytes(row).saturating_mul(40)),
        "to_json" => rough(|of, row| of[0].json(row)),
        "string_to_array" => rough(|of, row| of[0].bytes(row).saturating_mul(16)),
        "array_to_string" => rough(joined),
        "array_replace" | "array_replace_n" | "array_replace_all" => rough(|of, row| {
            let replaced = of[0].items(row).saturating_mul(of[2].bytes(row));
            of[0].bytes(row).saturating_add(replaced)
        }),
        "array_repeat" => list(|of, row| (of[0].bytes(row) + 8).saturating_mul(of[1].count(row))),
        "array_resize" => list(|of, row| {
            let item = of.get(2).map_or(8, |value| value.bytes(row) + 8);
            of[1].count(row).saturating_mul(item)
        }),
        "range" | "generate_series" => list(|of, row| steps(of, row).saturating_mul(8)),
        _ => None,
    }
}

fn padded(of: &[Argument], row: usize) -> u64 {
    let is_ascii = |text: &Argument| text.text(row).is_none_or(str::is_ascii);
    let width = match is_ascii(&of[0]) && of.get(2).is_none_or(is_ascii) {
        true => 1,
        false => 4,
    };
    of[1].count(row).saturating_mul(width)
}

fn replaced(of: &[Argument], row: usize) -> u64 {
    let (Some(text), Some(from)) = (of[0].text(row), of[1].text(row)) else {
        return 0;
    };
    let times = text.matches(from).count() as u64;
    (text.len() as u64).saturating_add(times.saturating_mul(of[2].bytes(row)))
}

fn regexp_replaced(of: &[Argument], row: usize) -> u64 {
    let (text, to) = (of[0].bytes(row), of[2].bytes(row));
    let flags = of.get(3).and_then(|flags| flags.text(row));
    let times = match flags.is_some_and(|flags| flags.contains('g')) {
        true => text + 1,
        false => 1,
    };
    // Each group that the replacement names may be the whole match.
    let named = of[2]
        .text(row)
        .map_or(0, |to| to.matches(['$', '\\']).count() as u64);
    text.saturating_add(times.saturating_mul(to))
        .saturating_add(text.saturating_mul(named))
}

/// The text of a list's items, with a text between them.
fn joined(of: &[Argument], row: usize) -> u64 {
    let between: u64 = of[1..].iter().map(|text| text.bytes(row)).sum();
    let item = between.saturating_add(LONGEST_NUMBER);
    of[0]
        .json(row)
        .saturating_add(of[0].items(row).saturating_mul(item))
}

/// Digits of the longest double, written without exponent.
const LONGEST_NUMBER: u64 = 350;

fn all(arguments: &[Argument], row: usize) -> u64 {
    arguments
        .iter()
        .fold(8, |sum, argument| sum.saturating_add(argument.bytes(row)))
}

/// Values from a first to a last one.
fn steps(of: &[Argument], row: usize) -> u64 {
    let value = |index: usize| of.get(index).and_then(|argument| argument.value(row));
    let (start, stop) = if of.len() == 1 {
        (Some(0), value(0))
    } else {
        (value(0), value(1))
    };
    let (Some(start), Some(stop)) = (start, stop) else {
        return 0;
    };
    let step = if of.len() < 3 {
        1
    } else {
        value(2).unwrap_or(1)
    };
    let steps = (stop - start)
        .unsigned_abs()
        .checked_div(step.unsigned_abs());
    // A step of zero is refused by the function itself, or never ends.
    steps.map_or(u64::MAX, |steps| {
        u64::try_from(steps).unwrap_or(u64::MAX).saturating_add(1)
    })
}

/// An argument of a function, row by row.
struct Argument {
    array: ArrayRef,
    is_constant: bool,
}

impl Argument {
    fn new(value: &ColumnarValue) -> Result<Self> {
        Ok(match value {
            ColumnarValue::Array(array) => Self {
                array: array.clone(),
                is_constant: false,
            },
            ColumnarValue::Scalar(scalar) => Self {
                array: scalar.to_array_of_size(1)?,
                is_constant: true,
            },
        })
    }

    fn row(&self, row: usize) -> usize {
        if self.is_constant { 0 } else { row }
    }

    fn bytes(&self, row: usize) -> u64 {
        let row = self.row(row);
        size(self.array.as_ref(), row, row + 1)
    }

    /// Bytes as JSON, at most.
    fn json(&self, row: usize) -> u64 {
        let row = self.row(row);
        json(self.array.as_ref(), row, row + 1)
    }

    /// Items of a list.
    fn items(&self, row: usize) -> u64 {
        let row = self.row(row);
        match self.array.data_type() {
            DataType::List(_) => self
                .array
                .as_list::<i32>()
                .value_length(row)
                .unsigned_abs()
                .into(),
            DataType::LargeList(_) => self.array.as_list::<i64>().value_length(row).unsigned_abs(),
            DataType::FixedSizeList(_, length) => length.unsigned_abs().into(),
            _ => 0,
        }
    }

    fn text(&self, row: usize) -> Option<&str> {
        let row = self.row(row);
        match self.array.data_type() {
            _ if self.array.is_null(row) => None,
            DataType::Utf8 => Some(self.array.as_string::<i32>().value(row)),
            DataType::LargeUtf8 => Some(self.array.as_string::<i64>().value(row)),
            DataType::Utf8View => Some(self.array.as_string_view().value(row)),
            _ => None,
        }
    }

    /// A number of repetitions; 0 for a negative number.
    fn count(&self, row: usize) -> u64 {
        self.value(row).map_or(0, |value| {
            u64::try_from(value).unwrap_or(if value < 0 { 0 } else { u64::MAX })
        })
    }

    /// A number; nanoseconds for times and days, and the minimum of an interval.
    fn value(&self, row: usize) -> Option<i128> {
        const DAY: i128 = 86_400_000_000_000;
        let row = self.row(row);
        if self.array.is_null(row) {
            return None;
        }
        if let DataType::Interval(IntervalUnit::MonthDayNano) = self.array.data_type() {
            let step = self
                .array
                .as_primitive::<IntervalMonthDayNanoType>()
                .value(row);
            let days = i128::from(step.months) * 28 + i128::from(step.days);
            return Some(days * DAY + i128::from(step.nanoseconds));
        }
        let unit = match self.array.data_type() {
            DataType::Date32 => DAY,
            DataType::Date64 | DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000_000,
            DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
            DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
            _ => 1,
        };
        let number = cast(&self.array.slice(row, 1), &DataType::Int64).ok()?;
        let number = number.as_primitive_opt::<Int64Type>()?;
        (!number.is_null(0)).then(|| i128::from(number.value(0)) * unit)
    }
}

/// Bytes of the rows `from..to`, without other rows in the same buffers.
fn size(array: &dyn Array, from: usize, to: usize) -> u64 {
    measure(array, from, to, &|bytes, _| bytes, 0)
}

/// Bytes of the rows as JSON, at most: six for a byte that must be escaped.
fn json(array: &dyn Array, from: usize, to: usize) -> u64 {
    measure(
        array,
        from,
        to,
        &|bytes, values| bytes.saturating_mul(6).saturating_add(values * 28),
        4,
    )
}

fn measure(
    array: &dyn Array,
    from: usize,
    to: usize,
    of: &dyn Fn(u64, u64) -> u64,
    per_name: u64,
) -> u64 {
    let values = to.saturating_sub(from) as u64;
    let within = |child: &dyn Array, from: i64, to: i64| {
        let at = |offset: i64| usize::try_from(offset).unwrap_or_default();
        measure(child, at(from), at(to), of, per_name).saturating_add(of(0, values))
    };
    let fields = |fields: &[ArrayRef], names: u64| {
        let all = fields
            .iter()
            .map(|field| measure(field.as_ref(), from, to, of, per_name));
        all.fold(names.saturating_mul(values), u64::saturating_add)
    };
    match array.data_type() {
        DataType::Null => of(0, values),
        DataType::Utf8 => {
            let offsets = array.as_string::<i32>().value_offsets();
            of((offsets[to] - offsets[from]).unsigned_abs().into(), values)
        }
        DataType::LargeUtf8 => {
            let offsets = array.as_string::<i64>().value_offsets();
            of((offsets[to] - offsets[from]).unsigned_abs(), values)
        }
        DataType::Utf8View => {
            let texts = array.as_string_view();
            of(
                (from..to).map(|row| texts.value(row).len() as u64).sum(),
                values,
            )
        }
        DataType::Binary => {
            let offsets = array.as_binary::<i32>().value_offsets();
            of((offsets[to] - offsets[from]).unsigned_abs().into(), values)
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let offsets = list.value_offsets();
            within(list.values(), offsets[from].into(), offsets[to].into())
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            let offsets = list.value_offsets();
            within(list.values(), offsets[from], offsets[to])
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            let offsets = map.value_offsets();
            within(map.entries(), offsets[from].into(), offsets[to].into())
        }
        DataType::Struct(names) => {
            let names = names
                .iter()
                .map(|field| (field.name().len() as u64 * 6 + 4) * per_name.min(1))
                .sum();
            fields(array.as_struct().columns(), names)
        }
        other => match other.primitive_width() {
            Some(width) => of((width as u64).saturating_mul(values), values),
            // Rare, and never an underestimate.
            None => of(array.get_array_memory_size() as u64, values),
        },
    }
}

/// Replaces the functions of [`bound_of`], and the operator `||`, by bounded ones.
#[derive(Debug)]
pub(super) struct Bounding(pub(super) Arc<Refused>);

impl FunctionRewrite for Bounding {
    fn name(&self) -> &str {
        "bound_functions"
    }

    fn rewrite(
        &self,
        expr: Expr,
        schema: &DFSchema,
        _: &ConfigOptions,
    ) -> Result<Transformed<Expr>> {
        match expr {
            Expr::ScalarFunction(function)
                if matches!(function.func.name(), "arrow_cast" | "arrow_try_cast") =>
            {
                // A NULL of such a type takes as much memory as a value.
                let is_fixed = |arg: &Expr| arg.to_string().contains("FixedSize");
                if function.args.iter().skip(1).any(is_fixed) {
                    return plan_err!(
                        "{} to a FixedSize type is not supported",
                        function.func.name()
                    );
                }
                Ok(Transformed::no(Expr::ScalarFunction(function)))
            }
            Expr::ScalarFunction(function)
                if function.func.inner().downcast_ref::<Bounded>().is_none() =>
            {
                Ok(match bound_of(function.func.name()) {
                    Some(bound) => self.call(function.func, function.args, bound),
                    None => Transformed::no(Expr::ScalarFunction(function)),
                })
            }
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: Operator::StringConcat,
                right,
            }) => self.concatenate(left, right, schema),
            other => Ok(Transformed::no(other)),
        }
    }
}

impl Bounding {
    /// The call, with its result bounded.
    fn call(&self, inner: Arc<ScalarUDF>, args: Vec<Expr>, bound: Bound) -> Transformed<Expr> {
        let func = Arc::new(ScalarUDF::from(Bounded {
            inner,
            bound: Held(bound),
            refused: Held(self.0.clone()),
        }));
        Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args }))
    }

    /// `||` of texts as a call. A chain becomes one: computing the type at each step would visit the whole chain so far.
    fn concatenate(
        &self,
        left: Box<Expr>,
        right: Box<Expr>,
        schema: &DFSchema,
    ) -> Result<Transformed<Expr>> {
        let right_type = right.get_type(schema)?;
        if let Expr::ScalarFunction(chain) = &*left
            && chain.func.name() == CONCATENATION
            && common_text(&DataType::Utf8, &right_type).is_ok()
        {
            let Expr::ScalarFunction(mut chain) = *left else {
                return exec_err!("|| has changed");
            };
            chain.args.push(*right);
            return Ok(Transformed::yes(Expr::ScalarFunction(chain)));
        }
        match bound_of(CONCATENATION) {
            Some(bound) if common_text(&left.get_type(schema)?, &right_type).is_ok() => {
                let inner = Arc::new(concatenation());
                Ok(self.call(inner, vec![*left, *right], bound))
            }
            _ => {
                let expr = BinaryExpr {
                    left,
                    op: Operator::StringConcat,
                    right,
                };
                Ok(Transformed::no(Expr::BinaryExpr(expr)))
            }
        }
    }
}

/// Whether a function is bounded.
#[cfg(feature = "ballista")]
pub(super) fn is_bounded(function: &ScalarUDF) -> bool {
    function.inner().is::<Bounded>()
}

/// A function with its result bounded, as in a plan that was made with [`Bounding`].
#[cfg(feature = "ballista")]
pub(super) fn bounded(inner: Arc<ScalarUDF>) -> Result<ScalarUDF> {
    let Some(bound) = bound_of(inner.name()) else {
        return exec_err!("{} has no bound", inner.name());
    };
    Ok(ScalarUDF::from(Bounded {
        inner,
        bound: Held(bound),
        refused: Held(Arc::default()),
    }))
}

/// `||` of texts, unbounded.
pub(super) fn concatenation() -> ScalarUDF {
    let signature = Signature::user_defined(Volatility::Immutable);
    ScalarUDF::from(Concatenation { signature })
}

/// The text type of `||` with these two operands.
fn common_text(left: &DataType, right: &DataType) -> Result<DataType> {
    match BinaryTypeCoercer::new(left, &Operator::StringConcat, right).get_result_type()? {
        text @ (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => Ok(text),
        other => plan_err!("|| makes {other}"),
    }
}

/// What does not tell functions apart.
#[derive(Debug, Clone)]
struct Held<T>(T);

impl<T> PartialEq for Held<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> Eq for Held<T> {}

impl<T> std::hash::Hash for Held<T> {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

/// A function that checks its arguments before it computes a result.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    bound: Held<Bound>,
    refused: Held<Arc<Refused>>,
}

impl Bounded {
    fn refuse<T>(&self, bytes: u64, rows: usize, limit: u64) -> Result<T> {
        let (name, rows) = (
            self.name(),
            if rows == 1 {
                "one row".into()
            } else {
                format!("{rows} rows")
            },
        );
        let reason = format!(
            "{name}: its result would take {bytes} bytes for {rows}; at most {limit} are allowed"
        );
        self.refused.0.note(&reason);
        Err(DataFusionError::ResourcesExhausted(reason))
    }

    /// A column that is computed piece by piece, each of as many rows as are certainly allowed.
    fn in_pieces(
        &self,
        args: &ScalarFunctionArgs,
        sizes: &[u64],
        limit: u64,
    ) -> Result<ColumnarValue> {
        let mut pieces: Vec<ArrayRef> = Vec::new();
        let (mut from, mut made) = (0, 0u64);
        while from < sizes.len() {
            let mut bytes = sizes[from];
            if bytes > MAX_LARGE_RESULT_BYTES {
                return self.refuse(bytes, 1, MAX_LARGE_RESULT_BYTES);
            }
            let mut to = from + 1;
            while to < sizes.len() && bytes.saturating_add(sizes[to]) <= MAX_RESULT_BYTES {
                bytes += sizes[to];
                to += 1;
            }
            self.await_room(bytes, to - from)?;
            let rows = |arg: &ColumnarValue| match arg {
                ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(from, to - from)),
                constant => constant.clone(),
            };
            let part = ScalarFunctionArgs {
                args: args.args.iter().map(rows).collect(),
                number_rows: to - from,
                ..args.clone()
            };
            let piece = self.inner.invoke_with_args(part)?.into_array(to - from)?;
            made = made.saturating_add(size(piece.as_ref(), 0, piece.len()));
            if made > limit {
                return self.refuse(made, to, limit);
            }
            pieces.push(piece);
            from = to;
        }
        let pieces: Vec<&dyn Array> = pieces.iter().map(AsRef::as_ref).collect();
        if pieces.is_empty() {
            return Ok(ColumnarValue::Array(new_empty_array(
                args.return_field.data_type(),
            )));
        }
        Ok(ColumnarValue::Array(concat(&pieces)?))
    }

    /// Refuses what would not fit into the memory limit of the process.
    fn await_room(&self, bytes: u64, rows: usize) -> Result<()> {
        match memory::room() {
            Some(room) if bytes > room => self.refuse(bytes, rows, room),
            _ => Ok(()),
        }
    }
}

#[warn(
    clippy::missing_trait_methods,
    reason = "what is left out would be another function"
)]
impl ScalarUDFImpl for Bounded {
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arguments = args
            .args
            .iter()
            .map(Argument::new)
            .collect::<Result<Vec<_>>>()?;
        let is_constant = arguments.iter().all(|argument| argument.is_constant);
        let rows = if is_constant { 1 } else { args.number_rows };
        let Bound {
            most,
            exact,
            generates,
        } = self.bound.0;
        let sum = |sizes: &[u64]| {
            sizes
                .iter()
                .fold(0, |sum, bytes| u64::saturating_add(sum, *bytes))
        };
        let sizes: Vec<u64> = (0..rows).map(|row| most(&arguments, row)).collect();
        let total = sum(&sizes);
        let given = arguments.iter().fold(0, |sum, it| {
            u64::saturating_add(sum, size(it.array.as_ref(), 0, it.array.len()))
        });
        let limit = match (is_constant, generates) {
            (true, true) => MAX_CONSTANT_LIST_BYTES,
            (true, false) => MAX_CONSTANT_BYTES,
            (false, true) => MAX_GENERATED_BYTES,
            (false, false) => given
                .saturating_mul(2)
                .clamp(MAX_RESULT_BYTES, MAX_LARGE_RESULT_BYTES),
        };
        if total <= limit {
            self.await_room(total, rows)?;
            return self.inner.invoke_with_args(args);
        }
        if let Some(exact) = exact {
            let total = sum(&(0..rows)
                .map(|row| exact(&arguments, row))
                .collect::<Vec<_>>());
            if total > limit {
                return self.refuse(total, rows, limit);
            }
            self.await_room(total, rows)?;
            return self.inner.invoke_with_args(args);
        }
        if !is_constant {
            return self.in_pieces(&args, &sizes, limit);
        }
        if total > MAX_RESULT_BYTES {
            return self.refuse(total, rows, limit);
        }
        let made = self.inner.invoke_with_args(args)?;
        let bytes = Argument::new(&made)?.bytes(0);
        if bytes > limit {
            self.refuse(bytes, rows, limit)
        } else {
            Ok(made)
        }
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        #[expect(deprecated, reason = "delegated as long as it is there")]
        self.inner.display_name(args)
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let inner = Arc::new(self.inner.inner().with_updated_config(config)?);
        Some(ScalarUDF::from(Self {
            inner,
            bound: self.bound.clone(),
            refused: self.refused.clone(),
        }))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn is_nullable(&self, args: &[Expr], schema: &dyn datafusion::common::ExprSchema) -> bool {
        #[expect(deprecated, reason = "delegated as long as it is there")]
        self.inner.is_nullable(args, schema)
    }

    fn is_strict(&self) -> bool {
        self.inner.is_strict()
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.simplify(args, info)
    }

    fn preimage(
        &self,
        args: &[Expr],
        literal: &Expr,
        info: &SimplifyContext,
    ) -> Result<datafusion::logical_expr::preimage::PreimageResult> {
        self.inner.preimage(args, literal, info)
    }

    fn short_circuits(&self) -> bool {
        self.inner.short_circuits()
    }

    fn conditional_arguments<'a>(
        &self,
        args: &'a [Expr],
    ) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.inner.conditional_arguments(args)
    }

    fn evaluate_bounds(&self, input: &[&Interval]) -> Result<Interval> {
        self.inner.evaluate_bounds(input)
    }

    fn propagate_constraints(
        &self,
        interval: &Interval,
        inputs: &[&Interval],
    ) -> Result<Option<Vec<Interval>>> {
        self.inner.propagate_constraints(interval, inputs)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.preserves_lex_ordering(inputs)
    }

    fn strictly_order_preserving(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.strictly_order_preserving(inputs)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn struct_field_mapping(
        &self,
        literals: &[Option<ScalarValue>],
    ) -> Option<datafusion::logical_expr::StructFieldMapping> {
        self.inner.struct_field_mapping(literals)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn placement(
        &self,
        args: &[datafusion::logical_expr::ExpressionPlacement],
    ) -> datafusion::logical_expr::ExpressionPlacement {
        self.inner.placement(args)
    }
}

/// A chain of the operator `||` as a function, so that it can be bounded.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Concatenation {
    signature: Signature,
}

pub(super) const CONCATENATION: &str = "concatenation";

impl ScalarUDFImpl for Concatenation {
    fn name(&self) -> &str {
        CONCATENATION
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        Ok(vec![self.return_type(types)?; types.len()])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let [first, second, rest @ ..] = types else {
            return exec_err!("|| takes two values");
        };
        rest.iter()
            .try_fold(common_text(first, second)?, |text, next| {
                common_text(&text, next)
            })
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = args
            .args
            .iter()
            .all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [first, rest @ ..] = arrays.as_slice() else {
            return exec_err!("|| takes two values");
        };
        let made = rest
            .iter()
            .try_fold(first.clone(), |text, next| concat_elements_dyn(&text, next))?;
        if is_constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(
                &made, 0,
            )?));
        }
        Ok(ColumnarValue::Array(made))
    }
}

/// Refuses a plan in which an expression has too many terms once the expressions of its subqueries are substituted.
/// DataFusion substitutes them when it pushes a filter down: 25 subqueries, each of which uses the column of the
/// previous one twice, give an expression of 33 million terms.
pub(super) fn check_terms(plan: &LogicalPlan) -> Result<()> {
    terms(plan).map(|_| ())
}

/// Terms of the columns of a plan's result.
fn terms(plan: &LogicalPlan) -> Result<Vec<u64>> {
    plan.apply_subqueries(|subquery| {
        check_terms(subquery)?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    let width = plan.schema().fields().len();
    let mut inputs = Vec::new();
    for input in plan.inputs() {
        inputs.push(terms(input)?);
    }
    let of = |exprs: &[Expr], schema: &DFSchema, input: &[u64]| -> Result<Vec<u64>> {
        exprs
            .iter()
            .map(|expr| checked(expr_terms(expr, schema, input)))
            .collect()
    };
    let mut made = match plan {
        LogicalPlan::Projection(projection) => {
            of(&projection.expr, projection.input.schema(), &inputs[0])?
        }
        LogicalPlan::Filter(filter) => {
            let predicate = std::slice::from_ref(&filter.predicate);
            of(predicate, filter.input.schema(), &inputs[0])?;
            inputs.swap_remove(0)
        }
        LogicalPlan::Aggregate(aggregate) => {
            let schema = aggregate.input.schema();
            let mut made = of(&aggregate.group_expr, schema, &inputs[0])?;
            of(&aggregate.aggr_expr, schema, &inputs[0])?;
            made.resize(width, 1);
            made
        }
        LogicalPlan::Join(join) => {
            let both = inputs.concat();
            if let (Some(filter), true) = (&join.filter, both.len() == width) {
                of(std::slice::from_ref(filter), &join.schema, &both)?;
            }
            match both.len() == width {
                true => both,
                false => {
                    let one = inputs.into_iter().find(|it| it.len() == width);
                    one.unwrap_or_default()
                }
            }
        }
        LogicalPlan::Union(_) => {
            let of_column = |index| inputs.iter().filter_map(move |input| input.get(index));
            let longest = |index| of_column(index).copied().max().unwrap_or(1);
            (0..width).map(longest).collect()
        }
        LogicalPlan::Unnest(unnest) => {
            let schema = unnest.input.schema();
            let of_column = |(qualifier, field): (Option<&_>, &FieldRef)| {
                let index = schema.index_of_column_by_name(qualifier, field.name())?;
                inputs[0].get(index).copied()
            };
            let columns = plan.schema().iter().map(of_column);
            columns.map(|terms| terms.unwrap_or(1)).collect()
        }
        // Columns are only ever appended.
        _ if inputs.len() == 1 => inputs.swap_remove(0),
        _ => Vec::new(),
    };
    made.resize(width, 1);
    Ok(made)
}

fn checked(terms: u64) -> Result<u64> {
    if terms > MAX_TERMS {
        return plan_err!(
            "an expression has more than {MAX_TERMS} terms, once those of the subqueries that it names are put into it"
        );
    }
    Ok(terms)
}

fn expr_terms(expr: &Expr, schema: &DFSchema, input: &[u64]) -> u64 {
    if let Expr::Column(column) = expr {
        return column_terms(column, schema, input);
    }
    let mut sum = 1u64;
    let mut add = |child: &Expr, times: u64| {
        sum = sum.saturating_add(expr_terms(child, schema, input).saturating_mul(times));
    };
    match expr {
        // DataFusion repeats the first part of these.
        Expr::Between(between) => {
            add(&between.expr, 2);
            add(&between.low, 1);
            add(&between.high, 1);
        }
        Expr::InList(list) => {
            add(&list.expr, list.list.len().clamp(1, 3) as u64);
            list.list.iter().for_each(|item| add(item, 1));
        }
        Expr::ScalarFunction(function)
            if matches!(function.func.name(), "coalesce" | "nvl" | "nvl2") =>
        {
            function.args.iter().for_each(|arg| add(arg, 2));
        }
        other => {
            // The closure never fails.
            let _ =
                datafusion::common::tree_node::TreeNode::apply_children(other, |child: &Expr| {
                    add(child, 1);
                    Ok(TreeNodeRecursion::Continue)
                });
        }
    }
    sum
}

fn column_terms(column: &Column, schema: &DFSchema, input: &[u64]) -> u64 {
    schema
        .maybe_index_of_column(column)
        .and_then(|index| input.get(index))
        .copied()
        .unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use arrow::array::RecordBatch;
    use arrow::util::pretty::pretty_format_batches;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::super::{one_line, select, session};
    use super::*;

    async fn answer(context: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>> {
        let frame = select(context, sql).await?;
        let stream = session::execute(context, frame).await?;
        datafusion::physical_plan::common::collect(stream).await
    }

    fn bounded() -> SessionContext {
        session::session(session::runtime(256 << 20).unwrap()).unwrap()
    }

    /// DataFusion as it is, with the same settings.
    fn plain() -> SessionContext {
        let mut config = SessionConfig::new();
        config.options_mut().sql_parser.enable_ident_normalization = false;
        config.options_mut().sql_parser.map_string_types_to_utf8view = false;
        let context = SessionContext::new_with_config(config);
        context.register_udf(super::super::functions::to_json());
        context
    }

    const ROWS: &str = "(VALUES ('a b', 2, 'é'), ('', 0, 'x'), (NULL, 3, 'y'), ('long text', NULL, NULL)) AS t(s, n, u)";

    #[tokio::test]
    async fn bounded_functions_equal_datafusions() {
        let expressions = [
            "repeat(s, n)",
            "repeat('ab', 3)",
            "lpad(s, 5, u)",
            "rpad(s, 5), lpad('7', 3, '0')",
            "replace(s, ' ', '__')",
            "replace(s, '', u)",
            "concat(s, n, u), concat(s, s)",
            "concat_ws('-', s, n, u)",
            "s || u",
            "s || n || 'x' || u, 1 || s || n, (s || u) || (u || s), s || arrow_cast(u, 'LargeUtf8') || s",
            "s || arrow_cast(u, 'Utf8View'), arrow_cast(s, 'Utf8View') || u || n",
            "'a' || 'b'",
            "NULL || s",
            "overlay(s placing u from 1)",
            "regexp_replace(s, '([a-z])', '<\\1>', 'g'), regexp_replace(s, 'a', u)",
            "regexp_match(s, '([a-z]) ?(b)')",
            "to_char(to_timestamp_micros(n), '%Y-%m-%d')",
            "to_json(make_array(s, u)), to_json(named_struct('k', n, 'l', make_array(n)))",
            "string_to_array(s, ' '), array_to_string(make_array(s, u), ',', '?')",
            "array_to_string(make_array(n, 1.5), ',')",
            "make_array(s, u), [s, u] || ['z'], array_append([s], u), array_prepend(s, [u])",
            "array_concat([s], [u]), array_union([s], [s, u])",
            "array_replace([s, u], u, 'r'), array_replace_all([n, n], 2, 9)",
            "array_repeat(s, 2), array_repeat([n], n), array_resize([n, 1], 3, 0), array_resize([s], 2)",
            "range(n), range(0, n), generate_series(1, coalesce(n, 1), 1)",
            "range(DATE '2024-01-01', DATE '2024-03-01', INTERVAL '1' MONTH)",
            "generate_series(TIMESTAMP '2024-01-01', TIMESTAMP '2024-01-02', INTERVAL '6' HOUR)",
            "map(make_array('k'), make_array(s))",
            "nullif(s, ''), coalesce(s, u, 'none')",
        ];
        for expression in expressions {
            let sql = format!("SELECT {expression} FROM {ROWS}");
            let (ours, theirs) = (
                answer(&bounded(), &sql).await,
                plain().sql(&sql).await.unwrap().collect().await,
            );
            let (ours, theirs) = (
                ours.unwrap_or_else(|error| panic!("{sql}: {error}")),
                theirs.unwrap(),
            );
            let text =
                |batches: &[RecordBatch]| pretty_format_batches(batches).unwrap().to_string();
            assert_eq!(text(&ours), text(&theirs), "{sql}");
            assert_eq!(ours[0].schema(), theirs[0].schema(), "{sql}");
        }
    }

    /// `count` common table expressions, each made from the previous one.
    fn chain(count: usize, first: &str, next: &str, last: &str) -> String {
        let ctes: Vec<String> = (1..count)
            .map(|n| format!("c{n} AS (SELECT {next} FROM c{})", n - 1))
            .collect();
        format!("WITH c0 AS ({first}), {} SELECT {last}", ctes.join(", "))
            .replace("LAST", &format!("c{}", count - 1))
    }

    const MANY: &str = "(SELECT unnest(range(0, 8000)) AS v)";

    #[tokio::test]
    async fn oversized_results_are_refused_early() {
        let many = |expression: &str| format!("SELECT {expression} AS a FROM {MANY}");
        let one = |expression: &str| format!("SELECT {expression} AS a");
        let nested = |open: &str, inner: &str, close: &str| {
            format!("{}{inner}{}", open.repeat(25), close.repeat(25))
        };
        let cases = [
            (
                one("replace(repeat('a',1000000),'a',repeat('b',1000000))"),
                "repeat",
            ),
            (one("repeat('a', 9223372036854775807)"), "repeat"),
            (one("length(repeat('a', 2000000000))"), "repeat"),
            (one("lpad('', 2000000000)"), "lpad"),
            (one("rpad('a', 100000, 'bc')"), "rpad"),
            (
                one("array_repeat(repeat('a', 10000), 1000000000)"),
                "array_repeat",
            ),
            (one("range(0, 9223372036854775807)"), "range"),
            (
                one("range(-9223372036854775808, 9223372036854775807)"),
                "range",
            ),
            (
                one("array_length(generate_series(1, 1000000000))"),
                "generate_series",
            ),
            (
                one(
                    "generate_series(TIMESTAMP '1700-01-01', TIMESTAMP '2200-01-01', INTERVAL '1' SECOND)",
                ),
                "generate_series",
            ),
            (
                one("range(DATE '0001-01-01', DATE '9999-12-31', INTERVAL '1' DAY)"),
                "range",
            ),
            (one("array_resize([1], 2000000000)"), "array_resize"),
            (
                one("arrow_cast(NULL, 'FixedSizeBinary(1000000000)') IS NULL"),
                "FixedSize",
            ),
            (
                one("regexp_replace(repeat('a', 10000), 'a', repeat('b', 10000), 'g')"),
                "regexp_replace",
            ),
            (
                one(&nested("concat(repeat('a', 1000),", "'x'", ")")),
                "concat",
            ),
            (
                many(
                    &["repeat('a',200000+v%2)"; 6]
                        .map(|it| format!("length({it})"))
                        .join(" + "),
                ),
                "repeat",
            ),
            (many("lpad(cast(v AS VARCHAR), 5, '0')"), "answered"),
            (many("lpad(cast(v AS VARCHAR), 100000 + v)"), "lpad"),
            (
                many("replace(repeat('a', 2000 + v), 'a', repeat('b', 2000))"),
                "replace",
            ),
            (
                many("regexp_replace(repeat('a', 2000 + v), 'a', repeat('b', 2000), 'g')"),
                "regexp_replace",
            ),
            (many("range(0, 100000 + v)"), "range"),
            (many("array_repeat(v, 100000)"), "array_repeat"),
            (
                many("array_to_string(range(0, 1000 + v % 2), repeat('-', 1000))"),
                "array_to_string",
            ),
            (
                one("to_char(to_timestamp(0), repeat('%c', 8000))"),
                "to_char",
            ),
            (one(&nested("to_json(", "'\"'", ")")), "to_json"),
            (
                chain(
                    10,
                    &many("repeat('x', 1000 + v)"),
                    "a || a AS a",
                    "max(length(a)) FROM LAST",
                ),
                "concatenation",
            ),
            (
                chain(
                    10,
                    &many("repeat('x', 1000 + v)"),
                    "concat(a, a) AS a",
                    "max(length(a)) FROM LAST",
                ),
                "concat",
            ),
            (
                chain(
                    9,
                    &many("range(0, 200 + v % 2)"),
                    "array_concat(a, a) AS a",
                    "max(array_length(a)) FROM LAST",
                ),
                "array_concat",
            ),
            (
                chain(25, &many("v"), "a + a AS a", "a FROM LAST WHERE a > 7"),
                "terms",
            ),
            (
                chain(
                    25,
                    &many("v"),
                    "a + a AS a",
                    "count(*) FROM LAST x JOIN LAST y ON x.a = y.a WHERE x.a > 7",
                ),
                "terms",
            ),
            (
                many(&format!("{} > 1", nested("coalesce(", "v", ", 1)"))),
                "terms",
            ),
            (
                many(&nested("(", "v = 1", " BETWEEN false AND true)")),
                "terms",
            ),
            (
                many(&nested("(", "v = 1", " IN (false, true, NULL))")),
                "terms",
            ),
        ];
        for (sql, part) in cases {
            let error = answer(&bounded(), &sql)
                .await
                .err()
                .map_or("answered".into(), |error| one_line(&error));
            assert!(error.contains(part) && error.len() < 400, "{sql}\n{error}");
        }
    }

    #[tokio::test]
    async fn honest_queries_over_long_texts_and_many_rows_are_answered() {
        let cases = [
            // A text of a hundred million bytes is an ordinary value.
            (
                "max(length(replace(s, 'no', 'yes, no')))",
                "repeat('x', 60000000 + v)",
                1,
                60_000_000i64,
            ),
            (
                "max(length(concat(s, '-', s)))",
                "repeat('x', 60000000 + v)",
                1,
                120_000_001,
            ),
            (
                "max(length(regexp_replace(s, 'x', 'y')))",
                "repeat('x', 60000000 + v)",
                1,
                60_000_000,
            ),
            (
                "sum(length(replace(s, '_', ' - ')))",
                "'a_' || cast(v AS VARCHAR)",
                10_000,
                78_890,
            ),
            (
                "sum(array_length(range(0, v % 100 + 1)))",
                "''",
                10_000,
                505_000,
            ),
            (
                "sum(length(regexp_replace(s, '[0-9]', '#', 'g')))",
                "'id-' || cast(v AS VARCHAR)",
                10_000,
                68_890,
            ),
        ];
        for (result, text, rows, expected) in cases {
            let sql = format!(
                "SELECT {result} AS r FROM (SELECT v, {text} AS s FROM generate_series(0, {rows} - 1) AS t(v))"
            );
            let answered = answer(&bounded(), &sql)
                .await
                .unwrap_or_else(|error| panic!("{sql}: {error}"));
            let number = cast(answered[0].column(0), &DataType::Int64).unwrap();
            assert_eq!(
                number.as_primitive::<Int64Type>().value(0),
                expected,
                "{sql}"
            );
        }
    }
}
