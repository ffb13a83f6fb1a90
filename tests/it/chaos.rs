//! Killed at any point, started twice: one clean run later, every table is what one undisturbed run would have made.
//!
//! `CHAOS_KILLS` (12 unless set) is how often the program is killed, `CHAOS_PAIRS` (3) how often two of it are started
//! together, `CHAOS_SEED` (1) chooses the points, the faults and the fleet. A failure prints its seed, and that seed
//! chooses the same points again. The long one: `CHAOS_KILLS=120 CHAOS_PAIRS=20 cargo test --test it chaos`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use samsara_etl::simulator::{Simulator, World};
use tokio::process::Child;

use crate::program::{Program, simulator};
use crate::truth::{day, differences, local_rows, local_tables};

const RUN: &[&str] = &["run", "--start_date", "01/01/2024", "--end_date", "03/01/2024", "--max_workers", "8"];
const FAULTS: &str = "429=0.03,500=0.02,503=0.02,504=0.01,reset=0.02,truncate=0.02,slow=0.03,duplicate=0.05";
/// A program is killed this often before it may finish: a point early in the first run, later ones in what is left.
const KILLS_OF_ONE: u64 = 6;

pub(crate) fn told(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Numbers from a seed (splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % limit
    }
}

/// Where a program is killed: a number of things that can be seen to have happened.
#[derive(Debug, Clone, Copy)]
enum Point {
    /// After this many answers of the API.
    Answers(u64),
    /// After this many changes of files below this folder.
    Files(&'static str, u64),
}

impl Point {
    fn choose(dice: &mut Dice) -> Self {
        match dice.below(6) {
            0 | 1 => Self::Answers(1 + dice.below(90)),
            2 => Self::Files("raw/raw", 1 + dice.below(25)),
            3 => Self::Files("raw/state", 1 + dice.below(15)),
            4 => Self::Files("flattened", 1 + dice.below(20)),
            _ => Self::Files("warehouse", 1 + dice.below(20)),
        }
    }

    fn count(self, simulator: &Simulator, program: &Program) -> u64 {
        match self {
            Self::Answers(_) => simulator.requests().len() as u64,
            Self::Files(folder, _) => files(&program.folder().join("samsara-data").join(folder)),
        }
    }

    fn limit(self) -> u64 {
        match self {
            Self::Answers(limit) | Self::Files(_, limit) => limit,
        }
    }
}

fn files(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.flatten().map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
}

/// Lets the program run up to `point` and kills it there; tells whether it was still alive.
async fn kill_at(point: Point, mut child: Child, simulator: &Simulator, program: &Program, before: u64) -> bool {
    loop {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if point.count(simulator, program) >= before + point.limit() {
            child.kill().await.unwrap();
            return true;
        }
        // Not a guess at a duration: only how often one looks.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn wrong_tables(program: &Program, world: &World) -> String {
    let mut wrong = String::new();
    let tables = local_tables(&program.folder().join("samsara-data/warehouse")).await;
    for table in world.tables() {
        let rows = local_rows(&tables, table).await;
        match differences(table, world, rows, day("2024-01-01"), day("2024-01-03")) {
            Ok(_) => {}
            Err(difference) => writeln!(wrong, "{difference}").unwrap(),
        }
    }
    wrong
}

async fn faulty(seed: u64) -> Simulator {
    simulator(|config| {
        config.seed = seed;
        config.faults = FAULTS.parse().unwrap();
        config.slow_body_pause = Duration::from_millis(2);
        // Small pages: many answers, many points.
        config.page_size = Some(10);
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_point_one_clean_run_makes_every_table_whole() {
    let (kills, mut seed) = (told("CHAOS_KILLS", 12), told("CHAOS_SEED", 1));
    let mut killed = 0;
    while killed < kills {
        let mut dice = Dice(seed);
        let simulator = faulty(seed).await;
        let program = Program::with_simulator(&simulator);
        let mut points = Vec::new();
        while killed < kills && (points.len() as u64) < KILLS_OF_ONE {
            let point = Point::choose(&mut dice);
            simulator.clear_requests();
            let before = point.count(&simulator, &program);
            let child = program.start(RUN, Stdio::null());
            if !kill_at(point, child, &simulator, &program, before).await {
                // It was done before it came to the point: nothing is left to be killed.
                break;
            }
            killed += 1;
            points.push(point);
        }
        let ran = program.run(RUN).await;
        let replay = format!("CHAOS_SEED={seed}: killed at {points:?}");
        assert_eq!(ran.code, 0, "{replay}\n{}", ran.stderr);
        let wrong = wrong_tables(&program, simulator.world()).await;
        assert!(wrong.is_empty(), "{replay}\n{wrong}");
        // What the killed runs left behind counts for nothing: without it all is the same.
        program.succeed(&["clean", "--older-than", "0"]).await;
        let wrong = wrong_tables(&program, simulator.world()).await;
        assert!(wrong.is_empty(), "{replay}, then cleaned\n{wrong}");
        println!("{replay}: whole");
        seed += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_started_together_make_what_one_would() {
    let (pairs, seed) = (told("CHAOS_PAIRS", 3), told("CHAOS_SEED", 1));
    for seed in seed..seed + pairs {
        let simulator = faulty(seed).await;
        let program = Program::with_simulator(&simulator);
        // In turn: the second gives up, or waits.
        let more: &[&str] = if seed.is_multiple_of(2) { &["--wait"] } else { &[] };
        let arguments = [RUN, more].concat();
        let (one, two) = tokio::join!(program.run(&arguments), program.run(&arguments));
        let replay = format!("CHAOS_SEED={seed} CHAOS_PAIRS=1");
        let mut codes = [one.code, two.code];
        codes.sort_unstable();
        let fine = codes == [0, 0] || (more.is_empty() && codes == [0, 4]);
        assert!(fine, "{replay}: {codes:?}\n{}\n{}", one.stderr, two.stderr);
        let wrong = wrong_tables(&program, simulator.world()).await;
        assert!(wrong.is_empty(), "{replay}\n{wrong}");
        println!("{replay}: {codes:?}, whole");
    }
}
