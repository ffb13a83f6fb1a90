//! `report`: runs and the state of all tables, as one HTML page.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDate, Utc};
use clap::Args;

use super::status::{letter, why};
use super::{Context, Exit};
use crate::catalog::{Catalog, Model, SourceKind};
use crate::clock;
use crate::error::Error;
use crate::load;
use crate::load::plan::{is_loaded, rows_of};
use crate::pipeline::Pipeline;
use crate::pipeline::coverage::{Reached, SourceCoverage};
use crate::plan::{Dates, RunRequest, Selection, Stage, parse_date};
use crate::redact;
use crate::report::html::calendar::DayRow;
use crate::report::html::runs::LoggedRun;
use crate::report::html::{Gap, Page, Table, endpoint_template};
use crate::report::logs::{LogError, LogFile};
use crate::state::{PartitionState, SourceState};
use crate::store::Bucket;
use crate::store::layout::{LOGS, Partition, parse_log_file, parse_log_object};

/// Default output file.
const DEFAULT_FILE: &str = "samsara-report.html";
/// The same with `--marts`.
const DEFAULT_MARTS_FILE: &str = "samsara-marts.html";
/// Number of runs that a page shows.
const MOST_RUNS: usize = 200;
/// Number of gaps of a table that a page lists.
const MOST_GAPS: usize = 40;
/// A larger log is not read.
const MOST_LOG_BYTES: u64 = 256 << 20;

/// Write an HTML page about the last run and everything that is loaded: row counts, coverage, freshness, failures.
///
/// The page is one file that works offline. It reads the state documents and the logs in ./logs and in the raw bucket.
///
/// With --marts it shows dashboards over the marts in the warehouse: utilisation and fuel, safety and drivers, hours of
/// service and maintenance. docs/dashboards/ has the SQL of each tile for BigQuery.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samsara-etl report
  samsara-etl report --marts
  samsara-etl report --since 2024-01-01 --table fleet_trips --output trips.html")]
pub(super) struct Report {
    /// Show dashboards over the marts instead
    #[arg(long, conflicts_with = "table")]
    marts: bool,
    /// File to write, replacing what is there; `-` for stdout [default: samsara-report.html, with --marts
    /// samsara-marts.html]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Show the runs and the calendar since this day, as 31/01/2024 or 2024-01-31 [default: the last run, and all days];
    /// with --marts the days since then [default: the newest 90 days]
    #[arg(long, value_name = "DATE")]
    since: Option<String>,
    /// Table to show; may be repeated [default: all]
    #[arg(long, value_name = "NAME")]
    table: Vec<String>,
    /// Google Cloud project of the warehouse [default: GOOGLE_CLOUD_PROJECT, or the project of the key file]
    #[arg(long)]
    project: Option<String>,
}

impl Report {
    pub(super) async fn execute(self, context: &Context) -> Result<Exit, Error> {
        let since = self.since.as_deref().map(parse_date).transpose();
        let since = since.map_err(|reason| Error::Usage(format!("--since: {reason}")))?;
        if self.marts {
            let config = super::options::reading_config_of(context, self.project.clone())?;
            let (html, exit) = super::marts::page(config, context, since).await?;
            self.write(&context.directory, &html, DEFAULT_MARTS_FILE)?;
            return Ok(exit);
        }
        let catalog = context.catalog()?;
        let selection = match self.table.is_empty() {
            true => Selection::all(&catalog, false),
            false => Selection::of_names(&catalog, &self.table)?,
        };
        let config = super::options::reading_config_of(context, self.project.clone())?;
        let target = load::target_name(&config.warehouse);
        let pipeline = Pipeline::looking(config, catalog)?;
        let mut page = page_of(&pipeline, selection, &target, since).await?;
        let logs = Logs::find(&context.directory, pipeline.raw()).await?;
        logs.read_into(&mut page, pipeline.raw()).await?;
        if !self.table.is_empty() {
            keep_only_shown(&mut page);
        }
        let html = rendered(&page)?;
        self.write(&context.directory, &html, DEFAULT_FILE)?;
        Ok(Exit::Success)
    }

    fn write(&self, directory: &Path, html: &str, default: &str) -> Result<(), Error> {
        let output = self.output.as_deref().unwrap_or(Path::new(default));
        if output.as_os_str() == "-" {
            return super::output::print_exact(html);
        }
        let path = directory.join(output);
        let folder = path.parent().unwrap_or(directory);
        // Readers see the old page or the new one, never a part. It is as private as the data that it quotes.
        let written = tempfile::NamedTempFile::new_in(folder).and_then(|mut file| {
            file.write_all(html.as_bytes())?;
            file.persist(&path)?;
            Ok(())
        });
        written.map_err(|source| Error::System {
            what: format!("cannot write {}", path.display()),
            source,
        })?;
        eprintln!("report written to {}", output.display());
        Ok(())
    }
}

