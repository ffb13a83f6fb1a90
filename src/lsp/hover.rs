//! What a name stands for: type, unit, description, and where a column comes from.

use std::ops::Range;

use super::front_matter;
use super::lexer::{Kind, tokens};
use super::resolve::{field_type, resolve};
use super::scope::{Code, Reads};
use super::words::{in_markdown, of_function, type_name, unit};
use super::workspace::Workspace;
use crate::catalog::Model;
use crate::transform::Origins;

/// Origins that are listed, at most.
const LISTED: usize = 12;

/// What an offset of a model is about, as Markdown, and the bytes that are meant.
pub(super) async fn hover(
    workspace: &Workspace,
    path: &str,
    text: &str,
    offset: usize,
) -> Option<(String, Range<usize>)> {
    if !path.ends_with(".sql") {
        return None;
    }
    if let Some(extent) = front_matter::extent(text).filter(|it| it.contains(&offset)) {
        return of_front_matter(workspace, path, text, extent, offset).await;
    }
    let code = Code::of(text);
    let at = code.token_at(offset)?;
    let token = code.tokens.get(at)?;
    let place = token.inner();
    let is_after = |sign| at > 0 && code.tokens[at - 1].is_sign(sign);
    if token.kind == Kind::Text {
        if !is_after('[') {
            return None;
        }
        let mut chain = code.chain_before(at - 1)?;
        chain.push(token.value.clone());
        return Some((of_column(workspace, &code, offset, &chain).await?, place));
    }
    if !token.is_name() {
        return None;
    }
    let is_called = code.tokens.get(at + 1).is_some_and(|it| it.is_sign('('));
    if is_called && let Some(function) = workspace.functions().get(&token.value.to_lowercase()) {
        return Some((of_function(function), place));
    }
    if is_after('.') && at > 1 && code.tokens[at - 2].value == "raw" {
        return Some((of_source(workspace, &token.value)?, place));
    }
    for item in code.items_at(offset).into_iter().flatten() {
        if item.place == token.range()
            && let Reads::Table(name) = &item.reads
        {
            return Some((of_table(workspace, name)?, place));
        }
    }
    if let Some(column) = output_column(workspace, &code, path, at, offset).await {
        return Some((column, place));
    }
    let chain = code.chain_before(at + 1)?;
    Some((of_column(workspace, &code, offset, &chain).await?, place))
}

/// The bytes of what a place of the front matter names, and the name.
pub(super) fn word_at(text: &str, offset: usize) -> Option<(Range<usize>, &str)> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let before = text.get(..offset)?;
    let start = before.trim_end_matches(is_part).len();
    let rest = text.get(offset..)?;
    let end = text.len() - rest.trim_start_matches(is_part).len();
    (start < end).then(|| (start..end, &text[start..end]))
}

async fn of_front_matter(
    workspace: &Workspace,
    path: &str,
    text: &str,
    extent: Range<usize>,
    offset: usize,
) -> Option<(String, Range<usize>)> {
    let (place, word) = word_at(text, offset).filter(|(place, _)| place.start >= extent.start)?;
    let before = text[..place.start].trim_end_matches(' ');
    let is_quoted = before.ends_with('"');
    if !is_quoted && let Some((_, told)) = front_matter::KEYS.iter().find(|(key, _)| *key == word) {
        return Some(((*told).to_string(), place));
    }
    let model = workspace.model_of(path)?;
    Some((of_table_column(workspace, &model.name, word).await?, place))
}

fn of_source(workspace: &Workspace, name: &str) -> Option<String> {
    let source = workspace.source(name)?;
    let mut text = format!(
        "**raw.{}**: {}\n\n`{}`, {:?}",
        source.name,
        in_markdown(&source.description),
        source.endpoint,
        source.kind
    );
    if let Some(scope) = &source.scope {
        text.push_str(&format!(", scope {}", in_markdown(scope)));
    }
    text.push_str(&format!(
        "\n\n{} columns, declared in `{}/sources.toml`",
        source.fields.len(),
        source.family
    ));
    Some(text)
}

