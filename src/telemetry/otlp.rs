//! The messages of the OpenTelemetry protocol, as far as this program sends and reads them.
//!
//! Names and numbers of the fields are those of
//! <https://github.com/open-telemetry/opentelemetry-proto/tree/v1.9.0/opentelemetry/proto>. The crates with these
//! messages depend on an SDK whose features would compile DataFusion a second time, hence only the messages.

/// A text, number or truth.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AnyValue {
    /// What it is; none is null.
    #[prost(oneof = "Value", tags = "1, 2, 3, 4")]
    pub value: Option<Value>,
}

/// What an [`AnyValue`] is.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Value {
    /// Text.
    #[prost(string, tag = "1")]
    Text(String),
    /// True or false.
    #[prost(bool, tag = "2")]
    Bool(bool),
    /// A whole number.
    #[prost(int64, tag = "3")]
    Int(i64),
    /// Another number.
    #[prost(double, tag = "4")]
    Double(f64),
}

/// An attribute.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeyValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

impl KeyValue {
    /// An attribute of this value.
    pub fn new(key: impl Into<String>, value: Value) -> Self {
        Self {
            key: key.into(),
            value: Some(AnyValue { value: Some(value) }),
        }
    }

    /// An attribute that is a text.
    pub fn text(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self::new(key, Value::Text(value.into()))
    }
}

/// The resource that all spans or metrics of a request belong to.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Resource {
    /// `service.name` and the like.
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

/// What has made spans or metrics.
#[derive(Clone, PartialEq, prost::Message)]
pub struct InstrumentationScope {
    /// Name of the library.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its version.
    #[prost(string, tag = "2")]
    pub version: String,
}

/// What is sent to `/v1/traces`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExportTraces {
    /// Spans by what they are of.
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

/// Spans of one resource.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ResourceSpans {
    /// The resource.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// Its spans.
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
}

/// Spans of one library.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ScopeSpans {
    /// The library.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<InstrumentationScope>,
    /// Its spans.
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<Span>,
}

/// Something that took its time.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Span {
    /// The trace, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    /// The span, 8 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    /// The span around it; empty for the root.
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    /// What it is.
    #[prost(string, tag = "5")]
    pub name: String,
    /// [`INTERNAL`] or [`CLIENT`].
    #[prost(int32, tag = "6")]
    pub kind: i32,
    /// When it began, in nanoseconds since 1970.
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    /// When it ended, likewise.
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    /// What is known of it.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    /// What happened in it.
    #[prost(message, repeated, tag = "11")]
    pub events: Vec<SpanEvent>,
    /// Events that are left out.
    #[prost(uint32, tag = "12")]
    pub dropped_events_count: u32,
    /// Spans that it follows.
    #[prost(message, repeated, tag = "13")]
    pub links: Vec<Link>,
    /// How it ended; none unless something went wrong.
    #[prost(message, optional, tag = "15")]
    pub status: Option<Status>,
}

/// Kind of a span within the program.
pub const INTERNAL: i32 = 1;
/// Kind of a span that waits for another service.
pub const CLIENT: i32 = 3;

/// Something that happened in a span.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SpanEvent {
    /// When, in nanoseconds since 1970.
    #[prost(fixed64, tag = "1")]
    pub time_unix_nano: u64,
    /// What.
    #[prost(string, tag = "2")]
    pub name: String,
    /// More of it.
    #[prost(message, repeated, tag = "3")]
    pub attributes: Vec<KeyValue>,
}

/// Another span that a span follows.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Link {
    /// Its trace.
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    /// Its id.
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
}

/// How a span ended.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    /// What went wrong.
    #[prost(string, tag = "2")]
    pub message: String,
    /// [`ERROR`].
    #[prost(int32, tag = "3")]
    pub code: i32,
}

/// Code of a [`Status`]: it failed.
pub const ERROR: i32 = 2;

/// What is sent to `/v1/metrics`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExportMetrics {
    /// Metrics by what they are of.
    #[prost(message, repeated, tag = "1")]
    pub resource_metrics: Vec<ResourceMetrics>,
}

/// Metrics of one resource.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ResourceMetrics {
    /// The resource.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// Its metrics.
    #[prost(message, repeated, tag = "2")]
    pub scope_metrics: Vec<ScopeMetrics>,
}

