//! Buckets: one code path for `gs://` and folders, through `object_store`.
//!
//! Objects are written once under their final name and never copied or renamed (object_store 0.13 has the two GCS copy
//! modes the wrong way round). Documents change only by compare-and-swap, see [`Bucket::swap`].
//!
//! In a folder, writes, deletes and the listing of `clean` follow no symbolic link below it.

pub(crate) mod folder;
pub mod layout;
mod parquet;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::buffered::BufWriter;
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload, RetryConfig, StaticCredentialProvider, UpdateVersion,
};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::runtime::Handle;
use url::Url;

use crate::bounds::MAX_DOCUMENT_BYTES;
use crate::config::{BucketLocation, CredentialsError, GoogleAccess, WaitScale};
use crate::http::Connector;
use crate::{google, redact};

pub(crate) use self::parquet::FOOTER_BYTES;
pub use self::parquet::TableWriter;

/// Objects whose existence is checked at a time.
pub const LOOKS_AT_A_TIME: usize = 16;
/// Cloud Storage refuses more frequent writes of one object.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// A Parquet object that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectRef {
    /// Key in its bucket.
    pub path: String,
    /// Number of rows.
    pub rows: u64,
    /// Size in bytes.
    pub bytes: u64,
}

/// An error of a bucket, with its place.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The bucket cannot be opened.
    #[error("cannot open bucket {url}: {error}")]
    Open {
        /// URL of the bucket.
        url: String,
        /// Why it cannot be opened.
        #[source]
        error: OpenError,
    },
    /// The credentials for a bucket cannot be used.
    #[error("cannot open bucket {url}: {error}")]
    Credentials {
        /// URL of the bucket.
        url: String,
        /// What is wrong with them.
        #[source]
        error: CredentialsError,
    },
    /// An object cannot be read or written.
    #[error("cannot {verb} {uri}: {}", redact::foreign(source))]
    Object {
        /// read, write, list or delete.
        verb: &'static str,
        /// URI of the object.
        uri: String,
        /// The object store's error.
        #[source]
        source: Box<object_store::Error>,
    },
    /// Parquet cannot be written.
    #[error("cannot write {uri}: {}", redact::foreign(source))]
    Parquet {
        /// URI of the object.
        uri: String,
        /// The Parquet writer's error.
        #[source]
        source: ::parquet::errors::ParquetError,
    },
    /// An object that the state or a table of the local warehouse lists is missing or was changed.
    #[error("{uri} {difference}, but {}", lost_remedy(key))]
    Lost {
        /// URI of the object.
        uri: String,
        /// Key of the object in its bucket.
        key: String,
        /// What is wrong with it.
        difference: Difference,
    },
    /// A document is larger than any document of this program, and is not read.
    #[error("{uri} has {bytes} bytes; documents of this program have at most {MAX_DOCUMENT_BYTES}")]
    TooLarge {
        /// URI of the document.
        uri: String,
        /// Size in bytes.
        bytes: u64,
    },
    /// A symbolic link would redirect a write.
    #[error("cannot write {uri}: {source}")]
    Way {
        /// URI of the object.
        uri: String,
        /// The link in the path.
        #[source]
        source: std::io::Error,
    },
    /// The row counts differ.
    #[error("{uri}: row counts differ: {given} rows were written, its footer says {written}")]
    Ledger {
        /// URI of the object.
        uri: String,
        /// Rows that the writer was given.
        given: u64,
        /// Rows that the object holds.
        written: u64,
    },
    /// The object was changed concurrently.
    #[error("{uri} was changed concurrently: check whether another run uses this bucket")]
    Conflict {
        /// URI of the object.
        uri: String,
    },
    /// A lock file of the local file system cannot be locked.
    #[error("cannot lock {}: {source}", path.display())]
    Lock {
        /// Path of the lock file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: std::io::Error,
    },
}

