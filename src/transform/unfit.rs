//! Values that a model turns into NULL because they are not valid times: in which columns, how many, and examples.
//!
//! Models declare nothing for it. Before a query is optimised, each call of a time function gets the name of its
//! column; afterwards, each remaining occurrence gets a counter of its own. The optimiser may duplicate a call (for a
//! filter that is pushed below a projection): then the greatest count is reported, not the sum.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, LogicalPlan, ScalarUDF, TryCast};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::functions::SamsaraTime;

/// Number of different texts of a column that are counted separately.
pub const UNFIT_TEXTS: usize = 5;
/// This many characters of one are kept.
const TEXT_CHARACTERS: usize = 100;

/// Values of one column that became NULL because they are not times in the years 1 to 9999.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnfitTimes {
    /// Name of the column.
    pub column: String,
    /// Number of values that became NULL.
    pub count: u64,
    /// The first different ones, quoted and escaped (long ones truncated), and how often they occurred. None for
    /// columns that are hashed or dropped.
    pub texts: BTreeMap<String, u64>,
}

/// What is found, by column.
#[derive(Debug, Default)]
pub(super) struct Unfit(BTreeMap<String, UnfitTimes>);

impl Unfit {
    /// Counts a value.
    pub(super) fn add(&mut self, column: &str, value: &dyn fmt::Display) {
        let found = self.column(column);
        found.count += 1;
        add_text(&mut found.texts, short(value), 1);
    }

    /// Counts several values.
    fn add_all(&mut self, column: &str, count: u64, texts: BTreeMap<String, u64>) {
        let found = self.column(column);
        found.count += count;
        texts
            .into_iter()
            .for_each(|(text, count)| add_text(&mut found.texts, text, count));
    }

    fn column(&mut self, column: &str) -> &mut UnfitTimes {
        let none = || UnfitTimes {
            column: column.into(),
            count: 0,
            texts: BTreeMap::new(),
        };
        self.0.entry(column.into()).or_insert_with(none)
    }

    /// By column; without texts if `is_shown` forbids them.
    pub(super) fn into_columns(self, is_shown: impl Fn(&str) -> bool) -> Vec<UnfitTimes> {
        let mut columns: Vec<UnfitTimes> = self.0.into_values().collect();
        columns
            .iter_mut()
            .filter(|found| !is_shown(&found.column))
            .for_each(|found| found.texts.clear());
        columns
    }
}

fn short(value: &dyn fmt::Display) -> String {
    let mut text = value.to_string();
    if let Some((end, _)) = text.char_indices().nth(TEXT_CHARACTERS) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// A place in a query where times are read.
#[derive(Clone)]
pub(super) struct Occurrence {
    column: Arc<str>,
    /// The position of the call in the query as it was written.
    call: usize,
    found: Option<Arc<Mutex<Found>>>,
}

#[derive(Debug, Default)]
struct Found {
    count: u64,
    texts: BTreeMap<String, u64>,
}

impl Occurrence {
    /// One with a counter of its own.
    #[cfg(feature = "ballista")]
    pub(super) fn counting(column: &str, call: usize) -> Self {
        Self {
            column: column.into(),
            call,
            found: Some(Arc::default()),
        }
    }

    /// Its column and call, and a number of its counter: that of another counter is another one.
    #[cfg(feature = "ballista")]
    pub(super) fn parts(&self) -> (&str, usize, usize) {
        let counter = self.found.as_ref().map_or(0, |it| Arc::as_ptr(it).addr());
        (&self.column, self.call, counter)
    }

    /// Counts a value that could not be read.
    pub(super) fn count(&self, value: &dyn fmt::Display) {
        let Some(found) = &self.found else { return };
        let mut found = found.lock();
        found.count += 1;
        add_text(&mut found.texts, short(value), 1);
    }

    fn identity(&self) -> (usize, Option<*const Mutex<Found>>) {
        (self.call, self.found.as_ref().map(Arc::as_ptr))
    }
}

impl fmt::Debug for Occurrence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Occurrence({})", self.column)
    }
}

impl PartialEq for Occurrence {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Occurrence {}

impl Hash for Occurrence {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

/// The counters of a query.
#[derive(Debug, Default)]
pub(super) struct Watched(Vec<Occurrence>);

impl Watched {
    /// Those of these places.
    #[cfg(feature = "ballista")]
    pub(super) fn new(occurrences: Vec<Occurrence>) -> Self {
        Self(occurrences)
    }

