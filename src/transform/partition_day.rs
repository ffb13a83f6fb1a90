//! `partition_day()`: the day of the partition that is derived, for models that read several days.

use arrow::datatypes::{DataType, Date32Type};
use chrono::NaiveDate;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::catalog::Model;

const NAME: &str = "partition_day";

/// The function, for a partition of this day; NULL for a list.
pub(super) fn partition_day(day: Option<NaiveDate>) -> ScalarUDF {
    ScalarUDF::from(PartitionDay {
        day,
        signature: Signature::nullary(Volatility::Stable),
    })
}

/// The day that it gives; none for other functions.
#[cfg(feature = "ballista")]
pub(super) fn day_of(function: &ScalarUDF) -> Option<Option<NaiveDate>> {
    let own = function.inner().downcast_ref::<PartitionDay>();
    own.map(|own| own.day)
}

/// Whether a model may call it.
pub(super) fn is_used(model: &Model) -> bool {
    model.sql.to_lowercase().contains(NAME)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct PartitionDay {
    day: Option<NaiveDate>,
    signature: Signature,
}

impl ScalarUDFImpl for PartitionDay {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Date32)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let days = self.day.map(Date32Type::from_naive_date);
        Ok(ColumnarValue::Scalar(ScalarValue::Date32(days)))
    }
}
