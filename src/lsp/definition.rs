//! Where a name is defined: the model of a table, the line of a `schema`, the column of an upstream model.

use std::ops::Range;

use super::front_matter;
use super::hover::word_at;
use super::lexer::Kind;
use super::resolve::resolve;
use super::scope::{Code, Item, Reads};
use super::workspace::Workspace;

/// A place: a file, `<family>/<file>`, and the bytes in it.
pub(super) type Target = (String, Range<usize>);

/// Where what stands at an offset of a model is defined.
pub(super) async fn definition(
    workspace: &Workspace,
    path: &str,
    text: &str,
    offset: usize,
) -> Option<Target> {
    if !path.ends_with(".sql") {
        return None;
    }
    if front_matter::extent(text).is_some_and(|it| it.contains(&offset)) {
        let (_, word) = word_at(text, offset)?;
        return column_of_model(workspace, &workspace.model_of(path)?.name, word);
    }
    let code = Code::of(text);
    let at = code.token_at(offset)?;
    let token = code.tokens.get(at)?;
    let is_after = |sign| at > 0 && code.tokens[at - 1].is_sign(sign);
    let chain = match token.kind {
        Kind::Text if is_after('[') => {
            let mut chain = code.chain_before(at - 1)?;
            chain.push(token.value.clone());
            chain
        }
        Kind::Word | Kind::Quoted => {
            if is_after('.') && at > 1 && code.tokens[at - 2].value == "raw" {
                return schema_line(workspace, &token.value, &[]);
            }
            let items: Vec<Item> = code.items_at(offset).into_iter().flatten().collect();
            let is_named = |item: &&Item| item.place == token.range();
            if let Some(item) = items.iter().find(is_named) {
                return of_item(workspace, &code, item);
            }
            // An alias of a table: where that is.
            let is_alias = |item: &&Item| item.alias == token.value;
            let is_before_dot = code.tokens.get(at + 1).is_some_and(|it| it.is_sign('.'));
            if let Some(item) = items.iter().find(is_alias).filter(|_| is_before_dot) {
                return of_item(workspace, &code, item);
            }
            code.chain_before(at + 1)?
        }
        _ => return None,
    };
    let (item, column, fields) = resolve(workspace, &code, offset, &chain).await?;
    let name = column.column.name;
    match &item.reads {
        Reads::Raw(source) => {
            let fields = fields.into_iter().filter(|field| !field.is_empty());
            let names: Vec<String> = [name].into_iter().chain(fields).collect();
            schema_line(workspace, source, &names)
        }
        Reads::Table(table) => column_of_model(workspace, table, &name),
        Reads::Query(sql) => {
            let place = inner_column(&code, text, &item, sql, &name)?;
            Some((path.to_string(), place))
        }
    }
}

fn of_item(workspace: &Workspace, code: &Code<'_>, item: &Item) -> Option<Target> {
    match &item.reads {
        Reads::Raw(source) => schema_line(workspace, source, &[]),
        Reads::Table(table) => {
            let model = workspace.catalog().producer(table)?;
            let path = workspace.path_of_file(&model.file)?;
            let text = workspace.text(&path)?;
            Some((path.clone(), model.place_of_query().bytes(text)))
        }
        Reads::Query(_) => {
            let _ = code;
            None
        }
    }
}

/// Where a model names a column of its table.
fn column_of_model(workspace: &Workspace, table: &str, name: &str) -> Option<Target> {
    let model = workspace.catalog().producer(table)?;
    let path = workspace.path_of_file(&model.file)?;
    let text = workspace.text(&path)?;
    Some((path.clone(), model.place_of_column(name).bytes(text)))
}

/// Where `sources.toml` declares a source, or a field of its schema. Fields that the pipeline adds are with the source.
fn schema_line(workspace: &Workspace, source: &str, names: &[String]) -> Option<Target> {
    let source = workspace.source(source)?;
    let path = format!("{}/sources.toml", source.family);
    let text = workspace.text(&path)?;
    let header = header(text, &source.name)?;
    let place = field(text, header.end, names).unwrap_or(header);
    Some((path, place))
}

/// The name in the line `[name]`.
fn header(text: &str, name: &str) -> Option<Range<usize>> {
    let mut begin = 0;
    for line in text.split_inclusive('\n') {
        let inner = line
            .trim()
            .strip_prefix('[')
            .and_then(|it| it.split(']').next());
        if inner.is_some_and(|it| it.trim().trim_matches('"') == name) {
            let start = begin + line.find(name)?;
            return Some(start..start + name.len());
        }
        begin += line.len();
    }
    None
}

