//! Limits on the size of a query, checked before it is parsed.
//!
//! A query is parsed and planned recursively, as deep as it is nested or chained, and a stack overflow ends the
//! program. And each common table expression is planned once for every reference to it: a chain of 25, each of which
//! refers to the previous one twice, is 33 million tables.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::ast::{
    ObjectName, Query, Statement as SqlStatement, Visit, Visitor,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::bounds::{
    MAX_BRACKETS, MAX_LITERAL_BYTES, MAX_SQL_BYTES, MAX_TABLES, MAX_TOKENS, MAX_TYPES,
};

/// Refuses a query that exceeds a limit, with line and reason. Syntax errors are left to the parser.
pub fn check_query(sql: &str) -> Result<(), (usize, String)> {
    checked_tokens(sql)?;
    for statement in DFParser::parse_sql(sql).into_iter().flatten() {
        if let Statement::Statement(statement) = statement {
            check_expansion(&statement)?;
        }
    }
    Ok(())
}

/// The tokens of a text, including white space and comments; none if it cannot be tokenized, which the parser reports.
/// A text that would overflow the stack is refused, with line and reason: the parser limits neither the nesting of
/// types nor the length of a chain of operators.
pub(super) fn checked_tokens(sql: &str) -> Result<Option<Vec<TokenWithSpan>>, (usize, String)> {
    if sql.len() > MAX_SQL_BYTES {
        return Err((
            1,
            format!("the query is too long: more than {MAX_SQL_BYTES} bytes"),
        ));
    }
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location() else {
        return Ok(None);
    };
    let mut open: Vec<Bracket> = Vec::new();
    let mut follows_type = false;
    let code = tokens
        .iter()
        .filter(|token| !matches!(token.token, Token::Whitespace(_)));
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
        follows_type =
            matches!(&token.token, Token::Word(word) if TYPES_OF_TYPES.contains(&word.keyword));
        let wrong = |reason: String| (usize::try_from(token.span.start.line).unwrap_or(1), reason);
        if open.len() > MAX_BRACKETS {
            return Err(wrong(format!(
                "more than {MAX_BRACKETS} levels of brackets"
            )));
        }
        if open
            .iter()
            .filter(|bracket| **bracket != Bracket::Other)
            .count()
            > MAX_TYPES
        {
            return Err(wrong(format!(
                "more than {MAX_TYPES} levels of nested types"
            )));
        }
        if count >= MAX_TOKENS {
            return Err(wrong(format!(
                "the query is too long: more than {MAX_TOKENS} tokens"
            )));
        }
        if literal_bytes(token) > MAX_LITERAL_BYTES {
            return Err(wrong(format!(
                "a literal of more than {MAX_LITERAL_BYTES} bytes"
            )));
        }
    }
    Ok(Some(tokens))
}

/// Every row of a result that contains a literal has a copy of it.
fn literal_bytes(token: &TokenWithSpan) -> usize {
    match &token.token {
        Token::Word(_) | Token::Whitespace(_) => 0,
        other => other.to_string().len(),
    }
}

#[derive(PartialEq)]
enum Bracket {
    AngleOfType,
    RoundOfType,
    Other,
}

/// Types that are written before the types that they contain.
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

/// Refuses a query that reads too many tables, after its common table expressions are expanded.
pub(super) fn check_expansion(statement: &SqlStatement) -> Result<(), (usize, String)> {
    let mut count = Count::default();
    // Nothing breaks the visit off.
    let _ = statement.visit(&mut count);
    if count.tables <= MAX_TABLES {
        return Ok(());
    }
    let reason = "a common table expression (WITH) is evaluated once for each reference";
    Err((
        1,
        format!("the query reads more than {MAX_TABLES} tables: {reason}"),
    ))
}

/// Counts tables, in the order of their occurrence.
#[derive(Default)]
struct Count {
    /// Queries that are being visited, the outermost first.
    open: Vec<Frame>,
    /// Tables of the finished outermost queries.
    tables: u64,
}

/// A query that is being visited.
struct Frame {
    /// The name of the query, if it is a common table expression of the one around it.
    name: Option<String>,
    /// Its common table expressions that are still to come: address (as identity) and name.
    to_come: HashMap<*const Query, String>,
    /// The visited ones, with their tables.
    known: HashMap<String, u64>,
    tables: u64,
}

