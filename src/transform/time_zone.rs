//! `AT TIME ZONE` in microseconds.
//!
//! DataFusion casts to nanoseconds, so that one time before 1677 or after 2262 fails the whole query, and reports an
//! unknown zone only when a row is computed.

use std::ops::ControlFlow;
use std::str::FromStr;

use arrow::array::timezone::Tz;
use datafusion::common::{DataFusionError, Result, plan_datafusion_err};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Value, visit_expressions_mut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

/// Writes each `x AT TIME ZONE 'zone'` as a cast of `x` to microseconds in that zone.
pub(super) fn in_microseconds(statement: &mut Statement) -> Result<()> {
    let Statement::Statement(statement) = statement else {
        return Ok(());
    };
    let done = visit_expressions_mut(&mut **statement, |expr| match cast(expr) {
        Ok(Some(cast)) => {
            *expr = cast;
            ControlFlow::Continue(())
        }
        Ok(None) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    });
    match done {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn cast(expr: &Expr) -> Result<Option<Expr>, DataFusionError> {
    let Expr::AtTimeZone {
        timestamp,
        time_zone,
    } = expr
    else {
        return Ok(None);
    };
    // DataFusion itself refuses anything but a text.
    let Expr::Value(zone) = &**time_zone else {
        return Ok(None);
    };
    let Value::SingleQuotedString(zone) = &zone.value else {
        return Ok(None);
    };
    if Tz::from_str(zone).is_err() {
        return Err(plan_datafusion_err!(
            "unknown time zone '{zone}'; write a name such as 'Europe/Paris' or '+02:00'"
        ));
    }
    let call = format!("arrow_cast(NULL, 'Timestamp(Microsecond, Some(\"{zone}\"))')");
    let mut call = Parser::new(&GenericDialect {})
        .try_with_sql(&call)?
        .parse_expr()?;
    if let Expr::Function(function) = &mut call
        && let FunctionArguments::List(list) = &mut function.args
        && let Some(first) = list.args.first_mut()
    {
        *first = FunctionArg::Unnamed(FunctionArgExpr::Expr((**timestamp).clone()));
    }
    Ok(Some(call))
}

#[cfg(test)]
mod tests {
    use arrow::util::display::{ArrayFormatter, FormatOptions};

    use super::super::{one_line, select, session};

    /// What an expression over `t` gives for each of these texts; `NULL` for nothing.
    async fn values(expression: &str, texts: &[&str]) -> Result<Vec<String>, String> {
        let context = session::session(session::runtime(64 << 20).unwrap()).unwrap();
        let rows: Vec<String> = texts
            .iter()
            .enumerate()
            .map(|(n, text)| format!("({n}, '{text}')"))
            .collect();
        let sql = format!(
            "SELECT {expression} AS x FROM (VALUES {}) AS v(n, t) ORDER BY n",
            rows.join(", ")
        );
        let frame = select(&context, &sql)
            .await
            .map_err(|error| one_line(&error))?;
        let (state, plan) = frame.into_parts();
        let (plan, _) = super::super::unfit::watch(state.optimize(&plan).unwrap()).unwrap();
        let plan = state
            .query_planner()
            .create_physical_plan(&plan, &state)
            .await
            .unwrap();
        let batches = datafusion::physical_plan::collect(plan, state.task_ctx())
            .await
            .map_err(|error| one_line(&error))?;
        let options = FormatOptions::default().with_null("NULL");
        let mut values = Vec::new();
        for batch in batches {
            let formatter = ArrayFormatter::try_new(batch.column(0), &options).unwrap();
            values.extend((0..batch.num_rows()).map(|row| formatter.value(row).to_string()));
        }
        Ok(values)
    }

    /// Around the hour that Paris skips in spring, around the one that it has twice in autumn, and far away.
    const TEXTS: [&str; 7] = [
        "2024-03-30T23:30:00Z",
        "2024-03-31T00:59:59.5Z",
        "2024-03-31T01:00:00Z",
        "2024-10-27T00:30:00Z",
        "2024-10-27T01:30:00Z",
        "0001-01-01T00:00:00Z",
        "9999-12-31T00:00:00Z",
    ];

    #[tokio::test]
    async fn at_time_zone_gives_local_values() {
        let paris = "samsara_time(t) AT TIME ZONE 'Europe/Paris'";
        let instants = [
            "2024-03-31T00:30:00+01:00",
            "2024-03-31T01:59:59.500+01:00",
            "2024-03-31T03:00:00+02:00",
            "2024-10-27T02:30:00+02:00",
            "2024-10-27T02:30:00+01:00",
            "0001-01-01T00:09:21+00:09",
            "9999-12-31T01:00:00+01:00",
        ];
        let days = [
            "2024-03-31",
            "2024-03-31",
            "2024-03-31",
            "2024-10-27",
            "2024-10-27",
            "0001-01-01",
            "9999-12-31",
        ];
        let cases: [(String, [&str; 7]); 10] = [
            (paris.into(), instants),
            (format!("CAST({paris} AS VARCHAR)"), instants),
            (format!("CAST({paris} AS DATE)"), days),
            (
                format!("date_part('hour', {paris})"),
                ["0", "1", "3", "2", "2", "0", "1"],
            ),
            (
                format!("date_trunc('hour', {paris})"),
                [
                    "2024-03-31T00:00:00+01:00",
                    "2024-03-31T01:00:00+01:00",
                    "2024-03-31T03:00:00+02:00",
                    "2024-10-27T02:00:00+02:00",
                    "2024-10-27T02:00:00+01:00",
                    "0001-01-01T00:00:00+00:09",
                    "9999-12-31T01:00:00+01:00",
                ],
            ),
            (
                // The instant at which the local day began.
                format!("CAST(date_trunc('day', {paris}) AS TIMESTAMP)"),
                [
                    "2024-03-30T23:00:00",
                    "2024-03-30T23:00:00",
                    "2024-03-30T23:00:00",
                    "2024-10-26T22:00:00",
                    "2024-10-26T22:00:00",
                    "NULL",
                    "NULL",
                ],
            ),
            (
                format!("to_local_time({paris})"),
                [
                    "2024-03-31T00:30:00",
                    "2024-03-31T01:59:59.500",
                    "2024-03-31T03:00:00",
                    "2024-10-27T02:30:00",
                    "2024-10-27T02:30:00",
                    "0001-01-01T00:09:21",
                    "9999-12-31T01:00:00",
                ],
            ),
            // Functions that need nanoseconds give NULL for times beyond their range, and do not fail.
            (
                format!("to_char({paris}, '%H:%M')"),
                ["00:30", "01:59", "03:00", "02:30", "02:30", "NULL", "NULL"],
            ),
            ("CAST(samsara_time(t) AS DATE)".into(), {
                let mut utc = days;
                utc[0] = "2024-03-30";
                utc
            }),
            (
                "samsara_time(t) < now()".into(),
                ["true", "true", "true", "true", "true", "true", "false"],
            ),
        ];
        for (expression, expected) in cases {
            assert_eq!(
                values(&expression, &TEXTS).await.as_deref(),
                Ok(&expected.map(String::from)[..]),
                "{expression}"
            );
        }
    }

    #[tokio::test]
    async fn the_other_functions_that_make_times_make_them_in_utc_too() {
        for made in [
            "to_timestamp_micros(t)",
            "to_timestamp(t)",
            "to_timestamp_millis(CAST(to_unixtime(t) AS BIGINT) * 1000)",
            "samsara_time_ms(CAST(to_unixtime(t) AS BIGINT) * 1000)",
        ] {
            let local = values(&format!("{made} AT TIME ZONE 'Europe/Paris'"), &TEXTS[2..5]).await;
            let expected = [
                "2024-03-31T03:00:00+02:00",
                "2024-10-27T02:30:00+02:00",
                "2024-10-27T02:30:00+01:00",
            ];
            assert_eq!(
                local.as_deref(),
                Ok(&expected.map(String::from)[..]),
                "{made}"
            );
        }
    }

    #[tokio::test]
    async fn what_cannot_be_is_told_before_there_is_a_row() {
        for (expression, told) in [
            (
                "samsara_time(t) AT TIME ZONE 'Europe/Pari'",
                "unknown time zone 'Europe/Pari'",
            ),
            (
                "samsara_time(n)",
                "samsara_time takes text (VARCHAR), not Int64; use samsara_time_ms for milliseconds",
            ),
            (
                "samsara_time_ms(t)",
                "samsara_time_ms takes milliseconds (BIGINT), not Utf8; use samsara_time for text",
            ),
            ("samsara_time(t, t)", "samsara_time takes one value"),
        ] {
            let error = values(expression, &["2024-01-01T00:00:00Z"])
                .await
                .unwrap_err();
            assert!(error.contains(told), "{expression}: {error}");
        }
    }
}
