//! Diagnostic trouble codes.

use serde_json::{Value, json};

use super::draw::Draw;
use super::vehicles::{Bus, Vehicle};
use super::vocabulary::{CONTROL_UNITS, FAILURE_MODES, OBD_CODES, SUSPECT_PARAMETERS};

/// What a vehicle's bus says at one time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FaultReading {
    pub(crate) can_bus: Option<&'static str>,
    pub(crate) diagnosis: Diagnosis,
    /// Codes in the maker's own numbering, in addition to the standard ones.
    pub(crate) maker_codes: Vec<MakerCode>,
}

/// A code in the maker's own numbering.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MakerCode {
    pub(crate) id: String,
    pub(crate) text: Option<&'static str>,
    pub(crate) severity: Option<&'static str>,
    pub(crate) source: Option<&'static str>,
}

impl MakerCode {
    /// As the API writes it, and as the table of readings has it.
    pub(crate) fn json(&self) -> Value {
        let mut code = json!({ "codeIdentifier": self.id });
        let parts = [
            ("codeDescription", self.text),
            ("codeSeverity", self.severity),
            ("codeSource", self.source),
        ];
        for (name, part) in parts {
            if let Some(part) = part {
                code[name] = part.into();
            }
        }
        code
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Diagnosis {
    J1939 {
        lights: Option<Lights>,
        codes: Vec<HeavyCode>,
    },
    ObdII {
        light: Option<bool>,
        units: Vec<ControlUnit>,
    },
}

/// The four lights of a heavy vehicle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Lights {
    pub(crate) emissions: bool,
    pub(crate) protect: bool,
    pub(crate) stop: bool,
    pub(crate) warning: bool,
}

/// A J1939 code.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HeavyCode {
    /// Neither this nor the failure mode is known of some.
    pub(crate) spn: Option<i64>,
    pub(crate) spn_text: &'static str,
    pub(crate) fmi: Option<i64>,
    pub(crate) fmi_text: Option<&'static str>,
    pub(crate) occurrences: Option<i64>,
    pub(crate) mil_status: i64,
    pub(crate) tx_id: i64,
    pub(crate) source: Option<&'static str>,
    /// The maker's description and repair page.
    pub(crate) vendor: Option<(Option<&'static str>, Option<String>)>,
}

/// An OBD-II control unit and its three lists of codes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ControlUnit {
    pub(crate) tx_id: Option<i64>,
    pub(crate) mil: Option<bool>,
    pub(crate) ignition: Option<&'static str>,
    pub(crate) confirmed: Vec<LightCode>,
    pub(crate) pending: Vec<LightCode>,
    pub(crate) permanent: Vec<LightCode>,
    pub(crate) monitors: Option<Monitors>,
}

/// An OBD-II code.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LightCode {
    pub(crate) id: Option<i64>,
    pub(crate) short: &'static str,
    pub(crate) text: &'static str,
}

/// Names of the readiness monitors, in the order of [`Monitors::states`].
pub(crate) const MONITORS: [&str; 11] = [
    "catalyst",
    "comprehensive",
    "egr",
    "evapSystem",
    "fuel",
    "heatedCatalyst",
    "heatedO2Sensor",
    "isoSaeReserved",
    "misfire",
    "o2Sensor",
    "secondaryAir",
];

/// Readiness monitors: ready, not ready, unsupported, or not reported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Monitors {
    pub(crate) states: [Option<&'static str>; 11],
    pub(crate) not_ready: i64,
}

impl Monitors {
    fn draw(draw: &mut Draw) -> Self {
        let states =
            std::array::from_fn(|_| draw.chance(0.9).then(|| draw.word(&["R", "R", "N", "U"])));
        Self {
            states,
            not_ready: states.iter().filter(|state| **state == Some("N")).count() as i64,
        }
    }
}

