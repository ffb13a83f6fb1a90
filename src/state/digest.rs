//! SHA-256 digests in state documents.

use std::fmt;

use serde::de::{Error, Unexpected, Visitor};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Sha256;

use crate::store::layout::is_hex;

/// Hexadecimal digits of a digest.
const DIGITS: usize = 64;

/// A SHA-256 digest. In text it has 64 lower-case hexadecimal digits; in memory half as many bytes, as the state of some
/// years has a hundred thousand digests.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha256Digest([u8; 32]);

impl Sha256Digest {
    /// Not the digest of anything.
    pub const NONE: Self = Self([0; 32]);

    /// Of what was hashed.
    pub fn of(hashed: Sha256) -> Self {
        Self(sha2::Digest::finalize(hashed).into())
    }

    /// Its 64 hexadecimal digits.
    pub fn to_hex(self) -> String {
        const_hex::encode(self.0)
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Sha256Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut digits = [0; DIGITS];
        let text = const_hex::encode_to_str(self.0, &mut digits);
        serializer.serialize_str(text.map_err(S::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Sha256Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(OfHex)
    }
}

struct OfHex;

impl Visitor<'_> for OfHex {
    type Value = Sha256Digest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a digest of {DIGITS} digits")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Sha256Digest, E> {
        let mut digest = [0; DIGITS / 2];
        if !is_hex(text, DIGITS) || const_hex::decode_to_slice(text, &mut digest).is_err() {
            return Err(E::invalid_value(Unexpected::Other("another text"), &self));
        }
        Ok(Sha256Digest(digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_64_digits_in_text() {
        let text = format!("\"{}\"", "0123456789abcdef".repeat(4));
        let digest: Sha256Digest = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&digest).unwrap(), text);
        assert_eq!(format!("{digest:?}"), text.trim_matches('"'));
        let refused = [
            String::new(),
            "0".repeat(63),
            "0".repeat(65),
            "A".repeat(64),
            format!("0x{}", "0".repeat(62)),
            "é".repeat(32),
        ];
        for text in refused {
            let error = serde_json::from_str::<Sha256Digest>(&format!("\"{text}\"")).unwrap_err();
            assert!(
                error.to_string().contains("a digest of 64 digits"),
                "{error}"
            );
        }
    }
}
