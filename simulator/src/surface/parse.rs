//! Reads surfaces from their text.

use super::*;
use crate::time::{DAY, HOUR, MINUTE, SECOND};

/// An invalid text: the line, counted from 1, and why.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}: {reason}")]
pub(super) struct ParseError {
    line: usize,
    reason: String,
}

type Result<T> = std::result::Result<T, ParseError>;

/// A word or a mark, with its line.
#[derive(Debug, Clone, PartialEq)]
struct Token<'a> {
    text: &'a str,
    line: usize,
}

/// All surfaces of a text.
pub(super) fn surfaces(text: &str) -> Result<Vec<Surface>> {
    let mut tokens = Tokens {
        tokens: tokens(text),
        at: 0,
    };
    let mut surfaces = Vec::new();
    while tokens.peek().is_some() {
        surfaces.push(surface(&mut tokens)?);
    }
    Ok(surfaces)
}

/// Splits at white space and around `{}[](),;`; `#` begins a comment, quotes enclose a text. A line's end is a token of
/// its own, `\n`.
fn tokens(text: &str) -> Vec<Token<'_>> {
    const MARKS: &str = "{}[](),;";
    let mut tokens = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut rest = line;
        let mut found = false;
        while let Some(first) = rest.chars().next() {
            let length = match first {
                '#' => break,
                '"' => rest[1..].find('"').map_or(rest.len(), |end| end + 2),
                _ if first.is_whitespace() || MARKS.contains(first) => first.len_utf8(),
                _ => rest
                    .find(|c: char| c.is_whitespace() || MARKS.contains(c))
                    .unwrap_or(rest.len()),
            };
            let (token, after) = rest.split_at(length);
            if !first.is_whitespace() {
                tokens.push(Token {
                    text: token,
                    line: index + 1,
                });
                found = true;
            }
            rest = after;
        }
        if found {
            tokens.push(Token {
                text: "\n",
                line: index + 1,
            });
        }
    }
    tokens
}

struct Tokens<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
}

impl<'a> Tokens<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.tokens.get(self.at).map(|token| token.text)
    }

    /// The next token of this line.
    fn word(&mut self) -> Option<&'a str> {
        self.peek()
            .filter(|token| *token != "\n")
            .inspect(|_| self.at += 1)
    }

    fn skip(&mut self, text: &str) -> bool {
        let found = self.peek() == Some(text);
        self.at += usize::from(found);
        found
    }

    fn skip_lines(&mut self) {
        while self.skip("\n") {}
    }

    fn expect(&mut self, text: &str) -> Result<()> {
        if self.skip(text) {
            return Ok(());
        }
        Err(self.error(format!(
            "expected `{text}`, found `{}`",
            self.peek().unwrap_or("the end")
        )))
    }

    fn need(&mut self, what: &str) -> Result<&'a str> {
        self.word()
            .ok_or_else(|| self.error(format!("{what} is missing")))
    }

    fn error(&self, reason: impl Into<String>) -> ParseError {
        let last = self
            .tokens
            .get(self.at.min(self.tokens.len().saturating_sub(1)));
        ParseError {
            line: last.map_or(0, |token| token.line),
            reason: reason.into(),
        }
    }

    /// A path, which is cut at its brackets.
    fn path(&mut self) -> String {
        let mut path = String::new();
        while let Some(part) = self
            .peek()
            .filter(|part| !matches!(*part, "\n" | "with" | "as" | ";" | ","))
        {
            path.push_str(part);
            self.at += 1;
        }
        path
    }

    /// The rest of the line.
    fn rest(&mut self) -> Vec<&'a str> {
        std::iter::from_fn(|| self.word()).collect()
    }
}

