//! Numbers as people read them.

use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1234.5` as `1,234.5`, with two decimals at most; three of what is below one.
pub fn decimal(number: f64) -> String {
    let digits = if number.abs() < 1.0 { 3 } else { 2 };
    let text = format!("{:.digits$}", number.abs());
    let text = match text.split_once('.') {
        Some((whole, rest)) => match (whole.parse().map(grouped), rest.trim_end_matches('0')) {
            (Ok(whole), "") => whole,
            (Ok(whole), rest) => format!("{whole}.{rest}"),
            // Too large to be grouped, or not a number.
            (Err(_), _) => return number.to_string(),
        },
        None => return number.to_string(),
    };
    match number < 0.0 && text != "0" {
        true => format!("-{text}"),
        false => text,
    }
}

/// `1 day`, `2 days`.
pub fn counted(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", grouped(number))
}

/// Bytes in the largest unit that leaves a number above one: `12.3 MB`.
pub fn size(bytes: u64) -> String {
    let units = ["kB", "MB", "GB", "TB"];
    let mut value = bytes as f64 / 1e3;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1e3;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

/// A duration in its two largest units: `3.2s`, `4m 05s`, `2h 10m`, `3d 04h`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.1}s", duration.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// The text in lines of at most `width` columns, broken at spaces, and within words only where one alone is too long;
/// lines after the first are indented.
pub fn wrapped(text: &str, width: usize, indent: usize) -> String {
    let (indent, mut lines, mut line) = (" ".repeat(indent), String::new(), String::new());
    let columns = |text: &str| text.chars().count();
    let mut is_empty = true;
    for word in text.split(' ') {
        let mut word = word;
        if !is_empty && columns(&line) + 1 + columns(word) <= width {
            line.push(' ');
            line += word;
            continue;
        }
        if !is_empty {
            lines += &line;
            lines.push('\n');
            line.clone_from(&indent);
        }
        loop {
            let room = width.saturating_sub(columns(&line)).max(1);
            let Some((end, _)) = word.char_indices().nth(room) else {
                break;
            };
            lines = lines + &line + &word[..end] + "\n";
            line.clone_from(&indent);
            word = &word[end..];
        }
        line += word;
        is_empty = false;
    }
    lines + &line
}

/// Rows in aligned columns, `numbers` to the right, in at most `width` columns if one is given.
pub fn aligned(
    header: &[&str],
    rows: Vec<Vec<String>>,
    numbers: &[usize],
    width: Option<usize>,
) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(header);
    table.add_rows(rows);
    if let Some(width) = width.and_then(|width| u16::try_from(width).ok()) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(width);
    }
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if at + 1 == header.len() { 0 } else { 2 }));
        if numbers.contains(&at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines = table.lines().map(|line| line.trim_end().to_string() + "\n");
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_read_them() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
        for (number, text) in [
            (0.0, "0"),
            (-0.0001, "0"),
            (0.125, "0.125"),
            (12.5, "12.5"),
            (-1234.567, "-1,234.57"),
            (999.999, "1,000"),
            (1e30, "1000000000000000000000000000000"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(decimal(number), text);
        }
        assert_eq!(
            (counted(1, "day"), counted(2000, "day")),
            ("1 day".into(), "2,000 days".into())
        );
        for (bytes, text) in [
            (0, "0.0 kB"),
            (999_000, "999.0 kB"),
            (1_000_000, "1.0 MB"),
            (3_200_000_000, "3.2 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        for (millis, text) in [
            (0, "0.0s"),
            (9_940, "9.9s"),
            (59_999, "59s"),
            (245_000, "4m 05s"),
            (7_800_000, "2h 10m"),
            (273_600_000, "3d 04h"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn long_text_is_folded_at_its_spaces_only() {
        assert_eq!(wrapped("aa bb cc dd", 8, 2), "aa bb cc\n  dd");
        assert_eq!(
            wrapped("a verylongword b", 8, 2),
            "a\n  verylo\n  ngword\n  b"
        );
        assert_eq!(wrapped("verylongword", 8, 2), "verylong\n  word");
        assert_eq!(wrapped("", 8, 2), "");
    }
}
