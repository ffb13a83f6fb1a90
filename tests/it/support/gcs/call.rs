//! Requests, taken apart.

use std::collections::HashMap;

use axum::http::{HeaderMap, HeaderName, Method, header, request::Parts};
use bytes::Bytes;

use super::{store::Refusal, xml};

const IF_GENERATION_MATCH: &str = "x-goog-if-generation-match";

/// A request taken apart.
pub struct Call {
    pub method: Method,
    pub bucket: String,
    pub key: String,
    pub query: HashMap<String, String>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Call {
    pub fn new(parts: Parts, body: Bytes) -> Self {
        // Split before decoding: clients may encode the slashes within a key, DuckDB does not.
        let path = parts.uri.path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let query = parts.uri.query().unwrap_or_default();
        Self {
            bucket: xml::percent_decode(bucket),
            key: xml::percent_decode(key),
            query: url::form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
            method: parts.method,
            headers: parts.headers,
            body,
        }
    }

    pub fn header(&self, name: impl AsRef<str>) -> Option<&str> {
        self.headers.get(name.as_ref())?.to_str().ok()
    }

    pub fn expected_generation(&self) -> Result<Option<u64>, Refusal> {
        let text = self.header(IF_GENERATION_MATCH);
        let number = text.map(str::parse).transpose();
        number.map_err(|_| Refusal::InvalidArgument)
    }

    /// The headers which are stored with an object and come back with it.
    pub fn lasting_headers(&self) -> HeaderMap {
        let lasting = |name: &HeaderName| {
            name.as_str().starts_with("x-goog-meta-")
                || [
                    header::CACHE_CONTROL,
                    header::CONTENT_DISPOSITION,
                    header::CONTENT_ENCODING,
                    header::CONTENT_LANGUAGE,
                    header::CONTENT_TYPE,
                ]
                .contains(name)
        };
        let headers = self.headers.iter().filter(|(name, _)| lasting(name));
        headers
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}
