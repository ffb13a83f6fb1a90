//! What a model makes of committed raw rows, before anything is written for good.

use chrono::{NaiveDate, Utc};
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::Pipeline;
use super::transform_stage::inputs;
use crate::catalog::Model;
use crate::config::{BucketLocation, GoogleAccess};
use crate::error::Error;
use crate::store::Bucket;
use crate::store::layout::{Partition, RunId};
use crate::transform::{Flattened, QueryTable, Transformer, bind};

/// A folder for what nobody keeps. It goes when this is dropped.
pub struct Scratch {
    bucket: Bucket,
    /// Goes with the folder.
    _folder: TempDir,
}

impl Scratch {
    /// A new folder among the system's temporary files, which nobody else may read. Must be called on a tokio runtime.
    pub fn new() -> Result<Self, Error> {
        let folder = tempfile::Builder::new().prefix("samsara-etl-").tempdir();
        let folder = folder.map_err(|source| Error::System {
            what: "cannot make a folder for temporary files".into(),
            source,
        })?;
        let location = BucketLocation::Folder(folder.path().into());
        let bucket = Bucket::open(&location, &GoogleAccess::default(), &Handle::current())?;
        Ok(Self {
            _folder: folder,
            bucket,
        })
    }

    /// The folder as a bucket.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }
}

impl Pipeline {
    /// Runs a model over the raw rows of a day (of the list; of the last complete day, if none is given), and gives the
    /// rows as a warehouse would get them, in `scratch`, and what was found about them. Neither state nor buckets
    /// change.
    pub async fn preview(
        &self,
        model: &Model,
        day: Option<NaiveDate>,
        scratch: &Scratch,
    ) -> Result<(Partition, QueryTable, Flattened), Error> {
        let contract = bind(&self.catalog, model).await?;
        let Some(driver) = self.catalog.driving_source(model) else {
            return Err(Error::Usage(format!("{} reads no source", model.name)));
        };
        let state = self.states.source(&driver.name).await?;
        let partition = match day {
            Some(_) if !driver.is_daily() => {
                return Err(Error::Usage(format!(
                    "{} is a list and has no days: leave the day out",
                    driver.name
                )));
            }
            Some(day) => Some(Partition::Day(day)),
            None => state.look(|state| state.complete().map(|(partition, _)| partition).max()),
        };
        let is_complete = |partition: &Partition| {
            state.look(|state| {
                state
                    .partition(*partition)
                    .is_some_and(|found| found.raw.is_some())
            })
        };
        let Some(partition) = partition.filter(is_complete) else {
            let what = day.map_or_else(
                || driver.name.clone(),
                |day| format!("{} of {day}", driver.name),
            );
            return Err(Error::Usage(format!(
                "there are no raw rows of {what}: `samsara-etl run` reads them"
            )));
        };
        let inputs = inputs(&self.catalog, &self.states, model, partition).await?;
        let (raw, memory) = (self.raw.clone(), self.config.sql_memory);
        let transformer =
            Transformer::new(self.catalog.clone(), memory, raw, scratch.bucket.clone())?
                .with_salt(self.config.hash_salt.clone());
        let flattened = transformer
            .derive(
                model,
                &contract,
                partition,
                &inputs,
                &RunId::new(Utc::now()),
            )
            .await?;
        let table = QueryTable {
            raw: false,
            name: model.name.clone(),
            schema: contract.schema(),
            bucket: scratch.bucket.clone(),
            objects: flattened.objects.clone(),
        };
        Ok((partition, table, flattened))
    }
}
