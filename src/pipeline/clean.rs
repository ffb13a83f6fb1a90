//! Removes what no state refers to: orphans of killed runs, superseded lists and days, and old logs; and in the local
//! warehouse what no table refers to.
//!
//! Buckets are shared with other programs, and configuration may name the wrong one. So nothing is removed where there
//! is no state of this program, and of what is there only what is called exactly as this program calls its own. In
//! folders no link is followed. One function finds what is unused, for a cleaning and for its rehearsal alike.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{DateTime, Days, Utc};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::Pipeline;
use crate::config::WarehouseConfig;
use crate::error::Error;
use crate::load::LocalWarehouse;
use crate::state::{Checkpoint, RunLock, read_state};
use crate::store::layout::{
    FLATTENED, LOGS, RAW, RunId, STATE, parse_archive_object, parse_flattened_object,
    parse_log_object, parse_raw_object, parse_state_object,
};
use crate::store::{Bucket, Listed};

/// What was removed, or would be.
#[derive(Debug, Clone, Default)]
pub struct Swept {
    /// Objects with their full addresses.
    pub objects: Vec<SweptObject>,
    /// Objects that a state refers to; they stay.
    pub kept: u64,
    /// Objects that nothing refers to, but that are too young.
    pub young: u64,
    /// Objects that are not called as this program calls its own; they stay.
    pub foreign: u64,
    /// Whether nothing was removed, only looked at.
    pub dry: bool,
}

/// One object.
#[derive(Debug, Clone)]
pub struct SweptObject {
    /// Its address.
    pub uri: String,
    /// Its size.
    pub bytes: u64,
    /// When it was written.
    pub modified: DateTime<Utc>,
}

impl fmt::Display for Swept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for SweptObject {
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
    /// Reads every document there is, also those of sources that the catalog no longer knows. One that cannot be
    /// read ends the sweep: what it refers to is not known. So does a bucket without any: it is not this program's, or
    /// not the one that was meant.
    async fn read(bucket: &Bucket) -> Result<Self, Error> {
        let mut used = Self::default();
        let mut documents = 0;
        let mut named = BTreeSet::new();
        for listed in bucket.list_dated(STATE).await? {
            let key = &listed.key;
            // What macOS and editors leave beside files is no document.
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
                let reason =
                    "is not a state document of this program, nor of a version that is known";
                return Err(Error::Usage(format!("{uri} {reason}: nothing is removed")));
            };
            let Some(state) = read_state(bucket, source).await? else {
                continue;
            };
            documents += 1;
            named.extend(state.archive_keys());
            for partition in state.partitions.values() {
                let raw = partition.raw.iter().flat_map(|raw| &raw.objects);
                let unfinished = partition.checkpoint.iter().flat_map(Checkpoint::objects);
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
            let reason =
                "holds no state document of this program, so nothing can be told to be unused";
            return Err(Error::Usage(format!(
                "{uri}/ {reason}: is this the raw bucket that was meant?"
            )));
        }
        Ok(used)
    }
}

/// An object that nothing refers to and that is old enough.
struct Unused {
    bucket: Bucket,
    listed: Listed,
}

impl Pipeline {
    /// Removes unused objects that were written more than `days` ago; with `dry`, only tells which.
    ///
    /// The run lock is held meanwhile: what a run at work has written is not in any state yet.
    pub async fn clean(&self, days: u32, dry: bool) -> Result<Swept, Error> {
        // Before anything is written, the lock included.
        let (mut swept, unused) = self.unused(days).await?;
        if dry {
            swept.objects = unused
                .iter()
                .map(|(uri, unused)| told(uri, &unused.listed))
                .collect();
            return Ok(Swept { dry, ..swept });
        }
        let (id, stop) = (RunId::new(Utc::now()), CancellationToken::new());
        let lock = RunLock::acquire(self.raw(), &id, &self.config.lock, &stop).await?;
        let result = self.remove_unused(days, &lock).await;
        lock.release().await;
        result
    }

    async fn remove_unused(&self, days: u32, lock: &RunLock) -> Result<Swept, Error> {
        let (mut swept, unused) = self.unused(days).await?;
        for (uri, Unused { bucket, listed }) in unused {
            lock.check()?;
            bucket.delete(&listed.key).await?;
            swept.objects.push(told(&uri, &listed));
        }
        Ok(swept)
    }

    /// What nothing refers to and is more than `days` days old, by address; and what is not, counted.
    async fn unused(&self, days: u32) -> Result<(Swept, BTreeMap<String, Unused>), Error> {
        // So many days ago there was nothing.
        let before = Utc::now()
            .checked_sub_days(Days::new(u64::from(days)))
            .unwrap_or(DateTime::<Utc>::MIN_UTC);
        let used = InUse::read(self.raw()).await?;
        let nothing = BTreeSet::new();
        let mut swept = Swept::default();
        let mut unused = BTreeMap::new();
        let mut found = |bucket: &Bucket, listed: Listed| {
            unused.insert(
                bucket.uri(&listed.key),
                Unused {
                    bucket: bucket.clone(),
                    listed,
                },
            );
        };
        used.archives
            .into_iter()
            .for_each(|listed| found(self.raw(), listed));
        let places = [
            (self.raw(), RAW, &used.raw),
            (self.flattened(), FLATTENED, &used.flattened),
            (self.raw(), LOGS, &nothing),
        ];
        for (bucket, prefix, used) in places {
            let (named, others): (Vec<_>, Vec<_>) = bucket
                .list_dated(prefix)
                .await?
                .into_iter()
                .partition(|listed| used.contains(&listed.key));
            swept.kept += named.len() as u64;
            // A flattened bucket has no state of its own. One in which nothing is named may be another deployment's.
            let is_ours = prefix != FLATTENED || !named.is_empty();
            let (own, foreign): (Vec<_>, Vec<_>) = others
                .into_iter()
                .partition(|it| is_ours && is_own(prefix, &it.key));
            swept.foreign += foreign.len() as u64;
            let leftovers = if is_ours {
                bucket.leftovers().await?
            } else {
                Vec::new()
            };
            own.into_iter()
                .chain(leftovers)
                .for_each(|listed| found(bucket, listed));
        }
        if let WarehouseConfig::Local(folder) = &self.config.warehouse
            && folder.is_dir()
        {
            let warehouse = LocalWarehouse::open(folder, &Handle::current())?;
            let left = [
                warehouse.orphans().await?,
                warehouse.bucket().leftovers().await?,
            ]
            .concat();
            left.into_iter()
                .for_each(|listed| found(warehouse.bucket(), listed));
        }
        let all = unused.len();
        unused.retain(|_, unused| unused.listed.modified <= before);
        swept.young = (all - unused.len()) as u64;
        Ok((swept, unused))
    }
}

/// Whether this program would have written an object of this key below this prefix.
fn is_own(prefix: &str, key: &str) -> bool {
    match prefix {
        RAW => parse_raw_object(key).is_some(),
        FLATTENED => parse_flattened_object(key).is_some(),
        _ => parse_log_object(key).is_some(),
    }
}

fn told(uri: &str, listed: &Listed) -> SweptObject {
    SweptObject {
        uri: uri.to_string(),
        bytes: listed.bytes,
        modified: listed.modified,
    }
}
