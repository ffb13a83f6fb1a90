//! What the audit tables look like.

use std::collections::BTreeMap;

use crate::transform::{Column, ColumnType, Contract};

/// The table of runs.
pub const RUNS: &str = "_etl_runs";
/// The table of what runs did to partitions.
pub(super) const PARTITIONS: &str = "_etl_partitions";
/// How many tables that are.
pub const TABLES: u64 = 2;

pub(super) fn runs() -> Contract {
    use ColumnType::{Bool, Float64, Int64, String, Timestamp};
    contract(
        RUNS,
        "Runs of samsara-etl, one row per run.",
        &[
            ("run", String, "Id of the run, which also names its objects"),
            ("started_at", Timestamp, "When it started"),
            ("finished_at", Timestamp, "When this row was written"),
            ("seconds", Float64, "How long it took"),
            ("version", String, "Version of the program"),
            ("target", String, "Project and dataset, or folder"),
            (
                "requests",
                Int64,
                "API requests, those sent again among them",
            ),
            ("retries", Int64, "Requests that had to be sent again"),
            (
                "response_bytes",
                Int64,
                "Size of the API's pages after decompression",
            ),
            ("raw_rows", Int64, "Raw rows committed"),
            (
                "rescued",
                Int64,
                "Values that did not fit the declared schema and went to _rescued_data",
            ),
            ("derived_rows", Int64, "Rows that models made"),
            ("loaded_rows", Int64, "Rows that the warehouse reported"),
            ("failures", Int64, "Tables and partitions that failed"),
            ("cancelled", Bool, "Whether the run was stopped"),
        ],
    )
}

pub(super) fn of_partitions() -> Contract {
    use ColumnType::{Bool, Date, Float64, Int64, String, Timestamp};
    contract(
        PARTITIONS,
        "What runs of samsara-etl did, one row per step and partition.",
        &[
            ("run", String, "Id of the run"),
            ("started_at", Timestamp, "When the run started"),
            (
                "step",
                String,
                "extract, transform, load, failed, outside or envelope",
            ),
            ("name", String, "Source (extract) or model"),
            ("partition", String, "The day, or snapshot"),
            ("day", Date, "The day, if it is one"),
            (
                "records",
                Int64,
                "Records in the API's pages; those of a task over several days stand at its first",
            ),
            ("rows", Int64, "Rows committed, derived or loaded"),
            (
                "not_owned",
                Int64,
                "Rows and readings left to the day that owns them",
            ),
            ("rescued", Int64, "Values that went to _rescued_data"),
            ("unchanged", Bool, "Read again and found as it was"),
            ("bytes", Int64, "Size of the objects"),
            (
                "requests",
                Int64,
                "Requests of this run to the source's endpoint, of all its partitions together",
            ),
            ("retries", Int64, "Those of them that had to be sent again"),
            (
                "job",
                String,
                "Load job, which may have brought other days too",
            ),
            ("seconds", Float64, "How long the step took"),
            ("error", String, "What failed"),
            (
                "detail",
                String,
                "Examples of what lies outside the asked days; an envelope field that no row carries",
            ),
        ],
    )
}

fn contract(table: &str, description: &str, columns: &[(&str, ColumnType, &str)]) -> Contract {
    let column = |(name, column_type, description): &(&str, ColumnType, &str)| Column {
        name: (*name).into(),
        column_type: *column_type,
        description: Some((*description).into()),
    };
    Contract {
        table: table.into(),
        description: description.into(),
        columns: columns.iter().map(column).collect(),
        partition_by: Some("started_at".into()),
        cluster_by: Vec::new(),
        hashed: Vec::new(),
        partition_expiration_days: None,
        labels: BTreeMap::new(),
    }
}
