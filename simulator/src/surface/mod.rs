//! Endpoints written as text: each section of `surfaces/*.txt` is an endpoint with its parameters, its paging, what
//! there is of its records, their fields, and the tables that an ETL should make of them.
//!
//! Most endpoints of the API differ in little else. Those with measured oddities stay written by hand, in
//! `endpoints/`, `wire/` and `truth/`. Nothing here is made from the ETL's catalog, nor the other way round.
//!
//! ```text
//! [fleet_users]  GET /users  5/s
//!   list 6 + vehicle/4                  # how many there are
//!   asks limit                          # parameters: name[!][<=most][=vehicle | =.field | =members]
//!   pages after 512 limit               # cursor parameter, records on a page, whether `limit` is heeded
//!   rows data                           # where the list stands in the body
//!   record {
//!     id key, name? name, email email, roles [0..2 { tag? { id @tag.id, name @tag.name }, role one(admin|user) }]
//!   }
//!   table fleet_users
//!   table fleet_user_roles of roles[] with id as user_id
//! ```
//!
//! | population | what there is |
//! |---|---|
//! | `list 6 + vehicle/4`, `list per driver` | so many records, always |
//! | `events per vehicle 6/day` | records with an instant |
//! | `intervals per driver 4/day lasting 10m..3h open 5%` | records with a start and an end; some never end |
//! | `versions per driver 0.5/day within 20d most 4 deleted 3%` | records that change after they were made |
//! | `report per vehicle` | one record per thing and asked window, not additive; its rows have a column `date` |
//!
//! | field | value |
//! |---|---|
//! | `key`, `uuid` | an id that stays |
//! | `name`, `text`, `url`, `vin`, `email`, `phone` | texts |
//! | `turn(a\|b)`, `any` | each word in its turn, any JSON |
//! | `int 1..5`, `num 0..9.5`, `money 0..9`, `bool`, `bool 20%`, `one(a\|b)` | values, drawn again for each version |
//! | `stage(new>open>done)` | the version's stage |
//! | `born`, `updated`, `end`, `deleted`, `reached 2`, `born+7d` | instants; with `ms` behind: in milliseconds |
//! | `today+20m` | an instant so long after the birth, on the same UTC day at the latest |
//! | `thing.id`, `thing.name` | the vehicle (driver …) that the record is of |
//! | `@driver.id`, `@fleet_users.id` | another one; parts of one object name the same |
//! | `tags`, `ids`, `attributes`, `const "x"` | as on hand-written records, or always the same |
//! | `{ … }`, `[0..3 text]`, `[1..4 { … }]` | objects and lists |
//! | `during { … }` | the events or intervals of a thing in the asked window, for records that are things; several such lists have events of their own |
//!
//! `asks types=members` lets a parameter name the lists that are told, and `types=objects` the objects, whose names may
//! lack the plural's `s`. `asks scoreType=asked(driver|vehicle)` makes a report another one for each value, which a
//! record does not tell. `like NAME` makes a surface another way of asking
//! for the records of NAME, and `found arrived` makes it a feed of them. `found lately in startTime..` lists only what was
//! heard of since that time, of the last hour without it; a client is to ask for a day.
//!
//! `each readings_definitions by readingId=readingId entityType=entityType` gives the surface records for each record of
//! another list, which the parameters choose by its fields; `@each.category` is a field of that record. Tables take such
//! fields with `with each.category as category`, and are of some of those records alone: `where category obd`,
//! `unless category obd|reefer`.
//!
//! A name is followed by `?` (absent in three of ten records; `?60` in six of ten) or `|null` (null in two of ten).

mod answer;
mod entities;
mod parse;
mod record;
pub(crate) mod truth;

use std::sync::LazyLock;

use crate::time::Millis;

