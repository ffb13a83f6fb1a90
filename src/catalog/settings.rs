//! Settings of the organisation: `sql/settings.toml`, and `setting('name')` in queries.
//!
//! A setting is substituted in the query before it is parsed, so that everything that follows knows its value: types,
//! errors, and the fingerprint, by which exactly the models that use a changed setting are derived again.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::SourceLocation;
use super::did_you_mean;
use super::model::Literal;
use super::problem::{Place, Problem};

/// The file.
pub(super) const FILE: &str = "settings.toml";
/// The function that gives a setting.
const FUNCTION: &str = "setting";

/// Values by name.
pub(super) type Settings = BTreeMap<String, Literal>;

/// Reads the text of the file.
pub(super) fn parse(place: &SourceLocation<'_>, text: &str) -> Result<Settings, Problem> {
    toml::from_str(text).map_err(|error| place.toml(text, &error, &[]))
}

/// The query with settings substituted for `setting('name')`; none if it uses no setting. The rest keeps its line, and
/// its column unless the value is longer than the call.
pub(super) fn apply(sql: &str, settings: &Settings) -> Result<Option<String>, (Place, String)> {
    if !sql.contains(FUNCTION) {
        return Ok(None);
    }
    // The parser reports what cannot be tokenized.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location() else {
        return Ok(None);
    };
    let is_code = |token: &&TokenWithSpan| !matches!(token.token, Token::Whitespace(_));
    let tokens: Vec<&TokenWithSpan> = tokens.iter().filter(is_code).collect();
    let mut applied = String::new();
    let mut written = 0;
    for call in tokens.windows(4) {
        let [function, open, name, close] = call else {
            continue;
        };
        let (Token::Word(word), Token::LParen, Token::SingleQuotedString(key), Token::RParen) =
            (&function.token, &open.token, &name.token, &close.token)
        else {
            continue;
        };
        if !word.value.eq_ignore_ascii_case(FUNCTION) {
            continue;
        }
        let Some(value) = settings.get(key) else {
            let hint = did_you_mean(key, settings.keys().map(String::as_str));
            let reason = format!("{FILE} has no setting `{key}`{hint}");
            return Err((Place::of_span(name.span), reason));
        };
        let start = Place::of_span(function.span).bytes(sql).start;
        let end = Place::of_span(close.span).bytes(sql).end;
        applied.push_str(&sql[written..start]);
        applied.push_str(&format!("{:width$}", value.sql(), width = end - start));
        written = end;
    }
    if written == 0 {
        return Ok(None);
    }
    applied.push_str(&sql[written..]);
    Ok(Some(applied))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_stand_where_they_are_named() {
        let text = "price = 1.50\nzone = \"It's/here\"\nnumber = -3\nis_on = true\n";
        let place = SourceLocation { file: FILE };
        let settings = parse(&place, text).unwrap();
        let sql = "SELECT setting('price') * x AS y, -- setting('none')\n\
                   'setting(''none'')' AS t, SETTING ( 'zone' ) AS zone, 1 -setting('number') AS n, setting('is_on') AS o";
        let applied = apply(sql, &settings).unwrap().unwrap();
        let words: Vec<&str> = applied.split_whitespace().collect();
        assert_eq!(
            words.join(" "),
            "SELECT CAST('1.5' AS DOUBLE) * x AS y, -- setting('none') 'setting(''none'')' AS t, 'It''s/here' AS zone, 1 -(-3) AS n, true AS o"
        );
        assert_eq!(applied.lines().count(), sql.lines().count());
        assert_eq!(apply("SELECT settings FROM t", &settings).unwrap(), None);
        let (place, reason) = apply("SELECT\n  setting('prize') AS p", &settings).unwrap_err();
        assert_eq!((place.line, place.column), (2, 11));
        assert_eq!(
            reason,
            "settings.toml has no setting `prize`; did you mean `price`?"
        );
        for wrong in ["price = [1]", "price", "[a]\nb = 1"] {
            parse(&SourceLocation { file: FILE }, wrong).unwrap_err();
        }
    }
}
