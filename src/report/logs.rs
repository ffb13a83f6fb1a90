//! Logs: a file of JSON lines per run, shipped to the raw bucket, and both kept for some days.
//!
//! Other programs keep logs in folders of the same names (the one that this one replaces does): only files and objects
//! that are called exactly as this program calls its own are ever removed.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use chrono::{DateTime, Days, NaiveDate, Utc};

use crate::store::folder::{keep_private, private_folder};
use crate::store::layout::{
    LOGS, log_file, log_object, parse_log_file, parse_log_object, parse_report_file,
    parse_report_object, report_file,
};
use crate::store::{Bucket, StoreError};

/// Runs that begin in one second with one process number (as in containers), each with a log of its own.
const NAMES: u32 = 9;

/// A log that cannot be shipped.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Path of the log file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: std::io::Error,
    },
    /// The report cannot be written beside the log.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Path of the report.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: std::io::Error,
    },
    /// The raw bucket could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The log file of one run.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    /// The file itself: by the time that it is shipped, something else may have its name.
    file: File,
    started: DateTime<Utc>,
    lost: Arc<OnceLock<String>>,
}

/// Where the lines of a log go. A line that cannot be written ends nothing; why is kept for the end of the run.
#[derive(Debug)]
pub struct LogLines {
    file: File,
    lost: Arc<OnceLock<String>>,
}

impl Write for LogLines {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        if let Err(error) = self.file.write_all(line) {
            // The first reason is the one that counts.
            let _ = self.lost.set(error.to_string());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl LogFile {
    /// Makes the file `logs/<start>-<process>.jsonl` below `directory`: a new one, whatever exists already.
    pub fn create(directory: &Path, started: DateTime<Utc>) -> std::io::Result<(Self, LogLines)> {
        let folder = directory.join(LOGS);
        private_folder(&folder)?;
        let mut number = 1;
        let (path, file) = loop {
            let path = folder.join(log_file(started, std::process::id(), number));
            match File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&path)
            {
                Err(error) if error.kind() == ErrorKind::AlreadyExists && number < NAMES => {
                    number += 1
                }
                file => break (path, file?),
            }
        };
        keep_private(&file);
        let lost = Arc::<OnceLock<String>>::default();
        Ok((
            Self {
                path,
                file: file.try_clone()?,
                started,
                lost: lost.clone(),
            },
            LogLines { file, lost },
        ))
    }

    /// Why the first line was lost that could not be written, if one could not.
    pub fn lost(&self) -> Option<&str> {
        self.lost.get().map(String::as_str)
    }

    /// Path of the log file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Copies the log to `logs/YYYY_MM_DD/` in the raw bucket and removes copies older than `keep_days`.
    pub async fn ship(&self, bucket: &Bucket, keep_days: u32) -> Result<String, LogError> {
        let key = log_object(self.started, self.name());
        let bytes = self.logged()?;
        bucket.write(&key, Bytes::from(bytes)).await?;
        let oldest = oldest_kept(self.started, keep_days);
        for old in bucket.list_dated(LOGS).await? {
            let day = parse_log_object(&old.key).or_else(|| parse_report_object(&old.key));
            if day.is_some_and(|day| day < oldest) {
                // A log that cannot be removed is removed by a later run.
                let _ = bucket.delete(&old.key).await;
            }
        }
        Ok(bucket.uri(&key))
    }

    /// Writes the HTML report of the run beside its log: here, and in the raw bucket.
    ///
    /// # Errors
    /// [`LogError`] if either cannot be written.
    pub async fn add_report(&self, bucket: &Bucket, html: String) -> Result<(), LogError> {
        let path = self.report_path();
        let written = match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            // A new file, whatever had its name: no link is followed.
            _ => File::options()
                .write(true)
                .create_new(true)
                .open(&path)
                .and_then(|mut file| {
                    keep_private(&file);
                    file.write_all(html.as_bytes())
                }),
        };
        written.map_err(|source| LogError::Write { path, source })?;
        let name = report_file(self.name());
        let key = log_object(self.started, &name);
        Ok(bucket.write(&key, Bytes::from(html)).await?)
    }

    /// Path of the HTML report beside the log.
    pub fn report_path(&self) -> PathBuf {
        self.path.with_file_name(report_file(self.name()))
    }

    fn name(&self) -> &str {
        let name = self.path.file_name().and_then(|name| name.to_str());
        name.unwrap_or("log.jsonl")
    }

    /// What was logged so far.
    ///
    /// # Errors
    /// [`LogError::Read`] if the file cannot be read.
    pub fn logged(&self) -> Result<Vec<u8>, LogError> {
        self.read().map_err(|source| LogError::Read {
            path: self.path.clone(),
            source,
        })
    }

