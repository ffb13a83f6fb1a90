//! The copy of `sql/` in the program, and the same files read from a folder.

use std::fs;
use std::path::Path;

use include_dir::{Dir, include_dir};

use super::{CatalogError, settings};
use crate::config::bounds::CATALOG_FILE_BYTES;
use crate::config::text::{FileError, read_text};

static SQL: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/sql");

/// `(<family>/<file>, text)` of catalog files; `settings.toml` is outside the families.
pub(super) type Files = Vec<(String, String)>;

/// Every catalog file in the program.
pub(super) fn files() -> Files {
    let families = SQL.dirs();
    let settings = SQL.get_file(settings::FILE);
    let mut files: Vec<_> = families
        .flat_map(|family| family.files())
        .chain(settings)
        .filter(|file| name_of(file.path()).is_some_and(is_visible))
        .filter_map(|file| {
            Some((
                file.path().to_str()?.replace('\\', "/"),
                file.contents_utf8()?.to_string(),
            ))
        })
        .collect();
    files.sort();
    files
}

/// The same from a folder on disk; and the files that cannot be read, each with the reason.
pub(super) fn read_folder(directory: &Path) -> Result<(Files, Files), CatalogError> {
    fn unreadable(path: &Path, error: impl Into<FileError>) -> CatalogError {
        CatalogError::Unreadable {
            path: path.to_path_buf(),
            error: error.into(),
        }
    }
    let (mut files, mut unread) = (Files::new(), Files::new());
    for family in fs::read_dir(directory).map_err(|error| unreadable(directory, error))? {
        let family = family.map_err(|error| unreadable(directory, error))?.path();
        if name_of(&family) == Some(settings::FILE) {
            match read_text(&family, CATALOG_FILE_BYTES) {
                Ok(text) => files.push((settings::FILE.into(), text)),
                Err(error) => unread.push((settings::FILE.into(), error.to_string())),
            }
        }
        if !family.is_dir() {
            continue;
        }
        for file in fs::read_dir(&family).map_err(|error| unreadable(&family, error))? {
            let file = file.map_err(|error| unreadable(&family, error))?.path();
            let (Some(folder), Some(name)) = (name_of(&family), name_of(&file)) else {
                continue;
            };
            if is_visible(folder)
                && is_visible(name)
                && (name == "sources.toml" || name.ends_with(".sql"))
            {
                let path = format!("{folder}/{name}");
                match read_text(&file, CATALOG_FILE_BYTES) {
                    Ok(text) => files.push((path, text)),
                    Err(error) => unread.push((path, error.to_string())),
                }
            }
        }
    }
    files.sort();
    Ok((files, unread))
}

/// macOS puts `._x.sql` next to `x.sql` on foreign file systems, and editors create hidden files.
fn is_visible(name: &str) -> bool {
    !name.starts_with('.')
}

fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    const SOURCE: &str = "[a]\ndescription = \"d\"\nkind = \"snapshot\"\nendpoint = \"/a\"\nrate_limit = \"5/s\"\nschema = \"id VARCHAR\"\n";
    const MODEL: &str = "/*---\ndescription = \"Größe\"\n---*/\nSELECT id FROM raw.a\n";

    #[test]
    fn sql_folders_are_read_in_common_encodings() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, bytes: &[u8]| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        let wide = |text: &str| {
            text.encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect::<Vec<_>>()
        };
        write(
            "f/sources.toml",
            &[b"\xef\xbb\xbf", SOURCE.as_bytes()].concat(),
        );
        write("f/utf8.sql", &[b"\xef\xbb\xbf", MODEL.as_bytes()].concat());
        write("f/utf16.sql", &wide(&format!("\u{feff}{MODEL}")));
        write(
            "f/latin.sql",
            &MODEL.chars().map(|c| c as u8).collect::<Vec<_>>(),
        );
        // AppleDouble files hold binary data, and also exist for folders.
        for hidden in [
            "f/._utf8.sql",
            "f/.DS_Store",
            "f/._sources.toml",
            "._f",
            ".DS_Store",
            ".git/x.sql",
        ] {
            write(hidden, b"\0\x05\x16\x07\0\x02\0\0Mac OS X");
        }
        let catalog = Catalog::open(Some(folder.path())).unwrap();
        let models: Vec<_> = catalog
            .models()
            .map(|it| (&it.name[..], &it.front_matter.description[..]))
            .collect();
        assert_eq!(
            models,
            ["latin", "utf16", "utf8"].map(|name| (name, "Größe"))
        );

        let refused = || Catalog::open(Some(folder.path())).unwrap_err().to_string();
        let pipe = folder.path().join("f/pipe.sql");
        crate::config::text::make_pipe(&pipe);
        assert!(
            refused().ends_with("f/pipe.sql:1: cannot be read: it is a named pipe, not a file"),
            "{}",
            refused()
        );
        fs::remove_file(&pipe).unwrap();
        write("f/binary.sql", b"a\0b");
        assert!(
            refused()
                .ends_with("f/binary.sql:1: cannot be read: it is not text: it holds NUL bytes"),
            "{}",
            refused()
        );
        write("f/binary.sql", &vec![b' '; CATALOG_FILE_BYTES as usize + 1]);
        assert!(
            refused().contains("f/binary.sql:1: cannot be read: it has more than 4096 KiB"),
            "{}",
            refused()
        );
    }
}
