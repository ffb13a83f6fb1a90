//! How much of what was requested is in the warehouse, according to the state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use tokio::runtime::Handle;

use super::Pipeline;
use crate::catalog::{Catalog, Source, SourceKind};
use crate::clock;
use crate::error::Error;
use crate::load;
use crate::load::plan::{is_loaded, rows_loaded, rows_of};
use crate::plan::{Dates, RunRequest, Selection, due_partitions};
use crate::state::{Failure, Gap, NotAvailable, PartitionState, SourceState, StateStore};
use crate::store::layout::Partition;
use crate::transform::{BoundCatalog, Contract, ModelView};

/// How far one partition of a source has come. What is not in the warehouse is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reached {
    /// All tables made of it are loaded.
    Loaded,
    /// As `Loaded`, and the API had no records for it.
    Empty,
    /// As `Loaded`, but its change feed has reported late data since: the next run reads it again.
    Changed,
    /// These tables are derived from the current rows and SQL, but not loaded.
    NotLoaded(Vec<String>),
    /// These tables are not loaded, and at least one of them is not derived from the current rows and SQL.
    NotDerived(Vec<String>),
    /// A part of it was read: the next run resumes from the checkpoint.
    Unfinished,
    /// Tried, and failed for this reason.
    Failed(String),
    /// Never requested.
    Unasked,
}

impl Reached {
    fn of(found: Option<&PartitionState>, tables: &[Table<'_>]) -> Self {
        let Some(found) = found else {
            return Self::Unasked;
        };
        let Some(raw) = &found.raw else {
            return match (&found.failure, &found.checkpoint) {
                (Some(failure), _) => Self::Failed(failure.error.clone()),
                (None, Some(_)) => Self::Unfinished,
                (None, None) => Self::Unasked,
            };
        };
        let waiting = |table: &&Table<'_>| !table.is_derived || !table.is_loaded;
        let waits: Vec<String> = tables
            .iter()
            .filter(waiting)
            .map(|table| table.name.to_string())
            .collect();
        if tables.iter().any(|table| !table.is_derived) {
            Self::NotDerived(waits)
        } else if !waits.is_empty() {
            Self::NotLoaded(waits)
        } else if found.changed.is_some() {
            Self::Changed
        } else if raw.objects.is_empty() {
            Self::Empty
        } else {
            Self::Loaded
        }
    }

    /// Whether the warehouse does not have it.
    pub fn is_missing(&self) -> bool {
        !matches!(self, Self::Loaded | Self::Empty | Self::Changed)
    }
}

/// One table of a partition.
struct Table<'a> {
    name: &'a str,
    /// From the current raw rows, SQL and contract.
    is_derived: bool,
    is_loaded: bool,
}

/// How far a source, and the selected tables made of it, have come.
#[derive(Debug, Clone)]
pub struct SourceCoverage {
    /// The source.
    pub source: String,
    /// Its requested partitions: the snapshot of a list; the days that a feed has returned.
    pub partitions: BTreeMap<Partition, Reached>,
    /// Whether the source, or this period of it, was never requested, so that there is no first day.
    pub never_asked: bool,
    /// Why the token or the organisation does not have it, if nothing of it was ever read.
    pub not_available: Option<NotAvailable>,
    /// The last attempt to read the list, if it failed.
    pub failure: Option<Failure>,
    /// Whether any partition of it was ever read completely.
    pub is_known: bool,
    /// Raw rows of all complete partitions.
    pub rows: u64,
    /// The selected tables made of it.
    pub tables: Vec<TableCoverage>,
    /// When a partition of it was last read completely.
    pub last_read: Option<DateTime<Utc>>,
    /// Time ranges in which a feed with short retention may have lost rows.
    pub gaps: Vec<Gap>,
}

/// How far one table has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableCoverage {
    /// The table.
    pub table: String,
    /// The newest requested partition in the warehouse, with or without rows.
    pub newest: Option<Partition>,
    /// Requested partitions in the warehouse.
    pub loaded: u64,
    /// Requested partitions that are not in the warehouse.
    pub missing: u64,
    /// Rows in the warehouse of all days, according to the state.
    pub rows: u64,
}

/// A table at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TableState {
    /// Everything that was requested is in the warehouse.
    Whole,
    /// Some of it is not; the next run loads it.
    Behind,
    /// The last try to read some of it failed.
    Failing,
    /// The token or the organisation does not have its source.
    NotAvailable,
    /// Nothing of it was ever requested.
    NeverAsked,
}

