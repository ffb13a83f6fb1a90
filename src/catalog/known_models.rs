//! The tables that the queries of the program's own models read, so that these need not be parsed whenever the catalog
//! is opened. What is printed of them is known to be parsed as the same query.
//!
//! `known_models.txt` has a line for each model: a digest of its query, its name and the tables. A query that was
//! edited has another digest, and is parsed. A test parses all of them and updates the file.

use std::collections::HashMap;
use std::sync::LazyLock;

use sha2::{Digest, Sha256};

use super::known::{known_values, short_digest};

/// The tables of each query, separated by commas: those of sources begin with `raw.`.
const TEXT: &str = include_str!("known_models.txt");

static KNOWN: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| known_values(TEXT));

fn digest(sql: &str) -> String {
    short_digest(Sha256::new_with_prefix(sql))
}

/// The sources and the tables of other models that a query reads, in alphabetical order, if it is known. Such a query
/// has no problems.
pub(super) fn tables(sql: &str) -> Option<(Vec<String>, Vec<String>)> {
    let (mut sources, mut upstream) = (Vec::new(), Vec::new());
    for table in KNOWN.get(digest(sql).as_str())?.split(", ") {
        match table.strip_prefix("raw.") {
            Some(source) => sources.push(source.to_string()),
            None => upstream.push(table.to_string()),
        }
    }
    Some((sources, upstream))
}

/// Whether a query is that of one of the program's own models.
pub(super) fn is_known(sql: &str) -> bool {
    KNOWN.contains_key(digest(sql).as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::known::assert_current;
    use crate::catalog::model::read_query;
    use crate::catalog::{Catalog, SourceLocation};

    #[test]
    fn the_tables_of_all_models_are_known() {
        let catalog = Catalog::open(None).unwrap();
        let mut text = String::new();
        for model in catalog.models() {
            // History tables have no file of their own.
            if !model.file.ends_with(&format!("/{}.sql", model.name)) {
                continue;
            }
            let mut problems = Vec::new();
            let place = SourceLocation { file: &model.file };
            let query = read_query(&place, &model.sql, &mut problems).unwrap();
            assert!(problems.is_empty(), "{problems:?}");
            let sources = query.sources.iter().map(|name| format!("raw.{name}"));
            let tables: Vec<String> = sources.chain(query.upstream).collect();
            let (digest, tables) = (digest(&model.sql), tables.join(", "));
            text.push_str(&format!("{digest} {}: {tables}\n", model.name));
        }
        assert_current("catalog/known_models.txt", TEXT, &text);
    }

    #[test]
    fn an_edited_query_is_not_known() {
        let catalog = Catalog::open(None).unwrap();
        let model = catalog.model("fleet_trips").unwrap();
        assert_eq!(
            tables(&model.sql),
            Some((model.sources.clone(), model.upstream.clone()))
        );
        assert_eq!(
            tables(&model.sql.replace("fleet_trips", "fleet_tags")),
            None
        );
    }
}
