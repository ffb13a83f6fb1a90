//! Diagnostic trouble codes: a table of readings, and one per kind of code.

use serde_json::{Value, json};

use super::stats::{common, each_reading};
use super::{Days, Row, distinct, row, text};
use crate::world::{
    ControlUnit, Diagnosis, FaultReading, HeavyCode, LightCode, Lights, MONITORS, MakerCode, Point,
    World,
};

fn each_fault<'a>(
    world: &'a World,
    days: Days,
) -> impl Iterator<Item = (Row, FaultReading)> + use<'a> {
    each_reading(world, "faultCodes", days).filter_map(|(vehicle, reading)| {
        let common = common(vehicle, &reading);
        let Point::Fault(fault) = reading.point else {
            return None;
        };
        let mut common = common;
        common.insert("canBusType".to_owned(), text(fault.can_bus));
        Some((common, fault))
    })
}

/// One row per reading, whatever it says.
pub(super) fn readings(world: &World, days: Days) -> Vec<Row> {
    let rows = each_fault(world, days).map(|(mut columns, fault)| {
        let (lights, light, codes, units) = match &fault.diagnosis {
            Diagnosis::J1939 { lights, codes } => (*lights, None, codes.len(), 0),
            Diagnosis::ObdII { light, units } => (None, *light, 0, units.len()),
        };
        let oem = (!fault.maker_codes.is_empty()).then(|| {
            let codes: Value = fault.maker_codes.iter().map(MakerCode::json).collect();
            json!({ "diagnosticTroubleCodes": codes })
        });
        columns.append(&mut light_columns_of_bus(lights.as_ref()));
        columns.append(&mut row([
            ("j1939_diag_trouble_codes_count", codes.into()),
            ("obdii_engine_light_on", light.into()),
            ("obdii_units_count", units.into()),
            (
                "oem_diag_trouble_codes_count",
                fault.maker_codes.len().into(),
            ),
            ("oem", oem.into()),
        ]));
        columns
    });
    distinct(rows)
}

/// One row per code in the maker's own numbering.
pub(super) fn oem(world: &World, days: Days) -> Vec<Row> {
    let rows = each_fault(world, days).flat_map(|(columns, fault)| {
        let rows: Vec<Row> = fault
            .maker_codes
            .iter()
            .map(|code| {
                let mut columns = columns.clone();
                columns.append(&mut row([
                    (
                        "oem_diag_trouble_codes_codeIdentifier",
                        code.id.as_str().into(),
                    ),
                    ("oem_diag_trouble_codes_codeDescription", text(code.text)),
                    ("oem_diag_trouble_codes_codeSeverity", text(code.severity)),
                    ("oem_diag_trouble_codes_codeSource", text(code.source)),
                ]));
                columns
            })
            .collect();
        rows
    });
    distinct(rows)
}

/// One row per code; a reading without codes has one row if it says anything about the lights.
pub(super) fn j1939(world: &World, days: Days) -> Vec<Row> {
    let mut rows = Vec::new();
    for (common, fault) in each_fault(world, days) {
        let Diagnosis::J1939 { lights, codes } = &fault.diagnosis else {
            continue;
        };
        let mut codes: Vec<Option<&HeavyCode>> = codes.iter().map(Some).collect();
        if codes.is_empty() && lights.is_some() {
            codes.push(None);
        }
        for code in codes {
            let mut columns = common.clone();
            columns.extend(heavy_columns(lights.as_ref(), code));
            rows.push(columns);
        }
    }
    distinct(rows)
}

fn heavy_columns(lights: Option<&Lights>, code: Option<&HeavyCode>) -> Row {
    let vendor = code.and_then(|code| code.vendor.as_ref());
    let columns = light_columns_of_bus(lights);
    let code_columns = row([
        ("spnId", code.and_then(|code| code.spn).into()),
        ("spnDescription", code.map(|code| code.spn_text).into()),
        ("fmiId", code.and_then(|code| code.fmi).into()),
        ("fmiDescription", code.and_then(|code| code.fmi_text).into()),
        (
            "occurrenceCount",
            code.and_then(|code| code.occurrences).into(),
        ),
        ("milStatus", code.map(|code| code.mil_status).into()),
        ("txId", code.map(|code| code.tx_id).into()),
        (
            "sourceAddressName",
            code.and_then(|code| code.source).into(),
        ),
        (
            "vendorSpecificFields_dtcDescription",
            vendor.and_then(|(text, _)| *text).into(),
        ),
        (
            "vendorSpecificFields_repairInstructionsUrl",
            vendor.and_then(|(_, page)| page.as_deref()).into(),
        ),
    ]);
    let code_columns = code_columns
        .into_iter()
        .map(|(name, value)| (format!("j1939_diag_trouble_codes_{name}"), value));
    columns.into_iter().chain(code_columns).collect()
}

