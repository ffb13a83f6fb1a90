//! Every model has a case of its own: recorded pages in, rows by hand out.

use std::path::Path;

use samsara_etl::catalog::Catalog;
use samsara_etl::sql_tests::test_model;

#[tokio::test(flavor = "multi_thread")]
async fn every_model_passes_its_case() {
    let sql = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
    let catalog = Catalog::open(Some(&sql)).unwrap();
    let mut wrong = Vec::new();
    for model in catalog.models() {
        if let Err(error) =
            test_model(&catalog, model, &sql.join(&model.family).join("tests")).await
        {
            wrong.push(format!("{}: {error}", model.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_that_does_not_match_fails() {
    let sql = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
    let catalog = Catalog::open(Some(&sql)).unwrap();
    let model = catalog.model("fleet_vehicle_stats_engineRpm").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let tests = sql.join("vehicle_stats/tests");
    for suffix in ["pages.json", "expected.csv"] {
        let name = format!("{}.{suffix}", model.name);
        let text = std::fs::read_to_string(tests.join(&name)).unwrap();
        std::fs::write(folder.path().join(name), text.replace("1310.0", "1311.0")).unwrap();
    }
    let error = test_model(&catalog, model, folder.path())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("engineRpm: `1311.0` expected, `1310.0` found"),
        "{error}"
    );
}
