//! Devices, their health, and the reasons for it.

use serde_json::{Value, json};

use super::{Days, Row, distinct, row, tag_list, text, time};
use crate::time::wire_time;
use crate::world::{Ago, CameraHealth, Details, Device, Health, World};

pub(super) fn devices(world: &World, _: Days) -> Vec<Row> {
    distinct(world.devices.iter().map(|device| {
        let spot = device.location;
        let reasons = device
            .health
            .as_ref()
            .and_then(|health| health.reasons.as_ref())
            .map(|reasons| -> Value {
                // Texts of the API, since they stay JSON.
                let since = |ago: &Ago| wire_time(world.instant(*ago));
                reasons
                    .iter()
                    .map(|(code, ago)| json!({ "healthReasonCode": code, "startTime": since(ago) }))
                    .collect()
            });
        let mut columns = row([
            ("model", device.model.into()),
            ("lastConnectedTime", ago(world, device.last_connected)),
            (
                "lastKnownLocation_id",
                spot.and_then(|spot| spot.address)
                    .map(|id| id.to_string())
                    .into(),
            ),
            (
                "lastKnownLocation_latitude",
                spot.map(|spot| spot.latitude).into(),
            ),
            (
                "lastKnownLocation_longitude",
                spot.map(|spot| spot.longitude).into(),
            ),
            ("health_healthReasons", reasons.into()),
            ("tags", tag_list(Some(&device.tags))),
        ]);
        columns.append(&mut about(device));
        columns.append(&mut health_columns(world, device.health.as_ref()));
        columns
    }))
}

pub(super) fn health(world: &World, _: Days) -> Vec<Row> {
    distinct(
        world
            .devices
            .iter()
            .filter(|device| device.health.is_some())
            .map(|device| {
                let mut columns = about(device);
                columns.append(&mut health_columns(world, device.health.as_ref()));
                columns
            }),
    )
}

pub(super) fn health_reasons(world: &World, _: Days) -> Vec<Row> {
    distinct(world.devices.iter().flat_map(|device| {
        let reasons = device
            .health
            .iter()
            .filter_map(|health| health.reasons.as_ref())
            .flatten();
        reasons.map(|(code, since)| {
            let mut columns = row([
                ("healthReasonCode", (*code).into()),
                ("startTime", time(world.instant(*since))),
            ]);
            columns.append(&mut about(device));
            columns
        })
    }))
}

fn about(device: &Device) -> Row {
    row([
        ("serial", device.serial.as_str().into()),
        ("asset_id", device.asset.id.as_str().into()),
        ("asset_name", device.asset.name.as_str().into()),
    ])
}

fn ago(world: &World, ago: Option<Ago>) -> Value {
    ago.map_or(Value::Null, |ago| time(world.instant(ago)))
}

fn health_columns(world: &World, health: Option<&Health>) -> Row {
    let main = health
        .and_then(|health| health.reasons.as_ref())
        .and_then(|reasons| reasons.first());
    let mut columns = row([
        (
            "health_healthStatus",
            health.map(|health| health.status).into(),
        ),
        (
            "health_primaryHealthReason",
            main.map(|(reason, _)| *reason).into(),
        ),
        (
            "health_primaryHealthReasonStartTime",
            ago(world, main.map(|(_, since)| *since)),
        ),
        (
            "health_recommendedAction",
            health.map(|health| health.action).into(),
        ),
    ]);
    let details = health.and_then(|health| health.details.as_ref());
    columns.append(&mut camera_columns(
        world,
        "cameraDetails",
        match details {
            Some(Details::Camera(camera)) => Some(camera),
            _ => None,
        },
    ));
    columns.append(&mut camera_columns(
        world,
        "cameraConnectorDetails",
        match details {
            Some(Details::CameraConnector(camera)) => Some(camera),
            _ => None,
        },
    ));
    let gateway = match details {
        Some(Details::Gateway(gateway)) => Some(gateway),
        _ => None,
    };
    let cell = gateway.and_then(|gateway| gateway.cell);
    columns.append(&mut prefixed(
        "gatewayDetails",
        [
            (
                "lastCheckInTime",
                ago(world, gateway.map(|gateway| gateway.check_in)),
            ),
            (
                "gatewayBatteryState",
                text(gateway.and_then(|gateway| gateway.battery_state)),
            ),
            (
                "gatewayBatteryTemp",
                gateway
                    .and_then(|gateway| gateway.battery_temperature)
                    .into(),
            ),
            (
                "gatewayBatteryVolts",
                gateway.and_then(|gateway| gateway.battery_volts).into(),
            ),
            (
                "vehicleBatteryVolts",
                gateway.and_then(|gateway| gateway.vehicle_volts).into(),
            ),
            (
                "cellConnectivity_operator",
                cell.map(|(operator, _)| operator).into(),
            ),
            (
                "cellConnectivity_signalBar",
                cell.map(|(_, signal)| signal).into(),
            ),
        ],
    ));
    let tag = match details {
        Some(Details::AssetTag { check_in, battery }) => Some((*check_in, *battery)),
        _ => None,
    };
    columns.append(&mut prefixed(
        "bleAssetTagDetails",
        [
            (
                "lastCheckInTime",
                ago(world, tag.map(|(check_in, _)| check_in)),
            ),
            ("batteryState", tag.map(|(_, battery)| battery).into()),
        ],
    ));
    columns
}

fn camera_columns(world: &World, kind: &str, camera: Option<&CameraHealth>) -> Row {
    prefixed(
        kind,
        [
            (
                "gatewayLastConnectedTime",
                ago(world, camera.and_then(|camera| camera.gateway_connected)),
            ),
            (
                "lastFiftyHoursUptimePercentage",
                camera.map(|camera| camera.uptime).into(),
            ),
            (
                "vehicleGatewaySerial",
                text(camera.and_then(|camera| camera.gateway.as_deref())),
            ),
        ],
    )
}

fn prefixed<const COLUMNS: usize>(kind: &str, columns: [(&str, Value); COLUMNS]) -> Row {
    columns
        .into_iter()
        .map(|(name, value)| (format!("health_healthDetails_{kind}_{name}"), value))
        .collect()
}