/// Metrics of one library.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ScopeMetrics {
    /// The library.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<InstrumentationScope>,
    /// Its metrics.
    #[prost(message, repeated, tag = "2")]
    pub metrics: Vec<Metric>,
}

/// A metric with its values.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Metric {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What it means.
    #[prost(string, tag = "2")]
    pub description: String,
    /// Its unit, by UCUM.
    #[prost(string, tag = "3")]
    pub unit: String,
    /// Its values.
    #[prost(oneof = "Data", tags = "5, 7, 9")]
    pub data: Option<Data>,
}

/// The values of a metric.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Data {
    /// A value that goes up and down.
    #[prost(message, tag = "5")]
    Gauge(Gauge),
    /// A sum.
    #[prost(message, tag = "7")]
    Sum(Sum),
    /// How values are spread.
    #[prost(message, tag = "9")]
    Histogram(Histogram),
}

/// A value that goes up and down.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Gauge {
    /// By attributes.
    #[prost(message, repeated, tag = "1")]
    pub data_points: Vec<NumberDataPoint>,
}

/// A sum.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sum {
    /// By attributes.
    #[prost(message, repeated, tag = "1")]
    pub data_points: Vec<NumberDataPoint>,
    /// [`CUMULATIVE`].
    #[prost(int32, tag = "2")]
    pub aggregation_temporality: i32,
    /// Whether it only grows.
    #[prost(bool, tag = "3")]
    pub is_monotonic: bool,
}

/// Sums and histograms are cumulative since the start of the program.
pub const CUMULATIVE: i32 = 2;

/// A number.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NumberDataPoint {
    /// Since when, in nanoseconds since 1970.
    #[prost(fixed64, tag = "2")]
    pub start_time_unix_nano: u64,
    /// When, likewise.
    #[prost(fixed64, tag = "3")]
    pub time_unix_nano: u64,
    /// The number.
    #[prost(oneof = "Number", tags = "4, 6")]
    pub value: Option<Number>,
    /// What it is of.
    #[prost(message, repeated, tag = "7")]
    pub attributes: Vec<KeyValue>,
}

/// A number of a [`NumberDataPoint`].
#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub enum Number {
    /// Of seconds.
    #[prost(double, tag = "4")]
    Double(f64),
    /// Of things.
    #[prost(sfixed64, tag = "6")]
    Int(i64),
}

/// How values are spread.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Histogram {
    /// By attributes.
    #[prost(message, repeated, tag = "1")]
    pub data_points: Vec<HistogramDataPoint>,
    /// [`CUMULATIVE`].
    #[prost(int32, tag = "2")]
    pub aggregation_temporality: i32,
}

/// The values of one set of attributes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HistogramDataPoint {
    /// Since when, in nanoseconds since 1970.
    #[prost(fixed64, tag = "2")]
    pub start_time_unix_nano: u64,
    /// When, likewise.
    #[prost(fixed64, tag = "3")]
    pub time_unix_nano: u64,
    /// How many values.
    #[prost(fixed64, tag = "4")]
    pub count: u64,
    /// Their sum.
    #[prost(double, optional, tag = "5")]
    pub sum: Option<f64>,
    /// Number of values up to each bound and above the previous one; the last is for those above all bounds.
    #[prost(fixed64, repeated, tag = "6")]
    pub bucket_counts: Vec<u64>,
    /// The bounds.
    #[prost(double, repeated, tag = "7")]
    pub explicit_bounds: Vec<f64>,
    /// What they are of.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
}

/// What a collector answers.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExportResponse {
    /// What it has not taken.
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<PartialSuccess>,
}

