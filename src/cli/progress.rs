//! Progress of a run on stderr: bars on a terminal, elsewhere a line a minute. Both show the totals of
//! [`ProgressObserver`].

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use tokio::task::JoinHandle;

use super::output::{self, say};
use crate::events::{Event, Moment, Observer};
use crate::redact;
use crate::report::progress::{NARROW, Part, ProgressObserver};

/// How to show progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    /// Bars on a terminal, lines elsewhere
    Auto,
    /// Bars, updated in place
    Bars,
    /// A line a minute, and one for each failure
    Plain,
    /// Nothing before the end
    None,
}

/// A line of plain progress comes this often.
const PLAIN_EVERY: Duration = Duration::from_secs(60);
/// Bars are drawn this often.
const DRAWN_EVERY: Duration = Duration::from_millis(200);
/// Maximum number of redraws per second.
const MOST_DRAWN: u8 = 20;
/// Columns left free for what the terminal shows of keys, such as `^C`, twice.
const FREE: usize = 5;
/// Maximum number of failures that are printed as they come; the summary has them all.
const MOST_FAILURES: u64 = 20;

impl Mode {
    /// Bars, lines or nothing.
    #[expect(
        clippy::disallowed_methods,
        reason = "TERM is about the terminal, not a setting of the program"
    )]
    fn resolve(self) -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
        match self {
            Self::Auto if std::io::stderr().is_terminal() && !is_dumb => Self::Bars,
            Self::Auto => Self::Plain,
            // A terminal is what draws them.
            Self::Bars if !std::io::stderr().is_terminal() => Self::Plain,
            mode => mode,
        }
    }
}

/// Progress on stderr, from the start of a run to its end.
pub(super) struct Display {
    mode: Mode,
    bars: Option<MultiProgress>,
    ticker: Option<JoinHandle<()>>,
}

impl Display {
    /// Starts to show the totals of `observer`. Must be called on a tokio runtime.
    #[expect(
        clippy::disallowed_methods,
        reason = "the task is aborted when the display is dropped"
    )]
    pub(super) fn start(mode: Mode, observer: Arc<ProgressObserver>) -> Self {
        let (mode, started) = (mode.resolve(), Instant::now());
        let mut display = Self {
            mode,
            bars: None,
            ticker: None,
        };
        match mode {
            Mode::Bars => {
                let terminal = Box::new(Unfilled::default());
                let target = ProgressDrawTarget::term_like_with_hz(terminal, MOST_DRAWN);
                let bars = MultiProgress::with_draw_target(target);
                let lines = Lines::new(&bars);
                output::draw_above(Some(bars.clone()));
                display.bars = Some(bars);
                display.ticker = Some(tokio::spawn(async move {
                    let mut ticks = tokio::time::interval(DRAWN_EVERY);
                    loop {
                        ticks.tick().await;
                        lines.draw(&observer, started.elapsed());
                    }
                }));
            }
            Mode::Plain => {
                display.ticker = Some(tokio::spawn(async move {
                    let mut ticks = tokio::time::interval(PLAIN_EVERY);
                    // The first tick is at once.
                    ticks.tick().await;
                    loop {
                        ticks.tick().await;
                        say(observer.progress().line(started.elapsed()));
                    }
                }));
            }
            Mode::Auto | Mode::None => {}
        }
        display
    }

    /// Prints failures as they come, if that is wanted.
    pub(super) fn failures(&self) -> Option<Arc<dyn Observer>> {
        (self.mode != Mode::None).then(|| Arc::new(Failures::default()) as Arc<dyn Observer>)
    }

    /// Printed when the run is asked to stop.
    pub(super) fn stopping(observer: &ProgressObserver) -> String {
        observer.stop();
        let under_way = observer.progress().under_way();
        let left = if under_way.is_empty() {
            String::new()
        } else {
            format!("; {under_way} continues from its checkpoint in the next run")
        };
        format!(
            "stopping; completed work is kept{left}; writing the state and releasing the lock takes some seconds (press again \
             to stop at once)"
        )
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        if let Some(ticker) = self.ticker.take() {
            ticker.abort();
        }
        if let Some(bars) = self.bars.take() {
            output::draw_above(None);
            // The summary says all that they do.
            let _ = bars.clear();
        }
    }
}

/// The lines at the foot of the terminal.
struct Lines {
    parts: [(Part, ProgressBar); 3],
    now: ProgressBar,
}

impl Lines {
    fn new(bars: &MultiProgress) -> Self {
        // The text is made for the width.
        let style =
            ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        let line = || bars.add(ProgressBar::new(0).with_style(style.clone()));
        Self {
            parts: [Part::Extract, Part::Transform, Part::Load].map(|part| (part, line())),
            now: line(),
        }
    }

    fn draw(&self, observer: &ProgressObserver, elapsed: Duration) {
        let (progress, width) = (observer.progress(), output::width().unwrap_or(NARROW));
        let width = width.saturating_sub(FREE);
        for (part, line) in &self.parts {
            line.set_message(redact::screen(&progress.bar(*part, elapsed, width)));
            line.tick();
        }
        self.now
            .set_message(redact::screen(&progress.working_on(width)));
        self.now.tick();
    }
}

/// The terminal, without the padding with which indicatif fills lines up to the right edge: there, a `^C` that the
/// terminal shows would begin a line that indicatif does not know of, and bars would be left behind.
#[derive(Debug)]
struct Unfilled {
    terminal: Term,
    /// What was written of a drawing: lines and padding in turns.
    pieces: AtomicU64,
}

impl Default for Unfilled {
    fn default() -> Self {
        Self {
            terminal: Term::buffered_stderr(),
            pieces: AtomicU64::default(),
        }
    }
}

impl TermLike for Unfilled {
    fn width(&self) -> u16 {
        self.terminal.size().1
    }

    fn height(&self) -> u16 {
        self.terminal.size().0
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        self.terminal.move_cursor_up(lines)
    }

    fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
        self.terminal.move_cursor_down(lines)
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        self.terminal.move_cursor_right(columns)
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        self.terminal.move_cursor_left(columns)
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.terminal.write_line(line)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        match self.pieces.fetch_add(1, Ordering::Relaxed) {
            0 => self.terminal.write_str(text),
            piece if piece % 2 == 0 => self.terminal.write_str(&format!("\n{text}")),
            _ => Ok(()),
        }
    }

    fn clear_line(&self) -> io::Result<()> {
        self.terminal.clear_line()
    }

    fn flush(&self) -> io::Result<()> {
        self.pieces.store(0, Ordering::Relaxed);
        self.terminal.flush()
    }
}

/// Tells of failures as they come.
#[derive(Default)]
struct Failures(AtomicU64);

impl Observer for Failures {
    fn observe(&self, event: &Event) {
        let Event::Failed {
            name,
            partition,
            error,
            ..
        } = event
        else {
            return;
        };
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        if before == MOST_FAILURES {
            say("FAILED … further ones are in the log, and in the summary");
        }
        if before >= MOST_FAILURES {
            return;
        }
        let place = match partition {
            _ if error.starts_with(name.as_str()) => String::new(),
            Some(partition) => format!("{name} {partition}: "),
            None => format!("{name}: "),
        };
        let line = redact::one_line(format_args!("FAILED {place}{error}"));
        say(output::folded(&line));
    }

    fn observe_at(&self, event: &Event, _moment: Moment) {
        self.observe(event);
    }
}
