//! Models: SQL files with TOML front matter.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::OnceLock;

use datafusion::common::{DataFusionError, TableReference};
use datafusion::sql::parser::{DFParser, DFParserBuilder, Statement};
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Query, SelectItem, SetExpr, Statement as SqlStatement, Visit, Visitor,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan, Tokenizer};
use serde::Deserialize;

use super::SourceLocation;
use super::extent::{check_expansion, checked_tokens};
use super::known_models;
use super::problem::{Place, Problem, code, place_of_query, place_of_word, trailing_comments};
use super::settings::{self, Settings};
use super::window::Window;

/// One SQL file that yields one output table.
#[derive(Debug, Clone)]
pub struct Model {
    /// File name without `.sql`, and name of the table.
    pub name: String,
    /// Its folder in `sql/`.
    pub family: String,
    /// Path of the file, for messages.
    pub file: String,
    /// The query, with the front matter replaced by blanks so that line numbers stay true.
    pub sql: String,
    /// The query before settings were substituted, if it uses any.
    pub(super) unset_sql: Option<String>,
    /// What is found in the query on demand, since most runs need it for few models.
    pub(super) details: OnceLock<Details>,
    /// The query whose comments describe the columns, if it is another one.
    pub(super) described_by: Option<DescribedBy>,
    /// Where the query first names each of its tables; found on demand, since only some models need it.
    pub(super) table_places: OnceLock<BTreeMap<String, Place>>,
    /// What the front matter says.
    pub front_matter: FrontMatter,
    /// Its text, in the lines of the file.
    pub(super) front_matter_text: String,
    /// The sources it reads as raw tables, in alphabetical order.
    pub sources: Vec<String>,
    /// The tables of other models it reads, in alphabetical order.
    pub upstream: Vec<String>,
}

/// What is found in the query of a model.
#[derive(Debug, Clone)]
pub(super) struct Details {
    /// See [`Model::canonical_sql`].
    canonical_sql: String,
    columns: Columns,
}

/// Columns of the outermost SELECT, by name.
#[derive(Debug, Clone, Default)]
struct Columns {
    /// Trailing comments.
    descriptions: BTreeMap<String, String>,
    /// Places of the names.
    places: BTreeMap<String, Place>,
}

/// Where the descriptions of a model's columns are, if not in its own query.
#[derive(Debug, Clone)]
pub(super) struct DescribedBy {
    /// A query with these columns and their comments.
    pub(super) sql: String,
    /// Descriptions of columns that this query does not have.
    pub(super) further: BTreeMap<String, String>,
}

/// The TOML block at the head of a model. Keys follow dbt's names.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrontMatter {
    /// What one row is; description of the table in BigQuery.
    pub description: String,
    /// The TIMESTAMP or DATE column whose UTC day partitions the table.
    pub partition_by: Option<String>,
    /// The days that a partition reads, if these are more than its own.
    pub window: Option<Window>,
    /// Up to four columns by which BigQuery clusters.
    #[serde(default)]
    pub cluster_by: Vec<String>,
    /// The columns that together identify a row.
    #[serde(default)]
    pub unique_key: Vec<String>,
    /// Columns of the query that are left out of the table.
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
    /// What must hold of the rows.
    #[serde(default)]
    pub tests: Vec<DataTest>,
}

/// A test of a model's rows; it runs whenever a partition is derived.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "TestEntry")]
pub struct DataTest {
    /// What must hold.
    pub kind: TestKind,
    /// What follows if it does not.
    pub severity: TestSeverity,
}

/// What a [`DataTest`] asks.
#[derive(Debug, Clone, PartialEq)]
pub enum TestKind {
    /// None of these columns is NULL.
    NotNull(Vec<String>),
    /// No two rows have the same values in these columns. NULL is not compared.
    Unique(Vec<String>),
    /// A column has one of these values, or NULL.
    AcceptedValues {
        /// The column.
        column: String,
        /// The values.
        values: Vec<Literal>,
    },
    /// A column is within bounds (inclusive), or NULL.
    Range {
        /// The column.
        column: String,
        /// The lowest value.
        min: Option<Literal>,
        /// The highest value.
        max: Option<Literal>,
    },
    /// Each value of a column, except NULL, occurs in a column of a table that the model reads.
    Relationships {
        /// The column.
        column: String,
        /// The table.
        to: String,
        /// Its column.
        field: String,
    },
    /// The newest time of a column is at most this old at the end of the partition, or now if it is not over.
    Freshness {
        /// The column, a TIMESTAMP or DATE.
        column: String,
        /// The age, in hours.
        max_age_hours: u32,
    },
    /// A query over the table that must return no row.
    Sql(String),
}

