//! The keys of a source in `sources.toml`, and what a place of that file can hold.

use super::front_matter::key_before;
use crate::catalog::SOURCE_VALUES;

/// What an editor tells about a key.
pub(super) const KEYS: &[(&str, &str)] = &[
    ("description", "What its records are."),
    ("category", "The group that `--category` selects it by."),
    (
        "kind",
        "How it is requested: `snapshot` (the whole list), `window` (rows by time), `report` (aggregates of a day), `feed` (what is new since a cursor), `updates` (by the time of the last change).",
    ),
    (
        "endpoint",
        "Path below the host; `{name}` stands for the parent's id.",
    ),
    (
        "pagination",
        "How pages follow each other: `after` unless told otherwise.",
    ),
    ("records", "Path of the list of records in a page."),
    (
        "page_echoes",
        "Fields beside the records that only echo the request.",
    ),
    ("page_limit", "The `limit` to send."),
    (
        "rate_limit",
        "What the endpoint allows per organisation: `5/s` or `100/min`.",
    ),
    (
        "scope",
        "The token scope that it needs, in Samsara's words.",
    ),
    ("params", "Constant parameters."),
    (
        "sweep",
        "A parameter that is requested with each of its values.",
    ),
    (
        "window",
        "Names and format of the time parameters: `{ start = \"startTime\", end = \"endTime\", format = \"rfc3339\" }`.",
    ),
    (
        "since",
        "From when on a list is told: `{ param = \"\u{2026}\", back = \"\u{2026}\" }`.",
    ),
    (
        "time_field",
        "The field that decides to which day a row belongs.",
    ),
    (
        "end_field",
        "The field with the end of a row; its day is read again until it has one.",
    ),
    (
        "row_key",
        "Fields that distinguish rows of the same parent and start.",
    ),
    ("days_per_request", "How many days one request may span."),
    (
        "lookback_days",
        "For how many days after its end a day may still change.",
    ),
    (
        "closes_after",
        "How long after its end a day or month can be requested.",
    ),
    (
        "changes",
        "The feed that reports which past days have changed.",
    ),
    (
        "key",
        "Fields that together identify a record; models see the newest version.",
    ),
    ("newest_by", "The field with the time of the last change."),
    (
        "expiring",
        "Fields that differ at each read, such as links that expire.",
    ),
    ("omit", "Values that are never stored."),
    (
        "optional",
        "`true`: the endpoint may be missing for an organisation.",
    ),
    (
        "on_request",
        "Why it is read only if it is selected by name.",
    ),
    (
        "parent",
        "The source whose rows give the ids: `{ source = \"\u{2026}\", field = \"id\", param = \"\u{2026}\" }`.",
    ),
    (
        "asked",
        "Query parameters whose values are kept with each row.",
    ),
    (
        "share",
        "The parameter whose values may be combined in one request.",
    ),
    ("share_limit", "How many values one request may carry."),
    (
        "schema",
        "The columns of a raw record: `id VARCHAR, at VARCHAR, place STRUCT<lat DOUBLE>`.",
    ),
];

/// Types of the schema.
pub(super) const TYPES: &[&str] = &[
    "VARCHAR",
    "BIGINT",
    "DOUBLE",
    "BOOLEAN",
    "JSON",
    "STRUCT<",
    "ARRAY<",
    "MAP(VARCHAR, VARCHAR)",
];

/// Keys whose values are fields of the record.
const FIELD_KEYS: &[&str] = &[
    "time_field",
    "end_field",
    "row_key",
    "key",
    "newest_by",
    "expiring",
    "omit",
];

/// What a place of the file can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Slot {
    /// A key of a source.
    Key,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// A field of the source with this name.
    FieldOf(String),
    /// The name of a source.
    Source,
    /// A type.
    Type,
    /// Anything else.
    Other,
}

/// What belongs at an offset.
pub(super) fn slot(text: &str, offset: usize) -> Slot {
    let before = text.get(..offset).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    if before.matches("\"\"\"").count() % 2 == 1 {
        let written = line.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_');
        let is_after_name = written.ends_with(|c: char| c.is_whitespace() || c == '<')
            && !written.trim().is_empty()
            && !written.trim_end().ends_with(',');
        let is_item = written.ends_with("ARRAY<");
        return match is_item || is_after_name && !written.ends_with('<') {
            true => Slot::Type,
            false => Slot::Other,
        };
    }
    if line.trim_start().starts_with(['#', '[']) && !line.contains('=') {
        return Slot::Other;
    }
    let Some(key) = key_before(before) else {
        return Slot::Key;
    };
    if key == "optional" {
        return Slot::OneOf(&["true", "false"]);
    }
    if line.matches('"').count().is_multiple_of(2) {
        return Slot::Other;
    }
    // The innermost key of an inline table.
    let value = line
        .rsplit('"')
        .next()
        .map_or("", |open| &line[..line.len() - open.len() - 1]);
    let inner = value.trim_end().trim_end_matches('=').trim_end();
    let inner = inner
        .rsplit(|c: char| !c.is_alphanumeric() && c != '_')
        .next();
    let inner = inner.filter(|it| !it.is_empty() && value.trim_end().ends_with('='));
    let inner = inner.unwrap_or(key);
    if let Some((_, values)) = SOURCE_VALUES.iter().find(|(known, _)| *known == inner) {
        return Slot::OneOf(values);
    }
    match (key, inner) {
        ("parent" | "changes", "source") => Slot::Source,
        (key, inner) if key == inner && FIELD_KEYS.contains(&key) => {
            let header = |line: &&str| line.starts_with('[') && line.trim_end().ends_with(']');
            let name = before.lines().rev().find(header).unwrap_or_default();
            Slot::FieldOf(name.trim().trim_matches(['[', ']']).to_string())
        }
        _ => Slot::Other,
    }
}