fn of_table(workspace: &Workspace, name: &str) -> Option<String> {
    let model: &Model = workspace.catalog().producer(name)?;
    let front_matter = &model.front_matter;
    let mut text = format!("**{name}**: {}", in_markdown(&front_matter.description));
    if let Some(day) = &front_matter.partition_by {
        text.push_str(&format!("\n\npartitioned by `{day}`"));
    }
    if !front_matter.unique_key.is_empty() {
        let key = front_matter.unique_key.join("`, `");
        text.push_str(&format!("\n\nunique key `{key}`"));
    }
    text.push_str(&format!(
        "\n\n{}/{}.sql",
        in_markdown(&model.family),
        in_markdown(&model.name)
    ));
    Some(text)
}

/// A column of a model's table.
async fn of_table_column(workspace: &Workspace, table: &str, name: &str) -> Option<String> {
    let bound = workspace.bound_table(table)?;
    let contract = bound.contracts().find(|it| it.table == table)?;
    let column = contract.columns.iter().find(|it| it.name == name)?;
    let mut text = format!(
        "```sql\n{table}.{name} {}\n```",
        column.column_type.bigquery()
    );
    if let Some(description) = &column.description {
        text.push_str(&format!("\n{}", in_markdown(description)));
    }
    add_unit(&mut text, name);
    let lineage = workspace.lineage(bound).await;
    if let Some(origins) = lineage.get(name) {
        add_origins(workspace, &mut text, origins).await;
    }
    Some(text)
}

/// A column of the table, where the outermost SELECT gives it its name.
async fn output_column(
    workspace: &Workspace,
    code: &Code<'_>,
    path: &str,
    at: usize,
    offset: usize,
) -> Option<String> {
    let model = workspace.model_of(path)?;
    let is_alias = at > 0 && code.tokens[at - 1].is("AS");
    if !is_alias || !code.is_outermost(offset) {
        return None;
    }
    of_table_column(workspace, &model.name, &code.tokens.get(at)?.value).await
}

/// A column, or a field inside one, that a query reads.
async fn of_column(
    workspace: &Workspace,
    code: &Code<'_>,
    offset: usize,
    chain: &[String],
) -> Option<String> {
    let (item, column, path) = resolve(workspace, code, offset, chain).await?;
    let name = &column.column.name;
    if let Reads::Table(table) = &item.reads {
        return of_table_column(workspace, table, name).await;
    }
    let data_type = field_type(&column.column.data_type, &path)?;
    let fields: Vec<&str> = path
        .iter()
        .map(String::as_str)
        .filter(|it| !it.is_empty())
        .collect();
    let whole = [vec![name.as_str()], fields].concat();
    let table = match &item.reads {
        Reads::Raw(source) => format!("raw.{source}."),
        _ => String::new(),
    };
    let mut text = format!(
        "```sql\n{table}{} {}\n```",
        whole.join("."),
        type_name(&data_type)
    );
    add_unit(&mut text, whole.last()?);
    let origins = column.column.origins.into_iter().map(|mut origin| {
        origin
            .path
            .extend(path.iter().filter(|it| !it.is_empty()).cloned());
        origin
    });
    add_origins(workspace, &mut text, &origins.collect()).await;
    Some(text)
}

fn add_unit(text: &mut String, name: &str) {
    if let Some(unit) = unit(name) {
        text.push_str(&format!("\n\nunit: {unit}"));
    }
}

/// Adds what a column comes from: of a table's column, also what that comes from.
async fn add_origins(workspace: &Workspace, text: &mut String, origins: &Origins) {
    if origins.is_empty() {
        return;
    }
    let mut listed = Vec::new();
    for origin in origins.iter().take(LISTED) {
        let mut line = format!("`{origin}`");
        if let (false, Some(bound)) = (origin.is_raw, workspace.bound_table(&origin.table))
            && let Some(column) = origin.path.first()
            && let Some(further) = workspace.lineage(bound).await.get(column)
            && !further.is_empty()
        {
            let further = further.iter().take(LISTED).map(|it| format!("`{it}`"));
            line.push_str(&format!(" ← {}", further.collect::<Vec<_>>().join(", ")));
        }
        listed.push(line);
    }
    let more = if origins.len() > LISTED { ", …" } else { "" };
    text.push_str(&format!("\n\ncomes from {}{more}", listed.join(", ")));
}

/// Whether an offset is inside a comment of the query.
pub(super) fn is_comment(text: &str, offset: usize) -> bool {
    tokens(text).iter().any(|token| {
        let is_line = text[token.range()].starts_with("--");
        let is_in = token.start < offset && (offset < token.end || is_line && offset == token.end);
        token.kind == Kind::Comment && is_in
    })
}
