//! Recorded pages, served byte for byte.
//!
//! `DIR/<endpoint path>/0001.json, 0002.json …` is one chain: a request without a cursor gets the first file, one
//! with the `endCursor` of a file gets the file after it. A sub-folder named like a query (`types=gps`,
//! `vehicleId=42`, several joined by `&`) wins for requests that carry those parameters, the one with the most
//! of them first.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use url::form_urlencoded;

use super::query::{Query, Refusal};

/// The folder of recorded pages, and its known chains.
#[derive(Debug)]
pub(crate) struct Replay {
    dir: PathBuf,
    /// Chains by folder; each is read once, when it is first requested.
    chains: Mutex<HashMap<PathBuf, Arc<Vec<Recorded>>>>,
}

#[derive(Debug)]
struct Recorded {
    file: PathBuf,
    end_cursor: Option<String>,
}

/// The part of a page that the chain needs.
#[derive(Deserialize)]
struct PageHead {
    pagination: Option<Pagination>,
}

#[derive(Deserialize)]
struct Pagination {
    #[serde(rename = "endCursor")]
    end_cursor: Option<String>,
}

impl Replay {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            chains: Mutex::default(),
        }
    }

    /// The recorded page that answers a request; `None` when nothing is recorded for it.
    pub(crate) async fn page(
        &self,
        path: &str,
        query: &Query,
    ) -> std::io::Result<Option<Result<Bytes, Refusal>>> {
        let Some(base) = self.folder(path) else {
            return Ok(None);
        };
        let mut chain = Arc::default();
        for folder in matching(&base, query).await? {
            chain = self.chain(folder).await?;
            if !chain.is_empty() {
                break;
            }
        }
        let Some(first) = chain.first() else {
            return Ok(None);
        };
        let cursor = ["after", "startingAfter"]
            .into_iter()
            .find_map(|name| query.first(name));
        let file = match cursor {
            None => &first.file,
            Some(cursor) => match chain
                .iter()
                .position(|page| page.end_cursor.as_deref() == Some(cursor))
            {
                None => {
                    return Ok(Some(Err(Refusal::bad(
                        "invalid or expired pagination cursor",
                    ))));
                }
                Some(found) => match chain.get(found + 1) {
                    Some(next) => &next.file,
                    // A poll beyond the last page returns nothing new.
                    None => return Ok(Some(Ok(nothing_new(cursor)))),
                },
            },
        };
        Ok(Some(Ok(tokio::fs::read(file).await?.into())))
    }

    /// The folder of an endpoint path. Only plain names lead into the folder of pages, so nothing outside of it is ever
    /// read.
    fn folder(&self, path: &str) -> Option<PathBuf> {
        let plain = |name: &str| {
            !name.is_empty()
                && !name.starts_with('.')
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        let names: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        names.iter().all(|name| plain(name)).then(|| {
            names
                .iter()
                .fold(self.dir.clone(), |dir, name| dir.join(name))
        })
    }

    async fn chain(&self, folder: PathBuf) -> std::io::Result<Arc<Vec<Recorded>>> {
        if let Some(chain) = self.chains.lock().get(&folder) {
            return Ok(chain.clone());
        }
        let mut files: Vec<PathBuf> = entries(&folder).await?;
        // A pipe would be waited for.
        files.retain(|file| {
            file.extension()
                .is_some_and(|extension| extension == "json")
                && file.is_file()
        });
        let mut chain = Vec::with_capacity(files.len());
        for file in files {
            let body = tokio::fs::read(&file).await?;
            // A recorded body may be anything; one that is not a page has no cursor. An editor may have put a
            // byte-order mark before it.
            let json = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&body);
            let head: Option<PageHead> = serde_json::from_slice(json).ok();
            let end_cursor = head
                .and_then(|head| head.pagination?.end_cursor)
                .filter(|cursor| !cursor.is_empty());
            chain.push(Recorded { file, end_cursor });
        }
        let chain = Arc::new(chain);
        self.chains.lock().insert(folder, chain.clone());
        Ok(chain)
    }
}

/// The folders for a query, the most specific first and the endpoint's own last.
async fn matching(base: &Path, query: &Query) -> std::io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in entries(base).await? {
        let Some(name) = entry
            .file_name()
            .and_then(|name| name.to_str())
            .filter(|name| name.contains('='))
        else {
            continue;
        };
        let wanted: Vec<(String, String)> = form_urlencoded::parse(name.as_bytes())
            .into_owned()
            .collect();
        if wanted
            .iter()
            .all(|(name, value)| query.carries(name, value))
        {
            folders.push((wanted.len(), entry));
        }
    }
    folders.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    folders.push((0, base.to_owned()));
    Ok(folders.into_iter().map(|(_, folder)| folder).collect())
}

