//! What is complete and what is missing; periods read again; logs; lists of tables.

use std::collections::BTreeSet;

use crate::program::{Program, simulator};

#[tokio::test(flavor = "multi_thread")]
async fn status_tells_four_kinds_of_day_apart() {
    let simulator =
        simulator(|config| config.missing_scopes = vec!["/v1/fleet/assets/reefers".into()]).await;
    let program = Program::with_simulator(&simulator);
    // The world's clock is at the end of the 9th: the days after it are requested and empty.
    let trips = ["--table", "fleet_trips"];
    let dates = ["--start_date", "08/01/2024", "--end_date", "12/01/2024"];
    program
        .succeed(&[&["run"], &dates[..], &trips].concat())
        .await;
    let reefers = [
        "--table",
        "fleet_assets_reefers",
        "--start_date",
        "01/01/2024",
        "--end_date",
        "03/01/2024",
    ];
    let failed = program.run(&[&["run"], &reefers[..]].concat()).await;
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    assert_eq!(
        failed.stderr.matches("failed: ").count(),
        1,
        "{}",
        failed.stderr
    );
    let asked = ["--start_date", "06/01/2024", "--end_date", "12/01/2024"];
    let status = program
        .succeed(&[&["status", "--calendar"], &asked[..], &trips].concat())
        .await
        .stdout;
    assert!(status.contains("  2024-01      ??##.."), "{status}");
    let missing = program
        .run(&[&["status", "--missing", "--fail-on-missing"], &reefers[..]].concat())
        .await;
    assert_eq!(missing.code, 3);
    let lines: Vec<_> = missing.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{}", missing.stdout);
    assert!(
        lines[0].starts_with("fleet_assets_reefers 2024-01-01 failed: ")
            && lines[0].contains("Read Trailers")
    );
    let complete = [&["status", "--fail-on-missing"], &dates[..], &trips].concat();
    assert_eq!(program.run(&complete).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_list_clears_its_failure() {
    let good = simulator(|_| ()).await;
    let bad = simulator(|config| config.missing_scopes = vec!["/fleet/vehicles".into()]).await;
    let program = Program::with_simulator(&good);
    let (run, status) = (
        ["run", "--table", "fleet_vehicles"],
        ["status", "--calendar", "--table", "fleet_vehicles"],
    );
    program.succeed(&run).await;
    let program = program.set("SAMSARA_API_URL", &bad.url());
    assert_eq!(program.run(&run).await.code, 1);
    assert!(
        program
            .succeed(&status)
            .await
            .stdout
            .contains(" failed at ")
    );
    let program = program.set("SAMSARA_API_URL", &good.url());
    program.succeed(&run).await;
    let status = program.succeed(&status).await.stdout;
    assert!(
        !status.contains(" failed at ") && status.contains("(8 raw rows)"),
        "{status}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_are_filled_before_days_are_read_again() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    let run = |start: &'static str, end: &'static str| {
        vec![
            "run",
            "--table",
            "fleet_vehicle_stats_gps",
            "--max_workers",
            "1",
            "--start_date",
            start,
            "--end_date",
            end,
        ]
    };
    program.succeed(&run("04/01/2024", "06/01/2024")).await;
    simulator.clear_requests();
    program.succeed(&run("02/01/2024", "08/01/2024")).await;
    let mut asked: Vec<String> = Vec::new();
    for request in simulator
        .requests()
        .iter()
        .filter(|request| request.path.ends_with("/history"))
    {
        let day = request.query.split("startTime=").nth(1).unwrap()[..10].to_string();
        if asked.last() != Some(&day) {
            asked.push(day);
        }
    }
    assert_eq!(
        asked,
        ["2024-01-02", "2024-01-03", "2024-01-06", "2024-01-07"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_period_can_be_read_again_exactly() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    let dates = ["--start_date", "02/01/2024", "--end_date", "04/01/2024"];
    let tables = [
        "--table",
        "fleet_vehicle_stats_gps",
        "--table",
        "fleet_safety_events_audit_logs",
    ];
    let run = [&["run"], &dates[..], &tables].concat();
    program.succeed(&run).await;
    let rows = program
        .rows("SELECT count(*) AS n FROM fleet_vehicle_stats_gps")
        .await;
    simulator.clear_requests();
    program
        .succeed(&[&run[..], &["--historical"]].concat())
        .await;
    let paths: BTreeSet<String> = simulator
        .requests()
        .into_iter()
        .map(|request| request.path)
        .collect();
    assert_eq!(
        paths.into_iter().collect::<Vec<_>>(),
        ["/fleet/vehicles/stats/history"]
    );
    assert_eq!(
        rows,
        program
            .rows("SELECT count(*) AS n FROM fleet_vehicle_stats_gps")
            .await
    );
    // Without a period there is nothing to read again.
    assert_eq!(program.run(&["run", "--historical"]).await.code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn lookback_days_count_from_the_end() {
    let program = Program::new();
    let arguments = [
        "plan",
        "--table",
        "fleet_trips",
        "--end_date",
        "10/01/2024",
        "--lookback-days",
        "4",
    ];
    let plan = program.succeed(&arguments).await.stdout;
    assert!(plan.contains("fleet_trips: 4 days"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workbook_names_the_tables() {
    let program = Program::new();
    // Saved by LibreOffice Calc: a heading, three names, a second column with remarks.
    program.write("tables.xlsx", include_bytes!("data/tables.xlsx"));
    let arguments = [
        "--table_file_path",
        "tables.xlsx",
        "--start_date",
        "01/01/2024",
        "--end_date",
        "02/01/2024",
    ];
    let plan = program
        .succeed(&[&["plan"], &arguments[..]].concat())
        .await
        .stdout;
    assert!(
        plan.contains("extract    2 lists")
            && plan.contains("fleet_vehicle_stats_engineRpm: 1 days"),
        "{plan}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_run_ships_its_log() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    program.succeed(&["run", "--table", "fleet_vehicles"]).await;
    let program = program.set("SAMSARA_API_TOKEN", "samsara_api_wrong_token");
    assert_eq!(
        program
            .run(&["run", "--table", "fleet_vehicles"])
            .await
            .code,
        1
    );
    let logs = |folder: &str| {
        let files = task(&program.folder().join(folder)).into_iter();
        files.partition::<Vec<_>, _>(|path| path.extension().is_some_and(|end| end == "jsonl"))
    };
    let (shipped, reports) = logs("samsara-data/raw/logs");
    let (local, local_reports) = logs("logs");
    assert_eq!(
        (shipped.len(), local.len()),
        (2, 2),
        "{shipped:?} {local:?}"
    );
    // The finished run has an HTML report next to its log.
    assert_eq!((reports.len(), local_reports.len()), (1, 1), "{reports:?}");
    let html = std::fs::read_to_string(&reports[0]).unwrap();
    assert!(html.contains("Nothing failed in this run") && html.contains("fleet_vehicles"));
    assert_eq!(html, std::fs::read_to_string(&local_reports[0]).unwrap());
    let log = reports[0].with_extension("jsonl");
    assert!(shipped.contains(&log), "{log:?}");
    let mut messages = String::new();
    for path in shipped {
        assert!(
            path.parent()
                .unwrap()
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .split('_')
                .count()
                == 3,
            "{path:?}"
        );
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            messages.push_str(&line["fields"].to_string());
        }
    }
    assert!(
        messages.contains("run finished") && messages.contains("run failed"),
        "{messages}"
    );
    assert!(
        !messages.contains("wrong_token") && !messages.contains(simulator.token()),
        "{messages}"
    );
}

fn task(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for path in std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        if path.is_dir() {
            files.extend(task(&path))
        } else {
            files.push(path)
        }
    }
    files
}
