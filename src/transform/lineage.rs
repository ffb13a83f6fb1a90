//! Column-level lineage: the input columns that a column of a model's table comes from, according to the query's plan.
//!
//! A column comes from those from which its value is computed, including those that decide between values (`CASE`).
//! Columns by which rows are joined, filtered, grouped or ordered do not count, unless they occur in its expression.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, Unnest};

use super::bound::BoundModel;
use super::{TransformError, explain, reading_session, select, session};
use crate::catalog::{Problem, Problems, VERSIONS};

/// Stack that is added for deep plans, in bytes.
const STACK_BYTES: usize = 4 << 20;

/// A column that a model reads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// Whether it is of a raw table.
    pub is_raw: bool,
    /// The source, or the table of another model.
    pub table: String,
    /// The column, and the fields inside it.
    pub path: Vec<String>,
}

/// `raw.fleet_trips.startAddress.id`, or `fleet_trips.vehicle_id` for a table.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_raw {
            f.write_str("raw.")?;
        }
        write!(f, "{}.{}", self.table, self.path.join("."))
    }
}

/// What a column comes from.
pub type Origins = BTreeSet<Origin>;

/// The origins of each column of a model's table, by its name. Constants, `count(*)` and the like have none.
pub type Lineage = BTreeMap<String, Origins>;

/// The origins of each column of a model's table.
///
/// # Errors
/// [`TransformError::Model`] if the query cannot be planned, which [`BoundModel::bind`] would have found.
pub async fn lineage(bound: &BoundModel) -> Result<Lineage, TransformError> {
    let model = &bound.model;
    let wrong = |error| {
        let found = explain(model, &error).into_iter();
        let found = found.map(|(place, reason)| Problem::new(&model.file, place, &reason));
        let unknown = "the query cannot be planned";
        let unknown = || Problem::new(&model.file, model.place_of_query(), unknown).into();
        TransformError::Model(Problems::new(found).unwrap_or_else(unknown))
    };
    let context = reading_session(&bound.inputs).map_err(wrong)?;
    let frame = select(&context, &model.sql).await.map_err(wrong)?;
    let plan = frame.logical_plan();
    let names = plan.schema().fields().iter().map(|it| it.name().clone());
    let origins = origins(plan).map_err(wrong)?;
    Ok(names.zip(origins).collect())
}

/// The origins of each column of a plan, in order.
pub(super) fn origins(plan: &LogicalPlan) -> Result<Vec<Origins>> {
    stacker::maybe_grow(STACK_BYTES / 4, STACK_BYTES, || of_plan(plan))
}

/// A plan that another one reads, with the origins of its columns.
type Below<'a> = Vec<(&'a DFSchema, Vec<Origins>)>;

fn of_plan(plan: &LogicalPlan) -> Result<Vec<Origins>> {
    if let LogicalPlan::TableScan(scan) = plan {
        let is_raw = scan.table_name.schema() == Some(session::RAW);
        let name = scan.table_name.table();
        let source = name.strip_suffix(VERSIONS).filter(|_| is_raw);
        let of = |name: &String| Origin {
            is_raw,
            table: source.unwrap_or(scan.table_name.table()).to_string(),
            path: vec![name.clone()],
        };
        let names = scan.projected_schema.fields().iter();
        return Ok(names.map(|it| Origins::from([of(it.name())])).collect());
    }
    let inputs = plan.inputs();
    let below: Below<'_> = inputs
        .iter()
        .map(|input| Ok((input.schema().as_ref(), origins(input)?)))
        .collect::<Result<_>>()?;
    let count = plan.schema().fields().len();
    Ok(match plan {
        LogicalPlan::Projection(projection) => of_all(&projection.expr, &below)?,
        LogicalPlan::Distinct(Distinct::On(distinct)) => of_all(&distinct.select_expr, &below)?,
        LogicalPlan::Aggregate(aggregate) => {
            let groups = grouping_set_to_exprlist(&aggregate.group_expr)?;
            let mut all = of_all(groups, &below)?;
            // Grouping sets have an additional column, which no query names.
            all.resize(
                count.saturating_sub(aggregate.aggr_expr.len()),
                Origins::new(),
            );
            all.extend(of_all(&aggregate.aggr_expr, &below)?);
            all
        }
        LogicalPlan::Window(window) => {
            let of_windows = of_all(&window.window_expr, &below)?;
            let all = below.into_iter().flat_map(|(_, found)| found);
            all.chain(of_windows).collect()
        }
        LogicalPlan::Union(_) => column_by_column(count, below),
        LogicalPlan::RecursiveQuery(query) => {
            let mut all = column_by_column(count, below);
            // It reads itself under its name.
            let is_other = |origin: &Origin| origin.is_raw || origin.table != query.name;
            all.iter_mut().for_each(|it| it.retain(is_other));
            all
        }
        LogicalPlan::Unnest(unnest) => of_unnest(unnest, &below),
        // The other operators pass rows on unchanged. The right side of a semi join has no columns in the result.
        _ => {
            let all = below.into_iter().flat_map(|(_, found)| found);
            let mut all: Vec<Origins> = all.take(count).collect();
            all.resize(count, Origins::new());
            all
        }
    })
}