impl TableState {
    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Behind => "behind",
            Self::Failing => "failing",
            Self::NotAvailable => "not available",
            Self::NeverAsked => "never asked",
        }
    }
}

impl SourceCoverage {
    /// The error of the last failed attempt: that of the list, or of the newest day whose last attempt failed.
    pub fn failing(&self) -> Option<&str> {
        let of_days = || {
            let failed = self.partitions.values().rev();
            failed.into_iter().find_map(|reached| match reached {
                Reached::Failed(error) => Some(error.as_str()),
                _ => None,
            })
        };
        let of_list = self.failure.as_ref().map(|failure| failure.error.as_str());
        of_list.or_else(of_days)
    }

    /// One of its tables at a glance.
    pub fn state_of(&self, table: &TableCoverage) -> TableState {
        let only_unasked = || {
            self.partitions
                .values()
                .all(|reached| *reached == Reached::Unasked)
        };
        if self.failing().is_some() {
            TableState::Failing
        } else if self.not_available.is_some() {
            TableState::NotAvailable
        } else if self.never_asked || (table.missing > 0 && !self.is_known && only_unasked()) {
            TableState::NeverAsked
        } else if table.missing > 0 {
            TableState::Behind
        } else {
            TableState::Whole
        }
    }
}

/// How many requested partitions are not in the warehouse. A source that was never requested counts as one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Missing {
    /// Not read whole.
    pub unread: u64,
    /// Read, and some table not derived.
    pub not_derived: u64,
    /// Derived, and some table not loaded.
    pub not_loaded: u64,
}

impl Missing {
    /// Counts over sources.
    pub fn of<'a>(sources: impl IntoIterator<Item = &'a SourceCoverage>) -> Self {
        let mut missing = Self::default();
        for source in sources {
            missing.unread += u64::from(source.never_asked);
            for reached in source.partitions.values() {
                match reached {
                    Reached::NotDerived(_) => missing.not_derived += 1,
                    Reached::NotLoaded(_) => missing.not_loaded += 1,
                    reached => missing.unread += u64::from(reached.is_missing()),
                }
            }
        }
        missing
    }

    /// All of them.
    pub fn all(&self) -> u64 {
        self.unread + self.not_derived + self.not_loaded
    }
}

/// Partitions of a table that are derived and not loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// The partitions.
    pub partitions: u64,
    /// Their rows.
    pub rows: u64,
}

impl Pipeline {
    /// How far each source of a run request has come. Changes nothing.
    pub async fn coverage(&self, run_request: &RunRequest) -> Result<Vec<SourceCoverage>, Error> {
        self.map_coverage(run_request, |covered, _| covered).await
    }

    /// What `map` makes of the coverage and the state of each source of a run request. Changes nothing.
    pub async fn map_coverage<T: Send + 'static>(
        &self,
        run_request: &RunRequest,
        map: impl Fn(SourceCoverage, &SourceState) -> T + Send + Sync + 'static,
    ) -> Result<Vec<T>, Error> {
        let bound = self.bound(run_request).await?;
        let dates = run_request.dates;
        let lookup = self.lookup(bound, run_request.selection.clone(), dates)?;
        lookup.map(map).await
    }

    /// What is needed to find how far the selected sources have come.
    pub(super) fn lookup(
        &self,
        bound: BoundCatalog,
        selection: Selection,
        dates: Dates,
    ) -> Result<Lookup, Error> {
        Ok(Lookup {
            catalog: self.catalog.clone(),
            states: self.states.clone(),
            bound,
            target: load::target_name(&self.config.warehouse),
            selection,
            dates,
            cpu: self.cpu()?.clone(),
        })
    }

    /// Tables with partitions that are derived but not loaded into the configured warehouse.
    pub async fn waiting(&self) -> Result<BTreeMap<String, Waiting>, Error> {
        let target = load::target_name(&self.config.warehouse);
        let mut waiting: BTreeMap<String, Waiting> = BTreeMap::new();
        let models = self.catalog.models();
        let driving = models.filter_map(|model| self.catalog.driving_source(model));
        let names: Vec<&str> = driving.map(|driving| driving.name.as_str()).collect();
        self.states.read_ahead(names).await?;
        for model in self.catalog.models() {
            let driving = self.catalog.known_driving_source(model)?;
            let handle = self.states.source(&driving.name).await?;
            for table in [model.name.clone()]
                .into_iter()
                .chain(model.history_table())
            {
                let states: Vec<u64> = handle.look(|state| {
                    let models = state
                        .partitions
                        .values()
                        .filter_map(|found| found.models.get(&table));
                    let derived = models.filter(|found| !is_loaded(found, &target));
                    derived.map(|found| rows_of(found)).collect()
                });
                if !states.is_empty() {
                    let (partitions, rows) = (states.len() as u64, states.iter().sum());
                    waiting.insert(table, Waiting { partitions, rows });
                }
            }
        }
        Ok(waiting)
    }
}

