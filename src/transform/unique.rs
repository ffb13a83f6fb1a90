//! Checks whether rows are unique by their model's `unique_key`.
//!
//! While a partition is derived, a hash of each row's key is kept, eight bytes a row. Only if two hashes are equal, or
//! they do not fit into memory, are the written rows grouped by their keys, which spills to disk.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::DataFusionError;
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::prelude::SessionContext;
use serde::{Deserialize, Serialize};

use super::{quote, select};

/// Number of hashes that memory is reserved for at a time.
const STEP: usize = 64 << 10;
/// Number of heaps, once there are more hashes than one holds.
const HEAPS: usize = 256;
/// So many hashes the first heap holds.
const HEAP: usize = 32 << 10;
/// Maximum number of hashes in one allocation of a heap.
const CHUNK: usize = 1024;
/// Maximum number of characters of a key's value in a message.
const VALUE_CHARACTERS: usize = 60;

/// Keys that occur on more than one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duplicates {
    /// The columns of the key.
    pub unique_key: Vec<String>,
    /// Number of keys that occur on more than one row.
    pub keys: u64,
    /// Number of rows with these keys.
    pub rows: u64,
    /// An example: `vehicle_id = 42, time = 2024-01-01T00:00:00Z`.
    pub example: String,
    /// Number of rows with the example.
    pub example_rows: u64,
}

impl fmt::Display for Duplicates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            unique_key,
            keys,
            rows,
            example,
            example_rows,
        } = self;
        let (keys_are, key) = (
            if *keys == 1 {
                "1 key"
            } else {
                &format!("{keys} keys")
            },
            unique_key.join(", "),
        );
        write!(
            f,
            "unique_key ({key}): {keys_are} on {rows} rows, such as {example} on {example_rows}"
        )
    }
}

/// What is known of the keys of a partition's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// No two rows have one key.
    Different,
    /// The same, but some rows have none: their key is NULL throughout.
    DifferentOrNone,
    /// Two rows may have one key.
    Duplicate,
}

/// Checks the keys of the rows of one partition.
///
/// Hashes are kept in heaps by their first bits, so that each is sorted within the processor's cache.
pub(super) struct KeyCheck {
    /// Positions of the columns of the key.
    columns: Vec<usize>,
    state: RandomState,
    heaps: Vec<Heap>,
    /// Of the rows of one batch.
    hashes: Vec<u64>,
    /// Number of hashes, and number for which memory is reserved.
    count: usize,
    room: usize,
    memory: MemoryReservation,
    /// Whether all hashes are there.
    is_whole: bool,
    /// Whether a row has no key.
    has_none: bool,
}

impl KeyCheck {
    /// None if the key is empty, or one of its columns is missing, which binding a model refuses.
    pub(super) fn new(
        unique_key: &[String],
        schema: &Schema,
        pool: &Arc<dyn MemoryPool>,
    ) -> Option<Self> {
        let columns: Vec<usize> = unique_key
            .iter()
            .map(|name| schema.index_of(name))
            .collect::<Result<_, _>>()
            .ok()?;
        let memory = MemoryConsumer::new("unique_key").register(pool);
        let state = RandomState::with_seed(rand::random());
        (!columns.is_empty()).then_some(Self {
            columns,
            state,
            heaps: vec![Heap::default()],
            hashes: Vec::new(),
            count: 0,
            room: 0,
            memory,
            is_whole: true,
            has_none: false,
        })
    }

