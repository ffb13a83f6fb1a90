//! The world's records as the API writes them: absent values are left out, integers have no fraction, times have as
//! many digits as they need.

mod assets;
mod devices;
mod events;
mod fault_codes;
mod fleet;
mod hos;
mod people;
mod places;
mod safety;
mod stats;
mod work;

pub(crate) use devices::DeviceParts;

use serde_json::{Map, Value, json};

use super::world::{ExternalIds, Named, TagRef};

/// Renders records; knows whether to add unknown fields.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wire {
    pub(crate) unknown_fields: bool,
}

/// A JSON object under construction.
#[derive(Debug, Default)]
struct Record(Map<String, Value>);

impl Record {
    fn new() -> Self {
        Self::default()
    }

    fn put(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    /// Leaves the field out when there is nothing to say.
    fn put_some(self, key: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.put(key, value),
            None => self,
        }
    }

    fn done(self) -> Value {
        Value::Object(self.0)
    }
}

impl Wire {
    /// A new kind of field on a record.
    fn strange_record(self, record: Record) -> Record {
        if !self.unknown_fields {
            return record;
        }
        record.put(
            "simulatedProfile",
            json!({ "grade": 3, "labels": ["neu", "à voir"] }),
        )
    }

    /// A new kind of field in a nested object.
    fn strange_part(self, record: Record) -> Record {
        if !self.unknown_fields {
            return record;
        }
        record.put("simulatedQuality", json!(0.75))
    }

    /// A reference to a record in another one, with its external ids under some key. Sometimes it is the other of the
    /// two spellings in use.
    fn reference(self, named: &Named, ids: Option<&ExternalIds>, ids_key: &str) -> Value {
        let ids_key = match ids_key {
            "ExternalIds" if named.id.ends_with('3') => "externalIds",
            "externalIds" if named.id.ends_with('3') => "ExternalIds",
            usual => usual,
        };
        let record = Record::new()
            .put("id", named.id.as_str())
            .put("name", named.name.as_str());
        self.strange_part(record.put_some(ids_key, external_ids(ids)))
            .done()
    }

    /// A new field next to `data`.
    pub(crate) fn strange_envelope(self, envelope: &mut Map<String, Value>) {
        if self.unknown_fields {
            envelope.insert(
                "simulatedMeta".to_owned(),
                json!({ "servedBy": "simulator" }),
            );
        }
    }
}

fn external_ids(ids: Option<&ExternalIds>) -> Option<Value> {
    ids.map(|ids| {
        ids.iter()
            .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
            .collect()
    })
}

fn tags(tags: Option<&[TagRef]>) -> Option<Value> {
    tags.map(|tags| tags.iter().map(TagRef::json).collect())
}

fn named(named: Option<&Named>) -> Option<Value> {
    named.map(Named::json)
}
