//! Raw schemas: SQL column definitions to Arrow fields.
//!
//! DataFusion's own tokenizer reads them, but the grammar is implemented here: its parser does not limit the nesting of
//! types, and its planner has no Arrow type for `MAP`, nor for `JSON` (text kept exactly as sent). It accepts the few
//! types that a JSON page can have.

use std::collections::HashSet;
use std::iter::Peekable;
use std::sync::Arc;
use std::vec::IntoIter;

use arrow::datatypes::{DataType, Field, Fields};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer, Word};

/// Field metadata key of a column declared `JSON`.
pub const JSON_TYPE: &str = "samsara:json";

/// Maximum number of fields of an object: as many as BigQuery allows columns in a table.
const MAX_FIELDS: usize = 10_000;

/// Maximum nesting depth of lists and objects.
const MAX_DEPTH: usize = 32;

/// The Arrow type of `MAP(VARCHAR, VARCHAR)`.
pub fn map_type() -> DataType {
    let entries = Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Utf8, true),
    ]);
    DataType::Map(
        Arc::new(Field::new("entries", DataType::Struct(entries), false)),
        false,
    )
}

/// Parses `id VARCHAR, readings ARRAY<STRUCT<…>>` into fields. Every field may be absent, hence nullable.
///
/// # Errors
/// What is wrong with the text.
pub fn parse(ddl: &str) -> Result<Fields, String> {
    let tokens = Tokenizer::new(&GenericDialect {}, ddl)
        .tokenize()
        .map_err(|error| error.to_string())?;
    let tokens = tokens.into_iter().flat_map(|token| match token {
        Token::Whitespace(_) => vec![],
        // Two lists or objects end at once.
        Token::ShiftRight => vec![Token::Gt, Token::Gt],
        token => vec![token],
    });
    let mut parser = Parser {
        tokens: tokens.collect::<Vec<_>>().into_iter().peekable(),
    };
    if parser.tokens.peek().is_none() {
        return Err("a schema needs at least one column".into());
    }
    let fields = parser.fields(1)?;
    match parser.tokens.next() {
        None => Ok(fields),
        Some(Token::Word(_)) => Err("a raw schema has names and types only, no constraints".into()),
        Some(token) => Err(format!("Expected `,`, found `{token}`")),
    }
}

struct Parser {
    tokens: Peekable<IntoIter<Token>>,
}

impl Parser {
    /// `name TYPE, name TYPE …`
    fn fields(&mut self, depth: usize) -> Result<Fields, String> {
        let mut fields: Vec<Field> = Vec::new();
        let mut names = HashSet::new();
        loop {
            let Word { value: name, .. } = self.word("a column name")?;
            // Names that differ only in case are the same name to BigQuery.
            if !names.insert(name.to_ascii_lowercase()) {
                return Err(format!("`{name}` is declared twice"));
            }
            if name.starts_with('_') {
                return Err(format!(
                    "`{name}`: names that start with `_` are reserved for the pipeline"
                ));
            }
            let json = self.is_json();
            let data_type = self
                .data_type(depth)
                .map_err(|error| format!("`{name}`: {error}"))?;
            let field = Field::new(name, data_type, true);
            let metadata = json.then(|| (JSON_TYPE.to_string(), "true".to_string()));
            fields.push(field.with_metadata(metadata.into_iter().collect()));
            if self.tokens.next_if_eq(&Token::Comma).is_none() {
                break;
            }
        }
        if fields.len() > MAX_FIELDS {
            return Err(format!(
                "{} fields in one object; at most {MAX_FIELDS} are allowed",
                fields.len()
            ));
        }
        Ok(Fields::from(fields))
    }