    /// Adds what was found since the last time.
    pub(super) fn tell(&self, unfit: &mut Unfit) {
        let mut calls: BTreeMap<usize, (&Arc<str>, Found)> = BTreeMap::new();
        for Occurrence {
            column,
            call,
            found,
        } in &self.0
        {
            let Some(found) = found else { continue };
            let found = std::mem::take(&mut *found.lock());
            if calls.get(call).map_or(0, |(_, copy)| copy.count) < found.count {
                calls.insert(*call, (column, found));
            }
        }
        for (column, found) in calls.into_values() {
            unfit.add_all(column, found.count, found.texts);
        }
    }
}

/// Counts a text, if it is already listed or there is room for another.
pub fn add_text(texts: &mut BTreeMap<String, u64>, text: String, count: u64) {
    if texts.contains_key(&text) || texts.len() < UNFIT_TEXTS {
        *texts.entry(text).or_default() += count;
    }
}

/// Gives each call of a time function the name of its column: the nearest name around it, or its argument.
pub(super) fn name_columns(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut calls = 0..;
    let named = plan.transform_down_with_subqueries(|node| {
        node.map_expressions(|expr| {
            let mut column: Option<Arc<str>> = None;
            expr.transform_down(|expr| {
                if let Expr::Alias(alias) = &expr {
                    column = Some(alias.name.as_str().into());
                }
                let Some(function) =
                    time_function(&expr).filter(|function| function.occurrence().is_none())
                else {
                    return Ok(Transformed::no(expr));
                };
                let column = match (&column, &expr) {
                    (Some(column), _) => column.clone(),
                    (None, Expr::ScalarFunction(call)) => {
                        call.args.iter().map(argument).collect::<String>().into()
                    }
                    (None, _) => return Ok(Transformed::no(expr)),
                };
                let Some(call) = calls.next() else {
                    return Ok(Transformed::no(expr));
                };
                let named = function.at(Occurrence {
                    column,
                    call,
                    found: None,
                });
                Ok(replace(expr, named))
            })
        })
    })?;
    Ok(named.data)
}

/// Gives each call of a time function in an optimised plan its own counter.
///
/// If other functions need nanoseconds (`to_char`, `date_bin`), a time beyond their range is NULL there instead of
/// failing the query.
pub(super) fn watch(plan: LogicalPlan) -> Result<(LogicalPlan, Watched)> {
    let mut watched = Watched::default();
    let plan = plan.transform_down_with_subqueries(|node| {
        let schema = merge_schema(&node.inputs());
        node.map_expressions(|expr| {
            expr.transform_down(|expr| {
                if let Expr::Cast(Cast { expr, field }) = &expr
                    && matches!(field.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, _))
                    && matches!(expr.get_type(&schema), Ok(DataType::Timestamp(unit, _)) if unit != TimeUnit::Nanosecond)
                {
                    let lenient = TryCast { expr: expr.clone(), field: field.clone() };
                    return Ok(Transformed::yes(Expr::TryCast(lenient)));
                }
                let Some(function) = time_function(&expr) else { return Ok(Transformed::no(expr)) };
                let Some(named) = function.occurrence().filter(|named| named.found.is_none()) else {
                    return Ok(Transformed::no(expr));
                };
                let occurrence = Occurrence { found: Some(Arc::default()), ..named.clone() };
                let counted = function.at(occurrence.clone());
                watched.0.push(occurrence);
                Ok(replace(expr, counted))
            })
        })
    })?;
    Ok((plan.data, watched))
}

fn time_function(expr: &Expr) -> Option<&SamsaraTime> {
    let Expr::ScalarFunction(call) = expr else {
        return None;
    };
    call.func
        .inner()
        .downcast_ref::<SamsaraTime>()
        .filter(|function| function.is_of_models())
}

fn replace(expr: Expr, function: ScalarUDF) -> Transformed<Expr> {
    match expr {
        Expr::ScalarFunction(call) => Transformed::yes(Expr::ScalarFunction(ScalarFunction {
            func: Arc::new(function),
            ..call
        })),
        other => Transformed::no(other),
    }
}

/// A column's name without its table; anything else as DataFusion writes it.
fn argument(expr: &Expr) -> String {
    match expr {
        Expr::Column(column) => column.name.clone(),
        other => other.schema_name().to_string(),
    }
}
