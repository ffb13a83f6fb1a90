//! Renaming a column of a model's table, also in all models that read it.
//!
//! A model that passes the column on under its own name passes it on under the new one; one that gives it a name with AS
//! keeps that. What was edited is bound before it is proposed: a rename that a model would not survive is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, JoinConstraint, JoinOperator, OrderByKind, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, Statement as SqlStatement, TableFactor,
    TableWithJoins, Visit, Visitor,
};

use super::front_matter::{self, Slot};
use super::hover::word_at;
use super::resolve::resolve;
use super::scope::Code;
use super::workspace::Workspace;
use crate::catalog::{Model, Place, TestKind};
use crate::transform::BoundModel;

/// Edits by file, `<family>/<file>`: bytes, and what stands there then.
pub(super) type Edits = BTreeMap<String, Vec<(Range<usize>, String)>>;

/// A column that can be renamed.
pub(super) struct Renamed {
    pub(super) name: String,
    /// Where it is named.
    pub(super) place: Range<usize>,
}

/// The column of the model's table that an offset names: in the outermost SELECT, or in the front matter.
pub(super) async fn column_at(
    workspace: &Workspace,
    path: &str,
    text: &str,
    offset: usize,
) -> Option<Renamed> {
    let model = workspace.model_of(path)?;
    let (place, name) = word_at(text, offset)?;
    let is_in_front = front_matter::extent(text).is_some_and(|it| it.contains(&offset));
    let is_named = match is_in_front {
        true => front_matter::slot(text, place.end) == Some(Slot::Column),
        false => {
            let named = model.place_of_column(name).bytes(text);
            named.start <= place.start && place.end <= named.end
        }
    };
    let columns = &workspace.bound(&model.name)?.contract.columns;
    let is_column = columns.iter().any(|column| column.name == name);
    let name = name.to_string();
    (is_named && is_column).then_some(Renamed { name, place })
}

/// The edits that give a column another name.
///
/// # Errors
/// Why it cannot be renamed.
pub(super) async fn rename(
    workspace: &mut Workspace,
    path: &str,
    text: &str,
    offset: usize,
    new: &str,
) -> Result<Edits, String> {
    let is_name = new.starts_with(|c: char| c.is_ascii_alphabetic())
        && new.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name {
        return Err(format!(
            "`{new}` is not the name of a column: use letters, digits and `_`"
        ));
    }
    let column = column_at(workspace, path, text, offset).await;
    let Some(Renamed { name: old, .. }) = column else {
        return Err("only columns of the model's table can be renamed".into());
    };
    let first = workspace
        .model_of(path)
        .ok_or("the model cannot be read")?
        .clone();
    let catalog = workspace.catalog().clone();
    let is_above = |model: &Model| {
        model.name == first.name
            || catalog
                .upstream_of(model)
                .iter()
                .any(|it| it.name == first.name)
    };
    let affected: Vec<Model> = catalog
        .models()
        .filter(|it| is_above(it))
        .cloned()
        .collect();
    // Texts may have changed since the server last had time to bind them.
    for model in &affected {
        workspace.bind(&model.name).await;
    }
    let mut edits = Edits::new();
    // The tables whose column has the new name.
    let mut tables: BTreeSet<String> = BTreeSet::new();
    let mut waiting: Vec<&Model> = affected.iter().collect();
    waiting.sort_by_key(|model| catalog.upstream_of(model).len());
    for model in waiting {
        let Some(path) = workspace.path_of_file(&model.file) else {
            continue;
        };
        // The versions that are made of a model stand in its file.
        let Some(text) = workspace
            .text(&path)
            .map(String::from)
            .filter(|_| path.ends_with(&format!("/{}.sql", model.name)))
        else {
            continue;
        };
        let is_first = model.name == first.name;
        let query = parsed(&model.sql).ok_or_else(|| broken(model))?;
        let mut walk = Walk::new(&tables, &old, new);
        let passes_on = match is_first {
            true => walk.define(&query),
            false => walk.query(&query, &mut Vec::new()),
        };
        if let Some(reason) = walk.refused {
            return Err(format!("{}: {reason}", model.name));
        }
        let mut found: Vec<(Range<usize>, String)> = Vec::new();
        for (place, text_then, is_sure) in walk.edits {
            let bytes = place.bytes(&text);
            let code = Code::of(&text);
            let chain = [old.clone()];
            // Where an input has a column of the name, that is meant.
            if is_sure
                || resolve(workspace, &code, bytes.start, &chain)
                    .await
                    .is_none()
            {
                found.push((bytes, text_then));
            }
        }
        if passes_on {
            let mut own = BTreeSet::from([model.name.clone()]);
            own.extend(model.history_table());
            found.extend(of_front_matter(model, &text, &own, &old, new));
            tables.extend(own);
            let tests = format!("{}/tests/{}.expected.csv", model.family, model.name);
            if let Some(edit) = workspace
                .read(&tests)
                .and_then(|it| of_header(&it, &old, new))
            {
                edits.insert(tests, vec![edit]);
            }
        } else if is_first {
            return Err(format!(
                "`{old}` comes from `*`: name the column to rename it"
            ));
        }
        if !found.is_empty() {
            found.sort_by_key(|(bytes, _)| bytes.start);
            found.dedup();
            edits.insert(path, found);
        }
    }
    check(workspace, &affected, &tables, &edits, &old, new).await?;
    Ok(edits)
}

