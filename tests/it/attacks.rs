//! Malicious content where this program reads and writes: it ends in one clear line, and no foreign file is touched.

use std::path::{Path, PathBuf};

use crate::program::{Program, Ran, simulator};

const TABLE: &str = "fleet_vehicle_stats_engineRpm";
const LIST: &str = "fleet_vehicles";
const RUN: &[&str] = &[
    "run",
    "--start_date",
    "01/01/2024",
    "--end_date",
    "03/01/2024",
    "--table",
    TABLE,
    "--table",
    LIST,
];

/// A program whose two tables are loaded.
async fn loaded() -> (samsara_simulator::Simulator, Program) {
    let simulator = simulator(|config| config.vehicles = 3).await;
    let program = Program::with_simulator(&simulator);
    program.succeed(RUN).await;
    (simulator, program)
}

/// A command fails with this code and in so many words, without a panic.
fn refused(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, code, "{}\n{}", ran.stdout, ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    for word in words {
        assert!(ran.stderr.contains(word), "{} lacks {word}", ran.stderr);
    }
}

/// The first Parquet file below a folder.
fn parquet(program: &Program, below: &str) -> PathBuf {
    let files = program
        .files(below)
        .into_iter()
        .map(|(path, ..)| PathBuf::from(path));
    files
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "parquet")
        })
        .min()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_name_damaged_objects() {
    let (_simulator, program) = loaded().await;
    let cases = [
        (
            format!("samsara-data/raw/raw/{TABLE}"),
            format!("raw.{TABLE}"),
            "run --historical",
        ),
        (
            format!("samsara-data/raw/raw/{LIST}"),
            format!("raw.{LIST}"),
            "run --historical",
        ),
        (
            format!("samsara-data/warehouse/{TABLE}"),
            TABLE.to_string(),
            "--full-refresh fleet_vehicle_stats_engineRpm",
        ),
        (
            format!("samsara-data/warehouse/{LIST}"),
            LIST.to_string(),
            "--full-refresh fleet_vehicles",
        ),
    ];
    for (folder, table, remedy) in cases {
        let path = parquet(&program, &folder);
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        let before = std::fs::read(&path).unwrap();
        let damages: [(&str, Option<Vec<u8>>); 4] = [
            ("is gone", None),
            ("has 0 bytes", Some(Vec::new())),
            (
                "bytes instead of",
                Some(before[..before.len() - 1].to_vec()),
            ),
            ("is not readable as Parquet", Some(vec![b'x'; before.len()])),
        ];
        for (words, damage) in damages {
            match damage {
                None => std::fs::remove_file(&path).unwrap(),
                Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            }
            for sql in [
                format!("SELECT count(*) FROM {table}"),
                format!(
                    "WITH c AS (SELECT * FROM {table}) SELECT 1 WHERE EXISTS (SELECT 1 FROM c)"
                ),
            ] {
                let ran = program.run(&["query", &sql]).await;
                refused(&ran, 1, &[&name, words, remedy]);
                assert!(ran.stdout.is_empty(), "{}", ran.stdout);
            }
            let other = if table.contains(LIST) { TABLE } else { LIST };
            program
                .succeed(&["query", &format!("SELECT * FROM {other} LIMIT 1")])
                .await;
            if table.starts_with("raw.") && words == "is gone" {
                let model = table.trim_start_matches("raw.");
                let day: &[&str] = if model == TABLE {
                    &["--day", "2024-01-01"]
                } else {
                    &[]
                };
                refused(
                    &program
                        .run(&[&["sql", "preview", model], day].concat())
                        .await,
                    1,
                    &[&name, words, model],
                );
                refused(
                    &program.run(&["sources", "drift", model]).await,
                    1,
                    &[&name, words],
                );
            }
        }
        std::fs::write(&path, before).unwrap();
        program
            .succeed(&["query", &format!("SELECT count(*) FROM {table}")])
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_flattened_objects_are_rebuilt() {
    let (simulator, program) = loaded().await;
    let count =
        format!("SELECT (SELECT count(*) FROM {TABLE}) AS n, (SELECT count(*) FROM {LIST}) AS m");
    let before = program.rows(&count).await;
    for table in [TABLE, LIST] {
        std::fs::remove_dir_all(
            program
                .folder()
                .join("samsara-data/flattened/flattened")
                .join(table),
        )
        .unwrap();
        std::fs::remove_file(parquet(
            &program,
            &format!("samsara-data/warehouse/{table}"),
        ))
        .unwrap();
        let refresh = [
            "run",
            "--stages",
            "transform,load",
            "--table",
            table,
            "--full-refresh",
            table,
        ];
        program.succeed(&[&refresh[..], &RUN[1..5]].concat()).await;
    }
    assert_eq!(program.rows(&count).await, before);
    drop(simulator);
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_state_is_refused_by_name() {
    let (_simulator, program) = loaded().await;
    let document = |source: &str| {
        program
            .folder()
            .join(format!("samsara-data/raw/state/{source}.json"))
    };
    let (path, whole) = (
        document(TABLE),
        std::fs::read_to_string(document(TABLE)).unwrap(),
    );
    let list = std::fs::read_to_string(document(LIST)).unwrap();
    let member = |name: &str| {
        let (_, rest) = whole.split_once(&format!("\"{name}\":")).unwrap();
        format!(
            "\"{name}\":{}",
            rest.split_inclusive([',', '}'])
                .next()
                .unwrap()
                .trim_end_matches([',', '}'])
        )
    };
    let with =
        |name: &str, value: &str| whole.replacen(&member(name), &format!("\"{name}\":{value}"), 1);
    let outside = program.folder().join("outside.parquet");
    std::fs::copy(
        parquet(&program, &format!("samsara-data/raw/raw/{TABLE}")),
        &outside,
    )
    .unwrap();
    let crafted: Vec<Vec<u8>> = vec![
        list.into_bytes(),
        with("fingerprint", "\"aééééééé\"").into_bytes(),
        with("rows", "18446744073709551615").into_bytes(),
        with("rows", "-1").into_bytes(),
        with("path", "\"../../../../outside.parquet\"").into_bytes(),
        with("path", &format!("{outside:?}")).into_bytes(),
        with("extracted_at", "\"+262142-12-31T23:59:59Z\"").into_bytes(),
        with("version", "4294967296").into_bytes(),
        whole
            .replacen('{', &format!("{{\"source\":\"{TABLE}\","), 1)
            .into_bytes(),
        whole.as_bytes()[..whole.len() - 2].to_vec(),
        [whole.as_bytes(), b"\xff"].concat(),
        b"\xff\xfe{\0}\0".to_vec(),
        Vec::new(),
    ];
    for text in crafted {
        std::fs::write(&path, &text).unwrap();
        let shown = String::from_utf8_lossy(&text[..text.len().min(120)]).into_owned();
        for command in [
            &["status", "--table", TABLE][..],
            &["query", "SELECT 1"],
            &["plan", "--table", TABLE],
            &["clean", "--dry-run"],
            RUN,
        ] {
            let ran = program.run(command).await;
            assert!(
                ran.code == 1,
                "{command:?} {}\n{}\n{shown}",
                ran.code,
                ran.stderr
            );
            refused(&ran, 1, &["engineRpm.json"]);
            let errors = ran
                .stderr
                .lines()
                .filter(|line| line.starts_with("error: "))
                .count();
            assert_eq!(errors, 1, "{}", ran.stderr);
        }
    }
    std::fs::write(&path, &whole).unwrap();
    program.succeed(&["status"]).await;
    // The manifest of a table is state, too.
    let path = program
        .folder()
        .join(format!("samsara-data/warehouse/{TABLE}/_table.json"));
    let whole = std::fs::read_to_string(&path).unwrap();
    let (_, rest) = whole.split_once("\"path\": \"").unwrap();
    let own = rest.split('"').next().unwrap();
    for text in [
        whole.replacen(own, "../../outside.parquet", 1),
        whole.replacen(own, "fleet_vehicles/snapshot/outside.parquet", 1),
        whole.replacen("\"rows\": ", "\"rows\": 99999999999999", 1),
        whole.replacen(TABLE, LIST, 1),
        whole[..whole.len() / 2].to_string(),
    ] {
        std::fs::write(&path, &text).unwrap();
        let ran = program.run(&["query", "SELECT 1"]).await;
        refused(
            &ran,
            1,
            &["_table.json is not a table manifest", "--full-refresh"],
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_no_run_would_take_names_the_way_out() {
    let program = Program::new();
    let lock = |pid: &str, expires: &str| {
        let text = format!(
            r#"{{"version":1,"run":"r","host":"h","pid":{pid},"started":"2024-01-01T00:00:00Z",
                "heartbeat":"2024-01-01T00:00:00Z","expires":"{expires}"}}"#
        );
        program.write("samsara-data/raw/lock.json", text);
    };
    lock("1", "9999-12-31T23:59:59Z");
    let run = &["run", "--stages", "transform", "--table", LIST];
    refused(
        &program.run(run).await,
        4,
        &["9999-12-31", "remove lock.json"],
    );
    for (pid, expires) in [
        ("-1", "2024-01-01T00:00:00Z"),
        ("1", "+262142-01-01T00:00:00Z"),
        ("1e300", "soon"),
    ] {
        lock(pid, expires);
        refused(
            &program.run(run).await,
            1,
            &[
                "lock.json is not a lock of this program",
                "if no run is active, remove it",
            ],
        );
    }
}

/// A file outside, which nobody may touch.
#[cfg(unix)]
struct Victim(PathBuf);

#[cfg(unix)]
impl Victim {
    fn new(program: &Program) -> Self {
        program.write("outside/victim", "precious");
        Self(program.folder().join("outside/victim"))
    }

    /// Puts a link to it there.
    fn plant(&self, program: &Program, path: &str) {
        let path = program.folder().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(&self.0, path).unwrap();
    }

    fn is_whole(&self) -> bool {
        let outside: Vec<_> = std::fs::read_dir(self.0.parent().unwrap())
            .unwrap()
            .collect();
        outside.len() == 1 && std::fs::read(&self.0).unwrap() == b"precious"
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn links_in_the_place_of_files_destroy_nothing_outside() {
    let simulator = simulator(|config| config.vehicles = 3).await;
    let run = &["run", "--table", LIST];
    // If a file is created again under a predictable name, the link is removed and the run continues.
    let program = Program::with_simulator(&simulator);
    let victim = Victim::new(&program);
    for path in [
        "samsara-data/raw/lock.json#0",
        "samsara-data/raw/state/fleet_vehicles.json#0",
        "samsara-data/raw/state/fleet_vehicles.json#1",
        "samsara-data/warehouse/fleet_vehicles/_table.json#0",
    ] {
        victim.plant(&program, path);
    }
    program.succeed(run).await;
    assert!(victim.is_whole());
    assert!(
        !program
            .rows(&format!("SELECT * FROM {LIST}"))
            .await
            .is_empty()
    );
    // What is locked, and folders, must be what they seem to be.
    for (path, is_folder) in [
        ("samsara-data/raw/.lock", false),
        ("samsara-data/raw/raw", true),
        ("samsara-data/raw/state", true),
        ("samsara-data/flattened/flattened", true),
        ("samsara-data/warehouse/fleet_vehicles", true),
    ] {
        let program = Program::with_simulator(&simulator);
        let victim = Victim::new(&program);
        let place = program.folder().join(path);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        let target = if is_folder {
            victim.0.parent().unwrap()
        } else {
            &victim.0
        };
        std::os::unix::fs::symlink(target, &place).unwrap();
        let ran = program.run(run).await;
        assert!(
            [1, 3].contains(&ran.code),
            "{path}: {} {}",
            ran.code,
            ran.stderr
        );
        assert!(
            ran.stderr.contains("is a symbolic link") && ran.stderr.contains(path),
            "{path}: {}",
            ran.stderr
        );
        assert!(victim.is_whole(), "{path}");
    }
    // The configured folders may be links: they are what was requested.
    let program = Program::with_simulator(&simulator);
    std::fs::create_dir(program.folder().join("disk")).unwrap();
    std::os::unix::fs::symlink(
        program.folder().join("disk"),
        program.folder().join("samsara-data"),
    )
    .unwrap();
    program.succeed(run).await;
    assert!(program.folder().join("disk/raw/lock.json").is_file());
}

const SOURCE: &str = r#"
[readings]
description = "Readings."
kind = "snapshot"
endpoint = "/readings"
rate_limit = "5/s"
schema = "id VARCHAR, v BIGINT"
"#;

/// A catalog with one model.
fn model(program: &Program, sql: &str) {
    program.write("sql/f/sources.toml", SOURCE);
    let front = "/*---\ndescription = \"Too much.\"\nunique_key = [\"id\"]\n---*/";
    program.write("sql/f/much.sql", format!("{front}\n{sql}\n"));
}

/// `count` common table expressions, each made of the one before.
fn chain(count: usize, next: &str) -> String {
    let ctes: Vec<String> = (1..count)
        .map(|n| format!("c{n} AS ({})", next.replace("LAST", &format!("c{}", n - 1))))
        .collect();
    format!(
        "WITH c0 AS (SELECT id, v FROM raw.readings), {} SELECT id, v FROM c{}",
        ctes.join(", "),
        count - 1
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_check_names_models_that_need_too_much() {
    let program = Program::new();
    let cases = [
        (
            "SELECT replace(repeat('a',1000000),'a',repeat('b',1000000)) AS id FROM raw.readings"
                .to_string(),
            "repeat: its result would take 1000000 bytes",
        ),
        (
            chain(
                25,
                "SELECT a.id, a.v FROM LAST a JOIN LAST b ON a.id = b.id",
            ),
            "reads more than 256 tables",
        ),
        (
            chain(25, "SELECT id, v + v AS v FROM LAST WHERE v > 1"),
            "more than 20000 terms",
        ),
        (
            format!("SELECT id, '{}' AS n FROM raw.readings", "x".repeat(20_000)),
            "a literal of more than 16384 bytes",
        ),
    ];
    for (sql, words) in cases {
        model(&program, &sql);
        let ran = program.run(&["sql", "check"]).await;
        assert!([1, 2].contains(&ran.code), "{} {}", ran.code, ran.stderr);
        assert!(
            ran.stderr.contains("f/much.sql:") && ran.stderr.contains(words),
            "{}",
            ran.stderr
        );
    }
    model(
        &program,
        "SELECT id, repeat('ab', 3) || lpad(id, 9, '0') AS n FROM raw.readings",
    );
    program.succeed(&["sql", "check"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_memory_ends_with_exit_code_5() {
    let program = Program::new();
    // What window functions hold is known to no pool.
    let sql = "SELECT count(a) FROM (SELECT array_agg(v) OVER (ORDER BY v) AS a FROM generate_series(1, 30000) AS t(v))";
    let ran = program.run(&["query", sql, "--max-memory", "400MB"]).await;
    refused(&ran, 5, &["memory use exceeded 400 MiB", "--max-memory"]);
    assert_eq!(
        ran.stderr
            .lines()
            .filter(|line| line.starts_with("error: "))
            .count(),
        1,
        "{}",
        ran.stderr
    );
    // What is refused in time costs its own query only.
    let many =
        "SELECT length(repeat('a', 200000 + v % 2)) AS n FROM generate_series(1, 8000) AS t(v)";
    refused(
        &program.run(&["query", many]).await,
        1,
        &["repeat: its result would take"],
    );
    for sql in [
        "SELECT repeat('a', 9999999999)",
        "SELECT array_repeat(1, 9999999999)",
        "SELECT range(0, 99999999999)",
    ] {
        refused(
            &program.run(&["query", sql]).await,
            1,
            &["its result would take"],
        );
    }
    for size in ["lots", "0", "1PB"] {
        refused(
            &program
                .run(&["query", "SELECT 1", "--max-memory", size])
                .await,
            2,
            &["6GB"],
        );
    }
}

#[test]
fn the_bounds_in_the_code_are_those_in_the_documents() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let code = std::fs::read_to_string(root.join("src/bounds.rs")).unwrap();
    let documented = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
    let mut count = 0;
    for line in code
        .lines()
        .filter_map(|line| line.strip_prefix("pub const "))
    {
        let (name, rest) = line.split_once(':').unwrap();
        let value = rest
            .split_once("= ")
            .unwrap()
            .1
            .trim_end_matches(';')
            .replace('_', "");
        let number = match value.split_once(" << ") {
            Some((number, shift)) => {
                number.parse::<u64>().unwrap() << shift.parse::<u32>().unwrap()
            }
            None => value.parse::<u64>().unwrap(),
        };
        let unit = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        let is_bytes = name.ends_with("BYTES") || name.ends_with("MEMORY");
        let shown = match unit
            .iter()
            .find(|(shift, _)| is_bytes && number >= 1 << shift)
        {
            Some((shift, unit)) => format!("{} {unit}", number >> shift),
            None => number.to_string(),
        };
        let row = documented
            .lines()
            .find(|line| line.starts_with('|') && line.contains(&format!("`{name}`")));
        let row = row.unwrap_or_else(|| panic!("docs/security.md has no row of {name}"));
        assert!(
            row.contains(&format!("| {shown} |")),
            "{name} is {shown}: {row}"
        );
        count += 1;
    }
    assert!(count > 15, "{count}");
}
