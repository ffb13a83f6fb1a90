//! Which numbers a column stores exactly, decided by their text: a comparison by way of a double would lose what it
//! must find.

use std::io::Write as _;

/// No double has more significant digits than this when it is written out in full.
const MOST_DIGITS: usize = 767;

/// A parsed JSON number: `0.d₁d₂d₃… · 10^point`, without zeros at either end of the digits.
struct Decimal<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    /// How many digits count.
    digits: usize,
    point: i64,
}

impl<'a> Decimal<'a> {
    /// Parses what the scanner has found to be a number.
    fn of(text: &'a [u8]) -> Self {
        let (negative, text) = match text.split_first() {
            Some((b'-', rest)) => (true, rest),
            _ => (false, text),
        };
        let (text, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
            Some(at) => (&text[..at], exponent(&text[at + 1..])),
            None => (text, 0),
        };
        let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
            Some(at) => (&text[..at], &text[at + 1..]),
            None => (text, &[][..]),
        };
        let point = exponent.saturating_add(whole.len() as i64);
        let mut decimal = Self {
            negative,
            whole,
            fraction,
            digits: 0,
            point,
        };
        decimal.trim();
        decimal
    }

    fn trim(&mut self) {
        let leading = |digits: &[u8]| digits.iter().take_while(|digit| **digit == b'0').count();
        let trailing = |digits: &[u8]| {
            digits
                .iter()
                .rev()
                .take_while(|digit| **digit == b'0')
                .count()
        };
        let before = leading(self.whole);
        (self.whole, self.point) = (
            &self.whole[before..],
            self.point.saturating_sub(before as i64),
        );
        if self.whole.is_empty() {
            let before = leading(self.fraction);
            (self.fraction, self.point) = (
                &self.fraction[before..],
                self.point.saturating_sub(before as i64),
            );
        }
        self.fraction = &self.fraction[..self.fraction.len() - trailing(self.fraction)];
        if self.fraction.is_empty() {
            self.whole = &self.whole[..self.whole.len() - trailing(self.whole)];
        }
        self.digits = self.whole.len() + self.fraction.len();
    }

    fn significant(&self) -> impl Iterator<Item = u8> {
        self.whole.iter().chain(self.fraction).copied()
    }

    /// The number, if it is an integer that fits into 64 bits.
    fn integer(&self) -> Option<i64> {
        if self.digits == 0 {
            return Some(0);
        }
        let zeros = usize::try_from(self.point)
            .ok()
            .filter(|point| *point <= 19)?
            .checked_sub(self.digits)?;
        let magnitude = self
            .significant()
            .fold(0, |sum: i128, digit| sum * 10 + i128::from(digit - b'0'));
        let magnitude = magnitude * 10_i128.pow(u32::try_from(zeros).ok()?);
        i64::try_from(if self.negative { -magnitude } else { magnitude }).ok()
    }
}

/// The digits after `e`; beyond the range of all numbers, the value does not matter.
fn exponent(text: &[u8]) -> i64 {
    let (sign, digits) = match text.split_first() {
        Some((b'-', rest)) => (-1, rest),
        Some((b'+', rest)) => (1, rest),
        _ => (1, text),
    };
    let sum = |sum: i64, digit: &u8| {
        sum.saturating_mul(10)
            .saturating_add(i64::from(digit - b'0'))
    };
    // A sixteenth, so that adding lengths of texts does not overflow.
    sign * digits.iter().fold(0, sum).min(i64::MAX / 16)
}

/// How a number goes into a column of 64-bit integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Integer {
    /// Its text is read as the same number.
    AsSent,
    /// An integer whose text the reader would take for a double: `9007199254740993.0`, `1e18`.
    Whole(i64),
    /// A fraction, or beyond 64 bits.
    No,
}

