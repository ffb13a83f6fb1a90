//! A BigQuery with real SQL: the emulator `local-bigquery`, taught partition decorators.
//!
//! It needs Python 3.13. Where there is none, tests that need the emulator say so and pass, except
//! in CI, where they fail: see [`require_or_skip`].

mod install;

#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use self::install::Installation;
use super::gcs::GcsDouble;

const WRAPPER: &str = include_str!("bigquery_emulator.py");
const PROJECT: &str = "test-project";
const LONGEST_START: Duration = Duration::from_secs(60);

/// The running emulator; dropping it stops it, and so does the end of the test process.
pub struct BigQueryEmulator {
    url: String,
    http: Client,
    process: Process,
    /// A Python with Google's own BigQuery client.
    python: PathBuf,
    log: PathBuf,
    /// Holds the wrapper and the data; removed after the process has ended.
    _folder: TempDir,
}

/// Why the emulator is not available.
#[derive(Debug)]
pub enum Unavailable {
    /// This machine lacks something: Python 3.13, or a way to install the packages.
    NotInstalled(String),
    /// It is installed and does not start.
    NotStarted(String),
}

impl BigQueryEmulator {
    /// Starts an emulator which reads `gs://` from the storage emulator at that address.
    ///
    /// The first start of a checkout installs it, which takes half a minute.
    pub async fn start(storage_emulator_url: &str) -> Result<Self, Unavailable> {
        let installing = tokio::task::spawn_blocking(install::install);
        let installed = installing.await.expect("no panic while installing");
        let installation = installed.map_err(Unavailable::NotInstalled)?;
        let started = Self::launch(&installation, storage_emulator_url).map_err(not_started)?;
        started.until_ready().await
    }

    fn launch(installation: &Installation, storage: &str) -> std::io::Result<Self> {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let log = format!("bigquery-{}-{number}.log", std::process::id());
        let log = installation.folder.join(log);
        let output = File::create(&log)?;
        let folder = tempfile::tempdir()?;
        let wrapper = folder.path().join("bigquery_emulator.py");
        std::fs::write(&wrapper, WRAPPER)?;
        let process = Command::new(&installation.python)
            .args([wrapper.as_path(), folder.path(), Path::new(PROJECT)])
            // Nothing of the developer's environment, such as a proxy, shall change it.
            .env_clear()
            .env("HOME", &installation.home)
            .env("STORAGE_EMULATOR_HOST", storage)
            // A pipe, because its end tells the wrapper that this process is gone.
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        Ok(Self {
            url: String::new(),
            // Tests share an emulator and each has its own runtime, which its connections do not outlive: so none is
            // pooled.
            http: Client::builder()
                .no_proxy()
                .pool_max_idle_per_host(0)
                .build()
                .map_err(std::io::Error::other)?,
            process: Process(process),
            python: installation.python.clone(),
            log,
            _folder: folder,
        })
    }

    async fn until_ready(mut self) -> Result<Self, Unavailable> {
        let ready = tokio::time::timeout(LONGEST_START, self.poll()).await;
        let problem = match ready {
            Ok(Ok(())) => return Ok(self),
            Ok(Err(problem)) => problem,
            Err(_) => format!("not ready after {LONGEST_START:?}"),
        };
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        Err(Unavailable::NotStarted(format!("{problem}\n{log}")))
    }

    async fn poll(&mut self) -> Result<(), String> {
        let mut interval = tokio::time::interval(Duration::from_millis(50));
        loop {
            interval.tick().await;
            if let Ok(Some(status)) = self.process.0.try_wait() {
                return Err(format!("ended by itself: {status}"));
            }
            let Ok(port) = std::fs::read_to_string(self._folder.path().join("port")) else {
                continue;
            };
            self.url = format!("http://127.0.0.1:{port}");
            let projects = self.http.get(format!("{}/bigquery/v2/projects", self.url));
            match projects.send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                // A bad installation answers too, but not with success.
                Ok(answer) => return Err(answer.text().await.unwrap_or_default()),
                Err(_) => continue,
            }
        }
    }

    /// The value for `BIGQUERY_EMULATOR_HOST`.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn project(&self) -> &str {
        PROJECT
    }

    /// The rows of a query in GoogleSQL, as the REST API gives them: scalars as strings.
    ///
    /// Panics with the service's answer if the query fails.
    pub async fn query(&self, sql: &str) -> Vec<Vec<Value>> {
        let url = format!("{}/bigquery/v2/projects/{PROJECT}/queries", self.url);
        let request = json!({ "query": sql, "useLegacySql": false, "timeoutMs": 60_000 });
        let answer = self
            .http
            .post(url)
            .json(&request)
            .send()
            .await
            .expect("an answer");
        let answer: Value = answer.json().await.expect("JSON");
        assert_eq!(answer["jobComplete"], true, "{sql}: {answer}");
        assert!(
            answer["pageToken"].is_null(),
            "{sql}: more rows than one page holds"
        );
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let cells = |row: Value| {
            list(&row["f"])
                .iter()
                .map(|cell| cell["v"].clone())
                .collect()
        };
        list(&answer["rows"]).into_iter().map(cells).collect()
    }
}

