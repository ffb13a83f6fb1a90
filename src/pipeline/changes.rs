//! What edited models change in tables that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use chrono::NaiveDate;

use crate::catalog::{Catalog, Window};
use crate::config::WarehouseConfig;
use crate::error::Error;
use crate::load::plan::{rows_loaded, rows_of};
use crate::plan::{DerivedAgain, LeftBehind, Plan};
use crate::state::{ModelState, StateStore};
use crate::store::layout::{Partition, run_of};
use crate::store::{Bucket, ObjectRef};
use crate::transform::{
    BoundCatalog, BoundModel, ColumnType, Contract, Input, ModelView, stored_schema,
};

/// Compares the models with the state and the stored rows.
pub(super) struct Changes<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) states: &'a StateStore,
    pub(super) flattened: &'a Bucket,
    /// The selected models.
    pub(super) bound: &'a BoundCatalog,
    pub(super) warehouse: &'a WarehouseConfig,
    /// The warehouse's name in the state.
    pub(super) target: &'a str,
}

/// Why a partition is derived again.
enum Cause {
    /// Raw rows are newer than what was derived of them.
    Raw,
    /// Another model's rows are newer, or are derived again.
    Upstream,
    /// The model's SQL or contract was changed.
    Model,
}

impl Changes<'_> {
    /// The tables that are derived again, for partitions that the plan does not read.
    pub(super) async fn derived_again(&self, plan: &Plan) -> Result<Vec<DerivedAgain>, Error> {
        let mut again = Vec::new();
        for bound in self.bound.models() {
            let of_source = plan.committed.get(&bound.driving.name);
            let partitions = of_source.into_iter().flatten();
            let partitions: BTreeSet<Partition> = partitions.map(|it| bound.home(*it)).collect();
            again.extend(self.of_model(bound, &partitions, plan.today).await?);
        }
        Ok(again)
    }

    async fn of_model(
        &self,
        bound: &BoundModel,
        partitions: &BTreeSet<Partition>,
        today: NaiveDate,
    ) -> Result<Option<DerivedAgain>, Error> {
        let table = &bound.model.name;
        let view = bound.view(self.states).await?;
        let mut found: Option<DerivedAgain> = None;
        // The rows of the last partition that is stale because of the model.
        let mut stored: Vec<ObjectRef> = Vec::new();
        for partition in partitions {
            let made = view.made(table, *partition);
            let Some(made) = made.filter(|made| !made.objects.is_empty()) else {
                continue;
            };
            let Some(cause) = stale_because(&view, *partition, made, today) else {
                continue;
            };
            let again = found.get_or_insert_with(|| DerivedAgain {
                table: table.clone(),
                period: bound.period.map_or("day", Window::period),
                partitions: 0,
                rows: 0,
                first: partition.to_string(),
                last: String::new(),
                raw_changed: 0,
                upstream_changed: 0,
                model_changed: 0,
                columns_added: Vec::new(),
                columns_removed: Vec::new(),
                columns_retyped: Vec::new(),
            });
            again.partitions += 1;
            again.rows += rows_of(made);
            again.last = partition.to_string();
            match cause {
                Cause::Raw => again.raw_changed += 1,
                Cause::Upstream => again.upstream_changed += 1,
                Cause::Model => {
                    again.model_changed += 1;
                    stored.clone_from(&made.objects);
                }
            }
        }
        if let Some(again) = &mut found
            && !stored.is_empty()
        {
            self.compare_columns(again, &bound.contract, &stored).await;
        }
        Ok(found)
    }

    /// Compares the columns of stored rows with those of the contract. If the rows cannot be read, no columns are
    /// reported: the run derives the rows again anyway.
    async fn compare_columns(
        &self,
        again: &mut DerivedAgain,
        contract: &Contract,
        stored: &[ObjectRef],
    ) {
        let Ok(schema) = stored_schema(self.flattened, stored).await else {
            return;
        };
        for column in &contract.columns {
            let Ok(before) = schema.field_with_name(&column.name) else {
                again.columns_added.push(column.name.clone());
                continue;
            };
            if let Ok(before) = ColumnType::of(before.data_type())
                && before != column.column_type
            {
                let (before, after) = (before.bigquery(), column.column_type.bigquery());
                let name = &column.name;
                again
                    .columns_retyped
                    .push(format!("{name}: {before} -> {after}"));
            }
        }
        let is_gone = |name: &&String| contract.columns.iter().all(|it| it.name != **name);
        let names = schema.fields().iter().map(|field| field.name());
        again.columns_removed = names.filter(is_gone).cloned().collect();
    }

    /// What no model fills any more but stays in the warehouse: columns of tables that are derived again, and tables of
    /// the selected sources.
    pub(super) async fn left_behind(
        &self,
        plan: &Plan,
        again: &[DerivedAgain],
    ) -> Result<Vec<LeftBehind>, Error> {
        let mut left = Vec::new();
        for source in &plan.run_request.selection.sources {
            let state = self.states.source(source).await?.state();
            let mut rows: BTreeMap<&str, u64> = BTreeMap::new();
            let made = state
                .partitions
                .values()
                .flat_map(|found| found.models.iter());
            for (table, made) in made {
                let is_loaded = made
                    .load
                    .as_ref()
                    .is_some_and(|it| *it.target == *self.target);
                if is_loaded {
                    *rows.entry(table).or_default() += rows_loaded(made, self.target);
                }
            }
            let again = again
                .iter()
                .filter(|it| rows.contains_key(it.table.as_str()));
            let again = again.filter(|it| {
                let bound = self.bound.model(&it.table);
                bound.is_ok_and(|bound| bound.driving.name == *source)
            });
            for table in again {
                let columns = table.columns_removed.iter().map(|column| LeftBehind {
                    table: table.table.clone(),
                    column: Some(column.clone()),
                    rows: rows[table.table.as_str()],
                    renamed_to: None,
                    remove: self.removal(&table.table, Some(column)),
                });
                left.extend(columns);
            }
            let mut new = self.bound.driven_by(source).filter(|bound| {
                let is_made = |made: &&str| *made == bound.model.name;
                !rows.keys().any(is_made)
            });
            let new = match (new.next(), new.next()) {
                (Some(only), None) => Some(only.model.name.clone()),
                _ => None,
            };
            let gone = rows
                .iter()
                .filter(|(table, _)| self.catalog.producer(table).is_none());
            for (table, rows) in gone {
                left.push(LeftBehind {
                    table: (*table).to_string(),
                    column: None,
                    rows: *rows,
                    renamed_to: new.clone(),
                    remove: self.removal(table, None),
                });
            }
        }
        Ok(left)
    }

    /// The command that removes a table, or a column of it, from the warehouse.
    fn removal(&self, table: &str, column: Option<&str>) -> String {
        match (self.warehouse, column) {
            (
                WarehouseConfig::BigQuery {
                    project, dataset, ..
                },
                Some(column),
            ) => format!(
                "bq query --use_legacy_sql=false 'ALTER TABLE `{project}.{dataset}.{table}` DROP COLUMN `{column}`'"
            ),
            (
                WarehouseConfig::BigQuery {
                    project, dataset, ..
                },
                None,
            ) => format!("bq rm -t {project}:{dataset}.{table}"),
            (WarehouseConfig::Local(folder), column) => {
                let then = match column {
                    Some(_) => " (the next run loads the table again, without it)",
                    None => "",
                };
                format!("rm -r {}{then}", quoted(&folder.join(table)))
            }
        }
    }
}

