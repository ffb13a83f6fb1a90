//! What must hold for any bytes at all: one function per fuzz target, and it panics where something does not hold.
//!
//! `cargo fuzz run <target>` calls them with bytes that libFuzzer makes up. `cargo test` includes this file
//! (`tests/it/fuzzing.rs`) and calls them with the files of `corpus/` and with mutations of those.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray};
use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type};
use bytes::Bytes;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use samsara_etl::catalog::{Catalog, CatalogError, JSON_TYPE, Source, TimeField, TimeStep};
use samsara_etl::extract::{compare_ways, day_window, decode_for_day, decode_page};
use samsara_etl::json::path::{Path, Step};
use samsara_etl::json::{Scanner, unescape};
use samsara_etl::samsara::{LONGEST_RETRY_AFTER, retry_after as read_retry_after, split_page};
use samsara_etl::state::{SourceState, StateError, VERSION};

/// Panics where something does not hold for these bytes.
pub type Target = fn(&[u8]);

/// All targets by name. The seeds of each are in `corpus/<name>/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("page", page),
    ("front_matter", front_matter),
    ("sources_toml", sources_toml),
    ("state_document", state_document),
    ("retry_after", retry_after),
];

/// Sources that differ in what a page of theirs can be: the path to its records, paging, types, where the time is.
const SOURCES: &[&str] = &[
    "fleet_vehicle_stats_gps",    // readings with a time each
    "fleet_vehicles",             // a list, with JSON and MAP columns
    "fleet_assets_reefers",       // v1, readings in every field of an object, times as numbers
    "fleet_trips",                // v1, records with a time each
    "fleet_vehicles_fuel_energy", // records two steps down
    "fleet_vehicle_safety_score", // the body is the record
];

static CATALOG: LazyLock<Catalog> =
    LazyLock::new(|| Catalog::open(None).expect("the embedded catalog opens"));

/// A body of the API, as a page of several sources.
pub fn page(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    for name in SOURCES {
        page_of(
            &alone(CATALOG.source(name).expect("a source of the catalog")),
            &body,
        );
    }
}

/// The source as the only one of its task: of a shared one, only records with its own field are its rows.
fn alone(source: &Source) -> Source {
    Source {
        share: None,
        ..source.clone()
    }
}

fn page_of(source: &Source, body: &Bytes) {
    let page = match split_page(body, source) {
        Ok(page) => page,
        Err(error) => return assert_one_line(&error.to_string()),
    };
    // Read in both ways, it is the same.
    if let Err(difference) = compare_ways(source, &page.records) {
        panic!("{}: {difference}", source.name);
    }
    let day = NaiveDate::from_ymd_opt(2024, 1, 1).expect("a day");
    let whole = match decode_for_day(source, &page, Some(day_window(day)), None, None) {
        Ok(batch) => batch,
        Err(error) => return assert_one_line(&error.to_string()),
    };
    assert_eq!(page.is_empty, whole.num_rows() == 0);
    // All values that came in came out, in their columns or rescued: nothing lost, nothing doubled, nothing changed.
    if !page.is_empty {
        let mut sent = Vec::new();
        json_values(&page.records, &mut sent);
        page.envelope
            .iter()
            .for_each(|(_, text)| json_values(text, &mut sent));
        assert_eq!(
            sorted(sent),
            sorted(kept(source, &whole)),
            "{}",
            source.name
        );
    }
    assert_paths(source, &whole);
    // The list alone is the same rows; fields next to it are in `_rescued_data` only.
    let (alone, _) = decode_page(source, page.records.clone(), Some(day_window(day)), None)
        .expect("decoded before");
    assert_eq!(alone.num_rows(), whole.num_rows());
    assert_eq!(
        alone.columns()[..source.fields.len()],
        whole.columns()[..source.fields.len()]
    );
    // A day gets the records, or the readings in them, that begin on it, all of them and no others.
    let Some(field) = &source.time_field else {
        return;
    };
    for day in [day, day + TimeDelta::days(1)] {
        match decode_for_day(source, &page, Some(day_window(day)), Some(day), None) {
            Ok(batch) => {
                let expected = times(field, &whole)
                    .into_iter()
                    .map(|time| time.expect("readable, since accepted"));
                let expected: Vec<_> = expected.filter(|time| time.date_naive() == day).collect();
                let owned: Vec<_> = times(field, &batch).into_iter().flatten().collect();
                assert_eq!(owned, expected, "{}", source.name);
                assert_paths(source, &batch);
            }
            Err(error) => {
                assert!(
                    times(field, &whole).iter().any(Option::is_none),
                    "{}: {error}",
                    source.name
                );
                assert_one_line(&error.to_string());
            }
        }
    }
}

