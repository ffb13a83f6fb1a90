//! Answers requests: checks parameters, finds records, renders pages.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::entities::{Entity, Owner};
use super::{Anchor, Chooses, Form, Parameter, Population, Surface};
use crate::cursor::Position;
use crate::paging::{Call, Empty, Found, Next, Paging};
use crate::query::Refusal;
use crate::time::{DAY, HOUR, Millis, day_start, parse_day, wire_time};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The start of the month of an instant.
pub(super) fn month_of(at: Millis) -> Millis {
    let first = wire_time(at).get(..7).map(|month| format!("{month}-01"));
    first
        .and_then(|first| parse_day(&first))
        .map_or(at, day_start)
}

/// The start of the month after one.
pub(super) fn month_after(first: Millis) -> Millis {
    month_of(first + 32 * DAY)
}

/// Whether the report on a month is available: not while it is processed, for three days from its end. The service
/// refuses a month that is not over, too; here it is returned so far, for clients whose clock is ahead of the world's.
pub(super) fn is_closed(end: Millis, now: Millis) -> bool {
    !(end..end + 72 * HOUR).contains(&now)
}

impl Surface {
    /// The body of one page.
    pub(crate) fn answer(&self, call: &Call<'_>) -> Result<Value, Refusal> {
        for parameter in &self.asks {
            parameter.check(call)?;
        }
        let members = self.members(call)?;
        let asked = self.asked_report(call)?;
        let size = call.page_size(self.pages.size, self.pages.heeds_limit)?;
        if self.found.by == Anchor::Arrived {
            return self.feed(call, size, &members);
        }
        let window = self.window(call)?;
        let mut found = Vec::new();
        for each in self.each_asked(call)? {
            found.extend(self.entities(call, window, each)?);
        }
        found
            .iter_mut()
            .for_each(|entity| entity.asked.clone_from(&asked));
        let write = |entity: &Entity| self.record_with(call.world, entity, window, &members);
        let records: Vec<Value> = found
            .iter()
            .map(write)
            .filter(|record| self.is_chosen(call, record))
            .collect();
        if self.single {
            let mut body = self.body(call, records.into_iter().next().unwrap_or_default());
            if let (Some(_), Value::Object(members)) = (self.pages.cursor, &mut body) {
                let last = json!({ "endCursor": "", "hasNextPage": false });
                members.insert("pagination".to_owned(), last);
            }
            return Ok(body);
        }
        let Some(cursor) = self.pages.cursor else {
            return Ok(self.body(call, records.into()));
        };
        let page = call.list_page(Paging { cursor, free: &[] }, &records, size, Value::clone)?;
        if self.rows == ["data"] {
            return Ok(call.envelope(page, Empty::List));
        }
        let pagination = [
            ("endCursor", page.end_cursor.into()),
            ("hasNextPage", page.has_next.into()),
        ];
        let mut body = self.body(call, page.records.into());
        if let Value::Object(members) = &mut body {
            let pagination: Map<String, Value> = pagination
                .into_iter()
                .map(|(name, value): (&str, Value)| (name.to_owned(), value))
                .collect();
            members.insert("pagination".to_owned(), pagination.into());
        }
        Ok(body)
    }

    /// What arrived since the cursor, oldest first; without a cursor what arrives from now on. Endless.
    fn feed(&self, call: &Call<'_>, size: usize, members: &[&str]) -> Result<Value, Refusal> {
        let now = call.world.clock.now();
        // The start of the window opens the feed; later requests may repeat it.
        let start = self.found.window.as_ref().map(|(start, ..)| start.as_str());
        let from = start
            .map(|name| call.query.optional_time(name))
            .transpose()?
            .flatten();
        let today = real_now();
        let reaches = |from: Millis| self.memory.is_none_or(|memory| today - from <= memory);
        if from.is_some_and(|from| !reaches(from)) && call.query.first("after").is_none() {
            return Err(Refusal::bad("startTime is too far in the past."));
        }
        let begin = || {
            Ok(Position {
                since: from.unwrap_or(now),
                until: now,
                ..Position::default()
            })
        };
        let page = call.page(
            Paging {
                cursor: "after",
                free: &["startTime"],
            },
            begin,
            |position| {
                // When a later request begins without a cursor, the present becomes its end.
                let until = if position.offset == 0 {
                    now
                } else {
                    position.until
                };
                let window = (position.since, until.saturating_add(1));
                let write = |entity: &Entity| self.record_with(call.world, entity, window, members);
                let has_rows = |record: &Value| {
                    let mut series = self.series().into_iter().peekable();
                    let is_told =
                        |name: &str| record[name].as_array().is_some_and(|list| !list.is_empty());
                    series.peek().is_none() || series.any(is_told)
                };
                let records: Vec<Value> = self
                    .entities(call, window, None)?
                    .iter()
                    .map(write)
                    .filter(has_rows)
                    .collect();
                let behind = usize::try_from(position.offset)
                    .unwrap_or(usize::MAX)
                    .min(records.len());
                let end = (behind + size).min(records.len());
                let next = if end < records.len() {
                    Next::More(Position {
                        since: position.since,
                        until,
                        offset: end as i64,
                        ..Position::default()
                    })
                } else if records.is_empty() {
                    // Nothing new: the cursor stays what it is.
                    Next::Later(position)
                } else {
                    Next::Later(Position {
                        since: until.saturating_add(1),
                        until,
                        ..Position::default()
                    })
                };
                Ok(Found {
                    records: records[behind..end].to_vec(),
                    next,
                })
            },
        )?;
        Ok(call.envelope(page, Empty::List))
    }

