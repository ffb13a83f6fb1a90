//! Why the records of a page cannot become rows.

use arrow::error::ArrowError;

use crate::json::JsonError;

/// Records that cannot be decoded, or that cannot be assigned to days.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The text is not JSON of the expected kind.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The records do not fit the declared types.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    /// A value for `_rescued_data` is not text.
    #[error("a rescued value is not UTF-8: {0}")]
    RescuedText(#[from] std::str::Utf8Error),
    /// What a record contains, or how it differs from its source's declaration.
    #[error("{0}")]
    Record(String),
}

impl From<String> for DecodeError {
    fn from(description: String) -> Self {
        Self::Record(description)
    }
}

impl From<&str> for DecodeError {
    fn from(description: &str) -> Self {
        Self::Record(description.into())
    }
}
