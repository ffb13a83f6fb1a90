//! Dates as people write them.

use chrono::{Days, NaiveDate};

/// Where history begins without a start date: the default of the replaced program.
pub const DEFAULT_START: NaiveDate = match NaiveDate::from_ymd_opt(2020, 7, 13) {
    Some(date) => date,
    None => NaiveDate::MIN,
};

/// Days from `start` to the day before `end`; both open to defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dates {
    /// First day; none: where each source stopped.
    pub start: Option<NaiveDate>,
    /// The day after the last; none: today.
    pub end: Option<NaiveDate>,
}

impl Dates {
    /// Days from `start` to before `end`, as given on the command line.
    pub fn parse(start: Option<&str>, end: Option<&str>) -> Result<Self, String> {
        let dates = Self {
            start: start.map(parse_date).transpose()?,
            end: end.map(parse_date).transpose()?,
        };
        match (dates.start, dates.end) {
            (Some(start), Some(end)) if start >= end => Err(format!(
                "the start {start} is not before the end {end} (the end date is exclusive)"
            )),
            _ => Ok(dates),
        }
    }

    /// Whether a day lies in them; without a first day, all days before the end do.
    pub fn contains(&self, day: NaiveDate) -> bool {
        self.start.is_none_or(|start| start <= day) && self.end.is_none_or(|end| day < end)
    }
}

/// Reads `jj/mm/aaaa` or `aaaa-mm-jj`.
pub fn parse_date(text: &str) -> Result<NaiveDate, String> {
    let text = text.trim();
    ["%d/%m/%Y", "%Y-%m-%d"]
        .iter()
        .find_map(|format| NaiveDate::parse_from_str(text, format).ok())
        // A two-digit year would be read as the year 24.
        .filter(|date| *date >= NaiveDate::from_ymd_opt(2000, 1, 1).unwrap_or_default())
        .ok_or_else(|| {
            format!("`{text}` is not a date; write 31/01/2024 (day first) or 2024-01-31")
        })
}

/// The days of `[start, end)`.
pub fn days(start: NaiveDate, end: NaiveDate) -> impl Iterator<Item = NaiveDate> {
    std::iter::successors(Some(start), |day| day.checked_add_days(Days::new(1)))
        .take_while(move |day| *day < end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_date_notations_are_read() {
        let february = NaiveDate::from_ymd_opt(2024, 2, 1).unwrap();
        assert_eq!(parse_date("01/02/2024"), Ok(february));
        assert_eq!(parse_date(" 2024-02-01 "), Ok(february));
        for bad in [
            "",
            "30/02/2024",
            "2024/02/01",
            "01/02/24",
            "01-02-2024",
            "13/13/2024",
            "yesterday",
        ] {
            assert!(parse_date(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_end_is_exclusive_and_after_the_start() {
        let dates = Dates::parse(Some("30/01/2024"), Some("02/02/2024")).unwrap();
        let days: Vec<_> = days(dates.start.unwrap(), dates.end.unwrap())
            .map(|day| day.to_string())
            .collect();
        assert_eq!(days, ["2024-01-30", "2024-01-31", "2024-02-01"]);
        assert!(Dates::parse(Some("02/01/2024"), Some("02/01/2024")).is_err());
    }
}
