//! The program's tracing spans as OpenTelemetry spans.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::export::Queue;
use super::otlp::{CLIENT, ERROR, INTERNAL, KeyValue, Link, Span, SpanEvent, Value};
use crate::clock;

/// Maximum number of events of a span; the others are counted.
const MOST_EVENTS: usize = 64;
/// Spans that wait for another service.
const OF_CLIENTS: [&str; 2] = ["request", "load"];

/// Maximum number of transformations that are kept until a load follows them.
const MOST_DERIVED: usize = 10_000;
/// So many links a span has.
const MOST_LINKS: usize = 128;

/// Passes each span on when it has ended. Must be filtered: by itself, it takes every span of every library.
pub struct SpanLayer {
    queue: Queue,
    /// Transformations that have ended, by table and partition, to link them to the load that brings them.
    derived: Mutex<BTreeMap<(String, String), Link>>,
}

impl SpanLayer {
    pub(super) fn new(queue: Queue) -> Self {
        Self {
            queue,
            derived: Mutex::default(),
        }
    }

    /// Keeps a transformation with new rows, for the load.
    fn keep(&self, ended: &Span) {
        let of = |key| text_of(&ended.attributes, key).map(str::to_string);
        let (Some(table), Some(partition)) = (of("table"), of("partition")) else {
            return;
        };
        let mut derived = self.derived.lock();
        if of("outcome").as_deref() == Some("done") && derived.len() < MOST_DERIVED {
            let (trace_id, span_id) = (ended.trace_id.clone(), ended.span_id.clone());
            derived.insert((table, partition), Link { trace_id, span_id });
        }
    }

    /// The transformations whose rows a load brings into the warehouse: one partition, or a range of days.
    fn followed(&self, load: &[KeyValue]) -> Vec<Link> {
        let (Some(table), Some(partition)) = (text_of(load, "table"), text_of(load, "partition"))
        else {
            return Vec::new();
        };
        let (first, last) = partition
            .split_once(" to ")
            .unwrap_or((partition, partition));
        // A range that ends before it begins would be a panic.
        if last < first {
            return Vec::new();
        }
        let key = |partition: &str| (table.to_string(), partition.to_string());
        let mut derived = self.derived.lock();
        let found = derived.range(key(first)..=key(last));
        let found: Vec<_> = found
            .map(|(key, link)| (key.clone(), link.clone()))
            .collect();
        // Another load follows the one on trial.
        if text_of(load, "purpose") == Some("table") {
            found.iter().for_each(|(key, _)| drop(derived.remove(key)));
        }
        let links = found.into_iter().map(|(_, link)| link);
        links.take(MOST_LINKS).collect()
    }
}

/// Nanoseconds since 1970.
pub(super) fn now() -> u64 {
    let nanos = clock::now().timestamp_nanos_opt();
    nanos
        .and_then(|nanos| u64::try_from(nanos).ok())
        .unwrap_or_default()
}

/// Collects fields as attributes.
#[derive(Default)]
struct Fields {
    message: String,
    attributes: Vec<KeyValue>,
}

impl Fields {
    fn set(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::Text(text)) => self.message = text,
            (name, value) => self.attributes.push(KeyValue::new(name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, Value::Double(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, Value::Int(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, Value::Int(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, Value::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, Value::Text(value.into()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.set(field, Value::Text(format!("{value:?}")));
    }
}

fn text_of<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn fail(span: &mut Span, message: &str) {
    let status = span.status.get_or_insert_default();
    status.code = ERROR;
    if status.message.is_empty() {
        status.message = message.into();
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else {
            return;
        };
        let around = span.parent().and_then(|parent| {
            let extensions = parent.extensions();
            let parent = extensions.get::<Span>()?;
            Some((parent.trace_id.clone(), parent.span_id.clone()))
        });
        let (trace_id, parent_span_id) =
            around.unwrap_or_else(|| (rand::random::<[u8; 16]>().to_vec(), Vec::new()));
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let kind = match OF_CLIENTS.contains(&span.name()) {
            true => CLIENT,
            false => INTERNAL,
        };
        let links = match span.name() {
            "load" => self.followed(&fields.attributes),
            _ => Vec::new(),
        };
        span.extensions_mut().insert(Span {
            trace_id,
            span_id: rand::random::<[u8; 8]>().to_vec(),
            parent_span_id,
            name: span.name().into(),
            kind,
            start_time_unix_nano: now(),
            attributes: fields.attributes,
            links,
            ..Span::default()
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        if let Some(span) = context.span(id)
            && let Some(known) = span.extensions_mut().get_mut::<Span>()
        {
            known.attributes.extend(fields.attributes);
            if text_of(&known.attributes, "outcome") == Some("failed") {
                let error = text_of(&known.attributes, "error").unwrap_or_default();
                let error = error.to_string();
                fail(known, &error);
            }
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Some(span) = context.event_span(event) else {
            return;
        };
        let mut extensions = span.extensions_mut();
        let Some(known) = extensions.get_mut::<Span>() else {
            return;
        };
        let mut fields = Fields::default();
        event.record(&mut fields);
        if *event.metadata().level() == Level::ERROR {
            let error = text_of(&fields.attributes, "error").unwrap_or(&fields.message);
            fail(known, error);
        }
        if known.events.len() == MOST_EVENTS {
            known.dropped_events_count += 1;
            return;
        }
        known.events.push(SpanEvent {
            time_unix_nano: now(),
            name: fields.message,
            attributes: fields.attributes,
        });
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        if let Some(span) = context.span(&id)
            && let Some(mut ended) = span.extensions_mut().remove::<Span>()
        {
            ended.end_time_unix_nano = now();
            if ended.name == "transform" {
                self.keep(&ended);
            }
            self.queue.push(ended);
        }
    }
}