fn rendered(page: &Page) -> Result<String, Error> {
    page.render().map_err(|error| Error::System {
        what: "cannot make the report".into(),
        source: std::io::Error::other(error),
    })
}

/// Writes the HTML report of the run that has just ended next to its log: the state of its tables, and the content of
/// its log.
pub(super) async fn add_to_log(log: &LogFile, bucket: &Bucket, page: &Page) -> Result<(), Error> {
    let name = log.path().file_name().unwrap_or_default();
    let failed = |error: LogError| Error::System {
        what: "the HTML report".into(),
        source: std::io::Error::other(error),
    };
    let lines = log.logged().map_err(failed)?;
    let run = LoggedRun::read(&name.to_string_lossy(), lines.split(|byte| *byte == b'\n'));
    let page = Page {
        runs: vec![run],
        ..page.clone()
    };
    let html = rendered(&page)?;
    log.add_report(bucket, html).await.map_err(failed)
}

/// The state of the selected tables.
pub(super) async fn page_of(
    pipeline: &Pipeline,
    selection: Selection,
    target: &str,
    since: Option<NaiveDate>,
) -> Result<Page, Error> {
    let now = clock::now();
    let run_request = RunRequest {
        selection,
        dates: Dates {
            start: since,
            end: None,
        },
        stages: [Stage::Extract, Stage::Transform, Stage::Load].into(),
        historical: false,
    };
    let catalog = pipeline.catalog();
    let by_source = tables_by_source(catalog, &run_request.selection)?;
    let kinds: BTreeMap<String, SourceKind> = catalog
        .sources()
        .map(|source| (source.name.clone(), source.kind))
        .collect();
    let of_warehouse = target.to_string();
    let tables_of = move |source: SourceCoverage, state: &SourceState| {
        let known = Known {
            source: &source,
            state,
            target: &of_warehouse,
            today: now.date_naive(),
            of_source: of_source(kinds.get(&source.source).copied(), &source, state),
        };
        match by_source.get(&source.source) {
            None => vec![known.table(None)],
            Some(names) => names.iter().map(|name| known.table(Some(name))).collect(),
        }
    };
    let tables = pipeline.map_coverage(&run_request, tables_of).await?;
    let mut tables: Vec<Table> = tables.into_iter().flatten().collect();
    tables.sort_by(|one, other| one.name.cmp(&other.name));
    let rates = catalog.sources().map(|source| {
        let endpoint = endpoint_template(&source.endpoint);
        (endpoint, source.rate_limit.per_second)
    });
    Ok(Page {
        made_at: now,
        version: env!("CARGO_PKG_VERSION").into(),
        raw: redact::one_line(pipeline.raw().uri("")),
        target: redact::one_line(target),
        since,
        runs: Vec::new(),
        notes: Vec::new(),
        tables,
        rates: rates.collect::<BTreeMap<_, _>>(),
    })
}

/// The selected tables, including history tables, by the source that gives them their partitions.
fn tables_by_source(
    catalog: &Catalog,
    selection: &Selection,
) -> Result<BTreeMap<String, Vec<String>>, Error> {
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let is_selected = |model: &&Model| selection.models.contains(&model.name);
    for model in catalog.models().filter(is_selected) {
        let driving = catalog.known_driving_source(model)?;
        let of_source = tables.entry(driving.name.clone()).or_default();
        of_source.push(model.name.clone());
        of_source.extend(model.history_table());
    }
    Ok(tables)
}

/// What the tables of a source have in common: the page's view of a source without tables.
fn of_source(kind: Option<SourceKind>, source: &SourceCoverage, state: &SourceState) -> Table {
    let kind = kind.map_or("", |kind| match kind {
        SourceKind::Snapshot => "list",
        SourceKind::Window => "window",
        SourceKind::Report => "report",
        SourceKind::Feed => "feed",
        SourceKind::Updates => "updates",
    });
    let mut table = Table {
        name: source.source.clone(),
        source: source.source.clone(),
        kind,
        never_requested: source.never_asked,
        not_available: source.not_available.as_ref().map(|known| {
            let at = known.at.format("%Y-%m-%d");
            redact::one_line(format_args!("{} (last asked on {at})", known.reason))
        }),
        ..Table::default()
    };
    for (_, raw) in state.complete() {
        table.records += raw.records;
        table.raw_rows += raw.rows();
        table.out_of_window += raw.out_of_window;
        table.rescued += raw.rescued;
        table.last_read = table.last_read.max(Some(raw.extracted_at));
    }
    table
}

/// What is known of one source.
struct Known<'a> {
    source: &'a SourceCoverage,
    state: &'a SourceState,
    target: &'a str,
    today: NaiveDate,
    of_source: Table,
}

