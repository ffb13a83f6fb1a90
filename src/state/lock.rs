//! The run lock: one run at a time on a pair of buckets.
//!
//! `lock.json` in the raw bucket is a lease. It is created only if it is absent, and changed only by compare-and-swap:
//! by its holder, who renews it on a timer (heartbeat), or by the next run once the lease has expired, its holder is
//! known to be dead, or it was released. It is never deleted: a delete cannot be made conditional, and might remove a
//! successor's lock.
//!
//! A run that lost its lock must not commit: every commit checks the [`Fence`] first. The compare-and-swap of the state
//! documents is the second guard, for the moment between that check and the write.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Datelike, TimeDelta, Utc};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{DocumentError, read_document};
use crate::bounds::{MAX_LOCK_HOURS, MAX_LOCK_TEXT};
use crate::clock;
use crate::config::LockConfig;
use crate::redact::foreign;
use crate::store::layout::{LOCK_OBJECT, RunId};
use crate::store::{Bucket, StoreError, Version};

/// Version of the lock document that this program writes.
const LOCK_VERSION: u32 = 1;
/// The holder renews its lease this many times per expiry period, so that a single failed request does not lose it.
const BEATS: u32 = 4;
/// A release spares the next run the wait for the expiry; it is not worth a long wait itself.
const RELEASE_LIMIT: Duration = Duration::from_secs(20);

/// A lock that cannot be acquired, or was lost.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another run holds the lock.
    #[error("another run holds the lock {uri}: {holder}")]
    Held {
        /// URI of the lock document.
        uri: String,
        /// The run that holds the lock.
        holder: Box<Holder>,
    },
    /// The lock was taken over, or its lease could not be renewed.
    #[error("lost the run lock {uri}: {loss}; nothing more is committed")]
    Lost {
        /// URI of the lock document.
        uri: String,
        /// How it was lost.
        #[source]
        loss: LockLoss,
    },
    /// The run was stopped while it waited for the lock.
    #[error("stopped while waiting for {uri}")]
    Stopped {
        /// URI of the lock document.
        uri: String,
    },
    /// The document is not a lock of this program, or was written by a newer version.
    #[error("{uri} is not a lock of this program: {}", .error.to_string().replace(char::is_control, " "))]
    Malformed {
        /// URI of the lock document.
        uri: String,
        /// Why the document is not a valid lock.
        #[source]
        error: DocumentError,
    },
    /// The raw bucket could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How a run lost its lock.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LockLoss {
    /// Another run took the lock over.
    #[error("it was taken over by {0}")]
    TakenOver(Box<Holder>),
    /// The lock document was deleted.
    #[error("it was removed")]
    Removed,
    /// The lock document was replaced, and cannot be read.
    #[error("another run replaced it, and it cannot be read: {0}")]
    Replaced(#[source] Arc<LockError>),
    /// The lease expired.
    #[error("not renewed since {}", .0.format("%Y-%m-%d %H:%M:%SZ"))]
    Expired(DateTime<Utc>),
}

/// Who holds the lock: the content of `lock.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// Version of the document.
    pub version: u32,
    /// Id of the run.
    pub run: String,
    /// Name of the host it runs on.
    pub host: String,
    /// Process id on that host.
    pub pid: u32,
    /// Boot and process namespace in which `pid` means something; empty where the system does not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub machine: String,
    /// When the process began, in the system's ticks: distinguishes it from a later process with the same id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process_start: Option<u64>,
    /// When the lock was taken.
    pub started: DateTime<Utc>,
    /// When the lease was last renewed.
    pub heartbeat: DateTime<Utc>,
    /// When the lease expires.
    pub expires: DateTime<Utc>,
    /// Whether the lock was released.
    #[serde(default)]
    pub released: bool,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            run,
            host,
            pid,
            started,
            heartbeat,
            expires,
            ..
        } = self;
        let time = |at: &DateTime<Utc>| at.format("%Y-%m-%d %H:%M:%SZ").to_string();
        let (started, heartbeat, expires) = (time(started), time(heartbeat), time(expires));
        // Anyone with write access to the bucket may have written this.
        let (run, host) = (foreign(run), foreign(host));
        write!(
            f,
            "run {run}, process {pid} on {host}, since {started} (last heartbeat {heartbeat}, expires {expires})"
        )
    }
}

