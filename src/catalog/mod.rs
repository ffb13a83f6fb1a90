//! The catalog: everything that an analyst or an integrator edits, read from `sql/`.
//!
//! `sql/<family>/sources.toml` declares endpoints and the schema of their raw records; each `sql/<family>/<table>.sql`
//! is one output table. The folder is embedded in the program, and a folder on disk replaces it as a whole. Nothing
//! here uses the network: an invalid catalog is refused at start, with file, line, reason and the nearest name.

mod ddl;
mod drift;
mod embedded;
mod extent;
mod field_path;
mod files;
mod known;
mod known_models;
mod model;
mod nearest;
mod omit_path;
mod problem;
mod record_history;
mod settings;
mod source;
mod time_field;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::config::text::FileError;

pub use ddl::{JSON_TYPE, map_type, parse as parse_schema};
pub use drift::{Drifted, Proposal};
pub use extent::check_query;
pub use field_path::{FieldPath, PARENT_ID, PathStep};
pub use files::CatalogFiles;
#[cfg(test)]
pub(crate) use known::assert_current;
pub(crate) use known::{known_values, short_digest};
pub use model::{
    DataTest, FRONT_MATTER_KEYS, FrontMatter, Literal, Model, TestKind, TestSeverity, VERSIONS,
};
pub use nearest::nearest;
pub use omit_path::OmitPath;
pub use problem::{Place, Problem, Problems, Severity, place_of_field, place_of_word};
pub use source::{
    ASKED, Category, ChangeFeed, Pagination, Parent, RateLimit, SOURCE_KEYS, SOURCE_VALUES, Share,
    Since, Source, SourceKind, Sweep, TimeFormat, WindowParameters,
};
pub use time_field::{TimeField, TimeStep};
pub use window::Window;

use model::{ModelFile, Parse, ParsedModel};

/// All sources and models.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// Where it was read from, for messages.
    pub origin: String,
    sources: Arc<BTreeMap<String, Source>>,
    models: Arc<BTreeMap<String, Model>>,
}

/// The embedded catalog, once it is read.
static EMBEDDED: OnceLock<Catalog> = OnceLock::new();

/// Why a catalog cannot be used, and where.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Something that files say is wrong.
    #[error("{0}")]
    Wrong(Problems),
    /// The folder cannot be read.
    #[error("cannot read {path}: {error}")]
    Unreadable {
        /// Path of the file or folder.
        path: PathBuf,
        /// Why it cannot be read.
        #[source]
        error: FileError,
    },
    /// The folder of a catalog has no sources.
    #[error("cannot read {origin}: it has no <family>/sources.toml")]
    Empty {
        /// Where the catalog is from.
        origin: String,
    },
    /// A source or model that the plan, the state or a model names.
    #[error(
        "{kind} {name} is not in the catalog ({origin}): was it removed since the plan was made?"
    )]
    Missing {
        /// `source` or `model`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Where the catalog is from.
        origin: String,
    },
}

impl Catalog {
    /// Reads the folder at `directory`, or the embedded catalog, and checks it.
    ///
    /// # Errors
    /// [`CatalogError::Unreadable`] if the folder cannot be read; [`CatalogError::Wrong`], with file and line, for the
    /// mistakes in each `sources.toml` and model, and for files that are not text.
    pub fn open(directory: Option<&Path>) -> Result<Self, CatalogError> {
        if directory.is_some() {
            return CheckedCatalog::open(directory)?.into_catalog();
        }
        Self::embedded().cloned()
    }

