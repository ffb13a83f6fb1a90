//! What commands print with `--format json`: one object each, described in docs/json.md. A field may be added within a
//! version; one is removed or changed only with the next.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use clap::ValueEnum;
use serde::Serialize;

use crate::catalog::Catalog;
use crate::error::Error;
use crate::load::Finding;
use crate::pipeline::coverage::{Reached, SourceCoverage, TableState};
use crate::plan::{DerivedAgain, LeftBehind, Plan, PlannedScope, PlannedTask};
use crate::redact;
use crate::report::RunReport;
use crate::sql_tests::{Diff, Underived};
use crate::state::Gap;
use crate::store::layout::Partition;

/// Version of all of these documents.
const VERSION: u32 = 1;

/// How a command prints what it has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    /// For people
    Text,
    /// One JSON object
    Json,
}

/// Prints a document.
pub(super) fn print(document: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(document)
        .map_err(|error| Error::Usage(format!("cannot print the result: {error}")))?;
    // JSON escapes control characters itself.
    super::output::print_exact(redact::mask(&(text + "\n")))
}

/// The head of each document.
#[derive(Serialize)]
struct Head {
    schema: &'static str,
    version: u32,
}

impl Head {
    fn of(schema: &'static str) -> Self {
        let version = VERSION;
        Self { schema, version }
    }
}

/// The end of a run.
#[derive(Serialize)]
pub(super) struct Summary<'a> {
    #[serde(flatten)]
    head: Head,
    #[serde(flatten)]
    report: &'a RunReport,
}

impl<'a> Summary<'a> {
    pub(super) fn of(report: &'a RunReport) -> Self {
        Self {
            head: Head::of("samsara-etl/run"),
            report,
        }
    }
}

/// What a run would do.
#[derive(Serialize)]
pub(super) struct PlanDocument {
    #[serde(flatten)]
    head: Head,
    today: NaiveDate,
    stages: Vec<String>,
    tasks: Vec<Task>,
    change_feeds: Vec<String>,
    lasting: Vec<String>,
    /// Derived because selected tables are made from them, and not loaded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    upstream_tables: Vec<String>,
    complete_days: u64,
    committed_partitions: u64,
    derived_again: Vec<DerivedAgain>,
    left_behind: Vec<LeftBehind>,
    from_default_start: u64,
    /// What feeds have lost, by source.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    gaps: BTreeMap<String, Vec<Gap>>,
    estimate: Estimate,
}

#[derive(Serialize)]
struct Task {
    sources: Vec<String>,
    /// `snapshot`, `days` or `feed`.
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_day: Option<NaiveDate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_day: Option<NaiveDate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<DateTime<Utc>>,
    requests: u64,
}

#[derive(Serialize)]
struct Estimate {
    requests: u64,
    seconds: f64,
    load_jobs: Option<u64>,
    load_jobs_are_at_most: bool,
}

impl Task {
    fn of(task: &PlannedTask) -> Self {
        let (kind, first_day, last_day, since) = match &task.scope {
            PlannedScope::Snapshot => ("snapshot", None, None, None),
            PlannedScope::Days(days) => ("days", days.first(), days.last(), None),
            PlannedScope::Feed { since, .. } => ("feed", None, None, Some(*since)),
            PlannedScope::Updates(windows) => {
                let since = windows.iter().map(|window| window.start).min();
                ("updates", None, None, since)
            }
        };
        Self {
            sources: task.sources.clone(),
            kind,
            first_day: first_day.copied(),
            last_day: last_day.copied(),
            since,
            requests: task.requests,
        }
    }
}

impl PlanDocument {
    pub(super) fn of(plan: &Plan) -> Self {
        let stages = plan.run_request.stages.iter();
        Self {
            head: Head::of("samsara-etl/plan"),
            today: plan.today,
            stages: stages.map(ToString::to_string).collect(),
            tasks: plan
                .snapshots
                .iter()
                .chain(&plan.windows)
                .map(Task::of)
                .collect(),
            change_feeds: plan.feeds.clone(),
            lasting: plan.lasting.clone(),
            upstream_tables: plan.upstream.clone(),
            complete_days: plan.complete_days,
            committed_partitions: plan.committed_partitions(),
            derived_again: plan.derived_again.clone(),
            left_behind: plan.left_behind.clone(),
            from_default_start: plan.from_default_start,
            gaps: plan.gaps.clone(),
            estimate: Estimate {
                requests: plan.estimate.calls,
                seconds: plan.estimate.seconds,
                load_jobs: plan.estimate.load_jobs.map(|jobs| jobs.most),
                load_jobs_are_at_most: plan.estimate.load_jobs.is_some_and(|jobs| jobs.is_bound),
            },
        }
    }
}

/// What is there.
#[derive(Serialize)]
pub(super) struct StatusDocument {
    #[serde(flatten)]
    head: Head,
    tables: Vec<TableStatus>,
}

#[derive(Serialize)]
struct TableStatus {
    table: String,
    source: String,
    state: TableState,
    /// A day, or `snapshot`.
    newest: Option<String>,
    loaded_partitions: u64,
    missing_partitions: u64,
    rows: u64,
    last_read: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    /// What the feed of the source has lost.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gaps: Vec<Gap>,
    /// Of the source, and only if days are requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    partitions: Option<Vec<PartitionStatus>>,
}

