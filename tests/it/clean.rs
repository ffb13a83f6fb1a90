//! `clean` removes what no state lists, by age, and never what a state lists.

use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use crate::program::{Program, simulator};
use crate::rerun::family_files;
use crate::support::runs::{TABLE, config, half_read, is_whole, pages, run, the_day};
use crate::truth::{compare, day};

const RUN: &[&str] = &[
    "run",
    "--start_date",
    "01/01/2024",
    "--end_date",
    "03/01/2024",
    "--table",
    "fleet_tags",
    "--table",
    "fleet_trips",
];

/// An object that no state names, written `days` ago.
fn orphan(program: &Program, path: &str, days: u64) {
    program.write(path, "left behind");
    let file = std::fs::File::options()
        .write(true)
        .open(program.folder().join(path))
        .unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(days * 86_400 + 60))
        .unwrap();
}

const OLD: &[&str] = &[
    "samsara-data/raw/raw/fleet_trips/partition_day=2024-01-01/20200101T000000Z-00000000-00000.parquet",
    // As earlier versions of the program named folders.
    "samsara-data/raw/raw/fleet_trips/date=2024-01-01/20200101T000000Z-00000000-00000.parquet",
    "samsara-data/raw/raw/fleet_tags/snapshot=20200101T000000Z/20200101T000000Z-00000000-00000.parquet",
    "samsara-data/flattened/flattened/fleet_trips/date=2024-01-01/20200101T000000Z-00000000-00000.parquet",
    "samsara-data/raw/logs/2020_01_01/20200101T000000Z-4711.jsonl",
    // Copied, but its table never heard of it.
    "samsara-data/warehouse/fleet_trips/2024-01-01/0123456789ab-20200101T000000Z-00000000-00000.parquet",
    // Begun, and never renamed to what they were to be.
    "samsara-data/raw/raw/fleet_trips/partition_day=2024-01-01/20200101T000000Z-00000000-00001.parquet#1",
    "samsara-data/raw/state/fleet_trips.json#1",
    "samsara-data/raw/lock.json#12",
    "samsara-data/flattened/flattened/fleet_trips/date=2024-01-01/20200101T000000Z-00000000-00001.parquet#1",
    "samsara-data/warehouse/fleet_trips/_table.json#1",
];
/// Foreign files in the places of this program's: by their names, or behind links.
const FOREIGN: &[&str] = &[
    "samsara-data/raw/raw/part-0.parquet",
    "samsara-data/raw/raw/fleet_trips/date=2024-01-01/export.parquet",
    "samsara-data/raw/raw/fleet_trips/date=2024-01-01/20200101T000000Z-00000000-0.parquet",
    "samsara-data/raw/raw/accounting/2020/20200101T000000Z-00000000-00000.parquet",
    "samsara-data/raw/raw/fleet_trips/date=2024-01-01/export.parquet#1",
    "samsara-data/raw/report.csv#7",
    "samsara-data/flattened/flattened/fleet_trips/2024-01-01/20200101T000000Z-00000000-00000.parquet",
    "samsara-data/raw/logs/2020_01_01/etl_info.log",
    "samsara-data/raw/logs/2020_01_01/20200101_accounting.jsonl",
    "samsara-data/warehouse/export.parquet",
    "samsara-data/warehouse/fleet_trips/export.parquet",
    "samsara-data/warehouse/fleet_trips/2024-01-01/export.parquet",
    "samsara-data/warehouse/fleet_trips/2024-01-01/0123456789ab-export.parquet",
    "samsara-data/warehouse/fleet_trips/2024-01-01/20200101T000000Z-00000000-00000.parquet",
    "outside/fleet_trips/date=2024-01-01/20200101T000000Z-00000000-00000.parquet",
];
const YOUNG: &str =
    "samsara-data/raw/raw/fleet_trips/date=2024-01-02/20200101T000000Z-00000000-00000.parquet";

fn exists(program: &Program, path: &str) -> bool {
    program.folder().join(path).exists()
}

