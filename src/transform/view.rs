//! Bound models over the committed states of everything that they read.

use std::fmt;
use std::sync::Arc;

use chrono::NaiveDate;

use super::bound::BoundModel;
use super::contract::Contract;
use super::history::history_fingerprint;
use super::input::{Input, Inputs};
use super::{Fingerprint, InputDigest, TYPICAL_BYTES};
use crate::catalog::{SourceKind, Window};
use crate::state::{CommittedState, ModelState, SourceState, StateError, StateStore};
use crate::store::ObjectRef;
use crate::store::layout::Partition;

/// A model, and the states of all that it reads, directly or through other models, as they were committed when the view
/// was made. Questions about many partitions are answered from one view, without waiting.
#[derive(Debug)]
pub struct ModelView<'a> {
    /// The model.
    pub bound: &'a BoundModel,
    /// What it reads, in the order of [`BoundModel::inputs`].
    pub inputs: Vec<InputView<'a>>,
    /// The state of the model's driving source.
    driving: CommittedState,
}

/// An input of a model, and the state that has its objects.
#[derive(Debug)]
pub struct InputView<'a> {
    /// The input.
    pub input: &'a Input,
    /// The model that fills the table; none for raw rows.
    pub upstream: Option<ModelView<'a>>,
    /// What fingerprints have of it before its objects.
    digested: InputDigest,
    /// The state of the input's driving source.
    state: CommittedState,
}

/// Days of a partition's window that were never read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowGap {
    /// The driving source, whose days they are.
    pub source_name: String,
    /// The window.
    pub window: Window,
    /// The first of them.
    pub first: NaiveDate,
    /// How many they are.
    pub days: usize,
}

impl fmt::Display for WindowGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            source_name,
            window,
            first,
            days,
        } = self;
        let of = match days {
            1 => format!("{first}"),
            days => format!("{days} days from {first} on"),
        };
        write!(
            f,
            "its window (\"{window}\") is incomplete: {source_name} was not read for {of}"
        )
    }
}

impl BoundModel {
    /// The model over the states as they are committed now.
    ///
    /// # Errors
    /// [`StateError`] if a state document cannot be read.
    pub async fn view(&self, states: &StateStore) -> Result<ModelView<'_>, StateError> {
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            let state = states.source(&input.driving().name).await?.state();
            let upstream = match input {
                Input::Source(_) => None,
                Input::Table(table) => Some(Box::pin(table.bound.view(states)).await?),
            };
            inputs.push(InputView {
                input,
                upstream,
                digested: InputDigest::new(input, self.is_decided_by(input)),
                state,
            });
        }
        Ok(ModelView {
            bound: self,
            inputs,
            driving: states.source(&self.driving.name).await?.state(),
        })
    }
}

impl ModelView<'_> {
    /// The state of one of the model's tables in a partition.
    pub fn made(&self, table: &str, partition: Partition) -> Option<&Arc<ModelState>> {
        self.driving.partition(partition)?.models.get(table)
    }

    /// The committed objects that the model reads for a partition.
    pub fn inputs(&self, partition: Partition) -> Inputs {
        let of_input = |view: &InputView<'_>| {
            let read = self.reads(view.input, partition).into_iter();
            let objects = read.flat_map(|of| view.objects(of)).cloned().collect();
            (view.input.clone(), objects)
        };
        self.inputs.iter().map(of_input).collect()
    }

    /// The partitions of an input that the model reads for a partition. For a week or month, these are the days up to
    /// the last one that the driving source was read for.
    pub fn reads(&self, input: &Input, partition: Partition) -> Vec<Partition> {
        let mut days = self.bound.days(partition);
        let window = self.bound.model.front_matter.window;
        if window.is_some_and(Window::is_calendar) {
            let read = days.iter().rposition(|day| is_read(&self.driving, *day));
            days.truncate(read.map_or(0, |last| last + 1));
        }
        input.partitions_of(days)
    }

    /// The gap in a partition's window because of which it cannot be derived. If a week or month is not over by
    /// `today`, days after the last one that was read are not missing; nor are the days of a feed, which come without
    /// being requested.
    pub fn gap(&self, partition: Partition, today: NaiveDate) -> Option<WindowGap> {
        let bound = self.bound;
        let Some(window) = bound.model.front_matter.window else {
            let upstream = self.inputs.iter().filter_map(|it| it.upstream.as_ref());
            let mut windowed = upstream.filter(|it| it.bound.is_windowed());
            return windowed.find_map(|it| it.gap(partition, today));
        };
        if matches!(bound.driving.kind, SourceKind::Feed | SourceKind::Updates) {
            return None;
        }
        let days = bound.days(partition);
        let last = days.last().and_then(|day| day.day());
        let is_open = window.is_calendar() && last.is_some_and(|last| last >= today);
        let read = days.iter().rposition(|day| is_read(&self.driving, *day));
        let end = match (is_open, read) {
            (true, Some(last)) => last,
            _ => days.len(),
        };
        let missing = days.iter().take(end);
        let missing = missing.filter(|day| !is_read(&self.driving, **day));
        let missing: Vec<NaiveDate> = missing.filter_map(|day| day.day()).collect();
        missing.first().map(|first| WindowGap {
            source_name: bound.driving.name.clone(),
            window,
            first: *first,
            days: missing.len(),
        })
    }

    /// The fingerprint of a partition once it is derived from these states.
    pub fn wanted(&self, partition: Partition) -> Fingerprint {
        let mut rows = Vec::with_capacity(TYPICAL_BYTES);
        for view in &self.inputs {
            let read = || self.reads(view.input, partition).into_iter();
            view.digested
                .append(&mut rows, || read().map(|of| view.objects(of)));
        }
        self.bound.digest.of_inputs(rows)
    }

    /// Whether the state of one of the model's tables is that of a partition once it is derived from these states.
    pub fn is_current(&self, contract: &Contract, partition: Partition, made: &ModelState) -> bool {
        let of_model = self.wanted(partition);
        let wanted = match contract.table == self.bound.contract.table {
            true => of_model,
            false => history_fingerprint(contract, &of_model),
        };
        wanted.is(made.fingerprint)
    }

    /// Whether everything upstream of a partition is derived from the current raw rows, or missing because there are no
    /// raw rows.
    pub fn is_upstream_current(&self, partition: Partition) -> bool {
        self.inputs.iter().all(|view| {
            let Some(upstream) = &view.upstream else {
                return true;
            };
            self.reads(view.input, partition).into_iter().all(|of| {
                let is_current = !view.is_read(of) || view.current(of).is_some();
                is_current && upstream.is_upstream_current(of)
            })
        })
    }
}

