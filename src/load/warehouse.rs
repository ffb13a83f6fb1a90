//! What a warehouse can do, and what a load passes to it.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::load::error::LoadError;
use crate::state::Started;
use crate::store::layout::Partition;
use crate::store::{Bucket, ObjectRef};
use crate::transform::Contract;

/// A place where tables are kept.
#[async_trait]
pub trait Warehouse: Send + Sync {
    /// Its name, stored with each load: into another target, everything is loaded again.
    fn target(&self) -> &str;

    /// Ensures that the table is as in the contract: creates it, adds new columns, refuses changed ones.
    ///
    /// # Errors
    /// [`LoadError::Shape`] if the table has another shape; any other error says nothing about its shape.
    async fn prepare(&self, contract: &Contract) -> Result<Prepared, LoadError>;

    /// Replaces one partition, or all rows of the table, in one step.
    async fn replace(&self, contract: &Contract, batch: &Batch) -> Result<Loaded, LoadError>;

    /// The id of the job that [`Warehouse::replace`] would run, without its attempt; none if there are no jobs.
    fn job(&self, contract: &Contract, batch: &Batch) -> Option<String>;

    /// Waits until a job that an earlier run has started is finished: otherwise it might end after its successor, and
    /// replace new rows by old ones.
    async fn await_job(&self, started: &Started) -> Result<(), LoadError>;

    /// Number of rows in the table, by partition; in a table without days, all belong to [`Partition::Snapshot`].
    async fn counts(&self, contract: &Contract) -> Result<BTreeMap<Partition, u64>, LoadError>;

    /// The keys of a daily table that occur in more than one of its days; none if the table does not exist.
    async fn repeated_keys(
        &self,
        contract: &Contract,
        key: &[String],
    ) -> Result<RepeatedKeys, LoadError>;

    /// Removes a table that [`Warehouse::prepare`] has created for a trial load, or whose shape no load can change.
    async fn drop_table(&self, contract: &Contract) -> Result<(), LoadError>;

    /// Removes the tables of earlier trial loads with this mark (see [`trial_table`]), which killed runs have left, and
    /// returns their names.
    async fn drop_trial_tables(&self, mark: &str) -> Result<Vec<String>, LoadError>;
}

/// Keys that occur in more than one day of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepeatedKeys {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub examples: Vec<RepeatedKey>,
}

/// A key that occurs in more than one day of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepeatedKey {
    /// The values of its columns, as text.
    pub values: Vec<String>,
    /// The first of the days.
    pub first: String,
    /// The last of them.
    pub last: String,
}

/// How many repeated keys are named.
const EXAMPLES: usize = 3;

impl RepeatedKeys {
    /// A query for them. `quoted` quotes a name, `text` casts an expression to text, and `day` gives the day of a
    /// column.
    pub(super) fn sql(
        table: &str,
        partition_by: &str,
        key: &[String],
        quoted: impl Fn(&str) -> String,
        text: impl Fn(&str) -> String,
        day: impl Fn(&str) -> String,
    ) -> String {
        let columns: Vec<String> = key.iter().map(|name| quoted(name)).collect();
        let names: Vec<String> = (0..key.len()).map(|number| format!("k{number}")).collect();
        let values = columns.iter().map(|column| text(column));
        let values = values.zip(&names);
        let values: Vec<String> = values
            .map(|(value, name)| format!("{value} AS {name}"))
            .collect();
        let known: Vec<String> = columns
            .iter()
            .map(|column| format!("{column} IS NOT NULL"))
            .collect();
        let (names, day) = (names.join(", "), day(&quoted(partition_by)));
        format!(
            "SELECT {names}, MIN(day) AS first_day, MAX(day) AS last_day, COUNT(*) OVER () AS n FROM \
             (SELECT DISTINCT {}, {day} AS day FROM {table} WHERE {}) AS days \
             GROUP BY {names} HAVING COUNT(*) > 1 ORDER BY first_day, {names} LIMIT {EXAMPLES}",
            values.join(", "),
            known.join(" OR "),
        )
    }

    /// What the rows of that query say.
    pub(super) fn of_rows(rows: Vec<Vec<Option<String>>>) -> Option<Self> {
        let mut found = Self::default();
        for row in rows {
            let mut values: Vec<String> = row
                .into_iter()
                .map(|cell| cell.unwrap_or_else(|| "NULL".into()))
                .collect();
            found.count = values.pop()?.parse().ok()?;
            let (last, first) = (values.pop()?, values.pop()?);
            found.examples.push(RepeatedKey {
                values,
                first,
                last,
            });
        }
        Some(found)
    }
}

/// Prefix of the names of tables that are created for a trial load and dropped after it. If the run dies first, the
/// warehouse removes them after a while.
pub(super) const TRIAL_PREFIX: &str = "_rehearsal_";

/// The name of a table for a trial load. The mark is that of the buckets, so that the next run on them finds the tables
/// of earlier runs: other programs may load into the same dataset. Neither mark nor run may contain a `_`.
pub fn trial_table(table: &str, mark: &str, run: &str) -> String {
    format!("{TRIAL_PREFIX}{table}_{mark}_{run}")
}

/// Whether a table was created for a trial load with this mark.
pub(super) fn is_trial_table(name: &str, mark: &str) -> bool {
    name.starts_with(TRIAL_PREFIX) && name.rsplit('_').nth(1) == Some(mark)
}

/// The state of a table before anything is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prepared {
    /// Whether it is known to hold no row.
    pub is_empty: bool,
}

