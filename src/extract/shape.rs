//! A raw schema in the form in which pages are checked against it.

use arrow::datatypes::{DataType, Field, Fields};

/// Field metadata key that marks a column declared `JSON`: its text is kept exactly as sent.
pub use crate::catalog::JSON_TYPE;

/// What a value must look like to be decoded without loss.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// A string; a number or boolean becomes its text (ids are numbers in v1).
    Text,
    /// A whole number that fits 64 bits.
    Integer,
    /// A number; whole numbers only as far as a double holds them exactly.
    Float,
    /// `true` or `false`.
    Boolean,
    /// Anything: kept as text.
    Json,
    /// An object with known fields.
    Struct(Vec<FieldShape>),
    /// A list of one shape.
    List(Box<Shape>),
    /// An object with open keys and text values.
    Map,
}

/// A known field of an object.
#[derive(Debug, Clone)]
pub(super) struct FieldShape {
    pub(super) name: String,
    pub(super) shape: Shape,
    /// The source that this top-level field belongs to, where several sources share a walk.
    pub(super) owner: Option<usize>,
}

impl Shape {
    /// The shape of a raw record. `owner` tells which source a top-level field belongs to.
    pub(super) fn of_record(fields: &Fields, owner: impl Fn(&str) -> Option<usize>) -> Self {
        let mut shapes = struct_fields(fields);
        for field in &mut shapes {
            field.owner = owner(&field.name);
        }
        Self::Struct(shapes)
    }

    fn of_field(field: &Field) -> Self {
        if field.metadata().contains_key(JSON_TYPE) {
            return Self::Json;
        }
        match field.data_type() {
            DataType::Int64 => Self::Integer,
            DataType::Float64 => Self::Float,
            DataType::Boolean => Self::Boolean,
            DataType::Struct(fields) => Self::Struct(struct_fields(fields)),
            DataType::List(item) => Self::List(Box::new(Self::of_field(item))),
            DataType::Map(_, _) => Self::Map,
            // The DDL knows no other type (see `catalog::ddl`), so what is left is VARCHAR.
            _ => Self::Text,
        }
    }
}

/// The other spelling of a name that the API writes in two ways: eight of its endpoints say `ExternalIds`, all others
/// `externalIds`. A field that is declared with either takes both.
pub(super) fn other_spelling(name: &[u8]) -> Option<&'static str> {
    match name {
        b"externalIds" => Some("ExternalIds"),
        b"ExternalIds" => Some("externalIds"),
        _ => None,
    }
}

fn struct_fields(fields: &Fields) -> Vec<FieldShape> {
    fields
        .iter()
        .map(|field| FieldShape { name: field.name().clone(), shape: Shape::of_field(field), owner: None })
        .collect()
}
