//! The double as the client library and a bare HTTP client see it.

use std::time::Duration;

use gcp_bigquery_client::{
    Client,
    error::BQError,
    model::{
        dataset::Dataset, job::Job, job_configuration::JobConfiguration,
        job_configuration_load::JobConfigurationLoad, job_reference::JobReference, table::Table,
        table_field_schema::TableFieldSchema, table_reference::TableReference,
        table_schema::TableSchema,
    },
};
use serde_json::{Value, json};

use super::{BigQueryDouble, JobScript, bad_gateway, error};
use crate::support::{
    bigquery_client,
    faults::{Action, Fault},
};

const PROJECT: &str = "test-project";

fn schema() -> TableSchema {
    TableSchema::new(vec![TableFieldSchema::integer("id")])
}

fn job(id: &str, table: &str) -> Job {
    let load = JobConfigurationLoad {
        source_uris: Some(vec![
            "gs://b/1.parquet".to_owned(),
            "gs://b/2.parquet".to_owned(),
        ]),
        source_format: Some("PARQUET".to_owned()),
        destination_table: Some(TableReference::new(PROJECT, "d", table)),
        schema: Some(schema()),
        ..JobConfigurationLoad::default()
    };
    Job {
        job_reference: Some(JobReference {
            project_id: Some(PROJECT.to_owned()),
            job_id: Some(id.to_owned()),
            location: None,
        }),
        configuration: Some(JobConfiguration {
            load: Some(load),
            ..JobConfiguration::default()
        }),
        ..Job::default()
    }
}

async fn insert(client: &Client, id: &str) -> Result<Job, BQError> {
    client.job().insert(PROJECT, job(id, "t$20240101")).await
}

async fn get(client: &Client, id: &str) -> Result<Job, BQError> {
    client.job().get_job(PROJECT, id, None).await
}

fn state(job: &Job) -> &str {
    job.status.as_ref().unwrap().state.as_deref().unwrap()
}

