//! What an executor is asked to do with the rows of a plan, and what it answers.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::VERSION;
use crate::config::Secret;
use crate::store::Bucket;
use crate::store::layout::{Partition, RunId};
use crate::transform::contract::{Contract, digest};
use crate::transform::{Checks, Flattened};

/// What is hashed to see whether two salts are the same. The digests in the tables tell no less of the salt.
const SALTED: &str = "samsara-etl salt";

/// What becomes of the rows of a plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::transform) struct Task {
    /// Of the client.
    version: String,
    /// URLs of the buckets that the client reads and writes.
    raw: String,
    flattened: String,
    /// A digest of the client's salt, if columns are to be hashed. The salt itself does not travel.
    salt: Option<String>,
    pub(super) contract: Contract,
    pub(super) partition: Partition,
    /// When the run began.
    started: DateTime<Utc>,
    pub(super) unique_key: Vec<String>,
    pub(super) hides: bool,
    pub(super) only_without_duplicates: bool,
}

/// What came of a task.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::transform) enum Outcome {
    /// The objects are complete.
    Whole(Flattened),
    /// Two rows may have one key; nothing is left of them.
    Duplicates,
    /// The query failed on a value.
    Value(String),
    /// It failed otherwise on the data.
    Data(String),
    /// A bucket failed.
    Store(String),
    /// The executor is not set up as the client is.
    Refused(String),
    /// The plan has a part that cannot be sent.
    Unsendable(String),
}

/// Where an executor works: what has to be the same there.
pub(super) struct Site<'a> {
    pub(super) raw: &'a Bucket,
    pub(super) flattened: &'a Bucket,
    pub(super) salt: Option<&'a Secret>,
}

impl Task {
    /// Of the rows of one partition.
    pub(in crate::transform) fn new(
        raw: &Bucket,
        flattened: &Bucket,
        salt: Option<&Secret>,
        contract: &Contract,
        partition: Partition,
        run: &RunId,
        checks: &Checks<'_>,
    ) -> Self {
        let is_hashed = !contract.hashed.is_empty();
        Self {
            version: VERSION.into(),
            raw: raw.url().to_string(),
            flattened: flattened.url().to_string(),
            salt: salt.filter(|_| is_hashed).map(|salt| digest(salt, SALTED)),
            contract: contract.clone(),
            partition,
            started: run.started(),
            unique_key: checks.unique_key.to_vec(),
            hides: checks.hides,
            only_without_duplicates: checks.only_without_duplicates,
        }
    }

    /// Why it cannot be done there.
    pub(super) fn misfit(&self, site: &Site<'_>) -> Option<String> {
        if self.version != VERSION {
            let theirs = &self.version;
            return Some(format!(
                "the executor is of version {VERSION} and this program of {theirs}: use one version"
            ));
        }
        for (name, mine, theirs) in [
            ("raw", site.raw.url().as_str(), &self.raw),
            ("flattened", site.flattened.url().as_str(), &self.flattened),
        ] {
            if mine != theirs {
                return Some(format!(
                    "the {name} bucket of the executor is {mine} and that of the run {theirs}: start it with the run's configuration"
                ));
            }
        }
        let salt = site.salt.map(|salt| digest(salt, SALTED));
        (!self.contract.hashed.is_empty() && self.salt != salt)
            .then(|| "SAMSARA_ETL_HASH_SALT of the executor is not that of the run".to_string())
    }

    /// A name for its objects. No two attempts write the same key, so what one does after it was given up does no harm.
    pub(super) fn attempt(&self) -> RunId {
        RunId::new(self.started)
    }

    /// What it is about, for people.
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.contract.table, self.partition)
    }
}
