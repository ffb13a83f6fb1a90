//! The pages of one request.

use std::sync::Arc;

use super::client::Client;
use super::error::{AttemptError, SamsaraError};
use super::limit::EndpointLimiter;
use super::page::{Page, PageError, cut};
use super::request::Request;
use super::watch::Watch;
use crate::redact;

/// A cursor with more bytes than this would not fit into an address. Those of the API have less than a thousand.
const LARGEST_CURSOR: usize = 16 << 10;

/// The pages of one request, one after the other.
#[derive(Debug)]
pub struct Pager {
    client: Client,
    limiter: Arc<EndpointLimiter>,
    request: Request,
    cursor: Option<String>,
    number: u64,
    watch: Watch,
    ended: bool,
}

impl Pager {
    /// The request.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Continues the page count of a task that had read `pages` before.
    pub fn after(mut self, pages: u64) -> Self {
        self.number = pages;
        self
    }

    /// Counts its pages as further ones of those that `watch` has seen.
    pub fn watched(mut self, watch: &Watch) -> Self {
        self.watch = watch.clone();
        self
    }

    /// Whether there is another page, according to those so far.
    pub fn has_more(&self) -> bool {
        !self.ended
    }

    /// The next page, or `None` after the last.
    ///
    /// Only `hasNextPage` marks the end, never the number of rows; an endless stream is left at its second empty page
    /// in a row, or at the first that leads back to itself. A page that promises another without a cursor, or with one
    /// seen before, is an error and never an end, and so is the last of a thousand pages in a row without new records.
    pub async fn next(&mut self) -> Result<Option<Page>, SamsaraError> {
        if self.ended {
            return Ok(None);
        }
        self.number += 1;
        let body = match self
            .client
            .page(&self.request, &self.limiter, self.cursor.as_deref())
            .await
        {
            Err(SamsaraError::Unavailable {
                attempts,
                error: error @ AttemptError::Body { .. },
                ..
            }) => return Err(self.bad_page(PageError::NotJson { attempts, error })),
            other => other?,
        };
        let page = cut(
            &body,
            &self.request.records,
            &self.request.page_echoes,
            self.request.pagination,
            self.number,
        )
        .and_then(|page| Ok(page.without(&self.request.omit)?))
        .map_err(|error| self.bad_page(error))?;
        if let Some(cursor) = &page.cursor {
            self.check_cursor(cursor)?;
        }
        let found = self
            .watch
            .look(&page, self.cursor.as_deref(), self.request.endless);
        match found.map_err(|error| self.bad_page(error))? {
            Some(cursor) => self.cursor = Some(cursor),
            None => self.ended = true,
        }
        Ok(Some(page))
    }

    /// A cursor is stored in the state and sent with the query: it must be short enough, and must not be a secret.
    fn check_cursor(&self, cursor: &str) -> Result<(), SamsaraError> {
        if cursor.len() > LARGEST_CURSOR {
            return Err(self.bad_page(PageError::CursorTooLong(cursor.len())));
        }
        if redact::holds_secret(cursor) {
            return Err(self.bad_page(PageError::CursorHoldsSecret));
        }
        Ok(())
    }

    fn bad_page(&self, error: PageError) -> SamsaraError {
        SamsaraError::BadPage {
            endpoint: self.request.path.clone(),
            query: self.request.query.clone(),
            page: self.number,
            error,
        }
    }
}

impl Client {
    /// The pages of `request`, from the start or from a stored cursor.
    pub fn pages(&self, request: Request, cursor: Option<String>) -> Pager {
        Pager {
            client: self.clone(),
            limiter: self.limiter(&request),
            request,
            cursor,
            number: 0,
            watch: Watch::default(),
            ended: false,
        }
    }
}
