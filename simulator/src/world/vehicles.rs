//! Vehicles.

use serde_json::{Value, json};

use super::draw::Draw;
use super::drivers;
use super::parts::{Attribute, ExternalIds, Named, TagRef};
use super::tags::Tag;
use super::vocabulary::{AUXILIARY_INPUTS, GATEWAYS, HARSH_SETTINGS, MODELS};
use crate::time::{DAY, Millis};

/// What moves a vehicle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Energy {
    Fuel,
    Hybrid,
    Electric,
}

impl Energy {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Energy::Fuel => "fuel",
            Energy::Hybrid => "hybrid",
            Energy::Electric => "electric",
        }
    }
}

/// The diagnostic bus of a vehicle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bus {
    J1939,
    ObdII,
}

/// The device that reports for a vehicle.
#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    /// Ten characters, without dashes.
    pub(crate) serial: String,
    pub(crate) model: &'static str,
}

impl Gateway {
    pub(super) fn draw(draw: &mut Draw, models: &[&'static str]) -> Self {
        Self {
            serial: format!("G{}", draw.code(LETTERS, 9)),
            model: draw.word(models),
        }
    }

    /// The serial in the gateway's own format: in three groups.
    pub(crate) fn dashed_serial(&self) -> String {
        match (
            self.serial.get(..4),
            self.serial.get(4..7),
            self.serial.get(7..),
        ) {
            (Some(a), Some(b), Some(c)) => format!("{a}-{b}-{c}"),
            _ => self.serial.clone(),
        }
    }
}

/// A sensor mounted on a vehicle.
#[derive(Debug, Clone)]
pub(crate) struct Sensor {
    pub(crate) sensor: Named,
    pub(crate) mac: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Vehicle {
    /// Position in the fleet; the key of everything that is drawn for the vehicle.
    pub(crate) index: u64,
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) energy: Energy,
    pub(crate) bus: Bus,
    /// A vehicle without gateway reports nothing and has few fields.
    pub(crate) gateway: Option<Gateway>,
    pub(crate) vin: Option<String>,
    pub(crate) make: Option<&'static str>,
    pub(crate) model: Option<&'static str>,
    pub(crate) kind: Option<&'static str>,
    pub(crate) year: Option<i64>,
    pub(crate) license_plate: Option<String>,
    pub(crate) notes: &'static str,
    pub(crate) esn: Option<String>,
    pub(crate) camera_serial: Option<String>,
    pub(crate) regulation_mode: Option<&'static str>,
    pub(crate) harsh_setting: &'static str,
    pub(crate) privacy_button: Option<bool>,
    pub(crate) weight_kg: Option<i64>,
    /// Number (1 to 13) and use of the wired auxiliary inputs.
    pub(crate) auxiliary_inputs: Vec<(u64, &'static str)>,
    pub(crate) driver: Option<Named>,
    pub(crate) tags: Option<Vec<TagRef>>,
    pub(crate) attributes: Option<Vec<Attribute>>,
    /// Temperature sensors in the back; no sensor configuration when empty.
    pub(crate) sensors: Vec<Sensor>,
    pub(crate) external_ids: Option<ExternalIds>,
    pub(crate) created: Millis,
    pub(crate) updated: Millis,
}

const FIRST_VEHICLE: u64 = 281_474_981_000_000;
const FIRST_SENSOR: u64 = 278_018_090_000_000;
pub(super) const LETTERS: &str = "ABCDEFGHJKLMNPRSTUVWXYZ0123456789";

impl Vehicle {
    pub(crate) fn build(seed: u64, index: u64, tags: &[Tag], created: Millis) -> Self {
        let mut draw = Draw::new(seed, "vehicle", &[index]);
        let id = FIRST_VEHICLE + index * 37 + draw.below(30);
        let (make, model, kind) = draw.pick(MODELS).copied().unwrap_or_default();
        let gateway = (index % 8 != 6).then(|| Gateway::draw(&mut draw, GATEWAYS));
        let equipped = gateway.is_some();
        let vin = (equipped && draw.chance(0.9)).then(|| draw.code(LETTERS, 17));
        let name = match draw.below(5) {
            _ if !equipped => draw.code(LETTERS, 10),
            0 => format!("Véhicule {}", 100 + index),
            1 => format!("LKW-{:03} Süd", index),
            _ => format!("P{:04}", 1_000 + index),
        };
        let created = created - draw.between(1, 900) * DAY + draw.between(0, DAY - 1);
        Self {
            index,
            id,
            name,
            energy: match index % 7 {
                5 => Energy::Electric,
                3 => Energy::Hybrid,
                _ => Energy::Fuel,
            },
            bus: if index % 3 == 1 {
                Bus::ObdII
            } else {
                Bus::J1939
            },
            make: equipped.then_some(make),
            model: equipped.then_some(model),
            kind: (equipped && draw.chance(0.8)).then_some(kind),
            year: (equipped && draw.chance(0.9)).then(|| draw.between(2008, 2026)),
            license_plate: (equipped && draw.chance(0.8)).then(|| draw.code(LETTERS, 7)),
            notes: if draw.chance(0.7) {
                ""
            } else {
                "Clé au bureau; \"réserve\"\nnicht nachts"
            },
            esn: draw.chance(0.2).then(|| draw.code("0123456789", 9)),
            camera_serial: (equipped && draw.chance(0.4))
                .then(|| format!("CN{}", draw.code(LETTERS, 8))),
            regulation_mode: equipped.then(|| draw.word(&["regulated", "unregulated", "mixed"])),
            harsh_setting: draw.word(HARSH_SETTINGS),
            privacy_button: draw.chance(0.3).then(|| draw.chance(0.5)),
            weight_kg: (equipped && draw.chance(0.5)).then(|| draw.between(1_800, 44_000)),
            auxiliary_inputs: (1..=13)
                .map(|input| {
                    (
                        input,
                        draw.word(AUXILIARY_INPUTS),
                        draw.chance(0.05) || index % 26 + 1 == input,
                    )
                })
                .filter_map(|(input, used_for, wired)| wired.then_some((input, used_for)))
                .collect(),
            driver: index
                .is_multiple_of(3)
                .then(|| drivers::identity(seed, index)),
            tags: (equipped || draw.chance(0.5)).then(|| Tag::some_of(tags, &mut draw)),
            attributes: draw.chance(0.6).then(|| Attribute::draw(&mut draw)),
            sensors: Self::sensors(index, &mut draw),
            external_ids: Self::external_ids(index, gateway.as_ref(), vin.as_ref(), &mut draw),
            gateway,
            vin,
            created,
            // Some were never touched after they were made.
            updated: if draw.chance(0.2) {
                created
            } else {
                created + draw.between(DAY, 400 * DAY) / 10 * 10
            },
        }
    }

