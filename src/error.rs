//! The library's errors as one type, with hints on what to do.

use crate::catalog::CatalogError;
use crate::config::ConfigError;
use crate::events::FailureKind;
use crate::extract::ExtractError;
use crate::load::LoadError;
use crate::plan::SelectionError;
use crate::samsara::SamsaraError;
use crate::state::{LockError, StateError};
use crate::store::StoreError;
use crate::transform::TransformError;

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
    State(#[from] StateError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The command line asks for something that is not possible.
    #[error("{0}")]
    Usage(String),
    /// The operating system reports an error outside the buckets.
    #[error("{what}: {source}")]
    System {
        what: String,
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// Whether the cause is the command line or the configuration.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Config(_) | Self::Catalog(_) | Self::Selection(_) | Self::Usage(_)
        ) || matches!(
            self,
            Self::Samsara(SamsaraError::NoToken | SamsaraError::Setup(_))
        ) || matches!(self, Self::Store(StoreError::Credentials { .. }))
    }

    /// Whether another run holds the lock, so that nothing was started.
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Lock(LockError::Held { .. }))
    }

    /// What kind of failure it is, where the rest of a run goes on.
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
            Self::Transform(TransformError::Duplicates { .. } | TransformError::Tests { .. }) => {
                FailureKind::Guard
            }
            Self::Transform(TransformError::Store { .. } | TransformError::Object(_)) => {
                FailureKind::Storage
            }
            Self::Transform(_) => FailureKind::Model,
            Self::Load(LoadError::Shrunken { .. }) => FailureKind::Guard,
            Self::Load(LoadError::Quota { .. }) => FailureKind::Quota,
            Self::Load(LoadError::Shape { .. }) => FailureKind::Shape,
            Self::Load(_) => FailureKind::Warehouse,
            _ => FailureKind::Other,
        }
    }

    /// What to do about it, where the message does not say already.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Samsara(error) => error.hint(),
            Self::Extract(error) => error.api().and_then(SamsaraError::hint),
            Self::Lock(LockError::Held { holder, .. })
                if holder.is_beyond_reason(chrono::Utc::now()) =>
            {
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