    /// The catalog of the program itself, read once.
    ///
    /// # Errors
    /// As [`Catalog::open`].
    pub fn embedded() -> Result<&'static Self, CatalogError> {
        if let Some(embedded) = EMBEDDED.get() {
            return Ok(embedded);
        }
        let embedded = CheckedCatalog::open(None)?.into_catalog()?;
        Ok(EMBEDDED.get_or_init(|| embedded))
    }

    /// All sources, by name.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.sources.values()
    }

    /// All models, by name.
    pub fn models(&self) -> impl Iterator<Item = &Model> {
        self.models.values()
    }

    /// The source of this name.
    pub fn source(&self, name: &str) -> Option<&Source> {
        self.sources.get(name)
    }

    /// The source of this name, which the plan, the state or a model names.
    ///
    /// # Errors
    /// [`CatalogError::Missing`] with the name if there is none: a missing source never silently leaves out a table.
    pub fn known_source(&self, name: &str) -> Result<&Source, CatalogError> {
        self.source(name)
            .ok_or_else(|| self.missing("source", name))
    }

    /// The model of this name, which the plan or the state names.
    ///
    /// # Errors
    /// [`CatalogError::Missing`] with the name if there is none.
    pub fn known_model(&self, name: &str) -> Result<&Model, CatalogError> {
        self.model(name).ok_or_else(|| self.missing("model", name))
    }

    /// The driving source of a model of this catalog.
    ///
    /// # Errors
    /// [`CatalogError::Missing`] with the model's name if the catalog has none of the sources that it reads.
    pub fn known_driving_source(&self, model: &Model) -> Result<&Source, CatalogError> {
        let missing = || self.missing("source of model", &model.name);
        self.driving_source(model).ok_or_else(missing)
    }

    fn missing(&self, kind: &'static str, name: &str) -> CatalogError {
        CatalogError::Missing {
            kind,
            name: name.to_string(),
            origin: self.origin.clone(),
        }
    }

    /// The model of this name.
    pub fn model(&self, name: &str) -> Option<&Model> {
        self.models.get(name)
    }

    /// The model that fills this table: the model of that name, or the one whose history table it is.
    pub fn producer(&self, table: &str) -> Option<&Model> {
        self.models.get(table).or_else(|| {
            let model = self.models.get(table.strip_suffix("_history")?)?;
            model.front_matter.history.then_some(model)
        })
    }

    /// The source that determines the partitions of this table.
    pub fn driving_source_of(&self, table: &str) -> Option<&Source> {
        self.driving_source(self.producer(table)?)
    }

    /// The models that read `source` as a raw table, and no tables of other models.
    pub fn models_of<'a>(&'a self, source: &'a str) -> impl Iterator<Item = &'a Model> {
        self.models.values().filter(move |model| {
            model.upstream.is_empty() && model.sources.iter().any(|name| name == source)
        })
    }

    /// The upstream models of a model, direct or indirect: each after those that it reads itself.
    pub fn upstream_of<'a>(&'a self, model: &'a Model) -> Vec<&'a Model> {
        let mut found = Vec::new();
        self.add_upstream(model, &mut found);
        found
    }

    fn add_upstream<'a>(&'a self, model: &'a Model, found: &mut Vec<&'a Model>) {
        for table in &model.upstream {
            if let Some(upstream) = self.producer(table)
                && found.iter().all(|known| known.name != upstream.name)
            {
                self.add_upstream(upstream, found);
                found.push(upstream);
            }
        }
    }

    /// The sources that a model is made from: those that it reads itself, and those of its upstream models.
    pub fn sources_of<'a>(&'a self, model: &'a Model) -> BTreeSet<&'a str> {
        let models = [model].into_iter().chain(self.upstream_of(model));
        models
            .flat_map(|model| model.sources.iter().map(String::as_str))
            .collect()
    }

    /// The driving source of a model, which determines its partitions: its daily source, if it reads one. For a model
    /// that reads tables of other models, it is the driving source of the first daily table in its query.
    pub fn driving_source<'a>(&'a self, model: &Model) -> Option<&'a Source> {
        let sources = || {
            let names = model.sources.iter();
            names.filter_map(|name| Some((name, self.sources.get(name)?)))
        };
        if model.upstream.is_empty() {
            let daily = sources().find(|(_, source)| source.is_daily());
            return daily.or_else(|| sources().next()).map(|(_, source)| source);
        }
        let upstream = model
            .upstream
            .iter()
            .filter_map(|name| Some((name, self.driving_source(self.producer(name)?)?)));
        let all = sources().chain(upstream);
        all.min_by_key(|(name, source)| (!source.is_daily(), model.place_of_table(name)))
            .map(|(_, source)| source)
    }

    /// Whether the catalog has everything that a model is made from.
    pub fn is_complete(&self, model: &Model) -> bool {
        let has_source = |name: &String| self.sources.contains_key(name);
        let is_here = |name: &String| {
            let upstream = self.producer(name);
            upstream.is_some_and(|upstream| self.is_complete(upstream))
        };
        model.sources.iter().all(has_source) && model.upstream.iter().all(is_here)
    }

    /// How many sources must be read before this one, each for the ids of the next: 0 for a source without a parent.
    pub fn depth(&self, source: &Source) -> usize {
        let parent = |source: &&Source| self.sources.get(&source.parent.as_ref()?.source);
        // No chain is longer than the number of sources, unless it is circular.
        std::iter::successors(parent(&source), parent)
            .take(self.sources.len())
            .count()
    }

    /// The change feed of a source, as a source of its own: its time field is that of the changed rows.
    pub fn change_feed(&self, source: &Source) -> Option<Source> {
        let feed = match source.changes.as_ref()? {
            ChangeFeed::Endpoint(endpoint) => Source {
                endpoint: endpoint.clone(),
                kind: SourceKind::Feed,
                page_limit: None,
                ..source.clone()
            },
            ChangeFeed::Source {
                source: name,
                time_field,
            } => {
                let feed = self.sources.get(name)?;
                // Failures are reported for the source whose days are read again.
                Source {
                    name: source.name.clone(),
                    time_field: Some(time_field.clone()),
                    ..feed.clone()
                }
            }
        };
        Some(Source {
            window: None,
            ..feed
        })
    }

    /// Builds a catalog from `(path, text)` pairs; paths are `<family>/<file>`. `origin` says in messages where they
    /// are from.
    ///
    /// # Errors
    /// As [`Catalog::open`].
    pub fn from_files(origin: &str, files: &[(String, String)]) -> Result<Self, CatalogError> {
        CheckedCatalog::from_files(origin, Path::new("sql"), files)?.into_catalog()
    }

    /// Adds the valid sources of a file.
    fn add_sources(
        &mut self,
        place: &SourceLocation<'_>,
        family: &str,
        text: &str,
    ) -> Result<(), Vec<Problem>> {
        let entries: BTreeMap<String, toml::Spanned<source::SourceEntry>> =
            toml::from_str(text).map_err(|error| vec![place.toml(text, &error, &[])])?;
        let defaults = entries
            .get("defaults")
            .map(|entry| entry.get_ref().clone())
            .unwrap_or_default();
        let mut problems = Vec::new();
        for (name, entry) in entries {
            if name == "defaults" {
                continue;
            }
            let start = entry.span().start;
            let line = || line_of_header(text, &name).unwrap_or_else(|| line_at(text, start));
            if let Err(reason) = check_name(&name) {
                problems.push(place.at(line(), reason));
                continue;
            }
            let source = match entry.into_inner().resolve(&name, family, &defaults) {
                Ok(source) => source,
                Err(reason) => {
                    problems.push(place.at(line(), format!("source `{name}`: {reason}")));
                    continue;
                }
            };
            if let Some(twin) = twin(self.sources.keys(), &name) {
                let reason = format!("source `{name}` exists already (as `{twin}`)");
                problems.push(place.at(line(), reason));
                continue;
            }
            Arc::make_mut(&mut self.sources).insert(name, source);
        }
        match problems.is_empty() {
            true => Ok(()),
            false => Err(problems),
        }
    }

    /// Adds the models of these files, and their problems to `problems`.
    fn add_models(
        &mut self,
        files: &[ModelFile<'_>],
        parsed: Vec<ParsedModel>,
        problems: &mut Vec<Problem>,
    ) {
        let models = Arc::make_mut(&mut self.models);
        for (file, (model, found)) in files.iter().zip(parsed) {
            problems.extend(found);
            // BigQuery table names are case-sensitive, those of a file system may not be: two names that differ only
            // in case would collide.
            if let Some(twin) = twin(models.keys(), file.name) {
                let reason = format!("model `{}` exists already (as `{twin}`)", file.name);
                problems.push(file.place().at(1, reason));
            } else if let Some(model) = model {
                models.insert(file.name.to_string(), model);
            }
        }
    }

    /// Adds the models of history tables that are derived from raw versions.
    fn add_record_histories(&mut self, problems: &mut Vec<Problem>) {
        let mut histories = Vec::new();
        for model in self.models.values() {
            let Some(source) = self.driving_source(model) else {
                continue;
            };
            match record_history::of(model, source) {
                Ok(history) => {
                    histories.extend(history.map(|history| (model.name.clone(), history)))
                }
                Err(reason) => {
                    let place = SourceLocation { file: &model.file };
                    problems.push(place.within(model.place_of_key("history", None), reason));
                }
            }
        }
        let models = Arc::make_mut(&mut self.models);
        for (name, history) in histories {
            // It has a model of its own, so this one keeps no versions itself.
            if let Some(model) = models.get_mut(&name) {
                model.front_matter.history = false;
            }
            models.insert(history.name.clone(), history);
        }
    }

    /// A source of a name may be meant.
    fn hint_of_raw(&self, name: &str) -> String {
        match self.sources.contains_key(name) {
            true => format!("; did you mean `raw.{name}`?"),
            false => String::new(),
        }
    }

    /// The nearest name to an unknown table: that of a model, or else a source.
    fn hint_of_table(&self, name: &str) -> String {
        let raw = self.hint_of_raw(name);
        if !raw.is_empty() {
            return raw;
        }
        let histories = self.models.values().filter_map(Model::history_table);
        let tables = self.models.keys().cloned().chain(histories);
        let tables: Vec<String> = tables.collect();
        did_you_mean(name, tables.iter().map(String::as_str))
    }

    /// Removes models that read each other in a circle, and returns the problems.
    fn remove_circles(&mut self) -> Vec<Problem> {
        let mut problems = Vec::new();
        while let Some(circle) = self.models.values().find_map(|model| self.circle_of(model)) {
            let (Some(first), Some(second)) = (circle.first(), circle.get(1)) else {
                break;
            };
            if let Some(model) = self.models.get(first) {
                let place = SourceLocation { file: &model.file };
                let reason = match circle.len() {
                    2 => format!("`{first}` reads its own table{}", self.hint_of_raw(first)),
                    _ => format!("models read each other in a circle: {}", circle.join(" → ")),
                };
                problems.push(place.within(model.place_of_table(second), reason));
            }
            let models = Arc::make_mut(&mut self.models);
            circle.iter().for_each(|name| drop(models.remove(name)));
        }
        problems
    }

    /// The models from this one back to itself, each of which reads the next, if there is such a circle. It begins with
    /// the first by name.
    fn circle_of(&self, model: &Model) -> Option<Vec<String>> {
        let mut paths = vec![vec![model]];
        let mut seen = BTreeSet::new();
        while let Some(path) = paths.pop() {
            let last = path.last()?;
            for upstream in last.upstream.iter().filter_map(|it| self.producer(it)) {
                if upstream.name == model.name {
                    let names = path.iter().chain([&upstream]);
                    return Some(names.map(|model| model.name.clone()).collect());
                }
                if seen.insert(&upstream.name) {
                    paths.push([path.as_slice(), &[upstream]].concat());
                }
            }
        }
        None
    }

    /// Checks references between files, once all are read. `unread` are models that could not be read.
    fn check_models(&self, unread: &BTreeSet<&str>, problems: &mut Vec<Problem>) {
        for model in self.models.values() {
            let place = SourceLocation { file: &model.file };
            for name in &model.sources {
                if !self.sources.contains_key(name) {
                    let hint = did_you_mean(name, self.sources.keys().map(String::as_str));
                    let reason = format!("unknown source `raw.{name}`{hint}");
                    problems.push(place.within(model.place_of_table(name), reason));
                }
            }
            for name in &model.upstream {
                // Models that could not be read are reported already.
                if self.producer(name).is_none() && !unread.contains(name.as_str()) {
                    let hint = self.hint_of_table(name);
                    let reason = format!("unknown table `{name}`{hint}");
                    problems.push(place.within(model.place_of_table(name), reason));
                }
            }
            if let Some(table) = model.history_table() {
                let mut wrong = |reason: &str| {
                    let reason = format!("history: {reason}");
                    problems.push(place.within(model.place_of_key("history", None), reason));
                };
                if let Some(twin) = twin(self.models.keys(), &table) {
                    wrong(&format!("the table `{twin}` exists already"));
                }
                if model.front_matter.unique_key.is_empty() {
                    wrong("`unique_key` is missing: name the columns that identify a row");
                }
                let has_days =
                    |source: &Source| source.is_daily() && source.kind != SourceKind::Updates;
                if self.driving_source(model).is_some_and(has_days) {
                    wrong("only models of a list can have it; daily tables keep all rows anyway");
                }
            }
        }
    }

    /// The problems of all sources.
    fn check_sources(&self, folder: &Path, files: &[(String, String)]) -> Vec<Problem> {
        let mut problems = Vec::new();
        for source in self.sources.values() {
            let Err(reason) = self.check_source(source) else {
                continue;
            };
            let path = format!("{}/sources.toml", source.family);
            let text = files.iter().find(|(found, _)| *found == path);
            let text = text.map_or("", |(_, text)| text);
            let place = SourceLocation {
                file: &folder.join(&path).display().to_string(),
            };
            let line = line_of_header(text, &source.name).unwrap_or(1);
            problems.push(place.at(line, format!("source `{}`: {reason}", source.name)));
        }
        problems
    }

    /// Checks what a source says of other sources.
    fn check_source(&self, source: &Source) -> Result<(), String> {
        if let Some(ChangeFeed::Source {
            source: name,
            time_field,
        }) = &source.changes
        {
            let Some(feed) = self.sources.get(name) else {
                let hint = did_you_mean(name, self.sources.keys().map(String::as_str));
                return Err(format!("changes: unknown source `{name}`{hint}"));
            };
            if feed.kind != SourceKind::Feed || feed.parent.is_some() || feed.share.is_some() {
                return Err(format!(
                    "changes: `{name}` is not a feed that can be requested on its own"
                ));
            }
            time_field
                .check(&feed.fields)
                .map_err(|error| format!("changes: time_field {error} in `{name}`"))?;
        }
        if source.key.iter().any(|path| path.to_string() == PARENT_ID) && source.parent.is_none() {
            return Err(format!("key: `{PARENT_ID}` needs `parent`"));
        }
        let Some(parent) = &source.parent else {
            return Ok(());
        };
        let Some(other) = self.sources.get(&parent.source) else {
            let hint = did_you_mean(&parent.source, self.sources.keys().map(String::as_str));
            return Err(format!("unknown parent source `{}`{hint}", parent.source));
        };
        if other.kind != SourceKind::Snapshot {
            return Err(format!("parent `{}` must be a snapshot", other.name));
        }
        if self.depth(source) == self.sources.len() {
            return Err(format!(
                "its parents are circular, from `{}` back to it",
                other.name
            ));
        }
        for name in parent.fields() {
            if other.fields.find(name).is_some() {
                continue;
            }
            let known = other.fields.iter().map(|field| field.name().as_str());
            let hint = did_you_mean(name, known);
            return Err(format!(
                "parent `{}` has no field `{name}`{hint}",
                other.name
            ));
        }
        if parent.batch == 0 {
            return Err("`parent.batch` must be at least 1".into());
        }
        for (key, conditions) in [("where", &parent.only), ("where_not", &parent.except)] {
            if let Some((name, _)) = conditions.iter().find(|(_, values)| values.is_empty()) {
                return Err(format!("parent.{key}: `{name}` has no values"));
            }
        }
        Ok(())
    }
}

