//! Table names in a file: one per row, in the first column, or in the column with the most names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::selection::{SelectionError, TableListError};
use super::workbook::first_visible_sheet;
use crate::catalog::{Catalog, nearest};
use crate::config::bounds::{TABLE_LIST_BYTES, TABLE_LIST_CELLS, WORKBOOK_BYTES};
use crate::config::text::{decode, read_file};

/// Number of unknown names of a file that one error lists.
const TOLD: usize = 20;
/// Words that occur in headings, in several languages.
const HEADINGS: &[&str] = &[
    "dataset", "liste", "list", "name", "names", "nom", "noms", "nombre", "source", "sources",
    "tabelle", "tabellen", "tabla", "tablas", "table", "tableau", "tables", "title", "titre",
];

/// A cell that holds something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    /// Row or line, from 1.
    pub(super) row: u32,
    /// Column, counted from 0.
    pub(super) column: u32,
    /// The text of the cell.
    pub(super) text: String,
}

/// The table names in a workbook (`.xlsx`, its first visible sheet), `.csv` or `.txt` file.
///
/// They are expected in the first column, one per row. If no cell of that column is a table name (it numbers the rows,
/// for example), the column with the most names is read. Other text above the first name (a title, a heading) is
/// skipped, and so are numbers, empty rows, and rows that begin with `#`. `ALL` stands for all sources.
///
/// # Errors
/// [`SelectionError::File`] if the file cannot be read or names nothing, [`SelectionError::Unknown`] with the place of
/// each unknown name.
pub fn names_in_file(path: &Path, catalog: &Catalog) -> Result<Vec<String>, SelectionError> {
    let failed = |error: TableListError| SelectionError::File {
        path: path.display().to_string(),
        error,
    };
    let known: BTreeSet<&str> = {
        let sources = catalog.sources().map(|source| source.name.as_str());
        sources
            .chain(catalog.models().map(|model| model.name.as_str()))
            .collect()
    };
    let is_workbook = is_workbook(path).map_err(failed)?;
    let bytes = read_file(path, TABLE_LIST_BYTES).map_err(|error| failed(error.into()))?;
    let (cells, place) = read_cells(path, &bytes, is_workbook, &known).map_err(failed)?;
    let row = if is_workbook { "row" } else { "line" };
    let Found {
        names,
        unknown,
        elsewhere,
    } = find(cells, &known);
    if let Some((column, names)) = elsewhere {
        let column = column_name(column);
        tracing::warn!(
            "{place}: column {column} also holds table names ({names}), which are ignored: write one name per row"
        );
    }
    if !unknown.is_empty() {
        let more = unknown.len().saturating_sub(TOLD);
        let tell = |cell: &Cell| {
            let hint = nearest(&cell.text, known.iter().copied());
            let hint = hint.map(|it| format!(" (did you mean `{it}`?)"));
            let (text, hint) = (clip(&cell.text), hint.unwrap_or_default());
            format!("`{text}`{hint} in {place}, {row} {}", cell.row)
        };
        let mut names: Vec<String> = unknown.iter().take(TOLD).map(tell).collect();
        names.extend((more > 0).then(|| format!("and {more} more")));
        return Err(SelectionError::Unknown { names });
    }
    if names.is_empty() {
        let place = place
            .trim_start_matches(&path.display().to_string())
            .trim_start_matches(", ");
        let place = if place.is_empty() {
            String::new()
        } else {
            format!("{place}: ")
        };
        return Err(failed(
            format!("{place}it names no table; write one name per row, in the first column").into(),
        ));
    }
    if names.iter().any(|name| name.eq_ignore_ascii_case("all")) {
        return Ok(catalog
            .sources()
            .map(|source| source.name.clone())
            .collect());
    }
    Ok(names)
}

