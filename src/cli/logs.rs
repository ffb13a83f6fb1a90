//! `logs`: failures and warnings of a run, from its log.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::Value;

use super::{Context, Exit};
use crate::error::Error;
use crate::redact;
use crate::report::words::{aligned, counted, wrapped};
use crate::store::Bucket;
use crate::store::layout::{LOGS, parse_log_file, parse_log_object};

/// Show what went wrong in a run, from its log: failures in full, warnings counted.
///
/// Logs lie in ./logs and, for runs elsewhere, in the raw bucket.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samsara-etl logs
  samsara-etl logs --list
  samsara-etl logs 20240131T0500 --all")]
pub(super) struct Logs {
    /// The run: the beginning of its id [default: the last run]
    run: Option<String>,
    /// List the runs that there are logs of
    #[arg(long)]
    list: bool,
    /// Show every line
    #[arg(long, conflicts_with = "list")]
    all: bool,
}

/// More logs than this are not listed.
const MOST_LISTED: usize = 100;
/// Maximum number of kinds of warnings that are shown; those of one kind are counted.
const MOST_WARNINGS: usize = 20;
/// A larger log is not read.
const LARGEST_LOG: u64 = 1 << 30;

/// Where a log is.
enum Place {
    File(std::path::PathBuf),
    Object(String),
}

impl Logs {
    pub(super) async fn execute(self, context: &Context) -> Result<Exit, Error> {
        let bucket = bucket(context)?;
        let mut logs = local(&context.directory.join(LOGS));
        for object in bucket.list_dated(LOGS).await? {
            let name = object
                .key
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .to_string();
            if let (Some(_), Some(at)) = (parse_log_object(&object.key), parse_log_file(&name)) {
                logs.entry((at, name)).or_insert(Place::Object(object.key));
            }
        }
        if self.list {
            return list(&bucket, &logs).await;
        }
        for (_, place) in logs.iter().rev() {
            let lines = read(&bucket, place).await?;
            let id = run_of(&lines);
            if self
                .run
                .as_ref()
                .is_none_or(|wanted| id.is_some_and(|id| id.starts_with(wanted.as_str())))
            {
                let width = super::output::data_width();
                super::output::print(match self.all {
                    true => lines.iter().map(|line| shown(line) + "\n").collect(),
                    false => told(&lines, width),
                })?;
                return Ok(Exit::Success);
            }
        }
        Err(Error::Usage(match self.run {
            Some(run) => {
                format!("there is no log of a run `{run}`: `samsara-etl logs --list` lists them")
            }
            None => "there is no log yet: runs write theirs to ./logs and to the raw bucket".into(),
        }))
    }
}

fn bucket(context: &Context) -> Result<Bucket, Error> {
    let config = super::options::reading_config(context)?;
    let io = tokio::runtime::Handle::current();
    Ok(Bucket::look(
        &config.storage.raw,
        &config.storage.google,
        &io,
    )?)
}

/// Logs by the start of their run.
fn local(folder: &Path) -> BTreeMap<(DateTime<Utc>, String), Place> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let logs = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        let at = parse_log_file(&name).filter(|_| is_file)?;
        Some(((at, name), Place::File(entry.path())))
    });
    logs.collect()
}

async fn read(bucket: &Bucket, place: &Place) -> Result<Vec<Value>, Error> {
    let text = match place {
        Place::File(path) => {
            let fault = |source| Error::System {
                what: format!("cannot read {}", path.display()),
                source,
            };
            if std::fs::metadata(path).map_err(fault)?.len() > LARGEST_LOG {
                return Err(Error::Usage(format!(
                    "{} is too large to be shown",
                    path.display()
                )));
            }
            std::fs::read(path).map_err(fault)?
        }
        Place::Object(key) => bucket
            .read(key)
            .await?
            .map(|(bytes, _)| bytes.to_vec())
            .unwrap_or_default(),
    };
    // A truncated line, such as the last one of a killed run, is left out.
    let lines = text.split(|byte| *byte == b'\n');
    Ok(lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect())
}

fn run_of(lines: &[Value]) -> Option<&str> {
    lines.iter().find_map(|line| line["run"].as_str())
}