impl BigQueryEmulator {
    /// What a Python script prints, in which `client` is Google's own BigQuery client.
    ///
    /// Panics with its error if it fails.
    pub async fn python(&self, script: &str) -> String {
        let head = format!(
            "from google.cloud import bigquery\n\
             from google.auth.credentials import AnonymousCredentials\n\
             from google.api_core.client_options import ClientOptions\n\
             client = bigquery.Client({PROJECT:?}, AnonymousCredentials(), \
             client_options=ClientOptions(api_endpoint={:?}))\n",
            self.url
        );
        let mut command = tokio::process::Command::new(&self.python);
        command
            .arg("-c")
            .arg(head + script)
            .env_clear()
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = command.output().await.expect("a Python that runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("text")
    }
}

fn not_started(error: std::io::Error) -> Unavailable {
    Unavailable::NotStarted(error.to_string())
}

/// The emulator's process, which has no children; killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The emulator, or None, announced on standard error, where this machine cannot have it.
///
/// Panics instead in CI (`CI=true`), where a silent gap would look like success, and everywhere
/// if the emulator is installed and does not start.
pub async fn require_or_skip(storage_emulator_url: &str) -> Option<BigQueryEmulator> {
    match BigQueryEmulator::start(storage_emulator_url).await {
        Ok(emulator) => Some(emulator),
        Err(Unavailable::NotInstalled(reason))
            if std::env::var_os("CI").is_none_or(|ci| ci != "true") =>
        {
            // Written past the test harness, which keeps what `eprintln!` says in a test that passes.
            drop(writeln!(
                std::io::stderr(),
                "SKIPPED, no BigQuery emulator: {reason}"
            ));
            None
        }
        Err(Unavailable::NotInstalled(reason)) => panic!("no BigQuery emulator: {reason}"),
        Err(Unavailable::NotStarted(reason)) => panic!("the BigQuery emulator failed: {reason}"),
    }
}

/// The Python that the emulator comes with, which has readers of open tables too; or None, as [`require_or_skip`] gives it.
pub async fn python_or_skip() -> Option<Python> {
    let installing = tokio::task::spawn_blocking(install::install);
    match installing.await.expect("no panic while installing") {
        Ok(Installation { python, home, .. }) => Some(Python { python, home }),
        Err(reason) if std::env::var_os("CI").is_none_or(|ci| ci != "true") => {
            drop(writeln!(std::io::stderr(), "SKIPPED, no Python: {reason}"));
            None
        }
        Err(reason) => panic!("no Python: {reason}"),
    }
}

/// A Python with packages.
pub struct Python {
    python: PathBuf,
    home: PathBuf,
}

impl Python {
    /// A command that runs a script.
    pub fn command(&self, script: &str, arguments: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.python);
        command
            .args(["-c", script])
            .args(arguments)
            .env_clear()
            .env("HOME", &self.home)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// What a script prints. Panics with its error if it fails.
    pub async fn run(&self, script: &str, arguments: &[&str]) -> String {
        let output = self.command(script, arguments).output().await;
        let output = output.expect("a Python that runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        String::from_utf8(output.stdout).expect("text")
    }
}

/// One emulator and the storage it reads, for all tests of a process.
pub struct Emulators {
    pub gcs: GcsDouble,
    pub bigquery: BigQueryEmulator,
}

/// The emulators of this process, as [`require_or_skip`] gives them.
///
/// Use a bucket and a dataset per test: [`GcsDouble::add_bucket`].
pub async fn shared() -> Option<&'static Emulators> {
    static SHARED: OnceCell<Option<Emulators>> = OnceCell::const_new();
    let start = || async {
        let gcs = GcsDouble::start(&[]);
        let bigquery = require_or_skip(gcs.url()).await?;
        Some(Emulators { gcs, bigquery })
    };
    SHARED.get_or_init(start).await.as_ref()
}