/// Whether a file is a workbook, by its extension.
fn is_workbook(path: &Path) -> Result<bool, TableListError> {
    let extension = path.extension().and_then(|it| it.to_str());
    match extension.unwrap_or_default().to_lowercase().as_str() {
        "xlsx" | "xlsm" => Ok(true),
        "csv" | "tsv" | "txt" => Ok(false),
        "xls" | "xlsb" | "ods" => {
            Err("unsupported kind of workbook: save it as .xlsx or .csv".into())
        }
        _ => Err("the file name must end in .xlsx, .csv or .txt (or give ALL)".into()),
    }
}

/// The cells of a file, and its name for messages.
fn read_cells(
    path: &Path,
    bytes: &[u8],
    is_workbook: bool,
    known: &BTreeSet<&str>,
) -> Result<(Vec<Cell>, String), TableListError> {
    let name = path.display();
    // A workbook may have the extension .csv.
    if is_workbook || bytes.starts_with(b"PK\x03\x04") {
        let sheet = first_visible_sheet(bytes, WORKBOOK_BYTES)?;
        return Ok((sheet.cells, format!("{name}, sheet {}", sheet.name)));
    }
    let (text, is_guessed) = decode(bytes)?;
    if is_guessed {
        tracing::warn!("{name} is not UTF-8: read as Windows-1252; save it as UTF-8 to be sure");
    }
    Ok((text_cells(&text, known)?, name.to_string()))
}

/// The names in a list.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    names: Vec<String>,
    /// Cells that should be names, but are not.
    unknown: Vec<Cell>,
    /// Another column with names, and those names.
    elsewhere: Option<(u32, String)>,
}

fn find(cells: Vec<Cell>, known: &BTreeSet<&str>) -> Found {
    let mut columns = columns_of(cells);
    let is_known =
        |cell: &Cell| known.contains(cell.text.as_str()) || cell.text.eq_ignore_ascii_case("all");
    let Some(column) = column_of_names(&columns, is_known) else {
        return Found::default();
    };
    // A whole list in one line.
    let rows: BTreeSet<u32> = columns.values().flatten().map(|cell| cell.row).collect();
    if rows.len() == 1 && columns.len() > 1 {
        let all = columns.into_values().flatten();
        let all = all.filter(|cell| !is_number(&cell.text));
        let (names, mut unknown): (Vec<Cell>, Vec<Cell>) = all.partition(is_known);
        // With only one name, the other cells are notes on it.
        if names.len() == 1 {
            unknown.clear();
        }
        return Found {
            names: names.into_iter().map(|cell| cell.text).collect(),
            unknown,
            elsewhere: None,
        };
    }
    let cells = columns.remove(&column).unwrap_or_default();
    let begin = cells.iter().position(is_known);
    let mut found = Found::default();
    for (index, cell) in cells.into_iter().enumerate() {
        match is_known(&cell) {
            true => found.names.push(cell.text),
            false if is_number(&cell.text) => {}
            false if begin.is_none_or(|begin| index < begin) && is_title(&cell.text, known) => {}
            false => found.unknown.push(cell),
        }
    }
    let read: BTreeSet<&String> = found.names.iter().collect();
    for (other, cells) in &columns {
        let names: Vec<&str> = cells
            .iter()
            .filter(|cell| is_known(cell) && !read.contains(&cell.text))
            .map(|it| it.text.as_str())
            .collect();
        if !names.is_empty() {
            let more = if names.len() > 3 { ", …" } else { "" };
            found.elsewhere = Some((*other, names[..names.len().min(3)].join(", ") + more));
            break;
        }
    }
    found
}

/// The cells by column, cleaned, without empty ones and without rows that are comments.
fn columns_of(cells: Vec<Cell>) -> BTreeMap<u32, Vec<Cell>> {
    let is_comment = |cell: &&Cell| {
        let text = cell.text.trim();
        cell.column == 0 && text.starts_with('#') && text.len() > 1
    };
    let comments = cells.iter().filter(is_comment).map(|cell| cell.row);
    let comments: BTreeSet<u32> = comments.collect();
    let mut columns: BTreeMap<u32, Vec<Cell>> = BTreeMap::new();
    for mut cell in cells {
        cell.text = clean(&cell.text);
        if !cell.text.is_empty() && !comments.contains(&cell.row) {
            columns.entry(cell.column).or_default().push(cell);
        }
    }
    columns
}

