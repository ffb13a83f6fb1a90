//! People whom alerts may notify.

use serde_json::{Value, json};

use super::draw::Draw;
use super::vocabulary::{FAMILY_NAMES, GIVEN_NAMES};

const FIRST_CONTACT: u64 = 44_100;

#[derive(Debug, Clone)]
pub(crate) struct Contact {
    pub(crate) id: String,
    pub(crate) first_name: &'static str,
    pub(crate) last_name: &'static str,
    /// Empty where unknown, and so is the phone number.
    pub(crate) email: String,
    pub(crate) phone: String,
}

impl Contact {
    pub(crate) fn build(seed: u64, index: u64) -> Self {
        let mut draw = Draw::new(seed, "contact", &[index]);
        Self {
            id: (FIRST_CONTACT + index * 7).to_string(),
            first_name: draw.word(GIVEN_NAMES),
            last_name: draw.word(FAMILY_NAMES),
            email: if draw.chance(0.8) {
                format!("contact{index}@example.com")
            } else {
                String::new()
            },
            phone: if draw.chance(0.8) {
                format!("+49 30 {}", draw.code("0123456789", 7))
            } else {
                String::new()
            },
        }
    }

    /// How an address names it.
    pub(crate) fn mini(&self) -> Value {
        json!({ "id": self.id, "firstName": self.first_name, "lastName": self.last_name })
    }
}
