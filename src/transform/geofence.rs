//! `in_polygon(latitude, longitude, vertices)`: whether a position is inside a geofence.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanBuilder};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use serde::Deserialize;

use super::units::is_place;

/// The function. `vertices` is JSON text as the API sends it for a polygon: `[{"latitude": …, "longitude": …}, …]`, at
/// least three. The last vertex is joined to the first; positions on the border are inside. NULL without such vertices
/// or a valid position.
pub(super) fn in_polygon() -> ScalarUDF {
    let number = DataType::Float64;
    let types = vec![number.clone(), number, DataType::Utf8];
    ScalarUDF::from(InPolygon {
        signature: Signature::exact(types, Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct InPolygon {
    signature: Signature,
}

/// A vertex, in degrees. Other members of its object are ignored.
#[derive(Deserialize)]
struct Vertex {
    latitude: f64,
    longitude: f64,
}

/// A polygon whose longitudes continue across the 180th meridian.
struct Polygon {
    /// Degrees north and east.
    vertices: Vec<(f64, f64)>,
}

impl Polygon {
    fn parse(text: &str) -> Option<Self> {
        let given: Vec<Vertex> = serde_json::from_str(text).ok()?;
        let mut vertices: Vec<(f64, f64)> = Vec::with_capacity(given.len());
        for vertex in given {
            let (north, mut east) = (vertex.latitude, vertex.longitude);
            if !is_place((north, east)) {
                return None;
            }
            // Between two vertices, the border takes the shorter way around the globe.
            if let Some((_, before)) = vertices.last() {
                east += ((before - east) / 360.0).round() * 360.0;
            }
            vertices.push((north, east));
        }
        (vertices.len() >= 3).then_some(Self { vertices })
    }

    fn contains(&self, north: f64, east: f64) -> bool {
        [-360.0, 0.0, 360.0]
            .iter()
            .any(|turn| self.contains_here(north, east + turn))
    }

    /// Counts the borders to the east: the position is inside if their number is odd.
    fn contains_here(&self, north: f64, east: f64) -> bool {
        let mut is_inside = false;
        let next = self.vertices.iter().cycle().skip(1);
        for (a, b) in self.vertices.iter().zip(next) {
            let side = (b.1 - a.1) * (north - a.0) - (b.0 - a.0) * (east - a.1);
            let is_between =
                |x: f64, one: f64, other: f64| x >= one.min(other) && x <= one.max(other);
            if side == 0.0 && is_between(north, a.0, b.0) && is_between(east, a.1, b.1) {
                return true;
            }
            // The border runs north-south through the position.
            let is_past = (a.0 > north) != (b.0 > north);
            if is_past && (side > 0.0) == (b.0 > a.0) && side != 0.0 {
                is_inside = !is_inside;
            }
        }
        is_inside
    }
}

impl ScalarUDFImpl for InPolygon {
    fn name(&self) -> &'static str {
        "in_polygon"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [north, east, vertices] = args.args.as_slice() else {
            return exec_err!("{} takes a latitude, a longitude and vertices", self.name());
        };
        let north = north.to_array(args.number_rows)?;
        let east = east.to_array(args.number_rows)?;
        let vertices = vertices.to_array(args.number_rows)?;
        let places = north.as_primitive::<Float64Type>().iter();
        let places = places.zip(east.as_primitive::<Float64Type>());
        let mut values = BooleanBuilder::with_capacity(vertices.len());
        // Many successive rows have the same polygon.
        let mut known: Option<(&str, Option<Polygon>)> = None;
        for ((north, east), text) in places.zip(vertices.as_string::<i32>()) {
            let (Some(north), Some(east), Some(text)) = (north, east, text) else {
                values.append_null();
                continue;
            };
            let is_known = known.as_ref().is_some_and(|(of, _)| *of == text);
            if !is_known {
                known = Some((text, Polygon::parse(text)));
            }
            let polygon = known.as_ref().and_then(|(_, polygon)| polygon.as_ref());
            let polygon = polygon.filter(|_| is_place((north, east)));
            values.append_option(polygon.map(|polygon| polygon.contains(north, east)));
        }
        Ok(ColumnarValue::Array(Arc::new(values.finish())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn polygon(vertices: &[(f64, f64)]) -> Option<Polygon> {
        let vertices = vertices.iter().map(
            |(north, east)| serde_json::json!({"latitude": north, "longitude": east, "more": 1}),
        );
        Polygon::parse(&serde_json::Value::from_iter(vertices).to_string())
    }

    #[test]
    fn a_place_is_inside_a_polygon_or_not() {
        let square = [(0.0, 0.0), (0.0, 2.0), (2.0, 2.0), (2.0, 0.0)];
        // A U, open to the north.
        let hollow = [
            (0.0, 0.0),
            (0.0, 3.0),
            (3.0, 3.0),
            (3.0, 2.0),
            (1.0, 2.0),
            (1.0, 1.0),
            (3.0, 1.0),
            (3.0, 0.0),
        ];
        let fiji = [
            (-17.0, 179.0),
            (-17.0, -179.0),
            (-18.0, -179.0),
            (-18.0, 179.0),
        ];
        for (vertices, north, east, expected) in [
            (&square[..], 1.0, 1.0, true),
            (&square, 1.0, 2.1, false),
            (&square, 1.0, -0.1, false),
            (&square, 2.1, 1.0, false),
            // On its border, and at a corner.
            (&square, 1.0, 0.0, true),
            (&square, 2.0, 2.0, true),
            (&square, 0.0, 2.1, false),
            (&square, 2.0, -1.0, false),
            (&hollow, 2.0, 0.5, true),
            (&hollow, 2.0, 1.5, false),
            (&hollow, 2.0, 2.5, true),
            (&hollow, 0.5, 1.5, true),
            (&hollow, 3.0, 1.5, false),
            (&hollow, 1.0, -1.0, false),
            (&fiji, -17.5, 179.5, true),
            (&fiji, -17.5, -179.5, true),
            (&fiji, -17.5, 180.0, true),
            (&fiji, -17.5, 0.0, false),
            (&fiji, -17.5, -178.5, false),
        ] {
            let mut turned = vertices.to_vec();
            for _ in 0..turned.len() {
                turned.rotate_left(1);
                for _ in 0..2 {
                    turned.reverse();
                    let found = polygon(&turned).unwrap().contains(north, east);
                    assert_eq!(found, expected, "{north}, {east} in {turned:?}");
                }
            }
        }
        assert!(polygon(&square[..2]).is_none() && polygon(&[(91.0, 0.0); 3]).is_none());
        for broken in ["", "[]", "null", "{}", "[1,2,3]", r#"[{"latitude":1}]"#] {
            assert!(Polygon::parse(broken).is_none(), "{broken}");
        }
    }
}
