//! Removes what no state refers to: orphans of killed runs, superseded lists and days, and old logs; and in the local
//! warehouse what no table refers to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{DateTime, Days, Utc};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::Pipeline;
use crate::config::WarehouseConfig;
use crate::error::Error;
use crate::load::LocalWarehouse;
use crate::state::{RunLock, SourceState, Unfinished};
use crate::store::layout::{FLATTENED, LOGS, RAW, RunId, STATE};
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
        for SweptObject { uri, bytes, modified } in &self.objects {
            writeln!(f, "{} {bytes:>12} {uri}", modified.format("%Y-%m-%d %H:%M"))?;
        }
        let bytes: u64 = self.objects.iter().map(|object| object.bytes).sum();
        let verb = if self.dry { "would be removed" } else { "removed" };
        let Self { objects, kept, young, .. } = self;
        write!(
            f,
            "{} objects, {:.1} MB {verb}; {kept} are in use, {young} unused ones are too young",
            objects.len(),
            bytes as f64 / 1e6
        )
    }
}

/// Keys that the state documents name.
#[derive(Default)]
struct InUse {
    raw: BTreeSet<String>,
    flattened: BTreeSet<String>,
}

impl InUse {
    /// Reads every document there is, also those of sources that the catalog no longer knows. One that cannot be
    /// read ends the sweep: what it refers to is not known.
    async fn read(bucket: &Bucket) -> Result<Self, Error> {
        let mut used = Self::default();
        for (key, _) in bucket.list(STATE).await? {
            let Some((bytes, _)) = bucket.read(&key).await? else { continue };
            let state = SourceState::from_json(&bytes, &bucket.uri(&key))?;
            for partition in state.partitions.into_values() {
                let raw = partition.raw.iter().flat_map(|raw| &raw.objects);
                let unfinished = partition.unfinished.iter().flat_map(Unfinished::objects);
                used.raw.extend(raw.chain(unfinished).map(|object| object.path.clone()));
                let models = partition.models.into_values().flat_map(|model| model.objects);
                used.flattened.extend(models.map(|object| object.path));
            }
        }
        Ok(used)
    }
}

impl Pipeline {
    /// Removes unused objects that were written more than `days` ago; with `dry`, only tells which.
    ///
    /// The run lock is held meanwhile: what a run at work has written is not in any state yet.
    pub async fn clean(&self, days: u32, dry: bool) -> Result<Swept, Error> {
        if dry {
            return self.sweep(days, None).await;
        }
        let (id, stop) = (RunId::new(Utc::now()), CancellationToken::new());
        let lock = RunLock::acquire(self.raw(), &id, &self.config.lock, &stop).await?;
        let result = self.sweep(days, Some(&lock)).await;
        lock.release().await;
        result
    }

    async fn sweep(&self, days: u32, lock: Option<&RunLock>) -> Result<Swept, Error> {
        // So many days ago there was nothing.
        let before = Utc::now().checked_sub_days(Days::new(u64::from(days))).unwrap_or(DateTime::<Utc>::MIN_UTC);
        let used = InUse::read(self.raw()).await?;
        let nothing = BTreeSet::new();
        let mut swept = Swept { dry: lock.is_none(), ..Swept::default() };
        let mut unused = BTreeMap::new();
        let mut found = |bucket: &Bucket, listed: Listed| {
            unused.insert(bucket.uri(&listed.key), (bucket.clone(), listed));
        };
        for (bucket, prefix, used) in
            [(self.raw(), RAW, &used.raw), (self.flattened(), FLATTENED, &used.flattened), (self.raw(), LOGS, &nothing)]
        {
            for listed in bucket.list_dated(prefix).await? {
                match used.contains(&listed.key) {
                    true => swept.kept += 1,
                    false => found(bucket, listed),
                }
            }
            bucket.leftovers().await?.into_iter().for_each(|listed| found(bucket, listed));
        }
        if let WarehouseConfig::Local(folder) = &self.config.warehouse
            && folder.is_dir()
        {
            let warehouse = LocalWarehouse::open(folder, &Handle::current())?;
            let left = [warehouse.orphans().await?, warehouse.bucket().leftovers().await?].concat();
            left.into_iter().for_each(|listed| found(warehouse.bucket(), listed));
        }
        for (uri, (bucket, Listed { key, bytes, modified })) in unused {
            if modified > before {
                swept.young += 1;
                continue;
            }
            if let Some(lock) = lock {
                lock.check()?;
                bucket.delete(&key).await?;
            }
            swept.objects.push(SweptObject { uri, bytes, modified });
        }
        Ok(swept)
    }
}
