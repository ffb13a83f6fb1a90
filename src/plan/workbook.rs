//! The first visible sheet of an Excel workbook, cell by cell.
//!
//! A workbook's headers say how many strings and cells it has; a reader that trusts them can be made to allocate all
//! memory. This one allocates only for what it has read, up to a limit.

use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error;
use std::io::{Cursor, Read};

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use zip::ZipArchive;

use super::selection::TableListError;
use super::table_list::Cell;
use crate::config::bounds::TABLE_LIST_CELLS;
use crate::config::text::decode;

type Result<T> = std::result::Result<T, TableListError>;

/// Excel's own limits.
const ROWS: u32 = 1_048_576;
const COLUMNS: u32 = 16_384;

/// A sheet and its cells that hold something, in their order.
#[derive(Debug)]
pub(super) struct Sheet {
    pub(super) name: String,
    pub(super) cells: Vec<Cell>,
}

/// Reads the bytes of a workbook, of whose parts at most `limit` bytes are unpacked.
///
/// # Errors
/// One line that says what is wrong with it. A fault of the parsers is such an error, too.
pub(super) fn first_visible_sheet(bytes: &[u8], limit: u64) -> Result<Sheet> {
    if bytes.starts_with(b"\xd0\xcf\x11\xe0") {
        return Err(
            "it is an old workbook (.xls) or has a password: save it as .xlsx, without one".into(),
        );
    }
    if !bytes.starts_with(b"PK") {
        return Err("it is not a workbook, whatever its name: save it as .xlsx, or give a .csv or .txt file".into());
    }
    std::panic::catch_unwind(|| Package::open(bytes, limit)?.first_visible_sheet())
        .unwrap_or_else(|_| Err("the workbook cannot be read; save it again as .xlsx".into()))
}

/// The zip that a workbook is.
struct Package<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// Where each part is, by its name in lower case: what refers to a part may write it otherwise.
    parts: HashMap<String, usize>,
    /// Bytes that may be unpacked, and how many of them are left.
    limit: u64,
    left: u64,
}

/// What one part says of another.
struct Relation {
    kind: String,
    target: String,
}

impl<'a> Package<'a> {
    fn open(bytes: &'a [u8], limit: u64) -> Result<Self> {
        let zip = ZipArchive::new(Cursor::new(bytes))?;
        let names = zip.file_names().enumerate();
        let parts = names
            .filter_map(|(index, name)| Some((plain(&name.ok()?), index)))
            .collect();
        Ok(Self {
            zip,
            parts,
            limit,
            left: limit,
        })
    }

    fn first_visible_sheet(mut self) -> Result<Sheet> {
        if self.parts.contains_key("content.xml") || self.parts.contains_key("xl/workbook.bin") {
            return Err("it is an .ods or .xlsb workbook: save it as .xlsx or .csv".into());
        }
        let root = self
            .relations("")?
            .into_values()
            .find(|it| it.kind == "officeDocument");
        let workbook = root.map_or_else(|| "xl/workbook.xml".into(), |it| it.target);
        let relations = self.relations(&workbook)?;
        let text = self
            .part(&workbook)?
            .ok_or("the workbook lists no sheets")?;
        let (mut names, mut chosen) = (Vec::new(), None);
        each_element(&text, |element| {
            if element.local_name().as_ref() != b"sheet" {
                return Ok(());
            }
            let name = attribute(element, "name")?.unwrap_or_default().into_owned();
            let is_visible = attribute(element, "state")?.is_none_or(|state| state == "visible");
            let relation = attribute(element, "id")?.and_then(|id| relations.get(id.as_ref()));
            let found = relation.filter(|it| is_visible && it.kind == "worksheet");
            if let (Some(relation), None) = (found, &chosen) {
                chosen = Some((name.clone(), relation.target.clone()));
            }
            names.push(name);
            Ok(())
        })?;
        let Some((name, path)) = chosen else {
            return Err(format!("none of its {} sheets is visible", names.len()).into());
        };
        let strings = match relations.values().find(|it| it.kind == "sharedStrings") {
            Some(relation) => self
                .part(&relation.target)?
                .map_or_else(|| Ok(Vec::new()), |text| strings(&text))?,
            None => Vec::new(),
        };
        let text = self
            .part(&path)?
            .ok_or_else(|| format!("sheet {name} is missing in it"))?;
        let cells = cells(&text, &strings).map_err(|error| TableListError::Sheet {
            name: name.clone(),
            error: Box::new(error),
        })?;
        Ok(Sheet { name, cells })
    }

