//! The report as one HTML page that needs nothing beside itself: no request, no font, no script from elsewhere.
//!
//! A policy in the page allows exactly its own style sheet and script, by their digests; values are escaped by the
//! template engine, so that whatever a vehicle or an error message is called, it stays text.

pub mod calendar;
pub mod runs;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use minijinja::{Environment, ErrorKind, context};
use serde::Serialize;

use self::calendar::{CalendarLine, DayRow, LETTERS, Letter, Overview};
use self::runs::{Drift, EndpointUse, LoggedFailure, LoggedRun};
use super::shell::Shell;
use super::words::{counted, duration, grouped, size};

pub use super::shell::HtmlError;

const SHELL: Shell = Shell {
    page: include_str!("page.html"),
    style: include_str!("page.css"),
    script: include_str!("page.js"),
};

/// Everything that the page shows. The page also holds it as JSON.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Page {
    /// When the page was made.
    pub made_at: DateTime<Utc>,
    /// Version of the program.
    pub version: String,
    /// The raw bucket.
    pub raw: String,
    /// The warehouse: project and dataset, or folder.
    pub target: String,
    /// The first day of runs and calendar; none: the last run, and all days.
    pub since: Option<NaiveDate>,
    /// Runs, the newest first.
    pub runs: Vec<LoggedRun>,
    /// What was left out of the page, and why.
    pub notes: Vec<String>,
    /// Sources and the tables made of them.
    pub tables: Vec<Table>,
    /// Requests per second that Samsara allows, by endpoint.
    pub rates: BTreeMap<String, f64>,
}

/// What the state documents know of one table, or of a source that no table is made of.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Table {
    /// Name of the table.
    pub name: String,
    /// The source that gives it its partitions.
    pub source: String,
    /// `list`, `window`, `report` or `feed`.
    pub kind: &'static str,
    /// Records in the API's pages of all complete partitions.
    pub records: u64,
    /// Raw rows of all complete partitions.
    pub raw_rows: u64,
    /// Rows and readings left to the day that they belong to.
    pub out_of_window: u64,
    /// Values in `_rescued_data`.
    pub rescued: u64,
    /// Rows of the table in flattened Parquet; none for a source without tables.
    pub model_rows: Option<u64>,
    /// Those of them that are loaded, as derived.
    pub loaded_model_rows: u64,
    /// Rows that the warehouse reported for the same partitions.
    pub loaded_rows: u64,
    /// Why the token or the organisation does not have the source, if it does not.
    pub not_available: Option<String>,
    /// Whether the source was never requested.
    pub never_requested: bool,
    /// The newest day in the warehouse.
    pub newest: Option<NaiveDate>,
    /// Days from `newest` to the last day that is over.
    pub days_behind: Option<i64>,
    /// When a partition of it was last read whole.
    pub last_read: Option<DateTime<Utc>>,
    /// Partitions that were requested and are not in the warehouse.
    pub missing: u64,
    /// A list's letter, as in the calendar.
    pub list: Option<char>,
    /// The days.
    pub days: DayRow,
    /// What is missing, and why.
    pub gaps: Vec<Gap>,
    /// Gaps that are left out, since there are very many.
    pub gaps_left_out: u64,
}

/// Successive days that are missing for one reason.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gap {
    /// The first day, or `snapshot`.
    pub from: String,
    /// The last day.
    pub to: String,
    /// Number of partitions.
    pub partitions: u64,
    /// Why they are missing.
    pub why: String,
}

/// How the row counts of a table agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// Everything that was requested is loaded, and the warehouse has as many rows as were derived.
    Whole,
    /// All that is derived is loaded with as many rows, but some partitions are missing.
    Behind,
    /// Rows are derived and not loaded.
    Waiting,
    /// The warehouse reported another number of rows than were derived.
    Differs,
    /// The token or the organisation does not have the source.
    NotAvailable,
    /// Nothing was requested yet.
    Never,
    /// No table is made of the source.
    RawOnly,
}

impl Table {
    /// How its row counts agree.
    pub fn balance(&self) -> Balance {
        match self.model_rows {
            _ if self.not_available.is_some() => Balance::NotAvailable,
            _ if self.never_requested => Balance::Never,
            _ if self.loaded_rows != self.loaded_model_rows => Balance::Differs,
            Some(rows) if rows > self.loaded_model_rows => Balance::Waiting,
            _ if self.missing > 0 => Balance::Behind,
            Some(_) => Balance::Whole,
            None => Balance::RawOnly,
        }
    }
}

