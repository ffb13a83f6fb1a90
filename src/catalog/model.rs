//! Models: SQL files with TOML front matter.

use std::collections::BTreeMap;

use datafusion::common::TableReference;
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{Expr, SelectItem, SetExpr, Statement as SqlStatement};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer, Whitespace};
use serde::Deserialize;

use super::SourceLocation;
use super::extent::{check_expansion, check_extent};

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
        self.front_matter
            .history
            .then(|| format!("{}_history", self.name))
    }
}

const OPEN: &str = "/*---";
const CLOSE: &str = "---*/";

/// Reads a model from the text of its file.
pub(super) fn parse(
    place: &SourceLocation<'_>,
    name: &str,
    family: &str,
    text: &str,
) -> Result<Model, super::CatalogError> {
    let Some(rest) = text.strip_prefix(OPEN) else {
        return Err(place.at(
            1,
            format!("the file must begin with a front matter block `{OPEN} … {CLOSE}`"),
        ));
    };
    let Some(end) = rest.find(CLOSE) else {
        return Err(place.at(
            1,
            format!("the front matter block is not closed with `{CLOSE}`"),
        ));
    };
    let front_matter: FrontMatter = toml::from_str(&rest[..end])
        .map_err(|error| place.toml(&rest[..end], &error, FRONT_MATTER_KEYS))?;
    let head = OPEN.len() + end + CLOSE.len();
    let blanked: String = text[..head]
        .chars()
        .map(|c| if c == '\n' { '\n' } else { ' ' })
        .collect();
    let sql = format!("{blanked}{}", &text[head..]);

    let statement = statement(&sql).map_err(|(line, reason)| place.at(line, reason))?;
    let (tables, _) = resolve_table_references(&statement, false)
        .map_err(|error| place.at(1, error.to_string()))?;
    let mut sources = Vec::new();
    for table in tables {
        match &table {
            TableReference::Partial { schema, table } if &**schema == "raw" => {
                let name = table.strip_suffix(VERSIONS).unwrap_or(table);
                sources.push(name.to_string())
            }
            _ => {
                return Err(place.at(
                    1,
                    format!("reads `{table}`, but a model reads raw tables only: `raw.<source>`"),
                ));
            }
        }
    }
    sources.sort();
    sources.dedup();
    if sources.is_empty() {
        return Err(place.at(
            1,
            "reads no source: a model selects FROM raw.<source>".into(),
        ));
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

/// What follows the name of a source whose records change, for the table of all their versions.
pub const VERSIONS: &str = "__versions";

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

/// The one query of the file, or the line and reason of what is wrong.
fn statement(sql: &str) -> Result<Statement, (usize, String)> {
    check_extent(sql)?;
    let mut statements = DFParser::parse_sql(sql).map_err(|error| {
        let reason = error.strip_backtrace();
        let reason = reason.lines().next().unwrap_or_default().to_string();
        (line_in_message(&reason).unwrap_or(1), reason)
    })?;
    match (statements.pop_front(), statements.pop_front()) {
        (Some(Statement::Statement(statement)), None)
            if matches!(*statement, SqlStatement::Query(_)) =>
        {
            check_expansion(&statement)?;
            Ok(Statement::Statement(statement))
        }
        (None, _) => Err((1, "the file holds no query".into())),
        _ => Err((1, "the file must hold one SELECT and nothing else".into())),
    }
}

/// sqlparser ends its messages with `at Line: 3, Column: 5`.
fn line_in_message(message: &str) -> Option<usize> {
    let rest = message.split("Line: ").nth(1)?;
    rest.split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
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
    let Statement::Statement(statement) = statement else {
        return BTreeMap::new();
    };
    let SqlStatement::Query(query) = &**statement else {
        return BTreeMap::new();
    };
    let SetExpr::Select(select) = &*query.body else {
        return BTreeMap::new();
    };
    let mut descriptions = BTreeMap::new();
    for item in &select.projection {
        let (name, line) = match item {
            SelectItem::ExprWithAlias { alias, .. } => (alias.value.clone(), alias.span.end.line),
            SelectItem::UnnamedExpr(Expr::Identifier(name)) => {
                (name.value.clone(), name.span.end.line)
            }
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
