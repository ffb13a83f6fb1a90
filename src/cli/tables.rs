//! `tables`: lists the catalog.

use clap::Args;

use super::json::{self, OutputFormat};
use super::{Context, Exit};
use crate::catalog::{Catalog, Model};
use crate::error::Error;

/// List sources and the tables made from them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samsara-etl tables
  samsara-etl tables --format json")]
pub(super) struct Tables {
    /// Print a Markdown table, for docs/tables.md
    #[arg(long, conflicts_with = "format")]
    markdown: bool,
    /// How to print them: in words, or as one JSON object (docs/json.md)
    #[arg(long, value_enum, default_value = "text")]
    format: OutputFormat,
}

impl Tables {
    pub(super) fn execute(self, context: &Context) -> Result<Exit, Error> {
        let catalog = context.catalog()?;
        if self.format == OutputFormat::Json {
            json::print(&json::TablesDocument::of(&catalog))?;
            return Ok(Exit::Success);
        }
        super::output::print(if self.markdown {
            markdown(&catalog)
        } else {
            plain(&catalog)
        })?;
        Ok(Exit::Success)
    }
}

fn plain(catalog: &Catalog) -> String {
    let mut text = String::new();
    for source in catalog.sources() {
        let category = source.category.map_or(String::new(), |category| {
            format!(", {category:?}").to_lowercase()
        });
        let kind = format!("{:?}", source.kind).to_lowercase();
        let optional = if source.optional { ", optional" } else { "" };
        let on_request = source
            .on_request
            .as_ref()
            .map_or(String::new(), |reason| format!(" On request: {reason}."));
        text += &format!(
            "{} ({kind}{category}{optional}): {}{on_request}\n",
            source.name, source.description
        );
        for model in catalog.models_of(&source.name) {
            text += &plain_model(model);
        }
    }
    for model in catalog.models().filter(|it| !it.upstream.is_empty()) {
        let tables = model.upstream.join(", ");
        text += &format!("{tables}\n{}", plain_model(model));
    }
    text
}

/// The tables of a model.
fn plain_model(model: &Model) -> String {
    let mut text = format!("  {}: {}\n", model.name, model.front_matter.description);
    if let Some(history) = model.history_table() {
        text += &format!("  {history}: Each version of these rows.\n");
    }
    text
}

fn markdown(catalog: &Catalog) -> String {
    let mut text = String::from(
        "| table | source | partitioned by | what a row is |\n| --- | --- | --- | --- |\n",
    );
    for model in catalog.models() {
        let partition = model.front_matter.partition_by.as_deref().unwrap_or("");
        let inputs = model.sources.iter().chain(&model.upstream);
        let sources = inputs.map(String::as_str).collect::<Vec<_>>().join(", ");
        text += &format!(
            "| {} | {sources} | {partition} | {} |\n",
            model.name, model.front_matter.description
        );
    }
    text
}
