//! Buckets, objects with generations, and uploads in parts.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use chrono::{DateTime, Utc};

/// Parts other than the last must be at least this long.
const SMALLEST_PART: usize = 5 * 1024 * 1024;

/// Why a request is not carried out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Refusal {
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    InvalidPart,
    EntityTooSmall,
    InvalidArgument,
    InvalidRange,
    PreconditionFailed,
    NotModified,
    /// A second change of the same object within one second.
    SlowDown,
    MethodNotAllowed,
    /// As a fault rule says.
    Told(StatusCode),
}

impl Refusal {
    pub fn status(self) -> StatusCode {
        match self {
            Self::NoSuchBucket | Self::NoSuchKey | Self::NoSuchUpload => StatusCode::NOT_FOUND,
            Self::InvalidPart | Self::EntityTooSmall | Self::InvalidArgument => {
                StatusCode::BAD_REQUEST
            }
            Self::InvalidRange => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::NotModified => StatusCode::NOT_MODIFIED,
            Self::SlowDown => StatusCode::TOO_MANY_REQUESTS,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Told(status) => status,
        }
    }

    pub fn code(self) -> &'static str {
        match self {
            Self::NoSuchBucket => "NoSuchBucket",
            Self::NoSuchKey => "NoSuchKey",
            Self::NoSuchUpload => "NoSuchUpload",
            Self::InvalidPart => "InvalidPart",
            Self::EntityTooSmall => "EntityTooSmall",
            Self::InvalidArgument => "InvalidArgument",
            Self::InvalidRange => "InvalidRange",
            Self::PreconditionFailed => "PreconditionFailed",
            Self::NotModified => "NotModified",
            Self::SlowDown => "SlowDown",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::Told(_) => "InjectedFault",
        }
    }

    pub fn message(self) -> &'static str {
        match self {
            Self::NoSuchBucket => "The specified bucket does not exist.",
            Self::NoSuchKey => "The specified key does not exist.",
            Self::NoSuchUpload => "The upload is unknown, completed or aborted.",
            Self::InvalidPart => "A part is unknown, or its ETag differs.",
            Self::EntityTooSmall => "A part other than the last is under 5 MiB.",
            Self::InvalidArgument => "The request cannot be understood.",
            Self::InvalidRange => "The requested range cannot be satisfied.",
            Self::PreconditionFailed => "A precondition does not hold.",
            Self::NotModified => "The object has not changed.",
            Self::SlowDown => "The object was changed less than a second ago.",
            Self::MethodNotAllowed => "The method is not allowed here.",
            Self::Told(_) => "A fault rule of the double said so.",
        }
    }
}

/// An object's name, size and version, as a listing gives them.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectInfo {
    pub key: String,
    pub size: usize,
    pub generation: u64,
    pub updated: DateTime<Utc>,
}

impl ObjectInfo {
    pub fn etag(&self) -> String {
        format!("\"{:x}\"", self.generation)
    }
}

/// What a write brings: the bytes, and the headers that come back with them.
#[derive(Clone, Default)]
pub struct Content {
    pub data: Bytes,
    pub headers: HeaderMap,
}

#[derive(Clone)]
pub struct Object {
    pub info: ObjectInfo,
    pub content: Content,
}

/// What a listing asks for.
#[derive(Default)]
pub struct Listing {
    pub prefix: String,
    pub delimiter: Option<String>,
    pub start_after: String,
    pub token: Option<String>,
    pub limit: usize,
}

pub enum Entry {
    Object(ObjectInfo),
    Prefix(String),
}

impl Entry {
    fn name(&self) -> &str {
        match self {
            Self::Object(object) => &object.key,
            Self::Prefix(prefix) => prefix,
        }
    }
}

/// One page of a listing, and the token for the next.
#[derive(Default)]
pub struct Page {
    pub entries: Vec<Entry>,
    pub next: Option<String>,
}

struct Upload {
    place: (String, String),
    headers: HeaderMap,
    parts: BTreeMap<u32, (String, Bytes)>,
}

#[derive(Default)]
pub struct Store {
    /// Ordered by the keys' bytes, as listings are.
    buckets: BTreeMap<String, BTreeMap<String, Object>>,
    uploads: HashMap<String, Upload>,
    last_change: HashMap<(String, String), Instant>,
    last_generation: u64,
}

impl Store {
    pub fn add_bucket(&mut self, name: &str) {
        self.buckets.entry(name.to_owned()).or_default();
    }

    pub fn bucket(&self, name: &str) -> Result<&BTreeMap<String, Object>, Refusal> {
        self.buckets.get(name).ok_or(Refusal::NoSuchBucket)
    }

    pub fn object(&self, bucket: &str, key: &str) -> Result<&Object, Refusal> {
        self.bucket(bucket)?.get(key).ok_or(Refusal::NoSuchKey)
    }

    /// Refuses if the object was changed less than `interval` ago.
    pub fn allow_change(&self, bucket: &str, key: &str, interval: Duration) -> Result<(), Refusal> {
        let place = (bucket.to_owned(), key.to_owned());
        match self.last_change.get(&place) {
            Some(time) if time.elapsed() < interval => Err(Refusal::SlowDown),
            _ => Ok(()),
        }
    }

    /// `expected` is a generation, where 0 stands for an object that does not exist.
    pub fn check(&self, bucket: &str, key: &str, expected: Option<u64>) -> Result<(), Refusal> {
        let current = self.bucket(bucket)?.get(key);
        let generation = current.map_or(0, |object| object.info.generation);
        match expected {
            Some(expected) if expected != generation => Err(Refusal::PreconditionFailed),
            _ => Ok(()),
        }
    }

