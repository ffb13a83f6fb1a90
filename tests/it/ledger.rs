//! The extract side of the ledger: each record of the API is one raw row, of one partition.

use std::sync::Arc;

use samsara_etl::catalog::Catalog;
use samsara_etl::config::{BucketLocation, GoogleAccess, RetryConfig, SamsaraConfig, Secret};
use samsara_etl::events::Observers;
use samsara_etl::extract::{Extractor, Scope, Walk};
use samsara_etl::samsara::Client;
use samsara_etl::store::Bucket;
use samsara_etl::store::layout::RunId;
use tokio::runtime::Handle;

use crate::program::simulator;
use crate::truth::day;

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_two_partitions_would_hold_fail_their_walk() {
    let simulator = simulator(|_| ()).await;
    let folder = tempfile::tempdir().unwrap();
    let location = BucketLocation::Folder(folder.path().to_path_buf());
    let config = SamsaraConfig {
        token: Some(Secret::new(simulator.token())),
        url: Some(simulator.url().parse().unwrap()),
        rate_share: 1.0,
        retry: RetryConfig::default(),
    };
    let observer = Arc::new(Observers::new(vec![]));
    let extractor = Extractor {
        client: Client::connect(&config, observer.clone()).await.unwrap(),
        bucket: Bucket::open(&location, &GoogleAccess::default(), &Handle::current()).unwrap(),
        run: RunId::new(chrono::Utc::now()),
        objects: Arc::default(),
        cpu: Handle::current(),
        observer,
        note_every: 50,
    };
    let catalog = Catalog::open(None).unwrap();
    let first = day("2024-01-02").date_naive();
    for (source, days, fails) in [
        ("fleet_vehicle_stats_gps", vec![first, first], true),
        ("fleet_vehicle_stats_gps", vec![first], false),
        ("fleet_vehicle_idling", vec![first, first], true),
        ("fleet_vehicle_idling", vec![first, first.succ_opt().unwrap()], false),
        // Without a time of their own, all rows are the day's.
        ("fleet_vehicles_fuel_energy", vec![first, first.succ_opt().unwrap()], true),
    ] {
        let sources = vec![catalog.source(source).unwrap().clone()];
        let walk = Arc::new(Walk { sources, scope: Scope::Days(days), parents: vec![] });
        let error = extractor.read(walk, None, None).await.err().map(|error| error.to_string());
        assert_eq!(error.is_some(), fails, "{source}: {error:?}");
        let told = error.is_none_or(|error| error.contains(source) && error.contains("by more than one day"));
        assert!(told, "{source}");
    }
}
