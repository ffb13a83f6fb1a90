//! Whether pages lead to an end.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::page::{Page, PageError};

/// After this many pages in a row without new records, each promising another, a task fails.
const MAX_STALE_PAGES: u32 = 1000;

/// What the pages of a task have shown so far. Clones share it: a feed that is read some pages at a time is one task.
#[derive(Debug, Clone, Default)]
pub struct Watch(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    /// Empty pages in a row.
    empty: u32,
    /// Pages in a row that are empty or repeat the previous one.
    stale: u32,
    /// The last page's records.
    last: Bytes,
    /// Digests of all cursors so far.
    cursors: HashSet<u64>,
}

impl Watch {
    /// The cursor of the page after `page`, which was requested with the cursor `asked`; none if `page` is the last.
    ///
    /// An `endless` stream always promises another page. The error says why the page is not the last although none can
    /// follow it.
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
        // A stream sometimes returns an empty page before its end: one empty page that leads somewhere else is not the
        // end.
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