    fn read(&self) -> std::io::Result<Vec<u8>> {
        let (mut file, mut bytes) = (&self.file, Vec::new());
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Removes logs of this program in its folder that are older than `keep_days`. No link is followed.
    pub fn prune(&self, keep_days: u32) {
        let oldest = oldest_kept(self.started, keep_days);
        let Some(folder) = self.path.parent() else {
            return;
        };
        if fs::symlink_metadata(folder).is_ok_and(|folder| folder.is_symlink()) {
            return;
        }
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            let started = parse_log_file(name).or_else(|| parse_report_file(name));
            let is_old = started.is_some_and(|started| started.date_naive() < oldest);
            if is_old && entry.file_type().is_ok_and(|entry| entry.is_file()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn oldest_kept(now: DateTime<Utc>, keep_days: u32) -> NaiveDate {
    now.date_naive()
        .checked_sub_days(Days::new(u64::from(keep_days)))
        .unwrap_or(NaiveDate::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BucketLocation, GoogleAccess};

    #[cfg(target_os = "linux")]
    #[test]
    fn a_line_that_cannot_be_written_is_remembered_and_ends_nothing() {
        let lost = Arc::<OnceLock<String>>::default();
        let file = File::options().write(true).open("/dev/full").unwrap();
        let mut lines = LogLines {
            file,
            lost: lost.clone(),
        };
        assert_eq!(lines.write(b"a line\n").unwrap(), 7);
        assert!(
            lost.get()
                .is_some_and(|reason| reason.contains("No space left")),
            "{lost:?}"
        );
    }

    #[tokio::test]
    async fn logs_are_shipped_and_pruned_by_day() {
        let folder = tempfile::tempdir().unwrap();
        let location = BucketLocation::Folder(folder.path().join("raw"));
        let bucket = Bucket::open(
            &location,
            &GoogleAccess::default(),
            &tokio::runtime::Handle::current(),
        )
        .unwrap();
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let (old, _) = LogFile::create(folder.path(), at("2024-01-01T10:00:00Z")).unwrap();
        old.ship(&bucket, 30).await.unwrap();
        old.add_report(&bucket, "<!DOCTYPE html>".into())
            .await
            .unwrap();
        let report = old.report_path();
        #[cfg(unix)]
        for (path, mode) in [
            (old.path(), 0o600),
            (&report, 0o600),
            (old.path().parent().unwrap(), 0o700),
        ] {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(
                std::fs::metadata(path).unwrap().permissions().mode() & 0o777,
                mode,
                "{path:?}"
            );
        }
        let (new, _) = LogFile::create(folder.path(), at("2024-01-31T10:00:00Z")).unwrap();
        let uri = new.ship(&bucket, 30).await.unwrap();
        assert!(uri.contains("/logs/2024_01_31/20240131T100000Z-"), "{uri}");
        assert_eq!(bucket.list(LOGS).await.unwrap().len(), 3);
        new.prune(30);
        assert!(old.path().exists() && report.exists());
        new.ship(&bucket, 29).await.unwrap();
        new.prune(29);
        assert_eq!(bucket.list(LOGS).await.unwrap().len(), 1);
        assert!(new.path().exists() && !old.path().exists() && !report.exists());
    }

    #[tokio::test]
    async fn logs_of_others_stay_wherever_they_lie() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let location = BucketLocation::Folder(root.join("raw"));
        let bucket = Bucket::open(
            &location,
            &GoogleAccess::default(),
            &tokio::runtime::Handle::current(),
        )
        .unwrap();
        let own = [
            "logs/20230101T000000Z-17.jsonl",
            "raw/logs/2023_01_01/20230101T000000Z-17-2.jsonl",
        ];
        let foreign = [
            "logs/20230101_accounting.jsonl",
            "logs/20230101.jsonl",
            "logs/20230101T000000Z-17.jsonl.gz",
            "logs/etl_info.log",
            "logs/report.html",
            "raw/logs/2023_01_01/etl_info.log",
            "raw/logs/2023_01_01/20230101_accounting.jsonl",
            "raw/logs/2023_01_01/20230102T000000Z-17.jsonl",
            "raw/logs/2023_01_01/old/20230101T000000Z-17.jsonl",
            "raw/logs/20230101T000000Z-17.jsonl",
        ];
        for path in own.iter().chain(&foreign) {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), "x").unwrap();
        }
        let mut kept = foreign.map(|path| root.join(path)).to_vec();
        #[cfg(unix)]
        {
            let outside = root.join("outside/20230101T000000Z-17.jsonl");
            fs::create_dir(root.join("outside")).unwrap();
            fs::write(&outside, "x").unwrap();
            std::os::unix::fs::symlink(root.join("outside"), root.join("raw/logs/2023_01_02"))
                .unwrap();
            std::os::unix::fs::symlink(&outside, root.join("logs/20230103T000000Z-17.jsonl"))
                .unwrap();
            kept.extend([outside, root.join("logs/20230103T000000Z-17.jsonl")]);
        }
        let (log, _) = LogFile::create(&root, "2024-01-31T10:00:00Z".parse().unwrap()).unwrap();
        log.ship(&bucket, 30).await.unwrap();
        log.prune(30);
        assert!(
            kept.iter().all(|path| path.exists()),
            "{:?}",
            kept.iter().find(|path| !path.exists())
        );
        assert!(!own.iter().any(|path| root.join(path).exists()));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn the_log_of_this_run_is_shipped() {
        let folder = tempfile::tempdir().unwrap();
        let location = BucketLocation::Folder(folder.path().join("raw"));
        let bucket = Bucket::open(
            &location,
            &GoogleAccess::default(),
            &tokio::runtime::Handle::current(),
        )
        .unwrap();
        let victim = folder.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let started: DateTime<Utc> = "2024-01-31T10:00:00Z".parse().unwrap();
        fs::create_dir(folder.path().join(LOGS)).unwrap();
        let planted = folder
            .path()
            .join(LOGS)
            .join(log_file(started, std::process::id(), 1));
        std::os::unix::fs::symlink(&victim, &planted).unwrap();
        let (log, mut file) = LogFile::create(folder.path(), started).unwrap();
        assert_ne!(log.path(), planted);
        std::io::Write::write_all(&mut file, b"line").unwrap();
        fs::remove_file(log.path()).unwrap();
        std::os::unix::fs::symlink(&victim, log.path()).unwrap();
        log.ship(&bucket, 30).await.unwrap();
        let key = log_object(started, log.path().file_name().unwrap().to_str().unwrap());
        assert_eq!(bucket.read(&key).await.unwrap().unwrap().0, "line");
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }
}