/// Whether a JSON number is an integer of 64 bits, however it is written: `1.0` and `1e3` are.
pub(super) fn integer(text: &[u8]) -> Integer {
    if !text.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        let fits = text.len() <= 18
            || std::str::from_utf8(text).is_ok_and(|text| text.parse::<i64>().is_ok());
        return if fits { Integer::AsSent } else { Integer::No };
    }
    match Decimal::of(text).integer() {
        // Doubles hold these.
        Some(value) if text.len() <= 20 && value.unsigned_abs() <= 1 << 53 => Integer::AsSent,
        Some(value) => Integer::Whole(value),
        None => Integer::No,
    }
}

/// The 64-bit integer that a JSON number is.
pub(crate) fn whole(text: &[u8]) -> Option<i64> {
    match integer(text) {
        Integer::No => None,
        Integer::Whole(value) => Some(value),
        Integer::AsSent => match std::str::from_utf8(text).ok()?.parse() {
            Ok(value) => Some(value),
            Err(_) => Decimal::of(text).integer(),
        },
    }
}

/// Whether a double can store a JSON number.
///
/// Digits after the point are rounded to the nearest double, as the type does. No digit before the point may be lost:
/// not `9007199254740993` (2⁵³ + 1), however it is written, nor `4503599627370497.25`, whose fraction a double cannot
/// hold. Nor may a number become infinite or zero, as `1e400` and `1e-400` would.
pub(super) fn is_double(text: &[u8]) -> bool {
    let ends_whole = |byte: &u8| matches!(byte, b'.' | b'e' | b'E');
    let whole = text.iter().position(ends_whole).unwrap_or(text.len());
    // All that an endpoint sends day by day.
    if whole <= 15
        && text.len() <= 300
        && !text[whole..].iter().any(|byte| matches!(byte, b'e' | b'E'))
    {
        return true;
    }
    let decimal = Decimal::of(text);
    if decimal.digits == 0 {
        return true;
    }
    let Ok(value) = std::str::from_utf8(text).unwrap_or_default().parse::<f64>() else {
        return false;
    };
    if !value.is_finite() || value == 0.0 {
        return false;
    }
    if decimal.point <= 15 && value.is_normal() {
        return true;
    }
    gives_back(value.abs(), &decimal)
}

