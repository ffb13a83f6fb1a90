//! The local warehouse: a folder that keeps the same contract as BigQuery.
//!
//! `<table>/_table.json` has the contract and, per partition, the Parquet files with the table's rows. It is replaced
//! by compare-and-swap after the files are written, so a partition changes in one step.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use arrow::array::Array;
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use crate::bounds::{MAX_OBJECT_BYTES, MAX_ROWS};
use crate::clock;
use crate::config::{BucketLocation, GoogleAccess};
use crate::load::error::LoadError;
use crate::load::shape::{ShapeMismatch, missing_columns};
use crate::load::warehouse::{Batch, FlatObjects, Loaded, Prepared, RepeatedKeys, Warehouse};
use crate::state::{Fence, Started, read_unique, unique_names};
use crate::store::layout::{
    MARK_LENGTH, Partition, is_file_of, manifest_object, parse_manifest_object,
    parse_warehouse_object, warehouse_object,
};
use crate::store::{Bucket, Listed, ObjectRef, StoreError, Version};
use crate::transform::{Contract, DataError, QueryTable, TransformError, query};

/// Number of times that a change is repeated because writers of other partitions of the table came first.
const SWAP_TRIES: usize = 1000;

/// Files of one load that are copied at a time: each waits for the disk, which is about as fast for all of them.
const COPIES_AT_A_TIME: usize = 4;

/// Memory for a query over a table.
const QUERY_MEMORY: usize = 512 << 20;

/// A warehouse in a folder.
pub struct LocalWarehouse {
    bucket: Bucket,
    target: String,
    fence: Fence,
    opened: DateTime<Utc>,
}

/// A table of the local warehouse, for queries.
#[derive(Debug, Clone)]
pub struct LocalTable {
    /// Its contract.
    pub contract: Contract,
    /// Its Parquet files, below the warehouse folder.
    pub objects: Vec<ObjectRef>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    contract: Contract,
    #[serde(deserialize_with = "unique_names")]
    partitions: BTreeMap<String, Vec<ObjectRef>>,
}

impl LocalWarehouse {
    /// Opens the folder; it is created if needed.
    pub fn open(folder: &Path, io: &tokio::runtime::Handle) -> Result<Self, LoadError> {
        let location = BucketLocation::Folder(folder.to_path_buf());
        Self::over(Bucket::open(&location, &GoogleAccess::default(), io))
    }

    /// Opens the folder for reading; if it does not exist, it has no tables, and is not created.
    pub fn look(folder: &Path, io: &tokio::runtime::Handle) -> Result<Self, LoadError> {
        let location = BucketLocation::Folder(folder.to_path_buf());
        Self::over(Bucket::look(&location, &GoogleAccess::default(), io))
    }

    fn over(bucket: Result<Bucket, StoreError>) -> Result<Self, LoadError> {
        let bucket = bucket.map_err(|error| LoadError::Store {
            table: "local warehouse".into(),
            error,
        })?;
        let target = name(bucket.url());
        Ok(Self {
            bucket,
            target,
            fence: Fence::default(),
            opened: clock::now(),
        })
    }

    /// Changes no table once the fence is closed.
    pub fn fenced(self, fence: &Fence) -> Self {
        Self {
            fence: fence.clone(),
            ..self
        }
    }

    /// The folder as a bucket.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// All tables.
    pub async fn tables(&self) -> Result<Vec<LocalTable>, LoadError> {
        let failed = |error| LoadError::Store {
            table: "local warehouse".into(),
            error,
        };
        let mut tables = Vec::new();
        for (key, _) in self.bucket.list("").await.map_err(failed)? {
            let Some(name) = parse_manifest_object(&key) else {
                continue;
            };
            let Some((manifest, _)) = self.manifest(name).await? else {
                continue;
            };
            let objects = manifest.partitions.into_values().flatten().collect();
            tables.push(LocalTable {
                contract: manifest.contract,
                objects,
            });
        }
        Ok(tables)
    }

    /// Parquet files of this program's naming that no table refers to: copies of killed runs.
    pub async fn orphans(&self) -> Result<Vec<Listed>, LoadError> {
        let failed = |error| LoadError::Store {
            table: "local warehouse".into(),
            error,
        };
        // Listed before the tables are read: files that are copied meanwhile are not among them.
        let mut files = self.bucket.list_dated("").await.map_err(failed)?;
        let used: BTreeSet<String> = self
            .tables()
            .await?
            .into_iter()
            .flat_map(|table| table.objects)
            .map(|object| object.path)
            .collect();
        files.retain(|file| {
            parse_warehouse_object(&file.key).is_some() && !used.contains(&file.key)
        });
        Ok(files)
    }