async fn list(
    bucket: &Bucket,
    logs: &BTreeMap<(DateTime<Utc>, String), Place>,
) -> Result<Exit, Error> {
    let mut rows = Vec::new();
    for ((at, name), place) in logs.iter().rev().take(MOST_LISTED) {
        let lines = read(bucket, place).await?;
        let errors = lines.iter().filter(|line| line["level"] == "ERROR").count() as u64;
        let end = lines.iter().rev().find_map(|line| {
            line["fields"]["outcome"]
                .as_str()
                .filter(|_| message(line) == "run ended")
        });
        rows.push(vec![
            at.format("%Y-%m-%d %H:%M:%S").to_string(),
            run_of(&lines).unwrap_or(name).to_string(),
            end.unwrap_or(if errors > 0 { "failed" } else { "not finished" })
                .to_string(),
            counted(errors, "failure"),
        ]);
    }
    let header = ["started", "run", "ended", "failures"];
    super::output::print(aligned(&header, rows, &[], super::output::data_width()))?;
    Ok(Exit::Success)
}

fn message(line: &Value) -> &str {
    line["fields"]["message"].as_str().unwrap_or_default()
}

/// A line's own fields, and what it is about, as text.
fn shown(line: &Value) -> String {
    let mut text = String::new();
    let at = line["timestamp"].as_str().unwrap_or_default();
    let level = line["level"].as_str().unwrap_or_default();
    // Writing into a String cannot fail.
    let _ = write!(text, "{at} {level:>5} {}", message(line));
    for (name, value) in line["fields"].as_object().into_iter().flatten() {
        if name != "message" {
            let _ = write!(text, " {name}={value}");
        }
    }
    for name in ["table", "partition", "job_id", "endpoint"] {
        if let Some(value) = line
            .get(name)
            .filter(|_| line["fields"].get(name).is_none())
        {
            let _ = write!(text, " {name}={value}");
        }
    }
    redact::one_line(text)
}

/// The lines that tell one failure.
fn failure(line: &Value) -> Vec<String> {
    let (table, partition, fields) = (&line["table"], &line["partition"], &line["fields"]);
    let place = [table, partition].map(|it| it.as_str().unwrap_or_default());
    let place = place.join(" ");
    let error = fields["error"].as_str().unwrap_or_else(|| message(line));
    let failed = redact::one_line(format_args!("failed: {}: {error}", place.trim()));
    let hint = fields["remedy"].as_str();
    let hint = hint.map(|remedy| redact::one_line(format_args!("    hint: {remedy}")));
    [failed].into_iter().chain(hint).collect()
}

/// The failures in full, and how often each warning came.
fn told(lines: &[Value], width: Option<usize>) -> String {
    let mut text = String::new();
    let mut put = |line: String| {
        text += &width.map_or(line.clone(), |width| wrapped(&line, width, 4));
        text.push('\n');
    };
    let started = lines
        .first()
        .and_then(|line| line["timestamp"].as_str())
        .unwrap_or_default();
    put(format!(
        "run {}, begun {started}",
        run_of(lines).unwrap_or("(without an id)")
    ));
    let (mut failures, mut warnings) = (0, BTreeMap::<(String, String), u64>::new());
    for line in lines {
        let table = line["table"].as_str().unwrap_or_default();
        match line["level"].as_str() {
            Some("ERROR") => {
                failures += 1;
                failure(line).into_iter().for_each(&mut put);
            }
            Some("WARN") => {
                let key = (message(line).to_string(), table.to_string());
                *warnings.entry(key).or_default() += 1;
            }
            _ => {}
        }
    }
    if failures == 0 {
        put("no failures".into());
    }
    for ((message, table), count) in warnings.iter().take(MOST_WARNINGS) {
        let table = if table.is_empty() {
            String::new()
        } else {
            format!(" ({table})")
        };
        put(redact::one_line(format_args!(
            "warning: {message}{table}, {}",
            counted(*count, "time")
        )));
    }
    if warnings.len() > MOST_WARNINGS {
        put(format!(
            "… and {} more kinds of warnings (--all)",
            warnings.len() - MOST_WARNINGS
        ));
    }
    let end = lines.iter().rev().find(|line| message(line) == "run ended");
    let outcome = end.and_then(|line| line["fields"]["outcome"].as_str());
    put(format!(
        "ended: {}",
        outcome.unwrap_or("without its end in the log")
    ));
    text
}