/// The files in a folder, by name, without hidden files (macOS creates `._0001.json` next to `0001.json` on foreign
/// file systems); none if there is no such folder.
async fn entries(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    let mut entries = match tokio::fs::read_dir(folder).await {
        Ok(entries) => entries,
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(paths);
        }
        Err(error) => return Err(error),
    };
    while let Some(entry) = entries.next_entry().await? {
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn nothing_new(cursor: &str) -> Bytes {
    json!({ "data": [], "pagination": { "endCursor": cursor, "hasNextPage": false } })
        .to_string()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, path: &str, body: &str) {
        let file = dir.join(path);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("can create");
        std::fs::write(file, body).expect("can write");
    }

    async fn get(replay: &Replay, path: &str, query: &str) -> Option<Result<Bytes, Refusal>> {
        replay
            .page(path, &Query::parse(query))
            .await
            .expect("can read")
    }

    #[tokio::test]
    async fn a_chain_is_followed_by_its_cursors() {
        let dir = tempfile::tempdir().expect("a folder");
        let first =
            r#"{ "data": [1],  "pagination": { "endCursor": "a+b", "hasNextPage": true } }"#;
        let second = r#"{"data":null,"pagination":{"endCursor":"z","hasNextPage":false}}"#;
        write(dir.path(), "tags/0001.json", first);
        write(dir.path(), "tags/0002.json", second);
        let replay = Replay::new(dir.path().to_owned());
        assert_eq!(
            get(&replay, "/tags", "limit=3").await,
            Some(Ok(first.into()))
        );
        assert_eq!(
            get(&replay, "/tags", "after=a%2Bb").await,
            Some(Ok(second.into()))
        );
        let polled = get(&replay, "/tags", "after=z")
            .await
            .expect("recorded")
            .expect("a page");
        assert!(polled.starts_with(b"{\"data\":[]"));
        assert!(
            get(&replay, "/tags", "after=q")
                .await
                .is_some_and(|page| page.is_err())
        );
        assert_eq!(get(&replay, "/fleet/vehicles", "").await, None);
    }

    #[tokio::test]
    async fn hidden_files_and_byte_order_marks_do_not_break_a_chain() {
        let dir = tempfile::tempdir().expect("a folder");
        let first =
            "\u{feff}{\"data\":[],\"pagination\":{\"endCursor\":\"a\",\"hasNextPage\":true}}";
        write(dir.path(), "tags/0001.json", first);
        write(dir.path(), "tags/0002.json", "{}");
        for hidden in ["tags/._0001.json", "tags/.DS_Store", "tags/._x=y/0001.json"] {
            write(dir.path(), hidden, "Mac OS X");
        }
        let replay = Replay::new(dir.path().to_owned());
        assert_eq!(get(&replay, "/tags", "x=y").await, Some(Ok(first.into())));
        assert_eq!(
            get(&replay, "/tags", "after=a").await,
            Some(Ok("{}".into()))
        );
    }

    #[tokio::test]
    async fn the_most_specific_folder_wins() {
        let dir = tempfile::tempdir().expect("a folder");
        write(dir.path(), "stats/0001.json", "any");
        write(dir.path(), "stats/types=gps/0001.json", "gps");
        write(
            dir.path(),
            "stats/types=gps&vehicleId=42/0001.json",
            "gps of 42",
        );
        let replay = Replay::new(dir.path().to_owned());
        for (query, body) in [
            ("types=engineRpm", "any"),
            ("types=gps", "gps"),
            ("vehicleId=42&types=gps&x=1", "gps of 42"),
        ] {
            assert_eq!(
                get(&replay, "/stats", query).await,
                Some(Ok(body.into())),
                "{query}"
            );
        }
    }

    #[tokio::test]
    async fn no_path_leads_out_of_the_folder() {
        let dir = tempfile::tempdir().expect("a folder");
        write(dir.path(), "secret/0001.json", "outside");
        std::fs::create_dir(dir.path().join("pages")).expect("can create");
        let replay = Replay::new(dir.path().join("pages"));
        for path in [
            "/../secret",
            "/./../secret",
            "/%2e%2e/secret",
            "//secret",
            "/..\\secret",
            "secret",
            "/",
        ] {
            assert_eq!(get(&replay, path, "").await, None, "{path}");
        }
    }
}
