//! The expected rows of each output table, from the world's own records and not from the pages it serves. Tables and
//! columns are listed here a second time on purpose: a column that is lost between page and table is found by comparing
//! the two.

mod assets;
mod devices;
mod events;
mod fault_codes;
mod hos;
mod people;
mod places;
mod reefers;
mod safety;
mod stats;
mod tags;
mod vehicles;
mod work;

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::surface;
use super::time::{Millis, truth_time};
use super::world::{ExternalIds, Named, TagRef, World};

/// A row: every column of its table, null where there is nothing.
pub type Row = Map<String, Value>;

/// Whole UTC days, from the first instant to the one after the last.
#[derive(Debug, Clone, Copy)]
struct Days {
    from: Millis,
    to: Millis,
}

type Table = (&'static str, fn(&World, Days) -> Vec<Row>);

/// The output tables with one statistic each and only vehicle, time and value.
const STAT_TABLES: &[&str] = &[
    "fleet_vehicle_stats_ambientAirTemperatureMilliC",
    "fleet_vehicle_stats_barometricPressurePa",
    "fleet_vehicle_stats_batteryMilliVolts",
    "fleet_vehicle_stats_defLevelMilliPercent",
    "fleet_vehicle_stats_ecuDoorStatus",
    "fleet_vehicle_stats_ecuSpeedMph",
    "fleet_vehicle_stats_engineCoolantTemperatureMilliC",
    "fleet_vehicle_stats_engineLoadPercent",
    "fleet_vehicle_stats_engineOilPressureKPa",
    "fleet_vehicle_stats_engineRpm",
    "fleet_vehicle_stats_engineStates",
    "fleet_vehicle_stats_evAverageBatteryTemperatureMilliCelsius",
    "fleet_vehicle_stats_evBatteryCurrentMilliAmp",
    "fleet_vehicle_stats_evBatteryStateOfHealthMilliPercent",
    "fleet_vehicle_stats_evBatteryVoltageMilliVolt",
    "fleet_vehicle_stats_evChargingCurrentMilliAmp",
    "fleet_vehicle_stats_evChargingEnergyMicroWh",
    "fleet_vehicle_stats_evChargingStatus",
    "fleet_vehicle_stats_evChargingVoltageMilliVolt",
    "fleet_vehicle_stats_evConsumedEnergyMicroWh",
    "fleet_vehicle_stats_evDistanceDrivenMeters",
    "fleet_vehicle_stats_evRegeneratedEnergyMicroWh",
    "fleet_vehicle_stats_evStateOfChargeMilliPercent",
    "fleet_vehicle_stats_fuelConsumedMilliliters",
    "fleet_vehicle_stats_fuelPercents",
    "fleet_vehicle_stats_gpsDistanceMeters",
    "fleet_vehicle_stats_gpsOdometerMeters",
    "fleet_vehicle_stats_idlingDurationMilliseconds",
    "fleet_vehicle_stats_intakeManifoldTemperatureMilliC",
    "fleet_vehicle_stats_obdEngineSeconds",
    "fleet_vehicle_stats_obdOdometerMeters",
    "fleet_vehicle_stats_seatbeltDriver",
    "fleet_vehicle_stats_spreaderActive",
    "fleet_vehicle_stats_spreaderAirTemp",
    "fleet_vehicle_stats_spreaderBlastState",
    "fleet_vehicle_stats_spreaderGranularName",
    "fleet_vehicle_stats_spreaderGranularRate",
    "fleet_vehicle_stats_spreaderLiquidName",
    "fleet_vehicle_stats_spreaderLiquidRate",
    "fleet_vehicle_stats_spreaderOnState",
    "fleet_vehicle_stats_spreaderPlowStatus",
    "fleet_vehicle_stats_spreaderPrewetName",
    "fleet_vehicle_stats_spreaderPrewetRate",
    "fleet_vehicle_stats_spreaderRoadTemp",
    "fleet_vehicle_stats_syntheticEngineSeconds",
];

/// What the names of the tables of statistics begin with.
const STAT_PREFIX: &str = "fleet_vehicle_stats_";

/// Every other output table.
const TABLES: &[Table] = &[
    (
        "ReeferStats_ambientAirTemperature",
        reefers::ambient_air_temperature,
    ),
    (
        "ReeferStats_dischargeAirTemperature",
        reefers::discharge_air_temperature,
    ),
    ("ReeferStats_engineHours", reefers::engine_hours),
    ("ReeferStats_fuelPercentage", reefers::fuel_percentage),
    ("ReeferStats_powerStatus", reefers::power_status),
    ("ReeferStats_reeferAlarms", reefers::alarms),
    (
        "ReeferStats_returnAirTemperature",
        reefers::return_air_temperature,
    ),
    ("ReeferStats_setPoint", reefers::set_point),
    ("addresses", places::addresses),
    ("alerts_configurations", events::configurations),
    ("alerts_incidents", events::incidents),
    ("alerts_incidents_conditions", events::incident_conditions),
    ("contacts", places::contacts),
    ("driver_vehicle_assignments", work::assignments),
    ("fleet_assets", assets::assets),
    ("fleet_devices", devices::devices),
    ("fleet_devices_health", devices::health),
    ("fleet_devices_healthReasons", devices::health_reasons),
    ("fleet_document_types", work::document_types),
    ("fleet_documents", work::documents),
    (
        "fleet_documents_conditional_sections",
        work::document_sections,
    ),
    ("fleet_documents_fields", work::document_fields),
    ("fleet_drivers", people::drivers),
    ("fleet_drivers_efficiency", work::efficiency),
    ("fleet_drivers_fuel_energy", work::fuel_energy),
    ("fleet_equipment", assets::equipment),
    ("fleet_hos_clocks", hos::clocks),
    ("fleet_hos_daily_logs", hos::daily_logs),
    ("fleet_hos_violations", hos::violations),
    ("fleet_safety_events", safety::events),
    ("fleet_safety_events_behaviors", safety::behaviors),
    ("fleet_safety_events_audit_logs", events::audit_logs),
    ("fleet_tags", tags::tags),
    ("fleet_tags_addresses", tags::addresses),
    ("fleet_tags_assets", tags::assets),
    ("fleet_tags_drivers", tags::drivers),
    ("fleet_tags_equipment", assets::tags_of_equipment),
    ("fleet_tags_machines", tags::machines),
    ("fleet_tags_sensors", tags::sensors),
    ("fleet_tags_trailers", assets::tags_of_trailers),
    ("fleet_tags_vehicles", tags::vehicles),
    ("fleet_trailers", assets::trailers),
    ("fleet_trips", events::trips),
    ("fleet_trips_assets", events::trip_assets),
    ("fleet_trips_codrivers", events::trip_codrivers),
    ("fleet_vehicle_idling", safety::idling),
    ("fleet_vehicle_safety_score", safety::scores),
    ("fleet_vehicle_stats_auxInputs", stats::auxiliary_inputs),
    (
        "fleet_vehicle_stats_engineImmobilizer",
        stats::engine_immobilizer,
    ),
    ("fleet_vehicle_stats_faultCodes", fault_codes::readings),
    ("fleet_vehicle_stats_faultCodes_j1939", fault_codes::j1939),
    ("fleet_vehicle_stats_faultCodes_obdii", fault_codes::obdii),
    (
        "fleet_vehicle_stats_faultCodes_obdii_dtcs",
        fault_codes::obdii_codes,
    ),
    ("fleet_vehicle_stats_faultCodes_oem", fault_codes::oem),
    ("fleet_vehicle_stats_gps", stats::gps),
    ("fleet_vehicle_stats_nfcCardScans", stats::card_scans),
    ("fleet_vehicle_stats_tellTales", stats::lights),
    ("fleet_vehicles", vehicles::vehicles),
    ("fleet_vehicles_fuel_energy", vehicles::fuel_energy),
    ("organization", people::organization),
];

impl World {
    /// The names of the output tables the world knows the truth about.
    pub fn tables(&self) -> Vec<&'static str> {
        let mut tables: Vec<&str> = TABLES
            .iter()
            .map(|(name, _)| *name)
            .chain(STAT_TABLES.iter().copied())
            .chain(surface::truth::tables())
            .collect();
        tables.sort_unstable();
        tables
    }

    /// The rows a table should hold for the UTC days of `[from, to)`, as the world looks at its present time.
    /// `None` for a table it does not know.
    ///
    /// - A row belongs to the day on which it starts or was read; reports, scores and daily logs to the day they
    ///   were asked for. Lists of what there is (vehicles, drivers, devices, tags …) and of what is the case at
    ///   present (hours-of-service clocks) ignore the days.
    /// - Timestamps are texts with microseconds and `Z`; whole numbers are integers and the others have a
    ///   fraction, by column; columns that are JSON text in the table hold the JSON itself, with its numbers
    ///   as the API sends them.
    /// - What is sent twice counts once. The order of the rows means nothing.
    pub fn truth(&self, table: &str, from: DateTime<Utc>, to: DateTime<Utc>) -> Option<Vec<Row>> {
        let days = Days {
            from: from.timestamp_millis(),
            to: to.timestamp_millis(),
        };
        if STAT_TABLES.contains(&table) {
            return Some(stats::plain(self, table.strip_prefix(STAT_PREFIX)?, days));
        }
        match TABLES.iter().find(|(name, _)| *name == table) {
            Some((_, rows)) => Some(rows(self, days)),
            None => surface::truth::rows(self, table, days.from, days.to),
        }
    }
}

