//! The data dictionary: every table and column of the catalog, as one HTML page that needs nothing beside itself, and as
//! Markdown.
//!
//! It is made of the catalog, so that the same models give the same files; and, where that is asked for, of what is there of
//! the tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::NaiveDate;
use minijinja::{AutoEscape, Environment, Value, context};
use serde::Serialize;

use super::html::Table as Ledger;
use super::shell::{HtmlError, Shell};
use super::words::grouped;
use crate::catalog::{Catalog, Model, Source, TestSeverity};
use crate::transform::{
    BoundModel, Contract, Lineage, Origin as ColumnOrigin, TransformError, described, lineage,
};

const SHELL: Shell = Shell {
    page: include_str!("page.html"),
    style: concat!(
        include_str!("../html/page.css"),
        include_str!("dictionary.css")
    ),
    script: include_str!("page.js"),
};
const MARKDOWN: &str = include_str!("page.md");

/// Everything that the dictionary says.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Dictionary {
    /// Version of the program.
    version: String,
    /// Where the catalog was read from.
    origin: String,
    /// Tables by folder of the catalog.
    families: BTreeMap<String, Vec<Table>>,
    /// Sources that no table is made of.
    without_tables: Vec<Origin>,
}

/// A table.
#[derive(Debug, Clone, Serialize)]
struct Table {
    name: String,
    description: String,
    /// The file of the model.
    file: String,
    /// The query, without the front matter.
    sql: String,
    /// How often there are new rows: `list`, `day`, …
    kind: &'static str,
    partition_by: Option<String>,
    cluster_by: Vec<String>,
    unique_key: Vec<String>,
    partition_expiration_days: Option<u32>,
    labels: BTreeMap<String, String>,
    /// The table whose versions these are.
    history_of: Option<String>,
    columns: Vec<Column>,
    /// What is in the warehouse.
    freshness: Option<Freshness>,
    tests: Vec<Test>,
    /// The sources that it reads.
    origins: Vec<Origin>,
    /// The tables that it reads.
    upstream: Vec<String>,
}

/// A column.
#[derive(Debug, Clone, Serialize)]
struct Column {
    name: String,
    /// In BigQuery.
    data_type: &'static str,
    description: Option<String>,
    /// The columns that it is made of.
    comes_from: Vec<ComesFrom>,
    is_key: bool,
    /// Whether it holds a salted digest.
    is_hashed: bool,
    /// Some of its values.
    samples: Vec<String>,
}

/// What is in the warehouse of a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Freshness {
    rows: u64,
    /// The last day that has rows.
    last_day: Option<NaiveDate>,
    /// When its source was last read.
    last_read: Option<String>,
    /// Partitions that were requested and are not there.
    missing: u64,
}

/// A column that another one is made of.
#[derive(Debug, Clone, Serialize)]
struct ComesFrom {
    name: String,
    /// The table of the dictionary that has it; none for raw tables.
    table: Option<String>,
}

impl From<&ColumnOrigin> for ComesFrom {
    fn from(origin: &ColumnOrigin) -> Self {
        Self {
            name: origin.to_string(),
            table: (!origin.is_raw).then(|| origin.table.clone()),
        }
    }
}

/// A data test.
#[derive(Debug, Clone, Serialize)]
struct Test {
    what: String,
    /// Whether rows that fail it are loaded nevertheless.
    warns_only: bool,
}

/// A raw table and its endpoint.
#[derive(Debug, Clone, Serialize)]
struct Origin {
    source: String,
    description: String,
    endpoint: String,
    kind: String,
    scope: Option<String>,
    /// Why it is read on request only.
    on_request: Option<String>,
    /// The list whose rows it is asked for.
    parent: Option<String>,
}

