//! History tables of sources of the kind `updates`: the raw rows have all versions of a record, so such a table is a
//! model like any other, made from the model whose versions it has.

use std::sync::OnceLock;

use super::model::{DescribedBy, FrontMatter, Model, VERSIONS};
use super::{PathStep, Source, SourceKind};

/// Number of a row in the order in which rows were written. It is not part of the table.
const ROW: &str = "_row";

/// The model of `<table>_history`, if the raw rows have the versions of this model's rows.
///
/// # Errors
/// Why the versions of the model's rows cannot be distinguished.
pub(super) fn of(model: &Model, source: &Source) -> Result<Option<Model>, String> {
    let Some(table) = model.history_table() else {
        return Ok(None);
    };
    if source.kind != SourceKind::Updates {
        return Ok(None);
    }
    let is_of_one = model.sources.len() == 1 && model.upstream.is_empty();
    if !is_of_one || model.sql.to_ascii_lowercase().contains("unnest") {
        return Err(format!(
            "history: of `updates`, a model with one row per record of {} can have it, and no other",
            source.name
        ));
    }
    let Some(PathStep::Field(changed)) = source.newest_by.as_ref().and_then(|it| it.steps().last())
    else {
        return Err("history: the source has no `newest_by`".into());
    };
    let FrontMatter {
        description,
        unique_key,
        drop,
        ..
    } = &model.front_matter;
    let front_matter = FrontMatter {
        description: format!("Each version of {}: {description}", model.name),
        unique_key: [unique_key.as_slice(), &["valid_from".into()]].concat(),
        drop: [drop.as_slice(), &[ROW.into()]].concat(),
        history: false,
        ..model.front_matter.clone()
    };
    let further = [
        ("valid_from", "when the record became so"),
        (
            "valid_to",
            "when it changed to the next version that was seen; none for what holds now",
        ),
        (
            "is_deleted",
            "always false: such records say themselves that they are deleted",
        ),
    ];
    let described_by = DescribedBy {
        sql: model.sql.clone(),
        further: further
            .map(|(name, description)| (name.to_string(), description.to_string()))
            .into(),
    };
    let sql = sql(model, source, changed);
    Ok(Some(Model {
        name: table,
        details: OnceLock::new(),
        described_by: Some(described_by),
        table_places: OnceLock::new(),
        unset_sql: None,
        sql,
        front_matter,
        ..model.clone()
    }))
}

/// The model's query over all versions, each with the time of the next. Of several versions with the same time, the
/// last that was read counts. The query keeps its lines, which messages refer to.
fn sql(model: &Model, source: &Source, changed: &str) -> String {
    let query = over_versions(&model.sql, &source.name);
    let query = query.trim_end().trim_end_matches(';');
    let head = query.len() - query.trim_start().len();
    let key = model.front_matter.unique_key.iter();
    let key: Vec<String> = key.map(|name| format!("\"{name}\"")).collect();
    format!(
        "{blank}SELECT * FROM (SELECT *, \"{changed}\" AS valid_from, lead(\"{changed}\") OVER \
         (PARTITION BY {key} ORDER BY \"{changed}\", \"{ROW}\") AS valid_to, FALSE AS is_deleted \
         FROM (SELECT *, row_number() OVER () AS \"{ROW}\" FROM ({query}\n))) \
         WHERE valid_to IS NULL OR valid_to > valid_from\n",
        blank = &query[..head],
        key = key.join(", "),
        query = &query[head..],
    )
}

/// The query with the table of newest versions replaced by that of all versions.
fn over_versions(sql: &str, source: &str) -> String {
    let table = format!("raw.{source}");
    let mut found = String::new();
    let mut rest = sql;
    while let Some(at) = rest.find(&table) {
        let (before, after) = rest.split_at(at + table.len());
        found.push_str(before);
        let goes_on = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !after.starts_with(goes_on) {
            found.push_str(VERSIONS);
        }
        rest = after;
    }
    found + rest
}

#[cfg(test)]
mod tests {
    use super::super::Catalog;

    const SOURCE: &str = "[a]\ndescription = 'd'\nkind = 'updates'\nendpoint = '/a'\nrate_limit = '5/s'\nkey = ['id']\n\
        newest_by = 'meta.at'\nwindow = { start = 's', end = 'e', format = 'rfc3339' }\n\
        schema = 'id VARCHAR, meta STRUCT<at VARCHAR>, l ARRAY<VARCHAR>'\n";

    fn catalog(query: &str) -> Result<Catalog, String> {
        let model = format!(
            "/*---\ndescription = 'd'\nunique_key = ['id']\nhistory = true\n---*/\n{query}\n"
        );
        let files = [
            ("f/sources.toml".to_string(), SOURCE.to_string()),
            ("f/t.sql".into(), model),
        ];
        Catalog::from_files("test", &files).map_err(|error| error.to_string())
    }

    #[test]
    fn versions_in_raw_make_a_table() {
        let catalog =
            catalog("SELECT id, samsara_time(meta['at']) AS at -- when\nFROM raw.a -- raw.ab\n")
                .unwrap();
        let (table, history) = (
            catalog.model("t").unwrap(),
            catalog.model("t_history").unwrap(),
        );
        assert!(table.history_table().is_none() && history.history_table().is_none());
        assert_eq!(history.sources, ["a"]);
        assert_eq!(history.front_matter.unique_key, ["id", "valid_from"]);
        let lines: Vec<&str> = history.sql.lines().collect();
        assert!(
            lines[5].contains("SELECT id, samsara_time(meta['at'])"),
            "{}",
            history.sql
        );
        assert_eq!(lines[6], "FROM raw.a__versions -- raw.ab");
        assert_eq!(history.column_descriptions()["at"], "when");
        assert!(catalog.producer("t_history").is_some());
    }

    #[test]
    fn items_of_records_have_no_history() {
        let error = catalog("SELECT id, unnest(l) AS i FROM raw.a").unwrap_err();
        assert!(error.contains("one row per record of a"), "{error}");
    }
}
