//! Compares what is served, flattened here by hand, with the world's truth.

use serde_json::json;

use super::*;

const FROM: &str = "2024-01-01T00:00:00Z";
const TO: &str = "2024-01-08T00:00:00Z";
/// When everything of those days has come to rest.
const LATER: &str = "2024-02-01T00:00:00Z";

async fn world() -> Simulator {
    start(SimulatorConfig {
        vehicles: 14,
        ..Default::default()
    })
    .await
}

fn truth(simulator: &Simulator, table: &str) -> BTreeSet<String> {
    let rows = simulator
        .world()
        .truth(table, at(FROM), at(TO))
        .expect("a known table");
    assert!(!rows.is_empty(), "{table} is empty");
    set(rows)
}

async fn stats(client: &Client<'_>, types: &str) -> Vec<Value> {
    client
        .records(
            "/fleet/vehicles/stats/history",
            &[("types", types), ("startTime", FROM), ("endTime", TO)],
        )
        .await
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

fn double(value: &Value) -> Value {
    value.as_f64().into()
}

#[test]
fn every_table_has_one_set_of_columns() {
    let now = Some(at("2024-03-01T00:00:00Z"));
    let world = super::super::World::new(&SimulatorConfig {
        vehicles: 40,
        now,
        ..Default::default()
    });
    for table in world.tables() {
        let rows = world.truth(table, at(FROM), at(TO)).expect("a known table");
        let columns: BTreeSet<Vec<&String>> = rows.iter().map(|row| row.keys().collect()).collect();
        assert_eq!(columns.len(), 1, "{table}");
        set(rows.clone());
        for name in rows[0].keys() {
            assert!(
                rows.iter().any(|row| !row[name].is_null()),
                "{table}.{name} is never filled"
            );
        }
    }
    assert!(world.truth("nothing", at(FROM), at(TO)).is_none());
}

/// The tables that ignore the days.
const SNAPSHOTS: &[&str] = &[
    "addresses",
    "alerts_configurations",
    "contacts",
    "fleet_assets",
    "fleet_devices",
    "fleet_devices_health",
    "fleet_devices_healthReasons",
    "fleet_document_types",
    "fleet_drivers",
    "fleet_equipment",
    "fleet_hos_clocks",
    "fleet_tags",
    "fleet_tags_addresses",
    "fleet_tags_assets",
    "fleet_tags_drivers",
    "fleet_tags_equipment",
    "fleet_tags_machines",
    "fleet_tags_sensors",
    "fleet_tags_trailers",
    "fleet_tags_vehicles",
    "fleet_trailers",
    "fleet_vehicles",
    "organization",
];

#[test]
fn days_of_truth_add_up() {
    let world = super::super::World::new(&SimulatorConfig::default());
    let days: Vec<DateTime<Utc>> = (1..=8)
        .map(|day| at(&format!("2024-01-{day:02}T00:00:00Z")))
        .collect();
    // Surfaces have a test of their own, and records that change are returned with older ones.
    let surfaces: Vec<&str> = crate::surface::truth::tables().collect();
    let by_hand = |table: &&str| {
        !SNAPSHOTS.contains(table)
            && !table.contains("audit")
            && !table.starts_with("alerts_incidents")
            && !surfaces.contains(table)
    };
    for table in world.tables().into_iter().filter(by_hand) {
        let rows = |from, to| world.truth(table, from, to).expect("a known table");
        let whole = set(rows(days[0], days[7]));
        assert_eq!(
            whole,
            set(days.windows(2).flat_map(|day| rows(day[0], day[1]))),
            "{table}"
        );
    }
}

#[tokio::test]
async fn engine_speeds_are_all_served() {
    let simulator = world().await;
    let records = stats(&Client::new(&simulator), "engineRpm,gps").await;
    let mut repeated = 0;
    let mut rows = Vec::new();
    for vehicle in &records {
        for reading in list(vehicle, "engineRpm") {
            rows.push(row([
                ("vehicle_id", vehicle["id"].clone()),
                ("parc_id", vehicle["name"].clone()),
                ("time", table_time(&reading["time"])),
                ("engineRpm", double(&reading["value"])),
            ]));
        }
        repeated +=
            list(vehicle, "gps").count() - distinct_set(list(vehicle, "gps").map(object)).len();
    }
    assert!(repeated > 0, "some readings are sent twice");
    assert_eq!(
        distinct_set(rows),
        truth(&simulator, "fleet_vehicle_stats_engineRpm")
    );
}

fn object(value: &Value) -> Row {
    value.as_object().cloned().expect("an object")
}

#[tokio::test]
async fn fixes_are_all_served_with_mixed_numbers() {
    let simulator = world().await;
    let records = stats(&Client::new(&simulator), "gps").await;
    let fixes: Vec<&Value> = records
        .iter()
        .flat_map(|vehicle| list(vehicle, "gps"))
        .collect();
    assert!(fixes.iter().any(|fix| fix["speedMilesPerHour"].is_i64()));
    assert!(fixes.iter().any(|fix| fix["speedMilesPerHour"].is_f64()));
    let rows = records.iter().flat_map(|vehicle| {
        list(vehicle, "gps").map(move |fix| {
            row([
                ("vehicle_id", vehicle["id"].clone()),
                ("parc_id", vehicle["name"].clone()),
                ("time", table_time(&fix["time"])),
                ("latitude", double(&fix["latitude"])),
                ("longitude", double(&fix["longitude"])),
                ("headingDegrees", double(&fix["headingDegrees"])),
                ("speedMilesPerHour", double(&fix["speedMilesPerHour"])),
                ("isEcuSpeed", fix["isEcuSpeed"].clone()),
                (
                    "reverseGeo_formattedLocation",
                    fix["reverseGeo"]["formattedLocation"].clone(),
                ),
                ("address_id", fix["address"]["id"].clone()),
                ("address_name", fix["address"]["name"].clone()),
            ])
        })
    });
    assert_eq!(
        distinct_set(rows),
        truth(&simulator, "fleet_vehicle_stats_gps")
    );
}

#[tokio::test]
async fn obd_rows_pair_the_three_lists_by_position() {
    let simulator = world().await;
    let records = stats(&Client::new(&simulator), "faultCodes").await;
    let mut keys = BTreeSet::new();
    for vehicle in &records {
        for reading in list(vehicle, "faultCodes").filter(|reading| reading.get("obdii").is_some())
        {
            let obd = &reading["obdii"];
            let units = obd["diagnosticTroubleCodes"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let lit = !obd["checkEngineLightIsOn"].is_null();
            let units = if units.is_empty() && lit {
                vec![Value::Null]
            } else {
                units
            };
            for unit in &units {
                let lists = ["confirmedDtcs", "pendingDtcs", "permanentDtcs"];
                let longest = lists
                    .iter()
                    .map(|name| list(unit, name).count())
                    .max()
                    .unwrap_or(0)
                    .max(1);
                for place in 0..longest {
                    let code = |name: &str| unit[name][place]["dtcId"].clone();
                    keys.insert(
                        json!([
                            vehicle["id"],
                            table_time(&reading["time"]),
                            unit["txId"],
                            lists.map(code)
                        ])
                        .to_string(),
                    );
                }
            }
        }
    }
    let rows = simulator
        .world()
        .truth("fleet_vehicle_stats_faultCodes_obdii", at(FROM), at(TO))
        .expect("a table");
    let expected: BTreeSet<String> = rows
        .iter()
        .map(|row| {
            let codes = ["confirmed", "pending", "permanent"]
                .map(|kind| row[&format!("obdii_{kind}_dtcId")].clone());
            json!([row["vehicle_id"], row["time"], row["obdii_txId"], codes]).to_string()
        })
        .collect();
    assert!(!expected.is_empty());
    assert_eq!(keys, expected);
}

#[tokio::test]
async fn readings_of_fault_codes_and_makers_codes_are_all_served() {
    let simulator = world().await;
    let records = stats(&Client::new(&simulator), "faultCodes").await;
    let readings = records.iter().flat_map(|vehicle| {
        let of = move |reading: &Value| {
            (
                vehicle["id"].clone(),
                table_time(&reading["time"]),
                reading["oem"].clone(),
            )
        };
        list(vehicle, "faultCodes").map(of)
    });
    let readings: Vec<(Value, Value, Value)> = readings.collect();
    let served: BTreeSet<String> = readings
        .iter()
        .map(|reading| json!(reading).to_string())
        .collect();
    let rows = simulator
        .world()
        .truth("fleet_vehicle_stats_faultCodes", at(FROM), at(TO))
        .expect("a table");
    let expected = rows
        .iter()
        .map(|row| json!([row["vehicle_id"], row["time"], row["oem"]]).to_string());
    assert_eq!(served, expected.collect());
    let codes: BTreeSet<String> = readings
        .iter()
        .flat_map(|(vehicle, time, oem)| {
            list(oem, "diagnosticTroubleCodes")
                .map(move |code| json!([vehicle, time, code["codeIdentifier"]]).to_string())
        })
        .collect();
    let rows = simulator
        .world()
        .truth("fleet_vehicle_stats_faultCodes_oem", at(FROM), at(TO))
        .expect("a table");
    let column = "oem_diag_trouble_codes_codeIdentifier";
    let expected = rows
        .iter()
        .map(|row| json!([row["vehicle_id"], row["time"], row[column]]).to_string());
    assert!(!codes.is_empty());
    assert_eq!(codes, expected.collect());
}

#[tokio::test]
async fn alarms_and_temperatures_are_all_served() {
    let simulator = world().await;
    let (from, to) = (
        at(FROM).timestamp_millis().to_string(),
        (at(TO).timestamp_millis() - 1).to_string(),
    );
    let client = Client::new(&simulator);
    let records = client
        .records(
            "/v1/fleet/assets/reefers",
            &[("startMs", &from), ("endMs", &to)],
        )
        .await;
    let (mut alarms, mut temperatures) = (Vec::new(), Vec::new());
    for trailer in &records {
        let common = row([
            ("asset_id", trailer["id"].to_string().into()),
            ("asset_name", trailer["name"].clone()),
            ("assetType", trailer["assetType"].clone()),
        ]);
        for change in list(&trailer["reeferStats"], "reeferAlarms") {
            let found: Vec<&Value> = list(change, "alarms").collect();
            for alarm in if found.is_empty() {
                vec![&Value::Null]
            } else {
                found
            } {
                let mut columns = common.clone();
                columns.append(&mut row([
                    (
                        "reeferAlarmsChangedAt",
                        table_millis(&change["changedAtMs"]),
                    ),
                    ("alarm_alarmCode", alarm["alarmCode"].clone()),
                    ("alarm_description", alarm["description"].clone()),
                    ("alarm_operatorAction", alarm["operatorAction"].clone()),
                    ("alarm_severity", alarm["severity"].clone()),
                ]));
                alarms.push(columns);
            }
        }
        for change in list(&trailer["reeferStats"], "ambientAirTemperature") {
            let mut columns = common.clone();
            columns.append(&mut row([
                (
                    "ambientAirTemperatureChangedAt",
                    table_millis(&change["changedAtMs"]),
                ),
                (
                    "ambientAirTemperatureMilliCelsius",
                    change["tempInMilliC"].clone(),
                ),
            ]));
            temperatures.push(columns);
        }
    }
    assert_eq!(
        distinct_set(alarms),
        truth(&simulator, "ReeferStats_reeferAlarms")
    );
    assert_eq!(
        distinct_set(temperatures),
        truth(&simulator, "ReeferStats_ambientAirTemperature")
    );
}

#[tokio::test]
async fn trips_belong_to_the_day_of_their_start() {
    let simulator = world().await;
    let client = Client::new(&simulator);
    let (from, to) = (at(FROM).timestamp_millis(), at(TO).timestamp_millis());
    let mut served = BTreeSet::new();
    for vehicle in client.records("/fleet/vehicles", &[]).await {
        let id = vehicle["id"].as_str().expect("an id");
        let query = [
            ("vehicleId", id),
            ("startMs", &from.to_string()),
            ("endMs", &(to - 1).to_string()),
        ];
        let trips = client.get("/v1/fleet/trips", &query).await.json();
        for trip in list(&trips, "trips").filter(|trip| trip["startMs"].as_i64() >= Some(from)) {
            let driver = trip["driverId"]
                .as_u64()
                .filter(|id| *id != 0)
                .map(|id| id.to_string());
            let times = [table_millis(&trip["startMs"]), table_millis(&trip["endMs"])];
            served.insert(
                json!([
                    id,
                    times,
                    driver,
                    double(&trip["distanceMeters"]),
                    trip["assetIds"]
                ])
                .to_string(),
            );
        }
    }
    let rows = simulator
        .world()
        .truth("fleet_trips", at(FROM), at(TO))
        .expect("a table");
    let expected = rows.iter().map(|row| {
        let times = [&row["startTime"], &row["endTime"]];
        json!([
            row["vehicle_id"],
            times,
            row["driver_id"],
            row["distanceMeters"],
            row["assetIds"]
        ])
        .to_string()
    });
    assert_eq!(served, expected.collect());
}

#[tokio::test]
async fn fuel_reports_are_about_exactly_the_window() {
    let simulator = world().await;
    let client = Client::new(&simulator);
    let report = async |from: &str, to: &str| -> Vec<Value> {
        let pages = client
            .pages(
                "/fleet/reports/vehicles/fuel-energy",
                &[("startDate", from), ("endDate", to)],
                "after",
            )
            .await;
        pages
            .iter()
            .flat_map(|page| {
                list(&page.json()["data"], "vehicleReports")
                    .cloned()
                    .collect::<Vec<_>>()
            })
            .collect()
    };
    let (first, second) = (
        report("2024-01-02T00:00:00Z", "2024-01-03T00:00:00Z").await,
        report("2024-01-03T00:00:00Z", "2024-01-04T00:00:00Z").await,
    );
    // Whole days may also be requested by their last millisecond.
    assert_eq!(
        first,
        report("2024-01-02T00:00:00Z", "2024-01-02T23:59:59.999Z").await
    );
    let both = report("2024-01-02T00:00:00Z", "2024-01-04T00:00:00Z").await;
    let distance = |reports: &[Value], id: &Value| -> f64 {
        let own = reports
            .iter()
            .filter(|report| report["vehicle"]["id"] == *id);
        own.filter_map(|report| report["distanceTraveledMeters"].as_f64())
            .sum()
    };
    let apart = both
        .iter()
        .map(|report| &report["vehicle"]["id"])
        .filter(|id| {
            (distance(&both, id) - distance(&first, id) - distance(&second, id)).abs() > 1.0
        });
    assert!(apart.count() > 0, "the days must not all add up");
    let served = first.iter().map(|report| {
        row([
            ("vehicle_id", report["vehicle"]["id"].clone()),
            (
                "distanceTraveledMeters",
                double(&report["distanceTraveledMeters"]),
            ),
            (
                "estFuelEnergyCost_amount",
                double(&report["estFuelEnergyCost"]["amount"]),
            ),
            ("energyUsedKwh", double(&report["energyUsedKwh"])),
        ])
    });
    let served = set(served);
    let day = (at("2024-01-02T00:00:00Z"), at("2024-01-03T00:00:00Z"));
    let rows = simulator
        .world()
        .truth("fleet_vehicles_fuel_energy", day.0, day.1)
        .expect("a table");
    let kept = [
        "vehicle_id",
        "distanceTraveledMeters",
        "estFuelEnergyCost_amount",
        "energyUsedKwh",
    ];
    let expected = rows.into_iter().map(|row| {
        row.into_iter()
            .filter(|(name, _)| kept.contains(&name.as_str()))
            .collect()
    });
    assert_eq!(served, set(expected));
    assert!(
        report("2020-01-02T00:00:00Z", "2020-01-03T00:00:00Z")
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn drivers_tags_and_incidents_are_all_served() {
    let simulator = world().await;
    let client = Client::new(&simulator);
    let mut drivers = client.records("/fleet/drivers", &[]).await;
    let deactivated = client
        .records(
            "/fleet/drivers",
            &[("driverActivationStatus", "deactivated")],
        )
        .await;
    assert!(!drivers.is_empty() && !deactivated.is_empty());
    drivers.extend(deactivated);
    let served = drivers.iter().map(|driver| {
        json!([
            driver["id"],
            driver["tags"],
            driver["externalIds"],
            table_time(&driver["updatedAtTime"])
        ])
        .to_string()
    });
    let rows = simulator
        .world()
        .truth("fleet_drivers", at(FROM), at(TO))
        .expect("a table");
    let expected = rows.iter().map(|row| {
        json!([
            row["id"],
            row["tags"],
            row["externalIds"],
            row["updatedAtTime"]
        ])
        .to_string()
    });
    assert_eq!(
        served.collect::<BTreeSet<_>>(),
        expected.collect::<BTreeSet<_>>()
    );

    let tags = client.records("/tags", &[]).await;
    let served: usize = tags.iter().map(|tag| list(tag, "sensors").count()).sum();
    assert_eq!(served, truth(&simulator, "fleet_tags_sensors").len());
    let served = tags
        .iter()
        .map(|tag| json!([tag["id"], tag["externalIds"]]).to_string());
    let rows = simulator
        .world()
        .truth("fleet_tags", at(FROM), at(TO))
        .expect("a table");
    let expected = rows
        .iter()
        .map(|row| json!([row["tag_id"], row["externalIds"]]).to_string());
    assert_eq!(
        served.collect::<BTreeSet<_>>(),
        expected.collect::<BTreeSet<_>>()
    );

    let configurations = client
        .records("/alerts/configurations", &[("includeExternalIds", "true")])
        .await;
    assert_eq!(
        configurations.len(),
        truth(&simulator, "alerts_configurations").len()
    );
    let ids: Vec<&str> = configurations
        .iter()
        .filter_map(|one| one["id"].as_str())
        .collect();
    let mut query: Vec<(&str, &str)> = ids.iter().map(|id| ("configurationIds", *id)).collect();
    // Requested by time of last change: those of the days that changed later, too.
    query.extend([("startTime", FROM), ("endTime", LATER)]);
    let mut incidents = client.records("/alerts/incidents/stream", &query).await;
    incidents.retain(|incident| incident["happenedAtTime"].as_str() < Some(TO));
    for details in incidents
        .iter_mut()
        .filter_map(|incident| incident.pointer_mut("/conditions/0/details"))
        .filter_map(Value::as_object_mut)
        .flat_map(|details| details.values_mut())
    {
        // A link that no table holds.
        assert!(
            details
                .as_object_mut()
                .is_some_and(|one| one.remove("liveSharingUrl").is_some())
        );
    }
    let served = incidents.iter().map(|incident| {
        row([
            ("configurationId", incident["configurationId"].clone()),
            ("happenedAtTime", table_time(&incident["happenedAtTime"])),
            ("updatedAtTime", table_time(&incident["updatedAtTime"])),
            ("resolvedAtTime", table_time(&incident["resolvedAtTime"])),
            ("isResolved", incident["isResolved"].clone()),
            ("incidentUrl", incident["incidentUrl"].clone()),
            ("conditions", incident["conditions"].clone()),
        ])
    });
    assert_eq!(set(served), truth(&simulator, "alerts_incidents"));
}

#[tokio::test]
async fn unknown_fields_are_added_and_change_nothing_else() {
    let simulator = start(SimulatorConfig {
        vehicles: 14,
        unknown_fields: true,
        ..Default::default()
    })
    .await;
    let client = Client::new(&simulator);
    let page = client.get("/fleet/vehicles", &[]).await.json();
    assert!(page["simulatedMeta"].is_object());
    assert!(list(&page, "data").all(|vehicle| vehicle["simulatedProfile"].is_object()));
    assert!(list(&page, "data").any(|vehicle| vehicle["gateway"]["simulatedQuality"].is_number()));
    let readings = stats(&client, "engineRpm").await;
    assert!(
        readings
            .iter()
            .flat_map(|one| list(one, "engineRpm"))
            .all(|one| one["simulatedQuality"].is_number())
    );
    let plain = world().await;
    let rows = |simulator: &Simulator| simulator.world().truth("fleet_vehicles", at(FROM), at(TO));
    assert_eq!(rows(&simulator), rows(&plain));
}

#[tokio::test]
async fn the_two_readings_of_the_documentation_can_be_had() {
    let config = SimulatorConfig {
        vehicles: 14,
        point_before_window: true,
        fuel_window: super::super::FuelWindow::WholeDays,
        ..Default::default()
    };
    let simulator = start(config).await;
    let client = Client::new(&simulator);
    let records = stats(&client, "gps").await;
    let outside = records.iter().filter(|vehicle| {
        list(vehicle, "gps")
            .filter(|fix| fix["time"].as_str().is_some_and(|time| time < FROM))
            .count()
            == 1
    });
    assert_eq!(
        outside.count(),
        records.len(),
        "each vehicle has its last point before the window"
    );
    let report = async |to: &str| {
        let query = [("startDate", "2024-01-02T00:00:00Z"), ("endDate", to)];
        client
            .pages("/fleet/reports/vehicles/fuel-energy", &query, "after")
            .await
            .last()
            .map(Reply::json)
    };
    // The day of the end is part of the window, and its hour is ignored.
    assert_eq!(
        report("2024-01-02T00:00:00Z").await,
        report("2024-01-02T23:59:59Z").await
    );
    assert_ne!(
        report("2024-01-02T00:00:00Z").await,
        report("2024-01-03T00:00:00Z").await
    );
}
