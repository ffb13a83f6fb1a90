//! Makes a folder as durable as a bucket, and keeps writes and deletions inside it.
//!
//! `LocalFileSystem` writes a temporary file and renames it, so a killed program leaves only whole objects. After a
//! power failure, however, the disk may have the new name but not the bytes. So a file is synced before anything refers
//! to it.
//!
//! The folder itself may be a symbolic link. Below it, writes, deletions and the listing of `clean` follow no link: a
//! link that someone has put there leads to files that are not this program's.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Error, ErrorKind, Result, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::Listed;

/// Keys of this program have no more parts.
const DEEPEST: usize = 4;

/// Refuses a path below `root` that goes through a symbolic link. Its last part may be one: it is replaced, not followed.
pub(super) fn check_way(path: &Path, root: &Path) -> Result<()> {
    for folder in path
        .ancestors()
        .skip(1)
        .take_while(|folder| *folder != root && folder.starts_with(root))
    {
        match fs::symlink_metadata(folder) {
            Ok(found) if found.is_symlink() => return Err(linked(folder)),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn linked(path: &Path) -> Error {
    Error::other(format!(
        "{} is a symbolic link, which is not followed: remove it",
        path.display()
    ))
}

/// Opens the file that is locked while another one is replaced. It is created if needed, and stays empty.
pub(super) fn open_lock(path: &Path) -> Result<File> {
    match File::options().write(true).create_new(true).open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        made => return made,
    }
    match fs::symlink_metadata(path)? {
        found if found.is_symlink() => Err(linked(path)),
        found if !found.is_file() => Err(Error::other(format!(
            "{} is not a file: remove it",
            path.display()
        ))),
        // Never truncated: if it was replaced by a link just now, the link's target stays as it is.
        _ => File::options().write(true).open(path),
    }
}

/// Removes the file `path` below `root`. It is not an error if it is already gone.
pub(super) fn remove(path: &Path, root: &Path) -> Result<()> {
    check_way(path, root)?;
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
        Ok(_) => Err(Error::other(format!(
            "{} is not a file and was not removed",
            path.display()
        ))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The files below `prefix` of the folder `root` (all files, if it is empty), as deep as keys of this program go. Links
/// and other special files are left out.
pub(super) fn list(root: &Path, prefix: &str) -> Result<Vec<Listed>> {
    let mut found = Vec::new();
    let top = if prefix.is_empty() {
        root.to_path_buf()
    } else {
        root.join(prefix)
    };
    // The configured folder may be a link, and may not exist yet.
    let is_there = if prefix.is_empty() {
        top.is_dir()
    } else {
        fs::symlink_metadata(&top).is_ok_and(|top| top.is_dir())
    };
    if !is_there {
        return Ok(found);
    }
    let mut folders = vec![(top, prefix.to_string())];
    while let Some((folder, prefix)) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let key = if prefix.is_empty() {
                name
            } else {
                format!("{prefix}/{name}")
            };
            // Of the link itself, where it is one.
            let meta = match entry.metadata() {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                meta => meta?,
            };
            if meta.is_dir() && key.matches('/').count() + 1 < DEEPEST {
                folders.push((entry.path(), key));
            } else if meta.is_file() {
                found.push(Listed {
                    key,
                    bytes: meta.len(),
                    modified: meta.modified()?.into(),
                });
            }
        }
    }
    Ok(found)
}

/// The folders whose own names are on the disk, as far as this program knows.
#[derive(Debug, Default)]
pub(super) struct Settled(Mutex<HashSet<PathBuf>>);

/// Waits until the file `path` below `root` and its name are on the disk.
pub(super) fn sync(path: &Path, root: &Path, settled: &Settled) -> Result<()> {
    File::open(path)?.sync_all()?;
    settled.settle_name(path, root)
}

/// Replaces the file `path` below `root`: afterwards, and after any crash, it is the new one or the old one. If
/// `is_private`, nobody else may read it, nor the folders created for it.
///
/// The caller must ensure that nobody else replaces it at the same time.
pub(super) fn replace(
    path: &Path,
    root: &Path,
    bytes: &[u8],
    is_private: bool,
    settled: &Settled,
) -> Result<()> {
    replace_with(path, root, is_private, settled, |file| {
        file.write_all(bytes)
    })
}

/// As [`replace`], with what `write` writes.
pub(super) fn replace_with(
    path: &Path,
    root: &Path,
    is_private: bool,
    settled: &Settled,
    write: impl FnOnce(&mut File) -> Result<()>,
) -> Result<()> {
    check_way(path, root)?;
    match path.parent() {
        Some(folder) if is_private && folder != root => private_folder(folder)?,
        Some(folder) => fs::create_dir_all(folder)?,
        None => {}
    }
    // Named as `LocalFileSystem` does, so that it counts as leftover.
    let mut staged = path.as_os_str().to_owned();
    staged.push("#0");
    let staged = PathBuf::from(staged);
    let written = || {
        let mut file = create_anew(&staged)?;
        if is_private {
            keep_private(&file);
        }
        write(&mut file)?;
        file.sync_all()?;
        fs::rename(&staged, path)
    };
    if let Err(error) = written() {
        // A leftover is harmless, and `clean` reports it.
        let _ = fs::remove_file(&staged);
        return Err(error);
    }
    settled.settle_name(path, root)
}

/// Creates a folder, and those above it, that nobody else may read.
pub(crate) fn private_folder(path: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}

/// Makes a file readable and writable by its owner only. A file system without modes is as private as its mount.
#[cfg(unix)]
pub(crate) fn keep_private(file: &File) {
    let _ = file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600));
}

