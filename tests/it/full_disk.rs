//! A full disk: the run names the object that did not fit; nothing partial counts; once there is space, one run
//! completes everything.

use std::path::Path;

use samsara_etl::state::SourceState;
use samsara_simulator::Simulator;
use tokio::process::Command;

use crate::program::{Program, Ran, simulator};
use crate::truth::{day, differences, local_rows, local_tables};

const TABLES: &[&str] = &[
    "fleet_vehicle_stats_gps",
    "fleet_vehicle_stats_engineRpm",
    "fleet_vehicles",
];
const DATA: &str = "samsara-data";

fn run() -> Vec<&'static str> {
    let mut arguments = vec![
        "run",
        "--start_date",
        "01/01/2024",
        "--end_date",
        "05/01/2024",
    ];
    arguments.extend(TABLES.iter().flat_map(|table| ["--table", *table]));
    arguments
}

/// Runs in a mount namespace of its own, in which a folder is on a disk of this size; the content of that disk is
/// copied back into the folder afterwards.
const ON_A_SMALL_DISK: &str = r#"
set -e
mkdir -p "$FOLDER" kept
mount --bind "$FOLDER" kept
mount -t tmpfs -o "size=$SIZE" none "$FOLDER"
cp -a kept/. "$FOLDER"
code=0
"$@" || code=$?
find kept -mindepth 1 -delete
cp -a "$FOLDER"/. kept
exit $code
"#;

fn namespace() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount"]);
    command
}

/// Whether this machine allows mounting a small disk. If not, the test is skipped, but never in CI.
async fn can_mount() -> bool {
    let script = "mount -t tmpfs -o size=64k none /mnt";
    let tried = namespace().args(["sh", "-c", script]).output().await;
    let reason = match tried {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => format!("unshare: {error}"),
    };
    assert!(
        std::env::var_os("CI").is_none(),
        "a small disk cannot be mounted: {reason}"
    );
    println!("skipped: a small disk cannot be mounted: {reason}");
    false
}

/// Runs the program while `folder` is on a disk of `kilobytes` more than it uses now.
async fn run_on(program: &Program, folder: &str, kilobytes: u64) -> Ran {
    let size = format!(
        "{}k",
        used_kilobytes(&program.folder().join(folder)) + kilobytes
    );
    let mut command = namespace();
    command
        .args([
            "sh",
            "-c",
            ON_A_SMALL_DISK,
            "sh",
            env!("CARGO_BIN_EXE_samsara-etl"),
        ])
        .args(run());
    program.prepare(&mut command);
    command
        .env("FOLDER", folder)
        .env("SIZE", size)
        .env("PATH", std::env::var_os("PATH").unwrap());
    Ran::of(command.output().await.unwrap())
}

/// The size of a folder on a disk, where each file and each folder takes whole pages.
fn used_kilobytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let sizes = entries.map(|entry| match entry.unwrap() {
        entry if entry.path().is_dir() => used_kilobytes(&entry.path()),
        entry => entry.metadata().unwrap().len().div_ceil(4096) * 4,
    });
    sizes.sum()
}

/// Whatever a state names is there, whole.
fn assert_nothing_partial(program: &Program) {
    let Ok(documents) = std::fs::read_dir(program.folder().join(DATA).join("raw/state")) else {
        return;
    };
    let size = |bucket: &str, key: &str| {
        std::fs::metadata(program.folder().join(DATA).join(bucket).join(key))
    };
    for document in documents
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().unwrap() == "json")
    {
        let state = SourceState::from_json(&std::fs::read(&document).unwrap(), "state").unwrap();
        for partition in state.partitions.values() {
            let raw = partition
                .raw
                .iter()
                .flat_map(|raw| &raw.objects)
                .map(|object| ("raw", object));
            let models = partition.models.values().flat_map(|model| &model.objects);
            for (bucket, object) in raw.chain(models.map(|object| ("flattened", object))) {
                assert_eq!(
                    size(bucket, &object.path).unwrap().len(),
                    object.bytes,
                    "{}",
                    object.path
                );
            }
        }
    }
}

async fn assert_whole(program: &Program, simulator: &Simulator) {
    let tables = local_tables(&program.folder().join(DATA).join("warehouse")).await;
    for table in TABLES {
        let rows = local_rows(&tables, table).await;
        differences(
            table,
            simulator.world(),
            rows,
            day("2024-01-01"),
            day("2024-01-05"),
        )
        .unwrap();
    }
}

/// Fills a disk below `folder` at each of these sizes, then gives it space; returns the output of every run.
async fn fill(folder: &str, sizes: &[u64]) -> Vec<Ran> {
    let simulator = simulator(|_| ()).await;
    let mut all = Vec::new();
    for size in sizes {
        let program = Program::with_simulator(&simulator);
        let ran = run_on(&program, folder, *size).await;
        assert!(
            matches!(ran.code, 1 | 3),
            "{folder}, {size} kB: {}\n{}",
            ran.code,
            ran.stderr
        );
        assert_nothing_partial(&program);
        program.succeed(&run()).await;
        assert_whole(&program, &simulator).await;
        program.succeed(&["clean", "--older-than", "0"]).await;
        assert_whole(&program, &simulator).await;
        let left = program
            .files(DATA)
            .into_iter()
            .filter(|(path, ..)| path.contains('#'))
            .collect::<Vec<_>>();
        assert!(left.is_empty(), "{left:?}");
        all.push(ran);
    }
    all
}

/// Every run named the object that did not fit, in one line that says why.
fn assert_told(runs: &[Ran], object: &str) {
    for ran in runs {
        let told = ran
            .stderr
            .lines()
            .any(|line| line.contains(object) && line.contains("No space left on device"));
        assert!(told, "no line tells of {object}:\n{}", ran.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_names_raw_objects() {
    if can_mount().await {
        assert_told(
            &fill("samsara-data/raw/raw", &[4, 60]).await,
            "/raw/raw/fleet_",
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_never_truncates_state() {
    if can_mount().await {
        assert_told(
            &fill("samsara-data/raw/state", &[4, 8, 12]).await,
            "/raw/state/fleet_",
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_names_flattened_objects() {
    if can_mount().await {
        assert_told(
            &fill("samsara-data/flattened", &[4, 60]).await,
            "/flattened/flattened/fleet_",
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_names_tables() {
    if can_mount().await {
        assert_told(
            &fill("samsara-data/warehouse", &[4, 60]).await,
            "/warehouse/fleet_",
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_disk_full_at_any_point() {
    if can_mount().await {
        assert_told(&fill(DATA, &[2, 40, 80, 120, 160]).await, "/samsara-data/");
    }
}