impl Visitor for Count {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let name = self
            .open
            .last_mut()
            .and_then(|around| around.to_come.remove(&std::ptr::from_ref(query)));
        let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
        let to_come = ctes
            .map(|cte| {
                (
                    std::ptr::from_ref(&*cte.query),
                    cte.alias.name.value.clone(),
                )
            })
            .collect();
        self.open.push(Frame {
            name,
            to_come,
            known: HashMap::new(),
            tables: 0,
        });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        let Some(done) = self.open.pop() else {
            return ControlFlow::Continue(());
        };
        match (self.open.last_mut(), done.name) {
            (Some(around), Some(name)) => _ = around.known.insert(name, done.tables),
            (Some(around), None) => around.tables = around.tables.saturating_add(done.tables),
            (None, _) => self.tables = self.tables.saturating_add(done.tables),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let name = match relation.0.as_slice() {
            [part] => part.as_ident().map(|ident| ident.value.as_str()),
            _ => None,
        };
        let known = name.and_then(|name| {
            self.open
                .iter()
                .rev()
                .find_map(|frame| frame.known.get(name))
        });
        let tables = known.copied().unwrap_or(1).max(1);
        match self.open.last_mut() {
            Some(frame) => frame.tables = frame.tables.saturating_add(tables),
            None => self.tables = self.tables.saturating_add(tables),
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(sql: &str) -> u64 {
        let mut count = Count::default();
        for statement in DFParser::parse_sql(sql).unwrap() {
            let Statement::Statement(statement) = statement else {
                panic!("{sql}")
            };
            let _ = statement.visit(&mut count);
        }
        count.tables
    }

    #[test]
    fn tables_are_counted_as_often_as_they_are_read() {
        let cases = [
            ("SELECT 1", 0),
            ("SELECT * FROM raw.a", 1),
            ("SELECT * FROM raw.a, raw.a JOIN raw.b ON true", 3),
            ("WITH c AS (SELECT * FROM raw.a) SELECT * FROM c", 1),
            (
                "WITH c AS (SELECT * FROM raw.a JOIN raw.b ON true) SELECT * FROM c x JOIN c y ON true",
                4,
            ),
            ("WITH c AS (SELECT 1) SELECT * FROM c, c", 2),
            // The name inside is that of a table, as is one with a schema.
            ("WITH c AS (SELECT * FROM c, c) SELECT * FROM c, raw.c", 3),
            (
                "WITH a AS (SELECT * FROM x), b AS (SELECT * FROM a, a), c AS (SELECT * FROM b, b) SELECT * FROM c",
                4,
            ),
            (
                "WITH a AS (SELECT * FROM x, x), b AS (SELECT * FROM x) SELECT 1 WHERE EXISTS (SELECT 1 FROM a, b)",
                3,
            ),
            (
                "SELECT (SELECT max(i) FROM x), i IN (SELECT i FROM y) FROM (SELECT * FROM z)",
                3,
            ),
            // Names from outside are visible inside, unless they are redefined there.
            (
                "WITH a AS (SELECT * FROM x, x) SELECT * FROM (WITH b AS (SELECT * FROM a, a) SELECT * FROM b)",
                4,
            ),
            (
                "WITH a AS (SELECT * FROM x, x) SELECT * FROM (WITH a AS (SELECT * FROM y) SELECT * FROM a), a",
                3,
            ),
            ("SELECT * FROM x UNION ALL SELECT * FROM y", 2),
            (
                "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT * FROM r",
                1,
            ),
        ];
        for (sql, expected) in cases {
            assert_eq!(tables(sql), expected, "{sql}");
        }
    }

    /// `count` common table expressions, each made from the previous one.
    fn chain(count: usize, first: &str, next: impl Fn(usize) -> String) -> String {
        let ctes: Vec<String> = (1..count)
            .map(|n| format!("c{n} AS ({})", next(n - 1)))
            .collect();
        format!(
            "WITH c0 AS ({first}), {} SELECT * FROM c{}",
            ctes.join(", "),
            count - 1
        )
    }

    #[test]
    fn oversized_queries_are_refused() {
        let first = "SELECT * FROM raw.a";
        let joins = |count| {
            chain(count, first, |n| {
                format!("SELECT x.i FROM c{n} x JOIN c{n} y ON x.i = y.i")
            })
        };
        let exists = |count| {
            chain(count, first, |n| {
                format!("SELECT * FROM c{n} WHERE i IN (SELECT i FROM c{n})")
            })
        };
        for too_much in [
            joins(25),
            joins(10),
            exists(64),
            chain(64, first, |n| {
                format!("SELECT * FROM c{n} UNION SELECT * FROM c{n}")
            }),
        ] {
            let (line, reason) = check_query(&too_much).unwrap_err();
            assert!(
                line == 1 && reason.contains("more than 256 tables"),
                "{reason}"
            );
        }
        assert!(check_query(&joins(9)).is_ok());
        assert!(check_query(&chain(200, first, |n| format!("SELECT * FROM c{n}"))).is_ok());
        let literal = |bytes: usize| format!("SELECT\n'{}'", "x".repeat(bytes));
        assert!(check_query(&literal(MAX_LITERAL_BYTES - 2)).is_ok());
        assert_eq!(check_query(&literal(MAX_LITERAL_BYTES)).unwrap_err().0, 2);
        let comment = format!("SELECT 1 /* {} */", "x".repeat(MAX_SQL_BYTES));
        assert!(check_query(&comment).unwrap_err().1.contains("too long"));
        assert!(check_query("this is not SQL").is_ok());
    }
}
