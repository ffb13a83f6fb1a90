//! Positions of the protocol, which count UTF-16 code units from 0, and bytes of a text.

use std::ops::Range as Bytes;

use lsp_types::{Position, Range};

use crate::catalog::Place;

/// The byte of a position. One beyond the end of its line is the end of the line, one beyond the text its end.
pub(super) fn offset(text: &str, position: Position) -> usize {
    let mut begin = 0;
    for _ in 0..position.line {
        match text[begin..].find('\n') {
            Some(at) => begin += at + 1,
            None => return text.len(),
        }
    }
    let line = text[begin..].split('\n').next().unwrap_or_default();
    let line = line.strip_suffix('\r').unwrap_or(line);
    let mut units = 0;
    for (at, c) in line.char_indices() {
        // Also inside a character of two units: its begin.
        if units + c.len_utf16() > position.character as usize {
            return begin + at;
        }
        units += c.len_utf16();
    }
    begin + line.len()
}

/// The position of a byte. One inside a character is its begin.
pub(super) fn position(text: &str, offset: usize) -> Position {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let begin = before.rfind('\n').map_or(0, |at| at + 1);
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Position {
        line: number(before.matches('\n').count()),
        character: number(before[begin..].encode_utf16().count()),
    }
}

/// The positions of some bytes.
pub(super) fn range(text: &str, bytes: Bytes<usize>) -> Range {
    Range {
        start: position(text, bytes.start),
        end: position(text, bytes.end),
    }
}

/// The positions of a place.
pub(super) fn range_of_place(text: &str, place: Place) -> Range {
    range(text, place.bytes(text))
}

/// The text after a change: of the given range, or else of the whole text.
pub(super) fn changed(text: &str, range: Option<Range>, new: &str) -> String {
    let Some(range) = range else {
        return new.to_string();
    };
    let start = offset(text, range.start);
    let end = offset(text, range.end).max(start);
    [&text[..start], new, &text[end..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(line: u32, character: u32) -> Position {
        Position { line, character }
    }

    #[test]
    fn positions_count_utf16_units() {
        let text = "-- Größe 🚚 x\r\nSELECT 'ü', 🚚\n";
        for (word, line, character) in [
            ("Größe", 0, 3),
            ("🚚 x", 0, 9),
            ("x", 0, 12),
            ("SELECT", 1, 0),
            (", 🚚", 1, 10),
        ] {
            let byte = text.find(word).unwrap();
            assert_eq!(position(text, byte), at(line, character), "{word}");
            assert_eq!(offset(text, at(line, character)), byte, "{word}");
        }
        // Inside a pair of units, and beyond lines (before their line break) and the text.
        assert_eq!(offset(text, at(0, 10)), text.find('🚚').unwrap());
        assert_eq!(offset(text, at(0, 99)), text.find('\r').unwrap());
        assert_eq!(offset(text, at(2, 0)), text.len());
        assert_eq!(offset(text, at(9, 9)), text.len());
        assert_eq!(position("🚚", 2), at(0, 0));
        let place = Place {
            line: 1,
            column: 10,
            length: 1,
        };
        let truck = range_of_place(text, place);
        assert_eq!((truck.start, truck.end), (at(0, 9), at(0, 11)));
        let new = changed(text, Some(truck), "bus");
        assert_eq!(new, "-- Größe bus x\r\nSELECT 'ü', 🚚\n");
        assert_eq!(changed(text, None, "x"), "x");
        // One that ends before it begins replaces nothing.
        let reversed = Range::new(at(1, 0), at(0, 0));
        assert_eq!(changed("a\nb", Some(reversed), "x"), "a\nxb");
    }

    proptest! {
        #[test]
        fn bytes_and_positions_are_inverse(text in "([a-zß🚚'\n]|\r\n){0,20}", line in 0u32..9, character in 0u32..9) {
            for (byte, c) in text.char_indices() {
                // A position between CR and LF is that of the line's end.
                if c != '\n' {
                    prop_assert_eq!(offset(&text, position(&text, byte)), byte);
                }
            }
            prop_assert!(text.is_char_boundary(offset(&text, at(line, character))));
        }
    }
}