impl Holder {
    fn this(run: &RunId, expiry: Duration) -> Self {
        let now = clock::now();
        let pid = std::process::id();
        Self {
            version: LOCK_VERSION,
            run: run.to_string(),
            host: host(),
            pid,
            machine: machine().unwrap_or_default(),
            process_start: process_start(pid),
            started: now,
            heartbeat: now,
            expires: after(now, expiry),
            released: false,
        }
    }

    /// Reads the document, and refuses one that a newer version, or another program, wrote.
    pub fn from_json(bytes: &[u8], uri: &str) -> Result<Self, LockError> {
        let malformed = |error: DocumentError| LockError::Malformed {
            uri: uri.into(),
            error,
        };
        let holder: Self = read_document(bytes).map_err(malformed)?;
        if holder.version > LOCK_VERSION {
            let reason = format!(
                "version {}; this program knows up to {LOCK_VERSION}",
                holder.version
            );
            return Err(malformed(reason.into()));
        }
        let Self {
            run,
            host,
            machine,
            started,
            heartbeat,
            expires,
            ..
        } = &holder;
        if let Some(text) = [run, host, machine]
            .into_iter()
            .find(|text| text.len() > MAX_LOCK_TEXT)
        {
            return Err(malformed(format!("a name of {} bytes", text.len()).into()));
        }
        if [started, heartbeat, expires]
            .into_iter()
            .any(|at| !(1970..=9999).contains(&at.year()))
        {
            let reason = "a time that is not in the years 1970 to 9999".to_string();
            return Err(malformed(reason.into()));
        }
        Ok(holder)
    }

    /// Whether the expiry is further away than any run sets it: waiting for it makes no sense.
    pub fn is_beyond_reason(&self, now: DateTime<Utc>) -> bool {
        self.expires.signed_duration_since(now) > TimeDelta::hours(MAX_LOCK_HOURS)
    }

    fn to_json(&self, bucket: &Bucket) -> Result<Bytes, StoreError> {
        bucket.document(LOCK_OBJECT, serde_json::to_vec(self))
    }

    /// Whether the lock keeps others out at `now`.
    pub fn is_live(&self, now: DateTime<Utc>) -> bool {
        !self.released && self.expires > now && !self.is_known_dead()
    }

    /// Whether the process ran on this machine and has ended: then no run needs to wait for its lease to expire.
    fn is_known_dead(&self) -> bool {
        let here = machine().is_some_and(|machine| machine == self.machine);
        here && self.process_start.is_some() && process_start(self.pid) != self.process_start
    }
}

fn after(now: DateTime<Utc>, expiry: Duration) -> DateTime<Utc> {
    now + TimeDelta::from_std(expiry).unwrap_or(TimeDelta::MAX / 2)
}

fn host() -> String {
    #[expect(
        clippy::disallowed_methods,
        reason = "the system's name of this host, not a setting"
    )]
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok());
    name.map_or_else(|| "unknown host".into(), |name| name.trim().to_string())
}

/// This boot and this process namespace: process ids of two containers must not be compared.
fn machine() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), namespace.display()))
}

/// When a process began, in ticks since boot; none if it does not exist or is a zombie.
fn process_start(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, which may contain any character.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let start = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(start)
}

/// Checks whether the run still holds its lock. Without a lock (plans, queries) every check passes.
#[derive(Debug, Clone, Default)]
pub struct Fence(Arc<Mutex<Option<Arc<Lease>>>>);

impl Fence {
    /// From now on checks pass only while `lock` is held.
    pub fn guard(&self, lock: &RunLock) {
        *self.0.lock() = Some(lock.lease.clone());
    }

    /// Removes the lock from the fence: every check passes again.
    pub fn lift(&self) {
        *self.0.lock() = None;
    }

    /// Checks that the lock is held.
    ///
    /// # Errors
    /// [`LockError::Lost`] if the lock was lost, or the lease expired without being renewed.
    pub fn check(&self) -> Result<(), LockError> {
        let lease = self.0.lock().clone();
        lease.map_or(Ok(()), |lease| lease.check())
    }
}

/// What the heartbeat knows of the lock.
#[derive(Debug)]
struct Lease {
    uri: String,
    term: Mutex<LeaseTerm>,
}

#[derive(Debug)]
struct LeaseTerm {
    /// By the monotonic clock of this process.
    until: Instant,
    /// By the wall clock, which continues while the machine sleeps.
    expires: DateTime<Utc>,
    lost: Option<LockLoss>,
}

impl Lease {
    fn check(&self) -> Result<(), LockError> {
        let term = self.term.lock();
        let loss = match &term.lost {
            Some(loss) => loss.clone(),
            None if Instant::now() < term.until && clock::now() < term.expires => return Ok(()),
            None => LockLoss::Expired(term.expires),
        };
        Err(LockError::Lost {
            uri: self.uri.clone(),
            loss,
        })
    }

