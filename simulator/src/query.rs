//! The parameters of a request, and the errors about wrong ones.

use axum::http::StatusCode;
use sha2::{Digest, Sha256};
use url::form_urlencoded;

use super::time::{Millis, parse_day, parse_time};

/// The parameters of a request in the order in which they were sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

/// A refusal. Newer endpoints return JSON, v1 endpoints plain text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    pub(crate) json: bool,
}

impl Refusal {
    pub(crate) fn json(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            json: true,
        }
    }

    /// Status 400 in JSON.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::json(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn text(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            json: false,
        }
    }

    /// Status 400 as the v1 endpoints write it.
    pub(crate) fn rpc(why: impl std::fmt::Display) -> Self {
        Self::text(
            StatusCode::BAD_REQUEST,
            format!("rpc error: code = InvalidArgument desc = {why}"),
        )
    }
}

impl Query {
    pub(crate) fn parse(raw: &str) -> Self {
        Self {
            pairs: form_urlencoded::parse(raw.as_bytes())
                .into_owned()
                .collect(),
        }
    }

    /// The first value of a parameter, unless it is empty.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next().filter(|value| !value.is_empty())
    }

    /// Every value of a parameter that is repeated.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.pairs
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The parts of a comma-joined parameter.
    pub(crate) fn list(&self, name: &str) -> Vec<&str> {
        self.first(name)
            .map(|value| value.split(',').map(str::trim).collect())
            .unwrap_or_default()
    }

    /// Whether one of the values of a parameter is exactly this.
    pub(crate) fn carries(&self, name: &str, value: &str) -> bool {
        self.all(name).any(|given| given == value)
    }

    /// An RFC 3339 time that may be left out.
    pub(crate) fn optional_time(&self, name: &str) -> Result<Option<Millis>, Refusal> {
        let parse = |text| {
            parse_time(text).ok_or_else(|| Refusal::bad(format!("{name} is not an RFC 3339 time.")))
        };
        self.first(name).map(parse).transpose()
    }

    /// An RFC 3339 time.
    pub(crate) fn time(&self, name: &str) -> Result<Millis, Refusal> {
        self.optional_time(name)?
            .ok_or_else(|| Refusal::bad(format!("{name} is required.")))
    }

    /// A date without a time, as a number of days.
    pub(crate) fn date(&self, name: &str) -> Result<i64, Refusal> {
        let text = self
            .first(name)
            .ok_or_else(|| Refusal::bad(format!("{name} is required.")))?;
        parse_day(text)
            .ok_or_else(|| Refusal::bad(format!("{name} is not a date such as 2024-01-31.")))
    }

    /// A flag that may be left out.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.first(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(Refusal::bad(format!("{name} must be true or false."))),
        }
    }

    /// A whole number of a v1 endpoint.
    pub(crate) fn v1_number(&self, name: &str) -> Result<i64, Refusal> {
        let text = self
            .first(name)
            .ok_or_else(|| Refusal::rpc(format!("missing {name}")))?;
        text.parse()
            .map_err(|_| Refusal::rpc(format!("{name} {text:?} is not an int64")))
    }

    /// What a cursor is bound to: the path and every parameter except those named. The order among different parameters
    /// does not matter; the order and spelling of values does.
    pub(crate) fn fingerprint(&self, path: &str, but: &[&str]) -> u64 {
        let mut pairs: Vec<&(String, String)> = self
            .pairs
            .iter()
            .filter(|(key, _)| !but.contains(&key.as_str()))
            .collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        let mut hash = Sha256::new();
        for part in
            std::iter::once(path).chain(pairs.iter().flat_map(|(key, value)| [key.as_str(), value]))
        {
            // The length keeps "a" + "bc" apart from "ab" + "c".
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        first_eight(&hash.finalize())
    }
}

/// The first eight bytes of a hash as a number.
pub(crate) fn first_eight(hash: &[u8]) -> u64 {
    hash.iter()
        .take(8)
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_split() {
        let query = Query::parse(
            "types=gps%2CengineRpm&startTime=2024-01-01T00%3A00%3A00%2B01%3A00&after=",
        );
        assert_eq!(query.list("types"), ["gps", "engineRpm"]);
        assert_eq!(query.time("startTime"), Ok(1_704_063_600_000));
        assert_eq!(query.first("after"), None);
        assert!(query.time("endTime").is_err_and(|refusal| refusal.json));
        assert!(query.v1_number("types").is_err_and(|refusal| !refusal.json));
    }

    #[test]
    fn a_fingerprint_sees_values_but_not_the_order_of_names() {
        let print = |raw: &str| Query::parse(raw).fingerprint("/path", &["after"]);
        assert_eq!(print("a=1&b=2&after=x"), print("b=2&a=1"));
        assert_ne!(print("a=1&b=2"), print("a=1&b=3"));
        assert_ne!(print("ids=1&ids=2"), print("ids=2&ids=1"));
        assert_ne!(print("ids=1,2"), print("ids=2,1"));
    }
}