    /// The records of another list that parameters select. A request that names none of them is an error.
    fn each_asked(&self, call: &Call<'_>) -> Result<Vec<Option<Arc<Value>>>, Refusal> {
        let mut found = self.each_of(call.world);
        for (name, field) in self.each.iter().flat_map(|each| &each.by) {
            let parameter = self.asks.iter().find(|parameter| parameter.name == *name);
            let values = parameter.map(|parameter| parameter.values(call));
            let values = values.unwrap_or_default();
            let is_chosen = |each: &Option<Arc<Value>>| {
                let value = each.as_ref().and_then(|each| each[field].as_str());
                value.is_some_and(|value| values.contains(value))
            };
            found.retain(is_chosen);
            if found.is_empty() {
                return Err(Refusal::bad(format!("Invalid {name}.")));
            }
        }
        Ok(found)
    }

    /// The start of a list that looks back, as long before the world's last instant as it is before the client's
    /// present.
    fn lately(&self, call: &Call<'_>) -> Result<Millis, Refusal> {
        let name = self.found.window.as_ref().map(|(start, ..)| start.as_str());
        let start = name.map(|name| call.query.optional_time(name));
        let today = real_now();
        let start = start.transpose()?.flatten().unwrap_or(today - HOUR);
        Ok(call.world.span.end - (today - start))
    }

    /// Which of several reports is asked for.
    fn asked_report(&self, call: &Call<'_>) -> Result<Option<String>, Refusal> {
        let Some((parameter, values)) = self.reports() else {
            return Ok(None);
        };
        let asked = call.query.first(&parameter.name).unwrap_or_default();
        if values.iter().any(|value| value == asked) {
            Ok(Some(asked.to_owned()))
        } else {
            Err(Refusal::bad(format!(
                "Invalid {}: {asked}.",
                parameter.name
            )))
        }
    }

    /// The lists of events, or the objects, that a parameter names; all without the parameter.
    fn members(&self, call: &Call<'_>) -> Result<Vec<&str>, Refusal> {
        let chooses = |parameter: &&Parameter| {
            matches!(parameter.chooses, Chooses::Members | Chooses::Objects)
        };
        let Some(parameter) = self.asks.iter().find(chooses) else {
            return Ok(Vec::new());
        };
        let (known, plural) = match parameter.chooses {
            Chooses::Objects => (self.objects(), "s"),
            _ => (self.series(), ""),
        };
        let asked = parameter.values(call).into_iter().map(|name| {
            let is_named = |known: &&&str| {
                **known == name
                    || name
                        .strip_suffix(plural)
                        .is_some_and(|name| **known == name)
            };
            let found = known.iter().find(is_named).copied();
            found.ok_or_else(|| Refusal::bad(format!("Invalid stat type: {name}.")))
        });
        asked.collect()
    }

    /// The requested window; all time if the endpoint has none.
    fn window(&self, call: &Call<'_>) -> Result<(Millis, Millis), Refusal> {
        let Some((start, end, form)) = &self.found.window else {
            return Ok((Millis::MIN, Millis::MAX));
        };
        let now = call.world.clock.now();
        if self.found.by == Anchor::Lately {
            return Ok((Millis::MIN, Millis::MAX));
        }
        if *form == Form::Month {
            let month = call.query.first(end).unwrap_or_default();
            let number = MONTHS.iter().position(|name| *name == month);
            let first = number
                .zip(call.query.first(start))
                .and_then(|(number, year)| {
                    Some(day_start(parse_day(&format!(
                        "{year}-{:02}-01",
                        number + 1
                    ))?))
                });
            let first = first.ok_or_else(|| Refusal::bad(format!("{end} is not a month.")))?;
            let next = month_after(first);
            return if is_closed(next, now) {
                Ok((first, next))
            } else {
                Err(Refusal::bad("The report may still be processing."))
            };
        }
        let required = |name: &str| {
            self.asks
                .iter()
                .any(|parameter| parameter.name == *name && parameter.required)
        };
        let read = |name: &String, absent: Millis| -> Result<Millis, Refusal> {
            let Some(text) = call.query.first(name) else {
                return if required(name) {
                    Err(Refusal::bad(format!("{name} is required.")))
                } else {
                    Ok(absent)
                };
            };
            match form {
                Form::Rfc3339 => call.query.time(name),
                Form::Millis => call.query.v1_number(name),
                Form::Date | Form::Month => {
                    let day = parse_day(text)
                        .ok_or_else(|| Refusal::bad(format!("{name} is not a date.")))?;
                    Ok(day_start(day))
                }
            }
        };
        let from = read(start, Millis::MIN)?;
        let to = read(end, now)?;
        if to < from {
            return Err(Refusal::bad(format!("{end} is before {start}.")));
        }
        let to = match form {
            Form::Rfc3339 | Form::Month => to,
            Form::Millis => to.saturating_add(1),
            Form::Date => to.saturating_add(DAY),
        };
        Ok((from, to))
    }