/// Looks up the coverage in the state.
pub(super) struct Lookup {
    catalog: Arc<Catalog>,
    states: StateStore,
    /// The selected models.
    bound: BoundCatalog,
    /// The warehouse that counts.
    target: String,
    selection: Selection,
    dates: Dates,
    cpu: Handle,
}

fn failure_of_list(state: &SourceState) -> Option<Failure> {
    let failure = &state.partition(Partition::Snapshot)?.failure;
    failure.as_deref().cloned()
}

/// The coverage of a table with its loaded rows, before partitions are counted.
fn uncovered(table: String, state: &SourceState, target: &str) -> TableCoverage {
    let partitions = state.partitions.values();
    let made = partitions.filter_map(|found| found.models.get(&table));
    TableCoverage {
        rows: made.map(|made| rows_loaded(made, target)).sum(),
        table,
        newest: None,
        loaded: 0,
        missing: 0,
    }
}

impl Lookup {
    /// How far each selected source has come.
    pub(super) async fn coverage(self) -> Result<Vec<SourceCoverage>, Error> {
        self.map(|covered, _| covered).await
    }

    /// What `map` makes of how far each selected source has come, and of its state. Sources are looked up on all CPU
    /// threads.
    async fn map<T: Send + 'static>(
        self,
        map: impl Fn(SourceCoverage, &SourceState) -> T + Send + Sync + 'static,
    ) -> Result<Vec<T>, Error> {
        let names = self.selection.sources.iter().map(String::as_str);
        self.states.read_ahead(names).await?;
        let today = clock::now().date_naive();
        let (lookup, map) = (Arc::new(self), Arc::new(map));
        let of_sources: Vec<_> = lookup
            .selection
            .sources
            .iter()
            .map(|name| {
                let (lookup, map, name) = (lookup.clone(), map.clone(), name.clone());
                lookup.cpu.clone().spawn(async move {
                    let source = lookup.catalog.known_source(&name)?;
                    let state = lookup.states.source(&name).await?.state();
                    let covered = lookup.of_source(source, &state, today).await?;
                    Ok::<T, Error>(map(covered, &state))
                })
            })
            .collect();
        let mut covered = Vec::new();
        for (name, of_source) in lookup.selection.sources.iter().zip(of_sources) {
            let of_source = of_source.await.map_err(|source| Error::Task {
                what: format!("{name}: its coverage"),
                source,
            })?;
            covered.push(of_source?);
        }
        Ok(covered)
    }

    async fn of_source(
        &self,
        source: &Source,
        state: &SourceState,
        today: NaiveDate,
    ) -> Result<SourceCoverage, Error> {
        let (selection, dates) = (&self.selection, &self.dates);
        let not_available = crate::plan::unavailable(&self.catalog, &self.states, source)
            .await?
            .filter(|_| !state.was_read());
        let (partitions, never_asked) = match &not_available {
            // It counts as missing only if it was selected by name.
            Some(_) => (Vec::new(), selection.named.contains(&source.name)),
            None => asked(source, state, dates),
        };
        // Models that are derived only because others read them were not requested.
        let driven = self.bound.driven_by(&source.name);
        let models: Vec<_> = driven
            .filter(|it| selection.models.contains(&it.model.name))
            .collect();
        let mut views = Vec::with_capacity(models.len());
        for bound in &models {
            views.push(bound.view(&self.states).await?);
        }
        let contracts = models.iter().flat_map(|bound| bound.contracts());
        let names = contracts.map(|contract| contract.table.clone());
        let mut tables: Vec<TableCoverage> = names
            .map(|table| uncovered(table, state, &self.target))
            .collect();
        let mut reached = BTreeMap::new();
        for partition in partitions {
            let found = state.partition(partition);
            let covered = self.of_partition(&views, partition, found, today, &mut tables);
            reached.insert(partition, covered);
        }
        Ok(SourceCoverage {
            source: source.name.clone(),
            partitions: reached,
            tables,
            last_read: state.complete().map(|(_, raw)| raw.extracted_at).max(),
            never_asked,
            not_available,
            failure: failure_of_list(state),
            is_known: state.complete().next().is_some(),
            rows: state.complete().map(|(_, raw)| raw.rows()).sum(),
            gaps: state.gaps().to_vec(),
        })
    }

    /// How far a partition has come; counts it in the coverage of each table that has such a partition.
    fn of_partition(
        &self,
        models: &[ModelView<'_>],
        partition: Partition,
        found: Option<&PartitionState>,
        today: NaiveDate,
        covered_tables: &mut [TableCoverage],
    ) -> Reached {
        let mut tables = Vec::new();
        // Tables by week or month whose partition has another date or lacks days.
        let mut without = BTreeSet::new();
        for view in models {
            let is_due =
                view.bound.home(partition) == partition && view.gap(partition, today).is_none();
            match found {
                _ if !is_due => without.extend(view.bound.contracts().map(|it| &it.table)),
                Some(found) => tables.extend(self.tables(view, partition, found)),
                None => {}
            }
        }
        let is_read = found.is_some_and(|found| found.raw.is_some());
        let counted = covered_tables.iter_mut();
        for covered in counted.filter(|it| !without.contains(&it.table)) {
            let made = tables.iter().find(|made| made.name == covered.table);
            if is_read && made.is_some_and(|made| made.is_derived && made.is_loaded) {
                covered.loaded += 1;
                covered.newest = covered.newest.max(Some(partition));
            } else {
                covered.missing += 1;
            }
        }
        Reached::of(found, &tables)
    }

    /// The tables that a model fills from a partition.
    fn tables<'a>(
        &self,
        view: &ModelView<'a>,
        partition: Partition,
        found: &PartitionState,
    ) -> Vec<Table<'a>> {
        let bound = view.bound;
        let is_upstream_current = view.is_upstream_current(partition);
        let table = |contract: &'a Contract| {
            let made = found.models.get(&contract.table);
            Table {
                name: &contract.table,
                is_derived: is_upstream_current
                    && made.is_some_and(|made| view.is_current(contract, partition, made)),
                is_loaded: made.is_some_and(|made| is_loaded(made, &self.target)),
            }
        };
        bound.contracts().map(table).collect()
    }
}