fn broken(model: &Model) -> String {
    format!("correct the problems of {} first", model.name)
}

fn parsed(sql: &str) -> Option<Box<Query>> {
    let statement = DFParser::parse_sql(sql).ok()?.pop_front()?;
    match statement {
        Statement::Statement(statement) => match *statement {
            SqlStatement::Query(query) => Some(query),
            _ => None,
        },
        _ => None,
    }
}

/// Whether all models bind after the edits, with the same columns but for the one.
async fn check(
    workspace: &mut Workspace,
    affected: &[Model],
    tables: &BTreeSet<String>,
    edits: &Edits,
    old: &str,
    new: &str,
) -> Result<(), String> {
    let mut changes = BTreeMap::new();
    for (path, edits) in edits.iter().filter(|(path, _)| path.ends_with(".sql")) {
        let mut text = workspace.text(path).unwrap_or_default().to_string();
        for (bytes, new) in edits.iter().rev() {
            text.replace_range(bytes.clone(), new);
        }
        changes.insert(path.clone(), text);
    }
    let before: BTreeMap<&str, Vec<String>> = affected
        .iter()
        .filter_map(|model| {
            let columns = &workspace.bound(&model.name)?.contract.columns;
            let is_renamed = tables.contains(&model.name);
            let name = |name: &String| match is_renamed && name == old {
                true => new.to_string(),
                false => name.clone(),
            };
            Some((
                model.name.as_str(),
                columns.iter().map(|it| name(&it.name)).collect(),
            ))
        })
        .collect();
    let checked = workspace
        .check_with(&changes)
        .map_err(|error| error.to_string())?;
    let catalog = checked.catalog;
    let mut known: BTreeMap<String, Arc<BoundModel>> = BTreeMap::new();
    for model in affected {
        let model = catalog.model(&model.name).ok_or_else(|| broken(model))?;
        for model in catalog.upstream_of(model).into_iter().chain([model]) {
            if known.contains_key(&model.name) {
                continue;
            }
            let bound = BoundModel::bind_after(&catalog, model, &known).await;
            let bound = bound.map_err(|error| format!("`{old}` cannot become `{new}`: {error}"))?;
            known.insert(model.name.clone(), Arc::new(bound));
        }
        let columns = known.get(&model.name).map(|it| &it.contract.columns);
        let columns = columns.into_iter().flatten().map(|it| it.name.clone());
        if before
            .get(model.name.as_str())
            .is_some_and(|before| !columns.eq(before.iter().cloned()))
        {
            return Err(format!(
                "`{old}` cannot become `{new}`: {} would get other columns",
                model.name
            ));
        }
    }
    Ok(())
}

