//! Limits the memory of the process.
//!
//! SQL has a memory pool, expressions, pages and documents have bounds; but libraries hold memory that these do not
//! count, and a process that uses up all memory is killed without a message, or makes its machine unusable. So a thread
//! checks many times a second, and ends the process with one clear line before that.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// How often the thread checks. At most some hundred million bytes are written in between.
const INTERVAL: Duration = Duration::from_millis(20);
/// Percentage of the limit from which on expressions start nothing that might exceed it.
const EXPRESSIONS: u64 = 75;
/// Percentage of the memory of the machine or its container that no limit may exceed.
const OF_THE_MACHINE: u64 = 80;

/// The limit in bytes; 0 if there is none.
static LIMIT: AtomicU64 = AtomicU64::new(0);
/// The memory of the process at the last check.
static USED: AtomicU64 = AtomicU64::new(0);

/// Watches the memory of this process from now on, on a thread of its own. Beyond `limit` bytes, or four fifths of the
/// memory of the machine or its container, `end` is called with the limit.
///
/// # Errors
/// No thread could be started.
pub fn watch(limit: u64, end: impl Fn(u64) + Send + 'static) -> std::io::Result<()> {
    let mut system = System::new();
    system.refresh_memory();
    let container = system
        .cgroup_limits()
        .map_or(u64::MAX, |limits| limits.total_memory);
    let machine = system.total_memory().min(container).max(1);
    let limit = limit
        .min((machine / 100).saturating_mul(OF_THE_MACHINE))
        .max(1);
    let pid = Pid::from_u32(std::process::id());
    let mut look = move || {
        let kind = ProcessRefreshKind::nothing().with_memory().without_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, kind);
        system.process(pid).map_or(0, sysinfo::Process::memory)
    };
    USED.store(look(), Ordering::Relaxed);
    LIMIT.store(limit, Ordering::Relaxed);
    let watch = move || loop {
        let used = look();
        USED.store(used, Ordering::Relaxed);
        if used > limit {
            end(limit);
        }
        std::thread::sleep(INTERVAL);
    };
    std::thread::Builder::new()
        .name("memory".into())
        .spawn(watch)
        .map(|_| ())
}

/// Bytes that an expression may still use; none if there is no limit.
pub fn room() -> Option<u64> {
    let limit = LIMIT.load(Ordering::Relaxed);
    (limit > 0).then(|| (limit / 100 * EXPRESSIONS).saturating_sub(USED.load(Ordering::Relaxed)))
}

/// `wanted` bytes for SQL, or half of the process's limit, if that is less.
pub fn for_sql(wanted: usize) -> usize {
    match LIMIT.load(Ordering::Relaxed) {
        0 => wanted,
        limit => wanted.min(usize::try_from(limit / 2).unwrap_or(usize::MAX)),
    }
}
