//! Archives: the state of a source's days of one year.
//!
//! If the state document held all days, each commit would write all of them, and would cost more with each year. So the
//! document holds the days that were changed last. When there are many of them, they are moved into the archives of
//! their years, which the document lists.
//!
//! An archive has a new name each time and never changes, like Parquet objects: it is written first, and counts once
//! the document lists it. So all changes of a commit still take effect with one compare-and-swap, in any number of
//! years; a program that dies in between leaves archives that nothing lists, which `clean` removes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use chrono::Datelike;
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::check::check_partitions;
use super::document::{ArchiveRef, Partitions, SourceState, VERSION, shared};
use super::{DocumentError, READS_AT_A_TIME, Sha256Digest, StateError, read_unique};
use crate::store::layout::{Partition, archive_object};
use crate::store::{Bucket, StoreError};

/// Maximum number of days in the document itself. With more of them a commit writes more; with fewer, an archive is
/// written more often, which has some thousand bytes for each day of a year.
const LOOSE_DAYS: usize = 32;

/// The document of an archive.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Archive {
    version: u32,
    source: String,
    year: i32,
    #[serde(with = "shared")]
    partitions: Partitions,
}

impl SourceState {
    /// Moves days into the archives of their years, if there are too many in the document. Returns the keys of the
    /// archives that the document no longer lists.
    ///
    /// # Errors
    /// An archive cannot be written. The state in memory must then not be used.
    pub(super) async fn archive(&mut self, bucket: &Bucket) -> Result<Vec<String>, StoreError> {
        let loose = self.loose().filter_map(|(partition, _)| partition.day());
        let loose: Vec<i32> = loose.map(|day| day.year()).collect();
        if loose.len() <= LOOSE_DAYS {
            return Ok(Vec::new());
        }
        let years: BTreeSet<i32> = loose.into_iter().collect();
        let mut by_year: BTreeMap<i32, Partitions> = BTreeMap::new();
        for (partition, state) in &self.partitions {
            let year = year_of(*partition).filter(|year| years.contains(year));
            if let Some(year) = year {
                let of_year = by_year.entry(year).or_default();
                of_year.insert(*partition, state.clone());
            }
        }
        let mut archived = (*self.archived).clone();
        let (mut written, mut superseded) = (Vec::new(), Vec::new());
        for (year, partitions) in by_year {
            archived.extend(partitions.iter().map(|(key, state)| (*key, state.clone())));
            let mark = format!("{:016x}", rand::random::<u64>());
            let key = archive_object(&self.source, year, &mark);
            let archive = Archive {
                version: VERSION,
                source: self.source.clone(),
                year,
                partitions,
            };
            let bytes = bucket.document(&key, serde_json::to_vec(&archive))?;
            let digest = digest(&bytes);
            if let Some(before) = self.archives.insert(year, ArchiveRef { mark, digest }) {
                superseded.push(archive_object(&self.source, year, &before.mark));
            }
            written.push((key, bytes));
        }
        self.archived = Arc::new(archived);
        stream::iter(written)
            .map(|(key, bytes): (String, Bytes)| async move { bucket.write(&key, bytes).await })
            .buffer_unordered(READS_AT_A_TIME)
            .try_collect::<()>()
            .await?;
        Ok(superseded)
    }

    /// Reads the archives that the document lists.
    ///
    /// # Errors
    /// [`StateError::Gone`] if one does not exist: a concurrent run may have replaced it since the document was read.
    pub(super) async fn read_archives(&mut self, bucket: &Bucket) -> Result<(), StateError> {
        let source = self.source.as_str();
        let reads: Vec<_> = self
            .archives
            .iter()
            .map(|(year, archive)| read_archive(bucket, source, *year, archive))
            .collect();
        let archives: Vec<Partitions> = stream::iter(reads)
            .buffered(READS_AT_A_TIME)
            .try_collect()
            .await?;
        let archived: Partitions = archives.into_iter().flatten().collect();
        for (partition, state) in &archived {
            self.partitions
                .entry(*partition)
                .or_insert_with(|| state.clone());
        }
        self.archived = Arc::new(archived);
        Ok(())
    }

    /// The keys of the archives that the document lists.
    pub fn archive_keys(&self) -> impl Iterator<Item = String> {
        self.archives
            .iter()
            .map(|(year, archive)| archive_object(&self.source, *year, &archive.mark))
    }
}

async fn read_archive(
    bucket: &Bucket,
    source: &str,
    year: i32,
    named: &ArchiveRef,
) -> Result<Partitions, StateError> {
    let key = archive_object(source, year, &named.mark);
    let uri = bucket.uri(&key);
    let Some((bytes, _)) = bucket.read(&key).await? else {
        return Err(StateError::Gone { uri });
    };
    let malformed = |error: DocumentError| StateError::Malformed {
        uri: uri.clone(),
        error,
    };
    if digest(&bytes) != named.digest {
        let reason = "it has been changed since it was written".to_string();
        return Err(malformed(reason.into()));
    }
    let archive: Archive = read_unique(&bytes).map_err(malformed)?;
    let is_of_year = |partition: &Partition| year_of(*partition) == Some(year);
    let is_own = archive.version == VERSION
        && archive.source == source
        && archive.year == year
        && archive.partitions.keys().all(is_of_year);
    if !is_own {
        let reason = format!("it is not what {source} knows of {year}");
        return Err(malformed(reason.into()));
    }
    check_partitions(source, &archive.partitions).map_err(|reason| malformed(reason.into()))?;
    Ok(archive.partitions)
}

fn year_of(partition: Partition) -> Option<i32> {
    partition.day().map(|day| day.year())
}

fn digest(bytes: &[u8]) -> Sha256Digest {
    Sha256Digest::of(Sha256::new().chain_update(bytes))
}
