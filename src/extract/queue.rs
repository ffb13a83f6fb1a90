//! The requests of a task, in their order.

use std::collections::VecDeque;
use std::sync::Arc;

use chrono::TimeDelta;
use sha2::{Digest, Sha256};

use super::request::{ExtractTask, Scope};
use crate::catalog::{Source, SourceKind, TimeFormat};
use crate::clock;
use crate::samsara::{ParentRow, Request, Window};
use crate::state::Position;

/// A window is not bisected into parts shorter than this.
const SMALLEST_WINDOW: TimeDelta = TimeDelta::minutes(45);

/// One request, or a part of its window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct RequestSlice {
    /// Number of the request in the task.
    pub(super) request: usize,
    pub(super) window: Option<Window>,
}

/// The requests of a task, in order.
pub(super) struct RequestQueue<'a> {
    pub(super) task: &'a ExtractTask,
    pub(super) sources: Vec<&'a Source>,
    /// The swept value and the parents of each request.
    pub(super) requests: Vec<(Option<&'a str>, &'a [ParentRow])>,
    pub(super) window: Option<Window>,
    /// Parts of requests that were begun.
    pub(super) rest: VecDeque<RequestSlice>,
    /// The first request that was not begun.
    pub(super) next: usize,
    /// Digest of the declared columns and of the requests before `next`.
    pub(super) asked: Sha256,
    /// Where the first request resumes, and how many of its pages were read before.
    pub(super) start: Option<(Position, u64)>,
}

impl<'a> RequestQueue<'a> {
    /// All of a task.
    pub(super) fn begin(task: &'a ExtractTask) -> Self {
        let sources: Vec<&Source> = task.sources.iter().collect();
        let first = sources.first();
        let sweep: Vec<Option<&str>> = match first.and_then(|source| source.sweep.as_ref()) {
            Some(sweep) => sweep
                .values
                .iter()
                .map(|value| Some(value.as_str()))
                .collect(),
            None => vec![None],
        };
        let batches: Vec<&[ParentRow]> = match first.and_then(|source| source.parent.as_ref()) {
            Some(parent) => ParentRow::batches(&task.parents, parent.batch).collect(),
            None => vec![&[]],
        };
        let mut asked = Sha256::new();
        for source in &sources {
            asked.update(format!(
                "{}{:?}{:?}",
                source.name, source.fields, source.time_field
            ));
        }
        let start = match &task.scope {
            // A cursor is bound to the query it came from, byte for byte.
            Scope::Feed {
                resume: Some(position),
                ..
            } => Some((position.clone(), 0)),
            _ => None,
        };
        let looks_back = first.and_then(|source| source.since.as_ref());
        let window = task.window();
        let requests = sweep
            .iter()
            .flat_map(|value| batches.iter().map(move |batch| (*value, *batch)))
            .collect::<Vec<_>>();
        Self {
            task,
            sources,
            requests,
            window: window.or_else(|| looks_back.map(|it| Window::looking_back(it, clock::now()))),
            rest: VecDeque::new(),
            next: 0,
            asked,
            start,
        }
    }

    pub(super) fn whole(&self, request: usize) -> RequestSlice {
        RequestSlice {
            request,
            window: self.window,
        }
    }

    pub(super) fn first(&self) -> Option<RequestSlice> {
        self.rest
            .front()
            .copied()
            .or_else(|| (self.next < self.requests.len()).then(|| self.whole(self.next)))
    }

    pub(super) fn begin_next(&mut self) -> RequestSlice {
        let slice = self.whole(self.next);
        let identity = self.render(slice).map(|request| request.identity());
        self.asked.update(format!("{identity:?}\n"));
        self.next += 1;
        slice
    }

    /// The next `count` slices.
    pub(super) fn take(&mut self, count: usize) -> Vec<RequestSlice> {
        let mut taken: Vec<RequestSlice> = Vec::new();
        while taken.len() < count {
            match self.rest.pop_front() {
                Some(slice) => taken.push(slice),
                None if self.next < self.requests.len() => taken.push(self.begin_next()),
                None => break,
            }
        }
        taken
    }

    /// Puts back what must be requested again, whole or in smaller parts.
    pub(super) fn put_back(&mut self, slices: Vec<RequestSlice>) {
        for slice in slices.into_iter().rev() {
            self.rest.push_front(slice);
        }
    }

    pub(super) fn render(&self, slice: RequestSlice) -> Option<Request> {
        let (sweep, batch) = self.requests[slice.request];
        Request::render(&self.sources, slice.window, sweep, batch)
    }

    pub(super) fn job(&self, slice: RequestSlice) -> Option<Job> {
        let (_, batch) = self.requests[slice.request];
        Some(Job {
            request: Arc::new(self.render(slice)?),
            parent: batch
                .first()
                .filter(|_| self.task.is_fan_out())
                .map(|row| row.id.clone()),
            asked: slice.window.filter(|_| slice.window != self.window),
        })
    }

    /// The two halves of a slice, if it can be bisected.
    pub(super) fn bisect(&self, slice: RequestSlice) -> Option<[RequestSlice; 2]> {
        let source = self.sources.first()?;
        let can_split = matches!(self.task.scope, Scope::Days(_) | Scope::Updates { .. })
            && matches!(source.kind, SourceKind::Window | SourceKind::Updates)
            && source.window.as_ref().is_some_and(|names| {
                // If it is requested by time of last change, a half does not have all of its rows.
                names.format != TimeFormat::Date && names.end.is_some() && names.days_beyond == 0
            });
        let halves = slice
            .window
            .filter(|_| can_split)?
            .bisect(SMALLEST_WINDOW)?;
        Some(halves.map(|window| RequestSlice {
            window: Some(window),
            ..slice
        }))
    }
}

/// One request on its way.
pub(super) struct Job {
    pub(super) request: Arc<Request>,
    pub(super) parent: Option<String>,
    /// The requested part of the window, if it was bisected.
    pub(super) asked: Option<Window>,
}