/// Elsewhere, files are as private as their folder.
#[cfg(not(unix))]
pub(crate) fn keep_private(_: &File) {}

/// Creates a file where a program that died may have left one, or someone a link: the link is removed, not its target.
fn create_anew(path: &Path) -> Result<File> {
    let create = || File::options().write(true).create_new(true).open(path);
    match create() {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            create()
        }
        made => made,
    }
}

impl Settled {
    /// A name is durable once its folder is synced, and that folder's name once its parent is. Nothing but a person
    /// removes folders, so the names of folders are synced once.
    #[cfg(unix)]
    fn settle_name(&self, path: &Path, root: &Path) -> Result<()> {
        let folders = || {
            let folders = path.ancestors().skip(1);
            folders.take_while(|folder| folder.starts_with(root))
        };
        for folder in folders() {
            File::open(folder)?.sync_all()?;
            if self.0.lock().contains(folder) {
                break;
            }
        }
        // Only now: a name that could not be synced is tried again with the next file. The folders of days are not kept,
        // which are many and have few files.
        let kept = folders().enumerate().filter(|(above, folder)| {
            *above > 0 || *folder == root || folder.parent() == Some(root)
        });
        self.0
            .lock()
            .extend(kept.map(|(_, folder)| folder.to_path_buf()));
        Ok(())
    }

    /// Elsewhere, folders cannot be opened; the system makes names durable by itself.
    #[cfg(not(unix))]
    fn settle_name(&self, _: &Path, _: &Path) -> Result<()> {
        Ok(())
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder, and a file outside it that nobody may touch.
    fn scene() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let all = tempfile::tempdir().unwrap();
        let (root, victim) = (
            all.path().canonicalize().unwrap().join("root"),
            all.path().join("victim"),
        );
        fs::create_dir(&root).unwrap();
        fs::write(&victim, "precious").unwrap();
        (all, root, victim)
    }

    #[test]
    fn links_are_replaced_and_not_followed() {
        let (_all, root, victim) = scene();
        for name in ["lock.json", "state/a.json"] {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(&victim, &path).unwrap();
            symlink(&victim, root.join(format!("{name}#0"))).unwrap();
            replace(&path, &root, b"new", false, &Settled::default()).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"new");
            assert!(
                fs::symlink_metadata(&path).unwrap().is_file()
                    && !root.join(format!("{name}#0")).exists()
            );
        }
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }

    #[test]
    fn folders_above_those_of_days_are_synced_once() {
        let (_all, root, _) = scene();
        let settled = Settled::default();
        for day in ["2024-01-01", "2024-01-02"] {
            let path = root.join("raw/trips").join(day).join("a.parquet");
            replace(&path, &root, b"new", false, &settled).unwrap();
        }
        replace(&root.join("state/a.json"), &root, b"{}", false, &settled).unwrap();
        let mut known: Vec<_> = settled.0.into_inner().into_iter().collect();
        known.sort();
        let expected = ["", "raw", "raw/trips", "state"];
        assert!(
            known.iter().eq(&expected.map(|folder| root.join(folder))),
            "{known:?}"
        );
    }

    #[test]
    fn nothing_is_written_listed_or_removed_through_a_linked_folder() {
        let (all, root, victim) = scene();
        symlink(all.path(), root.join("state")).unwrap();
        let path = root.join("state/victim");
        for refused in [
            replace(&path, &root, b"new", false, &Settled::default()),
            remove(&path, &root),
        ] {
            assert!(
                refused
                    .unwrap_err()
                    .to_string()
                    .contains("root/state is a symbolic link")
            );
        }
        // A link is not even a file that could be removed.
        symlink(&victim, root.join("orphan")).unwrap();
        assert!(remove(&root.join("orphan"), &root).is_err());
        fs::create_dir_all(root.join("raw/a/b/c/too/deep")).unwrap();
        fs::write(root.join("raw/a/b/object"), "1").unwrap();
        fs::write(root.join("raw/a/b/c/too/deep/object"), "1").unwrap();
        for prefix in ["", "raw", "state", "none"] {
            let keys: Vec<String> = list(&root, prefix)
                .unwrap()
                .into_iter()
                .map(|listed| listed.key)
                .collect();
            let expected: &[&str] = if matches!(prefix, "" | "raw") {
                &["raw/a/b/object"]
            } else {
                &[]
            };
            assert_eq!(keys, expected, "below {prefix:?}");
        }
        remove(&root.join("raw/a/b/object"), &root).unwrap();
        remove(&root.join("raw/a/b/object"), &root).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        // The folder itself may be reached through a link.
        assert!(check_way(&root.join("raw/a/object"), &root).is_ok());
    }

    #[test]
    fn the_lock_file_must_be_a_regular_file() {
        let (_all, root, victim) = scene();
        let path = root.join(".lock");
        for _ in 0..2 {
            open_lock(&path).unwrap();
        }
        fs::remove_file(&path).unwrap();
        symlink(&victim, &path).unwrap();
        assert!(
            open_lock(&path)
                .unwrap_err()
                .to_string()
                .contains(".lock is a symbolic link")
        );
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(
            open_lock(&path)
                .unwrap_err()
                .to_string()
                .contains("is not a file")
        );
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }
}