/// The text of a model file.
pub fn front_matter(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let sources = "[s]\ndescription = \"d\"\nkind = \"snapshot\"\nendpoint = \"/s\"\nrate_limit = \"5/s\"\n\
                   schema = \"id VARCHAR\"\n";
    let files = [
        ("f/sources.toml".to_string(), sources.to_string()),
        ("f/m.sql".to_string(), text.to_string()),
    ];
    match Catalog::from_files("fuzz", &files) {
        Ok(catalog) => {
            let model = catalog.model("m").expect("the one model");
            assert_eq!(model.sources, ["s"]);
            // The front matter is blanked out: what stands behind it keeps its line.
            assert_eq!(model.sql.matches('\n').count(), text.matches('\n').count());
            assert!(text.ends_with(model.sql.trim_start()));
            for column in model.column_descriptions().values() {
                assert!(text.contains(column), "{column}");
            }
        }
        Err(error) => assert_places(&error, "sql/f/m.sql", text),
    }
}

/// The text of a `sources.toml`.
pub fn sources_toml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let files = [("f/sources.toml".to_string(), text.to_string())];
    let catalog = match Catalog::from_files("fuzz", &files) {
        Ok(catalog) => catalog,
        Err(error @ CatalogError::Wrong(_)) => {
            return assert_places(&error, "sql/f/sources.toml", text);
        }
        Err(error) => return assert!(error.to_string().contains("has no <family>"), "{error}"),
    };
    for source in catalog.sources() {
        assert!(
            source.endpoint.starts_with('/') && !source.endpoint.contains(['?', '#']),
            "{}",
            source.endpoint
        );
        assert!(
            source
                .name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        );
        assert!(!source.name.is_empty());
        assert!(!source.fields.is_empty() && source.days_per_request > 0);
        assert_eq!(source.is_daily(), source.window.is_some());
        // Whatever schema was accepted can be decoded into.
        for (records, rows) in [("[]", 0), ("[{},{\"unknown\":1}]", 2)] {
            let decoded = decode_page(
                &alone(source),
                Bytes::from_static(records.as_bytes()),
                None,
                None,
            );
            assert_eq!(
                decoded.expect("any object fits any schema").0.num_rows(),
                rows
            );
        }
    }
}

/// A state document.
pub fn state_document(data: &[u8]) {
    match SourceState::from_json(data, "gs://b/state.json") {
        Ok(state) => {
            assert!(state.version <= VERSION);
            let again = SourceState::from_json(&state.to_json().expect("a state is JSON"), "again")
                .expect("what was written is read");
            assert_eq!(again, state);
            assert_eq!(
                again.to_json().expect("a state is JSON"),
                state.to_json().expect("a state is JSON")
            );
            assert!(state.complete().count() <= state.partitions.len());
            assert!(state.changed_days().count() <= state.partitions.len());
            assert!(state.changed_days().count() <= state.complete().count());
        }
        Err(StateError::Newer { found, .. }) => assert!(found > VERSION),
        Err(error) => {
            let error = error.to_string();
            assert!(
                error.starts_with("gs://b/state.json is not a state document"),
                "{error}"
            );
            assert_one_line(&error.to_string());
        }
    }
}

/// The value of a `Retry-After` header.
pub fn retry_after(data: &[u8]) {
    let Ok(value) = std::str::from_utf8(data) else {
        return;
    };
    for now in [
        "1970-01-01T00:00:00Z",
        "2024-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
    ] {
        let now: DateTime<Utc> = now.parse().expect("an instant");
        let wait = read_retry_after(value, now);
        assert!(
            wait.is_none_or(|wait| wait <= LONGEST_RETRY_AFTER),
            "{wait:?}"
        );
        assert_eq!(
            wait,
            read_retry_after(&format!(" {value}\t"), now),
            "white space around it means nothing"
        );
        if let Ok(seconds) = value.parse::<u32>() {
            assert_eq!(
                wait.map(|wait| wait.as_secs()),
                Some(LONGEST_RETRY_AFTER.as_secs().min(seconds.into()))
            );
        }
        if value
            .trim()
            .parse::<f64>()
            .is_ok_and(|seconds| seconds < 0.0)
        {
            assert_eq!(wait, None, "a negative wait is none");
        }
    }
}