/// The requested partitions of a source: the given days, or those from the first that was ever requested to yesterday;
/// and whether there is no such first day.
fn asked(source: &Source, state: &SourceState, dates: &Dates) -> (Vec<Partition>, bool) {
    let known = || {
        state
            .partitions
            .keys()
            .filter_map(|partition| partition.day())
    };
    match source.kind {
        SourceKind::Snapshot => (vec![Partition::Snapshot], false),
        // The days of a feed are not requested, so none is missing.
        SourceKind::Feed => {
            let days: Vec<Partition> = known()
                .filter(|day| dates.contains(*day))
                .map(Partition::Day)
                .collect();
            let never = state.feed.is_none() && state.partitions.is_empty();
            (days, never)
        }
        SourceKind::Updates => {
            let partitions: Vec<Partition> = match source.is_daily() {
                true => known()
                    .filter(|day| dates.contains(*day))
                    .map(Partition::Day)
                    .collect(),
                false => vec![Partition::Snapshot],
            };
            (partitions, source.is_daily() && !state.was_read())
        }
        SourceKind::Window | SourceKind::Report => {
            let today = clock::now().date_naive();
            let first: Option<NaiveDate> = dates
                .start
                .or_else(|| known().chain(state.asked_from).min());
            let end = dates.end.unwrap_or(today).min(today);
            let asked = first
                .into_iter()
                .flat_map(|start| due_partitions(source, start, end, clock::now()))
                .map(Partition::Day)
                .collect();
            (asked, first.is_none())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_as_far_as_its_state_and_its_tables_say() {
        let read = |json: &str| serde_json::from_str::<PartitionState>(json).unwrap();
        let failure = r#""failure":{"at":"2024-01-02T00:00:00Z","error":"x"}"#;
        let raw = |objects: &str| {
            format!(
                r#""raw":{{"objects":[{objects}],"records":1,"not_owned":0,"rescued":0,"content":"","extracted_at":"2024-01-02T00:00:00Z"}}"#
            )
        };
        let rows = raw(r#"{"path":"a","rows":1,"bytes":1}"#);
        let unfinished = r#"{"unfinished":{"asked":"","requests":1,"extracted_at":"2024-01-02T00:00:00Z",
            "whole":{"records":1,"rescued":0,"content":"","parts":[]}}}"#;
        let table = |name: &'static str, is_derived, is_loaded| Table {
            name,
            is_derived,
            is_loaded,
        };
        let (done, derived, stale, none) = (
            table("a", true, true),
            table("b", true, false),
            table("c", false, true),
            table("d", false, false),
        );
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let cases = [
            ("{}".to_string(), vec![], Reached::Unasked, true),
            (unfinished.to_string(), vec![], Reached::Unfinished, true),
            (
                format!("{{{failure}}}"),
                vec![],
                Reached::Failed("x".into()),
                true,
            ),
            // A source without models is loaded once it was read.
            (format!("{{{}}}", raw("")), vec![], Reached::Empty, false),
            (format!("{{{rows}}}"), vec![], Reached::Loaded, false),
            (format!("{{{rows}}}"), vec![&done], Reached::Loaded, false),
            (
                format!("{{{rows},\"changed\":\"2024-01-03T00:00:00Z\"}}"),
                vec![&done],
                Reached::Changed,
                false,
            ),
            // A complete partition stays complete, even if a later attempt fails.
            (
                format!("{{{rows},{failure}}}"),
                vec![&done],
                Reached::Loaded,
                false,
            ),
            (
                format!("{{{rows}}}"),
                vec![&done, &derived],
                Reached::NotLoaded(names(&["b"])),
                true,
            ),
            (
                format!("{{{rows}}}"),
                vec![&done, &none],
                Reached::NotDerived(names(&["d"])),
                true,
            ),
            // Loaded once, but from earlier raw rows or SQL.
            (
                format!("{{{rows}}}"),
                vec![&stale, &derived],
                Reached::NotDerived(names(&["c", "b"])),
                true,
            ),
            // A day without rows must empty its tables too.
            (
                format!("{{{}}}", raw("")),
                vec![&none],
                Reached::NotDerived(names(&["d"])),
                true,
            ),
        ];
        for (json, tables, reached, missing) in cases {
            let tables: Vec<Table<'_>> = tables
                .into_iter()
                .map(|it| table(it.name, it.is_derived, it.is_loaded))
                .collect();
            let found = Reached::of(Some(&read(&json)), &tables);
            assert_eq!((&found, found.is_missing()), (&reached, missing), "{json}");
        }
        assert_eq!(Reached::of(None, &[]), Reached::Unasked);
    }

    #[test]
    fn coverage_begins_where_a_run_has_asked() {
        let catalog = Catalog::open(None).unwrap();
        let day = |text: &str| crate::plan::parse_date(text).unwrap();
        let state = SourceState::new("s");
        let mut begun = SourceState::new("s");
        begun.asked_from = Some(day("2024-01-02"));
        begun.partition_mut(Partition::Day(day("2024-01-04")));
        let nothing = Dates::default();
        let until = Dates {
            start: None,
            end: Some(day("2024-01-06")),
        };
        let given = Dates {
            start: Some(day("2024-01-01")),
            end: Some(day("2024-01-03")),
        };
        let future = Dates {
            start: Some(day("2999-01-01")),
            end: Some(day("2999-02-01")),
        };
        let cases = [
            ("fleet_trips", &state, &nothing, 0, true),
            ("fleet_trips", &state, &given, 2, false),
            ("fleet_trips", &state, &future, 0, false),
            ("fleet_trips", &begun, &until, 4, false),
            ("fleet_vehicles", &state, &nothing, 1, false),
            ("fleet_safety_events_audit_logs", &state, &given, 0, true),
            ("fleet_safety_events_audit_logs", &begun, &given, 0, false),
            ("fleet_safety_events_audit_logs", &begun, &until, 1, false),
        ];
        for (source, state, dates, count, never) in cases {
            let (partitions, never_asked) = asked(catalog.source(source).unwrap(), state, dates);
            assert_eq!(
                (partitions.len(), never_asked),
                (count, never),
                "{source} {dates:?}"
            );
        }
    }
}
