//! Lists and feeds, page by page.

use serde_json::{Map, Value};

use super::cursor::{Cursors, Position};
use super::query::{Query, Refusal};
use super::wire::Wire;
use super::world::World;
use super::world::draw::Draw;

/// One page in this many is delayed once: an empty page that promises more comes before it.
const PAUSE_ONE_IN: u64 = 9;

/// The largest `limit` of the paged endpoints that have one.
const MOST_RECORDS: i64 = 512;

/// One request to one endpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) world: &'a World,
    pub(crate) wire: Wire,
    pub(crate) query: &'a Query,
    pub(crate) path: &'static str,
    /// The text in the path at the place of the name in braces; empty otherwise.
    pub(crate) id: &'a str,
    pub(crate) cursors: Cursors,
    /// Told by the configuration.
    pub(crate) page_size: Option<usize>,
    pub(crate) point_before_window: bool,
    pub(crate) fuel_window: super::config::FuelWindow,
    /// By fault, this page shall lead to itself once more.
    pub(crate) repeat_page: bool,
}

/// The records found at a position.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) records: Vec<Value>,
    pub(crate) next: Next,
}

/// What follows a page.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Next {
    /// There is more.
    More(Position),
    /// Nothing ever again.
    End,
    /// Nothing yet: continue from here later. With the position of the page itself, its cursor stays the same.
    Later(Position),
}

/// A page without its envelope.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) records: Vec<Value>,
    pub(crate) end_cursor: String,
    pub(crate) has_next: bool,
}

/// How a read is paginated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paging {
    /// The name of the cursor parameter.
    pub(crate) cursor: &'static str,
    /// Parameters, other than the cursor, that may differ between the pages of a read.
    pub(crate) free: &'static [&'static str],
}

impl Paging {
    /// Cursors in `after`, everything else fixed: the usual way.
    pub(crate) const AFTER: Paging = Paging {
        cursor: "after",
        free: &[],
    };
    /// The v1 way.
    pub(crate) const STARTING_AFTER: Paging = Paging {
        cursor: "startingAfter",
        free: &[],
    };
}

impl Call<'_> {
    /// The number of records on a page, given the endpoint's own and whether it accepts `limit`.
    pub(crate) fn page_size(&self, own: usize, heeds_limit: bool) -> Result<usize, Refusal> {
        if heeds_limit {
            self.limited_page_size(own, MOST_RECORDS)
        } else {
            Ok(self.page_size.unwrap_or(own).max(1))
        }
    }

    /// The number of records on a page of an endpoint that accepts `limit` up to a bound.
    pub(crate) fn limited_page_size(&self, own: usize, most: i64) -> Result<usize, Refusal> {
        let own = self.page_size.unwrap_or(own).max(1);
        match self.query.first("limit") {
            None => Ok(own),
            Some(text) => match text.parse::<i64>() {
                Ok(limit) if (1..=most).contains(&limit) => Ok(own.min(limit as usize)),
                Ok(_) => Err(Refusal::bad(format!("limit must be between 1 and {most}."))),
                Err(_) => Err(Refusal::bad("limit is not a number.")),
            },
        }
    }

    /// One page of a read: finds the position of the cursor (or starts at the beginning), lets the endpoint find its
    /// records there, and adds the oddities of paging.
    pub(crate) fn page(
        &self,
        paging: Paging,
        start: impl FnOnce() -> Result<Position, Refusal>,
        find: impl FnOnce(Position) -> Result<Found, Refusal>,
    ) -> Result<Page, Refusal> {
        let but: Vec<&str> = paging.free.iter().copied().chain([paging.cursor]).collect();
        let print = self.query.fingerprint(self.path, &but);
        let position = match self.query.first(paging.cursor) {
            Some(cursor) => self.cursors.open(print, cursor)?,
            None => start()?,
        };
        let found = find(position)?;
        let promise = |records, next| Page {
            records,
            end_cursor: self.cursors.seal(print, next),
            has_next: true,
        };
        if !found.records.is_empty() {
            let key = [print, position.since as u64, position.offset as u64];
            if !position.paused
                && Draw::new(self.world.seed, "pause", &key).below(PAUSE_ONE_IN) == 0
            {
                return Ok(promise(
                    Vec::new(),
                    Position {
                        paused: true,
                        ..position
                    },
                ));
            }
            if self.repeat_page && !position.repeated {
                return Ok(promise(
                    found.records,
                    Position {
                        paused: true,
                        repeated: true,
                        ..position
                    },
                ));
            }
        }
        Ok(match found.next {
            Next::More(next) => promise(found.records, next),
            Next::End => Page {
                records: found.records,
                end_cursor: String::new(),
                has_next: false,
            },
            Next::Later(next) => Page {
                records: found.records,
                end_cursor: self.cursors.seal(print, next),
                has_next: false,
            },
        })
    }

    /// One page of a complete list; records are rendered only when they are served.
    pub(crate) fn list_page<T>(
        &self,
        paging: Paging,
        items: &[T],
        size: usize,
        write: impl Fn(&T) -> Value,
    ) -> Result<Page, Refusal> {
        self.page(
            paging,
            || Ok(Position::default()),
            |position| {
                let start = usize::try_from(position.offset)
                    .unwrap_or(usize::MAX)
                    .min(items.len());
                let end = start.saturating_add(size).min(items.len());
                let next = Position {
                    offset: end as i64,
                    ..Position::default()
                };
                Ok(Found {
                    records: items[start..end].iter().map(write).collect(),
                    next: if end < items.len() {
                        Next::More(next)
                    } else {
                        Next::End
                    },
                })
            },
        )
    }

    /// The v2 envelope: records in `data`.
    pub(crate) fn envelope(&self, page: Page, when_empty: Empty) -> Value {
        let data = if page.records.is_empty() && when_empty == Empty::Null {
            Value::Null
        } else {
            Value::Array(page.records)
        };
        self.wrap(
            data,
            [
                ("endCursor", page.end_cursor.into()),
                ("hasNextPage", page.has_next.into()),
            ],
        )
    }

    /// `data` and `pagination`, whatever is in them.
    pub(crate) fn wrap<const FIELDS: usize>(
        &self,
        data: Value,
        pagination: [(&str, Value); FIELDS],
    ) -> Value {
        let pagination: Map<String, Value> = pagination
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let mut envelope = Map::new();
        envelope.insert("data".to_owned(), data);
        envelope.insert("pagination".to_owned(), pagination.into());
        self.wire.strange_envelope(&mut envelope);
        envelope.into()
    }
}

/// How an endpoint writes a page without records.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Empty {
    List,
    Null,
}