/// The names of a file's sources, also while the rest of it is not valid.
pub(super) fn sources_in(text: &str) -> impl Iterator<Item = &str> {
    let headers = text.lines().filter_map(|line| {
        let name = line.trim_end().strip_prefix('[')?.strip_suffix(']')?;
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        (!name.is_empty() && name.chars().all(is_name)).then_some(name)
    });
    headers.filter(|name| *name != "defaults")
}

/// The text of a source's schema, also while the rest of the file is not valid.
pub(super) fn schema_of<'a>(text: &'a str, source: &str) -> Option<&'a str> {
    let header = format!("[{source}]");
    let mut at = 0;
    let mut lines = text.split_inclusive('\n');
    let is_header = |line: &str| line.trim_end() == header;
    lines.find(|line| {
        at += line.len();
        is_header(line)
    })?;
    let rest = &text[at..];
    let end = rest.find("\n[").unwrap_or(rest.len());
    let (_, value) = rest[..end].split_once("\nschema")?;
    let value = value.trim_start().strip_prefix('=')?.trim_start();
    let quotes = if value.starts_with("\"\"\"") {
        "\"\"\""
    } else {
        "\""
    };
    Some(value.strip_prefix(quotes)?.split_once(quotes)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::SOURCE_KEYS;

    #[test]
    fn every_key_of_a_source_is_described() {
        let described: Vec<&str> = KEYS.iter().map(|(key, _)| *key).collect();
        assert_eq!(described, SOURCE_KEYS);
    }

    #[test]
    fn a_schema_is_found_in_a_broken_file() {
        let text = "[a]\nkey = [\"\nschema = \"id VARCHAR\"\n[b]\nkind = \nschema = \"\"\"\n  n BIGINT\n\"\"\"\n[c]\nkind = 1";
        assert_eq!(schema_of(text, "a"), Some("id VARCHAR"));
        assert_eq!(schema_of(text, "b").map(str::trim), Some("n BIGINT"));
        assert_eq!((schema_of(text, "c"), schema_of(text, "d")), (None, None));
        let text = format!("[defaults]\n{text}\n[[x]]\n[y");
        assert_eq!(sources_in(&text).collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn places_of_a_source_know_what_they_hold() {
        let kinds = SOURCE_VALUES
            .iter()
            .find(|(key, _)| *key == "kind")
            .unwrap();
        let formats = SOURCE_VALUES.iter().find(|(key, _)| *key == "format");
        for (text, expected) in [
            ("[cars]\nend|", Slot::Key),
            ("|", Slot::Key),
            ("[ca|", Slot::Other),
            ("# ki|", Slot::Other),
            ("[cars]\nkind = \"sn|", Slot::OneOf(kinds.1)),
            ("[cars]\nkind = |", Slot::Other),
            ("[cars]\nendpoint = \"/c|", Slot::Other),
            (
                "[a]\nwindow = { start = \"s\", format = \"|",
                Slot::OneOf(formats.unwrap().1),
            ),
            ("[a]\nwindow = { start = \"|", Slot::Other),
            ("[a]\noptional = |", Slot::OneOf(&["true", "false"])),
            ("[a]\n[b]\ntime_field = \"|", Slot::FieldOf("b".into())),
            ("[b]\nkey = [\"id\", \"|", Slot::FieldOf("b".into())),
            ("[b]\nkey = [\n  \"|", Slot::FieldOf("b".into())),
            ("[b]\nparent = { source = \"|", Slot::Source),
            ("[b]\nparent = { source = \"a\", field = \"|", Slot::Other),
            ("[b]\nschema = \"\"\"\n  id |", Slot::Type),
            ("[b]\nschema = \"\"\"\n  id VAR|", Slot::Type),
            ("[b]\nschema = \"\"\"\n  stops ARRAY<|", Slot::Type),
            ("[b]\nschema = \"\"\"\n  at STRUCT<|", Slot::Other),
            ("[b]\nschema = \"\"\"\n  id VARCHAR,\n  |", Slot::Other),
            ("[b]\nschema = \"\"\"\n  id VARCHAR\n\"\"\"\n|", Slot::Key),
        ] {
            let offset = text.find('|').unwrap();
            assert_eq!(slot(&text.replace('|', ""), offset), expected, "{text}");
        }
    }
}