    async fn manifest(&self, table: &str) -> Result<Option<(Manifest, Version)>, LoadError> {
        let key = manifest_object(table);
        let failed = |error| LoadError::Store {
            table: table.into(),
            error,
        };
        let Some((bytes, version)) = self.bucket.read(&key).await.map_err(failed)? else {
            return Ok(None);
        };
        // Tables are prepared concurrently, and this is what takes the time.
        let of = table.to_string();
        let read = tokio::task::spawn_blocking(move || {
            let manifest: Manifest = read_unique(&bytes)?;
            manifest.check(&of)?;
            Ok(manifest)
        });
        let read = read
            .await
            .unwrap_or_else(|stopped| Err(format!("reading it was stopped: {stopped}").into()));
        let manifest = read.map_err(|error| LoadError::Manifest {
            target: self.target.clone(),
            uri: self.bucket.uri(&key),
            error,
            table: table.into(),
        })?;
        Ok(Some((manifest, version)))
    }

    /// Changes the manifest, and repeats that if another writer came first. Returns what the change returned.
    async fn change<T>(
        &self,
        contract: &Contract,
        change: impl Fn(&mut Manifest) -> Result<T, LoadError>,
    ) -> Result<T, LoadError> {
        let table = &contract.table;
        let failed = |error| LoadError::Store {
            table: table.clone(),
            error,
        };
        for _ in 0..SWAP_TRIES {
            let (mut manifest, version) = match self.manifest(table).await? {
                Some((manifest, version)) => (manifest, Some(version)),
                None => (
                    Manifest {
                        contract: contract.clone(),
                        partitions: BTreeMap::new(),
                    },
                    None,
                ),
            };
            let result = change(&mut manifest)?;
            let json = serde_json::to_vec_pretty(&manifest);
            let bytes = self
                .bucket
                .document(&manifest_object(table), json)
                .map_err(failed)?;
            // A run that took over the lock may have changed the manifest.
            self.fence.check().map_err(|error| LoadError::Lock {
                table: table.clone(),
                error,
            })?;
            match self
                .bucket
                .swap(&manifest_object(table), version.as_ref(), bytes)
                .await
            {
                Ok(_) => return Ok(result),
                Err(StoreError::Conflict { .. }) => tokio::task::yield_now().await,
                Err(error) => return Err(failed(error)),
            }
        }
        Err(failed(StoreError::Conflict {
            uri: self.bucket.uri(&manifest_object(table)),
        }))
    }

    /// Copies an object of the flattened bucket under a name of its own.
    async fn copy(
        &self,
        contract: &Contract,
        source: &Bucket,
        flat: &FlatObjects,
        object: &ObjectRef,
    ) -> Result<ObjectRef, LoadError> {
        let name = object.path.rsplit('/').next().unwrap_or(&object.path);
        // With the fingerprint, a reload of the same partition does not touch the files that queries still read.
        let mark: String = flat.fingerprint.chars().take(MARK_LENGTH).collect();
        let key = warehouse_object(&contract.table, flat.partition, &mark, name);
        let store = |error| LoadError::Store {
            table: contract.table.clone(),
            error,
        };
        let copied = ObjectRef {
            path: key.clone(),
            ..object.clone()
        };
        // A first load loads a growing table several times.
        if let Ok(file) = self.bucket.head(&copied).await
            && file.last_modified >= self.opened
        {
            return Ok(copied);
        }
        // The manifest lists what the object holds, not what is said of it.
        source.footer(object).await.map_err(store)?;
        let copy = self.bucket.copy_from(source, &object.path, &key);
        copy.await.map_err(store)?;
        Ok(copied)
    }
}

/// The name of a folder in the state. A folder that does not exist has a name too, under which nothing is loaded.
pub(super) fn target(folder: &Path) -> String {
    let folder = folder
        .canonicalize()
        .unwrap_or_else(|_| folder.to_path_buf());
    url::Url::from_directory_path(folder).map_or_else(|()| "local:".into(), |url| name(&url))
}

fn name(url: &url::Url) -> String {
    format!("local:{}", url.path())
}

