//! Maximum sizes of all input from others, in one place.
//!
//! `docs/security.md` has the same numbers in a table, and says what happens beyond them; a test compares both. Bounds
//! that belong to one protocol (the size of a response, waits and attempts) are in [`crate::config::RetryConfig`].

/// Bytes of a document that is read as a whole: state, run lock, manifest of a local table. A source with ten years and
/// ten tables has some ten million.
pub const MAX_DOCUMENT_BYTES: u64 = 128 << 20;
/// Rows of one object, and of one load.
pub const MAX_ROWS: u64 = 1 << 40;
/// Bytes of one object.
pub const MAX_OBJECT_BYTES: u64 = 1 << 44;
/// Characters of a name, an address, a cursor or a query in a state document.
pub const MAX_STATE_TEXT: usize = 64 << 10;
/// Characters of a host's or a run's name in the run lock.
pub const MAX_LOCK_TEXT: usize = 512;
/// Maximum expiry of the run lock, in hours. Runs of this program use two minutes, and renew it.
pub const MAX_LOCK_HOURS: i64 = 24;

/// Bytes of a query.
pub const MAX_SQL_BYTES: usize = 256 << 10;
/// Bytes of a literal in a query.
pub const MAX_LITERAL_BYTES: usize = 16 << 10;
/// Levels of nested brackets.
pub const MAX_BRACKETS: usize = 32;
/// Levels of nested types.
pub const MAX_TYPES: usize = 4;
/// Tokens of a query.
pub const MAX_TOKENS: usize = 10_000;
/// Tables that a query reads, after its common table expressions are expanded.
pub const MAX_TABLES: u64 = 256;
/// Terms of a column, after the expressions of all subqueries are substituted.
pub const MAX_TERMS: u64 = 20_000;

/// Rows that SQL works on at a time.
pub const BATCH_ROWS: usize = 2048;
/// Bytes of a value that a function computes from constants alone.
pub const MAX_CONSTANT_BYTES: u64 = 16 << 10;
/// Bytes of a list that a function computes from constants alone.
pub const MAX_CONSTANT_LIST_BYTES: u64 = 64 << 10;
/// Bytes of a function's result for [`BATCH_ROWS`] rows, or twice those of its arguments, if that is more.
pub const MAX_RESULT_BYTES: u64 = 64 << 20;
/// And at most this, whatever the size of its arguments.
pub const MAX_LARGE_RESULT_BYTES: u64 = 256 << 20;
/// Bytes of lists that a function generates from numbers (`range`, `array_repeat` …), for [`BATCH_ROWS`] rows.
pub const MAX_GENERATED_BYTES: u64 = 32 << 20;
/// Default memory limit of the process for commands that process data.
pub const MAX_DATA_MEMORY: u64 = 8 << 30;
/// Default memory limit of the process for all other commands.
pub const MAX_MEMORY: u64 = 2 << 30;