/// Why a derived partition is stale; none if it is current, or waits for the rest of its window.
fn stale_because(
    view: &ModelView<'_>,
    partition: Partition,
    made: &ModelState,
    today: NaiveDate,
) -> Option<Cause> {
    if view.gap(partition, today).is_some() {
        return None;
    }
    let is_current = view.is_current(&view.bound.contract, partition, made);
    if is_current && view.is_upstream_current(partition) {
        return None;
    }
    let newest = |objects: &[ObjectRef]| -> Option<String> {
        let runs = objects.iter().filter_map(|object| run_of(&object.path));
        runs.max().map(str::to_string)
    };
    let derived = newest(&made.objects);
    let mut inputs = view.inputs(partition);
    inputs.retain(|(input, objects)| {
        view.bound.is_decided_by(input) && newest(objects).is_some_and(|read| Some(read) > derived)
    });
    let mut newer = inputs.iter();
    let is_raw = newer.clone().any(|(it, _)| matches!(it, Input::Source(_)));
    let is_upstream = is_current || newer.any(|(it, _)| matches!(it, Input::Table(_)));
    Some(match (is_raw, is_upstream) {
        (true, _) => Cause::Raw,
        (false, true) => Cause::Upstream,
        (false, false) => Cause::Model,
    })
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
