//! Where traces and metrics go: the variables of the OpenTelemetry specification.
//!
//! <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>

use std::path::Path;

use percent_encoding::percent_decode_str;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::{ConfigError, Environment, HttpConfig, env};

/// The name of the service where none is configured.
const SERVICE: &str = "samsara-etl";

/// Where traces and metrics go, and what they are said to be of.
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// The collector, to which the paths of the signals are appended.
    pub endpoint: Url,
    /// Headers for the collector, marked as sensitive: most hold a key.
    pub headers: HeaderMap,
    /// Attributes of all that is sent, `service.name` among them.
    pub resource: Vec<(String, String)>,
    /// Proxies and TLS certificates.
    pub http: HttpConfig,
}

impl TelemetryConfig {
    /// Resolves the configuration; none if no collector is configured.
    ///
    /// # Errors
    /// [`ConfigError::Value`] if a variable cannot be used. Its value is not shown: it may contain a key.
    pub fn resolve(
        environment: &Environment,
        directory: &Path,
    ) -> Result<Option<Self>, ConfigError> {
        let Some(endpoint) = environment.get(env::OTEL_EXPORTER_OTLP_ENDPOINT) else {
            return Ok(None);
        };
        let wrong = |variable: env::Variable, reason: &str| ConfigError::Value {
            name: variable.name,
            reason: reason.into(),
        };
        let endpoint = Url::parse(endpoint)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| {
                wrong(
                    env::OTEL_EXPORTER_OTLP_ENDPOINT,
                    "not an address; write http://host:4318 (OTLP over HTTP)",
                )
            })?;
        let mut headers = HeaderMap::new();
        for (name, value) in pairs(environment, env::OTEL_EXPORTER_OTLP_HEADERS)? {
            let (Ok(name), Ok(mut value)) = (
                HeaderName::try_from(name.as_str()),
                HeaderValue::from_str(&value),
            ) else {
                return Err(wrong(
                    env::OTEL_EXPORTER_OTLP_HEADERS,
                    "a name or a value holds characters that no header may have",
                ));
            };
            value.set_sensitive(true);
            headers.append(name, value);
        }
        let mut resource = pairs(environment, env::OTEL_RESOURCE_ATTRIBUTES)?;
        if let Some(name) = environment.get(env::OTEL_SERVICE_NAME) {
            resource.retain(|(key, _)| key != "service.name");
            resource.push(("service.name".into(), name.into()));
        }
        for (key, value) in [
            ("service.name", SERVICE),
            ("service.version", env!("CARGO_PKG_VERSION")),
        ] {
            if !resource.iter().any(|(known, _)| known == key) {
                resource.push((key.into(), value.into()));
            }
        }
        Ok(Some(Self {
            endpoint,
            headers,
            resource,
            http: HttpConfig::resolve(environment, directory),
        }))
    }
}

/// `key=value,key=value`, values percent-encoded where need be.
fn pairs(
    environment: &Environment,
    variable: env::Variable,
) -> Result<Vec<(String, String)>, ConfigError> {
    let text = environment.get(variable).unwrap_or_default();
    let parts = text.split(',').map(str::trim);
    let parts = parts.filter(|part| !part.is_empty()).map(|part| {
        let (key, value) = part.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        let key = key.trim();
        (!key.is_empty()).then(|| (key.to_string(), value.into_owned()))
    });
    parts
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| ConfigError::Value {
            name: variable.name,
            reason: "write key=value,key=value; a comma within a value is %2C".into(),
        })
}

/// The values of the headers: each may be a key.
pub(super) fn header_values(environment: &Environment) -> impl Iterator<Item = String> {
    let pairs = pairs(environment, env::OTEL_EXPORTER_OTLP_HEADERS).unwrap_or_default();
    let raw = environment.get(env::OTEL_EXPORTER_OTLP_HEADERS);
    let raw: Vec<String> = raw
        .into_iter()
        .flat_map(|text| text.split([',', '=']))
        .map(|piece| piece.trim().to_string())
        .filter(|piece| piece.len() >= 8 && !pairs.iter().any(|(key, _)| key == piece))
        .collect();
    // `Basic` and `Bearer` are not secret; what follows them is registered separately too.
    let words = pairs.into_iter().flat_map(|(_, value)| {
        let behind = value.split_once(' ').map(|(_, rest)| rest.to_string());
        behind.into_iter().chain([value]).collect::<Vec<_>>()
    });
    words.filter(|value| value.len() >= 8).chain(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(set: &[(&str, &str)]) -> Result<Option<TelemetryConfig>, ConfigError> {
        let environment = Environment::from_pairs(set.iter().copied());
        TelemetryConfig::resolve(&environment, Path::new("/data"))
    }

    #[test]
    fn the_variables_are_read_as_specified() {
        assert!(resolved(&[("OTEL_SERVICE_NAME", "x")]).unwrap().is_none());
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://otel.example/base");
        let config = resolved(&[
            endpoint,
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "Authorization=Basic%20QWxhZGRpbg==, x-team = fleet%2Cdata",
            ),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,env=prod"),
            ("OTEL_SERVICE_NAME", "nightly"),
        ]);
        let config = config.unwrap().unwrap();
        assert_eq!(config.endpoint.as_str(), "https://otel.example/base");
        assert_eq!(config.headers["authorization"], "Basic QWxhZGRpbg==");
        assert_eq!(config.headers["x-team"], "fleet,data");
        let of = |key: &str| {
            let found = config.resource.iter().find(|(known, _)| known == key);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(of("service.name"), Some("nightly"));
        assert_eq!(of("env"), Some("prod"));
        assert_eq!(of("service.version"), Some(env!("CARGO_PKG_VERSION")));
        let default = resolved(&[endpoint]).unwrap().unwrap();
        assert_eq!(
            default.resource[0],
            ("service.name".into(), SERVICE.to_string())
        );
    }

    #[test]
    fn what_cannot_be_used_is_told_without_its_value() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
        for set in [
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "kept-key:4318")][..],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://kept-key")],
            &[endpoint, ("OTEL_EXPORTER_OTLP_HEADERS", "kept-key")],
            &[endpoint, ("OTEL_EXPORTER_OTLP_HEADERS", "a b=kept-key")],
            &[endpoint, ("OTEL_EXPORTER_OTLP_HEADERS", "a=kept-key%0A")],
            &[endpoint, ("OTEL_RESOURCE_ATTRIBUTES", "=kept-key")],
        ] {
            let error = resolved(set).unwrap_err().to_string();
            let (name, _) = set[set.len() - 1];
            assert!(error.starts_with(name), "{error}");
            assert!(!error.contains("kept-key"), "{error}");
        }
    }

    #[test]
    fn keys_in_headers_are_secrets() {
        let environment = Environment::from_pairs([(
            "OTEL_EXPORTER_OTLP_HEADERS",
            "Authorization=Bearer%20abcdefgh1234,x-team=fleet",
        )]);
        let values: Vec<String> = header_values(&environment).collect();
        assert!(values.contains(&"abcdefgh1234".to_string()), "{values:?}");
        assert!(
            !values
                .iter()
                .any(|value| value == "fleet" || value == "Authorization"),
            "{values:?}"
        );
        // Also where they are not written as they should be.
        let environment = Environment::from_pairs([("OTEL_EXPORTER_OTLP_HEADERS", "abcdefgh1234")]);
        assert!(header_values(&environment).any(|value| value == "abcdefgh1234"));
    }
}