    /// Adds the rows of a batch. Rows whose key is NULL throughout cannot be told apart.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<(), DataFusionError> {
        if !self.is_whole {
            return Ok(());
        }
        let keys: Vec<&ArrayRef> = self
            .columns
            .iter()
            .map(|column| batch.column(*column))
            .collect();
        let count = self.count + batch.num_rows();
        // The last chunk of a heap may have capacity for twice as many as it holds.
        let needed = count + count.min(HEAPS * CHUNK);
        if self.room < needed {
            let more = STEP.max(needed - self.room);
            if self.memory.try_grow(more * size_of::<u64>()).is_err() {
                (self.is_whole, self.heaps) = (false, Vec::new());
                self.memory.free();
                return Ok(());
            }
            self.room += more;
        }
        self.hashes.clear();
        self.hashes.resize(batch.num_rows(), 0);
        create_hashes(
            keys.iter().map(|key| key.as_ref()),
            &self.state,
            &mut self.hashes,
        )?;
        if self.heaps.len() == 1 && self.count > HEAP {
            let first = self.heaps.pop().unwrap_or_default();
            self.heaps.resize_with(HEAPS, Heap::default);
            for hash in first.chunks.into_iter().flatten() {
                self.heaps[heap(hash)].push(hash);
            }
        }
        let is_one = self.heaps.len() == 1;
        let all_have_one = keys.iter().any(|key| key.null_count() == 0);
        for (row, &hash) in self.hashes.iter().enumerate() {
            if !all_have_one && keys.iter().all(|key| key.is_null(row)) {
                self.has_none = true;
                continue;
            }
            self.count += 1;
            self.heaps[if is_one { 0 } else { heap(hash) }].push(hash);
        }
        Ok(())
    }

    /// What the hashes tell.
    pub(super) fn finish(self) -> Keys {
        let mut sorted = Vec::new();
        let mut has_duplicates = |heap: Heap| {
            sorted.clear();
            sorted.extend(heap.chunks.into_iter().flatten());
            sorted.sort_unstable();
            sorted.windows(2).any(|pair| pair[0] == pair[1])
        };
        if !self.is_whole || self.heaps.into_iter().any(&mut has_duplicates) {
            Keys::Duplicate
        } else if self.has_none {
            Keys::DifferentOrNone
        } else {
            Keys::Different
        }
    }
}

/// Hashes in no order, in chunks: a vector would have up to twice the capacity, and be copied whenever it grows.
#[derive(Default)]
struct Heap {
    chunks: Vec<Vec<u64>>,
}

impl Heap {
    #[inline]
    fn push(&mut self, hash: u64) {
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(hash),
            Some(_) => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(hash);
                self.chunks.push(chunk);
            }
            // Small heaps stay small: the first chunk grows as it is filled.
            None => self.chunks.push(vec![hash]),
        }
    }
}

/// The heap of a hash.
#[inline]
fn heap(hash: u64) -> usize {
    (hash >> (u64::BITS - HEAPS.ilog2())) as usize
}

/// The keys of `table` that occur on more than one row.
pub(super) async fn duplicates(
    context: &SessionContext,
    table: &str,
    unique_key: &[String],
) -> Result<Option<Duplicates>, DataFusionError> {
    let columns: Vec<String> = unique_key.iter().map(|name| quote(name)).collect();
    let present: Vec<String> = columns
        .iter()
        .map(|name| format!("{name} IS NOT NULL"))
        .collect();
    let columns = columns.join(", ");
    let groups = format!(
        "SELECT {columns}, count(*) AS \"_rows\" FROM {table} WHERE {} GROUP BY {columns} HAVING count(*) > 1",
        present.join(" OR ")
    );
    let sums =
        format!("SELECT count(*), coalesce(CAST(sum(\"_rows\") AS BIGINT), 0) FROM ({groups})");
    let mut numbers = select(context, &sums)
        .await?
        .collect()
        .await?
        .into_iter()
        .flat_map(|batch| {
            let number = |column: usize| {
                batch
                    .column(column)
                    .as_primitive::<Int64Type>()
                    .value(0)
                    .unsigned_abs()
            };
            (batch.num_rows() > 0).then(|| (number(0), number(1)))
        });
    let Some((keys, rows)) = numbers.next().filter(|(keys, _)| *keys > 0) else {
        return Ok(None);
    };
    let first = format!("SELECT * FROM ({groups}) ORDER BY \"_rows\" DESC, {columns} LIMIT 1");
    let (mut example, mut example_rows) = (String::new(), 0);
    for batch in select(context, &first)
        .await?
        .collect()
        .await?
        .iter()
        .filter(|batch| batch.num_rows() > 0)
    {
        let values = unique_key
            .iter()
            .zip(batch.columns())
            .map(|(name, column)| value(name, column));
        example = values.collect::<Result<Vec<_>, _>>()?.join(", ");
        let counts = batch.column(unique_key.len()).as_primitive::<Int64Type>();
        example_rows = counts.value(0).unsigned_abs();
    }
    Ok(Some(Duplicates {
        unique_key: unique_key.to_vec(),
        keys,
        rows,
        example,
        example_rows,
    }))
}

