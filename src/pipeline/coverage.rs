//! How far what was asked for has come on its way from the API into the warehouse, as the state knows it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;

use super::Pipeline;
use crate::catalog::{Catalog, Source, SourceKind};
use crate::clock;
use crate::error::Error;
use crate::load;
use crate::load::plan::{is_loaded, rows_loaded, rows_of};
use crate::plan::{Dates, RunRequest, Selection, due_partitions};
use crate::state::{Failure, Gap, NotAvailable, PartitionState, SourceState, StateStore};
use crate::store::layout::Partition;
use crate::transform::{BoundCatalog, BoundModel, Contract, Fingerprint, history_fingerprint};

/// How far one partition of a source has come. What is not in the warehouse is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reached {
    /// All tables made of it are loaded.
    Loaded,
    /// Likewise, and the API had nothing for it.
    Empty,
    /// Likewise, but its change feed has brought late data since: the next run reads it again.
    Changed,
    /// These tables are derived from it as it is now, but not loaded; or are not even derived.
    NotLoaded(Vec<String>),
    /// These tables are not derived from it as it is now, or are derived and not loaded; one at least is not derived.
    NotDerived(Vec<String>),
    /// Begun: the next run goes on from its cursor.
    Unfinished,
    /// Tried, and failed for this reason.
    Failed(String),
    /// Never asked for.
    Unasked,
}

impl Reached {
    fn of(found: Option<&PartitionState>, tables: &[Table]) -> Self {
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
        let waiting = |table: &&Table| !table.is_derived || !table.is_loaded;
        let waits: Vec<String> = tables
            .iter()
            .filter(waiting)
            .map(|table| table.name.clone())
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
struct Table {
    name: String,
    /// From the raw rows, the SQL and the contract as they are now.
    is_derived: bool,
    is_loaded: bool,
}

/// How far a source, and the selected tables made of it, have come.
#[derive(Debug, Clone)]
pub struct SourceCoverage {
    /// The source.
    pub source: String,
    /// Its partitions that were asked for: of a list its snapshot, of a feed the days that it has brought.
    pub partitions: BTreeMap<Partition, Reached>,
    /// Whether the source, or the asked period of it, was never asked for at all, so that there is no first day.
    pub never_asked: bool,
    /// That the token or the organisation does not have it, if nothing of it was ever read.
    pub not_available: Option<NotAvailable>,
    /// The last try to read the list, if it is one and that try failed.
    pub failure: Option<Failure>,
    /// Whether anything of it was ever read whole, of whatever day.
    pub is_known: bool,
    /// Raw rows that are complete, of whatever day.
    pub rows: u64,
    /// The selected tables made of it.
    pub tables: Vec<TableCoverage>,
    /// When something of it was last read whole.
    pub last_read: Option<DateTime<Utc>>,
    /// Spans of time of which a feed with a short memory may have lost rows.
    pub gaps: Vec<Gap>,
}

/// How far one table has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableCoverage {
    /// The table.
    pub table: String,
    /// The newest partition that was asked for and is in the warehouse, also if it has no rows.
    pub newest: Option<Partition>,
    /// Partitions that were asked for and are in the warehouse.
    pub loaded: u64,
    /// Partitions that were asked for and are not.
    pub missing: u64,
    /// Rows of it in the warehouse, of whatever day, as the state says.
    pub rows: u64,
}

/// A table at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TableState {
    /// Everything that was asked for is in the warehouse.
    Whole,
    /// Some of it is not, and the next run brings it.
    Behind,
    /// The last try to read some of it failed.
    Failing,
    /// The token or the organisation does not have its source.
    NotAvailable,
    /// Nothing of it was ever asked for.
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
    /// Why the last try to read something of it failed, if one did: of the newest such day.
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

/// How much of what was asked for is not in the warehouse, in partitions. A source that was never asked for counts for
/// one.
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
    /// So many partitions.
    pub partitions: u64,
    /// With so many rows.
    pub rows: u64,
}

impl Pipeline {
    /// How far what is wished for has come, source by source. Changes nothing.
    pub async fn coverage(&self, run_request: &RunRequest) -> Result<Vec<SourceCoverage>, Error> {
        let bound = self.bound(run_request).await?;
        let target = load::target_name(&self.config.warehouse);
        let lookup = Lookup {
            catalog: &self.catalog,
            states: &self.states,
            bound: &bound,
            target: &target,
        };
        lookup
            .coverage(&run_request.selection, &run_request.dates)
            .await
    }

    /// The tables of which partitions are derived and not loaded into the configured warehouse.
    pub async fn waiting(&self) -> Result<BTreeMap<String, Waiting>, Error> {
        let target = load::target_name(&self.config.warehouse);
        let mut waiting: BTreeMap<String, Waiting> = BTreeMap::new();
        let models = self.catalog.models();
        let drivers = models.filter_map(|model| self.catalog.driving_source(model));
        let names: Vec<&str> = drivers.map(|driver| driver.name.as_str()).collect();
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
                    derived.map(rows_of).collect()
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

/// What the coverage is looked up in.
pub(super) struct Lookup<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) states: &'a StateStore,
    /// The selected models.
    pub(super) bound: &'a BoundCatalog,
    /// The warehouse that counts.
    pub(super) target: &'a str,
}

