//! A raw schema in the form in which pages are checked against it.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Field, Fields};

use crate::catalog::{TimeField, TimeStep};

/// Field metadata key that marks a column declared `JSON`: its text is kept exactly as sent.
pub use crate::catalog::JSON_TYPE;

/// Objects with more fields than this are searched by hash.
const FEW_FIELDS: usize = 16;

/// How a value must look to be decoded without loss.
#[derive(Debug, Clone)]
pub(super) enum RawType {
    /// A string; a number or boolean becomes its text (ids are numbers in v1).
    Text,
    /// A whole number that fits 64 bits.
    Integer,
    /// A number that a double holds (see [`super::number::is_double`]).
    Float,
    /// `true` or `false`.
    Boolean,
    /// Anything: kept as text.
    Json,
    /// An object with known fields.
    Struct(StructShape),
    /// A list of one shape.
    List(ListShape),
    /// An object with open keys and text values.
    Map,
}

/// An object with known fields.
#[derive(Debug, Clone)]
pub(super) struct StructShape {
    pub(super) fields: Vec<RawField>,
    /// By name, where they are many.
    index: HashMap<String, usize>,
    /// The position of its fields among all fields of the record, including nested ones.
    pub(super) first: usize,
}

/// A list of one shape.
#[derive(Debug, Clone)]
pub(super) struct ListShape {
    pub(super) item: Box<RawType>,
    /// Tells the lists of a record apart.
    pub(super) id: usize,
}

/// A known field of an object.
#[derive(Debug, Clone)]
pub(super) struct RawField {
    pub(super) name: String,
    pub(super) key: Key,
    pub(super) shape: RawType,
}

/// `"name":`, and its first and last eight bytes for comparison.
#[derive(Debug, Clone)]
pub(super) struct Key {
    text: Box<[u8]>,
    first: u64,
    mask: u64,
    last: u64,
}

impl Key {
    pub(super) fn new(name: &[u8]) -> Self {
        let text = [b"\"", name, b"\":"].concat();
        let word = |bytes: &[u8]| {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(word)
        };
        let length = text.len();
        let mask = if length < 8 {
            (1 << (8 * length)) - 1
        } else {
            u64::MAX
        };
        Self {
            first: word(&text[..length.min(8)]),
            mask,
            last: word(&text[length.saturating_sub(8)..]),
            text: text.into(),
        }
    }

    /// In bytes.
    #[inline]
    pub(super) fn length(&self) -> usize {
        self.text.len()
    }

    /// Whether the text begins with it.
    #[inline]
    pub(super) fn begins(&self, rest: &[u8]) -> bool {
        let length = self.text.len();
        let Some(first) = rest.first_chunk::<8>() else {
            return rest.starts_with(&self.text);
        };
        if (u64::from_le_bytes(*first) ^ self.first) & self.mask != 0 {
            return false;
        }
        if length <= 8 {
            return true;
        }
        let Some(last) = rest.get(length - 8..).and_then(<[u8]>::first_chunk::<8>) else {
            return false;
        };
        u64::from_le_bytes(*last) == self.last && (length <= 16 || rest.starts_with(&self.text))
    }
}

/// Counters for building the type of a record.
#[derive(Default)]
struct Counts {
    fields: usize,
    lists: usize,
}

/// The other spelling of a name that the API writes in two ways: eight of its endpoints use `ExternalIds`, all others
/// `externalIds`. A field that is declared with either accepts both.
pub(super) fn other_spelling(name: &str) -> Option<&'static str> {
    match name {
        "externalIds" => Some("ExternalIds"),
        "ExternalIds" => Some("externalIds"),
        _ => None,
    }
}

impl StructShape {
    /// The shape of a raw record.
    pub(super) fn of_record(fields: &Fields) -> Self {
        Self::of_fields(fields, &mut Counts::default())
    }

    fn of_fields(fields: &Fields, counts: &mut Counts) -> Self {
        let first = counts.fields;
        counts.fields += fields.len();
        let shapes: Vec<RawField> = fields
            .iter()
            .map(|field| RawField {
                name: field.name().clone(),
                key: Key::new(field.name().as_bytes()),
                shape: RawType::of_field(field, counts),
            })
            .collect();
        let mut index = HashMap::new();
        if shapes.len() > FEW_FIELDS {
            index = shapes
                .iter()
                .enumerate()
                .map(|(index, field)| (field.name.clone(), index))
                .collect();
        }
        Self {
            fields: shapes,
            index,
            first,
        }
    }

