//! Bucket locations as users write them, and the check that no two of them overlap.

use std::path::{Component, Path, PathBuf};

use url::Url;

use super::{BucketLocation, ConfigError, StorageConfig, WarehouseConfig, env};

impl BucketLocation {
    /// Parses a bucket name, `gs://name`, `file:///folder` or a path.
    ///
    /// # Errors
    /// One line that says what is wrong, and how to write it.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, String> {
        if text.contains(char::is_control) {
            return Err("it holds a control character".into());
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return match scheme.to_ascii_lowercase().as_str() {
                "gs" => google(rest, text),
                "file" => folder_of_url(text),
                "http" | "https" | "gcs" => Err(format!(
                    "`{text}` is not an address of a bucket; write gs://name"
                )),
                _ => Err(format!(
                    "`{text}`: only Google Cloud Storage and folders are supported; write gs://name, or a path"
                )),
            };
        }
        if text.to_ascii_lowercase().starts_with("file:") {
            return Err(format!(
                "`{text}` is not an address of a folder; write file:///folder, or a path"
            ));
        }
        if text.starts_with(['~', '$']) {
            return Err(format!(
                "`{text}`: `~` and `$` are not expanded; write the whole path"
            ));
        }
        if text.contains('\\') && !cfg!(windows) {
            return Err(format!("`{text}` holds a backslash; write paths with /"));
        }
        if text.contains(['/', '\\']) || text.starts_with('.') {
            let name = text.trim_end_matches('/');
            // Some tools write a bucket as `my-bucket/`.
            return match !name.is_empty() && !name.contains(['/', '\\']) && !name.starts_with('.') {
                true => google(name, text),
                // Without `.` within.
                false => Ok(Self::Folder(directory.join(text).components().collect())),
            };
        }
        google(text, text)
    }
}

/// Google's rules for names: lower-case letters, digits, `-`, `_` and `.`, with a letter or digit at both ends.
fn google(name: &str, text: &str) -> Result<BucketLocation, String> {
    let name = name.trim_end_matches('/');
    if let Some((bucket, _)) = name.split_once('/') {
        return Err(format!(
            "`{text}` is a folder in a bucket, but a whole bucket is needed; write gs://{bucket}"
        ));
    }
    let is_end = |byte: Option<u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let is_name = (3..=222).contains(&name.len())
        && name.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte)
        })
        && is_end(name.bytes().next())
        && is_end(name.bytes().next_back())
        && name.split('.').all(|part| (1..=63).contains(&part.len()));
    match is_name {
        true => Ok(BucketLocation::Google(name.into())),
        false => Err(format!(
            "`{text}` is not a bucket name (3 to 63 lower-case letters, digits, `-`, `_`, `.`, none but a letter or digit \
             first and last); for a folder write ./{name} or file:///…"
        )),
    }
}

fn folder_of_url(text: &str) -> Result<BucketLocation, String> {
    let url = Url::parse(text)
        .ok()
        .filter(|url| url.query().is_none() && url.fragment().is_none());
    // A host in place of the beginning of the path, as in file://folder.
    let path = url
        .filter(|url| url.host().is_none())
        .and_then(|url| url.to_file_path().ok());
    path.map(BucketLocation::Folder).ok_or_else(|| {
        format!("`{text}` is not an address of a folder; write file:///folder, with three slashes")
    })
}

/// Refuses two buckets in one place, or one inside the other, including the local warehouse: the objects of one would
/// be mistaken for the other's.
pub(super) fn check_apart(
    storage: &StorageConfig,
    warehouse: &WarehouseConfig,
) -> Result<(), ConfigError> {
    let wrong = |reason: String| {
        Err(ConfigError::Value {
            name: env::GCS_BUCKET_FLATTENED_NAME.name,
            reason,
        })
    };
    if let (BucketLocation::Google(raw), BucketLocation::Google(flattened)) =
        (&storage.raw, &storage.flattened)
        && raw == flattened
    {
        return wrong(format!(
            "gs://{raw} is also the raw bucket ({}): use two different buckets",
            env::GCS_BUCKET_NAME.name
        ));
    }
    let mut folders = Vec::new();
    for (what, location) in [
        ("raw bucket", &storage.raw),
        ("flattened bucket", &storage.flattened),
    ] {
        if let BucketLocation::Folder(folder) = location {
            folders.push((what, real_path(folder)));
        }
    }
    if let WarehouseConfig::Local(folder) = warehouse {
        folders.push(("local warehouse", real_path(folder)));
    }
    for (index, (what, folder)) in folders.iter().enumerate() {
        for (other, next) in &folders[index + 1..] {
            // Before both folders exist, it is unknown whether the file system distinguishes Raw from raw.
            let lower = |path: &PathBuf| PathBuf::from(path.to_string_lossy().to_lowercase());
            let (one, two) = (lower(folder), lower(next));
            if one.starts_with(&two) || two.starts_with(&one) {
                return wrong(format!(
                    "the {what} ({}) and the {other} ({}) are the same folder, or one contains the other: use separate folders",
                    folder.display(),
                    next.display()
                ));
            }
        }
    }
    Ok(())
}

