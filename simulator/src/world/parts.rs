//! Small values that several kinds of record carry.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::draw::Draw;
use super::vehicles::Gateway;
use super::vocabulary::ATTRIBUTES;

/// External ids: a map open to any key.
pub(crate) type ExternalIds = BTreeMap<String, String>;

/// External ids of a trailer or a piece of equipment: like those of vehicles, with fewer keys.
pub(crate) fn asset_ids(
    gateway: Option<&Gateway>,
    vin: Option<&String>,
    draw: &mut Draw,
) -> Option<ExternalIds> {
    let mut ids = ExternalIds::new();
    if let Some(gateway) = gateway {
        ids.insert("samsara.serial".to_owned(), gateway.serial.clone());
    }
    if let Some(vin) = vin.filter(|_| draw.chance(0.6)) {
        ids.insert("samsara.vin".to_owned(), vin.clone());
    }
    if draw.chance(0.3) {
        ids.insert(
            "n°.parc".to_owned(),
            format!("R-{}", draw.between(100, 999)),
        );
    }
    // The map is left out as often as it is sent empty.
    (!ids.is_empty() || draw.chance(0.5)).then_some(ids)
}

/// A record named by another one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Named {
    pub(crate) id: String,
    pub(crate) name: String,
}

impl Named {
    pub(crate) fn new(id: u64, name: &str) -> Self {
        Self {
            id: id.to_string(),
            name: name.to_owned(),
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "id": self.id, "name": self.name })
    }
}

/// A tag named by what carries it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TagRef {
    pub(crate) tag: Named,
    pub(crate) parent: Option<String>,
}

impl TagRef {
    pub(crate) fn json(&self) -> Value {
        let mut json = self.tag.json();
        if let Some(parent) = &self.parent {
            json["parentTagId"] = parent.as_str().into();
        }
        json
    }
}

/// A custom attribute with values of one type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Attribute {
    pub(crate) id: String,
    pub(crate) name: &'static str,
    pub(crate) values: AttributeValues,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AttributeValues {
    Strings(Vec<String>),
    Numbers(Vec<f64>),
    Dates(Vec<String>),
}

impl Attribute {
    pub(crate) fn json(&self) -> Value {
        let (key, values) = match &self.values {
            AttributeValues::Strings(texts) => ("stringValues", Value::from(texts.as_slice())),
            AttributeValues::Numbers(numbers) => {
                ("numberValues", numbers.iter().map(|n| number(*n)).collect())
            }
            AttributeValues::Dates(dates) => ("dateValues", Value::from(dates.as_slice())),
        };
        json!({ "id": self.id, "name": self.name, key: values })
    }

    /// Zero to three different attributes.
    pub(crate) fn draw(draw: &mut Draw) -> Vec<Self> {
        let mut attributes = Vec::new();
        for (index, name) in (0u64..).zip(ATTRIBUTES.iter().copied()) {
            if !draw.chance(0.3) {
                continue;
            }
            let values = match index {
                1 => AttributeValues::Numbers(vec![
                    draw.decimal(1.0, 26.0, 0),
                    draw.decimal(1.0, 26.0, 1),
                ]),
                2 => AttributeValues::Dates(vec![format!(
                    "{}-0{}-17",
                    draw.between(2026, 2031),
                    draw.between(1, 9)
                )]),
                _ => AttributeValues::Strings(vec![
                    format!("CC-{}", draw.between(100, 140)),
                    "été \"2\"".to_owned(),
                ]),
            };
            attributes.push(Self {
                id: (494_000 + index).to_string(),
                name,
                values,
            });
        }
        attributes
    }
}

/// A JSON number as the API writes it: integers have no fraction, whatever the field's type.
pub(crate) fn number(value: f64) -> Value {
    // Below 2^53 every whole double is an exact integer.
    if value.fract() == 0.0 && value.abs() < 9e15 {
        Value::from(value as i64)
    } else {
        Value::from(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_lose_their_fraction() {
        assert_eq!(number(3.0).to_string(), "3");
        assert_eq!(number(-3.25).to_string(), "-3.25");
    }

    #[test]
    fn a_tag_without_parent_does_not_name_one() {
        let tag = TagRef {
            tag: Named::new(3, "Süd"),
            parent: None,
        };
        assert_eq!(tag.json(), json!({ "id": "3", "name": "Süd" }));
    }
}