fn code_and_reason(result: Result<Job, BQError>) -> (i64, String) {
    match result {
        Err(BQError::ResponseError { error }) => {
            (error.error.code, error.error.errors[0]["reason"].clone())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_job_reports_its_rows() {
    let double = BigQueryDouble::start(&["d"]);
    let client = bigquery_client::connect(double.url()).await;
    double.count_rows(|uris| 10 * uris.len() as u64);
    double.direct_jobs(|_| JobScript {
        pending_polls: 2,
        ..JobScript::default()
    });

    assert_eq!(state(&insert(&client, "j").await.unwrap()), "PENDING");
    assert_eq!(state(&get(&client, "j").await.unwrap()), "PENDING");
    assert_eq!(state(&get(&client, "j").await.unwrap()), "RUNNING");
    assert!(double.table("d.t").is_none());
    let done = get(&client, "j").await.unwrap();
    assert_eq!(state(&done), "DONE");
    assert_eq!(
        done.statistics.unwrap().load.unwrap().output_rows.unwrap(),
        "20"
    );
    assert_eq!(
        double.table("d.t").unwrap()["schema"]["fields"][0]["name"],
        "id"
    );

    let jobs = double.jobs();
    assert_eq!((jobs[0].table.as_str(), jobs[0].polls), ("d.t$20240101", 3));
    assert_eq!(jobs[0].uris, ["gs://b/1.parquet", "gs://b/2.parquet"]);
    assert_eq!(jobs[0].configuration["load"]["sourceFormat"], "PARQUET");
}

#[tokio::test]
async fn a_job_fails_or_lasts_as_it_is_told() {
    let double = BigQueryDouble::start(&["d"]);
    let client = bigquery_client::connect(double.url()).await;
    let at_once = || JobScript {
        pending_polls: 0,
        running_polls: 0,
        ..JobScript::default()
    };
    double.direct_jobs(move |job| match job.id.as_str() {
        "fails" => JobScript {
            error: Some(("quotaExceeded", "Quota exceeded")),
            ..at_once()
        },
        "lasts" => JobScript {
            lasts: Duration::from_secs(3600),
            ..at_once()
        },
        _ => JobScript {
            output_rows: Some(7),
            ..at_once()
        },
    });

    let failed = insert(&client, "fails").await.unwrap();
    assert_eq!(state(&failed), "DONE");
    let result = failed.status.unwrap().error_result.unwrap();
    assert_eq!(result.reason.unwrap(), "quotaExceeded");
    assert!(double.table("d.t").is_none());
    assert_eq!(state(&insert(&client, "lasts").await.unwrap()), "RUNNING");
    assert_eq!(state(&get(&client, "lasts").await.unwrap()), "RUNNING");
    let done = insert(&client, "other").await.unwrap();
    assert_eq!(
        done.statistics.unwrap().load.unwrap().output_rows.unwrap(),
        "7"
    );
}

#[tokio::test]
async fn a_lost_answer_is_found_again_by_the_job_id() {
    let double = BigQueryDouble::start(&["d"]);
    let client = bigquery_client::connect(double.url()).await;
    double.direct_jobs(|_| JobScript {
        hidden_polls: 2,
        ..JobScript::default()
    });
    double.fault(Fault::on("POST", "jobs/j", Action::DropAfter).nth(1));

    let lost = insert(&client, "j").await;
    assert!(matches!(lost, Err(BQError::RequestError(_))), "{lost:?}");
    let duplicate = (409, "duplicate".to_owned());
    assert_eq!(code_and_reason(insert(&client, "j").await), duplicate);
    let missing = (404, "notFound".to_owned());
    assert_eq!(code_and_reason(get(&client, "j").await), missing);
    assert_eq!(code_and_reason(get(&client, "j").await), missing);
    assert_eq!(state(&get(&client, "j").await.unwrap()), "RUNNING");
    assert_eq!((double.inserts(), double.jobs().len()), (2, 1));

    double.fault(Fault::on("POST", "jobs/k", Action::DropBefore).nth(1));
    assert!(insert(&client, "k").await.is_err());
    assert_eq!(double.jobs().len(), 1);
    assert!(insert(&client, "k").await.is_ok());
}

#[tokio::test]
async fn refusals_have_the_service_s_form() {
    let double = BigQueryDouble::start(&["d"]);
    let client = bigquery_client::connect(double.url()).await;
    double.fault(
        Fault::on(
            "POST",
            "jobs/",
            error(403, "rateLimitExceeded", "Exceeded rate limits"),
        )
        .nth(1),
    );
    double.fault(Fault::on("POST", "jobs/", bad_gateway()).nth(2));
    double.fault(Fault::on("POST", "jobs/", Action::Status(503)).nth(3));

    assert_eq!(
        code_and_reason(insert(&client, "j").await),
        (403, "rateLimitExceeded".to_owned())
    );
    // This client takes every error for JSON.
    let html = insert(&client, "j").await;
    assert!(matches!(html, Err(BQError::RequestError(_))), "{html:?}");
    assert_eq!(
        code_and_reason(insert(&client, "j").await),
        (503, "backendError".to_owned())
    );
    double.clear_faults();
    assert!(insert(&client, "j").await.is_ok());
    let statuses: Vec<_> = double
        .requests()
        .iter()
        .map(|request| request.status)
        .collect();
    assert_eq!(statuses, [Some(403), Some(502), Some(503), Some(200)]);

    assert_eq!(
        code_and_reason(insert(&client, "a.b").await),
        (400, "invalid".to_owned())
    );
    let mut elsewhere = job("elsewhere", "t");
    elsewhere.job_reference.as_mut().unwrap().location = Some("EU".to_owned());
    let refused = client.job().insert(PROJECT, elsewhere).await;
    assert_eq!(code_and_reason(refused), (404, "notFound".to_owned()));
    assert_eq!(double.jobs().len(), 1);
}

#[tokio::test]
async fn datasets_and_tables_are_made_once_and_patched() {
    let double = BigQueryDouble::start(&[]);
    let client = bigquery_client::connect(double.url()).await;
    assert_eq!(double.project(), PROJECT);
    assert!(client.dataset().get(PROJECT, "d").await.is_err());
    let dataset = || Dataset::new(PROJECT, "d").location("EU");
    client.dataset().create(dataset()).await.unwrap();
    assert!(client.dataset().create(dataset()).await.is_err());
    let found = client.dataset().get(PROJECT, "d").await.unwrap();
    assert_eq!(found.location.as_deref(), Some("EU"));

    assert!(client.table().get(PROJECT, "d", "t", None).await.is_err());
    let table = || Table::new(PROJECT, "d", "t", schema());
    client.table().create(table()).await.unwrap();
    assert!(client.table().create(table()).await.is_err());

    let url = format!(
        "{}/bigquery/v2/projects/{PROJECT}/datasets/d/tables/t",
        double.url()
    );
    let patch = reqwest::Client::new()
        .patch(url)
        .json(&json!({ "description": "of trips" }));
    let patched: Value = patch.send().await.unwrap().json().await.unwrap();
    assert_eq!(patched["description"], "of trips");
    let found = client.table().get(PROJECT, "d", "t", None).await.unwrap();
    assert_eq!(found.description.as_deref(), Some("of trips"));
    assert_eq!(found.schema.fields.unwrap()[0].name, "id");

    // A job is in the location of its dataset, and outside of US and EU only found there.
    assert_eq!(
        insert(&client, "j")
            .await
            .unwrap()
            .job_reference
            .unwrap()
            .location
            .as_deref(),
        Some("EU")
    );
    let elsewhere = client.job().get_job(PROJECT, "j", Some("US")).await;
    assert_eq!(code_and_reason(elsewhere).0, 404);
}
