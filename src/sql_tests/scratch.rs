//! A temporary bucket.

use tempfile::TempDir;
use tokio::runtime::Handle;

use crate::config::{BucketLocation, GoogleAccess};
use crate::error::Error;
use crate::store::Bucket;

/// A temporary folder. It is removed when this is dropped.
pub struct Scratch {
    bucket: Bucket,
    /// Goes with the folder.
    _folder: TempDir,
}

impl Scratch {
    /// A new folder among the system's temporary files, which other users cannot read. Must be called on a tokio runtime.
    pub fn new() -> Result<Self, Error> {
        let folder = tempfile::Builder::new().prefix("samsara-etl-").tempdir();
        let folder = folder.map_err(|source| Error::System {
            what: "cannot make a folder for temporary files".into(),
            source,
        })?;
        let location = BucketLocation::Folder(folder.path().into());
        let bucket = Bucket::open(&location, &GoogleAccess::default(), &Handle::current())?;
        Ok(Self {
            _folder: folder,
            bucket,
        })
    }

    /// The folder as a bucket.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }
}