/// What follows from a test that fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TestSeverity {
    /// It is reported.
    Warn,
    /// The partition is not replaced.
    #[default]
    Error,
}

/// A value in the front matter.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "a number, a text, true or false")]
pub enum Literal {
    /// A whole number.
    Integer(i64),
    /// Another number.
    Number(f64),
    /// A truth value.
    Bool(bool),
    /// Text, or a time as text.
    Text(String),
}

/// A [`DataTest`] as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TestEntry {
    not_null: Option<Vec<String>>,
    unique: Option<Vec<String>>,
    accepted_values: Option<AcceptedValues>,
    range: Option<Range>,
    relationships: Option<Relationships>,
    freshness: Option<Freshness>,
    sql: Option<String>,
    #[serde(default)]
    severity: TestSeverity,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AcceptedValues {
    column: String,
    values: Vec<Literal>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Relationships {
    column: String,
    to: String,
    field: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Freshness {
    column: String,
    max_age_hours: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    column: String,
    min: Option<Literal>,
    max: Option<Literal>,
}

/// The maximum age that a test may accept: some hundred years.
const MOST_HOURS: u32 = 1_000_000;

impl TryFrom<TestEntry> for DataTest {
    type Error = String;

    fn try_from(entry: TestEntry) -> Result<Self, String> {
        let kinds = [
            entry.not_null.map(TestKind::NotNull),
            entry.unique.map(TestKind::Unique),
            entry
                .accepted_values
                .map(
                    |AcceptedValues { column, values }| TestKind::AcceptedValues { column, values },
                ),
            entry
                .range
                .map(|Range { column, min, max }| TestKind::Range { column, min, max }),
            entry
                .relationships
                .map(
                    |Relationships { column, to, field }| TestKind::Relationships {
                        column,
                        to,
                        field,
                    },
                ),
            entry.freshness.map(
                |Freshness {
                     column,
                     max_age_hours,
                 }| TestKind::Freshness {
                    column,
                    max_age_hours,
                },
            ),
            entry.sql.map(TestKind::Sql),
        ];
        let mut kinds = kinds.into_iter().flatten();
        let (Some(kind), None) = (kinds.next(), kinds.next()) else {
            let known = "`not_null`, `unique`, `accepted_values`, `range`, `relationships`, `freshness` or `sql`";
            return Err(format!("a test has exactly one of {known}"));
        };
        match &kind {
            TestKind::NotNull(columns) | TestKind::Unique(columns) if columns.is_empty() => {
                Err("a test names at least one column".into())
            }
            TestKind::Freshness { max_age_hours, .. } if *max_age_hours > MOST_HOURS => Err(
                format!("freshness: `max_age_hours` is {max_age_hours}, and at most {MOST_HOURS}"),
            ),
            TestKind::AcceptedValues { values, .. } if values.is_empty() => {
                Err("accepted_values: `values` is empty".into())
            }
            TestKind::Range {
                min: None,
                max: None,
                ..
            } => Err("range: `min` or `max` is missing".into()),
            _ => Ok(Self {
                kind,
                severity: entry.severity,
            }),
        }
    }
}

impl Literal {
    /// As a literal in a query, valid next to any other token.
    pub fn sql(&self) -> String {
        match self {
            // After a minus sign, another one would begin a comment.
            Self::Integer(number) if *number < 0 => format!("({number})"),
            Self::Integer(number) => number.to_string(),
            // So it is a DOUBLE even without decimals, and TOML has `inf` and `nan`.
            Self::Number(number) => format!("CAST('{number}' AS DOUBLE)"),
            Self::Bool(truth) => truth.to_string(),
            Self::Text(text) => format!("'{}'", text.replace('\'', "''")),
        }
    }
}

impl Model {
    /// The query as the parser prints it: without comments, with single spaces. Texts that print the same have the same
    /// meaning.
    pub fn canonical_sql(&self) -> &str {
        &self.details().canonical_sql
    }

    /// Column name → trailing `-- comment`.
    pub fn column_descriptions(&self) -> &BTreeMap<String, String> {
        &self.details().columns.descriptions
    }

    fn details(&self) -> &Details {
        self.details
            .get_or_init(|| with_deep_stack(|| self.find_details()))
    }

    /// Models are only made of queries that can be parsed.
    fn find_details(&self) -> Details {
        let own = statement(&self.sql);
        let canonical_sql = own.as_ref().map_or_else(
            |_| self.sql.trim().into(),
            |(statement, _)| canonical(&self.sql, statement),
        );
        let described = match &self.described_by {
            None => own,
            Some(described_by) => statement(&described_by.sql),
        };
        let mut columns = described.map_or_else(
            |_| Columns::default(),
            |(statement, tokens)| columns_of(&tokens, &statement),
        );
        if let Some(described_by) = &self.described_by {
            columns.descriptions.extend(described_by.further.clone());
        }
        Details {
            canonical_sql,
            columns,
        }
    }

    /// The model with these values instead of the catalog's settings, for a test that does not depend on them. All
    /// settings that it uses must be among them.
    ///
    /// # Errors
    /// The name of the missing setting, and what to do.
    pub fn with_settings(&self, settings: &BTreeMap<String, Literal>) -> Result<Self, String> {
        let Some(unset) = &self.unset_sql else {
            return Ok(self.clone());
        };
        let applied = settings::apply(unset, settings).map_err(|(_, reason)| reason)?;
        Ok(Self {
            sql: applied.unwrap_or_else(|| unset.clone()),
            details: OnceLock::new(),
            table_places: OnceLock::new(),
            ..self.clone()
        })
    }

    /// The table with each version of this one's rows, if the front matter asks for it.
    pub fn history_table(&self) -> Option<String> {
        self.front_matter
            .history
            .then(|| format!("{}_history", self.name))
    }

    /// The place of this column's name in the query, or else where the query begins.
    pub fn place_of_column(&self, name: &str) -> Place {
        let named = self.details().columns.places.get(name).copied();
        named.unwrap_or_else(|| self.place_of_query())
    }

    /// Where the query begins.
    pub fn place_of_query(&self) -> Place {
        place_of_query(&self.sql)
    }

    /// Where the query first names a table.
    pub fn place_of_table(&self, name: &str) -> Place {
        let places = self.table_places.get_or_init(|| {
            let names = self.sources.iter().chain(&self.upstream);
            let place = |name: &String| Some((name.clone(), place_of_word(&self.sql, name)?));
            names.filter_map(place).collect()
        });
        let found = places.get(name).copied();
        let found = found.or_else(|| place_of_word(&self.sql, name));
        found.unwrap_or_else(|| self.place_of_query())
    }

    /// The place of this key in the front matter, or of this text as (part of) its value.
    pub fn place_of_key(&self, key: &str, value: Option<&str>) -> Place {
        let quoted = value.map(|value| format!("\"{value}\""));
        self.place_after(0, key, |rest| {
            let quoted = quoted?;
            Some((rest.find(&quoted)?, quoted.len()))
        })
    }

    /// The same for the test with this number, counted from 0; the value must be a separate word.
    pub fn place_in_test(&self, number: usize, key: &str, value: Option<&str>) -> Place {
        let is_header = |line: &str| line.trim_start().starts_with("[[tests]]");
        let lines = self.front_matter_text.split_inclusive('\n');
        let begins = lines.scan(0, |begin, line| {
            *begin += line.len();
            Some((*begin - line.len(), line))
        });
        let headers = begins.filter(|(_, line)| is_header(line));
        let begin = headers.map(|(begin, _)| begin).nth(number).unwrap_or(0);
        self.place_after(begin, key, |rest| {
            let value = value?;
            let is_part = |c: char| c.is_alphanumeric() || c == '_';
            let found = rest.match_indices(value).find(|(at, _)| {
                let after = rest[at + value.len()..].chars().next();
                let before = rest[..*at].chars().next_back();
                !before.is_some_and(is_part) && !after.is_some_and(is_part)
            })?;
            Some((found.0, value.len()))
        })
    }

    /// The place of a key from this byte of the front matter on, or of what `find` finds after it (start and length).
    fn place_after(
        &self,
        from: usize,
        key: &str,
        find: impl FnOnce(&str) -> Option<(usize, usize)>,
    ) -> Place {
        let text = &self.front_matter_text;
        let mut begin = from;
        for line in text[from..].split_inclusive('\n') {
            let rest = line.trim_start().strip_prefix(key);
            if rest.is_some_and(|rest| rest.trim_start().starts_with('=')) {
                let start = begin + (line.len() - line.trim_start().len());
                let (at, length) = match find(&text[start..]) {
                    Some((at, length)) => (start + at, length),
                    None => (start, key.len()),
                };
                return Place::of_bytes(text, at, at + length);
            }
            begin += line.len();
        }
        Place::line(1)
    }
}

const OPEN: &str = "/*---";
const CLOSE: &str = "---*/";
/// Stack for the largest statement that is accepted, in bytes.
const STACK_BYTES: usize = 64 << 20;

/// The file of a model.
#[derive(Debug, Clone)]
pub(super) struct ModelFile<'a> {
    /// Its path, for messages.
    pub(super) file: String,
    pub(super) family: &'a str,
    pub(super) name: &'a str,
    pub(super) text: &'a str,
}

impl ModelFile<'_> {
    pub(super) fn place(&self) -> SourceLocation<'_> {
        SourceLocation { file: &self.file }
    }
}