    fn renewed(&self, until: Instant, expires: DateTime<Utc>) {
        let mut term = self.term.lock();
        (term.until, term.expires) = (until, expires);
    }

    fn lost(&self, loss: LockLoss) {
        self.term.lock().lost = Some(loss);
    }
}

/// A lock that is held. If it is dropped without [`RunLock::release`], the lease expires by itself.
#[derive(Debug)]
pub struct RunLock {
    lease: Arc<Lease>,
    quit: CancellationToken,
    heartbeat: JoinHandle<Heartbeat>,
}

/// The part that writes `lock.json`.
#[derive(Debug)]
struct Heartbeat {
    bucket: Bucket,
    lease: Arc<Lease>,
    expiry: Duration,
    /// Time between two renewals.
    period: Duration,
    holder: Holder,
    version: Version,
    written: Instant,
}

impl RunLock {
    /// Takes the lock of `bucket`: at once, or with [`LockConfig::wait`] as soon as it is free.
    ///
    /// `stop` ends the wait. It is cancelled when the lock is lost, so that the run ends.
    ///
    /// # Errors
    /// [`LockError::Held`] if another run holds it and is not waited for, [`LockError::Malformed`] if the document is not
    /// a lock of this program, or the bucket's error.
    pub async fn acquire(
        bucket: &Bucket,
        run: &RunId,
        config: &LockConfig,
        stop: &CancellationToken,
    ) -> Result<Self, LockError> {
        Self::acquire_renewed_every(config.expiry / BEATS, bucket, run, config, stop).await
    }

    async fn acquire_renewed_every(
        period: Duration,
        bucket: &Bucket,
        run: &RunId,
        config: &LockConfig,
        stop: &CancellationToken,
    ) -> Result<Self, LockError> {
        let uri = bucket.uri(LOCK_OBJECT);
        let (holder, version, asked) = take(bucket, run, config, stop, &uri).await?;
        let term = LeaseTerm {
            until: asked + config.expiry,
            expires: holder.expires,
            lost: None,
        };
        let lease = Arc::new(Lease {
            uri,
            term: Mutex::new(term),
        });
        let (quit, stop) = (CancellationToken::new(), stop.clone());
        let heartbeat = Heartbeat {
            bucket: bucket.clone(),
            lease: lease.clone(),
            expiry: config.expiry,
            period,
            holder,
            version,
            written: Instant::now(),
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "the lock owns its heartbeat, and ends it on release or drop"
        )]
        let heartbeat = tokio::spawn(heartbeat.renew_until_released(quit.clone(), stop));
        Ok(Self {
            lease,
            quit,
            heartbeat,
        })
    }

    /// Checks that the lock is held.
    ///
    /// # Errors
    /// [`LockError::Lost`], with the reason, if it is not.
    pub fn check(&self) -> Result<(), LockError> {
        self.lease.check()
    }

    /// Releases the lock, so that the next run need not wait. If this fails, the lease expires by itself.
    pub async fn release(mut self) {
        self.quit.cancel();
        let Ok(heartbeat) = (&mut self.heartbeat).await else {
            return;
        };
        if tokio::time::timeout(RELEASE_LIMIT, heartbeat.release())
            .await
            .is_err()
        {
            tracing::warn!(
                uri = self.lease.uri,
                "the lock could not be released in time; it expires by itself"
            );
        }
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // A run that is dropped must not renew its lease any more.
        self.heartbeat.abort();
    }
}

impl Heartbeat {
    async fn renew_until_released(
        mut self,
        quit: CancellationToken,
        stop: CancellationToken,
    ) -> Self {
        let mut rest = self.period;
        loop {
            tokio::select! {
                () = quit.cancelled() => return self,
                () = tokio::time::sleep(rest) => {}
            }
            // A write in progress is finished: after an aborted one, the version of the document would be unknown.
            rest = match self.renew().await {
                Ok(()) => self.period,
                Err(StoreError::Conflict { .. }) => {
                    let loss = match read(&self.bucket).await {
                        // Our own renewal, whose response was lost.
                        Ok(Some((holder, version)))
                            if holder.run == self.holder.run && !holder.released =>
                        {
                            (self.holder, self.version) = (holder, version);
                            rest = Duration::ZERO;
                            continue;
                        }
                        Ok(Some((holder, _))) => LockLoss::TakenOver(Box::new(holder)),
                        Ok(None) => LockLoss::Removed,
                        Err(error) => LockLoss::Replaced(Arc::new(error)),
                    };
                    tracing::warn!(uri = self.lease.uri, %loss, "lock lost");
                    self.lease.lost(loss);
                    stop.cancel();
                    return self;
                }
                Err(error) => {
                    tracing::warn!(%error, "the lock could not be renewed yet");
                    self.period / 4
                }
            };
        }
    }

