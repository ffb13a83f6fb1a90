//! `h3_cell(latitude, longitude, resolution)`: the cell of the H3 grid in which a place lies.

use std::sync::Arc;

use arrow::array::{Array, AsArray, StringBuilder};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use h3o::{LatLng, Resolution};

use super::units::is_place;

/// The function. The cell is the text that H3's own library and those for BigQuery write, such as `8928308280fffff`; a
/// resolution is 0 (edges of 1,281 km on average) to 15 (0.6 m). It is NULL where there is no such place; another
/// resolution is an error, since it is a fault of the query and not of the data.
pub(super) fn h3_cell() -> ScalarUDF {
    let number = DataType::Float64;
    let types = vec![number.clone(), number, DataType::Int64];
    ScalarUDF::from(H3Cell {
        signature: Signature::exact(types, Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct H3Cell {
    signature: Signature,
}

fn resolution(number: i64) -> Option<Resolution> {
    Resolution::try_from(u8::try_from(number).ok()?).ok()
}

fn wrong(number: i64) -> String {
    format!("h3_cell takes a resolution from 0 to 15, not {number}")
}

fn cell(north: f64, east: f64, resolution: Resolution) -> Option<String> {
    let place = is_place((north, east)).then(|| LatLng::new(north, east))?;
    Some(place.ok()?.to_cell(resolution).to_string())
}

impl ScalarUDFImpl for H3Cell {
    fn name(&self) -> &'static str {
        "h3_cell"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    /// A wrong resolution is found without data, where it is written as a number.
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        if let Some(Some(ScalarValue::Int64(Some(number)))) = args.scalar_arguments.get(2)
            && resolution(*number).is_none()
        {
            return plan_err!("{}", wrong(*number));
        }
        Ok(Arc::new(Field::new(self.name(), DataType::Utf8, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [north, east, resolutions] = args.args.as_slice() else {
            return exec_err!("h3_cell takes a latitude, a longitude and a resolution");
        };
        let north = north.to_array(args.number_rows)?;
        let east = east.to_array(args.number_rows)?;
        let resolutions = resolutions.to_array(args.number_rows)?;
        let places = north.as_primitive::<Float64Type>().iter();
        let places = places.zip(east.as_primitive::<Float64Type>());
        let mut cells = StringBuilder::with_capacity(north.len(), north.len() * 15);
        for ((north, east), number) in places.zip(resolutions.as_primitive::<Int64Type>()) {
            let (Some(north), Some(east), Some(number)) = (north, east, number) else {
                cells.append_null();
                continue;
            };
            let Some(resolution) = resolution(number) else {
                return exec_err!("{}", wrong(number));
            };
            cells.append_option(cell(north, east, resolution));
        }
        Ok(ColumnarValue::Array(Arc::new(cells.finish())))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{one_line, select, session};
    use super::*;

    #[test]
    fn cells_are_those_that_are_published() {
        for (north, east, number, published) in [
            // The examples of h3-js, h3-py and of H3's command line, and corners of the globe.
            (37.3615593, -122.0553238, 7, Some("87283472bffffff")),
            (37.769377, -122.388903, 9, Some("89283082e73ffff")),
            (
                37.7752702151959,
                -122.418307270836,
                9,
                Some("8928308280fffff"),
            ),
            (40.689167, -74.044444, 10, Some("8a2a1072b59ffff")),
            (0.0, 0.0, 0, Some("8075fffffffffff")),
            (90.1, 0.0, 5, None),
            (0.0, 180.5, 5, None),
            (f64::NAN, 0.0, 5, None),
            (0.0, f64::INFINITY, 5, None),
        ] {
            let found = cell(north, east, resolution(number).unwrap());
            assert_eq!(found.as_deref(), published, "{north} {east} {number}");
        }
        // The whole globe has cells of every resolution, and the text tells which.
        for number in 0..=15 {
            for place in [(90.0, 0.0), (-90.0, 180.0), (0.0, -180.0), (-0.0, 180.0)] {
                let found = cell(place.0, place.1, resolution(number).unwrap()).unwrap();
                let digit = u8::from_str_radix(&found[1..2], 16).unwrap();
                assert_eq!((found.len(), i64::from(digit)), (15, number), "{found}");
            }
        }
        assert!(
            [-1, 16, 256, i64::MAX]
                .into_iter()
                .all(|it| resolution(it).is_none())
        );
    }

    #[tokio::test]
    async fn a_wrong_resolution_is_told() {
        let context = session::session(session::runtime(64 << 20).unwrap()).unwrap();
        let found = select(&context, "SELECT h3_cell(1.0, 2.0, 16) AS x").await;
        let error = one_line(&found.map(|_| ()).unwrap_err());
        assert!(error.contains("from 0 to 15, not 16"), "{error}");
        let frame = select(
            &context,
            "SELECT h3_cell(1.0, 2.0, n) AS x FROM (VALUES (5), (-1)) AS t(n)",
        );
        let error = frame.await.unwrap().collect().await.unwrap_err();
        assert!(
            error.to_string().contains("from 0 to 15, not -1"),
            "{error}"
        );
        for nulls in ["NULL, 2.0, 5", "1.0, NULL, 5", "1.0, 2.0, NULL"] {
            let sql = format!("SELECT h3_cell({nulls}) IS NULL AS x");
            let batches = select(&context, &sql)
                .await
                .unwrap()
                .collect()
                .await
                .unwrap();
            assert!(batches[0].column(0).as_boolean().value(0), "{nulls}");
        }
    }
}
