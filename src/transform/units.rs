//! Functions of numbers: conversion of the API's units, and distances on the globe.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Builder};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// Metres of an international mile.
const MILE_METRES: f64 = 1609.344;
/// Millilitres of a US liquid gallon.
const GALLON_ML: f64 = 3785.411784;
/// The Earth's mean radius (IUGG's R1), in metres.
const EARTH_METRES: f64 = 6_371_008.8;

/// A function of numbers that gives a DOUBLE; NULL if one of them is NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Formula {
    MilliCToC,
    MilliCToF,
    MlToL,
    MlToGal,
    MToKm,
    MToMi,
    MphToKmh,
    KmhToMph,
    MicroWhToKwh,
    MsToHours,
    LPer100Km,
    Mpg,
    SafeDivide,
    HaversineM,
}

/// All of them.
pub(super) fn functions() -> impl Iterator<Item = ScalarUDF> {
    use Formula::*;
    [
        MilliCToC,
        MilliCToF,
        MlToL,
        MlToGal,
        MToKm,
        MToMi,
        MphToKmh,
        KmhToMph,
        MicroWhToKwh,
        MsToHours,
        LPer100Km,
        Mpg,
        SafeDivide,
        HaversineM,
    ]
    .into_iter()
    .map(|formula| {
        let count = formula.parameters();
        ScalarUDF::from(OfNumbers {
            formula,
            signature: Signature::uniform(count, vec![DataType::Float64], Volatility::Immutable),
        })
    })
}

impl Formula {
    fn name(self) -> &'static str {
        match self {
            Self::MilliCToC => "milli_c_to_c",
            Self::MilliCToF => "milli_c_to_f",
            Self::MlToL => "ml_to_l",
            Self::MlToGal => "ml_to_gal",
            Self::MToKm => "m_to_km",
            Self::MToMi => "m_to_mi",
            Self::MphToKmh => "mph_to_kmh",
            Self::KmhToMph => "kmh_to_mph",
            Self::MicroWhToKwh => "micro_wh_to_kwh",
            Self::MsToHours => "ms_to_hours",
            Self::LPer100Km => "l_per_100km",
            Self::Mpg => "mpg",
            Self::SafeDivide => "safe_divide",
            Self::HaversineM => "haversine_m",
        }
    }

    fn parameters(self) -> usize {
        match self {
            Self::HaversineM => 4,
            Self::LPer100Km | Self::Mpg | Self::SafeDivide => 2,
            _ => 1,
        }
    }

    /// Its value; `None` is NULL.
    fn of(self, given: &[f64]) -> Option<f64> {
        Some(match (self, given) {
            (Self::MilliCToC, [x]) => x / 1e3,
            (Self::MilliCToF, [x]) => x / 1e3 * 1.8 + 32.0,
            (Self::MlToL, [x]) => x / 1e3,
            (Self::MlToGal, [x]) => x / GALLON_ML,
            (Self::MToKm, [x]) => x / 1e3,
            (Self::MToMi, [x]) => x / MILE_METRES,
            (Self::MphToKmh, [x]) => x * MILE_METRES / 1e3,
            (Self::KmhToMph, [x]) => x * 1e3 / MILE_METRES,
            (Self::MicroWhToKwh, [x]) => x / 1e9,
            (Self::MsToHours, [x]) => x / 3.6e6,
            // Litres by hundreds of kilometres.
            (Self::LPer100Km, [ml, metres]) => return ratio(ml / 1e3, metres / 1e5),
            (Self::Mpg, [metres, ml]) => return ratio(metres / MILE_METRES, ml / GALLON_ML),
            (Self::SafeDivide, [dividend, divisor]) => return ratio(*dividend, *divisor),
            (Self::HaversineM, [lat, lon, to_lat, to_lon]) => {
                return haversine_m((*lat, *lon), (*to_lat, *to_lon));
            }
            _ => return None,
        })
    }
}

/// The quotient, if there is one.
fn ratio(dividend: f64, divisor: f64) -> Option<f64> {
    (divisor != 0.0).then(|| dividend / divisor)
}

/// Whether degrees north and east are a valid position.
pub(super) fn is_place((north, east): (f64, f64)) -> bool {
    north.abs() <= 90.0 && east.abs() <= 180.0
}

