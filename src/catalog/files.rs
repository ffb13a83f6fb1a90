//! The files of a catalog in an editor: those of the folder, and unsaved changes.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::embedded::{Files, read_folder};
use super::model::{Model, parse};
use super::settings::Settings;
use super::{CatalogError, CheckedCatalog, Problem, SourceLocation};

/// A catalog that is read repeatedly while its files change.
#[derive(Debug)]
pub struct CatalogFiles {
    folder: PathBuf,
    /// The files of the folder, by `<family>/<file>`.
    saved: BTreeMap<String, String>,
    unread: Files,
    /// The unsaved text.
    unsaved: BTreeMap<String, String>,
    parsed: ParsedModels,
}

impl CatalogFiles {
    /// Reads the folder.
    ///
    /// # Errors
    /// [`CatalogError::Unreadable`] if it cannot be read.
    pub fn open(folder: &Path) -> Result<Self, CatalogError> {
        let mut files = Self {
            folder: folder.to_path_buf(),
            saved: BTreeMap::new(),
            unread: Files::new(),
            unsaved: BTreeMap::new(),
            parsed: ParsedModels::default(),
        };
        files.reread()?;
        Ok(files)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads the folder again.
    ///
    /// # Errors
    /// [`CatalogError::Unreadable`] if it cannot be read; the files known before stay.
    pub fn reread(&mut self) -> Result<(), CatalogError> {
        let (files, unread) = read_folder(&self.folder)?;
        self.saved = files.into_iter().collect();
        self.unread = unread;
        Ok(())
    }

    /// Sets the unsaved text of a file, `<family>/<file>`; none if it is saved.
    pub fn set_unsaved(&mut self, path: &str, text: Option<String>) {
        match text {
            Some(text) => drop(self.unsaved.insert(path.to_string(), text)),
            None => drop(self.unsaved.remove(path)),
        }
    }

    /// The text of a file that is not saved.
    pub fn unsaved(&self, path: &str) -> Option<&str> {
        self.unsaved.get(path).map(String::as_str)
    }

    /// The catalog with all its problems. Only models whose text has changed since the last time are parsed.
    ///
    /// # Errors
    /// [`CatalogError::Empty`] if there are no sources.
    pub fn check(&mut self) -> Result<CheckedCatalog, CatalogError> {
        let changes = BTreeMap::new();
        self.check_with(&changes)
    }

    /// The same, with other texts for some files.
    ///
    /// # Errors
    /// As [`CatalogFiles::check`].
    pub fn check_with(
        &mut self,
        changes: &BTreeMap<String, String>,
    ) -> Result<CheckedCatalog, CatalogError> {
        let mut files = self.saved.clone();
        files.extend(self.unsaved.clone());
        files.extend(changes.clone());
        let files: Files = files.into_iter().collect();
        let is_known = |path: &String| files.iter().any(|(known, _)| known == path);
        let unread: Files = self.unread.clone();
        let unread: Files = unread
            .into_iter()
            .filter(|(path, _)| !is_known(path))
            .collect();
        let origin = self.folder.display().to_string();
        let parsed = &mut self.parsed;
        let mut parse = |place: &SourceLocation<'_>,
                         name: &str,
                         family: &str,
                         text: &str,
                         settings: &Settings| {
            parsed.use_settings(settings);
            parsed.of(place, text, || parse(place, name, family, text, settings))
        };
        CheckedCatalog::of_files(&origin, &self.folder, &files, &unread, &mut parse)
    }
}

/// Models by the path and text of their file.
#[derive(Debug, Default)]
struct ParsedModels {
    /// The settings with which they were parsed.
    settings: Settings,
    models: HashMap<String, (String, Option<Model>, Vec<Problem>)>,
}

impl ParsedModels {
    /// Discards what was parsed with other settings.
    fn use_settings(&mut self, settings: &Settings) {
        if self.settings != *settings {
            self.models.clear();
            self.settings.clone_from(settings);
        }
    }

    /// The model of a file, parsed only if its text has changed.
    fn of(
        &mut self,
        place: &SourceLocation<'_>,
        text: &str,
        parse: impl FnOnce() -> (Option<Model>, Vec<Problem>),
    ) -> (Option<Model>, Vec<Problem>) {
        match self.models.get(place.file) {
            Some((known, model, problems)) if known == text => (model.clone(), problems.clone()),
            _ => {
                let (model, problems) = parse();
                let kept = (text.to_string(), model.clone(), problems.clone());
                self.models.insert(place.file.to_string(), kept);
                (model, problems)
            }
        }
    }
}
