//! The keys of a model's front matter, and where a place of it stands.

/// What an editor tells about a key.
pub(super) const KEYS: &[(&str, &str)] = &[
    (
        "description",
        "What one row is; description of the table in BigQuery.",
    ),
    (
        "partition_by",
        "Daily sources: the TIMESTAMP or DATE column that decides the day of a row.",
    ),
    (
        "window",
        "The days that a partition reads: `\"7 days\"` (its own and those before), `\"week\"` or `\"month\"`.",
    ),
    (
        "cluster_by",
        "Up to four columns by which BigQuery clusters.",
    ),
    (
        "unique_key",
        "The columns that together identify a row; checked per partition.",
    ),
    ("drop", "Columns of the query to leave out of the table."),
    (
        "hash",
        "Columns to replace by SHA-256 of a secret salt (`SAMSARA_ETL_HASH_SALT`) and the value.",
    ),
    (
        "partition_expiration_days",
        "BigQuery removes a day when it is this old.",
    ),
    (
        "labels",
        "Labels of the table in BigQuery: `{ team = \"fleet\" }`.",
    ),
    (
        "history",
        "`true`: each version of a row is kept in `<table>_history`.",
    ),
    (
        "tests",
        "Data tests, each under `[[tests]]`: tried whenever a partition is derived.",
    ),
    ("not_null", "Test: columns that are never NULL."),
    (
        "unique",
        "Test: columns in which no two rows have the same values.",
    ),
    (
        "accepted_values",
        "Test: `{ column = \"…\", values = […] }`.",
    ),
    ("range", "Test: `{ column = \"…\", min = …, max = … }`."),
    (
        "relationships",
        "Test: `{ column = \"…\", to = \"…\", field = \"…\" }`: each value is there in a table that the model reads.",
    ),
    (
        "freshness",
        "Test: `{ column = \"…\", max_age_hours = … }`: how old the newest value may be.",
    ),
    (
        "sql",
        "Test: a query over the table that must return no row.",
    ),
    (
        "severity",
        "Of a test: `\"error\"` keeps the partition from being replaced, `\"warn\"` only tells.",
    ),
];

/// Whether a key stands under `[[tests]]`: those behind it in the list.
pub(super) fn is_of_tests(key: &str) -> bool {
    KEYS.iter()
        .rev()
        .map(|(known, _)| *known)
        .take_while(|known| *known != "tests")
        .any(|known| known == key)
}

/// Keys whose values are columns of the table.
const COLUMN_KEYS: &[&str] = &[
    "partition_by",
    "cluster_by",
    "unique_key",
    "drop",
    "hash",
    "not_null",
    "unique",
    "accepted_values",
    "range",
    "relationships",
    "freshness",
];

/// What a place of the front matter can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Slot {
    /// A key; inside a test or not.
    Key { in_test: bool },
    /// A column of the table.
    Column,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// Anything else.
    Other,
}

/// The bytes of the front matter; none if there is no begin. Without an end it reaches to the end of the text.
pub(super) fn extent(text: &str) -> Option<std::ops::Range<usize>> {
    let rest = text.strip_prefix("/*---")?;
    Some(5..5 + rest.find("---*/").unwrap_or(rest.len()))
}

/// What belongs at an offset of the front matter.
pub(super) fn slot(text: &str, offset: usize) -> Option<Slot> {
    let extent = extent(text).filter(|it| it.start <= offset && offset <= it.end)?;
    let before = &text[extent.start..offset];
    let line = before.rsplit('\n').next().unwrap_or_default();
    if line.trim_start().starts_with(['#', '[']) && !line.contains('=') {
        return Some(Slot::Other);
    }
    let Some(key) = key_before(before) else {
        let in_test = before.contains("[[tests]]");
        return Some(Slot::Key { in_test });
    };
    let is_quoted = line.matches('"').count() % 2 == 1;
    Some(match key {
        "severity" => Slot::OneOf(&["error", "warn"]),
        "history" => Slot::OneOf(&["true", "false"]),
        "window" => Slot::OneOf(&["7 days", "week", "month"]),
        // Nothing but the value of `column` is one.
        "accepted_values" | "range" | "relationships" | "freshness"
            if !line.trim_end_matches(is_part).contains("column") =>
        {
            Slot::Other
        }
        key if COLUMN_KEYS.contains(&key) && is_quoted => Slot::Column,
        _ => Slot::Other,
    })
}

/// The key whose value goes on at the end of TOML text; a list may go on over lines.
pub(super) fn key_before(before: &str) -> Option<&str> {
    let line = before.rsplit('\n').next().unwrap_or_default();
    let is_key = |line: &&str| {
        let key = line.split('=').next().unwrap_or_default().trim();
        let is_word = key.chars().all(|c| c.is_alphanumeric() || c == '_');
        line.contains('=') && !key.is_empty() && is_word
    };
    let last = before.lines().rev().find(is_key)?;
    let is_open = || {
        let rest = &before[before.rfind(last).unwrap_or(0)..];
        rest.matches('[').count() > rest.matches(']').count()
    };
    let is_in = line.contains('=') || is_open();
    last.split('=').next().filter(|_| is_in).map(str::trim)
}

fn is_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::FRONT_MATTER_KEYS;

    #[test]
    fn every_key_is_described() {
        let described: Vec<&str> = KEYS.iter().map(|(key, _)| *key).collect();
        assert_eq!(described, FRONT_MATTER_KEYS);
    }

    #[test]
    fn places_of_the_front_matter_know_what_they_hold() {
        let key = |in_test| Some(Slot::Key { in_test });
        for (text, expected) in [
            ("/*---\npart|\n---*/", key(false)),
            ("/*---\n|", key(false)),
            ("/*---\npartition_by = \"ti|", Some(Slot::Column)),
            ("/*---\npartition_by = |", Some(Slot::Other)),
            (
                "/*---\ncluster_by = [\"a\", \"|\"]\n---*/ SELECT",
                Some(Slot::Column),
            ),
            (
                "/*---\nunique_key = [\n  \"a\",\n  \"|\n---*/",
                Some(Slot::Column),
            ),
            ("/*---\ndescription = \"a|", Some(Slot::Other)),
            ("/*---\n[[tests]]\n|", key(true)),
            ("/*---\n[[te|", Some(Slot::Other)),
            (
                "/*---\n[[tests]]\nseverity = \"|",
                Some(Slot::OneOf(&["error", "warn"])),
            ),
            (
                "/*---\n[[tests]]\nrange = { column = \"|",
                Some(Slot::Column),
            ),
            ("/*---\nhistory = |", Some(Slot::OneOf(&["true", "false"]))),
            ("/*---\na = 1\n---*/\n|", None),
            ("SELECT |", None),
        ] {
            let offset = text.find('|').unwrap();
            assert_eq!(slot(&text.replace('|', ""), offset), expected, "{text}");
        }
    }
}
