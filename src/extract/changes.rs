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
use crate::catalog::Source;
use crate::clock;
use crate::samsara::{Page, PageError, Request, SamsaraError, Watch};
use crate::state::Position;

/// What a change feed has returned since the previous position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Days that readings have arrived for.
    pub days: BTreeSet<NaiveDate>,
    /// Query and cursor to come back with.
    pub position: Position,
    /// Whether there are more pages after the position.
    pub more: bool,
}

impl Extractor {
    /// Continues to read the feed of `feed` (see [`crate::catalog::Catalog::change_feed`]), some pages at a time.
    ///
    /// Without a position, the feed starts with the last reading of each vehicle, however old it is. Those readings do
    /// not count as changes: the pages are skipped to get the position after them.
    pub async fn changes(
        &self,
        feed: &Source,
        resume: Option<Position>,
        watch: &Watch,
    ) -> Result<Changes, ExtractError> {
        let api = |error| ExtractError::Api {
            tables: feed.name.clone(),
            scope: "(changed days)".into(),
            error,
        };
        let Some(mut request) = Request::render(&[feed], None, None, &[]) else {
            return Err(api(SamsaraError::Unaddressable {
                endpoint: feed.endpoint.clone(),
            }));
        };
        let cold = resume.is_none();
        let mut cursor = None;
        if let Some(position) = resume {
            (request.query, cursor) = (position.query, Some(position.cursor));
        }
        let decoder = Arc::new(Decoder::new(&[feed]));
        let mut pager = self
            .client
            .pages(request.clone(), cursor.clone())
            .watched(watch);
        let (mut days, mut pages) = (BTreeSet::new(), 0);
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
                let changed = self.days(feed, decoder.clone(), page, &request).await?;
                days.extend(changed.into_iter().filter(|day| *day <= last));
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
        feed: &Source,
        decoder: Arc<Decoder>,
        page: Page,
        request: &Request,
    ) -> Result<BTreeSet<NaiveDate>, ExtractError> {
        let Some(field) = feed.time_field.clone() else {
            return Ok(BTreeSet::new());
        };
        let number = page.number;
        let decode = move || {
            let mut days = BTreeSet::new();
            let mut decoding = decoder.begin(&page)?;
            while let Some(decoded) = decoding.next()? {
                days.extend(days_of(&decoder.rows(&decoded, 0)?.batch, &field)?);
            }
            Ok::<_, DecodeError>(days)
        };
        let decoded = self.cpu.spawn(async move { decode() }).await;
        let scope = || "(changed days)".to_string();
        let decoded = decoded.map_err(|error| ExtractError::Worker {
            tables: feed.name.clone(),
            scope: scope(),
            error,
        })?;
        decoded.map_err(|error| ExtractError::Page {
            tables: feed.name.clone(),
            scope: scope(),
            page: number,
            request: request.identity(),
            error,
        })
    }
}