/// A catalog with all problems of its files.
#[derive(Debug)]
pub struct CheckedCatalog {
    /// The part that could be read. A model is left out if its query cannot be planned at all.
    pub catalog: Catalog,
    /// What is wrong, by file and place.
    pub problems: Vec<Problem>,
    /// The files' texts, by the paths that problems name.
    pub files: BTreeMap<String, String>,
}

impl CheckedCatalog {
    /// Reads the folder at `directory`, or the embedded catalog. Paths are shown as `directory` is given.
    ///
    /// # Errors
    /// [`CatalogError::Unreadable`] if the folder cannot be read.
    pub fn open(directory: Option<&Path>) -> Result<Self, CatalogError> {
        match directory {
            Some(directory) => {
                let (files, unread) = embedded::read_folder(directory)?;
                let origin = directory.display().to_string();
                Self::of_files(&origin, directory, &files, &unread, &mut model::parse_all)
            }
            None => Self::from_files("embedded", Path::new("sql"), &embedded::files()),
        }
    }

    fn from_files(
        origin: &str,
        folder: &Path,
        files: &[(String, String)],
    ) -> Result<Self, CatalogError> {
        Self::of_files(origin, folder, files, &[], &mut model::parse_all)
    }

    /// `unread` are files that exist but cannot be read, with the reason.
    fn of_files(
        origin: &str,
        folder: &Path,
        files: &[(String, String)],
        unread: &[(String, String)],
        parse: &mut Parse<'_>,
    ) -> Result<Self, CatalogError> {
        let mut catalog = Catalog {
            origin: origin.into(),
            sources: Arc::default(),
            models: Arc::default(),
        };
        let path_of = |path: &str| folder.join(path).display().to_string();
        let mut problems = Vec::new();
        for (path, reason) in unread {
            let place = SourceLocation {
                file: &path_of(path),
            };
            problems.push(place.at(1, format!("cannot be read: {reason}")));
        }
        let mut settings = settings::Settings::new();
        if let Some((path, text)) = files.iter().find(|(path, _)| path == settings::FILE) {
            let file = path_of(path);
            match settings::parse(&SourceLocation { file: &file }, text) {
                Ok(found) => settings = found,
                Err(problem) => problems.push(problem),
            }
        }
        for (path, text) in files {
            let place = SourceLocation {
                file: &path_of(path),
            };
            let Some((family, file)) = path.split_once('/').filter(|(_, file)| !file.contains('/'))
            else {
                continue;
            };
            if file == "sources.toml"
                && let Err(found) = catalog.add_sources(&place, family, text)
            {
                problems.extend(found);
            }
        }
        // References to sources cannot be checked if some sources could not be read.
        let has_all_sources = problems.iter().all(|it| it.file.ends_with(".sql"));
        let mut models = Vec::new();
        for (path, text) in files {
            let Some((family, file)) = path.split_once('/').filter(|(_, file)| !file.contains('/'))
            else {
                continue;
            };
            let Some(name) = file.strip_suffix(".sql") else {
                continue;
            };
            let file = path_of(path);
            match check_name(name) {
                Ok(()) => models.push(ModelFile {
                    file,
                    family,
                    name,
                    text,
                }),
                Err(reason) => problems.push(SourceLocation { file: &file }.at(1, reason)),
            }
        }
        let parsed = parse(&models, &settings);
        catalog.add_models(&models, parsed, &mut problems);
        if has_all_sources {
            problems.extend(catalog.remove_circles());
            let named = files.iter().map(|(path, _)| path);
            let named = named.chain(unread.iter().map(|(path, _)| path));
            let named = named.filter_map(|path| path.split_once('/')?.1.strip_suffix(".sql"));
            let unread = named.filter(|name| catalog.model(name).is_none()).collect();
            catalog.check_models(&unread, &mut problems);
            catalog.add_record_histories(&mut problems);
            problems.extend(catalog.check_sources(folder, files));
            if catalog.sources.is_empty() && problems.is_empty() {
                return Err(CatalogError::Empty {
                    origin: catalog.origin,
                });
            }
        }
        problems.sort_by(|a, b| (&a.file, a.place).cmp(&(&b.file, b.place)));
        Ok(Self {
            catalog,
            problems,
            files: files
                .iter()
                .map(|(path, text)| (path_of(path), text.clone()))
                .chain(
                    unread
                        .iter()
                        .map(|(path, _)| (path_of(path), String::new())),
                )
                .collect(),
        })
    }

