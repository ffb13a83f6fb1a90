//! Expected tables, by convention: a column is the path of its field joined by `_`; instants are timestamps; lists,
//! tags and maps are JSON; a list that has a table of its own gives one row per item.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::answer::{is_closed, month_after, month_of};
use super::entities::Entity;
use super::{Anchor, Form, Instant, Kind, Object, Population, SURFACES, Surface, Table};
use crate::time::{DAY, Millis, parse_time, truth_time, wire_time};
use crate::truth::{Row, distinct};
use crate::world::World;

/// The tables of all surfaces.
pub(crate) fn tables() -> impl Iterator<Item = &'static str> {
    let mut seen = BTreeSet::new();
    SURFACES
        .iter()
        .flat_map(|surface| surface.tables.iter().map(|table| table.name.as_str()))
        .filter(move |name| seen.insert(*name))
}

/// The rows of a table for the whole days between two instants; none if no surface has it.
pub(crate) fn rows(world: &World, table: &str, from: Millis, to: Millis) -> Option<Vec<Row>> {
    let is_meant = |one: &&Table| one.name == table;
    let surface = SURFACES
        .iter()
        .find(|surface| surface.tables.iter().any(|one| is_meant(&one)))?;
    let tables = surface.tables.iter().filter(is_meant);
    Some(
        tables
            .flat_map(|table| surface.table_rows(world, table, from, to))
            .collect(),
    )
}

impl Surface {
    pub(super) fn table_rows(
        &self,
        world: &World,
        table: &Table,
        from: Millis,
        to: Millis,
    ) -> Vec<Row> {
        let mut rows = Vec::new();
        let reports = self.reports();
        let asked = reports.map_or(&[][..], |(_, values)| values);
        let each = self.each_of(world).into_iter();
        let each = each.filter(|each| each.as_ref().is_none_or(|each| table.is_of(each)));
        let whole = each.flat_map(|each| {
            let whole = self.whole(world, from, to, &self.series_of(each.as_deref()));
            whole.into_iter().map(move |(mut entity, window)| {
                entity.each.clone_from(&each);
                (entity, window)
            })
        });
        let whole = whole.flat_map(|(entity, window)| {
            let each = asked.iter().map(|value| Entity {
                asked: Some(value.clone()),
                ..entity.clone()
            });
            let mut each: Vec<Entity> = each.collect();
            if each.is_empty() {
                each.push(entity);
            }
            each.into_iter().map(move |entity| (entity, window))
        });
        for (entity, window) in whole {
            let record = self.record_of_start(world, &entity, window);
            let mut with = Row::new();
            for (path, column) in &table.with {
                let field = path.strip_prefix("each.");
                let found = field.and_then(|field| entity.each.as_ref()?.get(field));
                with.extend(found.map(|value| (column.clone(), value.clone())));
            }
            if let Some((day, _)) = entity.window {
                with.insert("date".to_owned(), wire_time(day).get(..10).into());
            }
            if let (Some(column), Some(owner)) = (&table.owner, &entity.owner) {
                with.insert(column.clone(), owner.named.id.as_str().into());
            }
            if let (Some((parameter, _)), Some(asked)) = (reports, &entity.asked) {
                let told = table
                    .with
                    .iter()
                    .filter(|(path, _)| *path == parameter.name);
                with.extend(told.map(|(_, column)| (column.clone(), asked.as_str().into())));
            }
            Descent {
                table,
                rows: &mut rows,
            }
            .descend(&record, &self.record, &table.of, "", &with);
        }
        distinct(rows)
    }

    /// Whether a field of its records is the time at which they were created.
    fn tells_birth(&self) -> bool {
        self.record.fields.iter().any(|field| {
            matches!(
                field.kind,
                Kind::Time {
                    of: Instant::Born,
                    plus: 0,
                    ..
                }
            )
        })
    }

