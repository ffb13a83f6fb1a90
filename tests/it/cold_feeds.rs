//! Feeds of changed days that start without a position: rows that came late meanwhile are found all the same.

use std::time::Duration;

use chrono::{Days, NaiveDate, NaiveTime, SecondsFormat, TimeDelta, Utc};
use samsara_simulator::{LateData, Simulator};
use serde_json::{Value, json};

use crate::late::{FEED, asked};
use crate::program::{Program, simulator};
use crate::truth::{compare, differences, local_rows, local_tables};

const TABLE: &str = "fleet_vehicle_stats_engineRpm";

/// A fleet, and four days that are final once they are read. Most readings of the second are not on the server yet.
struct Fleet {
    simulator: Simulator,
    program: Program,
    days: Vec<NaiveDate>,
}

impl Fleet {
    async fn new() -> Self {
        let first = Utc::now().date_naive() - Days::new(9);
        let days: Vec<NaiveDate> = first.iter_days().take(4).collect();
        let before = days[2].and_time(NaiveTime::MIN).and_utc();
        let withhold = Duration::from_secs(18 * 3600);
        let simulator = simulator(|config| {
            config.now = None;
            config.late = Some(LateData { before, withhold });
        })
        .await;
        let program = Program::with_simulator(&simulator);
        Self {
            simulator,
            program,
            days,
        }
    }

    fn end(&self) -> NaiveDate {
        self.days[3] + Days::new(1)
    }

    /// A run over the four days; gives the days it requested, and what it said.
    async fn run(&self, flags: &[&str]) -> (Vec<String>, String) {
        self.simulator.clear_requests();
        let (start, end) = (self.days[0].to_string(), self.end().to_string());
        let arguments = [
            "run",
            "--start-date",
            &start,
            "--end-date",
            &end,
            "--table",
            TABLE,
        ];
        let ran = self.program.succeed(&[&arguments, flags].concat()).await;
        (asked(&self.simulator), ran.stderr)
    }

    fn names(&self) -> Vec<String> {
        self.days.iter().map(ToString::to_string).collect()
    }

    fn feeds_asked(&self) -> usize {
        self.simulator
            .requests()
            .iter()
            .filter(|request| request.path == FEED)
            .count()
    }

    async fn is_whole(&self) -> bool {
        let midnight = |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc();
        let (start, end) = (midnight(self.days[0]), midnight(self.end()));
        compare(&self.program, self.simulator.world(), TABLE, start, end)
            .await
            .is_ok()
    }

