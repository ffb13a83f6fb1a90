//! Maximum sizes of files that users provide. docs/security.md lists the same figures.

/// Largest `.env` file, in bytes.
pub const ENV_FILE_BYTES: u64 = 1 << 20;
/// Bytes of a file of Google credentials.
pub const CREDENTIALS_BYTES: u64 = 1 << 20;
/// Bytes of a file of table names on disk.
pub const TABLE_LIST_BYTES: u64 = 16 << 20;
/// Bytes of the parts of a workbook that are read, unpacked.
pub const WORKBOOK_BYTES: u64 = 64 << 20;
/// Non-empty cells of a table list.
pub const TABLE_LIST_CELLS: usize = 100_000;
/// Bytes of a model or of a `sources.toml`.
pub const CATALOG_FILE_BYTES: u64 = 4 << 20;
/// Bytes of the recorded pages, or of the expected rows, of a model's test.
pub const FIXTURE_BYTES: u64 = 64 << 20;
