//! Edits of an analyst on a copy of `sql/`: what is wrong is told, and what changes no row touches nothing.

use samsara_etl::catalog::Catalog;
use samsara_etl::transform::{BoundModel, Inputs};

use crate::program::{Program, simulator};
use crate::rerun::catalog_files;
use crate::support::runs::state;

const TRIPS: &str = "sql/trips/fleet_trips.sql";

/// A program with two families of the catalog.
fn copy(program: &Program) {
    for (path, text) in catalog_files() {
        if ["assets/", "trips/", "vehicles/"]
            .iter()
            .any(|family| path.starts_with(family))
        {
            program.write(&format!("sql/{path}"), text);
        }
    }
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
        // A forgotten comma, also in a query inside, and before a column that would have an alias.
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

/// Files that no editor should leave, all at once: each is told, and none stops the check of the others.
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
    let renewed: Vec<&str> = renewed
        .partitions
        .values()
        .map(|found| {
            let made = &found.models["fleet_trips"];
            assert_eq!(made.load.as_ref().unwrap().fingerprint, made.fingerprint);
            made.fingerprint.as_str()
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
