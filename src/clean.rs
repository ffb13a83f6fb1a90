//! Removes objects that no state lists: leftovers of killed runs, superseded lists and days, and old logs; and in the
//! local warehouse files that no table lists.
//!
//! Buckets are shared with other programs, and the configuration may name the wrong one. So nothing is removed from a
//! bucket without state documents of this program, and only objects whose names follow this program's layout exactly
//! are removed. Links in folders are not followed. The same function finds unused objects for a dry run and for
//! removal.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{DateTime, Days, Utc};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::config::{LockConfig, WarehouseConfig};
use crate::delta::{LOG_RETENTION, readable_objects};
use crate::error::{CleanError, Error};
use crate::load::LocalWarehouse;
use crate::state::{RunLock, read_state};
use crate::store::layout::{
    DeltaFile, FLATTENED, LOGS, RAW, RunId, STATE, parse_archive_object, parse_delta_file,
    parse_flattened_object, parse_log_object, parse_raw_object, parse_report_object,
    parse_state_object,
};
use crate::store::{Bucket, Listed};

/// What was removed, or would be.
#[derive(Debug, Clone, Default)]
pub struct Cleaned {
    /// Objects with their full addresses.
    pub objects: Vec<Leftover>,
    /// Objects that a state lists; they are kept.
    pub kept: u64,
    /// Unused objects that are too young to be removed.
    pub young: u64,
    /// Objects whose names do not follow this program's layout; they are kept.
    pub foreign: u64,
    /// Whether this was a dry run: nothing was removed.
    pub dry: bool,
}

/// One object.
#[derive(Debug, Clone)]
pub struct Leftover {
    /// Its address.
    pub uri: String,
    /// Its size.
    pub bytes: u64,
    /// When it was written.
    pub modified: DateTime<Utc>,
}

impl fmt::Display for Cleaned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Leftover {
            uri,
            bytes,
            modified,
        } in &self.objects
        {
            writeln!(f, "{} {bytes:>12} {uri}", modified.format("%Y-%m-%d %H:%M"))?;
        }
        let bytes: u64 = self.objects.iter().map(|object| object.bytes).sum();
        let verb = if self.dry {
            "would be removed"
        } else {
            "removed"
        };
        let Self {
            objects,
            kept,
            young,
            foreign,
            ..
        } = self;
        write!(
            f,
            "{} objects, {:.1} MB {verb}; {kept} are in use, {young} unused ones are too young",
            objects.len(),
            bytes as f64 / 1e6
        )?;
        match foreign {
            0 => Ok(()),
            _ => write!(f, ", {foreign} are not of this program and stay"),
        }
    }
}

/// Keys that the state documents name.
#[derive(Default)]
struct InUse {
    /// Archives that no document names.
    archives: Vec<Listed>,
    raw: BTreeSet<String>,
    flattened: BTreeSet<String>,
}

impl InUse {
    /// Reads all state documents, also those of sources that the catalog no longer has. An unreadable document ends the
    /// cleaning, since the objects that it lists are unknown. So does a bucket without any: it is not this program's,
    /// or not the intended one.
    async fn read(bucket: &Bucket) -> Result<Self, Error> {
        let mut used = Self::default();
        let mut documents = 0;
        let mut named = BTreeSet::new();
        for listed in bucket.list_dated(STATE).await? {
            let key = &listed.key;
            // Files that macOS and editors create are not documents.
            if key
                .rsplit('/')
                .next()
                .is_some_and(|file| file.starts_with('.'))
            {
                continue;
            }
            if parse_archive_object(key).is_some() {
                used.archives.push(listed);
                continue;
            }
            let uri = bucket.uri(key);
            let Some(source) = parse_state_object(key) else {
                return Err(CleanError::ForeignDocument { uri }.into());
            };
            let Some(state) = read_state(bucket, source).await? else {
                continue;
            };
            documents += 1;
            named.extend(state.archive_keys());
            let unfinished = state.unfinished.iter();
            let unfinished = unfinished.flat_map(|window| window.checkpoint.objects());
            used.raw
                .extend(unfinished.map(|object| object.path.clone()));
            for partition in state.partitions.values() {
                let raw = partition.raw.iter().flat_map(|raw| &raw.objects);
                let unfinished = partition.checkpoint.iter().flat_map(|it| it.objects());
                used.raw
                    .extend(raw.chain(unfinished).map(|object| object.path.clone()));
                let models = partition.models.values().flat_map(|model| &model.objects);
                used.flattened
                    .extend(models.map(|object| object.path.clone()));
            }
        }
        used.archives.retain(|listed| !named.contains(&listed.key));
        if documents == 0 {
            let uri = bucket.uri(STATE);
            return Err(CleanError::NoState { uri }.into());
        }
        Ok(used)
    }
}

