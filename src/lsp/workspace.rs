//! The catalog as the editor has it: files on disk and texts that are not saved, with the models that are bound.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;

use super::scope::{Item, Reads};
use crate::catalog::{
    Catalog, CatalogError, CatalogFiles, CheckedCatalog, Model, Problem, Source, VERSIONS,
};
use crate::extract::raw_schema;
use crate::transform::{
    BoundModel, Function, Input, Lineage, QueryColumn, TransformError, UpstreamTable,
    columns_of_query, functions, lineage, remarks,
};

/// The settings of the catalog.
const SETTINGS: &str = "settings.toml";
/// What people are told about functions.
const README: &str = include_str!("../../sql/README.md");

/// A text that is open in the editor.
#[derive(Debug, Clone)]
pub(super) struct Document {
    /// As the editor names it.
    pub(super) uri: String,
    pub(super) text: String,
    pub(super) version: i32,
}

/// A folder of sources and models.
pub(super) struct Workspace {
    files: CatalogFiles,
    /// Open texts of the folder, by `<family>/<file>`.
    pub(super) open: BTreeMap<String, Document>,
    /// The catalog, and what is wrong with its files.
    pub(super) checked: CheckedCatalog,
    /// By the model's name.
    bound: BTreeMap<String, Kept>,
    /// The last that could be bound, of models that perhaps cannot be bound now.
    last: BTreeMap<String, Arc<BoundModel>>,
    /// Counts what was bound.
    counter: u64,
    functions: BTreeMap<String, Function>,
}

/// What binding a model gave, and what it was bound to.
struct Kept {
    text: String,
    /// The query, with settings in their places.
    sql: String,
    sources: Vec<String>,
    /// The models upstream, by the counts of their contracts.
    upstream: Vec<(String, u64)>,
    /// Changes with the contract.
    count: u64,
    result: Result<Arc<BoundModel>, Vec<Problem>>,
}

/// A column that a query can name.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) column: QueryColumn,
    /// Of a table's column.
    pub(super) description: Option<String>,
}

impl Workspace {
    /// Opens a folder.
    pub(super) fn open(folder: &Path) -> Result<Self, String> {
        let mut files = CatalogFiles::open(folder).map_err(|error| error.to_string())?;
        let checked = files.check().map_err(|error| error.to_string())?;
        let functions = functions(README).map_err(|error| error.to_string())?;
        Ok(Self {
            files,
            open: BTreeMap::new(),
            checked,
            bound: BTreeMap::new(),
            last: BTreeMap::new(),
            counter: 0,
            functions,
        })
    }

    pub(super) fn catalog(&self) -> &Catalog {
        &self.checked.catalog
    }

    pub(super) fn functions(&self) -> &BTreeMap<String, Function> {
        &self.functions
    }

    /// `<family>/<file>` of a file of this folder; that of the settings stands above the families.
    pub(super) fn path_of(&self, uri: &str) -> Option<String> {
        let path = Url::parse(uri).ok()?.to_file_path().ok()?;
        let folder = self.files.folder();
        let real = |path: &Path| -> Option<PathBuf> {
            let parent = path.parent()?.canonicalize().ok()?;
            Some(parent.join(path.file_name()?))
        };
        let relative = match path.strip_prefix(folder) {
            Ok(relative) => relative.to_path_buf(),
            Err(_) => real(&path)?
                .strip_prefix(folder.canonicalize().ok()?)
                .ok()?
                .to_path_buf(),
        };
        if relative.to_str() == Some(SETTINGS) {
            return Some(SETTINGS.into());
        }
        let (family, file) = relative.to_str()?.split_once('/')?;
        let is_known = file == "sources.toml" || file.ends_with(".sql");
        (is_known && !file.contains('/')).then(|| format!("{family}/{file}"))
    }

    /// The editor's name of a file, `<family>/<file>`.
    pub(super) fn uri_of(&self, path: &str) -> Option<String> {
        if let Some(document) = self.open.get(path) {
            return Some(document.uri.clone());
        }
        let url = Url::from_file_path(self.files.folder().join(path)).ok()?;
        Some(url.to_string())
    }

    /// The same of a file as problems name it.
    pub(super) fn path_of_file(&self, file: &str) -> Option<String> {
        let relative = Path::new(file).strip_prefix(self.files.folder()).ok()?;
        relative.to_str().map(String::from)
    }

