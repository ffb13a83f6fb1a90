//! `date_trunc` for the years 1 to 9999.
//!
//! DataFusion's own converts to nanoseconds, so that one time before 1677 or after 2262 fails the whole query. Here it
//! gets the times in that range, and the others are truncated by the calendar.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, FieldRef, TimeUnit, TimestampMicrosecondType};
use chrono::{
    DateTime, Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone,
    Timelike, Utc,
};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err};
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature,
};

/// The range of nanoseconds in microseconds, less a year on both sides: 1678-10-01 to 2261-04-01.
const NANOSECONDS: RangeInclusive<i64> = -9_191_000_000_000_000..=9_191_000_000_000_000;

/// `date_trunc(granularity, time)`.
pub(super) fn date_trunc() -> ScalarUDF {
    ScalarUDF::from(DateTrunc {
        inner: datafusion::functions::datetime::date_trunc(),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DateTrunc {
    inner: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for DateTrunc {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("return_field_from_args should be called instead")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [granularity, times] = &args.args[..] else {
            return self.inner.invoke_with_args(args);
        };
        let DataType::Timestamp(TimeUnit::Microsecond, zone) = times.data_type() else {
            return self.inner.invoke_with_args(args);
        };
        let ColumnarValue::Scalar(
            ScalarValue::Utf8(Some(granularity))
            | ScalarValue::Utf8View(Some(granularity))
            | ScalarValue::LargeUtf8(Some(granularity)),
        ) = granularity
        else {
            return self.inner.invoke_with_args(args);
        };
        let granularity = granularity.to_lowercase();
        let all = times.to_array(args.number_rows)?;
        let all = all.as_primitive::<TimestampMicrosecondType>();
        let is_far = |micros: i64| !NANOSECONDS.contains(&micros);
        if !all.iter().flatten().any(is_far) {
            return self.inner.invoke_with_args(args);
        }
        let near = TimestampMicrosecondArray::from_iter(
            all.iter()
                .map(|time| time.filter(|micros| !is_far(*micros))),
        );
        let near: ArrayRef = Arc::new(near.with_timezone_opt(zone.clone()));
        args.args[1] = ColumnarValue::Array(near);
        // It also refuses unknown granularities.
        let near = self.inner.invoke_with_args(args)?.into_array(all.len())?;
        let near = near.as_primitive::<TimestampMicrosecondType>();
        let tz = zone.as_deref().map(Tz::from_str).transpose()?;
        let mut truncated = Vec::with_capacity(all.len());
        for row in 0..all.len() {
            truncated.push(match all.is_valid(row).then(|| all.value(row)).filter(|micros| is_far(*micros)) {
                None => near.is_valid(row).then(|| near.value(row)),
                Some(micros) => match truncate(micros, tz, &granularity) {
                    Some(micros) => Some(micros),
                    None => return exec_err!("date_trunc: {micros} microseconds cannot be truncated to {granularity}"),
                },
            });
        }
        Ok(ColumnarValue::Array(Arc::new(
            TimestampMicrosecondArray::from(truncated).with_timezone_opt(zone),
        )))
    }

    fn output_ordering(&self, input: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(input)
    }

    fn evaluate_bounds(&self, inputs: &[&Interval]) -> Result<Interval> {
        self.inner.evaluate_bounds(inputs)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

fn truncate(micros: i64, zone: Option<Tz>, granularity: &str) -> Option<i64> {
    let utc = DateTime::from_timestamp_micros(micros)?;
    // For units up to minutes, zones make no difference, as in DataFusion.
    let Some(zone) =
        zone.filter(|_| ["hour", "day", "week", "month", "quarter", "year"].contains(&granularity))
    else {
        return Some(
            truncate_local(utc.naive_utc(), granularity)?
                .and_utc()
                .timestamp_micros(),
        );
    };
    let there = utc.with_timezone(&zone);
    let local = truncate_local(there.naive_local(), granularity)?;
    let offset = there.offset().fix();
    let found = zone.from_local_datetime(&local);
    // If an hour occurs twice, the one that contains the time.
    let found = match (found.earliest(), found.latest()) {
        (Some(first), Some(last)) if last.offset().fix() == offset && first != last => Some(last),
        (Some(first), _) => Some(first),
        // A skipped hour begins when the next one does.
        (None, _) => {
            let before = zone
                .from_local_datetime(&local.checked_sub_signed(TimeDelta::hours(3))?)
                .single();
            before.and_then(|before| before.checked_add_signed(TimeDelta::hours(3)))
        }
    };
    Some(found?.with_timezone(&Utc).timestamp_micros())
}

fn truncate_local(time: NaiveDateTime, granularity: &str) -> Option<NaiveDateTime> {
    let date = time.date();
    let clock = |unit: i64| {
        let micros = i64::from(time.num_seconds_from_midnight()) * 1_000_000
            + i64::from(time.nanosecond() / 1000);
        date.and_time(NaiveTime::MIN)
            .checked_add_signed(TimeDelta::microseconds(micros - micros % unit))
    };
    let midnight = |date: NaiveDate| Some(date.and_time(NaiveTime::MIN));
    match granularity {
        "microsecond" => clock(1),
        "millisecond" => clock(1000),
        "second" => clock(1_000_000),
        "minute" => clock(60_000_000),
        "hour" => clock(3_600_000_000),
        "day" => midnight(date),
        "week" => midnight(
            date.checked_sub_days(Days::new(u64::from(date.weekday().num_days_from_monday())))?,
        ),
        "month" => midnight(date.with_day(1)?),
        "quarter" => midnight(date.with_day(1)?.with_month0(date.month0() / 3 * 3)?),
        "year" => midnight(NaiveDate::from_ymd_opt(date.year(), 1, 1)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRANULARITIES: [&str; 10] = [
        "microsecond",
        "millisecond",
        "second",
        "minute",
        "hour",
        "day",
        "week",
        "month",
        "quarter",
        "year",
    ];

    /// In the range of nanoseconds, both must give the same, also across changes of the clock.
    #[test]
    fn far_times_are_truncated_as_near_ones_are() {
        let config = Arc::new(datafusion::config::ConfigOptions::default());
        let inner = datafusion::functions::datetime::date_trunc();
        for zone in [
            None,
            Some("UTC"),
            Some("Europe/Paris"),
            Some("America/Sao_Paulo"),
            Some("+05:30"),
        ] {
            let tz = zone.map(|zone| Tz::from_str(zone).unwrap());
            let times: Vec<i64> = [
                "1969-12-31T23:59:59.999999Z",
                "2024-02-29T12:34:56.789012Z",
                "2024-03-31T00:59:59Z",
                "2024-03-31T01:00:00Z",
                "2024-10-27T00:30:00Z",
                "2024-10-27T01:30:00Z",
                // Midnight is left out in Brazil.
                "2018-11-04T12:00:00Z",
                "1900-01-01T00:00:01Z",
            ]
            .iter()
            .map(|text| text.parse::<DateTime<Utc>>().unwrap().timestamp_micros())
            .collect();
            let array: ArrayRef =
                Arc::new(TimestampMicrosecondArray::from(times.clone()).with_timezone_opt(zone));
            for granularity in GRANULARITIES {
                let field = |data_type: &DataType| {
                    Arc::new(arrow::datatypes::Field::new("f", data_type.clone(), true))
                };
                let args = ScalarFunctionArgs {
                    args: vec![
                        ColumnarValue::Scalar(ScalarValue::Utf8(Some(granularity.into()))),
                        ColumnarValue::Array(array.clone()),
                    ],
                    arg_fields: vec![field(&DataType::Utf8), field(array.data_type())],
                    number_rows: times.len(),
                    return_field: field(array.data_type()),
                    config_options: config.clone(),
                };
                let near = inner
                    .invoke_with_args(args)
                    .unwrap()
                    .into_array(times.len())
                    .unwrap();
                let near = near.as_primitive::<TimestampMicrosecondType>();
                for (row, time) in times.iter().enumerate() {
                    let (far, near) = (truncate(*time, tz, granularity), near.value(row));
                    let text =
                        |micros: Option<i64>| micros.and_then(DateTime::from_timestamp_micros);
                    assert_eq!(
                        text(far),
                        text(Some(near)),
                        "{granularity} of {:?} in {zone:?}",
                        text(Some(*time))
                    );
                }
            }
        }
    }
}
