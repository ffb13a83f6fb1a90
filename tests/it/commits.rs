//! Cloud Storage takes one write of a document a second: whatever is done meanwhile goes into the state together.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio::sync::watch;

use crate::program::{Program, simulator};
use crate::rerun::family_files;
use crate::support::faults::{Action, Fault};
use crate::support::gcs::GcsDouble;
use crate::support::until;
use crate::truth::{day, differences, local_rows, local_tables};

const TABLE: &str = "fleet_vehicle_stats_engineRpm";
/// More than there are cores, workers and load jobs at a time, and more than a document holds itself.
const DAYS: usize = 34;
const DATES: [&str; 4] = ["--start_date", "01/01/2024", "--end_date", "04/02/2024"];

/// Runs a stage. The `nth` write of the state is held until there are requests of this kind for this many days. Gives
/// how often the document was written.
async fn writes(
    program: &Program,
    double: &GcsDouble,
    stage: &str,
    nth: u64,
    (method, prefix): (&str, &str),
) -> usize {
    double.clear_requests();
    double.clear_faults();
    let document = format!("state/{TABLE}.json");
    let (open, opened) = watch::channel(false);
    double.fault(Fault::on("PUT", &document, Action::Hold(opened)).nth(nth));
    let objects = || {
        let requests = double.requests().into_iter();
        let of_kind = requests.filter(|it| it.method == method && it.key.starts_with(prefix));
        of_kind.map(|it| it.key).collect::<BTreeSet<_>>().len()
    };
    let arguments = [&["run", "--table", TABLE, "--stages", stage], &DATES[..]].concat();
    let all_have_come = async {
        until(|| objects() >= DAYS).await;
        open.send(true).unwrap();
    };
    tokio::join!(program.succeed(&arguments), all_have_come);
    double.count(|it| it.method == "PUT" && it.key == document)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_holds_up_nobody() {
    let simulator = simulator(|config| config.now = Some(day("2024-02-04"))).await;
    let double = GcsDouble::start(&["raw", "flat"]);
    let program = Program::with_simulator(&simulator)
        .set("STORAGE_EMULATOR_HOST", double.url())
        .set("GCS_BUCKET_NAME", "raw")
        .set("GCS_BUCKET_FLATTENED_NAME", "flat");
    let (raw, flattened) = (format!("raw/{TABLE}"), format!("flattened/{TABLE}"));
    // First the position of its feed is noted, and then from when on the source is requested.
    let extracted = writes(&program, &double, "extract", 3, ("PUT", &raw)).await;
    let derived = writes(&program, &double, "transform", 1, ("PUT", &flattened)).await;
    assert!(extracted <= 6 && derived <= 4, "{extracted} {derived}");
    double.clear_faults();
    program
        .succeed(&[&["run", "--table", TABLE, "--stages", "load"], &DATES[..]].concat())
        .await;
    // Now each day by itself.
    for (path, text) in family_files(&["vehicle_stats"]) {
        let edit = if path.ends_with(&format!("{TABLE}.sql")) {
            "WHERE TRUE\n"
        } else {
            ""
        };
        program.write(&format!("sql/{path}"), format!("{text}{edit}"));
    }
    let derived = writes(&program, &double, "transform", 1, ("PUT", &flattened)).await;
    let loaded = writes(&program, &double, "load", 1, ("HEAD", &flattened)).await;
    assert!(derived <= 4 && loaded <= DAYS + 5, "{derived} {loaded}");

    // What has not changed lately is in the archive of its year, and no other archive is left.
    let document = double.get("raw", &format!("state/{TABLE}.json")).unwrap();
    let document: Value = serde_json::from_slice(&document).unwrap();
    let held = document["partitions"].as_object().unwrap().len();
    let archived = double.objects("raw").into_iter();
    let archived = archived.filter(|it| it.key.starts_with(&format!("state/{TABLE}/")));
    let named = document["archives"].as_object().unwrap().len();
    assert!(
        held <= 32 && named == 1 && archived.count() == 1,
        "{document:#}"
    );
    let tables = local_tables(&program.folder().join("samsara-data/warehouse")).await;
    let rows = local_rows(&tables, TABLE).await;
    let (first, end) = (day("2024-01-01"), day("2024-02-04"));
    differences(TABLE, simulator.world(), rows, first, end).unwrap();

    // Nothing to do: no settled day is requested, and nothing is written but the position of the feed.
    double.clear_requests();
    simulator.clear_requests();
    program
        .succeed(&[&["run", "--table", TABLE], &DATES[..]].concat())
        .await;
    let written = double.count(|it| it.method == "PUT" && it.key.starts_with("state/"));
    let asked = simulator.requests();
    let asked = asked.iter().filter(|it| it.query.contains("startTime="));
    assert!(written <= 1 && asked.count() == 0, "{written}");
}
