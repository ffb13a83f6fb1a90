//! Documents of this program, read as strictly as they are written.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::fmt::{self, Display};
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A document that this program did not write.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is not text.
    #[error("not UTF-8 at byte {}", .0.valid_up_to())]
    NotUtf8(#[from] std::str::Utf8Error),
    /// It is not JSON, or has other members.
    #[error("{}", crate::redact::foreign(.0))]
    Json(#[from] serde_json::Error),
    /// It says something that this program does not write, described here.
    #[error("{0}")]
    Content(String),
}

impl From<String> for DocumentError {
    fn from(description: String) -> Self {
        Self::Content(description)
    }
}

/// Reads a document: one JSON value in UTF-8, in which no object has two members of one name. Of two, readers take
/// either, so that a document that has them says something else to everybody.
///
/// # Errors
/// [`DocumentError::NotUtf8`] or [`DocumentError::Json`], with the position.
pub fn read_document<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DocumentError> {
    let text = std::str::from_utf8(bytes)?;
    serde_json::from_str::<Unique>(text)?;
    Ok(serde_json::from_str(text)?)
}

/// As [`read_document`], in one pass: for types that refuse a name that appears twice by themselves. Structures do, if
/// serde derives how they are read; maps do with [`unique_names`].
///
/// # Errors
/// As [`read_document`].
pub fn read_unique<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DocumentError> {
    Ok(serde_json::from_str(std::str::from_utf8(bytes)?)?)
}

/// Reads a map of which no name appears twice, for serde's `deserialize_with`.
///
/// # Errors
/// The name that appears twice, besides those of keys and values.
pub fn unique_names<'de, D, K, V>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord + Display,
    V: Deserialize<'de>,
{
    unique_names_with(deserializer, |value| value)
}

/// As [`unique_names`], and makes of each value what is kept of it.
///
/// # Errors
/// As [`unique_names`].
pub fn unique_names_with<'de, D, K, V, W>(
    deserializer: D,
    keep: fn(V) -> W,
) -> Result<BTreeMap<K, W>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord + Display,
    V: Deserialize<'de>,
{
    deserializer.deserialize_map(UniqueNames {
        keep,
        key: PhantomData,
    })
}

struct UniqueNames<K, V, W> {
    keep: fn(V) -> W,
    key: PhantomData<K>,
}

impl<'de, K, V, W> Visitor<'de> for UniqueNames<K, V, W>
where
    K: Deserialize<'de> + Ord + Display,
    V: Deserialize<'de>,
{
    type Value = BTreeMap<K, W>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = BTreeMap::new();
        while let Some(key) = members.next_key::<K>()? {
            match found.entry(key) {
                Entry::Vacant(entry) => entry.insert((self.keep)(members.next_value()?)),
                Entry::Occupied(entry) => {
                    return Err(A::Error::custom(appears_twice(entry.key())));
                }
            };
        }
        Ok(found)
    }
}

/// What is wrong with an object that has two members of this name.
pub(super) fn appears_twice(name: &impl Display) -> String {
    format!("the name `{name:.60}` appears twice in one object")
}

/// Any JSON value whose objects have no name twice.
struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Unique)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Unique>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        let mut names = BTreeSet::new();
        while let Some(Text(name)) = members.next_key()? {
            if names.contains(&name) {
                return Err(A::Error::custom(appears_twice(&name)));
            }
            names.insert(name);
            members.next_value::<Unique>()?;
        }
        Ok(self)
    }
}

/// A text, which is copied only where it has an escape.
pub(super) struct Text<'de>(pub(super) Cow<'de, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Text(name.into()))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Text(name.to_string().into()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn duplicate_json_names_are_refused() {
        let fine = [
            r#"{"a":[{"b":1},{"b":-1.5}],"b":{"a":null,"c":true}}"#,
            "[]",
            "\"x\"",
        ];
        for text in fine {
            let read: Value = read_document(text.as_bytes()).unwrap();
            assert_eq!(read.to_string(), text);
        }
        let refused: [(&[u8], &str); 7] = [
            (br#"{"a":1,"b":2,"a":1}"#, "`a` appears twice"),
            (br#"[{"x":[{"a":1,"\u0061":2}]}]"#, "`a` appears twice"),
            (b"{\"a\":\"\xff\"}", "not UTF-8 at byte 6"),
            (br#"{"a":1"#, "EOF"),
            (br#"{"a":1}{"#, "trailing"),
            (b"", "EOF"),
            (b"{\"a\":1e999}", "out of range"),
        ];
        for (text, reason) in refused {
            let error = read_document::<Value>(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        #[derive(Debug, PartialEq, Deserialize)]
        struct Typed {
            #[serde(default, deserialize_with = "unique_names")]
            texts: BTreeMap<String, String>,
        }
        let read: Typed = read_unique(br#"{"texts":{"a":"x","b":""}}"#).unwrap();
        let texts = [("a", "x"), ("b", "")].map(|(name, text)| (name.into(), text.into()));
        assert_eq!(read.texts, texts.into());
        let refused: [(&[u8], &str); 5] = [
            (br#"{"texts":{"a":"","a":""}}"#, "`a` appears twice"),
            (br#"{"texts":{"a":"","\u0061":""}}"#, "`a` appears twice"),
            (br#"{"texts":{},"texts":{}}"#, "duplicate field `texts`"),
            (br#"{"texts":[]}"#, "a map"),
            (b"{\"texts\":{\"\xff\":\"\"}}", "not UTF-8"),
        ];
        for (text, reason) in refused {
            let error = read_unique::<Typed>(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(
            read_document::<Value>(deep.as_bytes())
                .unwrap_err()
                .to_string()
                .contains("recursion")
        );
    }
}