/// A table as the template wants it.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    table: &'a Table,
    balance: Balance,
    verdict: String,
    lines: Vec<CalendarLine>,
    list_letter: Option<&'static Letter>,
}

/// A run as the template wants it.
#[derive(Serialize)]
struct RunRow<'a> {
    #[serde(flatten)]
    run: &'a LoggedRun,
    seconds: f64,
    requests: u64,
    requests_per_second: f64,
    raw_rows: u64,
    model_rows: u64,
    loaded_rows: u64,
    loaded_bytes: u64,
    jobs: u64,
}

/// Requests to one endpoint in all runs shown.
#[derive(Serialize)]
struct EndpointRow {
    endpoint: String,
    #[serde(flatten)]
    used: EndpointUse,
    requests: u64,
    /// Per second, over the time of the runs.
    mean: f64,
    /// What Samsara allows per second.
    allowed: Option<f64>,
}

/// The template engine, with the filters of the page.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.add_filter("grouped", grouped);
    environment.add_filter("size", size);
    environment.add_filter("duration", |seconds: f64| {
        duration(Duration::from_secs_f64(seconds.clamp(0.0, 1e12)))
    });
    environment.add_filter("at", |at: String| {
        at.get(..16)
            .map_or_else(|| at.clone(), |at| at.replace('T', " ") + " UTC")
    });
    environment.add_filter("per_second", |rate: f64| match rate {
        rate if rate >= 9.95 => format!("{rate:.0}/s"),
        rate if rate >= 0.095 || rate == 0.0 => format!("{rate:.1}/s"),
        rate => format!("{:.1}/min", rate * 60.0),
    });
    environment.add_filter(
        "share",
        |part: f64, whole: f64| -> Result<f64, minijinja::Error> {
            match whole.is_finite() && part.is_finite() {
                true if whole > 0.0 => Ok((part / whole * 1000.0).clamp(0.0, 1000.0).round()),
                true => Ok(0.0),
                false => Err(minijinja::Error::new(
                    ErrorKind::InvalidOperation,
                    "not a number",
                )),
            }
        },
    );
    environment
}

impl Page {
    /// The page as HTML.
    ///
    /// # Errors
    /// A fault of the template, which the tests would show.
    pub fn render(&self) -> Result<String, HtmlError> {
        let rows: Vec<&DayRow> = self.tables.iter().map(|table| &table.days).collect();
        let overview: Option<Overview> = calendar::overview(&rows);
        let tables: Vec<Row<'_>> = self.tables.iter().map(row).collect();
        let runs: Vec<RunRow<'_>> = self.runs.iter().map(run_row).collect();
        let whole = tables
            .iter()
            .filter(|row| row.balance == Balance::Whole)
            .count();
        let behind = self.tables.iter().filter_map(|table| table.days_behind);
        let values = context! {
            page => self,
            runs,
            tables,
            overview,
            letters => LETTERS,
            endpoints => self.endpoints(),
            failures => self.failures(),
            failures_left_out => self.runs.iter().map(|run| run.failures_left_out).sum::<u64>(),
            drift => self.drift(),
            drift_left_out => self.runs.iter().map(|run| run.drift_left_out).sum::<u64>(),
            whole,
            with_model => self.tables.iter().filter(|table| table.model_rows.is_some()).count(),
            loaded_rows => self.tables.iter().map(|table| table.loaded_rows).sum::<u64>(),
            missing => self.tables.iter().map(|table| table.missing).sum::<u64>(),
            most_behind => behind.max().unwrap_or_default().max(1),
        };
        SHELL.render(environment(), values)
    }

