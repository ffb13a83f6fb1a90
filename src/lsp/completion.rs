//! What can be written at a place.

use arrow::datatypes::DataType;
use lsp_types::{
    CompletionItem, CompletionItemKind, CompletionTextEdit, Documentation, MarkupContent,
    MarkupKind, TextEdit,
};

use super::front_matter::{self, Slot};
use super::hover::is_comment;
use super::lexer::{Kind, Token};
use super::position::range;
use super::scope::Code;
use super::source_keys;
use super::words::{in_markdown, type_name, unit};
use super::workspace::{Column, Workspace};
use crate::catalog::parse_schema;

/// Keywords that are offered beside names.
const KEYWORDS: &[&str] = &[
    "SELECT",
    "DISTINCT",
    "FROM",
    "WHERE",
    "GROUP BY",
    "HAVING",
    "ORDER BY",
    "LIMIT",
    "LEFT JOIN",
    "JOIN",
    "ON",
    "USING",
    "UNION ALL",
    "WITH",
    "AS",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "CAST",
    "AND",
    "OR",
    "NOT",
    "IN",
    "IS NULL",
    "IS NOT NULL",
    "BETWEEN",
    "NULL",
    "TRUE",
    "FALSE",
];

/// What can be written at an offset of a model.
pub(super) async fn complete(
    workspace: &Workspace,
    path: &str,
    text: &str,
    offset: usize,
) -> Vec<CompletionItem> {
    if path.ends_with("/sources.toml") {
        return of_sources(workspace, text, offset);
    }
    if !path.ends_with(".sql") {
        return Vec::new();
    }
    if let Some(slot) = front_matter::slot(text, offset) {
        return of_front_matter(workspace, path, text, offset, &slot);
    }
    if is_comment(text, offset) {
        return Vec::new();
    }
    let closed = closed_at(text, offset);
    let code = Code::of(closed.as_deref().unwrap_or(text));
    // The word that is being written, and the index after what stands before it.
    let word = code
        .tokens
        .iter()
        .position(|it| it.start < offset && offset <= it.end);
    let word = word.filter(|at| {
        matches!(
            code.tokens[*at].kind,
            Kind::Word | Kind::Quoted | Kind::Text
        )
    });
    let before = word.unwrap_or_else(|| code.tokens.partition_point(|it| it.end <= offset));
    let replaced = match word {
        Some(at) => code.tokens[at].inner().start.min(offset)..offset,
        None => offset..offset,
    };
    let is_text = word.is_some_and(|at| code.tokens[at].kind == Kind::Text);
    let mut found = Vec::new();
    let last = before.checked_sub(1).and_then(|at| code.tokens.get(at));
    match last {
        Some(last) if last.is_sign('[') && is_text => {
            let chain = code.chain_before(before - 1).unwrap_or_default();
            if let Some(data_type) = type_of(workspace, &code, offset, &chain).await {
                found.extend(fields(&data_type));
            }
        }
        _ if is_text => {}
        Some(last) if last.is_sign('.') => {
            let chain = code.chain_before(before - 1).unwrap_or_default();
            if chain == ["raw"] {
                found.extend(sources(workspace));
            } else {
                found.extend(after_dot(workspace, &code, offset, &chain).await);
            }
        }
        Some(last) if last.is("FROM") || last.is("JOIN") => {
            found.extend(tables(workspace));
            let named = code.named_before(offset).into_iter();
            found.extend(named.map(|name| item(name, CompletionItemKind::STRUCT, "WITH")));
            found.push(item("raw".into(), CompletionItemKind::MODULE, "raw tables"));
        }
        _ => {
            for items in code.items_at(offset) {
                for read in items {
                    let columns = workspace.columns(&read).await;
                    found.extend(columns.iter().map(of_column));
                    if !read.alias.is_empty() {
                        found.push(item(read.alias, CompletionItemKind::STRUCT, "table"));
                    }
                }
            }
            found.extend(functions(workspace));
            let words = KEYWORDS.iter();
            let words = words.map(|it| item((*it).into(), CompletionItemKind::KEYWORD, ""));
            found.extend(words);
        }
    }
    with_edit(found, text, replaced)
}