/// Whether loads with the contract can go into a table with this one.
fn compare(contract: &Contract, existing: &Contract) -> Result<(), ShapeMismatch> {
    let columns: Vec<_> = existing
        .columns
        .iter()
        .map(|column| {
            let column_type = column.column_type.bigquery();
            (column.name.clone(), column_type.to_string())
        })
        .collect();
    missing_columns(contract, &columns)?;
    if existing.partition_by != contract.partition_by {
        return Err(ShapeMismatch::Partitioning {
            table: contract.table.clone(),
            found: existing.partition_by.clone(),
            wanted: contract.partition_by.clone(),
        });
    }
    Ok(())
}

#[async_trait]
impl Warehouse for LocalWarehouse {
    fn target(&self) -> &str {
        &self.target
    }

    async fn prepare(&self, contract: &Contract) -> Result<Prepared, LoadError> {
        if let Some((manifest, _)) = self.manifest(&contract.table).await?
            && manifest.contract == *contract
        {
            return Ok(Prepared {
                is_empty: manifest.rows() == 0,
            });
        }
        self.change(contract, |manifest| {
            let missing = compare(contract, &manifest.contract);
            missing.map_err(|mismatch| LoadError::Shape {
                table: contract.table.clone(),
                mismatch,
                replaceable: true,
            })?;
            // Columns that the model no longer has stay, as in BigQuery.
            let gone = manifest.contract.columns.iter().filter(|old| {
                !contract
                    .columns
                    .iter()
                    .any(|column| column.name.eq_ignore_ascii_case(&old.name))
            });
            let mut next = contract.clone();
            next.columns.extend(gone.cloned());
            manifest.contract = next;
            Ok(Prepared {
                is_empty: manifest.rows() == 0,
            })
        })
        .await
    }

    async fn replace(&self, contract: &Contract, batch: &Batch) -> Result<Loaded, LoadError> {
        let mut copied: BTreeMap<String, Vec<ObjectRef>> = BTreeMap::new();
        for flat in &batch.partitions {
            copied.entry(flat.partition.to_string()).or_default();
        }
        let copies = batch.partitions.iter().flat_map(|flat| {
            flat.objects.iter().map(async move |object| {
                let copy = self.copy(contract, &batch.bucket, flat, object).await?;
                Ok((flat.partition.to_string(), copy))
            })
        });
        let copies: Vec<_> = copies.collect();
        let mut copies = stream::iter(copies).buffered(COPIES_AT_A_TIME);
        while let Some((partition, copy)) = copies.try_next().await? {
            copied.entry(partition).or_default().push(copy);
        }
        let replaced = self
            .change(contract, |manifest| {
                let before: Vec<ObjectRef> =
                    manifest.partitions.values().flatten().cloned().collect();
                if batch.whole {
                    manifest.partitions.clear();
                }
                if batch.reshape {
                    manifest.contract = contract.clone();
                }
                manifest.partitions.extend(copied.clone());
                let now: BTreeSet<&String> = manifest
                    .partitions
                    .values()
                    .flatten()
                    .map(|object| &object.path)
                    .collect();
                Ok(before
                    .into_iter()
                    .filter(|old| !now.contains(&old.path))
                    .collect::<Vec<_>>())
            })
            .await?;
        for old in replaced {
            // A file that cannot be removed is a leftover, not a row of the table: `clean` removes it.
            let _ = self.bucket.delete(&old.path).await;
        }
        let rows = copied.values().flatten().map(|file| file.rows).sum();
        Ok(Loaded {
            rows,
            job: None,
            attempt: batch.attempt,
        })
    }

    fn job(&self, _: &Contract, _: &Batch) -> Option<String> {
        None
    }

    async fn await_job(&self, _: &Started) -> Result<(), LoadError> {
        Ok(())
    }

    async fn counts(&self, contract: &Contract) -> Result<BTreeMap<Partition, u64>, LoadError> {
        let Some((manifest, _)) = self.manifest(&contract.table).await? else {
            return Ok(BTreeMap::new());
        };
        let rows = |files: &Vec<ObjectRef>| files.iter().map(|file| file.rows).sum::<u64>();
        let counts = manifest.partitions.iter();
        Ok(counts
            .filter_map(|(name, files)| Some((Partition::parse(name)?, rows(files))))
            .filter(|(_, rows)| *rows > 0)
            .collect())
    }

