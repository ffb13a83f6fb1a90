//! Starts and ends runtimes, also where the system gives no threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};

use super::THREAD_STACK_BYTES;
use crate::error::Error;

/// How long a thread for blocking work is kept: as long as any run.
///
/// If no further thread can be started, tokio queues such work for the next free thread, and panics or waits for ever
/// if there is none. So the first one, which [`start`] starts, is kept.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// Starts a runtime whose threads have the stack size that planning queries needs.
///
/// # Errors
/// [`Error::System`] if the system gives no threads; tokio itself would panic.
pub fn start(name: &str) -> Result<Runtime, Error> {
    let refused = |source| Error::System {
        what: "cannot start threads (is `ulimit -u` or `-v` too low?)".into(),
        source,
    };
    // First tries whether the system gives as many threads as the runtime needs: its panic would be printed.
    let workers = std::thread::available_parallelism().map_or(1, usize::from) + 1;
    try_threads(workers)
        .or_else(|error| try_threads_again(workers, error))
        .map_err(refused)?;
    let started = catch_unwind(AssertUnwindSafe(|| {
        let runtime = Builder::new_multi_thread()
            .thread_name(name)
            .thread_stack_size(THREAD_STACK_BYTES)
            .thread_keep_alive(KEPT)
            .enable_all()
            .build()?;
        drop(runtime.spawn_blocking(|| ()));
        Ok(runtime)
    }));
    started
        .unwrap_or_else(|_| Err(std::io::ErrorKind::WouldBlock.into()))
        .map_err(refused)
}

/// The threads that end runtimes.
static ENDING: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

/// As [`try_threads`], which failed with this error, once the threads of runtimes that are ending are gone.
fn try_threads_again(count: usize, error: std::io::Error) -> std::io::Result<()> {
    let ending = std::mem::take(&mut *ENDING.lock());
    if ending.is_empty() {
        return Err(error);
    }
    for end in ending {
        // It takes `END` at most, and does nothing that could fail.
        let _ = end.join();
    }
    // The system counts a thread for some time after it was joined.
    for _ in 0..GONE_TRIES {
        if try_threads(count).is_ok() {
            return Ok(());
        }
        std::thread::sleep(GONE_WAIT);
    }
    try_threads(count)
}

/// How often, and at which distance, to see whether threads that were joined still count.
const GONE_TRIES: usize = 20;
const GONE_WAIT: Duration = Duration::from_millis(5);

/// How long to wait for threads when a runtime ends. Idle ones end at once.
pub const END: Duration = Duration::from_secs(1);

/// Ends a runtime without waiting for it: dropping one inside another blocks, which tokio forbids.
///
/// Another thread joins its threads instead of detaching them: glibc before 2.41 may read the stack of a detached
/// thread that ends, and a stack as large as these is unmapped by then (BZ 19951).
pub fn end(runtime: Runtime) {
    let held = Arc::new(Mutex::new(Some(runtime)));
    let ending = held.clone();
    let end = move || {
        if let Some(runtime) = ending.lock().take() {
            runtime.shutdown_timeout(END);
        }
    };
    match std::thread::Builder::new().spawn(end) {
        Ok(thread) => {
            let mut others = ENDING.lock();
            others.retain(|other| !other.is_finished());
            others.push(thread);
        }
        Err(_) => {
            if let Some(runtime) = held.lock().take() {
                runtime.shutdown_background();
            }
        }
    }
}

/// Starts this many threads at the same time, and ends them.
fn try_threads(count: usize) -> std::io::Result<()> {
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Arc::new(std::sync::Mutex::new(held));
    let mut threads = Vec::new();
    let mut result = Ok(());
    for _ in 0..count {
        let held = held.clone();
        let wait = move || drop(held.lock().map(|held| held.recv()));
        match std::thread::Builder::new()
            .stack_size(THREAD_STACK_BYTES)
            .spawn(wait)
        {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    drop(hold);
    for thread in threads {
        // They do nothing that could fail.
        let _ = thread.join();
    }
    result
}
