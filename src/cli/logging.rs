//! Logs: for people on stderr, and for programs as JSON lines in a file. Each line has the fields of the spans around
//! it (`run`, `table`, `partition`, `job_id`, `endpoint`) besides its own.

use std::fmt::{self, Write as _};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use chrono::SecondsFormat;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use super::color::Color;
use super::output::{self, say};
use crate::clock;
use crate::redact::Masked;
use crate::report::logs::LogFile;
use crate::telemetry::SpanLayer;

/// The level with `-v`, and in a run's log: every step, and every wait, including those of the object store.
const LOGGED: &str = "samsara_etl=info,samsara_simulator=info,object_store::client::retry=info";

/// Fields whose text is JSON, and is written as such in the log's lines.
const NESTED: &[&str] = &["report"];

/// Starts to log: to stderr for people, and for runs as JSON lines to a file below `directory`; `spans` gets the spans,
/// and the errors in them.
pub(super) fn start_log(
    verbose: u8,
    quiet: bool,
    color: Color,
    directory: Option<&Path>,
    spans: Option<SpanLayer>,
) -> Option<LogFile> {
    let level = match verbose {
        // Failures of a run are shown with its progress, and again at its end; its summary has drift and notes.
        0 if quiet => "samsara_etl=error,samsara_simulator=error,samsara_etl::failures=off",
        0 => {
            "samsara_etl=warn,samsara_simulator=warn,samsara_etl::failures=off,samsara_etl::summarized=off"
        }
        1 => LOGGED,
        _ => "samsara_etl=debug,samsara_simulator=debug,object_store::client::retry=info",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    // Write errors are not reported on stderr, which may be what cannot be written to.
    let console = tracing_subscriber::fmt::layer()
        .event_format(OneLine)
        .with_writer(|| Masked(output::Stderr))
        .with_ansi(color.is_wanted())
        .log_internal_errors(false)
        .with_filter(filter);
    let file = directory.map(|directory| LogFile::create(directory, clock::now()));
    let (log, lines) = match file {
        None => (None, None),
        Some(Ok((log, file))) => {
            let lines = JsonLines(Mutex::new(Masked(file)));
            (Some(log), Some(lines.with_filter(EnvFilter::new(LOGGED))))
        }
        Some(Err(error)) => {
            say(format_args!("warning: no log file is written: {error}"));
            (None, None)
        }
    };
    tracing_subscriber::registry()
        .with(console)
        .with(lines)
        .with(spans.map(|spans| {
            // A layer without a filter would enable all spans of every library.
            let ours = Targets::new().with_target("samsara_etl", LevelFilter::WARN);
            spans.with_filter(ours)
        }))
        .init();
    log
}

/// A line for people: time, level, message, its fields, and those of the spans around it that it does not have itself.
struct OneLine;

impl<S, N> FormatEvent<S, N> for OneLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        let at = clock::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        if writer.has_ansi_escapes() {
            let color = match level {
                tracing::Level::ERROR => 31,
                tracing::Level::WARN => 33,
                tracing::Level::INFO => 32,
                _ => 34,
            };
            write!(
                writer,
                "\u{1b}[2m{at}\u{1b}[0m \u{1b}[{color}m{level:>5}\u{1b}[0m "
            )?;
        } else {
            write!(writer, "{at} {level:>5} ")?;
        }
        context.format_fields(writer.by_ref(), event)?;
        let own = event.metadata().fields();
        for span in context.event_scope().into_iter().flatten() {
            if span
                .metadata()
                .fields()
                .iter()
                .any(|field| own.field(field.name()).is_some())
            {
                continue;
            }
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>()
                && !fields.is_empty()
            {
                write!(writer, " {fields}")?;
            }
        }
        writeln!(writer)
    }
}

/// Writes each event as one JSON object: `timestamp`, `level`, `target`, the fields of the spans around it, and its own
/// below `fields`. Its own `table`, `partition` and `job_id` are at the top level too.
struct JsonLines<W>(Mutex<W>);

/// The fields of a span.
struct SpanFields(Map<String, Value>);

/// Collects fields as JSON.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn set(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_string(), value.into());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let nested = NESTED
            .contains(&field.name())
            .then(|| serde_json::from_str::<Value>(value).ok())
            .flatten();
        self.set(field, nested.unwrap_or_else(|| value.into()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = write!(text, "{value:?}");
        self.set(field, text);
    }
}

/// Fields of an event that are written next to those of its spans.
const CONTEXT: [&str; 3] = ["table", "partition", "job_id"];

impl<W: Write + 'static, S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for JsonLines<W> {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanFields(fields.0));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        if let Some(span) = context.span(id)
            && let Some(known) = span.extensions_mut().get_mut::<SpanFields>()
        {
            known.0.extend(fields.0);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut line = Map::new();
        let at = clock::now().to_rfc3339_opts(SecondsFormat::Micros, true);
        line.insert("timestamp".into(), at.into());
        line.insert("level".into(), event.metadata().level().as_str().into());
        line.insert("target".into(), event.metadata().target().into());
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(known) = span.extensions().get::<SpanFields>() {
                line.extend(known.0.clone());
            }
        }
        for name in CONTEXT {
            if let Some(value) = fields.0.get(name) {
                line.insert(name.into(), value.clone());
            }
        }
        line.insert("fields".into(), fields.0.into());
        let text = Value::from(line).to_string() + "\n";
        // The writer counts what is lost; logging ends nothing.
        if let Ok(mut out) = self.0.lock() {
            let _ = out.write_all(text.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(work: impl FnOnce()) -> (Vec<Value>, String) {
        let (lines, console) = (Kept::default(), Kept::default());
        let out = console.clone();
        let subscriber = tracing_subscriber::registry()
            .with(
                tracing_subscriber::fmt::layer()
                    .event_format(OneLine)
                    .with_ansi(false)
                    .with_writer(move || out.clone())
                    .with_filter(EnvFilter::new("warn")),
            )
            .with(JsonLines(Mutex::new(lines.clone())));
        tracing::subscriber::with_default(subscriber, work);
        let text = |kept: &Kept| String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let lines = text(&lines);
        let lines = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        (lines.collect(), text(&console))
    }

    #[test]
    fn a_line_has_the_fields_of_the_spans_around_it() {
        let (lines, console) = logged(|| {
            let run = tracing::error_span!("run", run = "r-1");
            let _run = run.enter();
            let job = Some("j-1");
            let load =
                tracing::error_span!("load", table = "t", partition = "2024-01-01", job_id = job);
            let _load = load.enter();
            tracing::warn!(reason = "503", "tried again");
            tracing::info!(table = "own", report = r#"{"a":[1]}"#, "told");
        });
        assert_eq!(lines.len(), 2);
        let about =
            |line: &Value| ["run", "table", "partition", "job_id"].map(|name| line[name].clone());
        assert_eq!(about(&lines[0]), ["r-1", "t", "2024-01-01", "j-1"]);
        assert_eq!(about(&lines[1]), ["r-1", "own", "2024-01-01", "j-1"]);
        assert_eq!(
            lines[0]["fields"],
            serde_json::json!({"message": "tried again", "reason": "503"})
        );
        assert_eq!(lines[1]["fields"]["report"]["a"][0], 1, "nested, not text");
        let said = r#" WARN tried again reason="503" table="t" partition="2024-01-01" job_id="j-1" run="r-1""#;
        assert_eq!(console.lines().count(), 1);
        assert!(console.trim_end().ends_with(said), "{console}");
    }
}
