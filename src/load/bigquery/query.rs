//! Queries: rows per partition, keys in several partitions, and dry runs.

use std::collections::BTreeMap;

use gcp_bigquery_client::model::query_request::QueryRequest;
use serde_json::Value;

use crate::load::bigquery::call_error::CallError;
use crate::load::bigquery::client::BigQuery;
use crate::load::error::LoadError;
use crate::load::warehouse::RepeatedKeys;
use crate::store::layout::Partition;
use crate::transform::Contract;

/// How long `jobs.query` waits for the result, in milliseconds. Counting reads one column.
const QUERY_TIMEOUT_MS: i32 = 60_000;

impl BigQuery {
    /// Rows that a table holds, by partition.
    pub(super) async fn count_rows(
        &self,
        contract: &Contract,
    ) -> Result<BTreeMap<Partition, u64>, LoadError> {
        let day = match &contract.partition_by {
            Some(name) => format!("FORMAT_DATE('%Y-%m-%d', DATE(`{name}`))"),
            None => "'snapshot'".into(),
        };
        let sql = format!(
            "SELECT {day} AS day, COUNT(*) AS n FROM `{}`.`{}`.`{}` GROUP BY 1",
            self.project, self.dataset, contract.table
        );
        let rows = self.rows_of(contract, sql).await?;
        rows.into_iter()
            .map(|row| parse_count(row).map_err(|error| self.failed(contract, error)))
            .collect()
    }

    /// The keys that occur in more than one day of a table. It reads the columns of the key and the day.
    pub(super) async fn find_repeated_keys(
        &self,
        contract: &Contract,
        key: &[String],
    ) -> Result<RepeatedKeys, LoadError> {
        let Some(partition_by) = &contract.partition_by else {
            return Ok(RepeatedKeys::default());
        };
        let table = format!("`{}`.`{}`.`{}`", self.project, self.dataset, contract.table);
        let sql = RepeatedKeys::sql(
            &table,
            partition_by,
            key,
            |name| format!("`{name}`"),
            |column| format!("CAST({column} AS STRING)"),
            |column| format!("FORMAT_DATE('%Y-%m-%d', DATE({column}))"),
        );
        let rows = self.rows_of(contract, sql).await?;
        RepeatedKeys::of_rows(rows).ok_or_else(|| {
            let error = CallError::Unexpected("keys without their days".into());
            self.failed(contract, error)
        })
    }

    /// The rows of a query about a table; none if the table does not exist.
    async fn rows_of(
        &self,
        contract: &Contract,
        sql: String,
    ) -> Result<Vec<Vec<Option<String>>>, LoadError> {
        match self.query(sql).await {
            Err(CallError::NotFound) => Ok(Vec::new()),
            found => found.map_err(|error| self.failed(contract, error)),
        }
    }

    fn failed(&self, contract: &Contract, error: CallError) -> LoadError {
        LoadError::Unreachable {
            target: self.full_name(&contract.table),
            error,
        }
    }

    /// The rows of a query.
    async fn query(&self, sql: String) -> Result<Vec<Vec<Option<String>>>, CallError> {
        let mut request = QueryRequest::new(sql);
        request.location = self.location.clone();
        request.timeout_ms = Some(QUERY_TIMEOUT_MS);
        let answer = self
            .call(|| self.client.job().query(&self.project, request.clone()))
            .await?;
        if answer.job_complete != Some(true) || answer.page_token.is_some() {
            return Err(CallError::Unexpected("the query took too long".into()));
        }
        let text = |value: Option<Value>| match value {
            Some(Value::String(text)) => Some(text),
            Some(Value::Null) | None => None,
            Some(other) => Some(other.to_string()),
        };
        let rows = answer.rows.unwrap_or_default().into_iter();
        Ok(rows
            .map(|row| {
                let cells = row.columns.unwrap_or_default().into_iter();
                cells.map(|cell| text(cell.value)).collect()
            })
            .collect())
    }

    /// Makes BigQuery validate a statement without running it.
    pub(super) async fn dry_run(&self, sql: &str) -> Result<(), CallError> {
        let mut request = QueryRequest::new(sql.to_string());
        request.location = self.location.clone();
        request.dry_run = Some(true);
        self.call(|| self.client.job().query(&self.project, request.clone()))
            .await
            .map(|_| ())
    }
}

/// A partition and its rows.
fn parse_count(row: Vec<Option<String>>) -> Result<(Partition, u64), CallError> {
    let mut cells = row.into_iter().map(Option::unwrap_or_default);
    let (day, count) = (
        cells.next().unwrap_or_default(),
        cells.next().unwrap_or_default(),
    );
    let partition = Partition::parse(&day)
        .ok_or_else(|| CallError::Unexpected(format!("rows of the day `{day}`")))?;
    let count = count
        .parse()
        .map_err(|_| CallError::Unexpected(format!("`{count}` rows")))?;
    Ok((partition, count))
}
