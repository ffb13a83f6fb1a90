//! What makes a folder outlive the machine it is on, as a bucket does.
//!
//! `LocalFileSystem` writes beside and renames, so a program that dies leaves whole objects only. What a machine that
//! loses power leaves is another matter: it may have kept the new name and not the bytes. So what counts is on the
//! disk before anything points at it.

use std::fs::File;
use std::io::{Result, Write};
use std::path::{Path, PathBuf};

/// Waits until the file `path` below `root` and its name are on the disk.
pub(super) fn settle(path: &Path, root: &Path) -> Result<()> {
    File::open(path)?.sync_all()?;
    settle_name(path, root)
}

/// Replaces the file `path` below `root`: afterwards, and after any crash, it is the new one or the old one. A private
/// one, and folders that are made for it, nobody else may read.
///
/// Nobody else may do that at the same time.
pub(super) fn replace(path: &Path, root: &Path, bytes: &[u8], is_private: bool) -> Result<()> {
    match path.parent() {
        Some(folder) if is_private && folder != root => private_folder(folder)?,
        Some(folder) => std::fs::create_dir_all(folder)?,
        None => {}
    }
    // As `LocalFileSystem` would call it, so that it counts as leftover.
    let mut staged = path.as_os_str().to_owned();
    staged.push("#0");
    let staged = PathBuf::from(staged);
    let written = || {
        let mut file = File::create(&staged)?;
        if is_private {
            keep_private(&file);
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&staged, path)
    };
    if let Err(error) = written() {
        // What cannot be removed counts for nothing, and is told by `clean`.
        let _ = std::fs::remove_file(&staged);
        return Err(error);
    }
    settle_name(path, root)
}

/// Makes a folder, and those above it, into which nobody else may look.
pub(crate) fn private_folder(path: &Path) -> Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}

/// Lets nobody else read a file, nor write it. A file system without modes is as private as its mount.
#[cfg(unix)]
pub(crate) fn keep_private(file: &File) {
    let _ = file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600));
}

/// Elsewhere, files are as private as their folder.
#[cfg(not(unix))]
pub(crate) fn keep_private(_: &File) {}

/// A name is on the disk once its folder is, and that folder's name in its own.
#[cfg(unix)]
fn settle_name(path: &Path, root: &Path) -> Result<()> {
    path.ancestors().skip(1).take_while(|folder| folder.starts_with(root)).try_for_each(|it| File::open(it)?.sync_all())
}

/// Elsewhere, folders cannot be opened; the system sees to names by itself.
#[cfg(not(unix))]
fn settle_name(_: &Path, _: &Path) -> Result<()> {
    Ok(())
}
