//! `report --marts`: its figures against the truth, in BigQuery, in a browser, and where marts are missing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::DateTime;
use samsara_etl::catalog::Catalog;
use samsara_etl::report::marts::{Dashboard, FIRST_DAY, Tile, dashboards};
use samsara_etl::transform::{QueryTable, bind_all};
use serde_json::{Map, Value};

use crate::program::{Program, simulator};
use crate::report_page::{data, has_chromium, shown_by};
use crate::rerun::catalog_files;
use crate::support::bigquery_emulator::shared;
use crate::truth::local_rows;

const EVIL: &str = "</script><script>alert(1)</script>";

fn tiles() -> Vec<Tile> {
    let all = dashboards().unwrap();
    all.into_iter().flat_map(|it: Dashboard| it.tiles).collect()
}

/// What each tile of a page shows, by its name.
fn results(html: &str) -> BTreeMap<String, Value> {
    let data = data(html);
    let dashboards = data["dashboards"].as_array().unwrap();
    let of = |dashboard: &Value| {
        let tiles = dashboard["tiles"].as_array().unwrap().clone();
        let results = dashboard["results"].as_array().unwrap().clone();
        tiles.into_iter().zip(results)
    };
    let all = dashboards.iter().flat_map(of);
    all.map(|(tile, result)| (tile["name"].as_str().unwrap().to_string(), result))
        .collect()
}

/// The rows that each tile of a page shows, by its name.
pub fn shown_rows(html: &str) -> BTreeMap<String, Vec<Map<String, Value>>> {
    let rows = |(name, result): (String, Value)| {
        let rows = serde_json::from_value(result["rows"]["rows"].clone());
        let rows = rows.unwrap_or_else(|_| panic!("{name} shows no rows: {result}"));
        (name, rows)
    };
    results(html).into_iter().map(rows).collect()
}

/// Runs every tile's SQL in BigQuery, over the marts of a local warehouse, and compares.
pub async fn same_in_bigquery(program: &Program, html: &str, marts: &[QueryTable]) {
    let Some(emulators) = shared().await else {
        return;
    };
    let bigquery = &emulators.bigquery;
    bigquery.query("CREATE SCHEMA dashboards").await;
    let catalog = Catalog::open(None).unwrap();
    let mut script = String::from("import json\n");
    for model in catalog.models().filter(|it| it.family == "marts") {
        let contract = &bind_all(&catalog, model).await.unwrap()[0];
        let columns = contract.columns.iter();
        let columns: Vec<String> = columns
            .map(|it| format!("({:?}, {:?})", it.name, it.column_type.bigquery()))
            .collect();
        // The calendar is long, and no tile reads it.
        let rows = match model.name.as_str() {
            "calendar" => Vec::new(),
            name => local_rows(marts, name).await,
        };
        let file = format!("marts/{}.json", model.name);
        program.write(&file, serde_json::to_string(&rows).unwrap());
        let path = program.folder().join(file);
        writeln!(
            script,
            "schema = [bigquery.SchemaField(*field) for field in [{}]]\n\
             table = bigquery.Table('{}.dashboards.{}', schema)\n\
             client.create_table(table)\n\
             rows = json.load(open({path:?}))\n\
             if rows:\n    client.load_table_from_json(rows, table, job_config=bigquery.LoadJobConfig(schema=schema)).result()",
            columns.join(", "),
            bigquery.project(),
            model.name,
        )
        .unwrap();
    }
    bigquery.python(&script).await;
    let data = data(html);
    let since = format!("DATE '{}'", data["since"].as_str().unwrap());
    let shown = shown_rows(html);
    for tile in tiles() {
        let sql = tile.sql.replace("samsara.", "dashboards.");
        let found = bigquery.query(&sql.replace(FIRST_DAY, &since)).await;
        let rows = &shown[&tile.name];
        assert_eq!(found.len(), rows.len(), "{}: {found:?} {rows:?}", tile.name);
        for (found, row) in found.iter().zip(rows) {
            assert_eq!(found.len(), tile.columns.len(), "{}", tile.name);
            for (cell, column) in found.iter().zip(&tile.columns) {
                let shown = &row[&column.name];
                assert!(
                    is_same(cell, shown),
                    "{} {}: {cell} in BigQuery, {shown} here; {found:?} {row:?}",
                    tile.name,
                    column.name
                );
            }
        }
        // As it stands in the documentation; the demo's days are long past.
        bigquery.query(&sql).await;
    }
}

