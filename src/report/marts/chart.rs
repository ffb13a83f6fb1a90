//! Where the parts of a chart stand. Coordinates are thousandths of the width and height, so that the page can stretch
//! the drawing while text keeps its size.

use chrono::NaiveDate;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Tile, TileColumn};
use crate::report::words::decimal;

/// Width and height of a drawing.
const SIZE: f64 = 1000.0;
/// Part of a day's width that its column takes.
const COLUMN: f64 = 0.72;
/// With more days than this, a line has no dots.
const MOST_DOTS: usize = 62;

/// A chart by day.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct ByDay {
    /// Labels of the vertical axis, from the top.
    pub scale: Vec<String>,
    /// The first and the last day.
    pub days: Vec<NaiveDate>,
    pub columns: Vec<ColumnPart>,
    pub lines: Vec<Line>,
}

/// A part of a day's column.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct ColumnPart {
    /// Number of its series, from 1.
    pub series: usize,
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
    /// What it stands for, in words.
    pub words: String,
}

/// A line of a series.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Line {
    /// Number of its series, from 1.
    pub series: usize,
    /// The path, broken where a day has no value.
    pub path: String,
    pub dots: Vec<Dot>,
}

/// A value of a line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Dot {
    pub x: f64,
    pub y: f64,
    pub words: String,
}

/// The day of a row, and its values.
type Point<'a> = (NaiveDate, Vec<(usize, &'a TileColumn, Option<f64>)>);

fn points<'a>(tile: &'a Tile, rows: &[Map<String, Value>]) -> Vec<Point<'a>> {
    let Some((day, series)) = tile.columns.split_first() else {
        return Vec::new();
    };
    let point = |row: &Map<String, Value>| {
        let day = row.get(&day.name)?.as_str()?.parse().ok()?;
        let values = series.iter().enumerate().map(|(at, column)| {
            let value = row.get(&column.name).and_then(Value::as_f64);
            (at + 1, column, value)
        });
        Some((day, values.collect()))
    };
    let mut points: Vec<Point<'_>> = rows.iter().filter_map(point).collect();
    points.sort_by_key(|(day, _)| *day);
    points
}

/// The tile's rows drawn by day, stacked or as lines; none if no row has a day.
pub(super) fn by_day(tile: &Tile, rows: &[Map<String, Value>], stacked: bool) -> Option<ByDay> {
    let points = points(tile, rows);
    let (first, last) = (points.first()?.0, points.last()?.0);
    let days = (last - first).num_days() as f64 + 1.0;
    let slot = SIZE / days;
    let height_of = |values: &[(usize, &TileColumn, Option<f64>)]| {
        let values = values.iter().filter_map(|(_, _, value)| *value);
        let values = values.map(|value| value.max(0.0));
        match stacked {
            true => values.sum(),
            false => values.fold(0.0, f64::max),
        }
    };
    let most = points.iter().map(|(_, values)| height_of(values));
    let top = round_up(most.fold(0.0, f64::max));
    let mut drawn = ByDay {
        scale: vec![decimal(top), decimal(top / 2.0), "0".into()],
        days: vec![first, last],
        ..ByDay::default()
    };
    // A value below zero stands on the axis; its words tell it.
    let share = |value: f64| tidy((value / top).clamp(0.0, 1.0) * SIZE);
    let words = |day: &NaiveDate, column: &TileColumn, value: f64| {
        let unit = column.unit.as_deref().unwrap_or_default();
        format!("{day}: {} {} {unit}", column.heading, decimal(value))
            .trim_end()
            .to_string()
    };
    let left = |day: &NaiveDate| (*day - first).num_days() as f64 * slot;
    if stacked {
        for (day, values) in &points {
            let mut below = 0.0;
            for (series, column, value) in values {
                let Some(value) = value else { continue };
                let height = share(*value);
                below += height;
                drawn.columns.push(ColumnPart {
                    series: *series,
                    x: tidy(left(day) + slot * (1.0 - COLUMN) / 2.0),
                    y: tidy(SIZE - below),
                    width: tidy(slot * COLUMN),
                    height,
                    words: words(day, column, *value),
                });
            }
        }
        return Some(drawn);
    }
    for at in 0..tile.columns.len() - 1 {
        let mut line = Line {
            series: at + 1,
            path: String::new(),
            dots: Vec::new(),
        };
        let mut before: Option<NaiveDate> = None;
        for (day, values) in &points {
            let (_, column, Some(value)) = values[at] else {
                continue;
            };
            let (x, y) = (tidy(left(day) + slot / 2.0), tidy(SIZE - share(value)));
            let is_next = before.is_some() && before == day.pred_opt();
            let step = if is_next { 'L' } else { 'M' };
            line.path += &format!("{step}{x} {y}");
            before = Some(*day);
            let words = words(day, column, value);
            line.dots.push(Dot { x, y, words });
        }
        // A single day between gaps would not be seen without its dot.
        let is_broken = line.path.matches('M').count() > 1;
        if line.dots.len() > MOST_DOTS && !is_broken {
            line.dots.clear();
        }
        drawn.lines.push(line);
    }
    Some(drawn)
}