fn assert_one_line(message: &str) {
    assert!(
        !message.is_empty() && !message.contains('\n'),
        "{message:?}"
    );
}

/// A refused catalog names the file and a line of it, in one line.
fn assert_places(error: &CatalogError, expected: &str, text: &str) {
    let CatalogError::Wrong(problems) = error else {
        panic!("{error}")
    };
    for problem in problems.clone() {
        assert_eq!(problem.file, expected);
        assert!(
            (1..=text.matches('\n').count() + 1).contains(&problem.place.line),
            "{error}"
        );
        assert!(text.get(problem.place.bytes(text)).is_some(), "{error}");
        assert_one_line(&problem.reason);
    }
}

fn sorted(mut values: Vec<String>) -> Vec<String> {
    values.sort_unstable();
    values
}

/// `1`, `1.0` and `"1"` are one value: which of them a column holds depends on its type.
fn normal(text: &str) -> String {
    text.parse::<f64>()
        .map_or_else(|_| text.to_string(), |number| (number + 0.0).to_string())
}

/// The values in valid JSON text, without names, structure and nulls. Told by its own few rules, since it judges
/// what the program's scanner and arrow-json make of the same text.
fn json_values(text: &[u8], values: &mut Vec<String>) {
    let mut at = 0;
    while at < text.len() {
        let start = at;
        match text[at] {
            b'"' => {
                at += 1;
                while text[at] != b'"' {
                    at += if text[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
                if !text[at..].trim_ascii_start().starts_with(b":") {
                    // A lone surrogate has no other form than the one that was sent.
                    let string = serde_json::from_slice::<String>(&text[start..at]);
                    values.push(string.map_or_else(
                        |_| lossy(&text[start + 1..at - 1]),
                        |string| normal(&string),
                    ));
                }
            }
            b'{' | b'}' | b'[' | b']' | b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' => at += 1,
            _ => {
                while at < text.len() && !b"{}[],: \t\r\n".contains(&text[at]) {
                    at += 1;
                }
                if &text[start..at] != b"null" {
                    values.push(normal(&lossy(&text[start..at])));
                }
            }
        }
    }
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

/// Each rescued value of a row has a path of its own, and where that leads into a list of the row, the row's list has
/// such an item.
fn assert_paths(source: &Source, batch: &RecordBatch) {
    let rescued = batch
        .column_by_name("_rescued_data")
        .expect("every raw table has it")
        .as_string::<i32>();
    for row in (0..batch.num_rows()).filter(|row| rescued.is_valid(*row)) {
        let text = rescued.value(row);
        let paths = sorted(names(text));
        assert!(
            paths.windows(2).all(|two| two[0] != two[1]),
            "{}: {text}",
            source.name
        );
        for path in paths.iter().map(|path| Path::parse(path)) {
            assert!(path.is_root || !path.steps.is_empty(), "{text}");
            let list = path
                .steps
                .iter()
                .position(|step| matches!(step, Step::Item(_)));
            let (Some(list), false) = (list, path.is_root) else {
                continue;
            };
            let records: ArrayRef = Arc::new(StructArray::from(batch.clone()));
            let column = path.steps[..list].iter().fold(records, |array, step| {
                let Step::Name(name) = step else {
                    panic!("{text}")
                };
                array
                    .as_struct()
                    .column_by_name(name)
                    .expect("a declared column")
                    .clone()
            });
            match path.steps[list] {
                Step::Item(Some(index)) => {
                    let items = column.as_list::<i32>().value(row);
                    assert!(
                        index < items.len(),
                        "{}: {text} of {} items",
                        source.name,
                        items.len()
                    );
                }
                _ => assert_eq!(path.steps.len(), list + 1, "{text}"),
            }
        }
    }
}

/// The names of an object, each as often as it comes.
fn names(text: &str) -> Vec<String> {
    let (mut names, mut scanner) = (Vec::new(), Scanner::new(text.as_bytes(), 0));
    scanner.expect(b'{', "an object").expect("an object");
    loop {
        let name = scanner.key().expect("a name");
        names.push(unescape(&text.as_bytes()[name]).expect("no lone surrogate"));
        scanner.value().expect("a value");
        if !scanner.take(b',') {
            scanner
                .expect(b'}', "the end")
                .and_then(|()| scanner.end())
                .expect("the end");
            return names;
        }
    }
}

/// The values of a batch in the same form: those of the declared columns, and the rescued.
fn kept(source: &Source, batch: &RecordBatch) -> Vec<String> {
    let mut values = Vec::new();
    let rescued = batch
        .schema()
        .index_of("_rescued_data")
        .expect("every raw table has it");
    for row in 0..batch.num_rows() {
        for (field, column) in source.fields.iter().zip(batch.columns()) {
            cell_values(field, column, row, &mut values);
        }
        let rescued = batch.column(rescued).as_string::<i32>();
        if rescued.is_valid(row) {
            json_values(rescued.value(row).as_bytes(), &mut values);
        }
    }
    values
}

fn cell_values(field: &Field, column: &ArrayRef, row: usize, values: &mut Vec<String>) {
    if column.is_null(row) {
        return;
    }
    match field.data_type() {
        DataType::Utf8 if field.metadata().contains_key(JSON_TYPE) => {
            json_values(column.as_string::<i32>().value(row).as_bytes(), values);
        }
        DataType::Utf8 => values.push(normal(column.as_string::<i32>().value(row))),
        DataType::Int64 => values.push(normal(
            &column.as_primitive::<Int64Type>().value(row).to_string(),
        )),
        DataType::Float64 => values.push(normal(
            &column.as_primitive::<Float64Type>().value(row).to_string(),
        )),
        DataType::Boolean => values.push(column.as_boolean().value(row).to_string()),
        DataType::Struct(fields) => {
            for (field, column) in fields.iter().zip(column.as_struct().columns()) {
                cell_values(field, column, row, values);
            }
        }
        DataType::List(item) => {
            let items = column.as_list::<i32>().value(row);
            (0..items.len()).for_each(|row| cell_values(item, &items, row, values));
        }
        DataType::Map(_, _) => {
            let entries = column.as_map().value(row);
            let texts = entries.column(1).as_string::<i32>();
            values.extend(texts.iter().flatten().map(normal));
        }
        other => panic!("no page holds {other}"),
    }
}

/// The times in a batch, in order; `None` where one is missing or unreadable.
fn times(field: &TimeField, batch: &RecordBatch) -> Vec<Option<DateTime<Utc>>> {
    let records: ArrayRef = Arc::new(StructArray::from(batch.clone()));
    let mut times = Vec::new();
    (0..records.len()).for_each(|row| times_of(&records, row, field.steps(), &mut times));
    times
}

fn times_of(
    array: &ArrayRef,
    row: usize,
    steps: &[TimeStep],
    times: &mut Vec<Option<DateTime<Utc>>>,
) {
    match steps.split_first() {
        Some((TimeStep::Items, rest)) if array.is_valid(row) => {
            let items = array.as_list::<i32>().value(row);
            (0..items.len())
                .filter(|row| items.is_valid(*row))
                .for_each(|row| times_of(&items, row, rest, times));
        }
        Some((TimeStep::Items, _)) => {}
        Some((step, rest)) => {
            for (field, column) in array
                .as_struct()
                .fields()
                .iter()
                .zip(array.as_struct().columns())
            {
                if !matches!(step, TimeStep::Field(name) if field.name() != name) {
                    times_of(column, row, rest, times);
                }
            }
        }
        None if array.is_null(row) => times.push(None),
        None => times.push(match array.data_type() {
            DataType::Int64 => {
                DateTime::from_timestamp_millis(array.as_primitive::<Int64Type>().value(row))
            }
            // A leap second is the first one of the next minute.
            _ => string_to_datetime(&Utc, array.as_string::<i32>().value(row))
                .ok()
                .and_then(|at| DateTime::from_timestamp_micros(at.timestamp_micros())),
        }),
    }
}