fn surface(tokens: &mut Tokens<'_>) -> Result<Surface> {
    tokens.expect("[")?;
    let name = tokens.need("the name")?.to_owned();
    tokens.expect("]")?;
    tokens.expect("GET")?;
    // A path is cut at its braces.
    let mut path = String::new();
    while let Some(part) = tokens
        .peek()
        .filter(|part| *part != "\n" && !part.ends_with("/s"))
    {
        path.push_str(part);
        tokens.at += 1;
    }
    let rate = tokens.need("the rate")?;
    let per_second = number(rate.trim_end_matches("/s"))
        .ok_or_else(|| tokens.error(format!("`{rate}`: a rate is 5/s")))?;
    tokens.skip_lines();
    let mut population = None;
    let mut record = None;
    let mut surface = Surface {
        identity: name.clone(),
        name,
        path,
        per_second,
        population: Population::List { base: 0, per: None },
        asks: Vec::new(),
        pages: Pages {
            cursor: Some("after"),
            size: 100,
            heeds_limit: false,
        },
        rows: vec!["data".to_owned()],
        single: false,
        found: Found {
            by: Anchor::All,
            window: None,
        },
        record: Object::default(),
        tables: Vec::new(),
        each: None,
        memory: None,
    };
    while let Some(word) = tokens.peek().filter(|word| *word != "[") {
        tokens.at += 1;
        match word {
            "list" | "events" | "intervals" | "versions" | "report" => {
                population = Some(self::population(word, tokens)?)
            }
            "like" => surface.identity = tokens.need("a surface's name")?.to_owned(),
            "each" => surface.each = Some(each(tokens)?),
            "asks" => surface.asks.extend(asks(tokens)?),
            "pages" => surface.pages = pages(tokens)?,
            "memory" => {
                let text = tokens.need("how long")?;
                let memory =
                    span(text).ok_or_else(|| tokens.error(format!("`{text}`: a time is 7d")))?;
                surface.memory = Some(memory);
            }
            "rows" => (surface.rows, surface.single) = rows(tokens)?,
            "found" => surface.found = found(tokens)?,
            "record" => record = Some(object(tokens)?),
            "table" => surface.tables.push(table(tokens)?),
            other => return Err(tokens.error(format!("`{other}` begins no line of a surface"))),
        }
        tokens.skip_lines();
    }
    surface.population =
        population.ok_or_else(|| tokens.error(format!("{}: no population", surface.name)))?;
    surface.record = record.ok_or_else(|| tokens.error(format!("{}: no record", surface.name)))?;
    Ok(surface)
}

fn population(word: &str, tokens: &mut Tokens<'_>) -> Result<Population> {
    if word == "list" {
        let mut list = (0, None);
        loop {
            match tokens.need("how many there are")? {
                "per" => list.1 = Some((thing(tokens)?, 1)),
                "+" => continue,
                part => match (part.parse(), part.split_once('/')) {
                    (Ok(base), _) => list.0 = base,
                    (_, Some((of, share))) => {
                        let share = share.parse().ok().filter(|share| *share > 0);
                        let counted = thing_named(of).zip(share);
                        list.1 = Some(counted.ok_or_else(|| {
                            tokens.error(format!("`{part}`: expected vehicle/4"))
                        })?);
                    }
                    _ => {
                        return Err(
                            tokens.error(format!("`{part}`: expected a number or vehicle/4"))
                        );
                    }
                },
            }
            if tokens.peek() == Some("\n") {
                return Ok(Population::List {
                    base: list.0,
                    per: list.1,
                });
            }
        }
    }
    tokens.expect("per")?;
    let per = thing(tokens)?;
    if word == "report" {
        return Ok(Population::Report { per });
    }
    let text = tokens.need("the rate")?;
    let rate = text.strip_suffix("/day").and_then(number);
    let rate =
        rate.ok_or_else(|| tokens.error(format!("`{text}`: a rate of a population is 4/day")))?;
    let (mut shortest, mut longest, mut open) = (MINUTE, HOUR, 0.0);
    let (mut within, mut most, mut deleted) = (20 * DAY, 3, 0.0);
    while let Some(key) = tokens.word() {
        let value = tokens.need(key)?;
        let wrong = || tokens.error(format!("{key} {value}: cannot be read"));
        match key {
            "lasting" => {
                let (least, most) = value.split_once("..").ok_or_else(wrong)?;
                (shortest, longest) = span(least).zip(span(most)).ok_or_else(wrong)?;
            }
            "open" => open = share(value).ok_or_else(wrong)?,
            "within" => within = span(value).ok_or_else(wrong)?,
            "most" => most = value.parse().map_err(|_| wrong())?,
            "deleted" => deleted = share(value).ok_or_else(wrong)?,
            _ => return Err(tokens.error(format!("`{key}` does not describe a population"))),
        }
    }
    Ok(match word {
        "events" => Population::Events { per, rate },
        "intervals" => Population::Intervals {
            per,
            rate,
            shortest,
            longest,
            open,
        },
        _ => Population::Versions {
            per,
            rate,
            within,
            most,
            deleted,
        },
    })
}

