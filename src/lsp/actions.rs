//! Commands that look at rows: what a model makes of committed raw rows, and how that differs from what is committed.

use arrow::util::pretty::pretty_format_batches;
use chrono::NaiveDate;

use crate::catalog::{Catalog, did_you_mean};
use crate::config::Config;
use crate::error::Error;
use crate::pipeline::Pipeline;
use crate::plan::Dates;
use crate::redact;
use crate::sql_tests::Scratch;
use crate::transform::query;

/// The command that shows rows.
pub(super) const PREVIEW: &str = "samsara-etl.preview";
/// The command that shows what would change.
pub(super) const DIFF: &str = "samsara-etl.diff";
/// Rows that a preview shows.
const ROWS: usize = 20;
/// Rows that a diff shows of each kind.
const SAMPLES: usize = 5;
/// Memory for the query, in bytes.
const MEMORY: usize = 512 << 20;

/// What a command shows, as Markdown. Nothing is written.
pub(super) async fn run(
    command: &str,
    config: Config,
    catalog: Catalog,
    name: &str,
    day: Option<NaiveDate>,
) -> Result<String, Error> {
    let pipeline = Pipeline::looking(config, catalog)?;
    let model = pipeline.catalog().model(name).ok_or_else(|| {
        let names = pipeline.catalog().models().map(|model| model.name.as_str());
        let hint = did_you_mean(name, names);
        Error::Usage(format!("unknown model `{name}`, or it has problems{hint}"))
    })?;
    let mut text = format!("# {name}\n\n");
    if command == DIFF {
        let differ = pipeline.differ(model).await?;
        let end = day.and_then(|day| day.succ_opt());
        let partitions = differ.partitions(&Dates { start: day, end });
        if partitions.is_empty() {
            text.push_str("Nothing is committed: `samsara-etl run` reads and derives it.\n");
        }
        for partition in partitions {
            let diff = differ.diff(partition, SAMPLES).await?;
            text.push_str(&format!("```text\n{}\n```\n", shown(&diff.to_string())));
        }
        return Ok(text);
    }
    let scratch = Scratch::new()?;
    let (partition, table, found) = pipeline.preview(model, day, &scratch).await?;
    let sql = format!("SELECT * FROM \"{name}\" LIMIT {ROWS}");
    let mut rows = query(&sql, &[table], MEMORY).await?;
    let mut batches = Vec::new();
    while let Some(batch) = rows.next().await? {
        batches.push(batch);
    }
    let table = pretty_format_batches(&batches).map_err(|error| Error::System {
        what: "cannot show rows".into(),
        source: std::io::Error::other(error),
    })?;
    text.push_str(&format!(
        "{partition}: {} rows, of which at most {ROWS} are shown; nothing was written.\n\n",
        found.rows
    ));
    for test in &found.failed_tests {
        text.push_str(&format!("- {}\n", shown(&test.to_string())));
    }
    if let Some(duplicates) = &found.duplicates {
        text.push_str(&format!("- {}\n", shown(&duplicates.to_string())));
    }
    text.push_str(&format!("\n```text\n{}\n```\n", shown(&table.to_string())));
    Ok(text)
}

/// Without secrets and control characters.
fn shown(text: &str) -> String {
    redact::printable_lines(&redact::mask(text)).into_owned()
}