/// An object that nothing refers to and that is old enough.
struct Unused {
    bucket: Bucket,
    listed: Listed,
}

/// Unused objects by address, and the number of those that are kept.
#[derive(Default)]
struct Found {
    unused: BTreeMap<String, Unused>,
    kept: u64,
    foreign: u64,
}

impl Found {
    fn add(&mut self, bucket: &Bucket, listed: impl IntoIterator<Item = Listed>) {
        for listed in listed {
            let bucket = bucket.clone();
            let uri = bucket.uri(&listed.key);
            self.unused.insert(uri, Unused { bucket, listed });
        }
    }

    /// Collects the unused objects of a bucket below a prefix; the keys in `used` are in use.
    async fn look_through(
        &mut self,
        bucket: &Bucket,
        prefix: &str,
        used: &BTreeSet<String>,
    ) -> Result<(), Error> {
        let (named, others): (Vec<_>, Vec<_>) = bucket
            .list_dated(prefix)
            .await?
            .into_iter()
            .partition(|listed| used.contains(&listed.key));
        self.kept += named.len() as u64;
        // A flattened bucket has no state of its own. If no state lists any of its objects, it may be another
        // deployment's.
        let is_ours = prefix != FLATTENED || !named.is_empty();
        let (logs, others): (Vec<_>, Vec<_>) = others
            .into_iter()
            .partition(|it| is_ours && parse_delta_file(&it.key).is_some());
        let readable = self.look_through_logs(bucket, logs).await?;
        let (kept, others): (Vec<_>, Vec<_>) = others
            .into_iter()
            .partition(|listed| readable.contains(&listed.key));
        self.kept += kept.len() as u64;
        let (own, foreign): (Vec<_>, Vec<_>) = others
            .into_iter()
            .partition(|it| is_ours && is_own(prefix, &it.key));
        self.foreign += foreign.len() as u64;
        self.add(bucket, own);
        if is_ours {
            self.add(bucket, bucket.leftovers().await?);
        }
        Ok(())
    }
}

impl Found {
    /// Collects the unused files of Delta logs, and returns the objects that readers of these tables may need,
    /// including those of earlier versions. Log files that a checkpoint superseded a month ago are unused.
    async fn look_through_logs(
        &mut self,
        bucket: &Bucket,
        logs: Vec<Listed>,
    ) -> Result<BTreeSet<String>, Error> {
        let now = clock::now();
        let mut readable = BTreeSet::new();
        let mut of_tables: BTreeMap<String, Vec<(DeltaFile, Listed)>> = BTreeMap::new();
        for listed in logs {
            if let Some((table, file)) = parse_delta_file(&listed.key) {
                let of_table = of_tables.entry(table.to_string()).or_default();
                of_table.push((file, listed));
            }
        }
        for (table, files) in of_tables {
            readable.extend(readable_objects(bucket, &table, now).await?);
            let settled = files.iter().filter_map(|(file, listed)| match file {
                DeltaFile::Checkpoint(version) => {
                    (listed.modified <= now - LOG_RETENTION).then_some(*version)
                }
                _ => None,
            });
            let first = settled.max().unwrap_or_default();
            let (old, kept): (Vec<_>, Vec<_>) =
                files.into_iter().partition(|(file, _)| match file {
                    DeltaFile::Commit(version) | DeltaFile::Checkpoint(version) => *version < first,
                    DeltaFile::Hint => false,
                });
            self.kept += kept.len() as u64;
            self.add(bucket, old.into_iter().map(|(_, listed)| listed));
        }
        Ok(readable)
    }
}

