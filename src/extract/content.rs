//! The content digest of a task: equal digests mean equal content.

use crate::catalog::Source;
use crate::samsara::Page;

/// A digest of pages in any order: fan-outs request several at a time.
#[derive(Default)]
pub(super) struct Content([u64; 4]);

impl Content {
    /// Adds the columns of a source: equal pages read with other columns give other rows.
    pub(super) fn add_columns(&mut self, source: &Source) {
        self.add(&[format!("{:?}{:?}", source.fields, source.time_field).as_bytes()]);
        // Added only if there are any, so that digests of other sources stay the same.
        if !source.asked.is_empty() {
            self.add(&[format!("{:?}", source.asked).as_bytes()]);
        }
    }

    /// Adds the content of a page: its parent, its records, and its envelope fields. An empty page adds nothing, so
    /// that a parent without records changes nothing.
    pub(super) fn add_page(&mut self, parent: Option<&str>, records: &[u8], page: &Page) {
        if page.is_empty && page.envelope.is_empty() {
            return;
        }
        let mut parts = vec![parent.unwrap_or_default().as_bytes(), records];
        for (path, text) in &page.envelope {
            parts.extend([path.as_bytes(), &text[..]]);
        }
        self.add(&parts);
    }

    fn add(&mut self, parts: &[&[u8]]) {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let digest = hasher.finalize();
        for (sum, word) in self.0.iter_mut().zip(digest.as_bytes().chunks_exact(8)) {
            let word = word
                .iter()
                .fold(0, |word, byte| word << 8 | u64::from(*byte));
            *sum = sum.wrapping_add(word);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (sum, word) in self.0.iter_mut().zip(other.0) {
            *sum = sum.wrapping_add(word);
        }
    }

    /// Reads what `hex` writes.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = [0; 4];
        for (index, word) in words.iter_mut().enumerate() {
            *word = u64::from_str_radix(text.get(index * 16..(index + 1) * 16)?, 16).ok()?;
        }
        (text.len() == 64).then_some(Self(words))
    }

    pub(super) fn hex(&self) -> String {
        self.0.iter().map(|word| format!("{word:016x}")).collect()
    }
}
