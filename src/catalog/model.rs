//! Models: SQL files with TOML front matter.

use std::collections::BTreeMap;

use datafusion::common::TableReference;
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{Expr, SelectItem, SetExpr, Statement as SqlStatement};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer, Whitespace};
use serde::Deserialize;

use super::Place;

/// One SQL file that yields one output table.
#[derive(Debug, Clone)]
pub struct Model {
    /// File name without `.sql`, and name of the table.
    pub name: String,
    /// The folder of `sql/` it stands in.
    pub family: String,
    /// Path of the file, for messages.
    pub file: String,
    /// The query, with the front matter blanked out so that line numbers stay true.
    pub sql: String,
    /// What the front matter says.
    pub front_matter: FrontMatter,
    /// The sources it reads, in alphabetical order.
    pub sources: Vec<String>,
    /// Column name → trailing `-- comment`.
    pub column_descriptions: BTreeMap<String, String>,
}

/// The TOML block at the head of a model. Keys follow dbt's words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrontMatter {
    /// What one row is; description of the table in BigQuery.
    pub description: String,
    /// The TIMESTAMP or DATE column whose UTC day partitions the table.
    pub partition_by: Option<String>,
    /// Up to four columns by which BigQuery clusters.
    #[serde(default)]
    pub cluster_by: Vec<String>,
    /// The columns that together tell rows apart.
    #[serde(default)]
    pub unique_key: Vec<String>,
    /// Columns of the query that the table shall not have.
    #[serde(default)]
    pub drop: Vec<String>,
    /// Columns that become a salted SHA-256.
    #[serde(default)]
    pub hash: Vec<String>,
    /// BigQuery removes a partition when it is this old.
    pub partition_expiration_days: Option<u32>,
    /// Labels of the table in BigQuery.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// For a list: keep each version of a row in `<table>_history` (slowly changing dimension, type 2).
    #[serde(default)]
    pub history: bool,
}

impl Model {
    /// The table that holds each version of this one's rows, if the front matter asks for it.
    pub fn history_table(&self) -> Option<String> {
        self.front_matter.history.then(|| format!("{}_history", self.name))
    }
}

const OPEN: &str = "/*---";
const CLOSE: &str = "---*/";

/// Reads a model from the text of its file.
pub(super) fn parse(place: &Place<'_>, name: &str, family: &str, text: &str) -> Result<Model, super::CatalogError> {
    let Some(rest) = text.strip_prefix(OPEN) else {
        return Err(place.at(1, format!("the file must begin with a front matter block `{OPEN} … {CLOSE}`")));
    };
    let Some(end) = rest.find(CLOSE) else {
        return Err(place.at(1, format!("the front matter block is not closed with `{CLOSE}`")));
    };
    let front_matter: FrontMatter =
        toml::from_str(&rest[..end]).map_err(|error| place.toml(&rest[..end], &error, FRONT_MATTER_KEYS))?;
    let head = OPEN.len() + end + CLOSE.len();
    let blanked: String = text[..head].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
    let sql = format!("{blanked}{}", &text[head..]);

    let statement = statement(&sql).map_err(|(line, reason)| place.at(line, reason))?;
    let (tables, _) = resolve_table_references(&statement, false).map_err(|error| place.at(1, error.to_string()))?;
    let mut sources = Vec::new();
    for table in tables {
        match &table {
            TableReference::Partial { schema, table } if &**schema == "raw" => sources.push(table.to_string()),
            _ => {
                return Err(place.at(1, format!("reads `{table}`, but a model reads raw tables only: `raw.<source>`")));
            }
        }
    }
    sources.sort();
    if sources.is_empty() {
        return Err(place.at(1, "reads no source: a model selects FROM raw.<source>".into()));
    }
    let column_descriptions = column_descriptions(&sql, &statement);
    Ok(Model {
        name: name.into(),
        family: family.into(),
        file: place.file.to_string(),
        sql,
        front_matter,
        sources,
        column_descriptions,
    })
}

pub(super) const FRONT_MATTER_KEYS: &[&str] = &[
    "description",
    "partition_by",
    "cluster_by",
    "unique_key",
    "drop",
    "hash",
    "partition_expiration_days",
    "labels",
    "history",
];

/// A query is read and taken apart as deep as it is nested or chained, and a stack that overflows ends the program.
/// The parser bounds neither how deep types nest nor how long a chain of operators is.
const MAX_BRACKETS: usize = 32;
const MAX_TYPES: usize = 4;
const MAX_TOKENS: usize = 10_000;

