//! An analyst's edits on a copy of `sql/`: errors are reported, and edits that change no row cause no work.

use samsara_etl::catalog::Catalog;
use samsara_etl::transform::{BoundModel, Inputs};

use crate::program::{Program, simulator};
use crate::rerun::copy_families;
use crate::support::runs::state;

const TRIPS: &str = "sql/trips/fleet_trips.sql";

/// A program with two families of the catalog.
fn copy(program: &Program) {
    copy_families(program, &["assets", "trips", "vehicles"]);
}

/// Replaces the first place of a text in a file.
fn edit(program: &Program, path: &str, from: &str, to: &str) {
    let text = std::fs::read_to_string(program.folder().join(path)).unwrap();
    assert!(text.contains(from), "{path} has no {from}");
    program.write(path, text.replacen(from, to, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_edits_are_found_and_shown() {
    let program = Program::new();
    let head = |lines: &'static str| ("---*/", lines);
    let cases: &[&[(&str, &str)]] = &[
        // A forgotten comma, also in a subquery, and before a column that would have an alias.
        &[("distanceMeters, ", "distanceMeters  ")],
        &[(
            "FROM raw.fleet_trips",
            "FROM (SELECT distinct *, 1 one FROM raw.fleet_trips)",
        )],
        &[
            ("startLocation, ", "startLocation  "),
            ("tollMeters, ", "tollMeters  "),
        ],
        &[("driver_id, ", "driver_id  ")],
        &[("endLocation, ", "CAST(tollMeters AS BIGINT) toll, ")],
        // Names.
        &[("distanceMeters, ", "distanceMetres, ")],
        &[("distanceMeters, ", "DistanceMeters, ")],
        &[("startAddress['name']", "startAddress['naem']")],
        &[("endCoordinates['latitude']", "endCoordinates['lat']")],
        &[("codriverIds, ", "codriverIds['id'] AS codriver, ")],
        &[("samsara_time_ms(startMs)", "samsara_time_msec(startMs)")],
        &[("raw.fleet_trips", "raw.fleet_trip")],
        &[("raw.fleet_trips", "fleet_trips")],
        &[(
            "unique_key = [\"vehicle_id\"",
            "unique_key = [\"vehicel_id\"",
        )],
        &[("partition_by = \"startTime\"", "partition_by = \"startMs\"")],
        &[(
            "partition_by = \"startTime\"",
            "partition_by = \"startLocation\"",
        )],
        &[("partition_by = \"startTime\"\n", "")],
        &[(
            "cluster_by = [\"vehicle_id\"]",
            "cluster_by = [\"vehicle\", \"distanceMeters\"]",
        )],
        &[("cluster_by", "clustered_by")],
        &[("[\"vehicle_id\", \"startTime\"]", "\"vehicle_id\"")],
        // Columns.
        &[("-- distance, metres", "")],
        &[("startAddress['id'] AS startAddress_id", "startAddress")],
        &[("AS endAddress_id", "AS StartAddress_ID")],
        &[("AS endAddress_id", "AS \"end address\"")],
        &[("tollMeters, ", "NULL AS toll, ")],
        // Grammar and types.
        &[("SELECT DISTINCT", "SELEC DISTINCT")],
        &[("startMs)", "startMs")],
        &[("-- Samsara's vehicle id", "'")],
        &[("FROM raw.fleet_trips", "FROM raw.fleet_trips;\nSELECT 1")],
        &[("endLocation, ", "sum(tollMeters) AS toll, ")],
        &[(
            "endLocation, ",
            "samsara_time_ms(startMs) + tollMeters AS t, ",
        )],
        &[("---*/", "")],
        // Data tests.
        &[head("[[tests]]\nnot_null = [\"vehicel_id\"]\n---*/")],
        &[head(
            "[[tests]]\nrange = { column = \"startTime\", min = true }\n---*/",
        )],
        &[head(
            "[[tests]]\nsql = \"SELECT * FROM fleet_trips WHERE endtime < startTime\"\n---*/",
        )],
        &[head(
            "[[tests]]\nunique = [\"vehicle_id\"]\nnot_null = [\"vehicle_id\"]\n---*/",
        )],
        &[head(
            "[[tests]]\nnot_null = [\"vehicle_id\"]\nseverity = \"warning\"\n---*/",
        )],
    ];
    let mut told = String::new();
    for edits in cases {
        copy(&program);
        for (from, to) in *edits {
            edit(&program, TRIPS, from, to);
            told.push_str(&format!("{from:?} -> {to:?}\n"));
        }
        let ran = program.run(&["sql", "check"]).await;
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        told.push_str(&format!("exit code {}\n{}\n", ran.code, ran.stderr));
    }
    insta::assert_snapshot!(told);
}

#[tokio::test(flavor = "multi_thread")]
async fn problems_of_all_files_come_at_once() {
    let program = Program::new();
    copy(&program);
    edit(&program, TRIPS, "distanceMeters, ", "distanceMeters  ");
    edit(&program, TRIPS, "tollMeters, ", "tolMeters, ");
    edit(
        &program,
        "sql/vehicles/fleet_vehicles.sql",
        "unique_key = [\"vehicle_id\"]",
        "unique_key = [\"vehicel_id\"]",
    );
    let ran = program.run(&["--sql-dir", "./sql/", "sql", "check"]).await;
    let places: Vec<&str> = ran
        .stderr
        .lines()
        .filter_map(|line| line.trim().strip_prefix("--> "))
        .collect();
    let expected = [
        "./sql/trips/fleet_trips.sql:29",
        "./sql/trips/fleet_trips.sql:30",
        "./sql/vehicles/fleet_vehicles.sql:",
    ];
    assert_eq!(places.len(), expected.len(), "{}", ran.stderr);
    for (place, expected) in places.iter().zip(expected) {
        assert!(place.starts_with(expected), "{}", ran.stderr);
    }
    // A run refuses them too, in one line.
    let ran = program.run(&["plan"]).await;
    assert_eq!(
        (ran.code, ran.stderr.lines().count()),
        (2, 1),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr
            .contains("sql/trips/fleet_trips.sql:29: `fuelConsumedMl` follows"),
        "{}",
        ran.stderr
    );
}

/// Broken files of all kinds at once: each is reported, and none stops the check of the others.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_any_content_are_told() {
    let program = Program::new();
    copy(&program);
    let head = "/*---\ndescription = \"d\"\n---*/\n";
    let cases: &[(&str, Vec<u8>)] = &[
        ("empty", Vec::new()),
        ("mark", b"\xef\xbb\xbf".to_vec()),
        (
            "marked",
            format!("\u{feff}{head}SELECT id frob FROM raw.fleet_vehicles").into_bytes(),
        ),
        ("head", head.into()),
        ("toml", b"/*---\ndescription = [\n---*/".to_vec()),
        (
            "quote",
            format!("{head}SELECT 'id FROM raw.fleet_vehicles").into_bytes(),
        ),
        (
            "comment",
            format!("{head}SELECT id /* FROM raw.fleet_vehicles").into_bytes(),
        ),
        (
            "windows",
            format!("{head}SELECT\tidd, -- ä\n'→' x\nFROM raw.fleet_vehicles")
                .replace('\n', "\r\n")
                .into_bytes(),
        ),
        (
            "wide",
            format!("\u{feff}{head}SELECT '😀' x FROM raw.fleet_vehicles")
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect(),
        ),
        (
            "latin",
            [head.as_bytes(), b"SELECT '\xe4' x FROM raw.fleet_vehicles"].concat(),
        ),
        (
            "deep",
            format!(
                "{head}SELECT {}id FROM raw.fleet_vehicles",
                "(".repeat(10_000)
            )
            .into_bytes(),
        ),
        (
            "long",
            format!(
                "{head}SELECT id{} FROM raw.fleet_vehicles",
                " + id".repeat(200_000)
            )
            .into_bytes(),
        ),
        ("binary", (0..=255).collect()),
        ("nul", b"/*---\0---*/".to_vec()),
    ];
    for (name, text) in cases {
        program.write(&format!("sql/trips/{name}.sql"), text);
    }
    let ran = program.run(&["sql", "check"]).await;
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    for (name, _) in cases {
        let file = format!("sql/trips/{name}.sql:");
        assert!(ran.stderr.contains(&file), "{name}: {}", ran.stderr);
    }
    for told in [
        "marked.sql:4:11",
        "windows.sql:4:8",
        "windows.sql:5:5",
        "latin.sql:4:12",
        "wide.sql:4:12",
        "quote.sql:4:8",
        "comment.sql:4:11",
        &format!(" models passed, {} failed", cases.len()),
    ] {
        assert!(ran.stderr.contains(told), "{told}: {}", ran.stderr);
    }
}

const RUN: &[&str] = &[
    "run",
    "--start_date",
    "01/01/2024",
    "--end_date",
    "03/01/2024",
    "--table",
    "fleet_trips",
];

/// Names of the flattened objects.
fn flattened(program: &Program) -> Vec<String> {
    let files = program.files("samsara-data").into_iter();
    let mut names: Vec<String> = files
        .map(|(path, _, _)| path)
        .filter(|path| path.contains("flattened/fleet_trips/") && path.ends_with(".parquet"))
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn only_changes_of_rows_derive_again() {
    let simulator = simulator(|_| {}).await;
    let program = Program::with_simulator(&simulator);
    copy(&program);
    program.succeed(RUN).await;
    let before = flattened(&program);
    assert!(!before.is_empty());

    // A state as an earlier version of the program left it.
    let catalog = Catalog::open(Some(&program.folder().join("sql"))).unwrap();
    let bound = BoundModel::bind(&catalog, catalog.model("fleet_trips").unwrap())
        .await
        .unwrap();
    let mut known = state(&program, "fleet_trips").unwrap();
    let mut current = Vec::new();
    for found in known.partitions.values_mut() {
        let objects = found.raw.as_ref().unwrap().objects.clone();
        let inputs: Inputs = vec![(bound.inputs[0].clone(), objects)];
        let of = bound.fingerprint(&inputs);
        let found = std::sync::Arc::make_mut(found);
        let made = found.models.get_mut("fleet_trips").unwrap();
        let made = std::sync::Arc::make_mut(made);
        assert_eq!(made.fingerprint, of.current);
        assert_ne!(of.earlier(), of.current);
        made.fingerprint = of.earlier();
        made.load.as_mut().unwrap().fingerprint = of.earlier();
        current.push(of.current);
    }
    program.write(
        "samsara-data/raw/state/fleet_trips.json",
        serde_json::to_vec(&known).unwrap(),
    );
    program.succeed(RUN).await;
    assert_eq!(flattened(&program), before);
    let renewed = state(&program, "fleet_trips").unwrap();
    let renewed: Vec<_> = renewed
        .partitions
        .values()
        .map(|found| {
            let made = found.models.get("fleet_trips").unwrap();
            assert_eq!(made.load.as_ref().unwrap().fingerprint, made.fingerprint);
            made.fingerprint
        })
        .collect();
    assert_eq!(renewed, current);

    edit(
        &program,
        TRIPS,
        "-- distance, metres",
        "-- how far it went, metres",
    );
    edit(
        &program,
        TRIPS,
        "SELECT DISTINCT\n",
        "-- What is read.\nSELECT   DISTINCT\n\n",
    );
    edit(&program, TRIPS, "Trips, one row", "All trips, one row");
    program.succeed(RUN).await;
    assert_eq!(flattened(&program), before);

    edit(
        &program,
        TRIPS,
        "  tollMeters, ",
        "  tollMeters + 1 AS tollMeters, ",
    );
    program.succeed(RUN).await;
    assert_ne!(flattened(&program), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_fail_a_test_are_not_loaded() {
    let simulator = simulator(|_| {}).await;
    let program = Program::with_simulator(&simulator);
    copy(&program);
    let tests = "[[tests]]\nnot_null = [\"vehicle_id\", \"startTime\"]\n\
        [[tests]]\nrange = { column = \"distanceMeters\", min = 0, max = 1 }\nseverity = \"warn\"\n\
        [[tests]]\nsql = '''\nSELECT vehicle_id, startTime FROM fleet_trips\nWHERE distanceMeters >= 0 ORDER BY 1, 2'''\n\
        [[tests]]\naccepted_values = { column = \"vehicle_id\", values = [\"a\", \"b\"] }\n---*/";
    edit(&program, TRIPS, "---*/", tests);
    program.succeed(&["sql", "check"]).await;
    let ran = program.run(RUN).await;
    assert_ne!(ran.code, 0, "{}", ran.stderr);
    for told in [
        "fleet_trips 2024-01-01: test range (distanceMeters): ",
        "fleet_trips 2024-01-02: test sql (SELECT vehicle_id, startTime FROM fleet_trips WHERE distanceMeters >= 0",
        " rows, such as vehicle_id = \"",
        "test accepted_values (vehicle_id): ",
        "The partition was not replaced",
    ] {
        assert!(ran.stderr.contains(told), "{told}\n{}", ran.stderr);
    }
    assert!(!ran.stderr.contains("not_null"), "{}", ran.stderr);
    assert_eq!(flattened(&program), Vec::<String>::new());
    let shown = program.run(&["sql", "preview", "fleet_trips"]).await;
    assert!(
        shown.code == 1
            && shown
                .stderr
                .contains("error: fleet_trips 2024-01-02: test sql")
            && shown
                .stderr
                .contains("warning: fleet_trips 2024-01-02: test range"),
        "{}",
        shown.stderr
    );

    // As warnings, they keep nothing back.
    let text = std::fs::read_to_string(program.folder().join(TRIPS)).unwrap();
    let text = text.replace(
        "ORDER BY 1, 2'''\n",
        "ORDER BY 1, 2'''\nseverity = \"warn\"\n",
    );
    program.write(
        TRIPS,
        text.replace("\"b\"] }\n", "\"b\"] }\nseverity = \"warn\"\n"),
    );
    let ran = program.succeed(RUN).await;
    assert!(
        ran.stderr.contains("test accepted_values"),
        "{}",
        ran.stderr
    );
    assert!(!program.rows("SELECT * FROM fleet_trips").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn diff_tells_rows_columns_and_values() {
    let simulator = simulator(|_| {}).await;
    let program = Program::with_simulator(&simulator);
    copy(&program);
    program.succeed(RUN).await;
    let before = program.files("samsara-data");
    let count = async |condition: &str| {
        let sql =
            format!("SELECT * FROM fleet_trips WHERE startTime < '2024-01-02' AND {condition}");
        program.rows(&sql).await.len()
    };
    let (rows, kept) = (count("true").await, count("driver_id IS NOT NULL").await);
    assert!(0 < kept && kept < rows, "{kept} of {rows}");
    let with = ["--day", "2024-01-01", "--format", "json"];
    let diff = async || -> serde_json::Value {
        let ran = program
            .succeed(&[&["sql", "diff", "fleet_trips"], &with[..]].concat())
            .await;
        let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(document["compared"], 1);
        document["partitions"][0].clone()
    };
    let same = diff().await;
    assert_eq!(
        (&same["rows_before"], &same["rows_after"]),
        (&rows.into(), &rows.into())
    );
    assert_eq!(same["samples"], serde_json::json!([]));
    let text = program
        .succeed(&["sql", "diff", "--day", "2024-01-01"])
        .await;
    assert!(
        text.stderr.contains("0 partitions compared"),
        "{}",
        text.stderr
    );

    for (from, to) in [
        (
            "  distanceMeters, ",
            "  distanceMeters + 1 AS distanceMeters, ",
        ),
        (
            "  fuelConsumedMl, ",
            "  CAST(fuelConsumedMl AS VARCHAR) AS fuelConsumedMl, 7 AS seven, ",
        ),
        ("  startLocation, ", "  startLocation AS start_location, "),
        ("  tollMeters, ", ""),
        (
            "FROM raw.fleet_trips",
            "FROM raw.fleet_trips WHERE nullif(driverId, '0') IS NOT NULL",
        ),
    ] {
        edit(&program, TRIPS, from, to);
    }
    let found = diff().await;
    for (field, expected) in [
        (
            "columns_added",
            serde_json::json!(["start_location", "seven"]),
        ),
        (
            "columns_removed",
            serde_json::json!(["startLocation", "tollMeters"]),
        ),
        (
            "columns_renamed",
            serde_json::json!([{"before": "startLocation", "after": "start_location"}]),
        ),
        (
            "columns_retyped",
            serde_json::json!([{"column": "fuelConsumedMl", "before": "FLOAT64", "after": "STRING"}]),
        ),
        ("key", serde_json::json!(["vehicle_id", "startTime"])),
        ("rows_before", rows.into()),
        ("rows_after", kept.into()),
        ("rows_added", 0.into()),
        ("rows_removed", (rows - kept).into()),
        ("rows_changed", kept.into()),
        (
            "values_changed",
            serde_json::json!({"distanceMeters": kept}),
        ),
        ("refused", serde_json::json!([])),
    ] {
        assert_eq!(found[field], expected, "{field}");
    }
    let samples = found["samples"].as_array().unwrap();
    let changed = samples.iter().find(|it| it["change"] == "changed").unwrap();
    let value = |when: &str| -> f64 {
        let text = changed["values"]["distanceMeters"][when].as_str().unwrap();
        text.parse().unwrap()
    };
    assert_eq!(value("after"), value("before") + 1.0);
    let range = [
        "sql",
        "diff",
        "--start",
        "01/01/2024",
        "--end",
        "03/01/2024",
        "--samples",
        "1",
    ];
    let text = program.succeed(&range).await;
    for told in [
        "fleet_trips 2024-01-01: ",
        "fleet_trips 2024-01-02: ",
        "\n  columns added: start_location, seven\n",
        "\n  same values under another name: startLocation -> start_location\n",
        "\n  type changed: fuelConsumedMl: FLOAT64 -> STRING\n",
        "\n    distanceMeters: ",
    ] {
        assert!(text.stdout.contains(told), "{told}\n{}", text.stdout);
    }
    assert!(
        text.stderr.contains("2 partitions compared, 2 differ"),
        "{}",
        text.stderr
    );
    for (arguments, told) in [
        (
            &["fleet_trips", "--day", "2024-02-01"][..],
            "no rows of fleet_trips are committed",
        ),
        (&["fleet_trip"], "did you mean `fleet_trips`?"),
        (
            &["--start", "2024-01-02", "--end", "2024-01-02"],
            "is not before the end",
        ),
    ] {
        let ran = program.run(&[&["sql", "diff"], arguments].concat()).await;
        assert!(ran.code == 2 && ran.stderr.contains(told), "{}", ran.stderr);
    }
    // One key on two rows, and another key.
    edit(&program, TRIPS, "SELECT DISTINCT", "SELECT");
    edit(
        &program,
        TRIPS,
        "FROM raw.fleet_trips",
        "FROM (SELECT * FROM raw.fleet_trips UNION ALL SELECT * FROM raw.fleet_trips)",
    );
    let ran = program
        .run(&["sql", "diff", "fleet_trips", "--day", "2024-01-01"])
        .await;
    assert!(
        ran.code == 1 && ran.stdout.contains("\n  error: "),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout
            .contains(&format!("{rows} rows before, {} after: ", 2 * kept)),
        "{}",
        ran.stdout
    );
    // What cannot be derived is told, and the rest is compared.
    copy(&program);
    edit(
        &program,
        TRIPS,
        "  tollMeters, ",
        "  1 / (date_part('day', samsara_time_ms(startMs)) - 2) AS toll, ",
    );
    let with = ["--start", "2024-01-01", "--end", "2024-01-03"];
    let of = ["sql", "diff", "fleet_trips", "--format", "json"];
    let ran = program.run(&[&of[..], &with].concat()).await;
    let told: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, &told["compared"]), (1, &1.into()), "{told}");
    assert_eq!(told["failed"][0]["partition"], "2024-01-02");
    let error = told["failed"][0]["error"].as_str().unwrap();
    assert!(error.contains("column `toll`: "), "{error}");
    assert_eq!(program.files("samsara-data"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_fails_names_its_column() {
    let simulator = simulator(|_| {}).await;
    let program = Program::with_simulator(&simulator);
    copy(&program);
    edit(
        &program,
        TRIPS,
        "  tollMeters, ",
        "  CAST(_parent_id || 'x' AS BIGINT) AS toll, CAST(_parent_id AS BIGINT) / 0 AS none, ",
    );
    let ran = program.run(RUN).await;
    assert_ne!(ran.code, 0, "{}", ran.stderr);
    for told in [
        "fleet_trips 2024-01-01: columns `toll`, `none`: ",
        "fleet_trips 2024-01-02: columns `toll`, `none`: ",
    ] {
        assert!(ran.stderr.contains(told), "{told}\n{}", ran.stderr);
    }
    // A condition is not a column.
    copy(&program);
    let to = "FROM raw.fleet_trips WHERE CAST(_parent_id || 'x' AS BIGINT) > 0";
    edit(&program, TRIPS, "FROM raw.fleet_trips", to);
    let ran = program.run(RUN).await;
    let told = "fleet_trips 2024-01-01: Arrow error: Cast error: Cannot cast string ";
    assert!(ran.stderr.contains(told), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_tells_what_is_derived_again_and_why() {
    let simulator = simulator(|_| {}).await;
    let program = Program::with_simulator(&simulator);
    copy(&program);
    program.succeed(RUN).await;
    let plan: Vec<&str> = [&["plan"], &RUN[1..], &["--format", "json"]].concat();
    let planned = async || -> serde_json::Value {
        serde_json::from_str(&program.succeed(&plan).await.stdout).unwrap()
    };
    let told = planned().await;
    assert_eq!(told["derived_again"], serde_json::json!([]));
    assert_eq!(told["left_behind"], serde_json::json!([]));
    edit(&program, TRIPS, "-- distance, metres", "-- metres");
    assert_eq!(planned().await["derived_again"], serde_json::json!([]));
    let before = program.files("samsara-data");

    // Another query.
    edit(
        &program,
        TRIPS,
        "  distanceMeters, ",
        "  distanceMeters + 1 AS distanceMeters, ",
    );
    let told = planned().await["derived_again"][0].clone();
    let rows = program.rows("SELECT * FROM fleet_trips").await.len();
    let expected = serde_json::json!({
        "table": "fleet_trips", "partitions": 2, "rows": rows, "first": "2024-01-01", "last": "2024-01-02",
        "raw_changed": 0, "model_changed": 2, "columns_added": [], "columns_removed": [], "columns_retyped": [],
    });
    assert_eq!(told, expected);
    // Other columns.
    edit(&program, TRIPS, "  tollMeters, ", "  7 AS seven, ");
    edit(
        &program,
        TRIPS,
        "  fuelConsumedMl, ",
        "  CAST(fuelConsumedMl AS VARCHAR) AS fuelConsumedMl, ",
    );
    let text = program
        .succeed(&[&["run", "--dry-run"], &RUN[1..]].concat())
        .await
        .stdout;
    for told in [
        &format!(
            "transform  fleet_trips: 2 days, 2024-01-01 to 2024-01-02 ({rows} rows) derived again, without requests to the API: the model has other columns; added: seven; removed: tollMeters; another type: fuelConsumedMl: FLOAT64 -> STRING; "
        ),
        "run with --full-refresh fleet_trips; `samsara-etl sql diff fleet_trips` shows what changes",
        "warehouse  fleet_trips.tollMeters: no longer in the model; the column stays in the warehouse, NULL",
    ] {
        assert!(text.contains(told), "{told}\n{text}");
    }
    assert_eq!(program.files("samsara-data"), before);

    // The command removes the column.
    copy(&program);
    edit(&program, TRIPS, "  tollMeters, ", "  7 AS seven, ");
    let remove = planned().await["left_behind"][0]["remove"]
        .as_str()
        .unwrap()
        .to_string();
    let has = async |column: &str| {
        let sql = format!("SELECT {column} FROM fleet_trips LIMIT 1");
        program.run(&["query", &sql]).await.code == 0
    };
    program.succeed(RUN).await;
    assert!(has("tollMeters").await);
    let command = remove.split(" (").next().unwrap();
    let shell = |command: &str| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", command]).current_dir(program.folder());
        assert!(shell.status().unwrap().success(), "{command}");
    };
    shell(command);
    program.succeed(RUN).await;
    assert!(has("seven").await && !has("tollMeters").await);
    assert_eq!(program.rows("SELECT * FROM fleet_trips").await.len(), rows);

    // Another name.
    let model = std::fs::read_to_string(program.folder().join(TRIPS)).unwrap();
    std::fs::remove_file(program.folder().join(TRIPS)).unwrap();
    program.write("sql/trips/all_trips.sql", model);
    let mut renamed = plan.clone();
    let at = renamed.iter().position(|it| *it == "fleet_trips").unwrap();
    renamed[at] = "all_trips";
    let told: serde_json::Value =
        serde_json::from_str(&program.succeed(&renamed).await.stdout).unwrap();
    let left = &told["left_behind"][0];
    assert_eq!(
        (&left["table"], &left["rows"], &left["renamed_to"]),
        (&"fleet_trips".into(), &rows.into(), &"all_trips".into())
    );
    assert!(
        left["remove"].as_str().unwrap().starts_with("rm -r "),
        "{left}"
    );
    assert_eq!(told["derived_again"], serde_json::json!([]));

    // The raw rows were read again.
    copy(&program);
    std::fs::remove_file(program.folder().join("sql/trips/all_trips.sql")).unwrap();
    program.succeed(RUN).await;
    let mut known = state(&program, "fleet_trips").unwrap();
    for found in known.partitions.values_mut() {
        let raw = std::sync::Arc::make_mut(found).raw.as_mut().unwrap();
        raw.content = "0".repeat(64);
    }
    program.write(
        "samsara-data/raw/state/fleet_trips.json",
        serde_json::to_vec(&known).unwrap(),
    );
    program
        .succeed(&[RUN, &["--historical", "--stages", "extract"]].concat())
        .await;
    let told = planned().await["derived_again"][0].clone();
    assert_eq!(
        (&told["raw_changed"], &told["model_changed"]),
        (&2.into(), &0.into()),
        "{told}"
    );
}