/// The text with `']` at the offset, if a field's name is being written there whose closing quote is missing: else all
/// that follows would be taken for part of the name.
fn closed_at(text: &str, offset: usize) -> Option<String> {
    let code = Code::of(text);
    let is_in =
        |token: &Token| token.kind == Kind::Text && token.start < offset && offset <= token.end;
    let at = code.tokens.iter().position(is_in)?;
    let is_field = at > 0 && code.tokens[at - 1].is_sign('[');
    let rest = text.get(offset..code.tokens[at].inner().end.max(offset))?;
    let is_name = rest.chars().all(|c| c.is_alphanumeric() || c == '_');
    let is_whole = is_name && code.tokens[at].is_closed;
    (is_field && !is_whole).then(|| [&text[..offset], "']", &text[offset..]].concat())
}

/// Sets what is replaced, and leaves out what has the same name as one before.
fn with_edit(
    found: Vec<CompletionItem>,
    text: &str,
    replaced: std::ops::Range<usize>,
) -> Vec<CompletionItem> {
    let range = range(text, replaced);
    let mut seen = std::collections::HashSet::new();
    let edit = |mut item: CompletionItem| {
        let new_text = item
            .insert_text
            .take()
            .unwrap_or_else(|| item.label.clone());
        item.text_edit = Some(CompletionTextEdit::Edit(TextEdit { range, new_text }));
        item
    };
    let mut found = found;
    found.retain(|item| seen.insert(item.label.clone()));
    found.into_iter().map(edit).collect()
}

fn item(label: String, kind: CompletionItemKind, detail: &str) -> CompletionItem {
    CompletionItem {
        label,
        kind: Some(kind),
        detail: (!detail.is_empty()).then(|| detail.to_string()),
        // Columns come first, functions next to last, keywords last.
        sort_text: (kind == CompletionItemKind::KEYWORD).then(|| "z".to_string()),
        ..CompletionItem::default()
    }
}

fn documented(mut item: CompletionItem, text: String) -> CompletionItem {
    item.documentation = Some(Documentation::MarkupContent(MarkupContent {
        kind: MarkupKind::Markdown,
        value: text,
    }));
    item
}

fn sources(workspace: &Workspace) -> impl Iterator<Item = CompletionItem> {
    workspace.catalog().sources().map(|source| {
        let found = item(
            source.name.clone(),
            CompletionItemKind::MODULE,
            &source.endpoint,
        );
        documented(found, in_markdown(&source.description))
    })
}

fn tables(workspace: &Workspace) -> Vec<CompletionItem> {
    let mut found = Vec::new();
    for model in workspace.catalog().models() {
        let names = [model.name.clone()]
            .into_iter()
            .chain(model.history_table());
        for name in names {
            let table = item(name, CompletionItemKind::STRUCT, &model.family);
            let description = in_markdown(&model.front_matter.description);
            found.push(documented(table, description));
        }
    }
    found
}

fn functions(workspace: &Workspace) -> impl Iterator<Item = CompletionItem> {
    workspace.functions().values().map(|function| {
        let mut found = item(
            function.name.clone(),
            CompletionItemKind::FUNCTION,
            &function.signature,
        );
        found.sort_text = Some(format!("y{}", function.name));
        documented(found, super::words::of_function(function))
    })
}

fn of_column(column: &Column) -> CompletionItem {
    let name = &column.column.name;
    let detail = type_name(&column.column.data_type);
    let mut found = item(name.clone(), CompletionItemKind::FIELD, &detail);
    found.sort_text = Some(format!("a{name}"));
    let unit = unit(name).map(|unit| format!("unit: {unit}"));
    let description = column.description.as_deref().map(in_markdown);
    let texts: Vec<String> = description.into_iter().chain(unit).collect();
    match texts.is_empty() {
        true => found,
        false => documented(found, texts.join("\n\n")),
    }
}

/// The fields of an object, or of the objects of a list.
fn fields(data_type: &DataType) -> Vec<CompletionItem> {
    let DataType::Struct(fields) = data_type else {
        return Vec::new();
    };
    let of = |field: &arrow::datatypes::FieldRef| {
        item(
            field.name().clone(),
            CompletionItemKind::FIELD,
            &type_name(field.data_type()),
        )
    };
    fields.iter().map(of).collect()
}

async fn after_dot(
    workspace: &Workspace,
    code: &Code<'_>,
    offset: usize,
    chain: &[String],
) -> Vec<CompletionItem> {
    if let [alias] = chain {
        for read in code.items_at(offset).into_iter().flatten() {
            if read.alias == *alias {
                let columns = workspace.columns(&read).await;
                return columns.iter().map(of_column).collect();
            }
        }
    }
    let found = type_of(workspace, code, offset, chain).await;
    found.map(|it| fields(&it)).unwrap_or_default()
}

