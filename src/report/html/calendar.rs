//! Coverage as a calendar: a letter per day, and years and months summed up.

use std::fmt::Write as _;

use chrono::{Datelike, Days, NaiveDate};
use serde::Serialize;

/// What a letter of the calendar means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Letter {
    /// The letter, as `samsara-etl status` prints it.
    pub letter: char,
    /// Its class in the style sheet.
    pub class: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// Whether the warehouse has the day as it is known to be.
    pub is_loaded: bool,
}

const fn letter(
    letter: char,
    class: &'static str,
    meaning: &'static str,
    is_loaded: bool,
) -> Letter {
    Letter {
        letter,
        class,
        meaning,
        is_loaded,
    }
}

/// All letters, in the order of the legend.
pub const LETTERS: &[Letter] = &[
    letter('#', "loaded", "loaded", true),
    letter('.', "empty", "loaded, nothing there", true),
    letter('+', "late", "loaded, late data has come since", true),
    letter('d', "waits", "derived, not loaded", false),
    letter('e', "waits", "extracted, not derived", false),
    letter('~', "begun", "unfinished", false),
    letter('!', "failed", "failed", false),
    letter('?', "unasked", "not requested", false),
];

/// What a letter means; none for a day that nobody asks for.
pub fn meaning(letter: char) -> Option<&'static Letter> {
    LETTERS.iter().find(|known| known.letter == letter)
}

/// The days of a table: a letter per day from the first, a space where none is expected.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DayRow {
    /// The day of the first letter.
    pub first: Option<NaiveDate>,
    /// The letters.
    pub letters: String,
}

impl DayRow {
    /// Puts days, which ascend, in a row.
    pub fn of(days: impl IntoIterator<Item = (NaiveDate, char)>) -> Self {
        let mut row = Self::default();
        let mut next: Option<NaiveDate> = None;
        for (day, letter) in days {
            row.first.get_or_insert(day);
            while next.is_some_and(|next| next < day) {
                row.letters.push(' ');
                next = next.and_then(|next| next.succ_opt());
            }
            row.letters.push(letter);
            next = day.succ_opt();
        }
        row
    }

    /// Each day with its letter.
    pub fn days(&self) -> impl Iterator<Item = (NaiveDate, char)> {
        let days = self.first.into_iter().flat_map(|first| first.iter_days());
        days.zip(self.letters.chars())
    }

    /// The last day that has rows in the warehouse.
    pub fn last_with_rows(&self) -> Option<NaiveDate> {
        let with_rows = self
            .days()
            .filter(|(_, letter)| matches!(letter, '#' | '+'));
        with_rows.map(|(day, _)| day).last()
    }

    fn last(&self) -> Option<NaiveDate> {
        let length = self.letters.chars().count() as u64;
        self.first?
            .checked_add_days(Days::new(length.checked_sub(1)?))
    }
}

/// What a column of the overview sums up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// A column per year.
    Years,
    /// A column per month, of one year.
    Months,
    /// A column per day, of one month.
    Days,
}

/// The overview: tables × years, months or days.
#[derive(Debug, Clone, Serialize)]
pub struct Overview {
    /// What a column is.
    pub level: Level,
    /// The year or month that is shown; none with a column per year.
    pub period: Option<String>,
    /// Headings of the columns.
    pub columns: Vec<String>,
    /// A row per table, in the order of the tables.
    pub rows: Vec<Vec<Cell>>,
}

/// A year, a month or a day of one table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    /// What is shown: a share, or the letter of a day.
    pub text: String,
    /// Its class in the style sheet.
    pub class: &'static str,
    /// The same in words.
    pub words: String,
}