impl Known<'_> {
    /// The page's view of one of the source's tables, or of a source without tables.
    fn table(&self, name: Option<&String>) -> Table {
        let mut table = self.of_source.clone();
        if let Some(name) = name {
            table.name.clone_from(name);
            table.model_rows = Some(0);
        }
        for partition in self.state.partitions.values() {
            self.add_rows(&mut table, partition);
        }
        self.add_days(&mut table, name);
        // Today is not over, so a table that has yesterday is up to date.
        let last_over = self.today.pred_opt().unwrap_or(self.today);
        table.days_behind = table
            .newest
            .map(|newest| (last_over - newest).num_days().max(0));
        table
    }

    /// Adds the state of each partition, and the gaps between them.
    fn add_days(&self, table: &mut Table, name: Option<&String>) {
        let mut days = Vec::new();
        let mut gaps = Gaps::default();
        // What the token or the organisation does not have is not missing.
        let partitions = self.source.partitions.iter();
        for (partition, reached) in partitions.filter(|_| self.source.not_available.is_none()) {
            let reached = reached_by(reached, name);
            if partition.day().is_none() && *reached == Reached::Unasked {
                table.never_requested = true;
                table.list = Some(letter(&reached));
                continue;
            }
            table.missing += u64::from(reached.is_missing());
            match partition.day() {
                None => table.list = Some(letter(&reached)),
                Some(day) => {
                    days.push((day, letter(&reached)));
                    if !reached.is_missing() {
                        table.newest = table.newest.max(Some(day));
                    }
                }
            }
            gaps.add(*partition, reached);
        }
        table.days = DayRow::of(days);
        table.gaps_left_out = gaps.0.len().saturating_sub(MOST_GAPS) as u64;
        let gaps = gaps.0.iter().take(MOST_GAPS);
        table.gaps = gaps.filter_map(MissingDays::told).collect();
    }

    fn add_rows(&self, table: &mut Table, partition: &PartitionState) {
        let Some((made, sum)) = partition
            .models
            .get(&table.name)
            .zip(table.model_rows.as_mut())
        else {
            return;
        };
        let rows = rows_of(made);
        *sum += rows;
        if is_loaded(made, self.target) {
            table.loaded_model_rows += rows;
            table.loaded_rows += made.load.as_ref().map_or(0, |load| load.rows);
        }
    }
}

/// The state of one table; `reached` is about all tables of the source together.
fn reached_by<'a>(reached: &'a Reached, table: Option<&String>) -> Cow<'a, Reached> {
    Cow::Owned(match (reached, table) {
        (Reached::NotLoaded(tables) | Reached::NotDerived(tables), Some(table))
            if !tables.contains(table) =>
        {
            Reached::Loaded
        }
        (Reached::NotLoaded(_), Some(table)) => Reached::NotLoaded(vec![table.clone()]),
        (Reached::NotDerived(_), Some(table)) => Reached::NotDerived(vec![table.clone()]),
        (reached, _) => return Cow::Borrowed(reached),
    })
}

/// Missing days, with successive days for one reason together.
#[derive(Default)]
struct Gaps<'a>(Vec<MissingDays<'a>>);

/// Successive days that are missing for one reason, or a list.
struct MissingDays<'a> {
    from: Partition,
    to: Partition,
    partitions: u64,
    reached: Cow<'a, Reached>,
}

impl<'a> Gaps<'a> {
    fn add(&mut self, partition: Partition, reached: Cow<'a, Reached>) {
        if !reached.is_missing() {
            return;
        }
        let before = partition.day().and_then(|day| day.pred_opt());
        let before = before.map(Partition::Day);
        match self.0.last_mut() {
            Some(gap) if Some(gap.to) == before && gap.reached == reached => {
                gap.to = partition;
                gap.partitions += 1;
            }
            _ => self.0.push(MissingDays {
                from: partition,
                to: partition,
                partitions: 1,
                reached,
            }),
        }
    }
}

impl MissingDays<'_> {
    /// As the page tells it.
    fn told(&self) -> Option<Gap> {
        Some(Gap {
            from: self.from.to_string(),
            to: self.to.to_string(),
            partitions: self.partitions,
            why: redact::one_line(why(&self.reached)?),
        })
    }
}

/// Keeps only what concerns the tables of the page.
fn keep_only_shown(page: &mut Page) {
    let tables = page.tables.iter();
    let names: BTreeSet<String> = tables
        .flat_map(|table| [table.name.clone(), table.source.clone()])
        .collect();
    for run in &mut page.runs {
        run.retain(|name| names.contains(name));
    }
}

/// Where a log is.
enum Place {
    File(PathBuf),
    Object(String),
}