/// The column to read: the first if it has names, or else the one with the most, or else the first with text.
fn column_of_names(
    columns: &BTreeMap<u32, Vec<Cell>>,
    is_known: impl Fn(&Cell) -> bool,
) -> Option<u32> {
    let count = |cells: &[Cell]| cells.iter().filter(|cell| is_known(cell)).count();
    let first = columns.first_key_value();
    let first = first.filter(|(_, cells)| count(cells) > 0);
    // Of several columns, the leftmost.
    let most = columns.iter().rev().max_by_key(|(_, cells)| count(cells));
    let most = most.filter(|(_, cells)| count(cells) > 0);
    let is_text = |cells: &[Cell]| cells.iter().any(|cell| !is_number(&cell.text));
    let text = || columns.iter().find(|(_, cells)| is_text(cells));
    let column = first.or(most).or_else(text);
    column.map(|(column, _)| *column)
}

/// A cell without the characters that people and programs put around names: blanks, quotes, list marks.
fn clean(text: &str) -> String {
    let is_around =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, '\u{feff}' | '\u{200b}');
    let text = text.replace("_x000D_", " ");
    let text = text.trim_matches(is_around);
    let number = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = number.strip_prefix(['.', ')', ':']).unwrap_or(number);
    let text = match number.strip_prefix(is_around) {
        Some(name) if number.len() < text.len() => name,
        _ => text,
    };
    let text = text
        .strip_prefix(['-', '*', '•'])
        .filter(|rest| rest.starts_with(is_around))
        .unwrap_or(text);
    text.trim_matches(|c| is_around(c) || matches!(c, '"' | '\'' | '`'))
        .to_string()
}

fn is_number(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || b".,-+eE#".contains(&byte))
}

/// Whether text above a list is a heading: several words, or words that mean "table" or "name".
fn is_title(text: &str, known: &BTreeSet<&str>) -> bool {
    // A name that was written with blanks is a typing error, not a title.
    let joined: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    let is_slip = || {
        known
            .iter()
            .any(|name| name.to_lowercase() == joined.join("_"))
    };
    let mut words = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty());
    (joined.len() > 1 && !is_slip())
        || words.all(|word| HEADINGS.contains(&word.to_lowercase().as_str()))
}

/// The cells of a text. The column separator is the one with which most cells are table names, or that of Excel's
/// `sep=;` in the first line.
fn text_cells(text: &str, known: &BTreeSet<&str>) -> Result<Vec<Cell>, TableListError> {
    // The reader counts lines by \n.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let first = text.lines().next().unwrap_or_default().trim_matches('"');
    let named = first
        .strip_prefix("sep=")
        .and_then(|rest| rest.bytes().next())
        .filter(u8::is_ascii);
    let cut = |mark: u8| -> Result<Vec<Cell>, TableListError> {
        let mut reader = csv::ReaderBuilder::new();
        reader.has_headers(false).flexible(true).delimiter(mark);
        let mut cells = Vec::new();
        for record in reader.from_reader(text.as_bytes()).records() {
            let record = record?;
            let row = record.position().map_or(0, |position| {
                u32::try_from(position.line()).unwrap_or(u32::MAX)
            });
            for (column, text) in (0..)
                .zip(record.iter())
                .filter(|(_, text)| !text.trim().is_empty())
            {
                if cells.len() == TABLE_LIST_CELLS {
                    return Err(TableListError::TooManyCells);
                }
                cells.push(Cell {
                    row,
                    column,
                    text: text.to_string(),
                });
            }
        }
        cells.retain(|cell| named.is_none() || cell.row > 1);
        Ok(cells)
    };
    if let Some(mark) = named {
        return cut(mark);
    }
    let mut best: Option<(usize, usize, Vec<Cell>)> = None;
    for mark in *b",;\t|" {
        let cells = cut(mark)?;
        let names = cells
            .iter()
            .filter(|cell| known.contains(clean(&cell.text).as_str()))
            .count();
        let marks = text.bytes().filter(|byte| *byte == mark).count();
        if best
            .as_ref()
            .is_none_or(|(most, many, _)| (names, marks) > (*most, *many))
        {
            best = Some((names, marks, cells));
        }
    }
    Ok(best.map(|(_, _, cells)| cells).unwrap_or_default())
}