/// Why a bucket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be created or looked at.
    #[error(transparent)]
    Folder(#[from] std::io::Error),
    /// The folder has no URL.
    #[error("not an absolute path")]
    NotAbsolute,
    /// The name of the bucket makes no URL.
    #[error(transparent)]
    Url(#[from] url::ParseError),
    /// The client of the bucket cannot be created.
    #[error("{}", redact::foreign(.0))]
    Client(#[from] object_store::Error),
}

/// How an object differs from the one that was written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Difference {
    /// It is missing.
    #[error("is gone")]
    Gone,
    /// It has another size.
    #[error("has {found} bytes instead of {written}")]
    Size {
        /// The size that it has.
        found: u64,
        /// The size that it should have.
        written: u64,
    },
    /// It has other rows.
    #[error("has {found} rows instead of {written}")]
    Rows {
        /// Rows that it has.
        found: u64,
        /// Rows that it should have.
        written: u64,
    },
    /// It cannot be read as Parquet.
    #[error("is not readable as Parquet ({})", redact::foreign(.0))]
    Unreadable(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// Its footer is not one that this program writes.
    #[error("is not readable as Parquet ({0})")]
    Footer(&'static str),
}

/// What lists an object, and how to restore it.
fn lost_remedy(key: &str) -> String {
    let mut parts = key.split('/');
    match (parts.next(), parts.next()) {
        (Some(layout::RAW), _) => {
            "the state lists it: read its days or list again (run --historical)".into()
        }
        (Some(layout::FLATTENED), Some(table)) => {
            format!(
                "the state lists it: rebuild its table (run --stages transform,load --full-refresh {table})"
            )
        }
        (Some(table), _) => {
            format!(
                "its table lists it: load the table again (run --stages transform,load --full-refresh {table})"
            )
        }
        (None, _) => "it is named".into(),
    }
}

/// An object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Key of the object in its bucket.
    pub key: String,
    /// Size in bytes.
    pub bytes: u64,
    /// When it was written.
    pub modified: DateTime<Utc>,
}

/// The version of an object, for compare-and-swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(UpdateVersion);

#[cfg(test)]
impl Default for Version {
    /// A version that no object has.
    fn default() -> Self {
        Self(UpdateVersion {
            e_tag: Some("none".into()),
            version: None,
        })
    }
}

/// A bucket, or a folder in its place.
#[derive(Debug, Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    /// `gs://name/` or `file:///folder/`.
    url: Url,
    folder: Option<PathBuf>,
    /// Folders inside it whose names are durable.
    settled: Arc<folder::Settled>,
    /// See [`Bucket::write_interval`].
    write_interval: Duration,
    /// Serialises swaps in a folder. Waiting for it occupies no thread: if threads are few, the holder of the folder's
    /// lock might get none to release it.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Bucket {
    /// A bucket in a folder, for unit tests.
    #[cfg(test)]
    pub(crate) fn of_folder(folder: &std::path::Path) -> Self {
        Self::open_folder(folder).unwrap()
    }

    /// Opens a bucket; a folder is created if it does not exist. Requests to Cloud Storage run on `io`, so that a busy
    /// CPU runtime never starves them.
    ///
    /// # Errors
    /// [`StoreError::Open`] or [`StoreError::Credentials`]. Whether a Google bucket exists shows at the first request.
    pub fn open(
        location: &BucketLocation,
        access: &GoogleAccess,
        io: &Handle,
    ) -> Result<Self, StoreError> {
        match location {
            BucketLocation::Google(name) => Self::open_google(name, access, io),
            BucketLocation::Folder(folder) => Self::open_folder(folder),
        }
    }

    /// Opens a bucket for reading: a folder that does not exist counts as empty and is not created.
    ///
    /// # Errors
    /// As [`Bucket::open`].
    pub fn look(
        location: &BucketLocation,
        access: &GoogleAccess,
        io: &Handle,
    ) -> Result<Self, StoreError> {
        let BucketLocation::Folder(folder) = location else {
            return Self::open(location, access, io);
        };
        let wrong = |error: OpenError| StoreError::Open {
            url: folder.display().to_string(),
            error,
        };
        if folder.try_exists().map_err(|error| wrong(error.into()))? {
            return Self::open(location, access, io);
        }
        let folder = std::path::absolute(folder).map_err(|error| wrong(error.into()))?;
        let url = Url::from_directory_path(&folder).map_err(|()| wrong(OpenError::NotAbsolute))?;
        Ok(Self {
            store: Arc::new(InMemory::new()),
            url,
            folder: Some(folder),
            write_interval: Duration::ZERO,
            settled: Arc::default(),
            turn: Arc::default(),
        })
    }

    fn open_google(name: &str, access: &GoogleAccess, io: &Handle) -> Result<Self, StoreError> {
        let url = format!("gs://{name}/");
        let wrong = |error: OpenError| StoreError::Open {
            url: url.clone(),
            error,
        };
        let mut builder = GoogleCloudStorageBuilder::new()
            .with_bucket_name(name)
            .with_retry(retry_policy(access.wait_scale))
            .with_http_connector(Connector::new(&access.http, io));
        if let Some(emulator) = &access.storage_emulator {
            let nobody = GcpCredential {
                bearer: String::new(),
            };
            builder = builder
                .with_base_url(emulator)
                .with_client_options(ClientOptions::new().with_allow_http(true))
                .with_credentials(Arc::new(StaticCredentialProvider::new(nobody)));
        } else {
            let provider = google::provider(access, io);
            builder =
                builder.with_credentials(provider.map_err(|error| StoreError::Credentials {
                    url: url.clone(),
                    error,
                })?);
        }
        let store = builder.build().map_err(|error| wrong(error.into()))?;
        Ok(Self {
            store: Arc::new(store),
            url: Url::parse(&url).map_err(|error| wrong(error.into()))?,
            folder: None,
            write_interval: access.wait_scale.of(WRITE_INTERVAL),
            settled: Arc::default(),
            turn: Arc::default(),
        })
    }

    fn open_folder(folder: &std::path::Path) -> Result<Self, StoreError> {
        let wrong = |error: OpenError| StoreError::Open {
            url: folder.display().to_string(),
            error,
        };
        std::fs::create_dir_all(folder).map_err(|error| wrong(error.into()))?;
        let folder = folder.canonicalize().map_err(|error| wrong(error.into()))?;
        let url = Url::from_directory_path(&folder).map_err(|()| wrong(OpenError::NotAbsolute))?;
        let store =
            LocalFileSystem::new_with_prefix(&folder).map_err(|error| wrong(error.into()))?;
        Ok(Self {
            store: Arc::new(store),
            url,
            folder: Some(folder),
            write_interval: Duration::ZERO,
            settled: Arc::default(),
            turn: Arc::default(),
        })
    }

    /// Its URL, `gs://name/` or `file:///folder/`.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The underlying object store; keys are relative to [`Bucket::url`].
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        self.store.clone()
    }

    /// Minimum time between two writes of one object: one second for Cloud Storage, none for a folder.
    pub fn write_interval(&self) -> Duration {
        self.write_interval
    }

    /// Whether this is Cloud Storage, not a folder.
    pub fn is_google(&self) -> bool {
        self.folder.is_none()
    }

    /// The full address of a key. Keys keep to letters, digits and `-_.=/`, so nothing needs escaping.
    pub fn uri(&self, key: &str) -> String {
        format!("{}{key}", self.url)
    }

    /// The bytes of a document to write at `key`.
    ///
    /// # Errors
    /// [`StoreError::Object`] if it could not be serialised: an empty document in its place would lose its content.
    pub fn document(
        &self,
        key: &str,
        json: serde_json::Result<Vec<u8>>,
    ) -> Result<Bytes, StoreError> {
        let failed = |error: serde_json::Error| {
            self.failed(
                "write",
                key,
                object_store::Error::Generic {
                    store: "document",
                    source: error.into(),
                },
            )
        };
        json.map(Bytes::from).map_err(failed)
    }

    /// Reads a document with its version; `None` if it does not exist.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] if it has more than [`MAX_DOCUMENT_BYTES`], or the bucket's error.
    pub async fn read(&self, key: &str) -> Result<Option<(Bytes, Version)>, StoreError> {
        let failed = |error| self.failed("read", key, error);
        let result = match self.store.get(&Path::from(key)).await {
            Ok(result) => result,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if result.meta.size > MAX_DOCUMENT_BYTES {
            return Err(StoreError::TooLarge {
                uri: self.uri(key),
                bytes: result.meta.size,
            });
        }
        let version = Version(UpdateVersion {
            e_tag: result.meta.e_tag.clone(),
            version: result.meta.version.clone(),
        });
        Ok(Some((result.bytes().await.map_err(failed)?, version)))
    }

    /// Checks that objects exist as they were written; a reader of a listing would not notice a missing one.
    ///
    /// # Errors
    /// [`StoreError::Lost`] for the first object that is missing or has another size, or the bucket's error.
    pub async fn expect(&self, objects: &[ObjectRef]) -> Result<(), StoreError> {
        let looks: Vec<_> = objects
            .iter()
            .map(|object| async { self.head(object).await.map(|_| ()) })
            .collect();
        stream::iter(looks)
            .buffer_unordered(LOOKS_AT_A_TIME)
            .try_collect()
            .await
    }

    /// Looks at one object, which is refused unless it has the size with which it was written.
    pub async fn head(&self, object: &ObjectRef) -> Result<ObjectMeta, StoreError> {
        match self.store.head(&Path::from(object.path.as_str())).await {
            Ok(meta) if meta.size == object.bytes => Ok(meta),
            Ok(meta) => Err(self.lost(
                object,
                Difference::Size {
                    found: meta.size,
                    written: object.bytes,
                },
            )),
            Err(object_store::Error::NotFound { .. }) => Err(self.lost(object, Difference::Gone)),
            Err(error) => Err(self.failed("read", &object.path, error)),
        }
    }

    /// The fault that an object is not as it was written.
    pub fn lost(&self, object: &ObjectRef, difference: Difference) -> StoreError {
        StoreError::Lost {
            uri: self.uri(&object.path),
            key: object.path.clone(),
            difference,
        }
    }

    /// Writes an object, replacing any other.
    pub async fn write(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.check_way(key)?;
        if self.folder.is_some() && layout::is_private(key) {
            let settled = self.settled.clone();
            return self
                .in_folder("write", key, move |path, root| {
                    folder::replace(path, root, &bytes, true, &settled)
                })
                .await;
        }
        self.store
            .put(&Path::from(key), bytes.into())
            .await
            .map(|_| ())
            .map_err(|error| self.failed("write", key, error))
    }

    /// Writes a new object in one step: of several writers, of this program or another, only one succeeds. In a folder,
    /// the object is on the disk afterwards.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if there is another object, or the bucket's error.
    pub async fn create(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.check_way(key)?;
        let options = PutOptions {
            mode: PutMode::Create,
            ..PutOptions::default()
        };
        let payload = PutPayload::from(bytes.clone());
        let path = Path::from(key);
        let created = self.store.put_opts(&path, payload, options).await;
        let Err(error) = created else {
            return self.sync(key).await;
        };
        // A retried request may find its own first attempt applied: the content decides.
        let is_taken = matches!(
            error,
            object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }
        );
        match self.read(key).await {
            Ok(Some((found, _))) if found == bytes => self.sync(key).await,
            Ok(Some(_)) if is_taken => Err(StoreError::Conflict { uri: self.uri(key) }),
            _ => Err(self.failed("write", key, error)),
        }
    }

    /// The keys under `prefix` that come after `offset`.
    pub async fn list_after(&self, prefix: &str, offset: &str) -> Result<Vec<String>, StoreError> {
        self.store
            .list_with_offset(Some(&Path::from(prefix)), &Path::from(offset))
            .map_ok(|meta| meta.location.to_string())
            .try_collect()
            .await
            .map_err(|error| self.failed("list", prefix, error))
    }

    /// Copies an object of another bucket, replacing any other, and waits until it is on the disk.
    ///
    /// The caller must ensure that nobody else copies to `key` at the same time.
    pub async fn copy_from(&self, source: &Self, from: &str, key: &str) -> Result<(), StoreError> {
        if let (Some(_), Some(root)) = (&self.folder, &source.folder) {
            let (original, settled) = (root.join(from), self.settled.clone());
            let read = |error| source.failed("read", from, unspecific(error));
            let original = tokio::task::spawn_blocking(|| File::open(original)).await;
            let original = original.map_err(std::io::Error::other).flatten();
            let mut original = original.map_err(read)?;
            let copy = move |path: &_, root: &_| {
                folder::replace_with(path, root, false, &settled, |file| {
                    std::io::copy(&mut original, file).map(|_| ())
                })
            };
            return self.in_folder("write", key, copy).await;
        }
        let read = |error| source.failed("read", from, error);
        let written = |error| self.failed("write", key, unspecific(error));
        let mut bytes = (source.store.get(&Path::from(from)).await)
            .map_err(read)?
            .into_stream();
        let mut writer = self.writer(key)?;
        while let Some(chunk) = bytes.try_next().await.map_err(read)? {
            writer.write_all(&chunk).await.map_err(written)?;
        }
        writer.shutdown().await.map_err(written)?;
        self.sync(key).await
    }

    /// Begins to write an object as a stream. It exists once the writer was shut down.
    pub fn writer(&self, key: &str) -> Result<BufWriter, StoreError> {
        self.check_way(key)?;
        Ok(BufWriter::new(self.store(), Path::from(key)))
    }

    /// Refuses a key whose file would be behind a symbolic link.
    fn check_way(&self, key: &str) -> Result<(), StoreError> {
        let Some(root) = &self.folder else {
            return Ok(());
        };
        folder::check_way(&root.join(key), root).map_err(|source| StoreError::Way {
            uri: self.uri(key),
            source,
        })
    }

    /// Replaces an object only if it is still at `expected` (`None`: only if it does not exist).
    ///
    /// A retried request may find its own first attempt applied; the store then reports a conflict although the object
    /// is ours. So after any failure the content decides.
    pub async fn swap(
        &self,
        key: &str,
        expected: Option<&Version>,
        bytes: Bytes,
    ) -> Result<Version, StoreError> {
        if let Some(folder) = &self.folder {
            let (bucket, lock) = (self.clone(), folder.join(".lock"));
            let (key, expected) = (key.to_string(), expected.cloned());
            // In a separate task: a caller that is cancelled halfway must not release the lock.
            let swap = async move {
                bucket
                    .swap_in_folder(lock, &key, expected.as_ref(), bytes)
                    .await
            };
            let stopped = |error: tokio::task::JoinError| StoreError::Lock {
                path: folder.clone(),
                source: error.into(),
            };
            #[expect(
                clippy::disallowed_methods,
                reason = "ends by itself after one write, and is awaited"
            )]
            let swap = tokio::spawn(swap);
            return swap.await.map_err(stopped)?;
        }
        let mode = match expected {
            None => PutMode::Create,
            Some(version) => PutMode::Update(version.0.clone()),
        };
        let options = PutOptions {
            mode,
            ..PutOptions::default()
        };
        match self
            .store
            .put_opts(&Path::from(key), PutPayload::from(bytes.clone()), options)
            .await
        {
            Ok(result) => Ok(Version(result.into())),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => match self.read(key).await? {
                Some((found, version)) if found == bytes => Ok(version),
                _ => Err(StoreError::Conflict { uri: self.uri(key) }),
            },
            // All attempts failed; but one of them may have been applied, with only its response lost.
            Err(error) => match self.read(key).await {
                Ok(Some((found, version))) if found == bytes => Ok(version),
                _ => Err(self.failed("write", key, error)),
            },
        }
    }

    /// `LocalFileSystem` has no conditional update: an advisory lock makes comparison and write one step, also between
    /// processes, and the system releases it when a process dies. It does not sync the file either.
    async fn swap_in_folder(
        &self,
        lock: PathBuf,
        key: &str,
        expected: Option<&Version>,
        bytes: Bytes,
    ) -> Result<Version, StoreError> {
        let _turn = self.turn.lock().await;
        let path = lock.clone();
        let guard = tokio::task::spawn_blocking(move || -> std::io::Result<File> {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            let file = folder::open_lock(&path)?;
            folder::keep_private(&file);
            file.lock()?;
            Ok(file)
        })
        .await
        .map_err(std::io::Error::other)
        .and_then(|file| file)
        .map_err(|source| StoreError::Lock { path: lock, source })?;
        let found = match self.store.head(&Path::from(key)).await {
            Ok(meta) => Some(Version(UpdateVersion {
                e_tag: meta.e_tag,
                version: meta.version,
            })),
            Err(object_store::Error::NotFound { .. }) => None,
            Err(error) => return Err(self.failed("read", key, error)),
        };
        if found.as_ref() != expected {
            return Err(StoreError::Conflict { uri: self.uri(key) });
        }
        let (is_private, settled) = (layout::is_private(key), self.settled.clone());
        self.in_folder("write", key, move |path, root| {
            folder::replace(path, root, &bytes, is_private, &settled)
        })
        .await?;
        let written = self.store.head(&Path::from(key)).await;
        drop(guard);
        let meta = written.map_err(|error| self.failed("read", key, error))?;
        Ok(Version(UpdateVersion {
            e_tag: meta.e_tag,
            version: meta.version,
        }))
    }

    /// Waits until a written object is on the disk, if the bucket is a folder.
    pub async fn sync(&self, key: &str) -> Result<(), StoreError> {
        let settled = self.settled.clone();
        let sync = move |path: &_, root: &_| folder::sync(path, root, &settled);
        self.in_folder("write", key, sync).await
    }

    /// Runs a blocking operation on the file of `key`; does nothing if the bucket is not a folder.
    async fn in_folder(
        &self,
        verb: &'static str,
        key: &str,
        work: impl FnOnce(&std::path::Path, &std::path::Path) -> std::io::Result<()> + Send + 'static,
    ) -> Result<(), StoreError> {
        let Some(root) = self.folder.clone() else {
            return Ok(());
        };
        let path = root.join(key);
        let done = tokio::task::spawn_blocking(move || work(&path, &root)).await;
        done.map_err(std::io::Error::other)
            .and_then(|done| done)
            .map_err(|error| self.failed(verb, key, unspecific(error)))
    }

    /// All keys under `prefix` with their sizes.
    pub async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, StoreError> {
        self.store
            .list(Some(&Path::from(prefix)))
            .map_ok(|meta| (meta.location.to_string(), meta.size))
            .try_collect()
            .await
            .map_err(|error| self.failed("list", prefix, error))
    }

    /// All objects under `prefix`, with their age. In a folder, no link is followed.
    pub async fn list_dated(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        if self.folder.is_some() {
            let mut found = self.list_folder(prefix).await?;
            found.retain(|listed| !is_leftover(&listed.key));
            return Ok(found);
        }
        self.store
            .list(Some(&Path::from(prefix)))
            .map_ok(|meta| Listed {
                key: meta.location.to_string(),
                bytes: meta.size,
                modified: meta.last_modified,
            })
            .try_collect()
            .await
            .map_err(|error| self.failed("list", prefix, error))
    }

    async fn list_folder(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let Some(root) = self.folder.clone() else {
            return Ok(Vec::new());
        };
        let below = prefix.to_string();
        let found = tokio::task::spawn_blocking(move || folder::list(&root, &below)).await;
        found
            .map_err(std::io::Error::other)
            .and_then(|found| found)
            .map_err(|error| {
                self.failed(
                    "list",
                    prefix,
                    object_store::Error::Generic {
                        store: "folder",
                        source: error.into(),
                    },
                )
            })
    }

    /// Files that interrupted writes left next to their objects in a folder (`<object>#1`). They are not objects: no
    /// listing shows them. Cloud Storage keeps the parts of unfinished uploads out of sight by itself.
    pub async fn leftovers(&self) -> Result<Vec<Listed>, StoreError> {
        let mut found = self.list_folder("").await?;
        found.retain(|listed| is_leftover(&listed.key));
        Ok(found)
    }

    /// Removes an object, or a leftover of one. It is not an error if it is already gone: a retry may find that the first
    /// attempt succeeded. In a folder, no link is followed or removed.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        if self.folder.is_some() {
            return self.in_folder("delete", key, folder::remove).await;
        }
        match self.store.delete(&Path::from(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("delete", key, error)),
        }
    }

    /// The fault that something could not be done with an object.
    pub fn failed(&self, verb: &'static str, key: &str, error: object_store::Error) -> StoreError {
        StoreError::Object {
            verb,
            uri: self.uri(key),
            source: Box::new(error),
        }
    }
}

