//! Which columns a place of a query sees: the SELECT around it, what that reads, and by which names. It is read from the
//! words alone, because a query that is being written seldom parses.

use std::ops::Range;

use super::lexer::{Kind, Token};

/// What a SELECT reads, under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// The name by which its columns are told from others: its alias, or else its own.
    pub(super) alias: String,
    pub(super) reads: Reads,
    /// The bytes of its name, or of the query in brackets.
    pub(super) place: Range<usize>,
}

/// What an [`Item`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reads {
    /// `raw.<source>`.
    Raw(String),
    /// The table of a model.
    Table(String),
    /// A query in brackets, or one that WITH has given a name: text that selects its rows.
    Query(String),
}

/// A query that WITH gives a name.
#[derive(Debug, Clone)]
struct Named {
    name: String,
    /// The bytes inside its brackets.
    inner: Range<usize>,
    /// What stands before it, and what it can read itself: `WITH a AS (…), `.
    before: String,
}

/// The tokens of a query without comments, and their brackets.
pub(super) struct Code<'a> {
    text: &'a str,
    pub(super) tokens: Vec<Token>,
    /// Of an opening round bracket, the index of its closing one, or else of the end.
    closing: Vec<usize>,
}

const AFTER_FROM: &[&str] = &[
    "WHERE",
    "GROUP",
    "HAVING",
    "ORDER",
    "LIMIT",
    "OFFSET",
    "WINDOW",
    "QUALIFY",
    "UNION",
    "INTERSECT",
    "EXCEPT",
];
const NOT_AN_ALIAS: &[&str] = &[
    "ON",
    "USING",
    "JOIN",
    "LEFT",
    "RIGHT",
    "FULL",
    "INNER",
    "OUTER",
    "CROSS",
    "NATURAL",
    "SEMI",
    "ANTI",
    "LATERAL",
    "SELECT",
    "FROM",
    "AS",
    "WITH",
    "TABLESAMPLE",
];

