//! Generated files with what is known of the program's own models, by a digest of everything that it depends on.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

/// Characters of a digest in hexadecimal.
const DIGEST_CHARS: usize = 24;

/// The values of such a file, by digest. Its lines are a digest, a model's name and a colon, and the value.
pub(crate) fn known_values(text: &'static str) -> HashMap<&'static str, &'static str> {
    let parts = text.lines().filter_map(|line| {
        let (digest, rest) = line.split_once(' ')?;
        Some((digest, rest.split_once(": ")?.1))
    });
    parts.collect()
}

/// A digest as these files have it.
pub(crate) fn short_digest(digest: Sha256) -> String {
    let mut text = const_hex::encode(digest.finalize());
    text.truncate(DIGEST_CHARS);
    text
}

/// Fails if a file below `src/` is not this text, and updates it.
#[cfg(test)]
pub(crate) fn assert_current(file: &str, known: &str, text: &str) {
    if text != known {
        let path = format!("{}/src/{file}", env!("CARGO_MANIFEST_DIR"));
        std::fs::write(&path, text).unwrap();
        panic!("{path} was stale and has been updated: commit it");
    }
}