/// The origins of rows that come from all inputs.
fn column_by_column(count: usize, below: Below<'_>) -> Vec<Origins> {
    let mut all = vec![Origins::new(); count];
    for (_, found) in below {
        for (sum, one) in all.iter_mut().zip(found) {
            sum.extend(one);
        }
    }
    all
}

/// A list becomes rows of its items, an object columns of its fields.
fn of_unnest(unnest: &Unnest, below: &Below<'_>) -> Vec<Origins> {
    let Some((schema, found)) = below.first() else {
        return Vec::new();
    };
    let names = unnest.schema.fields().iter();
    let of = |(name, at): (&String, &usize)| {
        let origins = found.get(*at).cloned().unwrap_or_default();
        if !unnest.struct_type_columns.contains(at) {
            return origins;
        }
        let object = format!("{}.", schema.field(*at).name());
        match name.strip_prefix(&object) {
            Some(field) => within(origins, &[field.to_string()]),
            None => origins,
        }
    };
    names
        .map(|field| field.name())
        .zip(&unnest.dependency_indices)
        .map(of)
        .collect()
}

fn of_all<'a>(
    exprs: impl IntoIterator<Item = &'a Expr>,
    below: &Below<'_>,
) -> Result<Vec<Origins>> {
    let all = exprs.into_iter();
    all.map(|expr| of_expr(expr, below)).collect()
}