/// Metres along the great circle between two positions, given in degrees north and east.
fn haversine_m(from: (f64, f64), to: (f64, f64)) -> Option<f64> {
    if !is_place(from) || !is_place(to) {
        return None;
    }
    let (north, to_north) = (from.0.to_radians(), to.0.to_radians());
    let half = |radians: f64| (radians / 2.0).sin().powi(2);
    let east = (to.1 - from.1).to_radians();
    let chord = half(to_north - north) + north.cos() * to_north.cos() * half(east);
    // Rounding may give more than 1 for positions on opposite sides.
    Some(2.0 * EARTH_METRES * chord.min(1.0).sqrt().asin())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OfNumbers {
    formula: Formula,
    signature: Signature,
}

impl ScalarUDFImpl for OfNumbers {
    fn name(&self) -> &str {
        self.formula.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns: Vec<ArrayRef> = args
            .args
            .iter()
            .map(|value| value.to_array(args.number_rows))
            .collect::<Result<_>>()?;
        let columns: Option<Vec<_>> = columns
            .iter()
            .map(|column| column.as_primitive_opt::<Float64Type>())
            .collect();
        let Some(columns) = columns else {
            return exec_err!("{} takes numbers", self.name());
        };
        let mut values = Float64Builder::with_capacity(args.number_rows);
        let mut given = Vec::with_capacity(columns.len());
        for row in 0..args.number_rows {
            given.clear();
            let present = columns.iter().filter(|column| column.is_valid(row));
            given.extend(present.map(|column| column.value(row)));
            let is_whole = given.len() == columns.len();
            values.append_option(is_whole.then(|| self.formula.of(&given)).flatten());
        }
        Ok(ColumnarValue::Array(Arc::new(values.finish())))
    }
}

#[cfg(test)]
mod tests {
    use arrow::util::display::{ArrayFormatter, FormatOptions};

    use super::super::{geofence, h3, json_text, one_line, select, session};
    use super::*;

    #[test]
    fn distances_are_those_of_a_sphere() {
        let quarter = EARTH_METRES * std::f64::consts::FRAC_PI_2;
        for (from, to, metres) in [
            ((0.0, 0.0), (0.0, 0.0), Some(0.0)),
            ((0.0, 0.0), (90.0, 17.0), Some(quarter)),
            ((0.0, -180.0), (0.0, 180.0), Some(0.0)),
            ((0.0, 179.5), (0.0, -179.5), Some(quarter / 90.0)),
            ((10.0, 20.0), (-10.0, -160.0), Some(2.0 * quarter)),
            // Berlin to Paris by the haversine formula, computed elsewhere.
            ((52.52, 13.405), (48.8566, 2.3522), Some(877_464.6)),
            ((90.1, 0.0), (0.0, 0.0), None),
            ((0.0, 0.0), (0.0, -180.5), None),
            ((f64::NAN, 0.0), (0.0, 0.0), None),
        ] {
            let found = haversine_m(from, to);
            let differs = match (found, metres) {
                (Some(found), Some(metres)) => (found - metres).abs() > 0.5,
                (found, metres) => found != metres,
            };
            assert!(!differs, "{from:?} to {to:?}: {found:?}, not {metres:?}");
        }
    }

    /// `sql/README.md` shows the functions with examples and their results.
    #[tokio::test]
    async fn documented_examples_give_their_results() {
        let readme = include_str!("../../sql/README.md");
        let (_, section) = readme.split_once("\n## Functions\n").unwrap();
        let (section, _) = section.split_once("\n## ").unwrap();
        let context = session::session(session::runtime(64 << 20).unwrap()).unwrap();
        let mut documented = String::new();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
        for row in rows {
            let (example, rest) = row.split_once("` | `").unwrap();
            let (expected, _) = rest.split_once('`').unwrap();
            documented += example;
            let frame = select(&context, &format!("SELECT {example} AS x")).await;
            let frame = frame.unwrap_or_else(|error| panic!("{example}: {}", one_line(&error)));
            let batches = frame.collect().await;
            let batches = batches.unwrap_or_else(|error| panic!("{example}: {error}"));
            let options = FormatOptions::default().with_null("NULL");
            let formatter = ArrayFormatter::try_new(batches[0].column(0), &options).unwrap();
            assert_eq!(formatter.value(0).to_string(), expected, "{example}");
        }
        let places = [geofence::in_polygon(), h3::h3_cell()];
        for function in functions().chain(json_text::json_functions()).chain(places) {
            let call = format!("{}(", function.name());
            assert!(documented.contains(&call), "{call}…) has no example");
        }
    }
}