    /// What a part refers to, by id; `""` is the package itself.
    fn relations(&mut self, part: &str) -> Result<HashMap<String, Relation>> {
        let (folder, name) = part.rsplit_once('/').unwrap_or(("", part));
        let mut relations = HashMap::new();
        let Some(text) = self.part(&join(folder, &format!("_rels/{name}.rels")))? else {
            return Ok(relations);
        };
        each_element(&text, |element| {
            if element.local_name().as_ref() == b"Relationship" {
                let get = |name| attribute(element, name).map(Option::unwrap_or_default);
                let (id, kind, target) = (get("Id")?, get("Type")?, get("Target")?);
                let kind = kind.rsplit('/').next().unwrap_or_default().to_string();
                relations.insert(
                    id.into_owned(),
                    Relation {
                        kind,
                        target: join(folder, &target),
                    },
                );
            }
            Ok(())
        })?;
        Ok(relations)
    }

    /// The text of a part, if it is there.
    fn part(&mut self, path: &str) -> Result<Option<String>> {
        let Some(index) = self.parts.get(&plain(path)) else {
            return Ok(None);
        };
        let broken = |error: Box<dyn Error + Send + Sync>| TableListError::Part {
            path: path.into(),
            error,
        };
        let file = self
            .zip
            .by_index(*index)
            .map_err(|error| broken(error.into()))?;
        let mut bytes = Vec::new();
        // The size in the header is not trusted: it may be too small.
        if file.size() <= self.left {
            file.take(self.left + 1)
                .read_to_end(&mut bytes)
                .map_err(|error| broken(error.into()))?;
            if let Some(left) = self.left.checked_sub(bytes.len() as u64) {
                self.left = left;
                return decode(&bytes)
                    .map(|(text, _)| Some(text))
                    .map_err(|error| broken(error.into()));
            }
        }
        let limit = self.limit >> 10;
        Err(format!("it unpacks to more than {limit} KiB, the limit").into())
    }
}

/// A part's name as it is compared.
fn plain(name: &str) -> String {
    name.replace('\\', "/")
        .trim_start_matches('/')
        .to_lowercase()
}

/// A path in a part of `folder`.
fn join(folder: &str, path: &str) -> String {
    let path = path.replace('\\', "/");
    let mut steps: Vec<&str> = if path.starts_with('/') {
        Vec::new()
    } else {
        folder.split('/').collect()
    };
    for step in path.split('/') {
        match step {
            ".." => drop(steps.pop()),
            step => steps.push(step),
        }
    }
    steps.retain(|step| !step.is_empty() && *step != ".");
    steps.join("/")
}

/// The attribute of this local name.
fn attribute<'a>(element: &'a BytesStart<'_>, name: &str) -> Result<Option<Cow<'a, str>>> {
    for attribute in element.attributes().with_checks(false) {
        let attribute = attribute.map_err(quick_xml::Error::from)?;
        if attribute.key.local_name().as_ref() == name.as_bytes() {
            return Ok(Some(attribute.unescape_value()?));
        }
    }
    Ok(None)
}

fn reader(text: &str) -> Reader<&[u8]> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    reader
}