/// The path without links, `.` and `..`, as far as it exists.
fn real_path(path: &Path) -> PathBuf {
    let mut real = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => continue,
            Component::ParentDir => drop(real.pop()),
            other => real.push(other),
        }
        if let Ok(canonical) = real.canonicalize() {
            real = canonical;
        }
    }
    real
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment, LOCAL_FOLDER, Overrides};

    #[test]
    fn buckets_are_names_addresses_or_folders_and_nothing_else() {
        let folder = |path: &str| BucketLocation::Folder(path.into());
        let google = |name: &str| BucketLocation::Google(name.into());
        for (text, expected) in [
            ("my-raw", google("my-raw")),
            ("my-raw/", google("my-raw")),
            ("gs://my_raw.example", google("my_raw.example")),
            ("GS://my-raw/", google("my-raw")),
            ("./raw", folder("/work/raw")),
            ("data/raw", folder("/work/data/raw")),
            ("/data/raw", folder("/data/raw")),
            (".", folder("/work")),
            ("file:///data/my%20raw", folder("/data/my raw")),
            ("file:///data/my raw", folder("/data/my raw")),
            ("file://localhost/data", folder("/data")),
        ] {
            assert_eq!(
                BucketLocation::parse(text, Path::new("/work")).as_ref(),
                Ok(&expected),
                "{text}"
            );
        }
        for (text, part) in [
            ("s3://raw", "only Google Cloud Storage and folders"),
            ("az://raw", "only Google Cloud Storage and folders"),
            (
                "abfss://raw@account.dfs.core.windows.net",
                "only Google Cloud Storage and folders",
            ),
            ("https://storage.googleapis.com/raw", "write gs://name"),
            ("gcs://raw", "write gs://name"),
            ("gs://raw-bucket/folder", "write gs://raw-bucket"),
            ("gs://", "is not a bucket name"),
            ("gs://Raw", "is not a bucket name"),
            ("-raw-", "is not a bucket name"),
            ("raw..bucket", "is not a bucket name"),
            ("ab", "is not a bucket name"),
            ("~/raw", "write the whole path"),
            ("~", "write the whole path"),
            ("$HOME/raw", "write the whole path"),
            ("file://raw", "three slashes"),
            ("file://host/raw", "three slashes"),
            ("file:raw", "file:///folder"),
            ("C:\\raw", "write paths with /"),
            ("raw\nbucket", "control character"),
        ] {
            let error = BucketLocation::parse(text, Path::new("/work")).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn buckets_in_one_place_or_in_each_other_are_refused() {
        let place = tempfile::tempdir().unwrap();
        for folder in ["one/inner", "two", "Case"] {
            std::fs::create_dir_all(place.path().join(folder)).unwrap();
        }
        std::os::unix::fs::symlink(place.path().join("one"), place.path().join("link")).unwrap();
        let resolve = |raw: &str, flattened: &str| {
            let pairs = [
                ("GCS_BUCKET_NAME", raw),
                ("GCS_BUCKET_FLATTENED_NAME", flattened),
            ];
            Config::resolve(
                &Environment::from_pairs(pairs),
                &Overrides::default(),
                place.path(),
                LOCAL_FOLDER,
            )
        };
        for (raw, flattened) in [
            ("one-bucket", "gs://one-bucket/"),
            ("./one", "./one/"),
            ("./one", "./two/../one"),
            ("./one", "./link"),
            ("./one", "./one/inner"),
            ("./link/inner", "./one"),
            ("./one", "./link/not/there/yet"),
            ("./not-there", "./not-there/either"),
            ("./case", "./Case"),
            (".", "./two"),
            // The local warehouse is below the first.
            ("./samsara-data", "./two"),
            ("./samsara-data/warehouse", "./two"),
        ] {
            let error = resolve(raw, flattened).unwrap_err().to_string();
            assert!(
                error.starts_with("GCS_BUCKET_FLATTENED_NAME: "),
                "{raw} {flattened}: {error}"
            );
        }
        for (raw, flattened) in [
            ("./one", "./two"),
            ("./one", "./one-more"),
            ("raw-bucket", "flat-bucket"),
        ] {
            assert!(resolve(raw, flattened).is_ok(), "{raw} {flattened}");
        }
        assert!(
            Config::resolve(
                &Environment::default(),
                &Overrides::default(),
                place.path(),
                LOCAL_FOLDER
            )
            .is_ok()
        );
    }
}
