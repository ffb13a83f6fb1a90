//! The command line: one file per subcommand. Data goes to stdout, everything else to stderr.

/// All output to stderr goes through [`output::say`], which masks secrets and escapes control characters. So this
/// replaces the standard library's macro of the same name in all files of this folder.
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::cli::output::say(format_args!($($text)*)) };
}

mod check;
mod clean;
mod color;
mod completions;
#[cfg(feature = "simulator")]
mod demo;
mod docs;
#[cfg(feature = "ballista")]
mod executor;
mod exit;
mod init;
mod json;
mod logging;
mod logs;
mod lsp;
mod marts;
mod options;
mod output;
mod plan;
mod progress;
mod query;
mod report;
mod run;
#[cfg(feature = "ballista")]
mod scheduler;
mod signals;
#[cfg(feature = "simulator")]
mod simulate;
mod sources;
mod sql;
mod status;
mod tables;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use tokio::runtime::Handle;

use self::output::say;
use crate::bounds::{MAX_DATA_MEMORY, MAX_MEMORY};
use crate::catalog::{Catalog, CheckedCatalog};
use crate::config::{self, Environment, TelemetryConfig};
use crate::error::Error;
use crate::memory;
use crate::pipeline::{THREAD_STACK_BYTES, threads};
use crate::redact;
use crate::report::logs::LogFile;
use crate::telemetry::Telemetry;

use color::Color;
pub use exit::Exit;

/// All of a fleet's Samsara telematics data in BigQuery (or in local Parquet).
#[derive(Debug, Parser)]
#[command(
    name = "samsara-etl",
    version,
    propagate_version = true,
    after_help = "Examples:
  samsara-etl demo                        try it, without a token
  samsara-etl init                        write .env
  samsara-etl check                       see whether everything is there
  samsara-etl run --lookback-days 7       bring all tables up to date
  samsara-etl status                      see what each table holds"
)]
struct Cli {
    /// Work in this folder: .env, sql/, credentials/ and logs/ are looked for there
    #[arg(short = 'C', long, global = true, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Read this file instead of .env
    #[arg(long, global = true, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Folder of sources and models that replaces the embedded one [default: ./sql if it is there]
    #[arg(long, global = true, value_name = "DIR")]
    sql_dir: Option<PathBuf>,
    /// Stop when the program uses more memory than this (`6GB`, `500MB`) [default: 8GB for commands that process data,
    /// 2GB for the others, and never more than four fifths of what the machine has]
    #[arg(long, global = true, value_name = "SIZE", value_parser = parse_size)]
    max_memory: Option<u64>,
    /// More output: -v for each step, -vv for each page
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Say nothing but what went wrong
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Colours on stderr; auto: on a terminal, unless NO_COLOR is set
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "auto",
        value_name = "WHEN"
    )]
    color: Color,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Plan(plan::PlanCommand),
    Check(check::Check),
    Tables(tables::Tables),
    #[command(subcommand)]
    Sources(sources::Sources),
    #[command(subcommand)]
    Sql(sql::Sql),
    Query(query::Query),
    Status(status::Status),
    Report(report::Report),
    Docs(docs::Docs),
    Lsp(lsp::Lsp),
    #[cfg(feature = "simulator")]
    Simulate(simulate::Simulate),
    #[cfg(feature = "simulator")]
    Demo(demo::Demo),
    #[cfg(feature = "ballista")]
    Scheduler(scheduler::Scheduler),
    #[cfg(feature = "ballista")]
    Executor(executor::Executor),
    Clean(clean::Clean),
    Logs(logs::Logs),
    Init(init::Init),
    Completions(completions::Completions),
    Man(completions::Man),
}

impl Command {
    /// Default memory limit, in bytes.
    fn memory(&self) -> u64 {
        match self {
            Self::Run(_) | Self::Query(_) | Self::Sources(_) | Self::Lsp(_) => MAX_DATA_MEMORY,
            #[cfg(feature = "simulator")]
            Self::Demo(_) | Self::Simulate(_) => MAX_DATA_MEMORY,
            #[cfg(feature = "ballista")]
            Self::Scheduler(_) | Self::Executor(_) => MAX_DATA_MEMORY,
            Self::Sql(command) if command.reads_data() => MAX_DATA_MEMORY,
            _ => MAX_MEMORY,
        }
    }
}

/// Reads `6GB`, `500 MiB` or a number of bytes.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text
        .trim_start()
        .bytes()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (number, unit) = text.trim_start().split_at(digits);
    let unit: u64 = match unit
        .trim()
        .to_ascii_lowercase()
        .trim_end_matches('b')
        .trim_end_matches('i')
    {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return Err("expected a size such as 6GB or 500MB".into()),
    };
    let size = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|size| *size > 0);
    size.ok_or_else(|| "expected a size such as 6GB or 500MB".into())
}

