//! Lines of a Delta log, as defined by the [protocol](https://github.com/delta-io/delta/blob/master/PROTOCOL.md).

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::transform::{ColumnType, Contract};

/// Our application in `txn` actions: its version is that of this program's last commit, so that a commit by anyone else
/// is noticed, even after a checkpoint.
pub(super) const APP: &str = "samsara-etl";
/// Retention of removed files and old versions, as the table declares it to other programs.
const CONFIGURATION: [(&str, &str); 2] = [
    ("delta.deletedFileRetentionDuration", "interval 7 days"),
    ("delta.logRetentionDuration", "interval 30 days"),
];

/// One line, with one of its members. Unknown members are ignored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Action {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) commit_info: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) protocol: Option<Protocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) meta_data: Option<MetaData>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) txn: Option<Txn>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) add: Option<Add>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remove: Option<Remove>,
}

/// What a program must support to read and write the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Protocol {
    pub(super) min_reader_version: i32,
    pub(super) min_writer_version: i32,
}

impl Protocol {
    /// The oldest versions, which every reader supports: the tables need no feature.
    pub(super) const OURS: Self = Self {
        min_reader_version: 1,
        min_writer_version: 2,
    };
}

/// What the table looks like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MetaData {
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) format: Format,
    pub(super) schema_string: String,
    pub(super) partition_columns: Vec<String>,
    pub(super) configuration: BTreeMap<String, String>,
    pub(super) created_time: Option<i64>,
}

/// The format of a table's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Format {
    pub(super) provider: String,
    #[serde(default)]
    pub(super) options: BTreeMap<String, String>,
}

impl MetaData {
    /// For a table with this contract; it keeps the id of the one `before`.
    pub(super) fn of(contract: &Contract, before: Option<&Self>, now: DateTime<Utc>) -> Self {
        let fields: Vec<Value> = contract
            .columns
            .iter()
            .map(|column| {
                let comment = column.description.iter();
                let metadata: BTreeMap<&str, &String> =
                    comment.map(|comment| ("comment", comment)).collect();
                json!({
                    "name": column.name,
                    "type": delta_type(column.column_type),
                    "nullable": true,
                    "metadata": metadata,
                })
            })
            .collect();
        Self {
            id: before.map_or_else(new_id, |before| before.id.clone()),
            name: Some(contract.table.clone()),
            description: Some(contract.description.clone()),
            format: Format {
                provider: "parquet".into(),
                options: BTreeMap::new(),
            },
            schema_string: json!({ "type": "struct", "fields": fields }).to_string(),
            partition_columns: Vec::new(),
            configuration: CONFIGURATION
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
            created_time: before.map_or(Some(now.timestamp_millis()), |it| it.created_time),
        }
    }

    /// Names and types of the columns.
    pub(super) fn columns(&self) -> Vec<(String, Value)> {
        let schema: Value = serde_json::from_str(&self.schema_string).unwrap_or_default();
        let fields = schema["fields"].as_array().into_iter().flatten();
        let column = |field: &Value| {
            let name = field["name"].as_str().unwrap_or_default();
            (name.to_string(), field["type"].clone())
        };
        fields.map(column).collect()
    }
}

/// The name of a column's type in Delta Lake.
fn delta_type(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::String => "string",
        ColumnType::Int64 => "long",
        ColumnType::Float64 => "double",
        ColumnType::Bool => "boolean",
        ColumnType::Timestamp => "timestamp",
        ColumnType::Date => "date",
        ColumnType::Numeric => "decimal(38,9)",
        ColumnType::Bytes => "binary",
    }
}

/// A random UUID.
fn new_id() -> String {
    let [a, b]: [u64; 2] = rand::random();
    let (high, low) = (a & !0xf000 | 0x4000, b & !(0xc << 60) | (0x8 << 60));
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

/// The last version that an application has written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Txn {
    pub(super) app_id: String,
    pub(super) version: i64,
    pub(super) last_updated: Option<i64>,
}

/// A file that is part of the table from now on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Add {
    /// Relative to the table's root.
    pub(super) path: String,
    #[serde(default)]
    pub(super) partition_values: BTreeMap<String, Option<String>>,
    pub(super) size: u64,
    pub(super) modification_time: i64,
    pub(super) data_change: bool,
    pub(super) stats: Option<String>,
}

impl Add {
    /// That it is removed.
    pub(super) fn removed(&self, now: DateTime<Utc>) -> Remove {
        Remove {
            path: self.path.clone(),
            deletion_timestamp: Some(now.timestamp_millis()),
            data_change: true,
            extended_file_metadata: Some(true),
            partition_values: Some(BTreeMap::new()),
            size: Some(self.size),
        }
    }
}

/// A file that is no longer part of the table. It stays for readers of earlier versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Remove {
    pub(super) path: String,
    /// Milliseconds since 1970.
    pub(super) deletion_timestamp: Option<i64>,
    pub(super) data_change: bool,
    pub(super) extended_file_metadata: Option<bool>,
    #[serde(default)]
    pub(super) partition_values: Option<BTreeMap<String, Option<String>>>,
    pub(super) size: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids_of_version_4() {
        for _ in 0..64 {
            let id = new_id();
            let parts: Vec<usize> = id.split('-').map(str::len).collect();
            assert_eq!(parts, [8, 4, 4, 4, 12], "{id}");
            assert!(
                id[14..].starts_with('4') && "89ab".contains(&id[19..20]),
                "{id}"
            );
        }
    }
}