/// Each row's bar, in thousandths of the longest.
pub(super) fn bars(tile: &Tile, rows: &[Map<String, Value>]) -> Vec<f64> {
    let Some(column) = tile.columns.get(1) else {
        return Vec::new();
    };
    let value = |row: &Map<String, Value>| {
        let value = row.get(&column.name).and_then(Value::as_f64);
        value.unwrap_or_default().max(0.0)
    };
    let longest = rows.iter().map(value).fold(0.0, f64::max);
    let share = |row| match longest > 0.0 {
        true => tidy(value(row) / longest * SIZE),
        false => 0.0,
    };
    rows.iter().map(share).collect()
}

/// The next number that is easy to halve on an axis.
fn round_up(value: f64) -> f64 {
    if !value.is_finite() || value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 4.0, 5.0, 6.0, 8.0];
    let fits = steps.into_iter().find(|step| value <= step * power);
    fits.unwrap_or(10.0) * power
}

/// Without digits that nobody sees.
fn tidy(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::marts::Chart;

    fn tile(columns: &[&str]) -> Tile {
        let column = |name: &&str| TileColumn {
            name: (*name).into(),
            heading: (*name).into(),
            unit: Some("h".into()),
        };
        Tile {
            name: "t".into(),
            title: "T".into(),
            question: "?".into(),
            chart: Chart::Lines,
            columns: columns.iter().map(column).collect(),
            sql: String::new(),
        }
    }

    fn rows(value: Value) -> Vec<Map<String, Value>> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn columns_are_stacked_to_scale() {
        let tile = tile(&["day", "a", "b"]);
        let rows = rows(json!([
            {"day": "2024-01-01", "a": 3, "b": 4.5},
            {"day": "2024-01-03", "a": null, "b": 2},
        ]));
        let drawn = by_day(&tile, &rows, true).unwrap();
        assert_eq!(drawn.scale, ["8", "4", "0"]);
        let parts: Vec<_> = drawn
            .columns
            .iter()
            .map(|it| (it.series, it.y, it.height))
            .collect();
        assert_eq!(
            parts,
            [(1, 625.0, 375.0), (2, 62.5, 562.5), (2, 750.0, 250.0)]
        );
        // The day between has its place, though it has no row.
        let lefts: Vec<_> = drawn.columns.iter().map(|it| it.x).collect();
        assert_eq!(lefts, [46.7, 46.7, 713.3]);
        assert_eq!(drawn.columns[1].words, "2024-01-01: b 4.5 h");
    }

    #[test]
    fn lines_break_where_a_day_is_missing() {
        let tile = tile(&["day", "a"]);
        let rows = rows(json!([
            {"day": "2024-01-01", "a": 0}, {"day": "2024-01-02", "a": 5},
            {"day": "2024-01-03", "a": null}, {"day": "2024-01-04", "a": 10},
        ]));
        let drawn = by_day(&tile, &rows, false).unwrap();
        assert_eq!(drawn.lines[0].path, "M125 1000L375 500M875 0");
        assert_eq!(drawn.lines[0].dots.len(), 3);
        assert_eq!(drawn.scale, ["10", "5", "0"]);
        assert!(by_day(&tile, &[], false).is_none());
    }

    #[test]
    fn scales_and_bars_hold_every_value() {
        for (value, top) in [
            (0.0, 1.0),
            (f64::NAN, 1.0),
            (0.031, 0.04),
            (1.0, 1.0),
            (7.0, 8.0),
            (83.0, 100.0),
            (1234.0, 2000.0),
        ] {
            let found = round_up(value);
            assert!((found - top).abs() < 1e-9, "{value}: {found}");
        }
        let tile = tile(&["name", "a"]);
        let rows =
            rows(json!([{"name": "x", "a": 4}, {"name": "y", "a": -1}, {"name": null, "a": 1}]));
        assert_eq!(bars(&tile, &rows), [1000.0, 0.0, 250.0]);
    }
}
