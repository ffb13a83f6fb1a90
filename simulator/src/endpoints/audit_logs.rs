//! The feed of changes made to safety events. It never ends: its last page has a cursor for later requests.

use serde_json::Value;

use super::stream;
use crate::paging::{Call, Empty, Paging};
use crate::query::Refusal;

/// Records on a page.
const PAGE: usize = 100;

pub(super) fn feed(call: &Call<'_>) -> Result<Value, Refusal> {
    // `startTime` opens the feed; later calls may repeat it or leave it out, but not change it.
    let paging = Paging {
        cursor: "after",
        free: &["startTime"],
    };
    let from = call.query.optional_time("startTime")?;
    let size = call.page_size(PAGE, false)?;
    let page = stream::page(call, paging, from, None, size, |day| {
        call.world
            .audit_logs(day)
            .into_iter()
            .map(|log| (log.time, call.wire.audit_log(&log)))
            .collect()
    })?;
    Ok(call.envelope(page, Empty::List))
}
