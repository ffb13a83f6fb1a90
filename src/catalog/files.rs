//! The files of a catalog in an editor: those of the folder, and unsaved changes.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::embedded::{Files, read_folder};
use super::model::{ModelFile, ParsedModel, parse_all};
use super::settings::Settings;
use super::{CatalogError, CheckedCatalog};

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
        let mut parse = |files: &[ModelFile<'_>], settings: &Settings| parsed.of(files, settings);
        CheckedCatalog::of_files(&origin, &self.folder, &files, &unread, &mut parse)
    }
}

/// Models by the path and text of their file.
#[derive(Debug, Default)]
struct ParsedModels {
    /// The settings with which they were parsed.
    settings: Settings,
    models: HashMap<String, (String, ParsedModel)>,
}

impl ParsedModels {
    /// The models of files. Only those whose text or settings have changed are parsed.
    fn of(&mut self, files: &[ModelFile<'_>], settings: &Settings) -> Vec<ParsedModel> {
        if self.settings != *settings {
            self.models.clear();
            self.settings.clone_from(settings);
        }
        let is_known = |file: &&ModelFile<'_>| {
            let known = self.models.get(&file.file);
            known.is_some_and(|(text, _)| text == file.text)
        };
        let changed = files.iter().filter(|file| !is_known(file)).cloned();
        let changed: Vec<ModelFile<'_>> = changed.collect();
        for (file, parsed) in changed.iter().zip(parse_all(&changed, settings)) {
            let kept = (file.text.to_string(), parsed);
            self.models.insert(file.file.clone(), kept);
        }
        let parsed = |file: &ModelFile<'_>| Some(self.models.get(&file.file)?.1.clone());
        files.iter().filter_map(parsed).collect()
    }
}
