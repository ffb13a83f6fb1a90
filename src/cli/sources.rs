//! `sources`: work on the declarations of `sources.toml`.

use arrow::array::AsArray;
use clap::Subcommand;

use super::output::say;
use super::query::raw_table;
use super::{Context, Exit};
use crate::catalog::{Catalog, Drifted, Source, did_you_mean};
use crate::error::Error;
use crate::pipeline::Pipeline;
use crate::transform::query;

/// Memory for reading one column of one source.
const MEMORY: usize = 256 << 20;

/// Work with the declarations of sources.toml.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  samsara-etl sources drift")]
pub(super) enum Sources {
    /// Propose schemas for fields that the API sends and sources.toml does not declare, from `_rescued_data` of all raw rows
    #[command(
        after_help = "Examples:\n  samsara-etl sources drift\n  samsara-etl sources drift fleet_trips"
    )]
    Drift {
        /// Sources to look at [default: all]
        sources: Vec<String>,
    },
}

impl Sources {
    pub(super) async fn execute(self, context: &Context) -> Result<Exit, Error> {
        let Self::Drift { sources } = self;
        let catalog = context.catalog()?;
        check_names(&catalog, &sources)?;
        let pipeline = Pipeline::looking(super::options::reading_config(context)?, catalog)?;
        let (mut found, mut proposed) = (0, 0);
        for source in pipeline
            .catalog()
            .sources()
            .filter(|it| sources.is_empty() || sources.contains(&it.name))
        {
            let drifted = drifted(&pipeline, source).await?;
            if drifted.rows == 0 {
                continue;
            }
            found += 1;
            let proposal = drifted.propose(&source.fields);
            let mut text = format!(
                "# {}/sources.toml: {} rows of {}\n",
                source.family, drifted.rows, source.name
            );
            for note in &proposal.notes {
                text += &format!("#   {note}\n");
            }
            if let Some(schema) = proposal.schema {
                proposed += 1;
                let lines: String = schema.lines().map(|line| format!("  {line}\n")).collect();
                text += &format!("[{}]\nschema = \"\"\"\n{lines}\"\"\"\n", source.name);
            }
            super::output::print(text + "\n")?;
        }
        say(format_args!(
            "{found} sources have values that do not fit their schema; {proposed} schemas proposed"
        ));
        if proposed > 0 {
            say(format_args!(
                "existing rows get the new columns when their days are read again: samsara-etl run --historical"
            ));
        }
        Ok(Exit::Success)
    }
}

async fn drifted(pipeline: &Pipeline, source: &Source) -> Result<Drifted, Error> {
    let table = raw_table(pipeline, source).await?;
    let sql = format!(
        "SELECT _rescued_data FROM raw.\"{}\" WHERE _rescued_data IS NOT NULL",
        source.name
    );
    let mut drifted = Drifted::default();
    let mut result = query(&sql, &[table], MEMORY).await?;
    while let Some(batch) = result.next().await? {
        for rescued in batch.column(0).as_string::<i32>().iter().flatten() {
            drifted.add(rescued).map_err(|error| {
                Error::Usage(format!(
                    "{}: `_rescued_data` is not a JSON object: {error}",
                    source.name
                ))
            })?;
        }
    }
    Ok(drifted)
}

fn check_names(catalog: &Catalog, names: &[String]) -> Result<(), Error> {
    match names.iter().find(|name| catalog.source(name).is_none()) {
        None => Ok(()),
        Some(name) => {
            let hint = did_you_mean(name, catalog.sources().map(|source| source.name.as_str()));
            Err(Error::Usage(format!("unknown source `{name}`{hint}")))
        }
    }
}
