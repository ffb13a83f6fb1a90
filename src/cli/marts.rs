//! `report --marts`: the dashboards over the marts, as one HTML page.

use std::collections::BTreeSet;

use chrono::{Days, NaiveDate};
use datafusion::common::DataFusionError;
use serde_json::{Map, Value};

use super::query::{MEMORY, note_waiting, warehouse_tables};
use super::{Context, Exit};
use crate::clock;
use crate::config::{Config, WarehouseConfig};
use crate::error::Error;
use crate::load;
use crate::pipeline::Pipeline;
use crate::redact;
use crate::report::marts::{
    Dashboard, DashboardError, MartsPage, PERIOD_DAYS, ShownDashboard, Tile, TileResult, dashboards,
};
use crate::transform::{QueryTable, TransformError, query};

/// Number of rows that a tile shows.
const MOST_ROWS: usize = 5000;

/// The page over what is in the warehouse, since a day or else over the last days that are there; and how that went.
pub(super) async fn page(
    config: Config,
    context: &Context,
    since: Option<NaiveDate>,
) -> Result<(String, Exit), Error> {
    let dashboards = dashboards().map_err(wrong_program)?;
    let warehouse = config.warehouse.clone();
    let target = redact::one_line(load::target_name(&warehouse));
    let pipeline = Pipeline::looking(config, context.catalog()?)?;
    let names: BTreeSet<&str> = tiles(&dashboards).flat_map(|tile| tile.tables()).collect();
    let all_names = names.iter().copied().collect::<Vec<_>>().join(" ");
    let mut tables = warehouse_tables(&pipeline, &warehouse, &all_names).await?;
    tables.retain(|table| names.contains(table.name.as_str()) && !table.schema.fields().is_empty());
    if let WarehouseConfig::BigQuery { .. } = warehouse {
        // The flattened bucket knows tables by their rows.
        tables.retain(|table| !table.objects.is_empty());
    }
    if tables.is_empty() {
        return Err(Error::Usage(format!(
            "no mart is in {target}: `samsara-etl run` derives all of them from what was extracted, \
             `samsara-etl run --table fleet_daily` one; `samsara-etl demo` makes a warehouse to look at"
        )));
    }
    let newest = newest_day(&tables).await?;
    let today = clock::now().date_naive();
    let since = since.unwrap_or_else(|| {
        let last = newest.unwrap_or(today);
        last.checked_sub_days(Days::new(PERIOD_DAYS - 1))
            .unwrap_or(last)
    });
    let mut page = MartsPage {
        made_at: clock::now(),
        target,
        since,
        newest,
        dashboards: Vec::new(),
    };
    let mut exit = Exit::Success;
    for dashboard in dashboards {
        let mut results = Vec::new();
        for tile in &dashboard.tiles {
            let is_missing = |name: &&&str| tables.iter().all(|table| table.name != **name);
            let read = tile.tables();
            let missing: Vec<String> = read
                .iter()
                .filter(is_missing)
                .map(ToString::to_string)
                .collect();
            results.push(match missing.is_empty() {
                false => TileResult::Missing(missing),
                true => match rows(&tile.local_sql(since), &tables).await {
                    Ok((rows, has_more)) => TileResult::Rows { rows, has_more },
                    Err(error) => {
                        let reason = redact::one_line(&error);
                        super::output::say(format_args!("tile {}: {reason}", tile.name));
                        exit = Exit::Partial;
                        TileResult::Failed(reason)
                    }
                },
            });
        }
        page.dashboards.push(ShownDashboard { dashboard, results });
    }
    note_waiting(&pipeline, &warehouse, &all_names).await?;
    let html = page.render().map_err(|error| Error::System {
        what: "cannot make the dashboards".into(),
        source: std::io::Error::other(error),
    })?;
    Ok((html, exit))
}

fn wrong_program(error: DashboardError) -> Error {
    Error::System {
        what: "cannot read the dashboards of the program".into(),
        source: std::io::Error::other(error),
    }
}

fn tiles(dashboards: &[Dashboard]) -> impl Iterator<Item = &Tile> {
    dashboards.iter().flat_map(|dashboard| &dashboard.tiles)
}

/// The newest day of the marts by day.
async fn newest_day(tables: &[QueryTable]) -> Result<Option<NaiveDate>, TransformError> {
    let is_daily = |table: &&QueryTable| table.schema.field_with_name("day").is_ok();
    // The calendar ends in the future.
    let daily = tables
        .iter()
        .filter(is_daily)
        .filter(|table| table.name != "calendar");
    let each = daily.map(|table| format!("SELECT max(day) AS day FROM \"{}\"", table.name));
    let each = each.collect::<Vec<_>>().join(" UNION ALL ");
    if each.is_empty() {
        return Ok(None);
    }
    let sql = format!("SELECT CAST(max(day) AS VARCHAR) AS day FROM ({each}) AS days");
    let (rows, _) = rows(&sql, tables).await?;
    let day = rows
        .first()
        .and_then(|row| row.get("day")?.as_str()?.get(..10));
    Ok(day.and_then(|day| day.parse().ok()))
}

/// The first rows of a query's result, and whether there are more.
async fn rows(
    sql: &str,
    tables: &[QueryTable],
) -> Result<(Vec<Map<String, Value>>, bool), TransformError> {
    let mut queried = query(sql, tables, MEMORY).await?;
    let mut rows = Vec::new();
    while let Some(batch) = queried.next().await? {
        let room = MOST_ROWS - rows.len();
        let shown = batch.slice(0, batch.num_rows().min(room));
        let engine = |error: DataFusionError| TransformError::Engine(Box::new(error));
        let mut writer = arrow_json::WriterBuilder::new()
            .with_explicit_nulls(true)
            .build::<_, arrow_json::writer::JsonArray>(Vec::new());
        let written = writer.write(&shown).and_then(|()| writer.finish());
        written.map_err(|error| engine(error.into()))?;
        let text = writer.into_inner();
        if !text.is_empty() {
            let read: Result<Vec<Map<String, Value>>, _> = serde_json::from_slice(&text);
            rows.extend(read.map_err(|error| engine(DataFusionError::External(error.into())))?);
        }
        if batch.num_rows() > room {
            return Ok((rows, true));
        }
    }
    Ok((rows, false))
}
