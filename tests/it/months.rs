//! Reports on whole months, which are available some days after their end.

use chrono::{Days, Months, NaiveDate, NaiveTime, TimeDelta, Utc};

use crate::program::{Program, simulator};
use crate::truth::compare;

const TABLES: [&str; 3] = [
    "fleet_ifta_jurisdiction",
    "fleet_ifta_troubleshooting",
    "fleet_ifta_vehicle",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_month_is_read_once_it_is_ready() {
    // A month that ended some weeks ago: long enough to be requested, and not so long that it is final.
    let today = Utc::now().date_naive();
    let first = (today - Days::new(40)).format("%Y-%m-01").to_string();
    let first: NaiveDate = first.parse().unwrap();
    let end = first + Months::new(1);
    let midnight = |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc();
    // The service is behind with it.
    let behind = Some(midnight(end) + TimeDelta::hours(30));
    let simulator = simulator(|config| config.now = behind).await;
    let program = Program::with_simulator(&simulator);
    // Some days of the month are enough to ask for it, once.
    let (from, to) = (first + Days::new(4), first + Days::new(9));
    let (from, to) = (from.to_string(), to.to_string());
    let mut run = vec!["run", "--start-date", &from, "--end-date", &to];
    run.extend(TABLES.iter().flat_map(|table| ["--table", table]));
    let told = program.succeed(&run).await.stderr;
    assert!(told.contains("not ready yet"), "{told}");

    simulator.set_now(midnight(end) + TimeDelta::hours(80));
    simulator.clear_requests();
    let told = program.succeed(&run).await.stderr;
    assert!(!told.contains("not ready yet"), "{told}");
    let requests = simulator.requests();
    let asked = |path: &str| requests.iter().filter(|it| it.path == path).count();
    assert_eq!(asked("/fleet/reports/ifta/jurisdiction"), 1);
    assert_eq!(asked("/fleet/reports/ifta/vehicle"), 1);
    for table in TABLES {
        let (from, to) = (midnight(first), midnight(end));
        let rows = compare(&program, simulator.world(), table, from, to).await;
        assert_eq!(rows, Ok(1), "{table}");
    }
}
