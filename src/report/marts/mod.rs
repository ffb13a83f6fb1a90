//! Dashboards over the marts: tiles, each with its SQL.
//!
//! A tile is one file of `tiles/`, in GoogleSQL, to be pasted into BigQuery or a dashboard. It is written so that the
//! engine of the local warehouse understands it too, but for two things that [`Tile::local_sql`] puts in: the dataset
//! and the first day. So a tile shows the same figures in both places.

mod chart;
mod page;

use std::collections::BTreeSet;

use chrono::NaiveDate;
use include_dir::{Dir, include_dir};
use minijinja::{Environment, context};
use serde::{Deserialize, Serialize};

pub use self::page::{MartsPage, ShownDashboard, ShownTile, TileResult};
pub use super::shell::HtmlError;

static FILES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/src/report/marts/tiles");

/// The dashboards, in their order.
const DASHBOARDS: [&str; 3] = [
    "utilisation_and_fuel",
    "safety_and_drivers",
    "hours_and_maintenance",
];
/// Stands for the dataset in the SQL of tiles.
pub const DATASET: &str = "samsara";
/// The first day of the period in the SQL of tiles, which partitions are pruned by.
pub const FIRST_DAY: &str = "DATE_SUB(CURRENT_DATE(), INTERVAL 90 DAY)";
/// Length of the period, in days.
pub const PERIOD_DAYS: u64 = 90;

/// A dashboard.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Dashboard {
    /// Name of its folder, and of its file in `docs/dashboards/`.
    pub name: String,
    /// Heading.
    pub title: String,
    /// What it is for.
    pub description: String,
    /// What it shows, in order.
    pub tiles: Vec<Tile>,
}

/// One figure, chart or table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tile {
    /// Name of its file.
    pub name: String,
    /// Heading.
    pub title: String,
    /// The question that it answers.
    pub question: String,
    /// How it is drawn.
    pub chart: Chart,
    /// Columns of its result, in order.
    pub columns: Vec<TileColumn>,
    /// GoogleSQL over the tables of the dataset [`DATASET`], from [`FIRST_DAY`] on.
    pub sql: String,
}

/// How a tile is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chart {
    /// One row: each column is a figure.
    Figures,
    /// The first column is the day; the others are stacked.
    Columns,
    /// The first column is the day; each other one is a line.
    Lines,
    /// The first column is a name, the second one its bar; others are told.
    Bars,
    /// Rows as they are.
    Table,
}

/// A column of a tile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<String>")]
pub struct TileColumn {
    /// Name in the SQL.
    pub name: String,
    /// Name for people.
    pub heading: String,
    /// Unit of its values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

impl From<Vec<String>> for TileColumn {
    fn from(words: Vec<String>) -> Self {
        let mut words = words.into_iter();
        Self {
            name: words.next().unwrap_or_default(),
            heading: words.next().unwrap_or_default(),
            unit: words.next(),
        }
    }
}

/// A file of a dashboard that is not as it should be, which the tests would show.
#[derive(Debug, thiserror::Error)]
#[error("dashboard file {file}: {reason}")]
pub struct DashboardError {
    file: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DashboardFile {
    title: String,
    description: String,
    tiles: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TileHead {
    title: String,
    question: String,
    chart: Chart,
    columns: Vec<TileColumn>,
}

/// The dashboards of the program.
///
/// # Errors
/// [`DashboardError`] if one of their files is wrong.
pub fn dashboards() -> Result<Vec<Dashboard>, DashboardError> {
    DASHBOARDS.iter().map(|name| dashboard(name)).collect()
}

fn dashboard(name: &str) -> Result<Dashboard, DashboardError> {
    let path = format!("{name}/dashboard.toml");
    let file: DashboardFile = parsed(&path, text(&path)?)?;
    let tiles = file.tiles.iter().map(|tile| {
        let path = format!("{name}/{tile}.sql");
        let text = text(&path)?;
        let parts = text
            .strip_prefix("/*---\n")
            .and_then(|rest| rest.split_once("\n---*/\n"));
        let (head, sql) = parts.ok_or_else(|| DashboardError {
            file: path.clone(),
            reason: "it has no TOML between /*--- and ---*/".into(),
        })?;
        let head: TileHead = parsed(&path, head)?;
        Ok(Tile {
            name: tile.clone(),
            title: head.title,
            question: head.question,
            chart: head.chart,
            columns: head.columns,
            sql: sql.trim().to_string(),
        })
    });
    Ok(Dashboard {
        tiles: tiles.collect::<Result<_, _>>()?,
        name: name.into(),
        title: file.title,
        description: file.description,
    })
}

fn text(path: &str) -> Result<&'static str, DashboardError> {
    let file = FILES.get_file(path).and_then(|file| file.contents_utf8());
    file.ok_or_else(|| DashboardError {
        file: path.into(),
        reason: "there is no such file".into(),
    })
}

fn parsed<'a, T: Deserialize<'a>>(path: &str, text: &'a str) -> Result<T, DashboardError> {
    toml::from_str(text).map_err(|error| DashboardError {
        file: path.into(),
        reason: error.to_string(),
    })
}

impl Tile {
    /// The tables that it reads.
    pub fn tables(&self) -> BTreeSet<&str> {
        let mut tables = BTreeSet::new();
        for (at, prefix) in self.sql.match_indices(&format!("{DATASET}.")) {
            let rest = &self.sql[at + prefix.len()..];
            let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
            tables.insert(&rest[..end.unwrap_or(rest.len())]);
        }
        tables
    }