impl Dictionary {
    /// Of a catalog and its models.
    ///
    /// # Errors
    /// [`TransformError`] if a query cannot be planned, which binding would have found.
    pub async fn of(
        catalog: &Catalog,
        models: impl IntoIterator<Item = &Arc<BoundModel>>,
    ) -> Result<Self, TransformError> {
        let mut families: BTreeMap<String, Vec<Table>> = BTreeMap::new();
        for bound in models {
            let lineage = lineage(bound).await?;
            for contract in bound.contracts() {
                let tables = families.entry(bound.model.family.clone()).or_default();
                tables.push(table(catalog, &bound.model, contract, &lineage));
            }
        }
        let is_read = |source: &&Source| catalog.models_of(&source.name).next().is_some();
        let unread = catalog.sources().filter(|source| !is_read(source));
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").into(),
            origin: match catalog.origin.as_str() {
                "embedded" => "the embedded catalog".into(),
                folder => folder.into(),
            },
            families,
            without_tables: unread.map(origin).collect(),
        })
    }

    /// Adds what is in the warehouse, as the state documents know it. Tables of which nothing was read stay without.
    pub fn add_freshness<'a>(&mut self, known: impl IntoIterator<Item = &'a Ledger>) {
        let known = known.into_iter().map(|known| (known.name.as_str(), known));
        let known: BTreeMap<&str, &Ledger> = known.collect();
        for table in self.families.values_mut().flatten() {
            let Some(found) = known.get(table.name.as_str()) else {
                continue;
            };
            if found.never_requested || found.last_read.is_none() {
                continue;
            }
            table.freshness = Some(Freshness {
                rows: found.loaded_rows,
                last_day: found.days.last_with_rows(),
                last_read: found
                    .last_read
                    .map(|at| at.format("%Y-%m-%d %H:%M UTC").to_string()),
                missing: found.missing,
            });
        }
    }

    /// Names of the tables.
    pub fn tables(&self) -> impl Iterator<Item = &str> {
        let tables = self.families.values().flatten();
        tables.map(|table| table.name.as_str())
    }

    /// Adds values of a table, by column.
    pub fn add_samples(&mut self, name: &str, mut samples: BTreeMap<String, Vec<String>>) {
        let tables = self.families.values_mut().flatten();
        for table in tables.filter(|table| table.name == name) {
            for column in &mut table.columns {
                column.samples = samples.remove(&column.name).unwrap_or_default();
            }
        }
    }

    /// The dictionary as HTML.
    ///
    /// # Errors
    /// A fault of the template, which the tests would show.
    pub fn html(&self) -> Result<String, HtmlError> {
        SHELL.render(environment(), self.values())
    }

    /// The dictionary as Markdown.
    ///
    /// # Errors
    /// A fault of the template, which the tests would show.
    pub fn markdown(&self) -> Result<String, HtmlError> {
        let mut environment = environment();
        environment.add_template("page.md", MARKDOWN)?;
        Ok(environment.get_template("page.md")?.render(self.values())?)
    }

    fn values(&self) -> Value {
        let tables = self.families.values().flatten();
        context! {
            dictionary => self,
            tables => tables.clone().count(),
            columns => tables.clone().map(|table| table.columns.len()).sum::<usize>(),
            has_samples => tables.flat_map(|table| &table.columns).any(|column| !column.samples.is_empty()),
        }
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_auto_escape_callback(|name| match name.ends_with(".html") {
        true => AutoEscape::Html,
        false => AutoEscape::None,
    });
    environment.add_filter("grouped", grouped);
    environment.add_filter("cell", |text: String| cell(&text));
    environment
}

/// Text inside a cell of a table in Markdown.
fn cell(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('|', "\\|");
    let text = text.replace('<', "&lt;").replace('`', "\\`");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn table(catalog: &Catalog, model: &Model, contract: &Contract, lineage: &Lineage) -> Table {
    let front_matter = &model.front_matter;
    let is_history = contract.table != model.name;
    let is_key = |name: &String| front_matter.unique_key.contains(name);
    let columns = contract.columns.iter().map(|column| Column {
        name: column.name.clone(),
        data_type: column.column_type.bigquery(),
        description: column.description.clone(),
        comes_from: lineage
            .get(&column.name)
            .map(|origins| origins.iter().map(ComesFrom::from).collect())
            .unwrap_or_default(),
        is_key: is_key(&column.name),
        is_hashed: contract.hashed.contains(&column.name),
        samples: Vec::new(),
    });
    let is_daily = catalog.driving_source(model).is_some_and(Source::is_daily);
    let tests = front_matter.tests.iter().map(|test| Test {
        what: described(test),
        warns_only: test.severity == TestSeverity::Warn,
    });
    Table {
        name: contract.table.clone(),
        description: contract.description.clone(),
        file: model.file.clone(),
        sql: model.sql.trim().to_string(),
        kind: match (is_history, is_daily) {
            (true, _) => "versions of rows",
            (_, true) => "rows by day",
            (_, false) => "current rows",
        },
        partition_by: contract.partition_by.clone(),
        cluster_by: contract.cluster_by.clone(),
        unique_key: front_matter.unique_key.clone(),
        partition_expiration_days: contract.partition_expiration_days,
        labels: contract.labels.clone(),
        history_of: is_history.then(|| model.name.clone()),
        columns: columns.collect(),
        freshness: None,
        tests: match is_history {
            true => Vec::new(),
            false => tests.collect(),
        },
        upstream: model.upstream.clone(),
        origins: model
            .sources
            .iter()
            .filter_map(|name| catalog.source(name))
            .map(origin)
            .collect(),
    }
}

fn origin(source: &Source) -> Origin {
    Origin {
        source: source.name.clone(),
        description: source.description.clone(),
        endpoint: source.endpoint.clone(),
        kind: format!("{:?}", source.kind).to_lowercase(),
        scope: source.scope.clone(),
        on_request: source.on_request.clone(),
        parent: source.parent.as_ref().map(|parent| parent.source.clone()),
    }
}
