//! Finds the past days that have changed, by a source's change feed.
//!
//! A vehicle without coverage sends its readings days later; one request to `/history` per day would miss them. The
//! feed returns the same readings in order of arrival, so its rows name the days that must be read again. The rows
//! themselves are not kept: the day is read again from `/history` as a whole, so that all rows have one shape.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::NaiveDate;

use super::assign_day::days_of;
use super::decode::Decoder;
use super::decode_error::DecodeError;
use super::error::ExtractError;
use super::extractor::Extractor;
use crate::catalog::{Source, TimeField};
use crate::clock;
use crate::samsara::{Page, PageError, Request, SamsaraError, Watch};
use crate::state::Position;

/// What a change feed has returned since the previous position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Days that readings have arrived for, of each source.
    pub days: Vec<BTreeSet<NaiveDate>>,
    /// Query and cursor to come back with.
    pub position: Position,
    /// Whether there are more pages after the position.
    pub more: bool,
}

impl Extractor {
    /// Reads on in the change feeds of sources that share requests (see [`crate::catalog::Catalog::change_feed`]), some
    /// pages at a time.
    ///
    /// A position may be of a request for more sources than these: what it brings of others is left out.
    ///
    /// Without a position, the feed starts with the last reading of each vehicle, however old it is. Those readings do
    /// not count as changes: the pages are skipped to get the position after them.
    pub async fn changes(
        &self,
        feeds: &[&Source],
        resume: Option<Position>,
        watch: &Watch,
    ) -> Result<Changes, ExtractError> {
        let api = |error| ExtractError::Api {
            tables: names(feeds),
            scope: SCOPE.into(),
            error,
        };
        let Some(mut request) = Request::render(feeds, None, None, &[]) else {
            let endpoint = feeds.first().map(|feed| feed.endpoint.clone());
            return Err(api(SamsaraError::Unaddressable {
                endpoint: endpoint.unwrap_or_default(),
            }));
        };
        let cold = resume.is_none();
        let mut cursor = None;
        if let Some(position) = resume {
            (request.query, cursor) = (position.query, Some(position.cursor));
        }
        let decoder = Arc::new(Decoder::new(feeds));
        let mut pager = self
            .client
            .pages(request.clone(), cursor.clone())
            .watched(watch);
        let (mut days, mut pages) = (vec![BTreeSet::new(); feeds.len()], 0);
        loop {
            let Some(page) = pager.next().await.map_err(api)? else {
                break;
            };
            pages += 1;
            if page.cursor.is_some() {
                cursor.clone_from(&page.cursor);
            }
            if !cold {
                // A reading in the future comes from a wrong clock: that day has not changed.
                let last = clock::now().date_naive() + chrono::Days::new(1);
                let changed = self.days(feeds, decoder.clone(), page, &request).await?;
                for (days, changed) in days.iter_mut().zip(changed) {
                    days.extend(changed.into_iter().filter(|day| *day <= last));
                }
                if pages >= self.checkpoint_every {
                    break;
                }
            }
        }
        match cursor {
            Some(cursor) => Ok(Changes {
                days,
                position: Position {
                    query: request.query,
                    cursor,
                },
                more: pager.has_more(),
            }),
            None => Err(api(SamsaraError::BadPage {
                endpoint: request.path,
                query: request.query,
                page: pages,
                error: PageError::NoFeedCursor,
            })),
        }
    }

    async fn days(
        &self,
        feeds: &[&Source],
        decoder: Arc<Decoder>,
        page: Page,
        request: &Request,
    ) -> Result<Vec<BTreeSet<NaiveDate>>, ExtractError> {
        let times = feeds.iter().map(|feed| feed.time_field.clone());
        let times: Vec<Option<TimeField>> = times.collect();
        let number = page.number;
        let decode = move || {
            let mut days = vec![BTreeSet::new(); times.len()];
            let mut decoding = decoder.begin(&page)?;
            while let Some(decoded) = decoding.next()? {
                for (index, time) in times.iter().enumerate() {
                    if let Some(time) = time {
                        days[index].extend(days_of(&decoder.rows(&decoded, index)?.batch, time)?);
                    }
                }
            }
            Ok::<_, DecodeError>(days)
        };
        let decoded = self.cpu.spawn(async move { decode() }).await;
        let decoded = decoded.map_err(|error| ExtractError::Worker {
            tables: names(feeds),
            scope: SCOPE.into(),
            error,
        })?;
        decoded.map_err(|error| ExtractError::Page {
            tables: names(feeds),
            scope: SCOPE.into(),
            page: number,
            request: request.identity(),
            error,
        })
    }
}

/// In messages, in place of a partition.
const SCOPE: &str = "(changed days)";

fn names(feeds: &[&Source]) -> String {
    let names: Vec<&str> = feeds.iter().map(|feed| feed.name.as_str()).collect();
    names.join(", ")
}