/// A row from its columns.
fn row<const COLUMNS: usize>(columns: [(&str, Value); COLUMNS]) -> Row {
    columns
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// The rows with each repeated one once.
pub(crate) fn distinct(rows: impl IntoIterator<Item = Row>) -> Vec<Row> {
    let mut seen = HashSet::new();
    // The keys of a JSON map are ordered here, so equal rows have equal texts.
    rows.into_iter()
        .filter(|row| seen.insert(Value::Object(row.clone()).to_string()))
        .collect()
}

fn time(at: Millis) -> Value {
    truth_time(at).into()
}

fn text(text: Option<&str>) -> Value {
    text.into()
}

fn ids(ids: Option<&ExternalIds>) -> Value {
    ids.map_or(Value::Null, |ids| {
        ids.iter()
            .map(|(key, id)| (key.clone(), Value::from(id.as_str())))
            .collect()
    })
}

/// One of the external ids.
fn key_of(ids: Option<&ExternalIds>, key: &str) -> Value {
    ids.and_then(|ids| ids.get(key)).map(String::as_str).into()
}

fn tag_list(tags: Option<&[TagRef]>) -> Value {
    tags.map_or(Value::Null, |tags| tags.iter().map(TagRef::json).collect())
}

/// Id and name of a record that may not be there.
fn id_and_name(named: Option<&Named>) -> (Value, Value) {
    (
        named.map(|named| named.id.as_str()).into(),
        named.map(|named| named.name.as_str()).into(),
    )
}