fn asks(tokens: &mut Tokens<'_>) -> Result<Vec<Parameter>> {
    let mut parameters = Vec::new();
    let mut words = tokens.rest().into_iter();
    while let Some(word) = words.next() {
        // `name!<=50=vehicle`: the bound has an equals sign of its own.
        let (head, most) = match word.split_once("<=") {
            Some((head, rest)) => {
                let digits = rest
                    .find(|c: char| !c.is_ascii_digit())
                    .unwrap_or(rest.len());
                let most = rest[..digits]
                    .parse()
                    .map_err(|_| tokens.error(format!("`{word}`: a bound is a number")))?;
                (format!("{head}{}", &rest[digits..]), Some(most))
            }
            None => (word.to_owned(), None),
        };
        let (name, chooses) = match head.split_once('=') {
            None => (head.as_str(), Chooses::Nothing),
            Some((name, "members")) => (name, Chooses::Members),
            Some((name, "objects")) => (name, Chooses::Objects),
            Some((name, "asked")) => {
                let values = words.by_ref().skip(1).take_while(|word| *word != ")");
                let values = values.flat_map(|values| values.split('|').map(str::to_owned));
                (name, Chooses::Asked(values.collect()))
            }
            Some((name, of)) => match of.strip_prefix('.') {
                Some(field) => (name, Chooses::Field(field.to_owned())),
                None => {
                    let thing = thing_named(of)
                        .ok_or_else(|| tokens.error(format!("`{of}` is nothing to choose by")))?;
                    (name, Chooses::Things(thing))
                }
            },
        };
        let required = name.ends_with('!');
        parameters.push(Parameter {
            name: name.trim_end_matches('!').to_owned(),
            required,
            most,
            chooses,
        });
    }
    Ok(parameters)
}

/// `each lists by id=listId kind=kind`.
fn each(tokens: &mut Tokens<'_>) -> Result<Each> {
    let surface = tokens.need("a surface's name")?.to_owned();
    tokens.expect("by")?;
    let by = tokens.rest().into_iter().map(|word| {
        let pair = word.split_once('=');
        let (parameter, field) =
            pair.ok_or_else(|| tokens.error(format!("`{word}`: expected parameter=field")))?;
        Ok((parameter.to_owned(), field.to_owned()))
    });
    Ok(Each {
        surface,
        by: by.collect::<Result<_>>()?,
    })
}

fn pages(tokens: &mut Tokens<'_>) -> Result<Pages> {
    let cursor = match tokens.need("the cursor's parameter")? {
        "after" => Some("after"),
        "starting_after" => Some("startingAfter"),
        "none" => None,
        other => {
            return Err(tokens.error(format!("`{other}`: expected after, starting_after or none")));
        }
    };
    let size = match tokens.word() {
        None => 100,
        Some(size) => size
            .parse()
            .map_err(|_| tokens.error(format!("`{size}`: a page has a number of records")))?,
    };
    Ok(Pages {
        cursor,
        size,
        heeds_limit: tokens.skip("limit"),
    })
}

fn rows(tokens: &mut Tokens<'_>) -> Result<(Vec<String>, bool)> {
    let path = tokens.need("the path of the records")?;
    let single = tokens.skip("{") && tokens.skip("}");
    Ok((
        path.split('.')
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect(),
        single,
    ))
}

fn found(tokens: &mut Tokens<'_>) -> Result<Found> {
    let by = match tokens.need("what finds a record")? {
        "all" => Anchor::All,
        "start" => Anchor::Start,
        "overlap" => Anchor::Overlap,
        "updated" => Anchor::Updated,
        "arrived" => Anchor::Arrived,
        "lately" => Anchor::Lately,
        other => {
            return Err(tokens.error(format!(
                "`{other}`: expected all, start, overlap, updated, arrived or lately"
            )));
        }
    };
    if !tokens.skip("in") {
        return Ok(Found { by, window: None });
    }
    let window = tokens.need("the window's parameters")?;
    let (from, to) = window
        .split_once("..")
        .ok_or_else(|| tokens.error("a window is startTime..endTime"))?;
    let form = match tokens.word() {
        None => Form::Rfc3339,
        Some("ms") => Form::Millis,
        Some("date") => Form::Date,
        Some("month") => Form::Month,
        Some(other) => return Err(tokens.error(format!("`{other}`: expected ms, date or month"))),
    };
    Ok(Found {
        by,
        window: Some((from.to_owned(), to.to_owned(), form)),
    })
}