    /// The catalog, if it has no errors.
    ///
    /// # Errors
    /// [`CatalogError::Wrong`] with all of them.
    pub fn into_catalog(self) -> Result<Catalog, CatalogError> {
        match Problems::new(self.problems.into_iter().filter(Problem::is_error)) {
            None => Ok(self.catalog),
            Some(problems) => Err(CatalogError::Wrong(problems)),
        }
    }
}

/// "; did you mean `x`?", or nothing.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, candidates)
        .map(|near| format!("; did you mean `{near}`?"))
        .unwrap_or_default()
}

fn twin<'a>(mut names: impl Iterator<Item = &'a String>, name: &str) -> Option<&'a String> {
    names.find(|other| other.eq_ignore_ascii_case(name))
}

/// Names become table, folder and object names: letters, digits and underscores.
fn check_name(name: &str) -> Result<(), String> {
    let fine = !name.is_empty()
        && name.len() <= 200
        && !name.starts_with('_')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if fine {
        Ok(())
    } else {
        Err(format!(
            "`{name}` is not a table name: use letters, digits and `_`, with a letter or digit first"
        ))
    }
}

/// A file, for messages.
struct SourceLocation<'a> {
    file: &'a str,
}

impl SourceLocation<'_> {
    fn at(&self, line: usize, reason: String) -> Problem {
        self.within(Place::line(line), reason)
    }

    fn within(&self, place: Place, reason: String) -> Problem {
        Problem::new(self.file, place, &reason)
    }

    /// A TOML error with its line and, for an unknown key, the nearest known one.
    fn toml(&self, text: &str, error: &toml::de::Error, keys: &[&str]) -> Problem {
        let at = error.span().map_or(Place::line(1), |span| {
            Place::of_bytes(text, span.start, span.end)
        });
        let message = error.message().lines().next().unwrap_or_default();
        let mut quoted = message.split('`').skip(1).step_by(2);
        let reason = match (message.starts_with("unknown "), quoted.next()) {
            (true, Some(unknown)) => {
                let what = message
                    .split(" `")
                    .next()
                    .unwrap_or("unknown key")
                    .replace("field", "key")
                    .replace("variant", "value");
                let known: Vec<&str> = quoted.chain(keys.iter().copied()).collect();
                let hint = did_you_mean(unknown, known.iter().copied());
                let hint = if hint.is_empty() {
                    format!("; known are {}", known.join(", "))
                } else {
                    hint
                };
                format!("{what} `{unknown}`{hint}")
            }
            _ => message
                .replace(
                    "expected a sequence",
                    "expected a list, such as [\"a\", \"b\"]",
                )
                .replace("expected a string", "expected text in quotes"),
        };
        self.within(at, reason)
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
        + 1
}