impl FaultReading {
    pub(crate) fn draw(vehicle: &Vehicle, draw: &mut Draw) -> Self {
        let (bus, diagnosis) = match vehicle.bus {
            Bus::J1939 => ("CANBUS_J1939_500KBPS", heavy(draw)),
            Bus::ObdII => ("CANBUS_PASSENGER_500KBPS", light(draw)),
        };
        Self {
            can_bus: draw.chance(0.95).then_some(bus),
            diagnosis,
            maker_codes: if draw.chance(0.1) {
                maker_codes(draw)
            } else {
                Vec::new()
            },
        }
    }
}

fn heavy(draw: &mut Draw) -> Diagnosis {
    let lights = draw.chance(0.9).then(|| Lights {
        emissions: draw.chance(0.1),
        protect: draw.chance(0.2),
        stop: draw.chance(0.05),
        warning: draw.chance(0.4),
    });
    let first = draw.below(SUSPECT_PARAMETERS.len() as u64) as usize;
    let parameters = SUSPECT_PARAMETERS
        .iter()
        .cycle()
        .skip(first)
        .take(draw.below(4) as usize);
    let codes = parameters.map(|(spn, spn_text)| {
        let (fmi, fmi_text) = draw.pick(FAILURE_MODES).copied().unwrap_or_default();
        let (spn_known, fmi_known) = (draw.chance(0.95), draw.chance(0.95));
        HeavyCode {
            spn: spn_known.then_some(*spn),
            spn_text,
            fmi: fmi_known.then_some(fmi),
            fmi_text: draw.chance(0.9).then_some(fmi_text),
            occurrences: draw.chance(0.9).then(|| draw.between(1, 126)),
            mil_status: draw.between(0, 3),
            tx_id: draw.between(0, 49),
            source: draw.chance(0.7).then(|| draw.word(CONTROL_UNITS)),
            vendor: draw.chance(0.4).then(|| {
                let page = draw
                    .chance(0.5)
                    .then(|| format!("https://repair.example.com/{spn}/{fmi}"));
                (draw.chance(0.8).then_some("Voir atelier, « câble »"), page)
            }),
        }
    });
    Diagnosis::J1939 {
        lights,
        codes: codes.collect(),
    }
}

fn light(draw: &mut Draw) -> Diagnosis {
    let units = (0..draw.below(4) as i64).map(|unit| ControlUnit {
        tx_id: draw.chance(0.9).then_some(2_024 + unit),
        mil: draw.chance(0.9).then(|| draw.chance(0.3)),
        ignition: draw
            .chance(0.8)
            .then(|| draw.word(&["spark", "compression"])),
        confirmed: light_codes(draw),
        pending: light_codes(draw),
        permanent: light_codes(draw),
        monitors: draw.chance(0.8).then(|| Monitors::draw(draw)),
    });
    let units = units.collect();
    Diagnosis::ObdII {
        light: draw.chance(0.85).then(|| draw.chance(0.3)),
        units,
    }
}

/// Mostly none, else up to three different codes.
fn light_codes(draw: &mut Draw) -> Vec<LightCode> {
    let count = if draw.chance(0.6) {
        0
    } else {
        draw.between(1, 3)
    };
    let first = draw.below(OBD_CODES.len() as u64) as usize;
    let codes = OBD_CODES.iter().cycle().skip(first).take(count as usize);
    codes
        .map(|(id, short, text)| LightCode {
            id: draw.chance(0.95).then_some(*id),
            short,
            text,
        })
        .collect()
}

/// One to three codes.
fn maker_codes(draw: &mut Draw) -> Vec<MakerCode> {
    let count = draw.between(1, 3);
    let code = |_| MakerCode {
        id: draw.code("0123456789ABCDEF", 6),
        text: draw.chance(0.7).then_some("Kabelbaum, \"links\""),
        severity: draw
            .chance(0.7)
            .then(|| draw.word(&["info", "warning", "critical"])),
        source: draw.chance(0.7).then(|| draw.word(CONTROL_UNITS)),
    };
    (0..count).map(code).collect()
}
