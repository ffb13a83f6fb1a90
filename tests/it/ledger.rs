//! The extract side of the ledger: each record of the API is one raw row, of one partition.

use std::sync::Arc;

use samsara_etl::catalog::Catalog;
use samsara_etl::config::{
    BucketLocation, GoogleAccess, HttpConfig, RetryConfig, SamsaraConfig, Secret,
};
use samsara_etl::events::Observers;
use samsara_etl::extract::{ExtractTask, Extractor, Scope};
use samsara_etl::samsara::Client;
use samsara_etl::store::Bucket;
use samsara_etl::store::layout::RunId;
use tokio::runtime::Handle;

use crate::program::{Program, simulator};
use crate::rerun::copy_families;
use crate::truth::day;

#[tokio::test(flavor = "multi_thread")]
async fn doubly_owned_rows_fail() {
    let simulator = simulator(|_| ()).await;
    let folder = tempfile::tempdir().unwrap();
    let location = BucketLocation::Folder(folder.path().to_path_buf());
    let config = SamsaraConfig {
        token: Some(Secret::new(simulator.token())),
        url: Some(simulator.url().parse().unwrap()),
        rate_share: 1.0,
        retry: RetryConfig::default(),
        http: HttpConfig::default(),
    };
    let observer = Arc::new(Observers::new(vec![]));
    let extractor = Extractor {
        client: Client::connect(&config, observer.clone()).await.unwrap(),
        bucket: Bucket::open(&location, &GoogleAccess::default(), &Handle::current()).unwrap(),
        run: RunId::new(chrono::Utc::now()),
        objects: Arc::default(),
        cpu: Handle::current(),
        observer,
        checkpoint_every: 50,
    };
    let catalog = Catalog::open(None).unwrap();
    let first = day("2024-01-02").date_naive();
    for (source, days, fails) in [
        ("fleet_vehicle_stats_gps", vec![first, first], true),
        ("fleet_vehicle_stats_gps", vec![first], false),
        ("fleet_vehicle_idling", vec![first, first], true),
        (
            "fleet_vehicle_idling",
            vec![first, first.succ_opt().unwrap()],
            false,
        ),
        // Without a time of their own, all rows are the day's.
        (
            "fleet_vehicles_fuel_energy",
            vec![first, first.succ_opt().unwrap()],
            true,
        ),
    ] {
        let sources = vec![catalog.source(source).unwrap().clone()];
        let task = Arc::new(ExtractTask {
            sources,
            scope: Scope::Days(days),
            parents: vec![],
        });
        let error = extractor
            .read(task, None, None)
            .await
            .err()
            .map(|error| error.to_string());
        assert_eq!(error.is_some(), fails, "{source}: {error:?}");
        let told = error
            .is_none_or(|error| error.contains(source) && error.contains("by more than one day"));
        assert!(told, "{source}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_raw_objects_are_named() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    let dates = ["--start_date", "01/01/2024", "--end_date", "03/01/2024"];
    let tables = [
        "--table",
        "fleet_vehicle_stats_gps",
        "--table",
        "fleet_trips",
        "--table",
        "fleet_vehicles",
    ];
    program
        .succeed(&[&["run"], &dates[..], &tables].concat())
        .await;
    let count = "SELECT (SELECT count(*) FROM fleet_vehicle_stats_gps) AS gps, (SELECT count(*) FROM fleet_trips) AS trips";
    let before = program.rows(count).await;
    let object = |source: &str| {
        let files = program.files(&format!("samsara-data/raw/raw/{source}"));
        files.into_iter().map(|(path, ..)| path).min().unwrap()
    };
    let (gps, vehicles) = (object("fleet_vehicle_stats_gps"), object("fleet_vehicles"));
    let kept = std::fs::read(&vehicles).unwrap();
    std::fs::remove_file(&gps).unwrap();
    std::fs::write(&vehicles, &kept[..kept.len() - 1]).unwrap();
    for (path, text) in [
        ("fleet_vehicle_stats_gps", gps.as_str()),
        ("fleet_vehicles", &vehicles),
    ] {
        // Derived again, because the model has changed.
        let folder = if path == "fleet_vehicles" {
            "vehicles"
        } else {
            "vehicle_stats"
        };
        let model = format!("sql/{folder}/{path}.sql");
        copy_families(&program, &["assets", "trips", "vehicle_stats", "vehicles"]);
        let sql = std::fs::read_to_string(program.folder().join(&model)).unwrap();
        program.write(&model, format!("{sql}\nLIMIT 1000000000\n"));
        let ran = program
            .run(&["run", "--stages", "transform,load", "--table", path])
            .await;
        let name = text.rsplit('/').next().unwrap();
        assert!(
            ran.code != 0 && ran.stderr.contains(name) && ran.stderr.contains("--historical"),
            "{}",
            ran.stderr
        );
    }
    assert_eq!(program.rows(count).await, before);
    // Nor is a vehicle left out of what is requested each.
    let later = [
        "run",
        "--start_date",
        "03/01/2024",
        "--end_date",
        "04/01/2024",
        "--table",
        "fleet_trips",
    ];
    let ran = program.run(&later).await;
    assert!(
        ran.code != 0 && ran.stderr.contains("--historical"),
        "{}",
        ran.stderr
    );
    // What the message advises mends it.
    program
        .succeed(&[&["run", "--historical"], &dates[..], &tables].concat())
        .await;
    assert_eq!(program.rows(count).await, before);
}