    fn entities(
        &self,
        call: &Call<'_>,
        (from, to): (Millis, Millis),
        each: Option<Arc<Value>>,
    ) -> Result<Vec<Entity>, Refusal> {
        let of_each = |mut entity: Entity| {
            entity.each.clone_from(&each);
            entity
        };
        if matches!(self.population, Population::List { .. }) {
            let since = match self.found.by {
                Anchor::Lately => self.lately(call)?,
                _ => Millis::MIN,
            };
            let asked = |entity: &Entity| {
                entity.born >= since
                    && entity
                        .owner
                        .as_ref()
                        .is_none_or(|owner| self.is_asked(call, owner))
            };
            let listed = self.listed(call.world).into_iter().filter(asked);
            return Ok(listed.map(of_each).collect());
        }
        let Some(thing) = self.counted_by() else {
            return Ok(Vec::new());
        };
        let series = self.series_of(each.as_deref());
        let mut owners = call.world.owners(thing);
        owners.retain(|owner| self.is_asked(call, owner));
        if !self.series().is_empty() {
            return Ok(owners.into_iter().map(Entity::thing).collect());
        }
        let mut found: Vec<Entity> = match self.population {
            Population::Report { .. } => owners
                .iter()
                .filter_map(|owner| self.reported_of(call.world, owner, from, to))
                .collect(),
            _ => owners
                .iter()
                .flat_map(|owner| {
                    self.found_of(call.world, owner, self.found.by, (from, to), &series)
                })
                .map(of_each)
                .collect(),
        };
        match self.found.by {
            // Streams come in the order in which their records changed.
            Anchor::Updated => found.sort_by_key(|entity| (entity.updated(), entity.born)),
            _ => found.sort_by_key(|entity| entity.born),
        }
        Ok(found)
    }

    /// Whether the parameters and the path ask for a thing.
    fn is_asked(&self, call: &Call<'_>, owner: &Owner) -> bool {
        let id = owner.named.id.as_str();
        (call.id.is_empty() || call.id == id)
            && self
                .asks
                .iter()
                .filter(|parameter| matches!(parameter.chooses, Chooses::Things(_)))
                .all(|parameter| {
                    let ids = parameter.values(call);
                    ids.is_empty() || ids.contains(id)
                })
    }

    /// Whether the parameters select a record by its values.
    fn is_chosen(&self, call: &Call<'_>, record: &Value) -> bool {
        // A list that is not numbered identifies records by their own ids.
        let is_other =
            !call.id.is_empty() && self.counted_by().is_none() && record["id"] != call.id;
        !is_other
            && self.asks.iter().all(|parameter| {
                let Chooses::Field(field) = &parameter.chooses else {
                    return true;
                };
                let values = parameter.values(call);
                let found = record.get(field).and_then(Value::as_str);
                values.is_empty() || found.is_some_and(|found| values.contains(found))
            })
    }

    fn body(&self, call: &Call<'_>, records: Value) -> Value {
        let mut body = self.rows.iter().rev().fold(records, |inner, name| {
            Value::Object(Map::from_iter([(name.clone(), inner)]))
        });
        if let Value::Object(members) = &mut body {
            call.wire.strange_envelope(members);
        }
        body
    }
}

impl Parameter {
    fn check(&self, call: &Call<'_>) -> Result<(), Refusal> {
        if self.required && call.query.first(&self.name).is_none() {
            return Err(Refusal::bad(format!("{} is required.", self.name)));
        }
        match self.most {
            Some(most) if self.values(call).len() > most => Err(Refusal::bad(format!(
                "{} takes at most {most} values.",
                self.name
            ))),
            _ => Ok(()),
        }
    }

    /// The parameter's values, joined by commas or repeated.
    fn values<'a>(&self, call: &Call<'a>) -> BTreeSet<&'a str> {
        call.query
            .all(&self.name)
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|value| !value.is_empty())
            .collect()
    }
}

/// The real time: clients choose the start of a feed by it, whatever the simulated clock says.
#[expect(
    clippy::disallowed_methods,
    reason = "the simulator's one reading of the real clock"
)]
fn real_now() -> Millis {
    chrono::Utc::now().timestamp_millis()
}