/// Sums the rows up as coarsely as their days demand: months where all lie in one year, days where all lie in one month.
pub fn overview(rows: &[&DayRow]) -> Option<Overview> {
    let first = rows.iter().filter_map(|row| row.first).min()?;
    let last = rows.iter().filter_map(|row| row.last()).max()?;
    let level = match (first.year() == last.year(), first.month() == last.month()) {
        (false, _) => Level::Years,
        (true, false) => Level::Months,
        (true, true) => Level::Days,
    };
    let key = |day: NaiveDate| match level {
        Level::Years => (day.year(), 0, 0),
        Level::Months => (day.year(), day.month(), 0),
        Level::Days => (day.year(), day.month(), day.day()),
    };
    let (mut keys, mut columns) = (Vec::new(), Vec::new());
    for day in first.iter_days().take_while(|day| *day <= last) {
        if keys.last() != Some(&key(day)) {
            keys.push(key(day));
            let name = match level {
                Level::Years => day.format("%Y"),
                Level::Months => day.format("%Y-%m"),
                Level::Days => day.format("%Y-%m-%d"),
            };
            columns.push(name.to_string());
        }
    }
    let sums = rows.iter().map(|row| {
        let mut found: Vec<String> = vec![String::new(); columns.len()];
        let mut at = 0;
        for (day, letter) in row.days() {
            let key = key(day);
            while keys.get(at).is_some_and(|column| *column != key) {
                at += 1;
            }
            if let Some(found) = found.get_mut(at) {
                found.push(letter);
            }
        }
        let cells = columns.iter().zip(&found);
        cells
            .map(|(column, letters)| cell(level, column, letters))
            .collect()
    });
    Some(Overview {
        level,
        period: match level {
            Level::Years => None,
            Level::Months => Some(first.format("%Y").to_string()),
            Level::Days => Some(first.format("%Y-%m").to_string()),
        },
        rows: sums.collect(),
        columns,
    })
}

fn cell(level: Level, column: &str, letters: &str) -> Cell {
    let known: Vec<&Letter> = letters.chars().filter_map(meaning).collect();
    if known.is_empty() {
        return Cell {
            text: String::new(),
            class: "none",
            words: format!("{column}: no day expected"),
        };
    }
    if let (Level::Days, [only]) = (level, known.as_slice()) {
        return Cell {
            text: only.letter.to_string(),
            class: only.class,
            words: format!("{column}: {}", only.meaning),
        };
    }
    let loaded = known.iter().filter(|letter| letter.is_loaded).count();
    let has = |class: &str| known.iter().any(|letter| letter.class == class);
    let class = match loaded == known.len() {
        true if known.iter().all(|letter| letter.class == "empty") => "empty",
        true => "loaded",
        false if has("failed") => "failed",
        false if loaded == 0 && !has("waits") && !has("begun") => "unasked",
        false => "waits",
    };
    // Never rounded up to the whole, nor down to nothing.
    let percent = match loaded * 100 / known.len() {
        0 if loaded > 0 => 1,
        percent => percent,
    };
    let mut words = format!(
        "{column}: {loaded} of {} days in the warehouse",
        known.len()
    );
    for kind in LETTERS.iter().filter(|kind| !kind.is_loaded) {
        let count = known
            .iter()
            .filter(|letter| letter.letter == kind.letter)
            .count();
        if count > 0 {
            // Writing into a String cannot fail.
            let _ = write!(words, "; {count} {}", kind.meaning);
        }
    }
    Cell {
        text: format!("{percent}%"),
        class,
        words,
    }
}

/// A line of a table's own calendar: a month, or a year whose days are all alike.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CalendarLine {
    /// `2024-01` or `2024`.
    pub period: String,
    /// Spaces before the first letter, so that days stand below each other; none for a year.
    pub indent: String,
    /// Letters of equal days, in a row.
    pub stretches: Vec<Stretch>,
    /// A description of them, for screen readers.
    pub words: String,
}

/// Successive days with one letter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stretch {
    /// The letters.
    pub letters: String,
    /// Their class in the style sheet.
    pub class: &'static str,
}

/// A table's calendar: a line per month, and one for a whole year of equal days.
pub fn lines(row: &DayRow) -> Vec<CalendarLine> {
    let mut lines = Vec::new();
    let days: Vec<(NaiveDate, char)> = row.days().collect();
    for year in days.chunk_by(|one, other| one.0.year() == other.0.year()) {
        let Some(&(first, letter)) = year.first() else {
            continue;
        };
        let is_whole = first.ordinal() == 1 && year.len() >= 365;
        if let (true, Some(known)) = (
            is_whole && year.iter().all(|day| day.1 == letter),
            meaning(letter),
        ) {
            lines.push(CalendarLine {
                period: first.format("%Y").to_string(),
                indent: String::new(),
                stretches: vec![Stretch {
                    letters: format!(" all {} days: {} ", year.len(), known.meaning),
                    class: known.class,
                }],
                words: String::new(),
            });
            continue;
        }
        for month in year.chunk_by(|one, other| one.0.month() == other.0.month()) {
            lines.extend(month_line(month));
        }
    }
    lines
}