    async fn renew(&mut self) -> Result<(), StoreError> {
        let (asked, now) = (Instant::now(), clock::now());
        let holder = Holder {
            heartbeat: now,
            expires: after(now, self.expiry),
            ..self.holder.clone()
        };
        self.version = self
            .bucket
            .swap(
                LOCK_OBJECT,
                Some(&self.version),
                holder.to_json(&self.bucket)?,
            )
            .await?;
        self.written = Instant::now();
        self.lease.renewed(asked + self.expiry, holder.expires);
        self.holder = holder;
        Ok(())
    }

    async fn release(self) {
        tokio::time::sleep_until(self.written + self.bucket.write_interval()).await;
        let holder = Holder {
            released: true,
            ..self.holder
        };
        let swapped = async {
            self.bucket
                .swap(
                    LOCK_OBJECT,
                    Some(&self.version),
                    holder.to_json(&self.bucket)?,
                )
                .await
        };
        match swapped.await {
            // Another run holds it now, so there is nothing to release.
            Ok(_) | Err(StoreError::Conflict { .. }) => {}
            Err(error) => {
                tracing::warn!(%error, "the lock could not be released; it expires by itself")
            }
        }
    }
}

/// The run that holds the lock of `bucket`, or the last one that held it; none if there was no run yet.
///
/// # Errors
/// [`LockError::Malformed`] if the document is not a lock of this program, or the bucket's error.
pub async fn holder(bucket: &Bucket) -> Result<Option<Holder>, LockError> {
    Ok(read(bucket).await?.map(|(holder, _)| holder))
}

async fn read(bucket: &Bucket) -> Result<Option<(Holder, Version)>, LockError> {
    let Some((bytes, version)) = bucket.read(LOCK_OBJECT).await? else {
        return Ok(None);
    };
    Ok(Some((
        Holder::from_json(&bytes, &bucket.uri(LOCK_OBJECT))?,
        version,
    )))
}

/// Writes this run into the lock document as soon as no live run holds it. Returns the version of the document and the
/// time of the request, from which the lease counts.
async fn take(
    bucket: &Bucket,
    run: &RunId,
    config: &LockConfig,
    stop: &CancellationToken,
    uri: &str,
) -> Result<(Holder, Version, Instant), LockError> {
    let mut announced = None;
    loop {
        let found = read(bucket).await?;
        if let Some((holder, _)) = &found
            && holder.is_live(clock::now())
        {
            if !config.wait {
                return Err(LockError::Held {
                    uri: uri.into(),
                    holder: Box::new(holder.clone()),
                });
            }
            if announced.as_ref() != Some(&holder.run) {
                tracing::warn!(%holder, "waiting for another run");
                if holder.is_beyond_reason(clock::now()) {
                    tracing::warn!(
                        uri,
                        "the lock's expiry is implausibly far away: if no run is active, remove it"
                    );
                }
                announced = Some(holder.run.clone());
            }
            pause(config, stop, uri).await?;
            continue;
        }
        if let Some((before, _)) = found.as_ref().filter(|(before, _)| !before.released) {
            tracing::warn!(%before, "took over the lock of a run that has ended");
        }
        let asked = Instant::now();
        let holder = Holder::this(run, config.expiry);
        match bucket
            .swap(
                LOCK_OBJECT,
                found.as_ref().map(|(_, version)| version),
                holder.to_json(bucket)?,
            )
            .await
        {
            Ok(version) => return Ok((holder, version, asked)),
            // Another run was faster: read the document again.
            Err(StoreError::Conflict { .. }) => pause(config, stop, uri).await?,
            Err(error) => return Err(error.into()),
        }
    }
}