    /// The same for the local warehouse, over the days since `first`.
    pub fn local_sql(&self, first: NaiveDate) -> String {
        let day = format!("DATE '{}'", first.format("%Y-%m-%d"));
        self.sql
            .replace(&format!("{DATASET}."), "")
            .replace(FIRST_DAY, &day)
    }
}

impl Dashboard {
    /// Its page in `docs/dashboards/`.
    ///
    /// # Errors
    /// A fault of the template, which the tests would show.
    pub fn markdown(&self) -> Result<String, HtmlError> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_keep_trailing_newline(true);
        environment.add_template("dashboard.md", include_str!("dashboard.md"))?;
        let values = context! { dashboard => self, dataset => DATASET, days => PERIOD_DAYS };
        Ok(environment.get_template("dashboard.md")?.render(values)?)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::ast::Statement;
    use datafusion::sql::sqlparser::dialect::BigQueryDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;
    use crate::catalog::Catalog;

    #[test]
    fn every_tile_is_googlesql_over_marts() {
        let catalog = Catalog::open(None).unwrap();
        let marts: BTreeSet<&str> = catalog
            .models()
            .filter(|model| model.family == "marts")
            .map(|model| model.name.as_str())
            .collect();
        let mut names = BTreeSet::new();
        for dashboard in dashboards().unwrap() {
            let folder = FILES.get_dir(&dashboard.name).unwrap();
            // Each file is shown, and `dashboard.toml` is the other one.
            assert_eq!(folder.files().count(), dashboard.tiles.len() + 1);
            for tile in dashboard.tiles {
                let parsed = Parser::parse_sql(&BigQueryDialect {}, &tile.sql);
                let statements = parsed.unwrap_or_else(|error| panic!("{}: {error}", tile.name));
                assert!(matches!(statements[..], [Statement::Query(_)]));
                let tables = tile.tables();
                assert!(!tables.is_empty() && tables.is_subset(&marts), "{tables:?}");
                let local = tile.local_sql("2024-01-01".parse().unwrap());
                assert!(!local.contains(DATASET) && !local.contains("CURRENT_DATE"));
                let least = match tile.chart {
                    Chart::Figures | Chart::Table => 1,
                    _ => 2,
                };
                assert!(tile.columns.len() >= least, "{}", tile.name);
                let is_told = |column: &TileColumn| !column.heading.is_empty();
                assert!(tile.columns.iter().all(is_told), "{}", tile.name);
                assert!(
                    names.insert(tile.name.clone()),
                    "{} is there twice",
                    tile.name
                );
            }
        }
    }

    #[test]
    fn docs_have_the_dashboards() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/dashboards");
        let mut stale = Vec::new();
        for dashboard in dashboards().unwrap() {
            let path = format!("{folder}/{}.md", dashboard.name);
            let text = dashboard.markdown().unwrap();
            if std::fs::read_to_string(&path).ok().as_ref() != Some(&text) {
                std::fs::create_dir_all(folder).unwrap();
                std::fs::write(&path, text).unwrap();
                stale.push(path);
            }
            let readme = std::fs::read_to_string(format!("{folder}/README.md")).unwrap();
            let link = format!("[{}]({}.md)", dashboard.title, dashboard.name);
            assert!(readme.contains(&link), "docs/dashboards/README.md: {link}");
        }
        assert!(
            stale.is_empty(),
            "stale and updated, commit them: {stale:?}"
        );
    }
}
