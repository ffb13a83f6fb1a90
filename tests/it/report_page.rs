//! The HTML report of real runs, as text and in a real browser.

use std::path::Path;
use std::process::Stdio;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use samsara_simulator::Simulator;

use crate::program::{Program, replay, simulator};
use crate::support::gate::{self, Turn};

const EVIL: &str = "</script><script>alert(1)</script>";

/// The JSON inside a page.
pub fn data(html: &str) -> serde_json::Value {
    let (_, data) = html
        .split_once(r#"<script type="application/json" id="data">"#)
        .unwrap();
    serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap()
}

/// The rows of a table of the page that begin with this name, as text.
fn row(html: &str, section: &str, name: &str) -> String {
    let (_, section) = html.split_once(&format!("<h2 id=\"{section}\"")).unwrap();
    let (section, _) = section.split_once("</section>").unwrap();
    let (_, row) = section
        .split_once(&format!("<th scope=\"row\">{name}</th>"))
        .unwrap();
    let row = row.split_once("</tr>").unwrap().0;
    let mut text = String::new();
    let mut is_tag = false;
    for character in row.chars() {
        match character {
            '<' => is_tag = true,
            '>' => {
                is_tag = false;
                text.push(' ');
            }
            _ if !is_tag => text.push(character),
            _ => {}
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_shows_ledger_and_coverage() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    // Before any run there is nothing to show, and that is said.
    let ran = program.succeed(&["report", "--output", "-"]).await;
    assert!(ran.stdout.contains("There is no log of a run"));
    assert!(!program.folder().join("samsara-data").exists());

    let tables = [
        "--table",
        "fleet_vehicle_stats_engineRpm",
        "--table",
        "fleet_vehicles",
    ];
    let dates = ["--start_date", "2023-12-30", "--end_date", "2024-01-03"];
    program
        .succeed(&[&["run"], &tables[..], &dates].concat())
        .await;
    let ran = program.succeed(&["report"]).await;
    assert!(ran.stderr.contains("samsara-report.html"), "{}", ran.stderr);
    let html = std::fs::read_to_string(program.folder().join("samsara-report.html")).unwrap();
    let data = data(&html);
    let known = data["tables"].as_array().unwrap();
    let of = |name: &str| known.iter().find(|table| table["name"] == name).unwrap();
    let counted = |table: &str| format!("SELECT count(*) AS n FROM {table}");
    for (table, section) in [
        ("fleet_vehicle_stats_engineRpm", "ledger"),
        ("fleet_vehicles", "ledger"),
    ] {
        let rows = program.rows(&counted(table)).await[0]["n"]
            .as_u64()
            .unwrap();
        let raw = program.rows(&counted(&format!("raw.{table}"))).await[0]["n"].clone();
        let found = of(table);
        assert!(rows > 0, "{table}");
        assert_eq!(found["model_rows"], rows, "{table}");
        assert_eq!(found["loaded_rows"], rows, "{table}");
        assert_eq!(found["raw_rows"], raw, "{table}");
        let text = row(&html, section, table);
        assert!(text.contains("✓ agrees"), "{text}");
    }
    let rpm = of("fleet_vehicle_stats_engineRpm");
    assert_eq!(rpm["days"]["first"], "2023-12-30");
    let letters = rpm["days"]["letters"].as_str().unwrap();
    assert_eq!(
        letters
            .get(..4)
            .map(|days| days.matches(['#', '.']).count()),
        Some(4),
        "{letters}"
    );
    // Days after the requested ones are told to be missing.
    assert!(
        letters.ends_with('?') && rpm["missing"].as_u64() > Some(0),
        "{letters}"
    );
    assert!(row(&html, "coverage", "fleet_vehicle_stats_engineRpm").starts_with("100%"));
    assert!(row(&html, "freshness", "fleet_vehicles").contains("loaded"));
    let run = &data["runs"][0];
    assert_eq!(run["outcome"], "done");
    let history = "/fleet/vehicles/stats/history";
    let pages = simulator
        .requests()
        .into_iter()
        .filter(|request| request.path == history);
    assert_eq!(
        run["endpoints"][history]["pages"].as_u64(),
        Some(pages.count() as u64)
    );
    assert!(html.contains("Nothing failed in this run"));
    // Nothing is requested from the network, and every run left such a page next to its log.
    for outside in [r#"="http"#, "src=", "url(", "@import", "<link"] {
        assert!(!html.contains(outside), "{outside}");
    }

    // Only what was requested.
    let only = [
        "report",
        "--output",
        "-",
        "--since",
        "2024-01-01",
        "--table",
        "fleet_vehicles",
    ];
    let only = program.succeed(&only).await.stdout;
    assert!(
        only.contains("fleet_vehicles") && !only.contains("engineRpm<"),
        "{only}"
    );
    for (arguments, complaint) in [
        (["report", "--since", "yesterday"], "--since"),
        (["report", "--table", "fleet_vehicle"], "fleet_vehicles"),
    ] {
        let ran = program.run(&arguments).await;
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains(complaint), "{}", ran.stderr);
    }
}

/// A program whose run had a vehicle, a field and an error message that are scripts.
async fn attacked() -> (Program, Simulator) {
    let program = Program::new();
    let reading = r#"{"time":"2024-01-01T00:00:01Z","value":1}"#;
    let body = format!(
        r#"{{"data":[{{"id":"1","name":"{EVIL}","{EVIL}":1,"engineRpm":[{reading}]}}],"pagination":{{"endCursor":"","hasNextPage":false}}}}"#
    );
    program.write("pages/fleet/vehicles/stats/history/0001.json", body);
    let simulator = replay(&program.folder().join("pages")).await;
    let gate = gate::before(simulator.url(), |request| match request.uri().path() {
        "/fleet/vehicles" => {
            let message = format!(r#"{{"message":"{EVIL}"}}"#);
            Turn::Away((StatusCode::BAD_REQUEST, message).into_response())
        }
        _ => Turn::Through,
    });
    let program = program
        .set("SAMSARA_API_URL", gate.url())
        .set("SAMSARA_API_TOKEN", simulator.token());
    let arguments = [
        "run",
        "--table",
        "fleet_vehicle_stats_engineRpm",
        "--table",
        "fleet_vehicles",
        "--start_date",
        "2024-01-01",
        "--end_date",
        "2024-01-02",
    ];
    let ran = program.run(&arguments).await;
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    (program, simulator)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_in_the_data_stays_text() {
    let (program, _simulator) = attacked().await;
    let html = program.succeed(&["report", "--output", "-"]).await.stdout;
    assert_eq!(html.matches("<script").count(), 2);
    let run = &data(&html)["runs"][0];
    assert_eq!(run["outcome"], "partial");
    let error = run["failures"][0]["error"].as_str().unwrap();
    assert!(error.contains(EVIL), "{error}");
    assert!(run["drift"].to_string().contains("alert(1)"), "{run}");
    assert!(row(&html, "failures", "fleet_vehicles").contains("&lt;script&gt;alert(1)"));
}

/// Whether there is a browser; says that a test is skipped, if not.
pub fn has_chromium(test: &str) -> bool {
    let has_chromium = std::process::Command::new("chromium")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if !has_chromium {
        use std::io::Write;
        // Written past the test harness, which keeps what `eprintln!` says in a test that passes.
        let skipped = format!("skipped: {test} needs `chromium` on the PATH\n");
        std::io::stderr().write_all(skipped.as_bytes()).unwrap();
    }
    has_chromium
}

/// The document after its scripts have run.
pub async fn dom_of(page: &Path, profile: &Path) -> String {
    shown_by(page, profile).await.0
}

/// The document after its scripts have run, and what the browser said; its console's lines hold `CONSOLE`.
pub async fn shown_by(page: &Path, profile: &Path) -> (String, String) {
    let output = tokio::process::Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--enable-logging=stderr",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    (String::from_utf8(output.stdout).unwrap(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_shows_the_report() {
    if !has_chromium("a_browser_shows_the_report") {
        return;
    }
    let (program, _simulator) = attacked().await;
    program.succeed(&["report"]).await;
    let folder = program.folder();
    let page = folder.join("samsara-report.html");
    let profile = folder.join("profile");
    let dom = dom_of(&page, &profile).await;
    // The page's own script ran under its policy: it shows what only works with it, and columns that zoom.
    assert!(!dom.contains(r#"<div id="zoom" hidden"#) && dom.contains(r#"<div id="zoom""#));
    assert!(dom.contains(r#"aria-label="Zoom into 2024""#), "no zoom");
    // What the data brought was not run, nor made an element.
    assert_eq!(dom.matches("<script").count(), 2);

    // Clicks and typing, by a script that the policy would not allow.
    let clicks = r#"<script>
        const click = (label) => document.querySelector(`[aria-label="Zoom into ${label}"]`).click();
        click("2024"); click("2024-01");
        const text = document.getElementById("filter-text");
        text.value = "ENGINERPM"; text.dispatchEvent(new Event("input"));
        </script></body>"#;
    let html = std::fs::read_to_string(&page).unwrap();
    let dom = dom_of(&page, &profile).await;
    assert!(!dom.contains("by day of 2024-01"));
    std::fs::write(&page, html.replace("</body>", clicks)).unwrap();
    let dom = dom_of(&page, &profile).await;
    assert!(
        !dom.contains("Tables by day of 2024-01"),
        "the policy holds"
    );
    let policy = html.find("<meta http-equiv").unwrap();
    let end = policy + html[policy..].find('>').unwrap() + 1;
    let open = html[..policy].to_string() + &html[end..].replace("</body>", clicks);
    std::fs::write(&page, open).unwrap();
    let dom = dom_of(&page, &profile).await;
    assert!(dom.contains("<caption>Tables by day of 2024-01</caption>"));
    assert!(dom.contains("2024-01-01: loaded") && dom.contains("2024-01-02: not requested"));
    let hidden = |name: &str| dom.contains(&format!(r#"data-name="{name} {name}" hidden="""#));
    assert!(hidden("fleet_vehicles") && !hidden("fleet_vehicle_stats_engineRpm"));
}