fn object(tokens: &mut Tokens<'_>) -> Result<Object> {
    tokens.expect("{")?;
    let mut fields = Vec::new();
    loop {
        tokens.skip_lines();
        if tokens.skip("}") {
            return Ok(Object { fields });
        }
        fields.push(field(tokens)?);
        tokens.skip_lines();
        if !tokens.skip(",") && tokens.peek() != Some("}") {
            return Err(tokens.error(format!(
                "expected `,` or `}}`, found `{}`",
                tokens.peek().unwrap_or("the end")
            )));
        }
    }
}

fn field(tokens: &mut Tokens<'_>) -> Result<Field> {
    let word = tokens.need("a field")?;
    let (word, null) = word
        .strip_suffix("|null")
        .map_or((word, 0.0), |word| (word, 0.2));
    let (name, absent) = match word.split_once('?') {
        None => (word, 0.0),
        Some((name, "")) => (name, 0.3),
        Some((name, percent)) => {
            let percent: f64 = percent
                .parse()
                .map_err(|_| tokens.error(format!("`{word}`: expected name?60")))?;
            (name, percent / 100.0)
        }
    };
    Ok(Field {
        name: name.to_owned(),
        absent,
        null,
        kind: kind(tokens)?,
    })
}

fn kind(tokens: &mut Tokens<'_>) -> Result<Kind> {
    match tokens.peek() {
        Some("{") => return Ok(Kind::Object(object(tokens)?)),
        Some("[") => return list(tokens),
        _ => {}
    }
    let word = tokens.need("what a field holds")?;
    let wrong =
        |tokens: &Tokens<'_>, text: &str| tokens.error(format!("`{word} {text}` cannot be read"));
    Ok(match word {
        "key" => Kind::Key,
        "uuid" => Kind::Uuid,
        "name" => Kind::Name,
        "text" => Kind::Text,
        "url" => Kind::Url,
        "vin" => Kind::Vin,
        "email" => Kind::Email,
        "phone" => Kind::Phone,
        "tags" => Kind::Tags,
        "ids" => Kind::Ids,
        "attributes" => Kind::Attributes,
        "during" => Kind::During(object(tokens)?),
        "const" => Kind::Constant(tokens.need("the constant")?.trim_matches('"').to_owned()),
        "bool" => match tokens.peek().and_then(share) {
            Some(share) => {
                tokens.at += 1;
                Kind::Bool(share)
            }
            None => Kind::Bool(0.5),
        },
        "int" => {
            let text = tokens.need("its bounds")?;
            let (low, high) = text.split_once("..").ok_or_else(|| wrong(tokens, text))?;
            let bounds = low.parse().ok().zip(high.parse().ok());
            let (low, high) = bounds.ok_or_else(|| wrong(tokens, text))?;
            Kind::Int(low, high)
        }
        "num" | "money" => {
            let text = tokens.need("its bounds")?;
            let (low, high) = text.split_once("..").ok_or_else(|| wrong(tokens, text))?;
            let (low, high) = number(low)
                .zip(number(high))
                .ok_or_else(|| wrong(tokens, text))?;
            if word == "num" {
                Kind::Number(low, high)
            } else {
                Kind::Money(low, high)
            }
        }
        "one" => Kind::One(words(tokens, '|')?),
        "turn" => Kind::Turn(words(tokens, '|')?),
        "any" => Kind::Any,
        "stage" => Kind::Stage(words(tokens, '>')?),
        "reached" => {
            let text = tokens.need("the version's number")?;
            let number = text.parse().map_err(|_| wrong(tokens, text))?;
            Kind::Time {
                of: Instant::Reached(number),
                plus: 0,
                millis: tokens.skip("ms"),
            }
        }
        "thing.id" => Kind::Owner(Part::Id),
        "thing.name" => Kind::Owner(Part::Name),
        _ => match word
            .strip_prefix('@')
            .and_then(|other| other.split_once('.'))
        {
            Some((of, part)) => match (thing_named(of), part) {
                (Some(thing), "id") => Kind::Other(thing, Part::Id),
                (Some(thing), "name") => Kind::Other(thing, Part::Name),
                (Some(_), part) => {
                    return Err(tokens.error(format!("`{part}`: a {of} has an id and a name")));
                }
                (None, field) if of == "each" => Kind::Each(field.to_owned()),
                (None, field) => Kind::OfSurface(of.to_owned(), field.to_owned()),
            },
            None => instant(word, tokens)?,
        },
    })
}

