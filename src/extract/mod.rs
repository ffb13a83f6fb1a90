//! Pages to raw Parquet.
//!
//! One pass over the text of a page (`direct`), some thousand records at a time, decodes them into record batches and
//! cuts out values that do not fit the schema (`rescue`). What that pass refuses takes the slow path (`validate`), through
//! a separate check and arrow-json. Rows of other days are removed from the batch (`assign_day`), which is written to the
//! Parquet object of its source and day. Only a few pages are in memory at a time.
//!
//! Files use only those before them, the types at the bottom, in the order that `tests/it/architecture.rs` checks. `fetch`
//! waits for the network, `decode_ahead` and `write` work on other threads; `extractor` joins them.

// Values, rows and days.
mod assign_day;
mod decode;
mod decode_error;
mod direct;
mod drift;
mod expiring;
mod instant;
mod intervals;
mod misfits;
mod number;
mod outside;
mod raw_type;
mod rescue;
mod validate;

// The types of a task, its result and progress.
mod checkpoint;
mod content;
mod error;
mod outcome;
mod partial_result;
mod queue;
mod request;

// The two halves of a task, and `extractor`, which joins them.
mod decode_ahead;
mod extractor;
mod fetch;
mod sort;
mod write;

// Other ways to read pages.
mod changes;
mod decode_page;

pub use assign_day::{day_window, partition_window};
pub use changes::Changes;
pub use checkpoint::checkpoint_is_current;
pub use decode::{compare_ways, raw_schema, timestamp_type};
pub use decode_error::DecodeError;
pub use decode_page::{decode_asked, decode_for_day, decode_page};
pub use drift::{DriftKey, FURTHER_PATHS};
pub use error::ExtractError;
pub use extractor::Extractor;
pub use instant::{INSTANTS, InstantReader, instant_of_millis, instant_of_text};
pub use intervals::EndedRows;
pub(crate) use number::whole;
pub use outcome::{Extracted, TaskOutcome};
pub use request::{ExtractTask, Scope};
