//! Loads flattened Parquet into the warehouse.
//!
//! Loads replace and never append: a day's load job overwrites exactly that day, a snapshot's overwrites the table's
//! rows. So a load may be repeated at will. The row count that the warehouse reports must equal that of the Parquet, or
//! the partition does not count as loaded.
//!
//! `warehouse` defines what a warehouse can do, `bigquery` and `local` implement it; [`plan`] decides which loads a
//! table needs. Files use each other in the order that `tests/it/architecture.rs` states.

mod bigquery;
mod error;
mod finding;
mod local;
mod location;
mod observed;
pub mod plan;
mod shape;
mod warehouse;

use std::sync::Arc;

use crate::config::{BucketLocation, StorageConfig, WarehouseConfig};
use crate::state::Fence;

pub use bigquery::auth::TokenError;
pub use bigquery::call_error::{CallError, JobFailure};
pub use bigquery::client::BigQuery;
pub use bigquery::timings::Timings;
pub use error::LoadError;
pub use finding::Finding;
pub use local::{LocalTable, LocalWarehouse};
pub use observed::ObservedLoad;
pub use shape::ShapeMismatch;
pub use warehouse::{
    Batch, FlatObjects, Loaded, Prepared, RepeatedKey, RepeatedKeys, Warehouse, load, trial_table,
};

/// The name under which the state records loads into a warehouse with load jobs; none for a folder.
pub fn target(config: &WarehouseConfig) -> Option<String> {
    match config {
        WarehouseConfig::Local(_) => None,
        WarehouseConfig::BigQuery {
            project, dataset, ..
        } => Some(bigquery::client::target(project, dataset)),
    }
}

/// The name under which the state records loads into the configured warehouse, whatever its kind.
pub fn target_name(config: &WarehouseConfig) -> String {
    match config {
        WarehouseConfig::Local(folder) => local::target(folder),
        WarehouseConfig::BigQuery {
            project, dataset, ..
        } => bigquery::client::target(project, dataset),
    }
}

/// Opens the configured warehouse for loads from the flattened bucket while the fence's lock is held.
pub async fn open(
    config: &WarehouseConfig,
    storage: &StorageConfig,
    io: &tokio::runtime::Handle,
    fence: &Fence,
) -> Result<Arc<dyn Warehouse>, LoadError> {
    Ok(match config {
        WarehouseConfig::Local(folder) => Arc::new(LocalWarehouse::open(folder, io)?.fenced(fence)),
        WarehouseConfig::BigQuery {
            project,
            dataset,
            location,
        } => {
            let warehouse =
                BigQuery::connect(project, dataset, location.as_deref(), &storage.google).await?;
            if let BucketLocation::Google(bucket) = &storage.flattened {
                location::check(
                    warehouse.target(),
                    warehouse.location(),
                    bucket,
                    &storage.google,
                )
                .await?;
            }
            Arc::new(warehouse.fenced(fence))
        }
    })
}

/// Opens the configured warehouse for reading, and creates nothing; none if it is a dataset that does not exist.
pub async fn look(
    config: &WarehouseConfig,
    storage: &StorageConfig,
    io: &tokio::runtime::Handle,
) -> Result<Option<Arc<dyn Warehouse>>, LoadError> {
    Ok(match config {
        WarehouseConfig::Local(folder) => Some(Arc::new(LocalWarehouse::look(folder, io)?)),
        WarehouseConfig::BigQuery {
            project,
            dataset,
            location,
        } => {
            let found =
                BigQuery::look(project, dataset, location.as_deref(), &storage.google).await?;
            found.map(|warehouse| Arc::new(warehouse) as Arc<dyn Warehouse>)
        }
    })
}

/// Checks the configured warehouse without changing anything.
pub async fn examine(config: &WarehouseConfig, storage: &StorageConfig) -> Vec<Finding> {
    match config {
        WarehouseConfig::Local(folder) if folder.is_dir() => {
            vec![Finding::good(
                "warehouse",
                format!("folder {}", folder.display()),
            )]
        }
        WarehouseConfig::Local(folder) => {
            vec![Finding::note(
                "warehouse",
                format!("folder {} is made by the first load", folder.display()),
            )]
        }
        WarehouseConfig::BigQuery {
            project,
            dataset,
            location,
        } => {
            let bucket = match &storage.flattened {
                BucketLocation::Google(name) => Some(name.as_str()),
                BucketLocation::Folder(_) => None,
            };
            BigQuery::examine(
                project,
                dataset,
                location.as_deref(),
                bucket,
                &storage.google,
            )
            .await
        }
    }
}
