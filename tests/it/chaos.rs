//! Killed at any point, started twice: after one clean run, every table is what one undisturbed run would have made.
//! Meanwhile the API fails from time to time, and readings of a past day arrive late; the buckets are folders, or a
//! double of Cloud Storage that fails as well.
//!
//! `CHAOS_KILLS` (8 unless set) is how often the program is killed, `CHAOS_PAIRS` (2) how often two of it are started
//! together, `CHAOS_SEED` (1) chooses the points, the faults and the fleet. A failure prints its seed, and that seed
//! chooses the same points again. The long version: `CHAOS_KILLS=120 CHAOS_PAIRS=20 cargo test --test it chaos`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use futures::future::join_all;
use futures::{StreamExt, stream};
use samsara_etl::catalog::Catalog;
use samsara_etl::state::SourceState;
use samsara_simulator::{LateData, Simulator};
use tokio::process::Child;

use crate::faults;
use crate::program::{Program, simulator};
use crate::support::dice::{Dice, setting};
use crate::support::gcs::GcsDouble;
use crate::truth::{day, differences, has_history, local_rows, local_tables};

/// Goes on where the runs before were told to begin.
const GO_ON: &[&str] = &["run", "--end_date", "03/01/2024", "--max_workers", "8"];
const RUN: &[&str] = &[
    "run",
    "--start_date",
    "01/01/2024",
    "--end_date",
    "03/01/2024",
    "--max_workers",
    "8",
];
const FAULTS: &str =
    "429=0.03,500=0.02,503=0.02,504=0.01,reset=0.02,truncate=0.02,slow=0.03,duplicate=0.05";
/// One of each kind. The short version covers these and, over folders, some others.
const FEW: &[&str] = &[
    "alerts_incidents",
    "fleet_documents",
    "fleet_safety_events_audit_logs",
    "fleet_trips",
    "fleet_vehicle_stats_engineRpm",
    "fleet_vehicle_stats_gps",
    "fleet_vehicles",
];
/// Their late rows are found by reading days again, but by this machine's clock these days are long final.
const FOUND_BY_LOOKBACK: &[&str] = &["fleet_documents", "fleet_assets_reefers"];
/// A program is killed this often before it may finish: at an early point in the first run, at later ones in the rest.
const KILLS_OF_ONE: u64 = 3;
/// They wait for each other's programs more than they compute.
const FLEETS_AT_A_TIME: u64 = 2;

/// When a program is killed: after a number of observable events.
#[derive(Debug, Clone, Copy)]
enum Point {
    /// After this many answers of the API.
    Answers(u64),
    /// After this many changes of files below this folder.
    Files(&'static str, u64),
}

impl Point {
    /// In a run that has only this share of all to do.
    fn choose(dice: &mut Dice, share: u64) -> Self {
        let kind = dice.below(6);
        let mut up_to = |most: u64| 1 + dice.below((most / share).max(1));
        match kind {
            0 | 1 => Self::Answers(up_to(90)),
            2 => Self::Files("raw/raw", up_to(25)),
            3 => Self::Files("raw/state", up_to(15)),
            4 => Self::Files("flattened", up_to(20)),
            _ => Self::Files("warehouse", up_to(20)),
        }
    }

    fn count(self, scene: &Scene) -> u64 {
        match (self, &scene.double) {
            (Self::Answers(_), _) => scene.simulator.request_count() as u64,
            (Self::Files(folder @ ("raw/raw" | "raw/state" | "flattened"), _), Some(double)) => {
                let prefix = folder.trim_start_matches("raw/");
                let is_write = |method: &str| method == "PUT" || method == "POST";
                double.count(|request| is_write(&request.method) && request.key.starts_with(prefix))
                    as u64
            }
            (Self::Files(folder, _), _) => {
                files(&scene.program.folder().join("samsara-data").join(folder))
            }
        }
    }

    fn limit(self) -> u64 {
        match self {
            Self::Answers(limit) | Self::Files(_, limit) => limit,
        }
    }
}

fn files(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| {
            if entry.path().is_dir() {
                files(&entry.path())
            } else {
                1
            }
        })
        .sum()
}

/// A faulty API with late data, and a program over buckets of one kind.
struct Scene {
    simulator: Simulator,
    program: Program,
    /// The buckets, unless they are folders.
    double: Option<GcsDouble>,
    /// The tables that are requested.
    tables: Vec<String>,
}

