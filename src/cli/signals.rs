//! SIGINT and SIGTERM: the first asks the command to stop, the second ends it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Exit;
use super::output::{exit_at_once, folded, say};

/// A token that the first signal cancels.
#[derive(Clone, Default)]
pub(super) struct Signals {
    /// Cancelled by the first signal.
    pub(super) shutdown: CancellationToken,
    received: Arc<AtomicU8>,
}

impl Signals {
    /// Starts to listen. `stopping` is printed at the first signal.
    pub(super) fn listen(stopping: impl Fn() -> String + Clone + Send + 'static) -> Self {
        let signals = Self::default();
        for (kind, exit) in [
            (SignalKind::interrupt(), Exit::Interrupted),
            (SignalKind::terminate(), Exit::Terminated),
        ] {
            let Ok(mut stream) = signal(kind) else {
                continue;
            };
            let (signals, stopping) = (signals.clone(), stopping.clone());
            #[expect(
                clippy::disallowed_methods,
                reason = "waits for signals as long as the program runs"
            )]
            tokio::spawn(async move {
                while stream.recv().await.is_some() {
                    if signals.shutdown.is_cancelled() {
                        // State lists only complete objects: ending here is safe.
                        exit_at_once(exit as i32);
                    }
                    say(folded(&stopping()));
                    signals.received.store(exit as u8, Ordering::Relaxed);
                    signals.shutdown.cancel();
                }
            });
        }
        signals
    }

    /// The exit code for the signal received, if any.
    pub(super) fn exit(&self) -> Option<Exit> {
        match self.received.load(Ordering::Relaxed) {
            130 => Some(Exit::Interrupted),
            143 => Some(Exit::Terminated),
            _ => None,
        }
    }
}
