//! Documents that drivers fill in, and the forms they are made from.

use serde_json::{Value, json};

use super::World;
use super::draw::Draw;
use super::drivers::Driver;
use super::parts::{ExternalIds, Named, number};
use super::vehicles::Vehicle;
use crate::time::{DAY, HOUR, MINUTE, Millis, SECOND, day_of, day_start, wire_time};

/// Documents change for no longer than this.
const OPEN_FOR: Millis = 6 * DAY;

/// Names of the forms, and the fields on each.
const FORMS: &[(&str, &[Field])] = &[
    (
        "Bon de livraison",
        &[
            Field::Choice,
            Field::Text,
            Field::Number,
            Field::Signature,
            Field::Photo,
        ],
    ),
    ("Tankbeleg", &[Field::Number, Field::Moment, Field::Scan]),
    (
        "Proof of delivery",
        &[Field::Text, Field::Barcode, Field::Photo],
    ),
    ("Rapport d'incident", &[]),
];

/// A kind of field.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Field {
    Choice,
    Text,
    Number,
    Moment,
    Photo,
    Scan,
    Signature,
    Barcode,
}

impl Field {
    fn name(self) -> (&'static str, &'static str) {
        match self {
            Field::Choice => ("multipleChoice", "Endommagé ?"),
            Field::Text => ("string", "Empfänger"),
            Field::Number => ("number", "Litres / palettes"),
            Field::Moment => ("dateTime", "When"),
            Field::Photo => ("photo", "Photo"),
            Field::Scan => ("scannedDocument", "Scan"),
            Field::Signature => ("signature", "Signature"),
            Field::Barcode => ("barcode", "Code"),
        }
    }

    /// The field on a form.
    fn blank(self, draw: &mut Draw) -> Value {
        let (kind, label) = self.name();
        let mut field =
            json!({ "fieldType": kind, "label": label, "requiredField": draw.chance(0.5) });
        match self {
            Field::Choice => {
                field["multipleChoiceFieldTypeMetaData"] =
                    json!([{ "label": "Oui" }, { "label": "Non" }]);
            }
            Field::Number => {
                field["numberFieldTypeMetaData"] = json!({ "numberOfDecimalPlaces": 2 })
            }
            Field::Signature => {
                field["signatureFieldTypeMetaData"] = json!({ "legalText": "Reçu en bon état." })
            }
            _ => {}
        }
        field
    }

    /// The field as a driver filled it in.
    fn filled(self, at: Millis, draw: &mut Draw) -> Value {
        let (kind, label) = self.name();
        let media = |draw: &mut Draw| {
            let id = draw.uuid();
            json!({ "id": id, "url": format!("https://media.example.com/{id}") })
        };
        let value = match self {
            Field::Choice => {
                let yes = draw.chance(0.5);
                json!({ "multipleChoiceValue": [
                    { "value": "Oui", "selected": yes },
                    { "value": "Non", "selected": !yes },
                ]})
            }
            Field::Text => {
                json!({ "stringValue": draw.word(&["", "Quai 4 – M. \"Le Gall\"", "J. Doe"]) })
            }
            Field::Number => {
                let decimals = if draw.chance(0.5) { 0 } else { 2 };
                json!({ "numberValue": number(draw.decimal(1.0, 900.0, decimals)) })
            }
            Field::Moment => {
                json!({ "dateTimeValue": { "dateTime": wire_time(at / SECOND * SECOND) } })
            }
            Field::Photo => {
                let photos: Vec<Value> = (0..draw.below(3)).map(|_| media(draw)).collect();
                json!({ "photoValue": photos })
            }
            Field::Scan => json!({ "scannedDocumentValue": [media(draw)] }),
            Field::Signature => {
                let mut signature = media(draw);
                signature["name"] = "M. Le Gall".into();
                signature["signedAtTime"] = wire_time(at).into();
                json!({ "signatureValue": signature })
            }
            Field::Barcode => {
                json!({ "barcodeValue": [{ "barcodeType": "ean8", "barcodeValue": draw.code("0123456789", 8) }] })
            }
        };
        json!({ "label": label, "type": kind, "value": value })
    }
}

/// A form. The parts that stay JSON in the tables are JSON here.
#[derive(Debug, Clone)]
pub(crate) struct DocumentType {
    pub(crate) id: String,
    pub(crate) name: &'static str,
    /// The organisation.
    pub(crate) organisation: i64,
    pub(crate) fields: Option<Value>,
    pub(crate) sections: Option<Value>,
    form: &'static [Field],
}

impl DocumentType {
    pub(crate) fn all(seed: u64) -> Vec<Self> {
        let forms = (0u64..).zip(FORMS);
        forms
            .map(|(index, &(name, form))| {
                let mut draw = Draw::new(seed, "document type", &[index]);
                let fields: Vec<Value> = form.iter().map(|field| field.blank(&mut draw)).collect();
                Self {
                    id: draw.uuid(),
                    name,
                    organisation: 61,
                    fields: (!fields.is_empty()).then(|| fields.into()),
                    sections: (form.first() == Some(&Field::Choice)).then(sections),
                    form,
                }
            })
            .collect()
    }
}

