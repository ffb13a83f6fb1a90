//! What commands print for programs, and the commands that help with the command line itself.

use std::sync::{Arc, Mutex};

use samsara_etl::events::{Event, FailureKind, Moment, Observer, Outcome};
use serde_json::Value;

use crate::program::{Program, impatient, run_observed, simulator};

const TABLES: [&str; 6] = [
    "--table",
    "fleet_tags",
    "--table",
    "fleet_vehicles",
    "--table",
    "fleet_trips",
];
const DAYS: [&str; 4] = ["--start-date", "2024-01-01", "--end-date", "2024-01-03"];

/// A document without what differs from run to run.
fn settled(text: &str) -> String {
    fn normalise(name: &str, value: &mut Value) {
        match value {
            Value::Object(fields) => fields
                .iter_mut()
                .for_each(|(name, value)| normalise(name, value)),
            Value::Array(items) => items.iter_mut().for_each(|item| normalise(name, item)),
            Value::String(text) => match name {
                "run" | "last_read" | "today" => *text = format!("[{name}]"),
                "text" if text.starts_with("http") => *text = "[url]".into(),
                "text" if text.contains("/tmp") => *text = "[folder]".into(),
                "failure" | "error" | "text" => {
                    if let Some((before, rest)) = text.split_once(", request ") {
                        let after = rest.split_once(')').map_or("", |(_, after)| after);
                        *text = format!("{before}){after}");
                    }
                }
                _ => {}
            },
            Value::Number(_) if name.contains("seconds") || name.ends_with("bytes") => {
                *value = "[number]".into();
            }
            _ => {}
        }
    }
    let mut document: Value = serde_json::from_str(text).unwrap();
    normalise("", &mut document);
    serde_json::to_string_pretty(&document).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn json_has_a_schema() {
    let simulator = simulator(|config| config.missing_scopes = vec!["/tags".into()]).await;
    let program = Program::with_simulator(&simulator);
    let json = ["--format", "json"];
    let shown = async |name: &str, code: i32, arguments: &[&str]| {
        let ran = program.run(&[arguments, &json].concat()).await;
        assert_eq!(ran.code, code, "{name}: {}", ran.stderr);
        insta::assert_snapshot!(name, settled(&ran.stdout));
    };
    shown("plan", 0, &[&["plan"][..], &TABLES, &DAYS].concat()).await;
    shown("run", 3, &[&["run"][..], &TABLES, &DAYS].concat()).await;
    shown("status", 0, &[&["status"][..], &TABLES, &DAYS].concat()).await;
    shown(
        "status_days",
        0,
        &[&["status", "fleet_trips"][..], &DAYS].concat(),
    )
    .await;
    shown("check", 1, &[&["check"][..], &TABLES].concat()).await;
    let tables = program.succeed(&[&["tables"][..], &json].concat()).await;
    let tables: Value = serde_json::from_str(&tables.stdout).unwrap();
    assert_eq!(tables["schema"], "samsara-etl/tables");
    let trips = tables["tables"].as_array().unwrap().iter();
    let trips: Vec<_> = trips
        .filter(|table| table["table"] == "fleet_trips")
        .collect();
    assert_eq!(trips.len(), 1);
    assert_eq!(
        (&trips[0]["kind"], &trips[0]["sources"][0]),
        (&"window".into(), &"fleet_trips".into())
    );
    // A column without a value is there too.
    let sql = "SELECT CAST(NULL AS VARCHAR) AS nothing, 1 AS one";
    let rows = program.succeed(&["query", sql, "--format", "json"]).await;
    assert_eq!(rows.stdout.trim(), r#"{"nothing":null,"one":1}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_is_a_line_a_table() {
    let simulator = simulator(|config| config.missing_scopes = vec!["/tags".into()]).await;
    let program = Program::with_simulator(&simulator);
    program.run(&[&["run"][..], &TABLES, &DAYS].concat()).await;
    let status = program
        .succeed(&[&["status"][..], &TABLES].concat())
        .await
        .stdout;
    let line = |table: &str| {
        let line = status
            .lines()
            .find(|line| line.split(' ').next() == Some(table));
        line.unwrap_or_else(|| panic!("{status}")).to_string()
    };
    assert!(
        line("fleet_vehicles").contains(" list ") && line("fleet_vehicles").ends_with(" whole")
    );
    assert!(
        line("fleet_trips").contains(" 2024-01-02 ") && line("fleet_trips").ends_with(" behind")
    );
    assert!(line("fleet_tags").ends_with(" failing"), "{status}");
    assert!(
        status.contains("failing: fleet_tags failed at ") && status.contains(" tables: "),
        "{status}"
    );
    let table = status.lines().take_while(|line| !line.is_empty());
    assert!(table.clone().all(|line| line.len() <= 80), "{status}");
    let days = program
        .succeed(&[&["status", "fleet_trips"][..], &DAYS].concat())
        .await;
    assert!(days.stdout.contains("\n  2024-01 ##\n"), "{}", days.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_says_what_its_lines_are_about() {
    let simulator = simulator(|config| config.missing_scopes = vec!["/tags".into()]).await;
    let program = Program::with_simulator(&simulator);
    program.run(&[&["run"][..], &TABLES, &DAYS].concat()).await;
    let folder = std::fs::read_dir(program.folder().join("logs")).unwrap();
    let file = folder
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|it| it == "jsonl"))
        .unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |message: &str| {
        let found: Vec<&Value> = lines
            .iter()
            .filter(|line| line["fields"]["message"] == message)
            .collect();
        assert!(!found.is_empty(), "{message}: {text}");
        found
    };
    let run = of("run started")[0]["run"].as_str().unwrap().to_string();
    for message in [
        "task started",
        "partition extracted",
        "partition transformed",
        "partition loaded",
        "failed",
    ] {
        for line in of(message) {
            assert_eq!(line["run"], run.as_str(), "{line}");
            assert!(line["table"].is_string(), "{line}");
        }
    }
    assert_eq!(of("failed")[0]["level"], "ERROR");
    assert_eq!(of("failed")[0]["fields"]["kind"], "not_permitted");
    // The report is nested, not text.
    assert_eq!(
        of("run finished")[0]["fields"]["report"]["failures"][0]["name"],
        "fleet_tags"
    );

    let told = program.succeed(&["logs"]).await.stdout;
    assert!(
        told.contains(&format!("run {run}, ")) && told.contains("failed: fleet_tags"),
        "{told}"
    );
    assert!(told.contains("ended: failed"), "{told}");
    let listed = program.succeed(&["logs", "--list"]).await.stdout;
    assert!(
        listed.contains(&run) && listed.contains("1 failure"),
        "{listed}"
    );
    // Where the file is gone, the copy in the raw bucket is read.
    std::fs::remove_file(&file).unwrap();
    let shipped = program.succeed(&["logs", &run[..12], "--all"]).await.stdout;
    assert!(
        shipped.lines().count() + 5 > lines.len() && shipped.contains("task started"),
        "{shipped}"
    );
    assert_eq!(program.run(&["logs", "1999"]).await.code, 2);
}

#[derive(Default)]
struct Seen(Mutex<Vec<(Event, Moment)>>);

impl Observer for Seen {
    fn observe(&self, _: &Event) {}

    fn observe_at(&self, event: &Event, moment: Moment) {
        self.0.lock().unwrap().push((event.clone(), moment));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_starts_has_an_outcome() {
    let simulator = simulator(|config| config.missing_scopes = vec!["/tags".into()]).await;
    let program = Program::new();
    let config = impatient(&program, &simulator.url(), simulator.token());
    let seen = Arc::new(Seen::default());
    let tables = ["fleet_tags", "fleet_vehicles", "fleet_trips"];
    let dates = ["2024-01-01", "2024-01-03"];
    run_observed(config, &tables, dates, vec![seen.clone()]).await;
    let seen = seen.0.lock().unwrap();
    // Each is stamped with its time.
    assert!(seen[0].1.elapsed <= seen[seen.len() - 1].1.elapsed);
    let (mut tasks, mut derived, mut loaded, mut requests) = (Vec::new(), Vec::new(), 0, 0);
    let mut failed = Vec::new();
    for (event, _) in seen.iter() {
        match event {
            Event::TaskStarted { sources, scope, .. } => {
                tasks.push((sources.clone(), scope.clone()))
            }
            Event::TaskFinished {
                sources,
                scope,
                outcome,
                requests: planned,
                ..
            } => {
                let at = tasks
                    .iter()
                    .position(|task| *task == (sources.clone(), scope.clone()));
                tasks.remove(at.expect("it has started"));
                let is_tags = sources[0] == "fleet_tags";
                assert_eq!(*outcome == Outcome::Done, !is_tags, "{event:?}");
                requests += planned;
            }
            Event::TransformStarted { model, partition } => {
                derived.push((model.clone(), *partition))
            }
            Event::TransformFinished {
                model,
                partition,
                outcome,
            } => {
                let at = derived
                    .iter()
                    .position(|it| *it == (model.clone(), *partition));
                derived.remove(at.expect("it has started"));
                assert_eq!(*outcome, Outcome::Done, "{event:?}");
            }
            Event::LoadStarted { .. } => loaded += 1,
            Event::LoadFinished { outcome, .. } => {
                loaded -= 1;
                assert_eq!(*outcome, Outcome::Done, "{event:?}");
            }
            Event::Failed { name, kind, .. } => failed.push((name.clone(), *kind)),
            _ => {}
        }
    }
    assert!(tasks.is_empty() && derived.is_empty() && loaded == 0);
    assert_eq!(
        failed,
        [("fleet_tags".to_string(), FailureKind::NotPermitted)]
    );
    let Event::RunStarted { totals, .. } = &seen[0].0 else {
        panic!("{:?}", seen[0]);
    };
    assert_eq!((totals.requests, totals.jobs), (requests, 0), "{totals:?}");
    assert!(
        totals.partitions >= 3 && totals.request_seconds > 0.0,
        "{totals:?}"
    );
    let last = &seen.last().unwrap().0;
    assert!(
        matches!(
            last,
            Event::RunFinished {
                outcome: Outcome::Failed
            }
        ),
        "{last:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn init_writes_env_once() {
    let simulator = simulator(|_| ()).await;
    let program = Program::new().set("SAMSARA_API_TOKEN", "samsara_api_from_environment");
    let ran = program
        .succeed(&["init", "--no-input", "--region", "eu"])
        .await;
    assert!(ran.stderr.contains("samsara-etl check"), "{}", ran.stderr);
    let path = program.folder().join(".env");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text.contains("\nSAMSARA_API_TOKEN=samsara_api_from_environment\n"),
        "{text}"
    );
    assert!(text.contains("\nSAMSARA_REGION=eu\n"), "{text}");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let again = program.run(&["init", "--no-input"]).await;
    assert!(
        again.code == 2 && again.stderr.contains("stays as it is"),
        "{}",
        again.stderr
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    // What would be refused later is refused now, and nothing is written.
    for (arguments, said) in [
        (
            &["init", "--no-input", "--region", "mars"][..],
            "SAMSARA_REGION",
        ),
        (
            &["init", "--no-input", "--raw-bucket", "r"],
            "--flattened-bucket",
        ),
    ] {
        let program = Program::new().set("SAMSARA_API_TOKEN", "t");
        let ran = program.run(arguments).await;
        assert!(ran.code == 2 && ran.stderr.contains(said), "{}", ran.stderr);
        assert!(!program.folder().join(".env").exists());
    }
    let ran = Program::new().run(&["init"]).await;
    assert!(
        ran.code == 2 && ran.stderr.contains("--token-stdin"),
        "{}",
        ran.stderr
    );

    // The file may lie elsewhere, and so may the folder.
    let program = Program::new().set("SAMSARA_ETL_WAIT_SCALE", "0.01");
    let (url, token) = (simulator.url(), simulator.token());
    program.write(
        "other/sim.env",
        format!("SAMSARA_API_URL={url}\nSAMSARA_API_TOKEN={token}\n"),
    );
    program
        .succeed(&[
            "-C",
            "other",
            "--env-file",
            "sim.env",
            "run",
            "--table",
            "fleet_vehicles",
        ])
        .await;
    assert!(program.folder().join("other/samsara-data").is_dir());
    for (arguments, said) in [
        (["--env-file", "none.env", "check"], "none.env"),
        (["-C", "nowhere", "check"], "nowhere"),
    ] {
        let ran = program.run(&arguments).await;
        assert!(ran.code == 2 && ran.stderr.contains(said), "{}", ran.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shells_and_man_know_the_commands() {
    let program = Program::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = program.succeed(&["completions", shell]).await.stdout;
        for word in ["accept-shrunken", "completions"] {
            assert!(script.contains(word), "{shell} lacks {word}");
        }
        let knows = script.contains("fleet_vehicle_stats_engineRpm");
        assert!(
            knows || ["elvish", "powershell"].contains(&shell),
            "{shell} knows no tables"
        );
    }
    let page = program.succeed(&["man"]).await.stdout;
    assert!(
        page.contains(".TH samsara") && page.contains("EXAMPLES") || page.contains("Examples"),
        "{page}"
    );
    program.succeed(&["man", "--out-dir", "pages"]).await;
    let run = std::fs::read_to_string(program.folder().join("pages/samsara-etl-run.1")).unwrap();
    assert!(run.contains("accept\\-shrunken"), "{run}");
    // Every command says how it is used.
    let commands = [
        &["run"][..],
        &["plan"],
        &["check"],
        &["tables"],
        &["sources"],
        &["sources", "drift"],
        &["sql"],
        &["sql", "check"],
        &["sql", "test"],
        &["sql", "preview"],
        &["query"],
        &["status"],
        &["simulate"],
        &["demo"],
        &["clean"],
        &["logs"],
        &["init"],
        &["completions"],
        &["man"],
    ];
    for command in commands {
        let help = program
            .succeed(&[command, &["--help"]].concat())
            .await
            .stdout;
        assert!(help.contains("\nExample"), "{command:?}: {help}");
    }
}