/// The places where leftovers may be, and the lock that is held while they are removed.
pub struct Places<'a> {
    /// The raw bucket, with the state documents.
    pub raw: &'a Bucket,
    /// The flattened bucket.
    pub flattened: &'a Bucket,
    /// The warehouse; a local one has its own leftovers.
    pub warehouse: &'a WarehouseConfig,
    /// How the run lock is held.
    pub lock: &'a LockConfig,
}

impl Places<'_> {
    /// Removes unused objects that were written more than `days` ago; with `dry`, only lists them.
    ///
    /// Holds the run lock: what a running run has written is not in any state yet.
    ///
    /// # Errors
    /// [`Error::Clean`] if the raw bucket has no state document, or one that this program does not know: then nothing
    /// is removed.
    pub async fn clean(&self, days: u32, dry: bool) -> Result<Cleaned, Error> {
        // Before anything is written, the lock included.
        let (mut cleaned, unused) = self.unused(days).await?;
        if dry {
            cleaned.objects = unused
                .iter()
                .map(|(uri, unused)| leftover(uri, &unused.listed))
                .collect();
            return Ok(Cleaned { dry, ..cleaned });
        }
        let (id, stop) = (RunId::new(clock::now()), CancellationToken::new());
        let lock = RunLock::acquire(self.raw, &id, self.lock, &stop).await?;
        let result = self.remove_unused(days, &lock).await;
        lock.release().await;
        result
    }

    async fn remove_unused(&self, days: u32, lock: &RunLock) -> Result<Cleaned, Error> {
        let (mut cleaned, unused) = self.unused(days).await?;
        for (uri, Unused { bucket, listed }) in unused {
            lock.check()?;
            bucket.delete(&listed.key).await?;
            cleaned.objects.push(leftover(&uri, &listed));
        }
        Ok(cleaned)
    }

    /// Unused objects more than `days` days old, by address, and the number of those that are kept.
    async fn unused(&self, days: u32) -> Result<(Cleaned, BTreeMap<String, Unused>), Error> {
        // So many days ago there was nothing.
        let before = clock::now()
            .checked_sub_days(Days::new(u64::from(days)))
            .unwrap_or(DateTime::<Utc>::MIN_UTC);
        let used = InUse::read(self.raw).await?;
        let mut found = Found::default();
        found.add(self.raw, used.archives);
        found.look_through(self.raw, RAW, &used.raw).await?;
        found
            .look_through(self.flattened, FLATTENED, &used.flattened)
            .await?;
        found.look_through(self.raw, LOGS, &BTreeSet::new()).await?;
        if let WarehouseConfig::Local(folder) = self.warehouse
            && folder.is_dir()
        {
            let warehouse = LocalWarehouse::open(folder, &Handle::current())?;
            found.add(warehouse.bucket(), warehouse.orphans().await?);
            found.add(warehouse.bucket(), warehouse.bucket().leftovers().await?);
        }
        let all = found.unused.len();
        let mut unused = found.unused;
        unused.retain(|_, unused| unused.listed.modified <= before);
        let cleaned = Cleaned {
            kept: found.kept,
            young: (all - unused.len()) as u64,
            foreign: found.foreign,
            ..Cleaned::default()
        };
        Ok((cleaned, unused))
    }
}

/// Whether this program writes objects with this key below this prefix.
fn is_own(prefix: &str, key: &str) -> bool {
    match prefix {
        RAW => parse_raw_object(key).is_some(),
        FLATTENED => parse_flattened_object(key).is_some(),
        _ => parse_log_object(key).is_some() || parse_report_object(key).is_some(),
    }
}

fn leftover(uri: &str, listed: &Listed) -> Leftover {
    Leftover {
        uri: uri.to_string(),
        bytes: listed.bytes,
        modified: listed.modified,
    }
}