/// Refuses a query that is too much for the stack, with line and reason.
fn check_extent(sql: &str) -> Result<(), (usize, String)> {
    // What cannot be cut into tokens is told by the parser.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location() else { return Ok(()) };
    let mut open: Vec<Bracket> = Vec::new();
    let mut follows_type = false;
    let code = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_)));
    for (count, token) in code.enumerate() {
        match &token.token {
            Token::LParen if follows_type => open.push(Bracket::RoundOfType),
            Token::LParen | Token::LBracket | Token::LBrace => open.push(Bracket::Other),
            Token::Lt if follows_type => open.push(Bracket::AngleOfType),
            Token::RParen | Token::RBracket | Token::RBrace => _ = open.pop(),
            Token::Gt => _ = open.pop_if(|last| *last == Bracket::AngleOfType),
            Token::ShiftRight => {
                open.pop_if(|last| *last == Bracket::AngleOfType);
                open.pop_if(|last| *last == Bracket::AngleOfType);
            }
            _ => {}
        }
        follows_type = matches!(&token.token, Token::Word(word) if TYPES_OF_TYPES.contains(&word.keyword));
        let wrong = |reason: String| (usize::try_from(token.span.start.line).unwrap_or(1), reason);
        if open.len() > MAX_BRACKETS {
            return Err(wrong(format!("more than {MAX_BRACKETS} brackets in each other")));
        }
        if open.iter().filter(|bracket| **bracket != Bracket::Other).count() > MAX_TYPES {
            return Err(wrong(format!("more than {MAX_TYPES} types in each other")));
        }
        if count >= MAX_TOKENS {
            return Err(wrong(format!("the query is too long: more than {MAX_TOKENS} words and signs")));
        }
    }
    Ok(())
}

#[derive(PartialEq)]
enum Bracket {
    AngleOfType,
    RoundOfType,
    Other,
}

/// Types that stand before the types that they are made of.
const TYPES_OF_TYPES: &[Keyword] = &[
    Keyword::ARRAY,
    Keyword::LOWCARDINALITY,
    Keyword::MAP,
    Keyword::NESTED,
    Keyword::NULLABLE,
    Keyword::STRUCT,
    Keyword::TABLE,
    Keyword::TUPLE,
    Keyword::UNION,
];

/// The one query of the file, or the line and reason of what is wrong.
fn statement(sql: &str) -> Result<Statement, (usize, String)> {
    check_extent(sql)?;
    let mut statements = DFParser::parse_sql(sql).map_err(|error| {
        let reason = error.strip_backtrace();
        let reason = reason.lines().next().unwrap_or_default().to_string();
        (line_in_message(&reason).unwrap_or(1), reason)
    })?;
    match (statements.pop_front(), statements.pop_front()) {
        (Some(Statement::Statement(statement)), None) if matches!(*statement, SqlStatement::Query(_)) => {
            Ok(Statement::Statement(statement))
        }
        (None, _) => Err((1, "the file holds no query".into())),
        _ => Err((1, "the file must hold one SELECT and nothing else".into())),
    }
}

/// sqlparser ends its messages with `at Line: 3, Column: 5`.
fn line_in_message(message: &str) -> Option<usize> {
    let rest = message.split("Line: ").nth(1)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The trailing comments of the outermost SELECT's columns.
fn column_descriptions(sql: &str, statement: &Statement) -> BTreeMap<String, String> {
    let mut comments: BTreeMap<u64, String> = BTreeMap::new();
    if let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location() {
        let mut code_on_line = 0;
        for token in tokens {
            match token.token {
                Token::Whitespace(Whitespace::SingleLineComment { comment, .. }) => {
                    // A comment on a line of its own explains the code to the reader, not the column.
                    if code_on_line == token.span.start.line {
                        comments.insert(token.span.start.line, comment.trim().to_string());
                    }
                }
                Token::Whitespace(_) => {}
                _ => code_on_line = token.span.end.line,
            }
        }
    }
    let Statement::Statement(statement) = statement else { return BTreeMap::new() };
    let SqlStatement::Query(query) = &**statement else { return BTreeMap::new() };
    let SetExpr::Select(select) = &*query.body else { return BTreeMap::new() };
    let mut descriptions = BTreeMap::new();
    for item in &select.projection {
        let (name, line) = match item {
            SelectItem::ExprWithAlias { alias, .. } => (alias.value.clone(), alias.span.end.line),
            SelectItem::UnnamedExpr(Expr::Identifier(name)) => (name.value.clone(), name.span.end.line),
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(path)) => match path.last() {
                Some(name) => (name.value.clone(), name.span.end.line),
                None => continue,
            },
            _ => continue,
        };
        if let Some(comment) = comments.get(&line) {
            descriptions.insert(name, comment.clone());
        }
    }
    descriptions
}