    /// Changes the state as time, or an older program, would have left it.
    fn edit(&self, edit: impl FnOnce(&mut Value)) {
        let path = format!("samsara-data/raw/state/{TABLE}.json");
        let mut state: Value =
            serde_json::from_slice(&std::fs::read(self.program.folder().join(&path)).unwrap())
                .unwrap();
        edit(&mut state);
        self.program.write(&path, state.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_position_rereads_affected_days() {
    for lose in ["refused", "old", "none"] {
        let fleet = Fleet::new().await;
        assert_eq!(fleet.run(&[]).await.0, fleet.names(), "{lose}");
        fleet.simulator.release_late();
        assert!(!fleet.is_whole().await, "{lose}");
        match lose {
            "refused" => fleet.simulator.expire_cursors(),
            "old" => {
                fleet.edit(|state| state["feed"]["at"] = json!(Utc::now() - TimeDelta::days(29)))
            }
            _ => fleet.edit(|state| {
                assert!(state.as_object_mut().unwrap().remove("feed").is_some());
            }),
        }
        let (asked, told) = fleet.run(&[]).await;
        assert_eq!(asked, fleet.names(), "{lose}");
        assert!(
            told.contains("no change feed was read meanwhile"),
            "{lose}: {told}"
        );
        assert!(fleet.is_whole().await, "{lose}");
        // Now there is a position again.
        assert_eq!(
            (fleet.run(&[]).await.0, fleet.feeds_asked()),
            (vec![], 1),
            "{lose}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settled_days_survive_a_lost_position() {
    let fleet = Fleet::new().await;
    fleet.run(&[]).await;
    let late = fleet.days[2] + Days::new(31);
    fleet.edit(|state| {
        state.as_object_mut().unwrap().remove("feed");
        for day in &fleet.days[..2] {
            state["partitions"][day.to_string()]["raw"]["extracted_at"] =
                json!(late.and_time(NaiveTime::MIN).and_utc());
        }
    });
    // A month behind the day, nothing is expected any more.
    assert_eq!(fleet.run(&[]).await.0, fleet.names()[2..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn historical_takes_a_position_first() {
    let fleet = Fleet::new().await;
    assert_eq!(
        (
            fleet.run(&["--historical"]).await.0,
            fleet.feeds_asked() > 0
        ),
        (fleet.names(), true)
    );
    // Where there is one, it is left alone.
    assert_eq!(
        (
            fleet.run(&["--historical"]).await.0,
            fleet.feeds_asked() > 0
        ),
        (fleet.names(), false)
    );
    fleet.simulator.release_late();
    assert_eq!(fleet.run(&[]).await.0, fleet.names()[1..2]);
    assert!(fleet.is_whole().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_with_a_memory_begins_within_it() {
    let simulator = simulator(|config| config.now = Some(Utc::now())).await;
    let program = Program::with_simulator(&simulator);
    let today = Utc::now().date_naive();
    let long_ago = (today - Days::new(20)).to_string();
    let run = ["run", "--table", "route_events", "--start-date", &long_ago];
    let midnight = |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc();
    let is_whole = async || {
        let (from, to) = (midnight(today - Days::new(5)), midnight(today));
        let rows = compare_days(&program, &simulator, "route_events", from, to).await;
        assert!(rows.as_ref().is_ok_and(|rows| *rows > 0), "{rows:?}");
    };
    // It would be refused if it were asked from the first day on.
    let told = program.succeed(&run).await.stderr;
    assert!(!told.contains("are lost"), "{told}");
    is_whole().await;
    // After some weeks without a run the position has expired.
    let path = "samsara-data/raw/state/route_events.json";
    let text = std::fs::read(program.folder().join(path)).unwrap();
    let mut state: Value = serde_json::from_slice(&text).unwrap();
    let at = Utc::now() - TimeDelta::days(40);
    state["feed"]["at"] = json!(at);
    program.write(path, state.to_string());
    // The plan knows already what will be lost, and the state keeps it.
    let lost = format!("{} to ", at.to_rfc3339_opts(SecondsFormat::Secs, true));
    let plan = program.succeed(&["plan", "--table", "route_events"]).await;
    assert!(
        plan.stdout.contains(&format!("route_events: {lost}")),
        "{}",
        plan.stdout
    );
    let told = program.succeed(&run).await.stderr;
    assert!(
        told.contains("are lost: the feed's position is gone"),
        "{told}"
    );
    is_whole().await;
    for again in [false, true] {
        if again {
            program.succeed(&run).await;
        }
        let status = program
            .succeed(&["status", "--table", "route_events"])
            .await;
        let line = format!("route_events {lost}");
        assert!(status.stdout.contains(&line), "{}", status.stdout);
        let plan = ["plan", "--table", "route_events", "--format", "json"];
        let plan: Value = serde_json::from_str(&program.succeed(&plan).await.stdout).unwrap();
        let gaps = plan["gaps"]["route_events"].as_array().unwrap();
        assert_eq!(gaps.len(), 1, "{plan}");
    }
    // Where the feed is read from before it, it is filled.
    let text = std::fs::read(program.folder().join(path)).unwrap();
    let mut state: Value = serde_json::from_slice(&text).unwrap();
    let since = Utc::now() - TimeDelta::days(2);
    let gap =
        json!([{ "from": since + TimeDelta::hours(1), "until": since + TimeDelta::hours(9) }]);
    let feed = state["feed"].as_object_mut().unwrap();
    feed.insert("gaps".into(), gap);
    feed.insert("since".into(), json!(since));
    feed.insert("at".into(), json!(since));
    simulator.expire_cursors();
    program.write(path, state.to_string());
    let told = program.succeed(&run).await.stderr;
    assert!(!told.contains("are lost"), "{told}");
    let text = std::fs::read_to_string(program.folder().join(path)).unwrap();
    assert!(!text.contains("\"gaps\""), "{text}");
}

/// Rows of some days of a table that has more.
async fn compare_days(
    program: &Program,
    simulator: &Simulator,
    table: &str,
    from: chrono::DateTime<Utc>,
    to: chrono::DateTime<Utc>,
) -> Result<usize, String> {
    let found = local_tables(&program.folder().join("samsara-data/warehouse")).await;
    let (first, end) = (from.to_rfc3339(), to.to_rfc3339());
    let is_asked = |row: &serde_json::Map<String, Value>| {
        let at = row["happenedAtTime"].as_str().unwrap();
        (&first[..10]..&end[..10]).contains(&&at[..10])
    };
    let rows = local_rows(&found, table).await;
    let rows = rows.into_iter().filter(is_asked).collect();
    differences(table, simulator.world(), rows, from, to)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_without_a_start_begins_now() {
    let begun = Utc::now();
    let simulator = simulator(|config| config.now = Some(begun)).await;
    let program = Program::with_simulator(&simulator);
    let tables = ["fleet_routes_audit_logs", "fleet_routes_audit_logs_stops"];
    let run = ["run", "--table", tables[0], "--table", tables[1]];
    program.succeed(&run).await;
    let found = async |table: &str| {
        let warehouse = program.folder().join("samsara-data/warehouse");
        if !warehouse.exists() {
            return Vec::new();
        }
        local_rows(&local_tables(&warehouse).await, table).await
    };
    assert_eq!(found(tables[0]).await.len(), 0);
    // What is changed from now on is found.
    let later = begun + TimeDelta::hours(6);
    simulator.set_now(later);
    program.succeed(&run).await;
    for table in tables {
        let day = begun.date_naive().and_time(NaiveTime::MIN).and_utc();
        let truth = simulator
            .world()
            .truth(table, day, day + TimeDelta::days(2))
            .unwrap();
        let time = |row: &serde_json::Map<String, Value>| {
            row["time"]
                .as_str()
                .unwrap()
                .parse::<chrono::DateTime<Utc>>()
                .unwrap()
        };
        let new = truth.iter().filter(|row| time(row) > begun).count();
        assert!(new > 0, "{table}");
        assert_eq!(found(table).await.len(), new, "{table}");
    }
}