/// What was read from the file of a model. Despite problems there is a model if its query can be planned, so that all
/// problems are found at once.
pub(super) type ParsedModel = (Option<Model>, Vec<Problem>);

/// A function that reads models, in the order of their files: [`parse_all`], or one that caches unchanged texts.
pub(super) type Parse<'a> = dyn FnMut(&[ModelFile<'_>], &Settings) -> Vec<ParsedModel> + 'a;

/// Reads models from the texts of their files.
pub(super) fn parse_all(files: &[ModelFile<'_>], settings: &Settings) -> Vec<ParsedModel> {
    with_deep_stack(|| files.iter().map(|file| parse(file, settings)).collect())
}

/// Statements are printed, compared and dropped recursively, as deep as their expressions are nested.
fn with_deep_stack<T>(work: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(STACK_BYTES / 4 * 3, STACK_BYTES, work)
}

fn parse(model: &ModelFile<'_>, settings: &Settings) -> ParsedModel {
    let (place, text) = (model.place(), model.text);
    let Some(rest) = text.strip_prefix(OPEN) else {
        let reason = format!("the file must begin with a front matter block `{OPEN} … {CLOSE}`");
        return (None, vec![place.at(1, reason)]);
    };
    let Some(end) = rest.find(CLOSE) else {
        let reason = format!("the front matter block is not closed with `{CLOSE}`");
        return (None, vec![place.at(1, reason)]);
    };
    let mut problems = Vec::new();
    // The marker is replaced by spaces, so that columns stay true on the first line too.
    let front_matter_text = format!("{}{}", " ".repeat(OPEN.len()), &rest[..end]);
    let front_matter = toml::from_str::<FrontMatter>(&front_matter_text)
        .map_err(|error| problems.push(place.toml(&front_matter_text, &error, FRONT_MATTER_KEYS)))
        .ok();
    let head = OPEN.len() + end + CLOSE.len();
    let blanked: String = text[..head]
        .chars()
        .map(|c| if c == '\n' { '\n' } else { ' ' })
        .collect();
    let mut sql = format!("{blanked}{}", &text[head..]);
    let mut unset_sql = None;
    match settings::apply(&sql, settings) {
        Ok(None) => {}
        Ok(Some(applied)) => unset_sql = Some(std::mem::replace(&mut sql, applied)),
        Err((at, reason)) => problems.push(place.within(at, reason)),
    }

    let query = match known_models::tables(&sql) {
        Some((sources, upstream)) => Some(ReadQuery { sources, upstream }),
        None => read_query(&place, &sql, &mut problems),
    };
    let (Some(front_matter), Some(query)) = (front_matter, query) else {
        return (None, problems);
    };
    let model = Model {
        name: model.name.into(),
        family: model.family.into(),
        file: model.file.clone(),
        details: OnceLock::new(),
        described_by: None,
        table_places: OnceLock::new(),
        unset_sql,
        sql,
        front_matter,
        front_matter_text,
        sources: query.sources,
        upstream: query.upstream,
    };
    (Some(model), problems)
}

/// What is read from a query.
pub(super) struct ReadQuery {
    /// The sources whose raw rows it reads, in alphabetical order.
    pub(super) sources: Vec<String>,
    /// The tables of other models that it reads, in alphabetical order.
    pub(super) upstream: Vec<String>,
}

/// Reads a query and adds its problems to `problems`; none if it cannot be planned.
pub(super) fn read_query(
    place: &SourceLocation<'_>,
    sql: &str,
    problems: &mut Vec<Problem>,
) -> Option<ReadQuery> {
    let (statement, tokens) = statement(sql)
        .map_err(|(at, reason)| problems.push(place.within(at, reason)))
        .ok()?;
    let (tables, _) = resolve_table_references(&statement, false)
        .map_err(|error| problems.push(place.within(place_of_query(sql), error.to_string())))
        .ok()?;
    let (mut sources, mut upstream) = (Vec::new(), Vec::new());
    let mut is_readable = true;
    for table in tables {
        match &table {
            TableReference::Partial { schema, table } if &**schema == "raw" => {
                let name = table.strip_suffix(VERSIONS).unwrap_or(table);
                sources.push(name.to_string())
            }
            TableReference::Bare { table } => upstream.push(table.to_string()),
            _ => {
                let at = place_of_word(sql, table.table());
                problems.push(place.within(
                    at.unwrap_or_else(|| place_of_query(sql)),
                    format!(
                        "reads `{table}`, but a model reads raw tables, `raw.<source>`, and tables of other models, \
                         `<table>`"
                    ),
                ));
                is_readable = false;
            }
        }
    }
    sources.sort();
    sources.dedup();
    upstream.sort();
    upstream.dedup();
    if sources.is_empty() && upstream.is_empty() && is_readable {
        problems.push(place.within(
            place_of_query(sql),
            "reads nothing: a model selects FROM raw.<source>, or FROM the table of another model"
                .into(),
        ));
        is_readable = false;
    }
    problems.extend(
        aliases_without_as(&tokens, &statement)
            .into_iter()
            .map(|(at, reason)| place.within(at, reason)),
    );
    is_readable.then_some(ReadQuery { sources, upstream })
}

/// The query as the parser prints it, if that is parsed as the same query again; else as it is written. So two
/// different queries never become the same text.
fn canonical(sql: &str, statement: &Statement) -> String {
    let printed = statement.to_string();
    // A test parses what is printed of the program's own models, so that each command need not.
    if known_models::is_known(sql) || is_parsed_as(&printed, statement) {
        printed
    } else {
        sql.trim().into()
    }
}

/// Whether a text is parsed as this query.
fn is_parsed_as(text: &str, statement: &Statement) -> bool {
    DFParser::parse_sql(text)
        .is_ok_and(|parsed| parsed.len() == 1 && parsed.front() == Some(statement))
}

/// Aliases that follow their expression without AS: usually two columns with a missing comma between them.
fn aliases_without_as(tokens: &[TokenWithSpan], statement: &Statement) -> Vec<(Place, String)> {
    struct Aliases<'a> {
        code: Vec<&'a TokenWithSpan>,
        found: Vec<(Place, String)>,
    }
    impl Aliases<'_> {
        fn look(&mut self, body: &SetExpr) {
            match body {
                SetExpr::Select(select) => {
                    for item in &select.projection {
                        if let SelectItem::ExprWithAlias { expr, alias } = item {
                            self.check(expr, alias);
                        }
                    }
                }
                SetExpr::SetOperation { left, right, .. } => {
                    self.look(left);
                    self.look(right);
                }
                // The visitor visits queries in brackets by itself.
                _ => {}
            }
        }

        fn check(&mut self, expr: &Expr, alias: &Ident) {
            let start = alias.span.start;
            let at = self.code.partition_point(|token| token.span.start < start);
            let is_as = at
                .checked_sub(1)
                .and_then(|before| self.code.get(before))
                .is_some_and(
                    |token| matches!(&token.token, Token::Word(word) if word.keyword == Keyword::AS),
                );
            if !is_as {
                let expr: String = expr.to_string().chars().take(60).collect();
                self.found.push((
                    Place::of_span(alias.span),
                    format!(
                        "`{alias}` follows `{expr}` without a comma or AS: write `{expr}, {alias}` for two columns, \
                         or `{expr} AS {alias}` for one"
                    ),
                ));
            }
        }
    }
    impl Visitor for Aliases<'_> {
        type Break = ();

        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            self.look(&query.body);
            ControlFlow::Continue(())
        }
    }
    let Statement::Statement(statement) = statement else {
        return Vec::new();
    };
    let is_code = |token: &&TokenWithSpan| !matches!(token.token, Token::Whitespace(_));
    let mut aliases = Aliases {
        code: tokens.iter().filter(is_code).collect(),
        found: Vec::new(),
    };
    // Nothing breaks the visit off.
    let _ = statement.visit(&mut aliases);
    aliases.found.sort();
    aliases.found
}

