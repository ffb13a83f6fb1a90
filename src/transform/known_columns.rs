//! The columns of the queries that the program comes with, so that they are known without planning each query.
//!
//! `known_columns.txt` has a line for each model: a digest of everything that its columns depend on, its name and the
//! columns. A model that was edited, or one that reads other columns, has another digest: it is not found, and is
//! planned. A test plans all of them and updates the file.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{Field, Schema};
use sha2::{Digest, Sha256};

use super::all_versions;
use super::contract::ColumnType;
use super::input::Input;
use crate::catalog::{Model, Source, Window, known_values, short_digest};
use crate::extract::raw_schema;

/// The columns of each model: `name TYPE`, separated by commas.
const TEXT: &str = include_str!("known_columns.txt");

static KNOWN: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| known_values(TEXT));

/// What the columns of a model, and the problems of its query and tests, depend on.
pub(super) fn digest(
    model: &Model,
    driving: &Source,
    inputs: &[Input],
    period: Option<Window>,
) -> String {
    let mut digest = Sha256::new();
    let mut add = |text: &str| {
        digest.update(text.len().to_le_bytes());
        digest.update(text);
    };
    add(&model.name);
    add(&model.sql);
    add(&format!("{:?} {period:?}", model.front_matter));
    add(&format!("{:?}", driving.kind));
    for input in inputs {
        let (schema, versions) = match input {
            Input::Source(source) => (raw_schema(source), all_versions(source)),
            Input::Table(table) => (table.contract.schema(), None),
        };
        add(input.name());
        add(&format!("{versions:?} {:?}", schema.fields()));
    }
    short_digest(digest)
}

/// The columns that the query of this digest yields, if they are known; each has the type of its column in the table.
pub(super) fn known(digest: &str) -> Option<Schema> {
    let columns = KNOWN.get(digest)?.split(", ").map(|column| {
        let (name, named) = column.split_once(' ')?;
        let column_type = ColumnType::named(named)?;
        Some(Arc::new(Field::new(name, column_type.arrow(), true)))
    });
    let columns: Option<Vec<_>> = columns.collect();
    columns.map(Schema::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Catalog, assert_current};
    use crate::transform::{BoundModel, planned_schema};

    /// The line of a model; none if a column that is not part of the table has a type that no table has.
    async fn line(bound: &BoundModel) -> Option<String> {
        let BoundModel {
            model,
            driving,
            inputs,
            ..
        } = bound;
        let schema = planned_schema(model, driving, inputs, bound.period)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        let columns = schema.fields().iter().map(|field| {
            let column_type = ColumnType::of(field.data_type()).ok()?;
            Some(format!("{} {}", field.name(), column_type.bigquery()))
        });
        let columns: Option<Vec<String>> = columns.collect();
        let digest = digest(model, driving, inputs, bound.period);
        Some(format!(
            "{digest} {}: {}\n",
            model.name,
            columns?.join(", ")
        ))
    }

    #[tokio::test]
    async fn the_columns_of_all_models_are_known() {
        let catalog = Catalog::open(None).unwrap();
        let mut text = String::new();
        for model in catalog.models() {
            let bound = BoundModel::bind(&catalog, model).await.unwrap();
            text.extend(line(&bound).await);
        }
        let lines = text.lines().count();
        assert!(lines * 10 > catalog.models().count() * 9, "{lines} lines");
        assert_current("transform/known_columns.txt", TEXT, &text);
    }

    #[tokio::test]
    async fn an_edited_model_is_not_known() {
        let catalog = Catalog::open(None).unwrap();
        let model = catalog.model("fleet_trips").unwrap();
        let bound = BoundModel::bind(&catalog, model).await.unwrap();
        let of = |model: &Model, inputs: &[Input]| {
            known(&digest(model, &bound.driving, inputs, bound.period))
        };
        assert!(of(model, &bound.inputs).is_some());
        let mut edited = model.clone();
        edited.sql.push_str(" LIMIT 1");
        assert_eq!(of(&edited, &bound.inputs), None);
        let mut edited = model.clone();
        edited.front_matter.tests.clear();
        edited.front_matter.hash.push("id".into());
        assert_eq!(of(&edited, &bound.inputs), None);
        let mut source = catalog.source("fleet_trips").unwrap().clone();
        let fields: Vec<_> = source.fields.iter().skip(1).cloned().collect();
        source.fields = fields.into();
        assert_eq!(of(model, &[source.into()]), None);
    }
}