/// Ends the program with one line before it uses up all memory, and with the same exit code if the system refuses an
/// allocation: then Rust prints its size, and aborts.
fn watch_memory(limit: u64) -> std::io::Result<()> {
    #[cfg(unix)]
    signal_hook::flag::register_conditional_shutdown(
        signal_hook::consts::SIGABRT,
        Exit::Memory as i32,
        std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true)),
    )?;
    memory::watch(limit, |limit| {
        let megabytes = limit >> 20;
        let line = format!(
            "memory use exceeded {megabytes} MiB, so the command was stopped; completed work is kept (raise the limit with --max-memory)"
        );
        // For the log; the console has it already.
        tracing::info!("{line}");
        // Nobody may be left to read it.
        let _ = writeln!(std::io::stderr(), "error: {line}");
        #[expect(clippy::exit, reason = "memory is short: nothing more is started")]
        std::process::exit(Exit::Memory as i32);
    })
}

/// What every subcommand gets.
struct Context {
    directory: PathBuf,
    sql_dir: Option<PathBuf>,
    env_file: Option<PathBuf>,
    /// Only what went wrong is said.
    quiet: bool,
    /// The log of a run.
    log: Option<LogFile>,
    /// Exports the traces and metrics of a run, if a collector is configured.
    telemetry: Option<Telemetry>,
}

impl Context {
    /// The same for work in the background of the command.
    fn without_log(&self) -> Self {
        Self {
            directory: self.directory.clone(),
            sql_dir: self.sql_dir.clone(),
            env_file: self.env_file.clone(),
            quiet: self.quiet,
            log: None,
            telemetry: None,
        }
    }

    /// The folder on disk that replaces the embedded catalog: `--sql-dir`, else `./sql`.
    fn sql_folder(&self) -> Option<PathBuf> {
        // Messages show paths as the user would type them.
        let here = PathBuf::from("sql");
        self.sql_dir
            .clone()
            .or_else(|| self.directory.join("sql").is_dir().then_some(here))
    }

    /// The file of variables.
    fn env_file(&self) -> PathBuf {
        let file = self.env_file.as_deref().unwrap_or(Path::new(".env"));
        self.directory.join(file)
    }

    /// The process environment, and the content of `.env`.
    fn environment(&self) -> Result<Environment, Error> {
        Ok(Environment::read_with(
            &self.env_file(),
            self.env_file.is_some(),
        )?)
    }

    /// Starts to export traces and metrics, if a collector is configured. If that fails, the command continues.
    fn start_telemetry(&self, io: &Handle) -> Option<Telemetry> {
        // Before there is a log: the command itself reports what is wrong with these variables otherwise.
        let environment = Environment::read_with(&self.env_file(), self.env_file.is_some()).ok()?;
        config::register_secrets(&environment);
        let config = TelemetryConfig::resolve(&environment, &self.directory);
        let started = match config {
            Ok(config) => Telemetry::start(config?, io).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let refused = |error| {
            say(format_args!(
                "warning: no traces and metrics are sent: {error}"
            ));
        };
        started.map_err(refused).ok()
    }

    fn catalog(&self) -> Result<Catalog, Error> {
        Ok(Catalog::open(self.sql_folder().as_deref())?)
    }

    /// The catalog with all its problems.
    fn checked_catalog(&self) -> Result<CheckedCatalog, Error> {
        Ok(CheckedCatalog::open(self.sql_folder().as_deref())?)
    }
}

/// Runs the program and tells how it ended.
pub fn main() -> ExitCode {
    // Queries are planned on this thread too, and the main thread's stack size cannot be chosen.
    let thread = std::thread::Builder::new()
        .stack_size(THREAD_STACK_BYTES)
        .spawn(run);
    match thread.map(std::thread::JoinHandle::join) {
        Ok(Ok(code)) => code,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(source) => complain(&Error::System {
            what: "cannot start threads".into(),
            source,
        })
        .into(),
    }
}

fn run() -> ExitCode {
    redact::install_panic_hook();
    // Before any message: invalid arguments may be quoted.
    config::register_secrets(&Environment::of_process());
    let color = Color::of_arguments(std::env::args_os());
    let parsed = color.command(Cli::command()).try_get_matches();
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            output::say_usage(&error, color);
            return if error.use_stderr() {
                Exit::Usage.into()
            } else {
                Exit::Success.into()
            };
        }
    };
    if let Some(directory) = &cli.directory
        && let Err(source) = std::env::set_current_dir(directory)
    {
        return complain(&Error::Usage(format!(
            "-C {}: {source}",
            directory.display()
        )))
        .into();
    }
    if let Err(source) = watch_memory(cli.max_memory.unwrap_or_else(|| cli.command.memory())) {
        return complain(&Error::System {
            what: "cannot start threads".into(),
            source,
        })
        .into();
    }
    match run_command(cli) {
        Ok(exit) => exit.into(),
        Err(error) => complain(&error).into(),
    }
}

