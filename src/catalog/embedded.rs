//! The copy of `sql/` inside the program, and the same files read from a folder.

use std::fs;
use std::path::Path;

use include_dir::{Dir, include_dir};

use super::CatalogError;

static SQL: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/sql");

/// `(<family>/<file>, text)` of every catalog file in the program.
pub(super) fn files() -> Vec<(String, String)> {
    let families = SQL.dirs();
    let mut files: Vec<_> = families
        .flat_map(|family| family.files())
        .filter_map(|file| Some((file.path().to_str()?.replace('\\', "/"), file.contents_utf8()?.to_string())))
        .collect();
    files.sort();
    files
}

/// The same from a folder on disk.
pub(super) fn read_folder(directory: &Path) -> Result<Vec<(String, String)>, CatalogError> {
    let unreadable = |path: &Path, error: std::io::Error| CatalogError::Unreadable {
        path: path.to_path_buf(),
        reason: error.to_string(),
    };
    let mut files = Vec::new();
    for family in fs::read_dir(directory).map_err(|error| unreadable(directory, error))? {
        let family = family.map_err(|error| unreadable(directory, error))?.path();
        if !family.is_dir() {
            continue;
        }
        for file in fs::read_dir(&family).map_err(|error| unreadable(&family, error))? {
            let file = file.map_err(|error| unreadable(&family, error))?.path();
            let (Some(folder), Some(name)) = (name_of(&family), name_of(&file)) else { continue };
            if name == "sources.toml" || name.ends_with(".sql") {
                let text = fs::read_to_string(&file).map_err(|error| unreadable(&file, error))?;
                files.push((format!("{folder}/{name}"), text));
            }
        }
    }
    files.sort();
    Ok(files)
}

fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}
