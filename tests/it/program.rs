//! Runs the real program in a folder of its own.

use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use samsara_etl::catalog::Catalog;
use samsara_etl::config::{Config, Environment, Overrides, RetryConfig};
use samsara_etl::events::Observer;
use samsara_etl::pipeline::Pipeline;
use samsara_etl::plan::{Dates, RunRequest, Selection, Stage};
use samsara_etl::report::RunReport;
use samsara_simulator::{Simulator, SimulatorConfig};
use serde_json::{Map, Value};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

/// Simulators and doubles need not be spared, so the program hardly waits; its waits keep their proportions.
pub const WAIT_SCALE: f64 = 0.01;

/// The program, a folder to run it in, and the environment that it sees.
pub struct Program {
    folder: TempDir,
    environment: Vec<(String, String)>,
}

/// What a run of the program left.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        let Output {
            status,
            stdout,
            stderr,
        } = output;
        Self {
            code: status.code().unwrap_or(-1),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
        }
    }
}

impl Program {
    /// A program that sees nothing of this machine's environment.
    pub fn new() -> Self {
        Self {
            folder: TempDir::new().unwrap(),
            environment: Vec::new(),
        }
    }

    /// A program that is pointed at a simulator.
    pub fn with_simulator(simulator: &Simulator) -> Self {
        Self::new()
            .set("SAMSARA_API_URL", &simulator.url())
            .set("SAMSARA_API_TOKEN", simulator.token())
    }

    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(other, _)| other != name);
        self.environment.push((name.into(), value.into()));
        self
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.folder().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Runs the program with these arguments to its end.
    pub async fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().await.unwrap())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_samsara-etl"));
        command.args(arguments);
        self.prepare(&mut command);
        command
    }

    /// Lets a command run in this folder and see this environment only.
    pub fn prepare(&self, command: &mut Command) {
        command
            .current_dir(self.folder())
            .env_clear()
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let asks_simulator = |(name, value): &(String, String)| {
            name == "SAMSARA_API_URL" && value.starts_with("http:")
        };
        if self.environment.iter().any(asks_simulator) {
            // Unless the test says otherwise, below.
            command.env("SAMSARA_ETL_WAIT_SCALE", WAIT_SCALE.to_string());
        }
        command.envs(
            self.environment
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
    }

    /// Starts the program and leaves it running; what it says goes to `stderr`.
    pub fn start(&self, arguments: &[&str], stderr: Stdio) -> Child {
        self.command(arguments)
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap()
    }

    /// Starts it with its data going to `stdout`, and keeps what it says.
    pub fn start_with(&self, arguments: &[&str], stdout: Stdio) -> Child {
        self.command(arguments)
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs it and insists on success.
    pub async fn succeed(&self, arguments: &[&str]) -> Ran {
        let ran = self.run(arguments).await;
        assert_eq!(ran.code, 0, "{arguments:?}\n{}\n{}", ran.stdout, ran.stderr);
        ran
    }

    /// Rows of a table, through the program's own `query`, each without its NULLs.
    pub async fn rows(&self, sql: &str) -> Vec<Map<String, Value>> {
        let ran = self.succeed(&["query", sql, "--format", "json"]).await;
        let without_nulls = |line: &str| {
            let mut row: Map<String, Value> = serde_json::from_str(line).unwrap();
            row.retain(|_, value| !value.is_null());
            row
        };
        ran.stdout.lines().map(without_nulls).collect()
    }

    /// Every file below a folder with its size and the time it was written.
    pub fn files(&self, below: &str) -> Vec<(String, u64, std::time::SystemTime)> {
        let mut files = Vec::new();
        let mut folders = vec![self.folder().join(below)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                // Each run ships its log; that changes no existing file.
                if entry.file_name() == "logs" {
                    continue;
                }
                let meta = entry.metadata().unwrap();
                if meta.is_dir() {
                    folders.push(entry.path());
                } else if entry.file_name() != ".lock" && entry.file_name() != "lock.json" {
                    files.push((
                        entry.path().display().to_string(),
                        meta.len(),
                        meta.modified().unwrap(),
                    ));
                }
            }
        }
        files.sort();
        files
    }
}

/// The configuration of a run in this process, impatient with the API.
pub fn impatient(program: &Program, url: &str, token: &str) -> Config {
    let scale = WAIT_SCALE.to_string();
    let environment = Environment::from_pairs([
        ("SAMSARA_API_URL", url),
        ("SAMSARA_API_TOKEN", token),
        ("SAMSARA_ETL_WAIT_SCALE", &scale),
    ]);
    let mut config = Config::resolve(
        &environment,
        &Overrides::default(),
        program.folder(),
        "samsara-data",
    )
    .unwrap();
    let quick = Duration::from_millis(1);
    config.samsara.retry = RetryConfig {
        attempts: 2,
        base: quick,
        cap: quick,
        ..RetryConfig::default()
    };
    config
}

/// One run in this process, through all stages.
pub async fn run_here(config: Config, tables: &[&str], [start, end]: [&str; 2]) -> RunReport {
    run_observed(config, tables, [start, end], Vec::new()).await
}

/// The same, watched.
pub async fn run_observed(
    config: Config,
    tables: &[&str],
    [start, end]: [&str; 2],
    observers: Vec<Arc<dyn Observer>>,
) -> RunReport {
    let catalog = Catalog::open(None).unwrap();
    let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
    let run_request = RunRequest {
        selection: Selection::of_names(&catalog, &names).unwrap(),
        dates: Dates::parse(Some(start), Some(end)).unwrap(),
        stages: [Stage::Extract, Stage::Transform, Stage::Load].into(),
        historical: false,
    };
    let pipeline = Pipeline::new(config, catalog).unwrap();
    let plan = pipeline.plan(run_request).await.unwrap();
    pipeline
        .run(plan, observers, CancellationToken::new())
        .await
        .unwrap()
}

/// Sends a signal to a program that was started.
pub async fn signal(child: &Child, name: &str) {
    let pid = child.id().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-s", name, &pid])
            .status()
            .await
            .unwrap()
            .success()
    );
}

/// A small fleet in January 2024, whose clock stands where the requested days end.
pub fn fleet() -> SimulatorConfig {
    let now = Some("2024-01-10T00:00:00Z".parse().unwrap());
    SimulatorConfig {
        vehicles: 8,
        seed: 11,
        now,
        ..SimulatorConfig::default()
    }
}

/// A simulator that serves the recorded pages in a folder.
pub async fn replay(pages: &Path) -> Simulator {
    let config = SimulatorConfig {
        pages_dir: Some(pages.into()),
        ..SimulatorConfig::default()
    };
    Simulator::start(config).await.unwrap()
}

/// That fleet served, with a difference.
pub async fn simulator(change: impl FnOnce(&mut SimulatorConfig)) -> Simulator {
    let mut config = fleet();
    change(&mut config);
    Simulator::start(config).await.unwrap()
}