    async fn repeated_keys(
        &self,
        contract: &Contract,
        key: &[String],
    ) -> Result<RepeatedKeys, LoadError> {
        let name = &contract.table;
        let Some((manifest, _)) = self.manifest(name).await? else {
            return Ok(RepeatedKeys::default());
        };
        // The files have the columns of the contract that they were written with.
        let is_column = |name: &String| {
            let mut columns = manifest.contract.columns.iter();
            columns.any(|column| column.name == *name)
        };
        let Some(partition_by) = contract
            .partition_by
            .as_ref()
            .filter(|name| is_column(name))
        else {
            return Ok(RepeatedKeys::default());
        };
        if !key.iter().all(is_column) {
            return Ok(RepeatedKeys::default());
        }
        let quoted = |name: &str| format!("\"{name}\"");
        let sql = RepeatedKeys::sql(
            &quoted(name),
            partition_by,
            key,
            quoted,
            |column| format!("CAST({column} AS VARCHAR)"),
            |column| format!("CAST(CAST({column} AS DATE) AS VARCHAR)"),
        );
        let table = QueryTable {
            raw: false,
            name: name.clone(),
            schema: manifest.contract.schema(),
            bucket: self.bucket.clone(),
            objects: manifest.partitions.into_values().flatten().collect(),
        };
        let failed = |error: TransformError| LoadError::Query {
            table: name.clone(),
            error,
        };
        let mut found = query(&sql, &[table], QUERY_MEMORY).await.map_err(failed)?;
        let mut rows = Vec::new();
        while let Some(batch) = found.next().await.map_err(failed)? {
            let options = FormatOptions::default();
            let columns = batch.columns().iter();
            let columns: Vec<ArrayFormatter<'_>> = columns
                .map(|column| ArrayFormatter::try_new(column, &options))
                .collect::<Result<_, _>>()
                .map_err(|error| failed(DataError::from(error).into()))?;
            rows.extend((0..batch.num_rows()).map(|row| {
                let cells = batch.columns().iter().zip(&columns);
                let cells = cells.map(|(column, text)| {
                    column.is_valid(row).then(|| text.value(row).to_string())
                });
                cells.collect::<Vec<_>>()
            }));
        }
        RepeatedKeys::of_rows(rows)
            .ok_or_else(|| failed(DataError::from("keys without their days".to_string()).into()))
    }

    async fn drop_table(&self, contract: &Contract) -> Result<(), LoadError> {
        let table = &contract.table;
        let failed = |error| LoadError::Store {
            table: table.clone(),
            error,
        };
        let named = self
            .manifest(table)
            .await?
            .map(|(manifest, _)| manifest.partitions)
            .unwrap_or_default();
        let mut keys: Vec<String> = named
            .into_values()
            .flatten()
            .map(|object| object.path)
            .collect();
        for listed in self.bucket.list_dated(table).await.map_err(failed)? {
            if parse_warehouse_object(&listed.key).is_some_and(|file| file.name == table) {
                keys.push(listed.key);
            }
        }
        // First the manifest. What cannot be removed after it is a leftover, and foreign files stay.
        self.bucket
            .delete(&manifest_object(table))
            .await
            .map_err(failed)?;
        for key in keys {
            let _ = self.bucket.delete(&key).await;
        }
        Ok(())
    }

    async fn drop_trial_tables(&self, _: &str) -> Result<Vec<String>, LoadError> {
        // Trial loads are for load jobs, which do not exist here.
        Ok(Vec::new())
    }
}

impl Manifest {
    /// Whether this may be the manifest of the table `table`: its files must be in its own folder.
    fn check(&self, table: &str) -> Result<(), String> {
        if self.contract.table != table {
            return Err(format!("it is that of `{:.200}`", self.contract.table));
        }
        let (mut rows, mut bytes) = (0u64, 0u64);
        for (key, objects) in &self.partitions {
            let partition = Partition::parse(key)
                .ok_or_else(|| format!("`{key:.60}` is neither a day nor `snapshot`"))?;
            for object in objects {
                if !is_file_of(table, partition, &object.path) {
                    return Err(format!(
                        "`{:.200}` is not a file of its {partition}",
                        object.path
                    ));
                }
                rows = rows.saturating_add(object.rows);
                bytes = bytes.saturating_add(object.bytes);
            }
        }
        let is_possible = rows <= MAX_ROWS << 10 && bytes <= MAX_OBJECT_BYTES << 10;
        is_possible
            .then_some(())
            .ok_or_else(|| format!("{rows} rows and {bytes} bytes cannot be"))
    }

    fn rows(&self) -> u64 {
        self.partitions
            .values()
            .flatten()
            .map(|file| file.rows)
            .sum()
    }
}

impl LocalTable {
    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        self.contract.schema()
    }
}