#[tokio::test(flavor = "multi_thread")]
async fn unreferenced_objects_go_by_age() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    program.succeed(RUN).await;
    let before = program.files("samsara-data");
    OLD.iter().for_each(|path| orphan(&program, path, 8));
    orphan(&program, YOUNG, 6);
    // A file of the analyst's own is not ours to remove.
    orphan(&program, "samsara-data/warehouse/notes.txt", 8);
    FOREIGN.iter().for_each(|path| orphan(&program, path, 8));
    #[cfg(unix)]
    let links = {
        let link = |to: &str, path: &str| {
            let path = program.folder().join(path);
            std::os::unix::fs::symlink(program.folder().join(to), &path).unwrap();
            path
        };
        let (folder, file) = (
            "outside/fleet_trips/date=2024-01-01",
            FOREIGN[FOREIGN.len() - 1],
        );
        [
            link("outside/fleet_trips", "samsara-data/raw/raw/linked"),
            link(folder, "samsara-data/raw/raw/fleet_trips/date=2020-01-01"),
            link(
                file,
                "samsara-data/raw/raw/fleet_trips/date=2024-01-01/20200101T000000Z-00000000-00007.parquet",
            ),
            link(
                folder,
                "samsara-data/flattened/flattened/fleet_trips/date=2020-01-01",
            ),
            link(folder, "samsara-data/warehouse/linked"),
            link(file, "samsara-data/raw/lock.json#13"),
        ]
    };
    let shown = program.succeed(&["clean", "--dry-run"]).await.stdout;
    assert!(
        OLD.iter().all(|path| exists(&program, path)),
        "a dry run removes nothing"
    );
    for path in OLD {
        let key = path.trim_start_matches("samsara-data/");
        assert!(shown.contains(key), "{shown} lacks {key}");
    }
    assert!(
        !FOREIGN
            .iter()
            .any(|path| shown.contains(path.rsplit_once("samsara-data/").map_or(*path, |it| it.1))),
        "{shown}"
    );
    let number = format!("{} objects", OLD.len());
    assert!(
        shown.contains(&number) && shown.contains("would be removed"),
        "{shown}"
    );
    let done = program.succeed(&["clean"]).await.stdout;
    assert!(done.contains(&number) && !done.contains("would"), "{done}");
    assert!(!OLD.iter().any(|path| exists(&program, path)) && exists(&program, YOUNG));
    program.succeed(&["clean", "--older-than", "0"]).await;
    assert!(!exists(&program, YOUNG));
    #[cfg(unix)]
    for link in links {
        assert!(link.is_symlink(), "{link:?}");
        std::fs::remove_file(link).unwrap();
    }
    for path in FOREIGN.iter().chain(&["samsara-data/warehouse/notes.txt"]) {
        assert!(exists(&program, path), "{path}");
        std::fs::remove_file(program.folder().join(path)).unwrap();
    }
    assert_eq!(before, program.files("samsara-data"));
    compare(
        &program,
        simulator.world(),
        "fleet_trips",
        day("2024-01-01"),
        day("2024-01-03"),
    )
    .await
    .unwrap();
}