    pub fn put(
        &mut self,
        bucket: &str,
        key: &str,
        content: Content,
        expected: Option<u64>,
    ) -> Result<ObjectInfo, Refusal> {
        self.check(bucket, key, expected)?;
        // Generations are times in microseconds, and never go back, not even after a delete.
        let now = Utc::now();
        let time = now.timestamp_micros().unsigned_abs();
        self.last_generation = time.max(self.last_generation + 1);
        let info = ObjectInfo {
            key: key.to_owned(),
            size: content.data.len(),
            generation: self.last_generation,
            updated: now,
        };
        let object = Object {
            info: info.clone(),
            content,
        };
        let objects = self.buckets.get_mut(bucket).ok_or(Refusal::NoSuchBucket)?;
        objects.insert(key.to_owned(), object);
        self.changed(bucket, key);
        Ok(info)
    }

    pub fn delete(
        &mut self,
        bucket: &str,
        key: &str,
        expected: Option<u64>,
    ) -> Result<(), Refusal> {
        self.check(bucket, key, expected)?;
        let objects = self.buckets.get_mut(bucket).ok_or(Refusal::NoSuchBucket)?;
        objects.remove(key).ok_or(Refusal::NoSuchKey)?;
        self.changed(bucket, key);
        Ok(())
    }

    fn changed(&mut self, bucket: &str, key: &str) {
        let place = (bucket.to_owned(), key.to_owned());
        self.last_change.insert(place, Instant::now());
    }

    pub fn list(&self, bucket: &str, listing: &Listing) -> Result<Page, Refusal> {
        let prefix = listing.prefix.as_str();
        let token = listing.token.as_deref().unwrap_or_default();
        let after = token.max(&listing.start_after);
        let first = if prefix > after {
            Bound::Included(prefix)
        } else {
            Bound::Excluded(after)
        };
        let mut page = Page::default();
        let keys = self
            .bucket(bucket)?
            .range::<str, _>((first, Bound::Unbounded));
        for (key, object) in keys.take_while(|(key, _)| key.starts_with(prefix)) {
            let entry = match common_prefix(key, prefix, listing.delimiter.as_deref()) {
                Some(common) => Entry::Prefix(common.to_owned()),
                None => Entry::Object(object.info.clone()),
            };
            // A common prefix comes once, also when the page before ended with it.
            let last = page.entries.last().map_or(token, Entry::name);
            if !last.is_empty() && entry.name() <= last {
                continue;
            }
            if page.entries.len() == listing.limit {
                page.next = Some(last.to_owned());
                break;
            }
            page.entries.push(entry);
        }
        Ok(page)
    }

    pub fn begin_upload(
        &mut self,
        bucket: &str,
        key: &str,
        headers: HeaderMap,
    ) -> Result<String, Refusal> {
        self.bucket(bucket)?;
        self.last_generation += 1;
        let id = format!("upload-{:x}", self.last_generation);
        let upload = Upload {
            place: (bucket.to_owned(), key.to_owned()),
            headers,
            parts: BTreeMap::new(),
        };
        self.uploads.insert(id.clone(), upload);
        Ok(id)
    }

    /// Stores one part, in place of an earlier one of that number, and returns its ETag.
    pub fn put_part(&mut self, id: &str, number: u32, data: Bytes) -> Result<String, Refusal> {
        let upload = self.uploads.get_mut(id).ok_or(Refusal::NoSuchUpload)?;
        self.last_generation += 1;
        let etag = format!("\"part-{:x}\"", self.last_generation);
        upload.parts.insert(number, (etag.clone(), data));
        Ok(etag)
    }

    pub fn complete_upload(
        &mut self,
        id: &str,
        chosen: &[(u32, String)],
        expected: Option<u64>,
    ) -> Result<ObjectInfo, Refusal> {
        let upload = self.uploads.get(id).ok_or(Refusal::NoSuchUpload)?;
        let mut data = Vec::new();
        for (index, (number, etag)) in chosen.iter().enumerate() {
            let (known, part) = upload.parts.get(number).ok_or(Refusal::InvalidPart)?;
            if known.trim_matches('"') != etag.trim_matches('"') {
                return Err(Refusal::InvalidPart);
            }
            if part.len() < SMALLEST_PART && index + 1 < chosen.len() {
                return Err(Refusal::EntityTooSmall);
            }
            data.extend_from_slice(part);
        }
        let content = Content {
            data: data.into(),
            headers: upload.headers.clone(),
        };
        let (bucket, key) = upload.place.clone();
        let info = self.put(&bucket, &key, content, expected)?;
        self.uploads.remove(id);
        Ok(info)
    }

    pub fn abort_upload(&mut self, id: &str) -> Result<(), Refusal> {
        let removed = self.uploads.remove(id);
        removed.map(drop).ok_or(Refusal::NoSuchUpload)
    }
}

/// The part of `key` up to the first delimiter after `prefix`.
fn common_prefix<'k>(key: &'k str, prefix: &str, delimiter: Option<&str>) -> Option<&'k str> {
    let delimiter = delimiter.filter(|text| !text.is_empty())?;
    let found = key[prefix.len()..].find(delimiter)?;
    Some(&key[..prefix.len() + found + delimiter.len()])
}
