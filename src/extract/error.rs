//! Why an extract task failed.

use tokio::task::JoinError;

use super::decode_error::DecodeError;
use super::request::ExtractTask;
use crate::samsara::{Request, SamsaraError};
use crate::store::StoreError;
use crate::store::layout::Partition;

/// A task that failed. Nothing of it is committed.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The API.
    #[error("{tables} {scope}: {error}")]
    Api {
        /// The sources.
        tables: String,
        /// Days, or the snapshot.
        scope: String,
        /// The API's fault.
        #[source]
        error: SamsaraError,
    },
    /// A page cannot be decoded.
    #[error("{tables} {scope}: page {page} of {request}: {error}")]
    Page {
        /// The sources.
        tables: String,
        /// Days, or the snapshot.
        scope: String,
        /// Position in the task, from 1.
        page: u64,
        /// Path and query.
        request: String,
        /// What is wrong.
        #[source]
        error: DecodeError,
    },
    /// The raw bucket.
    #[error("{tables} {scope}: {error}")]
    Store {
        /// The sources.
        tables: String,
        /// Days, or the snapshot.
        scope: String,
        /// The bucket's fault.
        #[source]
        error: StoreError,
    },
    /// The ledger does not balance.
    #[error("{table} {partition}: {owned} raw rows belong to it, its Parquet holds {written}")]
    Ledger {
        /// The source.
        table: String,
        /// The partition.
        partition: Partition,
        /// Rows of the API's records that belong to the partition.
        owned: u64,
        /// Rows in its objects.
        written: u64,
    },
    /// The task that decodes ended without a result: it panicked, or was cancelled.
    #[error("{tables} {scope}: the decoder stopped: {error}")]
    Worker {
        /// The sources.
        tables: String,
        /// Days, or the snapshot.
        scope: String,
        /// How it ended.
        #[source]
        error: JoinError,
    },
}

impl ExtractError {
    /// The API's fault, if it was the API's.
    pub fn api(&self) -> Option<&SamsaraError> {
        match self {
            Self::Api { error, .. } => Some(error),
            _ => None,
        }
    }

    /// Whether the API no longer accepts the cursor, so that the task must start over.
    pub fn is_dead_cursor(&self) -> bool {
        matches!(self.api(), Some(SamsaraError::CursorRefused { .. }))
    }

    /// Whether the API refuses the request as malformed.
    pub fn is_refused(&self) -> bool {
        matches!(self.api(), Some(SamsaraError::Refused { status: 400, .. }))
    }
}

impl ExtractTask {
    pub(super) fn api(&self, error: SamsaraError) -> ExtractError {
        ExtractError::Api {
            tables: self.tables(),
            scope: self.scope.to_string(),
            error,
        }
    }

    pub(super) fn store(&self, error: StoreError) -> ExtractError {
        ExtractError::Store {
            tables: self.tables(),
            scope: self.scope.to_string(),
            error,
        }
    }

    /// A page that cannot be read.
    pub(super) fn page_error(
        &self,
        page: u64,
        request: &Request,
        error: DecodeError,
    ) -> ExtractError {
        ExtractError::Page {
            tables: self.tables(),
            scope: self.scope.to_string(),
            page,
            request: request.identity(),
            error,
        }
    }
}