/// The origins of all columns in an expression, with their fields.
fn of_expr(expr: &Expr, below: &Below<'_>) -> Result<Origins> {
    let mut found = Origins::new();
    expr.apply(|part| {
        match part {
            Expr::Column(column) => found.extend(of_column(column, below)),
            Expr::ScalarSubquery(query) => {
                found.extend(origins(&query.subquery)?.into_iter().flatten());
            }
            part => {
                let Some((column, path)) = field_of(part) else {
                    return Ok(TreeNodeRecursion::Continue);
                };
                found.extend(within(of_column(column, below), &path));
                return Ok(TreeNodeRecursion::Jump);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// A column and the path inside it, if an expression is just that: `item['location']['latitude']`.
fn field_of(expr: &Expr) -> Option<(&Column, Vec<String>)> {
    match expr {
        Expr::Column(column) => Some((column, Vec::new())),
        Expr::ScalarFunction(ScalarFunction { func, args }) => {
            let (of, names) = args.split_first()?;
            let (column, mut path) = field_of(of)?;
            match func.name() {
                "get_field" => {
                    for name in names {
                        let Expr::Literal(name, _) = name else {
                            return None;
                        };
                        path.push(name.try_as_str()??.to_string());
                    }
                }
                // An item of a list stands for all of them.
                "array_element" => {}
                _ => return None,
            }
            Some((column, path))
        }
        _ => None,
    }
}

/// Fields of these.
fn within(origins: Origins, path: &[String]) -> Origins {
    let of = |mut origin: Origin| {
        origin.path.extend_from_slice(path);
        origin
    };
    origins.into_iter().map(of).collect()
}

fn of_column(column: &Column, below: &Below<'_>) -> Origins {
    let found = below.iter().find_map(|(schema, found)| {
        let at = schema.maybe_index_of_column(column)?;
        found.get(at).cloned()
    });
    found.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    const SOURCES: &str = r#"
[trips]
description = "d"
kind = "snapshot"
endpoint = "/trips"
rate_limit = "5/s"
schema = """
  id VARCHAR, vehicle STRUCT<id VARCHAR, name VARCHAR>, metres DOUBLE, millilitres DOUBLE, at VARCHAR,
  stops ARRAY<STRUCT<place STRUCT<lat DOUBLE, lon DOUBLE>, kind VARCHAR>>, tags ARRAY<VARCHAR>
"""
[cars]
description = "d"
kind = "snapshot"
endpoint = "/cars"
rate_limit = "5/s"
schema = "id VARCHAR, name VARCHAR, fuel VARCHAR"
"#;

    /// The origins of the columns of the last of these queries: `a: raw.x.y, raw.x.z; b: `.
    async fn lines(queries: &[&str]) -> String {
        let mut files = vec![("f/sources.toml".to_string(), SOURCES.to_string())];
        for (number, sql) in queries.iter().enumerate() {
            let text = format!("/*---\ndescription = \"d\"\n---*/\n{sql}");
            files.push((format!("f/m{number}.sql"), text));
        }
        let catalog = Catalog::from_files("test", &files).unwrap();
        let last = format!("m{}", queries.len() - 1);
        let model = catalog.model(&last).unwrap();
        let bound = BoundModel::bind(&catalog, model).await.unwrap();
        let lineage = lineage(&bound).await.unwrap();
        let line = |(name, origins): (String, Origins)| {
            let origins: Vec<String> = origins.iter().map(ToString::to_string).collect();
            format!("{name}: {}", origins.join(", "))
        };
        lineage.into_iter().map(line).collect::<Vec<_>>().join("; ")
    }

    #[tokio::test]
    async fn columns_come_from_what_makes_their_values() {
        for (queries, expected) in [
            // Fields of objects; filters and orders do not count.
            (
                &[
                    "SELECT vehicle['name'] AS v, upper(id) AS i, 1 AS one FROM raw.trips WHERE metres > 1 ORDER BY at",
                ][..],
                "i: raw.trips.id; one: ; v: raw.trips.vehicle.name",
            ),
            // A join, with an alias for each side, and CASE, which decides by another column.
            (
                &[
                    "SELECT c.name AS name, CASE WHEN t.metres > 0 THEN t.millilitres ELSE NULL END AS ml, \
                   coalesce(t.vehicle['name'], c.name) AS best \
                   FROM raw.trips AS t LEFT JOIN raw.cars AS c ON c.id = t.vehicle['id']",
                ],
                "best: raw.cars.name, raw.trips.vehicle.name; ml: raw.trips.metres, raw.trips.millilitres; name: raw.cars.name",
            ),
            // The key of USING is that of the first table.
            (
                &["SELECT id, fuel FROM raw.trips JOIN raw.cars USING (id)"],
                "fuel: raw.cars.fuel; id: raw.trips.id",
            ),
            (
                &["SELECT id AS a FROM raw.trips UNION ALL SELECT name AS b FROM raw.cars"],
                "a: raw.cars.name, raw.trips.id",
            ),
            // Unnested lists, of objects and of texts, through a subquery.
            (
                &["SELECT id, item['place']['lat'] AS lat, tag FROM \
                   (SELECT id, unnest(stops) AS item, unnest(tags) AS tag FROM raw.trips)"],
                "id: raw.trips.id; lat: raw.trips.stops.place.lat; tag: raw.trips.tags",
            ),
            (
                &["SELECT stops[1]['kind'] AS first_kind FROM raw.trips"],
                "first_kind: raw.trips.stops.kind",
            ),
            // Sums and counts, groups, HAVING, windows.
            (
                &[
                    "SELECT vehicle['id'] AS v, sum(metres) AS m, count(*) AS n, sum(metres) / sum(millilitres) AS r \
                   FROM raw.trips GROUP BY vehicle['id'] HAVING count(id) > 1",
                ],
                "m: raw.trips.metres; n: ; r: raw.trips.metres, raw.trips.millilitres; v: raw.trips.vehicle.id",
            ),
            (
                &[
                    "SELECT id, row_number() OVER (PARTITION BY vehicle['id'] ORDER BY at) AS n FROM raw.trips",
                ],
                "id: raw.trips.id; n: raw.trips.at, raw.trips.vehicle.id",
            ),
            (
                &[
                    "SELECT id, fuel, sum(n) AS n FROM (SELECT id, fuel, 1 AS n, name FROM raw.cars) GROUP BY ROLLUP (id, fuel)",
                ],
                "fuel: raw.cars.fuel; id: raw.cars.id; n: ",
            ),
            // Common table expressions, subqueries as values and as conditions, DISTINCT ON.
            (
                &["WITH c AS (SELECT id, name AS title FROM raw.cars) \
                   SELECT DISTINCT ON (t.id) t.id AS id, (SELECT max(fuel) FROM raw.cars) AS f, title \
                   FROM raw.trips AS t JOIN c ON c.id = t.id WHERE t.id IN (SELECT name FROM raw.cars)"],
                "f: raw.cars.fuel; id: raw.trips.id; title: raw.cars.name",
            ),
            // A model of models has the columns of their tables as origins.
            (
                &[
                    "SELECT id, metres / 1000 AS km FROM raw.trips",
                    "SELECT m0.*, upper(m0.id) || c.name AS label FROM m0 JOIN raw.cars AS c ON c.id = m0.id",
                ],
                "id: m0.id; km: m0.km; label: m0.id, raw.cars.name",
            ),
        ] {
            assert_eq!(lines(queries).await, expected, "{queries:?}");
        }
    }
}