/// The suffix of a source's name for the table of all versions, if its records change.
pub const VERSIONS: &str = "__versions";

/// The keys of the front matter, then those of its tests.
pub const FRONT_MATTER_KEYS: &[&str] = &[
    "description",
    "partition_by",
    "window",
    "cluster_by",
    "unique_key",
    "drop",
    "hash",
    "partition_expiration_days",
    "labels",
    "history",
    "tests",
    "not_null",
    "unique",
    "accepted_values",
    "range",
    "relationships",
    "freshness",
    "sql",
    "severity",
];

/// The one query of the file and its tokens, or the place and reason if there is none.
fn statement(sql: &str) -> Result<(Statement, Vec<TokenWithSpan>), (Place, String)> {
    let on_line = |(line, reason)| (Place::line(line), reason);
    let tokens = checked_tokens(sql).map_err(on_line)?;
    let parsed = statements(sql, tokens.as_deref());
    let mut statements = parsed.map_err(|error| syntax(sql, &error))?;
    match (statements.pop_front(), statements.pop_front()) {
        (Some(Statement::Statement(statement)), None)
            if matches!(*statement, SqlStatement::Query(_)) =>
        {
            check_expansion(&statement).map_err(on_line)?;
            let tokens = tokens.unwrap_or_default();
            Ok((Statement::Statement(statement), tokens))
        }
        (None, _) => Err((Place::line(1), "the file holds no query".into())),
        _ => Err((
            place_of_query(sql),
            "the file must hold one SELECT and nothing else".into(),
        )),
    }
}

