//! The world's clock, and when a reading reaches the server.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::config::SimulatorConfig;
use crate::time::{HOUR, Millis, SECOND};

/// Stands for "not released yet".
const NEVER: Millis = i64::MAX;

/// No reading is later than this by nature.
pub(crate) const MAX_DELAY: Millis = 24 * HOUR;

/// The world's time, and which readings have arrived by then.
#[derive(Debug)]
pub(crate) struct Clock {
    now: AtomicI64,
    withheld: Option<(Millis, Millis)>,
    released: AtomicI64,
}

impl Clock {
    pub(crate) fn new(config: &SimulatorConfig) -> Self {
        let withheld = config.late.map(|late| {
            let end = late.before.timestamp_millis();
            let length = Millis::try_from(late.withhold.as_millis()).unwrap_or(Millis::MAX);
            (end.saturating_sub(length), end)
        });
        let now = config.now.unwrap_or(config.data_to).timestamp_millis();
        Self {
            now: AtomicI64::new(now),
            withheld,
            released: AtomicI64::new(NEVER),
        }
    }

    pub(crate) fn now(&self) -> Millis {
        self.now.load(Ordering::SeqCst)
    }

    pub(crate) fn set(&self, now: Millis) {
        self.now.store(now, Ordering::SeqCst);
    }

    /// Makes the withheld readings arrive. The clock advances by a second, so that a feed whose cursor was taken at
    /// this very instant sees them as new.
    pub(crate) fn release(&self) {
        let at = self.now().saturating_add(SECOND);
        self.released.store(at, Ordering::SeqCst);
        self.set(at);
    }

    /// When a reading is on the server, given its natural arrival; `None` while it is withheld.
    pub(crate) fn arrival(&self, time: Millis, natural: Millis) -> Option<Millis> {
        match self.withheld {
            Some((from, to)) if (from..to).contains(&time) => {
                match self.released.load(Ordering::SeqCst) {
                    NEVER => None,
                    released => Some(natural.max(released)),
                }
            }
            _ => Some(natural),
        }
    }

    /// The earliest time of a reading that arrives after an instant.
    pub(crate) fn earliest_arriving_after(&self, since: Millis) -> Millis {
        let natural = since.saturating_sub(MAX_DELAY);
        match self.withheld {
            Some((from, _)) if self.released.load(Ordering::SeqCst) > since => natural.min(from),
            _ => natural,
        }
    }
}
