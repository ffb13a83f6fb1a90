//! The days that a partition of a model reads, if these are more than its own.

use std::fmt;

use chrono::{Datelike, Days, Months, NaiveDate};
use serde::Deserialize;

/// `window` in the front matter of a model by day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Window {
    /// A partition is a day, and reads this many days: its own and those before it.
    Days(u16),
    /// A partition is a week from Monday to Sunday, and is named by its Monday.
    Week,
    /// A partition is a month, and is named by its first day.
    Month,
}

/// The longest window in days.
const MOST_DAYS: u16 = 366;

impl Window {
    /// Whether its partitions are longer than a day.
    pub fn is_calendar(self) -> bool {
        !matches!(self, Self::Days(_))
    }

    /// The name of a partition's period: `day`, `week` or `month`.
    pub fn period(self) -> &'static str {
        match self {
            Self::Days(_) => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// The day that names the partition containing the rows of a day: the day itself, or the first of its week or
    /// month.
    pub fn home(self, day: NaiveDate) -> NaiveDate {
        match self {
            Self::Days(_) => day,
            Self::Week => day.week(chrono::Weekday::Mon).first_day(),
            Self::Month => day.with_day(1).unwrap_or(day),
        }
    }

    /// The days that a partition reads, from the first to the last.
    pub fn days(self, home: NaiveDate) -> Vec<NaiveDate> {
        let before = |days: u16| home.checked_sub_days(Days::new(days.into()));
        let (first, end) = match self {
            Self::Days(days) => (before(days.saturating_sub(1)), home.succ_opt()),
            Self::Week => (Some(home), home.checked_add_days(Days::new(7))),
            Self::Month => (Some(home), home.checked_add_months(Months::new(1))),
        };
        let first = first.unwrap_or(home);
        let end = end.unwrap_or(NaiveDate::MAX);
        first.iter_days().take_while(|day| *day < end).collect()
    }
}

impl TryFrom<String> for Window {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let days = || {
            let number = text.strip_suffix(" days")?;
            let is_plain = number.bytes().all(|it| it.is_ascii_digit());
            let days: u16 = number.parse().ok().filter(|_| is_plain)?;
            (2..=MOST_DAYS).contains(&days).then_some(days)
        };
        match text.as_str() {
            "week" => Ok(Self::Week),
            "month" => Ok(Self::Month),
            _ => days().map(Self::Days).ok_or_else(|| {
                format!(
                    "window is `{text}`, not \"week\", \"month\" or a number of days from \"2 days\" to \"{MOST_DAYS} days\""
                )
            }),
        }
    }
}

/// As it is written.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Days(days) => write!(f, "{days} days"),
            _ => f.write_str(self.period()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_have_their_days() {
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        for (text, of, home, first, last, count) in [
            (
                "7 days",
                "2024-03-03",
                "2024-03-03",
                "2024-02-26",
                "2024-03-03",
                7,
            ),
            (
                "2 days",
                "2024-01-01",
                "2024-01-01",
                "2023-12-31",
                "2024-01-01",
                2,
            ),
            (
                "week",
                "2024-03-03",
                "2024-02-26",
                "2024-02-26",
                "2024-03-03",
                7,
            ),
            (
                "week",
                "2024-02-26",
                "2024-02-26",
                "2024-02-26",
                "2024-03-03",
                7,
            ),
            (
                "month",
                "2024-02-29",
                "2024-02-01",
                "2024-02-01",
                "2024-02-29",
                29,
            ),
            (
                "month",
                "2023-12-31",
                "2023-12-01",
                "2023-12-01",
                "2023-12-31",
                31,
            ),
        ] {
            let window = Window::try_from(text.to_string()).unwrap();
            assert_eq!(window.to_string(), text);
            assert_eq!(window.home(day(of)), day(home), "{text} {of}");
            let days = window.days(day(home));
            let found = (days.first().copied(), days.last().copied(), days.len());
            assert_eq!(
                found,
                (Some(day(first)), Some(day(last)), count),
                "{text} {of}"
            );
        }
        for wrong in [
            "", "days", "1 days", "0 days", "367 days", "+7 days", "7 day", "7", "quarter", "Week",
        ] {
            let error = Window::try_from(wrong.to_string()).unwrap_err();
            assert!(error.contains(&format!("`{wrong}`")), "{error}");
        }
    }
}
