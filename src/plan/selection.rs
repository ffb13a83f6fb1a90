//! Which tables a run is about.

use std::collections::BTreeSet;

use crate::catalog::{Catalog, Category, did_you_mean};

/// The selected sources and models.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Names of the sources to read.
    pub sources: BTreeSet<String>,
    /// Models to derive and load.
    pub models: BTreeSet<String>,
}

/// A selection that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SelectionError {
    /// Names that the catalog does not know, all at once.
    #[error("unknown table{}: {}", if names.len() == 1 { "" } else { "s" }, names.join(", "))]
    Unknown {
        /// Each with the nearest known name.
        names: Vec<String>,
    },
    /// The file of table names cannot be read.
    #[error("cannot read table names from {path}: {reason}")]
    File {
        /// Path of the table list.
        path: String,
        /// Why it cannot be read, and what to do.
        reason: String,
    },
}

impl Selection {
    /// Selects all sources and models of the catalog.
    pub fn all(catalog: &Catalog) -> Self {
        Self {
            sources: catalog
                .sources()
                .map(|source| source.name.clone())
                .collect(),
            models: catalog.models().map(|model| model.name.clone()).collect(),
        }
    }

    /// The tables of these names: a source stands for all its models, a model for the sources it reads.
    pub fn of_names(catalog: &Catalog, names: &[String]) -> Result<Self, SelectionError> {
        let mut selection = Self::default();
        let mut unknown = Vec::new();
        for name in names {
            match (catalog.source(name), catalog.model(name)) {
                (None, None) => {
                    let known = catalog.sources().map(|source| source.name.as_str());
                    let known = known.chain(catalog.models().map(|model| model.name.as_str()));
                    unknown.push(format!(
                        "`{name}`{}",
                        did_you_mean(name, known)
                            .replacen("; ", " (", 1)
                            .replace("?", "?)")
                    ));
                }
                (Some(source), _) => selection.add_source(catalog, &source.name),
                (None, Some(model)) => {
                    selection.models.insert(model.name.clone());
                    selection.sources.extend(model.sources.iter().cloned());
                }
            }
        }
        if unknown.is_empty() {
            Ok(selection)
        } else {
            Err(SelectionError::Unknown { names: unknown })
        }
    }

    /// The tables of these groups.
    pub fn of_categories(catalog: &Catalog, categories: &[Category]) -> Self {
        let mut selection = Self::default();
        for source in catalog
            .sources()
            .filter(|source| source.category.is_some_and(|it| categories.contains(&it)))
        {
            selection.add_source(catalog, &source.name);
        }
        selection
    }

    /// The union of two selections.
    pub fn join(mut self, other: Self) -> Self {
        self.sources.extend(other.sources);
        self.models.extend(other.models);
        self
    }

    fn add_source(&mut self, catalog: &Catalog, name: &str) {
        self.sources.insert(name.to_string());
        for model in catalog.models_of(name) {
            self.models.insert(model.name.clone());
            self.sources.extend(model.sources.iter().cloned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_and_models_select_each_other() {
        let catalog = Catalog::open(None).unwrap();
        let tags = Selection::of_names(&catalog, &["fleet_tags".into()]).unwrap();
        assert_eq!((tags.sources.len(), tags.models.len()), (1, 7));
        let one = Selection::of_names(&catalog, &["ReeferStats_setPoint".into()]).unwrap();
        assert!(one.sources.contains("fleet_assets_reefers") && one.models.len() == 1);
    }

    #[test]
    fn unknown_names_are_listed_with_suggestions() {
        let catalog = Catalog::open(None).unwrap();
        let names = [
            "fleet_vehicels".to_string(),
            "fleet_tags".into(),
            "qqqq".into(),
        ];
        let error = Selection::of_names(&catalog, &names)
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "unknown tables: `fleet_vehicels` (did you mean `fleet_vehicles`?), `qqqq`"
        );
    }
}