/// `name = value` of the first row, on one line.
pub(super) fn value(name: &str, column: &ArrayRef) -> Result<String, DataFusionError> {
    if column.is_null(0) {
        return Ok(format!("{name} = NULL"));
    }
    let options = FormatOptions::default();
    let text = ArrayFormatter::try_new(column, &options)?
        .value(0)
        .to_string();
    let short: String = text.chars().take(VALUE_CHARACTERS).collect();
    let cut = if short.len() < text.len() { "…" } else { "" };
    let short = if column.data_type().is_temporal() || column.data_type().is_numeric() {
        short
    } else {
        format!("{short:?}")
    };
    Ok(format!("{name} = {short}{cut}"))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field};
    use datafusion::execution::memory_pool::{GreedyMemoryPool, UnboundedMemoryPool};

    use super::super::session;
    use super::*;

    fn batch(rows: &[(Option<&str>, Option<i64>)]) -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("a", DataType::Utf8, true),
            Field::new("b", DataType::Int64, true),
        ]);
        let a = StringArray::from_iter(rows.iter().map(|(a, _)| *a));
        let b = Int64Array::from_iter(rows.iter().map(|(_, b)| *b));
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(a), Arc::new(b)]).unwrap()
    }

    #[tokio::test]
    async fn keys_on_several_rows_are_found_counted_and_named() {
        type Rows<'a> = &'a [(Option<&'a str>, Option<i64>)];
        type Found<'a> = Option<(u64, u64, &'a str, u64)>;
        let cases: [(Rows<'_>, Found<'_>); 6] = [
            (&[], None),
            (
                &[
                    (Some("x"), Some(1)),
                    (Some("x"), Some(2)),
                    (Some("y"), Some(1)),
                    (Some("x"), None),
                ],
                None,
            ),
            (
                &[
                    (Some("x"), Some(1)),
                    (Some("y"), Some(1)),
                    (Some("x"), Some(1)),
                ],
                Some((1, 2, "a = \"x\", b = 1", 2)),
            ),
            (
                &[
                    (Some("x\n"), None),
                    (Some("y"), Some(2)),
                    (Some("x\n"), None),
                    (Some("y"), Some(2)),
                    (Some("x\n"), None),
                ],
                Some((2, 5, "a = \"x\\n\", b = NULL", 3)),
            ),
            // Nothing distinguishes them, and nothing shows that they are the same.
            (&[(None, None), (None, None)], None),
            (
                &[(None, Some(1)), (None, Some(1))],
                Some((1, 2, "a = NULL, b = 1", 2)),
            ),
        ];
        let key = ["a".to_string(), "b".to_string()];
        let roomy: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        let narrow: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(16));
        for (rows, expected) in cases {
            let batch = batch(rows);
            let suspect = |pool| {
                let mut check = KeyCheck::new(&key, &batch.schema(), pool).unwrap();
                // As it comes: in several batches.
                let half = batch.num_rows() / 2;
                check.add(&batch.slice(0, half)).unwrap();
                check
                    .add(&batch.slice(half, batch.num_rows() - half))
                    .unwrap();
                check.finish()
            };
            let has_none = rows.contains(&(None, None));
            let told = match (expected.is_some(), has_none) {
                (true, _) => Keys::Duplicate,
                (false, true) => Keys::DifferentOrNone,
                (false, false) => Keys::Different,
            };
            assert_eq!(suspect(&roomy), told, "{rows:?}");
            assert!(
                suspect(&narrow) == Keys::Duplicate || rows.is_empty(),
                "what does not fit into memory is looked at: {rows:?}"
            );

            let context = session::session(session::runtime(64 << 20).unwrap()).unwrap();
            context.register_batch("t", batch).unwrap();
            let found = duplicates(&context, "t", &key).await.unwrap();
            let found = found
                .as_ref()
                .map(|it| (it.keys, it.rows, it.example.as_str(), it.example_rows));
            assert_eq!(found, expected);
        }
        // Among many, in whichever heap.
        for duplicate in [None, Some(0), Some(399_999)] {
            let mut check = KeyCheck::new(&key, &batch(&[]).schema(), &roomy).unwrap();
            for first in (0..400_000).step_by(1000) {
                let rows: Vec<_> = (first..first + 1000)
                    .map(|b| (Some("x"), Some(b)))
                    .collect();
                check.add(&batch(&rows)).unwrap();
            }
            if let Some(duplicate) = duplicate {
                check.add(&batch(&[(Some("x"), Some(duplicate))])).unwrap();
            }
            let expected = if duplicate.is_some() {
                Keys::Duplicate
            } else {
                Keys::Different
            };
            assert_eq!(check.finish(), expected, "{duplicate:?}");
        }
        assert_eq!(
            KeyCheck::new(&[], &batch(&[]).schema(), &roomy).map(KeyCheck::finish),
            None
        );
    }
}