/// Whether a double, printed with the fewest distinguishing digits or with as many as were sent, gives the text that
/// was sent.
fn gives_back(value: f64, decimal: &Decimal<'_>) -> bool {
    if decimal.digits > MOST_DIGITS {
        return false;
    }
    let digits = decimal.digits - 1;
    let is_same = |printed: &mut dyn FnMut(&mut &mut [u8]) -> std::io::Result<()>| {
        let mut buffer = [0; MOST_DIGITS + 16];
        let mut rest = &mut buffer[..];
        if printed(&mut rest).is_err() {
            return false;
        }
        let length = MOST_DIGITS + 16 - rest.len();
        let again = Decimal::of(&buffer[..length]);
        again.digits == decimal.digits
            && again.point == decimal.point
            && again.significant().eq(decimal.significant())
    };
    is_same(&mut |rest| write!(rest, "{value:e}"))
        || is_same(&mut |rest| write!(rest, "{value:.digits$e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_numbers_are_whole_in_any_spelling() {
        let long = format!("1{}e-{}", "0".repeat(5000), 5000);
        let cases = [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("-0.0", Some(0)),
            ("0e999999999999999999999999", Some(0)),
            ("0.000e-9999999999999999999", Some(0)),
            ("1.0", Some(1)),
            ("1e2", Some(100)),
            ("1E+2", Some(100)),
            ("-1.50e1", Some(-15)),
            ("100e-2", Some(1)),
            ("0.001e3", Some(1)),
            (&long, Some(1)),
            ("9007199254740993.0", Some(9_007_199_254_740_993)),
            ("9.007199254740993e15", Some(9_007_199_254_740_993)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775807.0", Some(i64::MAX)),
            ("9.223372036854775807E18", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("-9223372036854775808.00", Some(i64::MIN)),
            ("1e18", Some(1_000_000_000_000_000_000)),
            ("9223372036854775808", None),
            ("9223372036854775808.0", None),
            ("-9223372036854775809.0", None),
            ("9.3e18", None),
            ("1e19", None),
            ("99e18", None),
            ("1e400", None),
            ("1e9223372036854775807", None),
            ("1e-9223372036854775808", None),
            ("1.5", None),
            ("0.5", None),
            ("1e-1", None),
            ("15e-1", None),
            ("1e-400", None),
            ("1.00000000000000000001", None),
            ("4503599627370497.25", None),
            ("9007199254740992.5", None),
            ("0.00000000000000000000000000001", None),
        ];
        for (text, expected) in cases {
            let found = match integer(text.as_bytes()) {
                // What the reader then makes of it: an integer, or else a double.
                Integer::AsSent => Some(
                    text.parse()
                        .unwrap_or_else(|_| text.parse::<f64>().unwrap() as i64),
                ),
                Integer::Whole(value) => Some(value),
                Integer::No => None,
            };
            assert_eq!(found, expected, "{text}");
            assert_eq!(whole(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_double_holds_what_it_gives_back() {
        let printed = format!("{:.60}", 0.1);
        let exact = format!("{:.1074}", f64::from_bits(1));
        let long = format!("1.{}1", "0".repeat(800));
        let exact = [
            "0",
            "-0",
            "-0.0",
            "0.0000000000000000000000000000",
            "0e400",
            "-0e-400",
            "0.1",
            "1.10",
            "5e0",
            "1E2",
            "1e23",
            "1e-7",
            "0.30000000000000004",
            "0.1000000000000000055511151231257827",
            &printed,
            "-87.629797912345678",
            "123456789012345",
            "1234567890.12345",
            "9007199254740992",
            "9007199254740992.0",
            "9007199254740994",
            "9.007199254740994e15",
            "2251799813685249.5",
            "4503599627370495.5",
            "1.7976931348623157e308",
            "1.7976931348623157e+308",
            "1e308",
            "5e-324",
            "4.9406564584124654e-324",
            "2.2250738585072014e-308",
            "1e-323",
            &exact,
            "0.10000000000000000000",
            "100000000000000000000",
            "100000000000000000000000",
            "123456789012345680000",
            "1.00000000000000000001",
            "0.1234567890123456789",
            "999999999999999.23456789",
            "0.99999999999999999999",
            "1e-300",
            "2179139703190279.3",
            &long,
        ];
        for text in exact {
            assert!(is_double(text.as_bytes()), "{text}");
        }
        let below = format!("0.{}1", "0".repeat(900));
        for text in [
            "9007199254740993",
            "9007199254740993.0",
            "9007199254740993e0",
            "9.007199254740993e15",
            "90071992547409930e-1",
            "9007199254740992.5",
            "-9007199254740993",
            "4503599627370497.25",
            "4503599627370497.5",
            "4503599627370497.75",
            "2251799813685249.9",
            "1e400",
            "-1E400",
            "1e309",
            "1.8e308",
            "1e-400",
            "3e-324",
            "1e-9999999999999999999999",
            "1e9999999999999999999999",
            "18446744073709551615",
            "123456789012345678901234",
            &below,
        ] {
            assert!(!is_double(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn whatever_is_printed_from_a_double_is_held_by_one() {
        // Bit patterns across the whole range, in a fixed order.
        let mut bits = 1_u64;
        for _ in 0..20_000 {
            bits = bits
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let value = f64::from_bits(bits ^ bits >> 29);
            if !value.is_finite() {
                continue;
            }
            for text in [
                format!("{value}"),
                format!("{value:e}"),
                format!("{value:.16e}"),
                format!("{value:.20e}"),
            ] {
                assert!(is_double(text.as_bytes()), "{text}");
            }
            let whole = format!("{}", value as i64);
            assert_eq!(integer(whole.as_bytes()), Integer::AsSent, "{whole}");
        }
    }
}