/// Runs the command in the working directory, with its log and telemetry.
fn run_command(cli: Cli) -> Result<Exit, Error> {
    let directory = std::env::current_dir().map_err(|source| Error::System {
        what: "cannot determine the working directory".into(),
        source,
    })?;
    let runtime = threads::start("io")?;
    let keeps_log = matches!(&cli.command, Command::Run(run) if !run.dry_run);
    let mut context = Context {
        directory,
        sql_dir: cli.sql_dir,
        env_file: cli.env_file,
        quiet: cli.quiet,
        log: None,
        telemetry: None,
    };
    if keeps_log {
        context.telemetry = context.start_telemetry(runtime.handle());
    }
    context.log = logging::start_log(
        cli.verbose,
        cli.quiet,
        cli.color,
        keeps_log.then_some(context.directory.as_path()),
        context.telemetry.as_ref().map(Telemetry::layer),
    );
    let result = runtime.block_on(dispatch(cli.command, &context));
    if let Some(telemetry) = context.telemetry
        && let Some(lost) = runtime.block_on(telemetry.finish())
    {
        say(format_args!("warning: {lost}"));
    }
    // Background work is not waited for long.
    runtime.shutdown_timeout(threads::END);
    result
}

async fn dispatch(command: Command, context: &Context) -> Result<Exit, Error> {
    match command {
        Command::Run(command) => command.execute(context).await,
        Command::Plan(command) => command.execute(context).await,
        Command::Check(command) => command.execute(context).await,
        Command::Tables(command) => command.execute(context),
        Command::Sources(command) => command.execute(context).await,
        Command::Sql(command) => command.execute(context).await,
        Command::Query(command) => command.execute(context).await,
        Command::Status(command) => command.execute(context).await,
        Command::Report(command) => command.execute(context).await,
        Command::Docs(command) => command.execute(context).await,
        Command::Lsp(command) => command.execute(context).await,
        #[cfg(feature = "simulator")]
        Command::Simulate(command) => command.execute().await,
        #[cfg(feature = "simulator")]
        Command::Demo(command) => command.execute(context).await,
        #[cfg(feature = "ballista")]
        Command::Scheduler(command) => command.execute().await,
        #[cfg(feature = "ballista")]
        Command::Executor(command) => command.execute(context).await,
        Command::Clean(command) => command.execute(context).await,
        Command::Logs(command) => command.execute(context).await,
        Command::Init(command) => command.execute(context),
        Command::Completions(command) => command.execute(context),
        Command::Man(command) => command.execute(),
    }
}

/// One clear line, and what to do.
fn complain(error: &Error) -> Exit {
    eprintln!("error: {}", redact::one_line(error));
    if let Some(hint) = error.hint() {
        say(format_args!("hint: {hint}"));
    }
    match error {
        error if error.is_usage() => Exit::Usage,
        error if error.is_locked() => Exit::Locked,
        _ => Exit::Failure,
    }
}

#[cfg(test)]
mod tests {
    use super::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    /// A section of docs/cli.md for a command, followed by one for each of its subcommands.
    #[cfg(all(feature = "simulator", not(feature = "ballista")))]
    fn describe(command: &mut clap::Command, reference: &mut String) {
        use std::fmt::Write;

        let name = command
            .get_bin_name()
            .unwrap_or(command.get_name())
            .to_string();
        let help = command.render_long_help().to_string();
        let help: Vec<&str> = help.lines().map(str::trim_end).collect();
        write!(
            reference,
            "\n## {name}\n\n```text\n{}\n```\n",
            help.join("\n").trim_end()
        )
        .unwrap();
        for command in command
            .get_subcommands_mut()
            .filter(|command| command.get_name() != "help")
        {
            describe(command, reference);
        }
    }

    // The reference is that of the default features.
    #[cfg(all(feature = "simulator", not(feature = "ballista")))]
    #[test]
    fn the_reference_of_the_command_line_is_up_to_date() {
        let mut reference = String::from(
            "# Command line\n\n\
             What `--help` says of each command. The test `cli::tests::the_reference_of_the_command_line_is_up_to_date` \
             writes this\nfile.\n",
        );
        let mut command = super::Cli::command().term_width(110);
        command.build();
        describe(&mut command, &mut reference);
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md");
        if std::fs::read_to_string(path).is_ok_and(|text| text == reference) {
            return;
        }
        std::fs::write(path, reference).unwrap();
        panic!("docs/cli.md was stale and has been updated: commit it");
    }

    #[test]
    fn sizes_are_read_in_the_units_that_people_write() {
        let fine = [
            ("1", 1),
            ("500MB", 500 << 20),
            ("6 GiB", 6 << 30),
            ("2g", 2 << 30),
            ("1kb", 1024),
            (" 3t", 3 << 40),
        ];
        for (text, size) in fine {
            assert_eq!(super::parse_size(text), Ok(size), "{text}");
        }
        for text in [
            "",
            "0",
            "GB",
            "1.5GB",
            "-1",
            "1 PB",
            "99999999999999999999",
            "99999999999TB",
        ] {
            assert!(super::parse_size(text).is_err(), "{text}");
        }
    }
}
