//! `local_time(time, zone)`: the local time in a time zone that may differ from row to row.

use std::str::FromStr;
use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{Array, AsArray, TimestampMicrosecondBuilder};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, TimeZone};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::session::TIME_ZONE;

/// The function. `AT TIME ZONE` takes one zone for all rows; here it is a column, such as a driver's home terminal's. It
/// gives a TIMESTAMP without a zone; NULL if there is no such zone.
pub(super) fn local_time() -> ScalarUDF {
    ScalarUDF::from(LocalTime {
        signature: Signature::user_defined(Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct LocalTime {
    signature: Signature,
}

impl ScalarUDFImpl for LocalTime {
    fn name(&self) -> &'static str {
        "local_time"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let instant = DataType::Timestamp(TimeUnit::Microsecond, Some(TIME_ZONE.into()));
        let is_text = |given: &DataType| given.is_string() || given.is_null();
        match types {
            [DataType::Timestamp(_, Some(_)) | DataType::Null, zone] if is_text(zone) => {
                Ok(vec![instant, DataType::Utf8])
            }
            [time, zone] => plan_err!(
                "local_time takes an instant (samsara_time(…)) and the name of a time zone, not {time} and {zone}"
            ),
            _ => plan_err!("local_time takes an instant and the name of a time zone"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Timestamp(TimeUnit::Microsecond, None))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [times, zones] = args.args.as_slice() else {
            return exec_err!("{} takes an instant and a time zone", self.name());
        };
        let times = times.to_array(args.number_rows)?;
        let zones = zones.to_array(args.number_rows)?;
        let rows = times.as_primitive::<TimestampMicrosecondType>().iter();
        let rows = rows.zip(zones.as_string::<i32>());
        let mut values = TimestampMicrosecondBuilder::with_capacity(times.len());
        let mut known: Option<(&str, Option<Tz>)> = None;
        for (time, name) in rows {
            let local = time.zip(name).and_then(|(time, name)| {
                let zone = match known {
                    Some((of, zone)) if of == name => zone,
                    _ => {
                        let zone = Tz::from_str(name).ok();
                        known = Some((name, zone));
                        zone
                    }
                };
                local_micros(time, &zone?)
            });
            values.append_option(local);
        }
        Ok(ColumnarValue::Array(Arc::new(values.finish())))
    }
}

/// Microseconds since 1970 by the clocks of a zone.
fn local_micros(time: i64, zone: &Tz) -> Option<i64> {
    let instant = DateTime::from_timestamp_micros(time)?.naive_utc();
    let local = zone.from_utc_datetime(&instant).naive_local();
    Some(local.and_utc().timestamp_micros())
}