/// The paths of the files below a folder that lie in folders of this name.
fn in_folders(program: &Program, below: &str, name: &str) -> Vec<String> {
    let files = program.files(below).into_iter().map(|(path, _, _)| path);
    files
        .filter(|path| path.contains(&format!("/{name}=")))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_in_older_folders_are_used() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    let stages = |stages: &'static str| [RUN, &["--stages", stages]].concat();
    program.succeed(&stages("extract,transform")).await;
    // As an earlier version of the program has left it.
    for file in in_folders(&program, "samsara-data", "partition_day") {
        let older = file.replace("/partition_day=", "/date=");
        std::fs::create_dir_all(std::path::Path::new(&older).parent().unwrap()).unwrap();
        std::fs::rename(file, older).unwrap();
    }
    let state = "samsara-data/raw/state/fleet_trips.json";
    let text = std::fs::read_to_string(program.folder().join(state)).unwrap();
    assert!(text.contains("/partition_day="));
    program.write(state, text.replace("/partition_day=", "/date="));

    let whole = || {
        compare(
            &program,
            simulator.world(),
            "fleet_trips",
            day("2024-01-01"),
            day("2024-01-03"),
        )
    };
    program.succeed(&stages("load")).await;
    let rows = whole().await.unwrap();
    let raw = program
        .rows("SELECT count(*) AS n FROM raw.fleet_trips")
        .await;
    assert!(
        rows > 0 && raw[0]["n"].as_u64() >= Some(rows as u64),
        "{raw:?}"
    );

    // Derived again from raw objects with the older folder name, into folders with the newer.
    for (path, text) in family_files(&["assets", "tags", "trips", "vehicles"]) {
        let text = if path.ends_with("fleet_trips.sql") {
            format!("{text}WHERE startMs > 0\n")
        } else {
            text
        };
        program.write(&format!("sql/{path}"), text);
    }
    program.succeed(&stages("transform,load")).await;
    assert_eq!(whole().await.unwrap(), rows);
    let flattened = |name| in_folders(&program, "samsara-data/flattened/flattened", name).len();
    assert!(flattened("date") > 0 && flattened("partition_day") > 0);
    program.succeed(&["clean", "--older-than", "0"]).await;
    assert!(flattened("date") == 0 && flattened("partition_day") > 0);
    assert!(!in_folders(&program, "samsara-data/raw", "date").is_empty());
    assert_eq!(whole().await.unwrap(), rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_or_bad_state_stops_clean() {
    let program = Program::new();
    orphan(&program, OLD[0], 8);
    let newer = r#"{"version":99,"source":"fleet_trips"}"#;
    program.write("samsara-data/raw/state/fleet_trips.json", newer);
    let ran = program.run(&["clean"]).await;
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("version 99") && exists(&program, OLD[0]),
        "{}",
        ran.stderr
    );
    let unknown = "samsara-data/raw/state/fleet_trips/2024.json";
    program.write(
        "samsara-data/raw/state/fleet_trips.json",
        r#"{"version":3,"source":"fleet_trips"}"#,
    );
    program.write(unknown, "{}");
    let ran = program.run(&["clean"]).await;
    assert!(
        ran.code == 2 && ran.stderr.contains("fleet_trips/2024.json") && exists(&program, OLD[0]),
        "{}",
        ran.stderr
    );
    std::fs::remove_file(program.folder().join(unknown)).unwrap();
    program.write(
        "samsara-data/raw/lock.json",
        r#"{"version":1,"run":"r","host":"elsewhere","pid":1,"started":"2024-01-01T00:00:00Z",
            "heartbeat":"2024-01-01T00:00:00Z","expires":"2124-01-01T00:00:00Z"}"#,
    );
    let ran = program.run(&["clean"]).await;
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("process 1 on elsewhere") && exists(&program, OLD[0]),
        "{}",
        ran.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_nothing_names_is_removed() {
    let program = Program::new();
    let stored =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data/stored/v5/raw");
    let source = "state/fleet_vehicle_stats_engineRpm";
    let named = format!("{source}/2024-f77f89195000e2bd.json");
    let keep = |key: &str| {
        let bytes = std::fs::read(stored.join(key)).unwrap();
        program.write(&format!("samsara-data/raw/{key}"), bytes);
    };
    keep(&format!("{source}.json"));
    keep(&named);
    let left = format!("samsara-data/raw/{source}/2024-0123456789abcdef.json");
    program.write(&left, "{}");
    let ran = program.succeed(&["clean", "--older-than", "0"]).await;
    assert!(ran.stdout.contains("0123456789abcdef"), "{}", ran.stdout);
    assert!(!exists(&program, &left) && exists(&program, &format!("samsara-data/raw/{named}")));
    // Objects in an archive are in use: without the archive, it is unknown which.
    std::fs::remove_file(program.folder().join(format!("samsara-data/raw/{named}"))).unwrap();
    let ran = program.run(&["clean", "--older-than", "0"]).await;
    assert!(
        ran.code == 1 && ran.stderr.contains("is gone"),
        "{} {}",
        ran.code,
        ran.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn clean_needs_a_state_that_lists_objects() {
    let program = Program::new();
    OLD.iter().for_each(|path| orphan(&program, path, 8));
    // Leftovers and files of editors are not state.
    program.write("samsara-data/raw/state/.DS_Store", "x");
    for arguments in [
        &["clean"][..],
        &["clean", "--dry-run"],
        &["clean", "--older-than", "4294967295"],
    ] {
        let ran = program.run(arguments).await;
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(
            ran.stderr.contains("/raw/state/ holds no state document"),
            "{}",
            ran.stderr
        );
        assert!(
            !exists(&program, "samsara-data/raw/lock.json"),
            "nothing is written there either"
        );
    }
    assert!(OLD.iter().all(|path| exists(&program, path)));
    // A flattened bucket of which the state lists nothing may belong to another deployment.
    program.write(
        "samsara-data/raw/state/fleet_trips.json",
        r#"{"version":3,"source":"fleet_trips"}"#,
    );
    program
        .succeed(&["clean", "--older-than", "4294967295"])
        .await;
    assert!(OLD.iter().all(|path| exists(&program, path)));
    program.succeed(&["clean"]).await;
    for path in OLD {
        assert_eq!(
            exists(&program, path),
            path.contains("flattened") || path.ends_with("state/fleet_trips.json"),
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_half_read_day_has_brought_stays() {
    let (simulator, program, before) = half_read(&[TABLE]).await;
    let note = before
        .partition(the_day())
        .unwrap()
        .checkpoint
        .clone()
        .unwrap();
    program.succeed(&["clean", "--older-than", "0"]).await;
    for object in note.objects() {
        assert!(
            program
                .folder()
                .join("samsara-data/raw")
                .join(&object.path)
                .is_file(),
            "{object:?}"
        );
    }
    let go_on = config(&program, &simulator.url(), simulator.token());
    run(go_on, &[TABLE], vec![], &CancellationToken::new()).await;
    assert!(
        pages(&simulator)
            .iter()
            .all(|(query, _)| query.contains("after=")),
        "{:?}",
        pages(&simulator)
    );
    is_whole(&program, &simulator, &[TABLE]).await;
}