async fn pause(config: &LockConfig, stop: &CancellationToken, uri: &str) -> Result<(), LockError> {
    tokio::select! {
        () = stop.cancelled() => Err(LockError::Stopped { uri: uri.into() }),
        () = tokio::time::sleep((config.expiry / (BEATS * 4)).min(Duration::from_secs(2))) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(expiry: u64) -> LockConfig {
        LockConfig {
            wait: false,
            expiry: Duration::from_millis(expiry),
        }
    }

    async fn take(bucket: &Bucket, config: &LockConfig) -> Result<RunLock, LockError> {
        RunLock::acquire(
            bucket,
            &RunId::new(Utc::now()),
            config,
            &CancellationToken::new(),
        )
        .await
    }

    /// Takes a lock that no busy machine lets expire, and that is renewed at once.
    async fn take_and_renew(bucket: &Bucket) -> RunLock {
        let (run, stop) = (RunId::new(Utc::now()), CancellationToken::new());
        let period = Duration::from_millis(10);
        RunLock::acquire_renewed_every(period, bucket, &run, &config(600_000), &stop)
            .await
            .unwrap()
    }

    async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
        for _ in 0..2000 {
            if done().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{what} did not happen");
    }

    #[tokio::test]
    async fn the_second_waits_for_the_release() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = Bucket::of_folder(folder.path());
        let first = take(&bucket, &config(60_000)).await.unwrap();
        let refused = take(&bucket, &config(60_000))
            .await
            .unwrap_err()
            .to_string();
        let known = holder(&bucket).await.unwrap().unwrap();
        for part in [
            &known.run,
            &known.host,
            &format!("process {}", std::process::id()),
            "since 20",
        ] {
            assert!(refused.contains(part), "{refused} lacks {part}");
        }
        first.release().await;
        take(&bucket, &config(60_000))
            .await
            .unwrap()
            .check()
            .unwrap();
    }

    #[tokio::test]
    async fn of_many_that_ask_at_once_one_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = Bucket::of_folder(folder.path());
        let config = config(60_000);
        let all = futures::future::join_all((0..16).map(|_| take(&bucket, &config))).await;
        let (got, refused): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
        assert_eq!((got.len(), refused.len()), (1, 15));
        assert!(
            refused
                .iter()
                .all(|refused| matches!(refused, Err(LockError::Held { .. }))),
            "{refused:?}"
        );
    }

    #[tokio::test]
    async fn a_lost_renewal_answer_keeps_the_lease() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = Bucket::of_folder(folder.path());
        let lock = take_and_renew(&bucket).await;
        // As if the heartbeat had written, and had not heard of it.
        let known = loop {
            let (known, version) = read(&bucket).await.unwrap().unwrap();
            let json = known.to_json(&bucket).unwrap();
            match bucket.swap(LOCK_OBJECT, Some(&version), json).await {
                Ok(_) => break known,
                // Renewed in between.
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        };
        until("a renewal", async || {
            holder(&bucket).await.unwrap().unwrap().heartbeat > known.heartbeat
        })
        .await;
        lock.check().unwrap();
    }

    #[tokio::test]
    async fn it_is_kept_alive_as_long_as_its_run() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = Bucket::of_folder(folder.path());
        let lock = take_and_renew(&bucket).await;
        for renewal in ["first", "second"] {
            let known = holder(&bucket).await.unwrap().unwrap();
            let term = || {
                let term = lock.lease.term.lock();
                (term.until, term.expires)
            };
            let (until_then, expired_then) = term();
            until(renewal, async || {
                let (now, (ends, expires)) = (holder(&bucket).await.unwrap().unwrap(), term());
                now.heartbeat > known.heartbeat
                    && now.expires > known.expires
                    && ends > until_then
                    && expires > expired_then
            })
            .await;
        }
        lock.check().unwrap();
    }

    #[tokio::test]
    async fn a_waiting_run_can_be_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = Bucket::of_folder(folder.path());
        let first = take(&bucket, &config(60_000)).await.unwrap();
        let waiting = LockConfig {
            wait: true,
            ..config(16_000)
        };
        let stop = CancellationToken::new();
        let run = RunId::new(Utc::now());
        let (result, ()) = tokio::join!(RunLock::acquire(&bucket, &run, &waiting, &stop), async {
            stop.cancel()
        });
        assert!(matches!(result, Err(LockError::Stopped { .. })));
        let (second, ()) = tokio::join!(take(&bucket, &waiting), first.release());
        second.unwrap().check().unwrap();
    }

    #[tokio::test]
    async fn an_expired_lease_cannot_commit() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = Bucket::of_folder(folder.path());
        let stop = CancellationToken::new();
        let run = RunId::new(Utc::now());
        let mut first = RunLock::acquire(&bucket, &run, &config(100), &stop)
            .await
            .unwrap();
        // As if the process had been frozen: it no longer says that it is there.
        first.heartbeat.abort();
        let fence = Fence::default();
        fence.guard(&first);
        until("the term runs out", async || {
            fence.check().is_err() && !holder(&bucket).await.unwrap().unwrap().is_live(Utc::now())
        })
        .await;
        let second = take(&bucket, &config(60_000)).await.unwrap();
        second.check().unwrap();
        // Awake again, its heartbeat finds out and stops the run.
        let heartbeat = Heartbeat {
            bucket: bucket.clone(),
            lease: first.lease.clone(),
            expiry: Duration::from_millis(100),
            period: Duration::from_millis(25),
            holder: Holder::this(&run, Duration::from_millis(100)),
            version: Version::default(),
            written: Instant::now(),
        };
        first.heartbeat =
            tokio::spawn(heartbeat.renew_until_released(CancellationToken::new(), stop.clone()));
        until("the run is told to stop", async || stop.is_cancelled()).await;
        let error = fence.check().unwrap_err().to_string();
        assert!(
            error.contains("taken over by run") && error.contains("lost the run lock"),
            "{error}"
        );
        first.release().await;
        second.check().unwrap();
        assert!(
            holder(&bucket).await.unwrap().unwrap().is_live(Utc::now()),
            "the successor's lock was released"
        );
    }

    #[test]
    fn only_local_dead_processes_are_known() {
        let alive = Holder::this(&RunId::new(Utc::now()), Duration::from_secs(60));
        assert!(alive.is_live(Utc::now()));
        assert!(
            !Holder {
                released: true,
                ..alive.clone()
            }
            .is_live(Utc::now())
        );
        assert!(!alive.is_live(Utc::now() + TimeDelta::seconds(61)));
        if alive.process_start.is_some() {
            let reborn = Holder {
                process_start: Some(1),
                ..alive.clone()
            };
            assert!(
                !reborn.is_live(Utc::now()),
                "another process has its number now"
            );
            let elsewhere = Holder {
                machine: "elsewhere".into(),
                ..reborn
            };
            assert!(
                elsewhere.is_live(Utc::now()),
                "a process of another machine cannot be judged"
            );
        }
    }

    #[test]
    fn a_lock_of_a_newer_program_is_refused() {
        let holder = Holder::this(&RunId::new(Utc::now()), Duration::from_secs(60));
        let newer = serde_json::to_vec(&Holder {
            version: 2,
            ..holder
        })
        .unwrap();
        for text in [&newer[..], b"", b"{}", b"\xff"] {
            assert!(
                Holder::from_json(text, "gs://b/lock.json")
                    .unwrap_err()
                    .to_string()
                    .contains("not a lock of this")
            );
        }
    }

    #[test]
    fn a_lock_that_no_run_would_take_is_refused_or_known_for_one() {
        let now = Utc::now();
        let own = Holder::this(&RunId::new(now), Duration::from_secs(60));
        let mut value = serde_json::to_value(&own).unwrap();
        value["machine"] = "here".into();
        let read = |value: &serde_json::Value| {
            Holder::from_json(value.to_string().as_bytes(), "gs://b/lock.json")
        };
        assert!(!read(&value).unwrap().is_beyond_reason(now));
        for expires in ["9999-12-31T23:59:59Z", "2124-01-01T00:00:00Z"] {
            let mut odd = value.clone();
            odd["expires"] = expires.into();
            let odd = read(&odd).unwrap();
            assert!(odd.is_live(now) && odd.is_beyond_reason(now), "{expires}");
        }
        let refused: [(&str, serde_json::Value); 9] = [
            ("expires", "+262142-12-31T23:59:59Z".into()),
            ("heartbeat", "-0001-01-01T00:00:00Z".into()),
            ("pid", (-1).into()),
            ("pid", u64::MAX.into()),
            ("version", (-1).into()),
            ("process_start", 1e300.into()),
            ("run", "x".repeat(MAX_LOCK_TEXT + 1).into()),
            ("host", 1.into()),
            ("unknown", 1.into()),
        ];
        for (name, wrong) in refused {
            let mut odd = value.clone();
            odd[name] = wrong;
            assert!(
                read(&odd)
                    .unwrap_err()
                    .to_string()
                    .contains("not a lock of this program"),
                "{name}"
            );
        }
        let twice = value.to_string().replacen('{', "{\"run\":\"other\",", 1);
        let error = Holder::from_json(twice.as_bytes(), "gs://b/lock.json")
            .unwrap_err()
            .to_string();
        assert!(error.contains("`run` appears twice"), "{error}");
    }
}
