//! Pages to raw Parquet.
//!
//! A page passes one scan that cuts out what the schema does not hold ([`conform`]), is decoded by arrow-json some
//! thousand records at a time ([`decode`]), loses the rows that another day owns ([`ownership`]), and goes into the
//! Parquet object of its source and day, with what was cut out beside it ([`rescue`]). Only a few pages are in memory
//! at a time.
//!
//! [`fetch`] waits for the network and [`sink`] works on other threads; [`walk`] joins them.

mod changes;
mod conform;
mod decode;
mod drift;
mod expiring;
mod fetch;
mod instant;
mod intervals;
mod number;
mod outside;
mod ownership;
mod rescue;
mod shape;
mod sink;
mod walk;

pub use changes::Changes;
pub use decode::{raw_schema, timestamp_type};
pub use drift::{DriftKey, FURTHER_PATHS};
pub use instant::{INSTANTS, instant_of_millis, instant_of_text};
pub use intervals::EndedRows;
pub use ownership::day_window;
pub use walk::{ExtractError, Extracted, Extractor, Position, Scope, Walk, WalkOutcome, decode_owned, decode_page};