/// The name of a field in the schema that follows a byte.
fn field(text: &str, from: usize, names: &[String]) -> Option<Range<usize>> {
    let rest = text.get(from..)?;
    let end = rest.find("\n[").map_or(text.len(), |at| from + at);
    let schema = rest
        .find("\nschema")
        .map(|at| from + at)
        .filter(|at| *at < end)?;
    let begin = schema + text.get(schema..end)?.find('=')?;
    let mut place = begin..begin;
    for (depth, name) in names.iter().enumerate() {
        place = word(text, place.end..end, name, depth > 0)?;
    }
    (!names.is_empty()).then_some(place)
}

/// The first place of a name, as a word of its own that a type follows, in some bytes. Of those at the first depth of
/// brackets: a field of the same name further inside is another. A nested one is looked for in the type that begins there.
fn word(text: &str, within: Range<usize>, name: &str, is_nested: bool) -> Option<Range<usize>> {
    let part = text.get(within.clone())?;
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let (mut depth, mut least) = (0i32, None);
    let mut at = 0;
    while let Some(c) = part[at..].chars().next() {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            c if is_part(c) => {
                let length = part[at..].find(|c| !is_part(c)).unwrap_or(part.len() - at);
                let found = &part[at..at + length];
                let is_field = part[at + length..].starts_with([' ', '\t', '\n']);
                if found == name && is_field && least.is_none_or(|(known, _)| depth < known) {
                    least = Some((depth, at));
                }
                at += length;
                continue;
            }
            _ => {}
        }
        // The type of the object whose field it would be ends here.
        if is_nested && depth == 0 && matches!(c, '>' | ',') || depth < 0 {
            break;
        }
        at += c.len_utf8();
    }
    let (_, at) = least?;
    let start = within.start + at;
    Some(start..start + name.len())
}

/// Where a query in brackets, or one that WITH names, gives a column its name.
fn inner_column(
    code: &Code<'_>,
    text: &str,
    item: &Item,
    sql: &str,
    name: &str,
) -> Option<Range<usize>> {
    // The text of the query stands in the file as it is; that of WITH follows what comes before it.
    let inner = match text.get(item.place.clone()) {
        Some(own) if sql.ends_with(own) && own.len() > item.alias.len() => item.place.clone(),
        _ => {
            let own = sql.rsplit("\n) ").next().unwrap_or(sql);
            let start = text.find(own)?;
            start..start + own.len()
        }
    };
    let is_in = |at: &usize| {
        let token = &code.tokens[*at];
        inner.start <= token.start && token.end <= inner.end && token.value == name
    };
    let places: Vec<usize> = (0..code.tokens.len()).filter(is_in).collect();
    let is_alias = |at: &&usize| **at > 0 && code.tokens[**at - 1].is("AS");
    let found = places.iter().find(is_alias).or_else(|| places.first())?;
    Some(code.tokens[*found].range())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_in_their_schema() {
        let text = "[a]\nschema = \"id VARCHAR\"\n[b]\nkey = [\"id\"]\nschema = \"\"\"\n  place STRUCT<id VARCHAR, name VARCHAR>,\n  id VARCHAR,\n  rows ARRAY<STRUCT<at VARCHAR, place STRUCT<lat DOUBLE>>>\n\"\"\"\n[c]\nschema = \"z DOUBLE\"\n";
        let line = |source: &str, names: &[&str]| {
            let names: Vec<String> = names.iter().map(|it| (*it).to_string()).collect();
            let place = field(text, header(text, source).unwrap().end, &names)?;
            assert_eq!(&text[place.clone()], *names.last().unwrap());
            Some(text[..place.start].matches('\n').count() + 1)
        };
        assert_eq!(line("a", &["id"]), Some(2));
        assert_eq!(line("b", &["id"]), Some(7));
        assert_eq!(line("b", &["place"]), Some(6));
        assert_eq!(line("b", &["place", "id"]), Some(6));
        assert_eq!(line("b", &["rows", "place", "lat"]), Some(8));
        assert_eq!(line("b", &["z"]), None);
        assert_eq!(line("c", &["z"]), Some(11));
        assert_eq!(line("c", &[]), None);
    }
}
