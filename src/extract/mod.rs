//! Pages to raw Parquet.
//!
//! A page passes one scan that cuts out what the schema does not hold ([`conform`]), is decoded by arrow-json as
//! a whole ([`decode`]), loses the rows that another day owns ([`ownership`]), and goes into the Parquet object of
//! its source and day. Only a few pages are in memory at a time.
//!
//! [`fetch`] waits for the network and [`sink`] works on other threads; [`walk`] joins them.

mod changes;
mod conform;
mod decode;
mod expiring;
mod fetch;
mod instant;
mod intervals;
mod ownership;
mod shape;
mod sink;
mod walk;

pub use changes::Changes;
pub use conform::{Drift, DriftKey};
pub use decode::{raw_schema, timestamp_type};
pub use instant::{INSTANTS, instant_of_millis, instant_of_text};
pub use intervals::EndedRows;
pub use ownership::day_window;
pub use walk::{ExtractError, Extracted, Extractor, Position, Scope, Walk, WalkOutcome, decode_owned, decode_page};