/// The statements of a text; tokens are reused if it is tokenized already.
fn statements(
    sql: &str,
    tokens: Option<&[TokenWithSpan]>,
) -> Result<VecDeque<Statement>, DataFusionError> {
    let Some(tokens) = tokens else {
        return DFParser::parse_sql(sql);
    };
    let mut of_tokens = DFParserBuilder::new("").build()?;
    of_tokens.parser = of_tokens.parser.with_tokens_with_locations(tokens.to_vec());
    of_tokens.parse_statements()
}

/// A syntax error, in words that do not require knowledge of the parser.
fn syntax(sql: &str, error: &DataFusionError) -> (Place, String) {
    let message = match error.find_root() {
        DataFusionError::SQL(error, _) => match &**error {
            ParserError::TokenizerError(message) => {
                return unclosed(sql).unwrap_or_else(|| {
                    let (place, text) = placed(sql, message);
                    (place, text.to_string())
                });
            }
            ParserError::ParserError(message) => message.clone(),
            ParserError::RecursionLimitExceeded => "the query is nested too deeply".into(),
        },
        other => other.strip_backtrace(),
    };
    let (place, text) = placed(sql, &message);
    let parts = text
        .strip_prefix("Expected: ")
        .and_then(|rest| rest.rsplit_once(", found: "));
    let Some((expected, found)) = parts else {
        return (place, text.to_string());
    };
    let is_sign = |text: &str| !text.contains(|c: char| c.is_alphanumeric());
    let is_over = expected == "end of statement";
    let wanted = match is_sign(expected) {
        true => format!("`{expected}`"),
        false if is_over => "the end of the query".into(),
        false => expected.to_string(),
    };
    let found: String = match found {
        "EOF" => "the end of the file".into(),
        found => format!("`{}`", found.chars().take(60).collect::<String>()),
    };
    // What follows a whole expression where nothing can follow it.
    let hint = match is_over && !is_sign(&found) {
        true => ": is there a comma missing before it?",
        false => "",
    };
    (place, format!("expected {wanted}, found {found}{hint}"))
}