/// Edits of the front matter: where columns are named, and in tests that are queries.
fn of_front_matter(
    model: &Model,
    text: &str,
    own: &BTreeSet<String>,
    old: &str,
    new: &str,
) -> Vec<(Range<usize>, String)> {
    let Some(extent) = front_matter::extent(text) else {
        return Vec::new();
    };
    let quoted = format!("\"{old}\"");
    let front = &text[extent.clone()];
    let named = front.match_indices(&quoted).map(|(at, _)| {
        let start = extent.start + at + 1;
        start..start + old.len()
    });
    let is_column =
        |bytes: &Range<usize>| front_matter::slot(text, bytes.end) == Some(Slot::Column);
    let mut edits: Vec<(Range<usize>, String)> = named
        .filter(is_column)
        .map(|bytes| (bytes, new.to_string()))
        .collect();
    for test in &model.front_matter.tests {
        let TestKind::Sql(sql) = &test.kind else {
            continue;
        };
        let (Some(at), Some(query)) = (front.find(sql.as_str()), parsed(sql)) else {
            continue;
        };
        let mut walk = Walk::new(own, old, new);
        walk.query(&query, &mut Vec::new());
        for (place, new, _) in walk.edits {
            let bytes = place.bytes(sql);
            let begin = extent.start + at;
            edits.push((begin + bytes.start..begin + bytes.end, new));
        }
    }
    edits
}

/// The edit of the head of a file of expected rows.
fn of_header(csv: &str, old: &str, new: &str) -> Option<(Range<usize>, String)> {
    let line = csv.lines().next()?;
    let mut begin = 0;
    for cell in line.split(',') {
        let name = cell.trim_start_matches('\u{feff}').trim_matches('"');
        if name == old {
            let start = begin + cell.find(name)?;
            return Some((start..start + name.len(), new.to_string()));
        }
        begin += cell.len() + 1;
    }
    None
}

/// What a SELECT reads: by which name, and whether it has the renamed column.
#[derive(Debug, Clone)]
struct Relation {
    alias: String,
    is_renamed: bool,
}

/// Follows a renamed column through a query.
struct Walk<'a> {
    tables: &'a BTreeSet<String>,
    old: &'a str,
    new: &'a str,
    /// Queries that WITH names, and whether they have the column.
    named: Vec<(String, bool)>,
    /// Places, what stands there then, and whether that is sure whatever the inputs are.
    edits: Vec<(Place, String, bool)>,
    refused: Option<String>,
}

impl<'a> Walk<'a> {
    fn new(tables: &'a BTreeSet<String>, old: &'a str, new: &'a str) -> Self {
        Self {
            tables,
            old,
            new,
            named: Vec::new(),
            edits: Vec::new(),
            refused: None,
        }
    }

    fn rename(&mut self, name: &Ident) {
        let new = match name.quote_style {
            Some(quote) => format!("{quote}{}{quote}", self.new),
            None => self.new.to_string(),
        };
        self.edits.push((Place::of_span(name.span), new, true));
    }

    /// Renames the column where the outermost SELECT gives it its name. False if it does not.
    fn define(&mut self, query: &Query) -> bool {
        let mut body = &*query.body;
        while let SetExpr::SetOperation { left, .. } = body {
            body = left;
        }
        let select = match body {
            SetExpr::Select(select) => select,
            SetExpr::Query(query) => return self.define(query),
            _ => return false,
        };
        let mut is_found = false;
        for item in &select.projection {
            match item {
                SelectItem::ExprWithAlias { alias, .. } if alias.value == self.old => {
                    self.rename(alias);
                    is_found = true;
                }
                SelectItem::UnnamedExpr(expr) => {
                    if let Some(name) = last_name(expr).filter(|it| it.value == self.old) {
                        let new = format!("{name} AS {}", self.new);
                        self.edits.push((Place::of_span(name.span), new, true));
                        is_found = true;
                    }
                }
                _ => {}
            }
        }
        let mut names = Names::default();
        // Nothing breaks the visit off.
        let _ = select.group_by.visit(&mut names);
        let _ = select.having.visit(&mut names);
        let _ = select.qualify.visit(&mut names);
        let mut later: Vec<&Ident> = order_names(query);
        later.extend(
            names
                .idents
                .iter()
                .filter_map(|path| match path.as_slice() {
                    [name] => Some(name),
                    _ => None,
                }),
        );
        for name in later.into_iter().filter(|it| it.value == self.old) {
            let place = Place::of_span(name.span);
            self.edits.push((place, self.new.to_string(), false));
        }
        is_found
    }