    fn data_type(&mut self, depth: usize) -> Result<DataType, String> {
        if depth > MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH} levels"));
        }
        let word = self.word("a type")?;
        Ok(match word.keyword {
            Keyword::VARCHAR | Keyword::TEXT | Keyword::STRING | Keyword::JSON => DataType::Utf8,
            Keyword::BIGINT => DataType::Int64,
            Keyword::DOUBLE | Keyword::FLOAT64 => DataType::Float64,
            Keyword::BOOLEAN | Keyword::BOOL => DataType::Boolean,
            Keyword::ARRAY => {
                self.expect(&Token::Lt)?;
                if self.is_json() {
                    return Err("declare a list of JSON values as JSON, not as ARRAY<JSON>".into());
                }
                let item = Field::new("item", self.data_type(depth + 1)?, true);
                self.expect(&Token::Gt)?;
                DataType::List(Arc::new(item))
            }
            Keyword::STRUCT => {
                self.expect(&Token::Lt)?;
                let fields = self.fields(depth + 1)?;
                self.expect(&Token::Gt)?;
                DataType::Struct(fields)
            }
            Keyword::MAP => {
                self.expect(&Token::LParen)?;
                let key = self.word("VARCHAR")?;
                self.expect(&Token::Comma)?;
                let value = self.word("VARCHAR")?;
                self.expect(&Token::RParen)?;
                if [&key, &value]
                    .iter()
                    .any(|word| word.keyword != Keyword::VARCHAR)
                {
                    return Err("the only map type is MAP(VARCHAR, VARCHAR)".into());
                }
                map_type()
            }
            _ => {
                return Err(format!(
                    "unknown type {word}; use VARCHAR, BIGINT, DOUBLE, BOOLEAN, JSON, ARRAY<…>, \
                     STRUCT<…> or MAP(VARCHAR, VARCHAR)"
                ));
            }
        })
    }

    fn is_json(&mut self) -> bool {
        matches!(self.tokens.peek(), Some(Token::Word(word)) if word.keyword == Keyword::JSON)
    }

    fn word(&mut self, what: &str) -> Result<Word, String> {
        match self.tokens.next() {
            Some(Token::Word(word)) => Ok(word),
            Some(token) => Err(format!("Expected {what}, found `{token}`")),
            None => Err(format!("Expected {what}, found the end")),
        }
    }

    fn expect(&mut self, wanted: &Token) -> Result<(), String> {
        match self.tokens.next() {
            Some(token) if token == *wanted => Ok(()),
            Some(token) => Err(format!("Expected `{wanted}`, found `{token}`")),
            None => Err(format!("Expected `{wanted}`, found the end")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_types_keep_their_names_and_order() {
        let fields = parse(
            "id VARCHAR, engineRpm ARRAY<STRUCT<time VARCHAR, value DOUBLE>>, ext MAP(VARCHAR, VARCHAR), tags JSON",
        )
        .unwrap();
        assert_eq!(
            fields.iter().map(|f| f.name().as_str()).collect::<Vec<_>>(),
            ["id", "engineRpm", "ext", "tags"]
        );
        let DataType::List(item) = fields[1].data_type() else {
            panic!("a list")
        };
        let DataType::Struct(members) = item.data_type() else {
            panic!("of structs")
        };
        assert_eq!(members[1].data_type(), &DataType::Float64);
        assert_eq!(fields[2].data_type(), &map_type());
        assert!(fields[3].metadata().contains_key(JSON_TYPE));
    }

    #[test]
    fn refuses_with_the_column_named() {
        for (ddl, part) in [
            ("id UUID", "`id`: unknown type UUID"),
            ("a VARCHAR, a BIGINT", "`a` is declared twice"),
            ("_window_start VARCHAR", "reserved for the pipeline"),
            ("s STRUCT<x TIME>", "`s`: `x`: unknown type TIME"),
            ("s STRUCT<x VARCHAR", "`s`: Expected `>`, found the end"),
            ("id \"JSON\"", "`id`: unknown type \"JSON\""),
            (
                "l ARRAY<JSON>",
                "`l`: declare a list of JSON values as JSON",
            ),
            (
                "m MAP(VARCHAR, BIGINT)",
                "`m`: the only map type is MAP(VARCHAR, VARCHAR)",
            ),
            ("id VARCHAR,", "Expected a column name, found the end"),
            ("id VARCHAR(10)", "Expected `,`, found `(`"),
            (
                &format!("d {}", "ARRAY<".repeat(300_000)),
                "`d`: nested deeper than 32 levels",
            ),
            ("id VARCHAR NOT NULL", "no constraints"),
            ("", "at least one column"),
            ("id", "Expected"),
        ] {
            let error = parse(ddl).unwrap_err();
            assert!(error.contains(part), "{ddl}: {error}");
        }
    }
}
