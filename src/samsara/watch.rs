//! Whether pages lead to an end.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::page::{Page, PageError};

/// A task that sees this many pages in a row with nothing new, each promising another, is not going to end.
const MAX_STALE_PAGES: u32 = 1000;

/// What the pages of a task have shown so far. Clones share it: a feed that is read some pages at a time is one task.
#[derive(Debug, Clone, Default)]
pub struct Watch(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    /// Empty pages in a row.
    empty: u32,
    /// Pages in a row that are empty or bring what the one before brought.
    stale: u32,
    /// The last page's records.
    last: Bytes,
    /// Digests of all cursors so far.
    cursors: HashSet<u64>,
}

impl Watch {
    /// The cursor of the page after `page`, which was requested with the cursor `asked`; none if `page` is the last.
    ///
    /// A stream that is `endless` promises another page for ever. An error says why the page is neither the last nor
    /// leads to another.
    pub(super) fn look(
        &self,
        page: &Page,
        asked: Option<&str>,
        endless: bool,
    ) -> Result<Option<String>, PageError> {
        let mut seen = self.0.lock();
        seen.empty = if page.is_empty { seen.empty + 1 } else { 0 };
        seen.stale = if page.is_empty || page.records == seen.last {
            seen.stale + 1
        } else {
            0
        };
        seen.last = page.records.clone();
        // A stream holds a page back from time to time: one empty page that leads somewhere else is not its end yet.
        let stands_still =
            page.cursor.is_none() || page.cursor.as_deref() == asked || seen.empty > 1;
        if !page.has_next || (endless && page.is_empty && stands_still) {
            return Ok(None);
        }
        let Some(cursor) = page.cursor.clone() else {
            return Err(PageError::NoCursor);
        };
        if asked == Some(cursor.as_str()) || !seen.cursors.insert(digest(cursor.as_bytes())) {
            return Err(PageError::CursorRepeated);
        }
        if seen.stale >= MAX_STALE_PAGES {
            return Err(PageError::Stale(MAX_STALE_PAGES));
        }
        Ok(Some(cursor))
    }
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hash = DefaultHasher::new();
    bytes.hash(&mut hash);
    hash.finish()
}
