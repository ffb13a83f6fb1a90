//! The dashboards as one HTML page that needs nothing beside itself.

use chrono::{DateTime, NaiveDate, Utc};
use minijinja::value::ValueKind;
use minijinja::{Environment, context};
use serde::Serialize;
use serde_json::{Map, Value};

use super::chart::{ByDay, bars, by_day};
use super::{Chart, Dashboard, Tile};
use crate::report::shell::{HtmlError, Shell};
use crate::report::words::decimal;

const SHELL: Shell = Shell {
    page: include_str!("page.html"),
    style: concat!(include_str!("../html/page.css"), include_str!("marts.css")),
    script: "",
};

/// Everything that the page shows. The page also holds it as JSON.
#[derive(Debug, Clone, Serialize)]
pub struct MartsPage {
    /// When it was made.
    pub made_at: DateTime<Utc>,
    /// The warehouse: project and dataset, or folder.
    pub target: String,
    /// The first day of the period.
    pub since: NaiveDate,
    /// The newest day of the marts.
    pub newest: Option<NaiveDate>,
    /// The dashboards.
    pub dashboards: Vec<ShownDashboard>,
}

/// A dashboard and what its tiles show.
#[derive(Debug, Clone, Serialize)]
pub struct ShownDashboard {
    /// The dashboard.
    #[serde(flatten)]
    pub dashboard: Dashboard,
    /// What each of its tiles shows.
    pub results: Vec<TileResult>,
}

/// What a tile shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TileResult {
    /// The rows of its query.
    Rows {
        /// By name of the column.
        rows: Vec<Map<String, Value>>,
        /// Whether there are more, which are left out.
        has_more: bool,
    },
    /// Tables that it reads and that are not in the warehouse.
    Missing(Vec<String>),
    /// Why its query failed.
    Failed(String),
}

/// A tile as the template wants it.
#[derive(Debug, Serialize)]
pub struct ShownTile<'a> {
    #[serde(flatten)]
    tile: &'a Tile,
    result: &'a TileResult,
    by_day: Option<ByDay>,
    bars: Vec<f64>,
    /// Columns of numbers.
    numbers: Vec<&'a str>,
}

impl MartsPage {
    /// The page as HTML.
    ///
    /// # Errors
    /// A fault of the template, which the tests would show.
    pub fn render(&self) -> Result<String, HtmlError> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.add_filter("cell", |value: minijinja::Value| cell(&value));
        let dashboards: Vec<_> = self
            .dashboards
            .iter()
            .map(|shown| {
                let tiles = shown.dashboard.tiles.iter().zip(&shown.results);
                let tiles: Vec<_> = tiles.map(|(tile, result)| shown_tile(tile, result)).collect();
                context! { name => shown.dashboard.name, title => shown.dashboard.title, description => shown.dashboard.description, tiles }
            })
            .collect();
        let values = context! {
            page => self,
            made_at => self.made_at.format("%Y-%m-%d %H:%M UTC").to_string(),
            dashboards,
        };
        SHELL.render(environment, values)
    }
}

fn shown_tile<'a>(tile: &'a Tile, result: &'a TileResult) -> ShownTile<'a> {
    let rows = match result {
        TileResult::Rows { rows, .. } => rows.as_slice(),
        _ => &[],
    };
    let is_number = |name: &str| {
        let mut values = rows.iter().filter_map(|row| row.get(name));
        values.any(Value::is_number)
    };
    let columns = tile.columns.iter().map(|column| column.name.as_str());
    ShownTile {
        tile,
        result,
        numbers: columns.filter(|name| is_number(name)).collect(),
        by_day: match tile.chart {
            Chart::Columns => by_day(tile, rows, true),
            Chart::Lines => by_day(tile, rows, false),
            _ => None,
        },
        bars: match tile.chart {
            Chart::Bars => bars(tile, rows),
            _ => Vec::new(),
        },
    }
}

/// A value as people read it.
fn cell(value: &minijinja::Value) -> String {
    match value.kind() {
        ValueKind::None | ValueKind::Undefined => "–".into(),
        ValueKind::Bool if value.is_true() => "yes".into(),
        ValueKind::Bool => "no".into(),
        ValueKind::Number => {
            f64::try_from(value.clone()).map_or_else(|_| value.to_string(), decimal)
        }
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::marts::dashboards;

    const EVIL: &str = "</script><script>alert(1)</script><!-- \"'&";

    #[test]
    fn values_and_messages_stay_text() {
        let shown = dashboards().unwrap().into_iter().map(|dashboard| {
            let result = |(at, tile): (usize, &Tile)| match at % 4 {
                0 => TileResult::Missing(vec![EVIL.into()]),
                1 => TileResult::Failed(EVIL.into()),
                _ => {
                    let columns = tile.columns.iter().enumerate();
                    let row = columns.map(|(at, column)| {
                        let value = match (tile.chart, at) {
                            (Chart::Columns | Chart::Lines, 0) => json!("2024-01-01"),
                            (Chart::Columns | Chart::Lines, _) => json!(1.5),
                            _ => json!(EVIL),
                        };
                        (column.name.clone(), value)
                    });
                    TileResult::Rows {
                        rows: vec![row.collect()],
                        has_more: true,
                    }
                }
            };
            let results = dashboard.tiles.iter().enumerate().map(result).collect();
            ShownDashboard { dashboard, results }
        });
        let page = MartsPage {
            made_at: DateTime::default(),
            target: EVIL.into(),
            since: NaiveDate::default(),
            newest: None,
            dashboards: shown.collect(),
        };
        let html = page.render().unwrap();
        // The one script is the data.
        assert_eq!(html.matches("<script").count(), 1);
        assert_eq!(html.matches("</script").count(), 1);
        assert!(!html.contains("<!-- "), "{html}");
        assert!(html.contains("script-src &#x27;none&#x27;") && html.contains("role=\"img\""));
    }

    #[test]
    fn cells_are_written_as_people_read_them() {
        for (value, text) in [
            (json!(null), "–"),
            (json!(true), "yes"),
            (json!(12345.678), "12,345.68"),
            (json!(-3), "-3"),
            (json!("2024-01-01"), "2024-01-01"),
        ] {
            assert_eq!(cell(&minijinja::Value::from_serialize(value)), text);
        }
    }
}