impl Scene {
    async fn new(seed: u64, double: Option<GcsDouble>, late: Option<LateData>) -> Self {
        let simulator = simulator(|config| {
            config.seed = seed;
            config.faults = FAULTS.parse().unwrap();
            config.slow_body_pause = Duration::from_millis(2);
            // Small pages: many answers, many points.
            config.page_size = Some(4);
            config.late = late;
        })
        .await;
        let mut program = Program::with_simulator(&simulator);
        if double.is_none() {
            // Many checkpoints, too; with one write per second, the double would have to be waited for.
            program = program.set("SAMSARA_ETL_CHECKPOINT_PAGES", "1");
        }
        if let Some(double) = &double {
            program = program
                .set("STORAGE_EMULATOR_HOST", double.url())
                .set("GCS_BUCKET_NAME", "raw")
                .set("GCS_BUCKET_FLATTENED_NAME", "flat");
        }
        let is_long = std::env::var_os("CHAOS_KILLS").is_some();
        let catalog = Catalog::open(None).unwrap();
        // Another choice for each seed.
        let mut dice = Dice(seed);
        let mut is_asked = |table: &str| {
            let chosen = dice.below(8) == 0 && double.is_none();
            (is_long || chosen || FEW.contains(&table)) && has_history(&catalog, table)
        };
        let all = simulator.world().tables();
        let tables = all
            .iter()
            .filter(|table| is_asked(table))
            .map(ToString::to_string)
            .collect();
        Self {
            simulator,
            program,
            double,
            tables,
        }
    }

    /// One in this many tables is requested, roughly.
    fn share(&self) -> u64 {
        (self.simulator.world().tables().len() / self.tables.len()) as u64
    }

    /// The arguments of a run over everything: from the first day on, or from where the earlier runs have stopped, if
    /// that is known.
    fn run(&self, goes_on: bool) -> Vec<&str> {
        let tables = self
            .tables
            .iter()
            .flat_map(|table| ["--table", table.as_str()]);
        let dates = if goes_on && self.is_begun() {
            GO_ON
        } else {
            RUN
        };
        dates.iter().copied().chain(tables).collect()
    }

    /// Whether the state has the first requested day of all sources.
    fn is_begun(&self) -> bool {
        let catalog = Catalog::open(None).unwrap();
        let mut sources = self
            .tables
            .iter()
            .flat_map(|table| catalog.model(table).unwrap().sources.clone());
        let state = |source: String| {
            let path = self
                .program
                .folder()
                .join(format!("samsara-data/raw/state/{source}.json"));
            std::fs::read(path).map(|bytes| SourceState::from_json(&bytes, "state").unwrap())
        };
        sources.all(|source| {
            let is_list = !catalog.source(&source).unwrap().is_daily();
            is_list
                || state(source)
                    .is_ok_and(|state| state.asked_from.is_some() || state.feed.is_some())
        })
    }

    fn forget_requests(&self) {
        self.simulator.clear_requests();
        if let Some(double) = &self.double {
            double.clear_requests();
        }
    }

