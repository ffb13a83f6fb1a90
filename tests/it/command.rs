//! What users see when something is wrong: one clear line, and an exit code.

use crate::program::{Program, Ran, replay, simulator};

fn assert_one_line(ran: &Ran, code: i32, parts: &[&str]) {
    let errors: Vec<_> = ran
        .stderr
        .lines()
        .filter(|line| line.starts_with("error:"))
        .collect();
    assert_eq!((ran.code, errors.len()), (code, 1), "{}", ran.stderr);
    for part in parts {
        assert!(errors[0].contains(part), "{} lacks {part}", errors[0]);
    }
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_input_is_refused_first() {
    let program = Program::new().set("SAMSARA_API_TOKEN", "samsara_api_secret");
    program.write("tables.pdf", "");
    program.write("broken.xlsx", "no workbook");
    let cases: &[(&[&str], &[&str])] = &[
        (
            &["run", "--start_date", "31/02/2024"],
            &["`31/02/2024` is not a date", "31/01/2024"],
        ),
        (
            &[
                "run",
                "--start_date",
                "02/01/2024",
                "--end_date",
                "01/01/2024",
            ],
            &["is not before the end"],
        ),
        (
            &["run", "--table", "fleet_vehicels"],
            &["`fleet_vehicels`", "did you mean `fleet_vehicles`?"],
        ),
        (&["run", "--table_file_path", "none.csv"], &["none.csv"]),
        (
            &["run", "--table_file_path", "tables.pdf"],
            &["tables.pdf", ".xlsx"],
        ),
        (
            &["run", "--table_file_path", "broken.xlsx"],
            &["broken.xlsx"],
        ),
        (&["run", "--stages", "upload"], &["unknown stage `upload`"]),
        (&["run", "--sql-dir", "nowhere"], &["nowhere"]),
        (
            &[
                "run",
                "--table",
                "fleet_trips",
                "--accept-shrunken",
                "addresses",
            ],
            &["not one of the tables"],
        ),
        (&["plan", "--table", "qqq"], &["unknown table: `qqq`"]),
        (
            &["run", "--max-workers", "0"],
            &["--max-workers", "a number from 1 to 256"],
        ),
        (
            &["run", "--max_workers", "257"],
            &["--max-workers", "a number from 1 to 256"],
        ),
        (&["plan", "--lookback-days", "0"], &["--lookback-days"]),
    ];
    for (arguments, parts) in cases {
        let ran = program.run(arguments).await;
        assert_one_line(&ran, 2, parts);
        assert!(!ran.stderr.contains("samsara_api_secret"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_token_is_named_with_its_remedy() {
    let ran = Program::new()
        .run(&["run", "--table", "fleet_vehicles"])
        .await;
    assert_one_line(&ran, 2, &["SAMSARA_API_TOKEN"]);
    // The list of a parent may be accepted, though it is not one of the tables.
    let trips = [
        "run",
        "--table",
        "fleet_trips",
        "--accept-shrunken",
        "fleet_vehicles",
    ];
    assert_one_line(&Program::new().run(&trips).await, 2, &["SAMSARA_API_TOKEN"]);
    assert!(ran.stderr.contains("hint: "), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_ends_the_run() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator).set("SAMSARA_API_TOKEN", "samsara_api_wrong");
    let ran = program
        .run(&[
            "run",
            "--start_date",
            "01/01/2024",
            "--end_date",
            "03/01/2024",
        ])
        .await;
    assert_one_line(&ran, 1, &["token was rejected", "401"]);
    assert!(
        ran.stderr.contains("SAMSARA_REGION") && !ran.stderr.contains("samsara_api_wrong"),
        "{}",
        ran.stderr
    );
    // At most one refusal and one request to /me per worker: nothing is retried.
    assert!(
        simulator.requests().len() <= 20,
        "{} requests",
        simulator.requests().len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_scope_ends_that_source_only() {
    let simulator = simulator(|config| config.missing_scopes = vec!["/tags".into()]).await;
    let program = Program::with_simulator(&simulator);
    let ran = program
        .run(&["run", "--table", "fleet_tags", "--table", "fleet_vehicles"])
        .await;
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    let failed: Vec<_> = ran
        .stderr
        .lines()
        .filter(|line| line.starts_with("failed:"))
        .collect();
    assert_eq!(failed.len(), 1, "{}", ran.stderr);
    assert!(
        failed[0].contains("fleet_tags")
            && failed[0].contains("\"Read Tags\"")
            && failed[0].contains("403")
    );
    assert_eq!(program.rows("SELECT * FROM fleet_vehicles").await.len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_and_dry_run_do_nothing() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    let dates = ["--start_date", "01/01/2024", "--end_date", "03/01/2024"];
    let plan = program
        .succeed(&[&["plan"][..], &dates].concat())
        .await
        .stdout;
    assert!(plan.contains("fleet_trips: 2 days in 1 tasks"), "{plan}");
    let dry = program
        .succeed(&[&["run", "--dry-run"][..], &dates].concat())
        .await
        .stdout;
    assert_eq!(plan, dry);
    assert_eq!(simulator.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_catalog_is_refused_by_line() {
    let program = Program::new();
    program.write(
        "sql/f/sources.toml",
        "[a]\nkind = \"snapshot\"\nendpont = \"/a\"\n",
    );
    for command in [&["run"][..], &["plan"], &["tables"]] {
        assert_one_line(
            &program.run(command).await,
            2,
            &[
                "sql/f/sources.toml:3",
                "`endpont`",
                "did you mean `endpoint`?",
            ],
        );
    }
    // `sql check` underlines it.
    let checked = program.run(&["sql", "check"]).await;
    assert_eq!(checked.code, 2, "{}", checked.stderr);
    for told in [
        "sql/f/sources.toml:3:1",
        "`endpont`",
        "3 | endpont = \"/a\"",
    ] {
        assert!(checked.stderr.contains(told), "{}", checked.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_pages_are_replayed() {
    let program = Program::new();
    program.write(
        "pages/fleet/vehicles/0001.json",
        r#"{"data":[{"id":"1","name":"A"}],"pagination":{"endCursor":"x","hasNextPage":true}}"#,
    );
    program.write(
        "pages/fleet/vehicles/0002.json",
        r#"{"data":[{"id":"2"}],"pagination":{"endCursor":"","hasNextPage":false}}"#,
    );
    let simulator = replay(&program.folder().join("pages")).await;
    let program = program
        .set("SAMSARA_API_URL", &simulator.url())
        .set("SAMSARA_API_TOKEN", simulator.token());
    program.succeed(&["run", "--table", "fleet_vehicles"]).await;
    let rows = program
        .rows("SELECT vehicle_id, parc_id FROM fleet_vehicles ORDER BY vehicle_id")
        .await;
    assert_eq!(
        serde_json::to_string(&rows).unwrap(),
        r#"[{"parc_id":"A","vehicle_id":"1"},{"vehicle_id":"2"}]"#
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_cursor_commits_nothing() {
    let program = Program::new();
    program.write(
        "pages/fleet/vehicles/0001.json",
        r#"{"data":[{"id":"1"}],"pagination":{"endCursor":"","hasNextPage":true}}"#,
    );
    let simulator = replay(&program.folder().join("pages")).await;
    let program = program
        .set("SAMSARA_API_URL", &simulator.url())
        .set("SAMSARA_API_TOKEN", simulator.token());
    let ran = program.run(&["run", "--table", "fleet_vehicles"]).await;
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("page 1 of /fleet/vehicles")
            && ran.stderr.contains("endCursor is missing"),
        "{}",
        ran.stderr
    );
    assert_eq!(
        program.rows("SELECT * FROM raw.fleet_vehicles").await.len(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_name_the_table_that_was_meant() {
    let program = Program::new();
    let ran = program
        .run(&["query", "SELECT * FROM raw.fleet_vehicels"])
        .await;
    assert_one_line(
        &ran,
        1,
        &["fleet_vehicels", "did you mean `fleet_vehicles`?"],
    );
    assert_one_line(
        &program.run(&["query", "DROP TABLE x"]).await,
        1,
        &["not supported"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_of_two_thousand_terms_is_checked() {
    let program = Program::new();
    let root =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/vehicle_stats/sources.toml");
    program.write(
        "sql/vehicle_stats/sources.toml",
        std::fs::read(root).unwrap(),
    );
    let terms = vec!["id"; 2000].join(" || ");
    let front =
        "/*---\ndescription = \"Long.\"\npartition_by = \"at\"\nunique_key = [\"at\"]\n---*/";
    let from = "FROM raw.fleet_vehicle_stats_gps";
    program.write(
        "sql/vehicle_stats/long.sql",
        format!("{front}\nSELECT _extracted_at AS at,\n  {terms} AS n\n{from}\n"),
    );
    let ran = program.run(&["sql", "check"]).await;
    assert!(
        ran.code == 0 && ran.stderr.contains("1 models passed"),
        "{}\n{}\n{}",
        ran.code,
        ran.stdout,
        ran.stderr
    );
}