    /// What an ETL that requested the days has seen in the end, with the windows of the requests.
    fn whole(
        &self,
        world: &World,
        from: Millis,
        to: Millis,
        series: &str,
    ) -> Vec<(Entity, (Millis, Millis))> {
        let window = (from, to);
        if matches!(self.population, Population::List { .. }) {
            // Of a list that looks back: that of the last day.
            let is_told = |entity: &Entity| {
                self.found.by != Anchor::Lately || entity.born >= world.span.end - DAY
            };
            return self
                .listed(world)
                .into_iter()
                .filter(is_told)
                .map(|entity| (entity, window))
                .collect();
        }
        let Some(thing) = self.counted_by() else {
            return Vec::new();
        };
        let owners = world.owners(thing);
        if !self.series().is_empty() {
            return owners
                .into_iter()
                .map(|owner| (Entity::thing(owner), window))
                .collect();
        }
        match (&self.population, self.found.by) {
            (Population::Report { .. }, _) => {
                let is_monthly = matches!(self.found.window, Some((.., Form::Month)));
                let days = (from..to).step_by(DAY as usize).map(|day| {
                    if is_monthly {
                        (month_of(day), month_after(month_of(day)))
                    } else {
                        (day, day + DAY)
                    }
                });
                let now = world.clock.now();
                let days: BTreeSet<(Millis, Millis)> = days
                    .filter(|(_, end)| !is_monthly || is_closed(*end, now))
                    .collect();
                let days = days.into_iter();
                days.flat_map(|day| {
                    owners.iter().filter_map(move |owner| {
                        Some((self.reported_of(world, owner, day.0, day.1)?, day))
                    })
                })
                .collect()
            }
            // A record that was created before the end of the days and has changed since their beginning is included,
            // however old it is and whenever it changed.
            (Population::Versions { within, .. }, Anchor::Updated) if self.tells_birth() => owners
                .iter()
                .flat_map(|owner| {
                    let born = (from.saturating_sub(*within), to);
                    self.found_of(world, owner, Anchor::Start, born, "")
                })
                .filter(|entity| entity.updated() >= from)
                .map(|entity| (entity, window))
                .collect(),
            // If nothing says when it was created, changes within the days count.
            (Population::Versions { .. }, Anchor::Updated) => owners
                .iter()
                .flat_map(|owner| self.found_of(world, owner, Anchor::Updated, (from, to), ""))
                .map(|entity| (entity, window))
                .collect(),
            // A row belongs to the day of its start, whatever other windows find it.
            _ => owners
                .iter()
                .flat_map(|owner| self.found_of(world, owner, Anchor::Start, (from, to), series))
                .map(|entity| (entity, window))
                .collect(),
        }
    }
}

impl Table {
    /// Whether it is of this record of another list.
    fn is_of(&self, each: &Value) -> bool {
        let is_one = |(field, values): &(String, Vec<String>)| {
            let found = each[field].as_str();
            found.is_some_and(|found| values.iter().any(|value| value == found))
        };
        self.only.iter().all(is_one) && !self.except.iter().any(is_one)
    }
}

/// On the way from records to the rows of a table.
struct Descent<'a> {
    table: &'a Table,
    rows: &'a mut Vec<Row>,
}

impl Descent<'_> {
    /// Descends into the lists of the table and writes a row for each innermost item. `prefix` is the path of the lists
    /// so far, `with` the values that their items pass to all rows below.
    fn descend(
        &mut self,
        record: &Value,
        shape: &Object,
        lists: &[String],
        prefix: &str,
        with: &Row,
    ) {
        let mut with = with.clone();
        for (path, column) in &self.table.with {
            for path in path.split('|') {
                let own = path
                    .strip_prefix(prefix)
                    .map(|rest| rest.trim_start_matches('.'));
                let Some(own) = own.filter(|own| !own.contains("[]")) else {
                    continue;
                };
                let found = leaf(record, shape, own);
                let is_missing = with.get(column).is_none_or(Value::is_null);
                if is_missing {
                    with.insert(column.clone(), found);
                }
            }
        }
        let Some((list, rest)) = lists.split_first() else {
            flatten(record, shape, "", self.table, &mut with);
            let said = self.table.say.iter();
            with.extend(said.map(|(column, value)| (column.clone(), value.as_str().into())));
            for [when, value, from, to] in &self.table.choose {
                let chosen = with.get(when).is_some_and(|found| found == value.as_str());
                let found = with.get(from).filter(|_| chosen).cloned();
                with.insert(to.clone(), found.unwrap_or_default());
            }
            for name in &self.table.typed {
                let value = with.get(name).cloned().unwrap_or_default();
                let number = value.as_f64().map_or(Value::Null, Value::from);
                with.insert(format!("{name}_number"), number);
                with.insert(format!("{name}_text"), value.as_str().into());
            }
            self.rows.push(with);
            return;
        };
        if let Some(values) = scalars(record, shape, list) {
            for value in values {
                let mut row = with.clone();
                let column = self.table.rename.iter().find(|(from, _)| from == "value");
                let column = column.map_or("value", |(_, name)| name);
                row.insert(column.to_owned(), value.clone());
                self.rows.push(row);
            }
            return;
        }
        let Some((items, inner)) = items(record, shape, list) else {
            return;
        };
        let prefix = if prefix.is_empty() {
            format!("{list}[]")
        } else {
            format!("{prefix}.{list}[]")
        };
        for item in items {
            self.descend(item, inner, rest, &prefix, &with);
        }
    }
}