    fn sensors(index: u64, draw: &mut Draw) -> Vec<Sensor> {
        let count = if index % 4 == 2 {
            draw.between(1, 2) as u64
        } else {
            0
        };
        (0..count)
            .map(|position| Sensor {
                sensor: Named::new(
                    FIRST_SENSOR + index * 10 + position,
                    &format!("Temp. arrière {}", position + 1),
                ),
                mac: format!(
                    "02:00:00:{:02x}:{:02x}:{position:02x}",
                    (index >> 8) & 0xff,
                    index & 0xff
                ),
            })
            .collect()
    }

    fn external_ids(
        index: u64,
        gateway: Option<&Gateway>,
        vin: Option<&String>,
        draw: &mut Draw,
    ) -> Option<ExternalIds> {
        let mut ids = ExternalIds::new();
        if let Some(gateway) = gateway {
            ids.insert("samsara.serial".to_owned(), gateway.serial.clone());
        }
        if let Some(vin) = vin {
            ids.insert("samsara.vin".to_owned(), vin.clone());
        }
        if draw.chance(0.4) {
            ids.insert("maintenanceId".to_owned(), format!("M-{}", 7_000 + index));
        }
        if draw.chance(0.2) {
            ids.insert("code d'été".to_owned(), String::new());
        }
        // The map is left out as often as it is sent empty.
        (!ids.is_empty() || index.is_multiple_of(2)).then_some(ids)
    }

    pub(crate) fn named(&self) -> Named {
        Named::new(self.id, &self.name)
    }

    /// Weight in pounds, rounded.
    pub(crate) fn weight_lb(&self) -> Option<i64> {
        self.weight_kg
            .map(|kilograms| (kilograms as f64 * 2.204_622_6).round() as i64)
    }

    /// Where its sensors are mounted, as the API nests it.
    pub(crate) fn sensor_configuration(&self) -> Option<Value> {
        let sensors: Vec<Value> = self
            .sensors
            .iter()
            .map(|Sensor { sensor, mac }| json!({ "id": sensor.id, "name": sensor.name, "mac": mac }))
            .collect();
        (!sensors.is_empty()).then(|| {
            json!({
                "areas": [{
                    "position": "back",
                    "temperatureSensors": sensors,
                    "humiditySensors": [],
                    "cargoSensors": [],
                }],
                "doors": [],
            })
        })
    }
}
