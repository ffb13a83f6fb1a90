//! The end of a run in words: what came, what changed, what failed and what to do about it.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};

use super::words::{aligned, counted, duration, grouped, size, wrapped};
use super::{Failure, ModelReport, RunReport, SourceReport};
use crate::events::LoadPurpose;
use crate::redact;

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// What matters.
    Short,
    /// Everything that the report holds, up to fifty lines of a kind.
    Full,
    /// What went wrong, and nothing else.
    Failures,
}

/// A report in words.
#[derive(Debug, Clone, Copy)]
pub struct Summary<'a> {
    /// The report.
    pub report: &'a RunReport,
    /// How much is said.
    pub detail: Detail,
    /// Columns at which long lines are folded; without, messages stay on one line each, so that programs can find them.
    pub width: Option<usize>,
}

impl Summary<'_> {
    /// So many lines of one kind are printed.
    fn most(&self) -> usize {
        match self.detail {
            Detail::Full => 50,
            Detail::Short | Detail::Failures => 8,
        }
    }

    /// A line, folded if it has to be.
    fn line(&self, f: &mut fmt::Formatter<'_>, line: &str) -> fmt::Result {
        match self.width {
            Some(width) => writeln!(f, "{}", wrapped(line, width, 4)),
            None => writeln!(f, "{line}"),
        }
    }

    /// How many lines are left out.
    fn further(&self, f: &mut fmt::Formatter<'_>, lines: usize, hint: &str) -> fmt::Result {
        match lines.saturating_sub(self.most()) {
            0 => Ok(()),
            more => writeln!(f, "  … and {more} more: {hint}"),
        }
    }

    fn table(
        &self,
        f: &mut fmt::Formatter<'_>,
        header: &[&str],
        rows: Vec<Vec<String>>,
    ) -> fmt::Result {
        let numbers: Vec<usize> = (1..header.len()).collect();
        writeln!(f, "{}", aligned(header, rows, &numbers, self.width))
    }

    fn tables(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RunReport {
            sources, models, ..
        } = self.report;
        if self.detail == Detail::Full && !sources.is_empty() {
            let rows = sources.iter().map(|(name, source)| {
                let SourceReport {
                    partitions,
                    rows,
                    unchanged,
                    rescued,
                    ..
                } = source;
                let numbers = [partitions, rows, unchanged, rescued].map(|it| grouped(*it));
                [vec![name.clone()], numbers.to_vec()].concat()
            });
            let header = ["source", "partitions", "raw rows", "unchanged", "rescued"];
            self.table(f, &header, rows.collect())?;
        }
        // One table needs no table: the line below has its numbers.
        let least = if self.detail == Detail::Full { 1 } else { 2 };
        if models.len() >= least {
            let most = if self.detail == Detail::Full {
                usize::MAX
            } else {
                20
            };
            let rows = models.iter().take(most).map(|(name, model)| {
                let ModelReport {
                    transformed,
                    rows,
                    loaded,
                    loaded_rows,
                } = model;
                let numbers = [transformed, rows, loaded, loaded_rows].map(|it| grouped(*it));
                [vec![name.clone()], numbers.to_vec()].concat()
            });
            self.table(
                f,
                &["table", "derived", "rows", "loaded", "rows"],
                rows.collect(),
            )?;
            if models.len() > most {
                writeln!(
                    f,
                    "… and {} more tables (--summary full shows all)\n",
                    models.len() - most
                )?;
            }
        }
        Ok(())
    }

    /// What came and what was made of it, in a line each.
    fn numbers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RunReport {
            sources,
            models,
            pages,
            page_bytes,
            delayed_requests,
            waited,
            ..
        } = self.report;
        let sum = |number: fn(&SourceReport) -> u64| sources.values().map(number).sum::<u64>();
        let mut read = format!("read     {} pages, {}", grouped(*pages), size(*page_bytes));
        if !sources.is_empty() {
            let (records, rows) = (sum(|source| source.records), sum(|source| source.rows));
            read += &format!(
                ", {}, {}",
                counted(records, "record"),
                counted(rows, "raw row")
            );
            if rows > records {
                // A response may hold readings for several tables, and of several days.
                read += " (one for each table and day in a record)";
            }
        }
        if *delayed_requests > 0 {
            read += &format!(", {} retried", counted(*delayed_requests, "request"));
        }
        if waited.as_secs() > 0 {
            // Of requests that wait at the same time, each counts.
            read += &format!(
                ", rate limits delayed requests by {} in all",
                duration(*waited)
            );
        }
        self.line(f, &read)?;
        let unchanged = sum(|source| source.unchanged);
        if unchanged > 0 {
            self.line(
                f,
                &format!("         {} as before", counted(unchanged, "partition")),
            )?;
        }
        type Number = fn(&ModelReport) -> u64;
        let kinds: [(&str, Number, Number); 2] = [
            ("derived ", |model| model.transformed, |model| model.rows),
            ("loaded  ", |model| model.loaded, |model| model.loaded_rows),
        ];
        for (what, partitions, rows) in kinds {
            let tables = models
                .values()
                .filter(|model| partitions(model) > 0)
                .count() as u64;
            if tables > 0 {
                let line = format!(
                    "{what} {} of {}, {}",
                    counted(models.values().map(partitions).sum(), "partition"),
                    counted(tables, "table"),
                    counted(models.values().map(rows).sum(), "row")
                );
                self.line(f, &line)?;
            }
        }
        self.jobs(f)
    }

    /// The load jobs, which cost quota; nothing where the warehouse has none.
    fn jobs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loads = &self.report.loads;
        let jobs: u64 = loads.values().map(|loads| loads.jobs).sum();
        if jobs == 0 {
            return Ok(());
        }
        let kinds = loads.iter().filter(|(_, loads)| loads.jobs > 0);
        let kinds = kinds.map(|(purpose, loads)| {
            let what = match purpose {
                LoadPurpose::Table => "of tables",
                LoadPurpose::Raw => "of raw tables",
                LoadPurpose::Trial => "on trial",
                LoadPurpose::Audit => "of audit tables",
            };
            format!("{} {what}", grouped(loads.jobs))
        });
        let kinds: Vec<String> = kinds.collect();
        let seconds = loads.values().map(|loads| loads.elapsed).sum();
        let line = format!(
            "         {}: {}; {} in all",
            counted(jobs, "load job"),
            kinds.join(", "),
            duration(seconds)
        );
        self.line(f, &line)
    }

    fn list(
        &self,
        f: &mut fmt::Formatter<'_>,
        title: &str,
        counts: &BTreeMap<String, u64>,
        hint: &str,
    ) -> fmt::Result {
        if counts.is_empty() {
            return Ok(());
        }
        self.line(f, title)?;
        for (what, count) in counts.iter().take(self.most()) {
            self.line(f, &format!("  {what}: {count}"))?;
        }
        self.further(f, counts.len(), hint)
    }

    fn surprises(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.report;
        let title = "schema drift (kept in _rescued_data):";
        self.list(f, title, &report.drift, "see `samsara-etl sources drift`")?;
        self.outside(f)?;
        let title = "envelope fields of pages without rows (kept here and in the log only):";
        self.list(f, title, &report.envelope, "see the log")?;
        self.unfit_times(f)?;
        self.accepted_duplicates(f)
    }

    fn outside(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outside = &self.report.outside;
        if outside.is_empty() {
            return Ok(());
        }
        self.line(
            f,
            "far outside the requested days and not in any table (examples are in the log):",
        )?;
        let instant = |at: &DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        for (source, found) in outside.iter().take(self.most()) {
            let example = found.examples.first();
            let example = example.map(|example| format!(", e.g. {example}"));
            let (first, last) = (instant(&found.first), instant(&found.last));
            let (count, example) = (found.count, example.unwrap_or_default());
            let line = format!("  {source}: {count}, from {first} to {last}{example}");
            self.line(f, &line)?;
        }
        self.further(f, outside.len(), "see the log")
    }

    fn unfit_times(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unfit_times = &self.report.unfit_times;
        if unfit_times.is_empty() {
            return Ok(());
        }
        self.line(
            f,
            "schema drift (not valid times: NULL in the table, the text stays in the raw rows):",
        )?;
        for (column, found) in unfit_times.iter().take(self.most()) {
            let texts = found.texts.iter();
            let texts = texts.map(|(text, count)| format!("{text} ({count})"));
            let texts: Vec<String> = texts.take(self.most()).collect();
            let examples = match texts.is_empty() {
                true => String::new(),
                false => format!(": {}", texts.join(", ")),
            };
            let (count, first) = (found.count, &found.first);
            let line = format!("  {column}: {count}, first in {first}{examples}");
            self.line(f, &line)?;
        }
        self.further(f, unfit_times.len(), "see the log")
    }

    fn accepted_duplicates(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let accepted = &self.report.accepted_duplicates;
        for (table, found) in accepted.iter().take(self.most()) {
            let (partitions, example) = (found.partitions, &found.example);
            let line = format!(
                "accepted: {table} has duplicate keys in {partitions} partitions, such as {example}"
            );
            self.line(f, &line)?;
        }
        self.further(f, accepted.len(), "see the log")
    }

    fn failures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.detail != Detail::Failures {
            self.notes(f)?;
        }
        let alike = self.alike_failures();
        let mut remedies: Vec<&str> = Vec::new();
        for (failure, more) in alike.iter().take(self.most()) {
            let more = match more {
                0 => String::new(),
                more => format!(" (and {} of this table)", counted(*more as u64, "failure")),
            };
            let error = redact::one_line(named(&failure.name, &failure.error));
            self.line(f, &format!("failed: {error}{more}"))?;
            let remedy = failure.remedy.as_deref();
            remedies.extend(remedy.filter(|remedy| !remedies.contains(remedy)));
        }
        self.further(f, alike.len(), "see `samsara-etl logs`")?;
        for remedy in remedies {
            self.line(f, &format!("hint: {remedy}"))?;
        }
        Ok(())
    }

    fn notes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RunReport {
            not_available,
            notes,
            further_notes,
            ..
        } = self.report;
        let none = BTreeMap::new();
        for (what, reasons, further) in [
            ("not available", not_available, &none),
            ("note", notes, further_notes),
        ] {
            for (name, reason) in reasons.iter().take(self.most()) {
                let reason = redact::one_line(named(name, reason));
                let more = match further.get(name) {
                    None => String::new(),
                    Some(more) => format!(" (and {} in the log)", counted(*more, "further note")),
                };
                self.line(f, &format!("{what}: {reason}{more}"))?;
            }
            self.further(f, reasons.len(), "see the log")?;
        }
        Ok(())
    }

    /// Failures, each with the number of further ones like it: a table that fails day by day fails for one reason.
    fn alike_failures(&self) -> Vec<(&Failure, usize)> {
        let mut alike: Vec<(&Failure, usize)> = Vec::new();
        for failure in &self.report.failures {
            let is_alike = |(other, _): &&mut (&Failure, usize)| {
                self.detail != Detail::Full
                    && other.name == failure.name
                    && other.kind == failure.kind
            };
            match alike.iter_mut().find(is_alike) {
                Some((_, count)) => *count += 1,
                None => alike.push((failure, 0)),
            }
        }
        alike
    }

    /// How it ended, and what to do next.
    fn end(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RunReport {
            idle,
            cancelled,
            failures,
            elapsed,
            not_available,
            ..
        } = self.report;
        let took = duration(*elapsed);
        let failed = counted(failures.len() as u64, "failure");
        let line = match (idle, cancelled, failures.is_empty()) {
            (_, true, true) => {
                format!(
                    "stopped early after {took}: completed work is kept, and the next run continues from there"
                )
            }
            (_, true, false) => format!(
                "stopped early after {took}, with {failed}: completed work is kept, and the next run \
                 continues from there"
            ),
            (Some(idle), ..) => idle.to_string(),
            (None, false, false) if !self.report.did_something() => {
                format!(
                    "nothing was done, {failed}: fix what is reported above and run again (`samsara-etl logs`)"
                )
            }
            (None, false, false) => format!(
                "done in {took} but for {failed}: completed work is kept; the next run tries the rest again \
                 (`samsara-etl logs` shows them in full)"
            ),
            (None, false, true) if !self.report.did_something() && not_available.is_empty() => {
                format!("nothing was done in {took}")
            }
            (None, false, true) => {
                format!("done in {took}; `samsara-etl status` shows what each table holds")
            }
        };
        self.line(f, &line)
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.detail == Detail::Failures {
            return self.failures(f);
        }
        self.tables(f)?;
        self.numbers(f)?;
        self.surprises(f)?;
        self.failures(f)?;
        self.end(f)
    }
}