    /// The field of this name, or of its other spelling.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.find_exactly(name)
            .or_else(|| self.find_exactly(other_spelling(name)?))
    }

    fn find_exactly(&self, name: &str) -> Option<usize> {
        if self.fields.len() > FEW_FIELDS {
            return self.index.get(name).copied();
        }
        self.fields.iter().position(|field| field.name == name)
    }

    /// The number of fields of a record, including nested ones.
    pub(super) fn count(&self) -> usize {
        let inside = self
            .fields
            .iter()
            .map(|field| field.shape.last())
            .max()
            .unwrap_or_default();
        inside.max(self.first + self.fields.len())
    }

    /// The lists whose items have a time of their own, in the order of their columns.
    pub(super) fn timed_lists(&self, field: &TimeField) -> Vec<usize> {
        let mut lists = Vec::new();
        self.collect_timed(field.steps(), &mut lists);
        lists
    }

    fn collect_timed(&self, steps: &[TimeStep], lists: &mut Vec<usize>) {
        let Some((step, rest)) = steps.split_first() else {
            return;
        };
        for field in &self.fields {
            let is_meant = match step {
                TimeStep::Field(name) => field.name == *name,
                TimeStep::EveryField => true,
                TimeStep::Items => false,
            };
            match (&field.shape, rest.first()) {
                (RawType::List(list), Some(TimeStep::Items)) if is_meant => lists.push(list.id),
                (RawType::Struct(inside), Some(_)) if is_meant => inside.collect_timed(rest, lists),
                _ => {}
            }
        }
    }
}

impl RawType {
    fn of_field(field: &Field, counts: &mut Counts) -> Self {
        if field.metadata().contains_key(JSON_TYPE) {
            return Self::Json;
        }
        match field.data_type() {
            DataType::Int64 => Self::Integer,
            DataType::Float64 => Self::Float,
            DataType::Boolean => Self::Boolean,
            DataType::Struct(fields) => Self::Struct(StructShape::of_fields(fields, counts)),
            DataType::List(item) => {
                let id = counts.lists;
                counts.lists += 1;
                Self::List(ListShape {
                    item: Box::new(Self::of_field(item, counts)),
                    id,
                })
            }
            DataType::Map(_, _) => Self::Map,
            // The DDL knows no other type (see `catalog::ddl`), so what is left is VARCHAR.
            _ => Self::Text,
        }
    }

    /// The field after the last one inside.
    fn last(&self) -> usize {
        match self {
            Self::Struct(inside) => inside.count(),
            Self::List(list) => list.item.last(),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    #[test]
    fn lists_with_times_are_those_that_the_path_leads_to() {
        let catalog = Catalog::open(None).unwrap();
        for (source, expected) in [
            ("fleet_vehicle_stats_gps", 1),
            ("fleet_trips", 0),
            ("fleet_assets_reefers", 10),
        ] {
            let source = catalog.source(source).unwrap();
            let shape = StructShape::of_record(&source.fields);
            let lists = shape.timed_lists(source.time_field.as_ref().unwrap());
            let declared = match source
                .fields
                .find("reeferStats")
                .map(|(_, field)| field.data_type())
            {
                Some(DataType::Struct(fields)) => fields.len(),
                _ => expected,
            };
            assert_eq!(lists.len(), declared, "{}", source.name);
        }
    }

    #[test]
    fn a_key_begins_a_text_or_it_does_not() {
        for length in 0..40 {
            let name = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnop".as_bytes()[..length].to_vec();
            let (key, text) = (Key::new(&name), [b"\"", &name[..], b"\":"].concat());
            assert_eq!(key.length(), text.len());
            for behind in ["", "1", "\"2024-01-01T00:00:00Z\"}"] {
                let text = [&text[..], behind.as_bytes()].concat();
                assert!(key.begins(&text));
                // With any other byte, or none, it is another text.
                for at in 0..key.length() {
                    let mut other = text.clone();
                    other[at] ^= 1;
                    assert!(
                        !key.begins(&other) && !key.begins(&text[..at]),
                        "{length} {at}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_field_has_a_number_of_its_own() {
        let fields = |names: std::ops::Range<usize>, inner: &DataType| -> Fields {
            names
                .map(|name| Field::new(format!("f{name}"), inner.clone(), true))
                .collect()
        };
        let inner = DataType::Struct(fields(0..3, &DataType::Utf8));
        let list = DataType::List(std::sync::Arc::new(Field::new("item", inner, true)));
        let shape = StructShape::of_record(&fields(0..300, &list));
        assert_eq!(shape.count(), 300 + 300 * 3);
        assert_eq!(shape.find("f299"), Some(299));
        assert_eq!(shape.find("f300"), None);
        let mut firsts = std::collections::HashSet::from([shape.first]);
        for field in &shape.fields {
            let RawType::List(ListShape { item, .. }) = &field.shape else {
                panic!("a list")
            };
            let RawType::Struct(inside) = &**item else {
                panic!("of objects")
            };
            assert!(firsts.insert(inside.first) && inside.first >= 300);
        }
    }
}
