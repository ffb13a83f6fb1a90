//! What a person sees while a run goes on and at its end: bars on a pseudo-terminal (`script` of util-linux makes it),
//! lines elsewhere.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::Notify;

use crate::program::{Program, simulator};
use crate::support::faults::{Action, Fault};
use crate::support::gate::{Turn, before};
use crate::support::gcs::GcsDouble;
use crate::support::wire::Server;

/// The program on a terminal of so many columns.
struct Terminal {
    child: Child,
    written: Vec<u8>,
}

impl Terminal {
    fn start(program: &Program, columns: usize, arguments: &str) -> Self {
        let line = format!(
            "stty rows 30 cols {columns}; exec {} {arguments}",
            env!("CARGO_BIN_EXE_samsara-etl")
        );
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        program.prepare(&mut command);
        let path = std::env::var("PATH").unwrap();
        command
            .envs([("TERM", "xterm"), ("SHELL", "/bin/sh"), ("PATH", &path)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        Self {
            child: command.spawn().expect("`script` is installed"),
            written: Vec::new(),
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.written).into_owned()
    }

    /// Reads on until `text` was written; false if the program has ended before.
    async fn wait_for(&mut self, text: &str) -> bool {
        let mut piece = [0; 4096];
        while !self.text().contains(text) {
            let out = self.child.stdout.as_mut().unwrap();
            match out.read(&mut piece).await.unwrap_or(0) {
                0 => return false,
                length => self.written.extend_from_slice(&piece[..length]),
            }
        }
        true
    }

    async fn type_in(&mut self, keys: &[u8]) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(keys).await.unwrap();
        stdin.flush().await.unwrap();
    }

    /// Reads to the end; the exit code.
    async fn end(&mut self) -> i32 {
        assert!(!self.wait_for("\u{0}no such text").await);
        self.child.wait().await.unwrap().code().unwrap()
    }
}

/// What stands on a terminal without end after all cursor movements. It breaks lines that are longer than it is wide, so
/// that one which should not be leaves something behind.
fn screen(written: &str, columns: usize) -> Vec<String> {
    let (mut lines, mut row, mut column) = (vec![Vec::<char>::new()], 0, 0);
    let mut letters = written.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\r' => column = 0,
            '\n' => {
                row += 1;
                if row == lines.len() {
                    lines.push(Vec::new());
                }
            }
            '\u{1b}' => {
                assert_eq!(letters.next(), Some('['), "only CSI sequences are used");
                let mut number = String::new();
                let end = loop {
                    match letters.next().unwrap() {
                        end if end.is_ascii_alphabetic() => break end,
                        // `?25h` shows the cursor.
                        digit => number.push(digit),
                    }
                };
                let count = number.parse::<usize>().unwrap_or(1);
                match end {
                    'A' => row = row.saturating_sub(count),
                    'B' => row = (row + count).min(lines.len() - 1),
                    'K' if number == "2" => lines[row].clear(),
                    'K' => lines[row].truncate(column),
                    'J' => {
                        lines[row].truncate(column);
                        lines.truncate(row + 1);
                    }
                    'G' => column = count - 1,
                    'm' | 'h' | 'l' => {}
                    other => panic!("unknown sequence ESC [ {number} {other}"),
                }
            }
            letter => {
                if column == columns {
                    (row, column) = (row + 1, 0);
                    if row == lines.len() {
                        lines.push(Vec::new());
                    }
                }
                let line = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = letter;
                column += 1;
            }
        }
    }
    let lines = lines.iter().map(|line| line.iter().collect::<String>());
    lines.map(|line| line.trim_end().to_string()).collect()
}

const DAYS: &str = "--start-date 2024-01-01 --end-date 2024-01-04";