/// What one load replaces.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The flattened bucket.
    pub bucket: Bucket,
    /// The partitions, in order. More than one only if `whole`.
    pub partitions: Vec<FlatObjects>,
    /// Whether they are all rows of the table.
    pub whole: bool,
    /// Whether the table gets the contract's columns and types too, instead of keeping its own; only with `whole`.
    pub reshape: bool,
    /// Number of the first job id to use, from 1: those before it are used up.
    pub attempt: u32,
}

impl Batch {
    /// Rows in the Parquet.
    pub fn rows(&self) -> u64 {
        self.partitions.iter().map(FlatObjects::rows).sum()
    }

    /// Addresses of the objects.
    pub fn uris(&self) -> impl Iterator<Item = String> {
        self.partitions
            .iter()
            .flat_map(|flat| flat.uris(&self.bucket))
    }

    /// The days for people, and for job ids.
    pub fn label(&self) -> String {
        match self.partitions.as_slice() {
            [] => "nothing".into(),
            [one] => one.partition.to_string(),
            [first, .., last] => format!("{}_to_{}", first.partition, last.partition),
        }
    }
}

/// The flattened objects of one partition, and the digest of their content.
#[derive(Debug, Clone)]
pub struct FlatObjects {
    /// The partition.
    pub partition: Partition,
    /// The objects.
    pub objects: Vec<ObjectRef>,
    /// Digest of what they were made of.
    pub fingerprint: String,
}

impl FlatObjects {
    /// Rows in the objects.
    pub fn rows(&self) -> u64 {
        self.objects.iter().map(|object| object.rows).sum()
    }

    /// Addresses of the objects in their bucket.
    pub(super) fn uris(&self, bucket: &Bucket) -> impl Iterator<Item = String> {
        self.objects.iter().map(|object| bucket.uri(&object.path))
    }
}

/// What the warehouse reports of a finished load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Rows it reports.
    pub rows: u64,
    /// Its job, where there are jobs.
    pub job: Option<String>,
    /// Number of the job id that was used.
    pub attempt: u32,
}

/// Loads a batch and checks the ledger.
///
/// # Errors
/// Those of [`Warehouse::replace`], and [`LoadError::Ledger`] if the warehouse reports another number of rows than the
/// Parquet has.
pub async fn load(
    warehouse: &dyn Warehouse,
    contract: &Contract,
    batch: &Batch,
) -> Result<Loaded, LoadError> {
    let loaded = warehouse.replace(contract, batch).await?;
    let flattened = batch.rows();
    if loaded.rows == flattened {
        return Ok(loaded);
    }
    // A job with many days does not say in which of them the numbers differ; the table does, if it can be queried.
    let counts = if batch.partitions.len() > 1 {
        warehouse.counts(contract).await.ok()
    } else {
        None
    };
    let differs = counts.and_then(|counts| {
        let pairs = batch.partitions.iter().map(|flat| {
            let held = counts.get(&flat.partition).copied().unwrap_or_default();
            (flat.partition.to_string(), held, flat.rows())
        });
        pairs.into_iter().find(|(_, held, rows)| held != rows)
    });
    let (partition, rows, flattened) =
        differs.unwrap_or_else(|| (batch.label(), loaded.rows, flattened));
    Err(LoadError::Ledger {
        table: contract.table.clone(),
        partition,
        loaded: rows,
        flattened,
        used: Some(loaded.attempt),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_keys_are_asked_for_and_read() {
        let key = ["id".to_string(), "n".into()];
        let sql = RepeatedKeys::sql(
            "t",
            "at",
            &key,
            |name| format!("<{name}>"),
            |column| format!("text({column})"),
            |column| format!("day({column})"),
        );
        assert_eq!(
            sql,
            "SELECT k0, k1, MIN(day) AS first_day, MAX(day) AS last_day, COUNT(*) OVER () AS n FROM \
             (SELECT DISTINCT text(<id>) AS k0, text(<n>) AS k1, day(<at>) AS day FROM t \
             WHERE <id> IS NOT NULL OR <n> IS NOT NULL) AS days \
             GROUP BY k0, k1 HAVING COUNT(*) > 1 ORDER BY first_day, k0, k1 LIMIT 3"
        );
        let cells = |texts: &[&str]| -> Vec<Option<String>> {
            let texts = texts.iter();
            texts
                .map(|text| (!text.is_empty()).then(|| text.to_string()))
                .collect()
        };
        let rows = vec![cells(&["a", "", "2024-01-01", "2024-01-03", "7"])];
        let found = RepeatedKeys::of_rows(rows).unwrap();
        assert_eq!(found.count, 7);
        assert_eq!(found.examples[0].values, ["a", "NULL"]);
        assert_eq!(
            (&*found.examples[0].first, &*found.examples[0].last),
            ("2024-01-01", "2024-01-03")
        );
        assert_eq!(
            RepeatedKeys::of_rows(Vec::new()),
            Some(RepeatedKeys::default())
        );
        for odd in [&["a"][..], &["a", "b", "c", "many"]] {
            assert_eq!(RepeatedKeys::of_rows(vec![cells(odd)]), None);
        }
    }

    #[test]
    fn trial_tables_are_known_by_their_mark() {
        for (name, mark, is_ours) in [
            (trial_table("rpm", "aa", "1"), "aa", true),
            (trial_table("a_b", "aa", "1"), "aa", true),
            (trial_table("rpm", "bb", "1"), "aa", false),
            ("rpm_aa_1".into(), "aa", false),
            ("_rehearsal_aa".into(), "aa", false),
        ] {
            assert_eq!(is_trial_table(&name, mark), is_ours, "{name}");
        }
    }
}