/// sqlparser ends its messages with ` at Line: 3, Column: 5`, unless the error is at the end of the text.
fn placed<'a>(sql: &str, message: &'a str) -> (Place, &'a str) {
    let parts = message.rsplit_once(" at Line: ");
    let numbers = parts.and_then(|(_, at)| {
        let (line, column) = at.split_once(", Column: ")?;
        Some((line.parse().ok()?, column.trim_end().parse().ok()?))
    });
    let text = parts.map_or(message, |(text, _)| text);
    let mut places = code(sql).into_iter().map(|it| Place::of_span(it.span));
    let place = match numbers {
        Some((line, column)) => places
            .find(|place| (place.line, place.column) == (line, column))
            .unwrap_or(Place {
                line,
                column,
                length: 1,
            }),
        None => places.next_back().unwrap_or_else(|| Place::line(1)),
    };
    (place, text)
}

/// The text or comment that is not closed. If a quote is missing, the next one closes the text and the last one of all
/// opens another; so a text that continues over the end of its line is suspected first.
fn unclosed(sql: &str) -> Option<(Place, String)> {
    let mut tokens = Vec::new();
    let mut tokenizer = Tokenizer::new(&GenericDialect {}, sql);
    let Err(error) = tokenizer.tokenize_with_location_into_buf(&mut tokens) else {
        return None;
    };
    let rest_of_line = |place: Place| Place { length: 0, ..place };
    let after = tokens.last().map_or(0, |token| {
        let end = token.span.end;
        let place = Place::of_span(Span::new(end, end));
        place.bytes(sql).start
    });
    if error.message.contains("comment") {
        let start = after + sql.get(after..)?.find("/*")?;
        return Some((
            Place::of_bytes(sql, start, start + 2),
            "the comment that begins here is not closed with `*/`".into(),
        ));
    }
    let is_text = error.message.contains("string literal");
    let over_lines = tokens.iter().find(
        |token| matches!(&token.token, Token::SingleQuotedString(text) if text.contains('\n')),
    );
    if let (true, Some(text)) = (is_text, over_lines) {
        return Some((
            rest_of_line(Place::of_span(text.span)),
            format!(
                "the text that begins here continues to line {}: its closing quote is missing",
                text.span.end.line
            ),
        ));
    }
    let what = match is_text {
        true => "text",
        false if error.message.contains("delimiter") => "name",
        false => return None,
    };
    let start = after + sql.get(after..)?.find(['\'', '"', '`'])?;
    Some((
        rest_of_line(Place::of_bytes(sql, start, start + 1)),
        format!("the {what} that begins here is not closed: its closing quote is missing"),
    ))
}