/// The column's letters, as in spreadsheets.
fn column_name(mut column: u32) -> String {
    let mut name = Vec::new();
    loop {
        name.push(char::from(b'A' + (column % 26) as u8));
        if column < 26 {
            return name.into_iter().rev().collect();
        }
        column = column / 26 - 1;
    }
}

fn clip(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let clipped: String = clean.take(80).collect();
    if clipped.len() < text.len() && text.chars().count() > 80 {
        clipped + "…"
    } else {
        clipped
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::io::{Cursor, Write as _};

    use zip::write::{SimpleFileOptions, ZipWriter};

    use super::*;

    /// A zip of these files.
    fn zipped(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in files {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    /// A workbook of sheets, each with its state and the XML of its `sheetData`.
    fn workbook(sheets: &[(&str, &str, &str)], strings: &str) -> Vec<u8> {
        let kinds = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
        let (mut list, mut relations, mut files) = (String::new(), String::new(), Vec::new());
        for (index, (name, state, data)) in sheets.iter().enumerate() {
            write!(
                list,
                r#"<sheet name="{name}" sheetId="{index}" state="{state}" r:id="rId{index}"/>"#
            )
            .unwrap();
            let target = format!("worksheets/sheet{index}.xml");
            write!(
                relations,
                r#"<Relationship Id="rId{index}" Type="{kinds}/worksheet" Target="{target}"/>"#
            )
            .unwrap();
            let sheet = format!(
                "<worksheet><dimension ref='A1:XFD1048576'/><sheetData>{data}</sheetData></worksheet>"
            );
            files.push((format!("xl/{target}"), sheet));
        }
        write!(
            relations,
            r#"<Relationship Id="s" Type="{kinds}/sharedStrings" Target="/xl/sharedStrings.xml"/>"#
        )
        .unwrap();
        let root = format!(
            r#"<Relationship Id="r" Type="{kinds}/officeDocument" Target="xl/workbook.xml"/>"#
        );
        files.push((
            "_rels/.rels".into(),
            format!("<Relationships>{root}</Relationships>"),
        ));
        files.push((
            "xl/workbook.xml".into(),
            format!("<workbook><sheets>{list}</sheets></workbook>"),
        ));
        files.push((
            "xl/_rels/workbook.xml.rels".into(),
            format!("<Relationships>{relations}</Relationships>"),
        ));
        files.push(("xl/sharedStrings.xml".into(), strings.into()));
        let files: Vec<_> = files
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_bytes()))
            .collect();
        zipped(&files)
    }

    /// Rows of inline strings.
    fn rows(rows: &[&[&str]]) -> String {
        let cell = |text: &&str| match text.parse::<f64>() {
            Ok(_) => format!("<c><v>{text}</v></c>"),
            Err(_) if text.is_empty() => "<c/>".to_string(),
            Err(_) => format!(r#"<c t="inlineStr"><is><t>{text}</t></is></c>"#),
        };
        rows.iter()
            .map(|row| format!("<row>{}</row>", row.iter().map(cell).collect::<String>()))
            .collect()
    }

    fn read(name: &str, bytes: impl AsRef<[u8]>) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), bytes).unwrap();
        let catalog = Catalog::open(None).unwrap();
        let place = format!("{}/", folder.path().display());
        names_in_file(&folder.path().join(name), &catalog)
            .map_err(|error| error.to_string().replace(&place, ""))
    }

    const BOTH: &[&str] = &["fleet_tags", "fleet_vehicles"];

    #[test]
    fn lists_are_understood_as_people_write_them() {
        let utf16: Vec<u8> = "\u{feff}fleet_tags\r\nfleet_vehicles\r\n"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        for (name, text) in [
            (
                "a.csv",
                &b"\xef\xbb\xbfTable Name;note\n\"fleet_tags\";x\n\nfleet_vehicles;y\n# no\n"[..],
            ),
            ("a.csv", b"fleet_tags,\"a, b\"\nfleet_vehicles,c\n"),
            ("a.csv", b"sep=|\ntable|n\nfleet_tags|1\nfleet_vehicles|2\n"),
            (
                "a.csv",
                b"\"sep=;\"\r\nfleet_tags;1\r\nfleet_vehicles;2\r\n",
            ),
            ("a.csv", b"#;table\n1;fleet_tags\n2;fleet_vehicles\n"),
            (
                "a.csv",
                b"category,source\nev,fleet_tags\ncore,fleet_vehicles\n",
            ),
            (
                "a.csv",
                b"Our tables\n\nname\n fleet_tags \n'fleet_vehicles'\n",
            ),
            ("a.tsv", b"fleet_tags\tx\nfleet_vehicles\ty\n"),
            ("a.TXT", b"1. fleet_tags\n2) fleet_vehicles\n"),
            ("a.txt", b"- fleet_tags\r- fleet_vehicles\r"),
            ("a.txt", b"fleet_tags, fleet_vehicles"),
            (
                "a.txt",
                b"Donn\xe9es de la flotte\nfleet_tags\nfleet_vehicles\n",
            ),
            ("a.txt", &utf16),
        ] {
            assert_eq!(
                read(name, text).unwrap(),
                BOTH,
                "{name}: {}",
                String::from_utf8_lossy(text)
            );
        }
        assert_eq!(read("a.txt", "fleet_tags; a note").unwrap(), ["fleet_tags"]);
        assert!(read("a.txt", "ALL\n").unwrap().len() > 40);
    }

    #[test]
    fn of_a_workbook_the_first_visible_sheet_is_read() {
        let names: &[&[&str]] = &[&["fleet_tags"], &["fleet_vehicles"]];
        let numbered: &[&[&str]] = &[
            &["No", "Table"],
            &["1", "fleet_tags"],
            &["2", "fleet_vehicles"],
        ];
        let titled: &[&[&str]] = &[
            &["Tables of ours", ""],
            &[],
            &["table", "category"],
            &["fleet_tags", "core"],
            &["fleet_vehicles"],
        ];
        let other = rows(&[&["addresses"]]);
        for sheets in [
            &[("T", "visible", rows(names))][..],
            &[
                ("H", "hidden", other.clone()),
                ("V", "veryHidden", other.clone()),
                ("T", "visible", rows(numbered)),
            ],
            &[
                ("T", "visible", rows(titled)),
                ("U", "visible", other.clone()),
            ],
        ] {
            let sheets: Vec<_> = sheets
                .iter()
                .map(|(name, state, data)| (*name, *state, data.as_str()))
                .collect();
            assert_eq!(
                read("a.xlsx", workbook(&sheets, "<sst/>")).unwrap(),
                BOTH,
                "{sheets:?}"
            );
            // Also under another name.
            assert_eq!(
                read("a.csv", workbook(&sheets, "<sst/>")).unwrap(),
                BOTH,
                "{sheets:?}"
            );
        }
        // Shared strings, in pieces, with their pronunciation and references; cells with an explicit position.
        let strings = "<sst uniqueCount='2'><si><r><t>fleet&#95;</t></r><r><t>tags</t></r><rPh><t>x</t></rPh></si>\
                       <si><t xml:space='preserve'> fleet_<![CDATA[vehicles]]> </t></si></sst>";
        let data = "<row r='7'><c r='A7' t='s'><v>0</v></c></row><row r='9'><c r='a9' t='s'><v>1</v></c></row>\
                    <row><c><f>A1</f></c></row>";
        assert_eq!(
            read("a.xlsx", workbook(&[("T", "visible", data)], strings)).unwrap(),
            BOTH
        );
    }

    #[test]
    fn what_is_no_table_is_told_with_file_sheet_and_row() {
        let sheet = |cells: &[&[&str]]| workbook(&[("My list", "visible", &rows(cells))], "<sst/>");
        let (typo, blank, none) = (
            sheet(&[&["table"], &["fleet_tags"], &[], &["fleet_vehicels"]]),
            sheet(&[&["fleet trips"], &["fleet_tags"]]),
            sheet(&[]),
        );
        for (name, bytes, expected) in [
            (
                "a.xlsx",
                &typo[..],
                "`fleet_vehicels` (did you mean `fleet_vehicles`?) in a.xlsx, sheet My list, row 4",
            ),
            (
                "a.xlsx",
                &blank,
                "`fleet trips` (did you mean `fleet_trips`?) in a.xlsx, sheet My list, row 1",
            ),
            ("a.xlsx", &none, "a.xlsx: sheet My list: it names no table"),
            (
                "a.csv",
                b"fleet_tags\nq\n\"x\ny\"\n",
                "unknown tables: `q` in a.csv, line 2, `x y` in a.csv, line 3",
            ),
            (
                "a.csv",
                b"qqq\nfleet_tags\n",
                "unknown table: `qqq` in a.csv, line 1",
            ),
            ("a.csv", b"1;2\n3;4\n", "a.csv: it names no table"),
            ("a.txt", b"\n\n", "a.txt: it names no table"),
            ("a.txt", b"fleet_tags\0", "it holds NUL bytes"),
            ("a.pdf", b"x", "must end in .xlsx, .csv or .txt"),
            ("a.ods", b"PK", "save it as .xlsx or .csv"),
            ("a.xlsx", b"no workbook", "it is not a workbook"),
            (
                "a.xlsx",
                b"PK\x03\x04 but no more",
                "the workbook is incomplete",
            ),
            (
                "a.xlsx",
                b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
                "has a password",
            ),
        ] {
            let error = read(name, bytes).unwrap_err();
            assert!(error.contains(expected), "{name}: {error}");
        }
        let many: String = (0..100).map(|number| format!("table{number}x\n")).collect();
        assert!(read("a.txt", many).unwrap_err().ends_with(", and 80 more"));
        let error = read("a.txt", "fleet_tags\n".to_string() + &"x".repeat(5_000)).unwrap_err();
        assert!(error.len() < 200, "{error}");
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("list.csv");
        crate::config::text::make_pipe(&pipe);
        let error = names_in_file(&pipe, &Catalog::open(None).unwrap())
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with("list.csv: it is a named pipe, not a file"),
            "{error}"
        );
    }

    #[test]
    fn names_in_other_columns_are_found_or_told() {
        let known: BTreeSet<&str> = ["a_b", "c_d", "e_f"].into();
        let cells = |cells: &[(u32, u32, &str)]| {
            cells
                .iter()
                .map(|(row, column, text)| Cell {
                    row: *row,
                    column: *column,
                    text: text.to_string(),
                })
                .collect()
        };
        let found = find(
            cells(&[(1, 0, "a_b"), (1, 1, "c_d"), (2, 0, "e_f"), (2, 1, "a_b")]),
            &known,
        );
        assert_eq!(
            (found.names, found.elsewhere),
            (vec!["a_b".into(), "e_f".into()], Some((1, "c_d".into())))
        );
        let found = find(
            cells(&[(1, 0, "x"), (2, 27, "a_b"), (3, 27, "c_d"), (3, 30, "c_d")]),
            &known,
        );
        assert_eq!(
            (found.names, found.elsewhere),
            (vec!["a_b".into(), "c_d".into()], None)
        );
        assert_eq!(
            (column_name(0), column_name(27), column_name(16_383)),
            ("A".into(), "AB".into(), "XFD".into())
        );
    }

    #[test]
    fn sizes_in_workbook_headers_are_not_trusted() {
        let data = rows(&[&["fleet_tags"], &["fleet_vehicles"]]);
        for count in ["18446744073709551615", "1000000000000", "-1", "x"] {
            let strings = format!("<sst count='{count}' uniqueCount='{count}'></sst>");
            assert_eq!(
                read("a.xlsx", workbook(&[("T", "visible", &data)], &strings)).unwrap(),
                BOTH,
                "{count}"
            );
        }
        let far = "<row r='1'><c r='A1' t='inlineStr'><is><t>fleet_tags</t></is></c></row>\
                   <row r='1048576'><c r='XFD1048576' t='inlineStr'><is><t>x</t></is></c></row>";
        assert_eq!(
            read("a.xlsx", workbook(&[("T", "visible", far)], "<sst/>")).unwrap(),
            ["fleet_tags"]
        );
        for (data, part) in [
            (
                "<row><c r='ZZZZZZZ4294967295'><v>1</v></c></row>",
                "sheet T: invalid cell reference ZZZZZZZ4294967295",
            ),
            (
                "<row><c r='XFE1'><v>1</v></c></row>",
                "invalid cell reference XFE1",
            ),
            (
                "<row><c r='A0'><v>1</v></c></row>",
                "invalid cell reference A0",
            ),
            (
                "<row><c r='1'><v>1</v></c></row>",
                "invalid cell reference 1",
            ),
            ("<row r='4294967296'/>", "invalid row number 4294967296"),
            (
                "<row><c t='s'><v>99999999999999999999</v></c></row>",
                "row 1: unknown string 99999999999999999999",
            ),
            ("<row><c", "sheet T: "),
            ("<row></c>", "sheet T: "),
            ("<row><c><v>&#x110000;</v></c></row>", "sheet T: "),
            (
                "<row><c><v>fleet_tags&other;</v></c></row>",
                "sheet T: `&other;` is not a known character reference",
            ),
        ] {
            let error = read("a.xlsx", workbook(&[("T", "visible", data)], "<sst/>")).unwrap_err();
            assert!(
                error.starts_with("cannot read table names from a.xlsx: ") && error.contains(part),
                "{error}"
            );
        }
        // Parts that unpack to more than the limit, alone or together; and parts with a wrong size in their header.
        let blanks = |kib: usize| " ".repeat(kib << 10);
        let whole = workbook(&[("T", "visible", &blanks(65))], "<sst/>");
        let halves = workbook(
            &[("T", "visible", &blanks(40))],
            &format!("<sst>{}</sst>", blanks(40)),
        );
        let mut lie = whole.clone();
        let header = lie
            .windows(4)
            .position(|bytes| bytes == b"PK\x01\x02")
            .unwrap();
        lie[header + 24..header + 28].copy_from_slice(&9u32.to_le_bytes());
        assert!(
            first_visible_sheet(&lie, 64 << 10)
                .unwrap_err()
                .to_string()
                .contains("sheet0.xml in it")
        );
        for bomb in [whole, halves] {
            let error = first_visible_sheet(&bomb, 64 << 10)
                .unwrap_err()
                .to_string();
            assert!(error.contains("unpacks to more than 64 KiB"), "{error}");
        }
        let many = "<c><v>1</v></c>".repeat(TABLE_LIST_CELLS + 1);
        let error = read(
            "a.xlsx",
            workbook(&[("T", "visible", &format!("<row>{many}</row>"))], "<sst/>"),
        )
        .unwrap_err();
        assert!(error.contains("more than 100000 cells"), "{error}");
        assert!(
            read("a.csv", "1,".repeat(TABLE_LIST_CELLS + 1))
                .unwrap_err()
                .contains("more than 100000 cells")
        );
        // A zip in which a part is missing, and a file that is not a zip.
        assert!(
            read("a.xlsx", zipped(&[]))
                .unwrap_err()
                .contains("lists no sheets")
        );
        assert!(
            read("a.xlsx", workbook(&[("T", "hidden", "")], "<sst/>"))
                .unwrap_err()
                .contains("none of its 1 sheets")
        );
    }
}
