//! Logs: a file of JSON lines per run, shipped to the raw bucket, and both kept for some days.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use chrono::{DateTime, Days, NaiveDate, Utc};
use object_store::ObjectStoreExt;

use crate::store::folder::{keep_private, private_folder};
use crate::store::{Bucket, StoreError};

/// Folder of log files in the working directory, and prefix of their copies in the raw bucket.
pub const FOLDER: &str = "logs";

/// A log that cannot be shipped.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: std::io::Error,
    },
    /// The bucket failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The log file of one run.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    started: DateTime<Utc>,
}

impl LogFile {
    /// Makes the file `logs/<start>-<process>.jsonl` below `directory`.
    pub fn create(directory: &Path, started: DateTime<Utc>) -> std::io::Result<(Self, File)> {
        let folder = directory.join(FOLDER);
        private_folder(&folder)?;
        let name = format!("{}-{}.jsonl", started.format("%Y%m%dT%H%M%SZ"), std::process::id());
        let path = folder.join(name);
        // Never what is there already, nor what a link there leads to.
        let file = File::create_new(&path)?;
        keep_private(&file);
        Ok((Self { path, started }, file))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Copies the log to `logs/YYYY_MM_DD/` in the raw bucket and removes copies older than `keep_days`.
    pub async fn ship(&self, bucket: &Bucket, keep_days: u32) -> Result<String, LogError> {
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or("log.jsonl");
        let key = format!("{FOLDER}/{}/{name}", self.started.format("%Y_%m_%d"));
        let bytes = fs::read(&self.path).map_err(|source| LogError::Read { path: self.path.clone(), source })?;
        bucket.write(&key, Bytes::from(bytes)).await?;
        let oldest = oldest_kept(self.started, keep_days);
        for (old, _) in bucket.list(FOLDER).await? {
            if day_of_key(&old).is_some_and(|day| day < oldest) {
                // A log that cannot be removed is removed by a later run.
                let _ = bucket.store().delete(&object_store::path::Path::from(old.as_str())).await;
            }
        }
        Ok(bucket.uri(&key))
    }

    /// Removes files of this folder that are older than `keep_days`.
    pub fn prune(&self, keep_days: u32) {
        let oldest = oldest_kept(self.started, keep_days);
        let Some(folder) = self.path.parent() else { return };
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let day = name.to_str().and_then(|name| NaiveDate::parse_from_str(name.get(..8)?, "%Y%m%d").ok());
            if name.to_string_lossy().ends_with(".jsonl") && day.is_some_and(|day| day < oldest) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn oldest_kept(now: DateTime<Utc>, keep_days: u32) -> NaiveDate {
    now.date_naive().checked_sub_days(Days::new(u64::from(keep_days))).unwrap_or(NaiveDate::MIN)
}

/// `logs/2024_01_31/…` → the day.
fn day_of_key(key: &str) -> Option<NaiveDate> {
    NaiveDate::parse_from_str(key.split('/').nth(1)?, "%Y_%m_%d").ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BucketLocation, GoogleAccess};

    #[tokio::test]
    async fn logs_are_shipped_under_their_day_and_kept_for_some_days() {
        let folder = tempfile::tempdir().unwrap();
        let location = BucketLocation::Folder(folder.path().join("raw"));
        let bucket = Bucket::open(&location, &GoogleAccess::default(), &tokio::runtime::Handle::current()).unwrap();
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let (old, _) = LogFile::create(folder.path(), at("2024-01-01T10:00:00Z")).unwrap();
        old.ship(&bucket, 30).await.unwrap();
        #[cfg(unix)]
        for (path, mode) in [(old.path(), 0o600), (old.path().parent().unwrap(), 0o700)] {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, mode, "{path:?}");
        }
        let (new, _) = LogFile::create(folder.path(), at("2024-01-31T10:00:00Z")).unwrap();
        let uri = new.ship(&bucket, 30).await.unwrap();
        assert!(uri.contains("/logs/2024_01_31/20240131T100000Z-"), "{uri}");
        assert_eq!(bucket.list(FOLDER).await.unwrap().len(), 2);
        new.prune(30);
        assert!(old.path().exists());
        new.ship(&bucket, 29).await.unwrap();
        new.prune(29);
        assert_eq!(bucket.list(FOLDER).await.unwrap().len(), 1);
        assert!(new.path().exists() && !old.path().exists());
    }
}
