//! Pages to raw Parquet.
//!
//! One pass over the text of a page, some thousand records at a time, makes record batches of it and cuts out what the
//! schema does not hold ([`direct`], [`decode`]); what that pass refuses goes the slow way, through a check of its own
//! and arrow-json ([`validate`]). The batch loses the rows that another day owns ([`assign_day`]), and goes into the
//! Parquet object of its source and day, with what was cut out beside it ([`rescue`]). Only a few pages are in memory
//! at a time.
//!
//! [`fetch`] waits for the network and [`write`] works on other threads; [`extractor`] joins them.

mod assign_day;
mod changes;
mod decode;
mod direct;
mod drift;
mod expiring;
mod extractor;
mod fetch;
mod instant;
mod intervals;
mod misfits;
mod number;
mod outside;
mod raw_type;
mod rescue;
mod validate;
mod write;

pub use assign_day::day_window;
pub use changes::Changes;
pub use decode::{compare_ways, raw_schema, timestamp_type};
pub use drift::{DriftKey, FURTHER_PATHS};
pub use extractor::{
    ExtractError, ExtractTask, Extracted, Extractor, Position, Scope, TaskOutcome, decode_for_day,
    decode_page,
};
pub use instant::{INSTANTS, InstantReader, instant_of_millis, instant_of_text};
pub use intervals::EndedRows;