fn month_line(month: &[(NaiveDate, char)]) -> Option<CalendarLine> {
    let (first, _) = month.first()?;
    let mut words: Vec<String> = Vec::new();
    let mut stretches = Vec::new();
    for stretch in month.chunk_by(|one, other| one.1 == other.1) {
        let ((from, letter), (to, _)) = (stretch.first()?, stretch.last()?);
        let known = meaning(*letter);
        stretches.push(Stretch {
            letters: stretch.iter().map(|day| day.1).collect(),
            class: known.map_or("none", |known| known.class),
        });
        words.extend(known.map(|known| match from == to {
            true => format!("{}: {}", from.day(), known.meaning),
            false => format!("{} to {}: {}", from.day(), to.day(), known.meaning),
        }));
    }
    // A month in which no day is expected.
    if words.is_empty() {
        return None;
    }
    Some(CalendarLine {
        period: first.format("%Y-%m").to_string(),
        indent: " ".repeat(first.day0() as usize),
        stretches,
        words: words.join("; "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn row(first: &str, letters: &str) -> DayRow {
        DayRow {
            first: Some(day(first)),
            letters: letters.into(),
        }
    }

    #[test]
    fn days_stand_in_a_row_with_their_gaps() {
        let days = [
            ("2024-02-28", '#'),
            ("2024-02-29", '.'),
            ("2024-03-03", '!'),
        ];
        let made = DayRow::of(days.map(|(text, letter)| (day(text), letter)));
        assert_eq!(made, row("2024-02-28", "#.  !"));
        let last = made.days().last();
        assert_eq!(
            (last, made.last()),
            (Some((day("2024-03-03"), '!')), Some(day("2024-03-03")))
        );
        assert_eq!(DayRow::of([]), DayRow::default());
        assert!(overview(&[&DayRow::default()]).is_none());
    }

    #[test]
    fn years_months_and_days_are_summed_up() {
        let of = |rows: &[&DayRow]| {
            let overview = overview(rows).unwrap();
            let texts = |row: &Vec<Cell>| {
                let cells = row
                    .iter()
                    .map(|cell| format!("{}/{}", cell.text, cell.class));
                cells.collect::<Vec<_>>().join(" ")
            };
            let rows: Vec<String> = overview.rows.iter().map(texts).collect();
            (overview.level, overview.columns.len(), rows.join(" | "))
        };
        let (one, other) = (row("2024-01-30", "#.!"), row("2024-01-31", "d"));
        assert_eq!(of(&[&other]), (Level::Days, 1, "d/waits".into()));
        let expected = "50%/failed"; // Of the two days of January that are known of `one`.
        let (level, columns, text) = of(&[&row("2024-01-30", "#!#"), &other]);
        assert_eq!((level, columns), (Level::Months, 2));
        assert_eq!(text, format!("{expected} 100%/loaded | 0%/waits /none"));
        let long = row("2023-01-01", &("#".repeat(364) + "?" + &"?".repeat(10)));
        let (level, columns, text) = of(&[&long, &one]);
        assert_eq!((level, columns), (Level::Years, 2));
        assert_eq!(text, "99%/waits 0%/unasked | /none 66%/failed");
        let words = overview(&[&long]).unwrap().rows[0][0].words.clone();
        assert_eq!(
            words,
            "2023: 364 of 365 days in the warehouse; 1 not requested"
        );
    }

    #[test]
    fn a_calendar_folds_years_of_equal_days() {
        let folded = lines(&row(
            "2023-01-01",
            &("#".repeat(365) + "##!" + &"#".repeat(28) + "."),
        ));
        let periods: Vec<&str> = folded.iter().map(|line| line.period.as_str()).collect();
        assert_eq!(periods, ["2023", "2024-01", "2024-02"]);
        assert_eq!(folded[0].stretches[0].letters, " all 365 days: loaded ");
        assert_eq!(
            folded[1].words,
            "1 to 2: loaded; 3: failed; 4 to 31: loaded"
        );
        let late = lines(&row("2024-01-30", "#  +"));
        assert_eq!(
            (late[0].indent.len(), late[0].words.as_str()),
            (29, "30: loaded")
        );
        assert_eq!(
            (late[1].indent.len(), late[1].words.as_str()),
            (0, "2: loaded, late data has come since")
        );
    }
}