/// `born`, `updated`, `end`, `deleted`, and `born+7d`.
fn instant(word: &str, tokens: &mut Tokens<'_>) -> Result<Kind> {
    let (name, plus) = match word.split_once('+') {
        Some((name, plus)) => (
            name,
            span(plus)
                .ok_or_else(|| tokens.error(format!("`{plus}`: a time is 30s, 5m, 2h or 7d")))?,
        ),
        None => (word, 0),
    };
    let of = match name {
        "born" => Instant::Born,
        "updated" => Instant::Updated,
        "end" => Instant::End,
        "deleted" => Instant::Deleted,
        "today" => Instant::Today,
        other => return Err(tokens.error(format!("`{other}` is nothing that a field can hold"))),
    };
    Ok(Kind::Time {
        of,
        plus,
        millis: tokens.skip("ms"),
    })
}

/// `[text]`, `[0..3 text]`, `[1..4 { … }]`.
fn list(tokens: &mut Tokens<'_>) -> Result<Kind> {
    tokens.expect("[")?;
    let bounds = tokens.peek().and_then(|word| word.split_once(".."));
    let (least, most) =
        match bounds.and_then(|(least, most)| least.parse().ok().zip(most.parse().ok())) {
            Some(bounds) => {
                tokens.at += 1;
                bounds
            }
            None => (0, 3),
        };
    let item = kind(tokens)?;
    tokens.expect("]")?;
    Ok(Kind::List(least, most, Box::new(item)))
}

fn words(tokens: &mut Tokens<'_>, between: char) -> Result<Vec<String>> {
    tokens.expect("(")?;
    let mut text = String::new();
    while !tokens.skip(")") {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(tokens.need("a word")?);
    }
    Ok(text
        .split(between)
        .map(|word| word.trim().to_owned())
        .collect())
}

/// `table name of a[].b[] with id as trip_id, c as d; drop x; rename y z; json s`.
fn table(tokens: &mut Tokens<'_>) -> Result<Table> {
    let mut table = Table {
        name: tokens.need("the table's name")?.to_owned(),
        ..Table::default()
    };
    while let Some(word) = tokens.word() {
        match word {
            ";" | "," => {}
            "of" => {
                let path = tokens.path();
                table.of = path
                    .split("[]")
                    .map(|part| part.trim_start_matches('.').to_owned())
                    .collect();
                table.of.retain(|part| !part.is_empty());
            }
            "with" => loop {
                let path = tokens.path();
                tokens.expect("as")?;
                table.with.push((path, tokens.need("a column")?.to_owned()));
                if !tokens.skip(",") {
                    break;
                }
            },
            "drop" => table.drop.push(tokens.need("a path")?.to_owned()),
            "rename" => {
                let path = tokens.need("a path")?.to_owned();
                table
                    .rename
                    .push((path, tokens.need("a column")?.to_owned()));
            }
            "json" => table.json.push(tokens.need("a path")?.to_owned()),
            "flat" => table.flat.push(tokens.need("a path")?.to_owned()),
            "say" => {
                let column = tokens.need("a column")?.to_owned();
                table.say.push((column, tokens.need("a value")?.to_owned()));
            }
            "choose" => {
                let mut word = || tokens.need("a column or value").map(str::to_owned);
                table.choose.push([word()?, word()?, word()?, word()?]);
            }
            "owner" => table.owner = Some(tokens.need("a column")?.to_owned()),
            "typed" => table.typed.push(tokens.need("a column")?.to_owned()),
            "where" | "unless" => {
                let field = tokens.need("a field")?.to_owned();
                let values = tokens.need("its values")?.split('|').map(str::to_owned);
                let list = match word {
                    "where" => &mut table.only,
                    _ => &mut table.except,
                };
                list.push((field, values.collect()));
            }
            "number" => table.number.push(tokens.need("a path")?.to_owned()),
            other => return Err(tokens.error(format!("`{other}` does not describe a table"))),
        }
    }
    Ok(table)
}

fn thing(tokens: &mut Tokens<'_>) -> Result<Thing> {
    let word = tokens.need("what it is counted by")?;
    thing_named(word).ok_or_else(|| tokens.error(format!("`{word}`: nothing is counted by it")))
}

