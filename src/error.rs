//! The library's errors as one type, with hints on what to do.

use chrono::NaiveDate;
use tokio::task::JoinError;

use crate::catalog::CatalogError;
use crate::clock;
use crate::config::ConfigError;
use crate::delta::DeltaError;
use crate::events::FailureKind;
use crate::extract::ExtractError;
use crate::load::LoadError;
use crate::plan::{PlanError, SelectionError};
use crate::samsara::SamsaraError;
use crate::state::{LockError, StateError};
use crate::store::StoreError;
use crate::store::layout::Partition;
#[cfg(feature = "ballista")]
use crate::transform::ClusterError;
use crate::transform::{DataError, TransformError, WindowGap};

/// Anything that can end a command.
#[derive(Debug, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "each variant is the error of a module, documented there"
)]
pub enum Error {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Selection(#[from] SelectionError),
    #[error(transparent)]
    Samsara(#[from] SamsaraError),
    #[error(transparent)]
    Extract(#[from] ExtractError),
    #[error(transparent)]
    Transform(#[from] TransformError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Delta(#[from] DeltaError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Clean(#[from] CleanError),
    #[error(transparent)]
    Preview(#[from] PreviewError),
    #[error(transparent)]
    Diff(#[from] DiffError),
    /// The arguments ask for something that is not possible.
    #[error("{0}")]
    Usage(String),
    /// A task ended without a result: it panicked, or was cancelled.
    #[error("{what} stopped: {source}")]
    Task {
        what: String,
        #[source]
        source: JoinError,
    },
    /// The pipeline was used after its shutdown.
    #[error("the pipeline is shut down")]
    ShutDown,
    /// The operating system reports an error outside the buckets.
    #[error("{what}: {source}")]
    System {
        what: String,
        #[source]
        source: std::io::Error,
    },
}

impl From<PlanError> for Error {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::State(error) => error.into(),
            PlanError::Catalog(error) => error.into(),
        }
    }
}

impl From<DataError> for Error {
    fn from(error: DataError) -> Self {
        Self::Transform(error.into())
    }
}

/// Another source that a source or model needs, and that cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UpstreamError {
    /// The last attempt to read a source of the model failed.
    #[error("upstream {source_name} could not be read")]
    Failed {
        /// The other source.
        source_name: String,
    },
    /// A source of the model has no rows yet.
    #[error("upstream {source_name} was not read yet")]
    NotRead {
        /// The other source.
        source_name: String,
    },
    /// A table that the model reads is not derived from the current rows of its own sources, because that failed.
    #[error("upstream table {table} was not derived")]
    NotDerived {
        /// The other table.
        table: String,
    },
    /// The row-count guard refuses a source of the model.
    #[error(
        "upstream {source_name}: row count fell from {before} to {rows}; if that is right, run with --accept-shrunken {table}"
    )]
    Shrunken {
        /// The other source.
        source_name: String,
        /// The table that the guard is for.
        table: String,
        /// Rows that it has now.
        rows: u64,
        /// Rows that it had before.
        before: u64,
    },
    /// The list of parent ids could not be read.
    #[error("its parent {source_name} could not be read, so there are no ids to ask for")]
    ParentFailed {
        /// The parent.
        source_name: String,
    },
    /// The row-count guard refuses the list of parent ids.
    #[error(
        "its parent {source_name} has {rows} rows now and had {before}, so nothing is requested: if that is right, run with \
         --accept-shrunken {table}"
    )]
    ParentShrunken {
        /// The parent.
        source_name: String,
        /// The table that the guard is for.
        table: String,
        /// Rows that it has now.
        rows: u64,
        /// Rows that it had before.
        before: u64,
    },
    /// The organisation does not have the parent's endpoint.
    #[error("{source_name}, whose rows it needs, is not available: {reason}")]
    ParentUnavailable {
        /// The parent.
        source_name: String,
        /// Why it is not available, according to the state.
        reason: String,
    },
}

/// A state that does not show which objects are unused: nothing is removed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CleanError {
    /// A file among the state documents that is not a state document.
    #[error(
        "{uri} is not a state document of this program, nor of a version that is known: nothing is removed"
    )]
    ForeignDocument {
        /// The file.
        uri: String,
    },
    /// There are no state documents.
    #[error(
        "{uri}/ holds no state document of this program, so nothing is known to be unused: is this the right raw bucket?"
    )]
    NoState {
        /// The folder of the state documents.
        uri: String,
    },
}

/// A model that cannot be previewed with the rows in the raw bucket.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PreviewError {
    /// A day was given for a list.
    #[error("{source_name} is a list and has no days: leave the day out")]
    NoDays {
        /// The driving source of the model.
        source_name: String,
    },
    /// The driving source of the model has no complete partition, or not that of the day.
    #[error("there are no raw rows of {source_name}{}: `samsara-etl run` reads them", day.map(|day| format!(" of {day}")).unwrap_or_default())]
    NotRead {
        /// The driving source of the model.
        source_name: String,
        /// The requested day.
        day: Option<NaiveDate>,
    },
    /// Days of the partition's window were not read.
    #[error("{model} {partition}: {gap}: `samsara-etl run` reads them")]
    Window {
        /// The model.
        model: String,
        /// Its partition.
        partition: Partition,
        /// What is missing.
        gap: WindowGap,
    },
    /// The model reads a history table, which cannot be made from raw rows.
    #[error(
        "{table} holds versions that only runs can make, so a model that reads it cannot be previewed"
    )]
    Versions {
        /// The table with the versions.
        table: String,
    },
}