/// Most messages begin with the table's name; the others get it.
fn named(name: &str, message: &str) -> String {
    if message.starts_with(name) {
        message.to_string()
    } else {
        format!("{name}: {message}")
    }
}

impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let summary = Summary {
            report: self,
            detail: Detail::Full,
            width: None,
        };
        summary.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::UnfitReport;
    use super::*;
    use crate::events::FailureKind;
    use crate::report::{Idle, LoadReport};

    fn failure(
        name: &str,
        day: u32,
        kind: FailureKind,
        error: &str,
        remedy: Option<&str>,
    ) -> Failure {
        Failure {
            name: name.into(),
            partition: Some(format!("2024-01-{day:02}")),
            error: format!("{name} 2024-01-{day:02}: {error}"),
            kind,
            remedy: remedy.map(str::to_string),
        }
    }

    /// A run of three tables that was not without surprises.
    fn eventful() -> RunReport {
        let mut report = RunReport {
            run: "20240110T050000Z-1a2b3c4d".into(),
            pages: 1234,
            page_bytes: 56_700_000,
            delayed_requests: 3,
            waited: Duration::from_secs(75),
            elapsed: Duration::from_secs(192),
            ..RunReport::default()
        };
        for (name, partitions, rows) in [("fleet_trips", 31, 12_345), ("fleet_vehicles", 1, 60)] {
            let source = SourceReport {
                partitions,
                records: rows,
                rows,
                unchanged: 1,
                ..SourceReport::default()
            };
            report.sources.insert(name.into(), source);
            let model = ModelReport {
                transformed: partitions,
                rows,
                loaded: partitions,
                loaded_rows: rows,
            };
            report.models.insert(name.into(), model);
        }
        for (purpose, jobs, seconds) in [
            (LoadPurpose::Table, 32, 95),
            (LoadPurpose::Trial, 1, 4),
            (LoadPurpose::Audit, 2, 6),
        ] {
            let loads = LoadReport {
                loads: jobs,
                jobs,
                failed: 0,
                elapsed: Duration::from_secs(seconds),
            };
            report.loads.insert(purpose, loads);
        }
        let drift =
            (1..=12).map(|field| (format!("fleet_trips: $.new{field:02} (unknown field)"), 17));
        report.drift = drift.collect();
        let unfit = UnfitReport {
            count: 2,
            texts: [("\"soon\"".to_string(), 2)].into(),
            first: "2024-01-03".into(),
        };
        report
            .unfit_times
            .insert("fleet_trips.startTime".into(), unfit);
        report.not_available.insert(
            "fleet_tags".into(),
            "fleet_tags: /tags does not exist for this organisation (404)".into(),
        );
        let long = "GET /fleet/reports/ifta/vehicle is not permitted (403): the token lacks the scope \"Read IFTA (US)\"";
        let remedy =
            Some("give the token the scope in Settings > API Tokens, or leave the table out");
        report.failures = (1..=31)
            .map(|day| failure("fuel_reports", day, FailureKind::NotPermitted, long, remedy))
            .chain([failure(
                "fleet_trips",
                9,
                FailureKind::ApiUnavailable,
                "no answer after 6 tries (503)",
                None,
            )])
            .collect();
        report
    }

    fn shown(report: &RunReport, detail: Detail) -> String {
        let width = Some(80);
        let text = Summary {
            report,
            detail,
            width,
        }
        .to_string();
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        text
    }

    #[test]
    fn a_summary_says_what_matters_in_eighty_columns() {
        insta::assert_snapshot!("eventful", shown(&eventful(), Detail::Short));
        insta::assert_snapshot!("eventful_full", shown(&eventful(), Detail::Full));
        insta::assert_snapshot!("eventful_failures", shown(&eventful(), Detail::Failures));
        // A program finds each message on a line of its own.
        let text = Summary {
            report: &eventful(),
            detail: Detail::Short,
            width: None,
        }
        .to_string();
        let failed: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("failed: "))
            .collect();
        assert!(
            failed.len() == 2 && failed[0].contains("\"Read IFTA (US)\""),
            "{text}"
        );
    }

    #[test]
    fn raw_rows_beyond_records_are_explained() {
        for (rows, said) in [
            (4, "4 records, 4 raw rows\n"),
            (
                10,
                "4 records, 10 raw rows (one for each table and day in a record)\n",
            ),
        ] {
            let mut report = RunReport::default();
            let source = SourceReport {
                records: 4,
                rows,
                ..SourceReport::default()
            };
            report.sources.insert("fleet_trips".into(), source);
            let text = shown(&report, Detail::Short);
            let text = text.replace("\n    ", " ");
            assert!(text.contains(said), "{text}");
        }
    }

    #[test]
    fn a_summary_is_true_however_the_run_ended() {
        let nothing = RunReport {
            elapsed: Duration::from_secs(2),
            ..RunReport::default()
        };
        let unreachable = RunReport {
            failures: vec![Failure {
                name: "extract".into(),
                partition: None,
                error: "cannot tell the region of the API token".into(),
                kind: FailureKind::ApiUnavailable,
                remedy: Some("set SAMSARA_REGION".into()),
            }],
            ..nothing.clone()
        };
        let day = "2999-01-01".parse().unwrap();
        let idle = |idle| RunReport {
            idle: Some(idle),
            ..nothing.clone()
        };
        let stopped = |report: &RunReport| RunReport {
            cancelled: true,
            ..report.clone()
        };
        let quiet = RunReport {
            drift: BTreeMap::new(),
            unfit_times: BTreeMap::new(),
            not_available: BTreeMap::new(),
            failures: Vec::new(),
            ..eventful()
        };
        let (unread, not_derived, not_loaded) = (2, 1, 0);
        let cases = [
            ("all well", quiet),
            ("stopped at once", stopped(&nothing)),
            ("stopped with failures", stopped(&unreachable)),
            ("nothing reachable", unreachable),
            ("the future", idle(Idle::NotBegun(day))),
            ("complete", idle(Idle::Complete)),
            ("nothing available", idle(Idle::NotAvailable)),
            (
                "missing",
                idle(Idle::Missing {
                    unread,
                    not_derived,
                    not_loaded,
                }),
            ),
        ];
        let texts =
            cases.map(|(name, report)| format!("== {name}\n{}", shown(&report, Detail::Short)));
        insta::assert_snapshot!("endings", texts.join("\n"));
    }
}
