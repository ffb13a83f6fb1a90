//! Where pages go on.

/// A query and the cursor behind the last page that was read with it. The API refuses the cursor with any other query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The rendered query without cursor, byte for byte as it was sent.
    pub query: String,
    /// The opaque cursor; empty before the first page.
    pub cursor: String,
}

impl super::Feed {
    /// Its query and cursor.
    pub fn position(&self) -> Position {
        Position {
            query: self.query.clone(),
            cursor: self.cursor.clone(),
        }
    }
}
