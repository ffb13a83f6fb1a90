//! `sql`: work on models without running anything.

use clap::Subcommand;

use super::{Context, Exit};
use crate::catalog::Catalog;
use crate::error::Error;
use crate::pipeline::fixtures::test_model;
use crate::transform::bind;

/// Work on models without running anything.
#[derive(Debug, Subcommand)]
pub(super) enum Sql {
    /// Bind every model against the declared schemas: typos, missing columns, types that BigQuery cannot hold
    Check,
    /// Run the tests beside the models: sql/<family>/tests/<model>.pages.json and <model>.expected.csv
    Test {
        /// Models to test [default: all]
        models: Vec<String>,
    },
}

impl Sql {
    pub(super) async fn execute(self, context: &Context) -> Result<Exit, Error> {
        let catalog = context.catalog()?;
        let (mut good, mut bad) = (0, 0);
        match self {
            Self::Check => {
                for model in catalog.models() {
                    tell(&mut good, &mut bad, bind(&catalog, model).await.map(|_| ()).map_err(|e| e.to_string()));
                }
            }
            Self::Test { models } => {
                let folder = context.sql_folder().ok_or_else(|| {
                    Error::Usage("tests lie beside the models: run in a folder with sql/, or give --sql-dir".into())
                })?;
                check_names(&catalog, &models)?;
                for model in catalog.models().filter(|model| models.is_empty() || models.contains(&model.name)) {
                    let tests = folder.join(&model.family).join("tests");
                    let result = test_model(&catalog, model, &tests).await;
                    tell(&mut good, &mut bad, result.map_err(|error| format!("{}: {error}", model.name)));
                }
            }
        }
        eprintln!("{good} models are fine, {bad} are not ({})", catalog.origin);
        Ok(if bad == 0 { Exit::Success } else { Exit::Failure })
    }
}

fn tell(good: &mut u64, bad: &mut u64, result: Result<(), String>) {
    match result {
        Ok(()) => *good += 1,
        Err(error) => {
            *bad += 1;
            eprintln!("error: {error}");
        }
    }
}

fn check_names(catalog: &Catalog, models: &[String]) -> Result<(), Error> {
    match models.iter().find(|name| catalog.model(name).is_none()) {
        None => Ok(()),
        Some(name) => {
            let known = catalog.models().map(|model| model.name.as_str());
            let hint = crate::catalog::did_you_mean(name, known);
            Err(Error::Usage(format!("there is no model `{name}`{hint}")))
        }
    }
}