fn failure_of_list(state: &SourceState) -> Option<Failure> {
    state.partition(Partition::Snapshot)?.failure.clone()
}

/// A table with its loaded rows; its partitions are still to be counted.
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

impl Lookup<'_> {
    pub(super) async fn coverage(
        &self,
        selection: &Selection,
        dates: &Dates,
    ) -> Result<Vec<SourceCoverage>, Error> {
        let names = selection.sources.iter().map(String::as_str);
        self.states.read_ahead(names).await?;
        let mut covered = Vec::new();
        let today = clock::now().date_naive();
        for name in &selection.sources {
            let source = self.catalog.known_source(name)?;
            let state = self.states.source(name).await?.look(Clone::clone);
            let not_available = crate::plan::unavailable(self.catalog, self.states, source)
                .await?
                .filter(|_| !state.was_read());
            let (partitions, never_asked) = match &not_available {
                // It counts as missing only if it was asked for by name.
                Some(_) => (Vec::new(), selection.named.contains(&source.name)),
                None => asked(source, &state, dates),
            };
            let mut models = Vec::new();
            // What is derived only because others read it is not asked for.
            let driven = self.bound.driven_by(name);
            models.extend(driven.filter(|it| selection.models.contains(&it.model.name)));
            let contracts = models.iter().flat_map(|bound| bound.contracts());
            let names = contracts.map(|contract| contract.table.clone());
            let mut covered_tables: Vec<TableCoverage> = names
                .map(|table| uncovered(table, &state, self.target))
                .collect();
            let mut reached = BTreeMap::new();
            for partition in partitions {
                let found = state.partition(partition);
                let mut tables = Vec::new();
                // Tables that have no such partition: that of their week or month is another, or lacks days.
                let mut without = BTreeSet::new();
                for bound in &models {
                    let is_due = bound.home(partition) == partition
                        && bound.gap(self.states, partition, today).await?.is_none();
                    match found {
                        _ if !is_due => without.extend(bound.contracts().map(|it| &it.table)),
                        Some(found) => tables.extend(self.tables(bound, partition, found).await?),
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
                reached.insert(partition, Reached::of(found, &tables));
            }
            covered.push(SourceCoverage {
                source: source.name.clone(),
                partitions: reached,
                tables: covered_tables,
                last_read: state.complete().map(|(_, raw)| raw.extracted_at).max(),
                never_asked,
                not_available,
                failure: failure_of_list(&state),
                is_known: state.complete().next().is_some(),
                rows: state.complete().map(|(_, raw)| raw.rows()).sum(),
                gaps: state.gaps().to_vec(),
            });
        }
        Ok(covered)
    }

    /// The tables that a model fills from a partition.
    async fn tables(
        &self,
        bound: &BoundModel,
        partition: Partition,
        found: &PartitionState,
    ) -> Result<Vec<Table>, Error> {
        let contract = &bound.contract;
        let current = bound.wanted(self.states, partition).await?;
        let is_upstream_current = bound.is_upstream_current(self.states, partition).await?;
        let table = |contract: &Contract, wanted: &Fingerprint| {
            let made = found.models.get(&contract.table);
            Table {
                name: contract.table.clone(),
                is_derived: is_upstream_current
                    && made.is_some_and(|made| wanted.is(&made.fingerprint)),
                is_loaded: made.is_some_and(|made| is_loaded(made, self.target)),
            }
        };
        let history = bound
            .history
            .as_ref()
            .map(|history| table(history, &history_fingerprint(history, &current)));
        Ok([table(contract, &current)]
            .into_iter()
            .chain(history)
            .collect())
    }
}

/// The partitions of a source that were asked for: the given days, or those from the first that was ever asked for to
/// yesterday. And whether there is no such first day.
fn asked(source: &Source, state: &SourceState, dates: &Dates) -> (Vec<Partition>, bool) {
    let known = || {
        state
            .partitions
            .keys()
            .filter_map(|partition| partition.day())
    };
    match source.kind {
        SourceKind::Snapshot => (vec![Partition::Snapshot], false),
        // Its days come by themselves: there is none that it lacks.
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
        let table = |name: &str, is_derived, is_loaded| Table {
            name: name.into(),
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
            // What no table is made of is there once it was read.
            (format!("{{{}}}", raw("")), vec![], Reached::Empty, false),
            (format!("{{{rows}}}"), vec![], Reached::Loaded, false),
            (format!("{{{rows}}}"), vec![&done], Reached::Loaded, false),
            (
                format!("{{{rows},\"changed\":\"2024-01-03T00:00:00Z\"}}"),
                vec![&done],
                Reached::Changed,
                false,
            ),
            // What was read whole stays so, whatever became of a later try.
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
            // Loaded once, but from raw rows or SQL that are not those of now.
            (
                format!("{{{rows}}}"),
                vec![&stale, &derived],
                Reached::NotDerived(names(&["c", "b"])),
                true,
            ),
            // A day without rows has to empty its tables, too.
            (
                format!("{{{}}}", raw("")),
                vec![&none],
                Reached::NotDerived(names(&["d"])),
                true,
            ),
        ];
        for (json, tables, reached, missing) in cases {
            let tables: Vec<Table> = tables
                .into_iter()
                .map(|it| table(&it.name, it.is_derived, it.is_loaded))
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