#[tokio::test(flavor = "multi_thread")]
async fn bars_are_drawn_and_lines_stay_whole() {
    let simulator = simulator(|config| config.missing_scopes = vec!["/tags".into()]).await;
    for columns in [80, 120] {
        // The days wait until the bars were seen.
        let seen = Arc::new(Notify::new());
        let gate = {
            let seen = seen.clone();
            before(simulator.url(), move |request| {
                if request.uri().path() == "/fleet/trips" || request.uri().path().contains("/trips")
                {
                    let seen = seen.clone();
                    Turn::After(Box::pin(async move { seen.notified().await }))
                } else {
                    Turn::Through
                }
            })
        };
        let program = Program::with_simulator(&simulator).set("SAMSARA_API_URL", gate.url());
        let tables = "--table fleet_tags --table fleet_vehicles --table fleet_trips";
        let mut terminal = Terminal::start(&program, columns, &format!("run -v {tables} {DAYS}"));
        for text in [
            "extract   [",
            "transform [",
            "now       fleet_trips 2024-01-01",
        ] {
            assert!(terminal.wait_for(text).await, "{text}: {}", terminal.text());
        }
        let written = terminal.text();
        assert!(
            written.contains("MB/s") && written.contains("ETA"),
            "{written}"
        );
        // All waiting requests are released, now and later.
        let opened = tokio::spawn(async move {
            loop {
                seen.notify_waiters();
                seen.notify_one();
                tokio::task::yield_now().await;
            }
        });
        let code = terminal.end().await;
        opened.abort();
        let lines = screen(&terminal.text(), columns);
        assert_eq!(code, 3, "{lines:#?}");
        // Nothing of the bars is left, and every line of the log is whole.
        assert!(
            !lines
                .iter()
                .any(|line| line.contains("[#") || line.contains("[.")),
            "{lines:#?}"
        );
        let whole = lines.join("\n");
        assert!(
            whole.contains("FAILED fleet_tags") && whole.contains("failed: fleet_tags"),
            "{whole}"
        );
        assert!(
            whole.contains("\nread     ") && whole.contains("\ndone in "),
            "{whole}"
        );
        let begun = lines.iter().filter(|line| line.contains(" INFO ")).count();
        assert!(begun > 5, "{whole}");
        for line in lines.iter().filter(|line| line.contains(" INFO ")) {
            assert_eq!(line.find("20"), Some(0), "{line} is torn: {whole}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_says_what_is_left() {
    // An API that takes requests and never answers.
    let silent = Server::start(Router::new().fallback(std::future::pending::<StatusCode>));
    let program = Program::new()
        .set("SAMSARA_API_URL", silent.url())
        .set("SAMSARA_API_TOKEN", "t");
    let mut terminal = Terminal::start(&program, 80, "run --table fleet_vehicles");
    assert!(
        terminal.wait_for("now       fleet_vehicles snapshot").await,
        "{}",
        terminal.text()
    );
    terminal.type_in(b"\x03").await;
    let code = terminal.end().await;
    let lines = screen(&terminal.text(), 80);
    let whole = lines.join(" ");
    assert_eq!(code, 130, "{whole}");
    for part in [
        "stopping; completed work is kept",
        "fleet_vehicles snapshot",
        "stopped early",
    ] {
        assert!(whole.contains(part), "{part}: {whole}");
    }
    assert!(!whole.contains("nothing to do"), "{whole}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_ctrl_c_leaves_no_bars() {
    let (simulator, double) = (simulator(|_| {}).await, GcsDouble::start(&["raw", "flat"]));
    // A commit that is never answered, for whose end the first one waits.
    let hour = Duration::from_secs(3600);
    double.fault(Fault::on("PUT", "state/", Action::Delay(hour)));
    let program = Program::with_simulator(&simulator)
        .set("STORAGE_EMULATOR_HOST", double.url())
        .set("GCS_BUCKET_NAME", "raw")
        .set("GCS_BUCKET_FLATTENED_NAME", "flat");
    let mut terminal = Terminal::start(&program, 80, "run --table fleet_vehicles");
    let committing = async {
        while !double.has_begun("PUT", "state/") {
            tokio::task::yield_now().await;
        }
    };
    let shown = "now       fleet_vehicles snapshot";
    let (seen, ()) = tokio::join!(terminal.wait_for(shown), committing);
    assert!(seen, "{}", terminal.text());
    terminal.type_in(b"\x03").await;
    // Below what is said, the bars are drawn again at once.
    for text in ["to stop at once)", "stop at once)\r\nextract "] {
        assert!(terminal.wait_for(text).await, "{text}: {}", terminal.text());
    }
    terminal.type_in(b"\x03").await;
    assert_eq!(terminal.end().await, 130);
    let written = terminal.text();
    let cursor = ["\u{1b}[?25l", "\u{1b}[?25h"].map(|it| written.rfind(it));
    assert!(cursor[1].is_some() && cursor[0] < cursor[1], "{written:?}");
    let lines = screen(&written, 80);
    let left = |start: &str| lines.iter().any(|line| line.starts_with(start));
    for start in ["extract ", "transform ", "load ", "leaving ", "now "] {
        assert!(!left(start), "{start}: {lines:#?}");
    }
    let whole = lines.join(" ");
    assert!(whole.contains("to stop at once)"), "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn elsewhere_failures_are_lines() {
    let simulator = simulator(|config| config.missing_scopes = vec!["/tags".into()]).await;
    let run = ["run", "--table", "fleet_tags", "--table", "fleet_vehicles"];
    for (more, as_it_comes, at_the_end, done) in [
        (&[][..], 1, 1, true),
        (&["--progress", "bars"], 1, 1, true),
        (&["--progress", "plain"], 1, 1, true),
        (&["--progress", "none"], 0, 1, true),
        (&["-q"], 0, 1, false),
    ] {
        let program = Program::with_simulator(&simulator);
        let ran = program.run(&[&run[..], more].concat()).await;
        assert_eq!(ran.code, 3, "{more:?} {}", ran.stderr);
        let count = |start: &str| {
            ran.stderr
                .lines()
                .filter(|line| line.starts_with(start))
                .count()
        };
        assert_eq!(
            count("FAILED fleet_tags"),
            as_it_comes,
            "{more:?} {}",
            ran.stderr
        );
        assert_eq!(
            count("failed: fleet_tags"),
            at_the_end,
            "{more:?} {}",
            ran.stderr
        );
        assert_eq!(
            count("done in "),
            usize::from(done),
            "{more:?} {}",
            ran.stderr
        );
        assert!(!ran.stderr.contains('\u{1b}'), "{more:?} {}", ran.stderr);
        if !done {
            assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        }
    }
}
