//! What `check` reports about a dataset.

use std::time::Duration;

use crate::config::GoogleAccess;
use crate::load::bigquery::client::BigQuery;
use crate::load::bigquery::timings::Timings;
use crate::load::finding::Finding;
use crate::load::location;

/// `check` is interactive, so it retries for a short time only.
const RETRY_FOR: Duration = Duration::from_secs(10);

impl BigQuery {
    /// Checks dataset and permissions without creating anything.
    pub(in crate::load) async fn examine(
        project: &str,
        dataset: &str,
        location: Option<&str>,
        bucket: Option<&str>,
        access: &GoogleAccess,
    ) -> Vec<Finding> {
        let timings = Timings {
            retry_for: RETRY_FOR,
            ..Timings::default().scaled(access.wait_scale)
        };
        let mut warehouse = match Self::with_access(project, dataset, access, timings).await {
            Ok(warehouse) => warehouse,
            Err(error) => return vec![Finding::bad("BigQuery credentials", error.to_string())],
        };
        if let Err(error) = warehouse.tokens.refresh().await {
            return vec![Finding::bad("BigQuery credentials", error.to_string())];
        }
        let mut findings = Vec::new();
        let exists = warehouse.examine_dataset(location, &mut findings).await;
        let place = warehouse.location().or(location);
        if let Some(bucket) = bucket
            && let Err(error) = location::check(&warehouse.target, place, bucket, access).await
        {
            findings.push(Finding::bad("location", error.to_string()));
        }
        warehouse.examine_permissions(exists, &mut findings).await;
        findings
    }

    /// Whether the dataset exists; none if that is not known.
    async fn examine_dataset(
        &mut self,
        location: Option<&str>,
        findings: &mut Vec<Finding>,
    ) -> Option<bool> {
        let name = format!("dataset {}.{}", self.project, self.dataset);
        let found = self.find_dataset(location).await;
        findings.push(match &found {
            Ok(true) => Finding::good(
                name,
                format!("exists, in {}", self.location().unwrap_or("?")),
            ),
            Ok(false) => Finding::note(
                name,
                "does not exist: the first load creates it, which needs bigquery.datasets.create (role bigquery.user)",
            ),
            Err(error) => Finding::bad(name, error.to_string()),
        });
        found.ok()
    }

    /// Whether jobs may be started and tables created. A dry run checks permissions too:
    /// <https://github.com/mozilla/bigquery-etl/pull/1805>
    async fn examine_permissions(&self, exists: Option<bool>, findings: &mut Vec<Finding>) {
        let (project, dataset) = (&self.project, &self.dataset);
        let what = format!("jobs in {project}");
        if let Err(error) = self.dry_run("SELECT 1").await {
            findings.push(Finding::bad(what, error.to_string()));
            return;
        }
        findings.push(Finding::good(what, "may be started (tried with a dry run)"));
        let (what, statement) = match exists {
            Some(true) => (
                format!("tables in {project}.{dataset}"),
                format!("CREATE TABLE `{project}.{dataset}.samsara_etl_check` (x INT64)"),
            ),
            Some(false) => (
                format!("dataset {project}.{dataset}"),
                format!("CREATE SCHEMA `{project}.{dataset}`"),
            ),
            None => return,
        };
        findings.push(match self.dry_run(&statement).await {
            Ok(()) => Finding::good(what, "may be made (tried with a dry run)"),
            Err(error) => Finding::bad(what, format!("cannot be created: {error}")),
        });
    }
}
