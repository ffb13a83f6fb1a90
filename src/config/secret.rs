//! A value that must never be printed.

use std::fmt;

use crate::redact;

/// A token or key. It has no `Display`, and its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value, which is masked in all text from now on.
    pub fn new(value: impl Into<String>) -> Self {
        let value = value.into();
        redact::register(&value);
        Self(value)
    }

    /// Wraps a value of which only a part is secret; the caller registers that part.
    pub(super) fn unregistered(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn debug_shows_nothing() {
        assert!(!format!("{:?}", super::Secret::new("samsara_api_abc")).contains("abc"));
    }
}
