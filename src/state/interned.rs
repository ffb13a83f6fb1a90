//! Texts of which state documents have the same again and again: they share one copy in memory.

use std::cell::RefCell;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::strict::Text;

/// Texts that a thread remembers: the tables of one source, and the warehouse, come in turn.
const REMEMBERED: usize = 8;

thread_local! {
    static RECENT: RefCell<Vec<Arc<str>>> = const { RefCell::new(Vec::new()) };
}

/// The text, as the copy of it that this thread has read recently, if it has.
pub(super) fn interned(text: &str) -> Arc<str> {
    RECENT.with_borrow_mut(|recent| {
        if let Some(place) = recent.iter().position(|known| **known == *text) {
            // The oldest is forgotten first.
            recent[..=place].rotate_right(1);
        } else {
            recent.truncate(REMEMBERED - 1);
            recent.insert(0, text.into());
        }
        recent[0].clone()
    })
}

/// For serde's `with`.
pub(super) fn serialize<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    text.as_ref().serialize(serializer)
}

/// For serde's `with`.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Arc<str>, D::Error> {
    let Text(text) = Text::deserialize(deserializer)?;
    Ok(interned(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_copy() {
        let names: Vec<String> = (0..REMEMBERED).map(|n| format!("table_{n}")).collect();
        let first: Vec<Arc<str>> = names.iter().map(|name| interned(name)).collect();
        for (name, first) in names.iter().zip(&first) {
            assert!(Arc::ptr_eq(&interned(name), first));
        }
        // One too many, and the one that was read longest ago is forgotten.
        assert_eq!(&*interned("another"), "another");
        assert!(Arc::ptr_eq(&interned(&names[1]), &first[1]));
        assert!(!Arc::ptr_eq(&interned(&names[0]), &first[0]));
    }
}