/// Committed rows that cannot be compared with those of an edited model.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DiffError {
    /// No rows of the partition are committed.
    #[error(
        "{model} {partition}: no rows are committed to compare with: `samsara-etl run` derives them"
    )]
    NotCommitted {
        /// The model.
        model: String,
        /// Its partition.
        partition: Partition,
    },
    /// A column has a type that no table can have.
    #[error("{model} {partition}: a committed column {reason}")]
    Column {
        /// The model.
        model: String,
        /// Its partition.
        partition: Partition,
        /// The type, and why no table can have it.
        reason: String,
    },
    /// There is no column to compare.
    #[error(
        "{model} {partition}: the new rows have no column in common with those that are committed"
    )]
    NoCommonColumn {
        /// The model.
        model: String,
        /// Its partition.
        partition: Partition,
    },
}

impl Error {
    /// Whether the cause is the command line or the configuration.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Config(_)
                | Self::Catalog(_)
                | Self::Selection(_)
                | Self::Clean(_)
                | Self::Preview(_)
                | Self::Diff(_)
                | Self::Usage(_)
        ) || matches!(
            self,
            Self::Samsara(
                SamsaraError::NoToken | SamsaraError::TokenMalformed | SamsaraError::Setup(_)
            )
        ) || matches!(self, Self::Store(StoreError::Credentials { .. }))
    }

    /// Whether another run holds the lock, so that nothing was started.
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Lock(LockError::Held { .. }))
    }

    /// The kind of a failure that does not end the run.
    pub fn kind(&self) -> FailureKind {
        let api = |error: &SamsaraError| match error {
            SamsaraError::NotPermitted { .. } | SamsaraError::TokenRefused { .. } => {
                FailureKind::NotPermitted
            }
            SamsaraError::NotFound { .. }
            | SamsaraError::Refused { .. }
            | SamsaraError::CursorRefused { .. }
            | SamsaraError::Redirected { .. }
            | SamsaraError::Unaddressable { .. } => FailureKind::ApiRefused,
            SamsaraError::Unavailable { .. }
            | SamsaraError::Resting { .. }
            | SamsaraError::RegionUnknown { .. } => FailureKind::ApiUnavailable,
            _ => FailureKind::Malformed,
        };
        match self {
            Self::Samsara(error) => api(error),
            Self::Extract(error) => match (error.api(), error) {
                (Some(error), _) => api(error),
                (None, ExtractError::Store { .. }) => FailureKind::Storage,
                (None, ExtractError::Page { .. }) => FailureKind::Malformed,
                (None, _) => FailureKind::Other,
            },
            Self::Store(_) | Self::State(_) => FailureKind::Storage,
            Self::Transform(TransformError::Duplicates { .. } | TransformError::Tests { .. })
            | Self::Upstream(
                UpstreamError::Shrunken { .. } | UpstreamError::ParentShrunken { .. },
            ) => FailureKind::Guard,
            Self::Upstream(UpstreamError::ParentUnavailable { .. }) => FailureKind::NotPermitted,
            Self::Transform(TransformError::Store { .. } | TransformError::Object(_)) => {
                FailureKind::Storage
            }
            #[cfg(feature = "ballista")]
            Self::Transform(TransformError::Cluster {
                error: ClusterError::Store { .. },
                ..
            }) => FailureKind::Storage,
            #[cfg(feature = "ballista")]
            Self::Transform(TransformError::Cluster { .. } | TransformError::NoCluster(_)) => {
                FailureKind::Other
            }
            Self::Transform(_) => FailureKind::Model,
            Self::Load(LoadError::Shrunken { .. }) => FailureKind::Guard,
            Self::Load(LoadError::Quota { .. }) => FailureKind::Quota,
            Self::Load(LoadError::Shape { .. }) => FailureKind::Shape,
            Self::Load(_) => FailureKind::Warehouse,
            Self::Delta(DeltaError::Types { .. }) => FailureKind::Shape,
            Self::Delta(_) => FailureKind::Storage,
            _ => FailureKind::Other,
        }
    }

    /// What to do about it, unless the message says so already.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Samsara(error) => error.hint(),
            Self::Extract(error) => error.api().and_then(SamsaraError::hint),
            Self::Lock(LockError::Held { holder, .. }) if holder.is_beyond_reason(clock::now()) => {
                Some(
                    "the lock's expiry is implausibly far away: if no run is active, remove lock.json from the raw bucket (--wait would wait until the expiry)",
                )
            }
            Self::Lock(LockError::Held { .. }) => Some(
                "wait for it with --wait; the lock of a run that died elsewhere is taken over when its lease expires",
            ),
            Self::Lock(LockError::Malformed { .. }) => Some(
                "if no run is active, remove it; if another version of this program wrote it, use that version",
            ),
            Self::State(StateError::Malformed { .. })
            | Self::State(StateError::Store(StoreError::TooLarge { .. })) => Some(
                "restore an earlier version of the document (from the bucket's versions or a backup); or remove it, and the source is read again from the start",
            ),
            Self::Lock(LockError::Lost { .. }) => Some("run again; completed work is kept"),
            Self::Selection(SelectionError::Unknown { .. }) => {
                Some("`samsara-etl tables` lists all tables")
            }
            _ => None,
        }
    }
}
