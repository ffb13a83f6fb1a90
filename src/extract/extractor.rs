//! Reads one task: all pages that a source (or several that share requests) has for some days.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tracing::Instrument;

use super::checkpoint::Restored;
use super::drift::DriftKey;
use super::error::ExtractError;
use super::fetch::Fetcher;
use super::outcome::TaskOutcome;
use super::queue::RequestQueue;
use super::request::{ExtractTask, Scope};
use super::write::{RawWriter, WriteTarget, WriterOutput};
use crate::clock;
use crate::events::{Event, Observer};
use crate::samsara::Client;
use crate::state::Checkpoint;
use crate::store::Bucket;
use crate::store::layout::{Partition, RunId};

/// Pages that wait between network and decoder.
const PAGES_IN_FLIGHT: usize = 4;

/// Reads tasks into the raw bucket.
#[derive(Clone)]
pub struct Extractor {
    /// The API.
    pub client: Client,
    /// The raw bucket.
    pub bucket: Bucket,
    /// The run that names the objects.
    pub run: RunId,
    /// Number of the run's objects so far, so that all keys are different.
    pub objects: Arc<AtomicU64>,
    /// Where decoding runs: never on the threads that wait for the network.
    pub cpu: Handle,
    /// Who wants to know.
    pub observer: Arc<dyn Observer>,
    /// After how many pages an unfinished task leaves a checkpoint, and a feed is committed.
    pub checkpoint_every: u64,
}

impl Extractor {
    /// Reads one task. Its objects are complete when this returns, but count only once the state lists them.
    ///
    /// `resume` is the checkpoint that an earlier run left of the same task; that of another task is ignored.
    /// `checkpoints` receives the partial result from time to time. A feed has no checkpoints: its position is
    /// committed with its rows.
    pub async fn read(
        &self,
        task: Arc<ExtractTask>,
        resume: Option<Checkpoint>,
        checkpoints: Option<mpsc::Sender<Checkpoint>>,
    ) -> Result<TaskOutcome, ExtractError> {
        let restored = resume.and_then(|checkpoint| Restored::from_checkpoint(&checkpoint, &task));
        let target = WriteTarget {
            bucket: self.bucket.clone(),
            run: self.run.clone(),
            begun: self.objects.clone(),
            observer: self.observer.clone(),
        };
        let (queue, extracted_at, writer) = match restored {
            Some(Restored {
                queue,
                extracted_at,
                whole,
                part,
            }) => {
                let (task, results) = (task.clone(), (whole, part));
                let writer = RawWriter::resume(target, task, extracted_at, checkpoints, results);
                (queue, extracted_at, writer)
            }
            None => {
                let now = clock::now();
                let writer = RawWriter::begin(target, task.clone(), now, checkpoints);
                (RequestQueue::begin(&task), now, writer)
            }
        };
        let (messages, received) = mpsc::channel(PAGES_IN_FLIGHT);
        let writing = self.cpu.spawn(writer.drain(received).in_current_span());
        let fetcher = Fetcher {
            client: &self.client,
            task: &task,
            observer: self.observer.as_ref(),
            checkpoint_every: self.checkpoint_every,
            messages,
        };
        let fetched = fetcher.fetch(queue).await;
        // The writer's own error comes first: it is the reason why the channel was closed.
        let written = writing.await.map_err(|error| ExtractError::Worker {
            tables: task.tables(),
            scope: task.scope.to_string(),
            error,
        })??;
        let end = fetched.map_err(|error| task.api(error))?;
        self.report(&task, &written);
        Ok(TaskOutcome {
            partitions: written.partitions,
            records: written.records,
            content: written.content,
            overlaps: written.overlaps,
            extracted_at,
            feed: end.position,
            more: end.more,
            is_past: end.is_past,
            tail: written.tail,
        })
    }

    /// Reports schema drift, and rows far outside the requested days.
    fn report(&self, task: &ExtractTask, written: &WriterOutput) {
        for (sources, DriftKey { path, reason }, count) in &written.drift {
            self.observer.observe(&Event::DriftFound {
                sources: sources.clone(),
                path: path.clone(),
                reason,
                count: *count,
            });
        }
        let Scope::Days(days) = &task.scope else {
            return;
        };
        for (source, found) in &written.outside {
            let (Some(day), Some((first, last))) = (days.first(), found.span) else {
                continue;
            };
            self.observer.observe(&Event::OutsideWindow {
                source: source.clone(),
                partition: Partition::Day(*day),
                count: found.count,
                first,
                last,
                examples: found.examples.clone(),
            });
        }
    }
}