/// The items of a list that holds no objects.
fn scalars<'a>(record: &'a Value, shape: &Object, name: &str) -> Option<&'a [Value]> {
    let field = shape.fields.iter().find(|field| field.name == name)?;
    match &field.kind {
        Kind::List(_, _, item) if !matches!(**item, Kind::Object(_)) => {
            Some(record.get(name)?.as_array()?.as_slice())
        }
        _ => None,
    }
}

/// The items of the list of objects at a path, and their shape.
fn items<'a>(
    record: &'a Value,
    shape: &'a Object,
    path: &str,
) -> Option<(&'a [Value], &'a Object)> {
    let (mut value, mut shape) = (record, shape);
    let mut steps = path.split('.').peekable();
    while let Some(step) = steps.next() {
        let field = shape.fields.iter().find(|field| field.name == step)?;
        value = value.get(step)?;
        match (&field.kind, steps.peek()) {
            (Kind::Object(inner), Some(_)) => shape = inner,
            (Kind::During(inner), None) => return Some((value.as_array()?, inner)),
            (Kind::List(_, _, item), None) => match item.as_ref() {
                Kind::Object(inner) => return Some((value.as_array()?, inner)),
                _ => return None,
            },
            _ => return None,
        }
    }
    None
}

/// The value at a path, as a column holds it.
fn leaf(record: &Value, shape: &Object, path: &str) -> Value {
    let mut at = (record, shape);
    let mut steps = path.split('.').peekable();
    while let Some(step) = steps.next() {
        let Some(field) = at.1.fields.iter().find(|field| field.name == step) else {
            return Value::Null;
        };
        let Some(value) = at.0.get(step) else {
            return Value::Null;
        };
        match (&field.kind, steps.peek()) {
            (Kind::Object(inner), Some(_)) => at = (value, inner),
            (kind, _) => return column(value, kind),
        }
    }
    Value::Null
}

/// Writes the columns of an object into a row.
fn flatten(value: &Value, shape: &Object, prefix: &str, table: &Table, row: &mut Row) {
    for field in &shape.fields {
        let path = if prefix.is_empty() {
            field.name.clone()
        } else {
            format!("{prefix}.{}", field.name)
        };
        if table.drop.contains(&path) {
            continue;
        }
        let inner = value.get(&field.name).unwrap_or(&Value::Null);
        let is_json = table.json.contains(&path);
        match &field.kind {
            Kind::Object(object) if !is_json => {
                flatten(inner, object, &path, table, row);
                continue;
            }
            // A list of records that stays no JSON has a table of its own.
            Kind::List(_, _, item) if matches!(**item, Kind::Object(_)) && !is_json => continue,
            Kind::During(_) => continue,
            _ => {}
        }
        let renamed = table
            .rename
            .iter()
            .find(|(from, _)| *from == path)
            .map(|(_, name)| name.clone());
        let value = match inner.as_str().filter(|_| table.number.contains(&path)) {
            Some(text) => text.parse::<f64>().map_or(Value::Null, Value::from),
            None => column(inner, &field.kind),
        };
        let flat = table
            .flat
            .iter()
            .find_map(|flat| path.strip_prefix(flat)?.strip_prefix('.'));
        row.insert(
            renamed.unwrap_or_else(|| flat.unwrap_or(&path).replace('.', "_")),
            value,
        );
    }
}

/// A value as a column holds it.
fn column(value: &Value, kind: &Kind) -> Value {
    match (kind, value) {
        (Kind::Time { millis: true, .. }, Value::Number(number)) => number
            .as_i64()
            .map_or(Value::Null, |at| truth_time(at).into()),
        (Kind::Time { .. }, Value::String(text)) => {
            parse_time(text).map_or(Value::Null, |at| truth_time(at).into())
        }
        _ => value.clone(),
    }
}

impl World {
    /// Unknown parameters of requests for surfaces, as `path?name`: the live API ignores them silently, and a client
    /// that sends them does not get what it wants.
    pub fn unknown_parameters(&self, requests: &[crate::LoggedRequest]) -> Vec<String> {
        let mut unknown = BTreeSet::new();
        for request in requests {
            let Some((surface, _)) = Surface::at(&request.path) else {
                continue;
            };
            let names: Map<String, Value> = url::form_urlencoded::parse(request.query.as_bytes())
                .map(|(name, value)| (name.into_owned(), Value::from(value.into_owned())))
                .collect();
            for name in names.keys() {
                let window = surface
                    .found
                    .window
                    .as_ref()
                    .is_some_and(|(from, to, _)| name == from || name == to);
                let known = window
                    || surface.pages.cursor == Some(name)
                    || surface.pages.heeds_limit && name == "limit"
                    || surface.asks.iter().any(|parameter| parameter.name == *name);
                if !known {
                    unknown.insert(format!("{}?{name}", surface.path));
                }
            }
        }
        unknown.into_iter().collect()
    }
}
