//! A double of Cloud Storage's XML API, over real HTTP and in memory.
//!
//! Of the JSON API it knows where a bucket is. It speaks what `object_store` and DuckDB speak: whole and ranged reads, conditional writes,
//! listings in pages, uploads in parts. Every comparison and the write it guards happen under one
//! lock, so of many writers with the same precondition exactly one wins.

mod call;
mod store;
mod xml;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;

use self::call::Call;
pub use self::store::ObjectInfo;
use self::store::{Content, Listing, Object, Refusal, Store};
use super::{
    faults::{Fault, Faults},
    wire::{Connection, Server},
};

const GENERATION: HeaderName = HeaderName::from_static("x-goog-generation");
const COPY_SOURCE: &str = "x-goog-copy-source";
const LARGEST_PAGE: usize = 1000;

/// How a double departs from its defaults.
#[derive(Clone, Copy, Debug)]
pub struct GcsOptions {
    /// Refuse with 429 a change of an object that was changed less than this ago; the real one does within a second.
    pub write_interval: Duration,
    /// Listings never give more entries at once than this.
    pub page_size: usize,
}

impl Default for GcsOptions {
    fn default() -> Self {
        Self {
            write_interval: Duration::ZERO,
            page_size: LARGEST_PAGE,
        }
    }
}

/// A request that reached the double.
#[derive(Clone, Debug, PartialEq)]
pub struct GcsRequest {
    pub method: String,
    pub bucket: String,
    /// Empty for a listing.
    pub key: String,
    /// As sent, without the `?`.
    pub query: String,
    /// None where the connection was cut instead.
    pub status: Option<u16>,
}

/// The running double; dropping it stops it.
///
/// The target of its fault rules is the object's key, or a listing's prefix.
pub struct GcsDouble {
    shared: Arc<Shared>,
    server: Server,
}

struct Shared {
    store: Mutex<Store>,
    requests: Mutex<Vec<GcsRequest>>,
    /// Method and key of every request, answered or not.
    begun: Mutex<Vec<(String, String)>>,
    faults: Faults,
    options: GcsOptions,
    /// Of buckets that are not in the US.
    locations: Mutex<HashMap<String, String>>,
}

impl GcsDouble {
    pub fn start(buckets: &[&str]) -> Self {
        Self::start_with(buckets, GcsOptions::default())
    }

    pub fn start_with(buckets: &[&str], options: GcsOptions) -> Self {
        let mut store = Store::default();
        for bucket in buckets {
            store.add_bucket(bucket);
        }
        let shared = Arc::new(Shared {
            store: Mutex::new(store),
            requests: Mutex::default(),
            begun: Mutex::default(),
            faults: Faults::default(),
            options,
            locations: Mutex::default(),
        });
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shared));
        let server = Server::start(router);
        Self { shared, server }
    }

    /// The value for `STORAGE_EMULATOR_HOST`.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    pub fn fault(&self, fault: Fault) {
        self.shared.faults.add(fault);
    }

    pub fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    /// Every request so far, in the order in which they were answered.
    pub fn requests(&self) -> Vec<GcsRequest> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// How many requests so far are like this.
    pub fn count(&self, is_it: impl Fn(&GcsRequest) -> bool) -> usize {
        self.shared
            .requests
            .lock()
            .unwrap()
            .iter()
            .filter(|request| is_it(request))
            .count()
    }

    /// Whether such a request has come, answered or not.
    pub fn has_begun(&self, method: &str, prefix: &str) -> bool {
        let begun = self.shared.begun.lock().unwrap();
        begun
            .iter()
            .any(|(other, key)| other == method && key.starts_with(prefix))
    }

    pub fn clear_requests(&self) {
        self.shared.requests.lock().unwrap().clear();
    }

    /// Adds an empty bucket; one that exists is left as it is.
    pub fn add_bucket(&self, bucket: &str) {
        self.shared.store.lock().unwrap().add_bucket(bucket);
    }

    /// Moves a bucket elsewhere; they are made in the US.
    pub fn set_location(&self, bucket: &str, location: &str) {
        self.shared
            .locations
            .lock()
            .unwrap()
            .insert(bucket.into(), location.into());
    }

    /// All objects of a bucket, by key. Panics, as the accessors below do, for an unknown bucket.
    pub fn objects(&self, bucket: &str) -> Vec<ObjectInfo> {
        let store = self.shared.store.lock().unwrap();
        let objects = store.bucket(bucket).expect("a known bucket");
        objects.values().map(|object| object.info.clone()).collect()
    }

    /// An object's bytes, past HTTP, log, faults and limits.
    pub fn get(&self, bucket: &str, key: &str) -> Option<Bytes> {
        let store = self.shared.store.lock().unwrap();
        let objects = store.bucket(bucket).expect("a known bucket");
        objects.get(key).map(|object| object.content.data.clone())
    }

    /// Writes an object, past HTTP, log, faults and limits, and returns its generation.
    pub fn put(&self, bucket: &str, key: &str, data: impl Into<Bytes>) -> u64 {
        let content = Content {
            data: data.into(),
            headers: HeaderMap::new(),
        };
        let mut store = self.shared.store.lock().unwrap();
        let written = store.put(bucket, key, content, None);
        written.expect("a known bucket").generation
    }

    /// Removes an object, past HTTP, log, faults and limits; says whether there was one.
    pub fn delete(&self, bucket: &str, key: &str) -> bool {
        let mut store = self.shared.store.lock().unwrap();
        store.bucket(bucket).expect("a known bucket");
        store.delete(bucket, key, None).is_ok()
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
        // The client went away in the middle of its body.
        connection.cut();
        return StatusCode::BAD_REQUEST.into_response();
    };
    let call = Call::new(parts, body);
    let target = match call.query.get("prefix") {
        Some(prefix) if call.key.is_empty() => prefix,
        _ => &call.key,
    };
    let request = (call.method.as_str(), target.as_str());
    shared
        .begun
        .lock()
        .unwrap()
        .push((call.method.to_string(), call.key.clone()));
    let refuse = |status| Refusal::Told(status).into_response();
    let apply = || {
        shared
            .apply(&call)
            .unwrap_or_else(IntoResponse::into_response)
    };
    let (response, status) = shared
        .faults
        .answer(request, &connection, refuse, apply)
        .await;
    shared.requests.lock().unwrap().push(GcsRequest {
        method: call.method.to_string(),
        bucket: call.bucket,
        key: call.key,
        query,
        status,
    });
    response
}