fn each_element(text: &str, mut look: impl FnMut(&BytesStart<'_>) -> Result<()>) -> Result<()> {
    let mut reader = reader(text);
    loop {
        match reader.read_event()? {
            Event::Start(element) => look(&element)?,
            Event::Eof => return Ok(()),
            _ => {}
        }
    }
}

/// Adds what an event says, if it is text.
fn add_text(event: &Event<'_>, text: &mut String) -> Result<()> {
    match event {
        Event::Text(part) => text.push_str(&part.decode().map_err(quick_xml::Error::from)?),
        Event::CData(part) => text.push_str(&part.decode().map_err(quick_xml::Error::from)?),
        Event::GeneralRef(name) => {
            match name.resolve_char_ref()? {
                Some(c) => text.push(c),
                None => {
                    let name = name.decode().map_err(quick_xml::Error::from)?;
                    let resolved = resolve_predefined_entity(&name);
                    text.push_str(resolved.ok_or_else(|| {
                        format!("`&{name:.60};` is not a known character reference")
                    })?);
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// The shared strings, each of one or more pieces (`t`), possibly with their pronunciation (`rPh`).
fn strings(text: &str) -> Result<Vec<String>> {
    let mut reader = reader(text);
    let (mut strings, mut current, mut is_text, mut is_phonetic) =
        (Vec::new(), String::new(), false, false);
    loop {
        let event = reader.read_event()?;
        match &event {
            Event::Start(element) => match element.local_name().as_ref() {
                b"t" => is_text = !is_phonetic,
                b"rPh" => is_phonetic = true,
                _ => {}
            },
            Event::End(element) => match element.local_name().as_ref() {
                b"t" => is_text = false,
                b"rPh" => is_phonetic = false,
                b"si" => strings.push(std::mem::take(&mut current)),
                _ => {}
            },
            Event::Eof => return Ok(strings),
            event if is_text => add_text(event, &mut current)?,
            _ => {}
        }
    }
}

fn cells(text: &str, strings: &[String]) -> Result<Vec<Cell>> {
    let mut reader = reader(text);
    let (mut cells, mut row, mut column) = (Vec::new(), 0, 0);
    let (mut kind, mut value, mut is_text, mut is_phonetic) =
        (String::new(), String::new(), false, false);
    loop {
        let event = reader.read_event()?;
        match &event {
            Event::Start(element) => match element.local_name().as_ref() {
                b"row" => {
                    let number = attribute(element, "r")?
                        .map(|text| row_number(&text))
                        .transpose()?;
                    (row, column) = (number.unwrap_or(row + 1), 0);
                }
                b"c" => {
                    if let Some(reference) = attribute(element, "r")? {
                        (row, column) = position(&reference)?;
                    }
                    kind = attribute(element, "t")?.unwrap_or_default().into_owned();
                }
                b"rPh" => is_phonetic = true,
                b"v" | b"t" => is_text = !is_phonetic,
                _ => {}
            },
            Event::End(element) => match element.local_name().as_ref() {
                b"rPh" => is_phonetic = false,
                b"v" | b"t" => is_text = false,
                b"c" => {
                    let mut text = std::mem::take(&mut value);
                    if kind == "s" && !text.is_empty() {
                        let index = text.trim().parse::<usize>().ok();
                        let shared = index.and_then(|index| strings.get(index)).cloned();
                        text = shared
                            .ok_or_else(|| format!("row {row}: unknown string {}", clip(&text)))?;
                    }
                    if !text.trim().is_empty() {
                        if cells.len() == TABLE_LIST_CELLS {
                            return Err(TableListError::TooManyCells);
                        }
                        cells.push(Cell { row, column, text });
                    }
                    column += 1;
                }
                b"sheetData" => return Ok(cells),
                _ => {}
            },
            Event::Eof => return Err("the file ends early".into()),
            event if is_text => add_text(event, &mut value)?,
            _ => {}
        }
    }
}

fn row_number(text: &str) -> Result<u32> {
    let number = text.parse().ok().filter(|row| (1..=ROWS).contains(row));
    number.ok_or_else(|| format!("invalid row number {}", clip(text)).into())
}

/// `B3` → row 3, column 1.
fn position(reference: &str) -> Result<(u32, u32)> {
    let letters = reference
        .bytes()
        .take_while(u8::is_ascii_alphabetic)
        .count();
    let (letters, digits) = reference.split_at(letters);
    let wrong = || TableListError::from(format!("invalid cell reference {}", clip(reference)));
    if !(1..=3).contains(&letters.len()) {
        return Err(wrong());
    }
    let number = letters.bytes().fold(0, |sum, letter| {
        sum * 26 + u32::from(letter.to_ascii_uppercase() - b'A') + 1
    });
    let row = row_number(digits).map_err(|_| wrong())?;
    if number > COLUMNS {
        Err(wrong())
    } else {
        Ok((row, number - 1))
    }
}

fn clip(text: &str) -> String {
    text.chars()
        .take(20)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