fn light_columns_of_bus(lights: Option<&Lights>) -> Row {
    row([
        (
            "j1939_protect_engine_light_On",
            lights.map(|lights| lights.protect).into(),
        ),
        (
            "j1939_warning_engine_light_On",
            lights.map(|lights| lights.warning).into(),
        ),
        (
            "j1939_stop_engine_light_On",
            lights.map(|lights| lights.stop).into(),
        ),
        (
            "j1939_emissions_engine_light_On",
            lights.map(|lights| lights.emissions).into(),
        ),
    ])
}

/// One row per control unit and position in its lists, the i-th with the i-th code of each list. A unit without codes
/// has one row, and so does a reading without units that says anything about the light.
pub(super) fn obdii(world: &World, days: Days) -> Vec<Row> {
    let mut rows = Vec::new();
    for (common, fault) in each_fault(world, days) {
        let Diagnosis::ObdII { light, units } = &fault.diagnosis else {
            continue;
        };
        let mut units: Vec<Option<&ControlUnit>> = units.iter().map(Some).collect();
        if units.is_empty() && light.is_some() {
            units.push(None);
        }
        for unit in units {
            let lists = unit.map(|unit| [&unit.confirmed, &unit.pending, &unit.permanent]);
            let longest = lists
                .iter()
                .flatten()
                .map(|list| list.len())
                .max()
                .unwrap_or_default();
            for place in 0..longest.max(1) {
                let mut columns = common.clone();
                columns.insert("obdii_engine_light_on".to_owned(), (*light).into());
                columns.extend(unit_columns(unit));
                for (index, kind) in ["confirmed", "pending", "permanent"]
                    .into_iter()
                    .enumerate()
                {
                    columns.extend(light_columns(
                        kind,
                        lists.and_then(|lists| lists[index].get(place)),
                    ));
                }
                rows.push(columns);
            }
        }
    }
    distinct(rows)
}

/// One row per code of a control unit's lists.
pub(super) fn obdii_codes(world: &World, days: Days) -> Vec<Row> {
    let mut rows = Vec::new();
    for (common, fault) in each_fault(world, days) {
        let Diagnosis::ObdII { units, .. } = &fault.diagnosis else {
            continue;
        };
        for unit in units {
            let lists = [
                ("confirmed", &unit.confirmed),
                ("pending", &unit.pending),
                ("permanent", &unit.permanent),
            ];
            for (kind, codes) in lists {
                rows.extend(codes.iter().map(|code| {
                    let mut columns = common.clone();
                    columns.append(&mut row([
                        ("txId", unit.tx_id.into()),
                        ("dtc_type", kind.into()),
                        ("dtcId", code.id.into()),
                        ("dtcShortCode", code.short.into()),
                        ("dtcDescription", code.text.into()),
                    ]));
                    columns
                }));
            }
        }
    }
    distinct(rows)
}

fn unit_columns(unit: Option<&ControlUnit>) -> Row {
    let monitors = unit.and_then(|unit| unit.monitors);
    let mut columns = row([
        ("obdii_txId", unit.and_then(|unit| unit.tx_id).into()),
        ("obdii_milStatus", unit.and_then(|unit| unit.mil).into()),
        (
            "obdii_ignitionType",
            unit.and_then(|unit| unit.ignition).into(),
        ),
        (
            "obdii_monitorStatus_notReadyCount",
            monitors.map(|monitors| monitors.not_ready).into(),
        ),
    ]);
    for (index, name) in MONITORS.iter().enumerate() {
        let state: Value = monitors.and_then(|monitors| monitors.states[index]).into();
        columns.insert(format!("obdii_monitorStatus_{name}"), state);
    }
    columns
}

fn light_columns(kind: &str, code: Option<&LightCode>) -> impl Iterator<Item = (String, Value)> {
    [
        (
            format!("obdii_{kind}_dtcId"),
            code.and_then(|code| code.id).into(),
        ),
        (
            format!("obdii_{kind}_dtcShortCode"),
            code.map(|code| code.short).into(),
        ),
        (
            format!("obdii_{kind}_dtcDescription"),
            code.map(|code| code.text).into(),
        ),
    ]
    .into_iter()
}
