//! Declarations of sources for catalogs that tests write.

/// A list, for `sources.toml`.
pub fn list(name: &str, schema: &str) -> String {
    format!(
        r#"
[{name}]
description = "{name}."
kind = "snapshot"
endpoint = "/{name}"
rate_limit = "50/s"
schema = "{schema}"
"#
    )
}

/// A source by day whose records have their time in `at`, for `sources.toml`.
pub fn daily(name: &str, schema: &str) -> String {
    format!(
        r#"
[{name}]
description = "{name}."
kind = "window"
endpoint = "/{name}"
rate_limit = "50/s"
window = {{ start = "startTime", end = "endTime", format = "rfc3339" }}
time_field = "at"
schema = "at VARCHAR, {schema}"
"#
    )
}