/// The columns of the outermost SELECT: their trailing comments, and the places of their names.
fn columns_of(tokens: &[TokenWithSpan], statement: &Statement) -> Columns {
    let mut columns = Columns::default();
    let comments = trailing_comments(tokens);
    let Statement::Statement(statement) = statement else {
        return columns;
    };
    let SqlStatement::Query(query) = &**statement else {
        return columns;
    };
    let SetExpr::Select(select) = &*query.body else {
        return columns;
    };
    for item in &select.projection {
        let name = match item {
            SelectItem::ExprWithAlias { alias, .. } => alias,
            SelectItem::UnnamedExpr(Expr::Identifier(name)) => name,
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(path)) => match path.last() {
                Some(name) => name,
                None => continue,
            },
            _ => continue,
        };
        if let Some(comment) = comments.get(&name.span.end.line) {
            columns
                .descriptions
                .insert(name.value.clone(), comment.clone());
        }
        let place = Place::of_span(name.span);
        columns.places.entry(name.value.clone()).or_insert(place);
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(sql: &str) -> String {
        canonical(sql, &statement(sql).unwrap().0)
    }

    /// Fingerprints are made from this text: if a new version of the parser prints it in another way, the previous form
    /// must still be accepted, or everything is derived again.
    #[test]
    fn queries_are_printed_as_ever() {
        let sql = "-- All.\nwith c as (select id, unnest(tags) AS tag /* one */ from raw.a)\n\
            SELECT DISTINCT c.id,  CASE when n > 1.50 then 'it''s' else null end AS k, cast(n AS double)/2 AS half,\n\
            n::varchar AS t, \"n\" IS NOT DISTINCT FROM 1 AS d, x['a']['b'] AS f, [1,2][1] AS one,\n\
            count(*) filter (where n<>1) over (partition by id order by n desc nulls last rows between 1 preceding and current row) AS w,\n\
            extract(hour from at) AS h, at at time zone 'UTC' + interval '1 day' AS z, -n AS m, not n in (1,2) AS i,\n\
            name like 'x%' AS l, n between 1 and 2 AS b, (select max(n) from raw.b) AS s, a || b AS ab, count(distinct n) AS cd\n\
            FROM c left join raw.b on c.id=b.id where exists (select 1 from raw.b) and (n = 1 or n != 2)\n\
            group by 1 having count(*) > 1 union all select * exclude (n) from raw.a order by 1 limit 5";
        insta::assert_snapshot!(printed(sql), @r#"WITH c AS (SELECT id, unnest(tags) AS tag FROM raw.a) SELECT DISTINCT c.id, CASE WHEN n > 1.50 THEN 'it''s' ELSE NULL END AS k, CAST(n AS DOUBLE) / 2 AS half, n::VARCHAR AS t, "n" IS NOT DISTINCT FROM 1 AS d, x['a']['b'] AS f, [1, 2][1] AS one, count(*) FILTER (WHERE n <> 1) OVER (PARTITION BY id ORDER BY n DESC NULLS LAST ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS w, EXTRACT(HOUR FROM at) AS h, at AT TIME ZONE 'UTC' + INTERVAL '1 day' AS z, -n AS m, NOT n IN (1, 2) AS i, name LIKE 'x%' AS l, n BETWEEN 1 AND 2 AS b, (SELECT max(n) FROM raw.b) AS s, a || b AS ab, count(DISTINCT n) AS cd FROM c LEFT JOIN raw.b ON c.id = b.id WHERE EXISTS (SELECT 1 FROM raw.b) AND (n = 1 OR n <> 2) GROUP BY 1 HAVING count(*) > 1 UNION ALL SELECT * EXCLUDE (n) FROM raw.a ORDER BY 1 LIMIT 5"#);
        assert_eq!(printed(&printed(sql)), printed(sql));
    }

    /// What [`canonical`] takes for granted.
    #[test]
    fn known_queries_are_parsed_as_they_are_printed() {
        let catalog = crate::catalog::Catalog::open(None).unwrap();
        let known = catalog.models();
        let known: Vec<&str> = known
            .map(|model| model.sql.as_str())
            .filter(|sql| known_models::is_known(sql))
            .collect();
        assert!(known.len() > 200, "{} queries are known", known.len());
        for sql in known {
            let (statement, _) = statement(sql).unwrap();
            assert!(is_parsed_as(&statement.to_string(), &statement), "{sql}");
        }
    }
}