/// Which further fields an answer brings up.
fn sections() -> Value {
    json!([{
        "triggeringFieldIndex": 0,
        "triggeringFieldValue": "Oui",
        "conditionalFieldFirstIndex": 1,
        "conditionalFieldLastIndex": 2,
    }])
}

/// A document as it looks at the world's present time.
#[derive(Debug, Clone)]
pub(crate) struct Document<'a> {
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    pub(crate) notes: Option<&'static str>,
    pub(crate) state: &'static str,
    pub(crate) created: Millis,
    pub(crate) updated: Option<Millis>,
    pub(crate) form: &'a DocumentType,
    pub(crate) driver: &'a Driver,
    pub(crate) vehicle: Option<&'a Vehicle>,
    pub(crate) route: Option<(Named, Option<ExternalIds>)>,
    pub(crate) stop: Option<(Named, Option<ExternalIds>)>,
    pub(crate) fields: Value,
    pub(crate) sections: Option<Value>,
}

/// A route or a stop of one.
fn route(first: u64, name: &str, draw: &mut Draw) -> (Named, Option<ExternalIds>) {
    let id = first + draw.below(9_000);
    let ids = draw
        .chance(0.5)
        .then(|| ExternalIds::from([("tms.id".to_owned(), format!("L-{id}"))]));
    (Named::new(id, name), ids)
}

impl World {
    /// The documents created on a day that the server has by now, oldest first.
    pub(crate) fn documents(&self, day: i64) -> Vec<Document<'_>> {
        let now = self.clock.now();
        let mut draw = Draw::new(self.seed, "documents", &[day as u64]);
        let count = draw.between(0, 3 + self.vehicles.len() as i64 / 5);
        let slot = DAY / count.max(1);
        let mut documents = Vec::new();
        for index in 0..count {
            let offset = draw.between(0, slot - 1);
            let created = day_start(day)
                + index * slot
                + if draw.chance(0.5) {
                    offset / SECOND * SECOND
                } else {
                    offset
                };
            // Some are uploaded hours later.
            let uploaded = if draw.chance(0.1) {
                created + draw.between(HOUR, DAY)
            } else {
                created
            };
            let document = self.document(created, now, &mut draw);
            let arrived = self
                .clock
                .arrival(created, uploaded)
                .is_some_and(|arrival| arrival <= now);
            if self.span.contains(&created) && arrived {
                documents.extend(document);
            }
        }
        documents
    }

    fn document(&self, created: Millis, now: Millis, draw: &mut Draw) -> Option<Document<'_>> {
        let form = draw.pick(&self.document_types)?;
        let driver = draw.pick(&self.drivers)?;
        let submitted = created + draw.between(MINUTE, 30 * HOUR);
        let archived = submitted + draw.between(HOUR, 4 * DAY);
        debug_assert!(archived - created < OPEN_FOR);
        let filed = draw.chance(0.3);
        let id = draw.uuid();
        let fields: Vec<Value> = form
            .form
            .iter()
            .map(|field| field.filled(submitted, draw))
            .collect();
        let (state, changed) = match () {
            () if filed && archived <= now => ("archived", Some(archived)),
            () if submitted <= now => ("submitted", Some(submitted)),
            () => ("required", None),
        };
        Some(Document {
            name: draw
                .chance(0.9)
                .then(|| format!("{} {}", form.name, draw.between(1_000, 9_999))),
            notes: draw
                .chance(0.5)
                .then(|| draw.word(&["", "Manque 1 colis", "Karton offen ✔"])),
            state,
            created,
            updated: if draw.chance(0.8) {
                Some(changed.unwrap_or(created))
            } else {
                changed
            },
            form,
            driver,
            vehicle: draw.pick(&self.vehicles).filter(|_| draw.chance(0.8)),
            route: draw.chance(0.5).then(|| route(4_319_000, "LYO–KLN", draw)),
            stop: draw
                .chance(0.4)
                .then(|| route(4_439_000, "Quai \"Est\"", draw)),
            fields: if state == "required" {
                Value::Array(Vec::new())
            } else {
                fields.into()
            },
            sections: form.sections.clone(),
            id,
        })
    }

    /// The documents last changed on a day, in the order of their changes.
    pub(crate) fn documents_changed(&self, day: i64) -> Vec<Document<'_>> {
        let created = day_of(day_start(day) - OPEN_FOR)..=day;
        let mut documents: Vec<Document<'_>> = created
            .flat_map(|day| self.documents(day))
            .filter(|document| day_of(document.changed()) == day)
            .collect();
        documents.sort_by_key(Document::changed);
        documents
    }
}

impl Document<'_> {
    /// When it was last changed, or else made.
    pub(crate) fn changed(&self) -> Millis {
        self.updated.unwrap_or(self.created)
    }
}