#[derive(Serialize)]
struct PartitionStatus {
    partition: String,
    reached: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl PartitionStatus {
    fn of((partition, reached): (&Partition, &Reached)) -> Self {
        Self {
            partition: partition.to_string(),
            reached: match reached {
                Reached::Loaded => "loaded",
                Reached::Empty => "empty",
                Reached::Changed => "changed",
                Reached::NotLoaded(_) => "not_loaded",
                Reached::NotDerived(_) => "not_derived",
                Reached::Unfinished => "unfinished",
                Reached::Failed(_) => "failed",
                Reached::Unasked => "not_asked",
            },
            reason: super::status::why(reached),
        }
    }
}

impl StatusDocument {
    pub(super) fn of(covered: &[SourceCoverage], with_partitions: bool) -> Self {
        let tables = covered.iter().flat_map(|source| {
            source.tables.iter().map(move |table| TableStatus {
                table: table.table.clone(),
                source: source.source.clone(),
                state: source.state_of(table),
                newest: table.newest.map(|newest| newest.to_string()),
                loaded_partitions: table.loaded,
                missing_partitions: table.missing,
                rows: table.rows,
                last_read: source.last_read,
                failure: source.failing().map(redact::one_line),
                gaps: source.gaps.clone(),
                partitions: with_partitions
                    .then(|| source.partitions.iter().map(PartitionStatus::of).collect()),
            })
        });
        Self {
            head: Head::of("samsara-etl/status"),
            tables: tables.collect(),
        }
    }
}

/// What edited models change.
#[derive(Serialize)]
pub(super) struct DiffDocument<'a> {
    #[serde(flatten)]
    head: Head,
    /// Partitions that were compared, and those of them that differ.
    compared: u64,
    differ: u64,
    partitions: &'a [Diff],
    /// Partitions that the models cannot derive.
    failed: &'a [Underived],
}

impl<'a> DiffDocument<'a> {
    pub(super) fn of(partitions: &'a [Diff], failed: &'a [Underived]) -> Self {
        let differ = partitions.iter().filter(|it| !it.is_empty()).count();
        Self {
            head: Head::of("samsara-etl/diff"),
            compared: partitions.len() as u64,
            differ: differ as u64,
            partitions,
            failed,
        }
    }
}

/// The catalog.
#[derive(Serialize)]
pub(super) struct TablesDocument {
    #[serde(flatten)]
    head: Head,
    tables: Vec<CatalogTable>,
}

#[derive(Serialize)]
struct CatalogTable {
    table: String,
    sources: Vec<String>,
    /// The tables that its model reads.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    upstream: Vec<String>,
    kind: Option<String>,
    category: Option<String>,
    partitioned_by: Option<String>,
    description: String,
}

impl TablesDocument {
    pub(super) fn of(catalog: &Catalog) -> Self {
        let tables = catalog.models().flat_map(|model| {
            let driving = catalog.driving_source(model);
            let lower = |text: String| text.to_lowercase();
            let sources = catalog.sources_of(model).into_iter();
            let sources: Vec<String> = sources.map(String::from).collect();
            let table = CatalogTable {
                table: model.name.clone(),
                sources: sources.clone(),
                upstream: model.upstream.clone(),
                kind: driving.map(|source| lower(format!("{:?}", source.kind))),
                category: driving
                    .and_then(|source| source.category)
                    .map(|category| lower(format!("{category:?}"))),
                partitioned_by: model.front_matter.partition_by.clone(),
                description: model.front_matter.description.clone(),
            };
            let history = model.history_table().map(|name| CatalogTable {
                table: name,
                sources,
                upstream: model.upstream.clone(),
                kind: table.kind.clone(),
                category: table.category.clone(),
                partitioned_by: None,
                description: "Each version of these rows.".into(),
            });
            [table].into_iter().chain(history)
        });
        Self {
            head: Head::of("samsara-etl/tables"),
            tables: tables.collect(),
        }
    }
}

/// What was looked at.
#[derive(Serialize)]
pub(super) struct CheckDocument {
    #[serde(flatten)]
    head: Head,
    failed: u64,
    findings: Vec<CheckFinding>,
}

#[derive(Serialize)]
struct CheckFinding {
    what: String,
    /// `ok`, `failed` or `note`.
    result: &'static str,
    text: String,
}

impl CheckDocument {
    pub(super) fn of(findings: &[Finding]) -> Self {
        let result = |finding: &Finding| match finding.good {
            Some(true) => "ok",
            Some(false) => "failed",
            None => "note",
        };
        Self {
            head: Head::of("samsara-etl/check"),
            failed: findings
                .iter()
                .filter(|finding| finding.good == Some(false))
                .count() as u64,
            findings: findings
                .iter()
                .map(|finding| CheckFinding {
                    what: redact::one_line(&finding.what),
                    result: result(finding),
                    text: redact::one_line(&finding.text),
                })
                .collect(),
        }
    }
}