impl Shared {
    fn apply(&self, call: &Call) -> Result<Response, Refusal> {
        let mut store = self.store.lock().unwrap();
        if let ("storage", Some(bucket)) = (call.bucket.as_str(), call.key.strip_prefix("v1/b/")) {
            store.bucket(bucket)?;
            let location = self
                .locations
                .lock()
                .unwrap()
                .get(bucket)
                .cloned()
                .unwrap_or_else(|| "US".into());
            return Ok(Json(serde_json::json!({ "location": location })).into_response());
        }
        store.bucket(&call.bucket)?;
        if call.key.is_empty() {
            return match call.method {
                Method::GET => self.list(&store, call),
                _ => Err(Refusal::MethodNotAllowed),
            };
        }
        let upload = call.query.get("uploadId");
        match (&call.method, upload) {
            (&Method::GET | &Method::HEAD, None) => read(&store, call),
            (&Method::PUT, Some(upload)) => put_part(&mut store, call, upload),
            (&Method::PUT, None) => {
                self.allow_change(&store, call)?;
                write(&mut store, call)
            }
            (&Method::POST, Some(upload)) => {
                self.allow_change(&store, call)?;
                complete_upload(&mut store, call, upload)
            }
            (&Method::POST, None) if call.query.contains_key("uploads") => {
                let headers = call.lasting_headers();
                let upload = store.begin_upload(&call.bucket, &call.key, headers)?;
                let body = xml::upload_begun(&call.bucket, &call.key, &upload);
                Ok(xml_response(StatusCode::OK, body))
            }
            (&Method::DELETE, Some(upload)) => {
                store.abort_upload(upload)?;
                Ok(StatusCode::NO_CONTENT.into_response())
            }
            (&Method::DELETE, None) => {
                self.allow_change(&store, call)?;
                store.delete(&call.bucket, &call.key, call.expected_generation()?)?;
                Ok(StatusCode::NO_CONTENT.into_response())
            }
            _ => Err(Refusal::MethodNotAllowed),
        }
    }

    fn allow_change(&self, store: &Store, call: &Call) -> Result<(), Refusal> {
        store.allow_change(&call.bucket, &call.key, self.options.write_interval)
    }

    fn list(&self, store: &Store, call: &Call) -> Result<Response, Refusal> {
        let text = |name: &str| call.query.get(name).cloned();
        let asked = text("max-keys").map(|number| number.parse()).transpose();
        let asked: Option<usize> = asked.map_err(|_| Refusal::InvalidArgument)?;
        let listing = Listing {
            prefix: text("prefix").unwrap_or_default(),
            delimiter: text("delimiter"),
            start_after: text("start-after").unwrap_or_default(),
            token: text("continuation-token"),
            limit: asked
                .unwrap_or(LARGEST_PAGE)
                .clamp(1, self.options.page_size),
        };
        let page = store.list(&call.bucket, &listing)?;
        let url_encoded = text("encoding-type").as_deref() == Some("url");
        let body = xml::listing(&call.bucket, &page, url_encoded);
        Ok(xml_response(StatusCode::OK, body))
    }
}