    fn endpoints(&self) -> Vec<EndpointRow> {
        let seconds: f64 = self.runs.iter().map(LoggedRun::seconds).sum();
        let mut all: BTreeMap<&str, EndpointUse> = BTreeMap::new();
        for (endpoint, used) in self.runs.iter().flat_map(|run| &run.endpoints) {
            let sum = all.entry(endpoint).or_default();
            sum.pages += used.pages;
            sum.bytes += used.bytes;
            sum.retries += used.retries;
            sum.waited += used.waited;
            // The newest run comes first.
            sum.reason = sum.reason.take().or_else(|| used.reason.clone());
        }
        let mut rows: Vec<EndpointRow> = all
            .into_iter()
            .map(|(endpoint, used)| {
                let requests = used.pages + used.retries;
                EndpointRow {
                    requests,
                    mean: if seconds > 0.0 {
                        requests as f64 / seconds
                    } else {
                        0.0
                    },
                    allowed: self.rates.get(endpoint).copied(),
                    endpoint: endpoint.to_string(),
                    used,
                }
            })
            .collect();
        rows.sort_by(|one, other| {
            other
                .requests
                .cmp(&one.requests)
                .then_with(|| one.endpoint.cmp(&other.endpoint))
        });
        rows
    }

    /// Failures, each with the time of its run.
    fn failures(&self) -> Vec<(Option<DateTime<Utc>>, &LoggedFailure)> {
        let of = |run: &'_ LoggedRun| run.started_at;
        let all = self.runs.iter();
        all.flat_map(|run| run.failures.iter().map(move |failure| (of(run), failure)))
            .collect()
    }

    /// Drift of all runs, the most frequent first.
    fn drift(&self) -> Vec<Drift> {
        let mut all: BTreeMap<(&str, &str), Drift> = BTreeMap::new();
        for drift in self.runs.iter().flat_map(|run| &run.drift) {
            let none = || Drift {
                count: 0,
                examples: Vec::new(),
                ..drift.clone()
            };
            let sum = all
                .entry((drift.name.as_str(), drift.what.as_str()))
                .or_insert_with(none);
            sum.count += drift.count;
            if sum.examples.is_empty() {
                sum.examples.clone_from(&drift.examples);
            }
        }
        let mut all: Vec<Drift> = all.into_values().collect();
        all.sort_by_key(|drift| std::cmp::Reverse(drift.count));
        all
    }
}

fn row(table: &Table) -> Row<'_> {
    let balance = table.balance();
    let waiting = table
        .model_rows
        .unwrap_or_default()
        .saturating_sub(table.loaded_model_rows);
    let verdict = match balance {
        Balance::Whole => "agrees".to_string(),
        Balance::Behind => format!("agrees; {} missing", counted(table.missing, "partition")),
        Balance::Waiting => format!("{} not loaded", counted(waiting, "row")),
        Balance::Differs => format!(
            "differs: {} derived, {} in the warehouse",
            grouped(table.loaded_model_rows),
            grouped(table.loaded_rows)
        ),
        Balance::NotAvailable => "not available".into(),
        Balance::Never => "never requested".into(),
        Balance::RawOnly => "no table is made of it".into(),
    };
    Row {
        table,
        balance,
        verdict,
        lines: calendar::lines(&table.days),
        list_letter: table.list.and_then(calendar::meaning),
    }
}

fn run_row(run: &LoggedRun) -> RunRow<'_> {
    let sum = |of: fn(&runs::Work) -> u64| run.work.values().map(of).sum();
    let (seconds, requests) = (run.seconds(), run.pages + run.retries);
    RunRow {
        run,
        seconds,
        requests,
        requests_per_second: if seconds > 0.0 {
            requests as f64 / seconds
        } else {
            0.0
        },
        raw_rows: sum(|work| work.raw_rows),
        model_rows: sum(|work| work.model_rows),
        loaded_rows: sum(|work| work.loaded_rows),
        loaded_bytes: sum(|work| work.loaded_bytes),
        jobs: sum(|work| work.jobs),
    }
}