    /// Renames the column in a query that reads it; gives whether its result has it.
    fn query(&mut self, query: &Query, outer: &mut Vec<Vec<Relation>>) -> bool {
        let count = self.named.len();
        for table in query.with.iter().flat_map(|with| &with.cte_tables) {
            let has = self.query(&table.query, outer);
            let has = has && table.alias.columns.is_empty();
            self.named.push((table.alias.name.value.clone(), has));
        }
        let (has, keeps, relations) = self.body(&query.body, outer);
        let in_scope = relations.iter().any(|it| it.is_renamed);
        for name in order_names(query) {
            if name.value == self.old && (has || in_scope) && !keeps {
                self.rename(name);
            }
        }
        outer.push(relations);
        if let Some(order) = &query.order_by {
            self.names_in(order, outer, true);
        }
        outer.pop();
        self.named.truncate(count);
        has
    }

    /// Whether the result has the renamed column, whether it has another of the old name, and what is read.
    fn body(
        &mut self,
        body: &SetExpr,
        outer: &mut Vec<Vec<Relation>>,
    ) -> (bool, bool, Vec<Relation>) {
        match body {
            SetExpr::Select(select) => self.select(select, outer),
            SetExpr::Query(query) => (self.query(query, outer), false, Vec::new()),
            SetExpr::SetOperation { left, right, .. } => {
                let (has, keeps, _) = self.body(left, outer);
                self.body(right, outer);
                (has, keeps, Vec::new())
            }
            _ => (false, false, Vec::new()),
        }
    }

    fn select(
        &mut self,
        select: &Select,
        outer: &mut Vec<Vec<Relation>>,
    ) -> (bool, bool, Vec<Relation>) {
        let mut relations = Vec::new();
        for table in &select.from {
            self.tables(table, outer, &mut relations);
        }
        outer.push(relations.clone());
        for table in &select.from {
            self.constraints(table, outer);
        }
        let (mut has, mut keeps) = (false, false);
        for item in &select.projection {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    let count = self.edits.len();
                    self.names_in(expr, outer, false);
                    has |= last_name(expr).is_some() && self.edits.len() > count;
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    self.names_in(expr, outer, false);
                    keeps |= alias.value == self.old;
                }
                SelectItem::Wildcard(options) => {
                    has |= relations.iter().any(|it| it.is_renamed);
                    self.refuse_named(options);
                }
                SelectItem::QualifiedWildcard(of, options) => {
                    if let SelectItemQualifiedWildcardKind::ObjectName(name) = of {
                        let name = name.to_string();
                        has |= relations.iter().any(|it| it.is_renamed && it.alias == name);
                    }
                    self.refuse_named(options);
                }
                _ => {}
            }
        }
        self.names_in(&select.selection, outer, false);
        self.names_in(&select.group_by, outer, false);
        self.names_in(&select.having, outer, false);
        self.names_in(&select.qualify, outer, false);
        self.names_in(&select.named_window, outer, false);
        self.names_in(&select.distinct, outer, false);
        outer.pop();
        (has, keeps, relations)
    }

    /// `* EXCEPT (old)`: what is left out is then named otherwise.
    fn refuse_named(&mut self, options: &impl std::fmt::Display) {
        let text = options.to_string();
        let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
        if words.any(|word| word == self.old) {
            self.refused = Some(format!(
                "it names `{}` beside `*`; write the columns out",
                self.old
            ));
        }
    }

    fn tables(
        &mut self,
        table: &TableWithJoins,
        outer: &mut Vec<Vec<Relation>>,
        relations: &mut Vec<Relation>,
    ) {
        let joined = table.joins.iter().map(|join| &join.relation);
        for factor in [&table.relation].into_iter().chain(joined) {
            match factor {
                TableFactor::Table { name, alias, .. } => {
                    let name = name.to_string().replace('"', "");
                    let named = self.named.iter().rev().find(|(it, _)| *it == name);
                    let is_renamed = match named {
                        Some((_, has)) => *has,
                        None => self.tables.contains(&name),
                    };
                    let alias = alias.as_ref().map(|it| it.name.value.clone());
                    relations.push(Relation {
                        alias: alias.unwrap_or(name),
                        is_renamed,
                    });
                }
                TableFactor::Derived {
                    subquery, alias, ..
                } => {
                    let is_renamed = self.query(subquery, outer);
                    let alias = alias.as_ref().map(|it| it.name.value.clone());
                    relations.push(Relation {
                        alias: alias.unwrap_or_default(),
                        is_renamed,
                    });
                }
                TableFactor::NestedJoin {
                    table_with_joins, ..
                } => self.tables(table_with_joins, outer, relations),
                _ => {}
            }
        }
    }

    /// The conditions of joins.
    fn constraints(&mut self, table: &TableWithJoins, outer: &mut Vec<Vec<Relation>>) {
        for join in &table.joins {
            if let TableFactor::NestedJoin {
                table_with_joins, ..
            } = &join.relation
            {
                self.constraints(table_with_joins, outer);
            }
            match constraint(&join.join_operator) {
                Some(JoinConstraint::On(condition)) => self.names_in(condition, outer, false),
                Some(JoinConstraint::Using(names)) => {
                    let is_named = names.iter().any(|name| name.to_string() == self.old);
                    let relations = outer.last().into_iter().flatten();
                    if is_named && relations.clone().any(|it| it.is_renamed) {
                        self.refused = Some(format!("it joins USING ({}); write ON", self.old));
                    }
                }
                _ => {}
            }
        }
    }

    /// Renames the column where a part of a query names it. `only_qualified` passes over names without a table.
    fn names_in(
        &mut self,
        part: &impl Visit,
        outer: &mut Vec<Vec<Relation>>,
        only_qualified: bool,
    ) {
        let mut names = Names::default();
        // Nothing breaks the visit off.
        let _ = part.visit(&mut names);
        for path in &names.idents {
            match path.as_slice() {
                [name] if name.value == self.old && !only_qualified => {
                    let relations = outer.last().into_iter().flatten();
                    if relations.clone().any(|it| it.is_renamed) {
                        self.rename(name);
                    }
                }
                [table, name] if name.value == self.old => {
                    let mut all = outer.iter().rev().flatten();
                    let relation = all.find(|it| it.alias == table.value);
                    if relation.is_some_and(|it| it.is_renamed) {
                        self.rename(name);
                    }
                }
                _ => {}
            }
        }
        for query in &names.queries {
            self.query(query, outer);
        }
    }
}