/// An endpoint.
#[derive(Debug)]
pub(crate) struct Surface {
    pub(crate) name: String,
    /// May contain one name in braces, for the id of the population's thing.
    pub(crate) path: String,
    pub(crate) per_second: f64,
    population: Population,
    /// The surface whose records these are: another endpoint for the same records.
    identity: String,
    asks: Vec<Parameter>,
    pages: Pages,
    /// Members of the body on the way to the list.
    rows: Vec<String>,
    /// Whether `rows` is one object instead of a list.
    single: bool,
    found: Found,
    record: Object,
    tables: Vec<Table>,
    /// The list for each of whose records there are some.
    each: Option<Each>,
    /// How long ago a feed can begin.
    memory: Option<Millis>,
}

/// What a population is counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thing {
    Vehicle,
    Driver,
    Trailer,
    Equipment,
    Tag,
    Address,
    /// One of the surface `assets`.
    Asset,
    Organisation,
}

/// What there is of a surface's records.
#[derive(Debug, Clone, PartialEq)]
enum Population {
    List {
        base: u64,
        per: Option<(Thing, u64)>,
    },
    Events {
        per: Thing,
        rate: f64,
    },
    Intervals {
        per: Thing,
        rate: f64,
        shortest: Millis,
        longest: Millis,
        open: f64,
    },
    Versions {
        per: Thing,
        rate: f64,
        within: Millis,
        most: u64,
        deleted: f64,
    },
    Report {
        per: Thing,
    },
}

/// A parameter.
#[derive(Debug)]
struct Parameter {
    name: String,
    required: bool,
    /// The most values it takes.
    most: Option<usize>,
    chooses: Chooses,
}

/// What a parameter does to the records.
#[derive(Debug, Clone, PartialEq)]
enum Chooses {
    Nothing,
    /// Those of some things, by id.
    Things(Thing),
    /// Those with a value in a field.
    Field(String),
    /// Which lists of events each thing tells.
    Members,
    /// Which objects each record tells.
    Objects,
    /// One of several reports, whose records do not say which they are of.
    Asked(Vec<String>),
}

