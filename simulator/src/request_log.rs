//! The log of requests to the simulator.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// The log drops the oldest requests beyond this many, so that a simulator can run for days.
const KEPT: usize = 100_000;

/// A request and the status it was answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedRequest {
    /// Counts from 0, in the order of arrival.
    pub number: u64,
    /// `GET` and so on.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The query as it was sent, without the question mark; empty when there was none.
    pub query: String,
    /// The status of the response. A body that a fault truncates counts with the status of its head.
    pub status: u16,
}

#[derive(Debug, Default)]
pub(crate) struct RequestLog(Mutex<VecDeque<LoggedRequest>>);

impl RequestLog {
    pub(crate) fn add(&self, request: LoggedRequest) {
        let mut log = self.0.lock();
        if log.len() == KEPT {
            log.pop_front();
        }
        log.push_back(request);
    }

    pub(crate) fn all(&self) -> Vec<LoggedRequest> {
        self.0.lock().iter().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }

    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }
}
