//! Which tables a run is about.

use std::collections::BTreeSet;

use crate::catalog::{Catalog, Category, Model, Source, nearest};
use crate::config::bounds::TABLE_LIST_CELLS;
use crate::config::text::FileError;

/// The selected sources and models.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Names of the sources to read.
    pub sources: BTreeSet<String>,
    /// Models to derive and load. Models whose tables they read are derived too, but loaded only if they are among
    /// these.
    pub models: BTreeSet<String>,
    /// The sources that were selected by name, or by the name of one of their models: if they are not available, that
    /// is a failure.
    pub named: BTreeSet<String>,
    /// The sources that were left out because they are read on request only.
    pub on_request: BTreeSet<String>,
}

/// A file of table names that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TableListError {
    /// The file itself, or its encoding.
    #[error(transparent)]
    File(#[from] FileError),
    /// A line of a .csv file.
    #[error(transparent)]
    Csv(#[from] csv::Error),
    /// The archive that a workbook is.
    #[error("the workbook is incomplete: {0}")]
    Archive(#[from] zip::result::ZipError),
    /// The XML in a workbook.
    #[error(transparent)]
    Xml(#[from] quick_xml::Error),
    /// A part of a workbook.
    #[error("cannot read {path} in it: {error}")]
    Part {
        /// Name of the part.
        path: String,
        /// Why it cannot be read.
        #[source]
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A sheet of a workbook.
    #[error("sheet {name}: {error}")]
    Sheet {
        /// Name of the sheet.
        name: String,
        /// What is wrong with it.
        #[source]
        error: Box<TableListError>,
    },
    /// More cells than any list of tables has.
    #[error("it has more than {TABLE_LIST_CELLS} cells, the limit for a list of tables")]
    TooManyCells,
    /// What the file holds, described here with what to do.
    #[error("{0}")]
    Content(String),
}

impl From<String> for TableListError {
    fn from(description: String) -> Self {
        Self::Content(description)
    }
}

impl From<&str> for TableListError {
    fn from(description: &str) -> Self {
        Self::Content(description.into())
    }
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
    #[error("cannot read table names from {path}: {error}")]
    File {
        /// Path of the table list.
        path: String,
        /// Why it cannot be read, and what to do.
        #[source]
        error: TableListError,
    },
}

impl Selection {
    /// Everything except what is read on request only, unless that is included.
    pub fn all(catalog: &Catalog, include_on_request: bool) -> Self {
        let mut selection = Self::default();
        for source in catalog.sources() {
            selection.add(catalog, source, include_on_request);
        }
        selection.add_downstream(catalog);
        selection
    }

    /// The tables of these names: a source stands for all its models, a model for all sources that it is made of.
    pub fn of_names(catalog: &Catalog, names: &[String]) -> Result<Self, SelectionError> {
        let mut selection = Self::default();
        let mut unknown = Vec::new();
        for name in names {
            match (catalog.source(name), catalog.model(name)) {
                (None, None) => {
                    let known = catalog.sources().map(|source| source.name.as_str());
                    let known = known.chain(catalog.models().map(|model| model.name.as_str()));
                    let hint = nearest(name, known).map(|it| format!(" (did you mean `{it}`?)"));
                    unknown.push(format!("`{name}`{}", hint.unwrap_or_default()));
                }
                (Some(source), _) => {
                    selection.named.insert(source.name.clone());
                    selection.add_source(catalog, &source.name);
                }
                (None, Some(model)) => {
                    selection.models.insert(model.name.clone());
                    let sources = catalog.sources_of(model);
                    selection
                        .sources
                        .extend(sources.iter().copied().map(String::from));
                    if model.upstream.is_empty() {
                        selection.named.extend(model.sources.iter().cloned());
                    } else {
                        // Tables that only add columns to it are used if they exist.
                        let driving = catalog.driving_source(model);
                        selection
                            .named
                            .extend(driving.map(|source| source.name.clone()));
                    }
                }
            }
        }
        if unknown.is_empty() {
            Ok(selection)
        } else {
            Err(SelectionError::Unknown { names: unknown })
        }
    }

    /// The tables of these groups, except what is read on request only, unless that is included.
    pub fn of_categories(
        catalog: &Catalog,
        categories: &[Category],
        include_on_request: bool,
    ) -> Self {
        let mut selection = Self::default();
        for source in catalog
            .sources()
            .filter(|source| source.category.is_some_and(|it| categories.contains(&it)))
        {
            selection.add(catalog, source, include_on_request);
        }
        selection.add_downstream(catalog);
        selection
    }

    /// The union of two selections.
    pub fn join(mut self, other: Self) -> Self {
        self.sources.extend(other.sources);
        self.models.extend(other.models);
        self.named.extend(other.named);
        self.on_request.extend(other.on_request);
        self.on_request.retain(|name| !self.sources.contains(name));
        self
    }

    /// Adds a source that was not selected by name, and the models that read only selected sources.
    fn add(&mut self, catalog: &Catalog, source: &Source, include_on_request: bool) {
        let is_left_out = |source: &Source| source.on_request.is_some() && !include_on_request;
        if is_left_out(source) {
            self.on_request.insert(source.name.clone());
            return;
        }
        self.sources.insert(source.name.clone());
        for model in catalog.models_of(&source.name) {
            let mut sources = model.sources.iter().filter_map(|name| catalog.source(name));
            if sources.any(is_left_out) {
                continue;
            }
            self.models.insert(model.name.clone());
            self.sources.extend(model.sources.iter().cloned());
        }
    }

    /// Adds the models that are made only of selected models: they cost no requests.
    fn add_downstream(&mut self, catalog: &Catalog) {
        let is_covered = |model: &&Model| {
            let sources = catalog.sources_of(model);
            !model.upstream.is_empty() && sources.iter().all(|name| self.sources.contains(*name))
        };
        let covered = catalog.models().filter(is_covered);
        let covered: Vec<String> = covered.map(|model| model.name.clone()).collect();
        self.models.extend(covered);
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
    fn what_is_on_request_is_read_by_name_only() {
        let source = |name: &str, rest: &str| {
            format!(
                "[{name}]\ndescription = 'd'\nkind = 'snapshot'\ncategory = 'core'\nendpoint = '/{name}'\n\
                 rate_limit = '5/s'\nschema = 'id VARCHAR'\n{rest}\n"
            )
        };
        let toml = source("a", "") + &source("b", "on_request = 'personal data'");
        let model = |from: &str| format!("/*---\ndescription = 'd'\n---*/\nSELECT id FROM {from}");
        let files = [
            ("f/sources.toml".to_string(), toml),
            ("f/one.sql".to_string(), model("raw.a")),
            ("f/two.sql".to_string(), model("raw.b")),
            ("f/over.sql".to_string(), model("one")),
            (
                "f/both.sql".to_string(),
                model("(SELECT id FROM raw.a UNION ALL SELECT id FROM raw.b)"),
            ),
        ];
        let catalog = Catalog::from_files("test", &files).unwrap();
        let shown = |selection: Selection| {
            let join = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(" ");
            [
                selection.sources,
                selection.models,
                selection.named,
                selection.on_request,
            ]
            .map(join)
        };
        let named = |name: &str| Selection::of_names(&catalog, &[name.into()]).unwrap();
        let core = |include| Selection::of_categories(&catalog, &[Category::Core], include);
        assert_eq!(
            shown(Selection::all(&catalog, false)),
            ["a", "one over", "", "b"]
        );
        assert_eq!(
            shown(Selection::all(&catalog, true)),
            ["a b", "both one over two", "", ""]
        );
        assert_eq!(shown(core(false)), ["a", "one over", "", "b"]);
        assert_eq!(shown(named("a")), ["a b", "both one", "a", ""]);
        assert_eq!(shown(named("over")), ["a", "over", "a", ""]);
        assert_eq!(shown(named("two")), ["b", "two", "b", ""]);
        assert_eq!(shown(named("both")), ["a b", "both", "a b", ""]);
        assert_eq!(
            shown(named("two").join(core(false))),
            ["a b", "one over two", "b", ""]
        );
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