impl InputView<'_> {
    /// Whether the raw rows of a partition are committed.
    pub fn is_read(&self, partition: Partition) -> bool {
        is_read(&self.state, partition)
    }

    /// The committed objects of one of its partitions.
    pub fn objects(&self, partition: Partition) -> &[ObjectRef] {
        self.input.objects_in(&self.state, partition)
    }

    /// The state of a table's partition, if it is derived from the current upstream rows; none of raw rows.
    pub fn current(&self, partition: Partition) -> Option<&Arc<ModelState>> {
        let (Input::Table(table), Some(upstream)) = (self.input, &self.upstream) else {
            return None;
        };
        let made = upstream.made(&table.contract.table, partition)?;
        let is_current = upstream.is_current(&table.contract, partition, made);
        is_current.then_some(made)
    }
}

fn is_read(state: &SourceState, partition: Partition) -> bool {
    let found = state.partition(partition);
    found.is_some_and(|found| found.raw.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::state::RawState;

    #[tokio::test]
    async fn a_month_is_whole_or_open() {
        let catalog = Catalog::open(None).unwrap();
        let model = catalog.model("fuel_monthly").unwrap();
        let bound = BoundModel::bind(&catalog, model).await.unwrap();
        assert_eq!(bound.period, Some(Window::Month));
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        let month = Partition::Day(day("2024-02-01"));
        assert_eq!(bound.home(Partition::Day(day("2024-02-29"))), month);
        assert_eq!(bound.home(Partition::Snapshot), Partition::Snapshot);
        let reports = bound.inputs.iter().find(|it| it.driving().is_daily());
        let reports = reports.unwrap();
        let over = "2024-03-01";
        // The days that were read, today, the number of days read by the model, and the first missing day with the
        // number of missing days.
        for (read, today, counted, missing) in [
            (vec![], "2024-02-10", 0, Some(("2024-02-01", 29))),
            (vec![1..=9], "2024-02-10", 9, None),
            (vec![1..=9], "2024-02-29", 9, None),
            (vec![1..=9], over, 9, Some(("2024-02-10", 20))),
            (vec![1..=4, 6..=9], "2024-02-10", 9, Some(("2024-02-05", 1))),
            (vec![2..=9], "2024-02-10", 9, Some(("2024-02-01", 1))),
            (vec![1..=29], over, 29, None),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let states = StateStore::new(crate::store::Bucket::of_folder(folder.path()));
            let handle = states.source(&bound.driving.name).await.unwrap();
            let days: Vec<u32> = read.into_iter().flatten().collect();
            let committed = days.clone();
            handle
                .commit(move |state| {
                    for day in committed {
                        let day = NaiveDate::from_ymd_opt(2024, 2, day).unwrap();
                        state.partition_mut(Partition::Day(day)).raw = Some(RawState {
                            objects: Vec::new(),
                            records: 0,
                            out_of_window: 0,
                            rescued: 0,
                            content: String::new(),
                            extracted_at: chrono::DateTime::UNIX_EPOCH,
                        });
                    }
                })
                .await
                .unwrap();
            let view = bound.view(&states).await.unwrap();
            let found = view.reads(reports, month);
            assert_eq!(found.len(), counted, "{days:?}");
            let gap = view.gap(month, day(today));
            let gap = gap.map(|gap| (gap.first, gap.days));
            let missing = missing.map(|(first, count)| (day(first), count));
            assert_eq!(gap, missing, "{days:?} on {today}");
        }
    }
}