/// An endpoint with `{id}` instead of ids, so that the requests of a fan-out count together; a catalog's `{vehicle_id}`
/// likewise.
pub fn endpoint_template(path: &str) -> String {
    let is_id = |part: &str| {
        let digits = part.bytes().filter(u8::is_ascii_digit).count();
        part.starts_with('{') || (digits > 0 && (digits == part.len() || part.len() >= 16))
    };
    let parts = path
        .split('/')
        .map(|part| if is_id(part) { "{id}" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIL: &str = "</script><script>alert(1)</script><!-- \"'&amp;";

    /// A page on which everything that comes from outside is a script.
    fn evil() -> Page {
        let mut run = LoggedRun {
            run: EVIL.into(),
            reason: Some(EVIL.into()),
            ..LoggedRun::default()
        };
        run.drift.push(Drift {
            name: EVIL.into(),
            what: EVIL.into(),
            count: 2,
            examples: vec![EVIL.into()],
        });
        run.failures.push(LoggedFailure {
            name: EVIL.into(),
            partition: Some(EVIL.into()),
            error: EVIL.into(),
            remedy: Some(EVIL.into()),
        });
        run.skipped.insert(EVIL.into(), EVIL.into());
        run.work.insert(
            EVIL.into(),
            runs::Work {
                extract: Some((0.0, 1.0)),
                ..runs::Work::default()
            },
        );
        let used = EndpointUse {
            pages: 1,
            reason: Some(EVIL.into()),
            ..EndpointUse::default()
        };
        run.endpoints.insert(EVIL.into(), used);
        let gap = Gap {
            from: EVIL.into(),
            to: EVIL.into(),
            partitions: 1,
            why: EVIL.into(),
        };
        let table = Table {
            name: EVIL.into(),
            source: EVIL.into(),
            kind: "window",
            model_rows: Some(1234),
            days: DayRow {
                first: NaiveDate::from_ymd_opt(2024, 1, 30),
                letters: "#.!?".into(),
            },
            gaps: vec![gap],
            ..Table::default()
        };
        Page {
            raw: EVIL.into(),
            target: EVIL.into(),
            notes: vec![EVIL.into()],
            runs: vec![run],
            tables: vec![table],
            ..Page::default()
        }
    }

    #[test]
    fn whatever_a_value_says_stays_text() {
        let html = evil().render().unwrap();
        assert!(!html.contains("<script>alert") && !html.contains("</script><script>"));
        // The page's own two, and what was said is there as text.
        assert_eq!(html.matches("<script").count(), 2);
        assert_eq!(html.matches("</script>").count(), 2);
        assert!(html.contains("&lt;script&gt;alert(1)"));
        let (_, data) = html
            .split_once("<script type=\"application/json\" id=\"data\">")
            .unwrap();
        let (data, _) = data.split_once("</script>").unwrap();
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["tables"][0]["name"], EVIL);
        assert_eq!(data["tables"][0]["days"]["letters"], "#.!?");
    }

    #[test]
    fn nothing_is_asked_of_the_network() {
        let html = evil().render().unwrap();
        for outside in [
            "http:", "https:", "src=", "@import", "url(", "<link", "<iframe", "fetch(", "style=\"",
        ] {
            assert!(!html.contains(outside), "{outside}");
        }
        assert!(
            html.contains("default-src &#x27;none&#x27;"),
            "the policy stands"
        );
        // A page without runs or tables says so.
        let empty = Page::default().render().unwrap();
        assert!(
            empty.contains("no log of a run") && empty.contains("no table"),
            "{empty}"
        );
    }

    #[test]
    fn row_counts_agree_or_it_is_told() {
        let table = |model_rows, loaded_model_rows, loaded_rows, missing| Table {
            model_rows,
            loaded_model_rows,
            loaded_rows,
            missing,
            ..Table::default()
        };
        let cases = [
            (table(Some(5), 5, 5, 0), Balance::Whole),
            (table(Some(5), 5, 5, 1), Balance::Behind),
            (table(Some(5), 3, 3, 1), Balance::Waiting),
            (table(Some(5), 5, 4, 0), Balance::Differs),
            (table(None, 0, 0, 0), Balance::RawOnly),
            (
                Table {
                    not_available: Some("no scope".into()),
                    ..Table::default()
                },
                Balance::NotAvailable,
            ),
            (
                Table {
                    never_requested: true,
                    ..Table::default()
                },
                Balance::Never,
            ),
        ];
        for (table, expected) in cases {
            assert_eq!(table.balance(), expected, "{table:?}");
        }
    }

    #[test]
    fn requests_of_a_fan_out_count_together() {
        for (path, template) in [
            (
                "/fleet/vehicles/281474976710656/trips",
                "/fleet/vehicles/{id}/trips",
            ),
            (
                "/fleet/vehicles/{vehicle_id}/trips",
                "/fleet/vehicles/{id}/trips",
            ),
            ("/v1/fleet/trips", "/v1/fleet/trips"),
            ("/tags/0f1e2d3c-aaaa-bbbb-cccc-000000000001", "/tags/{id}"),
        ] {
            assert_eq!(endpoint_template(path), template);
        }
    }
}