/// An error of a folder as one of object_store.
fn unspecific(error: std::io::Error) -> object_store::Error {
    object_store::Error::Generic {
        store: "folder",
        source: error.into(),
    }
}

/// Whether `LocalFileSystem` uses this name for a file that it has not yet renamed to an object of this program.
fn is_leftover(key: &str) -> bool {
    key.rsplit_once('#').is_some_and(|(object, number)| {
        let is_number =
            (1..=10).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
        is_number && layout::is_own(object)
    })
}

/// object_store's own retries are used up in two seconds, in which Cloud Storage accepts two writes of one object.
fn retry_policy(scale: WaitScale) -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: scale.of(Duration::from_millis(250)),
        max_backoff: scale.of(Duration::from_secs(15)),
        base: 2.0,
    };
    RetryConfig {
        backoff,
        max_retries: 15,
        retry_timeout: Duration::from_secs(180),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_many_writers_one_wins_each_step() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = Bucket::of_folder(folder.path());
        let mut expected = None;
        for step in 0..3 {
            let writers = (0..16).map(|writer| {
                let (bucket, expected) = (bucket.clone(), expected.clone());
                let text = Bytes::from(format!("{step} by {writer}"));
                async move { bucket.swap("state/a.json", expected.as_ref(), text).await }
            });
            let results = futures::future::join_all(writers).await;
            let winners: Vec<_> = results.into_iter().filter_map(Result::ok).collect();
            assert_eq!(winners.len(), 1, "step {step}");
            expected = winners.into_iter().next();
        }
        assert_eq!(
            bucket.read("state/a.json").await.unwrap().unwrap().1,
            expected.unwrap()
        );
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn state_and_logs_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let bucket = Bucket::of_folder(folder.path());
        let bytes = || Bytes::from_static(b"x");
        let version = bucket.swap("state/a.json", None, bytes()).await.unwrap();
        bucket
            .swap("state/a.json", Some(&version), bytes())
            .await
            .unwrap();
        bucket.swap("lock.json", None, bytes()).await.unwrap();
        bucket.swap("t/_table.json", None, bytes()).await.unwrap();
        bucket
            .write("logs/2024_01_01/a.jsonl", bytes())
            .await
            .unwrap();
        bucket.write("raw/a/b.parquet", bytes()).await.unwrap();
        let mode = |path: &str| {
            std::fs::metadata(folder.path().join(path))
                .unwrap()
                .permissions()
                .mode()
                & 0o777
        };
        for path in [
            "state/a.json",
            "lock.json",
            ".lock",
            "logs/2024_01_01/a.jsonl",
        ] {
            assert_eq!(mode(path), 0o600, "{path}");
        }
        for path in ["state", "logs", "logs/2024_01_01"] {
            assert_eq!(mode(path), 0o700, "{path}");
        }
        // What the umask makes of new files and folders.
        std::fs::write(folder.path().join("new"), "").unwrap();
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        assert_eq!(
            (mode("raw/a/b.parquet"), mode("t/_table.json")),
            (mode("new"), mode("new"))
        );
        assert_eq!((mode("raw"), mode("t")), (mode("folder"), mode("folder")));
    }

    #[tokio::test]
    async fn a_folder_that_is_only_looked_at_is_not_made() {
        let place = tempfile::tempdir().unwrap();
        let location = BucketLocation::Folder(place.path().join("not/there"));
        let look =
            || Bucket::look(&location, &GoogleAccess::default(), &Handle::current()).unwrap();
        assert!(look().read("state/none.json").await.unwrap().is_none());
        assert!(
            look().list("").await.unwrap().is_empty()
                && look().leftovers().await.unwrap().is_empty()
        );
        assert!(!place.path().join("not").exists());
        // Once it is there, it is read.
        let made = Bucket::open(&location, &GoogleAccess::default(), &Handle::current()).unwrap();
        made.write("a", Bytes::from_static(b"b")).await.unwrap();
        assert_eq!(
            (look().list("").await.unwrap().len(), look().url()),
            (1, made.url())
        );
    }

    #[tokio::test]
    async fn serialisation_failures_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = Bucket::of_folder(folder.path());
        // JSON has no keys that are lists.
        let odd = std::collections::BTreeMap::from([(vec![1], 2)]);
        let error = bucket
            .document("state/a.json", serde_json::to_vec(&odd))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("cannot write file://") && error.contains("state/a.json"),
            "{error}"
        );
        assert_eq!(
            &bucket.document("a", serde_json::to_vec(&1)).unwrap()[..],
            b"1"
        );
    }

    #[tokio::test]
    async fn a_missing_object_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            Bucket::of_folder(folder.path())
                .read("state/none.json")
                .await
                .unwrap()
                .is_none()
        );
    }
}
