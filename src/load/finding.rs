//! What `check` finds at a warehouse.

/// What a look at the configured warehouse found.
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

    /// Not as it should be; the text tells the remedy.
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