fn constraint(operator: &JoinOperator) -> Option<&JoinConstraint> {
    match operator {
        JoinOperator::Join(it)
        | JoinOperator::Inner(it)
        | JoinOperator::Left(it)
        | JoinOperator::LeftOuter(it)
        | JoinOperator::Right(it)
        | JoinOperator::RightOuter(it)
        | JoinOperator::FullOuter(it)
        | JoinOperator::Semi(it)
        | JoinOperator::LeftSemi(it)
        | JoinOperator::RightSemi(it)
        | JoinOperator::Anti(it)
        | JoinOperator::LeftAnti(it)
        | JoinOperator::RightAnti(it) => Some(it),
        _ => None,
    }
}

/// The name that an expression gives its column by itself: `a` or `t.a`.
fn last_name(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(path) => path.last(),
        _ => None,
    }
}

/// What ORDER BY names without a table.
fn order_names(query: &Query) -> Vec<&Ident> {
    let Some(order) = &query.order_by else {
        return Vec::new();
    };
    let OrderByKind::Expressions(exprs) = &order.kind else {
        return Vec::new();
    };
    let names = exprs.iter().filter_map(|it| match &it.expr {
        Expr::Identifier(name) => Some(name),
        _ => None,
    });
    names.collect()
}

/// The names in a part of a query, and the queries in it, whose names are their own.
#[derive(Default)]
struct Names {
    idents: Vec<Vec<Ident>>,
    queries: Vec<Query>,
    depth: usize,
}

impl Visitor for Names {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if self.depth == 0 {
            self.queries.push(query.clone());
        }
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            _ if self.depth > 0 => {}
            Expr::Identifier(name) => self.idents.push(vec![name.clone()]),
            Expr::CompoundIdentifier(path) => self.idents.push(path.clone()),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A query in which the column `a` of the table `m` is `b`, and whether its result has it; or why that cannot be.
    fn renamed(sql: &str, is_first: bool) -> String {
        let tables = BTreeSet::from(["m".to_string()]);
        let query = parsed(sql).unwrap();
        let mut walk = Walk::new(&tables, "a", "b");
        let has = match is_first {
            true => walk.define(&query),
            false => walk.query(&query, &mut Vec::new()),
        };
        if let Some(reason) = walk.refused {
            return reason;
        }
        let edits = walk.edits.into_iter();
        let mut edits: Vec<_> = edits.map(|(at, new, _)| (at.bytes(sql), new)).collect();
        edits.sort_by_key(|(bytes, _)| bytes.start);
        edits.dedup();
        let mut text = sql.to_string();
        for (bytes, new) in edits.into_iter().rev() {
            text.replace_range(bytes, &new);
        }
        format!("{}{text}", if has { "+ " } else { "" })
    }