impl<'a> Code<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        let mut tokens = super::lexer::tokens(text);
        tokens.retain(|token| token.kind != Kind::Comment);
        let mut closing = vec![tokens.len(); tokens.len()];
        let mut open = Vec::new();
        for (at, token) in tokens.iter().enumerate() {
            if token.is_sign('(') {
                open.push(at);
            } else if token.is_sign(')')
                && let Some(start) = open.pop()
                && let Some(end) = closing.get_mut(start)
            {
                *end = at;
            }
        }
        Self {
            text,
            tokens,
            closing,
        }
    }

    /// The token at an offset: that which it is in, or else that which ends there.
    pub(super) fn token_at(&self, offset: usize) -> Option<usize> {
        let is_in = |token: &Token| token.start <= offset && offset < token.end;
        let ends = |token: &Token| token.end == offset && !matches!(token.kind, Kind::Sign(_));
        let inside = self.tokens.iter().position(is_in);
        let is_sign =
            |at: &usize| matches!(self.tokens.get(*at).map(|it| it.kind), Some(Kind::Sign(_)));
        let before = || self.tokens.iter().position(ends);
        match inside {
            Some(at) if is_sign(&at) => before().or(Some(at)),
            Some(at) => Some(at),
            None => before(),
        }
    }

    /// The indices of a range that stand in no brackets of their own.
    fn own(&self, range: Range<usize>) -> Vec<usize> {
        let mut found = Vec::new();
        let mut at = range.start;
        while at < range.end {
            found.push(at);
            at = match self.tokens.get(at) {
                Some(token) if token.is_sign('(') => {
                    let end = self.closing.get(at).copied().unwrap_or(range.end);
                    end.max(at + 1)
                }
                _ => at + 1,
            };
        }
        found
    }

    fn is(&self, at: usize, keyword: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is(keyword))
    }

    fn is_any(&self, at: usize, keywords: &[&str]) -> bool {
        keywords.iter().any(|keyword| self.is(at, keyword))
    }

    fn is_sign(&self, at: usize, sign: char) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is_sign(sign))
    }

    /// The bytes between an opening bracket and its closing one.
    fn inside(&self, open: usize) -> Range<usize> {
        let start = self.tokens.get(open).map_or(self.text.len(), |it| it.end);
        let close = self.closing.get(open).and_then(|at| self.tokens.get(*at));
        start..close.map_or(self.text.len(), |it| it.start).max(start)
    }

    /// What the SELECT around an offset reads, then what those around it do.
    pub(super) fn items_at(&self, offset: usize) -> Vec<Vec<Item>> {
        let mut found = Vec::new();
        let mut named = Vec::new();
        self.descend(0..self.tokens.len(), offset, &mut named, &mut found);
        found.reverse();
        found
    }

    /// Whether the SELECT around an offset is the outermost one.
    pub(super) fn is_outermost(&self, offset: usize) -> bool {
        self.items_at(offset).len() <= 1
    }

    /// Adds the items of the SELECTs around an offset, the outer ones first.
    fn descend(
        &self,
        range: Range<usize>,
        offset: usize,
        named: &mut Vec<Named>,
        found: &mut Vec<Vec<Item>>,
    ) {
        let own = self.own(range.clone());
        let is_around = |open: usize| {
            let inside = self.inside(open);
            self.is_sign(open, '(') && inside.start <= offset && offset <= inside.end
        };
        let within = own.iter().copied().find(|at| is_around(*at));
        let is_query = own
            .first()
            .is_some_and(|at| self.is_any(*at, &["SELECT", "WITH"]));
        if is_query {
            let is_with = self.is(range.start, "WITH");
            let names = if is_with {
                self.named(&own, named)
            } else {
                Vec::new()
            };
            for name in names {
                let is_in = name.inner.start <= offset && offset <= name.inner.end;
                if let (true, Some(open)) = (is_in, within) {
                    let end = self.closing.get(open).copied().unwrap_or(range.end);
                    return self.descend(open + 1..end, offset, named, found);
                }
                named.push(name);
            }
            found.push(self.select_around(&own, offset, named));
        }
        if let Some(open) = within {
            let end = self.closing.get(open).copied().unwrap_or(range.end);
            self.descend(open + 1..end, offset, named, found);
        }
    }

    /// The queries that WITH names, in their order.
    fn named(&self, own: &[usize], outer: &[Named]) -> Vec<Named> {
        let mut found: Vec<Named> = outer.to_vec();
        for triple in own.windows(3) {
            let [name, as_word, open] = triple else {
                continue;
            };
            if self.is(*name, "SELECT") {
                break;
            }
            if let (Some(token), true, true) = (
                self.tokens.get(*name),
                self.is(*as_word, "AS"),
                self.is_sign(*open, '('),
            ) && token.is_name()
            {
                found.push(Named {
                    name: token.value.clone(),
                    inner: self.inside(*open),
                    before: self.with(&found),
                });
            }
        }
        found.split_off(outer.len())
    }

    /// `WITH a AS (…), b AS (…) `
    fn with(&self, named: &[Named]) -> String {
        let text = |name: &Named| {
            let inner = self.text.get(name.inner.clone()).unwrap_or_default();
            format!("\"{}\" AS ({inner}\n)", name.name)
        };
        let all: Vec<String> = named.iter().map(text).collect();
        match all.is_empty() {
            true => String::new(),
            false => format!("WITH {} ", all.join(", ")),
        }
    }

    /// What the SELECT of these tokens around an offset reads: of those that UNION joins, the one that it stands in.
    fn select_around(&self, own: &[usize], offset: usize, named: &[Named]) -> Vec<Item> {
        let joins = ["UNION", "INTERSECT", "EXCEPT"];
        let ends = |at: usize| self.tokens.get(at).map_or(0, |token| token.end);
        let mut part: Vec<usize> = Vec::new();
        for at in own.iter().copied() {
            if self.is_any(at, &joins) && self.is_sign(at + 1, '(') {
                // `* EXCEPT (…)` names columns.
            } else if self.is_any(at, &joins) {
                if offset <= ends(at) {
                    break;
                }
                part.clear();
                continue;
            }
            part.push(at);
        }
        self.items(&part, named)
    }

    fn items(&self, part: &[usize], named: &[Named]) -> Vec<Item> {
        let is_from = |place: &usize| {
            let at = part[*place];
            let after = |word: &str| *place > 0 && self.is(part[*place - 1], word);
            self.is(at, "FROM")
                && !(after("DISTINCT") && *place > 1 && !self.is(part[*place - 2], "SELECT"))
        };
        let Some(from) = (0..part.len()).find(is_from) else {
            return Vec::new();
        };
        let rest = &part[from + 1..];
        let end = rest.iter().position(|at| self.is_any(*at, AFTER_FROM));
        let rest = &rest[..end.unwrap_or(rest.len())];
        let mut items = Vec::new();
        let mut is_expected = true;
        let mut place = 0;
        while let Some(at) = rest.get(place).copied() {
            if self.is_sign(at, ',') || self.is(at, "JOIN") {
                is_expected = true;
            } else if is_expected
                && !self.is(at, "LATERAL")
                && let Some((reads, alias, end, bytes)) = self.read(rest, place, named)
            {
                is_expected = false;
                let (given, after) = self.alias(rest, end);
                items.push(Item {
                    alias: given.unwrap_or(alias),
                    reads,
                    place: bytes,
                });
                place = after;
                continue;
            }
            place += 1;
        }
        items
    }

    /// What is read, its own name, the place after it, and its bytes.
    fn read(
        &self,
        rest: &[usize],
        place: usize,
        named: &[Named],
    ) -> Option<(Reads, String, usize, Range<usize>)> {
        let at = *rest.get(place)?;
        let token = self.tokens.get(at)?;
        if token.is_sign('(') {
            let inner = self.inside(at);
            let sql = format!("{}{}", self.with(named), self.text.get(inner.clone())?);
            // Its closing bracket is the next one of its own.
            return Some((Reads::Query(sql), String::new(), place + 2, inner));
        }
        if !token.is_name() || self.is_any(at, AFTER_FROM) || self.is_any(at, NOT_AN_ALIAS) {
            return None;
        }
        if token.value == "raw" && self.is_sign(at + 1, '.') {
            let table = self.tokens.get(at + 2).filter(|it| it.is_name())?;
            let reads = Reads::Raw(table.value.clone());
            return Some((reads, table.value.clone(), place + 3, table.range()));
        }
        let name = token.value.clone();
        let reads = match named.iter().rev().find(|it| it.name == name) {
            Some(found) => Reads::Query(format!(
                "{}{}",
                found.before,
                self.text.get(found.inner.clone())?
            )),
            None => Reads::Table(name.clone()),
        };
        Some((reads, name, place + 1, token.range()))
    }

    /// The alias that follows, and the place after it.
    fn alias(&self, rest: &[usize], place: usize) -> (Option<String>, usize) {
        let place = match rest.get(place) {
            Some(at) if self.is(*at, "AS") => place + 1,
            _ => place,
        };
        let token = rest
            .get(place)
            .and_then(|at| Some((at, self.tokens.get(*at)?)));
        match token {
            Some((at, token)) if token.is_name() && !self.is_any(*at, NOT_AN_ALIAS) => {
                (Some(token.value.clone()), place + 1)
            }
            _ => (None, place),
        }
    }

    /// The names that WITH gives before an offset.
    pub(super) fn named_before(&self, offset: usize) -> Vec<String> {
        let pairs = self.tokens.windows(3);
        let names = pairs.filter(|found| {
            found[0].end <= offset
                && found[0].is_name()
                && found[1].is("AS")
                && found[2].is_sign('(')
        });
        names.map(|found| found[0].value.clone()).collect()
    }

    /// A column and the fields inside it that end before a token: `item['location']` before `[`, with the alias of its
    /// table, if it has one. `end` is the index after the last token of the chain.
    pub(super) fn chain_before(&self, end: usize) -> Option<Vec<String>> {
        let mut parts = Vec::new();
        let mut end = end;
        loop {
            let last = end.checked_sub(1)?;
            let token = self.tokens.get(last)?;
            if token.is_sign(']') {
                let inner = self.tokens.get(last.checked_sub(1)?)?;
                if !self.is_sign(last.checked_sub(2)?, '[') {
                    return None;
                }
                match inner.kind {
                    Kind::Text => parts.push(inner.value.clone()),
                    // An item of a list.
                    Kind::Number => parts.push(String::new()),
                    _ => return None,
                }
                end = last - 2;
                continue;
            }
            if !token.is_name() {
                return None;
            }
            parts.push(token.value.clone());
            if last >= 2 && self.is_sign(last - 1, '.') && self.tokens[last - 2].is_name() {
                end = last - 1;
                continue;
            }
            parts.reverse();
            return Some(parts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The items that `|` sees, by SELECT: `alias=raw.x`.
    fn items(query: &str) -> String {
        let offset = query.find('|').unwrap();
        let text = query.replacen('|', "", 1);
        let code = Code::of(&text);
        let of_item = |item: &Item| {
            let reads = match &item.reads {
                Reads::Raw(name) => format!("raw.{name}"),
                Reads::Table(name) => name.clone(),
                Reads::Query(sql) => format!("({sql})").replace('\n', ""),
            };
            format!("{}={reads}", item.alias)
        };
        let of_select = |items: &Vec<Item>| items.iter().map(of_item).collect::<Vec<_>>().join(" ");
        let selects = code.items_at(offset);
        selects
            .iter()
            .map(of_select)
            .collect::<Vec<_>>()
            .join(" / ")
    }

    #[test]
    fn places_see_what_their_select_reads() {
        for (query, expected) in [
            ("SELECT | FROM raw.trips", "trips=raw.trips"),
            (
                "SELECT x['|\nFROM raw.trips AS t LEFT JOIN cars c ON c.id = t.id, d WHERE 1 = 1",
                "t=raw.trips c=cars d=d",
            ),
            (
                "SELECT a FROM (SELECT b, | FROM raw.x WHERE c) AS s",
                "x=raw.x / s=(SELECT b,  FROM raw.x WHERE c)",
            ),
            (
                "SELECT | FROM (SELECT unnest(l) AS item FROM raw.x)",
                "=(SELECT unnest(l) AS item FROM raw.x)",
            ),
            (
                "WITH a AS (SELECT 1 FROM raw.x), b AS (SELECT 2 FROM a) SELECT | FROM b JOIN m ON true",
                "b=(WITH \"a\" AS (SELECT 1 FROM raw.x) SELECT 2 FROM a) m=m",
            ),
            (
                "WITH a AS (SELECT 1 FROM raw.x), b AS (SELECT | FROM a) SELECT b FROM b",
                "a=(SELECT 1 FROM raw.x)",
            ),
            // Other words FROM, a UNION, brackets that are not closed yet.
            (
                "SELECT extract(hour FROM at), a IS NOT DISTINCT FROM b, | FROM t",
                "t=t",
            ),
            (
                "SELECT a FROM t UNION ALL SELECT | FROM u ORDER BY 1",
                "u=u",
            ),
            ("SELECT | FROM t UNION ALL SELECT a FROM u", "t=t"),
            ("SELECT a FROM t WHERE (a = | ", "t=t"),
            (
                "SELECT (SELECT max(x) FROM raw.y WHERE | ) FROM t",
                "y=raw.y / t=t",
            ),
            ("SELECT * EXCEPT (a), | FROM t", "t=t"),
            ("|", ""),
            ("SELECT a FROM |", ""),
        ] {
            assert_eq!(items(query), expected, "{query}");
        }
    }

    #[test]
    fn chains_are_read_backwards() {
        for (query, expected) in [
            ("a['b'][1]['c'] [", Some(vec!["a", "b", "", "c"])),
            ("x, t.a [", Some(vec!["t", "a"])),
            ("f(a) [", None),
            ("[", None),
        ] {
            let code = Code::of(query);
            let expected = expected.map(|it| it.into_iter().map(String::from).collect());
            assert_eq!(
                code.chain_before(code.tokens.len() - 1),
                expected,
                "{query}"
            );
        }
    }
}
