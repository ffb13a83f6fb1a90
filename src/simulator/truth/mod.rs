//! What each output table should hold after a flawless ETL, told from the world's own records and not from the
//! pages it serves. Which tables and columns there are is stated here once more on purpose: a column that is
//! lost on the way from page to table is found by comparing the two.

mod events;
mod fault_codes;
mod people;
mod reefers;
mod stats;
mod tags;
mod vehicles;

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

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

/// Every output table.
const TABLES: &[Table] = &[
    ("ReeferStats_ambientAirTemperature", reefers::ambient_air_temperature),
    ("ReeferStats_dischargeAirTemperature", reefers::discharge_air_temperature),
    ("ReeferStats_engineHours", reefers::engine_hours),
    ("ReeferStats_fuelPercentage", reefers::fuel_percentage),
    ("ReeferStats_powerStatus", reefers::power_status),
    ("ReeferStats_reeferAlarms", reefers::alarms),
    ("ReeferStats_returnAirTemperature", reefers::return_air_temperature),
    ("ReeferStats_setPoint", reefers::set_point),
    ("alerts_configurations", events::configurations),
    ("alerts_incidents", events::incidents),
    ("fleet_drivers", people::drivers),
    ("fleet_safety_events_audit_logs", events::audit_logs),
    ("fleet_tags_addresses", tags::addresses),
    ("fleet_tags_assets", tags::assets),
    ("fleet_tags_drivers", tags::drivers),
    ("fleet_tags_sensors", tags::sensors),
    ("fleet_tags_vehicles", tags::vehicles),
    ("fleet_trips", events::trips),
    ("fleet_vehicle_stats_engineRpm", stats::engine_rpm),
    ("fleet_vehicle_stats_faultCodes_j1939", fault_codes::j1939),
    ("fleet_vehicle_stats_faultCodes_obdii", fault_codes::obdii),
    ("fleet_vehicle_stats_gps", stats::gps),
    ("fleet_vehicles", vehicles::vehicles),
    ("fleet_vehicles_fuel_energy", vehicles::fuel_energy),
];

impl World {
    /// The names of the output tables the world knows the truth about.
    pub fn tables(&self) -> Vec<&'static str> {
        TABLES.iter().map(|(name, _)| *name).collect()
    }

    /// The rows a table should hold for the UTC days of `[from, to)`, as the world looks at its present time.
    /// `None` for a table it does not know.
    ///
    /// - A row belongs to the day on which it starts or was read. Lists of vehicles, drivers, tags and alert
    ///   configurations ignore the days; the audit-log feed has everything from `from` on.
    /// - Timestamps are texts with microseconds and `Z`; whole numbers are integers and the others have a
    ///   fraction, by column; columns that are JSON text in the table hold the JSON itself, with its numbers
    ///   as the API sends them.
    /// - What is sent twice counts once. The order of the rows means nothing.
    pub fn truth(&self, table: &str, from: DateTime<Utc>, to: DateTime<Utc>) -> Option<Vec<Row>> {
        let (_, rows) = TABLES.iter().find(|(name, _)| *name == table)?;
        Some(rows(self, Days { from: from.timestamp_millis(), to: to.timestamp_millis() }))
    }
}

/// A row from its columns.
fn row<const COLUMNS: usize>(columns: [(&str, Value); COLUMNS]) -> Row {
    columns.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The rows with each repeated one once.
fn distinct(rows: impl IntoIterator<Item = Row>) -> Vec<Row> {
    let mut seen = HashSet::new();
    // The keys of a JSON map are ordered here, so equal rows have equal texts.
    rows.into_iter().filter(|row| seen.insert(Value::Object(row.clone()).to_string())).collect()
}

fn time(at: Millis) -> Value {
    truth_time(at).into()
}

fn text(text: Option<&str>) -> Value {
    text.into()
}

fn ids(ids: Option<&ExternalIds>) -> Value {
    ids.map_or(Value::Null, |ids| ids.iter().map(|(key, id)| (key.clone(), Value::from(id.as_str()))).collect())
}

fn tag_list(tags: Option<&[TagRef]>) -> Value {
    tags.map_or(Value::Null, |tags| tags.iter().map(TagRef::json).collect())
}

/// Id and name of a record that may not be there.
fn id_and_name(named: Option<&Named>) -> (Value, Value) {
    (named.map(|named| named.id.as_str()).into(), named.map(|named| named.name.as_str()).into())
}