/// A list for each of whose records there are others.
#[derive(Debug)]
struct Each {
    surface: String,
    /// Parameters, and the fields of the list's records that they select by.
    by: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pages {
    cursor: Option<&'static str>,
    size: usize,
    heeds_limit: bool,
}

/// Which records of a window are found.
#[derive(Debug, Clone, PartialEq)]
struct Found {
    by: Anchor,
    /// The parameters of the window's ends, and how they are written.
    window: Option<(String, String, Form)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Anchor {
    /// All of them, whatever the window.
    All,
    Start,
    Overlap,
    Updated,
    /// A feed: what has arrived since the cursor, endless.
    Arrived,
    /// What was heard of since an instant, of a list.
    Lately,
}

/// How a parameter writes an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Rfc3339,
    /// Milliseconds, and the end is part of the window.
    Millis,
    /// Dates, and the last one is part of the window.
    Date,
    /// A year and the name of a month, which is refused until 72 hours after its end.
    Month,
}

/// Fields in their order.
#[derive(Debug, Clone, PartialEq, Default)]
struct Object {
    fields: Vec<Field>,
}

#[derive(Debug, Clone, PartialEq)]
struct Field {
    name: String,
    absent: f64,
    null: f64,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Key,
    Uuid,
    Name,
    Text,
    Url,
    Vin,
    Email,
    Phone,
    Int(i64, i64),
    Number(f64, f64),
    /// An amount with two decimals, as text.
    Money(f64, f64),
    Bool(f64),
    One(Vec<String>),
    /// Each of some words in turn, by the position in the list.
    Turn(Vec<String>),
    /// Any JSON: a number, a text, a boolean, an object or a list.
    Any,
    /// A field of the record of another list to which this one belongs.
    Each(String),
    Stage(Vec<String>),
    Time {
        of: Instant,
        plus: Millis,
        millis: bool,
    },
    Owner(Part),
    Other(Thing, Part),
    OfSurface(String, String),
    Tags,
    Ids,
    Attributes,
    Constant(String),
    Object(Object),
    List(u64, u64, Box<Kind>),
    During(Object),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Id,
    Name,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Instant {
    Born,
    Updated,
    End,
    Deleted,
    /// When the version of this number was made.
    Reached(usize),
    /// The creation; with an offset it stays within its UTC day.
    Today,
}

/// A table that an ETL should make of the records.
#[derive(Debug, Clone, PartialEq, Default)]
struct Table {
    name: String,
    /// Lists on the way to its rows, outermost first: `stops[].documents[]`.
    of: Vec<String>,
    /// Paths of the record whose values are in each row under a name; of several, joined by `|`, the first that exists.
    with: Vec<(String, String)>,
    drop: Vec<String>,
    rename: Vec<(String, String)>,
    /// Paths that stay JSON.
    json: Vec<String>,
    /// Paths of texts that become numbers.
    number: Vec<String>,
    /// Objects whose names are left out of the columns'.
    flat: Vec<String>,
    /// Columns with another column's value if a third has a value: that one, its value, from, to.
    choose: Vec<[String; 4]>,
    /// Columns that always hold the same.
    say: Vec<(String, String)>,
    /// The column of the thing's id, for records that do not name it.
    owner: Option<String>,
    /// Columns of any JSON: next to each, its number and its text, if it is one.
    typed: Vec<String>,
    /// Fields of the records of another list, with the values for which the table has rows, or has none.
    only: Vec<(String, Vec<String>)>,
    except: Vec<(String, Vec<String>)>,
}

/// All of them. An invalid text is a bug of this crate, which a test would find.
pub(crate) static SURFACES: LazyLock<Vec<Surface>> = LazyLock::new(|| {
    let mut surfaces = Vec::new();
    for (file, text) in TEXTS {
        match parse::surfaces(text) {
            Ok(found) => surfaces.extend(found),
            Err(error) => {
                tracing::error!(file, %error, "surfaces that cannot be read are not served")
            }
        }
    }
    surfaces
});

/// The texts, embedded.
const TEXTS: &[(&str, &str)] = &[
    ("assets.txt", include_str!("../../surfaces/assets.txt")),
    (
        "assignments.txt",
        include_str!("../../surfaces/assignments.txt"),
    ),
    ("cameras.txt", include_str!("../../surfaces/cameras.txt")),
    ("coaching.txt", include_str!("../../surfaces/coaching.txt")),
    ("dvirs.txt", include_str!("../../surfaces/dvirs.txt")),
    (
        "equipment.txt",
        include_str!("../../surfaces/equipment.txt"),
    ),
    ("forms.txt", include_str!("../../surfaces/forms.txt")),
    (
        "fuel_energy.txt",
        include_str!("../../surfaces/fuel_energy.txt"),
    ),
    (
        "hours_of_service.txt",
        include_str!("../../surfaces/hours_of_service.txt"),
    ),
    ("ifta.txt", include_str!("../../surfaces/ifta.txt")),
    ("issues.txt", include_str!("../../surfaces/issues.txt")),
    (
        "maintenance.txt",
        include_str!("../../surfaces/maintenance.txt"),
    ),
    (
        "organization.txt",
        include_str!("../../surfaces/organization.txt"),
    ),
    ("readings.txt", include_str!("../../surfaces/readings.txt")),
    ("routes.txt", include_str!("../../surfaces/routes.txt")),
    ("safety.txt", include_str!("../../surfaces/safety.txt")),
    (
        "tachograph.txt",
        include_str!("../../surfaces/tachograph.txt"),
    ),
    (
        "trailer_stats.txt",
        include_str!("../../surfaces/trailer_stats.txt"),
    ),
    ("training.txt", include_str!("../../surfaces/training.txt")),
    ("trips.txt", include_str!("../../surfaces/trips.txt")),
    (
        "vehicle_stats.txt",
        include_str!("../../surfaces/vehicle_stats.txt"),
    ),
];

impl Surface {
    /// The surface of a path, and the id that the path holds.
    pub(crate) fn at(path: &str) -> Option<(&'static Surface, &str)> {
        SURFACES.iter().find_map(|surface| {
            crate::endpoints::id_in(&surface.path, path).map(|id| (surface, id))
        })
    }

    fn named(name: &str) -> Option<&'static Surface> {
        SURFACES.iter().find(|surface| surface.name == name)
    }
}

#[cfg(test)]
mod tests;