fn thing_named(word: &str) -> Option<Thing> {
    Some(match word {
        "vehicle" => Thing::Vehicle,
        "driver" => Thing::Driver,
        "trailer" => Thing::Trailer,
        "equipment" => Thing::Equipment,
        "tag" => Thing::Tag,
        "address" => Thing::Address,
        "asset" => Thing::Asset,
        "organisation" => Thing::Organisation,
        _ => return None,
    })
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// `5%` as 0.05.
fn share(text: &str) -> Option<f64> {
    number(text.strip_suffix('%')?).map(|percent| percent / 100.0)
}

/// `30s`, `5m`, `2h`, `7d` in milliseconds.
fn span(text: &str) -> Option<Millis> {
    let unit = match text.chars().last()? {
        's' => SECOND,
        'm' => MINUTE,
        'h' => HOUR,
        'd' => DAY,
        _ => return None,
    };
    Some(text[..text.len() - 1].parse::<Millis>().ok()? * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = r#"
# What a comment says is left out.
[logs]  GET /fleet/{vehicleId}/logs  2.5/s
  intervals per driver 4/day lasting 10m..3h open 5%
  asks startTime! ids<=50=driver status=.status limit
  pages after 25 limit
  rows data.logs
  found overlap in startTime..endTime ms
  record {
    id key, note?60 const "two words", at born+7d ms,       # behind a field
    status|null one(on duty|off), driver { id thing.id, name thing.name },
    marks [1..2 { code int -3..7, share num 0..0.5 }], labels [text], user @users.id
  }
  table logs; drop at; json driver
  table logs_marks of marks[] with id as log_id, driver.id as driver_id; rename code mark
"#;

    #[test]
    fn a_surface_is_read_as_it_is_written() {
        let surfaces = surfaces(EXAMPLE).expect("readable");
        let surface = &surfaces[0];
        assert_eq!(
            (surface.path.as_str(), surface.per_second),
            ("/fleet/{vehicleId}/logs", 2.5)
        );
        let (per, rate) = (Thing::Driver, 4.0);
        let population = Population::Intervals {
            per,
            rate,
            shortest: 10 * MINUTE,
            longest: 3 * HOUR,
            open: 0.05,
        };
        assert_eq!(surface.population, population);
        let asks: Vec<_> = surface
            .asks
            .iter()
            .map(|one| (one.name.as_str(), one.required, one.most))
            .collect();
        assert_eq!(
            asks,
            [
                ("startTime", true, None),
                ("ids", false, Some(50)),
                ("status", false, None),
                ("limit", false, None)
            ]
        );
        assert_eq!(surface.asks[1].chooses, Chooses::Things(Thing::Driver));
        assert_eq!(surface.asks[2].chooses, Chooses::Field("status".into()));
        assert_eq!(surface.rows, ["data", "logs"]);
        let names: Vec<&str> = surface
            .record
            .fields
            .iter()
            .map(|field| field.name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "id", "note", "at", "status", "driver", "marks", "labels", "user"
            ]
        );
        assert_eq!(surface.record.fields[1].absent, 0.6);
        assert_eq!(
            surface.record.fields[3].kind,
            Kind::One(vec!["on duty".into(), "off".into()])
        );
        assert_eq!(surface.tables[1].of, ["marks"]);
        assert_eq!(
            surface.tables[1].with[1],
            ("driver.id".into(), "driver_id".into())
        );
        assert_eq!(
            surface.tables[1].rename,
            [("code".to_owned(), "mark".to_owned())]
        );
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_line() {
        let wrong = |text: &str| surfaces(text).expect_err("refused").to_string();
        let line = |line: &str| {
            wrong(&format!(
                "[a]  GET /a  5/s\n  list 3\n  {line}\n  record {{ id key }}\n"
            ))
        };
        assert!(
            line("pages before").starts_with("3: "),
            "{}",
            line("pages before")
        );
        assert!(line("found never").starts_with("3: "));
        assert!(line("nonsense").contains("nonsense"));
        assert!(wrong("[a]  GET /a  5/s\n  list 3\n").contains("no record"));
        assert!(wrong("[a]  GET /a  5/s\n  list 3\n  record { id kee }\n").contains("kee"));
        assert!(wrong("[a]  GET /a  fast/s\n").contains("fast/s"));
    }
}