fn write(store: &mut Store, call: &Call) -> Result<Response, Refusal> {
    let content = match call.header(COPY_SOURCE) {
        Some(source) => {
            let source = xml::percent_decode(source.trim_start_matches('/'));
            let (bucket, key) = source.split_once('/').ok_or(Refusal::InvalidArgument)?;
            store.object(bucket, key)?.content.clone()
        }
        None => Content {
            data: call.body.clone(),
            headers: call.lasting_headers(),
        },
    };
    let expected = call.expected_generation()?;
    let written = store.put(&call.bucket, &call.key, content, expected)?;
    Ok(version(&written).into_response())
}

fn put_part(store: &mut Store, call: &Call, upload: &str) -> Result<Response, Refusal> {
    let number = call.query.get("partNumber");
    let number = number.and_then(|number| number.parse().ok());
    let number = number.ok_or(Refusal::InvalidArgument)?;
    let etag = store.put_part(upload, number, call.body.clone())?;
    Ok([(header::ETAG, etag)].into_response())
}

fn complete_upload(store: &mut Store, call: &Call, upload: &str) -> Result<Response, Refusal> {
    let body = std::str::from_utf8(&call.body).map_err(|_| Refusal::InvalidArgument)?;
    let parts = xml::parts_to_complete(body).ok_or(Refusal::InvalidArgument)?;
    let written = store.complete_upload(upload, &parts, call.expected_generation()?)?;
    let body = xml::upload_completed(&call.bucket, &call.key, &written.etag());
    Ok((version(&written), xml_response(StatusCode::OK, body)).into_response())
}

fn read(store: &Store, call: &Call) -> Result<Response, Refusal> {
    let object = store.object(&call.bucket, &call.key)?;
    check_conditions(object, call)?;
    store.check(&call.bucket, &call.key, call.expected_generation()?)?;
    let size = object.info.size;
    let range = match call.header(header::RANGE) {
        Some(text) => asked_range(text, size)?,
        None => None,
    };
    let part = range.clone().unwrap_or(0..size);
    let mut headers = object.content.headers.clone();
    let mut set = |name, text: String| {
        let value = text.parse().expect("a header of plain text");
        headers.insert(name, value);
    };
    let updated = object.info.updated.format("%a, %d %b %Y %H:%M:%S GMT");
    set(header::LAST_MODIFIED, updated.to_string());
    set(header::CONTENT_LENGTH, part.len().to_string());
    set(header::ACCEPT_RANGES, "bytes".to_owned());
    let mut status = StatusCode::OK;
    if let Some(range) = range {
        status = StatusCode::PARTIAL_CONTENT;
        let text = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        set(header::CONTENT_RANGE, text);
    }
    let body = match call.method {
        Method::HEAD => Body::empty(),
        _ => object.content.data.slice(part).into(),
    };
    Ok((status, version(&object.info), headers, body).into_response())
}

fn check_conditions(object: &Object, call: &Call) -> Result<(), Refusal> {
    if let Some(wanted) = call.query.get("generation")
        && *wanted != object.info.generation.to_string()
    {
        // Without object versioning, an earlier generation is gone.
        return Err(Refusal::NoSuchKey);
    }
    let etag = object.info.etag();
    let names_it = |header: &str| {
        let mut tags = header.split(',').map(str::trim);
        tags.any(|tag| tag == "*" || tag == etag)
    };
    if call
        .header(header::IF_MATCH)
        .is_some_and(|tags| !names_it(tags))
    {
        return Err(Refusal::PreconditionFailed);
    }
    if call.header(header::IF_NONE_MATCH).is_some_and(names_it) {
        return Err(Refusal::NotModified);
    }
    Ok(())
}

/// The bytes meant by a `Range` header; none for a header that is to be ignored.
fn asked_range(header: &str, size: usize) -> Result<Option<Range<usize>>, Refusal> {
    let ends = header
        .strip_prefix("bytes=")
        .and_then(|h| h.split_once('-'));
    let Some((first, last)) = ends else {
        return Ok(None);
    };
    let range = match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) if first <= last => first..size.min(last.saturating_add(1)),
        (Ok(first), Err(_)) if last.is_empty() => first..size,
        (Err(_), Ok(count)) if first.is_empty() => size.saturating_sub(count)..size,
        _ => return Ok(None),
    };
    if range.is_empty() {
        return Err(Refusal::InvalidRange);
    }
    Ok(Some(range))
}

/// The headers that tell one version of an object from another.
fn version(object: &ObjectInfo) -> [(HeaderName, String); 2] {
    [
        (header::ETAG, object.etag()),
        (GENERATION, object.generation.to_string()),
    ]
}

fn xml_response(status: StatusCode, body: String) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/xml; charset=UTF-8")];
    (status, headers, body).into_response()
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::NotModified => StatusCode::NOT_MODIFIED.into_response(),
            _ => xml_response(self.status(), xml::error(self)),
        }
    }
}