/// The type of a column, or of a field inside it, that a place sees.
pub(super) async fn type_of(
    workspace: &Workspace,
    code: &Code<'_>,
    offset: usize,
    chain: &[String],
) -> Option<DataType> {
    let (_, column, path) = super::resolve::resolve(workspace, code, offset, chain).await?;
    super::resolve::field_type(&column.column.data_type, &path)
}

/// What can be written in `sources.toml`.
fn of_sources(workspace: &Workspace, text: &str, offset: usize) -> Vec<CompletionItem> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.');
    let start = text[..offset].trim_end_matches(is_part).len();
    let values = |values: &[&str]| -> Vec<CompletionItem> {
        let of = |value: &&str| item((*value).into(), CompletionItemKind::VALUE, "");
        values.iter().map(of).collect()
    };
    let found = match source_keys::slot(text, offset) {
        source_keys::Slot::Key => {
            let keys = source_keys::KEYS.iter().map(|(key, text)| {
                let mut found = item((*key).into(), CompletionItemKind::PROPERTY, "");
                found.insert_text = Some(format!("{key} = "));
                documented(found, (*text).into())
            });
            keys.collect()
        }
        source_keys::Slot::OneOf(known) => values(known),
        source_keys::Slot::Type => values(source_keys::TYPES),
        source_keys::Slot::Source => {
            let here = source_keys::sources_in(text);
            let here = here.map(|name| item(name.into(), CompletionItemKind::MODULE, ""));
            sources(workspace).chain(here).collect()
        }
        source_keys::Slot::FieldOf(name) => {
            // While it is being written, the source is perhaps none.
            let known = workspace.catalog().source(&name);
            let known = known.map(|it| it.fields.clone());
            let written = || parse_schema(source_keys::schema_of(text, &name)?).ok();
            let fields = known.or_else(written).map(DataType::Struct);
            fields.map(|it| paths("", &it)).unwrap_or_default()
        }
        source_keys::Slot::Other => Vec::new(),
    };
    with_edit(found, text, start..offset)
}

/// The fields of an object and of the objects in it, by their paths.
fn paths(prefix: &str, data_type: &DataType) -> Vec<CompletionItem> {
    let DataType::Struct(fields) = data_type else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for field in fields {
        let path = format!("{prefix}{}", field.name());
        let detail = type_name(field.data_type());
        found.push(item(path.clone(), CompletionItemKind::FIELD, &detail));
        found.extend(paths(&format!("{path}."), field.data_type()));
    }
    found
}

fn of_front_matter(
    workspace: &Workspace,
    path: &str,
    text: &str,
    offset: usize,
    slot: &Slot,
) -> Vec<CompletionItem> {
    let start = text[..offset]
        .trim_end_matches(|c: char| c.is_alphanumeric() || c == '_')
        .len();
    let found = match slot {
        Slot::Key { in_test } => {
            let is_here = |key: &&str| front_matter::is_of_tests(key) == *in_test;
            let keys = front_matter::KEYS.iter();
            let keys = keys.filter(|(key, _)| is_here(key) && (*in_test || *key != "tests"));
            let mut found: Vec<CompletionItem> = keys
                .map(|(key, text)| {
                    let mut found = item((*key).into(), CompletionItemKind::PROPERTY, "");
                    found.insert_text = Some(format!("{key} = "));
                    documented(found, (*text).into())
                })
                .collect();
            let tests = item(
                "[[tests]]".into(),
                CompletionItemKind::PROPERTY,
                "a data test",
            );
            found.push(tests);
            found
        }
        Slot::Column => {
            let name = path
                .split_once('/')
                .and_then(|it| it.1.strip_suffix(".sql"));
            let bound = name.and_then(|name| workspace.bound(name));
            let columns = bound
                .map(|it| it.contract.columns.as_slice())
                .unwrap_or_default();
            let of = |column: &crate::transform::Column| {
                let name = column.name.clone();
                item(
                    name,
                    CompletionItemKind::FIELD,
                    column.column_type.bigquery(),
                )
            };
            columns.iter().map(of).collect()
        }
        Slot::OneOf(values) => {
            let of = |value: &&str| item((*value).into(), CompletionItemKind::VALUE, "");
            values.iter().map(of).collect()
        }
        Slot::Other => Vec::new(),
    };
    with_edit(found, text, start..offset)
}