/// The logs of runs, by start and name.
struct Logs(BTreeMap<(DateTime<Utc>, String), (Place, u64)>);

impl Logs {
    /// Those in `./logs`, and in the raw bucket.
    async fn find(directory: &Path, bucket: &Bucket) -> Result<Self, Error> {
        let mut logs = BTreeMap::new();
        for object in bucket.list_dated(LOGS).await? {
            let name = object.key.rsplit('/').next().unwrap_or_default();
            if let (Some(_), Some(at)) = (parse_log_object(&object.key), parse_log_file(name)) {
                let key = (at, name.to_string());
                logs.insert(key, (Place::Object(object.key), object.bytes));
            }
        }
        let entries = std::fs::read_dir(directory.join(LOGS))
            .into_iter()
            .flatten();
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let meta = entry.metadata().ok().filter(std::fs::Metadata::is_file);
            if let Some((at, meta)) = parse_log_file(&name).zip(meta) {
                logs.insert((at, name), (Place::File(entry.path()), meta.len()));
            }
        }
        Ok(Self(logs))
    }

    /// Adds the runs of the page: those since its first day, or the last one.
    async fn read_into(&self, page: &mut Page, bucket: &Bucket) -> Result<(), Error> {
        let wanted = self.0.iter().rev();
        let wanted: Vec<_> = match page.since {
            Some(since) => wanted
                .take_while(|((at, _), _)| at.date_naive() >= since)
                .collect(),
            None => wanted.take(1).collect(),
        };
        if wanted.len() > MOST_RUNS {
            let note = format!(
                "Only the last {MOST_RUNS} of {} runs are shown.",
                wanted.len()
            );
            page.notes.push(note);
        }
        for ((_, name), (place, bytes)) in wanted.into_iter().take(MOST_RUNS) {
            if *bytes > MOST_LOG_BYTES {
                let note = format!(
                    "The log {name} is too large to be read ({} MiB).",
                    bytes >> 20
                );
                page.notes.push(note);
                continue;
            }
            page.runs.extend(read(name, place, bucket).await?);
        }
        Ok(())
    }
}

/// Reads a log; none if it was removed meanwhile.
async fn read(name: &str, place: &Place, bucket: &Bucket) -> Result<Option<LoggedRun>, Error> {
    match place {
        Place::Object(key) => Ok(bucket
            .read(key)
            .await?
            .map(|(bytes, _)| LoggedRun::read(name, bytes.split(|byte| *byte == b'\n')))),
        Place::File(path) => {
            let fault = |source| Error::System {
                what: format!("cannot read {}", path.display()),
                source,
            };
            let mut run = LoggedRun {
                log: name.to_string(),
                ..LoggedRun::default()
            };
            for line in BufReader::new(File::open(path).map_err(fault)?).split(b'\n') {
                run.add(&line.map_err(fault)?);
            }
            Ok(Some(run))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::html::calendar::meaning;

    #[test]
    fn the_calendar_knows_every_letter_of_status() {
        let tables = || vec!["a".to_string()];
        for reached in [
            Reached::Loaded,
            Reached::Empty,
            Reached::Changed,
            Reached::NotLoaded(tables()),
            Reached::NotDerived(tables()),
            Reached::Unfinished,
            Reached::Failed("x".into()),
            Reached::Unasked,
        ] {
            let known = meaning(letter(&reached)).unwrap();
            assert_eq!(known.is_loaded, !reached.is_missing(), "{reached:?}");
            // The same table waits, another does not.
            let waits = matches!(reached, Reached::NotLoaded(_) | Reached::NotDerived(_));
            let (own, other) = ("a".to_string(), "b".to_string());
            assert_eq!(*reached_by(&reached, Some(&own)), reached);
            assert_eq!(*reached_by(&reached, Some(&other)) != reached, waits);
        }
    }

    #[test]
    fn gaps_of_one_reason_are_told_together() {
        let mut gaps = Gaps::default();
        let failed = |why: &str| Reached::Failed(why.into());
        for (day, reached) in [
            ("2024-01-01", failed("x")),
            ("2024-01-02", failed("x")),
            ("2024-01-03", failed("y")),
            ("2024-01-04", Reached::Loaded),
            ("2024-01-05", failed("y")),
        ] {
            gaps.add(Partition::parse(day).unwrap(), Cow::Owned(reached));
        }
        let told = gaps.0.iter().filter_map(MissingDays::told);
        let told: Vec<_> = told.map(|gap| (gap.to, gap.partitions, gap.why)).collect();
        let gap = |to: &str, days, why: &str| (to.to_string(), days, format!("failed: {why}"));
        assert_eq!(
            told,
            [
                gap("2024-01-02", 2, "x"),
                gap("2024-01-03", 1, "y"),
                gap("2024-01-05", 1, "y")
            ]
        );
    }
}
