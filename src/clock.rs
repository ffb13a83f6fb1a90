//! The wall clock, read in one place.
//!
//! What depends on the day or the hour takes the time as an argument where it can (see [`crate::plan::make`]). Durations
//! are measured by `Instant`, which a changed clock does not touch.

use chrono::{DateTime, Utc};

/// The current time.
#[expect(clippy::disallowed_methods, reason = "the one reading of the clock")]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}