/// What a collector has not taken.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PartialSuccess {
    /// How many spans or data points.
    #[prost(int64, tag = "1")]
    pub rejected: i64,
    /// Why.
    #[prost(string, tag = "2")]
    pub error_message: String,
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    /// Made by the Python package `opentelemetry-proto` 1.45.2 from the same values.
    const TRACES: &str = "0ade010a150a130a0c736572766963652e6e616d6512030a017312c4010a060a016e12013112b9010a100001020304050607\
        08090a0b0c0d0e0f12080001020304050607220808090a0b0c0d0e0f2a046c6f616430033901002a36fe9c97174102002a36\
        fe9c97174a080a017412030a01784a070a0162120210014a100a0169120b18f9ffffffffffffffff014a0e0a016412092100\
        0000000000f83f5a1b09030000000000000012066661696c65641a080a016b12030a017660026a1c0a100102030405060708\
        090a0b0c0d0e0f10120801020304050607087a0512016d1802";
    const METRICS: &str = "0adf010a150a130a0c736572766963652e6e616d6512030a017312c5010a060a016e12013112390a0373756d1201641a0242\
        793a2b0a2511010000000000000019020000000000000031fbffffffffffffff3a080a016b12030a01761002180112200a05\
        67617567651a01732a140a12190200000000000000210000000000000440125e0a09686973746f6772616d1a01734a4e0a4a\
        1101000000000000001902000000000000002103000000000000002900000000000012403210010000000000000002000000\
        000000003a08000000000000e03f4a080a016b12030a01761002";
    const RESPONSE: &str = "0a080803120466756c6c";

    fn resource() -> Option<Resource> {
        Some(Resource {
            attributes: vec![KeyValue::text("service.name", "s")],
        })
    }

    fn scope() -> Option<InstrumentationScope> {
        let (name, version) = ("n".into(), "1".into());
        Some(InstrumentationScope { name, version })
    }

    #[test]
    fn bytes_are_those_of_the_official_messages() {
        let span = Span {
            trace_id: (0..16).collect(),
            span_id: (0..8).collect(),
            parent_span_id: (8..16).collect(),
            name: "load".into(),
            kind: CLIENT,
            start_time_unix_nano: 1_700_000_000_000_000_001,
            end_time_unix_nano: 1_700_000_000_000_000_002,
            attributes: vec![
                KeyValue::text("t", "x"),
                KeyValue::new("b", Value::Bool(true)),
                KeyValue::new("i", Value::Int(-7)),
                KeyValue::new("d", Value::Double(1.5)),
            ],
            events: vec![SpanEvent {
                time_unix_nano: 3,
                name: "failed".into(),
                attributes: vec![KeyValue::text("k", "v")],
            }],
            dropped_events_count: 2,
            links: vec![Link {
                trace_id: (1..17).collect(),
                span_id: (1..9).collect(),
            }],
            status: Some(Status {
                message: "m".into(),
                code: ERROR,
            }),
        };
        let traces = ExportTraces {
            resource_spans: vec![ResourceSpans {
                resource: resource(),
                scope_spans: vec![ScopeSpans {
                    scope: scope(),
                    spans: vec![span],
                }],
            }],
        };
        assert_eq!(const_hex::encode(traces.encode_to_vec()), TRACES);

        let attributes = vec![KeyValue::text("k", "v")];
        let sum = Data::Sum(Sum {
            data_points: vec![NumberDataPoint {
                start_time_unix_nano: 1,
                time_unix_nano: 2,
                value: Some(Number::Int(-5)),
                attributes: attributes.clone(),
            }],
            aggregation_temporality: CUMULATIVE,
            is_monotonic: true,
        });
        let gauge = Data::Gauge(Gauge {
            data_points: vec![NumberDataPoint {
                time_unix_nano: 2,
                value: Some(Number::Double(2.5)),
                ..NumberDataPoint::default()
            }],
        });
        let histogram = Data::Histogram(Histogram {
            data_points: vec![HistogramDataPoint {
                start_time_unix_nano: 1,
                time_unix_nano: 2,
                count: 3,
                sum: Some(4.5),
                bucket_counts: vec![1, 2],
                explicit_bounds: vec![0.5],
                attributes,
            }],
            aggregation_temporality: CUMULATIVE,
        });
        let metric = |name: &str, description: &str, unit: &str, data| Metric {
            name: name.into(),
            description: description.into(),
            unit: unit.into(),
            data: Some(data),
        };
        let metrics = ExportMetrics {
            resource_metrics: vec![ResourceMetrics {
                resource: resource(),
                scope_metrics: vec![ScopeMetrics {
                    scope: scope(),
                    metrics: vec![
                        metric("sum", "d", "By", sum),
                        metric("gauge", "", "s", gauge),
                        metric("histogram", "", "s", histogram),
                    ],
                }],
            }],
        };
        assert_eq!(const_hex::encode(metrics.encode_to_vec()), METRICS);

        let response = ExportResponse::decode(&*const_hex::decode(RESPONSE).unwrap()).unwrap();
        let partial = response.partial_success.unwrap();
        assert_eq!(
            (partial.rejected, partial.error_message.as_str()),
            (3, "full")
        );
    }
}
