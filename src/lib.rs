//! All of a fleet's Samsara telematics data in BigQuery, correct to the row.
//!
//! ```text
//! catalog ─► plan ─► extract ─► raw Parquet ─► transform ─► flattened Parquet ─► load ─► report
//! (sql/)             (samsara)   (store)       (DataFusion)      (store)       (warehouse)
//!                        state: what is complete, per source and day, beside the raw data
//! ```
//!
//! Modules stand in the order in which data passes them. Each owns one verb and hands on a named type; a test
//! (`tests/it/architecture.rs`) holds them to using only those before them.
//!
//! | station | takes | gives |
//! | --- | --- | --- |
//! | [`catalog`] | `sql/` | `Source`, `Model` |
//! | [`plan`] | catalog, state, dates | `Plan` of tasks |
//! | [`samsara`] | `Request` | `Page`s |
//! | [`extract`] | `Page`s | record batches → raw objects |
//! | [`transform`] | raw objects | `Flattened` objects, by the model's `Contract` |
//! | [`load`] | flattened objects | a replaced partition of a `Warehouse` |
//! | [`report`] | events | `RunReport` |

// The ground: what every station may stand on.
pub mod bounds;
pub mod config;
pub mod events;
pub mod google;
pub mod http;
pub mod json;
pub mod memory;
pub mod redact;
pub mod state;
pub mod store;

/// Sources and models, read from `sql/`.
pub mod catalog;

/// What a run is going to do.
pub mod plan;

/// The API: requests to pages.
pub mod samsara;

/// Pages to raw Parquet.
pub mod extract;

/// Raw Parquet to flattened Parquet, by SQL.
pub mod transform;

/// Flattened Parquet into the warehouse.
pub mod load;

/// What a run did.
pub mod report;

// Those that know all.
pub mod audit;
pub mod clean;
pub mod cli;
pub mod error;
pub mod pipeline;
pub mod sql_tests;