fn line_of_header(text: &str, name: &str) -> Option<usize> {
    text.lines()
        .position(|line| line.trim() == format!("[{name}]"))
        .map(|line| line + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_catalog_opens() {
        let catalog = Catalog::open(None).unwrap();
        assert!(catalog.source("fleet_vehicles").is_some());
        assert_eq!(catalog.models_of("fleet_tags").count(), 7);
        let rpm = catalog.model("fleet_vehicle_stats_engineRpm").unwrap();
        assert_eq!(rpm.sources, ["fleet_vehicle_stats_engineRpm"]);
        assert_eq!(
            rpm.column_descriptions()["engineRpm"],
            "revolutions per minute"
        );
        assert_eq!(rpm.column_descriptions()["time"], "when it was read");
    }

    /// A catalog with models of these names, whose queries read the source `a` and each other.
    fn of_models(models: &[(&str, &str)]) -> Result<Catalog, String> {
        let source = "[a]\ndescription = \"d\"\nkind = \"snapshot\"\nendpoint = \"/a\"\nrate_limit = \"5/s\"\nschema = \"id VARCHAR\"\n\
                      [b]\ndescription = \"d\"\nkind = \"report\"\nendpoint = \"/b\"\nrate_limit = \"5/s\"\nschema = \"id VARCHAR\"\n\
                      window = { start = \"s\", end = \"e\", format = \"date\" }\n";
        let mut files = vec![("f/sources.toml".to_string(), source.to_string())];
        files.extend(models.iter().map(|(name, sql)| {
            let text = format!("/*---\ndescription = \"d\"\n---*/\n{sql}");
            (format!("f/{name}.sql"), text)
        }));
        Catalog::from_files("test", &files).map_err(|error| error.to_string())
    }

    #[test]
    fn models_are_named_by_their_tables() {
        let catalog = of_models(&[
            ("list", "SELECT id FROM raw.a"),
            ("days", "SELECT id FROM raw.b"),
            ("over", "SELECT list.id FROM list JOIN days ON true"),
            (
                "top",
                "WITH days AS (SELECT id FROM over) SELECT id FROM days, list",
            ),
        ])
        .unwrap();
        let model = |name: &str| catalog.model(name).unwrap();
        let names = |models: Vec<&Model>| -> Vec<String> {
            models.into_iter().map(|it| it.name.clone()).collect()
        };
        assert_eq!(
            names(catalog.upstream_of(model("top"))),
            ["list", "days", "over"]
        );
        assert_eq!(model("top").upstream, ["list", "over"]);
        assert!(model("top").sources.is_empty());
        assert_eq!(catalog.driving_source(model("top")).unwrap().name, "b");
        assert_eq!(
            catalog
                .sources_of(model("over"))
                .into_iter()
                .collect::<Vec<_>>(),
            ["a", "b"]
        );
        // A source does not represent what is made from its models.
        assert_eq!(names(catalog.models_of("a").collect()), ["list"]);
    }

    #[test]
    fn circles_and_unknown_tables_are_refused() {
        let from = |table: &str| format!("SELECT id FROM {table}");
        for (models, expected) in [
            (
                &[("a", "a")][..],
                "sql/f/a.sql:4: `a` reads its own table; did you mean `raw.a`?",
            ),
            (&[("x", "x")], "sql/f/x.sql:4: `x` reads its own table"),
            (
                &[("z", "x"), ("x", "y"), ("y", "z"), ("w", "x")],
                "sql/f/x.sql:4: models read each other in a circle: x → y → z → x",
            ),
            (
                &[("y", "raw.a"), ("x", "yy")],
                "sql/f/x.sql:4: unknown table `yy`; did you mean `y`?",
            ),
            (
                &[("y", "raw.a"), ("x", "b")],
                "sql/f/x.sql:4: unknown table `b`; did you mean `raw.b`?",
            ),
            (
                &[("y", "raw.a"), ("x", "public.y")],
                "sql/f/x.sql:4: reads `public.y`, but a model reads raw tables",
            ),
            // Models that read an invalid one are not reported.
            (
                &[("y", "raw.c"), ("x", "y")],
                "sql/f/y.sql:4: unknown source `raw.c`",
            ),
        ] {
            let models: Vec<(&str, String)> = models
                .iter()
                .map(|(name, table)| (*name, from(table)))
                .collect();
            let models: Vec<(&str, &str)> = models
                .iter()
                .map(|(name, sql)| (*name, sql.as_str()))
                .collect();
            let error = of_models(&models).unwrap_err();
            assert!(error.contains(expected), "{error}\nexpected {expected}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn an_endpoint_is_a_path_and_never_another_host() {
        let source = |endpoint: &str| {
            let quoted = serde_json::Value::from(endpoint);
            let kind = "kind = \"window\"\ntime_field = \"at\"\nwindow = { start = \"s\", end = \"e\", format = \"date\" }";
            let rest = "rate_limit = \"5/s\"\nschema = \"at VARCHAR\"\ndescription = \"d\"";
            [("endpoint", "changes"), ("changes", "endpoint")].map(|(key, other)| {
                let text = format!("[a]\n{kind}\n{rest}\n{key} = {quoted}\n{other} = \"/a\"\n");
                Catalog::from_files("test", &[("f/sources.toml".into(), text)])
                    .map_err(|error| error.to_string())
            })
        };
        for path in ["/a", "/v1/fleet/x_y-z.1", "/a/...", "/a/.b"] {
            assert!(source(path).iter().all(Result::is_ok), "{path}");
        }
        for path in [
            "//127.0.0.1:9002/steal",
            "/\\host/steal",
            "\\\\host/steal",
            "/\t/host/steal",
            "/\n/host/steal",
            "/a//b",
            "/a/../b",
            "/a/..",
            "/./a",
            "/a/%2e%2e/b",
            "/a%2fb",
            "/a b",
            "/a?b=c",
            "/a#b",
            "https://host/steal",
            "a",
            "",
            "/ä",
            "/a\u{0}",
        ] {
            for refused in source(path) {
                let error = refused.unwrap_err();
                assert!(
                    error.contains("sql/f/sources.toml:1: source `a`: ")
                        && error.lines().count() == 1,
                    "{error}"
                );
            }
        }
    }

    /// For any content of a file, problems are reported with their place: in characters, with tabs, with line ends of
    /// any kind.
    #[test]
    fn problems_of_any_text_have_their_place() {
        let source = "[a]\ndescription = \"d\"\nkind = \"snapshot\"\nendpoint = \"/a\"\nrate_limit = \"5/s\"\nschema = \"id VARCHAR\"\n";
        let head = "/*---\ndescription = \"d\"\n---*/\n";
        let after_head = |sql: &str| format!("{head}{sql}");
        // The file, then for each problem: line, column, underlined text, and a part of the message.
        type Told<'a> = (usize, usize, &'a str, &'a str);
        let cases: &[(String, &[Told<'_>])] = &[
            (String::new(), &[(1, 0, "", "must begin with a front matter block")]),
            ("\r\n".into(), &[(1, 0, "", "must begin with a front matter block")]),
            ("SELECT id FROM raw.a".into(), &[(1, 0, "SELECT id FROM raw.a", "must begin")]),
            ("/*---".into(), &[(1, 0, "/*---", "is not closed with `---*/`")]),
            (
                "/*------*/".into(),
                &[
                    (1, 0, "/*------*/", "the file holds no query"),
                    (1, 1, "/", "missing field `description`"),
                ],
            ),
            (after_head(""), &[(1, 0, "/*---", "the file holds no query")]),
            (after_head("-- nothing\n"), &[(1, 0, "/*---", "the file holds no query")]),
            (
                "/*---\ndescription = \n---*/\nSELECT id FROM raw.a".into(),
                &[(2, 15, "", "string values must be quoted")],
            ),
            (
                "/*---\r\ndescription = \"ä\"\r\n\tuniqe_key = []\r\n---*/\r\nSELECT id\tname\r\nFROM raw.a".into(),
                &[
                    (3, 2, "uniqe_key", "did you mean `unique_key`?"),
                    (5, 11, "name", "`name` follows `id` without a comma or AS"),
                ],
            ),
            (
                after_head("\tSELECT '→ä😀' x,\r\n\t\tid y FROM raw.a"),
                &[(4, 15, "x", "`x` follows"), (5, 6, "y", "`y` follows `id`")],
            ),
            (
                after_head("SELECT 'ä' AS b, id c AS d FROM raw.a"),
                &[(4, 23, "AS", "expected the end of the query, found `AS`: is there a comma missing before it?")],
            ),
            (
                after_head("SELECT (id FROM raw.a"),
                &[(4, 12, "FROM", "expected `)`, found `FROM`")],
            ),
            (
                after_head("SELECT id FROM"),
                &[(4, 11, "FROM", "expected identifier, found the end of the file")],
            ),
            (
                after_head("SELECT id, 'x AS b,\n  'c' AS d\nFROM raw.a"),
                &[(4, 12, "'x AS b,", "continues to line 5: its closing quote is missing")],
            ),
            (
                after_head("SELECT 'ö', 'x FROM raw.a"),
                &[(4, 13, "'x FROM raw.a", "the text that begins here is not closed")],
            ),
            (
                after_head("SELECT 'ö', \"id FROM raw.a"),
                &[(4, 13, "\"id FROM raw.a", "the name that begins here is not closed")],
            ),
            (
                after_head("SELECT 'ö' AS x /* a comment\nFROM raw.a"),
                &[(4, 17, "/*", "the comment that begins here is not closed")],
            ),
            (
                after_head("SELECT id FROM raw.a;\nSELECT id FROM raw.a"),
                &[(4, 1, "SELECT", "one SELECT and nothing else")],
            ),
            (after_head("DROP TABLE raw.a"), &[(4, 1, "DROP", "one SELECT and nothing else")]),
            (
                after_head("SELECT id FROM raw.a, \"b\n\""),
                &[(4, 23, "\"b", "unknown table `b `")],
            ),
        ];
        let mut wrong = String::new();
        for (text, expected) in cases {
            let files = [
                ("f/sources.toml".to_string(), source.to_string()),
                ("f/t.sql".to_string(), text.clone()),
            ];
            let checked = CheckedCatalog::from_files("test", Path::new("sql"), &files).unwrap();
            let found: Vec<_> = checked
                .problems
                .iter()
                .map(|it| (it.place.line, it.place.column, &text[it.place.bytes(text)]))
                .collect();
            let wanted: Vec<_> = expected.iter().map(|it| (it.0, it.1, it.2)).collect();
            let mut told = checked.problems.iter().zip(*expected);
            if found != wanted || !told.all(|(it, told)| it.reason.contains(told.3)) {
                wrong.push_str(&format!(
                    "{text:?}\n  expected {expected:?}\n  found {found:?} {:?}\n",
                    checked.problems
                ));
            }
            for problem in &checked.problems {
                assert!(!problem.reason.contains(char::is_control), "{problem}");
            }
        }
        assert!(wrong.is_empty(), "{wrong}");
    }

    #[test]
    fn wrong_catalogs_are_refused_by_line() {
        let source = "[a]\ndescription = \"d\"\nkind = \"snapshot\"\nendpoint = \"/a\"\nrate_limit = \"5/s\"\nschema = \"id VARCHAR\"\n";
        let model = "/*---\ndescription = \"d\"\n---*/\nSELECT id FROM raw.a\n";
        let daily = |keys: &str| {
            let kind = "kind = \"window\"\nwindow = { start = \"a\", end = \"b\", format = \"rfc3339\" }\n";
            let schema = "id VARCHAR, start VARCHAR, stop VARCHAR, on BOOLEAN, l ARRAY<STRUCT<at VARCHAR, to VARCHAR>>";
            source
                .replace("kind = \"snapshot\"", &format!("{kind}{keys}"))
                .replace("id VARCHAR", schema)
        };
        let child = |conditions: &str| {
            let parent = format!("source = \"a\", field = \"id\", param = \"ids\", {conditions}");
            let child = source.replace("[a]", "[b]");
            format!("{source}{child}parent = {{ {parent} }}\n").replacen(
                "id VARCHAR",
                "id VARCHAR, kind VARCHAR",
                1,
            )
        };
        let cases: &[(&str, &str, &str)] = &[
            (
                "f/sources.toml",
                &source.replace("kind", "end_field = \"id\"\nkind"),
                "`end_field` is for the kinds `window` and `report` only",
            ),
            (
                "f/sources.toml",
                &daily("time_field = \"start\"\nend_field = \"stopp\""),
                "end_field `stopp`: unknown field `stopp`",
            ),
            (
                "f/sources.toml",
                &daily("time_field = \"start\"\nend_field = \"on\""),
                "end_field `on`: a time must be VARCHAR or BIGINT",
            ),
            (
                "f/sources.toml",
                &daily("time_field = \"start\"\nend_field = \"l[].to\""),
                "end_field `l[].to` must be in the same object as `time_field`",
            ),
            (
                "f/sources.toml",
                &daily("time_field = \"start\"\nend_field = \"stop\"\nrow_key = [\"l[].to\"]"),
                "row_key `l[].to` must be in the same list as `time_field`, or outside any list",
            ),
            (
                "f/sources.toml",
                &daily("time_field = \"start\"\nrow_key = [\"id\"]"),
                "`row_key` needs `end_field`",
            ),
            (
                "f/sources.toml",
                &format!("{source}asked = [\"kind\"]\n"),
                "asked: `kind` is not a parameter of `sweep` or of `parent.with`",
            ),
            (
                "f/sources.toml",
                &daily("time_field = \"start\"\ncloses_after = \"3h\""),
                "`closes_after` is of a report",
            ),
            (
                "f/sources.toml",
                &daily("time_field = \"start\"").replace("rfc3339", "month_name"),
                "only a report is made of one",
            ),
            (
                "f/sources.toml",
                &daily("time_field = \"start\"\nend_field = \"stop | start\""),
                "end_field `stop | start`: one field is the most",
            ),
            (
                "f/sources.toml",
                &source.replace("endpoint", "endpont"),
                "sql/f/sources.toml:4: unknown key `endpont`; did you mean `endpoint`?",
            ),
            (
                "f/sources.toml",
                &source.replace("snapshot", "snapshoot"),
                "sql/f/sources.toml:3: unknown value `snapshoot`; did you mean `snapshot`?",
            ),
            (
                "f/sources.toml",
                &source.replace("5/s", "5 a second"),
                "sql/f/sources.toml:1: source `a`: `5 a second` is not a rate",
            ),
            (
                "f/sources.toml",
                &source.replace("VARCHAR", "UUID"),
                "sql/f/sources.toml:1: source `a`: schema: `id`: unknown type UUID",
            ),
            (
                "f/sources.toml",
                &format!("{source}kind = \"feed\"\n"),
                "sql/f/sources.toml:7: duplicate key",
            ),
            (
                "f/sources.toml",
                &format!(
                    "{source}parent = {{ source = \"a\", field = \"id\", param = \"ids\" }}\n"
                ),
                "source `a`: its parents are circular",
            ),
            (
                "f/sources.toml",
                &child("where = { kindd = [\"x\"] }"),
                "source `b`: parent `a` has no field `kindd`; did you mean `kind`?",
            ),
            (
                "f/sources.toml",
                &child("where_not = { kind = [] }"),
                "source `b`: parent.where_not: `kind` has no values",
            ),
            (
                "f/sources.toml",
                &format!("{source}since = {{ param = \"startTime\", back = \"a day\" }}\n"),
                "since: back = \"a day\" is not a number of hours",
            ),
            (
                "f/sources.toml",
                &daily("time_field = \"start\"\nsince = { param = \"s\", back = \"1h\" }"),
                "`since` is of a snapshot",
            ),
            (
                "f/a.sql",
                &model.replace("raw.a", "raw.aa"),
                "sql/f/a.sql:4: unknown source `raw.aa`; did you mean `a`?",
            ),
            (
                "f/a.sql",
                &model.replace("raw.a", "raw.raw.a"),
                "reads `raw.raw.a`, but a model reads raw tables",
            ),
            (
                "f/a.sql",
                &model.replace("id", &format!("{}id{}", "(".repeat(33), ")".repeat(33))),
                "sql/f/a.sql:4: more than 32 levels of brackets",
            ),
            (
                "f/a.sql",
                &model.replace("id", &format!("CAST(id AS {}", "ARRAY<".repeat(5))),
                "more than 4 levels of nested types",
            ),
            (
                "f/a.sql",
                &model.replace("id", &format!("id{}", " + 1".repeat(5_000))),
                "the query is too long",
            ),
            (
                "f/a.sql",
                &model.replace("raw.a", "a"),
                "`a` reads its own table; did you mean `raw.a`?",
            ),
            (
                "f/a.sql",
                &model.replace("description", "descripton"),
                "sql/f/a.sql:2: unknown key `descripton`; did you mean `description`?",
            ),
            (
                "f/a.sql",
                &model.replace("SELECT", "SELEC"),
                "sql/f/a.sql:4: ",
            ),
            (
                "f/a.sql",
                "SELECT id FROM raw.a",
                "sql/f/a.sql:1: the file must begin with a front matter",
            ),
            ("f/a.sql", &format!("{model}; DROP TABLE x"), "one SELECT"),
        ];
        for (path, text, expected) in cases {
            let mut files = vec![
                ("f/sources.toml".to_string(), source.to_string()),
                ("f/a.sql".into(), model.into()),
            ];
            Catalog::from_files("test", &files).unwrap();
            let listed =
                daily("time_field = \"l[].at\"\nend_field = \"l[].to\"\nrow_key = [\"id\"]");
            Catalog::from_files("test", &[("f/sources.toml".into(), listed)]).unwrap();
            files.iter_mut().find(|(name, _)| name == path).unwrap().1 = text.to_string();
            let error = Catalog::from_files("test", &files).unwrap_err().to_string();
            assert!(
                error.contains(expected),
                "{path}: {error}\nexpected {expected}"
            );
        }
    }
}
