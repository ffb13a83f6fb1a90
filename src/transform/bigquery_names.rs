//! What to write for BigQuery functions that have another name here.

/// A function of BigQuery, and an equivalent expression.
type Name = (&'static str, &'static str);

/// In lower case and alphabetical order. Each expression can be planned, over times `t` and `u`, texts `text`, and
/// numbers `x` and `y`.
const NAMES: &[Name] = &[
    ("approx_count_distinct", "approx_distinct(text)"),
    ("contains_substr", "text ILIKE '%part%'"),
    ("countif", "count(*) FILTER (WHERE x > 0)"),
    ("date", "CAST(t AS DATE)"),
    ("date_add", "CAST(t AS DATE) + INTERVAL '1 day'"),
    ("date_diff", "CAST(t AS DATE) - CAST(u AS DATE)"),
    ("date_sub", "CAST(t AS DATE) - INTERVAL '1 day'"),
    ("datetime", "to_local_time(t AT TIME ZONE 'Europe/Paris')"),
    ("datetime_trunc", "date_trunc('hour', t)"),
    ("div", "CAST(x AS BIGINT) / CAST(y AS BIGINT)"),
    ("format_date", "to_char(t, '%Y-%m-%d')"),
    ("format_timestamp", "to_char(t, '%Y-%m-%d %H:%M:%S')"),
    ("generate_array", "generate_series(1, 10)"),
    ("if", "CASE WHEN x > 0 THEN x ELSE y END"),
    ("json_extract", "json_as_text(text, 'name')"),
    ("json_extract_array", "json_get_array(text, 'list')"),
    ("json_extract_scalar", "json_get_str(text, 'name')"),
    ("json_query", "json_as_text(text, 'name')"),
    ("json_query_array", "json_get_array(text, 'list')"),
    ("json_value", "json_get_str(text, 'name')"),
    ("json_value_array", "json_get_array(text, 'list')"),
    ("logical_and", "bool_and(x > 0)"),
    ("logical_or", "bool_or(x > 0)"),
    ("mod", "x % y"),
    ("parse_date", "to_date(text, '%Y-%m-%d')"),
    ("parse_timestamp", "samsara_time(text)"),
    ("regexp_contains", "regexp_like(text, 'part')"),
    ("regexp_extract", "regexp_match(text, 'id=([0-9]+)')[1]"),
    ("safe_add", "x + y"),
    ("safe_multiply", "x * y"),
    ("safe_negate", "-x"),
    ("safe_subtract", "x - y"),
    ("split", "string_to_array(text, ',')"),
    ("st_contains", "in_polygon(x, y, text)"),
    ("st_distance", "haversine_m(x, y, x, y)"),
    ("st_dwithin", "haversine_m(x, y, x, y) <= 100"),
    ("st_geogpoint", "haversine_m(x, y, x, y)"),
    ("st_within", "in_polygon(x, y, text)"),
    ("timestamp", "samsara_time(text)"),
    ("timestamp_add", "t + INTERVAL '1 hour'"),
    ("timestamp_diff", "to_unixtime(t) - to_unixtime(u)"),
    ("timestamp_micros", "to_timestamp_micros(CAST(x AS BIGINT))"),
    ("timestamp_millis", "samsara_time_ms(CAST(x AS BIGINT))"),
    (
        "timestamp_seconds",
        "samsara_time_ms(1000 * CAST(x AS BIGINT))",
    ),
    ("timestamp_sub", "t - INTERVAL '1 hour'"),
    ("timestamp_trunc", "date_trunc('hour', t)"),
    ("to_json_string", "to_json(x)"),
    ("unix_date", "CAST(CAST(t AS DATE) AS INTEGER)"),
    ("unix_micros", "CAST(t AS BIGINT)"),
    ("unix_millis", "CAST(t AS BIGINT) / 1000"),
    ("unix_seconds", "to_unixtime(t)"),
];

/// What to write for a function of BigQuery that does not exist here.
pub(super) fn instead(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    let at = NAMES.binary_search_by_key(&name.as_str(), |(known, _)| known);
    Some(NAMES[at.ok()?].1)
}

#[cfg(test)]
mod tests {
    use super::super::{one_line, select, session};
    use super::{NAMES, instead};

    #[tokio::test]
    async fn what_stands_for_bigquery_functions_can_be_planned() {
        assert!(NAMES.is_sorted());
        assert_eq!(instead("TIMESTAMP_TRUNC"), Some("date_trunc('hour', t)"));
        assert_eq!(instead("sum"), None);
        let context = session::session(session::runtime(64 << 20).unwrap()).unwrap();
        let table = "(SELECT samsara_time('2024-01-02T03:04:05Z') AS t, samsara_time('2024-01-01T00:00:00Z') AS u, \
                     '2024-01-31' AS text, 7.5 AS x, 2.0 AS y)";
        for (name, expression) in NAMES {
            let sql = format!("SELECT {expression} AS value FROM {table}");
            let frame = select(&context, &sql).await;
            let rows = match frame {
                Ok(frame) => frame.collect().await,
                Err(error) => panic!("{name}: {expression}: {}", one_line(&error)),
            };
            let rows = rows.unwrap_or_else(|error| panic!("{name}: {expression}: {error}"));
            assert_eq!(
                rows.iter().map(|it| it.num_rows()).sum::<usize>(),
                1,
                "{name}"
            );
            // What is known needs no other name.
            let known = format!("SELECT {name}(1) FROM {table}");
            let error = select(&context, &known).await.err();
            let error = error.map(|error| one_line(&error)).unwrap_or_default();
            assert!(error.contains("Invalid function"), "{name}: {error}");
        }
    }
}
