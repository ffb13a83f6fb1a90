//! Versions of one record in one list: models see the newest.
//!
//! Lists change while they are read: a driver who is deactivated between the two requests of a sweep is in both, a
//! vehicle may be repeated on a later page. If a source declares a `key`, the raw table that a model reads is a view
//! that keeps, for each key, the version with the latest `newest_by`, and among equal ones the version that was read
//! last. Records that have none of the key's fields are all kept.

use super::functions::VERSION_TIME;
use super::session::STORED;
use super::{quote, quote_text};
use crate::catalog::{FieldPath, PathStep, Source, SourceKind};
use crate::extract::raw_schema;

/// Number of a row in the order in which it was read, and of a version, the newest first.
const ROW: &str = "_row";
const VERSION: &str = "_version";
/// The begin of a row's day.
const WINDOW_START: &str = "_window_start";

/// The query for the newest versions of the rows of `stored.<source>`. It must run in one partition: only then do rows
/// come in the order in which they were written. With a window, they are of several days, and the newest of each day
/// are shown.
pub(super) fn newest_sql(source: &Source, has_window: bool) -> String {
    let columns: Vec<String> = raw_schema(source)
        .fields()
        .iter()
        .map(|field| quote(field.name()))
        .collect();
    let mut keys: Vec<String> = source.key.iter().map(expression).collect();
    let absent: Vec<String> = keys.iter().map(|key| format!("({key}) IS NULL")).collect();
    // A key on two days is two records. Updates have one day each.
    if has_window && source.is_daily() && source.kind != SourceKind::Updates {
        keys.push(quote(WINDOW_START));
    }
    let latest = source.newest_by.as_ref().map_or_else(String::new, |path| {
        let time = expression(path);
        // The schema distinguishes text from milliseconds.
        let time = if is_text(source, path) {
            format!("{VERSION_TIME}({time})")
        } else {
            time
        };
        format!("{time} DESC NULLS LAST, ")
    });
    // What was read later is newer, whatever the order in which the objects are read.
    let read = match source.kind {
        SourceKind::Updates => "\"_extracted_at\" DESC, ",
        _ => "",
    };
    format!(
        "SELECT {columns} FROM (
           SELECT *, row_number() OVER (PARTITION BY {keys} ORDER BY {latest}{read}{ROW} DESC) AS {VERSION}
           FROM (SELECT *, row_number() OVER () AS {ROW} FROM {STORED}.{table})
         ) WHERE {VERSION} = 1 OR ({absent})",
        columns = columns.join(", "),
        keys = keys.join(", "),
        table = quote(&source.name),
        absent = absent.join(" AND "),
    )
}

/// What the rows of a source depend on besides its objects, for digests.
pub(super) fn digested(source: &Source) -> Option<String> {
    let key: Vec<String> = source.key.iter().map(ToString::to_string).collect();
    let by = source.newest_by.as_ref().map(ToString::to_string);
    (!key.is_empty()).then(|| format!("{key:?} {by:?}"))
}

fn expression(path: &FieldPath) -> String {
    let mut sql = String::new();
    for step in path.steps() {
        match step {
            PathStep::Field(name) if sql.is_empty() => sql = quote(name),
            PathStep::Field(name) => sql = format!("{sql}[{}]", quote_text(name)),
            // The catalog has refused paths through lists.
            PathStep::Items => {}
        }
    }
    sql
}

fn is_text(source: &Source, path: &FieldPath) -> bool {
    path.value_type(&source.fields)
        .is_ok_and(|data_type| data_type == arrow::datatypes::DataType::Utf8)
}
