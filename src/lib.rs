//! All of a fleet's Samsara telematics data in BigQuery, correct to the row.
//!
//! ```text
//! catalog ─► plan ─► extract ─► raw Parquet ─► transform ─► flattened Parquet ─► load ─► report
//! (sql/)             (samsara)   (store)       (DataFusion)      (store)       (warehouse)
//!                        state: what is complete, per source and day, in the raw bucket
//! ```
//!
//! The modules are ordered by the data flow: each takes the result of the one before and returns a named type. A test
//! (`tests/it/architecture.rs`) checks that a module uses only the modules before it.
//!
//! | module | takes | gives |
//! | --- | --- | --- |
//! | [`catalog`] | `sql/` | `Source`, `Model` |
//! | [`plan`] | catalog, state, dates | `Plan` of tasks |
//! | [`samsara`] | `Request` | `Page`s |
//! | [`extract`] | `Page`s | record batches → raw objects |
//! | [`transform`] | raw objects | `Flattened` objects, by the model's `Contract` |
//! | [`load`] | flattened objects | a replaced partition of a `Warehouse` |
//! | [`delta`] | flattened objects, as the state has them | commits of a Delta Lake table |
//! | [`report`] | events | `RunReport` |
//! | [`telemetry`] | events, spans | OpenTelemetry's traces and metrics |
//!
//! # Example
//!
//! A run over three days, from a configuration in `.env` to its report:
//!
//! ```no_run
//! use std::path::Path;
//!
//! use samsara_etl::catalog::Catalog;
//! use samsara_etl::config::{Config, Environment, LOCAL_FOLDER, Overrides};
//! use samsara_etl::pipeline::Pipeline;
//! use samsara_etl::plan::{Dates, RunRequest, Selection, Stage};
//! use tokio_util::sync::CancellationToken;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = Path::new(".");
//! let environment = Environment::read(directory)?;
//! let config = Config::resolve(&environment, &Overrides::default(), directory, LOCAL_FOLDER)?;
//! let catalog = Catalog::open(None)?;
//! let run_request = RunRequest {
//!     selection: Selection::of_names(&catalog, &["fleet_vehicles".into(), "fleet_trips".into()])?,
//!     dates: Dates::parse(Some("2024-01-01"), Some("2024-01-04"))?,
//!     stages: [Stage::Extract, Stage::Transform, Stage::Load].into(),
//!     historical: false,
//! };
//! let pipeline = Pipeline::new(config, catalog)?;
//! let plan = pipeline.plan(run_request).await?;
//! println!("{plan}");
//! // Cancelling the token stops the run; completed work is kept.
//! let report = pipeline.run(plan, Vec::new(), CancellationToken::new()).await?;
//! println!("{report}");
//! # Ok(())
//! # }
//! ```

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::too_many_lines,
        reason = "a test's tasks end with its runtime, and a table of cases may be long"
    )
)]

// The foundation, which every module may use.
pub mod bounds;
pub mod clock;
pub mod config;
pub mod events;
pub mod google;
pub mod http;
pub mod json;
pub mod memory;
pub mod redact;
pub mod state;
pub mod store;

// The stages, in the order of the data flow.

// Sources and models, read from `sql/`.
pub mod catalog;

// What a run will do.
pub mod plan;

// The API: requests to pages.
pub mod samsara;

// Pages to raw Parquet.
pub mod extract;

// Raw Parquet to flattened Parquet, by SQL.
pub mod transform;

// Flattened Parquet into the warehouse.
pub mod load;

// Flattened Parquet as open tables, in place.
pub mod delta;

// What a run did.
pub mod report;
pub mod telemetry;

// The top: uses all of the above.
pub mod audit;
pub mod clean;
pub mod cli;
pub mod error;
pub mod lsp;
pub mod pipeline;
pub mod sql_tests;