    /// Runs the program up to `point` and kills it there; returns whether it was still alive.
    async fn kill_at(&self, point: Point, mut child: Child, before: u64) -> bool {
        loop {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            if point.count(self) >= before + point.limit() {
                child.kill().await.unwrap();
                return true;
            }
            // Not a guess at a duration: only how often one looks.
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }

    async fn wrong_tables(&self) -> String {
        let mut wrong = String::new();
        let found = local_tables(&self.program.folder().join("samsara-data/warehouse")).await;
        for table in &self.tables {
            let rows = local_rows(&found, table).await;
            let (from, to) = (day("2024-01-01"), day("2024-01-03"));
            if let Err(difference) = differences(table, self.simulator.world(), rows, from, to) {
                writeln!(wrong, "{difference}").unwrap();
            }
        }
        wrong
    }
}

/// Kills programs of one fleet at points chosen by its seed, at most this many, and checks what one clean run makes of
/// what they left. Returns how many were killed.
async fn kill_and_look(seed: u64, kills: u64, double: Option<GcsDouble>) -> u64 {
    let mut dice = Dice(seed);
    let hours = Duration::from_secs(3600 * (1 + dice.below(20)));
    let late = LateData {
        before: day(["2024-01-02", "2024-01-03"][dice.below(2) as usize]),
        withhold: hours,
    };
    let scene = Scene::new(seed, double, Some(late)).await;
    let mut replay = format!("CHAOS_SEED={seed}, {late:?}:");
    let mut killed = 0;
    // First everything is new; then a day that was read completely has changed, and is all that is left to do.
    for (what, share) in [("new", 1), ("changed", 4)] {
        let mut points = Vec::new();
        while killed < kills && (points.len() as u64) < KILLS_OF_ONE {
            let point = Point::choose(&mut dice, share * scene.share());
            scene.forget_requests();
            let before = point.count(&scene);
            let goes_on = dice.below(2) == 0;
            let child = scene.program.start(&scene.run(goes_on), Stdio::null());
            if !scene.kill_at(point, child, before).await {
                // It was done before it came to the point: nothing is left to be killed.
                break;
            }
            killed += 1;
            points.push(point);
        }
        write!(replay, " {what}, killed at {points:?};").unwrap();
        let goes_on = dice.below(2) == 0;
        let ran = scene.program.run(&scene.run(goes_on)).await;
        assert_eq!(ran.code, 0, "{replay}\n{}", ran.stderr);
        if what == "changed" {
            let again: Vec<&str> = FOUND_BY_LOOKBACK
                .iter()
                .flat_map(|table| ["--table", *table])
                .collect();
            scene
                .program
                .succeed(&[RUN, &["--historical"], &again].concat())
                .await;
        }
        let wrong = scene.wrong_tables().await;
        assert!(wrong.is_empty(), "{replay}\n{wrong}");
        scene.simulator.release_late();
    }
    // Leftovers of the killed runs have no effect: without them everything is the same.
    scene.program.succeed(&["clean", "--older-than", "0"]).await;
    let wrong = scene.wrong_tables().await;
    assert!(wrong.is_empty(), "{replay}, then cleaned\n{wrong}");
    println!("{replay}: whole");
    killed
}

/// The same for one fleet after the other, some at a time, until this many programs were killed.
async fn kill_fleets(kills: u64, double: fn() -> Option<GcsDouble>) {
    let mut seed = setting("CHAOS_SEED", 1);
    let mut left = kills;
    while left > 0 {
        let fleets = left.div_ceil(2 * KILLS_OF_ONE).min(FLEETS_AT_A_TIME);
        let fleets = (seed..seed + fleets).map(|seed| kill_and_look(seed, left, double()));
        let killed = join_all(fleets).await;
        seed += killed.len() as u64;
        left = left.saturating_sub(killed.iter().sum());
    }
}

/// Starts two programs together, and looks at what they made.
async fn pair_and_look(seed: u64, double: Option<GcsDouble>) {
    let scene = Scene::new(seed, double, None).await;
    // In turn: the second gives up, or waits.
    let more: &[&str] = if seed.is_multiple_of(2) {
        &["--wait"]
    } else {
        &[]
    };
    let arguments = [&scene.run(false), more].concat();
    let (one, two) = tokio::join!(scene.program.run(&arguments), scene.program.run(&arguments));
    let replay = format!("CHAOS_SEED={seed} CHAOS_PAIRS=1");
    let mut codes = [one.code, two.code];
    codes.sort_unstable();
    let fine = codes == [0, 0] || (more.is_empty() && codes == [0, 4]);
    assert!(fine, "{replay}: {codes:?}\n{}\n{}", one.stderr, two.stderr);
    let wrong = scene.wrong_tables().await;
    assert!(wrong.is_empty(), "{replay}\n{wrong}");
    println!("{replay}: {codes:?}, whole");
}

/// The same for so many fleets, some at a time.
async fn pair_fleets(pairs: u64, double: fn() -> Option<GcsDouble>) {
    let seed = setting("CHAOS_SEED", 1);
    let fleets = stream::iter(seed..seed + pairs).map(|seed| pair_and_look(seed, double()));
    fleets
        .buffer_unordered(FLEETS_AT_A_TIME as usize)
        .collect::<()>()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_then_one_clean_run() {
    kill_fleets(setting("CHAOS_KILLS", 8), || None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_over_faulty_buckets() {
    kill_fleets(setting("CHAOS_KILLS", 8) / 3, || {
        Some(faults::faulty_buckets())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pairs_make_what_one_would() {
    pair_fleets(setting("CHAOS_PAIRS", 2), || None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pairs_over_faulty_buckets() {
    pair_fleets(setting("CHAOS_PAIRS", 2).div_ceil(3), || {
        Some(faults::faulty_buckets())
    })
    .await;
}