/// Whether BigQuery's text is a value of the page.
fn is_same(cell: &Value, shown: &Value) -> bool {
    let Some(text) = cell.as_str() else {
        return cell.is_null() && shown.is_null();
    };
    match shown {
        // Halves may be rounded either way.
        Value::Number(number) => {
            let (one, other) = (text.parse::<f64>(), number.as_f64());
            one.ok()
                .zip(other)
                .is_some_and(|(one, other)| (one - other).abs() <= 1e-9 * other.abs().max(1.0))
        }
        Value::String(shown) => match DateTime::parse_from_rfc3339(shown) {
            Ok(at) => text.parse::<f64>().is_ok_and(|number| {
                let micros = at.timestamp_micros() as f64;
                [1.0, 1e6]
                    .iter()
                    .any(|unit| (number * unit - micros).abs() < 2.0)
            }),
            Err(_) => text == shown,
        },
        Value::Bool(shown) => text == shown.to_string(),
        _ => false,
    }
}

/// Looks at a page of dashboards in a browser.
pub async fn a_browser_shows(program: &Program) {
    let page = program.folder().join("samsara-marts.html");
    let html = std::fs::read_to_string(&page).unwrap();
    for outside in [r#"="http"#, "src=", "url(", "@import", "<link", "<img"] {
        assert!(!html.contains(outside), "{outside}");
    }
    if !has_chromium("a_browser_shows the dashboards") {
        return;
    }
    let (dom, console) = shown_by(&page, &program.folder().join("profile")).await;
    assert!(!console.contains("CONSOLE"), "{console}");
    let charts = tiles().len() - dom.matches("<h3 id=\"title-").count();
    assert_eq!(charts, 0);
    for part in [
        "<svg viewBox=\"0 0 1000 1000\"",
        "<rect class=\"s1\"",
        "<path class=\"line l1\"",
    ] {
        assert!(dom.contains(part), "{part}");
    }
    assert_eq!(dom.matches("<script").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboards_tell_what_is_missing() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    for (path, text) in catalog_files() {
        if path.starts_with("vehicles/") && !path.contains("/tests/") {
            program.write(&format!("sql/{path}"), text);
        }
    }
    // A mart that somebody changed: tiles miss a column, and one of its values is a script.
    let mart = format!(
        "/*---\ndescription = \"Services.\"\n---*/\n\
         SELECT vehicle_id AS asset_id, '{EVIL}' AS status FROM fleet_vehicles"
    );
    program.write("sql/marts/maintenance_due.sql", mart);
    let ran = program.run(&["report", "--marts"]).await;
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("no mart is in") && ran.stderr.contains("samsara-etl run"),
        "{}",
        ran.stderr
    );
    let run = [
        "run",
        "--table",
        "maintenance_due",
        "--start-date",
        "2024-01-01",
        "--end-date",
        "2024-01-02",
    ];
    program.succeed(&run).await;
    let ran = program
        .run(&["report", "--marts", "--since", "2024-01-01"])
        .await;
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("tile maintenance_due: "),
        "{}",
        ran.stderr
    );
    let html = std::fs::read_to_string(program.folder().join("samsara-marts.html")).unwrap();
    let results = results(&html);
    assert_eq!(results["leaderboard"]["missing"][0], "safety_leaderboard");
    let failed = results["maintenance_due"]["failed"].as_str().unwrap();
    assert!(failed.contains("vehicle_name"), "{failed}");
    let rows = results["maintenance_status"]["rows"]["rows"].as_array();
    assert_eq!(rows.unwrap()[0]["status"], EVIL);
    for told in [
        "<code>samsara-etl run --table dim_vehicles --table vehicle_daily</code>",
        "&lt;script&gt;alert(1)",
    ] {
        assert!(html.contains(told), "{told}");
    }
    assert_eq!(html.matches("<script").count(), 1);

    let both = program
        .run(&["report", "--marts", "--table", "fleet_trips"])
        .await;
    assert_eq!(both.code, 2, "{}", both.stderr);
}