    /// The text of a file, `<family>/<file>`.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        let file = self.files.folder().join(path).display().to_string();
        self.checked.files.get(&file).map(String::as_str)
    }

    /// The text of another file of the folder: that of a test's rows.
    pub(super) fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.files.folder().join(path)).ok()
    }

    /// Takes a text of the editor; none when it is closed.
    pub(super) fn set(&mut self, path: &str, document: Option<Document>) {
        let text = document.as_ref().map(|document| document.text.clone());
        self.files.set_unsaved(path, text);
        match document {
            Some(document) => drop(self.open.insert(path.to_string(), document)),
            None => drop(self.open.remove(path)),
        }
    }

    /// Reads the folder again.
    pub(super) fn reread(&mut self) -> Result<(), CatalogError> {
        self.files.reread()
    }

    /// Looks at all files again.
    pub(super) fn check(&mut self) -> Result<(), CatalogError> {
        self.checked = self.files.check()?;
        Ok(())
    }

    /// The catalog as it is if some files have other texts.
    pub(super) fn check_with(
        &mut self,
        changes: &BTreeMap<String, String>,
    ) -> Result<CheckedCatalog, CatalogError> {
        self.files.check_with(changes)
    }

    /// The model of a file.
    pub(super) fn model_of(&self, path: &str) -> Option<&Model> {
        let name = path.split_once('/')?.1.strip_suffix(".sql")?;
        self.catalog().model(name)
    }

    /// The models of open texts with those that are made of them.
    pub(super) fn wanted(&self) -> Vec<String> {
        let open: BTreeSet<&str> = self
            .open
            .keys()
            .filter_map(|path| path.split_once('/')?.1.strip_suffix(".sql"))
            .collect();
        let opens_sources = |path: &String| path.ends_with("sources.toml") || path == SETTINGS;
        let opens_sources = self.open.keys().any(opens_sources);
        let models = self.catalog().models().filter(|model| {
            let upstream = || self.catalog().upstream_of(model);
            opens_sources
                || open.contains(model.name.as_str())
                || upstream().iter().any(|it| open.contains(it.name.as_str()))
        });
        models.map(|model| model.name.clone()).collect()
    }

    /// A model that nobody has waited for, and that is not bound yet.
    pub(super) fn unbound(&self) -> Option<String> {
        let models = self.catalog().models();
        let mut complete = models.filter(|model| self.catalog().is_complete(model));
        complete
            .find(|model| {
                let text = self.checked.files.get(&model.file);
                let kept = self.bound.get(&model.name);
                kept.is_none_or(|kept| Some(&kept.text) != text || kept.sql != model.sql)
            })
            .map(|model| model.name.clone())
    }

    /// Binds a model, after those upstream, unless it is bound to what they are now.
    pub(super) async fn bind(&mut self, name: &str) {
        let catalog = self.checked.catalog.clone();
        let Some(model) = catalog.model(name).filter(|it| catalog.is_complete(it)) else {
            self.bound.remove(name);
            return;
        };
        for model in catalog.upstream_of(model).into_iter().chain([model]) {
            self.bind_one(&catalog, model).await;
        }
    }

    async fn bind_one(&mut self, catalog: &Catalog, model: &Model) {
        let text = self.checked.files.get(&model.file);
        let text = text.cloned().unwrap_or_default();
        let sources = model.sources.iter().filter_map(|it| catalog.source(it));
        let sources: Vec<String> = sources.map(|it| format!("{it:?}")).collect();
        let (mut upstream, mut known) = (Vec::new(), BTreeMap::new());
        for table in &model.upstream {
            let producer = catalog.producer(table).map(|it| it.name.clone());
            let kept = producer.and_then(|name| Some((self.bound.get(&name)?, name)));
            let Some((kept, name)) = kept else { continue };
            upstream.push((name.clone(), kept.count));
            if let Ok(bound) = &kept.result {
                known.insert(name, bound.clone());
            }
        }
        let before = self.bound.get(&model.name);
        if before.is_some_and(|kept| {
            kept.text == text
                && kept.sql == model.sql
                && kept.sources == sources
                && kept.upstream == upstream
        }) {
            return;
        }
        let result = match known.len() == upstream.len() {
            true => BoundModel::bind_after(catalog, model, &known).await,
            // Those upstream have problems of their own.
            false => Err(TransformError::Unbound {
                table: model.name.clone(),
            }),
        };
        let result = match result {
            Ok(bound) => Ok(Arc::new(bound)),
            Err(TransformError::Model(problems)) => Err(problems.into_iter().collect()),
            Err(TransformError::Unbound { .. }) => Err(Vec::new()),
            Err(error) => {
                let reason = error.to_string();
                Err(vec![Problem::new(
                    &model.file,
                    model.place_of_query(),
                    &reason,
                )])
            }
        };
        // What is made of it need not be bound again for a comment.
        let same = before.filter(|kept| match (&kept.result, &result) {
            (Ok(before), Ok(now)) => before.contracts().eq(now.contracts()),
            _ => false,
        });
        let count = same.map(|kept| kept.count);
        self.counter += 1;
        let count = count.unwrap_or(self.counter);
        if let Ok(bound) = &result {
            self.last.insert(model.name.clone(), bound.clone());
        }
        let kept = Kept {
            text,
            sql: model.sql.clone(),
            sources,
            upstream,
            count,
            result,
        };
        self.bound.insert(model.name.clone(), kept);
    }

    /// All that is known to be wrong, by file.
    pub(super) fn problems(&self) -> BTreeMap<String, Vec<Problem>> {
        let mut all = self.checked.problems.clone();
        for (name, kept) in &self.bound {
            if self.catalog().model(name).is_none() {
                continue;
            }
            match &kept.result {
                Ok(bound) => all.extend(remarks(&bound.model, &bound.contract)),
                Err(problems) => all.extend(problems.iter().cloned()),
            }
        }
        all.sort_by(|a, b| (&a.file, a.place, &a.reason).cmp(&(&b.file, b.place, &b.reason)));
        all.dedup();
        let mut by_file: BTreeMap<String, Vec<Problem>> = BTreeMap::new();
        for problem in all {
            by_file
                .entry(problem.file.clone())
                .or_default()
                .push(problem);
        }
        by_file
    }

    /// A model as it was bound last.
    pub(super) fn bound(&self, model: &str) -> Option<&Arc<BoundModel>> {
        self.last.get(model)
    }

    /// The model that fills a table, as it was bound last.
    pub(super) fn bound_table(&self, table: &str) -> Option<&Arc<BoundModel>> {
        self.bound(&self.catalog().producer(table)?.name)
    }

    /// The source of a raw table.
    pub(super) fn source(&self, table: &str) -> Option<&Source> {
        let source = self.catalog().source(table);
        source.or_else(|| self.catalog().source(table.strip_suffix(VERSIONS)?))
    }

    /// What the columns of a model come from.
    pub(super) async fn lineage(&self, bound: &BoundModel) -> Lineage {
        lineage(bound).await.unwrap_or_default()
    }

    /// All that a query with these words may read.
    fn inputs(&self, sql: &str) -> Vec<Input> {
        let words: BTreeSet<String> = super::lexer::tokens(sql)
            .into_iter()
            .filter(|token| token.is_name())
            .map(|token| token.value)
            .collect();
        let sources = words.iter().filter_map(|word| self.source(word));
        let sources: BTreeMap<&str, &Source> = sources.map(|it| (it.name.as_str(), it)).collect();
        let mut inputs: Vec<Input> = sources.into_values().cloned().map(Input::from).collect();
        for word in &words {
            let Some(bound) = self.bound_table(word) else {
                continue;
            };
            let contract = bound.contracts().find(|it| it.table == *word).cloned();
            if let Some(contract) = contract {
                let bound = bound.clone();
                inputs.push(Input::Table(Arc::new(UpstreamTable { bound, contract })));
            }
        }
        inputs
    }

    /// Sees to it that tables which a text names are bound, so that their columns are known.
    pub(super) async fn bind_tables_of(&mut self, text: &str) {
        let words = super::lexer::tokens(text);
        let words = words.into_iter().filter(|token| token.is_name());
        let names: BTreeSet<String> = words
            .filter_map(|token| Some(self.catalog().producer(&token.value)?.name.clone()))
            .filter(|name| !self.last.contains_key(name))
            .collect();
        for name in names {
            self.bind(&name).await;
        }
    }

    /// The columns of what a SELECT reads.
    pub(super) async fn columns(&self, item: &Item) -> Vec<Column> {
        match &item.reads {
            Reads::Raw(name) => self.raw_columns(name),
            Reads::Table(name) => self.table_columns(name),
            Reads::Query(sql) => {
                let found = columns_of_query(&self.inputs(sql), sql).await;
                let plain = |column| Column {
                    column,
                    description: None,
                };
                found.unwrap_or_default().into_iter().map(plain).collect()
            }
        }
    }

    fn raw_columns(&self, name: &str) -> Vec<Column> {
        let Some(source) = self.source(name) else {
            return Vec::new();
        };
        let of = |field: &arrow::datatypes::FieldRef| Column {
            column: QueryColumn {
                name: field.name().clone(),
                data_type: field.data_type().clone(),
                origins: Default::default(),
            },
            description: None,
        };
        raw_schema(source).fields().iter().map(of).collect()
    }

    fn table_columns(&self, table: &str) -> Vec<Column> {
        let bound = self.bound_table(table);
        let contract = bound.and_then(|it| it.contracts().find(|it| it.table == table));
        let columns = contract.map(|it| it.columns.as_slice()).unwrap_or_default();
        let of = |column: &crate::transform::Column| Column {
            column: QueryColumn {
                name: column.name.clone(),
                data_type: column.column_type.arrow(),
                origins: Default::default(),
            },
            description: column.description.clone(),
        };
        columns.iter().map(of).collect()
    }
}