    #[test]
    fn columns_are_followed_through_queries() {
        for (sql, expected) in [
            ("SELECT a FROM m", "+ SELECT b FROM m"),
            (
                "SELECT a AS a FROM m ORDER BY a",
                "SELECT b AS a FROM m ORDER BY a",
            ),
            (
                "SELECT x.a, y.a AS c FROM m AS x JOIN n AS y ON x.a = y.a",
                "+ SELECT x.b, y.a AS c FROM m AS x JOIN n AS y ON x.b = y.a",
            ),
            ("SELECT a FROM raw.m", "SELECT a FROM raw.m"),
            (
                "SELECT * FROM m WHERE a > 1",
                "+ SELECT * FROM m WHERE b > 1",
            ),
            (
                "SELECT x.* FROM n AS x JOIN m ON true",
                "SELECT x.* FROM n AS x JOIN m ON true",
            ),
            (
                "WITH w AS (SELECT a, 1 AS i FROM m) SELECT sum(w.a) AS s FROM w GROUP BY i HAVING max(a) > 1 ORDER BY w.i",
                "WITH w AS (SELECT b, 1 AS i FROM m) SELECT sum(w.b) AS s FROM w GROUP BY i HAVING max(b) > 1 ORDER BY w.i",
            ),
            (
                "SELECT a FROM m UNION ALL SELECT a FROM n",
                "+ SELECT b FROM m UNION ALL SELECT a FROM n",
            ),
            (
                "SELECT a FROM n UNION ALL SELECT a FROM m",
                "SELECT a FROM n UNION ALL SELECT b FROM m",
            ),
            (
                "SELECT i FROM n WHERE EXISTS (SELECT 1 FROM o WHERE o.a = n.a) AND i IN (SELECT a FROM m)",
                "SELECT i FROM n WHERE EXISTS (SELECT 1 FROM o WHERE o.a = n.a) AND i IN (SELECT b FROM m)",
            ),
            (
                "SELECT (SELECT max(o.i) FROM o WHERE o.a = m.a) AS x FROM m",
                "SELECT (SELECT max(o.i) FROM o WHERE o.a = m.b) AS x FROM m",
            ),
            (
                "SELECT row_number() OVER (PARTITION BY a ORDER BY i) AS n, CASE WHEN a > 1 THEN \"a\" END AS c FROM m ORDER BY a",
                "SELECT row_number() OVER (PARTITION BY b ORDER BY i) AS n, CASE WHEN b > 1 THEN \"b\" END AS c FROM m ORDER BY b",
            ),
            (
                "SELECT i FROM m JOIN n USING (a)",
                "it joins USING (a); write ON",
            ),
            (
                "SELECT * EXCEPT (a) FROM m",
                "it names `a` beside `*`; write the columns out",
            ),
        ] {
            assert_eq!(renamed(sql, false), expected, "{sql}");
        }
        for (sql, expected) in [
            ("SELECT a FROM raw.x", "+ SELECT a AS b FROM raw.x"),
            (
                "SELECT t.a FROM raw.x AS t",
                "+ SELECT t.a AS b FROM raw.x AS t",
            ),
            (
                "SELECT f(x) AS a FROM raw.x ORDER BY a",
                "+ SELECT f(x) AS b FROM raw.x ORDER BY b",
            ),
            (
                "SELECT i AS a FROM x UNION SELECT a FROM y",
                "+ SELECT i AS b FROM x UNION SELECT a FROM y",
            ),
            ("SELECT * FROM raw.x", "SELECT * FROM raw.x"),
        ] {
            assert_eq!(renamed(sql, true), expected, "{sql}");
        }
        assert_eq!(
            of_header("\"c\",a,d\n1,2,3\n", "a", "b"),
            Some((4..5, "b".into()))
        );
        assert_eq!(of_header("c,d\na,2\n", "a", "b"), None);
    }
}
