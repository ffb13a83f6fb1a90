//! Diagnostic trouble codes.

use serde_json::{Value, json};

use super::{Record, Wire};
use crate::world::{
    ControlUnit, Diagnosis, FaultReading, HeavyCode, LightCode, MONITORS, MakerCode,
};

impl Wire {
    pub(super) fn fault_fields(self, record: Record, fault: &FaultReading) -> Record {
        let record = record.put_some("canBusType", fault.can_bus);
        let record = match &fault.diagnosis {
            Diagnosis::J1939 { lights, codes } => {
                let lights = lights.map(|lights| {
                    json!({
                        "emissionsIsOn": lights.emissions,
                        "protectIsOn": lights.protect,
                        "stopIsOn": lights.stop,
                        "warningIsOn": lights.warning,
                    })
                });
                let codes: Vec<Value> = codes.iter().map(|code| self.heavy_code(code)).collect();
                let bus = Record::new()
                    .put_some("checkEngineLights", lights)
                    .put("diagnosticTroubleCodes", codes);
                record.put("j1939", bus.done())
            }
            Diagnosis::ObdII { light, units } => {
                let units: Vec<Value> = units.iter().map(|unit| self.control_unit(unit)).collect();
                let bus = Record::new()
                    .put_some("checkEngineLightIsOn", *light)
                    .put("diagnosticTroubleCodes", units);
                record.put("obdii", bus.done())
            }
        };
        if fault.maker_codes.is_empty() {
            return record;
        }
        let codes: Value = fault.maker_codes.iter().map(MakerCode::json).collect();
        record.put("oem", json!({ "diagnosticTroubleCodes": codes }))
    }

    fn heavy_code(self, code: &HeavyCode) -> Value {
        let vendor = code.vendor.as_ref().map(|(text, page)| {
            let record = Record::new().put_some("dtcDescription", *text);
            record
                .put_some("repairInstructionsUrl", page.as_deref())
                .done()
        });
        let record = Record::new()
            .put_some("spnId", code.spn)
            .put("spnDescription", code.spn_text)
            .put_some("fmiId", code.fmi)
            .put("milStatus", code.mil_status)
            .put("txId", code.tx_id)
            .put_some("fmiDescription", code.fmi_text)
            .put_some("occurrenceCount", code.occurrences)
            .put_some("sourceAddressName", code.source)
            .put_some("vendorSpecificFields", vendor);
        self.strange_part(record).done()
    }

    fn control_unit(self, unit: &ControlUnit) -> Value {
        let monitors = unit.monitors.map(|monitors| {
            let mut record = Record::new().put("notReadyCount", monitors.not_ready);
            for (name, state) in MONITORS.iter().zip(monitors.states) {
                record = record.put_some(name, state);
            }
            record.done()
        });
        let record = Record::new()
            .put_some("txId", unit.tx_id)
            .put("confirmedDtcs", light_codes(&unit.confirmed))
            .put("pendingDtcs", light_codes(&unit.pending))
            .put("permanentDtcs", light_codes(&unit.permanent))
            .put_some("milStatus", unit.mil)
            .put_some("ignitionType", unit.ignition)
            .put_some("monitorStatus", monitors);
        self.strange_part(record).done()
    }
}

fn light_codes(codes: &[LightCode]) -> Value {
    codes
        .iter()
        .map(|code| {
            let record = Record::new()
                .put("dtcShortCode", code.short)
                .put("dtcDescription", code.text);
            record.put_some("dtcId", code.id).done()
        })
        .collect()
}
