//! What `check` finds at a warehouse.

/// The result of checking the configured warehouse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// How it is, or what to do.
    pub text: String,
    /// Good, bad, or neither.
    pub good: Option<bool>,
}

impl Finding {
    /// As it should be.
    pub fn good(what: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            text: text.into(),
            good: Some(true),
        }
    }

    /// Something is wrong; the text says how to fix it.
    pub fn bad(what: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            text: text.into(),
            good: Some(false),
        }
    }

    /// Worth knowing.
    pub fn note(what: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            text: text.into(),
            good: None,
        }
    }
}
